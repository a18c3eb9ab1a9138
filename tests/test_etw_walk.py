"""The walk by vector steps against one event after the other, over sound and broken buffers."""

from __future__ import annotations

import random
import struct
from typing import Any, NamedTuple

import numpy as np
import pytest

from analyzer.etw.buffers import Block
from analyzer.etw.walk import walk

#: header type -> its size, and where Size stands: evntrace.h and the public EVENT_HEADER family
SIZES = {1: 32, 2: 32, 3: 24, 4: 24, 10: 48, 11: 56, 12: 8, 13: 8, 14: 8, 16: 16, 17: 16,
         18: 80, 19: 80, 20: 48, 21: 56}  # fmt: skip
PACKETS = (1, 2, 3, 4, 16, 17)
MESSAGE, END = 15, 0xFFFFFFFF


class Found(NamedTuple):
    """What one buffer holds."""

    events: list[tuple[int, int, int]]  #: slot, size, type
    used: int
    damage: list[tuple[int, int, int]]  #: first byte, byte behind, events found behind it


def header(word: int) -> tuple[int, int]:
    """(type, size) that the first 8 bytes of an event state; (0, 0) for other bytes."""
    low, second, high = word & 0xFFFF, word >> 16 & 0xFFFF, word >> 32 & 0xFFFF
    if second >> 8 == 0x90:
        return (MESSAGE, low) if low >= 8 else (0, 0)
    kind = second & 0xFF
    if second >> 8 != 0xC0 or kind not in SIZES:
        return 0, 0
    size = high if kind in PACKETS else low
    return (kind, size) if size >= SIZES[kind] else (0, 0)


def one_by_one(words: list[int], start: int, end: int) -> Found:
    """Follows each Size; behind damage goes on where a chain of events leads to a clean end."""
    events, damage, at = [], [], start
    while True:
        while at * 8 + 8 <= end:
            kind, size = header(words[at])
            if not kind or at * 8 + size > end:
                break
            events.append((at, size, kind))
            at += -(-size // 8)
        if at * 8 + 8 > end or words[at] & END == END:
            return Found(events, min(at * 8, end) - start * 8, damage)
        if not any(words[at : end >> 3]):
            return Found(events, (at - start) * 8, damage)
        chains = ((k, chain(words, k, end)) for k in range(at + 1, end >> 3))
        again, count = next(((k, n) for k, n in chains if n), (0, 0))
        if not again:
            return Found(events, end - start * 8, [*damage, (at * 8, end, 0)])
        damage.append((at * 8, again * 8, count))
        at = again


def chain(words: list[int], at: int, end: int) -> int:
    """How many events follow each other from here to a clean end of the buffer; else none."""
    count = 0
    while at * 8 + 8 <= end and words[at] & END != END:
        kind, size = header(words[at])
        if not kind or at * 8 + size > end:
            return 0
        count += 1
        at += -(-size // 8)
    return count


def word(source: random.Random, room: int) -> int:
    """The beginning of an event that mostly fits, or bytes that look like one, or like none."""
    pick = source.randrange(12)
    if pick == 0:
        return 0
    if pick == 1:
        return END if source.randrange(3) == 0 else source.getrandbits(64)
    kind = source.choice([*SIZES, MESSAGE])
    least = SIZES.get(kind, 8)
    size = least + source.randrange(24) if pick < 9 else source.choice((least - 1, room, room + 1))
    size = max(0, min(size, 0xFFFF))
    if kind == MESSAGE:
        return source.getrandbits(40) << 24 & ~0xFFFFFF | 0x90000000 | size
    second = 0xC000 | kind
    if kind in PACKETS:
        return struct.unpack("<Q", struct.pack("<HHHH", 1, second, size, 0))[0]
    return struct.unpack("<Q", struct.pack("<HHHH", size, second, 7, 0))[0]


def buffers(source: random.Random) -> tuple[list[int], list[tuple[int, int]]]:
    """Words, and (first word, byte behind the last) of some buffers of them."""
    words: list[int] = []
    ranges = []
    for _ in range(source.randrange(1, 5)):
        words += [source.getrandbits(64)] * source.randrange(3)  # between buffers
        start, count = len(words), source.randrange(1, 60)
        end = (start + count) * 8 - source.choice((0, 0, 0, 1, 4, 7))
        at = start
        while at < start + count:
            room = max(end - at * 8, 0)
            words.append(word(source, room))
            kind, size = header(words[-1])
            step = -(-size // 8) if kind and source.randrange(12) else 1
            fill = min(step, start + count - at) - 1
            mixed = source.randrange(4)
            words += [0 if mixed else word(source, 80) for _ in range(fill)]
            at += fill + 1
        if source.randrange(4) == 0:
            cut = source.randrange(start, start + count)
            words[cut:] = [0] * (len(words) - cut)
        ranges.append((start, end))
    return words, ranges


@pytest.mark.parametrize("seed", range(25))
def test_it_finds_what_following_each_size_finds(seed: int) -> None:
    """Events, bytes used and damage of 80 blocks of buffers."""
    source = random.Random(seed)
    for _ in range(80):
        words, ranges = buffers(source)
        data = np.array(words, np.uint64).view(np.uint8)
        starts, ends = (np.array(column, np.int64) for column in zip(*ranges))
        found: Any = walk(Block(data, starts * 8, ends, 0, np.arange(len(ranges))))
        expected = [one_by_one(words, start, end) for start, end in ranges]
        events = list(zip(found.slots.tolist(), found.sizes.tolist(), found.types.tolist()))
        assert events == [event for one in expected for event in one.events]
        bounds = np.cumsum([0, *(len(one.events) for one in expected)])
        assert found.bounds.tolist() == bounds.tolist()
        assert found.used.tolist() == [one.used for one in expected]
        assert sorted(tuple(row) for row in found.damage) == sorted(
            (lane, *row) for lane, one in enumerate(expected) for row in one.damage
        )
