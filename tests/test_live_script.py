"""Breakpoint scripts: every way through a command reaches gc, and nothing that can fail is bare.

What these tests do not prove: that an engine accepts the script. The tests marked live do that.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import SAMPLE_TRACES, make

import analyzer
from analyzer import __version__
from analyzer.cli import main
from analyzer.errors import UsageError
from analyzer.live import routines, script
from analyzer.live.options import StopOn, parse_stop_on
from analyzer.live.routines import Routine, Writes
from analyzer.records import Callback
from analyzer.sources.capture_format import TAG

START = Routine("Dump_Start", "dump_x+0x1000", "dump_x.sys", "crash")
WRITE = Routine("Dump_Write", "dump_x!DumpWrite", "dump_x.sys", "crash")
HUNDRED = Writes(100, 0)


def commands(architecture="x64", writes=HUNDRED):
    """The command texts of all breakpoints, and of those that they set."""
    lines = list(script.write([START, WRITE], architecture, writes=writes))
    found = [match.group(1) for line in lines if (match := re.match(r'b[pu]\d+ \S+ "(.*)"$', line))]
    assert len(found) == (1 if writes.is_off else 2)
    return found + [text for one in found for text in re.findall(r'\\"(.*?)\\"', one)]


@pytest.mark.parametrize("architecture", script.ARCHITECTURES)
def test_every_command_goes_on(architecture):
    """Each command, and each branch of it, ends in gc."""
    for text in commands(architecture):
        plain = re.sub(r'\\".*?\\"', "", text)
        if ".if" in plain:
            branches = re.fullmatch(r".*?\.if \(.*?\) \{ (.*) \} \.else \{ (.*) \}", plain).groups()
        else:
            branches = (plain,)
        for branch in branches:
            assert branch.endswith("; gc")


@pytest.mark.parametrize("architecture", script.ARCHITECTURES)
def test_what_can_fail_stands_in_catch(architecture):
    """Outside .catch only .echo, .echotime, r, .if and gc are left."""
    for text in commands(architecture):
        plain = re.sub(r'\\".*?\\"', "", text)
        while ".catch" in plain:
            plain, count = re.subn(r"\.catch \{[^{}]*\}", "", plain)
            assert count
        for statement in re.split(r"[;{}]", plain):
            word = statement.split()[0] if statement.split() else ""
            assert word in ("", ".echo", ".echotime", "r", ".if", ".else", "gc"), statement


def test_the_clock_is_read_next_to_the_call():
    """At the entry the clock is read last, at the return first."""
    entry, _, back, _ = commands()
    assert entry.endswith(".catch { rdmsr 0x10 }; gc")
    assert back.split("; ")[1] == ".catch { rdmsr 0x10 }"


def test_registers_of_each_architecture():
    """Only registers that the architecture has."""
    assert "@rcx" in commands("x64")[0]
    assert "poi(@esp+4)" in commands("x86")[0]
    assert "rcx" not in "".join(commands("arm64") + commands("x86"))
    assert "@lr" in commands("arm64")[0]


def test_writes_are_bounded_or_off():
    """After the first calls the breakpoint is switched off; off sets none."""
    assert "(@$t0 <= 0n7)" in commands(writes=Writes(7, 0))[1]
    assert not any("DumpWrite" in text for text in commands(writes=Writes(0, 0)))


def test_symbols_wait_for_their_module():
    """A symbol is set with bu, which waits for its module; an offset with bp."""
    lines = list(script.write([START, WRITE], "x64", writes=Writes(1, 0)))
    assert [line.split()[0] for line in lines if re.match(r"b[pu]\d", line)] == ["bp71", "bu72"]


def test_names_of_a_dump_are_no_commands():
    """A module's name comes from a dump: it ends no quote, no statement and formats nothing."""
    evil = Routine("Dump_Start", "nt+0x10", 'dump_%s";.shell calc;\n.sys', 'x";q')
    armed = next(line for line in script.write([evil], "x64") if " armed " in line)
    assert armed == (
        '.catch { .printf "dumpstart:1 armed id=1 filter=dump__s__.shell_calc__.sys stack=x__q '
        'callback=Dump_Start routine=%I64x\\n", nt+0x10 }'
    )


def test_module_names_are_the_debuggers():
    """What is no part of a name stands as "_" in the name of a module."""
    row = make(Callback, callback="Dump_Start", routine=1, symbol="dump_my-flt 2.x+0x1000")
    row = row._replace(filter="dump_my-flt 2.x.sys", stack="crash")
    assert routines.of_callbacks([row])[0].expression == "dump_my_flt_2_x+0x1000"


def test_no_more_breakpoints_than_a_kernel_debugger_holds():
    """31 routines and their returns are more than 32: the machine would not go on."""
    many = [START._replace(expression=f"dump_x+{n:#x}") for n in range(31)]
    with pytest.raises(UsageError, match="32 breakpoints"):
        list(script.write(many, "x64"))
    assert sum(line.startswith("bp") for line in script.write(many[:30], "x64")) == 30


def test_every_counter_counts_one_routine():
    """$t0 to $t19 are all there are; nothing shares one."""
    many = [WRITE._replace(expression=f"dump_x+{n:#x}") for n in range(21)]
    lines = list(script.write(many[:20], "x64", writes=HUNDRED))
    assert len({line.split()[1] for line in lines if line.startswith("r @$t")}) == 20
    with pytest.raises(UsageError, match="only of 20"):
        list(script.write(many, "x64", writes=HUNDRED))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("minidump-x64.dmp", [], "no callback of a filter is in what was given"),
        ("healthy-x64-kernel.dmp", ["--architecture", "x86"], "what was given is of x64"),
        ("healthy-x64-kernel.dmp", ["--callback", "0x0"], "no routine at address 0"),
    ],
)
def test_a_script_that_cannot_be(name, options, words, capsys):
    """Each wrong wish is answered with what is wrong."""
    assert main(["script", str(SAMPLE_TRACES / name), *options]) == 2
    assert words in capsys.readouterr().err


def test_lines_end_as_on_windows(tmp_path):
    """DbgEng takes lines apart that end in LF alone."""
    path = tmp_path / "watch.txt"
    assert (
        main(["script", "--architecture", "x64", "--callback", "a!b", "--output", str(path)]) == 0
    )
    assert path.read_bytes().count(b"\r\n") == path.read_bytes().count(b"\n") > 9


def test_a_place_is_watched_once():
    """A second breakpoint at a place would take the place of the first."""
    lines = list(script.write([START, START._replace(expression="DUMP_X+0x1000")], "x64"))
    assert sum(line.startswith("bp") for line in lines) == 1


def test_the_last_writes_are_refused():
    """A script cannot know which calls are the last."""
    with pytest.raises(UsageError, match="the last"):
        list(script.write([WRITE], "x64", writes=Writes(5, 5)))


def test_a_log_with_a_space_is_quoted():
    """WinDbg's .logopen wants quotes then; other marks are refused."""
    assert '.logopen /t "C:\\my logs\\x.log"' in script.write([START], "x64", "C:\\my logs\\x.log")
    for log in ('a"b', "a;b", "a\nb", " "):
        with pytest.raises(UsageError):
            list(script.write([START], "x64", log))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a b",
        "x;.shell",
        'x"',
        "Dump_Bogus=x!y",
        "x!y\n.shell",
        "@rcx",
        "poi(x)",
        "x!y}",
        "$$>a",
    ],
)
def test_hostile_expressions_are_refused(text):
    """Nothing that would be another command gets into a script."""
    with pytest.raises(UsageError):
        routines.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dump_Start=dump_x!DumpStart", Routine("Dump_Start", "dump_x!DumpStart", "dump_x")),
        ("dump_x+0x1000", Routine("callback", "dump_x+0x1000", "dump_x")),
        ("0xfffff80020001000", Routine("callback", "0xfffff80020001000")),
    ],
)
def test_routines(text, expected):
    """The three ways to name a routine."""
    assert routines.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("off", (0, 0)), ("first:100", (100, 0)), ("first:1,last:2", (1, 2)), ("last:5", (0, 5))],
)
def test_limits_of_writes(text, expected):
    """What --writes takes."""
    assert routines.parse_writes(text) == expected


@pytest.mark.parametrize("text", ["", "first", "first:x", "first:1;last:2", "none", "first:-1"])
def test_wrong_limits_are_refused(text):
    """Anything else is a usage error."""
    with pytest.raises(UsageError):
        routines.parse_writes(text)


def test_the_frequency_of_a_capture_is_kept(tmp_path):
    """What the capture measured; without one the script asks the hypervisor."""
    capture = SAMPLE_TRACES / "captures" / "run-01.jsonl"
    path = tmp_path / "watch.txt"
    assert main(["script", str(capture), "--output", str(path)]) == 0
    hertz = re.search(r'"fact":"clock","hz":(\d+)', capture.read_text()).group(1)
    assert f"clock hz={hertz} how=given" in path.read_text()
    assert "0x40000022" not in path.read_text()
    asked = list(script.write([START], "x64"))
    assert ".catch { rdmsr 0x40000022 }" in asked
    assert not any("0x40000022" in line for line in script.write([START], "arm64"))


def test_the_frequency_in_a_log(tmp_path):
    """The hypervisor's answer becomes the clock of the log's calls."""
    log = (
        "Opened log file 'x'\n"
        f"{TAG}script version=0.1.0 target=x64 routines=1\n"
        f"{TAG}machine architecture=x64 pointer_size=8\n"
        "msr[40000022] = 00000000`9502f900\n"
        f"{TAG}armed id=1 filter=dump_x.sys stack=crash callback=Dump_Start routine=1000\n"
        f"{TAG}enter id=1\nrcx=fffff80020003008\nmsr[10] = 00000000`00001000\n"
        f"{TAG}leave id=1\nmsr[10] = 00000000`0003e800\neax=0\nClosing open log file x\n"
    )
    path = tmp_path / "x.log"
    path.write_text(log)
    row = next(r for r in analyzer.open(path).records["callbacks"] if r.was_called == "yes")
    assert row.duration_high_ns == (0x3E800 - 0x1000) * 10**9 // 2_500_000_000
    assert "MSR 0x40000022" in row.origin.how


def test_another_image_is_not_watched():
    """The time stamp is compared; where it differs the breakpoint is taken back, and told."""
    lines = list(script.write([START], "x64", stamps={"dump_x": 0xEF000001}))
    at = next(n for n, line in enumerate(lines) if line.startswith("bp71"))
    assert lines[at + 1] == (
        ".catch { .if (dwo(dump_x+dwo(dump_x+0x3c)+8) != 0`ef000001) { bc 71; "
        ".echo dumpstart:1 disarmed id=1 why=another_image_lies_there } }"
    )


@pytest.mark.parametrize("wanted", ["failure", "return"])
def test_a_script_that_stops_where_it_hurts(wanted):
    """Only at the return that was asked for there is a way without gc."""
    text = "".join(script.write([START], "x64", stop_on=parse_stop_on(wanted)))
    back = re.search(r'\\"(.*?)\\"', text).group(1)
    if wanted == "failure":
        branches = re.search(r"\.if \((.*?)\) \{ (.*) \} \.else \{ (.*) \}", back).groups()
        assert branches[0] == "(@eax & 0x80000000) != 0"
        assert "gc" not in branches[1]
        assert branches[2] == "gc"
    else:
        assert "gc" not in back
    with pytest.raises(UsageError, match="how long"):
        list(script.write([START], "x64", stop_on=parse_stop_on("slow=5")))


SCRIPTS = Path(__file__).parent / "scripts"


@pytest.mark.parametrize(
    ("architecture", "writes", "hertz", "stop_on", "log"),
    [
        ("x64", Writes(3, 0), None, StopOn(), "x.log"),
        ("x86", Writes(1 << 62, 0), 5, StopOn(failure=True), "d x.log"),
        ("arm64", Writes(0, 0), None, StopOn(every=True), "x.log"),
    ],
)
def test_whole_scripts(architecture, writes, hertz, stop_on, log):
    """Each line as it was read through; their statements ran on a real engine (docs/live.md)."""
    routines = [
        Routine("Dump_Start", "dump_x+0x10", "dump_x.sys", "crash"),
        Routine("Dump_Write", "dump_x!W", None, None),
    ]
    lines = script.write(routines, architecture, log, writes, hertz, {"dump_x": 0x5F}, stop_on)
    text = "".join(line + "\n" for line in lines).replace(__version__, "VERSION")
    assert text == (SCRIPTS / f"{architecture}.txt").read_text(encoding="ascii")


def numbered(count, callback="Dump_Start"):
    """So many routines."""
    return [Routine(callback, f"dump_x+{n:#x}", "dump_x.sys", "crash") for n in range(1, count + 1)]


@pytest.mark.parametrize(
    ("routines", "options", "says"),
    [
        (numbered(31), {}, ("31 callbacks are too many: a kernel debugger holds 32 breakpoints; "
         "use --writes off, or name those that matter with --callback")),
        (numbered(21, "Dump_Write"), {"writes": Writes(5, 0)},
         "calls of 21 routines cannot be counted, only of 20; use --writes off or --writes all"),
        ([], {}, "there is no callback to watch; name one with --callback"),
        (numbered(1), {"log": " "}, "' ' cannot be the name of a log"),
        (numbered(1), {"log": "a;b"}, "'a;b' cannot be the name of a log"),
        (numbered(1), {"writes": Writes(1, 1)},
         "a script cannot know which calls are the last: give first:N, all or off"),
        (numbered(1), {"stop_on": StopOn(slow_ns=1)},
         "a script cannot know how long a call took: give failure or return"),
    ],
)  # fmt: skip
def test_scripts_that_cannot_be(routines, options, says):
    """One sentence each; one less is a script."""
    with pytest.raises(UsageError) as caught:
        list(script.write(routines, "x64", **options))
    assert str(caught.value) == says
    if len(routines) > 1:
        assert (
            sum(line.startswith("bp") for line in script.write(routines[1:], "x64", **options)) > 1
        )


def test_the_architecture_of_a_script(capsys, sample):
    """That of the dump; another one is refused; without either it cannot be made."""
    dump = str(sample("healthy-x64-kernel.dmp"))
    assert main(["script", dump]) == 0
    told = capsys.readouterr().out
    assert "target=x64" in told
    assert ".expr /s masm" in told
    assert main(["script", dump, "--architecture", "x64"]) == 0
    assert capsys.readouterr().out == told
    for words, says in (
        ([dump, "--architecture", "x86"], "--architecture is x86, but what was given is of x64"),
        (["--callback", "x+1"], "give --architecture, or a dump of the machine"),
    ):
        assert main(["script", *words]) == 2
        assert capsys.readouterr().err == f"dumpstart: {says}\n"
    assert main(["script", "--callback", "x+1", "--architecture", "arm64", "--tsc-hz", "1"]) == 0
    assert ".echo dumpstart:1 clock hz=1 how=given" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("word", ["0", "-1", "x", str(1 << 63), "1.5", ""])
def test_frequencies_that_cannot_be(word, capsys):
    """A number from 1 that fits."""
    assert main(["script", "--callback", "x+1", "--architecture", "x64", f"--tsc-hz={word}"]) == 2
    assert "--tsc-hz" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "fits"),
    [
        ("--tsc-hz=1", True), (f"--tsc-hz={(1 << 63) - 1}", True), ("--timeout=0.5", True),
        ("--timeout=1e7", True), ("--timeout=1.1e7", False), ("--timeout=0", False),
        ("--calls=1", True), ("--calls=0", False),
    ],
)  # fmt: skip
def test_numbers_of_a_capture(option, fits, tmp_path, capsys):
    """In their limits; a capture of nothing is what is then refused."""
    output = tmp_path / "there.jsonl"
    output.write_text("x")
    assert main(["capture", "com:port=com1", "--output", str(output), option]) == 2
    assert ("is there already" in capsys.readouterr().err) is fits
