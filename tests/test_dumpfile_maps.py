"""Maps of pages, tagged data, requests and slices: exact results at every limit."""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import missing

from analyzer.absence import Absent
from analyzer.dumpfile import pagemap, secondary, slicing, storport
from analyzer.dumpfile.paging import SCHEMES, Walker, walk
from analyzer.dumpfile.slice_mark import Mark, in_comment, mark_of
from analyzer.files import FileBytes
from analyzer.records import Origin, Request

PAGE = 0x1000
Pairs = list[tuple[int, int]]


# ---- maps ---------------------------------------------------------------------------------------
def places(runs: Pairs, first: int) -> dict[int, int]:
    """Frame -> file offset, as the format says: pages packed in the order of the runs."""
    frames = [frame for base, count in runs for frame in range(base, base + count)]
    return {frame: first + PAGE * place for place, frame in enumerate(frames)}


def run_map(runs: Pairs, first: int) -> pagemap.RunMap:
    """A map of runs."""
    pairs = np.array(runs, np.int64).reshape(-1, 2)
    return pagemap.RunMap(pairs[:, 0], pairs[:, 1], first)


def bitmap_of(frames: Any, bits: int) -> bytes:
    """One bit a frame, in whole words."""
    number = sum(1 << frame for frame in frames)
    return number.to_bytes(-(-bits // 64) * 8, "little")


def check(pages: pagemap.PageMap, wanted: dict[int, int], top: int, runs: int) -> None:
    """Every frame up to ``top`` and each edge of each page."""
    frames = list(range(-3, top))
    found = pages.offsets(np.array(frames, np.int64)).tolist()
    assert found == [wanted.get(frame, -1) for frame in frames]
    assert (pages.pages, pages.runs) == (len(wanted), runs)
    assert pages.highest == max(wanted, default=-1)
    back = {offset: frame for frame, offset in wanted.items()}
    for offset, frame in back.items():
        assert pages.frame_at(offset) == pages.frame_at(offset + PAGE - 1) == frame
        assert pages.frame_at(offset + PAGE) == back.get(offset + PAGE, -1)
        assert pages.frame_at(offset - 1) == back.get(offset - PAGE, -1)


@pytest.mark.parametrize(
    "runs",
    [
        [], [(0, 1)], [(5, 3)], [(1, 2), (3, 1), (9, 4)], [(9, 4), (1, 2), (20, 1)],
        [(63, 2), (0, 1)],
    ],
)  # fmt: skip
@pytest.mark.parametrize("first", [0x2000, 0x1F38])
def test_map_of_runs(runs: Pairs, first: int) -> None:
    """Each page by its frame and by its place."""
    check(run_map(runs, first), places(runs, first), 70, len(runs))


@pytest.mark.parametrize("step", [1, 2, 1 << 20])
@pytest.mark.parametrize(
    ("frames", "bits", "runs"),
    [
        ([], 0, 0), ([], 64, 0), ([0], 64, 1), ([63], 64, 1), ([63, 64], 128, 1),
        ([0, 2, 62, 63, 64, 65, 127, 130], 192, 5), (range(192), 192, 1), ([1, 191], 192, 2),
        ([64], 192, 1), ([0, 63, 64], 128, 2),
    ],
)  # fmt: skip
def test_map_of_bits(
    frames: Any, bits: int, runs: int, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whatever pieces the words are counted."""
    monkeypatch.setattr(pagemap, "STEP", step)
    words = np.frombuffer(bitmap_of(frames, bits), np.uint64)
    pages = pagemap.BitmapMap(words, bits, 0x2038)
    wanted = {frame: 0x2038 + PAGE * place for place, frame in enumerate(frames)}
    check(pages, wanted, bits + 70, runs)


@pytest.mark.parametrize("bits", [1, 63, 64, 65, 127, 128, 129])
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_bits_behind_the_last_frame_do_not_count(
    bits: int, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of the last word is none of the map."""
    monkeypatch.setattr(pagemap, "STEP", step)
    words = np.full(-(-bits // 64), 0xFFFF_FFFF_FFFF_FFFF, np.uint64)
    check(pagemap.BitmapMap(words, bits, 0x2000), places([(0, bits)], 0x2000), bits + 3, 1)


def result(found: pagemap.MapResult) -> tuple[dict[int, int], int, list[tuple[str, str, int]]]:
    """(frame -> offset, number of pages, problems)."""
    frames = np.arange(0, 300, dtype=np.int64)
    pairs = zip(frames.tolist(), found.pages.offsets(frames).tolist())
    return {frame: at for frame, at in pairs if at >= 0}, found.pages.pages, found.problems


BAD = "dump-map-inconsistent"


@pytest.mark.parametrize("is_64bit", [True, False])
def test_runs_of_a_header(is_64bit: bool) -> None:
    """As many as the header has room for; what contradicts itself is told."""
    form, width = ("<Q", 16) if is_64bit else ("<I", 8)
    room = 42 if is_64bit else 86
    assert pagemap.room_for_runs(is_64bit) == room

    def read(runs: Pairs, stated: int, count: int | None = None) -> Any:
        words = [len(runs) if count is None else count, stated]
        words += [word for run in runs for word in run]
        data = bytes(0x88) + b"".join(struct.pack(form, word) for word in words)
        data = data.ljust(0x88 + 2000, b"\0")
        return result(pagemap.from_header_runs(FileBytes.of(data, "a"), 0x88, is_64bit, 0x2000))

    runs = [(3, 2), (9, 1)]
    assert read(runs, 3) == (places(runs, 0x2000), 3, [])
    text = "the header states 4 pages, its runs add up to 3"
    assert read(runs, 4) == (places(runs, 0x2000), 3, [(BAD, text, 0x88)])
    many = [(3 * place, 1) for place in range(1, room + 2)]
    wanted = places(many[:room], 0x2000)
    assert read(many, room, room) == (wanted, room, [])
    text = f"the header states {room + 1} memory runs but has room for {room}; {room} are used"
    assert read(many, room) == (wanted, room, [(BAD, text, 0x88)])
    text = "memory runs overlap; the later run is used"
    pages, _, problems = read([(1, 2), (2, 2)], 4)
    assert problems == [(BAD, text, 0x88 + width)]
    assert pages == {1: 0x2000, 2: 0x4000, 3: 0x5000}
    assert read([(1, 2), (3, 2)], 4)[2] == []


@pytest.mark.parametrize(
    ("base", "count", "is_good"),
    [
        ((1 << 40) - 1, 1, True), (1 << 40, 1, False), (-1, 1, False), (0, 1, True),
        (5, 0, False), (5, -1, False), (5, (1 << 40) - 3, True), (5, (1 << 40) - 2, False),
        (5, 1 << 40, False),
    ],
)  # fmt: skip
def test_runs_that_cannot_be(base: int, count: int, is_good: bool) -> None:
    """The run and all behind it are ignored; nothing above 2**52 bytes."""
    bases, counts = (np.array(row, np.int64) for row in ((1, base), (2, count)))
    pages, problems = pagemap._clean_runs(bases, counts, 0x2000, 0x77)
    text = (
        f"memory run 1 cannot be: first frame {base:#x}, {count} pages; "
        "this run and all behind it are ignored"
    )
    if is_good:
        assert pages.runs == 2
        assert [problem[1][:20] for problem in problems] in ([], ["memory runs overlap;"])
    else:
        assert (pages.pages, pages.runs, problems) == (2, 1, [(BAD, text, 0x77)])


def test_bitmap_of_a_file() -> None:
    """What does not fit, between the map and the first page or in the file, is told."""
    frames = [0, 5, 64, 127]
    bits = bitmap_of(frames, 128)

    def read(first: int, pages: int = 4, count: int = 128, size: int = 0x6000) -> Any:
        data = (bytes(0x1000) + bits).ljust(0x2000, b"\xff").ljust(size, b"\0")[:size]
        return result(pagemap.from_bitmap(FileBytes.of(data, "a"), 0x1000, count, pages, first))

    def placed(some: Any, first: int = 0x2000) -> dict[int, int]:
        return {frame: first + PAGE * place for place, frame in enumerate(some)}

    assert read(0x2000) == (placed(frames), 4, [])
    text = "the bitmap marks 4 pages, its header states 5"
    mismatch = "dump-bitmap-count-mismatch"
    assert read(0x2000, 5) == (placed(frames), 4, [(mismatch, text, 0x1000)])
    assert read(0x2000, 3, 127) == (placed(frames[:3]), 3, [])
    for first in (0x1010, 0x1009):
        assert read(first) == (placed(frames, first), 4, [])
    text = "the page bitmap needs 16 bytes, the file has 8 left"
    assert read(0x1008, 2) == (placed(frames[:2], 0x1008), 2, [("dump-file-cut", text, 0x1000)])
    assert read(0x2000, 2, size=0x100F)[2] == [("dump-file-cut", text, 0x1000)]
    assert read(0x2000, 4, size=0x1010)[2] == []
    text = "the page bitmap needs 16 bytes, the file has 0 left"
    assert read(0x2000, 0, size=0xF00) == ({}, 0, [("dump-file-cut", text, 0x1000)])
    text = "the first page is stated to lie at 0xfff, inside or before the bitmap"
    assert read(0xFFF)[2] == [(BAD, text, 0x1000)]
    assert read(0x1000)[2] == []


def test_ranges_of_a_file() -> None:
    """Up to a zero, the stated pages or the first page."""

    def read(runs: Pairs, stated: int = 0, first: int = 0x2000, size: int = 0x6000) -> Any:
        table = b"".join(struct.pack("<QQ", *run) for run in runs)
        data = (bytes(0x1030) + table).ljust(size, b"\0")[:size]
        return result(pagemap.from_ranges(FileBytes.of(data, "a"), 0x1030, first, stated))

    many = [(3 * place, 1) for place in range(1, 99)]
    assert read(many) == (places(many, 0x2000), 98, [])
    full = [(place, 1) for place in range(1, 254)]  # up to the first page
    assert read(full) == (places(full, 0x2000), 253, [])
    runs = [(3, 2), (9, 1), (20, 3)]
    assert read(runs) == (places(runs, 0x2000), 6, [])
    assert read([*runs, (0, 1), (40, 1)]) == (places(runs, 0x2000), 6, [])
    assert read([*runs, (30, 0), (40, 1)]) == (places(runs, 0x2000), 6, [])
    for stated, count in ((2, 1), (3, 2), (6, 3)):
        assert read(runs, stated) == (places(runs[:count], 0x2000), stated, [])
    text = "the range table states 7 pages, its ranges have 6"
    assert read(runs, 7) == (places(runs, 0x2000), 6, [(BAD, text, 0x1030)])
    text = "the range table states 1 pages, its ranges have 2"
    assert read(runs, 1) == (places(runs[:1], 0x2000), 2, [(BAD, text, 0x1030)])
    assert read(runs, 0, 0x1050) == (places(runs[:2], 0x1050), 3, [])
    assert read(runs, 0, 0x105F) == (places(runs[:2], 0x105F), 3, [])
    text = "the file ends at 4,160 bytes, before its first page at 0x2000"
    assert read(runs, 0, 0x2000, 0x1040) == (
        places(runs[:1], 0x2000), 2, [("dump-file-cut", text, 0x1040)]
    )  # fmt: skip
    assert read(runs, 0, 0x2000, 0x2000)[2] == []
    assert read([], 0) == ({}, 0, [])
    text = "the range table states 1 pages, its ranges have 0"
    assert read([], 1) == ({}, 0, [(BAD, text, 0x1030)])


@pytest.mark.parametrize("count", [3, 4, 5])
def test_longest_table_of_ranges(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is behind the bound is told as not read."""
    monkeypatch.setattr(pagemap, "MAX_RANGES", 4)
    runs = [(3 * place, 1) for place in range(1, count + 1)]
    data = b"".join(struct.pack("<QQ", *run) for run in runs).ljust(0x2000, b"\0")
    found = result(pagemap.from_ranges(FileBytes.of(data, "a"), 0, 0x1000, 0))
    text = "the range table goes on behind 4 ranges; the rest is not read"
    kept = min(count, 4)
    assert found == (places(runs[:kept], 0x1000), kept, [(BAD, text, 0)] * (count > 3))


# ---- table walks --------------------------------------------------------------------------------
def walked(name: str, address: int, entries: list[int], limit: int = 0xFFFFF) -> tuple[Any, Any]:
    """(result, places read) of a walk through given entries from a root at 0x1000."""
    seen: list[int] = []

    def read(place: int) -> tuple[int, int]:
        seen.append(place)
        entry = entries[len(seen) - 1]
        return (0, -entry) if entry < 0 else (entry, 0)

    return walk(SCHEMES[name], 0x1000, address, read, limit), seen


V64 = 0xFFFFF80712345678
WALKS: list[tuple[str, int, list[int], tuple[int, int]]] = [
    ("x64", V64, [0x2063, 0x3063, 0x4063, 0x5063], (0x5678, 0)),
    ("x64", V64, [0x2063, 0x40000000E3], (0x4012345678, 0)),
    ("x64", V64, [0x2063, 0x3063, 0x2000E3], (0x345678, 0)),
    ("x64", V64, [0x20E3, 0x3063, 0x4063, 0x50E3], (0x5678, 0)),  # no large page there
    ("x64", V64, [0x2062], (-1, 1)),
    ("x64", V64, [0x2063, 0x3063, 0x4800], (-1, 1)),
    ("x64", V64, [0x2063, -3], (-1, 3)),
    ("x64", V64, [0x2063, 0x3063, 0x4063, 0x5800], (0x5678, 0)),
    ("x64", V64, [0x2063, 0x3063, 0x4063, 0x5C00], (-1, 2)),
    ("x64", V64, [0x2063, 0x3063, 0x4063, 0x400], (-1, 2)),
    ("x64", V64, [0x2063, 0x3063, 0x4063, 0x1_0000_0000], (-1, 2)),
    ("x64", V64, [0x2063, 0x3063, 0x4063, 0xFFFF_F000], (-1, 1)),
    ("x64", V64, [0x2063, 0x3063, 0x4063, 0], (-1, 1)),
    ("x64", V64, [0x2063, 0x3063, 0x4063, 0xFFFFF800], (0xFFFFF678, 0)),
    ("x64", V64, [0x2063, 0x3063, 0x4063, 0xF00000005800], (0x5678, 0)),
    ("x64", V64, [0x2063, 0x3063, 0x4063, 0x8000000000005863], (0x5678, 0)),
    ("x64", 0xFFFF_7FFF_FFFF_FFFF, [], (-1, 1)),
    ("x64", 0x0000_8000_0000_0000, [], (-1, 1)),
    ("x64", 0x0000_7FFF_FFFF_F123, [0x2063, 0x3063, 0x4063, 0x5063], (0x5123, 0)),
    ("x64-la57", V64, [0x6063, 0x2063, 0x3063, 0x4063, 0x5063], (0x5678, 0)),
    ("x64-la57", 0xFF00_0000_0000_0000, [0x6063, 0x2063, 0x3063, 0x4063, 0x5063], (0x5000, 0)),
    ("x64-la57", 0xFE00_0000_0000_0000, [], (-1, 1)),
    ("x64-la57", 0x0100_0000_0000_0000, [], (-1, 1)),
    ("arm64", V64, [0x2003, 0x3003, 0x4003, 0x5003], (0x5678, 0)),
    ("arm64", V64, [0x2003, 0x40000001], (0x52345678, 0)),
    ("arm64", V64, [0x2003, 0x3003, 0x200001], (0x345678, 0)),
    ("arm64", V64, [0x2001], (-1, 1)),
    ("arm64", V64, [0x2003, 0x3003, 0x4003, 0x5001], (-1, 1)),
    ("x86", 0x80345678, [0x2063, 0x5063], (0x5678, 0)),
    ("x86", 0x80345678, [0x4000E3], (0x745678, 0)),
    ("x86", 0x80345678, [0x4020E3], (0x1_0074_5678, 0)),
    ("x86", 0x80345678, [0x2063, 0x1000], (-1, 2)),
    ("x86", 0x80345678, [0x2063, 0x0800], (0x678, 0)),
    ("x86", 0x80345678, [0x2063, 0x0802], (0x678, 0)),
    ("x86", 0x80345678, [0x2063, 0x0002], (-1, 1)),
    ("x86", 0x1_0000_0000, [], (-1, 1)),
    ("x86", 0xFFFF_FFFF, [0x2063, 0x5063], (0x5FFF, 0)),
    ("x86-pae", 0x80345678, [0x2001, 0x3063, 0x5063], (0x5678, 0)),
    ("x86-pae", 0x80345678, [0x2001, 0x2000E3], (0x345678, 0)),
    ("x86-pae", 0x80345678, [0x2081, 0x3063, 0x5063], (0x5678, 0)),
]


def index(name: str, address: int, level: int) -> int:
    """Where the entry of a level stands in its table, by the manuals: 9 bits a level from 12 up."""
    if name == "x86":
        return (address >> (22, 12)[level] & 1023) * 4
    count = {"x64-la57": 5, "x86-pae": 3}.get(name, 4)
    return (address >> 12 + 9 * (count - 1 - level) & (3 if count - level == 3 > level and
            name == "x86-pae" else 511)) * 8  # fmt: skip


@pytest.mark.parametrize(("name", "address", "entries", "wanted"), WALKS)
def test_one_walk(name: str, address: int, entries: list[int], wanted: tuple[int, int]) -> None:
    """The result, and the places of the entries that lead to it."""
    found, seen = walked(name, address, entries)
    assert found == wanted
    tables = [0x1000, *(entry & 0xFFFF_F000 for entry in entries)]
    assert seen == [
        table + index(name, address, level)
        for level, table in zip(range(len(entries)), tables)
    ]  # fmt: skip


def test_walker_of_a_file() -> None:
    """An entry that is not stored, one behind the end of the file, and a page read twice."""
    root = bytes(0x800 + 0x38) + struct.pack("<Q", 0x5063)
    data = (bytes(0x2000) + root).ljust(0x3000, b"\0")
    scheme = SCHEMES["x64"]._replace(levels=((12, 511),), large=())
    address = 0xFFFFF80700000000 | 0x107 << 12

    def found(size: int, root: int = 1, top: int = 3) -> tuple[int, int]:
        pages = run_map([(1, 1), (top, 1)], 0x2000)
        file = FileBytes.of(data[:size], "a")
        walker = Walker(scheme, root << 12 | 0xABC, pages, file)
        assert walker.walk(address) == walker.walk(address)
        assert walker._frame_limit == (1 << top.bit_length()) - 1
        return walker.walk(address)

    assert found(0x3000) == (0x5000, 0)
    assert found(0x2840) == (0x5000, 0)
    assert found(0x283F) == (-1, 4)
    assert found(0x3000, root=2) == (-1, 3)
    assert found(0x3000, top=4) == (0x5000, 0)


# ---- tagged data --------------------------------------------------------------------------------
def blob(*blocks: tuple[int, int, int, int], header: int = 16, more: bytes = b"") -> bytes:
    """Secondary data with blocks (header, pre, size, post) at 0x40."""
    data = bytes(0x40) + b"DumpBlob" + struct.pack("<II", header, 0)
    data = data.ljust(0x40 + header, b"\0")
    for number, (head, pre, size, post) in enumerate(blocks, 1):
        data += struct.pack("<I16sIII", head, bytes([number & 255]) * 16, size, pre, post)
        data += bytes(head - 32 + pre + size + post)
    return data + more


def guid(number: int) -> str:
    """The text of an identifier of equal bytes."""
    byte = f"{number:02x}"
    return "-".join(byte * count for count in (4, 2, 2, 2, 6))


def test_blocks_of_tagged_data() -> None:
    """Each with its place; what is odd ends the list and is told, stale bytes only end it."""

    def read(data: bytes) -> Any:
        found, problem, where = secondary.blocks(FileBytes.of(data, "a"), 0x40)
        return [tuple(block) for block in found], problem, where

    three = ((0x20, 0, 8, 4), (0x28, 3, 0, 0), (0x100, 0, 1, 0))
    wanted = [
        (guid(1), 0x50, 0x70, 8), (guid(2), 0x7C, 0xA7, 0), (guid(3), 0xA7, 0x1A7, 1),
    ]  # fmt: skip
    assert read(blob(*three)) == (wanted, "", None)
    for header in (0x1F, 0x101):
        more = struct.pack("<I", header).ljust(0x120, b"\0")
        assert read(blob(*three, more=more)) == (wanted, "", None)
    assert read(blob(*three, more=struct.pack("<I", 0x20).ljust(0x20, b"\0")))[0][:3] == wanted
    assert len(read(blob(*three, more=struct.pack("<I", 0x20).ljust(0x20, b"\0")))[0]) == 4
    assert len(read(blob(*three, more=struct.pack("<I", 0x20).ljust(0x1F, b"\0")))[0]) == 3
    text = f"block {guid(3)} states 1 bytes but the file ends 256 bytes after the block's start"
    assert read(blob(*three)[:-1]) == (wanted[:2], text, 0xA7)
    none = "the secondary data does not start with DumpBlob"
    assert read(bytes(0x80)) == ([], none, 0x40)
    assert read(blob()[:-1]) == ([], none, 0x40)
    assert read(blob()) == ([], "", None)
    for header in (16, 0x1000):
        assert len(read(blob(*three, header=header))[0]) == 3
    for header in (15, 0x1001):
        data = bytearray(blob(*three, header=16))
        data[0x48:0x4C] = struct.pack("<I", header)
        text = f"the secondary data states a header of {header} bytes (16 expected)"
        assert read(bytes(data)) == ([], text, 0x48)


def test_most_blocks() -> None:
    """The rest is told as not read."""
    for count, text in ((4095, ""), (4096, "more than 4096 blocks; the rest is not read")):
        data = blob(*[(0x20, 0, 0, 0)] * count)
        found, problem, where = secondary.blocks(FileBytes.of(data, "a"), 0x40)
        assert (len(found), problem) == (count, text)
        assert where == (0x50 + 0x20 * 4095 if text else None)


# ---- requests of the storage port ---------------------------------------------------------------
EPOCH = 116_444_736_000_000_000  # of FILETIME, in its ticks
SECOND = 10_000_000


def record(
    opcode: int = 0x2A, function: int = 0, start: int = 0, end: int = 0, status: int = 1,
    error: int = 0, tag: int = 0x10,
) -> bytes:  # fmt: skip
    """A record; its times in ticks since 1970."""
    times = (EPOCH + start if start else 0, EPOCH + end if end else 0)
    head = bytes([opcode]) + bytes(15) + bytes([function]) + bytes(15)
    return head + struct.pack("<QQIII", *times, status, error, tag)


def listed(*records: bytes, stated: int | None = None, crash: Any = 10**10) -> Any:
    """Requests of a block at file offset 0x900, and what is wrong with it."""
    count = len(records) if stated is None else stated
    head = struct.pack("<4sIII16sI", b"DSTP", 0x60, 4060, 0, b"storport.sys", count)
    return storport.requests(head + b"".join(records), "a.dmp", 0x900, crash)


FLIGHT = Absent("not-applicable", "still in flight at the crash")
NO_STATUS = Absent("not-applicable", "no status while in flight")
NO_START = Absent("not-recorded", "storport recorded no start time of this request")


def request(place: int, operation: str, **fields: Any) -> Request:
    """The row of a request."""
    row: dict[str, Any] = {
        "request": place, "operation": operation, "opcode": 0, "srb_function": 0,
        "in_flight": False, "status": 1, "status_name": "SRB_STATUS_SUCCESS", "error": 0,
        "tag": 0x10, "driver": "storport.sys", "origin": Origin("a.dmp", "storport"),
    }  # fmt: skip
    return Request(**{**row, **fields})


def test_whole_rows_of_requests() -> None:
    """Finished, in flight, without a start, backwards, without any time, and of other functions."""
    rows, problem = listed(
        record(start=3 * SECOND, end=5 * SECOND),
        record(0x28, start=2 * SECOND, status=0x42, error=7),
        record(0x2A, end=4 * SECOND, status=0x84, error=3, tag=0x20),
        record(0x2A, start=5 * SECOND, end=4 * SECOND, status=0xBE),
        record(0x77, status=0),
        record(0, 0x13, start=SECOND, end=SECOND),
        record(0, 0x99, start=SECOND, end=2 * SECOND),
        record(0, 0, start=SECOND, end=2 * SECOND),
    )
    assert problem == ""
    size, step = 0x24, len(record())
    second = 10**9
    backwards = Absent("out-of-range", "the request ends before it starts")
    no_time = Absent("not-recorded", "the request has no time at all")
    flying = {"in_flight": True, "end": FLIGHT, "status": NO_STATUS, "status_name": NO_STATUS,
              "error": NO_STATUS}  # fmt: skip
    wanted = [
        request(0, "WRITE(10)", opcode=0x2A, start=3 * second, end=5 * second,
                duration_ns=2 * second, before_crash_ns=5 * second),
        request(1, "READ(10)", opcode=0x28, start=2 * second, duration_ns=FLIGHT,
                before_crash_ns=8 * second, **flying),
        request(2, "WRITE(10)", opcode=0x2A, start=NO_START, end=4 * second, status=0x04, tag=0x20,
                status_name="SRB_STATUS_ERROR", error=3, duration_ns=NO_START,
                before_crash_ns=6 * second),
        request(3, "WRITE(10)", opcode=0x2A, start=5 * second, end=4 * second, status=0x3E,
                status_name="SRB status 0x3e", duration_ns=backwards, before_crash_ns=5 * second),
        request(4, "SCSI operation 0x77", opcode=0x77, start=NO_START, duration_ns=NO_START,
                before_crash_ns=no_time, **flying),
        request(5, "SRB RESET_DEVICE", srb_function=0x13, start=second, end=second,
                duration_ns=0, before_crash_ns=9 * second),
        request(6, "SRB function 0x99", srb_function=0x99, start=second, end=2 * second,
                duration_ns=second, before_crash_ns=8 * second),
        request(7, "TEST UNIT READY", start=second, end=2 * second, duration_ns=second,
                before_crash_ns=8 * second),
    ]  # fmt: skip
    how = "storage port block of the secondary data"
    for place, row in enumerate(wanted):
        origin = Origin("a.dmp", how, "certain", 0x900 + size + step * place)
        assert rows[place] == row._replace(origin=origin), place
    unset = Absent("unset")
    assert listed(record(start=SECOND), crash=unset)[0][0].before_crash_ns == unset


def test_halves_of_a_flush() -> None:
    """The second entry of a FLUSH is no open request, and what it became has no start."""
    second = Absent("not-applicable", "the second entry of a request that is in the list")
    gone = Absent("not-recorded", "the entry that would tell an open request is not in the list")
    before = Absent("not-recorded", "the time is that of the FLUSH or SHUTDOWN before it")

    def told(*records: bytes) -> list[tuple[Any, ...]]:
        return [
            (row.start, row.end, row.duration_ns, row.in_flight, row.status, row.error)
            for row in listed(*records)[0]
        ]

    for function in (7, 8):
        half = record(0, function, end=3 * SECOND)
        closed = (NO_START, 3 * 10**9, NO_START, False, 1, 0)
        assert told(half) == [closed]
        following = record(0, function, start=3 * SECOND, status=0)
        assert told(half, following)[1] == (3 * 10**9, second, second, second, second, second)
        assert told(following) == [(3 * 10**9, gone, gone, gone, gone, gone)]
        other = record(0, function, start=3 * SECOND, status=0, tag=0x11)
        assert told(half, other)[1][1] == gone
        late = record(0, function, start=3 * SECOND + 1, status=0)
        assert told(half, late)[1][1] == gone
        for mark in ({"status": 0x20}, {"status": 0, "error": 1}):
            tagged = record(0, function, start=3 * SECOND, **mark)
            assert told(half, tagged)[1] == (
                3 * 10**9, FLIGHT, FLIGHT, True, NO_STATUS, NO_STATUS
            )  # fmt: skip
        for opcode in (0x35, 0x91):
            cache = record(opcode, start=3 * SECOND, end=4 * SECOND)
            assert told(half, cache)[1] == (before, 4 * 10**9, before, False, 1, 0)
            assert told(cache)[0][0] == 3 * 10**9
        write = record(0x2A, start=3 * SECOND, end=4 * SECOND)
        assert told(half, write)[1][0] == 3 * 10**9
    whole = record(0, 8, start=SECOND, end=3 * SECOND)
    cache = record(0x35, start=3 * SECOND, end=4 * SECOND)
    assert told(whole, cache)[1][0] == 3 * 10**9
    other = record(0, 9, end=3 * SECOND)
    assert told(other, cache)[1][0] == 3 * 10**9
    scsi = record(0x2A, 8, end=3 * SECOND)
    assert told(scsi, cache)[1][0] == 3 * 10**9
    assert told(record(0, 8, status=0))[0][1] == gone


def test_oldest_time_of_a_full_list() -> None:
    """What began before it may be the rest of a FLUSH that left the list."""
    may = Absent(
        "not-recorded", "the time may be that of a FLUSH or SHUTDOWN that left the full list"
    )
    for count, start, is_told in ((66, 9, False), (66, 10, True), (65, 9, True)):
        rows = [record(start=11 * SECOND, end=12 * SECOND)] * (count - 4)
        rows += [record(), record(start=10 * SECOND), record(end=13 * SECOND)]
        rows += [record(0x35, start=start * SECOND, end=14 * SECOND)]
        row = listed(*rows)[0][-1]
        wanted = (start * 10**9, (14 - start) * 10**9) if is_told else (may, may)
        assert (row.start, row.duration_ns) == wanted


def test_a_block_that_is_none_and_one_that_is_too_short() -> None:
    """Told; the records that are there are read."""
    text = "the storage port block states 3 requests, it has room for 2"
    rows, problem = listed(record(), record(), stated=3)
    assert (len(rows), problem) == (2, text)
    rows, problem = listed(record(), record()[:-1], stated=1)
    assert (len(rows), problem) == (1, "")
    assert listed() == ([], "")
    text = "the storage port block does not start with DSTP (found b'DSTQ')"
    assert storport.requests(b"DSTQ" + bytes(0x40), "a", 0, 0) == ([], text)
    text = "the storage port block does not start with DSTP (found b'DSTP')"
    assert storport.requests(b"DSTP" + bytes(0x1F), "a", 0, 0) == ([], text)


def test_names_of_the_windows_headers() -> None:
    """Functions and statuses as srb.h has them."""
    path = Path("/usr/share/mingw-w64/include/ddk/srb.h")
    if not path.is_file():
        missing("needs the headers of mingw-w64; .ci/run installs them")
    text = path.read_text(errors="replace")
    for kind, names in (("FUNCTION", storport.FUNCTIONS), ("STATUS", storport.STATUSES)):
        rows = re.findall(rf"define SRB_{kind}_(\w+)\s+0x([0-9A-Fa-f]+)", text)
        known = {name: int(value, 16) for name, value in rows}
        shared = {value: name for value, name in names.items() if name in known}
        assert shared == {known[name]: name for name in shared.values()}
        assert len(shared) > 20


def test_most_requests() -> None:
    """A bound on what a block may state."""
    for count in (4096, 4097):
        assert len(listed(*[record()] * count)[0]) == 4096


# ---- slices -------------------------------------------------------------------------------------
def test_what_was_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts in order, neighbours joined, questions apart; also when many were kept."""
    for most in (2, 3, 1 << 16):
        monkeypatch.setattr(slicing, "_MOST_NEW", most)
        touched = slicing.Touched()
        for offset, size in ((10, 5), (0, 3), (15, 1), (3, 2), (20, 4), (21, 1), (9, 0), (8, -1)):
            touched.add(offset, size)
        assert touched.intervals() == [(0, 5), (10, 16), (20, 24)]
        touched.add(5, 5)
        assert touched.intervals() == touched.intervals() == [(0, 16), (20, 24)]
        assert touched.asked == {9}
        if most == 2:
            touched.add(30, 1)
            assert touched._new == [(30, 31)]
            touched.add(40, 1)
            assert (touched._new, touched._merged[-2:]) == ([], [(30, 31), (40, 41)])
    assert slicing.Touched().intervals() == []


def test_what_of_a_place_was_read() -> None:
    """The parts of intervals between two places."""
    every = [(0, 5), (10, 16), (20, 24)]

    def within(start: int, end: int) -> Pairs:
        return list(slicing._within(every, start, end))

    assert within(0, 30) == every
    assert within(4, 11) == [(4, 5), (10, 11)]
    assert within(5, 10) == []
    assert within(12, 14) == [(12, 14)]
    assert within(16, 20) == []
    assert within(23, 99) == [(23, 24)]
    assert within(10, 16) == [(10, 16)]
    assert list(slicing._within([], 0, 9)) == []


def held(runs: Pairs, size: int, first: int = 0x100, kind: int = 1, is_of_file: bool = True) -> Any:
    """As much of a dump as is asked for its pages."""
    pages = run_map(runs, first)
    data = bytes(n % 251 for n in range(size))
    file = SimpleNamespace(size=size, data=data, number=lambda _: kind)
    return SimpleNamespace(
        pages=pages, first_page=first, end_of_pages=first + pages.pages * PAGE, file=file,
        is_of_file=is_of_file, pointer_size=8,
    )  # fmt: skip


def test_pages_that_were_touched() -> None:
    """Each once and in the order of the file; those that a cut file lacks stay in the map."""
    dump = held([(7, 2), (3, 3)], 0x100 + 5 * PAGE)
    first = 0x100
    order = [7, 8, 3, 4, 5]

    def numbers(intervals: Pairs, *asked: int, of: Any = dump) -> list[int]:
        found = slicing._frames(of, intervals, set(asked))
        assert all(at == first + PAGE * order.index(frame) for frame, at in found)
        return [frame for frame, _ in found]

    end = first + 5 * PAGE
    assert numbers([(0, end + 100)]) == order
    assert numbers([(0, first)]) == numbers([(end, end + 9)]) == numbers([]) == []
    assert numbers([(0, first + 1)]) == [7]
    assert numbers([(first + PAGE - 1, first + PAGE + 1)]) == [7, 8]
    assert numbers([(first + PAGE, first + 2 * PAGE)]) == [8]
    assert numbers([(end - 1, end)], first, first + PAGE - 1) == [7, 5]
    assert numbers([], first - 1, end) == []
    assert numbers([], end - 1) == [5]
    cut = held([(7, 2), (3, 3)], first + 2 * PAGE + 1)
    assert numbers([(first, first + 1)], of=cut) == [7, 3, 4, 5]
    assert numbers([], of=held([(7, 2), (3, 3)], first + 2 * PAGE)) == [3, 4, 5]
    assert numbers([], of=held([(7, 2), (3, 3)], 0x80)) == order
    lowest = held([(0, 2)], first + 2 * PAGE)
    assert slicing._frames(lowest, [(first, first + 1)], set()) == [(0, first)]
    overlapping = held([(7, 2), (8, 1)], first + 3 * PAGE)
    found = slicing._frames(overlapping, [(0, 1 << 20)], set())
    assert found == [(7, first), (8, first + 2 * PAGE)]


def test_order_and_kind_of_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bitmap knows the order of frames only; a full dump's header has room for 42 runs."""
    dump = held([(7, 2), (3, 3)], 0x100 + 4 * PAGE)
    mixed = [(7, 0x100), (3, 0x100 + 2 * PAGE), (4, 0x100 + 3 * PAGE), (5, 0x100 + 4 * PAGE)]
    assert slicing._in_order(dump, mixed) == [mixed[1], mixed[2], mixed[0]]
    assert slicing._in_order(dump, mixed[1:]) == mixed[1:]
    monkeypatch.setattr(slicing, "_MOST_FRAMES", 5)
    assert slicing._in_order(dump, mixed[1:]) == mixed[1:3]
    some = [(3 * place, 0) for place in range(43)]
    assert slicing._kind(dump, some[:42]) == 1
    assert slicing._kind(dump, some) == 5
    assert slicing._kind(held([], 9, is_of_file=False), []) == 5
    for kind in (2, 5, 6, 8, 10):
        assert slicing._kind(held([], 9, kind=kind), some) == kind
    assert slicing._count(dump) == 5
    assert slicing._count(held([(1, 1)], 9, is_of_file=False)) == 0


def test_copies_of_a_slice() -> None:
    """All bytes, or zeros in place of what was not read."""
    dump = held([(1, 1)], 0x40)
    for kept, wanted in (
        (None, bytes(range(8, 24))),
        ([], bytes(16)),
        ([(8, 10), (23, 24)], b"\x08\x09" + bytes(13) + b"\x17"),
    ):
        out = io.BytesIO()
        slicing._copy(dump, out, 8, 24, kept)
        assert out.getvalue() == wanted


def test_maps_of_a_slice() -> None:
    """Each is read back as the pages that were written into it."""
    cases: list[list[int]] = [[], [0], [63], [64], [1, 2, 3, 9, 127], [5, 6, 64, 65, 66, 130]]
    for frames in cases:
        pages = [(frame, 0) for frame in frames]
        count, bits = slicing._bits(pages)
        assert (count, len(bits)) == (max(frames, default=0) // 64 * 64 + 64, count // 8)
        assert bits == bitmap_of(frames, count)
        runs = slicing._runs(pages)
        assert [base + n for base, size in runs for n in range(size)] == frames
        assert len(runs) == sum(frame - 1 not in frames for frame in frames)
        for width, form in ((8, "<Q"), (4, "<I")):
            block = slicing._header_runs(pages, width)
            words = [word for (word,) in struct.iter_unpack(form, block)]
            assert words == [len(runs), len(frames), *(word for run in runs for word in run)]
        for kind in (8, 9, 10):
            page_map = slicing._range_map(b"RDMP" * 12, pages, 0x2000, kind)
            first = 0x2000 + len(page_map)
            assert first % PAGE == 0
            assert page_map[:0x10] == b"RDMP" * 4
            assert struct.unpack_from("<QQ", page_map, 0x10) == (first - 0x2020, first)
            if kind == 10:
                stated = struct.unpack_from("<IIQ", page_map, 0x20)
                assert stated == (len(runs), 0, len(frames))
            else:
                assert page_map[0x20:0x30] == b"RDMP" * 4
            data = FileBytes.of(bytes(0x2000) + page_map, "a")
            found = pagemap.from_ranges(data, 0x2030, first, 0)
            if frames != [0]:  # a zero ends the table
                assert result(found)[0] == {f: first + PAGE * n for n, f in enumerate(frames)}
    assert [slicing._aligned(place) for place in (0, 1, 4096, 4097)] == [0, 4096, 4096, 8192]
    full = [(3 * place, 0) for place in range((0x1000 - 0x30) // 16)]
    for count, size in ((len(full) - 1, 0x1000), (len(full), 0x2000)):
        assert len(slicing._range_map(b"", full[:count], 0x2000, 8)) == size
    assert (
        len(slicing._range_map(b"", [(3 * place, 0) for place in range(600)], 0x2000, 8)) == 0x3000
    )


MARKS = [
    (Mark(6, 12, 345, False, False, False), "type=6 pages=12/345"),
    (Mark(0, 1, 0, True, False, False), "type=0 pages=1/0 redacted"),
    (Mark(10, 1, 2, True, True, True), "type=10 pages=1/2 redacted cut pages-only"),
    (Mark(1, 1, 2, False, False, True), "type=1 pages=1/2 pages-only"),
    (Mark(1, 1, 2, False, True, False), "type=1 pages=1/2 cut"),
]


@pytest.mark.parametrize(("mark", "text"), MARKS)
def test_marks_of_a_slice(mark: Mark, text: str) -> None:
    """In the comment, as long as it was, behind what stood there."""
    words = b"dumpstart slice " + text.encode()
    for before in (b"", b"PAGE" * 32):
        assert in_comment(before.ljust(128, b"\0"), mark) == words.ljust(128, b"\0")
    found = in_comment(b"a word".ljust(128, b"\0"), mark)
    assert found == (b"a word " + words).ljust(128, b"\0")
    long = in_comment(b"x" * 128, mark)
    assert long == b"x" * (126 - len(words)) + b" " + words + b"\0"
    for comment in (words, found, long):
        assert mark_of(comment) == mark
    assert (
        mark_of(None) is mark_of(b"dumpstart slice type=6") is mark_of("type=6 pages=1/1") is None
    )


def test_mark_of_a_slice_of_a_slice() -> None:
    """That of the dump it all came from, with the pages that are left."""
    for number, (first, _) in enumerate(MARKS):
        for second, _ in MARKS[number:]:
            once = in_comment(b"a".ljust(128, b"\0"), first)
            twice = in_comment(once, second)
            assert len(twice) == 128
            assert twice.count(b"dumpstart") == 1
            assert mark_of(twice) == Mark(
                first.dump_type, second.pages, first.of_pages,
                first.is_redacted or second.is_redacted, first.was_cut,
                first.is_pages_only or second.is_pages_only,
            )  # fmt: skip
