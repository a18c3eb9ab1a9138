"""Lists and registers of dumps that are written by hand: exact rows at every limit."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from dumpstack_memory import POOL, Memory

from analyzer.absence import Absent
from analyzer.checks import ranges
from analyzer.dumpfile import contexts, loaded, open_dump, processors
from analyzer.dumpfile.header import MachineFile
from analyzer.dumpfile.kernel import KernelDump, StackRegion
from analyzer.dumpfile.secondary import Block
from analyzer.dumpfile.writer import other_writer
from analyzer.errors import InputError
from analyzer.layouts import mindumpdef
from analyzer.layouts.context import CONTEXTS
from analyzer.layouts.modules import KLDR, TRIAGE_DRIVER, UNLOADED, UNLOADED_TRIAGE
from analyzer.records import Module, Origin

HEADER = {8: 0x2000, 4: 0x1000}
WIDTHS = pytest.mark.parametrize("width", [8, 4])


# ---- minidumps ----------------------------------------------------------------------------------
def header(width: int, **values: Any) -> bytearray:
    """The header of a dump, with fields by their names in mindumpdef.h."""
    layout = mindumpdef.DumpHeader64 if width == 8 else mindumpdef.DumpHeader32
    data = bytearray(layout.size)
    data[:8] = b"PAGEDU64" if width == 8 else b"PAGEDUMP"
    machine = 0x8664 if width == 8 else 0x14C
    base = {"MachineImageType": machine, "DumpType": 4, "MinorVersion": 19041}
    for name, value in {**base, **values}.items():
        field = mindumpdef.fields(layout)[name]
        struct.pack_into("<" + field.format, data, field.offset, value)
    assert len(data) == HEADER[width]
    return data


class Mini:
    """A minidump of 0x2000 bytes behind its header: parts are put at offsets behind that."""

    def __init__(self, width: int, folder: Path, size: int = 0x2000, **values: Any) -> None:
        self.width, self.path, self.base = width, folder / "a.dmp", HEADER[width]
        layout = mindumpdef.TriageDump64 if width == 8 else mindumpdef.TriageDump32
        self.layout = mindumpdef.fields(layout)
        self.data = header(width, **values) + bytes(size)
        self.set(SizeOfDump=self.base + size, ValidOffset=self.base + size - 4)
        self.data[-4:] = b"TRGD"

    def set(self, **values: int) -> None:
        """Fields of the triage header."""
        for name, value in values.items():
            field = self.layout[name]
            struct.pack_into("<" + field.format, self.data, self.base + field.offset, value)

    def put(self, at: int, data: bytes) -> int:
        """Bytes behind the header; gives their offset in the file."""
        self.data[self.base + at : self.base + at + len(data)] = data
        return self.base + at

    def blocks(self, *blocks: tuple[int, int, int]) -> None:
        """The table of blocks, at 0x200."""
        table = b"".join(struct.pack("<QII", *block) for block in blocks)
        self.set(DataBlocksOffset=self.put(0x200, table), DataBlocksCount=len(blocks))

    def open(self, size: int | None = None) -> Any:
        """The dump, cut to a size."""
        self.path.write_bytes(self.data[:size])
        return open_dump(str(self.path))


def notes(dump: Any) -> list[tuple[str, str, Any]]:
    """(rule, text, offset) of what is odd, without the lack of tagged data."""
    found = [(one.rule, one.text, one.origin.file_offset) for one in dump.file.anomalies]
    return [note for note in found if note[0] != "secondary-data-missing"]


KERNEL = {8: 0xFFFFF80000000000, 4: 0x80000000}


@WIDTHS
def test_blocks_of_a_minidump(width: int, tmp_path: Path) -> None:
    """What lies in them is read, also across neighbours; of two at a place the first counts."""
    mini, at = Mini(width, tmp_path), KERNEL[width]
    body = mini.put(0x800, bytes(range(256)) * 4)
    stretch = 0xFFFFFFFF00000000 if width == 4 else 0
    mini.blocks(
        (stretch | (at + 0x100), body, 0x10), (stretch | (at + 0x110), body + 0x20, 0x10),
        (stretch | (at + 0x200), body, 0x20), (stretch | (at + 0x210), body + 0x80, 0x20),
        (stretch | (at + 0x210), body + 0x40, 0x10), (stretch | (at + 0x300), body, 0),
    )  # fmt: skip
    dump = mini.open()
    assert notes(dump) == []
    assert dump.blocks == [
        (at + 0x100, body, 0x10), (at + 0x110, body + 0x20, 0x10), (at + 0x200, body, 0x20),
        (at + 0x220, body + 0x90, 0x10),
    ]  # fmt: skip
    assert dump.read(at + 0x100, 0x10) == bytes(range(0x10))
    assert dump.read(at + 0x10F, 2) == b"\x0f\x20"
    assert dump.read(at + 0x11F, 1) == b"\x2f"
    assert dump.read(at + 0x21F, 2) == b"\x1f\x90"
    assert dump.read(at + 0x100, 0) == b""
    for place, size, gone in ((0xFF, 2, 0xFF), (0x11F, 2, 0x120), (0x230, 1, 0x230)):
        assert dump.read(at + place, size) == Absent(
            "not-in-dump", f"this minidump holds no memory at {at + gone:#x}",
            "a kernel or complete memory dump",
        )  # fmt: skip
    offsets = [dump.file_offset(at + place) for place in (0xFF, 0x100, 0x11F, 0x120, 0x22F)]
    assert offsets == [None, body, body + 0x2F, None, body + 0x9F]

    def pieces(start: int, size: int) -> list[tuple[int, bytes]]:
        return [(place - at, data) for place, data in dump.chunks(at + start, size)]

    first = bytes([*range(0x10), *range(0x20, 0x30)])
    second = bytes([*range(0x20), *range(0x90, 0xA0)])
    assert pieces(0, 0x1000) == [(0x100, first), (0x200, second)]
    assert pieces(0x108, 0x10) == [(0x108, first[8:0x18])]
    assert pieces(0x118, 0xF0) == [(0x118, first[0x18:]), (0x200, second[:8])]
    assert pieces(0x118, 0xE8) == [(0x118, first[0x18:])]
    assert pieces(0x120, 0xE0) == pieces(0, 0x100) == pieces(0x230, 9) == pieces(0x101, 0) == []
    assert pieces(0x11F, 1) == [(0x11F, b"\x2f")]
    assert pieces(0, 0x101) == [(0x100, b"\0")]


def test_parts_that_are_no_blocks_are_memory_too(tmp_path: Path) -> None:
    """Stack, data page and debugger data; each needs an address, a place and a byte in the file."""
    fields = [("TopOfStack", "CallStackOffset", "SizeOfCallStack"),
              ("DataPageAddress", "DataPageOffset", "DataPageSize")]  # fmt: skip
    for address, offset, size in fields:
        for left_out in (None, address, offset, size):
            mini = Mini(8, tmp_path)
            values = {address: 0xFFFFF80000001000, offset: mini.base + 0x800, size: 0x20}
            if left_out is not None:
                values[left_out] = 0
            mini.set(**values)
            wanted = [] if left_out else [(0xFFFFF80000001000, mini.base + 0x800, 0x20)]
            assert mini.open().blocks == wanted
    mini = Mini(8, tmp_path, KdDebuggerDataBlock=0xFFFFF80000005000)
    mini.set(DebuggerDataOffset=mini.base + 0x1FF0, DebuggerDataSize=0x20)
    assert mini.open().blocks == [(0xFFFFF80000005000, mini.base + 0x1FF0, 0x10)]
    mini = Mini(8, tmp_path, KdDebuggerDataBlock=0x4547415045474150)
    mini.set(DebuggerDataOffset=mini.base + 0x1FF0, DebuggerDataSize=0x20)
    assert mini.open().blocks == []
    mini = Mini(8, tmp_path)
    mini.blocks(*[(KERNEL[8] + 0x100 * place, 0x40, 1) for place in range(100)])
    assert len(mini.open().blocks) == 100


def test_blocks_behind_the_end(tmp_path: Path) -> None:
    """What is there of them is read; how many are not whole, or not listed, is told."""
    mini, at = Mini(8, tmp_path), KERNEL[8]
    end = mini.base + 0x2000
    top = (1 << 64) - 0x10
    mini.blocks(
        (at, end - 8, 8), (at + 0x100, end - 8, 9), (at + 0x200, end, 1), (top, 0x10, 0x10),
        (top, 0x10, 0x11),
    )  # fmt: skip
    dump = mini.open()
    assert dump.blocks == [(at, end - 8, 8), (at + 0x100, end - 8, 8), (top, 0x10, 0x10)]
    text = "2 of 5 data blocks lie behind the end of the file."
    assert notes(dump) == [("dump-file-cut", text, end)]
    for count, is_told in ((2, False), (3, True)):
        mini = Mini(8, tmp_path)
        mini.set(DataBlocksOffset=mini.put(0x2000 - 0x20, bytes(0x20)), DataBlocksCount=count)
        mini.set(ValidOffset=mini.put(0x100, b"TRGD"))
        told = [note[1:] for note in notes(mini.open())]
        text = f"The dump states {count} data blocks, the file has room for 2 of them."
        assert told == [(text, end - 0x20)] * is_told
    mini = Mini(8, tmp_path)
    mini.set(DataBlocksCount=1)
    text = "The dump states 1 data blocks, the file has room for 0 of them."
    assert notes(mini.open()) == [("dump-file-cut", text, 0)]


def test_more_memory_than_a_file_can_hold(tmp_path: Path) -> None:
    """Blocks that state more than twice the file are damage."""
    mini, at = Mini(8, tmp_path), KERNEL[8]
    size = mini.base + 0x2000
    for more in (0, 1):
        mini.blocks((at, 0, size), (at + 0x10000, 0, size - 1), (at + 0x20000, 0, 1 + more))
        dump = mini.open()
        assert len(dump.blocks) == 3 - more
        text = (
            f"The data blocks state more than twice the {size:,} bytes of the file; those from "
            f"{at + 0x20000:#x} on are ignored."
        )
        assert notes(dump) == [("dump-map-inconsistent", text, mini.base + 0x200)] * more


@WIDTHS
def test_end_of_a_minidump(width: int, tmp_path: Path) -> None:
    """Its mark, its stated size, and a file that ends in one of its headers."""
    mini = Mini(width, tmp_path)
    end = mini.base + 0x2000
    assert notes(mini.open()) == []
    mini.set(SizeOfDump=end + 1)
    text = f"The dump states {end + 1:,} bytes of triage data, the file has {end:,} bytes."
    assert notes(mini.open()) == [("dump-file-cut", text, end)]
    mini = Mini(width, tmp_path)
    mini.data[-1:] = b"X"
    text = (
        f"The end mark TRGD is missing at {end - 4:#x} (found b'TRGX'): the writer did not finish "
        "or the file was damaged."
    )
    assert notes(mini.open()) == [("triage-marker-missing", text, end - 4)]
    mini = Mini(width, tmp_path)
    length = 0x80 if width == 8 else 0x68
    for size in (mini.base, mini.base + length - 1):
        text = f"The file ends at {size:,} bytes, before the end of its triage header."
        dump = mini.open(size)
        assert notes(dump) == [("dump-file-cut", text, size)]
        assert (dump.modules(), dump.unloaded(), dump.stacks(), dump.blocks) == ([], [], (), [])
        assert dump.file_offset(KERNEL[width]) is None
    rules = {note[0] for note in notes(mini.open(mini.base + length))}
    assert rules == {"dump-file-cut", "triage-marker-missing"}
    size = mini.base - 1
    text = (
        f"The file ends at {size:,} bytes, inside its {mini.base:,}-byte header; only the header "
        "fields before that are known."
    )
    assert notes(mini.open(size)) == [("dump-file-cut", text, size)]


def test_place_of_the_tagged_data(tmp_path: Path) -> None:
    """Where the dump ends, else wherever its first words are."""
    blob = b"DumpBlob" + struct.pack("<II", 16, 0)
    blob += struct.pack("<I16sIII", 0x20, b"\1" * 16, 4, 0, 0) + b"data"
    for at, stated in ((0x1000, 0x1000), (0x1008, 0x1000), (0x1000, 0x2000)):
        mini = Mini(8, tmp_path)
        mini.set(SizeOfDump=mini.base + stated)
        mini.put(at, blob)
        dump = mini.open()
        assert dump.secondary_start == mini.base + at
        assert [block.offset for block in dump.tags] == [mini.base + at + 0x30]
    mini = Mini(8, tmp_path)
    mini.put(0x1000, blob)
    mini.put(0x1800, blob)
    mini.set(SizeOfDump=mini.base + 0x1800)
    assert mini.open().secondary_start == mini.base + 0x1800


def driver(
    width: int, name: int, base: int, size: int = 0x5000, stamp: int = 0x51, total: int = 0x77,
    length: int | None = None,
) -> bytes:  # fmt: skip
    """An entry of the driver list."""
    layout = TRIAGE_DRIVER[width]
    data = bytearray(layout.size if length is None else length)
    for field, value in (
        (layout.Name, name), (layout.DllBase, base), (layout.SizeOfImage, size),
        (layout.CheckSum, total), (layout.TimeDateStamp, stamp),
    ):  # fmt: skip
        struct.pack_into("<" + field.format, data, field.offset, value)
    return bytes(data)


def string(text: str) -> bytes:
    """A string of the pool."""
    return struct.pack("<I", len(text)) + text.encode("utf-16-le")


@WIDTHS
def test_drivers_of_a_minidump(width: int, tmp_path: Path) -> None:
    """Whole rows, whatever the length of an entry; what is empty or nameless is told."""
    layout, base = TRIAGE_DRIVER[width], KERNEL[width]
    least = layout.TimeDateStamp.offset + 4
    for length in (least, least + 8, layout.size + 8, 0x200):
        mini = Mini(width, tmp_path)
        pool = mini.base + 0x400 + 3 * length
        names = string("\\SystemRoot\\a.sys"), string("b.sys")
        mini.put(pool - mini.base, b"".join(names))
        mini.put(0x400, driver(width, pool, base, stamp=0xABC, length=length)
                 + driver(width, pool, 0, length=length)
                 + driver(width, pool + len(names[0]), base + 0x9000, length=length))  # fmt: skip
        mini.set(DriverListOffset=mini.base + 0x400, DriverCount=3, StringPoolOffset=pool)
        dump = mini.open()
        how, first = "driver list of the minidump", mini.base + 0x400
        wanted = [
            loaded.module(name, at, 0x5000, stamp, 0x77, order,
                          Origin(str(mini.path), how, "certain", first + order * length))
            for name, at, stamp, order in (
                ("a.sys", base, 0xABC, 0), ("b.sys", base + 0x9000, 0x51, 2)
            )
        ]  # fmt: skip
        assert dump.modules() == wanted
        assert [row.image_key for row in wanted] == ["00000ABC5000", "000000515000"]
        text = "1 of 3 driver list entries are empty."
        assert notes(dump) == [("modules-incomplete", text, mini.base + 0x400)]
    for pool_at in (0, 0x400 + least - 1, 0x400 + 0x201):
        mini = Mini(width, tmp_path)
        mini.put(0x400, driver(width, mini.put(0x900, string("a.sys")), base))
        mini.set(DriverListOffset=mini.base + 0x400, DriverCount=1)
        mini.set(StringPoolOffset=mini.base + pool_at)
        assert [row.time_date_stamp for row in mini.open().modules()] == [0x51]
    for field in ("DriverListOffset", "DriverCount"):
        mini = Mini(width, tmp_path)
        mini.put(0x400, driver(width, mini.put(0x900, string("a.sys")), base))
        mini.set(DriverListOffset=mini.base + 0x400, DriverCount=1)
        mini.set(**{field: 0})
        assert (mini.open().modules(), notes(mini.open())) == ([], [])


@WIDTHS
def test_a_list_of_drivers_at_the_end(width: int, tmp_path: Path) -> None:
    """As many as there is room for."""
    length = TRIAGE_DRIVER[width].size
    for count in (2, 3):
        mini = Mini(width, tmp_path)
        at = mini.put(0x2000 - 2 * length - 8, driver(width, 0, 0x1000) * 2)
        mini.set(DriverListOffset=at, DriverCount=count)
        told = [note[1] for note in notes(mini.open())]
        text = f"The driver list states {count} drivers, the file has room for 2."
        nameless = (
            "The driver list has 2 modules, and the names of 2 cannot be read (the name at 0x0 "
            "lies outside the file): which drivers they are is not known."
        )
        assert told == ([text] if count == 3 else []) + [nameless]


def test_names_of_the_string_pool(tmp_path: Path) -> None:
    """Up to 1,024 characters, all of them in the file."""
    mini = Mini(8, tmp_path)
    end = mini.base + 0x2000
    for at, text in ((0x600, "x" * 1024), (0x1000, "y" * 1025), (0x1900, ""), (0x1980, "\0\0")):
        mini.put(at, string(text))
    mini.put(0x1F00, string("last"))
    mini.data[-4:] = struct.pack("<I", 0)
    dump = mini.open()
    for at, wanted in (
        (mini.base + 0x600, "x" * 1024),
        (mini.base + 0x1000, "the name at 0x3000 states 1025 characters"),
        (mini.base + 0x1900, "there is no name at 0x3900"),
        (mini.base + 0x1980, "there is no name at 0x3980"),
        (mini.base + 0x1F00, "last"),
        (end - 4, f"there is no name at {end - 4:#x}"),
        (end - 3, f"the name at {end - 3:#x} lies outside the file"),
        (0, "the name at 0x0 lies outside the file"),
    ):
        assert str(dump._pool_string(at)) == wanted
    for units, is_name in ((2, True), (3, False)):
        mini.data[-8:] = struct.pack("<I", units) + b"a\0b\0"
        found = mini.open()._pool_string(end - 8)
        assert found == ("ab" if is_name else Absent(
            "out-of-range", f"the name at {end - 8:#x} states 3 characters"))  # fmt: skip


def unloaded_entry(width: int, name: str, start: int, end: int, length: int | None = None) -> bytes:
    """An entry of a minidump's list of unloaded drivers."""
    layout = UNLOADED_TRIAGE[width]
    data = bytearray(layout.size)
    raw = name.encode("utf-16-le")
    for field, value in (
        (layout.Length, len(raw) if length is None else length), (layout.Name, raw),
        (layout.StartAddress, start), (layout.EndAddress, end),
    ):  # fmt: skip
        struct.pack_into("<" + field.format, data, field.offset, value)
    return bytes(data)


@WIDTHS
def test_unloaded_drivers_of_a_minidump(width: int, tmp_path: Path) -> None:
    """Whole rows; what cannot be a range is left out, and 50 are the most."""
    layout = UNLOADED_TRIAGE[width]
    form = "<Q" if width == 8 else "<I"
    far = 0x1000 + (1 << 31)
    entries = [
        ("a.sys", 0x1000, 0x3000, None), ("dump_storpor", 0x1000, far, None), ("", 1, 2, None),
        ("none", 0x2000, 0x2000, None), ("none", 0x2001, 0x2000, None),
        ("none", 0x1000, far + 1, None), ("none", 0, 0, None), ("odd", 5, 6, 5),
        ("longer", 7, 8, 99),
    ]  # fmt: skip
    mini = Mini(width, tmp_path)
    body = struct.pack(form, len(entries))
    body += b"".join(unloaded_entry(width, *entry) for entry in entries)
    mini.set(UnloadedDriversOffset=mini.put(0x400, body))
    stamp = Absent("not-recorded", "the list of unloaded drivers keeps no time stamp")
    total = Absent("not-recorded", "the list of unloaded drivers keeps no checksum")
    how = "unloaded driver list of the minidump (names cut to 12 letters)"

    def row(place: int, name: Any, start: int, size: int) -> Module:
        at = mini.base + 0x400 + width + place * layout.size
        origin = Origin(str(mini.path), how, "certain", at)
        return loaded.module(name, start, size, stamp, total, None, origin, is_loaded=False)

    found = mini.open().unloaded()
    assert found[:-1] == [
        row(0, "a.sys", 0x1000, 0x2000), row(1, "dump_storpor", 0x1000, 1 << 31),
        row(2, Absent("unset", "the name is empty"), 1, 1), row(7, "od", 5, 1),
    ]  # fmt: skip
    assert found[-1]._replace(name="") == row(8, "", 7, 1)
    assert str(found[-1].name).startswith("longer\0")
    assert len(str(found[-1].name)) == 12
    many = unloaded_entry(width, "a", 0x1000, 0x2000) * 52
    for count in (1, 2, 50):
        mini.set(UnloadedDriversOffset=mini.put(0x400, struct.pack(form, count) + many))
        assert len(mini.open().unloaded()) == count
    for count in (50, 51):
        mini.set(UnloadedDriversOffset=mini.put(0x400, struct.pack(form, count) + many))
        assert len(mini.open().unloaded()) == 50
    for at, count in (
        (0x2000 - layout.size, 0), (0x2000 - layout.size + 1, 0), (0x2000 - layout.size - width, 1),
        (0x2000 - 2 * layout.size - width, 2),
    ):  # fmt: skip
        mini.data[mini.base + 0x400 :] = bytes(0x1C00)
        mini.set(UnloadedDriversOffset=mini.put(at, (struct.pack(form, 5) + many)[: 0x2000 - at]))
        assert len(mini.open().unloaded()) == count
    mini.set(UnloadedDriversOffset=0)
    assert mini.open().unloaded() == []


def test_stack_of_a_minidump(tmp_path: Path) -> None:
    """Two pages below its top in use, and a bounded length."""
    for top, size, wanted in (
        (0, 0x100, ()),
        (0x1000, 0x100, (StackRegion(0, 0x1100, "crash stack"),)),
        (0x9000, 0x100, (StackRegion(0x7000, 0x9100, "crash stack"),)),
        (0x9000, (1 << 20) + 1, (StackRegion(0x7000, 0x9000 + (1 << 20), "crash stack"),)),
    ):
        mini = Mini(8, tmp_path)
        mini.set(TopOfStack=top, SizeOfCallStack=size)
        assert mini.open().stacks() == wanted


# ---- the header ---------------------------------------------------------------------------------
def opened(tmp_path: Path, data: bytes) -> Any:
    """A dump of a header alone."""
    (tmp_path / "a.dmp").write_bytes(data)
    return open_dump(str(tmp_path / "a.dmp")).file


def test_what_the_writer_says_at_the_end(tmp_path: Path) -> None:
    """The last line, the revision and what is not known, only where they can be true."""
    none = Absent("not-recorded", "Windows writes it since Windows 11")

    def told(line: bytes = b"Progress 0x42", build: str = "22621", flags: int = 0x1000,
             words: tuple[int, ...] = ()) -> Any:  # fmt: skip
        data = header(8, DumpType=3, MinorVersion=22621, Attributes=flags)
        data[0x11F0 : 0x11F0 + 256] = line.ljust(256, b"\0")
        data[0x12F0:0x1300] = build.encode("utf-16-le").ljust(16, b"\0")
        struct.pack_into("<I", data, 0x1300, 2861)
        struct.pack_into(f"<{len(words)}I", data, 0x1060, *words)
        return opened(tmp_path, bytes(data)).diagnosis

    line = "Progress 0x42"
    assert told() == (line, 2861, ())
    assert told(build="22622") == (line, none, ())
    assert told(words=(0, 7, 0, 9)) == (line, 2861, ((0x1064, 7), (0x106C, 9)))
    assert told(words=(0,) * 99 + (5,)) == (line, 2861, ((0x11EC, 5),))
    assert told(words=(0,) * 100) == (line, 2861, ())
    assert told(words=(7, 0x45474150)) == (line, 2861, ())
    for bad in (b"", b"  ", b"Progress 0x4", b"Progress \x07 0x42", b"Progress 0x4\xe4",
                b"PAGEPAGE of no line"):  # fmt: skip
        assert told(bad) == (none, none, ())
    assert told(b"PAGE of a longer line")[0] == "PAGE of a longer line"
    assert told(b"  Progress 0x42 \0x")[0] == line
    for flags in (0, 0xFFF, 0x45474150):
        assert told(flags=flags) == (none, none, ())


def test_header_that_contradicts_itself(tmp_path: Path) -> None:
    """Machine and width; PAE by its byte; the registers of the context."""
    for width, machine, pae, name in (
        (8, 0x8664, 0, "x64"), (8, 0xAA64, 0, "arm64"), (4, 0x14C, 0, "x86"),
        (4, 0x14C, 1, "x86-pae"), (4, 0x14C, 2, "x86"),
    ):  # fmt: skip
        fields = {"PaeEnabled": pae} if width == 4 else {}
        file = opened(
            tmp_path, bytes(header(width, MachineImageType=machine, DumpType=3, **fields))
        )
        assert (file.architecture, file.anomalies, file.register("ip")) == (name, [], 0)
    for width, machine in ((8, 0x14C), (4, 0x8664), (8, 0)):
        file = opened(tmp_path, bytes(header(width, MachineImageType=machine, DumpType=3)))
        text = f"machine type {machine:#x} in a {8 * width}-bit header"
        assert file.architecture == file.register("sp") == Absent("out-of-range", text)
        offset = file.layout.MachineImageType.offset
        assert [(one.rule, one.text, one.origin.file_offset) for one in file.anomalies] == [(
            "dump-map-inconsistent",
            f"The header contradicts itself: {text}; its memory is read by what fits.", offset,
        )]  # fmt: skip
    data = header(8, DumpType=3)
    struct.pack_into("<Q", data, 0x348 + 0xF8, 0x1234)
    struct.pack_into("<Q", data, 0x348 + 0x98, 0x5678)
    file = opened(tmp_path, bytes(data))
    assert (file.register("ip"), file.register("sp")) == (0x1234, 0x5678)


def test_fields_that_were_not_filled_in(tmp_path: Path) -> None:
    """They hold PAGE; those that matter are told by name."""
    data = header(8, DumpType=3, MinorVersion=0x45474150, BugCheckCode=0x45474150)
    file = opened(tmp_path, bytes(data))
    build, code = (
        mindumpdef.DumpHeader64.fields[n].offset for n in ("MinorVersion", "BugCheckCode")
    )
    unset = Absent("unset", f"the header field at {code:#x} still holds PAGE")
    assert file.fields["BugCheckCode"] == unset
    (note,) = file.anomalies
    assert (note.rule, note.origin.file_offset) == ("header-field-unset", build)
    assert note.text == (
        "The header fields MinorVersion, BugCheckCode were never filled in (they still hold PAGE)."
    )
    assert [one.label for one in note.evidence] == ["MinorVersion", "BugCheckCode"]
    place = mindumpdef.DumpHeader64.fields["RequiredDumpSpace"].offset
    cut = Absent("file-cut", f"the file ends before header offset {place:#x}")
    for size, value in ((8, 0), (7, cut)):
        file = opened(tmp_path, bytes(header(8, DumpType=3)[: place + size]))
        assert file.fields["RequiredDumpSpace"] == value


def test_shortest_file(tmp_path: Path) -> None:
    """0x60 bytes, which are not all zeros."""
    data = bytes(header(8, DumpType=3)[:0x5F])
    with pytest.raises(InputError) as caught:
        opened(tmp_path, data)
    assert "at least 96 bytes" in str(caught.value)
    assert opened(tmp_path, data + b"\0").size == 0x60
    with pytest.raises(InputError):
        opened(tmp_path, b"PAGEDU64" + bytes(0x100))


# ---- a dump of memory by hand -------------------------------------------------------------------
class Dump(KernelDump):
    """A dump whose memory is written by hand."""

    def __init__(self, width: int = 8, build: Any = 19041, **fields: Any) -> None:
        file = MachineFile("memory")
        file.pointer_size = width
        file.architecture = "x64" if width == 8 else "x86"
        file.fields = {"MinorVersion": build, "NumberProcessors": 2, **fields}
        super().__init__(file)
        self.memory = Memory(width)
        self.sp: Any = Absent("unset")
        file.register = lambda _: self.sp  # type: ignore[method-assign]
        self.context = b""
        file.context_record = lambda: self.context  # type: ignore[attr-defined]
        file.layout = mindumpdef.DumpHeader64 if width == 8 else mindumpdef.DumpHeader32  # type: ignore[attr-defined]

    def read(self, address: int, size: int) -> bytes | Absent:
        """From the memory."""
        return self.memory.read(address, size)

    def debugger(self, size: int = 0x340, **values: int) -> None:
        """The debugger's block, with fields by name."""
        at = POOL[self.pointer_size] + 0x40000 - size
        data = bytearray(size)
        data[0x10:0x14] = b"KDBG"
        for name, value in values.items():
            field = getattr(mindumpdef.DEBUGGER_DATA, name)
            if field.offset + field.size <= size:
                struct.pack_into("<" + field.format, data, field.offset, value)
        self.memory.write(at, bytes(data))
        self.file.fields["KdDebuggerDataBlock"] = at


def told(dump: KernelDump) -> list[tuple[str, str]]:
    """(subject, text) of what is odd."""
    return [(one.subject, one.text) for one in dump.file.anomalies]


# ---- the list of modules ------------------------------------------------------------------------
class Modules:
    """nt's list of modules in the memory of a dump."""

    def __init__(self, count: int, width: int = 8, build: int = 19041) -> None:
        self.head = POOL[width]
        self.dump = Dump(width, build, PsLoadedModuleList=self.head)
        self.layout = KLDR[width]
        self.width = width
        self.entries = [POOL[width] + 0x1000 * (place + 1) for place in range(count)]
        for place, entry in enumerate(self.entries):
            self.entry(place, entry)
        links = [self.head, *self.entries]
        for here, there in zip(links, links[1:] + links[:1]):
            self.dump.memory.put(here, there)
            self.dump.memory.put(there + width, here)

    def entry(self, place: int, entry: int) -> None:
        """One module: its image at 0x10000 * place."""
        name = f"m{place}.sys"
        for field, value in (
            (self.layout.DllBase, 0x100000 + 0x10000 * place), (self.layout.SizeOfImage, 0x5000),
            (self.layout.CheckSum, 0x77), (self.layout.TimeDateStamp, 0x51 + place),
        ):  # fmt: skip
            self.write(entry, field, value)
        self.name(entry, self.layout.BaseDllName, name, 0x400)

    def write(self, entry: int, field: Any, value: int) -> None:
        """A field of an entry."""
        self.dump.memory.write(entry + field.offset, struct.pack("<" + field.format, value))

    def name(self, entry: int, field: Any, text: str, at: int, length: int | None = None) -> None:
        """A UNICODE_STRING of an entry."""
        raw = text.encode("utf-16-le")
        size = len(raw) if length is None else length
        form = "<HHIQ" if self.width == 8 else "<HHI"
        values = [size, size, 0, entry + at] if self.width == 8 else [size, size, entry + at]
        self.dump.memory.write(entry + field.offset, struct.pack(form, *values))
        if raw:
            self.dump.memory.write(entry + at, raw)

    def found(self) -> list[Any]:
        """The names of the modules."""
        return [row.name for row in loaded.loaded_modules(self.dump)]


@WIDTHS
def test_whole_rows_of_modules(width: int) -> None:
    """In load order, with what the entry says."""
    mine = Modules(2, width)
    how = "entry of nt's loaded module list"
    assert loaded.loaded_modules(mine.dump) == [
        Module(
            f"m{place}.sys", 0x100000 + 0x10000 * place, 0x105000 + 0x10000 * place, 0x5000, None,
            None, True, 0x51 + place, 0x77, f"{0x51 + place:08X}5000", None, None, place,
            Origin("memory", how, "certain", None, entry),
        )
        for place, entry in enumerate(mine.entries)
    ]  # fmt: skip
    assert told(mine.dump) == []


def test_a_list_of_modules_that_breaks() -> None:
    """The rest is read from its end; where it broke is told."""
    subject = "PsLoadedModuleList"

    def text(count: int, why: str, more: int) -> list[tuple[str, str]]:
        line = f"Nt's module list breaks after {count} modules ({why}); {more} more were found "
        line += "from its end, others may be missing."
        return [(subject, line)]

    mine = Modules(4)
    mine.dump.memory.put(mine.entries[1], mine.entries[0])
    why = f"the link to {mine.entries[0]:#x} closes a loop that misses the head"
    assert mine.found() == ["m0.sys", "m1.sys", "m2.sys", "m3.sys"]
    assert told(mine.dump) == text(2, why, 2)
    mine = Modules(4)
    mine.dump.memory.dropped.add(mine.entries[1] >> 12)
    why = f"the entry at {mine.entries[1]:#x} cannot be read: dropped ({mine.entries[1]:#x})"
    assert mine.found() == ["m0.sys", "m2.sys", "m3.sys"]
    assert told(mine.dump) == text(1, why, 2)
    mine = Modules(3)
    mine.write(mine.entries[0], mine.layout.DllBase, 0)
    why = f"the entry at {mine.entries[0]:#x} has no image base"
    assert mine.found() == ["m1.sys", "m2.sys"]
    assert told(mine.dump) == text(0, why, 2)
    mine = Modules(0)
    assert (mine.found(), told(mine.dump)) == ([], [])
    mine.dump.memory.pages.clear()
    assert mine.found() == []
    head = mine.head
    text_ = f"The head of nt's module list at {head:#x} cannot be read: nothing at {head:#x}."
    assert told(mine.dump) == [(subject, text_)]
    for flags, count in ((0x100, 0), (0x301, 0), (0x200, 1), (0x8FF, 1)):
        mine = Modules(0)
        mine.dump.memory.pages.clear()
        mine.dump.file.fields["Attributes"] = flags
        assert (mine.found(), len(told(mine.dump))) == ([], count)
    mine = Modules(1)
    mine.dump.file.fields["Attributes"] = 0x100
    assert mine.found() == ["m0.sys"]


@pytest.mark.parametrize("count", [3, 4])
def test_longest_list_of_modules(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is behind the bound is told."""
    monkeypatch.setattr(loaded, "MAX_MODULES", 3)
    mine = Modules(count)
    assert mine.found() == [f"m{place}.sys" for place in range(count)]
    assert [text[:57] for _, text in told(mine.dump)] == (
        [] if count == 3 else ["Nt's module list breaks after 3 modules (more than 3 entr"]
    )


def test_names_of_modules() -> None:
    """The full name where the short one is missing; damage has its reason."""
    mine = Modules(7)
    base, full = mine.layout.BaseDllName, mine.layout.FullDllName
    path = "\\SystemRoot\\x.sys"
    for place in (0, 1):
        mine.name(mine.entries[place], full, path, 0x600)
    mine.name(mine.entries[0], base, "", 0x400)
    mine.dump.memory.write(mine.entries[1] + base.offset, struct.pack("<HHIQ", 2, 2, 0, 0x1000))
    mine.dump.memory.write(mine.entries[2] + base.offset, struct.pack("<HHIQ", 2, 2, 0, 0x1000))
    mine.name(mine.entries[3], base, "\0\0", 0x400)
    mine.name(mine.entries[4], base, "x" * 1024, 0x400)
    mine.name(mine.entries[5], base, "x" * 1025, 0x400)
    mine.name(mine.entries[6], base, "", 0x400)
    assert mine.found() == [
        "x.sys", "x.sys", Absent("not-mapped", "nothing at 0x1000"),
        Absent("not-found", "there are zeros where the name should be"), "x" * 1024,
        Absent("out-of-range", "the name states 1025 characters"), Absent("not-found", "empty"),
    ]  # fmt: skip
    text = (
        "The module list of nt has 7 modules, and the names of 4 cannot be read (nothing at "
        "0x1000): which drivers they are is not known."
    )
    assert told(mine.dump) == [("names of modules", text)]
    mine = Modules(1)
    mine.name(mine.entries[0], base, "", 0x400)
    assert mine.found() == [Absent("not-found", "empty")]
    assert told(mine.dump)[0][1].startswith(
        "The module list of nt has 1 modules, and the name of 1 cannot be read (empty)"
    )


def test_time_stamps_of_old_builds() -> None:
    """Before 10240 out of the image."""
    for build, stamp in ((10239, 0xBEEF), (10240, 0x51)):
        mine = Modules(1, build=build)
        at = 0x100000
        mine.dump.memory.write(at, b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x1000))
        mine.dump.memory.write(at + 0x1000, struct.pack("<4sII", b"PE\0\0", 0, 0xBEEF))
        (row,) = loaded.loaded_modules(mine.dump)
        assert (row.time_date_stamp, row.image_key) == (stamp, f"{stamp:08X}5000")
    dump = mine.dump

    def stamp_of(place: int = 0x80, start: bytes = b"MZ", head: bytes = b"PE\0\0") -> Any:
        dump.memory.write(at, start.ljust(0x3C, b"\0") + struct.pack("<I", place))
        dump.memory.write(at + min(place, 0x1000), struct.pack("<4sII", head, 0, 0x1234))
        return loaded.image_time_stamp(dump, at)

    assert stamp_of() == 0x1234
    assert stamp_of(start=b"XZ") == Absent("not-found", f"no MZ image at {at:#x}")
    assert stamp_of(head=b"PE\0\1") == Absent("not-found", f"no PE header at {at + 0x80:#x}")
    text = "the PE header is stated 0x1001 bytes into the image"
    assert stamp_of(0x1001) == Absent("out-of-range", text)
    assert loaded.image_time_stamp(dump, 0x7000) == Absent("not-mapped", "nothing at 0x7000")
    edge = 0x900000
    dump.memory.write(edge - 0x40, bytes(0x40))
    none = Absent("not-found", f"no MZ image at {edge - 0x40:#x}")
    assert loaded.image_time_stamp(dump, edge - 0x40) == none
    dump.memory.write(edge - 0x80, b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x74))
    dump.memory.write(edge - 12, struct.pack("<4sII", b"PE\0\0", 0, 0x4321))
    assert loaded.image_time_stamp(dump, edge - 0x80) == 0x4321
    origin = Origin("memory", "x")
    none = Absent("not-recorded", "no time stamp of the image")
    for stamp, size, key in ((0, 0x5000, "000000005000"), (1, 0, none), (none, 5, none)):
        row = loaded.module("a", 0, size, stamp, 0, None, origin)
        assert row.image_key == key


@WIDTHS
def test_whole_rows_of_unloaded_drivers(width: int) -> None:
    """In the order of the array, up to its first missing entry; no names, no row."""
    dump, layout, pool = Dump(width), UNLOADED[width], POOL[width]
    high = 0xFFFFFFFF00000000 if width == 4 else 0
    dump.debugger(MmUnloadedDrivers=high | (pool + 0x10000))
    assert loaded.unloaded_modules(dump) == []
    array = pool + 0x12000 - 6 * layout.size
    dump.memory.put(pool + 0x10000, array)
    far = 0x1000 + (1 << 31)
    rows = [("a.sys", 0x1000, 0x3000), ("", 0x1000, 0x2000), ("b.sys", 0, 0x2000),
            ("c.sys", 0x2000, 0x2000), ("d.sys", 0x1000, far),
            ("e.sys", 0x1000, far + 1)]  # fmt: skip
    for place, (name, start, end) in enumerate(rows):
        at, raw = array + place * layout.size, name.encode("utf-16-le")
        text = pool + 0x14000 + 0x100 * place
        if raw:
            dump.memory.write(text, raw)
        form, more = ("<HHIQ", [0]) if width == 8 else ("<HHI", [])
        dump.memory.write(at, struct.pack(form, len(raw), len(raw), *more, text))
        for field, value in ((layout.StartAddress, start), (layout.EndAddress, end)):
            dump.memory.write(at + field.offset, struct.pack("<" + field.format, value))
    stamp = Absent("not-recorded", "the list of unloaded drivers keeps no time stamp")
    total = Absent("not-recorded", "the list of unloaded drivers keeps no checksum")
    how = "entry of nt's unloaded driver list"
    dump.memory.pages.pop((pool + 0x12000) >> 12, None)
    assert loaded.unloaded_modules(dump) == [
        loaded.module(name, 0x1000, size, stamp, total, None,
                      Origin("memory", how, "certain", None, array + place * layout.size),
                      is_loaded=False)
        for place, name, size in ((0, "a.sys", 0x2000), (4, "d.sys", 1 << 31))
    ]  # fmt: skip
    dump.memory.put(pool + 0x10000, 0)
    assert loaded.unloaded_modules(dump) == []


def test_most_unloaded_drivers_and_longest_name() -> None:
    """50, as nt keeps them; 1,024 characters."""
    dump, layout, pool = Dump(), UNLOADED[8], POOL[8]
    dump.debugger(MmUnloadedDrivers=pool + 0x10000)
    dump.memory.put(pool + 0x10000, pool)
    dump.memory.write(pool + 0x14000, b"x\0" * 1025)
    for place in range(51):
        size = (2048, 2050, 8)[min(place, 2)]
        dump.memory.write(pool + place * layout.size, struct.pack(
            "<HHIQQQ", size, size, 0, pool + 0x14000, 0x1000, 0x2000))  # fmt: skip
    names = [row.name for row in loaded.unloaded_modules(dump)]
    assert len(names) == 50
    cut = Absent("out-of-range", "the name states 1025 characters")
    assert names[:3] == ["x" * 1024, cut, "xxxx"]


# ---- what every dump has ------------------------------------------------------------------------
def test_debugger_data() -> None:
    """Whole, or the part before the structure offsets; with its tag."""
    dump = Dump()
    unset = Absent("not-recorded", "this kind of file has no such field")
    assert dump.debugger_data() == dump.build_lab() == unset
    for size in (0x340, 0x298):
        dump = Dump()
        dump.debugger(size, KernBase=7)
        at = POOL[8] + 0x40000 - size
        found = dump.debugger_data()
        assert isinstance(found, bytes)
        assert (len(found), found[0x18]) == (size, 7)
        dump.memory.write(at + 0x10, b"KDBX")
        text = f"no KDBG tag at {at:#x}; the block may be encoded"
        assert dump.debugger_data() == Absent("not-found", text)
    dump = Dump()
    dump.debugger(0x290)
    assert dump.debugger_data() == Absent("not-mapped", f"nothing at {POOL[8] + 0x40000:#x}")


@WIDTHS
def test_text_of_the_build(width: int) -> None:
    """Up to its zero, and only what can be shown."""
    dump, at = Dump(width), POOL[width] + 0x1000
    high = 0xFFFFFFFF00000000 if width == 4 else 0
    dump.debugger(NtBuildLab=high | at)
    assert dump.build_lab() == Absent("not-mapped", f"nothing at {at:#x}")
    none = Absent("out-of-range", "NtBuildLab is no text")
    for text, found in (
        (b"19041.vb\0x", "19041.vb"), (b"\0", none), (b"a\x07", none), (b"x" * 99, "x" * 64),
    ):  # fmt: skip
        dump.memory.write(at, text + b"\0")
        assert dump.build_lab() == found


TOLD = {"Comment": b"", "DumpType": 6, "BugCheckCode": 0xD1, "Attributes": 0}
SLICE = b"dumpstart slice type=%s"


@pytest.mark.parametrize(
    ("changes", "writer"),
    [
        ({}, "a debugger, a hypervisor or a tool"),
        ({"MinorVersion": 9600}, "a debugger, a hypervisor or a tool"),
        ({"MinorVersion": 9599}, ""),
        ({"MinorVersion": Absent("unset")}, ""),
        ({"DumpType": Absent("unset")}, ""),
        ({"DumpType": 99}, ""),
        ({"DumpType": 1}, "a debugger, a hypervisor or a tool"),
        ({"Attributes": 0x10}, ""),
        ({"BugCheckCode": 0x161}, ""),
        ({"BugCheckCode": 0x4D415454},
         "a tool that takes memory of a running machine (bugcheck code 'MATT')"),
        ({"BugCheckCode": 0x4D415454, "MinorVersion": 1},
         "a tool that takes memory of a running machine (bugcheck code 'MATT')"),
        ({"Comment": b"Hello from elf2dmp!\0"},
         "elf2dmp, of a memory snapshot of a virtual machine"),
        ({"Comment": b"x Hello from elf2dmp!"}, "a debugger, a hypervisor or a tool"),
        ({"Comment": Absent("unset")}, "a debugger, a hypervisor or a tool"),
        ({"Comment": SLICE % b"0 pages=1/0"}, "dumpstart, of a memory snapshot"),
        ({"Comment": SLICE % b"6 pages=1/2"}, "a debugger, a hypervisor or a tool"),
        ({"Comment": SLICE % b"6 pages=1/2 redacted"}, "a debugger, a hypervisor or a tool"),
        ({"Comment": SLICE % b"6 pages=1/2 cut"}, ""),
        ({"Comment": SLICE % b"6 pages=1/2 pages-only"}, ""),
    ],
)  # fmt: skip
def test_who_wrote_a_dump(changes: dict[str, Any], writer: str) -> None:
    """Another than Windows only by its mark, or where crashdmp's own block is missing."""
    assert other_writer(Dump(**{**TOLD, **changes})) == writer


def test_a_damaged_dump_may_have_lost_what_tells_its_writer() -> None:
    """Nothing is said of it, nor of one with a block of Windows; other oddities do not count."""
    for rule, is_told in (
        ("dump-file-cut", False), ("triage-marker-missing", False),
        ("dump-map-inconsistent", False), ("dump-bitmap-count-mismatch", False),
        ("secondary-data-damaged", False), ("header-field-unset", False),
        ("modules-incomplete", True), ("secondary-data-missing", True),
    ):  # fmt: skip
        dump = Dump(**TOLD)
        dump.file.note("modules-incomplete", "something")
        dump.file.note(rule, "something else")
        assert bool(other_writer(dump)) is is_told
    dump = Dump(**TOLD)
    dump.tags = [Block("x", 0, 0, 0)]
    assert other_writer(dump) == ""


@pytest.mark.parametrize("kind", [0, 3, 7, 11])
def test_dumps_without_memory(kind: int, tmp_path: Path) -> None:
    """A header alone says its type; a type that no file should state is told."""
    data = bytes(header(8, DumpType=kind)) + bytes(16)
    (tmp_path / "a.dmp").write_bytes(data)
    dump = open_dump(str(tmp_path / "a.dmp"))
    names = {3: "header only", 7: "automatic"}
    assert dump.subtype() == names.get(kind, Absent("out-of-range", f"dump type {kind}"))
    named = (
        " (automatic, a setting that no file should state)" if kind == 7 else ", which is unknown"
    )
    offset = mindumpdef.DumpHeader64.fields["DumpType"].offset
    text = f"The header states dump type {kind}{named}; no memory is read."
    wanted = [] if kind == 3 else [("dump-map-inconsistent", text, offset)]
    assert notes(dump) == wanted
    assert (dump.modules(), dump.unloaded(), dump.stacks()) == ((), (), ())
    assert dump.file_offset(0x1000) is None
    assert dump.file_field("DumpType") == offset
    gone = Absent("not-in-dump", "this dump holds no memory", "a kernel or complete dump")
    assert dump.read(0x1000, 4) == gone


def test_tagged_data_of_a_dump(tmp_path: Path) -> None:
    """What is wrong with it, and the blocks of one tag."""
    data = bytes(header(8, DumpType=3)) + b"DumpBlob" + struct.pack("<II", 16, 0)
    for number, text in ((1, b"one"), (2, b"two"), (1, b"three")):
        data += struct.pack("<I16sIII", 0x20, bytes([number]) * 16, len(text), 0, 0) + text

    def told(start: int, size: int | None = None) -> tuple[Any, list[tuple[str, str, Any]]]:
        (tmp_path / "a.dmp").write_bytes(data[:size])
        dump = open_dump(str(tmp_path / "a.dmp"))
        dump.read_secondary(start)
        notes = [(one.rule, one.text, one.origin.file_offset) for one in dump.file.anomalies]
        return dump, notes

    dump, found = told(0x2000)
    assert (found, dump.secondary_start) == ([], 0x2000)
    guid = "01010101-0101-0101-0101-010101010101"
    assert [bytes(held) for _, held in dump.tag_data(guid)] == [b"one", b"three"]
    end = len(data)
    text = f"The file ends at {end:,} bytes, before any secondary data (expected at {end:#x})."
    dump, found = told(end)
    assert found == [("secondary-data-missing", text, end)]
    assert dump.secondary_start == Absent("not-found", "no DumpBlob")
    text = "The secondary data does not start with DumpBlob."
    assert told(0x2001)[1] == [("secondary-data-missing", text, 0x2001)]
    (note,) = told(0x2000, -1)[1]
    assert (note[0], note[2]) == ("secondary-data-damaged", end - 0x25)


# ---- processors ---------------------------------------------------------------------------------
class Machine:
    """Processors of a dump: blocks at pool + 0x1000 * number, threads, stacks, contexts."""

    def __init__(self, count: int = 2, width: int = 8, size: int = 0x340, **values: Any) -> None:
        pool = self.pool = POOL[width]
        self.width, self.kind = width, "x64" if width == 8 else "x86"
        self.dump = Dump(width, NumberProcessors=count, **values)
        high = 0xFFFFFFFF00000000 if width == 4 else 0
        self.fields = {
            "KiProcessorBlock": high | pool, "OffsetPrcbCurrentThread": 8,
            "OffsetKThreadInitialStack": 0x28, "OffsetPrcbProcStateContext": 0x100,
            "OffsetPrcbContext": 0x80,
        }  # fmt: skip
        self.dump.debugger(size, **self.fields)
        self.dump.memory.write(pool, bytes(0x1000))
        self.prcbs = [pool + 0x1000 * (n + 1) for n in range(count)]
        self.threads = [pool + 0x20000 + 0x100 * n for n in range(count)]
        self.tops = [pool + 0x100000 + 0x10000 * (n + 1) for n in range(count)]
        self.size = 0x6000 if width == 8 else 0x3000
        for n in range(count):
            self.put(pool + width * n, self.prcbs[n])
            self.dump.memory.write(self.prcbs[n], bytes(0x1000))
            self.put(self.prcbs[n] + 8, self.threads[n])
            self.put(self.prcbs[n] + 8 + 2 * width, self.threads[n] if n else 0x10)
            self.put(self.threads[n] + 0x28, self.tops[n])

    def put(self, address: int, word: int) -> None:
        """A pointer."""
        self.dump.memory.put(address, word)

    def registers(self, ip: int, sp: int) -> dict[str, int]:
        """A register set."""
        names = ("rip", "rsp") if self.width == 8 else ("eip", "esp")
        return {**dict.fromkeys(CONTEXTS[self.kind].registers, 0), names[0]: ip, names[1]: sp}

    def record(self, ip: int, sp: int, flags: int | None = None) -> bytes:
        """A CONTEXT."""
        layout = CONTEXTS[self.kind]
        data = bytearray(layout.size)
        struct.pack_into("<I", data, layout.flags, layout.is_of | 1 if flags is None else flags)
        for name, value in self.registers(ip, sp).items():
            struct.pack_into("<" + layout.format, data, layout.registers[name], value)
        return bytes(data)

    def caught(self) -> list[tuple[Any, ...]]:
        """Register sets, the origin as (how, confidence, address)."""
        return [
            (*one[:2], (one.origin.how, one.origin.confidence, one.origin.address), *one[3:])
            for one in contexts.caught(self.dump)
        ]


@WIDTHS
def test_stacks_of_processors(width: int) -> None:
    """Each once; and that of the crash where none of these is it."""
    mine = Machine(3, width)
    regions = [
        StackRegion(top - mine.size, top, f"processor {n}") for n, top in enumerate(mine.tops)
    ]
    dump = mine.dump
    assert processors.stacks(dump) == regions
    for sp in (mine.tops[1] - mine.size, mine.tops[1] - 1):
        dump.sp = sp
        assert processors.stacks(dump) == regions
    for sp in (mine.tops[1] - mine.size - 1, mine.tops[1], mine.tops[1] + 0x5F3):
        dump.sp = sp
        page = sp & ~0xFFF
        crash = StackRegion(page - mine.size, page + 0x1000, "crash context")
        assert processors.stacks(dump) == [crash, *regions]
    dump.sp = 0x1000
    assert processors.stacks(dump) == regions
    dump.sp = Absent("unset")
    mine.put(mine.threads[2] + 0x28, mine.tops[0])
    assert processors.stacks(dump) == regions[:2]
    mine.put(mine.threads[2] + 0x28, 0x1000)
    assert processors.stacks(dump) == regions[:2]
    mine.put(mine.prcbs[0] + 8, 0)
    assert processors.stacks(dump) == regions[1:2]
    mine.put(mine.pool, 0)
    assert processors.stacks(dump) == regions[1:2]
    mine.put(mine.pool, 0x1000)
    assert processors.stacks(dump) == regions[1:2]
    for name in ("KiProcessorBlock", "OffsetPrcbCurrentThread", "OffsetKThreadInitialStack"):
        dump.debugger(**{**mine.fields, name: 0})
        assert processors.stacks(dump) == []
    dump.debugger(0x298, **mine.fields)
    assert processors.stacks(dump) == []
    dump.debugger(**mine.fields)
    dump.file.fields["NumberProcessors"] = Absent("unset")
    assert processors.stacks(dump) == []


def test_most_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound on what a header may state: what Windows takes."""
    assert processors.MAX_PROCESSORS == contexts.MAX_PROCESSORS == ranges.MOST_PROCESSORS == 2048
    monkeypatch.setattr(processors, "MAX_PROCESSORS", 2)
    monkeypatch.setattr(contexts, "MAX_PROCESSORS", 2)
    mine = Machine(3)
    assert [region.owner for region in processors.stacks(mine.dump)] == [
        "processor 0", "processor 1",
    ]  # fmt: skip
    assert [block.number for block in contexts._blocks(mine.dump)] == [0, 1]


@WIDTHS
def test_blocks_of_processors(width: int) -> None:
    """Each with its thread, its stack and whether it idles; what cannot be read has a reason."""
    mine = Machine(2, width)

    def block(n: int, **changes: Any) -> contexts._Block:
        stack = (mine.tops[n] - mine.size, mine.tops[n])
        row = contexts._Block(n, mine.prcbs[n], mine.threads[n], n == 1, stack)
        return row._replace(**changes)

    def found() -> list[contexts._Block]:
        return list(contexts._blocks(mine.dump))

    assert found() == [block(0), block(1)]
    mine.put(mine.threads[0] + 0x28, 0)
    assert found() == [block(0, stack=None), block(1)]
    gone = Absent("not-mapped", "nothing at 0x7000")
    mine.put(mine.prcbs[0] + 8, 0x7000)
    assert found()[0] == block(0, thread=0x7000, stack=None)
    mine.dump.memory.pages.pop(mine.prcbs[0] >> 12)
    gone = Absent("not-mapped", f"nothing at {mine.prcbs[0]:#x}")
    assert found() == [block(0, thread=gone, is_idle=gone, stack=None), block(1)]
    for word in (0, 0x1000, mine.prcbs[0] + 1):
        mine.put(mine.pool, word)
        assert found() == [block(1)]
    mine.dump.debugger(**{**mine.fields, "OffsetKThreadInitialStack": 0})
    assert found() == [block(1, stack=None)]
    for name in ("KiProcessorBlock", "OffsetPrcbCurrentThread"):
        mine.dump.debugger(**{**mine.fields, name: 0})
        assert found() == []
    for size in (0x298,):
        mine.dump.debugger(size, **mine.fields)
        assert found() == []
    mine.dump.debugger(**mine.fields)
    mine.dump.file.fields["NumberProcessors"] = Absent("unset")
    assert found() == []


IP = {8: 0xFFFFF80000001234, 4: 0x80001234}


@WIDTHS
def test_register_sets_of_a_dump(width: int) -> None:
    """The header's is its processor's; the others' are where their blocks keep them."""
    mine = Machine(3, width)
    dump, ip = mine.dump, IP[width]
    crash = (ip, mine.tops[1] - 0x100)
    dump.context = mine.record(*crash)
    header_how = ("context in the dump header", "certain", None)

    def row(n: int, sp: int, how: Any) -> tuple[Any, ...]:
        registers = mine.registers(ip, sp)
        return (f"processor {n}", registers, how, n, mine.threads[n], n > 0, True)

    assert mine.caught() == [row(1, crash[1], header_how)]
    inside, outside = mine.tops[0] - 8, mine.tops[2] + 8
    for n, sp in ((0, inside), (2, outside)):
        dump.memory.write(mine.prcbs[n] + 0x100, mine.record(ip, sp))
    how = "context saved in the processor's block, its stack pointer {} of the thread that it runs"
    saved = [
        row(0, inside, (how.format("on the stack"), "likely", mine.prcbs[0] + 0x100)),
        row(2, outside, (how.format("not on the stack"), "guess", mine.prcbs[2] + 0x100)),
    ]
    assert mine.caught() == [row(1, crash[1], header_how), *saved]
    later = mine.pool + 0x30000
    mine.put(mine.prcbs[0] + 0x80, later)
    assert mine.caught() == [row(1, crash[1], header_how), *saved]
    dump.memory.write(later, mine.record(ip, mine.tops[0]))
    saved[0] = row(0, mine.tops[0], (how.format("on the stack"), "likely", later))
    assert mine.caught() == [row(1, crash[1], header_how), *saved]
    # a context further down the stack of the crash is the later one
    below = crash[1] - 0x40
    dump.memory.write(mine.prcbs[1] + 0x100, mine.record(ip, below))
    origin = (how.format("on the stack"), "likely", mine.prcbs[1] + 0x100)
    crashed = (contexts.CRASH_CONTEXT, mine.registers(*crash), header_how, None, None, None, False)
    assert mine.caught() == [row(1, below, origin), crashed, *saved]
    for same in (crash[1], crash[1] + 8):
        dump.memory.write(mine.prcbs[1] + 0x100, mine.record(ip, same))
        assert mine.caught() == [row(1, crash[1], header_how), *saved]
    # no processor runs the stack of the crash
    dump.context = mine.record(ip, mine.pool + 0x60000)
    untold = Absent("not-recorded", "the dump header does not say which processor it was")
    mine_row = mine.caught()[0]
    registers = mine.registers(ip, mine.pool + 0x60000)
    assert mine_row == (contexts.CRASH_CONTEXT, registers, header_how, untold, untold, untold, True)
    assert len(mine.caught()) == 4
    dump.context = b""
    assert [one[0] for one in mine.caught()] == ["processor 0", "processor 1", "processor 2"]
    dump.context = mine.record(0, mine.tops[0])
    assert len(mine.caught()) == 3
    dump.architecture = "mips"
    assert mine.caught() == []


@WIDTHS
def test_contexts_that_are_no_contexts(width: int) -> None:
    """Without registers, or of a user's code; with a block that names no such place."""
    mine = Machine(1, width)
    ip, sp = IP[width], mine.tops[0] - 8
    place = mine.prcbs[0] + 0x100

    def count(data: bytes) -> int:
        mine.dump.memory.write(place, data.ljust(0x500, b"\0"))
        return len(mine.caught())

    assert count(mine.record(ip, sp)) == 1
    assert count(mine.record(ip | 1, sp | 1)) == 1
    assert count(mine.record(0x1000, sp)) == count(mine.record(ip, 0x1000)) == 0
    flags = CONTEXTS[mine.kind].is_of
    assert count(mine.record(ip, sp, flags)) == count(mine.record(ip, sp, 1)) == 0
    assert count(mine.record(ip, sp)) == 1
    mine.dump.debugger(**{**mine.fields, "OffsetPrcbProcStateContext": 0})
    assert mine.caught() == []
    mine.put(mine.prcbs[0] + 0x80, place)
    assert len(mine.caught()) == 1
    mine.dump.debugger(**{**mine.fields, "OffsetPrcbProcStateContext": 0, "OffsetPrcbContext": 0})
    assert mine.caught() == []
    # one processor: the header's context is its own, wherever its stack is
    mine.dump.context = mine.record(ip, mine.pool)
    assert [one[0] for one in mine.caught()] == ["processor 0"]


@pytest.mark.parametrize(
    ("code", "number", "count"),
    [(0x3B, 3, 2), (0x7E, 4, 2), (0x1000007E, 4, 2), (0x3B, 4, 1), (0x7E, 3, 1), (0xD1, 3, 1)],
)
def test_context_that_a_bugcheck_names(code: int, number: int, count: int) -> None:
    """Of where the exception was, unless a processor is still there."""
    mine = Machine(1)
    ip, sp = IP[8], mine.tops[0] - 8
    place = mine.pool + 0x50000
    mine.dump.context = mine.record(ip, sp)
    mine.dump.memory.write(place, mine.record(ip, sp + 8))
    mine.dump.file.fields["BugCheckCode"] = code
    mine.dump.file.fields[f"BugCheckParameter{number}"] = place
    found = mine.caught()
    assert len(found) == count
    if count == 2:
        how = f"context that bugcheck parameter {number} leads to"
        assert found[1] == (
            "exception context", mine.registers(ip, sp + 8), (how, "certain", place), None, None,
            None, False,
        )  # fmt: skip
        mine.dump.memory.write(place, mine.record(ip + 8, sp))
        assert len(mine.caught()) == 2
        mine.dump.memory.write(place, mine.record(ip, sp))
        assert len(mine.caught()) == 1
        mine.dump.memory.write(place, mine.record(ip, sp + 8, 0))
        assert len(mine.caught()) == 1
        mine.dump.file.fields[f"BugCheckParameter{number}"] = 0x1000
        assert len(mine.caught()) == 1
