"""Which crash a debugger's log tells of: several in one post, live dumps, what is cut off above.

The logs are written by hand in forms read off public posts and Microsoft's own pages; the names in
them are made up. Each goes through the command line, as a user's file does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest

import analyzer
from analyzer.cli import main

Run = Callable[[str], tuple[int, str]]

BANNER = r"""Loading Dump File [C:\Windows\MEMORY.DMP]
Kernel Bitmap Dump File: Kernel address space is available
Windows 10 Kernel Version {build} MP ({count} procs) Free x64
Built by: {build}.1.amd64fre.acme_release.240101-1200
Debug session time: Tue Mar  {day} 10:10:11.123 2024 (UTC + 1:00)
System Uptime: 0 days {count}:12:11.456
"""
SHORT = """Use !analyze -v to get detailed debugging information.

BugCheck {code}, {{{first}, 2, 0, fffff80013371234}}

Probably caused by : {image} ( {symbol} )

Followup: MachineOwner
---------

"""
NIC = SHORT.format(code="D1", first="ffffa38000000010", image="badnic.sys", symbol="badnic+1234")
AGAIN = SHORT.format(code="D1", first="ffffa38000000020", image="badgpu.sys", symbol="badgpu+8")
MEMORY = """Bugcheck Analysis
MEMORY_MANAGEMENT (1a)
Arguments:
Arg1: 0000000000041792, The subtype of the bugcheck.
Arg2: ffffa38000000030
Arg3: 0000000000000000
Arg4: 0000000000000000

BUGCHECK_CODE:  1a
IMAGE_NAME:  memory_corruption
"""
CONNECTED = "Connected to Windows {0} target at (Tue Mar  5 10:00:00.1 2024 (UTC + 1:00)), ptr64\n"
RUNNING = """Unknown bugcheck code (0)
Arg1: 0000000000000000
BUGCHECK_STR:  0x0
"""


@pytest.fixture
def run(tmp_path: Path, capsys: Any) -> Run:
    """Analyses a text; its exit code and the report on one line."""

    def analyze(text: str) -> tuple[int, str]:
        path = tmp_path / "kd.txt"
        path.write_text(text, encoding="utf-8")
        capsys.readouterr()
        code = main(["analyze", str(path)])
        return code, " ".join(capsys.readouterr().out.split())

    return analyze


# ---- several crashes in one text -----------------------------------------------------------------


@pytest.mark.parametrize(("second", "code"), [(MEMORY, "0x1A"), (AGAIN, "0xD1")])
def test_analyses_of_two_dumps_are_two_crashes(second: str, code: str, run: Run) -> None:
    """No line says that another dump was opened, but one dump has one bugcheck."""
    _, text = run(f"Dump 1:\n{NIC}\nDump 2:\n{second}")
    assert text.startswith("2 crashes, ")
    assert "Crashes, the newest first (those without a time are in no known order) crash 2" in text
    assert f"crash 2: time unknown, bugcheck {code}" in text
    assert "crash 1: time unknown, bugcheck 0xD1" in text
    assert "memory_corruption (badnic" not in text


def test_the_same_crash_told_twice_is_one(run: Run) -> None:
    """The short form, then the long one; a code has a variant, a number fewer digits."""
    long = "KERNEL_MODE_EXCEPTION_NOT_HANDLED ({})\nArguments:\nArg1: {}\nBUGCHECK_STR:  0x8E\n"
    first = "BugCheck 1000008E, {ffffffffc0000005, 1, 2, 3}\n"
    for code, argument in (("8e", "ffffffffc0000005"), ("8e", "c0000005")):
        _, text = run(first + long.format(code, argument))
        assert text.startswith("The machine crashed with bugcheck "), text


@pytest.mark.parametrize("is_named", [True, False])
def test_two_dumps_of_one_name(is_named: bool, run: Run) -> None:
    """MEMORY.DMP of today and of yesterday: each has its time, its build and its uptime."""
    texts = [
        BANNER.format(build=19041, count=4, day=5) + NIC,
        BANNER.format(build=22621, count=8, day=6) + AGAIN,
    ]
    if not is_named:
        texts = [text.partition("\n")[2] for text in texts]
    _, text = run("\n".join(texts))
    assert text.startswith("2 crashes between 2024-03-05 09:10:11 UTC and 2024-03-06 09:10:11 UTC")
    assert "on 2024-03-06 09:10:11 UTC, which WinDbg puts down to badgpu.sys (badgpu+8)" in text
    assert "Windows build 22621, x64, 8 processors, up 8 h 12 min." in text


def test_a_dump_that_is_looked_at_again_is_the_same(run: Run) -> None:
    """The same time, as vertarget prints it again."""
    banner = BANNER.format(build=19041, count=4, day=5)
    for more in (banner, banner.partition("Windows 10")[1] + banner.partition("Windows 10")[2]):
        _, text = run(f"{banner}{NIC}{more}{NIC}")
        assert text.startswith("The machine crashed with bugcheck 0xD1"), text


def test_a_restart_of_an_x86_target_keeps_its_crash(tmp_path: Path, run: Run) -> None:
    """What !analyze says of the running system later is not said of the crash."""
    old = CONNECTED.format("7 7600 x86 compatible")
    new = CONNECTED.format("Boot Debugger 7600 x86 compatible")
    fatal = "*** Fatal System Error: 0x000000ce\n   (0x98F31C11,0x00000008,0x98F31C11,0x00000000)"
    log = f"kd> g\n{fatal}\n{old}kd> g\nShutdown occurred at (x)\n{new}{old}{RUNNING}"
    _, text = run(log)
    assert text.startswith("The machine crashed with bugcheck 0xCE"), text
    machines = analyzer.open(tmp_path / "kd.txt").records["machine"]
    assert {str(row.architecture) for row in machines} == {"x86"}
    assert "live dump" not in text


@pytest.mark.parametrize("system", ["Server 2003 3790 x86 compatible", "10 19041 x64"])
def test_a_running_target_is_not_a_dump(system: str, run: Run) -> None:
    """A debugger broke into it: nothing was dumped."""
    for connected in (CONNECTED.format(system), ""):
        code, text = run(f"{connected}0: kd> !analyze -v\n{RUNNING}")
        assert "is a debugger's log of a running system: Windows had not crashed." in text
        assert code == 0


def test_a_running_target_has_no_crash_time(tmp_path: Path, capsys: Any) -> None:
    """How long it had been running is not when it crashed."""
    path = tmp_path / "kd.txt"
    uptime = "System Uptime: 0 days 0:00:55.728\n"
    for text, label in ((RUNNING, "time"), ("", "time"), (MEMORY, "crash time")):
        path.write_text(
            f"{CONNECTED.format('10 19041 x64')}0: kd> vertarget\n{uptime}{text}", encoding="utf-8"
        )
        assert main(["analyze", str(path), "-v"]) == 0
        lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
        assert [line.rpartition("  ")[0].strip() for line in lines if "up 55.73 s" in line][
            -1:
        ] == [label]


# ---- live dumps ----------------------------------------------------------------------------------

USB = """BUGCODE_USB3_DRIVER (144)
Arguments:
Arg1: 0000000000003003, A device failed enumeration.
"""


@pytest.mark.parametrize(
    "text",
    [
        f"{USB}FAILURE_BUCKET_ID:  LKD_0x144_DEVICE_ENUMERATION_FAILURE_badusb!unknown_function\n",
        f"Loading Dump File [C:\\Windows\\LiveKernelReports\\USBHUB3\\USBHUB3-1.dmp]\n{USB}",
        "FAILURE_BUCKET_ID:  LKD_0x144_badusb\nBUCKET_ID:  0x144_badusb\nSTACK_TEXT:  \n",
    ],
)
def test_a_live_dump_of_a_code_that_crashes_too(text: str, tmp_path: Path, run: Run) -> None:
    """The debugger's own name for it, or the folder where Windows keeps such dumps."""
    code, shown = run(text)
    assert "a live dump (0x00000144 BUGCODE_USB3_DRIVER): Windows had not crashed." in shown
    assert code == 0
    case = analyzer.open(tmp_path / "kd.txt")
    assert not case.records["crashes"]
    assert [str(row.dump_type_name) for row in case.records["machine"]] == ["live kernel dump"]


def test_the_same_code_without_such_a_name_is_a_crash(run: Run) -> None:
    """USB can stop Windows, too."""
    assert run(f"{USB}FAILURE_BUCKET_ID:  0x144_badusb\n")[1].startswith("The machine crashed with")


# ---- what is cut off above -----------------------------------------------------------------------

STACK = """STACK_TEXT:
8912380c 80f87fd3 00000003 e6c3476e 00000065 nt!RtlpBreakWithStatusInstruction
89123c30 80f0d8d6 {code} 00092003 8521dd34 nt!KeBugCheck2+0x676
89123c74 85211584 {code} 00092003 8521dd34 nt!KeBugCheckEx+0x19
89123cac 85216d54 9c17b860 9c1f3480 9c17b8dc badnic!OnTimer+0x1a4
"""


@pytest.mark.parametrize(
    "text",
    [
        "BUGCHECK_STR:  0xc4_AcmeTimed_XDV\nPROCESS_NAME:  System\nSTACK_TEXT:\n",
        "It says:\n> BUGCHECK_STR:  0xC4\n> \n> PROCESS_NAME:  System\n",
        "FAILURE_BUCKET_ID:  0xc4_f6_badnic!OnTimer\n",
        "STACK_TEXT:\n\nFAILURE_BUCKET_ID:  0xC4_f6_badnic!OnTimer+1a4\n",
        STACK.format(code="000000c4"),
    ],
)
def test_the_bugcheck_where_the_top_of_an_analysis_is_missing(text: str, run: Run) -> None:
    """The names that !analyze makes hold the code, and so do the arguments of KeBugCheck."""
    _, shown = run(text)
    name = "0xC4 (DRIVER_VERIFIER_DETECTED_VIOLATION)"
    assert shown.startswith(f"The machine crashed with bugcheck {name}"), shown


@pytest.mark.parametrize("stack", [STACK.format(code="12345678"), ""])
def test_a_stack_in_a_bugcheck_is_a_crash(stack: str, run: Run) -> None:
    """The code is not there, or what stands in its place is no known one."""
    plain = (
        "0: kd> k\nChild-SP          RetAddr               Call Site\n"
        "ffffd001`7d53d918 fffff801`61ba2b4c     nt!KeBugCheckEx\n"
        "ffffd001`7d53d920 fffff801`61b8da0e     badnic!OnTimer+0xec\n"
    )
    _, shown = run(stack or plain)
    assert "shows a call stack in nt!KeBugCheck" in shown
    assert "Windows crashed, but the bugcheck code is not shown." in shown
    assert "shows no crash" not in shown


def test_excerpts_of_two_analyses_are_not_mixed(run: Run) -> None:
    """The top of the first is missing; its image is not that of the second."""
    cut = "BUGCHECK_STR:  0xc4_f6\nIMAGE_NAME:  badnic.sys\nSYMBOL_NAME:  badnic+1234\n"
    _, shown = run(f"{cut}\n{MEMORY}")
    assert shown.startswith("2 crashes, with 2 different bugchecks.")
    assert "memory_corruption (badnic" not in shown


def test_each_analysis_has_its_own_parameters(tmp_path: Path, run: Run) -> None:
    """Line by line: those of the first are not taken into the second."""
    one = "DRIVER_POWER_STATE_FAILURE (9f)\nArguments:\n{}Arg4: 0000000000000009, Its meaning.\n\n"
    first = one.format("".join(f"Arg{n}: 000000000000000{n}\n" for n in (1, 2, 3)))
    second = one.format("Arg1: 0000000000000001\nArg2: 0000000000000258\nArg3: 0000000000000007\n")
    _, shown = run(first + second)
    assert shown.startswith("2 crashes, all with bugcheck 0x9F")
    rows = analyzer.open(tmp_path / "kd.txt").records["machine"]
    numbers = [[getattr(row, f"parameter{n}") for n in range(1, 5)] for row in rows]
    assert numbers == [[1, 2, 3, 9], [1, 0x258, 7, 9]]
