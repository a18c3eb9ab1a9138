"""The sessions of a kernel, read from its memory: every buffer that still exists.

Invariant: nothing depends on offsets that change with the build. Buffers are found by content, then
their ring (GlobalList) is walked and must close; the logger context is recognised by the id and
buffer size it shares with its buffers. Where the clock cannot be told for certain, events have no
time. Free buffers count too: they hold events that were already delivered.

Layout of WMI_BUFFER_HEADER in memory: GlobalEntry at 0x38; of WMI_LOGGER_CONTEXT: LoggerId at 0,
BufferSize at 4, LoggerMode at 0xC in all 64-bit builds; the rest only for the builds in CONTEXTS.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from ..absence import Absent
from ..files import Bytes, FileBytes
from ..target import PAGE, Target
from .buffers import BUFFER_DTYPE, MAX_BUFFER, Account, Buffers
from .clock import Clock
from .layouts import BUFFER_HEADER_SIZE, CLOCK_QPC, CLOCK_SYSTEM_TIME
from .session import Session
from .trace import Trace

_LINK = 0x38
_MAX_BUFFERS = 1 << 16
_MAX_SESSIONS = 256
MAX_BYTES = 256 << 20  #: of the buffers of all sessions; Windows keeps a few MB of each
_HEADER = struct.Struct("<IIIiqqQHHIIHHQQ")
QPC_FREQUENCY = 0xFFFFF78000000300  #: KUSER_SHARED_DATA.QpcFrequency, x64 and ARM64
_KERNEL = 0xFFFF8000_00000000


class Context(NamedTuple):
    """Offsets in WMI_LOGGER_CONTEXT of one range of builds (public symbols)."""

    global_list: int
    logger_name: int
    clock_type: int
    reference_time: int  #: FILETIME, then the clock value
    start_time: int


#: 20H2 (build 19042); other builds are recognised, but their clock is not read
CONTEXTS = (Context(0x60, 0x98, 0xD8, 0x140, 0x328),)


def sessions(
    target: Target, pages: Iterable[tuple[int, Bytes]], frequency: int | None = None
) -> Iterator[Trace]:
    """A trace for each session; ``pages`` are runs of whole pages as (file offset, bytes).

    Of all sessions together MAX_BYTES are read; what is beyond is noted with ``target.stopped``.
    """
    if target.pointer_size != 8:
        return
    if frequency is None:
        told = target.unpack("Q", QPC_FREQUENCY)
        frequency = 0 if isinstance(told, Absent) else told[0]
    seen: set[int] = set()
    count, left = 0, MAX_BYTES
    for header in _candidates(pages):
        own = _own_address(target, header)
        if own is None or own in seen:
            continue
        ring, head = _ring(target, own, header, seen)
        seen.update(ring)
        if head is None:
            continue
        trace = _trace(target, header, ring, head, frequency, left)
        yield trace
        count += 1
        left -= len(trace.data)
        if left < BUFFER_HEADER_SIZE or count >= _MAX_SESSIONS:
            target.stopped(f"{count} ETW sessions were read from memory")
            return


def _candidates(pages: Iterable[tuple[int, Bytes]]) -> Iterator[tuple[int, ...]]:
    """Headers of what could be buffers: one vector test over the first words of all pages."""
    for _, data in pages:
        whole = len(data) // PAGE
        if not whole:
            continue
        words = np.frombuffer(data, np.uint32, whole * (PAGE // 4)).reshape(whole, PAGE // 4)
        size, saved, current, last = words[:, 0], words[:, 1], words[:, 2], words[:, 12]
        good = (size >= PAGE) & (size <= MAX_BUFFER) & (size & 0x3FF == 0)
        good &= (saved <= size) & (last <= size) & (current >= BUFFER_HEADER_SIZE)
        good &= (words[:, 11] <= 4) & (words[:, 13] & 0xFF00 == 0) & (words[:, 13] >> 16 <= 8)
        good &= (words[:, 15] >= 0xFFFF8000) & (words[:, 17] >= 0xFFFF8000)
        for row in np.flatnonzero(good).tolist():
            yield _HEADER.unpack_from(data, row * PAGE)


def _own_address(target: Target, header: tuple[int, ...]) -> int | None:
    """Where a header lies in virtual memory: its neighbour points at it."""
    before = target.unpack("Q", header[14])
    if isinstance(before, Absent):
        return None
    own = before[0] - _LINK
    found = _read_header(target, own)
    return own if found is not None and found[13:15] == header[13:15] else None


def _read_header(target: Target, address: int) -> tuple[int, ...] | None:
    if address < _KERNEL:
        return None
    raw = target.read(address, BUFFER_HEADER_SIZE)
    return None if isinstance(raw, Absent) else _HEADER.unpack(raw)


def _ring(
    target: Target, own: int, header: tuple[int, ...], seen: set[int]
) -> tuple[dict[int, tuple[int, ...]], int | None]:
    """Buffers of the ring by address, and the list head: the one link that is in no buffer."""
    ring: dict[int, tuple[int, ...]] = {own: header}
    head: int | None = None
    link = header[13]
    while link - _LINK != own and len(ring) < _MAX_BUFFERS:
        if link - _LINK in seen:
            return ring, None  # of another list; each buffer is walked once, so lies cost no time
        found = _read_header(target, link - _LINK)
        if found is not None and found[0] == header[0] and found[8] == header[8]:
            if link - _LINK in ring:
                return ring, None  # a loop that leaves the start out is no ring
            ring[link - _LINK] = found
            link = found[13]
            continue
        onward = target.unpack("QQ", link)
        if head is not None or isinstance(onward, Absent):
            return ring, None
        head, link = link, onward[0]
    return ring, head


def _trace(
    target: Target, header: tuple[int, ...], ring: dict[int, tuple[int, ...]], head: int,
    frequency: int, left: int,
) -> Trace:  # fmt: skip
    session = _session(target, header[0], header[8], head, frequency)
    pieces: list[bytes] = []
    rows: list[tuple[int, ...]] = []
    addresses: list[int] = []
    at = 0
    account = Account(0)
    for address, found in ring.items():
        size, saved, current, _, stamp, sequence, _, cpu, logger, state, _, flags, kind = found[:13]
        length = saved if current > size else current
        length = min(max(length, BUFFER_HEADER_SIZE), size)
        if at + length > left:
            account.note("cut", at, "the buffers together are too large; the rest is left out")
            target.stopped(f"of ETW session {session.name} only {len(rows)} buffers were read")
            break
        raw = b"".join(_readable(target, address, length))
        if len(raw) < length:
            account.note(
                "cut", at, f"{length - len(raw)} bytes of the buffer at {address:#x} are missing"
            )
        if len(raw) < BUFFER_HEADER_SIZE:
            continue
        number = cpu & 0x7FF if flags & 0x20 or cpu < 0x800 else cpu & 0xFF
        rows.append((at, len(raw), len(raw), sequence, stamp, number, logger, flags & ~0x40, kind,
                     state))  # fmt: skip
        pieces.append(raw)
        addresses.append(address)
        at += len(raw)
    data = FileBytes.of(b"".join(pieces), target.path)
    table = np.array(rows, BUFFER_DTYPE) if rows else np.zeros(0, BUFFER_DTYPE)
    account.bytes_total = len(data)
    account.buffers = len(table)
    account.bytes_headers = len(table) * BUFFER_HEADER_SIZE
    buffers = Buffers(data, table, 0, header[0])
    trace = Trace(data, session, buffers, account, target.path, 0, "ETW buffer in memory")
    trace.addresses = np.array(addresses, np.uint64)
    return trace


def _readable(target: Target, address: int, length: int) -> Iterator[bytes]:
    """The buffer up to the first page that is not there."""
    at, end = address, address + length
    while at < end:
        step = min(PAGE - at % PAGE, end - at)
        raw = target.read(at, step)
        if isinstance(raw, Absent):
            return
        yield raw
        at += step


def _session(target: Target, size: int, logger: int, head: int, frequency: int) -> Session:
    """What the logger context around the list head tells."""
    name, mode, clock, start = "", 0, Clock(0, 0, 0, 0), 0
    for known in CONTEXTS:
        base = head - known.global_list
        if _is_context(target, base, logger, size):
            name = _string(target, base + known.logger_name)
            clock, start = _clock(target, base, known, frequency)
            mode = _u32(target, base + 0xC)
            break
    else:
        for distance in range(0x20, 0x200, 8):
            base = head - distance
            if _is_context(target, base, logger, size):
                mode = _u32(target, base + 0xC)
                names = (_string(target, base + distance + k) for k in range(0x10, 0x100, 8))
                name = next((text for text in names if text), "")
                break
    return Session(
        name=name or f"logger {logger}", logger_id=logger, mode=mode, clock=clock,
        buffer_size=size, pointer_size=8, build=target.build, start_time=start, buffers_written=1,
    )  # fmt: skip


def _is_context(target: Target, base: int, logger: int, size: int) -> bool:
    found = target.unpack("II", base)
    return not isinstance(found, Absent) and found == (logger, size)


def _u32(target: Target, address: int) -> int:
    found = target.unpack("I", address)
    return 0 if isinstance(found, Absent) else found[0]


def _string(target: Target, address: int) -> str:
    """A UNICODE_STRING that reads as a name, else ""."""
    found = target.unpack("HHIQ", address)
    if isinstance(found, Absent):
        return ""
    length, most, pad, buffer = found
    if not 2 <= length <= most <= 0x800 or length % 2 or pad or buffer < _KERNEL:
        return ""
    raw = target.read(buffer, length)
    text = "" if isinstance(raw, Absent) else raw.decode("utf-16-le", "replace")
    return text if text.isprintable() else ""


def _clock(target: Target, base: int, known: Context, frequency: int) -> tuple[Clock, int]:
    kind = _u32(target, base + known.clock_type)
    pair = target.unpack("QQ", base + known.reference_time)
    begun = target.unpack("Q", base + known.start_time)
    start = 0 if isinstance(begun, Absent) else begun[0]
    sane = 125_911_584_000_000_000 < start < 200_000_000_000_000_000  # 2000 to 2234
    if isinstance(pair, Absent) or not sane or kind not in (CLOCK_QPC, CLOCK_SYSTEM_TIME):
        return Clock(0, 0, 0, 0), start if sane else 0
    return Clock.of(kind, frequency, 0, pair[0], pair[1]), start
