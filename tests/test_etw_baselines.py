"""What Windows' own reader saw in the same traces: PerfView's stored baselines.

The numbers are of microsoft/perfview, src/TraceEvent/TraceEvent.Tests/inputs/NAME.baseline.txt at
commit f3ec1b38a6d7535e4f878510e5041f9da7d0fdb6: per kind of event its count, and of the first one
the time since the session began, process, thread, processor and length of the payload.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import etw_writer as w
import pytest
from conftest import shared_sample

from analyzer.etw import mof
from analyzer.etw.events import details
from analyzer.etw.trace import Trace

CLR = "e13c0d23-ccbc-4e12-931b-d9cc2eee27e4"
RUNDOWN = "a669021c-c450-4609-a035-5af59af4df18"
SOLAR = "d3dd3dd4-aac2-4e2a-8dd4-a8fb61b77615"


class Kind(NamedTuple):
    """One COUNT line and the first EVENT line of that kind."""

    name: str  #: as PerfView calls it
    provider: str
    event_id: int
    count: int
    us: int  #: microseconds since the session began
    pid: int
    tid: int
    cpu: int
    length: int


BASELINES = {
    "microsoft_perfview__primitive-types": [  # primitive-types.baseline.txt
        Kind("EventTrace", "", 0, 1, 0, 39096, 29376, 0, 366),
        Kind("PrimitiveTypesTest", SOLAR, 0, 5, 2942306, 33984, 21768, 2, 78),
    ],
    "microsoft_perfview__PerfViewData": [  # gcevents.baseline.txt
        Kind("EventTrace", "", 0, 1, 0, 179356, 179388, 0, 392),
        Kind("GC/AllocationTick", CLR, 10, 12, 8215606, 179596, 168672, 6, 74),
        Kind("GC/CreateSegment", CLR, 5, 7, 8185741, 179596, 168672, 4, 22),
        Kind("GC/FinalizeObject", CLR, 29, 6, 11608782, 179596, 177072, 7, 18),
        Kind("GC/FinalizersStart", CLR, 14, 3, 8199580, 179596, 177072, 7, 2),
        Kind("GC/FinalizersStop", CLR, 13, 3, 8199585, 179596, 177072, 7, 6),
        Kind("GC/FitBucketInfo", CLR, 209, 1, 11607765, 179596, 168672, 4, 158),
        Kind("GC/GlobalHeapHistory", CLR, 205, 2, 11608126, 179596, 168672, 4, 82),
        Kind("GC/HeapStats", CLR, 4, 2, 11608136, 179596, 168672, 4, 110),
        Kind("GC/LOHCompact", CLR, 208, 1, 11608690, 179596, 168672, 4, 36),
        Kind("GC/MarkWithType", CLR, 202, 13, 11607466, 179596, 168672, 4, 18),
        Kind("GC/PerHeapHistory", CLR, 204, 2, 11608130, 179596, 168672, 4, 486),
        Kind("GC/PinObjectAtGCTime", CLR, 33, 2, 11607477, 179596, 168672, 4, 54),
        Kind("GC/RestartEEStart", CLR, 7, 2, 11608140, 179596, 168672, 4, 2),
        Kind("GC/RestartEEStop", CLR, 3, 2, 11608145, 179596, 168672, 4, 2),
        Kind("GC/Start", CLR, 1, 2, 11607432, 179596, 168672, 4, 26),
        Kind("GC/Stop", CLR, 2, 2, 11608135, 179596, 168672, 4, 10),
        Kind("GC/SuspendEEStart", CLR, 9, 2, 11607358, 179596, 168672, 4, 10),
        Kind("GC/SuspendEEStop", CLR, 8, 2, 11607367, 179596, 168672, 4, 2),
        Kind("GC/Triggered", CLR, 35, 2, 11607371, 179596, 168672, 4, 6),
        Kind("Runtime/Start", CLR, 187, 1, 8184674, 179596, 168672, 4, 203),
    ],
    "microsoft_perfview__PerfViewData.clrRundown": [  # gcrundownevents.baseline.txt
        Kind("EventTrace", "", 0, 1, 0, 179356, 179388, 0, 428),
        Kind("GC/SettingsRundown", RUNDOWN, 10, 1, 555061, 179596, 179828, 0, 50),
        Kind("Loader/AppDomainDCStop", RUNDOWN, 158, 1, 40503, 179596, 179828, 0, 34),
        Kind("Loader/AssemblyDCStop", RUNDOWN, 156, 7, 40417, 179596, 179828, 0, 210),
        Kind("Loader/DomainModuleDCStop", RUNDOWN, 152, 7, 40401, 179596, 179828, 0, 226),
        Kind("Loader/ModuleDCStop", RUNDOWN, 154, 7, 40398, 179596, 179828, 0, 516),
        Kind("Method/DCStopComplete", RUNDOWN, 146, 2, 40504, 179596, 179828, 0, 2),
        Kind("Method/DCStopInit", RUNDOWN, 148, 2, 40391, 179596, 179828, 0, 2),
        Kind("Runtime/Start", RUNDOWN, 187, 2, 40384, 179596, 179828, 0, 203),
        Kind("TieredCompilationRundown/SettingsDCStart", RUNDOWN, 280, 1, 554500, 179596, 179828,
             0, 6),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", list(BASELINES))
def test_counts_times_and_headers_are_those_of_perfview(name: str) -> None:
    """Every kind the baseline counts has its count and its first event, to the microsecond."""
    trace = Trace.open(str(shared_sample(f"etl/{name}.etl")))
    index, clock = trace.index(), trace.clock
    seen = list(
        zip(
            (trace.providers.guids[k] for k in index.sorted("provider").tolist()),
            index.sorted("id").tolist(), index.sorted("ts").tolist(),
            index.sorted("pid").tolist(), index.sorted("tid").tolist(),
            index.sorted("cpu").tolist(), map(len, w.payloads(trace)),
        )
    )  # fmt: skip
    for kind in BASELINES[name]:
        mine = [event for event in seen if event[:2] == (kind.provider, kind.event_id)]
        assert len(mine) == kind.count, kind.name
        _, _, ts, pid, tid, cpu, length = mine[0]
        us = ((ts - clock.reference_clock) * 2_000_000 // clock.frequency + 1) // 2  # half up
        assert (us, pid, tid, cpu, length) == kind[4:], kind.name


def test_a_session_says_of_itself_what_perfview_prints() -> None:
    """Session, build, processors, boot and end of gcevents' trace as its baseline prints them."""
    session = Trace.open(str(shared_sample("etl/microsoft_perfview__PerfViewData.etl"))).session
    # SessionName=PerfViewSession; ProviderVersion=19,045; NumberOfProcessors=8; BuffersWritten=5;
    # PerfFreq=10,000,000; EndTime=23/03/14 00:46:50.70; StartTime=23/03/14 00:46:36.69 (UTC)
    assert (session.name, session.build, session.processors) == ("PerfViewSession", 19045, 8)
    assert (session.buffers_written, session.clock.frequency) == (5, 10_000_000)
    assert session.events_lost == session.buffers_lost == 0
    assert session.end_time // 100_000 == 1_332_322_841_070  # FILETIME
    assert session.start_time // 100_000 == 1_332_322_839_669


@pytest.mark.parametrize("narrow", [False, True])
def test_image_ids_have_two_pointers_before_the_process(narrow: bool) -> None:
    """The first image id of net.4.5.2.x64: ntdll.dll, 1,404,928 bytes, linked 2012-07-26."""
    # KernelTraceControl/ImageID DataLen=44; ImageBase=0x77710000; ImageSize=1,404,928;
    # TimeDateStamp=1,343,270,522; OriginalFileName=ntdll.dll; PID=4
    pointer = "I" if narrow else "Q"
    data = struct.pack(f"<2{pointer}II", 0x77710000, 1_404_928, 4, 1_343_270_522)
    data += w.utf16("ntdll.dll")
    writer = w.Writer(narrow=narrow)
    writer.add(w.classic("b3e675d7-2554-4f18-830b-2762732560de", 0, 2_000_000, data, version=2,
                         narrow=narrow))  # fmt: skip
    trace = Trace.of_bytes(writer.build())
    row = [row for cols in trace.chunks() for row in details(trace, cols)][1]
    assert narrow or len(w.payloads(trace)[1]) == 44
    assert row.described.fields is not None
    assert row.described.fields.left == 0
    assert row.described.fields.values == {
        "ImageBase": 0x77710000, "ImageSize": 1_404_928, "ProcessId": 4,
        "TimeDateStamp": 1_343_270_522, "OriginalFileName": "ntdll.dll",
    }  # fmt: skip


def test_the_kernel_base_is_one_pointer() -> None:
    """MSNT_SystemTrace/Image/KernelBase of net.4.5.2.x64: DataLen=8, ImageBase alone."""
    schema = mof.schema(0x14, 33, 2)
    assert schema is not None
    assert [field.name for field in schema.fields] == ["ImageBase"]
