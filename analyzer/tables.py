"""Records as tables: one schema, JSON rows and pandas frames.

Invariant: :data:`SCHEMA` is read off the annotations of the record types, so there is no second
list of columns. A 64-bit value never becomes a float, and what is absent stays absent with its
reason. Standard library only, except inside :func:`frame`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone
from itertools import repeat
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from .absence import Absent, is_absent
from .errors import UsageError
from .records import TABLES, Origin

if TYPE_CHECKING:
    import pandas as pd

#: how each field of a record's Origin is called as a column
ORIGIN_COLUMNS = {
    "source": "source",
    "how": "found_by",
    "confidence": "confidence",
    "file_offset": "file_offset",
    "address": "at_address",
}
#: last column of every frame and CSV: "column: reason; column: reason"
REASONS_COLUMN = "not_determined"

#: the integers each kind can hold
_RANGE = {
    "Address": (0, (1 << 64) - 1),
    "Big": (0, (1 << 64) - 1),
    "Code": (0, (1 << 32) - 1),
    "Number": (-(1 << 63), (1 << 63) - 1),
    "Duration": (-(1 << 63), (1 << 63) - 1),
    "Time": (1 - (1 << 63), (1 << 63) - 1),  # the lowest value is pandas' NaT
}
_HEX_DIGITS = {"Address": 16, "Big": 16, "Code": 8}
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Column(NamedTuple):
    """One column: its name and its kind (an alias name of :mod:`analyzer.records`)."""

    name: str
    kind: str


def _kind(annotation: Any) -> str:
    name = str(getattr(annotation, "__forward_arg__", annotation))
    return "Text" if name in ("str", str(str)) else name


def _columns(record: Any) -> tuple[Column, ...]:
    own = [Column(n, _kind(a)) for n, a in record.__annotations__.items() if n != "origin"]
    place = [Column(ORIGIN_COLUMNS[n], _kind(a)) for n, a in Origin.__annotations__.items()]
    return tuple(own + place)


#: table name -> its columns, the record's own first, then where the row comes from
SCHEMA: dict[str, tuple[Column, ...]] = {name: _columns(record) for name, record in TABLES.items()}

#: record type -> field -> kind, for who shows single fields
FIELD_KINDS = {record: dict(SCHEMA[name]) for name, record in TABLES.items()}


def rows_of(rows: Any) -> Iterable[Any]:
    """The records of a table value: a list of records, or a bulk object with ``rows()``."""
    return rows.rows() if hasattr(rows, "rows") else rows  # type: ignore[no-any-return]


def examples(rows: Any) -> Iterator[Any]:
    """Rows among which each kind of row is found: all of them, or of millions one of each kind."""
    for part in getattr(rows, "parts", [rows_of(rows)]):
        yield from part.kinds()[0] if hasattr(part, "kinds") else part


def alike(rows: Any, *fields: str) -> list[tuple[Any, int]]:
    """The first row of each combination of some fields, and how many rows have it.

    The fields must not be such in which single calls differ (times, numbers); millions of calls
    are looked at by their kinds.
    """
    found: dict[tuple[Any, ...], list[Any]] = {}
    for part in getattr(rows, "parts", [rows_of(rows)]):
        if hasattr(part, "kinds"):
            firsts, counts, _ = part.kinds()
        else:
            firsts, counts = part, repeat(1)
        for row, count in zip(firsts, counts):
            key = tuple([getattr(row, name) for name in fields])
            found.setdefault(key, [row, 0])[1] += count
    return [(row, count) for row, count in found.values()]


def select(rows: Any, wanted: Callable[[Any], bool]) -> Any:
    """The rows of which ``wanted`` holds; it must not look at what differs from call to call."""
    if hasattr(rows, "parts"):
        return rows.where(wanted)
    return [row for row in rows_of(rows) if wanted(row)]


def numbers(rows: Any, name: str) -> Any:
    """The numbers of a column that are there, in order: a list, or an array of numpy."""
    found: list[Any] = []
    for part in getattr(rows, "parts", [rows_of(rows)]):
        if hasattr(part, "kinds"):
            firsts, _, codes = part.kinds()
            is_there = [not is_absent(getattr(row, name)) for row in firsts]
            found.append(part.column(name)[_taken(is_there, codes)])
        else:
            own = [value for value in (getattr(row, name) for row in part) if not is_absent(value)]
            found += [own] if own else []
    if len(found) < 2:
        return found[0] if found else []
    import numpy as np

    return np.concatenate([np.asarray(part) for part in found])


def _taken(values: list[Any], codes: Any) -> Any:
    import numpy as np

    return np.array(values)[codes]


def values(record: Any) -> list[Any]:
    """The cells of one record in the order of its table's columns."""
    return [*record[:-1], *record.origin]


def checked(kind: str, value: Any) -> Any:
    """The value, or None or an :class:`Absent` when there is none that the kind can hold."""
    if value is None or isinstance(value, Absent):
        return value
    if kind == "Text":
        return str(value).encode("utf-8", "backslashreplace").decode("utf-8")
    if kind == "Flag":
        return bool(value)
    if kind == "Real":
        return float(value) if math.isfinite(value) else Absent("out-of-range", f"stored {value}")
    value, (low, high) = int(value), _RANGE[kind]
    if low <= value <= high:
        return value
    return Absent("out-of-range", f"the value {value:#x} does not fit the column")


def iso_time(ns: int) -> str:
    """Time in ns since 1970 as ISO 8601 UTC with 100 ns digits, the resolution of Windows."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}.{rest // 100:07d}Z"


def parsed_time(text: str) -> int:
    """The ns since 1970 of a time as :func:`iso_time` writes it; the time of day may be cut."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d)(?:[T ]([\d:]{2,8})(?:\.(\d{1,9}))?)?Z?", text.strip())
    if match is None:
        raise UsageError(f"'{text}' is no UTC time such as 2026-03-01T10:20:30.5Z")
    day, clock, fraction = match.groups()
    try:
        time = datetime.fromisoformat(f"{day}T{clock or '00'}+00:00")
    except ValueError as error:
        raise UsageError(f"'{text}' is no UTC time: {error}") from None
    seconds = (time - _EPOCH) // timedelta(seconds=1)
    return seconds * 1_000_000_000 + int((fraction or "0").ljust(9, "0"))


def plain(kind: str, value: Any) -> Any:
    """A checked value as JSON has it: addresses, codes and times are strings, absent is None."""
    if value is None or isinstance(value, Absent):
        return None
    if kind in _HEX_DIGITS:
        return f"0x{value:0{_HEX_DIGITS[kind]}x}"
    return iso_time(value) if kind == "Time" else value


def json_rows(table: str, rows: Any) -> Iterator[dict[str, Any]]:
    """One dictionary per record; ``absent`` holds the reason of each null that has one."""
    columns = SCHEMA[table]
    for record in rows_of(rows):
        row: dict[str, Any] = {}
        reasons: dict[str, str] = {}
        for (name, kind), value in zip(columns, values(record)):
            value = checked(kind, value)
            row[name] = plain(kind, value)
            if isinstance(value, Absent):
                reasons[name] = str(checked("Text", str(value)))
        row["absent"] = reasons
        yield row


def reasons_text(reasons: dict[str, str]) -> Any:
    """The reasons of one row in one cell, None when there are none."""
    return "; ".join(f"{name}: {reason}" for name, reason in reasons.items()) or None


def frame(table: str, rows: Any) -> pd.DataFrame:
    """A DataFrame with the same column types whatever the rows hold, even none."""
    if hasattr(rows, "frame"):
        return rows.frame()  # type: ignore[no-any-return]
    import pandas as pd

    bulk = next((part for part in getattr(rows, "parts", ()) if hasattr(part, "kinds")), None)
    if bulk is not None:
        return _bulk(table, rows.parts, bulk.varying)
    columns = SCHEMA[table]
    cells: list[list[Any]] = [[] for _ in columns]
    reasons: list[Any] = []
    for record in rows_of(rows):
        row_reasons = {}
        for (name, kind), column, value in zip(columns, cells, values(record)):
            value = checked(kind, value)
            if isinstance(value, Absent):
                row_reasons[name] = str(checked("Text", str(value)))
                value = None
            column.append(value)
        reasons.append(reasons_text(row_reasons))
    data = {c.name: series_data(c.kind, column) for c, column in zip(columns, cells)}
    data[REASONS_COLUMN] = series_data("Text", reasons)
    return pd.DataFrame(data)


def _bulk(table: str, parts: list[Any], varying: Iterable[str]) -> pd.DataFrame:
    """The frame of calls that are kept as columns: what a kind has in common is said once.

    A row of a part that is a list is a kind of its own.
    """
    import numpy as np
    import pandas as pd

    firsts: list[Any] = []
    pieces = []  # part, its first kind, the kind of each row
    for part in parts:
        rows, _, codes = part.kinds() if hasattr(part, "kinds") else (part, 0, range(len(part)))
        pieces.append((part, len(firsts), np.asarray(codes, np.intp) + len(firsts)))
        firsts += rows
    kinds = frame(table, firsts)
    place = np.concatenate([codes for _, _, codes in pieces])
    data: dict[str, Any] = {}
    for name in kinds.columns:
        common = kinds[name].array
        if name not in varying:
            data[name] = common.take(place)
            continue
        is_time = isinstance(common, pd.arrays.DatetimeArray)
        dtype = np.dtype("i8") if is_time else common.dtype.numpy_dtype
        column = np.empty(len(place), dtype)
        at = 0
        for part, first, codes in pieces:
            if hasattr(part, "kinds"):
                own = part.column(name)
            else:
                some = common[first : first + len(codes)]
                own = some.asi8 if is_time else some.to_numpy(dtype, na_value=0)
            column[at : at + len(codes)] = own
            at += len(codes)
        missing = np.asarray(common.isna())[place]
        column[missing] = np.iinfo("i8").min if is_time else 0  # the lowest time is NaT
        if is_time:
            data[name] = pd.DatetimeIndex(column.view("M8[ns]")).tz_localize("UTC")
        else:
            data[name] = pd.arrays.IntegerArray(column, missing)
    return pd.DataFrame(data, copy=False)


def series_data(kind: str, column: list[Any]) -> Any:
    """The pandas array of one column; None is missing."""
    import numpy as np
    import pandas as pd

    if kind == "Text":  # storage named, else it depends on whether pyarrow is installed
        return pd.array(column, dtype=pd.StringDtype("python"))
    missing = np.fromiter((v is None for v in column), bool, len(column))
    # Built from data and mask: a list with a gap would go through float64 and lose address bits.
    dtype = {
        "Address": "u8",
        "Big": "u8",
        "Code": "u4",
        "Flag": "?",
        "Real": "f8",
    }.get(kind, "i8")
    numbers = np.array([0 if v is None else v for v in column], dtype)
    if kind == "Time":
        times = numbers.view("M8[ns]")
        times[missing] = np.datetime64("NaT", "ns")
        return pd.DatetimeIndex(times).tz_localize("UTC")
    if kind == "Flag":
        return pd.arrays.BooleanArray(numbers, missing)
    if kind == "Real":
        return pd.arrays.FloatingArray(numbers, missing)
    return pd.arrays.IntegerArray(numbers, missing)
