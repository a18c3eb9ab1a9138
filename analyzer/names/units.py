"""Numbers with the unit that fits them."""

from __future__ import annotations

from ..absence import Absent, is_absent


def duration(ns: float | Absent | None, missing: str = "-") -> str:
    """A duration in ns with a unit that fits, four digits: "1.25 ms"."""
    if is_absent(ns):
        return missing
    if abs(ns) >= 3_600_000_000_000:
        minutes = round(ns / 60_000_000_000)
        return f"{minutes // 60} h {minutes % 60} min"
    if ns >= 120_000_000_000:
        seconds = round(ns / 1_000_000_000)
        return f"{seconds // 60} min {seconds % 60} s"
    for unit, size in (("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)):
        if abs(ns) >= size:
            return f"{ns / size:.4g} {unit}"
    return f"{ns} ns"
