"""Checks of where processors were executing.

Invariant: a callback is said to be running only when a stack that was unwound proves it; that one
look does not prove a hang is part of the sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..absence import Absent, known
from ..records import Anomaly, Evidence, Frame, Processor
from .evidence import SourceRecords

_ONE_LOOK = (
    "One look does not prove that it hangs there; a second snapshot, taken later, tells whether it "
    "moves on"
)


def check(seen: SourceRecords) -> Iterator[Anomaly]:
    """Each processor that is inside a callback."""
    for row, frames in inside(seen["processors"], seen["frames"]):
        yield _inside(row, frames)


def inside(
    processors: Iterable[Processor], frames: Iterable[Frame]
) -> Iterator[tuple[Processor, list[Frame]]]:
    """The processors that are inside a filter, each with the frames of its stack."""
    listed = list(frames)
    for row in processors:
        if known(row.filter) is not None and row.origin.confidence != "guess":
            yield row, [frame for frame in listed if _is_of(frame, row)]


def _is_of(frame: Frame, row: Processor) -> bool:
    is_known = known(frame.stack_of) is not None and not str(frame.stack_of).startswith("stale")
    same = frame.origin.source == row.origin.source and frame.processor == row.processor
    return is_known and same


def caller_of(frames: Sequence[Frame], module: object) -> Frame | None:
    """The frame that called into a module: the first one outside it, further out."""
    inside = False
    for frame in frames:
        if frame.module == module:
            inside = True
        elif inside:
            return frame
    return None


def sentence(row: Processor, frames: Sequence[Frame]) -> str:
    """Where a processor is, as far as that is known."""
    callback = known(row.callback)
    number = "The processor" if known(row.processor) is None else f"Processor {row.processor}"
    what = f"{callback} of {row.filter}" if callback else f"{row.filter}"
    sure = "" if row.origin.confidence == "certain" else "likely "
    text = f"{number} is {sure}inside {what}, at {row.symbol}"
    caller = caller_of(frames, row.filter)
    if caller is not None:
        text += f", called by {caller.symbol}"
    text += "."
    if not callback:
        text += " Which callback, if any, is not determined."
    return f"{text} {_ONE_LOOK}."


def _inside(row: Processor, frames: Sequence[Frame]) -> Anomaly:
    text, caller = sentence(row, frames), caller_of(frames, row.filter)
    evidence = [
        Evidence("instruction_pointer", row.instruction_pointer, "Address", str(row.symbol)),
        Evidence("stack_pointer", row.stack_pointer, "Address"),
    ]
    if known(row.first_argument_is) is not None:
        words = str(row.first_argument_is)
        evidence.append(Evidence("first_argument", row.first_argument, "Address", words))
    if caller is not None:
        words = str(caller.symbol)
        evidence.append(Evidence("called_by", caller.instruction_pointer, "Address", words))
    if row.origin.confidence != "certain":
        text += f" How it is known: {row.origin.how}."
    facts = {
        "processor": None if isinstance(row.processor, Absent) else row.processor,
        "filter": row.filter,
        "callback": known(row.callback),
        "instruction_pointer": row.instruction_pointer,
        "stack_pointer": row.stack_pointer,
    }
    return Anomaly(
        "callback-executing", text, row.origin, str(row.filter),
        tuple(evidence), facts,
    )  # fmt: skip
