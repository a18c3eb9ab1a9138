"""Time 0 of the timeline: which crash a row is of, and how far from that crash its time is.

Invariant: times of different crashes are never compared, nor those of recordings far apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from .. import formatting as fmt
from ..absence import first_present, is_absent
from ..answer import crash as crash_words
from ..checks.crashes import FAILED, Index
from ..files import called
from ..records import Origin, Records, Time

_TIMES = (("callbacks", ("entry_time",)), ("requests", ("start", "end")), ("stages", ("time",)))
_FIRST = "the first call, request or step that was recorded"
_FAR_NS = 600 * 1_000_000_000  # recordings farther apart have a time axis each


def leading(index: Index) -> list[int]:
    """The numbers of the crashes: those whose dump failed first, the newest first among alike."""
    failed = {n for n, rows in index.by_number.items() if any(r.outcome == FAILED for r in rows)}
    return sorted(index.numbers(), key=lambda n: (n not in failed, -n))


class Run(NamedTuple):
    """Recordings that follow one another closely, where no crash is known."""

    number: int  #: below 0, to be no crash
    sources: tuple[str, ...]
    start: int  #: ns since 1970


def _spans(records: Records) -> dict[str, tuple[int, int]]:
    """First and last time of the calls, requests and steps of each source."""
    found: dict[str, tuple[int, int]] = {}
    for table, names in _TIMES:
        for row in records[table]:
            for time in (getattr(row, name) for name in names):
                if not is_absent(time):
                    low, high = found.get(row.origin.source, (time, time))
                    found[row.origin.source] = (min(low, time), max(high, time))
    return found


def _runs(spans: dict[str, tuple[int, int]]) -> dict[str, Run]:
    """The run of each source; none where all belong to one."""
    groups: list[list[str]] = []
    end = 0
    for source in sorted(spans, key=lambda source: spans[source]):
        first, last = spans[source]
        if not groups or first - end > _FAR_NS:
            groups.append([])
        groups[-1].append(source)
        end = max(end, last)
    runs = [Run(-1 - k, tuple(g), spans[g[0]][0]) for k, g in enumerate(groups)]
    return {source: run for run in runs for source in run.sources} if len(runs) > 1 else {}


class Clock:
    """Time 0 of each source."""

    def __init__(self, records: Records) -> None:
        machines = records["machine"]
        self._own: dict[str, int] = {}
        for machine in machines:
            if not is_absent(machine.system_time):
                self._own.setdefault(machine.origin.source, machine.system_time)
        self.crash: int | None = first_present(m.system_time for m in machines)
        self._first: int | None = None
        self._what = _FIRST
        self._runs: dict[str, Run] = {}
        if self.crash is None:
            spans = _spans(records)
            self._first = min((first for first, _ in spans.values()), default=None)
            if not spans:
                times = (e.time for e in islice(iter(records["events"]), 1))
                self._first = next((t for t in times if not is_absent(t)), None)
                self._what = "the first event that was recorded"
            elif not records["crashes"]:
                self._runs = _runs(spans)
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

    def crash_of(self, origin: Origin, time: Time = None) -> int | None:
        """The crash that a row is of; that of an event is the one nearest to it in time."""
        if origin.source in self._runs:
            return self._runs[origin.source].number
        number = self._index.of(origin)
        if number is not None or not self._times:
            return number
        if len(self._index.by_number) == 1:
            return next(iter(self._index.by_number))
        if not isinstance(time, int) or origin.source in self._own:
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
            zero = what if time is None else f"{what}, {fmt.instant(time)}"
            yield number, fmt.capital(crash_words.line(self._index, number, names)), zero
        names = fmt.file_names(self._runs)
        for run in dict.fromkeys(self._runs.values()):
            zero = f"{_FIRST}, {fmt.instant(run.start)}"
            yield run.number, fmt.some([names[source] for source in run.sources]), zero

    def lane(self, origin: Origin, *parts: str, time: Time = None) -> str:
        name = " ".join(filter(None, parts))
        if not self._several:
            return name
        name = f"{fmt.clean(called(origin.source), 40)}: {name}"
        number = self.crash_of(origin, time) if len(self._index.by_number) > 1 else None
        return name if number is None else f"crash {number}: {name}"

    def at(self, origin: Origin, time: Time) -> int | None:
        """The time from the crash in ns; None when there is no time or nothing to compare with."""
        if not isinstance(time, int):
            return None
        zero = self._own.get(origin.source)
        if zero is None and origin.source in self._runs:
            zero = self._runs[origin.source].start
        if zero is None:
            number = self.crash_of(origin, time)
            zero = None if number is None else self._times.get(number)
        if zero is None:
            zero = self.crash if self.crash is not None else self._first
        return None if zero is None else time - zero

    def words(self) -> str:
        if self._runs:
            return f"{_FIRST} of each run"
        if len(self._times) > 1:
            return "the crash that each lane is of"
        if len(set(self._own.values())) > 1:
            return "the crash that each file is of"
        if self.crash is not None:
            return f"the crash, {fmt.instant(self.crash)}"
        if self._first is not None:
            return f"{self._what}, {fmt.instant(self._first)}"
        return "the moment the bugcheck began"
