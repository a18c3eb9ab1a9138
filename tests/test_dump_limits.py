"""Limits of what can be in a dump: a value just inside and just outside of each.

The limits and their reasons stand beside the constants in the checks and in the readers.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from conftest import SAMPLE_TRACES
from generator import Spec, build
from healthy_crash import broken_rules, changed

import analyzer
from analyzer.absence import Absent
from analyzer.dumpfile import open_dump, storport
from analyzer.sources.dump import records_of

#: GUID_DEVICEDUMP_DRIVER_STORAGE_PORT (ntddstor.h)
STORAGE_PORT = UUID("da82441d-7142-4bc1-b844-0807c5a4b67f").bytes_le
YEAR_NS = 366 * 86400 * 10**9


@pytest.mark.parametrize(
    ("table", "field", "inside", "outside", "rule"),
    [
        ("filters", "major_version", 2, 3, "filter-value-impossible"),
        ("filters", "minor_version", 0, 1, "filter-value-impossible"),
        ("filters", "max_pages_per_write", 0x10000, 0x10001, "filter-value-impossible"),
        ("filters", "flags", 0xFFFF, 0x10000, "filter-value-impossible"),
        ("extensions", "media_type", 25, 26, "extension-value-impossible"),
        ("extensions", "media_type", 0, -1, "extension-value-impossible"),
        ("extensions", "partition_style", 2, 3, "extension-value-impossible"),
        ("extensions", "flags", 0xFFFF, 0x10000, "extension-value-impossible"),
        (
            "extensions", "device_object", 0xFFFFC08B_E3DAC030, 0xFFFFC08B_E3DAC031,
            "extension-value-impossible",
        ),
        (
            "extensions", "device_object", 0xFF000000_00000000, 0xFEFFFFFF_FFFFFFF8,
            "extension-value-impossible",
        ),
        ("machine", "build", 99_999, 100_000, "header-value-impossible"),
        ("machine", "processors", 2048, 2049, "header-value-impossible"),
        ("machine", "processors", 1, 0, "header-value-impossible"),
        ("machine", "system_time", 3650 * 86400 * 10**9, 3649 * 86400 * 10**9,
         "header-value-impossible"),
        ("machine", "uptime_ns", 30 * YEAR_NS, 30 * YEAR_NS + 1, "header-value-impossible"),
        ("machine", "required_dump_space", 1 << 50, (1 << 50) + 1, "header-value-impossible"),
        ("machine", "directory_table_base", (1 << 52) - 1, 1 << 52, "header-value-impossible"),
    ],
)  # fmt: skip
def test_value_just_inside_and_just_outside(
    table: str, field: str, inside: int, outside: int, rule: str
) -> None:
    """One step decides."""
    assert rule not in broken_rules(changed(table, **{field: inside}))
    assert rule in broken_rules(changed(table, **{field: outside}))


def test_disk_size_against_its_geometry() -> None:
    """Less than one cylinder above what the whole cylinders hold."""
    cylinder = 255 * 63 * 512
    geometry = {
        "cylinders": 100, "tracks_per_cylinder": 255, "sectors_per_track": 63,
        "bytes_per_sector": 512,
    }  # fmt: skip
    rule = "extension-disk-size-invalid"
    for size, is_wrong in ((101 * cylinder - 512, False), (101 * cylinder, True)):
        assert (rule in broken_rules(changed("extensions", disk_size=size, **geometry))) is is_wrong


def block(count: int, start: int) -> bytes:
    """A storage port block whose last record is a SYNCHRONIZE CACHE that began at ``start``."""
    head = struct.pack("<4sIII16sI", b"DSTP", 0x60, 4060, 0, b"storport.sys", count)
    rows = [(0x2A, 2_000_000 + n, 2_000_001 + n) for n in range(count - 1)]
    rows += [(0x35, start, 3_000_000)]
    base = 132_583_451_000_000_000
    data = b"".join(
        bytes([opcode]) + bytes(31) + struct.pack("<QQIII", base + a, base + b, 1, 0, 0x10)
        for opcode, a, b in rows
    )
    return (head + data).ljust(4060, b"\0")


@pytest.mark.parametrize(("count", "start", "is_told"), [
    (66, 2_000_001, True), (66, 2_000_000, False), (65, 2_000_000, True),
])  # fmt: skip
def test_a_cache_flush_older_than_the_full_list_has_no_start(
    count: int, start: int, is_told: bool
) -> None:
    """66 records are a full list; what began before its oldest may follow a lost entry."""
    found, problem = storport.requests(block(count, start), "a.dmp", 0, Absent("unset"))
    assert problem == ""
    assert isinstance(found[-1].start, int) is is_told


@pytest.mark.parametrize(("blocks", "read"), [(1, 1), (8, 8), (9, 8)])
def test_most_blocks_of_the_storage_port_driver(blocks: int, read: int, tmp_path: Path) -> None:
    """One crash makes one; the first that is not read is where that is told."""
    built = build(Spec("x64", 4, "win8"))
    data = built.data[: built.truth["blob_offset"]] + struct.pack("<8sII", b"DumpBlob", 16, 0)
    first = len(data)
    one = block(3, 2_000_000)
    data += (struct.pack("<I16sIII", 0x20, STORAGE_PORT, len(one), 0, 0) + one) * blocks
    path = tmp_path / "a.dmp"
    path.write_bytes(data)
    records = records_of(open_dump(str(path)))
    assert len(records["requests"]) == 3 * read
    told = [(a.text, a.origin.file_offset) for a in records.anomalies
            if a.rule == "secondary-data-damaged"]  # fmt: skip
    text = f"The secondary data has {blocks} blocks of the storage port driver, 8 are read."
    assert told == ([(text, first + 8 * (0x20 + len(one)))] if blocks > read else [])


@pytest.mark.parametrize(("line", "is_told"), [(b"Progress 0x42", True), (b"Progress 0x4", False)])
def test_shortest_line_of_the_header(line: bytes, is_told: bool, tmp_path: Path) -> None:
    """Thirteen letters are the shortest line that a dump log has."""
    data = bytearray(build(Spec("x64", 4, "win8")).data)
    struct.pack_into("<I", data, 0x1050, 0x1000)
    data[0x11F0 : 0x11F0 + 256] = line.ljust(256, b"\0")
    path = tmp_path / "a.dmp"
    path.write_bytes(data)
    told: Any = records_of(open_dump(str(path)))["machine"][0].last_dump_line
    assert (told == line.decode()) is is_told


@pytest.mark.parametrize("word", [b"\xed\xfe\xad\xde", b"PAGE"])
def test_a_filler_must_fill_the_whole_page(word: bytes, tmp_path: Path) -> None:
    """One word of another kind, and the page is memory."""
    built = build(Spec("x64", 6, "win8"))
    data = bytearray(built.data)
    address = built.truth["filters"][0]["node"]
    path = tmp_path / "a.dmp"
    path.write_bytes(data)
    offset = open_dump(str(path)).file_offset(address)
    assert offset is not None
    page = offset - (address & 0xFFF)
    data[page : page + 0x1000] = word * 0x400
    path.write_bytes(data)
    found = open_dump(str(path)).read(address, 8)
    assert isinstance(found, Absent)
    assert found.reason == "not-in-dump"
    data[page + 0xFFF] ^= 1
    path.write_bytes(data)
    assert isinstance(open_dump(str(path)).read(address, 8), bytes)


@pytest.mark.parametrize("bits", [64, 32])
@pytest.mark.parametrize(
    ("code", "address", "is_told"),
    [(0xC0000005, 0x401000, True), (0, 0x401000, False), (0xC0000005, 0, False), (0, 0, False)],
)
def test_exception_of_a_header(
    tmp_path: Path, bits: int, code: int, address: int, is_told: bool
) -> None:
    """EXCEPTION_RECORD at 0xf00 or 0x7d0 (mindumpdef.h): both its code and its address count."""
    data = bytearray(build(Spec("x64" if bits == 64 else "x86", 1)).data)
    at, place, word = (0xF00, 0x10, "<Q") if bits == 64 else (0x7D0, 0x0C, "<I")
    struct.pack_into("<I", data, at, code)
    struct.pack_into(word, data, at + place, address)
    path = tmp_path / "a.dmp"
    path.write_bytes(data)
    assert open_dump(str(path)).file.exception() == ((code, address) if is_told else None)


def test_an_uptime_that_a_number_of_nanoseconds_cannot_hold(tmp_path: Path) -> None:
    """SystemUpTime counts 100 ns; times here have 64 bits with a sign."""
    data = bytearray((SAMPLE_TRACES / "minidump-x64.dmp").read_bytes())
    for units, is_told in (((1 << 63) // 100, True), ((1 << 63) // 100 + 1, False)):
        struct.pack_into("<Q", data, 0x1030, units)
        path = tmp_path / f"{is_told}.dmp"
        path.write_bytes(data)
        (machine,) = analyzer.open(path).records["machine"]
        assert (machine.uptime_ns == units * 100) is is_told
