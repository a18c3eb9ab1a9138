"""Records as JSON rows and as DataFrames."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from conftest import SAMPLE_TRACES, make

from analyzer import records, tables
from analyzer.absence import Absent
from analyzer.errors import UsageError

ADDRESS = 0xFFFFF80513370123  # loses its last digits when it passes through a float


def row(record_type: Any, **fields: Any) -> dict[str, Any]:
    """The JSON row of one hand-made record."""
    (name,) = (n for n, t in records.TABLES.items() if t is record_type)
    (found,) = tables.json_rows(name, [make(record_type, **fields)])
    return found


@pytest.mark.parametrize("table", records.TABLES)
def test_every_field_is_a_column(table: str) -> None:
    """A table has the fields of its record, then the five places of its origin, all distinct."""
    names = [column.name for column in tables.SCHEMA[table]]
    own = [name for name in records.TABLES[table]._fields if name != "origin"]
    assert names == [*own, "source", "found_by", "confidence", "file_offset", "at_address"]
    assert len(set(names)) == len(names)


def test_kinds_are_the_names_of_the_annotations() -> None:
    """The kind of a column is the alias that the record is annotated with."""
    kinds = dict(tables.SCHEMA["machine"])
    # Oracle: the annotations of records.Machine and records.Origin.
    assert kinds["build"] == "Number"
    assert kinds["bugcheck"] == "Code"
    assert kinds["parameter1"] == "Address"
    assert kinds["system_time"] == "Time"
    assert kinds["uptime_ns"] == "Duration"
    assert kinds["source"] == "Text"
    assert kinds["at_address"] == "Address"
    assert dict(tables.SCHEMA["callbacks"])["entry_clock"] == "Big"
    assert dict(tables.SCHEMA["extensions"])["is_reconstructed"] == "Flag"
    assert dict(tables.SCHEMA["stages"])["rate_mb_per_s"] == "Real"


def test_numbers_in_json_have_fixed_digits() -> None:
    """Addresses and big numbers have 16 hex digits, codes 8, plain numbers none."""
    machine = row(records.Machine, bugcheck=0xD1, parameter1=ADDRESS, build=19041)
    assert machine["bugcheck"] == "0x000000d1"
    assert machine["parameter1"] == "0xfffff80513370123"
    assert machine["build"] == 19041
    assert row(records.Callback, entry_clock=1 << 40)["entry_clock"] == "0x0000010000000000"


def test_times_in_json_are_utc_with_100_ns() -> None:
    """A time keeps the seven digits of a FILETIME and ends with Z."""
    # Oracle: date -u -d @1613871502
    machine = row(records.Machine, system_time=1613871502_1234567_00)
    assert machine["system_time"] == "2021-02-21T01:38:22.1234567Z"


def test_absence_in_json_is_null_with_its_reason() -> None:
    """An Absent is null with its words under "absent"; a None is null without."""
    gone = Absent("not-in-dump", "page 0x1000", "a full dump")
    machine = row(records.Machine, build=gone, bugcheck=None)
    assert machine["build"] is None
    assert machine["bugcheck"] is None
    assert machine["absent"] == {"build": "page 0x1000; a full dump would tell"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("parameter1", 1 << 64),
        ("parameter1", -1),
        ("bugcheck", 1 << 32),
        ("build", 1 << 63),
        ("system_time", -(1 << 63)),
    ],
)
def test_a_value_its_kind_cannot_hold_is_absent(field: str, value: int) -> None:
    """A number outside its column's range becomes null with the value in the reason."""
    machine = row(records.Machine, **{field: value})
    assert machine[field] is None
    assert f"{value:#x}" in machine["absent"][field]
    frame = tables.frame("machine", [make(records.Machine, **{field: value})])
    assert frame[field].isna().all()


def test_a_real_that_is_no_number_is_absent() -> None:
    """NaN and infinity are not JSON and not a measurement."""
    assert row(records.Stage, rate_mb_per_s=float("nan"))["rate_mb_per_s"] is None
    assert row(records.Stage, rate_mb_per_s=float("inf"))["rate_mb_per_s"] is None
    assert row(records.Stage, rate_mb_per_s=2.5)["rate_mb_per_s"] == 2.5


def test_text_that_is_no_unicode_can_be_written() -> None:
    """A lone surrogate (a file name that is no UTF-8) is shown escaped, so UTF-8 can hold it."""
    assert row(records.Module, name="a\udcffb")["name"] == "a\\udcffb"


def test_addresses_never_become_floats() -> None:
    """A gap in an address column leaves the other addresses exact."""
    rows = [make(records.Module, base=ADDRESS), make(records.Module, base=Absent("not-found"))]
    frame = tables.frame("modules", rows)
    assert str(frame["base"].dtype) == "UInt64"
    assert int(frame["base"][0]) == ADDRESS
    assert frame["base"][1] is pd.NA


@pytest.mark.parametrize("table", records.TABLES)
def test_empty_and_full_tables_have_the_same_types(table: str) -> None:
    """The type of a column depends on the schema alone."""
    # Oracle: the contract of the tables, kind by kind.
    expected = {
        "Text": "string",
        "Proof": "string",
        "Facts": "string",
        "Address": "UInt64",
        "Big": "UInt64",
        "Code": "UInt32",
        "Number": "Int64",
        "Duration": "Int64",
        "Real": "Float64",
        "Flag": "boolean",
        "Time": "datetime64[ns, UTC]",
    }
    values = {"Text": "x", "Real": 1.5, "Flag": True, "Facts": {"a": 1}}
    values["Proof"] = (records.Evidence("a", 1),)
    kinds = {c.name: c.kind for c in tables.SCHEMA[table]}
    fields = [n for n in records.TABLES[table]._fields if n != "origin"]
    full = make(records.TABLES[table], **{n: values.get(kinds[n], 7) for n in fields})
    for rows in ([], [full], [make(records.TABLES[table])]):
        types = {name: str(dtype) for name, dtype in tables.frame(table, rows).dtypes.items()}
        assert types == {**{n: expected[k] for n, k in kinds.items()}, "not_determined": "string"}


def test_values_of_a_frame_are_those_of_the_record() -> None:
    """Each kind comes back from the frame as it went in."""
    time = 1613871502_1234567_00
    machine = make(records.Machine, system_time=time, bugcheck=0xFFFFFFFF, build_lab="vb")
    frame = tables.frame("machine", [machine])
    assert frame["system_time"][0].value == time
    assert frame["system_time"][0].tz is not None
    assert frame["bugcheck"][0] == 0xFFFFFFFF
    assert frame["build_lab"][0] == "vb"
    assert frame["source"][0] == "machine.dmp"
    assert frame["found_by"][0] == "header field"


def test_reasons_of_a_frame_are_in_its_last_column() -> None:
    """What is not determined, and why, is one text per row."""
    gone = Absent("unset")
    rows = [make(records.Machine, build=gone, bugcheck=gone), make(records.Machine)]
    frame = tables.frame("machine", rows)
    assert frame.columns[-1] == "not_determined"
    words = "the field was never filled in"
    assert frame["not_determined"][0] == f"build: {words}; bugcheck: {words}"
    assert frame["not_determined"][1] is pd.NA


class Bulk:
    """A table that is not a list of records, as a trace of millions of events is."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def rows(self) -> Any:
        """Records made while they are read."""
        return (make(records.Event, event_id=number) for number in range(self.count))

    def frame(self) -> pd.DataFrame:
        """The frame without a detour through records."""
        return pd.DataFrame({"event_id": range(self.count)})


def test_a_bulk_table_makes_its_own_frame_and_rows() -> None:
    """An object with frame() and rows() stands in for a list of records."""
    assert len(tables.frame("events", Bulk(3))) == 3
    assert [r["event_id"] for r in tables.json_rows("events", Bulk(3))] == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        # Oracle: date -u -d "2021-02-21 01:38:22" +%s
        ("2021-02-21T01:38:22.1234567Z", 1613871502_1234567_00),
        ("2021-02-21 01:38:22", 1613871502_000000000),
        ("2021-02-21T01:38", 1613871480_000000000),
        ("2021-02-21", 1613865600_000000000),
    ],
)
def test_times_are_read_as_they_are_written(text: str, ns: int) -> None:
    """A time can be copied from one output into the next command, and cut."""
    assert tables.parsed_time(text) == ns


@pytest.mark.parametrize("text", ["", "yesterday", "2021-13-01", "2021-02-21T25:00", "1613871502"])
def test_other_times_are_usage_errors(text: str) -> None:
    """The error quotes what was given."""
    with pytest.raises(UsageError, match=repr(text)):
        tables.parsed_time(text)


def test_addresses_print_in_hexadecimal_and_compute_as_integers(tmp_path: Any) -> None:
    """``print(df)`` and notebooks show 0x; arithmetic, CSV and Parquet see numbers."""
    import analyzer

    case = analyzer.open(SAMPLE_TRACES / "healthy-x64-kernel.dmp")
    frame = case.filters
    node = int(case.records["filters"][0].node)
    assert f"0x{node:016x}" in frame.to_string()
    assert f"0x{node:016x}" in frame._repr_html_() or len(frame.columns) > 20
    assert f"0x{node:016x}" in repr(frame["node"])
    assert int((frame["node"] + 0x40)[0]) == node + 0x40
    assert int(frame["node"].max()) == max(int(f.node) for f in case.records["filters"])
    assert frame["node"].iloc[:1].dtype == "UInt64"
    frame.to_csv(tmp_path / "f.csv")
    assert int(pd.read_csv(tmp_path / "f.csv", dtype={"node": "UInt64"})["node"][0]) == node
    frame.to_parquet(tmp_path / "f.parquet")
    assert int(pd.read_parquet(tmp_path / "f.parquet")["node"][0]) == node
    both = pd.concat([frame, frame], ignore_index=True)
    assert f"0x{node:016x}" in both["node"].to_string()


def test_a_case_is_saved_by_the_name_of_the_file(tmp_path: Any) -> None:
    """``case.save`` follows the suffix and never writes over an input."""
    import shutil

    import analyzer
    from analyzer.errors import UsageError

    path = tmp_path / "a.dmp"
    shutil.copy(SAMPLE_TRACES / "minidump-x64.dmp", path)
    case = analyzer.open(path)
    case.save(tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    before = path.read_bytes()
    with pytest.raises(UsageError):
        case.save(path)
    with pytest.raises(UsageError, match="overwrite an input"):
        case.save(path, format="text")
    assert path.read_bytes() == before


def test_a_figure_takes_a_path_and_says_what_it_takes() -> None:
    """A path is opened; anything else is a TypeError that says what is right."""
    from analyzer import plots

    assert plots.timeline(str(SAMPLE_TRACES / "minidump-x64.dmp"))._repr_png_()
    with pytest.raises(TypeError, match="a case, records or a path"):
        plots.timeline(5)
