"""The commands inside WinDbg: ``!dumpstart``, with ``filters``, ``calls``, ``arm``, ``report`` etc.

Invariant: output is plain ASCII that reads well at 80 columns; DML links are an extra that says
nothing new. What is armed stays armed between two commands, because this module stays loaded
(``!py -g``).
Only the standard library and pykd are used.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, Callable

from ..absence import Absent
from ..errors import AnalyzerError, UsageError
from ..records import Callback as CallbackRow
from ..records import Records
from ..sources.capture_format import Fact, Writer, encode
from ..sources.capture_reader import CaptureReader
from . import find, pykd_target
from .callstack import CallStack
from .capture import Capture
from .lines import Narrator
from .options import parse_stop_on
from .routines import parse, parse_writes
from .run import NOTHING
from .session import Session

HELP = """\
!dumpstart [COMMAND] [OPTIONS]   what the crash dump filter drivers did

  (none)      overview: what was watched, machine, dump stack, filters
  filters     each filter with its FILTER_EXTENSION, field by field
  callbacks   their routines, how often each was called, its last status
  calls       each call captured so far, one line each
  stack       where the target stands: the call stack, calls under way
  dryrun      what each callback would do now, on a copy of the memory
  arm         watch all callbacks; then continue with  g
  report      findings and all of the above
  stop        end the capture and remove its breakpoints
  -?          this help

options of arm:
  --output FILE          capture file (default: dumpstart1.jsonl, or the next
                         number that is free, in the temporary folder)
  --callback [NAME=]WHERE  also watch module!symbol, module+0xOFFSET, 0xADDRESS
  --writes LIMIT         first:100,last:50 | all | off (default first:100)
  --stop-on WHEN         failure | slow=MS | return | never (default never):
                         stand at the return of such a call
  --tsc-hz HZ            frequency of the target's TSC, if it is known
  --facts                print each fact as well: a log of the session is then
                         a capture
  --quiet                print nothing while calls happen

Options may also stand in the environment variable DUMPSTART_ARGS, or in the
file that DUMPSTART_ARGS_FILE names, where !py does not pass them on.
"""
#: environment variables for debuggers that lose a script's arguments
ARGUMENTS, ARGUMENTS_FILE = "DUMPSTART_ARGS", "DUMPSTART_ARGS_FILE"
COMMANDS = ("overview", "filters", "callbacks", "calls", "stack", "dryrun", "arm", "report", "stop")
#: tables that a report names, and what shows them in the debugger
_IN_THE_WINDOW = (("callbacks", "!dumpstart calls"), ("modules", "lm"))
_FLAGS = ("quiet", "facts")
_VALUES = ("output", "callback", "writes", "tsc-hz", "stop-on")
_UNWATCHED = "Nothing was watched yet:  !dumpstart arm  , then  g"


class State:
    """What stays between two commands."""

    capture: Capture | None = None
    session: Session | None = None
    writer: Writer | None = None
    facts: list[tuple[int, Fact]] = []  #: with their places in the capture file
    size = 0  #: of that file
    path = ""


def main(argv: Sequence[str], out: Callable[[str, str | None], None] | None = None) -> int:
    """Runs one command. ``out(text, dml)`` prints a line; ``dml`` is the same line with links."""
    say = out or _printer()
    try:
        arguments = words(argv)
        if any(word in ("-?", "/?", "-h", "--help", "help") for word in arguments):
            for line in HELP.splitlines():
                say(line, None)
            return 0
        command = arguments[0] if arguments and not arguments[0].startswith("-") else "overview"
        if command not in COMMANDS:
            raise UsageError(f"there is no command '{command}'; they are {', '.join(COMMANDS[1:])}")
        rest = arguments[1:] if arguments and arguments[0] == command else arguments
        if rest and command != "arm":
            raise UsageError(f"'{command}' takes no options; !dumpstart -? lists all")
        if command == "arm":
            _arm(rest, say)
        elif command == "stop":
            _stop(say)
        elif command == "stack":
            _stack(say)
        elif command == "calls":
            _calls(say)
        elif command == "dryrun":
            _dry_run(say)
        else:
            _show(command, say)
    except AnalyzerError as error:
        say(ascii_only(f"dumpstart: {error}"), None)
        return error.exit_code
    return 0


def words(argv: Sequence[str]) -> list[str]:
    """The arguments; pykd's own ``!py`` hands over empty strings, so then other places count."""
    given = [word for word in argv if word.strip("\0 ")]
    if given:
        return given
    text = os.environ.get(ARGUMENTS, "")
    path = os.environ.get(ARGUMENTS_FILE, "")
    if not text and path:
        try:
            with open(path, encoding="utf-8-sig") as file:
                text = file.read(1 << 16)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: the options cannot be read: {error}") from None
    try:
        return shlex.split(text, posix=False)
    except ValueError as error:  # a quote that is not closed
        raise UsageError(f"the options cannot be read: {str(error).lower()}") from None


def ascii_only(text: str) -> str:
    """pykd's output is ASCII."""
    return text.encode("ascii", "backslashreplace").decode("ascii")


def _printer() -> Callable[[str, str | None], None]:
    pykd = pykd_target._pykd()

    def say(text: str, dml: str | None = None) -> None:
        if dml is None:
            pykd.dprintln(text)
        else:
            pykd.dprintln(dml, True)

    return say


def link(command: str) -> tuple[str, str]:
    """A command as text and as a link that runs it."""
    return command, f'<exec cmd="!dumpstart {command}">{command}</exec>'


# -- commands --------------------------------------------------------------------------------------


def _arm(arguments: Sequence[str], say: Callable[[str, str | None], None]) -> None:
    options = _options(arguments)
    if State.capture is not None and not State.capture.watch.ended:
        raise UsageError("callbacks are watched already; end that with  !dumpstart stop")
    session = pykd_target.inside()
    if "run" not in session.capabilities:
        raise UsageError("this is a dump: nothing runs, so nothing can be watched")
    path = options.get("output") or _free_path()
    routines = [parse(text) for text in options["callback"]]
    writes = parse_writes(options.get("writes") or "first:100")
    stop_on = parse_stop_on(options.get("stop-on") or "never")
    hertz = options.get("tsc-hz") or ""
    if hertz and not (hertz.isdecimal() and int(hertz)):
        raise UsageError("--tsc-hz is a number from 1")
    writer = Writer.new(path, (lambda line: say(line, None)) if "facts" in options else None)
    State.facts, State.size, State.path = [], 0, path
    State.writer, State.session = writer, session
    narrator = Narrator(lambda line: None if "quiet" in options else say(ascii_only(line), None))

    def sink(fact: Fact) -> None:
        State.facts.append((State.size, fact))
        State.size += len(encode(fact)) + 1
        writer(fact)
        narrator.take(fact)

    State.capture = capture = Capture(session, sink, writes, stop_on=stop_on)

    def stand(lines: Sequence[str]) -> None:
        for line in ("the target stands here; continue with  g", *lines):
            say(ascii_only(line), None)

    capture.watch.on_stand = stand
    try:
        capture.begin(routines, int(hertz) if hertz else None)
    except BaseException:
        capture.finish("it could not begin")
        session.close()
        writer.close()
        raise
    say(ascii_only(f"watching {len(capture.watch.armed)} callbacks, capture file"), None)
    say(ascii_only(f"  {path}"), None)
    if not capture.watch.armed:
        say(NOTHING, None)
    text, dml = link("report")
    say(f"continue with  g ; afterwards: {text}", f"continue with  g ; afterwards: {dml}")


def _free_path() -> str:
    """A file in the temporary folder that is not there yet: nothing is written over."""
    folder, number = tempfile.gettempdir(), 1
    while os.path.exists(path := os.path.join(folder, f"dumpstart{number}.jsonl")):
        number += 1
    return path


def _options(arguments: Sequence[str]) -> dict[str, Any]:
    options: dict[str, Any] = {"callback": []}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.lstrip("-").partition("=")
        if name in _FLAGS and not equals:
            options[name] = "yes"
            continue
        if not word.startswith("-") or name not in _VALUES:
            raise UsageError(f"'{word}' is no option; !dumpstart -? lists them")
        if not equals:
            if not rest:
                raise UsageError(f"--{name} needs a value")
            value = rest.pop(0)
        value = value.strip('"')
        if name == "callback":
            options[name].append(value)
        else:
            options[name] = value
    return options


def _stop(say: Callable[[str, str | None], None]) -> None:
    if State.capture is None or State.session is None or State.capture.watch.ended:
        raise UsageError("nothing is being captured")
    State.capture.finish("stopped by the user")
    State.session.close()
    if State.writer is not None:
        State.writer.close()
        if State.writer.problem:
            say(ascii_only(f"dumpstart: {State.writer.problem}"), None)
    say(f"{State.capture.watch.calls} calls captured in {State.path}", None)


def _records() -> Records:
    """What is known: the capture so far, or without one what the target holds."""
    if not State.facts:
        from .look import records

        return records(pykd_target.inside())
    capture = State.capture
    if capture is not None and not capture.rebooted:
        capture.read_nodes()  # crashdmp may have changed a filter's state since the last call
    reader = CaptureReader(State.path, "debugger session")
    for offset, fact in State.facts:
        reader.take(fact, offset)
    return reader.records(State.size)


def _calls(say: Callable[[str, str | None], None]) -> None:
    """One line a call."""
    if not State.facts:
        say(_UNWATCHED, None)
        return
    lines: list[str] = []
    narrator = Narrator(lines.append)
    for _, fact in State.facts:
        narrator.take(fact)
    narrator.end()
    for line in lines or ["no call was captured yet; continue with  g"]:
        say(ascii_only(line), None)


def _stack(say: Callable[[str, str | None], None]) -> None:
    """Where the target stands."""
    session = pykd_target.inside()
    for frame in CallStack(session).frames():
        say(ascii_only(f"  {frame.address:#018x}  {frame.name}"), None)
    for call in State.capture.watch.under_way if State.capture else ():
        routine = call.armed.routine
        name = routine.filter or "an unnamed filter"
        say(ascii_only(f"under way: {routine.callback} of {name}"), None)


def _dry_run(say: Callable[[str, str | None], None]) -> None:
    """What each callback would do if it were called on the memory as it is now."""
    from ..dryrun.ask import require
    from ..dryrun.runner import run
    from ..formatting import wrapped

    require()
    session = pykd_target.inside()
    found = find.filters(session)
    bugcheck = session.bugcheck()
    had_crashed = None if isinstance(bugcheck, Absent) else bool(bugcheck[0])
    rows = run(session, found.modules, found.rings, had_crashed=had_crashed)
    for row in rows:
        kind = "hibernation" if row.dump_type == 2 else "crash dump"
        for line in wrapped(f"{row.filter} {row.callback} ({kind}): {row.text}", "    ", "  "):
            say(ascii_only(line), None)
    if not rows:
        say("no callback could be called: no filter's node is known", None)


def _callbacks(records: Records) -> Iterator[str]:
    """The routines of each filter, how often each was called, its last status."""
    found: dict[tuple[str, str], dict[str, list[CallbackRow]]] = {}
    for row in records["callbacks"]:
        key = str(row.filter or "an unnamed filter"), str(row.stack or "")
        routines = found.setdefault(key, {})
        routines.setdefault(str(row.callback), []).append(row)
    for (name, which), routines in found.items():
        yield f"{name} ({which} stack)" if which else name
        for callback, rows in routines.items():
            calls = [row for row in rows if isinstance(row.call, int)]
            what = "" if not State.facts else "not called"
            if calls:
                status = calls[-1].status_name
                last = f", last {status}" if isinstance(status, str) else ""
                what = f"called {len(calls)} time{'' if len(calls) == 1 else 's'}{last}"
            where = rows[0].symbol if isinstance(rows[0].symbol, str) else "-"
            yield f"  {callback:<17}  {where:<28}  {what}".rstrip()


def _show(command: str, say: Callable[[str, str | None], None]) -> None:
    from .. import checks
    from ..checks import crashes
    from ..reports import text

    records = _records()
    records.add(*crashes.group(records))
    records.add(*checks.run(records))  # the answer depends on them, too
    is_live = records["sources"][0].kind == "debugger session"
    if is_live and not State.facts and command in ("overview", "report"):
        say(_UNWATCHED, None)
        say("", None)
    if command == "callbacks":
        lines = list(_callbacks(records)) or ["no callback is known"]
    else:
        pieces: Iterator[str] = {
            "overview": lambda: text.write(records),
            "filters": lambda: text.part(records, "filters", "filter-details"),
            "report": lambda: text.write(records, details=True),
        }[command]()
        lines = "".join(pieces).strip("\n").splitlines() or [f"nothing is known of {command}"]
    for line in lines:
        for name, here in _IN_THE_WINDOW:
            line = line.replace(f"'dumpstart show {name}'", f"'{here}'")
        say(ascii_only(line), None)
    if command != "report":
        texts, dmls = zip(*(link(name) for name in COMMANDS[1:] if name != command))
        say("more: " + "  ".join(texts), "more: " + "  ".join(dmls))
