"""The host's word on a guest's bugcheck: libvirt's log and QMP events, alone and beside events."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import generator_cases as cases
import pytest
from said import sentences

import analyzer
from analyzer import sources
from analyzer.absence import is_absent
from analyzer.cli import main
from analyzer.errors import AnalyzerError
from analyzer.sources import host_log

# the shapes are those of kubevirt's test of its line parser and of QEMU's QMP reference
START = "2026-03-01 07:00:00.000+0000: starting up libvirt version: 10.0.0, qemu version: 8.2.2\n"
PANIC = (
    "2026-03-01 10:20:30.123+0000: panic hyper-v: arg1='0xd1', arg2='0x28', arg3='0x2', "
    "arg4='0x0', arg5='0xfffff80312345678'\n"
)
CRASHED = "2026-03-01 10:20:30.456+0000: shutting down, reason=crashed\n"
NS = 1772360430_123_000_000  # date -u -d '2026-03-01 10:20:30' +%s


def qmp(event: str, second: int = 30, **data: Any) -> str:
    """One QMP event as a line."""
    stamp = {"seconds": 1772360400 + second, "microseconds": 123000}
    return json.dumps({"timestamp": stamp, "event": event, "data": data}) + "\n"


INFO = {"type": "hyper-v", "arg1": 0xD1, "arg2": 0x28, "arg3": 2, "arg4": 0,
        "arg5": 0xFFFFF80312345678}  # fmt: skip
BOTH = {
    "libvirt": (START + PANIC + CRASHED + START, True),
    "libvirt, left to write its dump": (START + PANIC + START, False),
    "libvirt, destroyed an hour later": (
        START + PANIC + "2026-03-01 11:20:30.456+0000: shutting down, reason=destroyed\n", False,
    ),
    "xen": (
        "(XEN) 2026-03-01 10:20:30.123+0000 d13v0 VIRIDIAN CRASH: d1 28 2 0 fffff80312345678\n",
        False,
    ),
    "xen, later": (
        "2026-03-01T10:20:30.123Z d1v3 VIRIDIAN GUEST_CRASH: 0xd1 0x28 0x2 0 0xfffff80312345678\n",
        False,
    ),
    "qmp": (qmp("GUEST_PANICKED", action="poweroff", info=INFO), True),
    "qmp, shutdown": (
        qmp("GUEST_PANICKED", action="pause", info=INFO)
        + qmp("SHUTDOWN", 31, guest=True, reason="guest-panic"), True,
    ),
    "qmp, run": (qmp("GUEST_PANICKED", action="run", info=INFO), False),
}  # fmt: skip


def read(tmp_path: Path, text: str, encoding: str = "utf-8") -> Any:
    """The records of a log."""
    path = tmp_path / "win11.log"
    path.write_bytes(text.encode(encoding))
    assert sources.identify(str(path)).name == "host log"
    return sources.collect(str(path))


@pytest.mark.parametrize("name", BOTH)
def test_a_panic_is_a_bugcheck_with_parameters_and_time(tmp_path: Path, name: str) -> None:
    """That the host ended the guest is said only where the log says it of this panic."""
    text, is_ended = BOTH[name]
    records = read(tmp_path, text)
    (row,) = records["machine"]
    assert (row.bugcheck, row.system_time) == (0xD1, NS)
    assert [getattr(row, f"parameter{n}") for n in range(1, 5)] == [0x28, 2, 0, 0xFFFFF80312345678]
    assert [a.rule for a in records.anomalies] == ["host-ended-guest"] * is_ended


@pytest.mark.parametrize(
    ("event", "follows"), [("GUEST_CRASHLOADED", True), ("GUEST_PANICKED", False)]
)
def test_the_two_states_of_pvpanic(tmp_path: Path, event: str, follows: bool) -> None:
    """A dump follows, or none does; the bugcheck is not known."""
    records = read(tmp_path, qmp(event, action="run"))
    (told,) = records.anomalies
    assert (told.rule, told.facts["dump_to_follow"]) == ("host-guest-panicked", follows)
    assert records["machine"] == []


def test_a_panic_beside_event_41_is_one_crash(tmp_path: Path) -> None:
    """Bugcheck and parameters are the host's, and why there is no dump."""
    (tmp_path / "win11.log").write_text(START + PANIC + CRASHED + START)
    events = cases.EventLog().power("2026-03-01T10:21:05", None)
    (tmp_path / "System.xml").write_bytes(events.xml())
    case = analyzer.open(tmp_path)
    rows = case.records["crashes"]
    assert [(row.crash, row.tells, row.outcome) for row in rows] == [
        (1, "host log", "failed"),
        (1, "event 41", None),
    ]
    said = sentences(case.records)
    assert said[0] == (
        "The machine crashed with bugcheck 0xD1 (DRIVER_IRQL_NOT_LESS_OR_EQUAL) on 2026-03-01 "
        "10:20:30 UTC and left no finished dump: by win11.log the guest told its host of the "
        "bugcheck, which ended the guest then, before a dump could be written."
    )
    assert any(s.startswith("Why there is no dump: the host ended the guest") for s in said)


VMWARE = "".join(
    f"2026-03-01T10:20:30.123Z Wa(03) vcpu-0 - WinBSOD: Synthetic MSR[0x4000010{n}] {value}\n"
    "2026-03-01T10:20:30.123Z Wa(03)+ vcpu-0 -\n"
    for n, value in enumerate(("0xd1", "0x28", "0x2", "0x0", "0xfffff80312345678"))
)


def test_vmware_writes_each_number_on_a_line(tmp_path: Path) -> None:
    """The code comes first; a parameter whose line is missing is not 0."""
    began = "2026-03-01T07:00:00.000Z In(05) vmx - Log for VMware ESX pid=1 version=7.0.3\n"
    (row,) = read(tmp_path, began + VMWARE)["machine"]
    assert (row.bugcheck, row.parameter1, row.system_time) == (0xD1, 0x28, NS)
    assert row.parameter4 == 0xFFFFF80312345678
    (row,) = read(tmp_path, "".join(VMWARE.splitlines(True)[:4]) + began + VMWARE[-120:])["machine"]
    assert (row.bugcheck, row.parameter1) == (0xD1, 0x28)
    assert is_absent(row.parameter2)


LINUX = ("0xb", "0x810000060a5d0000", "0xffffffffa1234567", "0x0", "0xffffb2a4c0b3be10")


@pytest.mark.parametrize("numbers", [LINUX, ("0x0", "0x0", "0x0", "0x123000", "0x1000")])
def test_a_panic_of_linux_is_no_bugcheck(
    tmp_path: Path, capsys: Any, numbers: tuple[str, ...]
) -> None:
    """It uses the registers of Hyper-V too: its error, 0 for none, and its own identity."""
    stated = ", ".join(f"arg{n}='{value}'" for n, value in enumerate(numbers, 1))
    path = tmp_path / "debian.log"
    path.write_text(f"{START}2026-03-01 10:20:30.123+0000: panic hyper-v: {stated}\n{CRASHED}")
    assert main(["analyze", str(path), "-v"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith("The guest told its host of a crash that is not a bugcheck of Windows")
    assert "machine crashed" not in shown


def test_a_crash_without_a_bugcheck_is_a_crash(tmp_path: Path, capsys: Any) -> None:
    """The first sentence tells what the log holds."""
    path = tmp_path / "win11.log"
    path.write_text(qmp("GUEST_CRASHLOADED", action="run"))
    assert main(["analyze", str(path)]) == 0
    assert capsys.readouterr().out.startswith("The guest told its host of a crash, without the")


def test_two_panics_keep_their_own_ends(tmp_path: Path) -> None:
    """The first was left to write its dump, the second was ended."""
    second = PANIC.replace("10:20:30", "12:00:00").replace("0xd1", "0x9f")
    records = read(tmp_path, START + PANIC + START + second + CRASHED)
    assert [row.bugcheck for row in records["machine"]] == [0xD1, 0x9F]
    (ended,) = records.anomalies
    assert "0x9f" in ended.text


def test_any_bytes_end_in_records_or_our_error(tmp_path: Path) -> None:
    """Cut, damaged, deeply nested, in UTF-16."""
    rng = random.Random(5)
    whole = "".join(text for text, _ in BOTH.values())
    read(tmp_path, whole, "utf-16")
    path = tmp_path / "x"
    deep = '{"event": "GUEST_PANICKED", "data": ' + '{"a":' * 100_000 + "\n"
    tries = [deep.encode(), *(whole.encode()[:k] for k in range(0, len(whole), 37))]
    for _ in range(200):
        copy = bytearray(whole.encode())
        for _ in range(rng.randint(1, 9)):
            copy[rng.randrange(len(copy))] = rng.randrange(256)
        tries.append(bytes(copy))
    for data in tries:
        path.write_bytes(data)
        try:
            sources.collect(str(path))
        except AnalyzerError:
            continue


def test_panics_beyond_the_most_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them, not only the first that is left out; the end of the log is read."""
    monkeypatch.setattr(host_log, "MOST_PANICS", 2)
    later = PANIC.replace("10:20", "10:2{}")
    records = read(tmp_path, START + "".join(later.format(minute) for minute in range(5)))
    (text,) = [a.text for a in records.anomalies if "panics were read" in a.text]
    assert text == "Only the first 2 panics were read; 3 more were counted."
