"""The benchmarks: all of them run, and the documentation shows what they measured."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import guest_machine
import pytest
from conftest import REPOSITORY

FOLDER = REPOSITORY / "benchmarks"
sys.path.insert(0, str(FOLDER))

pytest.importorskip("pyarrow")

import run as benchmarks  # noqa: E402
from results import compare, limit, table  # noqa: E402


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills by signal, reads /proc")
def test_every_part_runs_on_tiny_inputs(tmp_path):
    """One command runs every part; each gives a table in which it compares with a peer."""
    names = list(benchmarks.PARTS)
    if not all(map(shutil.which, guest_machine.TOOLS)):
        names.remove("snapshot")
    command = [sys.executable, str(FOLDER / "run.py"), "--quick", "--folder", str(tmp_path)]
    command += [f"--only={name}" for name in names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    parts = done.stdout.split("| what |")
    assert len(parts) == 1 + len(names)
    for part in parts[1:]:
        ratios = [line.split("|")[5].strip() for line in part.splitlines() if line[:2] == "| "]
        assert [ratio for ratio in ratios if ratio not in ("", "ratio")]
    # rows do not depend on how many processes there are, nor on kills
    assert "two processes instead of one | 0 |" in done.stdout
    assert "with other rows after the kills | 0 |" in done.stdout


def test_documentation_shows_what_was_measured():
    """Both pages are what the stored results make; nothing in them was typed."""
    stored = json.loads(benchmarks.STORED.read_text("utf-8"))
    assert set(stored) == set(benchmarks.PARTS)
    assert benchmarks.PAGE.read_text("utf-8") == benchmarks.page(stored)
    text = benchmarks.SCALE.read_text("utf-8")
    assert text == benchmarks.scale(stored, text)
    assert f"{stored['scan']['figures']['cases']:,} cases" in text


def test_ratio_says_how_many_times_better():
    """Twice as fast is 2, whether seconds are compared or rates; a missing peer has no verdict."""
    assert compare("x", 1.0, "s", "peer", 2.0).ratio == 2.0
    assert compare("x", 4.0, "events/s", "peer", 2.0).ratio == 2.0
    assert compare("x", 1.0, "s", "peer", 2.0, 3).met is False
    assert compare("x", 1.0, "s", "peer", 2.0, 2).met is True
    assert compare("x", 1.0, "s", "peer", None, 2).met is None


def test_table_says_what_is_missing():
    """A missed goal and a missing peer are seen in the table."""
    lines = table([compare("x", 1.0, "s", "peer", None, 2), limit("y", 3, "MiB", 2)]).splitlines()
    assert lines[2:] == [
        "| x | 1 s | peer | not measured |  | at least 2x |  |",
        "| y | 3 MiB |  |  |  | at most 2 MiB | NO |",
    ]


@pytest.mark.parametrize("name", ["memory_dumpstart", "open_dumpstart"])
def test_a_measurement_ends_when_opening_fails(name, tmp_path):
    """The thread that watches memory ends with the measurement, whatever that does."""
    path = tmp_path / "short.dmp"
    path.write_bytes(b"PAGEDU64")
    command = [sys.executable, str(FOLDER / "peers.py"), name, str(path)]
    root = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PYTHONPATH": root},
    )  # fmt: skip
    assert done.returncode == 1
    assert "too short for a kernel dump" in done.stderr
