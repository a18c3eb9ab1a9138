"""The calls of a capture: entries and returns joined by number, timed, and told as records.

Invariant: the return that a fact names belongs to the call of the same number and to no other; a
call is called "never returned" only as far as the capture goes. Standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..absence import Absent
from ..names import ntstatus
from ..records import Anomaly, Callback, Module, Origin, Records
from ..target import symbol
from . import capture_timing as timing
from .capture_format import Fact, number, text

_MAX_TOLD = 100  #: findings of one kind; the rest is counted


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

    __slots__ = (
        "back_cpu", "back_host", "back_tsc", "cpu", "entry_host", "entry_tsc", "extension",
        "has_entry", "has_return", "lost", "number", "offset", "routine", "status", "stop",
    )  # fmt: skip

    def __init__(self, routine: Routine, place: int, offset: int) -> None:
        self.routine, self.number, self.offset = routine, place, offset
        self.has_entry = self.has_return = False
        self.cpu: int | None = None
        self.back_cpu: int | None = None
        self.entry_host: int | None = None
        self.entry_tsc: int | None = None
        self.back_host: int | None = None
        self.back_tsc: int | None = None
        self.extension: int | None = None
        self.status: int | None = None
        self.lost = ""
        self.stop = ""


class Calls:
    """Takes the facts about calls in order."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._routines: dict[int, Routine] = {}
        self._open: dict[int, Call] = {}
        self._all: list[Call] = []
        self.last: Call | None = None  #: of the fact just taken
        self._tsc_noise: list[int] = []
        self._host_noise: list[int] = []
        self._registered: list[Callback] = []
        self._nested: list[tuple[Call, Call]] = []

    def __len__(self) -> int:
        return len(self._all)

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
        key, routine = number(fact, "n"), self._routines.get(number(fact, "id"))  # type: ignore[arg-type]
        if key is None or routine is None or key in self._open:
            return False
        call = Call(routine, routine.calls, offset)
        routine.calls += 1
        call.has_entry = True
        call.cpu, call.entry_host = number(fact, "cpu"), number(fact, "host")
        call.entry_tsc, call.extension = number(fact, "tsc"), number(fact, "extension")
        if self._open and len(self._nested) < _MAX_TOLD:
            outer = next((o for o in self._open.values() if o.cpu == call.cpu), None)
            if outer is not None:
                self._nested.append((outer, call))
        self._open[key] = self.last = call
        self._all.append(call)
        return True

    def back(self, fact: Fact, offset: int) -> bool:
        """A callback returned."""
        call = self._open.pop(number(fact, "n"), None)  # type: ignore[arg-type]
        self.last = call
        if call is None:
            routine = self._routines.get(number(fact, "id"))  # type: ignore[arg-type]
            if routine is None:
                return False
            self.last = call = Call(routine, routine.calls, offset)
            routine.calls += 1
            self._all.append(call)
        call.has_return = True
        call.back_cpu, call.back_host = number(fact, "cpu"), number(fact, "host")
        call.back_tsc, call.status = number(fact, "tsc"), number(fact, "status")
        if call.status is not None:
            call.status &= 0xFFFFFFFF
        return True

    def lost(self, fact: Fact) -> bool:
        """The capture saw that a call cannot return any more."""
        call = self._open.pop(number(fact, "n"), None)  # type: ignore[arg-type]
        if call is None:
            return False
        call.lost = text(fact, "why") or "its frame is gone"
        return True

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
                    call.stop = text(fact, "detail") or "an exception"

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
        spans: dict[Routine, list[tuple[Call, timing.Span]]] = {}
        symbols: dict[Routine, Any] = {}
        rows: list[Callback] = []
        odd: list[Anomaly] = []
        for call in self._all:
            routine = call.routine
            if routine not in symbols:
                address = routine.address
                symbols[routine] = None if address is None else symbol(modules, address)
            span, how = clocks.span(call)
            if how and isinstance(span.low, int):
                spans.setdefault(routine, []).append((call, span))
            origin = Origin(self.path, how or "capture", "certain", call.offset, routine.address)
            rows.append(_row(call, span, symbols[routine], origin))
            if len(odd) < _MAX_TOLD:
                odd += _odd(call, origin, ending)
        self._untold(rows, is_whole, ending)
        out.tables["callbacks"] += rows
        out.add(*odd, *self._recursion(), *self._bounds(), *self._timing(spans, clocks))

    def _untold(self, rows: list[Callback], is_whole: bool, ending: str) -> None:
        """Rows of the callbacks that were registered and of which no call was seen."""
        armed = {routine.address for routine in self._routines.values()}
        seen = {call.routine.address for call in self._all}
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
            rows.append(row._replace(was_called=called, origin=row.origin._replace(how=how)))

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

    def durations(self, frequency: timing.Frequency | None) -> dict[tuple[str, str], Any]:
        """(filter, callback) -> statistics of its durations, for a comparison."""
        clocks = timing.Clocks(frequency, self._tsc_noise, self._host_noise)
        bounds: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for call in self._all:
            span, how = clocks.span(call)
            if how and isinstance(span.low, int) and isinstance(span.high, int):
                key = (str(call.routine.filter).lower(), call.routine.callback)
                bounds.setdefault(key, []).append((span.low, span.high))
        return {key: timing.statistics(pairs) for key, pairs in bounds.items()}

    def _timing(
        self, spans: dict[Routine, list[tuple[Call, timing.Span]]], clocks: timing.Clocks
    ) -> list[Anomaly]:
        found: list[Anomaly] = []
        for routine, calls in spans.items():
            name = f"{routine.callback} of {routine.label}"
            bounds = [(int(s.low), int(s.high)) for _, s in calls]  # type: ignore[arg-type]
            longest = max(calls, key=lambda pair: int(pair[1].low or 0))
            origin = Origin(self.path, clocks.how, "certain", longest[0].offset, routine.address)
            low = int(longest[1].low or 0)
            evidence = (
                f"duration_low_ns = {low}", f"duration_high_ns = {longest[1].high}",
                f"call = {longest[0].number}",
            )  # fmt: skip
            subject = routine.filter or ""
            over = sum(1 for one, _ in bounds if one > timing.LIMIT_NS)
            if over:
                text = f"{over} of {len(calls)} calls of {name} took more than 1 s; the longest at "
                text += f"least {low / 1e9:.3f} s (call {longest[0].number})."
                found.append(Anomaly("callback-slow", text, origin, subject, evidence))
            others = timing.statistics(
                (int(s.low), int(s.high))
                for c, s in calls
                if c is not longest[0]  # type: ignore[arg-type]
            )
            if not over and others is not None and timing.stands_out(low, others):
                text = f"Call {longest[0].number} of {name} took at least {low / 1e6:.3f} ms; the "
                text += f"other {others.count} calls took {others.high / 1e6:.3f} ms at most "
                text += "in the median."
                found.append(Anomaly("callback-slow-outlier", text, origin, subject, evidence))
            below = sum(1 for _, s in calls if not isinstance(s.value, int))
            if below and clocks.is_calibrated:
                text = (
                    f"{below} of {len(calls)} calls of {name} were shorter than the debugger's own "
                )
                text += (
                    f"noise; they took at most {max(h for lo, h in bounds if not lo) / 1e6:.3f} ms."
                )
                found.append(Anomaly("duration-below-noise", text, origin, subject))
        if spans and not clocks.is_calibrated:
            text = "The debugger's own cost was not measured: each duration is an upper bound only."
            found.append(Anomaly("duration-uncalibrated", text, Origin(self.path, clocks.how)))
        if self._all and clocks.is_host:
            text = "The frequency of the target's clock is not known: durations are taken from the "
            text += "debugger's own clock and are coarse."
            found.append(Anomaly("duration-host-clock", text, Origin(self.path, clocks.how)))
        return found


def _row(call: Call, span: timing.Span, where: Any, origin: Origin) -> Callback:
    routine = call.routine
    missing = Absent("not-recorded", "the capture does not tell it")
    back = missing if call.has_return else timing.NO_RETURN
    no_entry = missing if call.has_entry else timing.NO_ENTRY
    status = call.status
    return Callback(
        routine.filter or missing,
        routine.stack or missing,
        routine.callback,
        missing if routine.address is None else routine.address,
        missing if where is None else where,
        call.number,
        "yes",
        (call.back_cpu if call.cpu is None else call.cpu),
        no_entry if call.entry_host is None else call.entry_host,
        no_entry if call.entry_tsc is None else call.entry_tsc,
        back if call.back_tsc is None else call.back_tsc,
        *span,
        back if status is None else status,
        back if status is None else ntstatus.name(status),
        missing if call.extension is None else call.extension,
        origin,
    )


def _odd(call: Call, origin: Origin, ending: str) -> list[Anomaly]:
    routine, found = call.routine, []
    name = f"Call {call.number} of {routine.callback} of {routine.label}"
    subject = routine.filter or ""
    if call.stop:
        text = f"{name} was under way when the target stopped with an exception: {call.stop}."
        found.append(Anomaly("callback-exception", text, origin, subject))
    if not call.has_return:
        text = f"{name} did not return while it was watched: {call.lost or ending}."
        found.append(Anomaly("callback-never-returned", text, origin, subject))
    elif not call.has_entry:
        text = f"{name} returned, and its entry was not seen."
        found.append(Anomaly("callback-no-entry", text, origin, subject))
    elif call.cpu is not None and call.back_cpu not in (None, call.cpu):
        text = f"{name} was entered on processor {call.cpu} and returned on {call.back_cpu}."
        found.append(Anomaly("callback-changed-processor", text, origin, subject))
    if call.entry_tsc is not None and call.back_tsc is not None and call.back_tsc < call.entry_tsc:
        text = f"{name} has a clock of {call.entry_tsc:#x} at its entry and {call.back_tsc:#x} at "
        found.append(Anomaly("capture-clock-backwards", text + "its return.", origin, subject))
    return found
