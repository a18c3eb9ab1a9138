"""A study as a notebook to go on from, and the figure of a difference that is in it.

Invariant: the notebook holds code and no results; run, it states what the other formats state.
Names that the user gave stand in it as Python literals. This module does not need Jupyter.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..formatting import counted

if TYPE_CHECKING:
    from ..plots.style import Plot
    from .study import Difference, Study

#: cells between marks; {folder} and {labels} are put in
_CELLS = """\
%% markdown
# Population

Which driver version, disk, build or setting goes with slow or failing dumps, and since when?
%% code
import pandas as pd

from analyzer.population import notebook, report, study

DIR = {folder}
fleet = study.of_folder(DIR, labels={labels})
print("".join(report.text(fleet)), end="")
%% markdown
## What stands out

Each difference with the numbers it rests on.
%% code
told = report.data(fleet)
pd.DataFrame(told["differences"])
%% code
for found in fleet.differences:
    display(notebook.figure(fleet, found))
%% markdown
## Case by case

One row a case: its measures, its traits, the time of the crash.
%% code
cases = fleet.frame()
cases.describe(include="all").transpose()
%% markdown
## Findings of single cases

By how common they are.
%% code
pd.DataFrame(told["findings"])
%% markdown
## All tables

The data set has the tables of every case; this one has the filters.
%% code
filters = pd.read_parquet(DIR + "/filters")
filters.groupby("filter")["case"].nunique().sort_values(ascending=False)
"""


def notebook(folder: str, labels: str = "") -> Iterator[str]:
    """The notebook of a data set, as JSON."""
    names = {
        "folder": repr(os.path.abspath(folder)),
        "labels": repr(os.path.abspath(labels) if labels else ""),
    }
    cells = []
    for number, text in enumerate(_CELLS.split("%% ")[1:]):
        kind, _, source = text.partition("\n")
        cell: dict[str, object] = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}}
        if kind == "code":
            cell.update(execution_count=None, outputs=[])
            source = source.format(**names)
        cells.append({**cell, "source": source.rstrip()})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    about = {"kernelspec": kernel, "language_info": {"name": "python"}}
    made = {"cells": cells, "metadata": about, "nbformat": 4, "nbformat_minor": 5}
    yield json.dumps(made, indent=1) + "\n"


def figure(study: Study, found: Difference) -> Plot:
    """The cases of a difference beside the others: each, quartiles and deciles; or shares."""
    import numpy as np

    from ..plots import style
    from .report import amount

    measure = found.measure
    inside, outside = study.sides(found)
    stands = f"from {found.value} on" if found.trait == "time" else f"{found.trait} {found.value}"
    rest = "before" if found.trait == "time" else "the others"
    names = [style.short(stands, 60), style.short(rest)]
    title = style.short(f"{measure.name} {measure.subject}".strip(), 80)
    plot = style.Plot(9, 2.6)
    axes = style.plain_axes(plot.add_subplot(), title, pad=8)
    sides = [values.to_numpy(float) for values in (inside, outside)]
    if measure.unit == "yes":
        axes.barh([0, 1], [100 * x.mean() for x in sides], color=[style.RED, style.GREY])
        axes.set_xlabel("share of cases, %")
    else:
        sides = [x[x > 0] for x in sides]
        for place, (x, colour) in enumerate(zip(sides, (style.RED, style.GREY))):
            jitter = [place + 0.3 * ((n * 0.618) % 1 - 0.5) for n in range(len(x))]
            axes.plot(x, jitter, ".", color=colour, alpha=0.4, markersize=3, rasterized=True)
            p10, p25, middle, p75, p90 = np.percentile(x, (10, 25, 50, 75, 90))
            axes.plot([p10, p90], [place, place], color=style.BLACK, linewidth=1)
            axes.barh(place, p75 - p25, 0.5, left=p25, fill=False, edgecolor=style.BLACK)
            axes.vlines(middle, place - 0.25, place + 0.25, color=style.BLACK, linewidth=2)
        low, high = min(x.min() for x in sides), max(x.max() for x in sides)
        if measure.unit == "ns":
            style.log_time_axis(axes.xaxis, low, high)
        else:
            axes.set_xscale("log")
            axes.set_xlabel(measure.unit)
    middles = (found.inside, found.outside)
    told = [
        f"{name}\n{counted(len(x), 'case')}, {amount(measure, middle)}"
        for name, x, middle in zip(names, sides, middles)
    ]
    axes.set_yticks([0, 1], told, fontsize=8)
    axes.set_ylim(1.5, -0.5)
    return plot
