"""Measures captures: ``python benchmarks/bench_capture.py [--quick]``.

The capture is that of a dump of 8 GiB in writes of 64 KiB, the most calls that get a row. Each
format is written by a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from results import ROOT, Part, Row, limit, run  # this finds the next ones

# isort: split
import big_capture

from analyzer.sources.capture_calls import MOST_CALLS

FORMATS = ("text", "markdown", "html", "json", "perfetto")
_OURS = """
import resource, sys, time
begun = time.process_time()
import analyzer
case = analyzer.open(sys.argv[1])
size = len(case.report(sys.argv[2]))
whole = time.process_time() - begun
print([whole, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, size])
"""


def measure(folder: Path, quick: bool) -> Part:
    """All rows about captures."""
    calls = 2_000 if quick else MOST_CALLS
    path = big_capture.write(str(folder / "capture.jsonl"), calls)
    rows: list[Row] = []
    for name in FORMATS:
        command = [sys.executable, "-c", _OURS, path, name]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        seconds, peak, _ = json.loads(done.stdout)
        rows.append(limit(f"a capture of {calls:,} calls: the report as {name}", seconds, "s", 10))
        rows.append(limit(f"memory for the report as {name}", peak, "MiB", 512))
    size = (folder / "capture.jsonl").stat().st_size
    notes = f"- The capture has {size:,} bytes. Processor seconds, with the imports.\n"
    return Part(rows, notes)


if __name__ == "__main__":
    sys.exit(run(measure, __doc__.splitlines()[0]))
