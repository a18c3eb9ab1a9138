"""What a trace file states of its buffers, against the buffers it holds.

Invariant: a buffer that stands twice counts once; one that is missing, or says that it is empty and
is not, is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..files import FileBytes
from .layouts import (
    BUFFER_HEADER_SIZE,
    ETW_BUFFER_FLAG_COMPRESSED,
    EVENT_TRACE_FILE_MODE_CIRCULAR,
    EVENT_TRACE_FILE_MODE_NEWFILE,
    MARKER_MESSAGE,
    MARKER_TRACE,
)
from .session import Session

if TYPE_CHECKING:
    from .buffers import Array

#: sessions whose count of written buffers is not that of one file
_ELSEWHERE = EVENT_TRACE_FILE_MODE_CIRCULAR | EVENT_TRACE_FILE_MODE_NEWFILE


def repeated(data: FileBytes, table: Array) -> list[int]:
    """Rows of buffers that an earlier row holds byte by byte."""
    same = ("sequence", "stamp", "cpu", "stride", "end")
    keys = [tuple(row) for row in zip(*(table[name].tolist() for name in same))]
    if len(set(keys)) == len(keys):
        return []
    seen: dict[tuple[int, ...], list[int]] = {}
    found = []
    for row, key in enumerate(keys):
        low, size = int(table["offset"][row]), int(table["stride"][row])
        mine = data.once(low, size) if key in seen else b""
        if any(data.once(int(table["offset"][k]), size) == mine for k in seen.get(key, ())):
            found.append(row)
        else:
            seen.setdefault(key, []).append(row)
    return found


def lacking(session: Session, table: Array) -> int:
    """How many of the buffers that a closed session wrote are not in the file."""
    if not session.finalised or session.mode & _ELSEWHERE:
        return 0
    return max(0, session.buffers_written - len(table))


def not_empty(data: FileBytes, table: Array) -> list[int]:
    """Rows of buffers that say they are empty and begin with what looks like an event."""
    empty = table["end"] <= BUFFER_HEADER_SIZE
    empty &= (table["flags"] & ETW_BUFFER_FLAG_COMPRESSED) == 0
    found = []
    for row in np.flatnonzero(empty).tolist():
        head = data.view(int(table["offset"][row]) + BUFFER_HEADER_SIZE, 4)
        if len(head) == 4 and head[3] in (MARKER_TRACE, MARKER_MESSAGE):
            found.append(row)
    return found


def sequence_gaps(table: Array) -> list[tuple[int, int, int]]:
    """(processor, last number before the gap, numbers missing), where numbering is per processor.

    A session numbers its buffers either as one sequence or per processor; a gap is reported only
    when the numbers of the whole file are not gapless together.
    """
    numbers = np.unique(table["sequence"])
    if len(numbers) < 2:
        return []
    missing = np.flatnonzero(np.diff(numbers) > 1)
    gaps = []
    for k in missing.tolist():
        before, after = int(numbers[k]), int(numbers[k + 1])
        row = table[np.flatnonzero(table["sequence"] == before)[-1]]
        gaps.append((int(row["cpu"]), before, after - before - 1))
    return gaps
