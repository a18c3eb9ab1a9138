"""What is odd about single calls of a capture, and which of them are slow.

Invariant: of many findings of one kind the first ones are told one by one and the rest as a number.
Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..absence import known
from ..names.units import duration
from ..records import Anomaly, Callback, Evidence, Origin
from . import capture_timing as timing

if TYPE_CHECKING:
    from .capture_calls import Call, Routine

MOST_TOLD = 100  #: findings of one kind


def oddities(
    calls: Sequence[Call], rows: Sequence[Callback], ending: str, last_host: int | None
) -> Iterator[Anomaly]:
    """What is odd about single calls.

    ``last_host``: the debugger's clock where the capture ends, None when its end is missing.
    """
    told = 0
    more: dict[tuple[str, str], list[Anomaly]] = {}
    for call, row in zip(calls, rows):
        for anomaly in _oddities(call, row, ending, last_host):
            if told < MOST_TOLD:
                yield anomaly
                told += 1
            else:
                more.setdefault((anomaly.rule, anomaly.subject), []).append(anomaly)
    for (rule, subject), rest in more.items():
        text = f"{len(rest)} more calls of {subject or 'an unnamed filter'} are as the calls "
        text += "told one by one; the callbacks table has them all."
        yield Anomaly(rule, text, rest[0].origin, subject)


def _oddities(call: Call, row: Callback, ending: str, last_host: int | None) -> Iterator[Anomaly]:
    routine, entry, end = call.routine, call.entry, call.returned
    name = f"Call {call.number} of {routine.callback} of {routine.label}"
    subject = routine.filter or ""
    if call.exception:
        text = f"{name} was under way when the target stopped with an exception: {call.exception}."
        facts = {"callback": routine.callback}
        yield Anomaly("callback-exception", text, row.origin, subject, facts=facts)
    if end is None and call.unwatched:
        return
    if end is None:
        yield _open(call, name, row, ending, last_host)
    elif entry is None:
        text = f"{name} returned, and its entry was not seen."
        yield Anomaly("callback-no-entry", text, row.origin, subject)
    else:
        if None not in (entry.cpu, end.cpu) and entry.cpu != end.cpu:
            text = f"{name} was entered on processor {entry.cpu} and returned on {end.cpu}."
            yield Anomaly("callback-changed-processor", text, row.origin, subject)
        if entry.tsc is not None and end.tsc is not None and end.tsc < entry.tsc:
            text = f"{name} has a clock of {entry.tsc:#x} at its entry and {end.tsc:#x} at its "
            yield Anomaly("capture-clock-backwards", text + "return.", row.origin, subject)


def _open(call: Call, name: str, row: Callback, ending: str, last_host: int | None) -> Anomaly:
    """A call whose return is not in the capture: that it never returned needs a witness."""
    subject, facts = call.routine.filter or "", {"callback": call.routine.callback}
    begun = call.entry.host if call.entry is not None else None
    ran_ns = last_host - begun if last_host is not None and begun is not None else 0
    if not call.is_watched:
        text = f"{name} has no return in the capture, and it is not known that its return was "
        return Anomaly(
            "callback-under-way", text + f"watched ({call.lost or ending}).", row.origin, subject,
            facts=facts,
        )  # fmt: skip
    if call.frame_gone:
        text = f"{name} did not return while its return was watched, and it cannot any more: "
        text += f"{call.lost}."
        return Anomaly("callback-never-returned", text, row.origin, subject, facts=facts)
    if ran_ns < timing.LIMIT_NS:
        text = f"{name} was under way when the capture ended ({call.lost or ending})."
        return Anomaly("callback-under-way", text, row.origin, subject, facts=facts)
    text = f"{name} did not return in the {ran_ns / 1e9:.1f} s that its return was watched "
    evidence = Evidence("watched_ns", ran_ns, "Duration")
    return Anomaly(
        "callback-never-returned", f"{text}({ending}).", row.origin, subject, (evidence,), facts
    )


def slow(
    path: str, calls: Sequence[Call], rows: Sequence[Callback], clocks: timing.Clocks
) -> Iterator[Anomaly]:
    """Calls that took long, and what the clocks cannot tell."""
    timed: dict[Routine, list[Callback]] = {}
    for call, row in zip(calls, rows):
        if isinstance(row.duration_low_ns, int):
            timed.setdefault(call.routine, []).append(row)
    for routine, found in timed.items():
        yield from _slow(path, routine, found, clocks)
    if timed and not clocks.is_calibrated:
        text = "The debugger's own cost was not measured: each duration is an upper bound only."
        yield Anomaly("duration-uncalibrated", text, Origin(path, clocks.how))
    if calls and clocks.is_host:
        text = "The frequency of the target's clock is not known: durations are taken from the "
        text += "debugger's own clock and are coarse."
        yield Anomaly("duration-host-clock", text, Origin(path, clocks.how))


def _slow(
    path: str, routine: Routine, rows: list[Callback], clocks: timing.Clocks
) -> Iterator[Anomaly]:
    name, subject = f"{routine.callback} of {routine.label}", routine.filter or ""
    spans = [(known(row.duration_low_ns) or 0, known(row.duration_high_ns) or 0) for row in rows]
    longest = max(range(len(spans)), key=lambda n: spans[n][0])
    (low, high), call = spans[longest], rows[longest].call
    offset = rows[longest].origin.file_offset
    origin = Origin(path, clocks.how, "certain", offset, routine.address)
    evidence = (
        Evidence("duration_low_ns", low, "Duration"),
        Evidence("duration_high_ns", high, "Duration"),
        Evidence("call", call, "Number"),
    )
    over = sum(shortest > timing.LIMIT_NS for shortest, _ in spans)
    if over:
        text = f"{over} of {len(rows)} calls of {name} took more than 1 s; the longest at "
        text += f"least {duration(low)} (call {call})."
        facts = {"callback": routine.callback}
        yield Anomaly("callback-slow", text, origin, subject, evidence, facts)
    else:
        others = timing.statistics(spans[:longest] + spans[longest + 1 :])
        if others is not None and timing.stands_out(low, others):
            text = f"Call {call} of {name} took at least {duration(low)}; the median of the "
            text += f"other {others.calls} calls is at most {duration(others.high)}."
            yield Anomaly("callback-slow-outlier", text, origin, subject, evidence)
    below = [
        known(row.duration_high_ns) or 0
        for row in rows
        if not isinstance(row.duration_ns, int) and row.duration_ns is not timing.PAUSED
    ]
    paused = sum(row.duration_ns is timing.PAUSED for row in rows)
    if paused:
        text = f"The target stood in the debugger during {paused} of {len(rows)} calls of {name}: "
        text += "how long they took has an upper bound only."
        yield Anomaly("duration-paused", text, origin, subject)
    if below and clocks.is_calibrated:
        text = f"{len(below)} of {len(rows)} calls of {name} were shorter than the debugger's own "
        text += f"noise; they took at most {duration(max(below))}."
        yield Anomaly("duration-below-noise", text, origin, subject)
