"""Windows events as people paste them: escaped by a page, quoted, indented, in the form of XP, cut.

The texts are written by hand in forms read off public threads; names and numbers are made up. Each
goes through the command line, as a user's file does.
"""

from __future__ import annotations

import html
import textwrap
from pathlib import Path
from typing import Any, Callable

import pytest

from analyzer.cli import main
from analyzer.sources import collect

Run = Callable[..., tuple[int, str]]

XML = """<Event xmlns="http://schemas.microsoft.com/win/2004/08/events/event">
  <System>
    <Provider Name="Microsoft-Windows-Kernel-Power" Guid="{331c3b3a-2005-44c2-ac5e-77220c37d6b4}" />
    <EventID>41</EventID>
    <TimeCreated SystemTime="2019-04-25T04:34:10.676151000Z" />
    <Channel>System</Channel>
  </System>
  <EventData>
    <Data Name="BugcheckCode">26</Data>
    <Data Name="BugcheckParameter1">0x6001</Data>
    <Data Name="BugcheckParameter2">0x2</Data>
    <Data Name="BugcheckParameter3">0x3</Data>
    <Data Name="BugcheckParameter4">0x4</Data>
    <Data Name="SleepInProgress">0</Data>
    <Data Name="PowerButtonTimestamp">0</Data>
  </EventData>
</Event>
"""
SENTENCE = (
    "The computer has rebooted from a bugcheck.  The bugcheck was: 0x0000009f (0x0000000000000003, "
    "0xffffe00112345060, 0xfffff80212345178, 0xffffe001abcde010). A dump was saved in: "
    "C:\\Windows\\MEMORY.DMP. Report Id: 12345678-1234-1234-1234-123456789abc."
)
COPIED = f"""Log Name:      System
Source:        Microsoft-Windows-WER-SystemErrorReporting
Date:          5/6/2023 10:11:12 AM
Event ID:      1001
Task Category: None
Level:         Error
Keywords:      Classic
User:          N/A
Computer:      HAL
Description:
{SENTENCE}
"""


@pytest.fixture
def run(tmp_path: Path, capsys: Any) -> Run:
    """Analyses a text; its exit code and what it prints, on one line."""

    def analyze(text: str, *options: str) -> tuple[int, str]:
        path = tmp_path / "paste.txt"
        path.write_text(text, encoding="utf-8")
        capsys.readouterr()
        code = main(["analyze", str(path), *options])
        shown = capsys.readouterr()
        return code, " ".join((shown.out + shown.err).split())

    return analyze


def quoted(text: str) -> str:
    """As an answer in a mail or a forum quotes it."""
    return textwrap.indent(text, "> ", bool)


PASTES = {
    "as it is": str,
    "escaped": html.escape,
    "quoted": quoted,
    "quoted and escaped": lambda text: quoted(html.escape(text, quote=False)),
    "indented": lambda text: textwrap.indent(text, "    "),
}


@pytest.mark.parametrize("paste", PASTES.values(), ids=PASTES)
def test_an_event_as_xml_is_read_however_it_was_pasted(paste: Any, run: Run) -> None:
    """A page shows &lt;Event&gt;, a browser a hyphen in front of each element."""
    for text in (XML, XML.replace("<Event ", "- <Event ").replace("<System", "- <System")):
        code, shown = run(paste(text), "-v")
        assert code == 0
        assert shown.startswith(
            "The machine crashed with bugcheck 0x1A (MEMORY_MANAGEMENT) before 2019-04-25 04:34:10"
        )
        assert "0x0000000000006001 0x0000000000000002 0x0000000000000003" in shown


@pytest.mark.parametrize("paste", [PASTES[n] for n in ("as it is", "quoted", "indented")])
def test_copied_text_keeps_its_time_and_its_dump(paste: Any, run: Run) -> None:
    """The form has no zone: the time is told as it stands there."""
    code, shown = run(paste(COPIED))
    assert code == 0
    assert shown.startswith(
        "The machine crashed with bugcheck 0x9F (DRIVER_POWER_STATE_FAILURE) before 5/6/2023 "
        "10:11:12 AM (local time), and a dump was written: event 1001 says that a dump was saved "
        "as C:\\Windows\\MEMORY.DMP (paste.txt)."
    )


@pytest.mark.parametrize("left", [("User",), ("Task Category", "Keywords", "User"), ("Level",)])
def test_lines_that_were_left_out_cost_only_themselves(left: tuple[str, ...], run: Run) -> None:
    """People take out what is of no use, or their name."""
    lines = [line for line in COPIED.splitlines() if not line.startswith(left)]
    assert run("\n".join(lines))[1].startswith(
        "The machine crashed with bugcheck 0x9F (DRIVER_POWER_STATE_FAILURE) before 5/6/2023 "
        "10:11:12 AM (local time), and a dump was written"
    )


def test_a_crash_whose_description_is_gone_is_one(run: Run) -> None:
    """Event 1001 is logged after a bugcheck only, and a table cuts its words."""
    assert run(COPIED.replace(SENTENCE, ""))[1].startswith(
        "The machine crashed before 5/6/2023 10:11:12 AM (local time); whether a dump was written "
        "is not known: event 1001 reports it"
    )


GET_EVENTLOG = f"""
Index              : 12345
EntryType          : Error
InstanceId         : 1001
Message            : {SENTENCE}
Category           : (0)
ReplacementStrings : {{0x0000009f (0x0000000000000003, 0xffffe00112345060, 0xfffff80212345178,
                     0xffffe001abcde010), C:\\Windows\\MEMORY.DMP}}
Source             : Microsoft-Windows-WER-SystemErrorReporting
TimeGenerated      : 5/6/2023 10:11:12 AM
"""
TABLE = """
   ProviderName: Microsoft-Windows-WER-SystemErrorReporting

TimeCreated                      Id LevelDisplayName Message
-----------                      -- ---------------- -------
5/6/2023 10:11:12 AM           1001 Error            The computer has rebooted from a bugcheck.  \
The bugcheck was: 0x0000009f (0x000...
"""


@pytest.mark.parametrize(
    ("text", "dump"),
    [(GET_EVENTLOG, ", and a dump was written"), (TABLE, "; whether a dump was written is not")],
    ids=["Get-EventLog as a list", "a table that cuts"],
)
def test_what_powershell_shows_of_a_crash_is_one(text: str, dump: str, run: Run) -> None:
    """The list has the sentence twice; the table has the code, and cuts what follows it."""
    code, shown = run(text)
    assert code == 0
    assert shown.startswith(
        "The machine crashed with bugcheck 0x9F (DRIVER_POWER_STATE_FAILURE) before 5/6/2023 "
        f"10:11:12 AM (local time){dump}"
    )


def test_a_sentence_does_not_end_inside_brackets(run: Run) -> None:
    """What an event says can be two sentences."""
    said = "Dump file creation failed due to an error. BugCheckProgress was: 0x00040049."
    text = COPIED.replace(SENTENCE, said).replace("ID:      1001", "ID:      161")
    text = text.replace("Microsoft-Windows-WER-SystemErrorReporting", "volmgr")
    headline = run(text)[1].partition(" What is wrong ")[0]
    assert "BugCheckProgress 0x40049" in headline
    assert headline.count("(") == headline.count(")")


def test_the_report_of_a_crash_of_xp_is_read(run: Run) -> None:
    """Event 1003 of "System Error": numbers without 0x, words in any language."""
    _, shown = run(
        "Ereignistyp:\tFehler\nEreignisquelle:\tSystem Error\nEreigniskategorie:\t(102)\n"
        "Ereigniskennung:\t1003\nDatum:\t\t12.11.2007\nZeit:\t\t15:19:32\nBenutzer:\tN/A\n"
        "Computer:\tHAL\nBeschreibung:\nFehlercode 100000d1, 1. Parameter 00000010, 2. Parameter "
        "00000002, 3. Parameter 00000001, 4. Parameter ba940dc2.\n",
        "-v",
    )
    assert shown.startswith(
        "The machine crashed with bugcheck 0x100000D1 (DRIVER_IRQL_NOT_LESS_OR_EQUAL_M) before "
        "12.11.2007 15:19:32 (local time)"
    )
    assert "0x00000000ba940dc2" in shown


@pytest.mark.parametrize("name", ["Save Dump", "BugCheck"])
def test_the_form_of_xp_is_read(name: str, run: Run) -> None:
    """Event Viewer of XP and Server 2003 has other lines in another order, in any language."""
    text = f"""Ereignistyp:\tInformationen
Ereignisquelle:\t{name}
Ereigniskategorie:\tKeine
Ereigniskennung:\t1001
Datum:\t\t12.11.2007
Zeit:\t\t15:19:32
Benutzer:\tNicht zutreffend
Computer:\tHAL
Beschreibung:
0x100000d1 (0x00000010, 0x00000002, 0x00000001, 0xba940dc2).
C:\\WINDOWS\\Minidump\\Mini111207-01.dmp.
"""
    _, shown = run(text)
    assert shown.startswith(
        "The machine crashed with bugcheck 0x100000D1 (DRIVER_IRQL_NOT_LESS_OR_EQUAL_M) before "
        "12.11.2007 15:19:32 (local time), and a dump was written: event 1001 says that a dump was "
        "saved as C:\\WINDOWS\\Minidump\\Mini111207-01.dmp"
    )


def test_lines_with_colons_are_not_an_event_of_xp(run: Run) -> None:
    """A number where the id stands is not enough: a date and a time of day follow it."""
    text = "".join(f"Name {n}: {n}\n" for n in range(8))
    assert run(text)[0] == 2


LEFT = {
    "1001": (
        SENTENCE,
        "0x9F (DRIVER_POWER_STATE_FAILURE), and a dump was written: event 1001 says",
    ),
    "1001 wrapped and quoted": (quoted(textwrap.fill(SENTENCE, 70)), "0x9F (DRIVER_POWER_STATE_"),
    "41 without its frame": (
        XML[XML.index("<Provider") : XML.index("</Event>")].replace("</System>", ""),
        "0x1A (MEMORY_MANAGEMENT) before 2019-04-25 04:34:10 UTC; whether a dump was written is",
    ),
    "41's data": (
        """EventData
BugcheckCode 159
BugcheckParameter1 0x3
BugcheckParameter2 0x4
BugcheckParameter3 0x5
BugcheckParameter4 0x6
SleepInProgress false
""",
        "0x9F (DRIVER_POWER_STATE_FAILURE); whether a dump was written is not known: event 41",
    ),
    "problem report": (
        """Fault bucket 0x133_acme, type 0
Event Name: BlueScreen
Response: Not available

Problem signature:
P1: 133
P2: 1
P3: 1e00
P4: fffff8034a2fa320
P5: 0
P6: 10_0_19041
""",
        "0x133 (DPC_WATCHDOG_VIOLATION); whether a dump was written is not known: event 1001",
    ),
    "problem report with its files": (
        """Event Name: BlueScreen

Problem signature:
P1: 133
P2: 1
P3: 1e00
P4: fffff8034a2fa320
P5: 0
P6: 10_0_19041

Attached files:
C:\\Windows\\Minidump\\051223-21808-01.dmp
""",
        "0x133 (DPC_WATCHDOG_VIOLATION), and a dump was written: event 1001 says that a dump was",
    ),
    "Reliability Monitor": (
        """Problemsignatur
Problemereignisname:\tBlueScreen
Code:\t133
Parameter 1:\t1
Parameter 2:\t1e00
Parameter 3:\tfffff8034a2fa320
Parameter 4:\t0
Betriebsystemversion:\t10_0_19045

Dateien zur Beschreibung des Problems
051223-21808-01.dmp
sysdata.xml
""",
        "0x133 (DPC_WATCHDOG_VIOLATION), and a dump was written: event 1001 says that a dump was",
    ),
    "problem report of 7": (
        """Problem signature:
  Problem Event Name:\tBlueScreen
  OS Version:\t6.1.7601.2.1.0.256.1

Additional information about the problem:
  BCCode:\t116
  BCP1:\tFFFFFA8005F3E010
  BCP2:\tFFFFF8800FE0A3C8
  BCP3:\t0000000000000000
  BCP4:\t0000000000000002

Files that help describe the problem:
  C:\\Windows\\Minidump\\051213-21808-01.dmp
""",
        "0x116 (VIDEO_TDR_FAILURE), and a dump was written: event 1001 says that a dump was saved",
    ),
}


@pytest.mark.parametrize(("text", "says"), LEFT.values(), ids=LEFT)
def test_what_is_left_of_an_event_is_read(text: str, says: str, run: Run) -> None:
    """People paste the sentence, the data or the signature alone."""
    code, shown = run(text)
    assert code == 0
    assert shown.startswith(f"The machine crashed with bugcheck {says}")


def test_a_number_of_more_than_32_bits_is_no_bugcheck(run: Run) -> None:
    """The field of event 41 has 32 bits; the event is one of a restart all the same."""
    _, shown = run(XML.replace(">26<", ">4294967322<"), "-v")
    assert "machine crashed" not in shown
    assert "MEMORY_MANAGEMENT" not in shown
    _, shown = run(XML.replace(">26<", ">-1073741286<"))
    assert shown.startswith("The machine crashed with bugcheck 0xC000021A (STATUS_SYSTEM_PROCESS_")


def test_a_code_of_live_dumps_in_an_event_is_a_crash(run: Run) -> None:
    """Windows says that it restarted from it: nothing else in the report denies that."""
    _, shown = run(COPIED.replace("0x0000009f", "0x00000117"), "-v")
    assert shown.startswith("The machine crashed with bugcheck 0x117 (VIDEO_TDR_TIMEOUT_DETECTED)")
    assert "not made by a crash" not in shown


HYPERV = COPIED.replace("Microsoft-Windows-WER-SystemErrorReporting", "Hyper-V-Worker").replace(
    "Event ID:      1001", "Event ID:      18590"
)
HYPERV = HYPERV.replace("Log Name:      System", "Log Name: Microsoft-Windows-Hyper-V-Worker-Admin")


def test_the_host_of_a_guest_tells_of_its_crash(run: Run) -> None:
    """Hyper-V logs what Windows in a virtual machine told it; of Linux that is no bugcheck."""
    codes = ("0xD1", "0x28", "0x2", "0x0", "0xFFFFF80312345678")
    told = ", ".join(f"ErrorCode{n}: {value}" for n, value in enumerate(codes))
    said = f"'VM 1' has encountered a fatal error. It reported: {told}."
    code, shown = run(HYPERV.replace(SENTENCE, said), "-v")
    assert code == 0
    assert shown.startswith(
        "The machine crashed with bugcheck 0xD1 (DRIVER_IRQL_NOT_LESS_OR_EQUAL) before 5/6/2023 "
        "10:11:12 AM (local time); whether a dump was written is not known: by paste.txt the "
        "guest told its host of the bugcheck."
    )
    assert "the System event log" in shown
    linux = said.replace("0xD1", "0x0").replace("0x28", "0x8100000606570000")
    assert run(HYPERV.replace(SENTENCE, linux))[1].startswith("This is the Microsoft-Windows-Hyp")


def test_a_stop_screen_is_not_an_event(run: Run) -> None:
    """The numbers of a blue screen alone are not Windows' sentence about a dump."""
    assert run("*** STOP: 0x000000D1 (0x0000000C,0x00000002,0x00000000,0xF86B5A89)\n")[0] == 2


@pytest.mark.parametrize(("name", "first"), [("BlueScreen", "133"), ("APPCRASH", "acme.exe")])
def test_the_application_log_tells_of_a_crash_that_was_reported(
    name: str, first: str, run: Run
) -> None:
    """Its event 1001 is of any problem; of one called BlueScreen, P1 to P5 are the bugcheck."""
    values = ("bucket", "0", name, "None", "0", first, "1", "1e00", "fffff8034a2fa320", "0")
    data = "".join(f"<Data>{value}</Data>" for value in values)
    text = XML.replace("Microsoft-Windows-Kernel-Power", "Windows Error Reporting")
    text = text.replace(' Guid="{331c3b3a-2005-44c2-ac5e-77220c37d6b4}"', "")
    text = text.replace(">41<", ">1001<").replace(">System<", ">Application<")
    text = text[: text.index("<Data")] + data + "</EventData></Event>"
    _, shown = run(text)
    if name == "BlueScreen":
        assert shown.startswith("The machine crashed with bugcheck 0x133 (DPC_WATCHDOG_VIOLATION)")
    else:
        assert shown.startswith("This is the Application log")


def test_a_log_without_events_does_not_speak_of_crashes(run: Run) -> None:
    """An export of nothing shows neither a crash nor that there was none."""
    code, shown = run('<?xml version="1.0"?><Events></Events>')
    assert code == 0
    assert shown.startswith(
        "paste.txt holds no event, so it does not tell whether there was a crash"
    )
    assert "shows no crash" not in shown


def test_a_cleared_log_is_told(run: Run) -> None:
    """What stood in it before is gone; who cleared it is not told."""
    text = XML.replace("Microsoft-Windows-Kernel-Power", "Microsoft-Windows-Eventlog")
    text = text.replace(
        "331c3b3a-2005-44c2-ac5e-77220c37d6b4", "fc65ddd8-d6ef-4962-83d5-6e5cfe9ce148"
    )
    text = text.replace(">41<", ">104<")
    text = text[: text.index("<EventData")] + (
        "<UserData><LogFileCleared xmlns='x'><SubjectUserName>erika</SubjectUserName>"
        "<Channel>System</Channel></LogFileCleared></UserData></Event>"
    )
    code, shown = run(text, "-v")
    assert code == 0
    assert "An event log was cleared" in shown
    assert "event 104 says that a log was cleared (System)." in shown
    assert "erika" not in shown


@pytest.mark.parametrize(("more", "is_read"), [(-1, True), (0, False), (1, False)])
def test_the_largest_paste(more: int, is_read: bool, tmp_path: Path) -> None:
    """A text that a page escaped is held whole, so it has a bound: a megabyte."""
    path = tmp_path / "a.txt"
    path.write_bytes(html.escape(XML).ljust((1 << 20) + more).encode())
    assert path.stat().st_size == (1 << 20) + more
    assert len(collect(str(path))["events"]) == is_read


def test_several_remains_have_their_own_times(tmp_path: Path) -> None:
    """Each the last one before its data; without one it has none."""
    data = "<Data Name='BugcheckCode'>{}</Data><Data Name='BugcheckParameter1'>0x1</Data>\n"
    time = "TimeCreated SystemTime='2019-04-25T04:34:{}.676151000Z'\n"
    path = tmp_path / "a.txt"
    text = data.format(1) + time.format(10) + time.format(20) + data.format(2) + time.format(30)
    path.write_text(text + data.format(3) + time.format(40), encoding="utf-8")
    told = [clue.time for clue in collect(str(path)).clues]
    assert [time // 10**9 % 60 if isinstance(time, int) else None for time in told] == [
        None,
        20,
        30,
    ]
