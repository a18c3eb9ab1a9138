"""``dumpstart`` in a Windows Python, on the simulated machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kd import captures
from kd.captures import Captured
from kd.simulator import simulated

from . import session
from .provision import Wine, windows_path


def capture(
    name: str, folder: Path, backend: str = "dbgeng", minor: int = 13, options: Sequence[str] = ()
) -> Captured:
    """One scenario, through the real engine."""
    wine = session.provided(minor)

    def run(words: Sequence[str], path: Path) -> tuple[dict[str, Any], str]:
        own = [session.COM1, "--backend", backend, "--output", windows_path(path)]
        with simulated(name, tty=wine.port) as target:
            output = dumpstart(wine, "capture", *own, *words)
            return target.end(), output

    path = folder / f"{name}-{backend}.jsonl"
    return captures.capture(name, path, run, options)


def dumpstart(wine: Wine, *arguments: str, limit: float = 90) -> str:
    """``dumpstart ARGUMENTS`` in the Windows Python, in a Wine that was started anew."""
    session.stop_server(wine)
    return session.run_program(wine, wine.python, ["-m", "analyzer", *arguments], limit)
