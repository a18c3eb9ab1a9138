"""What a trace lost, and what of its bytes could not be used, as anomalies.

Invariant: the figures are of one full pass; what a session itself says it lost is kept apart from
what is missing or damaged in the file.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..records import Anomaly, Evidence, Origin
from . import stated_counts
from .layouts import ETW_BUFFER_FLAG_BUFFER_LOST, ETW_BUFFER_FLAG_EVENTS_LOST
from .trace import Trace

_END = (1 << 63) - 1  # of time


def lost_spans(trace: Trace) -> list[tuple[int, int]]:
    """Spans of the session clock in which events were lost, by the buffers that say so."""
    table = trace.buffers.table
    flagged = (table["flags"] & (ETW_BUFFER_FLAG_EVENTS_LOST | ETW_BUFFER_FLAG_BUFFER_LOST)) != 0
    out: list[tuple[int, int]] = []
    starts = trace.first_times()
    for k in np.flatnonzero(flagged).tolist():
        # The flag does not say when: after the buffer before on this processor was flushed, and
        # before this one was. An unflushed buffer of a dump has no flush time.
        first, stamp = int(starts[k]), int(table["stamp"][k])
        earlier = (table["cpu"] == table["cpu"][k]) & (table["sequence"] < table["sequence"][k])
        before = int(table["stamp"][earlier].max()) if earlier.any() else first
        out.append((min(first, before) if before > 0 else first, stamp if stamp >= first else _END))
    stamps = table["stamp"]
    # Empty buffers are numbered too but not always written, so a gap alone is no loss.
    for _, before, _missing in trace.gaps() if trace.may_have_lost_buffers else []:
        at = int(np.flatnonzero(table["sequence"] == before)[-1])
        later = table["sequence"] > before
        end = int(stamps[later].min()) if later.any() else int(stamps[at])
        out.append((min(int(stamps[at]), end), max(int(stamps[at]), end)))
    for note in trace.account.notes:
        if note.kind in ("event", "resync", "expand"):
            k = int(np.searchsorted(table["offset"], note.offset - trace.base, side="right")) - 1
            if k >= 0:
                first = int(starts[k])
                after = int(starts[k + 1]) if k + 1 < len(starts) else _END
                out.append((first, max(after, first)))
    return out


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def check(trace: Trace) -> Iterator[Anomaly]:
    """What the trace lost, and what of its bytes could not be used."""
    len(trace)  # the figures are of one full pass
    session, account = trace.session, trace.account
    name = session.name or trace.path

    def anomaly(rule: str, text: str, offset: int | None = None, *evidence: Evidence) -> Anomaly:
        return Anomaly(rule, text, Origin(trace.path, "trace structure", "certain", offset), name,
                       evidence)  # fmt: skip

    if not session.has_header:
        yield anomaly(
            "etw-header-missing",
            "The trace has no readable header, so its clock and session are not known.",
        )
    elif not session.clock.known:
        yield anomaly(
            "etw-clock-unknown",
            "The trace header gives no usable clock, so its times are not known.", None,
            Evidence("clock type", session.clock.kind),
        )  # fmt: skip
    if trace.other_headers:
        yield anomaly(
            "etw-several-sessions",
            f"The file holds {len(trace.other_headers)} more trace headers whose clock does not "
            "continue the first one's; times behind them may be wrong.",
        )
    if session.has_header and not session.finalised:
        yield anomaly(
            "etw-unfinalised",
            f"Its writer never closed this trace; every buffer found was read: {account.buffers}.",
        )
    losses = ((session.events_lost, "event"), (session.buffers_lost, "buffer"))
    told = [_counted(number, noun) for number, noun in losses if number]
    if told:
        yield anomaly(
            "etw-events-lost",
            f"The session lost {' and '.join(told)}.",
            None, Evidence("EventsLost", session.events_lost, "Number"),
            Evidence("BuffersLost", session.buffers_lost, "Number"),
        )  # fmt: skip
    gaps = trace.gaps()
    if gaps:
        missing = sum(gap[2] for gap in gaps)
        yield anomaly(
            "etw-buffers-missing",
            f"Missing are {_counted(missing, 'buffer number')} in {_counted(len(gaps), 'place')}"
            + ("." if trace.may_have_lost_buffers else "; the session says it lost none."), None,
            *(
                Evidence(f"missing after buffer {last} of processor {cpu}", count, "Number")
                for cpu, last, count in gaps[:8]
            ),
        )  # fmt: skip
    lost = stated_counts.lacking(session, trace.buffers.table)
    if lost:
        yield anomaly(
            "etw-buffers-lacking",
            f"The trace header states {session.buffers_written} buffers; {lost} of them are not in "
            "the file.", None,
            Evidence("BuffersWritten", session.buffers_written, "Number"),
            Evidence("buffers found", account.buffers, "Number"),
        )  # fmt: skip
    twice = [note for note in account.notes if note.kind == "repeat"]
    if twice:
        yield anomaly(
            "etw-buffers-repeated",
            f"{len(twice)} buffers stand in the file twice; their events count once.",
            twice[0].offset,
        )
    full = (
        []
        if trace.addresses is not None
        else stated_counts.not_empty(trace.data, trace.buffers.table)
    )
    if full:
        yield anomaly(
            "etw-buffer-not-empty",
            f"{len(full)} buffers say that they are empty and begin with what looks like an event; "
            "what they hold was not read.", int(trace.buffers.table["offset"][full[0]]),
        )  # fmt: skip
    long = [(note.offset, int(note.text)) for note in account.notes if note.kind == "size"]
    if long:
        states = (
            "is so large that it includes" if len(long) == 1 else "are so large that they include"
        )
        others = sum(count for _, count in long)
        yield anomaly(
            "etw-event-too-long",
            f"{_counted(len(long), 'event')} {states} {_counted(others, 'other')}, which were not "
            "read as events.", long[0][0],
            *(Evidence(f"inside the event at {at:#x}", n, "Number") for at, n in long[:8]),
        )  # fmt: skip
    cuts = [note for note in account.notes if note.kind == "cut"]
    if cuts:
        yield anomaly("etw-cut", f"The trace is cut: {cuts[0].text}.", cuts[0].offset)
    bad = [note for note in account.notes if note.kind in ("event", "resync", "header", "expand")]
    if bad:
        places = len(bad) + account.notes_dropped
        yield anomaly(
            "etw-damaged",
            f"{account.bytes_skipped} of {account.bytes_total} bytes are damaged in {places} "
            f"places; {account.events_recovered} events behind damage were found again.",
            bad[0].offset,
            *(Evidence(f"{note.kind} at {note.offset:#x}", note.text) for note in bad[:8]),
        )  # fmt: skip
    for text in trace.decoder.broken[:8]:
        yield anomaly("etw-manifest-broken", f"A manifest in the trace cannot be used: {text}")
