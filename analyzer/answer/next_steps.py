"""What to do next and what to collect, each with its command; what this input cannot tell at all.

Invariant: what was given is never asked for again. A command here changes nothing but what its
sentence says it switches on.
"""

from __future__ import annotations

from collections.abc import Iterator

from .. import formatting as fmt
from ..absence import is_absent
from ..checks.crashes import EVENT_LOGS, SMALLER, WRITTEN
from ..names.crash_control import is_whole
from ..records import Callback, Records
from .model import Step

LOG, DUMP, SNAPSHOT = "dumpstack.log", "kernel dump", "memory snapshot"
REGISTRIES = ("registry hive", "registry export")
MINIDUMP = 4  #: type of a dump
#: the page that says which source tells what
PAGE = "docs/what-tells-what.md"
_ELEVATED = " (in an elevated PowerShell)"
_WATCHED = ("capture", "WinDbg log", "debugger session")


def steps(records: Records) -> Iterator[Step]:
    """What to switch on before the next crash, and what to collect now."""
    kinds = kinds_of(records)
    rules = {f.rule for f in records["findings"]}
    if kinds <= {*_WATCHED, "etl", SNAPSHOT}:  # a laboratory's, not those of a machine that failed
        return
    if "registry-dump-disabled" in rules or _asks_for_small(records):
        larger = "dumps" if "registry-dump-disabled" in rules else "larger dumps"
        command = _set("CrashDumpEnabled", 7)
        yield Step(f"Before the next crash, switch on {larger}{_ELEVATED}", command)
    if "registry-log-disabled" in rules or (LOG not in kinds and not kinds & set(REGISTRIES)):
        command = "\n".join((_set("EnableLogFile", 1), _set("DumpLogLevel", 1)))
        yield Step(f"Before the next crash, switch on DumpStack.log{_ELEVATED}", command)
    wanted = []
    if DUMP not in kinds and records["crashes"]:
        is_written = any(row.outcome in (WRITTEN, SMALLER) for row in records["crashes"])
        is_there = "it is still there" if is_written else "there is one"
        wanted.append(f"the dump (if {is_there})")
    elif DUMP in kinds and not has_nodes(records) and _are_minidumps(records):
        wanted.append("MEMORY.DMP (if there is one)")
    if LOG not in kinds and records["crashes"] and "registry-log-disabled" not in rules:
        wanted.append("DumpStack.log")
    if not kinds.intersection(EVENT_LOGS) or "event-log-other-channel" in rules:
        wanted.append("the System event log")
    if not kinds & set(REGISTRIES) or not is_whole(str(s.name) for s in records["settings"]):
        wanted.append("the CrashControl settings")
    if wanted:
        crashed = " that crashed" if records["crashes"] else ""
        text = f"On the machine{crashed}, collect {fmt.listed(wanted)}"
        yield Step(text, "dumpstart collect --output collect.cmd")


def _set(name: str, value: int) -> str:
    """Sets a value of CrashControl; shorter than reg.exe, which does not fit on a line."""
    return rf"sp HKLM:\SYSTEM\CurrentControlSet\Control\CrashControl {name} {value}"


def unknown(records: Records) -> str:
    """What cannot be known from this input, in one line, with where it says how to know it."""
    kinds = kinds_of(records)
    points = []
    starts = [c for c in records["callbacks"] if c.callback == "Dump_Start"]
    tells_status = any(not is_absent(c.status) for c in starts)
    if not tells_status and not any(map(is_timed, starts)):
        points += ["what Dump_Start returned", "how long it took"]
    elif not any(map(is_timed, starts)):
        points.append("how long Dump_Start took")
    elif not tells_status:
        points.append("what Dump_Start returned")
    if not kinds <= {*_WATCHED, "etl"}:
        points += _unread(records)
    elif not any(row.outcome for row in records["crashes"]):
        points.append("whether a dump was written")
    return f"This input does not show {fmt.listed(points, 'or')}; see {PAGE}." if points else ""


def _unread(records: Records) -> Iterator[str]:
    """What a filter's node and extension would tell, where neither was read."""
    if not records["modules"] and not records["filters"]:
        yield "which filters were loaded"
    if not any(not is_absent(f.is_disabled) for f in records["filters"]):
        yield "the state of each filter"
    if not any(e.is_reconstructed is not True for e in records["extensions"]):
        yield "the FILTER_EXTENSION that it was given"


def kinds_of(records: Records) -> set[str]:
    """The kinds of the sources that could be used."""
    return {s.kind for s in records["sources"] if isinstance(s.kind, str)}


def has_nodes(records: Records) -> bool:
    """True when a filter's own node was read."""
    return any(not is_absent(f.node) for f in records["filters"])


def is_timed(call: Callback) -> bool:
    """True when the duration of a call, or an interval for it, is known."""
    bounds = (call.duration_low_ns, call.duration_high_ns)
    return not is_absent(call.duration_ns) or not any(map(is_absent, bounds))


def _are_minidumps(records: Records) -> bool:
    dumps = {s.path for s in records["sources"] if s.kind == DUMP}
    return all(m.dump_type == MINIDUMP for m in records["machine"] if m.origin.source in dumps)


def _asks_for_small(records: Records) -> bool:
    return any(
        str(s.name).lower() == "crashdumpenabled" and str(s.value) == "3"
        for s in records["settings"]
    )
