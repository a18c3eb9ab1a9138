/* What the images of the guest execute; -DIMAGE=n picks one. Assembled for Windows, so that the
 * assembler writes the unwind data (.pdata, .xdata) of each function.
 *
 * Every call is executed by the processor: each return address on its stack is a real one, and the
 * labels behind the calls (at_...) are the truth about the call chain.
 */
.intel_syntax noprefix
.text

.macro function name
        .balign 16, 0xCC
        .globl \name
        .seh_proc \name
\name:
.endm
.macro save register
        push \register
        .seh_pushreg \register
.endm
.macro allocate bytes
        sub rsp, \bytes
        .seh_stackalloc \bytes
        .seh_endprologue
.endm
.macro returns_at name
        .globl at_\name
at_\name:
.endm

#if IMAGE == 0  /* ntoskrnl.exe */
        .globl boot
boot:   mov rax, [rbx]
        mov cr3, rax
        lgdt [rbx + 0x08]
        lidt [rbx + 0x18]
        mov ax, 0x18
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov ecx, 0xC0000101         /* GS base */
        mov eax, [rbx + 0x28]
        mov edx, [rbx + 0x2C]
        wrmsr
        inc ecx                     /* kernel GS base */
        mov eax, [rbx + 0x30]
        mov edx, [rbx + 0x34]
        wrmsr
        mov ecx, 0xC0000082         /* LSTAR */
        mov eax, [rbx + 0x38]
        mov edx, [rbx + 0x3C]
        wrmsr
        mov rsp, [rbx + 0x40]
        jmp [rbx + 0x48]

function KeBugCheckEx
        allocate 0x28
        movabs rax, BUG_CHECK_DATA
        mov [rax], rcx
        mov [rax + 0x08], rdx
        mov [rax + 0x10], r8
        mov [rax + 0x18], r9
        mov r10, [rsp + 0x50]
        mov [rax + 0x20], r10
        call KeBugCheck2
returns_at KeBugCheckEx
        int3
        .seh_endproc

function KeBugCheck2
        save rbx
        save rsi
        allocate 0x98
        movabs rdx, DEBUGGER_DATA           /* decoded, as on the way into any dump */
        movabs rax, DEBUGGER_DATA_KEY
        mov ecx, DEBUGGER_DATA_WORDS
1:      xor [rdx], rax
        add rdx, 8
        dec ecx
        jnz 1b
        call IoWriteCrashDump
returns_at KeBugCheck2
        int3
        .seh_endproc

function IoWriteCrashDump
        allocate 0x58
        movabs rax, CRASHDMP_WRITE
        call rax
returns_at IoWriteCrashDump
        int3
        .seh_endproc

function KiIdleLoop
        allocate 0x28
        call KiFreezeTargetExecution
returns_at KiIdleLoop
        int3
        .seh_endproc

function KiFreezeTargetExecution
        allocate 0x20
1:      pause
        jmp 1b
        .seh_endproc
#endif

#if IMAGE == 1  /* badnic.sys: the driver that makes the machine crash, at once or when told to */
function Poll
        allocate 0x28
1:      pause
        in al, 0x64
        test al, 1
        jz 1b
        in al, 0x60
        cmp al, KEY
        jne 1b
        call Interrupt
        int3
        .seh_endproc

function Interrupt
        allocate 0x48
        mov ecx, 0xD1
        movabs rdx, PARAMETER1
        mov r8d, PARAMETER2
        mov r9d, PARAMETER3
        movabs rax, PARAMETER4
        mov [rsp + 0x20], rax
        movabs rax, KE_BUG_CHECK
        call rax
returns_at Interrupt
        int3
        .seh_endproc
#endif

#if IMAGE == 2  /* crashdmp.sys */
function CrashdmpWrite
        save rbx
        allocate 0x40
        movabs rdx, BUG_CHECK_DATA          /* into the dump block */
        movabs rax, DUMP_BLOCK
        mov ecx, 5
1:      mov r8, [rdx + 8 * rcx - 8]
        mov [rax + 8 * rcx - 8], r8
        dec ecx
        jnz 1b
        movabs r8, DEBUGGER_DATA
        movabs rax, PROGRESS
        mov [rax - 0x6C], r8
        call StartFilterDrivers
returns_at CrashdmpWrite_start
        movabs rax, PROGRESS
        mov dword ptr [rax], WRITING
        call WriteBlock
returns_at CrashdmpWrite_write
1:      hlt
        jmp 1b
        .seh_endproc

function StartFilterDrivers
        save rbx
        save rdi
        allocate 0x28
        movabs rdi, FILTER_LIST
        mov rbx, [rdi]
1:      cmp rbx, rdi
        je 2f
        lea rcx, [rbx + NODE_EXTENSION - NODE_LINK]
        call [rbx + 0x08 - NODE_LINK]       /* DumpStart */
returns_at StartFilterDrivers
        test eax, eax
        jns 3f
        movabs rdx, FAILURE                 /* routine, status; the filter is switched off */
        mov rcx, [rbx + 0x08 - NODE_LINK]
        mov [rdx], rcx
        mov [rdx + 0x08], eax
        or dword ptr [rbx + NODE_STATE - NODE_LINK], 1
3:      mov rbx, [rbx]
        jmp 1b
2:      add rsp, 0x28
        pop rdi
        pop rbx
        ret
        .seh_endproc

function WriteBlock
        save rbx
        save rdi
        allocate 0x38
        movabs rdi, FILTER_LIST
        mov rbx, [rdi]
1:      cmp rbx, rdi
        je 2f
        test dword ptr [rbx + NODE_STATE - NODE_LINK], 1
        jnz 3f
        lea rcx, [rbx + NODE_EXTENSION - NODE_LINK]
        lea rdx, [rsp + 0x28]               /* DiskByteOffset */
        xor r8d, r8d                        /* Mdl */
        call [rbx + 0x10 - NODE_LINK]       /* DumpWrite */
returns_at WriteBlock
3:      mov rbx, [rbx]
        jmp 1b
2:      add rsp, 0x38
        pop rdi
        pop rbx
        ret
        .seh_endproc
#endif

#if IMAGE == 3  /* dump_dumpfve.sys: its Dump_Write waits, in a function that is given the extension */
function DumpStart
        save rbx
        allocate 0x30
        mov rbx, rcx
        xor eax, eax                        /* STATUS_SUCCESS */
        add rsp, 0x30
        pop rbx
        ret
        .seh_endproc

function DumpWrite
        save rbx
        save rsi
        allocate 0x28
        mov rbx, rcx
        mov edx, KEY
        call WaitForDevice
returns_at DumpWrite
        xor eax, eax
        add rsp, 0x28
        pop rsi
        pop rbx
        ret
        .seh_endproc

function WaitForDevice
        save rbp
        allocate 0x20
1:      pause
        in al, 0x64
        test al, 1
        jz 1b
        in al, 0x60
        cmp al, dl
        jne 1b
        add rsp, 0x20
        pop rbp
        ret
        .seh_endproc
#endif

#if IMAGE == 4  /* dump_acmeflt.sys: its Dump_Start waits for a device that does not answer */
function DumpStart
        save rbx
        allocate 0x20
        mov rbx, rcx
1:      pause
        in al, 0x64
        test al, 1
        jz 1b
        in al, 0x60
        cmp al, KEY
        jne 1b
        xor eax, eax
        add rsp, 0x20
        pop rbx
        ret
        .seh_endproc

function DumpWrite
        save rbx
        allocate 0x20
        xor eax, eax
        add rsp, 0x20
        pop rbx
        ret
        .seh_endproc
#endif

#if IMAGE == 5  /* dump_acmeflt.sys that does not wait: needs the buffer that it made when it loaded */
function DumpStart
        allocate 0x28
        mov rdx, [rcx + DUMP_DATA]          /* first its size */
        mov eax, 0xC000009A                 /* STATUS_INSUFFICIENT_RESOURCES */
        cmp dword ptr [rdx], BUFFER
        jb 1f
        xor eax, eax
1:      add rsp, 0x28
        ret
        .seh_endproc

function DumpWrite
        allocate 0x28
        xor eax, eax
        add rsp, 0x28
        ret
        .seh_endproc
#endif
