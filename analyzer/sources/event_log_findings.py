"""What the events of the dump path say is wrong -> anomalies.

Invariant: an event gives a finding by its own content; events are only brought together where the
text says so (161 with 162, storage errors with a restart).
"""

from __future__ import annotations

from collections.abc import Iterator

from ..names import locations, ntstatus, progress
from ..records import Anomaly, Event, Evidence, Origin
from .event_log_events import CRASHDUMP, KERNEL_BOOT, KERNEL_DUMP, KERNEL_IO, WER, Decoded

#: 161 and 162 of one crash are logged together when the page file is checked after the restart;
#: they have been seen in the same second
SAME_CRASH_NS = 60 * 10**9
_VOLMGR = {
    44: "event-dump-config-failed",
    45: "event-dump-driver-load-failed",
    46: "event-dump-init-failed",
    47: "event-dump-config-failed",
    48: "event-dump-config-failed",
    49: "event-dump-config-failed",
    156: "event-dump-device-gone",
    161: "event-dump-failed",
    163: "event-dump-callback-exception",
    164: "event-dump-config-failed",
}
_TROUBLE = (
    "error or warning of a storage driver was",
    "errors or warnings of storage drivers were",
)
_NOT_SAVED = (1000, 1002, 1004, 1005, 1006)


def draw(events: list[tuple[Event, Decoded]]) -> list[Anomaly]:
    """The anomalies of the kept events, in their order, then those over several events."""
    found = [a for event, decoded in events for a in _single(event, decoded)]
    found += _contradictions([event for event, _ in events])
    return found


def _single(event: Event, decoded: Decoded) -> Iterator[Anomaly]:
    rule, words = _rule(event, decoded)
    if not rule:
        return
    location = decoded.packet.location if decoded.packet else None
    status = decoded.packet.status if decoded.packet else decoded.status
    evidence = [Evidence("event", f"{event.provider} {event.event_id}")]
    if location is not None:
        evidence.append(Evidence("location", location, "Code", locations.name(location)))
    if status is not None:
        evidence.append(Evidence("status", status, "Code", ntstatus.name(status)))
    if decoded.progress is not None:
        step = decoded.progress
        evidence.append(Evidence("BugCheckProgress", step, "Code", progress.name(step)))
    facts = {
        "event_id": event.event_id,
        "location": location,
        "status": status,
        "progress": decoded.progress,
    }
    text = f"{words}: {decoded.text[:400]}." if decoded.text else f"{words}."
    yield Anomaly(rule, text, event.origin, str(event.provider), tuple(evidence), facts)
    if str(event.provider).lower() == "volmgr" and not decoded.packet:
        yield Anomaly(
            "event-payload-short",
            f"volmgr event {event.event_id} has no complete IO_ERROR_LOG_PACKET, so location and "
            "status are not known.",
            event.origin,
            str(event.provider),
            tuple(evidence[:1]),
        )


def _rule(event: Event, decoded: Decoded) -> tuple[str, str]:
    provider = str(event.provider).lower()
    number = event.event_id if isinstance(event.event_id, int) else 0
    name = str(event.name or "")
    words = f"{event.provider} event {number}: {name}"
    failed = decoded.status is not None and ntstatus.is_failure(decoded.status)
    if provider == "volmgr":
        return _VOLMGR.get(number, ""), words
    if provider in WER and number in _NOT_SAVED:
        return "event-dump-not-saved", words
    if provider == KERNEL_DUMP and 4 <= number <= 9:
        return "event-dump-stack-failed", words
    if provider == KERNEL_IO and number == 1207:
        return "event-dump-encryption-failed", words
    if (
        (provider == KERNEL_IO and number == 1305 and failed)
        or (provider == KERNEL_BOOT and 257 <= number <= 267)
        or (provider == CRASHDUMP and number in (4, 5))
    ):
        return "event-boot-dump-failed", words
    return "", ""


def _contradictions(events: list[Event]) -> Iterator[Anomaly]:
    volmgr = [e for e in events if str(e.provider).lower() == "volmgr" and isinstance(e.time, int)]
    failed = [e for e in volmgr if e.event_id == 161]
    created = [e for e in volmgr if e.event_id == 162]
    for event in failed:
        other = next((e for e in created if _apart(e, event) <= SAME_CRASH_NS), None)
        if other is not None:
            seconds = _apart(other, event) / 10**9
            yield Anomaly(
                "event-dump-outcome-contradictory",
                f"Event 161 (failed) and 162 (created) were logged {seconds:.0f} s apart.",
                event.origin,
                "volmgr",
                tuple(
                    Evidence(f"event {one.event_id}", one.origin.how, origin=one.origin)
                    for one in (event, other)
                ),
            )


def _apart(first: Event, second: Event) -> int:
    times = [event.time for event in (first, second) if isinstance(event.time, int)]
    return max(times) - min(times)


def storage(errors: list[Event], restarts: int, minutes: int, path: str) -> list[Anomaly]:
    """One finding for the storage errors that were kept because a restart followed."""
    if not errors:
        return []
    drivers = sorted({f"{e.provider} {e.event_id}" for e in errors})
    return [
        Anomaly(
            "event-storage-errors",
            f"{len(errors)} {_TROUBLE[len(errors) > 1]} "
            f"logged within {minutes} minutes before an unexpected restart (the log has "
            f"{restarts}): {', '.join(drivers)[:200]}.",
            Origin(path, "event records", "likely"),
            str(errors[0].provider),
            tuple(Evidence("event", name) for name in drivers[:6]),
        )
    ]
