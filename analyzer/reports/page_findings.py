"""The findings of the HTML page, with links from their evidence to the cells it was read from.

Invariant: a link leads to a row or a cell that is on the page.
"""

from __future__ import annotations

from .. import formatting as fmt
from ..absence import is_absent
from ..checks import RULES
from ..files import called
from ..formatting import clean, field
from ..records import Finding
from ..tables import evidence_lines
from .evidence_links import Cell, Marks, at_place


def row_id(table: str, row: int) -> str:
    """The id of a row on the page."""
    return f"r-{table}-{row}"


def cell_id(cell: Cell) -> str:
    """The id of a cell that evidence leads to; that of its row where no field is known."""
    return row_id(cell.table, cell.row) + (f"-{cell.field}" if cell.field else "")


def finding_of(
    finding: Finding, number: int, marks: Marks, several: bool, ids: set[str]
) -> dict[str, object]:
    """What the page shows of a finding; ``several``: name its source; ``ids``: on the page."""
    rule = RULES.get(str(finding.rule))
    lines = [
        {"text": clean(line), "link": "" if cell is None else _on_page(cell_id(cell), ids)}
        for cell, line in zip(marks.evidence[number], evidence_lines(finding))
    ]
    own = at_place(finding.origin, marks.places)
    return {
        "id": f"f-{number}",
        "severity": field(finding, "severity"),
        "rule": field(finding, "rule"),
        "title": "" if rule is None else rule.title,
        "subject": fmt.fields(finding, "subject"),
        "text": clean(finding.text, 2000),
        "advice": "" if is_absent(finding.advice) else clean(finding.advice, 2000),
        "meaning": "" if rule is None else rule.meaning,
        "why": "" if rule is None else rule.why,
        "evidence": lines,
        "source": clean(called(finding.origin.source), 60) if several else "",
        "link": _on_page(row_id(own[0][0], own[0][1]), ids) if own else "",
    }


def _on_page(link: str, ids: set[str]) -> str:
    """A link to what is on the page: the cell, else its row, else nowhere."""
    rows = (link, "-".join(link.split("-")[:3]))
    return next((one for one in rows if one in ids), "")
