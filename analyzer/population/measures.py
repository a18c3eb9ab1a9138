"""What is compared between cases: one number a case and measure, and the traits of the case.

Invariant: a case counts once in each comparison, however many calls or requests it holds, because
rows of one case are not independent of each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from ..checks import benign
from ..names import drivers, ntstatus
from ..tables import SCHEMA, frame

if TYPE_CHECKING:
    import pandas as pd

    from ..records import Records

#: table -> the columns that are needed
NEEDED: dict[str, list[str]] = {
    "machine": ["case", "build", "architecture", "dump_type_name", "system_time"],
    "crashes": ["case", "outcome", "time"],
    "modules": ["case", "name", "role", "loaded", "image_key"],
    "filters": ["case", "filter", "is_disabled", "last_failing_status"],
    "extensions": ["case", "disk_size", "bytes_per_sector"],
    "callbacks": [
        "case", "filter", "callback", "was_called", "entry_time", "duration_ns", "status",
    ],
    "stages": ["case", "stage", "elapsed_ms", "rate_mb_per_s"],
    "requests": ["case", "duration_ns", "in_flight"],
    "findings": ["case", "rule", "severity"],
}  # fmt: skip
#: roles of modules whose versions are compared
_VERSIONED = frozenset({drivers.FILTER, drivers.PORT, drivers.MINIPORT})


class Measure(NamedTuple):
    """What a number of a case is."""

    name: str  #: such as "duration of Dump_Start"
    subject: str  #: the filter, "" for the whole dump
    unit: str  #: ns, MB/s, or "yes" for something that happened or did not
    worse: str  #: "more" or "less"


def of_records(records: Records) -> dict[str, pd.DataFrame]:
    """The tables of one case, in the shape of a data set."""
    frames = {}
    for table, names in NEEDED.items():
        made = frame(table, records[table])[names[1:]]
        made.insert(0, "case", "this")
        frames[table] = made
    return frames


def measure(frames: dict[str, pd.DataFrame]) -> dict[Measure, pd.Series]:
    """Each measure's values by case."""
    found: dict[Measure, pd.Series] = {}
    calls = frames["callbacks"]
    timed = calls[calls["duration_ns"].notna() & calls["filter"].notna()]
    for (name, driver), rows in timed.groupby(["callback", "filter"]):
        key = Measure(f"duration of {name}", str(driver), "ns", "more")
        found[key] = _median(rows, "duration_ns")
    judged = calls[calls["status"].notna() & calls["filter"].notna()]
    for (name, driver), rows in judged.groupby(["callback", "filter"]):
        key = Measure(f"failure of {name}", str(driver), "yes", "more")
        said = rows["status"].unique().tolist()
        bad = [status for status in said if _is_failure(str(driver), str(name), int(status))]
        found[key] = rows["status"].isin(bad).astype(float).groupby(rows["case"]).max()
    filters = frames["filters"]
    known = filters[filters["is_disabled"].notna() & filters["filter"].notna()]
    for driver, rows in known.groupby("filter"):
        key = Measure("switched off", str(driver), "yes", "more")
        found[key] = rows["is_disabled"].astype(float).groupby(rows["case"]).max()
    stages = frames["stages"]
    start = stages[(stages["stage"] == "dump-start-upper-bound") & stages["elapsed_ms"].notna()]
    if len(start):
        key = Measure("time until the dump log begins", "", "ns", "more")
        found[key] = _median(start, "elapsed_ms") * 1e6
    writing = stages[(stages["stage"] == "write-memory-data") & stages["rate_mb_per_s"].notna()]
    if len(writing):
        key = Measure("speed of writing memory", "", "MB/s", "less")
        found[key] = _median(writing, "rate_mb_per_s")
    requests = frames["requests"]
    ended = requests[requests["duration_ns"].notna()]
    if len(ended):
        key = Measure("duration of storage requests before the crash", "", "ns", "more")
        found[key] = _median(ended, "duration_ns")
    crashes = frames["crashes"]
    told = crashes[crashes["outcome"].notna()]
    if len(told):
        failed = told["outcome"].isin(["failed"]).astype(float)
        key = Measure("failed dump", "", "yes", "more")
        found[key] = failed.groupby(told["case"]).max()
    return found


def _is_failure(driver: str, callback: str, status: int) -> bool:
    """True for a status that crashdmp takes for a failure and no filter returns on purpose."""
    return ntstatus.is_failure(status) and not benign.why(driver, callback, status)


def _median(rows: pd.DataFrame, column: str) -> pd.Series:
    return rows[column].astype(float).groupby(rows["case"]).median()


def traits(frames: dict[str, pd.DataFrame]) -> dict[str, pd.Series]:
    """What tells cases apart: trait -> value by case."""
    machine = frames["machine"]
    found: dict[str, pd.Series] = {}
    for name, column in (
        ("build", "build"), ("architecture", "architecture"), ("dump type", "dump_type_name"),
    ):  # fmt: skip
        rows = machine[machine[column].notna()]
        found[name] = rows.groupby("case")[column].first().astype(str)
    disks = frames["extensions"]
    sizes = disks[disks["disk_size"].notna()].groupby("case")
    first = sizes[["disk_size", "bytes_per_sector"]].first()
    sector = first["bytes_per_sector"].astype("string").fillna("unknown")
    found["disk"] = first["disk_size"].astype(str) + " bytes, sectors of " + sector
    modules = frames["modules"]
    modules = modules[modules["role"].isin(list(_VERSIONED)) & modules["image_key"].notna()]
    for driver, rows in modules.groupby("name"):
        found[f"version of {driver}"] = rows.groupby("case")["image_key"].first().astype(str)
    return {name: values for name, values in found.items() if len(values)}


def times(frames: dict[str, pd.DataFrame]) -> pd.Series:
    """When each case's last crash was, ns since 1970."""
    import pandas as pd

    parts = []
    for table, column in (("machine", "system_time"), ("crashes", "time"),
                          ("callbacks", "entry_time")):  # fmt: skip
        rows = frames[table]
        rows = rows[rows[column].notna()]
        parts.append(rows.groupby("case")[column].max().astype("int64"))
    whole = pd.concat([part for part in parts if len(part)] or [pd.Series(dtype="int64")])
    return whole.groupby(level=0).max()


def missing(names: Iterable[str]) -> set[str]:
    """Names that are no columns of their tables: none, or the lists here are out of date."""
    known = {column.name for columns in SCHEMA.values() for column in columns} | {"case"}
    return set(names) - known
