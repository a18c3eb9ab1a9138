"""The package's structure: what may import what, and what every module must have."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(importlib.util.find_spec("analyzer").origin).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
#: these also run inside the debugger, where only the standard library may be imported
STANDARD_LIBRARY_ONLY = (
    *("errors", "absence", "records", "layouts", "names", "target", "dumpstack"),
    *("live", "stacks", "symbols"),
)
MAX_LINES = 400
LINT_IMPORTS = Path(sysconfig.get_path("scripts"), "lint-imports")

BARE_IMPORT = """
import sys, importlib

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("numpy", "pandas", "matplotlib", "jinja2", "pykd"):
            raise AssertionError(name + " imported")

sys.meta_path.insert(0, Refuse())
sys.path.insert(0, sys.argv[1])
before = set(sys.modules)
importlib.import_module(sys.argv[2])
tops = {name.partition(".")[0] for name in set(sys.modules) - before}
known = set(getattr(sys, "stdlib_module_names", tops)) | {"analyzer"}
assert tops <= known, tops - known
"""


def bare_import(name):
    """Imports a module in an interpreter without site-packages; returns what went wrong."""
    command = [sys.executable, "-I", "-S", "-c", BARE_IMPORT, str(PACKAGE.parent), name]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


@pytest.mark.parametrize(
    "name", [name for name in MODULES if name.split(".")[1] in STANDARD_LIBRARY_ONLY]
)
def test_standard_library_only(name):
    """The half that runs inside the debugger imports in a bare interpreter."""
    assert bare_import(name.replace(".__init__", "")) == ""


@pytest.mark.parametrize("name", ["analyzer", "analyzer.cli"])
def test_start_up_is_light(name):
    """Importing the package or its command line loads no heavy library."""
    assert bare_import(name) == ""


def test_bare_import_refuses():
    """The check above does see a heavy import."""
    assert "numpy imported" in bare_import("numpy")


@pytest.mark.parametrize("name", MODULES)
def test_module_has_a_docstring(name):
    """Every module says its one job."""
    assert ast.get_docstring(ast.parse(MODULES[name].read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", MODULES)
def test_module_is_short(name):
    """No module grows past what can be read in one sitting."""
    length = len(MODULES[name].read_text(encoding="utf-8").splitlines())
    assert length <= MAX_LINES


def test_only_cli_prints_or_exits():
    """Output and exit codes are decided in one place."""
    calls = {
        (name, node.func.id)
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id in ("print", "exit", "quit")
    }
    assert {name for name, _ in calls} <= {"analyzer.cli"}


@pytest.mark.skipif(
    not (ROOT / "analyzer").is_dir() or not LINT_IMPORTS.exists(),
    reason="import-linter reads the source folder and is installed where the static checks run",
)
def test_import_contracts():
    """The layers of pyproject.toml hold."""
    environment = dict(os.environ, PYTHONIOENCODING="utf-8")
    result = subprocess.run(
        [LINT_IMPORTS], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout
