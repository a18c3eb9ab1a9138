"""From crashdmp's image to the filters: the structural walk over the dump stack.

Invariant: a ring is reported as found, closed or not; nodes that cannot be read leave a reason,
never a gap. The walk is bounded (links, blocks, pointers) whatever the memory holds. Standard
library only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..absence import Absent
from ..layouts.crashdmp import node_layouts
from ..names.drivers import CRASH_DUMP_DRIVER
from ..records import Module
from ..target import Target, module_at
from .context import BLOCK_LENGTH, Tail, find_contexts, image_words, stack_pointers, tails
from .nodes import Node, at_link

MAX_FILTERS = 64
#: pointers from crashdmp's image out of all images that are tried as dump stack contexts
MAX_POINTERS = 256


class Ring(NamedTuple):
    """One list of filters: where its head is, what was read of it."""

    stack: str  #: crash, hibernation, or "" when nothing tells
    head: int | Absent
    tail: Tail | None
    nodes: tuple[Node, ...]
    unread: tuple[tuple[int, Absent], ...]  #: links that are no readable node, and why
    problem: str  #: a sentence when the links do not close; "" otherwise
    members: int | None  #: number of filters when certain
    least: int  #: number of filters that must be there at least
    how: str


class Contexts(NamedTuple):
    """crashdmp!Context and ContextCopy, as found in the image."""

    context: int | Absent
    copy: int | Absent


def contexts(target: Target, crashdmp: Module | None, bugcheck: int | Absent) -> Contexts:
    """Tells Context from ContextCopy: the live one holds the bugcheck code of the crash."""
    if crashdmp is None:
        none = Absent("not-found", "crashdmp.sys is not in the module list")
        return Contexts(none, none)
    found = find_contexts(target, crashdmp)
    if not found:
        none = Absent(
            "not-in-dump",
            "no CDmp signature in what the dump holds of crashdmp.sys",
            "a kernel or complete memory dump",
        )
        return Contexts(none, none)
    # The copy lies below the live one on 22000, behind it on Windows 7 x86.
    live = found[-1] if target.pointer_size == 8 else found[0]
    if isinstance(bugcheck, int) and bugcheck:
        for address in found:
            if target.u32(address + 0xE8) == bugcheck:
                live = address
    copies = [address for address in found if address != live]
    return Contexts(live, copies[0] if copies else Absent("not-found", "only one CDmp structure"))


def rings(target: Target, modules: Sequence[Module], context: int | Absent) -> list[Ring]:
    """Every ring reachable from crashdmp's image: known places first, then all its pointers."""
    stack_modules = [m for m in modules if m.stack and m.loaded]
    crashdmp = next((m for m in modules if m.role == CRASH_DUMP_DRIVER and m.loaded), None)
    found: list[Ring] = []
    tried: set[int] = set()
    if isinstance(context, int):
        for pointer, stack in stack_pointers(target, context).items():
            tried.add(pointer)
            found += block_rings(
                target, stack_modules, pointer, stack, "pointer in crashdmp!Context"
            )
    # the hibernation stack's place in Context is known for Windows 7 alone: look for it like this
    missing = {m.stack for m in stack_modules} - {ring.stack for ring in found}
    looked = 0
    if crashdmp is not None and missing:
        for _, words in image_words(target, crashdmp):
            for word in words:
                if word in tried or not target.is_kernel_pointer(word):
                    continue
                tried.add(word)
                if len(tried) > 16 * MAX_POINTERS or looked >= MAX_POINTERS:
                    target.stopped(f"the search in crashdmp ended after {looked} pointers")
                    return unique(found)
                if module_at(modules, word) is None:
                    looked += 1
                    found += block_rings(
                        target, stack_modules, word, "", "pointer in crashdmp's image"
                    )
    return unique(found)


def block_rings(
    target: Target, stack_modules: Sequence[Module], address: int, stack: str, how: str
) -> list[Ring]:
    """Rings whose head lies in the block at ``address``.

    Found by the disk geometry before the head, else as a list head whose first member is a node.
    """
    found: list[Ring] = []
    for start, data in target.chunks(address, BLOCK_LENGTH):
        for tail in tails(target, stack_modules, start, data):
            owner = tail.stack or stack
            found += [follow(target, stack_modules, tail.head, tail, owner, how)]
        if found:
            return found
    width = target.pointer_size
    for start, data in target.chunks(address, BLOCK_LENGTH):
        for at in range(-start % width, len(data) - 2 * width + 1, width):
            flink = int.from_bytes(data[at : at + width], "little")
            blink = int.from_bytes(data[at + width : at + 2 * width], "little")
            head = start + at
            if not (target.is_kernel_pointer(flink) and target.is_kernel_pointer(blink)):
                continue
            if head in (flink, blink) or target.pointer(flink + width) != head:
                continue
            if not isinstance(at_link(target, stack_modules, flink), Absent):
                return [follow(target, stack_modules, head, None, stack, how)]
    return []


def follow(
    target: Target, stack_modules: Sequence[Module], head: int, tail: Tail | None, stack: str,
    how: str,
) -> Ring:  # fmt: skip
    """Walks a ring from its head: forwards, and where that breaks off also backwards."""
    width = target.pointer_size
    if tail is not None:
        flink, blink = tail.flink, tail.blink
    else:
        flink, blink = _word(target, head), _word(target, head + width)
    nodes, unread, problem, last, closed = _steps(target, stack_modules, head, flink, forward=True)
    if closed and not problem and blink != last:
        problem = f"the head's Blink is {blink:#x}, the last link is {last:#x}"
    if not closed:
        known = {n.link for n in nodes} | {link for link, _ in unread}
        more, lost, _, _, _ = _steps(target, stack_modules, head, blink, forward=False, known=known)
        nodes, unread = nodes + more[::-1], unread + lost
    least = len(nodes) + len(unread)
    missing = any(reason.reason != "unknown-layout" for _, reason in unread)
    if closed and not problem:
        count: int | None = least
    elif missing and flink == blink and least == 1:
        count = 1  # both ends of the head name the one member
    else:
        count = None
    if not stack:
        stack = node_stack(stack_modules, nodes)
    return Ring(
        stack, head, tail, tuple(nodes), tuple(unread), "" if missing else problem, count, least,
        how,
    )  # fmt: skip


def _steps(
    target: Target, stack_modules: Sequence[Module], head: int, first: int, forward: bool,
    known: Iterable[int | Absent] = (),
) -> tuple[list[Node], list[tuple[int, Absent]], str, int, bool]:  # fmt: skip
    """(nodes, unreadable links, problem, last link, came back to the head)."""
    nodes: list[Node] = []
    unread: list[tuple[int, Absent]] = []
    seen: set[int | Absent] = set(known)
    width = target.pointer_size
    at, before, problem = first, head, ""
    while at != head:
        if at in seen:
            if not known:
                problem = f"the link to {at:#x} closes a loop that misses the head at {head:#x}"
            break
        if len(seen) >= MAX_FILTERS:
            problem = f"more than {MAX_FILTERS} links"
            break
        seen.add(at)
        node = at_link(target, stack_modules, at)
        if isinstance(node, Absent):
            unread.append((at, node))
            links = target.unpack("QQ" if width == 8 else "II", at)
            if isinstance(links, Absent):
                unread[-1] = (at, links)
                if links.reason not in ("not-in-dump", "file-cut"):
                    # nodes lie in nonpaged pool: nothing there, or paged out, means a wild link
                    problem = f"the link to {at:#x} leads to no memory ({links})"
                    unread[-1] = (at, Absent("unknown-layout", problem))
                break
            flink, blink = links
        else:
            nodes.append(node)
            flink, blink = node.flink or 0, node.blink or 0
        if not problem and (blink if forward else flink) != before:
            word = "Blink" if forward else "Flink"
            problem = (
                f"{word} of the link at {at:#x} is {blink if forward else flink:#x}, "
                f"the link before it is at {before:#x}"
            )
        before, at = at, (flink if forward else blink)
    return nodes, unread, problem, before, at == head


def from_nodes(
    target: Target, stack_modules: Sequence[Module], nodes: Sequence[Node]
) -> list[Ring]:
    """Rings of nodes that a memory scan found: the head is the one link that is no node."""
    found: list[Ring] = []
    done: set[int] = set()
    loose: list[Node] = []
    links = {node.link for node in nodes if isinstance(node.link, int)}
    for node in nodes:
        if isinstance(node.link, int) and node.link in done:
            continue
        head = _head(target, stack_modules, node, links)
        if head is None:
            loose.append(node)
            continue
        ring = _with_tail(target, stack_modules, head)
        members = [n.link for n in ring.nodes if isinstance(n.link, int)]
        if node.link not in members:
            loose.append(node)
            continue
        done.update(members)
        found.append(ring)
    left = [node for node in loose if not (isinstance(node.link, int) and node.link in done)]
    for stack in sorted({node_stack(stack_modules, [node]) for node in left}):
        group = tuple(n for n in left if node_stack(stack_modules, [n]) == stack)
        why = Absent("not-found", "the ring of this node leads to no list head")
        found.append(
            Ring(stack, why, None, group, (), "", None, len(group), "found by content in memory")
        )
    return unique(found)


def _head(
    target: Target, stack_modules: Sequence[Module], node: Node, links: set[int]
) -> int | None:
    at, steps = node.flink, 0
    while at and steps < MAX_FILTERS and at != node.link:
        if at not in links and isinstance(at_link(target, stack_modules, at), Absent):
            return at if isinstance(target.pointer(at), int) else None
        at, steps = _word(target, at), steps + 1
    return None


def _word(target: Target, address: int) -> int:
    """A pointer, 0 when it cannot be read."""
    value = target.pointer(address)
    return value if isinstance(value, int) else 0


def _with_tail(target: Target, stack_modules: Sequence[Module], head: int) -> Ring:
    how = "found by content in memory"
    for start, data in target.chunks(head - 0xC0, 0x100):
        for tail in tails(target, stack_modules, start, data):
            if tail.head == head:
                return follow(target, stack_modules, head, tail, tail.stack, how)
    return follow(target, stack_modules, head, None, "", how)


def node_stack(stack_modules: Sequence[Module], nodes: Sequence[Node]) -> str:
    """crash or hibernation, by the modules that the nodes' routines lie in."""
    votes = Counter(
        module.stack
        for node in nodes
        for module in [filter_module(stack_modules, node)]
        if module is not None
    )
    return str(votes.most_common(1)[0][0]) if votes else ""


def filter_module(stack_modules: Sequence[Module], node: Node) -> Module | None:
    """The dump module that most of a node's routines lie in."""
    votes = Counter(
        module
        for _, _, routine in node.callbacks()
        if routine
        for module in [module_at(stack_modules, routine)]
        if module is not None
    )
    return votes.most_common(1)[0][0] if votes else None


def filter_modules(modules: Sequence[Module], found: Sequence[Ring]) -> list[Module]:
    """The dump modules that the nodes of these rings have their routines in."""
    stack_modules = [m for m in modules if m.stack and m.loaded]
    owners = (filter_module(stack_modules, node) for ring in found for node in ring.nodes)
    return [module for module in owners if module is not None]


def unique(found: Sequence[Ring]) -> list[Ring]:
    """One ring a head (the one with most nodes), rings without a head kept as they are."""
    best: dict[object, Ring] = {}
    for index, ring in enumerate(found):
        key: object = ring.head if isinstance(ring.head, int) else ("loose", index)
        if key not in best or len(ring.nodes) > len(best[key].nodes):
            best[key] = ring
    return list(best.values())


def largest_node(pointer_size: int) -> int:
    """Bytes of the longest node layout."""
    return max(layout.size for layout in node_layouts(pointer_size))
