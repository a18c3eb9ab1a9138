"""What one step outwards gives, and the tests that every architecture shares."""

from __future__ import annotations

import struct
from typing import NamedTuple

from ..absence import Absent
from ..symbols.images import Images

_CALL_LENGTHS = (2, 3, 4, 6, 7)
MASK = (1 << 64) - 1


class Caller(NamedTuple):
    """The registers of a caller."""

    registers: dict[str, int]
    how: str
    is_interrupted: bool = False  #: it was interrupted, so it does not stand behind a call
    switches: bool = False  #: its stack pointer was stored, so it may lie on another stack


class Call(NamedTuple):
    """The instruction in front of a return address."""

    kind: str  #: direct, indirect, none, unknown (the code cannot be read)
    target: int | None = None  #: of a direct call


def call_before(images: Images, address: int, architecture: str) -> Call:
    """Which call instruction ends at an address."""
    if architecture == "arm64":
        return _call_before_arm64(images, address)
    code = images.read(address - 7, 7)
    if isinstance(code, Absent):
        return Call("unknown")
    if code[2] == 0xE8:  # call rel32
        mask = MASK if architecture == "x64" else 0xFFFF_FFFF
        return Call("direct", (address + struct.unpack_from("<i", code, 3)[0]) & mask)
    # call r/m: FF /2 with 0 to 5 bytes of operand behind the ModRM byte
    if any(code[7 - n] == 0xFF and code[8 - n] >> 3 & 7 == 2 for n in _CALL_LENGTHS):
        return Call("indirect")
    return Call("none")


def _call_before_arm64(images: Images, address: int) -> Call:
    code = images.read(address - 4, 4)
    if isinstance(code, Absent):
        return Call("unknown")
    (word,) = struct.unpack("<I", code)
    if word & 0xFC00_0000 == 0x9400_0000:  # BL
        distance = (word & 0x03FF_FFFF) << 2
        distance -= (distance & 1 << 27) << 1
        return Call("direct", (address - 4 + distance) & MASK)
    # BLR, and with authentication BLRAAZ, BLRABZ, BLRAA, BLRAB
    if word & 0xFFFF_FC1F == 0xD63F_0000 or word & 0xFEFF_F800 == 0xD63F_0800:
        return Call("indirect")
    return Call("none")


def is_behind_call(images: Images, address: int, architecture: str) -> bool:
    """True when an address lies in a module and a call ends there, as far as code can be read."""
    if images.at(address) is None:
        return False
    return call_before(images, address, architecture).kind != "none"
