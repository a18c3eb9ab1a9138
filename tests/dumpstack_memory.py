"""A dump stack by hand: memory, modules, and a ring of filters of any layout.

Memory here is a small `Target` of its own, so that every kind of damage can be written by hand;
layouts are written with the WDK structures of `analyzer.layouts`, checked against a C compiler.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import pytest
from conftest import make

from analyzer.absence import Absent
from analyzer.dumpstack import roles, walk
from analyzer.layouts.crashdmp import NODE_LAYOUTS, NodeLayout, node_class
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
    fields.setdefault("time_date_stamp", 1)
    fields.update(name=name, base=base, end=base + size, size=size, loaded=True)
    made: Module = make(Module, origin=Origin("memory", "list"), **fields)
    return made


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
