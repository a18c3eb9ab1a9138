"""What the emulated calls find around them: processor block, stack, room for arguments.

Invariant: nothing of it hides memory that the target has. Standard library only.
"""

from __future__ import annotations

from ..absence import Absent
from ..layouts import mindumpdef
from ..layouts.ntdddump import WINDOWS_8
from ..records import Module
from ..target import Target
from .images import Images
from .pipe import Setup

#: stacks of kernel threads (docs.microsoft.com: "Using the Kernel Stack"); the crash runs on one
STACK_BYTES = {8: 0x6000, 4: 0x3000}
_STACK, _BACK, _HEAP, AREA = 0x2000, 0x10_0800, 0x20_0000, 0x80_0000
_BASES = {
    8: [0xFFFF_9D00_0000_0000 + step * 0x10_0000_0000 for step in range(16)],
    4: [0xF400_0000 - step * 0x400_0000 for step in range(24)],
}
_GS_BASE = 0xC0000101
_PRCB_IN_KPCR = {"x64": 0x180, "x86": 0x120}
#: KDDEBUGGER_DATA64 (wdbgexts.h): offset of the KPRCB in a KPCR, where the block has that part
_OFFSET_PCR_CONTAINED_PRCB = 0x2E6
_KPCR_SELF = {"x64": 0x18, "x86": 0x1C}
#: IRQL in the KPCR, as the dump path has it: offset, HIGH_LEVEL (wdm.h; x64 has it in CR8)
IRQL_IN_KPCR = {"x86": (0x24, 31), "arm64": (0x38, 15)}
#: stands for a processor block that was not found: what reads it ends the run
NO_BLOCK = 0x1F0_0000


def architecture(target: Target) -> str:
    """x64, x86 or arm64, "" where the target does not tell."""
    if isinstance(target.architecture, Absent):
        return ""
    return str(target.architecture).split("-", maxsplit=1)[0]


def free_area(target: Target) -> int:
    """Where 32 MB of addresses are free in the target."""
    for base in _BASES[target.pointer_size]:
        places = (base, base + _STACK, base + _BACK, base + _HEAP, base + AREA, base + 0x180_0000)
        if all(isinstance(target.read(place, 1), Absent) for place in places):
            return base
    return _BASES[target.pointer_size][-1]


def processor_block(target: Target) -> int | Absent:
    """The KPCR of processor 0, or of the processor that stopped."""
    kind = architecture(target)
    none = Absent("not-found", "the processor block (KPCR) was not found")
    if hasattr(target, "processor_block"):
        try:
            prcb = target.processor_block(0)
        except IndexError:  # the source knows no processors
            prcb = none
        if isinstance(prcb, int) and kind in _PRCB_IN_KPCR:
            return prcb - _PRCB_IN_KPCR[kind]
    if hasattr(target, "debugger_data"):
        return _by_debugger_data(target, target.debugger_data(), kind) or none
    if hasattr(target, "msr") and kind == "x64":
        base = target.msr(_GS_BASE)
        if isinstance(base, int) and target.pointer(base + _KPCR_SELF[kind]) == base:
            return base
    return none


def _by_debugger_data(target: Target, block: bytes | Absent, kind: str) -> int | None:
    if isinstance(block, Absent):
        return None
    table = mindumpdef.DEBUGGER_DATA.KiProcessorBlock.read(block)
    if target.pointer_size == 4:
        table &= 0xFFFF_FFFF
    prcb = target.pointer(table) if table else 0
    if isinstance(prcb, Absent) or not prcb:
        return None
    offset = 0
    if len(block) >= _OFFSET_PCR_CONTAINED_PRCB + 2:
        at = _OFFSET_PCR_CONTAINED_PRCB
        offset = int.from_bytes(block[at : at + 2], "little")
    return prcb - (offset or _PRCB_IN_KPCR.get(kind, 0x180))


def _protected(target: Target, images: Images, filters: list[Module]) -> list[tuple[int, int]]:
    """Pages of filters that Windows lets nobody write: 64-bit, Windows 8 and later."""
    if target.pointer_size == 4 or (isinstance(target.build, int) and target.build < WINDOWS_8):
        return []
    return sorted({span for module in filters for span in images.read_only(module)})


def setup(target: Target, images: Images, base: int, filters: list[Module]) -> Setup:
    """What the child needs to know before the first call."""
    known = images.known()
    for module in filters:
        known.update(images.guards(module))
    block = processor_block(target)
    return {
        "architecture": architecture(target),
        "kpcr": block if isinstance(block, int) else base + NO_BLOCK,
        "stack": base + _STACK,
        "stack_bytes": STACK_BYTES[target.pointer_size],
        "back": base + _BACK,
        "heap": base + _HEAP,
        "known": sorted(known.items()),
        "modules": [
            (module.base, module.end)
            for module in images.modules
            if isinstance(module.base, int) and isinstance(module.end, int)
        ],
        "made": [],
        "read_only": _protected(target, images, filters),
    }
