"""The dump file that a debugger has open: header, end and tags are its own, memory is the engine's.

Invariant: says of the file what its own reader says, as far as that takes no page map: the
debugger's Python has no numpy. Standard library only.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from ..absence import Absent
from ..dumpfile.header import DumpFile
from ..dumpfile.kernel import KernelDump
from ..dumpfile.triage import TriageDump
from ..errors import AnalyzerError
from ..layouts import mindumpdef
from ..records import Module
from ..target import PAGE
from .session import Session

_TRIAGE = 4
#: room for more entries in a range table is no real one
_MOST_RANGES = 1 << 20


class OpenDump(KernelDump):
    """A dump whose memory and modules a session tells."""

    def __init__(self, file: DumpFile, session: Session) -> None:
        super().__init__(file)
        self._session = session
        self.has_pages = file.number("DumpType") != _TRIAGE
        if not self.has_pages:
            self.tags = TriageDump(file).tags  # which also notes what is odd about the file
            return
        end = end_of_pages(file)
        if end is None:
            return
        if end > file.size:
            text = f"the file is {file.size:,} bytes long, but its pages end at {end:,} bytes"
            file.note("dump-file-cut", text, offset=file.size)
        self.read_secondary(end)

    def read(self, address: int, size: int) -> bytes | Absent:
        return self._session.read(address, size)

    def modules(self) -> Sequence[Module]:
        return self._session.modules()

    def unloaded(self) -> Sequence[Module]:
        return self._session.unloaded()


def of(session: Session) -> OpenDump | None:
    """The dump of a session; None where its file cannot be read, as on another machine."""
    try:
        return OpenDump(DumpFile(session.path), session)
    except AnalyzerError:
        return None


def end_of_pages(file: DumpFile) -> int | None:
    """File offset behind the last page as the headers state it, None where they do not."""
    data, base, kind = file.data, file.header_size, file.number("DumpType")
    if file.size < base + 0x40:
        return None
    if bytes(data[base : base + 4]) in mindumpdef.BITMAP_SIGNATURES:
        if kind == 2:
            old = mindumpdef.SummaryDump64 if file.pointer_size == 8 else mindumpdef.SummaryDump32
            return int(old.HeaderSize.read(data, base) + old.Pages.read(data, base) * PAGE)
        new = mindumpdef.BITMAP_DUMP
        return int(new.FirstPage.read(data, base) + new.Pages.read(data, base) * PAGE)
    if kind in (8, 9, 10) and bytes(data[base + 4 : base + 8]) == mindumpdef.RANGE_SIGNATURE:
        (first,) = data.unpack("<Q", base + 0x18)
        table = base + 0x30
        room = max(0, min(first, file.size) - table) // 16
        if room > _MOST_RANGES:
            return None  # an end added up from a part of them would be wrong
        pages = 0
        for frame, count in struct.iter_unpack("<QQ", data[table : table + room * 16]):
            if not (frame and count):
                break
            pages += count
        return int(first + pages * PAGE)
    pages_stated = file.number("NumberOfPages")
    if kind == 1 and isinstance(pages_stated, int):
        return base + pages_stated * PAGE
    return None
