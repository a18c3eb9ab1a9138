"""What the dbgeng backend asks of the engine and makes of its answers, over a fake of the engine.

The contract that every backend keeps is in test_live_contract.py; ``-m live`` has the real engine.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from typing import Any, Callable

import pytest
from fake_dbgeng import EXECUTION_STATUS, SESSION, STATE, Engine
from fake_machine import Bugcheck, Call, Exception_, FakeMachine, Idle, Load

from analyzer.absence import Absent
from analyzer.errors import SessionError
from analyzer.live import dbgeng_target
from analyzer.live.session import CONTINUE, STOP

HERE = 0xFFFFF80012340000
REBOOT = 5  # DEBUG_SESSION_REBOOT


@pytest.fixture
def engine(sample: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Engine]]:
    """DbgEng over a machine with a script."""

    def make(*script: Any, joined: bool = False) -> Engine:
        made = Engine(FakeMachine(sample("healthy-x64-kernel.dmp"), script), joined)
        monkeypatch.setattr(ctypes, "WinDLL", lambda *_, **__: made, raising=False)
        engines.append(made)
        return made

    engines: list[Engine] = []
    yield make
    assert [problem for one in engines for problem in one.problems] == []


def attached(**options: Any) -> Any:
    """A session of the live kernel."""
    return dbgeng_target.attach("net:port=50000,key=1.2.3.4", engine=__file__, **options)


def test_attaching(engine: Any) -> None:
    """No symbol server unless it is named; a break at once; all modules, not the kernel alone."""
    one, heard = engine(), []
    session = attached(heard=lambda: heard.append(True))
    assert one.log == [
        ("SetSymbolPath", ""), ("AddEngineOptions", 0x20),  # DEBUG_ENGOPT_INITIAL_BREAK
        ("AttachKernel", "net:port=50000,key=1.2.3.4"), ("Reload", ""),
    ]  # fmt: skip
    assert heard == [True]
    assert "1.2.3.4" not in session.path
    assert (session.is_dump, session.is_joined, session.pointer_size) == (False, False, 8)
    assert (session.architecture, session.build, session.processors()) == ("x64", 19041, 2)
    assert session.capabilities == {"registers", "msr", "symbols", "run", "module-events"}
    one = engine()
    attached(symbols="srv*c:")
    assert one.log[0] == ("SetSymbolPath", "srv*c:")


def test_a_dump_in_the_engine(engine: Any) -> None:
    """It is read, does not run, and says of what is missing that the dump lacks it."""
    one = engine()
    session = dbgeng_target.dump("d:\\memory.dmp", engine=__file__)
    assert ("OpenDumpFile", "d:\\memory.dmp") in one.log
    assert session.is_dump
    assert session.capabilities == {"registers", "msr", "symbols"}
    assert session.read(0x10, 4).reason == "not-in-dump"
    with pytest.raises(SessionError, match="a dump"):
        session.resume(1)
    session.close()
    assert "qd" not in one.log


def test_what_the_engine_is_not_attached_to(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program, or nothing at all."""
    monkeypatch.setattr(Engine, "GetDebuggeeType", lambda *_: 0)
    one = engine()
    with pytest.raises(SessionError, match="no kernel"):
        attached()
    assert one.log[-1] == "qd"


def test_reading(engine: Any) -> None:
    """Memory, registers, model-specific registers, modules and the bugcheck."""
    one = engine()
    session = attached()
    assert session.read(0x10, 4).reason == "not-mapped"
    assert session.read(HERE, 0) == b""
    assert session.write(HERE, b"abc")
    assert session.read(HERE, 3) == b"abc"
    assert session.register("rsp") == one.machine.registers["rsp"]
    assert isinstance(session.register("xyz"), Absent)
    assert session.msr(0x40000022) == one.machine.msrs[0x40000022]
    assert isinstance(session.msr(0x123), Absent)
    assert isinstance(session.bugcheck(), Absent)
    one.machine.bugcheck = (0xD1, 1 << 40, 2, 0, 4)
    assert session.bugcheck() == (0xD1, 1 << 40, 2, 0, 4)
    for place, (told, real) in enumerate(zip(session.modules(), one.machine.modules)):
        assert (told.base, told.size, told.end) == (real.base, real.size, real.base + real.size)
        assert told.time_date_stamp == real.time_date_stamp
        assert str(told.name).lower() == str(real.name).lower()
        assert (told.load_order, told.loaded) == (place, True)
    assert len(session.modules()) == len(list(one.machine.modules))
    assert session.unloaded() == []
    assert isinstance(session.resolve("nosuch!Thing"), Absent)
    assert session.nearest(session.modules()[0].base + 0x10).endswith("+0x10")


def test_breakpoints(engine: Any) -> None:
    """A debug register watches one byte of code; one that is gone is not removed twice."""
    one = engine(Call(HERE, cpu=1))
    session = attached()
    handle = session.add_breakpoint(HERE, lambda _: CONTINUE, hardware=True)
    assert (one.points[handle].kind, one.points[handle].parameters) == (1, (1, 4))
    soft = session.add_breakpoint(HERE + 16, lambda _: CONTINUE)
    assert (one.points[soft].kind, one.points[soft].parameters) == (0, None)
    session.remove_breakpoint(handle)
    assert list(one.points) == [soft]
    one.points[soft].address = HERE + 32  # its user moved it: it is not ours
    session.remove_breakpoint(soft)
    assert list(one.points) == [soft]


@pytest.mark.parametrize("refused", ["SetOffset", "AddFlags", "GetId"])
def test_a_breakpoint_that_is_refused_leaves_nothing(
    engine: Any, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the engine nor in the session."""
    from fake_dbgeng import FAILED, Breakpoint

    one = engine()
    session = attached()
    monkeypatch.setattr(Breakpoint, refused, lambda *_: FAILED)
    with pytest.raises(SessionError, match=f"no breakpoint at {HERE:#x}"):
        session.add_breakpoint(HERE, lambda _: CONTINUE)
    assert one.points == {}


def test_events(engine: Any) -> None:
    """Loaded drivers, exceptions, the bugcheck's stop and the end are told."""
    one = engine(
        Load("dump_new.sys", 0xFFFFF80055550000),
        Exception_(0xC0000005),
        Bugcheck((0xD1, 1, 2, 3, 4)),
    )
    session = attached()
    told: list[Any] = []
    session.on("load", lambda *what: told.append(what))
    assert session.resume(5).detail == "exception 0xc0000005"
    assert told == [("dump_new.sys", 0xFFFFF80055550000)]
    assert session.resume(5).kind == "exception"
    assert session.resume(5)[::3] == ("ended", "the session ended")
    assert one.log.count("go") == 3


def test_a_reboot_takes_the_breakpoints_along(engine: Any) -> None:
    """The engine would set them again where anything may lie in the next boot."""
    one = engine(Exception_(), Call(HERE))
    session = attached()
    session.add_breakpoint(HERE, lambda _: STOP)
    told: list[str] = []
    session.on("reboot", lambda: told.append("reboot"))
    one.event(SESSION, (ctypes.c_uint32,), REBOOT)
    assert told == ["reboot"]
    assert len(one.points) == 1
    assert session.resume(5).kind == "exception"
    assert one.points == {}
    assert one.log.count(("Reload", "")) == 2
    assert session.resume(5).kind == "ended"


def test_a_debugger_that_was_joined(engine: Any) -> None:
    """Its user's prompt is told; our breakpoints stop it; in the end it goes on."""
    one = engine(Exception_(), Call(HERE), Idle(), joined=True)
    session = dbgeng_target.remote("tcp:server=HOST,port=5005", engine=__file__)
    assert one.log == [("DebugConnect", "tcp:server=HOST,port=5005"), "ConnectSession"]
    assert session.is_joined
    told: list[Any] = []
    session.on("stand", told.append)
    one.event(STATE, (ctypes.c_uint32, ctypes.c_uint64), EXECUTION_STATUS ^ 0x30, 6)
    assert told == []  # another state changed
    session.add_breakpoint(HERE, lambda _: STOP)
    assert session.resume(5)[:2] == ("breakpoint", HERE)
    assert told == ["stop"]
    threading.Timer(0.2, session.interrupt).start()
    assert session.resume(30).kind == "interrupt"
    session.close()
    assert one.status == 1  # DEBUG_STATUS_GO
    assert "qd" not in one.log


def test_a_raise_in_a_listener_is_noted(engine: Any) -> None:
    """Nothing raises into the engine."""
    one = engine(Load("dump_new.sys", 0xFFFFF80055550000))
    session = attached()
    session.on("load", lambda *_: 1 / 0)
    assert session.resume(5).kind == "ended"
    assert session.errors == ["ZeroDivisionError: division by zero"]
    assert one.log[-1] == "go"
