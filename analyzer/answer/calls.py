"""Calls of callbacks as a few lines: those that agree in all but their times are one line.

Invariant: every call is counted in exactly one line, and a line's times span those of its calls; a
call that failed is never in a line with one that did not.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any, NamedTuple

from .. import formatting as fmt
from ..absence import is_absent
from ..records import Records


class Line(NamedTuple):
    """One call, or several that are alike."""

    first: Any  #: the record of the first of them
    row: int  #: where that stands in its table
    calls: int
    routine: str
    called: str  #: "yes", "likely", "12x", ...
    took: str  #: "2.4 ms", "24 to 36 us", "at most 8 ms", "-"


def took(calls: Iterable[Any], coarse: Container[str] = ()) -> str:
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


def grouped(calls: Iterable[tuple[int, Any]]) -> list[Line]:
    """The lines for some calls with their rows, by the first call of each."""
    groups: dict[Any, list[Any]] = {}
    for row, c in calls:
        timed = not is_absent(c.duration_ns)
        bound = not timed and not is_absent(c.duration_high_ns)
        ns = c.duration_ns if timed else c.duration_high_ns
        whose = (c.origin.source, c.filter, c.stack, c.callback, c.routine, c.symbol)
        key = (*whose, c.was_called, c.status, timed, bound)
        group = groups.get(key)
        if group is None:
            groups[key] = [row, c, 1, ns, ns]
        else:
            group[2] += 1
            if timed or bound:
                group[3], group[4] = min(group[3], ns), max(group[4], ns)
    return [_line(*group) for group in groups.values()]


def _line(row: int, first: Any, count: int, low: Any, high: Any) -> Line:
    called = fmt.field(first, "was_called")
    if count > 1:
        called = f"{count}x" if called == "yes" else f"{called} ({count} rows)"
    took = fmt.duration(high)
    if is_absent(first.duration_ns) and not is_absent(high):
        took = f"at most {took}"
    elif low != high:
        took = fmt.span(low, high)
    routine = fmt.fields(first, "symbol") or fmt.field(first, "routine")
    return Line(first, row, count, "NULL" if first.routine == 0 else routine, called, took)
