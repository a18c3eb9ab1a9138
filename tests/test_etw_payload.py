"""Payloads decoded without Windows: each kind of schema, with the values the writer put in."""

from __future__ import annotations

import struct
from typing import Any

import etw_writer as w
import pytest
from conftest import shared_sample
from made_inputs import io_error

from analyzer.errors import InputError
from analyzer.etw import manifests, mof, payload, providers, schemas, tracelogging, wpp
from analyzer.etw.decode import Decoder
from analyzer.etw.events import Row, details
from analyzer.etw.trace import Trace

PROVIDER = "8e805eb3-6a8f-4a1e-8f6a-1e4ab35e808e"


def rows_of(trace: Trace) -> list[Row]:
    """All rows with their decoded fields, in time order."""
    return [row for cols in trace.chunks() for row in details(trace, cols)]


def decoded(*events: bytes, decoder: Decoder | None = None) -> list[Row]:
    """The rows of a synthetic trace, without the trace header."""
    writer = w.Writer(buffer_size=65536)
    writer.add(*events)
    trace = Trace.of_bytes(writer.build())
    if decoder is not None:
        trace.decoder = decoder
    return rows_of(trace)[1:]


def fields(row: Row) -> dict[str, object]:
    """Decoded fields by name."""
    assert row.described.fields is not None
    assert row.described.fields.missing == ""
    return row.described.fields.values


# -- real traces ----------------------------------------------------------------------------------


def test_primitive_types_of_perfview() -> None:
    """PerfView's primitive-types.etl: five planets with every basic TraceLogging type."""
    rows = rows_of(Trace.open(str(shared_sample("etl/microsoft_perfview__primitive-types.etl"))))
    rows = [row for row in rows if row.described.told_by == "TraceLogging"]
    assert [fields(row)["string_type"] for row in rows] == [
        "Mercury", "Venus", "Earth", "Mars", "Jupiter",
    ]  # fmt: skip
    assert {row.event.provider for row in rows} == {"solar_system"}
    assert {row.event.name for row in rows} == {"PrimitiveTypesTest"}
    first = fields(rows[0])
    assert first["int16_type"] == -51
    assert first["int32_type"] == -102
    assert first["uint16_type"] == 51
    assert first["uint32_type"] == 102
    # the writer declares this one as type 10, unsigned: -204 as it lies there
    assert first["int64_type"] == 2**64 - 204
    assert first["uint64_type"] == 204
    assert first["guid_type"] == "0ad614c4-0ef4-4225-8013-f44f37cb0397"
    assert first["file_time_type"] == 132756731757990000
    assert first["system_time_type"] == "2021-09-09T14:59:35.799"
    assert all(row.described.fields.left == 0 for row in rows if row.described.fields)


def test_self_describing_single_event_of_perfview() -> None:
    """The compressed single-event trace names its provider, event and field values."""
    path = shared_sample("etl/microsoft_perfview__SelfDescribingSingleEvent.etl")
    rows = [r for r in rows_of(Trace.open(str(path))) if r.described.told_by == "TraceLogging"]
    assert [(row.event.provider, row.event.name) for row in rows] == [("MySource", "TestEvent")]
    values = fields(rows[0])
    assert values
    assert rows[0].described.fields is not None
    assert rows[0].described.fields.left == 0


def test_schemas_embedded_in_a_merged_trace() -> None:
    """PktMon: 12 schemas and 9 maps in the trace decode all 403 of its events to the last byte."""
    trace = Trace.open(str(shared_sample("etl/microsoft_demikernel__PktMon.etl")))
    rows = [r for r in rows_of(trace) if r.described.fields is not None
            and r.described.told_by == "embedded schema"]  # fmt: skip
    assert len(rows) == 403
    assert trace.decoder.counts["embedded schemas"] == 12
    assert trace.decoder.counts["maps"] == 9
    assert {(f.left, f.missing) for r in rows if (f := r.described.fields)} == {(0, "")}
    assert {row.event.provider for row in rows} == {"Microsoft-Windows-PktMon"}
    packet = next(r for r in rows if r.event.event_id == 160)
    assert {"PktGroupId", "OriginalPayloadSize", "LoggedPayloadSize"} <= set(fields(packet))


@pytest.mark.parametrize(
    ("name", "command_line"),
    [("process_data_32_v2", True), ("process_data_64_v2", True), ("process_data_32_v3", True),
     ("process_data_64_v3", True), ("process_data_32_v1", False)],
)  # fmt: skip
def test_kernel_process_events_of_every_version(name: str, command_line: bool) -> None:
    """sawbuck's own test data: notepad.exe, process 1776, parent 988, session 1, user SID."""
    rows = rows_of(Trace.open(str(shared_sample(f"etl/google_sawbuck__{name}.etl"))))
    start = next(row for row in rows if row.event.name == "Process/Start")
    values = fields(start)
    assert start.described.fields is not None
    assert start.described.fields.left == 0
    assert values["ProcessId"] == 1776
    assert values["ParentId"] == 988
    assert values["SessionId"] == 1
    assert values["ImageFileName"] == "notepad.exe"
    # bytes 01050000 00000005 15000000 962cec2c 68fd3106 f1dca4d3 e8030000
    assert values["UserSID"] == "S-1-5-21-753675414-103939432-3550797041-1000"
    if command_line:
        assert values["CommandLine"] == '"C:\\Windows\\system32\\notepad.exe" '


@pytest.mark.parametrize("name", [f"image_data_{b}_v{v}" for b in (32, 64) for v in (0, 1, 2)])
def test_kernel_image_events_of_every_version(name: str) -> None:
    """sawbuck's image events decode to the last byte, ntdll among them, for 32 and 64 bits."""
    rows = rows_of(Trace.open(str(shared_sample(f"etl/google_sawbuck__{name}.etl"))))
    images = [row for row in rows if row.event.name.startswith("Image/")]  # type: ignore[union-attr]
    assert len(images) == 26
    assert {row.described.fields.left for row in images if row.described.fields} == {0}
    assert any(str(fields(row)["FileName"]).endswith("\\ntdll.dll") for row in images)


def test_every_real_tracelogging_payload_is_consumed_to_the_byte() -> None:
    """eBPF for Windows: 13,841 TraceLogging events, none short, none with bytes left."""
    rows = rows_of(
        Trace.open(str(shared_sample("etl/microsoft_ebpf-for-windows__ebpforwindows.etl")))
    )
    told = [row for row in rows if row.described.told_by == "TraceLogging"]
    assert len(told) == 13841
    assert {(r.described.fields.left, r.described.fields.missing)
            for r in told if r.described.fields} == {(0, "")}  # fmt: skip


# -- TraceLogging, every form ---------------------------------------------------------------------


def test_tracelogging_types_counts_structs_and_output_types() -> None:
    """Every in-type, arrays of fixed and given length, a struct, and NTSTATUS by its name."""
    sid = bytes([1, 2, 0, 0, 0, 0, 0, 5]) + struct.pack("<II", 32, 544)
    schema = w.tracelogging("Everything", [
        ("wide", b"\x01"), ("narrow", b"\x02"), ("i8", b"\x03"), ("f", b"\x0b"), ("d", b"\x0c"),
        ("flag", b"\x0d"), ("blob", b"\x0e"), ("sid", b"\x13"), ("hex", b"\x14"),
        ("counted", b"\x16"), ("utf8", b"\x97\x23"), ("status", b"\x88\x0e"),
        ("three", b"\x26\x03\x00"), ("many", b"\x48"), ("tagged", b"\x88\x8e\x81\x01"),
        ("pair", b"\x98\x02"), ("a", b"\x04"), ("b", b"\x02"), ("last", b"\x04"),
    ])  # fmt: skip
    data = w.utf16("wé") + b"n\0" + b"\xff" + struct.pack("<fdI", 1.5, -2.25, 1)
    data += b"\x02\0\xab\xcd" + sid + struct.pack("<I", 0xABC)
    data += b"\x04\0" + "xy".encode("utf-16-le") + b"\x03\0" + "é!".encode()
    data += struct.pack("<I", 0xC0000034) + struct.pack("<HHH", 1, 2, 3)
    data += struct.pack("<HII", 2, 70, 80) + struct.pack("<I", 0)
    data += b"\x09" + b"in\0" + b"\x07"
    row = decoded(w.event(PROVIDER, 0, 2_000_000, data, items=(w.traits("My.Provider"), schema)))[0]
    assert (row.event.provider, row.event.name) == ("My.Provider", "Everything")
    assert fields(row) == {
        "wide": "wé", "narrow": "n", "i8": -1, "f": 1.5, "d": -2.25, "flag": True,
        "blob": b"\xab\xcd", "sid": "S-1-5-32-544", "hex": 0xABC, "counted": "xy", "utf8": "é!",
        "status": 0xC0000034, "three": [1, 2, 3], "many": [70, 80], "tagged": 0,
        "pair": {"a": 9, "b": "in"}, "last": 7,
    }  # fmt: skip
    assert "status=STATUS_OBJECT_NAME_NOT_FOUND" in str(row.event.text)
    assert "tagged=STATUS_SUCCESS" in str(row.event.text)


def test_short_payload_names_the_missing_field() -> None:
    """A payload that ends early keeps what is there and says what is missing."""
    schema = w.tracelogging("Short", [("a", b"\x08"), ("b", b"\x08")])
    row = decoded(w.event(PROVIDER, 0, 2_000_000, b"\x01\0\0\0\x02", items=(schema,)))[0]
    assert row.described.fields is not None
    assert row.described.fields.values == {"a": 1}
    assert row.described.fields.missing == "b"
    assert row.event.text == "a=1, (payload too short for b)"


@pytest.mark.parametrize(("levels", "nested"), [(1, 1), (7, 7), (8, 8), (9, 8)])
def test_structs_in_structs(levels: int, nested: int) -> None:
    """Eight levels deep; what lies deeper stands beside its struct."""
    fields = [(f"s{k}", b"\x98\x01") for k in range(levels)] + [("x", b"\x04")]
    found = tracelogging.schema(w.tracelogging("E", fields)[1])
    assert found is not None
    depth, inside = 0, found.fields
    while inside and inside[0].kind == 24 and inside[0].fields:
        depth, inside = depth + 1, inside[0].fields
    assert depth == nested
    assert [field.name for field in inside] == (["x"] if levels == nested else ["s8"])


def test_damaged_tracelogging_schema_leaves_the_bytes() -> None:
    """A schema item that ends inside a field decodes nothing and says so."""
    broken = (11, b"\x20\0\0Name\0field")
    row = decoded(w.event(PROVIDER, 3, 2_000_000, b"data", items=(broken,)))[0]
    assert row.described.fields is None
    assert "no schema for its 4 bytes" in str(row.event.text)


# -- manifests ------------------------------------------------------------------------------------

MANIFEST = f"""<instrumentationManifest xmlns="http://schemas.microsoft.com/win/2004/08/events">
<instrumentation xmlns:win="http://manifests.microsoft.com/win/2004/08/windows/events"><events>
<provider name="Acme-Dump" guid="{{{PROVIDER.upper()}}}" symbol="P">
<tasks><task name="Start" value="1"/></tasks>
<maps><valueMap name="Kind"><map value="1" message="$(string.k1)"/></valueMap>
<bitMap name="Bits"><map value="0x1" message="$(string.b1)"/>
<map value="0x4" message="$(string.b4)"/></bitMap></maps>
<templates><template tid="T"><data name="Status" inType="win:UInt32" outType="win:NTSTATUS"/>
<data name="Kind" inType="win:UInt8" map="Kind"/><data name="Flags" inType="win:UInt32" map="Bits"/>
<data name="Count" inType="win:UInt16"/><struct name="Item" count="Count">
<data name="Id" inType="win:UInt32"/><data name="Name" inType="win:UnicodeString"/></struct>
<data name="Size" inType="win:UInt32"/><data name="Blob" inType="win:Binary" length="Size"/>
<data name="Chars" inType="win:UnicodeString" length="3"/></template></templates>
<events><event value="17" version="1" symbol="DumpStart" task="Start" template="T"
 message="$(string.e17)"/><event value="18" symbol="Nothing"/></events>
</provider></events></instrumentation><localization><resources culture="en-US"><stringTable>
<string id="k1" value="crash"/><string id="b1" value="read"/><string id="b4" value="write"/>
<string id="e17" value="Dump_Start of %2 returned %1 (%3)%n"/>
</stringTable></resources></localization></instrumentationManifest>"""


def manifest_payload() -> bytes:
    """A payload of event 17."""
    data = struct.pack("<IBIH", 0xC00000B5, 1, 5, 2)
    data += struct.pack("<I", 7) + w.utf16("one") + struct.pack("<I", 8) + w.utf16("two")
    return data + struct.pack("<I", 2) + b"\xca\xfe" + "abc".encode("utf-16-le")


def check_manifest_row(row: Row) -> None:
    """What event 17 must decode to, whoever told the manifest."""
    assert fields(row) == {
        "Status": 0xC00000B5, "Kind": 1, "Flags": 5, "Count": 2,
        "Item": [{"Id": 7, "Name": "one"}, {"Id": 8, "Name": "two"}], "Size": 2,
        "Blob": b"\xca\xfe", "Chars": "abc",
    }  # fmt: skip
    assert (row.event.provider, row.event.name) == ("Acme-Dump", "DumpStart")
    assert row.event.text == "Dump_Start of crash returned STATUS_IO_TIMEOUT (read | write)"


def test_manifest_given_by_the_user(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """A .man file gives names, maps, structs, lengths by field, and the message."""
    path = tmp_path / "acme.man"
    path.write_text(MANIFEST)
    row = decoded(w.event(PROVIDER, 17, 2_000_000, manifest_payload(), version=1),
                  decoder=Decoder([str(path)]))[0]  # fmt: skip
    check_manifest_row(row)
    assert row.described.told_by == "manifest"


def test_manifest_sent_in_the_trace_by_an_event_source() -> None:
    """Chunks of id 0xFFFE, out of order and after the event, are put together and used."""
    xml = MANIFEST.encode()
    third = len(xml) // 3 + 1
    chunks = [
        w.event(PROVIDER, 0xFFFE, 3_000_000 + k,
                struct.pack("<BBBBHH", 1, 1, 0, 0x5B, 3, k) + xml[k * third : (k + 1) * third])
        for k in (2, 0, 1)
    ]  # fmt: skip
    rows = decoded(w.event(PROVIDER, 17, 2_000_000, manifest_payload(), version=1), *chunks)
    check_manifest_row(rows[0])
    assert rows[0].described.told_by == "EventSource manifest"
    assert [row.event.name for row in rows[1:]] == ["ManifestData"] * 3


@pytest.mark.parametrize(
    "xml",
    [b"", b"<a>", b"\xff\xfe<", b'<!DOCTYPE x [<!ENTITY a "b">]><instrumentationManifest/>',
     b"<" * 1000],
)  # fmt: skip
def test_hostile_manifests_are_refused(xml: bytes) -> None:
    """Broken XML and document types raise InputError, no expansion takes place."""
    with pytest.raises(InputError):
        manifests.parse(xml, "manifest")


def test_incomplete_manifest_in_the_trace_is_reported() -> None:
    """A missing chunk leaves the events undecoded and is named."""
    writer = w.Writer()
    writer.add(w.event(PROVIDER, 0xFFFE, 2_000_000, struct.pack("<BBBBHH", 1, 1, 0, 0x5B, 2, 0)))
    trace = Trace.of_bytes(writer.build())
    len(trace)
    assert trace.decoder.broken == [f"{PROVIDER}: manifest incomplete"]


# -- WPP ------------------------------------------------------------------------------------------

MARKS = "LEVEL=ERROR FLAGS=Init FUNC=AcmeStart"
TMF = f"""// PDB: acme.pdb
{PROVIDER} acmeflt // SRC=filter.c MJ= MN=
#typev filter_c42 10 "%0%!FUNC! Dump_Start ext=%10!p! status=%11!s! name=%12!s!" // {MARKS}
{{
Extension, ItemPtr -- 10
Status, ItemNTSTATUS -- 11
Name, ItemWString -- 12
}}
#typev filter_c50 11 "%0retries %10!d! mask %11!08x! kind %12!s! %%done" // FUNC=AcmeWrite
{{
Retries, ItemLong -- 10
Mask, ItemULongX -- 11
Kind, ItemListLong(crash,hibernate) -- 12
}}
"""


def test_wpp_messages_through_a_tmf_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """A TMF gives the text of messages with their arguments, %!FUNC! and printf forms."""
    path = tmp_path / "acme.tmf"
    path.write_text(TMF)
    rows = decoded(
        w.message(PROVIDER, 10, 2_000_000,
                  struct.pack("<QI", 0xFFFF800012345678, 0xC000009A) + w.utf16("dump_acme.sys")),
        w.message(PROVIDER, 11, 2_000_001, struct.pack("<iII", -3, 0xBEEF, 1)),
        w.message(PROVIDER, 12, 2_000_002, b"?"),
        decoder=Decoder(tmf_files=[str(tmp_path)]),
    )  # fmt: skip
    assert rows[0].event.text == (
        "AcmeStart Dump_Start ext=0xffff800012345678 status=STATUS_INSUFFICIENT_RESOURCES "
        "name=dump_acme.sys"
    )
    assert rows[0].event.provider == "acmeflt"
    assert rows[1].event.text == "retries -3 mask 0000beef kind hibernate %done"
    assert "TMF" in str(rows[2].event.text)
    assert wpp.load(str(path)).keys() == {(PROVIDER, 10), (PROVIDER, 11)}


# -- kernel, built-in providers, I/O error log ----------------------------------------------------


def test_disk_io_and_its_stack() -> None:
    """A disk write and the stack walk event that follows it."""
    write = struct.pack("<IIIIQQQQI", 0, 0x60043, 4096, 0, 0x1000, 1, 2, 50_000_000, 4)
    stack = struct.pack("<QII", 2_000_000, 4, 8) + struct.pack("<QQ", 0xFFFFF80000001234, 0x7FF0)
    rows = decoded(w.perfinfo(0x010B, 2_000_000, write, version=3),
                   w.perfinfo(0x1820, 2_000_001, stack))  # fmt: skip
    assert rows[0].event.name == "DiskIo/Write"
    assert fields(rows[0])["TransferSize"] == 4096
    assert fields(rows[0])["HighResResponseTime"] == 50_000_000
    assert rows[1].event.name == "StackWalk/Stack"
    assert rows[1].event.text == "2 frames: 0xfffff80000001234 0x7ff0"
    assert fields(rows[1])["EventTimeStamp"] == 2_000_000


@pytest.mark.parametrize(
    ("guid", "ident", "version", "data", "text"),
    [
        (providers.KERNEL_IO, 1305, 0, struct.pack("<I", 0xC0000034),
         "Status=STATUS_OBJECT_NAME_NOT_FOUND"),
        (providers.CRASHDUMP, 3, 1, struct.pack("<IQQQ", 1, 1 << 34, 1 << 33, 1500),
         ("IoSpaceEnabled=True, PhysicalMemorySizeInBytes=17179869184, "
          "DumpFileSizeInBytes=8589934592, CreateDumpFileDurationInMs=1500")),
        (providers.CRASHDUMP, 4, 0, struct.pack("<II", 0xC00000A3, 5),
         "Status=STATUS_DEVICE_NOT_READY, FailurePoint=5"),
        (providers.KERNEL_DUMP, 7, 0, struct.pack("<I", 0xC0000001),
         "NTStatus=STATUS_UNSUCCESSFUL"),
        (providers.KERNEL_BOOT, 257, 0, w.utf16("\\a.sys") + struct.pack("<I", 0xC0000022),
         "ModulePath=\\a.sys, Status=STATUS_ACCESS_DENIED"),
        (providers.KERNEL_POWER, 42, 3, struct.pack("<5I", 4, 5, 0, 8, 2),
         "TargetState=4, EffectiveState=5, Reason=0, Flags=0x8, TransitionsToOn=2"),
        (providers.STORPORT, 208, 1,
         struct.pack("<QIBBBBBQ", 1, 0xC0000185, 4, 2, 3, 0x11, 0, 2),
         ("Irp=0x1, NTStatus=STATUS_IO_DEVICE_ERROR, SrbStatus=0x4, ScsiStatus=0x2, "
          "SenseKey=0x3, AddSense=0x11, AddSenseQ=0x0, OriginalIrp=0x2")),
    ],
)  # fmt: skip
def test_built_in_providers(guid: str, ident: int, version: int, data: bytes, text: str) -> None:
    """The crash-dump, power and storage providers are decoded without any manifest."""
    row = decoded(w.event(guid, ident, 2_000_000, data, version=version))[0]
    assert row.event.text == text
    assert row.event.provider == providers.NAMES[guid]
    assert row.described.told_by == "built in"


def test_unknown_version_of_a_built_in_event_is_not_guessed() -> None:
    """A version without a known layout stays undecoded."""
    row = decoded(w.event(providers.CRASHDUMP, 3, 2_000_000, bytes(40), version=9))[0]
    assert row.described.fields is None


def test_classic_io_error_entry_of_volmgr() -> None:
    """volmgr 45 with location 0x2005 and its status, as in Microsoft KB 3211190."""
    data = io_error("volmgr", 0xC004002D, 0x2005, 0xC0000034, ["\\Device\\HarddiskVolume1"])
    row = decoded(w.event(providers.IO_ERROR_LOG, 0, 2_000_000, data, prop=4))[0]
    assert row.event.text == (
        "volmgr event 45 (code 0xc004002d): a crash dump driver could not be loaded; location "
        "0x2005, status STATUS_OBJECT_NAME_NOT_FOUND; \\Device\\HarddiskVolume1"
    )


def entry_of(
    code: int = 0xC004002D, packet: int = 0xC004002D, size: int = 0x28, sid: bytes = b"",
    strings: int = 0, more: bytes = b"", told: int | None = None,
) -> bytes:  # fmt: skip
    """A classic entry whose data are so many bytes of an IO_ERROR_LOG_PACKET."""
    data = (bytes(12) + struct.pack("<III", packet, 0x2005, 0xC0000034)).ljust(size, b"\0")[:size]
    return (
        struct.pack("<QIH", 1, code, 2) + "d".encode("utf-16-le") + bytes(2)
        + struct.pack("<H", len(sid)) + sid + struct.pack("<H", strings if told is None else told)
        + bytes(2 * strings) + struct.pack("<I", len(data)) + data + more
    )  # fmt: skip


SID = bytes([1, 0, 0, 0, 0, 0, 0, 5])


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ({}, "FinalStatus"), ({"size": 0x27}, ""), ({"size": 0x29}, "FinalStatus"),
        ({"packet": 0xC004002E}, ""), ({"packet": 0xC004002C}, ""), ({"size": 0}, ""),
        ({"sid": SID}, "FinalStatus Sid"), ({"sid": SID[:7]}, "FinalStatus"),
        ({"strings": 256}, "FinalStatus"), ({"strings": 257}, None), ({"more": b"x"}, None),
        ({"strings": 1, "told": 2}, None), ({"strings": 2, "told": 1}, None),
    ],
)  # fmt: skip
def test_the_shape_of_a_classic_entry(made: dict[str, Any], told: str | None) -> None:
    """The status is that of a packet which repeats the entry's code, and is there whole."""
    found = providers.error_log_entry(entry_of(**made))
    assert (found is None) is (told is None)
    if found is None or told is None:
        return
    size = made.get("size", 0x28)
    given = {"Time": 1, "ErrorCode": 0xC004002D, "Source": "d"}
    given |= {"Strings": [""] * made.get("strings", 0), "Data": found.values["Data"]}
    given |= {"LocationCode": 0x2005, "FinalStatus": 0xC0000034} if "Status" in told else {}
    given |= {"Sid": "S-1-5"} if "Sid" in told else {}
    assert (found.values, len(found.values["Data"])) == (given, size)
    text = "d event 45 (code 0xc004002d)"
    if "Status" in told:
        text += "; location 0x2005, status STATUS_OBJECT_NAME_NOT_FOUND"
    assert providers.error_log_text(found) == text


def test_real_classic_entries_in_a_minidump_block() -> None:
    """Four real entries of the x64 minidump: VfpExt and VMnetAdapter among them."""
    from test_etw_table import dump_block

    from analyzer.etw.dumpblock import sessions

    block, _, _ = dump_block("dmp/rizinorg_rizin-testbins__triage_x64.dmp")
    rows = rows_of(sessions(block).traces[0])
    entries = [row for row in rows if row.event.name == "ErrorLogEntry"]
    assert len(entries) == 4
    sources = [fields(row)["Source"] for row in entries]
    assert sources.count("VfpExt") == 2
    assert "VMnetAdapter" in sources
    storport = next(row for row in rows if row.event.event_id == 523)
    assert fields(storport)["MiniportEventDescription"] == "No device"
    assert storport.described.fields is not None
    assert storport.described.fields.left == 0


@pytest.mark.parametrize(
    ("size", "pointer", "frames"),
    [(15, 8, 0), (16, 8, 0), (23, 8, 0), (24, 8, 1), (25, 8, 1), (31, 8, 1), (32, 8, 2),
     (19, 4, 0), (20, 4, 1), (21, 4, 1), (24, 4, 2), (24, 0, 1)],
)  # fmt: skip
def test_whole_frames_of_a_stack_walk(size: int, pointer: int, frames: int) -> None:
    """Behind time stamp, process and thread (StackWalk_Event of MSDN); a rest is no frame."""
    width = pointer or 8
    found = mof.stack_frames(bytes(range(size)), pointer)
    assert found == [
        int.from_bytes(bytes(range(at, at + width)), "little")
        for at in range(16, 16 + frames * width, width)
    ]


#: class -> opcodes and versions with a layout (MSDN: Process, Thread, Image, DiskIo, StackWalk)
LAYOUTS = {
    0x03: {(o, v) for o in (1, 2, 3, 4, 39) for v in range(5)} | {(10, v) for v in range(4)},
    0x05: {(o, v) for o in (1, 2, 3, 4) for v in (2, 3)},
    0x14: {(o, v) for o in (2, 3, 4, 10) for v in range(4)} | {(33, v) for v in range(9)},
}


@pytest.mark.parametrize("group", [0x02, 0x03, 0x04, 0x05, 0x14, 0x15])
def test_classes_whose_layout_is_known(group: int) -> None:
    """And no other opcode or version of them."""
    known = {(o, v) for o in range(64) for v in range(9) if mof.schema(group, o, v) is not None}
    assert known == LAYOUTS.get(group, set())


@pytest.mark.parametrize("size", range(0, 60, 3))
def test_decoding_never_reads_behind_the_payload(size: int) -> None:
    """Every schema on payloads of any length ends in values or a missing field."""
    for schema in (providers.schema(*key) for key in providers.WORDS):
        found = payload.decode(schema, bytes(range(size)))
        assert found.left >= 0
        assert isinstance(found.text(), str)


#: tdh.h: _TDH_IN_TYPE from 0, _TDH_OUT_TYPE from 0; TraceLoggingProvider.h: TlgOut from 0 and 35
IN = (
    "null UnicodeString AnsiString Int8 UInt8 Int16 UInt16 Int32 UInt32 Int64 UInt64 Float Double "
    "Boolean Binary GUID Pointer FILETIME SYSTEMTIME SID HexInt32 HexInt64 CountedUnicodeString "
    "CountedAnsiString reserved CountedBinary"
).split()
OUT = (
    "null string datetime byte unsignedbyte short unsignedshort int unsignedint long unsignedlong "
    "float double boolean guid hexbinary hex hex hex hex pid tid port ipv4 ipv6 socketaddress "
    "cimdatetime etwtime xml win32 win32 ntstatus hresult culture json utf8 pkcs7 hex datetime_utc"
).split()
LOGGING = (
    "null noprint string boolean hex pid tid port ipv4 ipv6 socketaddress xml json win32 ntstatus "
    "hresult filetime signed unsigned"
).split()


def test_numbers_of_types() -> None:
    """A type that changes nothing of how a value is shown is left out of the manifests' table."""
    assert dict(enumerate(IN)).items() >= {n: t for t, n in payload.IN_TYPES.items()}.items()
    assert len(set(payload.IN_TYPES.values())) == len(payload.IN_TYPES) == len(IN) - 2
    shown = set(manifests.OUT_TYPES.values())
    assert {n: text for n, text in enumerate(OUT) if text in shown} == schemas.OUT
    last = {n: OUT[n] for n in (35, 36, 37, 38)}
    assert {**dict(enumerate(LOGGING)), **last} == {0: "null", **tracelogging.OUT}
