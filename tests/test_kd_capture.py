"""The capture engine on the simulated machine: real code runs, every figure is the scenario's.

The same scenarios run through the real debugger in ``test_kd_debuggers.py``; here nothing but the
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
from live_command import capture_here

import analyzer
from analyzer.live.callstack import CallStack
from analyzer.live.run import Run
from analyzer.sources.capture_format import read


class Captured(NamedTuple):
    """One scenario, captured, in a file a boot."""

    case: Any
    session: MachineSession
    run: Run


_DONE: dict[str, Captured] = {}


def captured(name: str, folder: Path) -> Captured:
    """Captures each scenario once."""
    if name not in _DONE:
        session = MachineSession(Machine(guest()[1], SCENARIOS[name]))
        path, limit = str(folder / f"{name}.jsonl"), "2" if name == "hang" else "20"
        options = ["machine", "--output", path, "--timeout", limit]
        run = capture_here(*options, say=lambda _: None, session=session)
        _DONE[name] = Captured(analyzer.open(*run.files), session, run)
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
    for image in session.machine.visible:
        code = session.machine.read(image.base + 0x1000, 0x400)
        assert code == bytes(image.memory[0x1000:0x1400])
    assert session.machine.run(20_000) == "ran"


def test_one_capture_a_boot(folder: Path) -> None:
    """Addresses of the boot that is over are dropped, and the next one is watched anew."""
    done = captured("reboot", folder)
    assert [Path(name).name for name in done.run.files] == ["reboot.jsonl", "reboot-2.jsonl"]
    for name in done.run.files:
        expect.calls("normal", analyzer.open(name))
    assert '"reason":"the target rebooted"' in Path(done.run.files[0]).read_text()


def test_a_filter_that_is_unloaded_is_watched_no_more(folder: Path) -> None:
    """And that is told, for each of its callbacks."""
    text = Path(captured("dropped", folder).run.files[0]).read_text()
    assert text.count("its driver was unloaded") == 5


def test_the_stack_at_an_entry(folder: Path) -> None:
    """From the callback through crashdmp to the kernel's loop, as the guest's code calls."""
    done = captured("failing", folder)
    machine = done.session.machine
    facts = [line.fact for line in read(done.run.files[0])]
    call = next(fact for fact in facts if fact and fact.get("fact") == "call")
    places = [int(address, 16) for address, _ in call["stack"]]
    crashdmp, nt = machine.crashdmp, machine.nt
    routines = [
        machine.filters["dump_alpha.sys"].address("DumpStart"),
        *(crashdmp.address(f"{name}") for name in ("StartFilterDrivers", "CrashdmpWrite")),
        crashdmp.address("CrashdmpRequest"),
        *(nt.address(name) for name in ("KeBugCheckEx", "KiSystemStartup")),
    ]
    assert places[0] == routines[0]
    starts = [CallStack(done.session).begins(place) for place in places]
    assert starts[1:] == routines[1:]  # the callback itself is a leaf: it has no unwind data


def test_what_a_write_was_given(folder: Path) -> None:
    """Offset and MDL of each write, as the guest's crashdmp passes them."""
    facts = [line.fact for line in read(captured("normal", folder).run.files[0])]
    writes = [fact for fact in facts if fact and "mdl" in fact]
    assert [(fact["offset"], fact["mdl"]["bytes"]) for fact in writes] == [
        *[("0x1000", 0x10000)] * 2,
        *[("0x11000", 0x10000)] * 2,
    ]


def test_writes_are_summed_up(tmp_path: Path) -> None:
    """One line for all of them, with their bytes and times."""
    said: list[str] = []
    session = MachineSession(Machine(guest()[1], SCENARIOS["normal"]))
    options = ["machine", "--output", str(tmp_path / "c.jsonl"), "--timeout", "20"]
    capture_here(*options, say=said.append, session=session)
    lines = [" ".join(line.split()) for line in said if "Dump_Write" in line]
    # 131,072 bytes in 1 ms and 1.5 ms
    assert "dump_alpha.sys Dump_Write 2 calls, 0.1 MB, 52.4 MB/s in the callback" in lines
    assert "dump_alpha.sys Dump_Write below 10 ms: 2" in lines
