"""The simulated machine stepped instruction by instruction, with every call and return recorded.

Invariant: the truth comes from what the processor did (a shadow stack), never from unwind data.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from kd.image import Built, MissingCompilerError, compile_guest
from kd.machine import GENERAL, Machine
from kd.scenarios import Scenario

from analyzer.absence import Absent
from analyzer.records import Module
from analyzer.target import Target


@functools.cache
def deep_folder() -> Path:
    """Where the guest of this test run is compiled to."""
    folder = tempfile.TemporaryDirectory(prefix="dumpstart-frames-")
    _KEPT.append(folder)
    return Path(folder.name)


@functools.cache
def deep_guest() -> dict[str, Built]:
    """The guest whose filters call through frames of every kind."""
    try:
        return compile_guest(deep_folder(), "-DFRAMES")
    except MissingCompilerError as missing:
        from conftest import missing as without

        without(str(missing))
        raise


_KEPT: list[Any] = []
_LONGEST_CALL = 7


class MachineTarget(Target):
    """The simulated machine's memory and modules."""

    path = "machine"
    architecture = "x64"

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def read(self, address: int, size: int) -> bytes | Absent:
        """Bytes of the running machine."""
        data = self.machine.read(address, size)
        return data if len(data) == size else Absent("not-mapped", f"nothing at {address:#x}")

    def modules(self) -> list[Module]:
        """All images."""
        blank = dict.fromkeys(Module._fields)
        return [
            Module(**{**blank, "name": i.name, "base": i.base, "end": i.base + i.size,
                      "size": i.size, "loaded": True, "time_date_stamp": i.time_stamp})
            for i in self.machine.images
        ]  # fmt: skip


class Position(NamedTuple):
    """The machine before one instruction."""

    registers: dict[str, int]
    callers: list[tuple[int, int]]  #: (return address, rsp behind the return), innermost first


class Life:
    """One life of the machine, stepped; ``links``: what was ever on the stack at once."""

    def __init__(
        self, scenario: Scenario, built: dict[str, Built], from_start: bool = False
    ) -> None:
        """``from_start``: also what DriverEntry does before a debugger can attach is recorded."""
        self.shadow: list[tuple[int, int]] = []
        self.links: set[tuple[tuple[int, int], tuple[int, int]]] = set()
        if from_start:
            life = self

            class Recorded(Machine):
                """Its start is stepped, too."""

                def run_start(self) -> None:
                    life.machine = self
                    while self.get("rip"):
                        life.step()

            self.machine: Machine = Recorded(built, scenario)
        else:
            self.machine = Machine(built, scenario)

    def positions(self, limit: int = 1 << 30) -> Iterator[Position]:
        """Every instruction of the scenario's requests, before it is carried out."""
        machine = self.machine
        count = 0
        for request in machine.scenario.requests:
            machine.ask(request)
            while machine.busy and count < limit:
                registers = {name: machine.get(name) for name in GENERAL}
                yield Position(registers, self.shadow[::-1])
                self.step()
                count += 1

    def step(self) -> None:
        """Carries out one instruction and records what it did to the stack."""
        machine, shadow = self.machine, self.shadow
        before, rsp = machine.get("rip"), machine.get("rsp")
        state = machine.run(1)
        now, top = machine.get("rip"), machine.get("rsp")
        assert state == "ran" or not now, (state, hex(before))
        if shadow and (now, top) == shadow[-1]:
            shadow.pop()
        elif top == rsp - 8:
            back = int.from_bytes(machine.read(top, 8), "little")
            if before < back <= before + _LONGEST_CALL and now != back:
                self._push(back, rsp)
        for image in machine.filters.values():
            if "Trap" in image.symbols and now == image.address("Trap"):
                stored = machine.read(top + 32, 8)
                shadow.append((image.address("Resumed"), int.from_bytes(stored, "little")))

    def _push(self, back: int, rsp: int) -> None:
        slot = (rsp - 8, back)
        if self.shadow:
            outer, top = self.shadow[-1]
            self.links.add((slot, (top - 8, outer)))
        self.shadow.append((back, rsp))
