"""Headers of PE images, in a target's memory or in a file: what unwinding and naming need.

Invariant: any bytes give a value or an ``Absent``; offsets are relative to the image's base, as the
loader lays it out. Source: Microsoft's "PE Format".
"""

from __future__ import annotations

import struct
from typing import Callable, NamedTuple, Union

from ..absence import Absent
from ..files import FileBytes
from ..layouts import guids

#: reads of an image by offset: exactly the bytes asked for, or why not
Read = Callable[[int, int], Union[bytes, Absent]]

_EXCEPTION, _DEBUG = 3, 6
_CODEVIEW = 2
MAX_DEBUG_ENTRIES = 64
#: an image has a few dozen sections
MAX_SECTIONS = 512
#: the largest image that is read: no driver comes near it
MAX_IMAGE = 1 << 30


class Header(NamedTuple):
    """What an image's header states."""

    machine: int
    time_date_stamp: int
    size_of_image: int
    size_of_headers: int
    exception: tuple[int, int]  #: offset and size of the function table, (0, 0): none
    debug: tuple[int, int]
    sections_at: int  #: offset of the section table
    sections: int
    entry_point: int  #: offset of the routine that the loader calls, 0: none


class PdbIdentity(NamedTuple):
    """The PDB that an image was linked with."""

    name: str  #: base name
    key: str  #: GUID and age, as the folders of a symbol cache are called


def header(read: Read) -> Header | Absent:
    """The header of an image, or why it cannot be read."""
    head = read(0, 0x40)
    if isinstance(head, Absent):
        return head
    if head[:2] != b"MZ":
        return Absent("not-found", "no MZ signature at the start of the image")
    (at,) = struct.unpack_from("<I", head, 0x3C)
    if not 0x40 <= at <= 0x1000:
        return Absent("out-of-range", f"the PE header is stated {at:#x} bytes into the image")
    data = read(at, 0x108)
    if isinstance(data, Absent):
        return data
    if data[:4] != b"PE\0\0":
        return Absent("not-found", f"no PE header {at:#x} bytes into the image")
    machine, sections, stamp, optional, magic = struct.unpack_from("<HHI8xH2xH", data, 4)
    if magic not in (0x10B, 0x20B):
        return Absent("unknown-layout", f"an optional header of kind {magic:#x}")
    size, headers = struct.unpack_from("<II", data, 24 + 56)
    (entry,) = struct.unpack_from("<I", data, 24 + 16)
    count_at = 24 + (108 if magic == 0x20B else 92)
    (count,) = struct.unpack_from("<I", data, count_at)
    entries = []
    for index in (_EXCEPTION, _DEBUG):
        known = index < count
        entries.append(
            struct.unpack_from("<II", data, count_at + 4 + 8 * index) if known else (0, 0)
        )
    return Header(
        machine, stamp, size, headers, entries[0], entries[1], at + 24 + optional, sections,
        entry,
    )  # fmt: skip


def pdb_identity(read: Read, found: Header) -> PdbIdentity | Absent:
    """Name, GUID and age of the PDB, from the image's debug directory."""
    at, size = found.debug
    if not at or not size:
        return Absent("not-recorded", "the image names no PDB")
    for index in range(min(size // 28, MAX_DEBUG_ENTRIES)):
        entry = read(at + 28 * index, 28)
        if isinstance(entry, Absent):
            return entry
        kind, length, offset = struct.unpack_from("<III", entry, 12)
        if kind != _CODEVIEW or length < 25:
            continue
        data = read(offset, min(length, 0x400))
        if isinstance(data, Absent):
            return data
        if data[:4] == b"RSDS":
            (age,) = struct.unpack_from("<I", data, 20)
            path = data[24:].split(b"\0")[0].decode("utf-8", "replace")
            name = path.replace("/", "\\").rsplit("\\", 1)[-1]
            guid = guids.text_of(data[4:20]).replace("-", "").upper()
            return PdbIdentity(name, f"{guid}{age:X}")
    return Absent("not-recorded", "the image names no PDB of the present kind")


class ImageFile:
    """A PE file, read as the loader would lay it out (without relocation)."""

    def __init__(self, path: str) -> None:
        """Opens the file. Raises InputError or ValueError when it cannot be used."""
        self._data = FileBytes(path)
        self.path = path
        found = header(self._flat)
        if isinstance(found, Absent):
            raise ValueError(str(found))
        if not 0 < found.size_of_image <= MAX_IMAGE:
            raise ValueError(f"the image states a size of {found.size_of_image:#x} bytes")
        self.header = found
        self._pieces = [(0, found.size_of_headers, 0)]
        for index in range(min(found.sections, MAX_SECTIONS)):
            entry = self._flat(found.sections_at + 40 * index, 40)
            if isinstance(entry, Absent):
                break
            length, at, raw, offset = struct.unpack_from("<IIII", entry, 8)
            self._pieces.append((at, min(raw, length or raw), offset))

    def _flat(self, offset: int, size: int) -> bytes | Absent:
        data = self._data[offset : offset + size]
        return data if len(data) == size else Absent("file-cut", "the image file ends before it")

    def read(self, offset: int, size: int) -> bytes | Absent:
        """Bytes by their offset in the image; zeros where no section fills it."""
        if offset < 0 or offset + size > self.header.size_of_image:
            return Absent("out-of-range", "behind the image's end")
        out = bytearray(size)
        for at, length, place in self._pieces:
            start, end = max(at, offset), min(at + length, offset + size)
            if start < end:
                piece = self._flat(place + start - at, end - start)
                if isinstance(piece, Absent):
                    return piece
                out[start - offset : end - offset] = piece
        return bytes(out)
