"""What a callback uses of its FILTER_EXTENSION, as a picture of its bytes.

Invariant: drawn from the record of one dry run; a byte is coloured only when the call touched its
member. :mod:`analyzer.plots` has the rest.
"""

from __future__ import annotations

from matplotlib.patches import Patch, Rectangle

from .. import formatting as fmt
from ..records import DryRun, Text
from ..reports.extension import members
from . import style
from .style import Plot

_WIDE = 8  #: bytes in a row
_READ, _WRITTEN, _BOTH, _NOT_USED = "read", "written", "read and written", "not used"
_LOOK = {
    _READ: (style.SKY, ""),
    _WRITTEN: (style.ORANGE, "///"),
    _BOTH: (style.PINK, "xxx"),
    _NOT_USED: ("white", ""),
}


def extension_use(case: style.Drawn, run: DryRun) -> Plot:
    """Each byte of the FILTER_EXTENSION: whether the call of a dry run read or wrote its member."""
    title = fmt.clean(f"{run.callback} of {run.filter}: what it uses of FILTER_EXTENSION", 100)
    rows = [e for e in style.records_of(case)["extensions"] if e.extension == run.extension]
    if not rows or not isinstance(run.extension, int):
        return style.nothing("The FILTER_EXTENSION of this call is not in the records.", title)
    parts = list(members(rows[0], 8 if run.extension >> 32 else 4))
    height = -(-max(m.offset + m.size for m in parts) // _WIDE)
    figure = Plot(10, 1.2 + 0.42 * height)
    axes = style.plain_axes(figure.add_subplot(), title)
    for part in parts:
        colour, hatch = _LOOK[_use(part.name, run)]
        for at in range(part.offset, part.offset + part.size):
            y, x = divmod(at, _WIDE)
            box = Rectangle((x, y), 1, 1, facecolor=colour, hatch=hatch, edgecolor=style.LIGHT)
            axes.add_patch(box)
        y, x = divmod(part.offset, _WIDE)
        axes.text(x + 0.08, y + 0.62, style.short(part.name, 34), fontsize=8)
    axes.set_xlim(0, _WIDE)
    axes.set_ylim(height, 0)
    axes.set_xticks(range(_WIDE), [f"+{n}" for n in range(_WIDE)], fontsize=8)
    places = [n + 0.5 for n in range(height)]
    axes.set_yticks(places, [f"+0x{_WIDE * n:03x}" for n in range(height)], fontsize=8)
    patches = [
        Patch(facecolor=c, hatch=h, edgecolor="black", label=name) for name, (c, h) in _LOOK.items()
    ]
    style.legend(axes, patches)
    return figure


def _use(name: str, run: DryRun) -> str:
    read, written = _is_in(name, run.members_read), _is_in(name, run.members_written)
    if read and written:
        return _BOTH
    return _READ if read else _WRITTEN if written else _NOT_USED


def _is_in(name: str, used: Text) -> bool:
    """True when a member is among the names; the arms of the partition's union are one there."""
    names = used.split("; ") if isinstance(used, str) else []
    is_arm = name.startswith(("PartitionInfo.Mbr.", "PartitionInfo.Gpt."))
    return name in names or (is_arm and "PartitionInfo.Mbr/Gpt" in names)
