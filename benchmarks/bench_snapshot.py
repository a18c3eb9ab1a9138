"""Measures memory snapshots: ``python benchmarks/bench_snapshot.py [--quick]``.

The machine is that of the tests in real QEMU, its memory filled with random bytes (1 GB of 4 GB) by
writing them into the sparse file behind the machine's own pages.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

from results import ROOT, Part, compare, limit, run  # this finds the next ones

# isort: split
import guest_machine
import guest_qemu

_OURS = """
import resource, sys, time
import numpy, analyzer, analyzer.case, analyzer.sources.snapshot, analyzer.reports.text
from analyzer.snapshot import elf, kdump, raw
from analyzer import checks
def private():
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return sum(int(l.split()[1]) for l in lines if l.startswith("Private_")) / 1024
begun = time.process_time()
analyzer.open(sys.argv[1]).report()
print([time.process_time() - begun, private()])
"""
_VOLATILITY = """
import sys, time
sys.path[:0] = ["tests", "sample-traces"]
from oracles import volatility_layers
begun = time.process_time()
pages, virtual = volatility_layers(sys.argv[1], "x64", int(sys.argv[2]), "elf")
virtual.read(int(sys.argv[3]) & virtual.maximum_address, 8)
print([time.process_time() - begun])
"""


def _measured(code: str, *arguments: str) -> list[float]:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    numbers: list[float] = json.loads(done.stdout)
    return numbers


def measure(folder: Path, quick: bool) -> Part:
    """All rows about snapshots; none where the machine cannot be made."""
    missing = [tool for tool in guest_machine.TOOLS if shutil.which(tool) is None]
    if missing:
        return Part([], f"- Not measured: {', '.join(missing)} is not installed.\n")
    megabytes, noise = (256, 64) if quick else (4096, 1024)
    guest = guest_machine.make(folder)
    filled = _with_noise(guest, folder / "filled.bin", noise)
    paths = {}
    with guest_qemu.running(filled, folder, megabytes) as qemu:
        for kind in ("elf", "kdump-zlib"):
            paths[kind] = str(qemu.take(kind, folder / kind))
    ours, memory = min(_measured(_OURS, paths["elf"]) for _ in range(3))
    packed, packed_memory = min(_measured(_OURS, paths["kdump-zlib"]) for _ in range(3))
    truth = guest.truth
    arguments = (paths["elf"], str(truth["root"]), str(truth["head"]))
    (peer,) = min(_measured(_VOLATILITY, *arguments) for _ in range(3))
    size = f"{megabytes // 1024 or megabytes} {'GB' if megabytes >= 1024 else 'MB'}"
    rows = [
        limit(f"answer of an ELF core of {size}", ours, "s", 0.1),
        limit("its private memory", memory, "MiB", 60),
        limit("answer of the same machine as kdump, flattened", packed, "s", 0.5),
        limit("its private memory, as kdump", packed_memory, "MiB", 60),
        compare("open the ELF core and answer", ours, "s", "volatility3 opening it", peer),
    ]
    sizes = ", ".join(f"{kind} {os.path.getsize(path):,} bytes" for kind, path in paths.items())
    notes = f"- {sizes}. Processor seconds beyond the imports; least of three.\n"
    return Part(rows, notes)


def _with_noise(guest: guest_machine.Guest, path: Path, megabytes: int) -> guest_machine.Guest:
    source = random.Random(1)
    with open(guest.memory, "rb") as old, open(path, "wb") as new:
        while data := old.read(1 << 20):
            new.write(data)
        for _ in range(megabytes):
            new.write(source.randbytes(1 << 20))
    return guest._replace(memory=path)


if __name__ == "__main__":
    sys.exit(run(measure, __doc__.splitlines()[0]))
