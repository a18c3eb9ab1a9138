"""Measures the start of ``analyze``: ``python benchmarks/bench_start.py [--quick]``.

The peer is an older commit of this project, out of its history. Both analyze the same minidumps in
turn, each run a process of its own with compiled modules. The least processor seconds of all runs
count: the rest is the machine's.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

from results import ROOT, Part, compare, run, samples

#: the commit of which the start is to stay within 1.1 times
PEER = "3f366ae"
LEAST = 1 / 1.1


def measure(folder: Path, quick: bool) -> Part:
    """A row for each minidump."""
    trees = [ROOT]
    older = folder / "older"
    archive = ["git", "-C", str(ROOT), "archive", "-o", f"{older}.zip", PEER, "analyzer"]
    if subprocess.run(archive, capture_output=True, check=False).returncode == 0:
        with zipfile.ZipFile(f"{older}.zip") as packed:
            packed.extractall(older)
        trees.append(older)
    for tree in trees:
        compiling = [sys.executable, "-m", "compileall", "-q", str(tree / "analyzer")]
        subprocess.run(compiling, check=True)
    dumps = sorted((ROOT / "sample-traces").glob("minidump*.dmp"))
    dumps += [] if quick else sorted((samples() / "dmp").glob("*dmp"))
    rows = []
    for dump in dumps[:1] if quick else dumps:
        best = _in_turn(trees, dump, 1 if quick else 25)
        theirs = best[1] if len(best) > 1 else None
        what = f"analyze {dump.name}"
        rows.append(compare(what, best[0], "s", f"commit {PEER}", theirs, round(LEAST, 3)))
    return Part(rows, "- Processor seconds of the whole process; least of all runs.\n")


def _in_turn(trees: list[Path], dump: Path, repeat: int) -> list[float]:
    best = [float("inf")] * len(trees)
    for _ in range(repeat):
        for number, tree in enumerate(trees):
            best[number] = min(best[number], _seconds(tree, dump))
    return best


def _seconds(tree: Path, dump: Path) -> float:
    """Processor seconds of one run of the command."""
    begin = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "analyzer", "analyze", str(dump)],
        env={**os.environ, "PYTHONPATH": str(tree)}, cwd=tree, capture_output=True, check=False,
    )  # fmt: skip
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 1, 2):  # 2: a user-mode minidump, which is refused
        raise SystemExit(f"{dump} ended with {done.returncode}:\n{done.stderr.decode()}")
    return end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime


if __name__ == "__main__":
    sys.exit(run(measure, __doc__.splitlines()[0]))
