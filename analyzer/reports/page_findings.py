"""The findings of the HTML page, with links from their evidence to the rows it was read from.

Invariant: a link leads to a row that is on the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import formatting as fmt
from ..absence import is_absent
from ..checks import RULES
from ..files import called
from ..formatting import clean, field
from ..records import Evidence, Records
from ..tables import evidence_lines

MOST_ROWS = 1000  # of a table; 20,000 rows of HTML take megabytes
ELSEWHERE = ("sources", "findings")  # tables that have their own section


def row_id(table: str, row: int) -> str:
    """The id of a row on the page."""
    return f"r-{table}-{row}"


def rows_by_place(records: Records) -> dict[Any, list[tuple[str, int, Any]]]:
    """(source, address or file offset) -> the rows that were read there."""
    found: dict[Any, list[tuple[str, int, Any]]] = {}
    for table, rows in records.tables.items():
        if table in ELSEWHERE or not isinstance(rows, Sequence):
            continue
        for row, record in enumerate(rows[:MOST_ROWS]):
            origin = record.origin
            for kind, value in (("at", origin.address), ("file", origin.file_offset)):
                if not is_absent(value):
                    found.setdefault((origin.source, kind, value), []).append((table, row, record))
    return found


def finding_of(finding: Any, places: dict[Any, Any], several: bool) -> dict[str, Any]:
    """What the page shows of a finding; ``several``: name its source."""
    source = finding.origin.source
    rule = RULES.get(str(finding.rule))
    lines = [
        {"text": clean(line), "link": _target(piece, places)}
        for piece, line in zip(finding.evidence or (), evidence_lines(finding))
    ]
    own = [("at", finding.origin.address), ("file", finding.origin.file_offset)]
    links = [places.get((source, kind, value)) for kind, value in own if not is_absent(value)]
    first = next((found for found in links if found), None)
    return {
        "severity": field(finding, "severity"),
        "rule": field(finding, "rule"),
        "title": "" if rule is None else rule.title,
        "subject": fmt.fields(finding, "subject"),
        "text": clean(finding.text, 2000),
        "advice": "" if is_absent(finding.advice) else clean(finding.advice, 2000),
        "meaning": "" if rule is None else rule.meaning,
        "why": "" if rule is None else rule.why,
        "evidence": lines,
        "source": clean(called(source), 60) if several else "",
        "link": row_id(first[0][0], first[0][1]) if first else "",
    }


def _target(piece: Evidence, places: dict[Any, Any]) -> str:
    """The id of the row a piece of evidence was read from, best one that has the named field."""
    found: list[tuple[str, int, Any]] = []
    origin = piece.origin
    if origin is not None:
        found = places.get((origin.source, "at", origin.address), [])
        found = found or places.get((origin.source, "file", origin.file_offset), [])
    for table, row, record in found:
        if piece.label in record._fields or getattr(record, "callback", None) == piece.label:
            return row_id(table, row)
    return row_id(*found[0][:2]) if found else ""
