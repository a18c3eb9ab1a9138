"""The dump stack in memory: crashdmp's context, the dump stack contexts, the filter nodes, residue.

Invariant: the healthy state is written here; variants change it afterwards through the same
setters, so that `truth` always tells what the memory holds.
"""

from __future__ import annotations

import struct

from . import images, layouts
from .machine import ARC_NAME, NT_DATA, NT_TEXT, Machine

GEOMETRY = {
    "Cylinders": 121601,
    "MediaType": 12,
    "TracksPerCylinder": 255,
    "SectorsPerTrack": 63,
    "BytesPerSector": 512,
}
DISK_SIZE = 0xE8E0DB6000
DISK_ID = "{6bfe1a52-0c1d-4b7e-9a3c-112233445566}"
MBR_SIGNATURE, MBR_CHECKSUM = 0x4D2C91A7, 0x1B0E55C3
FAILED_START = 0xC0000001
FVE_NOT_ENCRYPTED = 0xC0210001
FUNCTIONS = dict(zip(layouts.CALLBACKS, range(0x1000, 0x1200, 0x40)))
CONTEXTS, NODES, OBJECTS = 0x0, 0x2000, 0x3000  # pages of the pool region

#: BugCheckProgress while the pages are written: secondary data was sized (order of real dump logs)
PROGRESS = 0x52


class Stack:
    """The crash (or hibernation) dump stack of a machine."""

    def __init__(self, machine: Machine, of: str, number: int) -> None:
        self.machine, self.of, self.number = machine, of, number
        self.world, self.ptr = machine.world, machine.ptr
        self.key = (machine.ptr, machine.layout)
        (
            self.length,
            self.prefix_at,
            self.drivers_at,
            self.usage_at,
            self.routines_at,
            self.scsi_at,
            self.geometry_at,
            self.device_at,
            self.filters_at,
            self.size,
        ) = layouts.STACK_CONTEXT[self.key]
        pool = machine.at["pool"]
        header = 0x10 if machine.wide else 0x8
        self.address = pool + CONTEXTS + 0x200 + number * 0x600 + header
        self.node_base = pool + NODES + 0x100 + number * 0x800 + header
        self.device = pool + OBJECTS + 0x80
        self.head = self.address + self.filters_at
        self.modules = [m for m in machine.truth["modules"] if m["stack"] == of and m["loaded"]]

    def pool_header(self, address: int, size: int, tag: bytes) -> None:
        """The allocation header before a block."""
        if self.machine.wide:
            self.world.pack(address - 0x10, "HH4sQ", 0, (size + 0x1F) >> 4 | 0x200, tag, 0)
        else:
            self.world.pack(address - 8, "HH4s", 0, (size + 0xF) >> 3 | 0x200, tag)

    def place(self) -> None:
        """Writes context, driver list and filter nodes."""
        m, world, prefix = self.machine, self.world, "dump_" if self.of == "crash" else "hiber_"
        port = next(x for x in self.modules if x["role"] == "dump port driver")
        self.pool_header(self.address, self.size, b"CDmp")
        block = bytearray(self.size)
        struct.pack_into("<I", block, 0, self.length)
        routines = [port["base"] + rva for rva in (0x1010, 0x1040, 0x12A0, 0x1330)]
        if m.wide:
            for at, value in zip((0x38, 0x40, 0x48, 0x80), routines):
                m.put(block, at, value)
            struct.pack_into("<II", block, 0x68, 1, 0x10000)  # CrashDump, MaximumTransferSize
        else:
            for at, value in zip((0x2C, 0x30, 0x34, 0x54), routines):
                m.put(block, at, value)
            struct.pack_into("<II", block, 0x44, 1, 0x10000)
        text = m.at["pool"] + OBJECTS + 0x600 + 0x20 * self.number
        world.write(text, (prefix + "\0").encode("utf-16-le"))
        m.put(block, self.prefix_at, text)
        struct.pack_into("<I", block, self.usage_at, 1 if self.of == "crash" else 2)
        for number, value in enumerate(routines):
            m.put(block, self.routines_at + number * self.ptr, value)
        self.write_disk(block, self.geometry_at, self.geometry_at + 0x18)
        m.put(block, self.device_at, self.device)
        if self.filters_at + 4 * self.ptr <= self.size:
            struct.pack_into("<II", block, self.filters_at + 2 * self.ptr, 0, 0x2000)
        for at in range(self.routines_at - 0x60 + 8, self.routines_at - 0x20, 0x10):
            if m.wide and m.layout != "vista":  # three empty lists, as seen before the geometry
                m.put(block, at, self.address + at)
                m.put(block, at + 8, self.address + at)
        world.write(self.address, bytes(block))
        self.place_drivers()
        for index, module in enumerate(x for x in self.modules if x["role"] == "dump filter"):
            self.place_filter(index, module)
        self.link_filters()

    def place_drivers(self) -> None:
        """The driver list: entries of two links and the loader entry; one more per filter."""
        m = self.machine
        start = m.at["pool"] + OBJECTS + 0x800 + 0x200 * self.number
        self.entries, ring = {}, [self.address + self.drivers_at]
        for number, module in enumerate(self.modules):
            entry = start + number * 0x40
            self.world.pointer(entry, entry, entry, module["entry"])
            self.entries[module["name"]] = entry
            if module["role"] != "dump filter":
                ring.append(entry)
        m.link(ring)

    def write_disk(self, block: bytearray, geometry: int, disk_size: int) -> None:
        """DISK_GEOMETRY, the disk size and DISK_PARTITION_INFO, as in DISK_GEOMETRY_EX."""
        struct.pack_into("<qiIII", block, geometry, *GEOMETRY.values())
        struct.pack_into("<q", block, disk_size, DISK_SIZE)
        struct.pack_into("<Ii", block, disk_size + 8, 0x18, 0 if self.machine.mbr else 1)
        if self.machine.mbr:
            struct.pack_into("<II", block, disk_size + 0x10, MBR_SIGNATURE, MBR_CHECKSUM)
        else:
            block[disk_size + 0x10 : disk_size + 0x20] = layouts.guid_bytes(DISK_ID)

    def place_filter(self, index: int, module: dict) -> None:
        """One filter node: init data, extension, link, state."""
        m = self.machine
        extension_at, link_at, state_at, context_at, entry_at = layouts.NODE[self.key]
        size = entry_at + self.ptr
        node = self.node_base + index * 0x200
        self.pool_header(node, size, b"CDmp")
        block = bytearray(size)
        self.write_disk(
            block,
            extension_at + layouts.EXTENSION[self.ptr]["Cylinders"][0],
            extension_at + layouts.EXTENSION[self.ptr]["DiskSize"][0],
        )
        m.put(block, context_at, self.address)
        m.put(block, entry_at, self.entries[module["name"]])
        self.world.write(node, bytes(block))
        row = {
            "filter": module["name"],
            "stack": self.of,
            "ring_index": index,
            "node": node,
            "size_of_node": size,
            "layout": m.layout,
            "link": node + link_at,
            "state_address": node + state_at,
            "state": 0,
            "stack_context": self.address,
            "driver_entry": self.entries[module["name"]],
            "init": {},
            "extension": {"address": node + extension_at},
            "in_ring": True,
            "stored": True,
        }
        m.truth["filters"].append(row)
        first = module["original"] == "dumpfve.sys"
        version = 1 if m.layout == "vista" else 2
        data = m.at["pool"] + OBJECTS + 0xC00 + index * 0x40 + self.number * 0x100
        values = dict.fromkeys(layouts.INIT[self.ptr], 0)
        values.update(MajorVersion=version, DumpData=data, MaxPagesPerWrite=0x10, Flags=int(first))
        wanted = ["DumpStart", "DumpWrite", "DumpFinish"]
        if first:
            wanted += ["DumpUnload", "DumpRead", "DumpPreReadWrite"]
        for name in wanted:
            values[name] = module["base"] + FUNCTIONS[name]
        for name in layouts.INIT[self.ptr]:
            if name not in layouts.INIT_ABSENT[m.layout]:
                set_init(m, row, name, values[name])
        extension = {
            "DumpType": 1 if self.of == "crash" else 2,
            "DeviceObject": self.device,
            **GEOMETRY,
            "DiskSize": DISK_SIZE,
            "SizeOfPartitionInfo": 0x18,
            "PartitionStyle": 0 if m.mbr else 1,
            "DumpData": data,
            "Size": layouts.EXTENSION_SIZE[self.key],
            "Flags": 0,
        }
        for name, value in extension.items():
            if m.layout != "vista" or name not in ("Size", "Flags"):
                set_extension(m, row, name, value)
        shown = row["extension"]
        shown["MbrSignature"] = MBR_SIGNATURE if m.mbr else None
        shown["MbrCheckSum"] = MBR_CHECKSUM if m.mbr else None
        shown["GptDiskId"] = None if m.mbr else DISK_ID

    def link_filters(self) -> None:
        """Joins the nodes that are in the ring, in order."""
        rows = [f for f in self.machine.truth["filters"] if f["stack"] == self.of and f["in_ring"]]
        self.machine.link([self.head] + [f["link"] for f in rows])


# ---- setters that keep memory and truth together ---------------------------------------------
def set_init(m: Machine, row: dict, name: str, value: int) -> None:
    """Changes a field of FILTER_INITIALIZATION_DATA."""
    offset, form = layouts.INIT[m.ptr][name]
    m.world.write(row["node"] + offset, struct.pack("<" + form, value))
    row["init"][name] = value


def set_extension(m: Machine, row: dict, name: str, value: int) -> None:
    """Changes a field of FILTER_EXTENSION."""
    offset, form = layouts.EXTENSION[m.ptr][name]
    m.world.write(row["extension"]["address"] + offset, struct.pack("<" + form, value))
    row["extension"][name] = value


def set_state(m: Machine, row: dict, value: int) -> None:
    """Changes the state word of a node."""
    m.world.pack(row["state_address"], "I", value)
    row["state"] = value


def set_failure(m: Machine, routine: int, status: int) -> None:
    """The last failing filter routine and its NTSTATUS, in crashdmp's context."""
    at = m.truth["context"]["failing_routine_address"]
    m.world.pack(at, "PI", routine, status)
    m.truth["failure"] = {
        "address": at,
        "routine": routine,
        "status": status,
        "offset": at - m.truth["context"]["crashdmp_context"],
        "published_layout": m.layout == "vista" and not m.wide,
    }


# ---- crashdmp --------------------------------------------------------------------------------
def place_crashdmp(m: Machine, crash: Stack, hibernation) -> None:
    """crashdmp!Context and its copy, in the image's data."""
    data = m.module("crashdmp.sys")["base"] + images.DATA
    nt, world = m.at["nt"], m.world
    if m.wide:
        tail = 0x110 + layouts.CONTEXT[m.arch][0]
        size = 0x890 if m.arch == "x64" else 0x750
        copy, context = data + 0x310, data + 0x310 + size
        failure_at, hibernation_at, progress_at = tail + 0xA0, tail + 0x90, tail + 0x6C
    else:
        tail, progress_at = None, None
        size = 0x418 if m.layout == "vista" else 0x440
        context, copy = data + 0x310, data + 0x310 + size
        failure_at, hibernation_at = (0x3F8, 0x408) if m.layout == "vista" else (0x420, 0x428)
    block = bytearray(size)
    struct.pack_into("<4sI", block, 0, b"CDmp", 1)
    arc = nt + NT_DATA + ARC_NAME
    if m.wide:
        m.put(block, 0x10, arc)
        m.put(block, 0x18, crash.address)
        m.put(block, 0x88, crash.address)
        for number in range(4):
            m.put(block, 0x20 + 8 * number, nt + NT_TEXT + 0x100 * number)
        m.put(block, 0x48, nt + NT_DATA + 0x10)
        m.put(block, 0x50, m.at["pool"] + OBJECTS + 0x400)
        m.put(block, 0x58, 0xFFFFFFFF80000C34)
        m.put(block, 0xB0, m.at["pool"] + 0x40000)
        m.put(block, 0xB8, 0x41800)
        if hibernation:
            m.put(block, hibernation_at, hibernation.address)
    else:
        m.put(block, 0x0C, arc)
        m.put(block, 0x20, crash.address)
        if hibernation:
            m.put(block, hibernation_at, hibernation.address)
            if m.layout == "vista":
                block[0x40C] = 1
    static = bytes(block)
    if m.wide:  # the dump block is filled when the machine crashes, so only in the context itself
        struct.pack_into("<I", block, 0x70, 0x3022)
        m.put(block, 0xD8, m.at["pool"] + OBJECTS + 0x440)
        struct.pack_into("<I", block, 0xE8, m.bugcheck)
        struct.pack_into("<4Q", block, 0xF0, *m.parameters)
        block[0x110:tail] = m.context
        m.put(block, tail, m.kdbg)
        m.put(block, tail + 0x10, m.head)
        m.put(block, tail + 0x20, m.at["pool"] + 0x44000)
        struct.pack_into(
            "<I", block, tail + 0x28, {1: 5, 5: 5, 10: 5, 4: 4}.get(m.spec.dump_type, 6)
        )
        m.put(block, tail + 0x30, m.world.root | m.low_root_bits)
        m.put(block, tail + 0x38, 0xFFFFFFFF80000C38)
        struct.pack_into("<I", block, progress_at, PROGRESS)
        static = bytearray(static)
        struct.pack_into("<I", static, 0x70, 0x20)
    world.write(copy, bytes(static))
    world.write(context, bytes(block))
    m.truth["context"].update(
        crashdmp_context=context,
        crashdmp_context_copy=copy,
        crashdmp_context_size=size,
        stack_context_pointer=context + (0x18 if m.wide else 0x20),
        dump_stack_context=crash.address,
        dump_stack_context_size=crash.size,
        geometry=crash.address + crash.geometry_at,
        filter_list_head=crash.head,
        attached_device=crash.device,
        failing_routine_address=context + failure_at,
        hibernation_stack_context=hibernation.address if hibernation else None,
        hibernation_filter_list_head=hibernation.head if hibernation else None,
        hibernation_pointer=context + hibernation_at,
        progress=PROGRESS if m.wide else None,
        progress_address=context + progress_at if m.wide else None,
        bugcheck_address=context + 0xE8 if m.wide else None,
    )


def place_residue(m: Machine) -> None:
    """What the dump writer left on the crash stack, below the stack pointer of the crash."""
    stack = [x for x in m.truth["modules"] if x["stack"] == "crash" and x["loaded"]]
    crashdmp = m.module("crashdmp.sys")
    plan = [(crashdmp, images.CALL_SITES[i], True) for i in (2, 5, 1, 7)]
    plan += [(x, images.CALL_SITES[3 + i], True) for i, x in enumerate(stack)]
    plan.append((stack[-1], FUNCTIONS["DumpStart"], False))  # a routine's own address, not a return
    at = m.stack_limit + 0x1C00
    m.world.pointer(at + 0x80, m.at["nt"] + images.CALL_SITES[4])
    for module, rva, follows in plan:
        m.world.pointer(at, module["base"] + rva)
        m.world.pointer(at + m.ptr, at + 0x60)  # a saved frame, so that words do not touch
        m.truth["residue"].append(
            {
                "address": at,
                "target": module["base"] + rva,
                "module": module["name"],
                "offset": rva,
                "follows_call": follows,
            }
        )
        at -= 0x48


def build_stack(m: Machine) -> None:
    """Places crash and, when wanted, hibernation stack."""
    crash = Stack(m, "crash", 0)
    crash.place()
    hibernation = None
    if m.hibernation:
        hibernation = Stack(m, "hibernation", 1)
        hibernation.place()
    m.crash, m.hiber = crash, hibernation
    place_crashdmp(m, crash, hibernation)
    place_residue(m)
