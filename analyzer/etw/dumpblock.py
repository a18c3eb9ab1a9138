"""The ETW block of a kernel dump: the live buffers of sessions, saved by Windows at the crash.

Invariant: every byte of the block is block header, session header, buffer, or named as skipped.
Layout seen on the 12 of 52 real minidumps that have it (19041 to 22000); it is no .etl file:
session headers and cut-off buffers follow each other without padding.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from ..files import Bytes, FileBytes
from .buffers import BUFFER_DTYPE, MAX_BUFFER, Account, Buffers, Note
from .clock import Clock
from .layouts import (
    BUFFER_HEADER_SIZE,
    DUMP_BLOCK,
    DUMP_SESSION,
    DUMP_SESSION_SIGNATURE,
    ETW_BUFFER_FLAG_PROCESSOR_INDEX,
)
from .session import Session
from .trace import Trace

GUID = "2b88b710-1c93-4f7c-b06c-655ecc50decc"
_BUFFER = struct.Struct("<IIIiqqQHHIIHH")


class DumpBlock(NamedTuple):
    """The sessions of one block and what of its bytes was understood."""

    clock_increment: int  #: 100 ns
    build: int
    cpu_mhz: int
    boot_time: int  #: FILETIME
    frequency: int  #: of the performance counter
    traces: tuple[Trace, ...]  #: one per session, in the order of the block
    bytes_total: int
    bytes_headers: int  #: of the block and its sessions
    bytes_buffers: int
    bytes_skipped: int
    notes: tuple[Note, ...]

    @property
    def events(self) -> int:
        """Events of all sessions."""
        return sum(map(len, self.traces))


def sessions(block: Bytes, path: str = "", base: int = 0) -> DumpBlock:
    """Sessions and buffers of the tagged block's data; ``base`` is where it lies in the file."""
    raw = memoryview(block).cast("B")
    data = FileBytes.of(raw, path)
    size = len(raw)
    if size < DUMP_BLOCK.size:
        note = Note("cut", base, f"the block has {size} bytes; its header takes 32")
        return DumpBlock(0, 0, 0, 0, 0, (), size, 0, 0, size, (note,))
    increment, build, mhz, _, boot, frequency = DUMP_BLOCK.unpack_from(raw, 0)
    notes: list[Note] = []
    found: list[tuple[Session, list[tuple[int, ...]]]] = []
    at, headers, buffers, skipped = DUMP_BLOCK.size, DUMP_BLOCK.size, 0, 0
    while at < size:
        session = _session(raw, at, build & 0xFFFF, mhz, boot, frequency)
        if session is not None:
            info, after = session
            found.append((info, []))
            headers += after - at
            at = after
            continue
        row = _buffer(raw, at, found[-1][0]) if found else None
        if row is not None:
            found[-1][1].append(row)
            buffers += row[1]
            at += row[1]
            continue
        onward = _resume(raw, at + 1, found[-1][0] if found else None)
        notes.append(Note("resync", base + at, "neither a session nor a buffer starts here"))
        skipped += onward - at
        at = onward
    traces = tuple(_trace(data, info, rows, path, base) for info, rows in found)
    return DumpBlock(
        increment, build & 0xFFFF, mhz, boot, frequency, traces, size, headers, buffers, skipped,
        tuple(notes),
    )  # fmt: skip


def _session(
    raw: memoryview, at: int, build: int, mhz: int, boot: int, frequency: int
) -> tuple[Session, int] | None:
    """(Session, offset behind its header) or None."""
    if at + DUMP_SESSION.size > len(raw):
        return None
    mark, logger, mode, clock, size, length, start, time, ticks = DUMP_SESSION.unpack_from(raw, at)
    name_at = at + DUMP_SESSION.size
    if mark != DUMP_SESSION_SIGNATURE or length > 0x2000 or name_at + length > len(raw):
        return None
    name = bytes(raw[name_at : name_at + (length & ~1)]).decode("utf-16-le", "replace")
    info = Session(
        name=name, logger_id=logger, mode=mode, clock=Clock.of(clock, frequency, mhz, time, ticks),
        buffer_size=size, pointer_size=8, build=build, start_time=start, boot_time=boot,
        buffers_written=1,
    )  # fmt: skip
    # The name field is twice its length up to build 22000 at least (the rest is stale memory) and
    # once in later builds; stale bytes can look like a buffer, so the logger id must agree too.
    for step in (2 * length, length, (length + 7) & ~7):
        after = name_at + step
        if after == len(raw) or _follows(raw, after, info):
            return info, after
    return info, name_at + length


def _follows(raw: memoryview, at: int, info: Session) -> bool:
    if at + 4 > len(raw):
        return False
    if struct.unpack_from("<I", raw, at)[0] == DUMP_SESSION_SIGNATURE:
        return True
    return _buffer(raw, at, info) is not None


def _buffer(raw: memoryview, at: int, info: Session) -> tuple[int, ...] | None:
    """A row of BUFFER_DTYPE or None."""
    if at + BUFFER_HEADER_SIZE > len(raw):
        return None
    (size, saved, current, _, stamp, sequence, _, cpu, logger, state, _, flags, kind) = (
        _BUFFER.unpack_from(raw, at)
    )
    if size != info.buffer_size or size > MAX_BUFFER or logger != info.logger_id & 0xFFFF:
        return None
    length = saved if current > size else current
    if not BUFFER_HEADER_SIZE <= length <= size or at + length > len(raw):
        return None
    # Seen with and without the "index valid" flag; the high byte is an alignment only without it.
    number = cpu & 0x7FF if flags & ETW_BUFFER_FLAG_PROCESSOR_INDEX or cpu < 0x800 else cpu & 0xFF
    return at, length, length, sequence, stamp, number, logger, flags, kind, state


def _resume(raw: memoryview, at: int, info: Session | None) -> int:
    """The next offset where a session or a buffer of the current session starts, or the end."""
    whole = bytes(raw[at:])
    best = len(raw)
    marks = [struct.pack("<I", DUMP_SESSION_SIGNATURE)]
    if info is not None:
        marks.append(struct.pack("<I", info.buffer_size))
    for mark in marks:
        where = whole.find(mark)
        tries = 0
        while where >= 0 and at + where < best and tries < 100_000:
            here = at + where
            if info is None or mark is marks[0] or _buffer(raw, here, info) is not None:
                best = here
                break
            where = whole.find(mark, where + 1)
            tries += 1
    return best


def _trace(
    data: FileBytes, info: Session, rows: list[tuple[int, ...]], path: str, base: int
) -> Trace:
    table = np.array(rows, BUFFER_DTYPE) if rows else np.zeros(0, BUFFER_DTYPE)
    account = Account(int(table["stride"].sum()))
    account.buffers = len(table)
    account.bytes_headers = len(table) * BUFFER_HEADER_SIZE
    buffers = Buffers(data, table, 0, info.buffer_size)
    return Trace(data, info, buffers, account, path, base, "saved ETW buffer")
