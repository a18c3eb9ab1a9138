"""Runs one routine on a copy of a target's memory, whatever the processor.

Invariant: addresses are those of the target, mapped page by page when they are first touched; what
the target does not have ends the run. Nothing is hooked for each instruction: blocks are counted
by their decoded length, writes are seen by page protection. A run ends by itself, at the latest
when its limits are reached. Needs ``unicorn``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import unicorn
from unicorn import unicorn_const as constants

from . import results, routines
from .ask import Limits
from .decode import Special
from .loops import Loops
from .memory import FILL
from .pipe import Call
from .processors import HIGH_LEVEL, PROCESSORS

if TYPE_CHECKING:
    from .child import World

PAGE = 0x1000
_MOST_CALLS, _MOST_CODE = 256, 4096
#: the clock that is assumed
HZ = 2_000_000_000
TICKS_PER_INSTRUCTION = 2


class Block:
    """A piece of straight code: where it is, how many instructions it has, whose it is."""

    __slots__ = ("address", "count", "module", "size")

    def __init__(self, address: int, size: int, count: int, module: int) -> None:
        self.address, self.size, self.count, self.module = address, size, count, module


class Run(Loops):
    """One call. ``world`` is what all calls share: modules, routines, pages of the target."""

    def __init__(self, world: World, call: Call) -> None:
        super().__init__()
        self.world, self.call = world, call
        given = call["limits"]
        self.limits = Limits(int(given["instructions"]), given["seconds"], int(given["pages"]))
        self.stalled = 0  #: us that the routine asked to wait
        self.width = PROCESSORS[world.architecture].width
        self.mask = (1 << 8 * self.width) - 1
        self.irql, self.kpcr = HIGH_LEVEL[world.architecture], world.kpcr
        self.outcome: dict[str, object] = {}
        self.assumed: list[str] = []
        self.blocks: dict[int, Block] = {}
        self.block: Block | None = None
        self.specials: dict[int, Special] = {}
        self.instructions = self.ticks = self.turns = 0
        self.resume = -1  #: where to go on after the emulator was left, -1: nowhere
        self.returns: set[int] = set()
        self.calls: list[int] = []
        self.forbidden: list[str] = []
        self.lowest = self.top = 0
        self.polls: dict[int, tuple[int, int]] = {}
        self.written: dict[int, bytes] = {}  #: pages as the call left them
        self.deadline = 0.0

    # -- what processors use -------------------------------------------------------------------

    def end(self, kind: str, **facts: object) -> None:
        """Ends the run; the first reason counts."""
        if not self.outcome:
            self.outcome = {"outcome": kind, **facts}
        self.cpu.uc.emu_stop()

    def assume(self, text: str) -> None:
        """Notes something that is not the target's."""
        if text not in self.assumed:
            self.assumed.append(text)

    def clock(self) -> int:
        """The time stamp counter. While the same place asks again and again it runs faster."""
        self.varies()
        self.assume(f"a clock of {HZ // 10**9} GHz, {TICKS_PER_INSTRUCTION} ticks an instruction")
        now = TICKS_PER_INSTRUCTION * self.instructions + self.ticks
        place = self.block.address if self.block else 0
        first, count = self.polls.get(place, (now, 0))
        if count > 64:
            self.ticks += (now - first) // 64
            now += (now - first) // 64
            self.assume("the clock runs faster while it is polled")
        self.polls[place] = (first, count + 1)
        return now

    # -- the run -------------------------------------------------------------------------------

    def go(self) -> dict[str, object]:
        """Runs to the end; what was seen, in plain values."""
        world = self.world
        self.cpu = cpu = PROCESSORS[world.architecture](self)
        uc = cpu.uc
        uc.ctl_set_tcg_buffer_size(32 << 20)
        uc.ctl_set_tlb_mode(constants.UC_TLB_VIRTUAL)
        uc.hook_add(constants.UC_HOOK_TLB_FILL, self.fill)
        size = world.stack_bytes
        for page in range(world.stack, world.stack + size, PAGE):
            self.map(page, FILL * PAGE)
        behind_stack = self.next
        self.map(world.back & -PAGE, bytes(PAGE))
        self.top = self.lowest = world.stack + size - 0x100
        cpu.start(self.top, world.back, self.call["arguments"], self.kpcr)
        start, length = self.call["extension"]
        for page in range(start & -PAGE, start + length, PAGE):  # neighbours for the emulator, too
            self.page(page)
        self.extension = (start, start + length)
        uc.hook_add(constants.UC_HOOK_BLOCK, self._block)
        uc.hook_add(constants.UC_HOOK_INTR, self._interrupt)
        self.watch(behind_stack, length)
        began = time.perf_counter()
        self.deadline = began + self.limits.seconds
        pc = self.call["routine"]
        while not self.outcome:
            self.resume = -1
            try:
                uc.emu_start(pc, world.back)
            except unicorn.UcError as error:
                if self.resume < 0:
                    self._failed(error)
            self.end_missed()
            if self.resume < 0:
                self._stopped()
            else:
                pc = self.resume
        result = results.of(self)
        result["seconds"] = time.perf_counter() - began
        return result

    def _failed(self, error: unicorn.UcError) -> None:
        pc = self.pc()
        text = f"the emulator refuses it ({error})"
        if error.errno == unicorn.UC_ERR_INSN_INVALID:
            text = "an instruction that the emulator does not know"
            if self.read(pc, 2) in (b"\x0f\x0b", b"\x0f\xb9"):
                text = "ud2"
        self.end("instruction", pc=pc, text=text)

    def _stopped(self) -> None:
        """The emulator gave up control without a reason of ours."""
        pc = self.pc()
        if pc == self.world.back:
            self.end("returned", status=self.cpu.get(self.cpu.result) & 0xFFFFFFFF)
        else:
            self.end("instruction", pc=pc, text="an instruction that stops the emulator")

    # -- code ----------------------------------------------------------------------------------

    def _block(self, _: object, address: int, size: int, __: object) -> None:
        if self.poison is not None:
            self.end_missed()
        if self.outcome or self.resume >= 0:
            return
        address &= self.mask
        block = self.blocks.get(address)
        if block is None:
            block = self._new_block(address, size)
            if block is None:
                return
        before, self.block = self.block, block
        self.instructions += block.count
        if before is not None and block.module != before.module and address not in self.returns:
            self._cross(before, block)
        if self.instructions > self.limits.instructions:
            self.end("limit", pc=address, what="instructions")
        self.turns += 1
        if not self.turns & 0xFF and time.perf_counter() > self.deadline:
            self.end("limit", pc=address, what="seconds")
        self.turn(address, block.count)

    def _new_block(self, address: int, size: int) -> Block | None:
        """A block that is met for the first time; None: the run goes on elsewhere or ends."""
        if address == self.world.back:
            self._stopped()
            return None
        if address in self.world.known:
            self._answer(address, self.world.known[address])
            return None
        if address & -PAGE in self.holes:
            self.end("memory", pc=address, address=address, access="executes")
            return None
        self.lowest = min(self.lowest, self.cpu.get(self.cpu.sp))
        code, at, count, is_new = self.read(address, size), 0, 0, False
        while at < len(code):
            length, special = self.cpu.decode(code, at)
            if special is not None and address + at not in self.specials:
                self.specials[address + at] = special
                self.cpu.uc.hook_add(
                    constants.UC_HOOK_CODE, self._special, begin=address + at, end=address + at
                )
                is_new = True
            at, count = at + length, count + 1
        block = Block(address, size, count, self.world.module(address))
        if len(self.blocks) >= _MOST_CODE:
            self.blocks.clear()
        self.blocks[address] = block
        if is_new:  # it was translated without the hooks: once more, with them
            self.cpu.uc.ctl_remove_cache(address, address + size)
            del self.blocks[address]
            self._resume(address)
            return None
        return block

    def _resume(self, address: int) -> None:
        """Leaves the emulator and goes on at an address."""
        self.resume = address & self.mask
        self.cpu.uc.emu_stop()

    def _special(self, _: object, address: int, size: int, __: object) -> None:
        if self.outcome or self.resume >= 0:
            return
        address &= self.mask
        special = self.specials[address]
        block = self.block
        if block is not None:  # those behind it are counted when they are executed
            at, done = block.address, 0
            while at <= address:
                at += self.cpu.decode(self.read(at, 16), 0)[0]
                done += 1
            self.instructions -= block.count - done
            rest = block.count - done
        if self.cpu.special(special, address):
            if not self.outcome:
                self._resume(address + special.length)
        elif block is not None:
            self.instructions += rest

    def _interrupt(self, _: object, number: int, __: object) -> None:
        """An exception of the processor, such as a division by zero."""
        text = {0: "divide error", 1: "debug", 6: "invalid instruction", 16: "floating point"}
        self.end("exception", pc=self.pc(), text=text.get(number, f"number {number:#x}"))

    def _cross(self, before: Block, block: Block) -> None:
        self.returns.add(before.address + before.size)
        self._called(block.address)
        if block.module < 0 and block.address & -PAGE not in self.world.made:
            self.assume(f"code at {block.address:#x} is in no module")

    def _called(self, address: int) -> None:
        if len(self.calls) < _MOST_CALLS and address not in self.calls:
            self.calls.append(address)

    # -- routines that are answered ------------------------------------------------------------

    def _answer(self, address: int, row: routines.Routine) -> None:
        cpu, does = self.cpu, row.does
        if not row.name.startswith("*"):
            self._called(address)
        if row.forbidden and row.name not in self.forbidden:
            self.forbidden.append(row.name)
        value: int | None = None
        if does == routines.BUGCHECK:
            shown = [cpu.argument(n) for n in range(min(row.detail, 4 if self.width == 8 else 5))]
            if self.world.architecture == "x64" and row.detail > 4:
                shown.append(self.peek(cpu.get(cpu.sp) + 0x28, 8))
            elif self.world.architecture == "arm64" and row.detail > 4:
                shown.append(cpu.argument(4))
            shown = [number & self.mask for number in shown]
            shown[0] &= 0xFFFFFFFF
            self.end("bugcheck", name=row.name, arguments=shown)
            return
        if does in (routines.RAISE, routines.WAIT):
            raised = {"raised": cpu.argument(0) & 0xFFFFFFFF} if row.detail else {}
            self.end(does, name=row.name, **raised)
            return
        if does == routines.STALL:
            wanted = cpu.argument(0) & 0xFFFFFFFF
            self.ticks += wanted * HZ // 1_000_000
            self.stalled += wanted
            self.assume(f"{row.name} takes the time that it is asked for")
        elif does in (routines.ZERO, routines.FREE):
            value = 0
        elif does == routines.IRQL:
            value = self.irql
        elif does == routines.CLOCK:
            where = cpu.argument(0) & self.mask
            value = self.clock() * 10_000_000 // HZ
            if where and where & -PAGE in self.frames:
                self.poke(where, (10_000_000).to_bytes(8, "little"))
                self.dirty.add(where & -PAGE)
            self.assume(f"{row.name} gives the emulated time, 10 MHz")
        elif does == routines.ALLOCATE:
            value = self._allocate(
                cpu.argument(row.detail - (row.name == "ExAllocatePool2" and self.width == 8))
            )
            self.assume(f"{row.name} gives memory")
        elif does == routines.DISPATCH:
            self.assume("control flow guard lets the call pass (its code is not there)")
            self._resume(cpu.guarded())
            return
        self._resume(cpu.leave(value, row.arguments))

    def _allocate(self, size: int) -> int:
        start = self.world.heap
        size &= 0xFFFFFFFF
        pages = min((size + PAGE - 1) // PAGE, self.limits.pages) or 1
        for number in range(pages):
            self.world.made[start + number * PAGE] = b"\xaa" * PAGE
        self.world.heap += (pages + 1) * PAGE
        return start
