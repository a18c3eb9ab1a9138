"""ntdddump.h and the disk types it uses: what a crash dump filter driver is given and gives back.

Invariant: the same class on any host, whatever Python's own pointer size: pointers are fixed-width
integers, every gap is a named member and packing is 1, so nothing is left to the host's ABI.
On 32-bit Windows a LARGE_INTEGER is 8-aligned (i386 Linux would align it to 4).
Source: WDK ntdddump.h and its reference pages; ARM64 equals x64 and ARM32 equals x86.
"""

from __future__ import annotations

import ctypes
from functools import cache

Members = list[tuple[str, "type[ctypes._CData]"]]

# Callbacks, in the order of FILTER_INITIALIZATION_DATA: member name, the name users know it by.
CALLBACKS = (
    ("DumpStart", "Dump_Start"),
    ("DumpWrite", "Dump_Write"),
    ("DumpFinish", "Dump_Finish"),
    ("DumpUnload", "Dump_Unload"),
    ("DumpRead", "Dump_Read"),
    ("DumpPreReadWrite", "Dump_PreReadWrite"),
)

# MajorVersion and MinorVersion of FILTER_INITIALIZATION_DATA.
DUMP_FILTER_MAJOR_VERSION_1 = 1
DUMP_FILTER_MAJOR_VERSION = 2  # Windows 8 and later
DUMP_FILTER_MINOR_VERSION = 0

# Flags of FILTER_INITIALIZATION_DATA. CRITICAL and SUPPORT_READ share bit 0: the bit alone does
# not tell which one the driver meant.
DUMP_FILTER_CRITICAL = 0x1
DUMP_FILTER_FLAG_SYSTEM_SUPPORT_READ = 0x1
DUMP_FILTER_FLAG_SYSTEM_SUPPORT_FILTER_EXTENSION_EX = 0x2

# Flags of FILTER_EXTENSION (Windows 8 and later).
DUMP_FILTER_EXT_FLAG_DUMP_DEVICE_POWER_OFF = 0x1

#: crashdmp presets MaxPagesPerWrite before it calls a filter's DriverEntry (Windows 7 x86 code).
PRESET_MAX_PAGES_PER_WRITE = 0x10

FILTER_DUMP_TYPES = {
    0: "DumpTypeUndefined",
    1: "DumpTypeCrashdump",
    2: "DumpTypeHibernation",
}

PARTITION_STYLES = {0: "MBR", 1: "GPT", 2: "RAW"}
PARTITION_STYLE_MBR = 0
PARTITION_STYLE_GPT = 1
PARTITION_STYLE_RAW = 2

# MEDIA_TYPE of ntdddisk.h; 11 and 12 are what a dump device has.
MEDIA_TYPES = {
    0: "Unknown",
    1: "F5_1Pt2_512",
    2: "F3_1Pt44_512",
    3: "F3_2Pt88_512",
    4: "F3_20Pt8_512",
    5: "F3_720_512",
    6: "F5_360_512",
    7: "F5_320_512",
    8: "F5_320_1024",
    9: "F5_180_512",
    10: "F5_160_512",
    11: "RemovableMedia",
    12: "FixedMedia",
    13: "F3_120M_512",
    14: "F3_640_512",
    15: "F5_640_512",
    16: "F5_720_512",
    17: "F3_1Pt2_512",
    18: "F3_1Pt23_1024",
    19: "F5_1Pt23_1024",
    20: "F3_128Mb_512",
    21: "F3_230Mb_512",
    22: "F8_256_128",
    23: "F3_200Mb_512",
    24: "F3_240M_512",
    25: "F3_32M_512",
}

# DUMP_FILTER_EXTENSION_SIZE_V1 and _V2, by pointer size. Windows 8 and later store V2 in
# FILTER_EXTENSION.Size; V1 is the offset of Size, not the sizeof of the old structure.
FILTER_EXTENSION_SIZE_V1 = {8: 0x50, 4: 0x44}
FILTER_EXTENSION_SIZE_V2 = {8: 0x58, 4: 0x50}

#: build that brought interface version 2: Dump_Read, FILTER_EXTENSION.Size
WINDOWS_8 = 9200

#: ``init_class`` names of FILTER_INITIALIZATION_DATA, oldest first.
INITIALIZATION_VERSIONS = ("vista", "win8", "newest")

_U32 = ctypes.c_uint32
_U64 = ctypes.c_uint64


class Structure(ctypes.LittleEndianStructure):
    """Little-endian and packed; without a ``__dict__``, so a misspelt member is an error."""

    _pack_ = 1
    _layout_ = "ms"  # newer Python versions want the packing rule named
    __slots__ = ()


def structure(name: str, members: Members) -> type[Structure]:
    """A structure class made of these (name, ctypes type) pairs."""
    return type(name, (Structure,), {"_fields_": members, "__slots__": ()})


def pointer_class(pointer_size: int) -> type[ctypes._SimpleCData[int]]:
    """The integer that stands for a pointer of this size."""
    return {8: _U64, 4: _U32}[pointer_size]


class GUID(Structure):
    """A GUID, mixed-endian as Windows stores it."""

    __slots__ = ()
    _fields_ = [
        ("Data1", ctypes.c_uint32),
        ("Data2", ctypes.c_uint16),
        ("Data3", ctypes.c_uint16),
        ("Data4", ctypes.c_ubyte * 8),
    ]


class DISK_GEOMETRY(Structure):
    """ntdddisk.h; the same on every architecture."""

    __slots__ = ()
    _fields_ = [
        ("Cylinders", ctypes.c_int64),
        ("MediaType", ctypes.c_int32),
        ("TracksPerCylinder", ctypes.c_uint32),
        ("SectorsPerTrack", ctypes.c_uint32),
        ("BytesPerSector", ctypes.c_uint32),
    ]


class PARTITION_INFO_MBR(Structure):
    """The MBR arm of DISK_PARTITION_INFO."""

    __slots__ = ()
    _fields_ = [("Signature", ctypes.c_uint32), ("CheckSum", ctypes.c_uint32)]


class PARTITION_INFO_GPT(Structure):
    """The GPT arm of DISK_PARTITION_INFO."""

    __slots__ = ()
    _fields_ = [("DiskId", GUID)]


class _PARTITION_UNION(ctypes.Union):
    _fields_ = [("Mbr", PARTITION_INFO_MBR), ("Gpt", PARTITION_INFO_GPT)]


class DISK_PARTITION_INFO(Structure):
    """ntdddisk.h. SizeOfPartitionInfo is missing from the public page of FILTER_EXTENSION."""

    __slots__ = ()
    _anonymous_ = ("Style",)
    _fields_ = [
        ("SizeOfPartitionInfo", ctypes.c_uint32),
        ("PartitionStyle", ctypes.c_int32),
        ("Style", _PARTITION_UNION),
    ]


#: SizeOfPartitionInfo
PARTITION_INFO_SIZE = ctypes.sizeof(DISK_PARTITION_INFO)


@cache
def filter_extension(pointer_size: int, version: int) -> type[Structure]:
    """FILTER_EXTENSION for pointers of 4 or 8 bytes; version 1 (Vista SP1, 7) or 2 (8 on)."""
    pointer = pointer_class(pointer_size)
    members: Members = [("DumpType", ctypes.c_int32)]
    if pointer_size == 8:
        members.append(("Padding_0x04", _U32))
    members += [
        ("DeviceObject", pointer),
        ("Geometry", DISK_GEOMETRY),
        ("DiskSize", ctypes.c_int64),
        ("PartitionInfo", DISK_PARTITION_INFO),
        ("DumpData", pointer),
    ]
    if version == 2:
        members += [("Size", _U32), ("Flags", _U32)]
    if pointer_size == 4:  # the LARGE_INTEGERs make the whole 8-aligned
        members.append(("Padding_0x4C" if version == 2 else "Padding_0x44", _U32))
    return structure(f"FILTER_EXTENSION_V{version}_{pointer_size * 8}", members)


@cache
def filter_initialization_data(pointer_size: int, version: str) -> type[Structure]:
    """FILTER_INITIALIZATION_DATA as the header of ``version`` has it (INITIALIZATION_VERSIONS)."""
    pointer = pointer_class(pointer_size)
    members: Members = [
        ("MajorVersion", _U32),
        ("MinorVersion", _U32),
        ("DumpStart", pointer),
        ("DumpWrite", pointer),
        ("DumpFinish", pointer),
        ("DumpUnload", pointer),
        ("DumpData", pointer),
        ("MaxPagesPerWrite", _U32),
        ("Flags", _U32),
    ]
    added = ("DumpRead", "DumpPreReadWrite")[: INITIALIZATION_VERSIONS.index(version)]
    members += [(name, pointer) for name in added]
    return structure(f"FILTER_INITIALIZATION_DATA_{version}_{pointer_size * 8}", members)


def members(layout: type[Structure]) -> dict[str, tuple[int, int]]:
    """Member name -> (offset, size), padding left out."""
    names = [field[0] for field in layout._fields_ if not field[0].startswith("Padding_")]
    return {name: (getattr(layout, name).offset, getattr(layout, name).size) for name in names}
