"""Several snapshots of one machine: whether what was executing is still there.

Invariant: only snapshots whose modules all lie at the same places are compared, for the addresses
change with each start. Which one is later is told by their clocks; while the machine crashes these
stand still, then the order in which they were given counts, and the sentence says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

from ..absence import is_absent, known
from ..files import called
from ..records import SNAPSHOT, Anomaly, Cell, Evidence, Frame, Processor, Record, Records

R = TypeVar("R", bound=Record)
_MODULES = 3  #: fewer say nothing of the machine


class _Look(NamedTuple):
    """What one snapshot shows."""

    source: Cell
    time: int | None
    modules: frozenset[tuple[Cell, Cell]]
    processors: list[Processor]
    frames: list[Frame]


def check(records: Records) -> Iterator[Anomaly]:
    """Each processor that was inside a callback, in the next snapshot of the same machine."""
    looks = [_look(records, s.path) for s in records["sources"] if s.kind == SNAPSHOT]
    done: set[int] = set()
    for number, first in enumerate(looks):
        same = [look for look in looks[number:] if look.modules == first.modules]
        if number in done or len(first.modules) < _MODULES or len(same) < 2:
            continue
        done.update(n for n, look in enumerate(looks) if look in same)
        is_timed = len({look.time for look in same}) == len(same) and None not in {
            look.time for look in same
        }
        ordered = sorted(same, key=lambda look: look.time or 0) if is_timed else same
        for before, after in zip(ordered, ordered[1:]):
            yield from _compared(before, after, is_timed)


def _look(records: Records, source: Cell) -> _Look:
    def of(rows: list[R]) -> list[R]:
        return [row for row in rows if row.origin.source == source]

    modules = frozenset((m.name, m.base) for m in of(records["modules"]) if m.loaded)
    time = next((known(m.system_time) for m in of(records["machine"])), None)
    frames = [f for f in of(records["frames"]) if not str(f.stack_of).startswith("stale")]
    return _Look(source, time, modules, of(records["processors"]), frames)


def _compared(before: _Look, after: _Look, is_timed: bool) -> Iterator[Anomaly]:
    order = "" if is_timed else " (in the order given: the machine's clock stands still)"
    one, other = called(before.source), called(after.source)
    for row in before.processors:
        if is_absent(row.filter) or is_absent(row.processor):
            continue
        later = next((p for p in after.processors if p.processor == row.processor), None)
        if later is None:
            continue
        where = f"Processor {row.processor} was inside {_inside(row)} in {one} and is"
        evidence = (_at("first", row), _at("later", later))
        callback = known(row.callback)
        facts = dict[str, Cell](processor=row.processor, filter=row.filter, callback=callback)
        if _is_same_call(row, later, before.frames, after.frames):
            text = (
                f"{where} still there in {other}{order}, called from the same place: either it has "
                "not returned or it was called again."
            )
            rule = "callback-still-executing"
        elif is_absent(later.filter):
            text = f"{where} in no filter in {other}{order}, but at {later.symbol}: it returned."
            rule = "callback-moved-on"
        else:
            text = f"{where} inside {_inside(later)} in {other}{order}: it moved on."
            rule = "callback-moved-on"
        yield Anomaly(rule, text, later.origin, str(row.filter), evidence, facts)


def _at(which: str, row: Processor) -> Evidence:
    label = f"{which}_instruction_pointer"
    return Evidence(label, row.instruction_pointer, "Address", str(row.symbol), row.origin)


def _inside(row: Processor) -> str:
    return f"{row.callback} of {row.filter}" if known(row.callback) else str(row.filter)


def _is_same_call(
    row: Processor, later: Processor, frames: Sequence[Frame], later_frames: Sequence[Frame]
) -> bool:
    """The same callback, entered with the same stack pointer from the same place."""
    if (row.filter, known(row.callback)) != (later.filter, known(later.callback)):
        return False
    return _caller(row, frames) == _caller(later, later_frames)


def _caller(row: Processor, frames: Sequence[Frame]) -> tuple[Cell, Cell] | None:
    """Where the code outside the filter goes on, and its stack pointer there."""
    inside = False
    for frame in frames:
        if frame.processor != row.processor:
            continue
        if frame.module == row.filter:
            inside = True
        elif inside:
            return frame.instruction_pointer, frame.stack_pointer
    return None
