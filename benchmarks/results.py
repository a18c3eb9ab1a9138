"""What the benchmarks share: one shape of result, and the command line of each part.

Invariant: a ratio says how many times better than the peer we are, whatever the unit, and both were
measured in the same run. A peer that is not there has no value, and the row says so.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Callable, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "sample-traces")]

HEADS = ("what", "dumpstart", "peer", "its value", "ratio", "goal", "met")


class Row(NamedTuple):
    """One line of a table."""

    what: str
    ours: float
    unit: str  #: s, ms, MiB: less is better; .../s: more is
    peer: str = ""
    theirs: float | None = None  #: None with a peer: it is not there
    goal: str = "none"
    met: bool | None = None  #: None: no goal, or the peer is not there

    @property
    def ratio(self) -> float | None:
        """How many times better than the peer we are."""
        if not self.ours or not self.theirs:
            return None
        return self.ours / self.theirs if self.unit.endswith("/s") else self.theirs / self.ours


def compare(
    what: str, ours: float, unit: str, peer: str, theirs: float | None, least: float = 0
) -> Row:
    """A row with a peer; the goal is the least ratio, if any."""
    row = Row(what, ours, unit, peer, theirs)
    if not least:
        return row
    row = row._replace(goal=f"at least {least:g}x")
    return row if row.ratio is None else row._replace(met=row.ratio >= least)


def limit(what: str, ours: float, unit: str, most: float, why: str = "") -> Row:
    """A row without a peer that has a bound; ``why`` says where the bound comes from."""
    goal = f"at most {_number(most)} {unit}" + (f" ({why})" if why else "") if most else "0"
    return Row(what, ours, unit, goal=goal, met=ours <= most)


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def table(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| " + " | ".join(HEADS) + " |", "|---" * len(HEADS) + "|"]
    for row in rows:
        theirs = "" if row.theirs is None else f"{_number(row.theirs)} {row.unit}"
        ratio = "" if row.ratio is None else _number(row.ratio)
        cells = [
            row.what,
            f"{_number(row.ours)} {row.unit}".rstrip(),
            row.peer,
            "not measured" if row.peer and row.theirs is None else theirs,
            ratio,
            row.goal,
            {True: "yes", False: "NO", None: ""}[row.met],
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def samples() -> Path:
    """The folder of real files that are not part of the project; it may not be there."""
    return Path(os.environ.get("DUMPSTART_SHARED") or ROOT.parent / "shared" / "samples")


class Part(NamedTuple):
    """What one part found."""

    rows: list[Row]
    notes: str  #: a Markdown list: what was left out, what the numbers rest on
    figures: dict[str, Any] = {}  #: what else another page needs


def run(measure: Callable[[Path, bool], Part], description: str) -> int:
    """The command line of a part; 1 when a goal was missed, for which tiny inputs say nothing."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="tiny inputs: shows that it works")
    parser.add_argument("--folder", help="where inputs are made (default: a temporary folder)")
    parser.add_argument("--results", type=Path, help="JSON file for the numbers")
    options = parser.parse_args()
    # what is started from here starts as an installed program does: with compiled modules
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory(prefix="dumpstart-bench-", dir=options.folder) as temporary:
        part = measure(Path(temporary), options.quick)
    print(table(part.rows), part.notes, sep="\n", flush=True)
    if options.results:
        told = {**part._asdict(), "rows": [row._asdict() for row in part.rows]}
        options.results.write_text(json.dumps(told, indent=1), "utf-8")
    return int(not options.quick and any(row.met is False for row in part.rows))


def read(told: dict[str, Any]) -> Part:
    """A part from its JSON."""
    return Part([Row(**row) for row in told["rows"]], told["notes"], told["figures"])
