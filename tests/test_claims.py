"""No sentence says more than its sources: contradicting evidence in one folder, as a user reads it.

The generator wrote the files, so what is true of each folder is known.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import generator_cases as cases
import generator_logs as logs
import pytest
from generator import VARIANTS, Spec, build, faults, stack

import analyzer
from analyzer.reports.answer import sentences

DUMP, CRASH = cases.dump()
MINIDUMP, _ = cases.dump("healthy", 4)
LOG = cases.log(logs.kernel(rates=[205, 210, 198]), CRASH)
START = "2024-03-05T14:1"  #: the minutes after the crash of the dump
FAILED = 0xC0000001
STUCK = logs.files()["driver-stuck.log"]


class Case:
    """The records and the answer of a folder with these files."""

    def __init__(self, folder: Path, files: dict[str, bytes]) -> None:
        for name, data in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self.records = analyzer.open(folder).records
        self.answer = " ".join(sentences(self.records))
        self.rules = [finding.rule for finding in self.records["findings"]]

    def text(self, rule: str) -> str:
        """What the first finding of a rule says."""
        return next(str(f.text) for f in self.records["findings"] if f.rule == rule)


@pytest.fixture
def case(tmp_path: Path) -> Any:
    """Makes a case of files."""
    return lambda **files: Case(tmp_path, {name.replace("__", "."): b for name, b in files.items()})


def events(crash: cases.Crash = CRASH) -> cases.EventLog:
    """The event of a restart after a crash."""
    return cases.EventLog().power(START + "1:02", crash)


@pytest.fixture
def made_variant(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A kernel dump with changes that no shipped variant makes."""

    def make(before: Any = None, memory: Any = None, file: Any = None) -> bytes:
        healthy = VARIANTS["healthy"]
        changed = healthy._replace(before=before, memory=memory, file=file)
        monkeypatch.setitem(VARIANTS, "made-here", changed)
        return build(Spec("x64", 6, "win8", "made-here")).data

    return make


def node(machine: Any, of: str) -> Any:
    """The first filter of a stack."""
    return next(row for row in machine.truth["filters"] if row["stack"] == of)


# -- filters that were switched off ------------------------------------------------------------


def test_a_disabled_filter_of_the_hibernation_stack_did_not_touch_the_dump(
    case: Any, made_variant: Any
) -> None:
    """The stack for hibernation did not write the dump, so its data did not go out through it."""
    data = made_variant(
        faults.setting(hibernation=True), lambda m: stack.set_state(m, node(m, "hibernation"), 1)
    )
    made = case(MEMORY__DMP=data, DumpStack__log=LOG, CrashControl__reg=cases.registry(["a.sys"]))
    assert "this stack did not write the dump" in made.text("filter-disabled")
    assert "plain text" not in made.text("filter-disabled")
    assert "case-filter-disabled" not in made.rules


def test_a_disabled_filter_in_a_live_dump_lost_no_data(case: Any, made_variant: Any) -> None:
    """No crash dump was written, so nothing of one went to the disk."""
    live = VARIANTS["live-dump"]
    disabled = lambda m: stack.set_state(m, node(m, "crash"), 1)  # noqa: E731
    made = case(live__dmp=made_variant(live.before, disabled, live.file))
    assert "not-a-crash" in made.rules
    assert "the machine did not crash here" in made.text("filter-disabled")
    assert "plain text" not in made.text("filter-disabled")
    assert made.text("storage-requests-in-flight").count("machine crashed") == 0


def test_where_the_state_lies_is_said_to_be_inferred(case: Any) -> None:
    """Proven on 32-bit Windows 7 alone, so a finding over several sources says it, too."""
    dump, _ = cases.dump("filter-failed")
    made = case(MEMORY__DMP=dump, DumpStack__log=LOG)
    assert "place is inferred on this Windows" in made.text("case-filter-disabled")


# -- the end of a dump -------------------------------------------------------------------------


def test_a_restart_does_not_say_that_the_dump_failed(case: Any) -> None:
    """Event 41 follows every crash: it confirms no driver as the end of the dump."""
    log = cases.EventLog().power("2026-03-01T10:21:05", cases.CRASH)
    made = case(System__xml=log.xml(), DumpStack__log=STUCK)
    assert "case-driver-stuck" not in made.rules
    assert "log-driver-stuck" in made.rules


def test_no_driver_is_stuck_when_another_source_has_the_dump(case: Any) -> None:
    """Event 162 says that the dump was created; the contradiction is told instead."""
    log = cases.EventLog().power("2026-03-01T10:21:05", cases.CRASH)
    made = case(System__xml=log.volmgr("2026-03-01T10:21:30", 162).xml(), DumpStack__log=STUCK)
    assert "case-driver-stuck" not in made.rules
    assert "case-outcome-contradictory" in made.rules


def test_an_event_of_this_crash_by_a_guess_is_called_that(case: Any) -> None:
    """A CSV export has no time and no bugcheck that could tell its crash."""
    rows = [
        "Level,Date and Time,Source,Event ID,Task Category",
        'Error,3/1/2026 11:21:30 AM,volmgr,161,None,"Dump file creation failed."',
    ]
    made = case(System__csv="\r\n".join(rows).encode(), DumpStack__log=STUCK)
    assert "event 161 (dump failed, taken for this crash by a guess)" in made.text(
        "case-driver-stuck"
    )


def test_a_header_with_a_failing_status_is_no_dump_that_went_well(case: Any) -> None:
    """The writer's own status stands against the log that says that all was done."""
    dump, _ = cases.dump("writer-failed")
    made = case(MEMORY__DMP=dump, DumpStack__log=LOG)
    assert [row.outcome for row in made.records["crashes"] if row.tells == "kernel dump"] == [
        "failed"
    ]
    assert "case-outcome-contradictory" in made.rules


def test_two_starts_are_two_crashes(case: Any) -> None:
    """Two crashes four minutes apart with one bugcheck: each event goes to its own start."""
    first, second = cases.CRASH, cases.CRASH._replace(clock="10:24:30")
    log = cases.EventLog().power("2026-03-01T10:21:35", first)
    log.volmgr("2026-03-01T10:21:45", 161, 0x5001, FAILED)
    log.power("2026-03-01T10:25:35", second).volmgr("2026-03-01T10:25:40", 162)
    files = {"System.xml": log.xml(), "DumpStack.log": cases.log(logs.kernel(), second)}
    made = case(**{name.replace(".", "__"): data for name, data in files.items()})
    crashes: dict[int, list[str]] = {}
    for row in made.records["crashes"]:
        crashes.setdefault(row.crash, []).append(row.tells)
    assert {n: sorted(rows) for n, rows in crashes.items()} == {
        1: ["event 161", "event 41"],
        2: ["dump log", "event 162", "event 41"],
    }
    assert "case-outcome-contradictory" not in made.rules


# -- settings ----------------------------------------------------------------------------------


def test_dumps_were_not_switched_off_when_there_is_one(case: Any) -> None:
    """A registry saved later with CrashDumpEnabled 0 does not undo the dump of a crash."""
    log = events().volmgr(START + "1:40", 162).reporting(START + "1:41", CRASH, cases.MEMORY_DMP)
    registry = cases.registry(["dumpfve.sys"], CrashDumpEnabled=0)
    made = case(System__xml=log.xml(), CrashControl__reg=registry)
    assert "case-dump-disabled" not in made.rules
    assert "left a dump" in made.answer
    assert "No dump was asked for" not in made.answer


def test_a_dump_file_that_is_large_enough_confirms_nothing(case: Any) -> None:
    """The log needs 4 GB, the registry gives 64: the two do not agree that it is too small."""
    log = logs.files()["reduced-to-minidump.log"]
    registry = cases.registry(["dumpfve.sys"], DumpFileSize=65536, DedicatedDumpFile=r"C:\d.dmp")
    assert "case-dump-too-small" not in case(DumpStack__log=log, c__reg=registry).rules


def test_the_bytes_that_did_not_fit_are_those_of_the_dump_that_was_given_up(case: Any) -> None:
    """Not those of the minidump that was written in its place."""
    log = logs.files()["reduced-to-minidump.log"]
    registry = cases.registry(["dumpfve.sys"], DumpFileSize=100, DedicatedDumpFile=r"C:\d.dmp")
    text = case(DumpStack__log=log, c__reg=registry).text("case-dump-too-small")
    assert f"({logs.PAGES * 4096:,} bytes were announced)" in text


def test_a_kernel_dump_is_no_smaller_than_a_kernel_dump(case: Any) -> None:
    """Too little space does not make another kind of dump out of the one asked for."""
    dump, _ = cases.dump("space-insufficient")
    registry = cases.registry(["dumpfve.sys", "acmeflt.sys"], "acmeflt", CrashDumpEnabled=2)
    made = case(MEMORY__DMP=dump, CrashControl__reg=registry)
    assert "case-dump-type-smaller" not in made.rules


def test_a_failed_hibernation_stack_does_not_name_a_filter(case: Any) -> None:
    """On Windows 7 a failing Dump_Start alone does not fail the stack, so no filter is first."""
    story = cases.stories()["hibernation-fallback"]
    made = case(**{name.replace(".", "__"): data for name, data in story.files.items()})
    assert "first suspect" not in made.text("case-hibernation-fallback")
    assert "does not name the driver" in made.text("case-hibernation-fallback")
