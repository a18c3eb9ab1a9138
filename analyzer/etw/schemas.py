"""Schemas that a merged trace carries: TRACE_EVENT_INFO and EVENT_MAP_INFO blobs (tdh.h).

Invariant: offsets inside a blob are followed only inside it; a damaged blob gives no schema.
``xperf -merge``, ``wpr`` and PerfView write one classic event per schema under the GUID below.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ..layouts import guids
from .payload import Field, Schema

GUID = "bbccf6c1-6cd1-48c4-80ff-839482e37671"
OPCODE_EVENT, OPCODE_MAP = 0x20, 0x21

#: TDH out-types that change how a value is shown
OUT = {
    13: "boolean", 16: "hex", 17: "hex", 18: "hex", 19: "hex", 20: "pid", 21: "tid", 22: "port",
    23: "ipv4", 24: "ipv6", 25: "socketaddress", 28: "xml", 29: "win32", 30: "win32",
    31: "ntstatus", 32: "hresult", 34: "json", 35: "utf8", 37: "hex",
}  # fmt: skip
_STRUCT, _LENGTH, _COUNT, _FIXED_COUNT = 0x1, 0x2, 0x4, 0x20
_PROPERTY = struct.Struct("<IIHHIHHI")

Maps = dict[tuple[str, str], tuple[dict[int, str], bool]]


class Embedded(NamedTuple):
    """One embedded schema: its key and the schema."""

    provider_id: str
    event_guid: str
    id: int
    version: int
    opcode: int
    classic: bool
    schema: Schema
    map_names: tuple[str, ...]


def _string(blob: bytes, at: int) -> str:
    if not 0 < at < len(blob):
        return ""
    end = at
    while end + 1 < len(blob) and blob[end : end + 2] != b"\0\0":
        end += 2
    return blob[at:end].decode("utf-16-le", "replace").strip()


def _guid(blob: bytes, at: int) -> str:
    return guids.text_of(blob[at : at + 16])


def parse_map(blob: bytes) -> tuple[str, str, dict[int, str], bool] | None:
    """(provider id, map name, value -> text, is a bit map) of an opcode 0x21 event."""
    if len(blob) < 32:
        return None
    provider, body = _guid(blob, 0), blob[16:]
    name_at, flag, count, _ = struct.unpack_from("<4I", body)
    names: dict[int, str] = {}
    for k in range(min(count, (len(body) - 16) // 8)):
        text_at, value = struct.unpack_from("<II", body, 16 + 8 * k)
        names[value] = _string(body, text_at)
    return provider, _string(body, name_at), names, bool(flag & 0x2)


def parse_event(blob: bytes, maps: Maps) -> Embedded | None:
    """The schema in an opcode 0x20 event."""
    if len(blob) < 0x70:
        return None
    provider, event_guid = _guid(blob, 0), _guid(blob, 16)
    number, version, _, _, opcode, _ = struct.unpack_from("<HBBBBH", blob, 0x20)
    source = struct.unpack_from("<I", blob, 0x30)[0]
    at = struct.unpack_from("<12I", blob, 0x34)
    count, top = struct.unpack_from("<II", blob, 0x64)
    if count > (len(blob) - 0x70) // _PROPERTY.size or top > count:
        return None
    properties = [_PROPERTY.unpack_from(blob, 0x70 + 24 * k) for k in range(count)]
    names = [_string(blob, p[1]) or f"field{k}" for k, p in enumerate(properties)]
    used: list[str] = []

    def amount(flags: int, bit: int, value: int, default: int) -> int | str | None:
        if flags & bit:
            return names[value] if value < count else None
        return value if value != default else None

    def build(k: int, depth: int) -> Field:
        flags, _, one, two, three, many, length, _ = properties[k]
        times = amount(flags, _COUNT, many, 1)
        if times is None and flags & _FIXED_COUNT:
            times = many
        if flags & _STRUCT:
            stop = min(one + two, count) if depth < 8 else one
            inner = tuple(build(j, depth + 1) for j in range(one, stop) if j != k)
            return Field(names[k], 24, "", times, None, fields=inner)
        label = _string(blob, three)
        mapping = maps.get((provider, label)) if label else None
        if label:
            used.append(label)
        size = amount(flags, _LENGTH, length, 0) if one in (1, 2, 14) else None
        return Field(
            names[k], one, OUT.get(two, ""), times, size,
            mapping[0] if mapping else None, bool(mapping and mapping[1]),
        )  # fmt: skip

    fields = tuple(build(k, 0) for k in range(top))
    task_text, opcode_text = _string(blob, at[4]), _string(blob, at[5])
    classic = source == 1
    name = "/".join(filter(None, (task_text, opcode_text))) or f"event {number}"
    message = _string(blob, at[6])
    schema = Schema(
        _string(blob, at[0]), name, fields, message, "embedded schema", task_text, opcode_text
    )
    return Embedded(provider, event_guid, number, version, opcode, classic, schema, tuple(used))
