"""Time 0 of the timeline: which crash a row is of, and how far from that crash its time is.

Invariant: times of different crashes are never compared; a row of no certain crash has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from .. import formatting as fmt
from ..absence import first_present, is_absent
from ..answer import crash as crash_words
from ..checks.crashes import FAILED, Index
from ..files import called
from ..records import Records
from ..tables import iso_time


def leading(index: Index) -> list[int]:
    """The numbers of the crashes: those whose dump failed first, the newest first among alike."""
    failed = {n for n, rows in index.by_number.items() if any(r.outcome == FAILED for r in rows)}
    return sorted(index.numbers(), key=lambda n: (n not in failed, -n))


class Clock:
    """Time 0 of each source."""

    def __init__(self, records: Records) -> None:
        machines = records["machine"]
        self._own: dict[str, int] = {}
        for machine in machines:
            if not is_absent(machine.system_time):
                self._own.setdefault(machine.origin.source, machine.system_time)
        self.crash = first_present(m.system_time for m in machines)
        self._first: int | None = None
        if self.crash is None:
            times = [c.entry_time for c in records["callbacks"] if not is_absent(c.entry_time)]
            times += [t for r in records["requests"] for t in (r.start, r.end) if not is_absent(t)]
            times += [s.time for s in records["stages"] if not is_absent(s.time)]
            if not times:
                first = (e.time for e in islice(iter(records["events"]), 1))
                times = [t for t in first if not is_absent(t)]
            self._first = min(times, default=None)
        self._several = len(records["sources"]) > 1
        self._index = Index(records["crashes"])
        self._times = {
            n: time for n in self._index.numbers() if (time := self._time(n)) is not None
        }
        self.last_ms: dict[str, int] = {}  #: source -> the last time its steps state so far

    def _time(self, number: int) -> int | None:
        """When a crash was; else the first time that was logged after it."""
        rows = self._index.by_number[number]
        times = [(r.time, str(r.tells)) for r in rows if isinstance(r.time, int)]
        exact = [time for time, tells in times if not tells.startswith("event ")]
        return min(exact or [time for time, _ in times], default=None)

    def crash_of(self, origin: Any, time: Any = None) -> int | None:
        """The crash that a row is of; that of an event is the one nearest to it in time."""
        number = self._index.of(origin)
        if number is not None or not self._times:
            return number
        if len(self._index.by_number) == 1:
            return next(iter(self._index.by_number))
        if is_absent(time) or origin.source in self._own:
            return None
        return min(self._times, key=lambda n: abs(self._times[n] - time))

    def crashes(self, records: Records) -> Iterator[tuple[int, str, str]]:
        """Number, title and time 0 of each crash, the leading first."""
        names = fmt.file_names(r.origin.source for r in records["crashes"])
        for number in leading(self._index):
            rows = self._index.by_number[number]
            is_exact = any(not str(r.tells).startswith("event ") for r in rows)
            what = "the crash" if is_exact else "the first event after the crash"
            time = self._times.get(number)
            zero = what if time is None else f"{what}, {iso_time(time)}"
            yield number, fmt.capital(crash_words.line(self._index, number, names)), zero

    def lane(self, origin: Any, *parts: str, time: Any = None) -> str:
        name = " ".join(filter(None, parts))
        if not self._several:
            return name
        name = f"{fmt.clean(called(origin.source), 40)}: {name}"
        number = self.crash_of(origin, time) if len(self._index.by_number) > 1 else None
        return name if number is None else f"crash {number}: {name}"

    def at(self, origin: Any, time: Any) -> int | None:
        """The time from the crash in ns; None when there is no time or nothing to compare with."""
        if is_absent(time):
            return None
        zero = self._own.get(origin.source)
        if zero is None:
            number = self.crash_of(origin, time)
            zero = None if number is None else self._times.get(number)
        if zero is None:
            zero = self.crash if self.crash is not None else self._first
        return None if zero is None else int(time - zero)

    def words(self) -> str:
        if len(self._times) > 1:
            return "the crash that each lane is of"
        if len(set(self._own.values())) > 1:
            return "the crash that each file is of"
        if self.crash is not None:
            return f"the crash, {iso_time(self.crash)}"
        if self._first is not None:
            return f"the first time that was recorded, {iso_time(self._first)}"
        return "the moment the bugcheck began"
