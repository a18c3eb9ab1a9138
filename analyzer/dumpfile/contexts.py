"""Register sets in a kernel dump: the header's, those of other processors, that of an exception.

Invariant: a processor's saved context is taken only when it claims its registers and stands in the
kernel; how sure it is that it is of the moment of the dump is said in its origin. No structure
offset of a Windows build is built in: nt's own debugger block names them.
Source: wdbgexts.h; bugcheck parameters: Microsoft's bug check code reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from ..absence import Absent
from ..layouts import mindumpdef
from ..layouts.context import CONTEXTS
from ..records import Origin
from ..stacks.caught import Caught, registers_of
from ..stacks.step import Registers
from .processors import MAX_PROCESSORS, STACK_SIZE

if TYPE_CHECKING:
    from .kernel import KernelDump

_KINDS = {"x64": ("rip", "rsp"), "arm64": ("pc", "sp"), "x86": ("eip", "esp")}
#: bugcheck -> its parameter that is the address of a CONTEXT
_WITH_CONTEXT = {0x3B: 3, 0x7E: 4, 0x1000007E: 4}
CRASH_CONTEXT = "crash context"


class _Block(NamedTuple):
    """What a processor's KPRCB tells."""

    number: int
    address: int
    thread: int | Absent
    is_idle: bool | Absent
    stack: tuple[int, int] | None  #: of the thread that it runs


def caught(dump: KernelDump) -> list[Caught]:
    """Every register set of a dump, the crashed processor's first."""
    kind = str(dump.architecture).partition("-")[0]
    if kind not in _KINDS:
        return []
    blocks = list(_blocks(dump))
    found: list[Caught] = []
    header = _header(dump, kind)
    block = None if header is None else _of_stack(dump, header.registers[_KINDS[kind][1]], blocks)
    for other in blocks:
        saved = _saved(dump, kind, other)
        if other is not block or header is None:
            found += [] if saved is None else [saved]
        elif saved is not None and _is_deeper(kind, saved, header, other):
            found = [saved, header, *found]  # the crash is further up the same stack
        else:
            name = f"processor {other.number}"
            found.insert(0, header._replace(
                stack_of=name, processor=other.number, thread=other.thread, is_idle=other.is_idle,
                is_processor=True,
            ))  # fmt: skip
    if header is not None and block is None:
        untold = Absent("not-recorded", "the dump header does not say which processor it was")
        mine = header._replace(processor=untold, thread=untold, is_idle=untold, is_processor=True)
        found.insert(0, mine)
    exception = _exception(dump, kind)
    pointers = _KINDS[kind]
    if exception is not None and not any(
        all(one.registers[name] == exception.registers[name] for name in pointers) for one in found
    ):
        found.append(exception)
    return found


def _header(dump: KernelDump, kind: str) -> Caught | None:
    record = getattr(dump.file, "context_record", None)
    if record is None:
        return None
    registers = registers_of(kind, record())
    if isinstance(registers, Absent) or not registers[_KINDS[kind][0]]:
        return None
    layout = mindumpdef.DumpHeader64 if dump.pointer_size == 8 else mindumpdef.DumpHeader32
    origin = dump.file.origin("context in the dump header", layout.ContextRecord.offset)
    return Caught(CRASH_CONTEXT, registers, origin, is_processor=False)


def _is_deeper(kind: str, saved: Caught, header: Caught, block: _Block) -> bool:
    """True when a saved context lies further down the same stack, so that it is the later one."""
    sp = _KINDS[kind][1]
    here, there = saved.registers[sp], header.registers[sp]
    return block.stack is not None and block.stack[0] <= here < there <= block.stack[1]


def _of_stack(dump: KernelDump, sp: int, blocks: list[_Block]) -> _Block | None:
    """The processor that runs the thread whose stack this is, or the only one there is."""
    for block in blocks:
        if block.stack is not None and block.stack[0] <= sp <= block.stack[1]:
            return block
    return blocks[0] if dump.file.number("NumberProcessors") == 1 and blocks else None


def _blocks(dump: KernelDump) -> Iterator[_Block]:
    """The processors' blocks, as far as the dump holds them."""
    block = dump.debugger_data()
    if isinstance(block, Absent) or len(block) < 0x2C4:
        return
    fields, width = mindumpdef.DEBUGGER_DATA, dump.pointer_size
    table = fields.KiProcessorBlock.read(block) & (1 << 8 * width) - 1
    current = fields.OffsetPrcbCurrentThread.read(block)
    initial = fields.OffsetKThreadInitialStack.read(block)
    count = dump.file.number("NumberProcessors")
    if not table or not current or not isinstance(count, int):
        return
    for number in range(min(count, MAX_PROCESSORS)):
        address = dump.pointer(table + number * width)
        if isinstance(address, Absent) or not dump.is_kernel_pointer(address):
            continue
        thread = dump.pointer(address + current)
        idle = dump.pointer(address + current + 2 * width)  # behind NextThread
        top = dump.pointer(thread + initial) if isinstance(thread, int) and initial else None
        yield _Block(
            number,
            address,
            thread,
            idle if isinstance(idle, Absent) else thread == idle,
            (top - STACK_SIZE[width], top) if isinstance(top, int) and top else None,
        )


def _saved(dump: KernelDump, kind: str, block: _Block) -> Caught | None:
    """The context that Windows or a hypervisor saved for a processor."""
    data = dump.debugger_data()
    if isinstance(data, Absent):
        return None
    fields = mindumpdef.DEBUGGER_DATA
    places: list[int] = []
    if len(data) >= 0x33A:
        offset = fields.OffsetPrcbContext.read(data)
        leads = dump.pointer(block.address + offset) if offset else 0
        if isinstance(leads, int) and dump.is_kernel_pointer(leads):
            places.append(leads)
    offset = fields.OffsetPrcbProcStateContext.read(data)
    if offset:
        places.append(block.address + offset)
    ip, sp = _KINDS[kind]
    for place in places:
        registers = _at(dump, kind, place)
        if registers is None or not all(_is_kernel(dump, registers[n]) for n in (ip, sp)):
            continue
        on_stack = block.stack is not None and block.stack[0] <= registers[sp] <= block.stack[1]
        origin = dump.origin(
            "context saved in the processor's block, its stack pointer "
            + ("on the stack" if on_stack else "not on the stack")
            + " of the thread that it runs",
            place,
            "likely" if on_stack else "guess",
        )
        name = f"processor {block.number}"
        return Caught(name, registers, origin, block.number, block.thread, block.is_idle)
    return None


def _exception(dump: KernelDump, kind: str) -> Caught | None:
    """The context that the bugcheck names, of where an exception happened."""
    code = dump.file.number("BugCheckCode")
    parameter = _WITH_CONTEXT.get(code) if isinstance(code, int) else None
    if parameter is None:
        return None
    place = dump.file.number(f"BugCheckParameter{parameter}")
    if not isinstance(place, int) or not dump.is_kernel_pointer(place):
        return None
    registers = _at(dump, kind, place)
    if registers is None:
        return None
    how = f"context that bugcheck parameter {parameter} leads to"
    origin: Origin = dump.origin(how, place)
    return Caught("exception context", registers, origin, is_processor=False)


def _at(dump: KernelDump, kind: str, place: int) -> Registers | None:
    layout = CONTEXTS[kind]
    data = dump.read(place, min(layout.size, max(layout.registers.values()) + 8))
    if isinstance(data, Absent):
        return None
    registers = registers_of(kind, data)
    return None if isinstance(registers, Absent) else registers


def _is_kernel(dump: KernelDump, value: int) -> bool:
    return dump.is_kernel_pointer(value & -dump.pointer_size)
