"""What is said of events, through the command: nothing that they do not carry, nothing lost."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import evtx_writer
import generator_cases as cases
import pytest
from counting import calls
from test_event_forms import fault
from test_events_alike import NS, tree

import analyzer
from analyzer import cli, event_findings, sources
from analyzer.absence import is_absent
from analyzer.names import events
from analyzer.sources import event_log

pytest.importorskip("evtx")
DEVICE = [r"\Device\HarddiskVolume3"]


def told(capsys: Any, *paths: Path) -> tuple[int, str]:
    """(exit code, the report as one line)."""
    code = cli.main(["analyze", *map(str, paths)])
    return code, " ".join(capsys.readouterr().out.split())


def write(tmp_path: Path, log: cases.EventLog) -> Path:
    """The log as a file."""
    path = tmp_path / "System.xml"
    path.write_bytes(log.xml())
    return path


def boot(log: cases.EventLog, when: str) -> cases.EventLog:
    """A start of the machine."""
    return log.add(when, "Microsoft-Windows-Kernel-General", 12)


# -- the files of the catalogue --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code", "says", "never"),
    [
        ("events-46-at-boot.xml", 0, "No error and no warning.", "robable cause"),
        (
            "event41-power-button.xml", 1,
            ("Probably why there is no dump: Microsoft-Windows-Kernel-Power event 41 says that the "
            "machine restarted without shutting down (no bugcheck code: power loss, reset, or a "
            "hang; the power button was pressed at 2026-03-02 08:33:39 UTC, 17 s before this "
            "event; this was during a sleep transition)."), "robable cause",
        ),
        (
            "events-hibernate-failed.xml", 1,
            ("fast startup failed (FailureStatus = 0xC00000D4; status 0xc00000d4 "
            "STATUS_NOT_SAME_DEVICE"), "robable cause",
        ),
        ("events-hibernate-failed.xml", 1, "status 0xc000009a STATUS_INSUFFICIENT_RESOURCES", "ZZ"),
        ("events-hibernate-failed.xml", 1, "Look at the hiber_* modules", "ZZ"),
        (
            "evtx-cut-at-chunk.evtx", 1,
            ("evtx-cut-at-chunk.evtx shows no crash, but at least 238 records are missing, by the "
            "numbers of the others, 2 chunks by the file's header; what they told is not known."),
            "robable cause",
        ),
        (
            "event-xml-cut-at-event.xml", 1,
            "The export is cut off; 3 events were found before that.", "robable cause",
        ),
        (
            "ev161-recursive.xml", 1,
            ("BugCheckProgress 0x20042: dump stack initialised, filters started, log begins; a "
            "second bugcheck while this stage was reached"), "ZZ",
        ),
    ],
)  # fmt: skip
def test_the_files_of_the_catalogue(
    capsys: Any, name: str, code: int, says: str, never: str
) -> None:
    """Each gets what its README says is right."""
    found, text = told(capsys, fault(name))
    assert found == code
    assert says in text
    assert never not in text


# -- an event is a culprit only of its crash or boot -----------------------------------------------


def test_a_46_with_a_start_is_no_error(tmp_path: Path, capsys: Any) -> None:
    """Just inside two minutes it comes with the start, a second later it does not."""
    for second, code in ((119, 0), (121, 1)):
        log = boot(cases.EventLog(), "2026-03-02T07:00:00")
        log.add(f"2026-03-02T07:0{second // 60}:{second % 60:02d}", "volmgr", 46, DEVICE, level=2)
        assert told(capsys, write(tmp_path, log))[0] == code
    assert event_findings.EARLY_NS == 120 * 10**9


def test_a_46_that_later_starts_do_not_have_is_history(tmp_path: Path, capsys: Any) -> None:
    """It was before the page file was set up once; nothing crashed since."""
    log = boot(cases.EventLog(), "2026-03-01T07:00:00")
    log.add("2026-03-01T07:10:00", "volmgr", 46, DEVICE, level=2)
    assert told(capsys, write(tmp_path, log))[0] == 1
    boot(log, "2026-03-02T07:00:00")
    assert told(capsys, write(tmp_path, log))[0] == 0
    log.power("2026-03-02T07:00:02", None)  # but the machine did not shut down before it
    assert told(capsys, write(tmp_path, log))[0] == 1


@pytest.mark.parametrize(("starts", "is_culprit"), [(0, True), (1, False)])
def test_a_45_is_the_culprit_of_its_own_boot_alone(
    tmp_path: Path, capsys: Any, starts: int, is_culprit: bool
) -> None:
    """A later start that loaded the stack without a word clears it."""
    log = boot(cases.EventLog(), "2026-03-01T07:00:00")
    log.volmgr("2026-03-01T07:00:30", 45, 0x2005, 0xC0000034)
    if starts:
        boot(log, "2026-03-01T09:00:00")
    boot(log, "2026-03-01T10:21:00").power("2026-03-01T10:21:05", cases.CRASH)
    dump_log = tmp_path / "DumpStack.log"
    dump_log.write_bytes(cases.log(cases.logs.files()["write-stopped.log"] and cases.until(
        cases.logs.kernel(), "Starting get secondary dump callbacks size.")))  # fmt: skip
    _, text = told(capsys, write(tmp_path, log), dump_log)
    assert ("Most probable cause: volmgr event 45" in text) == is_culprit


# -- integrity ------------------------------------------------------------------------------------


def chunks(count: int, each: int) -> bytes:
    """An .evtx of several chunks."""
    first = evtx_writer.build([(NS, tree((events.VOLMGR, 162)))] * each)
    out = bytearray(first[:0x1000])
    for number in range(count):
        part = evtx_writer.build([(NS, tree((events.VOLMGR, 162)))] * each, 1 + number * each)
        out += part[0x1000:]
    struct.pack_into("<Q", out, 0x18, 1 + count * each)
    struct.pack_into("<H", out, 0x2A, count)
    return bytes(out)


def zeroed(data: bytes) -> bytes:
    """The second chunk is empty."""
    return data[:0x11000] + bytes(0x10000) + data[0x21000:]


@pytest.mark.parametrize(
    ("change", "kept", "rules"),
    [
        (lambda data: data, 40, []),
        (lambda data: data[:0x31000], 30, ["event-log-incomplete"]),
        (zeroed, 30, ["event-log-incomplete"]),
        (lambda data: data[:0x11000] + data[0x1000:0x11000] + data[0x21000:], 30,
         ["event-log-incomplete"]),  # the first chunk twice, the second gone
        (lambda data: data + data[0x31000:], 40, []),  # the last chunk twice
        (lambda data: data + bytes(0x10000), 40, []),  # room for more
    ],
    ids=["whole", "cut", "zeroed", "replaced", "repeated", "room"],
)  # fmt: skip
def test_what_an_evtx_says_of_itself_is_compared(
    tmp_path: Path, change: Any, kept: int, rules: list[str]
) -> None:
    """No loss, no warning; a loss is one; what is there twice counts once."""
    path = tmp_path / "x.evtx"
    path.write_bytes(change(chunks(4, 10)))
    records = sources.collect(str(path))
    assert len(records["events"]) == kept
    assert [a.rule for a in records.anomalies] == rules


def test_more_events_than_the_limit_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest are kept, and how many are left out is said; at the limit nothing is."""
    monkeypatch.setattr(event_log, "MOST_EVENTS", 30)
    path = tmp_path / "x.evtx"
    for count, left in ((3, 0), (4, 10)):
        path.write_bytes(chunks(count, 10))
        records = sources.collect(str(path))
        assert len(records["events"]) == 30
        limits = [a for a in records.anomalies if a.rule == "input-limit-reached"]
        assert [a.evidence[0].value for a in limits] == [left] * bool(left)
        if left:
            assert limits[0].text.startswith("Only the last 30 of 40 events of the dump path")
            assert records["events"][0].origin.how == "event 11"


# -- other channels -------------------------------------------------------------------------------


def test_another_log_says_which_it_is(tmp_path: Path, capsys: Any) -> None:
    """Its channel, the time it covers, and that System is needed; not that there was no crash."""
    log = cases.EventLog().add("2026-03-01T10:00:00", "ESENT", 102)
    log.add("2026-03-02T10:00:00", "ESENT", 103)
    path = tmp_path / "a.xml"
    path.write_bytes(log.xml().replace(b"<Channel>System<", b"<Channel>Application<"))
    code, text = told(capsys, path)
    assert code == 0
    assert (
        "This is the Application log from 2026-03-01 10:00:00 UTC to 2026-03-02 10:00:00 UTC. "
        "Crashes, restarts and failed dumps are logged in the System log, so this file does not "
        "tell whether there was one." in text
    )
    assert "tells of no crash" not in text


def test_start_up_needs_none_of_this(tmp_path: Path) -> None:
    """A minidump is analysed without the readers of event text."""
    import generator

    path = tmp_path / "x.dmp"
    path.write_bytes(generator.build(generator.Spec("x64", 4, "win8", "healthy")).data)
    script = (
        "import sys; from analyzer import cli; cli.main(sys.argv[1:]);"
        "print([m for m in sys.modules if 'event_log' in m or 'host_log' in m], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "analyze", str(path)],
        capture_output=True, text=True, check=False, encoding="utf-8",
    )  # fmt: skip
    assert done.stderr.splitlines()[-1] == "[]"


def _many(kind: str, count: int) -> cases.EventLog:
    """A log of one kind of event, half an hour apart, then of another."""
    log = cases.EventLog()
    for number in range(2 * count):
        day, half = divmod(number, 48)
        when = f"{2000 + day // 336}-{day // 28 % 12 + 1:02d}-{day % 28 + 1:02d}"
        when += f"T{half // 2:02d}:{half % 2 * 30:02d}:00"
        second = number >= count
        if kind == "contradictions":
            log.add(when, "volmgr", 162 if second else 161, DEVICE)
        elif second:
            log.add(when, "volmgr", 161, DEVICE)
        else:
            log.power(when, None)
    return log


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["contradictions", "starts"])
def test_many_events_cost_no_more_than_their_number(tmp_path: Path, kind: str) -> None:
    """Three times as many take three times the calls, and a little for sorting."""
    took = []
    for count in (300, 900):
        path = write(tmp_path, _many(kind, count))
        took.append(calls(lambda path=path: analyzer.open(path)))
    assert took[1] < 3.5 * took[0], took


# -- events that break off, or show only a part of themselves --------------------------------------

DIRTY = """<Event xmlns="http://schemas.microsoft.com/win/2004/08/events/event">
<System><Provider Name="Microsoft-Windows-Kernel-Power" /><EventID>41</EventID>
<TimeCreated SystemTime="2024-04-25T04:34:10.6Z" /><Channel>System</Channel></System>
<EventData><Data Name="BugcheckCode">209</Data><Data Name="BugcheckParameter1">0x28</Data>
<Data Name="BugcheckParameter2">0x2</Data></EventData></Event>
"""
NOT_SHOWN = "not show whether there was a bugcheck."


def analysed(path: Path, text: str, capsys: Any) -> str:
    """The report of a text, on one line."""
    path.write_text(text, encoding="utf-8")
    return told(capsys, path)[1]


def test_an_event_that_breaks_off_tells_what_is_whole(tmp_path: Path, capsys: Any) -> None:
    """Wherever it does: no number is taken whose end is not there, and none that is there lost."""
    for end in range(DIRTY.index("<Channel>"), len(DIRTY)):
        text = analysed(tmp_path / "e.xml", DIRTY[:end], capsys)
        if end >= DIRTY.index("209</Data>") + len("209</Data>"):
            assert "with bugcheck 0xD1 (DRIVER_IRQL_NOT_LESS_OR_EQUAL) before 2024-04-25" in text
        else:
            assert "e.xml reports 1 restart without a shutdown" in text
            assert NOT_SHOWN in text
    cut = DIRTY[: DIRTY.index("0x2<") + 2]
    (tmp_path / "e.xml").write_text(f"{cut}\n{DIRTY}", encoding="utf-8")
    rows = analyzer.open(tmp_path / "e.xml").records["machine"]
    assert [row.parameter1 for row in rows] == [0x28] * len(rows)
    assert [row.parameter2 for row in rows if not is_absent(row.parameter2)] == [2]
    assert len(rows) == 2


def test_a_restart_whose_code_is_not_shown_is_not_one_without_a_crash(
    tmp_path: Path, capsys: Any
) -> None:
    """The words of event 41 do not say with which code; its data does."""
    words = (
        "Log Name: System\nSource: Microsoft-Windows-Kernel-Power\nDate: 3/5/2024 10:11:12 AM\n"
        "Event ID: 41\nLevel: Critical\nDescription:\nThe system has rebooted without cleanly "
        "shutting down first.\n"
    )
    text = analysed(tmp_path / "e.txt", words, capsys)
    assert "reports 1 restart without a shutdown" in text
    assert NOT_SHOWN in text
    assert "left nothing" not in text
    stated = DIRTY.replace("209", "0")
    recorded = "and no bugcheck code is recorded: it may have been a crash that left no record"
    assert recorded in analysed(tmp_path / "e.txt", stated, capsys)
    assert NOT_SHOWN in analysed(tmp_path / "e.txt", stated + DIRTY.replace("209", ""), capsys)
