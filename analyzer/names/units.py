"""Numbers with the unit that fits them."""

from __future__ import annotations

from collections.abc import Sequence

from ..absence import Absent, is_absent


def duration(ns: float | Absent | None, missing: str = "-") -> str:
    """A duration in ns with a unit that fits, four digits: "1.25 ms"."""
    if is_absent(ns):
        return missing
    seconds = round(ns / 1_000_000_000)
    if abs(seconds) >= 3_600:
        minutes = round(ns / 60_000_000_000)
        return f"{minutes // 60} h {minutes % 60} min"
    if ns >= 120_000_000_000:
        return f"{seconds // 60} min {seconds % 60} s"
    return scaled(ns, ("ns", "us", "ms", "s"))


def scaled(amount: float, units: Sequence[str], figures: int = 4) -> str:
    """With the unit that fits what is shown, each a thousand of the one before: never "1000 ms"."""
    for unit in units[:-1]:
        shown = f"{amount:.{figures}g}"
        if abs(float(shown)) < 1000:
            return f"{shown} {unit}"
        amount /= 1000
    return f"{amount:.{figures}g} {units[-1]}"
