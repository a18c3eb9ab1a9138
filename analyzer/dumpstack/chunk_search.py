"""Finding nodes and stack contexts in loose memory, without numpy: for minidumps and live sessions.

Invariant: linear in the bytes given; only literal searches, no alternation. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..records import Module
from ..target import Target
from .context import tails
from .nodes import Node, at_address, in_bytes
from .walk import Ring, follow, largest_node

_PARTITION = b"\x18\0\0\0"
#: memory full of look-alikes must not keep the scan busy for ever
MAX_CANDIDATES = 10_000
MAX_FOUND = 256


def scan_chunks(
    target: Target, stack_modules: Sequence[Module], chunks: Iterable[tuple[int, bytes]]
) -> tuple[list[Node], list[Ring]]:
    """Filter nodes, and rings by the tail of a dump stack context, in (address, bytes) pieces.

    A node is looked for at each possible DISK_PARTITION_INFO and at each pointer into a dump
    module.
    """
    nodes: list[Node] = []
    rings: list[Ring] = []
    seen: set[int] = set()
    candidates = 0
    needles = _needles(target, stack_modules)
    longest = largest_node(target.pointer_size)
    for address, data in chunks:
        for tail in tails(target, stack_modules, address, data):
            if len(rings) >= MAX_FOUND:
                target.stopped(f"the search for dump stack contexts ended after {MAX_FOUND}")
                break
            how = "found by content in memory"
            rings.append(follow(target, stack_modules, tail.head, tail, tail.stack, how))
        for anchor, is_partition in _anchors(target.pointer_size, needles, address, data):
            candidates += 1
            if candidates > MAX_CANDIDATES or len(nodes) >= MAX_FOUND:
                target.stopped(f"the search for filter nodes ended after {candidates:,} places")
                return nodes, rings
            base = max(0, anchor - longest)
            window = data[base : anchor + longest]
            hit = in_bytes(target, stack_modules, window, anchor - base, is_partition)
            if hit is None:
                continue
            layout, start = hit
            place = address + base + start
            if place in seen:
                continue
            node = at_address(target, stack_modules, place, layout)
            if isinstance(node, Node):
                seen.add(place)
                nodes.append(node)
    return nodes, rings


def _anchors(
    width: int, needles: Sequence[bytes], address: int, data: bytes
) -> Iterable[tuple[int, bool]]:
    at = data.find(_PARTITION)
    while at >= 0:
        if (address + at) % width == 0:
            yield at, True
        at = data.find(_PARTITION, at + 1)
    for needle in needles:
        at = data.find(needle)
        while at >= 0:
            if (address + at - 2) % width == 0 and at >= 2:
                yield at - 2, False
            at = data.find(needle, at + 1)


def _needles(target: Target, modules: Sequence[Module]) -> list[bytes]:
    """What pointers into a module share: all but their low two bytes, for each of its 64 KiB.

    Of each module at most 16 MiB count.
    """
    return [
        piece.to_bytes(8, "little")[: target.pointer_size - 2]
        for m in modules
        if isinstance(m.base, int) and isinstance(m.end, int) and m.end > m.base
        for piece in range(m.base >> 16, (min(m.end, m.base + (1 << 24)) - 1 >> 16) + 1)
    ]
