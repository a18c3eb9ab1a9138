"""Kernel structures that a debugger asks for on each processor, as bytes.

Offsets inside KPCR, KPRCB, KTHREAD and EPROCESS are those of build 19041; they only have to agree
with what KDDEBUGGER_DATA64 states (``STATED``), which is what debuggers go by. Fields: wdbgexts.h.
"""

from __future__ import annotations

import struct

from .scenarios import TICKS_PER_SECOND

PAGE = 0x1000
STACKS = 0xFFFFF800_30000000
PROCESSORS = 0xFFFFF800_40000000
USER_SHARED_DATA = 0xFFFFF780_00000000
STACK_SIZE, PROCESSOR_SIZE = 0x4000, 0x10000
PRCB, THREAD, PROCESS, GDT = 0x180, 0xD000, 0xE000, 0xF000  # in a processor's block
CR0, CR4 = 0x80050033, 0x6F8
#: KDDEBUGGER_DATA64: offset -> 16-bit offset or size it states
# fmt: off
STATED = {
    0x298: 0xC8, 0x29A: 0xF0, 0x29C: 0x58, 0x29E: 0x28, 0x2A0: 0x220, 0x2A2: 0x184,
    0x2A8: 0xA40, 0x2AA: 0x550, 0x2AC: 0x540, 0x2AE: 0x28, 0x2B0: 0xAE00, 0x2B2: 0x3300,
    0x2B4: 8, 0x2B6: 0x44, 0x2B8: 0x2A, 0x2BA: 0x8590, 0x2BC: 0x1C0, 0x2BE: 0x24,
    0x2C0: 0x898, 0x2E0: 0xB000, 0x2E2: 0x18, 0x2E4: 0x20, 0x2E6: PRCB, 0x2F2: 0x100,
    0x2F4: 0x10, 0x2F6: 0x18, 0x2F8: 0x60, 0x2FA: 0x33, 0x2FC: 0x2B, 0x2FE: 0x53,
    0x302: 0x40, 0x304: 0x33, 0x306: 0x53, 0x338: 0x6240,
}
# fmt: on


def processor(number: int) -> bytearray:
    """KPCR, KPRCB with special registers, an idle thread and its process, a GDT."""
    block = bytearray(PROCESSOR_SIZE)
    base = PROCESSORS + number * PROCESSOR_SIZE
    stack = STACKS + number * 2 * STACK_SIZE
    struct.pack_into("<QQ", block, 0x18, base, base + PRCB)
    struct.pack_into("<Q", block, PRCB + 8, base + THREAD)
    struct.pack_into("<B", block, PRCB + 0x24, number)
    struct.pack_into("<I", block, PRCB + 0x44, TICKS_PER_SECOND // 1_000_000)
    struct.pack_into("<QQQQ", block, 0x280, CR0, 0, PAGE, CR4)
    struct.pack_into("<HQ", block, 0x280 + 0x56, 0x7F, base + GDT)
    struct.pack_into("<HQ", block, 0x280 + 0x66, 0xFFF, base + GDT + 0x200)
    struct.pack_into("<H", block, 0x280 + 0x70, 0x40)
    for selector, descriptor in (
        (0x10, 0x00209B00_00000000),
        (0x18, 0x00CF9300_0000FFFF),
        (0x28, 0x00CFF300_0000FFFF),
        (0x50, 0x0040F300_00003C00),
    ):
        struct.pack_into("<Q", block, GDT + selector, descriptor)
    struct.pack_into("<Q", block, PRCB + 0x6240, base + PRCB + 0x1C0)  # KPRCB.Context
    block[THREAD] = 6
    struct.pack_into("<Q", block, THREAD + 0x28, stack + STACK_SIZE)
    struct.pack_into("<Q", block, THREAD + 0x58, stack)
    struct.pack_into("<Q", block, THREAD + 0x220, base + PROCESS)
    block[PROCESS] = 3
    struct.pack_into("<Q", block, PROCESS + 0x28, PAGE)
    return block


def user_shared_data() -> bytearray:
    """KUSER_SHARED_DATA, as far as a debugger asks."""
    data = bytearray(PAGE)
    struct.pack_into("<III", data, 0x08, 600_000_000, 0, 0)  # InterruptTime: one minute
    struct.pack_into("<III", data, 0x14, 0x3A2F0000, 0x01D6DF00, 0x01D6DF00)  # SystemTime: 2020
    struct.pack_into("<IIB", data, 0x260, 19041, 1, 1)
    struct.pack_into("<II", data, 0x26C, 10, 0)
    struct.pack_into("<Q", data, 0x300, 10_000_000)  # QpcFrequency
    return data
