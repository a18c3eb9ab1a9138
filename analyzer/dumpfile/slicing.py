"""A part of a dump with pages as a dump of its own: header, the pages that were read, their map.

Invariant: no byte goes out that is not in the dump, except the map, the dump type where the header
of a full dump has no room for the pages' runs, and a mark in the comment of the header that says
what this is. The order of the pages stays.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from ..layouts import mindumpdef
from .header import DumpFile
from .pagedump import PageDump
from .pagemap import PAGE, room_for_runs
from .slice_mark import SNAPSHOT, Mark, in_comment

_FULL, _BITMAP_FULL, _SUMMARY = 1, 5, 2
_RANGES = (8, 9, 10)
_MOST_NEW = 1 << 16  #: places that are kept before they are merged
_PIECE = 1 << 20
_MOST_FRAMES = 1 << 31  #: of a bitmap: 8 TB of memory, 256 MB of map
_MOST_LOST = 1 << 14  #: pages behind the end of a file that was cut


class Touched:
    """Which parts of a file were read, and which pages were only asked for."""

    def __init__(self) -> None:
        self.asked: set[int] = set()  #: file offsets
        self._new: list[tuple[int, int]] = []
        self._merged: list[tuple[int, int]] = []

    def add(self, offset: int, size: int) -> None:
        """One reading; of nothing: a question."""
        if not size:
            self.asked.add(offset)
        elif size > 0:
            self._new.append((offset, offset + size))
            if len(self._new) >= _MOST_NEW:
                self._merged, self._new = list(_merged([*self._merged, *self._new])), []

    def intervals(self) -> list[tuple[int, int]]:
        """What was read as (start, end), in order, apart from each other."""
        self._merged, self._new = list(_merged([*self._merged, *self._new])), []
        return self._merged


def _merged(intervals: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    last: tuple[int, int] | None = None
    for start, end in sorted(intervals):
        if last is not None and start <= last[1]:
            last = last[0], max(last[1], end)
            continue
        if last is not None:
            yield last
        last = start, end
    if last is not None:
        yield last


class Slice(NamedTuple):
    """What was written."""

    dump_type: int
    pages: int
    of_pages: int  #: 0: not known
    page_bytes_read: int  #: bytes of these pages that the analysis looked at
    secondary_bytes: int
    size: int


def write(
    dump: PageDump, touched: Touched, out: BinaryIO, *, redact: bool, secondary: bool
) -> Slice:
    """Writes the pages of a dump that were touched, with what makes a dump of them."""
    intervals = touched.intervals()
    frames = [page for page in _frames(dump, intervals, touched.asked) if dump.holds_page(page[0])]
    last = dump.end_of_pages
    kind = _kind(dump, frames)
    if kind not in (*_RANGES, _FULL):
        frames = _in_order(dump, frames)
    head = _head(dump, frames, kind, redact, not secondary)
    out.write(head)
    read = 0
    for _, offset in frames:
        kept = list(_within(intervals, offset, offset + PAGE))
        read += sum(end - start for start, end in kept)
        _copy(dump, out, offset, offset + PAGE, kept if redact else None)
    written = out.tell()
    more = max(0, dump.file.size - last) if secondary else 0
    for at in range(last, last + more, _PIECE):
        end = min(at + _PIECE, last + more)
        _copy(dump, out, at, end, list(_within(intervals, at, end)) if redact else None)
    return Slice(kind, len(frames), _count(dump), read, more, written + more)


def _count(dump: PageDump) -> int:
    """How many pages a dump has; 0 where its map does not tell."""
    return dump.pages.pages if dump.is_of_file else 0


def _within(intervals: list[tuple[int, int]], start: int, end: int) -> Iterator[tuple[int, int]]:
    from bisect import bisect_right

    place = max(0, bisect_right(intervals, (start, end)) - 1)
    for low, high in intervals[place:]:
        if low >= end:
            break
        if high > start:
            yield max(low, start), min(high, end)


def _copy(
    dump: PageDump, out: BinaryIO, start: int, end: int, kept: list[tuple[int, int]] | None
) -> None:
    data = dump.file.data[start:end]
    if kept is not None:
        blank = bytearray(len(data))
        for low, high in kept:
            blank[low - start : high - start] = data[low - start : high - start]
        data = bytes(blank)
    out.write(data)


def _frames(
    dump: PageDump, intervals: list[tuple[int, int]], asked: set[int]
) -> list[tuple[int, int]]:
    """(frame, file offset) of each page that was touched, in file order.

    Pages that the file was cut before are named in the map and not there, as in the dump.
    """
    first, end = dump.first_page, min(dump.end_of_pages, dump.file.size)
    numbers = {(offset - first) // PAGE for offset in asked if first <= offset < end}
    for low, high in intervals:
        low, high = max(low, first), min(high, end)
        if low < high:
            numbers.update(range((low - first) // PAGE, (high - 1 - first) // PAGE + 1))
    left = range((max(end, first) - first) // PAGE, dump.pages.pages)[:_MOST_LOST]
    found = []
    for number in sorted(numbers.union(left)):
        offset = first + number * PAGE
        frame = dump.pages.frame_at(offset)
        # where runs overlap, one of two pages is not what the dump is read by
        if frame >= 0 and int(dump.pages.offsets(np.array([frame], np.int64))[0]) == offset:
            found.append((frame, offset))
    return found


def _in_order(dump: PageDump, found: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pages that a bitmap, which knows only the order of frames, can tell of."""
    found = [page for page in found if page[0] < _MOST_FRAMES]
    if found != sorted(found):
        # what is lost must lie last
        found = sorted(page for page in found if page[1] + PAGE <= dump.file.size)
    return found


def _kind(dump: PageDump, frames: list[tuple[int, int]]) -> int:
    """The type of the slice: the dump's own, but a bitmap where a full dump's runs have no room."""
    kind = dump.file.number("DumpType")
    assert isinstance(kind, int)  # as every PageDump has
    room = room_for_runs(dump.pointer_size == 8)
    if kind == _FULL and not (dump.is_of_file and len(_runs(frames)) <= room):
        return _BITMAP_FULL
    return kind


# -- header and map ----------------------------------------------------------------------------


def _head(
    dump: PageDump, frames: list[tuple[int, int]], kind: int, redact: bool, is_pages_only: bool
) -> bytes:
    """Header with map, up to the first page."""
    file = dump.file
    origin = file.number("DumpType") if dump.is_of_file else SNAPSHOT
    assert isinstance(file, DumpFile)
    assert isinstance(origin, int)  # as every PageDump has
    head, base = bytearray(file.head.ljust(file.header_size, b"\0")), file.header_size
    was_cut = dump.missing_pages > 0
    mark = Mark(origin, len(frames), _count(dump), redact, was_cut, is_pages_only)
    comment = file.layout.Comment
    place = slice(comment.offset, comment.offset + comment.size)
    head[place] = in_comment(bytes(head[place]), mark)
    struct.pack_into("<I", head, file.layout.DumpType.offset, kind)
    if kind == _FULL:
        page_map = b""
        runs = file.layout.PhysicalMemoryBlock
        block = _header_runs(frames, dump.pointer_size).ljust(runs.size, b"\0")
        head[runs.offset : runs.offset + runs.size] = block
    elif kind in _RANGES:
        page_map = _range_map(file.data[base : base + 0x30], frames, base, kind)
    elif kind == _SUMMARY and file.data[base : base + 4] in mindumpdef.BITMAP_SIGNATURES:
        page_map = _summary_map(dump, frames, base)
    else:
        page_map = _bitmap_map(dump, frames, base, kind != origin)
    return bytes(head) + page_map


def _aligned(place: int) -> int:
    return -(-place // PAGE) * PAGE


def _bits(frames: list[tuple[int, int]]) -> tuple[int, bytes]:
    """How many frames a map has bits for, and these."""
    count = -(-(max((frame for frame, _ in frames), default=0) + 1) // 64) * 64
    bits = bytearray(count // 8)
    for frame, _ in frames:
        bits[frame >> 3] |= 1 << (frame & 7)
    return count, bytes(bits)


def _bitmap_map(dump: PageDump, frames: list[tuple[int, int]], base: int, is_new: bool) -> bytes:
    """FDMP or SDMP, as types 5 and 6 have it."""
    layout = mindumpdef.BITMAP_DUMP
    count, bits = _bits(frames)
    first = _aligned(base + layout.bitmap + len(bits))
    head = bytearray(layout.bitmap)
    if not is_new:
        head[:] = dump.file.data[base : base + layout.bitmap].ljust(layout.bitmap, b"\0")
    else:
        head[:8] = b"FDMPDUMP"
    values = zip((layout.FirstPage, layout.Pages, layout.BitmapBits), (first, len(frames), count))
    for field, value in values:
        struct.pack_into("<Q", head, field.offset, value)
    return (bytes(head) + bits).ljust(first - base, b"\0")


def _summary_map(dump: PageDump, frames: list[tuple[int, int]], base: int) -> bytes:
    """The older SDMP of type 2."""
    old = mindumpdef.SummaryDump64 if dump.pointer_size == 8 else mindumpdef.SummaryDump32
    count, bits = _bits(frames)
    first = _aligned(base + old.bitmap.offset + len(bits))
    head = bytearray(dump.file.data[base : base + old.bitmap.offset])
    values = {"HeaderSize": first, "BitmapSize": count, "Pages": len(frames), "SizeOfBitMap": count}
    for name, value in values.items():
        struct.pack_into("<I", head, getattr(old, name).offset, value)
    return (bytes(head) + bits).ljust(first - base, b"\0")


def _runs(frames: list[tuple[int, int]]) -> list[list[int]]:
    """(first frame, number of frames) of neighbours, in file order."""
    runs: list[list[int]] = []
    for frame, _ in frames:
        if runs and sum(runs[-1]) == frame:
            runs[-1][1] += 1
        else:
            runs.append([frame, 1])
    return runs


def _header_runs(frames: list[tuple[int, int]], pointer_size: int) -> bytes:
    """PHYSICAL_MEMORY_DESCRIPTOR of a full dump."""
    pair, runs = struct.Struct("<2Q" if pointer_size == 8 else "<2I"), _runs(frames)
    return pair.pack(len(runs), len(frames)) + b"".join(pair.pack(*run) for run in runs)


def _range_map(before: bytes, frames: list[tuple[int, int]], base: int, kind: int) -> bytes:
    """RDMP: runs of frames, in file order."""
    runs = _runs(frames)
    table = b"".join(struct.pack("<QQ", *run) for run in runs) + bytes(16)
    first = _aligned(base + 0x30 + len(table))
    head = bytearray(before.ljust(0x30, b"\0"))
    struct.pack_into("<QQ", head, 0x10, first - base - 0x20, first)
    if kind == 10:
        struct.pack_into("<IIQ", head, 0x20, len(runs), 0, len(frames))
    return (bytes(head) + table).ljust(first - base, b"\0")
