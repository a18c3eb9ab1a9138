"""The small parts of live work, each at its limits: one value below, one at, one above.

On a session that holds the bytes, registers and clocks that a test gives it.
"""

from __future__ import annotations

import struct
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import make

from analyzer.absence import Absent
from analyzer.dumpfile.header import DumpFile
from analyzer.errors import UsageError
from analyzer.layouts import mindumpdef
from analyzer.live import arguments, dry_run, find, look, modules, open_dump, options, routines
from analyzer.live.calibrate import MOST, Calibration
from analyzer.live.lines import Narrator, span
from analyzer.live.points import INSTRUCTIONS, Points
from analyzer.live.session import Clock, Session, Stop
from analyzer.records import Filter, Machine, Module, Origin, Records
from analyzer.sources.capture_format import Fact

CODE = 0xFFFFF80012340000
NOPS = b"\x90" * 30


class Made(Session):
    """A target of some bytes."""

    backend, path, build = "made", "here", 19041

    def __init__(self, memory: Any = (), architecture: str = "x64", ticks: Any = None) -> None:
        super().__init__()
        self.architecture, self.memory = architecture, dict(memory)
        self.pointer_size = 4 if architecture == "x86" else 8
        self.registers: dict[str, int] = {}
        self.hits: dict[int, Any] = {}
        self.removed: list[int] = []
        self.ticks = ticks or count(1000, 10)

    def read(self, address: int, size: int) -> bytes | Absent:
        for start, data in self.memory.items():
            if start <= address and address + size <= start + len(data):
                return bytes(data[address - start : address - start + size])
        return Absent("not-mapped")

    def modules(self) -> Any:
        return [module("x.sys", CODE, 0x10000)]

    def register(self, name: str) -> int | Absent:
        return self.registers.get(name, Absent("not-found"))

    def clock(self) -> Clock:
        tick = next(self.ticks)
        return Clock(Absent("not-recorded") if self.architecture == "arm64" else tick, tick * 7)

    def add_breakpoint(self, address: int, callback: Any, hardware: bool = False) -> int:
        self.hits[address] = callback
        return address

    def remove_breakpoint(self, handle: int) -> None:
        self.removed.append(handle)


def module(name: str, base: int, size: int, **other: Any) -> Module:
    """A loaded module."""
    none = Absent("not-recorded")
    values: dict[str, Any] = dict.fromkeys(Module._fields, none)
    values.update(name=name, base=base, end=base + size, size=size, loaded=True)
    values.update(role=None, stack=None, origin=Origin("here", "made"))
    return Module(**{**values, **other})


# -- breakpoints -----------------------------------------------------------------------------------


class Refusing(Made):
    """Cannot remove the first of its breakpoints."""

    def remove_breakpoint(self, handle: int) -> None:
        if handle == CODE:
            raise RuntimeError("busy")
        super().remove_breakpoint(handle)


def test_a_breakpoint_that_stays_does_not_keep_the_others() -> None:
    """What cannot be removed is told; the rest is removed."""
    session, facts = Refusing({CODE: NOPS}), list[Any]()
    points = Points(session, facts.append)
    for address in (CODE, CODE + 1, CODE + 2):
        points.set(address, lambda _: True, "return of a calibration")
    points.remove_all()
    assert session.removed == [CODE + 1, CODE + 2]
    (told,) = facts
    assert told["text"] == f"the breakpoint at {CODE:#x} could not be removed: busy"


# -- calibration -----------------------------------------------------------------------------------

TWO_WORDS = b"\xe0\x03\x00\xaa" * 8


@pytest.mark.parametrize(
    ("code", "architecture", "further"),
    [
        (NOPS, "x64", 2),
        (b"\x85\xc0\x90" + NOPS[3:], "x64", 3),
        (b"\x90\x48\x8b\x5c\x24\x30" + NOPS[6:], "x64", 6),
        (TWO_WORDS, "arm64", 8),
        (NOPS[:29], "x64", None),  # so many bytes are looked at
        (b"\xc3" + NOPS[1:], "x64", None),
        (b"\x90\xc3" + NOPS[2:], "x64", None),
    ],
)
def test_a_calibration_is_two_stops(code: bytes, architecture: str, further: int | None) -> None:
    """The second behind two plain instructions; the fact has both clocks."""
    session, facts = Made({CODE: code}, architecture), list[Any]()
    points = Points(session, facts.append)
    made = Calibration(session, facts.append, points)
    made.at(CODE, 1)
    if further is None:
        assert (facts, session.hits) == ([], {})
        return
    assert facts == [{"fact": "calibrating", "at": hex(CODE)}]
    assert list(session.hits) == [CODE + further]
    made.at(CODE, 1)  # one is under way there
    assert len(facts) == 1
    session.hits[CODE + further](Stop("breakpoint", CODE + further, 1))
    tick, tock = (None, None) if architecture == "arm64" else ("0x3e8", "0x3f2")
    assert facts[1:] == [
        {
            "fact": "calibration", "at": hex(CODE), "cpu": 1, "tsc": tick, "tsc2": tock,
            "host": 7000, "host2": 7070,
        }
    ]  # fmt: skip
    assert session.removed == [CODE + further]
    assert len(points) == 0


def test_no_calibration_from_another_processor_nor_without_room() -> None:
    """The clock of another processor tells nothing; returns need the breakpoints more."""
    session, facts = Made({CODE: NOPS}), list[Any]()
    points = Points(session, facts.append)
    made = Calibration(session, facts.append, points)
    made.at(CODE, 1)
    session.hits[CODE + 2](Stop("breakpoint", CODE + 2, 0))
    assert [fact["fact"] for fact in facts] == ["calibrating"]
    assert session.removed == [CODE + 2]
    session.most_breakpoints = 0
    made.at(CODE, 1)
    assert len(facts) == 1
    session.most_breakpoints = 1
    made.at(CODE, 1)
    assert len(facts) == 2


def test_so_many_calibrations() -> None:
    """Then the captured machine is left in peace."""
    session, facts = Made({CODE: b"\x90" * 0x100}), list[Any]()
    made = Calibration(session, facts.append, Points(session, facts.append))
    for place in range(40):
        made.at(CODE + place * 4, 0)
        for hit in list(session.hits.values()):
            hit(Stop("breakpoint", CODE, 0))
        session.hits.clear()
    assert sum(fact["fact"] == "calibrating" for fact in facts) == MOST == 32


NONE = Absent("not-recorded")


@pytest.mark.parametrize(
    ("samples", "first", "second", "hz", "least"),
    [
        ([(0, 7), (0, 5)], Clock(0, 0), Clock(4_000_000_007, 9), 10**9, 4_000_000_000),
        ([(0, 7)], Clock(10, 0), Clock(27, 900), 10**9, 10),
        ([(0, 7)], Clock(10, 0), Clock(12, 900), 10**9, 0),  # never below nothing
        ([], Clock(10, 0), Clock(5000, 900), 10**9, 0),  # no cost is known
        ([], Clock(10, 0), Clock(5000, 900), None, 0),
        ([(0, 7)], Clock(10, 0), Clock(5000, 900), None, 900 - 70),
        ([(0, 7)], Clock(10, 0), Clock(5000, 60), None, 0),
        ([(0, 7)], Clock(NONE, 0), Clock(5000, 900), 10**9, 830),
        ([(0, 7)], Clock(10, 0), Clock(NONE, 900), 10**9, 830),
        ([(0, 9), (0, 7)], Clock(10, 3), Clock(5000, 903), None, 900 - 90),
    ],
)
def test_what_a_call_took_at_least(
    samples: Any, first: Clock, second: Clock, hz: int | None, least: int
) -> None:
    """Less the largest cost that was seen."""
    session = Made()
    made = Calibration(session, lambda _: None, Points(session, lambda _: None))
    for before, after in samples:
        made._sample(CODE, 0, Clock(before, before * 10), Clock(after, after * 10))
    assert made.least(first, second, hz) == least


# -- looking ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("regions", "joined"),
    [
        ([(10, 5), (15, 5), (30, 1), (0, 2), (12, 1)], [(0, 2), (10, 10), (30, 1)]),
        ([(0, 4), (1, 2), (5, 1)], [(0, 4), (5, 1)]),
        ([(0, 4), (4, 4)], [(0, 8)]),
    ],
)
def test_neighbours_are_looked_at_as_one(regions: Any, joined: Any) -> None:
    """A node may lie across two of them."""
    assert list(look._joined(regions)) == joined


@pytest.mark.parametrize("has_pages", [None, False, True])
@pytest.mark.parametrize(("nodes", "filters"), [(0, 0), (0, 1), (1, 1), (1, 2)])
@pytest.mark.parametrize("is_dump", [False, True])
def test_what_a_debugger_cannot_tell(
    has_pages: bool | None, nodes: int, filters: int, is_dump: bool
) -> None:
    """Nodes that a search of all memory would find, where the file may have pages."""
    session, out = Made(), Records()
    session.is_dump = is_dump
    none = Absent("not-found")
    out.add(*(make(Filter, node=n if n < nodes else none) for n in range(filters)))
    dump: Any = None
    if has_pages is not None:
        dump = SimpleNamespace(has_pages=has_pages, file=SimpleNamespace(size=7))
        out.add(make(Machine, dump_type_name="small"))
    row = look._source(session, dump, out, "")
    is_told = is_dump and nodes < filters and has_pages is not False
    assert ("only a search of all memory finds" in str(row.cannot_tell)) is is_told
    assert ("until they are watched" in str(row.cannot_tell)) is not is_dump
    assert (f"{nodes} crash dump filters" in str(row.can_tell)) is (nodes > 0)
    held = "the file's header" if dump is not None else "what the debugger knows of it"
    assert (held in str(row.can_tell)) is is_dump
    assert (row.kind, row.size_bytes) == (
        "kernel dump" if is_dump else "debugger session", None if dump is None else 7,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("bugcheck", "told"),
    [
        ((0xD1, 1, 2, 3, 4), (0xD1, "DRIVER_IRQL_NOT_LESS_OR_EQUAL", 1, 2, 3, 4)),
        ((0x100000133, 1, 2, 3, 4), (0x133, "DPC_WATCHDOG_VIOLATION", 1, 2, 3, 4)),
        ((0, 1, 2, 3, 4), None),
        ((0xD1, 1, 2, 3), None),
        (NONE, None),
    ],
)
def test_the_machine_of_a_debugger(bugcheck: Any, told: Any) -> None:
    """The bugcheck with its parameters, or that it is not told."""
    session = Made()
    session.bugcheck = lambda: bugcheck  # type: ignore[method-assign]
    session.attributes = lambda: 0x10  # type: ignore[method-assign]
    session.processors = lambda: 2  # type: ignore[method-assign]
    row = look._machine(session, bugcheck)
    names = ["bugcheck", "bugcheck_name", *(f"parameter{n}" for n in range(1, 5))]
    found = tuple(getattr(row, name) for name in names)
    untold = (Absent("not-recorded", "the debugger does not tell it"),) * 6
    assert found == (told or untold)
    assert (row.build, row.architecture, row.processors, row.attributes) == (19041, "x64", 2, 0x10)
    assert row.origin == Origin("here", "the debugger's target")


CONTEXT = CODE + 0x100


@pytest.mark.parametrize(
    ("bugcheck", "code", "size", "crashed"),
    [
        ((0, 0, 0, 0, 0), 1, 8, False),
        ((0xD1, 0, 0, 0, 0), 0, 8, True),
        (NONE, 0xD1, 8, True),
        (NONE, 0, 8, False),
        (NONE, None, 8, None),
        (NONE, 0xD1, 4, None),
    ],
)
def test_whether_the_target_has_crashed(
    bugcheck: Any, code: int | None, size: int, crashed: bool | None
) -> None:
    """What the debugger says counts more than crashdmp's own account, 0xE8 into its context."""
    memory = {} if code is None else {CONTEXT + 0xE8: struct.pack("<I", code)}
    session = Made({**memory, CODE: struct.pack("<I", 1) * 0x20}, "x64" if size == 8 else "x86")
    session.bugcheck = lambda: bugcheck  # type: ignore[method-assign]
    out = Records()
    from analyzer.records import Structure

    rows = [("nt!Other", CODE - 0xE8), ("crashdmp!Context", CONTEXT), ("zz", CODE - 0xE8)]
    none: dict[str, Any] = dict.fromkeys(Structure._fields, NONE)
    out.add(*(Structure(**{**none, "structure": name, "location": at}) for name, at in rows))
    assert dry_run.had_crashed(session, out) is crashed
    assert dry_run.had_crashed(Made(), Records()) is None


# -- finding ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "fact"),
    [
        (99_999_999, None),
        (100_000_000, 100_000_000),
        (19_999_999_999, 19_999_999_999),
        (20_000_000_000, None),
        (NONE, None),
    ],
)
def test_a_frequency_that_can_be(told: Any, fact: int | None) -> None:
    """From 100 MHz to below 20 GHz; the counter here stands still, so it cannot be measured."""
    session, asked, host = Made(), list[int](), count()
    session.clock = lambda: Clock(5, next(host))  # type: ignore[method-assign]
    session.msr = lambda number: asked.append(number) or told  # type: ignore[method-assign]
    found = find.frequency(session, None, 0)
    how = "told by the hypervisor, MSR 0x40000022"
    assert found == (fact and {"fact": "clock", "hz": fact, "how": how})
    assert asked == [0x40000022]


def test_a_frequency_that_is_given() -> None:
    """No clock is needed, but for no other way."""
    given = {"fact": "clock", "hz": 5, "how": "given by the user"}
    assert find.frequency(Made(architecture="arm64"), 5) == given
    assert find.frequency(Made(architecture="arm64"), None) is None


# -- arguments -------------------------------------------------------------------------------------

MDL, DATA = 0xFFFFC08BE5000000, 0xFFFFC08BE6000000


def transfer(
    size: int = 0x38, flags: int = 5, mapped: int = DATA, length: int = 0x1800,
    inside: int = 0, first: int = 4, frames: int = 80, held: int = 300,
) -> Fact:  # fmt: skip
    """What is told of a call with such an MDL."""
    head = struct.pack("<QhhIQQQII", 0, size, flags, 0, 0, mapped, 0, length, inside)
    session = Made(
        {
            MDL: head + b"".join(struct.pack("<Q", 0x100 + n) for n in range(frames)),
            DATA: bytes(range(200)) + bytes(held - 200), 0x5000: struct.pack("<Q", 0x123456000),
        }
    )  # fmt: skip
    session.registers = {"rdx": 0x5000, "r8": MDL}
    return arguments.transfer(session, first)


def mdl(length: int = 0x1800, flags: int = 5, pages: int = 0) -> Fact:
    """The member for it."""
    told = {"pages": [hex(0x100 + n) for n in range(pages)]} if pages else {}
    return {"mdl": {"address": hex(MDL), "bytes": length, "flags": flags, **told}}


FIRST = {"data": "00010203"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, {**mdl(pages=1, length=0x1000), **FIRST}),
        ({"size": 0x40}, {**mdl(length=0x1000, pages=1), **FIRST}),
        ({"length": 0x1001}, {**mdl(length=0x1001), **FIRST}),  # two pages, room for one
        ({"length": 0x1001, "size": 0x40}, {**mdl(length=0x1001, pages=2), **FIRST}),
        ({"inside": 1}, {**mdl(length=0x1000), **FIRST}),
        ({"inside": 1, "size": 0x40}, {**mdl(length=0x1000, pages=2), **FIRST}),
        ({"length": 0}, {**mdl(length=0), "data": ""}),
        ({"size": 0x30}, {**mdl(length=0x1000), **FIRST}),
        ({"size": 0x38, "frames": 0}, {**mdl(length=0x1000), **FIRST}),
        ({"length": 0x50000, "size": 0x400}, {**mdl(length=0x50000, pages=64), **FIRST}),
        ({"first": 0}, mdl(length=0x1000, pages=1)),
        ({"flags": 1}, {**mdl(length=0x1000, flags=1, pages=1), **FIRST}),
        ({"flags": 4}, {**mdl(length=0x1000, flags=4, pages=1), **FIRST}),
        ({"flags": 2}, mdl(length=0x1000, flags=2, pages=1)),
        ({"flags": -6}, mdl(length=0x1000, flags=0xFFFA, pages=1)),
        ({"mapped": 0}, mdl(length=0x1000, pages=1)),
        ({"mapped": 8}, mdl(length=0x1000, pages=1)),  # not there
        ({"length": 3}, {**mdl(length=3, pages=1), "data": "000102"}),
        (
            {"first": 999, "held": 256},
            {**mdl(length=0x1000, pages=1), "data": (bytes(range(200)) + bytes(56)).hex()},
        ),
    ],
)
def test_what_a_transfer_was_given(given: Any, told: Fact) -> None:
    """Offset, MDL, its pages as far as it has room for them, and the first bytes."""
    assert transfer(**{"length": 0x1000, **given}) == {"offset": "0x123456000", **told}


def test_a_transfer_of_which_little_can_be_read() -> None:
    """Each part is left out by itself."""
    session = Made()
    assert arguments.transfer(session, 4) == {}
    session.registers = {"rdx": 0x5000, "r8": 0}
    assert arguments.transfer(session, 4) == {}
    session.registers = {"r8": MDL}
    assert arguments.transfer(session, 4) == {}
    form = struct.pack("<IhhIIIII", 0, 0x20, 4, 0, 0x700, 0, 0x10, 0) + struct.pack("<I", 0x55)
    old = Made(
        {0x900: struct.pack("<4I", 1, 2, 0x40, 0x300), 0x300: form, 0x40: bytes(8), 0x700: b"abcd"},
        "x86",
    )
    old.registers = {"esp": 0x900}
    assert arguments.transfer(old, 2) == {
        "offset": "0x0",
        "mdl": {"address": "0x300", "bytes": 16, "flags": 4, "pages": ["0x55"]}, "data": "6162",
    }  # fmt: skip


# -- the end of an open dump's pages ---------------------------------------------------------------


def header(tmp_path: Path, kind: int, body: bytes, pages: int = 0) -> DumpFile:
    """A 64-bit dump of one kind with what follows its header."""
    data = bytearray(b"PAGEDU64" + b"\0" * (0x2000 - 8))
    struct.pack_into("<III", data, 0x30, 0x8664, 1, 0xD1)
    struct.pack_into("<I", data, 0xF98, kind)
    struct.pack_into("<I4xQ", data, 0x88, 1, pages)
    struct.pack_into("<QQ", data, 0x98, 1, pages)
    path = tmp_path / "x.dmp"
    path.write_bytes(bytes(data) + body)
    return DumpFile(str(path))


def bitmap(signature: bytes, first: int, pages: int, old: bool = False) -> bytes:
    """A bitmap header, of today or of the summary dumps of old."""
    made = bytearray(signature.ljust(0x1000, b"\0"))
    fields = mindumpdef.SummaryDump64 if old else mindumpdef.BITMAP_DUMP
    names = ("HeaderSize", "Pages") if old else ("FirstPage", "Pages")
    for name, value in zip(names, (first, pages)):
        field = getattr(fields, name)
        struct.pack_into("<" + field.format, made, field.offset, value)
    return bytes(made)


def ranges(first: int, *pairs: tuple[int, int], size: int = 0x1000) -> bytes:
    """The table of page ranges."""
    head = bytearray(0x30)
    head[4:8] = mindumpdef.RANGE_SIGNATURE
    struct.pack_into("<Q", head, 0x18, first)
    return (bytes(head) + b"".join(struct.pack("<QQ", *pair) for pair in pairs)).ljust(size, b"\0")


RANGES = ranges(0x3000, (1, 2), (7, 3))


@pytest.mark.parametrize(
    ("kind", "body", "pages", "end"),
    [
        (8, RANGES, 0, 0x3000 + 5 * 0x1000),
        (9, RANGES, 0, 0x8000),
        (10, RANGES, 0, 0x8000),
        (7, RANGES, 0, None),
        (11, RANGES, 0, None),
        (8, ranges(0x3000, (1, 2), (0, 3), (9, 1)), 0, 0x5000),  # the first empty one ends it
        (8, ranges(0x3000, (1, 2), (3, 0), (9, 1)), 0, 0x5000),
        (8, ranges(0x2050, (1, 2), (7, 3), (9, 4)), 0, 0x2050 + 5 * 0x1000),  # room for two
        (8, ranges(0x205F, (1, 2), (7, 3), (9, 4)), 0, 0x205F + 5 * 0x1000),
        (8, ranges(0x1000, (1, 2)), 0, 0x1000),  # none
        (8, ranges(0x3000, (1, 2), size=0x40), 0, 0x5000),
        (8, ranges(0x3000, (1, 2), size=0x40)[:0x3F], 0, None),
        (8, b"\0" * 0x1000, 5, None),
        (1, b"\0" * 0x1000, 5, 0x2000 + 5 * 0x1000),
        (1, b"\0" * 0x3F, 5, None),
        (2, b"\0" * 0x1000, 5, None),
        (5, bitmap(b"SDMP", 0x4000, 3), 0, 0x7000),
        (6, bitmap(b"FDMP", 0x4000, 3), 0, 0x7000),
        (6, bitmap(b"XDMP", 0x4000, 3), 0, None),
        (2, bitmap(b"SDMP", 0x4000, 3, old=True), 0, 0x7000),
        (6, bitmap(b"FDMP", 0x4000, 3)[:0x40], 0, 0x7000),
        (6, bitmap(b"FDMP", 0x4000, 3)[:0x3F], 0, None),
    ],
)
def test_where_the_pages_of_an_open_dump_end(
    kind: int, body: bytes, pages: int, end: int | None, tmp_path: Path
) -> None:
    """As its own tables say."""
    assert open_dump.end_of_pages(header(tmp_path, kind, body, pages)) == end


# -- names and options -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "image", "told"),
    [
        ("nt", "\\SystemRoot\\system32/ntkrnlmp.exe", "ntkrnlmp.exe"),
        ("nt", "", "nt"),
        ("x.dll", "c:\\y.exe", "x.dll"),
        ("dump_x", "a.b\\y.z.exe", "dump_x.exe"),
        ("dump_x", "a.b\\y", "dump_x.sys"),
        ("dump_x", "", "dump_x.sys"),
    ],
)
def test_the_file_name_of_a_module(name: str, image: str, told: str) -> None:
    """Of the engine's name for it and of the image's path."""
    assert modules.named(name, image) == told


@pytest.mark.parametrize(
    ("stamp", "checksum", "key"),
    [
        (0x5F000000, 0x1234, "5F0000005000"),
        (0x123, None, "000001235000"),
        (0, 0, "000000005000"),
        (0xFFFFFFFE, 1, None),
        (0xFFFFFFFF, 1, None),
        (0xFFFFFFFD, 1, "FFFFFFFD5000"),
        (None, 1, None),
    ],
)
def test_the_record_of_a_module(stamp: Any, checksum: Any, key: str | None) -> None:
    """What the engine does not know is said to be that."""
    none, origin = Absent("not-recorded", "the engine does not know it"), Origin("here", "made")
    assert modules.record("x.sys", CODE, 0x5000, stamp, checksum, 3, origin) == Module(
        name="x.sys", base=CODE, end=CODE + 0x5000, size=0x5000, role=None, stack=None,
        loaded=True, time_date_stamp=stamp if key else none,
        checksum=none if checksum is None else checksum, image_key=key or none, original=None,
        original_match=None, load_order=3, origin=origin,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "failure", "every", "slow_ns"),
    [
        ("never", False, False, None),
        ("failure", True, False, None),
        ("return", False, True, None),
        ("return,failure", True, True, None),
        ("failure, never", True, False, None),
        ("return,never", False, True, None),
        ("slow=500", False, False, 500_000_000),
        ("slow=999999999.5", False, False, 999_999_999_500_000),
        (" slow=0.000001,return", False, True, 1),
    ],
)
def test_where_a_capture_is_to_stand(
    text: str, failure: bool, every: bool, slow_ns: int | None
) -> None:
    """One word or more."""
    found = options.parse_stop_on(text)
    assert (found.failure, found.every, found.slow_ns) == (failure, every, slow_ns)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("slow=0", "'0' is not a number of milliseconds: slow=500"),
        ("slow=-1", "'-1' is not a number of milliseconds: slow=500"),
        ("slow=x", "'x' is not a number of milliseconds: slow=500"),
        ("slow=1e9", "'1e9' is not a number of milliseconds: slow=500"),
        ("slow=nan", "'nan' is not a number of milliseconds: slow=500"),
        ("slow", "'slow' is none of failure, slow=MS, return, never"),
        ("failure=1", "'failure=1' is none of failure, slow=MS, return, never"),
        ("", "'' is none of failure, slow=MS, return, never"),
    ],
)
def test_where_a_capture_cannot_stand(text: str, says: str) -> None:
    """One sentence."""
    with pytest.raises(UsageError) as caught:
        options.parse_stop_on(text)
    assert str(caught.value) == says


def test_a_name_that_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbered from 2."""
    monkeypatch.chdir(tmp_path)
    for expected in ("a.jsonl", "a-2.jsonl", "a-3.jsonl"):
        assert options.free_name("a") == expected
        (tmp_path / expected).touch()
    assert options.free_name().startswith("dumpstart-20")


@pytest.mark.parametrize(
    ("text", "writes", "is_off", "is_all"),
    [
        ("off", (0, 0), True, False),
        ("all", (1 << 62, 0), False, True),
        ("first:100", (100, 0), False, False),
        ("last:1", (0, 1), False, False),
        ("first:2, last:999999999", (2, 999_999_999), False, False),
        ("first:0", (0, 0), True, False),
    ],
)
def test_which_writes_are_recorded(text: str, writes: Any, is_off: bool, is_all: bool) -> None:
    """The first and the last."""
    found = routines.parse_writes(text)
    assert (found, found.is_off, found.is_all) == (writes, is_off, is_all)


@pytest.mark.parametrize("text", ["first", "first:1000000000", "", "first:1,", "mid:2", "first:-1"])
def test_writes_that_cannot_be(text: str) -> None:
    """Named in the sentence."""
    with pytest.raises(UsageError, match="is none of first:100,last:50, first:100, all, off"):
        routines.parse_writes(text)


@pytest.mark.parametrize(
    ("text", "routine"),
    [
        ("x+0x10", ("callback", "x+0x10", "x", None)),
        ("Dump_Start=x!Y", ("Dump_Start", "x!Y", "x", None)),
        ("Dump_Write=dump_x.sys+1F", ("Dump_Write", "dump_x.sys+1F", "dump_x.sys", None)),
        ("0x10", ("callback", "0x10", None, None)),
        ("Dump_Start=0x1", ("Dump_Start", "0x1", None, None)),
        ("0x10+5", ("callback", "0x10+5", "0x10", None)),
        ("x", ("callback", "x", "x", None)),
        ("x!Y+" + "1" * 16, ("callback", "x!Y+" + "1" * 16, "x", None)),
        ("x" * 64 + "!" + "y" * 200, ("callback", "x" * 64 + "!" + "y" * 200, "x" * 64, None)),
    ],
)
def test_a_routine_as_it_is_typed(text: str, routine: Any) -> None:
    """Its callback, what finds it, and the module."""
    assert routines.parse(text) == routine


@pytest.mark.parametrize(
    "text",
    [
        "Nope=x",
        "0x0",
        "x!Y+" + "1" * 17,
        "x" * 65,
        "x!" + "y" * 201,
        "a;b",
        "",
        "Dump_Start=",
        "=x",
    ],
)
def test_routines_that_cannot_be(text: str) -> None:
    """A usage error each."""
    with pytest.raises(UsageError):
        routines.parse(text)


# -- lines -----------------------------------------------------------------------------------------

SECOND = 10**9


def told(*facts: Fact) -> list[str]:
    """What is printed of them."""
    said: list[str] = []
    narrator = Narrator(said.append)
    for fact in facts:
        narrator.take(fact)
    narrator.end()
    return said


START: list[Fact] = [
    {"dumpstart": "capture", "started": SECOND},
    {"fact": "clock", "hz": 1000},
    {"fact": "armed", "id": 1, "filter": "dump_x.sys", "callback": "Dump_Start"},
    {"fact": "armed", "id": 2, "filter": "dump_x.sys", "callback": "Dump_Write"},
    {"fact": "armed", "id": 3},
]


def pair(number: int, routine: int, at: int, took: int, status: Any = "0x0", **more: Any) -> Any:
    """Entry and return of a call; ticks are ms."""
    first = {"fact": "call", "n": number, "id": routine, "tsc": hex(at), "host": at * 10**6, **more}
    at += took
    return [
        first,
        {"fact": "return", "n": number, "tsc": hex(at), "host": at * 10**6, "status": status},
    ]


def sample(ticks: int) -> Fact:
    """A calibration."""
    return {
        "fact": "calibration", "tsc": "0x10", "tsc2": hex(16 + ticks),
        "host": 10**6, "host2": (1 + 2 * ticks) * 10**6,
    }  # fmt: skip


def test_a_line_a_call() -> None:
    """Time, filter, callback, status and duration, with the debugger's cost taken off."""
    assert told(
        *START,
        *pair(0, 1, 1500, 40),
        sample(7),
        *pair(1, 1, 2500, 40, "0xc000000d"),
        sample(9),
        *pair(2, 3, 3000, 5, None),
        *pair(3, 9, 3100, 3000, "0x7fffffff"),
    ) == [
        "    0.540 s  dump_x.sys        Dump_Start   STATUS_SUCCESS       33 ms",
        "    1.540 s  dump_x.sys        Dump_Start   STATUS_INVALID_PARAMETER  32 ms",
        "    2.005 s  an unnamed filter  callback     no status           0 ns",
        "    5.100 s  an unnamed filter  callback     0x7fffffff (informational)  2.99 s",
    ]


def test_a_line_without_a_calibration() -> None:
    """At most; by the debugger's clock where the target's has no frequency."""
    assert told(*START, *pair(0, 1, 1500, 40)) == [
        "    0.540 s  dump_x.sys        Dump_Start   STATUS_SUCCESS       at most 40 ms"
    ]
    assert told(*START[2:], *pair(0, 1, 1500, 40)) == [
        "             dump_x.sys        Dump_Start   STATUS_SUCCESS       at most 40 ms"
    ]
    assert told(*START[2:], *pair(0, 1, 1500, 40), sample(7)) == [
        "             dump_x.sys        Dump_Start   STATUS_SUCCESS       26 ms"
    ]
    (call, back) = pair(0, 1, 1500, 40)
    del back["host"], back["tsc"]
    assert told(*START, call, back) == [
        "             dump_x.sys        Dump_Start   STATUS_SUCCESS"
    ]


def test_lines_of_other_facts() -> None:
    """Stops, errors, what is no longer watched, calls that do not return."""
    assert told(
        *START,
        {"fact": "stop", "host": 1_250_000_000, "detail": "exception 0xc0000005", "kind": "x"},
        {"fact": "stop", "host": 1_250_000_000, "kind": "timeout"},
        {"fact": "error", "text": "no luck"},
        {"fact": "error"},
        {"fact": "disarmed", "id": 1, "why": "its driver was unloaded"},
        {"fact": "disarmed", "id": 7},
        {"fact": "reboot", "host": 1_000_000_000},
        {"fact": "call", "n": 0, "id": 1, "host": 2_000_000_000, "unwatched": "no room"},
        {"fact": "call", "n": 1, "id": 3, "host": 2_000_000_000},
        {"fact": "lost", "n": 0, "why": "x"},
        {"fact": "lost", "n": 1, "why": "a later call"},
        {"fact": "nonsense"},
        {"fact": "return", "n": 77},
    ) == [
        "    0.250 s  the target stopped: exception 0xc0000005",
        "    0.250 s  the target stopped: timeout",
        "             no luck",
        "             an error",
        "             Dump_Start of dump_x.sys: its driver was unloaded",
        "             callback of an unnamed filter: no longer watched",
        "    0.000 s  the target reboots",
        "    1.000 s  dump_x.sys        Dump_Start   called               (no room)",
        "    1.000 s  an unnamed filter  callback     did not return      (a later call)",
    ]


RATE = ", 7.5 MB, 7.3 MB/s in the callback"
WRITE = "             dump_x.sys        Dump_Write   "


def test_writes_are_summed_up() -> None:
    """Every two seconds, before another callback and at the end; a failing one has its line."""
    mdl = {"mdl": {"bytes": 3_000_000}, "offset": "0x1000"}
    assert told(
        *START,
        *pair(0, 2, 1990, 10, **mdl),  # not yet
        sample(0),
        *pair(1, 2, 1991, 10, **mdl),
        sample(0),
        *pair(2, 2, 3991, 10, mdl={"bytes": 1_500_000}, offset="0x2000"),  # not yet
        sample(0),
        *pair(3, 2, 4100, 1000, "0xc0000001"),
        sample(0),
        *pair(4, 1, 6000, 1),
        sample(0),
        *pair(5, 2, 6100, 1),
    ) == [
        f"{WRITE}2 calls, 1 at the offset of the call before, 6.0 MB, 300.0 MB/s in the callback",
        f"{WRITE}4 calls, 1 failed, 1 at the offset of the call before{RATE}",
        "    4.100 s  dump_x.sys        Dump_Write   STATUS_UNSUCCESSFUL  1 s",
        "    5.001 s  dump_x.sys        Dump_Start   STATUS_SUCCESS       1 ms",
        f"{WRITE}5 calls, 1 failed, 1 at the offset of the call before{RATE}",
        f"{WRITE}below 10 ms: 1, below 100 ms: 3, 1 s and more: 1",
    ]


def test_a_line_that_cannot_be_printed() -> None:
    """The capture goes on."""
    assert told({"fact": "return", "n": 0}, {"fact": "armed", "id": [], "filter": "x"}) == []
    said: list[str] = []
    Narrator(said.append).take(7)  # type: ignore[arg-type]
    assert said == ["(a line could not be printed: 'int' object has no attribute 'get')"]


@pytest.mark.parametrize(
    ("nanoseconds", "words"),
    [
        (0, "0 ns"), (999, "999 ns"), (1000, "1 us"), (999_000, "999 us"), (10**6, "1 ms"),
        (12_345_678, "12.3 ms"), (10**9, "1 s"), (12_345_678_901, "12.3 s"),
        (999_499, "999 us"), (999_500, "1 ms"), (999_900_000, "1 s"), (10**12, "16 min 40 s"),
    ],
)  # fmt: skip
def test_a_time_in_words(nanoseconds: int, words: str) -> None:
    """Three figures and a unit."""
    assert span(nanoseconds) == words


def test_what_a_debugger_writes_for_a_breakpoint() -> None:
    """int3, and KD's own on ARM64."""
    assert INSTRUCTIONS == {"x64": b"\xcc", "x86": b"\xcc", "arm64": b"\x00\x00\x3e\xd4"}
