"""DbgEng as COM objects in this process, on a fake machine: what the package calls of it.

Its methods stand where ``analyzer.live.com`` has them, which a compiler compares with dbgeng.h. It
keeps DbgEng's traps: a removed breakpoint's object is gone, a wait has no limit, an event that
nobody decides stops. What it does not prove: that the real engine does so (``-m live`` does).
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_int32, c_uint32, c_uint64, c_void_p
from typing import Any
from uuid import UUID

from fake_machine import GO_ON, STOP, FakeMachine

from analyzer.absence import Absent
from analyzer.live.com import FUNCTION, INTERFACES

FAILED, NO_CALL = 0x80004005 - (1 << 32), 0x80004001 - (1 << 32)
GO, BREAK, NO_DEBUGGEE = 1, 6, 7
BREAKPOINT, EXCEPTION, LOAD, SESSION, STATE = 4, 5, 10, 13, 15  # of IDebugEventCallbacks
EXECUTION_STATUS, ENDED = 0x10, 4
#: arguments behind "this": i and q numbers of 32 and 64 bits, p a pointer, s a text
SIGNATURES = dict(
    pair.split(":")
    for pair in (
        "AttachKernel:is OpenDumpFile:s ConnectSession:ii DispatchCallbacks:i SetEventCallbacks:p "
        "SetInterrupt:i GetDebuggeeType:pp GetActualProcessorType:p GetNumberProcessors:p "
        "GetSystemVersion:ppppippip IsPointer64Bit: ReadBugCheckData:ppppp GetExecutionStatus:p "
        "SetExecutionStatus:i AddEngineOptions:i Execute:isi GetBreakpointById:ip "
        "AddBreakpoint:iip RemoveBreakpoint:p WaitForEvent:ii ReadVirtual:qpip WriteVirtual:qpip "
        "ReadMsr:ip GetIndexByName:sp GetValue:ip GetNameByOffset:qpipp GetOffsetByName:sp "
        "GetNumberModules:pp GetModuleNames:iqpippippip GetModuleParameters:ipip Reload:s "
        "SetSymbolPath:s GetCurrentThreadId:p GetId:p AddFlags:i GetOffset:p SetOffset:q "
        "SetDataParameters:ii"
    ).split()
)
TYPES = {"i": c_uint32, "q": c_uint64, "p": c_void_p, "s": c_char_p}


def put(pointer: int | None, value: int, size: int = 4) -> int:
    """Writes a number where the caller wants it; the success of the call."""
    if pointer:
        ctypes.memmove(pointer, (value & (1 << 8 * size) - 1).to_bytes(size, "little"), size)
    return 0


def _kept_in(problems: list[str], function: Any) -> Any:
    """A raise cannot leave a callback of ctypes: it is kept, and the call fails."""

    def call(_: int, *arguments: Any) -> int:
        try:
            return function(*arguments) or 0
        except Exception as error:  # noqa: BLE001
            problems.append(f"{function.__name__}{arguments}: {error!r}")
            return FAILED

    return call


class Object:
    """A COM object whose methods are those of a Python object that have the same names."""

    def __init__(self, owner: Any, interface: str) -> None:
        methods = INTERFACES[interface].methods
        self._kept = [FUNCTION(c_int32, c_void_p)(lambda _: NO_CALL)] * (1 + max(methods.values()))
        query = getattr(owner, "query", None)
        if query:
            self._kept[0] = FUNCTION(c_int32, c_void_p, c_void_p, c_void_p)(query)
        for name, place in methods.items():
            if name in SIGNATURES:
                types = [TYPES[letter] for letter in SIGNATURES[name]]
                self._kept[place] = FUNCTION(c_int32, c_void_p, *types)(
                    _kept_in(owner.problems, getattr(owner, name))
                )
        places = [ctypes.cast(function, c_void_p).value for function in self._kept]
        self._table = (c_void_p * len(places))(*places)
        self._object = (c_void_p * 1)(ctypes.addressof(self._table))
        self.pointer = ctypes.addressof(self._object)


class Breakpoint:
    """An IDebugBreakpoint; it stands in the machine once it has a place and is enabled."""

    def __init__(self, engine: Engine, number: int, kind: int) -> None:
        self.engine, self.number, self.kind, self.address = engine, number, kind, 0
        self.parameters: tuple[int, int] | None = None
        self.problems = engine.problems
        self.object = Object(self, "IDebugBreakpoint")

    def GetId(self, out: int) -> int:
        return put(out, self.number)

    def GetOffset(self, out: int) -> int:
        return put(out, self.address, 8)

    def SetOffset(self, address: int) -> None:
        self.address = address

    def SetDataParameters(self, size: int, access: int) -> None:
        self.parameters = size, access

    def AddFlags(self, flags: int) -> None:
        assert flags == 4  # DEBUG_BREAKPOINT_ENABLED
        self.engine.machine.breakpoints.setdefault(self.address, []).append(self.hit)

    def hit(self) -> str:
        wanted = self.engine.event(BREAKPOINT, (c_void_p,), self.object.pointer)
        return GO_ON if wanted == GO else STOP

    def remove(self) -> None:
        hits = self.engine.machine.breakpoints.get(self.address, [])
        if self.hit in hits:
            hits.remove(self.hit)
        if not hits:
            self.engine.machine.breakpoints.pop(self.address, None)


class Engine:
    """One engine with its target; ``log`` has what was asked of it."""

    def __init__(self, machine: FakeMachine, joined: bool = False) -> None:
        self.machine, self.joined = machine, joined
        self.log: list[Any] = []
        self.problems: list[str] = []  #: what was asked wrongly
        self.status, self.qualifier, self.modules = BREAK, 0, list(machine.modules)
        self.points: dict[int, Breakpoint] = {}
        self._events: int | None = None
        self._objects = {
            UUID(one.iid).bytes_le: Object(self, name)
            for name, one in INTERFACES.items()
            if name != "IDebugBreakpoint"
        }
        self.DebugCreate = FUNCTION(c_int32, c_void_p, c_void_p)(self._create)
        self.DebugConnect = FUNCTION(c_int32, c_char_p, c_void_p, c_void_p)(self._connect)
        machine.loads.append(self._loaded)

    def _create(self, identity: int, out: int) -> int:
        return self.query(0, identity, out)

    def _connect(self, text: bytes, identity: int, out: int) -> int:
        self.log.append(("DebugConnect", text.decode()))
        return self.query(0, identity, out)

    def query(self, _: int, identity: int, out: int) -> int:
        """IUnknown's QueryInterface."""
        found = self._objects.get(ctypes.string_at(identity, 16))
        return put(out, found.pointer, 8) if found else NO_CALL

    def event(self, place: int, types: tuple[Any, ...], *arguments: Any) -> int:
        """Calls a method of the IDebugEventCallbacks that were set."""
        if not self._events:
            return 0
        table = ctypes.cast(self._events, POINTER(POINTER(c_void_p))).contents
        return int(FUNCTION(c_int32, c_void_p, *types)(table[place])(self._events, *arguments))

    def _loaded(self, base: int, name: str) -> None:
        types = (c_uint64, c_uint64, c_uint32, c_char_p, c_char_p, c_uint32, c_uint32)
        stem = name.rpartition(".")[0].encode()
        path = rb"\SystemRoot\drivers/" + name.encode()
        self.event(LOAD, types, 0, base, 0x1000, stem, path, 0, 0)

    def _go(self) -> None:
        """Runs the machine until it stops."""
        self.log.append("go")
        how = self.machine.go()
        self.status = BREAK
        if how == "ended":
            self.status = NO_DEBUGGEE
            self.event(SESSION, (c_uint32,), ENDED)
        if how == "exception":
            record = (c_uint32 * 2)(int(self.machine.last or "0", 16))
            self.event(EXCEPTION, (c_void_p, c_uint32), ctypes.addressof(record), 1)
            if self.joined:  # its user has a prompt and says g
                self.event(STATE, (c_uint32, c_uint64), EXECUTION_STATUS, BREAK)
                self.status = GO

    # -- IDebugClient --------------------------------------------------------------------------

    def AttachKernel(self, flags: int, text: bytes) -> None:
        assert flags == 0  # DEBUG_ATTACH_KERNEL_CONNECTION
        self.log.append(("AttachKernel", text.decode()))

    def OpenDumpFile(self, text: bytes) -> None:
        self.log.append(("OpenDumpFile", text.decode()))
        self.qualifier = 1026  # DEBUG_KERNEL_FULL_DUMP

    def ConnectSession(self, *_: int) -> None:
        self.log.append("ConnectSession")

    def DispatchCallbacks(self, _: int) -> None:
        if self.status == GO:
            self._go()

    def SetEventCallbacks(self, pointer: int | None) -> None:
        self._events = pointer

    # -- IDebugControl -------------------------------------------------------------------------

    def SetInterrupt(self, how: int) -> None:
        assert how == 0  # DEBUG_INTERRUPT_ACTIVE
        self.machine.broken_in = True

    def GetDebuggeeType(self, kind: int, qualifier: int) -> int:
        return put(kind, 1) or put(qualifier, self.qualifier)

    def GetActualProcessorType(self, out: int) -> int:
        return put(out, 0x8664)

    def GetNumberProcessors(self, out: int) -> int:
        return put(out, 2)

    def GetSystemVersion(self, platform: int, major: int, minor: int, *_: int) -> int:
        return put(platform, 2) or put(major, 15) or put(minor, self.machine.memory.build)

    def IsPointer64Bit(self) -> int:
        return 0

    def ReadBugCheckData(self, *out: int) -> int:
        if not self.machine.bugcheck[0]:
            return FAILED
        put(out[0], self.machine.bugcheck[0])
        return sum(put(place, v, 8) for place, v in zip(out[1:], self.machine.bugcheck[1:]))

    def GetExecutionStatus(self, out: int) -> int:
        return put(out, self.status)

    def SetExecutionStatus(self, status: int) -> None:
        self.status = status

    def AddEngineOptions(self, options: int) -> None:
        self.log.append(("AddEngineOptions", options))

    def Execute(self, output: int, text: bytes, flags: int) -> None:
        assert (output, flags) == (3, 0)  # DEBUG_OUTCTL_IGNORE
        self.log.append(text.decode())

    def AddBreakpoint(self, kind: int, number: int, out: int) -> int:
        assert number == 0xFFFFFFFF  # DEBUG_ANY_ID
        free = next(n for n in range(1000) if n not in self.points)
        self.points[free] = Breakpoint(self, free, kind)
        return put(out, self.points[free].object.pointer, 8)

    def GetBreakpointById(self, number: int, out: int) -> int:
        found = self.points.get(number)
        return put(out, found.object.pointer, 8) if found else FAILED

    def RemoveBreakpoint(self, pointer: int) -> int:
        for number, point in list(self.points.items()):
            if point.object.pointer == pointer:
                point.remove()
                del self.points[number]
                return 0
        return FAILED

    def WaitForEvent(self, flags: int, limit: int) -> None:
        assert (flags, limit) == (0, 0xFFFFFFFF)  # a live kernel takes no other
        if self.status == GO:
            self._go()

    # -- IDebugDataSpaces, IDebugRegisters, IDebugSystemObjects --------------------------------

    def ReadVirtual(self, address: int, buffer: int, size: int, got: int) -> int:
        data = self.machine.read(address, size)
        if isinstance(data, Absent):
            return FAILED
        ctypes.memmove(buffer, data, size)
        return put(got, size)

    def WriteVirtual(self, address: int, buffer: int, size: int, done: int) -> int:
        self.machine.patch(address, ctypes.string_at(buffer, size))
        return put(done, size)

    def ReadMsr(self, number: int, out: int) -> int:
        known = {**self.machine.msrs, 0x10: self.machine.tsc}
        return put(out, known[number], 8) if number in known else FAILED

    def GetIndexByName(self, name: bytes, out: int) -> int:
        names = list(self.machine.registers)
        return put(out, names.index(name.decode())) if name.decode() in names else FAILED

    def GetValue(self, place: int, out: int) -> int:
        return put(out, list(self.machine.registers.values())[place], 8)

    def GetCurrentThreadId(self, out: int) -> int:
        return put(out, self.machine.cpu)

    # -- IDebugSymbols -------------------------------------------------------------------------

    def GetNameByOffset(self, *_: Any) -> int:
        return FAILED

    def GetOffsetByName(self, *_: Any) -> int:
        return FAILED

    def GetNumberModules(self, loaded: int, gone: int) -> int:
        return put(loaded, len(self.modules)) or put(gone, 0)

    def GetModuleParameters(self, count: int, bases: int | None, start: int, out: int) -> int:
        assert (count, bases) == (1, None)
        module = self.modules[start]
        known = [module.size, module.time_date_stamp, module.checksum]
        words = [0 if isinstance(word, Absent) else word for word in known]
        put(out, module.base, 8)
        return sum(put(out + 8 + 4 * n, word) for n, word in enumerate(words))

    def GetModuleNames(self, place: int, _base: int, image: int, room: int, *rest: Any) -> int:
        title = str(self.modules[place].name)
        stem = "nt" if title == "ntoskrnl.exe" else title.rpartition(".")[0]
        for buffer, size, text in ((image, room, title), (rest[1], rest[2], stem)):
            assert len(text) < size
            ctypes.memmove(buffer, text.encode() + b"\0", len(text) + 1)
        return 0

    def Reload(self, text: bytes) -> None:
        self.log.append(("Reload", text.decode()))

    def SetSymbolPath(self, text: bytes) -> None:
        self.log.append(("SetSymbolPath", text.decode()))
