"""The calls of a capture: entries and returns joined by number, timed, and told as records.

Invariant: the return that a fact names belongs to the call of the same number and to no other; a
call is called "never returned" only as far as the capture goes. Standard library only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterator, Sequence
from typing import Any

from ..absence import Absent
from ..names import ntstatus
from ..records import Anomaly, Callback, Module, Origin, Records
from ..target import symbol
from . import capture_timing as timing
from .capture_format import Fact, number, numbers, text

_MAX_TOLD = 100  #: findings of one kind; the rest is counted


_UNTOLD = Absent("not-recorded", "the capture does not tell it")
_UNSEEN = (None, None, None, None)
_new: Any = tuple.__new__
_ENTRY = ("n", "id", "cpu", "host", "tsc", "extension")
_RETURN = ("n", "cpu", "host", "tsc", "status")


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


class Call:
    """One call as its facts tell it."""

    __slots__ = ("back", "entry", "number", "offset", "routine")

    def __init__(self, routine: Routine, offset: int) -> None:
        self.routine, self.number, self.offset = routine, routine.calls, offset
        routine.calls += 1
        self.entry: list[int | None] | None = None  #: numbers of :data:`_ENTRY`, None when unseen
        self.back: list[int | None] | None = None  #: numbers of :data:`_RETURN`, None when unseen

    @property
    def cpu(self) -> int | None:
        """The processor of the entry."""
        return self.entry[0] if self.entry else None

    @property
    def extension(self) -> int | None:
        """Where the extension lies that the callback was given."""
        return self.entry[3] if self.entry else None


class Calls:
    """Takes the facts about calls in order, then tells them once."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._routines: dict[int, Routine] = {}
        self._open: dict[int, Call] = {}
        self._all: deque[Call] = deque()
        self._count = 0
        self.last: Call | None = None  #: of the fact just taken
        self._tsc_noise: list[int] = []
        self._host_noise: list[int] = []
        self._registered: list[Callback] = []
        self._lost: dict[Call, str] = {}
        self._stopped: dict[Call, str] = {}
        self._nested: list[tuple[Call, Call]] = []

    def __len__(self) -> int:
        return self._count

    # -- taking --------------------------------------------------------------------------------

    def armed(self, fact: Fact) -> bool:
        """A callback that is watched from now on."""
        key = number(fact, "id")
        if key is None:
            return False
        self._routines[key] = Routine(fact)
        return True

    def disarmed(self, fact: Fact) -> bool:
        """A callback that is no longer watched."""
        routine = self._routines.get(number(fact, "id"))  # type: ignore[arg-type]
        if routine is None:
            return False
        routine.bounded = text(fact, "why") or "no longer watched"
        return True

    def entry(self, fact: Fact, offset: int) -> bool:
        """A callback was entered."""
        key, ident, *entry = numbers(fact, _ENTRY)
        routine = self._routines.get(ident)  # type: ignore[arg-type]
        if key is None or routine is None or key in self._open:
            return False
        call = self._begun(routine, offset)
        call.entry = entry
        if self._open and len(self._nested) < _MAX_TOLD:
            outer = next((o for o in self._open.values() if o.cpu == call.cpu), None)
            if outer is not None:
                self._nested.append((outer, call))
        self._open[key] = call
        return True

    def _begun(self, routine: Routine, offset: int) -> Call:
        self.last = call = Call(routine, offset)
        self._all.append(call)
        self._count += 1
        return call

    def back(self, fact: Fact, offset: int) -> bool:
        """A callback returned."""
        key, *back = numbers(fact, _RETURN)
        self.last = call = self._open.pop(key, None)  # type: ignore[arg-type]
        if call is None:
            routine = self._routines.get(number(fact, "id"))  # type: ignore[arg-type]
            if routine is None:
                return False
            call = self._begun(routine, offset)
        call.back = back
        return True

    def lost(self, fact: Fact) -> bool:
        """The capture saw that a call cannot return any more."""
        call = self._open.pop(number(fact, "n"), None)  # type: ignore[arg-type]
        if call is None:
            return False
        self._lost[call] = text(fact, "why") or "its frame is gone"
        return True

    def ended(self) -> None:
        """A session is over: what is under way cannot return in the next one."""
        self._lost.update(dict.fromkeys(self._open.values(), "its session ended"))
        self._open.clear()

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
            for call in self._open.values():
                if cpu is None or call.cpu is None or call.cpu == cpu:
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
        rows: dict[Routine, list[Callback]] = {}
        symbols: dict[Routine, Any] = {}
        odd: list[Anomaly] = []
        table = out.tables["callbacks"]
        while self._all:  # each makes room for its row: there may be millions
            call = self._all.popleft()
            routine = call.routine
            if routine not in symbols:
                address = routine.address
                symbols[routine] = _UNTOLD if address is None else symbol(modules, address)
                rows[routine] = []
            row = _row(call, clocks, symbols[routine], self.path)
            table.append(row)
            rows[routine].append(row)
            if len(odd) < _MAX_TOLD:
                odd += _odd(call, row, self._lost.get(call, ending), self._stopped.get(call, ""))
        table += self._untold({routine.address for routine in rows}, is_whole, ending)
        out.add(*odd, *self._recursion(), *self._bounds(), *self._timing(rows, clocks))

    def _untold(
        self, seen: Container[int | None], is_whole: bool, ending: str
    ) -> Iterator[Callback]:
        """Rows of the callbacks that were registered and of which no call was seen."""
        armed = {routine.address for routine in self._routines.values()}
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

    def _recursion(self) -> list[Anomaly]:
        return [
            Anomaly(
                "callback-nested",
                f"{inner.routine.callback} of {inner.routine.label} was entered while "
                f"{outer.routine.callback} of {outer.routine.label} had not returned on the same "
                "processor.",
                Origin(self.path, "capture", "certain", inner.offset, inner.routine.address),
                inner.routine.filter or "",
            )
            for outer, inner in self._nested
        ]

    def _bounds(self) -> list[Anomaly]:
        return [
            Anomaly(
                "capture-bounded",
                f"Calls of {routine.callback} of {routine.label} were captured in part: "
                f"{routine.bounded}.",
                Origin(self.path, "capture", "certain", None, routine.address),
                routine.filter or "",
            )
            for routine in self._routines.values()
            if routine.bounded
        ]

    def _timing(self, rows: dict[Routine, list[Callback]], clocks: timing.Clocks) -> list[Anomaly]:
        found: list[Anomaly] = []
        is_timed = False
        for routine, calls in rows.items():
            timed = [row for row in calls if isinstance(row.duration_low_ns, int)]
            if timed:
                is_timed = True
                found += self._of_routine(routine, timed, clocks)
        if is_timed and not clocks.is_calibrated:
            text = "The debugger's own cost was not measured: each duration is an upper bound only."
            found.append(Anomaly("duration-uncalibrated", text, Origin(self.path, clocks.how)))
        if rows and clocks.is_host:
            text = "The frequency of the target's clock is not known: durations are taken from the "
            text += "debugger's own clock and are coarse."
            found.append(Anomaly("duration-host-clock", text, Origin(self.path, clocks.how)))
        return found

    def _of_routine(
        self, routine: Routine, calls: list[Callback], clocks: timing.Clocks
    ) -> list[Anomaly]:
        """What is slow or cannot be told of calls that have a duration."""
        found: list[Anomaly] = []
        name, subject = f"{routine.callback} of {routine.label}", routine.filter or ""
        bounds: list[Any] = [(row.duration_low_ns, row.duration_high_ns) for row in calls]
        place = max(range(len(bounds)), key=lambda n: bounds[n][0])
        low, high = bounds[place]
        call, offset = calls[place].call, calls[place].origin.file_offset
        origin = Origin(self.path, clocks.how, "certain", offset, routine.address)
        evidence = (f"duration_low_ns = {low}", f"duration_high_ns = {high}", f"call = {call}")
        over = sum(one > timing.LIMIT_NS for one, _ in bounds)
        if over:
            text = f"{over} of {len(calls)} calls of {name} took more than 1 s; the longest at "
            text += f"least {low / 1e9:.3f} s (call {call})."
            found.append(Anomaly("callback-slow", text, origin, subject, evidence))
        others = timing.statistics(bounds[:place] + bounds[place + 1 :])
        if not over and others is not None and timing.stands_out(low, others):
            text = f"Call {call} of {name} took at least {low / 1e6:.3f} ms; the "
            text += f"other {others.count} calls took {others.high / 1e6:.3f} ms at most "
            text += "in the median."
            found.append(Anomaly("callback-slow-outlier", text, origin, subject, evidence))
        below = sum(not isinstance(row.duration_ns, int) for row in calls)
        if below and clocks.is_calibrated:
            text = f"{below} of {len(calls)} calls of {name} were shorter than the debugger's own "
            text += f"noise; they took at most {max(h for lo, h in bounds if not lo) / 1e6:.3f} ms."
            found.append(Anomaly("duration-below-noise", text, origin, subject))
        return found


def _row(call: Call, clocks: timing.Clocks, where: Any, path: str) -> Callback:
    """The record of a call; it is made for millions of calls."""
    value: Any
    low: Any
    high: Any
    routine = call.routine
    cpu, host, tsc, extension = call.entry or _UNSEEN
    back_cpu, back_host, back_tsc, status = call.back or _UNSEEN
    if call.back is None:
        value = low = high = timing.NO_RETURN
    elif call.entry is None:
        value = low = high = timing.NO_ENTRY
    else:
        value, low, high = clocks.span(*((host, back_host) if clocks.is_host else (tsc, back_tsc)))
    back = timing.NO_RETURN if call.back is None else _UNTOLD
    no_entry = timing.NO_ENTRY if call.entry is None else _UNTOLD
    name: Any = back
    if status is not None:
        status &= 0xFFFFFFFF
        name = ntstatus.name(status)
    how = "capture" if low.__class__ is Absent else clocks.how
    # The same as Callback(...) and Origin(...), which cost a call of Python each.
    made: Callback = _new(Callback, (
        routine.filter or _UNTOLD,
        routine.stack or _UNTOLD,
        routine.callback,
        _UNTOLD if routine.address is None else routine.address,
        where,
        call.number,
        "yes",
        back_cpu if cpu is None else cpu,
        no_entry if host is None else host,
        no_entry if tsc is None else tsc,
        back if back_tsc is None else back_tsc,
        value,
        low,
        high,
        back if status is None else status,
        name,
        _UNTOLD if extension is None else extension,
        _new(Origin, (path, how, "certain", call.offset, routine.address)),
    ))  # fmt: skip
    return made


def _odd(call: Call, row: Callback, lost: str, stop: str) -> list[Anomaly]:
    has_entry, has_return = call.entry is not None, call.back is not None
    cpu, _, tsc, _ = call.entry or _UNSEEN
    back_cpu, _, back_tsc, _ = call.back or _UNSEEN
    is_backwards = tsc is not None and back_tsc is not None and back_tsc < tsc
    has_moved = cpu is not None and back_cpu not in (None, cpu)
    if has_entry and has_return and not (stop or has_moved or is_backwards):
        return []
    routine, found = call.routine, []
    name = f"Call {call.number} of {routine.callback} of {routine.label}"
    subject = routine.filter or ""
    if stop:
        text = f"{name} was under way when the target stopped with an exception: {stop}."
        found.append(Anomaly("callback-exception", text, row.origin, subject))
    if not has_return:
        text = f"{name} did not return while it was watched: {lost}."
        found.append(Anomaly("callback-never-returned", text, row.origin, subject))
    elif not has_entry:
        text = f"{name} returned, and its entry was not seen."
        found.append(Anomaly("callback-no-entry", text, row.origin, subject))
    elif has_moved:
        text = f"{name} was entered on processor {cpu} and returned on {back_cpu}."
        found.append(Anomaly("callback-changed-processor", text, row.origin, subject))
    if is_backwards:
        text = f"{name} has a clock of {tsc:#x} at its entry and {back_tsc:#x} at its return."
        found.append(Anomaly("capture-clock-backwards", text, row.origin, subject))
    return found
