"""A scan on a Dask cluster: the same rows, also when a worker is killed in the middle."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("distributed")

import population
from test_scan import content

from analyzer.errors import InputError
from analyzer.population import scan


@contextlib.contextmanager
def started(*command):
    """A program whose standard error is a queue of lines."""
    with subprocess.Popen(
        [sys.executable, "-m", *command], stderr=subprocess.PIPE, text=True, env={**os.environ}
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(process, pattern):
    """Reads its lines up to one that matches; then drains the rest."""
    for line in process.stderr:
        found = re.search(pattern, line)
        if found:
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return found.group(1)
    raise AssertionError(f"{process.args}: it ended without {pattern}")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills by signal")
def test_worker_killed_in_the_middle(tmp_path, monkeypatch):
    """Three worker processes, one killed while it works: every case once, the same rows."""
    population.write(tmp_path / "in", 200)
    source = [str(tmp_path / "in")]
    with ThreadPoolExecutor(1) as executor:
        scan.scan(source, str(tmp_path / "alone"), jobs=1, executor=executor)
    monkeypatch.setattr(scan, "_CHUNK_CASES", 4)
    with contextlib.ExitStack() as stack:
        address = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        scheduler = stack.enter_context(started("distributed.cli.dask_scheduler", *address))
        url = wait_for(scheduler, r"Scheduler at: *(tcp://\S+)")
        options = ("--no-nanny", "--nthreads", "1", "--no-dashboard", "--memory-limit", "0")
        workers = [
            stack.enter_context(started("distributed.cli.dask_worker", url, *options))
            for _ in range(3)
        ]
        for worker in workers:
            wait_for(worker, r"(Registered to)")
        done = []

        def progress(_what, count, _total):
            done.append(count)
            if count > 20 and workers[0].poll() is None:
                workers[0].send_signal(signal.SIGKILL)
                time.sleep(0.2)

        counts = scan.scan(source, str(tmp_path / "out"), scheduler=url, progress=progress)
        assert workers[0].poll() == -signal.SIGKILL
        assert 20 < next(count for count in done if count > 20) < 200  # it was in the middle
    assert counts.outcomes.get("failed", 0) == 0
    assert content(tmp_path / "out") == content(tmp_path / "alone")


@pytest.mark.slow
def test_no_scheduler_there(tmp_path, monkeypatch):
    """A scheduler that cannot be reached is said in one sentence."""
    (tmp_path / "a.log").write_text("x")
    monkeypatch.setattr(scan, "_DASK_WAIT", "1s")
    with pytest.raises(InputError, match="the scheduler cannot be reached"):
        scan.scan([str(tmp_path / "a.log")], str(tmp_path / "out"), scheduler="tcp://127.0.0.1:9")
