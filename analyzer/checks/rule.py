"""What a rule is, and how rules are shown to a reader.

Invariant: a rule is data (no code decides from its texts), and its id never changes its meaning.
Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

#: most severe first; the order of findings
SEVERITIES = ("error", "warning", "info")


class Rule(NamedTuple):
    """One thing that can be wrong, in words for a support engineer."""

    id: str
    severity: str  #: one of SEVERITIES
    title: str  #: one line, no full stop
    meaning: str  #: what was seen
    why: str  #: why it matters
    next_step: str  #: what to do next


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
