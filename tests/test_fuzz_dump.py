"""Damaged dumps end in a result or in one of the package's own errors, soon and in little memory.

What runs here is a seeded part of it; ``python benchmarks/fuzz.py`` does all of it.
"""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

import pytest
from conftest import shared_names
from fuzzing import (
    SECONDS,
    Damage,
    SlowError,
    Tally,
    bit_flips,
    bounded,
    cuts,
    examine,
    hostile_words,
    places,
)
from generator import Spec, build

import analyzer

KERNEL_DUMPS = (
    "dmp/dbgeng_written_full.dmp",
    "dmp/dbgeng_written_mini.dmp",
    "dmp/rizinorg_rizin-testbins__triage_arm64.dmp",
    "dmp/rizinorg_rizin-testbins__triage_x64.dmp",
)
#: every dump type, every architecture, every node layout
SYNTHETIC = (
    Spec("x64", 1, "win8", "worst"),
    Spec("x86", 1, "vista"),
    Spec("x86-pae", 2, "vista"),
    Spec("x64", 4, "newest", "node-in-blocks"),
    Spec("x86", 4, "vista", "node-in-blocks"),
    Spec("arm64", 5, "newest", "worst"),
    Spec("x64", 6, "win8", "nodes-only"),
    Spec("x86-pae", 6, "win8", "nodes-only"),
    Spec("x64", 6, "newest", la57=True),
    Spec("x64", 8, "vista"),
    Spec("arm64", 9, "win8"),
    Spec("x64", 10, "win8", "nodes-only"),
)


def survive(path: Path, folder: Path, numbers: tuple[int, int, int]) -> None:
    """Examines so many cut, flipped and reworded copies of a file."""
    faults: list[tuple[Damage, BaseException]] = []
    tally = Tally(folder, lambda damage, error: faults.append((damage, error)))
    data, source = path.read_bytes(), random.Random(path.name)
    tally.run(path.name, cuts(data, numbers[0], source))
    tally.run(path.name, bit_flips(data, numbers[1], source))
    tally.run(path.name, hostile_words(data, places(path), numbers[2], source))
    for damage, error in faults:
        raise AssertionError(f"{path.name}: {damage.how}") from error
    assert sum(tally.outcomes.values()) == sum(numbers)
    assert tally.worst < SECONDS, tally.worst_how


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNEL_DUMPS)
def test_damaged_real_dumps_end_in_a_result_or_an_error(
    name: str, tmp_path: Path, shared_sample: Callable[[str], Path]
) -> None:
    """40 cuts, 40 copies with flipped bits and 60 with hostile words of each real kernel dump."""
    survive(shared_sample(name), tmp_path, (40, 40, 60))


@pytest.mark.slow
@pytest.mark.parametrize("spec", SYNTHETIC, ids=lambda spec: "-".join(map(str, spec[:4])))
def test_damaged_synthetic_dumps_end_in_a_result_or_an_error(spec: Spec, tmp_path: Path) -> None:
    """8 cuts, 12 copies with flipped bits and 40 with hostile words of each kind of dump."""
    path = tmp_path / "whole.dmp"
    path.write_bytes(build(spec).data)
    survive(path, tmp_path, (8, 12, 40))


@pytest.mark.parametrize("name", sorted(set(shared_names("dmp/*")) - set(KERNEL_DUMPS)))
def test_files_that_are_no_kernel_dumps_are_refused(
    name: str, shared_sample: Callable[[str], Path]
) -> None:
    """Through the command line: exit code 2, one sentence on stderr that names the file."""
    path = shared_sample(name)
    command = [sys.executable, "-m", "analyzer", "analyze", str(path)]
    result = subprocess.run(command, capture_output=True, check=False, text=True)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"dumpstart: {path}: ")
    assert result.stderr.count("\n") == 1
    assert result.stderr.endswith(".\n")


def test_bounds_are_real() -> None:
    """The harness itself ends a hang, and a request for too much memory."""
    if sys.platform == "win32":
        pytest.skip("no signals and resource limits there")
    with pytest.raises(SlowError), bounded(seconds=0.05):
        time.sleep(5)
    if sys.platform == "linux":
        with pytest.raises(MemoryError), bounded():
            bytearray(400 << 20)


def test_the_undamaged_dumps_give_a_result(tmp_path: Path) -> None:
    """What is damaged above is readable when whole, so damage is all that is tested."""
    for spec in SYNTHETIC:
        path = tmp_path / "whole.dmp"
        path.unlink(missing_ok=True)
        path.write_bytes(build(spec).data)
        assert len(analyzer.open(path).records["modules"]) > 5, spec


# ---- faults that this has found ----------------------------------------------------------------
def test_overlapping_blocks_of_a_minidump_cost_no_more_than_the_file(tmp_path: Path) -> None:
    """20,000 blocks that all name the same bytes at addresses next to each other are cut short."""
    data = bytearray(build(Spec("x64", 4, "win8")).data)
    # _TRIAGE_DUMP64 behind the 0x2000-byte header: DataBlocksOffset 0x78, DataBlocksCount 0x7C
    struct.pack_into("<II", data, 0x2078, len(data), 20_000)
    size = len(data)
    for number in range(20_000):
        data += struct.pack("<QII", 0xFFFF_C000_0000_0000 + number * 0x800, 0x2000, size - 0x2000)
    path = tmp_path / "blocks.dmp"
    path.write_bytes(data)
    with bounded():
        assert examine(path) == "result"
    found = {row.rule for row in analyzer.open(path).records["findings"]}
    assert "dump-map-inconsistent" in found
