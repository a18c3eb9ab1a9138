"""What Windows events say is wrong, and what they tell of a crash; of one, and of several together.

Invariant: an event gives a finding by its own content and by nothing of what held it. Standard
library only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from .names import events, locations, ntstatus, progress
from .names.events import BY_STATUS, KnownEvent
from .records import Anomaly, Cell, Clue, Evidence, Origin
from .windows_events import Decoded, RawEvent, decode, is_boot_device, is_timeout

_SECOND = 10**9
#: 46 is logged about four seconds after the start of a healthy machine, before its page file is
#: set up; the marks of a start (12, 6005) lie up to a minute apart
EARLY_NS = 120 * _SECOND
#: 161 and 162 of one crash are logged together when the page file is checked after the restart;
#: they have been seen in the same second
SAME_CRASH_NS = 60 * _SECOND
#: storage errors count when a crash or restart follows within this time: a crash needs seconds,
#: writing a large dump minutes, and the restart's event comes after the boot
STORAGE_MINUTES = 10
_INIT_FAILED, _INIT_EARLY = "event-dump-init-failed", "event-dump-init-early"


def is_fault(known: KnownEvent, decoded: Decoded) -> bool:
    """True when the event tells of a failure; a success status in it speaks against one."""
    if not known.fault:
        return False
    if decoded.packet is not None or decoded.status is None:
        return known.fault != BY_STATUS
    return ntstatus.is_failure(decoded.status)


def findings(
    event: RawEvent, decoded: Decoded, origin: Origin, excuse: str = ""
) -> Iterator[Anomaly]:
    """What one event says is wrong; ``excuse``: why a failed initialisation need not be."""
    known = event.known
    if known is None:
        return
    spelled = events.SPELLED.get(event.key, event.provider)
    name = f"{spelled} {event.event_id}"
    words = f"{spelled} event {event.event_id} says that {known.meaning}"
    told = decoded.text[:400].rstrip(". !\u2026")
    is_cut = decoded.text.rstrip().endswith(("...", "\u2026"))
    end = "... the input has no more of it" if is_cut else ""
    is_new = bool(told) and told.lower() != known.meaning.lower()
    text = f"{words} ({told}{end})." if is_new else f"{words}."
    facts: dict[str, Cell] = {"provider": event.key, "event_id": event.event_id}
    if decoded.is_power_button:
        yield Anomaly("event-power-button", text, origin, spelled, _evidence(name, decoded), facts)
    if not is_fault(known, decoded):
        return
    rule = known.rule
    if rule == _INIT_FAILED and excuse:
        rule = _INIT_EARLY
        text = f"{text[:-1]}, {excuse}."
    if decoded.packet:
        facts["location"] = decoded.packet.location
    if decoded.status is not None:
        facts["status"] = decoded.status
    if decoded.progress is not None:
        facts["progress"] = decoded.progress
    yield Anomaly(rule, text, origin, spelled, _evidence(name, decoded), facts)
    if event.key == events.VOLMGR and not decoded.packet and rule != _INIT_EARLY:
        yield Anomaly(
            "event-payload-short",
            f"volmgr event {event.event_id} has no complete IO_ERROR_LOG_PACKET, so location and "
            "status are not known.",
            origin,
            spelled,
            (Evidence("event", name),),
        )


def _evidence(name: str, decoded: Decoded) -> tuple[Evidence, ...]:
    lines = [Evidence("event", name)]
    if decoded.packet:
        place = decoded.packet.location
        if place != decoded.progress:  # else it repeats the stage, which stands below
            lines.append(Evidence("location", place, "Code", locations.name(place)))
    if decoded.status is not None:
        lines.append(Evidence("status", decoded.status, "Code", ntstatus.name(decoded.status)))
    if decoded.progress is not None:
        lines.append(
            Evidence("BugCheckProgress", decoded.progress, "Code", progress.name(decoded.progress))
        )
    if decoded.happened is not None:
        lines.append(Evidence("power button", decoded.happened, "Time"))
    return tuple(lines)


#: why an event 46 need not be a fault
WITH_A_START = "within two minutes of a start"
NOT_LATER = "and later starts came without it, none of them after a crash"


def is_early(clock: int, boots: Sequence[int]) -> bool:
    """True for a time close to a start of the machine; ``boots`` are in order."""
    at = bisect_left(boots, clock - EARLY_NS)
    return clock >= 0 and at < len(boots) and boots[at] <= clock + EARLY_NS


def contradictions(clues: Iterable[Clue]) -> Iterator[Anomaly]:
    """161 (failed) and 162 (created) of one restart."""
    timed = [(c.time, c) for c in clues if c.provider == events.VOLMGR and c.time is not None]
    created = sorted(((t, c) for t, c in timed if c.event_id == 162), key=lambda pair: pair[0])
    times = [time for time, _ in created]
    for time, failed in timed:
        at = bisect_left(times, time - SAME_CRASH_NS)
        if failed.event_id != 161 or at == len(times) or times[at] - time > SAME_CRASH_NS:
            continue
        other = created[at][1]
        seconds = abs(times[at] - time) / _SECOND
        yield Anomaly(
            "event-dump-outcome-contradictory",
            f"Event 161 (failed) and 162 (created) were logged {seconds:.0f} s apart.",
            failed.origin,
            "volmgr",
            tuple(
                Evidence(str(c.event_id), c.origin.how, origin=c.origin) for c in (failed, other)
            ),
        )


def clue(event: RawEvent, decoded: Decoded, origin: Origin) -> Clue | None:
    """What the event tells of a crash or a start; None when nothing."""
    known = event.known
    if known is None or not (known.tells or decoded.bugcheck):
        return None
    outcome = known.outcome
    if decoded.dump_path and not outcome:  # it names the file that was saved
        outcome = events.WRITTEN
    return Clue(
        known.tells, event.key, event.event_id, outcome, decoded.bugcheck,
        event.time if isinstance(event.time, int) else None, None, decoded.happened,
        decoded.dump_path, decoded.report_id, decoded.is_power_button, decoded.in_sleep,
        decoded.no_bugcheck, event.local, origin,
    )  # fmt: skip


def storage_findings(
    errors: Sequence[tuple[RawEvent, Origin]], ends: int, before: str
) -> Iterator[Anomaly]:
    """The storage errors of which it is known that a crash or restart followed.

    StorPort logs as errors what many healthy machines log too, such as a command that the disk
    does not know; only a time-out is one for certain.
    """
    for rule, is_weak in (("event-storage-errors", False), ("event-storport-errors", True)):
        pairs = [
            (event, origin)
            for event, origin in errors
            if is_weak == (event.key == events.STORPORT and not is_timeout(event))
        ]
        if not pairs:
            continue
        names = sorted({f"{event.provider} {event.event_id}" for event, _ in pairs})
        boot = sum(is_boot_device(event) for event, _ in pairs)
        disk = f"; {boot} of them of the boot disk" if boot else ""
        were = "errors or warnings of storage drivers were"
        if len(pairs) == 1:
            were = "error or warning of a storage driver was"
        last = decode(pairs[-1][0]).text.rstrip(". ")
        yield Anomaly(
            rule,
            f"{len(pairs)} {were} logged within {STORAGE_MINUTES} minutes before {before}: "
            f"{', '.join(names)[:200]}{disk}; the last says: {last[:200]}.",
            pairs[0][1]._replace(confidence="likely"),
            pairs[0][0].provider,
            tuple(Evidence("event", name) for name in names[:6]),
            {"count": len(pairs), "ends": ends, "boot_device": boot},
        )
