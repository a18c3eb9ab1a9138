"""A kernel dump as a target: what every dump type shares, whatever it holds of memory.

Invariant: opening never fails because of what a dump lacks; ``read`` answers with bytes or a
reason.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..absence import Absent
from ..files import Bytes
from ..layouts import mindumpdef
from ..records import Module, Origin
from ..target import Target
from . import secondary
from .header import MachineFile

if TYPE_CHECKING:
    from ..stacks.caught import Caught


class StackRegion(NamedTuple):
    """A piece of a captured kernel stack: virtual range and whose it is."""

    start: int
    end: int
    owner: str


class KernelDump(Target):
    """Base of all dump readers; on its own a dump without memory (type 3, or a header alone)."""

    kind = "kernel dump"  #: of the source, as in the table sources
    machine_how = "dump header"  #: where what is known of the machine was read
    machine_offset: int | None = 0
    holds = "no memory"  #: in words, for `info`

    def __init__(self, file: MachineFile) -> None:
        self.file = file
        self.path = file.path
        self.pointer_size = file.pointer_size
        self.architecture = file.architecture
        self.build = file.number("MinorVersion")
        self.tags: list[secondary.Block] = []
        self.secondary_start: int | Absent = Absent("not-found", "no DumpBlob")

    def read(self, address: int, size: int) -> bytes | Absent:
        return Absent("not-in-dump", "this dump holds no memory", "a kernel or complete dump")

    def subtype(self) -> str | Absent:
        """The type of the dump in words."""
        kind = self.file.number("DumpType")
        if isinstance(kind, Absent):
            return kind
        return mindumpdef.DUMP_TYPES.get(kind) or Absent("out-of-range", f"dump type {kind}")

    def modules(self) -> Sequence[Module]:
        return ()

    def unloaded(self) -> Sequence[Module]:
        """Unloaded modules, in list order."""
        return ()

    def stacks(self) -> Sequence[StackRegion]:
        """Kernel stacks of which something may be captured."""
        return ()

    def caught(self) -> Sequence[Caught]:
        """Register sets of processors and exceptions, the crashed processor's first."""
        from .contexts import caught

        return caught(self)

    def file_offset(self, address: int) -> int | None:
        """Where in the file the byte at a virtual address lies, None when it is not there."""
        return None

    def origin(self, how: str, address: int, confidence: str = "certain") -> Origin:
        return Origin(self.path, how, confidence, self.file_offset(address), address)

    def file_field(self, name: str) -> int | None:
        """Where a header field lies in the file; None where the file has no such header."""
        layout = getattr(self.file, "layout", None)
        return mindumpdef.fields(layout)[name].offset if layout is not None else None

    # -- things every type may have ------------------------------------------------------------

    def read_secondary(self, start: int) -> None:
        """Reads the tag list at a file offset; notes what is wrong with it."""
        file = self.file
        if start >= file.size:
            file.note(
                "secondary-data-missing",
                f"the file ends at {file.size:,} bytes, before any secondary data "
                f"(expected at {start:#x})",
                offset=file.size,
            )
            return
        self.secondary_start = start
        self.tags, problem, offset = secondary.blocks(file.data, start)
        if problem:
            missing = "does not start" in problem
            file.note(
                "secondary-data-missing" if missing else "secondary-data-damaged",
                problem,
                offset=offset,
            )

    def tag_data(self, guid: str) -> list[tuple[secondary.Block, Bytes]]:
        """Every block with this tag and its bytes."""
        return [
            (block, self.file.data.view(block.offset, block.size))
            for block in self.tags
            if block.guid == guid
        ]

    def debugger_data(self) -> bytes | Absent:
        """KDDEBUGGER_DATA64, checked by its tag."""
        address = self.file.number("KdDebuggerDataBlock")
        if isinstance(address, Absent):
            return address
        data = self.read(address, 0x340)
        if isinstance(data, Absent):
            data = self.read(address, 0x298)  # the part before the structure offsets
        if isinstance(data, Absent):
            return data
        if data[0x10:0x14] != mindumpdef.DEBUGGER_DATA_TAG:
            return Absent("not-found", f"no KDBG tag at {address:#x}; the block may be encoded")
        return data

    def build_lab(self) -> str | Absent:
        """The text of nt!NtBuildLab."""
        block = self.debugger_data()
        if isinstance(block, Absent):
            return block
        (address,) = struct.unpack_from("<Q", block, mindumpdef.DEBUGGER_DATA.NtBuildLab.offset)
        if self.pointer_size == 4:
            address &= 0xFFFF_FFFF
        data = self.read(address, 64)
        if isinstance(data, Absent):
            return data
        text = data.split(b"\0")[0].decode("ascii", "replace")
        return (
            text if text.isprintable() and text else Absent("out-of-range", "NtBuildLab is no text")
        )
