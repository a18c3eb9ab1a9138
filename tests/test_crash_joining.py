"""Each piece of evidence at its crash: ten crashes in one hour, with the truth known."""

from __future__ import annotations

import random
import struct
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import event_forms as forms
import generator
import generator_cases as cases
import pytest
from conftest import SAMPLE_TRACES, make
from counting import calls

import analyzer
from analyzer.names import events as table

MINIDUMP = generator.build(generator.Spec("x64", 4, "win8", "healthy")).data
HOUR = datetime(2026, 3, 25, 10, 0, tzinfo=timezone.utc)
EPOCH = 116_444_736_000_000_000


def dump(when: datetime, uptime: int, code: int, parameters: tuple[int, ...]) -> bytes:
    """A minidump with this crash in its header (offsets of DUMP_HEADER64)."""
    data = bytearray(MINIDUMP)
    struct.pack_into("<I4x4Q", data, 0x38, code, *parameters)
    ticks = int(when.timestamp()) * 10_000_000 + EPOCH
    struct.pack_into("<Q", data, 0xFA8, ticks)
    struct.pack_into("<Q", data, 0x1030, uptime * 10_000_000)
    return bytes(data)


def folder(path: Path, seed: int, form: str, are_alike: bool) -> dict[str, int]:
    """Ten crashes of one hour with their events; gives back whose each event is, by its marks."""
    rng = random.Random(seed)
    wrote: list[forms.Written] = []
    truth: dict[str, int] = {}
    begun = HOUR
    for number in range(10):
        code = 0xD1 if are_alike else rng.choice((0xD1, 0x50, 0x9F, 0x3B))
        parameters = (0x28, 2, 0, 0xFFFFF80312345678 + (0 if are_alike else number))
        uptime = rng.randint(90, 220)
        crash = begun + timedelta(seconds=uptime)
        name = f"032526-{4000 + number * 31}-01.dmp"
        (path / name).write_bytes(dump(crash, uptime, code, parameters))
        truth[name] = number + 1
        begun = crash + timedelta(seconds=rng.randint(25, 80))
        stated = f"0x{code:08x} ({', '.join(f'0x{p:016x}' for p in parameters)})"
        report = f"{number:08x}-0001-4a5b-9a3c-000000000001"
        data = [("BugcheckCode", str(code))]
        data += [(f"BugcheckParameter{k}", f"{p:#x}") for k, p in enumerate(parameters, 1)]
        words = f"no. {number}"
        wrote += [
            event("Microsoft-Windows-Kernel-Power", 41, begun, 2, words, tuple(data)),
            event("volmgr", 162, begun, 4, words),
            event("EventLog", 6008, begun, rng.randint(9, 30), words),
            event("Microsoft-Windows-WER-SystemErrorReporting", 1001, begun, rng.randint(12, 60),
                  f"{words} {stated} C:\\Windows\\Minidump\\{name} {report}",
                  (("param1", stated), ("param2", f"C:\\Windows\\Minidump\\{name}"),
                   ("param3", report))),
        ]  # fmt: skip
    how = forms.FORMS[form]
    text = how.write(wrote, forms.DE, how.separators[0])
    (path / "System.txt").write_bytes(text.encode(how.encoding))
    (path / "CrashControl.reg").write_bytes(
        (SAMPLE_TRACES / "logs" / "crash-control.reg").read_bytes()
    )
    last = cases.Crash(code, parameters, f"{crash:%Y/%m/%d}", f"{crash:%H:%M:%S}")
    (path / "DumpStack.log").write_bytes(cases.log(cases.logs.minidump(), last))
    return truth


def event(
    provider: str, number: int, begun: datetime, after: int, words: str, data: Any = ()
) -> forms.Written:
    """One event of the start that began then."""
    guid = table.GUIDS.get(provider.lower(), "")
    when = begun + timedelta(seconds=after)
    return forms.Written(provider, guid, number, 2, when, words, tuple(data))


def wrong_of(path: Path, truth: dict[str, int]) -> tuple[int, int, list[str]]:
    """(pieces that are at another crash, pieces, what they are)."""
    case = analyzer.open(path)
    number: dict[int, int] = {}
    for row in case.records["crashes"]:
        if row.tells == "kernel dump":
            number[truth[Path(row.origin.source).name]] = row.crash
    assert len(set(number.values())) == 10
    places = {(e.origin.how, e.origin.file_offset): k for k, e in enumerate(case.records["events"])}
    wrong = []
    rows = [row for row in case.records["crashes"] if str(row.tells).startswith("event ")]
    for row in rows:
        place = places[row.origin.how, row.origin.file_offset]
        true = number[place // 4 + 1]  # events lie in their order, four of a start
        if row.crash != true:
            wrong.append(f"{row.tells} of start {place // 4 + 1}: {row.why}")
    (log,) = [row for row in case.records["crashes"] if row.tells == "dump log"]
    if log.crash != number[10]:
        wrong.append(f"log: {log.why}")
    return len(wrong), len(rows) + 1, wrong


@pytest.mark.parametrize("are_alike", [True, False])
@pytest.mark.parametrize("form", ["xml", "rendered-xml", "json", "clixml", "friendly"])
def test_ten_crashes_in_one_hour_keep_their_events(
    tmp_path: Path, form: str, are_alike: bool
) -> None:
    """Times in UTC: each of 41 pieces at its crash; with 10 cases that is 0 wrong of 410."""
    truth = folder(tmp_path, len(form), form, are_alike)
    wrong, count, what = wrong_of(tmp_path, truth)
    assert (wrong, count) == (0, 41), what


@pytest.mark.parametrize("form", ["viewer-csv", "copied", "list", "powershell-csv"])
def test_without_a_zone_the_named_dump_file_decides(tmp_path: Path, form: str) -> None:
    """Local times: the events of a start go with its report, which names the dump."""
    truth = folder(tmp_path, 3, form, True)
    wrong, count, what = wrong_of(tmp_path, truth)
    assert (wrong, count) == (0, 41), what


def test_an_event_says_by_what_it_was_joined(tmp_path: Path) -> None:
    """Identity, then bugcheck and time, then the start."""
    folder(tmp_path, 1, "xml", False)
    rows = analyzer.open(tmp_path).records["crashes"]
    first = {row.tells: row for row in rows if row.crash == 1}
    assert first["event 1001"].why == "it names the dump file 032526-4000-01"
    assert first["event 1001"].origin.confidence == "certain"
    assert "event 1001 of System.txt" in first["event 41"].why


def test_what_was_logged_in_the_boot_that_crashed_is_of_an_earlier_crash(tmp_path: Path) -> None:
    """An event between start (crash time less uptime) and crash tells of the crash before it."""
    (tmp_path / "a.dmp").write_bytes(dump(HOUR, 600, 0xD1, (0x28, 2, 0, 0xFFFFF80312345678)))
    crash = cases.Crash(0xD1, (0x28, 2, 0, 0xFFFFF80312345678), "", "")
    log = cases.EventLog().power("2026-03-25T09:58:00", crash)
    (tmp_path / "e.xml").write_bytes(log.xml())
    rows = analyzer.open(tmp_path).records["crashes"]
    assert [(row.crash, row.tells) for row in rows] == [(1, "event 41"), (2, "kernel dump")]


def test_an_unnamed_start_after_another_start_is_not_of_the_crash(tmp_path: Path) -> None:
    """A restart without a code two starts later is another restart."""
    (tmp_path / "a.dmp").write_bytes(dump(HOUR, 600, 0xD1, (0x28, 2, 0, 1)))
    log = cases.EventLog()
    for minute in (5, 20, 40):
        log.add(f"2026-03-25T10:{minute:02d}:00", "Microsoft-Windows-Kernel-General", 12)
    log.power("2026-03-25T10:40:02", None)
    (tmp_path / "e.xml").write_bytes(log.xml())
    rows = analyzer.open(tmp_path).records["crashes"]
    assert [row.tells for row in rows] == ["kernel dump"]


def test_many_logs_cost_no_more_than_their_number() -> None:
    """Three times the dump logs and events take less than five times as long to join."""
    from analyzer.checks import crashes
    from analyzer.records import Machine, Origin, Records, Source

    took = []
    for count in (400, 1_200):
        records = Records()
        for number in range(count):
            path = f"{number}.log"
            origin = Origin(path, "line")
            records.add(make(Source, path=path, kind="dumpstack.log", origin=origin))
            values = {f"parameter{n}": number % 7 for n in range(1, 5)}
            when = number * 30 * 10**9
            records.add(make(Machine, bugcheck=0xD1, system_time=when, origin=origin, **values))
        took.append(calls(lambda records=records: crashes.group(records)))
    assert took[1] < 3.5 * took[0], took


@pytest.mark.parametrize(
    ("second", "shared"),
    [
        ((0xD1, (0x28, 2, 0, 7)), {"bugcheck": 0xD1, "parameter1": 0x28, "parameter4": 7}),
        ((0xD1, (0x28, 2, 0, 8)), {"bugcheck": 0xD1}),
        ((0x50, (0x28, 2, 0, 7)), {"parameter1": 0x28, "parameter4": 7}),
    ],
)
def test_several_dumps_say_what_they_share(
    tmp_path: Path, second: tuple[int, tuple[int, ...]], shared: dict[str, Any]
) -> None:
    """In order of time whatever their names; only what both state alike is shared."""
    (tmp_path / "b.dmp").write_bytes(dump(HOUR, 60, 0xD1, (0x28, 2, 0, 7)))
    (tmp_path / "a.dmp").write_bytes(dump(HOUR + timedelta(hours=2), 60, *second))
    case = analyzer.open(tmp_path)
    rows = [(row.crash, Path(row.origin.source).name) for row in case.records["crashes"]]
    assert rows == [(1, "b.dmp"), (2, "a.dmp")]
    (told,) = [f for f in case.records["findings"] if f.rule == "case-several-crashes"]
    names = ("bugcheck", "parameter1", "parameter4")
    assert {name: told.facts[name] for name in names if name in told.facts} == shared
    assert told.facts["last_time"] - told.facts["first_time"] == 7200 * 10**9
    assert ("All have bugcheck 0xd1" in told.text) == ("bugcheck" in shared)
    assert "from 2026-03-25 10:00:00 to 2026-03-25 12:00:00 UTC" in told.text


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ("01T10:20:30", "0 seconds after"), ("01T10:20:31", "1 second after"),
        ("01T10:20:32", "2 seconds after"), ("01T10:22:29", "119 seconds after"),
        ("01T10:22:30", "2 minutes after"), ("01T12:20:29", "119 minutes after"),
        ("01T12:20:30", "2 hours after"), ("03T10:20:29", "47 hours after"),
        ("03T10:20:30", "2 days after"),
    ],
)  # fmt: skip
def test_words_of_a_distance(tmp_path: Path, when: str, words: str) -> None:
    """Of an event after the crash of 2026-03-01 10:20:30: in the largest unit of which two fit."""
    log = cases.EventLog().power(f"2026-03-{when}", cases.CRASH)
    (tmp_path / "e.xml").write_bytes(log.xml())
    (tmp_path / "DumpStack.log").write_bytes(cases.log(cases.logs.kernel(), cases.CRASH))
    (row,) = (r for r in analyzer.open(tmp_path).records["crashes"] if r.tells == "event 41")
    assert f"logged {words} the crash time of DumpStack.log" in row.why


def test_words_of_events_beside_each_other(tmp_path: Path) -> None:
    """Where no file of the crash itself is there, the events are told by their distance."""
    log = cases.EventLog().power("2026-03-01T10:20:31", cases.CRASH)
    log.reporting("2026-03-01T10:20:33", cases.CRASH, r"C:\Windows\MEMORY.DMP")
    (tmp_path / "e.xml").write_bytes(log.xml())
    rows = {row.tells: row.why for row in analyzer.open(tmp_path).records["crashes"]}
    assert rows == {
        "event 41": "the event states the bugcheck",
        "event 1001": "code and parameters agree; logged 2 seconds after event 41 of e.xml",
    }
