"""Faults that were found in live work, each as a test: false figures, stale state, frozen targets.

On a fake machine behind a fake pykd, or on the simulated machine; the engines' own behaviour is
tested under Wine.
"""

from __future__ import annotations

import json
import random
import sys
from contextlib import suppress

import pytest
from fake_machine import Idle, Load, Pause
from kd.machine import Machine
from kd.scenarios import SCENARIOS
from kd.session import MachineSession
from kd.simulator import guest
from live_command import capture_here
from test_live_capture import ACME, FVE, call, calls, captured, dump, rules, world
from test_live_extension import console

import analyzer
from analyzer.absence import Absent
from analyzer.errors import SessionError
from analyzer.live import com, connection, leftovers, pykd_target
from analyzer.live.lines import Narrator
from analyzer.live.session import CONTINUE

__all__ = ["console", "dump", "world"]  # fixtures


def test_a_stop_of_the_user_is_not_the_callbacks_time(console, dump, tmp_path):
    """A wait of four seconds at the user's own breakpoint: an upper bound, and no slow callback."""
    inside = Pause(ticks=8_000_000_000)  # 4 s of the machine's counter
    run, machine = console([call(dump, FVE, "Dump_Start", ticks=200_000, inner=(inside,))])
    run("arm", "--quiet")
    machine.go()  # stands at the user's breakpoint
    machine.go()
    run("stop")
    case = analyzer.open(tmp_path / "dumpstart1.jsonl")
    row = next(row for row in case.records["callbacks"] if row.call is not None)
    assert isinstance(row.duration_ns, Absent)
    assert "stood in the debugger" in str(row.duration_ns)
    assert row.duration_low_ns == 0
    assert row.duration_high_ns >= 4_000_000_000
    assert "callback-slow" not in rules(case)
    assert "duration-paused" in rules(case)


def test_a_filters_state_is_read_again(console, dump):
    """After a failing Dump_Start crashdmp sets the state word: filters and report say so."""
    run, machine = console([call(dump, FVE, "Dump_Start", status=0xC0000001)])
    node = next(row.node for row in dump["filters"] if row.filter == FVE and row.stack == "crash")
    run("arm", "--quiet")
    assert "filter-disabled" not in run("report")
    machine.go()
    machine.patch(node + 0xA8, b"\1\0\0\0")  # as crashdmp does behind the return
    assert "filter-disabled" in run("report")
    assert "likely off" in run("filters")


def test_a_capture_has_both_states_of_a_filter(world, dump, tmp_path):
    """As the node was when it was armed, and as crashdmp left it, in file and report."""
    node = next(row.node for row in dump["filters"] if row.filter == FVE and row.stack == "crash")
    off = ((node + 0xA8, b"\1\0\0\0"),)
    path = tmp_path / "c.jsonl"
    for where, script in (
        ("return", [call(dump, FVE, "Dump_Start", status=0xC0000001, writes=off), Idle()]),
        ("end", [call(dump, FVE, "Dump_Start", status=0xC0000001), Load("x.sys", 1, off), Idle()]),
    ):
        world(script)
        capture_here(
            *("com:port=com1", "--backend=pykd", "--output", str(path), "--timeout", "1.6"),
            say=lambda _: None,
        )
        told = [json.loads(line) for line in path.read_text().splitlines()]
        states = [
            bytes.fromhex(fact["bytes"])[0xA8]
            for fact in told
            if fact.get("fact") == "node" and int(fact["address"], 16) == node
        ]
        assert states == [0, 1], where
        case = analyzer.open(path)
        assert [row.is_disabled for row in case.records["filters"] if row.node == node] == [True]
        assert "filter-disabled" in rules(case)
        path.unlink()


def test_a_capture_that_is_cut_in_a_call_is_no_proof(world, dump, tmp_path):
    """It may have returned a moment later; the same capture with its end is one."""
    world([call(dump, FVE, "Dump_Start", returns=False), Idle()])
    case, _, _ = captured(tmp_path, timeout=1.6)
    assert "callback-never-returned" in rules(case)
    path = tmp_path / "capture.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if '"fact":"call"' in line)
    (tmp_path / "cut.jsonl").write_text("".join(lines[: at + 1]))
    cut = analyzer.open(tmp_path / "cut.jsonl")
    assert {"capture-cut", "callback-under-way"} <= set(rules(cut))
    assert "callback-never-returned" not in rules(cut)
    assert max(
        (f.severity for f in cut.records["findings"]), key=("info warning error".split()).index
    )
    assert "error" not in {f.severity for f in cut.records["findings"]}


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (0x80070057, "an argument is malformed (HRESULT 0x80070057)"),
        (0x80070002, "no such file or port (HRESULT 0x80070002)"),
        (0xD0000022, "STATUS_ACCESS_DENIED (HRESULT 0xd0000022)"),
    ],
)
def test_results_in_words(result, words):
    """What the engine refuses is said with its meaning."""
    assert com.words(result - (1 << 32)) == words


def test_a_refusal_of_pykd_is_one_line(world):
    """No literal line break, the meaning, the string that was refused, no key."""
    _, pykd = world()

    def refuse(_):
        raise pykd.DbgException("Call IDebugClient::AttachKernel failed\\nHRESULT 0x80070057")

    pykd.attachKernel = refuse
    with pytest.raises(SessionError) as caught:
        pykd_target.attach("net:port=5,key=1.2.3.4")
    assert str(caught.value) == (
        "the debugger cannot attach to 'net:port=5,key=...': an argument is malformed "
        "(HRESULT 0x80070057)."
    )


def test_no_key_in_a_capture(world, dump, tmp_path):
    """The KDNET key is in no line of the file, and in none that is printed."""
    world([call(dump, FVE, "Dump_Start")])
    path, said = tmp_path / "c.jsonl", []
    connect = "net:port=50000,key=11.22.33.44"
    capture_here(connect, "--backend=pykd", "--output", str(path), say=said.append)
    assert "22.33" not in path.read_text()
    assert "22.33" not in "".join(said)
    assert "net:port=50000" in path.read_text()
    assert connection.secretless("tcp:server=x,port=1,password=a b") == (
        "tcp:server=x,port=1,password=... b"
    )


def test_commands_have_their_own_text(console, dump):
    """filters, callbacks and calls differ; no shell command is named in the window."""
    script = [call(dump, FVE, "Dump_Start", status=0xC000000D), call(dump, ACME, "Dump_Start")]
    run, machine = console(script)
    before = run("callbacks")
    run("arm", "--quiet")
    machine.go()
    texts = [run(command) for command in ("", "filters", "callbacks", "calls", "report")]
    assert len(set(texts)) == 5
    assert "called 1 time, last STATUS_INVALID_PARAMETER" in texts[2]
    assert "called" not in before
    assert len([line for line in texts[3].splitlines() if "Dump_Start" in line]) == 2
    assert "file offset 0x0" not in texts[4]
    assert all("dumpstart show" not in text for text in texts[:4])


def test_the_dry_run_in_the_window(console):
    """What each callback would do now, in lines that fit."""
    pytest.importorskip("unicorn")
    run, machine = console()
    text = run("dryrun")
    assert run.code == 0
    assert "dump_dumpfve.sys Dump_Start (crash dump): " in text
    assert max(map(len, text.splitlines())) <= 80
    assert machine.breakpoints == {}


def test_before_arm_it_says_what_to_do(console):
    """Not what dumps cannot tell."""
    run, _ = console()
    for command in ("", "report"):
        assert run(command).splitlines()[0] == "Nothing was watched yet:  !dumpstart arm  , then  g"
    assert "Nothing was watched yet" in run("calls")
    run, _ = console(is_dump=True)
    assert "Nothing was watched yet" not in run("")


def test_arm_prints_a_line_a_call(console, dump):
    """No JSON, nothing longer than the window but a path."""
    run, machine = console([call(dump, FVE, "Dump_Start", status=0xC0000001)])
    assert "{" not in run("arm")
    pykd = sys.modules["pykd"]
    del pykd.printed[:]
    machine.go()
    (line,) = [text for text, _ in pykd.printed]
    assert "dump_dumpfve.sys  Dump_Start   STATUS_UNSUCCESSFUL  500 ns" in line
    assert len(line) <= 79


def test_arm_stops_where_it_hurts(console, dump):
    """--stop-on failure leaves the window at the failing return, and says where."""
    script = [call(dump, FVE, "Dump_Start"), call(dump, ACME, "Dump_Start", status=0xC0000001)]
    run, machine = console([*script, call(dump, FVE, "Dump_Finish")])
    run("arm", "--stop-on", "failure")
    pykd = sys.modules["pykd"]
    del pykd.printed[:]
    assert machine.go() == "breakpoint"
    assert machine.registers["rip"] == machine.back
    assert machine.registers["rax"] == 0xC0000001
    printed = "\n".join(text for text, _ in pykd.printed)
    assert "Dump_Start of dump_acmeflt.sys returned 0xc0000001 (STATUS_UNSUCCESSFUL)" in printed
    assert machine.go() == "ended"
    assert "3 calls captured" in run("stop")


@pytest.mark.parametrize(
    ("wanted", "stopped"),
    [("failure", [1]), ("slow=1", [2]), ("return", [0]), ("never", []), ("failure,slow=1", [1])],
)
def test_stop_on(world, dump, tmp_path, wanted, stopped):
    """The capture ends at the first return that was asked for."""
    script = [
        call(dump, FVE, "Dump_Start", ticks=20_000),
        call(dump, ACME, "Dump_Start", ticks=20_000, status=0xC0000001),
        call(dump, FVE, "Dump_Finish", ticks=4_000_000),  # 2 ms
    ]
    machine, _ = world(script)
    said = []
    options = ["--backend=pykd", "--output", str(tmp_path / "c.jsonl"), "--stop-on", wanted]
    monkey = pykd_target.PykdSession.stand
    stands = []
    pykd_target.PykdSession.stand = lambda *_: stands.append(machine.registers["rip"])
    try:
        run = capture_here("com:port=com1", *options, say=said.append)
    finally:
        pykd_target.PykdSession.stand = monkey
    assert run.calls == (stopped[0] + 1 if stopped else 3)
    assert stands == ([machine.back] if stopped else [])
    assert machine.breakpoints == {}


def test_an_engine_that_gives_text_for_a_number(world, dump, tmp_path):
    """An error of ours, and the target goes on."""
    _, pykd = world([call(dump, FVE, "Dump_Start")])
    pykd.getModulesList = lambda: [type("M", (), {"__getattr__": lambda *_: lambda: "x"})()]
    with pytest.raises(SessionError, match="gives str for a number"):
        captured(tmp_path)
    _, pykd = world([call(dump, FVE, "Dump_Start")])
    pykd.rdmsr = lambda _: "now"
    path = str(tmp_path / "c.jsonl")
    with pytest.raises(SessionError):
        capture_here("com:port=com1", "--backend=pykd", "--output", path)
    assert pykd.log[-1] == "qd"


def test_a_pykd_that_lacks_something(monkeypatch):
    """What it lacks, and which one to get."""
    monkeypatch.setitem(sys.modules, "pykd", type(sys)("pykd"))
    with pytest.raises(SessionError, match=r"cannot .*attachKernel.*get pykd 0\.3\.4\.15"):
        pykd_target.attach("com:port=com1")


@pytest.mark.parametrize("where", [".reload", "constructor", "begin"])
def test_the_target_runs_whatever_fails_after_the_attach(world, tmp_path, monkeypatch, where):
    """The engine detaches with qd when .reload, the session or the first look raises."""
    _, pykd = world()
    if where == ".reload":
        command = pykd.dbgCommand

        def refuse(text, *rest):
            if text == ".reload":
                raise pykd.DbgException("no")
            return command(text, *rest)

        pykd.dbgCommand = refuse
    elif where == "constructor":
        monkeypatch.setattr(pykd_target.PykdSession, "_command", None)
        pykd.ptrSize = lambda: 1 / 0
        pykd.isDumpAnalyzing = lambda: False
        monkeypatch.setattr(pykd_target.PykdSession, "_ask", lambda *_: 1 / 0)
    else:
        monkeypatch.setattr("analyzer.live.find.filters", lambda _: 1 / 0)
    with pytest.raises((SessionError, ZeroDivisionError)):
        capture_here("com:port=com1", "--backend=pykd", "--output", str(tmp_path / "c.jsonl"))
    assert pykd.log[-1] == "qd"


def test_a_refused_return_breakpoint_keeps_the_entry(world, dump, tmp_path):
    """The entry of Dump_Start is told, and why its return is not."""
    machine, pykd = world([call(dump, FVE, "Dump_Start")])
    real = pykd.setBp

    def refuse(address, *rest):
        if address == machine.back:
            raise pykd.DbgException("no more")
        return real(address, *rest)

    pykd.setBp = refuse
    case, _, _ = captured(tmp_path)
    row = next(row for row in case.records["callbacks"] if row.call is not None)
    assert (row.filter, row.callback, row.was_called) == (FVE, "Dump_Start", "yes")
    assert "no more" in str(row.status)
    assert "callback-never-returned" not in rules(case)


def test_breakpoints_that_a_dead_debugger_left(tmp_path, monkeypatch):
    """They are removed at the next attach, and nothing else is written."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    machine = Machine(guest()[1], SCENARIOS["failing"])
    first = MachineSession(machine)
    place = machine.filters["dump_alpha.sys"].address("DumpStart")
    held = machine.read(place, 1)
    first.add_breakpoint(place, lambda _: CONTINUE)
    leftovers.note(first, {place: held, place + 1: b"\x90"})
    assert machine.read(place, 1) == b"\xcc"
    second = MachineSession(machine)  # the first one is gone without a word
    untouched = machine.read(place + 1, 64)
    path, said = tmp_path / "c.jsonl", []
    options = ["machine", "--output", str(path), "--timeout", "20"]
    run = capture_here(*options, say=said.append, session=second)
    assert "1 breakpoints that a debugger had left behind were removed" in said
    assert machine.read(place, 1) == held
    assert machine.read(place + 1, 64) == untouched
    assert calls(analyzer.open(*run.files))[0][:2] == ("dump_alpha.sys", "Dump_Start")


def test_a_breakpoint_of_another_debugger_is_left_alone(tmp_path, monkeypatch):
    """Without a note of it the routine is not watched, and that is told."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    machine = Machine(guest()[1], SCENARIOS["normal"])
    place = machine.filters["dump_alpha.sys"].address("DumpFinish")
    machine.write(place, b"\xcc")
    run = capture_here(
        *("machine", "--output", str(tmp_path / "c.jsonl"), "--calls", "2"),
        say=lambda _: None,
        session=MachineSession(machine),
    )
    told = [f.text for f in analyzer.open(*run.files).records["findings"]]
    assert any("another debugger's breakpoint lies at" in text for text in told)
    assert machine.read(place, 1) == b"\xcc"


def test_a_line_in_the_middle_of_a_function_is_refused(tmp_path):
    """A breakpoint is set at a function's entry, as unwind data tells it."""
    machine = Machine(guest()[1], SCENARIOS["normal"])
    place = machine.crashdmp.address("StartFilterDrivers") + 4
    path = str(tmp_path / "c.jsonl")
    options = ["machine", "--output", path, "--calls", "1", "--callback", f"{place:#x}"]
    run = capture_here(*options, say=lambda _: None, session=MachineSession(machine))
    told = [f.text for f in analyzer.open(*run.files).records["findings"]]
    assert any("lies inside a function that begins at" in text for text in told)


class Failing(MachineSession):
    """Raises at one of its engine's calls, chosen by a number."""

    def __init__(self, machine: Machine, when: int, error: BaseException) -> None:
        super().__init__(machine)
        self.when, self.error, self.count = when, error, 0

    def _maybe(self) -> None:
        self.count += 1
        if self.count == self.when:
            raise self.error

    def read(self, address, size):
        self._maybe()
        return super().read(address, size)

    def register(self, name):
        self._maybe()
        return super().register(name)

    def msr(self, number):
        self._maybe()
        return super().msr(number)

    def modules(self):
        self._maybe()
        return super().modules()

    def add_breakpoint(self, address, callback, hardware=False):
        self._maybe()
        return super().add_breakpoint(address, callback, hardware)

    def bugcheck(self):
        self._maybe()
        return super().bugcheck()


@pytest.mark.slow
def test_the_target_runs_after_any_failure(tmp_path):
    """150 failures of the engine at random places: no breakpoint is left and the machine runs."""
    seeded = random.Random(16)
    kinds = [SessionError("lost"), OSError("gone"), ValueError("odd"), KeyboardInterrupt()]
    counted = Failing(Machine(guest()[1], SCENARIOS["failing"]), -1, ValueError())
    options = ["machine", "--timeout", "20"]
    capture_here(
        *options, "--output", str(tmp_path / "all.jsonl"), say=lambda _: None, session=counted
    )
    for number in range(150):
        machine = Machine(guest()[1], SCENARIOS["failing"])
        error = kinds[number % len(kinds)]
        session = Failing(machine, seeded.randrange(1, counted.count), error)
        path = tmp_path / f"{number}.jsonl"
        with suppress(SessionError, OSError, ValueError, KeyboardInterrupt):
            capture_here(*options, "--output", str(path), say=lambda _: None, session=session)
        assert session.closed
        for image in machine.images:
            code = machine.read(image.base + 0x1000, 0x400)
            assert code == bytes(image.memory[0x1000:0x1400]), (number, session.when, error)
        assert machine.run(20_000) == "ran"


@pytest.mark.parametrize("seed", range(20))
def test_the_printed_lines_never_raise(seed):
    """Any facts, in any order: the narrator is called while the target stands."""
    seeded = random.Random(seed)
    kinds = ["call", "return", "lost", "armed", "clock", "calibration", "stop", "error", "disarmed"]
    values = [None, -1, 0, 1, "0x10", "x" * 99, [], {}, 1e300, True, 1 << 70]
    lines = []
    narrator = Narrator(lines.append)
    for _ in range(300):
        names = ["n", "id", "tsc", "host", "status", "filter", "callback", "mdl", "offset", "hz"]
        fact = {name: seeded.choice(values) for name in names}
        narrator.take({"fact": seeded.choice(kinds), **fact})
    narrator.end()
    json.dumps(lines)
