/* Typical routines of crash dump filter drivers, one export each; what each must do is beside it
   in tests/test_dryrun_drivers.py. */
#include "dry.h"
#if defined(_M_ARM64)
#include <arm_neon.h>
#else
#include <wmmintrin.h>
#endif
IN void API KeBugCheckEx(ULONG, SIZE, SIZE, SIZE, SIZE);
IN void API KeStallExecutionProcessor(ULONG);
IN PVOID API ExAllocatePoolWithTag(ULONG, SIZE, ULONG);
IN UCHAR API KeGetCurrentIrql(void);
IN void API ExRaiseStatus(NTSTATUS);
IN NTSTATUS API KeWaitForSingleObject(PVOID, ULONG, ULONG, ULONG, PVOID);
IN ULONG API RtlComputeSum(const UCHAR *, ULONG);
IN ULONG API MmPagedFunction(ULONG);

typedef NTSTATUS API ROUTINE(EXTENSION *);
typedef struct { ULONG Magic, Count; ULONG64 Key[4]; UCHAR *Table; ROUTINE *Helper; UCHAR *Device; } DATA;
EXPORT ROUTINE HelperOk;
extern UCHAR Paged[];
EXPORT DATA Data = {0x544C4644, 3, {1, 2, 3, 4}, 0, HelperOk, 0};
EXPORT volatile ULONG Flag, Arrived = 1;
EXPORT ULONG Started, Context[16];
EXPORT UCHAR Buffer[0x10000] = {1};
const UCHAR Pattern[64] = "the quick brown fox jumps over the lazy dog, and back again now";

#define START(name) EXPORT NTSTATUS API name(EXTENSION *e)
#define D ((DATA *)e->DumpData)

START(HelperOk) { return e->Geometry.BytesPerSector == 512 ? OK : UNSUCCESSFUL; }
START(MagicWrong) { return D->Magic == 0x12345678 ? OK : ACCESS_DENIED; }
START(ReadsData) {
    ULONG64 sum = 0;
    for (ULONG i = 0; i < D->Count; i++) sum += D->Key[i];
    return sum == 6 && e->Geometry.BytesPerSector == 512 ? OK : UNSUCCESSFUL;
}
START(OnlyExtension) { return e->DiskSize > 1000 && e->Size == sizeof *e ? OK : UNSUCCESSFUL; }
START(WritesContext) {
    for (ULONG i = 0; i < 16; i++) Context[i] = (i + 1) * (ULONG)e->DiskSize;
    e->Flags |= 4;
    return OK;
}
START(Allocates) {
    UCHAR *p = ExAllocatePoolWithTag(512, 0x2000, 'tlfD');
    if (!p) return NO_MEMORY;
    p[0x1fff] = 1; D->Table = p;
    return OK;
}
START(Bugchecks) { if (D->Count == 3) KeBugCheckEx(0xDEADDEAD, (SIZE)e, 2, 3, 4); return OK; }
START(Spins) { while (!Flag) {} return OK; }
START(WaitsForProcessor) {
    __atomic_fetch_or(&Flag, 0, __ATOMIC_SEQ_CST);
    while (Arrived < 2) KeStallExecutionProcessor(10);
    return OK;
}
START(GivesUpWaiting) {
    for (ULONG tries = 0; tries < 100; tries++) {
        if (Flag) return OK;
        KeStallExecutionProcessor(50);
    }
    return (NTSTATUS)0xC00000B5; /* STATUS_IO_TIMEOUT */
}
START(PagedData) { return Paged[0x20] ? OK : UNSUCCESSFUL; }
START(PagedCode) { return MmPagedFunction(3) == 4 ? OK : UNSUCCESSFUL; }
__attribute__((section("PAGE"), noinline)) NTSTATUS API OwnPaged(ULONG n) { return n == 512 ? OK : UNSUCCESSFUL; }
START(OwnPageableCode) { return OwnPaged(e->Geometry.BytesPerSector); }
START(Port) {
#if defined(_M_ARM64)
    return *(volatile ULONG *)D->Device ? UNSUCCESSFUL : OK;
#else
    UCHAR s;
    do { __asm__ volatile("inb %%dx, %%al" : "=a"(s) : "d"((USHORT)0x1F7)); } while (s & 0x80);
    return s & 1 ? UNSUCCESSFUL : OK;
#endif
}
START(Device) { return *(volatile ULONG *)(D->Device + 0x80) & 1 ? UNSUCCESSFUL : OK; }
START(CallsNt) {
    if (KeGetCurrentIrql() != (sizeof(PVOID) == 4 ? 31 : 15)) return UNSUCCESSFUL;
    KeStallExecutionProcessor(50);
    return RtlComputeSum((UCHAR *)D->Key, sizeof D->Key) ? OK : UNSUCCESSFUL;
}
static NOINLINE ULONG Down(ULONG n) { volatile UCHAR room[64]; room[n & 63] = 1; return Down(n + 1) + room[n & 63]; }
START(Recursion) { return Down(e->Size) ? OK : UNSUCCESSFUL; }
static NOINLINE ULONG Fib(ULONG n) { return n < 2 ? n : Fib(n - 1) + Fib(n - 2); }
START(RecursionEnds) { return Fib(12) == 144 && e->Size ? OK : UNSUCCESSFUL; }
START(ByTheClock) { /* 10 ms */
    ULONG64 start = __builtin_readcyclecounter();
    while (__builtin_readcyclecounter() - start < 20000000) {}
    return e->Size ? OK : UNSUCCESSFUL;
}
START(RunsOnce) { if (Started) return UNSUCCESSFUL; Started = 1; return e->Size ? OK : UNSUCCESSFUL; }
START(PointerFromData) { return D->Helper(e); }
START(FloatingPoint) {
    volatile double a = e->Geometry.BytesPerSector, b = 4.0;
    volatile float c = (float)(a / b);
    return (ULONG)(a / b) == 128 && c == 128.0f ? OK : UNSUCCESSFUL;
}
START(WritesConstant) { *(volatile UCHAR *)Pattern = (UCHAR)e->Size; return OK; }
START(Strings) {
#if defined(_M_ARM64)
    __builtin_memcpy(Buffer, Pattern, 64);
#else
    const UCHAR *s = Pattern; UCHAR *d = Buffer; SIZE n = 64;
    __asm__ volatile("cld; rep movsb" : "+S"(s), "+D"(d), "+c"(n) : : "memory");
    d = Buffer + 64; n = 32;
    __asm__ volatile("rep stosl" : "+D"(d), "+c"(n) : "a"(0x01020304) : "memory");
#endif
    ULONG same = 0;
    for (ULONG i = 0; i < 64; i++) same += Buffer[i] == Pattern[i];
    return same == 64 && e->Size ? OK : UNSUCCESSFUL;
}
START(Aes) { /* the example round of Intel's white paper on AES-NI */
    static const UCHAR state[16] = {0x5d,0x47,0x53,0x5d,0x72,0x6f,0x74,0x63,0x65,0x56,0x74,0x73,0x65,0x54,0x5b,0x7b};
    static const UCHAR key[16] = {0x5d,0x6e,0x6f,0x72,0x65,0x75,0x47,0x5b,0x29,0x79,0x61,0x68,0x53,0x28,0x69,0x48};
    static const UCHAR result[16] = {0x95,0xe5,0xd7,0xde,0x58,0x4b,0x10,0x8b,0xc5,0xa3,0xdb,0x9f,0x2f,0x1c,0x31,0xa8};
    UCHAR out[16];
#if defined(_M_ARM64)
    uint8x16_t v = vaesmcq_u8(vaeseq_u8(vld1q_u8(state), vdupq_n_u8(0)));
    vst1q_u8(out, veorq_u8(v, vld1q_u8(key)));
#else
    _mm_storeu_si128((__m128i *)out, _mm_aesenc_si128(_mm_loadu_si128((const __m128i *)state), _mm_loadu_si128((const __m128i *)key)));
#endif
    ULONG same = 0;
    for (ULONG i = 0; i < 16; i++) same += out[i] == result[i];
    return same == 16 && e->Size ? OK : UNSUCCESSFUL;
}
START(ProcessorBlock) {
    SIZE self;
#if defined(_M_ARM64)
    __asm__ volatile("ldr %0, [x18, #0x18]" : "=r"(self));
#elif defined(_M_IX86)
    __asm__ volatile("movl %%fs:0x1c, %0" : "=r"(self));
#else
    __asm__ volatile("movq %%gs:0x18, %0" : "=r"(self));
#endif
    return self & 1 || !e->Size ? UNSUCCESSFUL : *(ULONG *)(self + 0x100) == 7 ? OK : UNSUCCESSFUL;
}
START(FastFails) {
    if (e->Size) {
#if defined(_M_ARM64)
        register SIZE code __asm__("x0") = 3;
        __asm__ volatile("brk #0xf003" : : "r"(code));
#else
        __asm__ volatile("int $0x29" : : "c"((SIZE)3));
#endif
    }
    return OK;
}
START(Raises) { ExRaiseStatus(ACCESS_DENIED); return e->Size; }
START(Waits) { return KeWaitForSingleObject(e->DumpData, 0, 0, 0, 0); }
START(FollowsPointer) { return *(volatile ULONG *)(D->Table + 0x10) ? OK : UNSUCCESSFUL; }
START(Compute) { /* 100,000 instructions and more, a store and a load in each turn */
    volatile ULONG *room = (ULONG *)Buffer;
    for (ULONG i = 0; i < 12000; i++) room[i & 1023] += i * e->Size;
    return OK;
}
extern NTSTATUS API LargeFrame(EXTENSION *), API TooLargeFrame(EXTENSION *), API CookieRight(EXTENSION *), API CookieWrong(EXTENSION *);
EXPORT ROUTINE *const Others[] = {LargeFrame, TooLargeFrame, CookieRight, CookieWrong};

/* Dump_Write as an encrypting filter has it: checks the MDL, copies, "encrypts", swaps the MDL. */
#define MAPPED 1
#define NONPAGED 4
static NOINLINE void Encrypt(UCHAR *d, const UCHAR *s, ULONG n)
{
    for (ULONG i = 0; i < n; i += 8)
        *(volatile ULONG64 *)(d + i) = *(volatile const ULONG64 *)(s + i) ^ 0x5a5a5a5a5a5a5a5aULL;
}
static void Check(const ULONG64 *offset, const MDL *m)
{
    if (m->ByteCount > sizeof Buffer) KeBugCheckEx(0x29, 0x80000005, 0, 0, 0);
    if (m->ByteCount & 511 || *offset & 511) KeBugCheckEx(0x29, 0xC000000D, 1, 0, 0);
}
static NTSTATUS Write(MDL *m, const UCHAR *from)
{
    Encrypt(Buffer, from, m->ByteCount);
    m->MappedSystemVa = Buffer; m->StartVa = Buffer; m->ByteOffset = 0;
    return OK;
}
#define WRITE(name) EXPORT NTSTATUS API name(EXTENSION *e, ULONG64 *offset, MDL *m)
/* asks for nonpaged pool and uses StartVa: right on the Windows that it was written for */
WRITE(WriteNonpagedOnly) {
    Check(offset, m);
    if (!(m->Flags & NONPAGED)) KeBugCheckEx(0x29, 0xC000000D, 2, e->Size, 0);
    return Write(m, (UCHAR *)m->StartVa + m->ByteOffset);
}
/* accepts both flags, but still uses StartVa */
WRITE(WriteStartVa) {
    Check(offset, m);
    if (!(m->Flags & (NONPAGED | MAPPED))) KeBugCheckEx(0x29, 0xC000000D, 2, e->Size, 0);
    return Write(m, (UCHAR *)m->StartVa + m->ByteOffset);
}
WRITE(WriteRight) {
    Check(offset, m);
    if (m->Flags & (MAPPED | NONPAGED)) return Write(m, m->MappedSystemVa);
    KeBugCheckEx(0x29, 0xC000000D, 2, e->Size, 0);
    return UNSUCCESSFUL;
}
START(Finish) { return e->Size ? OK : UNSUCCESSFUL; }
int _fltused;
NTSTATUS API DriverEntry(PVOID a, PVOID b) { Data.Table = Paged; return (SIZE)a + (SIZE)b ? OK : UNSUCCESSFUL; }
__attribute__((section("PAGEDATA"))) UCHAR Paged[0x1000] = {1};
