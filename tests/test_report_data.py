"""The JSON report keeps its published shape."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from conftest import make
from json_schema import PUBLISHED, json_schema

from analyzer import __version__, records
from analyzer.case import Case
from analyzer.records import Records


def load(made: Records) -> Any:
    """The JSON report of some records."""
    return json.loads(Case(made).report("json"))


def test_the_published_schema_is_the_one_in_use() -> None:
    """Where this fails: python -m tests.json_schema."""
    assert json.loads(PUBLISHED.read_text("utf-8")) == json_schema()


def test_the_schema_is_a_schema() -> None:
    """JSON Schema itself accepts it."""
    jsonschema.Draft202012Validator.check_schema(json_schema())


def test_reports_follow_the_schema(handmade: Records) -> None:
    """A full, an empty and an all-absent report validate."""
    bare = Records()
    bare.add(*(make(record_type) for record_type in records.TABLES.values()))
    for made in (handmade, Records(), bare):
        jsonschema.Draft202012Validator(json_schema()).validate(load(made))


@pytest.mark.parametrize(
    ("table", "field", "value"),
    [
        ("machine", "bugcheck", 0xD1),
        ("machine", "parameter1", "0xD1"),
        ("machine", "system_time", "2021-02-21"),
        ("filters", "is_disabled", 0),
    ],
)
def test_the_schema_rejects_other_shapes(
    handmade: Records, table: str, field: str, value: Any
) -> None:
    """The schema is strict about how a value is written."""
    report = load(handmade)
    report["tables"][table][0][field] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(json_schema()).validate(report)


def test_head_names_schema_and_tool(handmade: Records) -> None:
    """A reader can tell the shape and the version that wrote it."""
    report = load(handmade)
    assert report["schema"] == 2
    assert report["tool"] == {"name": "dumpstart", "version": __version__}
    assert list(report["tables"]) == list(records.TABLES)


def test_json_and_text_give_the_same_answer_and_findings(handmade: Records) -> None:
    """Both formats come from one source."""
    handmade.add(make(records.Finding, rule="some-rule", severity="warning", text="It is odd."))
    report, text = load(handmade), " ".join(Case(handmade).report().split())
    assert all(sentence in text for sentence in report["answer"]["headline"])
    assert [f["rule"] for f in report["tables"]["findings"]] == ["some-rule"]
    assert "warning some-rule It is odd." in text


def test_json_is_ascii(handmade: Records) -> None:
    """Any console and any encoding can carry it."""
    handmade.add(make(records.Module, name="tre\u00ed\x1b.sys"))
    assert Case(handmade).report("json").isascii()
    assert load(handmade)["tables"]["modules"][-1]["name"] == "tre\u00ed\x1b.sys"
