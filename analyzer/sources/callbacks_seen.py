"""What a processor inside a callback proves of the callbacks: this one was called, others before.

Invariant: a row is only made surer: what is "yes" or "no" already stays. Filters are started in the
order of crashdmp's list, all of them before anything is written.
"""

from __future__ import annotations

from ..absence import Absent
from ..records import Callback, Processor, Records

_RUNNING = Absent("not-recorded", "it had not returned when this was taken")


def settle(out: Records) -> None:
    """Fills ``was_called`` of the callbacks as far as the table ``processors`` proves it."""
    for row in out["processors"]:
        is_known = isinstance(row.filter, str) and isinstance(row.callback, str)
        if is_known and row.origin.confidence != "guess":
            _settle(out, row)


def _settle(out: Records, row: Processor) -> None:
    stacks = {c.stack for c in out["callbacks"] if c.filter == row.filter}
    if stacks != {"crash"}:
        return
    places = {f.filter: f.ring_index for f in out["filters"] if f.stack == "crash"}
    mine = places.get(row.filter)
    rows = out["callbacks"]
    for at, call in enumerate(rows):
        if call.stack != "crash":
            continue
        if (call.filter, call.callback) == (row.filter, row.callback):
            how = f"processor {row.processor} was inside it; {row.origin.how}"
            origin = row.origin._replace(how=how)
            rows[at] = call._replace(
                was_called="yes", status=_RUNNING, status_name=_RUNNING, duration_ns=_RUNNING,
                return_clock=_RUNNING, origin=origin,
            )  # fmt: skip
        elif call.callback == "Dump_Start" and _is_open(call) and call.routine:
            place = places.get(call.filter)
            before = isinstance(mine, int) and isinstance(place, int) and place < mine
            if before or row.callback != "Dump_Start":
                what = f"{row.callback} of {row.filter} was running"
                how = f"{call.origin.how}; called: {what}, and filters are started in list order"
                rows[at] = call._replace(was_called="likely", origin=call.origin._replace(how=how))


def _is_open(call: Callback) -> bool:
    return isinstance(call.was_called, Absent)
