"""Where the events of a run of buffers start, found by vector steps instead of a loop per event.

Invariant: the result is exactly what following each event's Size from the start of its buffer
gives; damage ends a buffer's chain only until a later chain is found that runs to the buffer's end.

Every 8-byte slot whose marker, type and size could be an event's is a candidate. In sound data the
candidates are the events; where a candidate does not point at the next one (payload bytes that look
like a header, or damage), only that buffer is walked one by one.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any, NamedTuple

import numpy as np

from .buffers import Block
from .layouts import END_OF_BUFFER, HEADER_SIZE, MARKER_MESSAGE, MARKER_TRACE, MESSAGE

Array = Any

_MIN_SIZE = np.full(256, 0xFFFF, np.uint16)  # smallest sound Size by type; unknown types never fit
for _kind, _least in HEADER_SIZE.items():
    _MIN_SIZE[_kind] = _least
_PACKET = np.zeros(256, bool)  # types whose Size is in the second word
_PACKET[[1, 2, 3, 4, 16, 17]] = True


class Damage(NamedTuple):
    """Bytes of one buffer that are no event: relative to the block."""

    lane: int
    start: int
    end: int  #: where the next good event starts, or the end of the buffer
    recovered: int  #: events found behind it


class Walk(NamedTuple):
    """Events of a block, buffer by buffer."""

    slots: Array  #: position / 8
    sizes: Array  #: uint16
    types: Array  #: uint8, layouts numbers
    lanes: Array  #: int32, which buffer of the block
    used: Array  #: bytes from the buffer's first event to the end of its last, per buffer
    damage: list[Damage]


def _header(word: int) -> tuple[int, int]:
    """(type, size) of the event whose first 8 bytes are ``word``; (0, 0) when it is none."""
    marker = word >> 24 & 0xFF
    if marker == MARKER_TRACE:
        kind = word >> 16 & 0xFF
        if kind == MESSAGE:
            return 0, 0
        size = word >> 32 & 0xFFFF if _PACKET[kind] else word & 0xFFFF
    elif marker == MARKER_MESSAGE:
        kind, size = MESSAGE, word & 0xFFFF
    else:
        return 0, 0
    return (kind, size) if size >= int(_MIN_SIZE[kind]) else (0, 0)


def walk(block: Block) -> Walk:
    """All events of the block."""
    data = block.data
    words = data[: len(data) & ~7].view(np.uint64)
    low, high = block.starts >> 3, block.ends >> 3
    mark = np.ascontiguousarray(data[: len(words) * 8].view(np.uint16)[1::4])
    mark &= np.uint16(0xAFE0)  # one test for 0xC000..0xC01F and 0x9000; the few others go below
    slots = np.flatnonzero(mark == np.uint16(0x8000))

    # Each candidate's buffer; those in buffer headers and behind the ends drop out.
    order = _ascending(low, high)
    begin, stop = np.searchsorted(slots, low[order]), np.searchsorted(slots, high[order])
    counts = np.maximum(stop - begin, 0)
    if int(counts.sum()) != len(slots):
        edge = np.zeros(len(slots) + 1, np.int32)
        np.add.at(edge, begin, 1)
        np.add.at(edge, np.maximum(stop, begin), -1)
        slots = slots[np.cumsum(edge[:-1]) > 0]
    lanes = np.repeat(np.arange(len(order), dtype=np.int32), counts)

    head = words[slots]
    types = (head >> np.uint64(16)).astype(np.uint8)
    second = (head >> np.uint64(32)).astype(np.uint16)
    marker = (head >> np.uint64(24)).astype(np.uint8)
    message = marker == MARKER_MESSAGE
    types[(marker != MARKER_TRACE) | (types == MESSAGE)] = 0  # 15 is our own number, not the disk's
    types[message] = MESSAGE
    sizes = np.where(_PACKET[types], second, head.astype(np.uint16))
    ahead = slots + ((sizes.astype(np.int64) + 7) >> 3)
    fits = (sizes >= _MIN_SIZE[types]) & (slots * 8 + sizes <= np.repeat(block.ends[order], counts))
    if not fits.all():
        slots, types, sizes = slots[fits], types[fits], sizes[fits]
        lanes, ahead = lanes[fits], ahead[fits]
    if not len(order):
        return Walk(slots, sizes, types, lanes, np.zeros(0, np.int64), [])

    # Between two events that point at each other nothing can be an event: drop what looks like one.
    sound = np.ones(len(order), bool)
    torn = np.flatnonzero((ahead[:-1] != slots[1:]) & (lanes[:-1] == lanes[1:]))
    if len(torn):
        alive = _drop_lookalikes(torn, slots, ahead, lanes, sound)
        slots, types, sizes = slots[alive], types[alive], sizes[alive]
        lanes, ahead = lanes[alive], ahead[alive]

    # A buffer is sound when its first candidate is at its start, each points at the next, and the
    # last one is followed by nothing but the end.
    bounds = np.searchsorted(lanes, np.arange(len(order) + 1, dtype=np.int32))
    first, past = bounds[:-1], bounds[1:]
    filled = past > first
    tail = low.copy()
    tail[filled] = ahead[past[filled] - 1]
    sound[filled] &= slots[first[filled]] == low[filled]
    open_end = (tail * 8 + 8) <= block.ends
    sound[open_end] &= (
        words[np.minimum(tail[open_end], len(words) - 1)] & np.uint64(END_OF_BUFFER)
    ) == np.uint64(END_OF_BUFFER)
    used = np.minimum(tail * 8, block.ends) - block.starts
    if sound.all():
        return Walk(slots, sizes, types, lanes, np.maximum(used, 0), [])

    damage: list[Damage] = []
    alive = np.ones(len(slots), bool)
    extra: list[tuple[int, int, int, int]] = []
    for lane in np.flatnonzero(~sound).tolist():
        f, p = int(first[lane]), int(past[lane])
        used[lane] = _repair(
            words, slots, ahead, f, p, int(low[lane]), int(block.ends[lane]), lane, alive, extra,
            damage,
        )  # fmt: skip
    slots, sizes, types, lanes = slots[alive], sizes[alive], types[alive], lanes[alive]
    if extra:
        more = np.array(sorted(extra), np.int64).T
        at = np.searchsorted(slots, more[0])
        slots = np.insert(slots, at, more[0])
        sizes = np.insert(sizes, at, more[1].astype(np.uint16))
        types = np.insert(types, at, more[2].astype(np.uint8))
        lanes = np.insert(lanes, at, more[3].astype(np.int32))
    return Walk(slots, sizes, types, lanes, np.maximum(used, 0), damage)


def _drop_lookalikes(torn: Array, slots: Array, ahead: Array, lanes: Array, sound: Array) -> Array:
    """Which candidates stay; a buffer where the chain truly breaks is marked not sound."""
    target = np.searchsorted(slots, ahead[torn])
    clipped = np.minimum(target, len(slots) - 1)
    hit = (slots[clipped] == ahead[torn]) & (lanes[clipped] == lanes[torn])
    edges = np.zeros(len(slots) + 1, np.int32)
    resume = 0
    for at, to, meets, lane in zip(
        torn.tolist(), target.tolist(), hit.tolist(), lanes[torn].tolist()
    ):
        if at < resume or not sound[lane]:
            continue
        if meets:
            edges[at + 1] += 1
            edges[to] -= 1
            resume = to
        else:
            sound[lane] = False
    return np.cumsum(edges[:-1]) == 0


def _ascending(low: Array, high: Array) -> Array:
    """Blocks list their buffers in rising order of position; this only asserts it cheaply."""
    if len(low) > 1 and not (low[1:] >= high[:-1]).all():
        raise AssertionError("buffers of a block overlap")
    return np.arange(len(low))


def _repair(
    words: Array, slots: Array, ahead: Array, first: int, past: int, start: int, end: int,
    lane: int, alive: Array, extra: list[tuple[int, int, int, int]], damage: list[Damage],
) -> int:  # fmt: skip
    """Walks one buffer; marks what is no event; returns the bytes used. Positions are slots."""
    cand: list[int] = slots[first:past].tolist()
    nexts: list[int] = ahead[first:past].tolist()
    alive[first:past] = False
    at, k, origin = start, 0, start
    ends_well = [False]  # filled when first needed
    while True:
        while at * 8 + 8 <= end:
            if k < len(cand) and cand[k] < at:
                k = bisect_left(cand, at, k)
            if k < len(cand) and cand[k] == at:
                alive[first + k] = True
                at = nexts[k]
                k += 1
                continue
            word = int(words[at])
            kind, size = _header(word)
            if not kind or at * 8 + size > end:
                break
            extra.append((at, size, kind, lane))  # sound, but outside the candidate test
            at += (size + 7) >> 3
        if at * 8 + 8 > end or int(words[at]) & END_OF_BUFFER == END_OF_BUFFER:
            return min(at * 8, end) - origin * 8
        if not words[at : end >> 3].any():  # never written, not damaged
            return at * 8 - origin * 8
        # Damage: go on at the first candidate whose chain runs to a clean end of the buffer.
        if len(ends_well) != len(cand):
            ends_well = _reaches_end(words, cand, nexts, end)
        k = bisect_left(cand, at + 1)
        while k < len(cand) and not ends_well[k]:
            k += 1
        if k == len(cand):
            damage.append(Damage(lane, at * 8, end, 0))
            return end - origin * 8
        chain = 0
        j = k
        while j < len(cand) and ends_well[j] and chain < 1 << 16:
            chain += 1
            j = bisect_left(cand, nexts[j], j + 1)
        damage.append(Damage(lane, at * 8, cand[k] * 8, chain))
        at = cand[k]


def _reaches_end(words: Array, cand: list[int], nexts: list[int], end: int) -> list[bool]:
    good = [False] * len(cand)
    for k in range(len(cand) - 1, -1, -1):
        at = nexts[k]
        if at * 8 + 8 > end:
            good[k] = at * 8 >= end - 7
            continue
        if int(words[at]) & END_OF_BUFFER == END_OF_BUFFER:
            good[k] = True
            continue
        j = bisect_left(cand, at, k + 1)
        good[k] = j < len(cand) and cand[j] == at and good[j]
    return good
