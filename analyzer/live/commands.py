"""The commands ``capture`` and ``script``: their options, and what they run.

Invariant: defining the options imports nothing of the live half; that happens when a command runs.
Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Callable

from ..errors import AnalyzerError, UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from ..records import Records
    from .options import Options
    from .routines import Routine

_ARCHITECTURES = ("x64", "x86", "arm64")


def script_options(parser: ArgumentParser) -> None:
    """Options of ``dumpstart script``."""
    parser.add_argument("paths", metavar="PATH", nargs="*", help="dump or capture of the machine")
    parser.add_argument("--output", metavar="FILE", default="-", help="default: stdout")
    parser.add_argument("--architecture", choices=_ARCHITECTURES, help="default: that of PATH")
    parser.add_argument(
        "--log", metavar="FILE", default="dumpstart.log", help="log that the script opens"
    )
    parser.add_argument(
        "--stop-on", metavar="WHEN", default="never",
        help="failure, return, never: stand at the return of such a call (default: never)",
    )  # fmt: skip
    _shared_options(parser, "off")


def capture_options(parser: ArgumentParser) -> None:
    """Options of ``dumpstart capture``."""
    parser.add_argument(
        "connection", metavar="CONNECTION",
        help="of the target: net:port=50000,key=1.2.3.4, com:port=com1,baud=115200, a VM's socket; "
        "of a debugger that ran .server: tcp:server=HOST,port=5005",
    )  # fmt: skip
    parser.add_argument(
        "--output", metavar="FILE", help="capture file to write (default: dumpstart-TIME.jsonl)"
    )
    parser.add_argument(
        "--backend", choices=("dbgeng", "pykd", "ntoseye"),
        help="default: dbgeng, which needs no package; for a socket ntoseye",
    )  # fmt: skip
    parser.add_argument("--engine", metavar="PATH", help="dbgeng.dll (default: it is looked for)")
    parser.add_argument("--symbols", metavar="PATH", help="symbol path; none is needed")
    parser.add_argument(
        "--timeout", metavar="S", type=_seconds, default=3600,
        help="seconds to wait for the target, and then to capture (default: 3600)",
    )  # fmt: skip
    parser.add_argument("--calls", metavar="N", type=_whole, help="stop after so many calls")
    parser.add_argument(
        "--stop-on", metavar="WHEN", default="never",
        help="failure, slow=MS, return, never: stand at the return of such a call (default: never)",
    )  # fmt: skip
    parser.add_argument(
        "--first-bytes", metavar="N", type=_whole, default=0,
        help="of what Dump_Write is given, at most 256 (default: none)",
    )  # fmt: skip
    parser.add_argument(
        "--fail-on", choices=("error", "warning", "never"), default="warning",
        help="exit with 1 from this severity on (default: warning)",
    )  # fmt: skip
    _shared_options(parser, "first:100")


def _shared_options(parser: ArgumentParser, writes: str) -> None:
    parser.add_argument(
        "--callback", metavar="[NAME=]WHERE", action="append", default=[],
        help="module!symbol, module+0xOFFSET or 0xADDRESS; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--writes", metavar="LIMIT", default=writes,
        help=f"first:N,last:N, all or off for calls of Dump_Write (default: {writes})",
    )  # fmt: skip
    parser.add_argument("--tsc-hz", metavar="HZ", type=_whole, help="frequency of the target's TSC")


def _whole(text: str) -> int:
    """A number from 1."""
    if not text.isdecimal() or not 0 < int(text) < 1 << 63:
        raise ValueError(text)
    return int(text)


def _seconds(text: str) -> float:
    """A time that can be waited for."""
    seconds = float(text)
    if not 0 < seconds <= 1e7:
        raise ValueError(text)
    return seconds


def script(arguments: Namespace, records: Records | None) -> Iterator[str]:
    """The lines of the script that was asked for."""
    from . import script as writer
    from .options import parse_stop_on
    from .routines import of_callbacks, parse, parse_writes

    wanted: list[Routine] = [parse(text) for text in arguments.callback]
    architecture = arguments.architecture
    if records is not None:
        wanted += of_callbacks(records["callbacks"], records["modules"])
        if not wanted:
            raise UsageError(
                "no callback of a filter is in what was given (a kernel dump has them, a minidump "
                "seldom); name one with --callback"
            )
        known = (m.architecture for m in records["machine"] if isinstance(m.architecture, str))
        own = next(known, "").split("-")[0]
        architecture = architecture or own
        if own and own != architecture:
            raise UsageError(f"--architecture is {architecture}, but what was given is of {own}")
    if not architecture:
        raise UsageError("give --architecture, or a dump of the machine")
    modules = records["modules"] if records is not None else ()
    stamps = {
        re.sub(r"[^\w$]", "_", str(m.name).rpartition(".")[0]).lower(): m.time_date_stamp
        for m in modules
        if isinstance(m.time_date_stamp, int)
    }
    # Relative, it would lie in a folder that depends on how the debugger was started.
    log = os.path.abspath(arguments.log) if os.name == "nt" else arguments.log
    hertz = arguments.tsc_hz or _frequency(arguments.paths)
    writes, stop_on = parse_writes(arguments.writes), parse_stop_on(arguments.stop_on)
    lines = writer.write(wanted, architecture, log, writes, hertz, stamps, stop_on)
    return (line + "\n" for line in list(lines))


def _frequency(paths: list[str]) -> int | None:
    """The frequency of the clock, where a capture of the machine knows it."""
    from ..sources.capture_format import number, read

    for path in paths:
        with contextlib.suppress(OSError, AnalyzerError):
            for line in islice(read(path), 10_000):
                if line.fact is not None and line.fact.get("fact") == "clock":
                    return number(line.fact, "hz")
    return None


def capture(
    arguments: Namespace, say: Callable[[str], None], show: Callable[[Iterator[str]], None]
) -> int:
    """Runs a capture and answers; ``say`` shows progress. The exit code is that of the command."""
    from .supervise import run

    outcome = run(options_of(arguments), say)
    if not outcome.calls:
        say("no call was captured")
        return 1
    return _answer(outcome.files, arguments.fail_on, show)


def options_of(arguments: Namespace) -> Options:
    """The options of a capture; what is wrong with them is a usage error."""
    from .options import Options, backend_of, free_name, parse_stop_on
    from .routines import parse, parse_writes

    for text in arguments.callback:
        parse(text)
    parse_writes(arguments.writes)
    parse_stop_on(arguments.stop_on)
    backend, joins = backend_of(arguments.connection, arguments.backend)
    output = arguments.output or free_name()
    if os.path.exists(output) and os.path.getsize(output):
        raise UsageError(f"{output} is there already; a capture is not written over it")
    return Options(
            connect=arguments.connection, backend=backend, output=output,
            is_server=joins, engine=arguments.engine, symbols=arguments.symbols,
            timeout=arguments.timeout, calls=arguments.calls,
            callbacks=tuple(arguments.callback), writes=arguments.writes,
            first_bytes=arguments.first_bytes, tsc_hz=arguments.tsc_hz,
            stop_on=arguments.stop_on,
    )  # fmt: skip


def _answer(files: list[str], fail_on: str, show: Callable[[Iterator[str]], None]) -> int:
    """The answer and the findings, as ``analyze`` gives them."""
    from .. import open as open_case
    from ..reports import write

    case = open_case(*files)
    show(chain(["\n"], write(case.records, "text")))
    code: int = case.exit_code(fail_on)
    return code
