"""Every command shown in the documentation runs, and does what it says.

Only blocks marked ``console`` count, and in them only lines that start with ``$ dumpstart`` are
run; what a block shows below such a line must be part of what the command prints ("..." stands for
lines left out). Exit code 0 or 1 (findings) unless the command's comment says ``# exit N``.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import analyzer

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def examples():
    """(document, command, expected exit codes, shown output) of each example."""
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                line, _, output = part.partition("\n")
                if line.startswith("dumpstart"):
                    command, _, comment = line.partition("  # ")
                    code = re.match(r"exit (\d)", comment)
                    codes = {int(code[1])} if code else {0, 1}
                    name = document.relative_to(ROOT).as_posix()
                    yield pytest.param(command, codes, output.strip(), id=f"{name}: {command}")


@pytest.mark.parametrize(("command", "codes", "shown"), list(examples()))
def test_example(command, codes, shown, tmp_path):
    """The command of an example ends as documented and prints what is shown."""
    arguments = shlex.split(command)[1:]
    for i, argument in enumerate(arguments):
        if argument == "--output":  # nothing is written into the project
            arguments[i + 1] = str(tmp_path / Path(arguments[i + 1]).name)
    result = subprocess.run(
        [sys.executable, "-m", "analyzer", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert result.returncode in codes, result.stderr
    printed = (result.stdout + result.stderr).splitlines()
    position = 0
    for chunk in re.split(r"^\s*\.\.\.\s*$", shown, flags=re.MULTILINE):
        lines = [line.rstrip() for line in chunk.strip("\n").splitlines()]
        rest = [line.rstrip() for line in printed[position:]]
        starts = [i for i in range(len(rest) + 1) if rest[i : i + len(lines)] == lines]
        assert starts, f"not printed: {lines}\nprinted: {rest}"
        position += starts[0] + len(lines)


def test_readme_has_examples():
    """The README shows at least one command with its real output."""
    assert any(p.id.startswith("README.md") and p.values[2] for p in examples())


def test_set_up_commands():
    """The two set-up commands stand in the README as the continuous integration runs them."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    (first,) = re.findall(r"^pip install \. && .+$", readme, re.MULTILINE)
    assert first in script.replace(" --quiet", "")
    assert "python tests/run.py" in readme


def test_set_up_commands_of_windows():
    """The same steps for PowerShell 5.1 and cmd: a plain command a line."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```bat\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert not set(block) & set("&|;#<>^%$`'\"()@")
    make, install, first = block.splitlines()
    assert make == "py -m venv .venv"
    assert install == r".venv\Scripts\python -m pip install ."
    sample = first.rpartition(" ")[2]
    assert first == rf".venv\Scripts\dumpstart analyze {sample}"
    (ours,) = re.findall(r"^pip install \. && dumpstart analyze (.+)$", readme, re.MULTILINE)
    assert sample.replace("\\", "/") == ours


def test_links():
    """Every relative link of the documentation leads to a file of the project or of the package."""
    installed = Path(analyzer.__file__).parent.parent
    broken = [
        (document.name, target)
        for document in DOCUMENTS
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
        if "://" not in target
        and not (document.parent / target).exists()
        and not (installed / target.removeprefix("../")).exists()
    ]
    assert broken == []
