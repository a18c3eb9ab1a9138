"""Measures dumpstart beside other readers: ``python benchmarks/run.py [--size 8] [--only NAME]``.

Inputs are made by sample-traces/generator in a temporary folder, one file at a time, and deleted.
Each peer runs in its own process, all of one comparison in turn, the best of several counts.
``--write`` puts the results into docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT / "sample-traces"))

from generator import Spec, assemble  # noqa: E402

PAGE = 4096
READS = 100_000
MAPPED = 1 << 18  # filler pages with an address, at most


class Row(dict):
    """One line of the result: what, ours, peer, ratio, goal, met."""


# ---- inputs ------------------------------------------------------------------------------------
def make(folder: Path, spec: Spec, addresses: bool = False) -> Path:
    """Writes a dump, warm in the page cache; with ``addresses`` also what reads must give."""
    path = folder / "measured.dmp"
    path.unlink(missing_ok=True)
    parts = assemble(spec)
    if addresses:
        scatter(parts)
    with path.open("wb", buffering=1 << 20) as file:
        parts.write(file)
    if addresses:
        expect(parts, path)
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass
    return path


def scatter(parts: Any) -> None:
    """Makes 5 % of the mapped filler pages transition pages, and unmaps 5 %."""
    machine = parts.machine
    base, count = machine.truth["filler"]["address"], machine.truth["filler"]["mapped_pages"]
    world = machine.world
    for page in range(7, count, 20):
        world.set_leaf(base + page * PAGE, 0)
    for page in range(13, count, 20):
        entry = world.read_entry(world._entry_address(base + page * PAGE, len(world.levels) - 1))
        world.map_transition(base + page * PAGE, (entry & 0x000F_FFFF_FFFF_F000) >> 12)


def expect(parts: Any, path: Path) -> None:
    """Random addresses, the words that stand there, and which of them can be read."""
    import numpy as np

    filler = parts.machine.truth["filler"]
    source = np.random.default_rng(1)
    page = source.integers(0, filler["mapped_pages"], READS)
    inside = source.integers(0, PAGE // 8, READS) * 8
    base = np.uint64(filler["address"])
    addresses = base + (page * PAGE + inside).astype(np.uint64)
    index = page * filler["step"] % parts.machine.spec.filler_pages
    start = parts.first_page + len(parts.frames.special) * PAGE
    words = np.memmap(path, "<u8", "r", offset=start, shape=(parts.frames.filler * PAGE // 8,))
    np.save(f"{path}.addresses.npy", addresses)
    np.save(f"{path}.expected.npy", words[(index * PAGE + inside) // 8])
    np.save(f"{path}.there.npy", page % 20 != 7)


# ---- measuring ---------------------------------------------------------------------------------
def in_turn(names: list[str], path: Path, repeat: int) -> dict[str, dict[str, Any]]:
    """The best result of each peer; peers take turns so that all meet the same machine."""
    best: dict[str, dict[str, Any]] = {}
    for _ in range(repeat):
        for name in names:
            if "missing" in best.get(name, {}):
                continue
            command = [sys.executable, str(HERE / "peers.py"), name, str(path)]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                raise SystemExit(f"{name} failed:\n{result.stderr}")
            answer = json.loads(result.stdout.splitlines()[-1])
            if name not in best or answer.get("seconds", 0) < best[name]["seconds"]:
                best[name] = answer
    return best


def compare(
    what: str, ours: dict[str, Any], peer_name: str, peer: dict[str, Any], goal: float
) -> Row:
    """How many times faster than the peer we are; the goal is the least."""
    row = Row(what=what, ours=ours["seconds"], peer=peer_name, goal=f"at least {goal:g}x")
    row["found"] = ours.get("found")
    found = ours.get("found")
    if not found or (isinstance(found, dict) and found["wrong"]):
        raise SystemExit(f"{what}: the answer is wrong: {found}")
    if "missing" in peer:
        row.update(peer_seconds=None, ratio=None, met=None)
    else:
        ratio = peer["seconds"] / ours["seconds"]
        row.update(peer_seconds=peer["seconds"], ratio=ratio, met=ratio >= goal)
    return row


def measure_open(folder: Path, size: float, repeat: int) -> list[Row]:
    """Opening a big fragmented bitmap dump and finding its filters."""
    path = make(folder, Spec(dump_type=5, filler_pages=int(size * (1 << 18))))
    text = f"open a {path.stat().st_size / 2**30:.1f} GiB bitmap dump and find its filters"
    best = in_turn(["open_dumpstart", "open_volatility3"], path, repeat)
    rows = [
        compare(text, best["open_dumpstart"], "volatility3 opens it", best["open_volatility3"], 20)
    ]
    peak = in_turn(["memory_dumpstart"], path, 2)["memory_dumpstart"]["peak_mib"]
    rows.append(
        Row(what="private memory of that, peak MiB", ours=peak, goal="below 150", met=peak < 150)
    )
    return rows


def measure_read(folder: Path, size: float, repeat: int) -> list[Row]:
    """Random reads by virtual address."""
    rows = []
    for kind in (1, 5, 6, 10):
        path = make(folder, Spec(dump_type=kind, filler_pages=int(min(size, 1) * MAPPED)), True)
        best = in_turn(
            ["read_dumpstart", "read_dumpstart_single", "read_kdmp_parser"], path, repeat
        )
        peer = best["read_kdmp_parser"]
        text = f"{READS:,} random reads, type {kind}"
        rows.append(compare(text, best["read_dumpstart"], "kdmp-parser", peer, 2))
        text += ", one call each"
        row = compare(text, best["read_dumpstart_single"], "kdmp-parser", peer, 0)
        rows.append(Row(row, goal="none", met=None))
    return rows


def measure_scan(folder: Path, size: float, repeat: int) -> list[Row]:
    """Finding filters by content in all memory."""
    spec = Spec(dump_type=5, variant="nodes-only", filler_pages=int(min(size, 2) * (1 << 18)))
    path = make(folder, spec)
    best = in_turn(["scan_find", "scan_dumpstart", "scan_dumpstart_pointers"], path, repeat)
    text = f"find filters by scanning {path.stat().st_size / 2**30:.1f} GiB"
    peer = "mmap.find of one literal"
    return [
        compare(text, best["scan_dumpstart"], peer, best["scan_find"], 0.5),
        compare(
            text + " by callbacks", best["scan_dumpstart_pointers"], peer, best["scan_find"], 0.5
        ),
    ]


def measure_start(folder: Path, _: float, repeat: int) -> list[Row]:
    """A minidump from the command line, process start included."""
    path = folder / "measured.dmp"
    path.unlink(missing_ok=True)
    real = Path(os.environ.get("DUMPSTART_SHARED") or ROOT.parent / "shared" / "samples")
    sample = real / "dmp" / "rizinorg_rizin-testbins__triage_x64.dmp"
    if not sample.exists():
        sample = make(folder, Spec(dump_type=4))
    ours = [sys.executable, "-m", "analyzer", "analyze", str(sample)]
    peer = [sys.executable, "-c", "import numpy"]
    # both as an installed program starts: with compiled modules
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
    seconds = [float("inf"), float("inf")]
    for _ in range(max(10, repeat)):
        for number, command in enumerate((ours, peer)):
            start = time.perf_counter()
            subprocess.run(
                command, stdout=subprocess.DEVNULL, check=False, cwd=ROOT, env=environment
            )
            seconds[number] = min(seconds[number], time.perf_counter() - start)
    text = f"analyze a minidump of {sample.stat().st_size / 1024:.0f} KiB, process start included"
    ratio = seconds[0] / seconds[1]
    row = Row(what=text, ours=seconds[0], peer='python -c "import numpy"', peer_seconds=seconds[1])
    row.update(ratio=ratio, goal="at most 3x its time", met=ratio <= 3)
    return [row]


def measure_cases(folder: Path, _: float, __: int) -> list[Row]:
    """Many cases by one process and by two, and whether kills change the rows."""
    results = folder / "cases.json"
    command = [sys.executable, str(HERE / "bench_scan.py"), "--results", str(results)]
    subprocess.run([*command, "--folder", str(folder)], check=True, stdout=subprocess.DEVNULL)
    return case_rows(json.loads(results.read_text("utf-8")))


def case_rows(result: dict[str, Any]) -> list[Row]:
    """The lines of the result of bench_scan.py."""
    one, two = result["runs"]
    row = Row(what=f"scan {result['cases']:,} cases by two processes", ours=two["seconds"])
    row.update(peer="one process", peer_seconds=one["seconds"], goal="none", met=None)
    row["ratio"] = one["seconds"] / two["seconds"]
    row["found"] = f"{sum(two['outcomes'].values())} cases"
    flat = one["second_half_mib"] <= 1.1 * one["first_half_mib"]
    what = "private memory of that by one process, second half, MiB"
    memory = Row(what=what, ours=one["second_half_mib"], met=flat)
    memory["goal"] = f"at most 1.1x the first half's ({one['first_half_mib']:.0f})"
    return [row, memory]


MEASURES = {
    "open": measure_open,
    "read": measure_read,
    "scan": measure_scan,
    "start": measure_start,
    "cases": measure_cases,
}


# ---- results -----------------------------------------------------------------------------------
def table(rows: list[Row]) -> str:
    """The results as a Markdown table."""
    lines = [
        "| what | dumpstart | peer | its time | ratio | goal | met |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ours = f"{row['ours']:.0f} MiB" if "MiB" in row["what"] else f"{row['ours']:.4g} s"
        seconds, ratio = row.get("peer_seconds"), row.get("ratio")
        cells = [
            row["what"],
            ours,
            row.get("peer", ""),
            "" if "peer" not in row else "not installed" if seconds is None else f"{seconds:.4g} s",
            "" if ratio is None else f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}",
            row["goal"],
            {True: "yes", False: "NO", None: ""}[row["met"]],
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measures, prints, and tells by the exit code whether all goals were met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=float, default=8, help="GiB of the biggest dump")
    parser.add_argument("--only", choices=sorted(MEASURES), action="append")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--folder", help="where inputs are made (default: a temporary folder)")
    parser.add_argument("--results", type=Path, help="keep results of several runs in a JSON file")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md")
    options = parser.parse_args()
    kept = options.results and options.results.exists()
    results = json.loads(options.results.read_text("utf-8")) if kept else {}
    with tempfile.TemporaryDirectory(prefix="dumpstart-bench-", dir=options.folder) as temporary:
        for name in options.only or MEASURES:
            rows = MEASURES[name](Path(temporary), options.size, options.repeat)
            results[name] = rows
            print(table(rows), flush=True)
            for row in rows:
                print("   found:", row.get("found"))
    if options.results:
        options.results.write_text(json.dumps(results, indent=1), "utf-8")
    rows = [row for name in MEASURES for row in results.get(name, [])]
    if options.write:
        page = HERE.parent / "docs" / "performance.md"
        page.write_text(PAGE_HEAD + machine() + "\n" + table(rows) + PAGE_TAIL, "utf-8")
    return int(any(row["met"] is False for row in rows))


def machine() -> str:
    """The machine in one line."""
    import numpy

    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            cpu = next((x.split(":")[1].strip() for x in file if x.startswith("model name")), cpu)
    return (
        f"Measured on {cpu}, {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}, numpy {numpy.__version__}.\n"
    )


PAGE_HEAD = """\
# Performance

Written by `python benchmarks/run.py --write`; run it again on your machine, only the ratios travel.

"""
PAGE_TAIL = """
- Inputs come from the generator in `sample-traces/`, warm in the page cache.
- Each peer runs in its own process, all of one comparison take turns, the best of several counts.
- Times are processor seconds of the work alone; the last row is by the clock, with process start.
- A ratio is the peer's time by ours, except for the last row, where it is ours by the peer's.
- volatility3 only opens the dump; dumpstart also reads the modules and walks to the filters.
- Random reads: 5 % of the pages are in transition (kdmp-parser does not read them), 5 % not mapped.
- kdmp-parser hands out whole pages, dumpstart the 8 bytes asked for; the row "one call each" asks
  dumpstart for one address at a time, as a caller of kdmp-parser must.
- Each result is checked: filters found, bytes equal to what the generator wrote.
- "By callbacks" is the second pass of the scan, which runs when the first found no filter.
- Scanning many cases: seconds by the clock, start of the processes included; what else the machine
  did counts. [How far it scales](scale.md) has processor seconds and the load.
"""


if __name__ == "__main__":
    sys.exit(main())
