"""A memory snapshot as if it were a full dump, so that a part of it can be cut out in the same way.

Invariant: nothing of memory is made up: what the snapshot lacks reads as zeros here and is not
written. Header fields are those that were found in memory; the others stay unset.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from ..absence import Absent
from ..dumpfile.header import DumpFile
from ..dumpfile.pagedump import PageDump
from ..files import Bytes, FileBytes
from ..layouts import mindumpdef
from ..layouts.context import CONTEXTS, CONTROL
from ..target import PAGE
from .machine import Snapshot
from .physical import Physical

_FULL = 1
_INTEGER = 2  #: CONTEXT_INTEGER, beside CONTROL
_MAJOR = 15  #: of every Windows since XP
_BLANK = ("Comment", "ContextRecord", "Exception", "PhysicalMemoryBlock", "VersionUser")


class _Memory(FileBytes):
    """The bytes of that dump: its header, then memory by physical address."""

    def __init__(self, path: str, head: bytes, physical: Physical) -> None:
        self.path, self._head, self._physical = path, head, physical
        self._whole, self._windows = None, {}
        self.size = len(head) + -(-physical.end // PAGE) * PAGE

    def _read_into(self, room: memoryview, offset: int) -> None:
        done = 0
        while done < len(room):
            at = offset + done
            if at < len(self._head):
                piece = self._head[at : at + len(room) - done]
            else:
                place = at - len(self._head)
                size = min(PAGE - place % PAGE, len(room) - done)
                found = self._physical.read(place, size)
                piece = bytes(size) if isinstance(found, Absent) else found
            room[done : done + len(piece)] = piece
            done += len(piece)


class _File(DumpFile):
    def __init__(self, data: FileBytes) -> None:
        self._given = data
        super().__init__(data.path)

    def load(self, least: int, what: str) -> None:
        self.data, self.size = self._given, self._given.size


class SnapshotDump(PageDump):
    """The dump that a snapshot would be."""

    is_of_file = False

    def page_data(self, before: int = 0) -> Iterator[tuple[int, Bytes]]:
        """Nothing: a snapshot is read page by page, never searched through."""
        return iter(())

    def holds_page(self, frame: int) -> bool:
        """True when the snapshot has a page."""
        memory = self.file.data
        assert isinstance(memory, _Memory)
        return not isinstance(memory._physical.read(frame * PAGE, PAGE), Absent)


def as_dump(
    snapshot: Snapshot, processor: int, touched: Callable[[int, int], None]
) -> SnapshotDump:
    """The dump; ``processor``: whose registers stand in the header, which has room for one."""
    physical = snapshot.image.physical
    data = _Memory(snapshot.path, _header(snapshot, processor), physical)
    data.touched = touched
    return SnapshotDump(_File(data))


def _header(snapshot: Snapshot, processor: int) -> bytes:
    layout = mindumpdef.DumpHeader64
    head = bytearray(mindumpdef.SIGNATURE * (layout.size // 4))
    head[4:8] = mindumpdef.VALID_DUMP64
    known = mindumpdef.fields(layout)
    for name in _BLANK:
        field = known[name]
        head[field.offset : field.offset + field.size] = bytes(field.size)
    values = {**snapshot.file.fields, "MajorVersion": _MAJOR, "DumpType": _FULL}
    for name, value in values.items():
        if isinstance(value, int) and name in known and name not in _BLANK:
            field = known[name]
            mask = (1 << 8 * field.size) - 1
            struct.pack_into("<" + field.format, head, field.offset, value & mask)
    pages = -(-snapshot.image.physical.end // PAGE)
    block = known["PhysicalMemoryBlock"].offset
    struct.pack_into("<IIQQQ", head, block, 1, 0, pages, 0, pages)
    processors = snapshot.image.processors
    if processor < len(processors):
        context = _context(processors[processor])
        at = known["ContextRecord"].offset
        head[at : at + len(context)] = context
    return bytes(head)


def _context(registers: dict[str, int]) -> bytes:
    layout = CONTEXTS["x64"]
    out = bytearray(layout.size)
    struct.pack_into("<I", out, layout.flags, layout.is_of | CONTROL | _INTEGER)
    for name, offset in layout.registers.items():
        struct.pack_into("<Q", out, offset, registers.get(name, 0) & 0xFFFF_FFFF_FFFF_FFFF)
    return bytes(out)
