"""The whole tool on a Windows Python: the same bytes as here, and places that only Windows has.

The Windows CPython 3.13 and 3.9 with the Windows wheels of numpy, pandas, matplotlib, jinja2, evtx
and pyarrow, under Wine.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from conftest import SAMPLE_TRACES, shared_names, shared_sample
from wine import session
from wine.provision import HERE, REPOSITORY, own_python, windows_path

pytestmark = pytest.mark.live
SCRIPT = HERE / "tool.py"


@pytest.mark.parametrize("minor", [13, 9])
def test_equal_bytes(minor: int, tmp_path: Path) -> None:
    """Commands times samples: reports of all formats, tables, figures, exports, a data set."""
    wine = session.provided(minor)
    with session.needed():
        python, _ = own_python(minor, "import matplotlib, evtx, pyarrow", "what the tests install")
    logs, here = tmp_path / "logs", tmp_path / "here"
    for folder in (logs, here, tmp_path / "work"):
        folder.mkdir()
    for name in shared_names("evtx/*.evtx"):
        shutil.copy(shared_sample(name), logs)
    ours = subprocess.Popen(
        [python, str(SCRIPT), *map(str, (SAMPLE_TRACES, logs, tmp_path / "work", here))],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )

    def run() -> Path:
        folder = tmp_path / f"{time.monotonic_ns()}"
        places = [folder / "work", folder / "there"]
        for place in places:
            place.mkdir(parents=True)
        words = map(windows_path, (SAMPLE_TRACES, logs, *places))
        output = session.python(wine, SCRIPT, list(words), limit=400)
        assert output.endswith("done\n"), output
        return places[1]

    there = session.twice(run)
    assert ours.wait(240) == 0
    names = sorted(path.name for path in here.iterdir())
    assert len(names) > 600
    assert sorted(path.name for path in there.iterdir()) == names
    differ = [n for n in names if (here / n).read_bytes() != (there / n).read_bytes()]
    assert differ == []


def test_places_of_windows(tmp_path: Path) -> None:
    """Drive letters, slashes, wildcards, code pages, devices, long paths, files held by others."""
    path, folder = SAMPLE_TRACES / "healthy-x64-kernel.dmp", tmp_path / "folder"
    folder.mkdir()
    given = [windows_path(path), windows_path(folder)]
    output = session.python(session.provided(13), HERE / "places.py", given)
    told = json.loads(output.splitlines()[-1])
    size = f"{path.stat().st_size:,} bytes"
    for name in (
        *("plain", "other drive letter case", "slashes", "wildcard", "device path", "long path"),
        *("cyrillic", "code page 437", "held open, shared", "mapped"),
    ):
        code, text = told[name]
        assert code == 0, (name, text)
        assert size in text
    for name, words in (
        ("NUL", "NUL: this is an empty file"),
        ("nothing there", "no\\such.dmp: the file cannot be read"),
        ("held open, alone", "held.dmp: the file cannot be read: permission denied"),
        ("output over an input", "the output would overwrite an input"),
    ):
        code, text = told[name]
        assert code == 2
        assert words in text
        assert len(text.splitlines()) == 1
    assert told["output"] == told["output to NUL"] == [0, ""]
    assert told["written"][1].startswith("The machine crashed with bugcheck 0xD1")


def test_a_dump_in_the_engine() -> None:
    """Through DbgEng the filters of a kernel dump are those of our own reader."""
    path = windows_path(SAMPLE_TRACES / "healthy-x64-kernel.dmp")
    output = session.python(session.provided(13), HERE / "engine_dump.py", [path])
    assert json.loads(output.splitlines()[-1]) == {
        "healthy-x64-kernel.dmp": {"filters": [2, True], "extensions": [2, True]}
    }
