"""Watches routines: what is recorded when one is entered and when it returns.

Invariant: no callback raises, stops the target without being asked to, or does unbounded work. The
target's clock is the last thing read before a callback starts and the first after it returned.
Standard library only.
"""

from __future__ import annotations

import ctypes
from collections import deque
from functools import partial
from typing import Callable

from ..absence import Absent
from ..layouts.crashdmp import NodeLayout, node_layouts
from ..layouts.ntdddump import WINDOWS_8
from ..names import bugchecks
from ..names.units import duration
from ..sources.capture_format import DRIVER_ENTRY, Fact, hexadecimal
from . import arguments
from .calibrate import Calibration
from .options import StopOn
from .points import RETURN, Points
from .routines import MANY, Routine, Writes
from .session import CONTINUE, STOP, Clock, Session, Stop, plain

#: breakpoints that are kept free for returns
_FOR_RETURNS = 6
#: two stack pointers further apart are of two stacks
_STACK = 0x10000


class Armed:
    """One watched routine."""

    def __init__(
        self, number: int, routine: Routine, address: int, layout: NodeLayout | None
    ) -> None:
        self.number, self.routine, self.address = number, routine, address
        self.layout = layout  #: of the filter's node; None when no node is known
        self.handle: int | None = None
        self.hits = 0


class Open:
    """A call that has not returned."""

    def __init__(
        self, number: int, armed: Armed, sp: int | Absent, back: int, cpu: int | Absent
    ) -> None:
        self.number, self.armed, self.sp, self.back, self.cpu = number, armed, sp, back, cpu
        self.extension: int | Absent = Absent("unset")
        self.data: bytes | Absent = Absent("unset")
        self.node: int | Absent = Absent("unset")  #: DriverEntry's second argument
        self.kept: list[Fact] | None = None  #: facts held back, of a call that may be dropped
        self.clock: Clock | None = None  #: when it began


class Watch:
    """Sets breakpoints, joins entries with returns, tells the facts of calls."""

    def __init__(
        self,
        session: Session,
        sink: Callable[[Fact], None],
        writes: Writes,
        limit: int | None,
        stop_on: StopOn = StopOn(),  # noqa: B008 - a NamedTuple cannot change
    ) -> None:
        self.session, self.sink = session, sink
        self.writes, self.limit, self.stop_on = writes, limit, stop_on
        self.points = Points(session, sink)
        self.calibration = Calibration(session, sink, self.points)
        self.armed: dict[int, Armed] = {}  #: by address
        self.calls = 0
        self.returned = 0
        self.first_bytes = 0  #: how many bytes of what is written are recorded
        self.hz: int | None = None  #: of the target's clock
        self.reason = ""  #: why a callback asked to stop
        self.stands_at: list[str] | None = None  #: where it was asked to stand, in words
        self.ended = False
        self.on_driver_entry: Callable[[Open], None] = lambda _: None
        #: called with an extension that belongs to no known node, and the routine given it
        self.on_new_extension: Callable[[int, Armed], None] = lambda *_: None
        #: called at each entry and return while the target stands
        self.on_stop: Callable[[], None] = lambda: None
        self.on_stand: Callable[[list[str]], None] = lambda _: None
        self.describe: Callable[[Open, Fact], list[str]] = lambda *_: []
        self.extensions: set[int] = set()  #: known ones
        self._next_id = 1
        self._open: list[Open] = []
        self._returns: dict[int, int] = {}  #: return address -> breakpoint
        self._users: dict[int, set[int]] = {}  #: return address -> addresses of its routines
        self._held: deque[Open] = deque(maxlen=writes.last or 1)
        self._dropped: dict[int, int] = {}
        self._told_bugcheck = False

    def end(self, is_gone: bool = False) -> None:
        """Removes every breakpoint and writes what was held back."""
        self.ended = True
        self._flush_held()
        if is_gone:
            self.points.forget()
        else:
            self.points.remove_all()

    @property
    def under_way(self) -> list[Open]:
        """Calls that have not returned."""
        return list(self._open)

    def arm(self, routine: Routine, address: int, layout: NodeLayout | None) -> None:
        """Watches one routine; one that is watched already is left as it is."""
        before = self.armed.get(address)
        if before is not None and before.handle is not None:
            return
        if len(self.points) >= self.session.most_breakpoints - _FOR_RETURNS:
            # One too many, and the engine could not let the target run on.
            most = self.session.most_breakpoints
            why = f"a kernel debugger holds {most} breakpoints; --writes off leaves more for others"
            self.not_armed(routine.callback, routine.filter, why)
            return
        armed = Armed(self._next_id, routine, address, layout)
        self._next_id += 1
        try:
            armed.handle = self.points.set(address, partial(self._entry, armed))
        except Exception as error:  # noqa: BLE001 - one routine must not keep the others from being armed
            self.not_armed(routine.callback, routine.filter, error)
            return
        self.armed[address] = armed
        self.sink(
            {
                "fact": "armed", "id": armed.number, "filter": routine.filter,
                "stack": routine.stack, "callback": routine.callback,
                "routine": hexadecimal(address),
            }
        )  # fmt: skip

    def not_armed(self, callback: str | None, name: str | None, why: object) -> None:
        """Tells that a callback is not watched, or none of a filter is."""
        what = "None of the callbacks" if callback is None else callback
        is_not = "is" if callback is None else "is not"
        text = f"{what} of {name or 'an unnamed filter'} {is_not} watched: {why}"
        self.sink({"fact": "error", "rule": "capture-not-armed", "subject": name, "text": text})

    def disarm(self, address: int) -> None:
        """Forgets a routine."""
        old = self.armed.pop(address, None)
        if old is not None:
            self.points.remove(old.handle)

    def unloaded(self, start: int, end: int) -> list[Armed]:
        """A module is gone: nothing may be set in it any more; what was watched there."""
        gone = [armed for place, armed in self.armed.items() if start <= place < end]
        for armed in gone:
            self.disarm(armed.address)
            self.sink({"fact": "disarmed", "id": armed.number, "why": "its driver was unloaded"})
        for back in [place for place in self._returns if start <= place < end]:
            self.points.remove(self._returns.pop(back))
        return gone

    # -- calls ---------------------------------------------------------------------------------

    def _entry(self, armed: Armed, stop: Stop) -> bool:
        session = self.session
        armed.hits += 1
        many = armed.routine.callback in MANY
        if many and armed.hits > self.writes.first and not self.writes.last:
            self._disarm(armed)
            return CONTINUE
        if not many:
            self._flush_held()
        back, sp = session.return_address(), session.named("sp")
        self._abandon(sp, stop.processor)
        call = Open(self.calls, armed, sp, plain(back) or 0, stop.processor)
        self.calls += 1
        call.extension = session.argument(0)
        if isinstance(call.extension, int) and call.extension not in self.extensions:
            self.extensions.add(call.extension)
            if armed.routine.callback != DRIVER_ENTRY:
                self.on_new_extension(call.extension, armed)
        fact: Fact = {
            "fact": "call", "n": call.number, "id": armed.number, "cpu": plain(stop.processor),
            "extension": hexadecimal(call.extension), "back": hexadecimal(back),
            "sp": hexadecimal(sp),
        }  # fmt: skip
        if armed.routine.callback == DRIVER_ENTRY:
            call.node = session.argument(1)
        elif many:
            fact.update(arguments.transfer(session, self.first_bytes))
        if isinstance(call.extension, int) and (not many or armed.hits == 1):
            call.data = session.read(call.extension, self._extension_size(armed))
            if isinstance(call.data, bytes):
                fact["ext"] = call.data.hex()
        if many and armed.hits > self.writes.first:
            call.kept = []
            self._hold(call)
        if not many:
            frames = self.points.stack.frames()
            fact["stack"] = [[hexadecimal(frame.address), frame.name] for frame in frames]
            self.on_stop()
        self._open.append(call)
        why = self._watch_return(back, armed)
        if why:
            fact["unwatched"] = why
            self._open.remove(call)
        if armed.routine.callback == "Dump_Start":
            self.tell_bugcheck()
        call.clock = session.clock()
        self._emit(call, self._timed(fact, call.clock))
        return CONTINUE

    def _return(self, back: int, stop: Stop) -> bool:
        session = self.session
        clock = session.clock()
        sp = session.named("sp")
        call = self._returning(back, sp)
        if call is None:
            return CONTINUE
        self._open.remove(call)
        self.returned += 1
        status = session.named("result")
        fact: Fact = {
            "fact": "return", "n": call.number, "cpu": plain(stop.processor),
            "status": hexadecimal(status & 0xFFFFFFFF) if isinstance(status, int) else None,
        }  # fmt: skip
        if isinstance(call.data, bytes) and isinstance(call.extension, int):
            data = session.read(call.extension, len(call.data))
            if isinstance(data, bytes) and data != call.data:
                fact["ext"] = data.hex()
        self._emit(call, self._timed(fact, clock))
        if call.armed.routine.callback == DRIVER_ENTRY:
            self.on_driver_entry(call)
        if call.armed.routine.callback not in MANY:
            self.on_stop()
        why = self._wants_to_stand(call, fact, clock)
        if why:
            self.reason = why
            self.stands_at = self.describe(call, fact)
            self.on_stand(self.stands_at)
            return STOP
        if self.limit is not None and self.returned >= self.limit:
            self.reason = f"{self.returned} calls were captured"
            return STOP
        self._drop_return(back)
        self.calibration.at(back, stop.processor)
        return CONTINUE

    def _wants_to_stand(self, call: Open, fact: Fact, clock: Clock) -> str:
        """Why the target is to be left standing at this return; "" when it is not."""
        status, wanted = int(fact["status"] or "0", 16), self.stop_on
        where = f"{call.armed.routine.callback} of {call.armed.routine.filter or 'a filter'}"
        if wanted.failure and status >= 0x80000000:
            return f"{where} failed"
        if wanted.every:
            return f"{where} returned"
        if wanted.slow_ns is not None and call.clock is not None:
            took = self.calibration.least(call.clock, clock, self.hz)
            if took >= wanted.slow_ns:
                return f"{where} took at least {duration(took)}"
        return ""

    def _returning(self, back: int, sp: int | Absent) -> Open | None:
        """The call that returns to ``back`` with this stack pointer; calls inside it are gone."""
        width = self.session.pointer_size
        for call in reversed(self._open):
            if call.back != back:
                continue
            if isinstance(sp, Absent) or isinstance(call.sp, Absent):
                return call
            popped = sp - call.sp  # arm64: 0; x64: 8; x86: 4 and the arguments
            if popped == (0 if self.session.convention == "arm64" else width) or (
                self.session.convention == "x86" and width <= popped <= 64
            ):
                for inner in self._open[self._open.index(call) + 1 :]:
                    if self._is_below(inner.sp, sp):
                        self._lose(inner, "the call around it returned")
                return call
        return None

    def _abandon(self, sp: int | Absent, processor: int | Absent) -> None:
        """Calls whose stack frames a new call overwrites can return no more."""
        for call in list(self._open):
            gone = isinstance(sp, int) and isinstance(call.sp, int) and 0 <= sp - call.sp < _STACK
            if gone and call.cpu == processor:
                self._lose(call, "a later call uses its place on the stack")

    @staticmethod
    def _is_below(inner: int | Absent, sp: int) -> bool:
        return isinstance(inner, int) and 0 < sp - inner < _STACK

    def _lose(self, call: Open, why: str) -> None:
        self._open.remove(call)
        self._emit(call, {"fact": "lost", "n": call.number, "why": why})

    # -- breakpoints at returns ----------------------------------------------------------------

    def _watch_return(self, back: int | Absent, armed: Armed) -> str:
        """Why the return of a call cannot be watched; "" when it is."""
        if isinstance(back, Absent):
            return "its return address cannot be read"
        self._users.setdefault(back, set()).add(armed.address)
        if back in self._returns:
            return ""
        if self.points.is_full:
            under_way = {call.back for call in self._open}
            idle = next((place for place in self._returns if place not in under_way), None)
            if idle is not None:
                self.points.remove(self._returns.pop(idle))
        try:
            self._returns[back] = self.points.set(back, partial(self._return, back), RETURN)
        except Exception as error:  # noqa: BLE001 - the entry must be told whatever the engine says
            return f"no breakpoint at its return: {error}"
        return ""

    def _drop_return(self, back: int) -> None:
        """Removes a return breakpoint when only routines that are no longer watched use it."""
        watched = (self.armed.get(address) for address in self._users.get(back, ()))
        if any(call.back == back for call in self._open):
            return
        if all(armed is None or armed.handle is None for armed in watched):
            self.points.remove(self._returns.pop(back, None))

    # -- many calls ----------------------------------------------------------------------------

    def _disarm(self, armed: Armed) -> None:
        self.points.remove(armed.handle)
        armed.handle = None
        for back, users in self._users.items():
            if armed.address in users:
                self._drop_return(back)
        why = f"the first {self.writes.first} calls were captured, then it was no longer watched"
        self.sink({"fact": "disarmed", "id": armed.number, "why": why})

    def _hold(self, call: Open) -> None:
        if len(self._held) == self._held.maxlen:
            old = self._held[0]
            self._dropped[old.armed.number] = self._dropped.get(old.armed.number, 0) + 1
        self._held.append(call)

    def _flush_held(self) -> None:
        for number, count in self._dropped.items():
            why = f"{count} calls between the first {self.writes.first} and the last "
            why += f"{self.writes.last} were seen and not recorded"
            self.sink({"fact": "disarmed", "id": number, "why": why, "unrecorded": count})
        self._dropped.clear()
        for call in self._held:
            for fact in call.kept or ():
                self.sink(fact)
            call.kept = None
        self._held.clear()

    def _emit(self, call: Open, fact: Fact) -> None:
        if call.kept is not None:
            call.kept.append(fact)
        else:
            self.sink(fact)

    # -- small things --------------------------------------------------------------------------

    @staticmethod
    def _timed(fact: Fact, clock: Clock) -> Fact:
        fact["tsc"], fact["host"] = hexadecimal(clock.tsc), clock.host_ns
        return fact

    def _extension_size(self, armed: Armed) -> int:
        layout = armed.layout
        if layout is None:
            older = isinstance(self.session.build, int) and self.session.build < WINDOWS_8
            name = "vista" if older else "win8"
            choice = node_layouts(self.session.pointer_size)
            layout = next(one for one in choice if one.name == name)
        return ctypes.sizeof(layout.extension_class)

    def tell_bugcheck(self) -> None:
        """Tells the bugcheck, once there is one."""
        if self._told_bugcheck:
            return
        values = self.session.bugcheck()
        if isinstance(values, Absent) or not values[0] or len(values) != 5:
            return
        self._told_bugcheck = True
        name = bugchecks.name(values[0] & 0xFFFFFFFF)
        self.sink({"fact": "bugcheck", "values": [hex(v) for v in values], "name": name})
