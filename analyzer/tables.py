"""Records as tables: one schema, JSON rows and pandas frames; the words of evidence.

Invariant: :data:`SCHEMA` is read off the annotations of the record types, so there is no second
list of columns. A 64-bit value never becomes a float, and what is absent stays absent with its
reason. Standard library only, except inside :func:`frame`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from .absence import Absent, is_absent
from .errors import UsageError
from .files import called
from .records import TABLES, Evidence, Finding, Origin, Record

if TYPE_CHECKING:
    import pandas as pd

    from .records.collection import Rows

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
INTEGERS = {
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
    return "Text" if annotation is str else str(annotation.__metadata__[0])


def _columns(record: type[Record]) -> tuple[Column, ...]:
    own = [Column(n, _kind(a)) for n, a in record.__annotations__.items() if n != "origin"]
    return (*own, *_columns_of_origin())


def _columns_of_origin() -> Iterator[Column]:
    return (Column(ORIGIN_COLUMNS[n], _kind(a)) for n, a in Origin.__annotations__.items())


#: table name -> its columns, the record's own first, then where the row comes from
SCHEMA: dict[str, tuple[Column, ...]] = {name: _columns(record) for name, record in TABLES.items()}

#: record type -> field -> kind, for who shows single fields
FIELD_KINDS = {record: dict(SCHEMA[name]) for name, record in TABLES.items()}


def rows_of(rows: Rows) -> Iterable[Record]:
    """The records of a table value: a list of records, or a bulk object with ``rows()``."""
    return rows if isinstance(rows, list) else rows.rows()


def values(record: Record) -> list[object]:
    """The cells of one record in the order of its table's columns."""
    return [*record[:-1], *record.origin]


def checked(kind: str, value: Any) -> Any:
    """The value, or None or an :class:`Absent` when there is none that the kind can hold."""
    if value is None or isinstance(value, Absent):
        return value
    if kind == "Text":
        return str(value).encode("utf-8", "backslashreplace").decode("utf-8")
    if kind in ("Proof", "Facts"):
        return value
    if kind == "Flag":
        return bool(value)
    if kind == "Real":
        return float(value) if math.isfinite(value) else Absent("out-of-range", f"stored {value}")
    value, (low, high) = int(value), INTEGERS[kind]
    if low <= value <= high:
        return value
    return Absent("out-of-range", f"the value {value:#x} does not fit the column")


def iso_time(ns: int) -> str:
    """Time in ns since 1970 as ISO 8601 UTC with 100 ns digits, the resolution of Windows."""
    return iso_times([ns])[0]


def iso_times(times: Iterable[int]) -> list[str]:
    """The same of many times; neighbours mostly lie in one second."""
    out, second, head = [], 1 << 70, ""
    for ns in times:
        rest = ns - second
        if not 0 <= rest < 1_000_000_000:
            seconds, rest = divmod(ns, 1_000_000_000)
            second, head = ns - rest, _iso_second(seconds)
        out.append(f"{head}.{str(1_000_000_000 + rest)[1:8]}Z")  # quicker than :07d
    return out


@lru_cache(maxsize=64)
def _iso_second(seconds: int) -> str:
    """Kept, because a trace has thousands of events in a second."""
    return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}"


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
    if kind == "Proof":
        return [_evidence_object(piece) for piece in value]
    if kind == "Facts":
        return {name: plain("Text", checked("Text", one)) if isinstance(one, str) else one
                for name, one in value.items() if not is_absent(one)}  # fmt: skip
    return iso_time(value) if kind == "Time" else value


def _evidence_object(piece: Evidence) -> dict[str, object]:
    """A piece of evidence as JSON has it."""
    value = checked(piece.kind, piece.value)
    found: dict[str, object] = {
        "label": checked("Text", piece.label),
        "value": plain(piece.kind, value),
        "words": checked("Text", piece.words),
    }
    if isinstance(value, Absent):
        found["absent"] = checked("Text", str(value))
    if piece.origin is not None:
        columns = zip(_columns_of_origin(), piece.origin)
        found.update((c.name, plain(c.kind, checked(c.kind, cell))) for c, cell in columns)
    return found


def evidence_lines(finding: Finding) -> list[str]:
    """The evidence of a finding, a line each: "label = value (words) (where it was read)".

    The one place that words it. A line names its source where the evidence is of several.
    """
    pieces = finding.evidence or ()
    several = len({p.origin.source for p in pieces if p.origin is not None}) > 1
    return [_evidence_line(piece, several) for piece in pieces]


def _evidence_line(piece: Evidence, names_source: bool) -> str:
    line = shown(piece.kind, piece.value)
    if piece.label:
        line = f"{piece.label} = {line}"
    if piece.words:
        line += f" ({piece.words})"
    if piece.origin is None:
        return line
    if names_source:
        return f"{called(piece.origin.source)}: {line}"
    return f"{line} ({where(piece.origin)})"


def shown(kind: str, value: object) -> str:
    """A value the way the tables show it, or why there is none."""
    value = checked(kind, value)
    if is_absent(value):
        return "not determined" if value is None else f"not determined ({value})"
    return str(plain(kind, value))


def where(origin: Origin) -> str:
    """Where a record was read: address and file offset, or without both how it was found."""
    if not is_absent(origin.address):
        at = f"record at 0x{origin.address:016x}"
        return at if is_absent(origin.file_offset) else f"{at}, file offset {origin.file_offset:#x}"
    if not is_absent(origin.file_offset):
        return f"{origin.how} at file offset {origin.file_offset:#x}"
    return origin.how


def one_cell(kind: str, value: object) -> object:
    """What a cell of a CSV or a DataFrame holds of a plain value: lists and objects as JSON."""
    if kind not in ("Proof", "Facts") or value is None:
        return value
    import json  # takes longer than most reports need it

    return json.dumps(value)


def json_rows(table: str, rows: Rows) -> Iterator[dict[str, Any]]:
    """One dictionary per record; ``absent`` holds the reason of each null that has one."""
    columns = SCHEMA[table]
    for record in rows_of(rows):
        row: dict[str, object] = {}
        reasons: dict[str, str] = {}
        for (name, kind), value in zip(columns, values(record)):
            value = checked(kind, value)
            row[name] = plain(kind, value)
            if isinstance(value, Absent):
                reasons[name] = str(checked("Text", str(value)))
        row["absent"] = reasons
        yield row


def reasons_text(reasons: dict[str, str]) -> str | None:
    """The reasons of one row in one cell, None when there are none."""
    return "; ".join(f"{name}: {reason}" for name, reason in reasons.items()) or None


def frame(table: str, rows: Rows) -> pd.DataFrame:
    """A DataFrame with the same column types whatever the rows hold, even none."""
    if not isinstance(rows, list):
        return rows.frame()
    turned = list(zip(*map(values, rows_of(rows))))
    checks = [[checked(kind, v) for v in col] for (_, kind), col in zip(SCHEMA[table], turned)]
    return frame_of(table, checks)


def frame_of(table: str, cells: Sequence[Sequence[object]]) -> pd.DataFrame:
    """The frame of some checked columns; without any, one of no rows."""
    import pandas as pd

    columns = SCHEMA[table]
    cells = cells or [[] for _ in columns]
    reasons: list[dict[str, str]] = [{} for _ in cells[0]]
    data = {}
    for (name, kind), column in zip(columns, cells):
        there = list(column)
        if Absent in set(map(type, column)):
            words: dict[Absent, str] = {}  # there are few
            for place, value in enumerate(column):
                if isinstance(value, Absent):
                    if value not in words:
                        words[value] = str(checked("Text", str(value)))
                    reasons[place][name] = words[value]
                    there[place] = None
        if kind in ("Proof", "Facts"):
            there = [one_cell(kind, plain(kind, value)) for value in there]
        data[name] = series_data(kind, there)
    data[REASONS_COLUMN] = series_data("Text", [reasons_text(row) for row in reasons])
    return pd.DataFrame(data)


def series_data(
    kind: str, column: Sequence[Any]
) -> pd.api.extensions.ExtensionArray | pd.DatetimeIndex:
    """The pandas array of one column; None is missing."""
    import numpy as np
    import pandas as pd

    if kind in ("Text", "Proof", "Facts"):
        # storage named, else it depends on whether pyarrow is installed
        return pd.array(column, dtype=pd.StringDtype("python"))
    missing = np.fromiter((v is None for v in column), bool, len(column))
    # Built from data and mask: a list with a gap would go through float64 and lose address bits.
    dtype = {"Address": "u8", "Big": "u8", "Code": "u4", "Flag": "?", "Real": "f8"}.get(kind, "i8")
    numbers = np.array([0 if v is None else v for v in column], dtype)
    if kind == "Time":
        times = numbers.view("M8[ns]")
        times[missing] = np.datetime64("NaT", "ns")
        return pd.DatetimeIndex(times).tz_localize("UTC")
    if kind == "Flag":
        return pd.arrays.BooleanArray(numbers, missing)
    if kind == "Real":
        return pd.arrays.FloatingArray(numbers, missing)
    if kind in _HEX_DIGITS:
        from .hexadecimal import HexArray

        return HexArray(numbers, missing)
    return pd.arrays.IntegerArray(numbers, missing)
