"""Several sources side by side: what the checks over a whole case look at, and how they word it.

Invariant: a statement made here names each source it rests on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..absence import is_absent
from ..records import Anomaly, Cell, Crash, Evidence, Origin, Records, Setting
from .crashes import Index

#: machines have one to three; a hostile list must not make a finding per entry
MOST_FILTERS = 64
_MOST_LINES = 12
_MOST_NAMES = 6
_LONGEST = 1000


class CaseSeen:
    """All that was told, sorted for these checks."""

    def __init__(self, records: Records, anomalies: Sequence[Anomaly]) -> None:
        self.records, self.anomalies = records, anomalies
        self.crashes = records["crashes"]
        self.index = Index(self.crashes)
        used = [s for s in records["sources"] if not is_absent(s.kind)]
        self.kinds = {s.origin.source: str(s.kind) for s in used}
        self.registries = [p for p, kind in self.kinds.items() if kind.startswith("registry")]

    def anomalies_of(self, *rules: str) -> list[Anomaly]:
        """What sources and checks said under these rules."""
        return [a for rule in rules for a in self.anomalies if a.rule == rule]

    def crash(self, anomaly: Anomaly) -> int | None:
        """The crash it is of."""
        return self.index.of(anomaly.origin)

    def others(self, anomaly: Anomaly) -> list[Crash]:
        """What other sources tell of the same crash."""
        number = self.crash(anomaly)
        rows = [] if number is None else self.index.by_number[number]
        return [row for row in rows if row.origin.source != anomaly.origin.source]

    def settings(self, registry: str, name: str) -> list[Setting]:
        """Values of CrashControl: of that name, or the entries ``name[0]``, ``name[1]``..."""
        pattern = re.compile(rf"{name}(\[\d+\])?", re.IGNORECASE)
        return [
            s
            for s in self.records["settings"]
            if s.origin.source == registry
            and str(s.key).lower().endswith("crashcontrol")
            and pattern.fullmatch(str(s.name))
        ]

    def registered(self, registry: str) -> list[Setting]:
        """The entries of DumpFilters, in call order."""
        entries = [s for s in self.settings(registry, "DumpFilters") if str(s.name).endswith("]")]
        return entries[:MOST_FILTERS]

    def doubtful(self, registry: str) -> dict[str, str]:
        """Registered filters (lower case) whose service is missing or disabled."""
        words = {
            "registry-filter-service-missing": "which has no service key",
            "registry-filter-service-disabled": "whose service is disabled",
        }
        return {
            a.subject.lower(): words[a.rule]
            for a in self.anomalies_of(*words)
            if a.origin.source == registry
        }


def joined(
    rule: str, text: str, first: Origin, subject: str, *evidence: Evidence, **facts: Cell
) -> Anomaly:
    """A finding at its first source; each piece of evidence has its own source."""
    shown = evidence[:_MOST_LINES]
    if len(evidence) > _MOST_LINES:
        shown += (Evidence("", f"{len(evidence) - _MOST_LINES} more"),)
    return Anomaly(rule, text[:_LONGEST], first, subject[:100], shown, facts)


def fact_number(anomaly: Anomaly, fact: str) -> int | None:
    """A fact that is a number."""
    value = anomaly.facts.get(fact)
    return value if isinstance(value, int) else None


def leading(anomaly: Anomaly) -> Evidence:
    """What an anomaly rests on first, with its source."""
    if not anomaly.evidence:
        return Evidence("", anomaly.text, origin=anomaly.origin)
    first = anomaly.evidence[0]
    return first if first.origin is not None else first._replace(origin=anomaly.origin)


def in_words(origin: Origin, words: str) -> Evidence:
    """What a source says, where that is a sentence and not one value."""
    return Evidence("", words, origin=origin)


def setting(row: Setting) -> Evidence:
    """A configured value."""
    return Evidence(str(row.name)[:100], str(row.value)[:200], origin=row.origin)


def listed(names: Sequence[str]) -> str:
    """Names as "a, b and c"."""
    if len(names) > _MOST_NAMES:
        return ", ".join(names[:_MOST_NAMES]) + f" and {len(names) - _MOST_NAMES} more"
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)
