"""Chains of calls among the words left on a stack.

Invariant: x64: two words are linked only when, from the inner one taken as a return address, unwind
data leads exactly to the outer one, and the call in front of that is direct and its target is the
inner function. (Measured on recorded calls: of the links that merely unwound 7 of 24 were false, of
these none.) ARM64: frame records that lead, each further up, to the frame of a known context. What
fits neither stays a hint.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable
from typing import NamedTuple

from ..absence import Absent
from ..symbols.images import Images
from .caller import Call, call_before

#: words of one stack that may be return addresses; real stacks hold about 200
MAX_WORDS = 4096
_SLOT = 8


class Word(NamedTuple):
    """A word of a stack that may be a return address."""

    place: int
    value: int
    call: Call


def chains(
    images: Images, architecture: str, start: int, end: int, ends_at: Collection[int] = ()
) -> list[list[Word]]:
    """Maximal chains in a stack, each innermost first; ``ends_at``: frame records known by x29.

    A word that several inner ones lead to is in several chains.
    """
    kind = architecture.partition("-")[0]
    if kind == "arm64":
        return _records(images, start, end, ends_at)
    if kind != "x64":
        return []
    found = {word.place: word for word in _words(images, start, end)}
    links = {}
    for word in found.values():
        outer = _outer(images, word, found)
        if outer is not None:
            links[word.place] = outer.place
    return _joined(links, found)


def _words(images: Images, start: int, end: int) -> Iterable[Word]:
    count = 0
    for address, data in images.target.chunks(start, end - start):
        skip = -address % _SLOT
        usable = data[skip : skip + (len(data) - skip) // _SLOT * _SLOT]
        for number, (value,) in enumerate(struct.iter_unpack("<Q", usable)):
            if images.at(value) is None:
                continue
            call = call_before(images, value, "x64")
            if call.kind in ("direct", "indirect"):
                count += 1
                if count > MAX_WORDS:
                    images.target.stopped(f"the search for calls left on stacks: {MAX_WORDS} words")
                    return
                yield Word(address + skip + number * _SLOT, value, call)


def _outer(images: Images, word: Word, found: dict[int, Word]) -> Word | None:
    """The word that a return address provably leads to."""
    from . import x64

    frame = {"rip": word.value, "rsp": word.place + _SLOT}
    step = x64.caller(images, frame, is_interrupted=False)
    if isinstance(step, Absent) or step.how != "unwind data":
        return None
    outer = found.get(step.registers["rsp"] - _SLOT)
    if outer is None or outer.value != step.registers["rip"] or outer.call.target is None:
        return None
    return outer if _is_target(images, outer.call.target, word.value) else None


def _is_target(images: Images, target: int, inside: int) -> bool:
    """True when a call of ``target`` enters the function that holds the call before ``inside``."""
    return images.function_start(inside - 1) == target


def _joined(links: dict[int, int], found: dict[int, Word]) -> list[list[Word]]:
    result = []
    for head in sorted(set(links) - set(links.values())):
        chain = [head]
        while chain[-1] in links:  # each link leads further up, so this ends
            chain.append(links[chain[-1]])
        result.append([found[place] for place in chain])
    return result


def _records(images: Images, start: int, end: int, ends_at: Collection[int]) -> list[list[Word]]:
    """Frame records, each leading further up the stack, to one that a context's x29 names."""
    from .arm64 import plain

    found: dict[int, tuple[int, Word]] = {}
    for address, data in images.target.chunks(start, end - start):
        skip = -address % 16
        for at in range(skip, len(data) - 15, 16):
            outer, back = struct.unpack_from("<QQ", data, at)
            place, value = address + at, plain(back)
            leads_up = not outer or (place < outer <= end and outer % 16 == 0)
            if not leads_up or images.at(value) is None:
                continue
            call = call_before(images, value, "arm64")
            if call.kind != "none":
                found[place] = outer, Word(place + 8, value, call)
    links = {}
    for place, (outer, word) in found.items():
        known = found.get(outer)
        if known is None and outer not in ends_at:
            continue
        target = None if known is None else known[1].call.target
        if target is not None and not _may_be_target(images, target, word.value):
            continue
        links[place] = outer
    result = []
    for head in sorted(set(links) - set(links.values())):
        chain = [head]
        while chain[-1] in links:
            chain.append(links[chain[-1]])
        if head not in ends_at and any(place in ends_at for place in chain):
            result.append([found[place][1] for place in chain if place in found])
    return result


def _may_be_target(images: Images, target: int, inside: int) -> bool:
    start = images.function_start(inside - 4)
    return start is None or start == target
