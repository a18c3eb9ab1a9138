"""Made traces in every way to ask for their events: alone, as frames, filtered, exported."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import etw_writer as w
import numpy as np
import pytest
from conftest import make
from made_inputs import BASE, MADE, PROVIDER, SCHEMAS, info, trace
from test_etw_batch import assert_same_alone

from analyzer import tables
from analyzer.absence import Absent
from analyzer.errors import InputError, UnsupportedError
from analyzer.etw import (
    callbacks,
    export,
    findings,
    index,
    integrity,
    providers,
    session,
    stated_counts,
    wanted,
)
from analyzer.etw.callbacks import CallEvent
from analyzer.etw.clock import NO_TIME, Clock
from analyzer.etw.events import EventTable
from analyzer.etw.judge import Judge, entry
from analyzer.etw.trace import Trace
from analyzer.names import events as names
from analyzer.records import Event, Origin, Request
from analyzer.sources import etl
from analyzer.windows_events import RawEvent

TRACES = [name for name in MADE if name.endswith(".etl")]
NOT_THE_SAME = "name text channel task not_determined provider provider_id".split()
REASON = re.compile(r"(?:time|version|level|opcode|keyword|processor|process_id|thread_id): [^;]*")
each_trace = pytest.mark.parametrize("name", TRACES)


def opened(name: str) -> Trace:
    """A made trace."""
    return Trace.of_bytes(MADE[name](), name)


@each_trace
def test_events_are_the_same_alone(name: str) -> None:
    """Each event decoded by itself, and all of them together."""
    trace = opened(name)
    assert assert_same_alone(trace) == len(trace) == len(trace.index())


@each_trace
def test_the_frame_without_payloads_is_the_whole_one(name: str) -> None:
    """Every column but name and text, what is not determined included; and that of the records."""
    import pandas as pd

    events = EventTable([opened(name)])
    full, quick = events.frame(text=True), events.frame(text=False)
    if name != "system-time.etl":  # two buffers of it begin and end at equal times
        pd.testing.assert_frame_equal(full, tables.frame("events", list(events.rows())))
    same = [column for column in full.columns if column not in NOT_THE_SAME]
    pd.testing.assert_frame_equal(full[same], quick[same])
    for column in ("provider", "provider_id"):
        known = full[column].notna()
        assert (full[column][known] == quick[column][known]).all()
    for frame in (full, quick):
        texts = frame["not_determined"].fillna("").tolist()
        frame["reasons"] = [sorted(set(REASON.findall(text))) for text in texts]
    assert full["reasons"].tolist() == quick["reasons"].tolist()


@each_trace
def test_every_byte_is_in_one_sum_and_an_export_keeps_the_events(name: str) -> None:
    """Times, kinds, processors and payloads; the new file has no damage and one size of buffer."""
    trace = opened(name)
    before = list(EventTable([trace]).rows())
    assert trace.account.bytes_accounted == trace.account.bytes_total
    raw = b"".join(export.pieces(trace))
    again = Trace.of_bytes(raw)
    after = list(EventTable([again]).rows())
    keep = len(after) - len(before)  # a session without its header gets one
    assert keep in (0, 1)
    shown = [
        [(e.time, e.provider, e.event_id, e.opcode, e.name, e.text, e.processor, e.thread_id)
         for e in events if e.name != "EventTrace/Header"]
        for events in (before, after)
    ]  # fmt: skip
    if trace.clock.known:
        assert shown[0] == shown[1]
    size = struct.unpack_from("<I", raw)[0]
    assert size % 1024 == 0
    assert len(raw) == size * len(again.buffers.table)
    assert again.account.bytes_skipped <= trace.account.bytes_skipped
    assert again.session.buffer_size == size
    assert again.session.buffers_written == len(again.buffers.table)
    assert not again.session.compressed
    assert (again.buffers.table["kind"].tolist()[0], set(again.buffers.table["kind"][1:])) in (
        (4, {0}), (4, set()),
    )  # fmt: skip


@each_trace
def test_times_span_what_the_rows_have(name: str) -> None:
    """The span of a table is its first and last time; untimed traces have none."""
    trace = opened(name)
    times = [event.time for event in EventTable([trace]).rows() if isinstance(event.time, int)]
    found = EventTable([trace]).span()
    if trace.clock.known and name != "system-time.etl":
        assert found == (min(times), max(times))
    else:
        assert found is None


def event(time: Any, provider: Any = "P", ident: int = 7) -> Event:
    """A record of no trace."""
    made: Event = make(Event, time=time, provider=provider, provider_id="g", event_id=ident)
    return made


@pytest.mark.parametrize(
    ("conditions", "rows"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"provider": "p"}, [0, 1, 2, 4]), ({"provider": "G"}, [0, 1, 2, 3, 4]),
        ({"provider": "x"}, []), ({"ids": (7,)}, [0, 1, 2, 4]), ({"ids": (8, 9)}, [3]),
        ({"ids": ()}, []), ({"since": 20}, [1, 2, 3]), ({"until": 20}, [0, 1]),
        ({"since": 20, "until": 29}, [1]), ({"since": 21, "until": 29}, []),
        ({"since": 41}, []), ({"until": 9}, []), ({"until": 10}, [0]), ({"since": 40}, [3]),
    ],
)  # fmt: skip
def test_conditions_on_single_records(conditions: dict[str, Any], rows: list[int]) -> None:
    """Times are inclusive; an event without a time has none of a span."""
    events = [event(10), event(20), event(30), event(40, "Q", 8), event(Absent("unset"))]
    asked = wanted.Wanted(**conditions)
    assert [k for k, one in enumerate(events) if wanted.holds(asked, one)] == rows
    table = EventTable([], events).where(**conditions)
    assert (len(table), bool(table)) == (len(rows), bool(rows))


def test_tables_are_joined_in_the_order_of_time() -> None:
    """Two traces and records; an event without a time is the first."""
    one, two = opened("sound.etl"), opened("headers.etl")
    records = [event(1704067200100000500), event(Absent("unset")), event(5)]
    table = EventTable([one]).joined(EventTable([two], records[:1])).joined(records[1:])
    times = [e.time if isinstance(e.time, int) else 0 for e in table]
    known = [t for t in times if t]
    assert known == sorted(known)
    assert len(times) == len(table) == len(one) + len(two) + 3
    assert times[:2] == [0, 5]
    assert table.frame().index.tolist() == list(range(len(table)))
    assert sum(len(columns[0]) for columns in table.batches()) == len(table)
    assert table.single == records[1:] + records[:1]
    assert not EventTable([])
    assert EventTable([]).span() is None
    assert EventTable([], [event(5), event(9)]).span() == (5, 9)
    assert EventTable([], [event(5), event(Absent("unset"))]).span() is None


@pytest.mark.parametrize("options", [0xAA, 0xAB, 0x2C, 0x0A, 0x09])
@pytest.mark.parametrize("cut", [0, 1, 4, 8])
def test_a_message_shorter_than_its_header(options: int, cut: int) -> None:
    """What its options say would be bytes of the next event: it has neither time nor provider."""
    message = bytearray(w.message(PROVIDER, 42, BASE + 5, options=options))
    if cut:
        del message[-cut:]
    struct.pack_into("<H", message, 0, len(message))
    second = w.event(PROVIDER, 1, BASE + 9)
    rows = list(EventTable([Trace.of_bytes(trace([bytes(message), second]))]).rows())[-2:]
    (found,) = (row for row in rows if row.event_id == 42)
    assert isinstance(found.time, int) is (cut == 0)
    has_guid = bool(options & 2) and not options & 4
    assert (found.provider_id == PROVIDER) is (has_guid and cut == 0)


# -- clocks ----------------------------------------------------------------------------------------

QPC, SYSTEM, CYCLES = 1, 2, 3
EPOCH = 116_444_736_000_000_000


@pytest.mark.parametrize(
    ("kind", "qpc", "mhz", "clock"),
    [
        (QPC, 10, 3, Clock(QPC, 10, 100, 7)), (SYSTEM, 10, 3, Clock(SYSTEM, 10_000_000, 0, 0)),
        (CYCLES, 10, 3, Clock(CYCLES, 3_000_000, 100, 7)), (QPC, 0, 3, Clock(QPC, 0, 100, 7)),
        (QPC, -1, 3, Clock(QPC, 0, 100, 7)), (QPC, 1, 3, Clock(QPC, 1, 100, 7)),
        (QPC, 900_000_000_000, 3, Clock(QPC, 0, 100, 7)),
        (QPC, 899_999_999_999, 3, Clock(QPC, 899_999_999_999, 100, 7)),
    ],
)  # fmt: skip
def test_the_clock_of_a_header(kind: int, qpc: int, mhz: int, clock: Clock) -> None:
    """A frequency that no machine has counts as none."""
    assert Clock.of(kind, qpc, mhz, 100, 7) == clock
    assert clock.known is (clock.frequency > 0)


@pytest.mark.parametrize(
    ("clock", "ts", "ns"),
    [
        (Clock(QPC, 1000, EPOCH, 5), 5, 0), (Clock(QPC, 1000, EPOCH, 5), 6, 1_000_000),
        (Clock(QPC, 1000, EPOCH, 5), 4, None), (Clock(QPC, 3, EPOCH, 0), 1, 333_333_300),
        (Clock(QPC, 3, EPOCH + 10**7, 0), -1, 666_666_600), (Clock(QPC, 0, EPOCH, 0), 1, None),
        (Clock(QPC, 10_000_000, EPOCH, 0), 7, 700), (Clock(QPC, 10_000_000, -1, 0), EPOCH, None),
        (Clock(QPC, 10_000_000, 1 << 62, 0), 0, None), (Clock(QPC, 1000, 0, 0), 0, None),
        (Clock(SYSTEM, 10_000_000, 0, 0), EPOCH + 3, 300), (Clock(QPC, 1000, EPOCH, 0), NO_TIME,
                                                            None),
        (Clock(QPC, 1000, EPOCH, 0), 1000 * 9_223_372_036, 9_223_372_036 * 10**9),
        (Clock(QPC, 1000, EPOCH, 0), 1000 * 9_223_372_037, None),
        (Clock(QPC, 10, EPOCH, 0), (1 << 63) - 1, None),
    ],
)  # fmt: skip
def test_a_tick_as_time(clock: Clock, ts: int, ns: int | None) -> None:
    """Alone and among many; rounded down to 100 ns, None outside 1970 to 2262."""
    one = clock.ns(ts)
    assert (one if isinstance(one, int) else None) == ns
    many = clock.ns_array(np.array([ts, ts], np.int64)).tolist()
    assert many == [NO_TIME if ns is None else ns] * 2


def test_spans_of_a_clock() -> None:
    """Ticks as ns, rounded down; none without a frequency."""
    assert Clock(QPC, 3, EPOCH, 0).duration_ns(2) == 666_666_666
    assert isinstance(Clock(QPC, 0, EPOCH, 0).duration_ns(2), Absent)


# -- sessions --------------------------------------------------------------------------------------

#: evntrace.h, EVENT_TRACE_*_MODE
MODES = {
    0x1: "sequential", 0x2: "circular", 0x4: "append", 0x8: "newfile", 0x100: "real time",
    0x400: "buffering", 0x800: "private", 0x1000: "added header", 0x10000: "relogged",
    0x20000: "private in-process", 0x2000000: "system logger", 0x4000000: "compressed",
    0x8000000: "independent session", 0x10000000: "no per-processor buffering",
    0x80000000: "added to triage dumps",
}  # fmt: skip


def test_modes_of_a_session() -> None:
    """Each bit has its word; a bit without one is not told."""
    for bit in range(32):
        told = session.UNKNOWN._replace(mode=1 << bit)
        assert told.mode_text == MODES.get(1 << bit, "none")
        assert told.compressed is (1 << bit == 0x4000000)
    assert session.UNKNOWN._replace(mode=0x101).mode_text == "sequential, real time"


@pytest.mark.parametrize("narrow", [False, True])
def test_a_header_field_by_field(narrow: bool) -> None:
    """What the writer put into the header of a session."""
    made = w.Writer(narrow=narrow, mode=0x401, events_lost=5, buffers_lost=6, mhz=7, logger_id=9)
    made.add(w.event(PROVIDER, 1, BASE))
    raw = made.build()
    told = session.read_session(raw)
    assert told == session.Session(
        name="synthetic", logger_id=9, mode=0x401,
        clock=Clock(QPC, 10_000_000, w.FILETIME_2024, 1_000_000), buffer_size=8192,
        pointer_size=4 if narrow else 8, build=19041, processors=4, start_time=w.FILETIME_2024,
        end_time=w.FILETIME_2024 + 600_000_000, boot_time=w.FILETIME_2024 - 10**9, events_lost=5,
        buffers_lost=6, buffers_written=2, file_name="C:\\x.etl", version="10.0.1.5",
        bias_minutes=0, has_header=True,
    )  # fmt: skip
    event_at, size = 0x48, struct.unpack_from("<H", raw, 0x4C)[0]
    assert session.is_log_header(raw[event_at : event_at + size])
    least = 0x20 + (0x110 if narrow else 0x118)
    assert session.parse_log_header(raw[event_at : event_at + least], 9) is not None
    assert session.parse_log_header(raw[event_at : event_at + least - 1], 9) is None
    for at, value in ((2, 3), (3, 0x90), (6, 1), (7, 1)):
        other = bytearray(raw[event_at : event_at + size])
        other[at] = value
        assert session.parse_log_header(bytes(other), 9) is None
    short = session.read_session(raw[: 0x48 + 7])
    assert short == session.UNKNOWN
    assert session.read_session(raw[:0x48] + bytes(8)) == session.UNKNOWN._replace(logger_id=9)


@pytest.mark.parametrize(
    ("times", "keys", "order"),
    [
        ([], [], None), ([5], [5], None), ([5, 5], [5, 5], None), ([5, 7], [5, 7], None),
        ([7, 5], [7, 5], [1, 0]), ([5, None, 7], [5, 5, 7], None), ([7, None, 5], [7, 7, 5],
                                                                     [2, 0, 1]),
        ([None, None, 5], [None, None, 5], None), ([9, None, None, 8, None, 7],
                                                   [9, 9, 9, 8, 8, 7], [5, 3, 4, 0, 1, 2]),
    ],
)  # fmt: skip
def test_events_without_a_time_keep_their_place(times: Any, keys: Any, order: Any) -> None:
    """Behind the event before them; at the start they come first."""
    ts = np.array([NO_TIME if time is None else time for time in times], np.int64)
    assert index.sort_key(ts).tolist() == [NO_TIME if key is None else key for key in keys]
    found = index.time_order(ts)
    assert (None if found is None else found.tolist()) == order


@pytest.mark.parametrize("broken", [0, 1, 8, 9])
def test_broken_manifests_are_told(broken: int) -> None:
    """The first eight of them."""
    events = [
        w.event(PROVIDER, 0xFFFE, BASE + k, b"\1\0\0\x5b\1\0\0\0<", pid=k) for k in range(broken)
    ]
    found = [a.text for a in integrity.check(Trace.of_bytes(trace(events)))
             if a.rule == "etw-manifest-broken"]  # fmt: skip
    assert len(found) == min(broken, 8)
    assert all(text.startswith(f"A manifest in the trace cannot be used: {PROVIDER}")
               for text in found)  # fmt: skip


# -- counts and losses -----------------------------------------------------------------------------


def test_losses_by_the_buffers_that_say_so() -> None:
    """From the buffer before on that processor was flushed until this one was."""
    writer = w.Writer(finalise=False)
    for k, cpu in enumerate((0, 1, 0)):
        writer.add(w.event(PROVIDER, k, BASE + 100 * k), w.event(PROVIDER, k, BASE + 100 * k + 9),
                   cpu=cpu, flags=2 if k == 2 else 0)  # fmt: skip
    trace = Trace.of_bytes(writer.build())
    assert integrity.lost_spans(trace) == [(BASE + 9, BASE + 209)]
    raw = bytearray(writer.build())
    struct.pack_into("<q", raw, 3 * 8192 + 0x18, 9)
    assert integrity.lost_spans(Trace.of_bytes(bytes(raw))) == [
        (BASE + 9, BASE + 209), (BASE + 109, BASE + 209),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("numbers", "gaps"),
    [([], []), ([5], []), ([5, 6, 7], []), ([5, 7], [(0, 5, 1)]), ([7, 5, 5, 11], [(0, 5, 1),
                                                                                   (0, 7, 3)])],
)  # fmt: skip
def test_gaps_between_numbers_of_buffers(numbers: list[int], gaps: list[Any]) -> None:
    """Whatever their order; the number before the gap and how many are missing."""
    table = np.zeros(len(numbers), [("sequence", "i8"), ("cpu", "u2")])
    table["sequence"] = numbers
    assert stated_counts.sequence_gaps(table) == gaps


@pytest.mark.parametrize(
    ("mode", "written", "found", "lacks"),
    [(1, 6, 6, 0), (1, 6, 5, 1), (1, 6, 7, 0), (2, 6, 5, 0), (8, 6, 5, 0), (9, 6, 5, 0),
     (1, 0, 0, 0), (4, 6, 1, 5)],
)  # fmt: skip
def test_buffers_that_the_header_counts(mode: int, written: int, found: int, lacks: int) -> None:
    """Not of circular sessions nor of those with many files, whose count is of another file."""
    told = session.UNKNOWN._replace(mode=mode, buffers_written=written)
    assert stated_counts.lacking(told, [None] * found) == lacks


def test_an_export_chooses_its_session(tmp_path: Path) -> None:
    """By name or number, whatever the case; the only one without either."""
    one = opened("sound.etl")
    assert export.choose([one], None, "x") is one
    assert export.choose([one], "SYNTHETIC", "x") is one
    assert export.choose([one], "7", "x") is one
    path = tmp_path / "out.etl"
    assert export.write(one, str(path)) == len(one)
    assert len(path.read_bytes()) == 6 * 8192


def test_the_largest_file_that_an_export_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every buffer and one more for a header; a byte more than the bound is refused."""
    one, path = opened("sound.etl"), tmp_path / "out.etl"
    total = 7 * 8192
    monkeypatch.setattr(export, "_MOST_GROWTH", 0)
    monkeypatch.setattr(export, "_MOST_BYTES", total)
    assert export.write(one, str(path)) == len(one)
    monkeypatch.setattr(export, "_MOST_BYTES", total - 1)
    path.unlink()
    with pytest.raises(InputError, match=f"is damaged: as a trace, {total:,} bytes"):
        export.write(one, str(path))
    assert not path.exists()
    monkeypatch.setattr(export, "_MOST_GROWTH", 2)
    assert export.write(one, str(path)) == len(one)


@pytest.mark.parametrize("has_schema", [False, True])
def test_a_schema_in_the_trace_goes_before_the_published_one(has_schema: bool) -> None:
    """Of a class of the kernel's, too: alone and among many."""
    process = "3d6fa8d0-fe05-11d0-9dda-00c04fd7ba7c"
    own = info(0, [("Count", 0, 6, 0, "", 1, 0)], source=1, opcode=1, event_guid=process)
    told = (
        [w.classic(SCHEMAS, 0x20, BASE, data) for data in (b"damaged", own)] if has_schema else []
    )
    events = [w.classic(process, 1, BASE + k, b"\7" + bytes(23) + b"a\0") for k in (1, 2)]
    table = EventTable([Trace.of_bytes(trace([*told, *events]))])
    texts = [row.text for row in table.rows()][-2:]
    assert table.frame(text=True)["text"].tolist()[-2:] == texts
    assert [("Count=7" in str(text), "Count" in str(text)) for text in texts] == [
        (has_schema,) * 2
    ] * 2


@pytest.mark.parametrize(
    ("frequency", "sessions", "kept"),
    [(10_000_000, 1, 1), (10_000_000, 100, 100), (10_000_000, 101, 100), (0, 1, 0)],
)
def test_other_sessions_in_a_file(frequency: int, sessions: int, kept: int) -> None:
    """Those whose clock does not go on as the first one's, up to a bound; without a clock none."""
    first = w.Writer(frequency=frequency, buffer_size=1024)
    first.add(w.event(PROVIDER, 1, BASE))
    raw = first.build()
    for k in range(sessions):
        start = w.FILETIME_2024 + 20_000_001 + k
        raw += w.Writer(start_time=start, first_ts=1_000_000, buffer_size=1024).build()
    one = Trace.of_bytes(raw)
    assert len(one.index()) == sessions + 2
    assert len(one.other_headers) == kept


# -- storage errors before an end ------------------------------------------------------------------

TEN_MINUTES = 600 * 10**9


@pytest.mark.parametrize(
    ("time", "crash", "restart", "is_before"),
    [
        (10**18, 10**18, None, True), (10**18 + 1, 10**18, None, False),
        (10**18 - TEN_MINUTES, 10**18, None, True), (10**18 - TEN_MINUTES - 1, 10**18, None, False),
        (0, TEN_MINUTES, None, True), (1, 10**18, None, False), (5, 4, None, False),
        (None, 10**18, None, False), (10**18, None, None, False), (10**18, None, 10**18 + 1, True),
        (10**18, 10**18 - 1, 10**18 + 1, True),
    ],
)  # fmt: skip
def test_storage_errors_before_an_end(
    time: int | None, crash: int | None, restart: int | None, is_before: bool
) -> None:
    """In the ten minutes before the crash or a restart; else they are counted apart."""
    judge, origin = Judge(crash), Origin("t", "made")
    error = RawEvent("disk", event_id=7, level=2, time=time)
    assert list(judge.take(error, origin)) == []
    if restart is not None:
        again = RawEvent("", names.GUIDS[names.KERNEL_POWER], 41, level=1, time=restart)
        list(judge.take(again, origin))
    told = {a.rule for a in judge.end()}
    assert {"event-storage-errors", "etw-storage-errors"} & told == (
        {"event-storage-errors"} if is_before else {"etw-storage-errors"}
    )


@pytest.mark.parametrize(("restarts", "is_before"), [(1, True), (64, True), (65, False)])
def test_restarts_that_storage_errors_are_held_against(restarts: int, is_before: bool) -> None:
    """The last 64; one trace has few, and a made one must not cost more."""
    judge, origin = Judge(), Origin("t", "made")
    list(judge.take(RawEvent("disk", event_id=7, level=2, time=10**18), origin))
    for k in range(restarts):
        time = 10**18 + 1 + 2 * TEN_MINUTES * k
        again = RawEvent("", names.GUIDS[names.KERNEL_POWER], 41, level=1, time=time)
        list(judge.take(again, origin))
    assert ("event-storage-errors" in {a.rule for a in judge.end()}) is is_before


@pytest.mark.parametrize(
    ("errors", "says"),
    [
        (1, "1 storage error (disk 7); the first says: "),
        (2, "2 storage errors (disk 7); the first says: "),
    ],
)
def test_storage_errors_of_a_kind_are_one_finding(errors: int, says: str) -> None:
    """Counted, with the words of the first; each kind for itself."""
    judge = Judge()
    for k in range(errors):
        list(judge.take(RawEvent("disk", event_id=7, level=2, time=k, message=f"m{k}"),
                        Origin("t", f"event {k}")))  # fmt: skip
    list(judge.take(RawEvent("disk", event_id=11, level=3, time=9), Origin("t", "other")))
    first, other = judge.end()
    assert first.text.startswith(says)
    assert (first.subject, first.origin.how, first.evidence[0].value) == (
        "disk 7",
        "event 0",
        errors,
    )
    assert (other.subject, other.evidence[0].value) == ("disk 11", 1)


@pytest.mark.parametrize(
    ("code", "level"),
    [(0xC004002D, 2), (0x80040033, 3), (0x4004000B, 4), (0x0004000B, 4), (0xC0000000, 2)],
)
def test_an_entry_as_an_event(code: int, level: int) -> None:
    """Error, warning and information by the severity of its code (ntstatus.h, winmeta.h)."""
    raw = entry({"ErrorCode": code, "Source": "disk", "Strings": ["a", 7], "Data": b"x"}, 5)
    assert raw == RawEvent("disk", event_id=code & 0xFFFF, level=level, time=5,
                           data=[("", "a"), ("", "7")], binary=b"x")  # fmt: skip
    assert entry({}, 5) == RawEvent("", level=4, time=5, data=[], event_id=0)


# -- pairs of entry and return ---------------------------------------------------------------------


def end_of_call(role: str, ts: int, **values: Any) -> CallEvent:
    """The entry or the return of a call on thread 8."""
    given = {"process_id": 4, "thread_id": values.pop("thread", 8), "processor": 0, "time": ts}
    made = make(Event, origin=Origin("t", "made"), **given)
    none = dict.fromkeys(("call", "status", "extension", "clock", "frequency"))
    fields = {"filter": "f", "callback": "Dump_Start", "stack": "", **none, **values}
    return CallEvent(role=role, ts=ts, event=made, **fields)


CLOCK = Clock(QPC, 10**9, EPOCH, 0)
LOST = "etw-callback-events-lost"


@pytest.mark.parametrize(
    ("lost", "number", "rules", "duration", "bounds"),
    [
        ([], None, [], 100, (None, None)), ([(50, 99)], None, [], 100, (None, None)),
        ([(50, 100)], None, [LOST], None, (0, 100)), ([(50, 100)], 1, [LOST], 100, (None, None)),
        ([(200, 300)], 1, [LOST], 100, (None, None)), ([(201, 300)], 1, [], 100, (None, None)),
        ([(1, 2), (150, 160)], None, [LOST], None, (0, 100)),
    ],
)  # fmt: skip
def test_losses_inside_a_call(
    lost: Any, number: Any, rules: Any, duration: Any, bounds: Any
) -> None:
    """Those that touch it; without a number the pair may be of two calls."""
    ends = [end_of_call("entry", 100, call=number), end_of_call("return", 200, call=number)]
    found = callbacks.pair(ends, CLOCK, lost)
    assert [a.rule for a in found.anomalies] == rules
    (call,) = found.callbacks
    assert (call.duration_ns if isinstance(call.duration_ns, int) else None) == duration
    assert (call.duration_low_ns, call.duration_high_ns) == bounds


@pytest.mark.parametrize("role", ["entry", "return"])
@pytest.mark.parametrize(
    ("lost", "of_entry", "of_return"),
    [([], False, False), ([(0, 99)], False, False), ([(0, 100)], True, True),
     ([(100, 200)], True, True), ([(101, 200)], True, False)],
)  # fmt: skip
def test_losses_around_half_a_call(lost: Any, of_entry: bool, of_return: bool, role: str) -> None:
    """Its other half may have been lost: the return at any later time, the entry before."""
    (told,) = callbacks.pair([end_of_call(role, 100)], CLOCK, lost).anomalies
    missing, is_known = ("return", of_entry) if role == "entry" else ("entry", of_return)
    tail = "; the trace lost events around it." if is_known else "."
    assert told.text == f"Dump_Start of f has no {missing} event in the trace{tail}"


@pytest.mark.parametrize(
    ("entry", "back", "belongs"),
    [
        ({}, {}, True), ({"thread": 9}, {}, False), ({"thread": 9, "call": 1}, {"call": 1}, True),
        ({"call": 2}, {"call": 1}, False), ({"call": 1}, {}, True),
        ({"call": 1, "thread": 9}, {}, False), ({"filter": "g"}, {}, False),
        ({"callback": "Dump_Finish"}, {}, False),
    ],
)  # fmt: skip
def test_which_return_belongs_to_an_entry(entry: Any, back: Any, belongs: bool) -> None:
    """By filter and callback, and by the call's number or, where one has none, by the thread."""
    found = callbacks.pair([end_of_call("entry", 1, **entry), end_of_call("return", 5, **back)],
                           CLOCK, [])  # fmt: skip
    assert len(found.callbacks) == (1 if belongs else 2)
    assert len(found.anomalies) == (0 if belongs else 2)


def test_calls_inside_calls_end_in_their_order() -> None:
    """The return of the latest entry comes first; numbers count calls of a callback."""
    times = (("entry", 1), ("entry", 3), ("return", 10), ("return", 30), ("entry", 40))
    ends = [end_of_call(role, ts) for role, ts in times]
    found = callbacks.pair(ends, CLOCK, [])
    told = [(c.call, c.duration_ns if isinstance(c.duration_ns, int) else None)
            for c in found.callbacks]  # fmt: skip
    assert told == [(0, 29), (1, 7), (2, None)]
    nested = [a.text for a in found.anomalies if a.rule == "etw-callback-nested"]
    assert nested == ["Dump_Start of f began inside Dump_Start of f on the same thread."]


@pytest.mark.parametrize(
    ("entry", "back", "duration"),
    [
        ({"clock": 5, "frequency": 1000}, {"clock": 7}, 2_000_000),
        ({"clock": 5}, {"clock": 7, "frequency": 500}, 4_000_000),
        ({"clock": 5, "frequency": 1000}, {"clock": 7, "frequency": 500}, 2_000_000),
        ({"clock": 5, "frequency": 1}, {"clock": 7}, 2 * 10**9), ({"clock": 5}, {"clock": 7}, 50),
        ({"clock": 5, "frequency": 0}, {"clock": 7}, 50), ({"clock": 5, "frequency": -1},
                                                           {"clock": 7}, 50),
        ({"clock": 5, "frequency": 1000}, {}, 50), ({}, {"clock": 5, "frequency": 1000}, 50),
        ({"clock": 0, "frequency": 1000}, {"clock": 0}, 0),
        ({"clock": 7, "frequency": 1000}, {"clock": 5}, None),
    ],
)  # fmt: skip
def test_which_clock_a_call_is_timed_by(entry: Any, back: Any, duration: int | None) -> None:
    """The one that both events carry and whose frequency one of them tells, else the session's."""
    found = callbacks.pair(
        [end_of_call("entry", 100, **entry), end_of_call("return", 150, **back)], CLOCK, []
    )
    (call,) = found.callbacks
    assert (call.duration_ns if isinstance(call.duration_ns, int) else None) == duration
    assert ("etw-clock-backwards" in {a.rule for a in found.anomalies}) is (duration is None)
    assert (call.entry_clock, call.return_clock) == (
        entry.get("clock", 100),
        back.get("clock", 150),
    )


def test_events_are_told_apart_by_all_bits_of_version_and_opcode() -> None:
    """What one event means is never taken for what its neighbour means."""
    pairs = [(0, 0x80), (1, 0), (0, 1), (2, 0), (1, 0x80), (0, 0xFF), (255, 0), (0x80, 0x80)]
    writer = w.Writer()
    for k, (version, opcode) in enumerate(pairs):
        writer.add(w.classic(PROVIDER, opcode, w.FILETIME_2024 + k, version=version))
    rows = list(EventTable([Trace.of_bytes(writer.build())]).rows())[-len(pairs) :]
    assert [(row.version, row.name) for row in rows] == [(v, f"opcode {o}") for v, o in pairs]


@pytest.mark.parametrize("size", [0, 1, 79])
def test_what_is_too_short_for_a_trace(size: int) -> None:
    """A buffer header of 72 bytes and the first 8 bytes of an event: said, with the size."""
    with pytest.raises(InputError, match=f"expected 80 bytes, found {size} bytes"):
        Trace.of_bytes(bytes(size))
    with pytest.raises(UnsupportedError, match="not an ETW trace"):
        Trace.of_bytes(bytes(80))


@pytest.mark.parametrize(
    ("number", "took", "is_told"),
    [(507, 10_000_000, True), (507, 9_999_999, False), (506, 10_000_000, False),
     (508, 10_000_000, False), (509, 10_000_000, False)],
)  # fmt: skip
def test_a_request_that_storport_reset(number: int, took: int, is_told: bool) -> None:
    """Event 507, whatever its level, tells how long the request had been under way."""
    data = w.utf16("storahci") + struct.pack("<IBBB", 0, 0, 0, 0) + bytes(16)
    data += struct.pack("<iI", 0, 2) + b"\x28\0" + struct.pack("<Q", took)
    storport = "c4636a1e-7986-4646-bf10-7bc3b4a76e8e"
    one = Trace.of_bytes(trace([w.event(storport, number, BASE, data, version=1, level=4)]))
    requests = [row for row in findings.tell(one) if isinstance(row, Request)]
    assert [row.duration_ns for row in requests] == [took * 100] * is_told


@pytest.mark.parametrize(
    ("provider", "name", "fields", "data"),
    [
        (
            providers.STORPORT, "Slow",
            [("RequestDuration_100ns", b"\x0a"), ("SrbStatus", b"\x01"), ("Command", b"\x01")],
            struct.pack("<Q", 1 << 40) + w.utf16("bad") + w.utf16("worse"),
        ),
        (
            providers.CRASHDUMP, "Created",
            [("CreateDumpFileDurationInMs", b"\x08"), ("DumpFileSizeInBytes", b"\x01")],
            struct.pack("<I", 20_000) + w.utf16("large"),
        ),
        (
            providers.IO_ERROR_LOG, "ErrorLogEntry",
            [("ErrorCode", b"\x01"), ("Strings", b"\x08"), ("Data", b"\x08")],
            w.utf16("none") + struct.pack("<II", 1, 2),
        ),
    ],
    ids=["storport", "crashdump", "error-log"],
)  # fmt: skip
def test_a_field_that_is_of_another_kind_than_its_name_says(
    tmp_path: Path, provider: str, name: str, fields: list[tuple[str, bytes]], data: bytes
) -> None:
    """An event that describes itself can call a text what Windows has as a number."""
    number = 505 if provider == providers.STORPORT else 3
    items = (w.tracelogging(name, fields),)
    path = tmp_path / "a.etl"
    path.write_bytes(trace([w.event(provider, number, BASE, data, level=2, items=items)]))
    records = etl.collect(str(path))
    for table in records.tables:
        assert len(list(tables.json_rows(table, records[table]))) == len(list(records[table]))
