"""Checks of the storage requests that a dump keeps from before the crash.

Invariant: a request that is still in flight is never called failed (its status field holds queue
data then), and one without both times is never called slow. One finding per rule and source, so a
bad disk does not bury the rest.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..absence import known
from ..formatting import duration
from ..records import Anomaly, Evidence, Request
from .evidence import SourceRecords
from .machine import is_live

#: A second: ten times what the slowest of 178 requests with a start of their own took in four real
#: dumps (101 ms, 99 % at most 78 ms), and 64 clock ticks, so that the tick cannot make one slow.
SLOW_NS = 1_000_000_000
#: start and end are stamps of the system clock, which moves in steps of up to 15.6 ms
CLOCK_TICK_NS = 15_625_000
#: the two top bits of an SRB status are flags: queue frozen, sense data valid (srb.h)
SRB_STATUS_MASK = 0x3F
#: 0 pending, 1 success; 0x12 data overrun also stands for a short transfer, no fault (srb.h)
SRB_NOT_FAILED = (0x00, 0x01, 0x12)
#: evidence lines per finding, worst first
SHOWN = 5


def check(seen: SourceRecords) -> Iterator[Anomaly]:
    """Everything this module checks, for one source.

    Only for dumps: the limits and the words below are those of storport's block in a dump. The
    requests of a trace have other clocks and are judged where the trace is read.
    """
    if not seen.is_dump():
        return
    requests = seen["requests"]
    yield from _slow(requests)
    yield from _failed(requests)
    is_running = any(map(is_live, seen["machine"]))
    yield from _in_flight(requests, "dump was taken" if is_running else "machine crashed")


def _waited_ns(request: Request) -> int:
    """How long a request took, or was open at the crash; -1 when that is not known."""
    value = None
    if request.in_flight is True and known(request.start) is not None:
        value = known(request.before_crash_ns)
    elif request.in_flight is False:
        value = known(request.duration_ns)
    return -1 if value is None else value


def _slow(requests: list[Request]) -> Iterator[Anomaly]:
    timed = [pair for pair in ((_waited_ns(r), r) for r in requests) if pair[0] >= 0]
    slow = sorted((pair for pair in timed if pair[0] >= SLOW_NS), key=lambda pair: -pair[0])
    if slow:
        worst = slow[0][1]
        text = (
            f"{len(slow)} of {len(timed)} timed storage requests took {duration(SLOW_NS)} or "
            f"more; the slowest, {_name(worst)}, took {_state(worst)}. Times are exact to a clock "
            f"tick (up to {duration(CLOCK_TICK_NS)})."
        )
        yield _finding("storage-request-slow", text, [(r, _state(r)) for _, r in slow])


def _failed(requests: list[Request]) -> Iterator[Anomaly]:
    done = [r for r in requests if r.in_flight is False and known(r.status) is not None]
    failed = [(r, _status(r)) for r in done if _srb_status(r) not in SRB_NOT_FAILED]
    if failed:
        first, status = failed[0]
        text = (
            f"{len(failed)} of {len(done)} completed storage requests failed, for example "
            f"{_name(first)} with {status}."
        )
        yield _finding("storage-request-failed", text, failed)


def _in_flight(requests: list[Request], happened: str) -> Iterator[Anomaly]:
    waiting = [request for request in requests if request.in_flight is True]
    if waiting:
        longest = max(map(_waited_ns, waiting))
        were = "was" if len(waiting) == 1 else "were"
        text = f"{len(waiting)} of {len(requests)} recorded storage requests {were} not finished "
        text += f"when the {happened}"
        text += f"; the oldest had been open for {duration(longest)}." if longest >= 0 else "."
        yield _finding("storage-requests-in-flight", text, [(r, _state(r)) for r in waiting])


def _state(request: Request) -> str:
    wait = _waited_ns(request)
    if request.in_flight is True:
        known_for = f"{duration(wait)} and was still open"
        return known_for if wait >= 0 else "still open, start not recorded"
    return duration(wait)


def _srb_status(request: Request) -> int:
    return (known(request.status) or 0) & SRB_STATUS_MASK


def _status(request: Request) -> str:
    code, name = f"SRB status {_srb_status(request):#04x}", known(request.status_name)
    return f"{code} {name}" if name and name != code else code


def _name(request: Request) -> str:
    operation, number = known(request.operation) or "request", known(request.request)
    return str(operation) if number is None else f"{operation} no. {number}"


def _finding(rule: str, text: str, told: list[tuple[Request, str]]) -> Anomaly:
    evidence = [Evidence(_name(r), what, origin=r.origin) for r, what in told[:SHOWN]]
    if len(told) > SHOWN:
        evidence.append(Evidence("", f"{len(told) - SHOWN} more in the table requests"))
    return Anomaly(rule, text, told[0][0].origin, "storage", tuple(evidence))
