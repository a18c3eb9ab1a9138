"""Windows in bare memory: nt's image by its export name, its variables by their exports.

Invariant: nothing is taken for nt but an image whose export directory calls it ntoskrnl.exe;
the list of modules must have nt as its first entry and close at its head. Every search is bounded.

Sources: PE/COFF specification; Intel SDM (gates of the IDT); public types of KLDR_DATA_TABLE_ENTRY.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from ..absence import Absent
from ..layouts import mindumpdef
from ..target import PAGE
from .image import MemoryImage
from .raw import Progress, maps_windows, roots
from .tables import AddressSpace

_NAMES = (b"ntoskrnl.exe", b"ntkrnlmp.exe", b"ntkrla57.exe")
_AMD64 = 0x8664
#: nt is smaller; pages that one search goes back through, and all searches of one image
_NT_PAGES = 0x4000
_ALL_PAGES = 4 * _NT_PAGES
_SYSTEM_PAGES = 1 << 18  #: looked at where no address in nt is known
_MOST_EXPORTS = 1 << 16
_EXPORT_BYTES = 1 << 20
_GATES = 32
_CANONICAL = 0xFFFF_8000_0000_0000
#: the slot of the top table that Windows loads the kernel and its drivers in
_SYSTEM_SLOT = 0xFFFF_F800_0000_0000
_WANTED = ("PsLoadedModuleList", "KiBugCheckData", "NtBuildNumber", "NtBuildLab")
_DLL_BASE, _BACK = 0x30, 8
_TAG, _KERNEL_BASE = 0x10, 0x18  #: in KDDEBUGGER_DATA64
_WRITE, _DISCARDABLE = 0x8000_0000, 0x0200_0000


class Windows(NamedTuple):
    """Where Windows lies in a memory image."""

    space: AddressSpace
    nt: int
    exports: dict[str, int]  #: those that are of use
    modules: int | Absent  #: head of the list of loaded modules
    how: str  #: page tables, nt and the list: how each was found


def find(image: MemoryImage, progress: Progress | None = None) -> Windows | Absent:
    """Windows, or what was looked for in vain."""
    tables_seen = False
    budget = [_ALL_PAGES]
    for space, hints, how in _spaces(image, progress):
        tables_seen = True
        found = _nt(space, hints, budget)
        how_nt = "nt behind an address in it"
        if found is None:
            found = _nt_by_tables(space)
            how_nt = "nt among all pages that drivers are loaded in"
        if found is None:
            continue
        base, exports, size = found
        modules, how_list = _module_list(space, base, size, exports)
        return Windows(space, base, exports, modules, f"{how}; {how_nt}; {how_list}")
    if tables_seen:
        return Absent("not-found", "page tables are there, but no image named ntoskrnl.exe in them")
    return Absent("not-found", "no page tables that map Windows' kernel")


def _spaces(
    image: MemoryImage, progress: Progress | None
) -> Iterator[tuple[AddressSpace, list[int], str]]:
    """Address spaces that may be Windows', each with addresses that may lie in nt."""
    for number, registers in enumerate(image.processors):
        scheme = "x64-la57" if registers.get("cr4", 0) >> 12 & 1 else "x64"
        space = AddressSpace(image.physical, scheme, registers["cr3"])
        in_kernel = registers["rip"] >= _CANONICAL or registers.get("gs_base", 0) >= _CANONICAL
        hints = [*_gates(space, registers["idt_base"]), registers.get("lstar", 0), registers["rip"]]
        if in_kernel:
            yield space, hints, f"page tables of processor {number}"
            continue
        # In a user program on a machine with KVA shadow CR3 leads to few pages of the kernel; the
        # kernel's own CR3 is kept in the processor's block, which is one of them.
        block = registers.get("kernel_gs_base", 0)
        root = space.read(block + 0x7000, 8) if block >= _CANONICAL else Absent("unset")
        if not isinstance(root, Absent):
            other = AddressSpace(image.physical, scheme, int.from_bytes(root, "little") & -PAGE)
            if maps_windows(image.physical, other.root):
                yield other, hints, f"kernel page tables kept by processor {number}"
        yield space, hints, f"page tables of processor {number}"
    for found in roots(image.physical, progress=progress):
        for scheme in ("x64", "x64-la57"):
            hints = [found.hint] if found.hint else []
            yield AddressSpace(image.physical, scheme, found.root), hints, found.how


def _gates(space: AddressSpace, idt: int) -> list[int]:
    """Handlers of the first vectors: they lie in nt."""
    data = space.read(idt, 16 * _GATES)
    if isinstance(data, Absent):
        return []
    gates = (struct.unpack_from("<HHHHI", data, at) for at in range(0, len(data), 16))
    return [low | middle << 16 | high << 32 for low, _, _, middle, high in gates]


def _nt(
    space: AddressSpace, hints: Iterable[int], budget: list[int]
) -> tuple[int, dict[str, int], int] | None:
    """Page by page back from each address to an image that is nt: (base, exports, size)."""
    seen: set[int] = set()
    for hint in hints:
        if hint < _CANONICAL:
            continue
        page = hint >> 12
        last = page - _NT_PAGES
        while page > last and page not in seen and budget[0]:
            seen.add(page)
            hole = space.unmapped_from(page << 12)
            if hole is not None:
                page = (hole >> 12) - 1
                continue
            budget[0] -= 1
            found = _is_nt(space, page << 12)
            if found is not None:
                return page << 12, *found
            page -= 1
    return None


def _nt_by_tables(space: AddressSpace) -> tuple[int, dict[str, int], int] | None:
    """The same among all pages mapped where Windows loads the kernel."""
    for base in islice(_mapped_pages(space), _SYSTEM_PAGES):
        found = _is_nt(space, base)
        if found is not None:
            return base, *found
    return None


def _mapped_pages(space: AddressSpace) -> Iterator[int]:
    """Addresses of the pages mapped in the system slot, in order."""
    table = _table(space, _SYSTEM_SLOT)
    if table is None:
        return
    for second, upper in enumerate(table):
        if not upper & 1 or upper & 0x80:
            continue
        middle = _page_words(space, upper)
        for third, entry in enumerate(middle or ()):
            at = _SYSTEM_SLOT | second << 30 | third << 21
            if not entry & 1:
                continue
            if entry & 0x80:
                yield from range(at, at + (1 << 21), PAGE)
                continue
            last = _page_words(space, entry)
            yield from (at | n << 12 for n, page in enumerate(last or ()) if page & 1)


def _table(space: AddressSpace, address: int) -> tuple[int, ...] | None:
    """The third-level table of an address."""
    at = space.root & space.scheme.root_mask
    for shift, mask in space.scheme.levels:
        words = _page_words(space, at)
        if words is None:
            return None
        if shift == 30:
            return words
        entry = words[address >> shift & mask]
        if not entry & 1:
            return None
        at = entry
    return None


def _page_words(space: AddressSpace, entry: int) -> tuple[int, ...] | None:
    data = space.physical.read(entry & space.scheme.frame_mask, PAGE)
    return None if isinstance(data, Absent) else struct.unpack("<512Q", data)


def _is_nt(space: AddressSpace, base: int) -> tuple[dict[str, int], int] | None:
    """(exports, size of image) of an x64 image that calls itself ntoskrnl.exe."""
    mark = space.read(base, 2)
    if mark != b"MZ":
        return None
    head = space.read(base, PAGE)
    if isinstance(head, Absent):
        return None
    (pe,) = struct.unpack_from("<I", head, 0x3C)
    if pe > PAGE - 0x120 or head[pe : pe + 4] != b"PE\0\0":
        return None
    (machine,) = struct.unpack_from("<H", head, pe + 4)
    (size,) = struct.unpack_from("<I", head, pe + 24 + 56)
    rva, length = struct.unpack_from("<II", head, pe + 24 + 112)
    if machine != _AMD64 or not 40 <= length <= _EXPORT_BYTES:
        return None
    exports = _exports(space, base, rva)
    return None if exports is None else (exports, size)


def _exports(space: AddressSpace, base: int, rva: int) -> dict[str, int] | None:
    head = space.read(base + rva, 40)
    if isinstance(head, Absent):
        return None
    name, _, _, count, functions, names, ordinals = struct.unpack_from("<IIIIIII", head, 12)
    called = space.read(base + name, 13)
    if isinstance(called, Absent) or called[:12].lower() not in _NAMES:
        return None
    found: dict[str, int] = {}
    for wanted in _WANTED:  # names are sorted: a search touches few of the pages
        at = _name(space, base + names, base, min(count, _MOST_EXPORTS), wanted.encode())
        ordinal = None if at is None else _number(space, base + ordinals + 2 * at, 2)
        where = None if ordinal is None else _number(space, base + functions + 4 * ordinal, 4)
        if where:
            found[wanted] = base + where
    return found


def _name(space: AddressSpace, table: int, base: int, count: int, wanted: bytes) -> int | None:
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        at = _number(space, table + 4 * middle, 4)
        text = None if at is None else _text(space, base + at, len(wanted) + 1)
        if text is None:
            return None
        if text == wanted:
            return middle
        if text < wanted:
            low = middle + 1
        else:
            high = middle
    return None


def _text(space: AddressSpace, address: int, size: int) -> bytes | None:
    data = space.read(address, size)
    return None if isinstance(data, Absent) else data.split(b"\0")[0]


def _number(space: AddressSpace, address: int, size: int) -> int | None:
    data = space.read(address, size)
    return None if isinstance(data, Absent) else int.from_bytes(data, "little")


def _module_list(
    space: AddressSpace, nt: int, size: int, exports: dict[str, int]
) -> tuple[int | Absent, str]:
    head = exports.get("PsLoadedModuleList")
    if head is not None and _is_list(space, nt, head):
        return head, "PsLoadedModuleList by its export"
    for at in range(nt, nt + min(size, _NT_PAGES * PAGE), PAGE):
        data = space.read(at, PAGE)
        if isinstance(data, Absent):
            continue
        for number, word in enumerate(struct.unpack("<512Q", data)):
            place = at + 8 * number
            is_link = word >= _CANONICAL and not word & 7 and word != place
            if is_link and _is_list(space, nt, place):
                return place, "PsLoadedModuleList by content"
    return Absent("not-found", "no list in nt's data begins with nt"), "no list of modules"


def debugger_block(space: AddressSpace, nt: int) -> int | Absent:
    """KDDEBUGGER_DATA64 in nt's data: by its tag and the base of nt in it.

    While Windows runs, the block is encoded and not found; on its way into a crash dump it is not.
    """
    head = space.read(nt, PAGE)
    for start, end in [] if isinstance(head, Absent) else _writable(head):
        for at in range(nt + start, nt + end, PAGE):
            data = space.read(at, PAGE)
            if isinstance(data, Absent) or mindumpdef.DEBUGGER_DATA_TAG not in data:
                continue
            found = data.find(mindumpdef.DEBUGGER_DATA_TAG)
            while found >= 0:
                block = at + found - _TAG
                if found % 8 == 0 and _number(space, block + _KERNEL_BASE, 8) == nt:
                    return block
                found = data.find(mindumpdef.DEBUGGER_DATA_TAG, found + 1)
    return Absent("not-found", "no KDBG tag in nt's data; the block may be encoded")


def _writable(head: bytes) -> Iterator[tuple[int, int]]:
    """Start and end RVA of each section that is written to and stays in memory."""
    (pe,) = struct.unpack_from("<I", head, 0x3C)
    count, optional = struct.unpack_from("<H12xH", head, pe + 6)
    left = _NT_PAGES * PAGE
    for at in range(pe + 24 + optional, min(pe + 24 + optional + 40 * count, PAGE - 40), 40):
        size, rva = struct.unpack_from("<II", head, at + 8)
        (flags,) = struct.unpack_from("<I", head, at + 36)
        if flags & _WRITE and not flags & _DISCARDABLE and left > 0:
            yield rva & -PAGE, rva + min(size, left)
            left -= size


def _is_list(space: AddressSpace, nt: int, head: int) -> bool:
    """True for a list head whose first entry is nt and points back to it."""
    first = _number(space, head, 8)
    if not first or first < _CANONICAL:
        return False
    return _number(space, first + _BACK, 8) == head and _number(space, first + _DLL_BASE, 8) == nt
