"""Measures the dump reader beside others: ``python benchmarks/bench_dump.py [--quick]``.

Inputs are made by sample-traces/generator in a temporary folder, one file at a time, and deleted.
Each peer runs in its own process (peers.py), all of one comparison in turn, the best of several
counts; times are processor seconds of the work alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from results import ROOT, Part, Row, compare, limit, run, samples  # this finds the next ones

# isort: split
from generator import Spec, assemble

PAGE = 4096
MAPPED = 1 << 18  # filler pages with an address, at most


# ---- inputs ------------------------------------------------------------------------------------
def make(folder: Path, spec: Spec, reads: int = 0) -> Path:
    """Writes a dump, warm in the page cache; and so many random reads, with what they must give."""
    path = folder / "measured.dmp"
    path.unlink(missing_ok=True)
    parts = assemble(spec)
    if reads:
        scatter(parts)
    with path.open("wb", buffering=1 << 20) as file:
        parts.write(file)
    if reads:
        expect(parts, path, reads)
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


def expect(parts: Any, path: Path, reads: int) -> None:
    """Random addresses, the words that stand there, and which of them can be read."""
    import numpy as np

    filler = parts.machine.truth["filler"]
    source = np.random.default_rng(1)
    page = source.integers(0, filler["mapped_pages"], reads)
    inside = source.integers(0, PAGE // 8, reads) * 8
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
            command = [sys.executable, str(ROOT / "benchmarks" / "peers.py"), name, str(path)]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                raise SystemExit(f"{name} failed:\n{result.stderr}")
            # a peer's C++ code may print, and its buffer is written behind ours
            lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
            if not lines:
                raise SystemExit(f"{name} gave no result:\n{result.stdout}{result.stderr}")
            answer = json.loads(lines[-1])
            if name not in best or answer.get("seconds", 0) < best[name]["seconds"]:
                best[name] = answer
    return best


def faster(
    what: str, ours: dict[str, Any], peer: str, theirs: dict[str, Any], least: float = 0
) -> Row:
    """How many times faster than the peer we are, once our answer is right."""
    found = ours.get("found")
    if not found or (isinstance(found, dict) and found["wrong"]):
        raise SystemExit(f"{what}: the answer is wrong: {found}")
    return compare(what, ours["seconds"], "s", peer, theirs.get("seconds"), least)


def opening(folder: Path, gib: float, repeat: int) -> list[Row]:
    """Opening a big fragmented bitmap dump and finding its filters."""
    path = make(folder, Spec(dump_type=5, filler_pages=int(gib * (1 << 18))))
    text = f"open a {path.stat().st_size / 2**30:.2g} GiB bitmap dump and find its filters"
    best = in_turn(["open_dumpstart", "open_volatility3"], path, repeat)
    peak = in_turn(["memory_dumpstart"], path, min(repeat, 2))["memory_dumpstart"]["peak_mib"]
    ours, peer = best["open_dumpstart"], best["open_volatility3"]
    return [
        faster(text, ours, "volatility3 opens it", peer, 20),
        limit("private memory of that, peak", peak, "MiB", 150),
    ]


def reading(folder: Path, kinds: tuple[int, ...], reads: int, repeat: int) -> list[Row]:
    """Random reads by virtual address, from dumps of some types."""
    rows = []
    for kind in kinds:
        path = make(folder, Spec(dump_type=kind, filler_pages=min(reads * 4, MAPPED)), reads)
        best = in_turn(["read_dumpstart", "read_kdmp_parser"], path, repeat)
        text = f"{reads:,} random reads, type {kind}"
        peer = best["read_kdmp_parser"]
        rows.append(faster(text, best["read_dumpstart"], "kdmp-parser", peer))
    return rows


def scanning(folder: Path, gib: float, repeat: int) -> list[Row]:
    """Finding filters by content in all memory."""
    spec = Spec(dump_type=5, variant="nodes-only", filler_pages=int(gib * (1 << 18)))
    path = make(folder, spec)
    best = in_turn(["scan_find", "scan_dumpstart", "scan_dumpstart_pointers"], path, repeat)
    text = f"find filters by scanning {path.stat().st_size / 2**30:.2g} GiB"
    peer, theirs = "mmap.find of one literal", best["scan_find"]
    return [
        faster(text, best["scan_dumpstart"], peer, theirs, 0.5),
        faster(text + " by callbacks", best["scan_dumpstart_pointers"], peer, theirs, 0.5),
    ]


def starting(folder: Path, repeat: int) -> list[Row]:
    """A minidump from the command line, process start included."""
    sample = samples() / "dmp" / "rizinorg_rizin-testbins__triage_x64.dmp"
    if not sample.exists():
        sample = make(folder, Spec(dump_type=4))
    ours = [sys.executable, "-m", "analyzer", "analyze", str(sample)]
    peer = [sys.executable, "-c", "import numpy"]
    seconds = [float("inf"), float("inf")]
    for _ in range(2 * repeat):
        for number, command in enumerate((ours, peer)):
            start = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=False, cwd=ROOT)
            seconds[number] = min(seconds[number], time.perf_counter() - start)
    text = f"analyze a minidump of {sample.stat().st_size / 1024:.0f} KiB, process start included"
    row = compare(text, seconds[0], "s", 'python -c "import numpy"', seconds[1], 1 / 3)
    return [row._replace(goal="at most 3 times its time")]


NOTES = """\
- Inputs come from the generator in `sample-traces/`, warm in the page cache.
- Each peer runs in its own process, all of one comparison take turns, the best of several counts.
- Times are processor seconds of the work alone; the last row is by the clock, with process start.
- volatility3 only opens the dump; dumpstart also reads the modules and walks to the filters.
- Random reads: 5 % of the pages are in transition (kdmp-parser does not read them), 5 % not mapped.
- kdmp-parser hands out whole pages, dumpstart the 8 bytes asked for.
- Each result is checked: filters found, bytes equal to what the generator wrote.
- "By callbacks" is the second pass of the scan, which runs when the first found no filter.
"""


def measure(folder: Path, quick: bool) -> Part:
    """All rows of the dump reader."""
    repeat = 1 if quick else 5
    rows = opening(folder, 0.01 if quick else 8, repeat)
    if quick:
        rows += reading(folder, (5,), 1000, repeat)
    else:
        rows += reading(folder, (1, 5, 6, 10), 100_000, repeat)
    rows += scanning(folder, 0.01 if quick else 2, repeat)
    return Part(rows + starting(folder, repeat), NOTES)


if __name__ == "__main__":
    sys.exit(run(measure, __doc__.splitlines()[0]))
