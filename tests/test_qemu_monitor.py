"""A machine asked through its hypervisor: real QEMU, page by page, stopped for an instant.

Oracles: the ELF core of the same guest, and QEMU's own word on whether the guest runs.
"""

from __future__ import annotations

import os
import random
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import guest_machine
import guest_qemu
import pytest
from conftest import REPOSITORY

import analyzer
from analyzer.cli import main
from analyzer.errors import InputError
from analyzer.snapshot import monitor

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> guest_machine.Guest:
    """The machine's files."""
    guest_qemu.need_tools()
    return guest_machine.make(tmp_path_factory.mktemp("guest"))


@pytest.fixture(scope="module")
def qemu(
    guest: guest_machine.Guest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[guest_qemu.Qemu]:
    """The guest, waiting in the second filter's Dump_Start."""
    with guest_qemu.running(guest, tmp_path_factory.mktemp("qemu")) as running:
        yield running


def is_running(qemu: guest_qemu.Qemu) -> bool:
    """QEMU's own word, over its other monitor."""
    return bool(qemu.ask("query-status")["running"])


def without_origin(rows: Any) -> list[Any]:
    """Rows without where they were read."""
    return [row._replace(origin=None) for row in rows]


def test_the_answer_is_that_of_the_core(qemu: guest_qemu.Qemu, tmp_path: Path) -> None:
    """Every filter, extension, callback, processor and frame; of the same moment."""
    qemu.ask("stop")  # it would move within its loop
    asked = analyzer.open(f"qmp:{qemu.second_path}").records
    core = analyzer.open(str(qemu.take("elf", tmp_path / "core"))).records
    qemu.ask("cont")
    for table in ("modules", "structures", "filters", "extensions", "frames"):
        assert without_origin(asked[table]) == without_origin(core[table]), table
    for ours, theirs in zip(asked["processors"], core["processors"]):
        assert ours[:-2] == theirs[:-2]
    assert asked["machine"][0].bugcheck == core["machine"][0].bugcheck


def cost(records: Any) -> tuple[int, int]:
    """Pages asked for, and ms stopped, as the source says them."""
    words = records["sources"][0].subtype.replace(",", "").split()
    return int(words[4]), int(words[8])


def test_it_costs_the_same_at_4_gb(
    qemu: guest_qemu.Qemu, guest: guest_machine.Guest, tmp_path: Path
) -> None:
    """The pages asked for do not grow with the machine; the shortest stops of ten are printed.

    That the stops are alike, too, is not asserted: a busy host lengthens either of them.
    """

    def look(one: guest_qemu.Qemu, other: guest_qemu.Qemu) -> tuple[int, int]:
        other.ask("stop")  # its processors would take time from this one
        try:
            return cost(analyzer.open(f"qmp:{one.second_path}").records)
        finally:
            other.ask("cont")

    with guest_qemu.running(guest, tmp_path, 4096) as large:
        looks = [(look(qemu, large), look(large, qemu)) for _ in range(10)]
    small_ms, ms = (min(c[1] for c in each) for each in zip(*looks))
    (small, pages) = (c[0] for c in looks[0])
    print(f"64 MB: {small} pages, {small_ms} ms; 4 GB: {pages} pages, {ms} ms")
    assert abs(small - pages) <= 0.2 * small
    assert pages <= 1000
    assert max(small_ms, ms) < 1000


def test_watch_tells_that_it_stays(qemu: guest_qemu.Qemu, capsys: Any) -> None:
    """Two looks, a moment apart."""
    assert main(["analyze", f"qmp:{qemu.second_path}", "--watch", "0.2"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert out.startswith("Processor 0 was inside Dump_Start of dump_acmeflt.sys in")
    assert "still there" in out
    assert is_running(qemu)


def test_the_limit_ends_the_reading(qemu: guest_qemu.Qemu) -> None:
    """What was got until then is there, and that it is not all is said."""
    address = str(qemu.second_path)
    with monitor.stopped(f"qmp:{address}", 0.05) as (memory, _):
        assert not is_running(qemu)
        time.sleep(0.2)
        assert is_running(qemu)
        assert memory.read(0, 8).reason == "not-recorded"
    assert memory.is_late


@pytest.mark.parametrize("question", [6, 40])
def test_a_lost_connection_is_told(
    qemu: guest_qemu.Qemu, monkeypatch: pytest.MonkeyPatch, question: int
) -> None:
    """The socket is cut before Windows is found, and after: that is said, not "no Windows"."""
    ask, asked = monitor.Qmp._ask, []

    def cut(self: Any, command: str, **options: Any) -> Any:
        asked.append(command)
        if len(asked) == question:
            self._socket.shutdown(2)
        return ask(self, command, **options)

    monkeypatch.setattr(monitor.Qmp, "_ask", cut)
    lost = "the connection to the monitor was lost"
    if question < 10:
        with pytest.raises(InputError, match=lost) as error:
            analyzer.open(f"qmp:{qemu.second_path}")
        assert "before Windows was found" in str(error.value)
    else:
        found = analyzer.open(f"qmp:{qemu.second_path}").records["findings"]
        (told,) = [f for f in found if f.rule == "reading-stopped"]
        assert told.text.lower().startswith(lost)
        assert "search-stopped" not in {f.rule for f in found}
    assert is_running(qemu)


class BrokenError(Exception):
    """What the tests throw in."""


def test_the_guest_runs_on_after_any_failure(
    qemu: guest_qemu.Qemu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred runs, each failing at a random question: an error, a lost socket, a Ctrl+C."""
    ask = monitor.Qmp._ask
    source = random.Random(4)
    failures = 0
    for number in range(100):
        left = [source.randrange(1, 40)]
        kind = ("error", "lost", "interrupt", "bug")[number % 4]

        def failing(
            self: Any, command: str, left: Any = left, kind: str = kind, **options: Any
        ) -> Any:
            left[0] -= 1
            if left[0] == 0:
                if kind == "lost":
                    self._socket.shutdown(2)
                elif kind == "error":
                    raise monitor.MonitorError("injected")
                else:
                    raise KeyboardInterrupt if kind == "interrupt" else BrokenError
            return ask(self, command, **options)

        monkeypatch.setattr(monitor.Qmp, "_ask", failing)
        try:
            analyzer.open(f"qmp:{qemu.second_path}")
        except (InputError, KeyboardInterrupt, BrokenError):
            failures += 1
        monkeypatch.setattr(monitor.Qmp, "_ask", ask)
        assert is_running(qemu), (number, kind)
    assert failures > 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_guest_runs_on_after_a_signal(qemu: guest_qemu.Qemu, number: int) -> None:
    """The command, ended while the guest is stopped."""
    code = (
        "import sys, time\n"
        "from analyzer import cli\n"
        "from analyzer.snapshot import monitor\n"
        "ask = monitor.StoppedMemory._ask\n"
        "def slow(self, frame):\n"
        "    print('asked', flush=True); time.sleep(0.5); return ask(self, frame)\n"
        "monitor.StoppedMemory._ask = slow\n"
        f"cli.main(['analyze', 'qmp:{qemu.second_path}', '--max-stop', '60'])\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        cwd=REPOSITORY,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        assert not is_running(qemu)
        process.send_signal(number)
        process.wait(timeout=30)
    assert is_running(qemu)


def test_a_guest_that_stands_is_left_standing(qemu: guest_qemu.Qemu) -> None:
    """Somebody else stopped it."""
    qemu.ask("stop")
    try:
        assert analyzer.open(f"qmp:{qemu.second_path}").records["filters"]
        assert not is_running(qemu)
    finally:
        qemu.ask("cont")


_VIRSH = """#!{python}
import json, socket, sys
arguments = [a for a in sys.argv[1:] if a != "--quiet"]
command, flag, domain, *rest = arguments
assert flag == "--domain"
if domain != "win11":
    print("error: failed to get domain " + repr(domain), file=sys.stderr)
    sys.exit(1)
link = socket.socket(socket.AF_UNIX)
link.connect({socket!r})
stream = link.makefile("rw")
def ask(execute, **options):
    stream.write(json.dumps({{"execute": execute, "arguments": options}}))
    stream.flush()
    while True:
        answer = json.loads(stream.readline())
        if "return" in answer or "error" in answer:
            return answer["return"]
stream.readline()
ask("qmp_capabilities")
if command == "domstate":
    print("running" if ask("query-status")["running"] else "paused")
elif command in ("suspend", "resume"):
    ask({{"suspend": "stop", "resume": "cont"}}[command])
else:
    assert command == "qemu-monitor-command" and rest[0] == "--hmp"
    print(ask("human-monitor-command", **{{"command-line": rest[1]}}), end="")
"""


def test_virsh_tells_the_same(
    qemu: guest_qemu.Qemu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a stand-in that takes virsh's arguments; it does not prove that libvirt's agrees."""
    program = tmp_path / "virsh"
    program.write_text(_VIRSH.format(python=sys.executable, socket=str(qemu.second_path)))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    records = analyzer.open("virsh:win11", max_stop=60).records
    assert records["processors"][0].callback == "Dump_Start"
    assert is_running(qemu)
    with pytest.raises(InputError, match="failed to get domain 'other'"):
        analyzer.open("virsh:other")


@pytest.mark.parametrize("path", ["qmp:/nowhere/socket", "qmp:127.0.0.1:1"])
def test_no_monitor_is_said(path: str) -> None:
    """In one sentence."""
    with pytest.raises(InputError, match="the monitor cannot be asked"):
        analyzer.open(path)
