"""The processors in the notes of an ELF core or kdump, and the dump header that a guest may leave.

Invariant: a note of a kind or size that is not known is passed over; nothing here reads memory.

Sources: QEMU target/i386/arch_dump.c (QEMUCPUState), VirtualBox dbgfcorefmt.h (DBGFCORECPU); the
offsets of the first were seen in files that QEMU 7.2 wrote, those of the second come from the
header alone.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ..layouts import mindumpdef

#: more processors than Windows supports are damage
MAX_PROCESSORS = 2048


class Notes(NamedTuple):
    """What the notes of a file hold."""

    processors: list[dict[str, int]]  #: in the order of the hypervisor's numbers
    writer: str  #: "QEMU", "VirtualBox" or "" where no note tells
    header: bytes  #: DUMP_HEADER64 that a driver in the guest left, b"" without one


_QEMU = {
    name: 8 + 8 * number
    for number, name in enumerate(
        "rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags".split()
    )
} | {
    "gs_base": 0x108,
    "idt_base": 0x180,
    "cr0": 0x188,
    "cr2": 0x198,
    "cr3": 0x1A0,
    "cr4": 0x1A8,
    "kernel_gs_base": 0x1B0,
}
_VIRTUALBOX = {
    name: 8 * number
    for number, name in enumerate(
        "rax rbx rcx rdx rsi rdi r8 r9 r10 r11 r12 r13 r14 r15 rip rsp rbp rflags".split()
    )
} | {
    "gs_base": 0xF0,
    "cr0": 0x120,
    "cr2": 0x128,
    "cr3": 0x130,
    "cr4": 0x138,
    "idt_base": 0x190,
    "lstar": 0x200,
    "kernel_gs_base": 0x218,
}
_HEADER = mindumpdef.SIGNATURE + mindumpdef.VALID_DUMP64


def read(data: bytes) -> Notes:
    """What the notes tell."""
    processors: list[dict[str, int]] = []
    writer, header = "", b""
    for name, description in _notes(data):
        if name == b"QEMU" and len(description) >= 0x1B0:
            writer = "QEMU"
            processors.append(_registers(_QEMU, description))
        elif name == b"VBCPU" and len(description) >= 0x220:
            processors.append(_registers(_VIRTUALBOX, description))
        elif name == b"VBCORE":
            writer = "VirtualBox"
        elif name == b"VMCOREINFO" and description.startswith(_HEADER):
            header = description
        if len(processors) >= MAX_PROCESSORS:
            break
    return Notes(processors, writer, header)


def _notes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and description of each; VirtualBox aligns to 8 and counts no NUL behind a name."""
    align, at = 4, 0
    while at + 12 <= len(data):
        name_size, size, _ = struct.unpack_from("<III", data, at)
        name = data[at + 12 : at + 12 + name_size].rstrip(b"\0")
        if name in (b"VBCORE", b"VBCPU"):
            align, name_size = 8, len(name) + 1
        start = at + 12 + (name_size + align - 1) // align * align
        yield name, data[start : start + size]
        at = start + (size + align - 1) // align * align


def _registers(places: dict[str, int], data: bytes) -> dict[str, int]:
    return {
        name: struct.unpack_from("<Q", data, at)[0]
        for name, at in places.items()
        if at + 8 <= len(data)
    }
