"""ntoseye, a debugger that others wrote, on the simulated machine: natively, without Wine.

It shows that the machine behaves towards a debugger as its scenario says, and that the package's
ntoseye backend sees all of it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from kd import expect
from kd.machine import Machine
from kd.scenarios import SCENARIOS
from kd.simulator import TESTS, guest, simulated

import analyzer


def home_with_symbols(folder: Path) -> Path:
    """A home folder where ntoseye finds nt's symbols; it would ask a server for them."""
    nt = guest()[1]["ntoskrnl.exe"]
    image = nt.image.read_bytes()
    at = image.index(b"RSDS")
    (age,) = struct.unpack_from("<I", image, at + 20)
    key = f"{uuid.UUID(bytes_le=image[at + 4 : at + 20]).hex.upper()}{age:X}"
    place = folder / ".ntoseye" / "symbols" / "ntkrnlmp.pdb" / key
    place.mkdir(parents=True)
    shutil.copy(nt.pdb, place / "ntkrnlmp.pdb")
    return folder


def test_ntoseye_sees_the_calls_of_the_scenario(tmp_path: Path) -> None:
    """Each call's routine, status, extension and exact cost; afterwards the machine runs on."""
    scenario = SCENARIOS["failing"]
    machine = Machine(guest()[1], scenario)
    routines = {
        image.address(callback.replace("_", "")): (name, callback)
        for name, image in machine.filters.items()
        for callback in ("Dump_Start", "Dump_Write", "Dump_Finish")
    }
    line = tmp_path / "line"
    count = 2 * len(scenario.calls)
    command = [sys.executable, str(TESTS / "kd" / "ntoseye_calls.py"), str(line), str(count)]
    with simulated("failing", socket=line, stop_ticks=0) as target:
        done = subprocess.run(
            [*command, *map(hex, routines)],
            env={**os.environ, "HOME": str(home_with_symbols(tmp_path))},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        report = target.end()
    told = json.loads(done.stdout)
    assert told["modules"] == [[image.name, image.base] for image in machine.images]
    clocks = [
        int(re.search(r"TSC \(0x10\) = ([0-9a-f]+)", stop["tsc"]).group(1), 16)  # type: ignore[union-attr]
        for stop in told["stops"]
    ]
    seen = [
        (*routines[enter["rip"]], clocks[2 * number + 1] - clocks[2 * number], leave["rax"])
        for number, (enter, leave) in enumerate(zip(told["stops"][::2], told["stops"][1::2]))
    ]
    assert seen == [(c.filter, c.callback, c.ticks, c.status) for c in scenario.calls]
    sizes = {
        struct.unpack_from("<I", bytes.fromhex(s["extension"]), 0x50) for s in told["stops"][::2]
    }
    assert sizes == {(0x58,)}
    assert report["breakpoints"] == []
    assert not report["standing"]
    assert report["ran_since_resume"] > 0


def run_attached(
    scenario: str, folder: Path, arguments: list[str], **environment: str
) -> dict[str, Any]:
    """Runs a Python program beside a waiting machine; returns the machine's report."""
    line = folder / "line"
    with simulated(scenario, socket=line) as target:
        done = subprocess.run(
            [sys.executable, *(word.replace("LINE", str(line)) for word in arguments)],
            env={
                **{name: value.replace("LINE", str(line)) for name, value in environment.items()},
                **{k: v for k, v in os.environ.items() if k not in environment},
                "HOME": str(home_with_symbols(folder)),
            },
            cwd=TESTS.parent,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return target.end()


@pytest.mark.parametrize(
    ("scenario", "timeout"),
    [("failing", "60"), pytest.param("hang", "10", marks=pytest.mark.live)],  # live: to save time
)
def test_capture_through_ntoseye(scenario: str, timeout: str, tmp_path: Path) -> None:
    """``dumpstart capture`` through ntoseye: every status and exact duration, and the findings."""
    path = tmp_path / "capture.jsonl"
    count = str(len(SCENARIOS[scenario].calls))
    options = ["--output", str(path), "--calls", count, "--timeout", timeout]
    options += ["--fail-on", "never"]
    arguments = ["-m", "analyzer", "capture", "LINE", *options]
    report = run_attached(scenario, tmp_path, arguments)
    case = analyzer.open(str(path))
    expect.calls(scenario, case)
    expect.findings(scenario, case)
    expect.runs_on(scenario, report)


@pytest.mark.live
def test_ntoseye_keeps_the_contract(tmp_path: Path) -> None:
    """``-m live tests/test_live_contract.py`` passes on the ntoseye backend."""
    file = str(TESTS / "test_live_contract.py")
    arguments = ["-m", "pytest", "-p", "no:cacheprovider", "-q", "-m", "live", file]
    report = run_attached("normal", tmp_path, arguments, DUMPSTART_TARGET="ntoseye:LINE")
    assert not report["standing"]
    assert report["breakpoints"] == []
