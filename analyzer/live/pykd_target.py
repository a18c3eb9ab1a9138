"""pykd: DbgEng from Python, inside WinDbg as an extension or on its own.

Invariant: the traps of pykd stay in this module. Its breakpoint objects own their breakpoints, so
each is kept until it is removed; its callbacks get no argument, and one that raises or returns
something true would stop the machine; its memory reads are lists or exceptions; ``go`` has no time
limit, so a thread breaks in. Only the standard library and pykd are used.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Callable

from ..absence import Absent
from ..errors import SessionError
from ..records import Module, Origin
from ..sources import windbg_text
from .com import words
from .connection import secretless
from .modules import named, record
from .session import CONTINUE, Callback, Session, Stop

_CPUS = {"AMD64": "x64", "I386": "x86", "X86": "x86", "X64": "x64", "ARM64": "arm64"}
#: a block of data in the engine's account of a minidump
_BLOCK = re.compile(r"^ +([0-9a-f]{8}`?[0-9a-f]{8}) - ([0-9a-f]{8}`?[0-9a-f]{8}) at offset ", re.M)
#: the dump in the list of what the debugger has open; the current one has a dot
_OPEN = re.compile(r"^\.\s*\d+\s([^:\n]*): ?(.+)$", re.M)
_RESULT = re.compile(r"HRESULT (0x[0-9a-fA-F]{8})")
_ATTRIBUTES = re.compile(r"^Attributes +([0-9a-f]{1,8})\s*$", re.M)
_GRACE, _TICK = 5.0, 0.1  #: seconds until a break-in is asked for again; between two looks


def _pykd() -> Any:
    try:
        import pykd
    except ImportError:
        raise SessionError(
            "pykd is not installed here; it needs Windows and Python 3.9 ('pip install pykd')."
        ) from None
    lacks = sorted(name for name in _NEEDED if not hasattr(pykd, name))
    if lacks:
        version = getattr(pykd, "__version__", "of unknown version")
        raise SessionError(
            f"this pykd ({version}) cannot {', '.join(lacks)}; get pykd 0.3.4.15 "
            "('pip install pykd==0.3.4.15') or a build of the fork ivellioscolin/pykd."
        )
    return pykd


#: what the package asks of pykd
_NEEDED = (
    *("initialize attachKernel remoteConnect loadDump setSymbolPath dbgCommand go breakin".split()),
    *("setBp eventHandler eventResult executionStatus loadBytes reg rdmsr".split()),
    *("getModulesList getOffset bugCheckData isDumpAnalyzing isKernelDebugging".split()),
)


class PykdSession(Session):
    """What DbgEng is attached to; made by ``attach``, ``remote``, ``dump`` and ``inside``."""

    backend = "pykd"

    def __init__(self, path: str, is_owner: bool, can_run: bool = True) -> None:
        super().__init__()
        self._pykd = _pykd()
        self.path = path
        self._is_owner = is_owner  #: True: this program opened the session and must leave it
        self.is_dump = bool(not can_run or self._ask(self._pykd.isDumpAnalyzing, False))
        self._can_run = not self.is_dump
        self._breakpoints: dict[int, Any] = {}
        self._next = 1
        self._handler: object = None
        self._wants_stop: Stop | None = None
        self._cause = ""
        self._hitting = False
        self._closed = False
        self._modules: list[Module] | None = None
        self.capabilities = frozenset({"registers", "msr", "symbols"})
        if self._can_run:
            self.capabilities |= {"run", "module-events"}
        self.pointer_size = 4 if self._ask(self._pykd.ptrSize, 8) == 4 else 8
        mode = str(self._ask(self._pykd.getCPUMode, "")).rsplit(".", 1)[-1].upper()
        self.architecture = _CPUS.get(mode, "x64" if self.pointer_size == 8 else "x86")
        version = self._ask(self._pykd.getSystemVersion, None)
        build = getattr(version, "buildNumber", None)
        unknown = Absent("not-recorded", "DbgEng does not tell the build")
        self.build = build if isinstance(build, int) and build else unknown

    def _ask(self, function: Callable[..., Any], otherwise: object, *arguments: object) -> Any:
        """What pykd answers; every error of the engine is a plain Exception."""
        try:
            return function(*arguments)
        except Exception:  # noqa: BLE001 - DbgException and whatever else the engine raises
            return otherwise

    # -- reading -------------------------------------------------------------------------------

    def read(self, address: int, size: int) -> bytes | Absent:
        if size <= 0:
            return b""
        values = self._ask(self._pykd.loadBytes, None, address, size)
        try:
            data = bytes(values or ())
        except (TypeError, ValueError):
            data = b""
        if len(data) != size:
            reason = "not-mapped" if self._can_run else "not-in-dump"
            return Absent(reason, f"{size} bytes at {address:#x} cannot be read")
        return data

    def modules(self) -> Sequence[Module]:
        if self._modules is None:
            found = self._ask(self._pykd.getModulesList, [])
            self._modules = [self._module(place, module) for place, module in enumerate(found)]
        return self._modules

    def unloaded(self) -> Sequence[Module]:
        lines = iter(self._command("lm").splitlines())
        for line in lines:
            if line.startswith("Unloaded modules"):
                break
        told = [entry for entry in map(windbg_text.module, lines) if entry is not None]
        none = Absent("not-recorded", "the engine does not tell it")
        return [
            Module(
                name=entry.name, base=entry.base, end=entry.end, size=entry.end - entry.base,
                role=None, stack=None, loaded=False, time_date_stamp=none, checksum=none,
                image_key=none, original=None, original_match=None, load_order=place,
                origin=Origin(self.path, "unloaded modules", "certain", None, entry.base),
            )
            for place, entry in enumerate(told)
        ]  # fmt: skip

    def _module(self, place: int, module: Any) -> Module:
        texts = [str(self._ask(ask, "")) for ask in (module.name, module.image)]
        base, size = _whole(module.begin()), _whole(self._ask(module.size, 0))
        stamp, checksum = self._ask(module.timestamp, None), self._ask(module.checksum, None)
        origin = Origin(self.path, "module list of the engine", "certain", None, base)
        return record(
            named(texts[0] or "unknown", texts[1]), base, size, stamp, checksum, place, origin
        )

    def processors(self) -> int | Absent:
        count = self._ask(self._pykd.getNumberThreads, 0)  # in a kernel session: processors
        return _whole(count) if count else super().processors()

    def current_processor(self) -> int | Absent:
        number = self._ask(self._pykd.getCurrentThreadId, None)
        return super().current_processor() if number is None else _whole(number)

    def register(self, name: str) -> int | Absent:
        value = self._ask(self._pykd.reg, None, name)
        if value is None:
            return Absent("not-found", f"the register {name} cannot be read")
        return _whole(value) & ((1 << 8 * self.pointer_size) - 1)

    def msr(self, number: int) -> int | Absent:
        value = self._ask(self._pykd.rdmsr, None, number)
        if value is None:
            return Absent("not-found", f"the model-specific register {number:#x} cannot be read")
        return _whole(value)

    def bugcheck(self) -> tuple[int, ...] | Absent:
        values = self._ask(self._pykd.bugCheckData, None)
        if not values:
            return Absent("not-recorded", "the engine knows no bugcheck")
        return tuple(_whole(value) for value in values)

    def attributes(self) -> int | Absent:
        found = _ATTRIBUTES.search(self._command(".dumpdebug")) if self.is_dump else None
        return int(found.group(1), 16) if found else super().attributes()

    def _command(self, text: str) -> str:
        """What a command of the debugger prints."""
        return str(self._ask(self._pykd.dbgCommand, None, text) or "")

    def resolve(self, expression: str) -> int | Absent:
        found = self._plain(expression)
        if isinstance(found, int):
            return found
        value = self._ask(self._pykd.getOffset, None, expression)
        if value is None:
            return Absent("not-found", f"no module or symbol '{expression}'")
        return _whole(value)

    def nearest(self, address: int) -> str:
        text = self._ask(self._pykd.findSymbol, "", address)
        return str(text) if text and "!" in str(text) else super().nearest(address)

    def regions(self) -> Iterator[tuple[int, int]]:
        """What a minidump in the engine holds, from ``.dumpdebug``; at most 64 MB.

        Not from findMemoryRegion, which refuses kernel targets.
        """
        left = 1 << 26
        for first, last in _BLOCK.findall(self._command(".dumpdebug") if self.is_dump else ""):
            start, end = (int(word.replace("`", ""), 16) for word in (first, last))
            size = end + 1 - start
            if 0 < size <= left:
                yield start, size
                left -= size

    # -- running -------------------------------------------------------------------------------

    def add_breakpoint(self, address: int, callback: Callback, hardware: bool = False) -> int:
        pykd = self._pykd

        def hit() -> object:
            self._wants_stop = None
            self._hitting = True
            try:
                stop = Stop("breakpoint", address, self.current_processor())
                if self.guarded(callback, stop) is CONTINUE:
                    # A break-in that was asked for while the engine handled an event is lost.
                    return pykd.eventResult.Break if self._cause else pykd.eventResult.Proceed
            finally:
                self._hitting = False
            self._wants_stop = stop
            return pykd.eventResult.Break

        try:
            if hardware:
                made = pykd.setBp(address, 1, pykd.breakpointAccess.Execute, hit)
            else:
                made = pykd.setBp(address, hit)
        except Exception as error:
            raise SessionError(f"no breakpoint at {address:#x}: {error}") from error
        handle, self._next = self._next, self._next + 1
        self._breakpoints[handle] = made
        return handle

    def remove_breakpoint(self, handle: int) -> None:
        made = self._breakpoints.pop(handle, None)
        if made is not None:
            self._ask(made.remove, None)

    def on(self, event: str, callback: Callable[..., None]) -> None:
        super().on(event, callback)
        if not self._can_run or self._handler is not None:
            return
        pykd, session = self._pykd, self

        base: Any = pykd.eventHandler

        class Events(base):  # type: ignore[misc]
            # pykd's names; nothing here raises, which would stop the machine
            def onLoadModule(self, start: int, name: str) -> object:  # noqa: N802
                session._modules = None
                text = str(name).replace("/", "\\").rsplit("\\", 1)[-1]
                session.tell("load", text if "." in text else f"{text}.sys", start)
                return pykd.eventResult.NoChange

            def onUnloadModule(self, start: int, _name: str) -> object:  # noqa: N802
                session._modules = None
                session.tell("unload", start)
                return pykd.eventResult.NoChange

            def onExecutionStatusChange(self, status: object) -> None:  # noqa: N802
                is_ours = session._hitting or session._is_owner or session._wants_stop
                if status == pykd.executionStatus.Break and not is_ours:
                    session.tell("stand", "stop")

        self._handler = Events()

    def resume(self, timeout: float) -> Stop:
        if not self._can_run:
            raise SessionError("this is a dump: it does not run.")
        pykd = self._pykd
        self._wants_stop = None
        ended = threading.Event()
        threading.Thread(target=self._watch, args=(timeout, ended), daemon=True).start()
        try:
            status = pykd.go()
        except Exception as error:
            raise SessionError(f"the target cannot be resumed: {error}") from error
        finally:
            ended.set()
        cause, self._cause = self._cause, ""
        wanted: Stop | None = self._wants_stop
        if status == pykd.executionStatus.NoDebuggee:
            none = Absent("not-found", "the target is gone")
            return Stop("ended", none, none)
        if wanted is not None:
            return wanted
        place, processor = self.named("ip"), self.current_processor()
        if cause:
            return Stop(cause, place, processor)
        return Stop("exception", place, processor, self._event())

    def _watch(self, timeout: float, ended: threading.Event) -> None:
        """Breaks in when the time is up or that was asked for, again and again: it may be lost."""
        deadline, again = time.monotonic() + timeout, 0.0
        while not ended.wait(_TICK):
            now = time.monotonic()
            if now >= deadline:
                self._cause = self._cause or "timeout"
            if self._cause and now >= again:
                self._ask(self._pykd.breakin, None)
                again = now + _GRACE

    def interrupt(self) -> None:
        self._cause = "interrupt"
        self._ask(self._pykd.breakin, None)

    def _event(self) -> str:
        event = self._ask(self._pykd.getLastEvent, None)
        exception = self._ask(self._pykd.getLastException, None)
        code = getattr(exception, "exceptionCode", None)
        if isinstance(code, int):
            return f"exception {code & 0xFFFFFFFF:#010x}"
        return str(getattr(event, "type", event) or "unknown event")

    def close(self, leave_running: bool = True) -> None:
        if self._closed:
            return
        self._closed = True
        for handle in list(self._breakpoints):
            self.remove_breakpoint(handle)
        self._handler = None  # pykd unregisters it when the object dies
        if self._is_owner and self._can_run and leave_running:
            # Ending Python without this leaves the machine standing at its last stop.
            self._ask(self._pykd.dbgCommand, None, "qd")


def attach(
    connect: str, symbols: str | None = None, heard: Callable[[], None] | None = None
) -> PykdSession:
    """A live kernel; ``connect`` is DbgEng's, such as ``net:port=50000,key=1.2.3.4``."""
    pykd = _pykd()
    _do(pykd.initialize)
    _do(pykd.setSymbolPath, symbols or "")
    try:
        pykd.attachKernel(connect)
    except Exception as error:
        raise SessionError(
            f"the debugger cannot attach to '{secretless(connect)}': {_reason(error)}."
        ) from error
    if heard is not None:
        heard()
    try:
        _do(pykd.dbgCommand, ".reload")  # until then the engine lists nt alone
        return PykdSession(secretless(connect), is_owner=True)
    except BaseException:
        pykd.dbgCommand("qd")  # the target stands since it answered
        raise


def remote(connect: str, symbols: str | None = None) -> PykdSession:
    """A debugger that ran ``.server``. Running the target through it is not proven to work."""
    pykd = _pykd()
    _do(pykd.remoteConnect, connect)
    _do(pykd.setSymbolPath, symbols or "")
    return PykdSession(secretless(connect), is_owner=False)


def dump(path: str, symbols: str | None = None) -> PykdSession:
    """A dump in the engine; without symbols it would ask servers for them, for minutes."""
    pykd = _pykd()
    _do(pykd.initialize)
    _do(pykd.setSymbolPath, symbols or "")
    _do(pykd.loadDump, path)
    return PykdSession(path, is_owner=True, can_run=False)


def inside() -> PykdSession:
    """What the debugger that runs this code is attached to."""
    session = PykdSession("the debugger's target", is_owner=False)
    found = _OPEN.search(session._command("||")) if session.is_dump else None
    is_user = found is not None and "user" in found.group(1).lower().split()
    is_kernel = session.is_dump or session._ask(session._pykd.isKernelDebugging, True)
    if is_user or not is_kernel:
        raise SessionError("the debugger has no kernel and no kernel dump open.")
    if found:
        session.path = found.group(2).strip()
    return session


def _do(function: Callable[..., object], *arguments: object) -> None:
    try:
        function(*arguments)
    except Exception as error:
        raise SessionError(f"the debugger's engine refuses: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    """The engine's HRESULT in words where pykd prints one; one line in any case."""
    found = _RESULT.search(str(error))
    if found:
        return words(int(found.group(1), 16))
    return " ".join(str(error).replace("\\n", " ").split()).rstrip(".")


def _whole(value: object) -> int:
    """A number of the engine; anything else is an engine that cannot be worked with."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise SessionError(f"the debugger's engine gives {type(value).__name__} for a number.")
    return value & 0xFFFF_FFFF_FFFF_FFFF
