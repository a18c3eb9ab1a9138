"""The JSON report: every table, one row a line, in the shape of docs/report.schema.json.

Invariant: :data:`SCHEMA_NUMBER` moves when a field changes its meaning or goes away; new tables and
columns do not move it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .. import __version__
from ..answer import answer_of
from ..batches import json_texts
from ..records import Records
from ..tables import SCHEMA

if TYPE_CHECKING:
    from ..records.collection import Rows

SCHEMA_NUMBER = 2


def write(records: Records) -> Iterator[str]:
    """The report as JSON text, in pieces."""
    head = {
        "schema": SCHEMA_NUMBER,
        "tool": {"name": "dumpstart", "version": __version__},
        "answer": answer_of(records).as_json(),
    }
    yield json.dumps(head)[:-1] + ', "tables": {'
    for place, table in enumerate(SCHEMA):
        yield f'{"," if place else ""}\n"{table}": ['
        yield from json_lines(table, records[table])
        yield "]"
    yield "\n}}\n"


def json_lines(table: str, rows: Rows) -> Iterator[str]:
    """The rows of one table as the inside of a JSON array, one a line."""
    between = "\n"
    for row in json_texts(table, rows):
        yield between + row
        between = ",\n"
