"""What traced events say about the dump stack, crashes and storage, as records and anomalies.

Invariant: only events of :mod:`analyzer.names.events`, storage requests and mapped callbacks are
decoded; an event means what it means in an event log, and a pair of events (start and stop) is
matched by thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Union

import numpy as np

from .. import windows_events
from ..absence import Absent
from ..names import events, ntstatus
from ..records import Anomaly, Callback, Clue, Evidence, Number, Request, Stage
from ..windows_events import RawEvent
from . import callbacks, integrity, providers
from . import judge as judging
from .buffers import Array
from .decode import take_apart
from .events import Row, details
from .layouts import EVENT64
from .payload import Value, whole
from .trace import Trace

Told = Union[Anomaly, Clue, Callback, Request, Stage]

SLOW_START_NS = 5_000_000_000  #: loading the dump stack; it includes every filter's DriverEntry
SLOW_FILE_MS = 10_000
SLOW_REQUEST_NS = 1_000_000_000
MAX_REQUESTS = 10_000
_DISK_HOOKS = (0x010A, 0x010B, 0x010E)
_RESET = 507  # of a request by StorPort: it tells how long the request took; an abort does not


def tell(trace: Trace, mapping: Sequence[callbacks.Rule] = ()) -> Iterator[Told]:
    """Records and anomalies of one trace file."""
    yield from integrity.check(trace)
    rules = [*mapping, *callbacks.PUBLISHED]
    choice = _Choice(trace, {rule.provider for rule in rules})
    if not choice.any:
        return
    mapped = bool(choice.mapped)
    ends: list[callbacks.CallEvent] = []
    spoken = _Events()
    for cols in trace.chunks():
        keep = choice.rows(cols)
        if not len(keep):
            continue
        part = {name: column[keep] for name, column in cols.items()}
        for row in details(trace, part):
            fields = row.described.fields
            values = fields.values if fields is not None else {}
            end = callbacks.end_of(rules, row.event, row.ts, values) if mapped else None
            if end is not None:
                ends.append(end)
            else:
                yield from spoken.event(trace, row, values)
    yield from spoken.end(trace)
    if ends:
        paired = callbacks.pair(ends, trace.clock, integrity.lost_spans(trace))
        yield from paired.callbacks
        yield from paired.anomalies


class _Choice:
    """Which rows are worth decoding: a trace can hold millions of harmless disk requests."""

    def __init__(self, trace: Trace, wanted: set[str]) -> None:
        self._trace = trace
        guids = [guid.lower() for guid in trace.providers.guids]
        names = [trace.decoder.provider_name(guid).lower() for guid in guids]
        self.mapped = [
            k for k, guid in enumerate(guids) if k and (guid in wanted or names[k] in wanted)
        ]
        ids: dict[str, list[int]] = {}
        for provider, number in events.EVENTS:
            if provider in events.GUIDS:
                ids.setdefault(events.GUIDS[provider], []).append(number)
        self._watched = {k: ids[guid] for k, guid in enumerate(guids) if guid in ids}
        for k, guid in enumerate(guids):
            if guid == providers.IO_ERROR_LOG:
                self._watched[k] = []  # each entry, whatever its number
        self._storport = guids.index(providers.STORPORT) if providers.STORPORT in guids else -1
        self._disk = 0x01 in trace.hook_groups
        self.any = bool(self.mapped or self._watched or self._disk or self._storport >= 0)

    def rows(self, cols: dict[str, Array]) -> Array:
        """Row numbers, in order."""
        number, ident = cols["provider"], cols["id"]
        keep = np.isin(number, self.mapped)
        for provider, ids in self._watched.items():
            mine = number == provider
            keep |= mine & np.isin(ident, ids) if ids else mine
        if self._storport >= 0:
            mine = number == self._storport
            errors = mine & (cols["level"] >= 1) & (cols["level"] <= 3)
            timed = np.flatnonzero(mine & np.isin(ident, (200, 201)) & ~errors)
            keep |= errors | (mine & (ident == _RESET))
            keep[timed[[self._is_bad(cols, k) for k in timed.tolist()]]] = True
        if self._disk:
            disk = np.flatnonzero((number == 0) & np.isin(ident, _DISK_HOOKS))
            keep[disk[[self._is_slow(cols, k) for k in disk.tolist()]]] = True
        return np.flatnonzero(keep)

    def _event(self, cols: dict[str, Array], k: int) -> bytes:
        return self._trace.event_bytes(
            int(cols["buffer"][k]), int(cols["offset"][k]), int(cols["size"][k])
        )

    def _is_bad(self, cols: dict[str, Array], k: int) -> bool:
        """A StorPort request of a second or more, or one that failed."""
        event = self._event(cols, k)
        if event[4] & 1 or cols["type"][k] != EVENT64 or len(event) < 0x50 + 18:
            return True  # not the plain form: decode it
        duration = int.from_bytes(event[0x50:0x58], "little") * 100
        return duration >= SLOW_REQUEST_NS or event[0x50 + 17] & 0x3F not in (0, 1)

    def _is_slow(self, cols: dict[str, Array], k: int) -> bool:
        """A disk request of a second or more, read off its HighResResponseTime."""
        parts = take_apart(self._event(cols, k), int(cols["type"][k]))
        at = 8 if cols["id"][k] == 0x010E else 32 if parts.pointer == 4 else 40
        ticks = int.from_bytes(parts.data[at : at + 8], "little")
        took = self._trace.clock.duration_ns(ticks)
        return isinstance(took, int) and took >= SLOW_REQUEST_NS


class _Events:
    """Follows the watched providers through one trace."""

    def __init__(self) -> None:
        self._judge = judging.Judge()
        self._starts: dict[tuple[Number, Number], Row] = {}
        self._requests = 0
        self._slow: list[tuple[int, Row]] = []

    def event(self, trace: Trace, row: Row, values: dict[str, Value]) -> Iterator[Told]:
        """What one event says."""
        raw = raw_event(row, values)
        yield from self._judge.take(raw, row.event.origin)
        if raw.known is not None:
            yield from self._known(trace, row, raw, values)
        elif raw.key == events.STORPORT:
            yield from self._storport(row, values)
        elif row.event.name in ("DiskIo/Read", "DiskIo/Write", "DiskIo/FlushBuffers"):
            yield from self._disk(trace, row, values)

    def _known(
        self, trace: Trace, row: Row, raw: RawEvent, values: dict[str, Value]
    ) -> Iterator[Told]:
        decoded = windows_events.decode(raw)
        if raw.key == events.KERNEL_IO:
            yield from self._kernel_io(trace, row, raw.event_id, decoded.status)
        elif raw.key == events.CRASHDUMP:
            yield from self._crashdump(row, raw.event_id, values)
        elif decoded.bugcheck and raw.event_id == 41:
            code = decoded.bugcheck[0]
            yield Anomaly(
                "etw-previous-crash",
                f"The start before this trace ended with bugcheck {code:#x}.",
                row.event.origin, "Kernel-Power 41", (Evidence("BugcheckCode", code, "Code"),),
            )  # fmt: skip

    def _kernel_io(self, trace: Trace, row: Row, number: int, status: int | None) -> Iterator[Told]:
        if number == 1304:
            self._starts[row.event.process_id, row.event.thread_id] = row
        elif number == 1305:
            key = (row.event.process_id, row.event.thread_id)
            start = self._starts.pop(key, None)
            duration: int | Absent = Absent("not-found", "its start event is not in the trace")
            if start is not None:
                duration = trace.clock.duration_ns(row.ts - start.ts)
            yield _stage("crash-dump-initialize", "loading the crash dump stack", row, duration,
                         status)  # fmt: skip
            if isinstance(duration, int) and duration > SLOW_START_NS:
                yield Anomaly(
                    "etw-dump-stack-slow",
                    f"Loading the crash dump stack took {duration / 1e9:.1f} s.",
                    row.event.origin, "crash dump stack",
                    (Evidence("duration_ns", duration, "Duration"),),
                )  # fmt: skip

    def _crashdump(self, row: Row, number: int, values: dict[str, Value]) -> Iterator[Told]:
        took = whole(values, "CreateDumpFileDurationInMs")
        if number == 3 and took is not None:
            yield _stage(
                "create-dump-file", "creating the dump file", row, took * 1_000_000, None,
                whole(values, "DumpFileSizeInBytes"),
            )  # fmt: skip
            if took > SLOW_FILE_MS:
                yield Anomaly(
                    "etw-dump-file-slow", f"Creating the dump file took {took / 1000:.1f} s.",
                    row.event.origin, "dump file",
                    (Evidence("CreateDumpFileDurationInMs", took, "Number"),),
                )  # fmt: skip

    def _storport(self, row: Row, values: dict[str, Value]) -> Iterator[Told]:
        duration = None
        for name, unit in (("RequestDuration_100ns", 100), ("IoDispatchToResetTime_100ns", 100)):
            ticks = whole(values, name)
            duration = duration if ticks is None else ticks * unit
        status = whole(values, "SrbStatus")
        failed = status is not None and status & 0x3F not in (0, 1)
        if duration is not None and (duration >= SLOW_REQUEST_NS or failed):
            yield from self._request(row, "storport request", duration, status)

    def _disk(self, trace: Trace, row: Row, values: dict[str, Value]) -> Iterator[Told]:
        ticks = whole(values, "HighResResponseTime")
        duration = trace.clock.duration_ns(ticks) if ticks is not None else None
        if isinstance(duration, int) and duration >= SLOW_REQUEST_NS:
            operation = str(row.event.name).partition("/")[2].lower()
            yield from self._request(row, operation, duration, None)

    def _request(
        self, row: Row, operation: str, duration: int, status: int | None
    ) -> Iterator[Told]:
        self._slow.append((duration, row))
        if self._requests >= MAX_REQUESTS:
            return
        end = row.event.time
        told = Absent("not-recorded", "the event does not tell it")
        fields = row.described.fields
        command = whole(fields.values, "Command") if fields is not None else None
        yield Request(
            request=self._requests, operation=operation, opcode=command, srb_function=None,
            start=end - duration if isinstance(end, int) else told, end=end,
            duration_ns=duration, before_crash_ns=told, in_flight=False, status=status,
            status_name=None, error=None, tag=None, driver=row.event.provider,
            origin=row.event.origin,
        )  # fmt: skip
        self._requests += 1

    def end(self, trace: Trace) -> Iterator[Told]:
        """What only the end of the trace tells."""
        for start in self._starts.values():
            yield Anomaly(
                "etw-dump-stack-unfinished",
                "Loading the crash dump stack began and has no end in the trace.",
                start.event.origin, "crash dump stack",
            )  # fmt: skip
        yield from self._judge.end()
        if self._slow:
            longest, row = max(self._slow, key=lambda item: item[0])
            yield Anomaly(
                "etw-storage-slow",
                f"{len(self._slow)} storage requests were slow or failed; the longest took "
                f"{longest / 1e6:.0f} ms.",
                row.event.origin, "storage", (Evidence("longest_ns", longest, "Duration"),),
            )  # fmt: skip


def raw_event(row: Row, values: dict[str, Value]) -> RawEvent:
    """A traced event as an event log would hold it."""
    event = row.event
    if row.described.name == "ErrorLogEntry":
        return judging.entry(values, event.time)
    number = event.event_id if isinstance(event.event_id, int) else -1
    level = event.level if isinstance(event.level, int) else None
    return judging.modern(
        str(event.provider), str(event.provider_id), number, level, event.time, values
    )


def _stage(
    stage: str, text: str, row: Row, duration: int | Absent, status: int | None,
    amount: Number = None,
) -> Stage:  # fmt: skip
    not_told = Absent("not-applicable", "this is not a step of writing a dump")
    return Stage(
        stage=stage, progress=None, text=text, driver=None, elapsed_ms=not_told,
        duration_ms=duration // 1_000_000 if isinstance(duration, int) else duration,
        time=row.event.time, status=status,
        status_name=ntstatus.name(status) if status is not None else None, amount=amount,
        unit="bytes" if amount is not None else None, rate_mb_per_s=None, origin=row.event.origin,
    )  # fmt: skip
