"""The walk over a ring of filters, whole, broken and endless; crashdmp's context."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from dumpstack_memory import POOL, WIN8, Memory, Stack, every_layout

from analyzer.absence import Absent
from analyzer.dumpstack import describe, walk
from analyzer.dumpstack.context import (
    CONTEXT_LENGTH,
    dump_block,
    find_contexts,
    last_failure,
    progress,
)
from analyzer.dumpstack.nodes import at_link
from analyzer.layouts.crashdmp import NodeLayout, node_layouts
from analyzer.records import Module


# ---- rings --------------------------------------------------------------------------------------
def members(ring: walk.Ring) -> list[Any]:
    """Addresses of the nodes read."""
    return [node.address for node in ring.nodes]


@every_layout
@pytest.mark.parametrize("filters", [0, 1, 2, 3, 10])
def test_closed_ring(layout: NodeLayout, filters: int) -> None:
    """All filters in call order, counted, nothing to complain about."""
    stack = Stack(layout, filters)
    ring = stack.ring()
    assert members(ring) == stack.nodes
    assert (ring.members, ring.least, ring.problem, ring.unread) == (filters, filters, "", ())
    assert (ring.stack, ring.head) == ("crash", stack.head)


def test_ring_that_loops_past_its_head() -> None:
    """The last Flink leads back to the first node: each node is read once and the loop is told."""
    stack = Stack(WIN8, 3)
    stack.memory.put(stack.links[2], stack.links[0])
    ring = stack.ring()
    assert members(ring) == stack.nodes
    assert "closes a loop that misses the head" in ring.problem
    assert (ring.members, ring.least) == (None, 3)


def test_node_that_links_to_itself() -> None:
    """The shortest loop; the other node is reached from the back."""
    stack = Stack(WIN8, 2)
    stack.memory.put(stack.links[0], stack.links[0])
    ring = stack.ring()
    assert members(ring) == stack.nodes
    assert "closes a loop" in ring.problem
    assert ring.members is None


def test_wild_link() -> None:
    """A Flink to nowhere: what lies behind it is read from the back, in call order."""
    stack = Stack(WIN8, 4)
    wild = POOL[8] + 0x5000000
    stack.memory.put(stack.links[1], wild)
    ring = stack.ring()
    assert members(ring) == stack.nodes
    assert "leads to no memory" in ring.problem
    assert f"{wild:#x}" in ring.problem
    assert ring.members is None


def test_wrong_blink_of_a_node() -> None:
    """The ring closes forwards, but a Blink disagrees: told, with both addresses, not counted."""
    stack = Stack(WIN8, 3)
    stack.memory.put(stack.links[1] + 8, POOL[8] + 0x3040)
    ring = stack.ring()
    assert members(ring) == stack.nodes
    assert f"Blink of the link at {stack.links[1]:#x}" in ring.problem
    assert f"{POOL[8] + 0x3040:#x}" in ring.problem
    assert (ring.members, ring.least) == (None, 3)


def test_wrong_blink_of_the_head() -> None:
    """The head's own Blink is compared with the last link."""
    stack = Stack(WIN8, 2)
    stack.memory.put(stack.head + 8, stack.links[0])
    ring = stack.ring()
    assert members(ring) == stack.nodes
    assert ring.problem.startswith("the head's Blink is")


def test_node_that_the_dump_does_not_hold() -> None:
    """A missing page is no broken ring: the link is kept with its reason, the rest is read."""
    stack = Stack(WIN8, 3)
    stack.memory.dropped.add(stack.nodes[1] >> 12)
    ring = stack.ring()
    assert members(ring) == [stack.nodes[0], stack.nodes[2]]
    assert [(link, why.reason) for link, why in ring.unread] == [(stack.links[1], "not-in-dump")]
    assert ring.problem == ""
    assert (ring.members, ring.least) == (None, 3)


def test_the_only_node_is_not_in_the_dump() -> None:
    """Both ends of the head name one member: one filter, certain without reading it."""
    stack = Stack(WIN8, 1)
    stack.memory.dropped.add(stack.nodes[0] >> 12)
    ring = stack.ring()
    assert members(ring) == []
    assert (ring.members, ring.least) == (1, 1)
    assert [link for link, _ in ring.unread] == stack.links


def test_garbage_in_a_node_does_not_end_the_walk() -> None:
    """The links hold, the content does not: the others are read, and the ring is counted."""
    stack = Stack(WIN8, 3)
    stack.memory.write(stack.nodes[1], b"\xfe" * 0x40)
    ring = stack.ring()
    assert members(ring) == [stack.nodes[0], stack.nodes[2]]
    assert [(link, why.reason) for link, why in ring.unread] == [(stack.links[1], "unknown-layout")]
    assert (ring.members, ring.problem) == (3, "")


def test_endless_list_is_bounded() -> None:
    """A ring of 200 nodes ends after 64 links, and says so."""
    stack = Stack(WIN8, 200)
    ring = stack.ring()
    assert len(ring.nodes) <= 2 * walk.MAX_FILTERS
    assert "more than 64 links" in ring.problem
    assert ring.members is None


def test_ring_without_a_geometry_is_found_by_its_first_node() -> None:
    """A context whose geometry is unusual (no cylinders): the list head is found by its member."""
    stack = Stack(WIN8, 2)
    stack.memory.put(stack.geometry, 0)
    ring = stack.ring()
    assert (ring.head, ring.tail, ring.members) == (stack.head, None, 2)
    assert members(ring) == stack.nodes
    assert ring.stack == "crash"  # by the modules of the routines


def test_nodes_from_a_scan_become_a_ring() -> None:
    """Nodes found by content give the ring of their head, tail included."""
    stack = Stack(WIN8, 3)
    nodes = [at_link(stack.memory, stack.dump, link) for link in (stack.links[1], stack.links[0])]
    (ring,) = walk.from_nodes(stack.memory, stack.dump, nodes)  # type: ignore[arg-type]
    assert (ring.head, members(ring), ring.members) == (stack.head, stack.nodes, 3)
    assert ring.tail is not None


def test_nodes_without_a_head_claim_no_count() -> None:
    """With the head's page missing the nodes are told, but not how many there are."""
    stack = Stack(WIN8, 2)
    nodes = [at_link(stack.memory, stack.dump, link) for link in stack.links]
    stack.memory.dropped.add(stack.head >> 12)
    (ring,) = walk.from_nodes(stack.memory, stack.dump, nodes)  # type: ignore[arg-type]
    assert isinstance(ring.head, Absent)
    assert (members(ring), ring.members, ring.least) == (stack.nodes, None, 2)


# ---- crashdmp's context -------------------------------------------------------------------------
def with_context(width: int = 8, build: Any = 19041) -> tuple[Memory, list[Module], int, int]:
    """Memory with crashdmp!Context and its copy: (memory, modules, context, copy)."""
    stack = Stack(node_layouts(width)[0], build=build)
    crashdmp = stack.modules[0].base
    assert isinstance(crashdmp, int)
    copy, context = crashdmp + 0x310, crashdmp + 0xA60
    if width == 4:  # on Windows 7 x86 the copy lies behind
        copy, context = context, copy
    for address in (context, copy):
        stack.memory.write(address, b"CDmp\1\0\0\0" + bytes(CONTEXT_LENGTH - 8))
    return stack.memory, stack.modules, context, copy


def test_context_is_told_from_its_copy_by_the_bugcheck() -> None:
    """The live context holds the bugcheck code at +0xE8; without one the order decides."""
    memory, modules, context, copy = with_context()
    assert walk.contexts(memory, modules[0], Absent("unset")) == (context, copy)
    memory.write(copy + 0xE8, struct.pack("<I", 0xD1))
    assert walk.contexts(memory, modules[0], 0xD1) == (copy, context)


def test_signature_outside_the_image_or_unaligned_does_not_count() -> None:
    """CDmp is crashdmp's pool tag too: only 8-aligned places in the image count."""
    memory, modules, context, copy = with_context()
    base = modules[0].base
    memory.write(base + 0x2004, b"CDmp\1\0\0\0")
    memory.write(base + 0x2040, b"CDmp\2\0\0\0")
    memory.write(modules[1].base + 0x100, b"CDmp\1\0\0\0")
    assert find_contexts(memory, modules[0]) == [copy, context]


def test_no_context_says_why() -> None:
    """Without crashdmp in the list, or without its pages, the reason is given."""
    memory, modules, _, _ = with_context()
    assert walk.contexts(memory, None, 0xD1).context.reason == "not-found"  # type: ignore[union-attr]
    memory.pages.clear()
    assert walk.contexts(memory, modules[0], 0xD1).context.reason == "not-in-dump"  # type: ignore[union-attr]


@pytest.mark.parametrize("distance", [0xD0, 0x100])
def test_progress_of_the_dump_block(distance: int) -> None:
    """Code and parameters give the block, the pointer behind CONTEXT proves its layout."""
    memory, _, context, _ = with_context()
    block, debugger_data = context + distance, 0xFFFFF80610100200
    memory.write(block + 0x18, struct.pack("<I4x4Q", 0xD1, 1, 2, 3, 4))
    assert dump_block(memory, context, 0xD1, (1, 2, 3, 4)) == block
    assert dump_block(memory, context, 0xD1, (1, 2, 3, 5)).reason == "not-found"  # type: ignore[union-attr]
    assert progress(memory, block, debugger_data).reason == "unknown-layout"  # type: ignore[union-attr]
    memory.put(block + 0x510, debugger_data)  # 0x40 + sizeof(CONTEXT) of x64
    memory.write(block + 0x57C, struct.pack("<I", 0x44))
    assert progress(memory, block, debugger_data) == 0x44


def test_last_failure_on_windows_7_x86_is_certain() -> None:
    """Routine and status at their published places, +0x3F8 and +0x3FC."""
    memory, modules, context, _ = with_context(4, 7601)
    routine = modules[3].base + 0x1000
    assert last_failure(memory, context, modules[3:])[0].reason == "not-applicable"  # type: ignore[union-attr]
    memory.write(context + 0x3F8, struct.pack("<II", routine, 0xC0000001))
    assert last_failure(memory, context, modules[3:]) == (
        routine, 0xC0000001, "certain", context + 0x3F8,
    )  # fmt: skip


def test_last_failure_elsewhere_is_likely() -> None:
    """A pointer into a filter with a failing status behind it; a success status is none."""
    memory, modules, context, _ = with_context()
    routine = modules[3].base + 0x1000
    memory.write(context + 0x5A0, struct.pack("<QI", routine, 0x00000103))
    assert last_failure(memory, context, modules[3:])[0].reason == "not-found"  # type: ignore[union-attr]
    memory.write(context + 0x5A0, struct.pack("<QI", routine, 0xC0210001))
    found = last_failure(memory, context, modules[3:])
    assert found == (routine, 0xC0210001, "likely", context + 0x5A0)


# ---- filters of which no node was read ----------------------------------------------------------
def unread(stack: Stack, modules: list[Module], *rings: walk.Ring) -> list[tuple[Any, str]]:
    """(filter, why nothing of it is known) of the rows without a node."""
    absent = Absent("not-found")
    nothing = describe.Failure(absent, absent, "certain", None)
    rows = describe.describe(stack.memory, modules, rings, nothing, "").filters
    return [(row.filter, row.node.detail) for row in rows if isinstance(row.node, Absent)]


def test_why_a_filter_has_no_node() -> None:
    """Read and without it; broken; in pages that are not there; not even a list."""
    stack = Stack(WIN8, 1)
    others = ["dump_b.sys", "dump_c.sys"]
    why = "the list of filters was read and has no node of this module"
    assert unread(stack, stack.dump, stack.ring()) == [(name, why) for name in others]
    why = "neither a list of filters nor this filter's node was found in memory"
    assert unread(stack, stack.dump) == [(name, why) for name in ["dump_a.sys", *others]]
    why = "no node of this filter was found"
    broken = stack.ring()._replace(members=None)
    assert unread(stack, stack.dump, broken) == [(name, why) for name in others]
    stack = Stack(WIN8, 2)
    stack.memory.dropped.add(stack.nodes[1] >> 12)
    ring = stack.ring()
    assert [name for name, _ in unread(stack, stack.dump, ring)] == others
    assert {why for _, why in unread(stack, stack.dump, ring)} == {ring.unread[0][1].detail}


def test_a_link_without_a_module_is_a_filter_without_a_name() -> None:
    """Only where no module of the stack may be the one, and where the ring is sound."""
    stack = Stack(WIN8, 1)
    stack.memory.dropped.add(stack.nodes[0] >> 12)
    ring = stack.ring()
    ((name, _),) = unread(stack, stack.dump[:2], ring)
    assert name.detail == "crashdmp's list has this filter, but no listed module is one"
    assert unread(stack, stack.dump[:2], ring._replace(stack="")) == []
    assert unread(stack, stack.dump[:2], ring._replace(problem="it is broken")) == []
    assert len(unread(stack, stack.dump, ring)) == 3
