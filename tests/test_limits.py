"""The limits that decide an answer: a value just below and one just above each.

The limits of DumpStack.log (slow start, slow write, stalled chunk) are in
test_dumpstack_log.py, those of early volmgr events in test_event_claims.py.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import etw_writer as w
import fake_pykd
import generator_cases as cases
import numpy as np
import pytest
from conftest import make, shared_sample
from fake_machine import Call, FakeMachine
from generator import Spec, build
from made_inputs import io_error
from test_capture_file import NODE, facts, write
from test_etw_callbacks import BASE, TICK, back, entry
from test_live_capture import ACME, captured, routine

import analyzer
from analyzer.absence import is_absent
from analyzer.cli import main
from analyzer.dumpfile import paging
from analyzer.etw import findings, providers
from analyzer.etw.clock import NO_TIME, Clock
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


def said(case: Any, rule: str) -> str:
    """The texts of the findings of a rule."""
    return " ".join(str(f.text) for f in case.records["findings"] if f.rule == rule)


# -- captures --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ticks", "stands_out"), [(69_304_000, False), (69_305_000, True)])
def test_margin_of_an_outlier(ticks: int, stands_out: bool, tmp_path: Path) -> None:
    """Ten calls of 5, 10 and 15 ms: median 10, deviation 5 x 1.4826; 10 + 8 x 7.413 = 69.304 ms."""
    usual = [5_000_000] * 4 + [10_000_000] * 2 + [15_000_000] * 4
    made = facts([(t, 0) for t in [*usual, ticks]], cost=(0, 0, 0))
    case = analyzer.open(write(tmp_path / "c.jsonl", made))
    assert ("callback-slow-outlier" in rules(case)) is stands_out


MS = 1_000_000  # at 1 GHz a tick is a nanosecond, and a cost of nothing leaves a clock's difference
QUIET = (0, 0, 0)


@pytest.mark.parametrize(("ticks", "is_slow"), [(1000 * MS, False), (1000 * MS + 1, True)])
def test_time_after_which_a_call_is_slow(ticks: int, is_slow: bool, tmp_path: Path) -> None:
    """More than a second is slow whatever the others took."""
    case = analyzer.open(write(tmp_path / "c.jsonl", facts([(ticks, 0)], cost=QUIET)))
    assert ("callback-slow" in rules(case)) is is_slow


@pytest.mark.parametrize(
    ("watched", "rule"),
    [(1000 * MS - 1, "callback-under-way"), (1000 * MS, "callback-never-returned")],
)
def test_time_after_which_a_call_never_returned(watched: int, rule: str, tmp_path: Path) -> None:
    """A call whose return was watched for a second until the capture ended did not return."""
    made = list(facts([(None, 0)]))
    call, end = (next(f for f in made if f.get("fact") == kind) for kind in ("call", "end"))
    call["back"], end["host"] = "0x1000", call["host"] + watched
    assert rules(analyzer.open(write(tmp_path / "c.jsonl", made))) == [rule]


def test_what_is_said_of_long_calls(tmp_path: Path) -> None:
    """Times in their units: ms of an outlier, seconds of a slow call and of one that is open."""
    usual = [(10 * MS, 0)] * 8
    case = analyzer.open(write(tmp_path / "a.jsonl", facts([*usual, (69_305_000, 0)], cost=QUIET)))
    assert said(case, "callback-slow-outlier") == (
        "Call 8 of Dump_Start of dump_x.sys took at least 69.31 ms; the median of the other 8 "
        "calls is at most 10 ms."
    )
    slow = facts([*usual, (1500 * MS, 0), (2500 * MS, 0)], cost=QUIET)
    assert said(analyzer.open(write(tmp_path / "b.jsonl", slow)), "callback-slow") == (
        "2 of 10 calls of Dump_Start of dump_x.sys took more than 1 s; the longest at least 2.5 "
        "s (call 9)."
    )
    short = facts([(150_000, 0), (250_000, 0)], cost=(100_000, 200_000, 300_000))
    assert said(analyzer.open(write(tmp_path / "c.jsonl", short)), "duration-below-noise") == (
        "2 of 2 calls of Dump_Start of dump_x.sys were shorter than the debugger's own noise; they "
        "took at most 150 us."
    )
    made = list(facts([(None, 0)]))
    call, end = (next(f for f in made if f.get("fact") == kind) for kind in ("call", "end"))
    call["back"], end["host"] = "0x1000", call["host"] + 2500 * MS
    open_case = analyzer.open(write(tmp_path / "d.jsonl", made))
    assert "did not return in the 2.5 s that" in said(open_case, "callback-never-returned")


@pytest.mark.parametrize(("others", "stands_out"), [(7, False), (8, True)])
def test_calls_of_which_one_can_stand_out(others: int, stands_out: bool, tmp_path: Path) -> None:
    """Eight other calls of one callback are enough."""
    made = facts([(10 * MS, 0)] * others + [(900 * MS, 0)], cost=QUIET)
    case = analyzer.open(write(tmp_path / "c.jsonl", made))
    assert ("callback-slow-outlier" in rules(case)) is stands_out


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ([1 * MS] * 3, 2 * MS),  # at least a millisecond more, however short both are
        ([10 * MS] * 3, 15 * MS),  # at least by half more than the baseline
        ([10 * MS, 14 * MS, 20 * MS, 30 * MS], 17 * MS + 3 * 7_413_000),
    ],
)
@pytest.mark.parametrize(("more", "is_slower"), [(0, False), (1, True)])
def test_margin_of_a_baseline(
    before: list[int], now: int, more: int, is_slower: bool, tmp_path: Path, capsys: Any
) -> None:
    """Median and deviation by hand: 10, 14, 20, 30: 17; deviations 7, 3, 3, 13: 5 x 1.4826."""
    good = write(tmp_path / "good.jsonl", facts([(t, 0) for t in before], cost=QUIET))
    after = write(tmp_path / "after.jsonl", facts([(now + more, 0)], cost=QUIET))
    main(["analyze", after, "--baseline", good, "--format", "json"])
    assert ('"callback-slower-than-baseline"' in capsys.readouterr().out) is is_slower


@pytest.mark.parametrize(
    ("usual", "differs"),
    [(10 * MS, 20 * MS), (MS // 2, MS // 2 + MS)],  # twice the others, and by a millisecond
)
@pytest.mark.parametrize(("less", "is_told"), [(1, False), (0, True)])
def test_factor_by_which_a_run_differs(
    usual: int, differs: int, less: int, is_told: bool, tmp_path: Path, capsys: Any
) -> None:
    """One run of three is told when its Dump_Start took twice the median of all."""
    for name, ticks in (("a", usual - 1), ("b", usual), ("c", differs - less)):
        write(tmp_path / f"{name}.jsonl", facts([(ticks, 0)], cost=QUIET))
    main(["analyze", str(tmp_path)])
    words = " ".join(capsys.readouterr().out.split())
    assert ("1 of 3 runs differs: Dump_Start of dump_x.sys took" in words) is is_told
    assert ("In no run did Dump_Start take twice the median" in words) is not is_told


@pytest.mark.parametrize(("runs", "is_compared"), [(2, False), (3, True)])
def test_runs_that_can_be_compared(
    runs: int, is_compared: bool, tmp_path: Path, capsys: Any
) -> None:
    """Two runs have no usual one."""
    for number in range(runs):
        write(tmp_path / f"{number}.jsonl", facts([(5000 + number, 0)], cost=QUIET))
    main(["analyze", str(tmp_path)])
    assert ("In no run did" in " ".join(capsys.readouterr().out.split())) is is_compared


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


@pytest.mark.parametrize(("when", "explains"), [("02T10:20:29", True), ("02T10:20:31", False)])
def test_how_soon_after_the_crash_a_stack_that_does_not_load_explains(
    when: str, explains: bool, tmp_path: Path
) -> None:
    """A day after the crash of 2026-03-01 10:20:30, where no start of the machine is known."""
    log = cases.EventLog().volmgr(f"2026-03-{when}", 45, 0x2005, 0xC0000034)
    stopped = cases.until(cases.logs.kernel(), "Starting get secondary dump callbacks size.")
    case = opened(tmp_path, e__xml=log.xml(), DumpStack__log=cases.log(stopped, cases.CRASH))
    (problem,) = (p for p in case.answer.problems if p.rule == "event-dump-driver-load-failed")
    assert problem.is_culprit is explains


DISK_ERROR = ("disk", 153, [r"\Device\Harddisk0\DR0"])


@pytest.mark.parametrize(("restart", "is_before"), [("10:00", True), ("10:01", False)])
def test_time_from_a_storage_error_to_a_restart(
    restart: str, is_before: bool, tmp_path: Path
) -> None:
    """Ten minutes, in an event log."""
    log = cases.EventLog()
    for second in range(4):
        log.add(f"2026-03-01T10:00:0{second}", *DISK_ERROR, level=3)
    log.power(f"2026-03-01T10:{restart}", cases.CRASH)
    case = opened(tmp_path, e__xml=log.xml())
    assert ("4 errors or warnings" in said(case, "event-storage-errors")) is is_before


@pytest.mark.parametrize(("second", "is_restart"), [("02:00", False), ("02:01", True)])
def test_time_within_which_restarts_are_one_start(
    second: str, is_restart: bool, tmp_path: Path
) -> None:
    """Storage errors between two messages of one start are not before a restart: two minutes."""
    log = cases.EventLog().power("2026-03-01T10:00:00", cases.CRASH)
    for number in range(4):
        log.add(f"2026-03-01T10:01:0{number}", *DISK_ERROR, level=3)
    log.power(f"2026-03-01T10:{second}", cases.CRASH)
    assert ("event-storage-errors" in rules(opened(tmp_path, e__xml=log.xml()))) is is_restart


# -- traces ----------------------------------------------------------------------------------------


EPOCH = 116_444_736_000_000_000  # FILETIME of 1970-01-01


@pytest.mark.parametrize(
    ("kind", "frequency"), [(2, 10_000_000), (1, 10_000_000), (1, 3_000_000), (3, 2_400_000_000)]
)
def test_times_that_fit(kind: int, frequency: int) -> None:
    """From 1970 to what 63 bits of nanoseconds hold, for one time stamp as for many."""
    start = 133_485_408_000_000_000  # FILETIME of 2024-01-01
    clock = Clock.of(kind, frequency, frequency // 1_000_000, start, 5_000_000)
    last = EPOCH + ((1 << 63) - 1) // 100
    wanted = [EPOCH - 1, EPOCH, start, last, last + 1]
    stamps = wanted if kind == 2 else [
        5_000_000 - (start - time) * frequency // 10_000_000 for time in wanted
    ]  # fmt: skip
    stamps = [ts for ts in stamps if abs(ts) < 1 << 63] + [-(1 << 63)]
    one_by_one = [clock.ns(ts) for ts in stamps]
    for ts, told in zip(stamps, one_by_one):
        exact = ts if kind == 2 else start + (ts - 5_000_000) * 10_000_000 // frequency
        fits = EPOCH <= exact <= last and ts != -(1 << 63)
        assert (told if fits else is_absent(told)) == ((exact - EPOCH) * 100 if fits else True)
    many = clock.ns_array(np.array(stamps, np.int64)).tolist()
    assert many == [NO_TIME if is_absent(told) else told for told in one_by_one]


@pytest.mark.parametrize(("mhz", "is_known"), [(0, False), (899_999, True), (900_000, False)])
def test_frequencies_that_can_be(mhz: int, is_known: bool) -> None:
    """Below 900 GHz."""
    clock = Clock.of(3, 1, mhz, 133_485_408_000_000_000, 0)
    assert is_absent(clock.duration_ns(1)) is not is_known
    assert is_absent(clock.ns(1)) is not is_known


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


def told(folder: Path, *events: bytes) -> list[str]:
    """The rules of a trace of these events."""
    writer = w.Writer()
    writer.add(*events)
    path = folder / "a.etl"
    path.write_bytes(writer.build())
    return rules(analyzer.open(path))


@pytest.mark.parametrize(("more", "is_slow"), [(0, False), (1, True)])
def test_limits_of_a_trace(more: int, is_slow: bool, tmp_path: Path) -> None:
    """A callback of a second, a dump stack of five, a dump file of ten; a tick is 100 ns."""
    io, made = providers.KERNEL_IO, struct.pack("<IQQQ", 1, 1 << 34, 1 << 33, 10_000 + more)
    found = told(
        tmp_path,
        w.event(io, 1304, BASE),
        w.event(io, 1305, BASE + 5 * TICK + more, bytes(4)),
        w.event(providers.CRASHDUMP, 3, BASE + 6 * TICK, made, version=1),
        entry(BASE + 7 * TICK),
        back(BASE + 8 * TICK + more),
    )
    slow = ["etw-callback-slow", "etw-dump-file-slow", "etw-dump-stack-slow"]
    assert sorted(rule for rule in found if "slow" in rule) == (slow if is_slow else [])


def request(kind: str, ticks: int) -> bytes:
    """A request of StorPort in units of 100 ns, or one of the disk (DiskIo_TypeGroup1 and 3)."""
    if kind == "storport":
        data = struct.pack("<QQBBQBBBBBIQQ", ticks, 1, 0x28, 1, 2, 0, 0, 0, 0, 0, 4096, 1, 1)
        return w.event(providers.STORPORT, 200, BASE, data, version=2)
    narrow = "32" in kind
    read = struct.pack("<IIIIQ" + ("II" if narrow else "QQ") + "QI", *[0] * 5, 1, 2, ticks, 4)
    flush = struct.pack("<IIQ" + ("I" if narrow else "Q") + "I", 0, 0, ticks, 1, 4)
    hook, data = (0x010E, flush) if "flush" in kind else (0x010A, read)
    if "system" in kind:
        return w.system(hook, BASE, data, version=3, narrow=narrow, compact="compact" in kind)
    return w.perfinfo(hook, BASE, data, version=3, narrow=narrow, pmc=2 if "counted" in kind else 0)


@pytest.mark.parametrize(
    "kind",
    "storport read64 read32 flush64 flush32 counted-read64 system64 system32 compact-system64 "
    "compact-system32 system-flush64".split(),
)
@pytest.mark.parametrize(("ticks", "is_slow"), [(TICK - 1, False), (TICK, True)])
def test_time_after_which_a_traced_request_is_slow(
    ticks: int, is_slow: bool, kind: str, tmp_path: Path
) -> None:
    """A second, whatever header the event has."""
    assert ("etw-storage-slow" in told(tmp_path, request(kind, ticks))) is is_slow


@pytest.mark.parametrize(("more", "rule"), [(0, "event-storage-errors"), (1, "etw-storage-errors")])
def test_time_from_a_traced_storage_error_to_a_restart(
    more: int, rule: str, tmp_path: Path
) -> None:
    """Ten minutes, as in an event log."""
    disk = io_error("disk", 0xC0040007, 0, 0xC000009C, [r"\Device\Harddisk0\DR0"])
    dirty = struct.pack("<IQQQQIQI", 0x7E, 1, 2, 3, 4, 0, 0, 0)
    found = told(
        tmp_path,
        w.event(providers.IO_ERROR_LOG, 0, BASE, disk, prop=4),
        w.event(providers.KERNEL_POWER, 41, BASE + 600 * TICK + more, dirty, version=2),
    )
    assert [one for one in found if one.endswith("-storage-errors")] == [rule]


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
