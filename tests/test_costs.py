"""Work grows with the input and not faster: four times the input is four times the work.

Work is counted in calls of Python functions, so that a busy machine changes nothing. The inputs
are those of make_costly.py in the shared folder of faulty inputs.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from pathlib import Path
from typing import Any

import pytest
from conftest import shared_sample
from counting import calls

import analyzer
from analyzer.cli import main

CAPTURES = ("cap_machine", "cap_late", "cap_open", "cap_stop", "cap_modarm", "cap_nodes",
            "cap_armed_calls")  # fmt: skip

OTHERS = ("etl_resync", "log_bt", "xml_starts", "xml_contra", "blank_lines")


def costly(name: str, n: int, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """An input of make_costly.py."""
    script = shared_sample("../faults/make_costly.py")
    spec = importlib.util.spec_from_file_location("make_costly", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(script.parent)  # it opens a sample beside it
    data: Any = getattr(module, name)(n)
    return data if isinstance(data, bytes) else data.encode()


def work(path: Path) -> tuple[int, int]:
    """Calls and steps of comprehensions while the file is analysed; characters of the report."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        count = calls(lambda: main(["analyze", str(path)]))
    return count, len(out.getvalue())


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CAPTURES, *OTHERS])
def test_cost_grows_with_the_input(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From n to 4 n: at most 4.6 times the work and the output, beyond what an empty one costs."""
    counts = []
    small = 50 if name == "cap_nodes" else 150
    for n in (1, small, 4 * small):
        if name == "blank_lines":
            head, rest = costly("cap_open", 1, monkeypatch).split(b"\n", 1)
            data = head + b"\n" * 20 * n + rest
        else:
            data = costly(name, n, monkeypatch)
        path = tmp_path / ("x.etl" if name == "etl_resync" else "x.jsonl")
        path.write_bytes(data)
        work(path)  # imports, caches
        counts.append(work(path))
    for nothing, some, more in zip(*counts):
        assert more - nothing <= 4.6 * max(some - nothing, 100)


def test_thousands_of_extensions_are_a_dozen_cards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A debugger's log may show one again and again; the table has them all."""
    path = tmp_path / "x.txt"
    path.write_bytes(costly("log_bt", 412, monkeypatch))
    case = analyzer.open(path)
    page = case.report("html")
    assert page.count("data-extension=") == 12
    assert "400 more in the table extensions" in page
    assert "400 more; 'dumpstart show extensions' lists them" in case.report(details=True)
    assert len(case.extensions) == 412
