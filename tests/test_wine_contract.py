"""The contract of live sessions, run by pytest inside the Windows Python, on real pykd."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from kd.simulator import Simulated, simulated
from wine import session
from wine.provision import REPOSITORY, windows_path

pytestmark = pytest.mark.live


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulated]:
    """The simulated machine, named as a user of Windows names a real one."""
    wine = session.provided()
    monkeypatch.setenv("DUMPSTART_TARGET", f"pykd:{session.COM1}")
    with simulated("normal", tty=wine.port) as machine:
        session.stop_server(wine)
        yield machine


def test_pykd_keeps_the_contract(target: Simulated) -> None:
    """``-m live tests/test_live_contract.py``, the command for a real Windows machine, passes."""
    wine = session.provided()
    file = windows_path(REPOSITORY / "tests" / "test_live_contract.py")
    arguments = ["-m", "pytest", "-p", "no:cacheprovider", "-m", "live", "-q", file]
    output = session.run_program(wine, wine.python, arguments, limit=120)
    assert re.search(r"^[1-9]\d* passed", output, re.M), output
    assert "failed" not in output, output
    assert "error" not in output.lower(), output
    report = target.end()
    assert not report["standing"]
    assert report["breakpoints"] == []
    assert report["ran_since_resume"] > 10
