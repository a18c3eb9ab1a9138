"""The header of a dump and its dump stack as records, whoever reads its memory.

Invariant: a dump in a debugger is told in the same words as its file, so all that is asked of it
here is its header, its tags and reads through the target. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Callable

from ..absence import Absent
from ..dumpfile import secondary, storport
from ..dumpfile.kernel import KernelDump
from ..dumpfile.writer import other_writer
from ..dumpstack import fault, roles
from ..dumpstack.context import dump_block, last_failure, progress
from ..dumpstack.describe import Failure, describe, structures
from ..dumpstack.walk import Contexts, Ring, contexts
from ..layouts import mindumpdef
from ..names import bugchecks, ntstatus
from ..names import progress as progress_names
from ..records import (
    Anomaly,
    Evidence,
    Machine,
    Module,
    Records,
    Stage,
    Structure,
    Tag,
    filetime_to_ns,
)
from ..target import Target

#: storport writes one block; more are read as far as they can be of use
MAX_STORAGE_BLOCKS = 8
#: marks of dump stages that come after the filters were started (names/progress.py)
_STARTED = range(0x42, 0x60)


def machine(dump: KernelDump, modules: Sequence[Module] = ()) -> Machine:
    """The crashed machine, as the header tells it; ``modules`` name the code that is blamed."""
    file = dump.file
    number = file.number
    kind = number("DumpType")
    parameters = [number(f"BugCheckParameter{n}") for n in (1, 2, 3, 4)]
    # a debugger or a hypervisor puts the registers of whatever it interrupted into the header
    instruction = None if other_writer(dump) else file.register("ip")
    blamed = fault.find(modules, number("BugCheckCode"), parameters, file.exception(), instruction)
    named = None
    if dump.naming is not None and isinstance(blamed.address, int):
        named = dump.naming(blamed.address)
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
        system_time=crash_time(dump),
        uptime_ns=_uptime(number("SystemUpTime")),
        boot_id=number("BootId"),
        dump_type=kind,
        dump_type_name=_named(kind, lambda value: mindumpdef.DUMP_TYPES.get(value, "unknown")),
        attributes=number("Attributes"),
        attribute_names=_named(number("Attributes"), mindumpdef.attribute_names),
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
        revision=file.diagnosis.revision,
        last_dump_line=file.diagnosis.last_line,
        faulting_address=blamed.address,
        faulting_symbol=named or blamed.symbol,
        faulting_module=blamed.module,
        origin=file.origin(dump.machine_how, dump.machine_offset),
    )


def _named(value: int | Absent, name: Callable[[int], str | None]) -> str | Absent:
    return value if isinstance(value, Absent) else str(name(value))


def _uptime(value: int | Absent) -> int | Absent:
    if isinstance(value, Absent):
        return value
    if not value:  # no kernel crashes in its first 100 ns
        return Absent("unset", "the header holds no uptime")
    if value * 100 >= 1 << 63:
        return Absent("out-of-range", f"an uptime of {value:#x} units of 100 ns")
    return value * 100


# -- dump stack --------------------------------------------------------------------------------


def find_contexts(target: Target, modules: Sequence[Module], bugcheck: int | Absent) -> Contexts:
    """crashdmp!Context and its copy."""
    crashdmp = next((m for m in modules if m.role == roles.CRASH_DUMP_DRIVER and m.loaded), None)
    return contexts(target, crashdmp, bugcheck)


def context_rows(out: Records, target: Target, modules: Sequence[Module], found: Contexts) -> None:
    """Where crashdmp's contexts lie."""
    for name, address in (
        ("crashdmp!Context", found.context),
        ("crashdmp!ContextCopy", found.copy),
    ):
        if isinstance(address, int):
            detail = "starts with the signature CDmp"
            origin = target.origin("CDmp signature in crashdmp's image", address, "likely")
            out.add(Structure(name, None, address, target.symbol(modules, address), detail, origin))


def filters(
    out: Records,
    target: Target,
    modules: Sequence[Module],
    found: Contexts,
    all_rings: Sequence[Ring],
    wrote_dump: str,
    *,
    is_whole: bool,
    has_pages: bool,
) -> None:
    """Filters, extensions, callbacks and what is wrong with their lists.

    ``is_whole``: the list of modules is; ``has_pages``: filters' nodes should be in the memory.
    """
    images = [m for m in modules if m.role == roles.FILTER and m.stack and m.loaded]
    if isinstance(found.context, int):
        failure = Failure(*last_failure(target, found.context, images))
    else:
        failure = Failure(found.context, found.context, "likely", None)
    described = describe(target, modules, all_rings, failure, wrote_dump)
    out.add(*described.filters, *described.extensions, *described.callbacks)
    out.add(*structures(target, modules, all_rings))
    for ring in all_rings:
        listed = sum(m.stack == ring.stack for m in images) if is_whole else None
        stack = f"{ring.stack or 'dump'} stack"
        for rule, text, place, evidence in _ring_faults(ring, stack, listed, has_pages):
            out.add(Anomaly(rule, text, target.origin(ring.how, place), stack, evidence))


def _ring_faults(
    ring: Ring, stack: str, listed: int | None, has_pages: bool
) -> Iterator[tuple[str, str, int, tuple[Evidence, ...]]]:
    """Rule, text, place and evidence; ``listed``: modules that are filters, None if unknown."""
    head = ring.head if isinstance(ring.head, int) else 0
    at_head = Evidence("list head", head, "Address")
    if ring.problem:
        text = f"The list of filters of the {stack} does not close: {ring.problem}."
        yield (
            "filter-ring-broken",
            text,
            head,
            (at_head, Evidence("filters read", len(ring.nodes), "Number")),
        )
    is_open = head and ring.stack and ring.members is None and not ring.problem
    if is_open and listed is not None and listed < ring.least:
        modules = f"{listed or 'no'} filter module{'' if listed == 1 else 's'}"
        text = f"The {stack} has {modules}, but crashdmp's list has at least {ring.least} filters."
        yield "filter-count-differs", text, head, (at_head,)
    for link, reason in ring.unread:
        at_link = (Evidence("link", link, "Address"),)
        if reason.reason in ("not-in-dump", "file-cut") and has_pages:
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


def wrote_dump(out: Records, dump: KernelDump) -> str:
    """Why the filters were likely started: crashdmp starts them before it writes anything."""
    if bugchecks.is_of_running_system(
        dump.file.number("Attributes"), dump.file.number("BugCheckCode")
    ):
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


def stages(out: Records, dump: KernelDump, found: Contexts) -> None:
    """The mark of crashdmp's progress that the dump holds."""
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
    none = Absent("not-recorded", "memory keeps no clock of the stages", "DumpStack.log")
    out.add(
        Stage(
            f"progress-{stage:#04x}",
            value,
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


def context_copy(out: Records, target: Target, found: Contexts) -> None:
    """Compares the pointers of Context that its integrity check protects (0x10 to 0x48)."""
    if not isinstance(found.context, int) or not isinstance(found.copy, int):
        return
    length = 0x10 if target.pointer_size == 8 else 0x0C
    live = target.read(found.context + length, 0x18)
    copy = target.read(found.copy + length, 0x18)
    if isinstance(live, Absent) or isinstance(copy, Absent) or live == copy:
        return
    at = next(i for i in range(len(live)) if live[i] != copy[i]) + length
    out.add(
        Anomaly(
            "context-copy-differs",
            f"crashdmp!Context and its copy differ from offset {at:#x} on; crashdmp compares the "
            "two before it uses them (seen in its code on Windows 7).",
            target.origin("CDmp signature in crashdmp's image", found.context, "likely"),
            "crashdmp.sys",
            (
                Evidence("Context", found.context, "Address"),
                Evidence("ContextCopy", found.copy, "Address"),
            ),
        )
    )


def crash_time(dump: KernelDump) -> int | Absent:
    """The system time in the header, ns since 1970."""
    time = dump.file.number("SystemTime")
    return time if isinstance(time, Absent) else filetime_to_ns(time)


def boot_time(dump: KernelDump) -> int | None:
    """When the crashed system was started, ns since 1970; None where the header does not tell."""
    crash, uptime = crash_time(dump), _uptime(dump.file.number("SystemUpTime"))
    return crash - uptime if isinstance(crash, int) and isinstance(uptime, int) else None


def secondary_data(out: Records, dump: KernelDump) -> None:
    """The tagged blocks, and the storage requests in one of them."""
    crash = crash_time(dump)
    for block in dump.tags:
        origin = dump.file.origin("tagged block of the secondary data", block.header_offset)
        owner = secondary.OWNERS.get(block.guid) or Absent(
            "not-found", "no known owner of this GUID"
        )
        out.add(Tag(block.guid, owner, block.size, origin))
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
