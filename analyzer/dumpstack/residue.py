"""What is left of the dump path on captured stacks: words that point into its images.

Invariant: a residue word proves that something put a pointer there, not that a call happened or
when; whether the bytes before the target are a call instruction is said where the image is in the
dump. Standard library only.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from ..absence import Absent
from ..names.drivers import CRASH_DUMP_DRIVER
from ..records import Module, Residue
from ..target import Target, module_at

#: more words than any real stack held (20 seen); bounds a hostile one
MAX_WORDS = 512
_CALL_LENGTHS = (2, 3, 4, 6, 7)


def find(
    target: Target, modules: Sequence[Module], start: int, end: int, owner: str
) -> list[Residue]:
    """Words in [start, end) of a stack that point into crashdmp, dump_* or hiber_* images."""
    path = [m for m in modules if m.loaded and (m.stack or m.role == CRASH_DUMP_DRIVER)]
    if not path:
        return []
    width = target.pointer_size
    code = "Q" if width == 8 else "I"
    found: list[Residue] = []
    for address, data in target.chunks(start, end - start):
        skip = -address % width
        count = (len(data) - skip) // width
        for index, word in enumerate(struct.unpack_from(f"<{count}{code}", data, skip)):
            module = module_at(path, word)
            if module is None:
                continue
            place = address + skip + index * width
            found.append(
                Residue(
                    owner,
                    target.symbol(path, word),
                    module.name,
                    word,
                    follows_call(target, word),
                    target.origin("word on a captured stack", place, "likely"),
                )
            )
            if len(found) >= MAX_WORDS:
                target.stopped(f"the words left on the stack of {owner} ended after {MAX_WORDS}")
                return found
    return found


def follows_call(target: Target, address: int) -> bool | Absent:
    """True when the instruction before ``address`` can be a call."""
    if target.architecture == "arm64":
        word = target.u32(address - 4)
        if isinstance(word, Absent):
            return word
        return word & 0xFC00_0000 == 0x9400_0000 or word & 0xFFFF_FC1F == 0xD63F_0000  # BL, BLR
    code = target.read(address - 7, 7)
    if isinstance(code, Absent):
        return code
    if code[2] == 0xE8:  # call rel32
        return True
    # call r/m: FF /2 with 0 to 5 bytes of operand behind the ModRM byte
    return any(code[7 - n] == 0xFF and code[8 - n] >> 3 & 7 == 2 for n in _CALL_LENGTHS)
