"""Figures of how long callbacks took: in one case, in two, in many.

Invariant: a call whose duration is not determined is counted in words; an interval is drawn from
its low to its high end and never takes part in a median. Below 20 calls the values are shown, not
percentiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from matplotlib.lines import Line2D

from .. import formatting as fmt
from ..absence import is_absent
from ..layouts.ntdddump import CALLBACKS
from ..records import Records
from . import style
from .style import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEW = 20
_MOST_ROWS = 30
_ORDER = {name: place for place, (_, name) in enumerate(CALLBACKS)}


class Calls(NamedTuple):
    """The calls of one callback of one filter."""

    filter: str
    callback: str
    exact: list[int]  #: durations in ns
    bounds: list[tuple[int, int]]  #: low and high in ns
    unknown: int


def calls_of(records: Records) -> list[Calls]:
    """Durations by filter and callback, filters in the order they appear."""
    found: dict[tuple[str, str], Calls] = {}
    for call in records["callbacks"]:
        key = (fmt.field(call, "filter", "a filter"), fmt.field(call, "callback"))
        row = found.setdefault(key, Calls(*key, [], [], 0))
        if not is_absent(call.duration_ns):
            row.exact.append(call.duration_ns)
        elif not is_absent(call.duration_high_ns):
            low = 0 if is_absent(call.duration_low_ns) else call.duration_low_ns
            row.bounds.append((low, call.duration_high_ns))
        elif call.routine != 0:
            found[key] = row._replace(unknown=row.unknown + 1)
    filters = {name: place for place, (name, _) in enumerate(found)}
    return sorted(
        found.values(), key=lambda c: (filters[c.filter], _ORDER.get(c.callback, len(_ORDER)))
    )


def durations(case: style.Drawn) -> Plot:
    """How long each callback of each filter took, on a logarithmic axis, one row each."""
    title = "Duration of the filters' callbacks"
    all_rows = calls_of(style.records_of(case))
    rows = [row for row in all_rows if row.exact or row.bounds]
    unknown = sum(row.unknown for row in all_rows)
    if not rows:
        why = "No source tells of a filter's callbacks."
        if all_rows:
            why = "How long the callbacks took is not determined: no source keeps their times."
        return style.nothing(why, title)
    hidden = len(rows) - _MOST_ROWS
    rows = rows[:_MOST_ROWS]
    figure = Plot(9, 1.4 + 0.5 * len(rows))
    axes = style.plain_axes(figure.add_subplot(), title)
    for place, row in enumerate(rows):
        _row(axes, place, row)
    ends = [v for row in rows for v in row.exact] + [
        v for row in rows for b in row.bounds for v in b
    ]
    style.log_time_axis(axes.xaxis, min(filter(None, ends), default=1), max(ends))
    axes.set_yticks(
        range(len(rows)),
        [f"{style.short(row.filter)}\n{style.short(row.callback)}" for row in rows],
        fontsize=8,
    )
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="x", color=style.LIGHT, linewidth=0.6)
    axes.set_xlabel("duration of a call")
    handles = [_mark("o", "one call", style.BLUE)]
    if any(len(row.exact) >= _FEW for row in rows):
        handles += [_line(style.BLACK, 1, "5 to 95 %"), _line(style.BLUE, 6, "25 to 75 %")]
        handles += [_mark("|", "median", style.BLACK)]
    if any(row.bounds for row in rows):
        handles.append(_line(style.ORANGE, 3, "between these bounds"))
    style.legend(axes, handles)
    notes = [f"{fmt.counted(unknown, 'callback')} without a known duration"] if unknown else []
    notes += [f"{hidden} more rows not shown"] if hidden > 0 else []
    if notes:
        figure.supxlabel("; ".join(notes), fontsize=8, color=style.GREY)
    return figure


def _row(axes: Axes, place: int, row: Calls) -> None:
    import numpy as np

    values = np.maximum(np.array(row.exact, float), 1)
    if len(values) >= _FEW:
        p5, p25, p50, p75, p95 = np.percentile(values, (5, 25, 50, 75, 95))
        axes.plot([p5, p95], [place, place], color=style.BLACK, linewidth=1)
        axes.plot([p25, p75], [place, place], color=style.BLUE, linewidth=7, solid_capstyle="butt")
        axes.plot([p50], [place], "|", color=style.BLACK, markersize=14, markeredgewidth=2)
        outside = np.sort(values[(values < p5) | (values > p95)])
        # the ends matter; of very many between them, evenly chosen ones
        values = outside[np.unique(np.linspace(0, len(outside) - 1, 400).astype(int))]
    axes.plot(
        values, [place] * len(values), "o", color=style.BLUE, markersize=6, markeredgecolor="white",
        markeredgewidth=0.5, alpha=0.7,
    )  # fmt: skip
    for low, high in row.bounds[:200]:
        axes.plot([max(low, 1), high], [place + 0.22] * 2, color=style.ORANGE, linewidth=3)
        axes.plot([max(low, 1), high], [place + 0.22] * 2, "|", color=style.ORANGE, markersize=9)
    count = f"n = {len(row.exact)}" + (f" + {len(row.bounds)} bounded" if row.bounds else "")
    axes.text(1.01, place, count, transform=axes.get_yaxis_transform(), va="center", fontsize=8)


def comparison(cases: Mapping[str, style.Drawn], filter: str = "", callback: str = "") -> Plot:
    """Two or a few captures on the same axis: the share of calls that took at most so long.

    ``filter`` and ``callback`` choose; else every pair that has durations gets a panel.
    """
    title = "Duration of callbacks compared"
    groups: dict[tuple[str, str], dict[str, list[int]]] = {}
    for name, records in style.named(cases).items():
        for row in calls_of(records):
            if row.exact and filter in ("", row.filter) and callback in ("", row.callback):
                groups.setdefault((row.filter, row.callback), {})[name] = row.exact
    if not groups:
        return style.nothing("None of the cases states how long such a callback took.", title)
    import numpy as np

    keys = list(groups)[:9]
    columns = min(3, len(keys))
    lines = -(-len(keys) // columns)
    figure = Plot(4.2 * columns if columns > 1 else 7, 0.7 + 3.1 * lines)
    grid = figure.subplots(lines, columns, squeeze=False)
    styles = ("-", "--", "-.", ":")
    for place, axes in enumerate(grid.flat):
        if place >= len(keys):
            axes.set_axis_off()
            continue
        key = keys[place]
        style.plain_axes(axes).set_title(
            f"{style.short(key[0])}  {style.short(key[1])}", loc="left", fontsize=9
        )
        for number, (name, values) in enumerate(groups[key].items()):
            x = np.maximum(np.sort(np.array(values, float)), 1)
            y = np.arange(1, len(x) + 1) / len(x) * 100
            axes.step(
                np.concatenate([x[:1], x]), np.concatenate([[0], y]), where="post",
                color=style.CYCLE[number % len(style.CYCLE)],
                linestyle=styles[number % len(styles)], linewidth=1.8,
                marker="o" if len(x) < _FEW else "", markersize=4,
                label=f"{style.short(name)} (n = {len(x)})",
            )  # fmt: skip
        values = [v for found in groups[key].values() for v in found]
        style.log_time_axis(axes.xaxis, min(values), max(values))
        axes.set_ylim(0, 104)
        axes.grid(color=style.LIGHT, linewidth=0.6)
        axes.legend(frameon=False, fontsize=8, loc="lower right")
        axes.set_xlabel("duration of a call")
        axes.set_ylabel("calls that took at most this, %")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def population(
    cases: Mapping[str, style.Drawn], filter: str = "", callback: str = "Dump_Start"
) -> Plot:
    """Many captures in the order given: median and range of one callback in each."""
    title = f"{fmt.clean(callback, 40)} over {len(cases)} captures"
    series: dict[str, list[tuple[int, list[int]]]] = {}
    for place, records in enumerate(style.named(cases).values()):
        for row in calls_of(records):
            if row.callback == callback and filter in ("", row.filter) and row.exact:
                series.setdefault(row.filter, []).append((place, row.exact))
    if not series:
        why = f"None of the cases states how long {fmt.clean(callback, 40)} took."
        return style.nothing(why, title)
    import numpy as np

    figure = Plot(10, 3.8)
    axes = style.plain_axes(figure.add_subplot(), title)
    marks = "osD^vPX"
    for number, (name, rows) in enumerate(list(series.items())[: len(style.CYCLE)]):
        colour = style.CYCLE[number]
        x = [place for place, _ in rows]
        middle = [max(float(np.median(values)), 1) for _, values in rows]
        axes.vlines(
            x, [max(min(values), 1) for _, values in rows], [max(*values, 1) for _, values in rows],
            color=colour, alpha=0.5, linewidth=1.2,
        )  # fmt: skip
        axes.plot(
            x, middle, marks[number], color=colour, markersize=5 if len(x) < 200 else 3,
            markeredgecolor="white", markeredgewidth=0.4,
            label=f"{style.short(name)}: median, smallest to largest",
            rasterized=len(x) > style.RASTER_ABOVE,
        )  # fmt: skip
    values = [v for rows in series.values() for _, found in rows for v in found]
    style.log_time_axis(axes.yaxis, min(values), max(values))
    names = list(style.named(cases))
    if len(names) <= 24:
        axes.set_xticks(range(len(names)), [style.short(n, 18) for n in names], rotation=45)
        axes.tick_params(axis="x", labelsize=8)
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("right")
    axes.set_xlim(-0.7, len(names) - 0.3)
    axes.set_xlabel("capture, in the order given")
    axes.set_ylabel("duration of a call")
    axes.grid(axis="y", color=style.LIGHT, linewidth=0.6)
    style.legend(axes, axes.get_legend_handles_labels()[0])
    return figure


def _mark(mark: str, label: str, colour: str) -> Line2D:
    return Line2D([], [], marker=mark, linestyle="", color=colour, label=label)


def _line(colour: str, width: float, label: str) -> Line2D:
    return Line2D([], [], color=colour, linewidth=width, label=label)
