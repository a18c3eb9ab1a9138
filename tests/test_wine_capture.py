"""``dumpstart capture`` through the real pykd and DbgEng, on the simulated machine.

Everything between the command and the wire is what a user has on Windows: CPython 3.9, pykd
0.3.4.15, DbgEng 10.0.15063, the KD protocol. The machine behind the wire is ``kd/``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kd import expect
from kd.machine import Machine
from kd.scenarios import SCENARIOS
from kd.simulator import guest, simulated
from wine import session
from wine.provision import windows_path

import analyzer

pytestmark = pytest.mark.live


class Captured(NamedTuple):
    """One scenario, captured."""

    case: Any
    report: dict[str, Any]
    output: str


_DONE: dict[str, Captured] = {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the captures lie."""
    return tmp_path_factory.mktemp("captures")


def captured(name: str, folder: Path) -> Captured:
    """Captures each scenario once: until its calls have returned, or the time is up."""
    if name not in _DONE:
        _DONE[name] = session.twice(lambda: capture(name, folder))
    return _DONE[name]


def capture(name: str, folder: Path) -> Captured:
    """One session of the engine."""
    wine, scenario = session.provided(), SCENARIOS[name]
    path, symbols = folder / f"{name}.jsonl", folder / "no-symbols"
    symbols.mkdir(exist_ok=True)
    count = len(scenario.calls) + len(scenario.late)  # of a late filter DriverEntry is a call too
    hangs = any(call.hangs for call in scenario.calls)
    options = ["--connect", session.COM1, "--symbols", windows_path(symbols)]
    options += ["--output", windows_path(path), "--calls", str(count)]
    options += ["--timeout", "15" if hangs else "60"]
    with simulated(name, tty=wine.port) as target:
        session.stop_server(wine)
        arguments = ["-m", "analyzer", "capture", *options]
        output = session.run_program(wine, wine.python, arguments, limit=90)
        report = target.end()
    return Captured(analyzer.open(str(path)), report, output)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_call_of_the_scenario(name: str, folder: Path) -> None:
    """Filter, callback, status, processor and exact duration of every call, in order."""
    expect.calls(name, captured(name, folder).case)


@pytest.mark.parametrize("name", ["normal", "hibernation", "processors"])
def test_extension_of_every_filter(name: str, folder: Path) -> None:
    """FILTER_EXTENSION as Dump_Start was given it, field by field."""
    filters = Machine(guest()[1], SCENARIOS[name]).filters
    expect.extensions(name, captured(name, folder).case, filters)


@pytest.mark.parametrize("name", expect.FINDINGS)
def test_findings(name: str, folder: Path) -> None:
    """A failing status and a call that never returns are found, and nothing that is not there."""
    expect.findings(name, captured(name, folder).case)


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_machine_runs_on(name: str, folder: Path) -> None:
    """After the session no breakpoint is left and the machine is not left standing."""
    done = captured(name, folder)
    expect.runs_on(name, done.report)
    assert done.report["unknown"] == []
