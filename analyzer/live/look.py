"""What a debugger's target holds right now, as records: the same walk and the same words as a dump.

Invariant: changes nothing in the target. Standard library only.
"""

from __future__ import annotations

from typing import Any

from ..absence import Absent
from ..dumpstack import roles
from ..dumpstack.context import last_failure
from ..dumpstack.describe import Failure, describe, structures
from ..dumpstack.scan import scan_chunks
from ..dumpstack.walk import contexts, from_nodes, rings, unique
from ..names import bugchecks
from ..records import Machine, Origin, Records, Source
from .session import Session, plain


def records(session: Session) -> Records:
    """Machine, modules, filters, extensions and callbacks of a session."""
    out = Records()
    modules = roles.classify(session.modules(), session.unloaded())
    bugcheck = session.bugcheck()
    crashdmp = next((m for m in modules if m.role == roles.CRASH_DUMP_DRIVER and m.loaded), None)
    known = contexts(session, crashdmp, bugcheck if isinstance(bugcheck, Absent) else bugcheck[0])
    recorded = session.recorded_rings()
    found = rings(session, modules, known.context) if recorded is None else recorded
    filters = [m for m in modules if m.role == roles.FILTER and m.stack and m.loaded]
    stacks = {ring.stack for ring in found if ring.nodes}
    if not stacks or not stacks >= {m.stack for m in filters}:
        stack_modules = [m for m in modules if m.stack and m.loaded]
        pieces = (
            piece for start, size in session.regions() for piece in session.chunks(start, size)
        )
        nodes, more = scan_chunks(session, stack_modules, pieces)
        found = unique([*found, *more, *from_nodes(session, stack_modules, nodes)])
    failure = Failure(known.context, known.context, "likely", None)
    if isinstance(known.context, int):
        failure = Failure(*last_failure(session, known.context, filters))
    described = describe(session, modules, found, failure, "")
    out.add(_source(session, len(described.filters)), _machine(session, bugcheck), *modules)
    out.add(*described.filters, *described.extensions, *described.callbacks)
    out.add(*structures(session, modules, found))
    return out


def _source(session: Session, filters: int) -> Source:
    return Source(
        session.path,
        "debugger session",
        f"through {session.backend}",
        None,
        session.architecture,
        f"modules; {filters} crash dump filters" if filters else "modules",
        "calls of the callbacks, until they are watched (!dumpstart arm)",
        Origin(session.path, "the debugger's target"),
    )


def _machine(session: Session, bugcheck: tuple[int, ...] | Absent) -> Machine:
    untold = Absent("not-recorded", "the debugger does not tell it")
    values: dict[str, Any] = dict.fromkeys(Machine._fields, untold)
    values.update(
        build=session.build,
        architecture=session.architecture,
        processors=session.processors(),
        origin=Origin(session.path, "the debugger's target"),
    )
    numbers = plain(bugcheck)
    if numbers and numbers[0] and len(numbers) == 5:
        code = numbers[0] & 0xFFFFFFFF
        values.update(bugcheck=code, bugcheck_name=bugchecks.name(code))
        values.update({f"parameter{place}": numbers[place] for place in range(1, 5)})
    return Machine(**values)
