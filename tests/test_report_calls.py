"""Calls that are alike in one line."""

from __future__ import annotations

from typing import Any

from conftest import SAMPLE_TRACES, make

import analyzer
from analyzer import records
from analyzer.absence import Absent
from analyzer.answer.calls import grouped

UNKNOWN = Absent("not-recorded")


def call(**fields: Any) -> Any:
    """A call of Dump_Write that succeeded."""
    told = {"callback": "Dump_Write", "was_called": "yes", "status": 0, "symbol": "a.sys+0x10"}
    return make(records.Callback, filter="a.sys", stack="crash", **{**told, **fields})


def told(*calls: Any) -> list[tuple[int, int, str, str]]:
    """Row, number of calls, called and duration of each line."""
    return [(one.row, one.calls, one.called, one.took) for one in grouped(enumerate(calls))]


def test_one_call_is_shown_as_it_is() -> None:
    """Nothing is counted where there is nothing to count."""
    assert told(call(duration_ns=2_472_000)) == [(0, 1, "yes", "2.472 ms")]
    assert told(call(was_called="likely")) == [(0, 1, "likely", "-")]


def test_times_of_calls_that_are_alike_are_a_span() -> None:
    """Shortest and longest, with the unit once if it is the same."""
    spans = [call(duration_ns=ns) for ns in (30_000, 24_100, 35_900)]
    assert told(*spans) == [(0, 3, "3x", "24.1 to 35.9 us")]
    assert told(*spans, call(duration_ns=9_083_000)) == [(0, 4, "4x", "24.1 us to 9.083 ms")]
    assert told(*spans[:1], *spans[:1]) == [(0, 2, "2x", "30 us")]


def test_a_failure_is_never_hidden() -> None:
    """One failing call among ten thousand has its own line, as have calls without a time."""
    calls = [call(duration_ns=1000)] * 9_999
    calls.insert(5000, call(duration_ns=900, status=0xC0000185))
    calls.append(call(duration_ns=UNKNOWN, duration_high_ns=UNKNOWN))
    assert told(*calls) == [
        (0, 9_999, "9999x", "1 us"),
        (5000, 1, "yes", "900 ns"),
        (10000, 1, "yes", "-"),
    ]


def test_bounds_are_not_mixed_with_durations() -> None:
    """Of upper bounds the highest is told, as a bound."""
    bounds = [call(duration_ns=UNKNOWN, duration_high_ns=ns) for ns in (5_000_000, 8_000_000)]
    assert told(call(duration_ns=1000), *bounds) == [
        (0, 1, "yes", "1 us"),
        (1, 2, "2x", "at most 8 ms"),
    ]


def test_routines_and_filters_are_kept_apart() -> None:
    """NULL is called so; a callback of another filter or at another place is another line."""
    null = call(routine=0, symbol=UNKNOWN, was_called="no")
    other = call(symbol="b.sys+0x10")._replace(filter="b.sys")
    lines = grouped(enumerate([call(), null, other]))
    assert [one.routine for one in lines] == ["a.sys+0x10", "NULL", "b.sys+0x10"]


def test_every_call_of_a_trace_is_counted() -> None:
    """84 calls: 2 of Dump_Start, 80 of Dump_Write, one of which failed, 2 of Dump_Finish."""
    case = analyzer.open(SAMPLE_TRACES / "traces/crash-callbacks.etl")
    lines = grouped(enumerate(case.records["callbacks"]))
    assert [one.calls for one in lines] == [1, 1, 40, 39, 1, 1, 1]
    for form in ("text", "markdown", "html"):
        report = case.report(form, **({"details": True} if form == "text" else {}))
        assert "39x" in report
        assert "9.083 ms" in report
