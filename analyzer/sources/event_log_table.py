"""Events as rows: Event Viewer's text (tab) and CSV, PowerShell's CSV and Format-Table.

Invariant: columns are found by PowerShell's names, else by Event Viewer's fixed order, so the
language of the machine does not matter; a row that cannot be read costs only itself. Standard
library only.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from typing import TextIO

from ..windows_events import RawEvent
from .event_log_named import from_fields, from_properties, looks_like_time
from .event_log_tools import event_of

#: no line without end: what has none is read, and judged, in pieces
LONGEST_LINE = 1 << 20
_SEPARATORS = ("\t", ";", ",")
#: Event Viewer: level, date and time, source, event id, task category, then the text unnamed
_LEVEL, _TIME, _SOURCE, _ID, _MESSAGE = 0, 1, 2, 3, 5
_PROVIDERS = {"providername", "source", "provider"}
_IDS = {"id", "eventid", "event id"}
_RULE = re.compile(r"\s*-+(?: +-+)+\s*")
_GROUP = re.compile(r"\s*ProviderName:\s*(\S.*?)\s*")
#: properties of which Format-Table sets the values to the right
_RIGHT = {"id", "recordid", "level", "processid", "threadid", "index", "eventid", "instanceid"}


def lines_of(file: TextIO) -> Iterator[str]:
    """Lines, none of them longer than :data:`LONGEST_LINE`."""
    return (line.replace("\0", "") for line in iter(lambda: file.readline(LONGEST_LINE), ""))


def separator_of(text: str) -> str | None:
    """What separates the columns of a delimited export of events; None when it is none."""
    rows = [line for line in re.split("\r\n|\r|\n", text)[:12] if not _is_prelude(line)]
    for separator in _SEPARATORS if rows else ():
        try:
            parsed = list(csv.reader(rows, delimiter=separator))
        except csv.Error:
            continue
        if _are_named(parsed[0]) or any(_is_viewer_row(row) for row in parsed[1:4]):
            return separator
    return None


def _is_prelude(line: str) -> bool:
    """PowerShell writes the type first, Excel's separator line may stand there too."""
    return not line.strip() or line.startswith(("#TYPE", '"#TYPE', "sep="))


def _are_named(row: list[str]) -> bool:
    names = {name.strip().strip('"').lower() for name in row}
    return bool(names & _PROVIDERS and names & _IDS)


def _is_viewer_row(row: list[str]) -> bool:
    return len(row) >= 5 and row[_ID].strip().isdigit() and looks_like_time(row[_TIME])


def delimited(file: TextIO, separator: str) -> Iterator[RawEvent | None]:
    """The events of a delimited export, None for a row that cannot be read."""
    rows = csv.reader(lines_of(file), delimiter=separator)
    names: list[str] | None = None
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error:
            yield None
            continue
        if not row or row == names or (names is None and _is_prelude(row[0])):
            continue
        if names is None:
            names = row
            is_named = _are_named(row)
            continue
        if is_named:
            given = dict(zip(names, row))
            if len(row) > len(names):  # Event Viewer's text has no name
                given.setdefault("message", row[len(names)])
            yield event_of(given)
        elif len(row) < 4:
            yield None
        else:
            message = row[_MESSAGE] if len(row) > _MESSAGE else ""
            yield from_fields(row[_SOURCE], row[_ID], row[_TIME], row[_LEVEL], message)


# -- Format-Table --------------------------------------------------------------------------------


def is_table(text: str) -> bool:
    """True for what Get-WinEvent shows as a table."""
    lines = text.split("\n")[:200]
    for before, line in zip(lines, lines[1:]):
        if _RULE.fullmatch(line.rstrip()):
            names = {name.lower() for name in before.split()}
            return bool(names & _IDS) and bool(
                names & _PROVIDERS or any(_GROUP.fullmatch(line.rstrip()) for line in lines)
            )
    return False


class _Columns:
    """Where the columns of a table begin and end, by the line of dashes below their names."""

    def __init__(self, names: str, dashes: str) -> None:
        self.spans = [match.span() for match in re.finditer("-+", dashes)]
        ends = [start for start, _ in self.spans[1:]] + [len(names) + 1]
        self.names = [names[start:end].strip().lower() for (start, _), end in zip(self.spans, ends)]

    def cells(self, line: str) -> dict[str, str]:
        """The cells of one row; a number may stick out to the left of its column's name."""
        starts: list[int] = []
        for name, (start, end) in zip(self.names, self.spans):
            number = re.search(r"\d+$", line[:end]) if name in _RIGHT else None
            starts.append(min(start, number.start()) if number else start)
        ends = [*starts[1:], len(line)]
        return {name: line[start:end].strip() for name, start, end in zip(self.names, starts, ends)}


def table(file: TextIO) -> Iterator[RawEvent | None]:
    """The events of a Format-Table; a message that went on in further lines is put together."""
    provider, columns, before = "", None, ""
    pending: dict[str, str] | None = None
    for line in _stripped(lines_of(file)):
        group = _GROUP.fullmatch(line)
        if _RULE.fullmatch(line):
            if pending is not None:
                yield _of_cells(pending, provider)
            columns, pending = _Columns(before, line), None
            continue
        if group or columns is None or not line:
            if pending is not None:
                yield _of_cells(pending, provider)
            pending = None
            provider = group[1] if group else provider
            if group:
                columns = None
            before = line
            continue
        cells = columns.cells(line)
        if (cells.get("id") or cells.get("eventid") or "").isdigit():
            if pending is not None:
                yield _of_cells(pending, provider)
            pending = cells
        elif pending is not None and "message" in cells:
            pending["message"] = f"{pending.get('message', '')} {cells['message']}"
        before = line
    if pending is not None:
        yield _of_cells(pending, provider)


def _of_cells(cells: dict[str, str], provider: str) -> RawEvent | None:
    return from_properties({"providername": provider, **cells})


def _stripped(lines: Iterable[str]) -> Iterator[str]:
    return (line.rstrip("\r\n \t") for line in lines)
