"""Routines of nt and hal that a dry run answers itself or that end it, as data.

Invariant: everything that is not listed here is executed as the target's memory has it. The third
column is the number of arguments, which 32-bit routines take off the stack (``stdcall``).
Sources: the WDK pages of the routines; "Crash Dump Filter Drivers" (callbacks run at HIGH_LEVEL).
"""

from __future__ import annotations

from typing import NamedTuple

# what a routine does in a dry run
BUGCHECK = "bugcheck"  #: ends it: the arguments are a bugcheck's
RAISE = "raise"  #: ends it: raises an exception
WAIT = "wait"  #: ends it: needs the scheduler, which does not run any more
STALL = "stall"  #: takes the time that it is asked for
ZERO = "zero"  #: gives back 0
IRQL = "irql"  #: gives back HIGH_LEVEL
ALLOCATE = "allocate"  #: gives memory, which is an assumption
FREE = "free"  #: gives back nothing
CLOCK = "clock"  #: gives the emulated time
DISPATCH = "dispatch"  #: control flow guard: goes on to the routine in a register
CHECK = "check"  #: control flow guard: returns
RUN = "run"  #: executed as any other code; listed because it is forbidden


class Routine(NamedTuple):
    """How a dry run treats one routine."""

    name: str
    does: str
    arguments: int
    detail: int = 0  #: ALLOCATE: which argument is the size; BUGCHECK: how many are shown
    forbidden: bool = False  #: not to be called at HIGH_LEVEL


def _rows(does: str, names: str, arguments: int, detail: int = 0, forbidden: bool = False) -> None:
    for name in names.split():
        ROUTINES[name] = Routine(name, does, arguments, detail, forbidden)


ROUTINES: dict[str, Routine] = {}
_rows(BUGCHECK, "KeBugCheckEx KeBugCheck3", 5, 5)
_rows(BUGCHECK, "KeBugCheck", 1, 1)
_rows(BUGCHECK, "KeBugCheck2", 6, 5)
_rows(RAISE, "ExRaiseStatus RtlRaiseStatus RtlFailFast2", 1, 1)
_rows(RAISE, "ExRaiseAccessViolation ExRaiseDatatypeMisalignment", 0)
_rows(RAISE, "HalReturnToFirmware", 1, 1)
_rows(STALL, "KeStallExecutionProcessor", 1)
_rows(ZERO, "DbgPrint DbgPrintEx vDbgPrintEx vDbgPrintExWithPrefix", 0)
_rows(IRQL, "KeGetCurrentIrql", 0)
_rows(CLOCK, "KeQueryPerformanceCounter", 1)
_rows(ALLOCATE, "ExAllocatePoolWithTag ExAllocatePoolWithQuotaTag ExAllocatePoolZero", 3, 1, True)
_rows(ALLOCATE, "ExAllocatePool ExAllocatePoolWithQuota", 2, 1, True)
_rows(ALLOCATE, "ExAllocatePoolWithTagPriority", 4, 1, True)
# ExAllocatePool2(ULONG64, SIZE_T, ULONG): the first takes two words of a 32-bit stack
_rows(ALLOCATE, "ExAllocatePool2", 4, 2, True)
_rows(ALLOCATE, "MmAllocateNonCachedMemory", 1, 0, True)
_rows(FREE, "ExFreePool", 1, forbidden=True)
_rows(FREE, "ExFreePoolWithTag MmFreeNonCachedMemory", 2, forbidden=True)
_rows(FREE, "ExFreePool2", 4, forbidden=True)
_rows(
    WAIT,
    "KeWaitForSingleObject KeWaitForMultipleObjects KeDelayExecutionThread KeWaitForMutexObject "
    "ExAcquireFastMutex ExAcquireFastMutexUnsafe KeAcquireGuardedMutex ExAcquireResourceSharedLite "
    "ExAcquireResourceExclusiveLite KeIpiGenericCall ZwWaitForSingleObject PsCreateSystemThread "
    "IofCallDriver IoCallDriver ZwCreateFile ZwOpenFile ZwWriteFile ZwReadFile ZwClose ZwOpenKey "
    "ZwQueryValueKey ZwSetValueKey",
    0,
    forbidden=True,
)
_rows(
    RUN,
    "KeAcquireSpinLockRaiseToDpc KfAcquireSpinLock KeAcquireSpinLock KeSetEvent KePulseEvent "
    "KeReleaseSemaphore KeReleaseMutex KeSetTimer KeSetTimerEx KeInsertQueueDpc IoAllocateIrp "
    "IoAllocateMdl IoFreeMdl IoBuildSynchronousFsdRequest IoBuildDeviceIoControlRequest "
    "MmMapIoSpace MmMapIoSpaceEx MmUnmapIoSpace MmMapLockedPages MmMapLockedPagesSpecifyCache "
    "MmProbeAndLockPages MmUnlockPages MmAllocateContiguousMemory MmGetSystemRoutineAddress "
    "ExQueueWorkItem IoQueueWorkItem ObReferenceObjectByHandle "
    "ObfDereferenceObject EtwWrite EtwWriteTransfer IoWriteErrorLogEntry RtlQueryRegistryValues",
    0,
    forbidden=True,
)

#: control flow guard's pointers in the load configuration: offset by pointer size -> what it does
GUARD_POINTERS = {
    8: ((0x70, CHECK), (0x78, DISPATCH), (0x118, CHECK), (0x120, DISPATCH), (0x128, DISPATCH)),
    4: ((0x48, CHECK),),
}
