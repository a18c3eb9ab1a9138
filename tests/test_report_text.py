"""The text report: readable at 80 columns, plain ASCII, harmless whatever a dump is called."""

from __future__ import annotations

import re

import pytest
from conftest import SAMPLE_TRACES, make

import analyzer
from analyzer import formatting as fmt
from analyzer import records
from analyzer.absence import Absent
from analyzer.case import Case
from analyzer.records import Origin, Records

HOSTILE = "\x1b[2J\x1b]0;title\x07evil\r\n\u202egnp.sys" + "A" * 10_000


def test_sections_come_in_order(handmade: Records) -> None:
    """The answer leads; what the sources cannot tell ends the page."""
    report = Case(handmade).report(details=True)
    titles = re.findall(r"^\n(\S.*)$", report, re.MULTILINE)
    assert titles == [
        "Crash dump filters",
        "What to do next",
        "Crash and machine",
        "Dump stack",
        "Each filter",
        "What the sources cannot tell",
    ]


def test_every_line_fits_80_columns(handmade: Records) -> None:
    """The page is made for a console."""
    assert [
        line for line in Case(handmade).report(details=True).splitlines() if len(line) > 80
    ] == []


def test_extension_is_told_member_by_member(handmade: Records) -> None:
    """Each member has its WDK name and x64 offset; MBR members of a GPT disk are left out."""
    # Oracle: WDK ntdddump.h and ntdddisk.h for x64.
    report = Case(handmade).report(details=True)
    found = re.findall(r"^    \+0x([0-9a-f]{3})  ( *\S+) *(\S*)", report, re.MULTILINE)
    assert found == [
        ("000", "DumpType", "1"),
        ("008", "DeviceObject", "-"),
        ("010", "Geometry", ""),
        ("010", "  Cylinders", "121601"),
        ("018", "  MediaType", "12"),
        ("01c", "  TracksPerCylinder", "255"),
        ("020", "  SectorsPerTrack", "63"),
        ("024", "  BytesPerSector", "512"),
        ("028", "DiskSize", "1000204886016"),
        ("030", "PartitionInfo", ""),
        ("030", "  SizeOfPartitionInfo", "24"),
        ("034", "  PartitionStyle", "1"),
        ("038", "  Gpt.DiskId", "{6bfe1a52-0c1d-4b7e-9a3c-112233445566}"),
        ("048", "DumpData", "0x0000000000000000"),
        ("050", "Size", "88"),
        ("054", "Flags", "0x00000000"),
    ]


def test_extension_of_a_32_bit_machine_has_its_offsets(handmade: Records) -> None:
    """The architecture of the machine decides the offsets."""
    # Oracle: Windows 7 x86 code reads BytesPerSector at 0x1C and DumpData at 0x40.
    handmade["machine"][0] = handmade["machine"][0]._replace(architecture="x86")
    report = Case(handmade).report(details=True)
    assert "+0x01c    BytesPerSector" in report
    assert "+0x040  DumpData" in report


def test_reasons_stand_beside_what_is_missing(handmade: Records) -> None:
    """Every absent value of the filter has its reason once."""
    report = " ".join(Case(handmade).report(details=True).split())
    assert "not determined: device_object (no page for it)" in report
    assert "not determined: was_called, status, duration_ns (a dump holds no record" in report
    assert "mbr_signature" not in report


def test_a_reconstructed_extension_is_marked(handmade: Records) -> None:
    """A value that was not read from a FILTER_EXTENSION is never shown as if it were."""
    extension = handmade["extensions"][0]
    handmade["extensions"][0] = extension._replace(
        is_reconstructed=True, origin=Origin("machine.dmp", "dump stack context")
    )
    report = Case(handmade).report(details=True)
    assert "reconstructed, not read: dump stack context" in report
    assert "the filter's own FILTER_EXTENSION was not read" in " ".join(report.split())


def test_an_extension_without_a_filter_node_is_shown(handmade: Records) -> None:
    """Small dumps hold the context but no node; the extension must not vanish."""
    handmade["filters"].clear()
    report = Case(handmade).report(details=True)
    assert "  dump_filter.sys (crash stack)" in report
    assert "+0x028  DiskSize" in report


def test_findings_show_severity_rule_evidence_and_advice(handmade: Records) -> None:
    """A finding is told with all its parts, the most severe first."""
    handmade.add(
        make(records.Finding, rule="b", severity="info", text="Later.", advice="Wait."),
        make(
            records.Finding,
            rule="a",
            severity="error",
            text="First.",
            evidence=(records.Evidence("x", 1, "Number"),),
        ),
    )
    report = Case(handmade).report(details=True)
    section = report[report.index("Findings") : report.index("Crash and machine")].splitlines()
    assert section[:-1] == [
        "Findings",
        "  error  a",
        "    First.",
        "    evidence: x = 1",
        "    rule: a",
        "  info  b",
        "    Later.",
        "    Do: Wait.",
    ]


def test_requests_are_summed_up_and_the_last_shown() -> None:
    """The number of requests, in flight and slowest lead; the last five follow."""
    made = Records()
    for number in range(8):
        made.add(
            make(
                records.Request,
                operation=f"WRITE{number}",
                duration_ns=(number + 1) * 1_000_000 if number else None,
                before_crash_ns=(number + 1) * 1_000_000_000,
                in_flight=number == 0,
            )
        )
    report = Case(made).report(details=True)
    assert "8 requests, 1 in flight; slowest 8 ms (WRITE7)" in report
    assert re.findall(r"^  WRITE(\d)", report, re.MULTILINE) == ["4", "3", "2", "1", "0"]
    assert re.search(r"WRITE0 +1 s +in flight", report)


def test_hostile_strings_are_harmless_everywhere() -> None:
    """Escapes, line breaks and direction marks from a dump are shown, not obeyed; all is short."""
    made = Records()
    for table, record_type in records.TABLES.items():
        kinds = record_type.__annotations__
        texts = {n: HOSTILE for n, a in kinds.items() if "Text" in str(a)}
        made.add(make(record_type, **texts, origin=Origin(HOSTILE, HOSTILE, HOSTILE)))
        assert made[table]
    made.add(make(records.Callback, filter=Absent("not-found", HOSTILE), callback="Dump_Start"))
    report = Case(made).report(details=True)
    assert re.findall(r"[^\n -~]", report) == []
    assert "\\x1b[2J" in report
    assert max(map(len, report.splitlines())) < 2100  # one unbroken word of a finding
    assert len(report) < 60_000


def test_colour_only_when_asked_for(handmade: Records) -> None:
    """A report in a file holds no escapes; on a terminal the severity is coloured."""
    handmade.add(make(records.Finding, rule="a", severity="error", text="x"))
    assert "\x1b" not in Case(handmade).report(details=True)
    assert "\x1b[31merror\x1b[0m  a" in Case(handmade).report(colour=True)


def test_an_empty_case_has_an_answer_only() -> None:
    """Without rows there are no empty sections."""
    report = Case(Records()).report()
    assert report.startswith("This input shows no crash")
    assert report.count("\n\n") == 1


def test_an_unusable_source_shows_its_reason() -> None:
    """A file that was not read is listed with the sentence that says why."""
    made = Records()
    made.add(make(records.Source, path="x.dmp", kind=Absent("not-found", "it is empty")))
    report = Case(made).report(details=True)
    assert "  x.dmp: not usable\n    it is empty\n" in report


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1_000, "1 us"),
        (1_234_567, "1.235 ms"),
        (999_949, "999.9 us"),
        (999_960, "1 ms"),
        (999_999_999, "1 s"),
        (59_000_000_000, "59 s"),
        (3_599_400_000_000, "59 min 59 s"),
        (3_599_600_000_000, "1 h 0 min"),
        (123_456_789_000_000, "34 h 18 min"),
        (-2_500_000, "-2.5 ms"),
    ],
)
def test_durations_have_a_unit_that_fits(ns: int, text: str) -> None:
    """Four digits and the unit; no exponents."""
    assert fmt.duration(ns) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 bytes"), (999, "999 bytes"), (999_949, "999.9 kB"), (999_999, "1 MB"),
        (500107862016, "500.1 GB"), (1 << 64, "18.45 EB"),
    ],
)  # fmt: skip
def test_sizes_have_a_decimal_unit(number: int, text: str) -> None:
    """Disk makers' units, as on the label."""
    assert fmt.size(number) == text


def test_sources_are_told_apart(handmade: Records) -> None:
    """Rows of two files stand under the name of their file, findings beside it."""
    other = Origin("other.dmp", "header field")
    for rows in handmade.tables.values():
        rows += [row._replace(origin=other) for row in rows]
    handmade["sources"][1] = handmade["sources"][1]._replace(path="other.dmp")
    handmade.add(make(records.Finding, rule="r", severity="info", text="x", origin=other))
    lines = Case(handmade).report(details=True).splitlines()
    assert "  info  r: other.dmp" in lines
    # Crash and machine, dump stack, filters: once per file.
    assert lines.count("  from machine.dmp:") == 3
    assert lines.count("  from other.dmp:") == 3


def test_many_findings_of_a_rule_are_counted_not_listed() -> None:
    """A thousand times the same does not bury the rest."""
    made = Records()
    for _ in range(1000):
        made.add(make(records.Finding, rule="many", severity="warning", text="Again."))
    made.add(make(records.Finding, rule="one", severity="info", text="Once."))
    report = Case(made).report(details=True)
    assert report.count("    Again.") == 5
    assert "  many: 995 more; 'dumpstart show findings' lists them." in report
    assert "    Once." in report


def test_long_evidence_is_shown_whole() -> None:
    """Each piece of evidence has its own line, none is lost at the end."""
    evidence = tuple(records.Evidence(f"value {n}", n, "Address") for n in range(40))
    made = Records()
    made.add(make(records.Finding, rule="r", severity="error", text="x", evidence=evidence))
    report = Case(made).report(details=True)
    assert "    evidence: value 0 = 0x0000000000000000\n" in report
    assert "              value 39 = 0x0000000000000027\n" in report


def test_wrong_cells_are_coloured() -> None:
    """Colour changes no column: without its escapes the report is the plain one."""
    case = analyzer.open(SAMPLE_TRACES / "broken-x64-worst.dmp")
    coloured = case.report(colour=True)
    assert (
        "\x1b[31mlikely off\x1b[0m  likely returned  \x1b[31mSTATUS_UNSUCCESSFUL\x1b[0m" in coloured
    )
    assert re.sub("\x1b\\[[0-9]*m", "", coloured) == case.report()


def test_a_number_and_its_unit_stay_on_one_line() -> None:
    """At any width; the text itself is not changed."""
    text = "every filter had returned within 1.5 s of the bugcheck, up 2 h 5 min, 1 TB disk"
    for start in range(1, 40):
        lines = fmt.wrapped("x" * start + " " + text + " " + text)
        assert " ".join(lines) == "x" * start + " " + text + " " + text
        assert not [line for line in lines if line.endswith(("1.5", " 2", "2 h", " 5", " 1"))]


@pytest.mark.parametrize(
    ("number", "told"), [(1, "1 event"), (999, "999 events"), (17078, "17,078 events")]
)
def test_counts_for_people_have_separators(number: int, told: str) -> None:
    """Never in CSV or JSON: those are made of the numbers themselves."""
    assert fmt.counted(number, "event") == told


@pytest.mark.parametrize(
    ("ns", "told"), [(119_900_000_000, "119.9 s"), (796_700_000_000, "13 min 17 s")]
)
def test_minutes_are_told_as_minutes(ns: int, told: str) -> None:
    """From two minutes on."""
    assert fmt.duration(ns) == told
