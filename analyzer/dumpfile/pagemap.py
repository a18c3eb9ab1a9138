"""Which physical frames a dump stores, and where in the file.

Invariant: a map is a pure function frame -> file offset (-1 = not stored) built from bounded parts
of the file; its memory is about 1/4 byte per frame of the machine (bitmaps) or 32 bytes per run.
It never says whether the file is long enough: the reader compares offsets with the file size.

Sources: mindumpdef.h (runs), public readers of the format (bitmap, ranges).
"""

from __future__ import annotations

from typing import Any, NamedTuple, Union

import numpy as np
import numpy.typing as npt

from ..files import FileBytes

PAGE = 0x1000
#: far above any real range table (65,527 ranges seen); bounds the memory of a hostile one
MAX_RANGES = 1 << 21
#: words of a bitmap that are counted at once: machines have terabytes of memory
STEP = 1 << 20
Ints = npt.NDArray[np.int64]


class RunMap:
    """Sorted runs of frames; pages lie packed from ``first`` in the order of the run table."""

    def __init__(self, base: Ints, count: Ints, first: int) -> None:
        start = np.zeros(len(base), np.int64)
        np.cumsum(count[:-1], out=start[1:])
        offset = start * PAGE + first
        order = np.argsort(base, kind="stable")
        self.base, self.count, self.offset = base[order], count[order], offset[order]
        self.by_file = np.argsort(self.offset, kind="stable")
        self.first = first
        self.pages = int(count.sum())
        self.runs = len(base)
        self.highest = int((self.base + self.count).max()) - 1 if len(base) else -1

    def offsets(self, frames: Ints) -> Ints:
        """File offset of each frame's page, -1 where the dump does not store it."""
        if not self.runs:
            return np.full(len(frames), -1, np.int64)
        run = np.searchsorted(self.base, frames, "right") - 1
        delta = frames - self.base[run]
        hit = (run >= 0) & (delta < self.count[run])
        return np.where(hit, self.offset[run] + delta * PAGE, -1)

    def frame_at(self, offset: int) -> int:
        """The frame whose page holds this file offset, -1 outside the page data."""
        starts = self.offset[self.by_file]
        place = int(np.searchsorted(starts, offset, "right")) - 1
        if place < 0:
            return -1
        run = self.by_file[place]
        delta = (offset - int(self.offset[run])) // PAGE
        return int(self.base[run]) + delta if delta < self.count[run] else -1


class BitmapMap:
    """One bit per frame; pages lie packed from ``first`` in frame order.

    A running count of set bits per 64-bit word answers "which page of the file is frame n" without
    unfolding the bitmap into runs, so the memory does not grow with fragmentation.
    """

    def __init__(self, words: npt.NDArray[np.uint64], bits: int, first: int) -> None:
        self.words, self.bits, self.first = words, bits, first
        self.before = np.zeros(len(words) + 1, np.int64)
        self.highest = -1
        step = STEP
        total, runs, carry = 0, 0, np.uint64(0)
        one, top = np.uint64(1), np.uint64(63)
        for at in range(0, len(words), step):
            part = words[at : at + step]
            if at + step >= len(words) and bits & 63:
                part = part.copy()
                part[-1] &= np.uint64((1 << (bits & 63)) - 1)
            ones = np.cumsum(np.bitwise_count(part), dtype=np.int64)
            self.before[at + 1 : at + 1 + len(part)] = ones + total
            total += int(ones[-1])
            # a run starts at a set bit whose lower neighbour is clear
            below = part << one
            below[1:] |= part[:-1] >> top
            below[0] |= carry
            carry = part[-1] >> top
            runs += int(np.bitwise_count(part & ~below).sum())
            filled = np.flatnonzero(part)
            if len(filled):
                last = int(filled[-1])
                self.highest = (at + last) * 64 + int(part[last]).bit_length() - 1
        self.pages, self.runs = total, runs

    def offsets(self, frames: Ints) -> Ints:
        """File offset of each frame's page, -1 where the dump does not store it."""
        if not self.bits:
            return np.full(len(frames), -1, np.int64)
        known = (frames >= 0) & (frames < self.bits)
        frame = np.where(known, frames, 0)
        place = frame >> 6
        bit = (frame & 63).astype(np.uint64)
        word = self.words[place]
        stored = known & (((word >> bit) & np.uint64(1)) == 1)
        lower = np.bitwise_count(word & ((np.uint64(1) << bit) - np.uint64(1)))
        return np.where(stored, (self.before[place] + lower) * PAGE + self.first, -1)

    def frame_at(self, offset: int) -> int:
        """The frame whose page holds this file offset, -1 outside the page data."""
        index = (offset - self.first) // PAGE
        if not 0 <= index < self.pages:
            return -1
        place = int(np.searchsorted(self.before, index, "right")) - 1
        word, skip = int(self.words[place]), index - int(self.before[place])
        for bit in range(64):
            if word >> bit & 1:
                if not skip:
                    return place * 64 + bit
                skip -= 1
        return -1  # pragma: no cover - before[] says there is such a bit


PageMap = Union[RunMap, BitmapMap]


class MapResult(NamedTuple):
    """A map plus what is odd about it."""

    pages: PageMap
    problems: list[tuple[str, str, int]]  #: rule id, sentence, file offset


def _clean_runs(
    base: Ints, count: Ints, first: int, where: int
) -> tuple[RunMap, list[tuple[str, str, int]]]:
    """Drops runs that cannot be (negative, beyond 2**52 bytes); keeps file order for the rest."""
    problems: list[tuple[str, str, int]] = []
    limit = 1 << 40
    bad = (base < 0) | (count <= 0) | (base >= limit) | (count >= limit)
    bad |= np.cumsum(count.astype(np.float64)) >= limit  # so that file offsets fit 64 bits
    if bad.any():
        at = int(np.argmax(bad))
        problems.append(
            (
                "dump-map-inconsistent",
                (
                    f"memory run {at} cannot be: first frame {int(base[at]):#x}, "
                    f"{int(count[at])} pages; this run and all behind it are ignored"
                ),
                where,
            )
        )
        base, count = base[:at], count[:at]
    pages = RunMap(base, count, first)
    ends = pages.base + pages.count
    if (ends[:-1] > pages.base[1:]).any():
        problems.append(
            ("dump-map-inconsistent", "memory runs overlap; the later run is used", where)
        )
    return pages, problems


def _array(data: FileBytes, kind: str, count: int, offset: int) -> npt.NDArray[Any]:
    return np.frombuffer(data.view(offset, count * np.dtype(kind).itemsize), kind)


def room_for_runs(is_64bit: bool) -> int:
    """How many runs the 700 bytes in the header of a full dump have room for: 42, or 86."""
    size = 16 if is_64bit else 8
    return 700 // size - 1  # what counts them is as long as one


def from_header_runs(data: FileBytes, offset: int, is_64bit: bool, first: int) -> MapResult:
    """Type 1: PHYSICAL_MEMORY_DESCRIPTOR in the header."""
    room = room_for_runs(is_64bit)
    if is_64bit:
        runs, pages = data.unpack("<I4xQ", offset)
        table, kind = offset + 16, "<i8"
    else:
        runs, pages = data.unpack("<II", offset)
        table, kind = offset + 8, "<u4"
    problems = []
    if runs > room:
        problems.append(
            (
                "dump-map-inconsistent",
                f"the header states {runs} memory runs but has room for {room}; {room} are used",
                offset,
            )
        )
        runs = room
    pairs = _array(data, kind, runs * 2, table).astype(np.int64)
    run_map, more = _clean_runs(pairs[0::2], pairs[1::2], first, table)
    result = MapResult(run_map, problems + more)
    if run_map.pages != pages:
        result.problems.append(
            (
                "dump-map-inconsistent",
                f"the header states {pages} pages, its runs add up to {run_map.pages}",
                offset,
            )
        )
    return result


def from_bitmap(data: FileBytes, at: int, bits: int, pages: int, first: int) -> MapResult:
    """Types 2, 5, 6: one bit per frame from file offset ``at``."""
    problems: list[tuple[str, str, int]] = []
    room = max(0, len(data) - at) // 8
    if at < first < len(data):  # the bitmap ends before the first page, whatever its length says
        room = min(room, -(-(first - at) // 8))
    wanted = (bits + 63) // 64
    if wanted > room:
        problems.append(
            (
                "dump-file-cut",
                f"the page bitmap needs {wanted * 8:,} bytes, the file has {room * 8:,} left",
                at,
            )
        )
        bits, wanted = room * 64, room
    words = _array(data, "<u8", wanted, at)
    if first < at:
        problems.append(
            (
                "dump-map-inconsistent",
                f"the first page is stated to lie at {first:#x}, inside or before the bitmap",
                at,
            )
        )
    result = MapResult(BitmapMap(words, bits, first), problems)
    if result.pages.pages != pages:
        result.problems.append(
            (
                "dump-bitmap-count-mismatch",
                f"the bitmap marks {result.pages.pages} pages, its header states {pages}",
                at,
            )
        )
    return result


def from_ranges(data: FileBytes, at: int, first: int, stated_pages: int) -> MapResult:
    """Types 8, 9, 10: pairs {first frame, pages} up to a zero frame or the page total."""
    cut = first > len(data)
    room = min(max(0, min(first, len(data)) - at) // 16, MAX_RANGES)
    pairs = _array(data, "<i8", room * 2, at)
    base, count = pairs[0::2], pairs[1::2]
    stop = np.flatnonzero((base == 0) | (count == 0))
    end = int(stop[0]) if len(stop) else room
    if stated_pages > 0 and end:
        with np.errstate(over="ignore"):
            reached = np.flatnonzero(np.cumsum(count[:end]) >= stated_pages)
        if len(reached):
            end = int(reached[0]) + 1
    run_map, problems = _clean_runs(base[:end], count[:end], first, at)
    result = MapResult(run_map, problems)
    if end == MAX_RANGES:
        text = f"the range table goes on behind {MAX_RANGES:,} ranges; the rest is not read"
        result.problems.append(("dump-map-inconsistent", text, at))
    if cut:
        text = f"the file ends at {len(data):,} bytes, before its first page at {first:#x}"
        result.problems.append(("dump-file-cut", text, len(data)))
    if stated_pages > 0 and run_map.pages != stated_pages:
        result.problems.append(
            (
                "dump-map-inconsistent",
                f"the range table states {stated_pages} pages, its ranges have {run_map.pages}",
                at,
            )
        )
    return result
