"""Measures dumpstart beside its peers: ``python benchmarks/run.py [--quick] [--write]``.

Each part is a script of its own that runs in its own process. ``--write`` keeps the numbers in
benchmarks/results.json and makes docs/performance.md, and the figures of docs/scale.md, from them;
parts that were not run keep theirs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from results import ROOT, read, table

HERE = ROOT / "benchmarks"
STORED = HERE / "results.json"
PAGE = ROOT / "docs" / "performance.md"
SCALE = ROOT / "docs" / "scale.md"
#: name -> script, title
PARTS = {
    "dump": ("bench_dump.py", "Kernel dumps"),
    "snapshot": ("bench_snapshot.py", "Memory snapshots"),
    "etw": ("bench_etw.py", "ETW traces"),
    "compression": ("bench_compression.py", "Compressed ETW traces"),
    "capture": ("bench_capture.py", "Captures"),
    "scan": ("bench_scan.py", "Many cases"),
}
PEERS = ("volatility3", "kdmp-parser", "dissect.etl", "etl-parser")
BUSY = 2.0  # a load above it is others' work: the part before makes one or two
BUSY_TEXT = "**The machine was busy:** times are too long, rates too low, ratios less certain.\n"
MARK = re.compile(r"(?<=<!-- measured -->\n).*(?=<!-- end of measured -->)", re.DOTALL)


def machine() -> str:
    """Processor, system, Python and the versions that matter."""
    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            cpu = next((x.split(":")[1].strip() for x in file if x.startswith("model name")), cpu)
    versions = []
    for name in ("numpy", "pandas", *PEERS):
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            versions.append(f"no {name}")
    return (
        f"{cpu}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, "
        + ", ".join(versions)
    )


def run(script: str, quick: bool, folder: str | None) -> tuple[dict[str, Any], int]:
    """What a part found, and whether a goal was missed."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="dumpstart-bench-", dir=folder) as temporary:
        results = Path(temporary) / "results.json"
        command = [sys.executable, str(HERE / script), "--folder", temporary]
        command += ["--results", str(results)] + ["--quick"] * quick
        code = subprocess.run(command, check=False).returncode
        if not results.exists():
            raise SystemExit(f"{script} failed")
        told = json.loads(results.read_text("utf-8"))
    told["load"], told["seconds"] = load, round(time.perf_counter() - start)
    told["machine"] = machine()
    return told, code


def page(stored: dict[str, Any]) -> str:
    """docs/performance.md."""
    text = HEAD
    for where in dict.fromkeys(told["machine"] for told in stored.values()):
        text += f"\nMeasured on {where}.\n"
    for name, (_, title) in PARTS.items():
        if name in stored:
            told = stored[name]
            part, load = read(told), told["load"]
            text += f"\n## {title}\n\n"
            text += f"Took {told['seconds']:,} seconds"
            if load is not None:
                text += f"; the load was {load:.1f} when it began, the part before included"
            text += ".\n"
            if load is not None and load > BUSY:
                text += BUSY_TEXT
            text += f"\n{table(part.rows)}\n{part.notes}"
    return text


def scale(stored: dict[str, Any], text: str) -> str:
    """docs/scale.md with the measured figures put in."""
    import bench_scan

    figures = bench_scan.scale(stored["scan"]["figures"])
    return MARK.sub(lambda _: figures, text)


def main() -> int:
    """Measures, prints, and tells by the exit code whether a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny inputs: shows that all works")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part alone")
    parser.add_argument("--folder", help="where inputs are made (default: a temporary folder)")
    parser.add_argument("--write", action="store_true", help="write the pages of the documentation")
    options = parser.parse_args()
    if options.quick and options.write:
        parser.error("tiny inputs are not worth a page")
    stored = json.loads(STORED.read_text("utf-8")) if STORED.exists() else {}
    missed = 0
    for name in options.only or PARTS:
        script, title = PARTS[name]
        print(f"\n{title}\n", flush=True)
        told, code = run(script, options.quick, options.folder)
        missed |= code
        if told["rows"]:  # what a part needs may not be installed
            stored[name] = told
        if options.write:
            STORED.write_text(json.dumps(stored, indent=1) + "\n", "utf-8")
    if options.write:
        PAGE.write_text(page(stored), "utf-8")
        if "scan" in stored:
            SCALE.write_text(scale(stored, SCALE.read_text("utf-8")), "utf-8")
    return missed


HEAD = """\
# Performance

Written by `python benchmarks/run.py --write`, which measures dumpstart and its peers in one run.
It takes about a quarter of an hour on two idle cores.
Run it on your machine: only the ratios travel.
A ratio says how many times better than the peer dumpstart is, whatever the unit.

```sh
pip install -e ".[parquet]" --group test  # brings the peers
python benchmarks/run.py
```

kdmp-parser has no working wheel for Python 3.13, and the C walk needs gcc.
Snapshots need QEMU, clang and lld.
What is not there is left out, and the row says so.
"""


if __name__ == "__main__":
    sys.exit(main())
