"""The commands ``capture`` and ``script``: their options, and what they run.

Invariant: defining the options imports nothing of the live half; that happens when a command runs.
Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Callable

from ..errors import UsageError

if TYPE_CHECKING:
    from ..records import Records
    from .routines import Routine

_ARCHITECTURES = ("x64", "x86", "arm64")


def script_options(parser: Any) -> None:
    """Options of ``dumpstart script``."""
    parser.add_argument("paths", metavar="PATH", nargs="*", help="dump or capture of the machine")
    parser.add_argument("--output", metavar="FILE", default="-", help="default: stdout")
    parser.add_argument("--architecture", choices=_ARCHITECTURES, help="default: that of PATH")
    parser.add_argument(
        "--log", metavar="FILE", default="dumpstart.log", help="log that the script opens"
    )
    _shared_options(parser, "off")


def capture_options(parser: Any) -> None:
    """Options of ``dumpstart capture``."""
    parser.add_argument("--output", metavar="FILE", required=True, help="capture file to write")
    connect = parser.add_mutually_exclusive_group(required=True)
    connect.add_argument("--connect", metavar="STRING", help="such as net:port=50000,key=1.2.3.4")
    connect.add_argument("--remote", metavar="STRING", help="a debugger that runs .server")
    connect.add_argument("--ntoseye", metavar="ADDRESS", help="through ntoseye (extra 'ntoseye')")
    connect.add_argument("--replay", metavar="CAPTURE", help="play a capture again")
    parser.add_argument("--symbols", metavar="PATH", help="symbol path; none is needed")
    parser.add_argument(
        "--timeout", metavar="S", type=_seconds, default=3600, help="seconds (default: 3600)"
    )
    parser.add_argument("--calls", metavar="N", type=_whole, help="stop after so many calls")
    _shared_options(parser, "first:100")


def _shared_options(parser: Any, writes: str) -> None:
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


def script(arguments: Any, records: Records | None) -> Iterator[str]:
    """The lines of the script that was asked for."""
    from . import script as writer
    from .routines import of_callbacks, parse, parse_writes

    wanted: list[Routine] = [parse(text) for text in arguments.callback]
    architecture = arguments.architecture
    if records is not None:
        wanted += of_callbacks(records["callbacks"])
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
    lines = writer.write(
        wanted, architecture, arguments.log, parse_writes(arguments.writes), arguments.tsc_hz
    )
    return (line + "\n" for line in list(lines))


def capture(arguments: Any, say: Callable[[str], None]) -> int:
    """Runs a capture; ``say`` shows progress. The exit code is that of the command."""
    from .run import run

    return run(arguments, say)
