"""A capture played again: the stops it recorded, for whoever sets breakpoints on them.

Invariant: a replay says nothing that the capture did not record: memory is the nodes and
extensions, registers are those at entries and returns; all code is one call. Standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analyzer.absence import Absent
from analyzer.dumpstack.walk import Ring
from analyzer.errors import InputError, SessionError
from analyzer.live.session import REGISTERS, TSC, Callback, Clock, Session, Stop
from analyzer.records import Module
from analyzer.sources.capture_file import load
from analyzer.sources.capture_format import Fact, number, raw, read, text

_NONE = Absent("not-recorded", "the capture does not hold it")


class ReplaySession(Session):
    """Stops at each entry and return of the capture that has a breakpoint."""

    backend = "replay"
    most_breakpoints = 1 << 30
    capabilities = frozenset({"registers", "msr", "run"})

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        story, _ = load(path)
        if not story.header:
            raise InputError(path, "this is no capture")
        self.pointer_size = story.target.pointer_size
        self.architecture = story.target.architecture
        self.build = story.target.build
        self._modules = story.modules
        self._rings = story.rings()
        self._frequency = story.frequency
        self._processors = number(story.machine, "processors")
        self._memory: dict[int, bytes] = {}
        self._breakpoints: dict[int, tuple[int, Callback]] = {}
        self._next = 1
        self._registers: dict[str, int] = {}
        self._processor: int | None = None
        self._tsc: int | None = None
        self._host = number(story.header, "started") or 0
        self._routines: dict[int, int] = {}
        self._calls: dict[int, Fact] = {}
        self._wants_stop = False
        self._interrupted = False
        self._facts = (line.fact for line in read(path) if line.fact is not None)
        for node in story.extensions.nodes.values():
            if isinstance(node.address, int):
                self._write(node.address, node.data)

    def _write(self, address: int, data: bytes) -> None:
        self._memory.update(zip(range(address, address + len(data)), (bytes([b]) for b in data)))

    def read(self, address: int, size: int) -> bytes | Absent:
        pieces = [self._memory.get(place) for place in range(address, address + min(size, 1 << 16))]
        if size > 1 << 16 or any(piece is None for piece in pieces):
            # Breakpoints are set in code alone, at a return only behind a call.
            is_code = any(m.base <= address < m.end for m in self.modules())  # type: ignore[operator]
            return (b"\x90\x90\xe8\0\0\0\0" + bytes(30))[:size] if is_code else _NONE
        return b"".join(piece for piece in pieces if piece is not None)

    def modules(self) -> Sequence[Module]:
        return [module for module in self._modules if module.loaded]

    def recorded_rings(self) -> list[Ring] | None:
        return self._rings

    def processors(self) -> int | Absent:
        return _NONE if self._processors is None else self._processors

    def current_processor(self) -> int | Absent:
        return _NONE if self._processor is None else self._processor

    def register(self, name: str) -> int | Absent:
        return self._registers.get(name, _NONE)

    def msr(self, number: int) -> int | Absent:
        return self._tsc if number == TSC and self._tsc is not None else _NONE

    def clock(self) -> Clock:
        return Clock(_NONE if self._tsc is None else self._tsc, self._host)

    def add_breakpoint(self, address: int, callback: Callback, hardware: bool = False) -> int:
        handle, self._next = self._next, self._next + 1
        self._breakpoints[handle] = (address, callback)
        return handle

    def remove_breakpoint(self, handle: int) -> None:
        self._breakpoints.pop(handle, None)

    def interrupt(self) -> None:
        self._interrupted = True

    def close(self, leave_running: bool = True) -> None:
        self._breakpoints.clear()

    def resume(self, timeout: float) -> Stop:
        if self._facts is None:
            raise SessionError("the replay is closed.")
        for fact in self._facts:
            address = self._apply(fact)
            if address is not None and self._stops(address):
                return Stop("breakpoint", address, self.current_processor())
            if self._interrupted:
                self._interrupted = False
                return Stop("interrupt", address or _NONE, self.current_processor())
            if fact.get("fact") == "stop" and fact.get("kind") == "exception":
                return Stop(
                    "exception", _NONE, self.current_processor(), text(fact, "detail") or ""
                )
        return Stop("ended", _NONE, _NONE)

    def _stops(self, address: int) -> bool:
        stop = Stop("breakpoint", address, self.current_processor())
        hits = [entry for entry in self._breakpoints.values() if entry[0] == address]
        return True in [self.guarded(callback, stop) for _, callback in hits]

    def _apply(self, fact: Fact) -> int | None:
        """Brings the machine to the state of a fact; the address that is executed there."""
        kind = fact.get("fact")
        if kind == "armed":
            key, routine = number(fact, "id"), number(fact, "routine")
            if key is not None and routine is not None:
                self._routines[key] = routine
            return None
        if kind not in ("call", "return"):
            return None
        self._processor = number(fact, "cpu")
        self._tsc, self._host = number(fact, "tsc"), number(fact, "host") or self._host
        place = number(fact, "n")
        call = (
            fact if kind == "call" else self._calls.pop(place, None) if place is not None else None
        )
        if call is None or place is None:
            return None
        extension, data = number(call, "extension"), raw(fact, "ext")
        if extension is not None and data is not None:
            self._write(extension, data)
        if kind == "call":
            self._calls[place] = fact
            address = self._routines.get(number(fact, "id") or -1)
        else:
            address = number(call, "back")
        self._set(kind, fact, call, address)
        return address

    def _set(self, kind: Any, fact: Fact, call: Fact, address: int | None) -> None:
        names, width = REGISTERS.get(self.convention, {}), self.pointer_size
        sp, back = number(call, "sp"), number(call, "back")
        values = {"ip": address, "sp": sp, "return": back, "arg0": number(call, "extension")}
        if kind == "return":
            popped = 0 if self.convention == "arm64" else width
            values["sp"] = None if sp is None else sp + popped
            values["result"] = number(fact, "status")
        self._registers = {
            names[role]: value
            for role, value in values.items()
            if role in names and value is not None
        }
        if kind == "call" and sp is not None and back is not None and self.convention != "arm64":
            self._write(sp, back.to_bytes(width, "little"))
            if self.convention == "x86":
                self._write(sp + 4, (number(call, "extension") or 0).to_bytes(4, "little"))
