"""Short ways to say a command, and what is answered when a word is not known."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import SAMPLE_TRACES

from analyzer.cli import main

HEALTHY = str(SAMPLE_TRACES / "healthy-x64-kernel.dmp")
TRACE = str(SAMPLE_TRACES / "traces" / "crash-callbacks.etl")
Capture = pytest.CaptureFixture[str]


def test_a_file_alone_is_analyzed(capsys: Capture) -> None:
    """``dumpstart FILE`` is ``dumpstart analyze FILE``."""
    assert main([HEALTHY]) == main(["analyze", HEALTHY]) == 0
    first, second = re.findall(r"^The machine crashed.*$", capsys.readouterr().out, re.MULTILINE)
    assert first == second


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["analyse", "x.dmp"], "there is no command 'analyse'; did you mean 'analyze'?"),
        (["explain", "filter-disabld"], "did you mean 'filter-disabled'?"),
        (["show", "filtres", HEALTHY], "there is no table 'filtres'; did you mean 'filters'?"),
        (["frobnicate"], "there is no command 'frobnicate'; there are analyze, "),
        (["no/such.dmp"], "no/such.dmp"),
    ],
)
def test_an_unknown_word_gets_one_sentence(typed: list[str], says: str, capsys: Capture) -> None:
    """Exit code 2 and the nearest known word."""
    assert main(typed) == 2
    told = capsys.readouterr()
    assert says in told.err
    assert told.out == ""
    assert len(told.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("r.html", "<!DOCTYPE html>"),
        ("r.json", '{"schema"'),
        ("r.md", "## Crash dump filters"),
        ("r.xml", "<?xml"),
        ("r.txt", "The machine crashed"),
    ],
)
def test_the_name_of_the_output_says_its_format(name: str, begins: str, tmp_path: Path) -> None:
    """-o report.html is a page; --format still decides where it is given."""
    assert main(["analyze", HEALTHY, "-o", str(tmp_path / name)]) == 0
    assert (tmp_path / name).read_text("utf-8").startswith(begins)
    assert main(["analyze", HEALTHY, "--format", "json", "-o", str(tmp_path / name)]) == 0
    assert (tmp_path / name).read_text("utf-8").startswith('{"schema"')


def test_stdin(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """``-`` reads standard input."""
    stream = io.TextIOWrapper(io.BytesIO(Path(HEALTHY).read_bytes()))
    monkeypatch.setattr(sys, "stdin", stream)
    assert main(["analyze", "-"]) == 0
    assert capsys.readouterr().out.startswith("The machine crashed with bugcheck 0xD1")


@pytest.mark.parametrize(
    "typed",
    [
        ["filters", HEALTHY],
        ["callbacks", TRACE],
        ["events", TRACE, "--id", "11"],
        ["findings", HEALTHY],
    ],
)
def test_the_printed_python_gives_the_same_table(typed: list[str], capsys: Capture) -> None:
    """--python prints what, when it is executed, is the table of ``show``."""
    assert main(["show", *typed, "--python"]) == 0
    code = capsys.readouterr().out
    names: dict[str, Any] = {}
    exec(compile(code, "printed", "exec"), names)
    capsys.readouterr()
    assert main(["show", *typed, "--format", "csv"]) == 0
    shown = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert list(names["table"].columns) == list(shown.columns)
    assert len(names["table"]) == len(shown)


def test_open_needs_a_page(capsys: Capture) -> None:
    """Without an HTML file there is nothing to show."""
    assert main(["analyze", HEALTHY, "--open"]) == 2
    assert "name an HTML file" in capsys.readouterr().err


def test_the_script_for_the_machine_that_crashed(tmp_path: Path) -> None:
    """It gathers what the answer asks for, with Windows' own tools, and sets nothing."""
    target = tmp_path / "collect.cmd"
    assert main(["collect", "-o", str(target)]) == 0
    data = target.read_bytes()
    assert data.count(b"\r\n") == data.count(b"\n") > 30
    text = data.decode("ascii")
    for what in ("MEMORY.DMP", "Minidump", "DumpStack.log", "wevtutil epl System", "reg export",
                 "fltmc", "driverquery"):  # fmt: skip
        assert what in text
    assert not re.search(r"(?i)\breg (add|delete|import)|\bdel\b|\brd\b|\bsc (config|stop)", text)
