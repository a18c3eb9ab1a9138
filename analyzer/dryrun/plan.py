"""Which calls a dry run makes of a filter: Dump_Start, then the others with each shape of MDL.

Invariant: a call that Windows would not make is marked so and is never judged. Standard library
only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..dumpstack.nodes import Node
from . import shapes
from .shapes import DOES, NEVER, Shape

CALLBACKS = (
    "Dump_Start", "Dump_Write", "Dump_Read", "Dump_PreReadWrite", "Dump_Finish", "Dump_Unload",
)  # fmt: skip
CRASH, HIBERNATION = 1, 2


class Step(NamedTuple):
    """One call. ``source`` and ``keep`` are names of states of memory; "" is the target's."""

    callback: str
    routine: int
    dump_type: int
    shape: Shape | None
    windows: str
    is_shown: bool = True
    source: str = ""
    keep: str = ""


def steps(node: Node, dump_types: Sequence[int], wanted: Sequence[str]) -> Iterator[Step]:
    """The calls of one filter, in order.

    Whether Dump_Start succeeded is not known here: steps that need its changes name its state.
    """
    routines = {name: routine for _, name, routine in node.callbacks() if routine}
    for number, dump_type in enumerate(dump_types):
        windows = DOES if not number else NEVER  # another type than that of its stack
        started = f"started {dump_type}"
        for name in CALLBACKS:
            routine = routines.get(name)
            if routine is None or name == "Dump_PreReadWrite":  # its arguments are not published
                continue
            is_shown = not wanted or name in wanted
            if name == "Dump_Start":
                yield Step(name, routine, dump_type, None, windows, is_shown, "", started)
            elif not is_shown:
                continue
            elif name in ("Dump_Write", "Dump_Read"):
                for shape in shapes.SHAPES if name == "Dump_Write" else shapes.READS:
                    by = NEVER if number else shape.windows
                    yield Step(name, routine, dump_type, shape, by, True, started)
            else:
                yield Step(name, routine, dump_type, None, windows, True, started)
