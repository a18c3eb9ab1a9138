"""Rings compared whole, the bounds of the walk, and which pointers it follows."""

from __future__ import annotations

from typing import Any

import pytest
from dumpstack_memory import PAGE, POOL, WIN8, Stack, by_name, module

from analyzer.absence import Absent
from analyzer.dumpstack import roles, walk
from analyzer.dumpstack.nodes import Node, at_link
from analyzer.dumpstack.walk import Ring
from analyzer.layouts.crashdmp import NODE_LAYOUTS
from analyzer.records import Module

FIRST_OF_SIZE = pytest.mark.parametrize("layout", [NODE_LAYOUTS[0], NODE_LAYOUTS[3]], ids=by_name)


def told(ring: Ring) -> tuple[Any, ...]:
    """A ring with its nodes as numbers of filters, without its tail."""
    places = [node.address for node in ring.nodes]
    return (ring.stack, ring.head, places, *ring[4:])


def ring_of(stack: Stack) -> tuple[Any, ...]:
    """The ring of a context, told."""
    return told(stack.ring())


# ---- one ring -----------------------------------------------------------------------------------
@FIRST_OF_SIZE
def test_whole_rings(layout: Any) -> None:
    """Sound, and with each link wrong: all that is told of the ring."""
    stack = Stack(layout, 3)
    head, links, nodes, memory = stack.head, stack.links, stack.nodes, stack.memory
    width = stack.width
    sound = ("crash", head, nodes, (), "", 3, 3, "test")
    assert ring_of(stack) == sound

    def damaged(link: int, word: int) -> tuple[Any, ...]:
        before = memory.pointer(link)
        memory.put(link, word)
        found = ring_of(stack)
        memory.put(link, before)  # type: ignore[arg-type]
        assert found[:2] == ("crash", head)
        assert found[-1] == "test"
        return found[2:-1]

    text = f"the head's Blink is {links[0]:#x}, the last link is {links[2]:#x}"
    assert damaged(head + width, links[0]) == (nodes, (), text, None, 3)
    text = (
        f"Blink of the link at {links[0]:#x} is {links[2]:#x}, the link before it is at {head:#x}"
    )
    assert damaged(links[0] + width, links[2]) == (nodes, (), text, None, 3)
    text = (
        f"Blink of the link at {links[1]:#x} is {head:#x}, the link before it is at {links[0]:#x}"
    )
    assert damaged(links[1] + width, head) == (nodes, (), text, None, 3)
    text = f"the link to {links[0]:#x} closes a loop that misses the head at {head:#x}"
    assert damaged(links[2], links[0]) == (nodes, (), text, None, 3)
    wild = POOL[width] + 0x5000000
    gone = Absent("not-mapped", f"nothing at {wild:#x}")
    text = f"the link to {wild:#x} leads to no memory ({gone})"
    lost = ((wild, Absent("unknown-layout", text)),)
    for link in links:
        assert damaged(link, wild) == (nodes, lost, text, None, 4)
    text = (
        f"Blink of the link at {links[1]:#x} is {links[0]:#x}, the link before it is at {head:#x}"
    )
    assert damaged(head, links[1]) == (nodes[1:], (), text, None, 2)
    assert ring_of(stack) == sound


def test_nodes_in_pages_that_are_not_there() -> None:
    """No broken ring: how many there are is told only where both ends lead to the one."""
    stack = Stack(WIN8, 3)
    for node in stack.nodes[:2]:
        stack.memory.dropped.add(node >> 12)
    page = stack.nodes[0] >> 12 << 12
    lost = [
        (link, Absent("not-in-dump", f"dropped ({page + at:#x})"))
        for link, at in zip(stack.links, (0, PAGE))
    ]
    assert ring_of(stack) == (
        "crash", stack.head, stack.nodes[2:], tuple(lost), "", None, 3, "test"
    )  # fmt: skip
    stack = Stack(WIN8, 1)
    stack.memory.dropped.add(stack.nodes[0] >> 12)
    wanted = ("crash", stack.head, [], tuple(lost[:1]), "", 1, 1, "test")
    assert ring_of(stack) == wanted
    stack.memory.put(stack.head + 8, stack.links[0] + PAGE)
    found = ring_of(stack)
    assert (found[-3], found[-2]) == (None, 2)
    problem = f"the link to {stack.links[0] + PAGE:#x} leads to no memory"
    assert found[3][1][1].detail.startswith(problem)
    assert found[4] == ""  # the page that is missing may be the reason


def test_a_head_that_leads_nowhere() -> None:
    """Nothing can be counted, whether the head's links or the head itself are lost."""
    stack = Stack(WIN8, 1)
    wild = POOL[8] + 0x5000000

    def lost(link: int) -> tuple[Any, ...]:
        gone = f"the link to {link:#x} leads to no memory (nothing at {link & -PAGE:#x})"
        return [], ((link, Absent("unknown-layout", gone)),), gone, None, 1, "test"

    stack.memory.put(stack.head, wild, wild)
    assert ring_of(stack)[2:] == lost(wild)
    ring = walk.follow(stack.memory, stack.dump, wild, None, "", "test")
    assert told(ring)[2:] == lost(0)


def test_a_node_that_is_none_keeps_its_place() -> None:
    """Its links lead on."""
    stack = Stack(WIN8, 3)
    stack.memory.write(stack.nodes[1], b"\xfe" * 0x40)
    found = ring_of(stack)
    why = f"what lies around the link at {stack.links[1]:#x} is no known filter node"
    lost = ((stack.links[1], Absent("unknown-layout", why)),)
    nodes = [stack.nodes[0], stack.nodes[2]]
    assert found == ("crash", stack.head, nodes, lost, "", 3, 3, "test")


@pytest.mark.parametrize("count", [63, 64, 65, 66])
def test_longest_ring(count: int) -> None:
    """64 filters are walked, the next one is too many; what is behind is read from the back."""
    stack = Stack(WIN8, count)
    found = ring_of(stack)
    if count <= walk.MAX_FILTERS == 64:
        assert found == ("crash", stack.head, stack.nodes, (), "", count, count, "test")
    else:
        nodes = stack.nodes[:64]
        assert found == ("crash", stack.head, nodes, (), "more than 64 links", None, 64, "test")


# ---- where a head may be ------------------------------------------------------------------------
@FIRST_OF_SIZE
def test_a_head_without_a_geometry(layout: Any) -> None:
    """Anywhere in the page behind a pointer; both links lead back, and the first is a node's."""
    width = layout.pointer_size
    for at in (0, width, PAGE - 2 * width):
        stack = Stack(layout, 2)
        block = POOL[width] + 0x20000
        stack.memory.write(block, bytes(2 * PAGE))
        stack.join([block + at, *stack.links])

        def found() -> list[tuple[Any, ...]]:
            return [told(ring) for ring in walk.block_rings(
                stack.memory, stack.dump, block, "hibernation", "test"  # noqa: B023
            )]  # fmt: skip

        wanted = [("hibernation", block + at, stack.nodes, (), "", 2, 2, "test")]
        assert found() == wanted
        stack.memory.put(stack.links[0] + width, stack.head)
        assert found() == []
        stack.memory.put(stack.links[0] + width, block + at)
        assert found() == wanted
        for words in ((8, stack.links[1]), (stack.links[0], 8), (block + at, stack.links[1])):
            stack.memory.put(block + at, *words)
            assert found() == []
    for at in (PAGE - width, PAGE, 1):
        stack = Stack(layout, 2)
        block = POOL[width] + 0x20000
        stack.memory.write(block, bytes(2 * PAGE))
        stack.join([block + at, *stack.links])
        assert walk.block_rings(stack.memory, stack.dump, block, "", "test") == []


def test_a_list_that_is_none_does_not_hide_a_head() -> None:
    """Another list before it: its member is no node."""
    stack = Stack(WIN8, 1)
    block, other = POOL[8] + 0x20000, POOL[8] + 0x30000
    stack.memory.write(other - 0x200, bytes(0x400))
    stack.join([block + 0x10, other])
    stack.join([block + 0x40, *stack.links])
    (ring,) = walk.block_rings(stack.memory, stack.dump, block, "", "test")
    assert told(ring) == ("crash", block + 0x40, stack.nodes, (), "", 1, 1, "test")


# ---- from the image -----------------------------------------------------------------------------
def two_stacks() -> tuple[Stack, list[Module], int]:
    """A crash stack, and a hibernation stack of one filter: (stack, modules, its block)."""
    stack = Stack(WIN8, 1)
    hiber = [
        module(f"hiber_{name}.sys", 0xFFFFF80700100000 + at * 0x10000)
        for at, name in enumerate(("dumpstorport", "stornvme", "a"))
    ]
    modules = roles.classify([*stack.modules, *hiber])
    block = POOL[8] + 0x20000
    node = block + 0x2010
    stack.memory.write(block, bytes(0x1000))
    names = ("DumpStart", "DumpWrite", "DumpFinish")
    data = stack.node_bytes(0, **dict.fromkeys(names, hiber[2].base + 0x100))  # type: ignore[operator]
    stack.memory.write(node, data)
    stack.join([block + 0x80, node + WIN8.link])
    return stack, modules, block


def found_rings(stack: Stack, modules: list[Module], context: Any) -> list[tuple[Any, ...]]:
    """(stack, head, how) of the rings."""
    rings = walk.rings(stack.memory, modules, context)
    return [(ring.stack, ring.head, ring.how) for ring in rings]


def test_which_pointers_lead_to_rings() -> None:
    """Those known in Context; those of the whole image where a stack is missing."""
    stack, modules, block = two_stacks()
    image = stack.modules[0].base
    assert isinstance(image, int)
    stack.memory.write(image, bytes(0x2000))
    context = image + 0x1000
    stack.memory.put(image + 0x100, block, stack.context)
    known = ("crash", stack.head, "pointer in crashdmp!Context")
    crash = ("crash", stack.head, "pointer in crashdmp's image")
    hiber = ("hibernation", block + 0x80, "pointer in crashdmp's image")
    assert found_rings(stack, modules, context) == [hiber, crash]
    stack.memory.put(context + 0x18, stack.context)
    assert found_rings(stack, modules, context) == [known, hiber]
    only = [one for one in modules if one.stack != "hibernation"]
    assert found_rings(stack, only, context) == [known]
    nobodys = ("", *hiber[1:])
    assert found_rings(stack, only, Absent("not-found")) == [nobodys, crash]
    without = [one for one in modules if one.role != "crash dump driver"]
    assert found_rings(stack, without, context) == [known]
    gone = [one._replace(loaded=False) if one.base == image else one for one in modules]
    assert found_rings(stack, gone, Absent("not-found")) == []


@pytest.mark.parametrize("before", [255, 256])
def test_pointers_of_an_image_are_bounded(before: int) -> None:
    """256 out of all images are followed, and the end of the search is told."""
    stack = Stack(WIN8, 1)
    image = stack.modules[0].base
    assert isinstance(image, int)
    junk = [0xFFFFD00000000000 + 8 * place for place in range(before)]
    junk += [junk[0], 8, 0]  # seen already, and no pointers
    stack.memory.put(image, *junk, stack.context)
    found = found_rings(stack, stack.modules, Absent("not-found"))
    text = "the search in crashdmp ended after 256 pointers"
    if before == 255:
        assert (len(found), stack.memory.limits) == (1, ())
    else:
        assert (found, stack.memory.limits) == ([], (text,))


@pytest.mark.parametrize("before", [4095, 4096])
def test_pointers_into_images_are_bounded_too(before: int) -> None:
    """4,096 different words, although none of them is followed."""
    stack = Stack(WIN8, 1)
    image = stack.modules[0].base
    assert isinstance(image, int)
    own = [image + 8 * place for place in range(before)]
    stack.memory.put(image, *own, stack.context)
    found = found_rings(stack, stack.modules, Absent("not-found"))
    text = "the search in crashdmp ended after 0 pointers"
    if before == 4095:
        assert (len(found), stack.memory.limits) == (1, ())
    else:
        assert (found, stack.memory.limits) == ([], (text,))


# ---- from nodes ---------------------------------------------------------------------------------
def nodes_at(stack: Stack, *places: int) -> list[Node]:
    """The nodes with these numbers."""
    found = [at_link(stack.memory, stack.dump, stack.links[place]) for place in places]
    assert all(isinstance(one, Node) for one in found)
    return found  # type: ignore[return-value]


def from_nodes(stack: Stack, modules: list[Module], *nodes: Node) -> list[tuple[Any, ...]]:
    """Rings of nodes, told."""
    return [told(ring) for ring in walk.from_nodes(stack.memory, modules, nodes)]


def test_rings_of_nodes_of_a_scan() -> None:
    """One ring however many of its nodes were found; with its tail where a geometry is there."""
    stack = Stack(WIN8, 3)
    how = "found by content in memory"
    wanted = [("crash", stack.head, stack.nodes, (), "", 3, 3, how)]
    for places in ((0,), (2,), (1, 1, 0, 2), (0, 1, 2)):
        found = nodes_at(stack, *places)
        assert from_nodes(stack, stack.dump, *found) == wanted
        (ring,) = walk.from_nodes(stack.memory, stack.dump, found)
        assert ring.tail is not None
    stack.memory.put(stack.geometry, 0)
    (ring,) = walk.from_nodes(stack.memory, stack.dump, nodes_at(stack, 1))
    assert (told(ring), ring.tail) == (wanted[0], None)
    assert walk.from_nodes(stack.memory, stack.dump, []) == []


def test_nodes_that_lead_to_no_head() -> None:
    """One ring of each stack, which claims no count."""
    stack, modules, block = two_stacks()
    dump = [one for one in modules if one.stack]
    other = at_link(stack.memory, dump, block + 0x2010 + WIN8.link)
    (mine,) = nodes_at(stack, 0)
    assert isinstance(other, Node)
    stack.memory.put(stack.links[0], stack.links[0], stack.links[0])
    stack.memory.put(other.link, POOL[8] + 0x7000000)  # type: ignore[arg-type]
    lost = Absent("not-found", "the ring of this node leads to no list head")
    how = "found by content in memory"
    (mine,) = nodes_at(stack, 0)
    other = at_link(stack.memory, dump, other.link)  # type: ignore[arg-type]
    assert isinstance(other, Node)
    assert from_nodes(stack, dump, other, mine, mine) == [
        ("crash", lost, [mine.address] * 2, (), "", None, 2, how),
        ("hibernation", lost, [other.address], (), "", None, 1, how),
    ]
    stack.join([stack.head, stack.links[0]])
    (ringed,) = nodes_at(stack, 0)
    assert from_nodes(stack, dump, other, ringed) == [
        ("crash", stack.head, [ringed.address], (), "", 1, 1, how),
        ("hibernation", lost, [other.address], (), "", None, 1, how),
    ]
    stack.memory.put(stack.links[0], stack.links[0], stack.links[0])
    unplaced = mine._replace(address=Absent("not-found"))
    assert from_nodes(stack, dump, unplaced)[0][1:] == (
        lost, [unplaced.address], (), "", None, 1, how
    )  # fmt: skip


def test_whose_a_node_is() -> None:
    """Of the module that most of its routines lie in; of no stack where they lie in none."""
    stack = Stack(WIN8, 1)
    a, b = stack.dump[2:4]
    rows: list[tuple[dict[str, int], Module | None]] = [
        ({}, a),
        ({"DumpStart": b.base + 1}, a),  # type: ignore[operator]
        ({"DumpStart": b.base, "DumpFinish": b.base}, b),  # type: ignore[dict-item]
        ({"DumpStart": 8, "DumpWrite": 8, "DumpFinish": b.base}, b),  # type: ignore[dict-item]
        ({"DumpStart": 0, "DumpWrite": 0, "DumpFinish": 0}, None),
    ]
    for changes, owner in rows:
        node = Node(WIN8, 0x1000, stack.node_bytes(0, **changes), 0)
        assert walk.filter_module(stack.dump, node) == owner
        assert walk.node_stack(stack.dump, [node]) == ("crash" if owner else "")
    assert walk.node_stack(stack.dump, []) == ""
    hiber = b._replace(stack="hibernation")
    of = [
        Node(WIN8, 0x1000, stack.node_bytes(0, **changes), 0)
        for changes in ({}, rows[2][0], rows[2][0])
    ]
    assert walk.node_stack([a, hiber], of) == "hibernation"
    ring = stack.ring()
    assert walk.filter_modules(stack.modules, [ring, ring]) == [a, a]
    unloaded = [one._replace(loaded=False) for one in stack.modules]
    assert walk.filter_modules(unloaded, [ring]) == []


def test_one_ring_of_a_head() -> None:
    """That with the most nodes, the first of equals; all without a head stay."""
    ring = Stack(WIN8, 2).ring()
    less, more = ring._replace(nodes=ring.nodes[:1]), ring._replace(how="again")
    loose = ring._replace(head=Absent("not-found"))
    assert walk.unique([less, ring, more, less]) == [ring]
    assert walk.unique([more, ring]) == [more]
    assert walk.unique([loose, less, loose]) == [loose, less, loose]
    assert walk.unique([]) == []
    assert (walk.largest_node(8), walk.largest_node(4)) == (0xC8, 0x98)
