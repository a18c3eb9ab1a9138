"""The command ``dumpstart``: arguments in, report out, exit code.

Invariant: the only module that prints or exits. Results go to stdout, all else to stderr. 0 clean,
1 findings at or above --fail-on, 2 unusable input or usage, said in one sentence.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any, Callable, TextIO

from .errors import AnalyzerError, InputError, UsageError
from .live import commands as live
from .population import commands as population
from .sources import export

_EPILOG = """\
exit codes: 0 clean, 1 findings at or above --fail-on, 2 unusable input or usage

examples:
  dumpstart analyze C:\\Windows\\MEMORY.DMP
  dumpstart analyze ticket.zip
  dumpstart show filters MEMORY.DMP --format csv --output filters.csv
  dumpstart explain filter-disabled
"""

_TRACE_OPTIONS = {
    "manifests": "instrumentation manifest (.man)",
    "tmf": "TMF file of WPP messages, or a folder of them",
    "mapping": "TOML file: which events are callbacks of a filter",
    "baseline": "what is normal: a capture of a good run, or a file of 'dumpstart baseline'",
}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, as every other error is said.

    Options cannot be cut short: a later option would change what the short form means.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> Any:
        raise UsageError(f"{message}; '{self.prog} -?' shows the usage.")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a console code page cannot hold every name
            stream.reconfigure(errors="backslashreplace")
    try:
        arguments = _parser().parse_args(argv)
        return int(arguments.run(arguments))
    except SystemExit as stop:  # argparse after --help and --version
        return int(stop.code or 0)
    except AnalyzerError as error:
        from .formatting import clean

        print(f"dumpstart: {clean(error, 2000)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("dumpstart: stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    from .reports import FORMATS

    parser = _Parser(
        prog="dumpstart",
        description="What the Windows crash dump filter drivers did, from dumps, traces and logs.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    _help(parser)
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)

    analyze = _command(commands, _analyze, "what happened, and what is wrong")
    _paths(analyze, tuple(FORMATS))
    analyze.add_argument(
        "--fail-on",
        choices=("error", "warning", "never"),
        default="warning",
        help="exit with 1 from this severity on (default: warning)",
    )
    info = _command(commands, _info, "what a file is, what it can and cannot tell")
    _paths(info, ("text", "json"))
    show = _command(commands, _show, "one table")
    show.add_argument("table", metavar="TABLE", help="such as filters, callbacks or modules")
    _paths(show, ("text", "csv", "json", "parquet"))
    events = show.add_argument_group("only these rows of the table events")
    events.add_argument("--provider", metavar="NAME", help="name or GUID")
    events.add_argument("--id", metavar="N", type=int, action="append", help="may be repeated")
    events.add_argument("--from", metavar="TIME", dest="since", help="UTC, 2026-03-01T10:20:30Z")
    events.add_argument("--to", metavar="TIME", dest="until", help="UTC")
    export.options(_command(commands, _export, "one ETW session as a trace for other tools"))
    population.scan_options(_command(commands, _scan, "analyze many cases into a data set"))
    population.study_options(_command(commands, _population, "what goes with slow or failed dumps"))
    population.baseline_options(_command(commands, _baseline, "save what is normal for a fleet"))
    live.capture_options(_command(commands, _capture, "record callbacks in a live kernel debugger"))
    live.script_options(_command(commands, _script, "a WinDbg script that records callbacks"))
    explain = _command(commands, _explain, "what a finding means and what to do")
    explain.add_argument("rule", metavar="RULE", nargs="?", help="none: list all rules")
    return parser


def _help(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-h", "-?", "--help", action="help", help="show this help")


def _command(commands: Any, run: Callable[[Any], int], text: str) -> Any:
    name = run.__name__.strip("_")
    parser = commands.add_parser(name, help=text, description=text, add_help=False)
    _help(parser)
    parser.set_defaults(run=run)
    return parser


def _paths(parser: argparse.ArgumentParser, formats: Sequence[str]) -> None:
    about = "dumps, traces, logs, exports of one machine, or a folder or zip archive of them"
    parser.add_argument("paths", metavar="PATH", nargs="+", help=about)
    parser.add_argument("--format", choices=formats, default="text")
    parser.add_argument("--output", metavar="FILE", default="-", help="default: stdout")
    population.redact_option(parser)
    traces = parser.add_argument_group("for traces and captures; each may be repeated")
    for name, text in _TRACE_OPTIONS.items():
        flag = "--" + name.removesuffix("s")
        traces.add_argument(flag, metavar="FILE", action="append", default=[], dest=name, help=text)


class _Version(argparse.Action):
    """Asks for the version only when it is wanted: the look-up costs start-up time."""

    def __init__(self, option_strings: Any, dest: str, **_: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version")

    def __call__(self, parser: Any, *_: Any) -> None:
        from . import __version__

        print(f"dumpstart {__version__}")
        parser.exit()


def _analyze(arguments: Any) -> int:
    from . import reports

    case = _open(arguments)
    code: int = case.exit_code(arguments.fail_on)
    options: dict[str, Any] = {}
    if arguments.format == "text":
        options["colour"] = _colour(arguments)
    elif arguments.format == "junit":
        options["fail_on"] = arguments.fail_on
    _write(arguments, reports.write(case.records, arguments.format, **options))
    return code


def _info(arguments: Any) -> int:
    from .reports import listing

    _write(arguments, listing.sources(_open(arguments).records, arguments.format))
    return 0


def _show(arguments: Any) -> int:
    from .records import TABLES
    from .reports import listing

    if arguments.table not in TABLES:
        known = ", ".join(TABLES)
        raise UsageError(f"there is no table '{arguments.table}'; the tables are {known}.")
    if arguments.format == "parquet" and arguments.output == "-":
        raise UsageError("Parquet is no text: name a file with --output.")
    wanted = _wanted_events(arguments)
    records = _open(arguments).records
    if wanted:
        from .etw.events import EventTable

        rows: Any = records.tables["events"]
        table = EventTable((), rows) if isinstance(rows, list) else rows
        records.tables["events"] = table.where(**wanted)
    if arguments.format == "parquet":
        from .reports import parquet

        parquet.write(arguments.table, records[arguments.table], arguments.output)
        return 0
    width = listing.screen() if arguments.output == "-" and _terminal(sys.stdout) else None
    _write(arguments, listing.table(arguments.table, records, arguments.format, width))
    return 0


def _wanted_events(arguments: Any) -> dict[str, Any]:
    """The conditions on events that were given."""
    from .tables import parsed_time

    wanted = {"provider": arguments.provider, "ids": arguments.id}
    for name in ("since", "until"):
        text = getattr(arguments, name)
        wanted[name] = None if text is None else parsed_time(text)
    wanted = {name: value for name, value in wanted.items() if value is not None}
    if wanted and arguments.table != "events":
        raise UsageError("--provider, --id, --from and --to are for the table events.")
    return wanted


def _export(arguments: Any) -> int:
    return export.run(arguments, lambda text: print(text, file=sys.stderr))


def _scan(arguments: Any) -> int:
    bar = (lambda: Bar(sys.stderr)) if _terminal(sys.stderr) else None
    for piece in population.scan(arguments, bar):
        sys.stdout.write(piece)
    return 0


def _population(arguments: Any) -> int:
    _write(arguments, population.study(arguments))
    return 0


def _baseline(arguments: Any) -> int:
    _write(arguments, population.baseline(arguments))
    return 0


def _capture(arguments: Any) -> int:
    return live.capture(arguments, lambda text: print(text, file=sys.stderr))


def _script(arguments: Any) -> int:
    from .case import open_case

    records = open_case(list(_expanded(arguments.paths))).records if arguments.paths else None
    # Where lines end in LF alone, DbgEng 10.0.15063 takes some of them apart ($$<).
    _write(arguments, live.script(arguments, records), newline="\r\n")
    return 0


def _explain(arguments: Any) -> int:
    from .checks import RULES, explain
    from .checks.rule import SEVERITIES
    from .formatting import aligned, wrapped

    if arguments.rule is None:
        rows = sorted(RULES.values(), key=lambda rule: SEVERITIES.index(rule.severity))
        lines = aligned([(rule.severity, rule.id, rule.title) for rule in rows], "")
        _write(arguments, (line + "\n" for line in lines))
    elif arguments.rule in RULES:
        paragraphs = explain(arguments.rule).rstrip("\n").split("\n")
        _write(arguments, ("\n".join(wrapped(line)) + "\n" for line in paragraphs))
    else:
        raise UsageError(
            f"there is no rule '{arguments.rule}'; the rules are {', '.join(sorted(RULES))}."
        )
    return 0


def _open(arguments: Any) -> Any:
    from .case import open_case

    paths, target = list(_expanded(arguments.paths)), arguments.output
    _keep_inputs(paths, target)
    options = {name: getattr(arguments, name) for name in _TRACE_OPTIONS}
    if options["baseline"]:
        options["judges"], options["baseline"] = population.judges(options["baseline"])
    if not _terminal(sys.stderr):
        case = open_case(paths, **options)
    else:
        with closing(Bar(sys.stderr)) as bar:
            case = open_case(paths, bar, **options)
    found = [str(source.path) for source in case.records["sources"]]
    _keep_inputs([name for path in found for name in (path, path.partition("!")[0])], target)
    if arguments.redact:
        from .population.redact import redact

        case.records = redact(case.records)
    return case


def _keep_inputs(paths: Iterable[str], target: str) -> None:
    """Refuses an output that would overwrite an input, also one found in a folder or archive."""
    if os.path.exists(target) and any(
        os.path.exists(path) and os.path.samefile(path, target) for path in paths
    ):
        raise UsageError(f"{target}: the output would overwrite an input.")


def _expanded(paths: Iterable[str]) -> Iterator[str]:
    """Wildcards filled in, because cmd.exe leaves that to the program."""
    for path in paths:
        if os.path.lexists(path) or not any(mark in path for mark in "*?["):
            yield path
            continue
        from glob import glob

        found = sorted(glob(path))
        if not found:
            raise InputError(path, "no file matches")
        yield from found


def _write(arguments: Any, pieces: Iterable[str], newline: str = "\n") -> None:
    target = getattr(arguments, "output", "-")
    if target != "-":
        try:
            with open(target, "w", encoding="utf-8", newline=newline) as file:
                file.writelines(pieces)
        except OSError as error:
            raise InputError(target, f"the output cannot be written: {_reason(error)}") from None
        return
    if sys.stdout is None:  # the shell's >&-
        raise InputError("stdout", "the output cannot be written: it is closed")
    try:
        for piece in pieces:
            sys.stdout.write(piece)
        sys.stdout.flush()
    except OSError as error:
        # Python would complain again when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # The reader, such as head or more, has seen enough; Windows calls that EINVAL.
        if not isinstance(error, BrokenPipeError) and error.errno != errno.EINVAL:
            raise InputError("stdout", f"the output cannot be written: {_reason(error)}") from None


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def _terminal(stream: Any) -> bool:
    return bool(getattr(stream, "isatty", lambda: False)())


def _colour(arguments: Any) -> bool:
    """Colour on a terminal that understands it, unless the user does not want any."""
    if arguments.output != "-" or not _terminal(sys.stdout) or os.environ.get("NO_COLOR"):
        return False
    if os.name == "nt":  # older consoles print the escapes
        return "WT_SESSION" in os.environ
    return os.environ.get("TERM", "dumb") != "dumb"


class Bar:
    """A progress bar that shows up after a second; call it as case.Progress says.

    A thread keeps the time running while a source is too busy to tell how far it is.
    """

    def __init__(
        self, stream: TextIO, now: Callable[[], float] = time.monotonic, delay: float = 1
    ) -> None:
        self._stream, self._now, self._begin = stream, now, now()
        self._next = self._begin + delay
        self._state = ("", 0, 0)
        self._shown = False
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)
        self._ticker.start()

    def close(self) -> None:
        """Wipes the bar, so that what follows starts on a clean line."""
        self._ended.set()
        self._ticker.join()
        if self._shown:
            self._stream.write("\r" + " " * 79 + "\r")
            self._stream.flush()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Notes how far the work is; only the thread draws."""
        self._state = (what, done, total)

    def _tick(self) -> None:
        while not self._ended.wait(0.1):
            self.draw()

    def draw(self) -> None:
        """Shows the state, once the work has taken long enough."""
        if self._now() < self._next:
            return
        from .formatting import clean

        what, done, total = self._state
        share = min(max(done / total, 0), 1) if total > 0 else 0.0
        blocks = "#" * round(share * 20)
        seconds = self._now() - self._begin
        line = f"[{blocks:<20}] {share:4.0%} {seconds:4.0f} s  {clean(what, 40)}"
        self._stream.write(f"\r{line:<79.79}")
        self._stream.flush()
        self._shown = True
