"""Damages dumps at random and tells what became of them: ``python benchmarks/fuzz.py [options]``.

For each dump: 200 cuts, 2,000 copies with flipped bits, 2,000 with hostile words at places that
matter. Each copy must end in a result or in one of the package's own errors, within six seconds
and 300 MiB of private memory. Files that do not are kept in ``--keep``; the exit code then is 1.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "sample-traces")]

from fuzzing import Damage, Tally, bit_flips, cuts, hostile_words, places  # noqa: E402
from generator import ARCHS, DUMP_TYPES, VARIANTS, Spec, build  # noqa: E402

SECONDS = 6.0  #: what one copy may take
KERNEL_DUMPS = (b"PAGEDU64", b"PAGEDUMP")


def inputs(names: list[str], folder: Path) -> list[tuple[str, Path]]:
    """(name, file): real dumps under a folder or file named, and one synthetic dump a type."""
    found = []
    for name in names:
        files = sorted(Path(name).rglob("*")) if Path(name).is_dir() else [Path(name)]
        files = [file for file in files if file.is_file()]
        found += [(f.name, f) for f in files if f.read_bytes()[:8] in KERNEL_DUMPS]
    if names:
        return found
    layouts = ("win8", "newest", "vista")
    for number, dump_type in enumerate(DUMP_TYPES):
        for arch in ARCHS:
            layout = layouts[number % 3]
            variant = (
                "nodes-only" if dump_type == 6 else "worst" if dump_type in (5, 1) else "healthy"
            )
            if VARIANTS[variant].applies(arch, dump_type, layout):
                file = folder / f"{arch}-{dump_type}-{layout}-{variant}.dmp"
                file.write_bytes(build(Spec(arch, dump_type, layout, variant)).data)
                found.append((file.name, file))
    return found


def main() -> int:
    """Runs all; prints a line per dump."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", help="real dumps; none: one synthetic dump a type")
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--flips", type=int, default=2000)
    parser.add_argument("--words", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for the files that fail")
    options = parser.parse_args()
    faults, slow = 0, 0
    with tempfile.TemporaryDirectory(prefix="dumpstart-fuzz-") as temporary:
        for name, path in inputs(options.paths, Path(temporary)):

            def keep(damage: Damage, error: BaseException, name: str = name) -> None:
                nonlocal faults
                faults += 1
                print(f"FAULT {name}: {damage.how}")
                trace = traceback.format_exception(type(error), error, error.__traceback__)
                print("".join(trace[-4:]), flush=True)
                if options.keep:
                    options.keep.mkdir(parents=True, exist_ok=True)
                    (options.keep / f"{faults}-{name}").write_bytes(damage.data)

            data, source = path.read_bytes(), random.Random(f"{options.seed} {name}")
            tally, start = Tally(Path(temporary), keep), time.monotonic()
            tally.run(name, cuts(data, options.cuts, source))
            tally.run(name, bit_flips(data, options.flips, source))
            tally.run(name, hostile_words(data, places(path), options.words, source))
            slow += tally.worst > SECONDS
            taken = time.monotonic() - start
            print(f"{name}: {dict(sorted(tally.outcomes.items()))}, {taken:.0f} s, ", end="")
            print(f"slowest {tally.worst:.2f} s ({tally.worst_how})", flush=True)
    print(f"{faults} faults, {slow} dumps with a copy that took more than {SECONDS} s")
    return int(bool(faults or slow))


if __name__ == "__main__":
    sys.exit(main())
