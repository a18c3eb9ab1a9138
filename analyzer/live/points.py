"""The breakpoints of one capture: where one may be set, which are set, how many there is room for.

Invariant: one is set only inside a loaded module, at a function's entry or behind a call, and
nowhere that a breakpoint of somebody else lies already: any other place may be data, or may never
be executed as code again. Standard library only.
"""

from __future__ import annotations

from functools import partial
from typing import Callable

from ..absence import Absent
from ..dumpstack.residue import follows_call
from ..errors import SessionError
from ..sources.capture_format import Fact
from ..target import module_at
from .callstack import CallStack
from .session import CONTINUE, Session, Stop

#: what a breakpoint is for
ENTRY, RETURN, BETWEEN = "entry", "return", "between"
#: what a debugger writes over an instruction: int3; brk #0xf000 (KD on ARM64)
INSTRUCTIONS = {"x64": b"\xcc", "x86": b"\xcc", "arm64": b"\x00\x00\x3e\xd4"}


class Points:
    """Sets and removes breakpoints; what a callback raises becomes a fact."""

    def __init__(self, session: Session, sink: Callable[[Fact], None]) -> None:
        self.session, self._sink = session, sink
        self.is_over = False  #: True: whatever is hit goes on
        self.planted: dict[int, bytes] = {}  #: address -> what lay there
        self.on_planted: Callable[[], None] = lambda: None
        self.stack = CallStack(session)
        self._places: dict[int, int] = {}  #: handle -> address

    def __len__(self) -> int:
        return len(self._places)

    @property
    def is_full(self) -> bool:
        """True when the engine holds no more."""
        return len(self) >= self.session.most_breakpoints

    def set(self, address: int, callback: Callable[[Stop], bool], kind: str = ENTRY) -> int:
        """A breakpoint's handle; raises SessionError where none may be set."""
        if self.is_full:
            raise SessionError(f"a kernel debugger holds {self.session.most_breakpoints}")
        if module_at(self.stack.modules(), address) is None:
            raise SessionError(f"{address:#x} lies in no loaded module")
        begins = self.stack.begins(address) if kind == ENTRY else None
        if begins not in (None, address):
            raise SessionError(f"{address:#x} lies inside a function that begins at {begins:#x}")
        if kind == RETURN and follows_call(self.session, address) is not True:
            raise SessionError(f"no call instruction lies before {address:#x}")
        code = self._code(address)
        handle = self.session.add_breakpoint(address, partial(self._guarded, callback))
        self._places[handle] = address
        if isinstance(code, bytes):
            self.planted.setdefault(address, code)
            self.on_planted()
        return handle

    def _code(self, address: int) -> bytes | Absent:
        trap = INSTRUCTIONS.get(self.session.convention, b"\xcc")
        code = self.session.read(address, len(trap))
        if isinstance(code, Absent):
            raise SessionError(f"the code at {address:#x} cannot be read")
        if code == trap and address not in self.planted:
            raise SessionError(f"another debugger's breakpoint lies at {address:#x} already")
        return code

    def _guarded(self, callback: Callable[[Stop], bool], stop: Stop) -> bool:
        try:
            return CONTINUE if self.is_over else callback(stop)
        except Exception as error:  # noqa: BLE001 - a raise would leave the machine standing
            self._sink({"fact": "error", "text": f"{type(error).__name__}: {error}"})
            return CONTINUE

    def remove(self, handle: int | None) -> None:
        """Removes one; None and one that is gone are no error."""
        address = self._places.pop(handle, None) if handle is not None else None
        if address is None or handle is None:
            return
        try:
            self.session.remove_breakpoint(handle)
            if address not in self._places.values():
                self.planted.pop(address, None)
        except Exception as error:  # noqa: BLE001 - the other breakpoints must still be removed
            text = f"the breakpoint at {address:#x} could not be removed: {error}"
            self._sink({"fact": "error", "text": text})

    def remove_all(self) -> None:
        """The end of the capture."""
        self.is_over = True
        for handle in list(self._places):
            self.remove(handle)

    def forget(self) -> None:
        """The target that held them is gone."""
        self.is_over = True
        self._places.clear()
        self.planted.clear()

    def at(self, address: int) -> bool:
        """Whether one is set at an address."""
        return address in self._places.values()
