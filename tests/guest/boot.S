/* From the reset of the machine to nt: firmware and low stub, each assembled alone (-DPART=n).
 *
 * The low stub (physical 0x1000) has the form that Windows keeps there to start its processors. It
 * brings both processors to 64 bits, tells QEMU's vmcoreinfo device where the guest's dump header
 * lies, as the guest driver "fwcfg" does, and jumps into nt.
 */
.intel_syntax noprefix

#if PART == 0
#define LOW_STACK 0x1ff0
#define NAME_LENGTH 15
.code16
stub:   .byte 0xE9                  /* the bytes that scanners look for: E9 xx 06 00, 1 */
        .word start16 - (stub + 3)
        .byte 0
        .long 1                     /* CompletionFlag */
        .org 0x70
        .quad NT_BOOT               /* LmTarget: an address in nt */
        .org 0xA0
        .quad ROOT                  /* ProcessorState.SpecialRegisters.Cr3 */
        .org 0x200
gdt:    .quad 0, 0, 0x00AF9A000000FFFF, 0x00CF92000000FFFF, 0x00CF9A000000FFFF
gdtr:   .word . - gdt - 1
        .long gdt
        .org 0x610
start16:
        cli
        xor eax, eax
        mov ds, ax
        data32 lgdt [gdtr]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        .byte 0x66, 0xEA            /* far jump, 32-bit offset */
        .long start32
        .word 0x20
.code32
start32:
        mov ax, 0x18
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov eax, 1
        cpuid
        shr ebx, 24
        mov ebp, ebx                /* APIC number */
        test ebp, ebp
        jnz 1f
        mov esp, LOW_STACK
        call tell_note
        mov dword ptr [0xFEE00300], 0x000C4500     /* INIT to all but this one */
        mov ecx, 10000
0:      loop 0b
        mov dword ptr [0xFEE00300], 0x000C4601     /* start at 0x1000 */
1:      mov eax, cr4
        or eax, 0x6A0               /* PAE, PGE, SSE */
        mov cr4, eax
        mov eax, BOOT_ROOT          /* identity of the first 2 MB, and the kernel half */
        mov cr3, eax
        mov ecx, 0xC0000080
        rdmsr
        or eax, 0x901               /* SCE, LME, NXE */
        wrmsr
        mov eax, 0x80050033
        mov cr0, eax
        .byte 0xEA
        .long start64
        .word 0x10
.code64
start64:
        movabs rbx, PARAMETERS
        shl ebp, 8
        add rbx, rbp
        movabs rax, NT_BOOT
        jmp rax

.code32
tell_note:
        mov dx, 0x510
        mov ax, 0x19                /* the directory of fw_cfg */
        out dx, ax
        inc edx
        mov edi, 4
        call take
        mov esi, eax                /* number of files */
2:      test esi, esi
        jz 9f
        dec esi
        mov edi, 4
        call take                   /* size */
        mov edi, 2
        call take                   /* select key */
        push eax
        mov edi, 2
        call take
        xor ebx, ebx                /* letters that are right */
        xor ecx, ecx
3:      in al, dx
        cmp ecx, NAME_LENGTH
        jae 4f
        cmp al, [note_name + ecx]
        jne 4f
        inc ebx
4:      inc ecx
        cmp ecx, 56
        jb 3b
        pop eax
        cmp ebx, NAME_LENGTH
        jne 2b
        shl eax, 16
        or eax, 0x18                /* select, write */
        bswap eax
        mov [access], eax
        mov dx, 0x514
        xor eax, eax
        out dx, eax
        mov dx, 0x518
        mov eax, offset access
        bswap eax
        out dx, eax
9:      ret
take:   xor eax, eax                /* edi bytes, big-endian */
5:      shl eax, 8
        in al, dx
        dec edi
        jnz 5b
        ret
note_name: .asciz "etc/vmcoreinfo"
        .balign 8
access: .long 0, 0x10000000         /* control, length 16 */
        .long 0
        .long VMCOREINFO_SWAPPED    /* where the block about the note lies, big-endian */
        .org 0xC00
#endif

#if PART == 1   /* firmware: the reset vector jumps to the low stub */
.code16
        .org 0xFFF0
        ljmp 0x0100, 0
        .org 0x10000
#endif
