"""What is claimed of a dump is in it: each test goes through the command, on real or faulty files.

The real dumps are shared samples; the faulty ones (`faults/`, beside the samples) have a README
that says what is right.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import shared_sample

from analyzer.cli import main

FLUSHING = "dmp/CriticalRocket_DriverProblems__111417-28234-01.dmp"  # Windows 8.1
NEWEST = "dmp/FrancoTrone64__082325-12593-01.dmp"  # Windows 11, 26100
X64 = "dmp/rizinorg_rizin-testbins__triage_x64.dmp"
ARM64 = "dmp/rizinorg_rizin-testbins__triage_arm64.dmp"


def fault(name: str) -> Path:
    """A faulty input by its name."""
    return shared_sample(f"../faults/{name}")


def analyze(capsys: Any, *paths: Path) -> tuple[int, dict[str, Any]]:
    """Exit code of `dumpstart analyze`, the tables of its JSON report and the answer."""
    code = main(["analyze", *map(str, paths), "--format", "json"])
    report = json.loads(capsys.readouterr().out)
    return code, {**report["tables"], "answer": report["answer"]}


def rules(report: dict[str, Any]) -> set[str]:
    """The rules of its findings."""
    return {row["rule"] for row in report["findings"]}


@pytest.mark.parametrize("name", [FLUSHING, NEWEST, X64, ARM64])
def test_a_healthy_real_dump_has_nothing_wrong(name: str, capsys: Any) -> None:
    """Exit code 0: no error and no warning without a witness."""
    code, report = analyze(capsys, shared_sample(name))
    assert code == 0, report["findings"]
    assert {row["severity"] for row in report["findings"]} <= {"info"}


# ---- S1: FLUSH and SHUTDOWN stand twice ----------------------------------------------------------
@pytest.mark.parametrize(("name", "entries"), [(FLUSHING, 1), (NEWEST, 3)])
def test_second_entries_of_a_shutdown_are_no_open_requests(
    name: str, entries: int, capsys: Any
) -> None:
    """Start = end of the first entry, no end, status 0 (read off the bytes with struct)."""
    _, report = analyze(capsys, shared_sample(name))
    assert "storage-requests-in-flight" not in rules(report)
    rows = [r for r in report["requests"] if r["srb_function"] == 7 and r["start"]]
    assert len(rows) == entries
    for row in rows:
        assert row["in_flight"] is None
        assert row["status"] is None


def test_a_cache_flush_behind_a_shutdown_has_no_start(capsys: Any) -> None:
    """Five of them: four follow an entry of the list, one began before the full list did."""
    _, report = analyze(capsys, shared_sample(FLUSHING))
    rows = [r for r in report["requests"] if r["opcode"] == 0x35]
    assert len(rows) == 5
    assert {r["start"] for r in rows} == {r["duration_ns"] for r in rows} == {None}
    _, report = analyze(capsys, shared_sample(X64))  # those were sent on their own
    assert all(r["start"] for r in report["requests"] if r["opcode"] == 0x35)
