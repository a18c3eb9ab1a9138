"""What live work asks of a debugger: memory, registers, breakpoints, a target that runs and stops.

Invariant (the contract that every backend keeps and ``tests/test_live_contract.py`` checks):

- ``read`` gives all bytes or an ``Absent``, as for any target; nothing raises for missing data.
- A callback gets a :class:`Stop` and returns CONTINUE or STOP. What it raises is noted in
  ``errors`` and the target **continues**: a machine that stands still in its crash path is lost.
- ``resume`` returns when a callback said STOP, the target stopped by itself, or time is up.
- ``interrupt`` may be called from another thread; everything else belongs to the engine's thread.
- ``close`` removes every breakpoint and leaves the target running, whatever happened before; it may
  be called twice and does not raise.

Standard library only.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Callable, NamedTuple, TypeVar

from ..absence import Absent
from ..dumpstack.walk import Ring
from ..errors import SessionError
from ..records import Module
from ..target import Target, symbol

CONTINUE, STOP = False, True
TSC = 0x10  #: IA32_TIME_STAMP_COUNTER
_WALL = time.time_ns() - time.perf_counter_ns()


class Stop(NamedTuple):
    """Why the target stands still.

    ``kind``: breakpoint | exception | interrupt | timeout | ended.
    """

    kind: str
    address: int | Absent
    processor: int | Absent
    detail: str = ""


class Clock(NamedTuple):
    """One look at both clocks."""

    tsc: int | Absent  #: the target's time stamp counter
    host_ns: int  #: the debugger's clock: ns since 1970, never running backwards


Callback = Callable[[Stop], bool]
_T = TypeVar("_T")

#: architecture -> what the calling convention puts where
REGISTERS: dict[str, dict[str, str]] = {
    "x64": {
        "ip": "rip", "sp": "rsp", "result": "rax",
        "arg0": "rcx", "arg1": "rdx", "arg2": "r8", "arg3": "r9",
    },
    "x86": {"ip": "eip", "sp": "esp", "result": "eax"},
    "arm64": {
        "ip": "pc", "sp": "sp", "result": "x0", "return": "lr",
        "arg0": "x0", "arg1": "x1", "arg2": "x2", "arg3": "x3",
    },
}  # fmt: skip


class Session(Target):
    """A target in a debugger. Backends override what they can, as ``capabilities`` says."""

    backend = "none"
    #: of: registers, msr, run, module-events, symbols
    capabilities: frozenset[str] = frozenset()
    #: breakpoints that a kernel debugger can hold at once (WinDbg's documentation)
    most_breakpoints = 32
    is_joined = False  #: True: somebody else's debugger holds the target
    engine = ""  #: the engine's file and version, where there is one
    is_dump = False  #: True: ``path`` is a dump, which does not run

    def __init__(self) -> None:
        self.errors: list[str] = []
        self._listeners: dict[str, list[Callable[..., None]]] = {}
        self._borders: list[int] | None = None  #: of the regions, in order

    # -- what a backend gives ------------------------------------------------------------------

    def unloaded(self) -> Sequence[Module]:
        """Modules that were unloaded, as far as the target remembers them."""
        return ()

    def processors(self) -> int | Absent:
        """How many processors the target has."""
        return Absent("not-recorded", f"{self.backend} does not tell it")

    def current_processor(self) -> int | Absent:
        """The processor that stopped."""
        return Absent("not-recorded", f"{self.backend} does not tell it")

    def register(self, name: str) -> int | Absent:
        """A register of the current processor, by the engine's name, such as ``rcx``."""
        return Absent("not-recorded", f"{self.backend} has no registers")

    def msr(self, number: int) -> int | Absent:
        """A model-specific register of the current processor."""
        return Absent("not-recorded", f"{self.backend} has no model-specific registers")

    def bugcheck(self) -> tuple[int, ...] | Absent:
        """Code and four parameters of the crash under way."""
        return Absent("not-recorded", f"{self.backend} does not tell it")

    def attributes(self) -> int | Absent:
        """The attribute word in the header of an open dump."""
        return Absent("not-recorded", f"{self.backend} does not tell it")

    def resolve(self, expression: str) -> int | Absent:
        """The address of ``module!symbol``; module+0xOFFSET and addresses need no symbols."""
        return self._plain(expression)

    def add_breakpoint(self, address: int, callback: Callback, hardware: bool = False) -> int:
        """Calls ``callback`` whenever the address is executed; the handle removes it."""
        raise SessionError(f"{self.backend} cannot set breakpoints.")

    def remove_breakpoint(self, handle: int) -> None:
        """Removes a breakpoint; one that is gone already is no error."""

    def write(self, address: int, data: bytes) -> bool:
        """Writes memory: of a breakpoint that a dead debugger left; False when it cannot be."""
        return False

    def on(self, event: str, callback: Callable[..., None]) -> None:
        """Calls ``callback`` at each event from now on.

        ``load`` (name, base) and ``unload`` (base) of a driver; ``reboot`` () of the target;
        ``stand`` (why): the target stands for somebody else's reason, in whoever's debugger.
        """
        self._listeners.setdefault(event, []).append(callback)

    def tell(self, event: str, *values: object) -> None:
        """Calls those who listen to an event; what they raise is noted."""
        for callback in self._listeners.get(event, ()):
            try:
                callback(*values)
            except Exception as error:  # noqa: BLE001 - a raise would stop the machine
                self.errors.append(f"{type(error).__name__}: {error}")

    def resume(self, timeout: float) -> Stop:
        """Lets the target run until something stops it, at most so many seconds."""
        raise SessionError(f"{self.backend} is no running target.")

    def interrupt(self) -> None:
        """Makes the target stop soon; callable from any thread."""

    def close(self, leave_running: bool = True) -> None:
        """Removes all breakpoints, leaves the target running and ends the session."""

    def regions(self) -> Iterator[tuple[int, int]]:
        """(address, size) of memory to scan when the walk finds nothing: minidumps only."""
        return iter(())

    def chunks(self, address: int, size: int) -> Iterator[tuple[int, bytes]]:
        """As for any target; in a minidump the pieces end where its blocks do, not its pages."""
        if self._borders is None:
            blocks = self.regions() if self.is_dump else ()
            self._borders = sorted({edge for start, n in blocks for edge in (start, start + n)})
        inside = self._borders[bisect_right(self._borders, address) :]
        end, held = address + size, (address, b"")
        for edge in (*(edge for edge in inside if edge < end), end):
            for start, data in super().chunks(address, edge - address):
                if start != held[0] + len(held[1]):
                    if held[1]:
                        yield held
                    held = start, b""
                held = held[0], held[1] + data
            address = edge
        if held[1]:
            yield held

    def recorded_rings(self) -> list[Ring] | None:
        """The lists of filters where they are known already; None: walk the memory."""
        return None

    def stand(self, until: threading.Event) -> None:
        """Keeps the target standing until the event is set."""
        until.wait()

    # -- built on it ---------------------------------------------------------------------------

    def named(self, role: str) -> int | Absent:
        """A register by its role in the calling convention: ip, sp, result, return, arg0..arg3."""
        name = REGISTERS.get(self.convention, {}).get(role)
        if name is None:
            return Absent("not-applicable", f"no register of {self.convention} is the {role}")
        return self.register(name)

    @property
    def convention(self) -> str:
        """The architecture without its variants: x64, x86 or arm64."""
        return str(self.architecture).split("-", maxsplit=1)[0]

    def argument(self, place: int) -> int | Absent:
        """An argument at a function's first instruction; stack slots are not written yet there."""
        if self.convention != "x86":
            return self.named(f"arg{place}")
        sp = self.named("sp")
        return sp if isinstance(sp, Absent) else self.pointer(sp + 4 + 4 * place)

    def return_address(self) -> int | Absent:
        """Where the function goes back to, at its first instruction."""
        if self.convention == "arm64":
            return self.named("return")
        sp = self.named("sp")
        return sp if isinstance(sp, Absent) else self.pointer(sp)

    def clock(self) -> Clock:
        """Both clocks, the target's first."""
        tsc: int | Absent = Absent("not-recorded", "no time stamp counter is known for ARM64")
        if self.convention in ("x64", "x86"):
            tsc = self.msr(TSC)
        return Clock(tsc, _WALL + time.perf_counter_ns())

    def described(self) -> str:
        """The machine in words."""
        words = [f"build {self.build}"] if isinstance(self.build, int) else []
        count = self.processors()
        words += [str(self.architecture)]
        if isinstance(count, int):
            words.append(f"{count} processor{'' if count == 1 else 's'}")
        return ", ".join(words)

    def nearest(self, address: int) -> str:
        """``module+0x1000``, or the engine's ``module!symbol+0x10``."""
        return symbol(self.modules(), address)

    def _plain(self, expression: str) -> int | Absent:
        """An address that needs no symbols."""
        name, _, offset = expression.partition("+")
        try:
            if not offset and name.lower().startswith("0x"):
                return int(name, 16)
            distance = int(offset, 16) if offset else 0
        except ValueError:
            return Absent("not-found", f"'{expression}' is no address")
        for module in self.modules():
            known = str(module.name).lower()
            if name.lower() in (known, known.rsplit(".", 1)[0]) and isinstance(module.base, int):
                return module.base + distance
        return Absent("not-found", f"no module or symbol '{expression}'")

    def guarded(self, callback: Callback, stop: Stop) -> bool:
        """Runs a callback for a backend: what it raises is noted and the target goes on."""
        try:
            return bool(callback(stop))
        except Exception as error:  # noqa: BLE001 - a raise would leave the machine standing
            self.errors.append(f"{type(error).__name__}: {error}")
            return CONTINUE


def plain(value: _T | Absent) -> _T | None:
    """The value, None for one that is absent."""
    return None if isinstance(value, Absent) else value
