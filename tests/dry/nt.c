/* The few routines of nt that the filters import; a dry run answers some of them itself. */
#include "dry.h"
#define OUT __declspec(dllexport)
OUT volatile ULONG KeTickCount;
OUT void API KeBugCheckEx(ULONG code, SIZE a, SIZE b, SIZE c, SIZE d) { KeTickCount = code + (ULONG)(a + b + c + d); for (;;) {} }
OUT void API KeStallExecutionProcessor(ULONG us) { for (volatile ULONG i = 0; i < us * 1000; i++) {} }
OUT PVOID API ExAllocatePoolWithTag(ULONG type, SIZE size, ULONG tag) { return (PVOID)(SIZE)(type + size + tag); }
OUT UCHAR API KeGetCurrentIrql(void) { return 0; }
OUT void API ExRaiseStatus(NTSTATUS status) { KeTickCount = status; for (;;) {} }
OUT NTSTATUS API KeWaitForSingleObject(PVOID o, ULONG r, ULONG m, ULONG a, PVOID t) { return (NTSTATUS)((SIZE)o + r + m + a + (SIZE)t); }
OUT ULONG API RtlComputeSum(const UCHAR *from, ULONG size) { ULONG s = 0; while (size--) s = s * 31 + *from++; return s; }
OUT ULONG API MmPagedFunction(ULONG x);
__attribute__((section("PAGE"), noinline)) ULONG API MmPagedFunction(ULONG x) { return x + 1; }
/* what control flow guard's pointers lead to */
#if defined(_M_ARM64)
__asm__(".globl GuardDispatch\nGuardDispatch: br x9\n.globl GuardCheck\nGuardCheck: ret\n");
#elif defined(_M_IX86)
__asm__(".globl _GuardDispatch\n_GuardDispatch: jmp *%eax\n.globl _GuardCheck\n_GuardCheck: ret\n");
#else
__asm__(".globl GuardDispatch\nGuardDispatch: jmp *%rax\n.globl GuardCheck\nGuardCheck: ret\n");
#endif
int Entry(void) { return 0; }
