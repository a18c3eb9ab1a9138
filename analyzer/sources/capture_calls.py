"""The calls of a capture: entries and returns joined by number, timed, and told as records.

Invariant: the return that a fact names belongs to the call of the same number and to no other; a
call is called "never returned" only as far as the capture goes. Calls are kept as columns, because
there may be millions. Standard library only.
"""

from __future__ import annotations

from array import array
from collections.abc import Container, Iterator, Sequence
from typing import Any, NamedTuple

from ..absence import Absent
from ..records import Anomaly, Callback, Module, Origin, Records
from ..target import symbol
from . import capture_timing as timing
from .capture_format import Fact, number, numbers, text
from .capture_table import BITS, ENTRY, RETURN, CallTable, Captured

MAX_TOLD = 100  #: findings of one kind; the rest is counted
#: so many calls are told as a table that makes its rows when they are asked for
MANY = 20_000

_UNTOLD = Absent("not-recorded", "the capture does not tell it")
_ENTRY = ("n", "id", "cpu", "host", "tsc", "extension")
_RETURN = ("n", "cpu", "host", "tsc", "status")
#: columns that an entry and a return fill, in the order of their facts' numbers above
AT_ENTRY = ("cpu", "host", "tsc", "extension")
AT_RETURN = ("back_cpu", "back_host", "back_tsc", "status")


class Routine:
    """One armed callback."""

    __slots__ = ("address", "bounded", "callback", "calls", "filter", "place", "stack")

    def __init__(self, fact: Fact, place: int) -> None:
        self.place = place  #: in the order of arming
        self.filter, self.stack = text(fact, "filter"), text(fact, "stack")
        self.callback = text(fact, "callback") or "callback"
        self.address = number(fact, "routine")
        self.calls = 0
        self.bounded = ""  #: why it was not watched to the end

    @property
    def label(self) -> str:
        """The filter in words."""
        return self.filter or "an unnamed filter"


class Call(NamedTuple):
    """Whose call it is, and what it was given."""

    routine: Routine
    number: int
    extension: int | None  #: where the extension lies


class Calls:
    """Takes the facts about calls in order, then tells them once."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.armed_now: dict[int, Routine] = {}  #: by the number that facts use
        self.routines: list[Routine] = []
        self.open: dict[int, int] = {}  #: number of a call under way -> its place in the columns
        self.columns: dict[str, Any] = {
            "routine": array("I"), "flags": array("H"), "number": array("I"), "offset": array("Q"),
            **{name: array("Q") for name in BITS},
        }  # fmt: skip
        self.last: int | None = None  #: call of the fact just taken
        self._tsc_noise: list[int] = []
        self._host_noise: list[int] = []
        self._registered: list[Callback] = []
        self._lost: dict[int, str] = {}
        self._stopped: dict[int, str] = {}
        self.nested: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self.columns["flags"])

    def cpu(self, call: int) -> int | None:
        """The processor of an entry."""
        known = self.columns["flags"][call] & BITS["cpu"]
        return self.columns["cpu"][call] if known else None

    def call(self, place: int) -> Call:
        """One call."""
        routine = self.routines[self.columns["routine"][place]]
        known = self.columns["flags"][place] & BITS["extension"]
        extension = self.columns["extension"][place] if known else None
        return Call(routine, self.columns["number"][place], extension)

    # -- taking --------------------------------------------------------------------------------

    def armed(self, fact: Fact) -> bool:
        """A callback that is watched from now on."""
        key = number(fact, "id")
        if key is None:
            return False
        self.armed_now[key] = routine = Routine(fact, len(self.routines))
        self.routines.append(routine)
        return True

    def disarmed(self, fact: Fact) -> bool:
        """A callback that is no longer watched."""
        routine = self.armed_now.get(number(fact, "id"))  # type: ignore[arg-type]
        if routine is None:
            return False
        routine.bounded = text(fact, "why") or "no longer watched"
        return True

    def entry(self, fact: Fact, offset: int) -> bool:
        """A callback was entered."""
        return self.entered(numbers(fact, _ENTRY), offset)

    def entered(self, told: Sequence[int | None], offset: int) -> bool:
        """The same, of the numbers that the fact tells."""
        key, ident, *values = told
        routine = self.armed_now.get(ident)  # type: ignore[arg-type]
        if key is None or routine is None or key in self.open:
            return False
        call = self._begun(routine, offset)
        self._put(call, ENTRY, AT_ENTRY, values)
        if self.open and len(self.nested) < MAX_TOLD:
            outer = next((o for o in self.open.values() if self.cpu(o) == values[0]), None)
            if outer is not None:
                self.nested.append((outer, call))
        self.open[key] = call
        return True

    def _begun(self, routine: Routine, offset: int) -> int:
        self.last = call = len(self)
        for column in self.columns.values():
            column.append(0)
        self.columns["routine"][call], self.columns["number"][call] = routine.place, routine.calls
        self.columns["offset"][call] = offset
        routine.calls += 1
        return call

    def _put(self, call: int, flag: int, names: Sequence[str], values: Sequence[Any]) -> None:
        for name, value in zip(names, values):
            if value is not None:
                self.columns[name][call] = value
                flag |= BITS[name]
        self.columns["flags"][call] |= flag

    def back(self, fact: Fact, offset: int) -> bool:
        """A callback returned."""
        return self.returned(numbers(fact, _RETURN), offset, number(fact, "id"))

    def returned(self, told: Sequence[int | None], offset: int, ident: int | None = None) -> bool:
        """The same, of the numbers that the fact tells."""
        key, *values = told
        self.last = call = self.open.pop(key, None)  # type: ignore[arg-type]
        if call is None:
            routine = self.armed_now.get(ident)  # type: ignore[arg-type]
            if routine is None:
                return False
            call = self._begun(routine, offset)
        self._put(call, RETURN, AT_RETURN, values)
        return True

    def lost(self, fact: Fact) -> bool:
        """The capture saw that a call cannot return any more."""
        call = self.open.pop(number(fact, "n"), None)  # type: ignore[arg-type]
        if call is None:
            return False
        self._lost[call] = text(fact, "why") or "its frame is gone"
        return True

    def ended(self) -> None:
        """A session is over: what is under way cannot return in the next one."""
        self._lost.update(dict.fromkeys(self.open.values(), "its session ended"))
        self.open.clear()

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

    def stopped(self, fact: Fact, offset: int) -> None:
        """The target stopped for another reason; calls under way on that processor remember it."""
        if fact.get("kind") == "exception":
            cpu = number(fact, "cpu")
            for call in self.open.values():
                if cpu is None or self.cpu(call) in (None, cpu):
                    self._stopped[call] = text(fact, "detail") or "an exception"

    def registered(self, callbacks: Sequence[Callback]) -> None:
        """The callbacks that the filters' nodes name."""
        self._registered += callbacks

    # -- telling -------------------------------------------------------------------------------

    def tell(
        self,
        out: Records,
        modules: Sequence[Module],
        frequency: timing.Frequency | None,
        is_whole: bool,
        ending: str,
    ) -> None:
        """Adds the callbacks table and what is odd about the calls."""
        clocks = timing.Clocks(frequency, self._tsc_noise, self._host_noise)
        symbols = [
            _UNTOLD if routine.address is None else symbol(modules, routine.address)
            for routine in self.routines
        ]
        calls = Captured(self.columns, self.routines, symbols, clocks, self.path)
        called = [routine for routine in self.routines if routine.calls]
        untold = list(self._untold({routine.address for routine in called}, is_whole, ending))
        if len(calls) >= MANY and calls.is_bulk():
            out.tables["callbacks"] = CallTable([calls, untold])  # type: ignore[assignment]
        else:
            out.add(*calls, *untold)
        out.add(*self._odd(calls, ending), *self._recursion(), *self._bounds())
        out.add(*self._timing(calls, called, clocks))

    def _odd(self, calls: Captured, ending: str) -> Iterator[Anomaly]:
        """What is odd about single calls; the first ones one by one, the rest as a number."""
        told = 0
        more: dict[tuple[str, str], list[int]] = {}
        for place in sorted({*calls.odd(), *self._stopped}):
            is_told = told < MAX_TOLD
            lost, stop = self._lost.get(place, ending), self._stopped.get(place, "")
            for anomaly in calls.oddities(place, lost, stop):
                if is_told:
                    yield anomaly
                    told += 1
                else:
                    more.setdefault((anomaly.rule, anomaly.subject), []).append(place)
        for (rule, subject), rest in more.items():
            text = f"{len(rest)} more calls of {subject or 'an unnamed filter'} are as the calls "
            text += "told one by one; the callbacks table has them all."
            yield Anomaly(rule, text, calls[rest[0]].origin, subject)

    def _untold(
        self, seen: Container[int | None], is_whole: bool, ending: str
    ) -> Iterator[Callback]:
        """Rows of the callbacks that were registered and of which no call was seen."""
        armed = {routine.address for routine in self.routines}
        for row in self._registered:
            if row.routine and row.routine in seen:
                continue
            called: Any = row.was_called
            how = row.origin.how
            if row.routine:
                if row.routine in armed:
                    called = Absent("not-found", f"not called while the capture ran ({ending})")
                    if is_whole:
                        called, how = (
                            "no",
                            f"watched, and not called while the capture ran ({ending})",
                        )
                else:
                    called = Absent("not-recorded", "the capture did not watch this callback")
                none = Absent("not-applicable", "no call was seen")
                row = row._replace(
                    status=none, status_name=none, processor=none, entry_time=none,
                    entry_clock=none, return_clock=none, duration_ns=none, duration_low_ns=none,
                    duration_high_ns=none,
                )  # fmt: skip
            yield row._replace(was_called=called, origin=row.origin._replace(how=how))

    def _recursion(self) -> Iterator[Anomaly]:
        for outer, inner in self.nested:
            around, routine = self.call(outer).routine, self.call(inner).routine
            offset = self.columns["offset"][inner]
            yield Anomaly(
                "callback-nested",
                f"{routine.callback} of {routine.label} was entered while {around.callback} of "
                f"{around.label} had not returned on the same processor.",
                Origin(self.path, "capture", "certain", offset, routine.address),
                routine.filter or "",
            )

    def _bounds(self) -> list[Anomaly]:
        return [
            Anomaly(
                "capture-bounded",
                f"Calls of {routine.callback} of {routine.label} were captured in part: "
                f"{routine.bounded}.",
                Origin(self.path, "capture", "certain", None, routine.address),
                routine.filter or "",
            )
            for routine in self.routines
            if routine.bounded
        ]

    def _timing(
        self, calls: Captured, called: Sequence[Routine], clocks: timing.Clocks
    ) -> list[Anomaly]:
        found: list[Anomaly] = []
        is_timed = False
        by_routine = calls.timed()
        for routine in called:
            timed = by_routine.get(routine.place)
            if timed is not None:
                is_timed = True
                found += self._of_routine(routine, calls, timed, clocks)
        if is_timed and not clocks.is_calibrated:
            text = "The debugger's own cost was not measured: each duration is an upper bound only."
            found.append(Anomaly("duration-uncalibrated", text, Origin(self.path, clocks.how)))
        if called and clocks.is_host:
            text = "The frequency of the target's clock is not known: durations are taken from the "
            text += "debugger's own clock and are coarse."
            found.append(Anomaly("duration-host-clock", text, Origin(self.path, clocks.how)))
        return found

    def _of_routine(
        self, routine: Routine, calls: Captured, timed: timing.Timed, clocks: timing.Clocks
    ) -> list[Anomaly]:
        """What is slow or cannot be told of calls that have a duration."""
        found: list[Anomaly] = []
        name, subject = f"{routine.callback} of {routine.label}", routine.filter or ""
        longest, count = timed.longest(), len(timed.lows)
        low, high = int(timed.lows[longest]), int(timed.highs[longest])
        row = calls[int(timed.places[longest])]
        call, offset = row.call, row.origin.file_offset
        origin = Origin(self.path, clocks.how, "certain", offset, routine.address)
        evidence = (f"duration_low_ns = {low}", f"duration_high_ns = {high}", f"call = {call}")
        over = timed.over(timing.LIMIT_NS)
        if over:
            text = f"{over} of {count} calls of {name} took more than 1 s; the longest at "
            text += f"least {low / 1e9:.3f} s (call {call})."
            found.append(Anomaly("callback-slow", text, origin, subject, evidence))
        others = None if over else timed.statistics(without=longest)
        if others is not None and timing.stands_out(low, others):
            text = f"Call {call} of {name} took at least {low / 1e6:.3f} ms; the "
            text += f"other {others.count} calls took {others.high / 1e6:.3f} ms at most "
            text += "in the median."
            found.append(Anomaly("callback-slow-outlier", text, origin, subject, evidence))
        below = count - timed.exact
        if below and clocks.is_calibrated:
            text = f"{below} of {count} calls of {name} were shorter than the debugger's own "
            text += f"noise; they took at most {timed.highest_below() / 1e6:.3f} ms."
            found.append(Anomaly("duration-below-noise", text, origin, subject))
        return found
