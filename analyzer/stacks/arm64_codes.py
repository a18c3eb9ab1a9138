"""ARM64 unwind data as a list of what to undo.

Invariant: any bytes give a list or an ``Absent``; each element stands for one instruction, so that
a place inside a prolog or an epilog leaves out those that were not, or no longer, in effect.
Source: Microsoft's "ARM64 exception handling" (.xdata records and packed data).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ..absence import Absent
from ..symbols.pe import Read

MAX_CODES = 1024  # the header cannot state more bytes
_END, _END_C = 0xE4, 0xE5


class Op(NamedTuple):
    """One instruction's effect, to be undone."""

    kind: str  #: alloc, fp, save, next, nop, machine frame, or the byte of an unknown code
    amount: int = 0  #: bytes that sp rises; of fp: what x29 lies above sp
    offset: int = 0  #: of save: where the first register lies above sp
    registers: tuple[str, ...] = ()


#: stores an argument register: in the prolog only
_HOME = Op("nop", registers=("home",))


class Epilog(NamedTuple):
    """Where an epilog lies in its function, and what it undoes."""

    start: int  #: bytes from the function's begin
    ops: list[Op]  #: in the order of its instructions
    length: int  #: in bytes, with its return


class Codes(NamedTuple):
    """All of one function."""

    ops: list[Op]  #: of the prolog, its last instruction first, then of the prolog it continues
    length: int  #: how many of them are instructions of this piece's own prolog
    epilogs: list[Epilog]

    def at(self, offset: int, may_be_epilog: bool) -> list[Op]:
        """What is in effect at a place of the function."""
        if offset < 4 * self.length:
            return _effective(self.ops[self.length - offset // 4 :])
        for epilog in self.epilogs if may_be_epilog else ():
            if epilog.start <= offset < epilog.start + epilog.length:
                return _effective(epilog.ops[(offset - epilog.start) // 4 :])
        return _effective(self.ops)


def _effective(ops: list[Op]) -> list[Op]:
    """Without what unwinding does not need; save_next joined with the pair that follows it."""
    found = []
    following = 0
    for op in ops:
        if op.kind == "next":
            following += 2
            continue
        if op.kind == "save" and following and op.registers[0] != "x29":
            first = int(op.registers[0][1:])
            op = op._replace(registers=_names(first, len(op.registers) + following))
        following = 0
        if op.kind != "nop":
            found.append(op)
    return found


def unpacked(read: Read, at: int) -> Codes | Absent:
    """An .xdata record."""
    head = read(at, 4)
    if isinstance(head, Absent):
        return head
    (word,) = struct.unpack("<I", head)
    length, version = (word & 0x3FFFF) * 4, word >> 18 & 3
    is_single, scopes, words = word >> 21 & 1, word >> 22 & 31, word >> 27
    if version:
        return Absent("unknown-layout", f"ARM64 unwind data of version {version}")
    at += 4
    if not scopes and not words:
        extended = read(at, 4)
        if isinstance(extended, Absent):
            return extended
        (word,) = struct.unpack("<I", extended)
        scopes, words, at = word & 0xFFFF, word >> 16 & 0xFF, at + 4
    table = b""
    if not is_single and scopes:
        found = read(at, 4 * scopes)
        if isinstance(found, Absent):
            return found
        table, at = found, at + 4 * scopes
    data = read(at, 4 * words) if words else b""
    if isinstance(data, Absent):
        return data
    ops, own = _decode(data, 0)
    epilogs = []
    if is_single:
        table = struct.pack("<I", scopes << 22)
    for (scope,) in struct.iter_unpack("<I", table):
        undone, count = _decode(data, scope >> 22)
        size = 4 * (count + 1)
        start = length - size if is_single else (scope & 0x3FFFF) * 4
        epilogs.append(Epilog(start, undone, size))
    return Codes(ops, own, epilogs)


def _decode(data: bytes, at: int) -> tuple[list[Op], int]:
    """The codes from a byte on to their end, and how many stand before those of another piece."""
    found: list[Op] = []
    own: int | None = None
    while at < len(data) and len(found) < MAX_CODES:
        code = data[at]
        size = _size(code)
        if at + size > len(data) or code == _END:
            break
        if code == _END_C:
            own = len(found) if own is None else own
        else:
            found.append(_op(code, int.from_bytes(data[at : at + size], "big")))
        at += size
    return found, len(found) if own is None else own


def _size(code: int) -> int:
    if code < 0xC0:
        return 1
    if code < 0xE0:
        return 2
    return {0xE0: 4, 0xE2: 2, 0xE7: 3}.get(code, 1)


def _names(first: int, count: int) -> tuple[str, ...]:
    return tuple("lr" if number == 30 else f"x{number}" for number in range(first, first + count))


def _op(code: int, value: int) -> Op:
    low = value & 0x3F
    if code < 0x20:
        return Op("alloc", (code & 0x1F) * 16)
    if code < 0x40:  # save_r19r20_x
        return Op("save", (code & 0x1F) * 8, 0, _names(19, 2))
    if code < 0x80:  # save_fplr
        return Op("save", 0, low * 8, _names(29, 2))
    if code < 0xC0:  # save_fplr_x
        return Op("save", (low + 1) * 8, 0, _names(29, 2))
    if code < 0xC8:
        return Op("alloc", (value & 0x7FF) * 16)
    number = 19 + (value >> 6 & 15)
    if code < 0xCC:  # save_regp
        return Op("save", 0, low * 8, _names(number, 2))
    if code < 0xD0:  # save_regp_x
        return Op("save", (low + 1) * 8, 0, _names(number, 2))
    if code < 0xD4:  # save_reg
        return Op("save", 0, low * 8, _names(number, 1))
    if code < 0xD6:  # save_reg_x
        return Op("save", ((value & 0x1F) + 1) * 8, 0, _names(19 + (value >> 5 & 15), 1))
    if code < 0xD8:  # save_lrpair
        return Op("save", 0, low * 8, (f"x{19 + 2 * (value >> 6 & 7)}", "lr"))
    return _rare(code, value)


def _rare(code: int, value: int) -> Op:
    """Floating-point registers, which unwinding does not need, and codes of one or four bytes."""
    if code in (0xDA, 0xDB):  # save_fregp_x
        return Op("alloc", ((value & 0x3F) + 1) * 8)
    if code == 0xDE:  # save_freg_x
        return Op("alloc", ((value & 0x1F) + 1) * 8)
    if code == 0xE0:
        return Op("alloc", (value & 0xFF_FFFF) * 16)
    if code == 0xE1:
        return Op("fp")
    if code == 0xE2:
        return Op("fp", (value & 0xFF) * 8)
    if code in (0xE8, 0xE9):  # trap frame, machine frame
        return Op("machine frame" if code == 0xE9 else "of a trap frame")
    if code == 0xE6:
        return Op("next")  # save_next
    # save_fregp, save_freg, nop, pac_sign_lr
    if code in (0xD8, 0xD9, 0xDC, 0xDD, 0xE3, 0xFC):
        return Op("nop")
    return Op(f"{code:#x}")


def packed(word: int) -> Codes | Absent:
    """Packed data: a prolog of the canonical form, told by a few counts."""
    flag, length = word & 3, (word >> 2 & 0x7FF) * 4
    if flag == 3:
        return Absent("unknown-layout", "packed ARM64 unwind data of kind 3")
    floats, integers = word >> 13 & 7, word >> 16 & 15
    homes, chain, frame = word >> 20 & 1, word >> 21 & 3, (word >> 23 & 0x1FF) * 16
    floats = floats + 1 if floats else 0
    saved_integers = 8 * (integers + (chain == 1))
    saves = (saved_integers + 8 * floats + 64 * homes + 15) & ~15
    local = frame - saves
    if local < 0 or integers > 10:
        return Absent("out-of-range", "packed ARM64 unwind data that contradicts itself")
    ops = _canonical(integers, chain, floats, homes, saves)
    if local:
        if chain >= 2:
            if local <= 512:
                ops.append(Op("save", local, 0, _names(29, 2)))
            else:
                ops += _allocated(local)
                ops.append(Op("save", 0, 0, _names(29, 2)))
            ops.append(Op("fp"))
        else:
            ops += _allocated(local)
    ops.reverse()
    if flag == 2:  # a piece whose prolog was carried out elsewhere
        return Codes(ops, 0, [])
    # The epilog mirrors the prolog, without the homes of arguments and the set-up of x29.
    undone = [op for op in ops if op is not _HOME and op.kind != "fp"]
    size = 4 * (len(undone) + 1)
    return Codes(ops, len(ops), [Epilog(length - size, undone, size)])


def _allocated(size: int) -> list[Op]:
    return [Op("alloc", size)] if size <= 4080 else [Op("alloc", 4080), Op("alloc", size - 4080)]


def _canonical(integers: int, chain: int, floats: int, homes: int, saves: int) -> list[Op]:
    """The instructions that save registers, in order; the first lowers sp by all they need."""
    ops: list[Op] = [Op("nop")] if chain == 2 else []  # pacibsp
    registers = [*_names(19, integers), *(["lr"] if chain == 1 else [])]
    rises = saves
    for first in range(0, len(registers), 2):
        ops.append(Op("save", rises, 8 * first, tuple(registers[first : first + 2])))
        rises = 0
    for _ in range(0, floats, 2):
        ops.append(Op("alloc", rises) if rises else Op("nop"))
        rises = 0
    for _ in range(4 * homes):
        ops.append(Op("alloc", rises) if rises else _HOME)
        rises = 0
    return ops
