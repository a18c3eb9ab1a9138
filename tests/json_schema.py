"""The shape of the JSON report as JSON Schema, published as docs/report.schema.json.

``python -m tests.json_schema`` writes it anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from analyzer.answer import Answer
from analyzer.reports.data import SCHEMA_NUMBER
from analyzer.tables import SCHEMA

PUBLISHED = Path(__file__).parent.parent / "docs" / "report.schema.json"
_HEX = {"Address": "^0x[0-9a-f]{16}$", "Big": "^0x[0-9a-f]{16}$", "Code": "^0x[0-9a-f]{8}$"}
_TIME = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{7}Z$"
_TYPES = {"Text": "string", "Flag": "boolean", "Real": "number"}


def json_schema() -> dict[str, Any]:
    """The shape of the report as JSON Schema (published as docs/report.schema.json)."""
    tables = {table: {"type": "array", "items": _row(table)} for table in SCHEMA}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"dumpstart report, schema {SCHEMA_NUMBER}",
        "type": "object",
        "required": ["schema", "tool", "answer", "tables"],
        "properties": {
            "schema": {"const": SCHEMA_NUMBER},
            "tool": {
                "type": "object",
                "required": ["name", "version"],
                "properties": {"name": {"const": "dumpstart"}, "version": {"type": "string"}},
            },
            "answer": _answer(),
            "tables": {"type": "object", "required": list(tables), "properties": tables},
        },
    }


def _row(table: str) -> dict[str, Any]:
    columns = {column.name: _cell(column.kind) for column in SCHEMA[table]}
    absent = {
        "type": "object",
        "propertyNames": {"enum": list(columns)},
        "additionalProperties": {"type": "string"},
    }
    return {
        "type": "object",
        "required": [*columns, "absent"],
        "properties": {**columns, "absent": absent},
    }


def _cell(kind: str) -> dict[str, Any]:
    if kind == "Proof":
        return {"type": ["array", "null"], "items": {"type": "object"}}
    if kind == "Facts":
        return {"type": ["object", "null"]}
    if kind in _HEX:
        return {"type": ["string", "null"], "pattern": _HEX[kind]}
    if kind == "Time":
        return {"type": ["string", "null"], "pattern": _TIME}
    return {"type": [_TYPES.get(kind, "integer"), "null"]}


def _answer() -> dict[str, Any]:
    """The answer: the fields of the model, each with its type."""
    texts = {"type": "array", "items": {"type": "string"}}
    objects = {"type": "array", "items": {"type": "object"}}
    kinds = {
        name: {"type": "string"} if name in ("unknown", "checked") else texts
        for name in Answer._fields
    }
    kinds.update(filters=objects, problems=objects, steps=objects, untimed={"type": "integer"})
    return {"type": "object", "required": list(kinds), "properties": kinds}


if __name__ == "__main__":
    PUBLISHED.write_text(json.dumps(json_schema(), indent=1) + "\n", encoding="utf-8")
