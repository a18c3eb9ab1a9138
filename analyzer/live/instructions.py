"""How long an instruction is, for the few that follow a call; enough to place a second breakpoint.

Invariant: a length is given only for an instruction that is known, goes on to the next one and
touches no flow of control; anything else is None. Standard library only.
Source: Intel and AMD opcode maps (public manuals).
"""

from __future__ import annotations

#: opcode -> bytes of immediate behind its ModRM byte
_WITH_MODRM = {
    **dict.fromkeys((0x01, 0x03, 0x09, 0x0B, 0x21, 0x23, 0x29, 0x2B, 0x31, 0x33, 0x39, 0x3B), 0),
    **dict.fromkeys((0x63, 0x84, 0x85, 0x88, 0x89, 0x8A, 0x8B, 0x8D), 0),
    **dict.fromkeys((0x80, 0x83, 0xC6, 0xC1), 1),
    **dict.fromkeys((0x81, 0xC7), 4),
}
#: opcode -> bytes of immediate, no ModRM byte
_PLAIN = {
    **dict.fromkeys(range(0x50, 0x60), 0),
    0x90: 0, 0xA8: 1, 0x3C: 1, 0x24: 1, 0x3D: 4, 0xA9: 4, 0x05: 4, 0x25: 4, 0x2D: 4,
    **dict.fromkeys(range(0xB8, 0xC0), 4),
}  # fmt: skip
_TWO_BYTES = (0x1F, 0x10, 0x11, 0x28, 0x29, 0xB6, 0xB7, 0xBE, 0xBF)  # behind 0F, with ModRM


def length(code: bytes, architecture: str) -> int | None:
    """Bytes of the instruction that ``code`` starts with, None when it is not a known plain one."""
    if architecture == "arm64":
        return 4 if len(code) >= 4 and _is_plain_arm64(int.from_bytes(code[:4], "little")) else None
    try:
        size = _x86_length(code, architecture == "x64")
    except IndexError:
        return None
    return size if size is not None and size <= len(code) else None


def _x86_length(code: bytes, is_64: bool) -> int | None:
    at, wide = 0, False
    if is_64 and 0x40 <= code[0] <= 0x4F:  # REX
        wide = bool(code[0] & 8)
        at = 1
    opcode = code[at]
    if opcode == 0x0F:
        return at + 2 + _operand(code, at + 2) if code[at + 1] in _TWO_BYTES else None
    if opcode in _WITH_MODRM:
        if opcode == 0x63 and not is_64:  # ARPL there
            return None
        if opcode in (0xC6, 0xC7) and code[at + 1] & 0x38:  # XABORT and XBEGIN jump
            return None
        return at + 1 + _operand(code, at + 1) + _WITH_MODRM[opcode]
    if opcode in _PLAIN:
        size = 8 if wide and 0xB8 <= opcode <= 0xBF else _PLAIN[opcode]
        return at + 1 + size
    return None


def _operand(code: bytes, at: int) -> int:
    """Bytes of the ModRM byte, SIB byte and displacement."""
    mode, rm = code[at] >> 6, code[at] & 7
    if mode == 3:
        return 1
    size = 1
    if rm == 4:
        size += 1
        if mode == 0 and code[at + 1] & 7 == 5:
            size += 4
    elif mode == 0 and rm == 5:
        size += 4  # disp32, relative to rip on x64
    return size + (0, 1, 4)[mode]


def _is_plain_arm64(word: int) -> bool:
    """False for the branch, exception and system group (bits 28..26 = 101) and undefined words."""
    return word >> 26 & 7 != 5 and word != 0
