"""ntoseye, a debugger that others wrote, on the simulated machine: natively, without Wine.

It shows that the machine behaves towards a debugger as its scenario says, and that the package's
ntoseye backend keeps the contract; ``test_kd_debuggers.py`` has the captures.
"""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from kd.machine import Machine
from kd.natively import home_with_symbols, run_attached
from kd.scenarios import SCENARIOS
from kd.simulator import TESTS, guest, simulated


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


@pytest.mark.live
def test_ntoseye_keeps_the_contract(tmp_path: Path) -> None:
    """``-m live tests/test_live_contract.py`` passes on the ntoseye backend."""
    file = str(TESTS / "test_live_contract.py")
    arguments = ["-m", "pytest", "-p", "no:cacheprovider", "-q", "-m", "live", file]
    report, _ = run_attached("normal", tmp_path, arguments, DUMPSTART_TARGET="ntoseye:LINE")
    assert not report["standing"]
    assert report["breakpoints"] == []
