"""Figures of a case, for reports and notebooks.

Invariant: every function takes cases (or their records) and returns a matplotlib Figure of its own;
no global state of matplotlib is read or changed. A figure without data says so in words. What is a
bound is drawn as a bound, and what is not determined is never drawn as zero.
"""

from __future__ import annotations

from .crash import latency, statuses, throughput, timeline
from .dry import extension_use
from .many import findings
from .style import Plot
from .timing import comparison, durations, population

__all__ = [
    "Plot",
    "comparison",
    "durations",
    "extension_use",
    "findings",
    "latency",
    "population",
    "statuses",
    "throughput",
    "timeline",
]
