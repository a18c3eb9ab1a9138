"""Where the kernel stacks of a page dump lie, from KDDEBUGGER_DATA64 alone.

Invariant: no structure offset of a Windows build is built in: nt's own debugger block names them.
Source: wdbgexts.h (OffsetPrcbCurrentThread, OffsetKThreadInitialStack and neighbours).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..absence import Absent
from ..layouts import mindumpdef
from .kernel import StackRegion

if TYPE_CHECKING:
    from .kernel import KernelDump

#: stack sizes of kernel threads: 24 KiB on 64-bit, 12 KiB on 32-bit Windows (large stacks are
#: longer; their far end then is not searched)
STACK_SIZE = {8: 0x6000, 4: 0x3000}
MAX_PROCESSORS = 2048


def stacks(dump: KernelDump) -> list[StackRegion]:
    """Stack of the crash context and of the thread each processor was running."""
    size = STACK_SIZE[dump.pointer_size]
    found: list[StackRegion] = []
    tops: set[int] = set()
    block = dump.debugger_data()
    sp = dump.file.register("sp")
    if not isinstance(block, Absent) and len(block) >= 0x2C4:
        fields = mindumpdef.DEBUGGER_DATA
        table = fields.KiProcessorBlock.read(block)
        thread_at = fields.OffsetPrcbCurrentThread.read(block)
        initial_at = fields.OffsetKThreadInitialStack.read(block)
        if dump.pointer_size == 4:
            table &= 0xFFFF_FFFF
        count = dump.file.number("NumberProcessors")
        if table and thread_at and initial_at and isinstance(count, int):
            for number in range(min(count, MAX_PROCESSORS)):
                prcb = dump.pointer(table + number * dump.pointer_size)
                if isinstance(prcb, Absent) or not prcb:
                    continue
                thread = dump.pointer(prcb + thread_at)
                if isinstance(thread, Absent) or not thread:
                    continue
                top = dump.pointer(thread + initial_at)
                if isinstance(top, int) and dump.is_kernel_pointer(top) and top not in tops:
                    tops.add(top)
                    found.append(StackRegion(top - size, top, f"processor {number}"))
    known = isinstance(sp, int) and any(region.start <= sp < region.end for region in found)
    if isinstance(sp, int) and dump.is_kernel_pointer(sp & -dump.pointer_size) and not known:
        # The dump writer ran below the crash context on the same stack.
        start = (sp & ~0xFFF) - size
        found.insert(0, StackRegion(start, (sp & ~0xFFF) + 0x1000, "crash context"))
    return found
