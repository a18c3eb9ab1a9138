"""The events of a trace as the events table: rows, frame, filters, several sessions."""

from __future__ import annotations

import struct

import etw_writer as w
import pytest
from conftest import shared_sample

from analyzer import tables
from analyzer.etw import dumpblock, export
from analyzer.etw.dumpblock import sessions
from analyzer.etw.events import EventTable
from analyzer.etw.trace import Trace
from analyzer.records import Event, Records
from analyzer.sources import etl

EBPF = "etl/microsoft_ebpf-for-windows__ebpforwindows.etl"
PROVIDER = "8e805eb3-6a8f-4a1e-8f6a-1e4ab35e808e"


def table(name: str) -> EventTable:
    """The events of a shared trace."""
    return EventTable([Trace.open(str(shared_sample(name)))])


def dump_block(name: str) -> tuple[bytes, int, int]:
    """(ETW block, its file offset, SystemTime of the header) of a shared minidump."""
    raw = shared_sample(name).read_bytes()
    at = raw.find(b"\x10\xb7\x88\x2b\x93\x1c\x7c\x4f")  # GUID tag 2b88b710-1c93-4f7c-...
    size, pre = struct.unpack_from("<II", raw, at + 16)
    begin = at - 4 + 0x20 + pre
    return raw[begin : begin + size], begin, struct.unpack_from("<q", raw, 0xFA8)[0]


@pytest.mark.parametrize(
    "name",
    ["etl/microsoft_perfview__primitive-types.etl", "etl/microsoft_demikernel__PktMon.etl",
     "etl/airbus-cert_etl-parser__AMSITrace.etl"],
)  # fmt: skip
def test_frame_equals_the_table_built_from_rows(name: str) -> None:
    """The trace's own frame has the columns, types and cells of one made record by record."""
    import pandas as pd

    events = table(name)
    pd.testing.assert_frame_equal(events.frame(), tables.frame("events", list(events.rows())))


def test_frame_without_payloads_has_the_same_header_cells() -> None:
    """text=False gives the same columns and header values, and says why text is missing."""
    events = table("etl/microsoft_demikernel__PktMon.etl")
    full, quick = events.frame(), events.frame(text=False)
    assert (full.dtypes == quick.dtypes).all()
    for column in ("time", "event_id", "version", "level", "opcode", "keyword", "processor",
                   "process_id", "thread_id", "session", "file_offset", "found_by"):  # fmt: skip
        assert full[column].equals(quick[column]), column
    assert quick["text"].isna().all()
    assert "text: payloads were not asked for" in quick["not_determined"][0]


def test_frames_of_very_many_events_leave_payloads_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit the default frame says that payloads were left out; asked for, they come."""
    monkeypatch.setattr("analyzer.etw.events.TEXT_LIMIT", 10)
    events = table("etl/airbus-cert_etl-parser__AMSITrace.etl")
    assert events.frame()["text"].isna().all()
    assert events.frame(text=True)["text"].notna().sum() == 20
    assert events.where(provider="AmsiTrace").frame()["text"].notna().sum() == 19


def test_filters_take_provider_name_guid_ids_and_times() -> None:
    """Filters select the same rows however the provider is named; times are inclusive."""
    events = table(EBPF)
    assert len(events) == 13872
    named = events.where(provider="NetEbpfExtProvider")
    assert len(named) == 242  # TraceLogging provider name, from its traits item
    guid = next(iter(named)).provider_id
    assert len(events.where(provider=str(guid))) == 242
    assert len(events.where(provider="{" + str(guid).upper() + "}")) == 242
    kernel = events.where(provider="Windows Kernel")
    assert len(kernel) == 8
    rows = list(events.rows())
    since, until = rows[100].time, rows[200].time
    part = list(events.where(since=since, until=until))  # type: ignore[arg-type]
    assert part == [e for e in rows if since <= e.time <= until]  # type: ignore[operator]
    assert len(events.where(provider="no such provider")) == 0
    assert len(events.where(ids=[0]).frame(text=False)) == sum(e.event_id == 0 for e in rows)


def test_origin_points_at_the_event_in_the_file() -> None:
    """file_offset of a row is where its header lies."""
    path = shared_sample("etl/microsoft_perfview__primitive-types.etl")
    raw = path.read_bytes()
    rows = list(EventTable([Trace.open(str(path))]).rows())
    for row in rows[2:]:
        assert raw[row.origin.file_offset + 2 : row.origin.file_offset + 4] == b"\x13\xc0"


@pytest.mark.parametrize(
    ("name", "counts", "newest_ticks"),
    [
        # sessions, events and the newest event against SystemTime, as published for these files
        ("dmp/rizinorg_rizin-testbins__triage_x64.dmp", [107, 0, 0], [1892]),
        ("dmp/rizinorg_rizin-testbins__triage_arm64.dmp", [23, 0, 5513, 1], [-58283671, -13728226]),
    ],
)
def test_dump_block_is_read_to_the_last_byte(
    name: str, counts: list[int], newest_ticks: list[int]
) -> None:
    """Both real blocks: 100 % of the bytes, 107 and 5,537 events, clocks agree with the header."""
    block, base, system_time = dump_block(name)
    found = sessions(block, name, base)
    assert found.bytes_skipped == 0
    assert found.notes == ()
    assert found.bytes_headers + found.bytes_buffers == found.bytes_total == len(block)
    assert [len(trace) for trace in found.traces] == counts
    for trace in found.traces:
        assert trace.account.bytes_accounted == trace.account.bytes_total
        assert trace.account.bytes_skipped == 0
    newest = [
        trace.clock.filetime(int(trace.index().columns["ts"].max())) - system_time
        for trace in found.traces if len(trace)
    ]  # fmt: skip
    assert newest[: len(newest_ticks)] == newest_ticks


@pytest.mark.parametrize("double", [True, False])
def test_dump_block_with_either_length_of_the_session_name(double: bool) -> None:
    """Blocks of older (2n bytes) and newer (n bytes) kernels give the same sessions."""
    name = "Säule".encode("utf-16-le")
    event = w.event(PROVIDER, 5, w.FILETIME_2024 + 1, b"xy")
    body = event + bytes(-len(event) % 8)
    end = 0x48 + len(body)

    def buffer(logger: int) -> bytes:
        return struct.pack("<IIIiqqQHHIIHHQQ", 4096, end, end, 0, 0, 1, 0, 3, logger, 1, end, 0x20,
                           0, 0, 0) + body  # fmt: skip

    block = struct.pack("<IIIIQQ", 156250, 26100, 3000, 0, w.FILETIME_2024 - 10**9, 10**7)
    for logger in (3, 9):
        block += struct.pack("<6I3Q", 0x01EBAFE1, logger, 0x80000000, 2, 4096, len(name),
                             w.FILETIME_2024, w.FILETIME_2024, 0)  # fmt: skip
        # the stale second half looks like a buffer of another session: it must not be taken
        block += name + (struct.pack("<I", 4096) + bytes(len(name) - 4) if double else b"")
        block += buffer(logger) + buffer(logger)
    found = sessions(block)
    assert found.bytes_skipped == 0
    assert [(t.session.name, len(t)) for t in found.traces] == [("Säule", 2), ("Säule", 2)]
    rows = list(EventTable(found.traces).rows())
    assert [row.time for row in rows] == [(w.FILETIME_2024 + 1 - w.EPOCH) * 100] * 4
    assert {row.processor for row in rows} == {3}


def test_dump_block_with_only_its_header_is_valid() -> None:
    """A crash before any session started leaves 0x20 bytes."""
    found = sessions(struct.pack("<IIIIQQ", 156250, 19041, 3000, 0, w.FILETIME_2024, 10**7))
    assert (found.traces, found.bytes_skipped, found.events) == ((), 0, 0)


def test_rubbish_between_buffers_of_a_dump_block_is_named() -> None:
    """Bytes that are neither session nor buffer are counted and stepped over."""
    block, base, _ = dump_block("dmp/rizinorg_rizin-testbins__triage_x64.dmp")
    whole = sessions(block)
    second = int(whole.traces[0].buffers.table["offset"][1])
    found = sessions(block[:second] + b"\xde\xad\xbe\xef" * 25 + block[second:], base=base)
    assert found.bytes_skipped == 100
    assert [note.offset for note in found.notes] == [base + second]
    assert found.events == 107


@pytest.mark.parametrize("name", ["x64", "arm64"])
def test_exported_sessions_are_read_back_by_us_and_a_peer(name: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Each session of a dump, written as .etl, has the same events for us and for dissect.etl."""
    peer = pytest.importorskip("dissect.etl.etl")
    block, _, _ = dump_block(f"dmp/rizinorg_rizin-testbins__triage_{name}.dmp")
    for trace in sessions(block).traces:
        target = tmp_path / "out.etl"
        written = export.write(trace, str(target))
        assert written == len(trace) + 1  # and the trace header
        with target.open("rb") as file:
            assert sum(1 for _ in peer.ETL(file)) == written
        again = Trace.open(str(target))
        assert again.session.name == trace.session.name
        ours = sorted((e.time, e.event_id, str(e.text)) for e in EventTable([trace]).rows())
        back = sorted((e.time, e.event_id, str(e.text)) for e in EventTable([again]).rows())
        assert [row for row in back if row[1] or row in ours][-len(ours) :] == ours


def test_compressed_trace_exports_as_a_plain_one(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Exporting a compressed file keeps every event and timestamp."""
    trace = Trace.open(str(shared_sample("etl/microsoft_demikernel__PktMon.etl")))
    target = tmp_path / "plain.etl"
    assert export.write(trace, str(target)) == 467
    again = Trace.open(str(target))
    assert again.account.buffers_compressed == 0
    assert (again.index().sorted("ts") == trace.index().sorted("ts")).all()


def test_source_puts_a_lazy_table_into_the_records() -> None:
    """collect() gives source and machine, and events that are read only when asked for."""
    path = str(shared_sample(EBPF))
    records = etl.collect(path)
    events = records["events"]
    assert isinstance(events, EventTable)
    assert len(events) == 13872
    assert isinstance(next(iter(events)), Event)
    assert records["machine"][0].build == 26308
    assert records["sources"][0].kind == "etl"
    merged = Records()
    merged.extend(records)
    assert len(merged["events"]) == 13872


def test_every_shared_trace_is_recognised_and_collected() -> None:
    """All real traces go through recognition and the source."""
    from conftest import shared_names

    from analyzer.sources import collect, identify

    for name in shared_names("etl/*.etl"):
        path = str(shared_sample(name))
        assert identify(path).name == "etl", name
        assert len(collect(path)["sources"]) == 1


def test_guid_of_the_block_is_the_dump_readers() -> None:
    """The dump reader and this reader mean the same block."""
    from analyzer.dumpfile.secondary import ETW_BUFFERS

    assert dumpblock.GUID == ETW_BUFFERS
