/* A filter built with control flow guard: its indirect call goes through nt's routines. */
#include "dry.h"
extern void *__guard_check_icall_fptr, *__guard_dispatch_icall_fptr;
EXPORT void *CheckPointer, *DispatchPointer;
#ifdef _M_IX86
__asm__(".globl ___guard_check_icall_fptr\n___guard_check_icall_fptr = _CheckPointer\n.globl ___guard_dispatch_icall_fptr\n___guard_dispatch_icall_fptr = _DispatchPointer\n");
typedef struct { ULONG Size; UCHAR A[0x44]; void **Check, **Dispatch; void *Table; ULONG Count, Flags; UCHAR B[64]; } CONFIG;
#else
__asm__(".globl __guard_check_icall_fptr\n__guard_check_icall_fptr = CheckPointer\n.globl __guard_dispatch_icall_fptr\n__guard_dispatch_icall_fptr = DispatchPointer\n");
typedef struct { ULONG Size; UCHAR A[0x6C]; void **Check, **Dispatch; void *Table; ULONG64 Count; ULONG Flags; UCHAR B[64]; } CONFIG;
#endif
typedef NTSTATUS API ROUTINE(EXTENSION *);
EXPORT ROUTINE Inner;
ROUTINE *volatile Helper = Inner;
EXPORT NTSTATUS API Inner(EXTENSION *e) { return e->Geometry.BytesPerSector == 512 ? OK : UNSUCCESSFUL; }
EXPORT NTSTATUS API Guarded(EXTENSION *e) { NTSTATUS s = Helper(e); return s ? s : OK; }
const CONFIG _load_config_used = {sizeof(CONFIG), {0}, &CheckPointer, &DispatchPointer, 0, 0, 0x500, {0}};
NTSTATUS API DriverEntry(PVOID a, PVOID b) { return (SIZE)a + (SIZE)b ? OK : UNSUCCESSFUL; }
