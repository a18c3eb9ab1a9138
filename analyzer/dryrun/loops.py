"""Finds out that a call never ends: its whole state comes again.

Invariant: registers and every page that was written are compared, so a loop that is reported cannot
end by itself; one in which a clock or a random number was read is never reported. Needs no
``unicorn`` itself.
"""

from __future__ import annotations

from typing import NamedTuple

from .memory import PAGE, Memory

#: a tight loop is compared at each turn so often, then at each so-many-th turn
_SPIN_COMPARE = 64


class Anchor(NamedTuple):
    """The whole state that is looked for again."""

    pc: int
    general: list[int]
    others: list[object]  #: numbers, and the pairs of the FPU
    memory: dict[int, bytes]  #: pages that were written


class Loops(Memory):
    """Mixed into a run."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor: Anchor | None = None
        self.lap = self.hits = 0
        self.power, self.has_varied, self.has_ever_varied = 1, False, False

    def varies(self) -> None:
        """Notes that the same state need not lead to the same state again."""
        self.has_varied = self.has_ever_varied = True

    def turn(self, address: int, count: int) -> None:
        """Brent's search: the whole state again, with no clock read between, never ends."""
        anchor = self.anchor
        if anchor is not None and anchor.pc == address:
            self.hits += 1
            often = self.hits <= _SPIN_COMPARE or not self.hits & _SPIN_COMPARE - 1
            if often and not self.has_varied and self._same(anchor):
                waits = [[self.address(place), size] for place, size in self.recent.items()]
                self.end("loop", pc=address, lap=self.lap, waits=waits)
                return
        self.lap += count
        if self.lap >= self.power:
            self.power *= 2
            self.lap, self.hits, self.has_varied = count, 0, False
            self.recent.clear()
            self.anchor = Anchor(
                address,
                [self.cpu.get(register) for register in self.cpu.general],
                [self.cpu.uc.reg_read(register) for register in self.cpu.others],
                {page: self.read(page, PAGE) for page in self.dirty},
            )

    def _same(self, anchor: Anchor) -> bool:
        get = self.cpu.uc.reg_read
        if any(get(r) != old for r, old in zip(self.cpu.general, anchor.general)):
            return False
        if any(get(r) != old for r, old in zip(self.cpu.others, anchor.others)):
            return False
        return len(anchor.memory) == len(self.dirty) and all(
            self.read(page, PAGE) == old for page, old in anchor.memory.items()
        )
