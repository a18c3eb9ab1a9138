"""What traced events say about the dump stack, as records and anomalies.

Invariant: only providers that speak of the dump stack, storage or mapped callbacks are decoded; an
event is one statement with its place, and a pair of events (start and stop) is matched by thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..absence import Absent
from ..names import locations, ntstatus
from ..records import Anomaly, Origin, Request, Stage
from . import callbacks, providers
from .events import Row, details
from .layouts import ETW_BUFFER_FLAG_BUFFER_LOST, ETW_BUFFER_FLAG_EVENTS_LOST
from .trace import Trace

SLOW_START_NS = 5_000_000_000  #: loading the dump stack; it includes every filter's DriverEntry
SLOW_FILE_MS = 10_000
SLOW_REQUEST_NS = 1_000_000_000
MAX_REQUESTS = 10_000
_END = (1 << 63) - 1  # of time
_DISK_HOOKS = (0x010A, 0x010B, 0x010E)
_WATCHED = (
    providers.CRASHDUMP, providers.KERNEL_DUMP, providers.KERNEL_IO, providers.KERNEL_BOOT,
    providers.KERNEL_POWER, providers.STORPORT, providers.IO_ERROR_LOG,
)  # fmt: skip
_VOLMGR_RULES = {
    45: "event-dump-driver-load-failed", 46: "event-dump-init-failed",
    47: "event-dump-config-failed",
    48: "event-dump-config-failed", 49: "event-dump-config-failed", 156: "event-dump-device-gone",
    161: "event-dump-failed", 163: "event-dump-callback-exception",
    164: "event-dump-config-failed",
}  # fmt: skip
_BOOT_FAILURES = (257, 258, 264, 265, 267)  # early dump support could not be loaded
_STORAGE_SOURCES = ("disk", "storport", "stornvme", "storahci", "iastor", "partmgr", "ntfs")


def lost_spans(trace: Trace) -> list[tuple[int, int]]:
    """Spans of the session clock in which events were lost, by the buffers that say so."""
    table = trace.buffers.table
    flagged = (
        table["flags"] & (ETW_BUFFER_FLAG_EVENTS_LOST | ETW_BUFFER_FLAG_BUFFER_LOST)
    ) != 0
    out: list[tuple[int, int]] = []
    starts = trace.first_times()
    for k in np.flatnonzero(flagged).tolist():
        # The flag does not say when: after the buffer before on this processor was flushed, and
        # before this one was. An unflushed buffer of a dump has no flush time.
        first, stamp = int(starts[k]), int(table["stamp"][k])
        earlier = (table["cpu"] == table["cpu"][k]) & (table["sequence"] < table["sequence"][k])
        before = int(table["stamp"][earlier].max()) if earlier.any() else first
        out.append((min(first, before) if before > 0 else first, stamp if stamp >= first else _END))
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


def integrity(trace: Trace) -> Iterator[Anomaly]:
    """What the trace lost, and what of its bytes could not be used."""
    len(trace)  # the figures are of one full pass
    session, account = trace.session, trace.account
    name = session.name or trace.path

    def anomaly(rule: str, text: str, offset: Any = None, *evidence: str) -> Anomaly:
        return Anomaly(rule, text, Origin(trace.path, "trace structure", "certain", offset), name,
                       tuple(evidence))  # fmt: skip

    if not session.has_header:
        yield anomaly(
            "etw-header-missing",
            "The trace has no readable header, so its clock and session are not known.",
        )
    elif not session.clock.known:
        yield anomaly(
            "etw-clock-unknown",
            "The trace header gives no usable clock, so its times are not known.", None,
            f"clock type = {session.clock.kind}",
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
            f"Its writer never closed this trace; all {account.buffers} buffers found were read.",
        )
    if session.events_lost or session.buffers_lost:
        yield anomaly(
            "etw-events-lost",
            f"The session lost {session.events_lost} events and {session.buffers_lost} buffers.",
            None, f"EventsLost = {session.events_lost}", f"BuffersLost = {session.buffers_lost}",
        )  # fmt: skip
    gaps = trace.gaps()
    if gaps:
        missing = sum(gap[2] for gap in gaps)
        yield anomaly(
            "etw-buffers-missing",
            f"{missing} buffer numbers are missing in {len(gaps)} places"
            + ("." if trace.may_have_lost_buffers else "; the session says it lost none."), None,
            *(f"after buffer {last} (processor {cpu}): {count}" for cpu, last, count in gaps[:8]),
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
            *(f"{note.kind} at {note.offset:#x}: {note.text}" for note in bad[:8]),
        )  # fmt: skip
    for text in trace.decoder.broken[:8]:
        yield anomaly("etw-manifest-broken", f"A manifest in the trace cannot be used: {text}")


def tell(
    trace: Trace, mapping: Sequence[callbacks.Rule] = (), crash_ns: int | None = None
) -> Iterator[Any]:
    """Records and anomalies of one trace; ``crash_ns`` is the crash time, where it is known."""
    yield from integrity(trace)
    rules = [*mapping, *callbacks.PUBLISHED]
    wanted = {rule.provider for rule in rules}
    guids = [guid.lower() for guid in trace.providers.guids]
    names = [trace.decoder.provider_name(guid).lower() for guid in guids]
    watched = [k for k, guid in enumerate(guids) if guid in _WATCHED]
    mapped = [k for k, guid in enumerate(guids) if k and (guid in wanted or names[k] in wanted)]
    disk = 0x01 in trace.hook_groups
    if not watched and not mapped and not disk:
        return
    halves: list[callbacks.Half] = []
    spoken = _Story(crash_ns)
    for cols in trace.chunks():
        keep = np.isin(cols["provider"], watched + mapped) if watched or mapped else None
        if disk:
            hooks = (cols["provider"] == 0) & np.isin(cols["id"], _DISK_HOOKS)
            keep = hooks if keep is None else keep | hooks
        assert keep is not None
        if not keep.any():
            continue
        part = {name: column[keep] for name, column in cols.items()}
        for row in details(trace, part):
            fields = row.described.fields
            values = fields.values if fields is not None else {}
            half = callbacks.half_of(rules, row.event, row.ts, values) if mapped else None
            if half is not None:
                halves.append(half)
            else:
                yield from spoken.event(trace, row, values)
    yield from spoken.end(trace)
    if halves:
        paired = callbacks.pair(halves, trace.clock, lost_spans(trace))
        yield from paired.callbacks
        yield from paired.anomalies


def _status(values: dict[str, Any], *names: str) -> int | None:
    for name in names:
        if isinstance(values.get(name), int):
            return int(values[name]) & 0xFFFFFFFF
    return None


class _Story:
    """Follows the watched providers through one trace."""

    def __init__(self, crash_ns: int | None) -> None:
        self._crash = crash_ns
        self._starts: dict[Any, Row] = {}
        self._errors: dict[tuple[str, str], list[Row]] = {}
        self._requests = 0
        self._slow: list[tuple[int, Row]] = []

    def event(self, trace: Trace, row: Row, values: dict[str, Any]) -> Iterable[Any]:
        guid, number = str(row.event.provider_id), row.event.event_id
        status = _status(values, "Status", "NTStatus")
        if guid == providers.KERNEL_IO:
            return self._kernel_io(trace, row, number, status)
        if guid == providers.CRASHDUMP:
            return self._crashdump(row, number, values, status)
        failed = status if status is not None and ntstatus.is_failure(status) else None
        if guid == providers.KERNEL_DUMP and failed is not None:
            return [_failed("event-dump-stack-failed", row, failed)]
        if guid == providers.KERNEL_BOOT and number in _BOOT_FAILURES and failed is not None:
            return [_failed("event-boot-dump-failed", row, failed)]
        if guid == providers.KERNEL_POWER and number == 41:
            return self._dirty(row, values)
        if guid == providers.IO_ERROR_LOG or row.described.name == "ErrorLogEntry":
            return self._entry(row, values)
        if guid == providers.STORPORT:
            return self._storport(row, values)
        if row.event.name in ("DiskIo/Read", "DiskIo/Write", "DiskIo/FlushBuffers"):
            return self._disk(trace, row, values)
        return []

    def _kernel_io(
        self, trace: Trace, row: Row, number: Any, status: int | None
    ) -> Iterator[Any]:
        if number == 1304:
            self._starts[row.event.process_id, row.event.thread_id] = row
        elif number == 1305:
            key = (row.event.process_id, row.event.thread_id)
            start = self._starts.pop(key, None)
            duration: Any = Absent("not-found", "its start event is not in the trace")
            if start is not None:
                duration = trace.clock.duration_ns(row.ts - start.ts)
            yield _stage("crash-dump-initialize", "loading the crash dump stack", row, duration,
                         status)  # fmt: skip
            if status is not None and ntstatus.is_failure(status):
                yield _failed("event-boot-dump-failed", row, status)
            if isinstance(duration, int) and duration > SLOW_START_NS:
                yield Anomaly(
                    "etw-dump-stack-slow",
                    f"Loading the crash dump stack took {duration / 1e9:.1f} s.",
                    row.event.origin, "crash dump stack", (f"duration_ns = {duration}",),
                )  # fmt: skip
        elif number == 1207:
            yield Anomaly("event-dump-encryption-failed", f"{row.event.name}: {row.event.text}.",
                          row.event.origin, "dump encryption")  # fmt: skip

    def _crashdump(
        self, row: Row, number: Any, values: dict[str, Any], status: int | None
    ) -> Iterator[Any]:
        if number == 3 and isinstance(values.get("CreateDumpFileDurationInMs"), int):
            took = values["CreateDumpFileDurationInMs"]
            yield _stage(
                "create-dump-file", "creating the dump file", row, took * 1_000_000, None,
                values.get("DumpFileSizeInBytes"),
            )  # fmt: skip
            if took > SLOW_FILE_MS:
                yield Anomaly(
                    "etw-dump-file-slow", f"Creating the dump file took {took / 1000:.1f} s.",
                    row.event.origin, "dump file", (f"CreateDumpFileDurationInMs = {took}",),
                )  # fmt: skip
        elif number in (4, 5) and status is not None and ntstatus.is_failure(status):
            yield _failed("event-boot-dump-failed", row, status)

    def _dirty(self, row: Row, values: dict[str, Any]) -> Iterator[Any]:
        code = values.get("BugcheckCode")
        if isinstance(code, int) and code:
            yield Anomaly(
                "etw-previous-crash",
                f"The start before this trace ended with bugcheck {code:#x}.",
                row.event.origin, "Kernel-Power 41", (f"BugcheckCode = {code:#x}",),
            )  # fmt: skip

    def _entry(self, row: Row, values: dict[str, Any]) -> Iterator[Any]:
        source = str(values.get("Source", "")).lower()
        number = int(values.get("ErrorCode", 0)) & 0xFFFF
        if source == "volmgr" and number in _VOLMGR_RULES:
            location = values.get("LocationCode")
            text = str(row.event.text)
            known = locations.LOCATIONS.get(location) if isinstance(location, int) else None
            yield Anomaly(
                _VOLMGR_RULES[number], text + (f" ({known})." if known else "."),
                row.event.origin, "volmgr", (f"event = {number}",),
            )  # fmt: skip
        elif source.startswith(_STORAGE_SOURCES) and int(values.get("ErrorCode", 0)) >> 30 == 3:
            self._errors.setdefault(("driver entries", source), []).append(row)

    def _storport(self, row: Row, values: dict[str, Any]) -> Iterator[Any]:
        level = row.event.level
        duration = None
        for name, unit in (("RequestDuration_100ns", 100), ("IoDispatchToResetTime_100ns", 100)):
            if isinstance(values.get(name), int):
                duration = values[name] * unit
        status = values.get("SrbStatus")
        failed = isinstance(status, int) and status & 0x3F not in (0, 1)
        if duration is not None and (duration >= SLOW_REQUEST_NS or failed):
            yield from self._request(row, "storport request", duration, status)
        elif isinstance(level, int) and 1 <= level <= 2:
            self._errors.setdefault(("StorPort", f"event {row.event.event_id}"), []).append(row)

    def _disk(self, trace: Trace, row: Row, values: dict[str, Any]) -> Iterator[Any]:
        ticks = values.get("HighResResponseTime")
        duration = trace.clock.duration_ns(ticks) if isinstance(ticks, int) else None
        if isinstance(duration, int) and duration >= SLOW_REQUEST_NS:
            operation = str(row.event.name).partition("/")[2].lower()
            yield from self._request(row, operation, duration, None)

    def _request(
        self, row: Row, operation: str, duration: int, status: int | None
    ) -> Iterator[Any]:
        self._slow.append((duration, row))
        if self._requests >= MAX_REQUESTS:
            return
        end = row.event.time
        told = Absent("not-recorded", "the event does not tell it")
        before: Any = told
        if self._crash is not None and isinstance(end, int):
            before = self._crash - end
        command = row.described.fields.values.get("Command") if row.described.fields else None
        yield Request(
            request=self._requests, operation=operation, opcode=command, srb_function=None,
            start=end - duration if isinstance(end, int) else told, end=end,
            duration_ns=duration, before_crash_ns=before, in_flight=False, status=status,
            status_name=None, error=None, tag=None, driver=row.event.provider,
            origin=row.event.origin,
        )  # fmt: skip
        self._requests += 1

    def end(self, trace: Trace) -> Iterator[Any]:
        """What only the end of the trace tells."""
        for start in self._starts.values():
            yield Anomaly(
                "etw-dump-stack-unfinished",
                "Loading the crash dump stack began and has no end in the trace.",
                start.event.origin, "crash dump stack",
            )  # fmt: skip
        for (kind, what), rows in self._errors.items():
            first = rows[0]
            yield Anomaly(
                "etw-storage-errors",
                f"{len(rows)} storage error{'s' if len(rows) > 1 else ''} ({kind}, {what}); the "
                f"first says: {str(first.event.text)[:200]}",
                first.event.origin, what, (f"count = {len(rows)}",),
            )  # fmt: skip
        if self._slow:
            longest, row = max(self._slow, key=lambda item: item[0])
            yield Anomaly(
                "etw-storage-slow",
                f"{len(self._slow)} storage requests were slow or failed; the longest took "
                f"{longest / 1e6:.0f} ms.",
                row.event.origin, "storage", (f"longest_ns = {longest}",),
            )  # fmt: skip


def _failed(rule: str, row: Row, status: int) -> Anomaly:
    return Anomaly(
        rule, f"{row.event.provider} event {row.event.event_id}, {row.event.name}: "
        f"{ntstatus.name(status)}.", row.event.origin, str(row.event.provider),
        (f"status = {status:#010x}",),
    )  # fmt: skip


def _stage(
    stage: str, text: str, row: Row, duration: Any, status: int | None, amount: Any = None
) -> Stage:
    not_told = Absent("not-applicable", "this is not a step of writing a dump")
    return Stage(
        stage=stage, text=text, driver=None, elapsed_ms=not_told,
        duration_ms=duration // 1_000_000 if isinstance(duration, int) else duration,
        time=row.event.time, status=status,
        status_name=ntstatus.name(status) if status is not None else None, amount=amount,
        unit="bytes" if amount is not None else None, rate_mb_per_s=None, origin=row.event.origin,
    )  # fmt: skip


