"""One contract for every backend of a live session (analyzer/live/session.py).

Here it runs on the backends pykd and dbgeng over fakes of them, on a dump and on a replay.
The fakes' docstrings say what that does not prove. ``-m live`` runs it on a real target.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
import threading
import time

import fake_pykd
import pytest
from conftest import SAMPLE_TRACES
from dump_session import DumpSession
from fake_dbgeng import Engine
from fake_machine import Call, Exception_, FakeMachine, Idle
from generator import Spec, build
from replay import ReplaySession
from said import sentences
from test_capture_file import facts
from test_live_capture import FVE, call

import analyzer
from analyzer import checks
from analyzer.absence import Absent
from analyzer.checks import crashes
from analyzer.cli import main
from analyzer.dumpfile import open_dump
from analyzer.errors import SessionError
from analyzer.live import (
    dbgeng_target,
    find,
    instructions,
    lines,
    look,
    ntoseye_target,
    pykd_target,
)
from analyzer.live.capture import Capture
from analyzer.live.options import parse_stop_on
from analyzer.live.session import CONTINUE, STOP, Session
from analyzer.sources.capture_format import Writer, encode

_BACKENDS = {"dbgeng": dbgeng_target, "ntoseye": ntoseye_target, "pykd": pykd_target}
HERE = 0xFFFFF80012340000
THERE = 0xFFFFF80012350000


@pytest.fixture
def dbgeng(sample, monkeypatch):
    """DbgEng, as far as the package calls it, over a machine with a script."""

    def make(script=(), **options):
        made = Engine(FakeMachine(sample("healthy-x64-kernel.dmp"), script), **options)
        monkeypatch.setattr(ctypes, "WinDLL", lambda *_, **__: made, raising=False)
        engines.append(made)
        return made

    engines = []
    yield make
    assert [problem for one in engines for problem in one.problems] == []


@pytest.fixture(params=["pykd", "dbgeng"])
def live_session(request, sample, monkeypatch, dbgeng):
    """A session of either backend over a machine with a script; what it was asked is its log."""

    def make(script=()):
        if request.param == "dbgeng":
            engine = dbgeng(script)
            return (
                dbgeng_target.attach("com:port=com1", engine=__file__),
                engine.machine,
                engine.log,
            )
        machine = FakeMachine(sample("healthy-x64-kernel.dmp"), script)
        monkeypatch.setitem(sys.modules, "pykd", fake_pykd.make(machine))
        return pykd_target.attach("com:port=com1"), machine, sys.modules["pykd"].log

    return make


@pytest.fixture
def attached():
    """A real target: DUMPSTART_TARGET is BACKEND:CONNECTION."""
    backend, _, where = os.environ["DUMPSTART_TARGET"].partition(":")
    session = _BACKENDS[backend].attach(where)
    yield session
    session.close()


@pytest.mark.live
@pytest.mark.skipif("DUMPSTART_TARGET" not in os.environ, reason="needs a target: DUMPSTART_TARGET")
def test_attached(attached):
    """What a real target must do, in one session, because attaching takes long."""
    assert isinstance(attached.read(0x10, 4), Absent)
    modules = list(attached.modules())
    kernel = modules[0]
    assert attached.read(kernel.base, 2) == b"MZ"
    assert attached.resolve(f"{kernel.name}+0x10") == kernel.base + 0x10
    assert isinstance(attached.resolve("nosuch!Thing"), Absent)
    assert isinstance(attached.named("nonsense"), Absent)
    before = attached.clock()
    assert attached.named("ip") > 0xFFFF << 48
    handle = attached.add_breakpoint(attached.named("ip"), lambda _: STOP)
    attached.remove_breakpoint(handle)
    attached.remove_breakpoint(handle)
    assert attached.resume(1).kind in ("timeout", "exception")
    threading.Timer(1, attached.interrupt).start()
    assert attached.resume(60).kind in ("interrupt", "exception")
    after = attached.clock()
    assert after.host_ns > before.host_ns
    if not isinstance(before.tsc, Absent):
        assert after.tsc > before.tsc
    attached.close()
    attached.close()


@pytest.fixture(params=["live", "dump", "replay"])
def any_session(request, sample, live_session, tmp_path):
    """Each backend on the same memory."""
    if request.param == "dump":
        return DumpSession(open_dump(str(sample("healthy-x64-kernel.dmp"))))
    session, *_ = live_session([Call(HERE)])
    if request.param == "live":
        return session
    path = tmp_path / "c.jsonl"
    writer = Writer(str(path))
    capture = Capture(session, writer)
    capture.begin()
    capture.finish(capture.run(5))
    writer.close()
    return ReplaySession(str(path))


def test_missing_memory_is_a_value(any_session):
    """No memory at address 0x10: an Absent with a reason, not an exception."""
    assert isinstance(any_session.read(0x10, 4), Absent)


def test_reads_are_whole_or_absent(any_session):
    """The filter's node of the sample dump lies at 0xffffc08be4002110 and starts with version 2."""
    assert any_session.read(0xFFFFC08BE4002110, 8) == b"\2\0\0\0\0\0\0\0"


def test_modules_are_told(any_session):
    """The dump stack's images, with base and end."""
    found = {str(m.name).lower(): m for m in any_session.modules()}
    module = found["dump_dumpfve.sys"]
    assert module.end - module.base == module.size > 0


def test_addresses_without_symbols(any_session):
    """module+0xOFFSET and plain addresses are resolved by every backend."""
    base = next(m.base for m in any_session.modules() if str(m.name) == "dump_dumpfve.sys")
    assert any_session.resolve("dump_dumpfve+0x1000") == base + 0x1000
    assert any_session.resolve("0xfffff80012345678") == 0xFFFFF80012345678
    assert isinstance(any_session.resolve("nosuch!Thing"), Absent)


def test_closing_twice(any_session):
    """close() may be called again and does not raise."""
    any_session.close()
    any_session.close()


def test_what_does_not_run_says_so(sample):
    """A dump cannot be resumed."""
    session = DumpSession(open_dump(str(sample("healthy-x64-kernel.dmp"))))
    with pytest.raises(SessionError):
        session.resume(1)
    assert session.capabilities == frozenset()


def test_callbacks_in_order(live_session):
    """Each address calls its own callback, with the address and the processor."""
    session, *_ = live_session([Call(HERE, cpu=1), Call(THERE)])
    seen = []
    for address in (THERE, HERE):
        session.add_breakpoint(address, lambda stop: seen.append(stop[:3]) or CONTINUE)
    assert session.resume(5).kind == "ended"
    assert seen == [("breakpoint", HERE, 1), ("breakpoint", THERE, 0)]


def test_stop_ends_resume(live_session):
    """A callback that says STOP ends resume() with its stop."""
    session, *_ = live_session([Call(HERE), Call(HERE)])
    session.add_breakpoint(HERE, lambda _: STOP)
    assert session.resume(5)[:2] == ("breakpoint", HERE)


def test_raise_in_a_callback_continues(live_session):
    """What a callback raises is noted; the target goes on."""
    session, *_ = live_session([Call(HERE), Call(HERE)])
    session.add_breakpoint(HERE, lambda _: 1 / 0)
    assert session.resume(5).kind == "ended"
    assert session.errors == ["ZeroDivisionError: division by zero"] * 2


def test_removed_breakpoints_are_silent(live_session):
    """A removed breakpoint is not hit; removing it again is no error."""
    session, machine, _ = live_session([Call(HERE)])
    handle = session.add_breakpoint(HERE, lambda _: STOP)
    session.remove_breakpoint(handle)
    session.remove_breakpoint(handle)
    assert session.resume(5).kind == "ended"
    assert machine.breakpoints == {}


def test_breakpoint_set_in_a_callback(live_session):
    """A return breakpoint that is set at the entry is hit; registers hold the status."""
    session, machine, _ = live_session([Call(HERE, 0x1234, status=0xC0000001)])
    seen = []

    def back(_):
        seen.append(session.named("result"))
        return CONTINUE

    def entry(_):
        seen.append(session.argument(0))
        session.add_breakpoint(session.return_address(), back)
        return CONTINUE

    session.add_breakpoint(HERE, entry)
    session.resume(5)
    assert seen == [0x1234, 0xC0000001]
    assert machine.registers["rax"] == 0xC0000001


def test_exception_is_a_stop(live_session):
    """The target's own stop ends resume() and tells the exception."""
    session, *_ = live_session([Exception_(0xC0000005)])
    stop = session.resume(5)
    assert (stop.kind, stop.detail) == ("exception", "exception 0xc0000005")


def test_time_limit(live_session):
    """A target that does nothing is stopped when the time is up."""
    session, *_ = live_session([Idle()])
    assert session.resume(0.2).kind == "timeout"


def test_interrupt_from_another_thread(live_session):
    """interrupt() may come from any thread."""
    session, *_ = live_session([Idle()])
    threading.Timer(0.2, session.interrupt).start()
    assert session.resume(30).kind == "interrupt"


def test_close_leaves_the_target_running(live_session):
    """close() removes every breakpoint and detaches with qd."""
    session, machine, log = live_session([Call(HERE)])
    session.add_breakpoint(HERE, lambda _: CONTINUE)
    session.close()
    assert machine.breakpoints == {}
    assert log[-1] == "qd"


def test_replayed_capture_captures_the_same(live_session, tmp_path, sample):
    """A capture of a replay holds the same calls, statuses and durations as the first."""
    dump = analyzer.open(sample("healthy-x64-kernel.dmp")).records
    session, *_ = live_session(
        [call(dump, FVE, "Dump_Start", status=0xC0000001), call(dump, FVE, "Dump_Finish")]
    )
    tables = []
    for name in ("one", "two"):
        path = tmp_path / name
        writer = Writer(str(path))
        capture = Capture(session, writer)
        capture.begin(tsc_hz=2_000_000_000)
        capture.finish(capture.run(5))
        writer.close()
        rows = analyzer.open(path).records["callbacks"]
        rows = [row for row in rows if row.call is not None]
        tables.append([(r.filter, r.callback, r.status, r.entry_clock) for r in rows])
        session = ReplaySession(str(path))
    assert tables[0] == tables[1]
    assert len(tables[0]) == 2


@pytest.mark.parametrize(
    "name",
    ["rizinorg_rizin-testbins__triage_x64.dmp", "dbgeng_written_mini.dmp"],
)
def test_real_minidumps_as_sessions(shared_sample, name):
    """Looked at as a session, a real minidump shows the filters that analyze shows."""
    path = shared_sample(f"dmp/{name}")
    found = look.records(DumpSession(open_dump(str(path))))
    told = analyzer.open(path).records
    skip = {"origin", "last_failing_routine", "last_failing_status", "last_failing_status_name"}
    for table in ("filters", "extensions"):
        rows = [
            [tuple(v for n, v in zip(row._fields, row) if n not in skip) for row in side[table]]
            for side in (found, told)
        ]
        assert rows[0] == rows[1]
        assert len(rows[0]) == 1


def test_a_capture_is_not_written_over(tmp_path, capsys):
    """What a machine once did cannot be repeated."""
    path = tmp_path / "c.jsonl"
    path.write_text("".join(encode(fact) + "\n" for fact in facts([(5000, 0)])))
    held = path.read_bytes()
    assert main(["capture", "com:port=com1", "--output", str(path)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert path.read_bytes() == held


def test_a_session_that_cannot_be_opened_leaves_no_file(tmp_path, capsys):
    """Not even an empty one."""
    path = tmp_path / "new.jsonl"
    missing = str(tmp_path / "none.dll")
    assert main(["capture", "com:port=com1", "--engine", missing, "--output", str(path)]) == 2
    assert not path.exists()
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "option",
    [
        *("--timeout=nan", "--timeout=-1", "--calls=0", "--tsc-hz=-5", "--callback=0x0"),
        *("--stop-on=slow", "--stop-on=slow=x", "--stop-on=failures", "--writes=some"),
    ],
)
def test_numbers_that_cannot_be(option, tmp_path):
    """A usage error, before anything is opened."""
    path = tmp_path / "new.jsonl"
    assert main(["capture", "com:port=com1", "--output", str(path), option]) == 2
    assert not path.exists()


def both_ways(path):
    """What a dump's session tells and what its file tells, each checked."""
    found, told = look.records(DumpSession(open_dump(str(path)))), analyzer.open(path).records
    found.add(*crashes.group(found))
    found.add(*checks.run(found))
    return found, told


def assert_same_answer(found, told):
    """Headline, sections, findings; a debugger does not tell the levels of page tables."""
    assert sentences(found) == [one.replace("x64-la57", "x64") for one in sentences(told)]
    texts = [sorted((one.rule, one.text) for one in side["findings"]) for side in (found, told)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("path", sorted(SAMPLE_TRACES.glob("*.dmp")), ids=lambda path: path.name)
def test_dumps_as_sessions_answer_as_their_files(path):
    """Looked at as a session, a dump gives the findings and the answer that analyze gives."""
    found, told = both_ways(path)
    headers = [[one._replace(architecture=None) for one in s["machine"]] for s in (found, told)]
    assert headers[0] == headers[1]
    if path.name == "broken-x64-cut.dmp":  # the file's own reader knows how many pages are gone
        assert sentences(found)[0] == sentences(told)[0]
        assert "the file is cut short" in sentences(found)[0]
        return
    assert_same_answer(found, told)


@pytest.mark.parametrize(
    ("rule", "variant", "patch"),
    [
        ("dump-bugcheck-differs", "healthy", (0x38, b"\x33\1\0\0")),  # nt's own data says 0xD1
        ("dump-not-by-windows", "no-secondary", (0xFB0, b"Hello from elf2dmp!\0")),
    ],
)
def test_contradictions_of_a_dump_are_told_in_the_debugger(rule, variant, patch, tmp_path):
    """A dump that contradicts itself does so as a session, too."""
    data = bytearray(build(Spec("x64", 1, "win8", variant)).data)
    at, value = patch
    data[at : at + len(value)] = value
    path = tmp_path / "made.dmp"
    path.write_bytes(data)
    found, told = both_ways(path)
    assert rule in {row.rule for row in found["findings"]}
    assert_same_answer(found, told)


def test_a_dump_that_ended_early_in_the_debugger(shared_sample):
    """A real minidump whose header keeps another last line: the same finding."""
    found, told = both_ways(shared_sample("../faults/minidump-26100-header-last-line.dmp"))
    early = [[r.text for r in s["findings"] if r.rule == "dump-ended-early"] for s in (found, told)]
    assert early[0] == early[1]
    assert len(early[0]) == 1


def test_a_dump_on_another_machine(sample):
    """Where the file cannot be read here, the engine's own account of it is told."""
    session = DumpSession(open_dump(str(sample("healthy-x64-kernel.dmp"))))
    session.path = "D:\\elsewhere.dmp"
    session.bugcheck = lambda: (0xD1, 1, 2, 3, 4)
    session.attributes = lambda: 0x10
    found = look.records(session)
    assert [row.kind for row in found["sources"]] == ["kernel dump"]
    found.add(*crashes.group(found))
    found.add(*checks.run(found))
    assert sentences(found)[0] == (
        "elsewhere.dmp is a kernel dump of a running system: the machine had not crashed."
    )


@pytest.mark.parametrize(
    ("code", "architecture", "size"),
    [
        # oracle: objdump -d of these bytes
        ("85c0", "x64", 2), ("8bd8", "x64", 2), ("488bd8", "x64", 3), ("4883c428", "x64", 4),
        ("89442430", "x64", 4), ("488b5c2430", "x64", 5), ("8b05785634 12", "x64", 6),
        ("48b8887766554433 2211", "x64", 10), ("b801000000", "x64", 5), ("3d01000000", "x64", 5),
        ("0f1f440000", "x64", 5), ("90", "x64", 1), ("5b", "x64", 1), ("c3", "x64", None),
        ("e800000000", "x64", None), ("7505", "x64", None), ("ff15", "x64", None),
        ("", "x64", None), ("48", "x64", None), ("85c0", "x86", 2), ("8b0578563412", "x86", 6),
        ("638d", "x86", None),
        ("e00300aa", "arm64", 4),  # mov x0, x0
        ("c0035fd6", "arm64", None),  # ret
        ("00000094", "arm64", None),  # bl
        ("00000054", "arm64", None),  # b.eq
        ("000000b4", "arm64", None),  # cbz
    ],
)  # fmt: skip
def test_instruction_lengths(code, architecture, size):
    """Only plain instructions have a length; a jump, a call or a cut one has none."""
    assert instructions.length(bytes.fromhex(code), architecture) == size


@pytest.mark.parametrize("architecture", ["x64", "x86"])
def test_instruction_lengths_are_those_of_a_disassembler(architecture):
    """Oracle: capstone, on every opcode that is known, with every ModRM byte and some SIB bytes."""
    capstone = pytest.importorskip("capstone")
    mode = capstone.CS_MODE_64 if architecture == "x64" else capstone.CS_MODE_32
    machine, known, names = capstone.Cs(capstone.CS_ARCH_X86, mode), set(), set()
    leads = [b"", b"\x0f", *([b"\x48", b"\x41"] if architecture == "x64" else [])]
    for lead, opcode in itertools.product(leads, range(256)):
        for rest in itertools.product(range(256), (0x00, 0x25, 0x24)):
            code = lead + bytes([opcode, *rest]) + bytes(10)
            size = instructions.length(code, architecture)
            if size is None:
                break  # hardly any ModRM byte makes an opcode known
            one = next(machine.disasm_lite(code, 0, 1), None)
            if one is not None:  # LEA of a register is no instruction
                assert one[1] == size, (code.hex(), one)
                known.add(lead + bytes([opcode]))
                names.add(one[2])
    assert len(known) == {"x64": 186, "x86": 67}[architecture]  # none is lost
    both = (
        "adc add and cmp lea mov movaps movsx movups movzx nop or pop push rcl rcr rol ror sal sar "
    )
    both += "sbb shl shr sub test xor"
    only_x64 = {"movabs", "movsxd", "xchg"}  # xchg of a register with itself, behind a prefix
    assert names == set(both.split()) | (only_x64 if architecture == "x64" else set())


class Standing(Session):
    """A machine of which some registers and words of memory are known."""

    backend = "standing"

    def __init__(self, architecture, registers, words=None, counter=None):
        super().__init__()
        self.architecture, self.pointer_size = architecture, 4 if "x86" in architecture else 8
        self._registers, self._words, self._counter = registers, words or {}, counter

    def read(self, address, size):
        """A word at a time."""
        word = self._words.get(address)
        return Absent("not-mapped") if word is None else word.to_bytes(size, "little")

    def modules(self):
        """None."""
        return []

    def register(self, name):
        """What it holds."""
        return self._registers.get(name, Absent("not-found"))

    def msr(self, number):
        """The counter alone, if there is one."""
        known = number == 0x10 and self._counter is not None
        return self._counter() if known else Absent("not-found")


def test_arguments_by_the_calling_convention():
    """x86: on the stack behind the return address; x64 and ARM64: in registers."""
    x86 = Standing("x86-pae", {"esp": 0x1000}, {0x1000 + 4 * n: 0x40 + n for n in range(5)})
    assert [x86.argument(n) for n in range(4)] == [0x41, 0x42, 0x43, 0x44]
    assert x86.return_address() == 0x40
    x64 = Standing("x64", {"rcx": 1, "rdx": 2, "r8": 3, "r9": 4, "rsp": 0x10}, {0x10: 9})
    assert [x64.argument(n) for n in range(4)] == [1, 2, 3, 4]
    assert x64.return_address() == 9
    arm = Standing("arm64", {"x0": 1, "x1": 2, "x2": 3, "x3": 4, "lr": 9})
    assert [arm.argument(n) for n in range(4)] == [1, 2, 3, 4]
    assert arm.return_address() == 9
    assert isinstance(Standing("x86", {}).argument(0), Absent)


def test_a_clock_is_measured_against_the_debuggers():
    """A counter of 2 GHz: the bounds hold the truth, and are as far apart as the readings took."""
    counter = Standing("x64", {}, counter=lambda: 2 * time.perf_counter_ns())
    fact = find.frequency(counter, None, 0.2)
    assert fact["low"] <= fact["hz"] <= fact["high"]
    assert fact["low"] <= 2_000_000_000 <= fact["high"]
    assert fact["low"] > 200_000_000
    assert fact["how"] == "measured against the debugger's clock for 0.2 s"
    assert find.frequency(counter, 5)["hz"] == 5
    assert find.frequency(Standing("x64", {}), None) is None
    slow = Standing("x64", {}, counter=lambda: time.perf_counter_ns() // 11)
    assert find.frequency(slow, None, 0.01) is None


def test_how_long_writes_took_is_summed_up():
    """Each bound belongs to what is above it."""
    made = lines.Sum()
    made.times = [0, 10**6 - 1, 10**6, 10**7 - 1, 10**7, 10**8 - 1, 10**8, 10**9 - 1, 10**9]
    assert made.histogram() == (
        "below 1 ms: 2, below 10 ms: 2, below 100 ms: 2, below 1 s: 2, 1 s and more: 1"
    )
    made.bytes, made.calls, made.failed, made.retries = 5_000_000, 2, 1, 1
    made.times = [500_000_000]
    assert made.words() == (
        "2 calls, 1 failed, 1 at the offset of the call before, 5.0 MB, 10.0 MB/s in the callback"
    )


@pytest.mark.parametrize(
    ("text", "slow_ns"), [("slow=250", 250_000_000), ("slow=0.5,failure", 500_000)]
)
def test_when_a_capture_stops(text, slow_ns):
    """Milliseconds."""
    assert parse_stop_on(text).slow_ns == slow_ns
