"""Dry runs of the filters of a dump or a snapshot, where they are asked for or are a pre-flight.

Invariant: without being asked, only memory of a machine that had not crashed is run, and only where
the emulator is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import dryrun
from ..absence import Absent
from ..dumpstack.walk import Ring
from ..layouts import mindumpdef
from ..records import Module, Records
from ..target import Target


def had_crashed(attributes: Any, bugcheck: Any) -> bool | None:
    """Whether the memory is of a machine that had crashed; None where nothing tells."""
    if mindumpdef.is_of_running_system(attributes, bugcheck):
        return False
    return None if isinstance(bugcheck, Absent) else True


def add(
    out: Records,
    target: Target,
    modules: Sequence[Module],
    rings: Sequence[Ring],
    crashed: bool | None,
    ask: dryrun.Ask | None,
) -> None:
    """Adds the records of the dry runs that ``ask`` wants; None wants none."""
    if ask is None or not any(ring.nodes for ring in rings):
        return
    if not ask.always and (crashed is not False or not dryrun.is_installed()):
        return
    out.add(
        *dryrun.run(
            target,
            modules,
            rings,
            had_crashed=crashed,
            filters=ask.filters,
            callbacks=ask.callbacks,
            limits=ask.limits,
            progress=ask.progress,
        )
    )
