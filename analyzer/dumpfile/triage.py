"""Triage dumps ("minidumps", type 4): a handful of memory blocks, the driver list, the tagged data.

Invariant: standard library only (numpy would cost more than the whole analysis of a minidump);
every offset in the file is checked against its size before use.
Source: _TRIAGE_DUMP32/64 of the public WDK types; held on 52 of 52 real 64-bit dumps.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from ..absence import Absent
from ..layouts import mindumpdef
from ..layouts.modules import TRIAGE_DRIVER, UNLOADED_TRIAGE
from ..records import Evidence, Module
from . import loaded, secondary
from .header import DumpFile
from .kernel import KernelDump, StackRegion

MAX_BLOCKS = 1 << 18  #: a real minidump has about 2,000
#: how far below TopOfStack the dump writer's own frames are looked for: the page kept there (seen
#: in real dumps) and a little more
BELOW_STACK = 0x2000


class TriageDump(KernelDump):
    """A virtual-only dump: no page tables, only blocks at virtual addresses."""

    holds = "some blocks of virtual memory"

    def __init__(self, file: DumpFile) -> None:
        super().__init__(file)
        self.layout = mindumpdef.TriageDump64 if self.pointer_size == 8 else mindumpdef.TriageDump32
        self._modules: list[Module] = []
        self._unloaded: list[Module] = []
        self.blocks: list[tuple[int, int, int]] = []  #: (virtual address, file offset, size)
        base = file.header_size
        if file.size < base + self.layout.size:
            if file.size >= base:
                file.note(
                    "dump-file-cut",
                    f"the file ends at {file.size:,} bytes, before the end of its triage header",
                    offset=file.size,
                )
            self._starts: list[int] = []
            return
        head = file.data[base : base + self.layout.size]
        self.triage = {
            name: int(field.read(head)) for name, field in mindumpdef.fields(self.layout).items()
        }
        self._check_end()
        self._read_blocks()
        self._modules = self._read_drivers()
        self._unloaded = self._read_unloaded()
        start = self.triage["SizeOfDump"]
        if start + 8 > file.size or file.data[start : start + 8] != secondary.MAGIC:
            found = file.find(secondary.MAGIC, base)
            start = found if found >= 0 else start
        self.read_secondary(start)

    def _check_end(self) -> None:
        file, size, valid = self.file, self.triage["SizeOfDump"], self.triage["ValidOffset"]
        if size > file.size:
            file.note(
                "dump-file-cut",
                f"the dump states {size:,} bytes of triage data, the file has {file.size:,} bytes",
                offset=file.size,
                evidence=(
                    Evidence("SizeOfDump", size, "Number"),
                    Evidence("file size", file.size, "Number"),
                ),
            )
        mark = file.data[valid : valid + 4]
        if mark != mindumpdef.TRIAGE_VALID:
            file.note(
                "triage-marker-missing",
                f"the end mark TRGD is missing at {valid:#x} (found {mark!r}): the writer did not "
                "finish or the file was damaged",
                offset=valid,
                evidence=(Evidence("found", repr(mark)),),
            )

    # -- memory --------------------------------------------------------------------------------

    def _read_blocks(self) -> None:
        file, triage = self.file, self.triage
        at, count = triage["DataBlocksOffset"], triage["DataBlocksCount"]
        room = max(0, file.size - at) // 16 if at else 0
        if count and count > room:
            file.note(
                "dump-file-cut",
                f"the dump states {count} data blocks, the file has room for {room} of them",
                offset=at,
            )
        found = []
        cut = 0
        wanted = min(count, room, MAX_BLOCKS)
        for address, offset, size in struct.iter_unpack("<QII", file.data[at : at + 16 * wanted]):
            if self.pointer_size == 4:
                address &= 0xFFFF_FFFF
            held = max(0, min(size, file.size - offset))
            cut += held < size
            if held and address + held <= 1 << 64:
                found.append((address, offset, held))
        if cut:
            file.note(
                "dump-file-cut",
                f"{cut} of {wanted} data blocks lie behind the end of the file",
                offset=file.size,
            )
        for address, offset, size in (
            (triage["TopOfStack"], triage["CallStackOffset"], triage["SizeOfCallStack"]),
            (triage["DataPageAddress"], triage["DataPageOffset"], triage["DataPageSize"]),
            (
                self._debugger_address(),
                triage["DebuggerDataOffset"],
                triage["DebuggerDataSize"],
            ),
        ):
            held = max(0, min(size, file.size - offset))
            if address and offset and held:
                found.append((address, offset, held))
        self.blocks = self._disjoint(found)
        self._starts = [block[0] for block in self.blocks]

    def _disjoint(self, blocks: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        """The blocks in address order, each address in one of them: that which starts first.

        A dump holds each byte about once, so blocks beyond twice the file are damage.
        """
        found: list[tuple[int, int, int]] = []
        end, room = 0, 2 * self.file.size
        for address, offset, size in sorted(blocks, key=lambda block: (block[0], -block[2])):
            skip = max(0, end - address)
            if skip >= size:
                continue
            room -= size - skip
            if room < 0:
                self.file.note(
                    "dump-map-inconsistent",
                    f"the data blocks state more than twice the {self.file.size:,} bytes of the "
                    f"file; those from {address:#x} on are ignored",
                    offset=self.triage["DataBlocksOffset"],
                )
                break
            found.append((address + skip, offset + skip, size - skip))
            end = address + size
        return found

    def _debugger_address(self) -> int:
        value = self.file.number("KdDebuggerDataBlock")
        return 0 if isinstance(value, Absent) else value

    def _piece(self, address: int) -> tuple[int, int]:
        """(file offset, bytes available) in the block that holds an address; (-1, 0) if none."""
        index = bisect_right(self._starts, address) - 1
        if index >= 0:
            start, offset, size = self.blocks[index]
            if address < start + size:
                return offset + address - start, start + size - address
        return -1, 0

    def file_offset(self, address: int) -> int | None:
        offset, left = self._piece(address)
        return offset if left else None

    def read(self, address: int, size: int) -> bytes | Absent:
        parts = []
        at, left = address, size
        while left > 0:
            offset, held = self._piece(at)
            if not held:
                return Absent(
                    "not-in-dump",
                    f"this minidump holds no memory at {at:#x}",
                    "a kernel or complete memory dump",
                )
            step = min(held, left)
            parts.append(self.file.data[offset : offset + step])
            at, left = at + step, left - step
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def chunks(self, address: int, size: int) -> Iterator[tuple[int, bytes]]:
        end = address + size
        parts: list[bytes] = []
        first = behind = 0
        for index in range(max(0, bisect_right(self._starts, address) - 1), len(self.blocks)):
            start, offset, held = self.blocks[index]
            low, high = max(start, address), min(start + held, end)
            if start >= end:
                break
            if low >= high:
                continue
            if parts and low != behind:
                yield first, b"".join(parts)
                parts = []
            if not parts:
                first = low
            parts.append(self.file.data[offset + low - start : offset + high - start])
            behind = high
        if parts:
            yield first, b"".join(parts)

    # -- lists ---------------------------------------------------------------------------------

    def _read_drivers(self) -> list[Module]:
        file, triage, layout = self.file, self.triage, TRIAGE_DRIVER[self.pointer_size]
        at, count = triage["DriverListOffset"], triage["DriverCount"]
        if not at or not count:
            return []
        least = layout.TimeDateStamp.offset + 4
        # The entry length differs between builds; the string pool follows the list (52 of 52
        # dumps).
        length = max(0, triage["StringPoolOffset"] - at) // count
        if not least <= length <= 0x200:
            length = layout.size
        room = max(0, file.size - at) // length
        if count > room:
            file.note(
                "modules-incomplete",
                f"the driver list states {count} drivers, the file has room for {room}",
                offset=at,
            )
        found, broken = [], 0
        for order in range(min(count, room, loaded.MAX_MODULES)):
            place = at + order * length
            entry = file.data[place : place + length]
            base, size = layout.DllBase.read(entry), layout.SizeOfImage.read(entry)
            checksum, stamp = layout.CheckSum.read(entry), layout.TimeDateStamp.read(entry)
            if not base:
                broken += 1
                continue
            name = self._pool_string(layout.Name.read(entry))
            if isinstance(name, str):
                name = name.rsplit("\\", 1)[-1]
            origin = file.origin("driver list of the minidump", place)
            found.append(loaded.module(name, base, size, stamp, checksum, order, origin))
        if broken:
            file.note(
                "modules-incomplete",
                f"{broken} of {count} driver list entries are empty",
                offset=at,
            )
        loaded.note_nameless(self, found, "the driver list")
        return found

    def _pool_string(self, offset: int) -> str | Absent:
        """A name of the string pool: u32 count of UTF-16 units, then the units."""
        data = self.file.data
        if not offset or offset + 4 > len(data):
            return Absent("file-cut", f"the name at {offset:#x} lies outside the file")
        (units,) = data.unpack("<I", offset)
        if units > loaded.MAX_NAME or offset + 4 + 2 * units > len(data):
            return Absent("out-of-range", f"the name at {offset:#x} states {units} characters")
        text = data[offset + 4 : offset + 4 + 2 * units].decode("utf-16-le", "replace")
        return text if text.strip("\0") else Absent("not-found", f"there is no name at {offset:#x}")

    def _read_unloaded(self) -> list[Module]:
        file, at = self.file, self.triage["UnloadedDriversOffset"]
        layout = UNLOADED_TRIAGE[self.pointer_size]
        if not at or at + layout.size > file.size:
            return []
        (count,) = file.data.unpack("<Q" if self.pointer_size == 8 else "<I", at)
        first = at + self.pointer_size
        found = []
        for index in range(min(count, loaded.UNLOADED_ENTRIES, (file.size - first) // layout.size)):
            place = first + index * layout.size
            entry = file.data[place : place + layout.size]
            length, raw = layout.Length.read(entry), layout.Name.read(entry)
            start, end = layout.StartAddress.read(entry), layout.EndAddress.read(entry)
            if not start < end <= start + (1 << 31):
                continue
            name = raw[: min(length, len(raw)) & ~1].decode("utf-16-le", "replace")
            origin = file.origin(
                "unloaded driver list of the minidump (names cut to 12 letters)", place
            )
            absent = Absent("not-recorded", "the list of unloaded drivers keeps no time stamp")
            found.append(
                loaded.module(
                    name or Absent("unset", "the name is empty"), start, end - start, absent,
                    Absent("not-recorded", "the list of unloaded drivers keeps no checksum"), None,
                    origin, is_loaded=False,
                )
            )  # fmt: skip
        return found

    def modules(self) -> Sequence[Module]:
        return self._modules

    def unloaded(self) -> Sequence[Module]:
        return self._unloaded

    def stacks(self) -> Sequence[StackRegion]:
        top = getattr(self, "triage", {}).get("TopOfStack", 0)
        if not top:
            return ()
        size = min(self.triage["SizeOfCallStack"], 1 << 20)
        return (StackRegion(max(0, top - BELOW_STACK), top + size, "crash stack"),)
