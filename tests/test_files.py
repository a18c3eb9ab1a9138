"""How the bytes of inputs are read: in pieces, never mapped, and what happens when a file changes.

The oracle of every read is Python's own slice of the same bytes.
"""

from __future__ import annotations

import os
import random
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from generator import Spec, assemble

import analyzer
from analyzer import files
from analyzer.cli import main
from analyzer.dumpfile import open_dump, page_search
from analyzer.dumpstack import roles
from analyzer.errors import InputError
from analyzer.files import FileBytes


@pytest.fixture(scope="module")
def large(tmp_path_factory: Any) -> Path:
    """A file that is too large to be held whole, with noise at its ends and around a window."""
    path: Path = tmp_path_factory.mktemp("large") / "large.bin"
    source = random.Random(1)
    with path.open("wb") as file:
        for at in (0, 0xFFF0, files.PIECE_BYTES - 100, files.WHOLE_BYTES + 0x1234):
            file.seek(at)
            file.write(source.randbytes(200))
    return path


@pytest.fixture(scope="module")
def dump(tmp_path_factory: Any) -> Path:
    """A full dump larger than what is held whole."""
    path: Path = tmp_path_factory.mktemp("dump") / "large.dmp"
    with path.open("wb") as file:
        assemble(Spec(dump_type=5, variant="nodes-only", filler_pages=9000)).write(file)
    assert path.stat().st_size > files.WHOLE_BYTES
    return path


@pytest.mark.parametrize("edge", [-1, 0, 1])
def test_only_small_files_are_held_whole(edge: int, tmp_path: Path) -> None:
    """The limit itself is held, one byte more is not."""
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(files.WHOLE_BYTES + edge)
    assert (FileBytes(str(path)).whole() is not None) == (edge <= 0)


def test_a_large_file_reads_as_its_bytes(large: Path) -> None:
    """Slices, structures, searches and pieces agree with the bytes, also across every seam."""
    raw, data = large.read_bytes(), FileBytes(str(large))
    assert len(data) == len(raw)
    source = random.Random(2)
    seams = [0, 0x10000, files.PIECE_BYTES, files.WHOLE_BYTES, len(raw)]
    for _ in range(2000):
        start = max(0, source.choice(seams) + source.randint(-300, 300))
        size = source.choice((0, 1, 8, 300, 0x10000, 0x30000))
        assert data[start : start + size] == raw[start : start + size]
        if start + 8 <= len(raw):
            assert data.unpack("<Q", start) == struct.unpack_from("<Q", raw, start)
    with pytest.raises(struct.error):
        data.unpack("<Q", len(raw) - 7)
    for before in (0, 1, 0x400):
        joined = b"".join(
            bytes(part)[before if at else 0 :] for at, part in data.pieces(0, len(raw), before)
        )
        assert joined == raw
    needle = raw[files.PIECE_BYTES - 5 : files.PIECE_BYTES + 5]  # lies in two pieces
    assert data.find(needle) == raw.find(needle)
    assert data.find(b"not in there") == -1


def test_a_large_dump_gives_what_a_small_one_gives(dump: Path) -> None:
    """Filters, addresses and modules of a dump of windows are those that its generator put in."""
    opened = open_dump(str(dump))
    modules = roles.classify(list(opened.modules()), opened.unloaded())
    stack = [module for module in modules if module.stack and module.loaded]
    nodes = page_search.by_partitions(opened, stack)
    offsets = [node.file_offset for node in nodes]
    assert offsets == [node.file_offset for node in page_search.by_pointers(opened, stack)]
    raw = dump.read_bytes()
    assert all(raw[at : at + len(node.data)] == node.data for at, node in zip(offsets, nodes))
    assert len(analyzer.open(dump).filters) == len(nodes) > 0


def test_a_dump_that_is_cut_while_it_is_read_ends_in_an_error(dump: Path, tmp_path: Path) -> None:
    """A mapped file killed the process here (SIGBUS)."""
    path = tmp_path / "cut.dmp"
    path.write_bytes(dump.read_bytes())
    opened = open_dump(str(path))
    os.truncate(path, 0x3000)
    with pytest.raises(InputError, match="cut or replaced while it was read"):
        for _ in opened.page_data():
            pass


def test_a_trace_that_is_cut_while_it_is_shown_ends_in_an_error(
    sample: Any, tmp_path: Path
) -> None:
    """Events are read when they are shown: the case is open long after its file was recognised."""
    raw = sample("traces/crash-callbacks.etl").read_bytes()
    path = tmp_path / "cut.etl"
    (size,) = struct.unpack_from("<I", raw)
    last, empty = raw[-size:], bytearray(raw[-size:])
    for place in (4, 0x30):  # SavedOffset, Offset: nothing behind the header
        struct.pack_into("<I", empty, place, 0x48)
    path.write_bytes(raw[:-size] + empty * (files.WHOLE_BYTES // size) + last)
    case = analyzer.open(path)
    os.truncate(path, files.WHOLE_BYTES)
    with pytest.raises(InputError, match="cut or replaced while it was read"):
        len(case.events)


def test_a_file_that_changes_while_it_is_read_is_a_warning(sample: Any, tmp_path: Path) -> None:
    """Its size or its time is not what it was; a file that rests gives no such finding."""
    path = tmp_path / "machine.dmp"
    path.write_bytes(sample("healthy-x64-kernel.dmp").read_bytes())

    def touch(what: str, *_: int) -> None:
        if what == "checking":
            with path.open("ab") as file:
                file.write(b"\0")

    def changed(case: Any) -> list[str]:
        return [f.severity for f in case.records["findings"] if f.rule == "input-changed"]

    assert changed(analyzer.open(path)) == []
    assert changed(analyzer.open(path, progress=touch)) == ["warning"]


# ---- several inputs ------------------------------------------------------------------------------


def test_names_say_as_much_as_tells_files_apart() -> None:
    """The last part of a path, and more of it only where two share that."""
    names = ["a/MEMORY.DMP", "b/MEMORY.DMP", "x.log", "t.zip!a/1.evtx", "u.zip!a/1.evtx"]
    shown = [files.called(name) for name in files.distinct_names(names)]
    assert shown == ["a/MEMORY.DMP", "b/MEMORY.DMP", "x.log", "t.zip/a/1.evtx", "u.zip/a/1.evtx"]
    assert files.distinct_names(names) == names  # as names of files they are what they were


@pytest.mark.parametrize("format", ["text", "markdown", "html", "json"])
def test_two_files_of_one_name_are_distinct_names(format: str, sample: Any, tmp_path: Path) -> None:
    """Answer, findings and sources name them by what differs in their paths."""
    for folder, name in (("one", "healthy-x64-kernel.dmp"), ("two", "broken-x64-worst.dmp")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "MEMORY.DMP").write_bytes(sample(name).read_bytes())
    case = analyzer.open(tmp_path)
    report = case.report(format)
    if format == "text":
        assert {"one/MEMORY.DMP", "two/MEMORY.DMP"} <= set(re.findall(r"\w*/?MEMORY.DMP", report))
        assert not re.search(r"[^/]MEMORY\.DMP(?!,)", report.replace("Windows\\MEMORY.DMP", ""))
    assert "two/MEMORY.DMP" in report
    assert list(case.sources["path"]) == [
        str(tmp_path / folder / "MEMORY.DMP") for folder in ("one", "two")
    ]


def test_a_file_that_was_given_twice_counts_once(sample: Any, tmp_path: Path) -> None:
    """Under another name, in a folder, in an archive: the same crash, the same findings."""
    worst = sample("broken-x64-worst.dmp")
    alone = analyzer.open(worst)
    (tmp_path / "copies").mkdir()
    for name in ("first.dmp", "second.dmp"):
        (tmp_path / "copies" / name).write_bytes(worst.read_bytes())
    case = analyzer.open(worst, tmp_path / "copies")
    assert len(case.crashes) == len(alone.crashes)
    assert len(case.filters) == len(alone.filters)
    found = [finding.rule for finding in case.records["findings"]]
    assert sorted(found) == sorted(
        [*(finding.rule for finding in alone.records["findings"]), "input-copy"]
    )
    copies = case.sources[case.sources["path"].str.contains("copies")]
    assert len(copies) == 2
    changed = bytearray(worst.read_bytes())
    changed[-1] ^= 1
    (tmp_path / "copies" / "second.dmp").write_bytes(changed)
    assert len(analyzer.open(worst, tmp_path / "copies").crashes) >= len(alone.crashes)
    assert len(analyzer.open(tmp_path / "copies").records["machine"]) == 2


@pytest.mark.parametrize(
    ("name", "hint"), [("Windows/MEMORY.DMP", True), ("DumpStack.log", True), ("tmp/a.dmp", False)]
)
def test_access_denied_in_a_folder_of_windows(
    name: str,
    hint: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Only there an elevated prompt is what may help; on a system without such a folder nothing."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"PAGEDU64")
    opened = open

    def refuse(file: Any, *args: Any, **options: Any) -> Any:
        if os.fspath(file) == str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(file, *args, **options)

    monkeypatch.setattr("builtins.open", refuse)
    for root, hinted in ((str(tmp_path / "Windows"), hint), ("", False)):
        monkeypatch.setenv("SYSTEMROOT", root)
        assert main(["analyze", str(path)]) == 2
        told = capsys.readouterr().err
        assert "cannot be read: permission denied" in told
        assert ("elevated prompt" in told) == hinted
        assert len(told.splitlines()) == 1
