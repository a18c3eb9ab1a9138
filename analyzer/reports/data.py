"""The JSON report: every table, one row a line, in the shape of docs/report.schema.json.

Invariant: :data:`SCHEMA_NUMBER` moves when a field changes its meaning or goes away; new tables and
columns do not move it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .. import __version__
from ..records import Records
from ..tables import FIELD_KINDS, SCHEMA, alike, json_rows, plain
from . import answer

SCHEMA_NUMBER = 1

#: a capture may have millions of calls; more than these are told as counts
MOST_CALLS = 10_000
#: columns by which they are counted
COUNTED = ("filter", "stack", "callback", "was_called", "status", "status_name")

_HEX = {"Address": "^0x[0-9a-f]{16}$", "Big": "^0x[0-9a-f]{16}$", "Code": "^0x[0-9a-f]{8}$"}
_TIME = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{7}Z$"
_TYPES = {"Text": "string", "Flag": "boolean", "Real": "number"}


def write(records: Records) -> Iterator[str]:
    """The report as JSON text, in pieces."""
    head = {
        "schema": SCHEMA_NUMBER,
        "tool": {"name": "dumpstart", "version": __version__},
        "answer": " ".join(answer.sentences(records)),
    }
    yield json.dumps(head)[:-1] + ', "tables": {'
    left_out = {}
    for place, table in enumerate(SCHEMA):
        rows: Any = records[table]
        if table == "callbacks" and len(rows) > MOST_CALLS:
            left_out[table] = _left_out(rows)
            rows = rows[:MOST_CALLS]
        yield f'{"," if place else ""}\n"{table}": ['
        yield from json_lines(table, rows)
        yield "]"
    yield "\n}" + (f',\n"left_out": {json.dumps(left_out)}' if left_out else "") + "}\n"


def _left_out(calls: Any) -> dict[str, Any]:
    """How many rows there are, how many are given, and what all of them are."""
    counts = [
        {**{name: plain(FIELD_KINDS[type(row)][name], getattr(row, name)) for name in COUNTED},
         "rows": count}
        for row, count in alike(calls, *COUNTED)
    ]  # fmt: skip
    return {
        "rows": len(calls), "given": MOST_CALLS, "counts": counts[:MOST_CALLS],
        "see": "dumpstart show callbacks --format csv (or json, or parquet) gives all rows",
    }  # fmt: skip


def json_lines(table: str, rows: Any) -> Iterator[str]:
    """The rows of one table as the inside of a JSON array, one a line."""
    for place, row in enumerate(json_rows(table, rows)):
        yield (",\n" if place else "\n") + json.dumps(row)


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
            "answer": {"type": "string"},
            "tables": {"type": "object", "required": list(tables), "properties": tables},
            "left_out": {
                "description": "tables that are given in part, with counts of all their rows",
                "type": "object",
                "properties": {"callbacks": _left_out_schema()},
            },
        },
    }


def _left_out_schema() -> dict[str, Any]:
    kinds = dict(SCHEMA["callbacks"])
    number = {"type": "integer", "minimum": 0}
    counted = {name: _cell(kinds[name]) for name in COUNTED}
    counts = {
        "type": "object",
        "required": [*COUNTED, "rows"],
        "properties": {**counted, "rows": number},
    }
    return {
        "type": "object",
        "required": ["rows", "given", "counts", "see"],
        "properties": {
            "rows": number,
            "given": number,
            "counts": {"type": "array", "items": counts},
            "see": {"type": "string"},
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
    if kind in _HEX:
        return {"type": ["string", "null"], "pattern": _HEX[kind]}
    if kind == "Time":
        return {"type": ["string", "null"], "pattern": _TIME}
    return {"type": [_TYPES.get(kind, "integer"), "null"]}
