/* Stands for the dump port driver and its miniport: only their addresses matter. */
#include "guest.h"

NTSTATUS DiskDumpWrite(PVOID offset, PVOID mdl)
{
    (void)offset;
    (void)mdl;
    return 0;
}

int DriverEntry(void)
{
    return 0;
}
