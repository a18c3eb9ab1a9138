"""What is told of small inputs, record by record: the files of tests/told."""

from __future__ import annotations

from pathlib import Path

import pytest
import told

from analyzer.sources.event_log_evtx import is_proven

CASES = [
    pytest.param(case, id=f"{path.stem}-{number}")
    for path in sorted(told.FOLDER.glob("*.txt"))
    for number, case in enumerate(told.cases(path))
]


@pytest.mark.parametrize("case", CASES)
def test_an_input_is_told_as_its_file_says(tmp_path: Path, case: told.Told) -> None:
    """Every record with all of its fields, every finding with its evidence, in their order."""
    if case.name.endswith(".evtx") and not is_proven():
        pytest.skip("an older evtx is not given damaged chunks")
    assert told.told_of(case.name, case.text, tmp_path) == case.lines
