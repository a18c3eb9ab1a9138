"""System event logs: real files against the counts of other readers, payloads, exports, damage."""

from __future__ import annotations

import builtins
import random
import struct
import tracemalloc
from pathlib import Path
from typing import Any, Callable
from xml.sax.saxutils import escape

import pytest

from analyzer.absence import Absent
from analyzer.checks import rules_logs
from analyzer.errors import AnalyzerError, InputError, UnsupportedError, UsageError
from analyzer.names import locations
from analyzer.records import Records
from analyzer.sources import event_log
from analyzer.sources.event_log_evtx import Reader, is_proven
from analyzer.tables import evidence_lines
from analyzer.windows_events import Packet, packet_of

Shared = Callable[[str], Path]
evtx = pytest.importorskip("evtx")

#: records that other readers find (plaso and evtx assert them in their own tests), and what this
#: package counts as lost: the chunk headers announce that many more
COUNTS = {
    "AndrewRathbun_DFIRArtifactMuseum__System.evtx": (1094, 0),
    "log2timeline_plaso__System.evtx": (5009, 0),
    "log2timeline_plaso__System~2.evtx": (1601, 0),
    "omerbenamram_evtx__2-vss_7-System.evtx": (1160, 0),
    "omerbenamram_evtx__Application_no_crc32.evtx": (17, 0),
    "omerbenamram_evtx__sample-with-zero-data-size-event.evtx": (335, 115),
    "omerbenamram_evtx__sample_with_a_bad_chunk_magic.evtx": (270, 280),
    "omerbenamram_evtx__system.evtx": (1881, 0),
    "williballenthin_python-evtx__dns_log_malformed.evtx": (5, 0),
}


def rules(records: Records) -> list[str]:
    """Ids of the anomalies in order."""
    return [anomaly.rule for anomaly in records.anomalies]


def packet(location: int, status: int, code: int = 0xC004002D) -> bytes:
    """An IO_ERROR_LOG_PACKET without dump data, 40 bytes."""
    return struct.pack("<BBHHHHxxIIIIIQ", 0, 0, 0, 1, 0, 0, code, location, status, 0, 0, 0)


def xml_event(
    provider: str,
    number: int,
    data: list[Any] | None = None,
    binary: bytes | None = None,
    level: int = 2,
    time: str = "2026-03-01T10:20:30.1234567Z",
    record: int = 7,
) -> str:
    """One event as Event Viewer exports it."""
    items = "".join(
        f"<Data Name='{item[0]}'>{escape(item[1])}</Data>"
        if isinstance(item, tuple)
        else f"<Data>{escape(item)}</Data>"
        for item in data or []
    )
    items += f"<Binary>{binary.hex().upper()}</Binary>" if binary is not None else ""
    return (
        "<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System>"
        f"<Provider Name='{provider}'/><EventID Qualifiers='49156'>{number}</EventID>"
        f"<Version>0</Version><Level>{level}</Level><Task>0</Task><Opcode>0</Opcode>"
        f"<Keywords>0x80000000000000</Keywords><TimeCreated SystemTime='{time}'/>"
        f"<EventRecordID>{record}</EventRecordID><Execution ProcessID='4' ThreadID='8'/>"
        f"<Channel>System</Channel><Computer>PC</Computer></System>"
        f"<EventData>{items}</EventData></Event>"
    )


def export(tmp_path: Path, *events: str, encoding: str = "utf-8") -> Records:
    """The records of an XML export."""
    path = tmp_path / "System.xml"
    head = f'<?xml version="1.0" encoding="{encoding}" standalone="yes"?><Events>'
    path.write_bytes((head + "".join(events) + "</Events>").encode(encoding))
    return event_log.collect(str(path))


# ---------------------------------------------------------------- real files


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_every_record_is_accounted_for(shared_sample: Shared, name: str) -> None:
    """Read and lost records are those of INDEX.md and of the chunk headers."""
    path = str(shared_sample(f"evtx/{name}"))
    with open(path, "rb") as file:
        reader = Reader(path, file)
        given = sum(1 for _ in reader)
    if is_proven():
        assert (given, reader.decoded, reader.lost) == (COUNTS[name][0], *COUNTS[name])
    else:  # chunks with a wrong checksum are counted, not decoded
        assert (given + reader.lost, given == reader.decoded) == (sum(COUNTS[name]), True)


def test_a_cut_file_keeps_the_whole_chunks_and_what_the_last_holds(shared_sample: Shared) -> None:
    """Plaso counts 194 records in the whole chunks; the cut chunk announces 90 more."""
    path = str(shared_sample("evtx/log2timeline_plaso__System2.evtx"))
    with open(path, "rb") as file:
        reader = Reader(path, file)
        assert sum(1 for _ in reader) - reader.from_cut_chunk == 194
    assert reader.cut_chunk
    # the last one is cut; a library that is not trusted with damaged chunks gets none of them
    assert (reader.from_cut_chunk, reader.lost) == ((89, 1) if is_proven() else (0, 90))


def test_events_of_a_real_log(shared_sample: Shared) -> None:
    """Plaso's second System log: 41 and 6008 twice, WER 1001 once; the rest are starts and stops.

    The last moment alive is the UTC half of the data of 6008 (DC0704...0D003B00... is 13:59:13).
    """
    records = event_log.collect(str(shared_sample("evtx/log2timeline_plaso__System~2.evtx")))
    starts = (12, 13, 109, 6005, 6006)
    found = [event for event in records["events"] if event.event_id not in starts]
    assert [event.text for event in found if event.event_id == 6008] == [
        "last alive at 2012-04-06 13:59:13 UTC",
        "last alive at 2012-04-06 19:09:23 UTC",
    ]
    assert [(e.provider, e.event_id) for e in found] == [
        ("Microsoft-Windows-Kernel-Power", 41),
        ("EventLog", 6008),
        ("Microsoft-Windows-WER-SystemErrorReporting", 1001),
        ("Microsoft-Windows-Kernel-Power", 41),
        ("EventLog", 6008),
    ]
    assert rules(records) == []


def test_wer_1001_of_a_real_log(shared_sample: Shared) -> None:
    """The 1001 record (number 13423, 2012-04-06 14:07:52) names code, parameters, dump, report."""
    records = event_log.collect(str(shared_sample("evtx/log2timeline_plaso__System~2.evtx")))
    (event,) = [event for event in records["events"] if event.event_id == 1001]
    assert event.text == (
        "bugcheck 0x10001 0x00010001 (0x0, 0x0, 0x0, 0x0); dump C:\\Windows\\MEMORY.DMP; "
        "report 040612-50390-01"
    )
    assert event.time == 1333721272 * 10**9  # date -u -d '2012-04-06 14:07:52' +%s
    assert event.origin.how == "event record 13423"
    data = shared_sample("evtx/log2timeline_plaso__System~2.evtx").read_bytes()
    # record header: magic, size, record number
    assert struct.unpack_from("<I4xQ", data, event.origin.file_offset) == (0x2A2A, 13423)
    (machine,) = records["machine"]
    assert (machine.bugcheck, machine.parameter4) == (0x10001, 0)
    assert isinstance(machine.system_time, Absent)


def test_damage_of_a_real_log_is_counted(shared_sample: Shared) -> None:
    """The file with bad chunk headers gives one finding with the counts."""
    name = "evtx/omerbenamram_evtx__sample_with_a_bad_chunk_magic.evtx"
    records = event_log.collect(str(shared_sample(name)))
    # the log is that of another program, and by the numbers of its records many are missing
    assert rules(records) == [
        "event-log-other-channel", "event-log-damaged", "event-log-incomplete",
    ]  # fmt: skip
    records.anomalies[:] = records.anomalies[1:]
    if is_proven():
        assert evidence_lines(records.anomalies[0])[:2] == ["lost = 280", "read = 270"]
        assert records["sources"][0].subtype.startswith(
            "270 records read, 0 of the dump path, 280 damaged; Microsoft-Windows-AppX"
        )
    else:
        assert "readable with evtx" in evidence_lines(records.anomalies[0])[2]


def test_old_evt_is_named_and_refused(shared_sample: Shared) -> None:
    """A .evt file is refused with what to do instead."""
    with pytest.raises(UnsupportedError, match=r"\.evt.*save it as \.evtx"):
        event_log.collect(str(shared_sample("evtx/log2timeline_plaso__SysEvent.Evt")))


def test_missing_library_names_the_command(
    shared_sample: Shared, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without the evtx library: a usage error with the pip command; exports still open."""
    real_import = builtins.__import__

    def no_evtx(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "evtx":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_evtx)
    with pytest.raises(UsageError, match=r"pip install evtx"):
        event_log.collect(str(shared_sample("evtx/log2timeline_plaso__System.evtx")))
    assert export(tmp_path, xml_event("volmgr", 162))["events"]


# ---------------------------------------------------------------- payloads


def test_packet_of_a_real_disk_event() -> None:
    """Disk 51 of sample omerbenamram system.evtx: code 0x80040033, location 0x12d, 0xC000000E."""
    start = "030080000100000000000000330004802D0100000E0000C000000000000000000000000000000000"
    assert packet_of(bytes.fromhex(start)) == Packet(0x80040033, 0x12D, 0xC000000E)


def test_packet_that_is_too_short() -> None:
    """A packet that ends before FinalStatus is no packet."""
    assert packet_of(packet(0x2005, 0xC0000034)[:0x17]) is None


def test_volmgr_45_as_published(tmp_path: Path) -> None:
    """Microsoft KB 3211190: location 0x2005, status 0xC0000034: a filter's file is missing."""
    event = xml_event("volmgr", 45, ["\\Device\\HarddiskVolume2"], packet(0x2005, 0xC0000034))
    records = export(tmp_path, event)
    assert records["events"][0].text == (
        "\\Device\\HarddiskVolume2; location 0x2005: loading the dump filter drivers "
        "(LoadFilterDrivers); status 0xc0000034 STATUS_OBJECT_NAME_NOT_FOUND"
    )
    (found,) = records.anomalies
    assert found.rule == "event-dump-driver-load-failed"
    assert evidence_lines(found) == [
        "event = volmgr 45",
        "location = 0x00002005 (loading the dump filter drivers (LoadFilterDrivers))",
        "status = 0xc0000034 (STATUS_OBJECT_NAME_NOT_FOUND)",
    ]


def test_volmgr_161_as_published(tmp_path: Path) -> None:
    """A public event 161 (location 0x46, status 0xC0000001): 0x46 is a stage, no location code."""
    event = xml_event("volmgr", 161, ["\\Device\\x"], packet(0x46, 0xC0000001, 0xC00400A1))
    records = export(tmp_path, event)
    assert records["events"][0].text == (
        "\\Device\\x; status 0xc0000001 STATUS_UNSUCCESSFUL; BugCheckProgress 0x46: dump complete "
        "callbacks called, dump is being closed"
    )
    assert rules(records) == ["event-dump-failed"]
    (failed,) = (a for a in records.anomalies if a.rule == "event-dump-failed")
    assert [e.label for e in failed.evidence] == ["event", "status", "BugCheckProgress"]


def test_volmgr_161_with_progress_text(tmp_path: Path) -> None:
    """Newer builds give BugCheckProgress as the second text."""
    event = xml_event(
        "volmgr", 161, ["\\Device\\x", "0x00000053"], packet(0x5001, 0xC0000185, 0xC00400A1)
    )
    text = export(tmp_path, event)["events"][0].text
    assert "location 0x5001: writing through the dump port driver" in text
    assert "status 0xc0000185 STATUS_IO_DEVICE_ERROR" in text
    assert text.endswith("BugCheckProgress 0x53: dump ended")


@pytest.mark.parametrize("location", sorted(locations.LOCATIONS))
def test_every_location_code_is_in_words(tmp_path: Path, location: int) -> None:
    """Each documented location code is named in the event's text."""
    event = xml_event("volmgr", 46, [], packet(location, 0xC000009A, 0xC004002E))
    assert locations.LOCATIONS[location] in export(tmp_path, event)["events"][0].text


@pytest.mark.parametrize(
    ("number", "rule"),
    [
        (44, "event-dump-config-failed"), (45, "event-dump-driver-load-failed"),
        (46, "event-dump-init-failed"), (47, "event-dump-config-failed"),
        (48, "event-dump-config-failed"), (49, "event-dump-config-failed"),
        (156, "event-dump-device-gone"), (161, "event-dump-failed"),
        (163, "event-dump-callback-exception"), (164, "event-dump-config-failed"),
    ],
)  # fmt: skip
def test_volmgr_events_give_their_rule(tmp_path: Path, number: int, rule: str) -> None:
    """Each volmgr failure has its rule; one without packet says that the cause is missing."""
    with_packet = export(tmp_path, xml_event("volmgr", number, [], packet(0x2001, 0xC000009A)))
    assert rules(with_packet) == [rule]
    assert rules(export(tmp_path, xml_event("volmgr", number))) == [rule, "event-payload-short"]


def test_volmgr_162_is_no_finding_but_contradicts_161(tmp_path: Path) -> None:
    """162 alone is fine; with 161 in the same second both are reported."""
    created = xml_event("volmgr", 162, record=9)
    assert rules(export(tmp_path, created)) == []
    failed = xml_event("volmgr", 161, [], packet(0x53, 0xC0000001), record=8)
    assert rules(export(tmp_path, failed, created)) == [
        "event-dump-failed",
        "event-dump-outcome-contradictory",
    ]


def test_kernel_power_41_with_bugcheck(tmp_path: Path) -> None:
    """41 gives the code in decimal and the parameters in hexadecimal."""
    data = [("BugcheckCode", "159"), ("BugcheckParameter1", "0x3")]
    data += [(f"BugcheckParameter{n}", f"0xffff{n:012x}") for n in (2, 3, 4)]
    records = export(tmp_path, xml_event("Microsoft-Windows-Kernel-Power", 41, data, level=1))
    (machine,) = records["machine"]
    assert (machine.bugcheck_name, machine.parameter1) == ("DRIVER_POWER_STATE_FAILURE", 3)
    assert machine.parameter4 == 0xFFFF000000000004


def test_41_and_1001_of_one_crash_are_one_machine_row(tmp_path: Path) -> None:
    """Both events name the same bugcheck; the row comes from 1001."""
    data = [("BugcheckCode", "209"), *((f"BugcheckParameter{n}", f"0x{n}") for n in (1, 2, 3, 4))]
    wer = [("param1", "0x000000d1 (0x1, 0x2, 0x3, 0x4)"), ("param2", "C:\\M.DMP")]
    records = export(
        tmp_path,
        xml_event("Microsoft-Windows-Kernel-Power", 41, data, record=1),
        xml_event("Microsoft-Windows-WER-SystemErrorReporting", 1001, wer, record=2),
    )
    (machine,) = records["machine"]
    assert (machine.bugcheck, machine.origin.how) == (0xD1, "event record 2")


@pytest.mark.parametrize(
    ("provider", "number", "data", "expected"),
    [
        ("Microsoft-Windows-Kernel-Dump", 7, [("NTStatus", "3221225473")],
         ["event-dump-stack-failed"]),
        ("Microsoft-Windows-Kernel-Dump", 10, [], []),
        ("Microsoft-Windows-Kernel-IO", 1305, [("Status", "0")], []),
        ("Microsoft-Windows-Kernel-IO", 1305, [("Status", "0xC0000034")],
         ["event-boot-dump-failed"]),
        ("Microsoft-Windows-Kernel-IO", 1207, [("DumpEncryptionFailureReason", "3")],
         ["event-dump-encryption-failed"]),
        ("Microsoft-Windows-Kernel-Boot", 257, [("Status", "3221225524")],
         ["event-boot-dump-failed"]),
        ("Microsoft-Windows-Crashdump", 4, [("Status", "0xC0000001"), ("FailurePoint", "2")],
         ["event-boot-dump-failed"]),
        ("Microsoft-Windows-WER-SystemErrorReporting", 1006, [], ["event-dump-not-saved"]),
        ("Microsoft-Windows-Kernel-Power", 506, [], None),
        ("Service Control Manager", 7000, [], None),
    ],
)  # fmt: skip
def test_other_providers(
    tmp_path: Path, provider: str, number: int, data: list[Any], expected: list[str] | None
) -> None:
    """Failures of the kernel's own dump providers; what is not of the dump path is passed over."""
    records = export(tmp_path, xml_event(provider, number, data))
    assert len(records["events"]) == (expected is not None)
    assert rules(records) == (expected or [])


def test_status_as_signed_decimal(tmp_path: Path) -> None:
    """NTSTATUS fields are written as unsigned or signed decimals; both are named."""
    for text in ("3221225524", "-1073741772"):
        event = xml_event("Microsoft-Windows-Kernel-Dump", 9, [("NTStatus", text)])
        words = export(tmp_path, event)["events"][0].text
        assert words.endswith("status 0xc0000034 STATUS_OBJECT_NAME_NOT_FOUND")


def test_storage_errors_only_before_a_restart(tmp_path: Path) -> None:
    """An error nine minutes before an unexpected restart counts, one an hour before does not."""
    records = export(
        tmp_path,
        xml_event("disk", 51, ["\\Device\\Harddisk0"], packet(1, 0xC0000185), 3,
                  "2026-03-01T09:00:00Z", 1),
        xml_event("stornvme", 11, ["\\Device\\RaidPort0"], None, 2, "2026-03-01T10:11:30Z", 2),
        xml_event("disk", 153, [], None, 4, "2026-03-01T10:19:00Z", 3),
        xml_event("EventLog", 6008, ["10:19:00"], None, 2, "2026-03-01T10:20:30Z", 4),
    )  # fmt: skip
    assert [(e.provider, e.event_id) for e in records["events"]] == [
        ("stornvme", 11),
        ("EventLog", 6008),
    ]
    assert rules(records) == ["event-storage-errors"]


# ---------------------------------------------------------------- exports


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_export_fields(tmp_path: Path, encoding: str) -> None:
    """Time with seven digits, ids, channel and record number of an exported event."""
    event = export(tmp_path, xml_event("volmgr", 162), encoding=encoding)["events"][0]
    assert event.time == 1772360430_123456700  # date -u -d '2026-03-01 10:20:30' +%s
    assert (event.process_id, event.thread_id, event.level, event.session) == (4, 8, 2, "System")
    assert event.keyword == 0x80000000000000
    assert event.origin.how == "event record 7"


def test_csv_export(tmp_path: Path) -> None:
    """Event Viewer's CSV: no binary data and no zone, both said; the stage stands in the text."""
    path = tmp_path / "System.csv"
    path.write_text(
        "Level,Date and Time,Source,Event ID,Task Category\r\n"
        'Error,3/1/2026 10:20:30 AM,volmgr,161,None,"Dump file creation failed due to error during '
        'dump creation. BugCheckProgress was: 0x00000053"\r\n'
        "Information,3/1/2026 10:20:31 AM,Service Control Manager,7036,None,Running.\r\n",
        encoding="utf-8-sig",
    )
    records = event_log.collect(str(path))
    (event,) = records["events"]
    assert isinstance(event.time, Absent)
    assert "3/1/2026 10:20:30 AM" in event.time.detail
    assert event.text.endswith("BugCheckProgress 0x53: dump ended")
    assert rules(records) == ["event-dump-failed", "event-payload-short"]
    assert records["sources"][0].subtype == "2 records read, 1 of the dump path, 0 damaged"


def test_csv_line_without_end_is_read_in_pieces(tmp_path: Path) -> None:
    """A line of 64 MB costs a few megabytes, and is counted as damage."""
    path = tmp_path / "System.csv"
    path.write_text("Level,Date and Time,Source,Event ID,Task Category\n" + "x" * (64 << 20))
    tracemalloc.start()
    records = event_log.collect(str(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20
    assert [a.rule for a in records.anomalies] == ["event-log-damaged"]


def test_csv_export_of_powershell(tmp_path: Path) -> None:
    """Get-WinEvent | Export-Csv names its columns and puts them in another order."""
    path = tmp_path / "System.csv"
    path.write_text(
        '"Message","Id","Version","ProviderName","TimeCreated","LevelDisplayName"\r\n'
        '"Crash dump initialization failed!","46","","volmgr","01.03.2026 10:20:30","Error"\r\n',
        encoding="utf-8",
    )
    (event,) = event_log.collect(str(path))["events"]
    assert (event.provider, event.event_id, event.level) == ("volmgr", 46, 2)


def test_damaged_event_in_an_export_costs_only_itself(tmp_path: Path) -> None:
    """Between two good events one is no XML; both good ones are kept."""
    bad = xml_event("volmgr", 46).replace("</System>", "</Sistem>")
    records = export(tmp_path, xml_event("volmgr", 162), bad, xml_event("volmgr", 162))
    assert len(records["events"]) == 2
    assert rules(records) == ["event-log-damaged"]
    assert evidence_lines(records.anomalies[0]) == ["damaged = 1", "seen = 3"]


def test_entities_are_not_expanded(tmp_path: Path) -> None:
    """A document type with entities is not read at all, so it cannot blow up memory."""
    path = tmp_path / "a.xml"
    event = xml_event("volmgr", 162, ["&x;"]).replace("&amp;x;", "&x;")
    path.write_text(f'<!DOCTYPE x [<!ENTITY x "boom">]><Events>{event}</Events>')
    records = event_log.collect(str(path))
    assert records["events"] == []
    assert rules(records) == ["event-log-damaged"]


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04", b"\0" * 5000])
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    """What is no event log gives one sentence."""
    path = tmp_path / "x.evtx"
    path.write_bytes(data)
    with pytest.raises(InputError):
        event_log.collect(str(path))


# ---------------------------------------------------------------- damage


def damage(path: Path, data: bytes) -> None:
    """Damaged input must end in records or our own error."""
    path.write_bytes(data)
    try:
        records = event_log.collect(str(path))
    except AnalyzerError:
        return
    assert len(records["sources"]) == 1
    assert set(rules(records)) <= set(rules_logs.RULES)


def test_evtx_cut_at_60_places(shared_sample: Shared, tmp_path: Path) -> None:
    """The first two chunks of the log with the crash events, cut at 60 places."""
    data = shared_sample("evtx/log2timeline_plaso__System~2.evtx").read_bytes()[
        : 0x1000 + 2 * 0x10000
    ]
    for place in range(60):
        damage(tmp_path / "a.evtx", data[: len(data) * place // 60])


@pytest.mark.slow
def test_evtx_bit_flips(shared_sample: Shared, tmp_path: Path) -> None:
    """500 copies of one real chunk with bits flipped anywhere, headers included."""
    data = shared_sample("evtx/log2timeline_plaso__System~2.evtx").read_bytes()
    data = data[: 0x1000 + 0x10000]
    rng = random.Random(8)
    for _ in range(500):
        copy = bytearray(data)
        for _ in range(rng.randint(1, 8)):
            copy[rng.randrange(len(copy))] ^= 1 << rng.randrange(8)
        damage(tmp_path / "a.evtx", bytes(copy))


@pytest.mark.slow
def test_export_cut_and_flipped(tmp_path: Path) -> None:
    """An XML export cut at 200 places and with 500 bit flips."""
    events = [xml_event("volmgr", n, ["x"], packet(0x2005, 0xC0000034)) for n in (45, 46, 161)]
    data = ("<Events>" + "".join(events) + "</Events>").encode()
    rng = random.Random(9)
    for place in range(60):
        damage(tmp_path / "a.xml", data[: len(data) * place // 60])
    for _ in range(500):
        copy = bytearray(data)
        for _ in range(rng.randint(1, 6)):
            copy[rng.randrange(len(copy))] ^= 1 << rng.randrange(8)
        damage(tmp_path / "a.xml", bytes(copy))
