"""Event Viewer's exports as XML and CSV -> events, read as a stream.

Invariant: an event that cannot be read is counted and costs only itself. A CSV export has local
times without a zone and no binary data, so its events have no time on the UTC axis.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import Any

from ..absence import Absent
from ..errors import InputError
from . import event_log_xml
from .event_log_events import RawEvent, is_wanted

#: the largest event that is looked at; Windows limits an event to 64 KB
LARGEST_EVENT = 1 << 20
_BLOCK = 1 << 18
_BEGIN = re.compile(r"<Event[\s>]")
_END = "</Event>"
_LEVELS = {"critical": 1, "error": 2, "warning": 3, "information": 4, "verbose": 5}


class Export:
    """Iterates over the wanted events; the counts are complete when the iteration ends."""

    def __init__(self, path: str, encoding: str, is_xml: bool) -> None:
        self.path, self.encoding, self.is_xml = path, encoding, is_xml
        self.seen = 0
        self.damaged = 0

    def __iter__(self) -> Iterator[RawEvent]:
        try:
            with open(self.path, encoding=self.encoding, errors="replace", newline="") as file:
                yield from self._xml(file) if self.is_xml else self._csv(file)
        except OSError as error:
            raise InputError(self.path, f"cannot be read: {error.strerror or error}") from error

    def _xml(self, file: Any) -> Iterator[RawEvent]:
        buffer = ""
        while True:
            block = file.read(_BLOCK)
            buffer += block
            while True:
                begin = _BEGIN.search(buffer)
                if not begin:
                    buffer = buffer[-16:]
                    break
                end = buffer.find(_END, begin.start())
                if end < 0:
                    if len(buffer) - begin.start() > LARGEST_EVENT:
                        self.damaged += 1
                        buffer = buffer[begin.end() :]
                        continue
                    buffer = buffer[begin.start() :]
                    break
                text, buffer = buffer[begin.start() : end + len(_END)], buffer[end + len(_END) :]
                self.seen += 1
                quick = event_log_xml.quick(text)
                if quick is not None and not is_wanted(*quick):
                    continue
                event = event_log_xml.parse(text, None)
                if event is None:
                    self.damaged += 1
                elif is_wanted(event.provider, event.event_id):
                    yield event
            if not block:
                self.damaged += bool(_BEGIN.match(buffer))  # an event that the file cuts
                return

    def _csv(self, file: Any) -> Iterator[RawEvent]:
        # no line without end: what has none is read, and judged, in pieces
        lines = iter(lambda: file.readline(LARGEST_EVENT), "")
        rows = csv.reader(line.replace("\0", "") for line in lines)
        columns: dict[str, int] | None = None
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error:
                self.damaged += 1
                continue
            if columns is None:
                columns = _columns(row)
                continue
            if not row:
                continue
            self.seen += 1
            event = _row(row, columns)
            if event is None:
                self.damaged += 1
            elif is_wanted(event.provider, event.event_id):
                yield event


def _columns(row: list[str]) -> dict[str, int]:
    """Where the fields stand: PowerShell names them, Event Viewer's are in the local language."""
    names = {name.strip().strip('"').lower(): place for place, name in enumerate(row)}
    if "providername" in names and "id" in names:
        return {
            "provider": names["providername"], "id": names["id"],
            "level": names.get("leveldisplayname", -1), "time": names.get("timecreated", -1),
            "message": names.get("message", -1),
        }  # fmt: skip
    return {"level": 0, "time": 1, "provider": 2, "id": 3, "message": 5}


def _row(row: list[str], columns: dict[str, int]) -> RawEvent | None:
    def field(name: str) -> str:
        place = columns[name]
        return row[place].strip() if 0 <= place < len(row) else ""

    number = field("id")
    if not re.fullmatch(r"[0-9]{1,9}", number):
        return None
    when = field("time")
    return RawEvent(
        provider=field("provider"),
        guid="",
        event_id=int(number),
        version=None,
        level=_LEVELS.get(field("level").lower()),
        task=None,
        opcode=None,
        keywords=None,
        time=Absent(
            "not-recorded",
            f"the export has a local time without a zone: {when[:40]!r}",
            "the .evtx file or an XML export",
        ),
        record_id=None,
        process_id=None,
        thread_id=None,
        channel="",
        data=[],
        binary=None,
        message=field("message"),
        offset=None,
    )
