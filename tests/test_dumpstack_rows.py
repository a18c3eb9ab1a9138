"""Rows of filters compared whole; words on stacks, import tables, blamed code at their limits."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from conftest import make
from dumpstack_memory import DISK_SIZE, PAGE, POOL, WIN8, Memory, Stack, module, stack_of

from analyzer.absence import Absent
from analyzer.dumpstack import describe, fault, imports, residue, roles
from analyzer.dumpstack.walk import Ring
from analyzer.layouts.crashdmp import NODE_LAYOUTS
from analyzer.layouts.ntdddump import CALLBACKS
from analyzer.records import Callback, Extension, Filter, Module, Origin, Structure

NONE = Absent("not-found", "no failure")
NOTHING = describe.Failure(NONE, NONE, "certain", None)
NO_SUCH = Absent("not-applicable", "the filter registered no such routine")
OLDER = Absent("not-applicable", "the win8 layout has no such member")
NO_CALLS = Absent(
    "not-recorded", "memory keeps no record of single calls",
    "a live session (dumpstart capture) or the filter's own trace events",
)  # fmt: skip
NO_STATUS = NO_CALLS._replace(detail="memory keeps no return status of a callback")
NO_CLOCK = NO_CALLS._replace(detail="memory keeps no clock of a callback")
UNKNOWN = Absent("not-found", "a filter of this name is not known")
CLOCKS = (
    "processor entry_time entry_clock return_clock duration_ns duration_low_ns duration_high_ns"
).split()


def rows(
    stack: Stack, *rings: Ring, failure: describe.Failure = NOTHING, wrote: str = ""
) -> describe.Described:
    """The records of rings, with the modules of a stack."""
    return describe.describe(stack.memory, stack.modules, rings, failure, wrote)


# ---- filters ------------------------------------------------------------------------------------
def test_whole_rows_of_a_filter() -> None:
    """Every field of the three tables, of one node."""
    stack = Stack(WIN8, 3)
    node, start = stack.nodes[1], stack.dump[3].base
    assert isinstance(start, int)
    changes = {"Flags": 0xD, "DumpRead": start + 0x2000, "PartitionStyle": 0}
    stack.memory.write(node, stack.node_bytes(1, **changes)[: WIN8.link])
    mbr = WIN8.extension + WIN8.extension_class.PartitionInfo.offset + 8
    stack.memory.write(node + mbr, struct.pack("<II", 0x1234ABCD, 0x77))
    stack.memory.write(node + WIN8.state, struct.pack("<I", 6))
    found = rows(stack, stack.ring())
    origin = Origin("memory", "test; layout win8 by content", "certain", None, node)
    assert found.filters[1] == Filter(
        filter="dump_b.sys", stack="crash", ring_index=1, ring_count=3, node=node, layout="win8",
        major_version=2, minor_version=0, dump_start=start + 0x1000, dump_write=start + 0x1040,
        dump_finish=start + 0x1080, dump_unload=0, dump_read=start + 0x2000,
        dump_pre_read_write=OLDER, dump_data=POOL[8] + 0xA000, max_pages_per_write=16, flags=0xD,
        flags_meaning="read support (bit 0 shares its value with DUMP_FILTER_CRITICAL), "
        "unknown bits 0xc",
        is_disabled=False, state=6, last_failing_routine=NONE, last_failing_status=NONE,
        last_failing_status_name=NONE, product=UNKNOWN, origin=origin,
    )  # fmt: skip
    gpt = Absent("not-applicable", "the partition style is another")
    where = node + WIN8.extension
    assert found.extensions[1] == Extension(
        filter="dump_b.sys", stack="crash", node=node, extension=where, dump_type=1,
        dump_type_name="DumpTypeCrashdump", device_object=POOL[8] + 0x9000, cylinders=121601,
        media_type=12, media_type_name="FixedMedia", tracks_per_cylinder=255,
        sectors_per_track=63, bytes_per_sector=512, disk_size=DISK_SIZE,
        size_of_partition_info=0x18, partition_style=0, partition_style_name="MBR",
        mbr_signature=0x1234ABCD, mbr_checksum=0x77, gpt_disk_id=gpt, dump_data=POOL[8] + 0xA000,
        size=0x58, flags=0, is_reconstructed=False,
        raw_bytes=stack.memory.read(where, 0x58).hex(),  # type: ignore[union-attr]
        origin=origin._replace(address=where),
    )  # fmt: skip
    names = ["Dump_Start", "Dump_Write", "Dump_Finish", "Dump_Unload", "Dump_Read"]
    routines = [start + 0x1000, start + 0x1040, start + 0x1080, 0, start + 0x2000]
    wanted = []
    for name, routine in zip(names, routines):
        row: dict[str, Any] = dict.fromkeys(CLOCKS, NO_CLOCK if routine else NO_SUCH)
        status = NO_STATUS if routine else NO_SUCH
        symbol = f"dump_b+{routine - start:#x}" if routine else NO_SUCH
        wanted.append(Callback(
            filter="dump_b.sys", stack="crash", node=node, callback=name, routine=routine,
            symbol=symbol, call=None, was_called=NO_CALLS if routine else "no", status=status,
            status_name=status, extension=where, origin=origin, **row,
        ))  # fmt: skip
    assert found.callbacks[5:10] == wanted
    assert [len(table) for table in found] == [3, 3, 15]
    assert [row.ring_index for row in found.filters] == [0, 1, 2]


@pytest.mark.parametrize(
    ("flags", "major", "read", "words"),
    [
        (0, 2, 1, "none"),
        (1, 2, 1, "read support (bit 0 shares its value with DUMP_FILTER_CRITICAL)"),
        (1, 2, 0, "DUMP_FILTER_CRITICAL or read support (the same bit)"),
        (1, 1, 1, "DUMP_FILTER_CRITICAL or read support (the same bit)"),
        (2, 2, 0, "DUMP_FILTER_FLAG_SYSTEM_SUPPORT_FILTER_EXTENSION_EX"),
        (4, 2, 0, "unknown bits 0x4"),
        (0xFFFFFFFE, 2, 0,
         "DUMP_FILTER_FLAG_SYSTEM_SUPPORT_FILTER_EXTENSION_EX, unknown bits 0xfffffffc"),
    ],
)  # fmt: skip
def test_flags_in_words(flags: int, major: int, read: int, words: str) -> None:
    """Bit 0 by what the rest tells of it."""
    init = NODE_LAYOUTS[0].init_class(Flags=flags, MajorVersion=major, DumpRead=read)
    assert describe.flags_meaning(init) == words


def test_state_of_a_node() -> None:
    """Bit 0 alone disables; where the word is cut off or its place not known, the reason."""
    stack = Stack(WIN8, 1)
    (node,) = stack.ring().nodes
    for state, disabled in ((0, False), (1, True), (2, False), (0xFFFFFFFF, True)):
        stack.memory.write(stack.nodes[0] + WIN8.state, struct.pack("<I", state))
        (row,) = rows(stack, stack.ring()).filters[:1]
        assert (row.state, row.is_disabled) == (state, disabled)
    cut = node._replace(data=node.data[: WIN8.state + 3])
    (row,) = rows(stack, stack.ring()._replace(nodes=(cut,))).filters[:1]
    why = Absent("not-in-dump", "the node is cut before its state word")
    assert (row.state, row.is_disabled) == (why, why)
    moved = node._replace(layout=node.layout._replace(state=-1))
    (row,) = rows(stack, stack.ring()._replace(nodes=(moved,))).filters[:1]
    why = Absent(
        "unknown-layout",
        "the link stands at 0x98, where no known layout has it; "
        "so the place of the state word is not known",
    )
    assert (row.state, row.is_disabled) == (why, why)


def calls(found: describe.Described, name: str = "Dump_Start") -> list[tuple[Any, ...]]:
    """(filter, called, status, its name, confidence, how) of one callback."""
    return [
        (row.filter, row.was_called, row.status, row.status_name, row.origin.confidence,
         row.origin.how)
        for row in found.callbacks if row.callback == name
    ]  # fmt: skip


def test_who_failed() -> None:
    """The last failing routine, in the rows of its filter and callback; others say that."""
    stack = Stack(WIN8, 2)
    ring = stack.ring()
    a, b = stack.dump[2:4]
    routine = a.base + 0x1040  # type: ignore[operator]
    other = Absent(
        "not-applicable", "the last failing routine, dump_a+0x1040, is of no such filter"
    )
    how = "test; layout win8 by content"
    quiet = (NO_CALLS, NO_STATUS, NO_STATUS, "certain", how)
    for confidence, called in (("certain", "yes"), ("likely", "likely")):
        failure = describe.Failure(routine, 0xC0000001, confidence, None)
        found = rows(stack, ring, failure=failure)
        told = [
            (row.last_failing_routine, row.last_failing_status, row.last_failing_status_name)
            for row in found.filters
        ]
        mine = ("dump_a+0x1040", 0xC0000001, "STATUS_UNSUCCESSFUL")
        assert told[:2] == [mine, (other, other, other)]
        known = "test; layout win8 by content; status from crashdmp's last failing routine"
        assert calls(found, "Dump_Write")[:2] == [
            (a.name, called, 0xC0000001, "STATUS_UNSUCCESSFUL", confidence, known),
            (b.name, *quiet),
        ]
        assert calls(found)[:2] == [(a.name, *quiet), (b.name, *quiet)]
    nowhere = describe.Failure(8, NONE, "likely", None)
    text = f"the last failing routine, {8:#018x}, is of no such filter"
    (row, _) = rows(stack, ring, failure=nowhere).filters[:2]
    assert row.last_failing_routine == Absent("not-applicable", text)
    unknown = describe.Failure(routine, NONE, "likely", None)
    found = rows(stack, ring, failure=unknown)
    assert found.filters[0].last_failing_status_name == NONE
    assert calls(found, "Dump_Write")[0][1:3] == (NO_CALLS, NO_STATUS)


def test_who_was_likely_called() -> None:
    """Dump_Start of each enabled filter of the crash stack, where a dump was written."""
    stack = Stack(WIN8, 3)
    stack.memory.write(stack.nodes[1] + WIN8.state, struct.pack("<I", 1))
    ring = stack.ring()
    how = "test; layout win8 by content"
    quiet = [NO_CALLS, NO_STATUS, NO_STATUS, "certain", how]
    likely = ["likely", *quiet[1:4], f"{how}; called: it is here"]
    names = [one.name for one in stack.dump[2:]]
    wanted = [(name, *told) for name, told in zip(names, (likely, quiet, likely))]
    assert calls(rows(stack, ring, wrote="it is here")) == wanted
    assert calls(rows(stack, ring)) == [(name, *quiet) for name in names]
    assert {row[1] for row in calls(rows(stack, ring, wrote="x"), "Dump_Write")} == {NO_CALLS}
    hiber = ring._replace(stack="hibernation")
    assert calls(rows(stack, hiber, wrote="x"))[:3] == [(name, *quiet) for name in names]


def test_a_node_without_a_head_or_a_module() -> None:
    """What is not known of it has its reason."""
    stack = Stack(WIN8, 1)
    lost = Absent("not-found")
    ring = stack.ring()._replace(head=lost, members=None, stack="")
    row = rows(stack, ring).filters[0]
    assert (row.stack, row.ring_index, row.origin.confidence) == (
        "crash", Absent("not-found", "the list of this filter has no head"), "likely",
    )  # fmt: skip
    assert row.ring_count == Absent("not-found", "the head of the list of filters was not found")
    (node,) = ring.nodes
    bare = node._replace(data=stack.node_bytes(0, DumpStart=0, DumpWrite=0, DumpFinish=0))
    bare = bare._replace(address=lost)
    found = rows(stack, ring._replace(nodes=(bare,)))
    none = Absent("not-found", "no routine of this node lies in a dump module")
    assert (found.filters[0].filter, found.filters[0].stack) == (none, None)
    assert (found.extensions[0].node, found.extensions[0].extension) == (lost, lost)
    assert [row.was_called for row in found.callbacks[:5]] == ["no"] * 5
    other = stack.modules[0].base
    assert isinstance(other, int)
    lent = node._replace(data=stack.node_bytes(0, DumpStart=other, DumpWrite=other, DumpFinish=0))
    assert rows(stack, ring._replace(nodes=(lent,))).filters[0].filter == none
    gone = [one._replace(loaded=False) for one in stack.modules]
    found = describe.describe(stack.memory, gone, [ring], NOTHING, "")
    assert [row.filter for row in found.filters] == [none]
    ring = stack.ring()._replace(members=None, least=7)
    text = "the list of filters could not be walked to its end; at least 7"
    assert describe.ring_count(ring) == Absent("not-found", text)
    at = node._replace(file_offset=0x2000)
    row = rows(stack, ring._replace(nodes=(at,))).extensions[0]  # type: ignore[assignment]
    assert row.origin.file_offset == 0x2040


def test_whole_rows_of_a_filter_without_a_node() -> None:
    """Its extension is made of what crashdmp fills one from; the rest says why it is not known."""
    stack = Stack(WIN8, 1)
    stack.memory.dropped.add(stack.nodes[0] >> 12)
    ring = stack.ring()
    only = stack.modules[:4]
    found = describe.describe(stack.memory, only, [ring], NOTHING, "it is here")
    why = ring.unread[0][1]
    origin = Origin("memory", "its module alone", "likely")
    known = {"filter": "dump_a.sys", "stack": "crash", "origin": origin}
    wanted = {**dict.fromkeys(Filter._fields, why), **known, "ring_count": 1, "product": UNKNOWN}
    assert [row._asdict() for row in found.filters] == [wanted]
    other = Absent("not-applicable", "the partition style is another")
    how = "reconstructed from the dump stack context that crashdmp fills FILTER_EXTENSION from"
    extension = {
        **dict.fromkeys(Extension._fields, why), **known, "dump_type": 1,
        "dump_type_name": "DumpTypeCrashdump", "device_object": POOL[8] + 0x9000,
        "cylinders": 121601, "media_type": 12, "media_type_name": "FixedMedia",
        "tracks_per_cylinder": 255, "sectors_per_track": 63, "bytes_per_sector": 512,
        "disk_size": DISK_SIZE, "size_of_partition_info": 0x18, "partition_style": 1,
        "partition_style_name": "GPT", "mbr_signature": other, "mbr_checksum": other,
        "gpt_disk_id": "00000000-0000-0000-0000-000000000000", "is_reconstructed": True,
        "origin": Origin("memory", how, "likely", None, stack.geometry),
    }  # fmt: skip
    assert [row._asdict() for row in found.extensions] == [extension]
    call = {
        **dict.fromkeys(Callback._fields, why), **known, **dict.fromkeys(CLOCKS, NO_CLOCK),
        "callback": "Dump_Start", "call": None, "was_called": NO_CALLS, "status": NO_STATUS,
        "status_name": NO_STATUS,
    }  # fmt: skip
    assert [row._asdict() for row in found.callbacks] == [call]

    def kind(stack_name: str) -> Any:
        mine = [one._replace(stack=stack_name) if one.stack else one for one in only]
        tail = ring.tail._replace(stack="")  # type: ignore[union-attr]
        rings = [ring._replace(stack=stack_name, tail=tail)]
        (row,) = describe.describe(stack.memory, mine, rings, NOTHING, "").extensions
        return row.dump_type, row.dump_type_name

    assert kind("hibernation") == (2, "DumpTypeHibernation")
    unknown = Absent("not-found", "crash or hibernation stack: not known")
    assert kind("another") == (unknown, unknown)


def test_when_an_extension_is_rebuilt() -> None:
    """Where a list has members that were not read; not of a module that is in no list."""
    stack = Stack(WIN8, 2)
    ring = stack.ring()

    def rebuilt(*rings: Ring) -> list[bool]:
        return [row.is_reconstructed for row in rows(stack, *rings).extensions]

    assert rebuilt(ring) == [False, False, False]
    assert rebuilt(ring._replace(members=3)) == [False, False, True]
    assert rebuilt(ring._replace(members=3, tail=None)) == [False] * 3
    assert rebuilt(ring._replace(stack="hibernation", members=3)) == [False] * 3
    big = "a kernel or complete memory dump"
    (row,) = rows(stack, ring._replace(members=3)).filters[2:]
    assert row.node == Absent("not-found", "no node of this filter was found", big)


# ---- structures ---------------------------------------------------------------------------------
def test_where_the_lists_lie() -> None:
    """Two rows for each ring with a context and a head; one or several filters."""
    for count, text in ((0, "0 filters"), (1, "1 filter"), (2, "2 filters")):
        stack = Stack(WIN8, count)
        ring = stack.ring()
        found = describe.structures(stack.memory, stack.modules, [ring])
        pool = Absent("not-applicable", "not inside an image")
        detail = "DISK_GEOMETRY_EX, attached device, filter list head"
        routines = "; port routines dump_dumpstorport+0x1010"
        origin = Origin("memory", "test", "likely", None, stack.geometry)
        head = origin._replace(address=stack.head)
        assert found == [
            Structure(
                "dump stack context (disk geometry)", "crash", stack.geometry, pool,
                detail + routines, origin,
            ),
            Structure("filter list head", "crash", stack.head, pool, text, head),
        ]  # fmt: skip
        bare = ring._replace(tail=ring.tail._replace(routines=()), stack="")  # type: ignore[union-attr]
        (row, _) = describe.structures(stack.memory, stack.modules, [bare])
        assert (row.stack, row.detail) == (None, detail)
        bare = ring._replace(tail=None, members=None, least=4)
        (row,) = describe.structures(stack.memory, stack.modules, [bare])
        assert row.detail == ("the list of filters could not be walked to its end; at least 4")
        bare = bare._replace(head=Absent("not-found"))
        assert describe.structures(stack.memory, stack.modules, [bare]) == []
    inside = ring._replace(head=stack.modules[0].base + 0x80)  # type: ignore[operator]
    assert describe.structures(stack.memory, stack.modules, [inside])[1].symbol == "crashdmp+0x80"


# ---- words on a stack ---------------------------------------------------------------------------
@pytest.mark.parametrize("width", [8, 4])
def test_whole_row_of_a_word_on_a_stack(width: int) -> None:
    """Aligned words from the first to the last whole one."""
    memory, modules = Memory(width), stack_of(width)
    stack, base = POOL[width] + 0x10000, modules[0].base
    assert isinstance(base, int)
    memory.write(base + 0x1000 - 5, b"\xe8\0\0\0\0")
    memory.write(base, bytes(8))
    memory.put(stack, *[base + 0x1000] * (PAGE // width))
    row = residue.Residue(
        "me", "crashdmp+0x1000", "crashdmp.sys", base + 0x1000, True,
        Origin("memory", "word on a captured stack", "likely", None, stack + width),
    )  # fmt: skip

    def places(start: int, end: int) -> list[Any]:
        found = residue.find(memory, modules, stack + start, stack + end, "me")
        assert {one._replace(origin=row.origin) for one in found} <= {row}
        return [one.origin.address - stack for one in found]  # type: ignore[operator]

    assert residue.find(memory, modules, stack + width, stack + 2 * width, "me") == [row]
    assert places(0, 3 * width) == [0, width, 2 * width]
    assert places(1, 3 * width - 1) == [width]
    assert places(-PAGE, 2 * width) == [0, width]
    assert places(width, width) == []
    drivers = [one._replace(stack=None, role="driver") for one in modules]
    assert residue.find(memory, drivers, stack, stack + PAGE, "me") == []


def test_the_bound_of_words_is_told() -> None:
    """512 words are kept, and one that is left out is named as a limit."""
    memory, modules = Memory(), stack_of(8)
    stack, base = POOL[8] + 0x10000, modules[0].base
    memory.put(stack, *[base] * 512)  # type: ignore[list-item]
    assert len(residue.find(memory, modules, stack, stack + 511 * 8, "me")) == 511
    assert memory.limits == ()
    assert len(residue.find(memory, modules, stack, stack + PAGE, "me")) == 512
    assert memory.limits == ("the words left on the stack of me ended after 512",)


@pytest.mark.parametrize("length", range(2, 9))
@pytest.mark.parametrize("modrm", [0x0F, 0x10, 0x17, 0x18, 0xD0, 0xD8, 0xC8, 0x50, 0x60])
def test_lengths_of_a_call(length: int, modrm: int) -> None:
    """FF /2 of 2, 3, 4, 6 or 7 bytes (Intel SDM)."""
    memory, code = Memory(), bytearray(b"\x90" * 16)
    code[16 - length : 18 - length] = (0xFF, modrm)
    memory.write(0x140001000 - 16, bytes(code))
    is_call = length in (2, 3, 4, 6, 7) and modrm in (0x10, 0x17, 0xD0, 0x50)
    assert residue.follows_call(memory, 0x140001000) is is_call


def test_a_call_at_the_edge_of_what_is_there() -> None:
    """Seven bytes of code before the address are needed on x64, four on ARM64."""
    memory = Memory()
    memory.write(0x140001000, b"\x90\x90\xe8" + bytes(8))
    assert residue.follows_call(memory, 0x140001007) is True
    for other in (0x140001008, 0x140001009):
        assert residue.follows_call(memory, other) is False
    gone = Absent("not-mapped", "nothing at 0x140000000")
    assert residue.follows_call(memory, 0x140001006) == gone
    memory.architecture = "arm64"
    memory.write(0x140001000, struct.pack("<I", 0x94000000))
    assert residue.follows_call(memory, 0x140001004) is True
    assert residue.follows_call(memory, 0x140001000) == gone
    for word in (0xD63F03E0, 0xD63F0000):
        memory.write(0x140001000, struct.pack("<I", word))
        assert residue.follows_call(memory, 0x140001004) is True
    for word in (0x90000000, 0x98000000, 0xD63F0001, 0xD63F0400):
        memory.write(0x140001000, struct.pack("<I", word))
        assert residue.follows_call(memory, 0x140001004) is False


# ---- roles --------------------------------------------------------------------------------------
def how(row: Module) -> str:
    """Why a role was taken."""
    return row.origin.how.partition("; ")[2]


def test_why_a_role_was_taken() -> None:
    """Each reason in the row, and none where the name tells."""
    names = ("dump_newport.sys", "dump_newdisk.sys", "dump_newcrypt.sys", "dump_dumpfve.sys")
    first = ("dump port driver", "taken for the dump port driver: first image of its stack")
    behind = (
        "dump miniport",
        "taken for the miniport: first unknown image behind the dump port driver",
    )
    left = ("dump filter", "taken for a filter: no known dump port or miniport driver")

    def told(*names: str, **options: Any) -> list[tuple[Any, str]]:
        found = roles.classify([module(name) for name in names], **options)
        return [(row.role, how(row)) for row in found]

    assert told(*names) == [first, behind, left, ("dump filter", "")]
    assert told(*names, is_whole=False) == [left, left, left, ("dump filter", "")]
    assert told(names[0]) == [left]
    assert told(names[0], names[1]) == [first, behind]
    assert told(names[3], names[0]) == [("dump filter", ""), left]
    assert told(names[1], "dump_storport.sys") == [left, ("dump port driver", "")]
    imported = ("dump miniport", "taken for the miniport: it imports the dump port driver")
    for port in ("newport", "storport"):
        tables = {names[1]: frozenset({port})}
        found = told(*names[:3], imports=lambda m: tables.get(str(m.name), frozenset()))  # noqa: B023
        assert found == [first, imported, left]
    for name in ("ntoskrnl", "stornvme", "dumpfve"):
        found = told(*names[:3], imports=lambda _: frozenset({name}))  # noqa: B023
        assert found == [first, left, left]
    assert told("dump_stornv.sys") == [left]  # only the unloaded list cuts names


def test_unloaded_copies_have_the_role_of_the_loaded_one() -> None:
    """By the beginning of the name, where all that begin so have one role."""
    loaded = [
        module(f"dump_{name}.sys") for name in ("newport", "newdisk", "newcrypta", "newcryptb")
    ]

    def told(*names: str) -> list[tuple[Any, Any]]:
        gone = [module(name)._replace(loaded=False) for name in names]
        return [(row.role, row.stack) for row in roles.classify(loaded, gone)[4:]]

    assert told("dump_newdisk", "dump_newcryp", "dump_new", "dump_other", "disk.sys") == [
        ("dump miniport", "crash"), ("dump filter", "crash"), ("dump filter", "crash"),
        ("dump filter", "crash"), ("driver", None),
    ]  # fmt: skip
    assert told("dump_dumpstorp", "dump_dumpst") == [
        ("dump port driver", "crash"), ("dump filter", "crash"),
    ]  # fmt: skip


def test_a_node_proves_a_filter() -> None:
    """The guess goes from the row, and a role that was right stays as it is."""
    found = roles.classify([module(f"dump_{n}.sys", at) for at, n in enumerate(("p", "m", "f"), 9)])
    disk = module("disk.sys", 10, role="driver")
    proven = roles.proven([*found, disk], [found[1], found[2]])
    assert [row.role for row in proven] == [
        "dump port driver", "dump filter", "dump filter", "driver",
    ]  # fmt: skip
    assert proven[1].origin.how == "list; a filter node has its routines here"
    assert [proven[0], *proven[2:]] == [found[0], found[2], disk]


def test_what_a_copy_is_compared_with() -> None:
    """The driver of the same name, where there is one; never a port driver's."""
    names = ("storport.sys", "dump_storport.sys", "dump_stornvme.sys")
    _, port, mini = roles.classify([module(name) for name in names])
    no_original = Absent(
        "not-applicable", "dump port drivers have no running original of the same file"
    )
    assert (port.original, port.original_match) == (no_original, no_original)
    none = Absent("not-found", "stornvme.sys itself is not loaded, nothing to compare with")
    assert (mini.original, mini.original_match) == (none, none)
    (plain,) = roles.classify([module("disk.sys")])
    assert (plain.original, plain.original_match) == (None, None)


# ---- import tables ------------------------------------------------------------------------------
def image(memory: Memory, names: list[bytes], new: int = 0x80, table: int = 0x400) -> Module:
    """An image with an import table, written by hand after the PE/COFF specification."""
    base = POOL[memory.pointer_size] + 0x102000  # shares a bit with the places of the names
    memory.write(base, bytes(0x4000))
    memory.write(base + 0x3C, struct.pack("<I", new))
    magic, entry = (0x20B, 0x78) if memory.pointer_size == 8 else (0x10B, 0x68)
    memory.write(base + new, struct.pack("<I20xH", 0x4550, magic))
    memory.write(base + new + 24 + entry, struct.pack("<II", table, 20 * len(names) + 20))
    for place, name in enumerate(names):
        at = 0x3000 - 0x40 * (place + 1)
        memory.write(base + at, name + b"\0")
        memory.write(base + table + 20 * place, struct.pack("<5I", 1, 2, 3, at, 5))
    return module("dump_x.sys", base)


NO_TABLE = Absent("not-found", "the image has no import table")


@pytest.mark.parametrize("width", [8, 4])
def test_import_tables(width: int) -> None:
    """As many as there are, up to 64; names in small letters and without their ends."""
    for count in (1, 2, 63):
        memory = Memory(width)
        row = image(memory, [b"Port%d.SYS" % place for place in range(count)])
        assert imports.imported(memory, row) == {f"port{place}" for place in range(count)}
    memory = Memory(width)
    row = image(memory, [b"a%d.dll" % place for place in range(66)])
    assert imports.imported(memory, row) == {f"a{place}" for place in range(64)}
    for new, is_read in ((0xFF0, True), (0x1000, False)):
        found = imports.imported(memory, image(memory, [b"a.exe"], new, 0x1800))
        assert found == (frozenset({"a"}) if is_read else Absent("out-of-range"))
    memory = Memory(width)
    row = image(memory, [b"a.sys"])
    assert isinstance(row.base, int)
    memory.write(row.base + 0x400 + 40, struct.pack("<5I", 1, 2, 3, 0x3F00, 5))  # behind its end
    assert imports.imported(memory, row) == {"a"}
    memory = Memory(width)
    empty = Absent("not-found", "the import table is empty or was discarded")
    assert imports.imported(memory, image(memory, [])) == empty
    assert imports.imported(memory, image(memory, [b"a.sys"], table=0)) == NO_TABLE
    row = image(memory, [b"a.sys"])
    lost = Absent("not-found", "the base of the image is not known")
    assert imports.imported(memory, row._replace(base=lost)) == lost
    base = row.base
    assert isinstance(base, int)
    for at, data, why in (
        (0x80 + 24 + (0x78 if width == 8 else 0x68) + 4, bytes(4), NO_TABLE),
        (0x80 + 24, b"\x0c\x02", Absent("not-found", "no PE header")),
        (0x81, b"F", Absent("not-found", "no PE header")),
        (0x2FC0, b"a.txt", Absent("not-found", f"no name of an image at {base + 0x2FC0:#x}")),
        (0x2FC0, b"\xe4.sys", Absent("not-found", f"no name of an image at {base + 0x2FC0:#x}")),
    ):
        row = image(memory, [b"a.sys"])
        memory.write(base + at, data)
        assert imports.imported(memory, row) == why


def test_longest_name_of_an_import() -> None:
    """64 bytes with the zero behind them; also at the end of what is there."""
    for length, at in ((63, 0x2000), (63, 0x3FC0), (64, 0x2000)):
        memory = Memory()
        row = image(memory, [b"a.sys"])
        base = row.base
        assert isinstance(base, int)
        name = b"a" * (length - 4) + b".sys"
        memory.write(base + at, name + b"\0")
        memory.write(base + 0x400 + 12, struct.pack("<I", at))
        found = imports.imported(memory, row)
        none = Absent("not-found", f"no name of an image at {base + at:#x}")
        assert found == (none if length == 64 else frozenset({"a" * 59}))


# ---- blamed code --------------------------------------------------------------------------------
NT = make(Module, name="ntoskrnl.exe", base=0x1000, end=0x2000, role="kernel", loaded=True)
DISK = make(Module, name="disk.sys", base=0x2000, end=0x3000, role="driver", loaded=True)
CRASHDMP = make(
    Module, name="crashdmp.sys", base=0x3000, end=0x4000, role="crash dump driver", loaded=True
)
FILTER = make(
    Module, name="dump_a.sys", base=0x4000, end=0x5000, role="dump filter", stack="crash",
    loaded=True,
)  # fmt: skip
GONE = make(Module, name="gone.sys", base=0x5000, end=0x6000, role="driver", loaded=False)
MODULES = [NT, DISK, CRASHDMP, FILTER, GONE]


@pytest.mark.parametrize(
    ("bugcheck", "parameters", "exception", "instruction", "wanted"),
    [
        (0xD1, (1, 2, 3, 0x2010), None, None, (0x2010, "disk+0x10", "parameter 4")),
        (0x1E, (1, 0x1010, 3, 0x2010), None, None, (0x1010, "ntoskrnl+0x10", "parameter 2")),
        (0x1E, (1, 0, 3, 4), (0xC0000005, 0x2020), 0x1000,
         (0x2020, "disk+0x20", "exception record")),
        (0x1E, (), (0xC0000005, 0x2020), None, (0x2020, "disk+0x20", "exception record")),
        (0x1E, (1,), (0x80000003, 0x2020), 0x2030, (0x2030, "disk+0x30", "context record")),
        (0x1E, (1, 0x2010), (0, 0x2020), 0x2030, (0x2010, "disk+0x10", "parameter 2")),
        (0x1E, (1, 0), (0, 0x2020), 0x2030, (0x2030, "disk+0x30", "context record")),
        (0x1E, (1, 0), (1, 0), 0x2030, (0x2030, "disk+0x30", "context record")),
        (0xDEAD, (0x2010, 2, 0x4000, 4), None, 0x2030, (0x4000, "dump_a+0x0", "parameter 3")),
        (0xDEAD, (0x3FFF, 2, 0x4000, 4), None, None, (0x3FFF, "crashdmp+0xfff", "parameter 1")),
        (0xDEAD, (0x2010, 2), None, 0x2FFF, (0x2FFF, "disk+0xfff", "context record")),
        (None, (0x4000,), None, 0x2FFF, (0x2FFF, "disk+0xfff", "context record")),
        (0xD1, (Absent("unset"),) * 4, None, 0x4001, (0x4001, "dump_a+0x1", "context record")),
    ],
)  # fmt: skip
def test_what_names_the_code(
    bugcheck: Any, parameters: Any, exception: Any, instruction: Any, wanted: Any
) -> None:
    """The parameter that is code, then the exception, a filter's parameter, the context."""
    found = fault.find(MODULES, bugcheck, parameters, exception, instruction)
    assert (found.address, found.symbol, found.read_from) == wanted
    assert found.module == next(m.name for m in MODULES if m.base <= wanted[0] < m.end)


def test_code_that_is_in_no_module() -> None:
    """Told with where a driver had been; nt's own context blames nothing."""
    none = Absent("not-found", "0x9000 lies in no loaded module")
    assert fault.find(MODULES, 0xD1, (1, 2, 3, 0x9000), None, 0x2000) == (
        0x9000, none, none, "parameter 4"
    )  # fmt: skip
    gone = Absent("not-found", "0x5010 lies where gone.sys had been, which is unloaded")
    assert fault.find(MODULES, 0xD1, (1, 2, 3, 0x5010)) == (
        0x5010, "gone+0x10", gone, "parameter 4"
    )  # fmt: skip
    tell = "the stack of the crash"
    for bugcheck, instruction, name in (
        (0xE2, 0x1010, "bugcheck 0xe2"), (0xE2, 0, "bugcheck 0xe2"),
        (0xE2, 0x9000, "bugcheck 0xe2"), (0xE2, 0x5010, "bugcheck 0xe2"),
        (Absent("unset"), None, "the crash"),
    ):  # fmt: skip
        why = Absent("not-recorded", f"{name} names no address of code", tell)
        assert fault.find(MODULES, bugcheck, (1, 2, 3, 4), None, instruction) == (why,) * 3 + ("",)
    lost = NT._replace(name=Absent("not-in-dump"))
    found = fault.find([lost], 0xD1, (1, 2, 3, 0x1000))
    assert found == (0x1000, lost.name, lost.name, "parameter 4")
    assert len(CALLBACKS) == 6
