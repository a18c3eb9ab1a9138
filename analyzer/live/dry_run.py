"""Dry runs of a target in a debugger: ``dumpstart dryrun --connect`` and ``!dumpstart dryrun``.

Invariant: the target is only read, stands still while it is read, and runs on afterwards. Standard
library only; the emulator runs in a process of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..absence import Absent
from ..dryrun.ask import Ask
from ..errors import UsageError

if TYPE_CHECKING:
    from ..records import Records
    from .session import Session

#: where the dump block in crashdmp!Context has the bugcheck code, on 64-bit Windows
_CONTEXT_BUGCHECK = 0xE8


def options(parser: Any) -> None:
    """Options that name a target in a debugger."""
    group = parser.add_argument_group("a target in a kernel debugger, instead of PATH")
    connect = group.add_mutually_exclusive_group()
    about = "of the target: net:port=50000,key=1.2.3.4, com:port=com1,baud=115200, a VM's socket"
    connect.add_argument("--connect", metavar="CONNECTION", help=about)
    about = "of a debugger that ran .server: tcp:server=HOST,port=5005"
    connect.add_argument("--remote", metavar="CONNECTION", help=about)
    about = "default: dbgeng, which needs no package; for a socket ntoseye"
    group.add_argument("--backend", choices=("dbgeng", "pykd", "ntoseye"), help=about)
    group.add_argument("--engine", metavar="PATH", help="dbgeng.dll (default: it is looked for)")
    about = "seconds to wait for the target (default: 60)"
    group.add_argument("--timeout", metavar="S", type=float, default=60.0, help=about)


def is_named(arguments: Any) -> bool:
    """True when the options name a target in a debugger; UsageError beside files or for nothing."""
    named = bool(arguments.connect or arguments.remote)
    if named == bool(arguments.paths):
        raise UsageError("name either files or a target in a debugger (--connect, --remote)")
    return named


def of_target(arguments: Any, ask: Ask) -> Records:
    """Attaches, runs, lets the target go on."""
    session = _open(arguments)
    try:
        return records(session, ask)
    finally:
        session.close(leave_running=True)


def records(session: Session, ask: Ask) -> Records:
    """What the target holds, and the dry runs of its filters."""
    from ..sources import dry_runs
    from . import find, look

    out = look.records(session)
    found = find.filters(session)
    dry_runs.add(out, session, found.modules, found.rings, had_crashed(session, out), ask)
    return out


def had_crashed(session: Session, out: Records) -> bool | None:
    """Whether the target has crashed: what the debugger, nt or crashdmp says of a bugcheck."""
    from ..dryrun.images import Images

    told = session.bugcheck()
    if not isinstance(told, Absent):
        return bool(told[0])
    modules = out["modules"]
    nt = next((m for m in modules if m.role == "kernel" and m.loaded), None)
    if nt is not None:
        exports = Images(session, modules).exports(nt)
        at = next((a for a, name in exports.items() if name == "KiBugCheckData"), None)
        code = Absent("not-found") if at is None else session.u32(at)
        if isinstance(code, int):
            return bool(code)
    context = next((s.location for s in out["structures"] if s.structure == "crashdmp!Context"), 0)
    code = session.u32(context + _CONTEXT_BUGCHECK) if context else Absent("not-found")
    if isinstance(code, int) and session.pointer_size == 8:
        return bool(code)
    return None


def _open(arguments: Any) -> Session:
    from .options import Options, backend_of
    from .run import open_session

    connection = arguments.connect or arguments.remote
    backend, joins = backend_of(connection, arguments.backend)
    symbols = ";".join(arguments.symbols) or None
    wanted = Options(
        connection, backend, "", joins or bool(arguments.remote), arguments.engine, symbols,
        timeout=arguments.timeout,
    )  # fmt: skip
    return open_session(wanted, lambda: None)
