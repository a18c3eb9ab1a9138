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
from ..records import Anomaly, Evidence, Request, Stage
from . import callbacks, integrity, providers
from .events import Row, details
from .layouts import EVENT64, PERFINFO32, PERFINFO64, SYSTEM32
from .trace import Trace

SLOW_START_NS = 5_000_000_000  #: loading the dump stack; it includes every filter's DriverEntry
SLOW_FILE_MS = 10_000
SLOW_REQUEST_NS = 1_000_000_000
MAX_REQUESTS = 10_000
_DISK_HOOKS = (0x010A, 0x010B, 0x010E)
#: provider -> ids of the events that matter; None: all
_WATCHED: dict[str, tuple[int, ...] | None] = {
    providers.CRASHDUMP: None,
    providers.KERNEL_DUMP: None,
    providers.KERNEL_IO: (1207, 1304, 1305),
    providers.KERNEL_BOOT: (257, 258, 264, 265, 267),
    providers.KERNEL_POWER: (41,),
    providers.STORPORT: None,  # chosen by level and duration, see _requests_that_matter
    providers.IO_ERROR_LOG: None,
}
_VOLMGR_RULES = {
    45: "event-dump-driver-load-failed", 46: "event-dump-init-failed",
    47: "event-dump-config-failed",
    48: "event-dump-config-failed", 49: "event-dump-config-failed", 156: "event-dump-device-gone",
    161: "event-dump-failed", 163: "event-dump-callback-exception",
    164: "event-dump-config-failed",
}  # fmt: skip
_STORAGE_SOURCES = ("disk", "storport", "stornvme", "storahci", "iastor", "partmgr", "ntfs")


def tell(
    trace: Trace, mapping: Sequence[callbacks.Rule] = (), crash_ns: int | None = None
) -> Iterator[Any]:
    """Records and anomalies of one trace; ``crash_ns`` is the crash time, where it is known."""
    yield from integrity.check(trace)
    rules = [*mapping, *callbacks.PUBLISHED]
    choice = _Choice(trace, {rule.provider for rule in rules})
    if not choice.any:
        return
    mapped = bool(choice.mapped)
    halves: list[callbacks.Half] = []
    spoken = _Story(crash_ns)
    for cols in trace.chunks():
        keep = choice.rows(cols)
        if not len(keep):
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
        paired = callbacks.pair(halves, trace.clock, integrity.lost_spans(trace))
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
        self._watched = {k: _WATCHED[guid] for k, guid in enumerate(guids) if guid in _WATCHED}
        self._storport = guids.index(providers.STORPORT) if providers.STORPORT in guids else -1
        self._disk = 0x01 in trace.hook_groups
        self.any = bool(self.mapped or self._watched or self._disk)

    def rows(self, cols: dict[str, Any]) -> Any:
        """Row numbers, in order."""
        number, ident = cols["provider"], cols["id"]
        keep = np.isin(number, self.mapped)
        for provider, ids in self._watched.items():
            mine = number == provider
            if provider == self._storport:
                errors = mine & (cols["level"] >= 1) & (cols["level"] <= 2)
                timed = np.flatnonzero(mine & np.isin(ident, (200, 201)) & ~errors)
                keep |= errors | (mine & np.isin(ident, (507, 508)))
                keep[timed[[self._is_bad(cols, k) for k in timed.tolist()]]] = True
            else:
                keep |= mine if ids is None else mine & np.isin(ident, ids)
        if self._disk:
            disk = np.flatnonzero((number == 0) & np.isin(ident, _DISK_HOOKS))
            keep[disk[[self._is_slow(cols, k) for k in disk.tolist()]]] = True
        return np.flatnonzero(keep)

    def _event(self, cols: dict[str, Any], k: int) -> bytes:
        return self._trace.event_bytes(
            int(cols["buffer"][k]), int(cols["offset"][k]), int(cols["size"][k])
        )

    def _is_bad(self, cols: dict[str, Any], k: int) -> bool:
        """A StorPort request of a second or more, or one that failed."""
        event = self._event(cols, k)
        if event[4] & 1 or cols["type"][k] != EVENT64 or len(event) < 0x50 + 18:
            return True  # not the plain form: decode it
        duration = int.from_bytes(event[0x50:0x58], "little") * 100
        return duration >= SLOW_REQUEST_NS or event[0x50 + 17] & 0x3F not in (0, 1)

    def _is_slow(self, cols: dict[str, Any], k: int) -> bool:
        """A disk request of a second or more, read off its HighResResponseTime."""
        kind = int(cols["type"][k])
        narrow = kind in (PERFINFO32, SYSTEM32)
        start = 0x10 if kind in (PERFINFO32, PERFINFO64) else 0x20
        at = 8 if cols["id"][k] == 0x010E else 32 if narrow else 40
        event = self._event(cols, k)
        ticks = int.from_bytes(event[start + at : start + at + 8], "little")
        took = self._trace.clock.duration_ns(ticks)
        return isinstance(took, int) and took >= SLOW_REQUEST_NS


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
        if guid == providers.KERNEL_DUMP and failed is not None and number in range(4, 10):
            return [_failed("event-dump-stack-failed", row, failed)]
        if guid == providers.KERNEL_BOOT and failed is not None:
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

    def _kernel_io(self, trace: Trace, row: Row, number: Any, status: int | None) -> Iterator[Any]:
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
                    row.event.origin, "crash dump stack",
                    (Evidence("duration_ns", duration, "Duration"),),
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
                    row.event.origin, "dump file",
                    (Evidence("CreateDumpFileDurationInMs", took, "Number"),),
                )  # fmt: skip
        elif number in (4, 5) and status is not None and ntstatus.is_failure(status):
            yield _failed("event-boot-dump-failed", row, status)

    def _dirty(self, row: Row, values: dict[str, Any]) -> Iterator[Any]:
        code = values.get("BugcheckCode")
        if isinstance(code, int) and code:
            yield Anomaly(
                "etw-previous-crash",
                f"The start before this trace ended with bugcheck {code:#x}.",
                row.event.origin, "Kernel-Power 41", (Evidence("BugcheckCode", code, "Code"),),
            )  # fmt: skip

    def _entry(self, row: Row, values: dict[str, Any]) -> Iterator[Any]:
        source = str(values.get("Source", "")).lower()
        number = int(values.get("ErrorCode", 0)) & 0xFFFF
        if source == "volmgr" and number in _VOLMGR_RULES:
            location = values.get("LocationCode")
            status = _status(values, "FinalStatus", "Status")
            text = str(row.event.text)
            known = locations.LOCATIONS.get(location) if isinstance(location, int) else None
            yield Anomaly(
                _VOLMGR_RULES[number], text + (f" ({known})." if known else "."),
                row.event.origin, "volmgr", (Evidence("event", f"volmgr {number}"),),
                {"event_id": number, "location": location, "status": status},
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
                first.event.origin, what, (Evidence("count", len(rows), "Number"),),
            )  # fmt: skip
        if self._slow:
            longest, row = max(self._slow, key=lambda item: item[0])
            yield Anomaly(
                "etw-storage-slow",
                f"{len(self._slow)} storage requests were slow or failed; the longest took "
                f"{longest / 1e6:.0f} ms.",
                row.event.origin, "storage", (Evidence("longest_ns", longest, "Duration"),),
            )  # fmt: skip


def _failed(rule: str, row: Row, status: int) -> Anomaly:
    return Anomaly(
        rule, f"{row.event.provider} event {row.event.event_id}, {row.event.name}: "
        f"{ntstatus.name(status)}.", row.event.origin, str(row.event.provider),
        (Evidence("status", status, "Code", ntstatus.name(status)),),
        {"event_id": row.event.event_id, "status": status},
    )  # fmt: skip


def _stage(
    stage: str, text: str, row: Row, duration: Any, status: int | None, amount: Any = None
) -> Stage:
    not_told = Absent("not-applicable", "this is not a step of writing a dump")
    return Stage(
        stage=stage, progress=None, text=text, driver=None, elapsed_ms=not_told,
        duration_ms=duration // 1_000_000 if isinstance(duration, int) else duration,
        time=row.event.time, status=status,
        status_name=ntstatus.name(status) if status is not None else None, amount=amount,
        unit="bytes" if amount is not None else None, rate_mb_per_s=None, origin=row.event.origin,
    )  # fmt: skip
