"""What a trace says about itself: the log file header in its first event.

Invariant: a missing or nonsense header costs the facts it would have told, never the events.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ..absence import Absent
from .clock import Clock
from .layouts import (
    BUFFER_HEADER_SIZE,
    EVENT_TRACE_COMPRESSED_MODE,
    SYSTEM32,
    SYSTEM64,
    TRACE_LOGFILE_HEADER32,
    TRACE_LOGFILE_HEADER64,
)

MODES = {
    0x1: "sequential", 0x2: "circular", 0x4: "append", 0x8: "newfile", 0x400: "buffering",
    0x800: "private", 0x1000: "added header", 0x10000: "relogged", 0x20000: "private in-process",
    0x100: "real time", 0x2000000: "system logger", 0x4000000: "compressed",
    0x8000000: "independent session", 0x10000000: "no per-processor buffering",
    0x80000000: "added to triage dumps",
}  # fmt: skip


class Session(NamedTuple):
    """One tracing session."""

    name: str
    logger_id: int
    mode: int
    clock: Clock
    buffer_size: int
    pointer_size: int
    build: int | Absent = Absent("not-recorded")
    processors: int | Absent = Absent("not-recorded")
    start_time: int = 0  #: FILETIME
    end_time: int = 0  #: FILETIME, 0 = not finalised
    boot_time: int = 0  #: FILETIME
    events_lost: int = 0
    buffers_lost: int = 0
    buffers_written: int = 0
    file_name: str = ""
    version: str = ""
    bias_minutes: int = 0  #: UTC = local + bias
    has_header: bool = True

    @property
    def compressed(self) -> bool:
        """True when the session says its buffers are compressed."""
        return bool(self.mode & EVENT_TRACE_COMPRESSED_MODE)

    @property
    def finalised(self) -> bool:
        """False for a trace whose writer never came back to fill in the header."""
        return self.buffers_written > 0

    @property
    def mode_text(self) -> str:
        """The mode in words."""
        return ", ".join(text for bit, text in MODES.items() if self.mode & bit) or "none"


UNKNOWN = Session(
    "", 0, 0, Clock(0, 0, 0, 0), 0, 8, has_header=False,
)  # fmt: skip


def _text(raw: bytes) -> tuple[str, bytes]:
    """A NUL-terminated UTF-16 string and the bytes behind it."""
    for at in range(0, len(raw) - 1, 2):
        if raw[at] == raw[at + 1] == 0:
            return raw[:at].decode("utf-16-le", "replace"), raw[at + 2 :]
    return raw[: len(raw) & ~1].decode("utf-16-le", "replace"), b""


def is_log_header(event: bytes) -> bool:
    """True when an event is a TRACE_LOGFILE_HEADER: system header, hook 0."""
    return (
        len(event) >= 0x20 + TRACE_LOGFILE_HEADER32.size()
        and event[3] == 0xC0
        and event[2] in (SYSTEM32, SYSTEM64)
        and event[6:8] == b"\0\0"
    )


def parse_log_header(event: bytes, logger_id: int) -> Session | None:
    """The session told by the first event; None when the event is something else."""
    if not is_log_header(event):
        return None
    layout = TRACE_LOGFILE_HEADER64 if event[2] == SYSTEM64 else TRACE_LOGFILE_HEADER32
    if len(event) < 0x20 + layout.size():
        return None
    head = layout.from_buffer_copy(event, 0x20)
    first_ts = struct.unpack_from("<q", event, 0x10)[0]
    name, rest = _text(event[0x20 + layout.size() :])
    file_name = _text(rest)[0]
    return Session(
        name=name,
        file_name=file_name,
        logger_id=logger_id,
        mode=head.LogFileMode,
        clock=Clock.of(
            head.ReservedFlags, head.PerfFreq, head.CpuSpeedInMHz, head.StartTime, first_ts
        ),
        buffer_size=head.BufferSize,
        pointer_size=head.PointerSize if head.PointerSize in (4, 8) else 8,
        build=head.ProviderVersion,
        processors=head.NumberOfProcessors,
        start_time=head.StartTime,
        end_time=head.EndTime,
        boot_time=head.BootTime,
        events_lost=head.EventsLost,
        buffers_lost=head.BuffersLost,
        buffers_written=head.BuffersWritten,
        version=f"{head.MajorVersion}.{head.MinorVersion}.{head.SubVersion}.{head.SubMinorVersion}",
        bias_minutes=struct.unpack_from("<i", bytes(head.TimeZone))[0],
    )


def describe_header(data: bytes, pointer: int) -> str:
    """The payload of a TRACE_LOGFILE_HEADER event in words."""
    layout = TRACE_LOGFILE_HEADER32 if pointer == 4 else TRACE_LOGFILE_HEADER64
    if len(data) < layout.size():
        return "a cut trace header"
    head = layout.from_buffer_copy(data)
    modes = ", ".join(text for bit, text in MODES.items() if head.LogFileMode & bit) or "none"
    return (
        f"session {_text(data[layout.size() :])[0]!r}, build {head.ProviderVersion}, "
        f"{head.NumberOfProcessors} processors, mode {modes}, {head.EventsLost} events and "
        f"{head.BuffersLost} buffers lost"
    )


def read_session(data: bytes | memoryview) -> Session:
    """The session of a file from its first bytes."""
    if len(data) < BUFFER_HEADER_SIZE + 8:
        return UNKNOWN
    logger_id = struct.unpack_from("<H", data, 0x2A)[0]
    size = struct.unpack_from("<H", data, BUFFER_HEADER_SIZE + 4)[0]
    event = bytes(data[BUFFER_HEADER_SIZE : BUFFER_HEADER_SIZE + size])
    return parse_log_header(event, logger_id) or UNKNOWN._replace(logger_id=logger_id)
