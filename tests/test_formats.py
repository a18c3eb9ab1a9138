"""Machine formats: Markdown, JUnit XML, Perfetto, Parquet; all tell what the text report tells."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pyarrow.parquet
import pytest
from conftest import SAMPLE_TRACES, make

import analyzer
from analyzer import records
from analyzer.absence import Absent
from analyzer.case import Case
from analyzer.cli import main
from analyzer.names import ntstatus
from analyzer.records import Origin, Records
from analyzer.reports import FORMATS, markdown, sections, text, timeline

SAMPLES = (
    "broken-x64-worst.dmp",
    "healthy-x64-kernel.dmp",
    "minidump-x64.dmp",
    "logs/write-stalled-chunk.log",
    "logs/crash-control-faulty.reg",
)
HOSTILE = "</a>|`x` [a](http://e.vil) @all ![i](x) #12 <b> \x1b[2J\u202e _x_ *y* ~z~ www.e.vil"
CRASH = 1_709_647_629_123_000_000


def case_of(name: str) -> Case:
    """A shipped sample."""
    return analyzer.open(SAMPLE_TRACES / name)


class Text(HTMLParser):
    """The text of a page without its scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._quiet = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._quiet = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._quiet = False

    def handle_data(self, data: str) -> None:
        self.parts += [] if self._quiet else [data]


def strings(value: Any) -> list[str]:
    """Every text in a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for one in value for text in strings(one)]
    return [value] if isinstance(value, str) else []


def plain(format: str, report: str) -> str:
    """What a reader of a format reads, with single spaces."""
    if format == "html":
        report = "".join(Text(report).parts)
    elif format == "markdown":
        report = html.unescape(re.sub(r"\\([\\`*_\[\]<>|~#])", r"\1", report))
    elif format == "json":
        made = json.loads(report)
        rows = made["tables"]["findings"]
        told = [str(row[name]) for row in rows for name in ("severity", "rule", "text", "advice")]
        report = " ".join([*strings(made["answer"]), *told])
    return " ".join(report.split())


@pytest.mark.parametrize("format", ["text", "json", "html", "markdown", "notebook", "debugger"])
@pytest.mark.parametrize("name", SAMPLES)
def test_formats_state_the_same(format: str, name: str) -> None:
    """The headline, each verdict and each problem stand in every format, word for word."""
    case = case_of(name)
    if format == "notebook":
        read = plain("html", case._repr_html_())
    elif format == "debugger":
        read = plain("text", "".join(text.write(case.records, details=True)))
    else:
        options = {"details": True} if format == "text" else {}
        read = plain(format, case.report(format, **options))
    answer = case.answer
    for sentence in (*answer.headline, *answer.remarks, answer.unknown, answer.checked):
        assert " ".join(sentence.split()) in read
    for one in answer.filters:
        lines = [line.text for line in one.remarks]
        for cell in (one.filter, one.dump_start, one.status, one.duration, *lines):
            assert cell in read
    shown = sections.MOST_PROBLEMS if format in ("notebook", "html") else len(answer.problems)
    for problem in answer.problems[:shown]:
        assert problem.title in read
        assert " ".join(problem.text.split()) in read
        assert " ".join(problem.advice.split()) in read


def test_a_sentence_is_changed_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """One changed wording changes every format."""
    case = case_of("healthy-x64-kernel.dmp")
    monkeypatch.setattr("analyzer.answer.crash.when", lambda _rows: "SOMEWHEN")
    for format in ("text", "json", "html", "markdown", "junit"):
        assert "SOMEWHEN" in case.report(format)
    assert "SOMEWHEN" in case._repr_html_()


@pytest.mark.parametrize("format", FORMATS)
def test_command_writes_every_format(format: str, tmp_path: Any) -> None:
    """--format and --output work for all; the exit code tells of findings whatever the format."""
    for name, code in (("healthy-x64-kernel.dmp", 0), ("broken-x64-worst.dmp", 1)):
        target = tmp_path / f"{format}.out"
        arguments = ["analyze", str(SAMPLE_TRACES / name), "--format", format]
        assert main([*arguments, "--output", str(target)]) == code
        assert target.stat().st_size > 500


@pytest.mark.parametrize("format", FORMATS)
def test_an_empty_case_has_every_format(format: str) -> None:
    """No records, no crash."""
    assert Case(Records()).report(format)


# -- Markdown ----------------------------------------------------------------------------------


def test_markdown_keeps_hostile_text_as_text() -> None:
    """No link, image, mention, reference, tag or table cell comes out of a name."""
    shown = markdown.text(HOSTILE)
    assert html.unescape(re.sub(r"\\([\\`*_\[\]<>|~#])", r"\1", shown)) == (
        HOSTILE.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
    )
    for mark in ("<", "@", "http://", "www.", " #12", " _x"):
        assert mark not in shown
    assert re.findall(r"(?<!\\)[|`*\[\]~]", shown) == []


def test_markdown_code_cannot_be_left() -> None:
    """A span of code has a longer fence than any run of backticks in it."""
    assert markdown.code("a`b``c") == "``` a`b``c ```"
    assert markdown.code("a|b") == "`a\\|b`"


def test_markdown_table_has_five_cells_a_row(handmade: Records) -> None:
    """A hostile name adds no cell."""
    call = handmade["callbacks"][0]
    handmade["callbacks"][0] = call._replace(filter=HOSTILE, status_name="a|b", status=1)
    report = Case(handmade).report("markdown")
    report = report[report.index("#### ") :]
    rows = [line for line in report.splitlines() if line.startswith("| Dump")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6}


def test_wrong_values_are_bold() -> None:
    """The state and the status of the filter that failed, and what is wrong below its row."""
    report = case_of("broken-x64-worst.dmp").report("markdown")
    (row,) = (line for line in report.splitlines() if line.startswith("| 2 of 2"))
    assert re.findall(r"\*\*(.*?)\*\*", row) == ["likely off", "STATUS_UNSUCCESSFUL"]
    assert "WRONG: **A filter was given no device**" in report


# -- JUnit -------------------------------------------------------------------------------------


def junit(case: Case, **options: Any) -> ElementTree.Element:
    """The parsed document."""
    return ElementTree.fromstring(case.report("junit", **options))


@pytest.mark.parametrize(("fail_on", "failures"), [("error", 6), ("warning", 9), ("never", 0)])
def test_junit_fails_as_the_exit_code_does(fail_on: str, failures: int) -> None:
    """The worst sample has 6 errors and 3 warnings; each is a case that fails, if asked for."""
    root = junit(case_of("broken-x64-worst.dmp"), fail_on=fail_on)
    assert root.get("failures") == str(failures)
    assert len(root.findall(".//failure")) == failures
    assert root.get("tests") == str(len(root.findall(".//testcase"))) == "11"


def test_junit_of_a_healthy_case_passes() -> None:
    """There is a case, it passes, and what is only information is output."""
    root = junit(case_of("healthy-x64-kernel.dmp"))
    assert (root.get("failures"), root.get("errors")) == ("0", "0")
    names = [case.get("name") for case in root.iter("testcase")]
    assert names == ["can be read", "storage-requests-in-flight storage"]
    assert root.find(".//system-out").text.startswith("info: 1 of 20 recorded storage")


def test_junit_names_unusable_files_as_errors(tmp_path: Any) -> None:
    """A file that cannot be read is an error of its suite."""
    bad = tmp_path / "bad.dmp"
    bad.write_bytes(b"no dump")
    case = analyzer.open(SAMPLE_TRACES / "healthy-x64-kernel.dmp", bad)
    root = junit(case)
    assert root.get("errors") == "1"
    (suite,) = [s for s in root.iter("testsuite") if s.find(".//error") is not None]
    assert suite.get("name").endswith("bad.dmp")


def test_junit_of_hostile_strings_is_xml() -> None:
    """Control characters, which XML cannot hold, and markup come out escaped."""
    made = Records()
    origin = Origin(HOSTILE + "\0\ud800", "x")
    made.add(
        make(records.Finding, rule=HOSTILE, severity="error", text=HOSTILE + "\0", origin=origin)
    )
    assert "\\x1b[2J" in junit(Case(made)).find(".//failure").get("message")


# -- Perfetto ----------------------------------------------------------------------------------


def calls(count: int) -> Records:
    """Two filters on two processors, with calls that overlap and some without times."""
    made = Records()
    made.add(make(records.Machine, system_time=CRASH))
    for number in range(count):
        made.add(
            make(
                records.Callback,
                filter=("a.sys", "b.sys")[number % 2],
                callback="Dump_Write",
                processor=number // 2 % 2,
                entry_time=CRASH + number * 1001,
                duration_ns=9_999,
                status=0,
                status_name=ntstatus.name(0),
            ),
            make(records.Callback, filter="a.sys", callback="Dump_Start"),
            make(
                records.Request,
                operation="READ",
                start=CRASH - number * 77,
                end=CRASH - number * 77 + 5_000_001,
                in_flight=False,
                status=1,
                status_name="SRB_STATUS_SUCCESS",
            ),
        )
    return made


def trace(case: Case) -> dict[str, Any]:
    """The exported trace; its events follow the Trace Event Format."""
    made = json.loads(case.report("perfetto"))
    for event in made["traceEvents"]:
        assert event["ph"] in ("X", "M", "i")
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert event["name"]
        if event["ph"] == "M":
            assert event["args"]
        else:
            assert event["ts"] >= 0
            assert isinstance(event["cat"], str)
        if event["ph"] == "X":
            assert event["dur"] >= 0
    return made


@pytest.mark.parametrize("name", [*SAMPLES, ""])
def test_perfetto_has_a_slice_for_each_timed_row(name: str) -> None:
    """As many slices of a table as it has rows with a time; the others are counted beside."""
    case = case_of(name) if name else Case(calls(50))
    made = trace(case)
    for table in ("callbacks", "requests", "stages"):
        slices = [e for e in made["traceEvents"] if e["ph"] == "X" and e["cat"] == table]
        untimed = int(made["otherData"].get(f"left out: {table} without a time", 0))
        assert len(slices) + untimed == len(case.records[table])
        assert len({e["args"]["row"] for e in slices}) == len(slices)
    if not name:
        assert sum(e["ph"] == "X" for e in made["traceEvents"]) == 100


def test_perfetto_tracks_never_overlap() -> None:
    """Within a track each slice ends before the next begins, to the nanosecond."""
    tracks: dict[int, list[tuple[float, float]]] = {}
    made = trace(Case(calls(200)))
    for event in made["traceEvents"]:
        if event["ph"] == "X":
            start = round(event["ts"] * 1000)
            tracks.setdefault(event["tid"], []).append((start, start + round(event["dur"] * 1000)))
    assert len(tracks) > 4
    for slices in tracks.values():
        slices.sort()
        assert all(one[1] <= other[0] for one, other in zip(slices, slices[1:]))
    names = [e["args"]["name"] for e in made["traceEvents"] if e["name"] == "thread_name"]
    assert {"a.sys (processor 0)", "b.sys (processor 1)", "storage requests"} <= set(names)


def test_perfetto_keeps_nanoseconds() -> None:
    """The times of the trace give back the times of the records."""
    made = trace(Case(calls(9)))
    zero = float(made["otherData"]["time_0_at_us"])
    starts = sorted(
        round((e["ts"] - zero) * 1000)
        for e in made["traceEvents"]
        if e["ph"] == "X" and e["cat"] == "callbacks"
    )
    assert starts == [number * 1001 for number in range(9)]


def test_perfetto_marks_bounds() -> None:
    """A slice that is a bound is not called a duration."""
    events = trace(case_of("logs/start-slow.log"))["traceEvents"]
    (bound,) = [e for e in events if e["name"].endswith("(at most)")]
    assert bound["dur"] == 31_250_000
    assert bound["args"]["outcome"] == timeline.KINDS[timeline.BOUND]


# -- Parquet -----------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["filters", "requests", "modules", "events"])
def test_parquet_keeps_every_value_and_type(table: str, tmp_path: Any) -> None:
    """Read back, the file is the DataFrame: addresses unsigned, times in UTC, null where absent."""
    target = tmp_path / "t.parquet"
    path = str(SAMPLE_TRACES / "healthy-x64-kernel.dmp")
    assert main(["show", table, path, "--format", "parquet", "--output", str(target)]) == 0
    made = pyarrow.parquet.read_table(target)
    expected = getattr(analyzer.open(path), table)
    assert made.column_names == list(expected.columns)
    assert made.num_rows == len(expected)
    assert made.schema.metadata[b"table"] == table.encode()
    for name in expected.columns:
        values = [None if value is None else value for value in made[name].to_pylist()]
        kept = [None if value is None or value != value else value for value in values]
        wanted = [
            None if missing else value
            for value, missing in zip(expected[name].tolist(), expected[name].isna())
        ]
        assert kept == wanted, name
    if table == "filters":
        assert str(made.schema.field("node").type) == "uint64"
        assert made["node"][0].as_py() == 0xFFFFC08BE4002110


def test_parquet_needs_a_file(capsys: Any) -> None:
    """Binary data is not written to a terminal."""
    path = str(SAMPLE_TRACES / "healthy-x64-kernel.dmp")
    assert main(["show", "filters", path, "--format", "parquet"]) == 2
    assert "name a file with --output" in capsys.readouterr().err


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Any) -> None:
    """The message says what to install."""
    code = (
        "import sys; sys.modules['pyarrow'] = None\nfrom analyzer.cli import main\n"
        f"sys.exit(main(['show', 'filters', {str(SAMPLE_TRACES / 'minidump-x64.dmp')!r}, "
        f"'--format', 'parquet', '--output', {str(tmp_path / 'x')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install pyarrow" in done.stderr


def test_absent_reasons_reach_markdown() -> None:
    """A source that could not be used says why."""
    made = Records()
    made.add(make(records.Source, path="x.dmp", kind=Absent("not-found", "it is empty")))
    assert "x.dmp: not usable\n\nit is empty\n" in Case(made).report("markdown")
