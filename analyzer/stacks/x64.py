"""x64: the caller of a frame by the image's own unwind data.

Invariant: what unwind data does not describe is not guessed. Source: Microsoft's "x64 exception
handling" (UNWIND_INFO versions 1 and 2).
"""

from __future__ import annotations

import struct

from ..absence import Absent
from ..symbols.images import MAX_CHAINED, Function, Image, Images
from .caller import MASK, Caller, is_behind_call

REGISTERS = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()
_KEPT = frozenset("rip rsp rbx rbp rsi rdi r12 r13 r14 r15".split())  #: over a call
_CHAINED = 4
(
    _PUSH, _ALLOC_LARGE, _ALLOC_SMALL, _SET_FP, _SAVE, _SAVE_FAR, _EPILOG, _SPARE, _XMM, _XMM_FAR,
    _MACHINE,
) = range(11)  # fmt: skip
#: bytes that each code takes; of _ALLOC_LARGE with a 16-bit size
_SIZES = (2, 4, 2, 2, 4, 6, 2, 4, 4, 6, 2)
_LONGEST_EPILOG = 64
_RSP = 4
_WOULD_TELL = "the image file (--images)"


def caller(images: Images, registers: dict[str, int], is_interrupted: bool) -> Caller | Absent:
    """The caller of a frame; ``is_interrupted``: it may stand anywhere, not only behind a call."""
    rip = registers["rip"]
    image = images.at(rip)
    if image is None:
        return Absent("not-found", f"{rip:#x} lies in no module")
    # A call can be a function's last instruction: what it returns to is the next function then.
    offset = rip - image.base - (not is_interrupted)
    entry = image.function(offset)
    if isinstance(entry, Absent):
        return Absent(entry.reason, f"unwind data of {image.module.name}: {entry}", _WOULD_TELL)
    frame = dict(registers)
    if entry is None:
        return _leaf(images, frame, is_interrupted, str(image.module.name))
    return _Unwinding(images, image, frame).run(entry, rip - image.base, is_interrupted)


def _leaf(
    images: Images, frame: dict[str, int], is_interrupted: bool, name: str
) -> Caller | Absent:
    """A function without unwind data has not touched the stack, so its return address is on top."""
    why = Absent("not-found", f"no unwind data of {name} covers {frame['rip']:#x}")
    if not is_interrupted:
        return why  # it called another, so it is not a leaf
    back = images.target.pointer(frame["rsp"])
    if isinstance(back, Absent):
        return back
    if not is_behind_call(images, back, "x64"):
        return why  # code that was written by hand and has the stack in use
    return _returned(frame, back, frame["rsp"], "leaf function")


def _returned(
    frame: dict[str, int], back: int, place: int, how: str, switches: bool = False
) -> Caller:
    """The caller, once a function has returned to ``back``, which stood at ``place``."""
    kept = {name: value for name, value in frame.items() if name in _KEPT}
    kept.update(rip=back, rsp=(place + 8) & MASK)
    return Caller(kept, how, switches=switches)


class _Unwinding:
    """One function's effects, undone."""

    def __init__(self, images: Images, image: Image, frame: dict[str, int]) -> None:
        self.images, self.image, self.frame = images, image, frame
        self.switches = False

    def run(self, entry: Function, offset: int, is_interrupted: bool) -> Caller | Absent:
        """Undoes what the function did before it reached ``offset``."""
        is_first = True
        for _ in range(MAX_CHAINED):
            at = entry.unwind & ~1
            if entry.unwind & 1:  # leads to another entry of the table
                parent = self.image.parent(entry)
                if not isinstance(parent, Function):
                    return parent or Absent("not-found", "unwind data that leads nowhere")
                entry = parent
                continue
            head = self.image.read(at, 4)
            if isinstance(head, Absent):
                return Absent(head.reason, f"unwind data: {head}", _WOULD_TELL)
            version, flags = head[0] & 7, head[0] >> 3
            if version not in (1, 2):
                return Absent("unknown-layout", f"unwind data of version {version}")
            codes = self.image.read(at + 4, 2 * head[2]) if head[2] else b""
            if isinstance(codes, Absent):
                return Absent(codes.reason, f"unwind data: {codes}", _WOULD_TELL)
            into = offset - entry.begin if is_first else MASK
            register, fp_offset = head[3] & 15, (head[3] >> 4) * 16
            # A call is never made inside an epilog.
            if is_first and is_interrupted and into >= head[1]:
                done = self._epilog(entry, register)
                if done is not None:
                    return done
            is_set = into >= head[1] or bool(flags & _CHAINED)
            result = self._undo(codes, into, register, fp_offset, is_set)
            if result is not None:
                return result
            parent = self.image.parent(entry)
            if isinstance(parent, Absent):
                return Absent(parent.reason, f"chained unwind data: {parent}", _WOULD_TELL)
            if parent is None:
                return self._return()
            entry, is_first = parent, False
        return Absent("out-of-range", "unwind data that is chained without end")

    def _return(self) -> Caller | Absent:
        back = self.images.target.pointer(self.frame["rsp"])
        if isinstance(back, Absent):
            return Absent(back.reason, f"return address: {back}", back.would_tell)
        return _returned(self.frame, back, self.frame["rsp"], "unwind data", self.switches)

    def _undo(
        self, codes: bytes, into: int, register: int, fp_offset: int, is_set: bool
    ) -> Caller | Absent | None:
        """Carries out unwind codes; None: go on, else the caller or why not."""
        frame, pointer = self.frame, self.images.target.pointer
        fixed: int | None = None  # what saved registers count from, where not rsp
        if register and is_set and REGISTERS[register] in frame:
            fixed = frame[REGISTERS[register]] - fp_offset
        at = 0
        while at + 1 < len(codes):
            when, op, info = codes[at], codes[at + 1] & 15, codes[at + 1] >> 4
            if op >= len(_SIZES):
                return Absent("unknown-layout", f"unwind code {op}")
            size = 6 if op == _ALLOC_LARGE and info else _SIZES[op]
            if at + size > len(codes):
                return Absent("out-of-range", "unwind codes end early")
            number = int.from_bytes(codes[at + 2 : at + size], "little")
            at += size
            if op in (_EPILOG, _SPARE, _XMM, _XMM_FAR) or when > into:
                continue
            if op in (_PUSH, _SAVE, _SAVE_FAR):
                if info == _RSP and op != _PUSH:
                    return Absent("out-of-range", "unwind data that saves rsp")
                base = frame["rsp"] if fixed is None or op == _PUSH else fixed
                place = base + (0 if op == _PUSH else number if op == _SAVE_FAR else 8 * number)
                value = pointer(place & MASK)
                if op == _PUSH:
                    frame["rsp"] += 8
                if not isinstance(value, Absent):
                    frame[REGISTERS[info]] = value
                elif info == _RSP:
                    return value
                else:
                    frame.pop(REGISTERS[info], None)
            elif op == _ALLOC_LARGE:
                frame["rsp"] += number if info else 8 * number
            elif op == _ALLOC_SMALL:
                frame["rsp"] += 8 * info + 8
            elif op == _SET_FP:
                if REGISTERS[register] not in frame:
                    return Absent("not-recorded", f"{REGISTERS[register]} is not known there")
                frame["rsp"] = frame[REGISTERS[register]] - fp_offset
                self.switches = True
            else:
                return self._machine_frame(info & 1)
            frame["rsp"] &= MASK
        return None

    def _machine_frame(self, with_error_code: int) -> Caller | Absent:
        """What the processor pushed at an interrupt or exception: RIP CS RFLAGS RSP SS."""
        words = self.images.target.unpack("5Q", (self.frame["rsp"] + 8 * with_error_code) & MASK)
        if isinstance(words, Absent):
            return Absent(words.reason, f"machine frame: {words}", words.would_tell)
        kept = {name: value for name, value in self.frame.items() if name in _KEPT}
        kept.update(rip=words[0], rsp=words[3])
        return Caller(kept, "machine frame", is_interrupted=True, switches=True)

    # -- epilogs -------------------------------------------------------------------------------

    def _epilog(self, entry: Function, register: int) -> Caller | Absent | None:
        """When rip stands in an epilog, what is left of it is carried out; None: it does not."""
        rip = self.frame["rip"]
        code = self._code(rip)
        rsp, at = self.frame["rsp"], 0
        if code[:3] == b"\x48\x83\xc4" and len(code) > 3:  # add rsp, imm8
            rsp, at = rsp + struct.unpack_from("<b", code, 3)[0], 4
        elif code[:3] == b"\x48\x81\xc4" and len(code) > 6:  # add rsp, imm32
            rsp, at = rsp + struct.unpack_from("<i", code, 3)[0], 7
        elif register and code[:1] in (b"\x48", b"\x49") and code[1:2] == b"\x8d":
            loaded = self._lea(code, register)
            if loaded is None:
                return None
            rsp, at = loaded
        popped = []
        while at < len(code):
            wide = code[at] == 0x41  # REX.B
            op = code[at + wide : at + wide + 1]
            if not b"\x58" <= op <= b"\x5f" or (op == b"\x5c" and not wide):
                break
            popped.append((REGISTERS[op[0] - 0x58 + 8 * wide], rsp))
            rsp, at = rsp + 8, at + wide + 1
        if not self._leaves(code[at:], rip + at, entry):
            return None
        pointer = self.images.target.pointer
        for name, place in popped:
            value = pointer(place & MASK)
            if isinstance(value, Absent):
                return value
            self.frame[name] = value
        self.frame["rsp"] = rsp & MASK
        return self._return()

    def _code(self, rip: int) -> bytes:
        """As much code as there is; without any, no epilog is seen."""
        for size in (_LONGEST_EPILOG, 16, 8, 1):
            code = self.images.read(rip, size)
            if not isinstance(code, Absent):
                return code
        return b""

    def _lea(self, code: bytes, register: int) -> tuple[int, int] | None:
        """``lea rsp, [frame register + displacement]``: the new rsp and its length."""
        mod, target, base = code[2] >> 6, code[2] >> 3 & 7, code[2] & 7 | (code[0] & 1) << 3
        frame = self.frame.get(REGISTERS[register])
        if mod not in (1, 2) or target != _RSP or base != register or frame is None:
            return None
        at = 4 if base & 7 == 4 else 3  # r12 needs a SIB byte
        form = "<b" if mod == 1 else "<i"
        return frame + struct.unpack_from(form, code, at)[0], at + struct.calcsize(form)

    def _leaves(self, code: bytes, address: int, entry: Function) -> bool:
        """True when the instruction returns or jumps to another function."""
        if code[:1] in (b"\xc3", b"\xc2") or code[:2] == b"\xf3\xc3":  # ret
            return True
        if code[:2] and 0x48 <= code[0] <= 0x4F and code[1:2] == b"\xff":
            return len(code) > 2 and code[2] >> 3 & 7 == 4  # jmp r/m with REX.W: a tail call
        if code[:1] == b"\xe9" and len(code) > 4:
            to = address + 5 + struct.unpack_from("<i", code, 1)[0]
        elif code[:1] == b"\xeb" and len(code) > 1:
            to = address + 2 + struct.unpack_from("<b", code, 1)[0]
        else:
            return False
        offset = to - self.image.base
        if entry.begin < offset < entry.end:
            return False
        # A piece that was moved away belongs to the same function: a jump there leaves nothing.
        start = self.image.start(entry.begin)
        return offset == start or self.image.start(offset) != start
