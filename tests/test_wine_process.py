"""The command on a Windows Python, when nobody is at the other end of the line.

DbgEng itself cannot be woken then: only the process that the user sees can end the wait.
"""

from __future__ import annotations

import os
import re
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
from kd.simulator import simulated
from wine import session
from wine.captures import dumpstart
from wine.provision import Wine, windows_path

pytestmark = pytest.mark.live


@pytest.fixture
def silent() -> Iterator[Wine]:
    """COM1 leads to a line at which nobody is."""
    wine = session.provided(13)
    ends = os.openpty()
    tty.setraw(ends[1])
    wine.port.unlink(missing_ok=True)
    wine.port.symlink_to(os.ttyname(ends[1]))
    yield wine
    session.stop_server(wine)
    for end in ends:
        os.close(end)


@pytest.mark.parametrize(("backend", "minor"), [("dbgeng", 13), ("pykd", 9)])
def test_nobody_at_the_other_end(silent: Wine, backend: str, minor: int, tmp_path: Path) -> None:
    """--timeout 5 ends with a sentence; the time of two Pythons' start under Wine comes on top."""
    wine, path = session.provided(minor)._replace(number=silent.number), tmp_path / "x.jsonl"
    dumpstart(wine, "--version")  # Wine itself is up then
    words = [session.COM1, "--backend", backend, "--output", windows_path(path)]
    arguments = ["-m", "analyzer", "capture", *words, "--timeout", "5"]
    began = time.monotonic()
    output = session.run_program(wine, wine.python, arguments, limit=40)
    took = time.monotonic() - began
    said = re.fullmatch(
        r"dumpstart: nobody answered at .*com1.* in 5 s: is the target .*\n", output
    )
    assert said, output
    assert 5 <= took < 15
    assert not path.exists()


def test_a_wrong_connection(silent: Wine) -> None:
    """What is wrong with it, in words."""
    output = dumpstart(silent, "capture", "com:port=nosuch", "--timeout", "20")
    Path("nosuch").unlink(missing_ok=True)  # the engine opens, and so makes, a file of that name
    assert "cannot attach to 'com:port=nosuch': " in output
    assert "HRESULT 0x" in output
    assert len(output.strip().splitlines()) == 1


def test_no_engine_there(silent: Wine) -> None:
    """The path that was given, and nothing else is tried."""
    output = dumpstart(silent, "capture", session.COM1, "--engine", "C:\\no\\dbgeng.dll")
    assert output.strip() == "dumpstart: C:\\no\\dbgeng.dll: there is no such debugger engine."


def test_the_death_of_the_process_that_the_user_sees(tmp_path: Path) -> None:
    """A closed console, a killed process: the one that holds the engine lets the target run."""
    wine, path = session.provided(13), tmp_path / "x.jsonl"
    with simulated("normal", tty=wine.port) as target:
        session.stop_server(wine)
        words = [session.COM1, "--output", windows_path(path), "--timeout", "60"]
        process = session.start(wine, wine.python, ["-m", "analyzer", "capture", *words])
        assert process.stdout is not None
        for line in process.stdout:
            if b"Dump_Start" in line:
                break
        process.kill()
        deadline = time.monotonic() + 40
        while '"fact":"end"' not in path.read_text() and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(2)
        report = target.end()
        session.stop_server(wine)
        process.wait(30)  # not for the end of its output: a service of Wine may outlive the server
        process.stdout.close()
    assert '"reason":"stopped by the user"' in path.read_text()
    assert report["breakpoints"] == []
    assert not report["standing"]
