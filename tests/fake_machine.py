"""A machine for the tests of live work: the memory of a dump, and calls that happen when it runs.

Only the world outside is faked: memory, registers, clock and the order in which addresses are
executed. What this does not prove: that a real debugger stops there, that its reads and registers
mean the same, that a real kernel calls filters in this order, and what a real stop costs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from analyzer.absence import Absent
from analyzer.dumpfile import open_dump

GO_ON, STOP = "go on", "stop"
STACK = 0xFFFFF80000100000
TSC_HZ = 2_000_000_000
CALL = b"\x90\x90\xe8\0\0\0\0"  #: two nops, call rel32


class Call(NamedTuple):
    """crashdmp calls a routine."""

    routine: int
    extension: int = 0
    ticks: int = 1000  #: what the routine itself takes
    status: int = 0
    writes: tuple = ()  #: (address, bytes) that it changes
    inner: tuple = ()  #: calls it makes itself
    returns: bool = True
    cpu: int = 0
    second: int = 0  #: second argument
    back: int = 0  #: return address; 0: the machine's own


class Exception_(NamedTuple):
    """The machine stops by itself."""

    code: int = 0x80000003


class Load(NamedTuple):
    """A driver is loaded."""

    name: str
    base: int
    memory: tuple = ()


class Idle(NamedTuple):
    """Nothing happens until somebody breaks in."""


class Pause(NamedTuple):
    """The user's own breakpoint: a prompt, while the counter goes on."""

    ticks: int


class Bugcheck(NamedTuple):
    """The machine crashes."""

    values: tuple


class FakeMachine:
    """Runs a script of the above; ``stop_cost`` ticks pass at every stop of the debugger."""

    def __init__(self, path: str, script: Any = (), stop_cost: int = 50_000) -> None:
        self.memory = open_dump(str(path))
        self.overlay: dict[int, bytes] = {}
        self.registers = {"rip": 0xFFFFF80000000000, "rsp": STACK, "rax": 0}
        self.msrs = {0x40000022: TSC_HZ}
        self.tsc = 1 << 40
        self.stop_cost = stop_cost
        self.cpu = 0
        self.bugcheck = (0, 0, 0, 0, 0)
        self.breakpoints: dict[int, list] = {}  #: address -> callbacks without arguments
        self.prompts: list = []  #: callbacks() when the user gets a prompt
        self.loads: list = []  #: callbacks(base, name)
        self.stops = 0
        self.is_running = False
        self.broken_in = False
        self.last = ""
        base = next(m.base for m in self.memory.modules() if m.name == "crashdmp.sys")
        self.back = base + 0x1234
        self.patch(self.back - 7, CALL)
        self.patch(self.back, b"\x85\xc0\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90")
        for step in script:
            if isinstance(step, Call):
                self._add_code(step)
        self._steps = self._run(script)

    def _add_code(self, call: Call) -> None:
        """What a debugger looks at before it sets a breakpoint: code, a call before a return."""
        if isinstance(self.read(call.routine, 1), Absent):
            self.patch(call.routine, b"\x90")
        if call.back:
            self.patch(call.back - 7, CALL + bytes(30))
        for inner in call.inner:
            if isinstance(inner, Call):
                self._add_code(inner)

    def patch(self, address: int, data: bytes) -> None:
        """Writes memory."""
        for place, value in enumerate(data):
            self.overlay[address + place] = bytes([value])

    def read(self, address: int, size: int) -> bytes | Absent:
        """Reads memory."""
        if not any(address + place in self.overlay for place in range(size)):
            return self.memory.read(address, size)
        base = self.memory.read(address, size)
        pieces = [
            self.overlay.get(address + place)
            or (None if isinstance(base, Absent) else base[place : place + 1])
            for place in range(size)
        ]
        return Absent("not-mapped") if None in pieces else b"".join(pieces)

    @property
    def modules(self) -> Any:
        """The loaded modules."""
        return self.memory.modules()

    # -- running -------------------------------------------------------------------------------

    def go(self) -> str:
        """Runs until something stops it: breakpoint, exception, break-in, ended."""
        self.is_running = True
        try:
            return self._go()
        finally:
            self.is_running = False

    def _go(self) -> str:
        self.tsc += self.stop_cost
        for event in self._steps:
            if event == "idle":
                if self.broken_in:
                    self.broken_in = False
                    return "break-in"
                continue
            if event == "exception":
                for prompt in list(self.prompts):
                    prompt()
                return event
            hit = list(self.breakpoints.get(event, ()))
            if hit:
                self.stops += 1
                self.registers["rip"] = event
                wanted = [callback() for callback in hit]
                self.tsc += self.stop_cost
                if STOP in wanted:
                    return "breakpoint"
        return "ended"

    def _run(self, script: Any) -> Any:
        for step in script:
            if isinstance(step, Call):
                yield from self._call(step)
            elif isinstance(step, Exception_):
                self.last = hex(step.code)
                yield "exception"
            elif isinstance(step, Load):
                for address, data in step.memory:
                    self.patch(address, data)
                for callback in list(self.loads):
                    callback(step.base, step.name)
            elif isinstance(step, Bugcheck):
                self.bugcheck = step.values
                yield "exception"
            elif isinstance(step, Pause):
                yield "exception"
                self.tsc += step.ticks
            elif isinstance(step, Idle):
                while not self.broken_in:
                    yield "idle"
                yield "idle"

    def _call(self, call: Call) -> Any:
        self.cpu = call.cpu
        back = call.back or self.back
        registers = self.registers
        registers["rsp"] -= 8
        self.patch(registers["rsp"], back.to_bytes(8, "little"))
        registers["rcx"], registers["rdx"], registers["r8"] = call.extension, call.second, 0
        sp = registers["rsp"]
        yield call.routine
        self.tsc += call.ticks
        for inner in call.inner:
            registers["rsp"] = sp - 0x40
            yield from self._run([inner])
        for address, data in call.writes:
            self.patch(address, data)
        if call.returns:
            registers["rax"], registers["rsp"] = call.status, sp + 8
            yield back
            yield back + 3  # two instructions on: 85 C0, 90
        else:
            registers["rsp"] = sp + 8
