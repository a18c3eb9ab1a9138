"""``dumpstart capture`` through the real DbgEng, on the simulated machine.

Everything between the command and the wire is what a user has on Windows: CPython 3.13 or 3.9,
DbgEng 10.0.15063 through ctypes or pykd 0.3.4.15, the KD protocol. Behind the wire is ``kd/``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from kd import expect
from kd.machine import Machine
from kd.scenarios import SCENARIOS
from kd.simulator import guest
from wine import captures, session

pytestmark = pytest.mark.live
#: (backend, minor version of Python, scenario): all through what is used by default
RUNS = [
    *(("dbgeng", 13, name) for name in SCENARIOS),
    *(("dbgeng", 9, name) for name in ("failing", "late")),
    *(("pykd", 9, name) for name in ("failing", "late", "processors")),
]


@pytest.mark.parametrize(("backend", "minor", "name"), RUNS)
def test_a_scenario(backend: str, minor: int, name: str, tmp_path: Path) -> None:
    """Every call, status, duration and extension as scripted; then the machine runs on."""
    done = session.twice(lambda: captures.capture(name, tmp_path, backend, minor))
    expect.calls(name, done.case)
    if name in ("normal", "hibernation", "processors"):
        expect.extensions(name, done.case, Machine(guest()[1], SCENARIOS[name]).filters)
    expect.findings(name, done.case)
    expect.runs_on(name, done.report)
    assert done.report["unknown"] == []
    printed = [" ".join(line.split()[2:]) for line in done.output.splitlines()]
    for call in SCENARIOS[name].calls:
        if call.callback == "Dump_Start":
            assert expect.line(call) in printed
