"""The capture engine and the pykd backend on a fake machine: every fact must come out exactly.

Two filters of a sample dump are called; fake_machine.py says what this does not prove.
"""

from __future__ import annotations

import json
import re
import sys

import fake_pykd
import pytest
from conftest import SAMPLE_TRACES
from fake_machine import TSC_HZ, Bugcheck, Call, Exception_, FakeMachine, Idle, Load
from live_command import capture_here
from test_capture_file import BASE, node_bytes

import analyzer
from analyzer.absence import Absent
from analyzer.cli import main
from analyzer.errors import SessionError
from analyzer.live import pykd_target
from analyzer.live.capture import Capture
from analyzer.live.routines import Routine, Writes
from analyzer.sources.capture_format import Writer

HUNDRED = Writes(100, 0)


@pytest.fixture(scope="module")
def dump():
    """What the sample dump holds: rows of its two filters by name."""
    return analyzer.open(SAMPLE_TRACES / "healthy-x64-kernel.dmp").records


@pytest.fixture
def world(sample, monkeypatch):
    """Makes a machine with a script and puts a fake pykd on it."""

    def make(script=(), **options):
        machine = FakeMachine(sample("healthy-x64-kernel.dmp"), script, **options)
        pykd = fake_pykd.make(machine)
        monkeypatch.setitem(sys.modules, "pykd", pykd)
        return machine, pykd

    return make


def routine(dump, filter_name, callback):
    """Address of a filter's callback, and its extension."""
    row = next(
        r for r in dump["callbacks"]
        if r.filter == filter_name and r.callback == callback and r.stack == "crash"
    )  # fmt: skip
    return row.routine, row.extension


def call(dump, filter_name, callback, **options):
    """A call of one filter's callback."""
    address, extension = routine(dump, filter_name, callback)
    return Call(address, extension, **options)


def captured(tmp_path, writes=HUNDRED, routines=(), limit=None, timeout=30.0):
    """Runs a whole capture; (case, session, reason)."""
    path = tmp_path / "capture.jsonl"
    session = pykd_target.attach("com:port=com1")
    writer = Writer(str(path))
    capture = Capture(session, writer, writes, limit)
    capture.begin(routines)
    reason = capture.run(timeout)
    capture.finish(reason)
    session.close()
    assert writer.problem == ""
    writer.close()
    return analyzer.open(path), session, reason


def calls(case):
    """(filter, callback, number, status, duration) of every call."""
    return [
        (row.filter, row.callback, row.call, row.status, row.duration_ns)
        for row in case.records["callbacks"]
        if row.call is not None
    ]


def rules(case):
    """The ids of the findings."""
    return sorted({str(finding.rule) for finding in case.records["findings"]})


FVE, ACME = "dump_dumpfve.sys", "dump_acmeflt.sys"


def test_two_filters_are_captured_exactly(world, dump, tmp_path):
    """Order, status and duration of each call equal the script: ticks / 2 GHz."""
    script = [
        call(dump, FVE, "Dump_Start", ticks=4_000_000),
        call(dump, ACME, "Dump_Start", ticks=2_000_000, status=0xC000000D),
        call(dump, FVE, "Dump_Write", ticks=1_000_000),
        call(dump, FVE, "Dump_Finish", ticks=600_000),
        call(dump, ACME, "Dump_Finish", ticks=400_000, status=0xC0000001),
    ]
    machine, pykd = world(script)
    case, _, reason = captured(tmp_path)
    assert calls(case) == [
        (FVE, "Dump_Start", 0, 0, 2_000_000),
        (ACME, "Dump_Start", 0, 0xC000000D, 1_000_000),
        (FVE, "Dump_Write", 0, 0, 500_000),
        (FVE, "Dump_Finish", 0, 0, 300_000),
        (ACME, "Dump_Finish", 0, 0xC0000001, 200_000),
    ]
    assert reason == "the target is gone"
    assert machine.breakpoints == {}
    assert pykd.log[-1] == "qd"
    assert TSC_HZ == 2_000_000_000


def test_filters_and_extensions_equal_the_dump(world, dump, tmp_path):
    """The walk finds in the live target what it finds in the dump of the same memory."""
    world([call(dump, FVE, "Dump_Start")])
    case, _, _ = captured(tmp_path)
    skip = {"origin", "last_failing_routine", "last_failing_status", "last_failing_status_name"}
    for table in ("filters", "extensions"):
        live, dead = (
            sorted(
                [
                    tuple(v for n, v in zip(row._fields, row) if n not in skip)
                    for row in rows[table]
                ],
                key=str,
            )
            for rows in (case.records, dump)
        )
        assert live == dead
    assert "given to Dump_Start, call 0" in {r.origin.how for r in case.records["extensions"]}
    names = {row.name.lower() for row in dump["modules"] if row.loaded}
    assert {row.name.lower() for row in case.records["modules"]} == names


def test_failing_and_hanging_callbacks_give_findings(world, dump, tmp_path):
    """A status of 0xC0000001 and a call that never returns are told; the target runs on."""
    script = [
        call(dump, FVE, "Dump_Start", status=0xC0000001),
        call(dump, ACME, "Dump_Start", returns=False),
        Idle(),
    ]
    machine, pykd = world(script)
    case, _, reason = captured(tmp_path, timeout=1.2)  # over a second: then it hangs
    assert reason == "the time limit was reached"
    assert "filter-callback-failed" in rules(case)
    assert "callback-never-returned" in rules(case)
    assert machine.breakpoints == {}
    assert pykd.log[-1] == "qd"


def test_what_a_callback_changed(world, dump, tmp_path):
    """DumpData (offset 0x48) written by the callback is told."""
    _, extension = routine(dump, FVE, "Dump_Start")
    new = (0xFFFFC08BE4999000).to_bytes(8, "little")
    world([call(dump, FVE, "Dump_Start", writes=((extension + 0x48, new),))])
    case, _, _ = captured(tmp_path)
    finding = next(f for f in case.records["findings"] if f.rule == "extension-changed-by-callback")
    assert finding.text.endswith("changed its FILTER_EXTENSION: dump_data.")


def test_recursion(world, dump, tmp_path):
    """A callback that is called inside itself: each return belongs to its own entry."""
    inner = call(dump, FVE, "Dump_Start", ticks=100_000, status=1)
    outer = call(dump, FVE, "Dump_Start", ticks=200_000, status=2, inner=(inner,))
    world([outer])
    case, _, _ = captured(tmp_path)
    assert [(c[2], c[3]) for c in calls(case)] == [(0, 2), (1, 1)]
    assert "callback-nested" in rules(case)


def test_inner_call_that_is_thrown_out_of(world, dump, tmp_path):
    """An inner call whose caller returned is gone; the outer one is not disturbed."""
    inner = call(dump, ACME, "Dump_Start", returns=False)
    world([call(dump, FVE, "Dump_Start", inner=(inner,), status=3)])
    case, _, _ = captured(tmp_path)
    assert (FVE, "Dump_Start", 0, 3) in [c[:4] for c in calls(case)]
    finding = next(f for f in case.records["findings"] if f.rule == "callback-never-returned")
    assert "the call around it returned" in finding.text


def test_calls_on_two_processors(world, dump, tmp_path):
    """The processor of each call."""
    world([call(dump, FVE, "Dump_Start", cpu=1), call(dump, ACME, "Dump_Start")])
    case, _, _ = captured(tmp_path)
    rows = [row for row in case.records["callbacks"] if row.call is not None]
    assert [row.processor for row in rows] == [1, 0]


def test_first_writes_only(world, dump, tmp_path):
    """After the first writes the breakpoint is gone, so the rest runs at full speed."""
    machine, _ = world([call(dump, FVE, "Dump_Write") for _ in range(50)])
    case, _, _ = captured(tmp_path, Writes(3, 0))
    assert [c[2] for c in calls(case)] == [0, 1, 2]
    assert "capture-bounded" in rules(case)
    # each of three calls: entry, return, calibration; the fourth entry switches off; then its
    # return address is passed without a stop
    assert machine.stops <= 3 * 3 + 1 + 1


def test_first_and_last_writes(world, dump, tmp_path):
    """The last writes are kept in memory and written at the next other callback."""
    script = [call(dump, FVE, "Dump_Write", status=n) for n in range(20)]
    world([*script, call(dump, FVE, "Dump_Finish")])
    case, _, _ = captured(tmp_path, Writes(2, 3))
    writes = [c[3] for c in calls(case) if c[1] == "Dump_Write"]
    assert writes == [0, 1, 17, 18, 19]
    finding = next(f for f in case.records["findings"] if f.rule == "capture-bounded")
    assert "15 calls between the first 2 and the last 3" in finding.text


def test_of_which_filter_writes_are_left_out(world, dump, tmp_path):
    """Of those that are kept the oldest goes: it is counted for its own filter."""
    script = [call(dump, name, "Dump_Write") for name in (FVE, ACME, FVE)]
    world([*script, call(dump, FVE, "Dump_Finish")])
    captured(tmp_path, Writes(0, 2))
    facts = [json.loads(line) for line in (tmp_path / "capture.jsonl").read_text().splitlines()]
    names = {fact["id"]: fact["filter"] for fact in facts if fact.get("fact") == "armed"}
    left_out = [fact for fact in facts if fact.get("unrecorded")]
    assert [(names[fact["id"]], fact["unrecorded"]) for fact in left_out] == [(FVE, 1)]


def test_writes_off(world, dump, tmp_path):
    """No breakpoint at Dump_Write at all."""
    world([call(dump, FVE, "Dump_Write"), call(dump, FVE, "Dump_Finish")])
    case, _, _ = captured(tmp_path, Writes(0, 0))
    assert [c[1] for c in calls(case)] == ["Dump_Finish"]


def test_limit_of_calls(world, dump, tmp_path):
    """The capture ends by itself and the target runs on."""
    _, pykd = world([call(dump, FVE, "Dump_Start") for _ in range(9)])
    case, _, reason = captured(tmp_path, limit=2)
    assert reason == "2 calls were captured"
    assert len(calls(case)) == 2
    assert pykd.log[-1] == "qd"


def test_bugcheck_stops_are_continued(world, dump, tmp_path):
    """A debugged machine stops at the bugcheck before it dumps: the capture goes on by itself."""
    values = (0xD1, 1, 2, 3, 4)
    world([Bugcheck(values), Exception_(), call(dump, FVE, "Dump_Start")])
    case, _, _ = captured(tmp_path)
    assert len(calls(case)) == 1
    row = case.records["machine"][0]
    assert (row.bugcheck, row.parameter1, row.parameter4) == (0xD1, 1, 4)


def test_exception_inside_a_callback(world, dump, tmp_path):
    """The call that was under way is named."""
    script = [call(dump, FVE, "Dump_Start", returns=False), Exception_(0xC0000005)]
    world(script)
    case, _, _ = captured(tmp_path)
    finding = next(f for f in case.records["findings"] if f.rule == "callback-exception")
    assert "exception 0xc0000005" in finding.text


def test_target_that_keeps_stopping(world, tmp_path):
    """Stops without any call in between end the capture after some patience."""
    _, pykd = world([Exception_()] * 99)
    _, _, reason = captured(tmp_path)
    assert reason == "the target stopped 16 times without a call in between"
    assert pykd.log[-1] == "qd"


def test_error_in_a_callback_does_not_stop_the_target(world, dump, tmp_path, monkeypatch):
    """Whatever fails while the target stands still becomes a fact, and the target goes on."""
    _, pykd = world([call(dump, FVE, "Dump_Start"), call(dump, ACME, "Dump_Start")])

    def broken(*_):
        raise ZeroDivisionError("out of luck")

    monkeypatch.setattr(pykd_target.PykdSession, "return_address", broken)
    case, _, reason = captured(tmp_path)
    assert reason == "the target is gone"  # both calls went by
    assert "capture-error" in rules(case)
    assert "go" in pykd.log
    assert pykd.log.count("go") == 1


def test_what_failed_in_a_listener_is_told_at_the_end(world, tmp_path):
    """Nothing raises into the debugger; the capture has it as a fact."""
    world([Load("dump_late.sys", 0xFFFFF80055550000)])
    path = tmp_path / "capture.jsonl"
    session, writer = pykd_target.attach("com:port=com1"), Writer(str(path))
    capture = Capture(session, writer, HUNDRED, None)
    capture.begin(())
    session.on("load", lambda *_: 1 / 0)
    capture.finish(capture.run(30.0))
    capture.finish("again")
    session.close()
    writer.close()
    facts = [json.loads(line) for line in path.read_text().splitlines()]
    assert [fact["text"] for fact in facts if fact.get("fact") == "error"][1:] == [
        "ZeroDivisionError: division by zero"
    ]
    assert [fact["fact"] for fact in facts[-2:]] == ["error", "end"]


def driver_image(base, entry):
    """Just enough of a PE header to find the entry point."""
    header = bytearray(0x200)
    header[:2], header[0x98:0x9A] = b"MZ", b"\x0b\x02"
    header[0x3C:0x40] = (0x80).to_bytes(4, "little")
    header[0x80:0x84] = b"PE\0\0"
    header[0xA8:0xAC] = entry.to_bytes(4, "little")
    header[0xD0:0xD4] = (0x8000).to_bytes(4, "little")
    return base, bytes(header)


def test_filter_that_is_loaded_later(world, tmp_path):
    """Its DriverEntry is watched; the node it was given tells its callbacks, which are watched."""
    node = 0xFFFFC08BE7000000
    script = [
        Load("dump_late.sys", BASE, (driver_image(BASE, 0x500),)),
        Call(BASE + 0x500, node + 0x40, second=node, writes=((node, node_bytes()),)),
        Call(BASE + 0x1000, node + 0x40, status=7),
    ]
    machine, _ = world(script)
    machine.patch(node, bytes(0x100))
    case, _, _ = captured(tmp_path)
    assert [c[:4] for c in calls(case)] == [
        ("dump_late.sys", "DriverEntry", 0, 0), ("dump_late.sys", "Dump_Start", 0, 7),
    ]  # fmt: skip
    row = next(r for r in case.records["filters"] if r.filter == "dump_late.sys")
    assert (row.dump_start, row.stack) == (BASE + 0x1000, "crash")


@pytest.mark.parametrize(
    ("name", "is_told"), [("other.sys", False), ("dump_late.sys", True), ("hiber_late.sys", True)]
)
def test_of_later_loads_those_of_dump_stacks_are_told(name, is_told, world, tmp_path):
    """A driver without the prefix of a dump stack is none of its modules."""
    world([Load(name, BASE, (driver_image(BASE, 0x500),))])
    case, _, _ = captured(tmp_path)
    assert (name in {row.name for row in case.records["modules"]}) is is_told


def test_filter_that_is_loaded_later_gives_no_false_warning(world, tmp_path):
    """crashdmp copies DumpData, and links the node into its list, only after DriverEntry."""
    node = 0xFFFFC08BE7000000
    data = (0x1234).to_bytes(8, "little")
    early = node_bytes()[:0x28] + data + node_bytes()[0x30:]  # InitializationData.DumpData
    script = [
        Load("dump_late.sys", BASE, (driver_image(BASE, 0x500),)),
        Call(BASE + 0x500, node + 0x40, second=node, writes=((node, early),)),
    ]
    machine, _ = world(script)
    machine.patch(node, bytes(0x40) + node_bytes()[0x40:])
    machine.patch(BASE + 0x1000, bytes(0x1000))
    case, _, _ = captured(tmp_path)
    assert set(rules(case)) <= {"duration-uncalibrated"}
    row = next(r for r in case.records["extensions"] if r.filter == "dump_late.sys")
    assert row.extension == node + 0x40
    assert row.dump_data.reason == "unset"
    assert (row.dump_type, row.bytes_per_sector) == (1, 512)
    counts = {r.ring_count for r in case.records["filters"] if r.stack == "crash"}
    assert not any(isinstance(count, int) for count in counts)


def test_routine_named_by_the_user(world, dump, tmp_path):
    """--callback watches any address in a loaded module, known or not."""
    place = routine(dump, FVE, "Dump_Start")[0] + 0x58
    machine, _ = world([Call(place, status=5)])
    machine.patch(place, b"\x90")
    case, _, _ = captured(tmp_path, routines=[Routine("Dump_Start", f"{place:#x}", None)])
    assert [c[1:4] for c in calls(case)] == [("Dump_Start", 0, 5)]


def test_no_breakpoint_outside_of_modules(world, tmp_path):
    """An address in no module is never written to: that is told instead."""
    world([Call(0xFFFFF80012345678, status=5)])
    routines = [Routine("Dump_Start", "0xfffff80012345678", None)]
    case, _, _ = captured(tmp_path, routines=routines)
    assert calls(case) == []
    told = [f.text for f in case.records["findings"] if f.rule == "capture-not-armed"]
    assert any("lies in no loaded module" in text for text in told)


def test_no_breakpoint_at_a_return_address_that_is_none(world, dump, tmp_path):
    """What lies at the top of the stack is written to only behind a call in a module."""
    address, extension = routine(dump, FVE, "Dump_Start")
    for back in (0xFFFFC08BE4000800, dump["modules"][0].base + 0x5000):
        machine, _ = world([Call(address, extension, back=back)])
        machine.patch(back - 7, bytes(40))
        case, _, _ = captured(tmp_path)
        row = next(r for r in case.records["callbacks"] if r.call is not None)
        assert "its return was not watched" in str(row.status)  # and the call itself is told
        assert row.entry_clock > 0
        assert "callback-never-returned" not in rules(case)
        (tmp_path / "capture.jsonl").unlink()


def test_node_is_found_around_an_extension(world, tmp_path):
    """One routine is named; the extension it is given leads to the node and so to the others."""
    node = 0xFFFFC08BE7000000
    machine, _ = world(
        [Call(BASE + 0x1000, node + 0x40, status=7), Call(BASE + 0x10D0, node + 0x40, status=8)]
    )
    machine.patch(node, node_bytes())
    loaded = list(machine.memory.modules())
    late = loaded[0]._replace(name="dump_x.sys", base=BASE, end=BASE + 0x8000, size=0x8000)
    machine.memory.modules = lambda: [*loaded, late]
    case, _, _ = captured(tmp_path, routines=[Routine("Dump_Start", "dump_x+0x1000", "dump_x")])
    assert [c[:4] for c in calls(case)] == [
        ("dump_x.sys", "Dump_Start", 0, 7), ("dump_x.sys", "Dump_Finish", 0, 8),
    ]  # fmt: skip
    row = next(r for r in case.records["filters"] if r.filter == "dump_x.sys")
    assert (row.dump_finish, row.stack) == (BASE + 0x10D0, "crash")


def test_no_more_breakpoints_than_an_engine_holds(world, tmp_path):
    """With one too many the engine could not let the machine run on: the rest is told."""
    places = [0xFFFFF80012340000 + 0x100 * number for number in range(40)]
    machine, _ = world([Call(place, back=place + 0x50, status=3) for place in places])
    most = 0

    class Counting(dict):
        def setdefault(self, *pair):
            nonlocal most
            held = super().setdefault(*pair)
            most = max(most, len(self))
            return held

    machine.breakpoints = Counting()
    some = machine.memory.modules()[0]
    around = some._replace(name="x.sys", base=places[0], end=places[-1] + 0x1000, size=0x4000)
    machine.memory.modules = lambda: [around]
    routines = [Routine("Dump_Start", f"{place:#x}") for place in places]
    case, _, _ = captured(tmp_path, routines=routines)
    told = [f for f in case.records["findings"] if f.rule == "capture-not-armed"]
    assert len(told) == 40 - 26  # six are kept free for returns
    assert len([c for c in calls(case) if c[3] == 3]) == 26
    assert most == 32


def test_unknown_symbol_is_told(world, tmp_path):
    """A routine that cannot be found is a finding."""
    world()
    case, _, _ = captured(tmp_path, routines=[Routine("Dump_Start", "dump_x!y", "dump_x")])
    assert "capture-not-armed" in rules(case)


def test_without_a_clock_frequency(world, dump, tmp_path):
    """A counter that stands still while measured gives no frequency: the host's clock is used."""
    machine, _ = world([call(dump, FVE, "Dump_Start")])
    machine.msrs.clear()
    case, _, _ = captured(tmp_path)
    assert "duration-host-clock" in rules(case)


def test_short_call_is_below_the_noise(world, dump, tmp_path):
    """A call of no ticks takes as long as a stop: no duration is claimed."""
    world([call(dump, FVE, "Dump_Start", ticks=0)])
    case, _, _ = captured(tmp_path)
    row = next(row for row in case.records["callbacks"] if row.call is not None)
    assert isinstance(row.duration_ns, Absent)
    assert "duration-below-noise" in rules(case)


def test_command(world, dump, tmp_path):
    """From the options of dumpstart capture to the report, and what is printed meanwhile."""
    world([call(dump, FVE, "Dump_Start", status=0xC000000D, ticks=100_000)])
    path, said = str(tmp_path / "c.jsonl"), []
    run = capture_here("com:port=com1", "--backend=pykd", "--output", path, say=said.append)
    assert (run.calls, run.files) == (1, [path])
    line = next(line for line in said if "STATUS_INVALID_PARAMETER" in line)
    assert re.fullmatch(
        r" +\d+\.\d{3} s  dump_dumpfve\.sys  Dump_Start   STATUS_INVALID_PARAMETER +50 us", line
    )
    assert main(["analyze", path]) == 1


def test_command_without_pykd(tmp_path, monkeypatch):
    """Without pykd one sentence says what is missing."""
    monkeypatch.setitem(sys.modules, "pykd", None)
    path = str(tmp_path / "c.jsonl")
    with pytest.raises(SessionError, match="pykd is not installed here"):
        capture_here("com:port=com1", "--backend=pykd", "--output", path)
