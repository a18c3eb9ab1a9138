"""Where the events of a run of buffers start, found by vector steps instead of a loop per event.

Invariant: the result is exactly what following each event's Size from the start of its buffer
gives; damage ends a buffer's chain only until a later chain is found that runs to the buffer's end.

Every 8-byte slot whose marker, type and size could be an event's is a candidate. In sound data the
candidates are the events, each pointing at the next; only where one does not (payload bytes that
look like a header, damage, the end of a buffer) is there anything to decide one by one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .buffers import Array, Block
from .layouts import (
    COMPACT64,
    END_OF_BUFFER,
    HEADER_SIZE,
    MARKER_MESSAGE,
    MARKER_TRACE,
    MESSAGE,
    PERFINFO32,
    TIMED,
)

_KIND = np.zeros(1 << 16, np.uint8)  # type by the second half word, which holds type and marker
_LEAST = np.zeros(256, np.uint16)  # smallest sound Size by type
for _kind, _size in HEADER_SIZE.items():
    _LEAST[_kind] = _size
    if _kind != MESSAGE:  # 15 is our own number, not the disk's
        _KIND[MARKER_TRACE << 8 | _kind] = _kind
_KIND[MARKER_MESSAGE << 8 : (MARKER_MESSAGE + 1) << 8] = MESSAGE
_PACKET = (1, 2, 3, 4, 16, 17)  # types whose Size is in the second word


_LOST, _BROKEN, _MEETS, _ENDS = range(4)  # where the last of a run of candidates leads


class Damage(NamedTuple):
    """Bytes of one buffer that are no event: relative to the block."""

    lane: int
    start: int
    end: int  #: where the next good event starts, or the end of the buffer
    recovered: int  #: events found behind it


class Swallowed(NamedTuple):
    """An event whose Size covers others, which therefore are not read as events."""

    lane: int
    start: int  #: of the event, relative to the block
    events: int


class Walk(NamedTuple):
    """Events of a block, buffer by buffer."""

    slots: Array  #: position / 8
    sizes: Array  #: uint16
    types: Array  #: uint8, layouts numbers
    bounds: Array  #: the rows of buffer k of the block are bounds[k] to bounds[k + 1]
    used: Array  #: bytes from the buffer's first event to the end of its last, per buffer
    damage: list[Damage]
    swallowed: Sequence[Swallowed] = ()


def _header(word: int) -> tuple[int, int]:
    """(type, size) of the event whose first 8 bytes are ``word``; (0, 0) when it is none."""
    kind = int(_KIND[word >> 16 & 0xFFFF])
    size = word >> 32 & 0xFFFF if kind in _PACKET else word & 0xFFFF
    return (kind, size) if kind and size >= int(_LEAST[kind]) else (0, 0)


def walk(block: Block) -> Walk:
    """All events of the block."""
    words = block.data[: len(block.data) & ~7].view(np.uint64)
    mark = words.view(np.uint16)[1::4] & np.uint16(0xAFE0)
    # One test for 0xC000..0xC01F and 0x9000; the few others that pass have no type below.
    slots = (mark == np.uint16(0x8000)).nonzero()[0]
    del mark
    types, sizes = _types_and_sizes(words.take(slots))
    fits = sizes >= _LEAST.take(types)
    fits &= types != 0
    if not fits.all():
        fit = fits.nonzero()[0]
        slots, types, sizes = slots.take(fit), types.take(fit), sizes.take(fit)
    ahead = sizes.astype(np.int64)
    ahead += 7
    ahead >>= 3
    ahead += slots

    low, ends = block.starts >> 3, block.ends
    if len(low) > 1 and not (low[1:] >= ends[:-1] >> 3).all():
        raise AssertionError("buffers of a block overlap")
    first, past = slots.searchsorted(low), slots.searchsorted(ends >> 3)
    dead, broken, used = _follow(words, slots, ahead, sizes, low, ends, first, past)
    if not dead and not broken:
        return Walk(slots, sizes, types, np.concatenate((first, [len(slots)])), used, [])

    swallowed = _swallowed(words, slots, ahead, types, low, dead, broken)
    alive = np.ones(len(slots), bool)
    for start, stop in dead:
        alive[start:stop] = False
    damage: list[Damage] = []
    extra: list[int] = []
    for lane in broken:
        f, p, end = int(first[lane]), int(past[lane]), int(ends[lane])
        alive[f:p] = False
        rows = f + (slots[f:p] * 8 + sizes[f:p] <= end).nonzero()[0]
        kept, used[lane] = _repair(
            words, slots[rows].tolist(), ahead[rows].tolist(), int(low[lane]), end, lane, extra,
            damage,
        )  # fmt: skip
        alive[rows[kept]] = True
    keep = alive.nonzero()[0]
    slots = slots.take(keep)
    if extra:
        slots = np.sort(np.concatenate((slots, np.array(extra, slots.dtype))))
        types, sizes = _types_and_sizes(words.take(slots))
    else:
        types, sizes = types.take(keep), sizes.take(keep)
    bounds = np.concatenate((slots.searchsorted(low), [len(slots)]))
    return Walk(slots, sizes, types, bounds, used, damage, swallowed)


def _types_and_sizes(heads: Array) -> tuple[Array, Array]:
    halves = heads.view(np.uint16)
    types = _KIND.take(halves[1::4])
    packet = (types <= COMPACT64) | ((types & 0xFE) == PERFINFO32)  # what is no event has type 0
    return types, np.where(packet, halves[2::4], halves[0::4])


def _follow(
    words: Array, slots: Array, ahead: Array, sizes: Array, low: Array, ends: Array, first: Array,
    past: Array,
) -> tuple[list[tuple[int, int]], list[int], Array]:  # fmt: skip
    """Which candidates are no events, as ranges; the buffers to repair; bytes used per buffer.

    Candidates that point at each other are a run; where the first one is an event, all are, and
    only where the last one leads has to be looked at.
    """
    torn = np.empty(len(slots), bool)
    np.not_equal(ahead[:-1], slots[1:], out=torn[:-1])
    torn[past[past > 0] - 1] = True
    torn[-1:] = True
    last = torn.nonzero()[0]
    leads = ahead[last]
    limit = ends.take(low.searchsorted(slots[last], side="right") - 1, mode="clip")
    target = slots.searchsorted(leads)
    bad = slots[last] * 8 + sizes[last] > limit
    meets = slots.take(target, mode="clip") == leads
    over = (leads * 8 + 8 > limit) | (
        words.take(leads, mode="clip") & END_OF_BUFFER == END_OF_BUFFER
    )
    how = np.where(bad, _BROKEN, np.where(over, _ENDS, np.where(meets, _MEETS, _LOST))).tolist()
    lasts, tails, targets = last.tolist(), leads.tolist(), target.tolist()
    begins = (
        ((first < past) & (slots.take(first, mode="clip") == low)).tolist() if len(slots)
        else [False] * len(low)
    )  # fmt: skip

    dead: list[tuple[int, int]] = []
    broken: list[int] = []
    used = []
    j = decided = 0
    for lane, (f, p, start, end) in enumerate(
        zip(first.tolist(), past.tolist(), low.tolist(), ends.tolist())
    ):
        if decided < f:
            dead.append((decided, f))  # between buffers
        decided, tail, state = f, start, _LOST
        if begins[lane]:
            while True:
                if lasts[j] < decided:
                    j = bisect_left(lasts, decided, j)
                state, tail = how[j], tails[j]
                if state != _MEETS:
                    break
                dead.append((lasts[j] + 1, targets[j]))
                decided = targets[j]
            decided = lasts[j] + 1
        elif start * 8 + 8 > end or _is_end(int(words[start])):
            state = _ENDS
        if state == _LOST and not words[tail : end >> 3].any():
            state = _ENDS  # never written, not damaged
        if state != _ENDS:
            broken.append(lane)
        elif decided < p:
            dead.append((decided, p))
        decided = p
        used.append(max(min(tail * 8, end) - start * 8, 0))
    if decided < len(slots):
        dead.append((decided, len(slots)))
    return dead, broken, np.array(used, np.int64)


def _swallowed(
    words: Array, slots: Array, ahead: Array, types: Array, low: Array,
    dead: list[tuple[int, int]], broken: list[int],
) -> list[Swallowed]:  # fmt: skip
    """Events that hold a chain of others up to their very end, in the order of their times.

    Payload that only looks like events has no such times.
    """
    behind = np.array([start for start, stop in dead if 0 < start < stop], np.int64)
    around = behind - 1
    ends = ahead[around]
    last = slots.searchsorted(ends) - 1
    found, torn = list[Swallowed](), set(broken)
    for k in ((last > around) & (ahead[last] == ends)).nonzero()[0].tolist():
        outer, first = int(around[k]), int(last[k])
        lane = int(low.searchsorted(slots[outer], side="right")) - 1
        after = int(last[k]) + 1
        while first - 1 > outer and ahead[first - 1] == slots[first]:
            first -= 1
        rows = [outer, *range(first, after)]
        if after < len(slots) and slots[after] == ends[k]:
            rows.append(after)
        kinds = types[rows]
        times = words.take(slots[rows] + np.where((kinds & 0xFE) == PERFINFO32, 1, 2), mode="clip")
        is_timed = ((kinds < TIMED) | (kinds > MESSAGE)).all()
        if is_timed and lane not in torn and (times[1:] >= times[:-1]).all():
            found.append(Swallowed(lane, int(slots[outer]) * 8, after - first))
    return found


def _is_end(word: int) -> bool:
    return word & END_OF_BUFFER == END_OF_BUFFER


def _repair(
    words: Array, cand: list[int], nexts: list[int], start: int, end: int, lane: int,
    extra: list[int], damage: list[Damage],
) -> tuple[list[int], int]:  # fmt: skip
    """Walks one buffer; returns which candidates are events and the bytes used."""
    kept: list[int] = []
    at, k = start, 0
    ends_well: list[bool] = []  # filled when first needed
    while True:
        while at * 8 + 8 <= end:
            k = bisect_left(cand, at, k)
            if k < len(cand) and cand[k] == at:
                kept.append(k)
                at = nexts[k]
                continue
            kind, size = _header(int(words[at]))
            if not kind or at * 8 + size > end:
                break
            extra.append(at)  # sound, but outside the candidate test
            at += (size + 7) >> 3
        if at * 8 + 8 > end or _is_end(int(words[at])):
            return kept, min(at * 8, end) - start * 8
        if not words[at : end >> 3].any():  # never written, not damaged
            return kept, at * 8 - start * 8
        # Damage: go on at the first candidate whose chain runs to a clean end of the buffer.
        ends_well = ends_well or _reaches_end(words, cand, nexts, end)
        k = bisect_left(cand, at + 1)
        while k < len(cand) and not ends_well[k]:
            k += 1
        if k == len(cand):
            damage.append(Damage(lane, at * 8, end, 0))
            return kept, end - start * 8
        chain, j, ahead = 1, k, nexts[k]
        while chain < 1 << 16:
            j = bisect_left(cand, ahead, j + 1)
            if j == len(cand) or cand[j] != ahead:
                break  # the end of the buffer: what looks like an event behind it is none
            chain, ahead = chain + 1, nexts[j]
        damage.append(Damage(lane, at * 8, cand[k] * 8, chain))
        at = cand[k]


def _reaches_end(words: Array, cand: list[int], nexts: list[int], end: int) -> list[bool]:
    good = [False] * len(cand)
    for k in range(len(cand) - 1, -1, -1):
        at = nexts[k]
        if at * 8 + 8 > end or _is_end(int(words[at])):
            good[k] = True
            continue
        j = bisect_left(cand, at, k + 1)
        good[k] = j < len(cand) and cand[j] == at and good[j]
    return good
