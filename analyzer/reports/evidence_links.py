"""Which cell of which table a piece of evidence was read from, and which cells a finding is about.

Invariant: a cell is found by the place that the evidence was read at and by the name of its field,
never by how a value or a sentence is spelled. Only rows that a page can show are looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..absence import is_absent
from ..checks import RULES
from ..checks.rule import SEVERITIES
from ..records import Callback, DryRun, Evidence, Finding, Origin, Records
from .missing import Row

MOST_ROWS = 1000  # of a table; 20,000 rows of HTML take megabytes
ELSEWHERE = ("sources", "findings")  # tables that have their own section of a page
#: tables of what was read elsewhere: evidence leads to where it was read
_SECOND_HAND = (*ELSEWHERE, "crashes")
_SERIOUS = SEVERITIES[:2]
#: rule whose evidence names a request instead of a field -> the field it speaks of
_FIELDS = {
    "storage-request-slow": "duration_ns",
    "storage-request-failed": "status_name",
    "storage-requests-in-flight": "in_flight",
}
_HUNG = "callback-never-returned"


class Cell(NamedTuple):
    """A field of a row; ``field`` is empty where only the row is known."""

    table: str
    row: int
    field: str = ""


#: source, "at", "file", "both" or "how", and the address, the offset, both, or the words
Place = tuple[str, str, object]
Placed = tuple[str, int, Row]  #: table, number of the row, row


class Marks(NamedTuple):
    """What the findings say of rows and cells."""

    places: dict[Place, list[Placed]]  #: the rows that were read there
    evidence: dict[int, list[Cell | None]]  #: number of a finding -> a cell per piece of evidence
    bad: dict[Cell, list[str]]  #: cell of an error or warning -> titles
    hung: set[tuple[str, int]]  #: table and row of what never came to an end
    noted: set[tuple[str, int]]  #: table and row of what an error or a warning is about

    def why(self, table: str, row: int, field: str) -> str:
        """Why a cell is marked as bad; "" where it is not."""
        return "; ".join(self.bad.get(Cell(table, row, field), ()))


def marks(records: Records) -> Marks:
    """The marks that the findings of some records make."""
    places = rows_by_place(records)
    made = Marks(places, {}, {}, set(), set())
    for number, finding in enumerate(records["findings"]):
        cells = [_cell(finding, piece, places) for piece in finding.evidence or ()]
        made.evidence[number] = cells
        own = at_place(finding.origin, places)
        step = (finding.facts or {}).get("never_left_offset")
        if step is not None:
            entered = places.get((finding.origin.source, "file", step), [])
            made.hung.update((table, row) for table, row, _ in entered if table == "stages")
        elif finding.rule == _HUNG and len(own) == 1:
            made.hung.add(own[0][:2])
        if finding.severity not in _SERIOUS:
            continue
        rule = RULES.get(str(finding.rule))
        title = str(finding.rule) if rule is None else rule.title
        if len(own) == 1:  # many calls are read at one address
            made.noted.add(own[0][:2])
        wrong = {name for name in finding.facts or () if name.startswith("wrong_")}
        for cell in dict.fromkeys(cells):
            if cell is None or (wrong and f"wrong_{cell.field}" not in wrong):
                continue
            if cell.field:
                made.noted.add((cell.table, cell.row))
                titles = made.bad.setdefault(cell, [])
                if title not in titles:
                    titles.append(title)
    return made


def rows_by_place(records: Records) -> dict[Place, list[Placed]]:
    """The rows that were read at each place."""
    found: dict[Place, list[Placed]] = {}
    for table, rows in records.tables.items():
        if table in _SECOND_HAND or not isinstance(rows, Sequence):
            continue
        for row, record in enumerate(rows[:MOST_ROWS]):
            for key in _keys(record.origin):
                found.setdefault(key, []).append((table, row, record))
    return found


def at_place(origin: Origin | None, places: dict[Place, list[Placed]]) -> list[Placed]:
    """The rows that were read where an origin says."""
    if origin is None:
        return []
    found = next((places[key] for key in _keys(origin) if key in places), [])
    is_place = not is_absent(origin.address) or not is_absent(origin.file_offset)
    return found if is_place or len(found) == 1 else []


def _keys(origin: Origin) -> Iterable[Place]:
    has_place = False
    if not is_absent(origin.address) and not is_absent(origin.file_offset):
        yield origin.source, "both", (origin.address, origin.file_offset)
    for kind, value in (("at", origin.address), ("file", origin.file_offset)):
        if not is_absent(value):
            has_place = True
            yield origin.source, kind, value
    if not has_place:  # the record of an event log, by its number
        yield origin.source, "how", origin.how


def _cell(finding: Finding, piece: Evidence, places: dict[Place, list[Placed]]) -> Cell | None:
    """The cell that a piece of evidence was read from: field and value agree, else the row."""
    found = at_place(piece.origin if piece.origin is not None else finding.origin, places)
    for table, row, record in found:
        if piece.label in record._fields and getattr(record, piece.label) == piece.value:
            return Cell(table, row, piece.label)
    for table, row, record in found:
        if isinstance(record, (Callback, DryRun)) and record.callback == piece.label:
            return Cell(table, row, "routine" if record.routine == piece.value else "")
    field = _FIELDS.get(str(finding.rule), "")
    for table, row, record in found:
        if field in record._fields:
            return Cell(table, row, field)
    return Cell(*found[0][:2]) if found and piece.origin is not None else None
