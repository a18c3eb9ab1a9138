"""Payload fields as columns, and stacks joined to the events they were taken at."""

from __future__ import annotations

import struct

import etw_writer as w
import pytest
from conftest import shared_sample

from analyzer.etw import fields, providers
from analyzer.etw.trace import Trace


def trace_of(*buffers: list[bytes], **options: int) -> Trace:
    """A trace with one buffer per list, each of another processor."""
    writer = w.Writer(buffer_size=65536, **options)
    for cpu, events in enumerate(buffers):
        writer.add(*events, cpu=cpu)
    return Trace.of_bytes(writer.build())


def requests(n: int) -> list[bytes]:
    """StorPort completions with counted values."""
    return [
        w.event(providers.STORPORT, 208, 2_000_000 + k,
                struct.pack("<QIBBBBBQ", k, 0xC0000185 if k % 2 else 0, 1, k % 256, 0, 0, 0, k + 7),
                version=1, pid=k, tid=k + 1)
        for k in range(n)
    ]  # fmt: skip


@pytest.mark.parametrize("compression", [0, w.XPRESS])
def test_numbers_become_columns_with_and_without_the_vector_path(compression: int) -> None:
    """A plain trace takes the vector path, a compressed one the loop; both give the same."""
    trace = trace_of(requests(300), compression=compression)
    frame = fields.frame(trace, "Microsoft-Windows-StorPort", 208)
    assert frame["Irp"].tolist() == list(range(300))
    assert frame["NTStatus"].tolist() == [0, 0xC0000185] * 150
    assert frame["ScsiStatus"].tolist() == [k % 256 for k in range(300)]
    assert frame["OriginalIrp"].tolist() == [k + 7 for k in range(300)]
    assert frame["thread_id"].tolist() == [k + 1 for k in range(300)]
    assert frame["time"].is_monotonic_increasing


def test_strings_and_tracelogging_become_columns() -> None:
    """eBPF for Windows: 3,709 EbpfSuccess events with their message strings."""
    path = shared_sample("etl/microsoft_ebpf-for-windows__ebpforwindows.etl")
    frame = fields.frame(Trace.open(str(path)), "EbpfForWindowsProvider", name="EbpfSuccess")
    assert len(frame) == 3709
    assert frame["Message"].str.endswith(" returned success").all()


def test_kernel_events_by_their_hook_id() -> None:
    """Image loads of a real trace: one row each, base addresses and names."""
    path = shared_sample("etl/airbus-cert_etl-parser__ShutdownPerfDiagLogger.etl")
    frame = fields.frame(Trace.open(str(path)), "Windows Kernel", 0x1403)
    assert len(frame) == 6745
    assert frame["FileName"].str.endswith("ntoskrnl.exe").any()
    assert (frame["ImageBase"] > 0).all()


def test_no_such_event_gives_an_empty_frame() -> None:
    """Nothing found is a frame without rows."""
    assert len(fields.frame(trace_of(requests(3)), "nobody", 1)) == 0


def test_stacks_join_their_event_by_time_and_thread() -> None:
    """Two events at one tick on two processors: each stack goes to its thread's event."""

    def stack(ts: int, thread: int, *frames: int) -> bytes:
        body = struct.pack("<QII", ts, 4, thread) + struct.pack(f"<{len(frames)}Q", *frames)
        return w.perfinfo(0x1820, ts + 5, body)

    at = 2_000_000
    trace = trace_of(
        [w.system(0x0301, at, b"", tid=8), stack(at, 8, 0xFFFF8001, 0xFFFF8002)],
        [w.system(0x0302, at, b"", tid=9), stack(at, 9, 0xFFFF9001), stack(at + 77, 9, 1)],
    )
    found = fields.stacks(trace)
    assert [(s.thread_id, s.frames) for s in found] == [
        (8, (0xFFFF8001, 0xFFFF8002)), (9, (0xFFFF9001,)), (9, (1,)),
    ]  # fmt: skip
    ids = trace.index().sorted("id")
    assert [None if s.event is None else int(ids[s.event]) for s in found] == [0x301, 0x302, None]
