"""The capture engine on the simulated machine: real code runs, every figure is the scenario's.

The same scenarios run through the real debugger in ``test_wine_capture.py``; here nothing but the
machine and the capture take part, so this runs everywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kd import expect
from kd.machine import Machine
from kd.scenarios import SCENARIOS
from kd.session import MachineSession
from kd.simulator import guest

import analyzer
from analyzer.live.capture import Capture
from analyzer.live.routines import Writes
from analyzer.sources.capture_format import encode


class Captured(NamedTuple):
    """One scenario, captured."""

    case: Any
    session: MachineSession
    why: str


_DONE: dict[str, Captured] = {}


def captured(name: str, folder: Path) -> Captured:
    """Captures each scenario once."""
    if name not in _DONE:
        session = MachineSession(Machine(guest()[1], SCENARIOS[name]))
        path = folder / f"{name}.jsonl"
        with path.open("w") as file:
            capture = Capture(session, lambda fact: print(encode(fact), file=file), Writes(100, 0))
            capture.begin()
            why = capture.run(20 if name != "hang" else 2)
            capture.finish(why)
        session.close()
        _DONE[name] = Captured(analyzer.open(str(path)), session, why)
    return _DONE[name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the captures lie."""
    return tmp_path_factory.mktemp("captures")


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_call_of_the_scenario(name: str, folder: Path) -> None:
    """Filter, callback, status, processor and duration of every call, in order."""
    expect.calls(name, captured(name, folder).case)


@pytest.mark.parametrize("name", ["normal", "hibernation", "processors"])
def test_extension_of_every_filter(name: str, folder: Path) -> None:
    """FILTER_EXTENSION as Dump_Start was given it, field by field."""
    done = captured(name, folder)
    expect.extensions(name, done.case, done.session.machine.filters)


@pytest.mark.parametrize("name", expect.FINDINGS)
def test_findings(name: str, folder: Path) -> None:
    """What is wrong in the scenario is found, and nothing else."""
    expect.findings(name, captured(name, folder).case)


@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_is_left_behind(name: str, folder: Path) -> None:
    """After the capture no breakpoint is in the machine and it can run on."""
    session = captured(name, folder).session
    assert session.errors == []
    for image in session.machine.images:
        code = session.machine.read(image.base + 0x1000, 0x400)
        assert code == bytes(image.memory[0x1000:0x1400])
    assert session.machine.run(20_000) == "ran"
