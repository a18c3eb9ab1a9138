"""ARM64 call stacks by unwind data, against what a real processor model did.

The images are clang's and lld's for ARM64 Windows; Unicorn carries them out, and its calls and
returns are the oracle at every instruction.
"""

from __future__ import annotations

import random
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import missing
from kd.image import LINK, Image, MissingCompilerError, read_map, run, tool
from kd.image import Built as Compiled

from analyzer.absence import Absent
from analyzer.records import Module
from analyzer.stacks import MAX_FRAMES, unwind
from analyzer.stacks.arm64_codes import packed, unpacked
from analyzer.symbols.images import Images
from analyzer.target import Target

BASE, STACK, STACK_SIZE = 0x140000000, 0x20000000, 0x10000
SOURCE = Path(__file__).parent / "c" / "arm64_frames.c"


class Position(NamedTuple):
    """The processor before one instruction."""

    registers: dict[str, int]
    callers: list[tuple[int, int]]


class Flat(Target):
    """The image and a stack at their addresses."""

    architecture = "arm64"

    def __init__(self, image: Image, stack: bytes) -> None:
        self.pieces = [(BASE, bytearray(image.memory)), (STACK, bytearray(stack))]
        blank = dict.fromkeys(Module._fields)
        size = len(image.memory)
        self.listed = [
            Module(**{**blank, "name": image.name, "base": BASE, "end": BASE + size, "size": size,
                      "loaded": True})
        ]  # fmt: skip

    def read(self, address: int, size: int) -> bytes | Absent:
        """Bytes of the image or the stack."""
        for start, memory in self.pieces:
            if start <= address and address + size <= start + len(memory):
                return bytes(memory[address - start : address - start + size])
        return Absent("not-mapped")


class Run(NamedTuple):
    """All positions of one run, each with the stack as it was."""

    image: Image
    positions: list[tuple[Position, bytes]]


@pytest.fixture(scope="module", params=["-O1", "-Os", "-O0"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The program, carried out from its entry to its return."""
    folder = tmp_path_factory.mktemp("arm64")
    try:
        clang, link = tool("clang"), tool("lld-link")
    except MissingCompilerError as error:
        missing(str(error))
    options = (
        "--target=aarch64-pc-windows-msvc -c -ffreestanding -fno-stack-protector "
        "-fasynchronous-unwind-tables"
    ).split()
    run([clang, *options, request.param, str(SOURCE), "-o", str(folder / "frames.obj")])
    outputs = (
        f"/map:{folder}/frames.map",
        f"/pdb:{folder}/frames.pdb",
        f"/out:{folder}/frames.sys",
    )
    run([link, *LINK, "/machine:arm64", "/entry:Entry", *outputs, str(folder / "frames.obj")])
    symbols = read_map((folder / "frames.map").read_text())
    built = Compiled(folder / "frames.sys", folder / "frames.pdb", symbols)
    return carried_out(Image(built, "frames.sys", BASE))


def carried_out(image: Image) -> Run:
    """Steps the program with a shadow stack."""
    import unicorn
    from unicorn import arm64_const as arm

    uc = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
    size = (len(image.memory) + 0xFFF) & ~0xFFF
    uc.mem_map(BASE, size)
    uc.mem_write(BASE, bytes(image.memory))
    uc.mem_map(STACK, STACK_SIZE)
    uc.reg_write(arm.UC_ARM64_REG_CPACR_EL1, 3 << 20)  # floating point
    names = [f"x{n}" for n in range(29)]
    registers = {name: getattr(arm, f"UC_ARM64_REG_{name.upper()}") for name in names}
    registers |= {
        "x29": arm.UC_ARM64_REG_X29, "lr": arm.UC_ARM64_REG_X30, "sp": arm.UC_ARM64_REG_SP,
        "pc": arm.UC_ARM64_REG_PC,
    }  # fmt: skip
    uc.reg_write(registers["sp"], STACK + STACK_SIZE - 0x100)
    uc.reg_write(registers["lr"], 0)
    uc.reg_write(registers["pc"], image.entry)
    shadow: list[tuple[int, int]] = []
    found = []
    while True:
        values = {name: uc.reg_read(number) for name, number in registers.items()}
        stack = bytes(uc.mem_read(STACK, STACK_SIZE))
        found.append((Position(values, shadow[::-1]), stack))
        uc.emu_start(values["pc"], 0, count=1)
        pc, sp, lr = (uc.reg_read(registers[name]) for name in ("pc", "sp", "lr"))
        if not pc:
            return Run(image, found)
        if shadow and (pc, sp) == shadow[-1]:
            shadow.pop()
        elif lr == values["pc"] + 4 and pc != lr:
            shadow.append((lr, sp))


def test_every_position(whole: Run) -> None:
    """At each instruction, prologs and epilogs too, the chain is the recorded one."""
    hows: set[str] = set()
    deepest = 0
    for position, stack in whole.positions:
        target = Flat(whole.image, stack)
        chain = unwind(Images(target, target.listed), position.registers, "arm64")
        frames = [(step.instruction_pointer, step.stack_pointer) for step in chain.steps[1:]]
        assert frames == position.callers, (hex(position.registers["pc"]), chain.end)
        hows.update(step.how for step in chain.steps)
        deepest = max(deepest, len(frames))
    assert len(whole.positions) >= 500
    assert deepest >= 8
    assert {"registers", "unwind data"} <= hows


def test_mutations(whole: Run) -> None:
    """1,000 changes of unwind data, code and stack: a chain each, in bounded time."""
    chance = random.Random(4)
    position, stack = max(whole.positions, key=lambda one: len(one[0].callers))
    for _ in range(1000):
        target = Flat(whole.image, stack)
        for _ in range(chance.choice((1, 5, 50))):
            _, memory = chance.choice(target.pieces)
            memory[chance.randrange(len(memory))] = chance.randrange(256)
        before = time.process_time()
        chain = unwind(Images(target, target.listed), position.registers, "arm64")
        assert time.process_time() - before < 0.1
        assert len(chain.steps) <= MAX_FRAMES


def piece(data: bytes, at: int, size: int) -> bytes | Absent:
    """A read within some bytes."""
    return data[at : at + size] if at + size <= len(data) else Absent("not-mapped")


def test_any_words_are_codes_or_a_reason() -> None:
    """Random packed words and records: never another exception."""
    chance = random.Random(5)
    for _ in range(3000):
        packed(chance.getrandbits(32))
        data = chance.randbytes(64)
        read = partial(piece, data)
        found = unpacked(read, 0)
        if not isinstance(found, Absent):
            for offset in range(0, 64, 4):
                found.at(offset, may_be_epilog=True)
