"""No sentence says more than its sources: contradicting evidence in one folder, as a user reads it.

The generator wrote the files, so what is true of each folder is known.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import generator_cases as cases
import generator_logs as logs
import generator_traces as traces
import pytest
from generator import VARIANTS, Spec, build, faults, stack
from said import sentences

import analyzer

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
    assert "a dump was written" in made.answer
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


# -- what the answer says of filters and calls -------------------------------------------------


def test_a_damaged_list_is_not_told_as_the_whole_one(case: Any) -> None:
    """Neither how many filters there are nor their call order follows from a ring that loops."""
    dump, _ = cases.dump("ring-loop")
    said = case(MEMORY__DMP=dump).answer
    assert (
        "2 dump filters found: dump_dumpfve.sys and dump_acmeflt.sys; the list may hold more."
        in said
    )
    assert "1 of 2" not in said


def test_a_module_that_the_list_lacks_is_said_to_be_missing_there(case: Any) -> None:
    """The list was read to its end, so that the filter is not in it is known."""
    dump, _ = cases.dump("filter-missing")
    said = case(MEMORY__DMP=dump).answer
    assert "loaded, not in the list dump_acmeflt.sys" in said


def test_a_callback_that_is_null_does_not_exist(case: Any) -> None:
    """That a filter has none is more than that it was not called."""
    dump, _ = cases.dump("no-callbacks")
    assert "has none" in case(MEMORY__DMP=dump).answer


def test_no_call_is_open_in_a_live_dump(case: Any) -> None:
    """A running system calls no Dump_Start for its dump: that is known, not undetermined."""
    dump, _ = cases.dump("live-dump")
    said = case(live__dmp=dump).answer
    assert "dump_dumpfve.sys likely on not called" in said
    assert "likely called" not in said


def test_a_live_dump_does_not_tell_of_a_crash(case: Any) -> None:
    """Its filters are those of another moment than the crash that the event log tells."""
    dump, _ = cases.dump("live-dump")
    log = events().volmgr(START + "1:40", 162).xml()
    said = case(live__dmp=dump, System__xml=log).answer
    assert "dump filters" not in said.partition("Of no certain crash")[0]


def test_likely_is_said_once(case: Any) -> None:
    """Nodes that no list leads to: one word for what is not proven is enough."""
    dump, _ = cases.dump("nodes-only")
    said = case(MEMORY__DMP=dump).answer
    assert said.count("likely called") == 3  # each filter, and the sentence on both


def test_two_dumps_of_a_crash_do_not_contradict_each_other(case: Any) -> None:
    """What the memory dump tells of Dump_Start is not undetermined because of the minidump."""
    said = case(MEMORY__DMP=DUMP, mini__dmp=MINIDUMP, DumpStack__log=LOG).answer
    assert "Dump_Start of each was likely called" in said
    assert "dump_acmeflt.sys likely on likely called" in said


def test_calls_of_a_capture_are_told_as_those_of_the_capture(case: Any) -> None:
    """A capture without a bugcheck beside a dump: whose calls are told, and that it may differ."""
    said = case(MEMORY__DMP=DUMP, run__jsonl=traces.capture(9), DumpStack__log=LOG).answer
    assert "Dump_Start of each was likely called" in said
    assert (
        "run.jsonl names no bugcheck, so it is not certain which crash its calls belong to." in said
    )
    of_crash, _, of_none = said.partition("Of no certain crash")
    assert "STATUS_SUCCESS" not in of_crash
    assert "dump_dumpfve.sys called STATUS_SUCCESS" in of_none


def test_calls_of_a_capture_are_told_when_there_is_no_crash(case: Any) -> None:
    """Beside a registry export a capture is still the one source that tells of Dump_Start."""
    registry = cases.registry(["dumpfve.sys"])
    said = case(run__jsonl=traces.capture(9), CrashControl__reg=registry).answer
    assert "Dump_Start of dump_dumpfve.sys and dump_acmeflt.sys each returned" in said


def test_the_bound_of_a_log_is_not_told_as_proven(case: Any) -> None:
    """That the filters are started before the log begins is inferred from its words."""
    said = case(MEMORY__DMP=DUMP, DumpStack__log=LOG).answer
    assert "Dump_Start of every loaded filter had likely returned within 1.5 s" in said


# -- what is missing ---------------------------------------------------------------------------


def test_a_dump_that_was_given_is_not_said_to_be_missing(case: Any) -> None:
    """An encrypted dump is a memory dump; it does not show the filters."""
    dump, _ = cases.dump("encrypted")
    said = case(MEMORY__DMP=dump, CrashControl__reg=cases.registry(["dumpfve.sys"])).answer
    assert "a kernel bitmap dump was written, but its memory is encrypted." in said
    assert "the dump (if there is one)" not in said
    assert "the state of each filter or the FILTER_EXTENSION" in said


def test_a_minidump_leaves_the_memory_dump_to_be_collected(case: Any) -> None:
    """What a minidump cannot hold is asked for where it would be."""
    log = cases.log(logs.kernel(), CRASH)
    registry = cases.registry(["dumpfve.sys", "acmeflt.sys"], "acmeflt")
    files = {"mini__dmp": MINIDUMP, "DumpStack__log": log, "c__reg": registry}
    said = case(**files, System__xml=events().xml()).answer
    assert "the state of each filter or the FILTER_EXTENSION" in said
    assert "MEMORY.DMP (if there is one)" in said


def test_an_event_of_months_later_does_not_explain_the_crash(case: Any) -> None:
    """That the stack did not load in September says nothing of a crash in March."""
    log = cases.EventLog().power("2026-03-01T10:21:05", cases.CRASH)
    log.volmgr("2026-09-03T08:00:10", 45, 0x2005, 0xC0000034)
    registry = cases.registry(["dumpfve.sys", "oldvendor.sys"])
    said = case(System__xml=log.xml(), CrashControl__reg=registry).answer
    assert "most probably left no dump" not in said
    assert "Most probable cause" not in said


def test_a_crash_that_left_its_dump_has_no_culprit(case: Any) -> None:
    """A filter that was switched off did not cost the dump, and did not crash the machine."""
    dump, _ = cases.dump("filter-failed")
    said = case(MEMORY__DMP=dump, DumpStack__log=LOG).answer
    assert "MEMORY.DMP shows that the filter dump_acmeflt.sys" in said
    assert "cause" not in said


def test_crashes_that_only_the_clock_tells_apart_may_be_one(case: Any) -> None:
    """The events two hours before the log have its code and all its parameters."""
    log = cases.EventLog().power("2026-03-01T08:21:05", cases.CRASH)
    made = case(System__xml=log.xml(), DumpStack__log=logs.files()["healthy-kernel.log"])
    assert (
        "Crashes 1 and 2 have the same bugcheck code and parameters: if a clock was wrong, they "
        "may be one." in made.answer
    )


def test_a_sentence_does_not_end_at_a_number(case: Any) -> None:
    """The first finding is quoted to its end: "READ(10) no. 4" is one name."""
    dump, _ = cases.dump("request-slow")
    assert "READ(10) no. 4, took 12 s." in case(MEMORY__DMP=dump).answer


def test_a_simulated_failure_that_did_not_happen_is_only_configured(case: Any) -> None:
    """SimulateError is proven on Windows 7 alone; here the dump was written all the same."""
    registry = cases.registry(["dumpfve.sys", "acmeflt.sys"], "acmeflt", SimulateError=0x2005)
    made = case(MEMORY__DMP=DUMP, DumpStack__log=LOG, CrashControl__reg=registry)
    assert "SimulateError is 0x2005. On Windows 7" in made.answer
    assert "newer versions are not proven" in made.text("registry-simulate-error")


# -- why something is not there ----------------------------------------------------------------


@pytest.mark.parametrize("where", ["cut-header", "cut-map"])
def test_what_a_cut_file_lacks_is_not_asked_of_a_bigger_dump(case: Any, where: str) -> None:
    """Without its map of pages nobody knows what the dump held: the file has to be copied again."""
    dump, _ = cases.dump(where)
    made = case(MEMORY__DMP=dump)
    text = made.text("modules-incomplete")
    assert "the file ends before its map has" in text
    assert "a complete memory dump would tell" not in text
    assert "before any secondary data" in made.text("secondary-data-missing")


def test_one_page_is_missing(case: Any) -> None:
    """Sixteen bytes are one page, and the sentence has its number."""
    dump, _ = cases.dump("cut-last")
    assert case(MEMORY__DMP=dump).text("dump-file-cut").endswith("1 page is missing.")


# -- storage errors before a restart -----------------------------------------------------------


def storage_error(log: cases.EventLog, when: str) -> cases.EventLog:
    """Event 129: the storage driver reset its port."""
    return log.add(when, "storahci", 129, [r"\Device\RaidPort0"], bytes(40), 3)


def test_the_events_of_one_start_are_one_restart(case: Any) -> None:
    """41, 161 and 1001 are logged by the start after one crash."""
    log = storage_error(cases.EventLog(), "2024-03-05T14:06:00").power(START + "1:02", CRASH)
    log.volmgr(START + "1:30", 161, 0x5001, FAILED).reporting(START + "1:41", CRASH, "x.dmp")
    made = case(System__xml=log.xml())
    assert made.text("event-storage-errors").startswith(
        "1 error or warning of a storage driver was logged within 10 minutes before an unexpected "
        "restart (the log has 1): storahci 129; the last says: "
    )


def test_an_error_behind_the_start_is_not_before_the_crash(case: Any) -> None:
    """The report of a crash comes minutes after the start; what lies between is after the crash."""
    log = cases.EventLog().power(START + "1:02", CRASH)
    storage_error(log, START + "2:00").reporting(START + "3:00", CRASH, "x.dmp")
    assert "event-storage-errors" not in case(System__xml=log.xml()).rules


# -- what crashdmp keeps of a failure ----------------------------------------------------------


def test_two_pointers_are_no_failing_routine_and_status(case: Any, made_variant: Any) -> None:
    """A pointer into a filter with another behind it: its low half is no NTSTATUS."""

    def pointers(machine: Any) -> None:
        at = machine.truth["context"]["failing_routine_address"]
        start = node(machine, "crash")["init"]["DumpStart"]
        machine.world.pack(at, "PP", start, 0xFFFF_C08B_C400_1000)

    made = case(MEMORY__DMP=made_variant(memory=pointers))
    assert "filter-callback-failed" not in made.rules
    assert "returned" not in made.answer.replace("what Dump_Start returned", "")


# -- several sources, each with its say --------------------------------------------------------


def test_an_extension_that_was_read_is_not_called_reconstructed(case: Any) -> None:
    """The memory dump holds what the minidump's context only lets expect."""
    assert "reconstructed" not in case(MEMORY__DMP=DUMP, mini__dmp=MINIDUMP, x__log=LOG).answer


def test_a_dump_that_is_cut_is_told_beside_the_event(case: Any) -> None:
    """That the file is there, and is not whole, is part of the outcome."""
    log = events().volmgr(START + "1:40", 161, 0x5001, FAILED)
    said = case(MEMORY__DMP=DUMP[:150_000], System__xml=log.xml()).answer
    assert "MEMORY.DMP is a kernel bitmap dump, but the file is cut short" in said


def test_a_live_dump_among_the_files_is_named_as_that(case: Any) -> None:
    """It is not passed over in silence, and not taken for the crash."""
    dump, _ = cases.dump("live-dump")
    said = case(live__dmp=dump, System__xml=events().xml()).answer
    assert "live.dmp was taken of a running system, so it shows no crash." in said


def test_two_logs_of_two_starts_are_not_one_crash(case: Any) -> None:
    """Each crash has its own event 41: no clock makes one of them."""
    first, second = cases.CRASH, cases.CRASH._replace(clock="10:24:30")
    log = cases.EventLog().power("2026-03-01T10:21:35", first)
    log.power("2026-03-01T10:25:35", second)
    said = case(System__xml=log.xml(), DumpStack__log=cases.log(logs.kernel(), second)).answer
    assert said.startswith("2 crashes between")
    assert "they may be one" not in said


# -- redacted results --------------------------------------------------------------------------


@pytest.fixture
def redacted(case: Any) -> Any:
    """The answer and the text report of redacted records."""

    def make(**files: bytes) -> str:
        from analyzer.case import Case as Opened
        from analyzer.population.redact import redact

        records = redact(case(**files).records)
        return " ".join(" ".join([*sentences(records), Opened(records).report()]).split())

    return make


def test_a_redacted_answer_still_says_that_a_call_is_likely(redacted: Any) -> None:
    """The word names nobody, so it stays; the bound of the log is a number, so it stays, too."""
    said = redacted(MEMORY__DMP=DUMP, DumpStack__log=LOG)
    assert "Dump_Start of each was likely called" in said
    assert "Dump_Start of every loaded filter had likely returned within 1.5 s" in said
    assert "-." not in said


def test_a_redacted_event_is_no_storage_error(redacted: Any) -> None:
    """Event 41 whose words are left out is still no event of a disk."""
    log = cases.EventLog().power("2026-03-01T10:21:05", cases.CRASH)
    said = redacted(System__xml=log.xml(), DumpStack__log=STUCK)
    assert "storage error" not in said
    assert "breaks off and" in said or "breaks off." in said
