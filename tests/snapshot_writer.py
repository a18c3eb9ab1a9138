"""Writers of snapshot formats of which no real file is at hand: the same machine laid out anew.

Written apart from the readers, from the published descriptions of the formats.
"""

from __future__ import annotations

import struct
from typing import Callable

PAGE = 0x1000
_GENERAL = "rax rbx rcx rdx rsi rdi r8 r9 r10 r11 r12 r13 r14 r15 rip rsp rbp rflags".split()
Registers = dict[str, int]


def virtualbox(memory: bytes, processors: list[Registers]) -> bytes:
    """An ELF core as ``VBoxManage debugvm dumpvmcore`` lays it out (dbgfcorefmt.h)."""
    core = struct.pack("<IIIIII", 0xC01AC0DE, 0x00010005, 24, 0x70010, 1, len(processors))
    notes = _virtualbox_note(b"VBCORE", 0xB00, core)
    for registers in processors:
        block = bytearray(0x2C0)
        for number, name in enumerate(_GENERAL):
            struct.pack_into("<Q", block, 8 * number, registers.get(name, 0))
        for name, at in (
            ("gs_base", 0xF0), ("cr0", 0x120), ("cr3", 0x130), ("cr4", 0x138),
            ("idt_base", 0x190), ("kernel_gs_base", 0x218),
        ):  # fmt: skip
            struct.pack_into("<Q", block, at, registers.get(name, 0))
        notes += _virtualbox_note(b"VBCPU", 0xB01, bytes(block))
    low, hole = 0xA0000, 0x100000  # device memory between them has no bytes in the file
    start = 64 + 4 * 56
    at = start + len(notes)
    header = b"\x7fELF\x02\x01\x00".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 4, 62, 1, 0, 64, 0, 0, 64, 56, 4, 0, 0, 0)
    for kind, offset, physical, size, in_memory in (
        (4, start, 0, len(notes), len(notes)),
        (1, at, 0, low, low),
        (1, at + low, low, 0, hole - low),
        (1, at + low, hole, len(memory) - hole, len(memory) - hole),
    ):
        header += struct.pack("<IIQQQQQQ", kind, 0, offset, 0, physical, size, in_memory, 0)
    return header + notes + memory[:low] + memory[hole:]


def _virtualbox_note(name: bytes, kind: int, description: bytes) -> bytes:
    """Eight-byte alignment, and a name that is counted without its NUL."""
    padded = (name + b"\0").ljust(8, b"\0")
    description = description.ljust((len(description) + 7) & ~7, b"\0")
    return struct.pack("<III", len(name), len(description), kind) + padded + description


def kdump(
    pages: dict[int, bytes], notes: bytes, flag: int, compress: Callable[[bytes], bytes]
) -> bytes:
    """A kdump in place, version 6: pages that do not shrink are stored plain."""
    frames = sorted(pages)
    half = -(-(frames[-1] + 1) // 8 // PAGE) or 1
    head = bytearray(PAGE)
    head[:8] = b"KDUMP   "
    struct.pack_into("<i", head, 8, 6)
    struct.pack_into("<6I", head, 0x1A8, flag, PAGE, 1 + -(-len(notes) // PAGE), 2 * half,
                     frames[-1] + 1, len(frames))  # fmt: skip
    second = bytearray(PAGE)
    struct.pack_into("<QQ", second, 0x30, 2 * PAGE, len(notes))
    bits = bytearray(half * PAGE)
    for frame in frames:
        bits[frame // 8] |= 1 << frame % 8
    body = bytes(head + second) + notes.ljust(-(-len(notes) // PAGE) * PAGE, b"\0")
    body += bytes(bits) + bytes(bits)
    at, table, data = len(body) + 24 * len(frames), b"", b""
    for frame in frames:
        packed = compress(pages[frame])
        used = flag if len(packed) < PAGE else 0
        stored = packed if used else pages[frame]
        table += struct.pack("<QIIQ", at + len(data), len(stored), used, 0)
        data += stored
    return body + table + data


def in_place(flattened: bytes) -> bytes:
    """What ``makedumpfile -R`` makes of a flattened file."""
    out = bytearray()
    at = PAGE
    while True:
        offset, size = struct.unpack_from(">qq", flattened, at)
        if offset < 0:
            return bytes(out)
        out += bytes(max(0, offset + size - len(out)))
        out[offset : offset + size] = flattened[at + 16 : at + 16 + size]
        at += 16 + size


def vmware_state(
    processors: list[Registers], regions: list[tuple[int, int, int]], *, blocks: bool,
    memory: bytes = b"", compressed: bool = False,
) -> bytes:  # fmt: skip
    """A ``.vmss``: registers as single values, or in blocks as newer versions have them."""
    cpu = _value("cpu:numVCPUs", (), struct.pack("<I", len(processors)))
    for number, registers in enumerate(processors):
        names = "rax rcx rdx rbx rbp rsp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()
        general = struct.pack("<16Q", *(registers.get(name, 0) for name in names))
        control = struct.pack("<5Q", *(registers.get(f"cr{n}", 0) for n in range(5)))
        idt = registers["idt_base"]
        cpu += _value("rip", (number,), struct.pack("<Q", registers["rip"]))
        cpu += _value("eflags", (number,), struct.pack("<I", registers["rflags"]))
        if blocks:
            cpu += _block("gpregs", (number,), general)
            cpu += _block("CR64", (number,), control)
            cpu += _block("IDTR", (number,), struct.pack("<HQ", 0xFFF, idt))
            continue
        for place, name in enumerate(names):
            cpu += _value(name, (number,), general[8 * place : 8 * place + 8])
        for place in range(5):
            cpu += _value("CR64", (number, place), control[8 * place : 8 * place + 8])
        for place, word in ((1, idt & 0xFFFFFFFF), (2, idt >> 32)):
            cpu += _value("IDTR", (number, place), struct.pack("<I", word))
    held = _value("regionsCount", (), struct.pack("<I", len(regions)))
    for number, region in enumerate(regions):
        for name, value in zip(("regionPageNum", "regionPPN", "regionSize"), region):
            held += _value(name, (number,), struct.pack("<I", value))
    if memory:
        held += _block("Memory", (0, 0), memory, 62 if compressed else 63)
    groups = [(b"Checkpoint", b"\0\0"), (b"cpu", cpu + b"\0\0"), (b"memory", held + b"\0\0")]
    at = 12 + 80 * len(groups)
    table = struct.pack("<III", 0xBED2BED2, 8, len(groups))
    for name, content in groups:
        table += struct.pack("<64sQQ", name, at, len(content))
        at += len(content)
    return table + b"".join(content for _, content in groups)


def _tag(name: str, indices: tuple[int, ...], size: int) -> bytes:
    flags = len(name) << 8 | len(indices) << 6 | size
    return struct.pack("<H", flags) + name.encode() + struct.pack(f"<{len(indices)}I", *indices)


def _value(name: str, indices: tuple[int, ...], data: bytes) -> bytes:
    return _tag(name, indices, len(data)) + data


def _block(name: str, indices: tuple[int, ...], data: bytes, size: int = 63) -> bytes:
    padding = 5
    head = struct.pack("<QQH", len(data), len(data), padding)
    return _tag(name, indices, size) + head + bytes(padding) + data
