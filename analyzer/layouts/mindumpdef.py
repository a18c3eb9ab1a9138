"""mindumpdef.h and wdbgexts.h: the headers of a kernel dump file.

Invariant: 32-bit and 64-bit layouts have the same attribute names, each a ``Field(offset, format)``
for ``struct.unpack_from("<" + format, data, offset)``; None where one of the two lacks the field.
Source: the Windows SDK headers; the triage and summary headers from the public WDK type tables. The
64-bit header and triage offsets were read off 52 real dumps.
"""

from __future__ import annotations

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
    5: "bitmap full",
    6: "bitmap kernel",
    7: "automatic",
    8: "range kernel",  # 8 to 10 are not in the SDK: written by current debuggers
    9: "range kernel and user",
    10: "range complete",
}

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
}

LIVE_DUMP = 0x10  # LiveDumpGeneratedDump
_NO_CRASH = (0, 0x161)  # 0: no bugcheck; 0x161 LIVE_SYSTEM_DUMP
_M_VARIANT = 0x10000000  # the same bugcheck code with "_M" behind its name


def is_of_running_system(attributes: Any, bugcheck: Any) -> bool:
    """True when header fields say that the system was running; what is no number says nothing."""
    is_live = isinstance(attributes, int) and attributes & LIVE_DUMP
    return bool(is_live or (isinstance(bugcheck, int) and bugcheck & ~_M_VARIANT in _NO_CRASH))


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


class DumpHeader(NamedTuple):
    """DUMP_HEADER32 or DUMP_HEADER64."""

    pointer_size: int
    size: int
    Signature: Field
    ValidDump: Field
    MajorVersion: Field
    MinorVersion: Field
    DirectoryTableBase: Field
    PfnDataBase: Field
    PsLoadedModuleList: Field
    PsActiveProcessHead: Field
    MachineImageType: Field
    NumberProcessors: Field
    BugCheckCode: Field
    BugCheckParameter1: Field
    BugCheckParameter2: Field
    BugCheckParameter3: Field
    BugCheckParameter4: Field
    VersionUser: Field
    PaeEnabled: Field | None
    KdSecondaryVersion: Field
    KdDebuggerDataBlock: Field
    PhysicalMemoryBlock: Field
    NumberOfRuns: Field
    NumberOfPages: Field
    Runs: Field  #: the first PHYSICAL_MEMORY_RUN: pairs (BasePage, PageCount) follow one another
    ContextRecord: Field
    Exception: Field
    DumpType: Field
    RequiredDumpSpace: Field
    SystemTime: Field
    Comment: Field
    SystemUpTime: Field
    MiniDumpFields: Field
    SecondaryDataState: Field
    ProductType: Field
    SuiteMask: Field
    WriterStatus: Field
    Attributes: Field
    BootId: Field


DumpHeader64 = DumpHeader(
    pointer_size=8,
    size=0x2000,
    Signature=Field(0x00, "4s"),
    ValidDump=Field(0x04, "4s"),
    MajorVersion=Field(0x08, "I"),
    MinorVersion=Field(0x0C, "I"),
    DirectoryTableBase=Field(0x10, "Q"),  # the low 12 bits can hold a PCID
    PfnDataBase=Field(0x18, "Q"),
    PsLoadedModuleList=Field(0x20, "Q"),
    PsActiveProcessHead=Field(0x28, "Q"),
    MachineImageType=Field(0x30, "I"),
    NumberProcessors=Field(0x34, "I"),
    BugCheckCode=Field(0x38, "I"),
    BugCheckParameter1=Field(0x40, "Q"),
    BugCheckParameter2=Field(0x48, "Q"),
    BugCheckParameter3=Field(0x50, "Q"),
    BugCheckParameter4=Field(0x58, "Q"),
    VersionUser=Field(0x60, "32s"),
    PaeEnabled=None,
    KdSecondaryVersion=Field(0x104D, "B"),
    KdDebuggerDataBlock=Field(0x80, "Q"),
    PhysicalMemoryBlock=Field(0x88, "700s"),
    NumberOfRuns=Field(0x88, "I"),
    NumberOfPages=Field(0x90, "Q"),
    Runs=Field(0x98, "16s"),
    ContextRecord=Field(0x348, "3000s"),
    Exception=Field(0xF00, "152s"),
    DumpType=Field(0xF98, "I"),
    RequiredDumpSpace=Field(0xFA0, "Q"),
    SystemTime=Field(0xFA8, "Q"),
    Comment=Field(0xFB0, "128s"),
    SystemUpTime=Field(0x1030, "Q"),
    MiniDumpFields=Field(0x1038, "I"),
    SecondaryDataState=Field(0x103C, "I"),
    ProductType=Field(0x1040, "I"),
    SuiteMask=Field(0x1044, "I"),
    WriterStatus=Field(0x1048, "I"),
    Attributes=Field(0x1050, "I"),
    BootId=Field(0x1054, "I"),
)

DumpHeader32 = DumpHeader(
    pointer_size=4,
    size=0x1000,
    Signature=Field(0x00, "4s"),
    ValidDump=Field(0x04, "4s"),
    MajorVersion=Field(0x08, "I"),
    MinorVersion=Field(0x0C, "I"),
    DirectoryTableBase=Field(0x10, "I"),
    PfnDataBase=Field(0x14, "I"),
    PsLoadedModuleList=Field(0x18, "I"),
    PsActiveProcessHead=Field(0x1C, "I"),
    MachineImageType=Field(0x20, "I"),
    NumberProcessors=Field(0x24, "I"),
    BugCheckCode=Field(0x28, "I"),
    BugCheckParameter1=Field(0x2C, "I"),
    BugCheckParameter2=Field(0x30, "I"),
    BugCheckParameter3=Field(0x34, "I"),
    BugCheckParameter4=Field(0x38, "I"),
    VersionUser=Field(0x3C, "32s"),
    PaeEnabled=Field(0x5C, "B"),
    KdSecondaryVersion=Field(0x5D, "B"),
    KdDebuggerDataBlock=Field(0x60, "I"),
    PhysicalMemoryBlock=Field(0x64, "700s"),
    NumberOfRuns=Field(0x64, "I"),
    NumberOfPages=Field(0x68, "I"),
    Runs=Field(0x6C, "8s"),
    ContextRecord=Field(0x320, "1200s"),
    Exception=Field(0x7D0, "80s"),
    DumpType=Field(0xF88, "I"),
    RequiredDumpSpace=Field(0xFA0, "Q"),
    SystemTime=Field(0xFC0, "Q"),
    Comment=Field(0x820, "128s"),
    SystemUpTime=Field(0xFB8, "Q"),
    MiniDumpFields=Field(0xF8C, "I"),
    SecondaryDataState=Field(0xF90, "I"),
    ProductType=Field(0xF94, "I"),
    SuiteMask=Field(0xF98, "I"),
    WriterStatus=Field(0xF9C, "I"),
    Attributes=Field(0x8A0, "I"),
    BootId=Field(0x8A4, "I"),
)


class TriageDump(NamedTuple):
    """TRIAGE_DUMP32 or TRIAGE_DUMP64: follows the header; its offsets count from the file start."""

    pointer_size: int
    size: int
    ServicePackBuild: Field
    SizeOfDump: Field
    ValidOffset: Field
    ContextOffset: Field
    ExceptionOffset: Field
    MmOffset: Field
    UnloadedDriversOffset: Field
    PrcbOffset: Field
    ProcessOffset: Field
    ThreadOffset: Field
    CallStackOffset: Field
    SizeOfCallStack: Field
    DriverListOffset: Field
    DriverCount: Field
    StringPoolOffset: Field
    StringPoolSize: Field
    BrokenDriverOffset: Field
    TriageOptions: Field
    TopOfStack: Field
    DataPageAddress: Field
    DataPageOffset: Field
    DataPageSize: Field
    DebuggerDataOffset: Field
    DebuggerDataSize: Field
    DataBlocksOffset: Field
    DataBlocksCount: Field


#: The word at TRIAGE_DUMP.ValidOffset; its lack means a cut dump.
TRIAGE_VALID = b"TRGD"

_TRIAGE_HEAD = {
    name: Field(4 * index, "I")
    for index, name in enumerate(TriageDump._fields[2 : TriageDump._fields.index("TopOfStack")])
}

TriageDump64 = TriageDump(
    pointer_size=8,
    size=0x80,
    **_TRIAGE_HEAD,
    TopOfStack=Field(0x48, "Q"),  # 0x50: 16 bytes of IA-64
    DataPageAddress=Field(0x60, "Q"),
    DataPageOffset=Field(0x68, "I"),
    DataPageSize=Field(0x6C, "I"),
    DebuggerDataOffset=Field(0x70, "I"),
    DebuggerDataSize=Field(0x74, "I"),
    DataBlocksOffset=Field(0x78, "I"),
    DataBlocksCount=Field(0x7C, "I"),
)

TriageDump32 = TriageDump(
    pointer_size=4,
    size=0x68,
    **_TRIAGE_HEAD,
    TopOfStack=Field(0x48, "I"),
    DataPageAddress=Field(0x4C, "I"),
    DataPageOffset=Field(0x50, "I"),
    DataPageSize=Field(0x54, "I"),
    DebuggerDataOffset=Field(0x58, "I"),
    DebuggerDataSize=Field(0x5C, "I"),
    DataBlocksOffset=Field(0x60, "I"),
    DataBlocksCount=Field(0x64, "I"),
)


class SummaryDump(NamedTuple):
    """SUMMARY_DUMP32 or SUMMARY_DUMP64: the bitmap of a type 2 dump."""

    pointer_size: int
    Signature: Field
    ValidDump: Field
    DumpOptions: Field
    HeaderSize: Field
    BitmapSize: Field
    Pages: Field
    SizeOfBitMap: Field
    Buffer: Field
    bitmap: int  #: offset of the first bitmap byte


_SUMMARY_HEAD = {
    "Signature": Field(0x00, "4s"),
    "ValidDump": Field(0x04, "4s"),
    "DumpOptions": Field(0x08, "I"),
    "HeaderSize": Field(0x0C, "I"),
    "BitmapSize": Field(0x10, "I"),
    "Pages": Field(0x14, "I"),
    "SizeOfBitMap": Field(0x18, "I"),
}
SummaryDump64 = SummaryDump(8, **_SUMMARY_HEAD, Buffer=Field(0x20, "Q"), bitmap=0x28)
SummaryDump32 = SummaryDump(4, **_SUMMARY_HEAD, Buffer=Field(0x1C, "I"), bitmap=0x20)


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


DEBUGGER_DATA = DebuggerData()
DEBUGGER_DATA_TAG = b"KDBG"


def fields(layout: tuple[Any, ...]) -> dict[str, Field]:
    """Name -> Field of any layout of this module, without plain numbers and missing fields."""
    names = layout._fields  # type: ignore[attr-defined]
    return {name: value for name, value in zip(names, layout) if isinstance(value, Field)}
