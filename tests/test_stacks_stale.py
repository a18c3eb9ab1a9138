"""What is left on stacks: only links that were once true become frames.

The oracle is the machine's own record of every pair of return addresses that was on the stack at
once; links that merely unwind are shown to be false now and then.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
from kd.kernel import STACK_SIZE, STACKS
from kd.machine import REQUESTS
from kd.scenarios import SCENARIOS
from stack_truth import Life, MachineTarget, deep_guest

from analyzer.absence import Absent
from analyzer.stacks import stale, x64
from analyzer.symbols.images import Images

#: scenarios that come to their end by what the guest itself is asked
FINISHED = [
    name
    for name, scenario in SCENARIOS.items()
    if name != "hang" and all(r.partition(" ")[0] in REQUESTS for r in scenario.requests)
]


class Left(NamedTuple):
    """What is on the stack at one moment of a life."""

    kept: set[tuple[stale.Word, stale.Word]]  #: links of the chains
    unwound: int  #: links that unwind, kept or not
    false: list[tuple[stale.Word, stale.Word]]  #: kept, but never true


def left_of(life: Life) -> Left:
    """The links on the stacks of the machine as it is, judged by what really happened."""
    target = MachineTarget(life.machine)
    images = Images(target, target.modules())
    end = STACKS + 2 * STACK_SIZE * life.machine.scenario.processors
    chains = stale.chains(images, "x64", STACKS, end)
    kept = {pair for chain in chains for pair in zip(chain, chain[1:])}
    words = {word.place: word for word in stale._words(images, STACKS, end)}
    unwound = 0
    for word in words.values():
        frame = {"rip": word.value, "rsp": word.place + 8}
        step = x64.caller(images, frame, is_interrupted=False)
        if not isinstance(step, Absent):
            outer = words.get(step.registers["rsp"] - 8)
            unwound += outer is not None and outer.value == step.registers["rip"]
    false = [
        (inner, outer)
        for inner, outer in kept
        if ((inner.place, inner.value), (outer.place, outer.value)) not in life.links
    ]
    return Left(kept, unwound, false)


@pytest.mark.slow
@pytest.mark.parametrize("name", FINISHED)
def test_no_link_was_never_true(name: str) -> None:
    """After the life: sixteen links, all true; of those that merely unwind some were not."""
    life = Life(SCENARIOS[name], deep_guest(), from_start=True)
    for _ in life.positions():
        pass
    left = left_of(life)
    assert left.false == []
    assert len(left.kept) == 16
    assert left.unwound > 20


def test_no_link_was_never_true_while_it_runs() -> None:
    """The same at moments in the middle, when stale and live frames lie side by side."""
    life = Life(SCENARIOS["normal"], deep_guest(), from_start=True)
    kept = []
    for number, _ in enumerate(life.positions()):
        if number in (300, 700, 1000, 1500, 2000, 2500, 3000):
            left = left_of(life)
            assert left.false == []
            kept.append(len(left.kept))
    assert min(kept) >= 1
    assert max(kept) >= 16
