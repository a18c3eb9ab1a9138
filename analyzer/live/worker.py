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
from .options import Options
from .run import Run, open_session


def main() -> int:
    """Serves one run: its options are the first line of stdin."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
    os.dup2(2, 1)  # what an engine prints is kept apart from what is said here
    for name in ("SIGINT", "SIGBREAK", "SIGHUP"):
        if hasattr(signal, name):  # the parent decides; of its end the pipe tells
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    lock = threading.Lock()

    def tell(**message: Any) -> None:
        try:
            with lock:
                out.write(json.dumps(message) + "\n")
                out.flush()
        except (OSError, ValueError):
            pass  # the parent is gone; its pipe says so, too

    line = sys.stdin.readline()
    try:
        options = Options(**json.loads(line))
        run = Run(options, lambda text: tell(say=text))
        signal.signal(signal.SIGTERM, lambda *_: run.stop())
        threading.Thread(target=_listen, args=(run,), daemon=True).start()
        code = serve(run, tell)
    except AnalyzerError as error:
        tell(error=str(error))
        code = error.exit_code
    except Exception as error:  # noqa: BLE001 - the parent tells it in one sentence
        tell(error=f"the capture failed: {type(error).__name__}: {error}")
        code = 2
    tell(done=code)
    out.close()
    return code


def serve(run: Run, tell: Callable[..., None]) -> int:
    """Attaches, captures, tells how it ended."""
    session = open_session(run.options, lambda: tell(heard=True))
    try:
        tell(attached=True)
        run.capture(session)
    finally:
        session.close()  # a second time does nothing
        tell(files=run.files, calls=run.calls, stands=run.stands)
    return 0


def _listen(run: Run) -> None:
    """Commands of the parent; the end of the pipe is the end of the parent."""
    while True:
        try:
            word = sys.stdin.readline().strip()
        except (OSError, ValueError):
            word = ""
        if word == "go":
            run.resumed.set()
            continue
        run.stop()
        return


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # An engine's own threads may hang at exit; the target was let go before.
    os._exit(code)
