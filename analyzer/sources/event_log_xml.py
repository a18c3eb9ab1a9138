"""Events as XML: Event Viewer's and wevtutil's exports, and each record of an .evtx file.

Invariant: any text gives events, each of them whole or counted as damaged; an end that is missing
is told. Entities cannot be declared, because only the text between <Event> and </Event> is parsed.
Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TextIO
from xml.etree import ElementTree

from ..names.events import is_wanted
from ..windows_events import RawEvent
from .event_log_named import time_of

#: the largest event that is looked at; Windows limits an event to 64 KB
LARGEST_EVENT = 1 << 20
#: stands in the stream where an export has lost its end
OPEN_ENDED = RawEvent("")
_BLOCK = 1 << 18
_MARK = re.compile(r"<Event[\s>]|</Event>|<Events[\s>]|</Events>")
_LONGEST_MARK = 9
_QUICK = re.compile(
    r"<Provider\s[^>]*?\bName=(?:\"([^\"]*)\"|'([^']*)').*?<EventID[^>]*>\s*(\d{1,9})\s*<",
    re.DOTALL,
)
_CREATED = re.compile(r"<TimeCreated\s[^>]*?SystemTime=[\"']([^\"']*)")
_CHANNEL = re.compile(r"<Channel>([^<]*)</Channel>")
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def is_events(text: str) -> bool:
    """True for events as XML, with a root around them or without."""
    return "schemas.microsoft.com/win/2004/08/events" in text[:4096] or bool(
        re.match(r"\ufeff?\s*(?:<\?xml[^>]*>\s*)?<Events?[\s>]", text)
    )


def events(file: TextIO) -> Iterator[RawEvent | None]:
    """Every event, None for one that is damaged, OPEN_ENDED where the end is missing."""
    text, seen = "", 0  #: what is not done with, and how much of it was searched
    open_at = -1  #: where in it the event begins that has not ended
    has_root = False
    while True:
        block = file.read(_BLOCK)
        text += block
        for mark in _MARK.finditer(text, max(seen - _LONGEST_MARK, open_at + 1, 0)):
            word = mark[0]
            if word == "</Event>":
                if open_at >= 0:
                    yield read(text[open_at : mark.end()], None)
                open_at = -1
            elif word.startswith(("<Events", "</Events")):
                has_root = word != "</Events>"
            else:
                if open_at >= 0:  # another begins before it ended
                    yield parse(text[open_at : mark.start()], None)
                open_at = mark.start()
        if open_at >= 0 and len(text) - open_at > LARGEST_EVENT:
            yield None
            open_at = -1
        text = text[open_at:] if open_at >= 0 else text[-_LONGEST_MARK:]
        open_at, seen = min(open_at, 0), len(text)
        if not block:
            break
    if open_at >= 0:
        yield parse(text, None)
    if open_at >= 0 or has_root:
        yield OPEN_ENDED


def read(text: str, offset: int | None) -> RawEvent | None:
    """An event; one that no reader wants is not parsed in full, which most events of a log are."""
    match = _QUICK.search(text)
    if match is not None:
        provider, number = match[1] or match[2] or "", int(match[3])
        if not is_wanted(provider, number):
            created, channel = _CREATED.search(text), _CHANNEL.search(text)
            return RawEvent(
                provider, event_id=number, time=time_of(_utc(created[1] if created else "")),
                channel=channel[1] if channel else "",
            )  # fmt: skip
    return parse(text, offset)


def parse(text: str, offset: int | None) -> RawEvent | None:
    """The event, None when the text cannot be parsed; of one without its end what is whole."""
    begin, end = text.find("<Event"), text.rfind("</Event>")
    if begin < 0:
        return None
    is_whole = end > begin
    body = _NOT_XML.sub("\ufffd", text[begin : end + len("</Event>") if is_whole else None])
    try:
        # no document type, so no entities
        root = ElementTree.fromstring(body) if is_whole else _begun(body)  # noqa: S314
    except (ElementTree.ParseError, ValueError, RecursionError):
        return None
    system = next((child for child in root if _local(child) == "System"), None)
    if system is None:
        return None
    fields = {_local(child): child for child in system}
    provider, execution = fields.get("Provider"), fields.get("Execution")
    created = fields.get("TimeCreated")
    event_id = _int(_content(fields.get("EventID")))
    if provider is None or event_id is None:
        return None
    data: list[tuple[str, str]] = []
    binary: bytes | None = None
    message = ""
    for part in root:
        if _local(part) in ("EventData", "UserData"):
            for item in part.iter():
                if _local(item) == "Data":
                    data.append((item.get("Name") or "", _content(item)))
                elif _local(item) == "Binary":
                    binary = _bytes(_content(item))
                elif _local(part) == "UserData" and len(item) == 0 and _content(item):
                    data.append((_local(item), _content(item)))
        elif _local(part) == "RenderingInfo":
            found = next((item for item in part if _local(item) == "Message"), None)
            message = _content(found)
    return RawEvent(
        provider=provider.get("Name") or "",
        guid=(provider.get("Guid") or "").strip("{}").lower(),
        event_id=event_id,
        version=_int(_content(fields.get("Version"))),
        level=_int(_content(fields.get("Level"))),
        task=_int(_content(fields.get("Task"))),
        opcode=_int(_content(fields.get("Opcode"))),
        keywords=_int(_content(fields.get("Keywords"))),
        time=time_of(_utc(created.get("SystemTime") or "" if created is not None else "")),
        record_id=_int(_content(fields.get("EventRecordID"))),
        process_id=_int(execution.get("ProcessID") or "") if execution is not None else None,
        thread_id=_int(execution.get("ThreadID") or "") if execution is not None else None,
        channel=_content(fields.get("Channel")),
        data=data,
        binary=binary,
        message=message,
        offset=offset,
    )


def _begun(body: str) -> ElementTree.Element:
    """The root of a text that breaks off, without the element in which it does."""
    parser: Any = ElementTree.XMLPullParser(("start", "end"))
    parser.feed(body)
    path: list[ElementTree.Element] = []
    for kind, element in parser.read_events():
        if kind == "start":
            path.append(element)
        elif len(path) > 1:
            path.pop()
    if len(path) > 1 and not len(path[-1]):
        path[-2].remove(path[-1])
    return path[0] if path else ElementTree.Element("Event")


def _utc(text: str) -> str:
    """SystemTime is UTC, also where its Z was left out."""
    text = text.strip().removesuffix(" UTC")  # as evtx_dump writes it
    has_zone = text.endswith("Z") or re.search(r"[+-]\d\d:\d\d$", text)
    return text if has_zone or not text else text + "Z"


def _local(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _content(element: ElementTree.Element | None) -> str:
    return (element.text or "").strip() if element is not None else ""


def _int(text: str) -> int | None:
    if re.fullmatch(r"0[xX][0-9A-Fa-f]{1,16}", text):
        return int(text, 16)
    if re.fullmatch(r"[0-9]{1,20}", text) and int(text) < 1 << 64:
        return int(text)
    return None


def _bytes(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None
