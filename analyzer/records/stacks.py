"""Records of what was executing: processors, the frames of their call stacks, words left on stacks.

Invariant: a frame is a claim that its caller was waiting for it; what only hints at a call is a
``Residue``. Column kinds are those of :mod:`analyzer.records`. Standard library only.
"""

from typing import NamedTuple

from .base import Address, Flag, Number, Origin, Text


class Processor(NamedTuple):
    """One logical processor as the source caught it: where it was executing."""

    processor: Number  #: number of Windows, from 0; absent where the source does not tell which
    thread: Address  #: KTHREAD that it was running
    is_idle: Flag  #: True when that was its idle thread
    instruction_pointer: Address
    stack_pointer: Address
    symbol: Text  #: where it was: module!function+0x, without symbols module+0x
    module: Text
    filter: Text  #: the crash dump filter that it was in or that was called further out
    callback: Text  #: Dump_Start, ...: the callback of that filter that was running, where known
    first_argument: Address  #: first argument register, meaningful at a function's entry
    first_argument_is: Text  #: what that address is: "FILTER_EXTENSION of dump_x.sys"
    registers: Text  #: "rip=0x... rsp=0x...", as far as they are known
    origin: Origin


class Frame(NamedTuple):
    """One frame of a call stack, the innermost first."""

    stack_of: Text  #: "processor 0", "exception context", "stale stack of processor 0"
    processor: Number  #: as in the table processors; None where the stack is of none
    frame: Number  #: from 0, the innermost
    instruction_pointer: Address  #: where it was executing; of callers, where they go on
    return_address: Address  #: where its caller goes on; absent with the reason where it ends
    stack_pointer: Address
    symbol: Text
    module: Text
    how: Text  #: registers, unwind data, frame record, frame pointer, direct call, leaf, ...
    origin: Origin


class Residue(NamedTuple):
    """A word left on a captured stack that points into the dump path."""

    stack_of: Text  #: "crash stack", "processor 3", ...
    symbol: Text  #: module+0x offset
    module: Text
    target: Address  #: what the word points at
    follows_call: Flag  #: the bytes before the target are a call instruction
    origin: Origin
