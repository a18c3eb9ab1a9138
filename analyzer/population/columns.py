"""Records of many cases -> Arrow tables: the columns of one case with the case id before them.

Invariant: the column types are those of :mod:`analyzer.tables`; a 64-bit value never becomes a
float. The schema of every table is known without any data.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from itertools import islice
from typing import Any, Callable

from ..absence import Absent
from ..records import Records
from ..tables import REASONS_COLUMN, SCHEMA, checked, one_cell, plain, reasons_text, rows_of, values
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
        for table, columns in SCHEMA.items():
            kinds = [column.kind for column in columns]
            names = [column.name for column in columns]
            rows: Any = records[table]
            if table == "events" and len(rows) > EVENTS_LIMIT:
                left_out = len(rows) - EVENTS_LIMIT
                rows = islice(rows_of(rows), EVENTS_LIMIT)
            for record in rows_of(rows):
                cells: list[Any] = []
                reasons: dict[str, str] = {}
                for name, kind, value in zip(names, kinds, values(record)):
                    value = checked(kind, value)
                    if isinstance(value, Absent):
                        reasons[name] = str(checked("Text", str(value)))
                        value = None
                    elif kind in ("Proof", "Facts"):
                        value = one_cell(kind, plain(kind, value))
                    if rename is not None and isinstance(value, str):
                        value = rename(value)
                    cells.append(value)
                cells.append(reasons_text(reasons))
                self.add(table, case, cells)
        return left_out

    def tables(self) -> dict[str, Any]:
        """Arrow tables of what was collected; a table without rows is left out."""
        pa = need("pyarrow", "parquet")
        made = {}
        for table, columns in self._cells.items():
            of = schema(table)
            arrays = [pa.array(c, f.type) for c, f in zip(columns, of)]
            made[table] = pa.Table.from_arrays(arrays, schema=of)
        return made
