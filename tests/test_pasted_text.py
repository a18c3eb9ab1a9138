"""Debugger output as people paste it: indented, quoted, cut, with codes younger than a table.

The texts are written by hand in forms read off public issue threads and Microsoft's own pages; the
names in them are made up. Each goes through the command line, as a user's file does.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any, Callable

import pytest

from analyzer.cli import main

Run = Callable[..., tuple[int, str]]

LOG = r"""Microsoft (R) Windows Debugger Version 6.3.9600.17336 AMD64

Loading Dump File [C:\Windows\MEMORY.DMP]
Kernel Bitmap Dump File: Full address space is available

Windows 8 Kernel Version 9600 MP (8 procs) Free x64
Built by: 9600.17936.amd64fre.winblue_ltsb.150715-0840
Kernel base = 0xfffff802`a3a06000 PsLoadedModuleList = 0xfffff802`a3cdb7b0
Debug session time: Fri Sep  4 19:35:30.194 2015 (UTC + 2:00)
System Uptime: 0 days 0:12:38.930
Use !analyze -v to get detailed debugging information.

BugCheck 3B, {c0000005, fffff802a3a5d7a0, ffffd000262b6e60, 0}

Probably caused by : acmedrv.sys ( acmedrv+7b21 )

Followup: MachineOwner
---------
"""
ARGUMENTS = "Arguments:\n" + "".join(
    f"Arg{n}: 000000000000000{n}, Its meaning.\n" for n in range(1, 5)
)


@pytest.fixture
def run(tmp_path: Path, capsys: Any) -> Run:
    """Analyses a text; its exit code and the report on one line."""

    def analyze(text: str, *options: str, name: str = "kd.txt") -> tuple[int, str]:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        capsys.readouterr()
        code = main(["analyze", str(path), *options])
        return code, " ".join(capsys.readouterr().out.split())

    return analyze


@pytest.mark.parametrize(
    "paste",
    [
        lambda text: text,
        lambda text: textwrap.indent(text, " " * 22),
        lambda text: textwrap.indent(text, "\t"),
        lambda text: textwrap.indent(text.replace("`", "\\`"), "> ", bool),
        lambda text: textwrap.indent(text, "> > ", bool),
        lambda text: text.replace("\n", "\r\n"),
    ],
    ids=["as it is", "indented", "tab", "quoted", "quoted twice", "CRLF"],
)
def test_what_stands_in_front_of_the_lines_changes_nothing(paste: Any, run: Run) -> None:
    """Code that is pasted into a post is indented, an answer to it is quoted."""
    code, text = run(paste(LOG))
    assert code == 0
    assert text.startswith(
        "The machine crashed with bugcheck 0x3B (SYSTEM_SERVICE_EXCEPTION) on 2015-09-04 17:35:30 "
        "UTC, which WinDbg puts down to acmedrv.sys (acmedrv+7b21), and a dump was written: a "
        "debugger has opened it (kd.txt). Windows build 9600, x64, 8 processors, up "
    )
    _, text = run(paste(LOG), "-v")
    assert "0x00000000c0000005 0xfffff802a3a5d7a0 0xffffd000262b6e60" in text


@pytest.mark.parametrize(
    ("title", "code", "name"),
    [
        ("Unknown bugcheck code (1aa)\nUnknown bugcheck description", 0x1AA, "EXCEPTION_ON_INV"),
        ("DRIVER_PNP_WATCHDOG (1d5)\nA driver took too long.", 0x1D5, "DRIVER_PNP_WATCHDOG"),
        ("VIDEO_TDR_ERROR (116)\nAn older name.", 0x116, "VIDEO_TDR_FAILURE"),
        ("NAME_OF_THE_FUTURE (2ff)\nNot in any table.", 0x2FF, ""),
        ("HYPERVISOR_ERROR (20001)\nFatal.", 0x20001, "HYPERVISOR_ERROR"),
    ],
)
def test_a_bugcheck_counts_whatever_its_name(title: str, code: int, name: str, run: Run) -> None:
    """A debugger may be older or younger than our table of names; the number decides."""
    _, text = run(f"0: kd> !analyze -v\n{title}\n{ARGUMENTS}", "-v")
    assert text.startswith(f"The machine crashed with bugcheck 0x{code:X}")
    assert f"({name}" in text.split(";")[0] if name else "(" not in text.split(";")[0]
    assert "parameters 0x0000000000000001 0x0000000000000002" in text


def test_words_and_a_number_in_brackets_are_no_bugcheck(run: Run) -> None:
    """Without arguments behind it, a name that means another code states nothing."""
    _, text = run("0: kd> !thing\nSTATUS_OF_SOMETHING (12)\nBALANCE (50)\n")
    assert text.startswith("This input shows no crash")


def test_an_explanation_is_no_crash(run: Run) -> None:
    """``!analyze -show`` explains a code that did not happen; the next command may tell of one."""
    shown = f"0: kd> !analyze -show 0x144 0x3003\nBUGCODE_USB3_DRIVER (144)\nIt fails.\n{ARGUMENTS}"
    _, text = run(shown)
    assert text.startswith("This input shows no crash")
    _, text = run(shown.replace(" 0x144 0x3003", ""))  # of the crash itself
    assert text.startswith("The machine crashed with bugcheck 0x144")
    _, text = run(shown + f"0: kd> !analyze -v\nMEMORY_MANAGEMENT (1a)\n{ARGUMENTS}")
    assert text.startswith("The machine crashed with bugcheck 0x1A")


@pytest.mark.parametrize(
    "text",
    [
        "BugCheck CB, {f90c6ae0, f9949215, 81861788, 26}\nProbably caused by : acme.sys\n",
        f"DRIVER_LEFT_LOCKED_PAGES_IN_PROCESS (cb)\nIt did.\n{ARGUMENTS}",
        "  BugCheck CB, {f90c6ae0, f9949215, 81861788, 26}\n",
    ],
)
def test_a_few_lines_are_read(text: str, run: Run) -> None:
    """People paste what matters to them, without banner, prompt or heading."""
    code, shown = run(text)
    assert code == 0
    assert shown.startswith("The machine crashed with bugcheck 0xCB (DRIVER_LEFT_LOCKED_PAGES_IN_")


@pytest.mark.parametrize(
    ("code", "name"),
    [("141", "VIDEO_ENGINE_TIMEOUT_DETECTED"), ("193", "VIDEO_DXGKRNL_LIVEDUMP")],
)
def test_the_code_of_a_live_dump_is_no_crash(code: str, name: str, run: Run) -> None:
    """Microsoft: "This code can never be used for a real bug check"."""
    status, text = run(f"Loading Dump File [C:\\a.dmp]\n{name} ({code})\nIt is.\n{ARGUMENTS}")
    assert status == 0
    assert text.startswith(f"kd.txt is a debugger's log of a live dump (0x00000{code} {name}): Win")
    assert "crashed with" not in text


def test_the_machine_is_told_by_the_analysis_alone(run: Run) -> None:
    """A log that begins behind the banner has the build and the platform at its end."""
    text = f"MEMORY_MANAGEMENT (1a)\nIt is.\n{ARGUMENTS}\nFILE_IN_CAB:  MEMORY.DMP\n"
    text += "IMAGE_NAME:  acme.sys\nOS_VERSION:  10.0.19041.1\nOSPLATFORM_TYPE:  x64\n"
    _, shown = run(text)
    assert "Windows build 19041, x64." in shown
    assert (
        "puts down to acme.sys, and a dump was written: a debugger has opened it (kd.txt)" in shown
    )


def test_an_analysis_without_a_verdict_blames_nobody(run: Run) -> None:
    """Unknown_Image and ANALYSIS_INCONCLUSIVE name no image."""
    text = f"MEMORY_MANAGEMENT (1a)\nIt is.\n{ARGUMENTS}\nSYMBOL_NAME:  ANALYSIS_INCONCLUSIVE\n"
    assert "puts down to" not in run(text + "IMAGE_NAME:  Unknown_Image\n")[1]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("User Mini Dump File with Full Memory: Only application data is available",
         "log of the dump C:\\a.dmp, User Mini Dump File; it names no bugcheck"),
        ("Could not open dump file [C:\\a.dmp], HRESULT 0x80004002",
         "C:\\a.dmp, which could not be opened (HRESULT 0x80004002); it names no bugcheck"),
    ],
)  # fmt: skip
def test_a_dump_without_a_bugcheck_is_named(line: str, says: str, run: Run) -> None:
    """A debugger that opened a dump shows that there is one."""
    _, text = run(f"Loading Dump File [C:\\a.dmp]\n{line}\n")
    assert says in text
    assert "shows no crash, no dump" not in text


@pytest.mark.parametrize("uptime", ["0 days 0:00:00.000", "not available"])
def test_an_uptime_of_nothing_is_not_told(uptime: str, run: Run) -> None:
    """A debugger that has just connected shows zero."""
    assert ", up " not in run(LOG.replace("0 days 0:12:38.930", uptime))[1]


def test_a_list_of_unloaded_modules_alone_is_read(run: Run) -> None:
    """The dump stack of a machine that resumed from hibernation stands there."""
    text = "Unloaded modules:\nfffff80769020000 fffff80769040000   dump_acme.sys\n"
    code, shown = run(text, "-v")
    assert code == 0
    assert shown.startswith("Of the dump stack, dump_acme.sys is listed as unloaded.")


def test_a_truncated_dump_is_told(run: Run) -> None:
    """WinDbg warns of it in a box of its own; the dump is then not known to be whole."""
    code, text = run(
        LOG.replace("\nWindows 8", "\nWARNING: Dump file has been truncated.  Data\nWindows 8")
    )
    assert code == 1
    assert "WinDbg says that the dump file has been truncated" in text
    assert "whether a dump was written is not known" in text


def test_the_build_is_that_of_the_kernel(run: Run) -> None:
    """Of build 22631 the analysis says 22621; a heading of Markdown is a banner, too."""
    text = f"### MEMORY_MANAGEMENT (1a)\nIt is.\n{ARGUMENTS}\nOS_VERSION:  10.0.22621.1\n"
    assert "Windows build 22621." in run(text)[1]
    kernel = "Windows 10 Kernel Version 22631 MP (4 procs) Free x64\n"
    assert "Windows build 22631, x64, 4 processors." in run(kernel + text)[1]
    text = text.replace("OS_VERSION:  10.0.22621.1", "BUILD_VERSION_STRING:  17763.1.amd64fre.rs5")
    assert "Windows build 17763." in run(text)[1]


DUMP_LOG = """DLOGFILE00010000DUMP /
Dump stack initialized at UTC: 2024/05/07 11:34:49, local time: 2024/05/07 13:34:49.
#BugCheckCode 0x000000000000003B
#BugCheckP1 0x00000000C0000005
Elapsed BugCheck duration 00001683ms
Dump Type: 4, Total Dump Size: 7354343, Secondary Dump Size: 7187943.
Starting write of minidump data.
Finish write of minidump data.
Starting invoking secondary dump callbacks.
Calling acme secondary callback.
Return from acme secondary callback.
Finish invoking secondary dump callbacks.
Dump ended at UTC: 2024/05/07 11:34:49, local time: 2024/05/07 13:34:49.
Elapsed BugCheck duration 00021621ms
Dump completed successfully.
"""


@pytest.mark.parametrize("mark", ["", "> ", ">> ", "    ", "\t"])
def test_a_dump_log_is_read_as_it_was_pasted(mark: str, run: Run) -> None:
    """A quoted log of a dump that was completed is no log of one that failed."""
    code, text = run(textwrap.indent(DUMP_LOG, mark), name="DumpStack.txt")
    assert code == 0
    assert text.startswith(
        "The machine crashed with bugcheck 0x3B (SYSTEM_SERVICE_EXCEPTION) on 2024-05-07 11:34:49 "
        "UTC, and a dump was written: DumpStack.txt records a completed dump."
    )


def test_a_dump_log_without_its_beginning_tells_its_end(run: Run) -> None:
    """The clock stands still, so its end has the time of the crash; a first time is no delay."""
    text = "Somebody wrote here.\n" + DUMP_LOG[DUMP_LOG.index("Return from") :]
    code, shown = run(text, name="DumpStack.txt")
    assert code == 0
    assert shown.startswith(
        "The machine crashed on 2024-05-07 11:34:49 UTC, and a dump was written: DumpStack.txt "
    )
    assert "Dump_Start of every" not in shown
    lines = [line for line in text.splitlines(True) if "UTC" not in line]
    code, shown = run(
        "".join(lines[1:]) + "Calling x secondary callback data done.\n", name="a.log"
    )
    assert "shows no crash" not in shown


def test_arguments_are_no_event_however_their_digits_fall(run: Run) -> None:
    """Four lines with colons, the third with many numbers, the fourth of digits: no event log."""
    values = ("fffff8040677fe00", "ffffc80f43c8f3f0", "ffffc80f43c8f3f0", "0000000000000000")
    text = "kd> !analyze -v\nSYSTEM_EXIT_OWNED_MUTEX (39)\nIt did.\nArguments:\n"
    text += "".join(f"Arg{n}: {value}\n" for n, value in enumerate(values, 1))
    assert run(text)[1].startswith(
        "The machine crashed with bugcheck 0x39 (SYSTEM_EXIT_OWNED_MUTEX)"
    )


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("E3 (FFFFF802364E5641, 2, 8, FFFFF802364E5641)",
         "The machine crashed with bugcheck 0xE3 (RESOURCE_NOT_OWNED) on 2023-12-26 15:57:39 UTC"),
        ("161 (5461736B6D6772, 0, 0, 0)", "kd.txt is a debugger's log of a live dump (0x00000161"),
    ],
)  # fmt: skip
def test_what_mex_says_of_a_dump_is_read(code: str, says: str, run: Run) -> None:
    """``!di`` of Microsoft's extension MEX has the bugcheck and the dump in lines of its own."""
    text = f"""0: kd> !di
Windows 10 Kernel Version 22621 MP (6 procs) Free x64
Debug session time: Tue Dec 26 07:57:39.921 2023 (UTC - 8:00)
Bugcheck: {code}
KernelMode Dump Path: C:\\Windows\\MEMORY (2).DMP
"""
    assert run(text)[1].startswith(says)


def test_a_call_stack_in_a_filter_without_a_crash_is_told(run: Run) -> None:
    """A stop in the debugger while the stack of hibernation was loaded; it is no crash."""
    _, text = run(
        "kd> k\nChildEBP RetAddr  \n"
        "8b46ba54 87d9fe82 hiber_acmeflt!DriverEntry+0x74 \n"
        "8b46ba84 87d9d265 crashdmp!FilterCallback+0x1a2\n"
        "8b46ba94 87da5798 crashdmp!InitializeFilterDrivers+0xf\n"
    )
    assert text.startswith(
        "kd.txt shows a call stack in hiber_acmeflt!DriverEntry+0x74, called by "
        "crashdmp!FilterCallback+0x1a2."
    )
