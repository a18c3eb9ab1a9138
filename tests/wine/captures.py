"""One scenario of the simulated machine, captured by ``dumpstart capture`` in a Windows Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kd.scenarios import SCENARIOS
from kd.simulator import simulated

import analyzer

from . import session
from .provision import Wine, windows_path


class Captured(NamedTuple):
    """What came of it."""

    case: Any
    report: dict[str, Any]
    output: str
    files: list[Path]


def capture(
    name: str, folder: Path, backend: str = "dbgeng", minor: int = 13, options: Sequence[str] = ()
) -> Captured:
    """One session of the engine: until its calls have returned, or the time is up."""
    wine, scenario = session.provided(minor), SCENARIOS[name]
    path = folder / f"{name}-{backend}.jsonl"
    for old in folder.glob(f"{name}-{backend}*.jsonl"):  # of a first try
        old.unlink()
    count = scenario.boots * len(scenario.calls) + len(
        scenario.late
    )  # of a late filter DriverEntry is a call too
    hangs = any(call.hangs for call in scenario.calls)
    words = [session.COM1, "--backend", backend, "--output", windows_path(path)]
    words += ["--calls", str(count), "--timeout", "15" if hangs else "60", *options]
    with simulated(name, tty=wine.port) as target:
        output = dumpstart(wine, "capture", *words)
        report = target.end()
    files = sorted(folder.glob(f"{name}-{backend}*.jsonl"))
    return Captured(analyzer.open(*map(str, files)), report, output, files)


def dumpstart(wine: Wine, *arguments: str, limit: float = 90) -> str:
    """``dumpstart ARGUMENTS`` in the Windows Python, in a Wine that was started anew."""
    session.stop_server(wine)
    return session.run_program(wine, wine.python, ["-m", "analyzer", *arguments], limit)
