"""Sparse physical memory with page tables: the machine that the synthetic dumps are dumps of.

Invariant: what is written at a virtual address lies in the frames that the page tables give for it.
Reads and writes go by a separate map of pages, so that readers put the tables to the test.
"""

from __future__ import annotations

import random
import struct

PAGE = 0x1000
MAIN_RUN = 0x100  # frames are handed out from here on
LARGE_RUN = 0x400  # the large page of the kernel image; aligned for 2 MB and 4 MB
LARGE_END = 0x800
FILLER_RUN = 0x100000  # bulk frames for measurements start at 4 GB
DEVICE_FRAME = 0xFED00  # memory of a device: mapped, but not RAM

# per architecture: (shift, index bits) from the root down, and the size of an entry
PAGING = {
    "x64": ([(39, 9), (30, 9), (21, 9), (12, 9)], 8),
    "x64-la57": ([(48, 9), (39, 9), (30, 9), (21, 9), (12, 9)], 8),
    "arm64": ([(39, 9), (30, 9), (21, 9), (12, 9)], 8),
    "x86-pae": ([(30, 2), (21, 9), (12, 9)], 8),
    "x86": ([(22, 10), (12, 10)], 4),
}


class World:
    """Frames, page tables and the map of virtual pages."""

    def __init__(self, arch: str, la57: bool, seed: int) -> None:
        self.arch = arch
        self.pointer_size = 8 if arch in ("x64", "arm64") else 4
        self.levels, self.entry_size = PAGING["x64-la57" if la57 else arch]
        self.random = random.Random(seed)
        self.frames = {}  # frame number -> bytearray(4096)
        self.dropped = set()  # frames that the dump does not hold
        self.pages = {}  # virtual page number -> frame number
        self._free = []
        self._next_block = MAIN_RUN
        root = self.new_frame()
        self.root = root << 12
        if arch == "x86-pae":  # the PAE root is 32 bytes, aligned to 32: not at the start of a page
            self.root += 0x420

    # ---- frames ----------------------------------------------------------------------
    def new_frame(self) -> int:
        """A fresh zeroed frame; neighbours in virtual memory are not neighbours here."""
        if not self._free:
            block = list(range(self._next_block, self._next_block + 16))
            self._next_block += 16
            if self._next_block == LARGE_RUN:
                self._next_block = LARGE_END
            while block:
                self._free.append(block.pop(self.random.getrandbits(16) % len(block)))
        pfn = self._free.pop()
        self.frames[pfn] = bytearray(PAGE)
        return pfn

    def frame_at(self, pfn: int) -> int:
        """The given frame, zeroed when it was not there yet."""
        self.frames.setdefault(pfn, bytearray(PAGE))
        return pfn

    def unused_frames(self) -> list:
        """RAM frames that hold nothing of interest; complete dumps store them too."""
        return sorted(self._free)

    # ---- page tables -----------------------------------------------------------------
    def _entry_address(self, va: int, level: int) -> int:
        """Physical address of the entry for va at a level, making the tables above it."""
        table = self.root
        for depth, (shift, bits) in enumerate(self.levels):
            at = table + ((va >> shift) & ((1 << bits) - 1)) * self.entry_size
            if depth == level:
                return at
            entry = self.read_entry(at)
            if not entry & 1:
                entry = self.new_frame() << 12
                if self.arch == "arm64":
                    entry |= 0x3
                elif self.arch == "x86-pae" and depth == 0:
                    entry |= 0x1  # the other bits of a PAE root entry are reserved
                else:
                    entry |= 0x63
                self.write_entry(at, entry)
            table = entry & 0x000F_FFFF_FFFF_F000
        raise AssertionError(level)

    def read_entry(self, at: int) -> int:
        """A page table entry."""
        frame = self.frames[at >> 12]
        return int.from_bytes(frame[at & 0xFFF : (at & 0xFFF) + self.entry_size], "little")

    def write_entry(self, at: int, value: int) -> None:
        """Sets a page table entry."""
        offset = at & 0xFFF
        self.frames[at >> 12][offset : offset + self.entry_size] = value.to_bytes(
            self.entry_size, "little"
        )

    def set_leaf(self, va: int, value: int, level: int = -1) -> None:
        """Puts a raw entry for va at a level (default: the last)."""
        self.write_entry(self._entry_address(va, level % len(self.levels)), value)

    def page_entry(self, pfn: int) -> int:
        """The entry of a valid 4 KB page."""
        if self.arch == "arm64":
            return pfn << 12 | 0x703
        no_execute = 1 << 63 if self.arch == "x64" and pfn & 1 else 0
        return no_execute | pfn << 12 | 0x163

    def map_page(self, va: int, pfn: int) -> None:
        """Maps a 4 KB page."""
        self.set_leaf(va, self.page_entry(pfn))
        self.pages[va >> 12] = pfn

    def map_large(self, va: int, pfn: int, level: int = -2) -> int:
        """A large leaf (2 MB or 4 MB; level -3: 1 GB); gives its size."""
        self.set_leaf(va, pfn << 12 | (0x701 if self.arch == "arm64" else 0xE3), level)
        return 1 << self.levels[level][0]

    def map_transition(self, va: int, pfn: int) -> None:
        """Not valid, but the page is still in its frame (bit 11 set, bit 10 clear)."""
        self.set_leaf(va, pfn << 12 | 0x880)

    def map_paged_out(self, va: int, file_page: int) -> None:
        """A software entry: page file 1 and the page in it."""
        shift = 32 if self.entry_size == 8 else 12
        self.set_leaf(va, file_page << shift | 0x80 | 1 << 1)

    def map_prototype(self, va: int, address: int) -> None:
        """A prototype entry (bit 10): the real entry is elsewhere."""
        if self.entry_size == 8:
            self.set_leaf(va, (address & 0xFFFF_FFFF_FFFF) << 16 | 0x400)
        else:
            self.set_leaf(va, (address & 0xFFFFF) << 12 | 0x400)

    # ---- virtual memory --------------------------------------------------------------
    def ensure(self, va: int, size: int) -> None:
        """Maps fresh pages where none are."""
        for page in range(va >> 12, (va + size + PAGE - 1) >> 12):
            if page not in self.pages:
                self.map_page(page << 12, self.new_frame())

    def write(self, va: int, data: bytes) -> None:
        """Writes bytes, mapping pages as needed."""
        self.ensure(va, len(data))
        done = 0
        while done < len(data):
            at = (va + done) & 0xFFF
            part = data[done : done + PAGE - at]
            self.frames[self.pages[(va + done) >> 12]][at : at + len(part)] = part
            done += len(part)

    def read(self, va: int, size: int) -> bytes:
        """Reads bytes of mapped pages."""
        out = b""
        while len(out) < size:
            at = (va + len(out)) & 0xFFF
            frame = self.frames[self.pages[(va + len(out)) >> 12]]
            out += frame[at : at + min(PAGE - at, size - len(out))]
        return out

    def pack(self, va: int, form: str, *values: int) -> None:
        """Writes a struct; `P` in the form stands for a pointer."""
        form = form.replace("P", "Q" if self.pointer_size == 8 else "I")
        self.write(va, struct.pack("<" + form, *values))

    def pointer(self, va: int, *values: int) -> None:
        """Writes pointers."""
        self.pack(va, "P" * len(values), *values)

    def drop(self, va: int, size: int = 1) -> None:
        """The dump will not hold the frames behind these addresses."""
        for page in range(va >> 12, (va + size + PAGE - 1) >> 12):
            if page in self.pages:
                self.dropped.add(self.pages[page])
