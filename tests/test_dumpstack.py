"""The structural half of the dump stack: roles, node test, contexts, broken rings, scans, residue.

Memory here is a small `Target` of its own, so that every kind of damage can be written by hand;
layouts are written with the WDK structures of `analyzer.layouts`, checked against a C compiler.
"""

from __future__ import annotations

import ctypes
import random
import struct
from pathlib import Path
from typing import Any, Callable

import pytest
from conftest import SHARED
from generator import ARCHS, LAYOUTS, Spec, build

from analyzer.absence import Absent
from analyzer.dumpfile import open_dump
from analyzer.dumpfile.scan import scan_pages
from analyzer.dumpstack import residue, roles, walk
from analyzer.dumpstack.context import (
    CONTEXT_LENGTH,
    dump_block,
    find_contexts,
    geometry_fits,
    last_failure,
    progress,
    tails,
)
from analyzer.dumpstack.nodes import ENOUGH, Node, at_link, score
from analyzer.dumpstack.scan import scan_chunks
from analyzer.layouts.crashdmp import NODE_LAYOUTS, NodeLayout, node_class, node_layouts
from analyzer.records import Module, Origin
from analyzer.target import Target

PAGE = 4096
BASE = {8: 0xFFFFF80700000000, 4: 0x8B000000}
POOL = {8: 0xFFFFC08BE4000000, 4: 0x85600000}
DISK_SIZE = 0xE8E0DB6000


class Memory(Target):
    """Pages at addresses; `dropped` pages were there but are not in the dump."""

    path = "memory"

    def __init__(self, pointer_size: int = 8, build: Any = 19041) -> None:
        self.pointer_size, self.build = pointer_size, build
        self.architecture = "x64" if pointer_size == 8 else "x86"
        self.pages: dict[int, bytearray] = {}
        self.dropped: set[int] = set()
        self.reads = 0

    def read(self, address: int, size: int) -> bytes | Absent:
        """The bytes, or why not."""
        self.reads += 1
        out = b""
        while len(out) < size:
            page, at = (address + len(out)) >> 12, (address + len(out)) & 0xFFF
            if page in self.dropped:
                return Absent("not-in-dump", f"dropped ({page << 12:#x})")
            if page not in self.pages:
                return Absent("not-mapped", f"nothing at {page << 12:#x}")
            out += bytes(self.pages[page][at : at + size - len(out)])
        return out

    def write(self, address: int, data: bytes) -> None:
        """Writes bytes, making pages."""
        for place, byte in enumerate(data):
            page = self.pages.setdefault((address + place) >> 12, bytearray(PAGE))
            page[(address + place) & 0xFFF] = byte

    def put(self, address: int, *words: int) -> None:
        """Writes pointers."""
        form = "<Q" if self.pointer_size == 8 else "<I"
        self.write(address, b"".join(struct.pack(form, word) for word in words))


def module(name: str, base: int = 0, size: int = 0x10000, **fields: Any) -> Module:
    """A loaded module."""
    values = dict.fromkeys(Module._fields)
    values.update(name=name, base=base, end=base + size, size=size, loaded=True)
    values.update(time_date_stamp=1, origin=Origin("memory", "list"), **fields)
    return Module(**values)  # type: ignore[arg-type]


def stack_of(width: int) -> list[Module]:
    """crashdmp, port driver, miniport and three filters, one after another."""
    names = ("crashdmp", "dump_dumpstorport", "dump_stornvme", "dump_a", "dump_b", "dump_c")
    made = [module(f"{n}.sys", BASE[width] + i * 0x10000) for i, n in enumerate(names)]
    return roles.classify(made)


GEOMETRY = struct.pack("<qiIIIqIi", 121601, 12, 255, 63, 512, DISK_SIZE, 0x18, 1) + bytes(16)


class Stack:
    """A dump stack context tail and its ring of filters in a `Memory`."""

    def __init__(self, layout: NodeLayout, filters: int = 2, build: Any = 19041) -> None:
        self.layout, self.width = layout, layout.pointer_size
        self.memory = Memory(self.width, build)
        self.modules = stack_of(self.width)
        self.dump = [m for m in self.modules if m.stack]
        pool = POOL[self.width]
        self.context = pool + 0x400
        self.geometry = self.context + 0x100
        tail = 0x40 if self.width == 8 else 0x3C  # the filter list head behind the geometry
        self.head = self.geometry + tail
        self.memory.write(self.geometry, GEOMETRY)
        self.memory.put(self.geometry + 0x38, pool + 0x9000)
        self.memory.put(self.geometry - 0x50, self.dump[0].base + 0x1010)
        self.nodes = [pool + 0x2000 + i * PAGE + 0x10 for i in range(filters)]  # a page each
        for index, node in enumerate(self.nodes):
            self.memory.write(node, self.node_bytes(index))
        self.links = [node + layout.link for node in self.nodes]
        self.join([self.head, *self.links])

    def join(self, links: list[int]) -> None:
        """Makes a ring."""
        for here, there in zip(links, links[1:] + links[:1]):
            self.memory.put(here, there)
            self.memory.put(there + self.width, here)

    def node_bytes(self, index: int, **changes: int) -> bytes:
        """A healthy node of the filter `dump_a`, `dump_b`, ..., with some members changed."""
        node = node_class(self.layout)()
        init, extension = node.FilterInitData, node.FilterExtension
        base = self.dump[2 + index % 3].base
        init.MajorVersion = 1 if self.layout.name == "vista" else 2
        for place, name in enumerate(("DumpStart", "DumpWrite", "DumpFinish")):
            setattr(init, name, base + 0x1000 + place * 0x40)
        init.MaxPagesPerWrite = 16
        init.DumpData = extension.DumpData = POOL[self.width] + 0xA000
        extension.DumpType = 1
        extension.DeviceObject = POOL[self.width] + 0x9000
        geometry = extension.Geometry
        geometry.Cylinders, geometry.MediaType = 121601, 12
        geometry.TracksPerCylinder, geometry.SectorsPerTrack = 255, 63
        geometry.BytesPerSector, extension.DiskSize = 512, DISK_SIZE
        extension.PartitionInfo.SizeOfPartitionInfo = 0x18
        extension.PartitionInfo.PartitionStyle = 1
        if hasattr(extension, "Size"):
            extension.Size = ctypes.sizeof(extension)
        for name, value in changes.items():
            owners = (init, extension, geometry, extension.PartitionInfo)
            setattr(next(owner for owner in owners if hasattr(owner, name)), name, value)
        return bytes(node)

    def ring(self) -> walk.Ring:
        """The one ring of the context."""
        (ring,) = walk.block_rings(self.memory, self.dump, self.context, "", "test")
        return ring


def by_name(layout: NodeLayout) -> str:
    """Id of a parametrized layout."""
    return f"{layout.name}-{layout.pointer_size * 8}"


WIN8 = NODE_LAYOUTS[0]
every_layout = pytest.mark.parametrize("layout", NODE_LAYOUTS, ids=by_name)


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
    """0 hits at every byte offset of 1 MiB."""
    data = random.Random(3).randbytes(1 << 20)
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


# ---- rings --------------------------------------------------------------------------------------
def members(ring: walk.Ring) -> list[Any]:
    """Addresses of the nodes read."""
    return [node.address for node in ring.nodes]


@every_layout
@pytest.mark.parametrize("filters", [0, 1, 2, 3, 10])
def test_closed_ring(layout: NodeLayout, filters: int) -> None:
    """All filters in call order, counted, nothing to complain about."""
    stack = Stack(layout, filters)
    ring = stack.ring()
    assert members(ring) == stack.nodes
    assert (ring.members, ring.least, ring.problem, ring.unread) == (filters, filters, "", ())
    assert (ring.stack, ring.head) == ("crash", stack.head)


def test_ring_that_loops_past_its_head() -> None:
    """The last Flink leads back to the first node: each node is read once and the loop is told."""
    stack = Stack(WIN8, 3)
    stack.memory.put(stack.links[2], stack.links[0])
    ring = stack.ring()
    assert members(ring) == stack.nodes
    assert "closes a loop that misses the head" in ring.problem
    assert (ring.members, ring.least) == (None, 3)


def test_node_that_links_to_itself() -> None:
    """The shortest loop; the other node is reached from the back."""
    stack = Stack(WIN8, 2)
    stack.memory.put(stack.links[0], stack.links[0])
    ring = stack.ring()
    assert members(ring) == stack.nodes
    assert "closes a loop" in ring.problem
    assert ring.members is None


def test_wild_link() -> None:
    """A Flink to nowhere: what lies behind it is read from the back, in call order."""
    stack = Stack(WIN8, 4)
    wild = POOL[8] + 0x5000000
    stack.memory.put(stack.links[1], wild)
    ring = stack.ring()
    assert members(ring) == stack.nodes
    assert "leads to no memory" in ring.problem
    assert f"{wild:#x}" in ring.problem
    assert ring.members is None


def test_wrong_blink_of_a_node() -> None:
    """The ring closes forwards, but a Blink disagrees: told, with both addresses, not counted."""
    stack = Stack(WIN8, 3)
    stack.memory.put(stack.links[1] + 8, POOL[8] + 0x3040)
    ring = stack.ring()
    assert members(ring) == stack.nodes
    assert f"Blink of the link at {stack.links[1]:#x}" in ring.problem
    assert f"{POOL[8] + 0x3040:#x}" in ring.problem
    assert (ring.members, ring.least) == (None, 3)


def test_wrong_blink_of_the_head() -> None:
    """The head's own Blink is compared with the last link."""
    stack = Stack(WIN8, 2)
    stack.memory.put(stack.head + 8, stack.links[0])
    ring = stack.ring()
    assert members(ring) == stack.nodes
    assert ring.problem.startswith("the head's Blink is")


def test_node_that_the_dump_does_not_hold() -> None:
    """A missing page is no broken ring: the link is kept with its reason, the rest is read."""
    stack = Stack(WIN8, 3)
    stack.memory.dropped.add(stack.nodes[1] >> 12)
    ring = stack.ring()
    assert members(ring) == [stack.nodes[0], stack.nodes[2]]
    assert [(link, why.reason) for link, why in ring.unread] == [(stack.links[1], "not-in-dump")]
    assert ring.problem == ""
    assert (ring.members, ring.least) == (None, 3)


def test_the_only_node_is_not_in_the_dump() -> None:
    """Both ends of the head name one member: one filter, certain without reading it."""
    stack = Stack(WIN8, 1)
    stack.memory.dropped.add(stack.nodes[0] >> 12)
    ring = stack.ring()
    assert members(ring) == []
    assert (ring.members, ring.least) == (1, 1)
    assert [link for link, _ in ring.unread] == stack.links


def test_garbage_in_a_node_does_not_end_the_walk() -> None:
    """The links hold, the content does not: the others are read, and the ring is counted."""
    stack = Stack(WIN8, 3)
    stack.memory.write(stack.nodes[1], b"\xfe" * 0x40)
    ring = stack.ring()
    assert members(ring) == [stack.nodes[0], stack.nodes[2]]
    assert [(link, why.reason) for link, why in ring.unread] == [(stack.links[1], "unknown-layout")]
    assert (ring.members, ring.problem) == (3, "")


def test_endless_list_is_bounded() -> None:
    """A ring of 200 nodes ends after 64 links, and says so."""
    stack = Stack(WIN8, 200)
    ring = stack.ring()
    assert len(ring.nodes) <= 2 * walk.MAX_FILTERS
    assert "more than 64 links" in ring.problem
    assert ring.members is None


def test_ring_without_a_geometry_is_found_by_its_first_node() -> None:
    """A context whose geometry is unusual (no cylinders): the list head is found by its member."""
    stack = Stack(WIN8, 2)
    stack.memory.put(stack.geometry, 0)
    ring = stack.ring()
    assert (ring.head, ring.tail, ring.members) == (stack.head, None, 2)
    assert members(ring) == stack.nodes
    assert ring.stack == "crash"  # by the modules of the routines


def test_nodes_from_a_scan_become_a_ring() -> None:
    """Nodes found by content give the ring of their head, tail included."""
    stack = Stack(WIN8, 3)
    nodes = [at_link(stack.memory, stack.dump, link) for link in (stack.links[1], stack.links[0])]
    (ring,) = walk.from_nodes(stack.memory, stack.dump, nodes)  # type: ignore[arg-type]
    assert (ring.head, members(ring), ring.members) == (stack.head, stack.nodes, 3)
    assert ring.tail is not None


def test_nodes_without_a_head_claim_no_count() -> None:
    """With the head's page missing the nodes are told, but not how many there are."""
    stack = Stack(WIN8, 2)
    nodes = [at_link(stack.memory, stack.dump, link) for link in stack.links]
    stack.memory.dropped.add(stack.head >> 12)
    (ring,) = walk.from_nodes(stack.memory, stack.dump, nodes)  # type: ignore[arg-type]
    assert isinstance(ring.head, Absent)
    assert (members(ring), ring.members, ring.least) == (stack.nodes, None, 2)


# ---- crashdmp's context -------------------------------------------------------------------------
def with_context(width: int = 8, build: Any = 19041) -> tuple[Memory, list[Module], int, int]:
    """Memory with crashdmp!Context and its copy: (memory, modules, context, copy)."""
    stack = Stack(node_layouts(width)[0], build=build)
    crashdmp = stack.modules[0].base
    assert isinstance(crashdmp, int)
    copy, context = crashdmp + 0x310, crashdmp + 0xA60
    if width == 4:  # on Windows 7 x86 the copy lies behind
        copy, context = context, copy
    for address in (context, copy):
        stack.memory.write(address, b"CDmp\1\0\0\0" + bytes(CONTEXT_LENGTH - 8))
    return stack.memory, stack.modules, context, copy


def test_context_is_told_from_its_copy_by_the_bugcheck() -> None:
    """The live context holds the bugcheck code at +0xE8; without one the order decides."""
    memory, modules, context, copy = with_context()
    assert walk.contexts(memory, modules[0], Absent("unset")) == (context, copy)
    memory.write(copy + 0xE8, struct.pack("<I", 0xD1))
    assert walk.contexts(memory, modules[0], 0xD1) == (copy, context)


def test_signature_outside_the_image_or_unaligned_does_not_count() -> None:
    """CDmp is crashdmp's pool tag too: only 8-aligned places in the image count."""
    memory, modules, context, copy = with_context()
    base = modules[0].base
    memory.write(base + 0x2004, b"CDmp\1\0\0\0")
    memory.write(base + 0x2040, b"CDmp\2\0\0\0")
    memory.write(modules[1].base + 0x100, b"CDmp\1\0\0\0")
    assert find_contexts(memory, modules[0]) == [copy, context]


def test_no_context_says_why() -> None:
    """Without crashdmp in the list, or without its pages, the reason is given."""
    memory, modules, _, _ = with_context()
    assert walk.contexts(memory, None, 0xD1).context.reason == "not-found"  # type: ignore[union-attr]
    memory.pages.clear()
    assert walk.contexts(memory, modules[0], 0xD1).context.reason == "not-in-dump"  # type: ignore[union-attr]


@pytest.mark.parametrize("distance", [0xD0, 0x100])
def test_progress_of_the_dump_block(distance: int) -> None:
    """Code and parameters give the block, the pointer behind CONTEXT proves its layout."""
    memory, _, context, _ = with_context()
    block, debugger_data = context + distance, 0xFFFFF80610100200
    memory.write(block + 0x18, struct.pack("<I4x4Q", 0xD1, 1, 2, 3, 4))
    assert dump_block(memory, context, 0xD1, (1, 2, 3, 4)) == block
    assert dump_block(memory, context, 0xD1, (1, 2, 3, 5)).reason == "not-found"  # type: ignore[union-attr]
    assert progress(memory, block, debugger_data).reason == "unknown-layout"  # type: ignore[union-attr]
    memory.put(block + 0x510, debugger_data)  # 0x40 + sizeof(CONTEXT) of x64
    memory.write(block + 0x57C, struct.pack("<I", 0x44))
    assert progress(memory, block, debugger_data) == 0x44


def test_last_failure_on_windows_7_x86_is_certain() -> None:
    """Routine and status at their published places, +0x3F8 and +0x3FC."""
    memory, modules, context, _ = with_context(4, 7601)
    routine = modules[3].base + 0x1000
    assert last_failure(memory, context, modules[3:])[0].reason == "not-applicable"  # type: ignore[union-attr]
    memory.write(context + 0x3F8, struct.pack("<II", routine, 0xC0000001))
    assert last_failure(memory, context, modules[3:]) == (
        routine, 0xC0000001, "certain", context + 0x3F8,
    )  # fmt: skip


def test_last_failure_elsewhere_is_likely() -> None:
    """A pointer into a filter with a failing status behind it; a success status is none."""
    memory, modules, context, _ = with_context()
    routine = modules[3].base + 0x1000
    memory.write(context + 0x5A0, struct.pack("<QI", routine, 0x00000103))
    assert last_failure(memory, context, modules[3:])[0].reason == "not-found"  # type: ignore[union-attr]
    memory.write(context + 0x5A0, struct.pack("<QI", routine, 0xC0210001))
    found = last_failure(memory, context, modules[3:])
    assert found == (routine, 0xC0210001, "likely", context + 0x5A0)


# ---- scans --------------------------------------------------------------------------------------
def opened(spec: Spec, path: Path) -> tuple[Any, list[Module], dict[str, Any]]:
    """A synthetic dump, the modules of its stacks, and the truth."""
    built = build(spec)
    path.write_bytes(built.data)
    dump = open_dump(str(path))
    return dump, [m for m in roles.classify(dump.modules()) if m.stack and m.loaded], built.truth


SCANS = [
    Spec(arch, kind, layout, variant, unaligned=kind == 6)
    for arch in ARCHS
    for layout in LAYOUTS
    for kind, variant in ((6, "nodes-only"), (1, "crashdmp-absent"))
]


def scan_id(spec: Spec) -> str:
    """Id of a parametrized scan."""
    return "-".join(str(part) for part in spec[:4])


@pytest.mark.parametrize("spec", SCANS, ids=scan_id)
def test_both_scans_find_every_node(spec: Spec, tmp_path: Path) -> None:
    """By numpy over the file and by the standard library over memory: the nodes written."""
    dump, modules, truth = opened(spec, tmp_path / "scan.dmp")
    wanted = {row["node"]: row["layout"] for row in truth["filters"]}
    by_file = scan_pages(dump, modules)
    pool = min(wanted) & ~0xFFFFF
    by_memory, rings = scan_chunks(dump, modules, dump.chunks(pool, 0x60000))
    for found in (by_file, by_memory):
        assert {node.address: node.layout.name for node in found} == wanted
        assert len(found) == len(wanted)
    heads = [truth["context"]["filter_list_head"]] if spec.variant == "crashdmp-absent" else []
    assert [ring.head for ring in rings] == heads


@pytest.mark.parametrize("arch", ARCHS)
def test_scans_find_nodes_by_their_callbacks(arch: str, tmp_path: Path) -> None:
    """With SizeOfPartitionInfo wrong in every node the callbacks lead to them."""
    path = tmp_path / "scan.dmp"
    dump, modules, truth = opened(Spec(arch, 6, "win8", "nodes-only"), path)
    data = bytearray(path.read_bytes())
    partition = 0x30 if dump.pointer_size == 8 else 0x28  # in FILTER_EXTENSION
    for row in truth["filters"]:
        at = dump.file_offset(row["extension"]["address"] + partition)
        assert struct.unpack_from("<I", data, at) == (0x18,)
        struct.pack_into("<I", data, at, 0x30)
    path = tmp_path / "changed.dmp"
    path.write_bytes(data)
    dump = open_dump(str(path))
    wanted = sorted(row["node"] for row in truth["filters"])
    assert sorted(node.address for node in scan_pages(dump, modules)) == wanted  # type: ignore[arg-type]
    nodes, _ = scan_chunks(dump, modules, dump.chunks(wanted[0] & ~0xFFFFF, 0x60000))
    assert sorted(node.address for node in nodes) == wanted  # type: ignore[type-var]


def test_scan_without_filters_finds_nothing(tmp_path: Path) -> None:
    """A healthy machine's memory without a dump stack holds no node."""
    dump, modules, _ = opened(Spec("x64", 6, "win8", "no-dump-stack"), tmp_path / "scan.dmp")
    assert modules == []
    assert scan_pages(dump, stack_of(8)[1:]) == []


# ---- residue ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("code", "is_call"),
    [
        (b"\xe8\x00\xfd\xff\xff", True),  # call rel32
        (b"\xff\xd0", True),  # call rax
        (b"\x41\xff\xd2", True),  # call r10
        (b"\xff\x50\x08", True),  # call [rax+8]
        (b"\xff\x54\x24\x08", True),  # call [rsp+8]
        (b"\xff\x15\x00\x10\x00\x00", True),  # call [rip+0x1000]
        (b"\xff\x94\x24\x00\x01\x00\x00", True),  # call [rsp+0x100]
        (b"\xff\x25\x00\x10\x00\x00", False),  # jmp [rip+0x1000]
        (b"\x48\x83\xec\x28", False),  # sub rsp, 0x28
        (b"\xcc\xcc\xcc\xcc", False),
    ],
)
def test_call_instructions_of_x64(code: bytes, is_call: bool) -> None:
    """The bytes before a return address (Intel SDM: CALL)."""
    memory = Memory()
    memory.write(0x140001000 - 16, (b"\x90" * 16 + code)[-16:])
    assert residue.follows_call(memory, 0x140001000) is is_call


@pytest.mark.parametrize(
    ("word", "is_call"),
    [
        (0x94000010, True),  # bl
        (0x97FFFFF0, True),  # bl backwards
        (0xD63F0100, True),  # blr x8
        (0xD61F0100, False),  # br x8
        (0x14000010, False),  # b
        (0xD503201F, False),  # nop
    ],
)
def test_call_instructions_of_arm64(word: int, is_call: bool) -> None:
    """The word before a return address (Arm ARM: BL, BLR)."""
    memory = Memory()
    memory.architecture = "arm64"
    memory.write(0x140000FFC, struct.pack("<I", word))
    assert residue.follows_call(memory, 0x140001000) is is_call


def test_code_that_is_not_there_is_not_judged() -> None:
    """Without the image in the dump, whether a call precedes is absent."""
    assert residue.follows_call(Memory(), 0x140001000).reason == "not-mapped"  # type: ignore[union-attr]


def test_residue_on_a_stack() -> None:
    """Only aligned words into loaded images of the dump path count, in address order."""
    memory, modules = Memory(), stack_of(8)
    other = module("disk.sys", 0xFFFFF80600000000, role="driver")
    gone = modules[4]._replace(loaded=False)
    stack = POOL[8] + 0x10000
    memory.write(stack, bytes(PAGE))
    memory.put(stack + 0x20, modules[0].base + 0xB45B)  # type: ignore[operator]
    memory.put(stack + 0x40, other.base + 0x10)  # type: ignore[operator]
    memory.put(stack + 0x60, gone.base + 0x10)  # type: ignore[operator]
    memory.put(stack + 0x80, modules[3].base + 0x1000)  # type: ignore[operator]
    memory.put(stack + 0xA4, modules[1].base + 0x1000)  # type: ignore[operator]
    listed = [*modules[:4], gone, modules[5], other]
    found = residue.find(memory, listed, stack - PAGE, stack + PAGE, "crash stack")
    assert [(r.symbol, r.origin.address, r.stack_of) for r in found] == [
        ("crashdmp+0xb45b", stack + 0x20, "crash stack"),
        ("dump_a+0x1000", stack + 0x80, "crash stack"),
    ]


def test_residue_is_bounded() -> None:
    """A stack full of such words gives 512 rows, no more."""
    memory, modules = Memory(), stack_of(8)
    stack = POOL[8] + 0x10000
    memory.write(stack, struct.pack("<Q", modules[0].base + 0x1000) * 0x400)  # type: ignore[operator]
    assert len(residue.find(memory, modules, stack, stack + 2 * PAGE, "x")) == residue.MAX_WORDS


# ---- bounded work -------------------------------------------------------------------------------
def test_image_full_of_pointers_is_bounded() -> None:
    """crashdmp's image full of pointers to look-alikes ends after a bounded number of tries."""
    stack = Stack(WIN8)
    crashdmp = stack.modules[0]
    words = [POOL[8] + 0x100000 + 8 * i for i in range(0x2000)]
    stack.memory.write(crashdmp.base, struct.pack("<8192Q", *words))  # type: ignore[arg-type]
    found = walk.rings(stack.memory, stack.modules, Absent("not-found"))
    assert found == []
    assert stack.memory.reads < 20 * walk.MAX_POINTERS
