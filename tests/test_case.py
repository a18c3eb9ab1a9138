"""A case: several inputs opened, merged and judged as one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable

import pandas as pd
import pytest
from conftest import make

import analyzer
from analyzer import records
from analyzer.case import Case
from analyzer.errors import AnalyzerError, InputError, UnsupportedError, UsageError
from analyzer.records import Records

HEALTHY = "healthy-x64-kernel.dmp"
OTHER = "healthy-arm64-full.dmp"


def with_findings(*severities: str) -> Case:
    """A case with findings of these severities only."""
    made = Records()
    made.add(*(make(records.Finding, rule="r", severity=severity) for severity in severities))
    return Case(made)


def test_open_gives_every_table_as_a_frame(sample: Callable[[str], Path]) -> None:
    """Each table of the schema is a property, made once."""
    case = analyzer.open(sample(HEALTHY))
    for table in records.TABLES:
        frame = getattr(case, table)
        assert isinstance(frame, pd.DataFrame)
        assert len(frame) == len(case.records[table])
        assert getattr(case, table) is frame
    # Oracle: sample-traces/MANIFEST.toml, two filters.
    assert list(case.filters["filter"]) == ["dump_dumpfve.sys", "dump_acmeflt.sys"]


def test_several_files_make_one_case(sample: Callable[[str], Path]) -> None:
    """The rows of all files are there, each with its own source, in the order given."""
    case = analyzer.open(sample(OTHER), str(sample(HEALTHY)))
    assert list(case.machine["architecture"]) == ["arm64", "x64"]
    assert list(case.machine["source"]) == [str(sample(OTHER)), str(sample(HEALTHY))]
    assert case.report(details=True).count("FILTER_EXTENSION at") == 4


def test_a_file_named_twice_counts_once(sample: Callable[[str], Path]) -> None:
    """Two spellings of a path are one file."""
    path = sample(HEALTHY)
    twice = os.path.join(path.parent, ".", path.name)
    assert len(analyzer.open(path, twice).sources) == 1


def test_the_only_file_that_cannot_be_used_raises(tmp_path: Path) -> None:
    """Nothing can be said, so the error of the file is the answer."""
    with pytest.raises(InputError, match="no such file"):
        analyzer.open(tmp_path / "none.dmp")
    zeros = tmp_path / "zeros.dmp"
    zeros.write_bytes(bytes(5000))
    with pytest.raises(UnsupportedError, match="zero-filled"):
        analyzer.open(zeros)


def test_only_unusable_files_raise_one_error_that_names_them_all(tmp_path: Path) -> None:
    """Each file has its reason in the error."""
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "b").write_bytes(b"MDMP")
    with pytest.raises(AnalyzerError) as caught:
        analyzer.open(tmp_path / "a", tmp_path / "b")
    said = str(caught.value)
    assert said.startswith("none of the 2 files can be used: ")
    assert "an empty file" in said
    assert "user-mode minidump" in said


def test_an_unusable_file_beside_a_good_one_is_a_finding(
    sample: Callable[[str], Path], tmp_path: Path
) -> None:
    """It is listed with its reason, and the good one is analyzed."""
    bad = tmp_path / "bad.dmp"
    bad.write_bytes(b"MDMP")
    case = analyzer.open(sample(HEALTHY), bad)
    assert len(case.machine) == 1
    (finding,) = [f for f in case.records["findings"] if f.rule == "input-unusable"]
    assert finding.severity == "warning"
    assert str(bad) in finding.text
    assert "user-mode minidump" in finding.text
    assert list(case.sources["path"]) == [str(sample(HEALTHY)), str(bad)]
    assert "user-mode minidump" in case.sources["not_determined"][1]


def test_no_file_is_a_usage_error() -> None:
    """analyzer.open() has nothing to open."""
    with pytest.raises(UsageError):
        analyzer.open()


@pytest.mark.parametrize(
    ("severities", "error", "warning", "never"),
    [
        ((), 0, 0, 0),
        (("info",), 0, 0, 0),
        (("info", "warning"), 0, 1, 0),
        (("error", "info"), 1, 1, 0),
    ],
)
def test_exit_code(severities: Any, error: int, warning: int, never: int) -> None:
    """1 from the given severity on; info never fails."""
    case = with_findings(*severities)
    assert case.exit_code("error") == error
    assert case.exit_code("warning") == case.exit_code() == warning
    assert case.exit_code("never") == never


def test_exit_code_of_an_unknown_severity_is_a_usage_error() -> None:
    """A misspelt severity must not pass as clean."""
    with pytest.raises(UsageError, match="error, warning, expectation, never"):
        with_findings().exit_code("eror")


def test_report_of_an_unknown_format_is_a_usage_error() -> None:
    """The message lists the formats."""
    with pytest.raises(UsageError, match="text, json"):
        with_findings().report("docx")


def test_progress_is_told_for_each_file(sample: Callable[[str], Path]) -> None:
    """The callback hears what is done, how much of it, and the end."""
    heard: list[tuple[str, int, int]] = []
    analyzer.open(sample(HEALTHY), sample(OTHER), progress=lambda *told: heard.append(told))
    assert (f"reading {HEALTHY}", 0, 2) in heard
    assert (f"reading {OTHER}", 1, 2) in heard
    assert heard[-1] == ("checking", 2, 2)


def test_repr_counts_the_rows(handmade: Records) -> None:
    """An opened case says what it holds."""
    assert repr(Case(handmade)) == (
        "<Case: sources 1, machine 1, modules 1, filters 1, extensions 1, callbacks 1>"
    )


def test_the_version_is_that_of_the_distribution() -> None:
    """It is written twice, so it is compared."""
    from importlib.metadata import version

    assert analyzer.__version__ == version("dumpstart")
