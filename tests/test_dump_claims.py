"""What is claimed of a dump is in it: each test goes through the command, on real or faulty files.

The real dumps are shared samples; the faulty ones (`faults/`, beside the samples) have a README
that says what is right.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from conftest import SAMPLE_TRACES, shared_sample
from generator import Spec, build

from analyzer.absence import Absent
from analyzer.cli import main
from analyzer.dumpfile import open_dump
from analyzer.dumpstack import roles, walk
from analyzer.sources import dump_contradictions, dump_records

FLUSHING = "dmp/CriticalRocket_DriverProblems__111417-28234-01.dmp"  # Windows 8.1
NEWEST = "dmp/FrancoTrone64__082325-12593-01.dmp"  # Windows 11, 26100
X64 = "dmp/rizinorg_rizin-testbins__triage_x64.dmp"
ARM64 = "dmp/rizinorg_rizin-testbins__triage_arm64.dmp"


def fault(name: str) -> Path:
    """A faulty input by its name."""
    return shared_sample(f"../faults/{name}")


def analyze(capsys: Any, *paths: Path) -> tuple[int, dict[str, Any]]:
    """Exit code of `dumpstart analyze`, the tables of its JSON report and the answer."""
    code = main(["analyze", *map(str, paths), "--format", "json"])
    report = json.loads(capsys.readouterr().out)
    return code, {
        **report["tables"],
        "answer": report["answer"],
        "said": json.dumps(report["answer"]),
    }


def rules(report: dict[str, Any]) -> set[str]:
    """The rules of its findings."""
    return {row["rule"] for row in report["findings"]}


@pytest.mark.parametrize("name", [FLUSHING, NEWEST, X64, ARM64])
def test_a_healthy_real_dump_has_nothing_wrong(name: str, capsys: Any) -> None:
    """Exit code 0: no error and no warning without a witness."""
    code, report = analyze(capsys, shared_sample(name))
    assert code == 0, report["findings"]
    assert {row["severity"] for row in report["findings"]} <= {"info"}


# ---- S1: FLUSH and SHUTDOWN stand twice ----------------------------------------------------------
@pytest.mark.parametrize(("name", "entries"), [(FLUSHING, 1), (NEWEST, 3)])
def test_second_entries_of_a_shutdown_are_no_open_requests(
    name: str, entries: int, capsys: Any
) -> None:
    """Start = end of the first entry, no end, status 0 (read off the bytes with struct)."""
    _, report = analyze(capsys, shared_sample(name))
    assert "storage-requests-in-flight" not in rules(report)
    rows = [r for r in report["requests"] if r["srb_function"] == 7 and r["start"]]
    assert len(rows) == entries
    for row in rows:
        assert row["in_flight"] is None
        assert row["status"] is None


def test_a_cache_flush_behind_a_shutdown_has_no_start(capsys: Any) -> None:
    """Five of them: four follow an entry of the list, one began before the full list did."""
    _, report = analyze(capsys, shared_sample(FLUSHING))
    rows = [r for r in report["requests"] if r["opcode"] == 0x35]
    assert len(rows) == 5
    assert {r["start"] for r in rows} == {r["duration_ns"] for r in rows} == {None}
    _, report = analyze(capsys, shared_sample(X64))  # those were sent on their own
    assert all(r["start"] for r in report["requests"] if r["opcode"] == 0x35)


# ---- S3, S4: a small dump is a fallback only where something says so -----------------------------
def test_a_small_dump_as_configured_is_healthy(capsys: Any) -> None:
    """CrashDumpEnabled 3 and a small dump that the kernel made: no warning, not called smaller."""
    code, report = analyze(capsys, fault("case-small-dump"))
    assert code == 0
    assert {row["severity"] for row in report["findings"]} == {"info"}
    assert "smaller" not in report["said"]
    assert {row["outcome"] for row in report["crashes"]} == {"written"}


def made(tmp_path: Path, dump_type: int = 6, variant: str = "healthy", **patch: int) -> Path:
    """A generated x64 dump; ``patch``: header offset (as at_1050) -> 32-bit value."""
    data = bytearray(build(Spec("x64", dump_type, "win8", variant)).data)
    for name, value in patch.items():
        struct.pack_into("<I", data, int(name[3:], 16), value)
    path = tmp_path / "made.dmp"
    path.write_bytes(data)
    return path


def test_too_little_space_is_told_of_the_dump_that_did_not_fit(tmp_path: Path, capsys: Any) -> None:
    """Attribute bit 2 speaks of the dump that was asked for; the small one is whole."""
    code, report = analyze(capsys, made(tmp_path, 4, at_1050=0x1080C))
    assert code == 1
    (row,) = [r for r in report["findings"] if r["rule"] == "dump-space-insufficient"]
    assert "a small dump was written in its place; that one is whole" in row["text"]
    code, report = analyze(capsys, made(tmp_path, 4, at_1050=0x8))
    assert (code, rules(report)) == (0, {"storage-requests-in-flight"})


# ---- the header of Windows 11 --------------------------------------------------------------------
def test_the_header_tells_how_the_dump_ended(capsys: Any) -> None:
    """Build 26100.4946 and the last line, both read off the bytes at 0x1300 and 0x11F0."""
    _, report = analyze(capsys, shared_sample(NEWEST))
    (machine,) = report["machine"]
    assert (machine["build"], machine["revision"]) == (26100, 4946)
    assert machine["last_dump_line"] == "Dump completed successfully."
    assert machine["attribute_names"] == (
        "KernelGeneratedTriageDump, DiagDataWrittenToHeader, unnamed bits 0x20800"
    )
    main(["analyze", str(shared_sample(NEWEST))])
    assert "build 26100.4946" in capsys.readouterr().out


def test_another_last_line_is_a_warning(capsys: Any) -> None:
    """The line that the header keeps says how far writing came."""
    code, report = analyze(capsys, fault("minidump-26100-header-last-line.dmp"))
    assert code == 1
    (row,) = [r for r in report["findings"] if r["rule"] == "dump-ended-early"]
    assert "Starting write of minidump data." in row["text"]
    assert report["machine"][0]["revision"] == 4946


@pytest.mark.parametrize("value", [0, 0x47, 0xFF, 0xFFFFFFFF])
def test_any_bytes_in_the_diagnosis_area(value: int, tmp_path: Path, capsys: Any) -> None:
    """Whatever stands there gives a line, or none."""
    data = bytearray(shared_sample(NEWEST).read_bytes())
    data[0x1058:0x1310] = struct.pack("<I", value) * (0x2B8 // 4)
    path = tmp_path / "made.dmp"
    path.write_bytes(data)
    _, report = analyze(capsys, path)
    assert report["machine"][0]["last_dump_line"] is None
    assert report["machine"][0]["revision"] is None


# ---- S12, S13, S17, S29, the bitmap: what is not there, contradicts itself, or cannot be ---------
def test_names_that_cannot_be_read_make_the_list_incomplete(capsys: Any) -> None:
    """A zeroed page of names: nothing is said to be missing."""
    _, report = analyze(capsys, fault("zero-page-40-names.dmp"))
    assert "modules-incomplete" in rules(report)
    assert "dump-stack-missing" not in rules(report)
    assert "zeros" not in str(report["machine"][0]["faulting_symbol"])


def test_a_page_filled_by_the_debugger_is_absent(capsys: Any) -> None:
    """0xdeadfeed is no link: the page is absent with its reason, nothing was overwritten."""
    _, report = analyze(capsys, fault("deadfeed-page.dmp"))
    assert "error" not in {row["severity"] for row in report["findings"]}
    text = " ".join(row["text"] for row in report["findings"])
    assert "could not read this page" in text
    assert "0xdeadfeed" not in text


def test_a_bit_that_moved_is_a_finding(capsys: Any) -> None:
    """The map gives other pages than the links in them name."""
    code, report = analyze(capsys, fault("bitmap-bit-moved.dmp"))
    assert code == 1
    assert "dump-map-contradicts-memory" in rules(report)


def test_values_that_cannot_be_are_findings(capsys: Any) -> None:
    """Each value that its README names is in the text of one."""
    code, report = analyze(capsys, fault("garbage-values-clean.dmp"))
    assert code == 1
    text = " ".join(row["text"] for row in report["findings"])
    for name in (
        "MaxPagesPerWrite", "Flags", "DeviceObject", "MediaType", "PartitionStyle", "DiskSize",
        "NumberProcessors", "SystemTime", "SystemUpTime",
    ):  # fmt: skip
        assert name in text


@pytest.mark.parametrize("code", [0x133, 0, 0x100000D1])
def test_header_and_memory_name_different_bugchecks(code: int, tmp_path: Path, capsys: Any) -> None:
    """nt!KiBugCheckData holds 0xD1; "_M" is the same code, and a code of 0 hides a crash."""
    _, report = analyze(capsys, made(tmp_path, at_38=code))
    assert ("dump-bugcheck-differs" in rules(report)) is (code != 0x100000D1)


@pytest.mark.parametrize("code", [0, 0x161])
def test_a_header_that_denies_the_crash_in_memory_does_not_decide(
    code: int, tmp_path: Path, capsys: Any
) -> None:
    """Whether the machine had crashed, and so what was called, is left open."""
    _, report = analyze(capsys, made(tmp_path, at_38=code))
    assert report["answer"]["headline"][0].endswith("its header, but its memory holds a bugcheck.")
    assert "not-a-crash" not in rules(report)
    assert {row["dump_start"] for row in report["answer"]["filters"]} == {""}


def test_header_and_crashdmp_name_different_bugchecks(tmp_path: Path, capsys: Any) -> None:
    """crashdmp!Context of a real minidump holds 0x1C8 with the header's parameters."""
    data = bytearray(shared_sample(ARM64).read_bytes())
    path = tmp_path / "made.dmp"
    for code, differs in ((0x1C8, False), (0x133, True), (0, True)):
        struct.pack_into("<I", data, 0x38, code)
        path.write_bytes(data)
        _, report = analyze(capsys, path)
        told = [r for r in report["findings"] if r["rule"] == "dump-bugcheck-differs"]
        assert bool(told) is differs
        assert all("0x1c8" in row["text"] for row in told)


# ---- the crash lies in the crash path ------------------------------------------------------------
def test_a_crash_in_a_filter_names_the_filter_and_the_call(tmp_path: Path, capsys: Any) -> None:
    """The address lies 0x14 bytes behind Dump_Write of the second filter; the answer says so."""
    _, report = analyze(capsys, made(tmp_path, variant="crash-in-filter"))
    assert report["machine"][0]["faulting_symbol"] == "dump_acmeflt+0x1054"
    assert report["machine"][0]["faulting_module"] == "dump_acmeflt.sys"
    assert report["findings"][0]["rule"] == "crash-in-dump-filter"
    for words in ("dump_acmeflt.sys of the crash stack", "in its Dump_Write (0x14 bytes behind"):
        assert words in " ".join(report["answer"]["headline"])
        assert words in report["findings"][0]["text"]


@pytest.mark.parametrize(("variant", "blames"), [("no-secondary", False), ("healthy", True)])
def test_registers_that_another_program_saved_name_no_crash(
    variant: str, blames: bool, tmp_path: Path, capsys: Any
) -> None:
    """0xE2 (manual): Windows' registers say where it crashed, a debugger's where it was."""
    path = made(tmp_path, variant="crash-in-filter")
    _, report = analyze(capsys, path)
    address = report["machine"][0]["faulting_address"]
    path = made(tmp_path, 1 if variant == "no-secondary" else 6, variant, at_38=0xE2)
    data = bytearray(path.read_bytes())
    data[0x40:0x60] = bytes(0x20)  # parameters
    data[0xF00:0xF98] = bytes(0x98)  # exception record
    struct.pack_into("<Q", data, 0x348 + 0xF8, int(str(address), 0))  # CONTEXT.Rip
    path.write_bytes(data)
    _, report = analyze(capsys, path)
    assert ("dump-not-by-windows" in rules(report)) is not blames
    assert ("crash-in-dump-filter" in rules(report)) is blames
    assert ("dump_acmeflt" in str(report["machine"][0]["faulting_symbol"])) is blames


def test_the_blamed_module_of_a_real_crash(capsys: Any) -> None:
    """0x1000007E, parameter 2 (INDEX.md): amdppm at 0xfffff8048b580000."""
    _, report = analyze(capsys, shared_sample(X64))
    assert report["machine"][0]["faulting_module"] == "amdppm.sys"
    assert report["machine"][0]["faulting_symbol"] == "amdppm+0x334c"


def test_a_failed_encrypting_filter_leads(tmp_path: Path, capsys: Any) -> None:
    """BitLocker's Dump_Write failed while a dump was written: told first, with its confidence."""
    _, report = analyze(capsys, made(tmp_path, variant="encrypting-filter-failed"))
    assert report["findings"][0]["rule"] == "dump-in-plain-text"
    assert "plain text, or a part of it did (likely)" in report["findings"][0]["text"]
    assert report["filters"][0]["product"] == "BitLocker (Microsoft), in-box; encrypts"
    _, report = analyze(capsys, made(tmp_path, variant="filter-failed"))
    assert "dump-in-plain-text" not in rules(report)  # acmeflt: not known to encrypt


def test_a_hibernation_stack_tells_of_sleep(tmp_path: Path, capsys: Any) -> None:
    """Which filters write the hibernation file and which the dump."""
    code, report = analyze(capsys, made(tmp_path, variant="hibernation"))
    assert code == 0
    (row,) = [r for r in report["findings"] if r["rule"] == "sleep-transition"]
    assert "goes through hiber_dumpfve.sys and hiber_acmeflt.sys" in row["text"]
    assert "a crash dump goes through dump_dumpfve.sys and dump_acmeflt.sys" in row["text"]


# ---- S10: a schema that does not fit gives the bytes ---------------------------------------------
STORPORT = "c4636a1e-7986-4646-bf10-7bc3b4a76e8e"


def storport_errors(capsys: Any, path: Path) -> list[dict[str, Any]]:
    """Events 523 of a dump's saved ETW buffers."""
    main(["show", "events", str(path), "--provider", STORPORT, "--id", "523", "--format", "json"])
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


def test_storport_errors_are_decoded_to_the_last_byte(capsys: Any) -> None:
    """Oracle: the layout as Windows renders it in an event log; five real events fit it."""
    rows = storport_errors(capsys, shared_sample(X64))
    assert len(rows) == 5
    for row in rows:
        assert "PathID=255, TargetID=255, LUN=255" in row["text"]
        assert "Irp=0x0, Srb=0xffffc08bd" in row["text"]
        assert row["text"].isascii()
    assert "NVMe Read Error" in rows[-1]["text"]
    assert "Parameter1Name=OPC, Parameter1Value=0x2" in rows[-1]["text"]


def test_a_payload_of_another_layout_keeps_its_bytes(tmp_path: Path, capsys: Any) -> None:
    """One byte in the middle of an event makes strings and pointers that cannot be."""
    data = bytearray(shared_sample(X64).read_bytes())
    at = data.index("NVMe Read Error".encode("utf-16-le") + b"\0\0") + 32 + 4 + 16 + 3 + 16
    assert data[at : at + 3] == bytes(3)  # VendorId, ProductId, SerialNumber: empty
    data[at] = 0x41
    path = tmp_path / "made.dmp"
    path.write_bytes(data)
    *others, last = storport_errors(capsys, path)
    assert [row["text"] is not None for row in others] == [True] * 4
    assert last["text"] is None
    assert "do not fit the layout known for Miniport/Error" in last["absent"]["text"]


# ---- S21: shapes ---------------------------------------------------------------------------------
@pytest.mark.parametrize("form", ["text", "html", "markdown"])
def test_a_code_without_a_name_is_told_once(form: str, capsys: Any) -> None:
    """Bugcheck 0xA0000001 has no public name (facts), so the number is not its own name."""
    main(["analyze", str(shared_sample(FLUSHING)), "--format", form])
    shown = capsys.readouterr().out.lower()
    assert "0xa0000001" in shown
    assert "0xa0000001 0xa0000001" not in shown
    assert "0xa0000001 (0xa0000001" not in shown


@pytest.mark.parametrize("form", ["text", "html"])
def test_a_report_says_one_thing_of_a_call(form: str, capsys: Any, sample: Any) -> None:
    """What is shown of Dump_Start is not called "not determined" below: that is of the others."""
    main(["analyze", "-v", str(sample("broken-x64-worst.dmp")), "--format", form])
    shown = " ".join(capsys.readouterr().out.split())
    assert "Dump_Start likely called: " in shown or form == "html"
    assert "was_called of Dump_Write and Dump_Finish" in shown
    assert "status of Dump_Write and Dump_Finish" in shown
    assert "duration_ns of Dump_Start, Dump_Write and Dump_Finish" in shown
    assert "was_called (memory" not in shown


def test_an_srb_status_is_one_number(capsys: Any, sample: Any) -> None:
    """SrbStatus 0x84 is SRB_STATUS_ERROR with a bit that is no part of it (srb.h)."""
    path = str(sample("broken-x64-worst.dmp"))
    main(["analyze", "-v", path])
    shown = " ".join(capsys.readouterr().out.split())
    assert "SRB status 0x04 SRB_STATUS_ERROR" in shown
    assert "31.25 ms 0x04 SRB_STATUS_ERROR" in shown
    assert "132" not in shown.partition("Storage requests")[2].partition("Residue")[0]
    main(["show", "requests", path, "--format", "json"])
    codes = {row["status"] for row in json.loads(capsys.readouterr().out)}
    assert codes == {1, 4, None}


#: shapes of sentences that were wrong, whatever they spoke of
SHAPES = {
    "a denial twice": r"No callbacks? of .{1,60} (is|are) not",
    "nothing that is open": r"\(open: no",
    "a number as its own name": r"\b(0x[0-9a-f]+) \(?\1\b|\b(location 0x[0-9a-f]+): \2\b",
    "no time at all": r"slowest 0 ns|took 0 ns",
    "a unit too small": r"\b1000 (ns|us|ms|bytes|kB|MB|GB)\b",
}


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_no_report_has_a_shape_that_was_wrong(shape: str, shown_samples: dict[str, str]) -> None:
    """In the full text and the page of each shipped file."""
    wrong = re.compile(SHAPES[shape])
    assert {name: str(m) for name, text in shown_samples.items() if (m := wrong.search(text))} == {}


@pytest.fixture(scope="module")
def shown_samples() -> dict[str, str]:
    """The reports of shipped files, each with its blanks as one."""
    found = {}
    kinds = ("*.dmp", "captures/run-0[19].jsonl", "traces/*.etl", "logs/[a-z]*", "cases/*.zip")
    for path in (path for kind in kinds for path in sorted(SAMPLE_TRACES.glob(kind))):
        for form in ("text", "html"):
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                main(["analyze", "-v", str(path), "--format", form])
            found[f"{path.name} as {form}"] = " ".join(out.getvalue().split())
    return found


def test_requests_of_no_time_are_under_a_tick(tmp_path: Path, capsys: Any) -> None:
    """Their clock moves in steps: to begin and end in one of them is not a duration of 0 ns."""
    data = bytearray(shared_sample(X64).read_bytes())
    path = tmp_path / "made.dmp"
    path.write_bytes(data)
    _, report = analyze(capsys, path)
    for row in report["requests"]:
        if row["duration_ns"]:
            at = row["file_offset"]
            raw = data[at : at + 0x40]
            (start,) = (n for n in range(0, 0x34, 4) if is_start(raw, n, row))
            data[at + start : at + start + 8] = raw[start + 8 : start + 16]
    path.write_bytes(data)
    main(["analyze", "-v", str(path)])
    assert "slowest less than one clock tick" in capsys.readouterr().out


def is_start(raw: bytes, at: int, row: dict[str, Any]) -> bool:
    """Whether a start and an end that lie this far apart stand here."""
    start, end = struct.unpack_from("<QQ", raw, at)
    return (end - start) * 100 == row["duration_ns"]


# ---- S24: what Windows did not write -------------------------------------------------------------
def test_a_dump_of_another_writer_says_nothing_of_the_dump_stack(
    tmp_path: Path, capsys: Any
) -> None:
    """Hypervisors and debuggers add no secondary data; QEMU sets 0x161 where no bugcheck was."""
    _, report = analyze(capsys, made(tmp_path, 1, "no-secondary"))
    assert "dump-not-by-windows" in rules(report)
    headline = " ".join(report["answer"]["headline"])
    assert "that Windows did not write itself" in headline
    assert "was written" not in headline
    assert {row["outcome"] for row in report["crashes"]} == {None}
    for code in (0x161, 0x4D415454, 0x141):  # QEMU's for a live machine, DumpIt's, of live dumps
        path = made(tmp_path, 1, "no-secondary", at_38=code)
        data = bytearray(path.read_bytes())
        assert analyze(capsys, path)[1]["answer"]["headline"][0].endswith("holds a bugcheck.")
        held = (0xD1).to_bytes(8, "little") + data[0x40:0x60]
        assert held in data[0x2000:]  # nt!KiBugCheckData and its copy, which are zero until a crash
        data[0x2000:] = data[0x2000:].replace(held, bytes(40))
        path.write_bytes(data)
        _, report = analyze(capsys, path)
        assert "the machine had not crashed" in report["answer"]["headline"][0]
        assert "not-a-crash" in rules(report)


def test_the_mark_of_elf2dmp(tmp_path: Path, capsys: Any) -> None:
    """Its comment (facts) names it."""
    data = bytearray(build(Spec("x64", 1, "win8", "no-secondary")).data)
    data[0xFB0 : 0xFB0 + 20] = b"Hello from elf2dmp!\0"
    path = tmp_path / "made.dmp"
    path.write_bytes(data)
    _, report = analyze(capsys, path)
    (row,) = [r for r in report["findings"] if r["rule"] == "dump-not-by-windows"]
    assert "elf2dmp" in row["text"]


# ---- S20: one verdict, alone and in a case -------------------------------------------------------
@pytest.mark.parametrize("at", ["writer", "last line"])
def test_a_dump_has_one_verdict_alone_and_beside_others(
    at: str, tmp_path: Path, capsys: Any
) -> None:
    """What its own header says failed is complete in neither answer."""
    dump = made(tmp_path, at_1048=0xC0000185) if at == "writer" else tmp_path / "made.dmp"
    if at != "writer":
        dump.write_bytes(fault("minidump-26100-header-last-line.dmp").read_bytes())
    _, alone = analyze(capsys, dump)
    _, beside = analyze(capsys, dump, fault("crash-control-small-dump.reg"))
    verdict = "left no finished dump"
    if at != "writer":  # the last line alone does not prove that something is missing
        verdict = "so whether it was written whole is not known"
    for said in (alone["said"], beside["said"]):
        assert "dump was written" not in said
        assert verdict in said


def without(path: Path, data: bytes, addresses: list[int]) -> None:
    """Writes a dump of type 6 whose map leaves the pages of these addresses out."""
    path.write_bytes(data)
    raw, base, dump = bytearray(data), 0x2000, open_dump(str(path))
    pages = sorted({(dump.file_offset(address) or 0) & ~0xFFF for address in addresses})
    for offset in reversed(pages):
        frame = dump.pages.frame_at(offset)
        raw[base + 0x38 + frame // 8] &= ~(1 << frame % 8)
        del raw[offset : offset + 0x1000]
    (count,) = struct.unpack_from("<Q", raw, base + 0x28)
    struct.pack_into("<Q", raw, base + 0x28, count - len(pages))
    path.write_bytes(raw)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5])
def test_pages_that_the_map_leaves_out(count: int, tmp_path: Path, capsys: Any) -> None:
    """Memory that a dump always holds is named: three of it, and how much more."""
    built = build(Spec("x64", 6, "win8"))
    path = tmp_path / "a.dmp"
    path.write_bytes(built.data)
    stacks = {region.owner: region.end - 0x1000 for region in open_dump(str(path)).stacks()}
    parts = {
        "the stack of processor 1": stacks["processor 1"],
        "the stack of processor 0": stacks["processor 0"],
        "the dump stack context": built.truth["context"]["dump_stack_context"],
        "the stack of the crash": built.truth["registers"]["sp"],
        "the control block of processor 0": built.truth["processors"][0]["prcb"],
    }
    left_out = dict(list(parts.items())[:count])
    without(path, built.data, list(left_out.values()))
    dump, places = open_dump(str(path)), list[int]()
    dump.file.data.touched = lambda at, size: size or places.append(at)
    frames = [dump.left_out(address) for address in left_out.values()]
    assert (None in frames, len(set(frames)), places) == (False, count, [])
    assert dump.left_out(built.truth["registers"]["ip"]) is None
    assert len(places) == 1
    _, report = analyze(capsys, path)
    told = [r for r in report["findings"] if r["rule"] == "dump-map-contradicts-memory"]
    assert len(told) == bool(count)
    for row in told:
        order = [list(parts)[n] for n in (3, 2, 4, 1, 0)]
        names = [name for name in order if name in left_out]
        more = f" and {count - 3} more" if count > 3 else ""
        text = f"The page tables lead to {', '.join(names[:3])}{more}, but the dump's own map of "
        assert row["text"].startswith(text)


def test_filters_that_no_link_leads_to(tmp_path: Path) -> None:
    """Odd only where crashdmp's own pointer leads to readable memory, and no list was found."""
    path = tmp_path / "a.dmp"
    path.write_bytes(build(Spec("x64", 6, "win8")).data)
    dump = open_dump(str(path))
    modules = roles.classify(dump.modules())
    contexts = dump_records.find_contexts(dump, modules, dump.file.number("BugCheckCode"))
    (ring,) = walk.rings(dump, modules, contexts.context)
    lost = ring._replace(head=Absent("not-found"))
    nodes = tuple(node._replace(file_offset=0x7000) for node in ring.nodes)
    lost = lost._replace(nodes=nodes)

    def said(found: Any, *rings: Any) -> list[Any]:
        return list(dump_contradictions._loose_nodes(dump, modules, found, rings))

    assert isinstance(contexts.context, int)
    assert said(contexts, ring) == said(contexts) == said(contexts, ring, lost) == []
    assert said(contexts, lost._replace(nodes=())) == []
    for place in (Absent("not-found"), contexts.context + 0x600):  # zeros stand there
        assert said(contexts._replace(context=place), lost) == []
    (told,) = said(contexts, lost)
    assert [row.value for row in told.evidence][1] == len(ring.nodes)


def test_a_build_that_cannot_be_is_not_told_as_one(tmp_path: Path, capsys: Any) -> None:
    """The finding says that it cannot be; the answer does not repeat it as a fact."""
    path = tmp_path / "stub.dmp"
    path.write_bytes(b"PAGEDU64" + b"\x09" * 100)
    assert main(["analyze", str(path)]) == 1
    shown = capsys.readouterr().out
    assert "MinorVersion (the build) is\n    0x9090909" in shown
    assert "Windows build" not in shown
