"""Durations from the clocks of a capture: the debugger's own cost taken off, as an interval.

Invariant: a duration is stated only when it stands out of the noise of the debugger's stops;
without a calibration the raw difference is an upper bound and nothing more. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any, NamedTuple, Union

from ..absence import Absent

#: a call longer than this is slow whatever the others took
LIMIT_NS = 1_000_000_000
#: so many calls of one callback are needed before one of them can stand out
ENOUGH_CALLS = 8
#: shorter than this nobody waits for
TRIFLE_NS = 1_000_000
#: scale of the median absolute deviation to the standard deviation of a normal distribution
_SIGMA = 1.4826


class Frequency(NamedTuple):
    """Ticks a second of the target's clock, and how sure that is."""

    hz: int
    low: int
    high: int
    how: str


class Noise(NamedTuple):
    """What the debugger's two stops add to a call, in ticks of one clock."""

    low: int
    middle: int
    high: int
    samples: int


#: how long a call took and the bounds of that, in ns
Span = tuple[Union[int, Absent], Union[int, Absent], Union[int, Absent]]

NO_RETURN = Absent("not-found", "its return was not seen")
NO_ENTRY = Absent("not-found", "its entry was not seen")
NO_CLOCK = Absent("not-recorded", "the target's clock could not be read")
BACKWARDS = Absent("out-of-range", "the clock at the return is behind that of the entry")
_NO_COST = Absent("not-recorded", "the debugger's own cost was not measured: an upper bound only")
_IN_NOISE = Absent("not-recorded", "shorter than the noise of the debugger's stops")

#: how a duration is known: exactly, as a bound, or why not at all; TIMED: its ticks are known
REASONS = (NO_RETURN, NO_ENTRY, NO_CLOCK, BACKWARDS)
TIMED, BOUND, EXACT = 8, 9, 10
#: a scaled number of ticks must fit 64 bits: 10**9 * _FASTEST and 10**9 * _LONGEST do
_FASTEST, _LONGEST = 1 << 34, 1 << 33


def noise_of(samples: Sequence[int]) -> Noise | None:
    """The spread of the calibration's samples; None without samples."""
    good = sorted(sample for sample in samples if sample >= 0)
    return Noise(good[0], int(median(good)), good[-1], len(good)) if good else None


def span(ticks: int, noise: Noise | None, clock: Frequency) -> Span:
    """The duration behind a raw difference of clocks that is not negative."""
    if noise is None:
        return _NO_COST, 0, ticks * 1_000_000_000 // clock.low
    high = max(0, ticks - noise.low) * 1_000_000_000 // clock.low
    if ticks <= noise.high:
        return _IN_NOISE, 0, high
    low = (ticks - noise.high) * 1_000_000_000 // clock.high
    return (ticks - noise.middle) * 1_000_000_000 // clock.hz, low, high


class Statistics(NamedTuple):
    """Robust statistics of one callback's durations, in ns."""

    count: int  # type: ignore[assignment]  # hides the method of tuple
    low: int  #: median of the lower bounds
    high: int  #: median of the upper bounds
    spread: int  #: median absolute deviation, scaled to one standard deviation


def statistics(spans: Iterable[tuple[int, int]]) -> Statistics | None:
    """Statistics of (low, high) bounds; None without any."""
    pairs = list(spans)
    if not pairs:
        return None
    middles = [(low + high) // 2 for low, high in pairs]
    centre = median(middles)
    spread = median(abs(value - centre) for value in middles) * _SIGMA
    return Statistics(
        len(pairs),
        int(median(low for low, _ in pairs)),
        int(median(high for _, high in pairs)),
        int(spread),
    )


class Timed(NamedTuple):
    """Calls of one callback with bounds of their durations in ns: lists, or arrays of numpy."""

    places: Any
    lows: Any
    highs: Any
    exact: int  #: how many have more than bounds

    def longest(self) -> int:
        """The first of those with the highest lower bound."""
        if isinstance(self.lows, list):
            return self.lows.index(max(self.lows))
        return int(self.lows.argmax())

    def over(self, limit: int) -> int:
        """How many took longer than this."""
        if isinstance(self.lows, list):
            return sum(low > limit for low in self.lows)
        return int((self.lows > limit).sum())

    def highest_below(self) -> int:
        """The highest upper bound of those that may have taken no time."""
        if isinstance(self.lows, list):
            return int(max(high for low, high in zip(self.lows, self.highs) if not low))
        return int(self.highs[self.lows == 0].max())

    def statistics(self, without: int | None = None) -> Statistics | None:
        """Statistics of all, or of all but one."""
        lows, highs = self.lows, self.highs
        if isinstance(lows, list):
            pairs = list(zip(lows, highs))
            if without is not None:
                del pairs[without]
            return statistics(pairs)
        import numpy as np

        if without is not None:
            lows, highs = np.delete(lows, without), np.delete(highs, without)
        if not len(lows):
            return None
        middles = lows + (highs - lows) // 2
        spread = _median(np.abs(middles - _median(middles))) * _SIGMA
        return Statistics(len(lows), int(_median(lows)), int(_median(highs)), int(spread))


def together(parts: Sequence[Timed]) -> Timed:
    """Several arrays of calls as one."""
    import numpy as np

    places, lows, highs = (np.concatenate([part[n] for part in parts]) for n in range(3))
    return Timed(places, lows, highs, sum(part.exact for part in parts))


def _median(values: Any) -> Any:
    """The median of an array as Python's own number: no digit of a large one is lost."""
    import numpy as np

    half = len(values) // 2
    if len(values) % 2:
        return np.partition(values, half)[half].item()
    ordered = np.partition(values, (half - 1, half))
    return (ordered[half - 1].item() + ordered[half].item()) / 2


def stands_out(low: int, others: Statistics) -> bool:
    """True when a call that took at least ``low`` is far from the others of its callback."""
    margin = max(8 * others.spread, others.high, TRIFLE_NS)
    return others.count >= ENOUGH_CALLS and low > others.high + margin


def is_slower(now: Statistics, before: Statistics) -> bool:
    """True when a callback took longer than in a baseline, beyond what both leave open."""
    margin = max(3 * max(now.spread, before.spread), before.high // 2, TRIFLE_NS)
    return now.low > before.high + margin


_HOST = Frequency(1_000_000_000, 1_000_000_000, 1_000_000_000, "the debugger's own clock")


class Clocks:
    """Which clock times the calls: the target's if its frequency is known, else the debugger's."""

    def __init__(
        self, frequency: Frequency | None, tsc: Sequence[int], host: Sequence[int]
    ) -> None:
        self.is_host = frequency is None
        self.clock = frequency or _HOST
        self.noise = noise_of(host if frequency is None else tsc)
        self.is_calibrated = self.noise is not None
        self.how = f"capture, timed by {self.clock.how}"
        if frequency is not None:
            self.how = f"capture, timed by TSC at {frequency.hz / 1e6:.3f} MHz ({frequency.how})"
        if self.noise is not None:
            ns = [v * 1_000_000_000 // self.clock.hz for v in (self.noise.low, self.noise.high)]
            self.how += f"; the debugger's own {ns[0]} to {ns[1]} ns taken off, seen in "
            self.how += f"{self.noise.samples} samples"
        else:
            self.how += "; the debugger's own cost not taken off"

    def span(self, start: int | None, end: int | None) -> Span:
        """The duration between the clocks at an entry and at its return."""
        if start is None or end is None:
            return NO_CLOCK, NO_CLOCK, NO_CLOCK
        if end < start:
            return BACKWARDS, BACKWARDS, BACKWARDS
        return span(end - start, self.noise, self.clock)

    def spans(self, why: Any, ticks: Any) -> tuple[Any, Any, Any, Any] | None:
        """:meth:`span` of many: (how each is known, value, low, high); None: numbers too large."""
        import numpy as np

        clock, noise, timed = self.clock, self.noise, why == TIMED
        slowest, fastest = clock.low, clock.high
        if fastest > _FASTEST or slowest < 1 or int(ticks.max(initial=0)) // slowest >= _LONGEST:
            return None

        def scaled(ticks: Any, hz: int) -> Any:
            whole, rest = np.divmod(ticks, np.uint64(hz))
            ns = np.uint64(1_000_000_000)
            return (whole * ns + rest * ns // np.uint64(hz)).astype(np.int64)

        def less(amount: int) -> Any:
            amount = min(amount, (1 << 64) - 1)
            return np.where(ticks > np.uint64(amount), ticks - np.uint64(amount), np.uint64(0))

        if noise is None:
            zero = np.zeros(len(ticks), np.int64)
            return np.where(timed, BOUND, why).astype(np.uint8), zero, zero, scaled(ticks, slowest)
        exact = timed & (ticks > np.uint64(noise.high))
        how = np.where(exact, EXACT, np.where(timed, BOUND, why)).astype(np.uint8)
        value = np.where(exact, scaled(less(noise.middle), clock.hz), 0)
        low = np.where(exact, scaled(less(noise.high), fastest), 0)
        return how, value, low, scaled(less(noise.low), slowest)
