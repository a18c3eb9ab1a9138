"""Dumps that hold physical pages: types 1, 2, 5, 6, 8, 9 and 10.

Invariant: memory is bounded by the page map and some windows of the file; every address gives bytes
or a reason: not mapped in the target, paged out, not stored in this dump, or cut off with the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..absence import REASONS, Absent
from ..files import Bytes
from ..layouts import mindumpdef
from ..records import Evidence, Module
from . import loaded, processors
from .header import DumpFile
from .kernel import KernelDump, StackRegion
from .pagemap import PAGE, MapResult, RunMap, from_bitmap, from_header_runs, from_ranges
from .paging import REASON, SCHEMES, Walker
from .slice_mark import SNAPSHOT, mark_of

_MORE = "a complete memory dump"
#: what stands in a page that the writer could not read: DbgEng's .dump /f (seen), and the words
#: that Windows fills an unset header with
_FILLERS = (b"\xed\xfe\xad\xde", mindumpdef.SIGNATURE)
#: how bytes of such a page begin, by the address modulo 4
_LIKE_FILLER = tuple(tuple(((word * 2)[n : n + 2]) for word in _FILLERS) for n in range(4))
#: the shortest header of a map of pages
_LEAST_MAP = 0x40


class PageDump(KernelDump):
    """A dump with physical pages and the page tables to walk them."""

    holds = "physical memory pages"
    is_of_file = True  #: False: made of something else, for a slice of it

    def __init__(self, file: DumpFile) -> None:
        super().__init__(file)
        found = _page_map(file)
        for rule, text, offset in found.problems:
            file.note(rule, text, offset=offset)
        #: frames that the part of the map that is there does not name may still be meant
        self._is_map_cut = file.size < file.header_size + _LEAST_MAP or any(
            rule == "dump-file-cut" for rule, _, _ in found.problems
        )
        self.pages = found.pages
        self.first_page = self.pages.first
        self.end_of_pages = self.first_page + self.pages.pages * PAGE
        self.missing_pages = max(0, -(-(self.end_of_pages - file.size) // PAGE))
        if self.missing_pages and self.pages.pages:
            file.note(
                "dump-file-cut",
                f"the file should hold {self.pages.pages:,} pages and end at "
                f"{self.end_of_pages:,} bytes or later, but is {file.size:,} bytes long: "
                f"{_missing(min(self.missing_pages, self.pages.pages))}",
                offset=file.size,
                evidence=(
                    Evidence("pages stated", self.pages.pages, "Number"),
                    Evidence("pages missing", self.missing_pages, "Number"),
                ),
            )
        self.slice_of = mark_of(file.fields.get("Comment"))
        self._tell_slice()
        self.walker = self._choose_scheme()
        self._modules: list[Module] | None = None
        if self._is_map_cut:
            text = f"the file ends at {file.size:,} bytes, before any secondary data"
            file.note("secondary-data-missing", text, offset=file.size)
        elif not self._lacks_secondary():
            self.read_secondary(self.end_of_pages)

    def _tell_slice(self) -> None:
        """A slice says so: what it lacks may have been in the dump that it was cut from."""
        found = self.slice_of
        if found is None:
            return
        kind = mindumpdef.DUMP_TYPES.get(found.dump_type, f"of type {found.dump_type}")
        what = f"a dump ({kind})"
        count = f"{found.pages:,} of {found.of_pages:,}"
        if found.dump_type == SNAPSHOT:
            kind = what = "a memory snapshot"
            count = f"{found.pages:,}"
        text = (
            f"The header says that this is a slice, made by 'dumpstart export --slice': "
            f"{count} pages of {what}. What it lacks may "
            "have been there"
        )
        text += ", and what no analysis read was zeroed" if found.is_redacted else ""
        text += "; its secondary data was left out" if found.is_pages_only else ""
        if found.dump_type == SNAPSHOT:
            text += "; of the processors' registers one set is here"
        text += "; that dump had lost its end" if found.was_cut else ""
        self.file.note(
            "dump-is-slice",
            f"{text}.",
            offset=self.file_field("Comment"),
            subject="dump",
            evidence=(
                Evidence("pages of the dump", found.of_pages, "Number"),
                Evidence("type of the dump", found.dump_type, "Number", kind),
            ),
        )

    def _lacks_secondary(self) -> bool:
        cut = self.slice_of
        return cut is not None and (cut.is_pages_only or cut.dump_type == SNAPSHOT)

    def holds_page(self, frame: int) -> bool:
        """True when the map's page of a frame is one of the target."""
        return True

    # -- address translation -------------------------------------------------------------------

    def _choose_scheme(self) -> Walker:
        """Takes the paging scheme under which nt's module list reads as a list.

        The header names the machine, not its number of table levels: LA57 and a header byte left
        unset are told apart by content.
        """
        root = self.file.number("DirectoryTableBase")
        names = {
            "x64": ("x64", "x64-la57"),
            "arm64": ("arm64",),
            "x86": ("x86", "x86-pae"),
            "x86-pae": ("x86-pae", "x86"),
        }.get(
            str(self.architecture),
            ("x64", "arm64") if self.pointer_size == 8 else ("x86-pae", "x86"),
        )
        walkers = [
            Walker(
                SCHEMES[name], 0 if isinstance(root, Absent) else root, self.pages, self.file.data
            )
            for name in names
        ]
        head = self.file.number("PsLoadedModuleList")
        for walker in walkers:
            self.walker = walker
            if not isinstance(head, Absent):
                links = self.unpack("QQ" if self.pointer_size == 8 else "II", head)
                if (
                    not isinstance(links, Absent)
                    and self.pointer(links[0] + self.pointer_size) == head
                ):
                    break
        else:
            walker = self.walker = walkers[0]
        if walker.scheme.name != self.architecture and not isinstance(self.architecture, Absent):
            self.architecture = walker.scheme.name
        return walker

    def _locate(self, address: int) -> tuple[int, int]:
        """(file offset, 0) or (-1, reason code) of one address."""
        physical, reason = self.walker.walk(address)
        if reason:
            return -1, reason
        offset = self.walker._offset(physical)
        if offset < 0:
            return -1, 3
        if self.file.data.touched is not None:
            self.file.data.touched(offset, 0)
        return (offset, 0) if offset < self.file.size else (-1, 4)

    def file_offset(self, address: int) -> int | None:
        offset, reason = self._locate(address)
        return None if reason else offset

    def left_out(self, address: int) -> int | None:
        """The frame that an address is mapped to, when this dump does not store it."""
        physical, reason = self.walker.walk(address)
        if reason or self._is_map_cut:
            return None
        offset = self.walker._offset(physical)
        if offset >= 0 and self.file.data.touched is not None:
            self.file.data.touched(offset, 0)
        return physical >> 12 if offset < 0 else None

    def read(self, address: int, size: int) -> bytes | Absent:
        parts = []
        at, left = address, size
        while left > 0:
            step = min(PAGE - (at & (PAGE - 1)), left)
            offset, reason = self._locate(at)
            if not reason and offset + step > self.file.size:
                reason = 4
            if reason:
                name = REASON[reason]
                if name == "not-in-dump" and self._is_map_cut:
                    return Absent("file-cut", f"the file ends before its map has {at:#x}")
                return Absent(
                    name, f"{REASONS[name]} ({at:#x})", _MORE if name == "not-in-dump" else ""
                )
            data = self.file.data[offset : offset + step]
            if data.startswith(_LIKE_FILLER[at & 3]) and self._is_filler(offset - (at & 0xFFF)):
                return Absent(
                    "not-in-dump", f"whatever wrote the dump could not read this page ({at:#x}) "
                    f"and put a filler there", _MORE,
                )  # fmt: skip
            parts.append(data)
            at, left = at + step, left - step
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _is_filler(self, page: int) -> bool:
        """True when nothing but a filler word stands in the whole page at a file offset."""
        data = self.file.data[page : page + PAGE]
        return any(data == word * (PAGE // 4) for word in _FILLERS)

    # -- lists ---------------------------------------------------------------------------------

    def modules(self) -> Sequence[Module]:
        if self._modules is None:
            self._modules = loaded.loaded_modules(self)
        return self._modules

    def unloaded(self) -> Sequence[Module]:
        return loaded.unloaded_modules(self)

    def stacks(self) -> Sequence[StackRegion]:
        return processors.stacks(self)

    def page_data(self, before: int = 0) -> Iterator[tuple[int, Bytes]]:
        """The stored pages in pieces of whole pages; see :meth:`FileBytes.pieces`."""
        return self.file.data.pieces(self.first_page, self.end_of_pages, before)


def _missing(pages: int) -> str:
    return "1 page is missing" if pages == 1 else f"{pages:,} pages are missing"


def _page_map(file: DumpFile) -> MapResult:
    """Builds the page map of whatever header stands behind the dump header."""
    data, base = file.data, file.header_size
    kind = file.number("DumpType")
    empty = MapResult(RunMap(np.zeros(0, np.int64), np.zeros(0, np.int64), base), [])
    if file.size < base + _LEAST_MAP:
        if file.size >= base and kind != 1:
            text = f"the file ends at {file.size:,} bytes, before its map of pages"
            empty.problems.append(("dump-file-cut", text, file.size))
        return empty
    signature, valid = data[base : base + 4], data[base + 4 : base + 8]
    if kind in (8, 9, 10):
        # RDMP: the mark stands behind a 4-byte word (seen in dumps of current debuggers)
        if data[base + 4 : base + 8] != mindumpdef.RANGE_SIGNATURE:
            empty.problems.append(
                ("dump-map-inconsistent", "no RDMP range header behind the dump header", base)
            )
            return empty
        size, first = data.unpack("<QQ", base + 0x10)
        stated = data.unpack("<Q", base + 0x28)[0] if kind == 10 else 0
        first = min(first, 1 << 60)  # so that file offsets fit 64 bits
        result = from_ranges(data, base + 0x30, first, min(stated, 1 << 40))
        if first != base + 0x20 + size:
            result.problems.append(
                (
                    "dump-map-inconsistent",
                    (
                        f"the range header states its first page at {first:#x}, "
                        f"its size of {size:#x} bytes puts it at {base + 0x20 + size:#x}"
                    ),
                    base + 0x10,
                )
            )
        return result
    if signature in mindumpdef.BITMAP_SIGNATURES and valid == b"DUMP":
        if kind == 2:
            old = mindumpdef.SummaryDump64 if file.pointer_size == 8 else mindumpdef.SummaryDump32
            bits, pages = old.BitmapSize.read(data, base), old.Pages.read(data, base)
            first = old.HeaderSize.read(data, base)
            return from_bitmap(data, base + old.bitmap.offset, bits, pages, first)
        new = mindumpdef.BITMAP_DUMP
        bits = min(new.BitmapBits.read(data, base), 1 << 40)
        return from_bitmap(
            data,
            base + new.bitmap,
            bits,
            new.Pages.read(data, base),
            min(new.FirstPage.read(data, base), 1 << 60),
        )
    if kind in (2, 5, 6):
        empty.problems.append(
            (
                "dump-map-inconsistent",
                f"no SDMP or FDMP page bitmap behind the dump header: {signature!r}",
                base,
            )
        )
        return empty
    return from_header_runs(
        data, file.layout.PhysicalMemoryBlock.offset, file.pointer_size == 8, base
    )
