"""Records of many cases -> Arrow tables: the columns of one case with the case id before them.

Invariant: the column types are those of :mod:`analyzer.tables`; a 64-bit value never becomes a
float. The schema of every table is known without any data.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, partial
from typing import Any, Callable

from ..absence import Absent
from ..batches import Column, batches, each, reasons_of, text_reason
from ..records import Records
from ..tables import REASONS_COLUMN, SCHEMA, one_cell, plain
from . import need

#: rows of the table events that one case gives at most, so that a long trace cannot fill memory
EVENTS_LIMIT = 100_000
_ARROW = {
    "Address": "uint64", "Big": "uint64", "Code": "uint32", "Flag": "bool_", "Real": "float64",
    "Number": "int64", "Duration": "int64", "Text": "string",
    "Proof": "string", "Facts": "string",
}  # fmt: skip

#: what the scan itself says: one row a case
CASES = {
    "outcome": "Text",  #: analysed, passed-over, unusable or failed
    "reason": "Text",  #: why a case was not analysed
    "location": "Text",  #: where it lay when it was analysed
    "files": "Number",
    "size_bytes": "Number",
    "kinds": "Text",
    "events_left_out": "Number",  #: rows of the table events beyond the limit
    "tool": "Text",  #: version that analysed it
}
#: one row a place; places with the same case hold the same bytes
LOCATIONS = {"location": "Text", "size_bytes": "Number"}

#: every table of a data set -> its columns and their kinds; ``case`` comes first
TABLES: dict[str, dict[str, str]] = {
    **{
        name: {**{c.name: c.kind for c in columns}, REASONS_COLUMN: "Text"}
        for name, columns in SCHEMA.items()
    },
    "locations": LOCATIONS,
    "cases": CASES,
}


@cache
def schema(table: str) -> Any:
    """The Arrow schema of a table."""
    pa = need("pyarrow", "parquet")
    fields = [pa.field("case", pa.string())]
    for name, kind in TABLES[table].items():
        of = pa.timestamp("ns", "UTC") if kind == "Time" else getattr(pa, _ARROW[kind])()
        fields.append(pa.field(name, of))
    return pa.schema(fields)


class Rows:
    """Collects the rows of several cases, then gives Arrow tables."""

    def __init__(self) -> None:
        self._cells: dict[str, list[list[Any]]] = {}

    def add(self, table: str, case: str, cells: Iterable[Any]) -> None:
        """One row of a table."""
        columns = self._cells.get(table)
        if columns is None:
            columns = self._cells[table] = [[] for _ in range(len(TABLES[table]) + 1)]
        for column, cell in zip(columns, (case, *cells)):
            column.append(cell)

    def extend(self, other: Rows) -> None:
        """The rows of another collection behind those of this one."""
        for table, columns in other._cells.items():
            mine = self._cells.setdefault(table, [[] for _ in columns])
            for column, cells in zip(mine, columns):
                column.extend(cells)

    def add_records(
        self, case: str, records: Records, rename: Callable[[str], str] | None = None
    ) -> int:
        """All records of one case; the number of events that were left out."""
        left_out = 0
        for table in SCHEMA:
            rows: Any = records[table]
            room = EVENTS_LIMIT if table == "events" else None
            if room is not None:
                left_out = max(0, len(rows) - room)
            for cells in batches(table, rows):
                count = len(cells[0]) if room is None else min(len(cells[0]), room)
                if not count:
                    break
                room = None if room is None else room - count
                self._add_batch(table, case, [column[:count] for column in cells], rename)
        return left_out

    def _add_batch(
        self, table: str, case: str, cells: list[list[Any]], rename: Callable[[str], str] | None
    ) -> None:
        def cell(kind: str, value: Any) -> Any:
            if value is None or value.__class__ is Absent:
                return None
            if kind in ("Proof", "Facts"):
                value = one_cell(kind, plain(kind, value))
            return rename(value) if rename is not None and isinstance(value, str) else value

        columns = self._cells.setdefault(table, [[] for _ in range(len(TABLES[table]) + 1)])
        reasons = reasons_of(table, [Column(column) for column in cells], text_reason, "; ")
        columns[0] += [case] * len(cells[0])
        for (_, kind), column, values in zip(SCHEMA[table], columns[1:], cells):
            column += each(partial(cell, kind), values)  # what is alike is one object
        columns[-1] += [reason or None for reason in reasons]

    def tables(self) -> dict[str, Any]:
        """Arrow tables of what was collected; a table without rows is left out."""
        pa = need("pyarrow", "parquet")
        made = {}
        for table, columns in self._cells.items():
            of = schema(table)
            arrays = [pa.array(c, f.type) for c, f in zip(columns, of)]
            made[table] = pa.Table.from_arrays(arrays, schema=of)
        return made
