"""Turns records into findings.

Invariant: a finding says what a source or a check saw, with the severity of its rule; nothing a
source reported is dropped, not even under an id no rule has. The rules are data
(``rules_*.py``), the checks yield :class:`~analyzer.records.Anomaly` records as the sources do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Callable

from ..errors import UsageError
from ..records import Anomaly, Finding, Records
from . import (
    crash_place,
    crash_stack,
    dry_runs,
    dump_extensions,
    dump_filters,
    encryption,
    executing,
    machine,
    ranges,
    rules_case,
    rules_dryrun,
    rules_dump,
    rules_etw,
    rules_fleet,
    rules_gate,
    rules_live,
    rules_logs,
    rules_snapshots,
    rules_windbg,
    storage,
)
from .evidence import SourceRecords, by_source
from .rule import SEVERITIES, Rule, explanation, page

__all__ = [
    "CHECKS", "RULES", "SEVERITIES", "Rule", "explain", "finding", "rules_page", "run",
    "sorted_findings",
]  # fmt: skip

#: every rule by its id
RULES: dict[str, Rule] = {
    **rules_dump.RULES,
    **rules_logs.RULES,
    **rules_windbg.RULES,
    **rules_etw.RULES,
    **rules_live.RULES,
    **rules_dryrun.RULES,
    **rules_case.RULES,
    **rules_fleet.RULES,
    **rules_gate.RULES,
    **rules_snapshots.RULES,
}

#: each looks at the records of one source
CHECKS: tuple[Callable[[SourceRecords], Iterable[Anomaly]], ...] = (
    encryption.check,
    crash_place.check,
    crash_stack.check,
    machine.check,
    dump_filters.check,
    dump_extensions.check,
    ranges.check,
    executing.check,
    storage.check,
    dry_runs.check,
)
_UNKNOWN = "internal-unknown-rule"


def run(records: Records) -> list[Finding]:
    """What is wrong, most severe first.

    Within a severity, what several sources say together leads, then the sources' own reports.
    """
    anomalies = list(records.anomalies)
    reported = {
        (one.rule, one.origin.source, subject)
        for one in anomalies
        for subject in (one.subject, machine.WHOLE_DUMP)
    }
    for seen in by_source(records):
        for check in CHECKS:  # but what the source itself reported
            anomalies += [
                one for one in check(seen)
                if (one.rule, one.origin.source, one.subject) not in reported
            ]  # fmt: skip
    anomalies += dry_runs.across(records)
    if len(records["sources"]) > 1:
        from . import case, snapshots  # a lone file starts faster without them

        anomalies = [*case.check(records, anomalies), *snapshots.check(records), *anomalies]
    return sorted_findings(map(finding, anomalies))


def sorted_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Most severe first, else in the order they were made."""
    return sorted(findings, key=lambda one: SEVERITIES.index(str(one.severity)))


def explain(rule_id: str) -> str:
    """What a rule means, why it matters and what to do next, as plain text."""
    if rule_id not in RULES:
        from difflib import get_close_matches

        close = get_close_matches(rule_id, RULES, n=5, cutoff=0.5)
        hint = f"did you mean {', '.join(close)}?" if close else "no rule has a similar name"
        raise UsageError(f"there is no rule {rule_id!r}: {hint}")
    return explanation(RULES[rule_id])


def rules_page() -> str:
    """All rules as the Markdown page ``docs/rules.md``."""
    return page(RULES)


def finding(anomaly: Anomaly) -> Finding:
    """What was seen under its rule."""
    text = anomaly.text
    rule = RULES.get(anomaly.rule)
    if rule is None:
        rule, text = RULES[_UNKNOWN], f"{anomaly.rule}: {text}"
    return Finding(
        rule.id,
        rule.severity,
        anomaly.subject or None,
        text,
        rule.next_step,
        anomaly.evidence,
        anomaly.facts,
        anomaly.origin,
    )
