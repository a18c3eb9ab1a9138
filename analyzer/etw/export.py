"""A session as an .etl file that other readers open: from a dump's block, or a damaged trace.

Invariant: event bytes are copied as they are; only buffer headers and the trace header are made
anew, so times, order and payloads stay what they were.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import numpy as np

from .. import outputs
from ..absence import Absent
from ..errors import InputError, UsageError
from .buffers import MAX_BUFFER, Array, blocks
from .layouts import (
    BUFFER_HEADER_SIZE,
    CLOCK_SYSTEM_TIME,
    ETW_BUFFER_FLAG_COMPRESSED,
    ETW_BUFFER_FLAG_PROCESSOR_INDEX,
    EVENT_TRACE_COMPRESSED_MODE,
    SYSTEM64,
    TRACE_LOGFILE_HEADER64,
)
from .session import is_log_header
from .trace import Trace

_HEADER = struct.Struct("<IIIiqqQHHIIHHQQ")
_GENERIC, _KIND_HEADER = 0, 4
#: all buffers of a file have one size, so one lying length would make all of them large
_MOST_BYTES, _MOST_GROWTH = 1 << 30, 64


def choose(traces: Sequence[Trace], wanted: str | None, path: str) -> Trace:
    """The session with this name or number; without one, the only session there is."""
    found = [t for t in traces if wanted is None or _is_called(t, wanted)]
    if len(found) == 1:
        return found[0]
    if not traces:
        raise InputError(path, "there is no ETW session in it")
    listed = ", ".join(
        f"{t.session.logger_id} '{t.session.name}' ({len(t):,} events)" for t in traces
    )
    what = "no session" if not found else "more than one session"
    called = "" if wanted is None else f" called '{wanted}'"
    raise UsageError(f"{path}: it has {what}{called}; name one with --session: {listed}.")


def _is_called(trace: Trace, wanted: str) -> bool:
    session = trace.session
    return wanted.casefold() == session.name.casefold() or wanted == str(session.logger_id)


def write(trace: Trace, path: str) -> int:
    """Writes the trace's session to ``path``; returns the number of events, header included."""
    outputs.protect(path, [trace.path])
    total = _buffer_size(trace) * (len(trace.buffers.table) + 1)
    if total > max(_MOST_BYTES, len(trace.data) * _MOST_GROWTH):
        name = trace.session.name
        raise InputError(trace.path, f"session '{name}' is damaged: as a trace, {total:,} bytes")
    with outputs.replacing(path) as name, open(name, "wb") as file:
        for piece in pieces(trace):
            file.write(piece)
    return len(Trace.open(path))


def _buffer_size(trace: Trace) -> int:
    """Of all buffers of the new file; a size that Windows does not take is not believed."""
    table = trace.buffers.table
    size = max(trace.session.buffer_size, trace.buffers.nominal)
    size = size if size <= MAX_BUFFER else 0
    if len(table):
        size = max(size, int(table["end"].max()))
    size = max(size, len(_first_event(trace, 0, 0)) + BUFFER_HEADER_SIZE)
    return (size + 0x3FF) & ~0x3FF


def pieces(trace: Trace) -> Iterator[bytes]:
    """The bytes of the file, buffer by buffer."""
    table = trace.buffers.table
    size = _buffer_size(trace)
    filled = np.flatnonzero(table["end"] >= BUFFER_HEADER_SIZE + 8)
    is_first = True
    for block in blocks(trace.buffers, None, order=filled):
        for number, start, end in zip(
            block.numbers.tolist(), block.starts.tolist(), block.ends.tolist()
        ):
            body, kind = block.data[start:end].tobytes(), _GENERIC
            if is_first and is_log_header(body[: int.from_bytes(body[4:6], "little")]):
                body, kind = _retold(body, size, len(filled)), _KIND_HEADER
            elif is_first:
                yield _first(trace, size, len(filled))
            yield _buffer(body, table[number], size, kind)
            is_first = False
    if is_first:
        yield _first(trace, size, 0)


def _buffer(body: bytes, row: Array | dict[str, int], size: int, kind: int) -> bytes:
    end = BUFFER_HEADER_SIZE + len(body)
    flags = int(row["flags"]) & ~ETW_BUFFER_FLAG_COMPRESSED | ETW_BUFFER_FLAG_PROCESSOR_INDEX
    head = _HEADER.pack(
        size, end, 0, 0, int(row["stamp"]), int(row["sequence"]), 0, int(row["cpu"]),
        int(row["logger"]), 3, end, flags, kind, 0, 0,
    )  # fmt: skip
    return (head + body).ljust(size, b"\xff")


def _retold(body: bytes, size: int, buffers: int) -> bytes:
    """An existing trace header that fits the new file: size, count, no compression."""
    out = bytearray(body)
    struct.pack_into("<I", out, 0x20, size)
    mode = struct.unpack_from("<I", out, 0x40)[0]
    struct.pack_into("<II", out, 0x40, mode & ~EVENT_TRACE_COMPRESSED_MODE, buffers)
    return bytes(out)


def _first(trace: Trace, size: int, buffers: int) -> bytes:
    """A first buffer for a session without one."""
    row = {"flags": 0, "stamp": _first_stamp(trace), "sequence": 0, "cpu": 0,
           "logger": trace.session.logger_id & 0xFFFF}  # fmt: skip
    return _buffer(_first_event(trace, size, buffers), row, size, _KIND_HEADER)


def _first_stamp(trace: Trace) -> int:
    session, clock = trace.session, trace.session.clock
    ts = clock.reference_clock if clock.kind != CLOCK_SYSTEM_TIME else session.start_time
    return min(max(ts, 0), (1 << 63) - 1)


def _first_event(trace: Trace, size: int, buffers: int) -> bytes:
    """The trace header as an event, padded."""
    session, clock = trace.session, trace.session.clock
    table = trace.buffers.table
    processors = int(table["cpu"].max()) + 1 if len(table) else 1
    head = TRACE_LOGFILE_HEADER64()
    head.BufferSize = size
    head.MajorVersion, head.MinorVersion, head.SubVersion, head.SubMinorVersion = 10, 0, 1, 5
    head.ProviderVersion = 0 if isinstance(session.build, Absent) else session.build
    head.NumberOfProcessors = max(processors, 1)
    head.EndTime = session.end_time or session.start_time
    head.LogFileMode = 1
    head.BuffersWritten = buffers + 1
    head.StartBuffers = 1
    head.PointerSize = session.pointer_size
    head.CpuSpeedInMHz = clock.frequency // 1_000_000
    head.BootTime = session.boot_time
    head.PerfFreq = clock.frequency or 10_000_000
    head.StartTime = clock.reference_time or session.start_time
    head.ReservedFlags = clock.kind or 1
    names = (session.name + "\0" + "\0").encode("utf-16-le", "replace")
    data = bytes(head) + names
    event = struct.pack(
        "<HBBHHIIqII", 2, SYSTEM64, 0xC0, 0x20 + len(data), 0, 0, 0, _first_stamp(trace), 0, 0
    )
    body = event + data
    return body + b"\xff" * (-len(body) % 8)
