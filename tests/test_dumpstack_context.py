"""Limits of what is found in crashdmp's image and of a dump stack context."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from dumpstack_memory import DISK_SIZE, GEOMETRY, POOL, WIN8, Memory, Stack, by_name, module

from analyzer.absence import Absent
from analyzer.dumpstack import walk
from analyzer.dumpstack.context import (
    BLOCK_LENGTH,
    CONTEXT_LENGTH,
    IMAGE_LENGTH,
    Tail,
    dump_block,
    find_contexts,
    geometry_fits,
    image_words,
    last_failure,
    progress,
    stack_pointers,
    tails,
)
from analyzer.layouts.crashdmp import NODE_LAYOUTS
from analyzer.names import ntstatus

IMAGE = {8: 0xFFFFF80700000000, 4: 0x8B000000}
FIRST_OF_SIZE = pytest.mark.parametrize("layout", [NODE_LAYOUTS[0], NODE_LAYOUTS[3]], ids=by_name)


# ---- the image ----------------------------------------------------------------------------------
@pytest.mark.parametrize("width", [8, 4])
def test_words_of_an_image(width: int) -> None:
    """Aligned words of what is there, up to its end."""
    memory, base = Memory(width), IMAGE[width]
    memory.put(base, *range(1, 4096 // width + 1))

    def words(start: int, size: Any) -> list[tuple[int, tuple[int, ...]]]:
        return list(image_words(memory, module("crashdmp.sys", start, 1)._replace(size=size)))

    assert words(base, 3 * width) == [(base, (1, 2, 3))]
    assert words(base, 3 * width + 1) == [(base, (1, 2, 3))]
    assert words(base, 3 * width - 1) == [(base, (1, 2))]
    assert words(base + 1, 3 * width - 1) == [(base + width, (2, 3))]
    assert words(base, width) == [(base, (1,))]
    assert words(base + 1, width) == []
    assert words(base, Absent("not-found")) == []
    lost = module("crashdmp.sys", base)._replace(base=Absent("not-found"))
    assert list(image_words(memory, lost)) == []


@pytest.mark.parametrize("width", [8, 4])
def test_signatures_in_an_image(width: int) -> None:
    """CDmp and 0 or 1 behind it, aligned, wherever in the image; not where the flag is missing."""
    memory, base = Memory(width), IMAGE[width]
    places = {0: 0, 8: 1, 8 * width: 2, 10 * width + 1: 1, 0x100: 0, 0x1000 - 8: 1}
    for at, flag in places.items():
        memory.write(base + at, b"CDmp" + bytes([flag]))
    crashdmp = module("crashdmp.sys", base, 0x1000)
    good = [0, 8, 0x100, 0x1000 - 8]
    assert find_contexts(memory, crashdmp) == [base + at for at in good]
    cut = crashdmp._replace(size=0x104)
    assert find_contexts(memory, cut) == [base, base + 8]
    assert find_contexts(memory, cut._replace(size=0x105)) == [base, base + 8, base + 0x100]
    assert find_contexts(memory, cut._replace(base=Absent("not-found"))) == []
    assert find_contexts(memory, cut._replace(size=Absent("not-found"))) == []


def test_how_much_of_an_image_is_looked_at() -> None:
    """16 MiB, by both."""
    memory, base = Memory(), IMAGE[8]
    edge = base + IMAGE_LENGTH
    for at in (edge - 8, edge):
        memory.write(at, b"CDmp\1\0\0\0")
    crashdmp = module("crashdmp.sys", base, 2 * IMAGE_LENGTH)
    assert find_contexts(memory, crashdmp) == [edge - 8]
    ((start, words),) = image_words(memory, crashdmp)
    assert (start + 8 * len(words), words[-1]) == (edge, int.from_bytes(b"CDmp\1", "little"))


# ---- Context ------------------------------------------------------------------------------------
def context(width: int = 8, build: Any = 19041) -> tuple[Memory, int]:
    """Memory with nothing but zeros around a Context."""
    memory = Memory(width, build)
    memory.write(POOL[width], bytes(0x3000))
    return memory, POOL[width] + 0x800


@pytest.mark.parametrize(("width", "form"), [(8, "<I4x4Q"), (4, "<I4I")])
def test_place_of_the_dump_block(width: int, form: str) -> None:
    """Anywhere in Context, aligned; not behind its end; the first one counts."""
    memory, at = context(width)
    assert CONTEXT_LENGTH == 0x750
    mine = struct.pack(form, 0xD1, 1, 2, 3, 4)
    last = CONTEXT_LENGTH - len(mine)
    none = Absent("not-found", "no copy of the bugcheck code and parameters in crashdmp!Context")

    def found(*places: int) -> Any:
        memory.write(at, bytes(CONTEXT_LENGTH + 0x100))
        for place in places:
            memory.write(at + place, mine)
        block = dump_block(memory, at, 0xD1, (1, 2, 3, 4))
        return block - at + 0x18 if isinstance(block, int) else block

    assert (found(0), found(width), found(last), found(0x300, 0x100)) == (0, width, last, 0x100)
    assert found(last + width) == found(width // 2) == found() == none
    memory.pages.pop(at >> 12)  # a Context whose first part is not there
    memory.write(at + 0x800, mine)
    at += 0x800 - 0x100
    assert dump_block(memory, at, 0xD1, (1, 2, 3, 4)) == at + 0x100 - 0x18


CDMP_ELSEWHERE = Absent(
    "unknown-layout", "no pointer to KDDEBUGGER_DATA64 behind the context record"
)


@pytest.mark.parametrize(
    ("architecture", "size"), [("x64", 0x4D0), ("x64-la57", 0x4D0), ("arm64", 0x390)]
)
def test_progress_is_at_its_place(architecture: str, size: int) -> None:
    """0x6C bytes behind the pointer that follows CONTEXT, and only where it is that pointer."""
    memory, block = context()
    memory.architecture = architecture
    data = 0xFFFFF80610100200
    memory.put(block + 0x40 + size, data)
    memory.write(block + 0x40 + size + 0x6C, struct.pack("<I", 0x44))
    assert progress(memory, block, data) == 0x44
    assert progress(memory, block, data + 8) == CDMP_ELSEWHERE
    assert progress(memory, block, Absent("not-found")) == CDMP_ELSEWHERE
    assert progress(memory, POOL[8] - 0x1000, data) == Absent(
        "not-mapped", f"nothing at {POOL[8] - 0x1000:#x}"
    )
    memory.architecture = "x86"
    why = Absent("unknown-layout", "the dump block of 32-bit Windows is not known")
    assert progress(memory, block, data) == why


NONE_FOUND = Absent(
    "not-found",
    "no pointer into a filter with a failing NTSTATUS behind it in crashdmp!Context "
    "(its place there is not known for this build)",
)


def failure(width: int, *words: tuple[int, int, int], build: Any = 19041) -> Any:
    """What is found with (offset in Context, routine in the filter, status) written."""
    memory, at = context(width, build)
    mine = module("dump_a.sys", IMAGE[width], 0x10000)
    form = "<QI" if width == 8 else "<II"
    for place, routine, status in words:
        memory.write(at + place, struct.pack(form, mine.base + routine, status))  # type: ignore[operator]
    routine, status, confidence, address = last_failure(memory, at, [mine])
    if isinstance(routine, Absent):
        assert status == routine
        return routine, confidence, address
    place = None if address is None else address - at
    return routine - IMAGE[width], status, confidence, place


@pytest.mark.parametrize("width", [8, 4])
def test_what_reads_as_a_failure(width: int) -> None:
    """A failing status right behind a routine, anywhere in Context; the first one counts."""
    size = 12 if width == 8 else 8
    last = (CONTEXT_LENGTH - size) // width * width
    for place in (0, width, last):
        row = (place, 0x1000, 0xC0000001)
        assert failure(width, row) == (0x1000, 0xC0000001, "likely", place)
    none = (NONE_FOUND, "likely", None)
    assert failure(width, (last + width, 0x1000, 0xC0000001)) == none
    assert failure(width, (width // 2, 0x1000, 0xC0000001)) == none
    least = 0xC0000000 if width == 8 else 0xC0000001  # the former may be a pointer there
    assert failure(width, (8, 0, least), (0x40, 4, 0xC0000001))[0] == 0
    assert failure(width, (8, 0xFFFF, 0xEFFFFFFF), (0x40, 4, 0xC0000001))[0] == 0xFFFF
    for routine, status in (
        (0x1000, 0xBFFFFFFF), (0x1000, 0xD0000001), (0x10000, 0xC0000001), (-1, 0xC0000001),
    ):  # fmt: skip
        found = failure(width, (8, routine, status), (0x40, 4, 0xC0000005))
        assert found == (4, 0xC0000005, "likely", 0x40)


def test_two_pointers_are_no_failure() -> None:
    """What reads as a status may be the low half of a pointer; a known status is one on x86."""
    memory, at = context()
    mine = module("dump_a.sys", IMAGE[8], 0x10000)
    memory.put(at + 8, IMAGE[8], 0xFFFFF807C0000008)
    assert last_failure(memory, at, [mine])[0] == NONE_FOUND
    memory.put(at + 8, IMAGE[8], 0x00000007C0000008)
    assert last_failure(memory, at, [mine])[:2] == (IMAGE[8], 0xC0000008)
    known = next(value for value in sorted(ntstatus.NAMES) if value >= 0xC0000000 and not value & 3)
    other = next(n for n in range(0xC0000100, 0xC0010000, 4) if n not in ntstatus.NAMES)
    assert failure(4, (8, 0, known)) == (0, known, "likely", 8)
    assert failure(4, (8, 0, other)) == (NONE_FOUND, "likely", None)
    assert failure(4, (8, 0, other | 1)) == (0, other | 1, "likely", 8)


@pytest.mark.parametrize("build", [7600, 7601])
def test_failure_of_windows_7(build: int) -> None:
    """At its place alone, whatever status it is."""
    assert failure(4, (0x3F8, 0x10, 0), build=build) == (0x10, 0, "certain", 0x3F8)
    none = Absent("not-applicable", "crashdmp recorded no failing filter routine")
    place = POOL[4] + 0x800 + 0x3F8
    assert failure(4, (0x40, 0x10, 0xC0000001), build=build) == (none, "certain", place)
    assert failure(8, (0x40, 0x10, 0xC0000001), build=build)[2:] == ("likely", 0x40)
    gone = Absent("not-mapped", "nothing at 0x1000")
    assert last_failure(Memory(4, build), 0x1000 - 0x3F8, []) == (gone, gone, "certain", None)


def test_a_context_that_cannot_be_read_has_no_failure() -> None:
    """Also when only a few bytes of it are there."""
    gone = Absent("not-in-dump", "crashdmp!Context cannot be read")
    memory = Memory()
    assert last_failure(memory, POOL[8], []) == (gone, gone, "likely", None)
    memory.write(POOL[8], bytes(8))
    assert last_failure(memory, POOL[8] + 0xFF8, []) == (gone, gone, "likely", None)
    assert last_failure(memory, POOL[8] + 0xFF0, [])[0] == NONE_FOUND


@pytest.mark.parametrize(
    ("width", "build", "places"),
    [
        (8, 22000, {0x18: "crash", 0x88: "crash"}),
        (8, 7601, {0x18: "crash", 0x88: "crash"}),
        (4, 7601, {0x20: "crash", 0x408: "hibernation"}),
        (4, 9600, {0x20: "crash"}),
    ],
)
def test_pointers_to_stacks(width: int, build: int, places: dict[int, str]) -> None:
    """At the places known for the build; one place a stack, and only what can be a pointer."""
    memory, at = context(width, build)
    assert stack_pointers(memory, at) == {}
    for word in range(0, 0x418, width):
        memory.put(at + word, POOL[width] + 0x10000 + word)
    wanted = {POOL[width] + 0x10000 + place: stack for place, stack in places.items()}
    assert list(stack_pointers(memory, at).items()) == list(wanted.items())
    memory.put(at + next(iter(places)), 0x1230)
    assert list(stack_pointers(memory, at).values()) == list(places.values())[1:]
    for word in range(0, 0x418, width):
        memory.put(at + word, POOL[width])
    assert stack_pointers(memory, at) == {POOL[width]: "crash"}
    assert stack_pointers(memory, 0x1000) == {}


def contexts(width: int, *places: int, bugcheck: Any = 0, code_at: int = -1) -> Any:
    """(Context, ContextCopy) as distances in an image with signatures at places."""
    memory = Memory(width)
    crashdmp = module("crashdmp.sys", IMAGE[width], 0x2000)
    memory.write(IMAGE[width], bytes(0x2000))
    for place in places:
        memory.write(IMAGE[width] + place, b"CDmp\1")
    if code_at >= 0:
        memory.write(IMAGE[width] + code_at + 0xE8, struct.pack("<I", 0xD1))
    found = walk.contexts(memory, crashdmp, bugcheck)
    return tuple(one if isinstance(one, Absent) else one - IMAGE[width] for one in found)


def test_context_and_its_copy() -> None:
    """By the order without a bugcheck, else by the code that the live one holds."""
    single = Absent("not-found", "only one CDmp structure")
    assert contexts(8, 0x40) == (0x40, single)
    assert contexts(8, 0x40, 0x800, 0xC00) == (0xC00, 0x40)
    assert contexts(4, 0x40, 0x800, 0xC00) == (0x40, 0x800)
    assert contexts(8, 0x40, 0x800, bugcheck=0xD1, code_at=0x40) == (0x40, 0x800)
    assert contexts(8, 0x40, 0x800, bugcheck=0xD2, code_at=0x40) == (0x800, 0x40)
    assert contexts(4, 0x40, 0x800, bugcheck=0xD1, code_at=0x800) == (0x800, 0x40)
    assert contexts(8, 0x40, 0x800, bugcheck=Absent("unset"), code_at=0x40) == (0x800, 0x40)
    none = Absent(
        "not-in-dump", "no CDmp signature in what the dump holds of crashdmp.sys",
        "a kernel or complete memory dump",
    )  # fmt: skip
    assert contexts(8) == (none, none)
    none = Absent("not-found", "crashdmp.sys is not in the module list")
    assert walk.contexts(Memory(), None, 0xD1) == (none, none)


# ---- the geometry -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("cylinders", "media", "tracks", "sectors", "sector", "more", "style", "fits"),
    [
        (1, 0, 1, 1, 512, 0, 0, True),
        (2, 12, 255, 63, 512, 254 * 63 * 512, 1, True),
        (2, 12, 255, 63, 512, 255 * 63 * 512 - 512, 2, True),
        (2, 12, 255, 63, 512, 255 * 63 * 512, 1, False),
        (2, 12, 255, 63, 512, -512, 1, False),
        (2, 12, 255, 63, 512, 256, 1, False),
        ((1 << 40) - 1, 25, 1, 1, 1024, 0, 1, True),
        (1 << 40, 25, 1, 1, 1024, 0, 1, False),
        (7, 25, 255, 255, 4096, 4096, 1, True),
        (7, 25, 255, 255, 2048, 2048, 1, True),
        (7, 26, 255, 255, 2048, 2048, 1, False),
        (7, 12, 256, 255, 2048, 2048, 1, False),
        (7, 12, 255, 256, 2048, 2048, 1, False),
        (7, 12, 255, 255, 8192, 8192, 1, False),
        (7, 12, 255, 255, 2048, 2048, 3, False),
        (7, 12, 0, 255, 2048, 2048, 1, False),
        (0, 12, 255, 255, 2048, 2048, 1, False),
    ],
)
def test_limits_of_a_geometry(
    cylinders: int, media: int, tracks: int, sectors: int, sector: int, more: int, style: int,
    fits: bool,
) -> None:  # fmt: skip
    """A disk has its whole cylinders and a rest, in sectors."""
    size = cylinders * tracks * sectors * sector + more
    data = struct.pack("<qiIIIqIi", cylinders, media, tracks, sectors, sector, size, 0x18, style)
    assert geometry_fits(data.ljust(0x38, b"\0"), 0) is fits
    assert not geometry_fits(data.ljust(0x37, b"\0"), 0)


# ---- the tail of a context ----------------------------------------------------------------------
def tail_of(stack: Stack, before: int, behind: int = 0x80) -> list[Tail]:
    """Tails in the bytes around the geometry of a context."""
    start = stack.geometry - before
    data = stack.memory.read(start, before + behind)
    assert isinstance(data, bytes)
    return tails(stack.memory, stack.dump, start, data)


@FIRST_OF_SIZE
def test_whole_tail(layout: Any) -> None:
    """Every member; nothing behind the list head is needed, and nothing less will do."""
    stack = Stack(layout)
    width = stack.width
    need = stack.head - stack.geometry + 2 * width
    (tail,) = tail_of(stack, 0x60, need)
    assert tail_of(stack, 0x60, need - 1) == []
    assert (bytes(tail.geometry), bytes(tail.partition)) == (GEOMETRY[:0x18], GEOMETRY[0x20:])
    assert tail._replace(geometry=None, partition=None) == Tail(  # type: ignore[arg-type]
        stack.geometry, None, DISK_SIZE, None, POOL[width] + 0x9000, stack.head,  # type: ignore[arg-type]
        stack.links[0], stack.links[-1], "crash", (stack.dump[0].base + 0x1010,),  # type: ignore[operator]
    )  # fmt: skip
    for device, count in ((0, 1), (8, 0), (POOL[width] + 1, 0)):
        stack.memory.put(stack.geometry + 0x38, device)
        assert len(tail_of(stack, 0x60)) == count
    shifted = stack.memory.read(stack.geometry - 0x60, 0x100)
    assert tails(stack.memory, stack.dump, stack.geometry - 0x60 + 4 // (8 // width), shifted) == []  # type: ignore[arg-type]


@FIRST_OF_SIZE
def test_port_routines_before_the_geometry(layout: Any) -> None:
    """Words up to 0x60 bytes before it that point into a driver which is not a filter."""
    stack = Stack(layout)
    port, miniport, own_filter = (one.base for one in stack.dump[:3])
    wanted = {0x60: port + 1, stack.width: miniport + 2, 0x30: own_filter + 3, 0x68: port + 4}  # type: ignore[operator]
    for before, word in wanted.items():
        stack.memory.put(stack.geometry - before, word)
    every = (port + 1, port + 0x1010, miniport + 2)  # type: ignore[operator]
    for before, routines in ((0x70, every), (0x60, every), (0x5C, every[1:]), (0x58, every[1:])):
        (tail,) = tail_of(stack, before)
        assert (tail.routines, tail.stack) == (routines, "crash")
    (tail,) = tail_of(stack, stack.width)
    assert (tail.routines, tail.stack) == ((miniport + 2,), "crash")  # type: ignore[operator]
    two = [stack.dump[0]._replace(stack="hibernation"), *stack.dump[1:]]
    data = stack.memory.read(stack.geometry - 0x60, 0x100)
    (tail,) = tails(stack.memory, two, stack.geometry - 0x60, data)  # type: ignore[arg-type]
    assert tail.stack == "hibernation"


@FIRST_OF_SIZE
def test_a_tail_without_port_routines(layout: Any) -> None:
    """It counts where all words before it were looked at and its list has a member."""
    stack = Stack(layout)
    stack.memory.put(stack.geometry - 0x50, 0)
    (tail,) = tail_of(stack, 0x60)
    assert (tail.routines, tail.stack, tail.flink) == ((), "", stack.links[0])
    assert tail_of(stack, 0x58) == []
    stack.memory.put(stack.head, stack.head, stack.head)
    assert tail_of(stack, 0x60) == []
    stack.memory.put(stack.geometry - 0x50, stack.dump[0].base)  # type: ignore[arg-type]
    assert [(tail.flink, tail.blink) for tail in tail_of(stack, 0x60)] == [(stack.head, stack.head)]
    for words in ((stack.head, stack.links[0]), (stack.links[0], stack.head), (8, stack.head)):
        stack.memory.put(stack.head, *words)
        assert tail_of(stack, 0x60) == []


def test_every_tail_in_a_piece() -> None:
    """Two contexts, one right behind the other, and a size word at the very start."""
    stack = Stack(WIN8)
    whole = stack.memory.read(stack.geometry - 0x60, 0xB0)
    assert isinstance(whole, bytes)
    data = b"\x18\0\0\0\0\0\0\0" + whole + whole
    start = POOL[8] + 0x20000
    found = tails(stack.memory, stack.dump, start, data)
    assert [tail.address - start for tail in found] == [0x68, 0x118]
    assert [tail.head - start for tail in found] == [0xA8, 0x158]


def test_how_far_into_a_block_the_geometry_may_lie() -> None:
    """A page."""
    assert BLOCK_LENGTH == 0x1000
    stack = Stack(WIN8, 1)
    link = stack.links[0]
    for at, count in ((0x1000 - 0x50, 1), (0x1000 - 0x48, 0)):
        block = POOL[8] + 0x20000
        stack.memory.write(block, bytes(0x2000))
        stack.memory.write(block + at, GEOMETRY + struct.pack("<Q2Q", 0, link, link))
        stack.memory.put(block + at - 8, stack.dump[0].base)  # type: ignore[arg-type]
        found = walk.block_rings(stack.memory, stack.dump, block, "", "test")
        assert [ring.tail is not None for ring in found] == [True] * count
