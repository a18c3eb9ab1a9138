"""Rank statistics for comparing cases, with numpy alone.

Invariant: a probability here is never too small: the normal approximation of a rank sum is wider in
its tails than the exact distribution, small groups are not compared at all, and every family of
tests is corrected by Holm's method.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]  #: of numbers, or of flags that pick some
#: a group of fewer cases is not compared
SMALLEST = 8


class Difference(NamedTuple):
    """How one group differs from the other cases."""

    p: float
    z: float
    delta: float  #: Cliff's delta: share of pairs with the group above, less those below


def ranks(values: Array) -> tuple[Array, float]:
    """Middle ranks from 1, and the sum of t^3 - t over ties."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.r_[True, ordered[1:] != ordered[:-1]]
    group = np.cumsum(starts) - 1
    counts = np.bincount(group).astype(float)
    ends = np.cumsum(counts)
    middle = ends - (counts - 1) / 2
    found = np.empty(len(values))
    found[order] = middle[group]
    return found, float((counts**3 - counts).sum())


def rank_sum(ranked: Array, ties: float, inside: Array) -> Difference:
    """Mann and Whitney's test of the cases ``inside`` a group with the others."""
    total = len(ranked)
    one = int(inside.sum())
    two = total - one
    u = float(ranked[inside].sum()) - one * (one + 1) / 2
    variance = one * two / 12 * (total + 1 - ties / (total * (total - 1)))
    delta = 2 * u / (one * two) - 1
    if variance <= 0:
        return Difference(1.0, 0.0, delta)
    distance = max(abs(u - one * two / 2) - 0.5, 0.0)  # continuity
    z = distance / math.sqrt(variance)
    return Difference(math.erfc(z / math.sqrt(2)), math.copysign(z, delta), delta)


def fisher(inside_yes: int, inside: int, outside_yes: int, outside: int) -> float:
    """Fisher's exact test of two shares, two-sided."""
    yes, total = inside_yes + outside_yes, inside + outside

    def log_choose(n: int, k: int) -> float:
        return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

    base = log_choose(total, yes)
    low, high = max(0, yes - outside), min(yes, inside)
    logs = [
        log_choose(inside, k) + log_choose(outside, yes - k) - base for k in range(low, high + 1)
    ]
    seen = logs[inside_yes - low]
    return min(1.0, math.fsum(math.exp(one) for one in logs if one <= seen + 1e-7))


def change(ranked: Array, ties: float) -> tuple[float, float, int]:
    """Pettitt's test of values in the order of time: p, z, and how many come before the change.

    The probability is Pettitt's upper bound; z is that of the rank sum at the place found.
    """
    total = len(ranked)
    if total < 2 * SMALLEST or ties >= total**3 - total:
        return 1.0, 0.0, 0
    u = np.cumsum(2 * ranked - (total + 1))[SMALLEST - 1 : total - SMALLEST]
    place = int(np.argmax(np.abs(u)))
    k = float(abs(u[place]))
    p = min(1.0, 2 * math.exp(-6 * k * k / (total**3 + total**2)))
    z = math.copysign(math.sqrt(max(0.0, -2 * math.log(p))) if p > 0 else 38.0, -u[place])
    return p, z, place + SMALLEST


def holm(p: list[float]) -> list[float]:
    """Holm's corrected probabilities of one family of tests."""
    order = sorted(range(len(p)), key=p.__getitem__)
    corrected, largest = [0.0] * len(p), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, p[index] * (len(p) - place)))
        corrected[index] = largest
    return corrected


def spread(values: Array) -> tuple[float, float]:
    """Median, and the median absolute deviation scaled to a standard deviation."""
    middle = float(np.median(values))
    return middle, float(np.median(np.abs(values - middle))) * 1.4826
