"""How long x86 and x64 instructions are, and which instructions a dry run looks at itself.

Invariant: any bytes give a length of at least 1; an instruction that the tables do not know counts
as its first byte alone. It does not check whether the processor knows an instruction.
Source: the opcode maps of Intel's and the encodings of Arm's architecture manuals.
"""

from __future__ import annotations

import struct
from typing import NamedTuple


class Special(NamedTuple):
    """An instruction that is not simply executed."""

    kind: str
    length: int
    operand: int = 0  #: port, interrupt or register number, as the kind has it


_PREFIXES = frozenset(b"\x66\x67\xf2\xf3\xf0\x2e\x36\x3e\x26\x64\x65")
_MODRM = frozenset(
    [
        *(op for op in range(0x40) if op & 7 < 4),
        0x62, 0x63, 0x69, 0x6B, *range(0x80, 0x90), 0xC0, 0xC1, 0xC4, 0xC5, 0xC6, 0xC7,
        *range(0xD0, 0xD4), *range(0xD8, 0xE0), 0xF6, 0xF7, 0xFE, 0xFF,
    ]
)  # fmt: skip
_BYTE = frozenset(
    [
        *(op for op in range(0x40) if op & 7 == 4),
        0x6A, 0x6B, *range(0x70, 0x80), 0x80, 0x82, 0x83, 0xA8, *range(0xB0, 0xB8), 0xC0, 0xC1,
        0xC6, 0xCD, 0xD4, 0xD5, *range(0xE0, 0xE8), 0xEB,
    ]
)  # fmt: skip
_WORD = frozenset(
    [
        *(op for op in range(0x40) if op & 7 == 5),
        0x68, 0x69, 0x81, 0xA9, *range(0xB8, 0xC0), 0xC7, 0xE8, 0xE9,
    ]
)  # fmt: skip
_0F_ALONE = frozenset(
    [
        5, 6, 7, 8, 9, 0x0B, 0x0E, *range(0x30, 0x38), 0x77, *range(0x80, 0x90), 0xA0, 0xA1, 0xA2,
        0xA8, 0xA9, 0xAA, *range(0xC8, 0xD0),
    ]
)  # fmt: skip
_0F_BYTE = frozenset([0x0F, 0x70, 0x71, 0x72, 0x73, 0xA4, 0xAC, 0xBA, 0xC2, 0xC4, 0xC5, 0xC6])
#: general registers under VEX (BMI), which are executed: map, opcode
_BMI = {(2, op) for op in (0xF2, 0xF3, 0xF5, 0xF6, 0xF7)} | {(3, 0xF0)}
_0F_KINDS = {
    0x05: "syscall", 0x08: "invd", 0x0B: "ud2", 0x20: "read cr", 0x21: "read dr", 0x22: "write cr",
    0x23: "write dr", 0x30: "wrmsr", 0x31: "rdtsc", 0x32: "rdmsr", 0x33: "rdpmc", 0x34: "sysenter",
    0xA2: "cpuid",
}  # fmt: skip
_0F01_KINDS = {
    0xC1: "vmcall", 0xD0: "xgetbv", 0xD1: "xsetbv", 0xD9: "vmcall", 0xF8: "swapgs", 0xF9: "rdtscp",
}  # fmt: skip


def x86(code: bytes, at: int, wide: bool) -> tuple[int, Special | None]:
    """(length, what is special) of the instruction at ``at``; ``wide``: 64-bit code."""
    try:
        length, kind, operand = _x86(code, at, wide)
    except IndexError:
        return 1, None
    return length, Special(kind, length, operand) if kind else None


def _x86(code: bytes, start: int, wide: bool) -> tuple[int, str, int]:
    at, small, short, repeat, rex = start, False, False, 0, 0
    while code[at] in _PREFIXES or (wide and code[at] & 0xF0 == 0x40):
        rex = code[at] if code[at] & 0xF0 == 0x40 else 0  # counts only right before the opcode
        small |= code[at] == 0x66
        short |= code[at] == 0x67
        repeat = code[at] if code[at] in (0xF2, 0xF3) else repeat
        at += 1
    op = code[at]
    at += 1
    if op in (0xC4, 0xC5, 0x62) and (wide or code[at] >= 0xC0):
        return _vex(code, start, at, op, wide)
    kind, operand, bytes_behind = "", 0, 0
    if op == 0x0F:
        op = code[at]
        at += 1
        kind = _0F_KINDS.get(op, "")
        if op == 0x01:
            kind = _0F01_KINDS.get(code[at], "")
        elif op in (0x20, 0x21, 0x22, 0x23):
            special = code[at] >> 3 & 7 | (rex & 4) << 1
            return at + 1 - start, kind, special << 8 | code[at] & 7 | (rex & 1) << 3
        elif op == 0xC7 and code[at] >= 0xF0:
            kind = "" if repeat else "rdrand"
        if op in (0x38, 0x3A):
            bytes_behind = int(op == 0x3A)
            at = _operand(code, at + 1, wide, short)
        elif op not in _0F_ALONE:
            bytes_behind = int(op in _0F_BYTE)
            at = _operand(code, at, wide, short)
        elif 0x80 <= op < 0x90:
            bytes_behind = 2 if small and not wide else 4
        code[at + bytes_behind - 1]  # all of it must be there
        return at + bytes_behind - start, kind, operand
    if op in _MODRM:
        modrm = code[at]
        at = _operand(code, at, wide, short)
        if op == 0xF6 and modrm & 0x30 == 0:
            bytes_behind = 1
        elif op == 0xF7 and modrm & 0x30 == 0:
            bytes_behind = 2 if small else 4
    if op in _BYTE:
        bytes_behind = 1
    elif op in _WORD:
        bytes_behind = 2 if small and not (wide and op in (0xE8, 0xE9)) else 4
        if 0xB8 <= op < 0xC0 and rex & 8:
            bytes_behind = 8
    elif 0xA0 <= op < 0xA4:
        bytes_behind = (4 if short else 8) if wide else (2 if short else 4)
    elif op in (0xC2, 0xCA):
        bytes_behind = 2
    elif op == 0xC8:
        bytes_behind = 3
    elif op in (0x9A, 0xEA) and not wide:
        bytes_behind = 4 if small else 6
    code[at + bytes_behind - 1]
    kind, operand = _plain_kind(op, code, at, operand)
    return at + bytes_behind - start, kind, operand


def _plain_kind(op: int, code: bytes, at: int, operand: int) -> tuple[str, int]:
    if op in (0xE4, 0xE5, 0xE6, 0xE7):
        return ("port output" if op & 2 else "port input"), code[at]
    if 0xEC <= op < 0xF0:
        return ("port output" if op & 2 else "port input"), -1
    if 0x6C <= op < 0x70:
        return ("port output" if op & 2 else "port input"), -1
    if op == 0xCD:
        return "interrupt", code[at]
    return {0xF4: "hlt", 0xCC: "breakpoint", 0xCF: "iret"}.get(op, ""), operand


def _vex(code: bytes, start: int, at: int, op: int, wide: bool) -> tuple[int, str, int]:
    """Instructions with a VEX or EVEX prefix: what needs AVX is not emulated."""
    if op == 0xC5:
        table, at = 1, at + 1
    elif op == 0xC4:
        table, at = code[at] & 0x1F, at + 2
    else:
        table, at = code[at] & 7, at + 3
    opcode = code[at]
    at += 1
    if opcode == 0x77 and table == 1:  # vzeroupper: there is no upper half
        return at - start, "", 0
    at = _operand(code, at, wide, False)
    at += int(table == 3 or (table == 1 and opcode in _0F_BYTE))
    code[at - 1]
    known = op == 0xC4 and (table, opcode) in _BMI
    return at - start, "" if known else "avx", 0


def _operand(code: bytes, at: int, wide: bool, short: bool) -> int:
    """Behind ModRM, SIB and displacement."""
    modrm = code[at]
    mod, rm = modrm >> 6, modrm & 7
    at += 1
    if mod == 3:
        return at
    if short and not wide:  # 16-bit addresses
        return at + (2 if mod == 2 or (mod == 0 and rm == 6) else mod)
    if rm == 4:
        rm = code[at] & 7
        at += 1
        if mod == 0 and rm == 5:
            return at + 4
    elif mod == 0 and rm == 5:
        return at + 4
    return at + (0, 1, 4)[mod]


#: Arm system registers that count time: CNTVCT, CNTPCT, PMCCNTR (all _EL0), CNTVCTSS
_ARM_CLOCKS = (0xD53BE040, 0xD53BE020, 0xD53B9D00, 0xD53BE0C0)
_ARM_RANDOM = (0xD53B2400, 0xD53B2420)


def arm64(code: bytes, at: int, _: bool = True) -> tuple[int, Special | None]:
    """(4, what is special) of the instruction at ``at``."""
    if at + 4 > len(code):
        return max(1, len(code) - at), None
    (word,) = struct.unpack_from("<I", code, at)
    kind, operand = _arm64(word)
    return 4, Special(kind, 4, operand) if kind else None


def _arm64(word: int) -> tuple[str, int]:
    number = word >> 5 & 0xFFFF
    if word & 0xFFE0001F == 0xD4200000:
        return ("fast fail" if number == 0xF003 else "breakpoint"), number
    if word & 0xFFE0001C == 0xD4000000 and word & 3:
        return ("", "svc", "hvc", "smc")[word & 3], number
    if word & 0xFFFFF01F == 0xD503201F:
        return {2: ("wfe", 0), 3: ("wfi", 0)}.get(word >> 5 & 0x7F, ("", 0))
    if word & 0xFFFFFFE0 in _ARM_CLOCKS:
        return "clock", word & 31
    if word & 0xFFFFFFE0 in _ARM_RANDOM:
        return "rdrand", word & 31
    if word & 0xFFFF0000 == 0xD5180000:  # MSR of a register that EL1 owns
        return "write of a system register", word >> 5 & 0x7FFF
    return "", 0
