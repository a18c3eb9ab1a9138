"""Instrumentation manifests: given as .man files, or sent by EventSource providers in the trace.

Invariant: XML from a trace is hostile: no document types, no entities, bounded size; what cannot be
read gives no schema and a reason. Namespaces are ignored, as they vary between tools.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from ..errors import InputError
from . import payload
from .payload import IN_TYPES, Field, Schema

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_BYTES = 16 << 20

OUT_TYPES = {
    "PID": "pid", "TID": "tid", "Port": "port", "IPv4": "ipv4", "IPv6": "ipv6",
    "SocketAddress": "socketaddress", "NTSTATUS": "ntstatus", "Win32Error": "win32",
    "ErrorCode": "win32", "HResult": "hresult", "HexInt8": "hex", "HexInt16": "hex",
    "HexInt32": "hex", "HexInt64": "hex", "CodePointer": "hex", "Utf8": "utf8", "Xml": "xml",
    "Json": "json", "Boolean": "boolean",
}  # fmt: skip


class Provider(NamedTuple):
    """A provider of a manifest with its events by (id, version)."""

    name: str
    guid: str
    events: dict[tuple[int, int], Schema]


def _local(element: Element) -> str:
    return str(element.tag).rsplit("}", 1)[-1]


def _children(element: Iterable[Element], *names: str) -> list[Element]:
    return [child for child in element if _local(child) in names]


def _first(element: Element, name: str) -> Iterable[Element]:
    return next(iter(_children(element, name)), ())


def _int(text: str | None, default: int = 0) -> int:
    try:
        return int(text or "", 0)
    except ValueError:
        return default


def parse(xml: bytes, told_by: str, path: str = "manifest") -> list[Provider]:
    """The providers of a manifest; raises InputError when it is none."""
    from xml.etree import ElementTree

    if len(xml) > MAX_BYTES:
        raise InputError(path, f"the manifest is larger than {MAX_BYTES >> 20} MiB")
    flat = xml.replace(b"\0", b"")
    if b"<!DOCTYPE" in flat or b"<!ENTITY" in flat:
        raise InputError(path, "a manifest with a document type is not read")
    try:
        root = ElementTree.fromstring(xml)  # noqa: S314  no document type, no entities
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(path, f"not a manifest: {error}") from error
    strings = {
        f"$(string.{item.get('id')})": item.get("value") or ""
        for table in root.iter() if _local(table) == "stringTable"
        for item in _children(table, "string")
    }  # fmt: skip
    return [
        _provider(element, strings, told_by)
        for element in root.iter() if _local(element) == "provider" and element.get("guid")
    ]  # fmt: skip


def _provider(element: Element, strings: Mapping[str, str], told_by: str) -> Provider:
    def text(key: str | None) -> str:
        return strings.get(key or "", key if key and not key.startswith("$(") else "")

    maps = {
        entry.get("name") or "": (
            {
                _int(item.get("value")): text(item.get("message"))
                for item in _children(entry, "map")
            },
            _local(entry) == "bitMap",
        )
        for entry in _children(_first(element, "maps"), "valueMap", "bitMap")
    }
    templates = {
        entry.get("tid") or "": tuple(_fields(entry, maps))
        for entry in _children(_first(element, "templates"), "template")
    }
    name = element.get("name") or ""
    events: dict[tuple[int, int], Schema] = {}
    for event in _children(_first(element, "events"), "event"):
        task, opcode = event.get("task") or "", (event.get("opcode") or "").replace("win:", "")
        label = event.get("symbol") or "/".join(filter(None, (task, opcode)))
        key = (_int(event.get("value"), -1), _int(event.get("version")))
        events[key] = Schema(
            name, label or f"event {key[0]}", templates.get(event.get("template") or "", ()),
            text(event.get("message")), told_by, task, opcode,
        )  # fmt: skip
    return Provider(name, (element.get("guid") or "").strip("{} ").lower(), events)


def _fields(
    element: Element, maps: Mapping[str, tuple[dict[int, str], bool]], depth: int = 0
) -> list[Field]:
    out: list[Field] = []
    for child in _children(element, "data", "struct"):
        name = child.get("name") or f"field{len(out)}"
        count, length = _amount(child.get("count")), _amount(child.get("length"))
        if _local(child) == "struct":
            inner = tuple(_fields(child, maps, depth + 1)) if depth < 8 else ()
            out.append(Field(name, payload.STRUCT, "", count, None, fields=inner))
            continue
        kind = IN_TYPES.get((child.get("inType") or "").split(":")[-1], 0)
        shown = OUT_TYPES.get((child.get("outType") or "").split(":")[-1], "")
        mapping = maps.get(child.get("map") or "")
        out.append(
            Field(
                name, kind, shown, count, length if kind in (1, 2, 14) else None,
                mapping[0] if mapping else None, bool(mapping and mapping[1]),
            )
        )  # fmt: skip
    return out


def _amount(text: str | None) -> int | str | None:
    if not text:
        return None
    return _int(text) if text[:1].isdigit() else text


def load(path: str) -> list[Provider]:
    """The providers of a .man file."""
    try:
        with open(path, "rb") as file:
            xml = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(path, f"cannot be opened: {error}") from error
    return parse(xml, "manifest", path)


class Assembler:
    """Puts the chunks of in-stream manifests together.

    Each chunk: u8 format (1), u8 major, u8 minor, u8 0x5B, u16 chunks in all, u16 this one, XML.
    """

    def __init__(self) -> None:
        self._parts: dict[tuple[str, int, int], dict[int, bytes]] = {}
        self.providers: list[Provider] = []
        self.broken: list[str] = []

    def add(self, provider_id: str, process: int, data: bytes) -> None:
        """One event with id 0xFFFE."""
        if len(data) < 8 or data[0] != 1 or data[3] != 0x5B:
            return
        total, number = struct.unpack_from("<HH", data, 4)
        if number >= total:
            return
        key = (provider_id, process, total)
        parts = self._parts.setdefault(key, {})
        parts[number] = data[8:]
        if len(parts) < total or sum(map(len, parts.values())) > MAX_BYTES:
            return
        del self._parts[key]
        xml = b"".join(parts[k] for k in range(total)).rstrip(b"\0")
        try:
            self.providers += parse(xml, "EventSource manifest", provider_id)
        except InputError as error:
            self.broken.append(str(error))

    @property
    def unfinished(self) -> list[str]:
        """Providers whose manifest lacks chunks."""
        return sorted({key[0] for key in self._parts})
