"""What the dbgeng backend asks of the engine and makes of its answers, over a fake of the engine.

The contract that every backend keeps is in test_live_contract.py; ``-m live`` has the real engine.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator
from typing import Any, Callable

import pytest
from fake_dbgeng import (
    BREAKPOINT,
    EXECUTION_STATUS,
    FAILED,
    LOAD,
    SESSION,
    STATE,
    Breakpoint,
    Engine,
    put,
)
from fake_machine import Bugcheck, Call, Exception_, FakeMachine, Idle, Load

from analyzer.absence import Absent
from analyzer.errors import SessionError
from analyzer.live import dbgeng_session, dbgeng_target
from analyzer.live.com import FUNCTION, guid
from analyzer.live.session import CONTINUE, STOP
from analyzer.records import Origin

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
    for moved in (HERE + 8, HERE + 32):
        one.points[soft].address = moved  # its user moved it: it is not ours
        session.remove_breakpoint(soft)
        assert list(one.points) == [soft]


@pytest.mark.parametrize("refused", ["SetOffset", "AddFlags", "GetId"])
def test_a_breakpoint_that_is_refused_leaves_nothing(
    engine: Any, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the engine nor in the session."""
    one = engine()
    session = attached()
    monkeypatch.setattr(Breakpoint, refused, lambda *_: FAILED)
    with pytest.raises(SessionError, match=f"no breakpoint at {HERE:#x}"):
        session.add_breakpoint(HERE, lambda _: CONTINUE)
    assert one.points == {}


def test_a_target_that_cannot_be_resumed(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the engine says of it, in our own error; whoever owns the engine."""
    monkeypatch.setattr(Engine, "SetExecutionStatus", lambda *_: 0x80070005 - (1 << 32))
    for joined in (False, True):
        engine(joined=joined)
        target = dbgeng_target.remote("tcp:server=H", engine=__file__) if joined else attached()
        with pytest.raises(SessionError) as caught:
            target.resume(5)
        assert str(caught.value).startswith("the target cannot be resumed: SetExecutionStatus: ")
        assert "(HRESULT 0x80070005)" in str(caught.value)


def test_a_breakpoint_that_the_engine_does_not_make(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No object comes, so none is removed."""
    monkeypatch.setattr(Engine, "AddBreakpoint", lambda *_: FAILED)
    engine()
    session = attached()
    with pytest.raises(SessionError, match=f"no breakpoint at {HERE:#x}: AddBreakpoint"):
        session.add_breakpoint(HERE, lambda _: CONTINUE)
    assert session._breakpoints == {}


def test_a_fault_inside_the_engine(engine: Any) -> None:
    """Windows tells ctypes of it as an OSError (its documentation, "Calling functions")."""
    engine()
    session = attached()

    def fault(*_: Any) -> int:
        raise OSError("exception: access violation reading 0x0000000000000010")

    calls = session._control._functions
    calls.update({key: fault for key in calls if key[0] == "IsPointer64Bit"})
    with pytest.raises(SessionError) as caught:
        session._control.ask("IsPointer64Bit")
    assert str(caught.value) == (
        "the engine failed in IsPointer64Bit: exception: access violation reading "
        "0x0000000000000010."
    )


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
    one = engine(Exception_(), Exception_(), Call(HERE))
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
    assert session.resume(5).kind == "exception"
    assert one.log.count(("Reload", "")) == 2  # once a boot
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


@pytest.mark.parametrize(
    ("machine", "is_64", "architecture", "width"),
    [
        (0x8664, 0, "x64", 8), (0x14C, 1, "x86", 4), (0xAA64, 0, "arm64", 8),
        (0x1234, 0, "x64", 8), (0x1234, 1, "x86", 4),
    ],
)  # fmt: skip
def test_architectures(
    engine: Any, machine: int, is_64: int, architecture: str, width: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The processor, or what its pointers tell; a register is as wide as a pointer."""
    monkeypatch.setattr(Engine, "GetActualProcessorType", lambda _, out: put(out, machine))
    monkeypatch.setattr(Engine, "IsPointer64Bit", lambda _: is_64)
    one = engine()
    session = attached()
    assert (session.architecture, session.pointer_size) == (architecture, width)
    one.machine.registers = {"a": 0x1122334455667788, "b": 0x99AABBCCDDEEFF00}
    wide, low = (0x1122334455667788, 0x99AABBCCDDEEFF00), (0x55667788, 0xDDEEFF00)
    assert (session.register("a"), session.register("b")) == (wide if width == 8 else low)
    assert (session.register("a"), session.register("b")) == (wide if width == 8 else low)


@pytest.mark.parametrize(
    ("kind", "qualifier", "is_dump"), [(1, 1023, False), (1, 1024, True), (2, 1024, None)]
)
def test_what_is_open(
    engine: Any, kind: int, qualifier: int, is_dump: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A running kernel, a kernel's dump, or a program."""
    monkeypatch.setattr(
        Engine, "GetDebuggeeType", lambda _, a, b: put(a, kind) or put(b, qualifier)
    )
    engine()
    if is_dump is None:
        with pytest.raises(SessionError, match="no kernel and no kernel dump open"):
            attached()
        return
    assert attached().is_dump is is_dump


@pytest.mark.parametrize(("result", "build"), [(0, 19041), (FAILED, None), (0, 0)])
def test_the_build(
    engine: Any, result: int, build: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The minor number of the version, unless it is not told."""
    told = lambda _, *out: put(out[0], 1) or put(out[1], 2) or put(out[2], build or 0) or result  # noqa: E731
    monkeypatch.setattr(Engine, "GetSystemVersion", told)
    engine()
    none = Absent("not-recorded", "DbgEng does not tell the build")
    assert attached().build == (build or none)


def test_loaded_and_unloaded_modules(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unloaded ones stand behind the loaded ones; of both so many are asked for."""
    gone = 1
    counts = lambda _, a, b: put(a, len(one.modules) - gone) or put(b, gone)  # noqa: E731
    monkeypatch.setattr(Engine, "GetNumberModules", counts)
    one = engine()
    session = attached()
    some = one.modules[0]
    one.modules = [some._replace(base=some.base + 0x1000000 * n) for n in range(3)]
    found = [*session.modules(), *session.unloaded()]
    assert [len(session.modules()), len(session.unloaded())] == [2, 1]
    assert [(m.base, m.load_order, m.loaded, m.origin) for m in found] == [
        (
            some.base + 0x1000000 * n, n, n < 2,
            Origin(session.path, "module list of the engine", "certain", None,
                   some.base + 0x1000000 * n),
        )
        for n in range(3)
    ]  # fmt: skip
    one.modules, gone = [some] * (4096 + 256), 256
    one.event(LOAD, LOADED, 0, 0x5000, 0x1000, b"a", None, 0, 0)  # the list is old now
    assert [len(session.modules()), len(session.unloaded())] == [4096, 256]
    one.modules, gone = [some] * (4097 + 257), 257
    one.event(UNLOAD, (ctypes.c_void_p, ctypes.c_uint64), None, 0x5000)
    assert [len(session.modules()), len(session.unloaded())] == [4096, 256]
    assert session.unloaded()[-1].load_order == 4097 + 255


UNLOAD = 11
LOADED = (ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_char_p, ctypes.c_char_p,
          ctypes.c_uint32, ctypes.c_uint32)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "image", "told"),
    [
        (b"dump_a", rb"\SystemRoot\drivers/dump_b.sys", "dump_b.sys"),
        (b"dump_a", rb"c:/x\dump_b", "dump_b.sys"),
        (b"dump_a", None, "dump_a.sys"),
        (b"dump_a.dll", b"", "dump_a.dll"),
        (None, None, ".sys"),
        (b"d\xfc", None, "d\ufffd.sys"),
    ],
)
def test_the_name_of_a_loaded_driver(engine: Any, name: Any, image: Any, told: str) -> None:
    """The image's file, or the engine's name for the module."""
    one = engine()
    session, heard = attached(), list[Any]()
    session.on("load", lambda *what: heard.append(what))
    session.on("unload", lambda *what: heard.append(what))
    assert one.event(LOAD, LOADED, 0, 0x7000, 0x1000, name, image, 0, 0) == 0
    assert one.event(UNLOAD, (ctypes.c_void_p, ctypes.c_uint64), None, 0x7000) == 0
    assert heard == [(told, 0x7000), (0x7000,)]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "the target is gone"), (1, "the session was ended"), (2, "the debugger was detached"),
        (3, "the session was left"), (4, "the session ended"), (5, "the target rebooted"),
        (6, "the target hibernated"), (7, "the connection failed"), (8, "the target is gone"),
    ],
)  # fmt: skip
def test_how_a_session_ended(engine: Any, status: int, words: str) -> None:
    """In words, and the machine's registers are not asked for any more."""
    one = engine()
    session = attached()
    one._go = lambda: setattr(one, "status", 7)
    one.event(SESSION, (ctypes.c_uint32,), status)
    none = Absent("not-found", words)
    assert session.resume(5) == ("ended", none, none, words)


@pytest.mark.parametrize("joined", [True, False])
def test_prompts_of_the_user(engine: Any, joined: bool) -> None:
    """Of a debugger that was joined alone; a running target is no prompt."""
    one = engine(joined=joined)
    session = dbgeng_target.remote("tcp:server=H", engine=__file__) if joined else attached()
    told: list[str] = []
    session.on("stand", told.append)
    types = (ctypes.c_uint32, ctypes.c_uint64)
    one.event(STATE, types, EXECUTION_STATUS, 1)
    one.event(STATE, types, EXECUTION_STATUS, 6)
    session.interrupt()
    one.event(STATE, types, EXECUTION_STATUS | 1, 6)
    assert told == (["stop", "interrupt"] if joined else [])


@pytest.mark.parametrize(
    ("text", "distance", "result", "name"),
    [
        (b"dump_x!Start", 0x12, 0, "dump_x!Start+0x12"),
        (b"dump_x!Start", 0, 0, "dump_x!Start"),
        (b"dump_x!Start", 0, 1, "dump_x!Start"),
        (b"dump_x", 0x12, 0, None),
        (b"dump_x!Start", 0x12, FAILED, None),
    ],
)
def test_names_of_addresses(
    engine: Any, text: bytes, distance: int, result: int, name: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's symbol, else module and offset."""

    def nearest(_: Any, address: int, out: int, room: int, *rest: int) -> int:
        assert (address, room) == (one.modules[0].base + 0x34, 512)
        ctypes.memmove(out, text + b"\0", len(text) + 1)
        return put(rest[1], distance, 8) or result

    monkeypatch.setattr(Engine, "GetNameByOffset", nearest)
    one = engine()
    session = attached()
    found = session.nearest(one.modules[0].base + 0x34)
    assert found == (name or "ntoskrnl+0x34")


@pytest.mark.parametrize(("result", "found"), [(0, 0x1234567890), (1, None), (FAILED, None)])
def test_symbols(engine: Any, result: int, found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is found more than once (S_FALSE) is no address."""
    asked: list[bytes] = []
    tell = lambda _, text, out: asked.append(text) or put(out, 0x1234567890, 8) or result  # noqa: E731
    monkeypatch.setattr(Engine, "GetOffsetByName", tell)
    engine()
    session = attached()
    assert session.resolve("0x10") == 0x10
    assert session.resolve("x!Y") == (found or Absent("not-found", "no module or symbol 'x!Y'"))
    assert asked == [b"x!Y"]


@pytest.mark.parametrize(
    ("result", "short", "is_whole"),
    [(0, 0, True), (0, 1, False), (FAILED, 0, False), (1, 0, True)],
)
def test_memory_is_whole_or_absent(
    engine: Any, result: int, short: int, is_whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the engine reads or writes a part of counts for nothing."""
    give = lambda *given: put(given[4], given[3] - short) or result  # noqa: E731
    monkeypatch.setattr(Engine, "ReadVirtual", give)
    monkeypatch.setattr(Engine, "WriteVirtual", give)
    engine()
    session = attached()
    absent = Absent("not-mapped", f"4 bytes at {HERE:#x} cannot be read")
    assert session.read(HERE, 4) == (bytes(4) if is_whole else absent)
    assert session.read(HERE, -1) == b""
    assert session.write(HERE, b"1234") is is_whole


def test_what_the_engine_does_not_tell(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No number of processors, no current one, no bugcheck."""
    one = engine()
    session = attached()
    one.machine.cpu = 3
    assert session.current_processor() == 3
    monkeypatch.setattr(Engine, "GetNumberProcessors", lambda _, out: put(out, 0))
    monkeypatch.setattr(one, "GetCurrentThreadId", lambda _: FAILED)
    none = Absent("not-recorded", "dbgeng does not tell it")
    engine()
    session = attached()
    assert session.processors() == none
    assert session.bugcheck() == Absent("not-recorded", "the engine knows no bugcheck")


def test_a_breakpoint_of_the_user(engine: Any) -> None:
    """Is left to them; one of ours stops when that was asked for meanwhile."""
    one = engine(Call(HERE), Call(HERE))
    session = attached()
    user = Breakpoint(one, 77, 0)
    assert one.event(BREAKPOINT, (ctypes.c_void_p,), user.object.pointer) == 0  # no change
    session.add_breakpoint(HERE, lambda _: CONTINUE)
    ours = one.points[0].object.pointer
    assert one.event(BREAKPOINT, (ctypes.c_void_p,), ours) == 1  # go
    session.interrupt()
    assert one.event(BREAKPOINT, (ctypes.c_void_p,), ours) == 6  # break
    session._breakpoints.clear()
    assert one.event(BREAKPOINT, (ctypes.c_void_p,), ours) == 0


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("lost", [0, 2])
def test_a_break_in_that_is_lost(
    engine: Any, joined: bool, lost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for again, but not at once."""
    monkeypatch.setattr(dbgeng_session, "_TICK", 0.01)
    monkeypatch.setattr(dbgeng_session, "_SLICE_MS", 10)
    monkeypatch.setattr(dbgeng_session, "_GRACE", 0.2 if lost else 1000.0)
    asked = []

    def interrupt(self: Engine, how: int) -> None:
        asked.append(how)
        if not lost:  # it takes its time
            threading.Timer(0.2, setattr, (self.machine, "broken_in", True)).start()
        elif len(asked) > lost:
            self.machine.broken_in = True

    monkeypatch.setattr(Engine, "SetInterrupt", interrupt)

    def dispatch(self: Engine, _: int) -> None:  # it runs by itself, while events are waited for
        time.sleep(0.01)
        if self.machine.broken_in:
            self.machine.broken_in, self.status = False, 6

    monkeypatch.setattr(Engine, "DispatchCallbacks", dispatch)
    engine(Idle(), Idle(), joined=joined)
    session = dbgeng_target.remote("tcp:server=H", engine=__file__) if joined else attached()
    assert session.resume(0.05).kind == "timeout"
    assert len(asked) == 1 + lost
    threading.Timer(0.05, session.interrupt).start()
    assert session.resume(60).kind == "interrupt"


def test_a_joined_debugger_that_is_gone(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said with the reason."""
    dispatch = Engine.DispatchCallbacks
    monkeypatch.setattr(Engine, "DispatchCallbacks", lambda *_: 0)
    asked = []

    def status(_: Engine, out: int) -> int:
        asked.append(out)
        return put(out, 1) if len(asked) < 3 else 0x80010108 - (1 << 32)

    made = Engine.GetExecutionStatus
    monkeypatch.setattr(Engine, "GetExecutionStatus", status)
    engine(joined=True)
    session = dbgeng_target.remote("tcp:server=H", engine=__file__)
    words = "the debugger that was joined is gone: the other debugger is gone (HRESULT 0x80010108)"
    assert session.resume(5)[::3] == ("ended", words)
    assert len(asked) == 3
    monkeypatch.setattr(Engine, "GetExecutionStatus", made)
    monkeypatch.setattr(Engine, "DispatchCallbacks", dispatch)
    again = engine(joined=True)
    session = dbgeng_target.remote("tcp:server=H", engine=__file__)
    again.machine.go = lambda: "ended"
    assert session.resume(5)[::3] == ("ended", "the session ended")


def test_standing(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the event is set, or until somebody else lets it run."""
    waits: list[int] = []

    def dispatch(self: Engine, limit: int) -> None:
        waits.append(limit)
        if len(waits) == 3:
            self.status = 1

    monkeypatch.setattr(Engine, "DispatchCallbacks", dispatch)
    one = engine()
    session, until = attached(), threading.Event()
    session.stand(until)
    assert waits == [50, 50, 50]
    one.status = 6
    until.set()
    session.stand(until)
    assert len(waits) == 3


@pytest.mark.parametrize("leave_running", [True, False])
@pytest.mark.parametrize("joined", [True, False])
def test_closing(engine: Any, joined: bool, leave_running: bool) -> None:
    """Without breakpoints and listeners; running unless it is to stand; a second time nothing."""
    one = engine(joined=joined)
    session = dbgeng_target.remote("tcp:server=H", engine=__file__) if joined else attached()
    session.add_breakpoint(HERE, lambda _: CONTINUE)
    assert one._events
    before = list(one.log)
    session.close(leave_running)
    assert one.points == {}
    assert one._events is None
    assert one.status == (1 if joined and leave_running else 6)
    assert one.log == before + (["qd"] if leave_running and not joined else [])
    one.status = 6
    session.close()
    assert (one.status, one.log.count("qd")) == (6, int(leave_running and not joined))
    assert session.execute("lm") == 0


def test_engines_that_fail(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the engine says, in a sentence, and no secret."""
    monkeypatch.setattr(Engine, "AttachKernel", lambda *_: 0x80070057 - (1 << 32))
    monkeypatch.setattr(Engine, "OpenDumpFile", lambda *_: 0x80070002 - (1 << 32))
    engine()
    with pytest.raises(SessionError) as caught:
        attached()
    assert str(caught.value) == (
        "the debugger cannot attach to 'net:port=50000,key=...': AttachKernel: an argument is "
        "malformed (HRESULT 0x80070057)."
    )
    with pytest.raises(SessionError) as caught:
        dbgeng_target.dump("x.dmp", engine=__file__)
    assert str(caught.value) == (
        "x.dmp: the engine cannot open it: OpenDumpFile: no such file or port (HRESULT 0x80070002)."
    )
    one = engine()
    one.DebugCreate = FUNCTION(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p)(lambda *_: FAILED)
    with pytest.raises(SessionError, match="DebugCreate: the engine gives no reason"):
        attached()
    one.DebugConnect = FUNCTION(
        ctypes.c_int32, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p
    )(lambda *_: 0x800706BA - (1 << 32))  # fmt: skip
    with pytest.raises(SessionError) as caught:
        dbgeng_target.remote("tcp:server=H,password=x", engine=__file__)
    assert str(caught.value) == (
        "no debugger at 'tcp:server=H,password=...': no debugger answers there "
        "(HRESULT 0x800706ba)."
    )


@pytest.mark.parametrize(
    ("identity", "is_ours"),
    [
        ("00000000-0000-0000-c000-000000000046", True),
        ("337be28b-5036-4d72-b6bf-c45fbb9f2eaa", True),
        ("27fe5639-8407-4f47-8364-ee118fb08ac8", False),
    ],
)
def test_what_the_engine_asks_of_the_listener(engine: Any, identity: str, is_ours: bool) -> None:
    """Its interface, its life, and which events it wants to hear of."""
    one = engine()
    session = attached()
    out, pointer = ctypes.c_uint64(77), ctypes.c_void_p
    text = ctypes.create_string_buffer(bytes(guid(identity)))
    result = one.event(0, (pointer, pointer), ctypes.addressof(text), ctypes.addressof(out))
    assert (result, out.value) == (
        (0, one._events) if is_ours else (0x80004002 - (1 << 32), 0)
    )  # fmt: skip
    assert (one.event(1, ()), one.event(2, ())) == (1, 1)
    mask = ctypes.c_uint32()
    assert one.event(3, (pointer,), ctypes.addressof(mask)) == 0
    assert mask.value == 0xAC3
    assert session.errors == []


def test_events_that_change_nothing(engine: Any) -> None:
    """Threads, processes, errors, and state of the target or of symbols."""
    one = engine()
    attached()
    long, word = ctypes.c_uint64, ctypes.c_uint32
    process = (*(long,) * 3, word, ctypes.c_char_p, ctypes.c_char_p, word, word, *(long,) * 3)
    for place, types in ((6, (long,) * 3), (7, (word,)), (8, process), (9, (word,)),
                         (12, (word, word)), (14, (word, long)), (16, (word, long))):  # fmt: skip
        values = [None if kind is ctypes.c_char_p else 6 for kind in types]
        assert one.event(place, types, *values) == 0
