"""Checks of the crash dump filters: their list, state, callbacks and FILTER_INITIALIZATION_DATA.

Invariant: what the source could not determine is never judged. How crashdmp treats a failing filter
is proven on Windows 7 x86 only, and the texts say so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..absence import Absent, known
from ..layouts import ntdddump
from ..layouts.crashdmp import knows_state
from ..layouts.ntdddump import WINDOWS_8
from ..names import drivers, ntstatus
from ..records import Address, Anomaly, Callback, Evidence, Filter, Number, Text
from . import benign
from .evidence import (
    PARTIAL,
    SourceRecords,
    about,
    broken,
    contains,
    evidence_of,
    span,
    wrong_fields,
)
from .machine import is_live

#: FILTER_INITIALIZATION_DATA member -> callback, in call order
CALLBACKS = {
    re.sub(r"(?<!^)(?=[A-Z])", "_", member).lower(): name for member, name in ntdddump.CALLBACKS
}
_WORKING = tuple(field for field in CALLBACKS if field != "dump_unload")
_READ_SUPPORT = 0x1  # DUMP_FILTER_FLAG_SYSTEM_SUPPORT_READ, the same bit as DUMP_FILTER_CRITICAL


def check(seen: SourceRecords) -> Iterator[Anomaly]:
    """Everything this module checks, for one source."""
    yield from _counts(seen)
    for row in seen["filters"]:
        yield from _state(seen, row)
        yield from _interface(seen, row)
    yield from _calls(seen)
    yield from _outside(seen)


def _counts(seen: SourceRecords) -> Iterator[Anomaly]:
    """Filter modules against the length of crashdmp's list, where that could be told."""
    if seen.reported & PARTIAL:
        return
    for stack in ("crash", "hibernation"):
        rows = [
            row
            for row in seen["filters"]
            if row.stack == stack and known(row.ring_count) is not None
        ]
        modules = [
            row
            for row in seen["modules"]
            if row.loaded and row.role == drivers.FILTER and row.stack == stack
        ]
        if rows and seen["modules"] and len(modules) not in {row.ring_count for row in rows}:
            listed = rows[0].ring_count
            text = (
                f"The {stack} stack has {_count(len(modules), 'filter module')}, but "
                f"crashdmp's list has {_count(listed, 'filter')}."
            )
            evidence = [piece for row in modules for piece in evidence_of(row, "name")]
            evidence += evidence_of(rows[0], "ring_count")
            yield Anomaly(
                "filter-count-differs", text, rows[0].origin, f"{stack} stack", tuple(evidence)
            )


def _count(number: Number, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def _state(seen: SourceRecords, row: Filter) -> Iterator[Anomaly]:
    subject, status = about(row), known(row.last_failing_status)
    failed = status if status is not None and ntstatus.is_failure(status) else None
    routine = known(row.last_failing_routine)
    name = callback_named(seen, row)
    # A filter is not called after the failure that disabled it, so its last failure is the reason.
    meant = failed and benign.why(row.filter, name, failed)
    if row.is_disabled is True and not meant:
        yield broken(
            "filter-disabled",
            f"The state of {subject} has bit 0 set. crashdmp sets it when DriverEntry, Dump_Start, "
            "Dump_Write or Dump_Finish returns a failing status, and then goes on without the "
            f"filter; {_concerns(seen, row)}. "
            "This is proven on Windows 7 x86; where the state lies is inferred on later versions.",
            row,
            subject,
            "state",
        )
    if failed and not any(_is_call_of(call, row) for call in seen["callbacks"]):
        where = routine or "a routine that is not named"
        text = f"The last failing routine of a filter was {where}; it returned {_status(failed)}."
        if not knows_state(seen.build, seen.architecture):
            text += (
                " Where crashdmp keeps this pair is proven on Windows 7 x86 only; here it was "
                "recognised by its content."
            )
        yield _failed(text, row, name, failed, "last_failing_routine", "last_failing_status")


def _concerns(seen: SourceRecords, row: Filter) -> str:
    """What a disabled filter has to do with the file that shows it."""
    if row.stack == "hibernation":
        return (
            "this stack did not write the dump: the failure is of a hibernation, or of its set-up"
        )
    if any(map(is_live, seen["machine"])):
        return "the machine did not crash here, so the failure is of an earlier call"
    return "if the filter encrypts, data of this dump may have gone out in plain text"


def _is_call_of(call: Callback, row: Filter) -> bool:
    """True when a callback row already tells the filter's last failure."""
    return (
        known(call.status) is not None
        and known(call.node) in (None, row.node)
        and (call.filter, call.stack, call.status)
        == (row.filter, row.stack, row.last_failing_status)
        and call.symbol == row.last_failing_routine
    )


def _interface(seen: SourceRecords, row: Filter) -> Iterator[Anomaly]:
    subject = about(row)
    version, read, flags = known(row.major_version), known(row.dump_read), known(row.flags)
    if version == 1 and (seen.build or 0) >= WINDOWS_8:
        yield broken(
            "filter-version-1",
            f"{subject} states interface version 1 on Windows build {seen.build}.",
            row,
            subject,
            "major_version",
            "minor_version",
        )
    if read:
        lacks = [] if flags is None or flags & _READ_SUPPORT else ["flag 0x1 is clear"]
        lacks += [] if version is None or version >= 2 else [f"MajorVersion is {version}"]
        if lacks:
            yield broken(
                "filter-read-without-support",
                f"{subject} has a Dump_Read routine, but {' and '.join(lacks)}.",
                row,
                subject,
                "dump_read",
                "flags",
                "major_version",
            )
    if known(row.max_pages_per_write) == 0:
        yield broken(
            "filter-max-pages-zero",
            f"{subject} has MaxPagesPerWrite 0.",
            row,
            subject,
            "max_pages_per_write",
        )
    if _has_no_callback(row):
        yield broken(
            "filter-without-callbacks",
            f"{subject} has none of the callbacks that take part in a dump.",
            row,
            subject,
            *_WORKING,
        )


def _has_no_callback(row: Filter) -> bool:
    """True when every callback of the layout is NULL; Dump_Unload, which only cleans up, aside."""
    values = [getattr(row, field) for field in _WORKING]
    there = [v for v in values if not (isinstance(v, Absent) and v.reason == "not-applicable")]
    return bool(there) and all(known(value) == 0 for value in there)


def _calls(seen: SourceRecords) -> Iterator[Anomaly]:
    """Failing calls that a source saw, one finding per callback and status however often called."""
    failed: dict[tuple[Text, Text, Address, Text, int], list[Callback]] = {}
    for row in seen["callbacks"]:
        status = known(row.status)
        if status is not None and ntstatus.is_failure(status):
            failed.setdefault((row.filter, row.stack, row.node, row.callback, status), []).append(
                row
            )
    for (*_, status), rows in failed.items():
        row, count = rows[0], len(rows)
        least = "at least " if "capture-calls-missing" in seen.reported else ""
        times = "" if count == 1 else f" {least}{count} times"
        called = known(row.callback) or "A callback"
        text = f"{called} of {about(row)} returned {_status(status)}{times}."
        yield _failed(text, row, row.callback, status, "routine", "status")


def _failed(
    text: str, record: Filter | Callback, callback: Text, status: int, *fields: str
) -> Anomaly:
    """One finding for a failing status: harmless for this filter, or not known to be."""
    why = benign.why(record.filter, callback, status)
    rule = "filter-callback-failed-benign" if why else "filter-callback-failed"
    if why:
        text += f" This is known to be harmless: {why}."
    wrong = wrong_fields(*(field for field in fields if field.endswith("status")))
    return broken(rule, text, record, about(record), *fields, **wrong, callback=known(callback))


def callback_named(seen: SourceRecords, row: Filter) -> Text:
    """The callback that is a filter's last failing routine, None when that cannot be told."""
    routine = known(row.last_failing_routine)
    return None if routine is None else seen.callback_at.get(routine)


def _status(status: int) -> str:
    name = ntstatus.name(status)
    return name if name.startswith("0x") else f"{status & 0xFFFFFFFF:#010x} ({name})"


def _outside(seen: SourceRecords) -> Iterator[Anomaly]:
    """Callbacks whose address is not in the image of their filter."""
    told: set[tuple[Text, Text, str, int]] = set()
    for record, name, address in _routines(seen):
        key = (record.filter, record.stack, name, address)
        if key in told:  # a capture has many calls of one routine
            continue
        told.add(key)
        own = seen.module(record.filter)
        if own is None or contains(own, address) is not False:
            continue
        holder = seen.module_at(address)
        if holder is not None:
            lies = f"in {holder.name}" + ("" if holder.loaded else ", which was unloaded")
        elif seen.reported & PARTIAL:
            lies = "in no listed module (the list is incomplete)"
        else:
            lies = "in no module"
        subject = about(record)
        anomaly = broken(
            "callback-outside-module",
            f"{name} of {subject} is at 0x{address:016x}, {lies}; {own.name} spans {span(own)}.",
            record,
            subject,
        )
        evidence = [Evidence(name, address, "Address", origin=record.origin)]
        evidence += [Evidence(str(m.name), span(m), origin=m.origin) for m in (own, holder) if m]
        yield anomaly._replace(evidence=tuple(evidence))


def _routines(seen: SourceRecords) -> Iterator[tuple[Filter | Callback, str, int]]:
    """Every set callback: of the filters first, then of single callbacks and calls."""
    for row in seen["filters"]:
        for field, name in CALLBACKS.items():
            address = known(getattr(row, field))
            if address:
                yield row, name, address
    for call in seen["callbacks"]:
        routine, callback = known(call.routine), known(call.callback)
        if routine and callback:
            yield call, callback, routine
