"""Events as evtx_dump, EvtxECmd, Winlogbeat and NXLog write them, through the command line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import shared_names, shared_sample
from test_event_log import packet

import analyzer
from analyzer.cli import main
from analyzer.sources import event_log_evtx

CODE = "0x0000009f (0x0000000000000003, 0xffffe00112345060, 0xfffff80212345178, 0xffffe001abcde010)"
SENTENCE = f"The computer has rebooted from a bugcheck.  The bugcheck was: {CODE}. A dump was saved"
DUMP, REPORT = r"C:\Windows\MEMORY.DMP", "12345678-1234-1234-1234-123456789abc"
WER, GUID = "Microsoft-Windows-WER-SystemErrorReporting", "ABCE23E7-DE45-4366-8631-84FA6C525952"
TIME = "2023-05-06T10:11:12.123456"


def nested(attributes: str = "inside") -> dict[str, Any]:
    """evtx_dump's JSON; its option puts the attributes beside the element."""
    provider, created = {"Name": WER, "Guid": GUID}, {"SystemTime": f"{TIME}Z"}
    system: dict[str, Any] = {
        "Provider": {"#attributes": provider},
        "TimeCreated": {"#attributes": created},
        "EventID": {"#attributes": {"Qualifiers": 16384}, "#text": 1001},
    }
    if attributes == "beside":
        system = {"Provider_attributes": provider, "TimeCreated_attributes": created}
        system |= {"EventID": 1001}
    system |= {"Level": 2, "EventRecordID": 7, "Channel": "System"}
    data = {"param1": CODE, "param2": DUMP, "param3": REPORT}
    xmlns = {"xmlns": "http://schemas.microsoft.com/win/2004/08/events/event"}
    return {"Event": {"#attributes": xmlns, "System": system, "EventData": data}}


def evtxecmd() -> dict[str, Any]:
    """A row of EvtxECmd; its times are UTC and do not say so."""
    data = [{"@Name": f"param{n}", "#text": v} for n, v in enumerate((CODE, DUMP, REPORT), 1)]
    return {
        "RecordNumber": 1, "EventRecordId": "7", "TimeCreated": TIME.replace("T", " "),
        "EventId": 1001, "Level": "Error", "Provider": WER, "Channel": "System",
        "MapDescription": "", "Payload": json.dumps({"EventData": {"Data": data}}),
    }  # fmt: skip


def table(row: dict[str, Any]) -> str:
    """A row as CSV."""
    out = io.StringIO()
    writer = csv.DictWriter(out, row)
    writer.writeheader()
    writer.writerow(row)
    return out.getvalue()


XML = (
    '<Event xmlns="http://schemas.microsoft.com/win/2004/08/events/event"><System>'
    f'<Provider Name="{WER}" Guid="{GUID}"></Provider><EventID Qualifiers="16384">1001</EventID>'
    f'<TimeCreated SystemTime="{TIME.replace("T", " ")} UTC"></TimeCreated>'
    "<Channel>System</Channel></System><EventData>"
    f'<Data Name="param1">{CODE}</Data><Data Name="param2">{DUMP}</Data></EventData></Event>'
)
UTC = "2023-05-06 10:11:12 UTC"
LOCAL = "2023-05-06 10:11:12 (local time)"
FORMS = {
    "evtx_dump -o jsonl": (json.dumps(nested()) + "\n", UTC),
    "evtx_dump -o json": (f"Record 7\n{json.dumps(nested(), indent=2)}\n", UTC),
    "evtx_dump --separate-json-attributes": (json.dumps(nested("beside")), UTC),
    "evtx_dump -o xml": (f'Record 7\n<?xml version="1.0" encoding="utf-8"?>\n{XML}\n', UTC),
    "EvtxECmd --csv": (table(evtxecmd()), UTC),
    "EvtxECmd --json": (json.dumps(evtxecmd()), UTC),
    "Winlogbeat": (
        json.dumps(
            {
                "@timestamp": f"{TIME[:-3]}Z",
                "winlog": {
                    "provider_name": WER, "provider_guid": f"{{{GUID}}}", "event_id": "1001",
                    "channel": "System", "event_data": {"param1": CODE, "param2": DUMP},
                },
            }
        ),
        UTC,
    ),
    "Winlogbeat 6": (
        json.dumps(
            {
                "@timestamp": f"{TIME[:-3]}Z", "type": "wineventlog", "log_name": "System",
                "source_name": WER, "provider_guid": f"{{{GUID}}}", "event_id": 1001,
                "level": "Error", "event_data": {"param1": CODE, "param2": DUMP},
            }
        ),
        UTC,
    ),
    "NXLog": (
        json.dumps(
            {
                "EventTime": "2023-05-06 10:11:12", "EventID": 1001, "SourceName": WER,
                "Channel": "System", "Message": f"{SENTENCE} in: {DUMP}.", "param1": CODE,
                "param2": DUMP,
            }
        ),
        LOCAL,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "when"), FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("times", [1, 2])
def test_a_crash_is_told_in_each_form(
    text: str, when: str, times: int, tmp_path: Path, capsys: Any
) -> None:
    """Code, time with its zone as far as it is known, and the file that was saved; once."""
    path = tmp_path / "export.txt"
    path.write_text(text * times)
    assert main(["analyze", str(path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith(
        f"The machine crashed with bugcheck 0x9F (DRIVER_POWER_STATE_FAILURE) before {when}, and a "
        f"dump was written: event 1001 says that a dump was saved as {DUMP} (export.txt)."
    )


def test_a_parameter_that_is_not_there_is_not_0(tmp_path: Path, capsys: Any) -> None:
    """Event 41 of which some fields were left out."""
    path = tmp_path / "export.json"
    given = {"BugcheckCode": "159", "BugcheckParameter1": "0x3"}
    name = "Microsoft-Windows-Kernel-Power"
    path.write_text(json.dumps({"winlog": {"provider_name": name, "event_id": 41,
                                           "event_data": given}}))  # fmt: skip
    assert main(["analyze", str(path), "-v"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith("The machine crashed with bugcheck 0x9F (DRIVER_POWER_STATE_FAILURE)")
    assert "parameters 0x0000000000000003" in shown
    assert "not determined: parameter2, parameter3, parameter4" in shown


#: what a dump that the disk would not take leaves: event 161 of volmgr, and its status
PACKET = packet(1, 0xC0000086)
FAILED = {
    "evtx_dump": {
        "Event": {
            "System": {
                "Provider": {"#attributes": {"Name": "volmgr"}}, "EventID": 161, "Version": 0,
                "Level": 2, "Task": 0, "Opcode": 0, "Keywords": "0x80000000000000",
                "TimeCreated": {"#attributes": {"SystemTime": f"{TIME}Z"}}, "EventRecordID": 7,
                "Execution": {"#attributes": {"ProcessID": 4, "ThreadID": 8}},
                "Channel": "System",
            },
            "EventData": {"Data": {"#text": ["", "C:"]}, "Binary": PACKET.hex().upper()},
        }
    },
    "EvtxECmd": {
        "RecordNumber": 1, "EventRecordId": "7", "TimeCreated": TIME, "EventId": 161,
        "Level": "Error", "Provider": "volmgr", "Channel": "System", "ProcessId": 4, "ThreadId": 8,
        "MapDescription": "", "Payload": json.dumps(
            {"EventData": {"Data": "C:", "Binary": PACKET.hex("-").upper()}}
        ),
    },
    "Winlogbeat": {
        "@timestamp": f"{TIME[:-3]}Z", "log": {"level": "error"},
        "winlog": {
            "provider_name": "volmgr", "event_id": "161", "channel": "System", "record_id": 7,
            "process": {"pid": 4, "thread": {"id": 8}}, "keywords": ["Classic"], "version": 0,
            "event_data": {"param2": "C:", "Binary": PACKET.hex()},
        },
    },
    "NXLog": {
        "EventTime": "2023-05-06 10:11:12", "Keywords": -(1 << 63) | 1 << 55, "EventType": "ERROR",
        "SeverityValue": 4, "Severity": "ERROR", "EventID": 161, "SourceName": "volmgr",
        "Version": 0, "TaskValue": 0, "OpcodeValue": 0, "RecordNumber": 7, "Opcode": "Info",
        "ExecutionProcessID": 4, "ExecutionThreadID": 8, "Channel": "System", "Message": "Failed!",
    },
}  # fmt: skip


@pytest.mark.parametrize("form", FAILED)
def test_what_a_tool_keeps_of_an_event_is_told(form: str, tmp_path: Path) -> None:
    """Level, process, version and keywords; the status that the binary data hold."""
    path = tmp_path / "export.json"
    path.write_text(json.dumps(FAILED[form]))
    case = analyzer.open(path)
    (event,) = case.records["events"]
    assert (event.event_id, event.level, event.process_id) == (161, 2, 4)
    keywords = {"evtx_dump": 1 << 55, "NXLog": 1 << 63 | 1 << 55}
    assert event.keyword == keywords.get(form)
    if form != "EvtxECmd":
        assert event.version == 0
    assert ("0xc0000086" in event.text) == (form != "NXLog")
    facts = {f.rule: f.facts for f in case.records["findings"]}["event-dump-failed"]
    assert facts.get("status") == (None if form == "NXLog" else 0xC0000086)


#: what only the file itself shows
OF_THE_FILE = ("event-log-damaged", "event-log-incomplete")


@pytest.mark.parametrize("name", shared_names("evtx/*.evtx"))
@pytest.mark.parametrize("form", ["json", "xml"])
def test_real_logs_tell_the_same_through_evtx_dump(name: str, form: str, tmp_path: Path) -> None:
    """What the library behind evtx_dump writes of a real log: the same events and findings."""
    evtx = pytest.importorskip("evtx")
    if not event_log_evtx.is_proven():
        pytest.skip("older versions of the library do not end on damaged logs")
    path = shared_sample(name)
    try:
        of_file = analyzer.open(path).records
    except analyzer.AnalyzerError:
        return  # refused, and by its own tests
    parser = evtx.PyEvtxParser(str(path))
    rows = iter(parser.records_json() if form == "json" else parser.records())
    written = []
    while True:
        try:
            row = next(rows)
        except StopIteration:
            break
        except RuntimeError:
            continue  # a damaged record
        written.append(f"Record {row['event_record_id']}\n{row['data']}\n")
    if not written:
        return
    export = tmp_path / "export"
    export.write_text("".join(written))
    of_export = analyzer.open(export).records
    unplaced = [event._replace(origin=None) for event in of_file["events"]]
    assert [event._replace(origin=None) for event in of_export["events"]] == unplaced
    told = [(f.rule, f.subject) for f in of_file["findings"] if f.rule not in OF_THE_FILE]
    exported = [(f.rule, f.subject) for f in of_export["findings"] if f.rule not in OF_THE_FILE]
    assert exported == told
