"""Raw physical memory: a file without a header, taken for memory only when it proves to be.

Invariant: a file is memory when page tables that it holds map KUSER_SHARED_DATA to a page of it
that reads as one; nothing less counts, so that no other file becomes "memory".

Sources: the form of the low stub (PROCESSOR_START_BLOCK) and of the self-map are those that
MemProcFS and a dozen other public programs look for; KUSER_SHARED_DATA is public.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Callable, NamedTuple

import numpy as np

from ..absence import Absent
from ..dumpfile.header import MachineFile
from ..files import FileBytes
from ..target import PAGE
from .image import MemoryImage
from .physical import PIECE, Physical, Run, ranges
from .tables import AddressSpace

#: called with what is done, how far it is, and out of how much
Progress = Callable[[str, int, int], None]
LEAST = 1 << 20  #: no machine that runs Windows has less memory
_STUBS = range(0x1000, 0x100000, PAGE)
_SELF_MAP_WITHIN = 1 << 24
_KUSER = 0xFFFF_F780_0000_0000
_KUSER_SLOT = 0x1EF
#: bits of a self-map entry that are fixed: the low byte without accessed and dirty, the high bits
_SELF_FIXED = np.uint64(0x0000_FFFF_FFFF_F083)
#: FILETIMEs of 2006 and 2107
_FIRST_TIME, _LAST_TIME = 0x1C6_0E70_0000_0000, 0x233_0000_0000_0000


class Root(NamedTuple):
    """Page tables that map Windows' kernel."""

    root: int
    how: str
    hint: int  #: an address inside nt, 0 where none is known


def open_raw(file: MachineFile) -> MemoryImage:
    """The file as memory from physical address 0 on."""
    size = file.size & -PAGE
    return MemoryImage("raw physical memory", ranges(file.data, [Run(0, 0, size)]), [])


def is_memory(data: FileBytes) -> bool:
    """True when a file without a header holds Windows' memory: looks at its first 16 MB at most."""
    if len(data) < LEAST or len(data) % PAGE:
        return False
    physical = ranges(data, [Run(0, 0, len(data))])
    return next(roots(physical, _SELF_MAP_WITHIN), None) is not None


def roots(
    physical: Physical, within: int | None = None, progress: Progress | None = None
) -> Iterator[Root]:
    """Page tables of Windows: by the low stub, then by their entry for themselves.

    The latter goes through all memory, unless ``within`` ends it there.
    """
    for at in _STUBS:
        page = physical.read(at, PAGE)
        if isinstance(page, Absent):
            continue
        found = _from_stub(page)
        if found is not None and maps_windows(physical, found.root):
            yield found
    end = physical.end if within is None else min(within, physical.end)
    for at in self_maps(physical, 0, end, progress):
        if maps_windows(physical, at):
            yield Root(at, "page tables that map themselves", 0)


def _from_stub(page: bytes) -> Root | None:
    words = struct.unpack_from("<Q104xQ40xQ", page)
    jump, target, root = words
    if jump & 0xFFFF_FFFF_FFFF_00FF != 0x0000_0001_0006_00E9:
        return None
    if target & 0xFFFF_F800_0000_0003 != 0xFFFF_F800_0000_0000 or root & 0xFFFF_FF00_0000_0FFF:
        return None
    return Root(root, "the low stub that starts processors", target)


def self_maps(
    physical: Physical, first: int, last: int, progress: Progress | None = None
) -> Iterator[int]:
    """Physical addresses of pages with an entry for themselves in their upper half."""
    for start, data in physical.pieces(first, last):
        if progress is not None:
            progress("searching all memory for page tables", start, last)
        count = len(data) // PAGE
        if start & (PAGE - 1) or not count:
            continue
        step = max(1, (PIECE // PAGE) // 16)  # bounded copies
        for low in range(0, count, step):
            part = min(step, count - low)
            words = np.frombuffer(data, "<u8", part * 512, low * PAGE).reshape(part, 512)
            # a root maps KUSER_SHARED_DATA: one column tells most pages apart
            likely = np.flatnonzero(words[:, _KUSER_SLOT] & np.uint64(1))
            own = (np.uint64(start + low * PAGE) + likely.astype(np.uint64) * np.uint64(PAGE)) | (
                np.uint64(3)
            )
            hit = ((words[likely, 256:] & _SELF_FIXED) == own[:, None]).any(1)
            yield from (start + (low + likely[hit]) * PAGE).tolist()


def maps_windows(physical: Physical, root: int) -> bool:
    """True when these tables lead to a page that reads as KUSER_SHARED_DATA."""
    return any(
        is_shared_data(AddressSpace(physical, name, root).read(_KUSER, PAGE))
        for name in ("x64", "x64-la57")
    )


def is_shared_data(page: bytes | Absent) -> bool:
    """KUSER_SHARED_DATA by its clocks: upper halves are kept twice, it is 2006 or later."""
    if isinstance(page, Absent):
        return False
    clocks = [struct.unpack_from("<III", page, at) for at in (0x08, 0x14, 0x320)]
    if any(abs(high1 - high2) > 1 for _, high1, high2 in clocks):
        return False
    uptime, time = (low | high << 32 for low, high, _ in clocks[:2])
    return bool(_FIRST_TIME < time < _LAST_TIME and 0 < uptime < _LAST_TIME - _FIRST_TIME)
