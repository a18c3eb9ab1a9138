"""ARM64: the caller of a frame by the image's unwind data, else by its frame record.

Invariant: a frame record is followed only when the next one lies further up and its return address
behind a call in a module. Source: Microsoft's "ARM64 exception handling".
"""

from __future__ import annotations

from ..absence import Absent
from ..symbols.images import Function, Image, Images
from .arm64_codes import Codes, Op, packed, unpacked
from .caller import MASK, Caller, is_behind_call

_KEPT = frozenset(["pc", "sp", *(f"x{number}" for number in range(19, 30))])
#: kernel stacks are 32 KiB, large ones longer
_FURTHEST = 0x10000


def caller(images: Images, registers: dict[str, int], is_interrupted: bool) -> Caller | Absent:
    """The caller of a frame; ``is_interrupted``: it may stand anywhere, not only behind a call."""
    pc = registers["pc"]
    image = images.at(pc)
    if image is None:
        return Absent("not-found", f"{pc:#x} lies in no module")
    offset = pc - image.base - (0 if is_interrupted else 4)
    entry = image.function(offset)
    if entry is None and is_interrupted and _has_functions(image):
        return _leaf(images, registers)
    if isinstance(entry, Function):
        codes = _codes(image, entry)
        if not isinstance(codes, Absent):
            # A call is never made inside an epilog.
            ops = codes.at(pc - image.base - entry.begin, is_interrupted)
            return _undo(images, dict(registers), ops)
    return _by_record(images, registers)


def plain(address: int) -> int:
    """A code address without its authentication code."""
    return address | 0xFFFF << 48 if address >> 55 & 1 else address & (1 << 48) - 1


def _has_functions(image: Image) -> bool:
    header = image.header
    return not isinstance(header, Absent) and bool(header.exception[0])


def _codes(image: Image, entry: Function) -> Codes | Absent:
    if entry.unwind & 3:
        return packed(entry.unwind)
    return unpacked(image.read, entry.unwind)


def _leaf(images: Images, registers: dict[str, int]) -> Caller | Absent:
    back = registers.get("lr")
    if back is None:
        return Absent("not-recorded", "lr is not known")
    if not is_behind_call(images, plain(back), "arm64"):
        return Absent("not-found", f"no call ends at {plain(back):#x}, which lr holds")
    return _returned(dict(registers), plain(back), "leaf function")


def _returned(frame: dict[str, int], back: int, how: str) -> Caller:
    kept = {name: value for name, value in frame.items() if name in _KEPT}
    kept["pc"] = back
    return Caller(kept, how)


def _by_record(images: Images, registers: dict[str, int]) -> Caller | Absent:
    """The caller by x29, which points at a pair: the caller's x29 and the return address."""
    record, sp = registers.get("x29"), registers["sp"]
    if record is None:
        return Absent("not-recorded", "x29 is not known")
    if record % 16 or not sp <= record < sp + _FURTHEST:
        return Absent("not-found", f"x29 ({record:#x}) does not point up the stack")
    words = images.target.unpack("QQ", record)
    if isinstance(words, Absent):
        return Absent(words.reason, f"frame record: {words}", words.would_tell)
    outer, back = words[0], plain(words[1])
    if not is_behind_call(images, back, "arm64"):
        return Absent("not-found", f"no call ends at {back:#x}, where the frame record leads")
    # Where its caller's frame begins is not told by the record: it is above the record.
    return Caller({"pc": back, "sp": record + 16, "x29": outer}, "frame record")


def _undo(images: Images, frame: dict[str, int], ops: list[Op]) -> Caller | Absent:
    """Carries out the codes of a function, its last instruction first."""
    target = images.target
    is_switched = False
    for op in ops:
        if op.kind == "alloc":
            frame["sp"] = (frame["sp"] + op.amount) & MASK
        elif op.kind == "fp":
            if "x29" not in frame:
                return Absent("not-recorded", "x29 is not known")
            frame["sp"], is_switched = (frame["x29"] - op.amount) & MASK, True
        elif op.kind == "save":
            for place, name in enumerate(op.registers):
                value = target.pointer((frame["sp"] + op.offset + 8 * place) & MASK)
                if isinstance(value, Absent):
                    if name in ("lr", "x29"):
                        return Absent(value.reason, f"saved {name}: {value}", value.would_tell)
                    frame.pop(name, None)
                else:
                    frame[name] = value
            frame["sp"] = (frame["sp"] + op.amount) & MASK
        elif op.kind == "machine frame":
            words = target.unpack("QQ", frame["sp"])
            if isinstance(words, Absent):
                return Absent(words.reason, f"machine frame: {words}", words.would_tell)
            kept = {name: value for name, value in frame.items() if name in _KEPT}
            kept.update(sp=words[0], pc=words[1])
            return Caller(kept, "machine frame", is_interrupted=True, switches=True)
        else:
            return Absent("unknown-layout", f"ARM64 unwind code {op.kind}")
    if "lr" not in frame:
        return Absent("not-recorded", "lr is not known")
    back = plain(frame["lr"])
    kept = {name: value for name, value in frame.items() if name in _KEPT}
    return Caller({**kept, "pc": back}, "unwind data", switches=is_switched)
