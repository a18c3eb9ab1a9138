"""Writes .evtx files of one chunk, after libevtx's notes on the format; read by the evtx library.

Every record is a fragment of plain binary XML without templates; names are written in place.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

EPOCH = 116_444_736_000_000_000
_START, _START_WITH, _CLOSE, _EMPTY, _END, _VALUE, _ATTRIBUTE = 1, 0x41, 2, 3, 4, 5, 6

#: (name, attributes, text or children)
Element = tuple[str, dict[str, str], Any]


def _name(text: str, place: int) -> bytes:
    """A name that stands where it is used: its own offset, next string, hash, text."""
    number = 0
    for letter in text:
        number = (number * 65599 + ord(letter)) & 0xFFFFFFFF
    body = struct.pack("<IHH", 0, number & 0xFFFF, len(text)) + text.encode("utf-16-le") + b"\0\0"
    return struct.pack("<I", place + 4) + body


def _text(text: str) -> bytes:
    return struct.pack("<BBH", _VALUE, 1, len(text)) + text.encode("utf-16-le")


def _element(element: Element, place: int) -> bytes:
    name, attributes, inside = element
    head = struct.pack("<BI", _START_WITH if attributes else _START, 0)
    out = head + _name(name, place + len(head))
    if attributes:
        rows = b""
        for number, (key, value) in enumerate(attributes.items(), 1):
            more = 0x40 if number < len(attributes) else 0
            row = bytes([_ATTRIBUTE | more])
            row += _name(key, place + len(out) + 4 + len(rows) + 1) + _text(value)
            rows += row
        out += struct.pack("<I", len(rows)) + rows
    if not inside:
        return out + bytes([_EMPTY])
    out += bytes([_CLOSE])
    if isinstance(inside, str):
        out += _text(inside)
    else:
        for child in inside:
            out += _element(child, place + len(out))
    return out + bytes([_END])


def build(events: list[tuple[int, Element]], first: int = 1) -> bytes:
    """A file with these (ns since 1970, root element), numbered from ``first``."""
    chunk = bytearray(0x200)
    last_at = 0
    for number, (ns, root) in enumerate(events, first):
        at = last_at = len(chunk)
        body = b"\x0f\x01\x01\0" + _element(root, at + 0x18 + 4) + b"\0"
        body += bytes(-(len(body) + 4) % 8)
        size = 0x18 + len(body) + 4
        chunk += struct.pack("<IIQQ", 0x2A2A, size, number, ns // 100 + EPOCH)
        chunk += body + struct.pack("<I", size)
    free = len(chunk)
    assert free <= 0x10000
    last = first + len(events) - 1
    struct.pack_into("<8sQQQQIII", chunk, 0, b"ElfChnk\0", first, last, first, last, 0x80, last_at,
                     free)  # fmt: skip
    struct.pack_into("<I", chunk, 0x34, zlib.crc32(chunk[0x200:]))
    struct.pack_into("<I", chunk, 0x7C, zlib.crc32(chunk[:0x78] + chunk[0x80:0x200]))
    head = b"ElfFile\0" + struct.pack("<QQQIHHHH", 0, 0, last + 1, 128, 1, 3, 0x1000, 1)
    head = head.ljust(120, b"\0")
    head = (head + struct.pack("<II", 0, zlib.crc32(head))).ljust(0x1000, b"\0")
    return head + bytes(chunk).ljust(0x10000, b"\0")
