"""A capture from the attach to the detach, in the process that holds the debugger's engine.

Invariant: whatever ends it (its limit, the user, an error, the death of the process that asked for
it), the end fact is written, breakpoints are removed and the target runs on, unless it was asked to
be left standing in a debugger that somebody else holds. Standard library only.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from typing import Callable

from ..errors import SessionError
from ..sources.capture_format import Fact, Writer
from . import leftovers
from .capture import Capture
from .lines import Narrator
from .options import Options, parse_stop_on
from .routines import Routine, parse, parse_writes
from .session import Session

NOTHING = "no filter was found; name a routine with --callback [NAME=]WHERE"


class Run:
    """One run; ``stop`` may be called from any thread, before there is a session, too."""

    def __init__(self, options: Options, say: Callable[[str], None]) -> None:
        self.options, self.say = options, say
        self.routines: Sequence[Routine] = [parse(text) for text in options.callbacks]
        self.writes = parse_writes(options.writes)
        self.stop_on = parse_stop_on(options.stop_on)
        self.files: list[str] = []
        self.calls = 0
        self.stands = False  #: the target was left standing in the user's debugger
        self.resumed = threading.Event()  #: set by the user who looked at a standing target
        self._capture: Capture | None = None
        self._ended = threading.Event()

    def stop(self) -> None:
        """Asks the run to end."""
        self._ended.set()
        self.resumed.set()
        capture = self._capture
        if capture is not None:
            capture.stop()

    def resume(self) -> None:
        """Lets a target go on that stands where it was asked to."""
        self.resumed.set()

    def told(self) -> dict[str, object]:
        """What came of it."""
        return {"files": self.files, "calls": self.calls, "stands": self.stands}

    def work(self, session: Session) -> None:
        """Captures boot after boot, until something ends it; the session is closed then."""
        leave_running = True
        try:
            if session.engine:
                self.say(f"engine: {session.engine}")
            self.say(f"attached to {session.path}: {session.described()}")
            self._clean(session)
            deadline = time.monotonic() + self.options.timeout
            while True:
                is_again = self._boot(session, deadline)
                if not is_again:
                    break
            leave_running = not self.stands
        finally:
            session.close(leave_running=leave_running)

    def _clean(self, session: Session) -> None:
        """Removes what a debugger that died has left in the target."""
        removed = leftovers.remove(session)
        if removed:
            self.say(f"{removed} breakpoints that a debugger had left behind were removed")

    def _boot(self, session: Session, deadline: float) -> bool:
        """One capture; True when the target rebooted and the next one begins."""
        path = self._next_file()
        writer = Writer.new(path)
        narrator = Narrator(self.say)

        def sink(fact: Fact) -> None:
            writer(fact)
            narrator.take(fact)

        options = self.options
        left = None if options.calls is None else options.calls - self.calls
        capture = Capture(session, sink, self.writes, left, self.stop_on)
        capture.watch.first_bytes = options.first_bytes
        points = capture.watch.points
        points.on_planted = lambda: leftovers.note(session, points.planted)
        self._capture, reason = capture, "the capture failed"
        try:
            capture.begin(self.routines, options.tsc_hz)
            watched = capture.watch.armed
            names = sorted({a.routine.filter or "an unnamed filter" for a in watched.values()})
            self.say(
                f"watching {len(watched)} callbacks{' of ' if names else ''}{', '.join(names)}"
            )
            if not watched:
                self.say(NOTHING)
            if self._ended.is_set():
                reason = "stopped by the user"
            elif watched or "module-events" in session.capabilities:
                reason = capture.run(deadline - time.monotonic())
            else:
                reason = "there is nothing to watch"
            if capture.watch.stands_at is not None:
                narrator.flush()
                self._stand(session, capture)
        except SessionError as error:
            reason = f"the session failed: {error}"
            raise
        finally:
            capture.finish(reason)
            if not points.planted:
                leftovers.forget(session)
            narrator.end()
            writer.close()
            self._capture = None
            self.calls += capture.watch.calls
            if capture.watch.calls or not capture.rebooted:
                self.files.append(path)
            else:
                os.unlink(path)
        if writer.problem:
            raise SessionError(f"{writer.problem}.")
        self.say(f"{reason}; {capture.watch.calls} calls captured in {path}")
        return capture.rebooted and not self._ended.is_set() and time.monotonic() < deadline

    def _next_file(self) -> str:
        stem, extension = os.path.splitext(self.options.output)
        path, number = self.options.output, 1
        while path in self.files or (number > 1 and os.path.exists(path)):
            number += 1
            path = f"{stem}-{number}{extension}"
        return path

    def _stand(self, session: Session, capture: Capture) -> None:
        """The target stands where it was asked to: its user looks, then it goes on."""
        for line in capture.watch.stands_at or ():
            self.say(line)
        if session.is_joined:
            self.stands = True
            self.say("the target stands there in the debugger that was joined; go on with  g")
            return
        capture.finish("stopped where it was asked to")
        self.say("the target stands; Ctrl+C lets it run on")
        session.stand(self.resumed)


def open_session(options: Options, heard: Callable[[], None]) -> Session:
    """The session that a run is about; ``heard`` is called once the target answers."""
    if options.backend == "ntoseye":
        from . import ntoseye_target

        return ntoseye_target.attach(options.connect, options.timeout, heard)
    if options.backend == "pykd":
        from . import pykd_target

        if not options.is_server:
            return pykd_target.attach(options.connect, options.symbols, heard)
        session: Session = pykd_target.remote(options.connect, options.symbols)
    else:
        from . import dbgeng_target

        if not options.is_server:
            return dbgeng_target.attach(options.connect, options.symbols, options.engine, heard)
        session = dbgeng_target.remote(options.connect, options.symbols, options.engine)
    heard()
    return session
