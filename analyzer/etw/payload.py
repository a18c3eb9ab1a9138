"""User data of an event, decoded by a schema, whatever told the schema.

Invariant: decoding never reads behind the payload and never raises; a field the payload is too
short for is missing, and the decoded value says which one and how many bytes were left over. The
numbers of the kinds are TDH's in-types (tdh.h), which TraceLogging shares.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple, Union

from ..layouts import guids
from ..names import ntstatus
from ..records import filetime_to_ns
from .reader import Reader, ShortError

UNICODE, ANSI, INT8, UINT8, INT16, UINT16, INT32, UINT32, INT64, UINT64 = range(1, 11)
FLOAT, DOUBLE, BOOLEAN, BINARY, GUID, POINTER, FILETIME, SYSTEMTIME, SID = range(11, 20)
HEX32, HEX64, COUNTED_UNICODE, COUNTED_ANSI, STRUCT, COUNTED_BINARY = range(20, 26)
REVERSED_UNICODE, REVERSED_ANSI, REST_UNICODE, REST_ANSI = 302, 303, 304, 305
UNICODE_CHAR, ANSI_CHAR, SIZE_T, HEX_DUMP, WBEM_SID = 306, 307, 308, 309, 310
#: the kinds as manifests spell them
IN_TYPES = {
    "UnicodeString": 1, "AnsiString": 2, "Int8": 3, "UInt8": 4, "Int16": 5, "UInt16": 6,
    "Int32": 7, "UInt32": 8, "Int64": 9, "UInt64": 10, "Float": 11, "Double": 12, "Boolean": 13,
    "Binary": 14, "GUID": 15, "Pointer": 16, "FILETIME": 17, "SYSTEMTIME": 18, "SID": 19,
    "HexInt32": 20, "HexInt64": 21, "CountedUnicodeString": 22, "CountedAnsiString": 23,
    "CountedBinary": 25,
}  # fmt: skip
BOOLEAN8 = 1000  #: ours: a BOOLEAN of one byte (MOF structures)
_ALIAS = {300: COUNTED_UNICODE, 301: COUNTED_ANSI}

#: length or count told by the data itself (a leading u16)
IN_DATA = "*"

_FIXED: dict[int, str] = {
    INT8: "b", UINT8: "B", INT16: "h", UINT16: "H", INT32: "i", UINT32: "I", INT64: "q",
    UINT64: "Q", FLOAT: "f", DOUBLE: "d", BOOLEAN: "I", GUID: "16s", FILETIME: "Q",
    SYSTEMTIME: "16s", HEX32: "I", HEX64: "Q", UNICODE_CHAR: "H", ANSI_CHAR: "B", BOOLEAN8: "B",
}  # fmt: skip
#: what a field can hold
Value = Union[int, float, str, bytes, list["Value"], dict[str, "Value"]]
#: from what struct gives; a value of the field's kind in words
Convert = Callable[[Any], Value]
Show = Callable[[Any], str]
#: kinds whose number means something else
_CONVERTED: dict[int, Convert] = {
    GUID: guids.text_of, BOOLEAN: bool, BOOLEAN8: bool,
    SYSTEMTIME: lambda raw: _systemtime(raw),  # noqa: PLW0108 - defined below
    UNICODE_CHAR: chr, ANSI_CHAR: chr,
}  # fmt: skip
_MAX_ELEMENTS = 4096


class Field(NamedTuple):
    """One field; ``count`` and ``length``: a number, the name of an earlier field, or IN_DATA."""

    name: str
    kind: int
    out: str = ""  #: ntstatus, win32, hresult, hex, pid, tid, port, ipv4, ipv6, utf8, ...
    count: int | str | None = None  # type: ignore[assignment]  # None: a single value
    length: int | str | None = None
    names: Mapping[int, str] | None = None  #: value or bit -> name
    is_bits: bool = False
    fields: tuple[Field, ...] = ()


class Schema(NamedTuple):
    """What an event means: names, and the fields of its payload."""

    provider: str
    name: str
    fields: tuple[Field, ...]
    message: str = ""  #: with %1, %2, ... for the fields
    told_by: str = ""  #: TraceLogging, embedded schema, EventSource manifest, manifest, built in
    task: str = ""
    opcode: str = ""


class Decoded(NamedTuple):
    """The fields of one payload."""

    schema: Schema
    values: dict[str, Value]
    missing: str  #: first field the payload is too short for, "" when none
    left: int  #: bytes behind the last field

    def text(self) -> str:
        """The message with its values filled in, or "name=value" pairs."""
        values, labels = self.values, plan_of(self.schema, 8).show
        if self.schema.message and not self.missing:
            return fill(self.schema.message, [f(values[n]) for n, f in labels if n in values])
        pairs = [f"{name}={shown(values[name])}" for name, shown in labels if name in values]
        if self.missing:
            pairs.append(f"(payload too short for {self.missing})")
        elif self.left:
            pairs.append(f"(+{self.left} bytes)")
        return ", ".join(pairs)


class Plan(NamedTuple):
    """A schema made ready: its leading fields of fixed size, the rest, and how to show them."""

    schema: Schema  #: kept alive, because plans are found by its identity
    fixed: tuple[tuple[str, str, Convert | None], ...]  #: name, struct code, converter
    size: int  #: bytes of those
    rest: tuple[Field, ...]
    show: tuple[tuple[str, Show], ...]


_PLANS: dict[tuple[int, int], Plan] = {}
_PLAIN = set(_FIXED) - set(_CONVERTED)
_SIGNED = {INT8, INT16, INT32, INT64, FLOAT, DOUBLE}


def plan_of(schema: Schema, pointer: int) -> Plan:
    """The plan of a schema; equal schemas of a trace are one object."""
    found = _PLANS.get((id(schema), pointer))
    if found is not None and found.schema is schema:
        return found
    if len(_PLANS) > 4096:
        _PLANS.clear()
    fixed: list[tuple[str, str, Convert | None]] = []
    for field in schema.fields:
        code = _FIXED.get(field.kind)
        if field.kind in (POINTER, SIZE_T):
            code = "I" if pointer == 4 else "Q"
        if field.count is not None or code is None:
            break
        fixed.append((field.name, code, _CONVERTED.get(field.kind)))
    size = struct.calcsize("<" + "".join(code for _, code, _ in fixed))
    show = tuple((field.name, _shower(field)) for field in schema.fields)
    plan = Plan(schema, tuple(fixed), size, schema.fields[len(fixed) :], show)
    _PLANS[id(schema), pointer] = plan
    return plan


def _shower(field: Field) -> Show:
    """How to show values of a field, decided once."""
    if field.count is None and field.names is None:
        if field.kind in (UNICODE, ANSI, GUID, SID, COUNTED_UNICODE, COUNTED_ANSI, WBEM_SID):
            return str
        if field.kind in (HEX32, HEX64, POINTER) or (field.out == "hex" and field.kind in _PLAIN):
            return _signed_in_hex if field.kind in _SIGNED else in_hex
        if field.kind in _PLAIN and field.kind != FILETIME and not field.out:
            return str
    if field.count is None and field.kind in _PLAIN:
        return _Shown(field).__getitem__
    return lambda value: show(field, value)


def in_hex(value: int) -> str:
    """A number that is not negative."""
    return f"{value:#x}"


def _signed_in_hex(value: int) -> str:
    return f"{value & 0xFFFFFFFFFFFFFFFF:#x}"


def is_string(field: Field) -> bool:
    """True for one string that ends at its NUL."""
    return field.kind in (UNICODE, ANSI) and field.count is None and field.length is None


def encoding_of(field: Field) -> str:
    """That of a string of bytes."""
    return "utf-8" if field.out in ("utf8", "xml", "json") else "cp1252"


class _Shown(dict[float, str]):
    """Numbers in words, each made once: the same few statuses come again and again."""

    def __init__(self, field: Field) -> None:
        self._field = field

    def __missing__(self, value: float) -> str:
        if len(self) >= 4096:
            self.clear()
        text = self[value] = show(self._field, value)
        return text


def decode(schema: Schema, data: bytes, pointer: int = 8) -> Decoded:
    """The payload by its schema."""
    reader, values = Reader(data, pointer), dict[str, Value]()
    missing = take(reader, schema.fields, values)
    return Decoded(schema, values, missing, max(len(data) - reader.at, 0))


def take(reader: Reader, fields: Sequence[Field], values: dict[str, Value]) -> str:
    """Adds the values of the next fields; the first one the payload is too short for, or ""."""
    for field in fields:
        try:
            values[field.name] = _field(reader, field, values)
        except ShortError:
            return field.name
    return ""


def whole(values: Mapping[str, Value], name: str) -> int | None:
    """A field that is a number; None for any other value, whatever its schema calls it."""
    value = values.get(name)
    return value if isinstance(value, int) else None


def _amount(reader: Reader, given: int | str | None, values: Mapping[str, Value]) -> int | None:
    if given == IN_DATA:
        return reader.number("H")
    if isinstance(given, str):
        given = whole(values, given)
        if given is None:
            raise ShortError
    return given


def _field(reader: Reader, field: Field, values: Mapping[str, Value]) -> Value:
    count = _amount(reader, field.count, values)
    if count is None:
        return _value(reader, field, values)
    if count < 0 or count > 0xFFFF:
        raise ShortError
    if field.kind in (UINT8, INT8, ANSI_CHAR) and not field.fields:
        return reader.take(count)
    out: list[Value] = []
    for _ in range(count):
        before = reader.at
        value = _value(reader, field, values)
        if len(out) < _MAX_ELEMENTS:
            out.append(value)
        if reader.at == before and count > _MAX_ELEMENTS:
            raise ShortError  # elements without bytes: only a lie counts thousands of them
    return out


def _value(reader: Reader, field: Field, values: Mapping[str, Value]) -> Value:
    kind = _ALIAS.get(field.kind, field.kind)
    code = _FIXED.get(kind)
    if code is not None:
        value: Value = reader.value(code)
        convert = _CONVERTED.get(kind)
        return value if convert is None else convert(value)
    if kind in (POINTER, SIZE_T):
        return reader.number("I" if reader.pointer == 4 else "Q")
    encoding = encoding_of(field)
    if kind in (UNICODE, ANSI):
        units = _amount(reader, field.length, values)
        return reader.text(kind == UNICODE, units, encoding)
    if kind in (COUNTED_UNICODE, COUNTED_ANSI, REVERSED_UNICODE, REVERSED_ANSI):
        size = reader.number("H")
        if kind >= 300:
            size = (size & 0xFF) << 8 | size >> 8
        raw = reader.take(size)
        wide = kind in (COUNTED_UNICODE, REVERSED_UNICODE)
        return raw.decode("utf-16-le" if wide else encoding, "replace")
    if kind in (REST_UNICODE, REST_ANSI):
        raw = reader.take(len(reader.data) - reader.at)
        return raw.decode("utf-16-le" if kind == REST_UNICODE else encoding, "replace")
    if kind == COUNTED_BINARY:
        return reader.take(reader.number("H"))
    if kind == HEX_DUMP:
        return reader.take(reader.number("I"))
    if kind == BINARY:
        length = _amount(reader, field.length, values)
        return reader.take(len(reader.data) - reader.at if length is None else length)
    if kind == SID:
        return _sid(reader)
    if kind == WBEM_SID:
        # A TOKEN_USER, then the SID; without a SID there is one null pointer. The pointer alone
        # does not tell: writers other than the kernel leave it 0 and still append the SID.
        after = reader.at + reader.pointer * 2
        head = reader.data[after : after + 7]
        if len(head) == 7 and head[0] == 1 and head[1] <= 15 and not any(head[2:6]):
            reader.at = after
            return _sid(reader)
        reader.take(reader.pointer)
        return ""
    if kind == STRUCT:
        inner: dict[str, Value] = {}
        for part in field.fields:
            inner[part.name] = _field(reader, part, {**values, **inner})
        return inner
    raise ShortError


def _sid(reader: Reader) -> str:
    head = reader.take(8)
    count = head[1]
    if count > 15:
        raise ShortError
    parts = struct.unpack(f"<{count}I", reader.take(4 * count))
    authority = int.from_bytes(head[2:8], "big")
    return "-".join(["S", str(head[0]), str(authority), *map(str, parts)])


def _systemtime(raw: bytes) -> str:
    y, mo, _, d, h, mi, s, ms = struct.unpack("<8H", raw)
    return f"{y:04}-{mo:02}-{d:02}T{h:02}:{mi:02}:{s:02}.{ms:03}"


# -- showing ----------------------------------------------------------------------------------


def show(field: Field, value: Value) -> str:
    """One value in words, by its field's output type."""
    if isinstance(value, list):
        return (
            "["
            + ", ".join(show(field, item) for item in value[:64])
            + (", ...]" if len(value) > 64 else "]")
        )
    if isinstance(value, dict):
        inner = {part.name: part for part in field.fields}
        return "{" + ", ".join(f"{k}={show(inner[k], v)}" for k, v in value.items()) + "}"
    if isinstance(value, bytes):
        return _bytes(field, value)
    if isinstance(value, bool) or not isinstance(value, int):
        return str(value)
    return _number(field, value)


def _bytes(field: Field, value: bytes) -> str:
    if field.out == "ipv6" and len(value) == 16:
        from ipaddress import IPv6Address

        return str(IPv6Address(value))
    return value[:64].hex() + ("..." if len(value) > 64 else "")


def _number(field: Field, value: int) -> str:
    if field.names:
        if not field.is_bits:
            return field.names.get(value, str(value))
        names = [text for bit, text in field.names.items() if bit and value & bit == bit]
        return " | ".join(names) or f"{value:#x}"
    out, kind = field.out, field.kind
    if out == "ntstatus":
        return ntstatus.name(value)
    if out in ("win32", "hresult", "hex") or kind in (HEX32, HEX64, POINTER):
        return f"{value & 0xFFFFFFFFFFFFFFFF:#x}"
    if out == "ipv4":
        return ".".join(map(str, (value & 0xFFFFFFFF).to_bytes(4, "little")))
    if out == "port":
        return str((value & 0xFF) << 8 | value >> 8 & 0xFF)
    if kind == FILETIME or out == "filetime":
        ns = filetime_to_ns(value)
        if isinstance(ns, int):
            from datetime import datetime, timedelta, timezone

            when = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=ns // 1000)
            return f"{when:%Y-%m-%dT%H:%M:%S}.{ns % 1_000_000_000 // 100:07d}Z"
        return f"{value:#x}"
    return str(value)


def fill(message: str, values: list[str]) -> str:
    """A message table text with its inserts: %1, %2!s!, %n, %%."""
    out, at = [], 0
    while at < len(message):
        mark = message.find("%", at)
        if mark < 0 or mark + 1 >= len(message):
            out.append(message[at:])
            break
        out.append(message[at:mark])
        at = mark + 1
        char = message[at]
        if char.isdigit() and char.isascii():
            end = at
            while end < len(message) and end < at + 2 and message[end] in "0123456789":
                end += 1
            number = int(message[at:end])
            at = end
            if at < len(message) and message[at] == "!":
                close = message.find("!", at + 1)
                at = close + 1 if close > 0 else at
            if number == 0:
                continue
            out.append(values[number - 1] if number <= len(values) else f"%{number}")
        else:
            out.append({"n": " ", "t": " ", "r": " ", "b": " "}.get(char, char))
            at += 1
    return " ".join("".join(out).split())
