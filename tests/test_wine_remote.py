"""A debugger that only ran ``.server``, joined from a Windows Python 3.13 outside of it.

The host stands for WinDbg: it idles at its prompt, serves who joined, and waits for events while
the machine runs.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import pytest
from kd import expect
from kd.machine import Machine
from kd.scenarios import SCENARIOS
from kd.simulator import guest, simulated
from wine import session
from wine.provision import windows_path

import analyzer

pytestmark = pytest.mark.live
SERVER = "tcp:port={}"


class Joined(NamedTuple):
    """What came of it."""

    path: Path
    output: str
    answers: dict[str, str]
    report: dict


def join(name: str, folder: Path, *options: str) -> Joined:
    """One session of the host, joined by ``dumpstart capture``."""
    wine = session.provided(13)
    port = 5005 + wine.number
    path, done = folder / f"{name}.jsonl", folder / "done"
    for old in (path, done):
        old.unlink(missing_ok=True)
    host_folder = folder / f"host-{time.monotonic_ns()}"
    host_folder.mkdir()
    commands = [".reload", f".server tcp:port={port}", f"@serve {windows_path(done)}"]
    commands += ["r rip, eax", "bl", "k", "bc *", "qd"]
    with simulated(name, tty=wine.port) as target:
        session.stop_server(wine)
        host = session.start_host(wine, commands, host_folder)
        try:
            time.sleep(6)
            words = [f"tcp:server=127.0.0.1,port={port}", "--output", windows_path(path)]
            arguments = ["-m", "analyzer", "capture", *words, "--timeout", "40", *options]
            output = session.run_program(wine, wine.python, arguments, limit=80)
        finally:
            done.touch()
            printed = session.finish(wine, host, limit=60)
        report = target.end()
    return Joined(path, output, dict(zip(commands, session.answers(commands, printed))), report)


def test_a_joined_debugger_gives_the_whole_capture(tmp_path: Path) -> None:
    """Every call, status and exact duration; the host stays at its prompt."""
    calls = len(SCENARIOS["failing"].calls)
    done = session.twice(lambda: join("failing", tmp_path, "--calls", str(calls)))
    case = analyzer.open(str(done.path))
    assert "One thing that went wrong: Dump_Start of dump_beta.sys" in " ".join(done.output.split())
    expect.calls("failing", case)
    expect.findings("failing", case)
    expect.runs_on("failing", done.report)


def test_it_stands_at_the_failing_return(tmp_path: Path) -> None:
    """In the host that was joined, with the status in its register and no breakpoint left."""
    done = session.twice(lambda: join("failing", tmp_path, "--stop-on", "failure"))
    machine = Machine(guest()[1], SCENARIOS["failing"])
    registers = done.answers["r rip, eax"]
    assert "eax=c0000001" in registers
    place = int(registers.split("rip=")[1].split()[0], 16)
    assert machine.crashdmp.address("StartFilterDrivers") < place
    assert place < machine.crashdmp.address("TransferThroughFilters")
    assert done.answers["bl"] == ""
    lines = done.output.splitlines()
    at = lines.index("Dump_Start of dump_beta.sys returned 0xc0000001 (STATUS_UNSUCCESSFUL)")
    names = [line.strip().partition("+")[0] for line in lines[at + 1 : at + 6]]
    assert names == ["crashdmp", "crashdmp", "crashdmp", "ntkrnlmp", "ntkrnlmp"]
    assert not done.report["standing"]  # the host let it run
    assert done.report["breakpoints"] == []
