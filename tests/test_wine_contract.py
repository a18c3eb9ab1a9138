"""The contract of live sessions, run by pytest inside the Windows Python, on real pykd."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from kd.simulator import Simulated, simulated
from wine import session
from wine.provision import REPOSITORY, Wine, windows_path

pytestmark = pytest.mark.live


@pytest.fixture(params=[("dbgeng", 13), ("dbgeng", 9), ("pykd", 9)], ids=str)
def wine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Wine:
    """A Windows Python, the backend of the contract named as a user of Windows names it."""
    backend, minor = request.param
    monkeypatch.setenv("DUMPSTART_TARGET", f"{backend}:{session.COM1}")
    return session.provided(minor)


@pytest.fixture
def target(wine: Wine) -> Iterator[Simulated]:
    """The simulated machine."""
    with simulated("normal", tty=wine.port) as machine:
        session.stop_server(wine)
        yield machine


def test_the_backend_keeps_the_contract(wine: Wine, target: Simulated) -> None:
    """``-m live tests/test_live_contract.py``, the command for a real Windows machine, passes."""
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
