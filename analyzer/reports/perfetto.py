"""The timeline as a Chrome trace (JSON), for ui.perfetto.dev and chrome://tracing.

Invariant: one slice per row that can be placed, its category the name of its table, and a count of
those that cannot, by table; slices of a track never overlap, because the format cannot show that: a
lane gets as many tracks as it needs. Times are microseconds from the earliest one, and give back
every nanosecond. Perfetto's trace processor is held to this in tests/test_perfetto.py.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from .. import __version__
from ..records import Records
from . import timeline

MOST_EVENTS = 200_000
_PROCESS = 1
#: to Perfetto, track 0 is the idle task, and the track with the process's number its main thread
_FIRST_TRACK = _PROCESS + 1
#: readers keep times as doubles of microseconds; from 2**43 on these lose nanoseconds
FARTHEST_NS = 50 * 86_400 * 1_000_000_000


def write(records: Records) -> Iterator[str]:
    """The trace, one event a line."""
    told = timeline.build(records, MOST_EVENTS)
    near = [s for s in told.slices if -FARTHEST_NS <= s.start_ns <= s.end_ns <= FARTHEST_NS]
    far = Counter(s.table for s in told.slices) - Counter(s.table for s in near)
    first = min((s.start_ns for s in near), default=0)
    first = min(first, 0)
    left_out = {f"{table} without a time": n for table, n in told.untimed.items()}
    left_out.update({f"{table} more than 50 days away": n for table, n in far.items()})
    if told.left_out:
        left_out["events, being too many"] = told.left_out
    head = {
        "displayTimeUnit": "ns",
        "otherData": {
            "tool": f"dumpstart {__version__}",
            "time_0": told.zero,
            "time_0_at_us": str(_us(-first)),
            **{f"left out: {what}": str(n) for what, n in left_out.items()},
        },
    }
    yield json.dumps(head)[:-1] + ', "traceEvents": [\n'
    yield json.dumps(_name("process_name", 0, "crash dump"))
    yield ",\n" + json.dumps(_name("thread_name", _FIRST_TRACK, "time 0"))
    # Perfetto shows nothing of otherData, so the mark says it, too.
    mark: dict[str, object] = {"ph": "i", "s": "t", "name": told.zero, "cat": "time 0"}
    mark.update(ts=_us(-first), pid=_PROCESS, tid=_FIRST_TRACK, args={"left out": left_out})
    yield ",\n" + json.dumps(mark)
    track = _FIRST_TRACK
    for lane, slices in told._replace(slices=near).lanes().items():
        tracks = timeline.stacked(slices)
        for number in range(max(tracks) + 1):
            name = lane if not number else f"{lane} ({number + 1})"
            yield ",\n" + json.dumps(_name("thread_name", track + number + 1, name))
            order = {"ph": "M", "name": "thread_sort_index", "pid": _PROCESS}
            order.update(tid=track + number + 1, args={"sort_index": track + number})
            yield ",\n" + json.dumps(order)
        for one, number in zip(slices, tracks):
            yield ",\n" + json.dumps(_slice(one, track + number + 1, first))
        track += max(tracks) + 1
    yield "\n]}\n"


def _name(kind: str, track: int, name: str) -> dict[str, object]:
    return {"ph": "M", "name": kind, "pid": _PROCESS, "tid": track, "args": {"name": name}}


def _slice(one: timeline.Slice, track: int, first: int) -> dict[str, object]:
    name = f"{one.name} (at most)" if one.kind == timeline.BOUND else one.name
    return {
        "ph": "X",
        "name": name,
        "cat": one.table,
        "ts": _us(one.start_ns - first),
        "dur": _us(one.end_ns - one.start_ns),
        "pid": _PROCESS,
        "tid": track,
        "args": {"row": one.row, "outcome": timeline.KINDS[one.kind], "detail": one.detail},
    }


def _us(ns: int) -> float | int:
    return ns // 1000 if ns % 1000 == 0 else ns / 1000
