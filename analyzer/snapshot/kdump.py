"""kdump-compressed files, as QEMU, libvirt and makedumpfile write them: flattened or in place.

Invariant: a page is decompressed when it is asked for; what is kept is the bitmap (32 KB a
gigabyte) and, of a flattened file, where each of its blocks lies.

Sources: makedumpfile IMPLEMENTATION and diskdump_mod.h, QEMU dump/dump.c; seen in files that QEMU
7.2 wrote (zlib, flattened).
"""

from __future__ import annotations

import struct
import zlib
from typing import Callable, NamedTuple

import numpy as np

from ..absence import Absent
from ..dumpfile.header import MachineFile
from ..errors import InputError, UnsupportedError
from ..extras import install
from ..target import PAGE
from . import notes
from .image import MemoryImage
from .physical import Paged

FLATTENED, IN_PLACE = b"makedumpfile\0", b"KDUMP   "
_FIRST_BLOCK = 0x1000  #: of a flattened file
_BLOCK = struct.Struct(">qq")
_STATUS = 0x1A8
_INCOMPLETE = 8
_GROUP = 64  #: bytes of the bitmap between two counts
_MOST_BITMAP = 1 << 30  #: bytes: 32 TB of memory
_MOST_BLOCKS = 1 << 24
_MOST_NOTES = 1 << 24
_FARTHEST = 1 << 60  #: file offset
_OVERLAPPING = 64  #: blocks that may lie over one another
_KEPT = 256  #: pages

Get = Callable[[int, int], bytes]
Codec = Callable[[bytes], bytes]


def _zlib() -> Codec:
    return lambda data: zlib.decompressobj().decompress(data, PAGE)


def _lzo() -> Codec:
    from lzallright import LZOCompressor

    return lambda data: bytes(LZOCompressor.decompress(data, PAGE))


def _snappy() -> Codec:
    from cramjam import snappy

    return lambda data: _into(snappy.decompress_raw_into, data)


def _zstandard() -> Codec:
    from cramjam import zstd

    return lambda data: _into(zstd.decompress_into, data)


def _into(decompress: Callable[[bytes, bytearray], int], data: bytes) -> bytes:
    page = bytearray(PAGE)  # of this size whatever the data claims
    return bytes(page[: decompress(data, page)])


#: bit of a page's flags and of the header's status -> name, and what makes the decompressor
_METHODS: dict[int, tuple[str, Callable[[], Codec]]] = {
    0x01: ("zlib", _zlib),
    0x02: ("LZO", _lzo),
    0x04: ("Snappy", _snappy),
    0x20: ("Zstandard", _zstandard),
}


class _Head(NamedTuple):
    """Where the parts of the file lie."""

    status: int
    notes: int
    notes_size: int
    bitmap: int  #: the one of the pages that are stored
    bitmap_size: int
    descriptors: int


def is_kdump(head: bytes) -> bool:
    """True for the first bytes of a kdump."""
    return head.startswith((FLATTENED, IN_PLACE))


def open_kdump(file: MachineFile) -> MemoryImage:
    """The memory and the processors of a kdump."""
    data = file.data
    is_flat = data[: len(FLATTENED)] == FLATTENED
    get: Get = _Flattened(file).get if is_flat else lambda at, size: data[at : at + size]
    head = _head(file, get)
    pages = _Pages(file, get, head)
    names = [name for bit, (name, _) in _METHODS.items() if head.status & bit]
    for bit in _METHODS:
        if head.status & bit:
            pages.codec(bit)  # refused now rather than page by page
    if head.status & _INCOMPLETE:
        file.note("snapshot-damaged", "the header says that the dump was not finished")
    found = notes.read(get(head.notes, min(head.notes_size, _MOST_NOTES)))
    if not found.writer:
        problem = "this is a kdump without the notes of a hypervisor: of Linux itself"
        raise UnsupportedError(file.path, problem, advice="open a snapshot of a Windows machine")
    kind = f"kdump of {found.writer}, {names[0] if names else 'not compressed'}"
    kind += ", flattened" if is_flat else ""
    return MemoryImage(kind, pages, found.processors, found.header)


def _head(file: MachineFile, get: Get) -> _Head:
    raw = get(0, _STATUS + 16)
    if raw[:8] != IN_PLACE or len(raw) < _STATUS + 16:
        raise InputError(file.path, "no kdump header in it", expected=repr(IN_PLACE))
    status, block, sub, bitmaps = struct.unpack_from("<IIII", raw, _STATUS)
    if block != PAGE:
        raise UnsupportedError(file.path, f"this is a kdump with pages of {block:,} bytes")
    second = get(block, 0x40)
    if len(second) < 0x40:
        raise InputError(file.path, "the file ends inside its second header")
    note, size = struct.unpack_from("<QQ", second, 0x30)
    if note > _FARTHEST:
        raise InputError(file.path, "its notes lie beyond the end of any file", offset=0x1030)
    half = bitmaps // 2 * block
    bitmap = (1 + sub) * block + half
    if half > _MOST_BITMAP or bitmap + half > max(file.size, 1) * 4 + (1 << 24):
        raise InputError(file.path, f"its bitmap of {half:,} bytes cannot be", offset=_STATUS + 12)
    return _Head(status, note, size, bitmap, half, (1 + sub + bitmaps) * block)


class _Flattened:
    """The blocks of a flattened file, read as if they lay in place; the last one written counts."""

    def __init__(self, file: MachineFile) -> None:
        self.data = file.data
        rows: list[tuple[int, int, int]] = []
        at, end, once, unpack = _FIRST_BLOCK, file.size - 16, file.data.once, _BLOCK.unpack
        while at <= end and len(rows) < _MOST_BLOCKS:
            offset, size = unpack(once(at, 16))
            if offset < 0 or size <= 0:
                break
            rows.append((offset, size, at + 16))
            at += 16 + size
        else:
            text = f"the file ends at {file.size:,} bytes without the mark of its end"
            file.note("snapshot-damaged", text, offset=file.size)
        blocks = np.array(rows, np.int64).reshape(-1, 3)
        blocks = blocks[np.argsort(blocks[:, 0], kind="stable")]
        self.start, self.size, self.at = (np.ascontiguousarray(c) for c in blocks.T)

    def get(self, offset: int, size: int) -> bytes:
        """Bytes of the file as it would be in place; what no block has is zero."""
        out = bytearray(size)
        last = int(np.searchsorted(self.start, offset + size, "left"))
        first = last  # blocks do not overlap, but where a header was written twice
        lowest = max(0, last - _OVERLAPPING)
        while first > lowest and int(self.start[first - 1]) + int(self.size[first - 1]) > offset:
            first -= 1
        for place in range(first, last):
            start, length, at = int(self.start[place]), int(self.size[place]), int(self.at[place])
            low, high = max(start, offset), min(start + length, offset + size)
            piece = self.data[at + low - start : at + high - start]
            out[low - offset : low - offset + len(piece)] = piece
        return bytes(out)


class _Pages(Paged):
    """Pages by their descriptors."""

    def __init__(self, file: MachineFile, get: Get, head: _Head) -> None:
        self._file, self._get, self._first = file, get, head.descriptors
        self._codecs: dict[int, Codec] = {}
        self._kept: dict[int, bytes | Absent] = {}
        self._bits = np.frombuffer(get(head.bitmap, head.bitmap_size), np.uint8)
        whole = len(self._bits) // _GROUP * _GROUP  # bitmaps are whole blocks
        groups = np.bitwise_count(self._bits[:whole].view("<u8")).reshape(-1, _GROUP // 8)
        self._before = np.zeros(len(groups) + 1, np.int64)
        np.cumsum(groups.sum(1, dtype=np.int64), out=self._before[1:])
        filled = np.flatnonzero(self._bits)
        self.end = (int(filled[-1]) * 8 + 8) * PAGE if len(filled) else 0

    def codec(self, bit: int) -> Codec:
        """The decompressor of a method; UnsupportedError where its library is not installed."""
        if bit not in self._codecs:
            name, make = _METHODS[bit]
            try:
                self._codecs[bit] = make()
            except ImportError:
                problem = f"this kdump is compressed with {name}, which needs one more library"
                raise UnsupportedError(self._file.path, problem, advice=install("kdump")) from None
        return self._codecs[bit]

    def _page(self, frame: int) -> bytes | Absent:
        page = self._kept.get(frame)
        if page is None:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            page = self._kept[frame] = self._load(frame)
        return page

    def _load(self, frame: int) -> bytes | Absent:
        byte, bit = divmod(frame, 8)
        if byte >= len(self._bits) or not self._bits[byte] >> bit & 1:
            return Absent("not-in-dump", f"frame {frame:#x} is not in the file")
        group = byte // _GROUP
        lower = bin(int.from_bytes(bytes(self._bits[group * _GROUP : byte]), "little")).count("1")
        lower += bin(int(self._bits[byte]) & ((1 << bit) - 1)).count("1")
        descriptor = self._get(self._first + 24 * (int(self._before[group]) + lower), 24)
        if len(descriptor) < 24:
            return Absent("file-cut", f"the file ends before the descriptor of frame {frame:#x}")
        offset, size, flags = struct.unpack_from("<QII", descriptor)
        if size > PAGE or offset > _FARTHEST:
            return Absent("out-of-range", f"the descriptor of frame {frame:#x} cannot be")
        data = self._get(offset, size)
        bits = [method for method in _METHODS if flags & method]
        try:
            page = self.codec(bits[0])(data) if bits else data
        except Exception as error:  # each library has exceptions of its own
            if isinstance(error, UnsupportedError):
                raise
            return Absent("out-of-range", f"frame {frame:#x} cannot be decompressed: {error}")
        if len(page) != PAGE:
            return Absent("file-cut", f"frame {frame:#x} has {len(page)} bytes")
        return page
