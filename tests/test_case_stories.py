"""Case folders with a known story: the answer tells it, with the findings that carry it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import generator_cases
import pytest
from conftest import SAMPLE_TRACES
from said import sentences

import analyzer
from analyzer.tables import evidence_lines

STORIES = generator_cases.stories()
CODE = "bugcheck 0xD1 (DRIVER_IRQL_NOT_LESS_OR_EQUAL)"
SWITCH_FILTERS = (
    r"reg add HKLM\SYSTEM\CurrentControlSet\Control\CrashControl /v DumpFilters /t REG_MULTI_SZ /d "
)


class Told(NamedTuple):
    """What must be said of a story; the generator wrote the files, so the truth is known."""

    opening: str  #: the first sentence
    says: tuple[str, ...]  #: parts of the rest of the answer
    rules: tuple[str, ...]  #: findings of error and warning, all of them
    collect: tuple[str, ...] = ()  #: commands and files asked for


TOLD = {
    "filter-file-missing": Told(
        f"The machine crashed with {CODE} before 2026-03-01 10:21:05 UTC and most probably left no "
        "dump: the crash dump stack could not be loaded (event 45 in System.xml).",
        (
            "registered oldvendor.sys",
            "error The dump stack did not load because the file of a registered filter is missing",
            (
                "System.xml has event 45 (2 times): loading the dump filters failed (location "
                "0x2005) "
                "with STATUS_OBJECT_NAME_NOT_FOUND (0xc0000034), and CrashControl.reg registers "
                "oldvendor.sys, which has no service key"
            ),
            SWITCH_FILTERS + "dumpfve.sys /f",
        ),
        (
            "case-filter-file-missing",
            "event-dump-driver-load-failed",
            "event-dump-driver-load-failed",
            "registry-filter-service-missing",
        ),
        ("the dump (if there is one)", "DumpStack.log"),
    ),
    "filter-disabled": Told(
        f"The machine crashed with {CODE} in badnic+0x1234 on 2024-03-05 14:07:09 UTC, and a "
        "kernel bitmap dump was written.",
        (
            "Dump_Start of dump_acmeflt.sys likely returned STATUS_UNSUCCESSFUL (0xc0000001).",
            "2 of 2 dump_acmeflt.sys likely off likely returned STATUS_UNSUCCESSFUL",
            (
                "MEMORY.DMP shows that the filter dump_acmeflt.sys was switched off after a "
                "failure (by a state word whose place is inferred on this Windows), and "
                "CrashControl.reg "
                "registers "
                "it as number 2, DumpStack.log says that the dump was written"
            ),
            "the dump may hold memory in plain text",
        ),
        ("case-filter-disabled", "filter-callback-failed", "filter-disabled"),
    ),
    "dump-file-too-small": Told(
        f"The machine crashed with {CODE} on 2026-03-01 10:20:30 UTC, and a smaller dump than "
        "asked "
        "for was written: DumpStack.log records a completed dump of a smaller kind and event 162 "
        "says that the dump was created (System.xml).",
        (
            "DumpStack.log says that the dump file was too small",
            (
                "and in CrashControl.reg PageFileTooSmall is set: the file that takes the dump is "
                "too "
                "small."
            ),
            "/v DedicatedDumpFile /t REG_SZ",
        ),
        (
            "case-dump-too-small",
            "case-dump-type-smaller",
            "log-dump-type-reduced",
            "registry-page-file-too-small",
        ),
        ("the dump (if it is still there)",),
    ),
    "driver-stuck": Told(
        f"The machine crashed with {CODE} on 2026-03-01 10:20:30 UTC and left no finished dump: "
        "DumpStack.log breaks off after 'Calling badnic secondary callback' and event 161 says "
        "that "
        "creating the dump failed (System.xml).",
        (
            (
                "Most probable cause: the crash path died or hung in the secondary "
                "callback of badnic."
            ),
            "registered dumpfve.sys",
            "Dump_Start of every loaded filter had likely returned within 1.5 s of the bugcheck",
        ),
        ("case-driver-stuck", "event-dump-failed", "log-driver-stuck", "log-unfinished"),
        ("the dump (if there is one)",),
    ),
    "write-stalled": Told(
        f"The machine crashed with {CODE} on 2026-03-01 10:20:30 UTC and left no finished dump: "
        "DumpStack.log breaks off after 'Dumping physical memory to disk:  35%' and event 161 says "
        "that creating the dump failed (System.xml).",
        (
            (
                "Most probable cause: DumpStack.log shows that writing memory to the disk stalled, "
                "and "
                "in System.xml event 161 says that the port driver's write failed and in "
                "System.xml "
                "storage errors were logged before a restart"
            ),
        ),
        (
            "case-write-stalled",
            "event-dump-failed",
            "event-storage-errors",
            "log-unfinished",
            "log-write-stalled",
        ),
    ),
    "progress-0x46": Told(
        f"The machine crashed with {CODE} on 2026-03-01 10:20:30 UTC and left no finished dump: "
        "DumpStack.log breaks off after 'Progress 0x00000046: dump complete callbacks called, dump "
        "is being closed' and event 161 says that creating the dump failed (System.xml).",
        (
            (
                "No source names a culprit, only the step: Event 161 in System.xml says that the "
                "dump "
                "stopped at progress 0x46 (dump complete callbacks called, dump is being closed); "
                "the "
                "last one in DumpStack.log is the same: 0x46"
            ),
        ),
        ("event-dump-failed", "log-unfinished"),
    ),
    "hibernation-fallback": Told(
        "System.xml shows no crash.",
        (
            "registered veracrypt.sys",
            (
                "Not a crash: System.xml has Kernel-Dump event 7: the dump stack for hibernation "
                "could "
                "not be initialised with STATUS_ACCESS_DENIED (0xc0000022), and CrashControl.reg "
                "registers veracrypt.sys besides dumpfve.sys: hibernation and fast startup fall "
                "back"
            ),
        ),
        ("case-hibernation-fallback", "event-dump-stack-failed"),
    ),
    "leftover-filter": Told(
        f"The machine crashed with {CODE} in badnic+0x1234 on 2024-03-05 14:07:09 UTC, and a "
        "kernel bitmap dump was written.",
        (
            (
                "Both dump filters, dump_dumpfve.sys and dump_acmeflt.sys, were likely on, and "
                "Dump_Start of each was likely called."
            ),
            "registered, not loaded oldvendor.sys",
            (
                "CrashControl.reg registers the dump filter oldvendor.sys, which has no service "
                "key, but the modules in MEMORY.DMP show that it was not loaded."
            ),
            SWITCH_FILTERS + r"dumpfve.sys\0acmeflt.sys /f",
        ),
        ("case-leftover-filter", "registry-filter-service-missing"),
        ("the System event log", "DumpStack.log"),
    ),
    "healthy": Told(
        f"The machine crashed with {CODE} in badnic+0x1234 on 2024-03-05 14:07:09 UTC, and a "
        "kernel bitmap dump was written.",
        (
            (
                "Both dump filters, dump_dumpfve.sys and dump_acmeflt.sys, were likely on, and "
                "Dump_Start of each was likely called."
            ),
            "at most 1.5 s, all filters",
            "No error and no warning.",
        ),
        (),
    ),
    "contradictory": Told(
        f"The machine crashed with {CODE} on 2026-03-01 10:20:30 UTC; the evidence disagrees on "
        "whether a dump was written: DumpStack.log records a completed dump, but event 161 says "
        "that creating the dump failed (System.xml).",
        (
            (
                "DumpStack.log says that the dump of crash 1 was written (dump log), but "
                "System.xml says that it failed (event 161)."
            ),
        ),
        ("case-outcome-contradictory", "event-dump-failed"),
    ),
    "two-crashes": Told(
        "2 crashes between 2024-03-05 14:07:09 UTC and 2026-03-04 17:45:10 UTC, with 2 different "
        "bugchecks; 1 left no finished dump.",
        (
            (
                f"crash 1: 2024-03-05 14:07:09 UTC, {CODE}: dump written (030524-5515-01.dmp and "
                "System.xml)"
            ),
            (
                "The newest: the machine crashed with bugcheck 0x9F (DRIVER_POWER_STATE_FAILURE) "
                "on "
                "2026-03-04 17:45:10 UTC and left no finished dump: DumpStack.log breaks off after "
                "'Calling badnic secondary callback'"
            ),
            "Most probable cause (crash 2): the crash path died or hung in the secondary",
        ),
        ("case-driver-stuck", "event-dump-failed", "log-driver-stuck", "log-unfinished"),
        ("MEMORY.DMP (if there is one)",),
    ),
}


def opened(folder: Path, files: dict[str, bytes]) -> Any:
    """The case of a folder with these files."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return analyzer.open(folder)


def serious(case: Any) -> list[str]:
    """The rules of errors and warnings."""
    return sorted(f.rule for f in case.records["findings"] if f.severity in ("error", "warning"))


def found(case: Any, rule: str) -> Any:
    """The finding of a rule."""
    return next(f for f in case.records["findings"] if f.rule == rule)


def test_every_story_is_told() -> None:
    """Ten stories and the mixed folder."""
    assert sorted(TOLD) == sorted(STORIES)
    assert len(STORIES) == 11


@pytest.mark.parametrize("name", STORIES)
def test_the_first_paragraph_is_the_story(tmp_path: Path, name: str) -> None:
    """Outcome first, then filters and culprit with both sources, then what to collect."""
    case = opened(tmp_path, STORIES[name].files)
    said = sentences(case.records)
    whole, told = " ".join(said), TOLD[name]
    assert said[0] == told.opening
    for part in (*told.says, *told.collect):
        assert part in whole
    if not told.collect and "Collect on" in whole:
        assert "the dump (if " in whole
    text = " ".join(case.report().split())
    assert text.startswith(" ".join(said[0].split()))


@pytest.mark.parametrize("name", STORIES)
def test_the_findings_are_those_of_the_story(tmp_path: Path, name: str) -> None:
    """All errors and warnings, and no other."""
    case = opened(tmp_path, STORIES[name].files)
    assert serious(case) == sorted(TOLD[name].rules)
    assert case.exit_code() == (1 if TOLD[name].rules else 0)


@pytest.mark.parametrize("name", STORIES)
def test_a_finding_over_sources_names_two_of_them(tmp_path: Path, name: str) -> None:
    """In its sentence and in its evidence."""
    case = opened(tmp_path, STORIES[name].files)
    files = {Path(file).name for file in STORIES[name].files}
    for finding in case.records["findings"]:
        if finding.rule.startswith("case-"):
            assert len([file for file in files if file in finding.text]) >= 2, finding.text
            assert len([file for file in files if file in "".join(evidence_lines(finding))]) >= 2


def test_two_crashes_are_told_apart(tmp_path: Path) -> None:
    """Each piece of evidence has its crash, by code, parameters and time."""
    case = opened(tmp_path, STORIES["two-crashes"].files)
    rows = [
        (row.crash, row.tells, row.outcome, row.origin.confidence)
        for row in case.records["crashes"]
    ]
    assert rows == [
        (1, "kernel dump", "written", "certain"),
        (1, "event 41", None, "likely"),
        (1, "event 1001", "written", "certain"),  # it names the file
        (2, "dump log", "failed", "certain"),
        (2, "event 41", None, "likely"),
        (2, "event 161", "failed", "likely"),
    ]
    assert {row.bugcheck for row in case.records["crashes"] if row.crash == 1} >= {0xD1}
    assert list(case.crashes["why"])[3:5] == [
        "the dump log states the crash",
        "code and parameters agree; logged 110 seconds after the crash time of DumpStack.log",
    ]


def test_dump_and_log_of_one_crash_are_certain(tmp_path: Path) -> None:
    """Code, parameters and the frozen clock agree; events only come later, so they are likely."""
    case = opened(tmp_path, STORIES["healthy"].files)
    sure = {row.tells: row.origin.confidence for row in case.records["crashes"]}
    assert sure == {
        "dump log": "certain",
        "kernel dump": "certain",
        "event 1001": "likely",
        "event 162": "likely",
        "event 41": "likely",
    }
    assert {row.crash for row in case.records["crashes"]} == {1}


@pytest.mark.parametrize(
    ("name", "first"),
    [
        (
            "driver-stuck.log",
            (
                "The machine crashed with {} and left no finished dump: driver-stuck.log breaks "
                "off after 'Calling badnic secondary callback'."
            ),
        ),
        (
            "full.log",
            (
                "The machine crashed with {}; whether a dump was written is not known: "
                "full.log does not show how the dump ended, only that it came to 'Calling "
                "driver34.sys secondary callback'."
            ),
        ),
    ],
)
def test_a_log_alone_says_whether_a_dump_was_written(name: str, first: str) -> None:
    """As in a folder: the outcome, what it means for Dump_Start, and what to collect."""
    said = sentences(analyzer.open(SAMPLE_TRACES / "logs" / name).records)
    crash = "bugcheck 0xD1 (DRIVER_IRQL_NOT_LESS_OR_EQUAL) on 2026-03-01 10:20:30 UTC"
    assert said[0] == first.format(crash)
    assert "Dump_Start of every loaded filter had likely returned within" in " ".join(said)
    assert any(text.startswith("On the machine") for text in said)


def test_settings_are_of_no_crash(tmp_path: Path) -> None:
    """The registry is the machine's; it never makes a crash or belongs to one."""
    case = opened(tmp_path, STORIES["two-crashes"].files)
    registries = {s.path for s in case.records["sources"] if s.kind == "registry export"}
    assert registries.isdisjoint(row.origin.source for row in case.records["crashes"])


def test_the_timeline_is_in_order_and_names_its_sources(tmp_path: Path) -> None:
    """Events by their own time, steps by the milliseconds of the log, between the two."""
    case = opened(tmp_path, STORIES["driver-stuck"].files)
    text = " ".join(case.report(details=True).split())
    timeline = text[text.index("Timeline (UTC") : text.index("Crash and machine")]
    order = [
        "2026-03-01 10:20:30 DumpStack.log: crash 1",
        "+1500 ms DumpStack.log: progress-0x42",
        "+6550 ms DumpStack.log: progress-0x43",
        "2026-03-01 10:21:05 System.xml: Microsoft-Windows-Kernel-Power 41",
        "2026-03-01 10:21:30 System.xml: volmgr 161",
    ]
    places = [timeline.index(line) for line in order]
    assert places == sorted(places)


@pytest.mark.parametrize("name", generator_cases.SHIPPED)
def test_a_shipped_archive_tells_its_story(name: str) -> None:
    """The same answer and findings as the folder."""
    path = SAMPLE_TRACES / "cases" / f"{name}.zip"
    case = analyzer.open(path)
    assert sentences(case.records)[0] == TOLD[name].opening
    assert serious(case) == sorted(TOLD[name].rules)
    assert all(s.path.startswith(f"{path}!") for s in case.records["sources"])


def test_stories_are_always_the_same() -> None:
    """Made twice, byte for byte."""
    assert generator_cases.stories() == STORIES


# ---- grouping, pair by pair ----------------------------------------------------------------------


LOGS = generator_cases.logs
CRASH = generator_cases.CRASH


def log_of(crash: generator_cases.Crash) -> bytes:
    """A completed log of a crash."""
    return generator_cases.log(LOGS.kernel(), crash)


def crashes_of(folder: Path, files: dict[str, bytes]) -> list[tuple[Any, ...]]:
    """(crash, source, what) of every piece."""
    rows = opened(folder, files).records["crashes"]
    return sorted((row.crash, Path(row.origin.source).name, row.tells) for row in rows)


@pytest.mark.parametrize(
    ("other", "count"),
    [
        (CRASH, 1),
        (CRASH._replace(clock="10:21:59"), 1),  # clocks within two minutes
        (CRASH._replace(clock="10:23:00"), 2),
        (CRASH._replace(day="2026/03/02"), 2),
        (CRASH._replace(code=0x9F), 2),
        (CRASH._replace(code=0x100000D1), 1),  # the M variant of the same code
        (CRASH._replace(parameters=(0x28, 2, 1, 0xFFFFF80312345678)), 2),
        # the sign-extended form of a 32-bit parameter
        (CRASH._replace(parameters=(0x28, 2, 0, 0x12345678)), 2),
    ],
)
def test_two_logs_are_one_crash_only_when_nothing_contradicts(
    tmp_path: Path, other: generator_cases.Crash, count: int
) -> None:
    """Code, parameters and crash time must agree."""
    rows = crashes_of(tmp_path, {"a.log": log_of(CRASH), "b.log": log_of(other)})
    assert len({row[0] for row in rows}) == count


@pytest.mark.parametrize(
    ("when", "crash", "count"),
    [
        ("2026-03-01T10:21:00", CRASH, 1),
        ("2026-03-01T10:17:00", CRASH, 1),  # the clock was set after the restart
        ("2026-03-01T10:10:00", CRASH, 2),  # before the crash: another one
        ("2026-03-07T10:21:00", CRASH, 1),  # the machine stayed off
        ("2026-03-09T10:21:00", CRASH, 2),
        ("2026-03-01T10:21:00", CRASH._replace(parameters=(1, 2, 3, 4)), 2),
        ("2026-03-01T10:21:00", CRASH._replace(code=0x50), 2),
    ],
)
def test_an_event_is_of_the_crash_before_it(
    tmp_path: Path, when: str, crash: generator_cases.Crash, count: int
) -> None:
    """It is logged by the next start, so it lies later; code and parameters must agree."""
    events = generator_cases.EventLog().power(when, crash)
    rows = crashes_of(tmp_path, {"a.log": log_of(CRASH), "e.xml": events.xml()})
    assert len({row[0] for row in rows}) == count


def test_an_event_without_a_code_goes_to_the_nearest_start(tmp_path: Path) -> None:
    """Two crashes of one day, each with its own 161."""
    later = CRASH._replace(clock="15:00:00")
    events = generator_cases.EventLog()
    for when, crash in (("T10:2", CRASH), ("T15:0", later)):
        events.power(f"2026-03-01{when}2:00", crash)
        events.volmgr(f"2026-03-01{when}2:30", 161, 0x5001, 0xC0000001)
    case = opened(tmp_path, {"a.log": log_of(CRASH), "e.xml": events.xml()})
    rows = case.records["crashes"]
    assert [row.tells for row in rows if row.crash == 1] == ["dump log", "event 41", "event 161"]
    assert [row.tells for row in rows if row.crash == 2] == ["event 41", "event 161"]
    (contradiction,) = [f for f in case.records["findings"] if "contradictory" in f.rule]
    assert contradiction.subject == "crash 1"


def test_a_guess_is_called_one(tmp_path: Path) -> None:
    """Event 161 alone, hours after the crash: only the order of time speaks for it."""
    events = generator_cases.EventLog().volmgr("2026-03-01T18:00:00", 161, 0x5001, 0xC0000001)
    case = opened(tmp_path, {"a.log": log_of(CRASH), "e.xml": events.xml()})
    (row,) = [row for row in case.records["crashes"] if row.tells == "event 161"]
    assert (row.crash, row.origin.confidence) == (1, "guess")
    assert (
        "That event 161 of e.xml belongs to this crash is a guess: logged 7 hours after"
        in " ".join(sentences(case.records))
    )


def test_an_event_161_alone_is_a_crash_of_unknown_bugcheck(tmp_path: Path) -> None:
    """Something failed to write a dump; which crash it was is not known."""
    events = generator_cases.EventLog().volmgr("2026-03-01T18:00:00", 161, 0x5001, 0xC0000001)
    case = opened(tmp_path, {"e.xml": events.xml()})
    assert sentences(case.records)[0] == (
        "The machine crashed before 2026-03-01 18:00:00 UTC and left no finished dump: event 161 "
        "says that creating the dump failed (e.xml)."
    )


def test_events_of_a_csv_export_go_to_the_only_crash_as_a_guess(tmp_path: Path) -> None:
    """A CSV has local times without a zone and no binary data."""
    csv = (
        "Level,Date and Time,Source,Event ID,Task Category\r\n"
        "Error,3/1/2026 11:22:00 AM,volmgr,161,None,Dump file creation failed.\r\n"
    )
    case = opened(tmp_path, {"a.log": log_of(CRASH), "e.csv": csv.encode()})
    (row,) = [row for row in case.records["crashes"] if row.tells == "event 161"]
    assert (row.crash, row.origin.confidence, row.outcome) == (1, "guess", "failed")
    assert row.why == "it has neither time nor bugcheck; this is the only crash in the inputs"
    assert "a dump was written: a.log records a completed dump" in sentences(case.records)[0]


def test_a_log_of_endless_restarts_is_grouped_to_its_end(tmp_path: Path) -> None:
    """None of 1,003 is left out."""
    events = generator_cases.EventLog()
    for number in range(1003):
        when = f"20{20 + number // 365}-{1 + number % 12:02d}-{1 + number // 12 % 28:02d}T00:00:00"
        events.volmgr(when, 161, 0x5001, 0xC0000001)
    case = opened(tmp_path, {"e.xml": events.xml()})
    assert len(case.records["crashes"]) == 1003
    assert not [f for f in case.records["findings"] if f.rule == "input-limit-reached"]


def test_a_restart_without_a_bugcheck_is_no_crash(tmp_path: Path) -> None:
    """Kernel-Power 41 with code 0 is a power loss, a reset or a hang."""
    events = generator_cases.EventLog().power("2026-03-01T18:00:00", None)
    assert crashes_of(tmp_path, {"e.xml": events.xml()}) == []
    assert sentences(opened(tmp_path, {"e.xml": events.xml()}).records)[0] == (
        "e.xml reports 1 restart without a shutdown, the last before 2026-03-01 18:00:00 UTC, and "
        "no bugcheck code is recorded: it may have been a crash that left no record, a hang, a "
        "reset or a power loss."
    )


# ---- cross-source checks at their limits ---------------------------------------------------------


def test_a_missing_file_without_a_registry_stays_a_single_finding(tmp_path: Path) -> None:
    """The filter cannot be named, so nobody is accused."""
    files = dict(STORIES["filter-file-missing"].files)
    del files["CrashControl.reg"]
    case = opened(tmp_path, files)
    assert serious(case) == ["event-dump-driver-load-failed"] * 2
    said = " ".join(sentences(case.records))
    assert "Most probable cause: volmgr event 45" in said
    assert "the CrashControl settings" in said
    assert "oldvendor" not in said


@pytest.mark.parametrize(
    ("location", "status"), [(0x2004, 0xC0000034), (0x2005, 0xC0000022), (0x2006, 0xC0000034)]
)
def test_another_location_or_status_is_no_missing_filter_file(
    tmp_path: Path, location: int, status: int
) -> None:
    """Only loading the filters, and only a status that says that a file is not there."""
    events = generator_cases.EventLog().volmgr("2026-03-01T07:00:00", 45, location, status)
    files = {**STORIES["filter-file-missing"].files, "System.xml": events.xml()}
    assert "case-filter-file-missing" not in serious(opened(tmp_path, files))


@pytest.mark.parametrize(
    ("filters", "services", "blame", "command"),
    [
        (["dumpfve.sys", "veracrypt.sys"], ["veracrypt"], "is the first suspect", "dumpfve.sys"),
        (["dumpfve.sys", "a.sys", "b.sys"], ["a", "b"], "of one of them is most probably", ""),
        (["dumpfve.sys"], [], "is the first suspect", ""),
        (
            ["dumpfve.sys", "a.sys", "b.sys"],
            ["b"],
            "is most probably missing",
            r"dumpfve.sys\0b.sys",
        ),
    ],
)
def test_who_is_suspected_of_the_missing_file(
    tmp_path: Path, filters: list[str], services: list[str], blame: str, command: str
) -> None:
    """A filter without a service first; the in-box one is never told to be removed."""
    files = dict(STORIES["filter-file-missing"].files)
    files["CrashControl.reg"] = generator_cases.registry(filters, *services)
    text = found(opened(tmp_path, files), "case-filter-file-missing").text
    assert blame in text
    assert (SWITCH_FILTERS + command + " /f" in text) if command else ("reg add" not in text)


@pytest.mark.parametrize(
    ("when", "is_written", "is_blamed"),
    [
        ("2026-02-27T08:00:10", False, True),
        ("2025-02-27T08:00:10", False, False),  # a year before the crash
        ("2026-02-27T08:00:10", True, False),  # the dump was written, so the stack was loaded
    ],
)
def test_an_event_45_explains_only_a_failure_that_followed_it(
    tmp_path: Path, when: str, is_written: bool, is_blamed: bool
) -> None:
    """The finding stays; the answer does not call it the culprit of another crash."""
    events = generator_cases.EventLog().volmgr(when, 45, 0x2005, 0xC0000034)
    events.power("2026-03-01T10:22:00", CRASH)
    if is_written:
        events.volmgr("2026-03-01T10:22:30", 162)
    files = {**STORIES["filter-file-missing"].files, "System.xml": events.xml()}
    case = opened(tmp_path, files)
    assert "case-filter-file-missing" in serious(case)
    said = " ".join(sentences(case.records))
    assert ("Most probable cause: System.xml has event 45" in said) == is_blamed
    assert ("most probably left no dump" in said) == is_blamed


def test_registered_but_not_loaded_and_loaded_but_not_registered(tmp_path: Path) -> None:
    """A dump of two filters against a registry that names one of them and another one."""
    dump, _ = generator_cases.dump()
    reg = generator_cases.registry(["dumpfve.sys", "newflt.sys"], "newflt", "acmeflt")
    case = opened(tmp_path, {"MEMORY.DMP": dump, "c.reg": reg})
    assert serious(case) == ["case-filter-not-loaded", "case-filter-not-registered"]
    assert found(case, "case-filter-not-loaded").text == (
        "c.reg registers the dump filter newflt.sys, but the modules in MEMORY.DMP show that it "
        "was not loaded."
    )
    assert "dump_acmeflt.sys is loaded as a dump filter in MEMORY.DMP" in (
        found(case, "case-filter-not-registered").text
    )


def test_an_incomplete_module_list_says_nothing_of_what_is_not_loaded(tmp_path: Path) -> None:
    """The filter may be among the modules that could not be read."""
    dump, _ = generator_cases.dump("module-list-broken")
    reg = generator_cases.registry(["dumpfve.sys", "newflt.sys"], "newflt")
    case = opened(tmp_path, {"MEMORY.DMP": dump, "c.reg": reg})
    assert "modules-incomplete" in serious(case)
    assert not [rule for rule in serious(case) if rule.startswith("case-")]


def test_names_of_filters_are_compared_without_case(tmp_path: Path) -> None:
    """The registry keeps the spelling of whoever wrote it."""
    dump, _ = generator_cases.dump()
    reg = generator_cases.registry(["DUMPFVE.SYS", "AcmeFlt.sys"], "AcmeFlt")
    assert serious(opened(tmp_path, {"MEMORY.DMP": dump, "c.reg": reg})) == []


def test_a_hostile_filter_name_gets_no_command(tmp_path: Path) -> None:
    """A name with a quote or a separator is not written into a command line."""
    reg = generator_cases.registry(["dumpfve.sys", "a&del.sys", "gone.sys"], "a&del")
    files = {**STORIES["filter-file-missing"].files, "CrashControl.reg": reg}
    text = found(opened(tmp_path, files), "case-filter-file-missing").text
    assert "gone.sys" in text
    assert "reg add" not in text


def test_a_hostile_list_of_filters_stays_short(tmp_path: Path) -> None:
    """3,000 long names give bounded texts and evidence."""
    dump, _ = generator_cases.dump()
    names = [f"{'x' * 200}{number}.sys" for number in range(3000)]
    reg = generator_cases.registry(names, "x")
    events = generator_cases.EventLog().volmgr("2024-03-05T07:00:00", 45, 0x2005, 0xC0000034)
    case = opened(tmp_path, {"MEMORY.DMP": dump, "c.reg": reg, "e.xml": events.xml()})
    rows = [f for f in case.records["findings"] if f.rule.startswith("case-")]
    assert len(rows) < 200
    assert max(len(str(f.text)) for f in rows) <= 1000
    assert max(len("".join(evidence_lines(f))) for f in rows) < 4000


def test_a_crash_with_dumps_switched_off(tmp_path: Path) -> None:
    """No dump was asked for; the command that switches dumps on is given."""
    events = generator_cases.EventLog().power("2026-03-01T10:22:00", CRASH)
    reg = generator_cases.registry(["dumpfve.sys"], CrashDumpEnabled=0, EnableLogFile=0)
    case = opened(tmp_path, {"e.xml": events.xml(), "c.reg": reg})
    assert serious(case) == ["case-dump-disabled", "registry-dump-disabled"]
    said = " ".join(sentences(case.records))
    assert "No dump was asked for: CrashDumpEnabled is 0 in c.reg, and e.xml tells" in said
    assert r"Control\CrashControl CrashDumpEnabled 7" in said
    assert r"Control\CrashControl EnableLogFile 1" in said
    assert found(case, "case-log-switched-off").severity == "info"


def test_progress_of_event_and_log_that_differ(tmp_path: Path) -> None:
    """Both codes stand side by side in words."""
    events = generator_cases.EventLog().power("2026-03-01T10:22:00", CRASH)
    events.volmgr("2026-03-01T10:22:30", 161, 0x49, 0xC0000001, "0x49")
    lines = generator_cases.until(LOGS.kernel(), "Progress 0x00000045")
    case = opened(tmp_path, {"d.log": generator_cases.log(lines), "e.xml": events.xml()})
    assert found(case, "case-progress").text == (
        "Event 161 in e.xml says that the dump stopped at progress 0x49 (a stage whose meaning is "
        "not known); the last one in d.log is another: 0x45 (secondary data written)."
    )


def test_161_and_162_in_the_same_second(tmp_path: Path) -> None:
    """The event log contradicts itself; no second source is needed or claimed."""
    events = generator_cases.EventLog().power("2026-03-01T10:22:00", CRASH)
    for number in (161, 162):
        events.volmgr("2026-03-01T10:22:30", number, 0x53, 0xC0000001, "0x53")
    case = opened(tmp_path, {"e.xml": events.xml()})
    assert serious(case) == ["event-dump-failed", "event-dump-outcome-contradictory"]
    assert "a dump was written: event 162 says that" in sentences(case.records)[0]
    assert "were logged 0 s apart" in " ".join(sentences(case.records))


def test_a_single_source_gets_no_statement_over_sources(tmp_path: Path) -> None:
    """Each file of the stories alone."""
    for number, (name, story) in enumerate(STORIES.items()):
        for place, (file, data) in enumerate(story.files.items()):
            if file == "mail.txt":
                continue
            case = opened(tmp_path / f"{number}-{place}", {file: data})
            cases = [f.rule for f in case.records["findings"] if f.rule.startswith("case-")]
            assert cases in ([], ["case-several-crashes"]), (name, file)
