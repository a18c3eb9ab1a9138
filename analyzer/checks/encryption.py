"""A filter that encrypts and was not at work: what was written then went to the disk in plain text.

Invariant: said only of filters that are known to encrypt, and only of a failure or a disabled state
that a source shows; how sure it is follows from how sure the place of the state is. Of a filter
that nothing is known about the finding of the failure itself says what it could mean.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..absence import known
from ..layouts.crashdmp import knows_state
from ..names import drivers, ntstatus
from ..records import Anomaly, Callback, Filter
from . import benign
from .dump_filters import callback_named
from .evidence import SourceRecords, about, broken, same_name
from .machine import is_live

#: callbacks after whose failure crashdmp writes on without the filter
_WRITING = ("Dump_Start", "Dump_Write", "Dump_Finish")
#: (filter, status of Dump_Start) that can mean that there was nothing to encrypt
_NOTHING_TO_DO = {
    ("veracrypt", 0xC0000001): "VeraCrypt fails Dump_Start so, too, when its drive is not mounted"
}


def check(seen: SourceRecords) -> Iterator[Anomaly]:
    """Everything this module checks, for one source."""
    if any(map(is_live, seen["machine"])):
        return
    for row in seen["filters"]:
        if drivers.encrypts(row.filter):
            yield from _plain_text(seen, row)


def _plain_text(seen: SourceRecords, row: Filter) -> Iterator[Anomaly]:
    failed, call = _failure(seen, row)
    if not failed and row.is_disabled is not True:
        return
    driver = drivers.known(row.filter)
    owner = driver.product if driver else ""
    status = failed[1] if failed else 0
    if failed and benign.why(row.filter, failed[0], status):
        return
    doubt = _NOTHING_TO_DO.get((drivers.plain_name(row.filter), status & 0xFFFFFFFF), "")
    if failed and failed[0] in _WRITING[1:]:
        doubt = ""
    is_proven = knows_state(seen.build, seen.architecture)
    confidence = "certain" if (is_proven or call is not None) and not doubt else "likely"
    why = f"{failed[0]} returned {ntstatus.name(status)}" if failed else "crashdmp has disabled it"
    what = "the hibernation file" if row.stack == "hibernation" else "the dump"
    text = (
        f"{about(row)} encrypts what is written ({owner}), but {why}: crashdmp goes on without a "
        f"filter that failed, so {what} went to the disk in plain text, or a part of it did "
        f"({confidence})."
    )
    text += f" {doubt}; then there was nothing to encrypt." if doubt else ""
    fields = ("is_disabled", "state", "last_failing_status")
    yield broken(
        "dump-in-plain-text", text, row, about(row), *fields,
        filter=str(row.filter), confidence=confidence,
    )  # fmt: skip


def _failure(seen: SourceRecords, row: Filter) -> tuple[tuple[str, int] | None, Callback | None]:
    """(callback, status) of the filter's failure, and the call that shows it when one was seen."""
    for call in seen["callbacks"]:
        status = known(call.status)
        if status is None or not ntstatus.is_failure(status) or call.stack != row.stack:
            continue
        if same_name(call.filter, row.filter) and call.callback in _WRITING:
            return (str(call.callback), status), call if known(call.entry_clock) else None
    status = known(row.last_failing_status)
    if status is not None and ntstatus.is_failure(status):
        name = callback_named(seen, row) or known(row.last_failing_routine) or "a callback"
        return (str(name), status), None
    return None, None
