"""DumpStack.log: two real logs read by eye, one synthetic log per story, and damage."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Callable

import generator_logs
import pytest

from analyzer.absence import Absent, is_absent
from analyzer.checks import rules_logs
from analyzer.cli import main
from analyzer.errors import AnalyzerError, InputError, UnsupportedError
from analyzer.names import progress
from analyzer.records import Records
from analyzer.sources.dumpstack_log import collect, from_bytes
from analyzer.sources.dumpstack_log_text import READ_LIMIT
from analyzer.tables import evidence_lines

FILES = generator_logs.files()
LOGS = {name: data for name, data in FILES.items() if name.endswith(".log")}
KERNEL = "dumpstack/eyeofparadox_ASUS_G713QM_RESTORATION__DumpStack.log"
MINI = "dumpstack/utasar_HELLO__DumpStack.log"
Shared = Callable[[str], Path]


def read(name: str) -> Records:
    """The records of a synthetic log."""
    return from_bytes(name, LOGS[name], len(LOGS[name]))


def rules(records: Records) -> list[str]:
    """Ids of the anomalies in order."""
    return [anomaly.rule for anomaly in records.anomalies]


def anomaly(records: Records, rule: str) -> Any:
    """The only anomaly of a rule."""
    (found,) = (a for a in records.anomalies if a.rule == rule)
    return found


def stage(records: Records, name: str) -> Any:
    """The only stage of that name."""
    (found,) = (s for s in records["stages"] if s.stage == name)
    return found


# ---------------------------------------------------------------- real logs, values read by eye


def test_real_kernel_log_clocks(shared_sample: Shared) -> None:
    """The kernel dump log states four times; each stands at the line before it."""
    records = collect(str(shared_sample(KERNEL)))
    clocked = [
        (s.origin.file_offset, s.stage, s.elapsed_ms, s.duration_ms)
        for s in records["stages"]
        if not is_absent(s.elapsed_ms) and s.stage != "dump-start-upper-bound"
    ]
    assert clocked[:-1] == [
        (0x11A, "progress-0x42", 3263, 69),  # 0x12f: 3263, 0x2c1: 3332
        (0x29C, "write-memory-data", 3332, 2795),  # 0x68e: 6127
        (0x679, "progress-0x43", 6127, 803),  # 0x1861: 6930
    ]
    assert clocked[-1][:3] == (0x1817, "dump-ended", 6930)
    assert isinstance(clocked[-1][3], Absent)


def test_real_kernel_log_write(shared_sample: Shared) -> None:
    """247,911 pages (0x62e) in 2,795 ms are 346.5 MB/s of 2**20 bytes; 21 percent lines."""
    records = collect(str(shared_sample(KERNEL)))
    write = stage(records, "write-memory-data")
    assert (write.amount, write.unit, write.rate_mb_per_s) == (247911, "pages", 346.5)
    percents = [s.amount for s in records["stages"] if s.stage == "memory-data-percent"]
    assert percents == list(range(0, 101, 5))
    size = stage(records, "dump-size")  # 0x1c2
    assert (size.origin.file_offset, size.amount, size.unit) == (0x1C2, 1016794590, "bytes")


def test_real_kernel_log_callbacks(shared_sample: Shared) -> None:
    """18 drivers' callbacks and 7 multi-part ones, in the order of the file, all finished."""
    records = collect(str(shared_sample(KERNEL)))
    drivers = [s.driver for s in records["stages"] if s.stage == "secondary-callback"]
    assert drivers == [
        "CRASHDUMP", "ibtdrv", "Intel Wireless WiFi Link Adapter", "wdiwifi", "wdiwifi", "rtkpcie",
        "nvpcf", "\x01\x10", "\x01\x10", "nvlddmkm.sys", "PortDriverStandard",
        "\\Device\\DxgKrnl", "Wdf01000", "blackbox - CI", "blackbox - Explorer logon tasks",
        "blackbox - Winlogon", "blackbox - NTFS", "blackbox - BSD",
    ]  # fmt: skip
    done = [s.text for s in records["stages"] if s.stage == "secondary-callback"]
    assert all(text.endswith("data done.") for text in done)
    parts = [s.driver for s in records["stages"] if s.stage == "multi-part-callback"]
    assert parts == [
        "TRIAGEDUMPDATA", "SMBiosData", "SMBiosRegistry", "SMBiosRegisters", "SMBiosDataACPI",
        "PCI", "Etw",
    ]  # fmt: skip


def test_real_kernel_log_machine(shared_sample: Shared) -> None:
    """Bugcheck, parameters (0x78 to 0xfa) and the frozen UTC time (0x22)."""
    (machine,) = collect(str(shared_sample(KERNEL)))["machine"]
    assert (machine.bugcheck, machine.bugcheck_name) == (0x133, "DPC_WATCHDOG_VIOLATION")
    assert (machine.parameter1, machine.parameter2) == (1, 0x1E00)
    assert (machine.parameter3, machine.parameter4) == (0xFFFFF804A6BC33A0, 0)
    # date -u -d '2025-04-26 12:30:12' +%s
    assert machine.system_time == 1745670612 * 10**9
    assert (machine.dump_type, machine.dump_type_name) == (6, "kernel bitmap dump")
    assert isinstance(machine.uptime_ns, Absent)


def test_real_minidump_log(shared_sample: Shared) -> None:
    """The minidump log: three times, 15 callbacks, no memory data."""
    records = collect(str(shared_sample(MINI)))
    times = [
        (s.origin.file_offset, s.stage, s.elapsed_ms)
        for s in records["stages"]
        if not is_absent(s.elapsed_ms) and s.stage != "dump-start-upper-bound"
    ]
    assert times == [
        (0x11A, "progress-0x42", 1531),  # 0x12f
        (0x289, "progress-0x44", 3397),  # 0x29e
        (0x121A, "dump-ended", 4059),  # 0x1264
    ]
    callbacks = [s.driver for s in records["stages"] if s.stage == "secondary-callback"]
    assert len(callbacks) == 15
    assert callbacks[:4] == ["wdiwifi", "wdiwifi", "AOW", "igdkmdn64.sys"]
    assert "write-memory-data" not in [s.stage for s in records["stages"]]
    assert stage(records, "dump-size").amount == 7760951  # 0x1c2


@pytest.mark.parametrize("name", [KERNEL, MINI])
def test_real_logs_are_understood_and_healthy(shared_sample: Shared, name: str) -> None:
    """No line of the real logs is unknown, and a dump that worked gives no finding at all."""
    records = collect(str(shared_sample(name)))
    assert records.anomalies == []
    assert records["sources"][0].subtype == "version 1.0, completed"
    assert not [s.stage for s in records["stages"] if s.stage.endswith("-line")]


@pytest.mark.parametrize(("name", "first"), [(KERNEL, 3263), (MINI, 1531)])
def test_dump_start_is_bounded_not_measured(shared_sample: Shared, name: str, first: int) -> None:
    """The first time is given as a bound with what else it contains; there is no duration."""
    bound = stage(collect(str(shared_sample(name))), "dump-start-upper-bound")
    assert bound.elapsed_ms == first
    assert "at most" in bound.text
    assert "dump port driver" in bound.text
    assert isinstance(bound.duration_ms, Absent)
    assert bound.origin.confidence == "likely"


def test_times_of_lines_without_clock_are_intervals(shared_sample: Shared) -> None:
    """A line between two clocks has no elapsed time but says between which it came."""
    records = collect(str(shared_sample(KERNEL)))
    header = stage(records, "write-dump-header")
    assert str(header.elapsed_ms) == (
        "the log states no time at this line; it came between 3263 and 3332 ms"
    )


# ---------------------------------------------------------------- one synthetic log per story

STORIES = {
    "healthy-kernel.log": [],
    "healthy-minidump.log": [],
    "start-slow.log": ["log-start-slow"],
    "write-slow.log": ["log-write-slow"],
    "write-stalled-chunk.log": ["log-write-slow", "log-write-stalled"],
    "write-stopped.log": ["log-write-stalled", "log-unfinished"],
    "driver-stuck.log": ["log-driver-stuck", "log-unfinished"],
    "data-write-stuck.log": ["log-unfinished"],
    "reduced-to-minidump.log": ["log-dump-type-reduced"],
    "failed.log": ["log-failure-line", "log-unfinished"],
    "pages-missing.log": ["log-pages-missing"],
    "full.log": ["log-full"],
    "leftover.log": ["log-leftover", "log-unfinished"],
    "line-ends-lf.log": ["log-rewritten"],
    "utf-8.log": ["log-rewritten"],
    "utf-16.log": ["log-rewritten"],
    "conflict-markers.log": ["log-leftover", "log-line-unrecognised"],
    "cut.log": ["log-cut"],
    "header-lost.log": ["log-header-damaged"],
    "empty.log": ["log-empty"],
}


@pytest.mark.parametrize("name", sorted(LOGS))
def test_each_story_gives_its_findings(name: str) -> None:
    """Each synthetic log gives exactly the findings of its story."""
    assert rules(read(name)) == STORIES[name]


def test_shipped_files_are_what_the_generator_writes(sample: Callable[[str], Path]) -> None:
    """The shipped samples are byte for byte the generator's."""
    for name, data in FILES.items():
        assert sample(f"logs/{name}").read_bytes() == data, name


@pytest.mark.parametrize("name", ["line-ends-lf.log", "utf-16.log"])
def test_a_rewritten_log_has_the_same_stages(name: str) -> None:
    """Line ends and encoding change the offsets and nothing else."""
    plain, changed = read("healthy-kernel.log"), read(name)
    drop = ("origin",)
    strip = [{k: v for k, v in s._asdict().items() if k not in drop} for s in plain["stages"]]
    assert [
        {k: v for k, v in s._asdict().items() if k not in drop} for s in changed["stages"]
    ] == strip


@pytest.mark.parametrize("name", ["healthy-kernel.log", "line-ends-lf.log", "utf-16.log"])
def test_offsets_point_at_the_line(name: str) -> None:
    """The offset of a stage is where its line starts in the file as it is."""
    encoding = "utf-16-le" if name == "utf-16.log" else "latin-1"
    for row in read(name)["stages"]:
        if row.stage.startswith("progress-"):
            words = row.text.partition(":")[0].encode(encoding)
            at = row.origin.file_offset
            assert LOGS[name][at : at + len(words)] == words


def test_utf8_driver_name_is_decoded() -> None:
    """A name outside ASCII survives the way through UTF-8."""
    drivers = [s.driver for s in read("utf-8.log")["stages"] if s.driver]
    assert "Grafik-Gerät" in drivers


def test_stuck_driver_is_named() -> None:
    """The finding names the driver and quotes the last line and the last progress."""
    found = anomaly(read("driver-stuck.log"), "log-driver-stuck")
    assert found.subject == "badnic"
    assert "last line = Calling badnic secondary callback." in evidence_lines(found)
    assert f"last progress = 0x00000043 ({progress.name(0x43)})" in evidence_lines(found)
    assert found.origin.confidence == "likely"


STUCK_LATER = {
    "a time": ["Elapsed BugCheck duration 00028105ms"],
    "a progress mark": ["Progress 0x00000043"],
    "both, and a line of no known kind": [
        "Progress 0x00000043", "Elapsed BugCheck duration 00028105ms", "Some new line.",
    ],
}  # fmt: skip


@pytest.mark.parametrize("later", sorted(STUCK_LATER))
def test_stuck_driver_is_named_although_its_call_is_not_the_last_line(later: str) -> None:
    """Marks and times say nothing of a return; what the driver did next would."""
    lines = swapped("driver-stuck.log")
    for more, wanted in (
        (STUCK_LATER[later], "badnic"),
        (["Calling other secondary callback."], "other"),
    ):
        data = generator_logs.build([*lines, *more])
        records = from_bytes("x", data, len(data))
        assert anomaly(records, "log-driver-stuck").subject == wanted
    for more in (
        ["Return from badnic secondary callback."],
        ["Finish invoking secondary dump callbacks."],
        ["Starting write of minidump data."],
    ):
        data = generator_logs.build([*lines, *STUCK_LATER[later], *more])
        assert "log-driver-stuck" not in rules(from_bytes("x", data, len(data)))


def test_a_callback_that_made_windows_retry_is_the_culprit(
    shared_sample: Shared, capsys: Any
) -> None:
    """One real log of 2026 has these lines; the dump file was large enough."""
    path = shared_sample("../faults/dumpstack-retry-as-minidump.log")
    assert main(["analyze", str(path)]) == 1
    words = " ".join(capsys.readouterr().out.split())
    assert "badnic.sys The secondary callback of badnic.sys was entered and never left" in words
    assert "All 442,273 pages had been written by then" in words
    assert "too small" not in words.replace(
        "When the log says that the dump file was too small", ""
    )
    records = collect(str(path))
    assert rules(records) == ["log-header-damaged", "log-driver-faulted", "log-dump-type-reduced"]
    assert anomaly(records, "log-driver-faulted").subject == "badnic.sys"
    assert not [row for row in records["stages"] if row.stage == "unrecognised-line"]
    assert records["machine"][0].dump_type == 4


def test_a_retry_without_a_reason_gets_none() -> None:
    """No callback was open: the log does not say why, and no driver is named."""
    lines = swapped("healthy-kernel.log")
    at = next(n for n, line in enumerate(lines) if line.startswith("Starting invoking"))
    more = ["Initiating RetryAsMinidump!", *swapped("healthy-minidump.log")[10:]]
    data = generator_logs.build([*lines[:at], *more])
    records = from_bytes("x", data, len(data))
    assert "log-driver-faulted" not in rules(records)
    assert "the log does not say why" in anomaly(records, "log-dump-type-reduced").text


def test_a_dump_stuck_at_its_first_page_keeps_its_answer(shared_sample: Shared) -> None:
    """The memory write never came beyond 0 %."""
    records = collect(str(shared_sample("../faults/dumpstack-stuck-at-0.log")))
    assert "at 0 %" in anomaly(records, "log-write-stalled").text
    assert "its last line is 'Dumping" in anomaly(records, "log-unfinished").text


def test_driver_that_returned_is_not_called_stuck() -> None:
    """Ending while the data are written is the disk's affair, not the driver's."""
    found = anomaly(read("data-write-stuck.log"), "log-unfinished")
    assert "'Writing badnic secondary callback data'." in found.text


def test_stopped_write_says_where() -> None:
    """A memory write that never finished names the last percentage."""
    assert "at 35 %" in anomaly(read("write-stopped.log"), "log-write-stalled").text


def test_slow_write_has_rate_and_slowest_place() -> None:
    """262,144 pages in 60 s are 17.1 MB/s; the chunk after 10 % ran at 1 MB/s."""
    found = anomaly(read("write-stalled-chunk.log"), "log-write-slow")
    assert "17.1 MB/s" in found.text
    assert "slowest chunk = 1 MB/s at 10 %" in evidence_lines(found)


def test_throughput_lines_are_rows() -> None:
    """Each WriteBitmapDump line is a stage with pages and rate."""
    chunks = [s for s in read("healthy-kernel.log")["stages"] if s.stage == "memory-data-chunk"]
    assert len(chunks) == 20
    assert [(c.amount, c.unit, c.rate_mb_per_s) for c in chunks[:2]] == [
        (13107, "pages", 205.0), (13107, "pages", 210.0),
    ]  # fmt: skip


def test_reduced_dump_keeps_both_types() -> None:
    """Kernel first, minidump at the end; the machine record has the type that was written."""
    records = read("reduced-to-minidump.log")
    found = anomaly(records, "log-dump-type-reduced")
    assert evidence_lines(found)[1:] == ["dump type = 6", "dump type = 4"]
    assert found.origin.confidence == "likely"
    assert records["machine"][0].dump_type == 4


def test_failure_line_keeps_its_status() -> None:
    """A status in a failure line is decoded; the line is quoted."""
    row = stage(read("failed.log"), "failure")
    assert (row.status, row.status_name) == (0xC0000185, "STATUS_IO_DEVICE_ERROR")
    assert row.text == "Dump failed with status 0xC0000185."


def test_full_log_is_not_called_unfinished() -> None:
    """A log without room for a line proves nothing about the end of the dump."""
    assert "31 bytes left" in anomaly(read("full.log"), "log-full").text


def test_leftover_lines_are_not_stages() -> None:
    """Lines of an older log behind the stated end do not become stages of this one."""
    records = read("leftover.log")
    assert "dump-completed" not in [s.stage for s in records["stages"]]
    assert "36 lines behind" in anomaly(records, "log-leftover").text


def test_cut_copy_is_not_a_dead_crash_path() -> None:
    """A copy shorter than its header says is reported as cut, with its last partial line."""
    records = read("cut.log")
    assert records["stages"][-1].stage == "cut-line"
    assert records["stages"][-1].text == "Dumping physical me"


def swapped(name: str, *pairs: tuple[str, str]) -> list[str]:
    """The lines of a synthetic log with some exchanged."""
    text = LOGS[name].rstrip(b"\0")[0x22:].decode("latin-1")
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text.split("\r\n")[:-1]


def test_lines_of_logs_before_2025_are_understood() -> None:
    """Complete callbacks without type, and the last progress mark behind the closing line."""
    lines = swapped(
        "healthy-kernel.log",
        ("complete callbacks; Type: 0x04.", "complete callbacks."),
        ("Finished invoking", "Finish invoking"),
        ("Progress 0x00000053\r\nDump completed successfully.",
         "Dump completed successfully.\r\nProgress 0x00000053"),
    )  # fmt: skip
    data = generator_logs.build(lines)
    records = from_bytes("old.log", data, len(data))
    assert rules(records) == []
    assert stage(records, "dump-complete-callbacks").text.startswith("Finish invoking")
    assert records["stages"][-1].stage == "progress-0x53"


def test_lines_of_logs_of_2025_are_understood() -> None:
    """A dump's identity, the largest transfer, and the rate that the log states itself."""
    lines = swapped(
        "healthy-kernel.log",
        ("#BugCheckCode", "Dump Guid: {01234567-89ab-cdef-0123-456789abcdef}\r\n#BugCheckCode"),
        ("Secondary Dump Size: 100000.", "Secondary Dump Size: 100000, MaxTransferSize: 65536."),
        ("Pages written:262144", "Pages written:262144 MB/s:204"),
        ("Elapsed BugCheck duration 00001550ms\r\n", ""),
    )  # fmt: skip
    data = generator_logs.build(lines)
    records = from_bytes("new.log", data, len(data))
    assert rules(records) == []
    assert records["machine"][0].dump_type == 6
    assert stage(records, "dump-guid").text.endswith("cdef}")
    assert stage(records, "write-memory-data").rate_mb_per_s == 204.0


def test_header_of_a_log_that_was_never_closed() -> None:
    """Logs that break off state the size of the file as length: that is no damage."""
    data = bytearray(LOGS["driver-stuck.log"])
    data[0x14:0x18] = len(data).to_bytes(4, "little")
    records = from_bytes("stuck.log", bytes(data), len(data))
    assert rules(records) == ["log-driver-stuck", "log-unfinished"]
    found = anomaly(records, "log-driver-stuck")
    assert found.origin.confidence == "likely"
    assert "length in header = 12288, the whole file: it was never closed" in evidence_lines(found)


def test_log_without_its_start_is_known_by_its_lines() -> None:
    """A copy that lost its first lines, with a foreign line in their place, is still read."""
    lines = swapped("healthy-kernel.log")
    at = lines.index("Return from CRASHDUMP secondary callback.")
    data = "\r\n".join(["pushed from the web", *lines[at:], ""]).encode()
    records = from_bytes("cut.log", data, len(data))
    stages = [row.stage for row in records["stages"]]
    assert "dump-completed" in stages
    assert "dump-start-upper-bound" not in stages  # its first time is not the log's first
    assert rules(records) == ["log-excerpt"]


POST = (
    "Hi, what is this?\n\n```\nDump stack initialized at UTC: 2026/03/01 10:20:30, "
    "local time: 2026/03/01 11:20:30.\n#BugCheckCode 0x00000000000000D1\nProgress 0x00000042\n"
    "Elapsed BugCheck duration 00001500ms\n{}```\nDid it fail?\n"
)


@pytest.mark.parametrize(
    ("end", "says"),
    [
        ("", "POST does not show how the dump ended, only that it came to 'Progress 0x00000042"),
        ("Dump completed successfully.\n", "POST records a completed dump."),
    ],
)
def test_a_log_in_a_post_ends_where_it_was_copied(
    end: str, says: str, tmp_path: Path, capsys: Any
) -> None:
    """Words of a person are no lines of the log, and the last line copied need not be its last."""
    path = tmp_path / "POST"
    path.write_text(POST.format(end))
    assert main(["analyze", str(path), "-v"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert says in shown
    assert "The log stands in another text, of which 4 lines were left out" in shown
    assert "log, without its header," in shown
    assert "The length in the header" not in shown
    assert "The header of the log" not in shown


def test_what_is_said_of_a_header_that_is_gone(tmp_path: Path, capsys: Any) -> None:
    """Text alone has no header that could be damaged; zeros before the text are the rest of one."""
    path = tmp_path / "DumpStack.log"
    whole = LOGS["healthy-kernel.log"]
    text = whole[0x20:].rstrip(b"\0")
    gone, damaged = (
        "The file has no binary header, only text",
        "The length in the header cannot be read",
    )
    for data, says, not_said in (
        (text, gone, damaged),
        (text.lstrip(), gone, damaged),
        (b"XLOGFILE" + whole[8:0x14] + b"\xff\xff\0\0" + whole[0x18:], damaged, gone),
        (b"\0" * 0x20 + whole[0x20:], damaged, gone),
        (whole[:0x14] + text, damaged, gone),
        (whole, "records a completed dump", "The header of the log"),
    ):
        path.write_bytes(data)
        main(["analyze", str(path), "-v"])
        shown = " ".join(capsys.readouterr().out.split())
        assert says in shown, data[:40]
        assert not_said not in shown, data[:40]


def test_numbered_lines_are_read(tmp_path: Path, capsys: Any) -> None:
    """An editor, cat -n or findstr /n puts a number in front."""
    lines = swapped("healthy-kernel.log")
    for form in ("{:5}  {}", "{}:{}", "C:\\DumpStack.log:{}:{}"):
        path = tmp_path / "numbered.txt"
        path.write_text("\n".join(form.format(n, line) for n, line in enumerate(lines, 1)) + "\n")
        assert main(["analyze", str(path)]) == 0
        assert "numbered.txt records a completed dump." in " ".join(capsys.readouterr().out.split())


def test_a_text_about_the_log_is_none(tmp_path: Path, capsys: Any) -> None:
    """Words that the log has too do not make one."""
    path = tmp_path / "README"
    path.write_text("DumpStack.log begins with 'Dump stack initialized at UTC' and a time.\n")
    assert main(["analyze", str(path)]) == 2
    assert "no known kind" in capsys.readouterr().err


def test_unknown_line_is_kept() -> None:
    """A line of no known kind is a stage and a finding, both with its offset."""
    records = read("conflict-markers.log")
    row = stage(records, "unrecognised-line")
    assert (row.text, row.origin.file_offset) == ("<<<<<<< HEAD", 0x22)


def test_many_unknown_lines_are_counted() -> None:
    """200 unknown lines give 20 single findings and one with the rest; all are stages."""
    data = generator_logs.build([*generator_logs.minidump()[:-1], *["odd line"] * 200])
    records = from_bytes("x", data, len(data))
    unknown = [a for a in records.anomalies if a.rule == "log-line-unrecognised"]
    assert len(unknown) == 21
    assert unknown[-1].text == "180 more lines were not understood."
    assert [s.stage for s in records["stages"]].count("unrecognised-line") == 200


def test_clock_that_goes_back_is_reported() -> None:
    """A smaller elapsed time later in the log gives no negative duration."""
    lines = generator_logs.kernel()
    lines[lines.index("Elapsed BugCheck duration 00006550ms")] = (
        "Elapsed BugCheck duration 00000100ms"
    )
    data = generator_logs.build(lines)
    records = from_bytes("x", data, len(data))
    assert rules(records) == ["log-clock-backwards"]
    assert isinstance(stage(records, "write-memory-data").duration_ms, Absent)


def test_clock_after_a_closing_line_is_its_own_row() -> None:
    """A time printed after "Finish ..." must not be taken for the time of "Starting ..."."""
    lines = generator_logs.minidump()
    at = lines.index("Finish write of minidump data.")
    lines.insert(at + 1, "Elapsed BugCheck duration 00002000ms")
    data = generator_logs.build(lines)
    records = from_bytes("x", data, len(data))
    assert isinstance(stage(records, "write-minidump-data").elapsed_ms, Absent)
    assert stage(records, "elapsed").elapsed_ms == 2000


def test_log_without_clock_has_no_bound() -> None:
    """Without a time there is nothing to bound Dump_Start with."""
    lines = [line for line in generator_logs.kernel() if not line.startswith("Elapsed")]
    data = generator_logs.build(lines)
    stages = from_bytes("x", data, len(data))["stages"]
    assert "dump-start-upper-bound" not in [s.stage for s in stages]
    assert str(stages[0].elapsed_ms) == "the log states no time at all"


@pytest.mark.parametrize(
    ("data", "words", "kind"),
    [
        (b"", "is empty", InputError),
        (b"\0" * 8192, "holds only zero bytes", InputError),
        (b"<!DOCTYPE html><html>", "is not a DumpStack.log", InputError),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer", UnsupportedError),
    ],
)
def test_other_files_of_that_name_are_refused(data: bytes, words: str, kind: type) -> None:
    """A file that carries the name but is something else is refused in one sentence."""
    with pytest.raises(kind, match=words):
        from_bytes("DumpStack.log", data, len(data))


def test_missing_file_is_an_input_error(tmp_path: Path) -> None:
    """A path that cannot be opened gives our own error."""
    with pytest.raises(InputError):
        collect(str(tmp_path / "DumpStack.log"))


# ---------------------------------------------------------------- damage


def damage(data: bytes) -> None:
    """Damaged input must end in records or our own error."""
    try:
        records = from_bytes("x", data, len(data))
    except AnalyzerError:
        return
    assert len(records["sources"]) == 1
    assert set(rules(records)) <= set(rules_logs.RULES)
    for row in records["stages"]:
        assert 0 <= row.origin.file_offset < len(data)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LOGS))
def test_cut_anywhere(name: str) -> None:
    """Cut at every 23rd offset of its text (23 is prime to all line lengths used)."""
    data = LOGS[name]
    for end in range(0, len(data.rstrip(b"\0")) + 1, 23):
        damage(data[:end])


def test_real_log_cut_anywhere(shared_sample: Shared) -> None:
    """The smaller real log (text ends at 4797) cut at every fifth offset: never completed."""
    data = shared_sample(MINI).read_bytes()
    for end in range(0x22, 4797 - 28, 5):
        records = from_bytes("x", data[:end], end)
        assert {"log-cut", "log-empty"} & set(rules(records))
        assert "dump-completed" not in [s.stage for s in records["stages"]]


@pytest.mark.parametrize("name", [KERNEL, MINI])
def test_real_logs_survive_bit_flips(shared_sample: Shared, name: str) -> None:
    """300 copies of each real log with one to eight bits flipped end in records or our error."""
    data = shared_sample(name).read_bytes()
    text_end = len(data.rstrip(b"\0"))
    rng = random.Random(4)
    for _ in range(300):
        copy = bytearray(data)
        for _ in range(rng.randint(1, 8)):
            copy[rng.randrange(text_end)] ^= 1 << rng.randrange(8)
        damage(bytes(copy))


def test_synthetic_logs_survive_splices() -> None:
    """300 logs with blocks cut out, doubled or replaced end in records or our error."""
    rng = random.Random(5)
    names = sorted(LOGS)
    for _ in range(300):
        first, second = LOGS[rng.choice(names)], LOGS[rng.choice(names)]
        a, b = sorted(rng.randrange(4000) for _ in range(2))
        c = rng.randrange(4000)
        damage(first[:a] + second[c : c + b - a] + first[b:])


def test_a_huge_file_is_bounded() -> None:
    """A file far larger than any log is read up to a limit, and quickly."""
    data = b"DLOGFILE00010000DUMP" + b"a\n" * (1 << 20)
    records = from_bytes("x", data, len(data))
    assert len(records["stages"]) < 40_000
    assert len(records.anomalies) < 40


@pytest.mark.parametrize("more", [0, 1])
def test_our_own_limit_is_not_told_as_a_full_log(more: int, tmp_path: Path) -> None:
    """A file of just that size is read; of a longer one, what was not read is not judged."""
    lines = generator_logs.kernel()[:-1]
    data = generator_logs.build(lines).rstrip(b"\0")
    data = data.ljust(READ_LIMIT + more, b"a")
    path = tmp_path / "DumpStack.log"
    path.write_bytes(data)
    found = rules(collect(str(path)))
    assert ("log-limit-reached" in found) == bool(more)
    assert not more or {"log-full", "log-cut", "log-unfinished"}.isdisjoint(found)


# ---------------------------------------------------------------- limits: just below, just above


def told_of(lines: list[str], **options: Any) -> Records:
    """The records of a log of these lines."""
    data = generator_logs.build(lines, **options)
    return from_bytes("x", data, len(data))


@pytest.mark.parametrize(("ms", "is_slow"), [(10_000, False), (10_001, True)])
def test_limit_of_a_slow_start(ms: int, is_slow: bool) -> None:
    """Ten seconds are still usual."""
    records = told_of(generator_logs.kernel(first=ms, write_ms=5000))
    assert ("log-start-slow" in rules(records)) == is_slow


@pytest.mark.parametrize(("ms", "is_slow"), [(51_200, False), (51_300, False), (51_600, True)])
def test_limit_of_a_slow_write(ms: int, is_slow: bool) -> None:
    """262,144 pages are 1,024 MB: in 51.2 s 20 MB/s, in 51.3 s 20.0 when rounded, then 19.8."""
    assert ("log-write-slow" in rules(told_of(generator_logs.kernel(write_ms=ms)))) == is_slow


@pytest.mark.parametrize(("rate", "is_stalled"), [(3, False), (2, True)])
def test_limit_of_a_stalled_chunk(rate: int, is_stalled: bool) -> None:
    """At 2 MB/s a twentieth of 4 GB takes over 100 s."""
    records = told_of(generator_logs.kernel(rates=[200, rate]))
    assert ("log-write-stalled" in rules(records)) == is_stalled


@pytest.mark.parametrize(("room", "is_full"), [(128, False), (127, True)])
def test_limit_of_a_full_log(room: int, is_full: bool) -> None:
    """A line of 128 bytes still had room, so its lack means something."""
    lines = generator_logs.kernel()[:-1]
    used = len(generator_logs.build(lines).rstrip(b"\0"))
    filler = "Progress 0x00000043"
    while used + len(filler) + 2 <= generator_logs.SIZE - room:
        lines.append(filler)
        used += len(filler) + 2
    # the last line takes what is left
    lines[-1] += " " * (generator_logs.SIZE - room - used)
    found = rules(told_of(lines))
    assert ("log-full" in found) == is_full
    assert ("log-unfinished" in found) != is_full


@pytest.mark.parametrize("count", [20, 21, 22])
def test_limit_of_single_lines(count: int) -> None:
    """Twenty are shown one by one, the rest as a count."""
    records = told_of([*generator_logs.minidump()[:-1], *["odd line"] * count])
    unknown = [a for a in records.anomalies if a.rule == "log-line-unrecognised"]
    assert len(unknown) == min(count, 21)
    assert count < 21 or unknown[-1].text == f"{count - 20} more lines were not understood."


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("#BugCheckCode 0x00000000FFFFFFFF", "bugcheck", 0xFFFFFFFF),
        ("#BugCheckCode 0x0000000100000000", "bugcheck", None),
        ("#BugCheckP1 0xFFFFFFFFFFFFFFFF", "parameter1", 0xFFFFFFFFFFFFFFFF),
        ("#BugCheckP1 0x10000000000000000", "parameter1", None),
    ],
)
def test_limits_of_the_bugcheck(line: str, field: str, value: int | None) -> None:
    """A code has 32 bits, a parameter 64; what has more is not one."""
    name = line.split(" ", maxsplit=1)[0]
    lines = [line if old.startswith(name) else old for old in generator_logs.kernel()]
    (machine,) = told_of(lines)["machine"]
    got = getattr(machine, field)
    assert (None if is_absent(got) else got) == value
    assert len([row for row in told_of(lines)["stages"] if row.stage == "bugcheck"]) == 1


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("1970/01/01 00:00:00", 0),
        ("1969/12/31 23:59:59", None),
        ("2262/04/11 23:47:15", 9223372035),  # date -u -d '2262-04-11 23:47:15' +%s
        ("2262/04/11 23:47:17", None),  # 2**63 ns are 9,223,372,036.85 s
        ("2026/13/01 00:00:00", None),
    ],
)
def test_limits_of_the_time(date: str, seconds: int | None) -> None:
    """1970 to 2262 fit the column."""
    lines = generator_logs.kernel()
    lines[0] = f"Dump stack initialized at UTC: {date}, local time: {date}."
    (machine,) = told_of(lines)["machine"]
    got = machine.system_time
    assert (None if is_absent(got) else got) == (None if seconds is None else seconds * 10**9)


def test_mixed_line_ends_are_told() -> None:
    """One lone line feed among the others."""
    data = LOGS["healthy-kernel.log"]
    at = data.index(b"\r\n", 0x100)
    mixed = data[:at] + b"\n" + data[at + 2 :]
    found = from_bytes("x", mixed, len(mixed))
    assert "line ends mixed" in found["sources"][0].subtype
    assert "log-rewritten" in rules(found)


def test_a_log_that_ends_with_the_retry_says_so() -> None:
    """The line is a step of its own."""
    at = next(
        n for n, line in enumerate(generator_logs.kernel()) if line.startswith("Return from nv")
    )
    records = told_of([*generator_logs.kernel()[:at], "Initiating RetryAsMinidump!"])
    assert anomaly(records, "log-driver-faulted").subject == "nvlddmkm.sys"
    found = anomaly(records, "log-unfinished")
    assert "its last line is 'Initiating RetryAsMinidump!'. The machine" in found.text
    assert found.origin.file_offset == records["stages"][-1].origin.file_offset
    assert "log-driver-stuck" not in rules(records)


@pytest.mark.parametrize("has_filler", [True, False])
def test_a_rewritten_log_is_not_full_by_its_size(has_filler: bool) -> None:
    """Its size is not that of the file as Windows made it."""
    text = "\n".join(["", *generator_logs.kernel()[:-1], ""]).encode()
    data = generator_logs.header(0) + text + (b"\0" * 40 if has_filler else b"")
    found = rules(from_bytes("x", data, len(data)))
    assert "log-full" not in found
    assert "log-unfinished" in found


def test_a_type_that_changed_without_a_word_is_told() -> None:
    """Two sizes, the second of a minidump; no line says why, so none is named."""
    lines = [*generator_logs.kernel()[:-1], *generator_logs.sizes(4, 221184)]
    records = told_of([*lines, "Dump completed successfully."])
    found = anomaly(records, "log-dump-type-reduced")
    assert found.text == "The dump type went from 6 to 4: only a minidump was written."
    same = [*generator_logs.kernel()[:-1], *generator_logs.sizes(6, 221184)]
    assert "log-dump-type-reduced" not in rules(told_of([*same, "Dump completed successfully."]))


def test_utf8_without_its_mark_is_read_as_that() -> None:
    """An editor may save it so; offsets are those of the bytes of this copy."""
    lines = generator_logs.kernel(drivers=["CRASHDUMP", "Grafik-Gerät"])
    data = "\r\n".join(["", *lines, ""]).encode()
    data = generator_logs.header(0) + data
    records = from_bytes("x", data, len(data))
    assert "re-encoded as UTF-8" in records["sources"][0].subtype
    (row,) = (r for r in records["stages"] if r.driver == "Grafik-Gerät")
    at = row.origin.file_offset
    assert data[at:].startswith("Calling Grafik-Gerät".encode())


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_leftover_lines_have_their_offset(mark: bytes) -> None:
    """Behind the zeros that follow the text."""
    data = mark + LOGS["healthy-kernel.log"].rstrip(b"\0") + b"\0\0Old line of a longer log\r\n"
    found = anomaly(from_bytes("x", data, len(data)), "log-leftover")
    assert data[found.origin.file_offset :].startswith(b"Old line")
