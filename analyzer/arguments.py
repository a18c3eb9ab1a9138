"""What can be typed after ``dumpstart``: commands, options, and the short ways to say them.

Invariant: nothing here reads an input or prints; a word that is not known is answered with the
nearest that is.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from .errors import UsageError
from .sources import options as source_options

_EPILOG = """\
exit codes: 0 clean, 1 findings at or above --fail-on, 2 unusable input or usage

examples:
  dumpstart analyze C:\\Windows\\MEMORY.DMP
  dumpstart analyze ticket.zip
  dumpstart show filters MEMORY.DMP --format csv --output filters.csv
  dumpstart explain filter-disabled
"""


Run = Callable[[argparse.Namespace], int]
Print = Callable[[Iterable[str]], None]
Fill = Callable[[argparse.ArgumentParser], None]


class _Help(argparse.HelpFormatter):
    """Asks for the terminal's width when help is shown; argparse does for each option, slowly."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=78)

    def format_help(self) -> str:
        from shutil import get_terminal_size

        self._width = get_terminal_size().columns - 2
        return super().format_help()


class _RawHelp(_Help, argparse.RawDescriptionHelpFormatter):
    """Leaves the lines of the text as they are."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, as every other error is said.

    Options cannot be cut short: a later option would change what the short form means.
    ``fill`` adds them when they are first asked for: those of other commands only cost time.
    """

    show: Print = staticmethod(lambda _: None)

    def __init__(self, fill: Fill | None = None, **options: Any) -> None:
        super().__init__(**{"formatter_class": _Help, **options}, allow_abbrev=False)
        self._fill = fill

    def fill(self) -> None:
        """Adds the options, once."""
        fill, self._fill = self._fill, None
        if fill:
            fill(self)

    def parse_known_args(self, *arguments: Any, **options: Any) -> Any:
        """As argparse does, with all options known."""
        self.fill()
        return super().parse_known_args(*arguments, **options)

    def _print_message(self, message: str, file: object = None) -> None:
        type(self).show([message])  # argparse swallows what goes wrong

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; '{self.prog} -?' shows the usage.")


_OF_NO_COMMAND = ("-h", "-?", "--help", "--version")


def words(argv: Sequence[str]) -> list[str]:
    """The arguments with ``analyze`` before a file or an option that stands where a command would.

    A word that is neither a file nor a command is refused, with the command that looks like it.
    """
    given = list(argv)
    first = given[0] if given else ""
    if not first or first in (*COMMANDS, *_OF_NO_COMMAND):
        return given
    if first.startswith("-"):
        return ["analyze", *given]
    looks_like_a_path = any(mark in first for mark in "./\\*?:")
    if os.path.lexists(first) or looks_like_a_path:
        return ["analyze", *given]
    raise unknown("command", first, COMMANDS)


def unknown(what: str, word: str, known: Iterable[str]) -> UsageError:
    """The error for a word that is not known, with the one that was most probably meant."""
    from difflib import get_close_matches

    known = list(known)
    close = get_close_matches(word, known, n=1, cutoff=0.6)
    shown = ", ".join(known[:24])
    hint = f"did you mean '{close[0]}'?" if close else f"there are {shown}."
    return UsageError(f"there is no {what} '{word}'; {hint}")


def format_of(arguments: argparse.Namespace, formats: Iterable[str]) -> str:
    """The format asked for; where none was, the one that the output's name ends with."""
    if arguments.format:
        return str(arguments.format)
    from .reports import SUFFIXES

    suffix = os.path.splitext(getattr(arguments, "output", "-"))[1].lower()
    named = SUFFIXES.get(suffix, "text")
    return named if named in set(formats) else "text"


def build(runs: Mapping[str, Run], out: Print, first: str = "") -> Parser:
    """The parser; of the first word's command alone, where that is one: the others cost time."""
    Parser.show = staticmethod(out)
    parser = Parser(
        prog="dumpstart",
        description="What the Windows crash dump filter drivers did, from dumps, traces and logs.",
        epilog=_EPILOG,
        formatter_class=_RawHelp,
        add_help=False,
    )
    _help(parser)
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(
        metavar="COMMAND", required=True, parser_class=Parser, prog=parser.prog
    )
    for name in [first] if first in COMMANDS else COMMANDS:
        text, fill = COMMANDS[name]
        one = commands.add_parser(name, fill=fill, help=text, description=text, add_help=False)
        _help(one)
        one.set_defaults(run=runs[name])
    return parser


def _analyze(parser: argparse.ArgumentParser) -> None:
    from .reports import FORMATS

    _paths(parser, tuple(FORMATS))
    parser.add_argument(
        "--fail-on",
        choices=("error", "warning", "expectation", "never"),
        default="warning",
        help="exit with 1 from this severity on, or for --expect alone (default: warning)",
    )
    source_options.add_gate(parser)
    parser.add_argument("--open", action="store_true", help="show the page in a browser (HTML)")
    parser.add_argument("--dry-run", action="store_true", help="call filters, see 'dryrun -?'")
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="every field and where it was read (text)"
    )


def _dryrun(parser: argparse.ArgumentParser) -> None:
    from .dryrun import commands as dryrun
    from .live import dry_run as live_dry_run

    _paths(parser, ("text", "csv", "json"), "*")
    dryrun.options(parser)
    live_dry_run.options(parser)


def _info(parser: argparse.ArgumentParser) -> None:
    _paths(parser, ("text", "json"))


def _show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", metavar="TABLE", help="such as filters, callbacks or modules")
    _paths(parser, ("text", "csv", "json", "jsonl", "parquet"))
    parser.add_argument("--python", action="store_true", help="print the Python that gives it")
    events = parser.add_argument_group("only these rows of the table events")
    events.add_argument("--provider", metavar="NAME", help="name or GUID")
    events.add_argument("--id", metavar="N", type=int, action="append", help="may be repeated")
    events.add_argument("--from", metavar="TIME", dest="since", help="UTC, 2026-03-01T10:20:30Z")
    events.add_argument("--to", metavar="TIME", dest="until", help="UTC")


def _export(parser: argparse.ArgumentParser) -> None:
    from .sources import export

    export.options(parser)


def _scan(parser: argparse.ArgumentParser) -> None:
    from .population import commands

    commands.scan_options(parser)


def _population(parser: argparse.ArgumentParser) -> None:
    from .population import commands

    commands.study_options(parser)


def _baseline(parser: argparse.ArgumentParser) -> None:
    from .population import commands

    commands.baseline_options(parser)


def _capture(parser: argparse.ArgumentParser) -> None:
    from .live import commands

    commands.capture_options(parser)


def _script(parser: argparse.ArgumentParser) -> None:
    from .live import commands

    commands.script_options(parser)


def _explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rule", metavar="RULE", nargs="?", help="none: list all rules")


def _completion(parser: argparse.ArgumentParser) -> None:
    from . import completion

    completion.options(parser)


def _collect(parser: argparse.ArgumentParser) -> None:
    from . import collecting

    collecting.options(parser)


#: name -> what it is for, and what adds its options
COMMANDS: dict[str, tuple[str, Fill | None]] = {
    "analyze": ("what happened, and what is wrong", _analyze),
    "dryrun": ("what callbacks would do: calls them on a copy of memory", _dryrun),
    "info": ("what a file is, what it can and cannot tell", _info),
    "show": ("one table", _show),
    "export": ("an ETW session as a trace, or a dump cut to what matters", _export),
    "scan": ("analyze many cases into a data set", _scan),
    "population": ("what goes with slow or failed dumps", _population),
    "baseline": ("save what is normal for a fleet", _baseline),
    "capture": ("record callbacks in a live kernel debugger", _capture),
    "script": ("a WinDbg script that records callbacks", _script),
    "explain": ("what a finding means and what to do", _explain),
    "collect": ("a script that gathers the files of a crash", _collect),
    "completion": ("a script that completes commands and options in a shell", _completion),
    "mcp": ("a server for assistants (Model Context Protocol, on stdin and stdout)", None),
}


def _help(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-h", "-?", "--help", action="help", help="show this help")


def _paths(parser: argparse.ArgumentParser, formats: Sequence[str], count: str = "+") -> None:
    about = "dumps, traces, logs, exports of one machine, or a folder or zip archive of them"
    parser.add_argument("paths", metavar="PATH", nargs=count, help=about)
    parser.add_argument("--format", choices=formats, help="default: by the output's name, or text")
    parser.add_argument("-o", "--output", metavar="FILE", default="-", help="default: stdout")
    parser.set_defaults(formats=tuple(formats))
    source_options.add_redact(parser)
    source_options.add(parser)


class _Version(argparse.Action):
    """Asks for the version only when it is wanted: the look-up costs start-up time."""

    def __init__(self, option_strings: Sequence[str], dest: str, **_: object) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from . import __version__

        Parser.show([f"dumpstart {__version__}\n"])
        parser.exit()
