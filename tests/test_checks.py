"""Each rule of kernel dumps fires on the flaw it speaks of, and not on healthy or absent values."""

from __future__ import annotations

import pytest
from conftest import make

from analyzer import checks
from analyzer.absence import Absent
from analyzer.records import (
    TABLES,
    Anomaly,
    Callback,
    Extension,
    Filter,
    Machine,
    Module,
    Origin,
    Records,
    Request,
    Source,
)

ORIGIN = Origin("a.dmp", "list walk", "certain", 0x1234, 0xFFFFC08B_E3D77DB0)
MS = 1_000_000  # ns
NODE = 0xFFFFC08B_E3D77DB0
FVE = 0xFFFFF804_87020000  # base of dump_dumpfve.sys


def blank(record, **fields):
    """A record of the test's dump whose other fields are None."""
    return make(record, origin=ORIGIN, **fields)


def module(name, base, size, role, stack=None, **fields):
    """A loaded module."""
    fields.setdefault("loaded", True)
    return blank(
        Module, name=name, base=base, end=base + size, size=size, role=role, stack=stack, **fields
    )


def healthy():
    """A crash of a Windows 10 x64 machine with one filter, dumpfve, as facts of a real one."""
    records = Records()
    records.add(
        blank(Source, kind="kernel dump"),
        blank(
            Machine,
            build=19041,
            architecture="x64",
            bugcheck=0xD1,
            attributes=0,
            writer_status=0,
            secondary_data_state=0,
            dump_type_name="kernel bitmap",
        ),
        module("ntoskrnl.exe", 0xFFFFF804_60000000, 0x1046000, "kernel"),
        module("crashdmp.sys", 0xFFFFF804_87750000, 0x1E000, "crash dump driver"),
        module("dump_dumpstorport.sys", 0xFFFFF804_87780000, 0xE000, "dump port driver", "crash"),
        module(
            "dump_stornvme.sys",
            0xFFFFF804_877C0000,
            0x2B000,
            "dump miniport",
            "crash",
            image_key="1a2b3c4d2b000",
            original="stornvme.sys",
            original_match="same image",
        ),
        module("stornvme.sys", 0xFFFFF804_65000000, 0x2B000, "driver", image_key="1a2b3c4d2b000"),
        module("dump_dumpfve.sys", FVE, 0x1D000, "dump filter", "crash"),
        blank(
            Filter,
            filter="dump_dumpfve.sys",
            stack="crash",
            ring_index=0,
            ring_count=1,
            node=NODE,
            layout="Windows 8 and later, 64-bit",
            major_version=2,
            minor_version=0,
            dump_start=FVE + 0x1000,
            dump_write=FVE + 0x1070,
            dump_finish=FVE + 0x10D0,
            dump_unload=FVE + 0x10F0,
            dump_read=0,
            dump_pre_read_write=Absent("not-applicable"),
            dump_data=0xFFFFC08B_E0001000,
            max_pages_per_write=16,
            flags=1,
            is_disabled=False,
            state=0,
            last_failing_routine=Absent("unknown-layout"),
            last_failing_status=Absent("unknown-layout"),
        ),
        blank(
            Extension,
            filter="dump_dumpfve.sys",
            stack="crash",
            extension=NODE + 0x40,
            dump_type=1,
            device_object=0xFFFFC08B_E3DAC030,
            cylinders=121601,  # of a real 1 TB disk; 121601 * 255 * 63 * 512 <= DiskSize
            media_type=12,
            tracks_per_cylinder=255,
            sectors_per_track=63,
            bytes_per_sector=512,
            disk_size=0xE8E0DB6000,
            size_of_partition_info=0x18,
            partition_style=1,
            dump_data=0xFFFFC08B_E0001000,
            size=0x58,
            flags=0,
            is_reconstructed=False,
        ),
        blank(
            Callback,
            filter="dump_dumpfve.sys",
            stack="crash",
            callback="Dump_Start",
            routine=FVE + 0x1000,
            symbol="dump_dumpfve.sys+0x1000",
            status=Absent("not-recorded"),
        ),
        blank(
            Request,
            request=0,
            operation="READ(10)",
            start=1_600_000_000_000 * MS,
            end=(1_600_000_000_000 + 235) * MS,
            duration_ns=235 * MS,
            before_crash_ns=6 * MS,
            in_flight=False,
            status=1,
            status_name="SUCCESS",
            error=0,
        ),
    )
    return records


def changed(table, index=0, records=None, **fields):
    """Healthy records with fields of one row changed."""
    records = records or healthy()
    records[table][index] = records[table][index]._replace(**fields)
    return records


def broken_rules(records):
    """The ids of what the checks find."""
    return [finding.rule for finding in checks.run(records)]


def only(records, rule):
    """The finding of a rule, of which there must be exactly one."""
    found = [finding for finding in checks.run(records) if finding.rule == rule]
    assert len(found) == 1, broken_rules(records)
    return found[0]


def row_of(name):
    """The place of a module in the healthy module table."""
    return [module.name for module in healthy()["modules"]].index(name)


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
    ("dump-kernel-generated-triage", "machine", 0, "attributes", 0x8, "bit 3"),
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
    ("storage-request-slow", "requests", 0, "duration_ns", 5032 * MS, "5,032.0 ms"),
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
    assert finding.evidence == (
        "state = 0x00000001 (record at 0xffffc08be3d77db0, file offset 0x1234)"
    )


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
    records.add(Anomaly("dump-file-cut", "Cut at 5.", ORIGIN, "file", ("size = 5", "need = 9")))
    (finding,) = checks.run(records)
    assert finding == (
        "dump-file-cut",
        "error",
        "file",
        "Cut at 5.",
        checks.RULES["dump-file-cut"].next_step,
        "size = 5; need = 9",
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
    """Without crashdmp.sys the finding says so."""
    records = changed("modules", row_of("crashdmp.sys"), role="driver")
    assert only(records, "dump-stack-missing").text.endswith("do not include crashdmp.sys.")


@pytest.mark.parametrize("bugcheck", [0, 0x161])
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
    assert ("dump-stack-missing" in broken_rules(records)) is found


# filters


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ("crash", "has 2 modules taken for a filter, but crashdmp's list has 1 filter."),
        ("hibernation", None),
    ],
)
def test_filter_count(extra, says):
    """Modules and list entries are counted per stack, and only where the list was read."""
    records = healthy()
    records.add(module("dump_other.sys", 0xFFFFF804_90000000, 0x1000, "dump filter", extra))
    texts = [f.text for f in checks.run(records) if f.rule == "filter-count-differs"]
    assert [says in text for text in texts] == ([True] if says else [])


def test_filters_are_not_counted_where_the_list_was_not_read():
    """Without the length of the list there is nothing to compare the modules with."""
    records = changed("filters", ring_count=Absent("not-in-dump"))
    records.add(module("dump_other.sys", 0xFFFFF804_90000000, 0x1000, "dump filter", "crash"))
    assert broken_rules(records) == []


def test_filters_are_not_counted_in_an_incomplete_module_list():
    """A module list that breaks off may lack filters."""
    records = changed("filters", ring_count=2)
    records.add(Anomaly("modules-incomplete", "Broke off.", ORIGIN))
    assert broken_rules(records) == ["modules-incomplete"]


def test_empty_list_with_a_filter_module_is_a_difference():
    """A list of no filters while a filter module is loaded is told."""
    records = changed("filters", ring_count=0, node=Absent("not-found"))
    assert "crashdmp's list has no filters." in only(records, "filter-count-differs").text


def test_unloaded_filters_are_not_counted():
    """An earlier dump stack in the unloaded list is normal."""
    records = healthy()
    records.add(
        module("dump_dumpfve", 0xFFFFF804_90000000, 0x1000, "dump filter", "crash", loaded=False)
    )
    assert broken_rules(records) == []


@pytest.mark.parametrize(
    ("name", "callback", "status", "rule"),
    [
        # DiskCryptor: 0xC0210001 STATUS_FVE_NOT_ENCRYPTED of Dump_Start means nothing to encrypt
        ("dump_dcrypt.sys", "Dump_Start", 0xC0210001, "filter-callback-failed-benign"),
        ("hiber_Dcrypt.SYS", "Dump_Start", 0xC0210001, "filter-callback-failed-benign"),
        ("dump_dcrypt.sys", "Dump_Write", 0xC0210001, "filter-callback-failed"),
        ("dump_dcrypt.sys", "Dump_Start", 0xC0210000, "filter-callback-failed"),
        ("dump_dumpfve.sys", "Dump_Start", 0xC0210001, "filter-callback-failed"),
    ],
)
def test_benign_status_belongs_to_filter_and_callback(name, callback, status, rule):
    """A listed status is harmless for its own filter and callback only."""
    records = healthy()
    records.add(
        blank(
            Callback,
            filter=name,
            stack="crash",
            callback=callback,
            routine=Absent("not-recorded"),
            status=status,
        )
    )
    assert broken_rules(records) == [rule]


@pytest.mark.parametrize("status", [0, 0x103, 0x40000000])
def test_success_and_informational_codes_are_no_failure(status):
    """Only a negative status is a failure, as in crashdmp itself."""
    assert broken_rules(changed("callbacks", status=status)) == []


def benign_failure():
    """DiskCryptor's Dump_Start said that there is nothing to encrypt, and was switched off."""
    records = changed(
        "filters",
        filter="dump_dcrypt.sys",
        is_disabled=True,
        last_failing_routine="dump_dcrypt.sys+0x1000",
        last_failing_status=0xC0210001,
    )
    return changed(
        "callbacks", 0, records, filter="dump_dcrypt.sys", symbol="dump_dcrypt.sys+0x1000"
    )


def test_last_failing_routine_is_recognised_as_callback():
    """The routine's module+offset tells which callback it was, so a benign status is found."""
    finding = only(benign_failure(), "filter-callback-failed-benign")
    assert "dump_dcrypt.sys+0x1000" in finding.text
    assert "DiskCryptor" in finding.text


def test_filter_disabled_by_a_benign_failure_is_no_error():
    """A filter that asked to be left out is left out as intended."""
    assert broken_rules(benign_failure()) == ["filter-callback-failed-benign"]


def test_filter_disabled_by_a_fault_is_told_with_it():
    """A failure that is not known to be harmless leaves both findings."""
    records = benign_failure()
    changed("filters", 0, records, last_failing_status=0xC0000001)
    assert broken_rules(records) == ["filter-disabled", "filter-callback-failed"]


def test_last_failure_is_told_once():
    """The failing status of the filter row and of its callback row are the same failure."""
    records = changed(
        "filters",
        last_failing_routine="dump_dumpfve.sys+0x1000",
        last_failing_status=0xC0000001,
    )
    changed("callbacks", 0, records, status=0xC0000001)
    assert only(records, "filter-callback-failed").text.startswith(
        "Dump_Start of dump_dumpfve.sys (crash stack) returned 0xc0000001 (STATUS_UNSUCCESSFUL)."
    )


def test_other_failure_of_the_same_filter_is_told_too():
    """A last failing routine that no callback row tells of is a finding of its own."""
    records = changed(
        "filters",
        last_failing_routine="dump_dumpfve.sys+0x5000",
        last_failing_status=0xC0000001,
    )
    changed("callbacks", 0, records, status=0xC0000001)
    assert broken_rules(records) == ["filter-callback-failed"] * 2


@pytest.mark.parametrize(
    ("architecture", "build", "hedged"),
    [("x86", 7600, False), ("x86-pae", 7601, False), ("x64", 7601, True), ("x86-pae", 9200, True)],
)
def test_place_of_last_failure_is_proven_on_windows_7_x86(architecture, build, hedged):
    """Elsewhere the text says that routine and status were recognised by content."""
    records = changed("filters", last_failing_status=0xC0000001)
    changed("machine", 0, records, architecture=architecture, build=build)
    text = only(records, "filter-callback-failed").text
    assert ("recognised by its content" in text) is hedged


def test_repeated_failing_calls_are_one_finding():
    """Many failing calls of one callback with one status are counted, not listed."""
    records = changed("callbacks", callback="Dump_Write", status=0xC000000D, call=0)
    records.add(*(records["callbacks"][0]._replace(call=call) for call in range(1, 500)))
    text = only(records, "filter-callback-failed").text
    assert "returned 0xc000000d" in text
    assert "500 times" in text


def test_callback_in_another_module_names_it():
    """A callback that lies in another driver is told with that driver and its range."""
    records = healthy()
    records.add(
        module("old.sys", 0xFFFFF804_91000000, 0x1000, "driver", loaded=False),
    )
    changed("filters", 0, records, dump_finish=0xFFFFF804_91000010)
    finding = only(records, "callback-outside-module")
    assert "in old.sys, which was unloaded" in finding.text
    assert "old.sys = 0xfffff80491000000 to 0xfffff80491000fff" in finding.evidence


def test_callback_of_filter_without_module_is_not_judged():
    """Without the filter's own module there is no range to be outside of."""
    records = changed("filters", filter="dump_gone.sys", dump_start=0x1000)
    assert "callback-outside-module" not in broken_rules(records)


@pytest.mark.parametrize("field", ["base", "end"])
def test_callback_is_not_judged_by_an_unknown_range(field):
    """A module whose base or end is not known has no outside."""
    records = changed("modules", row_of("dump_dumpfve.sys"), **{field: Absent("not-recorded")})
    assert broken_rules(changed("filters", 0, records, dump_start=0x1000)) == []


def test_callback_outside_is_told_once():
    """The filter row and the callback row of the same routine give one finding."""
    records = changed("filters", dump_start=0xDEAD0000)
    changed("callbacks", 0, records, routine=0xDEAD0000)
    assert broken_rules(records) == ["callback-outside-module"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"flags": 0}, "flag 0x1 is clear."),
        ({"major_version": 1}, "MajorVersion is 1."),
        ({"flags": 2, "major_version": 1}, "flag 0x1 is clear and MajorVersion is 1."),
        ({"flags": Absent("not-in-dump")}, None),
        ({}, None),
    ],
)
def test_read_without_support(fields, says):
    """Dump_Read needs flag 0x1 and version 2 beside the routine."""
    records = changed("filters", dump_read=FVE + 0x1200, **fields)
    texts = [f.text for f in checks.run(records) if f.rule == "filter-read-without-support"]
    assert [says in text for text in texts] == ([True] if says else [])


@pytest.mark.parametrize(
    ("build", "found"), [(7601, False), (9199, False), (9200, True), (Absent("unset"), False)]
)
def test_version_1_is_old_since_windows_8(build, found):
    """Version 2 exists since Windows 8 (build 9200)."""
    records = changed("filters", major_version=1)
    changed("machine", 0, records, build=build)
    assert ("filter-version-1" in broken_rules(records)) is found


NO_CALLBACKS = {
    "dump_start": 0,
    "dump_write": 0,
    "dump_finish": 0,
    "dump_read": 0,
}


def test_filter_without_callbacks():
    """A filter with Dump_Unload alone takes no part in a dump, whatever its layout lacks."""
    assert broken_rules(changed("filters", **NO_CALLBACKS)) == ["filter-without-callbacks"]


def test_unknown_callback_may_be_set():
    """One callback that is not known is enough not to say that there are none."""
    records = changed("filters", **{**NO_CALLBACKS, "dump_read": Absent("not-in-dump")})
    assert broken_rules(records) == []


# extensions


def test_reconstructed_extension_is_called_so():
    """A reconstructed extension is judged on what it holds, and the text says what it is."""
    records = changed("extensions", is_reconstructed=True, bytes_per_sector=100)
    assert "reconstructed" in only(records, "extension-geometry-invalid").text
    assert (
        "reconstructed"
        not in only(changed("extensions", bytes_per_sector=100), "extension-geometry-invalid").text
    )


def test_hibernation_type_is_right_in_the_hibernation_stack():
    """DumpType 2 is what the hibernation stack has."""
    records = changed("extensions", dump_type=2, stack="hibernation")
    assert broken_rules(records) == []


@pytest.mark.parametrize(
    ("architecture", "build", "size", "flawed"),
    [
        ("arm", 9200, 0x50, False),
        ("arm64", 22000, 0x58, False),
        ("x86-pae", 9200, 0x50, False),  # 32-bit: 0x4C used and 4 bytes of padding
        ("x86", 9200, 0x58, True),
        ("x64", 7601, 0x1234, False),  # Windows 7 has no Size
        (Absent("not-in-dump"), 22000, 0x1234, False),
    ],
)
def test_extension_size_depends_on_machine(architecture, build, size, flawed):
    """Size is sizeof(FILTER_EXTENSION) of the architecture, since Windows 8 (WDK ntdddump.h)."""
    records = changed("extensions", size=size)
    changed("machine", 0, records, architecture=architecture, build=build)
    assert ("extension-size-unexpected" in broken_rules(records)) is flawed


@pytest.mark.parametrize("sector", [512, 4096, 65536])
def test_sector_sizes_of_real_disks_are_valid(sector):
    """Powers of two from 512 to 65536 are sector sizes."""
    records = changed("extensions", bytes_per_sector=sector, cylinders=1, disk_size=1 << 40)
    assert broken_rules(records) == []


def test_disk_smaller_than_a_cylinder_is_valid():
    """A disk below 8 MB has 0 cylinders of 255 * 63 sectors."""
    assert broken_rules(changed("extensions", cylinders=0, disk_size=1 << 22)) == []


def test_zero_disk_size_is_told_once():
    """A disk size of 0 is below any geometry, which needs no second finding."""
    (finding,) = checks.run(changed("extensions", disk_size=0))
    assert finding.text == "DiskSize given to dump_dumpfve.sys (crash stack) is 0."


def test_disk_of_whole_cylinders_is_valid():
    """A disk may be exactly as large as its geometry, and have single tracks and sectors."""
    records = changed(
        "extensions", cylinders=1000, tracks_per_cylinder=1, sectors_per_track=1, disk_size=512000
    )
    assert broken_rules(records) == []


def test_disk_size_is_not_judged_by_a_wrong_sector_size():
    """With a sector size that is none the geometry tells nothing about the disk size."""
    records = changed("extensions", bytes_per_sector=1 << 20)
    assert broken_rules(records) == ["extension-geometry-invalid"]


# storage


def test_just_below_the_limit_is_not_slow():
    """A second is slow, a nanosecond less is not."""
    limit = 1000 * MS
    assert broken_rules(changed("requests", duration_ns=limit)) == ["storage-request-slow"]
    assert broken_rules(changed("requests", duration_ns=limit - 1)) == []


def test_request_open_for_long_is_slow():
    """A request that waited a second or more at the crash is told as slow and as in flight."""
    records = changed(
        "requests",
        in_flight=True,
        end=Absent("unset"),
        duration_ns=Absent("unset"),
        before_crash_ns=2500 * MS,
        status=0x20,
        error=0xDF,
    )
    assert broken_rules(records) == ["storage-request-slow", "storage-requests-in-flight"]
    assert "2,500.0 ms and was still open" in only(records, "storage-request-slow").text
    assert "open for 2,500.0 ms" in only(records, "storage-requests-in-flight").text


def test_requests_of_a_trace_are_judged_by_the_trace():
    """A trace has another clock and other statuses than the block in a dump."""
    records = changed("requests", duration_ns=5000 * MS, status=4)
    changed("sources", 0, records, kind="etl")
    assert broken_rules(records) == []


def test_open_request_without_start_has_no_wait():
    """Without a start time the wait of an open request is not known."""
    records = changed(
        "requests", in_flight=True, start=Absent("unset"), before_crash_ns=Absent("unset"), end=None
    )
    text = only(records, "storage-requests-in-flight").text
    assert text.endswith("were not finished when the machine crashed.")
    assert only(records, "storage-requests-in-flight").evidence.startswith(
        "READ(10) no. 0 = still open, start not recorded ("
    )
    assert broken_rules(records) == ["storage-requests-in-flight"]


def test_request_opened_at_the_crash_has_waited_no_time():
    """A wait of 0 is a wait, not an unknown one."""
    records = changed("requests", in_flight=True, before_crash_ns=0)
    finding = only(records, "storage-requests-in-flight")
    assert "open for 0.0 ms" in finding.text
    assert "= 0.0 ms and was still open (" in finding.evidence


def test_requests_without_times_are_not_counted_as_timed():
    """The share of slow requests counts those whose duration is known, 0 included."""
    records = changed("requests", duration_ns=2000 * MS)
    first = records["requests"][0]
    for duration in (0, Absent("unset"), Absent("unset")):
        records.add(first._replace(duration_ns=duration))
    text = only(records, "storage-request-slow").text
    assert text.startswith("1 of 2 timed storage requests")
    assert text.endswith("Times are exact to a clock tick (up to 15.6 ms).")


def test_status_of_open_request_is_no_failure():
    """While a request is in flight its status field holds the queue action (0x20), not a result."""
    records = changed("requests", in_flight=True, status=0x20, error=0xFE)
    assert "storage-request-failed" not in broken_rules(records)


@pytest.mark.parametrize("status", [0x00, 0x01, 0x81, 0x41, 0x12])
def test_srb_flags_do_not_make_a_failure(status):
    """The two top bits of an SRB status are flags; 0x12 also stands for a short transfer."""
    assert broken_rules(changed("requests", status=status)) == []


def test_many_slow_requests_are_one_finding():
    """The worst is named, five are listed, the rest is counted."""
    records = changed("requests", duration_ns=1000 * MS)
    first = records["requests"][0]
    records.add(*(first._replace(request=n, duration_ns=(1000 + n) * MS) for n in range(1, 10)))
    finding = only(records, "storage-request-slow")
    assert finding.text.startswith(
        "10 of 10 timed storage requests took 1000 ms or more; the slowest, READ(10) no. 9, "
        "took 1,009.0 ms."
    )
    assert finding.evidence.count("READ(10)") == 5
    assert finding.evidence.endswith("5 more in the table requests")


def test_five_slow_requests_are_all_shown():
    """Nothing is left to count when all are listed."""
    records = changed("requests", duration_ns=1000 * MS)
    records.add(*(records["requests"][0]._replace(request=n) for n in range(1, 5)))
    assert "more in the table" not in only(records, "storage-request-slow").evidence
