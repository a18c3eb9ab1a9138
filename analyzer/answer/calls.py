"""Calls of callbacks as a few lines: those that agree in all but their times are one line.

Invariant: every call is counted in exactly one line, and a line's times span those of its calls; a
call that failed is never in a line with one that did not.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

from .. import formatting as fmt
from ..absence import is_absent, known
from ..records import Callback, Records


class Line(NamedTuple):
    """One call, or several that are alike."""

    first: Callback  #: the record of the first of them
    row: int  #: where that stands in its table
    calls: int
    routine: str
    called: str  #: "yes", "likely", "12x", ...
    took: str  #: "2.4 ms", "24 to 36 us", "at most 8 ms", "-"


def took(calls: Iterable[Callback], coarse: Container[str] = ()) -> str:
    """The span of the durations of some calls, as exact as they are known; "" where none is.

    ``coarse``: sources whose times are those of the debugger's clock, not of the machine's.
    """
    rows = list(calls)
    clock = " by the debugger's clock" if any(r.origin.source in coarse for r in rows) else ""
    exact = [r.duration_ns for r in rows if not is_absent(r.duration_ns)]
    if exact:
        return fmt.span(min(exact), max(exact)) + clock
    bounds = [r.duration_high_ns for r in rows if not is_absent(r.duration_high_ns)]
    return f"at most {fmt.duration(max(bounds))}{clock}" if bounds else ""


def of_a_coarse_clock(records: Records) -> set[str]:
    """The sources whose times are those of the debugger's clock."""
    found = (f for f in records["findings"] if f.rule == "duration-host-clock")
    return {f.origin.source for f in found}


def grouped(calls: Iterable[tuple[int, Callback]]) -> list[Line]:
    """The lines for some calls with their rows, by the first call of each."""
    groups: dict[tuple[object, ...], tuple[int, Callback, list[int]]] = {}
    for row, c in calls:
        exact, most = known(c.duration_ns), known(c.duration_high_ns)
        ns = most if exact is None else exact
        whose = (c.origin.source, c.filter, c.stack, c.callback, c.routine, c.symbol)
        key = (*whose, c.was_called, c.status, exact is None, ns is None)
        groups.setdefault(key, (row, c, []))[2].append(ns or 0)
    return [_line(*group) for group in groups.values()]


def _line(row: int, first: Callback, times: Sequence[int]) -> Line:
    called, count = fmt.field(first, "was_called"), len(times)
    if count > 1:
        called = f"{count}x" if called == "yes" else f"{called} ({count} rows)"
    if not is_absent(first.duration_ns):
        took = fmt.span(min(times), max(times))
    elif not is_absent(first.duration_high_ns):
        took = f"at most {fmt.duration(max(times))}"
    else:
        took = "-"
    routine = fmt.fields(first, "symbol") or fmt.field(first, "routine")
    return Line(first, row, count, "NULL" if first.routine == 0 else routine, called, took)
