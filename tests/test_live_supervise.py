"""The process that the user sees, with a worker that says and does what a test wants.

Real workers are in test_live_process.py; here a script stands in for the Python that runs one.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
from pathlib import Path
from typing import Any, Callable

import pytest

from analyzer.errors import SessionError
from analyzer.live import supervise
from analyzer.live.options import Options

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the worker's stand-in is a script")
OPTIONS = Options("net:port=1,key=1.2.3.4", "dbgeng", "x.jsonl", timeout=60.0)


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Workers run the lines of a script from now on."""

    def put(*lines: str) -> None:
        path = tmp_path / "worker"
        head = (
            f"#!{real}\nimport json, os, sys, time\nline = sys.stdin.readline()\n"
            "def tell(**m):\n  print(json.dumps(m), flush=True)\n"
        )
        path.write_text(head + "\n".join(lines) + "\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(supervise.sys, "executable", str(path))

    real = sys.executable
    return put


@pytest.fixture
def worker(scripted: Callable[..., None]) -> Callable[..., Any]:
    """Starts a worker with the lines of a script; ``said`` has what it had shown."""

    def start(*lines: str, asked: Any = None, timeout: float = 60.0, progress: Any = None) -> Any:
        scripted(*lines)
        said: list[str] = []
        options = OPTIONS._replace(timeout=timeout)
        made: Any = supervise.Supervised(options, said.append, asked, progress)
        made.said = said
        return made

    return start


def test_what_a_worker_says(worker: Any) -> None:
    """Lines are shown, figures kept, what is no message is passed over; the order is complete."""
    states: list[Any] = []
    one = worker(
        "tell(say='attached'); tell(progress=[1, 2]); print('noise'); print('[7]')",
        "tell(files=['a'], calls=3); tell(order=json.loads(line), argv=sys.argv[1:])",
        "tell(say=5); tell(done=0)",
        asked={"filters": []},
        progress=lambda *state: states.append(state),
    )
    one.watch()
    told = one.result()
    assert one.said == ["attached", "5"]
    assert states == [(1, 2)]
    assert told.pop("order") == {
        "options": {**OPTIONS._asdict(), "callbacks": []}, "asked": {"filters": []},
    }  # fmt: skip
    assert told == {
        "say": 5, "progress": [1, 2], "files": ["a"], "calls": 3, "done": 0,
        "argv": ["-m", "analyzer.live.worker"],
    }  # fmt: skip
    assert one.is_bounded
    assert not one.heard
    assert one._process.stdin.closed
    assert one._process.stdout.closed
    assert one._process.stderr.closed
    assert all(reader.daemon for reader in one._readers)
    one._send("go")  # nobody listens any more


@pytest.mark.parametrize(
    ("line", "heard"),
    [
        ("tell(heard=True)", True),
        ("tell(attached=True)", True),
        ("tell(say='heard')", False),
        ("sys.stderr.write('kd: memory source kd\\n')", True),
        ("sys.stderr.write('a kd: memory source\\n')", False),
    ],
)
def test_when_the_target_has_answered(worker: Any, line: str, heard: bool) -> None:
    """The worker says so, or the engine prints it."""
    one = worker(line, "tell(done=0)")
    one.watch()
    assert one.heard is heard


def test_a_worker_that_dies(worker: Any) -> None:
    """Its code, and the last line that it printed."""
    one = worker("sys.stderr.write('first\\nsegment\\u00e4tion fault\\n\\n'); sys.exit(7)")
    one.watch()
    with pytest.raises(SessionError) as caught:
        one.result()
    assert str(caught.value) == "the debugger's process ended with 7: segmentätion fault."
    one = worker("sys.exit(3)")
    one.watch()
    with pytest.raises(SessionError) as caught:
        one.result()
    assert str(caught.value) == "the debugger's process ended with 3."
    one = worker("sys.stderr.write('x' * 5000 + '\\n'); sys.exit(3)")
    one.watch()
    assert one._printed == b"x" * 3999 + b"\n"


def test_errors_of_a_worker(worker: Any) -> None:
    """The first counts, with one full stop."""
    one = worker("tell(error='no luck..'); tell(error='more'); tell(done=2)")
    one.watch()
    with pytest.raises(SessionError) as caught:
        one.result()
    assert str(caught.value) == "no luck."


NOBODY = (
    "nobody answered at 'net:port=1,key=...' in 0.3 s: is the target running, with debugging on "
    "(bcdedit /debug on) and this connection."
)
NOT_DONE = (
    "not done in 0.3 s; the target at 'net:port=1,key=...' runs on (--timeout gives it more)."
)


@pytest.mark.parametrize(
    ("first", "asked", "words"),
    [("", None, NOBODY), ("", {}, NOBODY), ("tell(heard=True)", {}, NOT_DONE)],
)
def test_a_time_limit(worker: Any, first: str, asked: Any, words: str) -> None:
    """The worker is asked to stop; a target that answered runs on."""
    one = worker(first, "line = sys.stdin.readline(); tell(word=line, done=0)", asked=asked,
                 timeout=0.3)  # fmt: skip
    one.watch()
    assert one.told["word"] == "stop\n"
    with pytest.raises(SessionError) as caught:
        one.result()
    assert str(caught.value) == words


def test_a_capture_that_runs_has_its_own_limit(worker: Any) -> None:
    """It ends by itself; nothing is asked of it."""
    one = worker("tell(heard=True); time.sleep(0.6); tell(done=0)", timeout=0.2)
    one.watch()
    assert (one.error, one._stopping) == ("", None)
    assert one.result()["done"] == 0


@pytest.mark.parametrize("heard", [False, True])
def test_a_worker_that_does_not_end(
    worker: Any, heard: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed: soon where nobody answered, late where a target may stand."""
    monkeypatch.setattr(supervise, "_LONG" if heard else "_SHORT", 0.3)
    monkeypatch.setattr(supervise, "_SHORT" if heard else "_LONG", 1000.0)
    one = worker("tell(heard=True)" if heard else "", "time.sleep(1000)")
    threading.Timer(0.5, one.stop).start()
    one.watch()
    assert one._process.returncode == -signal.SIGKILL
    assert one.error == (
        "the debugger's engine does not end; it was killed, and the target may stand: attach "
        "again, which lets it run" if heard else ""
    )  # fmt: skip


def test_stopping_and_going_on(worker: Any) -> None:
    """Each word once; a second stop changes nothing."""
    one = worker(
        "words = [sys.stdin.readline() for _ in range(3)]; tell(words=words)", "tell(done=0)"
    )
    one.resume()
    one.stop()
    first = one._stopping
    one.stop()
    assert one._stopping == first
    one.resume()
    one.watch()
    assert one.told["words"] == ["go\n", "stop\n", "go\n"]
    one = worker("sys.exit(0)")
    one.stop()
    one.watch()
    assert one.result() == {}  # it was asked to end


def test_the_commands(scripted: Any) -> None:
    """A capture's outcome, a dry run's report, and what is raised of one that was stopped."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    scripted("tell(files=['a', 2], calls='4', stands=1); tell(done=0)")
    assert supervise.run(OPTIONS, print) == (["a", "2"], 4, True)
    scripted("tell(done=0)")
    assert supervise.run(OPTIONS, print) == ([], 0, False)
    with pytest.raises(KeyboardInterrupt):
        supervise.dry_run(OPTIONS, {})
    scripted("tell(asked=json.loads(line)['asked'], report='x', done=0)")
    assert supervise.dry_run(OPTIONS, {}) == {"asked": {}, "report": "x", "done": 0}
    assert before == [signal.getsignal(number) for number in numbers]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_the_worker(worker: Any, number: int) -> None:
    """And then this process, orderly."""
    one = worker("tell(say='up'); tell(word=sys.stdin.readline())", "tell(done=0)")
    threading.Timer(0.5, os.kill, (os.getpid(), number)).start()
    told = supervise._ended(one)
    assert told["word"] == "stop\n"
    found: list[Any] = []
    one = worker("tell(done=0)")
    thread = threading.Thread(target=lambda: found.append(supervise._ended(one)))
    thread.start()  # where signals cannot be caught
    thread.join()
    assert found == [{"done": 0}]


def test_the_worker_finds_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before what PYTHONPATH names."""
    root = str(Path(supervise.__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    assert supervise._environment()["PYTHONPATH"] == os.pathsep.join((root, "elsewhere"))
    monkeypatch.delenv("PYTHONPATH")
    assert supervise._environment() == {**os.environ, "PYTHONPATH": root}
    assert supervise._apart() == {"start_new_session": True}
    monkeypatch.setattr(supervise.os, "name", "nt")
    assert supervise._apart() == {"creationflags": 0x08000000}
