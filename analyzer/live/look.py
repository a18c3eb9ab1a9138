"""What a debugger's target holds right now, as records: the same walk and the same words as a dump.

Invariant: changes nothing in the target; that a dump was written is said of an open dump alone.
Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from ..absence import Absent
from ..dumpstack import roles
from ..dumpstack.chunk_search import scan_chunks
from ..dumpstack.imports import imported
from ..dumpstack.walk import Contexts, Ring, filter_modules, from_nodes, rings, unique
from ..names import bugchecks
from ..records import SNAPSHOT, Machine, Module, Origin, Records, Source
from ..sources import dump_contradictions, dump_records, not_by_windows
from . import open_dump
from .session import Session, plain


def records(session: Session) -> Records:
    """Machine, modules, filters, extensions and callbacks of a session."""
    out = Records()
    modules = roles.classify(session.modules(), session.unloaded(), partial(imported, session))
    bugcheck = session.bugcheck()
    code = bugcheck if isinstance(bugcheck, Absent) else bugcheck[0]
    dump = open_dump.of(session) if session.is_dump else None
    target = session if dump is None else dump
    known = dump_records.find_contexts(target, modules, code)
    found = _rings(session, modules, known)
    modules = roles.proven(modules, filter_modules(modules, found))
    out.add(
        _machine(session, bugcheck) if dump is None else dump_records.machine(dump, modules),
        *modules,
    )
    dump_records.context_rows(out, target, modules, known)
    wrote, notes = "", []
    if dump is not None:
        dump_records.stages(out, dump, known)
        dump_records.secondary_data(out, dump)
        wrote, notes = dump_records.wrote_dump(out, dump), dump.file.anomalies
    dump_records.filters(
        out, target, modules, known, found, wrote,
        is_whole=all(note.rule != "modules-incomplete" for note in notes),
        has_pages=dump is not None and dump.has_pages,
    )  # fmt: skip
    if dump is not None:
        out.add(*dump_contradictions.check(dump, modules, known, found))
    dump_records.context_copy(out, target, known)
    taken = "" if dump is None else not_by_windows.tell(out, dump)
    out.add(_source(session, dump, out, taken), *notes)
    return out


def _rings(session: Session, modules: list[Module], known: Contexts) -> list[Ring]:
    recorded = session.recorded_rings()
    found = rings(session, modules, known.context) if recorded is None else recorded
    stack_modules = [m for m in modules if m.stack and m.loaded]
    stacks = {ring.stack for ring in found if ring.nodes}
    if stacks and stacks >= {m.stack for m in stack_modules if m.role == roles.FILTER}:
        return found
    pieces = (
        piece for start, size in _joined(session.regions()) for piece in session.chunks(start, size)
    )
    nodes, more = scan_chunks(session, stack_modules, pieces)
    return unique([*found, *more, *from_nodes(session, stack_modules, nodes)])


def _joined(regions: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Ranges in address order, neighbours as one: a node may lie across two of them."""
    start = end = 0
    for first, size in sorted(regions):
        if first > end:
            yield start, end - start
            start, end = first, first
        end = max(end, first + size)
    yield start, end - start


def _source(session: Session, dump: open_dump.OpenDump | None, out: Records, taken: str) -> Source:
    nodes = sum(isinstance(row.node, int) for row in out["filters"])
    holds = ["modules"] + ([f"{nodes} crash dump filters"] if nodes else [])
    lacks = "calls of the callbacks, until they are watched (!dumpstart arm)"
    if session.is_dump:
        lacks = "calls of the callbacks (no dump keeps them)"
        if nodes < len(out["filters"]) and (dump is None or dump.has_pages):
            lacks += "; filters' nodes that only a search of all memory finds (dumpstart analyze)"
        holds.append("the file's header" if dump is not None else "what the debugger knows of it")
    kind = "kernel dump" if session.is_dump else "debugger session"
    return Source(
        session.path,
        SNAPSHOT if taken else kind,
        taken
        or (f"through {session.backend}" if dump is None else out["machine"][0].dump_type_name),
        None if dump is None else dump.file.size,
        session.architecture,
        "; ".join(holds),
        lacks,
        Origin(session.path, "the debugger's target"),
    )


def _machine(session: Session, bugcheck: tuple[int, ...] | Absent) -> Machine:
    untold = Absent("not-recorded", "the debugger does not tell it")
    machine = Machine._make([untold] * len(Machine._fields))._replace(
        build=session.build,
        architecture=session.architecture,
        processors=session.processors(),
        attributes=session.attributes(),
        origin=Origin(session.path, "the debugger's target"),
    )
    numbers = plain(bugcheck)
    if numbers and numbers[0] and len(numbers) == 5:
        code, one, two, three, four = numbers
        code &= 0xFFFFFFFF
        return machine._replace(
            bugcheck=code, bugcheck_name=bugchecks.name(code), parameter1=one, parameter2=two,
            parameter3=three, parameter4=four,
        )  # fmt: skip
    return machine
