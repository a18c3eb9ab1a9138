"""ntoseye: a native debugger for Windows machines in a VM, from Linux or macOS (extra ``ntoseye``).

Invariant: as for every session (session.py); ntoseye's own ``close`` removes its breakpoints and
lets the target run. What is proven: docs/live.md.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Callable, Literal, TypeVar

from ..absence import Absent
from ..errors import SessionError
from ..extras import install
from ..records import Module, Origin
from .connection import secretless
from .modules import record
from .session import Callback, Session, Stop

if TYPE_CHECKING:
    import ntoseye

_T = TypeVar("_T")
#: seconds for which a list of modules is good where ntoseye tells no load of one
_FRESH = 10.0
#: what ntoseye prints when the target has answered, and stands, while it still attaches
ANSWERED = b"kd: memory source"
#: seconds that one wait for the target takes at most
_SLICE = 0.5


class NtoseyeSession(Session):
    """A kernel that ntoseye is attached to; made by :func:`attach`."""

    backend = "ntoseye"
    capabilities = frozenset({"registers", "msr", "run"})

    def __init__(self, path: str, debugger: ntoseye.Debugger) -> None:
        super().__init__()
        self.path, self.pointer_size, self.architecture = path, 8, "x64"
        self._debugger = debugger
        self._breakpoints: dict[int, tuple[int, Callback]] = {}
        self._planted: dict[int, ntoseye.Breakpoint] = {}
        self._next = 1
        self._interrupted = False
        self._closed = False
        self._listed: list[Module] | None = None
        self._listed_at = 0.0
        version = self._ask(debugger.inspect.version)
        if self._tells("ld") and self._tells("ud"):
            self.capabilities |= {"module-events"}
        build = getattr(version, "build_number", None)
        none = Absent("not-recorded", "ntoseye does not tell it")
        self.build = build if isinstance(build, int) else none

    def _ask(self, function: Callable[..., _T], *arguments: object) -> _T | Absent:
        try:
            return function(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever the engine raises
            return Absent("not-found", f"ntoseye: {error}")

    def _tells(self, event: Literal["ld", "ud"]) -> bool:
        """Has ntoseye stop at each load (ld) or unload (ud) of a driver."""
        done = self._ask(lambda: self._debugger.exceptions.set_module_event(event))
        return not isinstance(done, Absent)

    @property
    def _stopped_on(self) -> int:
        number = getattr(self._debugger.stop, "cpu", None)
        return number if isinstance(number, int) else 0

    def read(self, address: int, size: int) -> bytes | Absent:
        data = self._ask(self._debugger.memory.read, address, size)
        if isinstance(data, Absent) or len(data) != size:
            return Absent("not-mapped", f"{size} bytes at {address:#x} cannot be read")
        return bytes(data)

    def modules(self) -> Sequence[Module]:
        now = time.monotonic()
        if self._listed is None or now - self._listed_at > _FRESH:
            found = self._ask(lambda: list(self._debugger.modules))
            entries = [] if isinstance(found, Absent) else found
            self._listed = [self._module(place, entry) for place, entry in enumerate(entries)]
            self._listed_at = now
        return self._listed

    def _module(self, place: int, entry: ntoseye.Module) -> Module:
        base, size = _whole(entry.base), _whole(entry.size)
        origin = Origin(self.path, "module list of ntoseye", "certain", None, base)
        name = str(entry.name)
        return record(name, base, size, entry.timestamp, entry.checksum, place, origin)

    def write(self, address: int, data: bytes) -> bool:
        done = self._ask(self._debugger.memory.write, address, data)
        return not isinstance(done, Absent)

    def processors(self) -> int | Absent:
        count = self._ask(len, self._debugger.cpus)
        return count if isinstance(count, int) else super().processors()

    def current_processor(self) -> int | Absent:
        return self._stopped_on

    def register(self, name: str) -> int | Absent:
        value = self._ask(lambda: getattr(self._debugger.cpus[self._stopped_on].registers, name))
        return value if isinstance(value, Absent) else _whole(value)

    def msr(self, number: int) -> int | Absent:
        value = self._ask(lambda: self._debugger.cpus[self._stopped_on].msr[number])
        if isinstance(value, int):
            return value & 0xFFFF_FFFF_FFFF_FFFF
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
        if made is not None:
            self._ask(made.delete)

    def resume(self, timeout: float) -> Stop:
        deadline = time.monotonic() + timeout
        go_on: Callable[..., ntoseye.Stop | None] = self._debugger.run
        while True:
            # One call cannot be interrupted from another thread, so each waits a short time only.
            left = deadline - time.monotonic()
            stopped = go_on(timeout=max(0.01, min(left, _SLICE)))
            if stopped is None:
                go_on = self._debugger.wait
                if left > _SLICE and not self._interrupted:
                    continue
                self._ask(self._debugger.interrupt)
                kind, self._interrupted = "interrupt" if self._interrupted else "timeout", False
                return Stop(kind, self.named("ip"), self.current_processor())
            go_on = self._debugger.run
            kind = str(getattr(stopped, "kind", ""))
            if kind in ("module_load", "module_unload"):
                self._told(kind, getattr(stopped, "module"))  # noqa: B009 - of two kinds of Stop
                continue
            place, processor = self.named("ip"), self.current_processor()
            if kind == "reload":
                self._rebooted()
                return Stop("exception", place, processor, kind)
            hits = [entry for entry in list(self._breakpoints.values()) if entry[0] == place]
            stop = Stop("breakpoint", place, processor)
            if not hits:
                return Stop("exception", place, processor, kind)
            if True in [self.guarded(callback, stop) for _, callback in hits]:
                return stop
            if self._interrupted:
                self._interrupted = False
                return Stop("interrupt", place, processor)

    def _told(self, kind: str, entry: ntoseye.Module) -> None:
        """A driver is loaded, or is about to go: it is listed still."""
        self._listed = None
        if kind == "module_load":
            self.tell("load", str(entry.name), _whole(entry.base))
        else:
            self.tell("unload", _whole(entry.base))

    def _rebooted(self) -> None:
        """What was set in the boot that is over is gone, as is its list of modules."""
        self._breakpoints.clear()
        self._planted.clear()
        self._listed = None
        self.tell("reboot")

    def interrupt(self) -> None:
        self._interrupted = True

    def close(self, leave_running: bool = True) -> None:
        if self._closed:
            return
        self._closed = True
        for handle in list(self._breakpoints):
            self.remove_breakpoint(handle)
        self._ask(self._debugger.close)  # lets the target run


def _whole(value: object) -> int:
    """A number of ntoseye's; anything else is a version that cannot be worked with."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise SessionError(f"ntoseye gives {type(value).__name__} for a number.")
    return value


def attach(
    address: str, timeout: float = 30.0, heard: Callable[[], None] | None = None
) -> NtoseyeSession:
    """A target by the address of its debug port: a VM's serial socket, or KDNET's connection.

    ``net:port=50000,key=1.2.3.4`` is KDNET, as WinDbg spells it; anything else a serial line.
    """
    try:
        import ntoseye
    except ImportError:
        raise SessionError(f"ntoseye is not installed here ('{install('ntoseye')}').") from None
    options: dict[str, Any] = {"backend": "kd", "connect": address}
    if address.lower().startswith("net:"):
        told = dict(word.partition("=")[::2] for word in address[4:].split(","))
        if not (told.get("port", "").isdecimal() and told.get("key")):
            raise SessionError("KDNET needs port and key: net:port=50000,key=1.2.3.4.")
        options = {
            "backend": "kdnet", "connect": f"0.0.0.0:{told['port']}", "key": told["key"],
        }  # fmt: skip
    limit = max(1, min(math.ceil(timeout), 1 << 30))
    try:
        debugger = ntoseye.attach(**options, memory_source="kd", kd_handshake_timeout=limit)
    except Exception as error:
        why = " ".join(str(error).split())
        raise SessionError(f"ntoseye cannot attach to '{secretless(address)}': {why}") from error
    if heard is not None:
        heard()
    try:
        return NtoseyeSession(secretless(address), debugger)
    except Exception as error:
        debugger.close()  # the target stands since it answered
        raise SessionError(f"ntoseye attached, but cannot be used: {error}") from error
