"""Reading traces: counts, bytes, header kinds, clocks, order, compression."""

from __future__ import annotations

import re
import struct

import etw_writer as w
import numpy as np
import pytest
from conftest import SHARED, shared_names, shared_sample

from analyzer.errors import AnalyzerError
from analyzer.etw import layouts
from analyzer.etw.clock import NO_TIME, Clock
from analyzer.etw.events import EventTable
from analyzer.etw.trace import Trace

ETL = shared_names("etl/*.etl")
PROVIDER = "8e805eb3-6a8f-4a1e-8f6a-1e4ab35e808e"


def index_counts() -> dict[str, int]:
    """Event counts as INDEX.md states them (dissect.etl 3.14 and an independent C walk)."""
    text = (SHARED / "INDEX.md").read_text() if (SHARED / "INDEX.md").exists() else ""
    found = re.findall(r"^- `(etl/[^`]+)`.*?dissect\.etl 3\.14: (\d+) events", text, re.MULTILINE)
    return {name: int(count) for name, count in found}


@pytest.mark.parametrize("name", ETL)
def test_real_trace_has_the_count_other_readers_agree_on(name: str) -> None:
    """Every shared trace yields exactly the events INDEX.md states, with every byte accounted."""
    trace = Trace.open(str(shared_sample(name)))
    assert len(trace.index()) == index_counts()[name]
    assert trace.account.bytes_accounted == trace.account.bytes_total
    assert trace.account.bytes_skipped == 0
    assert trace.account.notes == []


@pytest.mark.parametrize("name", ETL)
def test_streamed_rows_are_the_index_in_time_order(name: str) -> None:
    """Bounded-memory streaming gives the same timestamps in the same order as the index."""
    trace = Trace.open(str(shared_sample(name)))
    streamed = np.concatenate([cols["ts"] for cols in trace.chunks()])
    assert (streamed == trace.index().sorted("ts")).all()
    assert (np.diff(streamed[streamed != NO_TIME]) >= 0).all()


SMALL = [name for name in ETL if (SHARED / name).stat().st_size < 2_000_000]  # the peer is slow


@pytest.mark.parametrize("name", SMALL)
def test_dissect_reads_the_same_times_and_kinds(name: str) -> None:
    """A peer that decodes headers one by one sees the same times, to its float's precision."""
    etl = pytest.importorskip("dissect.etl.etl")
    path = shared_sample(name)
    theirs = []
    with path.open("rb") as file:
        for record in etl.ETL(file):
            stamp = getattr(record.header, "timestamp", None)
            theirs.append(None if stamp is None else stamp.timestamp())
    trace = Trace.open(str(path))
    ours = trace.clock.ns_array(trace.index().columns["ts"]).tolist()
    assert len(theirs) == len(ours)
    compared = 0
    for a, b in zip(theirs, ours):
        if a is not None and b != NO_TIME:
            compared += 1
            assert abs(a * 1e9 - b) < 3000, (a, b)  # datetime keeps microseconds
    assert compared >= len(ours) - 5


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["microsoft_perfview__primitive-types", "microsoft_perfview__PerfViewData.clrRundown",
     "microsoft_krabsetw__powershell", "airbus-cert_etl-parser__AMSITrace"],
)  # fmt: skip
def test_etl_parser_reads_the_same_raw_ticks(name: str) -> None:
    """Every raw timestamp a second peer sees is one of ours, to the tick."""
    etl = pytest.importorskip("etl.etl")
    path = shared_sample(f"etl/{name}.etl")
    ticks: list[int] = []

    class Observer(etl.IEtlFileObserver):  # type: ignore[misc, name-defined]
        """Keeps the timestamps."""

        def on_event_record(self, event: object) -> None:
            ticks.append(event.get_timestamp())  # type: ignore[attr-defined]

        def _other(self, event: object) -> None:
            """Kernel records of this peer carry no raw time."""

        on_trace_record = on_perfinfo_trace = on_system_trace = on_win_trace = _other

    etl.build_from_stream(path.read_bytes()).parse(Observer())
    ours = Trace.open(str(path)).index().columns["ts"].tolist()
    assert len(ticks) >= 5
    assert sorted(ticks) == sorted(ours)[-len(ticks) :]


def test_importing_the_package_brings_no_numpy() -> None:
    """The parts that a dump or the command line needs at start-up stay light."""
    import subprocess
    import sys

    code = (
        "import sys, analyzer.etw.providers, analyzer.etw.layouts, analyzer.etw.callbacks, "
        "analyzer.etw.decode; sys.exit('numpy' in sys.modules or 'pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def one_of_each() -> list[bytes]:
    """Every header kind once, one microsecond apart."""
    tick = 10
    t = 1_000_000
    return [
        w.system(0x0301, t + tick, b"s64"),
        w.system(0x0301, t + 2 * tick, b"s32", narrow=True),
        w.system(0x0502, t + 3 * tick, b"c64", compact=True),
        w.system(0x0502, t + 4 * tick, b"c32", narrow=True, compact=True),
        w.perfinfo(0x0F2E, t + 5 * tick, b"p64"),
        w.perfinfo(0x0F2E, t + 6 * tick, b"p32", narrow=True, pmc=2, pebs=True),
        w.classic(PROVIDER, 10, t + 7 * tick, b"f64", version=2, level=3),
        w.classic(PROVIDER, 10, t + 8 * tick, b"f32", narrow=True),
        w.instance(PROVIDER, 11, t + 9 * tick, b"i64"),
        w.event(PROVIDER, 17, t + 10 * tick, b"e64", version=1, opcode=2, level=3, keyword=1 << 40),
        w.event(PROVIDER, 18, t + 11 * tick, b"e32", narrow=True, items=((1, bytes(16)),)),
        w.message(PROVIDER, 42, t + 12 * tick, b"m", options=0xAA),
        w.message(PROVIDER, 43, t + 13 * tick, b"m", options=0xAB),
        w.message(PROVIDER, 44, t + 14 * tick, b"m", options=0x2C),
    ]


def test_every_header_kind_is_read_with_its_fields() -> None:
    """Each header kind gives type, time, ids and payload as written."""
    writer = w.Writer()
    writer.add(*one_of_each(), cpu=3)
    trace = Trace.of_bytes(writer.build())
    index = trace.index()
    cols = {name: index.sorted(name).tolist() for name in index.columns}
    assert cols["type"] == [2, 2, 1, 4, 3, 17, 16, 20, 10, 21, 19, 18, 15, 15, 15]
    assert cols["ts"] == [1_000_000 + 10 * k for k in range(15)]
    assert cols["id"] == [0, 0x301, 0x301, 0x502, 0x502, 0xF2E, 0xF2E, 0, 0, 0, 17, 18, 42, 43, 44]
    assert cols["opcode"][7:12] == [10, 10, 11, 2, 0]
    assert cols["version"][7] == 2
    assert cols["version"][10] == 1
    assert cols["level"][10] == 3
    assert cols["keyword"][10] == 1 << 40
    assert set(cols["cpu"]) == {0, 3}
    assert cols["pid"][1:5] == [4, 4, 4, 4]
    assert cols["pid"][5:7] == [0xFFFFFFFF] * 2  # perfinfo headers carry none
    assert cols["tid"][12:15] == [8, 8, 8]
    guids = [trace.providers.guids[k] for k in cols["provider"]]
    assert guids[7:14] == [PROVIDER] * 7
    assert guids[14] == ""  # option 4: a component id instead of a GUID


def test_payload_starts_behind_header_counters_and_items() -> None:
    """The payload of each kind is what the writer put behind the header."""
    writer = w.Writer()
    writer.add(*one_of_each())
    trace = Trace.of_bytes(writer.build())

    payloads = w.payloads(trace)[1:]
    assert payloads == [b"s64", b"s32", b"c64", b"c32", b"p64", b"p32", b"f64", b"f32", b"i64",
                        b"e64", b"e32", b"m", b"m", b"m"]  # fmt: skip


@pytest.mark.parametrize("fmt", [w.XPRESS, w.XPRESS_HUFF, w.LZNT1])
def test_compressed_trace_equals_the_plain_one(fmt: int) -> None:
    """All three compression formats give the events of the uncompressed trace."""

    def build(compression_format: int) -> bytes:
        writer = w.Writer(compression=compression_format, buffer_size=16384)
        for k in range(20):
            t0 = 2_000_000 + 100_000 * k
            events = [w.event(PROVIDER, i, t0 + i, b"abcabc" * 20) for i in range(60)]
            writer.add(*events, cpu=k % 4)
        return writer.build()

    plain, packed = (Trace.of_bytes(build(f)) for f in (0, fmt))
    a, b = plain.index(), packed.index()
    assert len(a) == len(b) == 1201
    for name in ("ts", "id", "cpu", "pid", "size", "type"):
        assert (a.sorted(name) == b.sorted(name)).all(), name
    assert packed.account.buffers_compressed == len(packed.buffers.table) - 1
    assert packed.account.bytes_accounted == packed.account.bytes_total
    rows = list(EventTable([packed]).rows())
    assert "expanded buffer" in rows[5].origin.how


@pytest.mark.parametrize(
    ("clock", "frequency", "mhz"),
    [(1, 10_000_000, 0), (1, 2_337_949, 0), (1, 14_318_180, 0), (3, 0, 2895), (2, 0, 0)],
)
def test_times_are_exact_to_100_ns(clock: int, frequency: int, mhz: int) -> None:
    """UTC equals exact rational arithmetic for every clock, also for large spans."""
    first = w.FILETIME_2024 if clock == 2 else 123_456_789_012
    writer = w.Writer(clock=clock, frequency=frequency, mhz=mhz, first_ts=first)
    offsets = [0, 1, 3, 7, 999_999, 86_400_000_000, 3_000_000_000_000_001]
    writer.add(*[w.event(PROVIDER, 1, first + k) for k in offsets])
    trace = Trace.of_bytes(writer.build())
    rate = mhz * 1_000_000 if clock == 3 else frequency
    for row, offset in zip(list(EventTable([trace]).rows())[1:], offsets):
        ticks = offset if clock == 2 else offset * 10_000_000 // rate
        assert row.time == (w.FILETIME_2024 + ticks - w.EPOCH) * 100


def test_scalar_and_vector_clock_agree() -> None:
    """The array conversion gives the same ns as Python integers, NO_TIME outside 1970 to 2262."""
    rng = np.random.default_rng(1)
    for kind, frequency in ((1, 10_000_000), (1, 3_117_777), (3, 2_895_000_000), (2, 10_000_000)):
        clock = Clock.of(kind, frequency, frequency // 10**6, w.FILETIME_2024, 5_000_000_000)
        base = w.FILETIME_2024 if kind == 2 else 5_000_000_000
        ts = base + rng.integers(-(1 << 45), 1 << 45, 1000)
        ts[:4] = [NO_TIME, (1 << 63) - 1, -(1 << 63) + 1, 0]
        for value, got in zip(ts.tolist(), clock.ns_array(ts).tolist()):
            exact = clock.ns(value)
            assert got == (exact if isinstance(exact, int) else NO_TIME)


def test_buffers_of_several_processors_come_in_time_order() -> None:
    """Buffers flushed out of order are merged by time, with their own processor numbers."""
    writer = w.Writer()
    for cpu in range(4):
        writer.add(*[w.event(PROVIDER, cpu, 2_000_000 + 10 * k + cpu) for k in range(50)], cpu=cpu)
    index = Trace.of_bytes(writer.build()).index()
    assert (np.diff(index.sorted("ts")) >= 0).all()
    assert index.sorted("cpu")[1:9].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]


def test_processor_of_old_writers_is_the_low_byte() -> None:
    """Without the index flag the high byte of the processor field is an alignment, not a number."""
    writer = w.Writer(indexed_cpu=False)
    writer.add(w.event(PROVIDER, 1, 2_000_000), cpu=5)
    assert Trace.of_bytes(writer.build()).index().sorted("cpu").tolist() == [0, 5]


@pytest.mark.parametrize("narrow", [False, True])
def test_session_header_of_both_writer_widths(narrow: bool) -> None:
    """The trace header of 32- and 64-bit writers tells name, clock, build and losses."""
    writer = w.Writer(narrow=narrow, name="Umlaut äöü", events_lost=3, buffers_lost=1)
    session = Trace.of_bytes(writer.build()).session
    assert session.name == "Umlaut äöü"
    assert session.file_name == "C:\\x.etl"
    assert (session.build, session.processors) == (19041, 4)
    assert (session.events_lost, session.buffers_lost) == (3, 1)
    assert session.clock == Clock(1, 10_000_000, w.FILETIME_2024, 1_000_000)
    assert session.pointer_size == (4 if narrow else 8)


def test_unfinalised_and_vista_traces_are_read_whole() -> None:
    """BuffersWritten 0 and a first buffer with SavedOffset 0 cost nothing."""
    writer = w.Writer(finalise=False, vista=True)
    for k in range(5):
        writer.add(w.event(PROVIDER, k, 2_000_000 + k))
    trace = Trace.of_bytes(writer.build())
    assert len(trace) == 6
    assert not trace.session.finalised


def test_layout_sizes_are_the_wdk_ones() -> None:
    """sizeof of the structures as the WDK headers give them."""
    assert layouts.WMI_BUFFER_HEADER.size() == 0x48
    assert layouts.TRACE_LOGFILE_HEADER64.size() == 0x118
    assert layouts.TRACE_LOGFILE_HEADER32.size() == 0x110
    assert layouts.TRACE_LOGFILE_HEADER64.StartTime.offset == 0x108
    assert layouts.TRACE_LOGFILE_HEADER32.StartTime.offset == 0x100


def test_payload_that_looks_like_headers_is_not_taken_for_events() -> None:
    """Payloads full of valid-looking headers do not add, remove or move events."""
    fake = w.event(PROVIDER, 999, 5, b"")[:0x50] * 3
    writer = w.Writer(buffer_size=65536)
    events = [w.event(PROVIDER, 1, 2_000_000 + k, fake + bytes(k % 8)) for k in range(300)]
    writer.add(*events)
    trace = Trace.of_bytes(writer.build())
    assert trace.index().sorted("id").tolist() == [0] + [1] * 300
    assert trace.account.notes == []


def test_an_embedded_chain_that_ends_the_buffer_is_still_payload() -> None:
    """A last event whose payload is a perfect chain of headers stays one event."""
    writer = w.Writer()
    writer.add(w.event(PROVIDER, 1, 2_000_000, w.event(PROVIDER, 999, 2_000_001) * 4))
    assert Trace.of_bytes(writer.build()).index().sorted("id").tolist() == [0, 1]


@pytest.mark.parametrize("raw", [b"", b"x", bytes(100), b"PK\3\4" + bytes(2000), bytes(200_000)])
def test_what_is_no_trace_is_refused_in_our_own_error(raw: bytes) -> None:
    """Short, zero-filled and foreign bytes raise an AnalyzerError."""
    with pytest.raises(AnalyzerError):
        Trace.of_bytes(raw)


def test_compressed_length_that_lies_costs_no_memory() -> None:
    """A tiny buffer that claims 16 MiB is bounded and noted."""
    writer = w.Writer(compression=w.XPRESS)
    writer.add(w.event(PROVIDER, 1, 2_000_000))
    raw = bytearray(writer.build())
    struct.pack_into("<I", raw, 8192 + 4, 16 << 20)
    trace = Trace.of_bytes(bytes(raw))
    assert len(trace) >= 1
    assert trace.account.bytes_accounted == trace.account.bytes_total
    assert [note.kind for note in trace.account.notes][:1] == ["expand"]
