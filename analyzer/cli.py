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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING

from . import arguments as typed
from . import outputs
from .errors import AnalyzerError, InputError, UsageError
from .files import reason
from .sources import options as source_options

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from .case import Case, Progress
    from .dryrun.ask import Ask


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
                given = typed.words(sys.argv[1:] if argv is None else argv)
                parser = typed.build(_RUNS, _print, *given[:1])
                parser.parse_args(given, arguments)
                if getattr(arguments, "formats", None):
                    arguments.format = typed.format_of(arguments, arguments.formats)
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


def _redacted(error: AnalyzerError, arguments: argparse.Namespace) -> str:
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

    def stop(number: int, _: object) -> None:
        raise _Terminated(number)

    before = {}
    for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):  # the last: a closed console of Windows
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            with suppress(ValueError):  # in another thread than the main one they do not arrive
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _analyze(arguments: argparse.Namespace) -> int:
    from . import reports
    from .dryrun.ask import Ask, require

    if arguments.dry_run:
        require()
    case = _open(arguments, Ask(arguments.dry_run))
    code = case.exit_code(arguments.fail_on)
    options: dict[str, object] = {}
    if arguments.format == "text":
        options["colour"] = _colour(arguments)
        options["details"] = arguments.verbose
    elif arguments.format == "junit":
        options["fail_on"] = arguments.fail_on
    if arguments.open and (arguments.format != "html" or arguments.output == outputs.STDOUT):
        raise UsageError("--open shows a page: name an HTML file with --output.")
    _write(arguments, reports.write(case.records, arguments.format, **options))
    if arguments.open:
        import webbrowser
        from pathlib import Path

        webbrowser.open(Path(arguments.output).resolve().as_uri())
    return code


def _collect(arguments: argparse.Namespace) -> int:
    from . import collecting

    _write(arguments, [collecting.script()], newline="\r\n")
    return 0


def _dryrun(arguments: argparse.Namespace) -> int:
    from .dryrun import commands
    from .live import dry_run as live
    from .reports import dry_runs

    wanted = commands.ask(arguments)
    if live.is_named(arguments):
        with _bar() as bar:
            text, code = live.of_target(arguments, wanted._replace(progress=bar))
        _write(arguments, [text])
        return code
    case = _open(arguments, wanted)
    _write(arguments, dry_runs.report(case.records, arguments.format))
    return dry_runs.exit_code(case.records)


def _info(arguments: argparse.Namespace) -> int:
    from .reports import listing

    _write(arguments, listing.sources(_open(arguments).records, arguments.format))
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from .records import TABLES
    from .reports import listing

    if arguments.table not in TABLES:
        raise typed.unknown("table", arguments.table, TABLES)
    if arguments.python:
        from . import collecting

        _write(arguments, [collecting.python_of(arguments)])
        return 0
    if arguments.format == "parquet" and arguments.output == "-":
        raise UsageError("Parquet is not text: name a file with --output.")
    wanted = listing.wanted_events(arguments)
    records = _open(arguments).records
    if wanted:
        from .etw.events import EventTable

        rows = records.tables["events"]
        table = EventTable((), rows) if isinstance(rows, list) else rows
        records.tables["events"] = table.where(**wanted)
    if arguments.format == "parquet":
        from .reports import parquet

        parquet.write(arguments.table, records[arguments.table], arguments.output)
        return 0
    width = listing.screen() if arguments.output == "-" and _terminal(sys.stdout) else None
    _write(arguments, listing.table(arguments.table, records, arguments.format, width))
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from .sources import export

    outputs.protect(arguments.output, [arguments.path])
    return export.run(arguments, _tell)


def _scan(arguments: argparse.Namespace) -> int:
    from .population import commands
    from .progress import Bar

    bar = (lambda: Bar(sys.stderr)) if _terminal(sys.stderr) else None
    _print(commands.scan(arguments, bar))
    return 0


def _population(arguments: argparse.Namespace) -> int:
    from .population import commands

    outputs.protect(arguments.output, filter(None, [arguments.folder, arguments.labels]))
    _write(arguments, commands.study(arguments))
    return 0


def _baseline(arguments: argparse.Namespace) -> int:
    from .population import commands

    outputs.protect(arguments.output, [arguments.folder])
    _write(arguments, commands.baseline(arguments))
    return 0


def _capture(arguments: argparse.Namespace) -> int:
    from .live import commands

    return commands.capture(arguments, _tell, _print)


def _script(arguments: argparse.Namespace) -> int:
    from .live import commands

    records = _open(arguments).records if arguments.paths else None
    # Where lines end in LF alone, DbgEng 10.0.15063 takes some of them apart ($$<).
    _write(arguments, commands.script(arguments, records), newline="\r\n")
    return 0


def _completion(arguments: argparse.Namespace) -> int:
    from . import completion

    _write(arguments, [completion.script(typed.build(_RUNS, _print), arguments.shell)])
    return 0


def _mcp(_: argparse.Namespace) -> int:
    from . import assistant

    assistant.serve()
    return 0


def _explain(arguments: argparse.Namespace) -> int:
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
        raise typed.unknown("rule", arguments.rule, sorted(RULES))
    return 0


def _open(arguments: argparse.Namespace, dry_run: Ask | None = None) -> Case:
    from . import open as open_case
    from .gather import expanded

    paths, target = list(expanded(map(_stdin, arguments.paths))), arguments.output
    names = (*source_options.FLAGS, "known")
    options: dict[str, Sequence[str]] = {name: getattr(arguments, name, ()) for name in names}
    outputs.protect(target, [*paths, *(name for names in options.values() for name in names)])
    expect: Sequence[str] = getattr(arguments, "expect", ())
    is_redacted = getattr(arguments, "redact", False)
    with nullcontext() if is_redacted else _bar() as bar:  # the bar names files
        case = open_case(*paths, progress=bar, dry_run=dry_run, expect=expect, **options)
    found = [str(source.path) for source in case.records["sources"]]
    outputs.protect(target, [name for path in found for name in (path, path.partition("!")[0])])
    if is_redacted:
        from .population.redact import redact

        case.records = redact(case.records)
    return case


def _bar() -> AbstractContextManager[Progress | None]:
    """A progress bar on a terminal, None elsewhere, to be entered."""
    if not _terminal(sys.stderr):
        return nullcontext()
    from .progress import Bar

    return closing(Bar(sys.stderr))


def _stdin(path: str) -> str:
    """A file with what stands in standard input, for ``-``."""
    if path != outputs.STDOUT:
        return path
    from shutil import copyfileobj

    from . import temporary

    name = os.path.join(temporary.make(), "stdin")
    with open(name, "wb") as file:
        copyfileobj(sys.stdin.buffer, file)
    return name


def _write(arguments: argparse.Namespace, pieces: Iterable[str], newline: str = "\n") -> None:
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


def _terminal(stream: object) -> bool:
    return bool(getattr(stream, "isatty", lambda: False)())


def _colour(arguments: argparse.Namespace) -> bool:
    """Colour on a terminal that understands it, unless the user does not want any."""
    if arguments.output != "-" or not _terminal(sys.stdout) or os.environ.get("NO_COLOR"):
        return False
    if os.name == "nt":  # older consoles print the escapes
        return "WT_SESSION" in os.environ
    return os.environ.get("TERM", "dumb") != "dumb"


_RUNS: dict[str, typed.Run] = {
    "analyze": _analyze, "info": _info, "show": _show, "export": _export, "scan": _scan,
    "population": _population, "baseline": _baseline, "capture": _capture, "script": _script,
    "dryrun": _dryrun, "explain": _explain, "collect": _collect,
    "completion": _completion, "mcp": _mcp,
}  # fmt: skip
