"""One event, five carriers: event log, its XML, a trace, a dump's buffers, a CSV export.

Oracles: the evtx library reads the written .evtx; the layouts of the traced events are packed here
a second time, from the manifests (jdu2600/Windows10EtwEvents).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, Callable
from xml.sax.saxutils import escape

import etw_writer as w
import evtx_writer
import generator
import pytest

from analyzer.etw import providers
from analyzer.names import events
from analyzer.records import Records
from analyzer.sources import collect

pytest.importorskip("evtx")

DEVICE, PATH = r"\Device\HarddiskVolume3", r"C:\Windows\Minidump\030126-5515-01.dmp"
BUGCHECK = "0x000000d1 (0x28, 0x2, 0x0, 0xfffff80312345678)"
STATUS, WRONG = 0xC0000034, struct.pack("<I", 0xC0000034)
#: 2024-03-05 14:07:09 UTC, the crash of the generated dumps, less two minutes
NS = 1709647509 * 10**9


class Case:
    """One event of the table: its data by name, and as bytes of a trace."""

    def __init__(self, data: dict[str, str], payload: bytes = b"", version: int = 0) -> None:
        self.data, self.payload, self.version = data, payload, version


def texts(*values: str) -> bytes:
    """Strings of a payload."""
    return b"".join(map(w.utf16, values))


DIRTY = {
    "BugcheckCode": "209", "BugcheckParameter1": "0x28", "BugcheckParameter2": "0x2",
    "BugcheckParameter3": "0x0", "BugcheckParameter4": "0xfffff80312345678",
    "SleepInProgress": "1", "PowerButtonTimestamp": "133541211290000000", "BootAppStatus": "0",
}  # fmt: skip
#: events with data; the others have none
WITH_DATA: dict[tuple[str, int], Case] = {
    (events.KERNEL_POWER, 41): Case(
        DIRTY,
        struct.pack("<IQQQQIQI", 209, 0x28, 2, 0, 0xFFFFF80312345678, 1, 133541211290000000, 0),
        2,
    ),
    (events.KERNEL_POWER, 42): Case(
        {"TargetState": "5", "EffectiveState": "5"}, struct.pack("<II", 5, 5)
    ),
    (events.KERNEL_POWER, 109): Case(
        {"ShutdownActionType": "5", "ShutdownEventCode": "0", "ShutdownReason": "0"},
        struct.pack("<III", 5, 0, 0),
    ),
    (events.WER, 1001): Case(
        {"param1": BUGCHECK, "param2": PATH, "param3": "7a1d"}, texts(BUGCHECK, PATH, "7a1d")
    ),
    (events.WER, 1000): Case({"param1": BUGCHECK}, texts(BUGCHECK)),
    (events.WER, 1019): Case({"SuspectedDriver": "x.sys"}, texts("x.sys")),
    (events.KERNEL_IO, 1207): Case({"DumpEncryptionFailureReason": "3"}, struct.pack("<I", 3)),
    (events.KERNEL_IO, 1305): Case({"Status": str(STATUS)}, WRONG),
    (events.CRASHDUMP, 4): Case(
        {"Status": str(STATUS), "FailurePoint": "2"}, WRONG + struct.pack("<I", 2)
    ),
    (events.CRASHDUMP, 5): Case({"Status": str(STATUS)}, WRONG),
    (events.KERNEL_BOOT, 16): Case(
        {"FailureStatus": str(STATUS), "FailureMsg": "gone"}, WRONG + texts("gone"), 1
    ),
    (events.KERNEL_BOOT, 29): Case(
        {"FailureStatus": str(STATUS), "FailureMsg": "gone"}, WRONG + texts("gone"), 1
    ),
    **{
        (events.KERNEL_BOOT, number): Case(
            {"ModulePath": "x.sys", "Status": str(STATUS)}, texts("x.sys") + WRONG
        )
        for number in (257, 258)
    },
    **{
        (events.KERNEL_BOOT, number): Case({"Status": str(STATUS)}, WRONG)
        for number in (264, 265, 267)
    },
    **{
        (events.KERNEL_DUMP, number): Case({"NTStatus": str(STATUS)}, WRONG)
        for number in (*range(4, 10), 11)
    },
}


def case_of(key: tuple[str, int]) -> Case:
    """What the event holds."""
    return WITH_DATA.get(key, Case({}))


def is_classic(key: tuple[str, int]) -> bool:
    """True for an event of a source without a manifest; in traces its entry names the source."""
    return key[0] not in events.GUIDS


def strings(key: tuple[str, int]) -> list[str]:
    """The strings of a classic event."""
    return [DEVICE] if key[0] == events.VOLMGR else ["18:00:24", "3/5/2024"]


def code(key: tuple[str, int]) -> int:
    """Severity error, facility I/O."""
    return 0xC0040000 | key[1]


def binary(key: tuple[str, int]) -> bytes:
    """An IO_ERROR_LOG_PACKET, or the two SYSTEMTIMEs of 6008."""
    if key[0] == events.VOLMGR:
        return bytes(0x0C) + struct.pack("<III", code(key), 0x2005, STATUS) + bytes(0x10)
    local = struct.pack("<8H", 2024, 3, 2, 5, 19, 0, 24, 500)
    return local + struct.pack("<8H", 2024, 3, 2, 5, 18, 0, 24, 500) if key[1] == 6008 else b""


# -- carriers --------------------------------------------------------------------------------------


def tree(key: tuple[str, int]) -> evtx_writer.Element:
    """The event as Windows renders it."""
    provider = {"Name": events.SPELLED[key[0]]}
    if not is_classic(key):
        provider["Guid"] = "{" + events.GUIDS[key[0]] + "}"
    data: list[Any] = [("Data", {"Name": n}, text) for n, text in case_of(key).data.items()]
    if is_classic(key):
        data = [("Data", {}, text) for text in strings(key)]
        data += [("Binary", {}, binary(key).hex().upper())] if binary(key) else []
    system = [
        ("Provider", provider, ""), ("EventID", {}, str(key[1])),
        ("Version", {}, str(case_of(key).version)), ("Level", {}, "2"),
        ("TimeCreated", {"SystemTime": "2024-03-05T14:05:09.0000000Z"}, ""),
        ("EventRecordID", {}, "1"), ("Channel", {}, "System"), ("Computer", {}, "HOST1"),
    ]  # fmt: skip
    space = {"xmlns": "http://schemas.microsoft.com/win/2004/08/events/event"}
    return ("Event", space, [("System", {}, system), ("EventData", {}, data)])


def xml_of(element: evtx_writer.Element) -> str:
    """The element as text."""
    name, attributes, inside = element
    more = "".join(f" {key}='{escape(value)}'" for key, value in attributes.items())
    body = escape(inside) if isinstance(inside, str) else "".join(map(xml_of, inside))
    return f"<{name}{more}>{body}</{name}>"


def as_evtx(key: tuple[str, int]) -> bytes:
    """The event in a binary log."""
    return evtx_writer.build([(NS - 120 * 10**9, tree(key))])


def as_xml(key: tuple[str, int]) -> bytes:
    """The event in an export of Event Viewer."""
    return f"<?xml version='1.0'?><Events>{xml_of(tree(key))}</Events>".encode()


def traced(key: tuple[str, int], ts: int) -> bytes:
    """The event in the form of a trace."""
    if not is_classic(key):
        one = case_of(key)
        guid = events.GUIDS[key[0]]
        return w.event(guid, key[1], ts, one.payload, version=one.version, level=2)
    data = struct.pack("<QI", w.FILETIME_2024, code(key))
    for text in (events.SPELLED[key[0]],):
        data += struct.pack("<H", len(text) + 1) + w.utf16(text)
    data += struct.pack("<HH", 0, len(strings(key))) + texts(*strings(key))
    data += struct.pack("<I", len(binary(key))) + binary(key)
    return w.event(providers.IO_ERROR_LOG, 0, ts, data, prop=4)


def as_trace(key: tuple[str, int]) -> bytes:
    """The event in an .etl file."""
    writer = w.Writer()
    writer.add(traced(key, 2_000_000))
    return writer.build()


def as_dump(key: tuple[str, int]) -> bytes:
    """The event in a buffer that Windows saved in a minidump."""
    when = (NS - 120 * 10**9) // 100 + w.EPOCH
    one = traced(key, 1000)
    one += b"\xff" * (-len(one) % 8)
    end = 0x48 + len(one)
    block = struct.pack("<IIIIQQ", 156250, 19041, 3000, 0, when, 10_000_000)
    block += struct.pack("<6I3Q", 0x01EBAFE1, 5, 0x400, 1, 0x1000, 8, when, when, 1000)
    block += "Acme".encode("utf-16-le") * 2
    block += struct.pack("<IIIiqqQHHIIHHQQ", 0x1000, end, end, 0, 0, 0, 0, 0, 5, 3, end, 0x20, 0,
                         0, 0) + one  # fmt: skip
    block += bytes(-len(block) % 8)
    tag = bytes.fromhex("10b7882b931c7c4fb06c655ecc50decc")
    dump = generator.build(generator.Spec("x64", 4, "win8", "healthy")).data
    return dump + struct.pack("<I16sIII", 0x20, tag, len(block), 0, 0) + block


CARRIERS: dict[str, Callable[[tuple[str, int]], bytes]] = {
    "evtx": as_evtx, "xml": as_xml, "etl": as_trace, "dump": as_dump,
}  # fmt: skip


def told(path: Path, data: bytes) -> tuple[Records, list[Any]]:
    """(records, findings of the table) of a file."""
    path.write_bytes(data)
    records = collect(str(path))
    found = [
        (
            a.rule,
            a.text,
            a.subject,
            [(e.label, e.value, e.words) for e in a.evidence],
            dict(a.facts),
        )
        for a in records.anomalies
        if a.rule.startswith("event-")
    ]
    return records, found


def clues(records: Records) -> list[Any]:
    """What was told of crashes and starts, without where and when it was logged."""
    return [clue[:5] + clue[7:-1] for clue in records.clues]


@pytest.mark.parametrize("key", sorted(events.EVENTS))
def test_an_event_means_the_same_wherever_it_was_found(
    tmp_path: Path, key: tuple[str, int]
) -> None:
    """The same findings, texts, evidence, facts and clues from every carrier."""
    expected = None
    known = events.EVENTS[key]
    for name, make in CARRIERS.items():
        if name == "dump" and known.tells in (events.BOOT, events.SHUTDOWN):
            continue  # a dump states its own start; it has not been shut down
        records, found = told(tmp_path / name, make(key))
        rules = [rule for rule, *_ in found]
        if known.rule and not (known.fault == events.BY_STATUS and not case_of(key).data):
            assert known.rule in rules, name
        elif not known.rule:
            assert set(rules) <= {"event-power-button"}, name
        this = (found, clues(records))
        expected = expected or this
        assert this == expected, name


@pytest.mark.parametrize("key", sorted(k for k in events.EVENTS if events.EVENTS[k].rule))
def test_a_csv_export_gives_the_same_rules(tmp_path: Path, key: tuple[str, int]) -> None:
    """What needs the data that the form has lost is missing; nothing else."""
    status = f" The status was 0x{STATUS:08X}." if case_of(key).data else ""
    rows = [
        "Level,Date and Time,Source,Event ID,Task Category",
        f'Error,3/15/2024 2:05:09 PM,{events.SPELLED[key[0]]},{key[1]},None,"It failed.{status}"',
    ]
    _, found = told(tmp_path / "x.csv", "\r\n".join(rows).encode())
    _, expected = told(tmp_path / "x.xml", as_xml(key))
    lost = {"event-payload-short"}
    assert {rule for rule, *_ in found} - lost == {rule for rule, *_ in expected} - lost


def test_every_event_of_the_table_has_a_provider_that_is_spelled() -> None:
    """Names lead to keys and back, GUIDs too."""
    for provider, guid in events.GUIDS.items():
        assert (
            events.provider_key("", guid) == events.provider_key("{x}", f"{{{guid}}}") == provider
        )
        assert events.provider_key(events.SPELLED[provider]) == provider
    assert {provider for provider, _ in events.EVENTS} <= set(events.SPELLED)
