"""Measures ``dumpstart scan`` on many cases: ``python benchmarks/bench_scan.py [--quick]``.

Cases of all kinds from a fixed seed, with two planted causes and 1 % damaged. Scanned by one and
by two processes; a third scan is killed three times and started again, and its rows are compared
with those of the first.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from results import ROOT, Part, Row, compare, limit, run  # this finds the next one

# isort: split
import population

KINDS = {
    "zip": "a ticket: capture and dump log in a zip",
    "dmp": "a minidump or small kernel dump",
    "log": "a dump log",
    "xml": "an event log",
    "reg": "a registry export",
}


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


class Scanned(NamedTuple):
    """One undisturbed scan."""

    seconds: float
    cpu_seconds: float
    outcomes: dict[str, int]
    first_half_mib: float  #: highest private memory of all its processes
    second_half_mib: float


def timed(source: Path, output: Path, jobs: int) -> Scanned:
    """Seconds, processor seconds, and memory over time."""
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
            reader.join(1 if samples[-1][0] > 10 else 0.1)
    seconds = time.perf_counter() - start
    after = os.times()
    # The first fifth holds the start of the processes.
    steady = [size / 2**20 for at, size in samples if at > seconds / 5]
    half = len(steady) // 2
    cpu = sum(after[2:4]) - sum(before[2:4])
    outcomes = json.loads(said[0])["outcomes"]
    return Scanned(seconds, cpu, outcomes, max(steady[:half], default=0), max(steady[half:]))


def killed(source: Path, output: Path, cases: int, whole: float, times: int) -> tuple[int, int]:
    """A scan killed so many times at random moments, then ended.

    How many kills met a scan that was still at work, and how many cases were left for the last.
    """
    chance, inside, left = random.Random(7), 0, cases
    for _ in range(times):
        scan = command(source, output, 2)
        nothing = subprocess.DEVNULL
        with subprocess.Popen(scan, stdout=nothing, stderr=nothing, cwd=ROOT) as p:
            time.sleep(whole * left / cases * chance.uniform(0.2, 0.6))
            inside += p.poll() is None
            p.send_signal(signal.SIGKILL)
        left = cases - written(output)
    done = subprocess.run(
        command(source, output, 2), capture_output=True, check=True, cwd=ROOT, text=True
    )
    return inside, json.loads(done.stdout)["analysed"]


def written(output: Path) -> int:
    """Cases in the batches that count."""
    import pyarrow.parquet as pq

    files = (output / "cases").glob("batch-*.parquet")
    return sum(pq.ParquetFile(file).metadata.num_rows for file in files)


def rows(folder: Path) -> dict[str, str]:
    """Count and digest of the sorted rows of every table."""
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


def costs(source: Path, each: int) -> list[dict[str, Any]]:
    """What one case of each kind costs, in one process and without writing."""
    from analyzer.population import places
    from analyzer.population.columns import unpacked
    from analyzer.population.scan import Job, analyse

    files = sorted(path for path in source.rglob("*") if path.is_file())
    found = []
    for ending, name in KINDS.items():
        chosen = [str(path) for path in files if path.suffix.lower() == f".{ending}"][:each]
        taken = [places.Place(path, (path,)) for path in chosen]
        start = time.process_time()
        known = [places.identity(place) for place in taken]
        between = time.process_time()
        pieces = analyse([Job(p, *told) for p, told in zip(taken, known)], False)
        end = time.process_time()
        tables = [table for packed in pieces.values() for table in unpacked(packed)]
        count = len(taken)
        if not count:  # of a rare kind there may be none among few
            continue
        found.append({
            "kind": name,
            "ms": (end - between) / count * 1000,
            "identity_ms": (between - start) / count * 1000,
            "rows": sum(len(table) for table in tables) / count,
            "kb": sum(table.nbytes for table in tables) / count / 1000,
        })  # fmt: skip
    return found


def bytes_of(folder: Path) -> int:
    """Size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure(folder: Path, quick: bool) -> Part:
    """All rows of the scan, and the figures that docs/scale.md reckons with."""
    from analyzer.population.dataset import DataSet
    from analyzer.population.study import Study, table_of

    cases = 40 if quick else 10_000
    source = folder / "in"
    population.write(source, cases)
    one, two = (timed(source, folder / f"out{jobs}", jobs) for jobs in (1, 2))
    first = rows(folder / "out1")
    wanted = 1 if quick else 3
    kills, left = killed(source, folder / "again", cases, two.seconds, wanted)
    resumed = rows(folder / "again")
    start = time.process_time()
    study = Study(table_of(DataSet(str(folder / "out1")).read()))
    studied = time.process_time() - start
    planted = {f"version of {population.FILTER}", "disk"}
    others = [found for found in study.differences if found.trait not in planted]
    missed = planted - {found.trait for found in study.differences}
    figures = {
        "cases": cases,
        "input_bytes": bytes_of(source),
        "data_set_bytes": bytes_of(folder / "out1"),
        "one": one._asdict(),
        "two": two._asdict(),
        "rows": {table: int(text.split()[0]) for table, text in first.items()},
        "kills": kills,
        "left": left,
        "costs": costs(source, 3 if quick else 100),
        "study_seconds": studied,
    }
    text = f"scan {cases:,} cases"
    differ = [table for table in first if resumed.get(table) != first[table]]
    halves = f"1.1 times the first half's {one.first_half_mib:.0f} MiB"
    made = [
        Row(f"{text}, one process", cases / one.seconds, "cases/s"),
        compare(f"{text}, two processes", cases / two.seconds, "cases/s", "one process",
                cases / one.seconds),
        Row("processor time a case, one process", one.cpu_seconds / cases * 1000, "ms"),
        Row("processor time a case, two processes", two.cpu_seconds / cases * 1000, "ms"),
        limit("private memory of one process, second half", one.second_half_mib, "MiB",
              1.1 * one.first_half_mib, halves),
        Row("private memory of two processes and the scan", two.second_half_mib, "MiB"),
        limit("tables with other rows, two processes instead of one",
              sum(rows(folder / "out2")[table] != first[table] for table in first), "", 0),
        Row("kills in the middle of a scan", kills, "", goal=str(wanted), met=kills == wanted),
        limit("tables with other rows after the kills", len(differ), "", 0),
        limit("planted causes that the population misses", len(missed), "", 0),
        limit("causes it finds that were not planted", len(others), "", 0),
        Row("processor time of the population", studied, "s"),
    ]  # fmt: skip
    return Part(made, NOTES + f"- {left:,} cases were left for the last run after the kills.\n",
                figures)  # fmt: skip


NOTES = """\
- Cases of all kinds from a fixed seed, two planted causes (a slow version, a slow disk), 1 in 100
  damaged.
- Cases a second are by the clock, start of the processes included, and other work slows them.
- Two processes are compared with one: the ratio is the scaling. There is no other tool to compare.
- Private memory is that of all processes together, the highest.
- [How far it scales](scale.md) reckons with these figures.
"""


def scale(figures: dict[str, Any]) -> str:
    """The figures of docs/scale.md: what a case costs, and what a million need."""
    cases = figures["cases"]
    ms = figures["one"]["cpu_seconds"] / cases * 1000
    stored = figures["data_set_bytes"] / cases
    lines = ["| case | processor ms | rows | kB before compression |", "|---|---|---|---|"]
    lines += [
        f"| {cost['kind']} | {cost['ms']:.1f} | {cost['rows']:.0f} | {cost['kb']:.0f} |"
        for cost in figures["costs"]
    ]
    known = sum(cost["identity_ms"] for cost in figures["costs"]) / len(figures["costs"])
    memory = figures["one"]["second_half_mib"]
    tables = sum(count > 0 for count in figures["rows"].values())
    hours = ms * 1e6 / 1000 / 3600
    return f"""\
{cases:,} cases ({figures["input_bytes"] / 1e6:.0f} MB) took {ms:.1f} processor ms each, writing \
included, and {stored / 1000:.2g} kB each in the data set.
Of one process alone, without writing:

{chr(10).join(lines)}

To find out that a case is known takes {known:.2g} processor ms.

A million such cases, reckoned and not measured:

| | |
|---|---|
| Processor time | 1,000,000 x {ms:.1f} ms = {hours:.1f} hours of one core; \
{hours * 60 / 8:.0f} minutes on 8 cores |
| Data set | {stored * 1e6 / 1e9:.1f} GB |
| Files | 2,000 batches of up to {tables} files |
| Memory of a worker | that of the largest single case; {memory:.0f} MiB for a scan by one \
process, all processes together |
| A restart | {known * 1e6 / 1000 / 60:.1g} minutes of one core to know them all again |
"""


if __name__ == "__main__":
    sys.exit(run(measure, __doc__.splitlines()[0]))
