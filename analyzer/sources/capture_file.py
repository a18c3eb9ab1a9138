"""A capture of a live session: what the debugger saw of each callback, as it happened.

Invariant: a file cut at any byte loads up to the cut and says so. Standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice

from ..errors import InputError
from ..files import reason
from ..names.units import duration
from ..records import Anomaly, Callback, Evidence, Origin, Records
from . import capture_timing as timing
from .capture_format import read
from .capture_reader import CaptureReader

_MOST_EVIDENCE = 3  #: calls that are named one by one


def collect(path: str, baseline: Sequence[str] = ()) -> Records:
    """Records of one capture; ``baseline`` are captures whose durations are what is usual."""
    reader, is_whole = load(path)
    records = reader.records(os.path.getsize(path))
    if reader.end is None:
        where = "in the middle of a line" if not is_whole else "without its end line"
        records.add(
            Anomaly(
                "capture-cut",
                f"The capture stops {where}: what happened after that is not in it.",
                Origin(path, "end of the file", "certain", os.path.getsize(path)),
            )
        )
    for other in baseline:
        records.add(*compare(path, records, other))
    return records


def load(path: str) -> tuple[CaptureReader, bool]:
    """What a capture tells, and whether its last line is whole."""
    reader, is_whole = CaptureReader(path), True
    try:
        for line in read(path):
            is_whole = line.is_whole
            if line.fact is not None:
                reader.take(line.fact, line.offset, line.number)
            elif is_whole:
                reader.odd(line.offset, line.number)
    except OSError as error:
        raise InputError(path, f"the file cannot be read: {reason(error)}") from None
    return reader, is_whole


def _bound(some: timing.Statistics, word: str, ns: float) -> str:
    """One side of what the clocks leave open, which a thousandth is not worth naming."""
    median = f" (median of {some.calls} calls)" if some.calls > 1 else ""
    is_exact = some.high - some.low <= some.high / 1000
    return f"{'' if is_exact else f'{word} '}{duration(ns)}{median}"


def compare(path: str, records: Records, baseline: str) -> list[Anomaly]:
    """Callbacks of ``path`` that took longer than in a baseline."""
    found = []
    usual, here = durations_of(baseline), _durations(records)
    if here and not usual.keys() & here.keys():
        text = f"No callback of {path} is in the baseline {baseline}: nothing was compared."
        origin = Origin(path, f"compared with {baseline}")
        found.append(Anomaly("baseline-without-match", text, origin, baseline))
    for key, now in here.items():
        then = usual.get(key)
        if now is not None and then is not None and timing.is_slower(now, then):
            found.append(
                Anomaly(
                    "callback-slower-than-baseline",
                    f"{key[1]} of {key[0]} took {_bound(now, 'at least', now.low)}; in the "
                    f"baseline it took {_bound(then, 'at most', then.high)}.",
                    Origin(path, f"compared with {baseline}"),
                    key[0],
                    (Evidence("baseline", str(baseline)), *_slower(records, key, then.high)),
                    {"callback": key[1]},
                )
            )
    return found


def durations_of(path: str) -> dict[tuple[str, str], timing.Statistics | None]:
    """The durations in a capture, or in the log of one."""
    try:
        with open(path, "rb") as file:
            is_log = b"{" not in file.read(4)  # a mark of the encoding may stand before it
    except OSError as error:
        raise InputError(path, f"the file cannot be read: {reason(error)}") from None
    if not is_log:
        return _durations(collect(path))
    from . import windbg_log  # imports this module

    return _durations(windbg_log.collect(path))


def _slower(records: Records, key: tuple[str, str], usual: float) -> Iterator[Evidence]:
    """The calls that took longer than usual; the first ones of many."""
    slower = (
        row
        for row in records["callbacks"]
        if _key(row) == key and isinstance(row.duration_low_ns, int) and row.duration_low_ns > usual
    )
    for row in islice(slower, _MOST_EVIDENCE):
        exact = isinstance(row.duration_ns, int)
        field = "duration_ns" if exact else "duration_low_ns"
        yield Evidence(field, getattr(row, field), "Duration", origin=row.origin)


def _key(row: Callback) -> tuple[str, str]:
    return str(row.filter or "an unnamed filter").lower(), str(row.callback)


def _durations(records: Records) -> dict[tuple[str, str], timing.Statistics | None]:
    """(filter, callback) -> statistics of its durations."""
    bounds: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for row in records["callbacks"]:
        low, high = row.duration_low_ns, row.duration_high_ns
        if isinstance(low, int) and isinstance(high, int):
            bounds.setdefault(_key(row), []).append((low, high))
    return {key: timing.statistics(pairs) for key, pairs in bounds.items()}
