"""Chains of callers, for every architecture.

Invariant: never more than the limit of frames, never the same place twice; the stack pointer rises
from frame to frame but where a function switched stacks.
"""

from __future__ import annotations

from importlib import import_module
from typing import Callable, NamedTuple

from ..absence import Absent
from ..symbols.images import Images
from .caller import Caller

#: register name in lower case ("rip", "pc", "eip", ...) -> value; unknown ones are left out
Registers = dict[str, int]
MAX_FRAMES = 256

_POINTERS = {"x64": ("rip", "rsp"), "arm64": ("pc", "sp"), "x86": ("eip", "esp")}


class Step(NamedTuple):
    """One frame: where it executes, with the registers as far as they are known there."""

    instruction_pointer: int
    stack_pointer: int
    registers: Registers
    how: str  #: "registers", or how this frame was found from the one inside it


class Stack(NamedTuple):
    """A chain of frames, the innermost first."""

    steps: list[Step]
    end: Absent | None  #: why it ends; None: the last frame has no caller


def unwind(
    images: Images, registers: Registers, architecture: str, limit: int = MAX_FRAMES
) -> Stack:
    """The chain of callers of a register set.

    ``architecture``: x64, arm64, x86 or x86-pae. Without its instruction and stack pointer the
    chain is empty and ``end`` says so; nothing raises for missing data.
    """
    kind = architecture.partition("-")[0]
    if kind not in _POINTERS:
        return Stack([], Absent("not-applicable", f"stacks of {architecture} are not unwound"))
    ip, sp = _POINTERS[kind]
    if ip not in registers or sp not in registers:
        return Stack([], Absent("not-recorded", f"{ip} and {sp} are not both known"))
    # only the processor's own module is loaded: a minidump is read faster than all three
    caller: Callable[..., Caller | Absent] = import_module(f".{kind}", __package__).caller
    steps = [Step(registers[ip], registers[sp], dict(registers), "registers")]
    seen = {steps[0][:2]}
    is_interrupted = True  # it may stand anywhere in a function, not only behind a call
    while len(steps) < limit:
        last = steps[-1]
        found = caller(images, last.registers, is_interrupted)
        if isinstance(found, Absent):
            return Stack(steps, found)
        step = Step(found.registers[ip], found.registers[sp], found.registers, found.how)
        if not step.instruction_pointer:
            return Stack(steps, None)
        lowest = last.stack_pointer + (kind != "arm64")  # there a call stores nothing
        rises = step.stack_pointer >= lowest
        if step[:2] in seen or not (rises or found.switches):
            return Stack(steps, Absent("out-of-range", "the stack pointer does not rise"))
        seen.add(step[:2])
        steps.append(step)
        is_interrupted = found.is_interrupted
    return Stack(steps, Absent("out-of-range", f"more than {limit} frames"))
