"""The prediction: on a live healthy machine the dry run says what the crash then returns.

Through ntoseye, a debugger that others wrote, on the simulated machine. The oracle is the machine
itself: it crashes afterwards, and its report has the status of every call that was made.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kd.scenarios import SCENARIOS
from kd.simulator import TESTS, simulated
from test_kd_ntoseye import home_with_symbols

#: the filters are loaded when the debugger attaches, and Dump_Start returns
RETURNING = ["normal", "failing", "mutated", "processors", "unload", "hibernation", "hang"]


def dry_run(folder: Path, scenario: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of ``dumpstart dryrun --connect``, and what the machine did when it went on."""
    line = folder / "line"
    command = [sys.executable, "-m", "analyzer", "dryrun", "--connect", str(line)]
    with simulated(scenario, socket=line, patience=0.2) as machine:
        done = subprocess.run(
            [*command, "--format", "json"],
            env={**os.environ, "HOME": str(home_with_symbols(folder))},
            cwd=TESTS.parent,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode in (0, 1), done.stdout + done.stderr
        start = done.stdout.index("[")  # the debugger prints its own progress before
        rows: list[dict[str, Any]] = json.loads(done.stdout[start:])
        return rows, machine.end(run_on=2.0)


@pytest.mark.parametrize(
    "scenario",
    [s if s == "failing" else pytest.param(s, marks=pytest.mark.live) for s in RETURNING],
)
def test_the_crash_returns_what_the_dry_run_said(scenario: str, tmp_path: Path) -> None:
    """Dump_Start, Dump_Finish and Dump_Write of every filter that the machine called afterwards."""
    rows, report = dry_run(tmp_path, scenario)
    said = {
        (row["filter"], row["callback"]): row
        for row in reversed(rows)
        if row["windows"] == "does" and row["shape"] in (None, "nonpaged pool")
    }
    made = [call[:3] for call in report["made"]]
    assert made, "the machine made no call"
    for name, callback, status in made:
        row = said[name, callback]
        assert (row["outcome"], int(row["status"], 16)) == ("returns", status), row
        assert row["text"].startswith("Called now")
        assert row["had_crashed"] is False
    assert [status for _, _, status in made] == [
        call.status for call in SCENARIOS[scenario].calls if not call.hangs
    ]
    for call in SCENARIOS[scenario].calls:
        if call.hangs:
            assert said[call.filter, call.callback]["outcome"] != "returns"
    assert report["breakpoints"] == []
    assert not report["standing"]
