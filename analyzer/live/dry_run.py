"""Dry runs of a target in a debugger: ``dumpstart dryrun --connect`` and ``!dumpstart dryrun``.

Invariant: the target is only read, stands still while it is read, and runs on afterwards. Standard
library only; the emulator runs in a process of its own.
"""

from __future__ import annotations

import _thread
from typing import TYPE_CHECKING, TypedDict

from ..absence import Absent
from ..dryrun.ask import Ask, Limits, Progress
from ..errors import UsageError
from .options import Options, backend_of

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from ..records import Records
    from .session import Session

#: where the dump block in crashdmp!Context has the bugcheck code, on 64-bit Windows
_CONTEXT_BUGCHECK = 0xE8


class Asked(TypedDict):
    """The dry runs that are wanted, as the worker is told."""

    filters: tuple[str, ...]
    callbacks: tuple[str, ...]
    limits: Limits
    format: str


def options(parser: ArgumentParser) -> None:
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
    about = "seconds until it ends, whatever the target does (default: 300)"
    group.add_argument("--timeout", metavar="S", type=float, default=300.0, help=about)


def is_named(arguments: Namespace) -> bool:
    """True when the options name a target in a debugger; UsageError beside files or for nothing."""
    named = bool(arguments.connect or arguments.remote)
    if named == bool(arguments.paths):
        raise UsageError("name either files or a target in a debugger (--connect, --remote)")
    return named


def of_target(arguments: Namespace, ask: Ask) -> tuple[str, int]:
    """The report and the exit code of the dry runs of a target; the target runs on afterwards.

    A process of its own does it, so a time limit and Ctrl+C end it whatever the engine does.
    """
    from .supervise import dry_run

    connection = arguments.connect or arguments.remote
    backend, joins = backend_of(connection, arguments.backend)
    symbols = ";".join(arguments.symbols) or None
    wanted = Options(
        connection, backend, "", joins or bool(arguments.remote), arguments.engine, symbols,
        timeout=arguments.timeout,
    )  # fmt: skip
    asked: Asked = {
        "filters": ask.filters, "callbacks": ask.callbacks, "limits": ask.limits,
        "format": arguments.format,
    }  # fmt: skip
    told = dry_run(wanted, asked, ask.progress)
    return str(told["report"]), int(told["code"])


class Job:
    """Dry runs in the process that holds the engine; ``stop`` may be called from any thread."""

    def __init__(self, options: Options, asked: Asked, progress: Progress) -> None:
        self.options = options
        limits = Limits(*asked["limits"])
        self._ask = Ask(True, tuple(asked["filters"]), tuple(asked["callbacks"]), limits, progress)
        self._format = asked["format"]
        self._told: dict[str, object] = {}
        self._is_stopped = self._is_running = False

    def stop(self) -> None:
        """Ends the work between two instructions of this program, wherever it is."""
        self._is_stopped = True
        if self._is_running:  # while it attaches an interrupt would leave the target standing
            _thread.interrupt_main()

    def resume(self) -> None:
        """Nothing stands here."""

    def work(self, session: Session) -> None:
        """Runs, checks, writes the report."""
        from ..checks import run
        from ..reports import dry_runs

        self._is_running = True
        try:
            if self._is_stopped:
                raise KeyboardInterrupt
            out = records(session, self._ask)
        finally:
            self._is_running = False
        out.add(*run(out))
        text = "".join(dry_runs.report(out, self._format))
        self._told = {"report": text, "code": dry_runs.exit_code(out)}

    def told(self) -> dict[str, object]:
        """What came of it; empty when it was stopped."""
        return self._told


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
    is_there = isinstance(context, int) and context
    code = session.u32(is_there + _CONTEXT_BUGCHECK) if is_there else Absent("not-found")
    if isinstance(code, int) and session.pointer_size == 8:
        return bool(code)
    return None
