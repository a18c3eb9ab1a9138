"""The answer on one screen: what a user reads first, for every kind of input."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from conftest import SAMPLE_TRACES, make

import analyzer
from analyzer import records
from analyzer.cli import main
from analyzer.names import drivers
from analyzer.records import Records

SHARED = Path(os.environ.get("DUMPSTART_SHARED", ""))
KINDS = ("*.dmp", "captures/*.jsonl", "captures", "traces/*.etl", "logs/[a-z]*", "cases/*.zip")
SHIPPED = [path for kind in KINDS for path in sorted(SAMPLE_TRACES.glob(kind))]
REFUSED = 2


def shared() -> list[Path]:
    """Real files, where they are there."""
    return [p for p in sorted(SHARED.glob("*/*")) if p.is_file()] if SHARED.name else []


@pytest.mark.parametrize("path", [*SHIPPED, *shared()], ids=lambda path: path.name)
def test_one_screen(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At most 40 lines when all is well and 60 when not, 80 columns, the headline first."""
    code = main(["analyze", str(path)])
    text = capsys.readouterr().out
    if code == REFUSED:
        assert text == ""
        return
    lines = text.splitlines()
    assert len(lines) <= (60 if code else 40)
    assert max(map(len, lines)) <= 80
    answer = analyzer.open(path).answer
    assert " ".join(text.split()).startswith(" ".join(answer.headline[0].split()))
    assert " ".join(text.split()).count("not determined") <= 2
    for one in answer.filters:
        assert one.filter[:20] in text


@pytest.mark.parametrize("path", [*SHIPPED, *shared()], ids=lambda path: path.name)
def test_a_row_for_each_filter(path: Path) -> None:
    """No filter that a source names is missing from the verdicts."""
    try:
        case = analyzer.open(path)
    except analyzer.errors.AnalyzerError:
        return
    shown = {drivers.plain_name(one.filter) for one in case.answer.filters}
    named = {row.filter for table in ("filters", "callbacks") for row in case.records[table]}
    loaded = {m.name for m in case.records["modules"] if m.role == drivers.FILTER and m.loaded}
    assert {drivers.plain_name(n) for n in (named | loaded) if isinstance(n, str)} <= shown


def case_of(*made: Any) -> Any:
    """A case of these records."""
    from analyzer.case import Case

    all_of = Records()
    all_of.add(*made)
    return Case(all_of)


def test_two_unnamed_filters_keep_their_own_data() -> None:
    """What has no name is told apart by its own address."""
    rows = []
    for number, sector in enumerate((512, 4096)):
        at = 0xFFFFC08BE4000000 + 0x1000 * number
        rows.append(make(records.Extension, stack="crash", extension=at, bytes_per_sector=sector))
    first, second = case_of(*rows).answer.filters
    assert "512-byte" in first.extension
    assert "4096-byte" in second.extension
    assert "4096" not in first.extension


def test_a_run_that_differs_is_named() -> None:
    """A folder of captures: which run, which filter, by how much."""
    answer = analyzer.open(SAMPLE_TRACES / "captures").answer
    assert answer.headline[0] == (
        "12 runs with 24 calls of Dump_Start: none failed, they took 2.203 to 10.47 ms."
    )
    assert "run-12.jsonl differs: Dump_Start of dump_acmeflt.sys" in answer.headline[1]
    assert "3.8 times the median of the other runs" in answer.headline[1]


def test_every_problem_is_in_the_answer() -> None:
    """Errors and warnings are never left out: each is a problem or told with one."""
    from analyzer.checks import RULES

    for path in SHIPPED:
        case = analyzer.open(path)
        titles = {p.title for p in case.answer.problems}
        titles |= {title for p in case.answer.problems for title in p.also}
        for finding in case.records["findings"]:
            if finding.severity in ("error", "warning"):
                assert RULES[finding.rule].title in titles
