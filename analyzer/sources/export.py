"""The command ``export``: one ETW session of a trace or a kernel dump as a trace of its own.

Invariant: what is exported is what the table of events shows. Nothing heavy is imported before the
command runs.
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import TYPE_CHECKING, Any, Callable

from ..errors import UnsupportedError, UsageError
from . import identify

if TYPE_CHECKING:
    from ..etw.trace import Trace


def options(parser: ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("path", metavar="FILE", help="kernel dump or trace")
    parser.add_argument("--etl", action="store_true", required=True, help="as an .etl file")
    parser.add_argument("--output", metavar="OUT.etl", required=True)
    parser.add_argument("--session", metavar="NAME", help="name or number, if there are several")


def run(arguments: Any, say: Callable[[str], None]) -> int:
    """Writes the session; the exit code."""
    if arguments.output == "-":
        raise UsageError("A trace is no text: name a file with --output.")
    found = sessions(arguments.path)
    from ..etw import export

    trace = export.choose(found, arguments.session, arguments.path)
    events, name = export.write(trace, arguments.output), trace.session.name[:200]
    told = f"{arguments.output}: session {name!r}, {events:,} events with the trace header"
    if not trace.clock.known:
        told += "; its clock is not known: the times that other tools show are not real"
    say(told)
    return 0


def sessions(path: str) -> list[Trace]:
    """Every session of a trace or a dump; refuses other files."""
    kind = identify(path)
    if kind.module == "etl":
        from ..etw.trace import Trace

        return [Trace.open(path)]
    if kind.module == "dump":
        from ..dumpfile import open_dump
        from .dump_events import DumpEvents

        return DumpEvents(open_dump(path)).sessions()
    advice = "ETW sessions are in traces (.etl) and kernel dumps"
    raise UnsupportedError(path, f"this is {kind.name}", advice=advice)
