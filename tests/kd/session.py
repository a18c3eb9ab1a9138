"""The simulated machine as a session of the package, without a debugger in between.

Invariant: a stop costs the machine's clock what a stop in the real engine costs: half on the way
in, half on the way out. Going on from a breakpoint takes a single step, a stop of its own, which is
also the hit of a breakpoint on the next instruction (both seen with DbgEng 10.0.15063).
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from analyzer.absence import Absent
from analyzer.live.session import Callback, Session, Stop
from analyzer.records import Module, Origin

from .image import Image
from .machine import Machine
from .scenarios import TICKS_PER_SECOND


class MachineSession(Session):
    """Breakpoints are int3 instructions in the guest's code, as a debugger sets them."""

    backend = "simulated machine"
    capabilities = frozenset({"registers", "msr", "run", "module-events"})
    architecture = "x64"
    build = 19041

    def __init__(self, machine: Machine, stop_ticks: int = 40_000) -> None:
        super().__init__()
        self.path = self.backend
        self.machine, self.stop_ticks = machine, stop_ticks
        self.requests = list(machine.scenario.requests)
        self.closed = False
        self._wanted: dict[int, tuple[int, Callback]] = {}  # handle -> (address, callback)
        self._originals: dict[int, bytes] = {}
        self._next = 1
        self._interrupted = False

    def read(self, address: int, size: int) -> bytes | Absent:
        data = bytearray(self.machine.read(address, size))
        for at, original in self._originals.items():  # a debugger hides its breakpoints
            if address <= at < address + len(data):
                data[at - address : at - address + 1] = original
        return bytes(data) if len(data) == size else Absent("not-mapped")

    def write(self, address: int, data: bytes) -> bool:
        return self.machine.write(address, data)

    def modules(self) -> Sequence[Module]:
        return [self._module(image) for image in self.machine.visible]

    def _module(self, image: Image) -> Module:
        unknown = Absent("not-recorded")
        values = dict.fromkeys(Module._fields, unknown)
        values.update(name=image.name, base=image.base, end=image.base + image.size)  # type: ignore[call-overload]
        values.update(size=image.size, time_date_stamp=image.time_stamp, loaded=True)  # type: ignore[call-overload]
        values.update(role=None, stack=None, origin=Origin(self.path, "list of the test"))  # type: ignore[call-overload]
        return Module(**values)  # type: ignore[arg-type]

    def processors(self) -> int | Absent:
        return self.machine.scenario.processors

    def current_processor(self) -> int | Absent:
        return self.machine.processor

    def register(self, name: str) -> int | Absent:
        return self.machine.get(name)

    def msr(self, number: int) -> int | Absent:
        known = {0x10: self.machine.clock, 0x40000022: TICKS_PER_SECOND}
        return known.get(number, Absent("not-recorded"))

    def add_breakpoint(self, address: int, callback: Callback, hardware: bool = False) -> int:
        handle, self._next = self._next, self._next + 1
        self._wanted[handle] = (address, callback)
        if address not in self._originals:
            self._originals[address] = self.machine.read(address, 1)
            assert self.machine.write(address, b"\xcc")
        return handle

    def remove_breakpoint(self, handle: int) -> None:
        address, _ = self._wanted.pop(handle, (None, None))
        if address is not None and address not in [at for at, _ in self._wanted.values()]:
            self.machine.write(address, self._originals.pop(address))

    def interrupt(self) -> None:
        self._interrupted = True

    def resume(self, timeout: float) -> Stop:
        machine, end = self.machine, time.monotonic() + timeout
        while time.monotonic() < end:
            outcome = self._step_over() or machine.run(20_000)
            if outcome == "int3":
                if self._hit():
                    return Stop("breakpoint", machine.get("rip"), machine.processor)
            elif outcome == "fault":
                return Stop("exception", machine.get("rip"), machine.processor)
            elif self._interrupted:
                self._interrupted = False
                return Stop("interrupt", machine.get("rip"), machine.processor)
            elif not machine.busy and self.requests:
                self._next_request()
                if self.machine is not machine:  # as an engine stops where it connects anew
                    return Stop("exception", self.machine.get("rip"), self.machine.processor)
            elif not machine.busy:
                return Stop("ended", machine.get("rip"), machine.processor)
        return Stop("timeout", machine.get("rip"), machine.processor)

    def close(self, leave_running: bool = True) -> None:
        for handle in list(self._wanted):
            self.remove_breakpoint(handle)
        self.closed = True

    def _hit(self) -> bool:
        address = self.machine.get("rip")
        stop = Stop("breakpoint", address, self.machine.processor)
        self.machine.pass_time(self.stop_ticks // 2)
        mine = [callback for at, callback in self._wanted.values() if at == address]
        answers = [self.guarded(callback, stop) for callback in mine]
        self.machine.pass_time(self.stop_ticks // 2)
        return any(answers)

    def _step_over(self) -> str:
        """One instruction without the breakpoint on it: "int3" when it leads to another one."""
        address = self.machine.get("rip")
        if address not in self._originals:
            return ""
        self.machine.write(address, self._originals[address])
        self.machine.run(1)
        self.machine.write(address, b"\xcc")
        if self.machine.get("rip") in self._originals:
            return "int3"
        self.machine.pass_time(self.stop_ticks)
        return ""

    def _next_request(self) -> None:
        request = self.requests.pop(0)
        verb, _, name = request.partition(" ")
        if verb == "reboot":
            self.machine = Machine(self.machine.built, self.machine.scenario)
            self._wanted.clear()
            self._originals.clear()
            self.tell("reboot")
            return
        if verb == "drop":
            image = self.machine.filters[name]
            self.tell("unload", image.base)
            self.machine.drop(image)
            return
        if verb == "load":
            image = self.machine.filters[name]
            self.machine.show(image, there=True)
            self.tell("load", image.name, image.base)
        self.machine.ask(request)
