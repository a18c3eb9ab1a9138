"""What the pykd backend asks of pykd and makes of its answers, over a fake of it.

The contract that every backend keeps is in test_live_contract.py.
"""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace
from typing import Any

import fake_pykd
import pytest
from fake_machine import Call, Exception_, FakeMachine, Idle, Load

from analyzer.absence import Absent
from analyzer.errors import SessionError
from analyzer.live import pykd_target
from analyzer.live.session import CONTINUE, STOP
from analyzer.records import Origin

HERE = 0xFFFFF80012340000


@pytest.fixture
def pykd(sample: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a pykd over a machine with a script."""

    def make(*script: Any, is_dump: bool = False) -> Any:
        machine = FakeMachine(sample("healthy-x64-kernel.dmp"), script)
        made = fake_pykd.make(machine, is_dump)
        made.machine = machine
        monkeypatch.setitem(sys.modules, "pykd", made)
        return made

    return make


def attached() -> Any:
    """A session of the live kernel."""
    return pykd_target.attach("com:port=com1")


def raising(error: Exception) -> Any:
    """A call that the engine refuses."""

    def call(*_: Any) -> Any:
        raise error

    return call


@pytest.mark.parametrize(
    ("mode", "pointer", "architecture", "width"),
    [
        ("pykd.CPUType.AMD64", 8, "x64", 8), ("I386", 4, "x86", 4), ("X86", 4, "x86", 4),
        ("x64", 8, "x64", 8), ("a.ARM64", 8, "arm64", 8), ("IA64", 8, "x64", 8),
        ("other", 4, "x86", 4), ("AMD64", 5, "x64", 8),
    ],
)  # fmt: skip
def test_architectures(pykd: Any, mode: str, pointer: int, architecture: str, width: int) -> None:
    """The processor, or what its pointers tell; a register is as wide as a pointer."""
    one = pykd()
    one.getCPUMode, one.ptrSize = lambda: mode, lambda: pointer
    one.reg = lambda name: 0x99AABBCDDDEEFF00 if name == "a" else one.nothing
    session = attached()
    assert (session.architecture, session.pointer_size) == (architecture, width)
    assert session.register("a") == (0x99AABBCDDDEEFF00 if width == 8 else 0xDDEEFF00)
    absent = Absent("not-found", "the register b cannot be read")
    assert session.register("b") == absent


@pytest.mark.parametrize(
    ("number", "build"), [(19041, 19041), (0, None), ("x", None), (None, None)]
)
def test_the_build(pykd: Any, number: Any, build: Any) -> None:
    """A number from 1."""
    one = pykd()
    one.getSystemVersion = lambda: SimpleNamespace(buildNumber=number)
    assert attached().build == (build or Absent("not-recorded", "DbgEng does not tell the build"))


def test_an_engine_that_tells_nothing(pykd: Any) -> None:
    """Each answer says what is missing."""
    one = pykd()
    session = attached()
    refuse = raising(one.DbgException("no"))
    names = "ptrSize getCPUMode getSystemVersion getNumberThreads getCurrentThreadId bugCheckData "
    for name in f"{names} loadBytes reg rdmsr getOffset getModulesList findSymbol".split():
        setattr(one, name, refuse)
    none = Absent("not-recorded", "pykd does not tell it")
    assert session.processors() == session.current_processor() == none
    assert session.attributes() == none
    assert session.bugcheck() == Absent("not-recorded", "the engine knows no bugcheck")
    assert session.read(HERE, 4) == Absent("not-mapped", f"4 bytes at {HERE:#x} cannot be read")
    assert session.msr(0x10) == Absent(
        "not-found", "the model-specific register 0x10 cannot be read"
    )
    assert session.resolve("x!y") == Absent("not-found", "no module or symbol 'x!y'")
    assert session.nearest(HERE) == hex(HERE)
    assert session.modules() == []
    one.getNumberThreads = lambda: 0
    assert session.processors() == none
    one.bugCheckData = tuple
    assert session.bugcheck() == Absent("not-recorded", "the engine knows no bugcheck")
    again = attached()
    assert (again.architecture, again.pointer_size) == ("x64", 8)


def test_what_the_engine_tells(pykd: Any) -> None:
    """Numbers as they are, of 64 bits; 0 is a number, too."""
    one = pykd()
    session = attached()
    one.getNumberThreads, one.getCurrentThreadId = lambda: 8, lambda: 0
    assert (session.processors(), session.current_processor()) == (8, 0)
    one.bugCheckData = lambda: (0xD1, -1, 2, 3, 1 << 64)
    assert session.bugcheck() == (0xD1, (1 << 64) - 1, 2, 3, 0)
    one.rdmsr, one.getOffset = lambda _: 0, lambda _: 0
    assert (session.msr(5), session.resolve("x!y")) == (0, 0)
    one.findSymbol = lambda _: "dump_x!Start+1"
    assert session.nearest(HERE) == "dump_x!Start+1"
    for answer in ([1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 3, 256], None, ["a"] * 4):
        one.loadBytes = lambda *_, answer=answer: answer
        assert isinstance(session.read(HERE, 4), Absent)
    one.loadBytes = lambda *_: [1, 2, 3, 255]
    assert session.read(HERE, 4) == b"\1\2\3\xff"
    assert session.read(HERE, 0) == session.read(HERE, -1) == b""
    for bad in (True, 1.0, "x"):
        one.rdmsr = lambda _, bad=bad: bad
        with pytest.raises(SessionError, match=f"gives {type(bad).__name__} for a number"):
            session.msr(5)


DEBUG = """
Attributes    1f0
   fffff800`00001000 - fffff800`00001fff at offset 00002000
   fffff800`00003000 - fffff800`00003000 at offset 00003000
   fffff800`00005000 - fffff800`00004fff at offset 00003000
  ffffc08be4002110 - ffffc08be40021ff at offset 00004000
nothing fffff80000001000 - fffff80000001fff at offset 1
   ffffd000`00000000 - ffffd000`03ffed0f at offset 00005000
   ffffd100`00000000 - ffffd100`03ffed0e at offset 00005000
   ffffd200`00000000 - ffffd200`00000000 at offset 00005000
"""


@pytest.mark.parametrize(
    ("text", "attributes"),
    [
        (DEBUG, 0x1F0), ("Attributes 19\n", 0x19), ("Attributes 123456789\n", None), ("", None),
        ("xAttributes 19\n", None), ("Attributes 1 2\n", None),
    ],
)  # fmt: skip
def test_the_attributes_of_a_dump(pykd: Any, text: str, attributes: int | None) -> None:
    """From .dumpdebug, of a dump alone."""
    one = pykd(is_dump=True)
    session = pykd_target.dump("x.dmp")
    assert one.log == ["initialize", ("setSymbolPath", ""), ("loadDump", "x.dmp")]
    one.dbgCommand = lambda word: text if word == ".dumpdebug" else None
    none = Absent("not-recorded", "pykd does not tell it")
    assert session.attributes() == (attributes or none)
    one = pykd()
    one.dbgCommand = lambda _: text
    live = attached()
    assert live.attributes() == none
    assert list(live.regions()) == []


def test_the_blocks_of_a_dump(pykd: Any) -> None:
    """Of real sizes, 64 MB of them."""
    one = pykd(is_dump=True)
    session = pykd_target.dump("x.dmp")
    assert list(session.regions()) == []
    one.dbgCommand = lambda word: DEBUG if word == ".dumpdebug" else None
    left = (1 << 26) - 0x1000 - 1 - 0xF0
    assert left == 0x3FFEF0F
    assert list(session.regions()) == [
        (0xFFFFF80000001000, 0x1000), (0xFFFFF80000003000, 1), (0xFFFFC08BE4002110, 0xF0),
        (0xFFFFD00000000000, 0x3FFED10), (0xFFFFD20000000000, 1),
    ]  # fmt: skip
    fits = DEBUG.replace("03ffed0f at", f"{left - 1:08x} at")
    one.dbgCommand = lambda _: fits
    assert list(session.regions())[3:] == [(0xFFFFD00000000000, left)]


def test_unloaded_modules(pykd: Any) -> None:
    """Those that lm lists behind its heading."""
    one = pykd()
    session = attached()
    assert session.unloaded() == []
    one.dbgCommand = lambda word: (
        word == "lm"
        and (
            "start             end                 module name\n"
            "fffff800`00001000 fffff800`00002000   nt\n\n"
            "Unloaded modules:\n"
            "fffff800`00005000 fffff800`00007000   dump_a.sys\n"
            "nothing\n"
            "fffff800`00008000 fffff800`00009000   dump_b.sys\n"
        )
    )
    assert [(m.name, m.base, m.end, m.size, m.loaded, m.load_order, m.origin)
            for m in session.unloaded()] == [
        ("dump_a.sys", 0xFFFFF80000005000, 0xFFFFF80000007000, 0x2000, False, 0,
         Origin("com:port=com1", "unloaded modules", "certain", None, 0xFFFFF80000005000)),
        ("dump_b.sys", 0xFFFFF80000008000, 0xFFFFF80000009000, 0x1000, False, 1,
         Origin("com:port=com1", "unloaded modules", "certain", None, 0xFFFFF80000008000)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("listed", "is_kernel", "path"),
    [
        (".  0 64-bit Kernel bitmap dump: d:\\a b.dmp\n", True, "d:\\a b.dmp"),
        ("   0 Full user dump: c:\\u.dmp\n.  1 Kernel dump: d:\\k.dmp\n", True, "d:\\k.dmp"),
        (".  0 Full user dump: d:\\x.dmp\n", True, None),
        (".  0 User mini dump: d:\\x.dmp\n", True, None),
        (".  0 Kernel dump: d:\\user x.dmp\n", False, "d:\\user x.dmp"),
        ("", True, "the debugger's target"),
    ],
)
def test_a_dump_inside_the_debugger(pykd: Any, listed: str, is_kernel: bool, path: Any) -> None:
    """The current one of those that are open; a program's dump is refused."""
    one = pykd(is_dump=True)
    one.dbgCommand, one.isKernelDebugging = lambda _: listed, lambda: is_kernel
    if path is None:
        with pytest.raises(SessionError, match="no kernel and no kernel dump open"):
            pykd_target.inside()
        return
    session = pykd_target.inside()
    assert (session.path, session.is_dump, session._is_owner) == (path, True, False)
    assert session.capabilities == {"registers", "msr", "symbols"}
    assert session.read(0x10, 4).reason == "not-in-dump"
    session.close()
    with pytest.raises(SessionError, match="this is a dump: it does not run"):
        session.resume(1)


def test_what_runs_inside_the_debugger(pykd: Any) -> None:
    """A kernel; where it is not told, it is taken for one."""
    one = pykd()
    assert pykd_target.inside().path == "the debugger's target"
    one.isKernelDebugging = raising(one.DbgException("no"))
    one.isDumpAnalyzing = raising(one.DbgException("no"))
    session = pykd_target.inside()
    assert session.capabilities == {"registers", "msr", "symbols", "run", "module-events"}
    session.close()
    assert "qd" not in one.log  # the debugger's user goes on
    one.isKernelDebugging = lambda: False
    with pytest.raises(SessionError, match="no kernel and no kernel dump open"):
        pykd_target.inside()


def test_attaching(pykd: Any) -> None:
    """In this order; a debugger that is joined is not left with qd."""
    one, heard = pykd(), list[int]()
    session = pykd_target.attach("com:port=1", "srv*x", lambda: heard.append(len(one.log)))
    log = ["initialize", ("setSymbolPath", "srv*x"), ("attachKernel", "com:port=1"), ".reload"]
    assert (one.log, heard) == (log, [3])
    session.close(leave_running=False)
    session.close()
    assert one.log == log
    one = pykd()
    session = pykd_target.remote("tcp:server=H,password=x")
    assert (session.path, session.is_dump) == ("tcp:server=H,password=...", False)
    assert one.log == [("remoteConnect", "tcp:server=H,password=x"), ("setSymbolPath", "")]
    session.close()
    assert len(one.log) == 2
    one.initialize = raising(one.DbgException("  no\\nluck. "))
    with pytest.raises(SessionError) as caught:
        attached()
    assert str(caught.value) == "the debugger's engine refuses: no luck."


def test_breakpoints(pykd: Any) -> None:
    """A debug register watches one byte of code; numbers go up from 1."""
    one = pykd(Call(HERE), Call(HERE))
    session, made = attached(), []
    set_bp = one.setBp
    one.setBp = lambda *given: made.append(given[:-1]) or set_bp(*given)
    assert session.add_breakpoint(HERE, lambda _: CONTINUE) == 1
    assert session.add_breakpoint(HERE, lambda _: CONTINUE, hardware=True) == 2
    assert made == [(HERE,), (HERE, 1, 4)]
    hit = one.machine.breakpoints[HERE][0]
    assert hit() == "go on"
    session.interrupt()
    assert one.machine.broken_in
    assert hit() == "stop"  # a break-in while an event is handled is lost
    one.setBp = raising(one.DbgException("no"))
    with pytest.raises(SessionError, match=f"no breakpoint at {HERE:#x}: no"):
        session.add_breakpoint(HERE, lambda _: CONTINUE)


def test_events(pykd: Any) -> None:
    """Drivers come and go; a prompt that is not ours is told, of the user's debugger alone."""
    pykd(Load("a/b\\dump_new", 0x5000), Exception_())
    session, told = pykd_target.inside(), list[Any]()
    for event in ("load", "unload", "stand"):
        session.on(event, lambda *what, event=event: told.append((event, *what)))
    listed = session.modules()
    session.resume(5)
    assert told == [("load", "dump_new.sys", 0x5000), ("stand", "stop")]
    assert session.modules() is not listed
    listed = session.modules()
    handler = session._handler
    assert handler.onUnloadModule(0x5000, "x") == handler.onLoadModule(1, "x.dll") == "NoChange"
    assert told[2:] == [("unload", 0x5000), ("load", "x.dll", 1)]
    assert session.modules() is not listed
    del told[:]
    handler.onExecutionStatusChange(1)  # it runs
    session._hitting = True
    handler.onExecutionStatusChange("Break")
    session._hitting, session._wants_stop = False, 1
    handler.onExecutionStatusChange("Break")
    session._wants_stop, session._is_owner = None, True
    handler.onExecutionStatusChange("Break")
    assert told == []
    session.close()
    assert session._handler is None
    dead = pykd(is_dump=True)
    session = pykd_target.dump("x")
    session.on("load", print)
    assert session._handler is None
    assert dead.machine.loads == []


@pytest.mark.parametrize(
    ("event", "code", "detail"),
    [
        (SimpleNamespace(type="LoadModule"), None, "LoadModule"),
        (SimpleNamespace(type=""), None, "unknown event"),
        ("Odd", None, "Odd"),
        (None, None, "unknown event"),
        (None, -0x3FFFFFFB, "exception 0xc0000005"),
        (None, 0, "exception 0x00000000"),
    ],
)
def test_a_stop_of_the_targets_own(pykd: Any, event: Any, code: Any, detail: str) -> None:
    """The exception, else what the engine calls the event."""
    one = pykd(Exception_(), Call(HERE))
    session = attached()
    one.getLastEvent = lambda: event
    one.getLastException = lambda: SimpleNamespace(exceptionCode=code)
    assert session.resume(5) == ("exception", one.machine.registers["rip"], 0, detail)
    session.add_breakpoint(HERE, lambda _: STOP)
    assert session.resume(5) == ("breakpoint", HERE, 0, "")
    none = Absent("not-found", "the target is gone")
    assert session.resume(5) == ("ended", none, none, "")
    one.go = raising(one.DbgException("no"))
    with pytest.raises(SessionError, match="the target cannot be resumed: no"):
        session.resume(5)


@pytest.mark.parametrize("lost", [0, 2])
def test_a_break_in_that_is_lost(pykd: Any, lost: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for again, but not at once."""
    monkeypatch.setattr(pykd_target, "_TICK", 0.01)
    monkeypatch.setattr(pykd_target, "_GRACE", 0.2 if lost else 1000.0)
    one, asked = pykd(Idle(), Idle()), list[int]()
    session = attached()

    def breakin() -> None:
        asked.append(1)
        if not lost:
            threading.Timer(0.2, setattr, (one.machine, "broken_in", True)).start()
        elif len(asked) > lost:
            one.machine.broken_in = True

    one.breakin = breakin
    assert session.resume(0.05).kind == "timeout"
    assert len(asked) == 1 + lost
    threading.Timer(0.05, session.interrupt).start()
    assert session.resume(60).kind == "interrupt"


def test_what_happens_while_a_breakpoint_is_hit(pykd: Any) -> None:
    """The prompt that comes with it is ours; a module without a size has none."""
    one = pykd(Call(HERE))
    session, told = pykd_target.inside(), list[str]()
    session.on("stand", told.append)
    session.add_breakpoint(HERE, lambda _: session._handler.onExecutionStatusChange("Break"))
    assert session.resume(5).kind == "ended"
    assert told == []
    some = one.getModulesList()[0]
    some.size = raising(one.DbgException("no"))
    assert session._module(3, some)[1:4] == (some.begin(), some.begin(), 0)
