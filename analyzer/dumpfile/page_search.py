"""Finding filter nodes by scanning all pages of a dump: the way that works when nothing else does.

Invariant: one pass over the file in cache-sized pieces, constant memory; a hit is only a
place to look at, the node test decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..absence import Absent
from ..dumpstack.nodes import Node, at_address, in_bytes, score
from ..dumpstack.walk import largest_node
from ..layouts.crashdmp import NodeLayout, node_layouts
from ..layouts.ntdddump import CALLBACKS
from ..records import Module
from .pagedump import PageDump
from .pagemap import PAGE

#: words a piece: 256 KiB stay in a core's second-level cache between the passes over them
PIECE = 1 << 15
#: a node's version stands less than this before what the scan looks for
BEFORE = 0x400
#: a file full of look-alikes must not keep the scan busy for ever
MAX_CANDIDATES = 10_000
MAX_NODES = 256

_SIZE_WORD = np.uint64(0x18)
_STYLE_BITS = np.uint64(0xFFFF_FFFC_FFFF_FFFF)  # DISK_PARTITION_INFO: all but the partition style


def scan_pages(dump: PageDump, stack_modules: Sequence[Module]) -> list[Node]:
    """Every filter node in the stored pages: by its DISK_PARTITION_INFO, else by its callbacks."""
    return by_partitions(dump, stack_modules) or by_pointers(dump, stack_modules)


def by_partitions(dump: PageDump, stack_modules: Sequence[Module]) -> list[Node]:
    """Filter nodes found by the DISK_PARTITION_INFO in their FILTER_EXTENSION."""
    layouts = node_layouts(dump.pointer_size)
    distances = sorted(
        {kind.extension + kind.extension_class.PartitionInfo.offset for kind in layouts}
    )
    return _collect(dump, stack_modules, _by_partition(dump, distances), True)


def by_pointers(dump: PageDump, stack_modules: Sequence[Module]) -> list[Node]:
    """Filter nodes found by a callback in a filter's image."""
    return _collect(dump, stack_modules, _by_pointer(dump, stack_modules), False)


class _Piece(NamedTuple):
    offset: int  #: in the file, of ``words``
    words: npt.NDArray[np.uint64]
    start: int  #: of ``part`` in ``words``
    part: npt.NDArray[np.uint64]

    def versions_before(
        self, places: npt.NDArray[np.int64], distances: Sequence[int]
    ) -> Iterator[int]:
        """File offsets of the places with MajorVersion 1 or 2, MinorVersion 0 before them.

        ``places`` count bytes from the start of ``part``, ``distances`` back to the version.
        """
        places = places + self.start * 8
        good = np.zeros(len(places), bool)
        for distance in distances:
            at = places - distance
            inside = (at >= 0) & (at & 7 == 0)
            version = self.words[np.where(inside, at >> 3, 0)]
            good |= inside & ((version == 1) | (version == 2))
        yield from (places[good] + self.offset).tolist()


def _pieces(dump: PageDump) -> Iterator[_Piece]:
    """Pieces of the page data as 64-bit words, each with the words before it."""
    for offset, data in dump.page_data(BEFORE):
        words = np.frombuffer(data, "<u8", len(data) // 8)
        for start in range(0 if offset == dump.first_page else BEFORE // 8, len(words), PIECE):
            yield _Piece(offset, words, start, words[start : start + PIECE])


def _by_partition(dump: PageDump, distances: Sequence[int]) -> Iterator[int]:
    """File offsets of words that read as the head of a DISK_PARTITION_INFO inside a node."""
    masked = np.empty(PIECE, np.uint64)
    hits = np.empty(PIECE, bool)
    for piece in _pieces(dump):
        part, hit = masked[: len(piece.part)], hits[: len(piece.part)]
        np.bitwise_and(piece.part, _STYLE_BITS, out=part)
        np.equal(part, _SIZE_WORD, out=hit)
        if hit.any():
            yield from piece.versions_before(np.flatnonzero(hit) * 8, distances)


def _by_pointer(dump: PageDump, stack_modules: Sequence[Module]) -> Iterator[int]:
    """File offsets of words that point into a dump module and stand where a callback may."""
    ranges = [
        (m.base, m.end - m.base)
        for m in stack_modules
        if isinstance(m.base, int) and isinstance(m.end, int) and m.role == "dump filter"
    ]
    layouts = node_layouts(dump.pointer_size)
    distances = sorted(
        {
            getattr(layout.init_class, name).offset
            for layout in layouts
            for name, _ in CALLBACKS
            if hasattr(layout.init_class, name)
        }
    )
    for piece in _pieces(dump):
        if dump.pointer_size == 8:
            halves, step = piece.part, 8
        else:
            halves, step = piece.part.view("<u4"), 4
        for base, size in ranges:
            kind = halves.dtype.type
            hit = (halves - kind(base & (0xFFFF_FFFF if step == 4 else -1))) < kind(size)
            if hit.any():
                yield from piece.versions_before(np.flatnonzero(hit) * step, distances)


def _collect(
    dump: PageDump, stack_modules: Sequence[Module], places: Iterator[int], is_partition: bool
) -> list[Node]:
    nodes: list[Node] = []
    seen: set[int] = set()
    longest = largest_node(dump.pointer_size)
    for count, place in enumerate(places):
        if count >= MAX_CANDIDATES or len(nodes) >= MAX_NODES:
            dump.stopped(f"the search for filter nodes ended after {count:,} places")
            break
        base = max(dump.first_page, place - longest)
        window = dump.file.data[base : place + longest]
        hit = in_bytes(dump, stack_modules, window, place - base, is_partition)
        if hit is None or base + hit[1] in seen:
            continue
        seen.add(base + hit[1])
        node = _node(dump, stack_modules, hit[0], base + hit[1])
        if node is not None:
            nodes.append(node)
    return nodes


def _node(
    dump: PageDump, stack_modules: Sequence[Module], layout: NodeLayout, offset: int
) -> Node | None:
    """The node at a file offset; its virtual address comes from its neighbours' links to it."""
    data = dump.file.data[offset : offset + layout.size]
    node = Node(
        layout,
        Absent("not-found", "no neighbour in the ring links back to this node"),
        data,
        score(dump, stack_modules, layout, data),
        offset,
    )
    width = dump.pointer_size
    for neighbour, back in ((node.flink, width), (node.blink, 0)):
        link = dump.pointer(neighbour + back) if neighbour else None
        if isinstance(link, int) and dump.file_offset(link) == offset + layout.link:
            found = at_address(dump, stack_modules, link - layout.link, layout)
            return found if isinstance(found, Node) else None
    in_page = (offset - dump.first_page) % PAGE + layout.size <= PAGE
    return node if in_page else None
