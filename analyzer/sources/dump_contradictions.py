"""Where a dump contradicts itself: its header, its map of pages and the memory that they lead to.

Invariant: both sides of a contradiction are told, none is chosen; what cannot be read contradicts
nothing. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..absence import Absent
from ..dumpfile.kernel import KernelDump
from ..dumpfile.writer import other_writer
from ..dumpstack.context import stack_pointers
from ..dumpstack.walk import Contexts, Ring, filter_module
from ..layouts import mindumpdef
from ..layouts.crashdmp import CONTEXT_DUMP_BLOCK, DUMP_BLOCK_BUGCHECK_CODE
from ..names import bugchecks
from ..records import Anomaly, Evidence, Module
from ..target import PAGE

_SUCCESS = "Dump completed successfully."
#: words of unknown meaning that are shown
_MOST_WORDS = 8


def check(
    dump: KernelDump, modules: Sequence[Module], found: Contexts, all_rings: Sequence[Ring]
) -> Iterator[Anomaly]:
    """All contradictions of one dump."""
    yield from _writer(dump)
    yield from _ending(dump)
    yield from _bugcheck(dump, found)
    yield from _pages(dump, found)
    yield from _loose_nodes(dump, modules, found, all_rings)


def _writer(dump: KernelDump) -> Iterator[Anomaly]:
    """A dump that Windows did not write tells nothing of the dump stack's work by being there."""
    name = other_writer(dump)
    if name:
        yield Anomaly(
            "dump-not-by-windows",
            f"Windows did not write this dump itself; {name} did: that it is there says nothing of "
            "the dump stack.",
            dump.file.origin("dump file", 0),
            "dump",
            facts={"writer": name},
        )


def _ending(dump: KernelDump) -> Iterator[Anomaly]:
    """A dump that is there, whose header says that it did not end well."""
    told = dump.file.diagnosis
    if isinstance(told.last_line, Absent) or told.last_line == _SUCCESS:
        return
    place = dump.file.origin("dump header", mindumpdef.DIAGNOSIS.LastLine.offset)
    words = tuple(
        Evidence(
            f"header word {offset:#x}",
            value,
            "Code",
            "an error code or a percentage lies here, which is not known",
            dump.file.origin("dump header", offset),
        )
        for offset, value in told.unknown[:_MOST_WORDS]
    )
    yield Anomaly(
        "dump-ended-early",
        f"The last line that the header keeps of the dump log is {told.last_line!r}, not "
        f"{_SUCCESS!r}: this is the last step that it records.",
        place,
        "dump",
        (Evidence("last line", told.last_line, origin=place), *words),
        {"last_line": told.last_line},
    )


def _bugcheck(dump: KernelDump, found: Contexts) -> Iterator[Anomaly]:
    """The header's bugcheck against the one that the crash itself left in memory."""
    stated = dump.file.number("BugCheckCode")
    held = _held_bugcheck(dump, found)
    if held is None or isinstance(stated, Absent):
        return
    code, name, address = held
    if code in (stated, stated & ~bugchecks.MINIDUMP_VARIANT):
        return
    header = dump.file.origin("dump header", dump.file_field("BugCheckCode"))
    yield Anomaly(
        "dump-bugcheck-differs",
        f"The header states bugcheck {stated:#x} ({bugchecks.name(stated)}), but the memory of the "
        f"machine holds {code:#x} ({bugchecks.name(code)}) in {name}: one of the two was changed, "
        "or the dump was not written at that crash.",
        header,
        "bugcheck",
        (
            Evidence("BugCheckCode", stated, "Code", bugchecks.name(stated), header),
            Evidence(name, code, "Code", bugchecks.name(code), dump.origin(name, address)),
        ),
        {"stated": stated, "memory": code},
    )


def _held_bugcheck(dump: KernelDump, found: Contexts) -> tuple[int, str, int] | None:
    """(code, name of the place, address): nt's own data, else crashdmp's dump block.

    The place of the block in crashdmp!Context is not published for every build, so it counts only
    where the header's own parameters stand behind the code.
    """
    block = dump.debugger_data()
    if not isinstance(block, Absent):
        address = mindumpdef.DEBUGGER_DATA.KiBugcheckData.read(block)
        address &= (1 << 8 * dump.pointer_size) - 1
        values = dump.unpack("5Q" if dump.pointer_size == 8 else "5I", address)
        if not isinstance(values, Absent) and values[0] & 0xFFFF_FFFF:
            return values[0] & 0xFFFF_FFFF, "nt!KiBugCheckData", address
    if isinstance(found.context, int) and dump.pointer_size == 8:
        address = found.context + CONTEXT_DUMP_BLOCK + DUMP_BLOCK_BUGCHECK_CODE
        values = dump.unpack("I4x4Q", address)
        stated = tuple(dump.file.number(f"BugCheckParameter{n}") for n in (1, 2, 3, 4))
        if not isinstance(values, Absent) and any(stated) and values[1:] == stated and values[0]:
            return values[0], "crashdmp!Context", address
    return None


def _pages(dump: KernelDump, found: Contexts) -> Iterator[Anomaly]:
    """Memory that every dump with pages holds, is mapped, and whose frame the map leaves out."""
    left_out = getattr(dump, "left_out", None)
    if left_out is None:
        return
    lost = []
    for name, address in _essential(dump, found):
        frame = left_out(address)
        if frame is not None:
            lost.append(Evidence(name, address, "Address", f"frame {frame:#x} is not stored"))
    if lost:
        what = ", ".join(row.label for row in lost[:3])
        more = "" if len(lost) < 4 else f" and {len(lost) - 3} more"
        yield Anomaly(
            "dump-map-contradicts-memory",
            f"The page tables lead to {what}{more}, but the dump's own map of pages leaves those "
            "frames out, although a dump always holds this memory: a bit of the map is wrong, so "
            "that pages behind it may be taken for others.",
            dump.file.origin("map of pages", _map_offset(dump)),
            "map of pages",
            tuple(lost),
        )


def _essential(dump: KernelDump, found: Contexts) -> Iterator[tuple[str, int]]:
    """What lies in memory that is never paged out and that Windows itself needs for the dump."""
    for label, field in (
        ("nt's list of modules", "PsLoadedModuleList"),
        ("KDDEBUGGER_DATA64", "KdDebuggerDataBlock"),
    ):
        value = dump.file.number(field)
        if isinstance(value, int) and value:
            yield label, value
    stack = dump.file.register("sp")
    if isinstance(stack, int) and dump.is_kernel_pointer(stack & -dump.pointer_size):
        yield "the stack of the crash", stack
    if isinstance(found.context, int):
        for address in stack_pointers(dump, found.context):
            yield "the dump stack context", address
    block = dump.debugger_data()
    if isinstance(block, Absent):
        return
    table = mindumpdef.DEBUGGER_DATA.KiProcessorBlock.read(block)
    if dump.pointer_size == 4:
        table &= 0xFFFF_FFFF
    first = dump.pointer(table) if table else 0
    if isinstance(first, int) and first:
        yield "the control block of processor 0", first
    for region in dump.stacks():
        if dump.is_kernel_pointer(region.end - PAGE):
            yield f"the stack of {region.owner}", region.end - PAGE


def _loose_nodes(
    dump: KernelDump, modules: Sequence[Module], found: Contexts, all_rings: Sequence[Ring]
) -> Iterator[Anomaly]:
    """Filter nodes in pages that no link leads to, where crashdmp's own pointer leads to no list.

    One of the two alone can be: a node may be left from an earlier dump stack.
    """
    if not hasattr(dump, "left_out") or not isinstance(found.context, int):
        return
    loose = [node for ring in all_rings if not isinstance(ring.head, int) for node in ring.nodes]
    pointers = [
        address
        for address in stack_pointers(dump, found.context)
        if not isinstance(dump.read(address, 0x10), Absent)
    ]
    if not loose or not pointers or any(isinstance(ring.head, int) for ring in all_rings):
        return
    stack_modules = [module for module in modules if module.stack and module.loaded]
    names = {str(owner.name) for owner in (filter_module(stack_modules, n) for n in loose) if owner}
    place = dump.file.origin("found by content in memory", loose[0].file_offset)
    yield Anomaly(
        "dump-map-contradicts-memory",
        f"crashdmp!Context names {pointers[0]:#x} as the dump stack context, but what the dump's "
        f"map of pages gives there is none, while the nodes of {' and '.join(sorted(names)[:3])} "
        "lie in pages that no link leads to: pages are taken for others, so a bit of the map is "
        "wrong.",
        dump.file.origin("map of pages", _map_offset(dump)),
        "map of pages",
        (
            Evidence("dump stack context", pointers[0], "Address"),
            Evidence("filter nodes without an address", len(loose), "Number", origin=place),
        ),
    )


def _map_offset(dump: KernelDump) -> int | None:
    return getattr(dump.file, "header_size", None)
