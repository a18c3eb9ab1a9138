"""The rules themselves: complete, explained, and the same in the documentation."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import analyzer
from analyzer import checks
from analyzer.checks.rule import SEVERITIES
from analyzer.errors import UsageError

REWRITE = """write the page anew:
python -c "from analyzer import checks; print(checks.rules_page(), end='')" > docs/rules.md"""
ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("rule_id", sorted(checks.RULES))
def test_rule_is_complete(rule_id):
    """Every rule has an id in words, a known severity and texts that end as sentences."""
    rule = checks.RULES[rule_id]
    assert rule.id == rule_id
    assert rule_id == rule_id.lower().replace("_", "-").replace(" ", "-")
    assert rule.severity in SEVERITIES
    assert rule.title
    assert not rule.title.endswith(".")
    for text in (rule.meaning, rule.why, rule.next_step):
        assert text.endswith(".") or ": reg " in text  # a command is better copied without it
        assert "  " not in text


def test_every_reported_id_has_a_rule():
    """No part of the package reports an anomaly under an id that no rule has."""
    reported = {}
    for path in sorted(Path(analyzer.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(node, "func", None)
            if isinstance(node, ast.Call) and getattr(name, "id", "") in ("Anomaly", "broken"):
                first = node.args[0] if node.args else None
                if isinstance(first, ast.Constant):
                    reported[first.value] = path.name
    assert len(reported) > 10
    assert {rule: path for rule, path in reported.items() if rule not in checks.RULES} == {}


def test_explain_tells_meaning_reason_and_next_step():
    """The explanation of a rule has its four texts."""
    rule = checks.RULES["filter-disabled"]
    text = checks.explain("filter-disabled")
    for part in (rule.title, rule.meaning, rule.why, rule.next_step):
        assert part in text


def test_explain_suggests_close_ids():
    """A mistyped id is answered with the ids it may stand for."""
    with pytest.raises(UsageError, match="did you mean filter-disabled"):
        checks.explain("filter-disable")


def test_explain_of_something_else_suggests_nothing():
    """An id like no other gets a plain answer."""
    with pytest.raises(UsageError, match="no rule has a similar name"):
        checks.explain("zzzz")


def test_documentation_holds_the_same_texts():
    """docs/rules.md is what the rules say."""
    page = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    assert page == checks.rules_page(), REWRITE
