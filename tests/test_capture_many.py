"""Captures of many calls: each is a row, up to a bound that is told."""

from __future__ import annotations

import json

import big_capture
import pytest

import analyzer
from analyzer.sources import capture_calls

CALLS = 21_000  #: one of them never returns: 20,010


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A capture of three filters."""
    path = tmp_path_factory.mktemp("large") / "c.jsonl"
    return analyzer.open(big_capture.write(str(path), CALLS))


def test_calls_are_what_was_written(case):
    """Status, number and clock of each call equal what the generator did."""
    rows = case.records["callbacks"]
    for number in range(CALLS):
        row = rows[number]
        if big_capture.is_lost(number):
            assert not row.status
        else:
            assert row.status == big_capture.status(number)
            assert row.return_clock - row.entry_clock == big_capture.ticks(number)
        assert row.filter == big_capture.FILTERS[number % 3]


def test_json_has_every_call(case):
    """The failed ones among them."""
    rows = json.loads(case.report("json"))["tables"]["callbacks"]
    assert len(rows) == len(case.records["callbacks"])
    failed = sum(row["status"] == "0xc0000185" for row in rows)
    assert failed == CALLS // big_capture.FAIL_EVERY


def test_many_starts_are_told_together(tmp_path):
    """Hundreds of calls of Dump_Start make a few sentences."""
    facts = [f for f in big_capture.facts(600) if f.get("fact") != "clock"]
    for fact in facts:
        if fact.get("fact") == "call":
            fact["id"] = 1
    path = big_capture.write_facts(str(tmp_path / "s.jsonl"), facts)
    answer = analyzer.open(path).answer
    assert "returned STATUS_SUCCESS" in answer.headline[0]
    (row,) = (one for one in answer.filters if one.filter == "dump_dumpfve.sys")
    assert (row.dump_start, row.status) == ("called 600x", "STATUS_SUCCESS")


@pytest.mark.parametrize("calls", [2 * big_capture.FAIL_EVERY, 2 * big_capture.FAIL_EVERY + 5])
def test_the_bound_is_told(tmp_path, monkeypatch, calls):
    """One call above the bound is counted, and so is its status; at the bound nothing is said."""
    most = 2 * big_capture.FAIL_EVERY  # the last call before it fails
    assert capture_calls.MOST_CALLS == (8 << 30) // (64 << 10)
    monkeypatch.setattr(capture_calls, "MOST_CALLS", most - (calls > most))
    case = analyzer.open(big_capture.write(str(tmp_path / "c.jsonl"), calls))
    found = [f for f in case.records["findings"] if f.rule == "capture-calls-left-out"]
    rows = [row for row in case.records["callbacks"] if row.was_called == "yes"]
    if calls == most:
        assert not found
        assert len(rows) == calls
    else:
        assert len(rows) == most - 1
        assert f"{calls:,} calls" in found[0].text
        assert "the other 6 are counted only: 1 of them returned a failing status" in found[0].text
    assert f"{calls} calls of filter callbacks" in case.records["sources"][0].can_tell
