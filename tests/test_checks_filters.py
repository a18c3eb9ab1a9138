"""The rules about filters and their callbacks: which fire, and which only seem to apply."""

from __future__ import annotations

import pytest
from healthy_crash import FVE, ORIGIN, blank, broken_rules, changed, healthy, module, only, row_of

from analyzer import checks
from analyzer.absence import Absent
from analyzer.records import (
    Anomaly,
    Callback,
)
from analyzer.tables import evidence_lines


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ("crash", "has 2 filter modules, but crashdmp's list has 1 filter."),
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
    told = broken_rules(records)
    assert told[-1] == rule
    # dumpfve has a row of its own: it encrypts, and crashdmp goes on without it
    assert told[:-1] == (["dump-in-plain-text"] if name == "dump_dumpfve.sys" else [])


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
    assert broken_rules(records) == [
        "dump-in-plain-text", "filter-disabled", "filter-callback-failed",
    ]  # fmt: skip


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
    assert broken_rules(records) == ["dump-in-plain-text", *["filter-callback-failed"] * 2]


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


@pytest.mark.parametrize("callback", ["Dump_Start", "Dump_Write"])
def test_no_text_speaks_of_another_callback(callback):
    """VeraCrypt's Dump_Start fails where its drive is not mounted; its Dump_Write does not."""
    failed = {"filter": "dump_veracrypt.sys", "callback": callback, "status": 0xC0000001}
    records = changed("filters", filter="dump_veracrypt.sys")
    changed("callbacks", 0, records, **failed)
    doubt = "VeraCrypt fails Dump_Start so, too"
    assert (doubt in only(records, "dump-in-plain-text").text) is (callback == "Dump_Start")
    found = only(records, "filter-callback-failed")
    assert "Dump_" not in checks.RULES[found.rule].next_step
    assert callback in found.text


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
    assert "old.sys = 0xfffff80491000000 to 0xfffff80491000fff" in evidence_lines(finding)[2]


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
