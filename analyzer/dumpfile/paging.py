"""Virtual to physical: page-table walks, over a dump or wherever the tables are kept.

Invariant: a walk reads only table entries stored in the dump and ends after at most five levels;
every address gets either a physical address or a reason. One table of schemes (below) describes
x64 with four and five levels, ARM64 with 4K pages, x86 PAE and x86; the walk knows no architecture.

Sources: Intel SDM volume 3 chapter 4, Arm ARM D8 (4K granule), public kernel types
(_MMPTE_TRANSITION, _MMPTE_SOFTWARE) for the entries that are not valid.
"""

from __future__ import annotations

from typing import Callable, NamedTuple

import numpy as np

from ..files import FileBytes
from .pagemap import PageMap

#: reason codes of a walk; names are keys of analyzer.absence.REASONS
REASON = ("", "not-mapped", "paged-out", "not-in-dump", "file-cut")
NOT_MAPPED, PAGED_OUT, NOT_IN_DUMP, FILE_CUT = 1, 2, 3, 4

_PROTOTYPE, _TRANSITION = 1 << 10, 1 << 11


class Scheme(NamedTuple):
    """How an architecture cuts an address into table indexes.

    ``levels``: (shift, index mask) from the root down; ``large``: shifts at which a leaf may stand;
    ``address_bits``: width of a canonical address (0: all 32-bit addresses are valid).
    """

    name: str
    levels: tuple[tuple[int, int], ...]
    large: tuple[int, ...]
    entry_size: int
    frame_mask: int
    root_mask: int
    address_bits: int
    arm: bool = False


_MASK52 = 0x000F_FFFF_FFFF_F000
SCHEMES = {
    "x64": Scheme(
        "x64", ((39, 511), (30, 511), (21, 511), (12, 511)), (30, 21), 8, _MASK52, _MASK52, 48
    ),
    "x64-la57": Scheme(
        "x64-la57",
        ((48, 511), (39, 511), (30, 511), (21, 511), (12, 511)),
        (30, 21),
        8,
        _MASK52,
        _MASK52,
        57,
    ),
    "arm64": Scheme(
        "arm64",
        ((39, 511), (30, 511), (21, 511), (12, 511)),
        (30, 21),
        8,
        0x0000_FFFF_FFFF_F000,
        0x0000_FFFF_FFFF_F000,
        48,
        True,
    ),
    "x86-pae": Scheme(
        "x86-pae", ((30, 3), (21, 511), (12, 511)), (21,), 8, _MASK52, 0xFFFF_FFE0, 0
    ),
    "x86": Scheme("x86", ((22, 1023), (12, 1023)), (22,), 4, 0xFFFF_F000, 0xFFFF_F000, 0),
}


#: reads a table entry at a physical address: (entry, 0) or (0, reason code)
ReadEntry = Callable[[int], "tuple[int, int]"]


def walk(
    scheme: Scheme, root: int, address: int, read_entry: ReadEntry, frame_limit: int
) -> tuple[int, int]:
    """(physical address, 0) or (-1, reason code), wherever the tables are kept.

    ``frame_limit``: not-present entries may hold inverted high frame bits (the L1TF mitigation);
    what lies above this is cut off.
    """
    if scheme.address_bits:
        top = address >> (scheme.address_bits - 1)
        if top not in (0, (1 << (65 - scheme.address_bits)) - 1):
            return -1, NOT_MAPPED
    elif address >> 32:
        return -1, NOT_MAPPED
    table = root & scheme.root_mask
    for shift, mask in scheme.levels:
        entry, reason = read_entry(table + (address >> shift & mask) * scheme.entry_size)
        if reason:
            return -1, reason
        if not entry & 1:
            if shift != 12:
                return -1, NOT_MAPPED
            if entry & (_PROTOTYPE | _TRANSITION) == _TRANSITION:
                frame = (entry & scheme.frame_mask) >> 12
                if frame > frame_limit:
                    frame &= frame_limit
                return frame << 12 | address & 0xFFF, 0
            swapped = entry & _PROTOTYPE or entry >> (32 if scheme.entry_size == 8 else 12)
            return -1, PAGED_OUT if swapped else NOT_MAPPED
        if shift == 12:
            if scheme.arm and entry & 3 != 3:
                return -1, NOT_MAPPED
            return entry & scheme.frame_mask | address & 0xFFF, 0
        leaf = entry & 3 == 1 if scheme.arm else bool(entry & 0x80)
        if leaf and shift in scheme.large:
            low = (1 << shift) - 1
            high = (entry >> 13 & 0xFF) << 32 if scheme.entry_size == 4 else 0  # PSE-36
            return entry & scheme.frame_mask & ~low | high | address & low, 0
        if leaf and scheme.arm:
            return -1, NOT_MAPPED
        table = entry & scheme.frame_mask
    raise AssertionError("the last level always returns")  # pragma: no cover


class Walker:
    """Walks the tables of one dump; ``data`` is the file."""

    def __init__(self, scheme: Scheme, root: int, pages: PageMap, data: FileBytes) -> None:
        self.scheme, self.root, self.pages, self.data = scheme, root & scheme.root_mask, pages, data
        self.size = len(data)
        # Where tables lie in the file; a walk of a few hundred addresses meets the same few tables.
        self._tables: dict[int, int] = {}
        # not-present entries may hold inverted high frame bits (the L1TF mitigation)
        self._frame_limit = (1 << max(pages.highest, 1).bit_length()) - 1

    # -- one address ---------------------------------------------------------------------------

    def _offset(self, physical: int) -> int:
        frame = physical >> 12
        base = self._tables.get(frame)
        if base is None:
            base = int(self.pages.offsets(np.array([frame], np.int64))[0])
            if len(self._tables) > 4096:
                self._tables.clear()
            self._tables[frame] = base
        return base + (physical & 0xFFF) if base >= 0 else -1

    def _entry(self, place: int) -> tuple[int, int]:
        offset = self._offset(place)
        width = self.scheme.entry_size
        if offset < 0:
            return 0, NOT_IN_DUMP
        if offset + width > self.size:
            return 0, FILE_CUT
        return self.data.unpack("<Q" if width == 8 else "<I", offset)[0], 0

    def walk(self, address: int) -> tuple[int, int]:
        """(physical address, 0) or (-1, reason code)."""
        return walk(self.scheme, self.root, address, self._entry, self._frame_limit)
