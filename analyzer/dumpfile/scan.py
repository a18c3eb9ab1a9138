"""Finding filter nodes by scanning all pages of a dump: the way that works when nothing else does.

Invariant: one pass over the mapped file in cache-sized pieces, constant memory; a hit is only a
place to look at, the node test decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ..absence import Absent
from ..dumpstack.nodes import Node, at_address, in_bytes, score
from ..layouts.crashdmp import NodeLayout, node_layouts
from ..layouts.ntdddump import CALLBACKS
from ..records import Module
from .pagedump import PageDump
from .pagemap import PAGE

#: words a piece: 256 KiB stay in a core's second-level cache between the passes over them
PIECE = 1 << 15
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


def _pieces(dump: PageDump) -> Iterator[tuple[int, npt.NDArray[np.uint64]]]:
    """(file offset, 64-bit words) of the page data."""
    for offset, data in dump.page_data():
        words = np.frombuffer(data, "<u8", len(data) // 8)
        for at in range(0, len(words), PIECE):
            yield offset + at * 8, words[at : at + PIECE]


def _by_partition(dump: PageDump, distances: Sequence[int]) -> Iterator[int]:
    """File offsets of words that read as the head of a DISK_PARTITION_INFO inside a node."""
    file_words = _file_words(dump)
    masked = np.empty(PIECE, np.uint64)
    hits = np.empty(PIECE, bool)
    for offset, words in _pieces(dump):
        part, hit = masked[: len(words)], hits[: len(words)]
        np.bitwise_and(words, _STYLE_BITS, out=part)
        np.equal(part, _SIZE_WORD, out=hit)
        if hit.any():
            places = np.flatnonzero(hit) * 8 + offset
            yield from places[_version_before(dump, file_words, places, distances)].tolist()


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
    file_words = _file_words(dump)
    for offset, words in _pieces(dump):
        if dump.pointer_size == 8:
            halves, step = words, 8
        else:
            halves, step = words.view("<u4"), 4
        for base, size in ranges:
            kind = halves.dtype.type
            hit = (halves - kind(base & (0xFFFF_FFFF if step == 4 else -1))) < kind(size)
            if hit.any():
                places = np.flatnonzero(hit) * step + offset
                yield from places[_version_before(dump, file_words, places, distances)].tolist()


def _file_words(dump: PageDump) -> npt.NDArray[np.uint64]:
    skew = dump.first_page & 7
    return np.frombuffer(dump.file.data, "<u8", (dump.file.size - skew) // 8, skew)


def _version_before(
    dump: PageDump,
    file_words: npt.NDArray[np.uint64],
    places: npt.NDArray[np.int64],
    distances: Sequence[int],
) -> npt.NDArray[np.bool_]:
    """Which places have MajorVersion 1 or 2, MinorVersion 0 at one of the distances before them."""
    skew = dump.first_page & 7
    good = np.zeros(len(places), bool)
    for distance in distances:
        at = places - distance
        inside = (at >= dump.first_page) & ((at - skew) % 8 == 0)
        version = file_words[np.where(inside, (at - skew) >> 3, 0)]
        good |= inside & ((version == 1) | (version == 2))
    return good


def _collect(
    dump: PageDump, stack_modules: Sequence[Module], places: Iterator[int], is_partition: bool
) -> list[Node]:
    nodes: list[Node] = []
    seen: set[int] = set()
    for count, place in enumerate(places):
        if count >= MAX_CANDIDATES or len(nodes) >= MAX_NODES:
            dump.stopped(f"the search for filter nodes ended after {count:,} places")
            break
        base = max(dump.first_page, place - 0x100)
        window = bytes(dump.file.data[base : min(place + 0x200, dump.file.size)])
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
    data = bytes(dump.file.data[offset : offset + layout.size])
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
