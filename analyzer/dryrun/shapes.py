"""The memory descriptor lists (MDL) that a Dump_Write is tried with, as data.

Invariant: each shape states whether Windows hands it out; only what Windows does or may do is
judged. Source of the layout and the flags: wdm.h. Windows 11 25H2: veracrypt/VeraCrypt#1668, #1671.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ..target import PAGE

MAPPED, NONPAGED = 0x1, 0x4  #: MDL_MAPPED_TO_SYSTEM_VA, MDL_SOURCE_IS_NONPAGED_POOL
DOES, MAY, NEVER = "does", "may", "never"
_USER = {8: 0x0000_02A4_7F31_0000, 4: 0x0131_0000}


class Shape(NamedTuple):
    """One MDL.

    ``start``: data, user (an address in the user half) or stale (a kernel address that nothing is
    mapped at); ``pages`` 0: as many as MaxPagesPerWrite allows, -1: one more.
    """

    name: str
    windows: str  #: does, may, never
    flags: int
    is_mapped: bool  #: MappedSystemVa points at the data
    start: str
    pages: int = 1
    size: int = 0  #: bytes, where it is not whole pages
    offset: int = 0  #: ByteOffset
    disk: int = 0x10_0000  #: DiskByteOffset
    is_chained: bool = False
    times: int = 1


SHAPES = (
    Shape("nonpaged pool", DOES, NONPAGED, True, "data"),
    Shape("nonpaged pool, MaxPagesPerWrite pages", MAY, NONPAGED, True, "data", 0),
    Shape("mapped, StartVa elsewhere (11 25H2)", DOES, MAPPED, True, "user"),
    Shape("mapped, StartVa elsewhere, 8 pages", MAY, MAPPED, True, "user", 8),
    Shape("mapped, StartVa at a page that is gone", MAY, MAPPED, True, "stale"),
    Shape("mapped and nonpaged pool", MAY, MAPPED | NONPAGED, True, "data"),
    Shape("mapped, ByteOffset 0x200", MAY, MAPPED, True, "user", 1, 0xE00, 0x200),
    Shape("nonpaged pool, two writes in a row", DOES, NONPAGED, True, "data", 1, times=2),
    Shape("neither flag", NEVER, 0, False, "user"),
    Shape("more pages than MaxPagesPerWrite", NEVER, NONPAGED, True, "data", -1),
    Shape("half a sector", NEVER, NONPAGED, True, "data", 1, 0x100),
    Shape("DiskByteOffset within a sector", NEVER, NONPAGED, True, "data", disk=0x10_0080),
    Shape("two MDLs chained", NEVER, NONPAGED, True, "data", is_chained=True),
)
#: what a Dump_Read is tried with
READS = SHAPES[:1]
_MOST_PAGES = 256


class Arguments(NamedTuple):
    """Memory that a call is given, and where in it its arguments lie."""

    offset: int
    mdl: int
    pages: list[tuple[int, bytes]]
    size: int


def build(shape: Shape, area: int, pointer_size: int, most_pages: int) -> Arguments:
    """The MDL, its data and the disk offset, laid out from ``area`` on."""
    most = min(max(most_pages, 1), _MOST_PAGES)
    count = {0: most, -1: most + 1}.get(shape.pages, shape.pages)
    size = shape.size or count * PAGE
    data = area + 2 * PAGE
    start = {"data": data, "user": _USER[pointer_size], "stale": area + 0x100_0000}[shape.start]
    wide = pointer_size == 8
    length = (0x30 if wide else 0x1C) + pointer_size * count
    mdl = area + 0x100
    other = mdl + 0x400 if shape.is_chained else 0

    def one(following: int, at: int) -> bytes:
        mapped = at + shape.offset if shape.is_mapped else 0
        values = (following, min(length, 0x7FFF), shape.flags, 0, mapped, start, size, shape.offset)
        return struct.pack("<QhhxxxxQQQII" if wide else "<IhhIIIII", *values)

    head = bytearray(2 * PAGE)
    struct.pack_into("<Q", head, 0x40, shape.disk)
    head[0x100 : 0x100 + (0x30 if wide else 0x1C)] = one(other, data)
    if other:
        head[0x500 : 0x500 + (0x30 if wide else 0x1C)] = one(0, data)
    pattern = bytes(range(256)) * (PAGE // 256)
    pages = [(area, bytes(head[:PAGE])), (area + PAGE, bytes(head[PAGE:]))]
    pages += [(data + number * PAGE, pattern) for number in range(count + 1)]
    return Arguments(area + 0x40, mdl, pages, size)
