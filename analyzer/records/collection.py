"""The records of one or several sources, table by table.

Invariant: records keep the order in which they were added. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from ..absence import Absent
from .base import Anomaly, Clue, Origin
from .types import TABLES, Event, Extension, Filter, Machine

if TYPE_CHECKING:
    from typing import Any, Literal, Protocol, Union, overload

    import pandas as pd

    from . import types
    from .base import Cell
    from .dryrun import DryRun
    from .stacks import Frame, Processor, Residue

    class Bulk(Protocol):
        """Millions of rows, made when they are asked for: stands where a list could."""

        @property
        def single(self) -> list[types.Event]: ...
        def rows(self) -> Iterator[types.Event]: ...
        def batches(self) -> Iterator[list[list[Cell]]]: ...
        def frame(self) -> pd.DataFrame: ...
        def where(self, *_: Any, **wanted: Any) -> Bulk: ...
        def joined(self, rows: Rows) -> Bulk: ...
        def append(self, event: types.Event, /) -> None: ...
        def extend(self, rows: Sequence[types.Event], /) -> None: ...
        def __iter__(self) -> Iterator[types.Event]: ...
        def __len__(self) -> int: ...

    #: a table: records of one type
    Rows = Union[list[Any], Bulk]

R = TypeVar("R", Event, Extension, Filter, Machine)
_TABLE_OF = {record: name for name, record in TABLES.items()}


class Tables:
    """Tables by name, a list of records each."""

    def __init__(self) -> None:
        self.tables: dict[str, Rows] = {name: [] for name in TABLES}

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, table: Literal["sources"]) -> list[types.Source]: ...
        @overload
        def __getitem__(self, table: Literal["machine"]) -> list[types.Machine]: ...
        @overload
        def __getitem__(self, table: Literal["crashes"]) -> list[types.Crash]: ...
        @overload
        def __getitem__(self, table: Literal["modules"]) -> list[types.Module]: ...
        @overload
        def __getitem__(self, table: Literal["structures"]) -> list[types.Structure]: ...
        @overload
        def __getitem__(self, table: Literal["filters"]) -> list[types.Filter]: ...
        @overload
        def __getitem__(self, table: Literal["extensions"]) -> list[types.Extension]: ...
        @overload
        def __getitem__(self, table: Literal["callbacks"]) -> list[types.Callback]: ...
        @overload
        def __getitem__(self, table: Literal["dry_runs"]) -> list[DryRun]: ...
        @overload
        def __getitem__(self, table: Literal["stages"]) -> list[types.Stage]: ...
        @overload
        def __getitem__(self, table: Literal["requests"]) -> list[types.Request]: ...
        @overload
        def __getitem__(self, table: Literal["events"]) -> list[types.Event]: ...
        @overload
        def __getitem__(self, table: Literal["processors"]) -> list[Processor]: ...
        @overload
        def __getitem__(self, table: Literal["frames"]) -> list[Frame]: ...
        @overload
        def __getitem__(self, table: Literal["residue"]) -> list[Residue]: ...
        @overload
        def __getitem__(self, table: Literal["tags"]) -> list[types.Tag]: ...
        @overload
        def __getitem__(self, table: Literal["settings"]) -> list[types.Setting]: ...
        @overload
        def __getitem__(self, table: Literal["findings"]) -> list[types.Finding]: ...
        @overload
        def __getitem__(self, table: str) -> list[Any]: ...

    def __getitem__(self, table: str) -> Any:
        return self.tables[table]


class Records(Tables):
    """What one or several sources told: a list of records a table, and what the checks judge."""

    def __init__(self) -> None:
        super().__init__()
        self.anomalies: list[Anomaly] = []
        self.clues: list[Clue] = []

    def add(self, *records: types.Record | Anomaly | Clue) -> None:
        """Files each record under its table, what checks need under ``anomalies`` and ``clues``."""
        for record in records:
            if isinstance(record, Anomaly):
                self.anomalies.append(record)
            elif isinstance(record, Clue):
                self.clues.append(record)
            else:
                self[_TABLE_OF[type(record)]].append(record)

    def extend(self, other: Records) -> None:
        """Appends all records of another collection, keeping their order."""
        for name, rows in other.tables.items():
            if isinstance(rows, list):
                self.tables[name].extend(rows)
            else:  # a bulk table is joined without reading its rows
                self.tables[name] = rows.joined(self.tables[name])
        self.anomalies.extend(other.anomalies)
        self.clues.extend(other.clues)

    def under(self, path: str, name: str) -> Records:
        """The same records, those of ``path`` under another source name: a part of a file."""

        def moved(origin: Origin) -> Origin:
            return origin._replace(source=name) if origin.source == path else origin

        for table, rows in self.tables.items():
            self.tables[table] = [row._replace(origin=moved(row.origin)) for row in rows]
        self.tables["sources"] = [
            row._replace(path=name) if row.path == path else row for row in self["sources"]
        ]
        self.anomalies = [
            anomaly._replace(
                origin=moved(anomaly.origin),
                evidence=tuple(
                    one._replace(origin=one.origin and moved(one.origin))
                    for one in anomaly.evidence
                ),
            )
            for anomaly in self.anomalies
        ]
        self.clues = [clue._replace(origin=moved(clue.origin)) for clue in self.clues]
        return self


def untold(record: type[R], why: Absent | None, origin: Origin) -> R:
    """A record that tells nothing yet but where it is from, to be filled in."""
    return record._make([*[why] * (len(record.__annotations__) - 1), origin])


def filetime_to_ns(filetime: int) -> int | Absent:
    """A FILETIME (100 ns since 1601 UTC) as ns since 1970; absent when 0 or outside 1970..2262."""
    if not filetime:
        return Absent("unset", "the time is zero")
    ns = (filetime - 116444736000000000) * 100
    if not 0 <= ns < 1 << 63:
        return Absent("out-of-range", f"FILETIME {filetime:#x} lies outside 1970 to 2262")
    return ns
