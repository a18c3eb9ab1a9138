/* Compiled as Microsoft's compiler does by default: stack probes and security cookies. */
#include "dry.h"
IN void API KeBugCheckEx(ULONG, SIZE, SIZE, SIZE, SIZE);
SIZE __security_cookie = (SIZE)0x2B992DDFA232ULL;
#ifdef _M_IX86
#define FASTCALL __fastcall
#else
#define FASTCALL
#endif
void FASTCALL __security_check_cookie(SIZE cookie)
{
    if (cookie != __security_cookie) KeBugCheckEx(0xF7, cookie, __security_cookie, ~__security_cookie, 0);
}
static NOINLINE __attribute__((no_stack_protector)) void Fill(volatile UCHAR *room, ULONG size, UCHAR with)
{
    for (ULONG i = 0; i < size; i += 64) room[i] = with;
}
__attribute__((no_stack_protector)) NTSTATUS API LargeFrame(EXTENSION *e)
{
    volatile UCHAR room[0x2000];
    Fill(room, sizeof room, (UCHAR)e->Size);
    return room[0] == (UCHAR)e->Size ? OK : UNSUCCESSFUL;
}
__attribute__((no_stack_protector)) NTSTATUS API TooLargeFrame(EXTENSION *e)
{
    volatile UCHAR room[0x8000];
    Fill(room, sizeof room, (UCHAR)e->Size);
    return room[0] == (UCHAR)e->Size ? OK : UNSUCCESSFUL;
}
NTSTATUS API CookieRight(EXTENSION *e)
{
    volatile UCHAR room[32];
    Fill(room, 1, (UCHAR)e->Size);
    return room[0] == (UCHAR)e->Size ? OK : UNSUCCESSFUL;
}
NTSTATUS API CookieWrong(EXTENSION *e)
{
    volatile UCHAR room[32];
    volatile UCHAR *at = room;
    for (ULONG i = 0; i < sizeof room + 24; i++) at[i] = (UCHAR)e->Size;
    return OK;
}
#if defined(_M_ARM64)
__asm__(".globl __chkstk\n__chkstk: lsl x16, x15, #4\nmov x17, sp\n1: subs x16, x16, #4096\nsub x17, x17, #4096\nldr xzr, [x17]\nb.gt 1b\nret\n");
#elif defined(_M_IX86)
__asm__(".globl __chkstk\n__chkstk: push %ecx\nlea 8(%esp), %ecx\n1: cmp $0x1000, %eax\njb 2f\nsub $0x1000, %ecx\ntest %ecx, (%ecx)\nsub $0x1000, %eax\njmp 1b\n2: sub %eax, %ecx\ntest %ecx, (%ecx)\nmov %esp, %eax\nmov %ecx, %esp\nmov (%eax), %ecx\nmov 4(%eax), %eax\npush %eax\nret\n");
#else
__asm__(".globl __chkstk\n__chkstk: lea 8(%rsp), %r10\nmov %r10, %r11\nsub %rax, %r11\n1: sub $0x1000, %r10\ntest %r10, (%r10)\ncmp %r11, %r10\nja 1b\nret\n");
#endif
