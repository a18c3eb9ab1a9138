"""One scenario of the simulated machine, captured by ``dumpstart capture``, by any debugger."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple

import analyzer

from .scenarios import SCENARIOS

#: options of the command, the capture's file -> the machine's report and what was printed
Session = Callable[[Sequence[str], Path], tuple[dict[str, Any], str]]


class Captured(NamedTuple):
    """What came of it."""

    case: Any
    report: dict[str, Any]
    output: str
    files: list[Path]


def capture(name: str, path: Path, session: Session, options: Sequence[str] = ()) -> Captured:
    """One session of a debugger: until the scenario's calls have returned, or the time is up."""
    scenario = SCENARIOS[name]
    for old in path.parent.glob(f"{path.stem}*.jsonl"):  # of a first try
        old.unlink()
    # of a late filter DriverEntry is a call too
    count = scenario.boots * len(scenario.calls) + len(scenario.late)
    hangs = any(call.hangs for call in scenario.calls)
    words = ["--calls", str(count), "--timeout", "15" if hangs else "60", *options]
    report, output = session(words, path)
    files = sorted(path.parent.glob(f"{path.stem}*.jsonl"))
    return Captured(analyzer.open(*map(str, files)), report, output, files)
