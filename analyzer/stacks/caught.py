"""Register sets that a source caught, whichever kind of source it is.

Invariant: registers that a CONTEXT does not claim to hold are left out, never zero.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ..absence import Absent
from ..layouts.context import CONTEXTS, CONTROL
from ..records import Address, Flag, Number, Origin
from .step import Registers


class Caught(NamedTuple):
    """One register set, and whose it is."""

    stack_of: str  #: "processor 0", "crash context", "exception context"
    registers: Registers
    origin: Origin
    processor: Number = None
    thread: Address = None
    is_idle: Flag = None
    is_processor: bool = True  #: False: where an exception happened, which is over


def registers_of(architecture: str, context: bytes) -> Registers | Absent:
    """The registers in the bytes of a CONTEXT, if it holds instruction and stack pointer."""
    layout = CONTEXTS.get(architecture.partition("-")[0])
    if layout is None:
        return Absent("unknown-layout", f"CONTEXT of {architecture}")
    last = max(layout.registers.values()) + struct.calcsize(layout.format)
    if len(context) < last:
        return Absent("file-cut", "the CONTEXT is cut")
    (flags,) = struct.unpack_from("<I", context, layout.flags)
    if not flags & layout.is_of or not flags & CONTROL:
        return Absent("unset", f"ContextFlags {flags:#x} claim no registers")
    return {
        name: struct.unpack_from("<" + layout.format, context, offset)[0]
        for name, offset in layout.registers.items()
    }
