"""``dumpstart capture``: opens the session, captures, leaves the target running.

Invariant: whatever ends the capture (its limit, the user, an error), the end fact is written,
breakpoints are removed and the target runs on. Standard library only.
"""

from __future__ import annotations

import signal
import socket
import threading
from typing import Any, Callable

from ..errors import SessionError
from ..sources.capture_format import Writer
from .capture import Capture
from .routines import parse, parse_writes
from .session import Session

NOTHING = "no filter was found; name a routine with --callback [NAME=]WHERE"


def run(arguments: Any, say: Callable[[str], None]) -> int:
    """Runs the command; 0 when calls were captured, 1 when none was."""
    routines = [parse(text) for text in arguments.callback]
    writes = parse_writes(arguments.writes)
    writer = Writer.new(arguments.output)  # before the target is stopped
    try:
        session = _open(arguments)
    except BaseException:
        writer.discard()
        raise
    try:
        capture = Capture(session, writer, writes, arguments.calls)
        restore = _on_interrupt(capture)
        reason = "the capture failed"
        try:
            capture.begin(routines, arguments.tsc_hz)
            say(f"watching {len(capture.watch.armed)} callbacks; Ctrl+C ends the capture")
            if not capture.watch.armed:
                say(NOTHING)
            if capture.watch.armed or "module-events" in session.capabilities:
                reason = capture.run(arguments.timeout)
            else:
                reason = "there is nothing to watch"
        except SessionError as error:
            reason = f"the session failed: {error}"
            raise
        finally:
            restore()
            capture.finish(reason)
            writer.close()
    finally:
        session.close(leave_running=True)
    if writer.problem:
        raise SessionError(f"{writer.problem}.")
    say(f"{reason}; {capture.watch.calls} calls captured in {arguments.output}")
    return 0 if capture.watch.calls else 1


def _open(arguments: Any) -> Session:
    if arguments.replay:
        from .replay import ReplaySession

        return ReplaySession(arguments.replay)
    if arguments.ntoseye:
        from .ntoseye_target import attach

        return attach(arguments.ntoseye)
    from . import pykd_target

    if arguments.remote:
        return pykd_target.remote(arguments.remote, arguments.symbols)
    return pykd_target.attach(arguments.connect, arguments.symbols)


def _on_interrupt(capture: Capture) -> Callable[[], None]:
    """Ctrl+C breaks in and ends the capture; the function returned undoes that.

    While the engine runs the target, Python's own handlers wait for it to return: the byte that the
    interpreter writes at once wakes a thread of ours instead.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    woken, written = socket.socketpair()
    written.setblocking(False)
    before = signal.signal(signal.SIGINT, lambda *_: None)
    other = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)

    def wait() -> None:
        if woken.recv(1):
            capture.stop()
        woken.close()

    threading.Thread(target=wait, daemon=True).start()

    def restore() -> None:
        signal.set_wakeup_fd(other)
        signal.signal(signal.SIGINT, before)
        written.close()

    return restore
