"""A large capture file: what our writer wrote is taken many lines at once, the rest one by one.

Invariant: the story is the same as with one line after the other. Calls that are no plain sequence
of entries and their returns, or lie inside each other, are taken singly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

from .capture_calls import AT_ENTRY, AT_RETURN, MAX_TOLD, Calls
from .capture_format import BATCH, LONGEST, endless_line, lines_of
from .capture_lines import Batch, read, runs
from .capture_story import Story
from .capture_table import BITS, ENTRY, RETURN

Array = Any

PIECE = 1 << 20
_FEW = 48  #: fewer lines than this are taken one by one
_TOLD = ("n", "cpu", "host", "tsc", "status")  #: of a return
_NOTHING = np.uint64((1 << 64) - 1)


def load(story: Story, file: BinaryIO) -> bool:
    """Takes all lines from where the file stands; True when the last one is whole."""
    offset = file.tell()
    for piece in _pieces(file):
        if not piece.endswith(b"\n"):
            _decode(story, [piece], offset)
            return False
        batch = read(piece)
        if int((batch.ends - batch.starts).max()) >= LONGEST:
            raise endless_line(story.path)
        starts, ends = batch.starts.tolist(), batch.ends.tolist()
        for first, past, is_taken in runs(batch.taken):
            if is_taken:
                _take(story, batch, first, past, offset)
                continue
            for place in range(first, past, BATCH):
                some = range(place, min(place + BATCH, past))
                _decode(story, [piece[starts[n] : ends[n]] for n in some], offset + starts[place])
        offset += len(piece)
    return True


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    """The bytes of the file in pieces of whole lines; what follows the last line end is its own."""
    parts: list[bytes] = []
    while True:
        data = file.read(PIECE)
        if not data:
            break
        cut = data.rfind(b"\n") + 1
        if cut:
            yield b"".join([*parts, data[:cut]])
            parts = []
        parts.append(data[cut:])
        if sum(map(len, parts)) >= LONGEST:
            raise endless_line(file.name)
    rest = b"".join(parts)
    if rest:
        yield rest


def _decode(story: Story, some: list[bytes], offset: int) -> None:
    """Lines that only JSON can tell."""
    lines = lines_of(some, offset)
    for fact, place in zip(lines.facts, lines.offsets):
        if fact is not None:
            story.take(fact, place)
        elif lines.is_whole or place != lines.offsets[-1]:
            story.odd(place)


def _take(story: Story, batch: Batch, first: int, past: int, base: int) -> None:
    """Neighbouring lines of entries and returns."""
    calls = story.calls
    which = _joined(calls, batch, slice(first, past), base) if past - first >= _FEW else None
    for line in range(first, past) if which is None else _with_bytes(batch, first, past):
        offset = base + int(batch.starts[line])
        if which is not None:
            calls.last = int(which[line - first])
        elif not _one(calls, batch, line, offset):
            story.odd(offset)
            continue
        if line in batch.bytes:
            data = _unhex(batch.bytes[line])
            (story.given if batch.is_call[line] else story.left)(data, offset)


def _with_bytes(batch: Batch, first: int, past: int) -> list[int]:
    return [line for line in batch.bytes if first <= line < past]


def _unhex(digits: str) -> bytes | None:
    try:
        return bytes.fromhex(digits) if len(digits) <= 1 << 16 else None
    except ValueError:  # an odd number of digits
        return None


def _one(calls: Calls, batch: Batch, line: int, offset: int) -> bool:
    values, known = batch.values, batch.known
    if batch.is_call[line]:
        return calls.entered(_numbers(values, known, line, ("n", "id", *AT_ENTRY)), offset)
    return calls.returned(_numbers(values, known, line, _TOLD), offset)


def _numbers(
    values: dict[str, Array], known: dict[str, Array], line: int, names: Sequence[str]
) -> list[int | None]:
    """Numbers of one line, None where there is none."""
    return [int(values[name][line]) if known[name][line] else None for name in names]


def _joined(calls: Calls, batch: Batch, lines: slice, base: int) -> Array | None:
    """Adds all calls of some lines; the call of each line, None when they need a closer look."""
    values = {name: column[lines] for name, column in batch.values.items()}
    known = {name: column[lines] for name, column in batch.known.items()}
    is_call = batch.is_call[lines]
    entries, backs = np.flatnonzero(is_call), np.flatnonzero(~is_call)
    if not len(entries) or not known["n"].all() or not known["id"][entries].all():
        return None
    begun, ended = values["n"][entries], values["n"][backs]
    if not (begun[1:] > begun[:-1]).all() or not calls.open.keys().isdisjoint(begun.tolist()):
        return None
    at = np.minimum(np.searchsorted(begun, ended), len(begun) - 1)
    inside = (begun[at] == ended) & (entries[at] < backs)
    own, old = at[inside], ended[~inside].tolist()
    if len(np.unique(own)) != len(own) or len(set(old)) != len(old):
        return None
    if not all(key in calls.open for key in old):
        return None
    idents, place_of = np.unique(values["id"][entries], return_inverse=True)
    routines = [calls.armed_now.get(ident) for ident in idents.tolist()]
    if not all(routines):
        return None
    cpu = np.where(known["cpu"], values["cpu"], _NOTHING)
    earlier = len(calls)
    which = np.empty(len(is_call), np.int64)
    which[entries] = np.arange(earlier, earlier + len(entries))
    which[backs[inside]] = earlier + own
    which[backs[~inside]] = [calls.open[key] for key in old]
    if len(calls.nested) < MAX_TOLD:
        whose = cpu.copy()  # processor of the entry, of a return too
        whose[backs[inside]] = cpu[entries[own]]
        whose[backs[~inside]] = [_processor(calls, calls.open[key]) for key in old]
        if _nests(calls, whose, is_call):
            return None

    flags = np.full(len(entries), ENTRY, np.uint16)
    flags[own] |= RETURN
    columns = {}
    for name in AT_ENTRY:
        columns[name] = values[name][entries]
        flags |= known[name][entries] * np.uint16(BITS[name])
    for name, told in zip(AT_RETURN, _TOLD[1:]):
        columns[name] = np.zeros(len(entries), np.uint64)
        columns[name][own] = values[told][backs[inside]]
        flags[own] |= known[told][backs[inside]] * np.uint16(BITS[name])
    columns["offset"] = (batch.starts[lines][entries] + base).astype(np.uint64)
    columns["flags"] = flags
    columns["routine"] = np.array([r.place for r in routines if r], np.uint32)[place_of]
    columns["number"] = np.empty(len(entries), np.uint32)
    for place, routine in enumerate(routines):
        if routine is not None:
            same = np.flatnonzero(place_of == place)
            columns["number"][same] = np.arange(routine.calls, routine.calls + len(same))
            routine.calls += len(same)
    for name, column in calls.columns.items():
        column.frombytes(columns[name].tobytes())

    for line in backs[~inside].tolist():
        calls.returned(_numbers(values, known, line, _TOLD), 0)
    missing = np.ones(len(entries), bool)
    missing[own] = False
    for place in np.flatnonzero(missing).tolist():
        calls.open[int(begun[place])] = earlier + place
    return which


def _processor(calls: Calls, call: int) -> int:
    cpu = calls.cpu(call)
    return int(_NOTHING) if cpu is None else cpu


def _nests(calls: Calls, whose: Array, is_call: Array) -> bool:
    """True when a call is entered while another has not returned on the same processor."""
    under_way = Counter(_processor(calls, call) for call in calls.open.values())
    order = np.argsort(whose, kind="stable")
    steps = np.where(is_call, 1, -1)[order]
    depth = np.cumsum(steps) - steps
    processors, first = np.unique(whose[order], return_index=True)
    for processor, begin, end in zip(
        processors.tolist(), first.tolist(), [*first[1:].tolist(), len(order)]
    ):
        before = depth[begin:end] - depth[begin] + under_way.get(processor, 0)
        if (before[is_call[order[begin:end]]] > 0).any():
            return True
    return False
