"""Figures of one crash: timeline, callback statuses, write throughput, storage latency.

Invariant: times are those of :mod:`analyzer.reports.timeline`; :mod:`analyzer.plots` has the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from .. import formatting as fmt
from ..absence import is_absent, known
from ..checks import benign
from ..checks.storage import CLOCK_TICK_NS
from ..layouts.ntdddump import CALLBACKS
from ..names import ntstatus
from ..records import Callback, Stage
from ..reports import timeline as story
from . import style
from .style import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LOOK = {  # kind -> colour, hatch, mark
    story.OK: (style.GREEN, "", "o"),
    story.FAILED: (style.RED, "xxx", "X"),
    story.OPEN: (style.ORANGE, "///", ">"),
    story.BOUND: ("white", "....", "|"),
    story.UNKNOWN: (style.SKY, "", "o"),
    story.RECORDED: (style.BLUE, "", "d"),
    story.NOTED: (style.PINK, "\\\\\\", "D"),
}
_MOST_LANES = 30


def timeline(case: style.Drawn, events: int = story.MOST_EVENTS) -> Plot:
    """What happened around the crash: dump stages, callbacks per filter, requests, events."""
    told = story.build(style.records_of(case), events)
    title = "Timeline of the crash"
    if not told.slices:
        return style.nothing("Nothing that the sources tell has a time.", title)
    lanes = dict(list(told.lanes().items())[:_MOST_LANES])
    start = min(0, *(s.start_ns for s in told.slices))
    end = max(0, *(s.end_ns for s in told.slices))
    size, unit = style.time_unit(max(end - start, abs(start), abs(end)))
    figure = Plot(10, 1.7 + 0.55 * len(lanes))
    axes = style.plain_axes(figure.add_subplot(), title)
    span = max(end - start, 1)
    for place, rows in enumerate(lanes.values()):
        _lane(axes, place, rows, span, size)
    axes.set_yticks(range(len(lanes)), [style.short(lane, 48) for lane in lanes])
    axes.set_ylim(len(lanes) - 0.4, -0.6)
    axes.set_xlim((start - span * 0.02) / size, (end + span * 0.02) / size)
    axes.axvline(0, color=style.BLACK, linewidth=1)
    axes.grid(axis="x", color=style.LIGHT, linewidth=0.6)
    axes.set_xlabel(f"{unit} from {told.zero}")
    kinds = {s.kind for s in told.slices}
    style.legend(
        axes,
        [
            Patch(facecolor=colour, hatch=hatch, edgecolor="black", label=story.KINDS[kind])
            for kind, (colour, hatch, _) in _LOOK.items()
            if kind in kinds
        ],
    )
    missing = [fmt.counted(n, table[:-1]) for table, n in told.untimed.items()]
    notes = [f"without a time, not shown: {fmt.listed(missing)}"] if missing else []
    notes += [f"{told.left_out} more events not shown"] if told.left_out else []
    hidden = len(told.lanes()) - len(lanes)
    notes += [f"{hidden} more lanes not shown"] if hidden > 0 else []
    if notes:
        figure.supxlabel("; ".join(notes), fontsize=8, color=style.GREY)
    return figure


def _lane(axes: Axes, place: int, rows: list[story.Slice], span: int, size: float) -> None:
    """One lane; slices that overlap lie side by side, as far as there is room."""
    tracks = story.stacked(rows)
    count = min(max(tracks) + 1, 4)
    height = 0.72 / count
    thin = span / 1500  # a bar narrower than a pixel would vanish: it becomes a mark
    for kind, (colour, hatch, mark) in _LOOK.items():
        for track in range(count):
            base = place - 0.36 + track * height
            own = [s for s, t in zip(rows, tracks) if s.kind == kind and t % count == track]
            bars = [s for s in own if s.end_ns - s.start_ns > thin]
            marks = [s.start_ns / size for s in own if s.end_ns - s.start_ns <= thin]
            many = len(own) > 300
            axes.broken_barh(
                [(s.start_ns / size, (s.end_ns - s.start_ns) / size) for s in bars],
                (base, height * 0.94),
                facecolors=colour,
                edgecolors="none" if many and not hatch else "black",
                linewidth=0.4,
                hatch=hatch,
                rasterized=len(bars) > style.RASTER_ABOVE,
            )
            axes.plot(
                marks, [base + height / 2] * len(marks), mark,
                color=style.GREY if colour == "white" else colour, markersize=6 if count < 3 else 4,
                markeredgecolor="none" if many else "black", markeredgewidth=0.4, alpha=0.9,
                rasterized=len(marks) > style.RASTER_ABOVE,
            )  # fmt: skip


def statuses(case: style.Drawn) -> Plot:
    """Filter by callback: how many calls succeeded, failed, or have no status that is known."""
    calls: list[Callback] = style.records_of(case)["callbacks"]
    title = "Status of the filters' callbacks"
    if not calls:
        return style.nothing("No source tells of a filter's callbacks.", title)
    names = [name for _, name in CALLBACKS]
    groups: dict[tuple[str, str], list[Callback]] = {}
    for call in calls:
        key = (_filter(call), fmt.field(call, "callback"))
        groups.setdefault(key, []).append(call)
    filters = list(dict.fromkeys(key[0] for key in groups))[:_MOST_LANES]
    figure = Plot(2.8 + 1.35 * len(names), 1.3 + 0.62 * len(filters))
    axes = figure.add_subplot()
    seen: dict[str, str] = {}
    for y, filter_ in enumerate(filters):
        for x, name in enumerate(names):
            kind, text = _status(groups.get((filter_, name), []))
            colour, hatch, label = _CELLS[kind]
            seen[kind] = label
            axes.add_patch(
                Rectangle(
                    (x - 0.5, y - 0.5), 1, 1, linewidth=0.6, facecolor=colour, hatch=hatch,
                    edgecolor=style.GREY,
                )
            )  # fmt: skip
            axes.text(
                x, y, text, ha="center", va="center", fontsize=7,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
            )  # fmt: skip
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(len(filters) - 0.5, -0.5)
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set_yticks(range(len(filters)), [style.short(f) for f in filters])
    axes.tick_params(length=0)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", pad=24)
    handles = [
        Patch(facecolor=_CELLS[kind][0], hatch=_CELLS[kind][1], edgecolor=style.GREY, label=label)
        for kind, label in seen.items()
    ]
    style.legend(axes, handles)
    return figure


_CELLS = {
    "ok": (style.GREEN, "", "success"),
    "benign": (style.YELLOW, "", "failing status known to be harmless"),
    "failed": (style.RED, "xx", "failed"),
    "unknown": ("#cfe8f7", "", "status not determined"),
    "none": ("white", "..", "the filter has no such callback"),
    "silent": ("white", "", "nothing recorded"),
}


def _filter(call: Callback) -> str:
    stack = "" if call.stack in (None, "crash") or is_absent(call.stack) else f" ({call.stack})"
    return fmt.field(call, "filter", "a filter") + fmt.clean(stack)


def _status(calls: list[Callback]) -> tuple[str, str]:
    """The worst of some calls, and what to write into the cell."""
    known = [c for c in calls if not is_absent(c.status)]
    failed = [c for c in known if ntstatus.is_failure(_code(c))]
    serious = [c for c in failed if not benign.why(c.filter, c.callback, _code(c))]
    if failed:
        first = (serious or failed)[0]
        name = fmt.fields(first, "status_name") or fmt.field(first, "status")
        name = name.removeprefix("STATUS_").replace("_", " ").lower()
        lines = [style.short(name, 24)] if len(name) < 13 else _folded(name)
        count = f"{len(failed)} of {len(calls)}" if len(calls) > 1 else ""
        return ("failed" if serious else "benign"), "\n".join(filter(None, [*lines, count]))
    if known:
        rest = len(calls) - len(known)
        text = f"{len(known)} ok" if len(calls) > 1 else "success"
        return "ok", text + (f"\n{rest} not known" if rest else "")
    if not calls:
        return "silent", "-"
    if all(c.routine == 0 for c in calls):
        return "none", "none"
    called = fmt.field(calls[0], "was_called", "")
    return "unknown", {"yes": "called", "likely": "likely\ncalled"}.get(called, "not\ndetermined")


def _folded(name: str) -> list[str]:
    import textwrap

    return textwrap.wrap(style.short(name, 40), 14)[:2]


def _code(call: Callback) -> int:
    return call.status & 0xFFFFFFFF if isinstance(call.status, int) else 0


def throughput(case: style.Drawn) -> Plot:
    """How fast memory was written, chunk by chunk, as the dump log states it."""
    stages = style.records_of(case)["stages"]
    title = "Write throughput of the dump"
    sources: dict[str, list[tuple[Stage, float]]] = {}
    for stage in stages:
        rate = stage.rate_mb_per_s
        if stage.stage == "memory-data-chunk" and isinstance(rate, (int, float)):
            sources.setdefault(stage.origin.source, []).append((stage, float(rate)))
    whole = [
        rate
        for stage in stages
        if stage.stage == "write-memory-data"
        and isinstance(rate := stage.rate_mb_per_s, (int, float))
    ]
    if not sources and not whole:
        return style.nothing("No source states how fast memory was written.", title)
    figure = Plot(9, 3.4)
    axes = style.plain_axes(figure.add_subplot(), title, 10)
    for colour, (source, chunks) in zip(style.CYCLE, sources.items()):
        edges, rates = [0.0], [rate for _, rate in chunks]
        for chunk, _ in chunks:
            pages = chunk.amount if isinstance(chunk.amount, int) and chunk.unit == "pages" else 1
            edges.append(edges[-1] + pages * 4096 / 1e6)
        label = style.short(source.replace("\\", "/").rpartition("/")[2], 40)
        axes.stairs(rates, edges, color=colour, linewidth=1.6, label=label)
        axes.stairs(rates, edges, color=colour, fill=True, alpha=0.15)
        low = min(range(len(rates)), key=rates.__getitem__)
        axes.annotate(
            f"slowest: {rates[low]:g} MB/s", ((edges[low] + edges[low + 1]) / 2, rates[low]),
            xytext=(0, 12), textcoords="offset points", ha="center", fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
        )  # fmt: skip
    for colour, rate in zip(style.CYCLE, whole):
        axes.axhline(rate, color=colour, linestyle="--", linewidth=1.2)
        axes.annotate(
            f"whole write: {rate:g} MB/s", (1, rate), xycoords=("axes fraction", "data"),
            xytext=(0, 3), textcoords="offset points", ha="right", fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
        )  # fmt: skip
    if not sources:
        axes.set_xticks([])
        axes.set_xlabel("the log keeps no rate of single chunks")
    else:
        axes.set_xlabel("written so far, MB")
    axes.set_ylabel("MB/s")
    axes.set_ylim(bottom=0, top=axes.get_ylim()[1] * 1.15)
    axes.grid(axis="y", color=style.LIGHT, linewidth=0.6)
    if len(sources) > 1:
        axes.legend(frameon=False, fontsize=8)
    return figure


def latency(case: style.Drawn) -> Plot:
    """How long each storage request before the crash took, by when it ended."""
    requests = style.records_of(case)["requests"]
    title = "Storage requests before the crash"
    dated = [r for r in requests if isinstance(r.before_crash_ns, int)]
    shown = [r for r in dated if r.in_flight is True or isinstance(r.duration_ns, int)]
    if not shown:
        why = "No source tells of storage requests with their times."
        return style.nothing(why, title)
    size, unit = style.time_unit(max(known(r.before_crash_ns) or 0 for r in shown))
    floor = CLOCK_TICK_NS / 2  # where a request that took no whole tick is drawn
    figure = Plot(9, 3.8)
    axes = style.plain_axes(figure.add_subplot(), title)
    operations = list(dict.fromkeys(fmt.field(r, "operation", "request") for r in shown))
    colours = {name: style.CYCLE[min(i, 6)] for i, name in enumerate(operations)}
    marks = {story.OPEN: ">", story.FAILED: "X"}
    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for r in shown:
        kind = story.request_kind(r)
        before = known(r.before_crash_ns) or 0
        ns = before if r.in_flight is True else known(r.duration_ns) or 0
        key = (fmt.field(r, "operation", "request"), marks.get(kind, "o"))
        points.setdefault(key, []).append((-before / size, max(ns, floor)))
    for (name, mark), found in points.items():
        x, y = zip(*found)
        axes.plot(
            x, y, mark, color=colours[name], markersize=8 if mark != "o" else 6,
            markeredgecolor="black", markeredgewidth=0.4, alpha=0.9 if len(found) < 500 else 0.3,
            rasterized=len(found) > style.RASTER_ABOVE,
        )  # fmt: skip
    worst = max(max(y for _, y in found) for found in points.values())
    style.log_time_axis(axes.yaxis, floor, max(worst, CLOCK_TICK_NS * 10))
    axes.axhspan(0.1, CLOCK_TICK_NS, color=style.LIGHT, alpha=0.5, linewidth=0)
    axes.text(
        0.005, CLOCK_TICK_NS * 0.9, "within one clock tick (15.6 ms)",
        transform=axes.get_yaxis_transform(), va="top", fontsize=8, color=style.GREY,
    )  # fmt: skip
    axes.axvline(0, color=style.BLACK, linewidth=1)
    axes.grid(axis="y", color=style.LIGHT, linewidth=0.6)
    axes.set_xlabel(f"{unit} before the crash at 0 (end of the request; start of one in flight)")
    axes.set_ylabel("duration")
    handles = [
        Line2D([], [], marker="o", linestyle="", color=colours[name], label=style.short(name))
        for name in operations[:6]
    ]
    used = {mark for _, mark in points}
    handles += [
        Line2D(
            [], [], marker=mark, linestyle="", color="white", markeredgecolor="black", label=text
        )
        for mark, text in ((">", "in flight"), ("X", "failed"))
        if mark in used
    ]
    style.legend(axes, handles)
    missing = len(requests) - len(shown)
    if missing:
        figure.supxlabel(
            f"{fmt.counted(missing, 'request')} without both times not shown",
            fontsize=8,
            color=style.GREY,
        )
    return figure
