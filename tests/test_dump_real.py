"""Real dumps: two minidumps of crashed machines and two dumps that Microsoft's debugger wrote.

Golden values carry their oracle: what other programs (rizin), the index of the samples, a separate
study of the bytes, or the source of the simulated machine say about the same files.
"""

from __future__ import annotations

import uuid
from collections import Counter
from pathlib import Path
from typing import Any, Callable, NamedTuple

import pytest
from conftest import SHARED

import analyzer
from analyzer.absence import Absent
from analyzer.dumpfile import KernelDump, open_dump
from analyzer.dumpfile.pagedump import PageDump
from analyzer.dumpfile.triage import TriageDump
from analyzer.errors import UnsupportedError
from analyzer.records import Records
from analyzer.sources.dump import records_of

Find = Callable[[str], Path]
X64 = "dmp/rizinorg_rizin-testbins__triage_x64.dmp"
ARM64 = "dmp/rizinorg_rizin-testbins__triage_arm64.dmp"
FULL = "dmp/dbgeng_written_full.dmp"
MINI = "dmp/dbgeng_written_mini.dmp"


class Read(NamedTuple):
    """A dump and its records."""

    dump: KernelDump
    records: Records

    def only(self, table: str) -> Any:
        """The one row of a table."""
        (row,) = self.records[table]
        return row


_READ: dict[str, Read] = {}


def read(find: Find, name: str) -> Read:
    """Reads each real dump once."""
    if name not in _READ:
        dump = open_dump(str(find(name)))
        _READ[name] = Read(dump, records_of(dump))
    return _READ[name]


def stack_modules(case: Read) -> list[tuple[Any, Any, Any, Any]]:
    """Name, role, base and size of the loaded modules of a dump stack, in load order."""
    return [
        (m.name, m.role, m.base, m.size)
        for m in case.records["modules"]
        if m.loaded and (m.stack or m.role == "crash dump driver")
    ]


# ---- triage_x64: Windows 10 19041, 3.7 s after boot ----------------------------------------------
def test_x64_machine(shared_sample: Find) -> None:
    """Build, crash and times (INDEX.md and rizin's test/db/formats/dmp: `iH`)."""
    case = read(shared_sample, X64)
    row = case.only("machine")
    assert isinstance(case.dump, TriageDump)
    assert (row.build, row.architecture, row.processors) == (19041, "x64", 16)
    assert (row.bugcheck, row.bugcheck_name) == (
        0x1000007E,
        "SYSTEM_THREAD_EXCEPTION_NOT_HANDLED_M",
    )
    parameters = (row.parameter1, row.parameter2, row.parameter3, row.parameter4)
    assert parameters == (
        0xFFFFFFFFC0000005, 0xFFFFF8048B58334C, 0xFFFF850429891EE8, 0xFFFF850429891720,
    )  # fmt: skip
    assert row.directory_table_base == 0x1AD000
    assert row.ps_loaded_module_list == 0xFFFFF8047C62A390
    assert row.kd_debugger_data_block == 0xFFFFF8047C600B20
    assert row.required_dump_space == 1669397  # INDEX.md: required
    assert row.system_time // 10**9 == 1613871502  # INDEX.md: 2021-02-21T01:38:22
    assert row.uptime_ns // 10**8 == 37  # INDEX.md: 3.7 s


def test_x64_registers_are_those_of_the_exception(shared_sample: Find) -> None:
    """The header's context is where the exception happened (rizin's frame 8: AmdPPM)."""
    row = read(shared_sample, X64).only("machine")
    assert (row.instruction_pointer, row.stack_pointer) == (0xFFFFF8048B58334C, 0xFFFF850429892120)


def test_x64_triage_header(shared_sample: Find) -> None:
    """Fields of TRIAGE_DUMP64 (rizin's `iH`)."""
    triage = read(shared_sample, X64).dump.triage  # type: ignore[attr-defined]
    assert triage["SizeOfDump"] == 0x13A28C
    assert triage["ValidOffset"] == 0x13A288
    assert triage["DriverListOffset"] == 0x10828
    assert triage["DriverCount"] == 0x97
    assert triage["TopOfStack"] == 0xFFFF850429890EE8
    assert triage["SizeOfCallStack"] == 0x2118
    assert triage["DataBlocksCount"] == 0x727


def test_x64_what_the_writer_left_unset(shared_sample: Find) -> None:
    """SecondaryDataState still holds PAGE (rizin shows 0x45474150): absent, not a number."""
    row = read(shared_sample, X64).only("machine")
    for value in (row.secondary_data_state, row.attributes, row.boot_id):
        assert isinstance(value, Absent)
        assert value.reason == "unset"


def test_x64_dump_stack(shared_sample: Find) -> None:
    """Modules of the stack with roles (addresses: study of the bytes, 4.1; names: INDEX.md)."""
    case = read(shared_sample, X64)
    assert stack_modules(case) == [
        ("crashdmp.sys", "crash dump driver", 0xFFFFF80487750000, 0x1E000),
        ("dump_dumpstorport.sys", "dump port driver", 0xFFFFF80487780000, 0xE000),
        ("dump_stornvme.sys", "dump miniport", 0xFFFFF804877C0000, 0x2B000),
        ("dump_dumpfve.sys", "dump filter", 0xFFFFF80487020000, 0x1D000),
    ]
    assert sum(bool(m.loaded) for m in case.records["modules"]) == 151  # INDEX.md: drivers


def test_x64_version_keys(shared_sample: Find) -> None:
    """Time stamp and check sum of the stack's images (study of the bytes)."""
    keys = {
        m.name: (m.time_date_stamp, m.checksum) for m in read(shared_sample, X64).records["modules"]
    }
    assert keys["crashdmp.sys"] == (0x9A19AF81, 0x2129E)
    assert keys["dump_dumpfve.sys"] == (0xC53FE97F, 0x1C47E)


def test_x64_miniport_is_its_original(shared_sample: Find) -> None:
    """dump_stornvme is the running stornvme; dumpfve itself is not loaded to compare with."""
    rows = {m.name: m for m in read(shared_sample, X64).records["modules"]}
    assert rows["dump_stornvme.sys"].original_match == "same image"
    assert rows["dump_dumpfve.sys"].original_match.reason == "not-found"
    assert rows["dump_dumpstorport.sys"].original_match.reason == "not-applicable"


def test_x64_exactly_one_filter_in_the_ring(shared_sample: Find) -> None:
    """Both ends of the list head name one member, 0xffffc08be3d77e48 (study of the bytes)."""
    case = read(shared_sample, X64)
    row = case.only("filters")
    assert (row.filter, row.stack, row.ring_count) == ("dump_dumpfve.sys", "crash", 1)
    assert row.node.reason == "not-in-dump"
    assert "0xffffc08be3d77e48" in row.node.detail
    assert row.node.would_tell == "a kernel or complete memory dump"
    head = next(s for s in case.records["structures"] if s.structure == "filter list head")
    assert head.location == 0xFFFFC08BE44D4F70  # G + 0x40
    assert case.dump.unpack("QQ", head.location) == (0xFFFFC08BE3D77E48, 0xFFFFC08BE3D77E48)


def test_x64_port_routines_before_the_geometry(shared_sample: Find) -> None:
    """dump_dumpstorport +0x1010, +0x1040, +0x12A0, +0x1330 at G - 0x50 (study of the bytes)."""
    rows = read(shared_sample, X64).records["structures"]
    row = next(s for s in rows if s.structure.startswith("dump stack context"))
    assert row.location == 0xFFFFC08BE44D4F30
    for offset in ("0x1010", "0x1040", "0x12a0", "0x1330"):
        assert f"dump_dumpstorport+{offset}" in row.detail


def test_x64_reconstructed_extension(shared_sample: Find) -> None:
    """What dumpfve was given, rebuilt from the dump stack context (study of the bytes)."""
    row = read(shared_sample, X64).only("extensions")
    assert row.is_reconstructed is True
    assert row.origin.confidence == "likely"
    assert row.origin.how.startswith("reconstructed")
    assert (row.dump_type, row.dump_type_name) == (1, "DumpTypeCrashdump")
    assert row.device_object == 0xFFFFC08BE3DAC030
    geometry = (row.cylinders, row.media_type, row.tracks_per_cylinder, row.sectors_per_track)
    assert geometry == (121601, 12, 255, 63)
    assert (row.bytes_per_sector, row.disk_size) == (512, 0xE8E0DB6000)
    assert (row.size_of_partition_info, row.partition_style_name) == (24, "GPT")
    # the 16 bytes at G + 0x28 of the file, read here by hand
    raw = Path(shared_sample(X64)).read_bytes()
    assert uuid.UUID(row.gpt_disk_id).bytes_le == raw[row.origin.file_offset + 0x28 :][:16]
    for value in (row.extension, row.dump_data, row.size, row.flags):
        assert value.reason == "not-in-dump"


def test_x64_dump_start_is_not_determined(shared_sample: Find) -> None:
    """Status and duration of Dump_Start are in no dump: the reason and the other source."""
    row = read(shared_sample, X64).only("callbacks")
    assert row.callback == "Dump_Start"
    for value in (row.status, row.duration_ns, row.was_called):
        assert isinstance(value, Absent)
        assert value.reason == "not-recorded"
        assert value.would_tell


def test_x64_report_says_not_determined(shared_sample: Find) -> None:
    """The printed report names build, stack, the one filter, and says what it cannot tell."""
    text = analyzer.open(str(shared_sample(X64))).report(details=True)
    for words in ("19041", "dump_dumpstorport", "dump_stornvme", "dump_dumpfve", "not determined"):
        assert words in text
    assert "e8e0db6000" in text.lower() or "1,000,204,886,016" in text
    assert "ea445360-34e8-03ac-d814-913a3a0deb00" in text.lower()


def test_x64_residue(shared_sample: Find) -> None:
    """Words into the dump path on the page below the stack's top (study of the bytes)."""
    found = [(r.symbol, r.origin.address) for r in read(shared_sample, X64).records["residue"]]
    assert found == [
        ("dump_stornvme+0x9887", 0xFFFF8504298900E8),
        ("dump_dumpstorport+0x27ae", 0xFFFF850429890118),
        ("crashdmp+0xb45b", 0xFFFF850429890388),
        ("crashdmp+0x10b70", 0xFFFF8504298903A0),
    ]

    """Status and duration of Dump_Start are in no dump: told with reason and better source."""


def test_arm64_machine(shared_sample: Find) -> None:
    """Build, crash, times and registers (INDEX.md and rizin's `iH`, `dr`)."""
    row = read(shared_sample, ARM64).only("machine")
    assert (row.build, row.architecture, row.processors) == (22000, "arm64", 8)
    assert (row.bugcheck, row.bugcheck_name) == (0x1C8, "MANUALLY_INITIATED_POWER_BUTTON_HOLD")
    parameters = (row.parameter1, row.parameter2, row.parameter3, row.parameter4)
    assert parameters == (0x1B58, 0xFFFFF803F3A20860, 0, 0)
    assert row.kd_debugger_data_block == 0xFFFFF803F3A00D00
    assert (row.instruction_pointer, row.stack_pointer) == (0xFFFFF803F32DE014, 0xFFFFE00E0E4BC4A0)
    assert row.required_dump_space == 1447700
    assert row.system_time // 10**9 == 1631587918  # INDEX.md: 2021-09-14T02:51:58
    assert round(row.uptime_ns / 1e9, 1) == 796.7


def test_arm64_dump_stack(shared_sample: Find) -> None:
    """The stack's modules with roles (INDEX.md), and 245 drivers."""
    case = read(shared_sample, ARM64)
    assert [row[:2] for row in stack_modules(case)] == [
        ("crashdmp.sys", "crash dump driver"),
        ("dump_dumpstorport.sys", "dump port driver"),
        ("dump_storufs.sys", "dump miniport"),
        ("dump_dumpfve.sys", "dump filter"),
    ]
    assert sum(bool(m.loaded) for m in case.records["modules"]) == 245


def test_arm64_contexts_of_crashdmp(shared_sample: Find) -> None:
    """Context at crashdmp+0x10A60 and its copy at +0x10310 (study of the bytes)."""
    rows = {s.structure: s for s in read(shared_sample, ARM64).records["structures"]}
    assert set(rows) == {"crashdmp!Context", "crashdmp!ContextCopy"}
    assert rows["crashdmp!Context"].symbol == "crashdmp+0x10a60"
    assert rows["crashdmp!ContextCopy"].symbol == "crashdmp+0x10310"


def test_arm64_claims_no_extension(shared_sample: Find) -> None:
    """No dump stack context is in this dump, so nothing is rebuilt."""
    case = read(shared_sample, ARM64)
    row = case.only("extensions")
    assert row.is_reconstructed is False
    assert row.disk_size.reason == "not-in-dump"
    assert case.only("filters").ring_count.reason == "not-in-dump"


def test_arm64_earlier_stack_in_the_unloaded_list(shared_sample: Find) -> None:
    """An earlier stack was reconfigured; its names are cut to 12 letters (study of the bytes)."""
    found = [
        (m.name, m.role) for m in read(shared_sample, ARM64).records["modules"]
        if not m.loaded and m.stack
    ]  # fmt: skip
    assert found == [
        ("dump_storpor", "dump port driver"),
        ("dump_storufs", "dump miniport"),
        ("dump_dumpfve", "dump filter"),
    ]


# ---- storage requests ----------------------------------------------------------------------------
@pytest.mark.parametrize("name", [X64, ARM64])
def test_storport_block_is_full_and_all_succeeded(name: str, shared_sample: Find) -> None:
    """66 records, all with SRB status 1, newest first, none after the crash, the newest at it."""
    rows = read(shared_sample, name).records["requests"]
    assert [row.request for row in rows] == list(range(66))
    assert {row.status_name for row in rows} == {"SRB_STATUS_SUCCESS"}
    assert {row.driver for row in rows} == {"storport.sys"}
    assert not any(row.in_flight for row in rows)
    before = [row.before_crash_ns for row in rows]
    assert before == sorted(before)
    assert before[0] == 0


def test_x64_requests(shared_sample: Find) -> None:
    """Operations, and durations in whole ticks of 15.625 ms or less (study of the bytes)."""
    rows = read(shared_sample, X64).records["requests"]
    kinds = Counter((row.operation, row.opcode) for row in rows)
    assert kinds == {
        ("READ(10)", 0x28): 51, ("WRITE(10)", 0x2A): 11, ("SYNCHRONIZE CACHE(10)", 0x35): 4,
    }  # fmt: skip
    assert max(row.duration_ns for row in rows) == 78_125_400  # five ticks
    assert 0 in {row.duration_ns for row in rows}


def test_arm64_requests_have_no_start(shared_sample: Find) -> None:
    """StartTime is 0 in all 66 records of this dump: not recorded, so no duration either."""
    for row in read(shared_sample, ARM64).records["requests"]:
        assert row.start.reason == "not-recorded"
        assert row.duration_ns.reason == "not-recorded"
        assert isinstance(row.end, int)


# ---- secondary data ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "count", "sizes"),
    [
        (X64, 20, {"2b4ae195": 521, "65755a40": 0, "da82441d": 4060, "2b88b710": 42268}),
        (ARM64, 42, {"2b4ae195": 771, "65755a40": 0, "da82441d": 4060, "2b88b710": 450432}),
    ],
)
def test_tags(name: str, count: int, sizes: dict[str, int], shared_sample: Find) -> None:
    """Number and sizes of the blocks (INDEX.md: DumpBlob streams)."""
    tags = read(shared_sample, name).records["tags"]
    assert len(tags) == count
    assert {t.guid[:8]: t.size_bytes for t in tags if t.guid[:8] in sizes} == sizes


@pytest.mark.parametrize("name", [X64, ARM64])
def test_real_minidumps_have_no_anomaly(name: str, shared_sample: Find) -> None:
    """Dumps that Windows wrote to the end are whole; their events are judged elsewhere."""
    told = read(shared_sample, name).records.anomalies
    assert [a.rule for a in told if not a.rule.startswith("event-")] == []


# ---- written by DbgEng from a simulated machine --------------------------------------------------
NODE = 0xFFFFF80010003040  # nt + 0x3040, where the engine dumped SimFilter
DRIVER = 0xFFFFF80020000000  # INDEX.md: dump_mydrv


@pytest.mark.parametrize("name", [FULL, MINI])
def test_engine_filter_is_found_by_content(name: str, shared_sample: Find) -> None:
    """No crashdmp image is in these dumps; the node's callbacks and version are still read.

    Oracle: the simulated machine's source (drv.c, nt.c) and its image (routine offsets).
    """
    row = read(shared_sample, name).only("filters")
    assert (row.filter, row.stack, row.node, row.layout) == (
        "dump_mydrv.sys",
        "crash",
        NODE,
        "win8",
    )
    assert (row.ring_index, row.ring_count) == (0, 1)
    assert (row.major_version, row.minor_version) == (2, 0)
    offsets = [
        getattr(row, f"dump_{what}") - DRIVER for what in ("start", "write", "finish", "unload")
    ]
    assert offsets == [0x1000, 0x1070, 0x10D0, 0x10F0]
    assert row.dump_read == 0
    assert row.dump_pre_read_write.reason == "not-applicable"
    assert row.dump_data == DRIVER + 0x3000  # &g_context
    assert (row.max_pages_per_write, row.flags, row.state) == (0x10, 0, 0)
    assert row.is_disabled is False
    assert "found by content" in row.origin.how


@pytest.mark.parametrize("name", [FULL, MINI])
def test_engine_extension_field_by_field(name: str, shared_sample: Find) -> None:
    """FILTER_EXTENSION as SimInitializeFilter in nt.c fills it."""
    row = read(shared_sample, name).only("extensions")
    assert row.is_reconstructed is False
    assert row.extension == NODE + 0x40
    assert (row.dump_type, row.dump_type_name) == (1, "DumpTypeCrashdump")
    geometry = (row.cylinders, row.media_type, row.tracks_per_cylinder, row.sectors_per_track)
    assert geometry == (60801, 12, 255, 63)
    assert (row.bytes_per_sector, row.disk_size) == (512, 500107862016)
    assert (row.size_of_partition_info, row.partition_style) == (24, 1)
    assert uuid.UUID(row.gpt_disk_id) == uuid.UUID("{6bfe1a52-0c1d-4b7e-9a3c-112233445566}")
    assert row.mbr_signature.reason == "not-applicable"
    assert row.dump_data == DRIVER + 0x3000
    assert (row.size, row.flags) == (0x58, 0)


@pytest.mark.parametrize("name", [FULL, MINI])
def test_engine_callbacks(name: str, shared_sample: Find) -> None:
    """Five callbacks of version 2; Dump_Read is not registered, so it was not called."""
    rows = {row.callback: row for row in read(shared_sample, name).records["callbacks"]}
    assert {name: row.symbol for name, row in rows.items() if row.routine} == {
        "Dump_Start": "dump_mydrv+0x1000",
        "Dump_Write": "dump_mydrv+0x1070",
        "Dump_Finish": "dump_mydrv+0x10d0",
        "Dump_Unload": "dump_mydrv+0x10f0",
    }
    assert rows["Dump_Read"].was_called == "no"
    assert isinstance(rows["Dump_Start"].was_called, Absent)


def test_engine_full_dump_holds_sixty_pages(shared_sample: Find) -> None:
    """`.dump /f`: type 1, 60 pages (INDEX.md), two modules, no secondary data."""
    case = read(shared_sample, FULL)
    assert isinstance(case.dump, PageDump)
    assert case.dump.pages.pages == 60
    assert case.only("machine").dump_type == 1
    assert [(m.name, m.base) for m in case.records["modules"]] == [
        ("ntoskrnl.exe", 0xFFFFF80010000000),
        ("dump_mydrv.sys", 0xFFFFF80020000000),
    ]
    assert {a.rule for a in case.records.anomalies} == {
        "secondary-data-missing", "dump-not-by-windows",
    }  # fmt: skip


def test_engine_dumps_agree(shared_sample: Find) -> None:
    """One machine in two dump types: the same filter and the same bytes of the node."""
    full, mini = read(shared_sample, FULL), read(shared_sample, MINI)
    assert full.only("filters")[:-1] == mini.only("filters")[:-1]
    assert full.only("extensions")[:-1] == mini.only("extensions")[:-1]
    assert full.dump.read(NODE, 0xC0) == mini.dump.read(NODE, 0xC0)


# ---- Windows 8.1 and 11 -------------------------------------------------------------------------
NEWER = {
    "CriticalRocket_DriverProblems__111417-28234-01.dmp": {
        "build": 9600, "bugcheck": 0xA0000001, "modules": 177, "unloaded": 10,
        "attributes": None, "revision": None, "last_dump_line": None,
    },
    "FrancoTrone64__082325-12593-01.dmp": {
        "build": 26100, "bugcheck": 0x65, "modules": 218, "unloaded": 17,
        "attributes": 0x21808, "revision": 4946,
        "last_dump_line": "Dump completed successfully.",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", NEWER)
def test_newer_minidumps(name: str, shared_sample: Find) -> None:
    """Header fields (INDEX.md), counts of the driver lists (read with struct), the stack."""
    case, wanted = read(shared_sample, f"dmp/{name}"), NEWER[name]
    machine = case.only("machine")
    for field, value in wanted.items():
        if field in ("modules", "unloaded"):
            rows = [m for m in case.records["modules"] if m.loaded is (field == "modules")]
            assert len(rows) == value
        elif value is None:
            assert isinstance(getattr(machine, field), Absent)
        else:
            assert getattr(machine, field) == value
    stack = [m for m in case.records["modules"] if m.stack and m.loaded]
    assert [m.role for m in stack] == ["dump port driver", "dump miniport", "dump filter"]
    assert len(case.records["requests"]) == 66
    assert case.records.anomalies == []


# ---- what is no kernel dump ----------------------------------------------------------------------
OTHERS = [
    "google_syzygy__notepad-small-32bit.dmp",
    "google_syzygy__notepad-small-64bit.dmp",
    "rizinorg_rizin-testbins__npe_r_mdmp.c-364_1.mdmp",
    "rust-minidump_rust-minidump__invalid-range.dmp",
    "rust-minidump_rust-minidump__simple-crashpad.dmp",
    "rust-minidump_rust-minidump__test.dmp",
]


@pytest.mark.parametrize("name", OTHERS)
def test_user_minidumps_are_refused(name: str, shared_sample: Find) -> None:
    """A user-mode minidump (INDEX.md: NEGATIVE) is refused in one sentence, exit code 2."""
    with pytest.raises(UnsupportedError) as caught:
        open_dump(str(shared_sample(f"dmp/{name}")))
    assert caught.value.exit_code == 2
    assert str(caught.value).count("\n") == 0


def test_all_samples_are_covered(shared_sample: Find) -> None:
    """Every file of the folder is in one of the tests above."""
    shared_sample("dmp")
    names = {path.name for path in (SHARED / "dmp").iterdir()}
    assert names == {*OTHERS, *NEWER, *(Path(name).name for name in (X64, ARM64, FULL, MINI))}
