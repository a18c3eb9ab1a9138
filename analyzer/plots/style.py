"""What all figures share: size, colours, axes of time.

Invariant: colours are those of Okabe and Ito, which readers with any colour vision tell apart;
no meaning hangs on colour alone: marks and hatches say it too. Objects only, no pyplot.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Union

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from .. import formatting as fmt
from ..records import Records

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

    from ..case import Case

    #: what a figure is of; a path is opened
    Drawn = Union[Case, Records, str, os.PathLike[str]]

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PINK, YELLOW, BLACK = "#56B4E9", "#CC79A7", "#F0E442", "#000000"
GREY, LIGHT = "#6b6b6b", "#d9d9d9"
#: for things without an order
CYCLE = (BLUE, ORANGE, GREEN, PINK, SKY, RED, BLACK)
#: above this, marks become pixels in vector formats (20,000 bars make an SVG of 3 MB)
RASTER_ABOVE = 2000


class Plot(Figure):
    """A Figure that shows itself in a notebook, whatever backend is set there."""

    def __init__(self, width: float = 9, height: float = 4) -> None:
        super().__init__(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(self)
        self.set_facecolor("white")

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()


def records_of(case: object) -> Records:
    """The records of a case, of a path (which is opened), or records themselves.

    TypeError for anything else.
    """
    if isinstance(case, Records):
        return case
    if isinstance(case, (str, os.PathLike)):
        from .. import open as open_case

        return open_case(case).records
    found = getattr(case, "records", None)
    if not isinstance(found, Records):
        raise TypeError(f"a figure is of a case, records or a path, not {type(case).__name__}")
    return found


def named(cases: Drawn | Mapping[str, Drawn]) -> dict[str, Records]:
    """Name -> records of a mapping of cases, or of one case."""
    if isinstance(cases, Mapping):
        return {fmt.clean(name, 40): records_of(case) for name, case in cases.items()}
    return {"": records_of(cases)}


def nothing(text: str, title: str = "") -> Plot:
    """A figure that says why there is nothing to show."""
    figure = Plot(9, 1.6)
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", wrap=True, color=GREY, fontsize=11)
    if title:
        axes.set_title(title, loc="left", fontsize=11)
    return figure


def plain_axes(axes: Axes, title: str = "", pad: float = 24) -> Axes:
    """Axes with only what is needed to read them; ``pad`` leaves room for a legend."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_axisbelow(True)
    if title:
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold", pad=pad)
    return axes


def log_time_axis(axis: Axis, low: float, high: float) -> None:
    """A logarithmic axis of nanoseconds labelled 10 us, 1 ms, 1 s, with some room at both ends."""
    low, high = max(low, 1) / 2.5, max(high, low, 1) * 2.5
    if axis is axis.axes.xaxis:
        axis.axes.set_xscale("log")
        axis.axes.set_xlim(low, high)
    else:
        axis.axes.set_yscale("log")
        axis.axes.set_ylim(low, high)
    steps = (1.0, 2.0, 5.0) if high < low * 200 else (1.0,)
    axis.set_major_locator(LogLocator(base=10, subs=steps, numticks=12))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda ns, _: fmt.duration(round(ns)) if ns else "0"))


def time_unit(extent_ns: float) -> tuple[float, str]:
    """The nanoseconds of a unit that suits a span of time, and the unit's name."""
    for size, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "us")):
        if abs(extent_ns) >= 2 * size:
            return size, unit
    return 1.0, "ns"


def legend(axes: Axes, entries: Iterable[Artist]) -> None:
    """A legend above the plot, without a frame."""
    handles = list(entries)
    if handles:
        axes.legend(
            handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(handles),
            frameon=False, fontsize=8, handlelength=1.2, columnspacing=1.2,
        )  # fmt: skip


def short(text: str, length: int = 28) -> str:
    """A label that fits beside an axis; mathematics marks of matplotlib are taken literally."""
    text = fmt.clean(text, length)
    return text.replace("$", r"\$")
