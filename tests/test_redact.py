"""Redacted results hold no person, machine, disk, folder or network address, in any format."""

from __future__ import annotations

import json

import pytest
from generator_cases import CRASH, EventLog, log
from generator_logs import kernel
from test_capture_file import extension_bytes, facts, write

import analyzer
from analyzer.cli import main
from analyzer.layouts.ntdddump import filter_extension
from analyzer.population.redact import redact
from analyzer.records import TABLES
from analyzer.reports import FORMATS
from analyzer.tables import SCHEMA

#: planted: user, machine, domain, serial numbers, network, e-mail and MAC addresses, SID, disk id
SECRETS = {
    "user": "jdoe4711",
    "machine": "DESKTOP-Q7X9Z",
    "domain": "corp-secretum",
    "serial": "S4NVNG0M123456",
    "address": "10.77.13.99",
    "address6": "fe80::dead:77",
    "mail": "jdoe4711@corp-secretum.example",
    "mac": "00-1B-44-11-3A-B7",
    "sid": "S-1-5-21-3623811015",
    "disk": "6bfe1a52-0c1d-4b7e-9a3c-112233445566",
    "disk_bytes": "521afe6b1d0c7e4b9a3c112233445566",
}
ALL = " ".join(SECRETS.values())


@pytest.fixture
def planted(tmp_path):
    """A folder of all kinds of files with the secrets in every text that a file may hold."""
    folder = tmp_path / SECRETS["user"] / f"{SECRETS['machine']}-ticket"
    folder.mkdir(parents=True)
    events = EventLog().power("2026-03-01T10:21:05", CRASH)
    events.volmgr("2026-03-01T10:21:30", 161, 0x43, 0xC0000001, ALL)
    events.reporting("2026-03-01T10:21:31", CRASH, rf"C:\Users\{SECRETS['user']}\{ALL}.dmp")
    events.add("2026-03-01T10:19:00", "storahci", 129, [ALL], bytes(40), 3)
    events.add("2026-03-01T10:19:01", ALL, 129, [ALL], bytes(40), 3)
    xml = events.xml().replace(b"<Computer>example", b"<Computer>" + SECRETS["machine"].encode())
    (folder / "System.xml").write_bytes(xml)
    control = r"[HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet\Control\CrashControl]"
    lines = [
        "Windows Registry Editor Version 5.00", "", control,
        rf'"DumpFile"="\\\\{SECRETS["address"]}\\{ALL}\\MEMORY.DMP"',
        rf'"DedicatedDumpFile"="C:\\Users\\{SECRETS["user"]}\\x.sys"',
        f'"{SECRETS["machine"]}"="{ALL}"', '"CrashDumpEnabled"=dword:00000007',
        f'"MinidumpDir"="{ALL}"',
    ]  # fmt: skip
    (folder / "CrashControl.reg").write_bytes("\r\n".join(lines).encode("utf-16"))
    (folder / "DumpStack.log").write_bytes(log(["Odd line " + ALL, *kernel(), "More " + ALL]))
    said = list(facts([(5000, 0), (7000, 0xC0000001)]))
    disk = bytes.fromhex(SECRETS["disk_bytes"])
    given = bytearray(extension_bytes())
    place = filter_extension(8, 2).PartitionInfo.offset + 8  # behind size and style
    given[place : place + 16] = disk
    for fact in said:
        if fact.get("fact") == "node":
            fact["how"] = ALL
            fact["bytes"] = fact["bytes"].replace(extension_bytes().hex(), bytes(given).hex())
        if fact.get("fact") == "clock":
            fact["how"] = ALL
        if fact.get("fact") == "machine":
            fact["build_lab"] = ALL
    said[0]["backend"] = ALL
    said.insert(-1, {"fact": "error", "text": ALL, "subject": SECRETS["machine"]})
    said.insert(-1, {"fact": "stop", "kind": SECRETS["machine"], "detail": ALL})
    said.insert(-1, {"fact": "module", "name": rf"C:\Users\{SECRETS['user']}\x.sys", "base": "0x1"})
    said[-1]["reason"] = ALL
    write(folder / f"{SECRETS['user']}.jsonl", said)
    return folder


def leaks(text):
    """The secrets that a text holds, however they are spelt there."""
    low = text.lower()
    return [name for name, secret in SECRETS.items() if secret.lower() in low]


def test_secrets_are_planted(planted):
    """Without --redact nearly all of them come out, so the test below can fail."""
    text = analyzer.open(str(planted)).report("json")
    assert set(leaks(text)) == set(SECRETS)


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_no_secret_in_any_report(planted, capsys, form):
    """No secret is in a report of any format, and the report still tells the crash."""
    main(["analyze", str(planted), "--redact", "--format", form])
    out = capsys.readouterr().out
    assert leaks(out) == []
    assert str(planted.parent.parent.name) not in out
    if form in ("text", "json", "html", "markdown"):
        assert "DRIVER_IRQL_NOT_LESS_OR_EQUAL" in out  # bugcheck 0xD1 of the planted crash


@pytest.mark.parametrize("table", sorted(TABLES))
def test_no_secret_in_any_table(planted, capsys, table):
    """Nor in a single table, nor in what a file is said to be."""
    assert main(["show", table, str(planted), "--redact", "--format", "json"]) == 0
    assert main(["info", str(planted), "--redact"]) == 0
    assert leaks(capsys.readouterr().out) == []


def test_no_secret_in_a_data_set(planted, tmp_path, capsys):
    """Nor in any file of a scan's data set, and the scan's own words give no reasons with names."""
    pytest.importorskip("pyarrow")
    import pandas as pd

    (planted / "note.txt").write_text(ALL)
    (planted / f"{SECRETS['machine']}.dmp").write_bytes(b"PAGEDU64")
    out = tmp_path / "out"
    assert main(["scan", str(planted), "--output", str(out), "--redact", "--jobs", "1"]) == 0
    assert leaks(capsys.readouterr().out) == []
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) > len(TABLES)
    for path in files:
        assert leaks(path.name) == []
        if path.suffix == ".parquet":
            assert leaks(pd.read_parquet(path).to_csv()) == []
            assert leaks(path.read_bytes().decode("latin-1")) == []
    cases = pd.read_parquet(out / "cases")
    # System.xml, CrashControl.reg, DumpStack.log and the capture; the note; the dump that is cut
    assert sorted(cases["outcome"]) == ["analysed"] * 4 + ["passed-over", "unusable"]
    assert cases["location"].isna().all()


def test_numbers_and_drivers_stay(planted):
    """What the tool is about is still there: status, duration, codes, driver names."""
    case = analyzer.open(str(planted))
    tables = json.loads(analyzer.case.Case(redact(case.records)).report("json"))["tables"]
    calls = [row for row in tables["callbacks"] if row["duration_ns"] is not None]
    # 5000 and 7000 ticks at 1 GHz, less the median cost of 200
    assert [row["duration_ns"] for row in calls] == [4800, 6800]
    assert {row["filter"] for row in calls} == {"dump_x.sys"}
    assert calls[1]["status_name"] == "STATUS_UNSUCCESSFUL"
    assert tables["extensions"][0]["disk_size"] == 500107862016
    assert tables["extensions"][0]["gpt_disk_id"] is None
    assert "redacted" in tables["extensions"][0]["absent"]["gpt_disk_id"] or (
        "left out" in tables["extensions"][0]["absent"]["gpt_disk_id"]
    )
    settings = {row["name"]: row["value"] for row in tables["settings"]}
    assert settings["CrashDumpEnabled"] == "7"
    assert settings["DumpFile"] is None
    before = sorted(str(finding.rule) for finding in case.records["findings"])
    assert sorted(row["rule"] for row in tables["findings"]) == before


def test_unknown_text_columns_are_left_out(handmade):
    """Every text column leaves empty, in a known form, or as a word of our own tables."""
    records = handmade
    for table, rows in records.tables.items():
        text = [
            c.name for c in SCHEMA[table] if c.kind == "Text" and c.name in TABLES[table]._fields
        ]
        records.tables[table] = [row._replace(**dict.fromkeys(text, "S3CR3T \\x!")) for row in rows]
    for row in records.tables["findings"]:
        assert row.rule == "S3CR3T \\x!"
    records.tables["findings"] = []
    kept = {
        (table, name)
        for table, rows in redact(records).tables.items()
        for row in rows
        for name, value in row._asdict().items()
        if isinstance(value, str) and "S3CR3T" in value
    }
    # columns that only tables of this package fill
    assert kept == {
        ("sources", "kind"), ("machine", "dump_type_name"), ("machine", "attribute_names"),
        ("machine", "writer_status_name"), ("machine", "secondary_data_state_name"),
        ("modules", "role"), ("extensions", "dump_type_name"), ("extensions", "media_type_name"),
        ("extensions", "partition_style_name"), ("stages", "stage"), ("stages", "unit"),
        ("requests", "operation"), ("filters", "product"), ("crashes", "tells"),
        ("crashes", "outcome"),
    } & {(table, name) for table, rows in records.tables.items() for row in rows
         for name in row._fields}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(SECRETS))
def test_a_secret_where_a_driver_belongs_gets_a_number(kind, tmp_path, capsys):
    """In a dump log, a debugger's module list and a stack; what is a driver's name stays."""
    secret = SECRETS[kind]
    word = "".join(c if c.isalnum() or c in "_.$-" else "_" for c in secret)
    stuck = log([*kernel()[:-6], f"Calling {secret} secondary callback."])
    (tmp_path / "DumpStack.log").write_bytes(stuck)
    rows = "".join(
        f"fffff807`{0x60000000 + n * 0x100000:x} fffff807`{0x60010000 + n * 0x100000:x}   {name}\n"
        for n, name in enumerate(("nt", "dump_acmeflt", "x" + word))
    )
    frame = f"ffffe383`a3c06020 fffff806`183d474f x{word}!Work+0x1\n"
    (tmp_path / "kd.log").write_text(
        f"0: kd> lm\n{rows}0: kd> k\nChild-SP          RetAddr           Call Site\n{frame}",
        encoding="utf-8",
    )
    for form in ("text", "json", "html"):
        main(["analyze", str(tmp_path), "--redact", "--format", form])
        out, err = capsys.readouterr()
        assert secret.lower() not in out.lower()
        assert word.lower() not in out.lower()
        assert secret.lower() not in err.lower()
    case = redact(analyzer.open(tmp_path).records)
    assert {"nt", "dump_acmeflt"} <= {row.name for row in case["modules"]}
    if kind == "user":
        stages = [row for row in case["stages"] if row.stage == "secondary-callback"]
        (finding,) = (row for row in case["findings"] if row.rule == "log-driver-stuck")
        assert stages[-1].driver == finding.subject
        assert str(finding.subject).startswith("driver-")


def test_the_culprit_keeps_its_name(shared_sample, capsys):
    """Advice to update the named driver needs the name, which is no secret."""
    path = shared_sample("../faults/dumpstack-retry-as-minidump.log")
    main(["analyze", str(path), "--redact"])
    assert "secondary data callback broke the dump: badnic.sys" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.parametrize("name", ["broken-x64-worst.dmp", "broken-x86-windows7-filter-failed.dmp"])
def test_the_last_failing_routine_stays(name, sample):
    """Its form is that of the symbols of callbacks; it was always left out."""
    records = analyzer.open(sample(name)).records
    before = [r.last_failing_routine for r in records["filters"]]
    after = [r.last_failing_routine for r in redact(records)["filters"]]
    assert [v for v in before if isinstance(v, str)] == [v for v in after if isinstance(v, str)]
    assert name.startswith("broken-x64") or any(isinstance(v, str) for v in after)
