"""The commands inside the debugger, on a fake machine behind a fake pykd.

The docstrings of the fakes say what this does not prove.
"""

from __future__ import annotations

import sys

import fake_pykd
import pytest
from fake_machine import FakeMachine
from test_live_capture import ACME, FVE, call

import analyzer
from analyzer.absence import Absent
from analyzer.errors import SessionError
from analyzer.live import extension, look, pykd_target
from analyzer.reports import write


@pytest.fixture
def console(sample, monkeypatch, tmp_path):
    """Runs commands in a debugger: ``console(script)`` gives (run, machine)."""

    def make(script=(), is_dump=False):
        machine = FakeMachine(sample("healthy-x64-kernel.dmp"), script)
        pykd = fake_pykd.make(machine, is_dump)
        monkeypatch.setitem(sys.modules, "pykd", pykd)
        monkeypatch.setattr(extension.tempfile, "gettempdir", lambda: str(tmp_path))
        for name in ("capture", "session", "writer"):
            monkeypatch.setattr(extension.State, name, None)
        monkeypatch.setattr(extension.State, "facts", [])
        monkeypatch.delenv(extension.ARGUMENTS, raising=False)
        monkeypatch.delenv(extension.ARGUMENTS_FILE, raising=False)

        def run(*argv):
            del pykd.printed[:]
            run.code = extension.main(argv)
            return "\n".join(text for text, _ in pykd.printed)

        return run, machine

    yield make
    if extension.State.writer is not None:
        extension.State.writer.close()


@pytest.fixture
def dump(sample):
    """The records of the same memory as a dump."""
    return analyzer.open(sample("healthy-x64-kernel.dmp")).records


@pytest.mark.parametrize("word", ["-?", "--help", "help", "/?"])
def test_help(console, word):
    """Help in every form that people type."""
    run, _ = console()
    assert "!dumpstart [COMMAND]" in run(word)


@pytest.mark.parametrize("command", ["", "filters", "callbacks", "report"])
@pytest.mark.parametrize("is_dump", [False, True])
def test_output_fits_the_window(console, command, is_dump):
    """Plain ASCII, 80 columns, on a live target and on a dump."""
    run, _ = console(is_dump=is_dump)
    text = run(command)
    assert text.isascii()
    assert max(len(line) for line in run(command).splitlines() if "<exec" not in line) <= 80
    assert run.code == 0


def test_filters_equal_the_dump(console, dump):
    """What the debugger shows of a filter is what the dump's own report shows."""
    run, _ = console()
    shown = run("filters")
    for row in dump["extensions"]:
        assert f"{row.disk_size}  {row.disk_size:#x}" in shown
    for row in dump["filters"]:
        assert row.filter in shown


@pytest.mark.parametrize("is_dump", [False, True])
def test_records_equal_the_dump(console, dump, is_dump):
    """In the debugger, live or on a dump, every filter row is the one of our own dump reader."""
    console(is_dump=is_dump)
    found = look.records(pykd_target.inside())
    for table in ("filters", "extensions", "callbacks", "structures"):
        rows = [[row[:-1] for row in side[table]] for side in (found, dump)]
        if table == "callbacks" and not is_dump:  # only a dump says that it was written
            assert [row.was_called for row in dump[table]].count("likely") == 2
            assert "likely" not in [row.was_called for row in found[table]]
            place = dump[table][0]._fields.index("was_called")
            rows = [[row[:place] + row[place + 1 :] for row in side] for side in rows]
        assert rows[0] == rows[1], table


def test_the_answer_on_an_open_dump_is_that_of_its_file(console, sample):
    """Every command begins with what `dumpstart analyze` says of the same file."""
    run, _ = console(is_dump=True)
    told = answer(write(analyzer.open(sample("healthy-x64-kernel.dmp")).records, "text"))
    assert "a kernel bitmap dump was written" in told
    assert answer(run("report")) == told
    assert answer(run("")) == told


def test_a_live_target_is_no_dump(console):
    """A machine that crashes in the debugger has not written its dump yet."""
    run, _ = console()
    assert "dump was written" not in answer(run("report"))


def answer(text):
    """The sentences of a report, without line breaks."""
    return " ".join("".join(text).partition("\n\n")[0].split())


def test_unloaded_modules(console, monkeypatch):
    """The engine's lm tells them."""
    console()
    text = "start end module name\nfffff800`10000000 fffff800`10010000   a (deferred)\n\n"
    text += "Unloaded modules:\nfffff800`20000000 fffff800`20010000   dump_old.sys\n"
    monkeypatch.setattr(sys.modules["pykd"], "dbgCommand", lambda *_: text)
    assert [m.name for m in pykd_target.inside().unloaded()] == ["dump_old.sys"]


def test_arm_go_report_stop(console, dump, tmp_path):
    """The whole way: arm, the user's g, report, stop; the capture file is readable."""
    run, machine = console([call(dump, FVE, "Dump_Start", status=0xC000000D)])
    routines = sum(1 for row in dump["callbacks"] if row.routine)
    assert f"watching {routines} callbacks" in run("arm")
    machine.go()  # the user types g
    shown = run("report")
    assert "STATUS_INVALID_PARAMETER" in shown
    assert "1 calls captured" in run("stop")
    assert machine.breakpoints == {}
    case = analyzer.open(tmp_path / "dumpstart1.jsonl")
    assert [row.status for row in case.records["callbacks"] if row.call is not None] == [0xC000000D]


def test_the_session_log_is_a_capture(console, dump, tmp_path):
    """What is printed, saved as a log, holds the same calls as the capture file."""
    run, machine = console(
        [call(dump, FVE, "Dump_Start", status=1), call(dump, ACME, "Dump_Start")]
    )
    run("arm", "--facts")
    pykd = sys.modules["pykd"]
    machine.go()
    extension.main(["stop"])
    text = "Opened log file 'x'\n" + "\n".join(line for line, _ in pykd.printed)
    log = tmp_path / "session.log"
    log.write_text(text)
    one, other = analyzer.open(log), analyzer.open(tmp_path / "dumpstart1.jsonl")
    for table in ("callbacks", "filters", "extensions", "modules", "machine"):
        rows = [
            [[v.reason if isinstance(v, Absent) else v for v in row[:-1]] for row in rows[table]]
            for rows in (one.records, other.records)  # why a value is absent differs in its words
        ]
        assert rows[0] == rows[1]
    assert len(one.records["callbacks"]) > 2


def test_arm_twice_is_refused(console):
    """One capture at a time."""
    run, _ = console()
    run("arm", "--quiet")
    assert "watched already" in run("arm")
    assert run.code == 2


def test_a_capture_is_never_written_over(console, tmp_path):
    """A second session takes the next free name; a file that was named is refused."""
    run, machine = console()
    for number in (1, 2):
        assert f"dumpstart{number}.jsonl" in run("arm", "--quiet")
        run("stop")
    held = (tmp_path / "dumpstart1.jsonl").read_bytes()
    assert "is there already" in run("arm", "--output", str(tmp_path / "dumpstart1.jsonl"))
    assert run.code == 2
    assert (tmp_path / "dumpstart1.jsonl").read_bytes() == held
    assert machine.breakpoints == {}


def test_a_capture_file_that_cannot_be_written(console, tmp_path):
    """One sentence, nothing armed, and the next try is not refused."""
    run, machine = console()
    said = run("arm", "--output", str(tmp_path / "no" / "x.jsonl"))
    assert said.endswith("the capture cannot be written: no such file or directory.")
    assert machine.breakpoints == {}
    assert "watching" in run("arm", "--quiet")


def test_a_capture_that_cannot_begin(console, monkeypatch):
    """Nothing stays armed, and the next try is not refused."""
    run, machine = console()
    with monkeypatch.context() as patch:
        patch.setattr(extension.Capture, "begin", broken)
        assert "the engine is gone" in run("arm", "--quiet")
    assert machine.breakpoints == {}
    assert "watching" in run("arm", "--quiet")


def broken(*_):
    """What a capture does whose engine is gone."""
    raise SessionError("the engine is gone")


def test_nothing_to_watch_is_said(console, monkeypatch):
    """Without a filter the user is told how to name a routine."""
    run, machine = console()
    monkeypatch.setattr(machine.memory, "modules", list)
    assert "--callback [NAME=]WHERE" in run("arm", "--quiet")


def test_no_kernel_in_the_debugger(console, monkeypatch):
    """A process or nothing at all is no target, and that is said."""
    run, _ = console()
    monkeypatch.setattr(sys.modules["pykd"], "isKernelDebugging", lambda: False)
    for command in ("", "report", "arm"):
        assert run(command) == "dumpstart: the debugger has no kernel and no kernel dump open."


def test_an_open_quote_in_the_options(console, monkeypatch):
    """One sentence, no traceback."""
    run, _ = console()
    monkeypatch.setenv(extension.ARGUMENTS, 'arm --output "x')
    assert run("") == "dumpstart: the options cannot be read: no closing quotation"


@pytest.mark.parametrize("line", extension.HELP.splitlines())
def test_help_fits_the_window(line):
    """80 columns, ASCII."""
    assert len(line) <= 79
    assert line.isascii()


def test_arm_in_a_dump_is_refused(console):
    """A dump does not run."""
    run, _ = console(is_dump=True)
    assert "nothing runs" in run("arm")


def test_stop_without_arm(console):
    """Nothing to stop is said in one sentence."""
    run, _ = console()
    assert run("stop") == "dumpstart: nothing is being captured"


@pytest.mark.parametrize(
    "argv",
    [
        ["bogus"],
        ["arm", "--nope"],
        ["arm", "--output"],
        ["arm", "x"],
        ["filters", "x"],
        ["report", "--output", "y"],
        ["--nope"],
        ["arm", "--tsc-hz", "0"],
        ["arm", "--callback", "0x0"],
        ["arm", "--writes", "some"],
        ["arm", "--callback=nt!a;b"],
    ],
)
def test_wrong_use(console, argv):
    """Wrong use prints one line and changes nothing."""
    run, machine = console()
    assert run(*argv).startswith("dumpstart: ")
    assert run.code == 2
    assert machine.breakpoints == {}


def test_arguments_lost_by_the_debugger(console, monkeypatch, tmp_path):
    """pykd's own !py hands over empty strings: the environment, then a file, tell the options."""
    run, _ = console()
    monkeypatch.setenv(extension.ARGUMENTS, "-?")
    assert "!dumpstart [COMMAND]" in run("", "\0")
    monkeypatch.delenv(extension.ARGUMENTS)
    options = tmp_path / "options.txt"
    options.write_text("bogus")
    monkeypatch.setenv(extension.ARGUMENTS_FILE, str(options))
    assert "there is no command 'bogus'" in run("")


def test_links_only_add(console):
    """A line with links says the same without them."""
    run, _ = console()
    run("filters")
    pykd = sys.modules["pykd"]
    marked = [text for text, dml in pykd.printed if dml]
    assert len(marked) == 1
    assert '<exec cmd="!dumpstart arm">arm</exec>' in marked[0]
