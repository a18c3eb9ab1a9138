"""What a rule is: the fixed words that belong to a rule id.

Invariant: a rule holds no logic and no numbers of one case; those are in the Anomaly that cites it.
"""

from __future__ import annotations

from typing import NamedTuple


class Rule(NamedTuple):
    """One rule, as ``dumpstart explain`` shows it."""

    id: str
    severity: str  #: error, warning or info
    title: str
    meaning: str
    why: str
    next_step: str
