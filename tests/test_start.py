"""The start of ``analyze`` on a minidump: what it loads is counted; no busy machine changes that.

benchmarks/bench_start.py measures the seconds.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import SAMPLE_TRACES, shared_sample

#: each takes a millisecond and more, and most minidumps need none of them
SLOW = {
    "bz2", "dataclasses", "difflib", "inspect", "ipaddress", "json", "lzma", "numpy", "pathlib",
    "platform", "shutil", "subprocess", "tempfile", "threading", "urllib", "uuid", "weakref", "xml",
    "zipfile",
}  # fmt: skip
#: what other commands, inputs and architectures need
OTHERS = {
    "analyzer.checks.case", "analyzer.collecting", "analyzer.dryrun.commands", "analyzer.live",
    "analyzer.population", "analyzer.snapshot", "analyzer.sources.export",
    "analyzer.stacks.arm64_codes",
}  # fmt: skip
LOADED = """
import sys
before, compiled = set(sys.modules), 0
def count(event, arguments):
    global compiled
    compiled += event == "compile" and arguments[1] == "<string>"
sys.addaudithook(count)
from analyzer.cli import main
code = main(["analyze", sys.argv[1]])
print([code, sorted(set(sys.modules) - before), compiled], file=sys.stderr)
"""


class Start(NamedTuple):
    """What one run loaded."""

    modules: set[str]
    compiled: int  #: texts compiled while it ran: annotations of named tuples above all

    @property
    def ours(self) -> set[str]:
        """The modules of the project."""
        return {name for name in self.modules if name.startswith("analyzer")}


def start(path: Path) -> Start:
    """Runs the command; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, str(path)], capture_output=True, text=True, check=True
    )
    code, modules, compiled = ast.literal_eval(done.stderr)
    assert code in (0, 1)
    return Start(set(modules), compiled)


@pytest.mark.parametrize("name", ["minidump-x64.dmp", "minidump-x86.dmp"])
def test_analyze_loads_what_a_minidump_needs(name: str) -> None:
    """Nothing slow of the standard library, nothing of other commands, no long tail of modules."""
    found = start(SAMPLE_TRACES / name)
    assert found.modules & (SLOW | OTHERS) == set()
    assert not [one for one in found.ours if one.startswith("analyzer.etw")]
    assert len(found.ours) <= 136
    assert found.compiled <= 315


def test_telling_events_of_a_minidump_load_no_trace_reader() -> None:
    """Its storage errors are told with the schemas of their events alone."""
    found = start(shared_sample("dmp/rizinorg_rizin-testbins__triage_x64.dmp"))
    assert found.modules & (SLOW | OTHERS) == set()
    assert "analyzer.etw.judge" in found.ours
    parts = {name.rpartition(".")[2] for name in found.ours if name.startswith("analyzer.etw.")}
    assert parts & {"buffers", "events", "manifests", "mof", "schemas", "session", "wpp"} == set()
    assert len(found.ours) <= 149
    assert found.compiled <= 404


def test_a_slow_import_is_seen(tmp_path: Path) -> None:
    """The counting does see what it looks for: of an export of events both kinds are loaded."""
    path = tmp_path / "events.json"
    path.write_text('[{"Id": 41, "ProviderName": "Microsoft-Windows-Kernel-Power"}]')
    found = start(path)
    assert "json" in found.modules
    assert "analyzer.sources.event_log" in found.ours
    assert found.compiled > 0
