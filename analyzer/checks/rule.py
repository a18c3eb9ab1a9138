"""What a rule is, and how rules are shown to a reader.

Invariant: a rule is data (no code decides from its texts), and its id never changes its meaning.
Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ..records import Finding

#: most severe first; the order of findings
SEVERITIES = ("error", "warning", "info")
#: what can make a command fail: a severity and what is above it, or expectations alone
FAIL_ON = ("error", "warning", "expectation", "never")


class Rule(NamedTuple):
    """One thing that can be wrong, in words for a support engineer."""

    id: str
    severity: str  #: one of SEVERITIES
    title: str  #: one line, no full stop
    meaning: str  #: what was seen
    why: str  #: why it matters
    next_step: str  #: what to do next


def fails(finding: Finding, fail_on: str) -> bool:
    """True for a finding that makes a command fail; an expectation that is not met is an error."""
    if fail_on == "never":
        return False
    if fail_on == "expectation":
        return finding.rule == "expectation-failed" and finding.severity == "error"
    return finding.severity in SEVERITIES[: SEVERITIES.index(fail_on) + 1]


def table(rules: Iterable[Rule]) -> dict[str, Rule]:
    """Rules by id."""
    return {rule.id: rule for rule in rules}


def explanation(rule: Rule) -> str:
    """One rule as plain text."""
    return (
        f"{rule.id} ({rule.severity}): {rule.title}\n\n"
        f"What it means: {rule.meaning}\n\n"
        f"Why it matters: {rule.why}\n\n"
        f"What to do next: {rule.next_step}\n"
    )


def page(rules: dict[str, Rule]) -> str:
    """All rules as one Markdown page, by severity, then by id."""
    lines = [
        "# Rules",
        "",
        "Every finding of dumpstart has one of these ids.",
        "`dumpstart explain RULE` prints the same text.",
        "This page is written from the rules; see `tests/test_checks_rules.py`.",
    ]
    for severity in SEVERITIES:
        lines += ["", f"## {severity}"]
        for rule in sorted(r for r in rules.values() if r.severity == severity):
            lines += [
                "",
                f"### {rule.id}",
                "",
                f"{rule.title}.",
                "",
                f"- What it means: {rule.meaning}",
                f"- Why it matters: {rule.why}",
                f"- What to do next: {rule.next_step}",
            ]
    return "\n".join(lines) + "\n"
