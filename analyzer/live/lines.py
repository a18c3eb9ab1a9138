"""What a capture prints while it runs: one line a call, writes summed up.

Invariant: made of the facts that the capture file gets, so both say the same; a duration is printed
with the debugger's cost taken off, or as "at most" while that is not known. Standard library only.
"""

from __future__ import annotations

from statistics import median
from typing import Callable

from ..names import ntstatus, units
from ..sources.capture_format import Fact, number, text
from .routines import MANY

#: seconds of the debugger's clock after which running writes are summed up again
_EVERY_NS = 2_000_000_000
#: upper bounds of the histogram of write times, in ns
_STEPS = ((1_000_000, "1 ms"), (10_000_000, "10 ms"), (100_000_000, "100 ms"), (10**9, "1 s"))


class Sum:
    """Calls of one routine that is called once for each piece."""

    def __init__(self) -> None:
        self.calls = self.failed = self.retries = self.bytes = 0
        self.times: list[int] = []
        self.told = 0
        self._last: int | None = None

    def entered(self, fact: Fact) -> None:
        """One call, and whether it is for the place of the one before."""
        self.calls += 1
        mdl = fact.get("mdl")
        if isinstance(mdl, dict):
            self.bytes += number(mdl, "bytes") or 0
        offset = number(fact, "offset")
        self.retries += offset is not None and offset == self._last
        self._last = offset

    def words(self) -> str:
        """All of it in one line."""
        found = [f"{self.calls} call{'' if self.calls == 1 else 's'}"]
        if self.failed:
            found.append(f"{self.failed} failed")
        if self.retries:
            found.append(f"{self.retries} at the offset of the call before")
        if self.bytes:
            found.append(f"{self.bytes / 1e6:.1f} MB")
            spent = sum(self.times)
            if spent:
                found.append(f"{self.bytes * 1000 / spent:.1f} MB/s in the callback")
        return ", ".join(found)

    def histogram(self) -> str:
        """How many calls took how long."""
        found, low = [], 0
        for high, name in (*_STEPS, (1 << 63, "")):
            count = sum(low <= time < high for time in self.times)
            if count:
                found.append(f"{'below ' + name if name else '1 s and more'}: {count}")
            low = high
        return ", ".join(found)


class Narrator:
    """Takes facts in order and says what a reader at the console wants to know."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._started: int | None = None
        self._hz: int | None = None
        self._noise: list[int] = []
        self._host_noise: list[int] = []
        self._names: dict[int | None, tuple[str, str]] = {}
        self._open: dict[int | None, Fact] = {}
        self._sums: dict[tuple[str, str], Sum] = {}
        self._waiting: tuple[Fact, Fact] | None = None  #: a return that waits for a calibration
        self._summed_at = 0

    def take(self, fact: Fact) -> None:
        """One fact; never raises, because the target stands still meanwhile."""
        try:
            kind = fact.get("fact")
            if "dumpstart" in fact:
                self._started = number(fact, "started")
            elif kind == "clock":
                self._hz = number(fact, "hz")
            elif kind == "armed":
                name = text(fact, "filter") or "an unnamed filter"
                self._names[number(fact, "id")] = name, text(fact, "callback") or "callback"
            elif kind in ("call", "return", "lost", "calibration"):
                getattr(self, f"_{kind}")(fact)
            elif kind in ("stop", "error", "disarmed", "reboot"):
                self._event(str(kind), fact)
        except Exception as error:  # noqa: BLE001 - the capture file is what counts
            self._say(f"(a line could not be printed: {error})")

    def flush(self) -> None:
        """Says the return that waits for a calibration."""
        self._flush()

    def end(self) -> None:
        """What is still to be said."""
        self._flush()
        self._sum_up(is_last=True)

    # -- calls ---------------------------------------------------------------------------------

    def _call(self, fact: Fact) -> None:
        self._flush()
        key = self._names.get(number(fact, "id"), ("an unnamed filter", "callback"))
        if key[1] in MANY:
            self._sums.setdefault(key, Sum()).entered(fact)
        else:
            self._sum_up()
        if "unwatched" in fact:
            self._line(fact, key, "called", f"({fact['unwatched']})")
        else:
            self._open[number(fact, "n")] = fact

    def _return(self, fact: Fact) -> None:
        self._flush()
        call = self._open.pop(number(fact, "n"), None)
        if call is not None:
            self._waiting = call, fact

    def _calibration(self, fact: Fact) -> None:
        for name, samples in (("tsc", self._noise), ("host", self._host_noise)):
            first, second = number(fact, name), number(fact, name + "2")
            if first is not None and second is not None:
                samples.append(second - first)
        self._flush()

    def _lost(self, fact: Fact) -> None:
        call = self._open.pop(number(fact, "n"), None)
        if call is not None:
            key = self._names.get(number(call, "id"), ("an unnamed filter", "callback"))
            self._line(call, key, "did not return", f"({text(fact, 'why')})")

    def _flush(self) -> None:
        """The return that waited: with a calibration behind it, or without."""
        if self._waiting is None:
            return
        (call, back), self._waiting = self._waiting, None
        key = self._names.get(number(call, "id"), ("an unnamed filter", "callback"))
        status = number(back, "status")
        took, is_bound = self._took(call, back)
        is_failure = status is not None and status >= 0x80000000
        if key[1] in MANY:
            total = self._sums.setdefault(key, Sum())
            total.failed += is_failure
            if took is not None and not is_bound:
                total.times.append(took)
            host = number(back, "host") or 0
            if host - self._summed_at > _EVERY_NS:
                self._summed_at = host
                self._sum_up()
            if not is_failure:
                return
        name = ntstatus.name(status) if status is not None else None
        shown = name if isinstance(name, str) else "no status" if status is None else f"{status:#x}"
        duration = "" if took is None else f"{'at most ' if is_bound else ''}{span(took)}"
        self._line(back, key, shown, duration)

    def _took(self, call: Fact, back: Fact) -> tuple[int | None, bool]:
        """(ns, whether it is only an upper bound) of a call."""
        first, second = number(call, "tsc"), number(back, "tsc")
        if self._hz and first is not None and second is not None:
            cost = int(median(self._noise)) if self._noise else 0
            return max(0, second - first - cost) * 10**9 // self._hz, not self._noise
        first, second = number(call, "host"), number(back, "host")
        if first is None or second is None:
            return None, True
        cost = int(median(self._host_noise)) if self._host_noise else 0
        return max(0, second - first - cost), not self._host_noise

    # -- saying --------------------------------------------------------------------------------

    def _time(self, fact: Fact) -> str:
        host = number(fact, "host")
        if host is None or self._started is None:
            return " " * 11
        return f"{(host - self._started) / 1e9:9.3f} s"

    def _line(self, fact: Fact, key: tuple[str, str], words: str, more: str) -> None:
        line = f"{self._time(fact)}  {key[0]:<16}  {key[1]:<11}  {words}"
        self._say(f"{line:<63}  {more}".rstrip() if more else line)

    def _event(self, kind: str, fact: Fact) -> None:
        self._flush()
        words = {
            "stop": f"the target stopped: {text(fact, 'detail') or text(fact, 'kind')}",
            "error": text(fact, "text") or "an error",
            "disarmed": text(fact, "why") or "no longer watched",
            "reboot": "the target reboots",
        }[kind]
        if kind == "disarmed":
            name = self._names.get(number(fact, "id"), ("an unnamed filter", "callback"))
            words = f"{name[1]} of {name[0]}: {words}"
        self._say(f"{self._time(fact)}  {words}")

    def _sum_up(self, is_last: bool = False) -> None:
        for key, total in self._sums.items():
            if total.calls != total.told:
                total.told = total.calls
                self._say(f"{'':11}  {key[0]:<16}  {key[1]:<11}  {total.words()}")
            if is_last and len(total.times) > 1:
                self._say(f"{'':11}  {key[0]:<16}  {key[1]:<11}  {total.histogram()}")


def span(nanoseconds: int) -> str:
    """A time as a reader wants it: three figures and a unit."""
    if nanoseconds >= 120 * 10**9:
        return units.duration(nanoseconds)
    return units.scaled(nanoseconds, ("ns", "us", "ms", "s"), 3)
