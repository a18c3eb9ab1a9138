"""CONTEXT (winnt.h) of each architecture: where the registers lie.

Invariant: name in lower case -> offset; the width is that of a pointer of the architecture.
Source: winnt.h; compared with a C compiler's in ``tests/test_layouts.py``.
"""

from __future__ import annotations

from typing import NamedTuple


class Context(NamedTuple):
    """One architecture's CONTEXT."""

    size: int
    flags: int  #: offset of ContextFlags
    is_of: int  #: the bit of ContextFlags that names the architecture
    registers: dict[str, int]
    format: str  #: of one register


#: CONTEXT_CONTROL, beside the bit of the architecture: instruction and stack pointer are filled in
CONTROL = 1

_X64 = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15 rip".split()
_X86 = "edi esi ebx edx ecx eax ebp eip".split()
CONTEXTS = {
    "x64": Context(
        0x4D0, 0x30, 0x10_0000, {name: 0x78 + 8 * n for n, name in enumerate(_X64)}, "Q"
    ),
    "x86": Context(
        0x2CC, 0, 0x1_0000, {**{n: 0x9C + 4 * i for i, n in enumerate(_X86)}, "esp": 0xC4}, "I"
    ),
    "arm64": Context(
        0x390,
        0,
        0x40_0000,
        {**{f"x{n}": 8 + 8 * n for n in range(30)}, "lr": 0xF8, "sp": 0x100, "pc": 0x108},
        "Q",
    ),
}
