"""Programs beside the simulated machine on this system: ntoseye, a debugger that others wrote."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import captures
from .simulator import TESTS, guest, simulated


def home_with_symbols(folder: Path) -> Path:
    """A home folder where ntoseye finds nt's symbols; it would ask a server for them."""
    nt = guest()[1]["ntoskrnl.exe"]
    image = nt.image.read_bytes()
    at = image.index(b"RSDS")
    (age,) = struct.unpack_from("<I", image, at + 20)
    key = f"{uuid.UUID(bytes_le=image[at + 4 : at + 20]).hex.upper()}{age:X}"
    place = folder / ".ntoseye" / "symbols" / "ntkrnlmp.pdb" / key
    place.mkdir(parents=True)
    shutil.copy(nt.pdb, place / "ntkrnlmp.pdb")
    return folder


def run_attached(
    scenario: str, folder: Path, arguments: Sequence[str], **environment: str
) -> tuple[dict[str, Any], str]:
    """Runs a Python program beside a waiting machine; the machine's report, what was printed.

    LINE in arguments and environment is where the machine is.
    """
    line = folder / "line"
    with simulated(scenario, socket=line) as target:
        done = subprocess.run(
            [sys.executable, *(word.replace("LINE", str(line)) for word in arguments)],
            env={
                **{name: value.replace("LINE", str(line)) for name, value in environment.items()},
                **{k: v for k, v in os.environ.items() if k not in environment},
                "HOME": str(home_with_symbols(folder)),
            },
            cwd=TESTS.parent,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return target.end(), done.stdout + done.stderr


def capture(name: str, folder: Path) -> captures.Captured:
    """One scenario, through ntoseye."""

    def run(words: Sequence[str], path: Path) -> tuple[dict[str, Any], str]:
        own = ["LINE", "--output", str(path), "--fail-on", "never"]
        return run_attached(name, folder, ["-m", "analyzer", "capture", *own, *words])

    return captures.capture(name, folder / f"{name}-ntoseye.jsonl", run)
