"""What DbgEng is attached to, as a session: reads, events, breakpoints, the target that runs.

Invariant: the calls of :mod:`com` alone; the engine's thread makes all of them but SetInterrupt. A
breakpoint object of the engine is used for nothing after it was removed. In a debugger that was
joined, stops that are not ours belong to its user. Standard library only.
"""

from __future__ import annotations

import ctypes
import struct
import threading
import time
from collections.abc import Sequence
from ctypes import byref, c_char_p, c_uint32, c_uint64, c_void_p, create_string_buffer

from ..absence import Absent
from ..errors import SessionError
from ..records import Module, Origin
from .com import Com, EngineError, u32, u64, words
from .dbgeng_events import BREAK, ENDINGS, GO, NO_CHANGE, NO_DEBUGGEE, REBOOT, Events
from .modules import named, record
from .session import CONTINUE, Callback, Session, Stop

FOREVER = 0xFFFFFFFF
_ANY = 0xFFFFFFFF
_CODE, _DATA, _EXECUTE, _ENABLED = 0, 1, 4, 4
#: IMAGE_FILE_MACHINE_... (winnt.h)
_PROCESSORS = {0x8664: "x64", 0x14C: "x86", 0xAA64: "arm64"}
#: seconds that a break-in may take before it is asked for again
_GRACE = 5.0
_TICK = 0.5
_SLICE_MS = 50
#: DEBUG_CLASS_KERNEL; qualifiers from this on are dumps
_KERNEL, _FIRST_DUMP = 1, 1024


class DbgEngSession(Session):
    """Made by :mod:`dbgeng_target`."""

    backend = "dbgeng"

    def __init__(self, path: str, client: Com, engine: str, is_owner: bool) -> None:
        super().__init__()
        self.path, self.engine, self._is_owner = path, engine, is_owner
        self.is_joined = not is_owner
        self._client = client
        self._control = client.query("IDebugControl")
        self._spaces = client.query("IDebugDataSpaces")
        self._registers = client.query("IDebugRegisters")
        self._symbols = client.query("IDebugSymbols")
        self._system = client.query("IDebugSystemObjects")
        self._breakpoints: dict[int, tuple[int, Callback]] = {}
        self._places: dict[str, int] = {}
        self._modules: list[Module] | None = None
        self._unloaded: list[Module] = []
        self._stale: dict[int, int] = {}  #: breakpoints of a boot that is over
        self._wanted: Stop | None = None
        self._cause, self._ending = "", "the target is gone"
        self._exception: int | None = None
        self._closed = self._is_new_boot = False
        kind, qualifier = c_uint32(), c_uint32()
        self._control.do("GetDebuggeeType", byref(kind), byref(qualifier))
        if kind.value != _KERNEL:
            raise SessionError("the debugger has no kernel and no kernel dump open.")
        self.is_dump = qualifier.value >= _FIRST_DUMP
        self.capabilities = frozenset({"registers", "msr", "symbols"})
        if not self.is_dump:
            self.capabilities |= {"run", "module-events"}
        self.pointer_size = 8 if self._control.ask("IsPointer64Bit") == 0 else 4
        machine = self._control.number("GetActualProcessorType")
        self.architecture = _PROCESSORS.get(machine, "x64" if self.pointer_size == 8 else "x86")
        self.build = self._build()
        self._events = Events(self)
        client.do("SetEventCallbacks", c_void_p(self._events.pointer))

    def _build(self) -> int | Absent:
        text, build, unread = create_string_buffer(256), c_uint32(), c_uint32()
        size, other = u32(len(text)), byref(unread)
        result = self._control.ask(
            "GetSystemVersion", other, other, byref(build), text, size, other, other, text, size,
            other,
        )  # fmt: skip
        if result < 0 or not build.value:
            return Absent("not-recorded", "DbgEng does not tell the build")
        return build.value

    # -- what the engine calls -----------------------------------------------------------------

    def at_breakpoint(self, pointer: int) -> int:
        """Ours calls its callback; one of the user's stops as they want it."""
        number = Com("IDebugBreakpoint", pointer).number("GetId")
        entry = self._breakpoints.get(number)
        if entry is None:
            return NO_CHANGE
        stop = Stop("breakpoint", entry[0], self.current_processor())
        if self.guarded(entry[1], stop) is CONTINUE:
            # A break-in that was asked for while the engine handled an event is lost.
            return BREAK if self._cause else GO
        self._wanted = stop
        return BREAK

    def at_exception(self, record: int, is_first: int) -> int:
        """Remembers the code: the stop may be told later."""
        (self._exception,) = struct.unpack("<I", ctypes.string_at(record, 4))
        return NO_CHANGE

    def at_load(self, base: int, name: bytes | None, image: bytes | None) -> int:
        """A driver was loaded."""
        self._modules = None
        text = (image or name or b"").decode("ascii", "replace")
        text = text.replace("/", "\\").rsplit("\\", 1)[-1]
        self.tell("load", text if "." in text else f"{text}.sys", base)
        return NO_CHANGE

    def at_unload(self, base: int) -> int:
        """A driver was unloaded."""
        self._modules = None
        self.tell("unload", base)
        return NO_CHANGE

    def at_session(self, status: int) -> int:
        """The target rebooted, or the session ended."""
        self._modules = None
        self._ending = ENDINGS.get(status, self._ending)
        if status == REBOOT:
            # The engine would set them again in the next boot, where anything lies there.
            self._stale.update((n, entry[0]) for n, entry in self._breakpoints.items())
            self._breakpoints.clear()
            self._is_new_boot = True
            self.tell("reboot")
        return NO_CHANGE

    def at_status(self, status: int) -> int:
        """The user of the debugger that was joined has a prompt: it tells whoever times calls.

        While an event is being handled the engine adds a flag; a bare BREAK is a prompt.
        """
        if self.is_joined and status == BREAK and self._wanted is None:
            self.tell("stand", self._cause or "stop")
        return NO_CHANGE

    # -- reading -------------------------------------------------------------------------------

    def read(self, address: int, size: int) -> bytes | Absent:
        if size <= 0:
            return b""
        buffer, got = create_string_buffer(size), c_uint32()
        result = self._spaces.ask("ReadVirtual", u64(address), buffer, u32(size), byref(got))
        if result < 0 or got.value != size:
            reason = "not-in-dump" if self.is_dump else "not-mapped"
            return Absent(reason, f"{size} bytes at {address:#x} cannot be read")
        return buffer.raw

    def write(self, address: int, data: bytes) -> bool:
        done = c_uint32()
        buffer = create_string_buffer(data, len(data))
        result = self._spaces.ask("WriteVirtual", u64(address), buffer, u32(len(data)), byref(done))
        return result >= 0 and done.value == len(data)

    def modules(self) -> Sequence[Module]:
        if self._modules is None:
            loaded, gone = c_uint32(), c_uint32()
            self._symbols.do("GetNumberModules", byref(loaded), byref(gone))
            count = min(loaded.value, 4096)
            self._modules = [self._module(place, True) for place in range(count)]
            behind = loaded.value  # the engine counts on from the last loaded one
            last = behind + min(gone.value, 256)
            self._unloaded = [self._module(place, False) for place in range(behind, last)]
        return self._modules

    def unloaded(self) -> Sequence[Module]:
        self.modules()
        return self._unloaded

    def _module(self, place: int, loaded: bool) -> Module:
        block = create_string_buffer(64)
        self._symbols.do("GetModuleParameters", u32(1), c_void_p(), u32(place), block)
        base, size, stamp, checksum = struct.unpack_from("<QIII", block.raw)
        image, name, other = (create_string_buffer(1024) for _ in range(3))
        room, unread = u32(len(image)), byref(c_uint32())
        self._symbols.ask(
            "GetModuleNames", u32(place), u64(0), image, room, unread, name, room, unread, other,
            room, unread,
        )  # fmt: skip
        texts = [buffer.value.decode("ascii", "replace") for buffer in (name, image)]
        origin = Origin(self.path, "module list of the engine", "certain", None, base)
        title = named(*texts)
        return record(title, base, size, stamp, checksum, place, origin, loaded=loaded)

    def processors(self) -> int | Absent:
        count = self._control.number("GetNumberProcessors")
        return count or super().processors()

    def current_processor(self) -> int | Absent:
        number = c_uint32()  # in a kernel session: the processor
        if self._system.ask("GetCurrentThreadId", byref(number)) < 0:
            return super().current_processor()
        return number.value

    def register(self, name: str) -> int | Absent:
        try:
            if name not in self._places:
                text = c_char_p(name.encode("ascii", "replace"))
                self._places[name] = self._registers.number("GetIndexByName", text)
            value = create_string_buffer(32)
            self._registers.do("GetValue", u32(self._places[name]), value)
        except EngineError as error:
            return Absent("not-found", f"the register {name} cannot be read: {error}")
        return int.from_bytes(value.raw[: self.pointer_size], "little")

    def msr(self, number: int) -> int | Absent:
        value = c_uint64()
        if self._spaces.ask("ReadMsr", u32(number), byref(value)) < 0:
            return Absent("not-found", f"the model-specific register {number:#x} cannot be read")
        return value.value

    def bugcheck(self) -> tuple[int, ...] | Absent:
        code, rest = c_uint32(), [c_uint64() for _ in range(4)]
        if self._control.ask("ReadBugCheckData", byref(code), *map(byref, rest)) < 0:
            return Absent("not-recorded", "the engine knows no bugcheck")
        return (code.value, *(value.value for value in rest))

    def resolve(self, expression: str) -> int | Absent:
        found = self._plain(expression)
        if isinstance(found, int):
            return found
        value = c_uint64()
        text = c_char_p(expression.encode("utf-8", "replace"))
        if self._symbols.ask("GetOffsetByName", text, byref(value)) != 0:
            return Absent("not-found", f"no module or symbol '{expression}'")
        return value.value

    def nearest(self, address: int) -> str:
        text, size, distance = create_string_buffer(512), c_uint32(), c_uint64()
        done = self._symbols.ask(
            "GetNameByOffset", u64(address), text, u32(512), byref(size), byref(distance)
        )
        known = text.value.decode("ascii", "replace")
        if done < 0 or "!" not in known:
            return super().nearest(address)
        return f"{known}+{distance.value:#x}" if distance.value else known

    # -- running -------------------------------------------------------------------------------

    def add_breakpoint(self, address: int, callback: Callback, hardware: bool = False) -> int:
        made = c_void_p()
        kind = u32(_DATA if hardware else _CODE)
        try:
            self._control.do("AddBreakpoint", kind, u32(_ANY), byref(made))
            point = Com("IDebugBreakpoint", made.value)
        except EngineError as error:
            raise SessionError(f"no breakpoint at {address:#x}: {error}") from error
        try:
            if hardware:
                point.do("SetDataParameters", u32(1), u32(_EXECUTE))
            point.do("SetOffset", u64(address))
            point.do("AddFlags", u32(_ENABLED))
            number = point.number("GetId")
        except EngineError as error:
            self._control.ask("RemoveBreakpoint", c_void_p(point.pointer))
            raise SessionError(f"no breakpoint at {address:#x}: {error}") from error
        self._breakpoints[number] = (address, callback)
        return number

    def remove_breakpoint(self, handle: int) -> None:
        entry = self._breakpoints.pop(handle, None)
        if entry is not None:
            self._remove(handle, entry[0])

    def _remove(self, number: int, address: int) -> None:
        """By its number: the engine may have thrown the object away (a reboot, the user's bc)."""
        made, place = c_void_p(), c_uint64()
        if self._control.ask("GetBreakpointById", u32(number), byref(made)) < 0:
            return
        point = Com("IDebugBreakpoint", made.value)
        if point.ask("GetOffset", byref(place)) >= 0 and place.value == address:
            self._control.ask("RemoveBreakpoint", c_void_p(point.pointer))

    def resume(self, timeout: float) -> Stop:
        if self.is_dump:
            raise SessionError("this is a dump: it does not run.")
        self._wanted, self._exception = None, None
        try:
            status = self._run(timeout) if self._is_owner else self._follow(timeout)
        except EngineError as error:
            raise SessionError(f"the target cannot be resumed: {error}") from error
        while self._stale:
            self._remove(*self._stale.popitem())
        if self._is_new_boot and status == BREAK:
            self._is_new_boot = False
            self._symbols.ask("Reload", c_char_p(b""))  # else it lists nt alone
            self._modules = None
        cause, self._cause = self._cause, ""
        if status == NO_DEBUGGEE:
            none = Absent("not-found", self._ending)
            return Stop("ended", none, none, self._ending)
        wanted: Stop | None = self._wanted
        if wanted is not None:
            return wanted
        place, processor = self.named("ip"), self.current_processor()
        if cause:
            return Stop(cause, place, processor)
        code: int | None = self._exception
        detail = "a stop of the target's own" if code is None else f"exception {code:#010x}"
        return Stop("exception", place, processor, detail)

    def _run(self, timeout: float) -> int:
        """Our own engine: it waits without a limit, because DbgEng refuses one for live kernels."""
        ended = threading.Event()
        threading.Thread(target=self._limit, args=(timeout, ended), daemon=True).start()
        try:
            self._control.do("SetExecutionStatus", u32(GO))
            self._control.do("WaitForEvent", u32(0), u32(FOREVER))
        finally:
            ended.set()
        return self._control.number("GetExecutionStatus")

    def _limit(self, timeout: float, ended: threading.Event) -> None:
        """Breaks in when the time is up or that was asked for, again and again: it may be lost."""
        deadline, again = time.monotonic() + timeout, 0.0
        while not ended.wait(_TICK):
            now = time.monotonic()
            if now >= deadline:
                self._cause = self._cause or "timeout"
            if self._cause and now >= again:
                self._control.ask("SetInterrupt", u32(0))
                again = now + _GRACE

    def _follow(self, timeout: float) -> int:
        """A debugger that was joined: it waits for events, ours are dispatched here."""
        deadline, asked = time.monotonic() + timeout, 0.0
        if self._control.number("GetExecutionStatus") == BREAK:
            self._control.do("SetExecutionStatus", u32(GO))
        while True:
            self._client.ask("DispatchCallbacks", u32(_SLICE_MS))
            status = c_uint32()
            result = self._control.ask("GetExecutionStatus", byref(status))
            if result < 0:
                self._ending = f"the debugger that was joined is gone: {words(result)}"
                return NO_DEBUGGEE
            if status.value == NO_DEBUGGEE:
                return NO_DEBUGGEE
            if status.value == BREAK and (self._wanted or self._cause):
                return BREAK
            now = time.monotonic()
            if now > deadline:
                self._cause = self._cause or "timeout"
            if self._cause and now > asked:
                asked = now + _GRACE
                self._control.ask("SetInterrupt", u32(0))

    def interrupt(self) -> None:
        self._cause = "interrupt"
        self._control.ask("SetInterrupt", u32(0))

    def stand(self, until: threading.Event) -> None:
        """Others may join meanwhile (``.server``); when one says ``g`` it is over, too."""
        while not until.is_set() and self._control.number("GetExecutionStatus") == BREAK:
            self._client.ask("DispatchCallbacks", u32(_SLICE_MS))

    def execute(self, command: str) -> int:
        """Runs a command of the debugger; its output goes nowhere."""
        return self._control.ask("Execute", u32(3), c_char_p(command.encode("utf-8")), u32(0))

    def close(self, leave_running: bool = True) -> None:
        if self._closed:
            return
        self._closed = True
        for handle in list(self._breakpoints):
            self.remove_breakpoint(handle)
        if self._is_owner and not self.is_dump and leave_running:
            # Ending the process without this leaves the machine standing at its last stop.
            self.execute("qd")
        elif not self._is_owner and leave_running:
            self._control.ask("SetExecutionStatus", u32(GO))
        self._client.ask("SetEventCallbacks", c_void_p())
