"""The structural half of the dump stack: roles of modules, the node test, the disk geometry."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any, Callable

import pytest
from conftest import SHARED
from dumpstack_memory import (
    BASE,
    DISK_SIZE,
    GEOMETRY,
    POOL,
    WIN8,
    Memory,
    Stack,
    by_name,
    every_layout,
    module,
)

from analyzer.absence import Absent
from analyzer.dumpfile import open_dump
from analyzer.dumpstack import roles, walk
from analyzer.dumpstack.chunk_search import scan_chunks
from analyzer.dumpstack.context import (
    geometry_fits,
    tails,
)
from analyzer.dumpstack.nodes import ENOUGH, Node, at_link, score
from analyzer.layouts.crashdmp import NODE_LAYOUTS, NodeLayout, node_layouts
from analyzer.records import Module


# ---- roles --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "role", "stack"),
    [
        ("ntoskrnl.exe", "kernel", None),
        ("ntkrla57.exe", "kernel", None),
        ("NTKRNLPA.EXE", "kernel", None),
        ("crashdmp.sys", "crash dump driver", None),
        ("dump_dumpstorport.sys", "dump port driver", "crash"),
        ("dump_storport.sys", "dump port driver", "crash"),  # seen in a converted dump
        ("dump_diskdump.sys", "dump port driver", "crash"),
        ("dump_LSI_SAS.sys", "dump miniport", "crash"),
        ("dump_iaStorA.sys", "dump miniport", "crash"),
        ("dump_storufs.sys", "dump miniport", "crash"),
        ("dump_dumpfve.sys", "dump filter", "crash"),
        ("hiber_dumpfve.sys", "dump filter", "hibernation"),
        ("hiber_stornvme.sys", "dump miniport", "hibernation"),
        ("\\SystemRoot\\System32\\Drivers\\dump_dumpfve.sys", "dump filter", "crash"),
        ("dumpfve.sys", "driver", None),
        ("storport.sys", "driver", None),
        ("dumpstorport.sys", "driver", None),
    ],
)
def test_role_by_name(name: str, role: str, stack: str | None) -> None:
    """Names that crashdmp gives its copies (domain facts, 52 real minidumps)."""
    (row,) = roles.classify([module(name)])
    assert (row.role, row.stack) == (role, stack)


def test_unknown_image_behind_the_port_is_the_miniport() -> None:
    """crashdmp loads port driver, miniport, filters: the first unknown one is the miniport."""
    names = ("dump_dumpstorport.sys", "dump_newdisk.sys", "dump_newcrypt.sys")
    found = roles.classify([module(name) for name in names])
    assert [m.role for m in found] == ["dump port driver", "dump miniport", "dump filter"]
    assert "taken for the miniport" in found[1].origin.how
    assert "taken for a filter" in found[2].origin.how


def test_unknown_image_beside_a_known_miniport_is_a_filter() -> None:
    """With the miniport known, what is left is a filter, whatever its place."""
    names = ("dump_newcrypt.sys", "dump_dumpstorport.sys", "dump_stornvme.sys", "dump_other.sys")
    found = roles.classify([module(name) for name in names])
    assert [m.role for m in found] == [
        "dump filter", "dump port driver", "dump miniport", "dump filter",
    ]  # fmt: skip


def test_the_first_of_a_stack_is_its_port_driver_whatever_its_name() -> None:
    """Windows 7 on AHCI: dump_pciidex is first (facts), and so is a port driver nobody listed."""
    for first in ("pciidex", "ataport", "newport"):
        names = (f"dump_{first}.sys", "dump_msahci.sys", "dump_dumpfve.sys")
        found = roles.classify([module(name) for name in names])
        assert [m.role for m in found] == ["dump port driver", "dump miniport", "dump filter"]
    assert "first image of its stack" in found[0].origin.how
    # where the list has lost modules its first is not the first of the stack
    found = roles.classify([module(name) for name in names], is_whole=False)
    assert found[0].role == "dump filter"


def test_imports_tell_a_miniport_from_a_filter() -> None:
    """Only a miniport imports the port driver; a filter lives on nt alone."""
    names = ("dump_newport.sys", "dump_newdisk.sys", "dump_newcrypt.sys")
    tables = {
        "dump_newport.sys": frozenset({"ntoskrnl"}),
        "dump_newdisk.sys": frozenset({"newport", "ntoskrnl"}),
        "dump_newcrypt.sys": frozenset({"ntoskrnl", "hal"}),
    }
    found = roles.classify([module(n) for n in names], imports=lambda m: tables[str(m.name)])
    assert [m.role for m in found] == ["dump port driver", "dump miniport", "dump filter"]
    # a filter right behind the port driver, no miniport: the port driver works alone
    found = roles.classify(
        [module(n) for n in (names[0], names[2])], imports=lambda m: tables[str(m.name)]
    )
    assert [m.role for m in found] == ["dump port driver", "dump filter"]


def test_each_stack_is_judged_for_itself() -> None:
    """A miniport of the crash stack is no miniport of the hibernation stack."""
    names = ("dump_dumpstorport.sys", "dump_stornvme.sys", "hiber_dumpstorport.sys", "hiber_x.sys")
    found = roles.classify([module(name) for name in names])
    assert [(m.role, m.stack) for m in found[2:]] == [
        ("dump port driver", "hibernation"), ("dump miniport", "hibernation"),
    ]  # fmt: skip


def test_unloaded_names_are_cut_to_twelve_letters() -> None:
    """The unloaded list of a minidump keeps 12 letters; roles still hold (seen in 46 dumps)."""
    names = ("dump_dumpfve", "dump_storpor", "dump_stornvm", "dump_iaStorA", "hiber_dumpfv")
    found = roles.classify([], [module(name)._replace(loaded=False) for name in names])
    assert [m.role for m in found] == [
        "dump filter", "dump port driver", "dump miniport", "dump miniport", "dump filter",
    ]  # fmt: skip


def test_a_name_that_is_absent_is_a_plain_driver() -> None:
    """A module whose name could not be read takes part in no stack."""
    (row,) = roles.classify([module(Absent("not-in-dump"))])  # type: ignore[arg-type]
    assert (row.role, row.stack) == ("driver", None)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({}, "same image"),
        ({"time_date_stamp": 2}, "different image"),
        ({"size": 0x20000}, "different image"),
        ({"time_date_stamp": Absent("not-in-dump")}, "a time stamp is missing"),
    ],
)
def test_copy_and_original(change: dict[str, Any], match: str) -> None:
    """A copy is compared by time stamp and size of image."""
    found = roles.classify([module("X.SYS"), module("dump_x.sys")._replace(**change)])
    assert found[1].original == "X.SYS"
    assert str(found[1].original_match) == match


# ---- the node test ------------------------------------------------------------------------------
@every_layout
@pytest.mark.parametrize("build", [7601, 19041, Absent("unset")], ids=["7601", "19041", "unknown"])
def test_each_layout_is_told_from_the_others(layout: NodeLayout, build: Any) -> None:
    """A healthy node is recognised as its own layout, whatever the header says of the build."""
    stack = Stack(layout, build=build)
    for link, node in zip(stack.links, stack.nodes):
        found = at_link(stack.memory, stack.dump, link)
        assert isinstance(found, Node)
        assert (found.layout, found.address) == (layout, node)
        assert found.score >= ENOUGH + 6


BROKEN = [
    {"DumpStart": 0, "DumpWrite": 0, "DumpFinish": 0},
    {"DumpWrite": 0x8280_1080},
    {"MaxPagesPerWrite": 0},
    {"MaxPagesPerWrite": 0xFFFFFFFF},
    {"Flags": 0xFFFFFFFC},
    {"DumpType": 0},
    {"DumpType": 77},
    {"DeviceObject": 0},
    {"BytesPerSector": 513},
    {"SizeOfPartitionInfo": 0x30},
    {"PartitionStyle": 9},
    {"DiskSize": -1},
    {"Cylinders": -1},
    {"Size": 0x68},
    {"Size": 0},
]


@pytest.mark.parametrize(
    ("layout", "changes"),
    [
        pytest.param(layout, changes, id=f"{by_name(layout)}-{changes}")
        for layout in NODE_LAYOUTS
        for changes in BROKEN
        if layout.name != "vista" or "Size" not in changes  # no such member before Windows 8
    ],
)
def test_one_broken_field_does_not_hide_a_node(layout: NodeLayout, changes: dict[str, int]) -> None:
    """The node is still found, as its own layout, so that the field can be reported."""
    if layout.pointer_size == 8 and "DumpWrite" in changes and changes["DumpWrite"]:
        changes = {"DumpWrite": BASE[8] - 0x1000}
    stack = Stack(layout)
    data = bytearray(stack.node_bytes(0, **changes))
    at = layout.link
    data[at : at + 2 * layout.pointer_size] = stack.memory.read(
        stack.links[0], 2 * layout.pointer_size
    )
    stack.memory.write(stack.nodes[0], bytes(data))
    found = at_link(stack.memory, stack.dump, stack.links[0])
    assert isinstance(found, Node)
    assert found.layout is layout


@every_layout
def test_no_node_without_its_version(layout: NodeLayout) -> None:
    """MajorVersion 0 or 3, or a MinorVersion: no node, whatever the rest holds."""
    stack = Stack(layout)
    for changes in ({"MajorVersion": 0}, {"MajorVersion": 3}, {"MinorVersion": 1}):
        data = stack.node_bytes(0, **changes)
        assert score(stack.memory, stack.dump, layout, data) == 0


@every_layout
def test_a_small_number_for_a_routine_speaks_against_a_layout(layout: NodeLayout) -> None:
    """A routine outside its module is a fault to report; a number like 1 is another field."""
    stack = Stack(layout)
    outside, small = (
        score(stack.memory, stack.dump, layout, stack.node_bytes(0, DumpWrite=value))
        for value in (POOL[stack.width], 1)
    )
    assert outside >= ENOUGH
    assert small == outside - 4


@every_layout
def test_random_memory_is_no_node(layout: NodeLayout) -> None:
    """0 of 20,000 random blocks, 0 of 20,000 that even carry the version words."""
    stack = Stack(layout)
    source = random.Random(7)
    best = 0
    for _ in range(20_000):
        data = source.randbytes(layout.size)
        best = max(best, score(stack.memory, stack.dump, layout, data))
        data = struct.pack("<II", 2, 0) + data[8:]
        best = max(best, score(stack.memory, stack.dump, layout, data))
    assert best < ENOUGH


@every_layout
def test_zeros_with_a_version_are_no_node(layout: NodeLayout) -> None:
    """The version words alone, in empty memory, are not enough."""
    stack = Stack(layout)
    data = struct.pack("<II", 2, 0).ljust(layout.size, b"\0")
    assert score(stack.memory, stack.dump, layout, data) < ENOUGH


def moved_link(layout: NodeLayout, by: int) -> tuple[Memory, list[Module], int]:
    """A ring of one node whose link stands ``by`` bytes behind its known place; its head."""
    stack = Stack(layout)
    memory, width = stack.memory, layout.pointer_size
    node = stack.nodes[0]
    data = memory.read(node, layout.link)
    assert isinstance(data, bytes)
    start, head = POOL[width] + 0x6000, POOL[width] + 0x7000
    memory.write(start - 0x200, bytes(0x200))
    link = start + layout.link + by
    memory.write(start, data + b"\xa5" * by)
    memory.put(link, head, head)
    memory.put(head, link, link)
    return memory, stack.dump, head


@pytest.mark.parametrize("layout", NODE_LAYOUTS, ids=by_name)
@pytest.mark.parametrize("by", [16, 0x40])
def test_a_link_at_an_unknown_offset_still_leads_to_its_node(layout: NodeLayout, by: int) -> None:
    """A build that moved the link loses the state word, not the filter; the head is no node."""
    memory, modules, head = moved_link(layout, by)
    ring = walk.follow(memory, modules, head, None, "crash", "test")
    assert (ring.members, ring.problem) == (1, "")
    node = ring.nodes[0]
    assert (node.address, node.layout.link) == (
        POOL[layout.pointer_size] + 0x6000,
        layout.link + by,
    )
    assert (node.layout.extension, node.state) == (layout.extension, None)
    assert isinstance(at_link(memory, modules, head), Absent)


def test_what_is_no_node_says_so() -> None:
    """Readable garbage is an unknown layout; missing memory keeps its own reason."""
    stack = Stack(WIN8)
    stack.memory.write(stack.nodes[0], b"\xfe" * 0x40)
    assert at_link(stack.memory, stack.dump, stack.links[0]).reason == "unknown-layout"  # type: ignore[union-attr]
    stack.memory.dropped.add(stack.nodes[1] >> 12)
    assert at_link(stack.memory, stack.dump, stack.links[1]).reason == "not-in-dump"  # type: ignore[union-attr]
    assert at_link(stack.memory, stack.dump, 0x1000).reason == "not-mapped"  # type: ignore[union-attr]


def test_a_node_cut_behind_its_link_is_read() -> None:
    """What lies behind the link may be missing: the rest is told, the state is not."""
    stack = Stack(WIN8, filters=1)
    node = POOL[8] + 0x8000 - WIN8.state  # the page ends before the state word
    stack.memory.write(node, stack.node_bytes(0)[: WIN8.state])
    found = at_link(stack.memory, stack.dump, node + WIN8.link)
    assert isinstance(found, Node)
    assert (found.layout, found.state, found.stack_context) == (WIN8, None, None)
    assert found.extension.DiskSize == DISK_SIZE


# ---- the disk geometry --------------------------------------------------------------------------
def test_geometry_of_a_real_disk_fits() -> None:
    """The 1 TB disk of a real dump: 121601 cylinders, 255/63/512, 0xE8E0DB6000 bytes, GPT."""
    assert geometry_fits(GEOMETRY, 0)
    assert geometry_fits(b"\0" * 8 + GEOMETRY, 8)


@pytest.mark.parametrize(
    ("offset", "form", "value"),
    [
        (0x00, "q", 0),  # cylinders
        (0x00, "q", 121602),  # more than the disk has
        (0x00, "q", 121600),
        (0x00, "q", 1 << 40),
        (0x08, "I", 26),  # media type
        (0x0C, "I", 0),  # tracks
        (0x0C, "I", 256),
        (0x10, "I", 0),  # sectors
        (0x10, "I", 256),
        (0x14, "I", 513),  # bytes per sector
        (0x14, "I", 0),
        (0x18, "q", DISK_SIZE + 7),  # no multiple of a sector
        (0x18, "q", 0),
        (0x18, "q", -512),
        (0x20, "I", 0x30),  # SizeOfPartitionInfo
        (0x24, "I", 3),  # style
    ],
)
def test_geometry_with_one_wrong_field_does_not_fit(offset: int, form: str, value: int) -> None:
    """Each part of the recogniser rejects on its own."""
    data = bytearray(GEOMETRY)
    struct.pack_into("<" + form, data, offset, value)
    assert not geometry_fits(bytes(data), 0)


def test_geometry_outside_the_data_does_not_fit() -> None:
    """Places before the start or too close to the end are refused, not read."""
    assert not geometry_fits(GEOMETRY, -8)
    assert not geometry_fits(GEOMETRY[:-1], 0)
    assert not geometry_fits(b"", 0)


def test_no_geometry_in_random_memory() -> None:
    """0 hits at every byte offset of 256 KiB."""
    data = random.Random(3).randbytes(1 << 18)
    assert [at for at in range(len(data)) if geometry_fits(data, at)] == []


def hits(data: bytes) -> list[int]:
    """Every byte offset at which a geometry fits: SizeOfPartitionInfo 0x18 must stand at +0x20."""
    found, at = [], data.find(b"\x18\0\0\0")
    while at >= 0:
        if geometry_fits(data, at - 0x20):
            found.append(at - 0x20)
        at = data.find(b"\x18\0\0\0", at + 1)
    return found


def test_one_true_hit_in_all_real_files(shared_sample: Callable[[str], Path]) -> None:
    """Every byte of every sample: the true context of triage_x64, and the engine's two extensions.

    Oracle: a separate study of the bytes found one hit, at 0xffffc08be44d4f30; the two dumps of a
    simulated machine hold its FILTER_EXTENSION, at the node + 0x50.
    """
    shared_sample("dmp")
    found = {
        path.name: hits(path.read_bytes()) for path in sorted(SHARED.rglob("*")) if path.is_file()
    }
    assert len(found) > 30
    counts = {name: len(places) for name, places in found.items() if places}
    real = "rizinorg_rizin-testbins__triage_x64.dmp"
    assert counts == {real: 1, "dbgeng_written_full.dmp": 1, "dbgeng_written_mini.dmp": 1}
    dump = open_dump(str(SHARED / "dmp" / real))
    assert dump.file_offset(0xFFFFC08BE44D4F30) == found[real][0]
    for name in ("dbgeng_written_full.dmp", "dbgeng_written_mini.dmp"):
        dump = open_dump(str(SHARED / "dmp" / name))
        assert dump.file_offset(0xFFFFF80010003040 + 0x50) == found[name][0]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("rizinorg_rizin-testbins__triage_x64.dmp", [0xFFFFC08BE44D4F30]),
        ("rizinorg_rizin-testbins__triage_arm64.dmp", []),
        ("dbgeng_written_mini.dmp", []),  # an extension is no context: no list head behind it
    ],
)
def test_tails_in_real_minidumps(
    name: str, wanted: list[int], shared_sample: Callable[[str], Path]
) -> None:
    """The whole recogniser on all memory of a minidump gives the true context and nothing else."""
    dump = open_dump(str(shared_sample(f"dmp/{name}")))
    modules = [m for m in roles.classify(dump.modules()) if m.stack]
    blocks = dump.blocks  # type: ignore[attr-defined]
    found = [
        tail.address
        for start, _, size in blocks
        for address, data in dump.chunks(start, size)
        for tail in tails(dump, modules, address, data)
    ]
    assert sorted(set(found)) == wanted


@pytest.mark.parametrize(
    "name", ["rizinorg_rizin-testbins__triage_x64.dmp", "rizinorg_rizin-testbins__triage_arm64.dmp"]
)
def test_no_node_in_real_minidumps(name: str, shared_sample: Callable[[str], Path]) -> None:
    """No filter node lies in the blocks of these dumps (study of the bytes): none is claimed."""
    dump = open_dump(str(shared_sample(f"dmp/{name}")))
    modules = [m for m in roles.classify(dump.modules()) if m.stack]
    pieces = [piece for start, _, size in dump.blocks for piece in dump.chunks(start, size)]  # type: ignore[attr-defined]
    nodes, _ = scan_chunks(dump, modules, pieces)
    assert nodes == []


@pytest.mark.parametrize("layout", [NODE_LAYOUTS[0], NODE_LAYOUTS[3]], ids=by_name)
def test_tail_of_a_context(layout: NodeLayout) -> None:
    """Geometry, attached device, list head and port routines of a synthetic context."""
    stack = Stack(layout)
    data = stack.memory.read(stack.context, 0x400)
    assert isinstance(data, bytes)
    (tail,) = tails(stack.memory, stack.dump, stack.context, data)
    assert (tail.address, tail.head) == (stack.geometry, stack.head)
    assert (tail.flink, tail.blink) == (stack.links[0], stack.links[-1])
    assert tail.attached_device == POOL[layout.pointer_size] + 0x9000
    assert tail.disk_size == DISK_SIZE
    assert tail.routines == (stack.dump[0].base + 0x1010,)
    assert tail.stack == "crash"


def test_the_extension_of_a_windows_7_node_is_no_context() -> None:
    """There a node's link stands where a context has its list head: it must not pass for one."""
    layout = next(one for one in node_layouts(8) if one.name == "vista")
    stack = Stack(layout, 2)
    for node in stack.nodes:
        stack.memory.write(node - 0x60, bytes(0x50))
        for wipe in (b"", bytes(0x20)):  # with its callbacks, and with none to tell a filter by
            stack.memory.write(node + 8, wipe)
            data = stack.memory.read(node - 0x60, 0x200)
            assert isinstance(data, bytes)
            assert geometry_fits(data, 0x60 + layout.extension + 0x10)
            assert tails(stack.memory, stack.dump, node - 0x60, data) == []


@pytest.mark.parametrize("words", [(0, 0), (1, 2), (0x1000, 0x1000)])
def test_geometry_without_a_list_head_is_no_context(words: tuple[int, int]) -> None:
    """Another driver's DISK_GEOMETRY_EX passes the geometry part; the ring must follow it."""
    stack = Stack(WIN8)
    stack.memory.put(stack.head, *words)
    data = stack.memory.read(stack.context, 0x400)
    assert tails(stack.memory, stack.dump, stack.context, data) == []  # type: ignore[arg-type]


def test_half_empty_ring_is_no_context() -> None:
    """An empty ring has both links at its head, or none."""
    stack = Stack(WIN8)
    stack.memory.put(stack.head, stack.head)
    data = stack.memory.read(stack.context, 0x400)
    assert tails(stack.memory, stack.dump, stack.context, data) == []  # type: ignore[arg-type]
