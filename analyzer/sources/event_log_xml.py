"""One event as XML text -> RawEvent; the form the evtx library and Event Viewer share.

Invariant: any text gives a RawEvent or None. Entities cannot be declared, because only the text
between <Event> and </Event> is parsed. Standard library only.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any
from xml.etree import ElementTree

from ..absence import Absent
from .event_log_events import RawEvent

_QUICK = re.compile(
    r"<Provider\s[^>]*?\bName=(?:\"([^\"]*)\"|'([^']*)').*?<EventID[^>]*>\s*(\d{1,9})\s*<",
    re.DOTALL,
)
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?Z?")


def quick(text: str) -> tuple[str, int] | None:
    """Provider and event id without parsing, to pass over the many events that do not matter."""
    match = _QUICK.search(text)
    return (match[1] or match[2] or "", int(match[3])) if match else None


def parse(text: str, offset: int | None) -> RawEvent | None:
    """The event, None when the text cannot be parsed."""
    begin, end = text.find("<Event"), text.rfind("</Event>")
    if begin < 0 or end < begin:
        return None
    body = _NOT_XML.sub("\ufffd", text[begin : end + len("</Event>")])
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - no document type, so no entities
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
        time=time_of(created.get("SystemTime") or "" if created is not None else ""),
        record_id=_int(_content(fields.get("EventRecordID"))),
        process_id=_int(execution.get("ProcessID") or "") if execution is not None else None,
        thread_id=_int(execution.get("ThreadID") or "") if execution is not None else None,
        channel=_content(fields.get("Channel")),
        data=data,
        binary=binary,
        message=message,
        offset=offset,
    )


def time_of(text: str) -> Any:
    """A UTC time in ISO form as ns since 1970."""
    match = _TIME.fullmatch(text.strip())
    if not match:
        return Absent("out-of-range", f"{text[:40]!r} is not a time")
    try:
        moment = datetime.strptime(f"{match[1]} {match[2]} +0000", "%Y-%m-%d %H:%M:%S %z")
        seconds = int((moment - datetime(1970, 1, 1, tzinfo=timezone.utc)).total_seconds())
    except (ValueError, OverflowError):
        return Absent("out-of-range", f"{text[:40]!r} is not a time")
    ns = seconds * 10**9 + int((match[3] or "0").ljust(9, "0"))
    return (
        ns if 0 <= ns < 1 << 63 else Absent("out-of-range", f"{text[:40]!r} is not in 1970 to 2262")
    )


def _local(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


def _content(element: Any) -> str:
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
