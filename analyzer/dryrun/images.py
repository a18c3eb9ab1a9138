"""What the headers of the target's images tell: exports, sections, control flow guard's pointers.

Invariant: read from the target's memory page by page, each page once; what is not there or not
sound is left out. Bounded whatever the headers state. Standard library only.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import NamedTuple

from ..absence import Absent
from ..records import Module
from ..target import PAGE, Target, module_at
from .routines import GUARD_POINTERS, ROUTINES

_MOST_SECTIONS, _MOST_EXPORTS, _MOST_NAME = 96, 1 << 16, 128
_WRITE = 0x8000_0000


class Section(NamedTuple):
    """One section of an image, at its place."""

    name: str
    start: int
    end: int
    is_writable: bool

    @property
    def is_pageable(self) -> bool:
        """By its name, as the memory manager takes it: PAGE and whatever begins with it."""
        return self.name.startswith("PAGE")


class Images:
    """The images of a target."""

    def __init__(self, target: Target, modules: Sequence[Module]) -> None:
        self.modules = [m for m in modules if m.loaded and isinstance(m.base, int)]
        self._target = target
        self._pages: dict[int, bytes | None] = {}
        self._sections: dict[int, list[Section]] = {}
        self._exports: dict[int, dict[int, str]] = {}

    def module(self, address: int) -> Module | None:
        """The image that holds an address."""
        return module_at(self.modules, address)

    def section(self, address: int) -> Section | None:
        """The section that holds an address."""
        module = self.module(address)
        if module is None or not isinstance(module.base, int):
            return None
        if module.base not in self._sections:
            self._sections[module.base] = self._read_sections(module.base)
        found = self._sections[module.base]
        return next((s for s in found if s.start <= address < s.end), None)

    def read_only(self, module: Module) -> list[tuple[int, int]]:
        """Where the image's sections are not writable."""
        if not isinstance(module.base, int):
            return []
        self.section(module.base)
        found = self._sections.get(module.base, [])
        return [(s.start, s.end) for s in found if not s.is_writable]

    def is_constant(self, address: int) -> bool:
        """True for what no running code changes: read-only sections, security cookies."""
        section = self.section(address)
        if section is None:
            return False
        return not section.is_writable or self._is_cookie(address)

    def _is_cookie(self, address: int) -> bool:
        module = self.module(address)
        where = (
            self._directory(module.base, 10) if module and isinstance(module.base, int) else None
        )
        if module is None or where is None or not isinstance(module.base, int):
            return False
        width = self._target.pointer_size
        cookie = self._word(module.base + where[0] + (0x58 if width == 8 else 0x3C), width)
        return cookie is not None and cookie <= address < cookie + width

    def exports(self, module: Module) -> dict[int, str]:
        """Exported names by address."""
        base = module.base
        if not isinstance(base, int):
            return {}
        if base not in self._exports:
            self._exports[base] = self._read_exports(base)
        return self._exports[base]

    def name(self, address: int) -> str:
        """By symbols or exports where they are known, else ``dump_x+0x1010``, or the address."""
        naming = self._target.naming
        named = None if naming is None else naming(address)
        if named is not None:
            return named
        module = self.module(address)
        if module is None or not isinstance(module.base, int):
            return f"{address:#x}"
        stem = "nt" if str(module.role) == "kernel" else str(module.name).rsplit(".", 1)[0]
        exported = _plain(self.exports(module).get(address, ""))
        return f"{stem}!{exported}" if exported else f"{stem}+{address - module.base:#x}"

    def known(self) -> dict[int, str]:
        """Addresses of routines that a dry run answers itself, and guard's routines."""
        found: dict[int, str] = {}
        for module in self.modules:
            if str(module.name).lower() in ("ntoskrnl.exe", "ntkrnlmp.exe", "hal.dll", "nt"):
                for address, name in self.exports(module).items():
                    plain = _plain(name)
                    if plain in ROUTINES:
                        found[address] = plain
        return found

    def guards(self, module: Module) -> dict[int, str]:
        """Control flow guard's routines of an image, where their code is not in the target."""
        found: dict[int, str] = {}
        if not isinstance(module.base, int):
            return found
        where = self._directory(module.base, 10)
        width = self._target.pointer_size
        if where is None:
            return found
        table = module.base + where[0]
        size = self._word(table, 4) or 0
        for offset, does in GUARD_POINTERS[width]:
            if size < offset + width:
                continue
            slot = self._word(table + offset, width)
            routine = self._word(slot, width) if slot else None
            if routine and self._page(routine & -PAGE) is None:
                found[routine] = does
        return found

    # -- reading -------------------------------------------------------------------------------

    def _page(self, page: int) -> bytes | None:
        if page not in self._pages:
            data = self._target.read(page, PAGE)
            if isinstance(data, Absent):  # a minidump holds pieces of pages
                data = b""
                for start, piece in self._target.chunks(page, PAGE):
                    data += bytes(start - page - len(data)) + piece
            self._pages[page] = data or None
        return self._pages[page]

    def _bytes(self, address: int, size: int) -> bytes | None:
        out = b""
        while len(out) < size:
            at = address + len(out)
            page = self._page(at & -PAGE)
            piece = b"" if page is None else page[at & PAGE - 1 :][: size - len(out)]
            if not piece:
                return None
            out += piece
        return out

    def _word(self, address: int, size: int) -> int | None:
        data = self._bytes(address, size)
        return None if data is None else int.from_bytes(data, "little")

    def _header(self, base: int) -> int | None:
        new = self._word(base + 0x3C, 4)
        if new is None or new > 0x1000 or self._bytes(base + new, 4) != b"PE\0\0":
            return None
        return base + new

    def _directory(self, base: int, number: int) -> tuple[int, int] | None:
        header = self._header(base)
        if header is None:
            return None
        magic = self._word(header + 24, 2)
        at = header + 24 + (112 if magic == 0x20B else 96) + 8 * number
        data = self._bytes(at, 8)
        if data is None:
            return None
        rva, size = struct.unpack("<II", data)
        return (rva, size) if rva else None

    def _read_sections(self, base: int) -> list[Section]:
        header = self._header(base)
        if header is None:
            return []
        count, optional = self._word(header + 6, 2) or 0, self._word(header + 20, 2) or 0
        found = []
        for number in range(min(count, _MOST_SECTIONS)):
            data = self._bytes(header + 24 + optional + 40 * number, 40)
            if data is None:
                break
            name = data[:8].split(b"\0")[0].decode("ascii", "replace")
            size, start, raw = struct.unpack_from("<III", data, 8)
            (flags,) = struct.unpack_from("<I", data, 36)
            end = base + start + max(size, raw)
            found.append(Section(name, base + start, end, bool(flags & _WRITE)))
        return found

    def _read_exports(self, base: int) -> dict[int, str]:
        where = self._directory(base, 0)
        data = None if where is None else self._bytes(base + where[0], 40)
        if where is None or data is None:
            return {}
        count, names = struct.unpack_from("<II", data, 20)
        functions, texts, ordinals = struct.unpack_from("<III", data, 28)
        found: dict[int, str] = {}
        for number in range(min(names, _MOST_EXPORTS)):
            text = self._word(base + texts + 4 * number, 4)
            order = self._word(base + ordinals + 2 * number, 2)
            if text is None or order is None or order >= count:
                continue
            address = self._word(base + functions + 4 * order, 4)
            name = self._text(base + text)
            forwarded = address is not None and where[0] <= address < where[0] + where[1]
            if name and address and not forwarded:
                found.setdefault(base + address, name)
        return found

    def _text(self, address: int) -> str:
        page = self._page(address & -PAGE)
        if page is None:
            return ""
        raw = page[address & PAGE - 1 :][:_MOST_NAME]
        if b"\0" not in raw and address & PAGE - 1 > PAGE - _MOST_NAME:
            raw += (self._page((address & -PAGE) + PAGE) or b"")[:_MOST_NAME]
        raw = raw.partition(b"\0")[0]
        return raw.decode("ascii") if raw and raw.isascii() and raw.decode().isprintable() else ""


def _plain(name: str) -> str:
    """A name without what 32-bit compilers add for the calling convention."""
    found = re.fullmatch(r"[_@](\w+)@\d+", name)
    return found.group(1) if found else name
