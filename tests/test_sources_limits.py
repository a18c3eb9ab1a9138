"""Limits and rare branches of the sources, where a whole input would say too much."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from conftest import make

from analyzer import sources
from analyzer.absence import Absent
from analyzer.records import Callback, Filter, Origin, Processor, Records
from analyzer.sources import callbacks_seen, capture_timing, event_log_objects, event_log_xml
from analyzer.sources import event_log_blocks as blocks
from analyzer.sources.capture_timing import Frequency, Noise, Statistics
from analyzer.sources.dumpstack_log_text import LogText, decode
from analyzer.sources.event_log_table import delimited, separator_of, table
from analyzer.sources.registry_meaning import text_of

# -- calls of a capture ----------------------------------------------------------------------------


@pytest.mark.parametrize("calls", [100, 101, 102])
def test_a_hundred_findings_of_a_kind_are_told_one_by_one(tmp_path: Path, calls: int) -> None:
    """The rest as a number; calls inside calls have a limit of their own."""
    facts: list[dict[str, Any]] = [
        {"dumpstart": "capture", "schema": 1},
        {"fact": "armed", "id": 1, "filter": "a.sys", "callback": "Dump_Start"},
        *({"fact": "call", "n": n, "id": 1, "cpu": 0} for n in range(calls)), {"fact": "end"},
    ]  # fmt: skip
    path = tmp_path / "c.jsonl"
    path.write_text("".join(json.dumps(fact) + "\n" for fact in facts))
    told = [a.text for a in sources.collect(str(path)).anomalies]
    open_ones = [text for text in told if "has no return in the capture" in text]
    nested = [text for text in told if "had not returned on the same processor" in text]
    assert (len(open_ones), len(nested)) == (100, min(calls - 1, 100))
    rest = f"{calls - 100} more calls of a.sys are as the calls told one by one; the callbacks "
    assert [text for text in told if "more calls of" in text] == (
        [f"{rest}table has them all."] if calls > 100 else []
    )
    assert ("1 more calls were entered inside another." in told) is (calls == 102)


def test_bytes_and_place_of_an_extension(tmp_path: Path) -> None:
    """Only together; at the entry and at the return of a call."""
    facts: list[dict[str, Any]] = [{"dumpstart": "capture", "schema": 1}]
    facts += [{"fact": "armed", "id": 1, "filter": "a.sys", "callback": "Dump_Start"}]
    given = [{}, {"ext": "00" * 0x60}, {"extension": "0x7000"},
             {"extension": "0x8000", "ext": "00" * 0x60}]  # fmt: skip
    for number, part in enumerate(given):
        ends = {key: part[key] for key in part if key == "ext"}
        facts += [{"fact": "call", "n": number, "id": 1, "cpu": 0, "tsc": "0x1", **part}]
        facts += [{"fact": "return", "n": number, "id": 1, "cpu": 0, "tsc": "0x2", **ends}]
    path = tmp_path / "c.jsonl"
    path.write_text("".join(json.dumps(fact) + "\n" for fact in [*facts, {"fact": "end"}]))
    records = sources.collect(str(path))
    assert [row.extension for row in records["extensions"]] == [0x8000]
    calls = [row for row in records["callbacks"] if isinstance(row.call, int)]
    assert [row.extension or None for row in calls] == [None, None, 0x7000, 0x8000]


@pytest.mark.parametrize(
    ("ticks", "noise", "told"),
    [
        (5, None, (None, 0, 5_000_000)),
        (5, Noise(1, 2, 5, 3), (None, 0, 4_000_000)), (0, Noise(1, 2, 5, 3), (None, 0, 0)),
        (6, Noise(1, 2, 5, 3), (4_000_000, 1_000_000, 5_000_000)),
        (100, Noise(0, 0, 0, 1), (100_000_000, 100_000_000, 100_000_000)),
    ],
)  # fmt: skip
def test_a_duration_stands_out_of_the_noise(ticks: int, noise: Any, told: Any) -> None:
    """At 1000 Hz, in ns: the value, and its bounds by the least and the most noise."""
    found = capture_timing.span(ticks, noise, Frequency(1000, 1000, 1000, "h"))
    assert tuple(v if isinstance(v, int) else None for v in found) == told


def test_bounds_follow_the_frequency() -> None:
    """The lower bound by the fastest clock, the upper by the slowest."""
    clock = Frequency(1000, 500, 2000, "h")
    found = capture_timing.span(10, Noise(0, 0, 0, 1), clock)
    assert found == (10_000_000, 5_000_000, 20_000_000)


def test_noise_and_statistics() -> None:
    """Negative samples are none; medians; the deviation in units of a normal distribution."""
    assert capture_timing.noise_of([]) is None
    assert capture_timing.noise_of([-1]) is None
    assert capture_timing.noise_of([7, -1, 0, 4]) == Noise(0, 4, 7, 3)
    assert capture_timing.statistics([]) is None
    spans = [(0, 10), (10, 30), (20, 60), (1000, 3000)]
    # middles 5, 20, 40, 2000: median 30; deviations 25, 10, 10, 1970: median 17.5 x 1.4826
    assert capture_timing.statistics(spans) == Statistics(4, 15, 45, 25)


MS = 1_000_000


@pytest.mark.parametrize(
    ("low", "others", "is_out"),
    [
        (2 * MS + 1, Statistics(8, 0, MS, 0), True), (2 * MS, Statistics(8, 0, MS, 0), False),
        (2 * MS + 1, Statistics(7, 0, MS, 0), False), (10 * MS + 1, Statistics(9, 0, 5 * MS, 0),
                                                       True),
        (10 * MS, Statistics(9, 0, 5 * MS, 0), False), (9 * MS + 1, Statistics(8, 0, MS, MS), True),
        (9 * MS, Statistics(8, 0, MS, MS), False),
    ],
)  # fmt: skip
def test_what_stands_out(low: int, others: Statistics, is_out: bool) -> None:
    """Of eight others at least, by eight deviations, by as much again, by a millisecond."""
    assert capture_timing.stands_out(low, others) is is_out


@pytest.mark.parametrize(
    ("now", "before", "is_slower"),
    [
        ((2 * MS + 1, 0), (MS, 0), True), ((2 * MS, 0), (MS, 0), False),
        ((15 * MS + 1, 0), (10 * MS, 0), True), ((15 * MS, 0), (10 * MS, 0), False),
        ((7 * MS + 1, 0), (MS, 2 * MS), True), ((7 * MS, 0), (MS, 2 * MS), False),
        ((7 * MS, 2 * MS), (MS, 0), False), ((7 * MS + 1, 2 * MS), (MS, 0), True),
    ],
)  # fmt: skip
def test_what_is_slower_than_a_baseline(now: Any, before: Any, is_slower: bool) -> None:
    """By three deviations of either, by half as much again, by a millisecond."""
    here = Statistics(1, now[0], 10**12, now[1])
    assert capture_timing.is_slower(here, Statistics(1, 0, before[0], before[1])) is is_slower


# -- what a processor inside a callback proves -----------------------------------------------------

OPEN = Absent("not-recorded", "a dump holds no record of calls")


def held(inside: str, callback: Any = "Dump_Start", sure: str = "certain") -> list[Any]:
    """``was_called`` of the callbacks of three filters when a processor is inside one of them."""
    out = Records()
    for place, name in enumerate("abc"):
        out.add(make(Filter, filter=name, stack="crash", ring_index=place))
        for which in ("Dump_Start", "Dump_Finish", "Dump_Write"):
            out.add(make(Callback, filter=name, stack="crash", callback=which, routine=1,
                         was_called=OPEN))  # fmt: skip
    out.add(make(Callback, filter="h", stack="hibernation", callback="Dump_Start", routine=1,
                 was_called=OPEN))  # fmt: skip
    origin = Origin("d", "chain", sure)
    out.add(make(Processor, processor=2, filter=inside, callback=callback, origin=origin))
    callbacks_seen.settle(out)
    return [row.was_called or "?" for row in out["callbacks"]]


def test_filters_before_the_one_that_runs_were_started() -> None:
    """In list order for Dump_Start; all of them once anything else is called."""
    none = ["?"] * 10
    assert held("b") == ["likely", "?", "?", "yes", "?", "?", "?", "?", "?", "?"]
    assert held("a") == ["yes", *none[1:]]
    for callback, at in (("Dump_Finish", 4), ("Dump_Write", 5)):
        told = ["likely", "?", "?"] * 3 + ["?"]
        told[at] = "yes"
        assert held("b", callback) == told
    assert held("b", sure="guess") == none
    assert held("b", callback=OPEN) == none
    assert held("h") == none
    assert held("nobody") == none


def test_what_was_known_stays_known() -> None:
    """A routine that is not registered was not called; what is told is kept, with its reason."""
    out = Records()
    out.add(make(Filter, filter="a", stack="crash", ring_index=0))
    rows = [("Dump_Start", 0, OPEN), ("Dump_Start", 1, "no"), ("Dump_Write", 1, OPEN)]
    for which, routine, called in rows:
        out.add(make(Callback, filter="a", stack="crash", callback=which, routine=routine,
                     was_called=called, status=1, origin=Origin("d", "node")))  # fmt: skip
    out.add(make(Processor, processor=2, filter="a", callback="Dump_Write",
                 origin=Origin("d", "chain")))  # fmt: skip
    callbacks_seen.settle(out)
    told = [(c.was_called or "?", c.origin.how, c.status or "?") for c in out["callbacks"]]
    running = "processor 2 was inside it; chain"
    assert told == [("?", "node", 1), ("no", "node", 1), ("yes", running, "?")]
    assert isinstance(out["callbacks"][2].duration_ns, Absent)


# -- the container of DumpStack.log ----------------------------------------------------------------

FIRST = "Dump stack initialized at UTC: 2026/03/01 10:20:30, local time: x.\r\n"


def log(
    text: str = FIRST, stated: int | None = None, size: int | None = None, behind: bytes = b"",
    version: bytes = b"00010000", start: bytes = b"\r\n",
) -> LogText:  # fmt: skip
    """A log with this text; the length word is right unless it is stated."""
    body = start + text.encode("latin-1")
    end = 0x20 + len(body)
    head = b"DLOGFILE" + version + b"DUMP" + struct.pack("<I", end if stated is None else stated)
    data = (head + bytes(8) + body + behind).ljust(size or 0, b"\0")
    found = decode(data, len(data))
    assert found is not None
    return found


def test_a_log_as_windows_writes_it() -> None:
    """Version, length, room; lines with their places."""
    end = 0x22 + len(FIRST)
    whole = log(size=0x3000)
    assert whole == LogText(
        encoding="8-bit", has_header=True, version="1.0", line_ends="CRLF", stated_end=end,
        is_end_confirmed=True, is_cut=False, is_unclosed=False, is_limited=False, original_end=end,
        room=0x3000 - end, lines=[(0x22, FIRST.rstrip(), True, True)], leftover=[],
    )  # fmt: skip
    assert log(version=b"00020013").version == "2.13"
    assert log(version=b"0002001x").version == ""


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ({"stated": 0x3000, "size": 0x3000}, {"is_unclosed": True, "is_end_confirmed": False}),
        ({"stated": 0x3000}, {"is_cut": True, "is_unclosed": False, "room": None}),
        ({"stated": 0x1F, "size": 0x3000}, {"stated_end": None, "is_end_confirmed": False}),
        ({"stated": 0x20, "size": 0x3000}, {"stated_end": 0x20, "is_cut": False}),
        ({"stated": 1 << 20, "size": 0x3000}, {"stated_end": 1 << 20, "is_cut": False}),
        ({"stated": (1 << 20) + 1}, {"stated_end": None, "is_cut": False}),
        ({"size": 0x11000}, {"is_limited": False, "room": 0x11000 - 0x22 - len(FIRST)}),
        ({"text": FIRST + "x" * 0x10000, "size": 0x11000}, {"is_limited": True}),
        ({"text": FIRST.replace("\r\n", "\n"), "start": b"\n"},
         {"line_ends": "LF", "is_end_confirmed": False}),
        ({"text": FIRST.replace("\r\n", "\r"), "start": b"\r"}, {"line_ends": "CR"}),
        ({"text": FIRST + "a\nb\r\n"}, {"line_ends": "mixed"}),
        ({"text": FIRST + "a"}, {"line_ends": "CRLF", "is_end_confirmed": True}),
    ],
)  # fmt: skip
def test_lengths_and_line_ends(made: dict[str, Any], told: dict[str, Any]) -> None:
    """The length word against the text, and what the file's size says."""
    found = log(**made)._asdict()
    assert {name: found[name] for name in told} == told


def test_what_stands_behind_the_end_is_left_over() -> None:
    """Behind the stated end, and behind the zeros."""
    end = 0x22 + len(FIRST)
    old = log(FIRST + "old\r\n", stated=end, size=0x3000)
    assert [(line.text, line.offset) for line in old.leftover] == [("old", end)]
    assert (old.original_end, [line.text for line in old.lines]) == (end, [FIRST.rstrip()])
    zeros = log(behind=bytes(5) + b"older\r\n\r\n \nmore", size=0x3000)
    assert [(x.text, x.offset) for x in zeros.leftover] == [("older", end + 5), ("more", end + 16)]


@pytest.mark.parametrize("left", [127, 128])
def test_a_rewritten_copy_that_is_nearly_full(left: int) -> None:
    """It has lost its filler: only a text just below a known size says that it was full."""
    text = FIRST.replace("\r\n", "\n")
    lines = 0x2000 - 0x22 - len(FIRST) - left
    found = log(text + "y" * (lines - 2) + "\n")
    assert found.room == (left if left < 128 else None)
    assert found.original_end == 0x2000 - left


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (FIRST.encode(), "8-bit"), (b"\xef\xbb\xbf" + FIRST.encode(), "UTF-8"),
        ("é ".encode() + FIRST.encode(), "UTF-8"), (b"\xe9 " + FIRST.encode(), "8-bit"),
        (b"\xff\xfe" + FIRST.encode("utf-16-le"), "UTF-16"),
        (b"\xfe\xff" + FIRST.encode("utf-16-be"), "UTF-16"),
        (FIRST.encode("utf-16-le"), "UTF-16"), (FIRST.encode("utf-16-be"), "UTF-16"),
    ],
)  # fmt: skip
def test_encodings_of_a_copy(data: bytes, encoding: str) -> None:
    """With a mark, or by what the bytes are; the text is the same."""
    found = decode(data, len(data))
    assert found is not None
    assert (found.encoding, found.version, found.stated_end) == (encoding, "", None)
    assert found.lines[0].text.endswith(FIRST.rstrip())
    mark = {b"\xff\xfe": 2, b"\xfe\xff": 2, b"\xef\xbb": 3}.get(data[:2], 0)
    assert found.lines[0].offset == mark


@pytest.mark.parametrize(
    ("start", "text", "at"),
    [
        (b"\r\n", FIRST, 0x22), (b"\n", FIRST, 0x21), (b"", FIRST, 0x20), (b"", "Other\r\n", 0x20),
        (b"0123", FIRST, 0x24), (b"0123", "Other\r\n", 0x20), (b"\r\n", "Other\r\n", 0x22),
        (b"x" * 4000, FIRST, 0x20 + 4000), (b"x" * 5000, FIRST, 0x20),
    ],
)  # fmt: skip
def test_where_the_text_of_a_log_begins(start: bytes, text: str, at: int) -> None:
    """Behind the header, wherever the first line says that it ends; else where it always did."""
    found = log(text, start=start)
    assert found.lines[0].offset == at
    assert found.lines[0].text.endswith(text.rstrip())


@pytest.mark.parametrize("size", [0x14, 0x1F, 0x20, 0x21, 0x22])
def test_a_log_that_ends_in_its_header(size: int) -> None:
    """It has no lines."""
    data = (b"DLOGFILE00010000DUMP" + bytes(12) + b"\r\n")[:size]
    found = decode(data, len(data))
    assert found is not None
    assert (found.lines, found.leftover, found.version) == ([], [], "1.0")


def test_other_texts_are_no_log() -> None:
    """Without its mark and its words."""
    assert decode(b"plain text", 10) is None


# -- what a file is, by its first bytes ------------------------------------------------------------


def changed(head: bytes, *changes: tuple[int, bytes]) -> bytes:
    """The bytes with some of them replaced."""
    out = bytearray(head)
    for at, data in changes:
        out[at : at + len(data)] = data
    return bytes(out)


ETL = changed(bytes(0x68), (0, b"\x68"), (0x36, b"\4"), (0x4A, b"\2\xc0"))
ELF = changed(bytes(64), (0, b"\x7fELF"), (16, b"\4"))
STATE = changed(bytes(64), (0, b"\xd2\xbe\xd2\xbe"), (8, b"\1"), (12, b"a"))
RAW, TEXT = "no file of a known kind", "a text file of no known kind"


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (ETL, "etl"), (ETL[:-1], RAW), (changed(ETL, (0, b"\x67")), RAW),
        (changed(ETL, (0, b"\0\0\0\x10")), "etl"), (changed(ETL, (0, b"\1\0\0\x10")), RAW),
        (changed(ETL, (0x36, b"\5")), RAW), (changed(ETL, (0x36, b"\3")), RAW),
        (changed(ETL, (0x37, b"\1")), RAW), (changed(ETL, (0x4A, b"\1")), "etl"),
        (changed(ETL, (0x4A, b"\3")), RAW), (changed(ETL, (0x4A, b"\0")), RAW),
        (changed(ETL, (0x4B, b"\xc1")), "etl"), (changed(ETL, (0x4B, b"\x80")), RAW),
        (changed(ETL, (0x4E, b"\1")), RAW), (changed(ETL, (0x4F, b"\1")), RAW),
        (ELF, "memory snapshot"), (changed(ELF, (16, b"\3")), "an ELF program"),
        (changed(ELF, (17, b"\1")), "an ELF program"),
        (STATE, "memory snapshot"), (changed(STATE, (0, b"\xd3\xbe\xd3\xbe")), "memory snapshot"),
        (changed(STATE, (0, b"\xd4\xbe\xd3\xbe")), RAW), (changed(STATE, (8, b"\0")), RAW),
        (changed(STATE, (8, b"\xff\x0f")), "memory snapshot"),
        (changed(STATE, (8, b"\0\x10")), RAW), (changed(STATE, (12, b" ")), RAW),
        (b"regf" + bytes(0x1C), "registry hive"),
        *[(b"regf" + bytes(0x18) + bytes([n, 0, 0, 0]),
           "a registry transaction log" if n in (1, 2, 6) else "registry hive")
          for n in (0, 1, 2, 3, 5, 6, 7)],
        (b"regf" + bytes(0x18) + b"\1\0\0\1", "registry hive"),
        (b"a" * 19 + b"\x01" + b"a", TEXT), (b"a" * 18 + b"\x01" + b"a", RAW),
        (b"a b\tc\r\n", TEXT), ("aé".encode() * 9, TEXT), (b"a\0b", RAW),
        ("\ufeffwide".encode("utf-16-le"), TEXT), ("\ufeffwide".encode("utf-16-be"), TEXT),
        ("wide".encode("utf-16-le"), RAW), ("wider".encode("utf-16-le"), TEXT),
        (("a" * 32 + "\u0100\u0400").encode("utf-16-le"), TEXT),
        (("a" * 31 + "\u0100" * 9).encode("utf-16-le"), RAW),
        (b"\0" * 9, "a zero-filled file (its first 64 KB at least)"), (b"", "an empty file"),
        (b"\0" * 9 + b"\1", RAW),
        (b'{"dumpstart": 1}', "capture"), (b'\xef\xbb\xbf{"dumpstart": 1}\nx', "capture"),
        ('\ufeff{"dumpstart": 1}'.encode("utf-16"), "capture"), (b'{"x": 1}\n"dumpstart"', TEXT),
        (b' {"dumpstart": 1}', TEXT),
    ],
)  # fmt: skip
def test_what_a_file_is(head: bytes, name: str) -> None:
    """Each byte that recognition looks at, one off."""
    assert sources.kind_of(head).name == name


@pytest.mark.parametrize(("blank", "found"), [(0, ","), (11, ","), (12, None)])
def test_lines_in_which_columns_are_looked_for(blank: int, found: str | None) -> None:
    """The first twelve of a file."""
    assert separator_of("\n" * blank + "ProviderName,Id") == found


@pytest.mark.parametrize("size", [0x80000, 0xFF000, 0x100000, 0x100800])
def test_small_files_without_a_mark_are_no_memory(tmp_path: Path, size: int) -> None:
    """Whatever they hold: no machine that runs Windows has less than a megabyte of whole pages."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"\1\0" * (size // 2))
    assert sources.identify(str(path)) is sources.UNKNOWN


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ('""', ""), ('"a"', "a"), ('"\\\\\\""', '\\"'), ('"', None), ('"a', None), ("a", None),
        ('a"', None),
        ("dword:00000000", "0"), ("dword:ffffffff", "0xffffffff"), ("dword:100000000", None),
        ("dword:-1", None), ("DWORD:A", "0xa"), ("hex:01,02", "01 02"), ("hex:", ""),
        ("hex(4):01,00,00,00", "1"), ("hex(4):01,00,00", "01 00 00"),
        ("hex(4):01,00,00,00,00", "01 00 00 00 00"), ("hex(b):01,00,00,00,00,00,00,00,09",
                                                      "01 00 00 00 00 00 00 00 09"),
        ("hex(5):01,00,00,00", "01 00 00 00"),
        ("hex(b):01,00,00,00,00,00,00,80", "0x8000000000000001"), ("hex(b):01", "01"),
        ("hex(2):41,00,00,00,42,00", "A"), ("hex(7):41,00,00,00,42,00,00,00,00,00", "A; B"),
    ],
)  # fmt: skip
def test_data_of_an_exported_value(tmp_path: Path, data: str, value: Any) -> None:
    """As Registry Editor writes them: text in quotes, numbers, typed bytes; else damage."""
    key = r"HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet\Control\CrashControl"
    path = tmp_path / "a.reg"
    text = f'Windows Registry Editor Version 5.00\r\n\r\n[{key}]\r\n"Blob"={data}\r\n'
    path.write_bytes(text.encode("utf-16"))
    records = sources.collect(str(path))
    rows = [row for row in records["settings"] if str(row.name).startswith("Blob")]
    assert bool(rows) is (value is not None)
    assert ("registry-damaged" in {a.rule for a in records.anomalies}) is (value is None)
    assert [str(row.value) for row in rows] == ([] if value is None else [value])


@pytest.mark.parametrize("block", [1, 2, 8, 9, 10, 33, 100, 1000])
def test_events_are_the_same_in_pieces_of_any_size(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However an export is cut into pieces, in the middle of a mark, too."""
    one = (
        "<Event xmlns='urn:x'><System><Provider Name='volmgr'/><EventID>{}</EventID></System>"
        "</Event>\n"
    )
    texts = {
        "whole": "<Events>" + "".join(map(one.format, (161, 7, 162))) + "</Events>",
        "no root": one.format(161) + one.format(162),
        "no end": "<Events>" + one.format(161) + one.format(162)[:-9],
        "one lost": one.format(161) + one.format(46)[:60] + one.format(162),
    }
    monkeypatch.setattr(event_log_xml, "_BLOCK", block)
    ended = event_log_xml.OPEN_ENDED
    wanted = {
        "whole": [161, 7, 162], "no root": [161, 162], "no end": [161, 162, ended],
        "one lost": [161, None, 162],
    }  # fmt: skip
    for name, text in texts.items():
        found = list(event_log_xml.events(io.StringIO(text)))
        told = [e if e is None or e is ended else e.event_id for e in found]
        assert told == wanted[name], name


@pytest.mark.parametrize("block", [1, 2, 9, 33, 100, 1000])
def test_objects_are_the_same_in_pieces_of_any_size(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list, one object, one a line; an object that is damaged costs itself."""
    monkeypatch.setattr(event_log_objects, "_BLOCK", block)
    one, two = (f'{{"ProviderName": "volmgr", "Id": {number}}}' for number in (161, 162))
    for text, wanted in (
        (f" [{one},\n {two}]\n", [161, 162]), (one, [161]), (f"{one}\n{two}\n", [161, 162]),
        (f'[{one}, {{"Id": 1, x}}, {two}]', [161, None, 162]), (f"[{one}, {two[:-1]}", [161, None]),
        (f"[{one}, 7, {two}]", [161, None, 162]), ("", []),
        (f'[{{"Id": 7 x, "P": [{{"Value": 1}}, 2], "y": 3}}, {two}]', [None, 162]),
        (f'[{{"Id": 7 x}}, {{"Id": 8 x}}, {two}, {{"a": 1}}]', [None, None, 162, None]),
        (f'[{one}, {two[:-1]}, "a": "{{}} {{', [161, None]), (" [ ] ", []),
    ):  # fmt: skip
        found = list(event_log_objects.json_events(io.StringIO(text)))
        assert [getattr(event, "event_id", event) for event in found] == wanted, text


@pytest.mark.parametrize(("more", "is_read"), [(-1, True), (0, True), (1, False)])
def test_the_largest_event_of_an_export(more: int, is_read: bool) -> None:
    """A megabyte; what is larger counts as damaged, and the next one is read."""
    start, end = (
        "<Event><System><Provider Name='x'/><EventID>1</EventID></System><!--",
        "--></Event>",
    )
    filler = "x" * ((1 << 20) + more - len(start))
    text = start + filler + end
    found = list(event_log_xml.events(Slowly(text, (1 << 20) + more)))
    assert [getattr(event, "event_id", event) for event in found] == [1 if is_read else None]


class Slowly(io.StringIO):
    """A file whose first piece ends at a place."""

    def __init__(self, text: str, first: int) -> None:
        super().__init__(text)
        self.first = first

    def read(self, size: int | None = -1) -> str:
        """The first piece, then the rest."""
        first, self.first = self.first, 1 << 22
        return super().read(first)


@pytest.mark.parametrize(("more", "is_read"), [(0, True), (1, False)])
def test_the_largest_object_of_an_export(more: int, is_read: bool) -> None:
    """A megabyte that is not ended yet is read on; of more it is given up."""
    start = '{"ProviderName": "x", "Id": 1, "Message": "'
    text = f'{start}{"y" * ((1 << 20) + more - len(start))}"}}'
    found = list(event_log_objects.json_events(Slowly(text, (1 << 20) + more)))
    assert {getattr(event, "event_id", event) for event in found} == {1 if is_read else None}


VIEWER = "Fehler,01.03.2026 10:20:30,volmgr,161,Keine"
BAD_ROW = "a,b,c,d,e"


@pytest.mark.parametrize(
    ("lines", "separator"),
    [
        (["ProviderName,Id"], ","), (["Id;Source"], ";"), (["\"EventID\"\tprovider"], "\t"),
        (["ProviderName,Level"], None), (["Id,Level"], None), (["#TYPE x", "Source,Event ID"], ","),
        (["sep=;", "Source;Event ID"], ";"), (["Source Id"], None), ([], None), ([""], None),
        (["h", VIEWER], ","), (["h", BAD_ROW, BAD_ROW, VIEWER], ","),
        (["h", BAD_ROW, BAD_ROW, BAD_ROW, VIEWER], None), ([VIEWER], None),
        (["h", VIEWER.replace(",", ";")], ";"), (["h", VIEWER.replace(",", "\t")], "\t"),
        (["h", VIEWER.rpartition(",")[0]], None), (["h", VIEWER.replace("161", "x")], None),
        (["h", VIEWER.replace("10:20:30", "x")], None), (["h", VIEWER + ",text"], ","),
    ],
)  # fmt: skip
def test_what_separates_the_columns_of_an_export(lines: list[str], separator: str | None) -> None:
    """By the names of its columns, or by one of the first rows as Event Viewer writes them."""
    assert separator_of("\r\n".join(lines)) == separator


def read_back(text: str) -> list[Any]:
    """(provider, id, time, level, message) of each event of a delimited export."""
    rows = delimited(io.StringIO(text), ",")
    return [row and (row.provider, row.event_id, row.local, row.level, row.message) for row in rows]


def test_rows_of_a_delimited_export() -> None:
    """With names, whatever their order; as Event Viewer writes them, whatever their language."""
    first = ("volmgr", 161, "01.03.2026 10:20:30", 2)
    rows = [VIEWER, VIEWER + ",text", VIEWER + ",text,more", "Fehler,x,volmgr,7", "a,b,c", ""]
    assert read_back("\n".join(["Ebene,Datum,Quelle,ID,Kategorie", *rows])) == [
        (*first, ""), (*first, "text"), (*first, "text"), ("volmgr", 7, "x", 2, ""), None,
    ]  # fmt: skip
    named = "#TYPE x\n\nId,ProviderName,Level\n7,disk,2\n8,disk,2,said\n9,disk\nx,disk,2\n"
    assert read_back(named) == [
        ("disk", 7, "", 2, ""), ("disk", 8, "", 2, "said"), ("disk", 9, "", None, ""), None,
    ]  # fmt: skip
    assert read_back(named.replace("Level", "Message")) == [
        ("disk", 7, "", None, "2"), ("disk", 8, "", None, "2"), ("disk", 9, "", None, ""), None,
    ]  # fmt: skip
    assert read_back("") == read_back("#TYPE x\n") == []


def test_rows_of_a_table() -> None:
    """Groups by provider, numbers that stick out, messages that go on; each row is one event."""
    text = """
   ProviderName: volmgr

TimeCreated           Id LevelDisplayName Message
-----------           -- ---------------- -------
01.03.2026 10:20:30  161 Error            one
                                          more
01.03.2026 10:20:31    7 Warning          two

   ProviderName: disk

TimeCreated           Id LevelDisplayName Message
-----------           -- ---------------- -------
01.03.2026 10:20:32   11 Error            three
"""
    found = [row and (row.provider, row.event_id, row.local[-2:], row.level, row.message)
             for row in table(io.StringIO(text))]  # fmt: skip
    assert found == [
        ("volmgr", 161, "30", 2, "one more"), ("volmgr", 7, "31", 3, "two"),
        ("disk", 11, "32", 2, "three"),
    ]  # fmt: skip
    assert list(table(io.StringIO("no table\n at all\n"))) == []
    joined = text.replace("two\n\n   ProviderName: disk\n\n", "two\n")  # as one without blank lines
    told = [row and row.event_id for row in table(io.StringIO(joined))]
    assert told == [161, 7, 11]


# -- blocks of an event in text --------------------------------------------------------------------

NUMBERED = ["Event[0]:", "  Log Name: System", "  Source: volmgr", "  Date: x", "  Event ID: 161"]
COPIED = ["Log Name: System", "Source: volmgr", "Date: 3/1/2026 10:20:30 AM", "Event ID: 161"]
OF_XP = ["Type:\tError", "Source:\tvolmgr", "Category:\tNone", "ID:\t161", "Date:\t1.3.2007",
         "Time:\t10:20:30"]  # fmt: skip
LISTED = ["ProviderName : volmgr", "Id : 161"]
FRIENDLY = ["+ System", "  - Provider", "   [ Name]  volmgr"]


@pytest.mark.parametrize(
    ("known", "lines", "is_one"),
    [
        (blocks.is_wevtutil, NUMBERED, True), (blocks.is_wevtutil, [""] * 49 + NUMBERED, False),
        (blocks.is_wevtutil, [""] * 45 + NUMBERED, True), (blocks.is_wevtutil, NUMBERED[:4], False),
        (blocks.is_wevtutil, [""] * 46 + NUMBERED, False),
        (blocks.is_wevtutil, [*NUMBERED[:4], "  Event ID: x"], False),
        (blocks.is_wevtutil, [*NUMBERED[:2], "no pair", *NUMBERED[3:]], False),
        (blocks.is_wevtutil, ["Ereignis [0] :", *NUMBERED[1:]], True),
        (blocks.is_wevtutil, [" Event[0]:", *NUMBERED[1:]], False),
        (blocks.is_wevtutil, NUMBERED[1:], False),
        (blocks.is_copied, COPIED, True), (blocks.is_copied, [""] * 196 + COPIED, True),
        (blocks.is_copied, [""] * 197 + COPIED, False), (blocks.is_copied, COPIED[:3], False),
        *((blocks.is_copied, [*COPIED[:n], COPIED[n].partition(":")[0] + ": ", *COPIED[n + 1 :]],
           False) for n in range(4)),
        *((blocks.is_copied, [*COPIED[:n], " " + COPIED[n], *COPIED[n + 1 :]], False)
          for n in range(4)),
        (blocks.is_copied, [*COPIED[:3], "Event ID: x"], False),
        (blocks.is_copied, [*COPIED[:2], "Date: 3/1/2026", COPIED[3]], False),
        (blocks.is_copied, [COPIED[0].replace(":", "\uff1a"), *COPIED[1:]], True),
        (blocks.is_copied, OF_XP, True), (blocks.is_copied, OF_XP[:5], False),
        (blocks.is_copied, OF_XP[1:], False),
        (blocks.is_copied, [*OF_XP[:4], "Date:\tx", OF_XP[5]], False),
        (blocks.is_copied, [*OF_XP[:5], "Time:\tx"], False),
        (blocks.is_copied, [*OF_XP[:3], "ID:\tx", *OF_XP[4:]], False),
        (blocks.is_copied, [OF_XP[0], "Source:\t", *OF_XP[2:]], False),
        (blocks.is_list, LISTED, True), (blocks.is_list, [""] * 198 + LISTED, True),
        (blocks.is_list, [""] * 199 + LISTED, False), (blocks.is_list, LISTED[:1], False),
        (blocks.is_list, LISTED[1:], False), (blocks.is_list, [" " + x for x in LISTED], False),
        (blocks.is_list, ["EventID : 7", "Source : x", "TimeGenerated : y"], True),
        (blocks.is_list, ["EventID : 7", "Source : x"], False),
        (blocks.is_friendly, FRIENDLY, True), (blocks.is_friendly, FRIENDLY[1:], False),
        (blocks.is_friendly, FRIENDLY[:2], False), (blocks.is_friendly, [""] * 57 + FRIENDLY, True),
        (blocks.is_friendly, [""] * 58 + FRIENDLY, False),
        (blocks.is_friendly, ["- System", FRIENDLY[2]], True),
        (blocks.is_friendly, ["System", FRIENDLY[2]], False),
    ],
)  # fmt: skip
def test_which_block_of_an_event_a_text_has(known: Any, lines: list[str], is_one: bool) -> None:
    """By the lines that it begins with, near the start of the text."""
    assert known("\n".join(lines)) is is_one


def block_of(read: Any, lines: list[str], *more: str) -> list[Any]:
    """(provider, id, level, message) of the events of these lines."""
    found = read(io.StringIO("\n".join(lines)), *more)
    return [one and (one.provider, one.event_id, one.level, one.message) for one in found]


def test_numbered_blocks() -> None:
    """Twelve lines of fields, then the description; five fields are the least."""
    rest = ["  Task: N/A", "  Level: Error", *(f"  F{n}: {n}" for n in range(5)), "  Description: "]
    whole = [*NUMBERED, *rest, "one", "", " two"]
    event = ("volmgr", 161, 2, "one two")
    assert block_of(blocks.wevtutil, whole) == [event]
    assert block_of(blocks.wevtutil, [*whole, "Event[1]:", *whole[1:]]) == [event, event]
    assert block_of(blocks.wevtutil, ["lost", *whole]) == [event]
    assert block_of(blocks.wevtutil, [*NUMBERED, *rest[:1]]) == [None]
    assert block_of(blocks.wevtutil, [*NUMBERED, *rest[:2], "old text"]) == [
        ("volmgr", 161, 2, "old text")
    ]
    assert block_of(blocks.wevtutil, [*NUMBERED, *rest[:-1], "  Description: first", "then"]) == [
        ("volmgr", 161, 2, "first then")
    ]
    assert block_of(blocks.wevtutil, NUMBERED[1:]) == []


def test_copied_blocks() -> None:
    """Nine lines of fields, then the description behind its label; two blocks, and half of one."""
    fields = [*COPIED, "Task Category: None", "Level: Error", "Keywords: ", "User: ", "Computer: H"]
    event = ("volmgr", 161, 2, "one two")
    text = [*fields, "Description:", "one", " two", ""]
    head = "\n".join(text)
    assert block_of(blocks.copied, text, head) == [event]
    assert block_of(blocks.copied, [*text, *text], head) == [event, event]
    assert block_of(blocks.copied, [*text[:10], "one", "two"], head) == [event]
    assert block_of(blocks.copied, [*fields, "Description: one", "two"], head) == [event]
    assert block_of(blocks.copied, [*fields, "no label", "one"], head) == [
        ("volmgr", 161, 2, "one")
    ]
    assert block_of(blocks.copied, fields[:6], head) == [("volmgr", 161, 2, "")]
    assert block_of(blocks.copied, fields[:5], head) == [None]
    assert block_of(blocks.copied, ["x", *text], head) == [event]
    assert block_of(blocks.copied, ["x"], head) == []
    damaged = [*text[:12], "Event Xml:", "<Event a='", "x"]
    assert block_of(blocks.copied, damaged, head) == [event]
    xml = "<Event xmlns='x'><System><Provider Name='disk'/><EventID>7</EventID></System></Event>"
    assert block_of(blocks.copied, [*text, "Event Xml:", xml], head) == [("disk", 7, None, "")]


def test_listed_blocks() -> None:
    """A name that comes again begins the next event; indented lines go on."""
    lines = ["Id : 161", "ProviderName : volmgr", "Message : one", "          two", "no more", ""]
    event = ("volmgr", 161, None, "one two")
    assert block_of(blocks.properties, lines) == [event]
    assert block_of(blocks.properties, [*lines, *lines]) == [event, event]
    assert block_of(blocks.properties, [" x", *lines]) == [event]
    assert block_of(blocks.properties, ["Id : 161", "Id : 7", *lines[1:3]]) == [
        None, ("volmgr", 7, None, "one")
    ]  # fmt: skip
    assert block_of(blocks.properties, []) == []


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (9, "9"), (10, "0xa"), (0, "0"), (True, "True"), (None, "None"), ("x", "x"),
        (["a", 1], "a; 1"), (("a",), "a"), (b"", ""), (b"\1\xff", "01 ff"),
        (bytes(256), "00 " * 255 + "00"), (bytes(257), "00 " * 256 + "..."), ([], ""),
    ],
)  # fmt: skip
def test_a_registry_value_as_text(data: Any, text: str) -> None:
    """Numbers of more than one digit in hexadecimal, 256 bytes of a long value."""
    assert text_of(data) == text


@pytest.mark.parametrize("count", [1, 4, 5, 6])
def test_what_cannot_be_read_of_an_export(count: int, tmp_path: Path) -> None:
    """Counted; five places are told."""
    key = r"HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet\Control\CrashControl"
    head = f'Windows Registry Editor Version 5.00\r\n\r\n[{key}]\r\n"Ok"=dword:1\r\n'
    path = tmp_path / "a.reg"
    path.write_bytes((head + '"Bad"=hex:zz\r\n' * count).encode("utf-16"))
    (told,) = (a for a in sources.collect(str(path)).anomalies if a.rule == "registry-damaged")
    assert told.text.startswith(f"{count} place(s) could not be read, the first: line 5: ")
    assert len(told.evidence) == min(count, 5)


@pytest.mark.parametrize("channels", [1, 6, 7])
def test_channels_that_tell_of_no_crash(channels: int, tmp_path: Path) -> None:
    """Six of them are named."""
    event = (
        "<Event xmlns='urn:x'><System><Provider Name='x'/><EventID>1</EventID><Channel>C{}"
        "</Channel></System></Event>"
    )
    path = tmp_path / "a.xml"
    path.write_text("<Events>" + "".join(map(event.format, range(channels))) + "</Events>")
    (told,) = (a for a in sources.collect(str(path)).anomalies
               if a.rule == "event-log-other-channel")  # fmt: skip
    assert [e.value for e in told.evidence] == [f"C{n}" for n in range(min(channels, 6))]
    assert told.subject == "C0"


# -- kinds of files --------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [0xBED0BED0, 0xBED2BED2, 0xBED3BED3, 0xBAD1BAD1, 0xBAD2BAD2])
def test_marks_of_vmwares_states(mark: int) -> None:
    """The five that public readers of .vmss, .vmsn and .vmem know (volatility3's vmware layer)."""
    rest = struct.pack("<II", 8, 1) + b"cpu" + bytes(0x100)
    assert sources.kind_of(struct.pack("<I", mark) + rest) is sources.SNAPSHOT
    for other in (mark - 1, mark + 1):
        assert sources.kind_of(struct.pack("<I", other) + rest) is not sources.SNAPSHOT
