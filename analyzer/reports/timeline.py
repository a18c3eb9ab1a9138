"""What happened when: everything that has a time, as slices in lanes around the crash.

Invariant: a slice is one row of one table, named by it; time 0 is the crash as the row's own source
states it, and what that is stands in :attr:`Timeline.zero`. A row without a time is counted, never
placed; a bound is marked as one, never drawn as a duration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from .. import formatting as fmt
from ..absence import first_present, is_absent
from ..checks.storage import SRB_NOT_FAILED, SRB_STATUS_MASK
from ..files import called
from ..names import ntstatus
from ..records import Records
from ..tables import iso_time

MOST_EVENTS = 2000
#: a viewer takes no more; a capture may hold millions
MOST_CALLS = 20_000
_AROUND_NS = 60_000_000_000  # of a long trace, the events from a minute before the crash on

OK, FAILED, OPEN, BOUND, UNKNOWN = "ok", "failed", "open", "bound", "unknown"
RECORDED = "recorded"
#: kind -> what a reader is told
KINDS = {
    OK: "succeeded",
    FAILED: "failed",
    OPEN: "not finished",
    BOUND: "at most this long",
    UNKNOWN: "status not determined",
    RECORDED: "recorded",
}


class Slice(NamedTuple):
    """One row with a time; ``end_ns`` equals ``start_ns`` for a moment."""

    lane: str
    name: str
    start_ns: int  #: from the crash, negative before it
    end_ns: int
    kind: str  #: a key of KINDS
    table: str
    row: int  #: 0-based row of its table
    detail: str


class Timeline(NamedTuple):
    """All slices, by lane then start."""

    slices: list[Slice]
    zero: str  #: what time 0 is, in words
    untimed: dict[str, int]  #: table -> rows that have no time
    left_out: int = 0  #: events and calls not shown because there are too many

    def lanes(self) -> dict[str, list[Slice]]:
        """The slices of each lane, in the order of the crash story."""
        found: dict[str, list[Slice]] = {}
        for one in self.slices:
            found.setdefault(one.lane, []).append(one)
        return found


def stacked(slices: Iterable[Slice]) -> list[int]:
    """For each slice of a lane, by start, the first track on which it overlaps no other."""
    free: list[int] = []  # the end of the last slice of each track
    tracks = []
    for one in slices:
        track = next((t for t, end in enumerate(free) if end <= one.start_ns), len(free))
        free[track : track + 1] = [one.end_ns]
        tracks.append(track)
    return tracks


def build(records: Records, events: int = MOST_EVENTS) -> Timeline:
    """The timeline of some records; at most ``events`` rows of the table events."""
    clock = _Clock(records)
    slices: list[Slice] = []
    untimed: dict[str, int] = {}
    more = 0
    for table, place in (("stages", _stage), ("callbacks", _callback), ("requests", _request)):
        most = MOST_CALLS if table == "callbacks" else None
        more += max(0, len(records[table]) - MOST_CALLS) if most else 0
        for row, record in enumerate(islice(records[table], most)):
            slice_ = place(record, row, clock)
            if slice_ is None:
                untimed[table] = untimed.get(table, 0) + 1
            else:
                slices.append(slice_)
    shown, left_out, without = _events(records, clock, events)
    if without:
        untimed["events"] = without
    order = {lane: place for place, lane in enumerate(dict.fromkeys(s.lane for s in slices))}
    slices.sort(key=lambda s: (order[s.lane], s.start_ns, -s.end_ns))
    return Timeline(slices + shown, clock.words(), untimed, left_out + more)


class _Clock:
    """Time 0 of each source."""

    def __init__(self, records: Records) -> None:
        machines = records["machine"]
        self._own: dict[str, int] = {}
        for machine in machines:
            if not is_absent(machine.system_time):
                self._own.setdefault(machine.origin.source, machine.system_time)
        self.crash = first_present(m.system_time for m in machines)
        self._first: int | None = None
        if self.crash is None:
            times = [c.entry_time for c in records["callbacks"] if not is_absent(c.entry_time)]
            times += [t for r in records["requests"] for t in (r.start, r.end) if not is_absent(t)]
            times += [s.time for s in records["stages"] if not is_absent(s.time)]
            if not times:
                first = (e.time for e in islice(iter(records["events"]), 1))
                times = [t for t in first if not is_absent(t)]
            self._first = min(times, default=None)
        self._several = len(records["sources"]) > 1

    def lane(self, source: str, *parts: str) -> str:
        name = " ".join(filter(None, parts))
        if not self._several:
            return name
        return f"{fmt.clean(called(source), 40)}: {name}"

    def at(self, source: str, time: Any) -> int | None:
        """The time from the crash in ns; None when there is no time or nothing to compare with."""
        if is_absent(time):
            return None
        zero = self._own.get(source, self.crash if self.crash is not None else self._first)
        return None if zero is None else int(time - zero)

    def words(self) -> str:
        if len(set(self._own.values())) > 1:
            return "the crash that each file is of"
        if self.crash is not None:
            return f"the crash, {iso_time(self.crash)}"
        if self._first is not None:
            return f"the first time that was recorded, {iso_time(self._first)}"
        return "the moment the bugcheck began"


def _stage(stage: Any, row: int, clock: _Clock) -> Slice | None:
    source = stage.origin.source
    lane = clock.lane(source, "writing the dump")
    name = fmt.field(stage, "stage", "step")
    detail = fmt.fields(stage, "text")
    if isinstance(stage.elapsed_ms, int):
        start = stage.elapsed_ms * 1_000_000
        if stage.stage == "dump-start-upper-bound":
            lane = clock.lane(source, "until the dump log begins")
            return Slice(lane, name, 0, start, BOUND, "stages", row, detail)
    else:
        at = clock.at(source, stage.time)
        if at is None:
            return None
        start = at
    length = stage.duration_ms * 1_000_000 if isinstance(stage.duration_ms, int) else 0
    kind = RECORDED if is_absent(stage.status) else _ntstatus(stage.status)
    return Slice(lane, name, start, start + max(length, 0), kind, "stages", row, detail)


def _callback(call: Any, row: int, clock: _Clock) -> Slice | None:
    source = call.origin.source
    start = clock.at(source, call.entry_time)
    if start is None:
        return None
    cpu = "" if is_absent(call.processor) else f"(processor {call.processor})"
    lane = clock.lane(source, fmt.field(call, "filter", "a filter"), cpu)
    kind, length = _ntstatus(call.status), 0
    if not is_absent(call.duration_ns):
        length = call.duration_ns
        took = f"took {fmt.duration(length)}"
    elif not is_absent(call.duration_high_ns):
        length, kind = call.duration_high_ns, kind if kind == FAILED else BOUND
        took = f"took at most {fmt.duration(length)}"
    else:
        took = "duration not determined"
    status = fmt.code(call, "status")
    detail = ", ".join(filter(None, (took, f"returned {status}" if status else KINDS[UNKNOWN])))
    name = fmt.field(call, "callback", "callback")
    return Slice(lane, name, start, start + max(length, 0), kind, "callbacks", row, detail)


def _request(request: Any, row: int, clock: _Clock) -> Slice | None:
    source = request.origin.source
    start, end = clock.at(source, request.start), clock.at(source, request.end)
    if start is None and end is None:
        return None
    status = fmt.fields(request, "status_name") or fmt.field(request, "status", "")
    if request.in_flight is True and start is not None:
        kind, end = OPEN, start if clock.crash is None else max(0, start)
        detail = "not finished"
        if clock.crash is not None:
            detail = f"open for {fmt.duration(end - start)} when the machine crashed"
    elif start is None or end is None:
        start = end = end if start is None else start
        kind, detail = request_kind(request), "only one of its times is recorded"
    else:
        kind = request_kind(request)
        detail = f"took {fmt.duration(end - start)}"
    assert start is not None
    assert end is not None
    lane = clock.lane(source, "storage requests")
    name = fmt.field(request, "operation", "request")
    detail = ", ".join(filter(None, (detail, status)))
    return Slice(lane, name, start, max(start, end), kind, "requests", row, detail)


def request_kind(request: Any) -> str:
    """How a storage request ended."""
    if request.in_flight is True:
        return OPEN
    if is_absent(request.status):
        return UNKNOWN
    if str(request.status_name or "").startswith("SRB_"):
        good = (int(request.status) & SRB_STATUS_MASK) in SRB_NOT_FAILED
        return OK if good else FAILED
    return _ntstatus(request.status)


def _ntstatus(status: Any) -> str:
    if is_absent(status):
        return UNKNOWN
    return FAILED if ntstatus.is_failure(int(status) & 0xFFFFFFFF) else OK


def _events(records: Records, clock: _Clock, most: int) -> tuple[list[Slice], int, int]:
    """The events to show, how many more there are, how many of those looked at have no time."""
    rows: Any = records["events"]
    total, skipped = len(rows), 0
    zero = clock.crash
    if total > most and zero is not None and hasattr(rows, "where"):
        late = rows.where(since=zero - _AROUND_NS)
        skipped = total - len(late)
        rows = late if len(late) else rows
        skipped = skipped if rows is late else 0
    shown = list(_moments(islice(iter(rows), most), clock, skipped))
    looked_at = min(len(rows), most)
    shown.sort(key=lambda s: (s.lane, s.start_ns))
    return shown, max(0, total - looked_at), looked_at - len(shown)


def _moments(rows: Iterable[Any], clock: _Clock, first: int) -> Iterator[Slice]:
    for row, event in enumerate(rows, first):
        at = clock.at(event.origin.source, event.time)
        if at is None:
            continue
        cpu = "" if is_absent(event.processor) else f"(processor {event.processor})"
        lane = clock.lane(event.origin.source, "events", cpu)
        provider = fmt.field(event, "provider", "unknown provider")
        name = fmt.field(event, "name", "") or f"event {fmt.field(event, 'event_id')}"
        detail = f"{provider}: {fmt.field(event, 'text', '')}"
        yield Slice(lane, name, at, at, RECORDED, "events", row, fmt.clean(detail, 300))
