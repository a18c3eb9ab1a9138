"""One text that holds several kinds: a post with events, a debugger's output, a dump log, settings.

The texts are written by hand; names and numbers are made up. Each goes through the command line.
"""

from __future__ import annotations

import zipfile
from itertools import permutations
from pathlib import Path
from typing import Any, Callable

import pytest

import analyzer
from analyzer import sources
from analyzer.cli import main

Run = Callable[..., tuple[int, str]]

EVENT = """Log Name:      System
Source:        Microsoft-Windows-Kernel-Power
Date:          3/5/2024 10:11:12 AM
Event ID:      41
Level:         Critical
Description:
The system has rebooted without cleanly shutting down first.
"""
DEBUGGER = """0: kd> !analyze -v
DRIVER_IRQL_NOT_LESS_OR_EQUAL (d1)
Arguments:
Arg1: 0000000000000028, memory referenced
Arg2: 0000000000000002, IRQL
Arg3: 0000000000000000, read
Arg4: fffff80312345678, address
IMAGE_NAME:  badnic.sys
"""
DUMP_LOG = """Dump stack initialized at UTC: 2024/03/05 09:10:11, local time: 2024/03/05 10:10:11.
#BugCheckCode 0x00000000000000D1
#BugCheckP1 0x0000000000000028
#BugCheckP2 0x0000000000000002
#BugCheckP3 0x0000000000000000
#BugCheckP4 0xFFFFF80312345678
Starting write of memory dump data.
Elapsed BugCheck duration 00010000ms
Dump completed successfully.
"""
SETTINGS = r"""C:\>reg query HKLM\SYSTEM\CurrentControlSet\Control\CrashControl

HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet\Control\CrashControl
    CrashDumpEnabled    REG_DWORD    0x7
    DumpFilters    REG_MULTI_SZ    dumpfve.sys\0acmeflt.sys
"""
HOST = "(XEN) d11v0 VIRIDIAN CRASH: d1 28 2 0 fffff80312345678\n"
PARTS = (EVENT, DEBUGGER, DUMP_LOG, SETTINGS, HOST)


@pytest.fixture
def run(tmp_path: Path, capsys: Any) -> Run:
    """Analyses a text; its exit code and the report on one line."""

    def analyze(text: str, encoding: str = "utf-8", newline: str = "\n") -> tuple[int, str]:
        path = tmp_path / "post.txt"
        path.write_bytes(text.replace("\n", newline).encode(encoding))
        capsys.readouterr()
        code = main(["analyze", str(path)])
        return code, " ".join(capsys.readouterr().out.split())

    return analyze


@pytest.mark.parametrize("pair", [*permutations(PARTS[:4], 2)])
def test_no_part_of_a_post_is_lost(pair: tuple[str, str], run: Run) -> None:
    """In either order."""
    _, text = run("Here is what I have:\n\n" + "\n\n".join(pair))
    if DEBUGGER in pair or DUMP_LOG in pair:
        assert text.startswith("The machine crashed with bugcheck 0xD1"), text
        assert "not show whether" not in text
    else:
        assert text.startswith("post.txt reports 1 restart without a shutdown"), text
    assert ("WinDbg puts down to badnic.sys" in text) == (DEBUGGER in pair)
    assert ("records a completed dump" in text) == (DUMP_LOG in pair)
    assert ("registered acmeflt.sys" in text) == (SETTINGS in pair)


@pytest.mark.parametrize(("encoding", "newline"), [("utf-16", "\n"), ("utf-8", "\r\n")])
def test_all_kinds_in_one_text(encoding: str, newline: str, run: Run) -> None:
    """They tell of one crash, which has the same parameters."""
    _, text = run("\n\n".join(PARTS), encoding, newline)
    assert text.startswith("The machine crashed with bugcheck 0xD1"), text
    assert "and a dump was written: " in text
    assert "registered acmeflt.sys" in text


XML = """<Event xmlns="http://schemas.microsoft.com/win/2004/08/events/event">
<System><Provider Name="Microsoft-Windows-Kernel-Boot" /><EventID>29</EventID>
<TimeCreated SystemTime="2024-03-05T09:11:12Z" /><Channel>System</Channel></System>
<EventData><Data Name="LastShutdownGood">false</Data></EventData></Event>
"""
LIST = """TimeCreated  : 3/5/2024 10:11:10 AM
ProviderName : volmgr
Id           : 161
Message      : Dump file creation failed due to error during dump creation.

TimeCreated  : 3/5/2024 10:11:12 AM
ProviderName : Microsoft-Windows-Kernel-Power
Id           : 41
Message      : The system has rebooted without cleanly shutting down first.
"""


@pytest.mark.parametrize("texts", [*permutations((EVENT, XML, LIST), 2)])
def test_events_of_two_forms(texts: tuple[str, str], tmp_path: Path) -> None:
    """Each is told once, under its own provider; the one that both have is the same."""
    path = tmp_path / "post.txt"
    path.write_text("\n\n".join(texts), encoding="utf-8")
    rows = analyzer.open(path).records["events"]
    wanted = {EVENT: {41}, XML: {29}, LIST: {161, 41}}
    assert sorted(row.event_id for row in rows) == sorted(wanted[texts[0]] | wanted[texts[1]])
    names = {161: "volmgr", 41: "Microsoft-Windows-Kernel-Power"}
    for row in rows:
        assert row.provider == names.get(row.event_id, "Microsoft-Windows-Kernel-Boot")


def test_each_part_has_a_name(tmp_path: Path) -> None:
    """The first kind that is recognised has that of the file, also in an archive."""
    path = tmp_path / "post.txt"
    path.write_text(f"{EVENT}\n{DEBUGGER}\n{SETTINGS}", encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "in/post.txt")
    for given, name in ((path, str(path)), (tmp_path / "a.zip", f"{tmp_path}/a.zip!in/post.txt")):
        rows = analyzer.open(given).records["sources"]
        assert [str(row.path).replace("\\", "/") for row in rows] == [
            name.replace("\\", "/"), f"{name}!part 2", f"{name}!part 3",
        ]  # fmt: skip
        assert {row.origin.source for row in rows} == {row.path for row in rows}


def test_a_long_text_is_of_one_kind(tmp_path: Path) -> None:
    """It is not a post, and each kind would read it again."""
    path = tmp_path / "long.txt"
    for more, count in ((0, 2), (1, 1)):
        text = f"{EVENT}\n{DEBUGGER}\n"
        path.write_text(text + "x" * (sources._LARGEST_POST - len(text) + more), encoding="utf-8")
        assert len(sources.collect(str(path))["sources"]) == count
