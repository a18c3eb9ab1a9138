"""Events as blocks of lines: wevtutil's text, Event Viewer's copied text and friendly view, lists.

Invariant: the blocks of Windows' own tools are read by the order of their lines, because their
labels are in the language of the machine; PowerShell's lists by their names, which are not. A
block with its XML is read from the XML. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, TextIO

from ..absence import Absent
from ..names import events
from ..windows_events import RawEvent
from . import event_log_xml
from .event_log_named import from_fields, from_properties, looks_like_time, time_of
from .event_log_table import lines_of

#: more of a description or of one event's XML is left out; Windows limits an event to 64 KB
LARGEST = 1 << 20
_PAIR = re.compile(r"\s*([^:\uff1a]{1,60}?)\s*[:\uff1a]\s*(.*)")

# -- wevtutil qe /f:text -------------------------------------------------------------------------

_NUMBERED = re.compile(r"\S[^\[\]:]{0,60}\[\d+\]\s*:?\s*")
#: the order of its lines
_LOG, _SOURCE, _DATE, _ID, _TASK, _LEVEL = range(6)
_W_DESCRIPTION = 11


def is_wevtutil(text: str) -> bool:
    """True for text that ``wevtutil qe /f:text`` printed."""
    lines = text.split("\n")[:50]
    for number, line in enumerate(lines):
        if _NUMBERED.fullmatch(line.rstrip()):
            pairs = [_PAIR.fullmatch(one.rstrip()) for one in lines[number + 1 : number + 5]]
            return len(pairs) == 4 and all(pairs) and (pairs[_ID] or [""] * 3)[2].isdigit()
    return False


def wevtutil(file: TextIO) -> Iterator[RawEvent | None]:
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
    # the time on the wall, whatever the Z says: beside Sysmon's own UtcTime it is off by the zone
    date = fields[_DATE].replace("T", " ").partition(".")[0].removesuffix("Z")
    return from_fields(fields[_SOURCE], fields[_ID], date, fields[_LEVEL], words, fields[_LOG])


# -- Event Viewer's "Copy details as text" -------------------------------------------------------


class _Order(NamedTuple):
    """Where the fields of a block stand, by the number of their line."""

    head: int  #: so many lines are a block's beginning
    source: int
    number: int
    date: tuple[int, ...]
    level: int
    description: int
    log: int | None = None


_VISTA = _Order(4, _SOURCE, _ID, (_DATE,), _LEVEL, 9, _LOG)
_DAY = re.compile(r"\D{0,3}\d{1,4}\D{1,3}\d{1,2}\D{1,3}\d{1,4}\D{0,3}")
_CLOCK = re.compile(r"\D{0,6}\d{1,2}[:.]\d\d[:.]\d\d\D{0,6}")
#: Event Viewer of XP and Server 2003: type, source, category, id, date, time, user, computer
_XP = _Order(6, 1, 3, (4, 5), 0, 8)


def is_copied(text: str) -> bool:
    """True for the text that Event Viewer copies."""
    return _order_of(text) is not None


def _order_of(text: str) -> _Order | None:
    held: list[str] = []
    for line in text.split("\n")[:200]:
        held = [*held[-5:], line.rstrip()]
        for order in (_VISTA, _XP):
            if _is_head(held[-order.head :], order):
                return order
    return None


def _is_head(lines: list[str], order: _Order) -> bool:
    """The lines that a block begins with."""
    if len(lines) < order.head or any(not line or line[0].isspace() for line in lines):
        return False
    pairs = [_PAIR.fullmatch(line) for line in lines]
    if not all(pairs):
        return False
    values = [pair[2] for pair in pairs if pair]
    if not (values[0] and values[order.source] and values[order.number].isdigit()):
        return False
    if len(order.date) == 1:
        return looks_like_time(values[order.date[0]])
    date, clock = (values[at] for at in order.date)
    return _DAY.fullmatch(date) is not None and _CLOCK.fullmatch(clock) is not None


def copied(file: TextIO, head: str) -> Iterator[RawEvent | None]:
    """The events of "Copy details as text", with or without their XML."""
    order = _order_of(head) or _VISTA
    held: list[str] = []  # lines that may be the head of a block
    block: list[str] = []
    size = 0
    for line in _lines(file):
        held.append(line)
        if len(held) > order.head:
            oldest = held.pop(0)
            if block and size < LARGEST:
                block.append(oldest)
                size += len(oldest) + 1
        if _is_head(held, order):
            if block:
                yield _of_block(block, order)
            block, size = held, 0
            held = []
    if block:
        yield _of_block([*block, *held], order)


def _of_block(lines: list[str], order: _Order) -> RawEvent | None:
    text = "\n".join(lines)
    begin = text.find("<Event ")
    if begin >= 0:
        event = event_log_xml.parse(text[begin:], None)
        number = _PAIR.fullmatch(lines[order.number])
        is_labelled = text[:begin].rstrip(" ").endswith(":\n")  # else it can be one that follows
        if event is not None and (
            is_labelled or number is None or number[2].strip() == str(event.event_id)
        ):
            return event
    description = _description_of(lines, order)
    pairs = [_PAIR.fullmatch(line) for line in lines[: order.description]]
    values = [pair[2].strip() if pair else "" for pair in pairs]
    if len(values) <= order.level:
        return None
    words = [line.strip() for line in lines[description:]]
    if begin >= 0:  # its XML is damaged; the label before it is not part of the description
        end = next((n for n, line in enumerate(words) if line.startswith("<Event ")), len(words))
        words = words[: end - 1]
    label = _PAIR.fullmatch(words[0]) if words else None
    words = ([label[2]] if label else []) + words[1:]
    return from_fields(
        values[order.source], values[order.number], " ".join(values[at] for at in order.date),
        values[order.level], " ".join(filter(None, words)),
        "" if order.log is None else values[order.log],
    )  # fmt: skip


def _description_of(lines: list[str], order: _Order) -> int:
    """Where its label stands; people leave out lines such as the user before it."""
    for number in range(order.head, min(order.description, len(lines) - 1)):
        label, after = _PAIR.fullmatch(lines[number]), lines[number + 1]
        if label and not label[2] and after.strip() and not _is_label(after):
            return number
    return order.description


def _is_label(line: str) -> bool:
    """A few words and a colon; a sentence can have one too."""
    pair = _PAIR.fullmatch(line)
    return pair is not None and len(pair[1].split()) <= 5


# -- PowerShell's Format-List ----------------------------------------------------------------------

_PROPERTY = re.compile(r"([A-Za-z]\w{0,40})\s*:(?: (.*))?")


def is_list(text: str) -> bool:
    """True for what Get-WinEvent or Get-EventLog shows as a list."""
    pairs = [_PROPERTY.fullmatch(line.rstrip()) for line in text.split("\n")[:200]]
    names = {pair[1].lower() for pair in pairs if pair}
    if {"source", "timegenerated"} <= names:
        return not names.isdisjoint({"eventid", "instanceid"})
    return {"id", "providername"} <= names


def properties(file: TextIO) -> Iterator[RawEvent | None]:
    """The events of a list; a value goes on in lines that are indented."""
    values: dict[str, str] = {}
    last = ""
    for line in _lines(file):
        pair = _PROPERTY.fullmatch(line)
        if pair:
            last = pair[1].lower()
            if last == "description":  # of an event copied out of Event Viewer, which stands before
                values = {}
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


def friendly(file: TextIO) -> Iterator[RawEvent | None]:
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


# -- what is left of an event in a post ------------------------------------------------------------

_FIELDS = "|".join(events.EVENTS[events.KERNEL_POWER, 41].fields)
_FIELD = re.compile(
    rf"\b({_FIELDS})\b[\"'\s>:=]{{1,20}}(0x[0-9a-f]{{1,16}}|\d{{1,20}}|\w{{1,8}})", re.I
)
#: what Windows shows of a problem report, of later systems and of 7, with the first file after it
_SIGNATURES = (
    re.compile(
        r"\bBlueScreen\b[^\0]{1,400}?(?=\bP1: )[^\0]{1,200}?\bP5: *\w+"
        r"(?:(?:(?!\bP1:)[^\0]){1,800}?\.dmp\b)?"
    ),
    re.compile(r"\bBCCode:[^\0]{1,60}?\bBCP1:[^\0]{1,200}?\bBCP4:\s*\w+(?:[^\0]{1,400}?\.dmp\b)?"),
)
#: the same in Reliability Monitor, in any language: "Code: 1a", "Parameter 1: ...", files
_RELIABILITY = re.compile(
    r"\bBlueScreen\s*\n[^:\n]{1,40}:\s*([0-9a-f]{1,8})\s*\n"
    + "".join(rf"[^:\n]{{1,40}}\b{n}\s?:\s*([0-9a-f]{{1,16}})\s*\n" for n in range(1, 5))
    + r"(?:(?:(?!\bBlueScreen\b|\bLiveKernelEvent\b)[^\0]){1,800}?\.dmp\b)?",
    re.I,
)
_CREATED = re.compile(r"SystemTime\W{1,6}(\d{4}-\d\d-\d\dT[\d:.]{8,20}Z)")
#: Windows' sentence in any language: code, parameters and the file of the dump
_SENTENCE = re.compile(
    r"0x[0-9a-f]{8} \((?:0x[0-9a-f]{8,16},\s?){3}0x[0-9a-f]{8,16}\)[^<>]{1,300}?"
    r"[A-Z%][\w:%]{0,20}\\[^<>\"\r\n]{1,250}?\.dmp\b[^<>]{0,80}",
    re.I,
)


def is_left(text: str) -> bool:
    """True for the data of an event 41, the sentence of a 1001 or a problem's signature alone."""
    patterns = (_SENTENCE, _RELIABILITY, *_SIGNATURES)
    return "BugcheckParameter1" in text or any(p.search(text) for p in patterns)


def left(file: TextIO) -> Iterator[RawEvent]:
    """The events of which only that is left."""
    text = file.read(LARGEST)
    untold = Absent("not-recorded", "the text does not have it", "the .evtx file or an XML export")
    found: dict[str, str] = {}
    begin = 0
    for match in [*_FIELD.finditer(text), None]:
        if found and (match is None or match[1] in found):
            created = _CREATED.findall(text[:begin])
            yield RawEvent(
                events.SPELLED[events.KERNEL_POWER], event_id=41, data=list(found.items()),
                time=time_of(created[-1]) if created else untold,
            )  # fmt: skip
            found = {}
        if match is not None:
            begin = begin if found else match.start()
            found[match[1]] = match[2]
    # a list of properties has it twice
    for words in dict.fromkeys(" ".join(m[0].split()) for m in _SENTENCE.finditer(text)):
        yield RawEvent(events.SPELLED[events.WER], event_id=1001, message=words, time=untold)
    for match in (m for pattern in _SIGNATURES for m in pattern.finditer(text)):
        provider = events.SPELLED[events.PROBLEM]
        yield RawEvent(provider, event_id=1001, message=f"BlueScreen {match[0]}", time=untold)
    for match in _RELIABILITY.finditer(text):
        named = [(f"P{n}", value) for n, value in enumerate(match.groups(), 1)]
        yield RawEvent(
            events.SPELLED[events.PROBLEM], event_id=1001, message=match[0],
            data=named, time=untold,
        )  # fmt: skip


def _lines(file: TextIO) -> Iterator[str]:
    return (line.rstrip("\r\n \t") for line in lines_of(file))
