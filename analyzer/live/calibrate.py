"""What the debugger's own two stops cost, measured on the same link.

Invariant: a calibration is two stops with nothing of the target's between them but two plain
instructions; what a call took is never said to be more than its clocks say less the cost seen.
Standard library only.
"""

from __future__ import annotations

from typing import Callable

from ..absence import Absent
from ..sources.capture_format import Fact, hexadecimal
from . import instructions
from .points import BETWEEN, Points
from .session import CONTINUE, Clock, Session, Stop, plain

#: pairs of stops that are taken in one capture
MOST = 32


class Calibration:
    """Takes a sample behind the first returns."""

    def __init__(self, session: Session, sink: Callable[[Fact], None], points: Points) -> None:
        self._session, self._sink, self._points = session, sink, points
        self._under_way: set[int] = set()
        self._taken = 0
        self._ticks: list[int] = []
        self._host_ns: list[int] = []

    def at(self, back: int, processor: int | Absent) -> None:
        """Stops once more two instructions on: what lies between is the debugger alone.

        Not at the next one: engines go on from a breakpoint with a single step, which is a stop of
        its own between an entry and its return, but is the hit itself where it ends on a
        breakpoint (seen with DbgEng 10.0.15063 and ntoseye 0.52).
        """
        session = self._session
        if self._taken >= MOST or self._points.is_full:
            return
        code = plain(session.read(back, 30)) or b""
        size = instructions.length(code, session.convention)
        more = None if size is None else instructions.length(code[size:], session.convention)
        if size is None or more is None:
            return
        place = back + size + more
        if self._points.at(place):
            return
        handle: int | None = None
        first: Clock | None = None

        def hit(stop: Stop) -> bool:
            clock = session.clock()
            self._under_way.discard(place)
            self._points.remove(handle)
            if first is not None and stop.processor == processor:
                self._sample(back, processor, first, clock)
            return CONTINUE

        self._taken += 1
        self._under_way.add(place)
        handle = self._points.set(place, hit, BETWEEN)
        first = session.clock()
        # An entry writes its fact behind the clock: the same is done here, so that it counts too.
        self._sink({"fact": "calibrating", "at": hexadecimal(back)})

    def _sample(self, back: int, processor: int | Absent, first: Clock, second: Clock) -> None:
        self._host_ns.append(second.host_ns - first.host_ns)
        if isinstance(first.tsc, int) and isinstance(second.tsc, int):
            self._ticks.append(second.tsc - first.tsc)
        self._sink(
            {
                "fact": "calibration", "at": hexadecimal(back), "cpu": plain(processor),
                "tsc": hexadecimal(first.tsc), "tsc2": hexadecimal(second.tsc),
                "host": first.host_ns, "host2": second.host_ns,
            }
        )  # fmt: skip

    def least(self, first: Clock, second: Clock, hz: int | None) -> int:
        """What lies between two clocks, in ns, less the largest cost of the stops that was seen.

        0 as long as no cost was measured: a call must not be called slow for the debugger's sake.
        """
        if hz and isinstance(first.tsc, int) and isinstance(second.tsc, int):
            if not self._ticks:
                return 0
            return max(0, second.tsc - first.tsc - max(self._ticks)) * 1_000_000_000 // hz
        if not self._host_ns:
            return 0
        return max(0, second.host_ns - first.host_ns - max(self._host_ns))
