"""Events as serialised objects: JSON of PowerShell and of other programs, and CLIXML.

Invariant: an object that cannot be read costs only itself; nothing nested deeper than these
formats nest is followed, and no entity is expanded. Standard library only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TextIO
from xml.etree import ElementTree

from ..windows_events import RawEvent
from . import event_log_tools
from .event_log_named import from_properties

_BLOCK, _DONE = 1 << 18, 1 << 16
#: an object that is larger is no event; Windows limits an event to 64 KB
LARGEST = 1 << 20
_IS_JSON = re.compile(event_log_tools.PROVIDERS)
_HAS_ID = re.compile(event_log_tools.IDS)
_BETWEEN = re.compile(r"[\s,\[\]\ufeff]*")
_ESCAPED = re.compile("_x([0-9A-Fa-f]{4})_")


def is_json(text: str) -> bool:
    """True for events as ConvertTo-Json or another program writes them."""
    head = text.lstrip("\ufeff \t\r\n")
    head = head[record.end() :] if (record := event_log_tools.RECORD.match(head)) else head
    return head[:1] in ("[", "{") and bool(_IS_JSON.search(head) and _HAS_ID.search(head))


def json_events(file: TextIO) -> Iterator[RawEvent | None]:
    """The events of a list, of one object, or of one object a line."""
    decoder = json.JSONDecoder()
    buffer, at, is_end = "", 0, False
    is_lost = False  #: within an object that is damaged: its parts are no events of their own
    while True:
        at = _skip(buffer, at)
        if at > _DONE:  # an error counts the lines before it
            buffer, at = buffer[at:], 0
        if at >= len(buffer):
            buffer, at = file.read(_BLOCK), 0
            if not buffer:
                return
            continue
        try:
            value, at = decoder.raw_decode(buffer, at)
        except (json.JSONDecodeError, RecursionError) as error:
            if not is_end and len(buffer) - at <= LARGEST and buffer[at] == "{":
                block = file.read(_BLOCK)
                is_end = not block
                buffer, at = buffer[at:] + block, 0
                continue
            if not is_lost or buffer[at] == "{":
                yield None
            is_lost = True
            # what is nested so deep is no event, and its parts are not tried one by one
            wrong = getattr(error, "pos", len(buffer))
            if is_end and str(error).startswith("Unterminated"):
                wrong = len(buffer)  # cut in a text, and braces in it are no objects
            at = buffer.find("{", max(wrong, at + 1))
            at = len(buffer) if at < 0 else at
            continue
        event = event_log_tools.event_of(value) if isinstance(value, dict) else None
        if event is not None or not is_lost:
            yield event
        is_lost = is_lost and event is None


def _skip(buffer: str, at: int) -> int:
    while at < len(buffer):
        skipped = _BETWEEN.match(buffer, at) or event_log_tools.RECORD.match(buffer, at)
        record = event_log_tools.RECORD.match(buffer, skipped.end()) if skipped else None
        end = record.end() if record else skipped.end() if skipped else at
        if end == at:
            break
        at = end
    return at


def is_clixml(text: str) -> bool:
    """True for events as Export-Clixml writes them."""
    head = text.lstrip("\ufeff \r\n")
    return head.startswith(("<Objs ", "#< CLIXML")) and "ProviderName" in text


def clixml(file: TextIO) -> Iterator[RawEvent | None]:
    """The events of an Export-Clixml file, each an ``Obj`` of the first level."""
    parser: Any = ElementTree.XMLPullParser(["start", "end"])
    head = file.read(_BLOCK)
    block = head[head.find("<Objs") :] if "<Objs" in head else ""  # a document type is not read
    depth = 0
    root: ElementTree.Element | None = None
    while block:
        try:
            parser.feed(block)
            for kind, element in parser.read_events():
                depth += 1 if kind == "start" else -1
                root = element if root is None else root
                if depth > 64:
                    yield None
                    return
                if kind == "end" and depth == 1 and root is not None:
                    yield _of_object(element)
                    root.clear()
        except ElementTree.ParseError:
            yield None
            return
        block = file.read(_BLOCK)
    if depth:
        yield None  # the file ends inside an object


def _of_object(element: ElementTree.Element) -> RawEvent | None:
    values: dict[str, object] = {}
    for part in element:
        if _name(part) in ("Props", "MS"):
            for item in part:
                values.setdefault(item.get("N") or "", _value(item))
    return from_properties(values)


def _value(item: ElementTree.Element) -> object:
    """A property: text, or the values of a list of objects."""
    if _name(item) != "Obj":
        return _plain(item)
    for part in item:
        if _name(part) in ("LST", "IE"):
            return [_entry(entry) for entry in part]
    return next((_plain(part) for part in item if _name(part) == "ToString"), "")


def _entry(entry: ElementTree.Element) -> str | bytes | None:
    """One element of ``Properties``: its value is a property of it."""
    if _name(entry) != "Obj":
        return _plain(entry)
    for part in entry:
        for item in part if _name(part) in ("Props", "MS") else ():
            if item.get("N") == "Value":
                return _plain(item)
    return None


def _plain(item: ElementTree.Element) -> str | bytes:
    text = _ESCAPED.sub(lambda m: chr(int(m[1], 16)), item.text or "")
    if _name(item) == "BA":  # bytes in base 64
        import base64
        import binascii

        try:
            return base64.b64decode(text, validate=False)
        except (binascii.Error, ValueError):
            return ""
    return text


def _name(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]
