"""A trace file as its buffers: where they lie, which bytes hold events, what had to be skipped.

Invariant: the walk is bounded by the file, never by a count in it (an unfinalised file says 0
buffers), and every byte of the file is in exactly one of the sums of :class:`Account`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..files import FileBytes
from . import compression
from .layouts import (
    BUFFER_HEADER_SIZE,
    ETW_BUFFER_FLAG_COMPRESSED,
    ETW_BUFFER_FLAG_PROCESSOR_INDEX,
)
from .stated_counts import repeated

Array = np.ndarray[Any, Any]  #: shapes and kinds are told where arrays are made

#: one row per buffer; ``start``/``end`` bound the event bytes inside the buffer *as read*
#: (``end`` counts the header, and for a compressed buffer it is the length after expansion)
BUFFER_DTYPE = np.dtype(
    [
        ("offset", "i8"), ("stride", "i8"), ("end", "i8"), ("sequence", "i8"), ("stamp", "i8"),
        ("cpu", "u2"), ("logger", "u2"), ("flags", "u2"), ("kind", "u2"), ("state", "u4"),
    ]
)  # fmt: skip

_RAW = np.dtype(
    {
        "names": ["size", "saved", "stamp", "sequence", "cpu", "logger", "state", "last", "flags",
                  "kind"],
        "formats": ["u4", "u4", "i8", "i8", "u2", "u2", "u4", "u4", "u2", "u2"],
        "offsets": [0x00, 0x04, 0x10, 0x18, 0x28, 0x2A, 0x2C, 0x30, 0x34, 0x36],
        "itemsize": BUFFER_HEADER_SIZE,
    }
)  # fmt: skip
_HEADER = struct.Struct("<II8xqq8xHHIIHH")
MAX_BUFFER = 16 << 20  # Windows takes no larger ones
GROUP_BYTES = 2 << 20  # what fits a cache; also the unit of bounded memory


class Note(NamedTuple):
    """One place where the reader had to help itself."""

    kind: str  #: resync, header, expand, event, size, cut
    offset: int  #: in the file
    text: str


class Account:
    """Every byte of the input, by what became of it, plus what the trace says it lost."""

    def __init__(self, size: int) -> None:
        self.bytes_total = size
        self.bytes_headers = 0  #: buffer headers
        self.bytes_events = 0  #: events, and their alignment
        self.bytes_compressed = 0  #: payload of expanded buffers, as stored
        self.bytes_unused = 0  #: tails of buffers, behind the last event
        self.bytes_skipped = 0  #: damaged: not understood
        self.buffers = self.buffers_compressed = 0
        self.events_recovered = 0  #: found behind damage inside a buffer
        self.notes: list[Note] = []
        self.notes_dropped = 0

    def note(self, kind: str, offset: int, text: str) -> None:
        """Keeps the first thousand notes and counts the rest."""
        if len(self.notes) < 1000:
            self.notes.append(Note(kind, offset, text))
        else:
            self.notes_dropped += 1

    @property
    def bytes_accounted(self) -> int:
        """Equals ``bytes_total`` when the reader is right."""
        return (
            self.bytes_headers + self.bytes_events + self.bytes_compressed + self.bytes_unused
            + self.bytes_skipped
        )  # fmt: skip


class Buffers(NamedTuple):
    """The buffers of one trace, in file order."""

    data: FileBytes  #: of the file, or all of them in memory
    table: Array  #: BUFFER_DTYPE
    format: int  #: compression format, 0 when no buffer is compressed
    nominal: int  #: the session's buffer size


class Block(NamedTuple):
    """A run of buffers as one 8-aligned byte array, in rising order of position."""

    data: Array
    starts: Array  #: of the event bytes, relative to ``data``
    ends: Array
    first: int  #: number of the first buffer
    numbers: Array  #: buffer number of each run


def _event_end(size: int, saved: int, last: int) -> int:
    # In first buffers SavedOffset is 0 (Vista, 7) or short of Offset; elsewhere they are equal.
    end = max(saved, last)
    return min(end, size) if end >= BUFFER_HEADER_SIZE else BUFFER_HEADER_SIZE


def _cpu(raw: int, flags: int) -> int:
    # Before PROCESSOR_INDEX only the low byte is the processor, the high one is an alignment.
    return raw & 0x7FF if flags & ETW_BUFFER_FLAG_PROCESSOR_INDEX else raw & 0xFF


def read_buffers(data: FileBytes, nominal: int, compressed: bool, account: Account) -> Buffers:
    """All buffers; ``nominal`` is the buffer size of the log file header, 0 if unknown."""
    size = len(data)
    first = _header(data, 0) if size >= BUFFER_HEADER_SIZE else (0,) * 9
    if not nominal or nominal > MAX_BUFFER or nominal < BUFFER_HEADER_SIZE:
        nominal = first[0] if BUFFER_HEADER_SIZE <= first[0] <= MAX_BUFFER else 65536
    table = _uniform(data, nominal)
    done = 0 if table is None else len(table) * nominal
    if table is None or done < size:  # odd buffers, or the rest of a file that was cut
        rest = _one_by_one(data, done, nominal, first[5], account)
        table = rest if table is None else np.concatenate((table, rest))
    twice = repeated(data, table)
    for row in twice:
        offset, stride = int(table["offset"][row]), int(table["stride"][row])
        account.bytes_skipped += stride
        account.note("repeat", offset, f"buffer {table['sequence'][row]} stands twice")
    table = np.delete(table, twice) if twice else table
    packed = (table["flags"] & ETW_BUFFER_FLAG_COMPRESSED) != 0
    fmt = 0
    if packed.any():
        fmt = _format(data, table[packed][0], first[6] & 0xFFFF, compressed)
        account.buffers_compressed = int(packed.sum())
    account.buffers = len(table)
    account.bytes_headers = len(table) * BUFFER_HEADER_SIZE
    return Buffers(data, table, fmt, nominal)


def _header(data: FileBytes, at: int) -> tuple[int, ...]:
    return _HEADER.unpack(data.view(at, BUFFER_HEADER_SIZE)[: _HEADER.size])


def _format(data: FileBytes, row: Array, told: int, compressed: bool) -> int:
    """The compression format: the first buffer's State, unless that buffer is not the first."""
    if compressed and told in compression.FORMATS:
        return told
    low = int(row["offset"]) + BUFFER_HEADER_SIZE
    raw = data[low : int(row["offset"] + row["stride"])]
    want = max(int(row["end"]) - BUFFER_HEADER_SIZE, 0)
    for fmt in (told, compression.XPRESS, compression.XPRESS_HUFF, compression.LZNT1):
        if fmt in compression.FORMATS and len(compression.expand(fmt, raw, want)) == want:
            return fmt
    return told


def _uniform(data: FileBytes, nominal: int) -> Array | None:
    """The table when all headers say the same, sane size: one vector step, no loop."""
    size = len(data)
    count = size // nominal
    if count < 2 or nominal % 8:
        return None
    # Headers of large buffers are read one by one, of small ones with all that lies between.
    step = 1 if nominal >= GROUP_BYTES // 64 else GROUP_BYTES // nominal
    raw = np.empty(count, _RAW)
    for low in range(0, count, step):
        part = min(step, count - low)
        held = data.once(low * nominal, (part - 1) * nominal + BUFFER_HEADER_SIZE)
        raw[low : low + part] = np.ndarray((part,), _RAW, held, strides=(nominal,))
    flags, saved, last = raw["flags"], raw["saved"], raw["last"]
    sane = (raw["size"] == nominal) & (saved <= nominal) & (last <= nominal)
    if not sane.all() or (flags & ETW_BUFFER_FLAG_COMPRESSED).any():
        return None
    table = np.zeros(count, BUFFER_DTYPE)
    table["offset"] = np.arange(count) * nominal
    table["stride"] = nominal
    table["end"] = np.maximum(np.maximum(saved, last), BUFFER_HEADER_SIZE)
    for name in ("sequence", "stamp", "logger", "flags", "kind", "state"):
        table[name] = raw[name]
    indexed = (flags & ETW_BUFFER_FLAG_PROCESSOR_INDEX) != 0
    table["cpu"] = raw["cpu"] & np.where(indexed, 0x7FF, 0xFF)
    return table


def _one_by_one(data: FileBytes, at: int, nominal: int, logger: int, account: Account) -> Array:
    size, rows, search = len(data), [], _Onward(data, nominal, logger)
    while at < size:
        room = size - at
        if room < BUFFER_HEADER_SIZE:
            account.bytes_skipped += room
            account.note("cut", at, "the file ends inside a buffer header")
            break
        bs, saved, stamp, sequence, cpu, owner, state, last, flags, kind = _header(data, at)
        packed = bool(flags & ETW_BUFFER_FLAG_COMPRESSED)
        follows = at + bs
        sane = BUFFER_HEADER_SIZE <= bs <= MAX_BUFFER and kind <= 15 and flags < 0x100
        if sane and not (follows == size or _plausible(data, follows, logger)):
            # The next header is off: is this size wrong, or that header?
            sane = bs == nominal or packed or not _plausible(data, at + nominal, logger)
            if sane and packed and not _plausible(data, follows, None):
                onward = search.packed(at + BUFFER_HEADER_SIZE)
                sane = onward is None or onward > follows
        if not sane:
            like = owner == logger and kind <= 15 and flags < 0x100 and not packed
            if (
                like
                and saved <= nominal
                and last <= nominal
                and max(saved, last) >= 0x48
                and (at + nominal >= size or _plausible(data, at + nominal, logger))
            ):
                account.note("header", at, f"buffer size {bs:#x} read as {nominal:#x}")
                bs = nominal
            else:
                onward = search.multiple(at)
                onward = search.packed(at) if onward is None else onward
                stop = size if onward is None else onward
                account.bytes_skipped += stop - at
                where = "no buffer follows" if onward is None else f"resumed at {stop:#x}"
                account.note("resync", at, f"no buffer header here; {where}")
                at = stop
                continue
        here = min(bs, room)
        if here < bs:
            account.note("cut", at + here, f"the file ends {bs - here} bytes inside a buffer")
        if packed:
            end = min(saved, MAX_BUFFER)
        else:
            end = min(_event_end(bs, saved, last), here)
        rows.append((at, here, end, sequence, stamp, _cpu(cpu, flags), owner, flags, kind, state))
        at += here
    return np.array(rows, BUFFER_DTYPE)


def _plausible(data: FileBytes, at: int, logger: int | None) -> bool:
    if at + BUFFER_HEADER_SIZE > len(data):
        return False
    bs, saved, _, _, _, owner, _, last, flags, kind = _header(data, at)
    if not (BUFFER_HEADER_SIZE <= bs <= MAX_BUFFER and flags < 0x100 and kind <= 15):
        return False
    if logger is not None and owner != logger:
        return False
    return bool(flags & ETW_BUFFER_FLAG_COMPRESSED) or max(saved, last) <= bs


class _Onward:
    """Where the next buffer starts: at a multiple of the nominal size, or by content.

    Places asked for only rise, so what was looked at once is not looked at again.
    """

    _WINDOW = 4 << 20

    def __init__(self, data: FileBytes, nominal: int, logger: int) -> None:
        self._data, self._nominal, self._logger = data, nominal, logger
        self._last = len(data) - BUFFER_HEADER_SIZE  # where a header can be
        self._multiple = 0  # the next that is good, or that was not looked at
        self._is_good = False
        self._packed = -1  # the same of compressed buffers
        self._found: Iterator[int] = self._compressed()

    def multiple(self, at: int) -> int | None:
        """The first multiple of the nominal size behind ``at`` that is a buffer."""
        while self._multiple <= at or not self._is_good:
            if self._multiple <= at:
                self._multiple = (at // self._nominal + 1) * self._nominal
            else:
                self._multiple += self._nominal
            if self._multiple > self._last:
                self._is_good = False
                return None
            head = _header(self._data, self._multiple)
            good = head[0] == self._nominal and _plausible(self._data, self._multiple, None)
            self._is_good = good
        return self._multiple

    def packed(self, at: int) -> int | None:
        """The first compressed buffer behind ``at``."""
        while self._packed <= at:
            self._packed = next(self._found, self._last + 1)
            if self._packed > self._last:
                return None
        return self._packed

    def _compressed(self) -> Iterator[int]:
        """Compressed buffers, of any length: the logger id and the flag stand where they belong."""
        data, low, high = self._data, self._logger & 0xFF, self._logger >> 8
        for begin in range(1, self._last + 1, self._WINDOW):
            n = min(self._WINDOW, self._last + 1 - begin)
            held = np.frombuffer(data.view(begin, n + BUFFER_HEADER_SIZE), np.uint8)
            hit = (held[0x34 : 0x34 + n] & ETW_BUFFER_FLAG_COMPRESSED) != 0
            if hit.any():  # gigabytes of zeros behind a trace cost this one look
                for place, byte in ((0x2A, low), (0x2B, high), (0x35, 0), (0x37, 0), (0x03, 0)):
                    hit &= held[place : place + n] == byte
            for found in np.flatnonzero(hit).tolist():
                here = begin + found
                onward = here + _header(data, here)[0]
                if _plausible(data, here, self._logger) and (
                    onward == len(data) or _plausible(data, onward, self._logger)
                ):
                    yield here


def blocks(
    buffers: Buffers,
    account: Account | None = None,
    limit: int = GROUP_BYTES,
    order: Array | None = None,
) -> Iterator[Block]:
    """The event bytes in runs of about ``limit`` bytes; compressed buffers are expanded.

    ``order`` picks buffers and their order; by default all, in file order. ``account`` is told
    what expansion cost, once per trace, so only the pass over all buffers gives it.
    """
    data, table = buffers.data, buffers.table
    numbers = np.arange(len(table)) if order is None else np.asarray(order)
    offsets, ends = table["offset"], table["end"]
    packed = (table["flags"] & ETW_BUFFER_FLAG_COMPRESSED) != 0
    inside = bool(np.all(offsets % 8 == 0)) and order is None and not packed.any()
    cost = np.maximum(ends, table["stride"])[numbers] if len(numbers) else np.zeros(0, "i8")
    cuts = np.cumsum(cost)
    i, n = 0, len(numbers)
    if n:
        limit = int(cuts[-1]) // max(-(-int(cuts[-1]) // limit), 1) + 1  # groups of about one size
    while i < n:
        base = int(cuts[i - 1]) if i else 0
        j = max(i + 1, int(np.searchsorted(cuts, base + limit, side="right")))
        part = numbers[i:j]
        low = int(offsets[part[0]])
        high = int(offsets[part[-1]] + table["stride"][part[-1]])
        if inside:
            starts = offsets[part] - low + BUFFER_HEADER_SIZE
            held = np.frombuffer(data.view(low, high - low), np.uint8)
            yield Block(held, starts, offsets[part] - low + ends[part], i, part)
        else:
            yield _gather(buffers, part, i, packed, account)
        i = j


def _gather(
    buffers: Buffers, part: Array, first: int, packed: Array, account: Account | None
) -> Block:
    data, table = buffers.data, buffers.table
    pieces: list[Array] = []
    for number in part.tolist():
        row = table[number]
        low = int(row["offset"]) + BUFFER_HEADER_SIZE
        want = max(int(row["end"]) - BUFFER_HEADER_SIZE, 0)
        if not packed[number]:
            pieces.append(np.frombuffer(data.view(low, want), np.uint8))
            continue
        stored = int(row["stride"]) - BUFFER_HEADER_SIZE
        # No real buffer shrinks 256 times; a lying length must not cost memory or time.
        most = min(want, stored * 256 + 65536)
        raw = compression.expand(buffers.format, data[low : low + stored], most)
        pieces.append(np.frombuffer(raw, np.uint8))
        if account is not None:
            if len(raw) == want:
                account.bytes_compressed += stored
            else:
                account.bytes_skipped += stored
                account.note(
                    "expand", low,
                    f"a compressed buffer ended after {len(raw)} of {want} bytes",
                )  # fmt: skip
    need = np.array([len(piece) for piece in pieces], np.int64)
    slots = (need + 7) & ~7
    starts = np.concatenate(([0], np.cumsum(slots)[:-1])).astype(np.int64)
    ends = starts + need
    out = np.full(int(slots.sum()), 0xFF, np.uint8)
    for at, piece in zip(starts.tolist(), pieces):
        out[at : at + len(piece)] = piece
    return Block(out, starts, ends, first, part)


def expanded(buffers: Buffers, number: int) -> bytes:
    """The event bytes of one compressed buffer."""
    packed = (buffers.table["flags"] & ETW_BUFFER_FLAG_COMPRESSED) != 0
    block = _gather(buffers, np.array([number]), number, packed, None)
    return bytes(block.data[: int(block.ends[0])].tobytes())
