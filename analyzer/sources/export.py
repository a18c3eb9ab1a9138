"""The command ``export``: one ETW session as a trace of its own, or a slice of a dump.

Invariant: what is exported of a session is what the table of events shows. Nothing heavy is
imported before the command runs.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Callable

from ..errors import UnsupportedError, UsageError
from . import identify, slices

if TYPE_CHECKING:
    from ..etw.trace import Trace


def options(parser: ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("path", metavar="FILE", help="kernel dump or trace")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--etl", action="store_true", help="one ETW session as an .etl file")
    what.add_argument(
        "--slice", action="store_true", help="the part of a dump that its analysis reads"
    )
    parser.add_argument("--output", metavar="OUT", required=True)
    parser.add_argument("--session", metavar="NAME", help="name or number, if there are several")
    slices.options(parser)


def run(arguments: Namespace, say: Callable[[str], None]) -> int:
    """Writes the session; the exit code."""
    if arguments.output == "-":
        raise UsageError("What is exported is no text: name a file with --output.")
    if arguments.slice:
        if arguments.session:
            raise UsageError("--session is for --etl.")
        return slices.run(arguments, say)
    if arguments.with_code or arguments.redact or arguments.secondary != "all":
        raise UsageError("--with-code, --redact and --secondary are for --slice.")
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
