"""SYSTEM hives and .reg exports: values, meanings, findings, damage."""

from __future__ import annotations

import builtins
import logging
import random
from pathlib import Path
from typing import Any

import generator_logs
import hive_writer
import pytest

from analyzer.absence import Absent
from analyzer.checks import rules_logs
from analyzer.errors import AnalyzerError, InputError, UnsupportedError, UsageError
from analyzer.records import Records
from analyzer.sources import kind_of
from analyzer.sources.registry import collect
from analyzer.tables import evidence_lines

CONTROL = r"HKLM\SYSTEM\CurrentControlSet\Control\CrashControl"
FILES = generator_logs.files()


def tree(control: dict[str, Any], services: dict[str, Any], number: int = 1) -> dict[str, Any]:
    """A SYSTEM hive with one used and one unused control set."""
    other = {"Control": {"CrashControl": {"CrashDumpEnabled": 3}}, "Services": {}}
    used = {"Control": {"CrashControl": control, "Lsa": {"x": 1}}, "Services": services}
    sets = {"ControlSet001": other, "ControlSet002": other}
    sets[f"ControlSet{number:03d}"] = used
    return {**sets, "Select": {"Current": number, "Default": number, "LastKnownGood": 2}}


def read(tmp_path: Path, data: bytes, name: str = "SYSTEM") -> Records:
    """Reads bytes as a file."""
    path = tmp_path / name
    path.write_bytes(data)
    return collect(str(path))


def settings(records: Records) -> dict[str, tuple[str, Any]]:
    """Setting name -> (value, meaning)."""
    return {row.name: (row.value, row.meaning) for row in records["settings"]}


def rules(records: Records) -> list[str]:
    """Ids of the anomalies in order."""
    return [anomaly.rule for anomaly in records.anomalies]


HIVE_CONTROL = {
    "AutoReboot": 1, "CrashDumpEnabled": 1, "FilterPages": 1, "EnableLogFile": 1,
    "DumpFile": r"@%SystemRoot%\MEMORY.DMP", "DumpFilters": ["dumpfve.sys", "veracrypt.sys"],
    "LastCrashTime": bytes.fromhex("004a8c719ca8dc01"), "Odd": 12,
}  # fmt: skip
HIVE_SERVICES = {
    "veracrypt": {"ImagePath": "@System32\\drivers\\veracrypt.sys", "Start": 0, "Type": 1}
}


# ---------------------------------------------------------------- hive


def test_hive_settings_of_the_current_control_set(tmp_path: Path) -> None:
    """Select says which control set counts; its CrashControl is shown value by value."""
    records = read(tmp_path, hive_writer.write(tree(HIVE_CONTROL, HIVE_SERVICES, 2)))
    rows = settings(records)
    assert records["settings"][0].key == r"HKLM\SYSTEM\ControlSet002\Control\CrashControl"
    assert rows["CrashDumpEnabled"] == (
        "1", "active memory dump (complete dump without the pages that are filtered out)",
    )  # fmt: skip
    assert rows["DumpFile"][0] == r"%SystemRoot%\MEMORY.DMP"
    assert rows["DumpFilters[0]"] == (
        "dumpfve.sys", "dump filter, first to be called; BitLocker (Microsoft), in-box",
    )  # fmt: skip
    assert rows["DumpFilters[1]"] == (
        "veracrypt.sys", "dump filter, number 2 to be called; VeraCrypt (IDRIX)",
    )  # fmt: skip
    # 0x01dca89c718c4a00 * 100 ns after 1601: date -u -d
    # @$((0x01dca89c718c4a00/10000000-11644473600))
    assert rows["LastCrashTime"][1] == "taken as FILETIME: 2026-02-28 10:24:38 UTC"
    assert isinstance(rows["Odd"][1], Absent)


def test_hive_service_of_a_filter(tmp_path: Path) -> None:
    """A filter's service key gives file, start and type, with their meanings."""
    records = read(tmp_path, hive_writer.write(tree(HIVE_CONTROL, HIVE_SERVICES)))
    service = [r for r in records["settings"] if r.key.endswith("veracrypt")]
    assert {(r.name, r.value, r.meaning) for r in service} == {
        ("ImagePath", "System32\\drivers\\veracrypt.sys", "the driver's file"),
        ("Start", "0", "started by the boot loader"),
        ("Type", "1", "kernel driver"),
    }


@pytest.mark.parametrize(("sets", "is_read"), [(1, True), (16, True), (17, False)])
def test_most_control_sets_of_a_hive(sets: int, is_read: bool, tmp_path: Path) -> None:
    """Windows keeps two to four."""
    pytest.importorskip("regipy")
    control = {"Control": {"CrashControl": {"CrashDumpEnabled": 7}}}
    made = {f"ControlSet{n:03}": control for n in range(1, sets + 1)}
    records = read(tmp_path, hive_writer.write({**made, "Select": {"Current": sets}}))
    keys = {str(row.key).split("\\")[2] for row in records["settings"]}
    assert (f"ControlSet{sets:03}" in keys) is is_read


@pytest.mark.parametrize(("values", "read_ones"), [(999, 999), (1000, 1000), (1001, 1000)])
def test_most_values_of_a_key(values: int, read_ones: int, tmp_path: Path) -> None:
    """CrashControl has some thirty."""
    pytest.importorskip("regipy")
    control = {f"V{n:04}": n for n in range(values)}
    records = read(tmp_path, hive_writer.write(tree(control, {})))
    names = {row.name for row in records["settings"] if str(row.name).startswith("V0")
             or str(row.name).startswith("V1")}  # fmt: skip
    assert len(names) == read_ones


@pytest.mark.parametrize(
    ("size", "is_read"), [(0, True), (4, True), (1 << 16, True), ((1 << 16) + 1, False)]
)
def test_the_largest_value_of_a_hive(size: int, is_read: bool, tmp_path: Path) -> None:
    """64 KB; a longer one is damage."""
    pytest.importorskip("regipy")
    records = read(tmp_path, hive_writer.write(tree({"Blob": bytes(size)}, {})))
    assert ("Blob" in {row.name for row in records["settings"]}) is is_read
    assert ("registry-damaged" in rules(records)) is not is_read


def test_healthy_hive_has_only_information(tmp_path: Path) -> None:
    """A third-party filter is information; nothing else is said about a sound configuration."""
    records = read(tmp_path, hive_writer.write(tree(HIVE_CONTROL, HIVE_SERVICES)))
    assert rules(records) == ["registry-third-party-filter"]
    assert records["sources"][0].subtype == "control set ControlSet001"


def test_hive_whose_newest_changes_are_in_its_logs(tmp_path: Path) -> None:
    """A hive of a machine that crashed: begun and finished writes differ, and that is said."""
    data = bytearray(hive_writer.write(tree(HIVE_CONTROL, HIVE_SERVICES)))
    data[4:8] = (205).to_bytes(4, "little")
    records = read(tmp_path, bytes(data))
    found = next(a for a in records.anomalies if a.rule == "registry-changes-elsewhere")
    assert evidence_lines(found) == ["writes begun = 205", "writes finished = 1"]


def test_hive_of_a_user_is_refused(tmp_path: Path) -> None:
    """A hive without control sets is not the SYSTEM hive; it has no finding about CrashControl."""
    with pytest.raises(UnsupportedError, match="not the SYSTEM hive"):
        read(tmp_path, hive_writer.write({"Software": {}}))


def test_transaction_log_is_named() -> None:
    """SYSTEM.LOG1 starts like a hive; its type tells."""
    data = bytearray(hive_writer.write(tree(HIVE_CONTROL, HIVE_SERVICES)))
    data[0x1C] = 6
    assert kind_of(bytes(data)).name == "a registry transaction log"


def test_hive_is_what_regipy_reads(tmp_path: Path) -> None:
    """The test's own hive writer agrees with regipy on keys and values."""
    regipy = pytest.importorskip("regipy.registry")
    path = tmp_path / "SYSTEM"
    path.write_bytes(hive_writer.write(tree(HIVE_CONTROL, HIVE_SERVICES)))
    key = regipy.RegistryHive(str(path)).get_key(r"\ControlSet001\Control\CrashControl")
    values = {v.name: v.value for v in key.iter_values(trim_values=False)}
    assert values["DumpFilters"] == ["dumpfve.sys", "veracrypt.sys"]
    assert values["CrashDumpEnabled"] == 1
    assert sorted(values) == sorted(HIVE_CONTROL)


def test_missing_regipy_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without regipy a hive gives a usage error with the pip command; an export still opens."""
    real_import = builtins.__import__

    def no_regipy(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("regipy"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_regipy)
    with pytest.raises(UsageError, match=r"pip install regipy"):
        read(tmp_path, hive_writer.write(tree(HIVE_CONTROL, {})))
    assert read(tmp_path, FILES["crash-control.reg"], "a.reg")["settings"]


# ---------------------------------------------------------------- export


def test_export_settings(tmp_path: Path) -> None:
    """A UTF-16 export as regedit writes it, with broken hexadecimal lines."""
    records = read(tmp_path, FILES["crash-control.reg"], "a.reg")
    rows = settings(records)
    assert records["settings"][0].key == CONTROL
    assert rows["CrashDumpEnabled"] == ("7", "automatic memory dump")
    assert rows["DumpFile"][0] == r"%SystemRoot%\MEMORY.DMP"
    assert rows["DumpFilters[1]"][0] == "veracrypt.sys"
    assert rows["EnableLogFile"] == ("1", "DumpStack.log is written")
    assert rows["MinidumpsCount"] == ("5", "the newest 5 minidumps are kept")
    assert rows["LastCrashTime"][1] == "taken as FILETIME: 2026-02-28 10:24:38 UTC"
    assert rules(records) == ["registry-third-party-filter"]


def test_export_rows_name_their_line(tmp_path: Path) -> None:
    """AutoReboot stands in line 4 of the export."""
    records = read(tmp_path, FILES["crash-control.reg"], "a.reg")
    assert records["settings"][0].origin.how == "line 4 of the export"


def test_disabled_export(tmp_path: Path) -> None:
    """Dumps off, log off: one warning, one hint with the command that switches the log on."""
    records = read(tmp_path, FILES["crash-control-disabled.reg"], "a.reg")
    assert rules(records) == ["registry-dump-disabled", "registry-log-disabled"]
    assert "EnableLogFile /t REG_DWORD /d 1" in rules_logs.RULES["registry-log-disabled"].next_step
    assert settings(records)["CrashDumpEnabled"] == ("0", "no dump")


def test_faulty_export(tmp_path: Path) -> None:
    """Simulated error, page file too small, a filter without service, one whose service is off."""
    records = read(tmp_path, FILES["crash-control-faulty.reg"], "a.reg")
    found = [(a.rule, a.subject) for a in records.anomalies]
    assert found == [
        ("registry-simulate-error", "SimulateError"),
        ("registry-page-file-too-small", "PageFileTooSmall"),
        ("registry-third-party-filter", "oldvendor.sys"),
        ("registry-filter-service-missing", "oldvendor.sys"),
        ("registry-third-party-filter", "stopped.sys"),
        ("registry-filter-service-disabled", "stopped.sys"),
    ]
    rows = settings(records)
    assert rows["SimulateError"] == (
        "0x2005",
        "simulate a failure when loading the dump filter drivers (LoadFilterDrivers)",
    )
    assert rows["PageFileTooSmall"][1].endswith("6144 MiB are asked for")  # 0x180000000 >> 20
    assert rows["DedicatedDumpFile"][0] == r"D:\dedicated.dmp"


@pytest.mark.parametrize("length", [99, 100, 101])
def test_long_names_of_filters_are_cut(length: int, tmp_path: Path) -> None:
    """A hundred characters are shown, the whole name decides."""
    names = ["x" * (length - 4) + ".sys", "y" * (length - 4) + ".sys", "z" * (length - 2) + "?!"]
    base = generator_logs.CONTROL.rpartition("\\Control\\")[0]
    stopped = rf"{base}\Services\{names[1][:-4]}"
    data = generator_logs.reg(
        {
            generator_logs.CONTROL: {"EnableLogFile": 1, "DumpFilters": names},
            stopped: {"Start": 4, "ImagePath": names[1]},
        }
    )
    records = read(tmp_path, data.encode("utf-16"), "a.reg")
    told = [(a.rule, a.subject, a.text, a.evidence[0].value) for a in records.anomalies]
    one, two, odd = (name[:100] for name in names)
    missing = "is registered as a dump filter, but no service has this name or file."
    assert [row for row in told if row[0] != "registry-dumpfve-missing"] == [
        ("registry-third-party-filter", one, f"{one} is registered as dump filter number 1.", one),
        ("registry-filter-service-missing", one, f"{one} {missing}", one),
        ("registry-third-party-filter", two, f"{two} is registered as dump filter number 2.", two),
        ("registry-filter-service-disabled", two,
         f"{two} is registered as a dump filter, but its service is disabled.", two),
        ("registry-filter-name-odd", odd,
         f"DumpFilters[2] is {odd!r}, which is not a plain driver file name.", odd),
        ("registry-third-party-filter", odd, f"{odd} is registered as dump filter number 3.", odd),
        ("registry-filter-service-missing", odd, f"{odd} {missing}", odd),
    ]  # fmt: skip


@pytest.mark.parametrize("count", [7, 8, 9])
def test_filters_that_a_missing_one_is_missed_beside(count: int, tmp_path: Path) -> None:
    """The first eight."""
    names = [f"f{n}.sys" for n in range(count)]
    data = generator_logs.reg({generator_logs.CONTROL: {"EnableLogFile": 1, "DumpFilters": names}})
    records = read(tmp_path, data.encode("utf-16"), "a.reg")
    (told,) = (a for a in records.anomalies if a.rule == "registry-dumpfve-missing")
    assert [row.value for row in told.evidence] == names[:8]


def test_missing_service_needs_service_keys(tmp_path: Path) -> None:
    """An export of CrashControl alone does not say that a filter's service is missing."""
    data = generator_logs.reg(
        {generator_logs.CONTROL: {"EnableLogFile": 1, "DumpFilters": ["dumpfve.sys", "a.sys"]}}
    )
    assert rules(read(tmp_path, data.encode("utf-16"), "a.reg")) == ["registry-third-party-filter"]


def test_old_ansi_export(tmp_path: Path) -> None:
    """REGEDIT4 stores texts in hexadecimal values as ANSI."""
    text = (
        "REGEDIT4\r\n\r\n[HKEY_LOCAL_MACHINE\\SYSTEM\\CurrentControlSet\\Control\\CrashControl]\r\n"
        '"DumpFilters"=hex(7):64,75,6d,70,66,76,65,2e,73,79,73,00,00\r\n"EnableLogFile"=dword:1\r\n'
        '"DumpFile"="C:\\\\D\xfcmp.dmp"\r\n'
    )
    rows = settings(read(tmp_path, text.encode("cp1252"), "a.reg"))
    assert rows["DumpFilters[0]"][0] == "dumpfve.sys"
    assert rows["DumpFile"][0] == "C:\\D\xfcmp.dmp"


def test_export_of_a_loaded_hive_uses_select(tmp_path: Path) -> None:
    """A hive loaded under another name has no CurrentControlSet; Select decides."""
    base = r"HKEY_LOCAL_MACHINE\OFFLINE"
    keys = {
        rf"{base}\ControlSet001\Control\CrashControl": {"CrashDumpEnabled": 3},
        rf"{base}\ControlSet002\Control\CrashControl": {"CrashDumpEnabled": 2, "EnableLogFile": 1},
        rf"{base}\Select": {"Current": 2},
    }
    records = read(tmp_path, generator_logs.reg(keys).encode("utf-16"), "a.reg")
    assert settings(records)["CrashDumpEnabled"] == ("2", "kernel memory dump")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"EnableLogFile": 1, "DumpFilters": ["veracrypt.sys"]},
         ["registry-dumpfve-missing", "registry-third-party-filter"]),
        ({"EnableLogFile": 1, "DumpFilters": ["dumpfve.sys", r"C:\x\a.sys"]},
         ["registry-filter-name-odd", "registry-third-party-filter"]),
        ({"EnableLogFile": 1, "DumpFilters": "dumpfve.sys"}, ["registry-value-odd"]),
        ({"EnableLogFile": 1, "CrashDumpEnabled": 5}, ["registry-value-odd"]),
        ({"EnableLogFile": 1, "CrashDumpEnabled": "7"}, ["registry-value-odd"]),
        ({"AutoReboot": 1, "LogEvent": 1, "Overwrite": 1}, ["registry-log-disabled"]),
        ({"AutoReboot": 1, "LogEvent": 1}, []),  # what is not shown may be set
        ({}, []),
    ],
)  # fmt: skip
def test_single_oddities(tmp_path: Path, values: dict[str, Any], expected: list[str]) -> None:
    """Each odd value gives its own finding and no other."""
    data = generator_logs.reg({generator_logs.CONTROL: values})
    assert rules(read(tmp_path, data.encode("utf-8"), "a.reg")) == expected


@pytest.mark.parametrize(
    ("name", "value", "meaning"),
    [
        *(("CrashDumpEnabled", n, text) for n, text in [
            (0, "no dump"), (1, "complete memory dump"), (2, "kernel memory dump"),
            (3, "small memory dump (minidump)"), (7, "automatic memory dump"),
            (4, "a number with no documented meaning")]),
        ("FilterPages", 1, "with CrashDumpEnabled 1: active memory dump"),
        ("FilterPages", 0, "pages are not filtered out"),
        ("AutoReboot", 1, "restarts after a crash"), ("AutoReboot", 0, "stays at the blue screen"),
        ("Overwrite", 0, "an old dump stays and a new one is lost"),
        ("DumpFileSize", 0, "Windows chooses the size"),
        ("DumpFileSize", 512, "size of the dedicated dump file: 512 MB"),
        ("SimulateError", 0, "nothing is simulated"),
        ("MinidumpsCount", 50, "the newest 50 minidumps are kept"),
        ("PageFileTooSmall", (1 << 20).to_bytes(8, "little"),
         "Windows found the page file too small for the dump; 1 MiB are asked for"),
        ("PageFileTooSmall", (1 << 20) - 1, "Windows found the page file too small for the dump"),
        ("PageFileTooSmall", bytes(7), "Windows found the page file too small for the dump"),
        ("LastCrashTime", b"x", "not a FILETIME of this century"),
        ("LastCrashTime", (1 << 56).to_bytes(8, "little"), "not a FILETIME of this century"),
        # 2^56 + 1 and 2^58 - 1 units of 100 ns after 1601: date -u -d @$((2**56/10**7-11644473600))
        ("LastCrashTime", ((1 << 56) + 1).to_bytes(8, "little"),
         "taken as FILETIME: 1829-05-05 23:50:03 UTC"),
        ("LastCrashTime", ((1 << 58) - 1).to_bytes(8, "little"),
         "taken as FILETIME: 2514-05-14 23:20:15 UTC"),
    ],
)  # fmt: skip
def test_meaning_of_a_value(tmp_path: Path, name: str, value: Any, meaning: str) -> None:
    """As Microsoft documents CrashControl."""
    records = read(tmp_path, hive_writer.write(tree({name: value}, {})))
    told = settings(records)[name][1]
    assert (told.detail if isinstance(told, Absent) else told) == meaning


@pytest.mark.parametrize(
    ("start", "kind", "meanings"),
    [
        (0, 1, ("started by the boot loader", "kernel driver")),
        (1, 2, ("started by the kernel at boot", "file system driver")),
        (2, 3, ("started automatically", "not a driver type")),
        (3, 16, ("started on demand", "not a driver type")),
        (4, 1, ("disabled", "kernel driver")),
        (5, 1, ("a number with no documented meaning", "kernel driver")),
    ],
)
def test_meaning_of_a_service(
    tmp_path: Path, start: int, kind: int, meanings: tuple[str, str]
) -> None:
    """SERVICE_..._START and SERVICE_..._DRIVER of winnt.h."""
    services = {"veracrypt": {"Start": start, "Type": kind}}
    records = read(tmp_path, hive_writer.write(tree(HIVE_CONTROL, services)))
    rows = [r for r in records["settings"] if r.key.endswith("veracrypt")]
    assert {r.name: r.meaning for r in rows} == dict(zip(("Start", "Type"), meanings))
    assert ("registry-filter-service-disabled" in rules(records)) is (start == 4)


@pytest.mark.parametrize(
    ("value", "is_told"), [(0, False), (1, True), (bytes(8), False), (bytes(7) + b"x", True)]
)
def test_page_file_that_was_too_small(tmp_path: Path, value: Any, is_told: bool) -> None:
    """Any number but 0, in either form."""
    records = read(tmp_path, hive_writer.write(tree({"PageFileTooSmall": value}, {})))
    assert ("registry-page-file-too-small" in rules(records)) is is_told


@pytest.mark.parametrize(
    ("entry", "meaning"),
    [
        (r"C:\pagefile.sys 16 4096", "page file of at most 4,096 MB"),
        (r"C:\pagefile.sys 0 0", "page file; Windows chooses its size"),
        (r"?:\pagefile.sys", "page file; Windows chooses its size"),
    ],
)
def test_page_files(tmp_path: Path, entry: str, meaning: str) -> None:
    """PagingFiles: path, least and largest size in MB; 0 and none are Windows' choice."""
    key = r"HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet\Control"
    keys = {
        rf"{key}\CrashControl": {"EnableLogFile": 1},
        rf"{key}\Session Manager\Memory Management": {"PagingFiles": [entry]},
    }
    records = read(tmp_path, generator_logs.reg(keys).encode("utf-16"), "a.reg")
    assert settings(records)["PagingFiles[0]"] == (entry, meaning)


def test_file_without_crash_control(tmp_path: Path) -> None:
    """An export of another key is read and said to lack CrashControl."""
    data = generator_logs.reg({r"HKEY_CURRENT_USER\Software\X": {"a": 1}})
    assert rules(read(tmp_path, data.encode("utf-16"), "a.reg")) == ["registry-no-crash-control"]


@pytest.mark.parametrize("data", [b"", b"hello", b"regf" + bytes(60), b"PK\x03\x04"])
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    """A file that is neither hive nor export gives one sentence."""
    with pytest.raises(InputError):
        read(tmp_path, data)


# ---------------------------------------------------------------- damage


def damage(path: Path, data: bytes) -> None:
    """Damaged input must end in records or our own error."""
    path.write_bytes(data)
    try:
        records = collect(str(path))
    except AnalyzerError:
        return
    assert len(records["sources"]) == 1
    assert set(rules(records)) <= set(rules_logs.RULES)


@pytest.mark.parametrize("name", [n for n in sorted(FILES) if n.endswith(".reg")])
def test_exports_cut_and_flipped(tmp_path: Path, name: str) -> None:
    """Each export cut at 200 places and with 300 random bit flips ends in records or our error."""
    data, rng = FILES[name], random.Random(6)
    for place in range(200):
        damage(tmp_path / "a.reg", data[: len(data) * place // 200])
    for _ in range(300):
        copy = bytearray(data)
        for _ in range(rng.randint(1, 6)):
            copy[rng.randrange(len(copy))] ^= 1 << rng.randrange(8)
        damage(tmp_path / "a.reg", bytes(copy))


@pytest.mark.slow
def test_hive_cut_and_flipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A hive cut at 200 places and with 800 bit flips: records or our error, nothing printed."""
    data, rng = hive_writer.write(tree(HIVE_CONTROL, HIVE_SERVICES)), random.Random(7)
    used = len(data.rstrip(b"\0"))
    with caplog.at_level(logging.DEBUG):
        for place in range(200):
            damage(tmp_path / "SYSTEM", data[: used * place // 200])
        for _ in range(800):
            copy = bytearray(data)
            for _ in range(rng.randint(1, 6)):
                copy[rng.randrange(4096, used)] ^= 1 << rng.randrange(8)
            damage(tmp_path / "SYSTEM", bytes(copy))
    assert not caplog.records


def test_one_bad_size_in_a_large_hive_is_cheap(tmp_path: Path) -> None:
    """A value that claims 2 GiB costs itself alone; regipy alone would read it for minutes."""
    data = hive_writer.write(tree({"DumpFilters": ["dumpfve.sys", "a.sys"], "LogEvent": 1}, {}))
    copy = bytearray(data) + b"A\0" * (4 << 20)
    at = copy.index(b"DumpFilters") - 20
    assert copy[at : at + 2] == b"vk"
    copy[at + 4 : at + 8] = b"\xff\xff\xff\x7f"
    records = read(tmp_path, bytes(copy))
    assert sorted(settings(records)) == ["LogEvent"]
    assert "registry-damaged" in rules(records)


def test_damaged_line_costs_only_itself(tmp_path: Path) -> None:
    """One bad line is counted; the values before and after it are read."""
    text = generator_logs.reg(
        {generator_logs.CONTROL: {"CrashDumpEnabled": 7, "EnableLogFile": 1, "LogEvent": 1}}
    )
    text = text.replace('"EnableLogFile"=dword:00000001', '"EnableLogFile"=dword:zz\r\nrubbish')
    records = read(tmp_path, text.encode("utf-16"), "a.reg")
    assert sorted(settings(records)) == ["CrashDumpEnabled", "LogEvent"]
    (found,) = (a for a in records.anomalies if a.rule == "registry-damaged")
    assert evidence_lines(found) == [
        "line 5: data of 'EnableLogFile' cannot be read", "line 6: not a value",
    ]  # fmt: skip


# ---------------------------------------------------------------- page files, KMDF drivers


MEMORY = {"Session Manager": {"Memory Management": {"PagingFiles": [r"C:\pagefile.sys 512 1024"]}}}


def both(tmp_path: Path, services: dict[str, Any], **control: Any) -> list[Records]:
    """The same settings from a hive and from an export."""
    used = {**HIVE_CONTROL, **control}
    made = tree(used, services)
    made["ControlSet001"]["Control"].update(MEMORY)
    keys: dict[str, dict[str, object]] = {CONTROL.replace("HKLM", "HKEY_LOCAL_MACHINE"): used}
    root = r"HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet"
    keys[rf"{root}\Control\Session Manager\Memory Management"] = {
        "PagingFiles": [r"C:\pagefile.sys 512 1024"]
    }
    for name, values in services.items():
        keys[rf"{root}\Services\{name}"] = {
            key: value for key, value in values.items() if not isinstance(value, dict)
        }
        if "Parameters" in values:
            keys[rf"{root}\Services\{name}\Parameters\Wdf"] = values["Parameters"]["Wdf"]
    text = generator_logs.reg(keys).encode("utf-16")
    return [read(tmp_path, hive_writer.write(made)), read(tmp_path, text, "x.reg")]


@pytest.mark.parametrize("is_kmdf", [True, False])
def test_a_kmdf_driver_among_the_filters_is_a_finding(tmp_path: Path, is_kmdf: bool) -> None:
    """By the key that the framework makes below the service; without it nothing is said."""
    service: dict[str, Any] = {"ImagePath": "@System32\\drivers\\veracrypt.sys", "Start": 0}
    if is_kmdf:
        service["Parameters"] = {"Wdf": {"WdfMajorVersion": 1}}
    for records in both(tmp_path, {"veracrypt": service}):
        found = [a.subject for a in records.anomalies if a.rule == "registry-filter-kmdf"]
        assert found == ["veracrypt.sys"] * is_kmdf


@pytest.mark.parametrize("data", [7, b"\1\0\0\0", "veracrypt.sys"])
def test_dump_filters_of_another_type_are_told(tmp_path: Path, data: Any) -> None:
    """A number, bytes or one text, where Windows has a list: a hive is read as its export is."""
    service = {"ImagePath": "@veracrypt.sys", "Start": 0, "Parameters": {"Wdf": {"Version": 1}}}
    hive, text = map(rules, both(tmp_path, {"veracrypt": service}, DumpFilters=data))
    assert hive == text
    assert "registry-value-odd" in hive
    assert ("registry-filter-kmdf" in hive) is isinstance(data, str)


def test_the_page_file_is_a_setting_with_its_limit(tmp_path: Path) -> None:
    """PagingFiles holds path, smallest and largest size in MB; zero leaves it to Windows."""
    for records in both(tmp_path, {}):
        assert settings(records)["PagingFiles[0]"] == (
            r"C:\pagefile.sys 512 1024", "page file of at most 1,024 MB",
        )  # fmt: skip
    from analyzer.sources.registry_meaning import page_file_limit

    assert page_file_limit(r"C:\pagefile.sys 512 1024") == 1024 << 20
    assert page_file_limit(r"C:\pagefile.sys 0 0") is None
    assert page_file_limit(r"?:\pagefile.sys") is None


@pytest.mark.parametrize(
    ("limit", "dedicated", "is_small"),
    [(300, False, True), (9000, False, False), (300, True, False)],
)
def test_a_page_file_that_cannot_hold_the_dump_agrees_with_the_log(
    tmp_path: Path, limit: int, dedicated: bool, is_small: bool
) -> None:
    """The log says that the dump did not fit; with a dedicated dump file another took it."""
    import generator_cases

    import analyzer

    story = generator_cases.stories()["dump-file-too-small"].files
    root = r"HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet\Control"
    control: dict[str, object] = {"CrashDumpEnabled": 7, "EnableLogFile": 1}
    control.update({"DedicatedDumpFile": r"D:\d.sys"} if dedicated else {})
    memory: dict[str, object] = {"PagingFiles": [rf"C:\pagefile.sys 16 {limit}"]}
    keys = {rf"{root}\CrashControl": control, rf"{root}\Session Manager\Memory Management": memory}
    (tmp_path / "x.reg").write_bytes(generator_logs.reg(keys).encode("utf-16"))
    (tmp_path / "DumpStack.log").write_bytes(story["DumpStack.log"])
    found = [
        f for f in analyzer.open(tmp_path).records["findings"] if f.rule == "case-dump-too-small"
    ]
    assert [f"the page file may have {limit} MB at most" in f.text for f in found] == [
        True
    ] * is_small
