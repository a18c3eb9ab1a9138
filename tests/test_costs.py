"""Work grows with the input and not faster: four times the input is four times the work.

Work is counted in calls of Python functions, so that a busy machine changes nothing. The inputs
are those of make_costly.py in the shared folder of faulty inputs.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import tracemalloc
from pathlib import Path
from typing import Any

import generator_logs
import pytest
from conftest import shared_sample
from counting import calls
from test_capture_file import facts, write
from test_etw_damage import plain

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


def saved_log(number: int) -> bytes:
    """A DumpStack.log of one of many crashes."""
    return generator_logs.build(generator_logs.kernel(first=1000 + number))


def test_a_folder_of_logs_costs_no_more_than_their_number(tmp_path: Path) -> None:
    """Three times the logs are three times the work, from the folder to the printed answer."""
    took = []
    for count in (20, 60):
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            (folder / f"{number}.log").write_bytes(saved_log(number))
        work(folder)
        took.append(work(folder)[0])
    assert took[1] < 3.6 * took[0], took


def shown(path: Path, form: str, output: Path) -> None:
    """``dumpstart show events``."""
    words = ["show", "events", str(path), "--format", form, "--output", str(output)]
    assert main(words) == 0


FORMS = ["csv", "json", "jsonl", "parquet"]


@pytest.mark.parametrize("form", FORMS)
def test_shown_events_take_few_calls_each(form: str, tmp_path: Path) -> None:
    """At most four an event: they are decoded and written many together."""
    if form == "parquet":
        pytest.importorskip("pyarrow")
    path, output = tmp_path / "x.etl", tmp_path / f"x.{form}"
    counts = []
    for buffers in (60, 60, 300):  # the first for imports and caches
        path.write_bytes(plain(buffers, 40))
        counts.append(calls(lambda: shown(path, form, output)))
    assert counts[2] - counts[1] < 4 * 240 * 40


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_shown_events_take_little_memory_each(form: str, tmp_path: Path) -> None:
    """At most 150 bytes an event, beyond the file, of which a small one is held whole."""
    if form == "parquet":
        pytest.importorskip("pyarrow")
    path, output = tmp_path / "x.etl", tmp_path / f"x.{form}"
    peaks = []
    for buffers in (200, 800):
        path.write_bytes(plain(buffers, 40))
        shown(path, form, output)
        tracemalloc.start()
        try:
            shown(path, form, output)
            peaks.append(tracemalloc.get_traced_memory()[1] - path.stat().st_size)
        finally:
            tracemalloc.stop()
    assert peaks[1] - peaks[0] < 150 * 600 * 40


def test_a_wide_capture_takes_no_more_memory_than_a_narrow_one(tmp_path: Path) -> None:
    """Its text is decoded line by line: UTF-16 took seven times its size."""
    path, peaks = tmp_path / "c.jsonl", []
    write(path, facts([(5000, 0)] * 4000))
    text = path.read_text(encoding="utf-8")
    for encoding in ("utf-8", "utf-8", "utf-16"):  # the first for imports and caches
        path.write_text(text, encoding=encoding)
        tracemalloc.start()
        try:
            assert len(analyzer.open(path).records["callbacks"]) > 4000
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[2] < 1.2 * peaks[1], peaks
