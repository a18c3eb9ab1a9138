"""What a pipeline asks: ``--expect`` and ``--known``, on the shipped samples, by the command."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from conftest import SAMPLE_TRACES

import analyzer
from analyzer import cli
from analyzer.errors import UsageError

MET, REFUTED, UNKNOWN = "met", "refuted", "not shown"
# What is right is stated by sample-traces/MANIFEST.toml (states of filters, last failing routine),
# by the lines of the logs, and by the statuses in the captures and the trace.
SAMPLES = [
    (
        "healthy-x64-kernel.dmp",
        {
            "dump-written": MET,
            "filter:acmeflt.sys:enabled": MET,
            "filter:dump_acmeflt.sys:loaded": MET,
            "filter:acmeflt:disabled": REFUTED,
            "filter:acmeflt:dump_start=success": UNKNOWN,  # memory keeps no success
            "filter:other:enabled": REFUTED,
            "bugcheck=0xD1": MET,
            "bugcheck=DRIVER_IRQL_NOT_LESS_OR_EQUAL": MET,
            "bugcheck=0xE2": REFUTED,
        },
    ),
    (
        "broken-x64-worst.dmp",
        {
            "dump-written": REFUTED,
            "filter:acmeflt:enabled": REFUTED,
            "filter:acmeflt:disabled": MET,
            "filter:dumpfve:enabled": MET,
            "filter:acmeflt:dump_start=success": REFUTED,
            "filter:acmeflt:dump_start=called": MET,
            "filter:acmeflt:dump_start=STATUS_UNSUCCESSFUL": MET,
            "filter:acmeflt:dump_start=0xC000009A": REFUTED,
        },
    ),
    (
        "broken-x86-windows7-filter-failed.dmp",
        {"dump-written": MET, "filter:acmeflt:enabled": REFUTED, "filter:dumpfve:enabled": MET},
    ),
    (
        "minidump-x64.dmp",
        {"filter:acmeflt:loaded": MET, "filter:acmeflt:enabled": UNKNOWN},
    ),
    (
        "captures/run-01.jsonl",
        {
            "dump-written": UNKNOWN,
            "bugcheck=0xD1": UNKNOWN,
            "filter:acmeflt:dump_start=success": MET,
            "filter:acmeflt:dump_start=not-called": REFUTED,
            "filter:acmeflt:dump_write=called": MET,
            "filter:acmeflt:enabled": UNKNOWN,
        },
    ),
    ("traces/crash-callbacks.etl", {"filter:acmeflt:dump_start=0x0": MET, "dump-written": UNKNOWN}),
    ("logs/healthy-kernel.log", {"dump-written": MET, "filter:acmeflt:loaded": UNKNOWN}),
    ("logs/failed.log", {"dump-written": REFUTED}),
    ("cases/driver-stuck.zip", {"dump-written": REFUTED, "filter:dumpfve:loaded": UNKNOWN}),
    ("cases/two-crashes.zip", {"dump-written": REFUTED}),  # the newest counts
]


def analyze(capsys, sample, *arguments):
    """Exit code and output of the command."""
    code = cli.main(["analyze", str(SAMPLE_TRACES / sample), *arguments])
    return code, capsys.readouterr().out


@pytest.mark.parametrize(("sample", "wanted"), SAMPLES)
def test_expectations_decide_exit_code_junit_and_sentence(sample, wanted, capsys):
    """Each is met, refuted or not shown, in every format alike; only all of them met is a 0."""
    asked = ("--expect", ",".join(wanted), "--fail-on", "expectation")
    code, text = analyze(capsys, sample, *asked, "--format", "json")
    found = {
        f["facts"]["expectation"]: f
        for f in json.loads(text)["tables"]["findings"]
        if f["rule"].startswith("expectation-")
    }
    assert {name: f["facts"]["outcome"] for name, f in found.items()} == wanted
    for name, finding in found.items():
        assert finding["severity"] == ("info" if wanted[name] == MET else "error")
        assert finding["text"].startswith(f"Expected {name}: {wanted[name]}. ")
        assert finding["evidence"] or wanted[name] == UNKNOWN
    assert code == int(set(wanted.values()) != {MET})

    again, xml = analyze(capsys, sample, *asked, "--format", "junit")
    cases = list(ElementTree.fromstring(xml).iter("testcase"))
    failures = {c.find("failure").get("message") for c in cases if c.find("failure") is not None}
    assert failures == {f["text"] for name, f in found.items() if wanted[name] != MET}
    assert again == code

    _, screen = analyze(capsys, sample, *asked, "-v")
    flat = " ".join(screen.split())
    for name, outcome in wanted.items():
        assert f"Expected {name}: {outcome}." in flat


@pytest.mark.parametrize(("sample", "wanted"), SAMPLES)
def test_each_expectation_decides_alone(sample, wanted, capsys):
    """The exit code of one expectation is 0 exactly when it is met."""
    for name, outcome in wanted.items():
        code, _ = analyze(capsys, sample, "--expect", name, "--fail-on", "expectation")
        assert (name, code) == (name, int(outcome != MET))


@pytest.mark.parametrize(
    "text",
    [
        "", " , ", "dump_written", "filter:x", "filter::enabled", "filter:x:on", "bugcheck=",
        "bugcheck=0x1FFFFFFFF", "filter:x:dump_start", "filter:x:dump_start=maybe",
        "filter:x:dump_stop=called", "filter:x:dump_start=0xZZ", "dump-written,nonsense",
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused(text, capsys):
    """A mistyped expectation is not passed over as met."""
    with pytest.raises(UsageError, match="expectation"):
        analyzer.open(SAMPLE_TRACES / "healthy-x64-kernel.dmp", expect=[text])
    assert analyze(capsys, "healthy-x64-kernel.dmp", "--expect", text)[0] == 2


def entry(rule, expires, subject=""):
    """One entry of a file of known findings."""
    return (
        f'[[known]]\nrule = "{rule}"\nsubject = "{subject}"\nreason = "ticket 17"\n'
        f"expires = {expires}\n"
    )


def known(capsys, path, content, *arguments):
    """Exit code and findings of the sample whose filter failed, beside a file of known ones."""
    path.write_text(content, encoding="utf-8")
    sample = "broken-x86-windows7-filter-failed.dmp"
    code, text = analyze(capsys, sample, "--known", str(path), "--format", "json", *arguments)
    if code == 2:
        return code, None
    content = json.loads(text)
    return code, {"answer": content["answer"], "findings": content["tables"]["findings"]}


def test_known_findings_are_lowered_until_they_expire(capsys, tmp_path):
    """Known: listed with its reason, counts no more. Expired: raised again, with a note."""
    path = tmp_path / "known.toml"
    _, before = known(capsys, path, "")
    serious = {(f["rule"], f["severity"]) for f in before["findings"] if f["severity"] != "info"}
    assert serious

    code, lowered = known(capsys, path, "".join(entry(r, "2999-01-01") for r, _ in serious))
    assert code == 0
    assert {f["severity"] for f in lowered["findings"]} == {"info"}
    assert len(lowered["findings"]) == len(before["findings"])  # none is dropped
    for finding in lowered["findings"]:
        if "known_reason" in finding["facts"]:
            assert finding["text"].endswith(" Known until 2999-01-01: ticket 17.")
            assert (finding["rule"], finding["facts"]["severity_of_rule"]) in serious
    assert lowered["answer"]["problems"] == []
    notes = " ".join(lowered["answer"]["notes"])
    assert "(known until 2999-01-01: ticket 17)" in notes

    code, expired = known(capsys, path, "".join(entry(r, "2001-01-01") for r, _ in serious))
    assert code == 1
    raised = {(f["rule"], f["severity"]) for f in expired["findings"] if f["severity"] != "info"}
    assert raised == serious
    note = "It was known until 2001-01-01 (ticket 17); that has expired, so it counts again."
    assert all(
        f["text"].endswith(note)
        for f in expired["findings"]
        if (f["rule"], f["severity"]) in raised
    )


def test_a_known_finding_is_of_its_subject_only(capsys, tmp_path):
    """An entry of one filter does not hide another one's failure, and unused entries are listed."""
    path = tmp_path / "known.toml"
    for subject, severity in (("acmeflt.sys", "info"), ("dumpfve.sys", "warning")):
        _, found = known(capsys, path, entry("filter-disabled", '"2999-01-01"', subject))
        (disabled,) = [f for f in found["findings"] if f["rule"] == "filter-disabled"]
        is_lowered = disabled["severity"] == "info"
        assert is_lowered == (severity == "info")
        unused = [f for f in found["findings"] if f["rule"] == "known-finding-unused"]
        assert len(unused) == int(not is_lowered)


def test_a_known_expectation_does_not_fail(capsys, tmp_path):
    """An expectation can be known like any finding, by its text."""
    asked = ("--expect", "filter:acmeflt:enabled,dump-written", "--fail-on", "expectation")
    path = tmp_path / "known.toml"
    assert known(capsys, path, "", *asked)[0] == 1
    entries = entry("expectation-failed", "2999-01-01", "filter:acmeflt:enabled")
    assert known(capsys, path, entries, *asked)[0] == 0


@pytest.mark.parametrize(
    "content",
    [
        "known", "\x00", "[known]\nrule='filter-disabled'", "known = [1]", "other = 1",
        entry("no-such-rule", "2999-01-01"), entry("filter-disabled", "1"),
        entry("filter-disabled", '"soon"'), entry("filter-disabled", "2999-01-01T00:00:00"),
        entry("filter-disabled", "2999-01-01") + "more = 1\n",
        "[[known]]\nrule='filter-disabled'\nexpires=2999-01-01", "a = " + "[" * 5000,
        "[[known]]\nrule=['filter-disabled']\nreason='r'\nexpires=2999-01-01",
        "#" * (1 << 21),
    ],
)  # fmt: skip
def test_a_file_of_known_findings_is_read_strictly(content, capsys, tmp_path):
    """What is not understood is refused in a sentence, so that nothing is lowered by mistake."""
    assert known(capsys, tmp_path / "known.toml", content)[0] == 2


def test_redacted_findings_stay_lowered(capsys, tmp_path):
    """--redact takes the words away, not what was decided."""
    path = tmp_path / "known.toml"
    content = entry("filter-disabled", "2999-01-01")
    for more in ((), ("--redact",)):
        _, found = known(capsys, path, content, "--expect", "dump-written", *more)
        (disabled,) = [f for f in found["findings"] if f["rule"] == "filter-disabled"]
        assert disabled["severity"] == "info"


def test_known_is_not_written_over(capsys, tmp_path):
    """The report never takes the place of the file of known findings."""
    path = tmp_path / "known.toml"
    path.write_text(entry("filter-disabled", "2999-01-01"), encoding="utf-8")
    sample = "healthy-x64-kernel.dmp"
    code, _ = analyze(capsys, sample, "--known", str(path), "--output", str(path))
    assert code == 2
    assert path.read_text(encoding="utf-8").startswith("[[known]]")
