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


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path: Path) -> None:
    """Every cell runs without a warning, each figure shows something, the conclusion holds."""
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
    assert "assert" in notebook.cells[-1].source


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
