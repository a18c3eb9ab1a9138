"""The script of ``dumpstart collect`` runs in a cmd.exe: Wine's, whose syntax is Windows'."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from wine.provision import windows_path
from wine.session import provided

from analyzer.cli import main

pytestmark = pytest.mark.live


def test_it_gathers_and_changes_nothing(tmp_path: Path) -> None:
    """Dumps, logs and settings lie in one folder; what is there already is left as it is."""
    wine = provided()
    windows = wine.prefix / "drive_c" / "windows"
    files = {windows / "MEMORY.DMP": "MEMORY.DMP", windows / "Minidump" / "a.dmp": "Minidump/a.dmp"}
    files[wine.prefix / "drive_c" / "DumpStack.log"] = "DumpStack-C.log"
    for path in files:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(path.name.encode())
    assert main(["collect", "-o", str(tmp_path / "collect.cmd")]) == 0
    out = tmp_path / "out"
    command = ["wine", "cmd", "/c", "collect.cmd", windows_path(out)]

    def run() -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            command, cwd=tmp_path, env=wine.environment(), stdin=subprocess.DEVNULL,
            capture_output=True, timeout=120, check=False,
        )  # fmt: skip

    try:
        done = run()
        assert done.returncode == 0, done.stdout
        for path, name in files.items():
            assert (out / name).read_bytes() == path.read_bytes()
        assert (out / "Services.reg").exists()
        before = sorted(path.name for path in out.rglob("*"))
        again = run()
        assert again.returncode == 1
        assert b"is there already" in again.stdout
        assert sorted(path.name for path in out.rglob("*")) == before
    finally:
        for path in files:
            path.unlink()
