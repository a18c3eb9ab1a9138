"""Starts the simulated machine for a test and ends it."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .image import Built, MissingCompilerError, compile_guest

TESTS = Path(__file__).resolve().parent.parent


@functools.cache
def guest() -> tuple[Path, dict[str, Built]]:
    """The compiled guest, once a test run; without compilers the test is skipped, but not in CI."""
    folder = Path(tempfile.mkdtemp(prefix="dumpstart-guest-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        return folder, compile_guest(folder)
    except MissingCompilerError as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing))
        pytest.skip(str(missing))


class Simulated:
    """A running machine; :attr:`report` is there when it has ended."""

    def __init__(self, process: subprocess.Popen[str], path: Path) -> None:
        self.process, self.path = process, path
        self.report: dict[str, Any] = {}

    def end(self, run_on: float = 0.5) -> dict[str, Any]:
        """Lets the machine run on for a moment, ends it, returns its report."""
        if not self.report:
            time.sleep(run_on)
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            assert self.path.exists(), "the simulated machine ended without a report"
            self.report = json.loads(self.path.read_text())
        return self.report


@contextmanager
def simulated(
    scenario: str,
    tty: Path | None = None,
    socket: Path | None = None,
    stop_ticks: int = 40_000,
    patience: float = 3.0,
    built: Path | None = None,
) -> Iterator[Simulated]:
    """A machine that waits for a debugger at a pseudo-terminal or a Unix socket.

    ``built``: the folder of a guest compiled otherwise.
    """
    folder = built or guest()[0]
    with tempfile.TemporaryDirectory(prefix="dumpstart-sim-") as own:
        report = Path(own) / "report.json"
        where = ["--tty", str(tty)] if tty else ["--socket", str(socket)]
        command = [sys.executable, "-m", "kd.target", scenario, str(folder), str(report), *where]
        process = subprocess.Popen(
            [*command, "--stop-ticks", str(stop_ticks), "--patience", str(patience)],
            cwd=TESTS,
            stdout=subprocess.PIPE,
            text=True,
        )
        machine = Simulated(process, report)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield machine
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(10)
            process.stdout.close()  # type: ignore[union-attr]
