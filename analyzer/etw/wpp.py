"""WPP messages in words, through the TMF files of their provider.

Invariant: nothing in a message describes its arguments; without its TMF a message keeps its number
and its bytes. The key is (message GUID, message number), where the GUID names a source file.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from ..errors import InputError
from . import payload
from .payload import Decoded, Field, Schema, Value

MAX_BYTES = 64 << 20

#: TMF item -> (kind, how to show it); item names as tracewpp writes them
ITEMS: dict[str, tuple[int, str]] = {
    "ItemChar": (payload.INT8, ""), "ItemUChar": (payload.UINT8, ""),
    "ItemCharShort": (payload.INT8, ""), "ItemCharSign": (payload.INT8, ""),
    "ItemShort": (payload.INT16, ""), "ItemUShort": (payload.UINT16, ""),
    "ItemLong": (payload.INT32, ""), "ItemULong": (payload.UINT32, ""),
    "ItemULongX": (payload.UINT32, "hex"), "ItemLongLong": (payload.INT64, ""),
    "ItemULongLong": (payload.UINT64, ""), "ItemLongLongX": (payload.UINT64, "hex"),
    "ItemULongLongX": (payload.UINT64, "hex"), "ItemLongLongXX": (payload.UINT64, "hex"),
    "ItemLongLongO": (payload.UINT64, ""), "ItemPtr": (payload.POINTER, "hex"),
    "ItemDouble": (payload.DOUBLE, ""), "ItemString": (payload.ANSI, ""),
    "ItemWString": (payload.UNICODE, ""), "ItemRString": (payload.ANSI, ""),
    "ItemRWString": (payload.UNICODE, ""), "ItemPString": (payload.COUNTED_ANSI, ""),
    "ItemPWString": (payload.COUNTED_UNICODE, ""), "ItemMLString": (payload.ANSI, ""),
    "ItemGuid": (payload.GUID, ""), "ItemCLSID": (payload.GUID, ""), "ItemIID": (payload.GUID, ""),
    "ItemLIBID": (payload.GUID, ""), "ItemNTSTATUS": (payload.UINT32, "ntstatus"),
    "ItemNTerror": (payload.UINT32, "ntstatus"), "ItemWINERROR": (payload.UINT32, "win32"),
    "ItemHRESULT": (payload.UINT32, "hresult"), "ItemHRes": (payload.UINT32, "hresult"),
    "ItemTimestamp": (payload.FILETIME, ""), "ItemTimeDelta": (payload.INT64, ""),
    "ItemWaitTime": (payload.INT64, ""), "ItemSid": (payload.SID, ""),
    "ItemIPAddr": (payload.UINT32, "ipv4"), "ItemPort": (payload.UINT16, "port"),
    "ItemHexDump": (payload.COUNTED_BINARY, ""), "ItemChar4": (payload.UINT32, "hex"),
    "ItemBool": (payload.UINT8, ""), "ItemBOOLEAN": (payload.UINT8, ""),
}  # fmt: skip
_LISTS = {
    "ItemListByte": payload.UINT8, "ItemListShort": payload.UINT16,
    "ItemListLong": payload.UINT32, "ItemSetByte": payload.UINT8, "ItemSetShort": payload.UINT16,
    "ItemSetLong": payload.UINT32, "ItemEnum": payload.UINT32, "ItemFlagsEnum": payload.UINT32,
}  # fmt: skip

_HEAD = re.compile(r"^([0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12})\s+(\S+)(.*)$")
_TYPEV = re.compile(r'^#typev?\s+(\S+)\s+(\d+)\s+"((?:[^"\\]|\\.|"(?!\s*(?://|$)))*)"\s*(.*)$')
_ARGUMENT = re.compile(r"^\s*(.*?),\s*(Item\w+)(?:\(([^)]*)\))?\s*--\s*(\d+)\s*$")
_INSERT = re.compile(r"%(\d+)!([^!]*)!|%!(\w+)!|%(\d+)|%%|%(n)")
_MARK = re.compile(r"(LEVEL|FLAGS|FUNC|COMPNAME|SUBCOMP)=(\S+)")


class Message(NamedTuple):
    """One format of a TMF file."""

    provider: str
    name: str
    format: str
    fields: tuple[Field, ...]  #: named by their number in the format
    marks: dict[str, str]  #: LEVEL, FLAGS, FUNC as the TMF tells

    def schema(self) -> Schema:
        """The arguments as a schema."""
        return Schema(self.provider, self.name, self.fields, told_by="TMF")

    def decode(self, data: bytes, pointer: int) -> tuple[Decoded, str]:
        """The arguments, and the message with them filled in."""
        decoded = payload.decode(self.schema(), data, pointer)
        shown = {f.name: f for f in self.fields}

        def insert(match: re.Match[str]) -> str:
            number, spec, word, bare, newline = match.groups()
            if newline:
                return " "
            if word:
                return self.marks.get(word, "")
            number = number or bare
            if number is None:
                return "%"
            if number == "0":
                return ""
            field = shown.get(number)
            if field is None or number not in decoded.values:
                return f"<{number}?>"
            return _printf(spec or "", payload.show(field, decoded.values[number]),
                           decoded.values[number])  # fmt: skip

        return decoded, " ".join(_INSERT.sub(insert, self.format).split())


def _printf(spec: str, shown: str, value: Value) -> str:
    match = re.match(r"^([-+0 #]*)(\d{0,3})(?:\.\d+)?(?:I64|ll|l|h|I)?([xXduiop])$", spec)
    if match is None or isinstance(value, bool) or not isinstance(value, int):
        return shown
    flags, width, letter = match.groups()
    if letter in "xXp":
        text = f"{value & 0xFFFFFFFFFFFFFFFF:{'X' if letter == 'X' else 'x'}}"
    elif letter == "o":
        text = f"{value & 0xFFFFFFFFFFFFFFFF:o}"
    else:
        text = str(value) if shown.startswith("0x") else shown
    text = text.zfill(int(width or 0)) if "0" in flags else text.rjust(int(width or 0))
    return "0x" + text if letter == "p" or ("#" in flags and letter in "xX") else text


def parse(text: str) -> dict[tuple[str, int], Message]:
    """The messages of a TMF text by (GUID, number)."""
    messages: dict[tuple[str, int], Message] = {}
    guid = provider = ""
    pending: tuple[str, ...] | None = None
    fields: list[Field] = []
    for line in text.splitlines():
        stripped = line.strip()
        head = _HEAD.match(stripped)
        if head:
            guid, provider = head.group(1).lower(), head.group(2)
            continue
        kind = _TYPEV.match(stripped)
        if kind and guid:
            if pending:
                _keep(messages, guid, provider, pending, fields)
            pending, fields = kind.groups(), []
            continue
        if stripped == "}" and pending:
            _keep(messages, guid, provider, pending, fields)
            pending, fields = None, []
            continue
        argument = _ARGUMENT.match(line)
        if argument and pending:
            fields.append(_argument(*argument.groups()))
    if pending:
        _keep(messages, guid, provider, pending, fields)
    return messages


def _argument(_label: str, item: str, inner: str | None, number: str) -> Field:
    if item in _LISTS:
        names: dict[int, str] = {}
        bits = "Set" in item or "Flags" in item
        for k, part in enumerate(filter(None, (p.strip() for p in (inner or "").split(",")))):
            text, _, value = part.partition("=")
            number_of = int(value, 0) if re.match(r"^\s*(0x)?[0-9a-fA-F]+\s*$", value) else k
            names[1 << number_of if bits and not value else number_of] = text.strip()
        return Field(number, _LISTS[item], "", names=names, is_bits=bits)
    kind, out = ITEMS.get(item, (0, ""))
    return Field(number, kind, out)


def _keep(
    messages: dict[tuple[str, int], Message], guid: str, provider: str, pending: tuple[str, ...],
    fields: list[Field],
) -> None:  # fmt: skip
    name, number, form, rest = pending
    # Arguments follow each other in the order of their numbers, whatever order the file lists.
    ordered = tuple(sorted(fields, key=lambda field: int(field.name)))
    marks = dict(_MARK.findall(rest))
    messages[guid, int(number)] = Message(provider, name, form, ordered, marks)


def load(path: str) -> dict[tuple[str, int], Message]:
    """The messages of a .tmf file, or of all of a folder."""
    if os.path.isdir(path):
        out: dict[tuple[str, int], Message] = {}
        for name in sorted(os.listdir(path)):
            if name.lower().endswith(".tmf"):
                out.update(load(os.path.join(path, name)))
        return out
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES)
    except OSError as error:
        raise InputError(path, f"cannot be opened: {error}") from error
    text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", "replace")
    messages = parse(text)
    if not messages:
        raise InputError(path, "no trace message format in this file")
    return messages
