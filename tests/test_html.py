"""The HTML report as text: complete, self-contained, and closed to what an input may say."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from html.parser import HTMLParser
from typing import Any

import pytest
from conftest import SAMPLE_TRACES, make

import analyzer
from analyzer import records
from analyzer.case import Case
from analyzer.errors import AnalyzerError
from analyzer.records import Origin, Records

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}\u202egnp.sys"
SAMPLES = sorted(
    path.relative_to(SAMPLE_TRACES).as_posix()
    for pattern in ("*.dmp", "logs/*.log", "logs/*.reg")
    for path in SAMPLE_TRACES.glob(pattern)
)


class Page(HTMLParser):
    """Tags, ids, links and text of a page; open tags must close in order."""

    VOID = ("meta", "br", "wbr", "img", "input", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] not in ("script", "style"):
            self.text.append(data)

    def values(self, name: str) -> list[str]:
        """All values of an attribute."""
        return [value for _, found, value in self.attributes if found == name]

    def words(self) -> str:
        """The text a reader sees, with single spaces."""
        return " ".join("".join(self.text).split())


@pytest.fixture(scope="module")
def worst() -> Page:
    """The page of the worst sample."""
    return Page(analyzer.open(SAMPLE_TRACES / "broken-x64-worst.dmp").report("html"))


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_makes_a_sound_page(name: str) -> None:
    """Tags nest, ids are unique, links lead somewhere, and an ordinary case stays below 1 MB."""
    try:
        text = analyzer.open(SAMPLE_TRACES / name).report("html")
    except AnalyzerError:
        pytest.skip("not usable input")
    page = Page(text)
    assert len(text) < 1_000_000
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {link for link in page.values("href") if link[1:] not in ids} == set()


def test_nothing_is_loaded(worst: Page) -> None:
    """No element points outside, and the policy would not let it."""
    assert worst.values("src") == []
    assert all(link.startswith("#") for link in worst.values("href"))
    assert "link" not in worst.tags
    (policy,) = [value for value in worst.values("content") if "default-src" in value]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy


def test_policy_names_our_script_and_style_by_hash(sample: Any) -> None:
    """The browser runs exactly the script that we ship: its hash is in the policy."""
    text = analyzer.open(sample("healthy-x64-kernel.dmp")).report("html")
    for tag in ("script", "style"):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src &#39;sha256-{digest}&#39;" in text


def test_no_handler_or_style_stands_in_a_tag(worst: Page) -> None:
    """Scripts and styles are in one place each; none hides in an attribute."""
    names = {name for _, name, _ in worst.attributes}
    assert "style" not in names
    assert [name for name in names if name.startswith("on")] == []
    assert worst.tags.count("script") == 2  # the data and our own


def test_hostile_strings_are_text_everywhere() -> None:
    """A name from a dump that is markup, script or template comes out as harmless text."""
    made = Records()
    for record_type in records.TABLES.values():
        kinds = record_type.__annotations__
        fields = {n: HOSTILE for n, a in kinds.items() if "Text" in str(a)}
        fields.update({n: 1_709_647_629_123_000_000 for n, a in kinds.items() if "Time" in str(a)})
        made.add(make(record_type, **fields, origin=Origin(HOSTILE, HOSTILE, HOSTILE)))
    text = Case(made).report("html")
    page = Page(text)
    assert page.tags.count("script") == 2
    assert "img" not in page.tags
    assert "<script>alert" not in text
    assert "{{7*7}}" in page.words()
    assert "</script><script>alert(1)" in page.words()  # shown as text
    assert "\u202e" not in text
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert not set("<>&") & set(data)
    assert HOSTILE[:20] in json.dumps(json.loads(data))


def test_the_answer_and_all_findings_are_on_the_page(worst: Page) -> None:
    """What the other formats state stands here word for word."""
    case = analyzer.open(SAMPLE_TRACES / "broken-x64-worst.dmp")
    for sentence in case.answer.headline:
        assert " ".join(sentence.split()) in worst.words()
    for finding in case.records["findings"]:
        assert " ".join(finding.text.split()) in worst.words()
        assert " ".join(finding.advice.split()) in worst.words()


def test_evidence_leads_to_the_row_it_was_read_from(worst: Page) -> None:
    """Each evidence line of the worst sample links to the cell whose value it gives."""
    links = {link for link in worst.values("href") if link.startswith("#r-")}
    # Oracle: filter 1 is disabled, its extension has no device and sectors of 513 bytes, request 4
    # took 12 s, callback 6 is the Dump_Write in ntoskrnl.
    assert {
        "#r-filters-1-state",
        "#r-extensions-1-device_object",
        "#r-extensions-1-bytes_per_sector",
        "#r-requests-4-duration_ns",
        "#r-requests-3-status_name",
        "#r-machine-0-writer_status",
        "#r-callbacks-6-routine",
    } <= links


@pytest.mark.parametrize("table", ["events", "requests"])
def test_no_link_leads_to_a_row_that_is_left_out(table: str) -> None:
    """Evidence that was read from row 900 is no link where the page shows 300 rows."""
    made = Records()
    for number in range(900):
        origin = Origin("a.dmp", "list walk", file_offset=number)
        if table == "events":
            made.add(make(records.Event, event_id=number, origin=origin))
        else:
            made.add(make(records.Request, request=number, origin=origin))
    label = "event_id" if table == "events" else "request"
    proof = records.Evidence(label, 899, "Number", origin=Origin("a.dmp", "", file_offset=899))
    made.add(make(records.Finding, rule="x", severity="error", text="x", evidence=(proof,)))
    page = Page(Case(made).report("html"))
    links = {link for link in page.values("href") if link.startswith("#r-")}
    assert links == ({"#r-requests-899-request"} if table == "requests" else set())


def test_byte_map_shows_the_bytes_of_the_file(sample: Any) -> None:
    """The map holds the bytes at the file offset of the extension, padding included."""
    path = sample("healthy-x64-kernel.dmp")
    case = analyzer.open(path)
    text = case.report("html")
    first = text[text.index('data-extension="x0"') : text.index('data-extension="x1"')]
    cells = re.findall(r'<span class="byte[^>]*>([0-9a-f]{2})</span>', first)
    offset = case.records["extensions"][0].origin.file_offset
    assert bytes.fromhex("".join(cells)) == path.read_bytes()[offset : offset + 0x58]
    assert first.count('title="padding"') == 4  # behind DumpType on x64


def test_a_reconstructed_extension_has_no_bytes(sample: Any) -> None:
    """Bytes that were not read are not made up; the page says why."""
    text = analyzer.open(sample("minidump-x64.dmp")).report("html")
    assert re.findall(r'<span class="byte[^>]*>([0-9a-f]{2})</span>', text) == []
    assert "The bytes were not read" in text
    assert "The values are reconstructed from" in text


def test_an_extension_without_a_value_is_a_sentence() -> None:
    """No map of 88 unknown bytes: why there are none is told, and nothing else."""
    made = Records()
    made.add(make(records.Extension, filter="a.sys", stack="crash"))
    page = Page(Case(made).report("html"))
    assert "The bytes were not read" in page.words()
    assert page.values("data-extension") == []


def test_long_tables_are_cut_and_say_so() -> None:
    """A thousand rows are shown, the number of all is told, with the command that gives all."""
    made = Records()
    for number in range(1500):
        made.add(make(records.Residue, symbol=f"a+{number}", stack_of="processor 0"))
    text = Case(made).report("html")
    assert text.count('<tr id="r-residue-') == 1000
    assert "1,500 rows, the first 1,000 here" in text
    assert "dumpstart show residue --format csv" in text


@pytest.mark.parametrize(("filters", "is_said"), [(50, False), (51, True)])
def test_filters_that_are_not_laid_out_are_told(filters: int, is_said: bool) -> None:
    """The page lays out 50 filters and says how many more there are."""
    told = Records()
    for number in range(filters):
        told.add(make(records.Filter, filter=f"dump_{number}.sys", stack="crash"))
    page = Case(told).report("html")
    assert page.count('<article class="filter">') == min(filters, 50)
    assert ("1 more in the tables below" in page) is is_said


def test_a_long_trace_stays_below_a_megabyte() -> None:
    """Of 20,000 events with long texts the first are shown, and the number of all is told."""
    made = Records()
    for number in range(20_000):
        made.add(
            make(
                records.Event,
                time=1_709_647_629_123_000_000 + number,
                provider="Microsoft-Windows-Kernel-Process",
                name="ProcessStart",
                text=f"number {number} " + "x" * 300,
            )
        )
    text = Case(made).report("html")
    assert len(text) < 1_000_000
    assert "20,000 rows, the first 300 here" in text


def test_absent_values_give_their_reason(worst: Page) -> None:
    """What is not determined has its reason on the page, once per reason."""
    assert "memory keeps no clock of a callback" in worst.words()


def test_an_empty_case_is_a_page() -> None:
    """No records at all: an answer, no empty sections."""
    page = Page(Case(Records()).report("html"))
    assert "Nothing that the sources tell has a time." in page.words()
    assert "Findings" not in page.words()


def test_a_notebook_shows_a_case(sample: Any) -> None:
    """An opened case shows its answer and worst findings; hostile names stay text."""
    page = Page(analyzer.open(sample("broken-x64-worst.dmp"))._repr_html_())
    assert "A callback of a crash dump filter failed" in page.words()
    assert "switched off" in page.words()
    made = Records()
    made.add(make(records.Source, path=HOSTILE, kind="kernel dump"))
    assert Page(Case(made)._repr_html_()).tags.count("script") == 0
