"""What is installed is what was meant: metadata, command, contents of the wheel."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import analyzer
from analyzer.extras import LIBRARIES

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
WHEEL = os.environ.get("DUMPSTART_WHEEL")


def test_metadata():
    """The installed distribution has the name, licence and Python range of pyproject.toml."""
    metadata = importlib.metadata.metadata("dumpstart")
    assert metadata["Name"] == "dumpstart"
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.9"
    assert metadata["Version"] == analyzer.__version__


def test_extras():
    """Every extra that the documentation names can be installed by name."""
    extras = set(importlib.metadata.metadata("dumpstart").get_all("Provides-Extra"))
    assert extras == {
        "live", "ntoseye", "dryrun", "notebook", "evtx", "registry", "parquet", "kdump", "fsspec",
        "completion", "dask", "mcp", "all",
    }  # fmt: skip


def test_core_is_small():
    """Without an extra only four libraries come along, and a TOML reader where Python has none."""
    requires = importlib.metadata.requires("dumpstart")
    core = {re.match(r"[\w-]+", line)[0] for line in requires if "extra ==" not in line}
    assert core == {"numpy", "pandas", "matplotlib", "jinja2", "tomli"}


def test_pykd_only_where_it_exists():
    """The live extra asks for pykd on Windows and Python below 3.10 alone."""
    lines = [x for x in importlib.metadata.requires("dumpstart") if x.startswith("pykd")]
    assert lines
    for line in lines:
        assert "platform_system == 'Windows'" in line.replace('"', "'")
        assert "python_version < '3.10'" in line.replace('"', "'")


@pytest.mark.parametrize(
    "command",
    [
        [str(Path(sysconfig.get_path("scripts"), "dumpstart"))],
        [sys.executable, "-m", "analyzer"],
    ],
    ids=["dumpstart", "python -m analyzer"],
)
def test_command(command):
    """Both spellings of the command start and name themselves."""
    result = subprocess.run(
        [*command, "--help"], capture_output=True, text=True, check=False, cwd=ROOT / "tests"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("usage: dumpstart")


@pytest.mark.skipif(WHEEL is None, reason="runs against the built wheel (tests/run.py --wheel)")
def test_wheel_is_what_is_imported():
    """In the wheel run the source folder is not there to be imported by mistake."""
    assert not (ROOT / "analyzer").exists()
    assert "site-packages" in Path(analyzer.__file__).parts


@pytest.mark.skipif(WHEEL is None, reason="runs against the built wheel (tests/run.py --wheel)")
def test_wheel_contents():
    """The wheel holds the package, its type marker and data and its licence, and nothing else."""
    names = zipfile.ZipFile(WHEEL).namelist()
    info = f"dumpstart-{importlib.metadata.version('dumpstart')}.dist-info"
    assert {name.split("/")[0] for name in names} == {"analyzer", info}
    assert "analyzer/py.typed" in names
    assert f"{info}/licenses/LICENSE" in names
    suffixes = {Path(name).suffix for name in names if name.startswith("analyzer/")}
    # .cmd: the script that `collect` writes
    assert suffixes <= {".py", ".typed", ".json", ".jinja", ".css", ".js", ".cmd"}


def test_classifiers_match_python_range():
    """Every supported Python is named, from 3.9 to 3.13."""
    found = re.findall(r'"Programming Language :: Python :: 3\.(\d+)"', PYPROJECT)
    assert found == ["9", "10", "11", "12", "13"]


def test_lint_rules_have_reasons():
    """No lint rule is switched off without saying why."""
    block = PYPROJECT.split("\nignore = [\n", 1)[1].split("\n]", 1)[0]
    lines = block.splitlines()
    assert lines
    assert all(re.fullmatch(r'  "[A-Z]+\d*",\s+# .+', line) for line in lines)


@pytest.mark.skipif(os.environ.get("CI") != "true", reason="a developer may do without them")
def test_oracles_are_installed():
    """In continuous integration no comparison with another reader is left out unnoticed."""
    block = PYPROJECT.split("\noracles = [\n", 1)[1].split("\n]", 1)[0]
    if sys.platform != "linux":
        block = re.sub(r".*sys_platform == 'linux'.*", "", block)
    if sys.version_info >= (3, 13):
        block = re.sub(r".*python_version < '3.13'.*", "", block)
    names = re.findall(r'^  "([\w.-]+)', block, re.MULTILINE)
    assert "volatility3" in names
    for name in names:
        assert importlib.metadata.version(name)


def test_ci_runs_the_test_command():
    """The continuous integration script runs the documented test command."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert script.count("tests/run.py") == 3


def test_a_message_installs_what_the_extra_would():
    """What messages tell a user to install are the libraries that pyproject.toml lists."""
    for extra, libraries in LIBRARIES.items():
        (listed,) = re.findall(rf"^{extra} = \[(.*)\]", PYPROJECT, re.MULTILINE)
        names = re.findall(r'"([\w-]+)', listed)
        assert sorted(libraries.split()) == sorted(names), extra
