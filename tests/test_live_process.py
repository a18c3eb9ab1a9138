"""The process that the user sees: it always ends, and the target always runs on.

Through ntoseye, natively, on the simulated machine; ``test_wine_process.py`` does the same through
DbgEng and pykd.
"""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from kd.natively import home_with_symbols
from kd.simulator import TESTS, simulated

pytestmark = pytest.mark.live


def start(where: Path, output: Path, home: Path, *options: str) -> subprocess.Popen[str]:
    """``dumpstart capture`` of a socket."""
    return command(home, "capture", str(where), "--output", str(output), *options)


def command(home: Path, *words: str) -> subprocess.Popen[str]:
    """``dumpstart`` with these words."""
    return subprocess.Popen(
        [sys.executable, "-m", "analyzer", *words],
        env={**os.environ, "HOME": str(home)},
        cwd=TESTS.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """What is printed up to a line with these words."""
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if words in line:
            return printed
    raise AssertionError(f"'{words}' was not printed:\n{printed}")


@pytest.fixture
def silent(tmp_path: Path) -> Any:
    """A socket that accepts and says nothing."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "silent"))
    listener.listen(1)
    yield tmp_path / "silent"
    listener.close()


@pytest.fixture(params=["capture", "dryrun"])
def wait(request: pytest.FixtureRequest, silent: Path, tmp_path: Path) -> Any:
    """Starts a command that waits for the silent socket; takes seconds."""

    def begin(seconds: str) -> subprocess.Popen[str]:
        if request.param == "capture":
            return start(silent, tmp_path / "x.jsonl", tmp_path, "--timeout", seconds)
        return command(tmp_path, "dryrun", "--connect", str(silent), "--timeout", seconds)

    return begin


def test_nobody_at_the_other_end(wait: Any, tmp_path: Path) -> None:
    """--timeout ends the wait with a sentence, and no file is left."""
    began = time.monotonic()
    process = wait("5")
    printed, _ = process.communicate(timeout=30)
    assert 5 <= time.monotonic() - began < 8
    assert process.returncode == 2
    assert len(printed.strip().splitlines()) == 1
    assert "5 s" in printed
    assert not (tmp_path / "x.jsonl").exists()


def test_ctrl_c_while_nobody_answers(wait: Any) -> None:
    """Ctrl+C ends the wait at once."""
    process = wait("60")
    time.sleep(2)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=30)
    assert time.monotonic() - began < 2, printed
    assert process.returncode not in (0, None)


@pytest.mark.parametrize("number", [None, signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_dry_run_always_ends(number: signal.Signals | None, tmp_path: Path) -> None:
    """Its time limit, Ctrl+C and the rest, while the emulator stands still; the target runs on."""
    home, line = home_with_symbols(tmp_path), tmp_path / "line"
    limit = "60" if number else "8"
    with simulated("normal", socket=line, patience=60) as target:
        began = time.monotonic()
        process = command(home, "dryrun", "--connect", str(line), "--timeout", limit)
        while not (emulators := started(line, b"launch.py")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        os.kill(emulators[0], signal.SIGSTOP)
        time.sleep(0.3)  # the parent knows of it by then: what stands still heeds no closed pipe
        if number:
            began = time.monotonic()
            process.send_signal(number)
        printed, _ = process.communicate(timeout=40)
        took = time.monotonic() - began
        deadline = time.monotonic() + 20
        while started(line, b"analyzer") and time.monotonic() < deadline:
            time.sleep(0.1)
        assert started(line, b"analyzer") == []
        report = target.end()
    if number is None:
        assert 8 <= took < 14
        assert process.returncode == 2
        assert re.fullmatch(r"dumpstart: not done in 8 s; the target at .* runs on .*\n", printed)
    elif number != signal.SIGKILL:
        assert took < 2
        assert (process.returncode, printed) == (130, "dumpstart: stopped\n")
    assert not report["standing"]
    assert report["breakpoints"] == []
    assert report["ran_since_resume"] > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_the_target_runs_on(number: signal.Signals, tmp_path: Path) -> None:
    """Whatever ends the command, also the sudden death of its process."""
    output = tmp_path / "x.jsonl"
    line = tmp_path / "line"
    with simulated("normal", socket=line) as target:
        process = start(line, output, home_with_symbols(tmp_path), "--timeout", "60")
        read_until(process, "Dump_Start")
        process.send_signal(number)
        process.communicate(timeout=30)
        deadline = time.monotonic() + 20
        while '"fact":"end"' not in output.read_text() and time.monotonic() < deadline:
            time.sleep(0.1)
        report = target.end()
    assert report["breakpoints"] == []
    assert not report["standing"]
    assert report["ran_since_resume"] > 0
    assert '"reason":"stopped by the user"' in output.read_text()


def test_nobody_at_the_other_end_of_kdnet(tmp_path: Path) -> None:
    """KDNET through ntoseye listens, and --timeout ends that, too; the key is not printed."""
    connect = Path("net:port=50987,key=11.22.33.44")
    options = ["--backend", "ntoseye", "--timeout", "3"]
    process = start(connect, tmp_path / "x.jsonl", tmp_path, *options)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "at 'net:port=50987,key=...'" in printed
    assert "11.22" not in printed
    assert len(printed.splitlines()) == 1


def test_it_stands_until_it_is_told_to_go_on(tmp_path: Path) -> None:
    """--stop-on failure: the status and the stack, then Ctrl+C; the answer's exit code is 1."""
    output, line = tmp_path / "x.jsonl", tmp_path / "line"
    with simulated("failing", socket=line) as target:
        home = home_with_symbols(tmp_path)
        process = start(line, output, home, "--timeout", "60", "--stop-on", "failure")
        printed = read_until(process, "the target stands")
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
        report = target.end()
    assert (
        "Dump_Start of dump_beta.sys returned 0xc0000001 (STATUS_UNSUCCESSFUL)\n  crashdmp"
        in printed
    )
    assert "Dump_Start of dump_beta.sys failed; 2 calls captured" in rest
    assert process.returncode == 1
    assert report["breakpoints"] == []
    assert not report["standing"]
    made = [call[1] for call in report["made"]]
    assert made[:2] == ["Dump_Start", "Dump_Start"]
    assert len(made) > 2  # it went on behind the return


@pytest.mark.parametrize(
    "words", [["capture", "LINE", "--output", "FILE"], ["dryrun", "--connect", "LINE"]]
)
@pytest.mark.parametrize("seed", range(int(os.environ.get("DUMPSTART_KILLS", "6"))))
def test_at_any_moment(seed: int, words: list[str], tmp_path: Path) -> None:
    """A signal at a random moment, from the start of the command on: the target runs afterwards."""
    seeded = random.Random(seed)
    number = seeded.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
    line = tmp_path / "line"
    places = {"LINE": str(line), "FILE": str(tmp_path / "x.jsonl")}
    with simulated("failing", socket=line) as target:
        given = [places.get(word, word) for word in words]
        process = command(home_with_symbols(tmp_path), *given, "--timeout", "60")
        with suppress(subprocess.TimeoutExpired):
            process.wait(seeded.uniform(0.2, 5))
        process.send_signal(number)
        process.communicate(timeout=60)
        deadline = time.monotonic() + 30
        while started(line, b"analyzer") and time.monotonic() < deadline:
            time.sleep(0.1)
        report = target.end()
    assert report["breakpoints"] == [], (number, seed)
    assert not report["standing"], (number, seed)


def started(line: Path, word: bytes) -> list[int]:
    """Processes of a command at this socket that have a word in their command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if word in (folder / "cmdline").read_bytes():
                environment = (folder / "environ").read_bytes()
                is_ours = b"HOME=" + str(line.parent).encode() in environment
                found += [int(folder.name)] if is_ours else []
    return found
