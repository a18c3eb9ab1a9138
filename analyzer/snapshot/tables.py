"""Virtual memory of a snapshot: its physical memory through one set of page tables."""

from __future__ import annotations

from ..absence import REASONS, Absent
from ..dumpfile.paging import NOT_IN_DUMP, REASON, SCHEMES, walk
from ..target import PAGE
from .physical import Physical

#: translations and tables that are kept; a walk of the dump stack meets a few hundred
_KEPT, _KEPT_TABLES = 1 << 14, 1 << 10


class AddressSpace:
    """Reads virtual addresses; page by page, each translated once."""

    def __init__(self, physical: Physical, scheme: str, root: int) -> None:
        self.physical, self.scheme = physical, SCHEMES[scheme]
        self.root = root
        self._limit = (1 << max(physical.end >> 12, 1).bit_length()) - 1
        self._pages: dict[int, tuple[int, int]] = {}
        self._tables: dict[int, bytes] = {}

    def _entry(self, place: int) -> tuple[int, int]:
        frame = place >> 12
        table = self._tables.get(frame)
        if table is None:
            found = self.physical.read(frame << 12, PAGE)
            table = b"" if isinstance(found, Absent) else found
            if len(self._tables) >= _KEPT_TABLES:
                self._tables.clear()
            self._tables[frame] = table
        if table:
            at = place & (PAGE - 1)
            return int.from_bytes(table[at : at + 8], "little"), 0
        data = self.physical.read(place, 8)  # the file may end within the table
        if isinstance(data, Absent):
            return 0, REASON.index(data.reason) if data.reason in REASON else NOT_IN_DUMP
        return int.from_bytes(data, "little"), 0

    def translate(self, address: int) -> tuple[int, int]:
        """(physical address, 0) or (-1, reason code of analyzer.dumpfile.paging)."""
        known = self._pages.get(address >> 12)
        if known is None:
            page = address & -PAGE
            stated = self.physical.mapped(page)
            if stated is not None:
                known = stated, 0
            else:
                known = walk(self.scheme, self.root, page, self._entry, self._limit)
            if len(self._pages) >= _KEPT:
                self._pages.clear()
            self._pages[address >> 12] = known
        physical, reason = known
        return (physical, reason) if reason else (physical + (address & 0xFFF), 0)

    def unmapped_from(self, address: int) -> int | None:
        """Start of the aligned area around an address of which the upper tables map nothing."""
        table = self.root & self.scheme.root_mask
        for shift, mask in self.scheme.levels[:-1]:
            entry, reason = self._entry(table + (address >> shift & mask) * 8)
            if reason or entry & 0x81 == 0x81:
                return None
            if not entry & 1:
                return address >> shift << shift
            table = entry & self.scheme.frame_mask
        return None

    def read(self, address: int, size: int) -> bytes | Absent:
        """``size`` bytes at a virtual address, or why they cannot be read."""
        parts = []
        while size > 0:
            step = min(PAGE - (address & (PAGE - 1)), size)
            physical, reason = self.translate(address)
            if reason:
                name = REASON[reason]
                return Absent(name, f"{REASONS[name]} ({address:#x})")
            data = self.physical.read(physical, step)
            if isinstance(data, Absent):
                return data
            parts.append(data)
            address, size = address + step, size - step
        return parts[0] if len(parts) == 1 else b"".join(parts)
