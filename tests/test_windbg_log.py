"""Debugger logs: the shapes of lines, our own sessions in a log, and logs of anybody.

The lines are what DbgEng 10.0.15063 printed for our own modules, and the forms that public session
logs show; the real transcript among the shared samples is read too.
"""

from __future__ import annotations

import pytest
from conftest import shared_names, shared_sample
from test_capture_file import facts, write

import analyzer
from analyzer.absence import Absent, is_absent
from analyzer.errors import AnalyzerError
from analyzer.sources import windbg_text
from analyzer.sources.capture_format import TAG, encode

BANNER = """Microsoft (R) Windows Debugger Version 10.0.15063.400 AMD64
Opened log file 'x_0f3c_2026-11-22_09-15-18-000.txt'
"""
SCRIPT_RUN = (
    BANNER
    + """dumpstart:1 script version=0.1.0 target=x64
kd> kd> dumpstart:1 machine architecture=x64 pointer_size=8
dumpstart:1 clock hz=1000000000 how=given
Windows 10 Kernel Version 19041 MP (2 procs) Free x64
Built by: 19041.1.amd64fre.vb_release.191206-1406
start             end                 module name
fffff800`20000000 fffff800`20010000   dump_mydrv C (private pdb symbols)  z:\\guest\\mydrv.pdb
dumpstart:1 armed id=1 filter=dump_mydrv stack=crash callback=Dump_Start routine=fffff80020001000
kd> dumpstart:1 enter id=1
Debugger (not debuggee) time: Sun Nov 22 09:15:19.120 2026 (UTC + 0:00)
rcx=fffff80020003008
MYDRV: a driver prints something here
fffff800`20003008  01 00 00 00 00 00 00 00-80 30 00 e4 8b c0 ff ff  .........0......
fffff800`20003018  81 ed 00 00 00 00 00 00-0c 00 00 00 ff 00 00 00  ................
fffff800`20003028  3f 00 00 00 00 02 00 00-00 60 4b 70 74 00 00 00  ?........`Kpt...
fffff800`20003038  18 00 00 00 01 00 00 00-52 1a fe 6b 1d 0c 7e 4b  ........R..k..~K
fffff800`20003048  9a 3c 11 22 33 44 55 66-f0 0f 00 50 00 f8 ff ff  .<."3DUf...P....
fffff800`20003058  58 00 00 00 00 00 00 00                          X.......
msr[10] = 18ea533c`1da62100
dumpstart:1 leave id=1
msr[10] = 18ea533c`21a80b00
Debugger (not debuggee) time: Sun Nov 22 09:15:19.190 2026 (UTC + 0:00)
eax=c000000d
"""
)


@pytest.fixture
def opened(tmp_path):
    """Opens a log with this text."""

    def make(text, encoding="utf-8"):
        path = tmp_path / "session.log"
        path.write_bytes(text.encode(encoding))
        return analyzer.open(path)

    return make


def rules(case):
    """The ids of the findings of a case."""
    return sorted(str(finding.rule) for finding in case.records["findings"])


def test_script_run(opened):
    """Every value of a call that a breakpoint script printed."""
    case = opened(SCRIPT_RUN)
    row = case.records["callbacks"][0]
    assert (row.filter, row.stack, row.callback) == ("dump_mydrv", "crash", "Dump_Start")
    assert (row.status, row.status_name) == (0xC000000D, "STATUS_INVALID_PARAMETER")
    assert (row.entry_clock, row.return_clock) == (0x18EA533C1DA62100, 0x18EA533C21A80B00)
    # 0x18ea533c21a80b00 - 0x18ea533c1da62100 = 0x401ea00 = 67234304 ticks at 1 GHz
    assert (row.duration_low_ns, row.duration_high_ns) == (0, 67234304)
    assert row.entry_time == 1795338919_120_000_000  # date -ud '2026-11-22 09:15:19' +%s
    assert row.symbol == "dump_mydrv+0x1000"
    assert "filter-callback-failed" in rules(case)


def test_extension_from_memory_lines(opened):
    """The bytes that db printed are decoded as in a dump, driver prints in between or not."""
    row = opened(SCRIPT_RUN).records["extensions"][0]
    assert row.extension == 0xFFFFF80020003008
    assert (row.dump_type, row.device_object) == (1, 0xFFFFC08BE4003080)
    assert (row.cylinders, row.bytes_per_sector, row.disk_size) == (60801, 512, 0x74704B6000)
    assert row.gpt_disk_id == "6bfe1a52-0c1d-4b7e-9a3c-112233445566"
    assert (row.dump_data, row.size, row.flags) == (0xFFFFF80050000FF0, 0x58, 0)


def test_machine_of_a_script_run(opened):
    """Build, its lab, architecture and processors."""
    row = opened(SCRIPT_RUN).records["machine"][0]
    assert (row.build, row.architecture, row.processors) == (19041, "x64", 2)
    assert row.build_lab == "19041.1.amd64fre.vb_release.191206-1406"


def test_call_that_never_returns(opened):
    """An entry at the end of the log is a call that did not return."""
    cut = SCRIPT_RUN[: SCRIPT_RUN.index("dumpstart:1 leave")]
    assert "callback-under-way" in rules(opened(cut))


CLOSED = "kd> Closing open log file 'x_0f3c_2026-11-22_09-15-18-000.txt'\n"


def test_a_log_that_was_closed_is_not_cut(opened):
    """What the engine writes at .logclose is the end of a script's session."""
    case = opened(SCRIPT_RUN + CLOSED)
    assert "capture-cut" not in rules(case)
    assert "the log was closed" in case.records["sources"][0].subtype


def test_a_restart_of_the_target_is_an_end(opened):
    """Behind it nothing of the crash can follow."""
    text = "Shutdown occurred at (Sun Nov 22 09:20:01.002 2026 (UTC + 0:00))...unloading all "
    assert "capture-cut" not in rules(opened(SCRIPT_RUN + text + "symbol tables.\n"))


@pytest.mark.parametrize("more", ["dumpstart:1 enter id=1\n", "dumpstart:1 script version=0.1.0\n"])
def test_what_follows_an_end_is_cut_again(opened, more):
    """A log that was closed, opened again and then cut says so."""
    assert "capture-cut" in rules(opened(SCRIPT_RUN))
    assert "capture-cut" in rules(opened(SCRIPT_RUN + CLOSED + more))


def test_callbacks_that_the_debugger_did_not_find(opened):
    """A script tells how many it sets; a module that is not loaded leaves some out."""
    text = SCRIPT_RUN.replace("target=x64", "target=x64 routines=3")
    found = [f.text for f in opened(text).records["findings"] if f.rule == "capture-not-armed"]
    assert len(found) == 1
    assert found[0].startswith("2 of 3 callbacks were not found by the debugger")
    assert "capture-not-armed" not in rules(opened(text.replace("routines=3", "routines=1")))


def test_a_script_whose_module_is_loaded_later(opened):
    """Its breakpoint waits; DbgEng 10.0.15063 prints this in place of the address."""
    text = SCRIPT_RUN.replace("target=x64", "target=x64 routines=1")
    text = text.replace("=fffff80020001000", "=Couldn't resolve error at 'dump_mydrv+0x1000 '")
    case = opened(text)
    row = case.records["callbacks"][0]
    assert (row.filter, row.callback, row.status) == ("dump_mydrv", "Dump_Start", 0xC000000D)
    assert not {"capture-not-armed", "capture-damaged"} & set(rules(case))
    uncalled = opened(text[: text.index("kd> dumpstart:1 enter")])
    assert "capture-not-armed" in rules(uncalled)


def test_an_x86_script_run(opened):
    """The argument lies on the stack: the script evaluates it, as DbgEng 10.0.15063 prints that."""
    text = """dumpstart:1 script version=0.1.0 target=x86
dumpstart:1 machine architecture=x86 pointer_size=4
dumpstart:1 armed id=1 filter=dump_x.sys stack=crash callback=Dump_Start routine=8b0b1000
dumpstart:1 enter id=1
Evaluate expression: -2080374784 = 84000000
84000000  01 00 00 00 00 30 10 85-81 ed 00 00 00 00 00 00  .....0..........
84000010  0c 00 00 00 ff 00 00 00-3f 00 00 00 00 02 00 00  ........?.......
84000020  00 60 4b 70 74 00 00 00-18 00 00 00 00 00 00 00  .`Kpt...........
84000030  78 56 34 12 00 00 00 00-00 00 00 00 00 00 00 00  xV4.............
84000040  10 22 0b 8b 00 00 00 00-50 00 00 00 00 00 00 00  ."......P.......
dumpstart:1 leave id=1
eax=0
"""
    case = opened(BANNER + text)
    row = case.records["extensions"][0]
    assert (row.extension, row.dump_type, row.device_object) == (0x84000000, 1, 0x85103000)
    assert (row.cylinders, row.bytes_per_sector, row.disk_size) == (0xED81, 512, 0x74704B6000)
    assert case.records["callbacks"][0].extension == 0x84000000


def test_echoed_commands_are_not_taken_for_their_output(opened):
    """A host that shows what was typed adds no call."""
    echoed = 'kd> .echo dumpstart:1 enter id=1\nbp71 x "dumpstart:1 enter id=1; gc"\n'
    assert len(opened(SCRIPT_RUN + echoed).records["callbacks"]) == 1


def told(case, table):
    """The rows of a table without their origin; of what is absent, the reason alone."""
    rows = case.records[table]
    return [[getattr(v, "reason", v) if is_absent(v) else v for v in row[:-1]] for row in rows]


def test_session_log_equals_the_capture(tmp_path, opened):
    """A log with the tagged facts of a capture gives the same tables."""
    lines = list(facts([(5000, 0), (6000, 0xC0000001), (None, 0)]))
    capture = analyzer.open(write(tmp_path / "c.jsonl", lines))
    log = opened(BANNER + "".join(f"1: kd> {TAG}{encode(fact)}\nnoise\n" for fact in lines))
    for table in ("callbacks", "filters", "extensions", "modules", "machine"):
        assert told(log, table) == told(capture, table), table
    assert rules(log) == rules(capture)


def test_session_log_without_its_end(opened):
    """A log that stops before the end of the session says so."""
    lines = list(facts([(5000, 0)], end=False))
    log = opened(BANNER + "".join(f"{TAG}{encode(fact)}\n" for fact in lines))
    assert "capture-cut" in rules(log)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_encodings(opened, encoding, newline):
    """WinDbg writes the code page, UTF-8 or, with /u, UTF-16; lines end as on Windows or not."""
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    text = mark + SCRIPT_RUN.replace("a driver prints", "Müller prints").replace("\n", newline)
    case = opened(text, encoding)
    assert case.records["callbacks"][0].status == 0xC000000D
    assert case.records["extensions"][0].disk_size == 0x74704B6000


@pytest.mark.parametrize("prompt", ["[Kernel]0: kd> ", "\x1b[36m1: kd:x86>\x1b[0m ", "lkd> "])
def test_prompts_before_every_line(opened, prompt):
    """Whatever stands before each line, a script's run is read as without it."""
    rows = opened(SCRIPT_RUN).records["callbacks"]
    case = opened(BANNER + "".join(prompt + x + "\n" for x in SCRIPT_RUN.splitlines()[2:]))
    assert [row[:-1] for row in case.records["callbacks"]] == [row[:-1] for row in rows]


def test_two_sessions_in_one_log(opened):
    """Each session's calls are told; that the second was cut is not hidden by the first's end."""
    first, second = list(facts([(5000, 0), (None, 0)])), list(facts([(6000, 7)], end=False))
    log = opened(BANNER + "".join(f"{TAG}{encode(fact)}\n" for fact in [*first, *second]))
    assert [row.status for row in log.records["callbacks"] if row.call is not None][::2] == [0, 7]
    assert "capture-cut" in rules(log)
    assert "callback-under-way" in rules(log)
    assert not {"capture-damaged", "filter-count-differs"} & set(rules(log))


@pytest.mark.parametrize(
    "line",
    [
        "kd> text", "0: kd> text", "10: kd> text", "lkd> text", "?: kd> text", "kd> kd> text",
        "1: kd:x86> text", "[Kernel]0: kd> text", "||0:1: kd> text", "12: lkd> text",
        "\x1b[1;32m0: kd>\x1b[0m \x1b[33mtext\x1b[0m", '0: kd> <link cmd="!x">te</link>xt',
    ],
)  # fmt: skip
def test_prompts_and_markup(line):
    """Whatever stands before and around the text, the text is found."""
    assert windbg_text.bare(line) == "text"


@pytest.mark.parametrize(
    ("line", "name", "base", "end"),
    [
        ("fffff800`20000000 fffff800`20010000   dump_mydrv   (deferred)",
         "dump_mydrv", 0xFFFFF80020000000, 0xFFFFF80020010000),
        ("fffff802`0b200000 fffff802`0bb00000   nt         (pdb symbols)    c:\\s\\ntkrnlmp.pdb",
         "nt", 0xFFFFF8020B200000, 0xFFFFF8020BB00000),
        ("804d7000 806eb780   nt         (pdb symbols)     nt.pdb",
         "nt", 0x804D7000, 0x806EB780),
        ("fffff800`1a000000 fffff800`1a020000   dump_dumpfve dump_dumpfve.sys  (65920080)",
         "dump_dumpfve.sys", 0xFFFFF8001A000000, 0xFFFFF8001A020000),
        ("fffff800`1a000000 fffff800`1a020000   dump_storport dump_diskdump.sys (65920080)",
         "dump_storport", 0xFFFFF8001A000000, 0xFFFFF8001A020000),
        ("ModLoad: fffff800`1a000000 fffff800`1a020000   \\SystemRoot\\System32\\drivers\\x.sys",
         "x.sys", 0xFFFFF8001A000000, 0xFFFFF8001A020000),
        ('00007ff7`79e10000 00007ff7`79e67000 notepad "C:\\Windows\\notepad.exe" F59533D5 00057000',
         "notepad.exe", 0x7FF779E10000, 0x7FF779E67000),
    ],
)  # fmt: skip
def test_module_lines(line, name, base, end):
    """Each form of a module list."""
    found = windbg_text.module(line)
    assert (found.name, found.base, found.end) == (name, base, end)


@pytest.mark.parametrize(
    "line",
    [
        "fffff880`009a9b58 fffff800`02c7f1e9 nt!KeBugCheckEx",  # k
        "fffff880`009a9000 fffff800`02c7f1e9 : 00000000`0000000a : nt!KeBugCheckEx",
        "fffff800`20003000 fffff800`20001000 dump_mydrv+0x1000",  # dps
        "fffff800`20003000 00000000`00000001 00000000`00000002",  # dq
        "8054c000  80550000 00000002 00000003",  # dd
        "fffff800`20010000 fffff800`20000000   dump_mydrv   (deferred)",  # end before start
    ],
)
def test_lines_that_are_no_modules(line):
    """Stacks and memory are not taken for modules."""
    assert windbg_text.module(line) is None


def test_unloaded_modules(opened):
    """Modules behind "Unloaded modules:" are unloaded, until something else is printed."""
    case = opened(
        BANNER
        + "fffff800`10000000 fffff800`10010000   a    (deferred)\n\nUnloaded modules:\n"
        + "fffff800`20000000 fffff800`20010000   dump_storport.sys\n    Timestamp: unavailable\n"
        + 'fffff800`28000000 fffff800`28010000   <link cmd="lmvm kdnic">kdnic.sys</link>\n'
        + "fffff800`30000000 fffff800`30010000   dump_x.sys\nkd> lm\n"
        + "fffff800`40000000 fffff800`40010000   b    (deferred)\n"
    )
    assert {(m.name, m.loaded) for m in case.records["modules"]} == {
        ("a", True), ("dump_storport.sys", False), ("kdnic.sys", False), ("dump_x.sys", False),
        ("b", True),
    }  # fmt: skip


ARGUMENTS = "ffff8000`12345678", "00000000`00000002", "00000000`00000000", "fffff800`22334455"


PLAIN = [argument.replace("`", "") for argument in ARGUMENTS]


@pytest.mark.parametrize(
    "text",
    [
        "BugCheck D1, {" + ", ".join(ARGUMENTS) + "}",
        "Bugcheck code 000000D1\nArguments " + " ".join(ARGUMENTS),
        "*** Fatal System Error: 0x000000d1\n      (0x" + ",0x".join(PLAIN) + ")",
        "DRIVER_IRQL_NOT_LESS_OR_EQUAL (d1)\nAn attempt was made\nArguments:\n"
        + "\n".join(f"Arg{n}: {value}, memory" for n, value in enumerate(ARGUMENTS, 1)),
        "BUGCHECK_CODE:  d1\n"
        + "\n".join(f"BUGCHECK_P{n}: {value.lstrip('0') or 0}" for n, value in enumerate(PLAIN, 1)),
    ],
)
def test_bugchecks(opened, text):
    """Each way a debugger shows a bugcheck gives its code and its four parameters."""
    row = opened(f"{BANNER}0: kd> {text}\n").records["machine"][0]
    assert (row.bugcheck, row.bugcheck_name) == (0xD1, "DRIVER_IRQL_NOT_LESS_OR_EQUAL")
    assert (row.parameter1, row.parameter2, row.parameter3, row.parameter4) == (
        0xFFFF800012345678, 2, 0, 0xFFFFF80022334455,
    )  # fmt: skip


def test_words_in_capitals_are_no_bugcheck(opened):
    """A banner counts only when its words and its number mean the same bugcheck."""
    assert opened(BANNER + "IMAGE_VERSION_FOO (d1)\n").records["machine"] == []


DT = """0: kd> dt dump_mydrv!_FILTER_EXTENSION fffff80020003008
   +0x000 DumpType         : 1 ( DumpTypeCrashdump )
   +0x008 DeviceObject     : 0xffffc08b`e4003080 _DEVICE_OBJECT
   +0x010 Geometry         : _DISK_GEOMETRY
      +0x000 Cylinders        : _LARGE_INTEGER 0xed81
      +0x008 MediaType        : 0n12
      +0x00c TracksPerCylinder : 0xff
      +0x014 BytesPerSector   : 0x200
   +0x028 DiskSize         : _LARGE_INTEGER 0x00000074`704b6000
   +0x048 DumpData         : (null)
   +0x050 Size             : 0x58
   +0x054 Flags            : 0
"""


def test_dt_of_an_extension(opened):
    """A printed FILTER_EXTENSION becomes a row; what is not printed is absent."""
    case = opened(BANNER + DT)
    row = case.records["extensions"][0]
    assert (row.dump_type, row.dump_type_name) == (1, "DumpTypeCrashdump")
    assert (row.device_object, row.disk_size) == (0xFFFFC08BE4003080, 0x74704B6000)
    assert (row.cylinders, row.media_type, row.bytes_per_sector) == (0xED81, 12, 512)
    assert (row.dump_data, row.size, row.flags) == (0, 0x58, 0)
    assert isinstance(row.sectors_per_track, Absent)
    assert "log-dt-inconsistent" not in rules(case)


def test_dt_at_other_offsets(opened):
    """Symbols that do not fit the driver show members at other offsets."""
    case = opened(BANNER + DT.replace("+0x028 DiskSize", "+0x030 DiskSize"))
    assert "log-dt-inconsistent" in rules(case)


def test_dt_of_another_structure(opened):
    """Members that other structures have too make no extension."""
    text = BANNER + "   +0x000 Size : 1\n   +0x008 DeviceObject : (null)\n   +0x010 Flags : 1\n"
    assert opened(text).records["extensions"] == []


def test_real_transcripts():
    """The shared transcripts are read; the one of notepad has 112 modules and no bugcheck."""
    names = shared_names("windbg-log/*")
    if not names:
        shared_sample("windbg-log")
    for name in names:
        case = analyzer.open(shared_sample(name))
        if "TextDump" in name:
            # oracle: 114 lines from '*** MODULEINFO' to the next blank line, less the header
            assert len(case.records["modules"]) == 112
            base = next(m.base for m in case.records["modules"] if m.name == "ntdll.dll")
            assert base == 0x7FFF34040000


@pytest.mark.slow
def test_damaged_logs_end_in_records_or_an_error(tmp_path):
    """Any damaged byte, and any cut, gives records or one of our errors."""
    data = bytearray((SCRIPT_RUN + DT).encode())
    path = tmp_path / "flip.log"
    for place in range(len(BANNER) + 2, len(data), 5):
        for change in (
            data[:place],
            data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :],
        ):
            path.write_bytes(change)
            try:
                analyzer.open(path)
            except AnalyzerError as error:
                pytest.fail(str(error))


@pytest.mark.parametrize(
    ("line", "name", "number"),
    [
        (".  0 64-bit Kernel triage dump: C:\\a.dmp", "Kernel triage dump", 4),
        ("64-bit Kernel bitmap dump: C:\\a.dmp", "Kernel bitmap dump", None),
        ("----- 64 bit Kernel Mini Dump Analysis", "Kernel Mini Dump", 4),
        ("----- 32 bit Kernel Summary Dump Analysis", "Kernel Summary Dump", None),
        (".  0 64-bit Full kernel dump: C:\\a.dmp", "Full kernel dump", None),
        ("#  1 64-bit Kernel triage dump: C:\\b.dmp", None, None),  # not the one that is looked at
        ("64-bit User mini dump: C:\\a.dmp", None, None),
    ],
)
def test_the_kind_of_a_dump_by_other_commands(opened, line, name, number) -> None:
    """|| and version name it, .dumpdebug has it as a heading."""
    case = opened(f"{BANNER}{line}\n")
    machines = case.records["machine"]
    assert [(m.dump_type_name, m.dump_type or None) for m in machines] == (
        [(name, number)] if name else []
    )


def test_a_time_stamp_that_the_debugger_could_not_read_is_none(opened):
    """DbgEng prints FFFFFFFE; two drivers of which one has such a stamp are not two images."""
    case = opened(
        BANNER
        + "fffff800`20000000 fffff800`2002b000   stornvme stornvme.sys unavailable (FFFFFFFE)\n"
        + "fffff800`30000000 fffff800`3002b000   dump_stornvme dump_stornvme.sys Fri Dec 25 "
        + "04:14:32 1981 (16895FA8)\n"
        + "fffff800`40000000 fffff800`40010000   acmeflt    (deferred)\n"
        + "    Image name: acmeflt.sys\n    Timestamp:        unavailable (FFFFFFFE)\n"
    )
    stamps = {m.name: m.time_date_stamp for m in case.records["modules"]}
    assert [name for name, stamp in stamps.items() if isinstance(stamp, int)] == [
        "dump_stornvme.sys"
    ]
    assert "module-copy-differs" not in {f.rule for f in case.records["findings"]}
