"""The completion scripts: a shell takes them, and completes what the parser knows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from analyzer import checks, records
from analyzer.arguments import COMMANDS
from analyzer.cli import main
from analyzer.completion import SHELLS

pytest.importorskip("shtab")
BASH = shutil.which("bash") if os.name != "nt" else None


def completed(script: Path, *words: str) -> list[str]:
    """What bash offers for the last word."""
    assert BASH is not None
    code = (
        f'source {script}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        "$(complete -p dumpstart | sed 's/.*-F \\([^ ]*\\).*/\\1/') dumpstart \"${!#}\"; "
        "printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    ran = subprocess.run(
        [BASH, "--norc", "-c", code, "bash", "dumpstart", *words],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stderr == ""
    return [word.strip() for word in ran.stdout.split("\n") if word.strip()]


@pytest.fixture(scope="module")
def bash(tmp_path_factory: Any) -> Path:
    """The script for bash."""
    if BASH is None:
        pytest.skip("needs bash")
    path = tmp_path_factory.mktemp("completion") / "dumpstart.bash"
    assert main(["completion", "bash", "--output", str(path)]) == 0
    subprocess.run([BASH, "-n", str(path)], check=True)
    return path


def test_bash_completes_commands(bash: Path) -> None:
    """Every command, and those that begin like the word."""
    assert set(COMMANDS) <= set(completed(bash, ""))
    assert completed(bash, "co") == ["collect", "completion"]


def test_bash_completes_options_and_their_values(bash: Path) -> None:
    """The lazily added options of a command are there, and the choices of one."""
    assert completed(bash, "analyze", "--fail") == ["--fail-on"]
    assert completed(bash, "analyze", "--fail-on", "w") == ["warning"]
    assert "--max-stop" in completed(bash, "analyze", "--max")
    assert completed(bash, "capture", "--stop") != []
    assert completed(bash, "info", "--fail") == []


def test_bash_completes_names(bash: Path) -> None:
    """Tables and rules, which the parser itself leaves to the commands."""
    wanted = [name for name in records.TABLES if name.startswith("f")]
    assert sorted(completed(bash, "show", "f")) == sorted(wanted)
    wanted = [name for name in checks.RULES if name.startswith("filter-")]
    assert sorted(completed(bash, "explain", "filter-")) == sorted(wanted)


def test_bash_completes_files(bash: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an argument that is a file."""
    (tmp_path / "MEMORY.DMP").touch()
    monkeypatch.chdir(tmp_path)
    assert completed(bash, "analyze", "MEM") == ["MEMORY.DMP"]


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_has_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It names the commands and an option of one."""
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in COMMANDS)
    assert "fail-on" in script


def test_no_other_command_loads_it() -> None:
    """The library and the module are not there after a run of another command."""
    code = (
        "import sys; from analyzer.cli import main; main(['explain', 'filter-disabled']); "
        "print([n for n in ('shtab', 'analyzer.completion') if n in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_a_missing_library_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "zsh"]) == 2
    assert "pip install shtab" in capsys.readouterr().err
