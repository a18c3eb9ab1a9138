"""The process that the user sees: it starts the worker, shows what it says, and always ends.

Invariant: before the target answered, a time limit and Ctrl+C end the wait whatever the engine
does, because only the worker's process blocks; from then on the worker is asked to let the target
go, and is killed only when it does not for a long time, which is said. Standard library only.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from ..dryrun.ask import Progress
from ..errors import SessionError
from .connection import secretless
from .ntoseye_target import ANSWERED
from .options import Options

if TYPE_CHECKING:
    from .dry_run import Asked

Message = dict[str, Any]  #: JSON of the worker
#: seconds that a worker whose target never answered may take to end
_SHORT = 1.0
#: seconds that a worker may take to remove its breakpoints and let the target go
_LONG = 60.0
_KEPT = 4000


class Outcome(NamedTuple):
    """How a run ended."""

    files: list[str]
    calls: int
    stands: bool


class Supervised:
    """One worker. ``asked``: the dry runs that are wanted of it, None for a capture."""

    def __init__(
        self,
        options: Options,
        say: Callable[[str], None],
        asked: Asked | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.options, self.say, self.progress = options, say, progress
        self.is_bounded = asked is not None  #: a capture ends by itself when the time is up
        self.heard = False
        self.told: Message = {}  #: what came of it
        self.error = ""
        self._stopping: float | None = None
        self._messages: queue.Queue[Message | None] = queue.Queue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "analyzer.live.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=_environment(), **_apart(),
        )  # fmt: skip
        self._printed = b""
        self._readers = [
            threading.Thread(target=read, daemon=True) for read in (self._read, self._drain)
        ]
        for reader in self._readers:
            reader.start()
        # On the pipe, not on the command line: a connection string holds keys.
        self._send(json.dumps({"options": options._asdict(), "asked": asked}))

    def _send(self, line: str) -> None:
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            pass  # it has ended, and is told as that

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                message = json.loads(line)
            except ValueError:
                continue
            self._messages.put(message if isinstance(message, dict) else {})
        self._messages.put(None)

    def _drain(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if line.startswith(ANSWERED):
                self.heard = True
            self._printed = (self._printed + line)[-_KEPT:]

    def stop(self) -> None:
        """Asks the worker to end; a second time it is not waited for any longer."""
        if self._stopping is not None:
            return
        self._stopping = time.monotonic()
        self._send("stop")

    def resume(self) -> None:
        """Lets a target go on that stands where it was asked to."""
        self._send("go")

    def watch(self) -> None:
        """Until the worker has ended."""
        started = time.monotonic()
        while True:
            try:
                message = self._messages.get(timeout=0.1)
            except queue.Empty:
                message = {}
            if message is None:
                break
            self._take(message)
            now = time.monotonic()
            waited = self._stopping
            is_late = waited is None and now - started >= self.options.timeout
            if is_late and (self.is_bounded or not self.heard):
                self.error = self._late()
                self.stop()
            elif waited is not None and now - waited > (_LONG if self.heard else _SHORT):
                if self.heard:
                    self.error = (
                        "the debugger's engine does not end; it was killed, and the target may "
                        "stand: attach again, which lets it run"
                    )
                self._process.kill()
                break
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        for reader, stream in zip(self._readers, (self._process.stdout, self._process.stderr)):
            reader.join(1)
            if not reader.is_alive() and stream is not None:  # closing would wait for the reader
                stream.close()

    def _late(self) -> str:
        where, limit = secretless(self.options.connect), f"{self.options.timeout:g} s"
        if self.heard:
            return f"not done in {limit}; the target at '{where}' runs on (--timeout gives it more)"
        return (
            f"nobody answered at '{where}' in {limit}: is the target "
            "running, with debugging on (bcdedit /debug on) and this connection"
        )

    def _take(self, message: Message) -> None:
        if "say" in message:
            self.say(str(message["say"]))
        if "progress" in message and self.progress is not None:
            self.progress(*message["progress"])
        if message.get("heard") or message.get("attached"):
            self.heard = True
        if "error" in message:
            self.error = self.error or str(message["error"])
        self.told.update(message)

    def result(self) -> Message:
        """What the worker told last of each; raises what went wrong."""
        if self.error:
            raise SessionError(self.error.rstrip(".") + ".")
        if "done" not in self.told and self._stopping is None:
            last = self._printed.decode("utf-8", "replace").strip().splitlines()[-1:]
            code = self._process.returncode
            told = "".join(f": {line}" for line in last)
            raise SessionError(f"the debugger's process ended with {code}{told}.")
        return self.told


def _environment() -> dict[str, str]:
    """The worker finds the package where this process found it."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    known = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, known)))}


def _apart() -> dict[str, Any]:
    """Ctrl+C and a closed console reach this process alone; it tells the worker."""
    if os.name == "nt":
        return {"creationflags": getattr(subprocess, "CREATE_NO_WINDOW", 0x08000000)}
    return {"start_new_session": True}


def run(options: Options, say: Callable[[str], None]) -> Outcome:
    """Runs a capture; Ctrl+C, SIGTERM and a closed terminal end it orderly."""
    told = _ended(Supervised(options, say))
    files = [str(name) for name in told.get("files", ())]
    return Outcome(files, int(told.get("calls", 0)), bool(told.get("stands")))


def dry_run(options: Options, asked: Asked, progress: Progress | None = None) -> Message:
    """Runs dry runs (:mod:`analyzer.live.dry_run`): their report and exit code.

    KeyboardInterrupt when it was stopped; the target runs on then, too.
    """
    told = _ended(Supervised(options, lambda _: None, asked, progress))
    if "report" not in told:
        raise KeyboardInterrupt
    return told


def _ended(worker: Supervised) -> Message:
    with _signals(worker):
        worker.watch()
    return worker.result()


@contextmanager
def _signals(worker: Supervised) -> Iterator[None]:
    """What would end this process ends the worker, and then this process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {}
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        number = getattr(signal, name, None)
        if number is not None:
            before[number] = signal.signal(number, lambda *_: worker.stop())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
