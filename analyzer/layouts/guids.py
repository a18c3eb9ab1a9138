"""GUIDs as Windows stores them: three little-endian numbers, then eight bytes.

Invariant: the same as :class:`uuid.UUID` with ``bytes_le``, which takes as long to import as a
small dump to read. Standard library only.
"""

from __future__ import annotations

import struct

_STORED = struct.Struct("<IHH2s6s")


def text_of(stored: bytes) -> str:
    """The 16 bytes as they are usually written, in lower case. Raises ValueError for others."""
    if len(stored) != _STORED.size:
        raise ValueError(f"a GUID of {len(stored)} bytes")
    first, second, third, fourth, rest = _STORED.unpack(stored)
    return f"{first:08x}-{second:04x}-{third:04x}-{fourth.hex()}-{rest.hex()}"


def stored(text: str) -> bytes:
    """The 16 bytes of a GUID that is written with hyphens. Raises ValueError for others."""
    first, second, third, fourth, rest = map(bytes.fromhex, text.split("-"))
    return b"".join((first[::-1], second[::-1], third[::-1], fourth, rest))
