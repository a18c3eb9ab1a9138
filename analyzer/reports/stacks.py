"""Where the processors were, and the call stacks that matter, for the text and the HTML report.

Invariant: a stack is shown as it was found; what was left on a stack is called that, and idle
processors are counted, not listed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .. import formatting as fmt
from ..absence import Absent, is_absent
from ..records import Frame, Processor, Records

#: processors that are listed, stacks that are shown, frames of each
_PROCESSORS, _STACKS, _FRAMES = 16, 6, 24


class Block(NamedTuple):
    """A heading, the rows below it with their head first, and what is to be said of them."""

    title: str
    rows: list[tuple[str, ...]]
    notes: list[str]


def blocks(records: Records) -> Iterator[Block]:
    """The processors, then each stack that is shown."""
    rows: list[Processor] = records["processors"]
    if rows:
        yield _processors(rows)
    stacks = _stacks(records)
    wanted = [frames for frames in stacks if _matters(frames, rows)]
    for frames in wanted[:_STACKS]:
        yield _stack(frames)
    left = len(wanted[_STACKS:]) + len(stacks) - len(wanted)
    if left and wanted:
        text = f"{fmt.counted(left, 'more stack')} in the table frames."
        yield Block("", [], [text])


def _processors(rows: list[Processor]) -> Block:
    busy = [row for row in rows if row.is_idle is not True]
    table: list[tuple[str, ...]] = [("processor", "at", "inside")]
    for row in busy[:_PROCESSORS]:
        number = "?" if is_absent(row.processor) else str(row.processor)
        table.append((number, fmt.field(row, "symbol"), _inside(row)))
    notes = []
    if len(busy) > _PROCESSORS:
        notes.append(f"{len(busy) - _PROCESSORS} more in the table processors.")
    idle = len(rows) - len(busy)
    if idle:
        notes.append(f"{fmt.counted(idle, 'processor')} ran the idle thread.")
    for row in busy[:_PROCESSORS]:
        if not is_absent(row.first_argument_is):
            register = fmt.field(row, "first_argument_is")
            number = fmt.field(row, "processor", "?")
            notes.append(
                f"The first argument register of processor {number} holds "
                f"{fmt.field(row, 'first_argument')}, the {register}."
            )
    return Block("Where they were", table if busy else [], notes)


def _inside(row: Processor) -> str:
    if is_absent(row.filter):
        return "-"
    name = fmt.field(row, "filter")
    return name if is_absent(row.callback) else f"{fmt.field(row, 'callback')} of {name}"


def _stacks(records: Records) -> list[list[Frame]]:
    """The frames of each stack; one ends where the next begins with frame 0."""
    found: list[list[Frame]] = []
    for frame in records["frames"]:
        if frame.frame == 0 or not found:
            found.append([])
        found[-1].append(frame)
    return found


def _matters(frames: list[Frame], rows: list[Processor]) -> bool:
    """True for more than one frame of a processor that was not idle, or of none."""
    idle = {row.processor for row in rows if row.is_idle is True and not is_absent(row.processor)}
    return len(frames) > 1 and (is_absent(frames[0].processor) or frames[0].processor not in idle)


def _stack(frames: list[Frame]) -> Block:
    first = frames[0]
    table: list[tuple[str, ...]] = [("frame", "at", "stack pointer", "found by")]
    names = ("frame", "symbol", "stack_pointer", "how")
    table += [tuple(fmt.field(frame, name) for name in names) for frame in frames[:_FRAMES]]
    notes = []
    if len(frames) > _FRAMES:
        notes.append(f"{len(frames) - _FRAMES} more in the table frames.")
    title = fmt.field(first, "stack_of")
    if title.startswith("stale"):
        notes.append(
            "Calls that were once under way together; they need not have been at the crash."
        )
    end = frames[-1].return_address
    if isinstance(end, Absent):
        notes.append(f"It ends here: {fmt.clean(end.detail or str(end), 200)}.")
    title = title if title.startswith("stale") else f"call stack of {title}"
    return Block(fmt.capital(title), table, notes)
