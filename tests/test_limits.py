"""The limits that decide an answer: a value just below and one just above each.

The limits of the dump log (slow start, slow write, stalled chunk) are in test_dumplog.py, those of
early volmgr events in test_event_claims.py.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import etw_writer as w
import fake_pykd
import generator_cases as cases
import pytest
from conftest import make, shared_sample
from fake_machine import Call, FakeMachine
from generator import Spec, build
from test_capture_file import NODE, facts, write
from test_etw_callbacks import BASE, TICK, back, entry
from test_live_capture import ACME, captured, routine

import analyzer
from analyzer.absence import is_absent
from analyzer.cli import main
from analyzer.dumpfile import paging
from analyzer.etw import findings, providers
from analyzer.etw.trace import Trace
from analyzer.layouts.crashdmp import node_layouts
from analyzer.layouts.modules import KLDR
from analyzer.records import Machine
from analyzer.reports import timeline


def opened(folder: Path, **files: bytes) -> Any:
    """The case of these files: "e__xml" is e.xml."""
    for name, data in files.items():
        (folder / name.replace("__", ".")).write_bytes(data)
    return analyzer.open(folder)


def rules(case: Any) -> list[str]:
    """The ids of the findings."""
    return [str(finding.rule) for finding in case.records["findings"]]


# -- captures --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ticks", "stands_out"), [(69_304_000, False), (69_305_000, True)])
def test_margin_of_an_outlier(ticks: int, stands_out: bool, tmp_path: Path) -> None:
    """Ten calls of 5, 10 and 15 ms: median 10, deviation 5 x 1.4826; 10 + 8 x 7.413 = 69.304 ms."""
    usual = [5_000_000] * 4 + [10_000_000] * 2 + [15_000_000] * 4
    made = facts([(t, 0) for t in [*usual, ticks]], cost=(0, 0, 0))
    case = analyzer.open(write(tmp_path / "c.jsonl", made))
    assert ("callback-slow-outlier" in rules(case)) is stands_out


@pytest.mark.parametrize(("build_number", "size"), [(9199, "vista"), (9200, "win8")])
def test_build_that_has_the_extension_of_windows_8(
    build_number: int, size: str, tmp_path: Path
) -> None:
    """Windows 8 is build 9200; without a node the build alone decides how the bytes are read."""
    layout = next(one for one in node_layouts(8) if one.name == size)
    data = bytes(range(1, 1 + 0x60))
    made = [fact for fact in facts([(5000, 0)]) if fact.get("fact") != "node"]
    for fact in made:
        if fact.get("fact") == "machine":
            fact["build"] = build_number
        if fact.get("fact") == "call":
            fact["ext"], fact["extension"] = data.hex(), hex(NODE + 0x40)
    (row,) = analyzer.open(write(tmp_path / "c.jsonl", made)).records["extensions"]
    expected = layout.extension_class.from_buffer_copy(data)
    assert row.disk_size == expected.DiskSize
    assert is_absent(row.flags) is not hasattr(expected, "Flags")


# -- live ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("above", "is_gone"), [(0xFFF8, True), (0x10000, False)])
def test_reach_of_a_stack(
    above: int, is_gone: bool, sample: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """A call that uses the stack above an open one ends it, unless it is another stack: 64 KB."""
    dump = analyzer.open(sample("healthy-x64-kernel.dmp")).records
    address, extension = routine(dump, ACME, "Dump_Start")
    open_call, later = Call(address, extension, returns=False), Call(address, extension)
    machine = FakeMachine(sample("healthy-x64-kernel.dmp"), [open_call, later])

    def steps() -> Any:
        top = machine.registers["rsp"]
        yield from machine._run([open_call])
        machine.registers["rsp"] = top + above
        yield from machine._run([later])

    machine._steps = steps()
    monkeypatch.setitem(sys.modules, "pykd", fake_pykd.make(machine))
    case, _, _ = captured(tmp_path)
    text = " ".join(f.text for f in case.records["findings"])
    assert ("a later call uses its place on the stack" in text) is is_gone


# -- events and crashes ----------------------------------------------------------------------------


@pytest.mark.parametrize(("second", "crashes"), [(10, 1), (11, 2)])
def test_time_within_which_one_start_logs(second: int, crashes: int, tmp_path: Path) -> None:
    """Two reports of different dumps ten seconds apart are of one start."""
    log = cases.EventLog().reporting("2026-03-01T10:21:00", cases.CRASH, r"C:\Windows\A.dmp")
    log.reporting(f"2026-03-01T10:21:{second}", cases.CRASH, r"C:\Windows\B.dmp")
    dump_log = cases.log(cases.logs.kernel(), cases.CRASH)
    case = opened(tmp_path, e__xml=log.xml(), DumpStack__log=dump_log)
    assert len({row.crash for row in case.records["crashes"]}) == crashes


@pytest.mark.parametrize(("when", "explains"), [("30T10:20:31", True), ("30T10:20:29", False)])
def test_how_long_ago_a_stack_that_did_not_load_explains(
    when: str, explains: bool, tmp_path: Path
) -> None:
    """Thirty days before the crash of 2026-03-01 10:20:30."""
    log = cases.EventLog().volmgr(f"2026-01-{when}", 45, 0x2005, 0xC0000034)
    stopped = cases.until(cases.logs.kernel(), "Starting get secondary dump callbacks size.")
    case = opened(tmp_path, e__xml=log.xml(), DumpStack__log=cases.log(stopped, cases.CRASH))
    (problem,) = (p for p in case.answer.problems if p.rule == "event-dump-driver-load-failed")
    assert problem.is_culprit is explains


@pytest.mark.parametrize(("minute", "is_restart"), [(15, False), (16, True)])
def test_time_within_which_a_report_is_of_the_start(
    minute: int, is_restart: bool, tmp_path: Path
) -> None:
    """Storage errors after a start are before a restart only where the report is of another."""
    log = cases.EventLog().power("2026-03-01T10:00:00", cases.CRASH)
    for second in range(4):
        log.add(f"2026-03-01T10:10:0{second}", "disk", 153, [r"\Device\Harddisk0\DR0"], level=3)
    log.reporting(f"2026-03-01T10:{minute}:00", cases.CRASH, r"C:\Windows\MEMORY.DMP")
    case = opened(tmp_path, e__xml=log.xml())
    assert ("event-storage-errors" in rules(case)) is is_restart


# -- traces ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("late", "touches"), [(0, False), (1, True)])
def test_loss_that_ends_where_a_call_begins(late: int, touches: bool) -> None:
    """Events lost up to the entry's own time may be of the call."""
    writer = w.Writer()
    writer.add(w.event(providers.KERNEL_POWER, 41, BASE - 1 + late), flags=2)
    writer.add(entry(BASE), back(BASE + 100))
    found = [a.rule for a in findings.tell(Trace.of_bytes(writer.build())) if hasattr(a, "rule")]
    assert ("etw-callback-events-lost" in found) is touches


@pytest.mark.parametrize(("before", "shown"), [(60, 3), (61, 2)])
def test_how_much_of_a_long_trace_is_shown(before: int, shown: int, tmp_path: Path) -> None:
    """Of too many events, those from a minute before the crash on."""
    writer = w.Writer()
    writer.add(*(w.event(providers.KERNEL_POWER, 41, BASE + n) for n in range(8)))
    last = BASE + 100 * TICK
    for ts in (last - before * TICK, last - 30 * TICK, last):
        writer.add(w.event(providers.KERNEL_POWER, 41, ts))
    path = tmp_path / "a.etl"
    path.write_bytes(writer.build())
    records = analyzer.open(path).records
    records.add(make(Machine, system_time=list(records["events"])[-1].time))
    made = timeline.build(records, 4)
    assert len([one for one in made.slices if one.table == "events"]) == shown


# -- dumps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("build_number", "in_entry"), [(10239, False), (10240, True)])
def test_build_that_keeps_time_stamps_in_the_module_list(
    build_number: int, in_entry: bool, tmp_path: Path
) -> None:
    """Up to Windows 8.1 (9600) the word is not the image's stamp; Windows 10 began with 10240."""
    data = bytearray(build(Spec("x64", 1)).data)
    path = tmp_path / "a.dmp"
    path.write_bytes(data)
    first = next(m for m in analyzer.open(path).records["modules"] if m.name == "crashdmp.sys")
    at = first.origin.file_offset + KLDR[8].TimeDateStamp.offset
    struct.pack_into("<I", data, at, 0x1234567)
    struct.pack_into("<I", data, 0x0C, build_number)
    path.write_bytes(data)
    row = next(m for m in analyzer.open(path).records["modules"] if m.name == "crashdmp.sys")
    assert row.time_date_stamp == (0x1234567 if in_entry else first.time_date_stamp)


@pytest.mark.parametrize(("above", "is_found"), [(0x2000, True), (0x2008, False)])
def test_how_far_below_the_top_of_the_stack_a_minidump_is_searched(
    above: int, is_found: bool, sample: Any, tmp_path: Path
) -> None:
    """What the dump writer left lies on the page below the stack that a minidump keeps."""
    data = bytearray(Path(sample("minidump-x64.dmp")).read_bytes())
    path = tmp_path / "a.dmp"
    path.write_bytes(data)
    words = [row.origin.address for row in analyzer.open(path).records["residue"]]
    struct.pack_into("<Q", data, 0x2000 + 0x48, words[0] + above)  # TRIAGE_DUMP.TopOfStack
    path.write_bytes(data)
    found = [row.origin.address for row in analyzer.open(path).records["residue"]]
    assert (words[0] in found) is is_found


@pytest.mark.parametrize(
    ("entry", "physical"), [(0x0040_0081, 0x0040_1234), (0x0040_0081 | 0x2000, 0x1_0040_1234)]
)
def test_large_page_above_4_gb(entry: int, physical: int) -> None:
    """PSE-36 (Intel SDM vol. 3, 4.3): bits 13 to 20 of a 4 MB entry are address bits 32 to 39."""
    scheme = paging.SCHEMES["x86"]
    found = paging.walk(scheme, 0x1000, 0x1234, lambda _: (entry, 0), (1 << 40) - 1)
    assert found == (physical, 0)


def test_a_number_that_cannot_be_is_not_stated_as_fact(capsys: Any) -> None:
    """The header of this dump has 0xFFFFFFFF processors, and a geometry with a style unknown."""
    main(["analyze", str(shared_sample("../faults/garbage-values-clean.dmp"))])
    words = " ".join(capsys.readouterr().out.split())
    assert "Windows build 19041, x64. " in words
    assert "4294967295 processors" not in words
    assert "invalid, 512-byte sectors" not in words
    assert "The dump header holds a value that cannot be" in words
