"""Programs under Wine: the Windows Python and the debugger host, each run within a time limit.

Invariant: a session that does not end in time is killed with everything it started, and fails with
what it printed so far; nothing here judges what a session printed.
"""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Callable, TypeVar

import pytest

from .provision import CACHE, MissingPartError, Wine, provide, stop_server, windows_path

#: the connection of the simulated machine, in the engine's words
COM1 = "com:port=com1,baud=115200"
COMMAND = "\x1e "  # in front of each command that the host runs
T = TypeVar("T")
_LOCKS: dict[int, AbstractContextManager[None]] = {}


class FailedError(AssertionError):
    """A session ended late or not as it should; the text holds its output."""


@functools.cache
def provided(minor: int = 9) -> Wine:
    """The Wine folder; where a part is missing the test is skipped, but not in CI.

    Each process of a parallel run has a prefix of its own.
    """
    worker = re.fullmatch(r"gw(\d+)", os.environ.get("PYTEST_XDIST_WORKER", "gw0"))
    number = int(worker.group(1)) + 1 if worker else 1
    with needed():
        if sys.platform != "linux":
            raise MissingPartError("these tests run on Linux")
        with locked("provision"):
            wine = provide(minor, number)
    # one prefix has one COM1: test runs take turns; the lock goes with the process
    if number not in _LOCKS:
        _LOCKS[number] = locked(f"prefix{number}")
        _LOCKS[number].__enter__()
    return wine


@contextmanager
def needed() -> Iterator[None]:
    """Where a part is missing the test is skipped, but not in CI."""
    try:
        yield
    except MissingPartError as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing))
        pytest.skip(str(missing))


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Nobody else has it meanwhile."""
    import fcntl  # not on Windows

    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def twice(run: Callable[[], T]) -> T:
    """Runs a session, once more when it did not come about; the report shows that."""
    try:
        return run()
    except FailedError as error:
        warnings.warn(f"first try failed, trying again: {error}", stacklevel=2)
        return run()


def start(wine: Wine, program: Path, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """Starts a program of the Wine folder."""
    processors = sorted(os.sched_getaffinity(0))
    processor = processors[-wine.number % len(processors)]  # test runs share them out
    return subprocess.Popen(
        # across two processors Wine's calls to its server take four times as long
        ["taskset", "-c", str(processor), "wine", str(program), *arguments],
        env=wine.environment(),
        # Python under Wine starts only with a pipe or /dev/null on each of its three streams
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def finish(wine: Wine, process: subprocess.Popen[bytes], limit: float) -> str:
    """What a program printed until it ended; one that does not end in time is killed."""
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        stop_server(wine)
        try:
            output, _ = process.communicate(timeout=20)
        except subprocess.TimeoutExpired as rest:  # a service of Wine outlived the server
            output = rest.output or b""
        raise FailedError(f"no end after {limit:.0f} s; output:\n{text_of(output)}") from None
    return text_of(output)


def run_program(wine: Wine, program: Path, arguments: Sequence[str], limit: float) -> str:
    """Runs a program of the Wine folder and returns what it printed."""
    return finish(wine, start(wine, program, arguments), limit)


def text_of(output: bytes) -> str:
    """Program output as text with plain line ends."""
    return output.decode("utf-8", "replace").replace("\r\n", "\n")


def python(wine: Wine, script: Path, arguments: Sequence[str] = (), limit: float = 90) -> str:
    """Runs a script in the Windows Python with pykd."""
    return run_program(wine, wine.python, [windows_path(script), *arguments], limit)


def debug(
    wine: Wine, commands: Sequence[str], dump: Path | None = None, limit: float = 90
) -> list[str]:
    """Output of each command in the debugger host, on a dump or on the simulated machine.

    The symbol path is an empty folder: the engine would look for symbol servers for minutes.
    """
    with tempfile.TemporaryDirectory(prefix="dumpstart-kd-") as folder:
        if not dump:
            stop_server(wine)  # where COM1 leads is read when it starts
        process = start_host(wine, commands, Path(folder), dump)
        return answers(commands, finish(wine, process, limit))


def start_host(
    wine: Wine, commands: Sequence[str], folder: Path, dump: Path | None = None
) -> subprocess.Popen[bytes]:
    """Starts the debugger host."""
    script = folder / "commands.txt"
    script.write_text("".join(command + "\n" for command in commands))
    symbols = folder / "no-symbols"
    symbols.mkdir()
    opened = ["-z", windows_path(dump)] if dump else ["-k", COM1]
    return start(wine, wine.host, [*opened, windows_path(symbols), windows_path(script)])


def answers(commands: Sequence[str], output: str) -> list[str]:
    """What the host printed for each command."""
    _, *parts = output.split("\n" + COMMAND)
    if len(parts) != len(commands) + 1 or not parts[-1].startswith("end"):
        raise FailedError(f"the host did not run all {len(commands)} commands; output:\n{output}")
    # the engine repeats each command before its output
    return [part.split("\n", 2)[-1].strip("\n") for part in parts[:-1]]
