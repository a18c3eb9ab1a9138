"""Small memory dumps (type 4): no physical pages, but tables of drivers and blocks of memory.

Invariant: every offset in the triage header is from the start of the file, as in real ones.
"""

from __future__ import annotations

import struct

from .layouts import LDR
from .machine import Machine
from .world import PAGE

TRIAGE64, TRIAGE32 = 0x80, 0x68


def signed(m: Machine, va: int) -> int:
    """Addresses in the table of blocks are sign-extended on 32-bit machines."""
    return va | 0xFFFFFFFF00000000 if not m.wide and va & 0x80000000 else va


class Body:
    """Collects the parts and their file offsets."""

    def __init__(self, start: int, header: int) -> None:
        self.start, self.data = start, bytearray(header)

    def add(self, data: bytes, align: int = 8) -> int:
        """Appends a part; gives its file offset."""
        self.data += bytes(-len(self.data) % align)
        offset = self.start + len(self.data)
        self.data += data
        return offset


def body(m: Machine, start: int) -> bytes:
    """Everything after the dump header and before the secondary data."""
    wide = m.wide
    out = Body(start, TRIAGE64 if wide else TRIAGE32)
    world, processor = m.world, m.truth["processors"][0]
    loaded = [x for x in m.truth["modules"] if x["loaded"]]
    mm = out.add(bytes(0x50))
    unloaded = out.add(unloaded_drivers(m))
    prcb = out.add(world.read(processor["prcb"], 0x700))
    process = out.add(bytes(0x200))
    thread = out.add(world.read(processor["thread"], 0x200))
    stack = out.add(world.read(m.sp, m.stack_base - m.sp))
    drivers_at = out.start + len(out.data) + -len(out.data) % 8
    stride = 0x90 if wide else 0x4C
    strings_at = drivers_at + stride * len(loaded)
    strings = bytearray()
    drivers = bytearray()
    for module in loaded:
        name = module["name"].encode("utf-16-le")
        drivers += driver_entry(m, module, strings_at + len(strings))
        strings += struct.pack("<I", len(name) // 2) + name + b"\0\0"
        strings += bytes(-len(strings) % 8)
    out.add(bytes(drivers))
    out.add(bytes(strings), 1)
    debugger = out.add(world.read(m.kdbg, m.kdbg_size))
    table = out.add(bytes(16 * len(m.blocks)))
    m.truth["blocks"] = []
    for number, (va, size) in enumerate(m.blocks):
        offset = out.add(world.read(va, size))
        at = table - start + 16 * number
        struct.pack_into("<QII", out.data, at, signed(m, va), offset, size)
        m.truth["blocks"].append({"address": va, "offset": offset, "size": size})
    valid = out.add(b"TRGD", 4)
    size_of_dump = valid + 4
    context, exception = (0x348, 0xF00) if wide else (0x320, 0x7D0)
    struct.pack_into(
        "<18I", out.data, 0, 0, size_of_dump, valid, context, exception, mm, unloaded, prcb,
        process, thread, stack, m.stack_base - m.sp, drivers_at, len(loaded),
        strings_at, len(strings), 0, 0xFFFFFFFF,
    )  # fmt: skip
    tail = (debugger, m.kdbg_size, table, len(m.blocks))
    if wide:
        struct.pack_into("<QQQQIIIIII", out.data, 0x48, m.sp, 0, 0, 0, 0, 0, *tail)
    else:
        struct.pack_into("<8I", out.data, 0x48, m.sp, 0, 0, 0, *tail)
    m.truth["size_of_dump"] = size_of_dump
    m.truth["drivers_offset"] = drivers_at
    return bytes(out.data)


def driver_entry(m: Machine, module: dict, name_offset: int) -> bytes:
    """The loader entry as triage dumps keep it: a few fields, the rest zero."""
    base_at, _, size_at = LDR[m.ptr][:3]
    sum_at, stamp_at = (0x78, 0x80) if m.wide else (0x40, 0x44)
    entry = bytearray(0x88 if m.wide else 0x48)
    m.put(entry, base_at, module["base"])
    struct.pack_into("<I", entry, size_at, module["size"])
    struct.pack_into("<I", entry, sum_at, module["checksum"])
    struct.pack_into("<I", entry, stamp_at, module["time_date_stamp"])
    return (
        struct.pack("<II" if m.wide else "<I", *([name_offset, 0] if m.wide else [name_offset]))
        + entry
    )


def unloaded_drivers(m: Machine) -> bytes:
    """A count and entries that keep 12 characters of the name."""
    rows = [x for x in m.truth["modules"] if not x["loaded"]]
    out = struct.pack("<Q" if m.wide else "<I", len(rows))
    for row in rows:
        row["name"] = row["name"][:12]
        name = row["name"].encode("utf-16-le")
        if m.wide:
            out += struct.pack("<HHIQ", len(name), 24, 0, 0) + name.ljust(24, b"\0")
            out += struct.pack("<QQ", row["base"], row["base"] + row["size"])
        else:
            out += struct.pack("<HHI", len(name), 24, 0) + name.ljust(24, b"\0")
            out += struct.pack("<II", row["base"], row["base"] + row["size"])
    return out


def choose_blocks(m: Machine, what: str) -> None:
    """Which memory the triage dump keeps: `bare`, `context-only` or `node-in-blocks`."""
    pool = m.at["pool"]
    blocks = [(m.ip & ~0xFF, 0x200), (pool + 0x22000, 0x180)]
    geometry = m.crash.address + m.crash.geometry_at
    if what != "bare":
        blocks.append((m.stack_base - 2 * PAGE, PAGE))  # the page that holds what the writer left
    if what == "context-only":
        start = max(m.crash.address, geometry - 0xA8)
        blocks.append((start, m.crash.address + m.crash.size - start))
    if what == "node-in-blocks":
        blocks.append((m.crash.address, m.crash.size))
        blocks += [(row["node"], row["size_of_node"]) for row in m.truth["filters"]]
        context = m.truth["context"]
        if m.wide:
            blocks.append((context["crashdmp_context"], 0x160))
            blocks.append((context["crashdmp_context_copy"], 0x160))
    for row in m.truth["filters"]:
        row["stored"] = what == "node-in-blocks"
    if what == "bare":
        m.truth["residue"] = []
    m.blocks = sorted(blocks)
