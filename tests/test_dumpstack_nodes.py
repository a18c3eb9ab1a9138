"""Limits of the search for filter nodes: what each sign counts, and how far is looked."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from dumpstack_memory import (
    BASE,
    DISK_SIZE,
    GEOMETRY,
    POOL,
    WIN8,
    Memory,
    Stack,
    by_name,
    every_layout,
    module,
)

from analyzer.absence import Absent
from analyzer.dumpstack import chunk_search
from analyzer.dumpstack.nodes import (
    ENOUGH,
    ENOUGH_ELSEWHERE,
    LINK_WITHIN,
    NOT_KNOWN,
    Node,
    at_address,
    at_link,
    in_bytes,
    least_length,
    score,
)
from analyzer.layouts.crashdmp import NODE_LAYOUTS, NodeLayout, node_class, node_layouts
from analyzer.records import Module


def changed(stack: Stack, data: bytes = b"", **changes: int) -> bytes:
    """A healthy node with members changed: ``init__Flags``, ``extension__Geometry__Cylinders``."""
    node = node_class(stack.layout).from_buffer_copy(data or stack.node_bytes(0))
    roots = {"init": node.FilterInitData, "extension": node.FilterExtension}
    for name, value in changes.items():
        root, *path, last = name.split("__")
        place = roots[root]
        for step in path:
            place = getattr(place, step)
        setattr(place, last, value)
    return bytes(node)


# ---- the score ----------------------------------------------------------------------------------
@every_layout
@pytest.mark.parametrize("build", [7601, 9199, 9200, 26100, Absent("unset")])
def test_score_of_a_healthy_node(layout: NodeLayout, build: Any) -> None:
    """19 by what every layout has, 2 by the Size of newer ones, 1 by the build."""
    stack = Stack(layout, build=build)
    newer = layout.name != "vista"
    fits = isinstance(build, int) and newer == (build >= 9200)
    wanted = 19 + 2 * newer + fits
    assert score(stack.memory, stack.dump, layout, stack.node_bytes(0)) == wanted


SIGNS: list[tuple[dict[str, int], int]] = [
    ({"init__MajorVersion": 1}, 0),
    ({"init__DumpStart": 0}, 0),
    ({"init__DumpStart": 0, "init__DumpWrite": 0, "init__DumpFinish": 0}, -4),
    ({"init__DumpUnload": 1}, -4),
    ({"init__DumpUnload": 1, "init__DumpFinish": 1}, -8),
    ({"init__DumpData": 0}, -2),
    ({"extension__DumpData": 8}, -2),
    ({"init__DumpData": 0, "extension__DumpData": 0}, -1),
    ({"extension__DumpType": 0}, -2),
    ({"extension__DumpType": 2}, 0),
    ({"extension__DumpType": 3}, -2),
    *(({"extension__Geometry__BytesPerSector": size}, 0) for size in (512, 1024, 65536)),
    *(
        ({"extension__Geometry__BytesPerSector": size}, -2)
        for size in (0, 256, 511, 513, 768, 0x18000, 131072)
    ),
    ({"extension__PartitionInfo__SizeOfPartitionInfo": 0x17}, -2),
    ({"extension__PartitionInfo__SizeOfPartitionInfo": 0x19}, -2),
    *(({"extension__PartitionInfo__PartitionStyle": style}, 0) for style in (0, 2)),
    *(({"extension__PartitionInfo__PartitionStyle": style}, -1) for style in (-1, 3)),
    ({"extension__DeviceObject": 0}, -1),
    ({"extension__DeviceObject": 0x1000}, -1),
    *(({"init__MaxPagesPerWrite": pages}, 0) for pages in (1, 0x10000)),
    *(({"init__MaxPagesPerWrite": pages}, -1) for pages in (0, 0x10001)),
    ({"init__Flags": 3}, 0),
    ({"init__Flags": 4}, -1),
]


@every_layout
def test_what_each_sign_counts(layout: NodeLayout) -> None:
    """Values on both sides of each limit."""
    stack = Stack(layout)
    whole = score(stack.memory, stack.dump, layout, stack.node_bytes(0))
    found = [
        (changes, score(stack.memory, stack.dump, layout, changed(stack, **changes)) - whole)
        for changes, _ in SIGNS
    ]
    assert found == SIGNS
    low = 0x8000_0000 if layout.pointer_size == 4 else 0xFF00_0000_0000_0000
    for routine, points in ((low, 0), (low - 1, -4)):
        data = changed(stack, init__DumpFinish=routine)
        assert score(stack.memory, stack.dump, layout, data) == whole + points
    if layout.name != "vista":
        size = 0x58 if layout.pointer_size == 8 else 0x50
        for value, points in ((size, 0), (size - 1, -3), (size + 1, -3)):
            data = changed(stack, extension__Size=value)
            assert score(stack.memory, stack.dump, layout, data) == whole + points


WEAK = {  # 10 points less, and no routine that would lead to the node in another way
    "init__DumpStart": 0,
    "init__DumpWrite": 0,
    "init__DumpFinish": 0,
    "extension__DumpType": 0,
    "extension__Geometry__BytesPerSector": 0,
    "extension__PartitionInfo__SizeOfPartitionInfo": 0,
}


def test_how_much_must_speak_for_a_node() -> None:
    """12 points are enough, 11 are not."""
    stack = Stack(WIN8, 1)
    memory, node, link = stack.memory, stack.nodes[0], stack.links[0]
    assert ENOUGH == 12
    memory.write(node, changed(stack, **WEAK)[: WIN8.link])
    data = memory.read(node, WIN8.size)
    assert isinstance(data, bytes)
    assert at_link(memory, stack.dump, link) == Node(WIN8, node, data, 12)
    memory.write(node, changed(stack, **WEAK, init__Flags=4)[: WIN8.link])
    assert at_link(memory, stack.dump, link) == Absent(
        "unknown-layout", f"what lies around the link at {link:#x} is no known filter node"
    )


# ---- one node -----------------------------------------------------------------------------------
@every_layout
def test_members_of_a_node(layout: NodeLayout) -> None:
    """Each word at the place of the layout, each callback with both its names."""
    stack, width = Stack(layout, 1), layout.pointer_size
    start = stack.nodes[0]
    stack.memory.write(start + layout.state, struct.pack("<I", 0x81000001))
    stack.memory.put(start + layout.stack_context, stack.context)
    node = at_address(stack.memory, stack.dump, start, layout)
    assert isinstance(node, Node)
    assert (node.flink, node.blink) == (stack.head, stack.head)
    assert (node.state, node.stack_context) == (0x81000001, stack.context)
    assert node.link == start + layout.link
    base = BASE[width] + 0x31000
    names = ["Start", "Write", "Finish", "Unload"]
    names += [] if layout.name == "vista" else ["Read"]
    names += ["PreReadWrite"] if layout.name == "newest" else []
    assert node.callbacks() == [
        (f"Dump{name}", f"Dump_{name}", base + 0x40 * place if place < 3 else 0)
        for place, name in enumerate(names)
    ]
    lost = Absent("not-found")
    assert node._replace(address=lost).link == lost
    for offset, value in ((0, node._word(0, 4)), (NOT_KNOWN, None), (layout.size - 3, None)):
        assert node._word(offset, 4) == value


@every_layout
def test_least_part_of_a_node(layout: NodeLayout) -> None:
    """With its link it is a node; one byte less, or only what lies behind its start, is none."""
    stack, width = Stack(layout, 1), layout.pointer_size
    least = layout.link + 2 * width
    assert least_length(layout) == least
    data = stack.node_bytes(0)[:least]
    end = POOL[width] + 0x8000  # nothing is behind it
    stack.memory.write(end - least, data)
    node = at_address(stack.memory, stack.dump, end - least, layout)
    points = 22 if layout.name != "vista" else 19
    assert node == Node(layout, end - least, data, points)
    gone = Absent("not-mapped", f"nothing at {end:#x}")
    assert at_address(stack.memory, stack.dump, end - least + 1, layout) == gone
    start = POOL[width] + 0x20000
    stack.memory.write(start, bytes(0x1000))
    gone = Absent("not-mapped", f"nothing at {start - 0x1000:#x}")
    assert at_address(stack.memory, stack.dump, start - 1, layout) == gone


# ---- a link where no layout has it --------------------------------------------------------------
def moved(distance: int, layout: NodeLayout = WIN8, **changes: int) -> tuple[Stack, int, int]:
    """A node whose link stands so far behind its start: (stack, start, link)."""
    stack = Stack(layout, 1)
    start = POOL[stack.width] + 0x20000
    stack.memory.write(start - 0x800, bytes(0x1000))
    stack.memory.write(start, changed(stack, **changes)[: layout.link])
    link = start + distance
    stack.memory.put(link, stack.head, stack.head)
    return stack, start, link


@pytest.mark.parametrize("layout", [NODE_LAYOUTS[0], NODE_LAYOUTS[3]], ids=by_name)
def test_how_far_a_link_is_looked_for(layout: NodeLayout) -> None:
    """Up to 0x180 bytes behind the start, in steps of a pointer; the state is not known then."""
    width = layout.pointer_size
    assert LINK_WITHIN == 0x180
    for distance in (layout.link + width, LINK_WITHIN - width):
        stack, start, link = moved(distance, layout)
        size = distance + 2 * width
        shape = layout._replace(
            link=distance, state=-1, stack_context=-1, size=size, confidence="guess"
        )
        data = stack.memory.read(start, size)
        assert isinstance(data, bytes)
        assert at_link(stack.memory, stack.dump, link) == Node(shape, start, data, 22)
    for distance in (LINK_WITHIN, layout.link + width + 1):
        stack, start, link = moved(distance, layout)
        assert isinstance(at_link(stack.memory, stack.dump, link), Absent)


def test_how_much_must_speak_for_a_node_elsewhere() -> None:
    """16 points are enough, 15 are not, and none are without a routine."""
    lost: dict[str, int] = {"extension__DumpType": 0, "extension__Geometry__BytesPerSector": 0}
    lost["extension__PartitionInfo__SizeOfPartitionInfo"] = 0
    assert ENOUGH_ELSEWHERE == 16
    for more, points in (({}, 16), ({"init__Flags": 4}, None)):
        stack, _, link = moved(WIN8.link + 16, **lost, **more)
        found = at_link(stack.memory, stack.dump, link)
        assert (found.score if isinstance(found, Node) else None) == points
    stack, _, link = moved(WIN8.link + 16)
    assert isinstance(at_link(stack.memory, stack.dump[:2], link), Absent)


def test_a_node_with_a_link_of_its_own_does_not_hide_the_one_before_it() -> None:
    """The link is that of the further node: the nearer one is in a ring of its own."""
    stack, start, link = moved(0x150)
    near = start + 0xA8
    stack.memory.write(near, stack.node_bytes(1)[: WIN8.link])
    stack.memory.put(near + WIN8.link, stack.head + 0x800, stack.head + 0x800)
    own = near + WIN8.link
    stack.memory.put(stack.head + 0x800, own, own)
    found = at_link(stack.memory, stack.dump, link)
    assert isinstance(found, Node)
    assert found.address == start


# ---- a node in bytes ----------------------------------------------------------------------------
@every_layout
def test_a_node_in_bytes(layout: NodeLayout) -> None:
    """From either anchor, at the very start, and cut as short as may be; not cut shorter."""
    stack = Stack(layout, 1, build=7601 if layout.name == "vista" else 19041)
    data, least = stack.node_bytes(0), least_length(layout)
    info = layout.extension + layout.extension_class.PartitionInfo.offset
    write = layout.init_class.DumpWrite.offset

    def found(data: bytes, anchor: int, is_partition: bool) -> Any:
        return in_bytes(stack.memory, stack.dump, data, anchor, is_partition)

    for before in (0, 8, 0x48):
        whole = bytes(before) + data
        assert found(whole, before + info, True) == (layout, before)
        assert found(whole, before + write, False) == (layout, before)
    for anchor, is_partition in ((info, True), (write, False)):
        assert found(data[1:], anchor - 1, is_partition) is None
        assert found(data, anchor + 1, is_partition) is None
    for anchor, is_partition in ((info, True), (write, False)):
        assert found(data[:least], anchor, is_partition) == (layout, 0)
    assert found(data[: least - 1], info, True) != (layout, 0)  # but maybe a shorter one
    routines = ("init__DumpStart", "init__DumpWrite", "init__DumpFinish")
    assert found(changed(stack, **dict.fromkeys(routines, 0)), info, True) is None


def test_how_much_must_speak_for_a_node_in_bytes() -> None:
    """12 points, as for a link."""
    stack = Stack(WIN8, 1, build=7601)
    lost = {
        "extension__DumpType": 0, "extension__Geometry__BytesPerSector": 0,
        "extension__DeviceObject": 0, "extension__Size": 0,
    }  # fmt: skip
    info = WIN8.extension + WIN8.extension_class.PartitionInfo.offset
    for more, place in (({}, (WIN8, 0)), ({"init__Flags": 4}, None)):
        data = changed(stack, **lost, **more, init__MaxPagesPerWrite=0)
        found = in_bytes(stack.memory, stack.dump, data, info, True)
        assert score(stack.memory, stack.dump, WIN8, data) == (12 if place else 11)
        assert found == place


# ---- pieces of memory ---------------------------------------------------------------------------
def needles(*modules: Module, width: int = 8) -> list[int]:
    """What is looked for, as numbers."""
    found = chunk_search._needles(Memory(width), modules)
    assert {len(piece) for piece in found} <= {width - 2}
    return [int.from_bytes(piece, "little") for piece in found]


def test_what_pointers_into_a_module_share() -> None:
    """Their upper bytes, for each 64 KiB that the module has a byte in; 16 MiB at most."""
    high = 0xFFFFF80700000000
    assert needles(module("a.sys", high, 0x10000)) == [high >> 16]
    assert needles(module("a.sys", high, 0x10001)) == [high >> 16, (high >> 16) + 1]
    assert needles(module("a.sys", high + 0xFFFF, 1)) == [high >> 16]
    assert needles(module("a.sys", high + 0xFFFF, 2)) == [high >> 16, (high >> 16) + 1]
    assert needles(module("a.sys", high, 0x2000000)) == [(high >> 16) + n for n in range(256)]
    assert needles(module("a.sys", high, 0)) == []
    unknown = module("a.sys", high)._replace(base=Absent("not-found"))
    assert needles(unknown, unknown._replace(base=high, end=Absent("not-found"))) == []
    two = [module(name, 0x8B000000 + at, 0x8000) for name, at in (("a", 0), ("b", 0x20000))]
    assert needles(*two, width=4) == [0x8B00, 0x8B02]


@pytest.mark.parametrize("width", [8, 4])
def test_places_to_look_at(width: int) -> None:
    """The size word and pointers, where they are aligned; also at the very first place."""
    needle = b"\x07\xf8\xff\xff\xff\xff"[: width - 2]
    size = b"\x18\0\0\0"

    def places(address: int, data: bytes) -> list[tuple[int, bool]]:
        return list(chunk_search._anchors(width, [b"none", needle], address, data))

    pointer = b"\x10\x20" + needle
    data = size.ljust(width, b"\0") + pointer + pointer + size
    wanted = [(0, True), (3 * width, True), (width, False), (2 * width, False)]
    assert places(0x1000, data) == wanted
    assert places(0x1000 - 1, b"\xff" + data) == [(at + 1, kind) for at, kind in wanted]
    assert places(0x1001, data) == []
    assert places(0x1002, needle) == []  # the pointer began before the piece
    assert places(0x1000, pointer) == [(0, False)]


def scanned(stack: Stack, *pieces: tuple[int, int]) -> tuple[list[Any], list[Any]]:
    """Addresses of nodes and heads of rings found in pieces (start, length) of memory."""
    chunks = [(at, stack.memory.read(at, size)) for at, size in pieces]
    nodes, rings = chunk_search.scan_chunks(stack.memory, stack.dump, chunks)  # type: ignore[arg-type]
    return [node.address for node in nodes], [(ring.head, ring.how) for ring in rings]


@every_layout
def test_a_piece_that_is_just_the_node(layout: NodeLayout) -> None:
    """Nothing before it and nothing behind it is needed; what is found twice is told once."""
    stack = Stack(layout, 3)
    places = [(node, layout.size) for node in stack.nodes]
    assert scanned(stack, *places, *places) == (stack.nodes, [])
    context = (stack.context, 0x200)
    ring = (stack.head, "found by content in memory")
    assert scanned(stack, context, places[1]) == ([stack.nodes[1]], [ring])


def test_a_node_in_the_middle_of_a_piece() -> None:
    """Found at its address, also when it stands where the longest layout just ends."""
    for at in (0x400, 0x1000 - WIN8.size):
        stack = Stack(WIN8, 1)
        piece = POOL[8] + 0x20000
        stack.memory.write(piece, bytes(0x1000))
        stack.memory.write(piece + at, stack.node_bytes(0))
        assert scanned(stack, (piece, 0x1000)) == ([piece + at], [])


def test_places_that_are_tried() -> None:
    """10,000, of a piece full of what a node may be behind."""
    for count in (10_000, 10_001):
        stack = Stack(WIN8, 0)
        words = b"\x18".ljust(8, b"\0") * count
        assert chunk_search.scan_chunks(stack.memory, stack.dump, [(POOL[8], words)]) == ([], [])
        text = "the search for filter nodes ended after 10,001 places"
        assert stack.memory.limits == (() if count == 10_000 else (text,))


def test_scan_of_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Places, nodes and contexts have bounds, and one that was reached is told."""
    stack = Stack(WIN8, 4)
    places = [(node, WIN8.size) for node in stack.nodes]  # in each: a size, 3 callbacks
    monkeypatch.setattr(chunk_search, "MAX_FOUND", 3)
    assert scanned(stack, *places) == (stack.nodes[:3], [])
    assert stack.memory.limits == ("the search for filter nodes ended after 10 places",)
    stack = Stack(WIN8, 3)
    assert scanned(stack, *places[:3]) == (stack.nodes, [])
    monkeypatch.setattr(chunk_search, "MAX_FOUND", 1)
    stack = Stack(WIN8, 1)
    head = (stack.head, "found by content in memory")
    assert scanned(stack, (stack.context, 0x200))[1] == [head]
    assert stack.memory.limits == ()
    assert scanned(stack, *[(stack.context, 0x200)] * 2)[1] == [head]
    assert stack.memory.limits == ("the search for dump stack contexts ended after 1",)
    monkeypatch.setattr(chunk_search, "MAX_FOUND", 100)
    for most, count in ((8, 2), (5, 2), (4, 1)):
        monkeypatch.setattr(chunk_search, "MAX_CANDIDATES", most)
        stack = Stack(WIN8, 2)
        assert scanned(stack, *places[:2])[0] == stack.nodes[:count]
        text = f"the search for filter nodes ended after {most + 1} places"
        assert stack.memory.limits == (() if most == 8 else (text,))


def test_layouts_that_are_tried() -> None:
    """Those of the pointer size, each with room for its members."""
    assert [layout.name for layout in node_layouts(8)] == ["win8", "newest", "vista"]
    assert len(GEOMETRY) == 0x38
    assert struct.unpack_from("<q", GEOMETRY, 0x18) == (DISK_SIZE,)
