"""One table as text, CSV and JSON."""

from __future__ import annotations

import csv
import json
from typing import Any

import pytest
from conftest import make

import analyzer
from analyzer import records
from analyzer.absence import Absent
from analyzer.records import Records
from analyzer.reports import listing
from analyzer.tables import SCHEMA


def show(table: str, format: str, *rows: Any, width: int | None = None) -> str:
    """The listing of one table."""
    made = Records()
    made.add(*rows)
    return "".join(listing.table(table, made, format, width))


def module(name: str, **fields: Any) -> Any:
    """A module by its name."""
    return make(records.Module, name=name, **fields)


def test_csv_has_every_column_and_row() -> None:
    """The header is the schema and the reasons; values are those of the JSON rows."""
    gone = Absent("not-found")
    text = show("modules", "csv", module("a.sys", base=0x1000, size=-5, loaded=True, role=gone))
    header, row = list(csv.reader(text.splitlines()))
    assert header == [*(c.name for c in SCHEMA["modules"]), "not_determined"]
    cells = dict(zip(header, row))
    assert cells["name"] == "a.sys"
    assert cells["base"] == "0x0000000000001000"
    assert cells["size"] == "-5"
    assert cells["loaded"] == "true"
    assert cells["role"] == ""
    assert cells["not_determined"] == "role: looked for by content and not found"


@pytest.mark.parametrize("name", ["=1+1", "+x", "-x", "@SUM(A1)"])
def test_csv_cells_are_no_formulas(name: str) -> None:
    """A spreadsheet shows a hostile name as text."""
    (_, row) = csv.reader(show("modules", "csv", module(name)).splitlines())
    assert row[0] == "'" + name


def test_csv_cells_hold_no_control_characters() -> None:
    """A tab, a line break or an escape from a dump is shown escaped; letters stay."""
    text = show("modules", "csv", module("\t=1\r\n\x1b[31m\u00e4.sys"))
    (_, row) = csv.reader(text.splitlines())
    assert row[0] == "\\t=1\\r\\n\\x1b[31m\u00e4.sys"


def test_csv_quotes_what_needs_quotes() -> None:
    """Commas and quotes survive the way there and back."""
    (_, row) = csv.reader(show("modules", "csv", module('a,"b"')).splitlines())
    assert row[0] == 'a,"b"'


def test_json_is_the_rows_of_the_report() -> None:
    """One list of objects, each with its reasons."""
    rows = json.loads(show("modules", "json", module("a"), module("b")))
    assert [row["name"] for row in rows] == ["a", "b"]
    assert rows[0]["absent"] == {}
    assert json.loads(show("modules", "json")) == []


def test_text_is_aligned_and_leaves_empty_columns_out() -> None:
    """Columns that no row has are not shown, numbers are flush right."""
    text = show("modules", "text", module("a.sys", size=5), module("long.sys", size=1000))
    assert text.splitlines() == [
        "name      size",
        "a.sys        5",
        "long.sys  1000",
        "2 rows; --format csv or json shows all columns and where each row comes from.",
    ]


def test_text_of_one_row_is_upright_with_reasons() -> None:
    """A single row has room for reasons and origin."""
    text = show("machine", "text", make(records.Machine, build=19041, bugcheck=Absent("unset")))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines == [
        "build 19041",
        "bugcheck not determined: the field was never filled in",
        "source machine.dmp",
        "found_by header field",
        "confidence certain",
    ]


def test_text_of_no_rows_says_so() -> None:
    """Nothing is not shown as nothing."""
    assert show("tags", "text") == "The table tags has no rows.\n"


def test_info_tells_what_a_source_can_and_cannot_tell(handmade: Records) -> None:
    """One line per thing, for each source."""
    text = "".join(listing.sources(handmade, "text"))
    assert [" ".join(line.split()) for line in text.splitlines()] == [
        "machine.dmp",
        "kind kernel dump triage dump",
        "architecture x64",
        "size 1,444,532 bytes",
        "can tell modules",
        "filters",
        "cannot tell calls of the filters",
        "how long they took",
    ]


def test_long_tables_are_streamed() -> None:
    """Rows behind the first thousand are shown and counted, whatever their width."""
    rows = [module(f"{number}.sys") for number in range(1500)] + [module("x" * 90)]
    lines = show("modules", "text", *rows).splitlines()
    assert len(lines) == 1 + 1501 + 1
    assert lines[1501] == "x" * 90
    assert lines[-1].startswith("1501 rows;")


def test_a_table_that_fits_is_not_folded() -> None:
    """A width changes nothing where there is room."""
    rows = [module("a.sys", size=5, role="driver"), module("long.sys", size=1000, role="driver")]
    assert show("modules", "text", *rows, width=80) == show("modules", "text", *rows)


def test_rows_are_folded_at_the_width() -> None:
    """Title and rows break at the same columns; what all rows share is named once, below."""
    rows = [
        module(f"{name}.sys", base=place << 12, size=place, role="driver", image_key="0" * 9 + name)
        for place, name in ((1, "a"), (2, "b"))
    ]
    assert show("modules", "text", *rows, width=42).splitlines() == [
        "name   base                size",
        "  image_key",
        "a.sys  0x0000000000001000     1",
        "  000000000a",
        "b.sys  0x0000000000002000     2",
        "  000000000b",
        "In all rows: role driver.",
        "2 rows; --format csv or json shows all columns and where each row comes from.",
    ]


def test_long_values_are_wrapped_when_folded() -> None:
    """A value that is longer than a line goes on below, and none of it is lost."""
    text = " ".join(f"word{number}" for number in range(40))
    stages = [make(records.Stage, stage=name, text=name + " " + text) for name in ("one", "two")]
    lines = show("stages", "text", *stages, width=60).splitlines()
    assert max(map(len, lines[:-1])) <= 60
    assert " ".join(" ".join(lines[2:-1]).split()) == f"one one {text} two two {text}"


def test_rows_that_are_all_the_same_are_counted() -> None:
    """The first column stays, or there would be nothing to count."""
    same = [module("a" * 30 + ".sys", role="driver", image_key="0" * 40) for _ in range(3)]
    lines = show("modules", "text", *same, width=40).splitlines()
    assert lines[:4] == ["name", *["a" * 30 + ".sys"] * 3]
    assert " ".join(lines[4:-1]) == "In all rows: role driver, image_key " + "0" * 40 + "."
    assert lines[-1].startswith("3 rows;")


@pytest.mark.parametrize("table", ["modules", "callbacks", "requests", "extensions", "filters"])
def test_samples_fit_a_terminal(table: str, sample: Any) -> None:
    """At 80 columns every line fits and every column with a value is named."""
    made = analyzer.open(sample("broken-x64-worst.dmp")).records
    text = "".join(listing.table(table, made, "text", 80))
    assert max(map(len, text.splitlines())) <= 80
    shown = next(iter(listing.table(table, made, "text"))).split()
    assert all(name in text.split() for name in shown)


def test_json_lines_are_the_rows_of_json() -> None:
    """One object a line, the same objects."""
    rows = (module("a.sys", base=1), module("b.sys", role=Absent("not-found", "none")))
    lines = show("modules", "jsonl", *rows).splitlines()
    assert [json.loads(line) for line in lines] == json.loads(show("modules", "json", *rows))


@pytest.mark.parametrize("format", ["csv", "json", "jsonl"])
def test_many_rows_are_those_of_one(format: str) -> None:
    """Cells that are alike are worded once, and still each row is what it is alone."""
    roles = [None, "dump filter", Absent("not-found", "none"), Absent("not-in-dump", 'x, "y"')]
    rows = [
        module(f"m{n % 7}.sys", base=n, size=None if n % 3 else n, role=roles[n % 4])
        for n in range(9000)
    ]
    ends = {"csv": (1, 0), "json": (1, 1), "jsonl": (0, 0)}[format]
    whole = show("modules", format, *rows).splitlines()
    whole = whole[ends[0] : len(whole) - ends[1]]
    assert len(whole) == len(rows)
    for n in (0, 1, 2, 3, 4095, 4096, 8999):
        alone = show("modules", format, rows[n]).splitlines()
        assert whole[n].removesuffix(",") == alone[ends[0]].removesuffix(",")
