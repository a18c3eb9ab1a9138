"""Measures captures of a million calls: ``python benchmarks/bench_capture.py [--quick]``.

Each format is written by a process of its own, so that its memory is its own. The peer is what any
reader must at least do that takes the lines one by one: ``json.loads`` on each.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from results import ROOT, Part, Row, compare, limit, run  # this finds the next ones

# isort: split
import big_capture

FORMATS = ("tables", "text", "markdown", "html", "json", "perfetto")
_OURS = """
import resource, sys, time
begun = time.process_time()
import analyzer
case = analyzer.open(sys.argv[1])
opened = time.process_time() - begun
if sys.argv[2] == "tables":
    size = len(case.callbacks) + len(case.findings)
else:
    size = len(case.report(sys.argv[2]))
whole = time.process_time() - begun
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print([opened, whole, peak, size, len(case.records["callbacks"])])
"""
_PEER = """
import json, sys, time
begun = time.process_time()
with open(sys.argv[1], "rb") as file:
    count = sum("fact" in json.loads(line) for line in file)
print([time.process_time() - begun, count])
"""


def _measured(code: str, *arguments: str) -> list[float]:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    numbers: list[float] = json.loads(done.stdout)
    return numbers


def measure(folder: Path, quick: bool) -> Part:
    """All rows about captures."""
    calls = 2_000 if quick else 1_000_000
    path = big_capture.write(str(folder / "capture.jsonl"), calls)
    rows: list[Row] = []
    found = {name: _measured(_OURS, path, name) for name in FORMATS}
    least = min(numbers[0] for numbers in found.values())
    peer = _measured(_PEER, path)[0]
    rows.append(compare(f"open a capture of {calls:,} calls", least, "s", "json.loads", peer, 1))
    for name, (_, whole, peak, _, kept) in found.items():
        assert kept >= calls
        what = "the tables as DataFrames" if name == "tables" else f"the report as {name}"
        rows.append(limit(f"open it and make {what}", whole, "s", 8))
        rows.append(limit(f"memory for {what}", peak, "MiB", 512))
    size = (folder / "capture.jsonl").stat().st_size
    sizes = ", ".join(f"{name} {int(n[3]):,}" for name, n in found.items() if name != "tables")
    notes = f"- The capture has {size:,} bytes; reports in characters: {sizes}.\n"
    notes += "- Processor seconds, with the imports; the least of all runs for opening.\n"
    return Part(rows, notes)


if __name__ == "__main__":
    sys.exit(run(measure, __doc__.splitlines()[0]))
