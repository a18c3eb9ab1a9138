"""``dumpstart capture`` of every scenario of the simulated machine, through every debugger.

Everything between the command and the wire is what a user has: on Windows CPython 3.13 or 3.9,
DbgEng 10.0.15063 through ctypes or pykd 0.3.4.15; natively ntoseye; the KD protocol. Behind the
wire is ``kd/``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from kd import expect, natively
from kd.captures import Captured
from kd.machine import Machine
from kd.scenarios import SCENARIOS
from kd.simulator import guest
from wine import captures, session

#: (backend, minor version of the Windows Python; None: this one)
DEBUGGERS = [("dbgeng", 13), ("dbgeng", 9), ("pykd", 9), ("ntoseye", None)]
#: pykd tells no change of the session, and its breakpoint objects do not outlive a reboot
NOT_SEEN = ("pykd", 9, "reboot")
#: of the engine on a second Python, which changes little: DUMPSTART_ALL asks for the others, too
ENOUGH = ("normal", "failing", "processors", "reboot")
#: the one that the ordinary run has time for
QUICK = ("ntoseye", None, "failing")
RUNS = [
    pytest.param(*run, marks=() if run == QUICK else pytest.mark.live)
    for run in ((*debugger, name) for debugger in DEBUGGERS for name in SCENARIOS)
    if run != NOT_SEEN
    and (run[:2] != ("dbgeng", 9) or run[2] in ENOUGH or "DUMPSTART_ALL" in os.environ)
]


def captured(backend: str, minor: int | None, name: str, folder: Path) -> Captured:
    """One scenario through one debugger."""
    if minor is None:
        return natively.capture(name, folder)
    return session.twice(lambda: captures.capture(name, folder, backend, minor))


@pytest.mark.parametrize(("backend", "minor", "name"), RUNS)
def test_a_scenario(backend: str, minor: int | None, name: str, tmp_path: Path) -> None:
    """Every call, status, duration and extension as scripted; then the machine runs on."""
    done = captured(backend, minor, name, tmp_path)
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
