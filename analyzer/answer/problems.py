"""What is wrong, most telling first.

Invariant: every error and warning is in one of these; none is left out, only counted with others
of its rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .. import formatting as fmt
from ..absence import is_absent
from ..checks import RULES
from ..checks.culprit import Culprit
from ..checks.rule import SEVERITIES
from ..checks.rules_gate import FAILED as EXPECTATION
from ..records import Finding, Records
from .model import Problem

_SERIOUS = SEVERITIES[:2]
_LONG = 1000
_SEVERAL = "case-several-crashes"  #: the list of the crashes says it
#: rule -> rules that see the same fact with less; they are told with it where both were broken
_SAME = {
    "case-driver-stuck": ("log-driver-stuck", "log-unfinished", "event-dump-failed"),
    "log-driver-stuck": ("log-unfinished",),
    "case-write-stalled": ("log-write-stalled", "log-unfinished", "event-dump-failed"),
    "log-write-stalled": ("log-unfinished",),
    "case-filter-file-missing": (
        "event-dump-driver-load-failed", "registry-filter-service-missing",
        "registry-filter-service-disabled",
    ),
    "case-dump-too-small": ("log-dump-type-reduced", "dump-space-insufficient",
                            "registry-page-file-too-small"),
    "case-filter-disabled": ("filter-disabled",),
    "case-leftover-filter": ("registry-filter-service-missing", "registry-filter-service-disabled"),
    "case-dump-disabled": ("registry-dump-disabled",),
}  # fmt: skip


def by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """Most severe first, else in the order they were made."""
    order = {severity: place for place, severity in enumerate(SEVERITIES)}
    return sorted(findings, key=lambda f: order.get(str(f.severity), len(order)))


def problems(
    records: Records, culprits: list[Culprit], names: Mapping[str, str]
) -> tuple[Problem, ...]:
    """Errors and warnings by rule: what was asked for, what is to blame, then by severity."""
    by_rule: dict[str, list[Finding]] = {}
    for finding in records["findings"]:
        if finding.severity in _SERIOUS:
            by_rule.setdefault(str(finding.rule), []).append(finding)
    blamed = [str(c.finding.rule) for c in culprits]

    def order(rule: str) -> tuple[int, int]:
        if rule == EXPECTATION:  # somebody asked for just this
            return (-1, 0)
        severity = str(by_rule[rule][0].severity)
        place = blamed.index(rule) if rule in blamed else len(blamed)
        return (0 if place < len(blamed) else 1 + SEVERITIES.index(severity), place)

    also: dict[str, list[str]] = {}
    for rule, others in _SAME.items():
        if rule in by_rule and rule not in {r for rs in also.values() for r in rs}:
            also[rule] = [r for r in others if r in by_rule and r not in blamed[:1]]
    folded = {r for rules in also.values() for r in rules}
    found: list[Problem] = []
    for rule in sorted((r for r in by_rule if r not in folded), key=order):
        group = by_rule[rule]
        if rule == EXPECTATION:  # each asks for something else
            found += [_problem(f, 1, False, (), names) for f in group]
            continue
        chosen = next((c for c in culprits if c.finding.rule == rule), None)
        first = group[0] if chosen is None else chosen.finding
        titles = tuple(RULES[r].title for r in also.get(rule, ()) if r in RULES)
        found.append(_problem(first, len(group), chosen is not None, titles, names))
    return tuple(found)


def notes(records: Records, problems: tuple[Problem, ...]) -> tuple[str, ...]:
    """The titles of what is no fault, each once."""
    named = {problem.rule for problem in problems}
    found: dict[str, None] = {}
    for f in records["findings"]:
        known = None if f.facts.get("known_expired") else f.facts.get("known_reason")
        if f.severity in _SERIOUS or (f.rule in (*named, _SEVERAL) and known is None):
            continue
        title = _title(f)
        if known is not None:
            about = fmt.clean(f.facts["known_reason"], 200).rstrip(".")
            title += f" (known until {f.facts['known_until']}: {about})"
        found[title] = None
    return tuple(found)


def _title(f: Finding) -> str:
    asked = f.facts.get("expectation")
    if asked is not None:
        return f"Expected {fmt.clean(asked, 100)}: {f.facts['outcome']}"
    return RULES[str(f.rule)].title if f.rule in RULES else fmt.field(f, "rule")


def _problem(
    f: Finding, count: int, is_culprit: bool, also: tuple[str, ...], names: Mapping[str, str]
) -> Problem:
    return Problem(
        severity=fmt.field(f, "severity"),
        rule=fmt.field(f, "rule"),
        title=_title(f),
        subject="" if is_absent(f.subject) else fmt.clean(f.subject, 80),
        text=fmt.clean(f.text, _LONG),
        advice="" if is_absent(f.advice) else fmt.clean(f.advice, _LONG),
        source=names.get(f.origin.source, "") if len(names) > 1 else "",
        findings=count,
        also=also,
        is_culprit=is_culprit,
    )
