"""Which finding most probably explains a crash without a good dump.

Invariant: the culprit is a finding that was made, never a guess of this module; a finding of the
start of another crash, or of long ago, explains nothing. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..records import Crash, Finding, Records
from .crash_loading import LOADING, near
from .crashes import FAILED, SMALLER, WRITTEN, Index

_CAUSE = "Most probable cause"
_WRONG = "One thing that went wrong"  #: where it did not cost the dump
#: rule -> what it is called; the first rule that was broken is the culprit
_RANKED: dict[str, str] = {
    "host-ended-guest": "Why there is no dump",
    "registry-simulate-error": "A simulated failure is configured",
    "callback-executing": "Where it stands",
    "crash-in-dump-filter": "Where it crashed",
    "dump-in-plain-text": "What is most serious",
    "case-filter-file-missing": _CAUSE,
    "case-driver-stuck": _CAUSE,
    "case-write-stalled": _CAUSE,
    "case-dump-too-small": _CAUSE,
    "case-filter-disabled": _WRONG,
    "case-dump-disabled": "No dump was asked for",
    "log-driver-stuck": _CAUSE,
    "log-driver-faulted": _CAUSE,
    "log-write-stalled": _CAUSE,
    "filter-callback-failed": _WRONG,
    "filter-disabled": _WRONG,
    "event-dump-driver-load-failed": _CAUSE,
    "case-outcome-contradictory": "The sources contradict each other",
    "event-dump-outcome-contradictory": "The events contradict each other",
    "event-dump-callback-exception": _CAUSE,
    "event-dump-device-gone": _CAUSE,
    "writer-status-failed": _CAUSE,
    "dump-space-insufficient": _CAUSE,
    "log-failure-line": "A line to start with",
    "case-progress": "No source names a culprit, only the step",
    "event-dump-failed": "No source names a culprit, only the failure",
    "log-unfinished": "No source names a culprit, only the last step",
    "event-dump-init-failed": _CAUSE,
    "case-hibernation-fallback": "Not a crash",
    "case-dump-type-smaller": "What is odd",
    "log-write-slow": "What is slow",
    "log-start-slow": "What is slow",
    "case-leftover-filter": "What should be cleared up",
    "case-filter-not-loaded": "What is odd",
    "case-filter-not-registered": "What is odd",
    "event-power-button": "Probably why there is no dump",
    "event-resume-failed": _WRONG,
    "registry-dump-disabled": "What should be switched on",
    "registry-page-file-too-small": "What should be enlarged",
}
#: these lead even where a dump was written
LEADING = ("crash-in-dump-filter", "dump-in-plain-text")
#: of these the finding may lie before the crash it explains
_OF_THE_MACHINE = (
    *LOADING, "case-hibernation-fallback", "case-leftover-filter", "case-filter-not-loaded",
    "case-filter-not-registered", "registry-", "case-dump-disabled",
)  # fmt: skip


class Culprit(NamedTuple):
    """The finding that explains most, and how it is called."""

    finding: Finding
    role: str  #: "Most probable cause", ...


def of_crashes(records: Records, index: Index) -> list[Culprit | None]:
    """The culprit of each crash, the newest first."""
    numbers = index.numbers()
    findings: dict[int, list[Finding]] = {number: [] for number in numbers}
    for finding in records["findings"]:
        number = index.of(finding.origin)
        if number is None and len(numbers) == 1 and is_of_machine(finding):
            (number,) = numbers  # what is of no crash of its own may be of the only one
        if number in findings:
            findings[number].append(finding)
    return [
        _of_crash(records, findings[number], index.by_number[number])
        for number in reversed(numbers)
    ]


def _of_crash(records: Records, findings: list[Finding], rows: list[Crash]) -> Culprit | None:
    loading = near(records, findings, rows)
    outcomes = {row.outcome for row in rows}
    is_well = FAILED not in outcomes and not outcomes.isdisjoint((WRITTEN, SMALLER))
    chosen = [f for f in findings if f.rule not in LOADING] + ([] if is_well else loading)
    return first(chosen, is_well and SMALLER not in outcomes)


def of_machine(findings: Iterable[Finding]) -> Culprit | None:
    """The culprit where there is no crash, or more than one."""
    return first([f for f in findings if is_of_machine(f)], False)


def first(findings: Sequence[Finding], is_whole: bool) -> Culprit | None:
    """The highest ranked finding; ``is_whole``: the dump is whole, so nothing cost it."""
    by_rule: dict[str, Finding] = {}
    for finding in findings:
        by_rule.setdefault(str(finding.rule), finding)
    rule = next((rule for rule in _RANKED if rule in by_rule), None)
    if rule is None:
        return None
    role = _WRONG if is_whole and _RANKED[rule] == _CAUSE else _RANKED[rule]
    return Culprit(by_rule[rule], role)


def is_of_machine(finding: Finding) -> bool:
    """True for a finding of the machine, not of one crash."""
    return str(finding.rule).startswith(_OF_THE_MACHINE)
