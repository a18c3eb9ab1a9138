"""mindumpdef.h and wdbgexts.h: the headers of a kernel dump file.

Invariant: the 32-bit and the 64-bit layout of a structure stand in one table with the same names,
each a ``Field(offset, format)`` for ``struct.unpack_from("<" + format, data, offset)``.
Source: the Windows SDK headers; the triage and summary headers from the public WDK type tables. The
64-bit header and triage offsets were read off 52 real dumps.
"""

import struct
from typing import Any, NamedTuple


class Field(NamedTuple):
    """Where a field lies and how ``struct`` reads it."""

    offset: int
    format: str

    def read(self, data: Any, base: int = 0) -> Any:
        """The value in ``data`` (little-endian); ``struct.error`` when the data ends before it."""
        at = base + self.offset  # ``data`` may be a file: it is sliced, not looked into
        return struct.unpack("<" + self.format, data[at : at + self.size])[0]

    @property
    def size(self) -> int:
        """Length in bytes."""
        return struct.calcsize("<" + self.format)


SIGNATURE = b"PAGE"
VALID_DUMP64 = b"DU64"
VALID_DUMP32 = b"DUMP"
#: Fields that the writer leaves unset keep this filler ("PAGE").
FILLER32 = 0x45474150
FILLER64 = 0x4547415045474150

DUMP_TYPES = {
    1: "full",
    2: "summary",
    3: "header only",
    4: "triage (minidump)",
    5: "full bitmap",
    6: "kernel bitmap",
    7: "automatic",
    8: "range kernel",  # 8 to 10 are not in the SDK: written by current debuggers
    9: "range kernel and user",
    10: "range complete",
}

#: our name for a live kernel dump, after which Windows went on
LIVE_DUMP = "live kernel dump"

DUMP_FILE_ATTRIBUTES = {
    0x001: "HiberCrash",
    0x002: "DumpDevicePowerOff",
    0x004: "InsufficientDumpfileSize",
    0x008: "KernelGeneratedTriageDump",
    0x010: "LiveDumpGeneratedDump",
    0x020: "DumpIsGeneratedOffline",
    0x040: "FilterDumpFile",
    0x080: "EarlyBootCrash",
    0x100: "EncryptedDumpData",
    0x200: "DecryptedDump",
    0x1000: "DiagDataWrittenToHeader",  # by WinDbg's output, since Windows 11
}

_NAMED = sum(DUMP_FILE_ATTRIBUTES)


def attribute_names(value: int) -> str:
    """The bits of the attribute word by name; those without one as a number."""
    names = [text for bit, text in DUMP_FILE_ATTRIBUTES.items() if value & bit]
    if value & ~_NAMED:
        names.append(f"unnamed bits {value & ~_NAMED:#x}")
    return ", ".join(names) or "none"


DIAGNOSIS_WRITTEN = 0x1000  # DiagDataWrittenToHeader

# MiniDumpFields of a triage dump: which parts the writer filled in.
TRIAGE_DUMP_PARTS = {
    0x001: "context",
    0x002: "exception",
    0x004: "PRCB",
    0x008: "process",
    0x010: "thread",
    0x020: "call stack",
    0x040: "driver list",
    0x080: "broken driver",
    0x100: "memory manager",
    0x200: "data page",
    0x400: "debugger data",
    0x800: "data blocks",
}

IMAGE_FILE_MACHINES = {0x014C: "x86", 0x8664: "x64", 0xAA64: "arm64", 0x01C4: "arm"}


#: EXCEPTION_RECORD.ExceptionAddress by pointer size
EXCEPTION_ADDRESS = {8: Field(0x10, "Q"), 4: Field(0x0C, "I")}


class Layout:
    """A structure of one pointer size; its fields are attributes, by their names in the SDK."""

    def __init__(self, pointer_size: int, size: int, fields: dict[str, Field]) -> None:
        self.pointer_size, self.size, self.fields = pointer_size, size, fields

    def __getattr__(self, name: str) -> Field:
        try:
            return self.fields[name]
        except KeyError:
            raise AttributeError(name) from None


def both(table: str, size64: int, size32: int) -> tuple[Layout, Layout]:
    """The two layouts of a table: name, 64-bit offset and format, the same of 32-bit; "-": none."""
    columns: tuple[dict[str, Field], dict[str, Field]] = ({}, {})
    for line in table.strip().splitlines():
        name, *words = line.split()
        for column in columns:
            offset = words.pop(0)
            if offset != "-":
                column[name] = Field(int(offset, 16), words.pop(0))
    return Layout(8, size64, columns[0]), Layout(4, size32, columns[1])


# DUMP_HEADER64 and DUMP_HEADER32. The low 12 bits of DirectoryTableBase can hold a PCID; Runs is
# the first PHYSICAL_MEMORY_RUN: pairs (BasePage, PageCount) follow one another.
_HEADER = """
Signature            0x0 4s       0x0 4s
ValidDump            0x4 4s       0x4 4s
MajorVersion         0x8 I        0x8 I
MinorVersion         0xc I        0xc I
DirectoryTableBase   0x10 Q       0x10 I
PfnDataBase          0x18 Q       0x14 I
PsLoadedModuleList   0x20 Q       0x18 I
PsActiveProcessHead  0x28 Q       0x1c I
MachineImageType     0x30 I       0x20 I
NumberProcessors     0x34 I       0x24 I
BugCheckCode         0x38 I       0x28 I
BugCheckParameter1   0x40 Q       0x2c I
BugCheckParameter2   0x48 Q       0x30 I
BugCheckParameter3   0x50 Q       0x34 I
BugCheckParameter4   0x58 Q       0x38 I
VersionUser          0x60 32s     0x3c 32s
PaeEnabled           -            0x5c B
KdSecondaryVersion   0x104d B     0x5d B
KdDebuggerDataBlock  0x80 Q       0x60 I
PhysicalMemoryBlock  0x88 700s    0x64 700s
NumberOfRuns         0x88 I       0x64 I
NumberOfPages        0x90 Q       0x68 I
Runs                 0x98 16s     0x6c 8s
ContextRecord        0x348 3000s  0x320 1200s
Exception            0xf00 152s   0x7d0 80s
DumpType             0xf98 I      0xf88 I
RequiredDumpSpace    0xfa0 Q      0xfa0 Q
SystemTime           0xfa8 Q      0xfc0 Q
Comment              0xfb0 128s   0x820 128s
SystemUpTime         0x1030 Q     0xfb8 Q
MiniDumpFields       0x1038 I     0xf8c I
SecondaryDataState   0x103c I     0xf90 I
ProductType          0x1040 I     0xf94 I
SuiteMask            0x1044 I     0xf98 I
WriterStatus         0x1048 I     0xf9c I
Attributes           0x1050 I     0x8a0 I
BootId               0x1054 I     0x8a4 I
"""
DumpHeader64, DumpHeader32 = both(_HEADER, 0x2000, 0x1000)

# What Windows 11 writes behind the last field of the SDK's DUMP_HEADER64, at most 0x298 bytes (read
# off a real dump of build 26100; names as WinDbg shows them). ErrorCode and ProgressPercentage lie
# somewhere in Unknown, which is all zero after a success.
DIAGNOSIS = Layout(
    8,
    0x12F0 - 0x1058,
    {
        "Size": Field(0x1058, "I"),
        "Unknown": Field(0x1060, "400s"),
        "LastLine": Field(0x11F0, "256s"),  # of DumpStack.log, ASCII
        "Build": Field(0x12F0, "16s"),  # UTF-16
        "Revision": Field(0x1300, "I"),  # UBR
        "MajorVersion": Field(0x1304, "I"),
        "MinorVersion": Field(0x1308, "I"),
    },
)

#: The word at TRIAGE_DUMP.ValidOffset; its lack means a cut dump.
TRIAGE_VALID = b"TRGD"
# TRIAGE_DUMP follows the header; its offsets count from the start of the file.
_TRIAGE = """
ServicePackBuild       0x0 I   0x0 I
SizeOfDump             0x4 I   0x4 I
ValidOffset            0x8 I   0x8 I
ContextOffset          0xc I   0xc I
ExceptionOffset        0x10 I  0x10 I
MmOffset               0x14 I  0x14 I
UnloadedDriversOffset  0x18 I  0x18 I
PrcbOffset             0x1c I  0x1c I
ProcessOffset          0x20 I  0x20 I
ThreadOffset           0x24 I  0x24 I
CallStackOffset        0x28 I  0x28 I
SizeOfCallStack        0x2c I  0x2c I
DriverListOffset       0x30 I  0x30 I
DriverCount            0x34 I  0x34 I
StringPoolOffset       0x38 I  0x38 I
StringPoolSize         0x3c I  0x3c I
BrokenDriverOffset     0x40 I  0x40 I
TriageOptions          0x44 I  0x44 I
TopOfStack             0x48 Q  0x48 I
DataPageAddress        0x60 Q  0x4c I
DataPageOffset         0x68 I  0x50 I
DataPageSize           0x6c I  0x54 I
DebuggerDataOffset     0x70 I  0x58 I
DebuggerDataSize       0x74 I  0x5c I
DataBlocksOffset       0x78 I  0x60 I
DataBlocksCount        0x7c I  0x64 I
"""
TriageDump64, TriageDump32 = both(_TRIAGE, 0x80, 0x68)

# SUMMARY_DUMP: the bitmap header of a type 2 dump; the bitmap follows Buffer.
_SUMMARY = """
Signature     0x0 4s  0x0 4s
ValidDump     0x4 4s  0x4 4s
DumpOptions   0x8 I   0x8 I
HeaderSize    0xc I   0xc I
BitmapSize    0x10 I  0x10 I
Pages         0x14 I  0x14 I
SizeOfBitMap  0x18 I  0x18 I
Buffer        0x20 Q  0x1c I
bitmap        0x28 B  0x20 B
"""
SummaryDump64, SummaryDump32 = both(_SUMMARY, 0x30, 0x24)


class BitmapDump(NamedTuple):
    """The bitmap header of types 5 and 6, at the end of the dump header."""

    Signature: Field = Field(0x00, "4s")
    ValidDump: Field = Field(0x04, "4s")
    DumpOptions: Field = Field(0x08, "I")
    FirstPage: Field = Field(0x20, "Q")  #: file offset
    Pages: Field = Field(0x28, "Q")
    BitmapBits: Field = Field(0x30, "Q")
    bitmap: int = 0x38


BITMAP_DUMP = BitmapDump()
BITMAP_SIGNATURES = (b"SDMP", b"FDMP")
RANGE_SIGNATURE = b"RDMP"


class DebuggerData(NamedTuple):
    """KDDEBUGGER_DATA64 (wdbgexts.h), of 32-bit targets too (pointers are then sign-extended)."""

    OwnerTag: Field = Field(0x10, "4s")
    Size: Field = Field(0x14, "I")
    KernBase: Field = Field(0x18, "Q")
    SavedContext: Field = Field(0x28, "Q")
    PsLoadedModuleList: Field = Field(0x48, "Q")
    PsActiveProcessHead: Field = Field(0x50, "Q")
    KeTimeIncrement: Field = Field(0x78, "Q")
    KiBugcheckData: Field = Field(0x88, "Q")
    NtBuildLab: Field = Field(0x208, "Q")
    KiProcessorBlock: Field = Field(0x218, "Q")
    MmUnloadedDrivers: Field = Field(0x220, "Q")
    MmLastUnloadedDriver: Field = Field(0x228, "Q")
    MmPhysicalMemoryBlock: Field = Field(0x270, "Q")
    # From here on: offsets of members of kernel structures.
    OffsetKThreadNextProcessor: Field = Field(0x298, "H")
    OffsetKThreadTeb: Field = Field(0x29A, "H")
    OffsetKThreadKernelStack: Field = Field(0x29C, "H")
    OffsetKThreadInitialStack: Field = Field(0x29E, "H")
    OffsetKThreadApcProcess: Field = Field(0x2A0, "H")
    OffsetKThreadState: Field = Field(0x2A2, "H")
    SizeEProcess: Field = Field(0x2A8, "H")
    OffsetEprocessPeb: Field = Field(0x2AA, "H")
    OffsetEprocessParentCID: Field = Field(0x2AC, "H")
    OffsetEprocessDirectoryTableBase: Field = Field(0x2AE, "H")
    SizePrcb: Field = Field(0x2B0, "H")
    OffsetPrcbDpcRoutine: Field = Field(0x2B2, "H")
    OffsetPrcbCurrentThread: Field = Field(0x2B4, "H")
    OffsetPrcbMhz: Field = Field(0x2B6, "H")
    OffsetPrcbCpuType: Field = Field(0x2B8, "H")
    OffsetPrcbVendorString: Field = Field(0x2BA, "H")
    OffsetPrcbProcStateContext: Field = Field(0x2BC, "H")
    OffsetPrcbNumber: Field = Field(0x2BE, "H")
    SizeEThread: Field = Field(0x2C0, "H")
    L1tfHighPhysicalBitIndex: Field = Field(0x2C2, "B")
    L1tfSwizzleBitIndex: Field = Field(0x2C3, "B")
    OffsetPrcbContext: Field = Field(0x338, "H")


DEBUGGER_DATA = DebuggerData()
DEBUGGER_DATA_TAG = b"KDBG"


def fields(layout: "Layout | NamedTuple") -> dict[str, Field]:
    """Name -> Field of any layout of this module."""
    if isinstance(layout, Layout):
        return layout.fields
    names = layout._fields
    return {name: value for name, value in zip(names, layout) if isinstance(value, Field)}
