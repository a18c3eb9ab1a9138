"""The images of a target's modules, read from its memory or from files the user has.

Invariant: a file stands in for memory only when its time stamp and size are the module's. What
neither holds is an ``Absent``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from ..absence import Absent
from ..records import Module
from ..target import ModuleMap, Target, module_at
from . import pe
from .paths import Folders

_PAGE = 0x1000
#: pages of an image that are kept: unwinding touches few of them again and again
_MOST_PAGES = 512
_CHAINED = 4  # UNW_FLAG_CHAININFO
MAX_CHAINED = 32
#: an image's function table; nt has about 40,000 entries
MAX_FUNCTIONS = 1 << 20


class Function(NamedTuple):
    """An entry of an image's function table; offsets in the image."""

    begin: int
    end: int
    unwind: int  #: x64: offset of the unwind data; ARM64: that or packed data, by the low bits


class Image:
    """One module's image."""

    def __init__(self, target: Target, module: Module, folders: Folders) -> None:
        self.module = module
        assert isinstance(module.base, int)
        assert isinstance(module.end, int)
        self.base, self.size = module.base, module.end - module.base
        self._target, self._folders = target, folders
        self._pages: dict[int, bytes | Absent] = {}
        self._file: pe.ImageFile | None = None
        self._looked = False
        self._header: pe.Header | Absent | None = None

    @property
    def header(self) -> pe.Header | Absent:
        """The image's header."""
        if self._header is None:
            self._header = pe.header(self.read)
        return self._header

    @property
    def file(self) -> pe.ImageFile | None:
        """The file that holds this very image, where the user has it."""
        if not self._looked:
            self._looked = True
            stamp, size = self.module.time_date_stamp, self.module.size
            name = self.module.name
            if isinstance(stamp, int) and isinstance(size, int) and isinstance(name, str):
                self._file = self._folders.image(name, stamp, size)
        return self._file

    def read(self, offset: int, size: int) -> bytes | Absent:
        """Bytes by their offset in the image."""
        if offset < 0 or offset + size > self.size:
            return Absent("out-of-range", f"outside the image of {self.module.name}")
        page, at = divmod(offset, _PAGE)
        if at + size <= _PAGE:
            data = self._page(page)
            if not isinstance(data, Absent):
                return data[at : at + size]
        return self._read(offset, size)

    def _page(self, page: int) -> bytes | Absent:
        data = self._pages.get(page)
        if data is None:
            if len(self._pages) >= _MOST_PAGES:
                self._pages.clear()
            length = min(_PAGE, self.size - page * _PAGE)
            data = self._pages[page] = self._read(page * _PAGE, length)
        return data

    def _read(self, offset: int, size: int) -> bytes | Absent:
        data = self._target.read(self.base + offset, size)
        if isinstance(data, Absent) and self.file is not None:
            held = self.file.read(offset, size)
            return data if isinstance(held, Absent) else held
        return data

    # -- the function table --------------------------------------------------------------------

    def function(self, offset: int) -> Function | Absent | None:
        """The entry that covers a place; None: none does; absent: the table cannot be read."""
        entry = self._last_entry(offset)
        return None if isinstance(entry, Function) and offset >= entry.end else entry

    def _last_entry(self, offset: int) -> Function | Absent | None:
        """The last entry that begins at or before a place."""
        header = self.header
        if isinstance(header, Absent):
            return header
        at, size = header.exception
        wide = header.machine == 0x8664
        step = 12 if wide else 8
        low, high = 0, min(size // step, MAX_FUNCTIONS) if at else 0
        found: bytes | Absent = Absent("not-found")
        while low < high:
            middle = (low + high) // 2
            entry = self.read(at + step * middle, step)
            if isinstance(entry, Absent):
                return entry
            if struct.unpack_from("<I", entry)[0] <= offset:
                low, found = middle + 1, entry
            else:
                high = middle
        if isinstance(found, Absent):
            return None
        if wide:
            begin, end, unwind = struct.unpack("<III", found)
        else:
            begin, unwind = struct.unpack("<II", found)
            length = self._arm64_length(unwind)
            if isinstance(length, Absent):
                return length
            end = begin + length
        return Function(begin, end, unwind)

    def begins_between(self, first: int, last: int) -> bool:
        """True when, by the function table, a function begins behind one place, up to another."""
        entry = self._last_entry(last)
        return isinstance(entry, Function) and entry.begin > first

    def _arm64_length(self, unwind: int) -> int | Absent:
        if unwind & 3:
            return (unwind >> 2 & 0x7FF) * 4
        word = self.read(unwind, 4)
        return word if isinstance(word, Absent) else (struct.unpack("<I", word)[0] & 0x3FFFF) * 4

    def start(self, offset: int) -> int | None:
        """Where the function that holds a place begins, as far as unwind data tells."""
        entry = self.function(offset)
        if not isinstance(entry, Function):
            return None
        header = self.header
        if isinstance(header, Absent) or header.machine != 0x8664:
            return entry.begin
        for _ in range(MAX_CHAINED):
            parent = self.parent(entry)
            if isinstance(parent, Absent):
                return None
            if parent is None:
                return entry.begin
            entry = parent
        return None

    def parent(self, entry: Function) -> Function | Absent | None:
        """x64: the entry that this one is chained to, None when it is a function of its own."""
        at = entry.unwind & ~1
        if not entry.unwind & 1:
            head = self.read(at, 4)
            if isinstance(head, Absent):
                return head
            if not head[0] >> 3 & _CHAINED:
                return None
            at += 4 + 2 * ((head[2] + 1) & ~1)
        data = self.read(at, 12)
        return data if isinstance(data, Absent) else Function(*struct.unpack("<III", data))


class Images:
    """The images of all modules, by address."""

    def __init__(
        self, target: Target, modules: Sequence[Module], folders: Sequence[str] = ()
    ) -> None:
        """``folders``: where files of images may lie, flat or as in a symbol cache."""
        self.target = target
        self.modules = ModuleMap(
            module
            for module in modules
            if module.loaded and isinstance(module.base, int) and isinstance(module.end, int)
        )
        self.folders = Folders(folders)
        self._known: dict[int, Image] = {}

    def at(self, address: int) -> Image | None:
        """The image that holds an address."""
        module = module_at(self.modules, address)
        if module is None or not isinstance(module.base, int):
            return None
        if module.base not in self._known:
            self._known[module.base] = Image(self.target, module, self.folders)
        return self._known[module.base]

    def read(self, address: int, size: int) -> bytes | Absent:
        """Code at an address: the target's memory, else the image's file."""
        image = self.at(address)
        if image is None:
            return self.target.read(address, size)
        return image.read(address - image.base, size)

    def function_start(self, address: int) -> int | None:
        """Address at which the function that holds an address begins, by unwind data alone."""
        image = self.at(address)
        start = None if image is None else image.start(address - image.base)
        return None if start is None or image is None else image.base + start
