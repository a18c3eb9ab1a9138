"""The answer on one screen: what a user reads first, for every kind of input."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from conftest import SAMPLE_TRACES, make, shared_sample
from generator_cases import CRASH, EventLog
from test_capture_file import facts, write

import analyzer
from analyzer import formatting as fmt
from analyzer import records
from analyzer.cli import main
from analyzer.names import drivers
from analyzer.records import Records

SHARED = Path(os.environ.get("DUMPSTART_SHARED", ""))
KINDS = ("*.dmp", "captures/*.jsonl", "captures", "traces/*.etl", "logs/[a-z]*", "cases/*.zip")
SHIPPED = [path for kind in KINDS for path in sorted(SAMPLE_TRACES.glob(kind))]
REFUSED = 2


def shared() -> list[Path]:
    """Real files, where they are there."""
    return [p for p in sorted(SHARED.glob("*/*")) if p.is_file()] if SHARED.name else []


@pytest.mark.parametrize("path", [*SHIPPED, *shared()], ids=lambda path: path.name)
def test_one_screen(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At most 40 lines when all is well and 60 when not, 80 columns, the headline first."""
    code = main(["analyze", str(path)])
    text = capsys.readouterr().out
    if code == REFUSED:
        assert text == ""
        return
    lines = text.splitlines()
    assert len(lines) <= (60 if code else 40)
    assert max(map(len, lines)) <= 80
    answer = analyzer.open(path).answer
    assert " ".join(text.split()).startswith(" ".join(answer.headline[0].split()))
    assert " ".join(text.split()).count("not determined") <= 2
    for one in answer.filters:
        assert one.filter[:20] in text


@pytest.mark.parametrize("path", [*SHIPPED, *shared()], ids=lambda path: path.name)
def test_a_row_for_each_filter(path: Path) -> None:
    """No filter that a source names is missing from the verdicts."""
    try:
        case = analyzer.open(path)
    except analyzer.errors.AnalyzerError:
        return
    shown = {drivers.plain_name(one.filter) for one in case.answer.filters}
    named = {row.filter for table in ("filters", "callbacks") for row in case.records[table]}
    loaded = {m.name for m in case.records["modules"] if m.role == drivers.FILTER and m.loaded}
    assert {drivers.plain_name(n) for n in (named | loaded) if isinstance(n, str)} <= shown


def case_of(*made: Any) -> Any:
    """A case of these records."""
    from analyzer.case import Case

    all_of = Records()
    all_of.add(*made)
    return Case(all_of)


def test_two_unnamed_filters_keep_their_own_data() -> None:
    """What has no name is told apart by its own address."""
    rows = []
    for number, sector in enumerate((512, 4096)):
        at = 0xFFFFC08BE4000000 + 0x1000 * number
        rows.append(make(records.Extension, stack="crash", extension=at, bytes_per_sector=sector))
    first, second = case_of(*rows).answer.filters
    assert "512-byte" in first.extension
    assert "4096-byte" in second.extension
    assert "4096" not in first.extension


def test_a_run_that_differs_is_named() -> None:
    """A folder of captures: which run, which filter, by how much."""
    answer = analyzer.open(SAMPLE_TRACES / "captures").answer
    assert answer.headline[0] == (
        "12 runs with 24 calls of Dump_Start: none failed, and they took 2.203 to 10.47 ms."
    )
    # Oracle: the samples' generator, of which runs 9 to 12 have the slower driver.
    assert answer.headline[1] == (
        "4 of 12 runs differ: Dump_Start of dump_acmeflt.sys took 9.62 to 10.47 ms in "
        "run-09.jsonl, run-10.jsonl, run-11.jsonl and run-12.jsonl, and 2.712 ms in the median "
        "of the others."
    )


def test_a_slower_start_is_in_the_headline() -> None:
    """Run 9 against run 1: the status alone would say that all is well."""
    runs = SAMPLE_TRACES / "captures"
    answer = analyzer.open(runs / "run-09.jsonl", baseline=[runs / "run-01.jsonl"]).answer
    assert answer.headline[1] == (
        "Dump_Start of dump_acmeflt.sys took 9.62 ms; in the baseline it took 2.761 ms."
    )


def test_every_problem_is_in_the_answer() -> None:
    """Errors and warnings are never left out: each is a problem or told with one."""
    from analyzer.checks import RULES

    for path in SHIPPED:
        case = analyzer.open(path)
        titles = {p.title for p in case.answer.problems}
        titles |= {title for p in case.answer.problems for title in p.also}
        for finding in case.records["findings"]:
            if finding.severity in ("error", "warning"):
                assert RULES[finding.rule].title in titles


def test_what_is_wrong_with_a_filter_is_typed() -> None:
    """The fields that findings speak of carry the severity; those of the sound filter none."""
    sound, broken = analyzer.open(SAMPLE_TRACES / "broken-x64-worst.dmp").answer.filters
    assert (dict(sound.wrong), sound.faults) == ({}, ())
    assert not sound.is_off
    assert dict(broken.wrong) == {"state": "error", "status": "error", "extension": "error"}
    assert broken.is_off
    assert {fault.severity for fault in broken.faults} == {"error", "warning"}


def test_what_is_wrong_with_a_nameless_filter_stays_with_it() -> None:
    """Of two filters without a name the one whose sectors cannot be is marked."""
    from analyzer import checks
    from analyzer.case import Case

    made = Records()
    for number, sector in enumerate((512, 513)):
        origin = records.Origin("a.dmp", "list walk", address=0x1000 * number)
        made.add(
            make(records.Extension, stack="crash", extension=0x1000 * number, origin=origin,
                 bytes_per_sector=sector)
        )  # fmt: skip
    made.add(*checks.run(made))
    assert [dict(one.wrong) for one in Case(made).answer.filters] == [{}, {"extension": "error"}]


def test_a_slow_call_marks_its_duration() -> None:
    """Of run 9 against run 1, whose Dump_Start took a third of the time."""
    runs = SAMPLE_TRACES / "captures"
    case = analyzer.open(runs / "run-09.jsonl", baseline=[runs / "run-01.jsonl"])
    assert [dict(one.wrong) for one in case.answer.filters] == [{}, {"duration": "warning"}]


def test_a_failed_call_marks_its_own_line() -> None:
    """One of 40 calls of Dump_Write failed; Dump_Start and Dump_Finish did not."""
    _, acme = analyzer.open(SAMPLE_TRACES / "traces" / "crash-callbacks.etl").answer.filters
    assert dict(acme.wrong) == {}
    assert [line.text.partition(":")[0] for line in acme.remarks] == ["Dump_Write", "Dump_Finish"]
    assert [line.severity for line in acme.remarks] == ["error", ""]


def test_a_fault_of_the_other_stack_stays_there() -> None:
    """The copy in the hibernation stack was switched off, that in the crash stack was not."""
    made = Records()
    for stack, name in (("crash", "dump_a.sys"), ("hibernation", "hiber_a.sys")):
        is_off = stack == "hibernation"
        made.add(make(records.Filter, filter=name, stack=stack, is_disabled=is_off, node=is_off))
    from analyzer import checks
    from analyzer.case import Case

    made.add(*checks.run(made))
    rows = Case(made).answer.filters
    assert [(one.stack, dict(one.wrong)) for one in rows] == [
        ("crash", {}), ("hibernation", {"state": "error"}),
    ]  # fmt: skip


def test_the_one_input_is_not_named_as_evidence() -> None:
    """Which file shows a call matters where there are several."""
    runs = [SAMPLE_TRACES / "captures" / f"run-0{number}.jsonl" for number in (1, 2)]
    assert {one.evidence for one in analyzer.open(runs[0]).answer.filters} == {""}
    assert {one.evidence for one in analyzer.open(*runs).answer.filters} == {"2 sources"}


def test_a_trace_without_calls_tells_the_time_it_covers() -> None:
    """The first and the last event of the table, as its rows have them."""
    case = analyzer.open(shared_sample("etl/microsoft_demikernel__PktMon.etl"))
    times = [row.time for row in case.records["events"]]
    length = fmt.duration(max(times) - min(times))
    told = f"The trace holds 467 events in {length} from {fmt.moment(min(times))} on, and no call"
    assert case.answer.headline[0].startswith(told)


def test_every_finding_is_a_sentence() -> None:
    """In the samples each text begins with a capital or a name and ends with a full stop."""
    for path in SHIPPED:
        for finding in analyzer.open(path).records["findings"]:
            first = finding.text.split(" ", 1)[0]
            assert first not in ("the", "a", "an", "its", "it", "this"), finding.text
            assert finding.text.rstrip().endswith(".") or "reg add" in finding.text, finding.text


def test_crashes_are_told_apart_in_the_filters() -> None:
    """Of two crashes the filters of one are known, the log is of the other: each is said."""
    from analyzer.reports import sections

    answer = analyzer.open(SAMPLE_TRACES / "cases" / "two-crashes.zip").answer
    (filters,) = (s for s in sections.of_answer(answer) if s.key == "filters")
    titles = [b.text for b in filters.blocks if getattr(b, "text", "").endswith(":")]
    assert titles == ["Registered (tied to none of the crashes):", "Crash 1, crash stack:"]
    assert {one.crash for one in answer.filters} == {None, 1}
    registered = {one.filter: one.position for one in answer.filters if one.crash is None}
    assert registered == {"dumpfve.sys": "registered", "acmeflt.sys": "registered"}
    assert any("By DumpStack.log (crash 2), Dump_Start" in text for text in answer.remarks)


def test_a_row_is_as_sure_as_its_record() -> None:
    """What lies at an inferred place is likely in every table, each with its own reason."""
    case = analyzer.open(SAMPLE_TRACES / "broken-x64-worst.dmp")
    first, second = case.answer.filters
    assert (first.state, second.state) == ("likely on", "likely off")
    starts = [c for c in case.records["callbacks"] if c.callback == "Dump_Start"]
    assert {str(c.was_called) for c in starts} == {"likely"}
    text = " ".join(case.report().split())
    assert f"Dump_Start of {first.filter} likely called: the dump had begun" in text
    assert f"Dump_Start of {second.filter} likely returned: a record in crashdmp" in text


def test_a_proven_place_needs_no_hedge() -> None:
    """The state word of 32-bit Windows 7 is known from its code."""
    for name, states in (
        ("healthy-x86-windows7-full.dmp", {"on"}),
        ("broken-x86-windows7-filter-failed.dmp", {"on", "off"}),
    ):
        verdicts = analyzer.open(SAMPLE_TRACES / name).answer.filters
        assert {one.state for one in verdicts} == states


def test_an_option_may_stand_before_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    """``dumpstart -v FILE`` is ``dumpstart analyze -v FILE``."""
    path = str(SAMPLE_TRACES / "healthy-x64-kernel.dmp")
    assert main(["-v", path]) == 0
    said = capsys.readouterr().out
    assert main(["analyze", path, "-v"]) == 0
    assert capsys.readouterr().out == said


def test_a_limit_without_filters_has_a_title(capsys: pytest.CaptureFixture[str]) -> None:
    """What a dump log says of all filters does not hang below the headline."""
    assert main([str(SAMPLE_TRACES / "logs" / "healthy-kernel.log")]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("  By healthy-kernel.log"))
    assert lines[at - 1] == "Remarks"


def test_a_cause_is_told_whole() -> None:
    """What follows a colon may be the cause itself: only one sentence that is known ends there."""
    answer = analyzer.open(SAMPLE_TRACES / "cases" / "filter-file-missing.zip").answer
    assert "loading the dump filters failed" in answer.headline[1]
    assert "its driver file is most probably missing" in answer.headline[1]
    stuck = analyzer.open(SAMPLE_TRACES / "cases" / "driver-stuck.zip").answer.headline[1]
    assert stuck.endswith("died or hung in the secondary callback of badnic.")


def test_the_first_sentence_is_of_what_was_given(tmp_path: Path) -> None:
    """A capture is told by its calls; files that cannot be used are no dumps that are missing."""
    path = write(tmp_path / "c.jsonl", facts([(5000, 0)] * 10))
    (said,) = analyzer.open(path).answer.headline
    assert said == "Dump_Start of dump_x.sys each returned STATUS_SUCCESS; they took 4.8 us."
    for number in range(40):
        (tmp_path / f"{number}.dmp").write_bytes(b"PAGEDU64" + bytes(100 + number))
    events = EventLog().power("2026-03-01T10:21:05", CRASH)
    (tmp_path / "System.xml").write_bytes(events.xml())
    (tmp_path / "c.jsonl").unlink()
    case = analyzer.open(tmp_path)
    assert case.answer.headline[0].startswith("The machine crashed with bugcheck 0xD1")
    text = " ".join(case.report().split())
    assert "kernel dump was given" not in text
    assert "(40 times)" in text  # each file that cannot be used is counted
