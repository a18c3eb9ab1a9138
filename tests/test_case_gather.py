"""Folders and archives as input: what is read, what is passed over, what is refused, and bounds."""

from __future__ import annotations

import io
import os
import random
import struct
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any, Callable

import generator_cases
import pytest
from conftest import SHARED, shared_sample

import analyzer
from analyzer.cli import main
from analyzer.errors import AnalyzerError, InputError
from analyzer.gather import Gathered, Limits, gather

LOG = generator_cases.logs.files()["healthy-kernel.log"]
REG = generator_cases.registry(["dumpfve.sys"])
TEXT = b"The machine crashed on Monday.\r\n"
DRIVER = b"MZ\x90\0" + bytes(60)


def names(found: Gathered, root: Path) -> list[str]:
    """The names of the inputs, relative to a folder."""
    return [item.name.replace(str(root) + os.sep, "").replace(os.sep, "/") for item in found.inputs]


def archive(path: Path, members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> Path:
    """A zip with these members; a name may stand twice."""
    with zipfile.ZipFile(path, "w", method) as target:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a name that stands twice
                target.writestr(info, data)
    return path


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the place for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


# ---- folders -----------------------------------------------------------------------------------


def test_a_folder_is_walked_by_name_with_hidden_files_and_subfolders(tmp_path: Path) -> None:
    """Files of a folder first, by name without case, then its subfolders; on every system alike."""
    for name in ("b.log", "A.log", ".hidden", "sub/z.log", "sub/deep/y.log", "Other/x.log"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(LOG)
    found = gather([tmp_path])
    assert names(found, tmp_path) == [
        ".hidden", "A.log", "b.log", "Other/x.log", "sub/z.log", "sub/deep/y.log"
    ]  # fmt: skip
    assert not any(item.is_named for item in found.inputs)


def test_a_file_that_is_named_and_in_a_folder_counts_once(tmp_path: Path) -> None:
    """It counts as named, whatever the order."""
    (tmp_path / "a.log").write_bytes(LOG)
    for paths in ([tmp_path, tmp_path / "a.log"], [tmp_path / "a.log", tmp_path]):
        (only,) = gather(paths).inputs
        assert only.is_named


@pytest.mark.skipif(os.name == "nt", reason="links and pipes need rights on Windows")
def test_links_and_pipes_do_not_hang(tmp_path: Path) -> None:
    """A loop of folders ends, a file linked twice counts once, a pipe is not opened."""
    (tmp_path / "a.log").write_bytes(LOG)
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "b.log").symlink_to(tmp_path / "a.log")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    os.mkfifo(tmp_path / "pipe")
    found = gather([tmp_path])
    assert names(found, tmp_path) == ["a.log"]
    verdicts = {os.path.basename(verdict.name): verdict.why for verdict in found.passed}
    assert sorted(verdicts) == ["gone", "pipe", "self"]
    assert verdicts["pipe"] == "a device, pipe or socket, not a file"
    assert verdicts["gone"].startswith("cannot be opened")


def test_too_many_files_are_said(tmp_path: Path) -> None:
    """The first ones by name are read, the limit is a finding."""
    for number in range(12):
        (tmp_path / f"{number:02d}.log").write_bytes(LOG)
    found = gather([tmp_path], Limits(files=10))
    assert names(found, tmp_path) == [f"{number:02d}.log" for number in range(10)]
    (anomaly,) = found.anomalies
    assert anomaly.rule == "input-limit-reached"
    assert "only its first 10 files" in anomaly.text


def test_too_deep_folders_are_said(tmp_path: Path) -> None:
    """What lies above the limit is read."""
    folder = tmp_path
    for number in range(6):
        (folder / f"{number}.log").write_bytes(LOG)
        folder = folder / "in"
        folder.mkdir()
    found = gather([tmp_path], Limits(depth=3))
    assert [os.path.basename(name) for name in names(found, tmp_path)] == [
        "0.log", "1.log", "2.log", "3.log"
    ]  # fmt: skip
    assert [anomaly.rule for anomaly in found.anomalies] == ["input-limit-reached"]


def test_files_of_other_kinds_are_listed_once_and_quietly(tmp_path: Path) -> None:
    """One info finding for all of them, and a row with the reason for each."""
    (tmp_path / "DumpStack.log").write_bytes(LOG)
    (tmp_path / "mail.txt").write_bytes(TEXT)
    (tmp_path / "x.sys").write_bytes(DRIVER)
    case = analyzer.open(tmp_path)
    (finding,) = [f for f in case.records["findings"] if "input" in f.rule]
    assert (finding.rule, finding.severity) == ("input-passed-over", "info")
    assert finding.text.startswith("2 files are of no kind")
    rows = {os.path.basename(s.path): str(s.kind) for s in case.records["sources"]}
    assert rows == {
        "DumpStack.log": "dumpstack.log",
        "mail.txt": "this is a text file of no known kind",
        "x.sys": "this is a program or driver image (PE)",
    }
    assert case.exit_code() == 0


def test_a_damaged_input_in_a_folder_is_a_warning(tmp_path: Path) -> None:
    """A hive that cannot be read is no file of another kind."""
    (tmp_path / "DumpStack.log").write_bytes(LOG)
    (tmp_path / "SYSTEM").write_bytes(b"regf" + bytes(4))
    case = analyzer.open(tmp_path)
    (finding,) = [f for f in case.records["findings"] if f.rule == "input-unusable"]
    assert finding.severity == "warning"
    assert "SYSTEM: is not a readable registry hive" in finding.text
    assert case.exit_code() == 1


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "there is no file in what was given"),
        ({"mail.txt": TEXT}, "mail.txt: this is a text file of no known kind"),
        ({"a.txt": TEXT, "b.sys": DRIVER}, "none of the 2 files found can be used: "),
        ({f"{n:02d}.txt": TEXT for n in range(30)}, "; and 25 more."),
    ],
)
def test_a_folder_with_nothing_usable_is_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, bytes], said: str
) -> None:
    """One sentence on stderr, with the first reasons, and nothing on stdout."""
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    assert main(["analyze", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_info_gives_a_verdict_for_each_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The kind of what is read, the reason of what is not."""
    (tmp_path / "DumpStack.log").write_bytes(LOG)
    (tmp_path / "mail.txt").write_bytes(TEXT)
    assert main(["info", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "dumpstack.log version 1.0, completed" in out
    assert "this is a text file of no known kind" in " ".join(out.split())


def test_the_output_must_not_overwrite_a_file_of_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither a file in it nor an archive in it; a new name in the folder is fine."""
    (tmp_path / "DumpStack.log").write_bytes(LOG)
    packed = archive(tmp_path / "ticket.zip", [("CrashControl.reg", REG)])
    before = packed.read_bytes()
    for name in ("DumpStack.log", "ticket.zip"):
        assert main(["analyze", str(tmp_path), "--output", str(tmp_path / name)]) == 2
        assert "would overwrite an input" in capsys.readouterr().err
    assert (tmp_path / "DumpStack.log").read_bytes() == LOG
    assert packed.read_bytes() == before
    assert main(["analyze", str(tmp_path), "--output", str(tmp_path / "report.txt")]) == 0
    assert main(["analyze", str(tmp_path), "--output", str(tmp_path / "report.txt")]) == 2


# ---- archives ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2], ids=str
)
def test_an_archive_is_a_case(tmp_path: Path, workspace: Path, method: int) -> None:
    """Its files are read under "archive!member", and nothing stays in the temporary folder."""
    files = generator_cases.stories()["driver-stuck"].files
    path = archive(tmp_path / "ticket.zip", list(files.items()), method)
    case = analyzer.open(path)
    assert sorted(case.sources["path"]) == sorted(f"{path}!{name}" for name in files)
    assert set(case.stages["source"]) == {f"{path}!DumpStack.log"}
    assert list(workspace.iterdir()) == []
    for table in analyzer.records.TABLES:  # no record knows the temporary place
        assert str(workspace) not in str(case.records[table])


def test_the_same_files_give_the_same_answer_packed_and_unpacked(tmp_path: Path) -> None:
    """The way they arrive does not change what they tell."""
    files = generator_cases.stories()["filter-disabled"].files
    folder = tmp_path / "case"
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    packed = analyzer.open(archive(tmp_path / "case.zip", list(files.items())))
    unpacked = analyzer.open(folder)
    assert answer(packed) == answer(unpacked)
    assert rules(packed) == rules(unpacked)


def test_an_archive_in_an_archive_is_opened_a_third_level_is_not(
    tmp_path: Path, workspace: Path
) -> None:
    """The name shows the way; the refusal says what to do."""
    inner = archive(tmp_path / "inner.zip", [("deep.log", LOG)]).read_bytes()
    middle = archive(tmp_path / "middle.zip", [("c.reg", REG), ("inner.zip", inner)])
    outer = archive(tmp_path / "outer.zip", [("a.log", LOG), ("m.zip", middle.read_bytes())])
    case = analyzer.open(outer)
    read = [s.path for s in case.records["sources"] if isinstance(s.kind, str)]
    assert read == [f"{outer}!a.log", f"{outer}!m.zip!c.reg"]
    (refused,) = [f for f in case.records["findings"] if f.rule == "archive-member-refused"]
    assert f"{outer}!m.zip!inner.zip" in refused.text
    assert "unpack it yourself" in refused.text
    assert list(workspace.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["../up.log", "a/../../up.log", "/etc/x.log", "\\\\server\\x.log", "C:\\x.log", "..\\up.log"],
)
def test_names_that_lead_out_are_refused(tmp_path: Path, workspace: Path, name: str) -> None:
    """Nothing is written outside; the member is a finding."""
    path = archive(tmp_path / "evil.zip", [(name, LOG), ("good.log", LOG)])
    case = analyzer.open(path)
    (refused,) = [f for f in case.records["findings"] if f.rule == "archive-member-refused"]
    assert "leads out of the archive" in refused.text
    assert sum(isinstance(s.kind, str) for s in case.records["sources"]) == 1
    assert not list(tmp_path.rglob("*up.log"))
    assert list(workspace.iterdir()) == []


def patched(data: bytes, local: int, central: int, value: int) -> bytes:
    """A 16-bit field of every local header and central entry set to a value."""
    made = bytearray(data)
    for magic, offset in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        at = made.find(magic)
        while at >= 0:
            struct.pack_into("<H", made, at + offset, value)
            at = made.find(magic, at + 4)
    return bytes(made)


@pytest.mark.parametrize(
    ("local", "central", "value", "said"),
    [
        (6, 8, 0x1, "it is encrypted"),
        (8, 10, 9, "compression method 9 (Deflate64) is not read"),
        (8, 10, 14, "compression method 14 (LZMA) is not read"),
        (8, 10, 77, "compression method 77 (unknown) is not read"),
        (4, 6, 99, "cannot be"),  # needs zip version 9.9
    ],
)
def test_members_that_cannot_be_unpacked_are_findings(
    tmp_path: Path, local: int, central: int, value: int, said: str
) -> None:
    """The reason and what to do; the other inputs are read."""
    path = archive(tmp_path / "ticket.zip", [("a.log", LOG)])
    path.write_bytes(patched(path.read_bytes(), local, central, value))
    (tmp_path / "CrashControl.reg").write_bytes(REG)
    case = analyzer.open(tmp_path)
    found = [f for f in case.records["findings"] if f.rule.startswith(("archive", "input-unus"))]
    assert len(found) == 1
    assert said in found[0].text
    assert case.exit_code() == 1


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """Zeros are passed over by their first bytes, a dump of zeros by its ratio."""
    bomb = b"PAGEDU64" + bytes(16 << 20)
    members = [("zeros", bytes(16 << 20)), ("MEMORY.DMP", bomb), ("a.log", LOG)]
    path = archive(tmp_path / "bomb.zip", members, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    found = gather([path], Limits(ratio_from=1 << 20))
    assert [os.path.getsize(item.path) for item in found.inputs] == [len(LOG)]
    found.close()
    (refused,) = found.anomalies
    assert "as a zip bomb does" in refused.text
    assert next(verdict.why for verdict in found.passed).startswith("this is a zero-filled file")


def test_an_archive_has_a_limit_of_bytes_with_the_archives_in_it(tmp_path: Path) -> None:
    """What still fits is read."""
    path = archive(tmp_path / "a.zip", [("1.log", LOG), ("2.log", LOG), ("c.reg", REG)])
    found = gather([path], Limits(unpacked_bytes=len(LOG) + len(REG)))
    assert [item.name for item in found.inputs] == [f"{path}!1.log", f"{path}!c.reg"]
    assert "that one run unpacks" in found.anomalies[0].text
    found.close()
    found = gather([path], Limits(spare_bytes=1 << 62))
    assert found.inputs == []
    assert "are free" in found.anomalies[0].text
    found.close()
    many = archive(tmp_path / "b.zip", [(f"{n}.log", LOG) for n in range(9)])
    found = gather([many], Limits(files=4))
    assert len(found.inputs) == 4
    assert [anomaly.rule for anomaly in found.anomalies] == ["input-limit-reached"]
    found.close()


def test_one_budget_for_all_archives_of_a_run(tmp_path: Path) -> None:
    """Nested ones and later ones draw on it too; what was not unpacked is named once."""
    inner = archive(tmp_path / "inner.zip", [(f"{n}.log", LOG) for n in range(4)]).read_bytes()
    outer = archive(tmp_path / "outer.zip", [("inner.zip", inner), ("c.reg", REG)])
    later = archive(tmp_path / "later.zip", [("d.log", LOG)])
    room = len(inner) + 2 * len(LOG) + len(REG)
    found = gather([outer, later], Limits(unpacked_bytes=room))
    names = [item.name for item in found.inputs]
    assert names == [f"{outer}!inner.zip!0.log", f"{outer}!inner.zip!1.log", f"{outer}!c.reg"]
    subjects = [anomaly.subject for anomaly in found.anomalies]
    assert subjects == [f"{outer}!inner.zip", f"{later}!d.log"]
    assert found.anomalies[0].text.startswith(
        f"{outer}!inner.zip: 2 files in it were not unpacked. The first: {outer}!inner.zip!2.log: "
    )
    assert [verdict.name for verdict in found.passed] == [
        f"{outer}!inner.zip!2.log", f"{outer}!inner.zip!3.log", f"{later}!d.log",
    ]  # fmt: skip
    found.close()


@pytest.mark.slow
def test_a_bomb_in_an_archive_in_an_archive_is_not_unpacked() -> None:
    """108 KB that hold 66 GB: no member alone grows too far, all together do."""
    found = gather([shared_sample("../faults/nested-bomb.zip")])
    try:
        taken = sum(os.path.getsize(item.path) for item in found.inputs)
        assert taken <= 1 << 30
        (refused,) = found.anomalies
        assert "would grow more than 200-fold, as a zip bomb does" in refused.text
    finally:
        found.close()


def test_a_name_that_stands_twice_is_two_files(tmp_path: Path) -> None:
    """Each has a name of its own, so their records stay apart."""
    path = archive(tmp_path / "a.zip", [("x.log", LOG), ("x.log", LOG)])
    case = analyzer.open(path)
    assert list(case.sources["path"]) == [f"{path}!x.log", f"{path}!x.log (2)"]


def test_a_document_that_is_a_zip_is_passed_over(tmp_path: Path) -> None:
    """An Office document holds nothing for this tool; it is no finding of its own."""
    (tmp_path / "DumpStack.log").write_bytes(LOG)
    archive(tmp_path / "notes.docx", [("[Content_Types].xml", b"<Types/>"), ("word/a.xml", TEXT)])
    case = analyzer.open(tmp_path)
    assert [f.rule for f in case.records["findings"]] == ["input-passed-over"]


@pytest.mark.parametrize("cut", [4, 30, 1000, -1])
def test_a_cut_archive_alone_is_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cut: int
) -> None:
    """One sentence that says it cannot be read."""
    path = archive(tmp_path / "a.zip", [("a.log", LOG)])
    path.write_bytes(path.read_bytes()[:cut])
    assert main(["analyze", str(path)]) == 2
    err = capsys.readouterr().err
    assert "the zip archive cannot be read" in err
    assert err.count("\n") == 1


def test_a_member_with_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    """What was unpacked so far is not taken for the file."""
    path = archive(tmp_path / "a.zip", [("a.log", LOG), ("b.log", LOG)])
    data = bytearray(path.read_bytes())
    data[500] ^= 0xFF
    path.write_bytes(bytes(data))
    case = analyzer.open(path)
    assert list(case.sources["path"]) == [f"{path}!b.log", f"{path}!a.log"]
    assert "archive-member-refused" in rules(case)


def test_events_of_a_trace_in_an_archive_can_be_read_later(tmp_path: Path) -> None:
    """They are read from the file when asked for; the file in the archive is gone by then."""
    trace = shared_sample("etl/microsoft_perfview__primitive-types.etl")
    path = archive(tmp_path / "t.zip", [("boot.etl", trace.read_bytes()), ("a.log", LOG)])
    case = analyzer.open(path)
    # Oracle: dissect.etl in the samples' INDEX.md, 7 events.
    assert len(case.events) == 7
    assert set(case.events["source"]) == {f"{path}!boot.etl"}
    assert next(iter(case.records["events"])).origin.source == f"{path}!boot.etl"


def test_wildcards_may_name_folders_and_archives(tmp_path: Path) -> None:
    """cmd.exe leaves wildcards to the program."""
    (tmp_path / "case1").mkdir()
    (tmp_path / "case1" / "DumpStack.log").write_bytes(LOG)
    archive(tmp_path / "case2.zip", [("CrashControl.reg", REG)])
    assert main(["show", "sources", str(tmp_path / "case*"), "--output", str(tmp_path / "o")]) == 0
    text = (tmp_path / "o").read_text()
    assert "DumpStack.log" in text
    assert "case2.zip!CrashControl.reg" in text


def test_a_missing_path_is_named_as_before(tmp_path: Path) -> None:
    """Gathering does not hide it."""
    with pytest.raises(InputError, match="no such file"):
        analyzer.open(tmp_path / "none.zip")


# ---- mutation ----------------------------------------------------------------------------------


def answer(case: Any) -> str:
    """The first paragraph, without the folder names."""
    from said import sentences

    return " ".join(sentences(case.records))


def rules(case: Any) -> list[str]:
    """The rules of the findings."""
    return sorted(finding.rule for finding in case.records["findings"])


def mutate(data: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, a piece cut out or doubled, or the end cut off."""
    made = bytearray(data)
    kind = chance.randrange(4)
    if kind == 0:
        for _ in range(chance.randrange(1, 20)):
            made[chance.randrange(len(made))] = chance.randrange(256)
    elif kind == 1:
        start = chance.randrange(len(made))
        del made[start : start + chance.randrange(1, 400)]
    elif kind == 2:
        start = chance.randrange(len(made))
        made[start:start] = made[start : start + chance.randrange(1, 400)]
    else:
        del made[chance.randrange(1, len(made)) :]
    return bytes(made)


def finishes(path: Path) -> None:
    """The path gives a report, or an error of ours."""
    try:
        case = analyzer.open(path)
    except AnalyzerError as error:
        assert str(error)  # noqa: PT017 - both ends are fine, neither must be empty
    else:
        assert case.report().startswith(case.answer.headline[0][:20])
        assert case.report("json").endswith("}}\n")


@pytest.mark.parametrize("seed", range(4))
def test_mutated_archives_end_in_a_report_or_an_error_of_ours(
    tmp_path: Path, workspace: Path, seed: int
) -> None:
    """75 mutations each of a stored and a deflated archive, with an archive in it."""
    chance = random.Random(seed)
    files = generator_cases.stories()["driver-stuck"].files
    inner = generator_cases.archive(files)
    method = zipfile.ZIP_DEFLATED if seed % 2 else zipfile.ZIP_STORED
    data = generator_cases.archive({**files, "inner.zip": inner, "mail.txt": TEXT}, method)
    for _ in range(75):
        path = tmp_path / "mutated.zip"
        path.write_bytes(mutate(data, chance))
        finishes(path)
        assert list(workspace.iterdir()) == []


@pytest.mark.parametrize("story", ["driver-stuck", "two-crashes", "filter-file-missing"])
def test_mutated_cases_end_in_a_report_or_an_error_of_ours(tmp_path: Path, story: str) -> None:
    """15 cases of which every file is damaged in its own way."""
    chance = random.Random(story)
    for number in range(15):
        folder = tmp_path / str(number)
        for name, data in generator_cases.stories()[story].files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(mutate(data, chance) if chance.random() < 0.8 else data)
        finishes(folder)


# ---- everything at once ------------------------------------------------------------------------


def test_all_shared_samples_in_one_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shared_sample: Callable[[str], Path]
) -> None:
    """Every file has its verdict, nothing breaks, and the real crashes are told apart."""
    shared_sample("INDEX.md")
    output = tmp_path / "report.json"
    assert main(["analyze", str(SHARED), "--format", "json", "--output", str(output)]) == 1
    assert capsys.readouterr().err == ""
    import json

    tables = json.loads(output.read_text("utf-8"))["tables"]
    files = sorted(str(path) for path in SHARED.rglob("*") if path.is_file())
    assert sorted(row["path"] for row in tables["sources"]) == files
    for row in tables["sources"]:
        assert row["kind"] or row["absent"]["kind"], row["path"]
    # Oracle: INDEX.md; crash time and bugcheck of four dumps and two logs, one WER 1001 event
    codes = {row["crash"]: row["bugcheck"] for row in tables["crashes"] if row["bugcheck"]}
    assert list(codes.values()) == [
        "0x000000e2", "0x00010001", "0xa0000001", "0x1000007e", "0x000001c8", "0x00000018",
        "0x00000133", "0x00000065",
    ]  # fmt: skip


def test_the_manifest_names_what_is_shipped() -> None:
    """The archives in sample-traces/cases are what the generator makes."""
    made = generator_cases.make()
    shipped = {path.name: path.read_bytes() for path in generator_cases.FOLDER.iterdir()}
    assert shipped == made
    for name in generator_cases.SHIPPED:
        with zipfile.ZipFile(io.BytesIO(made[f"{name}.zip"])) as packed:
            assert packed.testzip() is None
