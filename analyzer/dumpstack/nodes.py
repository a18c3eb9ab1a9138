"""Filter nodes: recognising crashdmp's per-filter structure by what it must hold.

Invariant: a layout is chosen by content, never by the Windows build alone; one broken field does
not hide a node, so that the field can be reported. Standard library only.

Source: the layouts of :mod:`analyzer.layouts.crashdmp`; the test of a candidate is
docs/facts.md, "How filters are found".
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

from ..absence import Absent
from ..layouts.crashdmp import NodeLayout, node_layouts
from ..layouts.ntdddump import (
    CALLBACKS,
    FILTER_EXTENSION_SIZE_V2,
    PARTITION_INFO_SIZE,
    WINDOWS_8,
    Structure,
)
from ..records import Module
from ..target import Target, module_at

#: sum of the weights a candidate must reach; a healthy node has 21 to 23, one with a broken field
#: loses at most 4 (all callbacks strange), random memory almost never passes the version test
ENOUGH = 12
#: the same for a node whose link is not where any known layout has it
ENOUGH_ELSEWHERE = 16
#: how far behind the start of such a node its link is looked for
LINK_WITHIN = 0x180
#: the offset of a member in such a node
NOT_KNOWN = -1
_VERSIONS = (b"\1\0\0\0\0\0\0\0", b"\2\0\0\0\0\0\0\0")


class Node(NamedTuple):
    """One filter node as read: its layout and raw bytes, and how much speaks for it."""

    layout: NodeLayout
    address: int | Absent
    data: bytes
    score: int
    file_offset: int | None = None

    @property
    def init(self) -> Structure:
        """FILTER_INITIALIZATION_DATA (ctypes structure)."""
        return self.layout.init_class.from_buffer_copy(self.data)

    @property
    def extension(self) -> Structure:
        """FILTER_EXTENSION (ctypes structure)."""
        return self.layout.extension_class.from_buffer_copy(self.data, self.layout.extension)

    def _word(self, offset: int, size: int) -> int | None:
        raw = self.data[offset : offset + size] if offset != NOT_KNOWN else b""
        return int.from_bytes(raw, "little") if len(raw) == size else None

    @property
    def flink(self) -> int | None:
        """Next link of the ring, None when the node is cut before it."""
        return self._word(self.layout.link, self.layout.pointer_size)

    @property
    def blink(self) -> int | None:
        """Previous link of the ring."""
        return self._word(self.layout.link + self.layout.pointer_size, self.layout.pointer_size)

    @property
    def state(self) -> int | None:
        """State word; bit 0 = disabled after a failure."""
        return self._word(self.layout.state, 4)

    @property
    def stack_context(self) -> int | None:
        """Pointer to the dump stack context."""
        return self._word(self.layout.stack_context, self.layout.pointer_size)

    @property
    def link(self) -> int | Absent:
        """Address of the node's LIST_ENTRY."""
        return self.address if isinstance(self.address, Absent) else self.address + self.layout.link

    def callbacks(self) -> list[tuple[str, str, int]]:
        """(WDK member, callback name, routine) of every callback this layout has."""
        init = self.init
        return [
            (member, name, int(getattr(init, member)))
            for member, name in CALLBACKS
            if hasattr(init, member)
        ]


def least_length(layout: NodeLayout) -> int:
    """Bytes of a node that must be there to recognise it: up to its link."""
    return layout.link + 2 * layout.pointer_size


def score(target: Target, modules: Sequence[Module], layout: NodeLayout, data: bytes) -> int:
    """How much speaks for ``data`` being a node of this layout; 0 when the version words do not."""
    init = layout.init_class.from_buffer_copy(data)
    if init.MajorVersion not in (1, 2) or init.MinorVersion != 0:
        return 0
    extension = layout.extension_class.from_buffer_copy(data, layout.extension)
    routines = [int(getattr(init, name)) for name, _ in CALLBACKS if hasattr(init, name)]
    present = [routine for routine in routines if routine]
    sector, partition = extension.Geometry.BytesPerSector, extension.PartitionInfo
    newer = hasattr(extension, "Size")
    signs = [
        (4, any(module_at(modules, routine) for routine in present)),
        (1, init.DumpData == extension.DumpData),
        (1, init.DumpData == extension.DumpData != 0),
        (2, extension.DumpType in (1, 2)),
        (2, 512 <= sector <= 65536 and not sector & (sector - 1)),
        (2, partition.SizeOfPartitionInfo == PARTITION_INFO_SIZE),
        (1, 0 <= partition.PartitionStyle <= 2),
        (1, target.is_kernel_pointer(extension.DeviceObject)),
        (1, 1 <= init.MaxPagesPerWrite <= 0x10000),
        (1, init.Flags <= 3),
        (1, isinstance(target.build, int) and newer == (target.build >= WINDOWS_8)),
    ]
    if newer:
        fits = extension.Size == FILTER_EXTENSION_SIZE_V2[layout.pointer_size]
        signs += [(2, fits), (-1, not fits)]
    # A callback outside its module is a fault worth finding; a small number there is another
    # layout.
    low = 0x8000_0000 if layout.pointer_size == 4 else 0xFF00_0000_0000_0000
    signs += [(-4, routine < low) for routine in present]
    return 3 + sum(points for points, holds in signs if holds)


def at_link(target: Target, modules: Sequence[Module], link: int) -> Node | Absent:
    """The node whose LIST_ENTRY lies at ``link``: the best-scoring layout, or why there is none."""
    best: Node | None = None
    missing: Absent | None = None
    for layout in node_layouts(target.pointer_size):
        node = at_address(target, modules, link - layout.link, layout)
        if isinstance(node, Absent):
            missing = node
        elif best is None or node.score > best.score:
            best = node
    if best is None:
        return Absent("not-found") if missing is None else missing
    if best.score < ENOUGH:
        best = _link_elsewhere(target, modules, link)
    if best is None:
        return Absent(
            "unknown-layout", f"what lies around the link at {link:#x} is no known filter node"
        )
    return best


def _link_elsewhere(target: Target, modules: Sequence[Module], link: int) -> Node | None:
    """A node whose link stands at an offset nobody published: the two known structures before it.

    Only the Windows 7 and the Windows 8 x86 offsets are proven; a build may have put members
    between FILTER_EXTENSION and the link. Its state word then is not known.
    """
    width = target.pointer_size
    best: Node | None = None
    for layout in node_layouts(width):
        known = layout.extension + ctypes.sizeof(layout.extension_class)
        for distance in range(known, LINK_WITHIN, width):
            start = link - distance
            data = target.read(start, known)
            if distance == layout.link or isinstance(data, Absent):
                continue
            points = score(target, modules, layout, data)
            if points < ENOUGH_ELSEWHERE or not _has_routine(modules, layout, data):
                continue
            other = target.pointer(start + layout.link)
            if isinstance(other, int) and target.pointer(other + width) == start + layout.link:
                continue  # that node has a link of its own: this one is the head behind it
            if best is None or points > best.score:
                shape = layout._replace(
                    link=distance,
                    state=NOT_KNOWN,
                    stack_context=NOT_KNOWN,
                    size=distance + 2 * width,
                    confidence="guess",
                )
                whole = target.read(start, shape.size)
                if not isinstance(whole, Absent):
                    best = Node(shape, start, whole, points, target.file_offset(start))
    return best


def _has_routine(modules: Sequence[Module], layout: NodeLayout, data: bytes) -> bool:
    """True when a callback lies in a dump module: without one, memory alone proves nothing."""
    init = layout.init_class.from_buffer_copy(data)
    return any(
        module_at(modules, int(getattr(init, name)))
        for name, _ in CALLBACKS
        if hasattr(layout.init_class, name)
    )


def at_address(
    target: Target, modules: Sequence[Module], address: int, layout: NodeLayout
) -> Node | Absent:
    """Reads a node of one layout at an address, whatever its score."""
    data = target.read(address, layout.size)
    if isinstance(data, Absent):  # what lies behind the link may be missing, padding above all
        start, piece = next(target.chunks(address, layout.size), (address, b""))
        if start == address and len(piece) >= least_length(layout):
            data = piece
    if isinstance(data, Absent):
        return data
    return Node(
        layout,
        address,
        data,
        score(target, modules, layout, data),
        target.file_offset(address),
    )


def in_bytes(
    target: Target, modules: Sequence[Module], data: bytes, anchor: int, partition: bool
) -> tuple[NodeLayout, int] | None:
    """Layout and start of a node inside ``data``, given a place in it that a scan stopped at.

    ``anchor`` is the offset of DISK_PARTITION_INFO (``partition``) or of a word that points into a
    dump module and so may be any callback.
    """
    best: tuple[int, NodeLayout, int] | None = None
    for layout in node_layouts(target.pointer_size):
        extension = layout.extension_class
        if partition:
            info = layout.extension + extension.PartitionInfo.offset
            starts = [anchor - info]
        else:
            starts = [
                anchor - getattr(layout.init_class, name).offset
                for name, _ in CALLBACKS
                if hasattr(layout.init_class, name)
            ]
        for start in starts:
            if start < 0 or start + least_length(layout) > len(data):
                continue
            if data[start : start + 8] not in _VERSIONS:  # the score would be 0
                continue
            piece = data[start : start + layout.size]
            points = score(target, modules, layout, piece)
            better = points >= ENOUGH and (best is None or points > best[0])
            if better and _has_routine(modules, layout, piece):
                best = (points, layout, start)
    return (best[1], best[2]) if best else None
