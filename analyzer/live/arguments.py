"""What a callback that transfers data was given, read at its first instruction.

Invariant: what cannot be read is left out of the fact, never guessed; every read is bounded.
MDL: the WDK's wdm.h. Standard library only.
"""

from __future__ import annotations

import struct

from ..absence import Absent
from ..sources.capture_format import Fact, hexadecimal
from .session import Session

#: MDL: Next, Size, MdlFlags, Process, MappedSystemVa, StartVa, ByteCount, ByteOffset
_MDL = {8: "Qhh4xQQQII", 4: "IhhIIIII"}
#: MDL_MAPPED_TO_SYSTEM_VA, MDL_SOURCE_IS_NONPAGED_POOL
_MAPPED, _NONPAGED = 0x0001, 0x0004
_MOST_PAGES = 64
_MOST_BYTES = 256


def transfer(session: Session, first_bytes: int) -> Fact:
    """Offset and MDL of a call of Dump_Write or Dump_Read."""
    fact: Fact = {}
    offset = session.argument(1)
    place = offset if isinstance(offset, Absent) else session.unpack("Q", offset)
    if not isinstance(place, Absent):
        fact["offset"] = hexadecimal(place[0])
    address = session.argument(2)
    if isinstance(address, Absent) or not address:
        return fact
    form = _MDL[session.pointer_size]
    values = session.unpack(form, address)
    if isinstance(values, Absent):
        return fact
    _, size, flags, _, mapped, _, count, inside = values
    fact["mdl"] = {"address": hexadecimal(address), "bytes": count, "flags": flags & 0xFFFF}
    pages = min(-(-(inside + count) // 0x1000), _MOST_PAGES)
    width, head = session.pointer_size, struct.calcsize("<" + form)
    room = (size - head) // width if size > head else 0
    if 0 < pages <= room:
        frames = session.unpack("Q" * pages if width == 8 else "I" * pages, address + head)
        if not isinstance(frames, Absent):
            fact["mdl"]["pages"] = [hexadecimal(frame) for frame in frames]
    if first_bytes and flags & (_MAPPED | _NONPAGED) and mapped:
        data = session.read(mapped, min(first_bytes, count, _MOST_BYTES))
        if isinstance(data, bytes):
            fact["data"] = data.hex()
    return fact
