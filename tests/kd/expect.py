"""What a capture of a scenario must tell, whichever debugger made it."""

from __future__ import annotations

import uuid
from typing import Any

from analyzer.absence import Absent
from analyzer.live.lines import span
from analyzer.names import ntstatus

from .image import Image
from .machine import DISK
from .scenarios import SCENARIOS, TICKS_PER_SECOND

#: scenario -> (rule, filter) of each finding
FINDINGS = {
    "normal": [],
    "failing": [
        ("filter-disabled", "dump_beta.sys"),  # as crashdmp left its node
        ("filter-callback-failed", "dump_beta.sys"),
    ],
    "hang": [("callback-never-returned", "dump_beta.sys")],
    "late": [("duration-below-noise", "dump_beta.sys")],  # its DriverEntry takes no time there
    "unload": [],
    "hibernation": [],
    "processors": [],
    "reboot": [],
    "dropped": [("capture-bounded", "dump_beta.sys")] * 5,
    "mutated": [
        ("extension-value-impossible", "dump_alpha.sys"),
        ("extension-changed-by-callback", "dump_alpha.sys"),
    ],
}


def calls(name: str, case: Any) -> None:
    """Filter, callback, status, processor and duration of every call, in order."""
    scenario = SCENARIOS[name]
    rows = [
        row
        for row in case.records["callbacks"]
        if row.was_called == "yes" and row.callback.startswith("Dump_")
    ]
    assert [(r.filter, r.callback, r.processor) for r in rows] == [
        (c.filter, c.callback, 0 if c.callback == "Dump_Unload" else scenario.dumping_processor)
        for c in scenario.calls * scenario.boots
    ]
    for row, call in zip(rows, scenario.calls * scenario.boots):
        if call.hangs:
            assert isinstance(row.return_clock, Absent)
            assert isinstance(row.status, Absent)
            continue
        exact = call.ticks * 10**9 // TICKS_PER_SECOND
        assert row.status == call.status
        assert (row.duration_low_ns, row.duration_ns, row.duration_high_ns) == (exact,) * 3


def line(call: Any) -> str:
    """What is printed of a call while it is captured, behind the time."""
    status = ntstatus.name(call.status)
    took = span(call.ticks * 10**9 // TICKS_PER_SECOND)
    return f"{call.filter} {call.callback} {status} {took}"


def extensions(name: str, case: Any, filters: dict[str, Image]) -> None:
    """FILTER_EXTENSION as each Dump_Start was given it, field by field."""
    started = [c.filter for c in SCENARIOS[name].calls if c.callback == "Dump_Start"]
    rows = [row for row in case.records["extensions"] if row.filter in started]
    assert [row.filter for row in rows] == started
    for row in rows:
        for field in set(DISK) - {"gpt_disk_id"}:
            assert getattr(row, field) == DISK[field], field
        assert row.gpt_disk_id == str(uuid.UUID(bytes_le=DISK["gpt_disk_id"]))
        stack = "hibernation" if row.filter.startswith("hiber_") else "crash"
        assert (row.stack, row.dump_type) == (stack, 2 if stack == "hibernation" else 1)
        data = filters[row.filter].address("DumpData")
        assert (row.dump_data, row.size, row.flags) == (data, 0x58, 0)


def findings(name: str, case: Any) -> None:
    """What is wrong in the scenario is found, and nothing else."""
    rows = case.records["findings"]
    assert [(row.rule, row.subject.split(" ")[0]) for row in rows] == FINDINGS[name]


def runs_on(name: str, report: dict[str, Any]) -> None:
    """The machine did all that the scenario has, no breakpoint is left in it, and it runs."""
    made = [tuple(call[:3]) for call in report["made"]]
    scenario = SCENARIOS[name]
    expected = [c for c in scenario.calls * scenario.boots if not c.hangs]
    assert made == [(c.filter, c.callback, c.status) for c in expected]
    assert report["breakpoints"] == []
    assert report["left_to_do"] == []
    assert not report["standing"]
    assert report["ran_since_resume"] > 10
