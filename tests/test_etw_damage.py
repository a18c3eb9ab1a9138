"""Damaged traces: what is lost is small and named, what is left is right, and nothing hangs."""

from __future__ import annotations

import contextlib
import random
import struct
from pathlib import Path
from typing import Any

import etw_writer as w
import pytest
from conftest import shared_sample

from analyzer.cli import main
from analyzer.errors import AnalyzerError
from analyzer.etw import export, findings, integrity
from analyzer.etw.buffers import blocks
from analyzer.etw.clock import NO_TIME
from analyzer.etw.dumpblock import sessions
from analyzer.etw.events import EventTable
from analyzer.etw.trace import Trace

PROVIDER = "8e805eb3-6a8f-4a1e-8f6a-1e4ab35e808e"
SHUTDOWN = "etl/airbus-cert_etl-parser__ShutdownPerfDiagLogger.etl"


def plain(buffers: int = 60, events: int = 40, **options: object) -> bytes:
    """A sound trace of many buffers."""
    writer = w.Writer(**options)  # type: ignore[arg-type]
    for k in range(buffers):
        t0 = 2_000_000 + 1000 * k
        writer.add(*[w.event(PROVIDER, i, t0 + i, b"payload " * (i % 5)) for i in range(events)],
                   cpu=k % 2)  # fmt: skip
    return writer.build()


def checked(raw: bytes) -> Trace:
    """Reads all and asserts that every byte is in one of the sums."""
    trace = Trace.of_bytes(raw)
    trace.index()
    assert trace.account.bytes_accounted == trace.account.bytes_total
    return trace


def rules(trace: Trace) -> set[str]:
    """Rule ids of the trace's anomalies."""
    return {anomaly.rule for anomaly in integrity.check(trace)}


def test_event_with_size_zero_costs_only_itself() -> None:
    """Behind a zeroed Size the chain is found again: 98 % and more of the real trace survive."""
    raw = bytearray(shared_sample(SHUTDOWN).read_bytes())
    whole = Trace.of_bytes(bytes(raw))
    offset = int(whole.index().columns["offset"][1700])
    at, _ = whole.origin_of(int(whole.index().columns["buffer"][1700]), offset)
    struct.pack_into("<H", raw, at + 4, 0)
    damaged = checked(bytes(raw))
    assert len(damaged) >= 0.98 * 17078  # a C reader with per-buffer resync keeps 16,796
    assert len(damaged) == 17077
    assert "etw-damaged" in rules(damaged)


def test_zeroed_event_is_skipped_and_its_bytes_are_named() -> None:
    """An event overwritten with zeros is reported with place and size; the rest is read."""
    raw = bytearray(plain())
    whole = Trace.of_bytes(bytes(raw))
    cols = whole.index().columns
    at, _ = whole.origin_of(int(cols["buffer"][500]), int(cols["offset"][500]))
    size = (int(cols["size"][500]) + 7) & ~7
    raw[at : at + size] = bytes(size)
    damaged = checked(bytes(raw))
    assert len(damaged) == len(whole) - 1
    assert damaged.account.bytes_skipped == size
    assert [note.offset for note in damaged.account.notes] == [at]


def test_zeroed_buffer_costs_that_buffer() -> None:
    """A zeroed buffer is skipped by the session's buffer size."""
    raw = bytearray(plain())
    raw[5 * 8192 : 6 * 8192] = bytes(8192)
    trace = checked(bytes(raw))
    assert len(trace) == 1 + 59 * 40
    assert [(n.kind, n.offset) for n in trace.account.notes] == [("resync", 5 * 8192)]
    assert trace.account.bytes_skipped == 8192


def test_wrong_buffer_size_is_repaired_from_the_session() -> None:
    """A buffer header whose size is nonsense but whose rest fits costs nothing."""
    raw = bytearray(plain())
    struct.pack_into("<I", raw, 7 * 8192, 0x12345)
    trace = checked(bytes(raw))
    assert len(trace) == 1 + 60 * 40
    assert [note.kind for note in trace.account.notes] == ["header"]


@pytest.mark.parametrize("share", [0.3, 0.5, 0.701, 0.999])
def test_cut_trace_keeps_all_before_the_cut(share: float) -> None:
    """A file cut anywhere yields every event that is whole, and the cut is reported."""
    raw = plain()
    whole = Trace.of_bytes(raw)
    cut = int(len(raw) * share)
    trace = checked(raw[:cut])
    cols = whole.index().columns
    ends = [
        whole.origin_of(b, o)[0] + s
        for b, o, s in zip(cols["buffer"].tolist(), cols["offset"].tolist(), cols["size"].tolist())
    ]
    assert len(trace) == sum(end <= cut for end in ends)
    assert "etw-cut" in rules(trace)


def test_missing_header_still_gives_the_events() -> None:
    """Without the first buffer events are read, untimed, and the rule says so."""
    raw = plain()[8192:]
    trace = checked(raw)
    assert len(trace) == 60 * 40
    assert "etw-header-missing" in rules(trace)
    assert not isinstance(next(iter(EventTable([trace]))).time, int)


def test_damaged_compressed_buffer_costs_only_itself() -> None:
    """One compressed buffer of rubbish: the others stay; its bytes are named."""
    raw = bytearray(plain(compression=w.XPRESS))
    whole = Trace.of_bytes(bytes(raw))
    row = whole.buffers.table[10]
    at, stride = int(row["offset"]), int(row["stride"])
    raw[at + 0x48 : at + stride] = b"\xff" * (stride - 0x48)
    trace = checked(bytes(raw))
    assert len(trace) >= len(whole) - 40
    assert "etw-damaged" in rules(trace)


def test_lost_compressed_buffer_header_is_resynchronised_by_content() -> None:
    """A zeroed header between compressed buffers, which have no fixed size, is stepped over."""
    raw = bytearray(plain(compression=w.XPRESS))
    whole = Trace.of_bytes(bytes(raw))
    at = int(whole.buffers.table[10]["offset"])
    raw[at : at + 0x48] = bytes(0x48)
    trace = checked(bytes(raw))
    assert len(trace) == len(whole) - 40


def test_losses_in_header_and_flags_are_findings() -> None:
    """EventsLost, buffer gaps and an unfinished file give their rules."""
    writer = w.Writer(events_lost=5, buffers_lost=2, finalise=False)
    writer.add(w.event(PROVIDER, 1, 2_000_000))
    writer.add(w.event(PROVIDER, 1, 2_000_001))
    raw = bytearray(writer.build())
    struct.pack_into("<q", raw, 2 * 8192 + 0x18, 9)
    trace = checked(bytes(raw))
    assert rules(trace) == {"etw-events-lost", "etw-buffers-missing", "etw-unfinalised"}


def mutate(raw: bytes, rng: random.Random) -> bytes:
    """Flips bits, overwrites words, cuts or repeats a part."""
    out = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 8, 40))):
        at = rng.randrange(len(out))
        kind = rng.randrange(6)
        if kind < 3:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 3:
            out[at : at + 4] = rng.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x13\xc0\x00\x00"))
        elif kind == 4:
            # structure-aware: hit a buffer or event header, not only payload
            base = at // 8192 * 8192
            out[min(base + rng.randrange(0x58), len(out) - 1)] = rng.randrange(256)
        else:
            del out[at + 1 : at + rng.choice((2, 9, 73, 1025))]
    if rng.random() < 0.2:
        out = out[: rng.randrange(1, len(out))]
    return bytes(out)


@pytest.mark.parametrize("seed", range(8))
def test_sixty_mutations_each_end_in_a_result_or_our_error(seed: int) -> None:
    """600 mutations in all (with the dump block below) end without a foreign exception."""
    rng = random.Random(seed)
    formats = (0, 0, w.XPRESS, w.LZNT1, w.XPRESS_HUFF)
    sources = [plain(buffers=6, events=12, compression=f) for f in formats]
    for _ in range(60):
        raw = mutate(rng.choice(sources), rng)
        try:
            trace = checked(raw)
            for record in findings.tell(trace):
                assert record.origin.source == trace.path
            count = sum(1 for _ in EventTable([trace]).rows())
            assert count == len(trace)
        except AnalyzerError:
            pass


def test_mutations_of_a_real_dump_block() -> None:
    """A real ETW block of a dump, mutated: every byte stays accounted for."""
    rng = random.Random(99)
    raw = shared_sample("dmp/rizinorg_rizin-testbins__triage_x64.dmp").read_bytes()
    at = raw.find(b"\x10\xb7\x88\x2b\x93\x1c\x7c\x4f")
    size, pre = struct.unpack_from("<II", raw, at + 16)
    block = raw[at + 28 + pre :][:size]
    for _ in range(120):
        found = sessions(mutate(block, rng))
        assert found.bytes_total == (
            found.bytes_headers + found.bytes_buffers + found.bytes_skipped
        )
        for trace in found.traces:
            assert sum(1 for _ in EventTable([trace]).rows()) == len(trace)
            assert trace.account.bytes_total == trace.account.bytes_accounted


def test_an_appended_session_with_another_clock_is_reported() -> None:
    """Two sessions in one file, hours apart: all events are read, the times are questioned."""
    first = plain(buffers=2, events=2)
    second = w.Writer(start_time=w.FILETIME_2024 + 10**12, first_ts=1_000_000)
    second.add(w.event(PROVIDER, 1, 2_000_000))
    trace = checked(first + second.build())
    assert len(trace) == 1 + 4 + 2
    assert "etw-several-sessions" in rules(trace)
    assert rules(checked(first)) == set()


def test_broken_texts_of_the_user_end_in_our_error(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Manifests, TMF and mapping files with random damage give a result or an AnalyzerError."""
    from test_etw_callbacks import MAPPING
    from test_etw_payload import MANIFEST, TMF

    from analyzer.etw import callbacks, manifests, wpp

    rng = random.Random(3)
    for text, load in ((MANIFEST, manifests.load), (TMF, wpp.load),
                       (MAPPING, callbacks.load_mapping)):  # fmt: skip
        for _ in range(150):
            raw = bytearray(text.encode())
            for _ in range(rng.choice((1, 3, 10))):
                raw[rng.randrange(len(raw))] = rng.randrange(256)
            path = tmp_path / "damaged"
            path.write_bytes(bytes(raw[: rng.randrange(1, len(raw) + 1)]))
            with contextlib.suppress(AnalyzerError):
                load(str(path))


@pytest.mark.parametrize("fmt", [w.XPRESS, w.XPRESS_HUFF, w.LZNT1])
def test_compressed_trace_without_its_first_buffer_is_still_expanded(fmt: int) -> None:
    """The format is told by the first buffer; without it, it is found by trying."""
    raw = plain(buffers=6, events=20, compression=fmt)
    trace = checked(raw[8192:])
    assert len(trace) == 120


def buffers_of(raw: bytes) -> list[bytes]:
    """The buffers of a sound trace."""
    size = struct.unpack_from("<I", raw)[0]
    return [raw[at : at + size] for at in range(0, len(raw), size)]


def test_buffers_that_are_gone_are_told() -> None:
    """10 of 26, from the middle or the end: the header counts them."""
    parts = buffers_of(plain(25))
    assert Trace.of_bytes(b"".join(parts)).session.buffers_written == len(parts) == 26
    assert "etw-buffers-lacking" not in rules(checked(b"".join(parts)))
    for left in (parts[:16], parts[:8] + parts[18:], parts[:25]):
        trace = checked(b"".join(left))
        (told,) = (a for a in integrity.check(trace) if a.rule == "etw-buffers-lacking")
        assert f"states 26 buffers; {26 - len(left)} of them" in told.text


def test_buffers_that_stand_twice_count_once() -> None:
    """Equal byte by byte: their events are there once, and it is told."""
    parts = buffers_of(plain(6))
    sound, twice = checked(b"".join(parts)), checked(b"".join([*parts[:4], parts[3], *parts[4:]]))
    assert len(twice) == len(sound)
    assert "etw-buffers-repeated" in rules(twice)
    assert "etw-buffers-repeated" not in rules(sound)
    assert list(EventTable([twice]).rows()) != []


def test_a_buffer_that_says_it_is_empty_and_is_not_is_told() -> None:
    """Both offsets zeroed: its events are missing, and one sentence says so."""
    parts = buffers_of(plain(6))
    broken = bytearray(parts[3])
    struct.pack_into("<I", broken, 4, 0x48)  # SavedOffset
    struct.pack_into("<I", broken, 0x30, 0x48)  # Offset
    trace = checked(b"".join([*parts[:3], bytes(broken), *parts[4:]]))
    assert "etw-buffer-not-empty" in rules(trace)
    assert "etw-buffer-not-empty" not in rules(checked(b"".join(parts)))


@pytest.mark.parametrize("size", [0, 64, 72, 8200, 0xFFFFFFFF])
def test_a_wrong_size_in_one_header_costs_no_event(size: int) -> None:
    """WNODE_HEADER.BufferSize of one buffer differs from the session's: named, and read as that."""
    raw = bytearray(plain())
    struct.pack_into("<I", raw, 30 * 8192, size)
    damaged = checked(bytes(raw))
    assert len(damaged) == len(checked(plain()))
    assert rules(damaged) == {"etw-damaged"}
    (note,) = damaged.account.notes
    assert (note.offset, note.text) == (30 * 8192, f"buffer size {size:#x} read as 0x2000")


@pytest.mark.parametrize("left", [0, 1, 7, 8, 15, 16])
def test_events_behind_damage_run_to_the_end_of_a_buffer(left: int) -> None:
    """Too few bytes for another event end a chain, none are too few; eight and more do not."""
    parts = buffers_of(plain(3, 5))
    broken = bytearray(parts[2])
    (end,) = struct.unpack_from("<I", broken, 4)
    struct.pack_into("<H", broken, 0x48, 0)  # Size of the first event
    for at in (4, 0x30):
        struct.pack_into("<I", broken, at, end + left)
    broken[end : end + left] = b"x" * left
    trace = checked(b"".join([*parts[:2], bytes(broken), *parts[3:]]))
    kept = 4 if left < 8 else 0
    assert len(trace) == len(checked(b"".join(parts))) - 5 + kept
    assert trace.account.events_recovered == kept


def test_spans_of_damage() -> None:
    """From the first event of the buffer to the first of the next, without end for the last."""
    parts = buffers_of(plain(3, 5))
    whole = Trace.of_bytes(b"".join(parts))
    first = [int(time) for time in whole.first_times()]
    assert integrity.lost_spans(whole) == []
    for k, until in ((1, first[2]), (2, first[3]), (3, (1 << 63) - 1)):
        broken = bytearray(parts[k])
        struct.pack_into("<H", broken, 0x48 + 0x50, 0)  # Size of the second event
        trace = Trace.of_bytes(b"".join([*parts[:k], bytes(broken), *parts[k + 1 :]]))
        assert len(trace) == len(whole) - 1
        assert integrity.lost_spans(trace) == [(first[k], until)]


def test_buffers_without_any_first_buffer_have_the_usual_size() -> None:
    """64 KB, where neither a header of the trace nor a first buffer says it."""
    parts = buffers_of(plain(3, 5, buffer_size=65536))
    trace = checked(b"".join([bytes(65536), *parts[1:]]))
    assert len(trace) == 15
    assert trace.account.bytes_skipped == 65536


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ([], "header"), ([(4, "I", 8193)], "resync"), ([(0x30, "I", 8193)], "resync"),
        ([(4, "I", 0), (0x30, "I", 0x48)], "header"), ([(4, "I", 0x47), (0x30, "I", 0x47)],
                                                       "resync"),
        ([(0x2A, "H", 9)], "resync"), ([(0x36, "H", 15)], "header"), ([(0x36, "H", 16)], "resync"),
        ([(0x34, "H", 0xBF)], "header"), ([(0x34, "H", 0x100)], "resync"),
        ([(0x34, "H", 0x40)], "resync"), ([(8192 + 0x2A, "H", 9)], "resync"),
    ],
)  # fmt: skip
def test_a_header_whose_size_alone_is_wrong(changes: list[Any], kind: str) -> None:
    """Everything else in it must be sound, and the next buffer stand where the session puts it."""
    raw = bytearray(plain(4, 5))
    at = 2 * 8192
    struct.pack_into("<I", raw, at, 17)
    for place, code, value in changes:
        struct.pack_into("<" + code, raw, at + place, value)
    trace = checked(bytes(raw))
    assert (trace.account.notes[0].kind, trace.account.notes[0].offset) == (kind, at)


@pytest.mark.parametrize(
    ("limit", "groups"),
    [
        (1, [1] * 6),
        (1 << 13, [1] * 6),
        (1 << 14, [2] * 3),
        (3 << 13, [3] * 2),
        (6 << 13, [6]),
        (1 << 20, [6]),
        (4 << 13, [3] * 2),
        (5 << 13, [3] * 2),
    ],
)
def test_buffers_in_groups_of_one_size(limit: int, groups: list[int]) -> None:
    """As few as the limit allows, about equal; a buffer alone may be larger."""
    whole = Trace.of_bytes(plain(5, 5))
    found = list(blocks(whole.buffers, limit=limit))
    assert [len(block.numbers) for block in found] == groups
    assert [k for block in found for k in block.numbers.tolist()] == list(range(6))
    assert [block.first for block in found] == [sum(groups[:k]) for k in range(len(groups))]


@pytest.mark.parametrize("reserved", [0, 0x1F, 0x20, 0x80, 0xFF])
@pytest.mark.parametrize("zeros", [0, 64])
def test_messages_whatever_their_reserved_byte(reserved: int, zeros: int) -> None:
    """Of a WPP message the marker counts (MESSAGE_TRACE_HEADER of evntrace.h), zeros end it all."""
    message = bytearray(w.message(PROVIDER, 42, 2_000_001, b"12345"))
    message[2] = reserved
    writer = w.Writer()
    writer.add(w.event(PROVIDER, 1, 2_000_000), bytes(message), bytes(message),
               w.event(PROVIDER, 2, 2_000_009))  # fmt: skip
    raw = bytearray(writer.build())
    (end,) = struct.unpack_from("<I", raw, 8192 + 4)
    for at in (4, 0x30):
        struct.pack_into("<I", raw, 8192 + at, end + zeros)
    raw[8192 + end : 8192 + end + zeros] = bytes(zeros)
    trace, sound = checked(bytes(raw)), checked(writer.build())
    ids = [event.event_id for event in EventTable([trace]).rows()][1:]
    assert ids == [1, 42, 42, 2]
    assert trace.account.bytes_events == sound.account.bytes_events
    assert rules(trace) == set()


@pytest.mark.parametrize("fmt", [2, 3, 4])
def test_the_last_compressed_buffer_is_found_behind_damage(fmt: int) -> None:
    """It ends where the file does."""
    raw = plain(buffers=6, events=20, compression=fmt)
    at = [0]
    while at[-1] < len(raw):
        at.append(at[-1] + struct.unpack_from("<I", raw, at[-1])[0])
    broken = bytearray(raw)
    broken[at[-3] : at[-3] + 0x48] = bytes(0x48)  # the header of the last but one
    assert len(checked(bytes(broken))) == len(checked(raw)) - 20


def test_buffers_of_untimed_events_have_no_first_time() -> None:
    """Their headers have no clock; others have the least of their events."""
    untimed = struct.pack("<HBBI", 8, 12, 0xC0, 0)
    writer = w.Writer()
    writer.add(untimed, untimed)
    writer.add(untimed, w.event(PROVIDER, 1, 2_000_005), w.event(PROVIDER, 1, 2_000_003), untimed)
    trace = Trace.of_bytes(writer.build())
    assert trace.first_times().tolist()[1:] == [NO_TIME, 2_000_003]


def test_a_buffer_of_the_smallest_event_is_exported() -> None:
    """Eight bytes behind the header of the buffer; empty buffers are left out."""
    writer = w.Writer()
    writer.add(struct.pack("<HBBI", 8, 12, 0xC0, 0))
    writer.add()
    trace = Trace.of_bytes(writer.build())
    assert len(trace.buffers.table) == 3
    again = Trace.of_bytes(b"".join(export.pieces(trace)))
    assert (len(again), len(again.buffers.table)) == (2, 2)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 12])
def test_eight_damaged_places_are_told_one_by_one(count: int) -> None:
    """All of them are counted."""
    parts = buffers_of(plain(12, 5))
    for k in range(1, 1 + count):
        broken = bytearray(parts[k])
        struct.pack_into("<H", broken, 0x48 + 0x50, 0)  # Size of the second event
        parts[k] = bytes(broken)
    trace = checked(b"".join(parts))
    (told,) = (a for a in integrity.check(trace) if a.rule == "etw-damaged")
    size = 0x58 * count
    assert told.text == (
        f"{size} of {len(trace.data)} bytes are damaged in {count} places; {3 * count} events "
        "behind damage were found again."
    )
    assert len(told.evidence) == min(count, 8)
    assert (told.evidence[0].label, told.origin.file_offset) == (
        f"event at {8192 + 0x98:#x}", 8192 + 0x98,
    )  # fmt: skip


@pytest.mark.parametrize("count", [1, 8, 9])
def test_eight_gaps_are_told_one_by_one(count: int) -> None:
    """Every other number is missing."""
    raw = bytearray(plain(10, 2, finalise=False))
    for k in range(11):
        struct.pack_into("<q", raw, k * 8192 + 0x18, k + min(k, count))
    (told,) = (a for a in integrity.check(Trace.of_bytes(bytes(raw)))
               if a.rule == "etw-buffers-missing")  # fmt: skip
    numbers = f"{count} buffer number{'s' if count > 1 else ''}"
    places = f"{count} place{'s' if count > 1 else ''}"
    assert told.text == f"Missing are {numbers} in {places}."
    assert len(told.evidence) == min(count, 8)
    assert [e.value for e in told.evidence] == [1] * min(count, 8)


def swallowing(count: int, last: bool = False) -> tuple[bytes, int]:
    """A trace in which the Size of an event covers ``count`` others; the offset of that event."""
    parts = buffers_of(plain(6))
    broken = bytearray(parts[3])
    (end,) = struct.unpack_from("<I", broken, 4)
    places = [0x48]
    while places[-1] < end:
        places.append(places[-1] + (struct.unpack_from("<H", broken, places[-1])[0] + 7 & ~7))
    first = len(places) - 2 - count if last else 5
    struct.pack_into("<H", broken, places[first], places[first + 1 + count] - places[first])
    return b"".join([*parts[:3], broken, *parts[4:]]), 3 * 8192 + places[first]


@pytest.mark.parametrize("last", [False, True], ids=["middle", "end of the buffer"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_size_that_covers_other_events_is_told(
    count: int, last: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are no events any more: a warning says how many, and where."""
    raw, at = swallowing(count, last)
    trace = checked(raw)
    assert len(trace) == len(checked(plain(6))) - count
    (told,) = integrity.check(trace)
    assert (told.rule, told.origin.file_offset) == ("etw-event-too-long", at)
    assert [evidence.value for evidence in told.evidence] == [count]
    path = tmp_path / "x.etl"
    path.write_bytes(raw)
    assert main(["analyze", str(path)]) == 1
    others = "1 other" if count == 1 else "3 others"
    assert f"1 event is so large that it includes {others}, which were not read as events." in (
        " ".join(capsys.readouterr().out.split())
    )


def test_payload_that_looks_like_events_is_no_loss() -> None:
    """Copies of headers in a payload have other times, or do not end where the event does."""
    writer = w.Writer(buffer_size=65536)
    earlier = w.event(PROVIDER, 999, 1_999_999)
    longer = w.event(PROVIDER, 999, 2_000_000) + bytes(8)
    for k in range(40):
        writer.add(w.event(PROVIDER, 1, 2_000_000 + k, (earlier, longer)[k % 2]))
    writer.add(w.event(PROVIDER, 1, 2_000_100))
    assert rules(checked(writer.build())) == set()
