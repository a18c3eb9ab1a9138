"""Writes the shipped samples and their MANIFEST.toml; `--check` only compares them.

Invariant: every byte of a sample comes from the generator, so anyone can make the same files again.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from typing import NamedTuple

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from generator import Spec, build

FOLDER = os.path.dirname(os.path.abspath(__file__))
KDMP = "kdmp-parser 0.7.4 (pages and translations)"
VOLATILITY = "volatility3 2.28.2 (pages and translations)"
QEMU = "the MMU of QEMU, through unicorn 2.1.4 (translations)"
NTOSEYE = "ntoseye 0.52.0 (modules, blocks, tags)"
OWN = "the generator's own truth"


class Sample(NamedTuple):
    """One shipped file."""

    name: str
    spec: Spec
    shows: str
    oracle: str


SAMPLES = (
    Sample("healthy-x64-kernel.dmp", Spec("x64", 6, "win8"),
           "kernel dump of Windows 10: BitLocker's filter and a second one, both well", KDMP),
    Sample("healthy-arm64-full.dmp", Spec("arm64", 1, "newest"),
           "complete dump of an ARM64 machine with the newest layout of the filter data", QEMU),
    Sample("healthy-x86-windows7-full.dmp", Spec("x86-pae", 1, "vista"),
           "complete dump of 32-bit Windows 7 with PAE, where offsets are published", VOLATILITY),
    Sample("healthy-x64-range.dmp", Spec("x64", 10, "newest", unaligned=True),
           "complete dump as a current debugger writes it: a table of ranges", KDMP),
    Sample("hibernation-x64-active.dmp", Spec("x64", 5, "win8", "hibernation", unaligned=True),
           "bitmap dump of a machine that has the hibernation stack loaded too", KDMP),
    Sample("mbr-x86-kernel.dmp", Spec("x86", 2, "win8", "mbr"),
           "kernel dump of the old form (type 2) without PAE; the dump disk has an MBR", QEMU),
    Sample("la57-x64-kernel.dmp", Spec("x64", 6, "newest", la57=True),
           "five levels of page tables", QEMU),
    Sample("minidump-x64.dmp", Spec("x64", 4, "win8"),
           "small dump as real ones are: only the end of the dump stack context is in it", NTOSEYE),
    Sample("minidump-x64-with-nodes.dmp", Spec("x64", 4, "win8", "node-in-blocks"),
           "small dump whose data blocks hold the filter nodes", NTOSEYE),
    Sample("minidump-x86.dmp", Spec("x86-pae", 4, "vista", "node-in-blocks"),
           "32-bit small dump", OWN),
    Sample("broken-x64-worst.dmp", Spec("x64", 6, "win8", "worst"),
           "a filter whose Dump_Start failed, with a bad extension, on a failing disk", KDMP),
    Sample("broken-x86-windows7-filter-failed.dmp", Spec("x86-pae", 6, "vista", "filter-failed"),
           "a failed Dump_Start on Windows 7, where the place of its status is published", QEMU),
    Sample("broken-x64-cut.dmp", Spec("x64", 6, "win8", "cut-half"),
           "a kernel dump that ends after half of its pages", OWN),
)  # fmt: skip


def make() -> dict[str, bytes]:
    """File name -> content, the manifest included."""
    made = {}
    rows: list[str] = [
        "# Made by `python sample-traces/make_samples.py`; do not edit.",
        'made_by = "python sample-traces/make_samples.py"',
        "",
    ]
    for sample in SAMPLES:
        built = build(sample.spec)
        made[sample.name] = built.data
        spec = ", ".join(
            f"{k} = {str(v).lower()}" if isinstance(v, (bool, int)) else f'{k} = "{v}"'
            for k, v in sample.spec._asdict().items()
        )
        rules = ", ".join(f'"{rule}"' for rule in built.truth["expected_rules"])
        rows += [
            "[[sample]]",
            f'file = "{sample.name}"',
            f'shows = "{sample.shows}"',
            f"spec = {{ {spec} }}",
            f"expected_rules = [{rules}]",
            f"size = {len(built.data)}",
            f'sha256 = "{hashlib.sha256(built.data).hexdigest()}"',
            f'oracle = "{sample.oracle}"',
            "",
        ]
    made["MANIFEST.toml"] = "\n".join(rows).encode("utf-8")
    return made


def main() -> int:
    """Writes or compares; 1 when a comparison fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    check = parser.parse_args().check
    different = 0
    made = make()
    for name, content in made.items():
        path = os.path.join(FOLDER, name)
        old = None
        if os.path.exists(path):
            with open(path, "rb") as file:
                old = file.read()
        if old == content:
            continue
        different += 1
        print(("differs: " if check else "written: ") + name)
        if not check:
            with open(path, "wb") as file:
                file.write(content)
    for name in sorted(os.listdir(FOLDER)):
        if name.endswith(".dmp") and name not in made:
            print("not in the table: " + name)
            different += 1
    print(f"{len(made)} files, {sum(map(len, made.values()))} bytes")
    return 1 if check and different else 0


if __name__ == "__main__":
    sys.exit(main())
