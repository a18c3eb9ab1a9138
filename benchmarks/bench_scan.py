"""Measures ``dumpstart scan`` on many generated cases: ``python benchmarks/bench_scan.py``.

Cases of all kinds from a fixed seed, with two planted causes and 1 % damaged. Scanned by one and
by two processes; a third scan is killed three times and started again, and its rows are compared
with those of the first. ``--results`` keeps the numbers for ``run.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT / "tests"))

PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def command(source: Path, output: Path, jobs: int) -> list[str]:
    """The command line of a scan."""
    head = [sys.executable, "-m", "analyzer", "scan", str(source), "--output", str(output)]
    return [*head, "--jobs", str(jobs), "--format", "json"]


def private(pid: int) -> int:
    """Private memory of a process and its children, in bytes (Linux)."""
    total = 0
    for one in [pid, *children(pid)]:
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text("utf-8")
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith(("Private_Clean", "Private_Dirty")):
                total += int(line.split()[1]) * 1024
    return total


def children(pid: int) -> list[int]:
    """Processes below one."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8")
    except OSError:
        return []
    direct = [int(word) for word in text.split()]
    return direct + [below for one in direct for below in children(one)]


def timed(source: Path, output: Path, jobs: int) -> dict[str, Any]:
    """One undisturbed scan: seconds, processor seconds, and memory over time."""
    before = os.times()
    start = time.perf_counter()
    scan = command(source, output, jobs)
    with subprocess.Popen(scan, stdout=subprocess.PIPE, cwd=ROOT) as process:
        samples: list[tuple[float, int]] = []
        said: list[bytes] = []
        reader = threading.Thread(target=lambda: said.append(process.stdout.read()))
        reader.start()
        while reader.is_alive():
            samples.append((time.perf_counter() - start, private(process.pid)))
            reader.join(1)
    seconds = time.perf_counter() - start
    after = os.times()
    counts = json.loads(said[0])
    # The first fifth holds the start of the processes.
    steady = [size for at, size in samples if at > seconds / 5]
    half = len(steady) // 2
    return {
        "jobs": jobs,
        "seconds": seconds,
        "cpu_seconds": sum(after[2:4]) - sum(before[2:4]),
        "cases_per_second": counts["places"] / seconds,
        "outcomes": counts["outcomes"],
        "peak_mib": max(steady, default=0) / 2**20,
        "first_half_mib": max(steady[:half], default=0) / 2**20,
        "second_half_mib": max(steady[half:], default=0) / 2**20,
        "load": os.getloadavg()[0],
    }


def killed(source: Path, output: Path, whole: float) -> int:
    """A scan killed three times at random moments, then ended; how many batches each left."""
    chance = random.Random(7)
    for turn in range(3):
        with subprocess.Popen(command(source, output, 2), stdout=subprocess.DEVNULL, cwd=ROOT) as p:
            time.sleep(whole * chance.uniform(0.1, 0.3))
            p.send_signal(signal.SIGKILL)
        batches = len(list((output / "cases").glob("*"))) - 1 if (output / "cases").is_dir() else 0
        print(f"killed, time {turn + 1}: {batches} batches are there", flush=True)
    done = subprocess.run(
        command(source, output, 2), capture_output=True, check=True, cwd=ROOT, text=True
    )
    return int(json.loads(done.stdout)["analysed"])


def rows(folder: Path) -> dict[str, str]:
    """A digest of the sorted rows of every table."""
    import hashlib

    import duckdb

    found = {}
    for table in sorted(path.name for path in folder.iterdir() if path.name[0] != "."):
        if (folder / table).is_dir():
            digest = hashlib.sha256()
            query = f"select t::varchar as row from '{folder}/{table}/*.parquet' t order by row"
            with duckdb.connect() as connection:
                count = 0
                cursor = connection.execute(query)
                while part := cursor.fetchmany(10_000):
                    count += len(part)
                    for (row,) in part:
                        digest.update(row.encode() + b"\n")
            found[table] = f"{count} {digest.hexdigest()}"
    return found


def main() -> int:
    """Measures and prints; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--folder", help="where the cases are made (default: a temporary folder)")
    parser.add_argument("--results", type=Path, help="JSON file for the numbers")
    options = parser.parse_args()
    import population

    from analyzer.population import report, study
    from analyzer.population.dataset import DataSet

    with tempfile.TemporaryDirectory(prefix="dumpstart-bench-", dir=options.folder) as temporary:
        folder = Path(temporary)
        population.write(folder / "in", options.cases)
        size = sum(path.stat().st_size for path in (folder / "in").rglob("*") if path.is_file())
        result: dict[str, Any] = {"cases": options.cases, "input_bytes": size, "runs": []}
        for jobs in (1, 2):
            run = timed(folder / "in", folder / f"out{jobs}", jobs)
            result["runs"].append(run)
            print(json.dumps(run), flush=True)
        first = rows(folder / "out1")
        result["data_set_bytes"] = sum(
            path.stat().st_size for path in (folder / "out1").rglob("*") if path.is_file()
        )
        result["left_for_last_run"] = killed(
            folder / "in", folder / "again", result["runs"][1]["seconds"]
        )
        result["rows"] = {table: int(text.split()[0]) for table, text in first.items()}
        result["killed_equals_undisturbed"] = rows(folder / "again") == first
        result["two_processes_equal_one"] = rows(folder / "out2") == first
        start = time.perf_counter()
        done = study.Study(study.table_of(DataSet(str(folder / "out1")).read()))
        result["population_seconds"] = time.perf_counter() - start
        result["differences"] = [report.sentence(row) for row in done.differences]
    print(json.dumps(result, indent=1))
    if options.results:
        options.results.write_text(json.dumps(result, indent=1), "utf-8")
    good = result["killed_equals_undisturbed"] and result["two_processes_equal_one"]
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
