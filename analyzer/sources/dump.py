"""A kernel dump into records: the machine, its dump stack, the last storage requests.

Invariant: reads the dump once, asks for bulk memory only when the structural walk found no filter;
what a dump of this type can never tell is said in its source record.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ..absence import Absent
from ..dryrun.ask import Ask
from ..dumpfile import KernelDump, open_dump
from ..dumpstack import roles
from ..dumpstack.chunk_search import scan_chunks
from ..dumpstack.imports import imported
from ..dumpstack.walk import Contexts, Ring, filter_modules, from_nodes, rings, unique
from ..records import SNAPSHOT, Anomaly, Module, Records, Source
from ..symbols import Names
from ..symbols.images import Images
from . import callbacks_seen, dry_runs, dump_contradictions, dump_records, executing, not_by_windows
from .dump_events import add_events

_NEVER = (
    "duration of any callback; return status of a callback that succeeded (no dump keeps them: "
    "a live session, the filter's own events or DumpStack.log do)"
)
#: KUSER_SHARED_DATA (public: its address and the three-part times are fixed)
_SHARED_DATA = {8: 0xFFFF_F780_0000_0000, 4: 0xFFDF_0000}
_SHARED_TIMES = ((0x08, "InterruptTime"), (0x14, "SystemTime"), (0x320, "TickCount"))
_UPDATE_LOCK = 0x340  # since Windows 8.1 (build 9600); odd while an update is under way


def collect(path: str, **options: Any) -> Records:
    """Records of one kernel dump. Raises UnsupportedError or InputError."""
    return records_of(open_dump(path), **options)


def records_of(
    dump: KernelDump,
    images: Sequence[str] = (),
    symbols: Sequence[str] = (),
    dry_run: Ask | None = None,
) -> Records:
    """Records of an opened dump; folders of image files, and symbol paths that lead to PDBs."""
    out = Records()
    listed, unloaded = dump.modules(), dump.unloaded()
    is_whole = all(note.rule != "modules-incomplete" for note in dump.file.anomalies)
    modules = roles.classify(listed, unloaded, partial(imported, dump), is_whole=is_whole)
    found = dump_records.find_contexts(dump, modules, dump.file.number("BugCheckCode"))
    all_rings = _rings(dump, modules, found)
    modules = roles.proven(modules, filter_modules(modules, all_rings))
    held = Images(dump, modules, images)
    names = Names(held, symbols)
    dump.naming = names.named
    out.add(dump_records.machine(dump, modules), *modules)
    dump_records.context_rows(out, dump, modules, found)
    dump_records.stages(out, dump, found)
    wrote = dump_records.wrote_dump(out, dump)
    dump_records.filters(
        out, dump, modules, found, all_rings, wrote,
        is_whole=is_whole, has_pages=hasattr(dump, "pages"),
    )  # fmt: skip
    executing.add(out, dump, modules, held, names)
    executing.refusals(dump, names)
    callbacks_seen.settle(out)
    dump_records.secondary_data(out, dump)
    add_events(out, dump, dump_records.crash_time(dump), dump_records.boot_time(dump))
    _shared_data(out, dump)
    out.add(*dump_contradictions.check(dump, modules, found, all_rings))
    dump_records.context_copy(out, dump, found)
    crashed = dry_runs.had_crashed(dump.file.number("Attributes"), dump.file.number("BugCheckCode"))
    dry_runs.add(out, dump, modules, all_rings, crashed, dry_run, held)
    for text in dump.limits:
        dump.file.note("search-stopped", f"{text}; more may be there")
    taken = not_by_windows.tell(out, dump)
    out.add(_source(dump, out, all_rings, taken), *dump.file.anomalies)
    return out


# -- the file -------------------------------------------------------------------------------------


def _source(dump: KernelDump, out: Records, found: Sequence[Ring], taken: str) -> Source:
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
    return Source(
        dump.path,
        SNAPSHOT if taken else dump.kind,
        taken or dump.subtype(),
        dump.file.size,
        dump.architecture,
        "; ".join(["crash and machine", *holds]),
        "; ".join([*lacks, _NEVER]),
        dump.file.origin("file signature", 0),
    )


# -- dump stack --------------------------------------------------------------------------------


def _rings(dump: KernelDump, modules: Sequence[Module], found: Contexts) -> list[Ring]:
    result = rings(dump, modules, found.context)
    stack_modules = [m for m in modules if m.stack and m.loaded]
    read = {ring.stack for ring in result if ring.nodes}
    if read and read >= {m.stack for m in stack_modules if m.role == roles.FILTER}:
        return result
    if not stack_modules:
        return result
    if hasattr(dump, "pages"):
        from ..dumpfile.page_search import scan_pages  # numpy: page dumps only
        from ..dumpfile.pagedump import PageDump

        assert isinstance(dump, PageDump)
        nodes = scan_pages(dump, stack_modules)
        return unique([*result, *from_nodes(dump, stack_modules, nodes)])
    blocks = getattr(dump, "blocks", None)
    if blocks:
        first, last = blocks[0][0], max(start + size for start, _, size in blocks)
        nodes, more = scan_chunks(dump, stack_modules, dump.chunks(first, last - first))
        return unique([*result, *more, *from_nodes(dump, stack_modules, nodes)])
    return result


# -- the rest ----------------------------------------------------------------------------------


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
