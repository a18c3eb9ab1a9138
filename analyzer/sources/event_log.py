"""System event log (.evtx, or exported as XML or CSV) -> the events of the dump path.

Invariant: every record of the file is kept, passed over because it is not of the dump path, or
counted as damaged; the three numbers are in the source record.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from typing import Any

from ..absence import Absent
from ..errors import InputError, UnsupportedError
from ..names import bugchecks
from ..records import Anomaly, Event, Evidence, Machine, Origin, Records, Source
from . import event_log_findings, event_log_xml
from .event_log_events import (
    KERNEL_POWER,
    STORAGE_LEVELS,
    WER,
    Decoded,
    RawEvent,
    decode,
    is_storage,
    is_wanted,
    meaning,
)
from .event_log_evtx import Reader
from .event_log_export import Export
from .text_file import encoding_of

#: storage errors count when a restart follows within this time: a crash needs seconds, writing a
#: large dump minutes, and the restart event comes after the boot
STORAGE_MINUTES = 10
#: 41 and 6008 of a start come together; the report of its crash when a dump has been written out
ONE_START_MINUTES, REPORT_MINUTES = 2, 15
#: of the storage errors so many are held until their restart is known; older ones are let go
STORAGE_HELD = 20_000
#: a log with more events of the dump path than this is not a machine's log
MOST_EVENTS = 100_000
_EVT_MAGIC = b"\x30\0\0\0LfLe"


def collect(path: str) -> Records:
    """Reads one event log."""
    try:
        size = os.stat(path).st_size
        file = open(path, "rb")  # noqa: SIM115 - closed by the with below, or by the refusal
    except OSError as error:
        raise InputError(path, f"cannot be read: {error.strerror or error}") from error
    with file:
        head = file.read(4096)
        if head.startswith(_EVT_MAGIC):
            raise UnsupportedError(
                path,
                "is an old event log (.evt, before Windows Vista)",
                advice="open it in Event Viewer and save it as .evtx or XML",
            )
        if head.startswith(b"ElfFile\0"):
            reader = Reader(path, file)
            return _records(path, size, "evtx", _from_evtx(reader), reader)
    encoding = encoding_of(path)
    text = head.decode(encoding.replace("utf-8-sig", "utf-8"), "replace").lstrip("\ufeff")
    if "<Event" in text:
        export = Export(path, encoding, is_xml=True)
        return _records(path, size, "event log XML", iter(export), export)
    if text.partition("\n")[0].count(",") >= 3:
        export = Export(path, encoding, is_xml=False)
        return _records(path, size, "event log CSV", iter(export), export)
    raise InputError(
        path, "is not an event log", offset=0, expected="ElfFile, XML events, or CSV columns"
    )


def _from_evtx(reader: Reader) -> Iterator[RawEvent]:
    for offset, text in reader:
        quick = event_log_xml.quick(text)
        if quick is not None and not is_wanted(*quick):
            continue
        event = event_log_xml.parse(text, offset)
        if event is None:
            reader.decoded -= 1
            reader.lost += 1
        elif is_wanted(event.provider, event.event_id):
            yield event


def _records(
    path: str, size: int, kind: str, stream: Iterator[RawEvent], counts: Reader | Export
) -> Records:
    kept: list[tuple[Event, Decoded]] = []
    held: deque[tuple[Event, Decoded]] = deque(maxlen=STORAGE_HELD)
    for raw in stream:
        decoded = decode(raw)
        pair = (_event(path, raw, decoded), decoded)
        if is_storage(raw):
            if raw.level in STORAGE_LEVELS:
                held.append(pair)
        elif len(kept) < MOST_EVENTS:
            kept.append(pair)
    restarts = _starts([event for event, _ in kept])
    errors = [pair for pair in held if _is_before(pair[0], restarts)]
    events = sorted([*kept, *errors], key=lambda pair: _time_key(pair[0]))
    records = Records()
    records.add(_source(path, size, kind, counts, len(events)))
    records.add(*_machines(events))
    records.add(*(event for event, _ in events))
    records.anomalies.extend(event_log_findings.draw(events))
    records.anomalies.extend(
        event_log_findings.storage([e for e, _ in errors], len(restarts), STORAGE_MINUTES, path)
    )
    records.anomalies.extend(_damage(path, counts))
    return records


def _event(path: str, raw: RawEvent, decoded: Decoded) -> Event:
    how = f"event record {raw.record_id}" if raw.record_id is not None else "event"
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
        name=meaning(raw),
        processor=Absent("not-recorded", "an event log does not record the processor"),
        process_id=raw.process_id,
        thread_id=raw.thread_id,
        session=raw.channel or None,
        text=decoded.text,
        origin=Origin(path, how, file_offset=raw.offset),
    )


def _starts(events: list[Event]) -> list[int]:
    """When Windows started after a crash; the events that one start logs are one start."""
    first = sorted(_time_key(event) for event in events if _is_start(event))
    later = sorted(_time_key(event) for event in events if _is_after_start(event))
    found: list[int] = []
    for time in first:
        if not found or time - found[-1] > ONE_START_MINUTES * 60 * 10**9:
            found.append(time)
    for time in later:
        if not any(0 <= time - start <= REPORT_MINUTES * 60 * 10**9 for start in found):
            found.append(time)
    return sorted(found)


def _is_start(event: Event) -> bool:
    provider = str(event.provider).lower()
    return isinstance(event.time, int) and (
        (provider == KERNEL_POWER and event.event_id == 41)
        or (provider == "eventlog" and event.event_id == 6008)
    )


def _is_after_start(event: Event) -> bool:
    provider = str(event.provider).lower()
    return isinstance(event.time, int) and (
        (provider in WER and event.event_id in (1000, 1001, 1006))
        or (provider == "volmgr" and event.event_id in (161, 162))
    )


def _is_before(error: Event, restarts: list[int]) -> bool:
    if not isinstance(error.time, int):
        return False
    at = bisect_left(restarts, error.time)
    return at < len(restarts) and restarts[at] - error.time <= STORAGE_MINUTES * 60 * 10**9


def _time_key(event: Event) -> int:
    return event.time if isinstance(event.time, int) else -1


def _machines(events: list[tuple[Event, Decoded]]) -> Iterator[Machine]:
    """One row per bugcheck that the log names; 41 and 1001 of one crash give one row."""
    other = Absent("not-recorded", "an event log does not record it", "a kernel dump")
    known: dict[tuple[int, ...], list[tuple[int, Any]]] = {}
    # 1001 first: it is the one that was written for the crash
    for event, decoded in sorted(events, key=lambda pair: pair[0].event_id == 41):
        if not decoded.bugcheck:
            continue
        when = _time_key(event)
        told = known.setdefault(decoded.bugcheck, [])
        # a start logs each of the two once, so two of one kind are two crashes
        if any(
            abs(before - when) < (10 if number == event.event_id else 3600) * 10**9
            for before, number in told
        ):
            continue
        told.append((when, event.event_id))
        code, *numbers = decoded.bugcheck
        fields: dict[str, Any] = dict.fromkeys(Machine._fields, other)
        fields.update(
            bugcheck=code if code < 1 << 32 else Absent("out-of-range", "more than 32 bits"),
            bugcheck_name=bugchecks.name(code),
            system_time=Absent(
                "not-recorded", "the event was logged after the restart", "the dump or its log"
            ),
            origin=event.origin,
        )
        for number, value in enumerate(numbers, 1):
            fields[f"parameter{number}"] = value & 0xFFFFFFFFFFFFFFFF
        yield Machine(**fields)


def _source(path: str, size: int, kind: str, counts: Reader | Export, kept: int) -> Source:
    if isinstance(counts, Reader):
        read, damaged = counts.decoded, counts.lost
    else:
        read, damaged = counts.seen - counts.damaged, counts.damaged
    return Source(
        path=path,
        kind=kind,
        subtype=f"{read} records read, {kept} of the dump path, {damaged} damaged",
        size_bytes=size,
        architecture=Absent("not-recorded", "an event log does not name the architecture"),
        can_tell="whether a dump was written or why not; failures of loading the dump stack; "
        "bugcheck "
        "codes; storage errors before a restart",
        cannot_tell="what a single dump filter did; the time of Dump_Start",
        origin=Origin(path, "file header", file_offset=0),
    )


def _damage(path: str, counts: Reader | Export) -> Iterator[Anomaly]:
    if isinstance(counts, Export):
        if counts.damaged:
            yield Anomaly(
                "event-log-damaged",
                f"{counts.damaged} of {counts.seen} events of the export cannot be read.",
                Origin(path, "whole file"),
                evidence=(
                    Evidence("damaged", counts.damaged, "Number"),
                    Evidence("seen", counts.seen, "Number"),
                ),
            )
        return
    if counts.lost or counts.damaged_chunks or counts.cut_chunk:
        cut = ""
        if counts.cut_chunk:
            cut = f", the file ends inside a chunk of which {counts.from_cut_chunk} were read"
        yield Anomaly(
            "event-log-damaged",
            f"{counts.lost} of {counts.lost + counts.decoded} records cannot be read "
            f"(damaged chunks: {counts.damaged_chunks}{cut}).",
            Origin(path, "chunk walk"),
            evidence=(
                Evidence("lost", counts.lost, "Number"),
                Evidence("read", counts.decoded, "Number"),
                *([Evidence("first damage", counts.first_damage)] if counts.first_damage else []),
            ),
        )
