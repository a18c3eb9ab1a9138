"""How many of the rules could be judged with what was given, and what the others need.

Invariant: a rule counts as passed only when a source it can be judged by was read and it was not
broken. Standard library only.
"""

from __future__ import annotations

from typing import NamedTuple

from ..absence import is_absent
from ..records import Records
from .crashes import EVENT_LOGS
from .rule import Rule

#: beginning of a rule's id -> what it is judged by, the longest that fits counts
_NEEDS = {
    "log-": "a DumpStack.log",
    "log-dt-": "a capture or debugger log",
    "log-no-session": "a capture or debugger log",
    "event-": "an event log",
    "registry-": "the registry",
    "etw-": "an ETW trace",
    "capture-": "a capture or debugger log",
    "callback-": "a capture or debugger log",
    "callback-outside-": "a kernel dump",
    "callback-executing": "a kernel dump",
    "duration-": "a capture or debugger log",
    "extension-changed-": "a capture or debugger log",
    "case-": "several sources of one crash",
    "fleet-": "a baseline",
    "dry-run-": "a dry run",
    "snapshot-": "snapshots of a virtual machine",
    "input-": "",
    "expectation-": "",
    "known-": "",
    "internal-": "",
}
_DUMP = "a kernel dump"
_KINDS = {
    "dumpstack.log": "a DumpStack.log",
    "registry hive": "the registry",
    "registry export": "the registry",
    "etl": "an ETW trace",
    "kernel dump": _DUMP,
    "memory snapshot": _DUMP,
}


class Coverage(NamedTuple):
    """Counts of rules."""

    passed: int
    broken: int
    missing: dict[str, int]  #: what would be needed -> rules that need it


def coverage(records: Records, rules: dict[str, Rule]) -> Coverage:
    """What was judged, and what was not for want of a source."""
    given = _given(records)
    broken = {str(f.rule) for f in records["findings"]}
    passed, missing = 0, dict[str, int]()
    for rule in rules:
        need = _need(rule)
        if not need or rule in broken:
            continue
        if need in given:
            passed += 1
        else:
            missing[need] = missing.get(need, 0) + 1
    return Coverage(passed, len(broken & set(rules)), missing)


def _given(records: Records) -> set[str]:
    kinds = [str(s.kind) for s in records["sources"] if not is_absent(s.kind)]
    given = {_KINDS[kind] for kind in kinds if kind in _KINDS}
    if any(kind in EVENT_LOGS or kind.startswith("event log") for kind in kinds):
        given.add("an event log")
    if any(kind.startswith(("capture", "WinDbg")) for kind in kinds):
        given.add("a capture or debugger log")
    if len(kinds) > 1:
        given.add("several sources of one crash")
    if any(str(f.rule).startswith("fleet-") for f in records["findings"]):
        given.add("a baseline")
    if records.tables.get("dry_runs"):
        given.add("a dry run")
    return given


def _need(rule: str) -> str:
    fits = [start for start in _NEEDS if rule.startswith(start)]
    return _NEEDS[max(fits, key=len)] if fits else _DUMP
