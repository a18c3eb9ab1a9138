"""A figure of many cases: which finding is in which of them.

Invariant: a case without a finding has its column too; :mod:`analyzer.plots` has the rest.
"""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.lines import Line2D

from ..checks.rule import SEVERITIES
from . import style
from .style import Plot

_LOOK = {"error": (style.RED, "X"), "warning": (style.ORANGE, "D"), "info": (style.SKY, "o")}
_MOST_RULES = 40
_MOST_COLUMNS = 60


def findings(cases: Mapping[str, style.Drawn]) -> Plot:
    """Rule by case up to 60 cases; above that, in how many cases each rule was found."""
    title = f"Findings in {len(cases)} cases"
    told = style.named(cases)
    where: dict[tuple[str, str], set[int]] = {}
    for place, records in enumerate(told.values()):
        for finding in records["findings"]:
            key = (str(finding.severity), str(finding.rule))
            where.setdefault(key, set()).add(place)
    if not where:
        return style.nothing("The checks found nothing in any of the cases.", title)
    order = {severity: place for place, severity in enumerate(SEVERITIES)}
    keys = sorted(where, key=lambda key: (order.get(key[0], 9), -len(where[key]), key[1]))
    hidden, keys = len(keys) - _MOST_RULES, keys[:_MOST_RULES]
    wide = len(told) > _MOST_COLUMNS
    width = 9.0 if wide else 4.5 + 0.3 * len(told)
    figure = Plot(width, 1.6 + 0.27 * len(keys) + (0 if wide else 1.1))
    axes = style.plain_axes(figure.add_subplot(), title)
    for y, key in enumerate(keys):
        colour, mark = _LOOK.get(key[0], (style.GREY, "s"))
        if wide:
            axes.barh(y, len(where[key]), color=colour, edgecolor="black", linewidth=0.4)
            axes.text(len(where[key]), y, f" {len(where[key])}", va="center", fontsize=8)
        else:
            x = sorted(where[key])
            axes.plot(
                x, [y] * len(x), mark, color=colour, markeredgecolor="black", markeredgewidth=0.4
            )
    axes.set_yticks(range(len(keys)), [style.short(rule, 40) for _, rule in keys], fontsize=8)
    axes.set_ylim(len(keys) - 0.4, -0.6)
    if wide:
        axes.set_xlabel(f"cases with the finding, of {len(told)}")
        axes.grid(axis="x", color=style.LIGHT, linewidth=0.6)
    else:
        names = [style.short(name, 32) for name in told]
        axes.set_xticks(range(len(names)), names, rotation=55, fontsize=8)
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("right")
            label.set_rotation_mode("anchor")
        axes.set_xlim(-0.6, len(names) - 0.4)
        axes.grid(color=style.LIGHT, linewidth=0.6)
    handles = [
        Line2D([], [], marker=mark, linestyle="", color=colour, label=severity)
        for severity, (colour, mark) in _LOOK.items()
        if any(key[0] == severity for key in keys)
    ]
    style.legend(axes, handles)
    if hidden > 0:
        figure.supxlabel(f"{hidden} more rules not shown", fontsize=8, color=style.GREY)
    return figure
