"""Dump_Start of one filter: whether it ran, what it returned, how long it took.

Invariant: what one source infers never hides what another one saw.
"""

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .. import formatting as fmt
from ..absence import is_absent, known
from ..files import called
from ..records import Callback, Stage
from .calls import Line, grouped
from .calls import took as span_of

if TYPE_CHECKING:
    from .filters import Rows


class Start(NamedTuple):
    """Dump_Start: whether it ran, its status, how long it took, and by what that is known."""

    ran: str = ""
    status: str = ""
    took: str = ""
    evidence: str = ""
    is_inferred: bool = False


def start_of(
    one: "Rows", bound: "Stage | None", live: Container[str], coarse: Container[str], several: bool
) -> Start:
    """What is known of it.

    ``bound``: the dump log's stage that is a limit for all filters, or None; ``live``: sources of a
    machine that had not crashed; ``coarse``: sources of the debugger's clock; ``several``: there is
    more than one source, so it matters which.
    """
    inside = [p for p in one.processors if p.callback == "Dump_Start"]
    if inside:
        where = f"processor {inside[0].processor}" if not is_absent(inside[0].processor) else "now"
        return Start(f"executing ({where})", evidence="the registers")
    calls = [pair for pair in one.calls if pair[1].callback == "Dump_Start"]
    if calls and all(pair[1].origin.source in live for pair in calls):
        return Start("not called", evidence="a machine that was still running")
    seen = [pair for pair in calls if _tells(pair[1])]
    failing = last_failure(one)
    if not seen:
        if failing:
            return Start("called", failing, evidence="crashdmp's last failure")
        if any(pair[1].routine == 0 for pair in calls):
            return Start("has none", evidence="its NULL pointer")
        return Start()
    lines = grouped(seen)
    best = [line for line in lines if line.first.was_called == "yes"] or lines
    first = best[0].first
    count = sum(line.calls for line in best)
    ran = {"yes": "called", "no": "not called", "likely": "likely called"}.get(
        str(first.was_called), "called" if not is_absent(first.status) else ""
    )
    if first.routine == 0:
        return Start("has none", evidence="its NULL pointer")
    is_inferred = first.was_called == "likely"
    if first.was_called == "yes" and all(is_absent(line.first.status) for line in best):
        ran = "entered, no return seen"
    elif count > 1:
        ran += f" {count}x"
    status = statuses(best) or (failing if is_inferred else "")
    ran = "likely returned" if status and ran == "likely called" else ran
    ran_rows = [call for _, call in seen if call.was_called == first.was_called]
    took = span_of(ran_rows, coarse)
    evidence = _by(ran_rows, several)
    limit = known(bound.elapsed_ms) if bound is not None else None
    if not took and limit is not None and is_inferred:
        took = f"at most {fmt.duration(limit * 1_000_000)}, all filters"
    return Start(ran, status, took, evidence, is_inferred)


def _tells(call: Callback) -> bool:
    return not (is_absent(call.was_called) and is_absent(call.status))


def statuses(lines: Sequence[Line]) -> str:
    """Each status, the failing ones first, with how many calls when they differ."""
    known = [line for line in lines if not is_absent(line.first.status)]
    known.sort(key=lambda line: not (line.first.status or 0))
    total = sum(line.calls for line in lines)
    texts: dict[str, int] = {}
    for line in known:
        name = fmt.field(line.first, "status_name", "") or fmt.field(line.first, "status")
        texts[name] = texts.get(name, 0) + line.calls
    if len(texts) == 1 and sum(texts.values()) == total:
        return next(iter(texts))
    return fmt.listed(f"{name} ({count} of {total})" for name, count in texts.items())


def _by(calls: Sequence[Callback], several: bool) -> str:
    if calls[0].was_called == "likely" and not is_absent(calls[0].status):
        return "a record in crashdmp, likely that of the last failing routine, names it"
    if calls[0].was_called == "likely":
        return "the dump had begun, and crashdmp starts its filters before that"
    if not several:
        return ""
    sources = list(dict.fromkeys(called(call.origin.source) for call in calls))
    return fmt.clean(sources[0], 40) if len(sources) == 1 else f"{len(sources)} sources"


def last_failure(one: "Rows") -> str:
    """The failing status of Dump_Start that crashdmp kept."""
    starts = {call.symbol for _, call in one.calls if call.callback == "Dump_Start"}
    for row in one.filters:
        if not is_absent(row.last_failing_status) and row.last_failing_routine in starts:
            return fmt.field(row, "last_failing_status_name", "") or fmt.field(
                row, "last_failing_status"
            )
    return ""
