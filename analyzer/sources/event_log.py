"""System event log (.evtx, or one of the forms in which its events are text) -> what they tell.

Invariant: every record of the file is kept, passed over because it is not of the dump path, or
counted as damaged or missing; what a limit leaves out is told.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .. import event_findings, windows_events
from ..absence import Absent
from ..errors import InputError, UnsupportedError
from ..files import called, reason
from ..names import bugchecks, events
from ..records import Anomaly, Clue, Event, Evidence, Machine, Origin, Records, Source, Time, untold
from ..windows_events import Decoded, RawEvent
from . import event_log_xml
from .event_log_evtx import Reader
from .event_log_forms import Export
from .event_log_named import local_times

#: 41 and 6008 of a start come together; the report of its crash when a dump has been written out
ONE_START_MINUTES, REPORT_MINUTES = 2, 15
#: the newest storage errors are held until it is known whether a restart follows
STORAGE_HELD = 20_000
#: a log with more events of the dump path than this is not a machine's log
MOST_EVENTS = 100_000
_EVT_MAGIC = b"\x30\0\0\0LfLe"
_MINUTE = 60 * 10**9
_FOREVER = 1 << 63


class _Kept(NamedTuple):
    """One event of the dump path."""

    raw: RawEvent
    decoded: Decoded
    origin: Origin
    clue: Clue | None
    clock: int  #: to compare with others of the file; -1 where its time is not known


class _Coverage:
    """Which channels and which time the log covers, over all of its events."""

    def __init__(self) -> None:
        self.channels: Counter[str] = Counter()
        self.first, self.last = _FOREVER, -1
        self.count = 0

    def take(self, raw: RawEvent) -> None:
        """One event, whatever it says."""
        self.count += 1
        if raw.channel:
            self.channels[raw.channel] += 1
        if isinstance(raw.time, int):
            self.first, self.last = min(self.first, raw.time), max(self.last, raw.time)

    @property
    def words(self) -> str:
        """What is covered, "" where the form does not tell it."""
        names = [name for name, _ in self.channels.most_common(3)]
        logs = f"{', '.join(names)} log" if names else ""
        if self.last < 0:
            return logs
        span = f"from {windows_events.utc(self.first)} to {windows_events.utc(self.last)}"
        return f"{logs} {span}" if logs else span


def collect(path: str) -> Records:
    """Reads one event log."""
    try:
        size = os.stat(path).st_size
        file = open(path, "rb")  # noqa: SIM115 - closed by the with below, or by the refusal
    except OSError as error:
        raise InputError(path, f"cannot be read: {reason(error)}") from error
    with file:
        head = file.read(16)
        if head.startswith(_EVT_MAGIC):
            raise UnsupportedError(
                path,
                "is an old event log (.evt, before Windows Vista)",
                advice="open it in Event Viewer and save it as .evtx or XML",
            )
        if head.startswith(b"ElfFile\0"):
            reader = Reader(path, file)
            return _records(path, size, "evtx", _from_evtx(reader), reader)
    export = Export(path)
    return _records(path, size, export.form.kind, iter(export), export)


def _from_evtx(reader: Reader) -> Iterator[RawEvent]:
    for offset, text in reader:
        event = event_log_xml.read(text, offset)
        if event is None:
            reader.decoded -= 1
            reader.lost += 1
        else:
            yield event


def _records(
    path: str, size: int, kind: str, stream: Iterator[RawEvent], counts: Reader | Export
) -> Records:
    coverage = _Coverage()
    found: deque[_Kept] = deque(maxlen=MOST_EVENTS)
    held: deque[_Kept] = deque(maxlen=STORAGE_HELD)
    total = {"events": 0, "storage errors": 0}
    seen: set[int] = set()
    for number, raw in enumerate(stream, 1):
        coverage.take(raw)
        if events.is_storage(raw.key):
            if raw.is_storage_trouble:
                total["storage errors"] += 1
                held.append(_keep(path, raw, number, seen))
        elif raw.known is not None:
            total["events"] += 1
            found.append(_keep(path, raw, number, seen))
    kept = _placed(found)
    restarts = _restarts([one.clue for one in kept if one.clue is not None])
    errors = [one for one in held if _is_before(one.raw, restarts)]
    kept = sorted([*kept, *errors], key=lambda one: one.clock)
    records = Records()
    records.add(_source(path, size, kind, counts, len(kept), coverage))
    records.add(*_machines(kept))
    records.add(*(_event(one) for one in kept))
    records.clues.extend(one.clue for one in kept if one.clue is not None)
    records.anomalies.extend(_findings(kept))
    before = f"an unexpected restart (the log has {len(restarts)})"
    records.anomalies.extend(
        event_findings.storage_findings([(e.raw, e.origin) for e in errors], len(restarts), before)
    )
    damage = list(_damage(path, counts))
    records.anomalies.extend(_of_no_use(path, coverage, bool(damage), bool(kept)))
    records.anomalies.extend(_left_out(path, total, len(found), len(held)))
    records.anomalies.extend(damage)
    return records


def _keep(path: str, raw: RawEvent, number: int, seen: set[int]) -> _Kept:
    how = f"event record {raw.record_id}"
    if raw.record_id is None or raw.record_id in seen:  # exports of two logs can be in one file
        how = f"event {number}"
    seen.add(raw.record_id or 0)
    origin = Origin(path, how, file_offset=raw.offset)
    decoded = windows_events.decode(raw)
    clock = raw.time if isinstance(raw.time, int) else -1
    return _Kept(raw, decoded, origin, event_findings.clue(raw, decoded, origin), clock)


def _placed(found: Sequence[_Kept]) -> list[_Kept]:
    """Gives the events of an export without a zone their place among each other."""
    rows = [n for n, one in enumerate(found) if not isinstance(one.raw.time, int)]
    kept = list(found)
    for n, local in zip(rows, local_times([kept[n].raw.local for n in rows])):
        if local is not None:
            clue = kept[n].clue
            clue = clue._replace(local_time=local) if clue is not None else None
            kept[n] = kept[n]._replace(clue=clue, clock=local)
    return kept


def _event(one: _Kept) -> Event:
    raw = one.raw
    return Event(
        time=raw.time,
        provider=raw.provider,
        provider_id=raw.guid or Absent("not-recorded", "a classic event source has no GUID"),
        event_id=raw.event_id,
        version=raw.version,
        channel=Absent("not-applicable", "an event log names its channel, see session"),
        level=raw.level,
        opcode=raw.opcode,
        task=raw.task,
        keyword=raw.keywords,
        name=raw.known.meaning if raw.known else None,
        processor=Absent("not-recorded", "an event log does not record the processor"),
        process_id=raw.process_id,
        thread_id=raw.thread_id,
        session=raw.channel or None,
        text=one.decoded.text,
        origin=one.origin,
    )


def _findings(kept: Sequence[_Kept]) -> Iterator[Anomaly]:
    clues = [one.clue for one in kept if one.clue is not None]
    starts = (events.BOOT, events.RESTART)
    boots = [one.clock for one in kept if one.clue and one.clue.tells in starts and one.clock >= 0]
    settled = _settled_since(kept)
    for one in kept:
        excuse = ""
        if event_findings.is_early(one.clock, boots):
            excuse = event_findings.WITH_A_START
        elif 0 <= one.clock < settled:
            excuse = event_findings.NOT_LATER
        yield from event_findings.findings(one.raw, one.decoded, one.origin, excuse)
    yield from event_findings.contradictions(clues)


def _settled_since(kept: Sequence[_Kept]) -> int:
    """The last start before which an event 46 is history; -1 for none.

    After it there was none, and no start since the one before followed a crash.
    """
    boots = [one.clock for one in kept if one.clue and one.clue.tells == events.BOOT]
    last = max(boots, default=-1)
    since = [
        one.clock
        for one in kept
        if (one.raw.key, one.raw.event_id) == (events.VOLMGR, 46)
        or (one.clue and one.clue.tells in (events.RESTART, events.REPORT))
    ]
    return last if not since or max(since) < last - event_findings.EARLY_NS else -1


def _restarts(clues: Sequence[Clue]) -> list[int]:
    """When Windows started after a crash; the events that one start logs are one start."""
    timed = sorted((c.time, c.tells) for c in clues if isinstance(c.time, int))
    found: list[int] = []
    for wanted, minutes in ((events.RESTART, ONE_START_MINUTES), (events.REPORT, REPORT_MINUTES)):
        known = sorted(found)
        for time in (time for time, tells in timed if tells == wanted):
            at = bisect_left(known, time + 1) - 1
            near = known[at] if at >= 0 else None
            if near is None or time - near > minutes * _MINUTE:
                found.append(time)
                if wanted == events.RESTART:
                    known.append(time)
    return sorted(found)


def _is_before(error: RawEvent, restarts: list[int]) -> bool:
    if not isinstance(error.time, int):
        return False
    at = bisect_left(restarts, error.time)
    limit = event_findings.STORAGE_MINUTES * _MINUTE
    return at < len(restarts) and restarts[at] - error.time <= limit


def _machines(kept: Sequence[_Kept]) -> Iterator[Machine]:
    """One row per bugcheck that the log names; 41 and 1001 of one crash give one row."""
    other = Absent("not-recorded", "an event log does not record it", "a kernel dump")
    wide = Absent("out-of-range", "more than 32 bits")
    known: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    # 1001 first: it is the one that was written for the crash
    for one in sorted(kept, key=lambda one: one.raw.event_id == 41):
        if not one.decoded.bugcheck:
            continue
        when, number = one.clock, one.raw.event_id
        rows = known.setdefault(one.decoded.bugcheck, [])
        # a start logs each of the two once, so two of one kind are two crashes
        if any(abs(t - when) < (10 if n == number else 3600) * 10**9 for t, n in rows[-64:]):
            continue
        rows.append((when, number))
        code, *numbers = one.decoded.bugcheck
        cut = Absent("not-recorded", "the event does not have it, as it is here", "the .evtx file")
        first, second, third, fourth = ([n & 0xFFFFFFFFFFFFFFFF for n in numbers] + [cut] * 4)[:4]
        yield untold(Machine, other, one.origin)._replace(
            bugcheck=code if code < 1 << 32 else wide,
            bugcheck_name=bugchecks.name(code) if code < 1 << 32 else wide,
            system_time=_crash_time(one),
            parameter1=first, parameter2=second, parameter3=third, parameter4=fourth,
        )  # fmt: skip


def _crash_time(one: _Kept) -> Time:
    """A guest tells its host at once; what a start logs was later."""
    if one.raw.key == events.HYPERV:
        return one.raw.time
    reason = "the event was logged after the restart"
    return Absent("not-recorded", reason, "the dump or its log")


def _source(
    path: str, size: int, kind: str, counts: Reader | Export, kept: int, coverage: _Coverage
) -> Source:
    if isinstance(counts, Reader):
        read, damaged = counts.decoded, counts.lost
    else:
        read, damaged = counts.seen - counts.damaged, counts.damaged
    covered = f"; {coverage.words}" if coverage.words else ""
    return Source(
        path=path,
        kind=kind,
        subtype=f"{read} records read, {kept} of the dump path, {damaged} damaged{covered}",
        size_bytes=size,
        architecture=Absent("not-recorded", "an event log does not name the architecture"),
        can_tell="whether a dump was written or why not; failures of loading the dump stack; "
        "bugcheck codes; storage errors before a restart; power button and sleep",
        cannot_tell="what a single dump filter did; the time of Dump_Start",
        origin=Origin(path, "file header", file_offset=0),
    )


def _of_no_use(
    path: str, coverage: _Coverage, is_damaged: bool, has_events: bool
) -> Iterator[Anomaly]:
    """Crashes and dumps are logged in the System log and in that of Kernel-Dump."""
    names = list(coverage.channels)
    if not coverage.count and not is_damaged:
        text = f"{called(path)} holds no event, so it does not tell whether there was a crash."
        yield Anomaly("event-log-empty", text, Origin(path, "whole file"))
    if not names or any(_is_of_crashes(name) for name in names):
        return
    so = "so this file does not tell whether there was one"
    if has_events:
        so = "so this file tells of them only in part"
    yield Anomaly(
        "event-log-other-channel",
        f"This is the {coverage.words}. Crashes, restarts and failed dumps are logged in the "
        f"System log, {so}.",
        Origin(path, "channel of the records"),
        names[0],
        tuple(Evidence("channel", name) for name in names[:6]),
    )


def _is_of_crashes(channel: str) -> bool:
    lower = channel.lower()
    return lower == "system" or lower.startswith(
        (events.KERNEL_DUMP, events.CRASHDUMP, events.KERNEL_BOOT, events.KERNEL_POWER)
    )


def _left_out(path: str, total: dict[str, int], found: int, held: int) -> Iterator[Anomaly]:
    for what, kept in (("events", found), ("storage errors", held)):
        if total[what] > kept:
            yield Anomaly(
                "input-limit-reached",
                f"Only the last {kept:,} of {total[what]:,} {what} of the dump path in this log "
                "were looked at.",
                Origin(path, "whole file"),
                what,
                (Evidence("left out", total[what] - kept, "Number"),),
            )


def _damage(path: str, counts: Reader | Export) -> Iterator[Anomaly]:
    """A loss, by what the file says of itself; without one nothing is said."""
    if isinstance(counts, Export):
        if counts.damaged:
            yield Anomaly(
                "event-log-damaged",
                f"{counts.damaged:,} of {counts.seen:,} events of the export cannot be read.",
                Origin(path, "whole file"),
                evidence=(
                    Evidence("damaged", counts.damaged, "Number"),
                    Evidence("seen", counts.seen, "Number"),
                ),
            )
        if counts.is_open_ended:
            yield Anomaly(
                "event-log-incomplete",
                f"The export is cut off; {counts.seen:,} event{'' if counts.seen == 1 else 's'} "
                f"{'was' if counts.seen == 1 else 'were'} found before that.",
                Origin(path, "end of the file"),
                evidence=(Evidence("events found", counts.seen, "Number"),),
            )
        return
    if counts.lost:
        cut = ""
        if counts.cut_chunk:
            read = f"{counts.from_cut_chunk:,} record{'' if counts.from_cut_chunk == 1 else 's'}"
            cut = f"; the file ends inside a chunk of which {read} could be read"
        first = (Evidence("first damage", counts.first_damage),) if counts.first_damage else ()
        yield Anomaly(
            "event-log-damaged",
            f"{counts.lost:,} of {counts.lost + counts.decoded:,} records cannot be read "
            f"(damaged chunks: {counts.damaged_chunks}{cut}).",
            Origin(path, "chunk walk"),
            evidence=(
                Evidence("lost", counts.lost, "Number"),
                Evidence("read", counts.decoded, "Number"),
                *first,
            ),
        )
    if counts.missing or counts.missing_chunks:
        chunks = f", {counts.missing_chunks:,} chunks by the file's header"
        yield Anomaly(
            "event-log-incomplete",
            f"At least {counts.missing:,} records are missing, by the numbers of the others"
            f"{chunks if counts.missing_chunks else ''}; what they told is not known.",
            Origin(path, "record numbers"),
            evidence=(
                Evidence("missing records", counts.missing, "Number"),
                Evidence("missing chunks", counts.missing_chunks, "Number"),
            ),
        )
