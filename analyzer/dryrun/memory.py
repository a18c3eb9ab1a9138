"""The memory of one emulated call: pages of the target, mapped when they are first touched.

Invariant: a page that the target does not have ends the run, at the exact address that was touched;
writes go to the copy alone and are seen by page protection. Needs ``unicorn``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import unicorn
from unicorn import unicorn_const as constants

from .pipe import Call

if TYPE_CHECKING:
    from .ask import Limits
    from .child import World
    from .processors import Processor

PAGE = 0x1000
_ARENA = 256  #: pages that are given to the emulator at once
_START = 0x10_0000  #: where they lie for the emulator; no address of the target
#: where pages lie that the target does not have: what touches them ends the run
_POISON = 0x100_0000_0000
_FETCH, _WRITE = constants.UC_MEM_FETCH, constants.UC_MEM_WRITE
_MOST_READS = 8192
FILL = b"\xcd"  #: of a stack that was not written yet


class Entry(Protocol):
    """An entry of the emulator's page tables."""

    paddr: int
    perms: int


class Miss(NamedTuple):
    """A page that is touched and not there."""

    pc: int
    address: int
    access: str


class Memory:
    """Mixed into a run, which has all of this."""

    world: World
    call: Call
    limits: Limits
    cpu: Processor
    mask: int
    outcome: dict[str, object]

    def __init__(self) -> None:
        self.frames: dict[int, int] = {}  #: page of the target -> emulator's address
        self.pages: dict[int, int] = {}  #: and back
        self.dirty: set[int] = set()
        self.holes: set[int] = set()  #: pages that stand for code which is answered, not executed
        self.poison: Miss | None = None  #: a missing page that is being touched
        self.next, self.end_of_arena = _START, _START
        self.reads: set[int] = set()
        self.recent: dict[int, int] = {}  #: reads since the last look for a loop
        self.member_writes: set[int] = set()
        self.extension = (0, 0)
        self.is_cut = False

    def end(self, kind: str, **facts: object) -> None:
        """Ends the run."""
        raise NotImplementedError

    def pc(self) -> int:
        """Where the processor is."""
        return self.cpu.get(self.cpu.pc) & self.mask

    def watch(self, behind_stack: int, length: int) -> None:
        """Hooks what the memory sees; ``length``: of the extension."""
        uc, start = self.cpu.uc, self.extension[0]
        uc.hook_add(constants.UC_HOOK_MEM_READ, self._read, begin=behind_stack, end=_POISON - 1)
        both = constants.UC_HOOK_MEM_READ | constants.UC_HOOK_MEM_WRITE
        uc.hook_add(both, self._missed, begin=_POISON, end=_POISON + PAGE)
        if start & -PAGE in self.frames:
            at = self.frames[start & -PAGE] + (start & PAGE - 1)
            end = at + length - 1
            uc.hook_add(constants.UC_HOOK_MEM_WRITE, self._member, begin=at, end=end)

    def peek(self, address: int, size: int) -> int:
        """A word of memory that is mapped."""
        return int.from_bytes(self.read(address, size), "little")

    def read(self, address: int, size: int) -> bytes:
        """Bytes of mapped memory; shorter where it ends."""
        out = b""
        while size > 0:
            frame = self.frames.get(address & -PAGE)
            if frame is None:
                break
            step = min(size, PAGE - (address & PAGE - 1))
            out += bytes(self.cpu.uc.mem_read(frame + (address & PAGE - 1), step))
            address, size = address + step, size - step
        return out

    def poke(self, address: int, data: bytes) -> None:
        """Writes into memory that is mapped already."""
        at = 0
        while at < len(data):
            place = address + at
            step = min(len(data) - at, PAGE - (place & PAGE - 1))
            self.cpu.uc.mem_write(
                self.frames[place & -PAGE] + (place & PAGE - 1), data[at : at + step]
            )
            at += step

    def scratch(self) -> int:
        """A page of our own, behind the one that the routine returns to."""
        page = (self.world.back & -PAGE) + PAGE
        self.map(page, bytes(PAGE))
        return page

    def map(self, page: int, data: bytes) -> int:
        if self.next == self.end_of_arena:
            self.cpu.uc.mem_map(self.next, _ARENA * PAGE)
            self.end_of_arena += _ARENA * PAGE
        frame, self.next = self.next, self.next + PAGE
        self.cpu.uc.mem_write(frame, data)
        self.frames[page], self.pages[frame] = frame, page
        return frame

    def page(self, page: int) -> int | None:
        """Maps a page of the target as the calls before this one left it."""
        frame = self.frames.get(page)
        if frame is not None:
            return frame
        data = self.world.page(page)
        if data is None:
            return None
        for address, patch in self.call["patches"]:
            for place in range(max(address, page), min(address + len(patch), page + PAGE)):
                at = place - page
                data = data[:at] + patch[place - address : place - address + 1] + data[at + 1 :]
        return self.map(page, data)

    def fill(self, _: object, address: int, access: int, entry: Entry, __: object) -> bool:
        address &= self.mask
        page = address & -PAGE
        frame = self.frames.get(page)
        if frame is None:
            if len(self.frames) >= self.limits.pages:
                self.end("limit", pc=self.pc(), what="pages")
                return False
            frame = self._absent(page, address, access)
            if frame is None and access != _FETCH and not self.outcome:
                return self._miss(page, access, entry, address)
            if frame is None:
                return False
        # Page tables of the emulator may have finer pages (1 KB for ARM64) than the target's.
        entry.paddr = frame + (address & PAGE - 1 & -self.cpu.granule)
        entry.perms = unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC
        if access == _WRITE and any(a <= page < b for a, b in self.world.read_only):
            return self._miss(page, access, entry, address)
        if access == _WRITE:
            self.dirty.add(page)
            entry.perms = unicorn.UC_PROT_ALL
        return True

    def _absent(self, page: int, address: int, access: int) -> int | None:
        """Maps a page on its first use, or ends the run."""
        if self.world.stack - PAGE <= address < self.world.stack:
            self.end("stack", pc=self.pc(), size=self.world.stack_bytes)
            return None
        frame = self.page(page)
        if (
            frame is None
            and access == _FETCH
            and any(page == at & -PAGE for at in self.world.known)
        ):
            self.holes.add(page)  # never executed: the routine in it is answered before
            return self.map(page, bytes(PAGE))
        if frame is None and access == _FETCH:
            self.end("memory", pc=self.pc(), address=self.pc(), access="executes")
        return frame

    def _miss(self, page: int, access: int, entry: Entry, address: int) -> bool:
        """Lets the access go on, because only the access itself tells its exact address."""
        if self.poison is None:
            self.cpu.uc.mem_map(_POISON, PAGE)
        verb = "writes" if access == _WRITE else "reads"
        self.poison = Miss(self.pc(), page, verb)
        entry.paddr = _POISON + (address & PAGE - 1 & -self.cpu.granule)
        entry.perms = unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE
        return True

    def _missed(self, _: object, access: int, place: int, *rest: object) -> None:
        if self.poison is not None:
            address = self.poison.address + place - _POISON
            self.poison = self.poison._replace(pc=self.pc(), address=address)
        self.end_missed()

    def end_missed(self) -> None:
        """Ends the run after a missing page was touched, also at its edge."""
        if self.poison is not None:
            self.end("memory", **self.poison._asdict())

    def _read(self, _: object, access: int, place: int, size: int, *rest: object) -> None:
        self.reads.add(place << 4 | min(size, 15))
        if len(self.recent) < 16:
            self.recent[place] = size
        if len(self.reads) > _MOST_READS:
            self.is_cut = True
            self.reads.pop()

    def _member(self, _: object, access: int, place: int, size: int, *rest: object) -> None:
        at = self.address(place) - self.extension[0]
        self.member_writes.update(range(at, at + size))

    def address(self, place: int) -> int:
        return self.pages[place & -PAGE] + (place & PAGE - 1)
