"""Measures captures: ``python benchmarks/bench_capture.py [--quick]``.

The capture is that of a dump of 8 GiB in writes of 64 KiB, the most calls that get a row. Each
format is written by a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from results import ROOT, Part, compare, limit, run  # this finds the next ones

# isort: split
import big_capture

from analyzer.sources.capture_calls import MOST_CALLS

FORMATS = ("text", "markdown", "html", "json", "perfetto")
_OURS = """
import resource, sys, time
begun = time.process_time()
import analyzer
case = analyzer.open(sys.argv[1])
opened = time.process_time() - begun
case.report(sys.argv[2])
whole = time.process_time() - begun
print([opened, whole, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024])
"""
_PEER = """
import json, sys, time
begun = time.process_time()
with open(sys.argv[1], "rb") as file:
    count = sum("fact" in json.loads(line) for line in file)
print([time.process_time() - begun])
"""


def _measured(code: str, *arguments: str) -> list[float]:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    numbers: list[float] = json.loads(done.stdout)
    return numbers


def measure(folder: Path, quick: bool) -> Part:
    """All rows about captures."""
    calls = 2_000 if quick else MOST_CALLS
    path = big_capture.write(str(folder / "capture.jsonl"), calls)
    found = {name: _measured(_OURS, path, name) for name in FORMATS}
    least, (peer,) = min(opened for opened, *_ in found.values()), _measured(_PEER, path)
    rows = [compare(f"open a capture of {calls:,} calls", least, "s", "json.loads", peer)]
    for name, (_, whole, peak) in found.items():
        rows.append(limit(f"open it and make the report as {name}", whole, "s", 15))
        rows.append(limit(f"memory for the report as {name}", peak, "MiB", 512))
    size = (folder / "capture.jsonl").stat().st_size
    notes = f"- The capture has {size:,} bytes. Processor seconds, with the imports.\n"
    return Part(rows, notes)


if __name__ == "__main__":
    sys.exit(run(measure, __doc__.splitlines()[0]))
