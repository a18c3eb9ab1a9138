"""Checks at their limits: a value just inside and one just outside, and the whole sentence.

On records that a test makes; fields that it does not name are absent.
"""

from __future__ import annotations

from itertools import chain, count
from typing import Any

import pytest
from healthy_crash import changed

from analyzer.absence import Absent
from analyzer.checks import (
    RULES,
    benign,
    case_history,
    case_seen,
    coverage,
    crash_joining,
    crash_loading,
    crash_place,
    crash_stack,
    crashes,
    dry_runs,
    dump_extensions,
    executing,
    explain,
    machine,
    ranges,
    snapshots,
    storage,
)
from analyzer.checks.case_seen import CaseSeen
from analyzer.checks.crash_pieces import (
    Group,
    Piece,
    Start,
    agreement,
    bugcheck_of,
    contradicts,
    distinct,
    names_of,
    same_boot,
    started,
)
from analyzer.checks.evidence import by_source
from analyzer.dumpstack.walk import Ring
from analyzer.errors import UsageError
from analyzer.names import progress
from analyzer.records import (
    Anomaly,
    Callback,
    Clue,
    Crash,
    DryRun,
    Event,
    Evidence,
    Extension,
    Filter,
    Finding,
    Frame,
    Machine,
    Module,
    Origin,
    Processor,
    Records,
    Request,
    Setting,
    Source,
    Stage,
)
from analyzer.sources import dump_records

ORIGIN = Origin("a.dmp", "made", "certain", 0x10, None)
NONE = Absent("not-recorded")
S = 10**9
DAY = 86400 * S


def row(kind: Any, source: str = "a.dmp", /, **values: Any) -> Any:
    """A record whose other fields are absent."""
    values.setdefault("origin", ORIGIN._replace(source=source))
    return kind(**{**dict.fromkeys(kind._fields, NONE), **values})


def of(*rows: Any, anomalies: Any = ()) -> Records:
    """These records."""
    records = Records()
    records.add(*rows, *anomalies)
    return records


def dump(path: str = "a.dmp", kind: str = "kernel dump") -> Any:
    """A source."""
    return row(Source, path, path=path, kind=kind)


def told(check: Any, records: Records) -> list[tuple[Any, ...]]:
    """(rule, subject, text) of what a check says of each source."""
    return [(a.rule, a.subject, a.text) for seen in by_source(records) for a in check(seen)]


# -- storage ---------------------------------------------------------------------------------------


def request(number: Any = 0, took: Any = NONE, status: Any = NONE, **more: Any) -> Any:
    """A storage request that ended."""
    given = {"operation": "READ", "in_flight": False, **more}
    return row(Request, request=number, duration_ns=took, status=status, **given)


FAILED = ("storage-request-failed", "storage")
SLOW = "Times are exact to a clock tick (up to 15.62 ms)."


@pytest.mark.parametrize(
    ("requests", "says"),
    [
        ([request(took=S - 1)], []),
        ([request(took=S), request(1, took=0), request(2)],
         ["1 of 2 timed storage requests took 1 s or more; the slowest, READ no. 0, took 1 s. "]),
        ([request(took=S), request(7, took=2 * S)],
         ["2 of 2 timed storage requests took 1 s or more; the slowest, READ no. 7, took 2 s. "]),
        ([request(NONE, took=S, operation=NONE)],
         ["1 of 1 timed storage requests took 1 s or more; the slowest, request, took 1 s. "]),
        ([request(in_flight=True, start=1, before_crash_ns=3 * S)],
         [("1 of 1 timed storage requests took 1 s or more; the slowest, READ no. 0, took 3 s and "
          "was still open. "),
          ("1 of 1 recorded storage requests was not finished when the machine crashed; the oldest "
          "had been open for 3 s.")]),
        ([request(in_flight=True, before_crash_ns=3 * S), request(1, in_flight=NONE, took=9 * S)],
         ["1 of 2 recorded storage requests was not finished when the machine crashed."]),
        ([request(in_flight=True, start=1, before_crash_ns=0), request(in_flight=True)],
         [("2 of 2 recorded storage requests were not finished when the machine crashed; the "
          "oldest had been open for 0 ns.")]),
        *(([request(status=status)], []) for status in (0x00, 0x01, 0x12, 0x80, 0xC1, 0x52)),
        ([request(status=0x01), request(4, status=0x84, status_name="ERROR"), request(status=2)],
         [("2 of 3 completed storage requests failed, for example READ no. 4 with SRB status 0x04 "
          "ERROR.")]),
        ([request(status=0x13), request()],
         [("1 of 1 completed storage requests failed, for example READ no. 0 with SRB status "
          "0x13.")]),
        ([request(status=2, in_flight=NONE)], []),
    ],
)  # fmt: skip
def test_storage_requests(requests: Any, says: Any) -> None:
    """Slow from a second, failed by the low bits of the status, open ones on their own."""
    found = told(storage.check, of(dump(), *requests))
    assert [text.replace(SLOW, "") for _, _, text in found] == says
    assert told(storage.check, of(dump(kind="etl"), *requests)) == []


def test_five_requests_are_shown() -> None:
    """The rest is counted; of a running system it is not said that it crashed."""
    requests = [request(n, took=(2 + n) * S) for n in range(7)]
    (seen,) = by_source(of(dump(), *requests))
    (found,) = storage.check(seen)
    assert [(e.label, e.value) for e in found.evidence] == [
        *((f"READ no. {n}", f"{2 + n} s") for n in (6, 5, 4, 3, 2)),
        ("", "2 more in the table requests"),
    ]
    (seen,) = by_source(of(dump(), *requests[:5]))
    (found,) = storage.check(seen)
    assert len(found.evidence) == 5
    live = of(dump(), row(Machine, bugcheck=0, attributes=0x10), request(in_flight=True))
    assert told(storage.check, live)[0][2] == (
        "1 of 1 recorded storage requests was not finished when the dump was taken."
    )


# -- ranges ----------------------------------------------------------------------------------------


def judged(kind: Any, field: str, value: Any, architecture: Any = "x64") -> str:
    """What is said of one value, "" when it can be."""
    values = {field: value}
    rows = [row(Machine, architecture=architecture, **(values if kind is Machine else {}))]
    if kind is not Machine:
        rows.append(row(kind, filter="f.sys", stack="crash", **values))
    found = told(ranges.check, of(dump(), *rows))
    return found[0][2] if found else ""


@pytest.mark.parametrize(
    ("kind", "field", "inside", "outside", "words"),
    [
        (Filter, "major_version", (1, 2), (0, 3), "1 or 2"),
        (Filter, "minor_version", (0,), (-1, 1), "0"),
        (Filter, "max_pages_per_write", (0, 0x10000), (-1, 0x10001), "1 to 65,536"),
        (Filter, "flags", (0, 0xFFFF), (0x10000, 1 << 31), "a few low bits"),
        (Extension, "media_type", (0, 12, 25), (-1, 26), "a MEDIA_TYPE, 0 to 25"),
        (Extension, "tracks_per_cylinder", (0, 0xFFFF), (-1, 0x10000), "1 to 65,535"),
        (Extension, "sectors_per_track", (0, 0xFFFF), (-1, 0x10000), "1 to 65,535"),
        (Extension, "partition_style", (0, 1, 2), (-1, 3), "0 (MBR), 1 (GPT) or 2 (RAW)"),
        (Extension, "flags", (0, 0xFFFF), (0x10000,), "a few low bits"),
        (Machine, "build", (1, 99_999), (0, 100_000), "a build number of Windows"),
        (Machine, "processors", (1, 2048), (0, 2049), "1 to 2,048"),
        (Machine, "system_time", (315_360_000 * S,), (315_360_000 * S - 1, 0),
         "a time since 1980"),
        (Machine, "uptime_ns", (0, 948_672_000 * S), (948_672_000 * S + 1, -1),
         "at most 30 years"),
        (Machine, "required_dump_space", (0, 1 << 50), ((1 << 50) + 1, -1), "at most a petabyte"),
        (Machine, "directory_table_base", (0, (1 << 52) - 1), (1 << 52, -1),
         "a physical address"),
    ],
)  # fmt: skip
def test_what_a_field_can_hold(
    kind: Any, field: str, inside: Any, outside: Any, words: str
) -> None:
    """Each limit belongs to what can be."""
    assert [judged(kind, field, value) for value in inside] == [""] * len(inside)
    for value in outside:
        shown = f"{value:,}" if -65536 < value < 65536 else f"{value:#x}"
        text = judged(kind, field, value)
        assert f" is {shown}, but can only be {words}." in text
        assert " holds a value that cannot be: " in text
    odd = judged(kind, field, Absent("out-of-range", "7"))
    assert f" is out of range (7), but can only be {words}." in odd
    assert judged(kind, field, Absent("not-in-dump", "7")) == ""


@pytest.mark.parametrize(
    ("architecture", "inside", "outside"),
    [
        ("x64", (0, 0xFF00_0000_0000_0000, (1 << 64) - 8),
         (0xFEFF_FFFF_FFFF_FFF8, 0xFF00_0000_0000_0004, 8)),
        ("arm64", (0, 0xFFFF_F800_0000_0000), (0x8000_0000,)),
        ("x86-pae", (0, 0x8000_0000, 0xFFFF_FFFC), (0x7FFF_FFFC, 0x8000_0002, 1 << 32)),
        ("ia64", (8, 1, 1 << 70), ()),
        (NONE, (8, 1), ()),
    ],
)  # fmt: skip
def test_addresses_of_the_kernel(architecture: Any, inside: Any, outside: Any) -> None:
    """Aligned and in its half, or none at all."""
    for kind, field in (
        (Machine, "ps_loaded_module_list"), (Machine, "kd_debugger_data_block"),
        (Extension, "device_object"),
    ):  # fmt: skip
        assert [judged(kind, field, value, architecture) for value in inside] == [""] * len(inside)
        for value in outside:
            assert "an aligned address of the kernel" in judged(kind, field, value, architecture)


def test_several_values_that_cannot_be() -> None:
    """One finding a structure; of what is no dump the header is not judged."""
    rows = [row(Machine, build=0, processors=0), row(Filter, filter="f.sys", flags=1 << 16)]
    assert told(ranges.check, of(dump(), *rows)) == [
        ("filter-value-impossible", "f.sys", ("FILTER_INITIALIZATION_DATA of f.sys holds a value "
         "that cannot be: Flags is 0x10000, but can only be a few low bits.")),
        ("header-value-impossible", "dump", ("The dump header holds 2 values that cannot be: "
         "MinorVersion (the build) is 0, but can only be a build number of Windows; "
         "NumberProcessors is 0, but can only be 1 to 2,048.")),
    ]  # fmt: skip
    assert len(told(ranges.check, of(dump(kind="registry export"), *rows))) == 1


# -- extensions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"disk_size": 255 * 63 * 512 * 10, "cylinders": 10}, []),
        ({"disk_size": 255 * 63 * 512 * 11 - 512, "cylinders": 10}, []),
        ({"disk_size": 255 * 63 * 512 * 11, "cylinders": 10},
         [("DiskSize given to f.sys is 90,478,080, a cylinder or more above the 82,252,800 "
         "bytes of "
          "its geometry.")]),
        ({"disk_size": 255 * 63 * 512 * 10 - 512, "cylinders": 10},
         [("The geometry given to f.sys makes no sense: its cylinders hold 82,252,800 bytes but "
          "DiskSize is 82,252,288."),
          ("DiskSize given to f.sys is 82,252,288, less than the 82,252,800 bytes of its "
          "geometry.")]),
        ({"disk_size": 513, "cylinders": 0},
         ["DiskSize given to f.sys is 513, no multiple of the sector size 512."]),
        ({"disk_size": 0, "cylinders": 10}, ["DiskSize given to f.sys is 0."]),
        ({"disk_size": 513, "bytes_per_sector": NONE}, []),
        ({"disk_size": NONE, "cylinders": 0}, []),
        ({"bytes_per_sector": 65536}, []),
        ({"bytes_per_sector": 512}, []),
        ({"bytes_per_sector": 131072}, [("The geometry given to f.sys makes no sense: a sector has "
                                        "131072 bytes.")]),
        ({"bytes_per_sector": 1000, "cylinders": -1, "tracks_per_cylinder": 0,
          "sectors_per_track": 0},
         [("The geometry given to f.sys makes no sense: a sector has 1000 bytes; cylinders is -1; "
          "tracks_per_cylinder is 0; sectors_per_track is 0.")]),
        ({"cylinders": 0, "tracks_per_cylinder": 1, "sectors_per_track": 1}, []),
        ({"size": 0x57}, ["Size in FILTER_EXTENSION of f.sys is 0x57, not 0x58."]),
        ({"size": 0x59}, ["Size in FILTER_EXTENSION of f.sys is 0x59, not 0x58."]),
        ({"size": 0x58}, []),
        ({"size_of_partition_info": 0x17},
         ["SizeOfPartitionInfo given to f.sys is 0x17, not 0x18."]),
        ({"size_of_partition_info": 0x19, "is_reconstructed": True},
         [("SizeOfPartitionInfo given to f.sys is 0x19, not 0x18. The extension was not read but "
          "reconstructed from the dump stack context, as crashdmp would fill it in.")]),
    ],
)  # fmt: skip
def test_an_extension(values: Any, says: Any) -> None:
    """Geometry, sizes and disk size, each at its limits."""
    geometry = {"tracks_per_cylinder": 255, "sectors_per_track": 63, "bytes_per_sector": 512}
    one = row(Extension, filter="f.sys", **{**geometry, **values})
    records = of(dump(), row(Machine, build=9200, architecture="x64"), one)
    assert [text for _, _, text in told(dump_extensions.check, records)] == says


@pytest.mark.parametrize(
    ("build", "architecture", "size", "is_wrong"),
    [
        (9200, "x64", 0x50, True), (9199, "x64", 0x50, False), (NONE, "x64", 0x50, False),
        (9200, "x86", 0x50, False), (9200, "x86-pae", 0x58, True), (9200, "arm64", 0x58, False),
        (9200, "arm", 0x58, True), (9200, "ia64", 0x10, False),
    ],
)  # fmt: skip
def test_the_size_of_an_extension(build: Any, architecture: Any, size: int, is_wrong: bool) -> None:
    """It stands there since Windows 8."""
    rows = [row(Machine, build=build, architecture=architecture), row(Extension, size=size)]
    assert bool(told(dump_extensions.check, of(dump(), *rows))) is is_wrong


# -- dry runs --------------------------------------------------------------------------------------


def ran(**values: Any) -> Any:
    """A dry run of Dump_Start that Windows makes."""
    given: dict[str, Any] = {
        "filter": "f.sys", "stack": "crash", "callback": "Dump_Start", "windows": "does",
        "outcome": "returns", "status": 0, "text": "It returned.", "had_crashed": True,
        "symbol": "f+0x10", "is_repeatable": False,
    }  # fmt: skip
    return row(DryRun, **{**given, **values})


def a_filter(**values: Any) -> Any:
    """The filter that it is of."""
    return row(Filter, filter="F.sys", stack="crash", **values)


BAD = 0xC0000001
BUT = "f.sys (crash stack): It returned. But "
OFF = f"{BUT}crashdmp disabled the filter, as it does when a callback fails."
ON = f"{BUT}the dump went on after it was called, and crashdmp kept the filter enabled."
SAID = f"{BUT}crashdmp recorded that it returned STATUS_UNSUCCESSFUL (0xc0000001)."
RETURNED = {"last_failing_status": BAD, "last_failing_routine": "f+0x10"}
LIKELY = row(Callback, filter="f.sys", stack="crash", callback="Dump_Start", was_called="likely")


@pytest.mark.parametrize(
    ("run", "rows", "says"),
    [
        ({}, [a_filter(is_disabled=True)], OFF),
        ({}, [a_filter(is_disabled=False)], ""),
        ({}, [a_filter()], ""),
        ({}, [], ""),
        ({"status": BAD}, [a_filter(is_disabled=True)], ""),
        ({"callback": "Dump_Finish"}, [a_filter(is_disabled=True)], ""),
        ({"had_crashed": False}, [a_filter(is_disabled=True)], ""),
        ({"windows": "may"}, [a_filter(is_disabled=True)], ""),
        ({"shape": "x"}, [a_filter(is_disabled=True)], ""),
        ({"outcome": "stopped"}, [a_filter(**RETURNED)], ""),
        ({}, [a_filter(**RETURNED)], SAID),
        ({"status": BAD}, [a_filter(**RETURNED)], ""),
        ({"status": 0xC0000002}, [a_filter(**RETURNED)], SAID),
        ({"outcome": "faults", "status": NONE}, [a_filter(**RETURNED)], ""),
        ({"symbol": "f+0x11"}, [a_filter(**RETURNED)], ""),
        ({}, [a_filter(last_failing_status=BAD)], ""),
        ({}, [row(Filter, filter="f.sys", stack="hibernation", **RETURNED)], ""),
        ({"status": BAD}, [a_filter(is_disabled=False), LIKELY], ON),
        ({"status": BAD}, [a_filter(is_disabled=False), LIKELY._replace(was_called="yes")], ""),
        ({"status": BAD}, [a_filter(is_disabled=False), LIKELY._replace(stack="x")], ""),
        ({"status": BAD}, [a_filter(is_disabled=False), LIKELY._replace(filter="g.sys")], ""),
        ({"status": BAD}, [a_filter(is_disabled=False), LIKELY._replace(callback="x")], ""),
        ({"status": BAD}, [a_filter(), LIKELY], ""),
        ({}, [a_filter(is_disabled=False), LIKELY], ""),
    ],
)  # fmt: skip
def test_what_contradicts_a_dry_run(run: Any, rows: Any, says: str) -> None:
    """Crashdmp's own words of the call that was made, on the memory of that crash."""
    found = told(dry_runs.check, of(dump(), *rows, ran(**run)))
    texts = [text for rule, _, text in found if rule == "dry-run-contradicts"]
    assert texts == ([says] if says else [])


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        ([{}], []),
        ([{"status": BAD, "windows": "does not"}], []),
        ([{"status": BAD}], ["dry-run-fails It returned."]),
        ([{"status": BAD, "windows": "may", "depends_on": "x"}],
         ["dry-run-fails It returned. An earlier call may have ended otherwise: it depends on x."]),
        ([{"status": BAD, "is_repeatable": True, "depends_on": "x"}],
         [("dry-run-fails It returned. Any call on this memory ends like this: it reads nothing "
          "that a call changes.")]),
        ([{"status": BAD, "is_repeatable": True, "had_crashed": False}],
         ["dry-run-fails It returned."]),
        ([{"outcome": "never returns"}], ["dry-run-never-returns It returned."]),
        ([{"outcome": "bugchecks"}], ["dry-run-bugchecks It returned."]),
        ([{"outcome": "faults"}] * 2,
         ["dry-run-bugchecks It returned. So it does with 1 more of the shapes that were tried."]),
        ([{"outcome": "faults", "where": "a"}, {"outcome": "faults", "where": "b"}],
         ["dry-run-bugchecks It returned."] * 2),
        ([{"outcome": "stopped"}], []),
        ([{"forbidden": "a, b"}, {"forbidden": "a, b"}, {"forbidden": "c"}, {"pageable": "p"}],
         ["dry-run-forbidden-call a, b.", "dry-run-forbidden-call c.", "dry-run-touches-paged p."]),
    ],
)  # fmt: skip
def test_how_dry_runs_end(runs: Any, says: Any) -> None:
    """One finding for a callback and an outcome."""
    found = told(dry_runs.check, of(dump(), *(ran(**run) for run in runs)))
    heads = ("f.sys (crash stack): ", "Dump_Start of f.sys (crash stack) calls at HIGH_LEVEL: ",
             "Dump_Start of f.sys (crash stack) uses pageable memory: ")  # fmt: skip
    lines = []
    for rule, subject, text in found:
        assert subject == "f.sys (crash stack)"
        head = next(head for head in heads if text.startswith(head))
        lines.append(f"{rule} {text[len(head) :]}")
    assert lines == says


@pytest.mark.parametrize(
    ("run", "call", "differs"),
    [
        ({}, {"status": BAD}, True),
        ({}, {"status": 0}, False),
        ({"status": BAD}, {"status": 0}, True),
        ({"status": BAD}, {"status": 0xC0000002}, False),
        ({"outcome": "faults", "status": NONE}, {"status": 0}, True),
        ({}, {"status": NONE}, False),
        ({}, {"status": BAD, "call": 0}, True),
        ({}, {"status": BAD, "call": 1}, False),
        ({}, {"status": BAD, "callback": "Dump_Write"}, False),
        ({}, {"status": BAD, "filter": "g.sys"}, False),
        ({}, {"status": BAD, "source": "a.dmp"}, False),
        ({"windows": "may"}, {"status": BAD}, False),
        ({"shape": "s"}, {"status": BAD}, False),
    ],
)
def test_calls_of_another_source(run: Any, call: Any, differs: bool) -> None:
    """The first call of the same callback decides; a second one is not looked at."""
    given = {"filter": "f.sys", "callback": "Dump_Start", **call}
    first = row(Callback, given.pop("source", "c.jsonl"), **given)
    found = list(dry_runs.across(of(ran(**run), first, first)))
    assert len(found) == differs
    if differs and call["status"]:
        assert found[0].text == (
            f"{BUT}c.jsonl has a call that returned STATUS_UNSUCCESSFUL (0xc0000001)."
        )


# -- when the stack did not load -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "boots", "is_near"),
    [
        (30 * DAY, (), True), (30 * DAY + 1, (), False), (-DAY, (), True), (-DAY - 1, (), False),
        (NONE, (), True),
        (10 * DAY, (20 * DAY,), True), (10 * DAY, (20 * DAY, 5 * DAY), False),
        (10 * DAY, (5 * DAY,), True),  # no start is known before
        (0, (20 * DAY,), True),
    ],
)  # fmt: skip
def test_when_loading_failed(age: Any, boots: Any, is_near: bool) -> None:
    """In the run of Windows that crashed, or not long before where no start is known."""
    crash = 1000 * DAY
    log = row(Source, "s.xml", path="s.xml", kind="event log XML")
    at = Origin("s.xml", "event", "certain", 7, None)
    time = crash - age if isinstance(age, int) else NONE
    records = of(log, row(Event, time=time, origin=at))
    for n, boot in enumerate(boots):
        start = Clue("boot", "x", 12, "", (), crash - boot, None, None, "", "", False, False, False,
                     "", Origin("s.xml", "event", "certain", n, None))  # fmt: skip
        records.add(start)
    finding = row(Finding, rule="event-dump-init-failed", origin=at)
    other = finding._replace(rule="log-unfinished")
    rows = [row(Crash, time=crash), row(Crash, time=NONE), row(Crash, time=crash + 5 * DAY)]
    assert crash_loading.near(records, [other, finding], rows) == [finding] * is_near
    assert crash_loading.near(records, [other, finding], rows[1:2]) == [finding]
    assert crash_loading.near(records, [other], rows) == []


# -- pieces of crashes -----------------------------------------------------------------------------

_PLACES = count()


def piece(time: Any = None, code: Any = None, parameters: Any = None, **more: Any) -> Piece:
    """A piece of evidence; of an event unless it says that it is of the crash."""
    given: dict[str, Any] = {"outcome": None, "at_crash": False, "boot_id": None, **more}
    event = given.pop("event", None)
    kind = f"event {event}" if event else given.pop("tells", "kernel dump")
    origin = Origin(given.pop("source", "s.xml"), "x", "certain", next(_PLACES), None)
    system = given.pop("system", (None, None))
    return Piece(
        kind, given.pop("outcome"), code, parameters, time, given.pop("at_crash"),
        given.pop("boot_id"), system, origin, event=("p", event) if event else None, **given,
    )  # fmt: skip


P4 = (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("one", "other", "are"),
    [
        ({"code": 0xD1}, {"code": 0xD1}, False),
        ({"code": 0xD1}, {"code": 0x100000D1}, False),
        ({"code": 0xD1}, {"code": 0xD2}, True),
        ({"code": 0xD1}, {}, False),
        ({"code": 0xD1, "parameters": P4}, {"code": 0xD1, "parameters": (1, 2, 3, 5)}, True),
        ({"code": 0xD1, "parameters": P4}, {"code": 0xD1}, False),
        ({"code": 0xD1, "parameters": (0xFFFFFFFF80000001, 2, 3, 4)},
         {"code": 0xD1, "parameters": (0x80000001, 2, 3, 4)}, False),
        ({"code": 0xD1, "parameters": (0xFFFFFFFE80000001, 2, 3, 4)},
         {"code": 0xD1, "parameters": (0x80000001, 2, 3, 4)}, True),
        ({"system": ("x64", 1)}, {"system": ("x64", 2)}, True),
        ({"system": ("x64", None)}, {"system": ("x64", 2)}, False),
        ({"system": ("x64", None)}, {"system": ("x86", None)}, True),
        ({"boot_id": 1}, {"boot_id": 2}, True),
        ({"boot_id": 1}, {"boot_id": 1}, False),
        ({"boot_id": 1}, {}, False),
        ({"time": 0, "at_crash": True}, {"time": 120 * S, "at_crash": True}, False),
        ({"time": 0, "at_crash": True}, {"time": 120 * S + 1, "at_crash": True}, True),
        ({"time": 0, "at_crash": True}, {"time": 121 * S}, False),
        ({"time": 0, "at_crash": True}, {"at_crash": True}, False),
        ({"time": 0, "at_crash": True, "tells": "host log"},
         {"time": 900 * S, "at_crash": True}, False),
        ({"time": 0, "at_crash": True, "tells": "host log"},
         {"time": 900 * S + 1, "at_crash": True}, True),
    ],
)  # fmt: skip
def test_pieces_that_contradict_each_other(one: Any, other: Any, are: bool) -> None:
    """By what both state, in either order."""
    first, second = piece(**one), piece(**other)
    assert contradicts(first, second) is contradicts(second, first) is are


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        (piece(), piece(code=1), (False, False)),
        (piece(code=1), piece(code=2), (False, False)),
        (piece(code=1), piece(code=1, parameters=P4), (True, False)),
        (piece(code=1, parameters=P4), piece(code=1, parameters=P4), (True, True)),
        (piece(code=1, parameters=P4), piece(code=1, parameters=(1, 2, 3, 0)), (True, False)),
    ],
)
def test_pieces_that_agree(one: Piece, other: Piece, agree: Any) -> None:
    """On the code, on the parameters too."""
    assert agreement(one, other) == agreement(other, one) == agree
    assert bugcheck_of(piece()) == (None, None)


def test_what_identifies_a_dump_file() -> None:
    """Its name, unless it is the one that every dump has, and the number in it."""
    assert names_of("C:\\W\\MEMORY.DMP", "", "x/032526-4000-01.DMP", "a-032526-4-1.dmp") == {
        "032526-4000-01.dmp", "032526-4000-01", "a-032526-4-1.dmp",
    }  # fmt: skip


def test_starts_of_the_machine() -> None:
    """Marks of up to three minutes are one; of a log 12 counts more than 6005."""
    assert distinct([500 * S, 0, 180 * S, 360 * S + 1, 320 * S]) == [0, 320 * S]
    assert distinct([0, 180 * S + 1]) == [0, 180 * S + 1]
    one = Clue("boot", "x", 12, "", (), 5, None, None, "", "", False, False, False, "", ORIGIN)
    two = one._replace(event_id=6005, time=9)
    elsewhere = two._replace(origin=ORIGIN._replace(source="b"), time=1)
    none = one._replace(time=None), one._replace(tells="restart", time=3)
    assert started([two, one, elsewhere, *none]) == [1, 5]


@pytest.mark.parametrize(
    ("one", "other", "boots", "same"),
    [
        (5, 9, [], None), (1000 * S, 2000 * S, [1180 * S + 1], None),
        (1000 * S, 2000 * S, [1180 * S], False), (1000 * S, 2000 * S, [1179 * S], True),
        (2000 * S, 1000 * S, [500 * S, 1500 * S], False),
        (1000 * S, 2000 * S, [0, 2000 * S], False),
        (1000 * S, 2000 * S, [0, 2000 * S + 1], True),
    ],
)  # fmt: skip
def test_whether_a_start_lies_between(one: int, other: int, boots: Any, same: Any) -> None:
    """Marks of the start before lie up to three minutes behind it."""
    assert same_boot(one, other, boots) is same


def test_a_group_of_pieces() -> None:
    """Its time is that of the crash, its lead what states it; a copy of an event is none."""
    event = piece(100 * S, event=41)
    group = Group(event, 0, "x")
    assert (group.time, group.lead) == (100 * S, event)
    group.add(piece(90 * S, event=42), 0, "x")
    assert (group.time, group.lead) == (90 * S, event)
    crash = piece(95 * S, at_crash=True)
    group.add(crash, 0, "x")
    assert (group.time, group.lead) == (95 * S, crash)
    group.add(piece(94 * S, at_crash=True), 0, "x")
    group.add(piece(10 * S, event=43), 0, "x")
    assert (group.time, group.lead) == (94 * S, crash)
    asked = [(41, 110 * S), (41, 110 * S + 1), (41, 90 * S - 1), (41, None), (99, 0)]
    assert [group.has_logged(piece(time, event=number)) for number, time in asked] == [
        False, True, True, True, False,
    ]  # fmt: skip
    untimed = Group(piece(code=1), 0, "x")
    timed = piece(5, code=1)
    untimed.add(timed, 0, "x")
    assert (untimed.time, untimed.lead) == (5, timed)


@pytest.mark.parametrize(
    ("first", "then", "takes"),
    [
        ({"event": 41}, {"time": 900 * S, "event": 42}, True),
        ({"event": 41}, {"time": 900 * S + 1, "event": 42}, False),
        ({"event": 41}, {"time": 10 * S, "event": 41}, True),
        ({"event": 41}, {"time": 10 * S + 1, "event": 41}, False),
        ({"event": 41, "code": 1}, {"time": 5, "event": 41, "code": 2}, False),
        ({"event": 41, "code": 1}, {"time": 3600 * S, "event": 42, "code": 1}, True),
        ({"event": 41, "code": 1}, {"time": 3600 * S + 1, "event": 42, "code": 1}, False),
        ({"event": 41, "code": 1}, {"time": 5, "event": 42, "code": 2}, False),
        ({"event": 41, "code": 1}, {"time": 901 * S, "event": 42}, False),
        ({"event": 41}, {"time": 5, "event": 41, "names": frozenset("a")}, False),
    ],
)
def test_what_one_start_logged(first: Any, then: Any, takes: bool) -> None:
    """Within a quarter of an hour; the report of the crash within an hour."""
    start = Start(piece(0, **first))
    assert start.takes(piece(**then), 0) is takes
    assert start.is_crash is ("code" in first)
    assert Start(piece(0, outcome="failed")).is_crash


# -- joining ---------------------------------------------------------------------------------------


def grouped(*pieces: Piece, boots: Any = ()) -> list[list[tuple[int, int, str]]]:
    """Of each crash the pieces by their place in the call, how sure, and why."""
    place = {p.origin: n for n, p in enumerate(pieces)}
    groups = crash_joining.joined(pieces, list(boots))
    return [[(place[m.piece.origin], m.sure, m.why) for m in group.members] for group in groups]


def crash(time: Any, code: Any = 0xD1, parameters: Any = P4, **more: Any) -> Piece:
    """A dump."""
    return piece(time, code, parameters, at_crash=True, **{"source": "a.dmp", **more})


STATES = "the kernel dump states the crash"


@pytest.mark.parametrize(
    ("one", "other", "how"),
    [
        (crash(0), crash(120 * S),
         (0, "code and parameters and crash time agree with those of a.dmp")),
        (crash(0), crash(120 * S + 1), None),
        (crash(0, parameters=None), crash(9 * S),
         (1, "code and crash time agree with those of a.dmp")),
        (crash(0, None, None), crash(9 * S), (1, "crash time of a.dmp")),
        (crash(None), crash(0), (1, "code and parameters agree with those of a.dmp")),
        (crash(None, boot_id=3), crash(0, boot_id=3),
         (0, "code and parameters and boot id agree with those of a.dmp")),
        (crash(None, boot_id=3), crash(0, boot_id=4), None),
        (crash(None, parameters=None, boot_id=3), crash(0, boot_id=3),
         (2, "code agree with those of a.dmp")),
        (crash(None), crash(None), (1, "code and parameters agree with those of a.dmp")),
        (crash(None, 1), crash(None, 2), None),
    ],
)  # fmt: skip
def test_two_statements_of_a_crash(one: Piece, other: Piece, how: Any) -> None:
    """By bugcheck, time and boot; what contradicts is another crash."""
    found = grouped(one, other)
    assert len(found) == (2 if how is None else 1)
    if how is not None:
        assert sorted((sure, why) for _, sure, why in found[0] if why != STATES) == [how]
    sures = {sure for group in found for _, sure, why in group if why == STATES}
    assert sures <= {0} if one.code is not None else sures == {2}


@pytest.mark.parametrize(
    ("event", "boots", "how"),
    [
        ({"time": 5 * S, "code": 0xD1, "parameters": P4}, (),
         (1, "code and parameters agree; logged 5 seconds after the crash time of a.dmp")),
        ({"time": 604800 * S, "code": 0xD1}, (),
         (2, "code agrees; logged 7 days after the crash time of a.dmp")),
        ({"time": 604800 * S + 1, "code": 0xD1}, (), None),
        ({"time": 86400 * S}, (),
         (2, "logged 24 hours after the crash time of a.dmp; it names no bugcheck")),
        ({"time": 86400 * S + 1}, (), None),
        ({"time": 100 * S}, (50 * S,),
         (1, ("logged 100 seconds after the crash time of a.dmp, by the first start after it; it "
             "names no bugcheck"))),
        ({"time": 1000 * S}, (50 * S, 900 * S), None),
        ({"time": 1000 * S}, (50 * S, 900 * S, 1181 * S),  None),
        ({"time": 1000 * S, "code": 0xD1}, (50 * S, 900 * S),
         (2, "code agrees; logged 16 minutes after the crash time of a.dmp")),
        ({"time": 120 * S}, (),
         (2, "logged 2 minutes after the crash time of a.dmp; it names no bugcheck")),
        ({"time": 119 * S}, (),
         (2, "logged 119 seconds after the crash time of a.dmp; it names no bugcheck")),
        ({"time": 1 * S}, (),
         (2, "logged 1 second after the crash time of a.dmp; it names no bugcheck")),
        ({"time": 7200 * S}, (),
         (2, "logged 2 hours after the crash time of a.dmp; it names no bugcheck")),
        ({"time": 172800 * S, "code": 0xD1}, (),
         (2, "code agrees; logged 2 days after the crash time of a.dmp")),
        ({"time": -300 * S, "code": 0xD1}, (),
         (2, "code agrees; logged 5 minutes before the crash time of a.dmp")),
        ({"time": -301 * S, "code": 0xD1}, (), None),
        ({"time": -1 * S}, (), None),
        ({"time": None, "code": 0xD1, "parameters": P4}, (),
         (1, "code and parameters agree with those of a.dmp")),
        ({"time": None, "code": 0xD1}, (), (2, "code agrees with those of a.dmp")),
        ({"time": None}, (),
         (2, "it has neither time nor bugcheck; this is the only crash in the inputs")),
        ({"time": 5 * S, "code": 0xD2}, (), None),
    ],
)  # fmt: skip
def test_the_start_after_a_crash(event: Any, boots: Any, how: Any) -> None:
    """How long after it, and how sure that it is of this crash."""
    outcome = None if "code" in event else "failed"
    found = grouped(crash(0), piece(**{"outcome": outcome, **event}, event=41), boots=boots)
    assert len(found) == (2 if how is None else 1)
    if how is not None:
        assert found == [[(0, 0, STATES), (1, *how)]]


def test_events_beside_each_other() -> None:
    """What names the dump file witnesses for the others; without a dump the named event leads."""
    name = frozenset({"032526-4000-01"})
    dumped = crash(0, names=name)
    events = [piece(10 * S, event=41), piece(40 * S, event=1001, names=name)]
    assert grouped(dumped, *events) == [
        [
            (0, 0, STATES),
            (1, 1, "logged 30 seconds before event 1001 of s.xml"),
            (2, 0, "it names the dump file 032526-4000-01"),
        ]
    ]
    named = piece(40 * S, 0xD1, P4, event=1001)
    assert grouped(events[0], named) == [
        [
            (1, 0, "the event states the bugcheck"),
            (0, 1, "logged 30 seconds before event 1001 of s.xml"),
        ]
    ]
    failed = piece(10 * S, event=161, outcome="failed")
    assert grouped(failed) == [[(0, 2, "no dump, log or bugcheck event lies near it")]]
    assert grouped(piece(10 * S, event=41)) == []
    assert grouped(piece(None, event=161, outcome="failed")) == [
        [(0, 2, "no dump, log or bugcheck event lies near it")]
    ]


def test_the_order_of_crashes() -> None:
    """Oldest first; of one without a zone the local time counts; each start goes to the last."""
    found = grouped(
        crash(5000 * S, 0x50), crash(1000 * S, 0x9F), piece(6000 * S, event=161, outcome="failed"),
        piece(1100 * S, event=161, outcome="failed"),
    )  # fmt: skip
    assert [[number for number, *_ in group] for group in found] == [[1, 3], [0, 2]]
    local = piece(None, 0x1E, P4, event=1001, local_time=2000 * S)
    found = grouped(crash(5000 * S, 0x50), crash(1000 * S, 0x9F), local)
    assert [[number for number, *_ in group] for group in found] == [[1], [2], [0]]
    assert [n for n, _ in crash_joining.members(crash_joining.joined([crash(0), crash(9 * DAY)],
    []))
            ] == [1, 2]  # fmt: skip


# -- which crash something is of -------------------------------------------------------------------


def test_which_crash_an_origin_is_of() -> None:
    """By its place; of a file of one crash by the file; of an event log only by the place."""
    at = [Origin("log", "e", "certain", n, None) for n in range(4)]
    rows = [
        row(Crash, crash=2, tells="event 41", origin=at[0]),
        row(Crash, crash=1, tells="event 41", origin=at[1]),
        row(Crash, crash=3, tells="event 41", origin=at[1]),
        row(Crash, crash=1, tells="kernel dump", origin=ORIGIN),
        row(Crash, crash=NONE, tells="kernel dump", origin=ORIGIN),
    ]
    index = crashes.Index(rows)
    assert index.numbers() == [1, 2, 3]
    asked = [*at[:3], ORIGIN, ORIGIN._replace(how="other"), ORIGIN._replace(source="b")]
    assert [index.of(origin) for origin in asked] == [2, None, None, 1, 1, None]
    assert {n: len(rows) for n, rows in index.by_number.items()} == {2: 1, 1: 2, 3: 1}


@pytest.mark.parametrize(
    ("kind", "values", "rules", "outcome"),
    [
        ("kernel dump", {}, (), "written"),
        ("kernel dump", {"attributes": 0x4}, (), "smaller"),
        ("kernel dump", {"attributes": 0x3}, (), "written"),
        ("kernel dump", {"writer_status": 0}, (), "written"),
        ("kernel dump", {"writer_status": 0xC0000001}, (), "failed"),
        ("kernel dump", {"writer_status": 0xC0000001}, ("dump-file-cut",), "failed"),
        ("kernel dump", {"attributes": 0x4}, ("dump-file-cut",), None),
        *(("kernel dump", {}, (rule,), None) for rule in (
            "dump-file-cut", "triage-marker-missing", "dump-not-by-windows", "dump-ended-early")),
        ("kernel dump", {"attributes": 0x10}, (), "live"),
        ("debugger session", {}, (), None),
        ("debugger session", {"dump_type_name": "x"}, (), "written"),
        ("debugger session", {"dump_type_name": "x"}, ("dump-file-cut",), None),
        ("debugger session", {"dump_type_name": "x"}, ("dump-header-failure",), "failed"),
        ("memory snapshot", {"dump_type_name": "x"}, (), None),
        ("debugger session", {"bugcheck": NONE}, (), "live"),
        ("debugger session", {"bugcheck": 0}, (), "live"),
        ("host log", {}, (), None),
        ("host log", {}, ("host-ended-guest",), "failed"),
        ("event log XML", {}, (), "live"),
        ("dumpstack.log", {}, (), "live"),
        ("dumpstack.log", {"stages": ("step",)}, (), None),
        ("dumpstack.log", {"stages": ("unrecognised-line",)}, (), "live"),
        ("dumpstack.log", {"stages": ("dump-completed",)}, (), "written"),
        ("dumpstack.log", {"stages": ("dump-completed",)}, ("log-dump-type-reduced",), "smaller"),
        ("dumpstack.log", {"stages": ("dump-completed",)}, ("log-unfinished",), "written"),
        ("dumpstack.log", {"stages": ("step",)}, ("log-unfinished",), "failed"),
        ("dumpstack.log", {"stages": ("step",)}, ("log-failure-line",), "failed"),
        ("dumpstack.log", {"stages": ("step",)}, ("log-dump-type-reduced",), None),
    ],
)  # fmt: skip
def test_how_the_dump_of_a_crash_ended(kind: str, values: Any, rules: Any, outcome: Any) -> None:
    """By what each source states; "live" stands for no crash at all."""
    values = dict(values)
    stages = values.pop("stages", ())
    given = {"bugcheck": 0xD1, "parameter1": 1, "parameter2": 2, "parameter3": 3, "parameter4": 4}
    records = of(
        dump(kind=kind), row(Machine, **{**given, **values}),
        *(row(Stage, stage=stage) for stage in stages),
        anomalies=[Anomaly(rule, "x", ORIGIN) for rule in rules],
    )  # fmt: skip
    rows = crashes.group(records)
    if outcome == "live":
        assert rows == []
        return
    name = {"dumpstack.log": "dump log"}.get(kind, kind)
    why = f"the {name} states the crash"
    untold = Absent("not-recorded", f"this {name} does not state it")
    assert rows == [
        Crash(
            1, name, outcome, 0xD1, "DRIVER_IRQL_NOT_LESS_OR_EQUAL", 1, 2, 3, 4, untold, untold,
            untold, untold, why, ORIGIN,
        )
    ]  # fmt: skip


# -- snapshots -------------------------------------------------------------------------------------


def look(
    path: str, time: Any, processor: Any, frames: Any = (), base: int = 0x1000, n: int = 3
) -> Any:
    """One snapshot: what a processor was in, and its stack."""
    return [
        dump(path, "memory snapshot"),
        row(Machine, path, system_time=time),
        *(row(Module, path, name=f"m{k}", base=base + k, loaded=True) for k in range(n)),
        row(Processor, path, **{"processor": 0, "symbol": "f+0x10", **processor}),
        *(row(Frame, path, **{"processor": 0, "stack_of": "processor",
        **frame}) for frame in frames),
    ]  # fmt: skip


IN = {"filter": "f.sys", "callback": "Dump_Write", "instruction_pointer": 5}
STACK = [
    {"module": "x", "instruction_pointer": 0, "stack_pointer": 0},
    {"module": "f.sys", "instruction_pointer": 5, "stack_pointer": 8},
    {"module": "crashdmp", "instruction_pointer": 6, "stack_pointer": 9},
    {"module": "nt", "instruction_pointer": 7, "stack_pointer": 10},
]
OTHER = [*STACK[:2], {"module": "crashdmp", "instruction_pointer": 6, "stack_pointer": 99}]
WHERE = "Processor 0 was inside Dump_Write of f.sys in a and is"
THERE = ("still there in b{}, called from the same place: either it has not returned or it was "
         "called again.")  # fmt: skip
STILL = " (in the order given: the machine's clock stands still)"


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        (look("a", 1, IN, STACK), look("b", 2, IN, STACK), f"{WHERE} {THERE.format('')}"),
        (look("a", 1, IN, STACK), look("b", 1, IN, STACK), f"{WHERE} {THERE.format(STILL)}"),
        (look("a", NONE, IN, STACK), look("b", 2, IN, STACK), f"{WHERE} {THERE.format(STILL)}"),
        (look("a", 1, IN, STACK), look("b", 2, IN, OTHER),
         f"{WHERE} inside Dump_Write of f.sys in b: it moved on."),
        (look("a", 1, IN, STACK), look("b", 2, {**IN, "callback": NONE}, STACK),
         f"{WHERE} inside f.sys in b: it moved on."),
        (look("a", 1, IN, STACK), look("b", 2, {**IN, "filter": NONE}, STACK),
         f"{WHERE} in no filter in b, but at f+0x10: it returned."),
        (look("b", 2, {**IN, "filter": NONE}), look("a", 1, IN, STACK),
         f"{WHERE} in no filter in b, but at f+0x10: it returned."),
        (look("a", 1, {**IN, "filter": NONE}, STACK), look("b", 2, IN, STACK), ""),
        (look("a", 1, {**IN, "processor": NONE}, STACK), look("b", 2, IN, STACK), ""),
        (look("a", 1, IN, STACK), look("b", 2, {**IN, "processor": 1}, STACK), ""),
        (look("a", 1, IN, STACK), look("b", 2, IN, STACK, base=0x2000), ""),
        (look("a", 1, IN, STACK, n=2), look("b", 2, IN, STACK, n=2), ""),
        (look("a", 1, IN, STACK, n=4), look("b", 2, IN, STACK), ""),
        (look("a", 1, IN, STACK), look("b", 2, IN, STACK, n=4), ""),
        (look("a", 1, IN, [{**f, "stack_of": "stale 1"} for f in STACK]), look("b", 2, IN, []),
         f"{WHERE} {THERE.format('')}"),
        (look("a", 1, IN, [{**f, "processor": 1} for f in STACK]), look("b", 2, IN, STACK),
         f"{WHERE} inside Dump_Write of f.sys in b: it moved on."),
    ],
)  # fmt: skip
def test_two_snapshots(first: Any, second: Any, says: str) -> None:
    """Whether a processor that was inside a callback is there still."""
    found = list(snapshots.check(of(*first, *second)))
    assert [one.text for one in found] == ([says] if says else [])
    for one in found:
        rule = "callback-still-executing" if "still there" in says else "callback-moved-on"
        assert (one.rule, one.subject, one.origin.source) == (rule, "f.sys", "b")
        assert one.facts == {"processor": 0, "filter": "f.sys", "callback": "Dump_Write"}


def test_several_snapshots_and_machines() -> None:
    """Each is compared with the next of its own machine."""
    rows = [look(name, time, IN, STACK) for name, time in (("a", 3), ("b", 1), ("c", 2))]
    rows.insert(1, look("z", 2, IN, STACK, base=0x9000))
    rows.append(look("y", 3, IN, STACK, base=0x9000))
    rows.insert(0, look("w", 3, IN, STACK, base=0x7000))  # alone
    found = [one.text.split(",")[0] for one in snapshots.check(of(*chain.from_iterable(rows)))]
    head = "Processor 0 was inside Dump_Write of f.sys in"
    assert found == [
        f"{head} b and is still there in c", f"{head} c and is still there in a",
        f"{head} z and is still there in y",
    ]  # fmt: skip


# -- where it crashed ------------------------------------------------------------------------------

BASE = 0xFFFFF80000000000


def crashed_at(address: Any, *rows: Any, **module_fields: Any) -> list[tuple[Any, ...]]:
    """What is said of a crash at an address in f.sys."""
    given = {"role": "dump filter", "stack": "crash", "loaded": True, **module_fields}
    image = row(Module, name="f.sys", base=BASE, end=BASE + 0x100, **given)
    one = row(Machine, bugcheck=0xD1, attributes=0, faulting_address=address)
    return told(crash_place.check, of(dump(), one, image, *rows))


NODE = {"filter": "F.SYS", "stack": "crash", "node": 1, "dump_start": BASE + 0x10}
LIES = "The crash lies in the dump filter f.sys of the crash stack, at 0xfffff800000000"


@pytest.mark.parametrize(
    ("offset", "node", "where"),
    [
        (0x20, {}, "in its Dump_Start (0x10 bytes behind its start, before any other)"),
        (0x10, {}, "in its Dump_Start (0x0 bytes behind its start, before any other)"),
        (0x0F, {}, "before the first of its callbacks, in its DriverEntry or another routine"),
        (0x40, {"dump_write": BASE + 0x30, "dump_finish": BASE + 0x50},
         "in its Dump_Write (0x10 bytes behind its start, before any other)"),
        (0x60, {"dump_write": BASE + 0x30, "dump_finish": BASE + 0x50},
         "in its Dump_Finish (0x10 bytes behind its start, before any other)"),
        (0x40, {"dump_write": 0},
         "in its Dump_Start (0x30 bytes behind its start, before any other)"),
        (0x40, {"node": NONE}, "in which of its callbacks is not determined"),
        (0x40, {"filter": "g.sys"}, "in which of its callbacks is not determined"),
        (0x40, {"stack": "hibernation"},
         "before the first of its callbacks, in its DriverEntry or another routine"),
    ],
)  # fmt: skip
def test_a_crash_in_a_dump_filter(offset: int, node: Any, where: str) -> None:
    """The last callback that starts at or before the address."""
    found = crashed_at(BASE + offset, row(Filter, **{**NODE, **node}))
    text = f"The crash lies in the dump filter f.sys of the crash stack, at {BASE + offset:#x}: "
    assert ("crash-in-dump-filter", "f.sys", f"{text}{where}.") in found
    assert crashed_at(BASE - 1) == crashed_at(BASE + 0x100) == []
    assert crashed_at(BASE, loaded=False) == []
    assert crashed_at(NONE) == []


def test_a_crash_in_the_stack_or_in_a_filters_driver() -> None:
    """Other images of the stack, crashdmp, and the driver whose copy the filter is."""
    stack = "The crash lies in the dump stack itself: in f.sys ({}), at " + f"{BASE:#x}."
    for role, which in (("dump miniport", "crash"), ("crash dump driver", NONE)):
        found = crashed_at(BASE, role=role, stack=which)
        assert found == [("crash-in-dump-stack", "f.sys", stack.format(role))]
    copy = row(Module, name="dump_f.sys", loaded=True, role="dump filter", stack="crash",
               original="F.sys", base=BASE + 0x1000, end=BASE + 0x2000)  # fmt: skip
    found = crashed_at(BASE, copy, role="driver", stack=NONE)
    assert found == [
        ("crash-in-filter-original", "f.sys", (f"The crash lies in f.sys, at {BASE:#x}, the driver "
         "that the dump filter dump_f.sys is a copy of.")),
    ]  # fmt: skip
    for other in ({"loaded": False}, {"role": "dump miniport"}, {"original": "g.sys"}):
        assert crashed_at(BASE, copy._replace(**other), role="driver", stack=NONE) == []


def test_sleep() -> None:
    """A hibernation stack in memory, and what it writes through."""
    images = [
        row(Module, name=name, loaded=True, stack=stack, role=role)
        for name, stack, role in (
            ("hiber_a.sys", "hibernation", "dump miniport"),
            ("hiber_f.sys", "hibernation", "dump filter"),
            ("dump_f.sys", "crash", "dump filter"),
        )
    ]
    head = (
        "The hibernation stack is loaded ({}), as it is while a machine hibernates, shuts down "
        "for a fast startup, or wakes up."
    )
    both = head.format("hiber_a.sys, hiber_f.sys")
    through = " What it writes goes through hiber_f.sys"
    one = row(Machine, bugcheck=0xD1, attributes=0)
    cases = (
        (images, f"{both}{through}; a crash dump goes through dump_f.sys."),
        (images[:2], f"{both}{through}."),
        (images[:1], head.format("hiber_a.sys")),
        (images[2:], ""),
    )
    for rows, says in cases:
        found = told(crash_place.check, of(dump(), one, *rows))
        assert [text for _, _, text in found] == ([says] if says else [])


def test_many_images_of_a_hibernation_stack() -> None:
    """Four are named, and three filters of each stack."""
    rows = [
        row(Module, name=f"{stack[0]}{n}", loaded=True, stack=stack, role="dump filter")
        for stack in ("hibernation", "crash")
        for n in range(9)
    ]
    (seen,) = by_source(of(dump(), row(Machine, bugcheck=0xD1, attributes=0), *rows))
    (found,) = crash_place.check(seen)
    assert found.text == (
        "The hibernation stack is loaded (h0, h1, h2, h3), as it is while a machine hibernates, "
        "shuts down for a fast startup, or wakes up. What it writes goes through h0 and h1 and h2; "
        "a crash dump goes through c0 and c1 and c2."
    )
    assert [e.value for e in found.evidence] == [f"h{n}" for n in range(8)]


# -- rules -----------------------------------------------------------------------------------------


def test_a_rule_that_is_not_there() -> None:
    """Up to five that are spelled alike, the nearest first."""
    with pytest.raises(UsageError) as caught:
        explain("registry-dump-disable")
    hint = str(caught.value).partition("did you mean ")[2]
    assert hint.startswith("registry-dump-disabled, ")
    assert len(hint.split(", ")) == 5
    with pytest.raises(UsageError, match="there is no rule 'zzz': no rule has a similar name"):
        explain("zzz")


@pytest.mark.parametrize(
    ("kinds", "given"),
    [
        (["kernel dump"], {"a kernel dump"}),
        (["memory snapshot"], {"a kernel dump"}),
        (["dumpstack.log"], {"a DumpStack.log"}),
        (["registry hive"], {"the registry"}),
        (["registry export", "etl"],
         {"the registry", "an ETW trace", "several sources of one crash"}),
        (["evtx"], {"an event log"}),
        (["event log YAML"], {"an event log"}),
        (["capture"], {"a capture or debugger log"}),
        (["WinDbg log"], {"a capture or debugger log"}),
        (["other", NONE], set()),
    ],
)  # fmt: skip
def test_what_rules_are_judged_by(kinds: Any, given: Any) -> None:
    """Which sources are there; a rule that was broken or needs nothing is not counted as passed."""
    records = of(*(row(Source, f"{n}", path=f"{n}", kind=kind) for n, kind in enumerate(kinds)))
    assert coverage._given(records) == given
    rules: Any = dict.fromkeys(
        ("log-x", "log-dt-x", "callback-x", "callback-outside-x", "case-x", "input-x", "dump-x")
    )
    needs = ["a DumpStack.log", "a capture or debugger log", "a capture or debugger log",
             "a kernel dump", "several sources of one crash", "", "a kernel dump"]  # fmt: skip
    assert [coverage._need(rule) for rule in rules] == needs
    found = coverage.coverage(records, rules)
    wanted = [need for need in needs if need and need not in given]
    assert found.passed == sum(need in given for need in needs if need)
    assert (found.broken, found.missing) == (0, {need: wanted.count(need) for need in wanted})
    records.add(row(Finding, rule="log-x"), row(Finding, rule="fleet-x"), ran())
    assert coverage._given(records) == given | {"a baseline", "a dry run"}
    again = coverage.coverage(records, rules)
    assert (again.broken, again.missing.get("a DumpStack.log")) == (1, None)


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        ([("nt", "nt!KeBugCheckEx"), ("dump_f", "dump_f!Start+0x10"),
          ("crashdmp", "crashdmp!StartFilterDrivers+0x20"), ("nt", "nt!X")],
         ("crash-in-dump-filter", ("The crash lies in the dump filter dump_f, in its "
         "Dump_Start: at "
          "dump_f!Start+0x10, called by crashdmp!StartFilterDrivers+0x20."))),
        ([("hal", "hal!X"), ("CRASHDMP", "crashdmp!DumpWrite+0x1")],
         ("crash-in-dump-stack", "The crash lies in crashdmp itself: at crashdmp!DumpWrite+0x1.")),
        ([("dump_port", "dump_port!X+1")],
         ("crash-in-dump-stack", ("The crash lies in dump_port, an image of the dump stack: at "
          "dump_port!X+1."))),
        ([("dump_f", "dump_f!FxDriverEntry+1"), ("crashdmp", "crashdmp!InitializeFilterDrivers"),
          ("crashdmp", "crashdmp!A"), ("crashdmp", "crashdmp!B")],
         ("crash-in-dump-filter", ("The crash lies in the dump filter dump_f, in its "
         "DriverEntry: at "
          "dump_f!FxDriverEntry+1, called by crashdmp!InitializeFilterDrivers and crashdmp!A. "
          "FxDriverEntry is the entry of a KMDF driver, which takes what crashdmp gives a filter "
          "(FILTER_EXTENSION and FILTER_INITIALIZATION_DATA) for a DRIVER_OBJECT."))),
        ([("dump_f", "dump_f!X"), ("crashdmp", "crashdmp!FilterCallback")],
         ("crash-in-dump-filter", ("The crash lies in the dump filter dump_f: at dump_f!X, "
         "called by "
          "crashdmp!FilterCallback."))),
        ([("crashdmp", "crashdmp!X"), ("crashdmp", "crashdmp!FilterCallback")],
         ("crash-in-dump-stack", ("The crash lies in crashdmp itself: at crashdmp!X, called by "
          "crashdmp!FilterCallback."))),
        ([("nt", "nt!X")], None),
        ([("nt", "nt!X"), ("badnic", "badnic!X"), ("dump_f", "dump_f!X")], None),
    ],
)  # fmt: skip
def test_a_crash_by_its_stack(frames: Any, says: Any) -> None:
    """The first frame outside the kernel, and which call of crashdmp's led there."""
    rows = [
        row(Frame, stack_of="crash stack", frame=n, module=module, symbol=symbol)
        for n, (module, symbol) in enumerate(frames)
    ]
    found = told(crash_stack.check, of(dump(), *rows))
    assert [(rule, text) for rule, _, text in found] == ([] if says is None else [says])
    other = [one._replace(stack_of="processor") for one in rows]
    assert told(crash_stack.check, of(dump(), *other)) == []


@pytest.mark.parametrize(
    ("build", "crashdmp", "image", "says"),
    [
        (6000, True, True, ""),
        (5999, False, True, ""),
        (6000, False, True, ("The 2 loaded modules include dump_a.sys but not crashdmp.sys, which "
         "loads it: the list is not that of a whole Windows.")),
        (6000, False, False,
         "The 1 loaded modules do not include crashdmp.sys or any named dump_*."),
        (6000, True, False, "The 2 loaded modules do not include any module named dump_*."),
        (5999, False, False, "The 1 loaded modules do not include any module named dump_*."),
        (NONE, False, False, "The 1 loaded modules do not include any module named dump_*."),
    ],
)  # fmt: skip
def test_a_dump_stack_that_is_missing(build: Any, crashdmp: bool, image: bool, says: str) -> None:
    """Since Vista crashdmp loads it."""
    rows = [row(Module, name="nt", loaded=True)]
    if crashdmp:
        rows.append(row(Module, name="crashdmp.sys", loaded=True, role="crash dump driver"))
    if image:
        rows.append(row(Module, name="dump_a.sys", loaded=True, stack="crash"))
    one = row(Machine, bugcheck=0xD1, attributes=0, build=build)
    found = told(machine.check, of(dump(), one, *rows))
    assert [text for _, _, text in found] == ([says] if says else [])
    partial = of(dump(), one, *rows, anomalies=[Anomaly("modules-incomplete", "x", ORIGIN)])
    assert told(machine.check, partial) == []


def test_one_finding_a_source_reported_itself() -> None:
    """Is not made again by a check, whatever its subject was called there."""
    from analyzer import checks

    for subject in ("dump", ""):
        records = changed("machine", attributes=0x4)
        origin = records["machine"][0].origin
        records.add(Anomaly("dump-space-insufficient", "said", origin, subject))
        found = [f.text for f in checks.run(records) if f.rule == "dump-space-insufficient"]
        assert found == ["said"]
    assert all(rule.id == name for name, rule in RULES.items())


def start_of(time: int, number: int = 161) -> Piece:
    """A start that logged that the dump failed."""
    return piece(time, event=number, outcome="failed")


def test_each_start_tells_of_one_crash() -> None:
    """The last before it; a later start is of no crash that another one told of."""
    far = 10000 * S
    found = grouped(crash(0), start_of(50 * S), start_of(far, 162))  # no start is known between
    assert [[number for number, *_ in group] for group in found] == [[0, 1, 2]]
    found = grouped(crash(0), start_of(50 * S), crash(9000 * S, 0x50), start_of(far, 162))
    assert [[number for number, *_ in group] for group in found] == [[0, 1], [2, 3]]
    named = piece(far, 0xD1, P4, event=1001)
    found = grouped(crash(0), crash(9000 * S, 0x50), named)
    assert [[number for number, *_ in group] for group in found] == [[0, 2], [1]]
    found = grouped(crash(0), start_of(0))
    assert found[0][1][2] == "logged 0 seconds after the crash time of a.dmp; it names no bugcheck"
    two = crash(0), start_of(100 * S), crash(300 * S, 0x50), start_of(500 * S, 162)
    found = grouped(*two, boots=(90 * S, 490 * S))  # each start by itself
    assert [[number for number, *_ in group] for group in found] == [[0, 1], [2, 3]]
    boots = (50 * S, 600 * S)
    found = grouped(crash(0), start_of(60 * S), start_of(610 * S, 162), boots=boots)
    assert [[number for number, *_ in group] for group in found] == [[0, 1], [2]]
    found = grouped(crash(0), start_of(60 * S), start_of(610 * S, 162), boots=(50 * S,))
    assert [[number for number, *_ in group] for group in found] == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("build", "architecture", "is_known"), [(7601, "x86", True), (7602, "x86", False),
                                            (7601, "x64", False)],
)  # fmt: skip
def test_where_the_state_of_a_filter_is_known(
    build: int, architecture: str, is_known: bool
) -> None:
    """Of the same source, on the builds whose code proves it."""
    one = row(Machine, "b", build=build, architecture=architecture)
    for source, found in (("a", False), ("b", is_known), ("c", False)):
        assert machine.knows_filter_state([one], source) is found


DISKCRYPTOR = (
    "The bugcheck is one that dump_dcrypt.sys makes itself: DiskCryptor stops the machine so when "
    "its Dump_Start fails; parameter 2 is the status."
)


@pytest.mark.parametrize(
    ("code", "name", "loaded", "is_told"),
    [
        (0xC000028A, "dump_dcrypt.sys", True, True), (0xC000028A, "dump_dcrypt.sys", False, False),
        (0xC000028A, "dump_x.sys", True, False), (0xC000028B, "dump_dcrypt.sys", True, False),
    ],
)  # fmt: skip
def test_a_bugcheck_that_a_filter_makes(code: int, name: str, loaded: bool, is_told: bool) -> None:
    """Of a filter that is loaded."""
    images = (row(Module, name="a.sys", loaded=True), row(Module, name=name, loaded=loaded))
    found = told(crash_place.check, of(dump(), row(Machine, bugcheck=code, attributes=0), *images))
    wanted = [("crash-by-dump-filter", "dump_dcrypt.sys", DISKCRYPTOR)]
    assert found == (wanted if is_told else [])


@pytest.mark.parametrize(
    ("module", "callback", "is_known"),
    [
        ("dump_dcrypt.sys", "Dump_Start", True), (NONE, "Dump_Start", False),
        ("dump_dcrypt.sys", NONE, False), (NONE, NONE, False), ("dcrypt", "Dump_Write", False),
    ],
)  # fmt: skip
def test_harmless_statuses_of_what_is_known(module: Any, callback: Any, is_known: bool) -> None:
    """Of a filter and a callback that both have a name."""
    assert bool(benign.why(module, callback, 0xC0210001 - (1 << 32))) is is_known
    assert benign.why(module, callback, 0xC0210002) == ""


STAGE = "stage 0x46 (dump complete callbacks called, dump is being closed)"


@pytest.mark.parametrize("loaded", [False, True])
def test_where_a_crash_stopped(loaded: bool) -> None:
    """A second crash names the images of the stack that may have made it; else what froze."""
    suspects = [
        row(Module, name=name, loaded=True, stack=stack, role=role)
        for name, stack, role in (
            ("a.sys", "crash", "dump filter"), ("b.sys", "crash", "dump miniport"),
            ("c.sys", "hibernation", "dump filter"), ("d.sys", "crash", "dump port driver"),
        )
    ]  # fmt: skip
    suspects.append(suspects[0]._replace(name="e.sys", loaded=False))
    rows = suspects if loaded else []
    values = (0x46, progress.SECOND_BUGCHECK | 0x46, progress.FAILED | 0x46)
    found = [told(crash_place._second, of(dump(), row(Stage, progress=v), *rows)) for v in values]
    frozen = progress.FLAGS[progress.FAILED]
    assert found == [
        [],
        [
            (
                "crash-second-bugcheck", "crash path",
                f"The machine crashed a second time while it handled the crash, at {STAGE}: code "
                "that runs there, such as a filter's callbacks or the dump miniport, crashed "
                "itself." + (" In this stack: a.sys, b.sys." if loaded else ""),
            )
        ],
        [
            (
                "crash-path-failed", "crash path",
                f"BugCheckProgress {progress.FAILED | 0x46:#x} stopped at {STAGE}: {frozen}.",
            )
        ],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("times", "values", "says"),
    [
        ((1000 * S, 2000 * S), {}, (" from 1970-01-01 00:16:40 to 1970-01-01 00:33:20 UTC. "
         "All have bugcheck 0xd1 with the same parameters.")),
        ((2000 * S, 1000 * S), {"parameter4": 5},
         " from 1970-01-01 00:16:40 to 1970-01-01 00:33:20 UTC. All have bugcheck 0xd1."),
        ((1000 * S, NONE), {"bugcheck": 0xD2}, "."),
        ((1000 * S, 2000 * S), {"bugcheck": NONE},
         " from 1970-01-01 00:16:40 to 1970-01-01 00:33:20 UTC."),
        ((NONE, NONE), {"parameter1": NONE}, ". All have bugcheck 0xd1."),
    ],
)  # fmt: skip
def test_several_crashes(times: Any, values: Any, says: str) -> None:
    """Over what span, where each has a time, and what every one of them states."""
    given = {"bugcheck": 0xD1, **{f"parameter{n}": n for n in range(1, 5)}}
    records = Records()
    for number, time in enumerate(times, 1):
        path = f"{number}.dmp"
        fields = {**given, **(values if number == 2 else {})}
        records.add(dump(path), row(Machine, path, faulting_module="m", **fields))
        records.add(row(Crash, path, crash=number, tells="kernel dump", time=time, **fields))
    (found,) = case_history.several(CaseSeen(records, []))
    if says.endswith("."):
        shared = "; the faulting code is in m." if "All have" in says else "."
        says = says[:-1] + shared
    assert found.text == f"The inputs are of 2 different crashes (1.dmp and 2.dmp){says}"
    known = [time for time in times if isinstance(time, int)]
    facts = {"crashes": 2, "module": "m", "storage_errors": 0}
    if "All have" in says:
        facts["bugcheck"] = 0xD1
    if not values or set(values) == {"bugcheck"}:
        facts.update({f"parameter{n}": n for n in range(1, 5)})
    if known:
        facts.update(first_time=min(known), last_time=max(known))
    assert {k: v for k, v in found.facts.items() if k in facts or k.startswith("p")} == facts
    whens = ["time unknown" if t is NONE else f"1970-01-01T00:{t // S // 60:02}" for t in times]
    assert [when in str(e.value) for when, e in zip(whens, found.evidence)] == [True, True]
    one = Records()
    one.add(dump("1.dmp"), row(Crash, "1.dmp", crash=1, tells="kernel dump", time=5))
    assert list(case_history.several(CaseSeen(one, []))) == []


@pytest.mark.parametrize(
    ("source", "tells", "module"),
    [("2.dmp", "kernel dump", True), ("2.dmp", "event 41", False), ("x.log", "dump log", False)],
)
def test_whose_module_a_crash_has(source: str, tells: str, module: bool) -> None:
    """A dump's module is of its own crash, not of earlier ones that events in it tell of."""
    records = of(dump("1.dmp"), dump("2.dmp"), dump("x.log", "dumpstack.log"))
    for number, (path, what) in enumerate((("1.dmp", "kernel dump"), (source, tells)), 1):
        records.add(row(Crash, path, crash=number, tells=what, time=number * S))
    records.add(*(row(Machine, path, faulting_module="m") for path in ("1.dmp", "2.dmp")))
    (found,) = case_history.several(CaseSeen(records, []))
    first, second = (str(one.value) for one in found.evidence)
    assert first == "crash 1, bugcheck ?, in m, 1970-01-01T00:00:01.0000000Z"
    assert second.startswith("crash 2, bugcheck ?, in m, " if module else "crash 2, bugcheck ?, 19")
    assert ("module" in found.facts) is module


@pytest.mark.parametrize(("entries", "taken"), [(1, 1), (64, 64), (65, 64)])
def test_registered_filters_have_a_bound(entries: int, taken: int) -> None:
    """In call order; the whole list as one value is no entry."""
    names = ["DumpFilters", *(f"dumpfilters[{n}]" for n in range(entries)), "DumpFiltersX[1]"]
    records = of(dump("r", "registry export"), dump("q", "registry export"))
    for source, key in (("r", r"x\CrashControl"), ("r", "Other"), ("q", "CrashControl")):
        records.add(*(row(Setting, source, key=key, name=name, value=source) for name in names))
    found = CaseSeen(records, []).registered("r")
    assert [one.name for one in found] == names[1 : 1 + taken]
    assert {(one.key, one.value) for one in found} == {(r"x\CrashControl", "r")}


def frame(place: int, module: str, **values: Any) -> Any:
    """A frame of processor 0."""
    given = {"stack_of": "processor 0", "processor": 0, "instruction_pointer": place, **values}
    return row(Frame, module=module, symbol=f"{module}+{place:#x}", **given)


OUTSIDE = [
    frame(1, "x"),
    frame(9, "a"),
    frame(2, "f.sys"),
    frame(3, "f.sys"),
    frame(4, "c"),
    frame(5, "d"),
]
ONE_LOOK = (
    " One look does not prove that it hangs there; a second snapshot, taken later, tells whether "
    "it moves on."
)


@pytest.mark.parametrize(
    ("values", "sure", "frames", "says"),
    [
        ({}, "certain", OUTSIDE,
         "Processor 0 is inside Dump_Start of f.sys, at s, called by c+0x4." + ONE_LOOK),
        ({}, "likely", OUTSIDE[:4],
         "Processor 0 is likely inside Dump_Start of f.sys, at s." + ONE_LOOK
         + " How it is known: made."),
        ({"callback": NONE}, "likely", [],
         "Processor 0 is likely inside f.sys, at s. Which callback, if any, is not determined."
         + ONE_LOOK + " How it is known: made."),
        ({"processor": NONE}, "certain", OUTSIDE,
         "The processor is inside Dump_Start of f.sys, at s." + ONE_LOOK),
        ({}, "certain", [one._replace(stack_of="stale 1") for one in OUTSIDE],
         "Processor 0 is inside Dump_Start of f.sys, at s." + ONE_LOOK),
        ({}, "certain", [one._replace(stack_of=NONE) for one in OUTSIDE],
         "Processor 0 is inside Dump_Start of f.sys, at s." + ONE_LOOK),
        ({}, "certain", [one._replace(processor=1) for one in OUTSIDE],
         "Processor 0 is inside Dump_Start of f.sys, at s." + ONE_LOOK),
        ({}, "guess", OUTSIDE, ""), ({"filter": NONE}, "certain", OUTSIDE, ""),
    ],
)  # fmt: skip
def test_a_processor_inside_a_callback(values: Any, sure: str, frames: Any, says: str) -> None:
    """How sure that is, what it is in, and the first frame of its own stack that is not of it."""
    given = {"processor": 0, "filter": "f.sys", "callback": "Dump_Start", "symbol": "s", **values}
    one = row(Processor, origin=ORIGIN._replace(confidence=sure), instruction_pointer=7,
              stack_pointer=8, **given)  # fmt: skip
    found = [a for seen in by_source(of(dump(), one, *frames)) for a in executing.check(seen)]
    assert [a.text for a in found] == ([says] if says else [])
    for finding in found:
        called = [("called_by", 4)] if "called by" in says else []
        rows = [("instruction_pointer", 7), ("stack_pointer", 8), *called]
        assert [(e.label, e.value) for e in finding.evidence] == rows
        assert finding.facts == {
            "processor": None if values.get("processor") is NONE else 0, "filter": "f.sys",
            "callback": None if "callback" in values else "Dump_Start", "instruction_pointer": 7,
            "stack_pointer": 8,
        }  # fmt: skip


@pytest.mark.parametrize(
    ("listed", "least", "members", "problem", "says"),
    [
        (0, 1, None, "", "no filter modules, but crashdmp's list has at least 1 filters"),
        (1, 2, None, "", "1 filter module, but crashdmp's list has at least 2 filters"),
        (2, 3, None, "", "2 filter modules, but crashdmp's list has at least 3 filters"),
        (2, 2, None, "", ""), (3, 2, None, "", ""), (None, 2, None, "", ""), (1, 2, 2, "", ""),
        (1, 2, None, "x", ""),
    ],
)  # fmt: skip
def test_fewer_modules_than_filters(
    listed: int | None, least: int, members: int | None, problem: str, says: str
) -> None:
    """Of a list that is open; one whose number is certain is compared elsewhere."""
    ring = Ring("crash", 0x10, None, (), (), problem, members, least, "h")
    found = {rule: text for rule, text, *_ in
             dump_records._ring_faults(ring, "crash stack", listed, True)}  # fmt: skip
    assert found.get("filter-count-differs", "") == (f"The crash stack has {says}." if says else "")
    assert ("filter-ring-broken" in found) is bool(problem)
    nowhere = ring._replace(head=NONE)
    assert "filter-count-differs" not in {
        rule for rule, *_ in dump_records._ring_faults(nowhere, "crash stack", listed, True)
    }


@pytest.mark.parametrize(
    ("lines", "shown", "more"), [(0, 0, 0), (12, 12, 0), (13, 12, 1), (20, 12, 8)]
)
def test_how_much_a_finding_of_several_sources_holds(lines: int, shown: int, more: int) -> None:
    """A hostile source must not make it long: its text, its subject, its evidence."""
    rows = [Evidence(f"{n}", n) for n in range(lines)]
    found = case_seen.joined("r", "t" * 1001, ORIGIN, "s" * 101, *rows, fact=1)
    assert (found.text, found.subject, found.facts) == ("t" * 1000, "s" * 100, {"fact": 1})
    wanted = rows[:shown] + ([Evidence("", f"{more} more")] if more else [])
    assert list(found.evidence) == wanted
    one = case_seen.setting(row(Setting, name="n" * 101, value="v" * 201))
    assert (one.label, one.value) == ("n" * 100, "v" * 200)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("", ""), ("a", "a"), ("ab", "a and b"), ("abc", "a, b and c"),
        ("abcdef", "a, b, c, d, e and f"), ("abcdefg", "a, b, c, d, e, f and 1 more"),
        ("abcdefghi", "a, b, c, d, e, f and 3 more"),
    ],
)  # fmt: skip
def test_names_in_a_sentence(names: str, words: str) -> None:
    """Six of them."""
    assert case_seen.listed(list(names)) == words


def test_what_a_finding_rests_on_first() -> None:
    """Its first evidence with its source, or its words."""
    anomaly = Anomaly("r", "text", ORIGIN, "s", (), {})
    assert case_seen.leading(anomaly) == Evidence("", "text", origin=ORIGIN)
    bare, own = Evidence("a", 1), Evidence("b", 2, origin=ORIGIN._replace(source="b"))
    assert case_seen.leading(anomaly._replace(evidence=(bare, own))) == bare._replace(origin=ORIGIN)
    assert case_seen.leading(anomaly._replace(evidence=(own, bare))) == own


@pytest.mark.parametrize(("time", "local"), [(5, ""), (None, "1/2/2026 3:04:05")])
def test_the_local_time_of_a_clue(time: Any, local: str) -> None:
    """As it stands in the export, where that tells no other time."""
    text = "1/2/2026 3:04:05"
    clue = Clue(
        "report", "P", 1001, "", (), time, None, None, "", "", False, False, False, text, ORIGIN
    )
    piece = crashes._of_clue(clue)
    assert (piece.time, piece.local, piece.tells) == (time, local, "event 1001")
