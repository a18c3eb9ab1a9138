"""Every fact of watched calls, whole; stacks, counts and breakpoints at their limits.

On a session of some bytes: entries and returns happen when a test says so.
"""

from __future__ import annotations

import struct
from typing import Any

import pytest
from test_live_parts import CODE, Made

from analyzer.absence import Absent
from analyzer.layouts.crashdmp import node_layouts
from analyzer.live.options import StopOn
from analyzer.live.routines import Routine, Writes
from analyzer.live.session import CONTINUE, STOP, Stop
from analyzer.live.watch import Watch
from analyzer.sources.capture_format import Fact

START, WRITE, BACK = CODE + 0x100, CODE + 0x200, CODE + 0x1005
EXTENSION, STACK = 0xFFFFC08BE5000000, 0xFFFFF80000100000
CALL = b"\xe8\0\0\0\0"


class World:
    """A machine whose calls a test makes, and the facts that come of them."""

    def __init__(
        self, writes: Writes = Writes(100, 0), limit: int | None = None,  # noqa: B008
        stop_on: StopOn = StopOn(), architecture: str = "x64",  # noqa: B008
    ) -> None:  # fmt: skip
        code = bytearray(b"\x90" * 0x10000)
        for place in range(0x1000, 0x1800, 0x10):
            code[place : place + 5] = CALL
        self.session = Made({CODE: code, EXTENSION: bytes(0x58)}, architecture)
        self.session.bugcheck = lambda: (0, 0, 0, 0, 0)  # type: ignore[method-assign]
        self.facts: list[Fact] = []
        self.watch = Watch(self.session, self.facts.append, writes, limit, stop_on)

    def arm(self, callback: str = "Dump_Start", address: int = START, layout: Any = None) -> None:
        self.watch.arm(Routine(callback, "", "dump_x.sys", "crash"), address, layout)

    def enter(
        self, address: int = START, sp: int = STACK, back: int | None = BACK, cpu: int = 0,
        extension: int = EXTENSION,
    ) -> bool:  # fmt: skip
        self.session.memory[sp] = b"" if back is None else struct.pack("<Q", back)
        self.session.registers = {"rip": address, "rsp": sp, "rcx": extension, "rdx": 0x77}
        return bool(self.session.hits[address](Stop("breakpoint", address, cpu)))

    def leave(self, sp: int = STACK + 8, status: int = 0, back: int = BACK, cpu: int = 0) -> bool:
        self.session.registers = {"rip": back, "rsp": sp, "rax": status}
        return bool(self.session.hits[back](Stop("breakpoint", back, cpu)))

    def told(self) -> list[tuple[Any, ...]]:
        """(kind, number, status or why) of the facts of calls since the last time."""
        rows = [
            (fact["fact"], fact.get("n"), fact.get("status") or fact.get("why"))
            for fact in self.facts
            if fact["fact"] in ("call", "return", "lost", "disarmed")
        ]
        del self.facts[:]
        return rows


def test_the_facts_of_a_call() -> None:
    """Entry and return, whole."""
    world = World()
    world.arm()
    assert world.facts == [
        {
            "fact": "armed", "id": 1, "filter": "dump_x.sys", "stack": "crash",
            "callback": "Dump_Start", "routine": hex(START),
        }
    ]  # fmt: skip
    world.arm()  # it is watched already
    world.arm("Dump_Finish", WRITE)
    assert [fact["id"] for fact in world.facts] == [1, 2]
    del world.facts[:]
    assert world.enter(cpu=3) is CONTINUE
    assert world.facts == [
        {
            "fact": "call", "n": 0, "id": 1, "cpu": 3, "extension": hex(EXTENSION),
            "back": hex(BACK), "sp": hex(STACK), "ext": "00" * 0x58,
            "stack": [[hex(START), "x+0x100"]],
            "tsc": "0x3e8", "host": 7000,
        }
    ]  # fmt: skip
    assert (world.watch.calls, world.watch.returned, len(world.watch.under_way)) == (1, 0, 1)
    assert world.leave(status=0xFFFFFFFFC0000001, cpu=2) is CONTINUE
    assert world.facts[1:2] == [
        {"fact": "return", "n": 0, "cpu": 2, "status": "0xc0000001", "tsc": "0x3f2", "host": 7070}
    ]
    assert [fact["fact"] for fact in world.facts[2:]] == ["calibrating"]
    assert (world.watch.calls, world.watch.returned, world.watch.under_way) == (1, 1, [])
    del world.facts[:]
    world.session.memory[EXTENSION] = b"\1" + bytes(0x57)
    world.enter()
    world.session.memory[EXTENSION] = b"\2" + bytes(0x57)
    world.leave()
    assert [(fact["n"], fact["ext"]) for fact in world.facts[:2]] == [
        (1, "01" + "00" * 0x57), (1, "02" + "00" * 0x57),
    ]  # fmt: skip
    world.session.registers.clear()
    world.enter()
    del world.facts[:]
    world.session.memory[EXTENSION] = b""  # nothing can be read any more
    world.session.registers = {"rsp": STACK + 8}
    world.session.hits[BACK](Stop("breakpoint", BACK, Absent("not-found")))
    fact = world.facts[0]
    assert (fact["n"], fact["cpu"], fact["status"], "ext" in fact) == (2, None, None, False)


@pytest.mark.parametrize(
    ("architecture", "build", "layout", "size"),
    [
        ("x64", 9199, None, 80), ("x64", 9200, None, 88), ("x64", Absent("unset"), None, 88),
        ("x64", 26100, None, 88), ("x86", 9199, None, 72), ("x86", 9200, None, 80),
        ("x64", 26100, "vista", 80), ("x64", 6000, "newest", 88),
    ],
)  # fmt: skip
def test_how_long_an_extension_is(architecture: str, build: Any, layout: Any, size: int) -> None:
    """By the layout of its node, else by the build: Windows 8 made it longer."""
    world = World(architecture=architecture)
    world.session.build = build
    world.arm(layout=next((one for one in node_layouts(8) if one.name == layout), None))
    assert world.watch._extension_size(world.watch.armed[START]) == size
    if architecture == "x64":
        world.enter()
        assert len(world.facts[-1]["ext"]) == 2 * size


@pytest.mark.parametrize(
    ("architecture", "popped", "returns"),
    [
        *(("x64", popped, popped == 8) for popped in (-8, 0, 7, 8, 9, 16, 64)),
        *(("x86", popped, 4 <= popped <= 64) for popped in (0, 3, 4, 12, 64, 65, 68)),
        *(("arm64", popped, popped == 0) for popped in (-8, 0, 4, 8)),
    ],
)
def test_which_call_returns(architecture: str, popped: int, returns: bool) -> None:
    """By what the return takes from the stack."""
    world = World()
    world.arm()
    world.enter()
    world.session.architecture = architecture
    world.session.pointer_size = 4 if architecture == "x86" else 8
    found = world.watch._returning(BACK, STACK + popped)
    assert (found is not None) is returns
    assert world.watch._returning(BACK + 1, STACK + popped) is None
    assert world.watch._returning(BACK, Absent("not-found")) is not None


@pytest.mark.parametrize(
    ("above", "cpu", "is_lost"),
    [
        (0, 0, True), (8, 0, True), (0xFFFF, 0, True), (0x10000, 0, False), (0x10008, 0, False),
        (-8, 0, False),
        (-1, 0, False), (8, 1, False),
    ],
)  # fmt: skip
def test_a_call_whose_frame_is_used_again(above: int, cpu: int, is_lost: bool) -> None:
    """On the same stack and processor it can return no more."""
    world = World()
    world.arm()
    world.enter()
    world.told()
    world.enter(sp=STACK + above, cpu=cpu)
    lost = [("lost", 0, "a later call uses its place on the stack")] if is_lost else []
    assert world.told() == [*lost, ("call", 1, None)]
    assert len(world.watch.under_way) == 2 - is_lost


@pytest.mark.parametrize(
    ("below", "is_lost"), [(8, True), (0x10000 - 9, True), (0x10000 - 8, False), (0x20000, False)]
)
def test_calls_inside_one_that_returned(below: int, is_lost: bool) -> None:
    """Are lost where they are on its stack."""
    world = World()
    world.arm()
    world.arm("Dump_Finish", WRITE)
    world.enter()
    world.enter(WRITE, sp=STACK - below, back=CODE + 0x1015)
    world.told()
    world.leave()
    lost = [("lost", 1, "the call around it returned")] if is_lost else []
    assert world.told() == [*lost, ("return", 0, "0x0")]
    assert len(world.watch.under_way) == 1 - is_lost


def test_returns_that_cannot_be_watched() -> None:
    """The call is told, with the reason, and is not under way."""
    world = World()
    world.arm()
    del world.facts[:]
    world.enter(back=None)
    world.enter(back=CODE + 0x40)
    told = [(fact["n"], fact.get("unwatched"), fact.get("back")) for fact in world.facts]
    assert told == [
        (0, "its return address cannot be read", None),
        (
            1,
            f"no breakpoint at its return: no call instruction lies before {CODE + 0x40:#x}",
            hex(CODE + 0x40),
        ),
    ]
    assert world.watch.under_way == []


@pytest.mark.parametrize(
    ("stop_on", "status", "took", "reason"),
    [
        (StopOn(), 0xC0000001, 1, ""),
        (StopOn(failure=True), 0x80000000, 1, "Dump_Start of dump_x.sys failed"),
        (StopOn(failure=True), 0x7FFFFFFF, 1, ""),
        (StopOn(every=True), 0, 1, "Dump_Start of dump_x.sys returned"),
        (StopOn(failure=True, every=True), 0, 1, "Dump_Start of dump_x.sys returned"),
        (StopOn(slow_ns=1000), 0, 999, ""),
        (StopOn(slow_ns=1000), 0, 1000, "Dump_Start of dump_x.sys took at least 1 us"),
    ],
)
def test_where_the_target_is_left_standing(
    stop_on: StopOn, status: int, took: int, reason: str
) -> None:
    """At a failure, at each return, at a slow call; what stands there is described."""
    world = World(stop_on=stop_on)
    world.watch.hz = 10**9
    world.watch.calibration._ticks.append(5)
    world.session.ticks = iter([100, 105 + took, *range(10_000, 20_000)])
    stood: list[Any] = []
    world.watch.describe = lambda call, fact: [f"{call.number} {fact['status']}"]
    world.watch.on_stand = stood.append
    world.arm()
    world.enter()
    assert world.leave(status=status) is (STOP if reason else CONTINUE)
    assert world.watch.reason == reason
    assert stood == ([[f"0 {status:#x}"]] if reason else [])
    assert world.watch.stands_at == (stood[0] if reason else None)


def test_a_limit_of_calls() -> None:
    """Of calls that returned."""
    world = World(limit=2)
    world.arm()
    answers = []
    for _ in range(2):
        world.enter()
        answers.append(world.leave())
    assert answers == [CONTINUE, STOP]
    assert world.watch.reason == "2 calls were captured"


GIVEN_UP = "the first 2 calls were captured, then it was no longer watched"


def test_the_first_writes() -> None:
    """Then neither the routine nor its return is watched; other callbacks keep theirs."""
    world = World(Writes(2, 0))
    world.arm("Dump_Write", WRITE)
    world.arm()
    for _ in range(2):
        world.enter(WRITE)
        world.leave()
    assert [("ext" in fact) for fact in world.facts if fact["fact"] == "call"] == [True, False]
    assert world.told() == [
        ("call", 0, None), ("return", 0, "0x0"), ("call", 1, None), ("return", 1, "0x0"),
    ]  # fmt: skip
    del world.session.removed[:]
    assert world.enter(WRITE) is CONTINUE
    assert world.told() == [("disarmed", None, GIVEN_UP)]
    assert world.session.removed == [WRITE, BACK]
    assert world.watch.calls == 2
    world.arm("Dump_Write", WRITE)  # as when its driver is loaded again
    world.enter(WRITE)
    assert world.told() == [("call", 2, None)]


def test_a_return_that_others_use_stays() -> None:
    """One place is returned to from two routines; a call under way keeps it as well."""
    world = World(Writes(1, 0))
    world.arm("Dump_Write", WRITE)
    world.arm()
    world.enter()
    world.leave()
    world.enter(WRITE)
    world.leave()
    del world.session.removed[:]
    world.enter(WRITE)
    assert world.session.removed == [WRITE]
    world.watch.disarm(START)
    assert world.session.removed == [WRITE, START]
    world.watch._drop_return(BACK)
    assert world.session.removed == [WRITE, START, BACK]
    alone = World(Writes(1, 0))
    alone.arm("Dump_Write", WRITE)
    alone.enter(WRITE)
    alone.enter(WRITE, sp=STACK - 0x100)  # inside the first, which is under way
    assert BACK not in alone.session.removed


def test_the_last_writes() -> None:
    """Held back until another callback is called or the capture ends; the rest is counted."""
    world = World(Writes(1, 2))
    world.arm("Dump_Write", WRITE)
    world.arm()
    world.told()
    for status in range(5):
        world.enter(WRITE)
        world.leave(status=status)
    assert world.told() == [("call", 0, None), ("return", 0, "0x0")]
    world.enter()
    assert world.facts[0] == {
        "fact": "disarmed", "id": 1, "unrecorded": 2,
        "why": "2 calls between the first 1 and the last 2 were seen and not recorded",
    }  # fmt: skip
    assert world.told()[1:] == [
        ("call", 3, None), ("return", 3, "0x3"), ("call", 4, None), ("return", 4, "0x4"),
        ("call", 5, None),
    ]  # fmt: skip
    world.leave()
    world.enter(WRITE)
    assert world.told() == [("return", 5, "0x0")]
    world.watch.end()
    assert world.told() == [("call", 6, None)]
    world.leave()  # whatever is hit now goes on
    assert world.told() == []
    assert world.watch.ended


def test_how_many_breakpoints_are_set() -> None:
    """Six are kept free for returns; where all are used an idle return is given up."""
    world = World()
    world.session.most_breakpoints = 8
    for place in range(3):
        world.arm("Dump_Start", START + 0x10 * place)
    assert world.facts[2:] == [
        {
            "fact": "error", "rule": "capture-not-armed", "subject": "dump_x.sys",
            "text": "Dump_Start of dump_x.sys is not watched: a kernel debugger holds 8 "
            "breakpoints; --writes off leaves more for others",
        }
    ]  # fmt: skip
    for number in range(7):
        back = BACK + 0x10 * number
        world.enter(sp=STACK - 0x20000 * number, back=back)
        assert "unwatched" not in world.facts[-1], number
        if number in (0, 2):
            world.session.removed.clear()
            world.watch._open.pop()
        assert len(world.watch.points) == min(8, 3 + number)
    assert world.session.removed == [BACK]
    world.enter(sp=STACK - 0x200000, back=BACK + 0x100)
    assert world.session.removed == [BACK, BACK + 0x20]
    world.enter(sp=STACK - 0x300000, back=BACK + 0x110)
    assert world.facts[-1]["unwatched"] == "no breakpoint at its return: a kernel debugger holds 8"


def test_a_driver_that_is_unloaded() -> None:
    """Its routines and the returns into it are watched no more; its neighbours are."""
    world = World()
    for place in (START, START + 0x10, START + 0x20):
        world.arm("Dump_Start", place)
    for number in range(3):
        world.enter(sp=STACK - 0x20000 * number, back=BACK + 0x10 * number)
    world.told()
    gone = world.watch.unloaded(START + 0x10, START + 0x20)
    assert [armed.number for armed in gone] == [2]
    assert world.facts == [{"fact": "disarmed", "id": 2, "why": "its driver was unloaded"}]
    assert (sorted(world.watch.armed), world.session.removed) == (
        [START, START + 0x20], [START + 0x10],
    )  # fmt: skip
    assert world.watch.unloaded(BACK + 0x10, BACK + 0x20) == []
    assert world.session.removed[1:] == [BACK + 0x10]
    assert sorted(world.watch._returns) == [BACK, BACK + 0x20]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (Absent("not-recorded"), None),
        ((0, 1, 2, 3, 4), None),
        ((0xD1, 1, 2, 3), None),
        ((0xD1, 1, 2, 3, 4), "DRIVER_IRQL_NOT_LESS_OR_EQUAL"),
        ((0x1000000D1, 1, 2, 3, 4), "DRIVER_IRQL_NOT_LESS_OR_EQUAL"),
    ],
)
def test_the_bugcheck_is_told_once(values: Any, told: str | None) -> None:
    """When Dump_Start is called at the latest; of other callbacks it is not asked."""
    world = World()
    world.arm()
    world.arm("Dump_Finish", WRITE)
    world.session.bugcheck = lambda: values  # type: ignore[method-assign]
    world.enter(WRITE)
    assert [fact for fact in world.facts if fact["fact"] == "bugcheck"] == []
    world.enter(sp=STACK - 0x100)
    world.watch.tell_bugcheck()
    fact = {"fact": "bugcheck", "values": [hex(v) for v in values], "name": told} if told else None
    assert [one for one in world.facts if one["fact"] == "bugcheck"] == ([fact] if fact else [])


def test_who_is_told_of_what() -> None:
    """New extensions once, DriverEntry's node at its return, other stops at each of them."""
    world, told = World(), list[Any]()
    world.watch.on_new_extension = lambda at, armed: told.append(("new", at, armed.number))
    world.watch.on_driver_entry = lambda call: told.append(("entry", call.node))
    world.watch.on_stop = lambda: told.append("stop")
    world.arm()
    world.arm("DriverEntry", WRITE)
    world.arm("Dump_Write", WRITE + 0x40)
    for address in (START, START, WRITE, WRITE + 0x40):
        other = EXTENSION + 0x100 if address == WRITE else EXTENSION
        world.enter(address, extension=other)
        world.leave()
    assert told == [
        ("new", EXTENSION, 1), *["stop"] * 4, "stop",
        ("entry", 0x77), "stop",
    ]  # fmt: skip
    assert world.watch.extensions == {EXTENSION, EXTENSION + 0x100}


@pytest.mark.parametrize("is_gone", [False, True])
def test_the_end_of_a_watch(is_gone: bool) -> None:
    """Breakpoints are taken out of a target that is there, and forgotten with one that is gone."""
    world = World()
    assert (world.watch.ended, world.watch.first_bytes) == (False, 0)
    world.arm()
    world.enter()
    world.watch.end(is_gone)
    assert world.watch.ended
    assert len(world.watch.points) == 0
    assert sorted(world.session.removed) == ([] if is_gone else [START, BACK])


def test_none_of_a_filters_callbacks_is_watched() -> None:
    """One denial, and no name of a callback where none is known."""
    world = World()
    world.watch.not_armed(None, "dump_x.sys", "its node was not found")
    assert world.facts[-1]["text"] == (
        "None of the callbacks of dump_x.sys is watched: its node was not found"
    )
