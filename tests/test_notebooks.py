"""The notebooks: stored stripped, and each one runs to its end on the shipped samples."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from conftest import REPOSITORY, SAMPLE_TRACES

FOLDER = REPOSITORY / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
#: notebook -> how many figures it shows
FIGURES = {
    "01-post-mortem": 3,
    "02-why-no-dump": 3,
    "03-filter-extension": 0,
    "04-etw-around-a-crash": 3,
    "05-many-dumps": 1,
    "06-timing-many-captures": 3,
    "07-dry-run": 1,
}

#: notebook -> what its last cell must say of the shipped samples, computed
CONCLUSIONS = {
    "01-post-mortem": [
        "left no finished dump",
        "Dump_Start of dump_acmeflt.sys (crash stack) returned 0xc0000001",
        "- error: A filter was given no device",
    ],
    "02-why-no-dump": [
        "driver stuck: The machine crashed",
        "breaks off after 'Calling badnic secondary callback'",
        "oldvendor.sys, which has no service key",
        "The memory write fell to 1 MB/s",
    ],
    "03-filter-extension": [
        "What dump_acmeflt.sys is given differs",
        "in DeviceObject and Geometry.BytesPerSector.",
        "is given DeviceObject NULL",
        "a sector has 513 bytes",
        "2 of 2 extensions are reconstructed",
    ],
    "04-etw-around-a-crash": [
        "each returned STATUS_SUCCESS; they took 900 us and 3.1 ms",
        "Dump_Write of acmeflt.sys returned STATUS_IO_DEVICE_ERROR after",
        "103 times the median of the 39 that succeeded",
    ],
    "05-many-dumps": ["dumps have a finding that is an error", "- broken-x64-worst: The machine"],
    "06-timing-many-captures": [
        "dump_dumpfve.sys: the same image in all runs",
        "dump_acmeflt.sys: another image from run-09 on, and 3.",
        "by chance 1 in 495",
        "in the baseline it took 2.847 ms",
    ],
    "07-dry-run": [
        "Called now, Dump_Start returns STATUS_SUCCESS (0x0).",
        "30 calls ended with: 30 STATUS_SUCCESS",
        "It reads Geometry.BytesPerSector; DumpData; Size; Flags, and writes Flags.",
        "another call may end otherwise",
    ],
}

sys.path.insert(0, str(SAMPLE_TRACES))


def cells(path: Path) -> list[dict[str, Any]]:
    """The cells as they are stored."""
    found: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["cells"]
    return found


def test_every_notebook_is_known() -> None:
    """A new notebook says here how many figures it shows."""
    assert [path.stem for path in NOTEBOOKS] == list(FIGURES)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_stripped(path: Path) -> None:
    """No output, no count, no absolute path; the first cell says which question is answered."""
    text = path.read_text("utf-8")
    for cell in cells(path):
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
    assert re.findall(r"/(?:home|root|work|tmp|Users)/|[A-Z]:\\\\", text) == []
    assert cells(path)[0]["cell_type"] == "markdown"
    assert "?" in "".join(cells(path)[0]["source"]) or "together" in "".join(
        cells(path)[0]["source"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path: Path) -> None:
    """Every cell runs without a warning, each figure shows, the conclusion is in words."""
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": str(FOLDER)}}
    )
    client.execute()
    outputs = [
        output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    ]
    assert [o.text for o in outputs if o.output_type == "stream" and o.name == "stderr"] == []
    images = [o.data["image/png"] for o in outputs if "image/png" in o.get("data", {})]
    assert len(images) == FIGURES[path.stem]
    # An empty figure (a sentence alone) is a PNG of 4 to 8 KB here.
    assert [len(image) for image in images if len(image) < 12_000] == []
    assert "assert" not in "".join(cell.source for cell in notebook.cells)
    assert notebook.cells[-2].source.startswith("## Conclusion")
    said = "".join(o.text for o in notebook.cells[-1].outputs if o.output_type == "stream")
    assert [words for words in CONCLUSIONS[path.stem] if words not in said] == [], said
    tables = "".join(o.data["text/html"] for o in outputs if "text/html" in o.get("data", {}))
    assert re.findall(r"<td>[^<]{40,}\.\.\.</td>", tables) == []  # pandas cuts at 50 characters


def test_traces_are_made_again_byte_for_byte() -> None:
    """The trace and the captures that the notebooks read equal what the generator makes now."""
    import generator_traces

    made = generator_traces.make()
    folders = ("traces", "captures")
    found = {
        path.relative_to(SAMPLE_TRACES).as_posix()
        for folder in folders
        for path in (SAMPLE_TRACES / folder).iterdir()
    }
    assert found == set(made)
    for name, content in made.items():
        assert (SAMPLE_TRACES / name).read_bytes() == content, name
