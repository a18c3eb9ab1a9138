"""x64 call stacks against what a real processor model did, and against hostile unwind data.

The oracle is the simulated machine's own record of its calls and returns (stack_truth.py): the
unwinder never sees it.
"""

from __future__ import annotations

import random
import time

import pytest
from kd.scenarios import SCENARIOS
from stack_truth import Life, MachineTarget, Position, deep_guest

from analyzer.absence import Absent
from analyzer.stacks import MAX_FRAMES, unwind
from analyzer.symbols.images import Images
from analyzer.target import Target


def by_hand(life: Life, rip: int) -> bool:
    """True inside the trap entry and exit, which no unwind data describes."""
    return any(
        image.address("Interrupt") <= rip < image.address("Resumed")
        or image.address("Leave") <= rip < image.address("ThroughChained")
        for image in life.machine.filters.values()
    )


def in_dump_path(life: Life, position: Position) -> bool:
    """True in crashdmp and the filters, once nt has called them."""
    rip, machine = position.registers["rip"], life.machine
    is_there = rip in machine.crashdmp or any(rip in image for image in machine.filters.values())
    return bool(position.callers) and is_there and not by_hand(life, rip)


def test_every_position_of_the_dump_path() -> None:
    """At each instruction the chain is the recorded one, to its end."""
    life = Life(SCENARIOS["failing"], deep_guest())
    target = MachineTarget(life.machine)
    images = Images(target, target.modules())
    tested = deepest = 0
    found: set[str] = set()
    for position in life.positions():
        if not in_dump_path(life, position):
            continue
        stack = unwind(images, position.registers, "x64")
        frames = [(step.instruction_pointer, step.stack_pointer) for step in stack.steps[1:]]
        assert frames == position.callers, f"at {position.registers['rip']:#x}: {stack.end}"
        assert stack.end is None
        tested += 1
        deepest = max(deepest, len(frames))
        found.update(step.how for step in stack.steps)
    assert tested >= 1400
    assert deepest >= 20
    assert found == {"registers", "unwind data", "leaf function", "machine frame"}


# ---- hostile input -------------------------------------------------------------------------------


class Patched(Target):
    """A target with some bytes changed."""

    architecture = "x64"

    def __init__(self, held: dict[int, bytes], modules: list[object]) -> None:
        self.held, self.listed = held, modules
        self.patches: dict[int, int] = {}

    def read(self, address: int, size: int) -> bytes | Absent:
        """Bytes of the pages that are held, patched."""
        out = bytearray()
        while len(out) < size:
            at = address + len(out)
            page = self.held.get(at >> 12)
            if page is None:
                return Absent("not-mapped")
            out += page[at & 0xFFF : (at & 0xFFF) + size - len(out)]
        for at, byte in self.patches.items():
            if address <= at < address + size:
                out[at - address] = byte
        return bytes(out)


@pytest.fixture(scope="module")
def deep() -> tuple[Patched, dict[str, int]]:
    """The machine inside its deepest call, as pages."""
    life = Life(SCENARIOS["failing"], deep_guest())
    machine = life.machine
    alpha = machine.filters["dump_alpha.sys"]
    for position in life.positions():
        if position.registers["rip"] == alpha.address("Leafy") and len(position.callers) > 18:
            break
    pages = {page: machine.read(page << 12, 0x1000) for page in machine.page_of}
    modules = [m for m in MachineTarget(machine).modules() if isinstance(m.base, int)]
    return Patched(pages, modules), position.registers


@pytest.mark.slow
def test_mutated_unwind_data_and_stacks(deep: tuple[Patched, dict[str, int]]) -> None:
    """3,000 changes of headers, unwind data, code and stack: a chain each, in bounded time."""
    target, registers = deep
    chance = random.Random(3)
    (alpha,) = [m for m in target.listed if m.name == "dump_alpha.sys"]  # type: ignore[attr-defined]
    lengths = set()
    for _ in range(3000):
        target.patches.clear()
        for _ in range(chance.choice((1, 3, 20, 200))):
            start, size = chance.choice(
                (
                    (alpha.base, 0x400),  # type: ignore[attr-defined]
                    (alpha.base + 0x1000, 0x600),  # type: ignore[attr-defined]
                    (alpha.base + 0x2000, 0x300),  # type: ignore[attr-defined]
                    (alpha.base + 0x4000, 0x100),  # type: ignore[attr-defined]
                    (registers["rsp"], 0xF00),
                )
            )
            target.patches[start + chance.randrange(size)] = chance.randrange(256)
        before = time.process_time()
        stack = unwind(Images(target, target.listed), registers, "x64")  # type: ignore[arg-type]
        assert time.process_time() - before < 0.1
        assert 1 <= len(stack.steps) <= MAX_FRAMES
        lengths.add(len(stack.steps))
    assert len(lengths) > 10  # the changes did hit


def test_what_is_missing_is_said(deep: tuple[Patched, dict[str, int]]) -> None:
    """Without registers, of another machine, outside all modules: no frame is made up."""
    target, registers = deep
    images = Images(target, target.listed)  # type: ignore[arg-type]
    target.patches.clear()
    assert unwind(images, {"rip": 1}, "x64").end == Absent(
        "not-recorded", "rip and rsp are not both known"
    )
    assert unwind(images, registers, "ia64").steps == []
    lost = unwind(images, {**registers, "rip": 0x10}, "x64")
    assert len(lost.steps) == 1
    assert lost.end is not None
    assert "lies in no module" in lost.end.detail
