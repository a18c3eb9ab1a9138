"""Finds the filters of a live target and the clock's frequency, without symbols.

Invariant: the walk is that of dumps (:mod:`analyzer.dumpstack`); a frequency is never assumed.
Standard library only.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from ..absence import Absent
from ..dumpstack import roles
from ..dumpstack.nodes import ENOUGH, Node, at_address
from ..dumpstack.walk import Ring, contexts, rings
from ..layouts.crashdmp import node_layouts
from ..records import Module
from ..sources.capture_format import Fact
from ..symbols import pe
from .session import Session

#: HV_X64_MSR_TSC_FREQUENCY (Hyper-V top level functional specification): Hz
_HYPERVISOR_FREQUENCY = 0x40000022
_PLAUSIBLE = range(100_000_000, 20_000_000_000)


class Found(NamedTuple):
    """The dump stack of a live target."""

    modules: list[Module]
    rings: list[Ring]

    @property
    def stack_modules(self) -> list[Module]:
        """Loaded images of the crash and the hibernation stack."""
        return [m for m in self.modules if m.stack and m.loaded]


def filters(session: Session) -> Found:
    """Modules with their roles, and every ring of filters that crashdmp's image leads to."""
    modules = roles.classify(session.modules())
    recorded = session.recorded_rings()
    if recorded is not None:
        return Found(modules, recorded)
    crashdmp = next((m for m in modules if m.role == roles.CRASH_DUMP_DRIVER and m.loaded), None)
    bugcheck = session.bugcheck()
    code = bugcheck if isinstance(bugcheck, Absent) else bugcheck[0]
    known = contexts(session, crashdmp, code)
    return Found(modules, rings(session, modules, known.context))


def node_at(session: Session, stack_modules: Sequence[Module], address: int) -> Node | Absent:
    """The filter node at an address, in the layout that fits best."""
    best: Node | None = None
    why = Absent("unknown-layout", f"what lies at {address:#x} is no known filter node")
    for layout in node_layouts(session.pointer_size):
        node = at_address(session, stack_modules, address, layout)
        if isinstance(node, Node) and (best is None or node.score > best.score):
            best = node
        elif isinstance(node, Absent):
            why = node
    return best if best is not None and best.score >= ENOUGH else why


def node_around(session: Session, stack_modules: Sequence[Module], extension: int) -> Node | Absent:
    """The filter node that a FILTER_EXTENSION lies in, in the layout that fits best."""
    best: Node | None = None
    for layout in node_layouts(session.pointer_size):
        node = at_address(session, stack_modules, extension - layout.extension, layout)
        if isinstance(node, Node) and (best is None or node.score > best.score):
            best = node
    if best is not None and best.score >= ENOUGH:
        return best
    return Absent("unknown-layout", f"no known filter node lies around {extension:#x}")


def header(session: Session, base: int) -> pe.Header | Absent:
    """The PE header of the image at ``base``."""
    return pe.header(lambda offset, size: session.read(base + offset, size))


def frequency(session: Session, given: int | None, seconds: float = 1.0) -> Fact | None:
    """The frequency of the target's clock as a fact, None when nothing tells it.

    Given by the user; else told by the hypervisor; else measured on the standing target against the
    debugger's clock, because the counter goes on while the debugger waits.
    """
    if given:
        return {"fact": "clock", "hz": given, "how": "given by the user"}
    if isinstance(session.clock().tsc, Absent):
        return None
    told = session.msr(_HYPERVISOR_FREQUENCY)
    if isinstance(told, int) and told in _PLAUSIBLE:
        return {"fact": "clock", "hz": told, "how": "told by the hypervisor, MSR 0x40000022"}
    before, first, after = time.perf_counter_ns(), session.clock(), time.perf_counter_ns()
    time.sleep(seconds)
    later, second, end = time.perf_counter_ns(), session.clock(), time.perf_counter_ns()
    if isinstance(first.tsc, Absent) or isinstance(second.tsc, Absent):
        return None
    ticks = second.tsc - first.tsc
    hz = ticks * 1_000_000_000 // (second.host_ns - first.host_ns)
    if hz not in _PLAUSIBLE:
        return None
    # Each reading happened somewhere between its request and its answer.
    low = ticks * 1_000_000_000 // (end - before)
    high = ticks * 1_000_000_000 // max(1, later - after)
    how = f"measured against the debugger's clock for {seconds:g} s"
    return {"fact": "clock", "hz": hz, "low": min(low, hz), "high": max(high, hz), "how": how}
