"""A module with the calls of pykd 0.3.4.15 that the package uses, on a fake machine.

It keeps pykd's traps: a breakpoint dies with its object, a callback gets no argument, 1 and True
stop, a raise stops, memory comes as a list, errors are DbgException. What it does not prove: that
the real pykd does so.
"""

from __future__ import annotations

import types
import weakref
from typing import Any

from fake_machine import GO_ON, STOP, FakeMachine

from analyzer.absence import Absent


def make(machine: FakeMachine, is_dump: bool = False) -> Any:
    """The module ``pykd`` for one machine."""
    pykd = types.ModuleType("pykd")

    class DbgException(Exception):  # noqa: N818 - pykd's name
        pass

    class MemoryException(DbgException):
        pass

    class SymbolException(DbgException):
        pass

    pykd.DbgException, pykd.MemoryException = DbgException, MemoryException
    pykd.eventResult = types.SimpleNamespace(Proceed="Proceed", NoChange="NoChange", Break="Break")
    pykd.executionStatus = types.SimpleNamespace(
        NoChange=0, Go=1, Break="Break", NoDebuggee="NoDebuggee"
    )
    pykd.breakpointAccess = types.SimpleNamespace(Read=1, Write=2, Execute=4)
    pykd.log = []  # what was asked of the engine, for assertions
    pykd.printed = []

    class Breakpoint:
        def __init__(self, address: int, callback: Any) -> None:
            owner = weakref.ref(self)

            def hit() -> str:
                if owner() is None or callback is None:
                    return STOP
                try:
                    wanted = callback()
                except Exception:  # noqa: BLE001 - as pykd: a raise stops
                    return STOP
                return GO_ON if wanted in (None, False, "Proceed") else STOP

            self._hit, self._address = hit, address
            machine.breakpoints.setdefault(address, []).append(hit)

        def remove(self) -> None:
            hits = machine.breakpoints.get(self._address, [])
            if self._hit in hits:
                hits.remove(self._hit)
            if not hits:
                machine.breakpoints.pop(self._address, None)

        def __del__(self) -> None:
            self.remove()

    def set_bp(address: int, *rest: Any) -> Breakpoint:
        return Breakpoint(address, rest[-1] if rest else None)

    class EventHandler:
        def __init__(self) -> None:
            me = weakref.ref(self)
            self._load = lambda base, name: me() and me().onLoadModule(base, name)
            self._prompt = lambda: me() and me().onExecutionStatusChange("Break")
            machine.loads.append(self._load)
            machine.prompts.append(self._prompt)

        def __del__(self) -> None:
            machine.loads.remove(self._load)
            machine.prompts.remove(self._prompt)

    def load_bytes(address: int, size: int, *_: Any) -> list:
        data = machine.read(address, size)
        if isinstance(data, Absent):
            raise MemoryException(f"{address:#x}")
        return list(data)

    def reg(name: str) -> int:
        if name not in machine.registers:
            raise DbgException(name)
        return machine.registers[name]

    def rdmsr(number: int) -> int:
        if number == 0x10:
            return machine.tsc
        if number not in machine.msrs:
            raise DbgException("no such msr")
        return machine.msrs[number]

    class Module:
        def __init__(self, module: Any) -> None:
            self._m = module

        def name(self) -> str:
            stem = str(self._m.name).rsplit(".", 1)[0]
            return "nt" if stem == "ntoskrnl" else stem

        def image(self) -> str:
            return str(self._m.name)

        def begin(self) -> int:
            return self._m.base

        def size(self) -> int:
            return self._m.size

        def timestamp(self) -> int:
            if isinstance(self._m.time_date_stamp, Absent):
                raise DbgException("no stamp")
            return self._m.time_date_stamp

        def checksum(self) -> int:
            return 0 if isinstance(self._m.checksum, Absent) else self._m.checksum

    def go() -> str:
        if is_dump:
            raise DbgException("no target")
        pykd.log.append("go")
        return "NoDebuggee" if machine.go() == "ended" else "Break"

    def breakin() -> None:
        machine.broken_in = True

    def command(text: str, *_: Any) -> Any:
        pykd.log.append(text)
        if text == "||" and is_dump:  # as DbgEng 10.0.15063 prints it
            return f".  0 64-bit Kernel bitmap dump: {machine.memory.path}\n"
        return None

    def symbol(name: str) -> int:
        raise SymbolException(name)

    def println(text: str, dml: bool = False) -> None:
        pykd.printed.append((text, dml))

    pykd.setBp, pykd.eventHandler, pykd.loadBytes = set_bp, EventHandler, load_bytes
    pykd.reg, pykd.rdmsr, pykd.go, pykd.breakin = reg, rdmsr, go, breakin
    pykd.dbgCommand, pykd.getOffset, pykd.dprintln = command, symbol, println
    pykd.getModulesList = lambda: [Module(m) for m in machine.modules]
    pykd.ptrSize = lambda: machine.memory.pointer_size
    pykd.getCPUMode = lambda: "pykd.CPUType.AMD64"
    pykd.getSystemVersion = lambda: types.SimpleNamespace(buildNumber=machine.memory.build)
    pykd.getNumberThreads = lambda: 2
    pykd.getCurrentThreadId = lambda: machine.cpu
    pykd.bugCheckData = lambda: machine.bugcheck
    pykd.isDumpAnalyzing = lambda: is_dump
    pykd.isKernelDebugging = lambda: not is_dump
    pykd.isWindbgExt = lambda: False
    pykd.findSymbol = hex  # no symbols
    pykd.getLastEvent = lambda: types.SimpleNamespace(type="Exception")
    pykd.getLastException = lambda: types.SimpleNamespace(
        exceptionCode=int(machine.last or "0", 16)
    )
    for name in ("initialize", "deinitialize"):
        setattr(pykd, name, lambda name=name: pykd.log.append(name))
    for name in ("attachKernel", "remoteConnect", "setSymbolPath", "loadDump"):
        setattr(pykd, name, lambda text, name=name: pykd.log.append((name, text)))
    return pykd
