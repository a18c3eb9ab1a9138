"""32-bit x86: the caller of a frame by frame pointers, as far as they verify.

Invariant: a frame is given only when ebp leads further up the same stack and the return address
lies behind a call in a module. A function that sets up no frame is passed over, so a caller may be
missing; images for 32-bit Windows hold no data that would tell.
"""

from __future__ import annotations

from ..absence import Absent
from ..symbols.images import Images
from .caller import Caller, is_behind_call

#: kernel stacks are 12 KiB, large ones 60 KiB
_FURTHEST = 0x10000


def caller(images: Images, registers: dict[str, int], _is_interrupted: bool) -> Caller | Absent:
    """The caller of a frame."""
    ebp, esp = registers.get("ebp"), registers["esp"]
    if ebp is None:
        return Absent("not-recorded", "ebp is not known")
    if ebp % 4 or not esp <= ebp < esp + _FURTHEST:
        return Absent("not-found", f"ebp ({ebp:#x}) does not point up the stack")
    words = images.target.unpack("II", ebp)
    if isinstance(words, Absent):
        return Absent(words.reason, f"frame pointer: {words}", words.would_tell)
    outer, back = words
    if not is_behind_call(images, back, "x86"):
        return Absent("not-found", f"no call ends at {back:#x}, where the frame of ebp leads")
    kept = {"eip": back, "esp": ebp + 8, "ebp": outer}
    return Caller(kept, "frame pointer")
