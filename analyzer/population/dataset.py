"""The data set of a scan: a folder a table, in it a Parquet file a batch of cases.

Invariant: a batch counts once its file in ``cases`` is there, which is written last; what a killed
scan left of a batch without it is removed when the data set is opened for writing. Every file
appears under its name whole or not at all. ``batch-000000`` of each table has no rows: it states
the columns, so that a table without rows and a batch of an older version read the same.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from .. import __version__
from ..batches import grouped
from ..errors import InputError, UsageError
from ..files import reason
from . import need
from .columns import TABLES, schema, unpacked

if TYPE_CHECKING:
    import pyarrow as pa

#: moves when a column changes its meaning or goes away; new columns do not move it
SCHEMA_NUMBER = 1
MANIFEST = "dumpstart.json"
_STAGING = ".staging"
#: rows that are written together
_GROUP = 1 << 15


class DataSet:
    """A folder with the tables of many cases."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.about: dict[str, object] = {}
        self._lock: BinaryIO | None = None

    # -- opening -------------------------------------------------------------------------------

    def read(self) -> DataSet:
        """Opens it for reading."""
        path = os.path.join(self.folder, MANIFEST)
        try:
            with open(path, encoding="utf-8") as file:
                about = json.load(file)
        except FileNotFoundError:
            raise InputError(
                self.folder, "this is no data set", advice="make one with 'dumpstart scan'"
            ) from None
        except (OSError, ValueError) as error:
            raise InputError(path, f"the manifest cannot be read: {error}") from None
        number = about.get("schema") if isinstance(about, dict) else None
        if number != SCHEMA_NUMBER:
            problem = f"the data set has schema {number}, this version reads {SCHEMA_NUMBER}"
            raise InputError(self.folder, problem, advice="scan again into a new folder")
        self.about = about
        return self

    def write(self, about: dict[str, object]) -> DataSet:
        """Opens or makes it for writing; ``about`` must be as it was when it was made."""
        need("pyarrow.parquet", "parquet")
        try:
            if os.path.isdir(self.folder) and os.listdir(self.folder):
                self.read()
                for name, value in about.items():
                    if self.about.get(name) != value:
                        was = json.dumps(self.about.get(name))
                        raise UsageError(
                            f"{self.folder}: this data set was made with {name} {was}, "
                            f"not {json.dumps(value)}; use another folder."
                        )
            os.makedirs(os.path.join(self.folder, _STAGING), exist_ok=True)
            self._hold()
            self.about = {"schema": SCHEMA_NUMBER, "tool": __version__, **about}
            self._clean()
            for table in TABLES:
                os.makedirs(os.path.join(self.folder, table), exist_ok=True)
                self._put([], table, 0)
            staged = os.path.join(self.folder, _STAGING, MANIFEST)
            with open(staged, "w", encoding="utf-8") as file:
                json.dump(self.about, file, indent=1)
            os.replace(staged, os.path.join(self.folder, MANIFEST))
        except OSError as error:
            raise self._cannot(error) from None
        return self

    def close(self) -> None:
        """Lets another scan write."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _cannot(self, error: OSError) -> InputError:
        return InputError(self.folder, f"the data set cannot be written: {reason(error)}")

    def _hold(self) -> None:
        """One scan at a time; the system lets go of the lock however the scan ends."""
        self._lock = open(os.path.join(self.folder, _STAGING, "lock"), "a+b")  # noqa: SIM115
        try:
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(self._lock.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise UsageError(f"{self.folder}: another scan is writing this data set.") from None

    def _clean(self) -> None:
        """Removes what a killed scan left behind."""
        staging = os.path.join(self.folder, _STAGING)
        for name in os.listdir(staging):
            if name != "lock":
                os.remove(os.path.join(staging, name))
        whole = set(self.batches())
        for table in TABLES:
            for batch in self._batches_of(table):
                if batch and batch not in whole:
                    os.remove(self.path(table, batch))

    # -- files ---------------------------------------------------------------------------------

    def path(self, table: str, batch: int) -> str:
        """The file of a batch."""
        return os.path.join(self.folder, table, f"batch-{batch:06d}.parquet")

    def batches(self) -> list[int]:
        """The numbers of the batches that count."""
        return [batch for batch in self._batches_of("cases") if batch]

    def _batches_of(self, table: str) -> list[int]:
        try:
            names = os.listdir(os.path.join(self.folder, table))
        except FileNotFoundError:
            return []
        numbers = [n[6:-8] for n in names if n.startswith("batch-") and n.endswith(".parquet")]
        return sorted(int(number) for number in numbers if number.isdigit())

    def _put(self, tables: Iterable[pa.Table], table: str, batch: int) -> None:
        staged = os.path.join(self.folder, _STAGING, f"{table}-{batch:06d}")
        join, writer = need("pyarrow", "parquet").concat_tables, need("pyarrow.parquet", "parquet")
        with writer.ParquetWriter(staged, schema(table), compression="zstd") as to:
            for some in grouped(tables, _GROUP):
                to.write_table(join(some))
        with open(staged, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(staged, self.path(table, batch))

    def add(self, pieces: dict[str, list[bytes]]) -> int:
        """Writes one batch; it counts when this returns, and its number is given."""
        batch = max(self.batches(), default=0) + 1
        try:
            for table in TABLES:  # cases is the last
                if table == "cases" or table in pieces:
                    self._put(unpacked(pieces.get(table, ())), table, batch)
        except OSError as error:
            raise self._cannot(error) from None
        return batch

    def table(self, table: str, batch: int, columns: list[str] | None = None) -> pa.Table:
        """The rows of one table in one batch; a column that an older version lacks is null."""
        pa = need("pyarrow", "parquet")
        pq = need("pyarrow.parquet", "parquet")
        path = self.path(table, batch)
        of = schema(table)
        if columns is not None:
            of = pa.schema([of.field(name) for name in columns])
        if not os.path.exists(path):
            return of.empty_table()
        try:
            with pq.ParquetFile(path) as file:
                known = [name for name in of.names if name in file.schema_arrow.names]
                rows = file.read(columns=known)
        except (OSError, pa.ArrowException) as error:
            raise InputError(path, f"the file cannot be read: {error}") from None
        for field in of:
            if field.name not in known:
                rows = rows.append_column(field, pa.nulls(len(rows), field.type))
        return rows.select(of.names).cast(of)

    def column_rows(self, table: str, *columns: str) -> Iterator[tuple[Any, ...]]:
        """Rows of some columns of all batches, with the batch number first."""
        for batch in self.batches():
            rows = self.table(table, batch, list(columns))
            for cells in zip(*(rows[name].to_pylist() for name in columns)):
                yield (batch, *cells)

    # -- what is out of date -------------------------------------------------------------------

    def tidy(self) -> int:
        """Removes rows of places that hold something else now, and of cases tried again.

        Idempotent: killed in the middle it does the rest the next time. The number of cases
        removed.
        """
        places: dict[str, tuple[int, str]] = {}
        old_places: set[tuple[int, str]] = set()
        for batch, location, case in self.column_rows("locations", "location", "case"):
            if location is not None:
                if location in places:
                    old_places.add((places[location][0], location))
                places[location] = (batch, case)
        cases: dict[str, int] = {}
        old_cases: set[tuple[int, str]] = set()
        for batch, case in self.column_rows("cases", "case"):
            if case in cases:
                old_cases.add((cases[case], case))
            cases[case] = batch
        if old_places:
            held = {case for _, case in places.values()}
            old_cases |= {(batch, case) for case, batch in cases.items() if case not in held}
        for batch in sorted({batch for batch, _ in old_places | old_cases}):
            self._without(
                batch,
                {case for b, case in old_cases if b == batch},
                {place for b, place in old_places if b == batch},
            )
        return len(old_cases)

    def _without(self, batch: int, cases: set[str], places: set[str]) -> None:
        pa = need("pyarrow", "parquet")
        # The rows that make rows out of date go last: until then another try finds the same.
        for table in [*(t for t in TABLES if t != "locations"), "locations"]:
            if not os.path.exists(self.path(table, batch)):
                continue
            rows = self.table(table, batch)
            if table == "locations":
                keep = [place not in places for place in rows["location"].to_pylist()]
            else:
                keep = [case not in cases for case in rows["case"].to_pylist()]
            if not all(keep):
                self._put([rows.filter(pa.array(keep, pa.bool_()))], table, batch)
