"""The prediction: on a live healthy machine the dry run says what the crash then returns.

On the simulated machine, through ntoseye, a debugger that others wrote, and through DbgEng on a
Windows Python, where Unicorn for Windows runs the calls. The oracle is the machine itself: it
crashes afterwards, and its report has the status of every call that was made.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kd.natively import home_with_symbols
from kd.scenarios import SCENARIOS
from kd.simulator import TESTS, simulated
from wine import session
from wine.captures import dumpstart

#: the filters are loaded when the debugger attaches, and Dump_Start returns
RETURNING = ["normal", "failing", "mutated", "processors", "unload", "hibernation", "hang"]
#: seconds until the machine crashes, once the debugger has left it alone
PATIENCE = 0.2
Ran = tuple[list[dict[str, Any]], dict[str, Any]]


def through_ntoseye(folder: Path, scenario: str) -> Ran:
    """Rows of ``dumpstart dryrun --connect``, and what the machine did when it went on."""
    line = folder / "line"
    command = [sys.executable, "-m", "analyzer", "dryrun", "--connect", str(line)]
    with simulated(scenario, socket=line, patience=PATIENCE) as machine:
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
        return json.loads(done.stdout), machine.end(run_on=2.0)


def through_the_engine(_: Path, scenario: str) -> Ran:
    """The same on a Windows Python, without any package but Unicorn."""
    wine = session.provided(13)
    with simulated(scenario, tty=wine.port, patience=PATIENCE) as machine:
        output = dumpstart(wine, "dryrun", "--connect", session.COM1, "--format", "json")
        try:
            rows = json.loads(output)
        except ValueError:
            raise session.FailedError(output) from None
        return rows, machine.end(run_on=2.0)


@pytest.mark.parametrize(
    ("run", "scenario"),
    [
        pytest.param(
            run, scenario, id=f"{run.__name__}-{scenario}",
            # the one that the ordinary run has time for
            marks=() if (run, scenario) == (through_ntoseye, "failing") else pytest.mark.live,
        )
        for run in (through_ntoseye, through_the_engine)
        for scenario in RETURNING
    ],
)  # fmt: skip
def test_the_crash_returns_what_the_dry_run_said(run: Any, scenario: str, tmp_path: Path) -> None:
    """Dump_Start, Dump_Finish and Dump_Write of every filter that the machine called afterwards."""
    rows, report = session.twice(lambda: run(tmp_path, scenario))
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
