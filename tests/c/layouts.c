/* The structures of analyzer/layouts as member lists, for the compiler to lay out.
 *
 * Written from the documented member lists: WDK ntdddump.h and ntddstor.h pages, SDK mindumpdef.h and
 * wdbgexts.h, the public WDK type tables (TRIAGE_DUMP, SUMMARY_DUMP), lilhoser/dmpflt (FILTER_CONTEXT).
 * The disk types, LIST_ENTRY, GUID and EXCEPTION_RECORD are not written here: they are the compiler's own.
 * Compiled, never run: tests/test_layouts.py reads the table at the end out of the object file.
 */
#include <stddef.h>
#include <windows.h>
#include <winioctl.h>

#define INIT_VISTA \
  ULONG MajorVersion; ULONG MinorVersion; \
  PVOID DumpStart; PVOID DumpWrite; PVOID DumpFinish; PVOID DumpUnload; \
  PVOID DumpData; ULONG MaxPagesPerWrite; ULONG Flags;
typedef struct { INIT_VISTA } INIT_vista;
typedef struct { INIT_VISTA PVOID DumpRead; } INIT_win8;
typedef struct { INIT_VISTA PVOID DumpRead; PVOID DumpPreReadWrite; } INIT_newest;

#define EXTENSION_V1 \
  int DumpType; PVOID DeviceObject; DISK_GEOMETRY Geometry; LARGE_INTEGER DiskSize; \
  DISK_PARTITION_INFO PartitionInfo; PVOID DumpData;
typedef struct { EXTENSION_V1 } EXTENSION_1;
typedef struct { EXTENSION_V1 ULONG Size; ULONG Flags; } EXTENSION_2;

#define NODE(init, extension) \
  typedef struct { \
    INIT_##init FilterInitData; EXTENSION_##extension FilterExtension; LIST_ENTRY Link; \
    ULONG State; PVOID StackContext; PVOID DriverEntry; \
  } NODE_##init;
NODE(vista, 1)
NODE(win8, 2)
NODE(newest, 2)

/* 32-bit EXCEPTION_RECORD in both compilations, the 64-bit one likewise. */
typedef struct {
  ULONG ExceptionCode, ExceptionFlags, ExceptionRecord, ExceptionAddress, NumberParameters;
  ULONG ExceptionInformation[EXCEPTION_MAXIMUM_PARAMETERS];
} RECORD32;
typedef struct {
  ULONG ExceptionCode, ExceptionFlags; ULONG64 ExceptionRecord, ExceptionAddress;
  ULONG NumberParameters, UnusedAlignment; ULONG64 ExceptionInformation[EXCEPTION_MAXIMUM_PARAMETERS];
} RECORD64;

typedef struct {
  ULONG Signature, ValidDump, MajorVersion, MinorVersion;
  ULONG64 DirectoryTableBase, PfnDataBase, PsLoadedModuleList, PsActiveProcessHead;
  ULONG MachineImageType, NumberProcessors, BugCheckCode;
  ULONG64 BugCheckParameter1, BugCheckParameter2, BugCheckParameter3, BugCheckParameter4;
  CHAR VersionUser[32];
  ULONG64 KdDebuggerDataBlock;
  union {
    struct { ULONG NumberOfRuns; ULONG64 NumberOfPages; struct { ULONG64 BasePage, PageCount; } Runs; };
    UCHAR PhysicalMemoryBlock[700];
  };
  UCHAR ContextRecord[3000];
  RECORD64 Exception;
  ULONG DumpType;
  LARGE_INTEGER RequiredDumpSpace, SystemTime;
  CHAR Comment[128];
  LARGE_INTEGER SystemUpTime;
  ULONG MiniDumpFields, SecondaryDataState, ProductType, SuiteMask, WriterStatus;
  UCHAR Unused1, KdSecondaryVersion, Unused2[2];
  ULONG Attributes, BootId;
  UCHAR Reserved[4008];
} HEADER64;

typedef struct {
  ULONG Signature, ValidDump, MajorVersion, MinorVersion;
  ULONG DirectoryTableBase, PfnDataBase, PsLoadedModuleList, PsActiveProcessHead;
  ULONG MachineImageType, NumberProcessors, BugCheckCode;
  ULONG BugCheckParameter1, BugCheckParameter2, BugCheckParameter3, BugCheckParameter4;
  CHAR VersionUser[32];
  UCHAR PaeEnabled, KdSecondaryVersion, Spare[2];
  ULONG KdDebuggerDataBlock;
  union {
    struct { ULONG NumberOfRuns; ULONG NumberOfPages; struct { ULONG BasePage, PageCount; } Runs; };
    UCHAR PhysicalMemoryBlock[700];
  };
  UCHAR ContextRecord[1200];
  RECORD32 Exception;
  CHAR Comment[128];
  ULONG Attributes, BootId;
  UCHAR Reserved1[1760];
  ULONG DumpType, MiniDumpFields, SecondaryDataState, ProductType, SuiteMask, WriterStatus;
  LARGE_INTEGER RequiredDumpSpace;
  UCHAR Reserved2[16];
  LARGE_INTEGER SystemUpTime, SystemTime;
  UCHAR Reserved3[56];
} HEADER32;

#define TRIAGE_HEAD \
  ULONG ServicePackBuild, SizeOfDump, ValidOffset, ContextOffset, ExceptionOffset, MmOffset; \
  ULONG UnloadedDriversOffset, PrcbOffset, ProcessOffset, ThreadOffset; \
  ULONG CallStackOffset, SizeOfCallStack, DriverListOffset, DriverCount; \
  ULONG StringPoolOffset, StringPoolSize, BrokenDriverOffset, TriageOptions;
#define TRIAGE_TAIL \
  ULONG DataPageOffset, DataPageSize, DebuggerDataOffset, DebuggerDataSize; \
  ULONG DataBlocksOffset, DataBlocksCount;
typedef struct { TRIAGE_HEAD ULONG TopOfStack; ULONG DataPageAddress; TRIAGE_TAIL } TRIAGE32;
typedef struct {
  TRIAGE_HEAD ULONG64 TopOfStack;
  struct { ULONG BStoreOffset, SizeOfBStore; ULONG64 LimitOfBStore; } Ia64;
  ULONG64 DataPageAddress; TRIAGE_TAIL
} TRIAGE64;

#define SUMMARY_HEAD ULONG Signature, ValidDump, DumpOptions, HeaderSize, BitmapSize, Pages, SizeOfBitMap;
typedef struct { SUMMARY_HEAD ULONG Buffer; UCHAR bitmap[1]; } SUMMARY32;
typedef struct { SUMMARY_HEAD ULONG64 Buffer; UCHAR bitmap[1]; } SUMMARY64;

typedef struct {
  ULONG64 List[2]; ULONG OwnerTag, Size;
  ULONG64 KernBase, BreakpointWithStatus, SavedContext;
  USHORT ThCallbackStack, NextCallback, FramePointer, PaeEnabled;
  ULONG64 KiCallUserMode, KeUserCallbackDispatcher, PsLoadedModuleList, PsActiveProcessHead;
  ULONG64 PspCidTable, ExpSystemResourcesList, ExpPagedPoolDescriptor, ExpNumberOfPagedPools;
  ULONG64 KeTimeIncrement, KeBugCheckCallbackListHead, KiBugcheckData;
  ULONG64 IopErrorLogListHead, ObpRootDirectoryObject, ObpTypeObjectType;
  ULONG64 MmSystemCacheStart, MmSystemCacheEnd, MmSystemCacheWs, MmPfnDatabase;
  ULONG64 MmSystemPtesStart, MmSystemPtesEnd, MmSubsectionBase, MmNumberOfPagingFiles;
  ULONG64 MmLowestPhysicalPage, MmHighestPhysicalPage, MmNumberOfPhysicalPages;
  ULONG64 MmMaximumNonPagedPoolInBytes, MmNonPagedSystemStart, MmNonPagedPoolStart, MmNonPagedPoolEnd;
  ULONG64 MmPagedPoolStart, MmPagedPoolEnd, MmPagedPoolInformation, MmPageSize;
  ULONG64 MmSizeOfPagedPoolInBytes, MmTotalCommitLimit, MmTotalCommittedPages, MmSharedCommit;
  ULONG64 MmDriverCommit, MmProcessCommit, MmPagedPoolCommit, MmExtendedCommit;
  ULONG64 MmZeroedPageListHead, MmFreePageListHead, MmStandbyPageListHead, MmModifiedPageListHead;
  ULONG64 MmModifiedNoWritePageListHead, MmAvailablePages, MmResidentAvailablePages;
  ULONG64 PoolTrackTable, NonPagedPoolDescriptor, MmHighestUserAddress, MmSystemRangeStart;
  ULONG64 MmUserProbeAddress, KdPrintCircularBuffer, KdPrintCircularBufferEnd;
  ULONG64 KdPrintWritePointer, KdPrintRolloverCount, MmLoadedUserImageList;
  ULONG64 NtBuildLab, KiNormalSystemCall, KiProcessorBlock, MmUnloadedDrivers, MmLastUnloadedDriver;
  ULONG64 MmTriageActionTaken, MmSpecialPoolTag, KernelVerifier, MmVerifierData;
  ULONG64 MmAllocatedNonPagedPool, MmPeakCommitment, MmTotalCommitLimitMaximum, CmNtCSDVersion;
  ULONG64 MmPhysicalMemoryBlock, MmSessionBase, MmSessionSize, MmSystemParentTablePage;
  ULONG64 MmVirtualTranslationBase;
  USHORT OffsetKThreadNextProcessor, OffsetKThreadTeb, OffsetKThreadKernelStack;
  USHORT OffsetKThreadInitialStack, OffsetKThreadApcProcess, OffsetKThreadState;
  USHORT OffsetKThreadBStore, OffsetKThreadBStoreLimit;
  USHORT SizeEProcess, OffsetEprocessPeb, OffsetEprocessParentCID, OffsetEprocessDirectoryTableBase;
  USHORT SizePrcb, OffsetPrcbDpcRoutine, OffsetPrcbCurrentThread, OffsetPrcbMhz, OffsetPrcbCpuType;
  USHORT OffsetPrcbVendorString, OffsetPrcbProcStateContext, OffsetPrcbNumber;
  USHORT SizeEThread;
  UCHAR L1tfHighPhysicalBitIndex, L1tfSwizzleBitIndex;
  UCHAR not_read[0x338 - 0x2C4];  /* the next one's offset is that which QEMU uses */
  USHORT OffsetPrcbContext;
} DEBUGGER;

#pragma pack(push, 1)
typedef struct { ULONG dwSignature, dwVersion, dwSize; } DEVICE_VERSION;
typedef struct {
  UCHAR Cdb[16], Command[16]; ULONGLONG StartTime, EndTime; ULONG OperationStatus, OperationError;
  union { ULONG SrbTag; } StackSpecific;
} DEVICE_RECORD;
typedef struct {
  DEVICE_VERSION Descriptor; ULONG dwReasonForCollection; UCHAR cDriverName[16]; ULONG uiNumRecords;
} DEVICE_DUMP;
#pragma pack(pop)

/* The table: rows of (name, offset, size) between a first row with this name and an empty one. */
#define M(type, member) {#type "." #member, offsetof(type, member), sizeof(((type *)0)->member)},
#define S(type) {#type, 0, sizeof(type)},
#define E(name) {"enum." #name, name, 0},

#define INIT_ROWS(v) S(INIT_##v) M(INIT_##v, MajorVersion) M(INIT_##v, MinorVersion) \
  M(INIT_##v, DumpStart) M(INIT_##v, DumpWrite) M(INIT_##v, DumpFinish) M(INIT_##v, DumpUnload) \
  M(INIT_##v, DumpData) M(INIT_##v, MaxPagesPerWrite) M(INIT_##v, Flags)
#define EXTENSION_ROWS(v) S(EXTENSION_##v) M(EXTENSION_##v, DumpType) M(EXTENSION_##v, DeviceObject) \
  M(EXTENSION_##v, Geometry) M(EXTENSION_##v, DiskSize) M(EXTENSION_##v, PartitionInfo) \
  M(EXTENSION_##v, DumpData)
#define NODE_ROWS(v) S(NODE_##v) M(NODE_##v, FilterInitData) M(NODE_##v, FilterExtension) \
  M(NODE_##v, Link) M(NODE_##v, State) M(NODE_##v, StackContext) M(NODE_##v, DriverEntry)
#define HEADER_ROWS(h) S(h) M(h, Signature) M(h, ValidDump) M(h, MajorVersion) M(h, MinorVersion) \
  M(h, DirectoryTableBase) M(h, PfnDataBase) M(h, PsLoadedModuleList) M(h, PsActiveProcessHead) \
  M(h, MachineImageType) M(h, NumberProcessors) M(h, BugCheckCode) M(h, BugCheckParameter1) \
  M(h, BugCheckParameter2) M(h, BugCheckParameter3) M(h, BugCheckParameter4) M(h, VersionUser) \
  M(h, KdSecondaryVersion) M(h, KdDebuggerDataBlock) M(h, PhysicalMemoryBlock) M(h, NumberOfRuns) \
  M(h, NumberOfPages) M(h, Runs) M(h, ContextRecord) M(h, Exception) M(h, DumpType) \
  M(h, RequiredDumpSpace) M(h, SystemTime) M(h, Comment) M(h, SystemUpTime) M(h, MiniDumpFields) \
  M(h, SecondaryDataState) M(h, ProductType) M(h, SuiteMask) M(h, WriterStatus) M(h, Attributes) \
  M(h, BootId)
#define TRIAGE_ROWS(t) S(t) M(t, ServicePackBuild) M(t, SizeOfDump) M(t, ValidOffset) \
  M(t, ContextOffset) M(t, ExceptionOffset) M(t, MmOffset) M(t, UnloadedDriversOffset) \
  M(t, PrcbOffset) M(t, ProcessOffset) M(t, ThreadOffset) M(t, CallStackOffset) \
  M(t, SizeOfCallStack) M(t, DriverListOffset) M(t, DriverCount) M(t, StringPoolOffset) \
  M(t, StringPoolSize) M(t, BrokenDriverOffset) M(t, TriageOptions) M(t, TopOfStack) \
  M(t, DataPageAddress) M(t, DataPageOffset) M(t, DataPageSize) M(t, DebuggerDataOffset) \
  M(t, DebuggerDataSize) M(t, DataBlocksOffset) M(t, DataBlocksCount)
#define SUMMARY_ROWS(s) M(s, Signature) M(s, ValidDump) M(s, DumpOptions) M(s, HeaderSize) \
  M(s, BitmapSize) M(s, Pages) M(s, SizeOfBitMap) M(s, Buffer) M(s, bitmap)

const struct { char name[48]; unsigned offset, size; } table[] = {
  {"dumpstart layouts begin", 0, 0},
  INIT_ROWS(vista)
  INIT_ROWS(win8) M(INIT_win8, DumpRead)
  INIT_ROWS(newest) M(INIT_newest, DumpRead) M(INIT_newest, DumpPreReadWrite)
  EXTENSION_ROWS(1)
  EXTENSION_ROWS(2) M(EXTENSION_2, Size) M(EXTENSION_2, Flags)
  NODE_ROWS(vista) NODE_ROWS(win8) NODE_ROWS(newest)
  S(GUID) M(GUID, Data1) M(GUID, Data2) M(GUID, Data3) M(GUID, Data4)
  S(DISK_GEOMETRY) M(DISK_GEOMETRY, Cylinders) M(DISK_GEOMETRY, MediaType)
  M(DISK_GEOMETRY, TracksPerCylinder) M(DISK_GEOMETRY, SectorsPerTrack) M(DISK_GEOMETRY, BytesPerSector)
  S(DISK_PARTITION_INFO) M(DISK_PARTITION_INFO, SizeOfPartitionInfo)
  M(DISK_PARTITION_INFO, PartitionStyle) M(DISK_PARTITION_INFO, Mbr) M(DISK_PARTITION_INFO, Gpt)
  M(DISK_PARTITION_INFO, Mbr.Signature) M(DISK_PARTITION_INFO, Mbr.CheckSum)
  M(DISK_PARTITION_INFO, Gpt.DiskId)
  HEADER_ROWS(HEADER32) M(HEADER32, PaeEnabled) HEADER_ROWS(HEADER64)
  TRIAGE_ROWS(TRIAGE32) TRIAGE_ROWS(TRIAGE64) SUMMARY_ROWS(SUMMARY32) SUMMARY_ROWS(SUMMARY64)
  M(DEBUGGER, OwnerTag) M(DEBUGGER, Size) M(DEBUGGER, KernBase) M(DEBUGGER, SavedContext)
  M(DEBUGGER, PsLoadedModuleList) M(DEBUGGER, PsActiveProcessHead) M(DEBUGGER, KeTimeIncrement)
  M(DEBUGGER, KiBugcheckData) M(DEBUGGER, NtBuildLab) M(DEBUGGER, KiProcessorBlock)
  M(DEBUGGER, MmUnloadedDrivers) M(DEBUGGER, MmLastUnloadedDriver) M(DEBUGGER, MmPhysicalMemoryBlock)
  M(DEBUGGER, OffsetKThreadNextProcessor) M(DEBUGGER, OffsetKThreadTeb)
  M(DEBUGGER, OffsetKThreadKernelStack) M(DEBUGGER, OffsetKThreadInitialStack)
  M(DEBUGGER, OffsetKThreadApcProcess) M(DEBUGGER, OffsetKThreadState)
  M(DEBUGGER, SizeEProcess) M(DEBUGGER, OffsetEprocessPeb) M(DEBUGGER, OffsetEprocessParentCID)
  M(DEBUGGER, OffsetEprocessDirectoryTableBase) M(DEBUGGER, SizePrcb)
  M(DEBUGGER, OffsetPrcbDpcRoutine) M(DEBUGGER, OffsetPrcbCurrentThread) M(DEBUGGER, OffsetPrcbMhz)
  M(DEBUGGER, OffsetPrcbCpuType) M(DEBUGGER, OffsetPrcbVendorString)
  M(DEBUGGER, OffsetPrcbProcStateContext) M(DEBUGGER, OffsetPrcbNumber) M(DEBUGGER, SizeEThread)
  M(DEBUGGER, L1tfHighPhysicalBitIndex) M(DEBUGGER, L1tfSwizzleBitIndex)
  M(DEBUGGER, OffsetPrcbContext)
  S(DEVICE_VERSION) M(DEVICE_VERSION, dwSignature) M(DEVICE_VERSION, dwVersion)
  M(DEVICE_VERSION, dwSize)
  S(DEVICE_RECORD) M(DEVICE_RECORD, Cdb) M(DEVICE_RECORD, Command) M(DEVICE_RECORD, StartTime)
  M(DEVICE_RECORD, EndTime) M(DEVICE_RECORD, OperationStatus) M(DEVICE_RECORD, OperationError)
  M(DEVICE_RECORD, StackSpecific)
  S(DEVICE_DUMP) M(DEVICE_DUMP, Descriptor) M(DEVICE_DUMP, dwReasonForCollection)
  M(DEVICE_DUMP, cDriverName) M(DEVICE_DUMP, uiNumRecords)
  E(Unknown) E(F5_1Pt2_512) E(F3_1Pt44_512) E(F3_2Pt88_512) E(F3_20Pt8_512) E(F3_720_512)
  E(F5_360_512) E(F5_320_512) E(F5_320_1024) E(F5_180_512) E(F5_160_512) E(RemovableMedia)
  E(FixedMedia) E(F3_120M_512) E(F3_640_512) E(F5_640_512) E(F5_720_512) E(F3_1Pt2_512)
  E(F3_1Pt23_1024) E(F5_1Pt23_1024) E(F3_128Mb_512) E(F3_230Mb_512) E(F8_256_128)
  E(F3_200Mb_512) E(F3_240M_512) E(F3_32M_512)
  {"", 0, 0},
};
