"""Runs the guest of guest_machine in real QEMU and takes snapshots of it from outside.

Every process is one that was started here and is ended by its id; the monitor's socket lies in the
test's own folder.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from guest_machine import RAM_MEGABYTES, TOOLS, Guest


def need_tools() -> None:
    """Skips where QEMU or a compiler is missing; in CI that fails."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        import os

        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"missing: {missing}")


class Qemu:
    """One QEMU process with its monitor."""

    def __init__(self, guest: Guest, folder: Path, megabytes: int = RAM_MEGABYTES) -> None:
        # a socket's path must be short
        self.work = Path(tempfile.mkdtemp(prefix="dumpstart-"))
        self.monitor_path = self.work / "qmp"
        self.second_path = self.work / "qmp2"  # for the code under test
        self.disk = folder / "state.qcow2"
        self.megabytes = megabytes
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", str(self.disk), "64M"], check=True
        )
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", "qemu64,+pge",
             "-smp", "2", "-m", str(megabytes), "-nodefaults", "-display", "none",
             "-action", "reboot=shutdown,shutdown=pause", "-device", "vmcoreinfo",
             "-bios", str(guest.firmware),
             "-device", f"loader,file={guest.low},addr=0x1000,force-raw=on",
             "-device", f"loader,file={guest.memory},addr=0x100000,force-raw=on",
             "-drive", f"file={self.disk},if=none,id=state,format=qcow2",
             "-device", "ide-hd,drive=state",
             "-qmp", f"unix:{self.monitor_path},server=on,wait=off",
             "-qmp", f"unix:{self.second_path},server=on,wait=off"])  # fmt: skip
        for _ in range(200):
            try:
                self._socket = socket.socket(socket.AF_UNIX)
                self._socket.connect(str(self.monitor_path))
                break
            except OSError:
                self._socket.close()
                time.sleep(0.05)
        self._stream = self._socket.makefile("rw")
        self._stream.readline()
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: object) -> Any:
        """One QMP command; its result."""
        self._stream.write(json.dumps({"execute": command, "arguments": arguments}))
        self._stream.flush()
        while True:
            answer = json.loads(self._stream.readline())
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def monitor(self, line: str) -> str:
        """One line of the human monitor."""
        return str(self.ask("human-monitor-command", **{"command-line": line}))

    def register(self, name: str) -> list[int]:
        """A register of every processor, as QEMU itself prints it."""
        text = self.monitor("info registers -a")
        either = f"[RE]{name[1:]}" if name[0] == "R" else name  # EIP before long mode
        return [int(x, 16) for x in re.findall(rf"\b{either}\s*=\s*([0-9a-f]+)", text)]

    def wait_at(self, low: int, high: int, number: int = 0) -> None:
        """Until a processor executes in a range of addresses."""
        for _ in range(400):
            if low <= self.register("RIP")[number] < high:
                return
            time.sleep(0.025)
        raise RuntimeError(f"{low:#x} was never reached: {self.monitor('info registers -a')}")

    def press(self, key: str) -> None:
        """What the device that a filter waits for answers with."""
        self.ask("send-key", **{"keys": [{"type": "qcode", "data": key}], "hold-time": 1})

    def take(self, kind: str, target: Path) -> Path:
        """One snapshot: raw, elf, elf-paging or a format of dump-guest-memory."""
        if kind == "raw":
            size = self.megabytes << 20
            self.ask("pmemsave", val=0, size=size, filename=str(target))
        else:
            options: dict[str, object] = {"paging": kind == "elf-paging"}
            if not kind.startswith("elf"):
                options["format"] = kind
            self.ask("dump-guest-memory", protocol=f"file:{target}", **options)
        return target

    def close(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.wait()
        self._stream.close()
        self._socket.close()
        shutil.rmtree(self.work, ignore_errors=True)


@contextlib.contextmanager
def running(guest: Guest, folder: Path, megabytes: int = RAM_MEGABYTES) -> Iterator[Qemu]:
    """A guest that has come to where it waits."""
    qemu = Qemu(guest, folder, megabytes)
    try:
        qemu.wait_at(*guest.waits)
        idle = guest.truth["labels"]["ntoskrnl.exe"]["KiFreezeTargetExecution"]
        qemu.wait_at(idle, idle + 0x20, 1)
        yield qemu
    finally:
        qemu.close()
