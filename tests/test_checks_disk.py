"""The rules about extensions and storage requests: limits, real disks, and what is told once."""

from __future__ import annotations

import pytest
from healthy_crash import MS, broken_rules, changed, only

from analyzer import checks
from analyzer.absence import Absent
from analyzer.tables import evidence_lines


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
    size = 100 * 255 * 63 * sector
    records = changed("extensions", bytes_per_sector=sector, cylinders=100, disk_size=size)
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
    assert "2.5 s and was still open" in only(records, "storage-request-slow").text
    assert "open for 2.5 s" in only(records, "storage-requests-in-flight").text


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
    assert text.endswith("was not finished when the machine crashed.")
    assert evidence_lines(only(records, "storage-requests-in-flight"))[0].startswith(
        "READ(10) no. 0 = still open, start not recorded ("
    )
    assert broken_rules(records) == ["storage-requests-in-flight"]


def test_request_opened_at_the_crash_has_waited_no_time():
    """A wait of 0 is a wait, not an unknown one."""
    records = changed("requests", in_flight=True, before_crash_ns=0)
    finding = only(records, "storage-requests-in-flight")
    assert "open for 0 ns" in finding.text
    assert "= 0 ns and was still open (" in evidence_lines(finding)[0]


def test_requests_without_times_are_not_counted_as_timed():
    """The share of slow requests counts those whose duration is known, 0 included."""
    records = changed("requests", duration_ns=2000 * MS)
    first = records["requests"][0]
    for duration in (0, Absent("unset"), Absent("unset")):
        records.add(first._replace(duration_ns=duration))
    text = only(records, "storage-request-slow").text
    assert text.startswith("1 of 2 timed storage requests")
    assert text.endswith("Times are exact to a clock tick (up to 15.62 ms).")


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
        "10 of 10 timed storage requests took 1 s or more; the slowest, READ(10) no. 9, "
        "took 1.009 s."
    )
    lines = evidence_lines(finding)
    assert sum("READ(10)" in line for line in lines) == 5
    assert lines[-1] == "5 more in the table requests"


def test_five_slow_requests_are_all_shown():
    """Nothing is left to count when all are listed."""
    records = changed("requests", duration_ns=1000 * MS)
    records.add(*(records["requests"][0]._replace(request=n) for n in range(1, 5)))
    assert not any(
        "more in the table" in line
        for line in evidence_lines(only(records, "storage-request-slow"))
    )
