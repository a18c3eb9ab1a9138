"""The call stack where the target stands, by unwind data: without symbols, without the engine.

Invariant: a frame is what :mod:`analyzer.stacks` proves; registers that the engine does not give
are left out, never guessed. Pages of images are read once a boot. Standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, NamedTuple

from ..absence import Absent
from ..records import Module
from ..stacks import unwind
from ..symbols.images import Images
from ..symbols.names import Names
from .session import Session

#: frames that are told: from a callback through crashdmp to the routine that crashed
MOST = 16
_REGISTERS = {
    "x64": "rip rsp rbp rbx rsi rdi r12 r13 r14 r15".split(),
    "x86": "eip esp ebp ebx esi edi".split(),
    "arm64": ["pc", "sp", "lr", "fp", *(f"x{n}" for n in range(19, 29))],
}


class Frame(NamedTuple):
    """One routine under way."""

    address: int
    name: str


class CallStack:
    """Unwinds a session's stack; the images are looked up anew when modules come or go."""

    def __init__(self, session: Session) -> None:
        self._session = session
        #: loaded modules; a capture knows those of load events before the engine lists them
        self.modules: Callable[[], Sequence[Module]] = session.modules
        self._key: tuple[object, ...] = ()
        self._images = Images(session, ())

    @property
    def images(self) -> Images:
        """The images of the modules that are loaded now."""
        found = self.modules()
        key = tuple((m.name, m.base) for m in found)
        if key != self._key:
            self._key, self._images = key, Images(self._session, found)
        return self._images

    def frames(self) -> list[Frame]:
        """The routines under way on the processor that stopped, innermost first."""
        session = self._session
        registers = {}
        for name in _REGISTERS.get(session.convention, ()):
            value = session.register(name)
            if not isinstance(value, Absent):
                registers["x29" if name == "fp" else name] = value
        images = self.images
        steps = unwind(images, registers, session.convention, MOST).steps
        names = Names(images, ask=self._ask)
        return [Frame(s.instruction_pointer, names.name(s.instruction_pointer)) for s in steps]

    def _ask(self, address: int) -> str | None:
        """The engine's name, where it is of this function: without symbols it names exports."""
        text = self._session.nearest(address)
        name, _, distance = text.partition("+")
        if "!" not in name:
            return None
        begins = address - int(distance or "0", 16)
        return text if begins in (address, self.begins(address)) else None

    def begins(self, address: int) -> int | None:
        """Where the function that holds an address begins, as far as unwind data tells."""
        return self.images.function_start(address)
