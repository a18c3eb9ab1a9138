"""What the answer of a case leaves open, and what to collect or to switch on: each obtainable.

Invariant: what was given is never said to be missing; where it does not show something, that is
said instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .. import formatting as fmt
from ..absence import is_absent
from ..checks.crashes import EVENT_LOGS
from ..checks.rules_case import CONTROL
from ..checks.rules_registry import ENABLE_LOG
from ..records import Callback, Records

LOG, DUMP = "dumpstack.log", "kernel dump"
REGISTRIES = ("registry hive", "registry export")
MINIDUMP = 4  #: type of a dump


def _kinds(records: Records) -> set[Any]:
    return {s.kind for s in records["sources"] if not is_absent(s.kind)}


def unknown(records: Records) -> Iterator[str]:
    """What the sources that were not given would tell."""
    kinds = _kinds(records)
    open_points = []
    if not _has_nodes(records):
        why = "no memory dump"
        if DUMP in kinds:
            why = "a minidump does not hold them"
            if not _are_minidumps(records):
                why = "the dump given does not show them"
        open_points.append(f"the filters' own state and FILTER_EXTENSION ({why})")
    if not any(_is_timed(c) for c in records["callbacks"] if c.callback == "Dump_Start"):
        open_points.append("how long a single Dump_Start took (only a debugger or trace tells)")
    if LOG not in kinds:
        open_points.append("how far and how fast the dump was written (no DumpStack.log)")
    if not kinds.intersection(EVENT_LOGS):
        open_points.append("what Windows logged after the restart (no event log)")
    if not kinds.intersection(REGISTRIES):
        open_points.append("how dumps are configured (no registry)")
    if open_points:
        yield f"Not known: {fmt.listed(open_points)}."


def _has_nodes(records: Records) -> bool:
    return any(not is_absent(f.node) for f in records["filters"])


def _of_dumps(records: Records) -> list[Any]:
    dumps = {s.path for s in records["sources"] if s.kind == DUMP}
    return [m for m in records["machine"] if m.origin.source in dumps]


def _is_timed(call: Callback) -> bool:
    """True when the duration of a call, or an interval for it, is known."""
    bounds = (call.duration_low_ns, call.duration_high_ns)
    return not is_absent(call.duration_ns) or not any(map(is_absent, bounds))


def next_steps(records: Records) -> Iterator[str]:
    """What to collect or to switch on before the next crash, each with its command."""
    kinds = _kinds(records)
    rules = {f.rule for f in records["findings"]}
    switch, collect = [], []
    if "registry-dump-disabled" in rules or _asks_for_small(records):
        larger = "dumps" if "registry-dump-disabled" in rules else "larger dumps"
        switch.append(f"{larger}: reg add {CONTROL} /v CrashDumpEnabled /t REG_DWORD /d 7 /f")
    if "registry-log-disabled" in rules or (LOG not in kinds and not kinds & set(REGISTRIES)):
        switch.append(f"the dump log: {ENABLE_LOG}")
    if DUMP not in kinds and records["crashes"]:
        collect.append(r"the dump, if there is one: C:\Windows\MEMORY.DMP, C:\Windows\Minidump")
    elif DUMP in kinds and not _has_nodes(records) and _are_minidumps(records):
        collect.append(r"the memory dump, if there is one: C:\Windows\MEMORY.DMP")
    if LOG not in kinds and records["crashes"] and "registry-log-disabled" not in rules:
        collect.append(
            "the hidden DumpStack.log in the root of the page file's drive: "
            r"xcopy /h C:\DumpStack.log %USERPROFILE%\Desktop"
        )
    if not kinds.intersection(EVENT_LOGS):
        collect.append("the event log: wevtutil epl System System.evtx")
    if not kinds.intersection(REGISTRIES):
        collect.append(f"the settings: reg export {CONTROL} CrashControl.reg")
    if switch:
        # no full stop: it would be copied with the command
        yield f"Before the next crash switch on {'; and '.join(switch)}"
    if collect:
        yield f"To collect: {'; '.join(collect)}"
    if not switch and not collect and _has_nodes(records) and LOG in kinds:
        yield "Nothing that files can tell is missing; only a live session would tell more."


def _are_minidumps(records: Records) -> bool:
    return all(m.dump_type == MINIDUMP for m in _of_dumps(records))


def _asks_for_small(records: Records) -> bool:
    return any(
        str(s.name).lower() == "crashdumpenabled" and str(s.value) == "3"
        for s in records["settings"]
    )
