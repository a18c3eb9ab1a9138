"""crashdmp's own structures: Context in its image, and the dump stack contexts in the pool.

Invariant: found by signature and by content; a fixed offset counts only where its build is proven
(Windows 7 x86). Standard library only.

Sources: docs/facts.md: Context signature and embedded dump block seen on 22000
ARM64, the tail of the stack context on 19041 x64 and Windows 7, both read off real dumps.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..absence import Absent
from ..layouts.crashdmp import (
    CONTEXT_SIGNATURE,
    CONTEXT_STACK_POINTERS,
    DUMP_BLOCK_BUGCHECK_CODE,
    DUMP_BLOCK_CONTEXT_RECORD,
    DUMP_BLOCK_PROGRESS,
    STACK_CONTEXT_TAILS,
    WIN7_X86_CONTEXT,
    WINDOWS_7,
)
from ..layouts.modules import CONTEXT_SIZES
from ..layouts.ntdddump import DISK_GEOMETRY, DISK_PARTITION_INFO, PARTITION_INFO_SIZE
from ..names import ntstatus
from ..records import Module
from ..target import Target, module_at
from .nodes import at_link
from .roles import FILTER

#: how much of an image is looked at
IMAGE_LENGTH = 1 << 24
#: how much of Context is looked at (0x750 bytes lie between Context and ContextCopy on 22000)
CONTEXT_LENGTH = 0x750
#: how far into a stack context the geometry may lie (0x1C8 bytes in all on Windows 7 x64, grown
#: since)
BLOCK_LENGTH = 0x1000
_RESERVED = 0x1000_0000  #: bit N of an NTSTATUS, never set in one


class Tail(NamedTuple):
    """The part of a dump stack context that a filter's extension is filled from."""

    address: int  #: of the DISK_GEOMETRY_EX
    geometry: DISK_GEOMETRY
    disk_size: int
    partition: DISK_PARTITION_INFO
    attached_device: int
    head: int  #: address of the filter list head
    flink: int
    blink: int
    stack: str  #: crash, hibernation, or "" when nothing tells
    routines: tuple[int, ...]  #: port driver routines found before the geometry


def image_words(target: Target, module: Module) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Pointer-size words of what is there of an image: (address of the first, words)."""
    if not isinstance(module.base, int) or not isinstance(module.size, int):
        return
    width = target.pointer_size
    code = "Q" if width == 8 else "I"
    for address, data in target.chunks(module.base, min(module.size, IMAGE_LENGTH)):
        skip = -address % width
        count = (len(data) - skip) // width
        if count > 0:
            yield address + skip, struct.unpack_from(f"<{count}{code}", data, skip)


def find_contexts(target: Target, crashdmp: Module) -> list[int]:
    """Addresses in the image that start with ``CDmp`` and 0 or 1: Context and ContextCopy."""
    if not isinstance(crashdmp.base, int) or not isinstance(crashdmp.size, int):
        return []
    found = []
    for address, data in target.chunks(crashdmp.base, min(crashdmp.size, IMAGE_LENGTH)):
        at = data.find(CONTEXT_SIGNATURE)
        while at >= 0:
            flag = data[at + 4 : at + 5]
            if (address + at) % target.pointer_size == 0 and flag in (b"\0", b"\1"):
                found.append(address + at)
            at = data.find(CONTEXT_SIGNATURE, at + 1)
    return found


def dump_block(
    target: Target, context: int, bugcheck: int, parameters: Sequence[int]
) -> int | Absent:
    """Address of the CrashdmpDumpBlock inside Context, found by the bugcheck it holds."""
    width = target.pointer_size
    form = "<I4x4Q" if width == 8 else "<I4I"
    want = (bugcheck, *parameters)
    for address, data in target.chunks(context, CONTEXT_LENGTH):
        skip = -(address - context) % width
        for at in range(skip, len(data) - struct.calcsize(form) + 1, width):
            if struct.unpack_from(form, data, at) == want:
                return address + at - DUMP_BLOCK_BUGCHECK_CODE
    return Absent("not-found", "no copy of the bugcheck code and parameters in crashdmp!Context")


def progress(target: Target, block: int, debugger_data: int | Absent) -> int | Absent:
    """BugCheckProgress of the dump block; only where the pointer before it proves the layout."""
    size = CONTEXT_SIZES.get(str(target.architecture).replace("-la57", ""))
    if size is None:
        return Absent("unknown-layout", "the dump block of 32-bit Windows is not known")
    anchor = block + DUMP_BLOCK_CONTEXT_RECORD + size
    pointer = target.pointer(anchor)
    if isinstance(pointer, Absent):
        return pointer
    if isinstance(debugger_data, Absent) or pointer != debugger_data:
        return Absent("unknown-layout", "no pointer to KDDEBUGGER_DATA64 behind the context record")
    # 0x510 is where that pointer stands on x64; the members behind it keep their distance.
    return target.u32(anchor + DUMP_BLOCK_PROGRESS - 0x510)


def last_failure(
    target: Target, context: int, filters: Sequence[Module]
) -> tuple[int | Absent, int | Absent, str, int | None]:
    """Routine and status of the last failed filter call: (routine, status, confidence, address).

    Windows 7 x86 keeps them at a proven place. Elsewhere a pointer into a filter followed by a
    failing NTSTATUS is looked for in Context and reported as likely, not certain; two pointers
    behind each other are none.
    """
    if target.pointer_size == 4 and target.build in WINDOWS_7:
        at = context + WIN7_X86_CONTEXT.failing_filter_routine
        values = target.unpack("II", at)
        if isinstance(values, Absent):
            return values, values, "certain", None
        if not values[0]:
            none = Absent("not-applicable", "crashdmp recorded no failing filter routine")
            return none, none, "certain", at
        return values[0], values[1], "certain", at
    width = target.pointer_size
    form = "<QI" if width == 8 else "<II"
    readable = False
    for address, data in target.chunks(context, CONTEXT_LENGTH):
        skip = -(address - context) % width
        for at in range(skip, len(data) - struct.calcsize(form) + 1, width):
            readable = True
            routine, status = struct.unpack_from(form, data, at)
            if status < 0xC000_0000 or status & _RESERVED or not module_at(filters, routine):
                continue
            word = data[at + width : at + 2 * width]  # what may be the low half of a pointer
            is_pointer = target.is_kernel_pointer(int.from_bytes(word, "little"))
            if is_pointer and (width == 8 or status not in ntstatus.NAMES):
                continue
            return routine, status, "likely", address + at
    if readable:
        none = Absent(
            "not-found",
            "no pointer into a filter with a failing NTSTATUS behind it in crashdmp!Context "
            "(its place there is not known for this build)",
        )
    else:
        none = Absent("not-in-dump", "crashdmp!Context cannot be read")
    return none, none, "likely", None


def stack_pointers(target: Target, context: int) -> dict[int, str]:
    """Pointers to dump stack contexts at the places known in Context: address -> stack."""
    places: tuple[tuple[int, str], ...]
    if target.pointer_size == 4:
        places = (
            (WIN7_X86_CONTEXT.crash_stack, "crash"),
            (WIN7_X86_CONTEXT.hibernation_stack, "hibernation"),
        )
        if target.build not in WINDOWS_7:
            places = places[:1]  # the hibernation pointer's place is proven for Windows 7 alone
    else:
        places = tuple((offset, "crash") for offset in CONTEXT_STACK_POINTERS)
    found: dict[int, str] = {}
    for offset, stack in places:
        pointer = target.pointer(context + offset)
        if isinstance(pointer, int) and target.is_kernel_pointer(pointer):
            found.setdefault(pointer, stack)
    return found


# -- the tail of a dump stack context ----------------------------------------------------------


def geometry_fits(data: bytes, at: int) -> bool:
    """True when a DISK_GEOMETRY_EX with DISK_PARTITION_INFO stands at an offset of ``data``."""
    if at < 0 or at + 0x38 > len(data):
        return False
    cylinders, media, tracks, sectors, sector, size, info, style = struct.unpack_from(
        "<QIIIIQII", data, at
    )
    if (
        sector not in (512, 1024, 2048, 4096)
        or media > 25
        or style > 2
        or info != PARTITION_INFO_SIZE
    ):
        return False
    if not (1 <= tracks <= 255 and 1 <= sectors <= 255 and 1 <= cylinders < 1 << 40):
        return False
    cylinder = tracks * sectors * sector
    fits = cylinders * cylinder <= size < (cylinders + 1) * cylinder
    return bool(fits and size % sector == 0)


def tails(target: Target, stack_modules: Sequence[Module], address: int, data: bytes) -> list[Tail]:
    """Every tail of a dump stack context in a piece of memory."""
    found = []
    # SizeOfPartitionInfo 0x18 is the rarest word of the pattern: look for it, then for the rest.
    at = data.find(b"\x18\0\0\0")
    while at >= 0:
        start = at - 0x20
        if (address + start) % target.pointer_size == 0 and geometry_fits(data, start):
            tail = _tail(target, stack_modules, address, data, start)
            if tail:
                found.append(tail)
        at = data.find(b"\x18\0\0\0", at + 1)
    return found


def _tail(
    target: Target, stack_modules: Sequence[Module], address: int, data: bytes, start: int
) -> Tail | None:
    width = target.pointer_size
    shape = STACK_CONTEXT_TAILS[width]
    end = start + shape.filter_list + 2 * width
    if end > len(data):
        return None
    form = "<QQQ" if width == 8 else "<III"
    device, flink, blink = struct.unpack_from(form, data, start + shape.attached_device)
    head = address + start + shape.filter_list
    if not (target.is_kernel_pointer(flink) and target.is_kernel_pointer(blink)):
        return None
    if (flink == head) != (blink == head):
        return None  # an empty ring has both
    if device and not target.is_kernel_pointer(device):
        return None
    stack, routines = _routines(target, stack_modules, data, start)
    if not routines and (flink == head or start < 0x60):
        # Another driver's DISK_GEOMETRY_EX can pass so far; a ring with members cannot be checked
        # here, so without a port routine nearby an empty one counts for nothing.
        return None
    if not routines and not isinstance(at_link(target, stack_modules, head), Absent):
        # On 64-bit Windows 7 a node's link lies as far behind the geometry of its own extension
        # as the list head behind that of a context.
        return None
    geometry = DISK_GEOMETRY.from_buffer_copy(data, start)
    partition = DISK_PARTITION_INFO.from_buffer_copy(data, start + shape.partition_info)
    (size,) = struct.unpack_from("<Q", data, start + shape.disk_size)
    return Tail(
        address + start, geometry, size, partition, device, head, flink, blink, stack, routines
    )


def _routines(
    target: Target, stack_modules: Sequence[Module], data: bytes, start: int
) -> tuple[str, tuple[int, ...]]:
    """Port driver routines in the 0x60 bytes before the geometry, and the stack they belong to."""
    width = target.pointer_size
    code = "Q" if width == 8 else "I"
    first = max(start - 0x60, start % width)
    count = (start - first) // width
    found, stack = [], ""
    for word in struct.unpack_from(f"<{count}{code}", data, start - count * width):
        module = module_at(stack_modules, word)
        if module is not None and module.role != FILTER:
            found.append(word)
            stack = stack or str(module.stack or "")
    return stack, tuple(found)
