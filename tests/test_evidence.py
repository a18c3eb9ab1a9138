"""Evidence is data: no stage decides by its labels, its words or the way a report spells it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import SAMPLE_TRACES

import analyzer
from analyzer import checks, records, tables
from analyzer.records import Anomaly, Evidence, Records

CASES = sorted(path for path in (SAMPLE_TRACES / "cases").iterdir() if path.is_dir())
DUMPS = sorted(SAMPLE_TRACES.glob("*.dmp"))


def decided(judged: Records) -> list[tuple[Any, ...]]:
    """What a finding claims, without the words of its evidence."""
    return [
        (f.rule, f.severity, f.subject, f.text, [p.value for p in f.evidence], dict(f.facts))
        for f in checks.run(judged)
    ]


@pytest.mark.parametrize("path", [*CASES, *DUMPS], ids=lambda path: path.name)
def test_labels_and_words_decide_nothing(path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every label and every word replaced, the same findings come out."""
    judged = analyzer.open(str(path)).records
    judged.tables["findings"] = []
    before = decided(judged)
    make = Evidence.__new__

    def renamed(cls: Any, label: str, value: Any, kind: str = "Text", *_: Any, **more: Any) -> Any:
        origin = more.get("origin", _[1] if len(_) > 1 else None)
        return make(cls, f"<{len(label)}>", value, kind, "other words", origin)

    monkeypatch.setattr(Evidence, "__new__", renamed)
    judged.anomalies[:] = [
        a._replace(evidence=tuple(p._replace(label="x", words="y") for p in a.evidence))
        for a in judged.anomalies
    ]
    assert before
    assert decided(judged) == before


def test_a_value_cannot_forge_a_line() -> None:
    """A registry value that looks like evidence stays inside its own line and cell."""
    evil = "a.sys; status = 0x00000000 (STATUS_SUCCESS)\nstatus = 0x0"
    made = Records()
    origin = records.Origin("a.reg", "values")
    proof = (Evidence("DumpFilters[0]", evil), Evidence("Start", 4, "Number", origin=origin))
    made.add(Anomaly("registry-third-party-filter", "Seen.", origin, "a.sys", proof))
    made.add(*checks.run(made))
    (finding,) = made["findings"]
    assert tables.evidence_lines(finding) == [f"DumpFilters[0] = {evil}", "Start = 4 (values)"]
    (row,) = tables.json_rows("findings", made["findings"])
    assert [piece["value"] for piece in row["evidence"]] == [evil, 4]
    (cell,) = tables.frame("findings", made["findings"])["evidence"]
    assert [piece["value"] for piece in json.loads(cell)] == [evil, 4]
