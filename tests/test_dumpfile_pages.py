"""Dumps with pages: their maps in the header, what a slice of them is, and the scan for nodes."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dumpstack_memory import stack_of
from generator import Spec, build

from analyzer.absence import Absent
from analyzer.dumpfile import open_dump, page_search, pagedump, slicing
from analyzer.dumpfile.slice_mark import Mark, mark_of
from analyzer.dumpstack import roles
from analyzer.layouts import mindumpdef

PAGE = 0x1000
BASE = {8: 0x2000, 4: 0x1000}


# ---- the map behind the header ------------------------------------------------------------------
def header(width: int, kind: int, **values: Any) -> bytearray:
    """The header of a dump."""
    layout = mindumpdef.DumpHeader64 if width == 8 else mindumpdef.DumpHeader32
    data = bytearray(layout.size)
    data[:8] = b"PAGEDU64" if width == 8 else b"PAGEDUMP"
    machine = 0x8664 if width == 8 else 0x14C
    for name, value in {"MachineImageType": machine, "DumpType": kind, **values}.items():
        field = mindumpdef.fields(layout)[name]
        struct.pack_into("<" + field.format, data, field.offset, value)
    return data


def opened(folder: Path, data: bytes) -> Any:
    """A dump of bytes."""
    (folder / "a.dmp").write_bytes(data)
    return open_dump(str(folder / "a.dmp"))


def told(dump: Any) -> list[tuple[str, str, Any]]:
    """(rule, text, offset) of what is odd about the map."""
    rows = [(one.rule, one.text, one.origin.file_offset) for one in dump.file.anomalies]
    return [row for row in rows if not row[0].startswith("secondary")]


def frames_of(dump: Any) -> dict[int, int]:
    """Frame -> file offset."""
    frames = np.arange(0, 300, dtype=np.int64)
    return {
        frame: at for frame, at in zip(frames.tolist(), dump.pages.offsets(frames).tolist())
        if at >= 0
    }  # fmt: skip


def ranges(base: int, runs: Any, first: int | None = None, pages: int = 0) -> bytes:
    """An RDMP header with its table."""
    first = base + PAGE if first is None else first
    head = bytearray(0x30)
    head[4:8] = b"RDMP"
    struct.pack_into("<QQ", head, 0x10, first - base - 0x20, first)
    struct.pack_into("<Q", head, 0x28, pages)
    return bytes(head) + b"".join(struct.pack("<QQ", *run) for run in runs)


def bitmap(base: int, frames: Any, mark: bytes = b"SDMP", pages: int | None = None) -> bytes:
    """An FDMP or SDMP header of types 5 and 6 with its bits, the first page a page behind."""
    head = bytearray(0x38)
    head[:8] = mark + b"DUMP"
    count = len(frames) if pages is None else pages
    struct.pack_into("<QQQ", head, 0x20, base + PAGE, count, 128)
    return bytes(head) + sum(1 << frame for frame in frames).to_bytes(16, "little")


def summary(width: int, frames: Any) -> bytes:
    """The SDMP header of type 2."""
    head = bytearray(0x28 if width == 8 else 0x20)
    head[:8] = b"SDMPDUMP"
    struct.pack_into("<4I", head, 0xC, BASE[width] + PAGE, 128, len(frames), 128)
    return bytes(head) + sum(1 << frame for frame in frames).to_bytes(16, "little")


PLACED = [1, 2, 5, 64, 127]


@pytest.mark.parametrize("width", [8, 4])
@pytest.mark.parametrize("kind", [2, 5, 6, 8, 9, 10])
def test_map_of_each_kind(width: int, kind: int, tmp_path: Path) -> None:
    """The same pages in each; without the mark of its map a dump has none, and says why."""
    base = BASE[width]
    wanted = {frame: base + PAGE * (place + 1) for place, frame in enumerate(PLACED)}
    runs = [(1, 2), (5, 1), (64, 1), (127, 1)]
    body = {2: summary(width, PLACED), 5: bitmap(base, PLACED), 6: bitmap(base, PLACED, b"FDMP")}
    whole = body.get(kind) or ranges(base, runs, None, 5 if kind == 10 else 0)
    pages = b"".join(bytes([frame]) * PAGE for frame in PLACED)
    data = bytes(header(width, kind)) + whole.ljust(PAGE, b"\0") + pages
    dump = opened(tmp_path, data)
    assert (frames_of(dump), told(dump)) == (wanted, [])
    assert (dump.first_page, dump.end_of_pages) == (base + PAGE, len(data))
    assert (dump.missing_pages, dump.pages.pages) == (0, 5)
    text = "no RDMP range header behind the dump header"
    if kind < 8:
        text = f"no SDMP or FDMP page bitmap behind the dump header: {b'XDMP'!r}"
    at = base + (4 if kind >= 8 else 0)
    broken = bytearray(data)
    broken[at : at + 4] = b"XDMP"
    dump = opened(tmp_path, bytes(broken))
    # how the sentence begins is that of its clause
    wanted_note = ("dump-map-inconsistent", f"{text[0].upper()}{text[1:]}.", base)
    assert (frames_of(dump), told(dump)) == ({}, [wanted_note])
    if kind < 8:
        broken = bytearray(data)
        broken[base + 4 : base + 8] = b"XUMP"
        rules = [row[0] for row in told(opened(tmp_path, bytes(broken)))]
        assert rules == ["dump-map-inconsistent"]


@pytest.mark.parametrize("lost", [1, PAGE, PAGE + 1, 5 * PAGE])
def test_pages_that_a_file_lost(lost: int, tmp_path: Path) -> None:
    """How many are missing, whole or in part."""
    pages = bitmap(0x2000, PLACED).ljust(PAGE, b"\0") + bytes(5 * PAGE)
    data = (bytes(header(8, 6)) + pages)[:-lost]
    dump = opened(tmp_path, data)
    count = -(-lost // PAGE)
    missing = "1 page is missing" if count == 1 else f"{count} pages are missing"
    text = (
        f"The file should hold 5 pages and end at {len(data) + lost:,} bytes or later, but is "
        f"{len(data):,} bytes long: {missing}."
    )
    assert told(dump) == [("dump-file-cut", text, len(data))]
    assert dump.missing_pages == count


@pytest.mark.parametrize("kind", [1, 2, 6, 8])
def test_a_file_that_ends_before_its_map(kind: int, tmp_path: Path) -> None:
    """A map needs 64 bytes; what it names may be meant by any address."""
    for more in (0, 0x3F):
        dump = opened(tmp_path, bytes(header(8, kind)) + bytes(more))
        end = 0x2000 + more
        text = f"The file ends at {end:,} bytes, before its map of pages."
        wanted = [] if kind == 1 else [("dump-file-cut", text, end)]
        assert (told(dump), frames_of(dump), dump._is_map_cut) == (wanted, {}, True)
        notes = [(one.text, one.origin.file_offset) for one in dump.file.anomalies]
        text = f"The file ends at {end:,} bytes, before any secondary data."
        assert (text, end) in notes
        assert dump.left_out(0x1000) is None
    size = 0x2000 - 1
    dump = opened(tmp_path, bytes(header(8, kind))[:size])
    assert [row[0] for row in told(dump)] == ["dump-file-cut"]
    assert "inside its" in told(dump)[0][1]


def test_first_page_of_ranges(tmp_path: Path) -> None:
    """It must be where the size of the table puts it."""
    base = 0x2000
    body = bytearray(ranges(base, [(1, 2)]).ljust(PAGE, b"\0") + bytes(2 * PAGE))
    struct.pack_into("<Q", body, 0x10, PAGE - 0x28)
    text = (
        "The range header states its first page at 0x3000, its size of 0xfd8 bytes puts it at "
        "0x2ff8."
    )
    dump = opened(tmp_path, bytes(header(8, 8)) + bytes(body))
    assert told(dump) == [("dump-map-inconsistent", text, base + 0x10)]
    assert frames_of(dump) == {1: 0x3000, 2: 0x4000}


# ---- reading ------------------------------------------------------------------------------------
def tables(*entries: tuple[int, int]) -> bytes:
    """One page of 64-bit table entries (index, entry)."""
    data = bytearray(PAGE)
    for index, entry in entries:
        struct.pack_into("<Q", data, 8 * index, entry)
    return bytes(data)


ADDRESS = 0xFFFF800000000000  # index 256 of the root, 0 of the others


def mapped(tmp_path: Path, *pages: bytes, size: int | None = None, frames: Any = None) -> Any:
    """A dump whose frames 1 to 4 are tables; pages of frames 5, 6, ... are mapped from ADDRESS."""
    frames = [5 + place for place in range(len(pages))] if frames is None else frames
    leaf = tables(*[(place, frame << 12 | 3) for place, frame in enumerate(frames)])
    every = [tables((256, 0x2003)), tables((0, 0x3003)), tables((0, 0x4003)), leaf, *pages]
    body = bitmap(0x2000, range(1, 1 + len(every))).ljust(PAGE, b"\0") + b"".join(every)
    data = bytes(header(8, 6, DirectoryTableBase=0x1000)) + body
    return opened(tmp_path, data[:size])


def test_reads_across_pages(tmp_path: Path) -> None:
    """Whole, or the reason of the first part that is not there."""
    dump = mapped(tmp_path, b"a" * PAGE, b"b" * PAGE, frames=[5, 6, 99, 6])
    assert dump.read(ADDRESS + PAGE - 2, 4) == b"aabb"
    assert dump.read(ADDRESS, 0) == b""
    assert dump.read(ADDRESS + 0x10, 2 * PAGE - 0x10) == b"a" * (PAGE - 16) + b"b" * PAGE
    gone = ADDRESS + 2 * PAGE
    why = Absent(
        "not-in-dump", "the target had this memory, but the dump does not hold it "
        f"({gone:#x})", "a complete memory dump",
    )  # fmt: skip
    assert dump.read(gone - 1, 2) == why
    assert dump.left_out(gone + 0x123) == 99
    assert dump.left_out(ADDRESS) is dump.left_out(ADDRESS + 4 * PAGE) is None
    offsets = [dump.file_offset(ADDRESS + at) for at in (0, PAGE + 5, 2 * PAGE, 4 * PAGE)]
    assert offsets == [0x7000, 0x8005, None, None]
    none = Absent("not-mapped", f"the target had no memory at this address ({gone + 2 * PAGE:#x})")
    assert dump.read(gone + 2 * PAGE, 1) == none
    seen: list[tuple[int, int]] = []
    dump.file.data.touched = lambda *place: seen.append(place)
    assert dump.file_offset(ADDRESS + 5) == 0x7005
    assert (0x7005, 0) in seen
    seen.clear()
    assert dump.left_out(ADDRESS + 6) is None
    assert (0x7006, 0) in seen


def with_list(
    tmp_path: Path, levels: list[bytes], last: bytes, width: int = 8, **values: Any
) -> tuple[str, Any, bool]:
    """(scheme, architecture, is the list read) of a dump with tables in frames 1, 2, ..."""
    pages = [*levels, last]
    body = bitmap(BASE[width], range(1, 1 + len(pages))).ljust(PAGE, b"\0") + b"".join(pages)
    dump = opened(tmp_path, bytes(header(width, 6, DirectoryTableBase=0x1000, **values)) + body)
    return dump.walker.scheme.name, dump.architecture, isinstance(dump.modules(), list)


def test_scheme_under_which_the_list_of_modules_reads(tmp_path: Path) -> None:
    """Not the header but the tables say how many levels there are, and which kind."""
    ends = struct.pack("<QQ", ADDRESS, ADDRESS).ljust(PAGE, b"\0")
    four = [tables((256, 0x2003)), tables((0, 0x3003)), tables((0, 0x4003)), tables((0, 0x5003))]
    five = [tables((511, 0x2003)), tables((256, 0x3003)), tables((0, 0x4003)),
            tables((0, 0x5003)), tables((0, 0x6003))]  # fmt: skip
    mine = {"PsLoadedModuleList": ADDRESS}

    def found(levels: list[bytes], last: bytes = ends, **values: Any) -> tuple[str, Any]:
        return with_list(tmp_path, levels, last, **{**mine, **values})[:2]

    assert found(four) == ("x64", "x64")
    assert found(five) == ("x64-la57", "x64-la57")
    for ring in ((ADDRESS, ADDRESS + 8), (ADDRESS, ADDRESS - 8), (8, ADDRESS)):
        broken = struct.pack("<QQ", *ring).ljust(PAGE, b"\0")
        assert found(five, broken) == found(four, broken) == ("x64", "x64")
    assert found(five, PsLoadedModuleList=0x4547415045474150) == ("x64", "x64")
    assert found(four, MachineImageType=0xAA64) == ("arm64", "arm64")
    name, architecture = found(four, MachineImageType=0)
    assert (name, isinstance(architecture, Absent)) == ("x64", True)
    leaf = [*four[:2], tables((0, 0x4003)), tables((0, 0x5003))]
    leaf[1] = tables((0, 0x3083))  # a table to ARM64, a large page to x64
    assert found(leaf, MachineImageType=0)[0] == "arm64"
    high, ends = 0x80000000, struct.pack("<II", 0x80000000, 0x80000000).ljust(PAGE, b"\0")
    pae = [tables((2, 0x2001)), tables((0, 0x3003)), tables((0, 0x4003))]
    plain = [struct.pack("<I", 0x2003).rjust(0x804, b"\0").ljust(PAGE, b"\0"),
             struct.pack("<I", 0x3003).ljust(PAGE, b"\0")]  # fmt: skip
    for is_pae in (0, 1, 0x50):
        for levels, name in ((pae, "x86-pae"), (plain, "x86")):
            values = {"PaeEnabled": is_pae, "PsLoadedModuleList": high}
            assert with_list(tmp_path, levels, ends, 4, **values)[:2] == (name, name)
    values = {"PsLoadedModuleList": high, "MachineImageType": 1}
    for levels, name in ((pae, "x86-pae"), (plain, "x86")):
        assert with_list(tmp_path, levels, ends, 4, **values)[0] == name


def test_a_map_that_is_cut(tmp_path: Path) -> None:
    """What it does not name may be meant: it is cut with the file, not left out."""
    dump = mapped(tmp_path, b"a" * PAGE, frames=[5, 99])
    data = bytearray((tmp_path / "a.dmp").read_bytes())
    at = ADDRESS + PAGE
    assert dump.read(at, 1).reason == "not-in-dump"
    struct.pack_into("<Q", data, 0x2000 + 0x30, 1 << 30)  # bits, for which there is no room
    dump = opened(tmp_path, bytes(data))
    assert dump.read(at, 1) == Absent("file-cut", f"the file ends before its map has {at:#x}")
    assert dump.left_out(at) is None
    assert dump.read(ADDRESS, 1) == b"a"
    text = f"The file ends at {len(data):,} bytes, before any secondary data."
    assert text in [one.text for one in dump.file.anomalies]


def test_reads_at_the_end_of_a_cut_file(tmp_path: Path) -> None:
    """What is there of the last page is read."""
    size = 0x8000 + 0x100
    dump = mapped(tmp_path, b"a" * PAGE, b"b" * PAGE, size=size)
    assert dump.read(ADDRESS + PAGE, 0x100) == b"b" * 0x100
    assert dump.read(ADDRESS + PAGE, 0x101).reason == "file-cut"
    assert dump.read(ADDRESS + PAGE + 0x100, 1).reason == "file-cut"
    assert dump.file_offset(ADDRESS + PAGE + 0xFF) == size - 1
    assert dump.file_offset(ADDRESS + PAGE + 0x100) is None
    chunk = list(dump.chunks(ADDRESS, 2 * PAGE))
    assert chunk == [(ADDRESS, b"a" * PAGE)]


@pytest.mark.parametrize("word", [b"\xed\xfe\xad\xde", b"PAGE"])
def test_pages_of_a_filler(word: bytes, tmp_path: Path) -> None:
    """At any place of such a page; where one byte is another, it is memory."""
    whole = word * (PAGE // 4)
    dump = mapped(tmp_path, whole, whole[:-1] + b"\0", b"\0" + whole[1:])
    for at in (0, 1, 2, 3, PAGE - 2):
        why = (
            f"whatever wrote the dump could not read this page ({ADDRESS + at:#x}) and put a "
            "filler there"
        )
        found = dump.read(ADDRESS + at, 2)
        assert found == Absent("not-in-dump", why, "a complete memory dump")
        assert dump.read(ADDRESS + PAGE + at, 1) == whole[at : at + 1]
        assert isinstance(dump.read(ADDRESS + 2 * PAGE + at, 2), bytes)


# ---- slices -------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", [1, 2, 5, 6, 8, 10])
@pytest.mark.parametrize("redact", [False, True])
@pytest.mark.parametrize("secondary", [False, True])
def test_whole_slices(
    kind: int, redact: bool, secondary: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every byte: the pages touched, in order, blank where nothing was read; what is behind."""
    monkeypatch.setattr(slicing, "_PIECE", 0x70)
    whole = build(Spec("x64", kind))
    dump: Any = opened(tmp_path, whole.data)
    first, count = dump.first_page, dump.pages.pages
    numbers = [0, 3, 4, count - 1]
    touched = slicing.Touched()
    touched.add(first + 3 * PAGE + 0x80, PAGE)  # the end of one page, the start of the next
    touched.add(first, 8)
    touched.add(first + count * PAGE - 1, 1)
    end = dump.end_of_pages
    touched.add(end + 4, 0x80)
    out = io.BytesIO()
    made = slicing.write(dump, touched, out, redact=redact, secondary=secondary)
    behind = whole.data[end:] if secondary else b""
    wanted = []
    for number in numbers:
        at = first + number * PAGE
        wanted.append(bytearray(whole.data[at : at + PAGE]))
    if redact:
        wanted[0][8:] = bytes(PAGE - 8)
        wanted[1][:0x80] = bytes(0x80)
        wanted[2][0x80:] = bytes(PAGE - 0x80)
        wanted[3][:-1] = bytes(PAGE - 1)
        behind = (bytes(4) + behind[4:0x84]).ljust(len(behind), b"\0") if secondary else b""
    data = out.getvalue()
    body = b"".join(wanted) + behind
    assert data.endswith(body)
    assert made == slicing.Slice(kind, 4, count, PAGE + 9, len(behind), len(data))
    small: Any = opened(tmp_path, data)
    assert small.first_page == len(data) - len(body)
    frames = [dump.pages.frame_at(first + number * PAGE) for number in numbers]
    places = small.pages.offsets(np.array(frames, np.int64)).tolist()
    assert places == [small.first_page + PAGE * place for place in range(4)]
    assert small.pages.pages == 4
    assert mark_of(small.file.fields["Comment"]) == Mark(
        kind, 4, count, redact, False, not secondary
    )  # fmt: skip
    rules = {one.rule for one in small.file.anomalies}
    blank = {"secondary-data-missing"} if redact and secondary else set()  # its mark is not read
    assert rules - {"modules-incomplete"} == {"dump-is-slice"} | blank


SLICES = [
    ("type=6 pages=4/2000", "4 pages of 2,000", None),
    ("type=6 pages=4/2000 redacted", "", ", and what no analysis read was zeroed"),
    ("type=6 pages=4/2000 pages-only", "", "; its secondary data was left out"),
    ("type=6 pages=4/2000 cut", "", "; that dump had lost its end"),
    ("type=0 pages=4/0", "", "; of the processors' registers one set is here"),
    ("type=77 pages=4/5", "", ""),
]


@pytest.mark.parametrize(("words", "more"), [(row[0], row[2] or "") for row in SLICES])
def test_what_a_slice_says_of_itself(words: str, more: str, tmp_path: Path) -> None:
    """In a sentence, from the mark in its comment."""
    data = header(8, 6)
    data[0xFB0 : 0xFB0 + 128] = f"dumpstart slice {words}".encode().ljust(128, b"\0")
    body = bitmap(0x2000, PLACED).ljust(PAGE, b"\0") + bytes(5 * PAGE)
    dump = opened(tmp_path, bytes(data) + body)
    what = {
        "type=6 ": "4 of 2,000 pages of a dump (kernel bitmap)",
        "type=0 ": "4 pages of a memory snapshot", "type=77": "4 of 5 pages of a dump (of type 77)",
    }[words[:7]]  # fmt: skip
    (note,) = [one for one in dump.file.anomalies if one.rule == "dump-is-slice"]
    assert note.text == (
        "The header says that this is a slice, made by 'dumpstart export --slice': "
        f"{what}. What it lacks may have been there{more}."
    )
    of = 0 if "type=0" in words else 5 if "77" in words else 2000
    assert note.evidence[0].value == of
    assert note.origin.file_offset == 0xFB0
    lacks = "type=0" in words or "pages-only" in words
    assert dump._lacks_secondary() is lacks


# ---- the scan -----------------------------------------------------------------------------------
def scanned(spec: Spec, tmp_path: Path, count: int = 3) -> tuple[Any, list[Any], list[int]]:
    """A dump with nodes, its dump modules, and the nodes' file offsets in order."""
    built = build(spec)
    dump = opened(tmp_path, built.data)
    modules = [m for m in roles.classify(dump.modules()) if m.stack and m.loaded]
    places = [dump.file_offset(row["node"]) for row in built.truth["filters"]]
    assert len(places) >= count - 1
    return dump, modules, sorted(places)


@pytest.mark.parametrize("arch", ["x64", "x86"])
def test_bounds_of_the_scan(arch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Places and nodes have bounds, and one that was reached is told."""
    dump, modules, places = scanned(Spec(arch, 6, variant="nodes-only"), tmp_path)
    for search in (page_search.by_partitions, page_search.by_pointers):
        found = [node.file_offset for node in search(dump, modules)]
        assert sorted(found) == places  # type: ignore[type-var]
        assert dump.limits == ()
    monkeypatch.setattr(page_search, "MAX_NODES", 1)
    assert len(page_search.by_partitions(dump, modules)) == 1
    assert dump.limits == ("the search for filter nodes ended after 1 places",)
    monkeypatch.setattr(page_search, "MAX_NODES", 256)
    dump.limits = ()
    monkeypatch.setattr(page_search, "MAX_CANDIDATES", len(places))
    assert len(page_search.by_partitions(dump, modules)) == len(places)
    assert dump.limits == ()
    monkeypatch.setattr(page_search, "MAX_CANDIDATES", len(places) - 1)
    assert len(page_search.by_partitions(dump, modules)) == len(places) - 1
    assert dump.limits == (f"the search for filter nodes ended after {len(places) - 1} places",)
    others = [m for m in modules if m.role != "dump filter"]
    assert page_search.by_pointers(dump, others) == []
    assert len(stack_of(8)) == 6


def test_only_versions_of_nodes_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MajorVersion 1 or 2 and MinorVersion 0: others take no place of the bound."""
    dump, modules, places = scanned(Spec("x64", 6, variant="nodes-only"), tmp_path)
    (node, *_) = page_search.by_partitions(dump, modules)
    whole, layout = (tmp_path / "a.dmp").read_bytes(), node.layout
    blank = next(
        at for at in range(dump.first_page, places[0], PAGE) if not any(whole[at : at + PAGE])
    )
    monkeypatch.setattr(page_search, "MAX_CANDIDATES", len(places))
    for version, counts in ((1, True), (2, True), (0, False), (3, False), (1 << 32 | 1, False)):
        data, fake = bytearray(whole), bytearray(node.data[: layout.size])
        at = blank + 0x400
        struct.pack_into("<Q", fake, 0, version)
        data[at : at + layout.size] = fake
        moved = opened(tmp_path, bytes(data))
        page_search.by_partitions(moved, modules)
        assert bool(moved.limits) is counts, version


def test_a_node_whose_neighbours_do_not_lead_to_it(tmp_path: Path) -> None:
    """It has no address then; one that its page does not hold whole is left out."""
    dump, modules, places = scanned(Spec("x64", 6, variant="nodes-only"), tmp_path)
    (node, *_) = page_search.by_partitions(dump, modules)
    layout, at = node.layout, node.file_offset
    assert at is not None
    data = bytearray((tmp_path / "a.dmp").read_bytes())
    data[at + layout.link : at + layout.link + 16] = struct.pack("<QQ", 8, 16)
    alone = opened(tmp_path, bytes(data))
    wanted = Absent("not-found", "no neighbour in the ring links back to this node")
    found = {one.file_offset: one for one in page_search.by_partitions(alone, modules)}
    assert found[at].address == wanted
    assert bytes(found[at].data) == bytes(data[at : at + layout.size])
    assert sorted(found) == places  # type: ignore[type-var]
    room = PAGE - layout.size
    own = at - (at - dump.first_page) % PAGE
    for page, place, is_kept in (
        (own, room, True), (own, room + 8, False), (own, 0, True), (dump.first_page, 0, True),
        (dump.first_page, 8, True),
    ):  # fmt: skip
        moved = bytearray(data)
        moved[page : page + PAGE] = bytes(PAGE)
        moved[page + place : page + place + layout.size] = data[at : at + layout.size]
        for pad in (0, 0x10):  # before the first page
            later = bytearray(moved)
            later[dump.first_page : dump.first_page] = bytes(pad)
            struct.pack_into("<Q", later, BASE[8] + 0x20, dump.first_page + pad)
            there = page_search.by_partitions(opened(tmp_path, bytes(later)), modules)
            assert (page + place + pad in [one.file_offset for one in there]) is is_kept
    assert pagedump.PAGE == PAGE
