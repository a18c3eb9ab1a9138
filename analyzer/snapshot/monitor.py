"""A running machine asked through its hypervisor: stopped, read page by page, running on.

Invariant: a guest that ran runs on, whatever happens while it is read; the one exception is the
death of this process without a signal it can catch, and then ``cont`` in the monitor does it.
No dump file is written, nothing in the guest is needed.

Sources: QEMU's QMP specification and the texts of its human monitor (seen with QEMU 7.2); virsh's
manual.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any, Protocol

from ..absence import Absent
from ..errors import InputError
from ..target import PAGE
from . import notes
from .image import MemoryImage
from .physical import Paged

_ANSWER_SECONDS = 10.0
_LOST = "the connection to the monitor was lost"
_TRIES = 5  #: to let the guest run on
_LINE = 1 << 20
_WORDS = PAGE // 8
_MEMORY_HOLE = 1 << 32
_SEGMENT = r"\s*=\s*[0-9a-f]+ ([0-9a-f]+)"


class MonitorError(Exception):
    """The monitor is gone, or it answers with an error."""


class Monitor(Protocol):
    """What is asked of a hypervisor."""

    def is_running(self) -> bool:
        """True when the guest runs."""

    def stop(self) -> None:
        """Stops the guest."""

    def run(self) -> None:
        """Lets it run on."""

    def human(self, line: str) -> str:
        """The answer of QEMU's human monitor."""

    def close(self) -> None:
        """Ends the connection."""


class Qmp:
    """QEMU's monitor socket: ``/path`` of a Unix socket, or ``host:port``."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket: socket.socket | None = None
        self._connect()

    def _connect(self) -> None:
        self.close()
        host, _, port = self.address.rpartition(":")
        try:
            if host and port.isdigit() and "/" not in port:
                self._socket = socket.create_connection((host, int(port)), _ANSWER_SECONDS)
            elif hasattr(socket, "AF_UNIX"):
                self._socket = socket.socket(socket.AF_UNIX)
                self._socket.settimeout(_ANSWER_SECONDS)
                self._socket.connect(self.address)
            else:
                raise MonitorError("this system has no Unix sockets; use host:port")
            self._stream = self._socket.makefile("rwb")
            self._answer("QMP")
            self._ask("qmp_capabilities")
        except OSError as error:
            self.close()
            raise MonitorError(str(error.strerror or error)) from error
        except MonitorError:
            self.close()
            raise

    def _answer(self, *keys: str) -> dict[str, Any]:
        """The next message with one of these keys; events are passed over."""
        until = time.monotonic() + _ANSWER_SECONDS
        while time.monotonic() < until:
            try:
                line = self._stream.readline(_LINE)
                message = json.loads(line) if line else None
            except OSError as error:
                raise MonitorError(f"{_LOST} ({error})") from error
            except ValueError as error:
                raise MonitorError(f"this is not QEMU's monitor ({error})") from error
            if message is None:
                raise MonitorError(f"{_LOST} (is it in use?)" if "QMP" in keys else _LOST)
            if isinstance(message, dict) and any(key in message for key in keys):
                return message
        raise MonitorError("the monitor does not answer")

    def _ask(self, command: str, **arguments: object) -> Any:
        try:
            self._stream.write(json.dumps({"execute": command, "arguments": arguments}).encode())
            self._stream.flush()
        except (OSError, ValueError) as error:
            raise MonitorError(f"{_LOST} ({error})") from error
        answer = self._answer("return", "error")
        if "error" in answer:
            raise MonitorError(f"{command}: {answer['error'].get('desc', 'failed')}")
        return answer["return"]

    def is_running(self) -> bool:
        return bool(self._ask("query-status").get("running"))

    def stop(self) -> None:
        self._ask("stop")

    def run(self) -> None:
        try:
            self._ask("cont")
        except MonitorError:  # the socket may be lost, the machine is not
            self._connect()
            self._ask("cont")

    def human(self, line: str) -> str:
        return str(self._ask("human-monitor-command", **{"command-line": line}))

    def close(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                self._stream.close()
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None


class Virsh:
    """A domain of libvirt, through the program ``virsh``: one process for each question."""

    def __init__(self, domain: str) -> None:
        self.domain = domain

    def _ask(self, command: str, *arguments: str) -> str:
        try:
            done = subprocess.run(  # noqa: S603 - virsh takes the domain as an argument, no shell
                ["virsh", "--quiet", command, "--domain", self.domain, *arguments],  # noqa: S607
                capture_output=True, text=True, timeout=_ANSWER_SECONDS, check=False,
            )  # fmt: skip
        except FileNotFoundError:
            raise MonitorError("the program virsh is not installed") from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MonitorError(f"virsh does not answer: {error}") from error
        if done.returncode:
            text = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
            raise MonitorError(f"virsh {command}: {text}")
        return done.stdout

    def is_running(self) -> bool:
        return self._ask("domstate").split()[:1] == ["running"]

    def stop(self) -> None:
        self._ask("suspend")

    def run(self) -> None:
        self._ask("resume")

    def human(self, line: str) -> str:
        return self._ask("qemu-monitor-command", "--hmp", line)

    def close(self) -> None:
        """Nothing is kept open."""


class StoppedMemory(Paged):
    """The memory of a stopped guest, each page asked for once.

    Behind the time limit, or once the monitor failed, nothing is asked any more: what is missing
    then says so.
    """

    end = _MEMORY_HOLE

    def __init__(self, monitor: Monitor, most_seconds: float) -> None:
        self._monitor, self.most_seconds = monitor, most_seconds
        self._pages: dict[int, bytes | Absent] = {}
        self.asked = 0
        self.stopped_seconds = 0.0
        self._since: float | None = None
        self._was_stopped = False
        self._lock = threading.RLock()  # the timer lets the guest run on from its own thread
        self._timer: threading.Timer | None = None
        self.is_late = False
        self.failure = ""  #: of the monitor while it was read from

    def pieces(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """Nothing: a running machine is not searched from end to end."""
        return iter(())

    def _page(self, frame: int) -> bytes | Absent:
        with self._lock:
            page = self._pages.get(frame)
            if page is None:
                page = self._pages[frame] = self._ask(frame)
            return page

    def _ask(self, frame: int) -> bytes | Absent:
        if self._since is not None and time.monotonic() - self._since > self.most_seconds:
            self._too_late()  # the timer's thread may wait for the lock while page follows page
        if self._since is None:
            return Absent("not-recorded", self.ended or "the guest runs on")
        self.asked += 1
        try:
            text = self._monitor.human(f"xp /{_WORDS}gx {frame * PAGE:#x}")
        except MonitorError as error:
            self.failure = str(error)
            self.resume()
            return Absent("not-recorded", self.ended)
        words = re.findall(r"(?<=[:\s])\s*0x([0-9a-f]{16})\b", text)
        if len(words) != _WORDS:
            return Absent("not-in-dump", f"the guest has no memory at {frame * PAGE:#x}")
        return struct.pack(f"<{_WORDS}Q", *(int(word, 16) for word in words))

    @property
    def ended(self) -> str:
        """Why the reading ended before all was read; empty where it did not."""
        if self.failure or not self.is_late:
            return self.failure
        return f"the guest had been stopped for {self.most_seconds:g} s"

    # -- stopping and running on -----------------------------------------------------------------

    def stop(self) -> None:
        """Stops the guest if it runs."""
        self._was_stopped = not self._monitor.is_running()
        self._timer = threading.Timer(self.most_seconds, self._too_late)
        self._timer.daemon = True
        self._timer.start()
        self._since = time.monotonic()
        if not self._was_stopped:
            self._monitor.stop()

    def _too_late(self) -> None:
        with self._lock:
            self.is_late = self.is_late or self._since is not None
            with contextlib.suppress(MonitorError):  # the end of the reading tries again
                self.resume()

    def resume(self) -> None:
        """Lets the guest run on, if it ran; tries again when the monitor does not answer."""
        with self._lock:
            if self._since is None:
                return
            if not self._was_stopped:
                for left in range(_TRIES, 0, -1):
                    try:
                        self._monitor.run()
                        break
                    except MonitorError:
                        if left == 1:
                            raise
                        time.sleep(0.2)
            self.stopped_seconds = time.monotonic() - self._since
            self._since = None
            if self._timer is not None:
                self._timer.cancel()


@contextlib.contextmanager
def stopped(path: str, most_seconds: float) -> Iterator[tuple[StoppedMemory, MemoryImage]]:
    """The machine, stopped for as long as it is read and no longer than ``most_seconds``.

    Raises InputError when it cannot be asked.
    """
    monitor = _monitor(path)
    memory = StoppedMemory(monitor, most_seconds)
    try:
        try:
            memory.stop()
            processors = _processors(monitor.human("info registers -a"))
            yield memory, MemoryImage("running machine", memory, processors)
        except MonitorError as error:
            raise InputError(path, f"the monitor cannot be asked: {error}") from None
        finally:
            _run_on(path, memory)
    finally:
        monitor.close()


def _run_on(path: str, memory: StoppedMemory) -> None:
    try:
        memory.resume()
    except MonitorError as error:
        problem = f"the guest is stopped and the monitor does not let it run on: {error}"
        raise InputError(path, problem, advice="let it run on by hand") from None
    except BaseException:  # a signal may come while it is being let run on
        memory.resume()
        raise


def _monitor(path: str) -> Monitor:
    kind, _, address = path.partition(":")
    try:
        return Virsh(address) if kind == "virsh" else Qmp(address.removeprefix("unix:"))
    except MonitorError as error:
        raise InputError(path, f"the monitor cannot be asked: {error}") from None


_PLAIN = "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip cr0 cr2 cr3 cr4".split()


def _processors(text: str) -> list[dict[str, int]]:
    """Registers of each processor, as ``info registers -a`` prints them."""
    found = []
    for block in re.split(r"(?m)^CPU#\d+\s*$", text)[1 : notes.MAX_PROCESSORS]:
        registers = dict.fromkeys(("rip", "rsp", "rcx", "cr3", "idt_base"), 0)
        for name in _PLAIN:
            shown = (
                f"[RE]{name[1:].upper()}" if name[0] == "r" else name.upper()
            )  # EIP: not x64 yet
            value = re.search(rf"\b{shown}\s*=\s*([0-9a-f]+)", block)
            if value:
                registers[name] = int(value[1], 16)
        flags = re.search(r"\bRFL\s*=\s*([0-9a-f]+)", block)
        base = re.search(rf"\bGS {_SEGMENT}", block)
        table = re.search(r"\bIDT\s*=\s*([0-9a-f]+)", block)
        for name, value in (("rflags", flags), ("gs_base", base), ("idt_base", table)):
            if value:
                registers[name] = int(value[1], 16)
        found.append(registers)
    return found
