"""The command ``dumpstart``: arguments in, report out, exit code.

Invariant: the only module that prints or exits. Results go to stdout, all else to stderr. 0 clean,
1 findings at or above --fail-on, 2 unusable input or usage, said in one sentence.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any, Callable

from . import outputs
from .dryrun import commands as dryrun
from .dryrun.ask import Ask
from .errors import AnalyzerError, InputError, UsageError
from .files import reason
from .live import commands as live
from .live import dry_run as live_dry_run
from .population import commands as population
from .sources import export
from .sources import options as source_options

_EPILOG = """\
exit codes: 0 clean, 1 findings at or above --fail-on, 2 unusable input or usage

examples:
  dumpstart analyze C:\\Windows\\MEMORY.DMP
  dumpstart analyze ticket.zip
  dumpstart show filters MEMORY.DMP --format csv --output filters.csv
  dumpstart explain filter-disabled
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, as every other error is said.

    Options cannot be cut short: a later option would change what the short form means.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def _print_message(self, message: str, file: Any = None) -> None:
        _print([message])  # argparse swallows what goes wrong

    def error(self, message: str) -> Any:
        raise UsageError(f"{message}; '{self.prog} -?' shows the usage.")


class _Terminated(BaseException):
    """The system asks the program to end: what it made for itself alone is removed first."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a console code page cannot hold every name
            stream.reconfigure(errors="backslashreplace")
    arguments = argparse.Namespace()
    try:
        with _ended_by_signals():
            try:
                _parser().parse_args(argv, arguments)
                code = int(arguments.run(arguments))
            except SystemExit as stop:  # argparse after --help and --version
                code = int(stop.code or 0)
            _print(())
            return code
    except AnalyzerError as error:
        from .formatting import clean

        text = _redacted(error, arguments) if getattr(arguments, "redact", False) else str(error)
        _tell(f"dumpstart: {clean(text, 2000)}")
        return error.exit_code
    except KeyboardInterrupt:
        _tell("dumpstart: stopped")
        return 130
    except _Terminated as stop:
        _tell("dumpstart: stopped")
        return 128 + int(stop.args[0])


def _redacted(error: AnalyzerError, arguments: Any) -> str:
    """An error without the names of files."""
    if isinstance(error, InputError):
        return error.problem
    if not isinstance(error, UsageError):
        return "nothing of what was given can be used"
    text = str(error)
    for path in [*getattr(arguments, "paths", ()), str(getattr(arguments, "output", ""))]:
        text = text.replace(path, "(left out)") if path else text
    return text


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Lets what asks the program to end unwind it, so that nothing is left behind."""

    def stop(number: int, _: Any) -> None:
        raise _Terminated(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):  # the last: a closed console of Windows
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
    analyze.add_argument("--dry-run", action="store_true", help="call filters, see 'dryrun -?'")
    dry = _command(commands, _dryrun, "what callbacks would do: calls them on a copy of memory")
    _paths(dry, ("text", "csv", "json"), "*")
    dryrun.options(dry)
    live_dry_run.options(dry)
    analyze.add_argument(
        "-v", "--verbose", action="store_true", help="every field and where it was read (text)"
    )
    info = _command(commands, _info, "what a file is, what it can and cannot tell")
    _paths(info, ("text", "json"))
    show = _command(commands, _show, "one table")
    show.add_argument("table", metavar="TABLE", help="such as filters, callbacks or modules")
    _paths(show, ("text", "csv", "json", "jsonl", "parquet"))
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


def _paths(parser: argparse.ArgumentParser, formats: Sequence[str], count: str = "+") -> None:
    about = "dumps, traces, logs, exports of one machine, or a folder or zip archive of them"
    parser.add_argument("paths", metavar="PATH", nargs=count, help=about)
    parser.add_argument("--format", choices=formats, default="text")
    parser.add_argument("--output", metavar="FILE", default="-", help="default: stdout")
    population.redact_option(parser)
    source_options.add(parser)


class _Version(argparse.Action):
    """Asks for the version only when it is wanted: the look-up costs start-up time."""

    def __init__(self, option_strings: Any, dest: str, **_: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version")

    def __call__(self, parser: Any, *_: Any) -> None:
        from . import __version__

        _print([f"dumpstart {__version__}\n"])
        parser.exit()


def _analyze(arguments: Any) -> int:
    from . import reports

    if arguments.dry_run:
        dryrun.require()
    case = _open(arguments, Ask(arguments.dry_run))
    code: int = case.exit_code(arguments.fail_on)
    options: dict[str, Any] = {}
    if arguments.format == "text":
        options["colour"] = _colour(arguments)
        options["details"] = arguments.verbose
    elif arguments.format == "junit":
        options["fail_on"] = arguments.fail_on
    _write(arguments, reports.write(case.records, arguments.format, **options))
    return code


def _dryrun(arguments: Any) -> int:
    from .case import Case
    from .checks import run
    from .reports import dry_runs

    wanted = dryrun.ask(arguments)
    if live_dry_run.is_named(arguments):
        case = Case(live_dry_run.of_target(arguments, wanted))
        case.records.add(*run(case.records))
    else:
        case = _open(arguments, wanted)
    _write(arguments, dry_runs.report(case.records, arguments.format))
    return dry_runs.exit_code(case.records)


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
    wanted = listing.wanted_events(arguments)
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


def _export(arguments: Any) -> int:
    outputs.protect(arguments.output, [arguments.path])
    return export.run(arguments, _tell)


def _scan(arguments: Any) -> int:
    from .progress import Bar

    bar = (lambda: Bar(sys.stderr)) if _terminal(sys.stderr) else None
    _print(population.scan(arguments, bar))
    return 0


def _population(arguments: Any) -> int:
    outputs.protect(arguments.output, filter(None, [arguments.folder, arguments.labels]))
    _write(arguments, population.study(arguments))
    return 0


def _baseline(arguments: Any) -> int:
    outputs.protect(arguments.output, [arguments.folder])
    _write(arguments, population.baseline(arguments))
    return 0


def _capture(arguments: Any) -> int:
    return live.capture(arguments, _tell, _print)


def _script(arguments: Any) -> int:
    records = _open(arguments).records if arguments.paths else None
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


def _open(arguments: Any, dry_run: Ask | None = None) -> Any:
    from . import open as open_case
    from .gather import expanded

    paths, target = list(expanded(arguments.paths)), arguments.output
    options: dict[str, Any] = {name: getattr(arguments, name, ()) for name in source_options.FLAGS}
    outputs.protect(target, [*paths, *(name for names in options.values() for name in names)])
    options["dry_run"] = dry_run
    is_redacted = getattr(arguments, "redact", False)
    if is_redacted or not _terminal(sys.stderr):  # the bar names files
        case = open_case(*paths, **options)
    else:
        from .progress import Bar

        with closing(Bar(sys.stderr)) as bar:
            case = open_case(*paths, progress=bar, **options)
    found = [str(source.path) for source in case.records["sources"]]
    outputs.protect(target, [name for path in found for name in (path, path.partition("!")[0])])
    if is_redacted:
        from .population.redact import redact

        case.records = redact(case.records)
    return case


def _write(arguments: Any, pieces: Iterable[str], newline: str = "\n") -> None:
    target = getattr(arguments, "output", outputs.STDOUT)
    if target == outputs.STDOUT:
        _print(pieces)
    else:
        outputs.write(target, pieces, newline)


def _print(pieces: Iterable[str]) -> None:
    """Writes to stdout, to the last byte."""
    if sys.stdout is None:  # the shell's >&-
        if pieces:
            raise InputError("stdout", "the output cannot be written: it is closed")
        return
    try:
        for piece in pieces:
            sys.stdout.write(piece)
        sys.stdout.flush()
    except OSError as error:
        # Python would complain again when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # The reader, such as head or more, has seen enough; Windows calls that EINVAL.
        if not isinstance(error, BrokenPipeError) and error.errno != errno.EINVAL:
            problem = f"the output cannot be written: {reason(error)}"
            raise InputError("stdout", problem) from None


def _tell(text: str) -> None:
    with suppress(OSError, AttributeError):  # a stderr that is full or closed
        print(text, file=sys.stderr)


def _terminal(stream: Any) -> bool:
    return bool(getattr(stream, "isatty", lambda: False)())


def _colour(arguments: Any) -> bool:
    """Colour on a terminal that understands it, unless the user does not want any."""
    if arguments.output != "-" or not _terminal(sys.stdout) or os.environ.get("NO_COLOR"):
        return False
    if os.name == "nt":  # older consoles print the escapes
        return "WT_SESSION" in os.environ
    return os.environ.get("TERM", "dumb") != "dumb"
