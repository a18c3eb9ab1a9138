"""The calls of a capture as a table that makes a row when it is asked for.

Invariant: a row is the same whether it is asked for alone, by its kind or as part of a column.
Calls of one *kind* have equal rows but for :data:`VARYING`, so who wants names, statuses or reasons
looks at one row of each. Standard library only until a table is large (:meth:`Captured.is_bulk`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Callable

from ..absence import Absent
from ..names import ntstatus
from ..records import Anomaly, Callback, Origin
from . import capture_timing as timing

#: what a call has: an entry, a return, and each of their numbers
ENTRY, RETURN = 1, 2
BITS = {
    "cpu": 4, "host": 8, "tsc": 16, "extension": 32, "back_cpu": 64, "back_host": 128,
    "back_tsc": 256, "status": 512,
}  # fmt: skip
#: columns in which calls of one kind differ
VARYING = (
    "call", "processor", "entry_time", "entry_clock", "return_clock", "duration_ns",
    "duration_low_ns", "duration_high_ns", "extension", "file_offset",
)  # fmt: skip
_PLAIN = {
    "call": "number", "entry_time": "host", "entry_clock": "tsc", "return_clock": "back_tsc",
    "extension": "extension", "file_offset": "offset",
}  # fmt: skip
_SIGNED = (1 << 63) - 1
_MOST_ROUTINES = 1 << 16
_FEW_KINDS = 64

_UNTOLD = Absent("not-recorded", "the capture does not tell it")
_new: Any = tuple.__new__


class Captured:
    """Calls of one capture: all of them, or those at some places of its columns."""

    def __init__(
        self, columns: dict[str, Any], routines: Sequence[Any], symbols: Sequence[Any],
        clocks: timing.Clocks, path: str,
    ) -> None:  # fmt: skip
        self._columns, self._routines, self._symbols = columns, routines, symbols
        self._clocks, self.path = clocks, path
        self.varying = VARYING
        self._at: Any = None  #: places in the columns; None: all
        self._codes: Any = None
        self._spans: Any = None

    def __len__(self) -> int:
        return len(self._columns["flags"] if self._at is None else self._at)

    def __iter__(self) -> Iterator[Callback]:
        return map(self._row, range(len(self)) if self._at is None else map(int, self._at))

    def __getitem__(self, place: Any) -> Any:
        places = range(len(self))[place]
        if isinstance(places, range):
            return [self[one] for one in places]
        return self._row(places if self._at is None else int(self._at[places]))

    def _row(self, call: int) -> Callback:
        columns = self._columns
        flags, routine = columns["flags"][call], self._routines[columns["routine"][call]]
        number = {name: columns[name][call] if flags & bit else None for name, bit in BITS.items()}
        value: Any
        low: Any
        high: Any
        back = _UNTOLD if flags & RETURN else timing.NO_RETURN
        no_entry = _UNTOLD if flags & ENTRY else timing.NO_ENTRY
        if not flags & RETURN:
            value = low = high = timing.NO_RETURN
        elif not flags & ENTRY:
            value = low = high = timing.NO_ENTRY
        elif self._clocks.is_host:
            value, low, high = self._clocks.span(number["host"], number["back_host"])
        else:
            value, low, high = self._clocks.span(number["tsc"], number["back_tsc"])
        status: Any = number["status"]
        name: Any = back
        if status is not None:
            status &= 0xFFFFFFFF
            name = ntstatus.name(status)
        how = "capture" if low.__class__ is Absent else self._clocks.how
        # The same as Callback(...) and Origin(...), which cost a call of Python each.
        made: Callback = _new(Callback, (
            routine.filter or _UNTOLD,
            routine.stack or _UNTOLD,
            routine.callback,
            _UNTOLD if routine.address is None else routine.address,
            self._symbols[routine.place],
            columns["number"][call],
            "yes",
            number["back_cpu"] if number["cpu"] is None else number["cpu"],
            no_entry if number["host"] is None else number["host"],
            no_entry if number["tsc"] is None else number["tsc"],
            back if number["back_tsc"] is None else number["back_tsc"],
            value,
            low,
            high,
            back if status is None else status,
            name,
            _UNTOLD if number["extension"] is None else number["extension"],
            _new(Origin, (self.path, how, "certain", columns["offset"][call], routine.address)),
        ))  # fmt: skip
        return made

    # -- what is odd about single calls ------------------------------------------------------------

    def odd(self) -> list[int]:
        """Calls without entry or return, on two processors, or with a clock that ran back."""
        if self._spans is not None:
            import numpy as np

            flags, column = self._array("flags"), self._array
            odd = flags & (ENTRY | RETURN) != ENTRY | RETURN
            both = BITS["cpu"] | BITS["back_cpu"]
            odd |= (flags & both == both) & (column("cpu") != column("back_cpu"))
            both = BITS["tsc"] | BITS["back_tsc"]
            odd |= (flags & both == both) & (column("tsc") > column("back_tsc"))
            return np.flatnonzero(odd).tolist()
        return [place for place in range(len(self)) if self._oddity(place)[0]]

    def _oddity(self, call: int) -> tuple[bool, bool, bool]:
        """(is anything odd, has the processor changed, does the clock run back)."""
        columns = self._columns
        flags = columns["flags"][call]
        both = BITS["cpu"] | BITS["back_cpu"]
        has_moved = flags & both == both and columns["cpu"][call] != columns["back_cpu"][call]
        both = BITS["tsc"] | BITS["back_tsc"]
        is_behind = flags & both == both and columns["back_tsc"][call] < columns["tsc"][call]
        both = ENTRY | RETURN
        return flags & both != both or has_moved or is_behind, has_moved, is_behind

    def oddities(self, call: int, lost: str, stop: str) -> list[Anomaly]:
        """What is odd about one call, in words."""
        columns, row = self._columns, self._row(call)
        flags, routine = columns["flags"][call], self._routines[columns["routine"][call]]
        _, has_moved, is_behind = self._oddity(call)
        found = []
        name = f"Call {row.call} of {routine.callback} of {routine.label}"
        subject = routine.filter or ""
        if stop:
            text = f"{name} was under way when the target stopped with an exception: {stop}."
            found.append(Anomaly("callback-exception", text, row.origin, subject))
        if not flags & RETURN:
            text = f"{name} did not return while it was watched: {lost}."
            found.append(Anomaly("callback-never-returned", text, row.origin, subject))
        elif not flags & ENTRY:
            text = f"{name} returned, and its entry was not seen."
            found.append(Anomaly("callback-no-entry", text, row.origin, subject))
        elif has_moved:
            cpus = columns["cpu"][call], columns["back_cpu"][call]
            text = f"{name} was entered on processor {cpus[0]} and returned on {cpus[1]}."
            found.append(Anomaly("callback-changed-processor", text, row.origin, subject))
        if is_behind:
            clocks = columns["tsc"][call], columns["back_tsc"][call]
            text = f"{name} has a clock of {clocks[0]:#x} at its entry and {clocks[1]:#x} at its "
            found.append(Anomaly("capture-clock-backwards", text + "return.", row.origin, subject))
        return found

    # -- durations ---------------------------------------------------------------------------------

    def timed(self) -> dict[int, timing.Timed]:
        """The calls of each routine that have bounds of their duration."""
        if self._spans is None:
            found: dict[int, timing.Timed] = {}
            for place, row in enumerate(self):
                if isinstance(row.duration_low_ns, int):
                    routine = self._columns["routine"][place]
                    timed = found.setdefault(routine, timing.Timed([], [], [], 0))
                    timed.places.append(place)
                    timed.lows.append(row.duration_low_ns)
                    timed.highs.append(row.duration_high_ns)
                    if isinstance(row.duration_ns, int):
                        found[routine] = timed._replace(exact=timed.exact + 1)
            return found
        import numpy as np

        why, _, low, high = self._spans
        routine, is_timed = self._array("routine"), why >= timing.BOUND
        found = {}
        for one in np.unique(routine[is_timed]).tolist():
            at = np.flatnonzero(is_timed & (routine == one))
            exact = int((why[at] == timing.EXACT).sum())
            found[one] = timing.Timed(at, low[at], high[at], exact)
        return found

    def by_routine(self) -> Iterator[tuple[Callback, timing.Timed]]:
        """A row of each routine, and the calls of it that have bounds of their duration."""
        for timed in self.timed().values():
            yield self._row(int(timed.places[0])), timed

    # -- large tables ------------------------------------------------------------------------------

    def is_bulk(self) -> bool:
        """True when all can be told from columns: with numpy, and with numbers that fit."""
        if self._spans is not None:
            return True
        try:
            import numpy as np
        except ImportError:  # inside a debugger
            return False
        if len(self._routines) >= _MOST_ROUTINES or not len(self):
            return False
        names = ("cpu", "back_cpu", "host", "offset")
        if any(int(self._array(name).max()) > _SIGNED for name in names):
            return False
        flags = self._array("flags")
        clock = "host" if self._clocks.is_host else "tsc"
        start, end = self._array(clock), self._array(f"back_{clock}")
        both = BITS[clock] | BITS[f"back_{clock}"]
        why = np.full(len(self), timing.TIMED, np.uint8)
        why[flags & both != both] = timing.REASONS.index(timing.NO_CLOCK)
        why[(why == timing.TIMED) & (end < start)] = timing.REASONS.index(timing.BACKWARDS)
        why[flags & ENTRY == 0] = timing.REASONS.index(timing.NO_ENTRY)
        why[flags & RETURN == 0] = timing.REASONS.index(timing.NO_RETURN)
        self._spans = self._clocks.spans(why, np.where(why == timing.TIMED, end - start, 0))
        return self._spans is not None

    def _array(self, name: str) -> Any:
        import numpy as np

        column = self._columns[name]
        return np.frombuffer(column, f"u{column.itemsize}")

    def _all(self) -> tuple[Any, list[int]]:
        """Of all calls: the kind of each; of the kinds: their first call."""
        import numpy as np

        if self._codes is None:
            flags, why = self._array("flags").astype(np.uint64), self._spans[0].astype(np.uint64)
            u = np.uint64
            key = self._array("status") & u(0xFFFFFFFF) | flags << u(32) | why << u(42)
            key |= self._array("routine").astype(np.uint64) << u(46)
            self._codes = _factorized(key)
        return self._codes  # type: ignore[no-any-return]

    def kinds(self) -> tuple[list[Callback], list[int], Any]:
        """One row of each kind and how many there are, in order; the kind of each call."""
        import numpy as np

        codes, firsts = self._all()
        if self._at is None:
            all_of = np.bincount(codes, minlength=len(firsts)).tolist()
            return [self._row(first) for first in firsts], all_of, codes
        _, first, inverse, counts = np.unique(
            codes[self._at], return_index=True, return_inverse=True, return_counts=True
        )
        order = np.argsort(first)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        rows = [self._row(int(self._at[at])) for at in first[order].tolist()]
        return rows, counts[order].tolist(), place[inverse]

    def extents(self) -> Iterator[tuple[int, Callback, int, Any, Any]]:
        """Of each kind: place and row of the first, how many, shortest and longest duration.

        Where no duration is exact, those of the upper bounds.
        """
        import numpy as np

        rows, counts, codes = self.kinds()
        order = np.argsort(codes, kind="stable")
        starts = np.cumsum([0, *counts[:-1]])
        columns = [self.column(name)[order] for name in ("duration_ns", "duration_high_ns")]
        ends = [(np.minimum.reduceat(c, starts), np.maximum.reduceat(c, starts)) for c in columns]
        for place, (row, count) in enumerate(zip(rows, counts)):
            low: Any = row.duration_high_ns
            high: Any = low
            for value, (lows, highs) in zip((row.duration_ns, low), ends):
                if isinstance(value, int):
                    low, high = int(lows[place]), int(highs[place])
                    break
            yield int(order[starts[place]]), row, count, low, high

    def where(self, wanted: Callable[[Callback], bool]) -> Captured:
        """The calls of the kinds of which ``wanted`` holds."""
        import numpy as np

        rows, _, codes = self.kinds()
        keep = np.array([wanted(row) for row in rows], bool)[codes]
        view = Captured(self._columns, self._routines, self._symbols, self._clocks, self.path)
        view._spans, view._codes = self._spans, self._all()
        view._at = np.flatnonzero(keep) if self._at is None else self._at[keep]
        return view

    def column(self, name: str) -> Any:
        """Numbers of one of the :data:`VARYING` columns; any number where there is none."""
        import numpy as np

        if name in _PLAIN:
            column = self._array(_PLAIN[name])
        elif name == "processor":
            known = self._array("flags") & BITS["cpu"] != 0
            column = np.where(known, self._array("cpu"), self._array("back_cpu"))
        else:
            place = ("duration_ns", "duration_low_ns", "duration_high_ns").index(name)
            column = self._spans[1 + place]
        return column if self._at is None else column[self._at]


def _factorized(key: Any) -> tuple[Any, list[int]]:
    """The place of each value among the different ones, and where each of those is first."""
    import numpy as np

    codes = np.zeros(len(key), np.uint32)
    firsts: list[int] = []
    rest = np.arange(len(key))
    while len(rest) and len(firsts) < _FEW_KINDS:  # most calls are of a few kinds
        same = key == key[0]
        codes[rest[same]] = len(firsts)
        firsts.append(int(rest[0]))
        rest, key = rest[~same], key[~same]
    if len(rest):
        _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        order = np.argsort(first)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        codes[rest] = place[inverse] + len(firsts)
        firsts += rest[first[order]].tolist()
    return codes, firsts


class CallTable(Sequence[Callback]):
    """Callback rows of several sources; stands where a list of them could."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = [part for part in parts if len(part)]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __iter__(self) -> Iterator[Callback]:
        for part in self.parts:
            yield from part

    def __getitem__(self, place: Any) -> Any:
        places = range(len(self))[place]
        if isinstance(places, range):
            return [self[one] for one in places]
        for part in self.parts:
            if places < len(part):
                return part[places]
            places -= len(part)
        raise IndexError(place)

    def of(self, tables: Sequence[CallTable]) -> CallTable:
        """A table of the rows of some."""
        return CallTable([part for table in tables for part in table.parts])

    def append(self, row: Callback) -> None:
        """Adds one record."""
        self.extend([row])

    def extend(self, rows: Sequence[Callback]) -> None:
        """Adds records, those of another table without making its rows."""
        more = rows.parts if isinstance(rows, CallTable) else [list(rows)]
        self.parts += [part for part in more if len(part)]

    def joined(self, rows: Sequence[Callback]) -> CallTable:
        """A table of these rows behind others."""
        return CallTable([*(rows.parts if isinstance(rows, CallTable) else [rows]), *self.parts])

    def where(self, wanted: Callable[[Callback], bool]) -> CallTable:
        """The rows of which ``wanted`` holds; it must not look at what varies."""
        return CallTable(
            [
                part.where(wanted) if isinstance(part, Captured) else list(filter(wanted, part))
                for part in self.parts
            ]
        )

    def durations(self) -> dict[tuple[str, str], timing.Statistics | None]:
        """Statistics by filter and callback."""
        found: dict[tuple[str, str], list[timing.Timed]] = {}
        for part in self.parts:
            for row, timed in part.by_routine() if isinstance(part, Captured) else ():
                key = (str(row.filter or "an unnamed filter").lower(), str(row.callback))
                found.setdefault(key, []).append(timed)
        return {key: timing.together(parts).statistics() for key, parts in found.items()}

    def by_source(self) -> dict[str, CallTable]:
        """The rows of each source."""
        found: dict[str, list[Any]] = {}
        for part in self.parts:
            if isinstance(part, Captured):
                found.setdefault(part.path, []).append(part)
                continue
            own: dict[str, list[Callback]] = {}
            for row in part:
                own.setdefault(row.origin.source, []).append(row)
            for source, rows in own.items():
                found.setdefault(source, []).append(rows)
        return {source: CallTable(parts) for source, parts in found.items()}
