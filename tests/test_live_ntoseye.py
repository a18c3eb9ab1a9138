"""What the ntoseye backend asks of ntoseye and makes of its answers, over a fake of it.

The real one runs on the simulated machine in test_kd_ntoseye.py and test_live_process.py.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from analyzer.absence import Absent
from analyzer.errors import SessionError
from analyzer.live import ntoseye_target
from analyzer.live.session import CONTINUE, STOP

HERE = 0xFFFFF80012340000


class Debugger:
    """Stops in the order of a script; ``log`` has what was asked."""

    def __init__(self, *stops: Any) -> None:
        self.log: list[Any] = []
        self._stops = list(stops)
        self.stop = SimpleNamespace(cpu=1)
        self.inspect = SimpleNamespace(version=lambda: SimpleNamespace(build_number=19041))
        self.exceptions = SimpleNamespace(set_module_event=lambda e: self.log.append(("event", e)))
        self.memory = SimpleNamespace(read=lambda _, size: bytes(size), write=self._write)
        self.modules = [module("nt", 0x1000), module("x.sys", 0x5000)]
        self.registers = SimpleNamespace(rip=HERE, rax=-1 << 70)
        self.cpus = [
            SimpleNamespace(registers=None, msr={}),
            SimpleNamespace(registers=self.registers, msr={0x10: -1}),
        ]
        self.breakpoints = SimpleNamespace(add=self._add)

    def _write(self, address: int, data: bytes) -> None:
        self.log.append(("write", address, data))

    def _add(self, address: int) -> Any:
        self.log.append(("add", address))
        return SimpleNamespace(delete=lambda: self.log.append(("delete", address)))

    def run(self, timeout: float) -> Any:
        self.log.append(("run", timeout))
        return self._stops.pop(0)

    def wait(self, timeout: float) -> Any:
        self.log.append(("wait", timeout))
        return self._stops.pop(0)

    def interrupt(self) -> None:
        self.log.append("interrupt")

    def close(self) -> None:
        self.log.append("close")


def module(name: str, base: int) -> Any:
    """A module as ntoseye lists it."""
    return SimpleNamespace(name=name, base=base, size=0x1000, timestamp=5, checksum=6)


@pytest.fixture
def attach(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Attaches to a debugger; ``given`` are the options that ntoseye got."""

    def make(debugger: Any = None, address: str = "/run/vm", **options: Any) -> Any:
        def opened(**given: Any) -> Any:
            make.given = given  # type: ignore[attr-defined]
            if isinstance(debugger, Exception):
                raise debugger
            return debugger or Debugger()

        monkeypatch.setitem(sys.modules, "ntoseye", SimpleNamespace(attach=opened))
        return ntoseye_target.attach(address, **options)

    return make


KDNET = {"backend": "kdnet", "connect": "0.0.0.0:50000", "key": "1.2.3.4"}


@pytest.mark.parametrize(
    ("address", "timeout", "options", "limit"),
    [
        ("/run/vm", 30.0, {"backend": "kd", "connect": "/run/vm"}, 30),
        ("NET:port=50000,key=1.2.3.4", 0.1, KDNET, 1),
        ("net:target=x,key=1.2.3.4,port=50000", 1.01, KDNET, 2),
        ("net", 1e12, {"backend": "kd", "connect": "net"}, 1 << 30),
    ],
)
def test_attaching(attach: Any, address: str, timeout: float, options: Any, limit: int) -> None:
    """A serial line or KDNET, as WinDbg spells it; whole seconds, at least one."""
    heard: list[bool] = []
    session = attach(None, address, timeout=timeout, heard=lambda: heard.append(True))
    assert attach.given == {**options, "memory_source": "kd", "kd_handshake_timeout": limit}
    assert heard == [True]
    assert "1.2.3.4" not in session.path
    assert (session.pointer_size, session.architecture, session.build) == (8, "x64", 19041)
    assert session.capabilities == {"registers", "msr", "run", "module-events"}


@pytest.mark.parametrize("address", ["net:port=5", "net:key=1.2.3.4", "net:port=x,key=1.2.3.4",
                                     "net:port=,key=", "net:"])  # fmt: skip
def test_kdnet_needs_port_and_key(attach: Any, address: str) -> None:
    """A sentence that shows both."""
    with pytest.raises(SessionError, match="KDNET needs port and key: net:port=50000,key="):
        attach(None, address)


def test_an_attach_that_fails(attach: Any) -> None:
    """One line; what answered already runs on."""
    with pytest.raises(SessionError) as caught:
        attach(OSError("no\n  luck"), "net:port=5,key=1.2.3.4")
    assert str(caught.value) == "ntoseye cannot attach to 'net:port=5,key=...': no luck"
    broken = Debugger()
    del broken.exceptions, broken.inspect
    with pytest.raises(SessionError, match="ntoseye attached, but cannot be used: "):
        attach(broken)
    assert broken.log == ["close"]


@pytest.mark.parametrize(("deaf", "events"), [("ld", False), ("ud", False), ("", True)])
def test_what_ntoseye_lacks(attach: Any, deaf: str, events: bool) -> None:
    """Loads and unloads are both told, or neither."""
    debugger = Debugger()

    def ask(event: str) -> None:
        if event == deaf:
            raise ValueError(event)

    debugger.exceptions.set_module_event = ask
    debugger.inspect.version = lambda: 1 / 0
    session = attach(debugger)
    assert ("module-events" in session.capabilities) is events
    assert session.build == Absent("not-recorded", "ntoseye does not tell it")
    debugger.memory.read = lambda *_: 1 / 0
    debugger.memory.write = lambda *_: 1 / 0
    absent = Absent("not-mapped", f"4 bytes at {HERE:#x} cannot be read")
    assert session.read(HERE, 4) == absent
    debugger.memory.read = lambda _, size: bytes(size - 1)
    assert session.read(HERE, 4) == absent
    assert not session.write(HERE, b"x")
    debugger.cpus = None  # type: ignore[assignment]
    assert session.processors() == Absent("not-recorded", "ntoseye does not tell it")
    assert session.register("rip").reason == "not-found"
    assert session.msr(0x10) == Absent(
        "not-found", "the model-specific register 0x10 cannot be read"
    )


def test_reading(attach: Any) -> None:
    """Of the processor that stopped; numbers of 64 bits."""
    debugger = Debugger()
    session = attach(debugger)
    assert session.read(HERE, 4) == bytes(4)
    assert session.write(HERE, b"x")
    assert debugger.log[-1] == ("write", HERE, b"x")
    assert (session.processors(), session.current_processor()) == (2, 1)
    assert (session.register("rip"), session.msr(0x10)) == (HERE, (1 << 64) - 1)
    assert isinstance(session.msr(0x11), Absent)
    debugger.registers.rip = True
    with pytest.raises(SessionError, match="ntoseye gives bool for a number"):
        session.register("rip")
    debugger.stop = SimpleNamespace(cpu="x")  # nothing stopped yet
    assert session.current_processor() == 0


def test_the_list_of_modules_grows_old(attach: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten seconds it is asked for again."""
    now = [1000.0]
    monkeypatch.setattr(ntoseye_target.time, "monotonic", lambda: now[0])
    debugger = Debugger()
    session = attach(debugger)
    found = [(m.name, m.base, m.size, m.time_date_stamp, m.load_order) for m in session.modules()]
    assert found == [("nt", 0x1000, 0x1000, 5, 0), ("x.sys", 0x5000, 0x1000, 5, 1)]
    assert {m.origin.how for m in session.modules()} == {"module list of ntoseye"}
    debugger.modules = []
    for later, count in ((10.0, 2), (0.01, 0)):
        now[0] += later
        assert len(session.modules()) == count
    debugger.modules = [module("a", 1)]
    now[0] += 9
    assert session.modules() == []
    now[0] += 1.5
    assert len(session.modules()) == 1


def test_breakpoints(attach: Any) -> None:
    """One is planted for all at its place, and taken out with the last of them."""
    debugger = Debugger()
    session = attach(debugger)
    del debugger.log[:]
    handles = [session.add_breakpoint(HERE + n, lambda _: CONTINUE) for n in (0, 0, 1)]
    assert handles == [1, 2, 3]
    assert debugger.log == [("add", HERE), ("add", HERE + 1)]
    session.remove_breakpoint(1)
    session.remove_breakpoint(9)
    assert len(debugger.log) == 2
    session.remove_breakpoint(2)
    assert debugger.log[2:] == [("delete", HERE)]
    session.close()
    session.close()
    assert debugger.log[3:] == [("delete", HERE + 1), "close"]
    debugger.breakpoints.add = lambda _: 1 / 0
    with pytest.raises(SessionError, match=f"no breakpoint at {HERE:#x}: "):
        session.add_breakpoint(HERE, lambda _: CONTINUE)


def stopped(kind: str, **more: Any) -> Any:
    """A stop of ntoseye's."""
    return SimpleNamespace(kind=kind, **more)


HIT = stopped("breakpoint")


def test_running(attach: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In slices, so that it can be interrupted; then it waits, it does not run again."""
    now = [0.0]
    monkeypatch.setattr(ntoseye_target.time, "monotonic", lambda: now[0])
    debugger = Debugger(None, None, None)
    session = attach(debugger)
    del debugger.log[:]
    waits = iter([0.5, 0.3, 9.0])
    real = debugger.wait

    def wait(timeout: float) -> Any:
        now[0] += next(waits)
        return real(timeout)

    debugger.wait = wait  # type: ignore[method-assign]
    assert session.resume(1.0) == ("timeout", HERE, 1, "")
    assert debugger.log == [("run", 0.5), ("wait", 0.5), ("wait", 0.5), "interrupt"]
    debugger._stops, now[0] = [None], 0.0
    assert session.resume(0.2).kind == "timeout"
    assert debugger.log[4:] == [("run", 0.2), "interrupt"]
    debugger._stops = [None]
    assert session.resume(0.0).kind == "timeout"
    assert debugger.log[6:] == [("run", 0.01), "interrupt"]
    debugger._stops = [None, None]
    session.interrupt()
    assert session.resume(60.0).kind == "interrupt"
    assert debugger.log[8:] == [("run", 0.5), "interrupt"]
    assert session.resume(0.0).kind == "timeout"  # that was once


def test_stops(attach: Any) -> None:
    """Drivers are told and it runs on; ours call their callbacks; others end the wait."""
    debugger = Debugger(
        stopped("module_load", module=module("a.sys", 0x7000)),
        stopped("module_unload", module=module("a.sys", 0x7000)),
        HIT, HIT, stopped("exception"), HIT, HIT, None, None, None, HIT, stopped("reload"),
    )  # fmt: skip
    session, told, hits = attach(debugger), list[Any](), list[Any]()
    for event in ("load", "unload", "reboot"):
        session.on(event, lambda *what, event=event: told.append((event, *what)))
    answers = iter([CONTINUE, STOP, CONTINUE, CONTINUE])
    session.add_breakpoint(HERE, lambda stop: hits.append(stop) or next(answers))
    listed = session.modules()
    assert session.resume(60) == ("breakpoint", HERE, 1, "")
    assert [entry[0] for entry in debugger.log if entry[0] in ("run", "wait")] == ["run"] * 4
    assert told == [("load", "a.sys", 0x7000), ("unload", 0x7000)]
    assert hits == [("breakpoint", HERE, 1, "")] * 2
    assert session.modules() is not listed
    debugger.registers.rip = HERE + 1
    assert session.resume(60) == ("exception", HERE + 1, 1, "exception")
    debugger.registers.rip = HERE
    session.interrupt()
    assert session.resume(60) == ("interrupt", HERE, 1, "")
    debugger.registers.rip = HERE + 1
    assert session.resume(60).kind == "exception"  # somebody else's
    assert session.resume(0.0).kind == "timeout"
    del debugger._stops[:3]
    assert session.resume(60) == ("exception", HERE + 1, 1, "reload")
    assert told[2:] == [("reboot",)]
    session.remove_breakpoint(1)
    assert "delete" not in {entry[0] for entry in debugger.log}
