"""Dry runs of filter drivers in C on three architectures: each ends as its source says.

The oracle is the source (tests/dry/*.c): what a routine returns can be read there.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import dry
import pytest

from analyzer.absence import Absent
from analyzer.dryrun import host, runner
from analyzer.dryrun.ask import Limits
from analyzer.records import DryRun

OK, FAILED, DENIED, TIMEOUT = 0, 0xC0000001, 0xC0000022, 0xC00000B5
RETURNS, BUGCHECKS, FAULTS, NEVER, STOPPED = (
    "returns", "bugchecks", "faults", "never returns", "stopped",
)  # fmt: skip
#: routine -> outcome, status, what the sentence says
EXPECTED: dict[str, tuple[str, Any, str]] = {
    "HelperOk": (RETURNS, OK, ""),
    "MagicWrong": (RETURNS, DENIED, "STATUS_ACCESS_DENIED"),
    "ReadsData": (RETURNS, OK, ""),
    "OnlyExtension": (RETURNS, OK, ""),
    "WritesContext": (RETURNS, OK, ""),
    "Allocates": (RETURNS, OK, ""),
    "Bugchecks": (BUGCHECKS, None, "KeBugCheckEx (0xdeaddead"),
    "Spins": (NEVER, None, "waits for a change at dump_sample!Flag"),
    "WaitsForProcessor": (NEVER, None, "waits for a change at dump_sample!Arrived"),
    "GivesUpWaiting": (RETURNS, TIMEOUT, ""),
    "PagedData": (FAULTS, None, "020), which is paged out"),
    "PagedCode": (FAULTS, None, "executes nt!MmPagedFunction"),
    "OwnPageableCode": (RETURNS, OK, ""),
    "Port": (STOPPED, None, ""),
    "Device": (STOPPED, None, "000080, which is not there"),
    "CallsNt": (RETURNS, OK, ""),
    "Recursion": (FAULTS, None, "needs more stack than"),
    "RecursionEnds": (RETURNS, OK, ""),
    "ByTheClock": (RETURNS, OK, ""),
    "RunsOnce": (RETURNS, OK, ""),
    "PointerFromData": (RETURNS, OK, ""),
    "FloatingPoint": (RETURNS, OK, ""),
    "WritesConstant": (FAULTS, None, "in the read-only section .rdata"),
    "Strings": (RETURNS, OK, ""),
    "Aes": (RETURNS, OK, ""),
    "ProcessorBlock": (RETURNS, OK, ""),
    "FastFails": (BUGCHECKS, None, "code 0x3: 0x139 KERNEL_SECURITY_CHECK_FAILURE"),
    "Raises": (STOPPED, None, "ExRaiseStatus (STATUS_ACCESS_DENIED)"),
    "Waits": (STOPPED, None, "KeWaitForSingleObject"),
    "FollowsPointer": (FAULTS, None, "010), which is paged out"),
    "Compute": (RETURNS, OK, ""),
    "LargeFrame": (RETURNS, OK, ""),
    "TooLargeFrame": (FAULTS, None, "needs more stack than"),
    "CookieRight": (RETURNS, OK, ""),
    "CookieWrong": (BUGCHECKS, None, "0xf7 DRIVER_OVERRAN_STACK_BUFFER"),
    "dump_guarded.sys": (RETURNS, OK, ""),
    "dump_lonely.sys": (RETURNS, OK, ""),
}
OTHERS = ("LargeFrame", "TooLargeFrame", "CookieRight", "CookieWrong")
WRITES = ("WriteNonpagedOnly", "WriteStartVa", "WriteRight")
#: shapes that Windows hands out or may hand out, and that are not plain nonpaged pool
MAPPED = (
    "mapped, StartVa elsewhere (11 25H2)",
    "mapped, StartVa elsewhere, 8 pages",
    "mapped, StartVa at a page that is gone",
    "mapped, ByteOffset 0x200",
)
POOL = (
    "nonpaged pool",
    "nonpaged pool, MaxPagesPerWrite pages",
    "nonpaged pool, two writes in a row",
    "mapped and nonpaged pool",
)


def address(made: dry.Machine, name: str) -> int:
    """Where a routine of the guests is."""
    if name in OTHERS:
        place = made.image("dump_sample.sys").symbols["Others"]
        return int(made.pointer(place + OTHERS.index(name) * made.pointer_size) or 0)
    if name.startswith("dump_"):
        return made.image(name).symbols["Guarded"]
    return made.image("dump_sample.sys").symbols[name]


def call(
    made: dry.Machine, filters: Sequence[dry.Filter], crashed: bool | None = False, **options: Any
) -> list[DryRun]:
    """Dry runs of filters that are made of some routines."""
    return runner.run(
        made, made.modules(), [dry.ring(made, filters)], had_crashed=crashed, **options
    )


def starts(made: dry.Machine, names: Sequence[str], **options: Any) -> dict[str, DryRun]:
    """What each routine does as a Dump_Start."""
    filters = [dry.Filter(name, {"DumpStart": address(made, name)}) for name in names]
    rows = call(made, filters, callbacks=["Dump_Start"], **options)
    plain = [row for row in rows if row.dump_type == 1]
    return dict(zip(names, plain))


@functools.cache
def all_starts(architecture: str) -> dict[str, DryRun]:
    """One run for all tests of an architecture."""
    return starts(dry.machine(architecture), list(EXPECTED))


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("architecture", dry.ARCHITECTURES)
def test_each_driver_ends_as_its_source_says(architecture: str, name: str) -> None:
    """Outcome, status and words."""
    row = all_starts(architecture)[name]
    outcome, status, words = EXPECTED[name]
    if (architecture, name) == ("x86", "WritesConstant"):  # not protected there
        outcome, status, words = RETURNS, OK, ""
    assert (row.outcome, row.status or None) == (outcome, status or None), row.text
    assert words in str(row.text)
    assert str(row.text).startswith("Called now, Dump_Start ")


@pytest.mark.parametrize("architecture", dry.ARCHITECTURES)
def test_what_a_call_reads_writes_and_calls(architecture: str) -> None:
    """Members, variables, changes, stack, what is forbidden, pageable or assumed."""
    rows = all_starts(architecture)
    assert rows["ReadsData"].members_read == "Geometry.BytesPerSector; DumpData"
    assert "dump_sample+0x" in str(rows["ReadsData"].variables_read)
    context = rows["WritesContext"]
    assert context.members_written == "Flags"
    assert "FILTER_EXTENSION.Flags: 0x0 -> 0x4" in str(context.changes)
    assert "dump_sample!Context: 64 bytes" in str(context.changes)
    assert rows["RunsOnce"].changes == "dump_sample!Started: 0x0 -> 0x1"
    assert rows["Allocates"].forbidden == "ExAllocatePoolWithTag"
    assert "gives memory" in str(rows["Allocates"].assumed)
    assert rows["Waits"].forbidden == "KeWaitForSingleObject"
    assert "(section PAGE)" in str(rows["OwnPageableCode"].pageable)
    assert "(paged out)" in str(rows["PagedData"].pageable)
    assert "nt!RtlComputeSum" in str(rows["CallsNt"].calls)
    assert rows["CallsNt"].stall_ns == 50_000
    assert rows["GivesUpWaiting"].stall_ns == 100 * 50_000
    assert isinstance(rows["LargeFrame"].stack_bytes, int)
    assert 0x2000 <= rows["LargeFrame"].stack_bytes < 0x2200
    assert "the clock" in str(rows["ByTheClock"].assumed) + str(rows["ByTheClock"].depends_on)
    assert "processor block" in str(rows["ProcessorBlock"].variables_read)
    guard = "control flow guard lets the call pass"
    assert guard not in str(rows["dump_guarded.sys"].assumed)
    assert (guard in str(rows["dump_lonely.sys"].assumed)) is (architecture == "x64")


@pytest.mark.parametrize("architecture", dry.ARCHITECTURES)
def test_only_what_reads_nothing_that_changes_is_repeatable(architecture: str) -> None:
    """Constants and members that it does not write: any call on this memory ends like this."""
    rows = all_starts(architecture)
    repeatable = {name for name, row in rows.items() if row.is_repeatable}
    constant = {"HelperOk", "OnlyExtension", "RecursionEnds", "FloatingPoint", "Aes", "LargeFrame"}
    assert constant <= repeatable
    changing = {"RunsOnce", "WritesContext", "Allocates", "ByTheClock", "MagicWrong", "Strings"}
    assert not changing & repeatable
    assert rows["RunsOnce"].depends_on == "dump_sample!Started, which it changes"
    if architecture == "x64":  # its security cookie never changes
        assert "CookieRight" in repeatable or rows["CookieRight"].depends_on


def test_runs_once_only_is_predicted_and_not_claimed_afterwards() -> None:
    """Before: success. On the memory after the call: "called again", and what it depends on."""
    for architecture in dry.ARCHITECTURES:
        made = dry.machine(architecture)
        before = starts(made, ["RunsOnce"])["RunsOnce"]
        assert before.status == OK
        made.store(made.image("dump_sample.sys").symbols["Started"], b"\1\0\0\0")  # the call
        after = starts(made, ["RunsOnce"], crashed=True)["RunsOnce"]
        assert after.status == FAILED
        assert str(after.text).startswith("Called again on this memory, Dump_Start returns")
        assert after.is_repeatable is False
        assert after.depends_on == "dump_sample!Started"
        assert after.origin.confidence == "guess"


@functools.cache
def writes(architecture: str, name: str) -> dict[tuple[Any, Any], DryRun]:
    """The shapes that a Dump_Write is tried with, by DumpType and name."""
    made = dry.machine(architecture)
    routines = {
        "DumpStart": address(made, "HelperOk"),
        "DumpWrite": address(made, name),
        "DumpFinish": address(made, "Finish"),
    }
    rows = call(made, [dry.Filter(name, routines)])
    assert [row.outcome for row in rows if row.callback == "Dump_Finish"] == [RETURNS, RETURNS]
    return {(row.dump_type, row.shape): row for row in rows if row.callback == "Dump_Write"}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("architecture", dry.ARCHITECTURES)
def test_the_shapes_of_windows_11_find_the_wrong_dump_writes(architecture: str, name: str) -> None:
    """Pool passes all three; mapped MDLs only the right one, for both types of dump."""
    rows = writes(architecture, name)
    for kind in (1, 2):
        for shape in POOL:
            assert rows[kind, shape].outcome == RETURNS, rows[kind, shape].text
            assert rows[kind, shape].status == OK
        for shape in MAPPED:
            wanted = {
                "WriteNonpagedOnly": BUGCHECKS,
                "WriteStartVa": FAULTS,
                "WriteRight": RETURNS,
            }[name]
            assert rows[kind, shape].outcome == wanted, rows[kind, shape].text
    told = {row.shape for row in rows.values() if row.windows == "never" and row.dump_type == 1}
    assert told >= {"neither flag", "half a sector", "more pages than MaxPagesPerWrite"}
    assert rows[1, "neither flag"].outcome == BUGCHECKS
    assert rows[1, "half a sector"].outcome == BUGCHECKS
    assert rows[1, "more pages than MaxPagesPerWrite"].outcome == BUGCHECKS
    assert rows[1, "nonpaged pool"].called_after == "Dump_Start"


def test_a_write_after_a_failed_start_is_marked() -> None:
    """Windows does not call a filter any more whose Dump_Start failed."""
    made = dry.machine("x64")
    routines = {
        "DumpStart": address(made, "MagicWrong"), "DumpWrite": address(made, "WriteRight"),
    }  # fmt: skip
    rows = call(made, [dry.Filter("failed", routines)])
    own = [row for row in rows if row.callback == "Dump_Write"]
    assert {row.windows for row in own} == {"never"}
    assert {row.called_after for row in own} == {None}


def test_the_target_is_only_read_and_page_by_page() -> None:
    """What the guests wrote is not in the machine."""
    made = dry.machine("x64")
    filters = [dry.Filter(n, {"DumpStart": address(made, n)}) for n in ("WritesContext", "Strings")]
    ring = dry.ring(made, filters)
    kept = {page: bytes(data) for page, data in made.pages.items()}
    runner.run(made, made.modules(), [ring], had_crashed=False)
    assert {page: bytes(data) for page, data in made.pages.items()} == kept


def test_limits_and_a_missing_processor_block() -> None:
    """A limit and a block that is not there are named stops."""
    made = dry.machine("x64")
    limits = Limits(instructions=1000)
    row = starts(made, ["Compute"], limits=limits)["Compute"]
    assert row.outcome == STOPPED
    assert "had not returned when 1,0" in str(row.text)
    made.gone[made.pool - 0x1000] = Absent("not-in-dump")
    row = starts(made, ["ProcessorBlock"])["ProcessorBlock"]
    assert row.outcome == STOPPED
    assert "the processor block, which was not found" in str(row.text)


# -- the process ----------------------------------------------------------------------------------


def _setup(made: dry.Machine) -> tuple[host.Host, dict[str, Any]]:
    from analyzer.dryrun import world
    from analyzer.dryrun.images import Images

    images = Images(made, made.modules())
    setup = world.setup(made, images, world.free_area(made), [])
    call_ = {
        "routine": 0, "arguments": [made.pool], "extension": [made.pool, 0x58], "patches": [],
        "made": [], "source": "", "keep": "", "limits": Limits()._asdict(),
    }  # fmt: skip
    return host.Host(made, setup), call_


def test_100_000_instructions_take_less_than_half_a_second() -> None:
    """Without hooks on instructions; the child needs less than 150 MiB."""
    made = dry.machine("x64")
    child, message = _setup(made)
    dry.ring(made, [])
    made.store(made.pool, bytes(0x100))
    made.store(made.pool + 0x54 - 4, (0x58).to_bytes(4, "little"))
    message["routine"] = address(made, "Compute")
    try:
        results = [child.call(message) for _ in range(3)]
        peak = 0
        if sys.platform == "linux" and child._child is not None:
            with open(f"/proc/{child._child.pid}/status") as file:
                peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    finally:
        child.close()
    best = min(result["seconds"] * 100_000 / result["instructions"] for result in results)
    assert results[0]["outcome"] == "returned"
    assert results[0]["instructions"] > 90_000
    assert best <= 0.5
    assert peak <= 150 * 1024  # KiB; it was 39 MiB


@pytest.mark.slow
def test_random_code_harms_nobody() -> None:
    """2,000 pages of random bytes: each ends with one of the outcomes, the parent lives."""
    import random

    rng, made = random.Random(20260401), {a: dry.machine(a) for a in dry.ARCHITECTURES}
    outcomes: dict[str, int] = {}
    for architecture, machine in made.items():
        child, message = _setup(machine)
        message["limits"] = Limits(20_000, 1.0, 256)._asdict()
        area = machine.pool + 0x100000
        try:
            for number in range(667):
                page = area + number * 0x1000
                machine.pages[page] = bytearray(rng.randbytes(0x1000))
                result = child.call({**message, "routine": page + rng.randrange(0, 64, 4)})
                outcomes[result["outcome"]] = outcomes.get(result["outcome"], 0) + 1
        finally:
            child.close()
        assert architecture
    assert sum(outcomes.values()) == 2001
    assert outcomes.get("lost", 0) <= 20  # an emulator that crashed is a result, too


def test_a_child_that_dies_is_a_result() -> None:
    """It is started again for the next call."""
    made = dry.machine("x64")
    child, message = _setup(made)
    message["routine"] = address(made, "HelperOk")
    made.store(made.pool, bytes(0x100))
    try:
        assert child.call(message)["outcome"] == "returned"
        assert child._child is not None
        child._child.kill()
        child._child.wait()
        lost = child.call(message)
        assert lost["outcome"] == "lost"
        assert child.call(message)["outcome"] == "returned"
    finally:
        child.close()


@pytest.mark.parametrize(
    "wrong",
    [
        None, [], {}, {"outcome": []}, {"outcome": "other"}, {"pc": True}, {"pc": "1"},
        {"pc": 1 << 64}, {"waits": [1]}, {"waits": [[1]]}, {"changes": [[1, "", 2]]},
        {"seconds": 1}, {"varies": 1}, {"calls": [""]}, {"more": 1},
    ],
)  # fmt: skip
def test_nonsense_of_the_child_is_a_result(monkeypatch: pytest.MonkeyPatch, wrong: Any) -> None:
    """A value of another type than it should have: code that is emulated may break out."""
    child, message = _setup(dry.machine("x64"))
    good = {"outcome": "loop", "pc": 1, "lap": 2, "waits": [[1, 2]], "seconds": 0.5}
    monkeypatch.setattr(child, "_start", lambda: None)
    monkeypatch.setattr(child, "_send", lambda _: None)
    for sent, outcome in ((good, "loop"), ({**good, **wrong} if wrong else wrong, "lost")):
        monkeypatch.setattr(child, "_serve", lambda *_, sent=sent: sent)
        assert child.call(message)["outcome"] == outcome


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_control_c_ends_the_child() -> None:
    """The interrupt goes to the caller, and no process stays behind."""
    made = dry.machine("x64")
    child, message = _setup(made)
    made.store(made.pool, bytes(0x100))
    flag = made.image("dump_sample.sys").symbols["Flag"]
    message["routine"] = made.pool + 0x1000
    # mov rax, Flag; inc dword [rax]; jmp: a loop that always changes something
    code = bytes.fromhex("48b8") + flag.to_bytes(8, "little") + bytes.fromhex("ff00ebfc")
    made.store(made.pool + 0x1000, code)
    message["limits"] = Limits(1 << 40, 60.0, 256)._asdict()
    pid: list[int] = []

    def interrupt() -> None:
        time.sleep(1.0)
        if child._child is not None:
            pid.append(child._child.pid)
        os.kill(os.getpid(), signal.SIGINT)

    # a shell that started the tests in the background had SIGINT ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        thread = threading.Thread(target=interrupt)
        thread.start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            child.call(message)
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - began < 10
    assert pid
    assert subprocess.run(["ps", "-p", str(pid[0])], capture_output=True, check=False).returncode
