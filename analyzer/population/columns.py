"""Records of many cases -> Arrow tables: the columns of one case with the case id before them.

Invariant: the column types are those of :mod:`analyzer.tables`; a 64-bit value never becomes a
float. The schema of every table is known without any data. Rows are compressed once there are some
thousand of a table, so that a case with many of them needs no more memory than another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Callable

from ..batches import Column, batches, reasons_of, text_reason, told
from ..records import Records
from ..tables import REASONS_COLUMN, SCHEMA
from . import need

if TYPE_CHECKING:
    import pyarrow as pa

#: rows of the table events that one case gives at most, so that a long trace cannot fill memory
EVENTS_LIMIT = 100_000
#: rows of a table that are compressed together; they repeat each other, so little is left of them
_TOGETHER = 8192
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
def schema(table: str) -> pa.Schema:
    """The Arrow schema of a table."""
    pa = need("pyarrow", "parquet")
    fields = [pa.field("case", pa.string())]
    for name, kind in TABLES[table].items():
        of = pa.timestamp("ns", "UTC") if kind == "Time" else getattr(pa, _ARROW[kind])()
        fields.append(pa.field(name, of))
    return pa.schema(fields)


class Rows:
    """Collects the rows of several cases, compressed."""

    def __init__(self) -> None:
        self._packed: dict[str, list[bytes]] = {}
        self._cells: dict[str, list[list[object]]] = {}  # those behind the packed ones

    def _columns(self, table: str) -> list[list[object]]:
        return self._cells.setdefault(table, [[] for _ in range(len(TABLES[table]) + 1)])

    def add(self, table: str, case: str, cells: Iterable[object]) -> None:
        """One row of a table."""
        for column, cell in zip(self._columns(table), (case, *cells)):
            column.append(cell)

    def extend(self, other: Rows) -> None:
        """The rows of another collection behind those of this one."""
        for table, packed in other._packed.items():
            self._pack(table)
            self._packed.setdefault(table, []).extend(packed)
        for table, columns in other._cells.items():
            for column, cells in zip(self._columns(table), columns):
                column.extend(cells)

    def _pack(self, table: str) -> None:
        """Compresses what was collected of a table since the last time."""
        columns = self._cells.pop(table, None)
        if columns is None:
            return
        pa, of = need("pyarrow", "parquet"), schema(table)
        rows = pa.RecordBatch.from_arrays(
            [pa.array(c, f.type) for c, f in zip(columns, of)], schema=of
        )
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, of, options=pa.ipc.IpcWriteOptions(compression="zstd")) as to:
            to.write_batch(rows)
        self._packed.setdefault(table, []).append(sink.getvalue().to_pybytes())

    def add_records(
        self, case: str, records: Records, rename: Callable[[str], str] | None = None
    ) -> int:
        """All records of one case; the number of events that were left out."""
        left_out = 0
        for table in SCHEMA:
            rows = records[table]
            room = EVENTS_LIMIT if table == "events" else None
            if room is not None:
                left_out = max(0, len(rows) - room)
            for cells in batches(table, rows):
                count = len(cells[0]) if room is None else min(len(cells[0]), room)
                if not count:
                    break
                room = None if room is None else room - count
                if count < len(cells[0]):
                    cells = [Column(column[:count]) for column in cells]
                self._add_batch(table, case, cells, rename)
        return left_out

    def _add_batch(
        self, table: str, case: str, cells: list[Column], rename: Callable[[str], str] | None
    ) -> None:
        columns = self._columns(table)
        columns[0] += [case] * len(cells[0])
        for (_, kind), column, values in zip(SCHEMA[table], columns[1:], cells):
            made = told(kind, values)  # what is alike is one object
            if rename is not None and kind in ("Text", "Proof", "Facts"):
                made = [value and rename(value) for value in made]
            column += made
        columns[-1] += [words or None for words in reasons_of(table, cells, text_reason, "; ")]
        if len(columns[0]) >= _TOGETHER:
            self._pack(table)

    def packed(self) -> dict[str, list[bytes]]:
        """Each table in pieces for :func:`unpacked`; one without rows is left out."""
        for table in list(self._cells):
            self._pack(table)
        return self._packed


def unpacked(pieces: Sequence[bytes]) -> Iterator[pa.Table]:
    """The Arrow tables of the pieces of one table."""
    pa = need("pyarrow", "parquet")
    for piece in pieces:
        yield pa.ipc.open_stream(piece).read_all()
