"""ntoseye: a native debugger for Windows machines in a VM, from Linux or macOS (extra ``ntoseye``).

Invariant: as for every session (session.py). Leaving ntoseye's own block removes its breakpoints
and lets the target run, so ``close`` is that. What is proven: docs/live.md.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ..absence import Absent
from ..errors import SessionError
from ..records import Module, Origin
from .session import Callback, Session, Stop


class NtoseyeSession(Session):
    """A kernel that ntoseye is attached to; made by :func:`attach`."""

    backend = "ntoseye"
    capabilities = frozenset({"registers", "msr", "run"})

    def __init__(self, path: str, block: Any) -> None:
        super().__init__()
        self.path, self.pointer_size, self.architecture = path, 8, "x64"
        self._block = block
        self._debugger = block.__enter__()
        self._breakpoints: dict[int, tuple[int, Callback]] = {}
        self._planted: dict[int, Any] = {}
        self._next = 1
        self._interrupted = False
        self._closed = False
        self.build = Absent("not-recorded", "ntoseye does not tell the build")

    def _ask(self, function: Any, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever the engine raises
            return Absent("not-found", f"ntoseye: {error}")

    @property
    def _cpu(self) -> Any:
        cpus = self._debugger.cpus
        current = getattr(self._debugger, "current_cpu", 0)
        return cpus[current if isinstance(current, int) else 0]

    def read(self, address: int, size: int) -> bytes | Absent:
        data = self._ask(self._debugger.memory.read, address, size)
        if isinstance(data, Absent) or len(data) != size:
            return Absent("not-mapped", f"{size} bytes at {address:#x} cannot be read")
        return bytes(data)

    def modules(self) -> Sequence[Module]:
        found = []
        none = Absent("not-recorded", "ntoseye does not tell it")
        for place, entry in enumerate(self._debugger.modules):
            name = str(entry.name)
            base, size = int(entry.base), int(getattr(entry, "size", 0))
            found.append(
                Module(
                    name=name if "." in name else f"{name}.sys", base=base, end=base + size,
                    size=size, role=None, stack=None, loaded=True, time_date_stamp=none,
                    checksum=none, image_key=none, original=None, original_match=None,
                    load_order=place,
                    origin=Origin(self.path, "module list of ntoseye", "certain", None, base),
                )
            )  # fmt: skip
        return found

    def processors(self) -> int | Absent:
        count = self._ask(len, self._debugger.cpus)
        return count if isinstance(count, int) else super().processors()

    def current_processor(self) -> int | Absent:
        current = getattr(self._debugger, "current_cpu", None)
        return current if isinstance(current, int) else super().current_processor()

    def register(self, name: str) -> int | Absent:
        value = self._ask(getattr, self._cpu.registers, name)
        return value if isinstance(value, Absent) else int(value)

    def msr(self, number: int) -> int | Absent:
        text = self._ask(self._debugger.command, f"rdmsr {number:x}")
        words = str(text).replace("`", "").replace("=", " ").split()
        for word in reversed(words):
            try:
                return int(word, 16)
            except ValueError:
                continue
        return Absent("not-found", f"the model-specific register {number:#x} cannot be read")

    def add_breakpoint(self, address: int, callback: Callback, hardware: bool = False) -> int:
        if address not in self._planted:
            made = self._ask(self._debugger.breakpoints.add, address)
            if isinstance(made, Absent):
                raise SessionError(f"no breakpoint at {address:#x}: {made}")
            self._planted[address] = made
        handle, self._next = self._next, self._next + 1
        self._breakpoints[handle] = (address, callback)
        return handle

    def remove_breakpoint(self, handle: int) -> None:
        entry = self._breakpoints.pop(handle, None)
        if entry is None or any(place == entry[0] for place, _ in self._breakpoints.values()):
            return
        made = self._planted.pop(entry[0], None)
        remove = getattr(made, "remove", None)
        if remove is not None:
            self._ask(remove)
        elif made is not None:
            self._ask(self._debugger.breakpoints.remove, made)

    def resume(self, timeout: float) -> Stop:
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            stopped = None if left <= 0 else self._debugger.run(timeout=left)
            if stopped is None:
                self._ask(self._debugger.interrupt)
                return Stop("timeout", self.named("ip"), self.current_processor())
            place, processor = self.named("ip"), self.current_processor()
            if self._interrupted:
                self._interrupted = False
                return Stop("interrupt", place, processor)
            stop = Stop("breakpoint", place, processor)
            hits = [entry for entry in list(self._breakpoints.values()) if entry[0] == place]
            if not hits:
                return Stop("exception", place, processor)
            if True in [self.guarded(callback, stop) for _, callback in hits]:
                return stop

    def interrupt(self) -> None:
        self._interrupted = True
        self._ask(self._debugger.interrupt)

    def close(self, leave_running: bool = True) -> None:
        if self._closed:
            return
        self._closed = True
        for handle in list(self._breakpoints):
            self.remove_breakpoint(handle)
        self._ask(self._block.__exit__, None, None, None)


def attach(address: str) -> NtoseyeSession:
    """A target by the address of its debug port: the path of a VM's serial socket."""
    try:
        import ntoseye
    except ImportError:
        raise SessionError(
            "ntoseye is not installed here ('pip install dumpstart[ntoseye]')."
        ) from None
    try:
        block = ntoseye.attach(backend="kd", connect=address, memory_source="kd")
        return NtoseyeSession(address, block)
    except Exception as error:
        raise SessionError(f"ntoseye cannot attach: {error}") from error
