"""``dumpstart export --slice``: a small dump with the same answer, in the command's hands.

Oracles: kdmp-parser, volatility3, and the analysis of the dump that was cut.
"""

from __future__ import annotations

import functools
import random
import re
import subprocess
import sys
from types import SimpleNamespace

import generator
import numpy as np
import pytest
from conftest import SAMPLE_TRACES, shared_sample
from generator import Spec
from oracles import needs, volatility_layers

import analyzer
from analyzer import cli
from analyzer.dumpfile import open_dump, slicing
from analyzer.snapshot import open_snapshot
from analyzer.sources import slices

PAGE = 0x1000
PAGE_DUMPS = sorted(
    path.name for path in SAMPLE_TRACES.glob("*.dmp") if not path.name.startswith("minidump")
)
#: the one that was cut is told of by itself; it kills kdmp-parser, which maps files
WHOLE = [name for name in PAGE_DUMPS if name != "broken-x64-cut.dmp"]
#: types that no shipped dump has
OTHER_TYPES = (8, 9)
ENGINE = "dmp/dbgeng_written_full.dmp"
FAULTY = ("bitmap-bit-moved", "garbage-values-clean", "zero-page-40-names", "deadfeed-page")
SECRET = b"-----BEGIN RSA PRIVATE KEY-----"


def cut(dump, target, *options):
    """Cuts a slice with the command; its path."""
    assert cli.main(["export", "--slice", str(dump), "--output", str(target), *options]) == 0
    return target


@functools.lru_cache(maxsize=64)
def case_of(path):
    """A dump that does not change, read once."""
    return analyzer.open(path)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Gives (dump, slice) of each, cut once: shipped, faulty, generated, written by the engine."""
    folder = tmp_path_factory.mktemp("slices")

    @functools.lru_cache(maxsize=64)
    def pair(name, *options):
        whole = SAMPLE_TRACES / str(name)
        if name == ENGINE:
            whole = shared_sample(name)
        elif name in FAULTY:
            whole = shared_sample(f"../faults/{name}.dmp")
        elif isinstance(name, int):
            whole = folder / f"type{name}.dmp"
            whole.write_bytes(built(name).data)
        target = folder / "-".join(["of", *str(name).split("/"), *options])
        target.mkdir()
        small = target / whole.name
        return whole, cut(whole, small, *options)

    return pair


@functools.lru_cache(maxsize=16)
def built(dump_type):
    """A generated x64 dump with its truth."""
    return generator.build(Spec("x64", dump_type))


def tables_of(case):
    """Every table as plain rows without file names, offsets and the finding that it is a slice."""
    out = {}
    for table, rows in case.records.tables.items():
        if table in ("events", "sources"):
            continue
        out[table] = [plain(row) for row in rows if getattr(row, "rule", "") != "dump-is-slice"]
    return out


def plain(value):
    """A value without what a slice must change: origins, and the offsets in words."""
    if hasattr(value, "_fields"):
        return tuple(plain(v) for name, v in value._asdict().items() if name != "origin")
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    if isinstance(value, str):
        return re.sub(
            r"(file offset|ends at|expected at|bytes or later, but is) \w[\w,]*", r"\1 _", value
        )
    return value


def answers(case, path):
    """What every report leads with, without file names."""
    answer, name = case.answer, path.name
    return [s.replace(name, "_") for s in answer.headline], [f._asdict() for f in answer.filters]


@pytest.mark.parametrize("redact", [False, True])
@pytest.mark.parametrize("name", [*WHOLE, ENGINE])
def test_a_slice_gives_the_same_tables(name, redact, pairs):
    """All tables but file offsets and the file's own rows, and the same answer."""
    whole, small = pairs(name, *["--redact"] * redact)
    assert small.stat().st_size < whole.stat().st_size
    old, new = case_of(whole), analyzer.open(small)
    assert tables_of(new) == tables_of(old)
    assert answers(new, small) == answers(old, whole)
    notes = new.answer.notes
    assert any(note.startswith("This is a part of a dump") for note in notes)


@pytest.mark.parametrize("redact", [False, True])
@pytest.mark.parametrize("name", FAULTY)
def test_a_slice_of_a_faulty_dump_has_its_faults_and_no_other(name, redact, pairs):
    """Pages that were only asked for are there, too: their lack would be a finding."""
    whole, small = pairs(name, *["--redact"] * redact)
    assert tables_of(analyzer.open(small)) == tables_of(case_of(whole))


@pytest.mark.parametrize("dump_type", [1, 5, 10])  # a map of each kind
def test_two_gigabytes_become_less_than_four_megabytes(dump_type, tmp_path, monkeypatch):
    """With secrets in pages of the 2 GB that nothing reads; the dump itself is mostly holes."""
    monkeypatch.setattr(generator, "BULK_MAPPED", 0)  # nobody asks for the filler by address
    parts = generator.assemble(Spec("x64", dump_type, filler_pages=1 << 19))
    whole, small = tmp_path / "whole.dmp", tmp_path / "small.dmp"
    with whole.open("wb") as file:
        parts.write(file, with_holes=True)
        first = parts.first_page + len(parts.frames.special) * PAGE
        for page in range(0, 1 << 19, 1 << 13):
            file.seek(first + page * PAGE)
            file.write(SECRET)
    assert whole.stat().st_size > 2 << 30
    cut(whole, small)
    assert small.stat().st_size < 4 << 20
    assert SECRET not in small.read_bytes()
    old, new = analyzer.open(whole), analyzer.open(small)
    assert tables_of(new) == tables_of(old)
    assert answers(new, small) == answers(old, whole)
    whole.unlink()


def test_runs_without_room_in_a_full_dumps_header(tmp_path):
    """A slice of every second page of a full dump is a bitmap dump; the command says why."""
    parts = generator.assemble(Spec("x64", 1, filler_pages=200))
    whole, small = tmp_path / "whole.dmp", tmp_path / "small.dmp"
    with whole.open("wb") as file:
        parts.write(file)
    dump, lines = open_dump(str(whole)), {}
    for count in (42, 43):
        touched = slicing.Touched()
        for number in range(count):
            touched.add(dump.first_page + (len(parts.frames.special) + 2 * number) * PAGE, 8)
        with small.open("wb") as file:
            made = slicing.write(dump, touched, file, redact=False, secondary=True)
        kept = open_dump(str(small))
        assert made.dump_type == kept.file.number("DumpType")
        assert (kept.pages.pages, kept.pages.runs) == (count, count)
        for number in range(count):
            at = kept.first_page + number * PAGE
            frame = kept.pages.frame_at(at)
            (place,) = dump.pages.offsets(np.array([frame], np.int64)).tolist()
            assert kept.file.data[at : at + PAGE] == dump.file.data[place : place + PAGE]
        arguments = SimpleNamespace(output="small.dmp", redact=False, with_code=False)
        lines[made.dump_type] = " ".join(slices.left_out(arguments, dump, made))
    assert list(lines) == [1, 5]
    assert "bitmap dump" not in lines[1]
    assert "more runs than the 42" in lines[5]


def test_the_slice_of_a_dump_that_was_cut_is_cut_too(tmp_path):
    """What was lost before stays lost and is told so, not taken for memory that was left out."""
    whole = SAMPLE_TRACES / "broken-x64-cut.dmp"
    small = cut(whole, tmp_path / whole.name)
    before, after = analyzer.open(whole), analyzer.open(small)
    assert after.answer.headline == before.answer.headline
    dump = open_dump(str(whole))
    assert dump.file.size < dump.end_of_pages
    with open(tmp_path / "more", "wb") as file:
        made = slicing.write(dump, slicing.Touched(), file, redact=False, secondary=True)
    assert (made.secondary_bytes, made.size) == (0, (tmp_path / "more").stat().st_size)
    rules = [f.rule for f in before.records["findings"]]
    assert sorted(f.rule for f in after.records["findings"]) == sorted([*rules, "dump-is-slice"])


@pytest.mark.parametrize("dump_type", [1, 2, 5, 6, 8, 9, 10])
def test_secrets_outside_the_pages_that_are_read_stay_outside(dump_type, tmp_path):
    """Planted in every page that is not read, and in every part of pages that is not read."""
    whole, small = tmp_path / "whole.dmp", tmp_path / "small.dmp"
    whole.write_bytes(built(dump_type).data)
    cut(whole, small)
    kept = open_dump(str(small))
    source = open_dump(str(whole))
    data = bytearray(built(dump_type).data)
    planted = 0
    for number in range(source.pages.pages):
        at = source.first_page + number * PAGE
        frame = source.pages.frame_at(at)
        if kept.pages.offsets(np.array([frame], np.int64))[0] < 0:
            data[at + 0x100 : at + 0x100 + len(SECRET)] = SECRET
            planted += 1
    assert planted > 10
    whole.write_bytes(data)
    assert SECRET in whole.read_bytes()
    cut(whole, small)
    assert SECRET not in small.read_bytes()


def test_redaction_zeroes_what_shares_a_page(tmp_path):
    """A secret in a page that is read, at a place that is not: --redact takes it out."""
    whole, small = tmp_path / "whole.dmp", tmp_path / "small.dmp"
    whole.write_bytes(built(6).data)
    cut(whole, small, "--redact")
    redacted = open_dump(str(small))
    start = redacted.first_page
    body = small.read_bytes()
    source = open_dump(str(whole))
    data = bytearray(built(6).data)
    planted = []
    for number in range(redacted.pages.pages):
        frame = redacted.pages.frame_at(start + number * PAGE)
        page = body[start + number * PAGE : start + (number + 1) * PAGE]
        (at,) = source.pages.offsets(np.array([frame], np.int64)).tolist()
        gap = page.find(bytes(256))
        if gap >= 0 and not any(data[at + gap : at + gap + 256]):
            data[at + gap + 64 : at + gap + 64 + len(SECRET)] = SECRET
            planted.append(at)
    assert len(planted) > 10
    whole.write_bytes(data)
    plain_slice = cut(whole, tmp_path / "plain.dmp").read_bytes()
    kept = cut(whole, small, "--redact").read_bytes()
    assert plain_slice.count(SECRET) > kept.count(SECRET)
    assert answers(analyzer.open(whole), whole) == answers(analyzer.open(small), small)


def test_secondary_data_is_left_out_when_asked(tmp_path, capsys):
    """--secondary none: nothing behind the pages, and no false word about who wrote the dump."""
    whole = SAMPLE_TRACES / "healthy-x64-kernel.dmp"
    small = cut(whole, tmp_path / "small.dmp", "--secondary", "none")
    assert "--secondary none leaves them out" not in capsys.readouterr().err
    dump = open_dump(str(small))
    assert dump.file.size == dump.end_of_pages
    found = {f.rule for f in analyzer.open(small).records["findings"]}
    assert not found & {"dump-not-by-windows", "secondary-data-missing"}
    (note,) = [f for f in analyzer.open(small).records["findings"] if f.rule == "dump-is-slice"]
    assert "its secondary data was left out" in note.text


def test_the_command_says_what_is_left_out_and_what_stays(tmp_path, capsys):
    """Numbers of pages and bytes; what of people's data may be there."""
    whole = SAMPLE_TRACES / "healthy-x64-kernel.dmp"
    small = cut(whole, tmp_path / "small.dmp")
    told = capsys.readouterr().err
    dump, source = open_dump(str(small)), open_dump(str(whole))
    assert f"{dump.file.size:,} of {source.file.size:,} bytes" in told
    assert f"{dump.pages.pages:,} of {source.pages.pages:,} pages" in told
    assert "Left out: " in told
    assert "Still in it: " in told
    assert "secondary data" in told


def test_a_slice_of_a_slice_is_the_same(tmp_path):
    """Nothing that the analysis reads gets lost on the way; the mark names the dump."""
    whole = SAMPLE_TRACES / "healthy-x64-kernel.dmp"
    one = cut(whole, tmp_path / "one.dmp")
    two = cut(one, tmp_path / "two.dmp")
    assert two.read_bytes() == one.read_bytes()


def test_a_slice_with_code_holds_each_image(pairs):
    """Every page of a filter; that a dry run ends alike is tested with the dry runs."""
    dump, source = (
        open_dump(str(path)) for path in reversed(pairs("healthy-x64-kernel.dmp", "--with-code"))
    )
    (module,) = [m for m in source.modules() if str(m.name) == "dump_acmeflt.sys"]
    for page in range(module.base, module.end, PAGE):
        assert dump.read(page, PAGE) == source.read(page, PAGE)


#: full dumps and bitmap dumps; volatility3 opens no others
VOLATILITY = [
    "healthy-arm64-full.dmp", "healthy-x86-windows7-full.dmp", "hibernation-x64-active.dmp", ENGINE,
]  # fmt: skip


@pytest.mark.parametrize("name", VOLATILITY)
def test_volatility_opens_what_it_opened(name, pairs):
    """The layer of a slice gives the pages of the dump and lacks the others."""
    needs("volatility3")
    whole, small = pairs(name)
    dump = open_dump(str(small))
    arch = "x64" if dump.pointer_size == 8 else str(dump.architecture)
    root = dump.file.number("DirectoryTableBase")
    one, two = (volatility_layers(path, arch, root)[0] for path in (whole, small))
    for number in range(dump.pages.pages):
        at = dump.pages.frame_at(dump.first_page + number * PAGE) * PAGE
        assert two.read(at, PAGE) == one.read(at, PAGE)


KDMP = """\
import sys, kdmp_parser
def opened(path):
    try:
        return kdmp_parser.KernelDumpParser(path)
    except Exception:  # it raises what Python has no name for
        return None
for whole, small in zip(sys.argv[1::2], sys.argv[2::2]):
    one, two = opened(whole), opened(small)
    assert (one is None) == (two is None), whole
    if one is None:
        print("\\npages=0", flush=True)
        continue
    pages = dict(two.pages)
    assert 10 < len(pages) < len(one.pages), whole
    assert all(two.read_physical_page(a) == one.read_physical_page(a) for a in pages), whole
    assert two.directory_table_base == one.directory_table_base, whole
    print(f"\\npages={len(pages)}", flush=True)
"""


def test_kdmp_parser_opens_what_it_opened(pairs):
    """The pages of each slice, read by another program, are those of the dump."""
    needs("kdmp_parser")
    paths = [pairs(name) for name in (*WHOLE, ENGINE, *OTHER_TYPES)]
    done = subprocess.run(
        [sys.executable, "-c", KDMP, *(str(path) for pair in paths for path in pair)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    counts = map(int, re.findall(r"^pages=(\d+)$", done.stdout, re.MULTILINE))  # it prints, too
    read = dict(zip(paths, counts))
    assert len(read) == len(paths)
    types = set()
    for (whole, small), count in read.items():
        if count:
            assert count == open_dump(str(small)).pages.pages
            types.add(open_dump(str(whole)).file.number("DumpType"))
    assert types == {1, 5, 6, 8, 9, 10}


@pytest.mark.parametrize("name", ["minidump-x64.dmp", "logs/failed.log", "captures/run-01.jsonl"])
def test_what_has_no_pages_is_refused(name, tmp_path):
    """In a sentence, without an output."""
    target = tmp_path / "small.dmp"
    code = cli.main(["export", "--slice", str(SAMPLE_TRACES / name), "--output", str(target)])
    assert (code, target.exists()) == (2, False)


@pytest.mark.parametrize(
    "options", [["--etl", "--redact"], ["--etl", "--slice"], ["--slice", "--session", "1"], []]
)
def test_options_of_the_other_export_are_refused(options, tmp_path):
    """An option that would have no use is an error."""
    whole = str(SAMPLE_TRACES / "healthy-x64-kernel.dmp")
    assert cli.main(["export", whole, "--output", str(tmp_path / "x"), *options]) == 2


def test_the_dump_is_not_written_over(tmp_path):
    """A slice never takes the place of its dump."""
    dump = tmp_path / "d.dmp"
    before = (SAMPLE_TRACES / "healthy-x64-kernel.dmp").read_bytes()
    dump.write_bytes(before)
    assert cli.main(["export", "--slice", str(dump), "--output", str(dump)]) == 2
    assert dump.read_bytes() == before


def test_damaged_dumps_give_a_slice_or_a_sentence(tmp_path):
    """Any bytes in header and map: a slice no larger than the dump and its map, or one error."""
    source = random.Random(18)
    whole, small = tmp_path / "whole.dmp", tmp_path / "small.dmp"
    made = 0
    for name in ("healthy-x64-kernel.dmp", "healthy-x64-range.dmp", "mbr-x86-kernel.dmp"):
        data = (SAMPLE_TRACES / name).read_bytes()
        head = 0x2000 if data[4:8] == b"DU64" else 0x1000
        for _ in range(5):
            changed = bytearray(data)
            for _ in range(source.randrange(1, 6)):
                at = source.choice([source.randrange(8, head), source.randrange(head, head + 0x60)])
                changed[at : at + 4] = source.getrandbits(32).to_bytes(4, "little")
            whole.write_bytes(changed)
            code = cli.main(["export", "--slice", str(whole), "--output", str(small)])
            assert code in (0, 2)
            if code == 0:
                made += 1
                assert analyzer.open(small).answer.headline
    assert made > 4


@pytest.mark.parametrize("redact", [False, True])
@pytest.mark.parametrize("kind", ["kdump-zlib", "raw"])
def test_a_slice_of_a_snapshot(kind, redact, specimen, tmp_path):
    """A dump that another reader opens, with the filters and where it hangs as in the snapshot."""
    whole = specimen(kind)
    small = cut(whole, tmp_path / "small.dmp", *(["--redact"] if redact else []))
    assert small.stat().st_size < min(whole.stat().st_size, 1 << 19)
    old, new = case_of(whole), analyzer.open(small)
    for table in ("filters", "extensions", "callbacks", "modules"):
        assert tables_of(new)[table] == tables_of(old)[table], table
    inside = [(p.filter, p.callback, p.symbol) for p in old.records["processors"] if p.callback]
    found = [(p.filter, p.callback, p.symbol) for p in new.records["processors"] if p.callback]
    assert found[:1] == inside[:1]
    (source,) = new.records["sources"]
    assert (source.kind, source.subtype) == ("memory snapshot", "slice of a memory snapshot")
    told = [
        [(c.tells, c.outcome, c.bugcheck) for c in case.records["crashes"]] for case in (old, new)
    ]
    assert told[0] == told[1]
    kind = old.records["sources"][0].subtype
    headline, filters = answers(new, small)
    same = [text.replace(source.subtype, kind) for text in headline]
    assert (same, filters) == answers(old, whole)
    dump = open_dump(str(small))
    memory = open_snapshot(str(whole)).image.physical
    for number in range(dump.pages.pages):
        at = dump.first_page + number * PAGE
        page = memory.read(dump.pages.frame_at(at) * PAGE, PAGE)
        if not redact:
            assert dump.file.data[at : at + PAGE] == page
    needs("kdmp_parser")
    script = "import sys, kdmp_parser; print(len(kdmp_parser.KernelDumpParser(sys.argv[1]).pages))"
    done = subprocess.run(
        [sys.executable, "-c", script, str(small)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == dump.pages.pages
