"""The registry as commands show it, and an export in a post; names and values are made up."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
from conftest import SAMPLE_TRACES

from analyzer.cli import main

KEY = "HKEY_LOCAL_MACHINE\\SYSTEM\\CurrentControlSet\\Control\\CrashControl"
EXPORT = f"""Windows Registry Editor Version 5.00

[{KEY}]
"CrashDumpEnabled"=dword:00000007
"EnableLogFile"=dword:00000001
"DumpFilters"=hex(7):64,00,75,00,6d,00,70,00,66,00,76,00,65,00,2e,00,73,00,79,\\
  00,73,00,00,00,61,00,63,00,6d,00,65,00,2e,00,73,00,79,00,73,00,00,00,00,00
"""
QUERY = f"""
C:\\> reg query HKLM\\SYSTEM\\CurrentControlSet\\Control\\CrashControl

{KEY}
    CrashDumpEnabled    REG_DWORD    0x7
    EnableLogFile    REG_DWORD    0x1
    DumpFile    REG_EXPAND_SZ    %SystemRoot%\\MEMORY.DMP
    DumpFilters    REG_MULTI_SZ    dumpfve.sys\\0acme.sys

{KEY}\\FullLiveKernelReports
"""
LIST = f"""CrashDumpEnabled  : 7
EnableLogFile     : 1
DumpFile          : C:\\Windows\\MEMORY.DMP
DumpFilters       : {{dumpfve.sys, acme.sys}}
PSPath            : Microsoft.PowerShell.Core\\Registry::{KEY}
PSChildName       : CrashControl
PSProvider        : Microsoft.PowerShell.Core\\Registry
"""


def shown(tmp_path: Path, capsys: Any, text: str, *options: str) -> tuple[int, str]:
    """Exit code and report of a text, on one line."""
    path = tmp_path / "paste.txt"
    path.write_text(text, encoding="utf-8")
    capsys.readouterr()
    code = main(["analyze", str(path), *options])
    return code, " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("mark", ["", "> ", "    "])
@pytest.mark.parametrize("text", [EXPORT, QUERY, LIST], ids=["export", "reg query", "PowerShell"])
def test_settings_are_read_as_they_were_shown(
    text: str, mark: str, tmp_path: Path, capsys: Any
) -> None:
    """What people paste of CrashControl is mostly not an export."""
    code, told = shown(tmp_path, capsys, textwrap.indent(text, mark, bool))
    assert code == 0
    assert told.startswith("dumpfve.sys and acme.sys are registered as dump filters, in this call")
    assert "the dump that is configured: automatic memory dump" in told


def test_what_stands_behind_a_cut_is_not_called_unregistered(tmp_path: Path, capsys: Any) -> None:
    """A filter that the dump has may be in the part of the list that is not shown."""
    path = tmp_path / "paste.txt"
    for end, is_said in (("}", True), (", c.sys, d.sys...}", False)):
        path.write_text(LIST.replace("}", end))
        main(["analyze", str(path), str(SAMPLE_TRACES / "healthy-x64-kernel.dmp"), "-v"])
        told = " ".join(capsys.readouterr().out.split())
        assert ("dump_acmeflt.sys is loaded as a dump filter" in told) == is_said


@pytest.mark.parametrize("value", ["CrashDumpEnabled", "crashdumpenabled"])
def test_what_one_value_does_not_show_may_be_set(value: str, tmp_path: Path, capsys: Any) -> None:
    """``reg query /v`` shows one; the others are not missing on the machine for that."""
    code, told = shown(tmp_path, capsys, f"{KEY}\n    {value}    REG_DWORD    0x7\n", "-v")
    assert code == 0
    assert told.startswith(
        "The input does not show which dump filters are registered; the dump that is configured: "
        "automatic memory dump."
    )
    assert "EnableLogFile is not set" not in told
    assert "collect the System event log and the CrashControl settings" in told


def test_a_list_that_powershell_cut_off_is_told(tmp_path: Path, capsys: Any) -> None:
    """It shows four elements of a list."""
    cut = LIST.replace("acme.sys}", "acme.sys, c.sys, d.sys...}")
    _, told = shown(tmp_path, capsys, cut, "-v")
    assert told.startswith("At least dumpfve.sys, acme.sys, c.sys and d.sys are registered")
    assert "the list of 'DumpFilters' is cut off" in told


@pytest.mark.parametrize(
    "text", [f"{KEY}\n", f"cd Registry::{KEY}\n", "    A    REG_DWORD    0x1\n"]
)
def test_a_key_or_a_value_alone_is_no_registry(text: str, tmp_path: Path, capsys: Any) -> None:
    """A path in a sentence, or a value of an unknown key, says nothing."""
    assert shown(tmp_path, capsys, text)[0] == 2
