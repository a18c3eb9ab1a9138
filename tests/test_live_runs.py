"""What captures of a fake machine tell changes not unnoticed; see live_runs.py."""

from __future__ import annotations

from pathlib import Path

import live_runs
import pytest


@pytest.mark.parametrize("number", live_runs.RUNS)
def test_a_run_is_told_as_before(number: int, tmp_path: Path) -> None:
    """Calls, stops, loads, bugchecks and nested calls at random, with options at random."""
    assert live_runs.digest(number, tmp_path) == live_runs.KNOWN[str(number)]
