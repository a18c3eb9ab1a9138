"""A kernel dump into records: the machine, its dump stack, the last storage requests.

Invariant: reads the dump once, asks for bulk memory only when the structural walk found no filter;
what a dump of this type can never tell is said in its source record.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..absence import Absent
from ..dumpfile import KernelDump, open_dump, secondary, storport
from ..dumpstack import residue, roles
from ..dumpstack.context import dump_block, last_failure, progress
from ..dumpstack.describe import Failure, describe, structures
from ..dumpstack.scan import scan_chunks
from ..dumpstack.walk import Contexts, Ring, contexts, from_nodes, rings, unique
from ..layouts import mindumpdef
from ..names import bugchecks, ntstatus
from ..names import progress as progress_names
from ..records import (
    Anomaly,
    Machine,
    Module,
    Records,
    Source,
    Stage,
    Structure,
    Tag,
    filetime_to_ns,
)
from ..target import symbol
from .dump_events import add_events

_NEVER = (
    "duration of any callback; return status of a callback that succeeded (no dump keeps them: "
    "a live session, the filter's own events or DumpStack.log do)"
)
#: KUSER_SHARED_DATA (public: its address and the three-part times are fixed)
_SHARED_DATA = {8: 0xFFFF_F780_0000_0000, 4: 0xFFDF_0000}
_SHARED_TIMES = ((0x08, "InterruptTime"), (0x14, "SystemTime"), (0x320, "TickCount"))
_UPDATE_LOCK = 0x340  # since Windows 8.1 (build 9600); odd while an update is under way
#: storport writes one block; more are read as far as they can be of use
MAX_STORAGE_BLOCKS = 8
#: residue words of all stacks together; a real dump has a few dozen
MAX_RESIDUE = 4096
_LIVE_DUMP = 0x10  # DUMP_FILE_ATTRIBUTES.LiveDumpGeneratedDump
_NO_CRASH = (0, 0x161)  # 0x161: LIVE_SYSTEM_DUMP
#: marks of dump stages that come after the filters were started (names/progress.py)
_STARTED = range(0x42, 0x60)


def collect(path: str, **_: Any) -> Records:
    """Records of one kernel dump. Raises UnsupportedError or InputError."""
    return records_of(open_dump(path))


def records_of(dump: KernelDump) -> Records:
    """Records of an opened dump."""
    out = Records()
    modules = roles.classify(dump.modules(), dump.unloaded())
    out.add(_machine(dump), *modules)
    found = _contexts(dump, modules)
    _context_rows(out, dump, modules, found)
    _stages(out, dump, found)
    all_rings = _rings(dump, modules, found)
    _filters(out, dump, modules, found, all_rings)
    for region in dump.stacks():
        if len(out["residue"]) >= MAX_RESIDUE:
            break
        out.add(*residue.find(dump, modules, region.start, region.end, region.owner))
    _secondary(out, dump)
    _shared_data(out, dump)
    _context_copy(out, dump, found)
    for text in dump.limits:
        dump.file.note("search-stopped", f"{text}; more may be there")
    out.add(_source(dump, out, all_rings), *dump.file.anomalies)
    return out


# -- machine -----------------------------------------------------------------------------------


def _named(value: int | Absent, name: Any) -> str | Absent:
    return value if isinstance(value, Absent) else str(name(value))


def _machine(dump: KernelDump) -> Machine:
    file = dump.file
    number = file.number
    attributes = number("Attributes")
    names = [
        text
        for bit, text in mindumpdef.DUMP_FILE_ATTRIBUTES.items()
        if isinstance(attributes, int) and attributes & bit
    ]
    named = attributes if isinstance(attributes, Absent) else ", ".join(names) or "none"
    system_time, kind = number("SystemTime"), number("DumpType")
    return Machine(
        build=number("MinorVersion"),
        build_lab=dump.build_lab(),
        architecture=dump.architecture,
        machine_type=number("MachineImageType"),
        processors=number("NumberProcessors"),
        bugcheck=number("BugCheckCode"),
        bugcheck_name=_named(number("BugCheckCode"), bugchecks.name),
        parameter1=number("BugCheckParameter1"),
        parameter2=number("BugCheckParameter2"),
        parameter3=number("BugCheckParameter3"),
        parameter4=number("BugCheckParameter4"),
        system_time=system_time if isinstance(system_time, Absent) else filetime_to_ns(system_time),
        uptime_ns=_uptime(number("SystemUpTime")),
        boot_id=number("BootId"),
        dump_type=kind,
        dump_type_name=_named(kind, lambda value: mindumpdef.DUMP_TYPES.get(value, "unknown")),
        attributes=attributes,
        attribute_names=named,
        writer_status=number("WriterStatus"),
        writer_status_name=_named(number("WriterStatus"), ntstatus.name),
        secondary_data_state=number("SecondaryDataState"),
        secondary_data_state_name=_named(number("SecondaryDataState"), ntstatus.name),
        required_dump_space=number("RequiredDumpSpace"),
        directory_table_base=number("DirectoryTableBase"),
        ps_loaded_module_list=number("PsLoadedModuleList"),
        kd_debugger_data_block=number("KdDebuggerDataBlock"),
        instruction_pointer=file.register("ip"),
        stack_pointer=file.register("sp"),
        origin=file.origin("dump header", 0),
    )


def _uptime(value: int | Absent) -> int | Absent:
    if isinstance(value, Absent):
        return value
    if value * 100 >= 1 << 63:
        return Absent("out-of-range", f"an uptime of {value:#x} units of 100 ns")
    return value * 100


def _source(dump: KernelDump, out: Records, found: Sequence[Ring]) -> Source:
    kind = dump.file.number("DumpType")
    holds = [dump.holds]
    if out["modules"]:
        holds.append(f"{len([m for m in out['modules'] if m.loaded])} loaded modules")
    nodes = sum(len(ring.nodes) for ring in found)
    if nodes:
        holds.append(
            f"{nodes} crash dump filter node{'s' if nodes > 1 else ''} with FILTER_EXTENSION"
        )
    elif any(ring.tail for ring in found):
        holds.append("the dump stack context that FILTER_EXTENSION is filled from")
    if out["requests"]:
        holds.append(f"{len(out['requests'])} storage requests before the crash")
    lacks = [] if nodes else ["the filters' nodes (a kernel or complete memory dump holds them)"]
    name = mindumpdef.DUMP_TYPES.get(kind) if isinstance(kind, int) else None
    return Source(
        dump.path,
        "kernel dump",
        name or (kind if isinstance(kind, Absent) else Absent("out-of-range", f"dump type {kind}")),
        dump.file.size,
        dump.architecture,
        "; ".join(["crash and machine", *holds]),
        "; ".join([*lacks, _NEVER]),
        dump.file.origin("file signature", 0),
    )


# -- dump stack --------------------------------------------------------------------------------


def _contexts(dump: KernelDump, modules: Sequence[Module]) -> Contexts:
    crashdmp = next((m for m in modules if m.role == roles.CRASH_DUMP_DRIVER and m.loaded), None)
    return contexts(dump, crashdmp, dump.file.number("BugCheckCode"))


def _context_rows(
    out: Records, dump: KernelDump, modules: Sequence[Module], found: Contexts
) -> None:
    for name, address in (
        ("crashdmp!Context", found.context),
        ("crashdmp!ContextCopy", found.copy),
    ):
        if isinstance(address, int):
            detail = "starts with the signature CDmp"
            origin = dump.origin("CDmp signature in crashdmp's image", address, "likely")
            out.add(Structure(name, None, address, symbol(modules, address), detail, origin))


def _rings(dump: KernelDump, modules: Sequence[Module], found: Contexts) -> list[Ring]:
    result = rings(dump, modules, found.context)
    stack_modules = [m for m in modules if m.stack and m.loaded]
    read = {ring.stack for ring in result if ring.nodes}
    if read and read >= {m.stack for m in stack_modules if m.role == roles.FILTER}:
        return result
    if not stack_modules:
        return result
    pages = getattr(dump, "pages", None)
    if pages is not None:
        from ..dumpfile.scan import scan_pages  # numpy: page dumps only

        nodes = scan_pages(dump, stack_modules)  # type: ignore[arg-type]
        return unique([*result, *from_nodes(dump, stack_modules, nodes)])
    blocks = getattr(dump, "blocks", None)
    if blocks:
        first, last = blocks[0][0], max(start + size for start, _, size in blocks)
        nodes, more = scan_chunks(dump, stack_modules, dump.chunks(first, last - first))
        return unique([*result, *more, *from_nodes(dump, stack_modules, nodes)])
    return result


def _filters(
    out: Records,
    dump: KernelDump,
    modules: Sequence[Module],
    found: Contexts,
    all_rings: Sequence[Ring],
) -> None:
    filters = [m for m in modules if m.role == roles.FILTER and m.stack and m.loaded]
    if isinstance(found.context, int):
        failure = Failure(*last_failure(dump, found.context, filters))
    else:
        failure = Failure(found.context, found.context, "likely", None)
    described = describe(dump, modules, all_rings, failure, _wrote_dump(out, dump))
    out.add(*described.filters, *described.extensions, *described.callbacks)
    out.add(*structures(dump, modules, all_rings))
    is_whole = all(note.rule != "modules-incomplete" for note in dump.file.anomalies)
    for ring in all_rings:
        listed = sum(m.stack == ring.stack for m in filters) if is_whole else None
        stack = f"{ring.stack or 'dump'} stack"
        for rule, text, place, evidence in _ring_faults(dump, ring, stack, listed):
            out.add(Anomaly(rule, text, dump.origin(ring.how, place), stack, evidence))


def _ring_faults(
    dump: KernelDump, ring: Ring, stack: str, listed: int | None
) -> Iterator[tuple[str, str, int, tuple[str, ...]]]:
    """Rule, text, place and evidence; ``listed``: modules that are filters, None if unknown."""
    head = ring.head if isinstance(ring.head, int) else 0
    at_head = f"list head = {head:#018x}"
    if ring.problem:
        text = f"The list of filters of the {stack} does not close: {ring.problem}."
        yield "filter-ring-broken", text, head, (at_head, f"filters read = {len(ring.nodes)}")
    is_open = head and ring.stack and ring.members is None and not ring.problem
    if is_open and listed is not None and listed < ring.least:
        modules = f"{listed or 'no'} module{'' if listed == 1 else 's'}"
        text = (
            f"The {stack} has {modules} taken for a filter, but crashdmp's list has at least "
            f"{ring.least} filters."
        )
        yield "filter-count-differs", text, head, (at_head,)
    for link, reason in ring.unread:
        at_link = (f"link = {link:#018x}",)
        if reason.reason in ("not-in-dump", "file-cut") and hasattr(dump, "pages"):
            text = (
                f"The list of filters of the {stack} leads to {link:#x}, which this dump does not "
                f"hold: {reason}. What that filter was given is not determined."
            )
            yield "filter-node-not-in-dump", text, head, at_link
        if reason.reason == "unknown-layout" and not ring.problem:
            text = (
                f"One entry in the list of filters of the {stack} is no filter node of a known "
                f"layout: {reason}."
            )
            yield "filter-node-unrecognised", text, link, at_link


def _wrote_dump(out: Records, dump: KernelDump) -> str:
    """Why the filters were likely started: crashdmp starts them before it writes anything."""
    attributes = dump.file.number("Attributes")
    is_live = isinstance(attributes, int) and attributes & _LIVE_DUMP
    if is_live or dump.file.number("BugCheckCode") in _NO_CRASH:
        return ""  # nt writes a live dump itself, without crashdmp's filters
    for stage in out["stages"]:
        if stage.amount is not None and stage.amount in _STARTED:
            return (
                f"BugCheckProgress had reached {stage.amount:#x}, behind the start of the filters"
            )
    owner = next((g for g, o in secondary.OWNERS.items() if o.startswith("crashdmp")), "")
    if any(block.guid == owner for block in dump.tags):
        return (
            "crashdmp wrote this dump (its tag is in the secondary data) and starts filters first"
        )
    return ""


def _stages(out: Records, dump: KernelDump, found: Contexts) -> None:
    code = dump.file.number("BugCheckCode")
    parameters = [dump.file.number(f"BugCheckParameter{n}") for n in (1, 2, 3, 4)]
    if not isinstance(found.context, int) or not isinstance(code, int):
        return
    numbers = [p for p in parameters if isinstance(p, int)]
    if len(numbers) != 4:
        return
    block = dump_block(dump, found.context, code, numbers)
    if isinstance(block, Absent):
        return
    value = progress(dump, block, dump.file.number("KdDebuggerDataBlock"))
    if isinstance(value, Absent):
        return
    stage = value & progress_names.STAGE_MASK
    none = Absent("not-recorded", "a dump keeps no clock of its stages", "DumpStack.log")
    out.add(
        Stage(
            f"progress-{stage:#04x}",
            f"BugCheckProgress {value:#x} when this page was written: {progress_names.name(value)}",
            Absent("not-recorded", "the stage names no driver"),
            none,
            none,
            none,
            None,
            None,
            stage,
            "BugCheckProgress",
            None,
            dump.origin("CrashdmpDumpBlock in crashdmp!Context", block, "likely"),
        )
    )


def _context_copy(out: Records, dump: KernelDump, found: Contexts) -> None:
    """Compares the pointers of Context that its integrity check protects (0x10 to 0x48)."""
    if not isinstance(found.context, int) or not isinstance(found.copy, int):
        return
    length = 0x10 if dump.pointer_size == 8 else 0x0C
    live = dump.read(found.context + length, 0x18)
    copy = dump.read(found.copy + length, 0x18)
    if isinstance(live, Absent) or isinstance(copy, Absent) or live == copy:
        return
    at = next(i for i in range(len(live)) if live[i] != copy[i]) + length
    out.add(
        Anomaly(
            "context-copy-differs",
            f"crashdmp!Context and its copy differ from offset {at:#x} on; crashdmp compares the "
            "two before it uses them (seen in its code on Windows 7).",
            dump.origin("CDmp signature in crashdmp's image", found.context, "likely"),
            "crashdmp.sys",
            (f"Context = {found.context:#018x}", f"ContextCopy = {found.copy:#018x}"),
        )
    )


# -- the rest ----------------------------------------------------------------------------------


def _secondary(out: Records, dump: KernelDump) -> None:
    time = dump.file.number("SystemTime")
    crash = time if isinstance(time, Absent) else filetime_to_ns(time)
    for block in dump.tags:
        origin = dump.file.origin("tagged block of the secondary data", block.header_offset)
        owner = secondary.OWNERS.get(block.guid) or Absent(
            "not-found", "no known owner of this GUID"
        )
        out.add(Tag(block.guid, owner, block.size, origin))
    add_events(out, dump, crash)
    storage = dump.tag_data(secondary.STORAGE_PORT)
    if len(storage) > MAX_STORAGE_BLOCKS:
        dump.file.note(
            "secondary-data-damaged",
            f"the secondary data has {len(storage)} blocks of the storage port driver, "
            f"{MAX_STORAGE_BLOCKS} are read",
            offset=storage[MAX_STORAGE_BLOCKS][0].header_offset,
        )
    for block, data in storage[:MAX_STORAGE_BLOCKS]:
        found, problem = storport.requests(bytes(data[: 1 << 20]), dump.path, block.offset, crash)
        out.add(*found)
        if problem:
            dump.file.note("secondary-data-damaged", problem, offset=block.offset)


def _shared_data(out: Records, dump: KernelDump) -> None:
    """Torn clocks: the crash hit the update of KUSER_SHARED_DATA."""
    base = _SHARED_DATA[dump.pointer_size]
    lock = dump.u32(base + _UPDATE_LOCK)
    if isinstance(lock, int) and lock & 1 and isinstance(dump.build, int) and dump.build >= 9600:
        out.add(
            Anomaly(
                "clock-torn",
                f"KUSER_SHARED_DATA.TimeUpdateLock is odd ({lock:#x}): the machine stopped while "
                "its clocks were being updated; do not rely on them as a set.",
                dump.origin("KUSER_SHARED_DATA", base + _UPDATE_LOCK),
                "TimeUpdateLock",
            )
        )
    for offset, name in _SHARED_TIMES:
        values = dump.unpack("III", base + offset)
        if isinstance(values, Absent) or values[1] == values[2]:
            continue
        out.add(
            Anomaly(
                "clock-torn",
                f"KUSER_SHARED_DATA.{name} was being updated when the machine stopped "
                f"(High1 {values[1]:#x}, High2 {values[2]:#x}); do not rely on it.",
                dump.origin("KUSER_SHARED_DATA", base + offset),
                name,
            )
        )
