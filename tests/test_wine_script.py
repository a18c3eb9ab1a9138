"""``dumpstart script`` run by the real engine on the simulated machine; the package reads its log.

The log is what DbgEng's ``.logopen`` wrote; the expected values are the scenario's.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kd.machine import DISK, Machine
from kd.scenarios import SCENARIOS, TICKS_PER_SECOND
from kd.simulator import guest, simulated
from wine import session
from wine.captures import capture
from wine.provision import windows_path

import analyzer
from analyzer.cli import main

pytestmark = pytest.mark.live
SCENARIO = SCENARIOS["failing"]
#: ticks that pass in the simulated machine at each stop
STOP_TICKS = 40_000
#: between the two readings of the clock the engine stops the machine for a single step and for the
#: return: half a stop after the entry, a whole one, half a stop before the return
OVERHEAD = 2 * STOP_TICKS


class Ran(NamedTuple):
    """A capture, and one run of the script that was made of it."""

    capture: Any
    case: Any
    report: dict[str, Any]
    machine: Machine
    script: Path


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Captures, writes a script of that capture, runs it without Python in the engine."""
    return session.twice(lambda: run_script(tmp_path_factory.mktemp("script")))


def run_script(folder: Path) -> Ran:
    """One capture, one script."""
    wine, machine = session.provided(), Machine(guest()[1], SCENARIO)
    captured = capture("failing", folder)
    script, log = folder / "script.txt", folder / "session.log"
    options = ["--writes", "all", "--tsc-hz", str(TICKS_PER_SECOND), "--log", windows_path(log)]
    assert main(["script", str(captured.files[0]), *options, "--output", str(script)]) == 0
    done = machine.nt.address("KiRequestDone")
    commands = [".reload", f"$$<{windows_path(script)}", f"bp {done:#x}", "g", ".logclose"]
    with simulated("failing", tty=wine.port, stop_ticks=STOP_TICKS) as target:
        session.debug(wine, [*commands, "bc *", "qd"])
        report = target.end()
    (written,) = folder.glob("session_*.log")
    return Ran(captured.case, analyzer.open(str(written)), report, machine, script)


def test_the_log_tells_what_the_capture_tells(ran: Ran) -> None:
    """Both callbacks tables have the same rows; clocks and durations differ with the debugger."""

    def rows(case: Any) -> list[tuple[Any, ...]]:
        return [
            (r.filter, r.callback, r.routine, r.symbol, r.call, r.was_called, r.status, r.extension)
            for r in case.records["callbacks"]
            if r.was_called == "yes"
        ]

    assert rows(ran.case) == rows(ran.capture)
    assert len(rows(ran.case)) == len(SCENARIO.calls)


def test_every_call_is_in_the_log(ran: Ran) -> None:
    """Filter, callback, status and clock of every call, in the machine's order."""
    seen = [
        (c.filter, c.callback, c.return_clock - c.entry_clock - OVERHEAD, c.status)
        for c in ran.case.records["callbacks"]
        if c.was_called == "yes"
    ]
    assert seen == [(c.filter, c.callback, c.ticks, c.status) for c in SCENARIO.calls]


def test_durations_are_bounded_from_above(ran: Ran) -> None:
    """Without calibration a duration lies between nothing and what was measured."""
    nanoseconds = 10**9 // (TICKS_PER_SECOND // 1000)  # of 1000 ticks
    for row, call in zip(ran.case.records["callbacks"], SCENARIO.calls):
        highest = (call.ticks + OVERHEAD) * nanoseconds // 1000
        assert (row.duration_low_ns, row.duration_high_ns) == (0, highest)


def test_extensions_are_in_the_log(ran: Ran) -> None:
    """Each filter's FILTER_EXTENSION as its Dump_Start was given it."""
    rows = {row.filter: row for row in ran.case.records["extensions"]}
    assert list(rows) == list(ran.machine.filters)
    for name, row in rows.items():
        for field in set(DISK) - {"gpt_disk_id"}:
            assert getattr(row, field) == DISK[field], field
        data = ran.machine.filters[name].address("DumpData")
        assert (row.dump_data, row.size, row.flags) == (data, 0x58, 0)


def test_the_failing_status_gives_its_finding(ran: Ran) -> None:
    """0xC0000001 from Dump_Start is a finding about that filter."""
    found = [f for f in ran.case.records["findings"] if str(f.subject).startswith("dump_beta")]
    assert any("0xC0000001" in f.text or "0xc0000001" in f.text for f in found)


def test_the_log_has_an_end(ran: Ran) -> None:
    """The engine writes that it closes the log; nothing was cut, and every callback was found."""
    rules = {f.rule for f in ran.case.records["findings"]}
    assert not rules & {"capture-cut", "capture-not-armed", "capture-damaged"}


def test_a_filter_that_is_loaded_later(ran: Ran, tmp_path: Path) -> None:
    """The engine keeps a breakpoint in a module that is not there, and sets it when it loads."""
    wine, scenario = session.provided(), SCENARIOS["late"]
    script, log = tmp_path / "late.txt", tmp_path / "late.log"
    text = ran.script.read_bytes().decode()
    script.write_bytes(
        re.sub(r"\.logopen /t .*", lambda _: f".logopen {windows_path(log)}\r", text).encode()
    )
    done = Machine(guest()[1], scenario).nt.address("KiRequestDone")
    go = ["g"] * len(scenario.requests)
    commands = [".reload", f"$$<{windows_path(script)}", f"bp {done:#x}", *go, ".logclose"]

    def run() -> None:
        with simulated("late", tty=wine.port, stop_ticks=STOP_TICKS) as target:
            session.debug(wine, [*commands, "bc *", "qd"])
            target.end()

    session.twice(run)
    case = analyzer.open(str(log))
    calls = [
        (c.filter, c.callback, c.status) for c in case.records["callbacks"] if c.was_called == "yes"
    ]
    assert calls == [(c.filter, c.callback, c.status) for c in scenario.calls]
    assert "capture-not-armed" not in {f.rule for f in case.records["findings"]}


def test_the_machine_runs_on(ran: Ran) -> None:
    """No statement of the script kept the machine standing, no breakpoint is left."""
    made = [(name, callback, status) for name, callback, status, _ in ran.report["made"]]
    assert made == [(c.filter, c.callback, c.status) for c in SCENARIO.calls]
    assert not ran.report["standing"]
    assert ran.report["breakpoints"] == []
    assert ran.report["ran_since_resume"] > 0
