"""Virtual to physical to bytes.

Oracles: `truth["translations"]` and the pages of the generator; QEMU's MMU and two other readers
agree with those in test_oracles_generator.py.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generator import ARCHS, VARIANTS, Built, Spec, build

from analyzer.absence import Absent
from analyzer.dumpfile import open_dump
from analyzer.dumpfile.pagedump import PageDump
from analyzer.dumpfile.paging import REASON

PAGE = 4096
SPECS = [
    Spec(arch, kind, unaligned=unaligned)
    for arch in ARCHS
    for kind, unaligned in ((1, False), (2, True), (5, False), (6, True), (8, False), (10, True))
    if VARIANTS["healthy"].applies(arch, kind, "win8")
]
SPECS += [Spec("x64", 6, la57=True), Spec("x64", 6, variant="pcid"), Spec("x64", 9)]
#: how a kind of the truth reads to somebody who asks for bytes
REASONS = {"not-mapped": "not-mapped", "paged-out": "paged-out", "prototype": "paged-out"}


def name_of(spec: Spec) -> str:
    """Id of a parametrized test."""
    flags = [name for name in ("la57", "unaligned") if getattr(spec, name)]
    return "-".join(str(part) for part in (spec.arch, spec.dump_type, spec.variant, *flags))


def opened(spec: Spec, folder: Path) -> tuple[PageDump, Built]:
    """A synthetic dump in a file, opened."""
    built = build(spec)
    path = folder / f"{name_of(spec)}.dmp"
    path.write_bytes(built.data)
    dump = open_dump(str(path))
    assert isinstance(dump, PageDump)
    return dump, built


@pytest.fixture(scope="module", params=SPECS, ids=name_of)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Each dump, built and opened once."""
    return opened(request.param, tmp_path_factory.mktemp("dumps"))


@pytest.fixture(scope="module")
def x64(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One x64 kernel dump whose pages do not lie at multiples of 4096."""
    return opened(Spec("x64", 6, unaligned=True), tmp_path_factory.mktemp("x64"))


@pytest.fixture(scope="module")
def walkers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PageDump]:
    """One dump of each paging scheme."""
    folder = tmp_path_factory.mktemp("schemes")
    specs = [Spec(arch, 6) for arch in ARCHS] + [Spec("x64", 6, la57=True)]
    return {name_of(spec): opened(spec, folder)[0] for spec in specs}


def expected(built: Built, physical: int | None, kind: str) -> tuple[str, str]:
    """(reason of the walk, reason of a read) of one row of the truth."""
    if physical is None:
        return REASONS[kind], REASONS[kind]
    return "", "" if physical >> 12 in built.truth["frames"] else "not-in-dump"


# ---- the kinds of translation -------------------------------------------------------------------
def test_every_kind_of_translation_is_tried(case: Any) -> None:
    """The truth has each kind that the architecture documents."""
    _, built = case
    kinds = {kind for _, _, kind in built.truth["translations"]}
    wanted = {"valid", "large", "not-mapped", "not-in-dump"}
    if built.truth["pointer_size"] == 8:
        wanted.add("huge")
    if built.truth["spec"]["arch"] != "arm64":
        wanted |= {"transition", "paged-out", "prototype"}
    assert kinds == wanted


def test_scalar_walk_gives_the_truth(case: Any) -> None:
    """One address at a time: the physical address, or the reason."""
    dump, built = case
    for va, pa, kind in built.truth["translations"]:
        physical, reason = dump.walker.walk(va)
        assert (physical, REASON[reason]) == (
            -1 if pa is None else pa,
            expected(built, pa, kind)[0],
        ), (hex(va), kind)


def test_reads_give_the_bytes_of_the_page_or_the_reason(case: Any) -> None:
    """What the generator put into the frame, or why it is not there."""
    dump, built = case
    for va, pa, kind in built.truth["translations"]:
        why = expected(built, pa, kind)[1]
        data = dump.read(va, 4)
        if why:
            assert isinstance(data, Absent)
            assert data.reason == why, (hex(va), kind)
            assert dump.file_offset(va) is None
        else:
            assert data == built.page(pa >> 12)[pa & 0xFFF :][:4]
            assert dump.file_offset(va) == built.offset(pa >> 12) + (pa & 0xFFF)


def test_a_reason_says_where_more_could_be(case: Any) -> None:
    """Memory that the target had names the dump type that would hold it; the other does not."""
    dump, built = case
    for va, pa, kind in built.truth["translations"]:
        data = dump.read(va, 1)
        if isinstance(data, Absent):
            stored_elsewhere = expected(built, pa, kind)[1] == "not-in-dump"
            assert data.would_tell == ("a complete memory dump" if stored_elsewhere else "")
            assert f"{va:#x}" in data.detail


# ---- pages --------------------------------------------------------------------------------------
def test_every_stored_page_is_found(case: Any) -> None:
    """Each frame of the truth has its offset and its bytes, by frame number and by offset."""
    dump, built = case
    frames = np.array(built.truth["frames"], np.int64)
    offsets = dump.pages.offsets(frames)
    assert offsets.tolist() == [built.offset(pfn) for pfn in built.truth["frames"]]
    assert dump.pages.pages == len(frames)
    assert dump.pages.highest == frames[-1]
    for pfn, offset in zip(frames.tolist(), offsets.tolist()):
        assert dump.file.data[offset : offset + PAGE] == built.page(pfn)
        assert dump.pages.frame_at(offset) == dump.pages.frame_at(offset + PAGE - 1) == pfn


def test_no_other_page_is_found(case: Any) -> None:
    """Frames that are not stored have no offset, nor have those below, between and above."""
    dump, built = case
    stored = set(built.truth["frames"])
    tried = [pfn for pfn in range(-3, max(stored) + 200) if pfn not in stored]
    tried += [1 << 20, 1 << 40, (1 << 51) - 1]
    assert set(dump.pages.offsets(np.array(tried, np.int64)).tolist()) == {-1}
    assert dump.pages.frame_at(0) == -1
    assert dump.pages.frame_at(dump.end_of_pages) == -1


# ---- page edges ---------------------------------------------------------------------------------
def edges(built: Built) -> tuple[int, int]:
    """Two places before a page edge: with a page behind it, and with nothing behind it."""
    valid = next(va for va, _, kind in built.truth["translations"] if kind == "valid")
    stack = built.truth["stack"][0]
    return stack + PAGE, (valid & ~0xFFF) + PAGE


def test_reads_across_a_page_edge(case: Any) -> None:
    """Neighbours in virtual memory lie apart in the file; a read over their edge joins them."""
    dump, built = case
    edge, _ = edges(built)
    below, above = dump.walker.walk(edge - 1)[0], dump.walker.walk(edge)[0]
    want = built.page(below >> 12)[-16:] + built.page(above >> 12)[:24]
    assert above - below != 1  # the generator scatters the frames
    assert dump.read(edge - 16, 40) == want
    assert b"".join(data for _, data in dump.chunks(edge - 16, 40)) == want
    assert len(list(dump.chunks(edge - 16, 40))) == 1


def test_a_read_into_missing_memory_gives_nothing(case: Any) -> None:
    """No partial answer: one missing byte makes the read absent, `chunks` gives the rest."""
    dump, built = case
    _, edge = edges(built)
    reason = next(
        expected(built, pa, kind)[1]
        for va, pa, kind in [*built.truth["translations"], (edge, None, "not-mapped")]
        if va >> 12 == edge >> 12
    )
    assert isinstance(dump.read(edge - 8, 8), bytes)
    assert dump.read(edge - 8, 9).reason == reason
    parts = list(dump.chunks(edge - 8, 64))
    assert parts[0] == (edge - 8, dump.read(edge - 8, 8))


def test_empty_read(x64: Any) -> None:
    """Zero bytes can be read anywhere, mapped or not."""
    assert x64[0].read(0, 0) == b""


# ---- entries that are not valid -----------------------------------------------------------------
@pytest.mark.parametrize("arch", ["x64", "x86-pae"])
def test_transition_entries_with_inverted_high_bits(arch: str, tmp_path: Path) -> None:
    """The L1TF mitigation sets frame bits above all memory in entries that are not valid."""
    spec = Spec(arch, 6)
    built = build(spec)
    (row,) = (one for one in built.truth["translations"] if one[2] == "transition")
    entry = struct.pack("<Q", row[1] >> 12 << 12 | 0x880)  # bit 11: transition
    assert built.data.count(entry) == 1
    at = built.data.index(entry)
    dump = damaged(spec, tmp_path / "l1tf.dmp", (at, "Q", row[1] >> 12 << 12 | 0x880 | 0x7 << 45))
    assert dump.walker.walk(row[0]) == (row[1], 0)
    assert dump.read(row[0], 4) == built.page(row[1] >> 12)[8:12]


def test_a_page_file_entry_of_page_zero(tmp_path: Path) -> None:
    """Without any page file bits an entry that is not valid maps nothing."""
    spec = Spec("x64", 6)
    built = build(spec)
    (row,) = (one for one in built.truth["translations"] if one[2] == "paged-out")
    entry = struct.pack("<Q", 0x1234 << 32 | 0x82)  # the generator's: page 0x1234 of file 1
    assert built.data.count(entry) == 1
    dump = damaged(spec, tmp_path / "zero.dmp", (built.data.index(entry), "Q", 0))
    assert dump.read(row[0], 1).reason == "not-mapped"


# ---- scalar and vectorised agree on any address -------------------------------------------------
@pytest.mark.parametrize("scheme", ["x64-6-healthy", "x86-6-healthy"])
def test_a_walk_through_garbage_tables_ends(
    scheme: str, walkers: dict[str, PageDump], tmp_path: Path
) -> None:
    """With page tables overwritten by noise each address still has an answer."""
    source = Path(walkers[scheme].path).read_bytes()
    broken = bytearray(source)
    first = walkers[scheme].first_page
    noise = np.random.default_rng(5).integers(0, 256, len(broken) - first, np.uint8)
    keep = np.random.default_rng(6).random(len(noise)) < 0.98
    part = np.frombuffer(source, np.uint8, offset=first)
    broken[first:] = np.where(keep, part, noise).tobytes()
    path = tmp_path / "noise.dmp"
    path.write_bytes(broken)
    dump = open_dump(str(path))
    assert isinstance(dump, PageDump)
    top = 1 << (64 if dump.pointer_size == 8 else 32)
    addresses = list(range(0, top, top // 499))
    addresses += [
        va & ~0xFFF for m in walkers[scheme].modules() for va in range(m.base, m.end, PAGE)
    ]
    reasons = set()
    for address in addresses:
        physical, reason = dump.walker.walk(address)
        assert physical == -1 if reason else physical >= 0
        reasons.add(REASON[reason])
        data = dump.read(address, 8)
        assert len(data) == 8 if isinstance(data, bytes) else data.reason in REASON
    assert "not-mapped" in reasons


# ---- hostile page maps --------------------------------------------------------------------------
def damaged(spec: Spec, path: Path, *words: tuple[int, str, int]) -> PageDump:
    """A dump with numbers written over its header or page map."""
    data = bytearray(build(spec).data)
    for offset, form, value in words:
        struct.pack_into("<" + form, data, offset, value)
    path.write_bytes(data)
    dump = open_dump(str(path))
    assert isinstance(dump, PageDump)
    return dump


def rules(dump: PageDump) -> set[str]:
    """Rule ids of what the reader noted."""
    return {note.rule for note in dump.file.anomalies}


RUNS64, BITMAP, RANGES = 0x88, 0x2000, 0x2030  # memory block in the header, bitmap, range table


@pytest.mark.parametrize(
    ("kind", "words", "rule"),
    [
        (1, [(RUNS64, "I", 0xFFFFFFFF)], "dump-map-inconsistent"),  # 700 bytes hold 42 runs
        (1, [(RUNS64 + 0x18, "Q", (1 << 64) - 1)], "dump-map-inconsistent"),
        (1, [(RUNS64 + 0x18, "Q", 1 << 60)], "dump-map-inconsistent"),
        (1, [(RUNS64 + 0x10, "Q", (1 << 63) + 5)], "dump-map-inconsistent"),
        (1, [(RUNS64 + 8, "Q", 0)], "dump-map-inconsistent"),  # NumberOfPages
        (5, [(BITMAP + 0x30, "Q", (1 << 64) - 1)], "dump-file-cut"),
        (6, [(BITMAP + 0x28, "Q", 1)], "dump-bitmap-count-mismatch"),
        (6, [(BITMAP + 0x20, "Q", 0)], "dump-map-inconsistent"),
        (6, [(BITMAP, "4s", b"XXXX")], "dump-map-inconsistent"),
        (2, [(BITMAP + 0x10, "I", 0xFFFFFFFF)], "dump-file-cut"),
        (10, [(RANGES + 8, "Q", 1 << 62)], "dump-map-inconsistent"),
        (10, [(RANGES, "q", -5)], "dump-map-inconsistent"),
        (8, [(BITMAP + 0x18, "Q", 1 << 63)], "dump-map-inconsistent"),
        (9, [(BITMAP + 4, "4s", b"XXXX")], "dump-map-inconsistent"),
    ],
)
def test_hostile_page_maps_are_noted(
    kind: int, words: list[Any], rule: str, tmp_path: Path
) -> None:
    """Counts and places that cannot be end in a note; every read stays inside the file."""
    dump = damaged(Spec("x64", kind), tmp_path / "hostile.dmp", *words)
    assert rule in rules(dump)
    for address in (dump.file.number("PsLoadedModuleList"), 0, (1 << 64) - 1):
        data = dump.read(address, 16)
        assert isinstance(data, Absent) or len(data) == 16
    frames = np.array([0, 1, 0x100, 0x509, 1 << 30, (1 << 52) - 1], np.int64)
    assert (dump.pages.offsets(frames) >= -1).all()
    for root_entry in range(64):
        physical, reason = dump.walker.walk(root_entry << 39)
        assert (physical >= 0) == (reason == 0)


def test_overlapping_runs_are_noted(tmp_path: Path) -> None:
    """Two runs that hold one frame: the note says which is used, and that one is used."""
    spec = Spec("x64", 10)
    (first, count) = struct.unpack_from("<QQ", build(spec).data, RANGES)
    dump = damaged(spec, tmp_path / "o.dmp", (RANGES + 0x10, "Q", first))
    assert any("overlap" in note.text for note in dump.file.anomalies)
    offset = int(dump.pages.offsets(np.array([first], np.int64))[0])
    # the second run's first page lies behind the pages of the first run
    assert offset == dump.first_page + count * PAGE


def test_a_bitmap_may_end_on_any_byte(tmp_path: Path) -> None:
    """A debugger packs the first page right behind the bitmap; that is no anomaly."""
    dump = opened(Spec("x64", 6, unaligned=True), tmp_path)[0]
    assert dump.first_page % 8
    assert rules(dump) == set()


@pytest.mark.parametrize("name", ["minidump-x64.dmp", "minidump-x86.dmp", "mbr-x86-kernel.dmp"])
def test_chunks_are_what_reads_give(sample: Any, name: str) -> None:
    """Around each edge of the memory in a dump: the same bytes as one by one, in whole pieces."""
    dump = open_dump(str(sample(name)))
    held = [(start, size) for start, _, size in getattr(dump, "blocks", ())]
    held += [(int(m.base), int(m.size)) for m in dump.modules()]
    for start, size in held[:60]:
        for edge in (start, start + size):
            for low, length in ((edge - 9, 16), (edge - 1, 1), (edge, 1), (edge, 3)):
                reads = {at: dump.read(at, 1) for at in range(low, low + length)}
                known = {at: data for at, data in reads.items() if isinstance(data, bytes)}
                pieces = list(dump.chunks(low, length))
                told = {at + n: data[n : n + 1] for at, data in pieces for n in range(len(data))}
                assert told == known
                assert all(at + len(data) not in known for at, data in pieces)
