/* "crashdmp": loads filters, calls them around a dump, drops one that fails. A stand-in: its order
   of calls follows the WDK's description, its Context the fields that are publicly known. */
#include "guest.h"

extern struct {
    char Signature[4];
    ULONG Unused0;
    PVOID Unused1[2], CrashStack, Unused2[13], SameCrashStack, Unused3[8];
    /* nt!CrashdmpDumpBlock, at 0xD0 */
    ULONG64 BlockUnused[3], BugCheckCode, Parameters[4];
    PVOID FailingRoutine;
    NTSTATUS FailingStatus;
    UCHAR Unused4[0x600];
} Context;
__typeof__(Context) Context = {.Signature = "CDmp", .Unused0 = 1};
_Static_assert(__builtin_offsetof(__typeof__(Context), BugCheckCode) == 0xE8, "dump block");

STACK_CONTEXT *HibernationStack;
/* the filters of both stacks, set by the simulator */
struct {
    NTSTATUS (*Entry)(FILTER_EXTENSION *, FILTER_INITIALIZATION_DATA *);
    ULONG Stack;
    ULONG LoadAtStart;
    FILTER_CONTEXT *Node;
} Filters[8];
STACK_CONTEXT *Stacks[3];
UCHAR *Pool; /* free memory */
SHARED *Shared;
ULONG Writes, Reads;
MDL Mdl;

static void settled(FILTER_CONTEXT *node, PVOID routine, NTSTATUS status)
{
    SHARED *s = Shared;
    if (s->Made < 64) {
        s->Log[s->Made].Routine = (ULONG64)routine;
        s->Log[s->Made].Clock = s->Clock;
        s->Log[s->Made].Processor = s->Processor;
        s->Log[s->Made].Status = status;
    }
    s->Made++;
    if (status >= 0) return;
    node->State |= 1;
    Context.FailingRoutine = routine;
    Context.FailingStatus = status;
}

__attribute__((noinline)) void CrashdmpLoadFilter(ULONG index)
{
    STACK_CONTEXT *stack = Stacks[Filters[index].Stack];
    FILTER_CONTEXT *node = (FILTER_CONTEXT *)Pool;
    Pool += (sizeof *node + 0xFF) & ~0x1FULL;
    node->Init.MajorVersion = 2;
    node->Init.MaxPagesPerWrite = 16;
    node->Extension.DumpType = Filters[index].Stack;
    node->Extension.DeviceObject = stack->AttachedDevice;
    node->Extension.Geometry = stack->Geometry;
    node->Extension.DiskSize = stack->DiskSize;
    node->Extension.PartitionInfo = stack->PartitionInfo;
    node->Extension.Size = sizeof node->Extension;
    node->StackContext = stack;
    Filters[index].Entry(&node->Extension, &node->Init);
    node->Extension.DumpData = node->Init.DumpData;
    node->Link.Flink = &stack->FilterList;
    node->Link.Blink = stack->FilterList.Blink;
    stack->FilterList.Blink->Flink = &node->Link;
    stack->FilterList.Blink = &node->Link;
    Filters[index].Node = node;
}

#define EACH(node, stack)                                                                     \
    for (LIST_ENTRY *at = Stacks[stack]->FilterList.Flink; at != &Stacks[stack]->FilterList;  \
         at = at->Flink)                                                                      \
        for (FILTER_CONTEXT *node =                                                           \
                 (FILTER_CONTEXT *)((UCHAR *)at - __builtin_offsetof(FILTER_CONTEXT, Link));  \
             node; node = 0)                                                                  \
            if (!(node->State & 1))

__attribute__((noinline)) void StartFilterDrivers(ULONG stack)
{
    EACH(node, stack) settled(node, node->Init.DumpStart, node->Init.DumpStart(&node->Extension));
}

__attribute__((noinline)) void TransferThroughFilters(ULONG stack, ULONG64 offset, int read)
{
    EACH(node, stack)
    {
        TRANSFER_ROUTINE *routine = read ? node->Init.DumpRead : node->Init.DumpWrite;
        if (routine) settled(node, routine, routine(&node->Extension, &offset, &Mdl));
    }
}

__attribute__((noinline)) void FinishFilterDrivers(ULONG stack)
{
    EACH(node, stack) settled(node, node->Init.DumpFinish, node->Init.DumpFinish(&node->Extension));
}

__attribute__((noinline)) void CrashdmpWrite(ULONG stack)
{
    if (stack == CRASH) {
        Context.BugCheckCode = 0xE2; /* MANUALLY_INITIATED_CRASH */
    }
    Mdl.Size = sizeof Mdl;
    Mdl.ByteCount = 0x10000;
    StartFilterDrivers(stack);
    for (ULONG i = 0; i < Writes; i++) TransferThroughFilters(stack, 0x1000 + 0x10000 * i, 0);
    for (ULONG i = 0; i < Reads; i++) TransferThroughFilters(stack, 0x1000 + 0x10000 * i, 1);
    FinishFilterDrivers(stack);
}

__attribute__((noinline)) void CrashdmpUnloadFilter(ULONG index)
{
    FILTER_CONTEXT *node = Filters[index].Node;
    settled(node, node->Init.DumpUnload, node->Init.DumpUnload(&node->Extension));
    node->Link.Blink->Flink = node->Link.Flink;
    node->Link.Flink->Blink = node->Link.Blink;
    Filters[index].Node = 0;
}

/* The only way in from nt. */
void CrashdmpRequest(ULONG request, ULONG stack, ULONG index)
{
    if (request == REQUEST_LOAD) CrashdmpLoadFilter(index);
    if (request == REQUEST_DUMP) CrashdmpWrite(stack);
    if (request == REQUEST_UNLOAD) CrashdmpUnloadFilter(index);
}

/* Before a debugger can attach: both dump stacks and the filters that are there from the start. */
int DriverEntry(void)
{
    for (ULONG i = CRASH; i <= HIBERNATION; i++)
        if (Stacks[i]) Stacks[i]->FilterList.Flink = Stacks[i]->FilterList.Blink = &Stacks[i]->FilterList;
    Context.CrashStack = Context.SameCrashStack = Stacks[CRASH];
    HibernationStack = Stacks[HIBERNATION];
    for (ULONG i = 0; i < 8; i++)
        if (Filters[i].Entry && Filters[i].LoadAtStart) CrashdmpLoadFilter(i);
    return 0;
}

void *memcpy(void *to, const void *from, ULONG64 size)
{
    for (ULONG64 i = 0; i < size; i++) ((volatile UCHAR *)to)[i] = ((const UCHAR *)from)[i];
    return to;
}
