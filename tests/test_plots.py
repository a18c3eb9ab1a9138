"""The figures: what they draw, what they say when there is nothing, at 0, 1 and 100,000 rows."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import Any, Callable

import numpy as np
import pytest
from conftest import make
from matplotlib.figure import Figure

import analyzer
from analyzer import plots, records
from analyzer.absence import Absent
from analyzer.records import Records
from analyzer.reports import timeline

CRASH = 1_709_647_629_123_000_000
ONE_CASE = [plots.timeline, plots.durations, plots.statuses, plots.throughput, plots.latency]


def said(figure: Figure) -> str:
    """All text of a figure."""
    return "\n".join(t.get_text() for t in figure.findobj(lambda o: hasattr(o, "get_text")))


def drawn(figure: Figure) -> np.ndarray[Any, Any]:
    """The pixels of a figure."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())  # type: ignore[attr-defined]


def capture(calls: int, factor: float = 1, seed: int = 0) -> Records:
    """A capture of two filters: Dump_Start once, Dump_Write so often."""
    rnd, made = random.Random(seed), Records()
    made.add(make(records.Machine, system_time=CRASH))
    for name in ("first.sys", "second.sys"):
        at = CRASH + 1_000_000
        for callback, usual, count in (("Dump_Start", 2e6, 1), ("Dump_Write", 4e4, calls)):
            for call in range(count):
                took = int(usual * factor * rnd.lognormvariate(0, 0.3))
                made.add(
                    make(
                        records.Callback,
                        filter=name,
                        callback=callback,
                        call=call,
                        was_called="yes",
                        processor=call % 2,
                        entry_time=at,
                        duration_ns=took,
                        status=0,
                        status_name="STATUS_SUCCESS",
                    )
                )
                at += took + 1000
    return made


@pytest.mark.parametrize("plot", ONE_CASE)
def test_nothing_is_said_in_words(plot: Callable[[Any], Figure]) -> None:
    """A figure without data has a sentence that says so, and no axes with numbers."""
    figure = plot(Records())
    assert "o source" in said(figure) or "Nothing" in said(figure)
    assert not any(axes.axison for axes in figure.axes)


@pytest.mark.slow
@pytest.mark.parametrize("plot", ONE_CASE[:3])
@pytest.mark.parametrize("calls", [1, 5_000])
def test_one_and_many_rows(plot: Callable[[Any], Figure], calls: int) -> None:
    """A figure of two calls or of 10,000 is drawn and is not empty."""
    pixels = drawn(plot(capture(calls)))
    assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 20


@pytest.mark.parametrize("plot", ONE_CASE)
@pytest.mark.parametrize("name", ["broken-x64-worst.dmp", "logs/write-stalled-chunk.log"])
def test_samples_are_drawn(plot: Callable[[Any], Figure], name: str, sample: Any) -> None:
    """Every figure of a real case can be saved, and shows itself in a notebook."""
    figure = plot(analyzer.open(sample(name)))
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]


def test_no_global_state_is_touched() -> None:
    """Neither pyplot nor the settings of matplotlib are used: a user's own figures stay his."""
    code = (
        "import sys, matplotlib\n"  # to ask for the backend would import pyplot
        "names = [k for k in matplotlib.rcParams if k != 'backend']\n"
        "state = lambda: {k: matplotlib.rcParams[k] for k in names}\n"
        "before = state()\n"
        "from analyzer import plots; from analyzer.records import Records\n"
        "plots.timeline(Records()); plots.durations(Records())\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert state() == before"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_timeline_of_the_worst_sample(sample: Any) -> None:
    """All 20 requests are placed; what has no time is counted below."""
    figure = plots.timeline(analyzer.open(sample("broken-x64-worst.dmp")))
    text = said(figure)
    assert "storage requests" in text
    assert "without a time, not shown: 1 stage and 10 callbacks" in text
    assert "s from the crash, 2024-03-05 14:07:09.123 UTC" in text


def test_durations_show_bounds_as_bounds() -> None:
    """An interval is drawn from end to end and is not counted as a duration."""
    made = Records()
    made.add(
        make(
            records.Callback,
            filter="a.sys",
            callback="Dump_Start",
            duration_ns=Absent("not-recorded"),
            duration_low_ns=1_000_000,
            duration_high_ns=40_000_000,
        )
    )
    figure = plots.durations(made)
    assert "n = 0 + 1 bounded" in said(figure)
    spans = [tuple(line.get_xdata()) for line in figure.axes[0].lines]
    assert (1_000_000, 40_000_000) in spans


def test_durations_that_no_source_keeps_are_not_zero(sample: Any) -> None:
    """A dump keeps no clock of a callback; the figure says it."""
    figure = plots.durations(analyzer.open(sample("healthy-x64-kernel.dmp")))
    assert "not determined: no source keeps their times" in said(figure)


def test_medians_need_twenty_calls() -> None:
    """Fewer calls are shown one by one."""
    assert "median" not in said(plots.durations(capture(19)))
    assert "median" in said(plots.durations(capture(20)))


def test_status_matrix_of_the_worst_sample(sample: Any) -> None:
    """The failed Dump_Start, callbacks that do not exist and unknown ones differ in words."""
    text = said(plots.statuses(analyzer.open(sample("broken-x64-worst.dmp"))))
    for words in ("unsuccessful", "likely\ncalled", "none", "not\ndetermined"):
        assert words in text


def test_throughput_of_a_stalled_write(sample: Any) -> None:
    """The slowest chunk and the rate of the whole are named."""
    # Oracle: generator_logs.py writes chunks of 1, 200 and 210 MB/s; 1 GiB in 60 s is 17.1 MiB/s.
    text = said(plots.throughput(analyzer.open(sample("logs/write-stalled-chunk.log"))))
    assert "slowest: 1 MB/s" in text
    assert "whole write: 17.1 MB/s" in text


def test_latency_marks_in_flight_and_failed(sample: Any) -> None:
    """A request in flight and a failed one have marks of their own."""
    text = said(plots.latency(analyzer.open(sample("broken-x64-worst.dmp"))))
    assert "in flight" in text
    assert "failed" in text
    assert "2 requests without both times not shown" in text


def test_comparison_names_both_with_their_counts() -> None:
    """Each case is a line with its number of calls; a filter can be chosen."""
    cases = {"before": capture(30), "after": capture(60, 2, 1)}
    figure = plots.comparison(cases, filter="first.sys", callback="Dump_Write")
    assert len(figure.axes) == 1
    assert "before (n = 30)" in said(figure)
    assert "after (n = 60)" in said(figure)
    assert "None of the cases" in said(plots.comparison(cases, filter="other.sys"))


def test_population_shows_every_capture() -> None:
    """Forty captures are forty points per filter."""
    cases = {f"run {n}": capture(1, seed=n) for n in range(40)}
    figure = plots.population(cases, filter="second.sys")
    points = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 40]
    assert len(points) == 1
    assert "None of the cases" in said(plots.population({"a": Records()}))


def test_labels_take_hostile_names_literally() -> None:
    """A driver called like a formula or an escape neither breaks nor bends the figure."""
    made = Records()
    for name in ("$\\frac{", "a$b$c", "\x1b[2J\u202e", "x" * 5000):
        made.add(
            make(records.Callback, filter=name, callback=name, duration_ns=5, entry_time=CRASH)
        )
    for plot in ONE_CASE:
        drawn(plot(made))


def test_tracks_keep_overlapping_slices_apart() -> None:
    """Two slices that overlap never share a track; one that begins at an end does."""
    slices = [
        timeline.Slice("a", "", start, end, "ok", "requests", 0, "")
        for start, end in ((0, 10), (5, 6), (6, 9), (10, 20))
    ]
    assert timeline.stacked(slices) == [0, 1, 1, 0]


def test_dump_start_bound_lies_before_the_log(sample: Any) -> None:
    """The first time of a dump log bounds all Dump_Start calls: a slice from 0 to it."""
    told = timeline.build(analyzer.open(sample("logs/start-slow.log")).records)
    (bound,) = [s for s in told.slices if s.kind == timeline.BOUND]
    assert (bound.start_ns, bound.end_ns) == (0, 31_250_000_000)


def test_requests_in_flight_end_at_the_crash(sample: Any) -> None:
    """A request that never ended is drawn up to the crash and marked as not finished."""
    # Oracle: the generator leaves request 2 open, begun two clock ticks before the crash.
    told = timeline.build(analyzer.open(sample("healthy-x64-kernel.dmp")).records)
    (one,) = [s for s in told.slices if s.kind == timeline.OPEN]
    assert (one.row, one.start_ns, one.end_ns) == (2, -31_250_000, 0)
