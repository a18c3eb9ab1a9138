"""Records of dry runs: what a callback does when it is called on a copy of the target's memory.

Invariant: a row is a prediction or a repetition, never a record of a call that Windows made. Column
kinds are those of :mod:`analyzer.records`. Standard library only.
"""

from typing import NamedTuple

from .base import Address, Code, Duration, Flag, Number, Origin, Text


class DryRun(NamedTuple):
    """One call of one callback on a copy of the memory."""

    filter: Text
    stack: Text  #: crash or hibernation: whose filter it is
    ring_index: Number  #: 0-based place in crashdmp's list = call order
    callback: Text
    dump_type: Number  #: FILTER_EXTENSION.DumpType in this call
    shape: Text  #: Dump_Write, Dump_Read: the MDL that it is given
    windows: Text  #: does, may, never: whether Windows makes such a call
    routine: Address
    symbol: Text
    outcome: Text  #: returns, bugchecks, faults, never returns, stopped
    status: Code
    status_name: Text
    text: Text  #: the outcome in a sentence
    where: Text  #: module+0x offset at which it ended, None where it returned
    called_after: Text  #: the call whose changes it finds, None: the memory as it is
    instructions: Number
    stack_bytes: Number  #: deepest use of the stack
    stall_ns: Duration  #: that it asked to wait by KeStallExecutionProcessor
    host_ns: Duration  #: that the emulation took here
    members_read: Text  #: of FILTER_EXTENSION
    members_written: Text
    variables_read: Text  #: writable memory that it reads, but its stack
    changes: Text  #: what it changed: old -> new
    calls: Text  #: routines outside its module
    forbidden: Text  #: those that must not be called at HIGH_LEVEL
    pageable: Text  #: pageable code and data that it uses
    assumed: Text  #: what the emulator made up
    is_repeatable: Flag  #: any call on this memory ends like this: it reads nothing that changes
    depends_on: Text  #: what an earlier call, or something else, may have changed
    had_crashed: Flag  #: the memory is of a machine that had crashed
    extension: Address
    origin: Origin
