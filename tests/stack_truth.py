"""The simulated machine stepped instruction by instruction, with every call and return recorded.

Invariant: the truth comes from what the processor did (a shadow stack), never from unwind data.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kd.image import Built, MissingCompilerError, compile_guest
from kd.machine import GENERAL, Machine
from kd.scenarios import Scenario

from analyzer.absence import Absent
from analyzer.records import Module
from analyzer.target import Target


@functools.cache
def deep_guest() -> dict[str, Built]:
    """The guest whose filters call through frames of every kind."""
    folder = tempfile.TemporaryDirectory(prefix="dumpstart-frames-")
    _KEPT.append(folder)
    try:
        return compile_guest(Path(folder.name), "-DFRAMES")
    except MissingCompilerError as missing:
        from conftest import missing as without

        without(str(missing))
        raise


_KEPT: list[Any] = []


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

    def __init__(self, scenario: Scenario, built: dict[str, Built]) -> None:
        capstone = pytest.importorskip("capstone")
        self.disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self.machine = Machine(built, scenario)
        self.shadow: list[tuple[int, int]] = []
        self.links: set[tuple[tuple[int, int], tuple[int, int]]] = set()
        self.slots: set[tuple[int, int]] = set()  #: (address of the word, return address)

    def positions(self, limit: int = 1 << 30) -> Iterator[Position]:
        """Every instruction of the scenario's requests, before it is carried out."""
        machine, shadow = self.machine, self.shadow
        traps = [
            image for image in machine.filters.values() if "Interrupt" in image.symbols
        ]  # fmt: skip
        count = 0
        for request in machine.scenario.requests:
            machine.ask(request)
            while machine.busy and count < limit:
                rip = machine.get("rip")
                code = next(self.disassembler.disasm(machine.read(rip, 16), rip, 1))
                registers = {name: machine.get(name) for name in GENERAL}
                yield Position(registers, shadow[::-1])
                rsp = registers["rsp"]
                if code.mnemonic == "call":
                    self._push(rip + code.size, rsp)
                assert machine.run(1) == "ran"
                count += 1
                is_back = code.mnemonic == "ret" or (code.mnemonic, code.op_str) == ("jmp", "r11")
                if is_back and shadow:
                    shadow.pop()
                for image in traps:
                    if machine.get("rip") == image.address("Trap"):
                        stored = machine.read(machine.get("rsp") + 32, 8)
                        back = image.address("Resumed")
                        shadow.append((back, int.from_bytes(stored, "little")))

    def _push(self, back: int, rsp: int) -> None:
        slot = (rsp - 8, back)
        self.slots.add(slot)
        if self.shadow:
            outer, top = self.shadow[-1]
            self.links.add((slot, (top - 8, outer)))
        self.shadow.append((back, rsp))
