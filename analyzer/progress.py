"""A progress bar on a terminal.

Invariant: it draws from a thread of its own and only after a second; what it says is escaped.
"""

from __future__ import annotations

import threading
import time
from typing import Callable, TextIO

from .formatting import clean


class Bar:
    """A progress bar that shows up after a second; call it as case.Progress says.

    A thread keeps the time running while a source is too busy to tell how far it is.
    """

    def __init__(
        self, stream: TextIO, now: Callable[[], float] = time.monotonic, delay: float = 1
    ) -> None:
        self._stream, self._now, self._begin = stream, now, now()
        self._next = self._begin + delay
        self._state = ("", 0, 0)
        self._shown = False
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)
        self._ticker.start()

    def close(self) -> None:
        """Wipes the bar, so that what follows starts on a clean line."""
        self._ended.set()
        self._ticker.join()
        if self._shown:
            self._stream.write("\r" + " " * 79 + "\r")
            self._stream.flush()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Notes how far the work is; only the thread draws."""
        self._state = (what, done, total)

    def _tick(self) -> None:
        while not self._ended.wait(0.1):
            self.draw()

    def draw(self) -> None:
        """Shows the state, once the work has taken long enough."""
        if self._now() < self._next:
            return
        what, done, total = self._state
        share = min(max(done / total, 0), 1) if total > 0 else 0.0
        blocks = "#" * round(share * 20)
        seconds = self._now() - self._begin
        line = f"[{blocks:<20}] {share:4.0%} {seconds:4.0f} s  {clean(what, 40)}"
        self._stream.write(f"\r{line:<79.79}")
        self._stream.flush()
        self._shown = True
