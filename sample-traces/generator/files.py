"""The dump files: header, page map of each type, the pages, the secondary data.

Invariant: the writer streams; only the frames of interest and the page map are held in memory.
"""

from __future__ import annotations

import functools
import random
import struct

from . import secondary, triage
from .layouts import MACHINE
from .machine import NT_DATA, PROCESSES, SYSTEM_TIME, UPTIME, Machine
from .world import FILLER_RUN, PAGE

FILLER_WORD = 0x45474150  # `PAGE`: what an unset field holds
COMPLETE = (1, 5, 10)  # types that hold all of RAM
LAST_FRAME = 0x509  # dull, and alone in the last byte of the bitmap, which some readers drop
PATTERN_FRAMES = 4096  # the pattern of stored filler frames repeats after so many frames


# ---- frames ----------------------------------------------------------------------------------
class FrameList:
    """The stored frames: those of the machine first, then the filler, both in frame order."""

    def __init__(self, m: Machine) -> None:
        world, self.spec = m.world, m.spec
        frames = dict(world.frames)
        if m.spec.dump_type in COMPLETE:
            for pfn in world.unused_frames():
                frames[pfn] = bytearray(b"free" * 0x400)
        for pfn in (1, 2, LAST_FRAME - 1, LAST_FRAME):
            frames[pfn] = bytearray(struct.pack("<Q", pfn) * 0x200)
        self.special = {n: d for n, d in sorted(frames.items()) if n not in world.dropped}
        self.pattern = filler_pattern(m.spec)
        self.filler = m.spec.filler_pages
        self.total = len(self.special) + self.filler

    def filler_runs(self):
        """(first frame, count) of the filler, in order."""
        left, base = self.filler, filler_start(self.spec)
        if left and not self.pattern:
            yield base, left
            return
        while left:
            for first, count in self.pattern:
                count = min(count, left)
                if count:
                    yield base + first, count
                    left -= count
            base += PATTERN_FRAMES

    def runs(self) -> list:
        """(first frame, count) of everything."""
        out = []
        for pfn in self.special:
            if out and out[-1][0] + out[-1][1] == pfn:
                out[-1][1] += 1
            else:
                out.append([pfn, 1])
        return [tuple(run) for run in out] + list(self.filler_runs())

    def last(self) -> int:
        """Number of the last stored frame."""
        last = max(self.special)
        for first, count in self.filler_runs():
            last = first + count - 1
        return last


@functools.lru_cache(maxsize=4)
def filler_pattern(spec) -> list:
    """Runs inside 4096 frames, about 11 pages long with gaps; none when the type keeps all."""
    if spec.dump_type == 1 or not spec.filler_pages:
        return []
    source = random.Random(spec.seed + 1)
    mean = 64 if spec.dump_type in (5, 10) else 11
    out, at = [], 0
    while at < PATTERN_FRAMES - 2:
        count = min(1 + source.getrandbits(16) % (2 * mean), PATTERN_FRAMES - 1 - at)
        out.append((at, count))
        at += count + 1 + source.getrandbits(16) % (2 if mean == 64 else 8)
    return out


def filler_start(spec) -> int:
    """First filler frame: at 4 GB, or low where frames above cannot be named."""
    return 0x1000 if spec.arch == "x86" else FILLER_RUN


@functools.lru_cache(maxsize=4)
def filler_offsets(spec) -> list:
    """The stored frames of one pattern, as offsets."""
    return [first + i for first, count in filler_pattern(spec) for i in range(count)]


def filler_frame(spec, index: int) -> int:
    """Frame number of the filler page with this index."""
    offsets = filler_offsets(spec)
    if not offsets:
        return filler_start(spec) + index
    block, place = divmod(index, len(offsets))
    return filler_start(spec) + block * PATTERN_FRAMES + offsets[place]


def filler_bytes(spec, size: int = 1 << 22) -> bytes:
    """The pool of bytes the filler is cut from."""
    return random.Random(spec.seed + 2).getrandbits(8 * size).to_bytes(size, "little")


def write_filler(spec, file, pages: int) -> None:
    """Windows of 256 pages into the pool, at offsets that do not repeat for long."""
    if not pages:
        return
    pool, chunk, number = filler_bytes(spec), 256, 0
    room = len(pool) - chunk * PAGE
    while pages:
        count = min(chunk, pages)
        start = number * 1000003 * 8 % room
        file.write(pool[start : start + count * PAGE])
        pages -= count
        number += 1


# ---- header ----------------------------------------------------------------------------------
def header_values(m: Machine) -> dict:
    """What the header's plain fields hold."""
    return {
        "version_major": 15,
        "build": m.build,
        "directory_table_base": m.world.root | m.low_root_bits,
        "pfn_database": m.at["pfn"],
        "ps_loaded_module_list": m.head,
        "ps_active_process_head": m.at["nt"] + NT_DATA + PROCESSES,
        "machine_type": MACHINE[m.arch],
        "processors": 2,
        "bugcheck": m.bugcheck,
        "parameters": list(m.parameters),
        "kd_debugger_data_block": m.kdbg,
        "dump_type": m.spec.dump_type,
        "system_time": SYSTEM_TIME,
        "uptime": UPTIME,
        "product_type": 1,
        "suite_mask": 0x110,
        "writer_status": m.writer_status,
        "secondary_data_state": m.secondary_state,
        "attributes": m.attributes,
        "boot_id": 77,
        "mini_dump_fields": 0xCFF if m.spec.dump_type == 4 else 0,
        "required_dump_space": 0,  # set when the size is known
        "exception_code": 0x80000003,
        "exception_address": m.ip,
    }


# field -> (offset, format) of the fields that are plain numbers
FIELDS64 = {
    "version_major": (0x08, "I"), "build": (0x0C, "I"), "directory_table_base": (0x10, "Q"),
    "pfn_database": (0x18, "Q"), "ps_loaded_module_list": (0x20, "Q"),
    "ps_active_process_head": (0x28, "Q"), "machine_type": (0x30, "I"), "processors": (0x34, "I"),
    "bugcheck": (0x38, "I"), "kd_debugger_data_block": (0x80, "Q"), "dump_type": (0xF98, "I"),
    "required_dump_space": (0xFA0, "Q"), "system_time": (0xFA8, "Q"), "uptime": (0x1030, "Q"),
    "mini_dump_fields": (0x1038, "I"), "secondary_data_state": (0x103C, "I"),
    "product_type": (0x1040, "I"), "suite_mask": (0x1044, "I"), "writer_status": (0x1048, "I"),
    "attributes": (0x1050, "I"), "boot_id": (0x1054, "I"), "exception_code": (0xF00, "I"),
    "exception_address": (0xF10, "Q"),
}  # fmt: skip
FIELDS32 = {
    "version_major": (0x08, "I"), "build": (0x0C, "I"), "directory_table_base": (0x10, "I"),
    "pfn_database": (0x14, "I"), "ps_loaded_module_list": (0x18, "I"),
    "ps_active_process_head": (0x1C, "I"), "machine_type": (0x20, "I"), "processors": (0x24, "I"),
    "bugcheck": (0x28, "I"), "kd_debugger_data_block": (0x60, "I"), "dump_type": (0xF88, "I"),
    "mini_dump_fields": (0xF8C, "I"), "secondary_data_state": (0xF90, "I"),
    "product_type": (0xF94, "I"), "suite_mask": (0xF98, "I"), "writer_status": (0xF9C, "I"),
    "required_dump_space": (0xFA0, "Q"), "uptime": (0xFB8, "Q"), "system_time": (0xFC0, "Q"),
    "attributes": (0x8A0, "I"), "boot_id": (0x8A4, "I"), "exception_code": (0x7D0, "I"),
    "exception_address": (0x7DC, "I"),
}  # fmt: skip


def build_header(m: Machine, values: dict, runs: list, pages: int) -> bytearray:
    """DUMP_HEADER64 or DUMP_HEADER32; what is not set keeps the filler word."""
    wide = m.wide
    header = bytearray(b"PAGE" * (0x800 if wide else 0x400))
    header[4:8] = b"DU64" if wide else b"DUMP"
    fields = FIELDS64 if wide else FIELDS32
    version, comment, context, exception, kd_version = (
        (0x60, 0xFB0, 0x348, 0xF00, 0x104D) if wide else (0x3C, 0x820, 0x320, 0x7D0, 0x5D)
    )
    header[version : version + 32] = bytes(32)
    header[comment : comment + 128] = bytes(128)
    size = 3000 if wide else 1200
    header[context : context + size] = m.context.ljust(size, b"\0")
    header[exception : exception + (0x98 if wide else 0x50)] = bytes(0x98 if wide else 0x50)
    header[kd_version] = 0
    if wide:
        header[0x3C:0x40] = bytes(4)
    else:
        header[0x5C] = int(m.arch == "x86-pae")
    struct.pack_into("<4Q" if wide else "<4I", header, 0x40 if wide else 0x2C, *m.parameters)
    for name, value in values.items():
        if name in fields and name not in m.unset_fields:
            offset, form = fields[name]
            struct.pack_into("<" + form, header, offset, value)
    for name in m.unset_fields:
        offset, form = fields[name]
        header[offset : offset + struct.calcsize(form)] = b"PAGE" * (struct.calcsize(form) // 4)
    if m.spec.dump_type != 4:
        block = memory_block(m, runs, pages)
        at = 0x88 if wide else 0x64
        header[at : at + len(block)] = block
    return header


def memory_block(m: Machine, runs: list, pages: int) -> bytes:
    """PHYSICAL_MEMORY_DESCRIPTOR: the runs of RAM, 700 bytes."""
    if m.spec.dump_type != 1:  # the other types have their own map; RAM is told roughly
        last = runs[-1][0] + runs[-1][1]
        runs, pages = [(1, last - 1)], last - 1
    entry = "<QQ" if m.wide else "<II"
    out = (
        struct.pack("<IIQ", len(runs), 0, pages) if m.wide else struct.pack("<II", len(runs), pages)
    )
    for run in runs:
        out += struct.pack(entry, *run)
    if len(out) > 700:
        raise ValueError(f"too many runs for the header: {len(runs)}")
    return out.ljust(700, b"\0")


# ---- page maps -------------------------------------------------------------------------------
def bitmap_of(runs: list, bits: int) -> bytes:
    """One bit per frame, least significant first."""
    out = bytearray((bits + 7) // 8)
    for first, count in runs:
        end = first + count
        while first < end and first & 7:
            out[first >> 3] |= 1 << (first & 7)
            first += 1
        whole = (end - first) >> 3
        if whole > 0:
            out[first >> 3 : (first >> 3) + whole] = b"\xff" * whole
            first += whole * 8
        while first < end:
            out[first >> 3] |= 1 << (first & 7)
            first += 1
    return bytes(out)


def page_map(m: Machine, frames: FrameList, start: int) -> bytes:
    """What lies between the header and the first page."""
    kind, runs = m.spec.dump_type, frames.runs()
    if kind == 1:
        return b""
    if kind in (8, 9, 10):
        table = b"".join(struct.pack("<QQ", *run) for run in runs) + bytes(16)
        first = start + 0x20 + 16 + len(table)
        if not m.spec.unaligned:
            first = (first + PAGE - 1) & ~(PAGE - 1)
        head = struct.pack("<I4s4sIQQ", 0x40, b"RDMP", b"DUMP", 0, first - start - 0x20, first)
        head += struct.pack("<IIQ", len(runs), 0, frames.total) if kind == 10 else bytes(16)
        return (head + table).ljust(first - start, b"\0")
    bits = frames.last() + 1
    bitmap = bitmap_of(runs, bits)
    at = (0x28 if m.wide else 0x20) if kind == 2 else 0x38
    first = start + at + len(bitmap)
    if not m.spec.unaligned:
        first = (first + PAGE - 1) & ~(PAGE - 1)
    if kind == 2:
        head = struct.pack("<4s4sIIII", b"SDMP", b"DUMP", 0, first, bits, frames.total)
        pointer = m.at["pool"] + 0x48000
        head += (
            struct.pack("<IIQ", bits, 0, pointer) if m.wide else struct.pack("<II", bits, pointer)
        )
    else:
        signature = b"FDMP" if kind == 5 else b"SDMP"
        head = struct.pack("<4s4sIIQQ", signature, b"DUMP", 0, 0, 0, 0)
        head += struct.pack("<QQQ", first, frames.total, bits)
    return (head + bitmap).ljust(first - start, b"\0")


# ---- the whole file --------------------------------------------------------------------------
class Parts:
    """A dump as its parts, so that variants can change any of them before it is written."""

    def __init__(self, m: Machine) -> None:
        self.machine = m
        self.blob = secondary.blob(m)
        self.frames = None
        start = 0x2000 if m.wide else 0x1000
        values = header_values(m)
        if m.spec.dump_type == 4:
            m.unset_fields += ["boot_id", "secondary_data_state"]  # as in real small dumps
            m.unset_fields += [] if m.attributes else ["attributes"]
            self.map = triage.body(m, start)
            self.pages = 0
            runs = []
        else:
            self.frames = FrameList(m)
            self.map = page_map(m, self.frames, start)
            self.pages = self.frames.total
            runs = self.frames.runs()
        self.first_page = start + len(self.map)
        self.size = self.first_page + self.pages * PAGE + len(self.blob)
        values["required_dump_space"] = self.size
        self.header = build_header(m, values, runs, self.pages)
        self.cut_at = None
        self.whole_frames = self.pages
        self.scrambled = False
        for name in m.unset_fields:
            values[name] = None
        m.truth["header"] = values
        m.truth["first_page"] = self.first_page
        m.truth["blob_offset"] = self.first_page + self.pages * PAGE if self.blob else None

    def head(self) -> bytes:
        """Header and page map."""
        return bytes(self.header) + bytes(self.map)

    def write(self, file, *, with_holes: bool = False) -> None:
        """Everything, up to the cut when there is one.

        ``with_holes``: the filler is left out of the file, which must be able to seek, and reads as
        zeros: a dump of gigabytes that takes no room.
        """
        if self.cut_at is not None:
            file = Limited(file, self.cut_at)
        file.write(self.head())
        if self.frames:
            for data in self.frames.special.values():
                file.write(bytes(b ^ 0xA7 for b in data) if self.scrambled else bytes(data))
            if with_holes:
                file.seek(self.frames.filler * PAGE, 1)
            else:
                write_filler(self.machine.spec, file, self.frames.filler)
        file.write(self.blob)
        if with_holes:
            file.truncate()


class Limited:
    """A file that ends early."""

    def __init__(self, file, limit: int) -> None:
        self.file, self.left = file, limit

    def write(self, data: bytes) -> None:
        """Writes what still fits."""
        self.file.write(data[: self.left])
        self.left -= min(self.left, len(data))
