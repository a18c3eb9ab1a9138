"""What happened when: everything that has a time, as slices in lanes around the crash.

Invariant: a slice is one row of one table, named by it; time 0 is the crash as the row's own source
states it, and what that is stands in :attr:`Timeline.zero`. A row without a time is counted, never
placed, except the step that was entered and never left: it is open from the last time before it. A
bound is marked as one, never drawn as a duration. Each crash has a time axis of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from .. import formatting as fmt
from ..absence import is_absent
from ..checks.storage import SRB_NOT_FAILED, SRB_STATUS_MASK
from ..names import ntstatus
from ..records import Callback, Event, Number, Records, Request, Stage
from .evidence_links import Marks, marks
from .timeline_clock import Clock

MOST_EVENTS = 2000
#: a viewer takes no more; a capture may hold millions
MOST_CALLS = 20_000
_AROUND_NS = 60_000_000_000  # of a long trace, the events from a minute before the crash on

OK, FAILED, OPEN, BOUND, UNKNOWN = "ok", "failed", "open", "bound", "unknown"
RECORDED, NOTED = "recorded", "noted"
#: kind -> what a reader is told
KINDS = {
    OK: "succeeded",
    FAILED: "failed",
    OPEN: "not finished",
    BOUND: "at most this long",
    UNKNOWN: "status not determined",
    RECORDED: "recorded",
    NOTED: "a finding is about it",
}
#: what a finding turns into NOTED
_PLAIN = (OK, UNKNOWN, RECORDED)


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
    crash: int | None = None  #: number of the crash it is of, where there are crashes


class Chart(NamedTuple):
    """What has one time axis: all that is of one crash."""

    title: str  #: "" where there is only one
    zero: str
    lanes: dict[str, list[Slice]]


class Timeline(NamedTuple):
    """All slices, by lane then start."""

    slices: list[Slice]
    zero: str  #: what time 0 is, in words
    untimed: dict[str, int]  #: table -> rows that have no time
    left_out: int = 0  #: events and calls not shown because there are too many
    crashes: tuple[tuple[int, str, str], ...] = ()  #: number, title and time 0; the leading first

    def charts(self) -> list[Chart]:
        """A chart per crash, that of a dump that failed first; at last what is of none."""
        found = []
        for number, title, zero in self.crashes:
            own = [s for s in self.slices if s.crash == number]
            found.append((title, zero, own))
        numbers = {number for number, _, _ in self.crashes}
        rest = [s for s in self.slices if s.crash not in numbers]
        found.append(("of no certain crash" if found else "", self.zero, rest))
        found = [chart for chart in found if chart[2]]
        is_alone = len(found) == 1
        return [Chart("" if is_alone else title, zero, _by_lane(own)) for title, zero, own in found]

    def lanes(self) -> dict[str, list[Slice]]:
        """The slices of each lane, in the order of the crash story."""
        return _by_lane(self.slices)


def _by_lane(slices: Iterable[Slice]) -> dict[str, list[Slice]]:
    found: dict[str, list[Slice]] = {}
    for one in slices:
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


def build(records: Records, events: int = MOST_EVENTS, marked: Marks | None = None) -> Timeline:
    """The timeline of some records; at most ``events`` rows of the table events."""
    clock = Clock(records)
    marked = marks(records) if marked is None else marked
    noted = marked.noted
    slices: list[Slice] = []
    untimed: dict[str, int] = {}
    more = 0
    for table, place in (("stages", _stage), ("callbacks", _callback), ("requests", _request)):
        most = MOST_CALLS if table == "callbacks" else None
        more += max(0, len(records[table]) - MOST_CALLS) if most else 0
        for row, record in enumerate(islice(records[table], most)):
            slice_ = place(record, row, clock)
            if (table, row) in marked.hung:
                slice_ = _hung(record, row, clock, slice_)
            elif slice_ is not None and slice_.kind in _PLAIN and (table, row) in noted:
                slice_ = slice_._replace(kind=NOTED)
            if slice_ is None:
                untimed[table] = untimed.get(table, 0) + 1
            else:
                slices.append(slice_)
    shown, left_out, without = _events(records, clock, events)
    if without:
        untimed["events"] = without
    shown = [s._replace(kind=NOTED) if (s.table, s.row) in noted else s for s in shown]
    order = {lane: place for place, lane in enumerate(dict.fromkeys(s.lane for s in slices))}
    slices.sort(key=lambda s: (order[s.lane], s.start_ns, -s.end_ns))
    return Timeline(
        slices + shown, clock.words(), untimed, left_out + more, tuple(clock.crashes(records))
    )


def _stage(stage: Stage, row: int, clock: Clock) -> Slice | None:
    source = stage.origin
    lane = clock.lane(source, "writing the dump")
    name = fmt.field(stage, "stage", "step")
    detail = fmt.fields(stage, "text")
    if isinstance(stage.elapsed_ms, int):
        start = stage.elapsed_ms * 1_000_000
        clock.last_ms[source.source] = stage.elapsed_ms
        if stage.stage == "dump-start-upper-bound":
            lane = clock.lane(source, "until the dump log begins")
            return Slice(lane, name, 0, start, BOUND, "stages", row, detail, clock.crash_of(source))
    else:
        at = clock.at(source, stage.time)
        if at is None:
            return None
        start = at
    length = stage.duration_ms * 1_000_000 if isinstance(stage.duration_ms, int) else 0
    kind = RECORDED if is_absent(stage.status) else _ntstatus(stage.status)
    return Slice(
        lane, name, start, start + max(length, 0), kind, "stages", row, detail,
        clock.crash_of(source),
    )  # fmt: skip


def _hung(
    record: Stage | Callback | Request, row: int, clock: Clock, made: Slice | None
) -> Slice | None:
    """The step that was entered and never left: open from its time, or the last one before it."""
    if made is not None:
        detail = made.detail if made.kind == OPEN else f"{made.detail}, never left"
        return made._replace(kind=OPEN, end_ns=made.start_ns, detail=detail)
    since = clock.last_ms.get(record.origin.source)
    if not isinstance(record, Stage) or since is None:
        return None
    lane = clock.lane(record.origin, "writing the dump")
    name = fmt.fields(record, "driver") or fmt.field(record, "stage", "step")
    detail = f"{fmt.fields(record, 'text')} The log ends here; entered {since} ms or later."
    start = since * 1_000_000
    return Slice(
        lane, name, start, start, OPEN, "stages", row, detail, clock.crash_of(record.origin)
    )


def _callback(call: Callback, row: int, clock: Clock) -> Slice | None:
    source = call.origin
    start = clock.at(source, call.entry_time)
    if start is None:
        return None
    cpu = "" if is_absent(call.processor) else f"(processor {call.processor})"
    lane = clock.lane(source, fmt.field(call, "filter", "a filter"), cpu, time=call.entry_time)
    kind, length = _ntstatus(call.status), 0
    if isinstance(call.duration_ns, int):
        length = call.duration_ns
        took = f"took {fmt.duration(length)}"
    elif isinstance(call.duration_high_ns, int):
        length, kind = call.duration_high_ns, kind if kind == FAILED else BOUND
        took = f"took at most {fmt.duration(length)}"
    else:
        took = "duration not determined"
    status = fmt.code(call, "status")
    detail = ", ".join(filter(None, (took, f"returned {status}" if status else KINDS[UNKNOWN])))
    name = fmt.field(call, "callback", "callback")
    return Slice(
        lane, name, start, start + max(length, 0), kind, "callbacks", row, detail,
        clock.crash_of(source, call.entry_time),
    )  # fmt: skip


def _request(request: Request, row: int, clock: Clock) -> Slice | None:
    source = request.origin
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
        detail = f"took {fmt.ticks(end - start)}"
    assert start is not None
    assert end is not None
    lane = clock.lane(source, "storage requests", time=request.start)
    name = fmt.field(request, "operation", "request")
    detail = ", ".join(filter(None, (detail, status)))
    return Slice(
        lane, name, start, max(start, end), kind, "requests", row, detail,
        clock.crash_of(source, request.start),
    )  # fmt: skip


def request_kind(request: Request) -> str:
    """How a storage request ended."""
    if request.in_flight is True:
        return OPEN
    if not isinstance(request.status, int):
        return UNKNOWN
    if str(request.status_name or "").startswith("SRB_"):
        good = (request.status & SRB_STATUS_MASK) in SRB_NOT_FAILED
        return OK if good else FAILED
    return _ntstatus(request.status)


def _ntstatus(status: Number) -> str:
    if not isinstance(status, int):
        return UNKNOWN
    return FAILED if ntstatus.is_failure(status & 0xFFFFFFFF) else OK


def _events(records: Records, clock: Clock, most: int) -> tuple[list[Slice], int, int]:
    """The events to show, how many more there are, how many of those looked at have no time."""
    rows = records["events"]
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


def _moments(rows: Iterable[Event], clock: Clock, first: int) -> Iterator[Slice]:
    for row, event in enumerate(rows, first):
        at = clock.at(event.origin, event.time)
        if at is None:
            continue
        cpu = "" if is_absent(event.processor) else f"(processor {event.processor})"
        lane = clock.lane(event.origin, "events", cpu, time=event.time)
        provider = fmt.field(event, "provider", "unknown provider")
        name = fmt.field(event, "name", "") or f"event {fmt.field(event, 'event_id')}"
        detail = f"{provider}: {fmt.field(event, 'text', '')}"
        yield Slice(
            lane, name, at, at, RECORDED, "events", row, fmt.clean(detail, 300),
            clock.crash_of(event.origin, event.time),
        )  # fmt: skip
