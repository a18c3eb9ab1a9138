/* "nt": the objects that a debugger looks for, an idle loop, and the requests of the simulator. */
#include "guest.h"

LIST_ENTRY PsLoadedModuleList, PsActiveProcessHead;
ULONG64 KdDebuggerDataBlock[112];
ULONG64 KiProcessorBlock[64];
ULONG64 KiBugCheckData[5];
ULONG CmNtCSDVersion;
char NtBuildLab[] = "19041.1.amd64fre.vb_release.191206-1406";
ULONG64 PhysicalMemory[4];
PVOID MmPhysicalMemoryBlock = PhysicalMemory;
SHARED Shared;
/* crashdmp's routine, set by the simulator */
void (*Crashdmp)(ULONG request, ULONG stack, ULONG index);

/* ntoseye takes these offsets from nt's symbols; the engine knows them by heart */
typedef struct _KLDR_DATA_TABLE_ENTRY {
    LIST_ENTRY InLoadOrderLinks;
    PVOID ExceptionTable;
    ULONG ExceptionTableSize;
    PVOID GpValue, NonPagedDebugInfo, DllBase, EntryPoint;
    ULONG SizeOfImage;
    UNICODE_STRING FullDllName, BaseDllName;
    ULONG Flags;
    USHORT LoadCount, u1;
    PVOID SectionPointer;
    ULONG CheckSum, CoverageSectionSize;
    PVOID CoverageSection, LoadedImports, Spare;
    ULONG SizeOfImageNotRounded, TimeDateStamp;
} KLDR_DATA_TABLE_ENTRY;
KLDR_DATA_TABLE_ENTRY TypeHolder;

__attribute__((naked)) void RtlpBreakWithStatusInstruction(void)
{
    __asm__("int3; ret");
}

__attribute__((noinline)) void KiIdleLoop(void)
{
    for (volatile int i = 0; i < 500; i++) {
    }
    Shared.Idle++;
}

/* reached when a request is done: a place for a test to stop at */
__attribute__((noinline)) void KiRequestDone(void)
{
    *(volatile ULONG *)&Shared.Request = 0;
}

__attribute__((noinline)) void KeBugCheckEx(void)
{
    if (Shared.Request == REQUEST_DUMP && Shared.Stack == CRASH) KiBugCheckData[0] = 0xE2;
    Crashdmp(Shared.Request, Shared.Stack, Shared.Index);
    KiRequestDone();
}

int KiSystemStartup(void)
{
    for (;;) {
        KiIdleLoop();
        if (*(volatile ULONG *)&Shared.Request) KeBugCheckEx();
    }
}
