"""Events as blocks of lines: wevtutil's text, Event Viewer's copied text and friendly view, lists.

Invariant: the blocks of Windows' own tools are read by the order of their lines, because their
labels are in the language of the machine; PowerShell's lists by their names, which are not. A
block with its XML is read from the XML. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..windows_events import RawEvent
from . import event_log_xml
from .event_log_named import from_fields, from_properties, looks_like_time
from .event_log_table import lines_of

#: more of a description or of one event's XML is left out; Windows limits an event to 64 KB
LARGEST = 1 << 20
_PAIR = re.compile(r"\s*([^:\uff1a]{1,60}?)\s*[:\uff1a]\s*(.*)")

# -- wevtutil qe /f:text -------------------------------------------------------------------------

_NUMBERED = re.compile(r"\S[^\[\]:]{0,60}\[\d+\]\s*:?\s*")
#: the order of its lines
_LOG, _SOURCE, _DATE, _ID, _TASK, _LEVEL = range(6)
_W_DESCRIPTION, _COPIED_DESCRIPTION = 11, 9


def is_wevtutil(text: str) -> bool:
    """True for text that ``wevtutil qe /f:text`` printed."""
    lines = text.split("\n")[:50]
    for number, line in enumerate(lines):
        if _NUMBERED.fullmatch(line.rstrip()):
            pairs = [_PAIR.fullmatch(one.rstrip()) for one in lines[number + 1 : number + 5]]
            return len(pairs) == 4 and all(pairs) and (pairs[_ID] or [""] * 3)[2].isdigit()
    return False


def wevtutil(file: Any) -> Iterator[RawEvent | None]:
    """The events of ``wevtutil qe /f:text``."""
    fields: list[str] = []
    message: list[str] = []
    is_begun = False
    for line in _lines(file):
        if _NUMBERED.fullmatch(line):
            if is_begun:
                yield _of_fields(fields, message)
            fields, message, is_begun = [], [], True
        elif is_begun and len(fields) <= _W_DESCRIPTION:
            pair = _PAIR.fullmatch(line)
            if pair:
                fields.append(pair[2].strip())
            elif line and len(fields) > _LEVEL:  # older versions have fewer lines
                message.append(line)
        elif is_begun and sum(map(len, message)) < LARGEST:
            message.append(line)
    if is_begun:
        yield _of_fields(fields, message)


def _of_fields(fields: list[str], message: list[str]) -> RawEvent | None:
    if len(fields) <= _LEVEL:
        return None
    words = " ".join(line.strip() for line in [*fields[_W_DESCRIPTION:], *message] if line.strip())
    return from_fields(
        fields[_SOURCE], fields[_ID], fields[_DATE], fields[_LEVEL], words, fields[_LOG]
    )


# -- Event Viewer's "Copy details as text" -------------------------------------------------------


def is_copied(text: str) -> bool:
    """True for the text that Event Viewer copies."""
    held: list[str] = []
    for line in text.split("\n")[:200]:
        held = [*held[-3:], line.rstrip()]
        if _is_head(held):
            return True
    return False


def _is_head(lines: list[str]) -> bool:
    """The first four lines of a block: log, source, date, event id."""
    if len(lines) < 4 or any(not line or line[0].isspace() for line in lines):
        return False
    pairs = [_PAIR.fullmatch(line) for line in lines]
    if not all(pairs):
        return False
    values = [pair[2] for pair in pairs if pair]
    is_whole = bool(values[_LOG] and values[_SOURCE])
    return is_whole and values[_ID].isdigit() and looks_like_time(values[_DATE])


def copied(file: Any) -> Iterator[RawEvent | None]:
    """The events of "Copy details as text", with or without their XML."""
    held: list[str] = []  # lines that may be the head of a block
    block: list[str] = []
    size = 0
    for line in _lines(file):
        held.append(line)
        if len(held) > 4:
            oldest = held.pop(0)
            if block and size < LARGEST:
                block.append(oldest)
                size += len(oldest) + 1
        if _is_head(held):
            if block:
                yield _of_block(block)
            block, size = held, 0
            held = []
    if block:
        yield _of_block([*block, *held])


def _of_block(lines: list[str]) -> RawEvent | None:
    text = "\n".join(lines)
    begin = text.find("<Event ")
    if begin >= 0:
        event = event_log_xml.parse(text[begin:], None)
        if event is not None:
            return event
    pairs = [_PAIR.fullmatch(line) for line in lines[:_COPIED_DESCRIPTION]]
    values = [pair[2].strip() if pair else "" for pair in pairs]
    if len(values) <= _LEVEL:
        return None
    words = [line.strip() for line in lines[_COPIED_DESCRIPTION:]]
    if begin >= 0:  # its XML is damaged; the label before it is not part of the description
        end = next((n for n, line in enumerate(words) if line.startswith("<Event ")), len(words))
        words = words[: end - 1]
    label = _PAIR.fullmatch(words[0]) if words else None
    words = ([label[2]] if label else []) + words[1:]
    return from_fields(
        values[_SOURCE], values[_ID], values[_DATE], values[_LEVEL],
        " ".join(filter(None, words)), values[_LOG],
    )  # fmt: skip


# -- PowerShell's Format-List ----------------------------------------------------------------------

_PROPERTY = re.compile(r"([A-Za-z]\w{0,40})\s*:(?: (.*))?")


def is_list(text: str) -> bool:
    """True for what Get-WinEvent or Get-EventLog shows as a list."""
    pairs = [_PROPERTY.fullmatch(line.rstrip()) for line in text.split("\n")[:200]]
    names = {pair[1].lower() for pair in pairs if pair}
    return {"id", "providername"} <= names or {"eventid", "source", "timegenerated"} <= names


def properties(file: Any) -> Iterator[RawEvent | None]:
    """The events of a list; a value goes on in lines that are indented."""
    values: dict[str, Any] = {}
    last = ""
    for line in _lines(file):
        pair = _PROPERTY.fullmatch(line)
        if pair:
            last = pair[1].lower()
            if last in values:
                yield from_properties(values)
                values = {}
            values[last] = (pair[2] or "").strip()
        elif line and last and line[0].isspace() and len(values[last]) < LARGEST:
            values[last] = f"{values[last]} {line.strip()}".strip()
    if values:
        yield from_properties(values)


# -- Event Viewer's friendly view ----------------------------------------------------------------

_SYSTEM = re.compile(r"[+-]\s*System")
_DATA = re.compile(r"[+-]\s*(EventData|UserData)")
_ATTRIBUTE = re.compile(r"\[\s*(\w+)\s*\]\s+(.*)")
_ELEMENT = re.compile(r"(?:[+-]\s*)?(\w+)(?:\s+(.*))?")
_HEX_LINE = re.compile(r"[0-9A-Fa-f]{4}: ((?:[0-9A-Fa-f]{2} ?){1,8})(?:\s.*)?")


def is_friendly(text: str) -> bool:
    """True for the friendly view of an event, copied out of its details."""
    lines = [line.strip() for line in text.split("\n")[:60]]
    is_headed = any(_SYSTEM.fullmatch(line) for line in lines)
    return is_headed and any(_ATTRIBUTE.fullmatch(line) for line in lines)


def friendly(file: Any) -> Iterator[RawEvent | None]:
    """The events of friendly views, one after the other."""
    view: _View | None = None
    for line in _lines(file):
        text = line.strip()
        if _SYSTEM.fullmatch(text):
            if view is not None:
                yield view.event()
            view = _View()
        elif view is not None and text:
            view.take(text)
    if view is not None:
        yield view.event()


class _View:
    """One friendly view, line by line."""

    def __init__(self) -> None:
        self._fields: dict[str, str] = {}
        self._lines: list[str] = []
        self._binary = b""
        self._part = "system"

    def take(self, text: str) -> None:
        """One line without its indent."""
        if _DATA.fullmatch(text):
            self._part = "data"
        elif text.startswith("-----"):
            self._part = "after"
        elif self._part == "system":
            attribute = _ATTRIBUTE.fullmatch(text)
            element = attribute or _ELEMENT.fullmatch(text)
            if element:
                self._fields.setdefault(element[1].lower(), (element[2] or "").strip())
        elif self._part == "data" and len(self._lines) < 256:
            self._lines.append(text[:LARGEST])
        elif self._part == "after" and len(self._binary) < LARGEST:
            row = _HEX_LINE.fullmatch(text)
            if row:
                self._binary += bytes.fromhex(row[1])

    def event(self) -> RawEvent | None:
        """The event; None when provider or id is missing."""
        fields = self._fields
        names = {
            "name": "providername", "guid": "providerid", "eventid": "id", "channel": "logname",
            "systemtime": "timecreated",
        }  # fmt: skip
        event = from_properties({names.get(name, name): text for name, text in fields.items()})
        if event is None:
            return None
        binary = self._binary or None
        data = list(self._data(event))
        if data and binary and data[-1][1].upper() == binary.hex().upper():
            data.pop()  # the view shows the binary data among the others too
        return event._replace(data=data, binary=binary)

    def _data(self, event: RawEvent) -> Iterator[tuple[str, str]]:
        """Names stand before the values of events that have a manifest."""
        is_named = bool(event.guid) or bool(event.known and event.known.fields)
        for line in self._lines:
            match = re.fullmatch(r"(\w+)\s+(\S.*)", line) if is_named else None
            bare = re.fullmatch(r"(\w+)", line) if is_named else None
            if match:
                yield match[1], match[2]
            elif bare and event.known and bare[1] in event.known.fields:
                yield bare[1], ""
            else:
                yield "", line


def _lines(file: Any) -> Iterator[str]:
    return (line.rstrip("\r\n \t") for line in lines_of(file))
