"""What two sources say together, at the limits: each condition of a check turned round once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import make  # noqa: F401 - makes the generators importable

# isort: split
import generator_cases as cases
from test_checks_limits import NONE, dump, of, row

import analyzer
from analyzer.checks import case, case_filters
from analyzer.checks.case_seen import CaseSeen
from analyzer.records import Anomaly, Crash, Machine, Origin, Setting, Stage

LOG, EVENTS, REG, DUMP = "d.log", "s.xml", "c.reg", "a.dmp"
KINDS = {LOG: "dumpstack.log", EVENTS: "event log XML", REG: "registry export", DUMP: "kernel dump"}
MB = 1 << 20


def at(source: str, how: str = "made", confidence: str = "certain") -> Origin:
    """A place in a source."""
    return Origin(source, how, confidence, None, None)


def told(source: str, rule: str, how: str = "made", **facts: Any) -> Anomaly:
    """What a source reported."""
    return Anomaly(rule, "x", at(source, how), "f.sys", (), facts)


def crash(
    source: str, tells: str, outcome: Any = None, number: int = 1, sure: str = "certain"
) -> Any:
    """A piece of a crash."""
    given = {"crash": number, "tells": tells, "outcome": outcome, "why": "w"}
    return row(Crash, source, origin=at(source, confidence=sure), **given)


def setting(name: str, value: str, key: str = "CrashControl") -> Any:
    """A value of the registry."""
    return row(Setting, REG, key=key, name=name, value=value)


def said(check: Any, *rows: Any, reported: Any = ()) -> list[tuple[str, str]]:
    """(subject, text) of one check over all four sources."""
    records = of(*(dump(path, kind) for path, kind in KINDS.items()), *rows)
    return [(one.subject, one.text) for one in check(CaseSeen(records, list(reported)))]


STUCK = told(LOG, "log-driver-stuck")
MINE = crash(LOG, "dump log")
DIED = "The crash path probably died or hung in the secondary callback of f.sys: d.log ends with "


@pytest.mark.parametrize(
    ("others", "says"),
    [
        ([crash(EVENTS, "event 161", "failed")],
         "its call, and s.xml has event 161 (dump failed) of the same crash."),
        ([crash(DUMP, "kernel dump")],
         "its call, and a.dmp is a kernel dump (cut short) of the same crash."),
        ([crash(DUMP, "kernel dump"), crash(EVENTS, "event 161", "failed", sure="guess")],
         "its call, and s.xml has event 161 (dump failed, taken for this crash by a guess)."),
        ([crash(EVENTS, "event 41")], ""),
        ([crash(EVENTS, "event 161", "failed", number=2)], ""),
        ([crash(EVENTS, "event 161", "failed"), crash(DUMP, "kernel dump", "written")], ""),
        ([crash(EVENTS, "event 161", "failed"), crash(DUMP, "kernel dump", "smaller")], ""),
        ([], ""),
    ],
)  # fmt: skip
def test_a_driver_that_is_stuck(others: Any, says: str) -> None:
    """A second source must say that the dump failed, and none that it was written."""
    found = said(case._stuck, MINE, *others, reported=[STUCK])
    assert found == ([("f.sys", DIED + says)] if says else [])


STALLED = told(LOG, "log-write-stalled")
DISK = ": the disk, its driver or a filter's Dump_Write does not keep up."


@pytest.mark.parametrize(
    ("reported", "rows", "says"),
    [
        ([told(EVENTS, "event-dump-failed", location=0x5001)], [],
         "in s.xml event 161 says that the port driver's write failed"),
        ([told(EVENTS, "event-dump-failed", location=0x5002)], [], ""),
        ([told(EVENTS, "event-dump-failed", location=0x5001)], [crash(DUMP, "x", number=2)],
         "in s.xml event 161 says that the port driver's write failed"),
        ([told(EVENTS, "event-storage-errors")], [],
         "in s.xml storage errors were logged before a restart"),
        ([told(EVENTS, "event-storage-errors")], [crash(DUMP, "x", number=2)], ""),
        ([told(DUMP, "storage-request-slow")], [crash(DUMP, "kernel dump")],
         "in a.dmp the dump shows slow or failed storage requests"),
        ([told(DUMP, "storage-request-failed")], [crash(DUMP, "kernel dump", number=2)], ""),
        ([], [], ""),
    ],
)  # fmt: skip
def test_writing_that_stalls(reported: Any, rows: Any, says: str) -> None:
    """What another source says of the same crash."""
    pieces = [MINE, crash(EVENTS, "event 161", "failed")]
    found = said(case._stalled, *pieces, *rows, reported=[STALLED, *reported])
    text = f"d.log shows that writing memory to the disk stalled, and {says}{DISK}"
    assert found == ([("storage", text)] if says else [])


REDUCED = told(LOG, "log-dump-type-reduced", too_small=True)
SPACE = told(DUMP, "dump-space-insufficient")
SIZE = row(Stage, LOG, stage="dump-size", amount=100 * MB)
NEED = " (104,857,600 bytes were announced)"


@pytest.mark.parametrize(
    ("first", "rows", "reported", "need", "says"),
    [
        (REDUCED, [], [told(REG, "registry-page-file-too-small")], "",
         "in c.reg PageFileTooSmall is set"),
        (told(LOG, "log-dump-type-reduced"), [], [told(REG, "registry-page-file-too-small")],
         "", ""),
        (SPACE, [], [told(REG, "registry-page-file-too-small")], "",
         "in c.reg PageFileTooSmall is set"),
        (REDUCED, [SIZE, setting("DumpFileSize", "99")], [], NEED,
         "in c.reg DumpFileSize is 99 MB"),
        (REDUCED, [SIZE, setting("DumpFileSize", "0x63")], [], NEED,
         "in c.reg DumpFileSize is 99 MB"),
        (REDUCED, [SIZE, setting("DumpFileSize", "100")], [], NEED, ""),
        (REDUCED, [SIZE, setting("DumpFileSize", "0")], [], NEED, ""),
        (REDUCED, [SIZE, setting("DumpFileSize", "x9")], [], NEED, ""),
        (REDUCED, [setting("DumpFileSize", "99")], [], "", ""),
        (REDUCED, [SIZE._replace(stage="other"), setting("DumpFileSize", "99")], [], "", ""),
        (REDUCED, [SIZE._replace(origin=at(DUMP)), setting("DumpFileSize", "99")], [], "", ""),
        (REDUCED, [SIZE, SIZE._replace(amount=NONE), SIZE._replace(amount=50 * MB),
                   setting("DumpFileSize", "99")], [], NEED, "in c.reg DumpFileSize is 99 MB"),
        (SPACE, [row(Machine, DUMP, required_dump_space=100 * MB), setting("DumpFileSize", "99")],
         [], NEED, "in c.reg DumpFileSize is 99 MB"),
        (REDUCED, [SIZE, setting("PagingFiles[0]", "c:\\p.sys 16 99")], [], NEED,
         "in c.reg the page file may have 99 MB at most"),
        (REDUCED, [SIZE, setting("PagingFiles[0]", "c:\\p.sys 16 100")], [], NEED, ""),
        (REDUCED, [SIZE, setting("PagingFiles[0]", "c:\\p.sys 16 9"),
                   setting("PagingFiles[1]", "d:\\p.sys 16 99")], [], NEED,
         "in c.reg the page file may have 99 MB at most"),
        (REDUCED, [SIZE, setting("PagingFiles[0]", "c:\\p.sys 16 9"),
                   setting("PagingFiles[1]", "?:\\p.sys")], [], NEED, ""),
        (REDUCED, [SIZE, setting("PagingFiles[0]", "c:\\p.sys 16 9"),
                   setting("DedicatedDumpFile", "x")], [], NEED, ""),
        (REDUCED, [], [told(EVENTS, "event-dump-failed", status=0xC000007F)], "",
         "in s.xml event 161 says that there was no space"),
        (REDUCED, [], [told(EVENTS, "event-dump-failed", status=0xC0000099)], "",
         "in s.xml event 161 says that there was no space"),
        (REDUCED, [], [told(EVENTS, "event-dump-failed", status=0xC0000001)], "", ""),
        (SPACE, [], [told(EVENTS, "event-dump-failed", status=0xC000007F)], "", ""),
        (REDUCED, [], [], "", ""),
    ],
)  # fmt: skip
def test_a_dump_file_that_is_too_small(
    first: Anomaly, rows: Any, reported: Any, need: str, says: str
) -> None:
    """By the settings, as far as they are below what was announced, or by event 161."""
    pieces = [MINE, crash(EVENTS, "event 161", "failed"), crash(DUMP, "kernel dump", number=2)]
    found = said(case._too_small, *pieces, *rows, reported=[first, *reported])
    name = first.origin.source
    text = f"{name} says that the dump file was too small{need}, and {says}: the file that takes "
    assert found == ([("dump file", f"{text}the dump is too small.")] if says else [])


LARGER = {"1": "a complete or active memory dump", "2": "a kernel memory dump",
          "7": "an automatic memory dump"}  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "dump_type", "attributes", "outcome", "is_smaller"),
    [
        ("1", 4, 0x8, None, True), ("2", 4, 0x8, None, True), ("7", 4, 0x8, None, True),
        ("3", 4, 0x8, None, False), ("1", 4, 0x7, None, False), ("1", 4, NONE, None, False),
        ("1", 4, 0, "smaller", True), ("1", 4, 0, "written", False),
        ("1", 2, 0, "smaller", True), ("1", 6, 0, "smaller", True), ("1", 8, 0, "smaller", True),
        ("1", 5, 0, "smaller", False), ("2", 6, 0, "smaller", False), ("7", 2, 0x8, None, False),
    ],
)  # fmt: skip
def test_a_dump_smaller_than_asked_for(
    asked: str, dump_type: int, attributes: Any, outcome: Any, is_smaller: bool
) -> None:
    """By the header's own word, or where a source says that it became smaller."""
    one = row(Machine, DUMP, dump_type=dump_type, attributes=attributes)
    piece = crash(DUMP, "kernel dump", outcome)
    found = said(case._type_smaller, one, piece, setting("CrashDumpEnabled", asked))
    text = (
        f"c.reg asks for {LARGER.get(asked)}, but a.dmp tells of a smaller dump: Windows switched "
        "to a smaller dump, or the setting is newer."
    )
    assert found == ([("dump type", text)] if is_smaller else [])


@pytest.mark.parametrize(("source", "dump_type", "told_so"),
                         [(LOG, 4, True), (LOG, 6, False), (DUMP, 4, False)])  # fmt: skip
def test_a_log_tells_the_type_that_was_written(source: str, dump_type: int, told_so: bool) -> None:
    """A minidump file may be made of a larger dump."""
    one = row(Machine, source, dump_type=dump_type, dump_type_name="small dump", attributes=0)
    found = said(case._type_smaller, one, setting("CrashDumpEnabled", "2"))
    assert bool(found) is told_so
    assert all("d.log tells of small dump: Windows switched" in text for _, text in found)


OFF, NO_LOG = told(REG, "registry-dump-disabled"), told(REG, "registry-log-disabled")


@pytest.mark.parametrize(
    ("rows", "dump_off", "log_off"),
    [
        ([crash(EVENTS, "event 41")], "event 41", "event 41"),
        ([crash(EVENTS, "event 41"), crash(EVENTS, "event 161", "failed", 2)],
         "event 161 (dump failed)", "event 161 (dump failed)"),
        ([crash(EVENTS, "event 41", "written")], "", "event 41 (dump written)"),
        ([crash(EVENTS, "event 41", "smaller")], "", "event 41 (smaller dump written)"),
        ([crash(EVENTS, "event 41"), crash(DUMP, "kernel dump", "written")], "",
         "kernel dump (dump written)"),
        ([crash(EVENTS, "event 41"), crash(DUMP, "kernel dump")], "", "kernel dump (cut short)"),
        ([MINE], "", ""),
        ([MINE, crash(EVENTS, "event 41")], "", ""),
        ([MINE, crash(EVENTS, "event 41", number=2)], "", "event 41"),
        ([], "", ""),
    ],
)  # fmt: skip
def test_what_was_switched_off(rows: Any, dump_off: str, log_off: str) -> None:
    """Where there is a crash without what would have been written."""
    found = said(case._switched_off, *rows, reported=[OFF, NO_LOG])
    texts = dict(found)
    assert len(texts) == len(found) == bool(dump_off) + bool(log_off)
    tail = "such a crash leaves no dump, unless the setting is newer."
    assert ("CrashDumpEnabled" in texts) is bool(dump_off)
    if dump_off:
        assert texts["CrashDumpEnabled"] == (
            f"CrashDumpEnabled is 0 in c.reg, and s.xml tells of a crash ({dump_off}): {tail}"
        )
    if log_off:
        source = DUMP if "kernel" in log_off else EVENTS
        assert texts["EnableLogFile"] == (
            f"{source} tells of a crash ({log_off}), but no dump log of it was given: by c.reg "
            "EnableLogFile is off, so Windows writes none."
        )
    assert said(case._switched_off, *rows) == []


@pytest.mark.parametrize(
    ("one", "other", "contradict"),
    [
        (crash(LOG, "dump log", "written"), crash(EVENTS, "event 161", "failed"), True),
        (crash(LOG, "dump log", "smaller"), crash(EVENTS, "event 161", "failed"), True),
        (crash(LOG, "dump log", "written"), crash(EVENTS, "event 161", "failed", 2), False),
        (crash(LOG, "dump log", "written"), crash(LOG, "event 161", "failed"), False),
        (crash(LOG, "dump log", "written"), crash(EVENTS, "event 162", "written"), False),
        (crash(LOG, "dump log"), crash(EVENTS, "event 161", "failed"), False),
    ],
)
def test_outcomes_that_contradict_each_other(one: Any, other: Any, contradict: bool) -> None:
    """Of one crash, by two sources, in either order."""
    text = (
        "d.log says that the dump of crash 1 was written (dump log), but s.xml says that it failed "
        "(event 161)."
    )
    for rows in ((one, other), (other, one)):
        assert said(case._contradictory, *rows) == [("crash 1", text)] * contradict


@pytest.mark.parametrize(
    ("own", "stage", "how"),
    [(0x46, 0x46, "the same"), (0x2046, 0x46, "the same"), (0x45, 0x46, "another"),
     (NONE, 0x46, ""), (0x46, None, "")],
)  # fmt: skip
def test_where_the_dump_stopped(own: Any, stage: Any, how: str) -> None:
    """The last stage of the same crash's log; flags do not make it another."""
    rows = [row(Stage, LOG, progress=0x10), row(Stage, LOG, progress=own),
            row(Stage, DUMP, progress=0x11)]  # fmt: skip
    failed = told(EVENTS, "event-dump-failed", progress=stage)
    rows = rows if own is not NONE else rows[1:]
    found = said(
        case._progress, *rows, MINE, crash(EVENTS, "event 161", "failed"), reported=[failed]
    )
    assert len(found) == bool(how)
    assert all(f"the last one in d.log is {how}: {own:#x} (" in text for _, text in found)
    assert said(case._progress, *rows, MINE, reported=[failed]) == []
    apart = crash(EVENTS, "event 161", "failed", 2)
    assert said(case._progress, *rows, MINE, apart, reported=[failed]) == []


@pytest.mark.parametrize(
    ("filters", "number", "others"),
    [
        (["dumpfve.sys", "b.sys", "a.sys"], 7, "b.sys and a.sys"), (["DUMPFVE.SYS"], 7, ""),
        (["b.sys"], 7, "b.sys"), (["b.sys"], 8, ""), ([], 7, ""),
    ],
)  # fmt: skip
def test_a_hibernation_stack_that_failed(filters: list[str], number: int, others: str) -> None:
    """Registered filters besides the one of Windows; the first of them is the subject."""
    rows = [setting(f"DumpFilters[{n}]", name) for n, name in enumerate(filters)]
    failed = told(EVENTS, "event-dump-stack-failed", event_id=number, status=0xC0000034)
    found = said(case_filters._hibernation, *rows, reported=[failed])
    assert [subject for subject, _ in found] == ([others.partition(" and ")[0]] if others else [])
    for _, text in found:
        assert (
            "could not be initialised with STATUS_OBJECT_NAME_NOT_FOUND (0xc0000034), and c.reg "
            f"registers {others} besides dumpfve.sys: hibernation"
        ) in text


@pytest.mark.parametrize(
    ("status", "is_told"),
    [
        (0xC0000034, True), (0xC000003A, True), (0xC000000F, True),  # ntstatus.h: not there
        (0xC0000035, False), (0xC000003B, False), (0xC0000010, False), (0xC0000022, False),
    ],
)  # fmt: skip
def test_a_filter_whose_file_is_missing(status: int, is_told: bool, tmp_path: Path) -> None:
    """Which statuses of event 45 say that a file is not there."""
    events = cases.EventLog().volmgr("2026-03-01T07:59:44", 45, 0x2005, status)
    events.power("2026-03-01T11:21:05", cases.CRASH)
    (tmp_path / "System.xml").write_bytes(events.xml())
    (tmp_path / "c.reg").write_bytes(cases.registry(["dumpfve.sys", "oldvendor.sys"]))
    rules = {finding.rule for finding in analyzer.open(tmp_path).records["findings"]}
    assert ("case-filter-file-missing" in rules) is is_told
