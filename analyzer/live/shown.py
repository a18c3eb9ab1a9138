"""Sections of the text report, for places that show a part of it.

Invariant: a section that is asked for and not there is said. Standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence


def sections(lines: Sequence[str], titles: Sequence[str]) -> list[str]:
    """The sections of a report with these titles; all of it when there are none."""
    if not titles:
        return list(lines)
    kept: list[str] = []
    taking = False
    for line in lines:
        if line and not line[0].isspace():
            taking = line.rstrip(":") in titles
        if taking:
            kept.append(line)
    return kept or [f"nothing is known of: {', '.join(titles)}"]
