"""WinDbg logs of ordinary sessions: which dump or target, when, its modules, its call stacks.

The logs are written by hand in the forms of the debugger's documentation (k, lm, .opendump,
dumpchk); the faulty ones lie beside the shared samples and their README has the right answers.
"""

from __future__ import annotations

import random
import zipfile
from pathlib import Path
from typing import Any, Callable

import pytest
from counting import calls

import analyzer
from analyzer.absence import Absent, is_absent
from analyzer.cli import main
from analyzer.errors import AnalyzerError
from analyzer.sources import identify, windbg_stack
from analyzer.sources import windbg_text as words
from analyzer.sources.windbg_sessions import COMPLETED, LEAST_MODULES

Shared = Callable[[str], Path]
LOGS = (
    "windbg-dump-attributes-failed.txt", "windbg-two-dumps-and-lmvm.txt",
    "windbg-lm-unloaded-stripped.txt", "windbg-lm-only.txt", "windbg-filter-init-crash.txt",
    "dumpchk.txt",
)  # fmt: skip


def shown(capsys: Any, *words_: str) -> tuple[int, str]:
    """Exit code and output of a command, on one line."""
    capsys.readouterr()
    code = main(list(words_))
    return code, " ".join(capsys.readouterr().out.split())


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[str], Any]:
    """The case of a log with this text."""

    def open_text(text: str, name: str = "kd.log") -> Any:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return analyzer.open(path)

    return open_text


def rules(case: Any) -> list[str]:
    """The findings of a case."""
    return [finding.rule for finding in case.records["findings"]]


# ---- the faulty inputs ---------------------------------------------------------------------------


def test_a_dump_that_failed_says_how_and_when(shared_sample: Shared, capsys: Any) -> None:
    """11:10:16.075 at UTC + 8:00 is 03:10:16.075 UTC; the header's error, percentage, last line."""
    path = shared_sample("../faults/windbg-dump-attributes-failed.txt")
    code, text = shown(capsys, "analyze", str(path))
    assert code == 1
    assert (
        "by windbg-dump-attributes-failed.txt, the dump's own header says that writing it failed"
        in text
    )
    assert (
        "error 0xc0000185 (STATUS_IO_DEVICE_ERROR), at 35 %; the last line of its dump log" in text
    )
    (machine,) = analyzer.open(path).records["machine"]
    assert (
        machine.system_time == 1770865816075 * 10**6
    )  # date -u -d '2026-02-12 03:10:16.075' +%s%3N
    assert machine.uptime_ns == ((45 * 60 + 54) * 60 + 30) * 10**9 + 79 * 10**6
    assert (machine.attributes, machine.last_dump_line) == (
        0x21800, "Starting write of memory dump data.",
    )  # fmt: skip
    assert machine.parameter2 == 0x180CCA4C34D


def test_two_dumps_of_one_log_are_two_crashes(shared_sample: Shared, capsys: Any) -> None:
    """Each with its own code and time (UTC - 7:00); lmvm of one driver is no list of modules."""
    path = shared_sample("../faults/windbg-two-dumps-and-lmvm.txt")
    case = analyzer.open(path)
    assert [
        (m.bugcheck, m.parameter1, m.system_time, m.origin.source) for m in case.records["machine"]
    ] == [
        # date -u -d '2026-03-04 20:03:39.545' +%s%3N; date -u -d '2026-03-12 08:15:00.1' +%s%3N
        (0x5A, 1, 1772654619545 * 10**6, f"{path}!first.dmp"),
        (0x19C, 0x50, 1773303300100 * 10**6, f"{path}!second.dmp"),
    ]
    assert sorted({row.crash for row in case.records["crashes"]}) == [1, 2]
    code, text = shown(capsys, "analyze", str(path))
    assert code == 0
    assert "crashdmp" not in text
    assert "None of the" not in text
    assert "log-modules-partial" in rules(case)


def test_a_filter_that_crashed_while_it_was_initialised(shared_sample: Shared, capsys: Any) -> None:
    """The stack names the filter, its DriverEntry and who called it."""
    path = shared_sample("../faults/windbg-filter-init-crash.txt")
    code, text = shown(capsys, "analyze", str(path))
    assert code == 1
    assert "The crash lies in the dump filter dump_acmeflt, in its DriverEntry" in text
    assert (
        "called by crashdmp!FilterCallback+0x111 and crashdmp!InitializeFilterDrivers+0xe" in text
    )
    frames = analyzer.open(path).records["frames"]
    assert [(f.frame, f.module, f.stack_of) for f in frames[3:6]] == [
        (3, "nt", "crash stack"), (4, "dump_acmeflt", "crash stack"),
        (5, "crashdmp", "crash stack"),
    ]  # fmt: skip
    assert frames[4].instruction_pointer == 0xFFFFF8062FB93293  # where frame 3 returns to
    assert frames[4].return_address == 0xFFFFF8088B5E1431
    assert isinstance(frames[0].instruction_pointer, Absent)


@pytest.mark.parametrize("name", ["windbg-lm-only.txt", "windbg-lm-unloaded-stripped.txt"])
def test_module_lists_without_banner(shared_sample: Shared, name: str, capsys: Any) -> None:
    """Time stamps with the note on reproducible builds; what follows "Unloaded modules" is that."""
    path = shared_sample(f"../faults/{name}")
    modules = analyzer.open(path).records["modules"]
    loaded = [(m.name, m.time_date_stamp) for m in modules if m.loaded]
    assert loaded == [
        ("nt", 0x5DEE2B07), ("crashdmp.sys", 0x4E160591), ("dump_storport.sys", 0xD2EBC76E),
        ("dump_storahci.sys", 0x6A1B92AB), ("dump_dumpfve.sys", 0x0C6C3C71),
    ]  # fmt: skip
    unloaded = [m.name for m in modules if not m.loaded]
    assert unloaded == (
        ["dump_storpor", "dump_storahc", "dump_dumpfve"] if "unloaded" in name else []
    )
    code, text = shown(capsys, "analyze", str(path))
    assert code == 0
    assert "According to the module list, the dump stack contained dump_dumpfve.sys" in text


@pytest.mark.parametrize("command", ["lmvm nt", "lm m nt", "lm m n*"])
def test_a_list_that_was_asked_for_is_not_all(command: str, opened: Any) -> None:
    """Of the kernel alone, too: what is not in it may well be loaded."""
    case = opened(
        f"{FIRST}0: kd> {command}\nBrowse full module list\n"
        "start             end                 module name\n"
        "fffff802`11c00000 fffff802`12a46000   nt         (pdb symbols)\n"
    )
    assert "log-modules-partial" in rules(case)
    assert case.exit_code() == 0
    assert "None of the" not in case.report()


def test_the_header_that_dumpchk_prints(shared_sample: Shared) -> None:
    """Fields, bugcheck, attributes; of which dump."""
    path = shared_sample("../faults/dumpchk.txt")
    case = analyzer.open(path)
    (machine,) = case.records["machine"]
    assert (machine.build, machine.architecture, machine.processors) == (26100, "x64", 8)
    assert (machine.bugcheck, machine.parameter4) == (0xD1, 0xFFFFF8024E50C688)
    assert machine.attributes == 0x21808
    assert "KernelGeneratedTriageDump" in machine.attribute_names
    assert (machine.boot_id, machine.dump_type) == (12, 4)
    assert machine.ps_loaded_module_list == 0xFFFFF802770F4F10
    assert "030226-7312-01.dmp" in case.records["sources"][0].subtype
    assert case.exit_code() == 0


def test_rows_like_those_of_a_header_are_none_elsewhere(opened: Any) -> None:
    """Only behind the heading that dumpchk prints."""
    row = "BootId              0000000c\n"
    text = f"Loading Dump File [C:\\a.dmp]\nDUMP_FILE_ATTRIBUTES: 0x8\n{row}"
    (machine,) = opened(text).records["machine"]
    assert (machine.attributes, is_absent(machine.boot_id)) == (8, True)
    assert opened(f"{text}DUMP_HEADER64:\n{row}").records["machine"][0].boot_id == 12


@pytest.mark.slow
@pytest.mark.parametrize("name", LOGS)
def test_damaged_logs_end_in_records_or_an_error_of_ours(
    name: str, shared_sample: Shared, tmp_path: Path
) -> None:
    """150 copies of each with lines dropped, doubled, cut and changed."""
    lines = shared_sample(f"../faults/{name}").read_text(encoding="utf-8").splitlines(True)
    source = random.Random(name)
    path = tmp_path / "kd.log"
    for _ in range(150):
        text = list(lines)
        for _ in range(source.randint(1, 6)):
            at = source.randrange(len(text))
            how = source.randrange(4)
            if how == 0:
                text[at] = ""
            elif how == 1:
                text.insert(at, source.choice(lines))
            elif how == 2:
                text[at] = text[at][: source.randrange(len(text[at]) + 1)]
            elif text[at]:
                where = source.randrange(len(text[at]))
                text[at] = (
                    text[at][:where] + chr(source.randrange(32, 0x250)) + text[at][where + 1 :]
                )
        path.write_text("0: kd> \n" + "".join(text), encoding="utf-8")
        try:
            analyzer.open(path).report()
        except AnalyzerError:
            continue


# ---- times ---------------------------------------------------------------------------------------

#: a zone -> what the clock time 12:00 of 2026-01-02 is in seconds since 1970
NOON = 1767355200  # date -u -d '2026-01-02 12:00' +%s
ZONES = {
    "UTC + 8:00": NOON - 8 * 3600,  # ahead of UTC: UTC is earlier
    "UTC - 7:00": NOON + 7 * 3600,
    "UTC + 5:30": NOON - 19800,
    "UTC - 3:30": NOON + 12600,
    "UTC + 0:00": NOON,
    "GMT+1": NOON - 3600,  # debuggers before 6.12
    "GMT-8": NOON + 8 * 3600,
}


@pytest.mark.parametrize("zone", sorted(ZONES))
def test_the_sign_of_a_zone(zone: str, opened: Any) -> None:
    """The debugger shows its own clock and how far that is ahead of UTC."""
    stamp = f"Fri Jan  2 12:00:00.250 2026 ({zone})"
    wanted = ZONES[zone] * 10**9 + 250 * 10**6
    assert words.session_time(f"Debug session time: {stamp}") == wanted
    assert words.echo_time(f"Debugger (not debuggee) time: {stamp}") == wanted
    assert words.echo_time(f"Debug session time: {stamp}") is None
    case = opened(f"Loading Dump File [C:\\a.dmp]\nDebug session time: {stamp}\n")
    assert case.records["machine"][0].system_time == wanted


def test_the_time_of_a_live_target_is_no_crash_time(opened: Any) -> None:
    """There the line tells when the command ran; without a dump or a target, nothing."""
    stamp = "Debug session time: Fri Jan  2 12:00:00.250 2026 (UTC + 1:00)\n"
    connected = (
        "Connected to Windows 10 19041 x64 target at (Fri Jan  2 12:00:00 2026), ptr64 TRUE\n"
    )
    for text in (connected + stamp, stamp):
        assert is_absent(opened(text).records["machine"][0].system_time)


@pytest.mark.parametrize("prefix", ["0x", ""])
def test_attributes_with_and_without_prefix(prefix: str, opened: Any) -> None:
    """Debuggers of 2024 print "21808", those of 2026 "0x21808"; public logs have both."""
    keys = {"AsUlong": f"{prefix}21808", "ErrorCode": f"{prefix}c0000185"}
    keys["LastLine"] = "Progress 0x00000042"
    text = "".join(
        f"    Key  : Dump.Attributes.{key}\n    Value: {value}\n    \n"
        for key, value in keys.items()
    )
    text += "    Key  : Dump.Attributes.ProgressPercentage\n    Value: 100\n\n"
    case = opened(f"7: kd> !analyze -v\n{text}FILE_IN_CAB:  020625-17000-01.dmp\n")
    assert case.records["machine"][0].attributes == 0x21808
    (finding,) = (f for f in case.records["findings"] if f.rule == "dump-header-failure")
    assert "error 0xc0000185 (STATUS_IO_DEVICE_ERROR), at 100 %" in finding.text
    assert "020625-17000-01.dmp" in case.records["sources"][0].subtype
    whole = text.replace("c0000185", "0").replace("Progress 0x00000042", COMPLETED)
    assert "dump-header-failure" not in rules(opened(f"7: kd> !analyze -v\n{whole}"))


def test_a_time_without_a_zone_is_not_placed(opened: Any) -> None:
    """A debugger of 2004: whose clock it is, the log does not say."""
    case = opened("Loading Dump File [C:\\a.dmp]\nDebug session time: Fri Jun 11 10:22:46 2004\n")
    assert "without its zone" in str(case.records["machine"][0].system_time)


# ---- sessions ------------------------------------------------------------------------------------

FIRST = (
    "Loading Dump File [C:\\a\\one.dmp]\n"
    "Mini Kernel Dump File: Only registers and stack trace are available\n"
    "0: kd> .bugcheck\nBugcheck code 0000000A\n"
    "Arguments 00000000`00000001 00000000`00000002 00000000`00000003 00000000`00000004\n"
)
SECOND = FIRST.replace("one.dmp", "two.dmp").replace("0000000A", "00000050")


def test_a_dump_that_is_opened_again_is_the_same(opened: Any) -> None:
    """One, two, and one again: two sessions."""
    again = FIRST.replace("0000000A", "0000000A")
    case = opened(FIRST + SECOND + again)
    assert [m.bugcheck for m in case.records["machine"]] == [0xA, 0x50]
    assert opened(FIRST).records["machine"][0].origin.source.endswith("kd.log")


def test_sessions_of_a_log_in_an_archive_keep_its_name(tmp_path: Path) -> None:
    """ticket.zip!kd.log!one.dmp: the path of the unpacked copy is shown nowhere."""
    path = tmp_path / "ticket.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("kd.log", FIRST + SECOND)
    case = analyzer.open(path)
    assert list(case.sources["path"]) == [f"{path}!kd.log!{n}.dmp" for n in ("one", "two")]
    assert "dumpstart-" not in case.report("json")


def test_modules_of_one_dump_are_not_those_of_the_other(opened: Any) -> None:
    """A list with the kernel and as many images as Windows has is judged, no other is."""

    def full(count: int) -> str:
        rows = "".join(
            f"fffff807`{0x60000000 + n * 0x10000:x} fffff807`{0x60010000 + n * 0x10000:x}"
            f"   driver{n}   (deferred)\n"
            for n in range(count - 1)
        )
        return (
            "0: kd> lm\nstart             end                 module name\n"
            f"fffff807`5bc0e000 fffff807`5cc54000   nt         (pdb symbols)\n{rows}"
        )

    for other in (full(LEAST_MODULES).replace("   nt ", "   cdrom "), full(LEAST_MODULES - 1)):
        _judge_lists(opened(FIRST + full(LEAST_MODULES) + SECOND + other))


def _judge_lists(case: Any) -> None:
    assert "dump-stack-missing" in rules(case)
    (finding,) = (f for f in case.records["findings"] if f.rule == "dump-stack-missing")
    assert finding.origin.source.endswith("!one.dmp")
    (partial,) = (f for f in case.records["findings"] if f.rule == "log-modules-partial")
    assert partial.origin.source.endswith("!two.dmp")


def test_lm_v_says_more_of_its_module(opened: Any) -> None:
    """Image name, time stamp and checksum stand below the row."""
    case = opened(
        "0: kd> lmv\nstart             end                 module name\n"
        "fffff807`5bc0e000 fffff807`5cc54000   nt         (pdb symbols)\n"
        "    Image path: ntkrnlmp.exe\n    Image name: ntkrnlmp.exe\n"
        "    Timestamp:        Fri Mar 10 00:00:00 2023 (640A6F00)\n"
        "    CheckSum:         00A7B3C1\n    ImageSize:        01046000\n"
        "fffff807`61350000 fffff807`6135f000   dump_storport   (deferred)\n"
        "    Image path: \\SystemRoot\\System32\\Drivers\\dump_storport.sys\n"
        "    Image name: dump_storport.sys\n"
        "    Timestamp:        unavailable (00000000)\n"
    )
    kernel, port = case.records["modules"]
    assert (kernel.name, kernel.time_date_stamp, kernel.checksum) == ("nt", 0x640A6F00, 0xA7B3C1)
    assert kernel.image_key == "640A6F001046000"
    assert port.name == "dump_storport.sys"
    assert is_absent(port.time_date_stamp)


@pytest.mark.parametrize(
    "text",
    [
        "STACK_TEXT:  \nfffff807`5bc0e000 fffff807`5cc54000 : 0 0 0 0 : nt!KeBugCheckEx\n",
        " # Child-SP          RetAddr               Call Site\n",
        "ChildEBP RetAddr  \n",
        "start    end        module name\n804d7000 806e4000   nt         (pdb symbols)\n",
        "Debug session time: Fri Jan  2 12:00:00.250 2026 (UTC + 1:00)\n",
        "*** Fatal System Error: 0x0000007e\n",
    ],
)
def test_output_without_banner_or_prompt_is_known(text: str, tmp_path: Path) -> None:
    """What people paste into tickets."""
    path = tmp_path / "pasted.txt"
    path.write_text(text, encoding="utf-8")
    assert identify(str(path)).name == "WinDbg log"


def test_ordinary_text_is_not_taken_for_output(tmp_path: Path) -> None:
    """Words of the debugger in prose are none."""
    path = tmp_path / "note.txt"
    path.write_text("Please send the start and end of the module name list.\nRetAddr?\n", "utf-8")
    assert identify(str(path)).module == ""


# ---- stacks --------------------------------------------------------------------------------------

BUGCHECK = "0: kd> .bugcheck\nBugcheck code 000000D1\n"
WANTED = ["nt!KeBugCheckEx", "dump_acmeflt!Write+0x57", "crashdmp!FilterCallback+0x111"]
#: command -> what it prints; of kf and kb other columns, of x86 other widths
STACKS = {
    "k": (
        "Child-SP          RetAddr               Call Site\n"
        "ffffe383`a3c06020 fffff806`183d474f     nt!KeBugCheckEx\n"
        "ffffe383`a3c072f0 fffff808`8b5e1431     dump_acmeflt!Write+0x57 [D:\\src\\acme.c @ 12]\n"
        "ffffe383`a3c07320 00000000`00000000     crashdmp!FilterCallback+0x111\n"
    ),
    "kn": (
        " # Child-SP          RetAddr               Call Site\n"
        "00 ffffe383`a3c06020 fffff806`183d474f     nt!KeBugCheckEx\n"
        "01 ffffe383`a3c072f0 fffff808`8b5e1431     dump_acmeflt!Write+0x57\n"
        "02 ffffe383`a3c07320 00000000`00000000     crashdmp!FilterCallback+0x111\n"
    ),
    "kv": (
        " # Child-SP          RetAddr               : Args to Child"
        "                                                           : Call Site\n"
        "00 ffffe383`a3c06020 fffff806`183d474f     : 00000000`000000d1 00000000`00000008 "
        "00000000`00000002 00000000`00000000 : nt!KeBugCheckEx\n"
        "01 ffffe383`a3c072f0 fffff808`8b5e1431     : 00000000`00000001 00000000`00000002 "
        "00000000`00000003 00000000`00000004 : dump_acmeflt!Write+0x57\n"
        "02 ffffe383`a3c07320 00000000`00000000     : 00000000`00000001 00000000`00000002 "
        "00000000`00000003 00000000`00000004 : crashdmp!FilterCallback+0x111\n"
    ),
    "kb": (
        "RetAddr               : Args to Child                                            : "
        "Call Site\n"
        "fffff806`183d474f     : 00000000`000000d1 00000000`00000008 00000000`00000002 "
        "00000000`00000000 : nt!KeBugCheckEx\n"
        "fffff808`8b5e1431     : 00000000`00000001 00000000`00000002 00000000`00000003 "
        "00000000`00000004 : dump_acmeflt!Write+0x57\n"
        "00000000`00000000     : 00000000`00000001 00000000`00000002 00000000`00000003 "
        "00000000`00000004 : crashdmp!FilterCallback+0x111\n"
    ),
    "kf": (
        "  Memory  Child-SP          RetAddr               Call Site\n"
        "          ffffe383`a3c06020 fffff806`183d474f     nt!KeBugCheckEx\n"
        "     12d0 ffffe383`a3c072f0 fffff808`8b5e1431     dump_acmeflt!Write+0x57\n"
        "       30 ffffe383`a3c07320 00000000`00000000     crashdmp!FilterCallback+0x111\n"
    ),
    "k of x86": (
        "ChildEBP RetAddr  \n"
        "8a1b2c3d 8211abcd nt!KeBugCheckEx\n"
        "8a1b2d00 8b5e1431 dump_acmeflt!Write+0x57\n"
        "8a1b2e00 00000000 crashdmp!FilterCallback+0x111\n"
    ),
    "kb of x86": (
        "ChildEBP RetAddr  Args to Child              \n"
        "8a1b2c3d 8211abcd 000000d1 00000008 00000002 nt!KeBugCheckEx\n"
        "8a1b2d00 8b5e1431 00000001 00000002 00000003 dump_acmeflt!Write+0x57\n"
        "8a1b2e00 00000000 00000001 00000002 00000003 crashdmp!FilterCallback+0x111\n"
    ),
    "!analyze -v": (
        "STACK_TEXT:  \n"
        "ffffe383`a3c06020 fffff806`183d474f     : 00000000`000000d1 00000000`00000008 "
        "00000000`00000002 00000000`00000000 : nt!KeBugCheckEx\n"
        "ffffe383`a3c072f0 fffff808`8b5e1431     : 00000000`00000001 00000000`00000002 "
        "00000000`00000003 00000000`00000004 : dump_acmeflt!Write+0x57\n"
        "ffffe383`a3c07320 00000000`00000000     : 00000000`00000001 00000000`00000002 "
        "00000000`00000003 00000000`00000004 : crashdmp!FilterCallback+0x111\n"
    ),
}


@pytest.mark.parametrize(("bound", "kept", "is_told"), [(4, 3, False), (3, 3, False), (2, 2, True)])
def test_most_frames_of_a_log(
    bound: int, kept: int, is_told: bool, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left out is told."""
    monkeypatch.setattr(windbg_stack, "MOST_FRAMES", bound)
    case = opened(f"{BUGCHECK}0: kd> k\n{STACKS['!analyze -v']}\n\n")
    assert len(case.records["frames"]) == kept
    told = [row for row in case.records["findings"] if row.rule == "log-limit-reached"]
    assert bool(told) is is_told


@pytest.mark.parametrize("command", sorted(STACKS))
def test_stacks_in_every_form(command: str, opened: Any) -> None:
    """The same frames of each form, and the finding of the crash that they show."""
    case = opened(f"{BUGCHECK}0: kd> {command}\n{STACKS[command]}\n\nBUCKET_ID:  x\n")
    frames = case.records["frames"]
    assert [frame.symbol for frame in frames] == WANTED
    assert [frame.module for frame in frames] == ["nt", "dump_acmeflt", "crashdmp"]
    assert {frame.stack_of for frame in frames} == {"crash stack"}
    assert frames[1].instruction_pointer == frames[0].return_address
    pointers = {"kb": None}.get(command, 0x8A1B2D00 if "x86" in command else 0xFFFFE383A3C072F0)
    assert pointers == (None if is_absent(frames[1].stack_pointer) else frames[1].stack_pointer)
    (finding,) = (f for f in case.records["findings"] if f.rule == "crash-in-dump-filter")
    assert finding.subject == "dump_acmeflt"
    assert "called by crashdmp!FilterCallback+0x111" in finding.text


@pytest.mark.parametrize(
    ("routine", "call"),
    [
        ("StartFilterDrivers", "Dump_Start"), ("CrashdmpWriteRoutine", "Dump_Write"),
        ("InitializeFilterDrivers", "DriverEntry"), ("FinishFilterDrivers", "Dump_Finish"),
    ],
)  # fmt: skip
def test_the_call_that_a_filter_crashed_in_is_named(routine: str, call: str, opened: Any) -> None:
    """By the routine of crashdmp that calls all filters for it."""
    outer = f"ffffe383`a3c07380 00000000`00000000     crashdmp!{routine}+0xe\n"
    stack = STACKS["k"].replace("00000000`00000000", "fffff808`8b5e1000")
    case = opened(f"{BUGCHECK}0: kd> k\n{stack}{outer}")
    (finding,) = (f for f in case.records["findings"] if f.rule == "crash-in-dump-filter")
    assert (
        f"the dump filter dump_acmeflt, in its {call}: at dump_acmeflt!Write+0x57" in finding.text
    )
    assert finding.facts["callback"] == call


def test_a_stack_without_a_crash_blames_nobody(opened: Any) -> None:
    """Of a target that was only broken into; its frames are there all the same."""
    case = opened(f"0: kd> k\n{STACKS['k'].replace('KeBugCheckEx', 'DbgBreakPoint')}")
    assert len(case.records["frames"]) == 3
    assert not {"crash-in-dump-filter", "crash-in-dump-stack"} & set(rules(case))


def test_a_crash_elsewhere_is_not_put_on_the_dump_stack(opened: Any) -> None:
    """The first frame outside of the kernel is another driver's."""
    stack = STACKS["k"].replace("dump_acmeflt!Write+0x57", "acme!Read+0x10")
    assert "crash-in-dump-filter" not in rules(opened(f"{BUGCHECK}0: kd> k\n{stack}"))


def test_a_stack_ends_where_its_rows_end(opened: Any) -> None:
    """A blank line may stand below the heading; one below a frame, or a prompt, ends the stack."""
    heading, *rows = STACKS["k"].splitlines(keepends=True)
    for text, count in (
        (f"{heading}\n{''.join(rows)}", 3),
        (f"{heading}{rows[0]}\n{rows[1]}{rows[2]}", 1),
        (f"{heading}{rows[0]}0: kd> r\n{rows[1]}", 1),
        ("".join(rows), 0),
    ):
        assert len(opened(f"0: kd> k\n{text}").records["frames"]) == count


def test_inlined_and_unloaded_frames(opened: Any) -> None:
    """They have no address of their own, or no image any more."""
    case = opened(
        "0: kd> kn\n # Child-SP          RetAddr               Call Site\n"
        "00 (Inline Function) --------`--------     nt!KxWait+0x3\n"
        "01 ffffe383`a3c072f0 fffff808`8b5e1431     <Unloaded_dump_storport.sys>+0x1234\n"
        "02 ffffe383`a3c07320 00000000`00000000     0xfffff808`8b5e1431\n"
        "fffff808`8b5e1431 is no frame of it\n"
    )
    frames = case.records["frames"]
    assert [(f.symbol, None if is_absent(f.module) else f.module) for f in frames] == [
        ("nt!KxWait+0x3", "nt"),
        ("<Unloaded_dump_storport.sys>+0x1234", "dump_storport.sys"),
        ("0xfffff808`8b5e1431", None),
    ]
    assert is_absent(frames[0].return_address)


# ---- cost ----------------------------------------------------------------------------------------


def test_many_routines_that_were_not_found_cost_no_square(tmp_path: Path) -> None:
    """Four times the lines, at most 4.6 times the work."""

    def work(count: int) -> int:
        path = tmp_path / f"{count}.log"
        armed = "dumpstart:1 armed id={0} filter=f{0} callback=Dump_Start routine=none\n"
        text = "Opened log file x\n" + "".join(armed.format(n) for n in range(count))
        path.write_text(
            text + "".join(f"dumpstart:1 enter id={n}\n" for n in range(count)), "ascii"
        )
        return calls(lambda: analyzer.open(path))

    work(100)
    assert work(1600) < 4.6 * work(400)
