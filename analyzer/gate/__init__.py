"""What a pipeline expects of a case, and what it already knows of it.

Invariant: decided from records and findings, never from texts; no finding is dropped, a known one
says what its severity was and by which reason it was lowered.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import NamedTuple

from ..checks import finding, sorted_findings
from ..files import listed
from ..records import Records
from . import expected, known


class Gate(NamedTuple):
    """What is asked of a case."""

    expected: tuple[expected.Expectation, ...] = ()
    known: tuple[known.Known, ...] = ()

    def judge(self, records: Records) -> None:
        """Adds to the findings what is met and what is not, and lowers those that are known."""
        if not self.expected and not self.known:
            return
        made = [finding(anomaly) for anomaly in expected.check(records, self.expected)]
        findings = [*made, *records["findings"]]
        today = datetime.now(timezone.utc).date()
        findings, unused = known.lowered(findings, self.known, today)
        records.tables["findings"] = sorted_findings([*findings, *map(finding, unused)])


def of(expect: str | Sequence[str] = (), files: str | Sequence[str] = ()) -> Gate:
    """The gate that options ask for; UsageError or InputError where they are not understood."""
    found = [one for text in listed(expect) for one in expected.parse(text)]
    return Gate(tuple(found), tuple(k for path in listed(files) for k in known.load(path)))
