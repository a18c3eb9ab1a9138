"""The calls of a capture: entries and returns joined by number, and told as records.

Invariant: the return that a fact names belongs to the call of the same number and to no other; of
more than :data:`MOST_CALLS` the rest is counted and told. Standard library only.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple, Union

from ..absence import Absent, is_absent
from ..names import ntstatus
from ..records import Address, Anomaly, Callback, Module, Number, Origin, Records, Text
from ..target import ModuleMap, symbol
from . import capture_timing as timing
from .capture_findings import MOST_TOLD, oddities, slow
from .capture_format import Fact, number, status_code, text
from .capture_tally import Tally

#: a dump of 8 GiB in writes of 64 KiB has so many calls of Dump_Write
MOST_CALLS = (8 << 30) // (64 << 10)

_UNTOLD = Absent("not-recorded", "the capture does not tell it")
_NO_NODE = Absent("not-found", "no node that the capture holds is that of this call")
_NO_CALL = Absent("not-applicable", "no call was seen")


class Routine:
    """One armed callback."""

    __slots__ = ("address", "bounded", "callback", "calls", "filter", "stack")

    def __init__(self, fact: Fact) -> None:
        self.filter, self.stack = text(fact, "filter"), text(fact, "stack")
        self.callback = text(fact, "callback") or "callback"
        self.address = number(fact, "routine")
        self.calls = 0
        self.bounded = ""  #: why it was not watched to the end

    @property
    def label(self) -> str:
        """The filter in words."""
        return self.filter or "an unnamed filter"


class Stop(NamedTuple):
    """What the debugger saw at a breakpoint."""

    cpu: int | None
    host: int | None  #: the debugger's own clock, ns since 1970
    tsc: int | None  #: the target's clock

    @classmethod
    def of(cls, fact: Fact) -> Stop:
        """The processor and the clocks that a fact tells."""
        return cls(number(fact, "cpu"), number(fact, "host"), number(fact, "tsc"))


_NO_STOP = Stop(None, None, None)


class Call:
    """One call of a routine: its entry, its return, or both."""

    __slots__ = (
        "entry", "exception", "extension", "frame_gone", "is_kept", "is_watched", "lost", "number",
        "offset", "paused", "returned", "routine", "status", "stops", "unwatched",
    )  # fmt: skip

    def __init__(self, routine: Routine, offset: int, is_kept: bool) -> None:
        self.routine, self.offset = routine, offset
        self.is_kept = is_kept  #: False: it is counted and gets no row
        self.number = routine.calls
        self.entry: Stop | None = None
        self.returned: Stop | None = None
        self.extension: int | None = None  #: where the FILTER_EXTENSION lies
        self.status: int | None = None
        self.lost = ""  #: why its return cannot be seen any more
        self.frame_gone = False  #: its place on the stack was used again
        self.exception = ""  #: with which the target stopped inside it
        self.unwatched = ""  #: why its return could not be seen
        self.stops = 0  #: how often the target had stood when it was entered
        self.paused = False  #: True: the target stood while it was under way
        self.is_watched = False  #: a breakpoint stood at its return address


#: calls under way by their processor, then by their number
_ByProcessor = dict[Union[int, None], dict[int, Call]]


class Calls:
    """Takes the facts about calls in order, then tells them once."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._armed: dict[int, Routine] = {}  #: by the number that facts use
        self.routines: list[Routine] = []
        self.calls: list[Call] = []
        self._open: dict[int, Call] = {}  #: by the number of the call
        self._on_cpu: _ByProcessor = {}  #: the same
        self._quiet: _ByProcessor = {}  #: those of them that saw no exception yet
        self._beyond = self._beyond_failed = 0  #: calls that are counted and not kept
        self.tally = Tally()
        self._tsc_noise: list[int] = []
        self._host_noise: list[int] = []
        self._registered: list[Callback] = []
        #: address of an extension, and of a routine -> the node that names it
        self._extensions: dict[Address, Address] = {}
        self._routines: dict[Address, Address] = {}
        self._nested: list[tuple[Call, Call]] = []
        self._nested_more = 0
        self._stops = 0  #: how often the target stood for another reason than a callback

    def __len__(self) -> int:
        return len(self.calls) + self._beyond

    # -- taking --------------------------------------------------------------------------------

    def armed(self, fact: Fact) -> bool:
        """A callback that is watched from now on."""
        key = number(fact, "id")
        if key is None:
            return False
        self._armed[key] = routine = Routine(fact)
        self.routines.append(routine)
        return True

    def disarmed(self, fact: Fact) -> bool:
        """A callback that is no longer watched."""
        routine = self._routine(fact)
        if routine is None:
            return False
        routine.bounded = text(fact, "why") or "no longer watched"
        self.tally.unrecorded += number(fact, "unrecorded") or 0
        return True

    def entry(self, fact: Fact, offset: int) -> Call | None:
        """A callback was entered; None when that cannot be."""
        key, routine = number(fact, "n"), self._routine(fact)
        if key is None or routine is None or not self.tally.entered(key, offset):
            return None
        call = self._begun(routine, offset)
        call.entry, call.extension = Stop.of(fact), number(fact, "extension")
        call.stops, call.unwatched = self._stops, text(fact, "unwatched") or ""
        if call.unwatched:
            return call
        call.is_watched = fact.get("back") is not None
        on_cpu = self._on_cpu.setdefault(call.entry.cpu, {})
        if on_cpu and call.entry.cpu is not None:
            if len(self._nested) < MOST_TOLD:
                self._nested.append((next(iter(on_cpu.values())), call))
            else:
                self._nested_more += 1
        self._open[key] = on_cpu[key] = call
        self._quiet.setdefault(call.entry.cpu, {})[key] = call
        return call

    def exit(self, fact: Fact, offset: int) -> Call | None:
        """A callback returned; None when that cannot be."""
        call = self._closed(fact)
        if call is None:
            routine = self._routine(fact)
            if routine is None:
                return None
            call = self._begun(routine, offset)
        call.returned, call.status = Stop.of(fact), status_code(fact)
        call.paused = call.entry is not None and call.stops != self._stops
        if call.status is not None and not call.is_kept:
            self._beyond_failed += ntstatus.is_failure(call.status)
        self.tally.returns += 1
        return call

    def _routine(self, fact: Fact) -> Routine | None:
        key = number(fact, "id")
        return None if key is None else self._armed.get(key)

    def _begun(self, routine: Routine, offset: int) -> Call:
        call = Call(routine, offset, len(self.calls) < MOST_CALLS)
        if call.is_kept:
            self.calls.append(call)
        else:
            self._beyond += 1
        routine.calls += 1
        return call

    def _closed(self, fact: Fact) -> Call | None:
        key = number(fact, "n")
        call = None if key is None else self._open.pop(key, None)
        if key is not None and call is not None and call.entry is not None:
            for calls in (self._on_cpu, self._quiet):
                calls.get(call.entry.cpu, {}).pop(key, None)
        return call

    def lost(self, fact: Fact) -> bool:
        """The capture saw that a call cannot return any more."""
        call = self._closed(fact)
        if call is not None:
            call.lost, call.frame_gone = text(fact, "why") or "its frame is gone", True
        return call is not None

    def ended(self) -> None:
        """A session is over: what is under way cannot return in the next one."""
        for call in self._open.values():
            call.lost = "its session ended"
        for calls in (self._open, self._on_cpu, self._quiet):
            calls.clear()

    def stopped(self, fact: Fact) -> None:
        """The target stood: the time of what was under way is no longer its own.

        With an exception the calls under way on its processor remember the first.
        """
        self._stops += 1
        if fact.get("kind") != "exception":
            return
        cpu = number(fact, "cpu")
        for where in list(self._quiet) if cpu is None else (cpu, None):
            for call in self._quiet.pop(where, {}).values():
                call.exception = text(fact, "detail") or "an exception"

    def registered(self, callbacks: Sequence[Callback]) -> None:
        """The callbacks that the filters' nodes name."""
        self._registered += callbacks
        for row in callbacks:
            if not is_absent(row.node):
                self._extensions.setdefault(row.extension, row.node)
                if row.routine:
                    self._routines.setdefault(row.routine, row.node)

    def calibration(self, fact: Fact) -> bool:
        """Two stops one instruction apart: the debugger's own cost."""
        told = False
        for samples, first, second in (
            (self._tsc_noise, "tsc", "tsc2"),
            (self._host_noise, "host", "host2"),
        ):
            start, end = number(fact, first), number(fact, second)
            if start is not None and end is not None and end >= start:
                samples.append(end - start)
                told = True
        return told

    # -- telling -------------------------------------------------------------------------------

    def tell(
        self,
        out: Records,
        modules: Sequence[Module],
        frequency: timing.Frequency | None,
        is_whole: bool,
        ending: str,
        last_host: int | None,
    ) -> None:
        """Adds the callbacks table and what is odd about the calls.

        ``last_host``: the debugger's clock where the capture ends.
        """
        missing = self.tally.anomalies(self.path)
        is_whole = is_whole and not missing
        clocks = timing.Clocks(frequency, self._tsc_noise, self._host_noise)
        modules = ModuleMap(modules)
        symbols = {
            routine: _UNTOLD if routine.address is None else symbol(modules, routine.address)
            for routine in self.routines
        }
        rows = [self._row(call, symbols[call.routine], clocks) for call in self.calls]
        called = {routine.address for routine in self.routines if routine.calls}
        out.add(*rows, *self._uncalled(called, is_whole, ending))
        out.add(*oddities(self.calls, rows, ending, last_host if is_whole else None))
        out.add(*missing, *self._recursion(), *self._bounds())
        out.add(*slow(self.path, self.calls, rows, clocks))

    def _row(self, call: Call, symbol: Text, clocks: timing.Clocks) -> Callback:
        routine, entry, end = call.routine, call.entry, call.returned
        no_entry = timing.NO_ENTRY if entry is None else _UNTOLD
        no_return = timing.NO_RETURN if end is None else _UNTOLD
        if call.unwatched:
            no_return = Absent("not-recorded", f"its return was not watched: {call.unwatched}")
        entry, end = entry or _NO_STOP, end or _NO_STOP
        value: int | Absent = no_entry if no_return is _UNTOLD else no_return
        low = high = value
        if value is _UNTOLD:
            which = "host" if clocks.is_host else "tsc"
            value, low, high = clocks.span(getattr(entry, which), getattr(end, which))
            if call.paused and isinstance(high, int):
                value, low = timing.PAUSED, 0
        how = "capture" if isinstance(low, Absent) else clocks.how
        return Callback(
            filter=routine.filter or _UNTOLD,
            stack=routine.stack or _UNTOLD,
            node=self._node(call),
            callback=routine.callback,
            routine=_UNTOLD if routine.address is None else routine.address,
            symbol=symbol,
            call=call.number,
            was_called="yes",
            processor=_first(entry.cpu, end.cpu, _UNTOLD),
            entry_time=_first(entry.host, no_entry),
            entry_clock=_first(entry.tsc, no_entry),
            return_clock=_first(end.tsc, no_return),
            duration_ns=value,
            duration_low_ns=low,
            duration_high_ns=high,
            status=no_return if call.status is None else call.status,
            status_name=no_return if call.status is None else ntstatus.name(call.status),
            extension=_first(call.extension, _UNTOLD),
            origin=Origin(self.path, how, "certain", call.offset, routine.address),
        )

    def _node(self, call: Call) -> Address:
        """The node whose extension the call was given, or that names the routine."""
        node = self._extensions.get(call.extension)
        if node is None:
            node = self._routines.get(call.routine.address)
        return _NO_NODE if node is None else node

    def _uncalled(
        self, called: Container[int | None], is_whole: bool, ending: str
    ) -> Iterator[Callback]:
        """Rows of the callbacks that were registered and of which no call was seen."""
        armed = {routine.address for routine in self.routines}
        for row in self._registered:
            if row.routine and row.routine in called:
                continue
            was_called, how = row.was_called, row.origin.how
            if row.routine:
                if row.routine in armed:
                    was_called = Absent("not-found", f"not called while the capture ran ({ending})")
                    if is_whole:
                        was_called = "no"
                        how = f"watched, and not called while the capture ran ({ending})"
                else:
                    was_called = Absent("not-recorded", "the capture did not watch this callback")
                row = row._replace(
                    status=_NO_CALL, status_name=_NO_CALL, processor=_NO_CALL, entry_time=_NO_CALL,
                    entry_clock=_NO_CALL, return_clock=_NO_CALL, duration_ns=_NO_CALL,
                    duration_low_ns=_NO_CALL, duration_high_ns=_NO_CALL,
                )  # fmt: skip
            yield row._replace(was_called=was_called, origin=row.origin._replace(how=how))

    def _recursion(self) -> Iterator[Anomaly]:
        for outer, inner in self._nested:
            around, routine = outer.routine, inner.routine
            yield Anomaly(
                "callback-nested",
                f"{routine.callback} of {routine.label} was entered while {around.callback} of "
                f"{around.label} had not returned on the same processor.",
                Origin(self.path, "capture", "certain", inner.offset, routine.address),
                routine.filter or "",
            )
        if self._nested_more:
            text = f"{self._nested_more} more calls were entered inside another."
            yield Anomaly("callback-nested", text, Origin(self.path, "capture"))

    def _bounds(self) -> Iterator[Anomaly]:
        for routine in self.routines:
            if routine.bounded:
                yield Anomaly(
                    "capture-bounded",
                    f"Calls of {routine.callback} of {routine.label} were captured in part: "
                    f"{routine.bounded}.",
                    Origin(self.path, "capture", "certain", None, routine.address),
                    routine.filter or "",
                )
        if self._beyond:
            text = f"The capture has {len(self):,} calls; the first {MOST_CALLS:,} are in the "
            text += f"table, the other {self._beyond:,} are counted only: {self._beyond_failed:,} "
            text += "of them returned a failing status."
            origin = Origin(self.path, "capture", "certain", self.calls[-1].offset)
            yield Anomaly("capture-calls-left-out", text, origin)


def _first(*values: Number) -> Number:
    return next(value for value in values if value is not None)
