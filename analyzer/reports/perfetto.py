"""The timeline as a Chrome trace (JSON), for ui.perfetto.dev and chrome://tracing.

Invariant: one slice per row that has a time, its category the name of its table; slices of a track
never overlap, because the format cannot show that: a lane gets as many tracks as it needs. Times
are microseconds from the earliest one, with fractions down to the nanosecond.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .. import __version__
from ..records import Records
from . import timeline

MOST_EVENTS = 200_000
_PROCESS = 1


def write(records: Records) -> Iterator[str]:
    """The trace, one event a line."""
    told = timeline.build(records, MOST_EVENTS)
    first = min((s.start_ns for s in told.slices), default=0)
    first = min(first, 0)
    head = {
        "displayTimeUnit": "ns",
        "otherData": {
            "tool": f"dumpstart {__version__}",
            "crash": told.zero,
            "crash_at_us": str(_us(-first)),
            **{f"{table}_without_a_time": str(n) for table, n in told.untimed.items()},
            "events_left_out": str(told.left_out),
        },
    }
    yield json.dumps(head)[:-1] + ', "traceEvents": [\n'
    yield json.dumps(_name("process_name", 0, "crash dump"))
    track = 0
    for lane, slices in told.lanes().items():
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
    crash = {"ph": "i", "s": "g", "name": "crash", "cat": "crash", "pid": _PROCESS, "tid": 0}
    yield ",\n" + json.dumps({**crash, "ts": _us(-first)}) + "\n]}\n"


def _name(kind: str, track: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": _PROCESS, "tid": track, "args": {"name": name}}


def _slice(one: timeline.Slice, track: int, first: int) -> dict[str, Any]:
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
