"""The whole tool on a Windows Python: the same bytes as here, and places that only Windows has.

The Windows CPython 3.13 with the Windows wheels of numpy, pandas, matplotlib and jinja2, under
Wine. evtx does not load there (a library that Wine 8 lacks), so event logs are left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SAMPLE_TRACES
from wine import session
from wine.provision import HERE, REPOSITORY, windows_path

pytestmark = pytest.mark.live


def test_equal_bytes(tmp_path: Path) -> None:
    """Commands times samples: reports of all formats, tables, figures, redacted results."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    script = HERE / "tool.py"
    ours = subprocess.Popen(
        [sys.executable, str(script), str(SAMPLE_TRACES), str(here)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    wine = session.provided(13)
    words = [windows_path(SAMPLE_TRACES), windows_path(there)]
    output = session.twice(lambda: session.python(wine, script, words, limit=240))
    assert output.endswith("done\n"), output
    assert ours.wait(120) == 0
    names = sorted(path.name for path in here.iterdir())
    assert len(names) > 500
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
