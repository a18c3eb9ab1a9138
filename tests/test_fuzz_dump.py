"""Damaged dumps end in a result or in one of the package's own errors, with little work and memory.

What runs here is a seeded part of it; ``python benchmarks/fuzz.py`` does all of it.
"""

from __future__ import annotations

import random
import struct
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest
from conftest import make, shared_names
from counting import calls
from fuzzing import (
    Damage,
    HangError,
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
from analyzer.absence import Absent
from analyzer.dumpstack import walk
from analyzer.records import Module
from analyzer.target import Target

#: of functions, for a file of some megabytes
MOST_CALLS = 2_000_000
KERNEL_DUMPS = (
    "dmp/CriticalRocket_DriverProblems__111417-28234-01.dmp",
    "dmp/FrancoTrone64__082325-12593-01.dmp",
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


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNEL_DUMPS)
def test_damaged_real_dumps_end_in_a_result_or_an_error(
    name: str, tmp_path: Path, shared_sample: Callable[[str], Path]
) -> None:
    """Cuts, flipped bits and hostile words in each real kernel dump; fewer where it has events."""
    numbers = (6, 8, 16) if "triage" in name else (20, 30, 40)
    survive(shared_sample(name), tmp_path, numbers)


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


def hang() -> None:
    """Never ends."""
    while True:
        pass


def test_bounds_are_real() -> None:
    """The harness itself ends a hang, and a request for too much memory."""
    if sys.platform == "win32":
        pytest.skip("no signals and resource limits there")
    with pytest.raises(HangError), bounded(hang=0.05):
        hang()
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


def bounded_result(path: Path) -> set[str]:
    """Rules that a hostile file raises, made with the work and memory of any other file."""
    ends: list[str] = []
    with bounded():
        work = calls(lambda: ends.append(examine(path)))
    assert ends == ["result"]
    assert work < MOST_CALLS
    return {row.rule for row in analyzer.open(path).records["findings"]}


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["x64", "x86-pae"])
def test_pages_full_of_look_alikes_end_the_scan(arch: str, tmp_path: Path) -> None:
    """8 MB in which every 16 bytes read as the version and the partition word of a filter node."""
    spec = Spec(arch, 6, "win8", "nodes-only", filler_pages=2000)
    built = build(spec)
    start = len(built.data) - built.data[::-1].find(b"DumpBlob"[::-1]) - 8 - 2000 * 4096
    words = struct.pack("<QQ", 0x18, 2) * (2000 * 256)
    path = tmp_path / "alike.dmp"
    path.write_bytes(built.data[:start] + words + built.data[start + len(words) :])
    assert "search-stopped" in bounded_result(path)


@pytest.mark.slow
def test_minidump_blocks_full_of_look_alikes_end_the_scan(tmp_path: Path) -> None:
    """The same in a minidump, as one block of 2 MB at the end of the file."""
    data = bytearray(build(Spec("x64", 4, "win8", "bare")).data)
    words = struct.pack("<QQ", 0x18, 2) * (1 << 17)
    at = len(data)
    struct.pack_into("<II", data, 0x2078, at, 1)
    data += struct.pack("<QII", 0xFFFF_C000_0000_0000, at + 16, len(words)) + words
    path = tmp_path / "alike.dmp"
    path.write_bytes(data)
    assert "search-stopped" in bounded_result(path)


@pytest.mark.slow
def test_range_table_as_long_as_the_file_is_cut_short(tmp_path: Path) -> None:
    """48 MB of ranges, each of one page: no more are kept than any real table has."""
    data = bytearray(build(Spec("x64", 10, "win8")).data[:0x2030])
    # RDMP header behind 0x2000: the offset of the first page at 0x18, the page total at 0x28
    struct.pack_into("<Q", data, 0x2018, 1 << 40)
    struct.pack_into("<Q", data, 0x2028, 1 << 40)
    path = tmp_path / "ranges.dmp"
    path.write_bytes(data + struct.pack("<QQ", 0x100, 1) * (3 << 20))
    assert "dump-map-inconsistent" in bounded_result(path)


def test_a_huge_module_name_is_damage_and_not_kept(tmp_path: Path) -> None:
    """A driver name that states 32,767 characters: thousands of them would be gigabytes."""
    data = bytearray(build(Spec("x64", 4, "win8")).data)
    at = data.find("disk.sys".encode("utf-16-le"))
    data += bytes(2 * 0x7FFF)  # so that the file could hold it
    while data[at - 4 : at - 2] == b"\\\0" or (data[at - 1] == 0 and data[at - 2] > 0x20):
        at -= 2  # back to the start of the path, before which its length stands
    struct.pack_into("<I", data, at - 4, 0x7FFF)
    path = tmp_path / "name.dmp"
    path.write_bytes(data)
    bounded_result(path)
    names = [row.name for row in analyzer.open(path).records["modules"]]
    assert [name.reason for name in names if isinstance(name, Absent)] == ["out-of-range"]


class Endless(Target):
    """Memory that is all kernel pointers, each another one, none of them to a filter."""

    build = 19041
    architecture = "x64"

    def read(self, address: int, size: int) -> bytes:
        """Words of 0xFFFFC000_00000000 and a number that depends on the address."""
        return b"".join(
            struct.pack("<Q", 0xFFFF_C000_0000_0000 + (at & 0xFFFF_FFF8) * 0x40)
            for at in range(address, address + size, 8)
        )


@pytest.mark.slow
def test_an_image_of_pointers_ends_the_search_for_the_dump_stack() -> None:
    """2 MB of crashdmp.sys, each word a pointer to memory full of pointers."""
    base = 0xFFFF_F800_0000_0000
    rows = (
        ("crashdmp.sys", base, 1 << 21, "crash dump driver"),
        ("dump_a.sys", base + (1 << 28), 1 << 16, "dump filter"),
    )
    modules = [
        make(Module, name=name, base=at, end=at + size, size=size, role=role)
        for name, at, size, role in rows
    ]
    modules = [module._replace(stack="crash", loaded=True) for module in modules]
    found: list[object] = []
    with bounded():
        work = calls(lambda: found.extend(walk.rings(Endless(), modules, Absent("not-found"))))
    assert found == []
    assert work < MOST_CALLS
