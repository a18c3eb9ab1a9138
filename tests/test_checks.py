"""Each rule of kernel dumps fires on the flaw it speaks of, and not on healthy or absent values."""

from __future__ import annotations

import pytest
from healthy_crash import FVE, MS, ORIGIN, broken_rules, changed, healthy, only, row_of

from analyzer import checks
from analyzer.absence import Absent
from analyzer.records import (
    TABLES,
    Anomaly,
    Evidence,
    Records,
)
from analyzer.tables import evidence_lines


def test_healthy_records_break_no_rule():
    """A healthy machine gives no finding at all."""
    assert broken_rules(healthy()) == []


def test_no_records_break_no_rule():
    """Without records there is nothing to find."""
    assert checks.run(Records()) == []


def test_all_absent_records_break_no_rule():
    """Rows whose every value is absent are never judged."""
    nothing = Absent("not-in-dump", "not there")
    records = Records()
    for record in TABLES.values():
        if record.__name__ != "Finding":
            records.add(record(**{**dict.fromkeys(record._fields, nothing), "origin": ORIGIN}))
    assert broken_rules(records) == []


# rule, table, row, the flawed field and its value, what the text must say
FLAWS = [
    ("dump-space-insufficient", "machine", 0, "attributes", 0x4, "bit 2"),
    ("dump-filter-dump-file", "machine", 0, "attributes", 0x40, "bit 6"),
    ("dump-encrypted", "machine", 0, "attributes", 0x100, "bit 8"),
    ("not-a-crash", "machine", 0, "attributes", 0x10, "running system"),
    ("not-a-crash", "machine", 0, "bugcheck", 0, "running system"),
    ("not-a-crash", "machine", 0, "bugcheck", 0x161, "running system"),
    ("not-a-crash", "machine", 0, "bugcheck", 0x10000161, "running system"),
    # 0xC0000185 is STATUS_IO_DEVICE_ERROR, 0x80000005 STATUS_BUFFER_OVERFLOW (ntstatus.h)
    ("writer-status-failed", "machine", 0, "writer_status", 0xC0000185, "IO_DEVICE_ERROR"),
    ("writer-status-failed", "machine", 0, "writer_status", 0x80000005, "0x80000005"),
    ("secondary-data-failed", "machine", 0, "secondary_data_state", 0xC000009A, "0xc000009a"),
    ("filter-disabled", "filters", 0, "is_disabled", True, "proven on Windows 7 x86"),
    ("filter-callback-failed", "filters", 0, "last_failing_status", 0xC0000001, "UNSUCCESSFUL"),
    ("filter-callback-failed", "callbacks", 0, "status", 0xC0000022, "Dump_Start"),
    ("filter-version-1", "filters", 0, "major_version", 1, "19041"),
    ("filter-max-pages-zero", "filters", 0, "max_pages_per_write", 0, "MaxPagesPerWrite 0"),
    ("callback-outside-module", "filters", 0, "dump_start", FVE + 0x1D000, "in no module"),
    ("callback-outside-module", "filters", 0, "dump_write", FVE - 1, "in no module"),
    ("callback-outside-module", "filters", 0, "dump_read", 0x1000, "0x0000000000001000"),
    ("callback-outside-module", "callbacks", 0, "routine", 0xFFFFF804_60000010, "ntoskrnl.exe"),
    ("extension-dump-type-invalid", "extensions", 0, "dump_type", 0, "DumpType 0"),
    ("extension-dump-type-invalid", "extensions", 0, "dump_type", 3, "DumpType 3"),
    ("extension-dump-type-hibernation", "extensions", 0, "dump_type", 2, "hibernation"),
    ("extension-device-null", "extensions", 0, "device_object", 0, "NULL"),
    ("extension-geometry-invalid", "extensions", 0, "bytes_per_sector", 520, "520 bytes"),
    ("extension-geometry-invalid", "extensions", 0, "bytes_per_sector", 256, "256 bytes"),
    ("extension-geometry-invalid", "extensions", 0, "bytes_per_sector", 131072, "131072 bytes"),
    ("extension-geometry-invalid", "extensions", 0, "bytes_per_sector", 0, "0 bytes"),
    ("extension-geometry-invalid", "extensions", 0, "tracks_per_cylinder", 0, "tracks"),
    ("extension-geometry-invalid", "extensions", 0, "sectors_per_track", 0, "sectors"),
    ("extension-geometry-invalid", "extensions", 0, "cylinders", -1, "-1"),
    # 121602 * 255 * 63 * 512 = 1,000,210,498,560; DiskSize 0xE8E0DB6000 = 1,000,204,886,016
    ("extension-geometry-invalid", "extensions", 0, "cylinders", 121602, "1,000,204,886,016"),
    ("extension-disk-size-invalid", "extensions", 0, "cylinders", 121602, "less than"),
    ("extension-disk-size-invalid", "extensions", 0, "disk_size", 0, "is 0"),
    ("extension-disk-size-invalid", "extensions", 0, "disk_size", 0xE8E0DB6001, "512"),
    ("extension-partition-info-size", "extensions", 0, "size_of_partition_info", 0x10, "0x10"),
    ("extension-size-unexpected", "extensions", 0, "size", 0x50, "not 0x58"),
    ("extension-size-unexpected", "extensions", 0, "size", 0, "not 0x58"),
    ("extension-dump-data-differs", "extensions", 0, "dump_data", 0x10, "0x0000000000000010"),
    ("storage-request-slow", "requests", 0, "duration_ns", 5032 * MS, "5.032 s"),
    ("storage-request-failed", "requests", 0, "status", 0x04, "SRB status 0x04"),
    ("storage-requests-in-flight", "requests", 0, "in_flight", True, "1 of 1"),
]


@pytest.mark.parametrize(("rule", "table", "row", "field", "value", "says"), FLAWS)
def test_flaw_is_found(rule, table, row, field, value, says):
    """One flawed field gives one finding of its rule, with the severity and advice of the rule."""
    finding = only(changed(table, row, **{field: value}), rule)
    assert finding.severity == checks.RULES[rule].severity
    assert finding.advice == checks.RULES[rule].next_step
    assert finding.origin == ORIGIN
    assert says in finding.text


@pytest.mark.parametrize(("rule", "table", "row", "field", "value", "says"), FLAWS)
def test_absent_field_is_not_judged(rule, table, row, field, value, says):
    """The flawed field gives no finding when the evidence does not give its value."""
    del value, says
    records = changed(table, row, **{field: Absent("not-in-dump")})
    assert rule not in broken_rules(records)


def test_evidence_names_value_and_place():
    """An evidence line holds the field, the value as tables show it, address and file offset."""
    finding = only(changed("filters", state=1, is_disabled=True), "filter-disabled")
    assert finding.subject == "dump_dumpfve.sys (crash stack)"
    assert evidence_lines(finding) == [
        "state = 0x00000001 (record at 0xffffc08be3d77db0, file offset 0x1234)"
    ]


def test_uncertain_record_is_called_so():
    """The confidence of a record that is not certain is part of the text."""
    likely = ORIGIN._replace(how="content match", confidence="likely")
    text = only(changed("filters", is_disabled=True, origin=likely), "filter-disabled").text
    assert "not certain but likely (content match)" in text
    assert "certain" not in only(changed("filters", is_disabled=True), "filter-disabled").text


def test_worst_findings_come_first_and_order_is_stable():
    """Errors come before warnings before infos; equal ones keep the order they were found in."""
    records = changed("machine", attributes=0x4 | 0x40, writer_status=0xC0000001)
    changed("extensions", 0, records, device_object=0)
    assert broken_rules(records) == [
        "writer-status-failed",
        "extension-device-null",
        "dump-space-insufficient",
        "dump-filter-dump-file",
    ]


def test_anomaly_becomes_finding():
    """What a source reports is a finding with its own words, evidence and origin."""
    records = healthy()
    pieces = (Evidence("size", 5, "Number"), Evidence("need", 9, "Number"))
    records.add(Anomaly("dump-file-cut", "Cut at 5.", ORIGIN, "file", pieces, {"size": 5}))
    (finding,) = checks.run(records)
    assert finding == (
        "dump-file-cut",
        "error",
        "file",
        "Cut at 5.",
        checks.RULES["dump-file-cut"].next_step,
        pieces,
        {"size": 5},
        ORIGIN,
    )


def test_anomaly_without_a_rule_is_not_lost():
    """An id that no rule has is shown as a fault of this tool, with what was reported."""
    records = Records()
    records.add(Anomaly("no-such-rule", "Seen.", ORIGIN))
    (finding,) = checks.run(records)
    assert (finding.rule, finding.severity) == ("internal-unknown-rule", "warning")
    assert finding.text == "no-such-rule: Seen."


def test_source_report_is_not_repeated():
    """A flaw the source reported itself is not found a second time; another file's flaw is."""
    records = changed("machine", attributes=0x100)
    records.add(Anomaly("dump-encrypted", "Encrypted.", ORIGIN, "header"))
    assert only(records, "dump-encrypted").text == "Encrypted."
    other = ORIGIN._replace(source="b.dmp")
    records.add(healthy()["machine"][0]._replace(attributes=0x100, origin=other))
    assert broken_rules(records) == ["dump-encrypted", "dump-encrypted"]


def test_addresses_of_another_file_do_not_count():
    """A callback is compared with the modules of its own dump only."""
    records = Records()
    other = ORIGIN._replace(source="b.dmp")
    records.extend(healthy())
    for table in ("modules", "filters", "machine"):
        records.add(*(row._replace(origin=other) for row in healthy()[table]))
    last = len(records["modules"]) - 1
    changed("modules", last, records, base=0x1000, end=0x2000)
    found = [f for f in checks.run(records) if f.rule == "callback-outside-module"]
    # Dump_Start, Dump_Write, Dump_Finish and Dump_Unload of the second dump
    assert [f.origin.source for f in found] == ["b.dmp"] * 4


# machine and modules


def test_missing_dump_drivers_are_named():
    """Without any dump_* module the finding says what is missing."""
    records = healthy()
    records.tables["modules"] = records["modules"][:2]
    text = only(records, "dump-stack-missing").text
    assert text == "The 2 loaded modules do not include any module named dump_*."


def test_missing_crash_dump_driver_is_named():
    """A list with dump_* images but without crashdmp.sys, which loads them, is not whole."""
    records = changed("modules", row_of("crashdmp.sys"), role="driver")
    finding = only(records, "crashdmp-not-listed")
    assert finding.severity == "info"
    assert "include dump_dumpstorport.sys but not crashdmp.sys" in finding.text


@pytest.mark.parametrize("bugcheck", [0, 0x161, 0x141, 0x193])
def test_live_dump_needs_no_dump_stack(bugcheck):
    """A dump of a running system may lack the dump stack."""
    records = changed("machine", bugcheck=bugcheck)
    records.tables.update(modules=records["modules"][:1], filters=[], extensions=[])
    assert broken_rules(records) == ["not-a-crash"]


def test_incomplete_module_list_lacks_nothing():
    """A list that was not read to its end does not show that the dump stack is missing."""
    records = healthy()
    records.tables["modules"] = records["modules"][:1]
    records.add(Anomaly("modules-incomplete", "Broke off.", ORIGIN))
    assert broken_rules(records) == ["modules-incomplete"]


def test_different_copy_is_told_with_both_keys():
    """A copy that is another image than its original shows both image keys."""
    records = changed(
        "modules",
        row_of("dump_stornvme.sys"),
        original_match="different image",
        image_key="ffffffff2b000",
    )
    finding = only(records, "module-copy-differs")
    assert finding.subject == "dump_stornvme.sys"
    assert "ffffffff2b000 against 1a2b3c4d2b000" in finding.text


@pytest.mark.parametrize("attributes", [0x1, 0x2, 0x20, 0x80, 0x200, 0xFFFFFE00])
def test_other_attributes_are_no_finding(attributes):
    """Hibernation, power off, offline, early boot, decrypted and unknown bits mean no harm."""
    assert broken_rules(changed("machine", attributes=attributes)) == []


@pytest.mark.parametrize(("build", "found"), [(5999, False), (6000, True)])
def test_crashdmp_exists_since_vista(build, found):
    """crashdmp.sys came with Vista, build 6000; before it the kernel drove the dump stack."""
    records = changed("modules", row_of("crashdmp.sys"), role="driver")
    changed("machine", 0, records, build=build)
    assert ("crashdmp-not-listed" in broken_rules(records)) is found


# filters
