"""The findings of dry runs: from drivers in C, and beside other evidence of the same callback."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import make
from test_dryrun_drivers import all_starts, writes

from analyzer import checks
from analyzer.checks import rules_dryrun
from analyzer.records import Callback, DryRun, Filter, Finding, Origin, Records, Source

DUMP = Origin("machine", "test")


def findings(*records: Any) -> list[Finding]:
    """What the checks say of dry runs in these records."""
    made = Records()
    made.add(make(Source, path="machine", kind="kernel dump", origin=DUMP), *records)
    return [f for f in checks.run(made) if f.rule in rules_dryrun.RULES]


def start(name: str, **changes: Any) -> DryRun:
    """The dry run of a driver, as if on the memory of a crashed machine or as it is."""
    return all_starts("x64")[name]._replace(**changes)


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("ReadsData", []),
        ("MagicWrong", ["dry-run-fails"]),
        ("GivesUpWaiting", ["dry-run-fails"]),
        ("Spins", ["dry-run-never-returns"]),
        ("Bugchecks", ["dry-run-bugchecks"]),
        ("FastFails", ["dry-run-bugchecks"]),
        ("PagedData", ["dry-run-bugchecks", "dry-run-touches-paged"]),
        ("OwnPageableCode", ["dry-run-touches-paged"]),
        ("Allocates", ["dry-run-forbidden-call"]),
        ("Waits", ["dry-run-forbidden-call"]),
        ("Port", []),  # stopped: nothing is known of the driver
    ],
)
def test_each_kind_of_driver_has_its_finding(name: str, rules: list[str]) -> None:
    """On a machine that had not crashed."""
    found = findings(start(name))
    assert sorted(f.rule for f in found) == sorted(rules)
    assert all("Called now" in f.text or f.rule.endswith(("paged", "call")) for f in found)


@pytest.mark.slow
def test_shapes_that_windows_does_not_make_are_not_judged() -> None:
    """One finding for the mapped shapes; none for the right routine, which refuses odd ones."""
    (found,) = findings(*writes("x64", "WriteNonpagedOnly").values())
    assert found.rule == "dry-run-bugchecks"
    assert "mapped, StartVa elsewhere (11 25H2)" in found.text
    assert "3 more of the shapes" in found.text
    assert findings(*writes("x64", "WriteRight").values()) == []


def test_a_benign_status_is_no_finding() -> None:
    """DiskCryptor's Dump_Start says by a status that nothing needs it (benign.json)."""
    row = start("MagicWrong", filter="dump_dcrypt.sys", status=0xC0210001)
    assert [f.rule for f in findings(row)] == []


NODE = make(
    Filter, filter="dump_sample.sys", stack="crash", is_disabled=False, origin=DUMP,
)  # fmt: skip
CALLED = make(
    Callback, filter="dump_sample.sys", stack="crash", callback="Dump_Start", was_called="likely",
    origin=DUMP,
)  # fmt: skip


def test_runs_once_only_contradicts_and_does_not_accuse() -> None:
    """The dump went on, so the first call did not fail; the result of the second is explained."""
    row = start(
        "RunsOnce", status=0xC0000001, status_name="STATUS_UNSUCCESSFUL", had_crashed=True,
        text="Called again on this memory, Dump_Start returns STATUS_UNSUCCESSFUL (0xc0000001).",
    )  # fmt: skip
    (found,) = findings(row, NODE, CALLED)
    assert (found.rule, found.severity) == ("dry-run-contradicts", "info")
    assert "Called again on this memory" in found.text
    assert "An earlier call may have ended otherwise: it depends on dump_sample!Started" in (
        found.text
    )


def test_a_repeatable_failure_stands_beside_the_contradiction() -> None:
    """Nothing that a call changes can explain it away."""
    row = start("MagicWrong", had_crashed=True, is_repeatable=True, depends_on=None)
    rules = sorted(f.rule for f in findings(row, NODE, CALLED))
    assert rules == ["dry-run-contradicts", "dry-run-fails"]


def test_crashdmps_last_failing_status_is_compared() -> None:
    """The same status agrees, another contradicts."""
    row = start("MagicWrong", had_crashed=True)
    failed = NODE._replace(
        is_disabled=True, last_failing_routine=row.symbol, last_failing_status=row.status
    )
    assert [f.rule for f in findings(row, failed)] == ["dry-run-fails"]
    other = failed._replace(last_failing_status=0xC0000001)
    found = findings(row, other)
    assert "dry-run-contradicts" in {f.rule for f in found}
    text = next(f.text for f in found if f.rule == "dry-run-contradicts")
    assert "crashdmp recorded that it returned STATUS_UNSUCCESSFUL" in text


def test_a_capture_that_saw_another_status_contradicts() -> None:
    """The call that was seen is named with its source."""
    seen = make(
        Callback, filter="dump_sample.sys", stack="crash", callback="Dump_Start", call=0,
        status=0xC0000001, origin=Origin("run.jsonl", "capture"),
    )  # fmt: skip
    (found,) = findings(start("ReadsData", had_crashed=True), seen)
    assert found.rule == "dry-run-contradicts"
    assert "run.jsonl has a call that returned STATUS_UNSUCCESSFUL" in found.text
    assert findings(start("ReadsData"), seen._replace(status=0)) == []
