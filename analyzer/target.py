"""The narrow interface through which analysis sees memory: of a dump, a live session, a replay.

Invariant: ``read`` returns exactly the bytes asked for or an ``Absent`` with the reason; it never
raises for missing memory and never returns part. Everything else here is built on it. Standard
library only, because the same walks run inside the debugger.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from heapq import heappop, heappush

from .absence import Absent
from .records import Module, Origin

PAGE = 0x1000
#: longest UTF-16 string read from a target, in bytes (a UNICODE_STRING cannot hold more)
MAX_STRING = 0xFFFE


class Target:
    """A machine whose kernel memory can be read.

    Subclasses set the attributes and implement :meth:`read`; they override :meth:`chunks` where
    they know better than page by page what is there.
    """

    path: str = ""  #: shown as the source of records
    pointer_size: int = 8
    architecture: str | Absent = Absent("unset")
    build: int | Absent = Absent("unset")

    #: names an address, None where no symbol is known; unset: no symbols are used
    naming: Callable[[int], str | None] | None = None

    #: searches that stopped at their bound, in words: nothing is left out silently
    limits: tuple[str, ...] = ()

    def stopped(self, text: str) -> None:
        """Notes once that a search ended at its bound, so that more may be there."""
        if text not in self.limits:
            self.limits += (text,)

    def read(self, address: int, size: int) -> bytes | Absent:
        """``size`` bytes at a virtual address, or why they cannot be read."""
        raise NotImplementedError

    def modules(self) -> Sequence[Module]:
        """Loaded modules, in load order."""
        raise NotImplementedError

    def chunks(self, address: int, size: int) -> Iterator[tuple[int, bytes]]:
        """What can be read of a range, in address order: (address, bytes), neighbours joined."""
        start = address
        held: list[bytes] = []
        at, end = address, address + size
        while at < end:
            step = min(PAGE - (at & (PAGE - 1)), end - at)
            data = self.read(at, step)
            if isinstance(data, Absent):
                if held:
                    yield start, b"".join(held)
                held, start = [], at + step
            else:
                held.append(data)
            at += step
        if held:
            yield start, b"".join(held)

    def file_offset(self, address: int) -> int | None:
        """Where in the source's file a byte lies; None for a live target or memory not there."""
        return None

    def origin(self, how: str, address: int, confidence: str = "certain") -> Origin:
        """Provenance of something read at a virtual address; subclasses add the file offset."""
        return Origin(self.path, how, confidence, None, address)

    def symbol(self, modules: Sequence[Module], address: int) -> str:
        """``module!function+0x12`` where symbols are known, else ``module+0x1012``."""
        named = None if self.naming is None else self.naming(address)
        return symbol(modules, address) if named is None else named

    # -- small reads ---------------------------------------------------------------------------

    def unpack(self, form: str, address: int) -> tuple[int, ...] | Absent:
        """``struct.unpack`` (little-endian) of the bytes at an address, or why not."""
        data = self.read(address, struct.calcsize("<" + form))
        return data if isinstance(data, Absent) else struct.unpack("<" + form, data)

    def pointer(self, address: int) -> int | Absent:
        """One pointer-size word."""
        values = self.unpack("Q" if self.pointer_size == 8 else "I", address)
        return values if isinstance(values, Absent) else values[0]

    def u32(self, address: int) -> int | Absent:
        """One 32-bit word."""
        values = self.unpack("I", address)
        return values if isinstance(values, Absent) else values[0]

    def unicode_string(self, address: int) -> str | Absent:
        """The text of a UNICODE_STRING structure; undecodable units become U+FFFD."""
        form = "HH4xQ" if self.pointer_size == 8 else "HHI"
        values = self.unpack(form, address)
        if isinstance(values, Absent):
            return values
        length, _, buffer = values
        data = self.read(buffer, min(length, MAX_STRING) & ~1) if length else b""
        return data if isinstance(data, Absent) else data.decode("utf-16-le", "replace")

    def is_kernel_pointer(self, value: int) -> bool:
        """Canonical, in the kernel half and aligned to a pointer."""
        if value % self.pointer_size:
            return False
        if self.pointer_size == 4:
            return 0x8000_0000 <= value < 0xFFFF_F000
        return 0xFF00_0000_0000_0000 <= value < 0xFFFF_FFFF_FFFF_F000


class ModuleMap(tuple[Module, ...]):  # noqa: SLOT001 - what is looked up is kept
    """Modules among which many addresses are looked up."""

    @cached_property
    def _pieces(self) -> tuple[list[int], list[Module | None]]:
        """Where another module begins to hold the addresses, and which; the first listed one."""
        ranges = [
            (m.base, place, m.end, m)
            for place, m in enumerate(self)
            if isinstance(m.base, int) and isinstance(m.end, int) and m.base < m.end
        ]
        ranges.sort(key=lambda one: one[:2], reverse=True)
        starts: list[int] = []
        holders: list[Module | None] = []
        held: list[tuple[int, int, Module]] = []
        for at in sorted({edge for base, _, end, _ in ranges for edge in (base, end)}):
            while ranges and ranges[-1][0] == at:
                _, place, end, module = ranges.pop()
                heappush(held, (place, end, module))
            while held and held[0][1] <= at:
                heappop(held)
            starts.append(at)
            holders.append(held[0][2] if held else None)
        return starts, holders

    def at(self, address: int) -> Module | None:
        """The first module in the list that holds an address."""
        starts, holders = self._pieces
        place = bisect_right(starts, address)
        return holders[place - 1] if place else None


def module_at(modules: Sequence[Module], address: int) -> Module | None:
    """The first module in the list that holds an address."""
    if isinstance(modules, ModuleMap):
        return modules.at(address)
    for module in modules:
        if (
            isinstance(module.base, int)
            and isinstance(module.end, int)
            and module.base <= address < module.end
        ):
            return module
    return None


def symbol(modules: Sequence[Module], address: int) -> str:
    """``module+0x1010`` as WinDbg shows it (no ``.sys``), or the bare address."""
    module = module_at(modules, address)
    if module is None or not isinstance(module.base, int) or not isinstance(module.name, str):
        return f"{address:#018x}"
    name = str(module.name)
    stem = name.rsplit(".", 1)[0] if "." in name else name
    return f"{stem}+{address - module.base:#x}"
