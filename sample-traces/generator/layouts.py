"""Offsets of the structures that the samples hold, written down a second time on purpose.

Invariant: nothing here comes from the analyzer; the numbers are those of the WDK header
(ntdddump.h, ntddstor.h), of the public SDK headers, or of published observations.
"""

from __future__ import annotations

import struct
import uuid

ARCHS = ("x64", "arm64", "x86-pae", "x86")
LAYOUTS = ("vista", "win8", "newest")
DUMP_TYPES = (1, 2, 4, 5, 6, 8, 9, 10)
BUILD = {"vista": 7601, "win8": 19041, "newest": 26100}
MACHINE = {"x64": 0x8664, "arm64": 0xAA64, "x86-pae": 0x14C, "x86": 0x14C}

# FILTER_INITIALIZATION_DATA: field -> (offset, format); the key is the pointer size
INIT = {
    8: {
        "MajorVersion": (0x00, "I"),
        "MinorVersion": (0x04, "I"),
        "DumpStart": (0x08, "Q"),
        "DumpWrite": (0x10, "Q"),
        "DumpFinish": (0x18, "Q"),
        "DumpUnload": (0x20, "Q"),
        "DumpData": (0x28, "Q"),
        "MaxPagesPerWrite": (0x30, "I"),
        "Flags": (0x34, "I"),
        "DumpRead": (0x38, "Q"),
        "DumpPreReadWrite": (0x40, "Q"),
    },
    4: {
        "MajorVersion": (0x00, "I"),
        "MinorVersion": (0x04, "I"),
        "DumpStart": (0x08, "I"),
        "DumpWrite": (0x0C, "I"),
        "DumpFinish": (0x10, "I"),
        "DumpUnload": (0x14, "I"),
        "DumpData": (0x18, "I"),
        "MaxPagesPerWrite": (0x1C, "I"),
        "Flags": (0x20, "I"),
        "DumpRead": (0x24, "I"),
        "DumpPreReadWrite": (0x28, "I"),
    },
}
INIT_ABSENT = {
    "vista": ("DumpRead", "DumpPreReadWrite"),
    "win8": ("DumpPreReadWrite",),
    "newest": (),
}
CALLBACKS = ("DumpStart", "DumpWrite", "DumpFinish", "DumpUnload", "DumpRead", "DumpPreReadWrite")

# FILTER_EXTENSION; the 16 bytes of the partition identity are handled apart (MBR or GPT)
EXTENSION = {
    8: {
        "DumpType": (0x00, "i"),
        "DeviceObject": (0x08, "Q"),
        "Cylinders": (0x10, "q"),
        "MediaType": (0x18, "i"),
        "TracksPerCylinder": (0x1C, "I"),
        "SectorsPerTrack": (0x20, "I"),
        "BytesPerSector": (0x24, "I"),
        "DiskSize": (0x28, "q"),
        "SizeOfPartitionInfo": (0x30, "I"),
        "PartitionStyle": (0x34, "i"),
        "DumpData": (0x48, "Q"),
        "Size": (0x50, "I"),
        "Flags": (0x54, "I"),
    },
    4: {
        "DumpType": (0x00, "i"),
        "DeviceObject": (0x04, "I"),
        "Cylinders": (0x08, "q"),
        "MediaType": (0x10, "i"),
        "TracksPerCylinder": (0x14, "I"),
        "SectorsPerTrack": (0x18, "I"),
        "BytesPerSector": (0x1C, "I"),
        "DiskSize": (0x20, "q"),
        "SizeOfPartitionInfo": (0x28, "I"),
        "PartitionStyle": (0x2C, "i"),
        "DumpData": (0x40, "I"),
        "Size": (0x44, "I"),
        "Flags": (0x48, "I"),
    },
}
PARTITION_ID = {8: 0x38, 4: 0x30}
EXTENSION_SIZE = {(8, "vista"): 0x50, (8, "win8"): 0x58, (8, "newest"): 0x58}
EXTENSION_SIZE.update({(4, "vista"): 0x48, (4, "win8"): 0x50, (4, "newest"): 0x50})

# crashdmp's node per filter: extension, link, state, stack context, driver list entry
NODE = {
    (8, "vista"): (0x38, 0x88, 0x98, 0xA0, 0xA8),
    (8, "win8"): (0x40, 0x98, 0xA8, 0xB0, 0xB8),
    (8, "newest"): (0x48, 0xA0, 0xB0, 0xB8, 0xC0),
    (4, "vista"): (0x28, 0x70, 0x78, 0x7C, 0x80),
    (4, "win8"): (0x28, 0x78, 0x80, 0x84, 0x88),
    (4, "newest"): (0x30, 0x80, 0x88, 0x8C, 0x90),
}

# Dump stack context: Length, ModulePrefix, DriverList, UsageType, port routines, SCSI_ADDRESS,
# DISK_GEOMETRY_EX, attached device, filter list head, size. The 64-bit vista, the 32-bit vista and
# win8 places of the last ones are published; the others keep the published distances around the
# geometry, at a start chosen here (readers must find it by content).
STACK_CONTEXT = {
    (8, "vista"): (0xA0, 0xB8, 0xC0, 0x108, 0x150, 0x170, 0x178, 0x1B0, 0x1B8, 0x1C8),
    (8, "win8"): (0x108, 0x120, 0x128, 0x170, 0x258, 0x2A0, 0x2A8, 0x2E0, 0x2E8, 0x310),
    (8, "newest"): (0x108, 0x120, 0x128, 0x170, 0x278, 0x2C0, 0x2C8, 0x300, 0x308, 0x330),
    (4, "vista"): (0x70, 0x80, 0x84, 0xA8, 0xDC, 0xEC, 0xF8, 0x130, 0x134, 0x140),
    (4, "win8"): (0xC0, 0xD4, 0xD8, 0xFC, 0x138, 0x154, 0x160, 0x198, 0x19C, 0x1E0),
    (4, "newest"): (0xC0, 0xD4, 0xD8, 0xFC, 0x148, 0x164, 0x170, 0x1A8, 0x1AC, 0x1F0),
}

# loader entry: base, entry point, size, full name, base name, flags, checksum, time stamp, its size
LDR = {
    8: (0x30, 0x38, 0x40, 0x48, 0x58, 0x68, 0x78, 0x9C, 0xA0),
    4: (0x18, 0x1C, 0x20, 0x24, 0x2C, 0x34, 0x40, 0x58, 0x60),
}

# CONTEXT: size, flags offset, flags, instruction pointer, stack pointer
CONTEXT = {
    "x64": (0x4D0, 0x30, 0x10005F, 0xF8, 0x98),
    "arm64": (0x390, 0x00, 0x400007, 0x108, 0x100),
    "x86-pae": (0x2CC, 0x00, 0x1003F, 0xB8, 0xC4),
    "x86": (0x2CC, 0x00, 0x1003F, 0xB8, 0xC4),
}

# in the processor block: current thread, context, special registers; in the thread: stack words
PRCB = {
    "x64": (0x8, 0x1F0, 0x100),
    "arm64": (0x8, 0x360, 0x100),
    "x86-pae": (0x4, 0x18, 0x2E4),
    "x86": (0x4, 0x18, 0x2E4),
}
# KTHREAD: initial stack, stack limit, kernel stack
THREAD = {8: (0x28, 0x30, 0x58), 4: (0x28, 0x2C, 0x30)}


def make_context(arch: str, ip: int, sp: int, mark: int = 0) -> bytes:
    """A CONTEXT record with the instruction and the stack pointer set."""
    size, flags_at, flags, ip_at, sp_at = CONTEXT[arch]
    data = bytearray(size)
    struct.pack_into("<I", data, flags_at, flags)
    if arch == "x64":
        struct.pack_into("<I", data, 0x34, 0x1F80)  # MxCsr
        struct.pack_into("<HHHHHHI", data, 0x38, 0x10, 0x2B, 0x2B, 0x53, 0x2B, 0x18, 0x40246)
        struct.pack_into("<QQ", data, 0x78, 0x1000 + mark, 0x2000 + mark)  # Rax, Rcx
        struct.pack_into("<Q", data, 0xA0, sp + 0x80)  # Rbp
        struct.pack_into("<I", data, 0x118, 0x1F80)  # the second copy of MxCsr
    elif arch == "arm64":
        struct.pack_into("<IQ", data, 0x04, 0x600003C5, 0x1000 + mark)  # Cpsr, X0
        struct.pack_into("<QQ", data, 0xF0, sp + 0x80, ip - 4)  # Fp, Lr
    else:
        struct.pack_into("<IIII", data, 0x8C, 0, 0x30, 0x23, 0x23)  # Gs, Fs, Es, Ds
        struct.pack_into("<I", data, 0xB4, sp + 0x40)  # Ebp
        struct.pack_into("<I", data, 0xBC, 0x8)  # SegCs
        struct.pack_into("<I", data, 0xC0, 0x10246)
        struct.pack_into("<I", data, 0xC8, 0x10)  # SegSs
    form = "<Q" if arch in ("x64", "arm64") else "<I"
    struct.pack_into(form, data, ip_at, ip)
    struct.pack_into(form, data, sp_at, sp)
    return bytes(data)


def guid_bytes(text: str) -> bytes:
    """A GUID as it lies in memory."""
    return uuid.UUID(text).bytes_le
