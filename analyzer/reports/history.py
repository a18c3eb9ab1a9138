"""The crashes of a case and their timeline, one line each.

Invariant: an event is placed by its own time, a step of writing the dump only by the milliseconds
that its log states since the bugcheck, because the wall clock stands still during a crash.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Callable, NamedTuple

from .. import formatting as fmt
from ..absence import is_absent
from ..answer.next_steps import DUMP, LOG, REGISTRIES, kinds_of
from ..checks.crashes import EVENT_LOGS, Index, logged
from ..records import Crash, Event, Records, Stage
from .blocks import Block, Paragraph, Table
from .missing import Row

_MOST_ROWS = 40
_MOST_CRASHES = 10
_MS = 1_000_000
_DAY = 86400 * 10**9


class Moment(NamedTuple):
    """One line of the timeline."""

    time: int  #: ns since 1970; of a step: crash time and stated milliseconds, for the order only
    shown: str  #: "" to show the time
    source: Row
    text: Callable[[], str]  #: worded only when it is shown: a log may have 100,000 events


def crashes(records: Records, names: Mapping[str, str]) -> Iterator[Block]:
    """Which source tells of which crash, how sure that is and why."""
    if not _is_case(records):
        return
    index = Index(records["crashes"])
    found = index.numbers()
    if len(found) > _MOST_CRASHES:
        left = len(found) - _MOST_CRASHES
        yield Paragraph(f"{left} older crashes; 'dumpstart show crashes' lists them.")
    for number in found[-_MOST_CRASHES:]:
        rows = index.by_number[number]
        coded = next((row for row in rows if not is_absent(row.bugcheck)), rows[0])
        code = fmt.fields(coded, "bugcheck", "bugcheck_name")
        yield Paragraph(f"crash {number}: {code or 'bugcheck not known'}")
        for row in rows:
            text = f"{fmt.field(row, 'tells')}"
            text += "" if is_absent(row.outcome) else f" (dump {fmt.field(row, 'outcome')})"
            text += f": {fmt.clean(row.why)} ({row.origin.confidence})"
            yield Paragraph(f"{_name(row, names)}: {text}", 1)


def timeline(records: Records, names: Mapping[str, str]) -> Iterator[Block]:
    """Starts, crashes, steps of writing the dump and events, oldest first."""
    if not _is_case(records):
        return
    moments = sorted(_moments(records), key=lambda moment: moment.time)
    left_out = len(moments) - _MOST_ROWS
    if left_out > 0:
        yield Paragraph(f"{left_out} older lines are left out.")
    rows = [
        (moment.shown or _at(moment.time), f"{_name(moment.source, names)}: {moment.text()}")
        for moment in moments[-_MOST_ROWS:]
    ]
    if rows:
        yield Table(("", ""), rows)


def _is_case(records: Records) -> bool:
    """True when a log or the registry is among the sources: no dump tells the whole story."""
    kinds = kinds_of(records)
    if not kinds & {LOG, *EVENT_LOGS, *REGISTRIES}:
        return False
    return DUMP not in kinds or bool(records["crashes"])  # not for dumps of running systems


def _name(row: Row, names: Mapping[str, str]) -> str:
    return names.get(row.origin.source, "")


def _at(ns: int) -> str:
    from ..tables import iso_time

    return iso_time(ns)[:19].replace("T", " ")


def _moments(records: Records) -> Iterator[Moment]:
    crash_times: dict[str, int] = {}
    for row in records["crashes"]:
        if not is_absent(row.time) and not str(row.tells).startswith("event "):
            crash_times[row.origin.source] = row.time
            yield Moment(row.time, "", row, partial(_crash, row))
    for stage in records["stages"]:
        start = crash_times.get(stage.origin.source)
        if start is None or not isinstance(stage.elapsed_ms, int):
            continue
        if 0 <= stage.elapsed_ms * _MS < _DAY:
            shown = f"+{stage.elapsed_ms} ms"
            yield Moment(start + stage.elapsed_ms * _MS, shown, stage, partial(_stage, stage))
    for event in logged(records):
        if isinstance(event.time, int):
            yield Moment(event.time, "", event, partial(_event, event))


def _crash(row: Crash) -> str:
    code = fmt.fields(row, "bugcheck", "bugcheck_name")
    return f"crash {row.crash} ({fmt.field(row, 'tells')}), bugcheck {code or 'not known'}"


def _stage(stage: Stage) -> str:
    took = fmt.field(stage, "duration_ms", "")
    name = fmt.field(stage, "stage") + (f", {took} ms" if took else "")
    return f"{name}: {fmt.field(stage, 'text', '')}"


def _event(event: Event) -> str:
    # a storage event has no name of ours; one that was left out is not one of those
    other = "storage error" if event.name is None else "event"
    what = fmt.fields(event, "name") or fmt.fields(event, "text") or other
    return f"{fmt.field(event, 'provider')} {fmt.field(event, 'event_id')}: {what}"
