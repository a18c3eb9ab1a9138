"""Large captures: read many lines at once, told by kinds; what comes out is what JSON tells."""

from __future__ import annotations

import json
import time

import big_capture
import pandas as pd
import pytest

import analyzer
from analyzer import tables
from analyzer.reports import answer
from analyzer.sources import capture_bulk, capture_calls, capture_file, capture_lines
from analyzer.sources.capture_table import CallTable

CALLS = 21_000  #: one of them never returns: 20,010


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A capture of three filters."""
    return big_capture.write(str(tmp_path_factory.mktemp("large") / "c.jsonl"), CALLS)


@pytest.fixture(scope="module")
def both(path):
    """The case from one line after the other and from many at once."""
    cases = []
    with pytest.MonkeyPatch.context() as patch:
        for large, many, piece in ((1 << 62, 1 << 62, 0), (0, 0, 50_000)):
            patch.setattr(capture_file, "LARGE", large)
            patch.setattr(capture_calls, "MANY", many)
            patch.setattr(capture_bulk, "PIECE", piece)
            cases.append(analyzer.open(path))
    return cases


def test_every_line_of_a_call_is_read_at_once(path):
    """What our writer writes of calls needs no JSON; all other lines are left to it."""
    with open(path, "rb") as file:
        data = file.read()
    batch = capture_lines.read(data)
    kinds = [json.loads(line)["fact"] in ("call", "return") for line in data.splitlines()[1:]]
    assert batch.taken.tolist() == [False, *kinds]


def test_rows_findings_and_frames_are_the_same(both):
    """Row by row, finding by finding, cell by cell."""
    one, many = both
    assert isinstance(one.records["callbacks"], list)
    assert isinstance(many.records["callbacks"], CallTable)
    assert list(many.records["callbacks"]) == one.records["callbacks"]
    for table, rows in one.records.tables.items():
        if table != "callbacks":
            assert many.records[table] == rows, table
    pd.testing.assert_frame_equal(many.callbacks, one.callbacks)


@pytest.mark.parametrize("format", ["text", "json", "html", "markdown", "perfetto"])
def test_reports_are_the_same(both, format):
    """A report does not show how the calls are kept."""
    one, many = both
    assert many.report(format) == one.report(format)


def test_calls_are_what_was_written(both):
    """Status, number and clock of each call equal what the generator did."""
    rows = both[1].records["callbacks"]
    for number in (0, 3, big_capture.FAIL_EVERY - 1, 20_009, 20_010, CALLS - 1):
        row = rows[number]
        if big_capture.is_lost(number):
            assert not row.status
        else:
            assert row.status == big_capture.status(number)
            assert row.return_clock - row.entry_clock == big_capture.ticks(number)
        assert row.filter == big_capture.FILTERS[number % 3]


@pytest.mark.parametrize(
    "damage",
    [
        (b'"cpu":0', b'"cpu": 0'), (b'"n":10001,', b'"n":10000,'), (b'"n":10001,', b'"n":null,'),
        (b'"id":2,', b'"id":99,'), (b'"tsc":"0x', b'"tsc":"0X'), (b'"host":1', b'"host":01'),
        (b'"sp":"0xf', b'"sp":"g0xf'), (b'"cpu":1', b'"cpu":0'), (b'"fact":"lost"', b'"fact":"x"'),
        (b'"fact":"return","n":9', b'"fact":"return","n":8'), (b"0}", b"0}\r"), (b"}\n", b"}\n\n"),
        (b'"tsc":"0x1b', b'"tsc":"0x1b1b1b1b1b1b1b1b1b'), (b'"extension":', b'"extensions":'),
        (b'"status":"0x0"', b'"status":null'), (b',"host":', b',"n":5,"host":'), (b'"}', b'\xff"}'),
    ],
)  # fmt: skip
def test_damage_is_the_same_either_way(path, tmp_path, monkeypatch, damage):
    """Whatever is wrong with lines, both ways of reading tell the same."""
    with open(path, "rb") as file:
        lines = file.read().splitlines(keepends=True)
    # the session's start, a stretch that is damaged, one that is sound, the end
    middle = b"".join(lines[20_000:21_000])
    assert damage[0] in b"".join(lines) or damage[0] in middle
    bad = b"".join(lines[:20]) + b"".join(lines[20:3_000]).replace(*damage)
    bad += middle.replace(*damage) + b"".join(lines[40_000:])
    part = tmp_path / "bad.jsonl"
    part.write_bytes(bad)
    told = []
    for large, many in ((1 << 62, 1 << 62), (0, 0)):
        monkeypatch.setattr(capture_file, "LARGE", large)
        monkeypatch.setattr(capture_calls, "MANY", many)
        records = capture_file.collect(str(part))
        frame = tables.frame("callbacks", records["callbacks"])
        told.append((list(records["callbacks"]), records.anomalies, records["extensions"], frame))
    assert told[0][:3] == told[1][:3]
    pd.testing.assert_frame_equal(told[0][3], told[1][3])


def test_json_says_how_many_rows_it_leaves_out(both):
    """More than 10,000 calls: the first of them, and counts of all (4 callbacks a filter: none)."""
    told = json.loads(both[1].report("json"))
    left = told["left_out"]["callbacks"]
    assert len(told["tables"]["callbacks"]) == left["given"] == 10_000
    assert left["rows"] == len(both[1].records["callbacks"])
    assert sum(count["rows"] for count in left["counts"]) == left["rows"]
    failed = [c["rows"] for c in left["counts"] if c["status"] == "0xc0000185"]
    assert sum(failed) == CALLS // big_capture.FAIL_EVERY


def test_many_starts_are_told_together(tmp_path):
    """Hundreds of calls of Dump_Start make a few sentences."""
    facts = [f for f in big_capture.facts(600) if f.get("fact") != "clock"]
    for fact in facts:
        if fact.get("fact") == "call":
            fact["id"] = 1
    writer = big_capture.capture_format.Writer(str(tmp_path / "s.jsonl"))
    for fact in facts:
        writer(fact)
    writer.close()
    said = " ".join(answer.sentences(analyzer.open(tmp_path / "s.jsonl").records))
    assert "Dump_Start of dump_dumpfve.sys, 600 calls: returned STATUS_SUCCESS" in said


@pytest.mark.bench
def test_a_million_calls_open_in_seconds(tmp_path):
    """A million calls, two million lines: 5 s when measured on a busy machine."""
    path = big_capture.write(str(tmp_path / "c.jsonl"), 1_000_000)
    begun = time.process_time()
    case = analyzer.open(path)
    assert len(case.callbacks) > 1_000_000
    assert time.process_time() - begun < 15
