"""Durations from the clocks of a capture: the debugger's own cost taken off, as an interval.

Invariant: a duration is stated only when it stands out of the noise of the debugger's stops;
without a calibration the raw difference is an upper bound and nothing more. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple, Union

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
STOOD = Absent("not-recorded", "the clock has the same time at the entry and at the return")
PAUSED = Absent("not-recorded", "the target stood in the debugger meanwhile: an upper bound only")
_NO_COST = Absent("not-recorded", "the debugger's own cost was not measured: an upper bound only")
_IN_NOISE = Absent("not-recorded", "shorter than the noise of the debugger's stops")


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

    calls: int
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


def stands_out(low: int, others: Statistics) -> bool:
    """True when a call that took at least ``low`` is far from the others of its callback."""
    margin = max(8 * others.spread, others.high, TRIFLE_NS)
    return others.calls >= ENOUGH_CALLS and low > others.high + margin


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
        if end == start:  # no call takes no time, and how far the clock steps is not known
            return STOOD, STOOD, STOOD
        return span(end - start, self.noise, self.clock)
