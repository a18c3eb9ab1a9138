"""Function names from a PDB: its public symbols and the procedures of every module.

Invariant: any bytes give a :class:`Pdb` or ValueError, whose text says in words why it is refused;
memory is bounded by the file's own streams. Sources: LLVM's "The PDB File Format", Microsoft's
published cvinfo.h.
"""

from __future__ import annotations

import struct
import uuid
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from ..files import FileBytes
from .msf import NO_STREAM, Streams

_S_PUB32 = 0x110E
#: S_LPROC32, S_GPROC32, S_LPROC32_ID, S_GPROC32_ID
_PROCEDURES = (0x110F, 0x1110, 0x1146, 0x1147)
_IS_FUNCTION = 2  # of a public symbol's flags
_INFORMATION, _MODULES = 1, 3  # streams with a fixed number
_MODULE_ENTRY, _SECTION_ENTRY = 64, 40
#: optional streams that are used
_OMAP_FROM_SOURCE, _SECTIONS, _SECTIONS_BEFORE = 4, 5, 10
_LEFT_OUT = 0  # OMAP: code that the rearranged image does not hold


class Name(NamedTuple):
    """One function."""

    offset: int  #: in the image
    size: int | None  #: None for a public symbol, which states no length
    text: str


class Pdb:
    """The names of one image."""

    def __init__(self, data: FileBytes | bytes) -> None:
        """``data``: the file's bytes. Raises ValueError."""
        self._streams = Streams(data)
        information = self._streams[_INFORMATION]
        modules = self._streams[_MODULES]
        if len(information) < 28:
            raise ValueError("it lacks the stream that identifies it")
        if len(modules) < 64:
            raise ValueError("it holds types only, no names of functions")
        self.guid = uuid.UUID(bytes_le=information[12:28])
        (self.age,) = struct.unpack_from("<I", modules, 8)  # what the image's header names
        (self._publics,) = struct.unpack_from("<H", modules, 20)
        sizes = struct.unpack_from("<5i", modules, 24)
        optional, edit_and_continue = struct.unpack_from("<ii", modules, 48)
        if min(*sizes, optional, edit_and_continue) < 0:
            raise ValueError("its list of modules is damaged")
        self._module_list = modules[64 : 64 + sizes[0]]
        at = 64 + sum(sizes) + edit_and_continue
        count = min(optional, max(0, len(modules) - at)) // 2
        streams = struct.unpack_from(f"<{count}H", modules, at) + (NO_STREAM,) * 11
        # Where an image was rearranged behind the linker, symbols are of the sections before that,
        # and a map leads to the image as it is.
        moved = self._streams[streams[_OMAP_FROM_SOURCE]]
        self._moves: list[tuple[int, ...]] = list(
            struct.iter_unpack("<II", moved[: len(moved) // 8 * 8])
        )
        self._move_starts = [entry[0] for entry in self._moves]
        raw = self._streams[streams[_SECTIONS_BEFORE]] if moved else b""
        raw = raw or self._streams[streams[_SECTIONS]]
        self.sections: list[int] = [
            struct.unpack_from("<I", raw, at + 12)[0]
            for at in range(0, len(raw) - _SECTION_ENTRY + 1, _SECTION_ENTRY)
        ]
        self._names: list[Name] | None = None
        self._starts: list[int] = []

    @property
    def key(self) -> str:
        """GUID and age, as the folders of a symbol cache are called."""
        return f"{self.guid.hex.upper()}{self.age:X}"

    def _offset(self, segment: int, offset: int) -> int | None:
        """Place in the image of a place in a section; None where the image does not hold it."""
        if not 0 < segment <= len(self.sections):
            return None
        found = self.sections[segment - 1] + offset
        if not self._moves:
            return found
        place = bisect_right(self._move_starts, found) - 1
        if place < 0:
            return None
        source, to = self._moves[place]
        return None if to == _LEFT_OUT else to + found - source

    def publics(self) -> Iterator[Name]:
        """Public symbols that are functions, with decorated names."""
        data, at = self._streams[self._publics], 0
        unpack = struct.Struct("<HHIIH").unpack_from
        end = len(data) - 14
        while at <= end:
            length, kind, flags, offset, segment = unpack(data, at)
            if kind == _S_PUB32 and flags & _IS_FUNCTION:
                place = self._offset(segment, offset)
                if place is not None:
                    yield Name(place, None, _text(data, at + 14))
            if length < 2:
                return
            at += length + 2

    def procedures(self) -> Iterator[Name]:
        """Procedures of all modules, with the names that the source gives them."""
        for stream, size in self._modules():
            yield from self._procedures(self._streams[stream][:size])

    def _modules(self) -> Iterator[tuple[int, int]]:
        """Stream and length of the symbols of each module."""
        entries, at = self._module_list, 0
        while at + _MODULE_ENTRY <= len(entries):
            yield struct.unpack_from("<HI", entries, at + 34)
            name_end = entries.find(b"\0", at + _MODULE_ENTRY)
            object_end = entries.find(b"\0", name_end + 1)
            if name_end < 0 or object_end < 0:
                return
            at = (object_end + 4) & ~3

    def _procedures(self, data: bytes) -> Iterator[Name]:
        unpack_head = struct.Struct("<HH").unpack_from
        unpack = struct.Struct("<8xI4xI12xIH").unpack_from
        at, last = 4, len(data) - 4  # behind the signature
        while at <= last:
            length, kind = unpack_head(data, at)
            if kind in _PROCEDURES and at + 39 <= len(data):
                end, size, offset, segment = unpack(data, at)
                place = self._offset(segment, offset)
                if place is not None:
                    yield Name(place, size, _text(data, at + 39))
                if at < end <= last:
                    at = end  # its S_END: what it declares inside is not needed
                    continue
            if length < 2:
                return
            at += length + 2

    def names(self) -> list[Name]:
        """All, by address; of several at one place a procedure comes before a public symbol."""
        if self._names is None:
            found = [*self.procedures(), *self.publics()]
            found.sort(key=lambda name: (name.offset, name.size is None))
            kept = [n for i, n in enumerate(found) if not i or n.offset != found[i - 1].offset]
            self._names, self._starts = kept, [name.offset for name in kept]
        return self._names

    def at(self, offset: int) -> Name | None:
        """The function that holds a place of the image, as far as the PDB tells."""
        names = self.names()
        place = bisect_right(self._starts, offset) - 1
        if place < 0:
            return None
        name = names[place]
        if name.size is not None and offset >= name.offset + name.size:
            return None
        return name


def _text(data: bytes, at: int) -> str:
    end = data.find(b"\0", at)
    return data[at : end if end >= 0 else len(data)].decode("utf-8", "replace")


def open_pdb(path: str) -> Pdb:
    """Opens a PDB file. Raises ValueError (not a usable PDB) or InputError."""
    return Pdb(FileBytes(path))
