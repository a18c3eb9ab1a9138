"""An ETW trace file: its session, its events (lazily), and what they say about the dump stack.

Invariant: opening costs one pass over the file in bounded memory; the events table is the trace
itself, read again when asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..absence import Absent
from ..etw import callbacks, findings, stated_counts
from ..etw.decode import Decoder
from ..etw.events import EventTable
from ..etw.trace import Trace
from ..records import Machine, Origin, Records, Source, Text, untold


def collect(
    path: str, manifests: Sequence[str] = (), tmf: Sequence[str] = (), mapping: Sequence[str] = ()
) -> Records:
    """Everything a trace tells.

    ``manifests`` are .man files, ``tmf`` TMF files or folders of them, ``mapping`` TOML files that
    say which events are callbacks of a dump filter.
    """
    decoder = Decoder(list(manifests), list(tmf))
    rules = [rule for name in mapping for rule in callbacks.load_mapping(name)]
    trace = Trace.open(path)
    trace.decoder = decoder
    records = Records()
    records.add(_source(trace))
    if trace.session.has_header:
        records.add(_machine(trace))
    for record in findings.tell(trace, rules):
        records.add(record)
    records.tables["events"] = EventTable([trace])
    return records


def _source(trace: Trace) -> Source:
    session, account = trace.session, trace.account
    is_less = stated_counts.lacking(session, trace.buffers.table) or account.notes
    count = f"{'at least ' if is_less else ''}{len(trace)}"
    can = [f"{count} events of session {session.name or 'without a name'}"]
    known = {name: count for name, count in trace.decoder.counts.items() if count}
    can += [f"{count} {name}" for name, count in known.items()]
    return Source(
        path=trace.path,
        kind="etl",
        subtype=f"{session.mode_text}; buffers {account.buffers}, bytes walked "
        f"{account.bytes_events}, skipped {account.bytes_skipped}",
        size_bytes=account.bytes_total,
        architecture=_architecture(trace),
        can_tell="; ".join(can),
        cannot_tell="what happened after the crash began (no trace is written then); the arguments "
        "of Dump_Start, unless a filter traces them",
        origin=Origin(trace.path, "trace header"),
    )


def _architecture(trace: Trace) -> Text:
    if not trace.session.has_header:
        return Absent("not-found", "the trace header is missing")
    if trace.session.pointer_size == 4:
        return "x86"
    return Absent("not-recorded", "64-bit; a trace does not tell x64 from arm64")


def _machine(trace: Trace) -> Machine:
    told = Absent("not-recorded", "a trace does not tell it")
    return untold(Machine, told, Origin(trace.path, "trace header"))._replace(
        build=trace.session.build,
        processors=told if trace.no_processor else trace.session.processors,
        architecture=_architecture(trace),
    )
