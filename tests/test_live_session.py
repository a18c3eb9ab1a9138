"""What every session can do by itself, and a run from the attach to the end, line by line."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from test_live_capture import ACME, FVE, call, dump, world
from test_live_extension import console
from test_live_parts import CODE, Made, module

from analyzer.absence import Absent
from analyzer.errors import SessionError, UsageError
from analyzer.live import dry_run, extension, leftovers, worker
from analyzer.live.callstack import CallStack
from analyzer.live.options import Options
from analyzer.live.run import NOTHING, Run
from analyzer.live.session import Session, Stop

__all__ = ["console", "dump", "world"]  # fixtures


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("x", CODE), ("X.SYS+0x10", CODE + 0x10), ("x+10", CODE + 0x10), ("0x10", 0x10),
        ("0XfF", 0xFF), ("0xg", "'0xg' is no address"), ("x+g", "'x+g' is no address"),
        ("0x10+5", "no module or symbol '0x10+5'"), ("y+5", "no module or symbol 'y+5'"),
        ("x.sys.z", "no module or symbol 'x.sys.z'"), ("x+", CODE),
    ],
)  # fmt: skip
def test_addresses_that_need_no_symbols(text: str, address: Any) -> None:
    """A module and an offset, or the address itself; letters of any case."""
    found = Made().resolve(text)
    assert found == (address if isinstance(address, int) else Absent("not-found", address))


def test_a_machine_in_words() -> None:
    """As far as it is known."""
    session = Made()
    assert session.described() == "build 19041, x64"
    for count, words in (
        (1, "build 19041, x64, 1 processor"),
        (2, "build 19041, x64, 2 processors"),
    ):
        session.processors = lambda count=count: count  # type: ignore[method-assign,misc]
        assert session.described() == words
    session.build = Absent("unset")  # type: ignore[assignment]
    session.architecture = "arm64"
    assert session.described() == "arm64, 2 processors"


class Blocks(Made):
    """A minidump of some blocks."""

    is_dump = True

    def regions(self) -> Any:
        return iter([(0x1000, 0x10), (0x1010, 0x20), (0x3000, 0x1800)])


@pytest.mark.parametrize(
    ("address", "size", "pieces"),
    [
        (0x1000, 0x30, [(0x1000, 0x30)]),
        (0x0FF0, 0x100, [(0x1000, 0x30)]),
        (0x1008, 0x10, [(0x1008, 0x10)]),
        (0x1020, 0x2FE0, [(0x1020, 0x10), (0x3000, 0x1000)]),
        (0x3000, 0x4000, [(0x3000, 0x1800)]),
        (0x5000, 0x100, []),
    ],
)
def test_pieces_end_where_blocks_do(address: int, size: int, pieces: Any) -> None:
    """Of a minidump; neighbours are one piece, with all that is held."""
    held = {0x1000: b"a" * 0x10, 0x1010: b"b" * 0x20, 0x3000: b"c" * 0x1800}
    session = Blocks(held)
    told = list(session.chunks(address, size))
    assert [(start, len(data)) for start, data in told] == pieces
    whole = b"a" * 0x10 + b"b" * 0x20
    for start, data in told:
        assert data == (
            whole[start - 0x1000 :][: len(data)] if start < 0x2000 else b"c" * len(data)
        )
    session.is_dump, session._borders = False, None
    assert [(start, len(data)) for start, data in Made(held).chunks(0x3000, 0x1800)] == [
        (0x3000, 0x1800)
    ]


def test_what_a_session_without_an_engine_answers() -> None:
    """That it cannot, with its name."""
    session = Session()
    none = Absent("not-recorded", "none does not tell it")
    assert session.processors() == session.current_processor() == none
    assert session.bugcheck() == session.attributes() == none
    assert session.register("rip") == Absent("not-recorded", "none has no registers")
    assert session.msr(1) == Absent("not-recorded", "none has no model-specific registers")
    assert (session.unloaded(), session.write(0, b""), list(session.regions())) == ((), False, [])
    assert session.recorded_rings() is None
    for refused, words in (
        (lambda: session.add_breakpoint(0, lambda _: False), "none cannot set breakpoints."),
        (lambda: session.resume(1), "none is no running target."),
    ):
        with pytest.raises(SessionError) as caught:
            refused()
        assert str(caught.value) == words
    assert session.guarded(lambda _: 1, Stop("x", 0, 0)) is True  # type: ignore[arg-type,return-value]
    assert session.guarded(lambda _: None, Stop("x", 0, 0)) is False  # type: ignore[arg-type,return-value]
    assert Absent("not-applicable", "no register of x64 is the back") == Made().named("back")


def test_names_of_the_engine_are_checked() -> None:
    """Without symbols it names exports: far from its function a name is none."""
    session = Made({CODE: b"\x90" * 0x1000})
    stack = CallStack(session)
    starts = {CODE + 0x120: CODE + 0x100}
    stack.begins = starts.get  # type: ignore[method-assign,assignment]
    names = {
        CODE + 0x120: "x!Start+0x20", CODE + 0x121: "x!Start+0x20", CODE + 0x130: "x!There",
        CODE + 0x140: "x+0x140",
    }  # fmt: skip
    session.nearest = names.get  # type: ignore[method-assign,assignment]
    told = [stack._ask(address) for address in names]
    assert told == ["x!Start+0x20", None, "x!There", None]
    names[CODE + 0x120] = "x!Other+0x1f"
    assert stack._ask(CODE + 0x120) is None


# -- what a dead debugger left ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "note", "count"),
    [
        (b"\xcc", {}, 1),
        (b"\x90", {}, 0),
        (b"\xcc", {"code": "cc"}, 0),
        (b"\xcc", {"code": "9090"}, 0),
        (b"\xcc", {"code": "zz"}, 0),
        (b"\xcc", {"name": "y.sys"}, 0),
        (b"\xcc", {"base": CODE + 1}, 0),
        (b"\xcc", {"stamp": 6}, 0),
        (b"\xcc", {"address": CODE - 1}, 0),
        (b"", {}, 0),
    ],
)
def test_leftovers(
    held: bytes, note: Any, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Are removed from the very image that they were set in, where they still lie."""
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    session, written = Made({CODE + 0x10: held}), list[Any]()
    session.modules = lambda: [module("x.sys", CODE, 0x1000, time_date_stamp=5)]  # type: ignore[method-assign]
    session.write = lambda at, data: written.append((at, data)) or True  # type: ignore[method-assign,func-returns-value]
    leftovers.note(session, {CODE + 0x10: b"\x90", CODE - 1: b"\x90"})
    (path,) = (tmp_path / "dumpstart").iterdir()
    assert re.fullmatch(r"breakpoints-[0-9a-f]{16}\.json", path.name)
    assert json.loads(path.read_text()) == [[CODE + 0x10, "90", "x.sys", CODE, 5]]
    names = ("address", "code", "name", "base", "stamp")
    entry = dict(zip(names, json.loads(path.read_text())[0]))
    path.write_text(json.dumps([[1], list({**entry, **note}.values())]))
    assert leftovers.remove(session) == count
    assert written == [(CODE + 0x10, b"\x90")] * count
    assert not path.exists()
    assert leftovers.remove(session) == 0
    path.write_text(json.dumps([list(entry.values())] * 65))
    assert leftovers.remove(session) == (64 if count and not note else 0 if held != b"\xcc" else 64)


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"LOCALAPPDATA": "a", "XDG_STATE_HOME": "b"}, "a"),
        ({"XDG_STATE_HOME": "b"}, "b"),
        ({}, os.path.join("home", ".local", "state")),
    ],
)
def test_where_the_note_lies(variables: Any, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the user's own folder."""
    for name in ("LOCALAPPDATA", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "home")
    monkeypatch.setenv("USERPROFILE", "home")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert os.path.dirname(leftovers._path(Made())) == os.path.join(folder, "dumpstart")


# -- runs ------------------------------------------------------------------------------------------


def lines_of(said: list[str]) -> list[str]:
    """Without times."""
    return [re.sub(r"^ *\d+\.\d{3} s", "TIME", line) for line in said]


def a_run(tmp_path: Path, session: Any, **options: Any) -> tuple[Run, list[str]]:
    """A run, and what it said; the target is let run by itself."""
    said: list[str] = []
    output = str(tmp_path / "c.jsonl")
    made = Options("com:port=com1", "pykd", output, **{"timeout": 30.0, **options})
    run = Run(made, said.append)
    run.work(session)
    return run, [line.replace(str(tmp_path), "") for line in lines_of(said)]


def test_a_run_line_by_line(world: Any, dump: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """Target, what is watched, a line a call, how it ended."""
    from analyzer.live import pykd_target

    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "state"))
    world([call(dump, FVE, "Dump_Start", ticks=4_000_000), call(dump, ACME, "Dump_Start")])
    session = pykd_target.attach("com:port=com1")
    session.engine = "an engine"
    run, said = a_run(tmp_path, session)
    routines = sum(1 for row in dump["callbacks"] if row.routine)
    assert said == [
        "engine: an engine",
        "attached to com:port=com1: build 19041, x64, 2 processors",
        f"watching {routines} callbacks of dump_acmeflt.sys, dump_dumpfve.sys",
        "TIME  dump_dumpfve.sys  Dump_Start   STATUS_SUCCESS       2 ms",
        "TIME  dump_acmeflt.sys  Dump_Start   STATUS_SUCCESS       500 ns",
        "             the target stopped: ended",
        "the target is gone; 2 calls captured in /c.jsonl",
    ]
    files = [str(tmp_path / "c.jsonl")]
    assert run.told() == {"files": files, "calls": 2, "stands": False}
    assert list((tmp_path / "state").glob("dumpstart/*")) == []


@pytest.mark.parametrize("joined", [True, False])
def test_a_run_that_stands(
    joined: bool, world: Any, dump: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """In the user's own debugger it is left standing; else until Ctrl+C."""
    from analyzer.live import pykd_target

    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "state"))
    machine, pykd = world([call(dump, FVE, "Dump_Start", status=0xC0000001)])
    session = pykd_target.attach("com:port=com1")
    session.is_joined, stood = joined, list[Any]()
    session.stand = stood.append
    closed: list[bool] = []
    close = session.close
    session.close = lambda leave_running=True: closed.append(leave_running) or close(leave_running)
    run, said = a_run(tmp_path, session, stop_on="failure")
    at = next(n for n, line in enumerate(said) if line.startswith("Dump_Start of"))
    assert said[at] == "Dump_Start of dump_dumpfve.sys returned 0xc0000001 (STATUS_UNSUCCESSFUL)"
    assert said[at + 1].startswith("  crashdmp+0x1234")
    words = "the target stands there in the debugger that was joined; go on with  g"
    assert (words in said) is joined
    assert ("the target stands; Ctrl+C lets it run on" in said) is not joined
    assert said[-1] == "Dump_Start of dump_dumpfve.sys failed; 1 calls captured in /c.jsonl"
    assert stood == ([] if joined else [run.resumed])
    assert (run.stands, closed) == (joined, [not joined])
    assert machine.breakpoints == {}
    assert ("qd" in pykd.log) is not joined
    assert not run.resumed.is_set()
    run.resume()
    assert run.resumed.is_set()


def test_runs_without_anything_to_watch(world: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """Said; without events of modules there is nothing to wait for; a stop beforehand counts."""
    from analyzer.live import pykd_target

    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "state"))
    machine, pykd = world([])
    machine.memory.modules = list
    session = pykd_target.attach("com:port=com1")
    session.capabilities = frozenset({"run"})
    _, said = a_run(tmp_path, session)
    assert said[1:] == [
        "watching 0 callbacks", NOTHING,
        "there is nothing to watch; 0 calls captured in /c.jsonl",
    ]  # fmt: skip
    assert "go" not in pykd.log
    session = pykd_target.attach("com:port=com1")
    (tmp_path / "c.jsonl").unlink()
    said = []
    run = Run(Options("com:port=com1", "pykd", str(tmp_path / "c.jsonl")), said.append)
    run.stop()
    run.work(session)
    assert said[-1].startswith("stopped by the user; 0 calls captured")
    assert "go" not in pykd.log


def test_the_files_of_several_boots(tmp_path: Path) -> None:
    """The first has the name that was given; none is written over."""
    run = Run(Options("x", "pykd", str(tmp_path / "c.jsonl")), print)
    (tmp_path / "c.jsonl").touch()
    assert run._next_file() == str(tmp_path / "c.jsonl")
    run.files.append(str(tmp_path / "c.jsonl"))
    assert run._next_file() == str(tmp_path / "c-2.jsonl")
    (tmp_path / "c-2.jsonl").touch()
    assert run._next_file() == str(tmp_path / "c-3.jsonl")


# -- dry runs --------------------------------------------------------------------------------------

ASKED = {"filters": ["a"], "callbacks": [], "limits": [1, 2, 3], "format": "json"}


def parsed(*words: str) -> Any:
    """The options of ``dumpstart dryrun``."""
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--symbols", action="append", default=[])
    dry_run.options(parser)
    return parser.parse_args(list(words))


def test_which_target_is_named() -> None:
    """Files or a target, not both and not neither; some seconds at most."""
    assert dry_run.is_named(parsed("--connect", "x"))
    assert dry_run.is_named(parsed("--remote", "x"))
    assert not dry_run.is_named(parsed("x.dmp"))
    assert parsed().timeout == 300.0
    for words in ([], ["x.dmp", "--connect", "x"]):
        with pytest.raises(UsageError, match="name either files or a target in a debugger"):
            dry_run.is_named(parsed(*words))


@pytest.mark.parametrize(
    ("words", "backend", "is_server", "symbols"),
    [
        (["--connect", "com:port=com1"], "dbgeng", False, None),
        (["--connect", "/run/vm"], "ntoseye", False, None),
        (["--connect", "tcp:server=H", "--symbols", "a", "--symbols", "b"], "dbgeng", True, "a;b"),
        (["--remote", "x:y", "--backend", "pykd"], "pykd", True, None),
    ],
)
def test_what_a_dry_run_asks_of_the_worker(
    words: Any, backend: str, is_server: bool, symbols: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The options of the target and what is to be run; its report and exit code come back."""
    from analyzer.dryrun.ask import Ask, Limits
    from analyzer.live import supervise

    given: list[Any] = []
    monkeypatch.setattr(
        supervise, "dry_run", lambda *what: given.append(what) or {"report": "r", "code": 1}
    )
    arguments = parsed(*words, "--timeout", "7", "--engine", "e")
    arguments.format = "json"
    ask = Ask(True, ("a",), ("Dump_Start",), Limits(), None)
    assert dry_run.of_target(arguments, ask) == ("r", 1)
    options, asked, progress = given[0]
    assert options == Options(
        words[1], backend, "", is_server, "e", symbols, timeout=7.0
    )  # fmt: skip
    assert (asked["filters"], asked["callbacks"], asked["format"]) == (
        ("a",),
        ("Dump_Start",),
        "json",
    )
    assert progress is None


def test_a_dry_run_that_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it attaches it only remembers that; while it works it is interrupted."""
    from analyzer.dryrun.ask import Limits

    interrupted: list[int] = []
    monkeypatch.setattr(dry_run._thread, "interrupt_main", lambda: interrupted.append(1))
    asked = {**ASKED, "limits": list(Limits())}
    job = dry_run.Job(Options("x", "pykd", ""), asked, lambda *_: None)
    job.resume()
    job.stop()
    assert interrupted == []
    with pytest.raises(KeyboardInterrupt):
        job.work(Made())
    assert job.told() == {}
    job.stop()
    assert interrupted == []
    running = dry_run.Job(Options("x", "pykd", ""), asked, lambda *_: None)
    monkeypatch.setattr(dry_run, "records", lambda *_: running.stop() or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        running.work(Made())
    assert interrupted == [1]
    running.stop()
    assert interrupted == [1]


def test_what_the_worker_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heard, attached, what came of it; the session is closed whatever happens."""
    told: list[Any] = []

    def opened(_: Any, heard: Any) -> Any:
        heard()
        return session

    class Job:
        options = Options("x", "pykd", "")

        def work(self, _: Any) -> None:
            told.append("work")
            if len(told) > 5:
                raise SessionError("no")

        def told(self) -> Any:
            return {"files": []}

    session = Made()
    session.close = lambda *_: told.append("close")  # type: ignore[method-assign,assignment]
    monkeypatch.setattr(worker, "open_session", opened)
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    tell: Any = lambda **message: told.append(message)  # noqa: E731
    worker.serve(Job(), tell)  # type: ignore[arg-type]
    once = [{"heard": True}, {"attached": True}, "work", "close", {"files": []}]
    assert told == once
    with pytest.raises(SessionError):
        worker.serve(Job(), tell)  # type: ignore[arg-type]
    assert told == once * 2


@pytest.mark.parametrize(
    ("words", "heard"),
    [
        (["go\n", "stop\n", "go\n"], ["go", "stop"]),
        ([""], ["stop"]),
        (["x\n"], ["stop"]),
        ([OSError("gone")], ["stop"]),
        ([ValueError("closed")], ["stop"]),
    ],
)
def test_what_the_worker_hears(words: Any, heard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go as often as it is said; anything else, and the end of the pipe, is the end."""
    done: list[str] = []

    class Job:
        def stop(self) -> None:
            done.append("stop")

        def resume(self) -> None:
            done.append("go")

    lines = iter(words)

    def readline(_: Any) -> str:
        line = next(lines)
        if isinstance(line, Exception):
            raise line
        return str(line)

    monkeypatch.setattr(worker.sys, "stdin", type("In", (), {"readline": readline})())
    worker._listen(Job())  # type: ignore[arg-type]
    assert done == heard


# -- the window ------------------------------------------------------------------------------------


AFTERWARDS = 'continue with  g ; afterwards: <exec cmd="!dumpstart report">report</exec>'


def test_what_arm_says(console: Any, tmp_path: Path) -> None:
    """What is watched, where it is written, how to go on."""
    run, _ = console()
    count = run("arm").splitlines()[0]
    assert re.fullmatch(r"watching \d+ callbacks, capture file", count)
    assert run("stop") == f"0 calls captured in {tmp_path / 'dumpstart1.jsonl'}"
    assert run("arm", "--tsc-hz=5", "--quiet").splitlines()[1:] == [
        f"  {tmp_path / 'dumpstart2.jsonl'}", AFTERWARDS,
    ]  # fmt: skip
    assert extension.State.capture.watch.hz == 5  # type: ignore[union-attr]
    assert run("calls") == "no call was captured yet; continue with  g"


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ([], {"callback": []}),
        (["--quiet", "-facts"], {"callback": [], "quiet": "yes", "facts": "yes"}),
        (["--output", '"a b"', "--writes=off"], {"callback": [], "output": "a b", "writes": "off"}),
        (["--callback", "x", "--callback=y=z"], {"callback": ["x", "y=z"]}),
        (["--stop-on", "failure", "--tsc-hz", "7"],
         {"callback": [], "stop-on": "failure", "tsc-hz": "7"}),
    ],
)  # fmt: skip
def test_options_of_arm(words: Any, options: Any) -> None:
    """With a value behind it or after the sign; one dash does."""
    assert extension._options(words) == options


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["quiet=1"], "'quiet=1' is no option; !dumpstart -? lists them"),
        (["--quiet=1"], "'--quiet=1' is no option; !dumpstart -? lists them"),
        (["output", "x"], "'output' is no option; !dumpstart -? lists them"),
        (["--output"], "--output needs a value"),
    ],
)
def test_options_that_arm_does_not_have(words: Any, says: str) -> None:
    """One sentence."""
    with pytest.raises(UsageError) as caught:
        extension._options(words)
    assert str(caught.value) == says


def test_the_callbacks_in_the_window(console: Any, dump: Any) -> None:
    """Each filter of each stack once; how often each routine was called, and its last status."""
    script = [
        call(dump, FVE, "Dump_Start", status=0xC000000D), call(dump, FVE, "Dump_Start"),
        call(dump, ACME, "Dump_Finish"),
    ]  # fmt: skip
    run, machine = console(script)
    assert run("callbacks").splitlines()[:3] == [
        "dump_dumpfve.sys (crash stack)",
        "  Dump_Start         dump_dumpfve+0x1000",
        "  Dump_Write         dump_dumpfve+0x1040",
    ]
    run("arm", "--quiet")
    machine.go()
    *told, more = run("callbacks").splitlines()
    assert told == [
        "dump_dumpfve.sys (crash stack)",
        "  Dump_Start         dump_dumpfve+0x1000           called 2 times, last STATUS_SUCCESS",
        "  Dump_Write         dump_dumpfve+0x1040           not called",
        "  Dump_Finish        dump_dumpfve+0x1080           not called",
        "  Dump_Unload        dump_dumpfve+0x10c0           not called",
        "  Dump_Read          dump_dumpfve+0x1100           not called",
        "dump_acmeflt.sys (crash stack)",
        "  Dump_Finish        dump_acmeflt+0x1080           called 1 time, last STATUS_SUCCESS",
        "  Dump_Start         dump_acmeflt+0x1000           not called",
        "  Dump_Write         dump_acmeflt+0x1040           not called",
        "  Dump_Unload        -                             not called",
        "  Dump_Read          -                             not called",
    ]
    words = "filters calls stack dryrun arm report stop".split()
    links = (f'<exec cmd="!dumpstart {word}">{word}</exec>' for word in words)
    assert more == "more: " + "  ".join(links)


def test_the_stack_in_the_window(console: Any, dump: Any) -> None:
    """Where the target stands, and which calls are under way."""
    run, machine = console([call(dump, FVE, "Dump_Start", returns=False)])
    assert run("stack").splitlines()[0].startswith("  0xfffff80000000000  ")
    assert "under way" not in run("stack")
    run("arm", "--quiet")
    machine.go()
    assert run("stack").splitlines()[-1] == "under way: Dump_Start of dump_dumpfve.sys"
