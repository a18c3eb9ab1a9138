"""The records of one or several sources, table by table.

Invariant: records keep the order in which they were added. Standard library only.
"""

from __future__ import annotations

from typing import Any

from ..absence import Absent
from .base import Anomaly, Clue
from .types import TABLES

_TABLE_OF = {record: name for name, record in TABLES.items()}


class Records:
    """What one or several sources told: a list of records a table, and what the checks judge."""

    def __init__(self) -> None:
        self.tables: dict[str, list[Any]] = {name: [] for name in TABLES}
        self.anomalies: list[Anomaly] = []
        self.clues: list[Clue] = []

    def add(self, *records: Any) -> None:
        """Files each record under its table, what checks need under ``anomalies`` and ``clues``."""
        for record in records:
            if isinstance(record, Anomaly):
                self.anomalies.append(record)
            elif isinstance(record, Clue):
                self.clues.append(record)
            else:
                self.tables[_TABLE_OF[type(record)]].append(record)

    def extend(self, other: Records) -> None:
        """Appends all records of another collection, keeping their order."""
        rows: Any
        for name, rows in other.tables.items():
            if isinstance(rows, list):
                self.tables[name].extend(rows)
            else:  # a bulk table is joined without reading its rows
                self.tables[name] = rows.joined(self.tables[name])
        self.anomalies.extend(other.anomalies)
        self.clues.extend(other.clues)

    def __getitem__(self, table: str) -> list[Any]:
        return self.tables[table]


def filetime_to_ns(filetime: int) -> int | Absent:
    """A FILETIME (100 ns since 1601 UTC) as ns since 1970; absent when 0 or outside 1970..2262."""
    if not filetime:
        return Absent("unset", "the time is zero")
    ns = (filetime - 116444736000000000) * 100
    if not 0 <= ns < 1 << 63:
        return Absent("out-of-range", f"FILETIME {filetime:#x} lies outside 1970 to 2262")
    return ns
