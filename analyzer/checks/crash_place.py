"""Where the crash itself lies: in a dump filter, in another image of the dump stack, in its driver.

Invariant: rests on the address that the bugcheck names; the call is the last callback that starts
at or before it, and the text says so. A second bugcheck is told only by BugCheckProgress.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..absence import known
from ..names import drivers, progress
from ..records import Anomaly, Cell, Machine, Module
from .dump_filters import CALLBACKS
from .evidence import PARTIAL, SourceRecords, broken, evidence_of, same_name
from .machine import is_crash

#: bugchecks that a filter's own code makes: code -> name of the filter, what it says
_OWN_BUGCHECKS = {
    0xC000028A: (
        "dcrypt",
        "DiskCryptor stops the machine so when its Dump_Start fails; parameter 2 is the status",
    ),
}


def check(seen: SourceRecords) -> Iterator[Anomaly]:
    """Everything this module checks, for one source."""
    yield from _second(seen)
    if not is_crash(seen):
        return
    for machine in seen["machine"]:
        yield from _in_stack(seen, machine)
        yield from _own_bugcheck(seen, machine)
    yield from _sleep(seen)


def _in_stack(seen: SourceRecords, machine: Machine) -> Iterator[Anomaly]:
    address = known(machine.faulting_address)
    module = seen.module_at(address) if address is not None else None
    if module is None or not module.loaded:
        return
    at = known(machine.faulting_symbol) or f"{address:#x}"
    fields = ("bugcheck", "faulting_address", "faulting_symbol", "faulting_module")
    name = str(known(module.name) or "a driver without a name")
    facts: dict[str, Cell] = {"module": name, "address": address}
    if module.stack and module.role == drivers.FILTER:
        callback, distance = _callback(seen, module, int(address or 0))
        where = "before the first of its callbacks, in its DriverEntry or another routine"
        if callback:
            where = f"in its {callback} ({distance:#x} bytes behind its start, before any other)"
        if not any(same_name(row.filter, name) and known(row.node) for row in seen["filters"]):
            where = "in which of its callbacks is not determined"
        yield broken(
            "crash-in-dump-filter",
            f"The crash lies in the dump filter {name} of the {module.stack} stack, at {at}: "
            f"{where}.",
            machine,
            name,
            *fields,
            **facts,
            callback=callback,
        )
    elif module.stack or module.role == drivers.CRASH_DUMP_DRIVER:
        yield broken(
            "crash-in-dump-stack",
            f"The crash lies in the dump stack itself: in {name} ({module.role}), at {at}.",
            machine,
            name,
            *fields,
            **facts,
        )
    else:
        copies = [m for m in seen["modules"] if m.loaded and m.role == drivers.FILTER and m.stack]
        copy = next((m for m in copies if same_name(m.original, name)), None)
        if copy is not None:
            yield broken(
                "crash-in-filter-original",
                f"The crash lies in {name}, at {at}, the driver that the dump filter {copy.name} "
                "is a copy of.",
                machine,
                name,
                *fields,
                **facts,
            )


def _callback(seen: SourceRecords, module: Module, address: int) -> tuple[str, int]:
    """The callback of a filter that starts last at or before an address, and how far before."""
    best = ("", 0)
    for row in seen["filters"]:
        if not same_name(row.filter, module.name) or row.stack != module.stack:
            continue
        for field, name in CALLBACKS.items():
            start = known(getattr(row, field))
            if start and start <= address and (not best[0] or address - start < best[1]):
                best = (name, address - start)
    return best


def _own_bugcheck(seen: SourceRecords, machine: Machine) -> Iterator[Anomaly]:
    name, says = _OWN_BUGCHECKS.get(known(machine.bugcheck) or 0, ("", ""))
    modules = [m for m in seen["modules"] if m.loaded and drivers.plain_name(m.name) == name]
    if name and modules:
        text = f"The bugcheck is one that {modules[0].name} makes itself: {says}."
        fields = ("bugcheck", "parameter1", "parameter2", "parameter3")
        yield broken("crash-by-dump-filter", text, machine, str(modules[0].name), *fields)


def _second(seen: SourceRecords) -> Iterator[Anomaly]:
    for row in seen["stages"]:
        value = known(row.progress)
        if value is None or not progress.decode(value).flags:
            continue
        told = progress.decode(value)
        if told.is_second_bugcheck:
            text = (
                f"The machine crashed a second time while it handled the crash, at stage "
                f"{told.stage:#x} ({told.meaning}): code that runs there, such as a filter's "
                "callbacks or the dump miniport, crashed itself."
            )
            rule = "crash-second-bugcheck"
        elif told.is_frozen:
            text = (
                f"BugCheckProgress {value:#x} stopped at stage {told.stage:#x} ({told.meaning}): "
                f"{', '.join(told.flags)}."
            )
            rule = "crash-path-failed"
        else:
            continue
        suspects = [
            m
            for m in seen["modules"]
            if m.loaded and m.stack == "crash" and m.role in (drivers.FILTER, drivers.MINIPORT)
        ]
        if suspects and told.is_second_bugcheck:
            text += f" In this stack: {', '.join(str(m.name) for m in suspects[:6])}."
        found = broken(rule, text, row, "crash path", "progress", stage=told.stage)
        more = tuple(e for m in suspects[:6] for e in evidence_of(m, "name"))
        yield found._replace(evidence=found.evidence + more)


def _sleep(seen: SourceRecords) -> Iterator[Anomaly]:
    """A hibernation stack in memory: the machine was on its way to or from sleep."""
    images = [m for m in seen["modules"] if m.loaded and m.stack == "hibernation"]
    if not images or seen.reported & PARTIAL:
        return
    names = {
        stack: [
            str(m.name)
            for m in seen["modules"]
            if m.loaded and m.stack == stack and m.role == drivers.FILTER
        ]
        for stack in ("hibernation", "crash")
    }
    text = (
        f"The hibernation stack is loaded ({', '.join(str(m.name) for m in images[:4])}), as it is "
        "while a machine hibernates, shuts down for a fast startup, or wakes up."
    )
    if names["hibernation"]:
        text += f" What it writes goes through {' and '.join(names['hibernation'][:3])}"
        through = " and ".join(names["crash"][:3])
        text += f"; a crash dump goes through {through}." if through else "."
    origin = images[0]
    found = broken("sleep-transition", text, origin, "hibernation stack", "name")
    others = tuple(e for m in images[1:8] for e in evidence_of(m, "name"))
    yield found._replace(evidence=found.evidence + others)
