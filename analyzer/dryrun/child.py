"""The process that emulates: calls come in on stdin, questions for memory and results go out.

Invariant: opens no file and no connection; what it knows of the target came through the pipe. It
ends when the pipe does. Messages: :mod:`analyzer.dryrun.pipe`.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import IO

from . import pipe
from .routines import ROUTINES, Routine

#: address space that a child may use: the emulator reserves far more than it touches
_MEMORY = 6 << 30
#: emulators are freed after so many calls
_COLLECT = 8


class World:
    """What all calls share: modules, answered routines, pages of the target as they are now."""

    def __init__(self, setup: pipe.Setup, talk: _Talk) -> None:
        self._talk = talk
        self.architecture = setup["architecture"]
        self.kpcr = setup["kpcr"]
        self.stack = setup["stack"]
        self.stack_bytes = setup["stack_bytes"]
        self.back = setup["back"]
        self.heap = setup["heap"]
        self.known: dict[int, Routine] = {
            address: ROUTINES[name] if name in ROUTINES else Routine("*guard", name, 0)
            for address, name in setup["known"]
        }
        self._modules = setup["modules"]
        self._target: dict[int, bytes | None] = {}
        self.read_only = setup["read_only"]
        self.made = dict(setup["made"])
        self.states: dict[str, dict[int, bytes]] = {}  #: as earlier calls left memory
        self.now: dict[int, bytes] = {}

    def module(self, address: int) -> int:
        """The number of the module that holds an address, -1 for none."""
        for number, (start, end) in enumerate(self._modules):
            if start <= address < end:
                return number
        return -1

    def page(self, page: int) -> bytes | None:
        """A page as the next call finds it, None where the target has none."""
        if page in self.now:
            return self.now[page]
        if page in self.made:
            return self.made[page]
        if page not in self._target:
            self._target[page] = self._talk.ask(page)
        return self._target[page]


class _Talk:
    def __init__(self, source: IO[bytes], sink: IO[bytes]) -> None:
        self._source, self._sink = source, sink

    def ask(self, page: int) -> bytes | None:
        """A page of the target."""
        pipe.send(self._sink, {"ask": page})
        message = self.receive()
        data = message.get("page")
        return data if isinstance(data, bytes) else None

    def receive(self) -> pipe.Message:
        """The next message; the process ends with the pipe."""
        message = pipe.receive(self._source)
        if message is None:
            raise SystemExit(0)
        return message

    def send(self, message: dict[str, object]) -> None:
        """One message to the parent."""
        pipe.send(self._sink, message)


def main() -> int:
    """Serves calls until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints does not end in the pipe
    talk = _Talk(sys.stdin.buffer, sink)
    _limit()
    from .emulator import Run

    world: World | None = None
    count = 0
    while True:
        message = talk.receive()
        if "setup" in message:
            world = World(message["setup"], talk)
            talk.send({"ready": True})
            continue
        assert world is not None
        call = message["call"]
        world.now = dict(world.states.get(call["source"], {}))
        for address, data in call["made"]:
            world.made[address] = data
            world.now.pop(address, None)
        run = Run(world, call)
        try:
            result = run.go()
        except Exception as error:  # noqa: BLE001 - what went wrong here is said, not a crash
            result = {"outcome": "lost", "why": f"{type(error).__name__}: {error}"}
        if call["keep"] and "instructions" in result:
            world.states[call["keep"]] = {**world.now, **run.written}
        talk.send({"result": result})
        del run  # the emulator and its hooks hold one another
        count += 1
        if not count % _COLLECT:
            gc.collect()


def _limit() -> None:
    """Bounds the memory of this process where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    try:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ValueError, OSError):  # a lower limit is set already
        return
