"""Starts the process that emulates, answers its questions from a target, and bounds it.

Invariant: whatever happens in the child (a crash, a hang, nonsense on the pipe), the caller gets a
result that says so; no child outlives :meth:`Host.close`. Standard library only.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from typing import IO, TYPE_CHECKING, Any, Callable, cast, get_args, get_origin, get_type_hints

from ..absence import Absent
from ..target import PAGE, Target
from . import pipe
from .ask import require

if TYPE_CHECKING:
    import subprocess

#: seconds above the limit of a call until the child is ended
_GRACE = 5.0
_START = 30.0
_SLICE = 0.2


def python() -> str:
    """The interpreter to start: inside a debugger ``sys.executable`` is the debugger."""
    name = os.path.basename(sys.executable or "").lower()
    if name.startswith(("python", "pypy")):
        return sys.executable
    inside = ("python.exe",) if os.name == "nt" else ("bin/python3", "bin/python")
    for place in inside:
        path = os.path.join(sys.exec_prefix, place)
        if os.path.exists(path):
            return path
    return "python" if os.name == "nt" else "python3"


class Host:
    """One child at a time; it is started again after it was lost."""

    def __init__(
        self,
        target: Target,
        setup: pipe.Setup,
        code: Callable[[int], bytes | None] | None = None,
    ) -> None:
        """``code``: a page of code out of an image file, where the target does not have it."""
        require()
        self._target, self._setup, self._code = target, setup, code
        self.from_files: set[int] = set()  #: pages that came from there
        self._child: subprocess.Popen[bytes] | None = None
        self._messages: queue.Queue[pipe.Message | None] = queue.Queue()
        #: pages that the target could not give, and why
        self.missing: dict[int, Absent] = {}

    def call(self, call: pipe.Call) -> pipe.Result:
        """Runs one call; a result with "outcome" in any case."""
        deadline = time.monotonic() + call["limits"]["seconds"] + _GRACE
        try:
            if self._child is None:
                self._start()
            self._send({"call": call})
            return _checked(self._serve("result", deadline))
        except _Lost as lost:
            self._end()
            return {"outcome": "lost", "why": str(lost)}
        except BaseException:  # Ctrl+C above all
            self._end()
            raise

    def close(self) -> None:
        """Ends the child."""
        self._end()

    def _start(self) -> None:
        import subprocess  # slow to load, and most commands run no filter

        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "launch.py")
        is_windows = os.name == "nt"
        try:
            self._child = subprocess.Popen(  # noqa: S603 - our own script, no shell
                [python(), script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=not is_windows,  # Ctrl+C is the parent's
                # CREATE_NO_WINDOW | CREATE_NEW_PROCESS_GROUP
                creationflags=0x08000200 if is_windows else 0,
            )
        except OSError as error:
            raise _Lost(f"the emulator cannot be started: {error}") from None
        self._messages = queue.Queue()
        threading.Thread(
            target=_listen, args=(self._child.stdout, self._messages), daemon=True
        ).start()
        self._send({"setup": self._setup})
        self._serve("ready", time.monotonic() + _START)

    def _send(self, message: dict[str, object]) -> None:
        assert self._child is not None
        sink = self._child.stdin
        assert sink is not None
        try:
            pipe.send(sink, message)
        except OSError:
            raise _Lost(self._fate()) from None

    def _serve(self, wanted: str, deadline: float) -> object:
        """Answers questions until the wanted message comes."""
        while True:
            try:  # in slices: on Windows a longer wait does not see Ctrl+C
                message = self._messages.get(timeout=_SLICE)
            except queue.Empty:
                if time.monotonic() > deadline:
                    raise _Lost("the emulator gave no answer in time") from None
                continue
            if message is None:
                raise _Lost(self._fate())
            if wanted in message:
                return message[wanted]
            page = message.get("ask")
            if not isinstance(page, int):
                raise _Lost("the emulator process sent an invalid answer")
            before = time.monotonic()
            data = self._target.read(page, PAGE)
            deadline += time.monotonic() - before  # a slow debugger is not the emulator's time
            if isinstance(data, Absent) and self._code is not None:
                held = self._code(page)
                if held is not None and len(held) == PAGE:
                    self.from_files.add(page)
                    data = held
            if isinstance(data, Absent):
                self.missing[page] = data
            self._send({"page": None if isinstance(data, Absent) else data})

    def _fate(self) -> str:
        child = self._child
        code = None
        if child is not None:
            import subprocess

            try:
                code = child.wait(2)
            except subprocess.TimeoutExpired:
                code = None
        return f"the emulator ended by itself (exit code {code})"

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        for stream in (child.stdin, child.stdout):
            try:
                if stream is not None:
                    stream.close()
            except OSError:
                continue
        child.wait()


#: the child runs code out of a file, so what it sends is compared with what it may
_RESULT = get_type_hints(pipe.Result)
#: what a result must hold besides, by its outcome
_NEEDS = {
    "returned": "status", "bugcheck": "name arguments", "raise": "name", "wait": "name",
    "loop": "pc lap waits", "memory": "pc address access", "instruction": "pc text",
    "exception": "pc text", "stack": "pc size", "limit": "pc what", "lost": "why",
}  # fmt: skip


def _checked(result: object) -> pipe.Result:
    """A result whose values have the types that they should have."""
    if not isinstance(result, dict) or not all(_is_sound(*pair) for pair in result.items()):
        raise _Lost("the emulator process sent an invalid answer")
    needed = _NEEDS.get(result.get("outcome", ""))
    if needed is None or not all(name in result for name in needed.split()):
        raise _Lost("the emulator process sent an invalid answer")
    if result["outcome"] == "bugcheck" and not result["arguments"]:
        raise _Lost("the emulator process sent an invalid answer")
    return cast("pipe.Result", result)


def _is_sound(name: str, value: object) -> bool:
    return name in _RESULT and _is(value, _RESULT[name])


def _is(value: object, kind: Any) -> bool:
    inner = get_args(kind)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 64
    if not inner:
        return isinstance(value, kind)
    if not isinstance(value, list):
        return False
    if get_origin(kind) is list:
        return all(_is(item, inner[0]) for item in value)
    return len(value) == len(inner) and all(map(_is, value, inner))  # a tuple: JSON has none


class _Lost(Exception):  # noqa: N818 - never leaves this module
    """The child cannot be used any more."""


def _listen(source: IO[bytes], messages: queue.Queue[pipe.Message | None]) -> None:
    while True:
        try:
            message = pipe.receive(source)
        except (OSError, ValueError):
            message = None
        messages.put(message)
        if message is None:
            return
