"""The process that holds the engine: ``python -m analyzer.live.worker``, started by supervise.py.

Invariant: it speaks to its parent in JSON lines, on a pipe of its own, so nothing that an engine
prints disturbs that; when the parent says stop, or is gone, the target is left running. Standard
library only.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import Any, Callable

from ..errors import AnalyzerError
from .dry_run import Job
from .options import Options
from .run import Run, open_session


def main() -> int:
    """Serves one order, which is the first line of stdin."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
    os.dup2(2, 1)  # what an engine prints is kept apart from what is said here
    for name in ("SIGINT", "SIGBREAK", "SIGHUP"):
        if hasattr(signal, name):  # the parent decides; of its end the pipe tells
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    lock = threading.Lock()

    def tell(**message: object) -> None:
        try:
            with lock:
                out.write(json.dumps(message) + "\n")
                out.flush()
        except (OSError, ValueError):
            pass  # the parent is gone; its pipe says so, too

    line = sys.stdin.readline()
    try:
        job = _job(json.loads(line), tell)
        signal.signal(signal.SIGTERM, lambda *_: job.stop())
        threading.Thread(target=_listen, args=(job,), daemon=True).start()
        serve(job, tell)
        code = 0
    except AnalyzerError as error:
        tell(error=str(error))
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    except Exception as error:  # noqa: BLE001 - the parent tells it in one sentence
        tell(error=f"the session failed: {type(error).__name__}: {error}")
        code = 2
    tell(done=code)
    out.close()
    return code


def _job(order: dict[str, Any], tell: Callable[..., None]) -> Run | Job:
    """What the parent wants: a capture, or the dry runs that it asks for."""
    options = Options(**order["options"])
    if order["asked"] is None:
        return Run(options, lambda text: tell(say=text))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the job's own way to be stopped
    return Job(options, order["asked"], lambda *state: tell(progress=state))


def serve(job: Run | Job, tell: Callable[..., None]) -> None:
    """Attaches, works, tells how it ended."""
    session = open_session(job.options, lambda: tell(heard=True))
    try:
        tell(attached=True)
        job.work(session)
    finally:
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        finally:
            session.close()  # a second time does nothing
            tell(**job.told())


def _listen(job: Run | Job) -> None:
    """Commands of the parent; the end of the pipe is the end of the parent."""
    while True:
        try:
            word = sys.stdin.readline().strip()
        except (OSError, ValueError):
            word = ""
        if word == "go":
            job.resume()
            continue
        job.stop()
        return


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # An engine's own threads may hang at exit; the target was let go before.
    os._exit(code)
