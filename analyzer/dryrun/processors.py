"""What differs between processors in a dry run: registers, the call, special instructions.

Invariant: an instruction whose effect depends on the real machine is answered here with a noted
assumption, or it ends the run with its name; it never reads or changes the host. Needs ``unicorn``.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import unicorn
from unicorn import arm64_const as arm
from unicorn import x86_const as x86

from . import decode
from .decode import Special

if TYPE_CHECKING:
    from .emulator import Run

HIGH_LEVEL = {"x64": 15, "x86": 31, "arm64": 15}
#: model-specific registers that a dump path may read: IA32_APIC_BASE, the three segment bases, TSC
_TSC, _GS_BASE, _KERNEL_GS_BASE = 0x10, 0xC0000101, 0xC0000102


def _x86(names: str) -> list[int]:
    return [int(getattr(x86, f"UC_X86_REG_{name.upper()}")) for name in names.split()]


def _arm(names: str) -> list[int]:
    return [int(getattr(arm, f"UC_ARM64_REG_{name.upper()}")) for name in names.split()]


class Processor:
    """One emulated processor, as the dump path sees it. ``run`` is the emulator around it."""

    name = ""
    width = 8
    granule = 0x1000  #: of the emulator's page tables
    pc = sp = result = 0
    arguments: list[int] = []
    #: compared first, then the rest: both together are the whole state outside memory
    general: list[int] = []
    others: list[int] = []

    def __init__(self, run: Run) -> None:
        self.run = run
        self.uc = self.create()

    def create(self) -> unicorn.Uc:
        """A new engine."""
        raise NotImplementedError

    def start(self, stack: int, back: int, arguments: list[int], kpcr: int) -> None:
        """Registers and stack as at the first instruction of the routine."""
        raise NotImplementedError

    def decode(self, code: bytes, at: int) -> tuple[int, Special | None]:
        """(length, what is special) of an instruction."""
        raise NotImplementedError

    def special(self, kind: Special, pc: int) -> bool:
        """Answers an instruction; False: it cannot be emulated."""
        raise NotImplementedError

    def argument(self, place: int) -> int:
        """An argument at the first instruction of a routine."""
        return int(self.uc.reg_read(self.arguments[place]))

    def leave(self, value: int | None, count: int) -> int:
        """Returns from the routine at whose first instruction we are; gives where to go on."""
        raise NotImplementedError

    def guarded(self) -> int:
        """The routine that control flow guard would go on to."""
        raise NotImplementedError

    def get(self, register: int) -> int:
        """A register."""
        return int(self.uc.reg_read(register))


class _Intel(Processor):
    """What x86 and x64 share."""

    names: list[int] = []  #: of general registers, by their number in an instruction

    def decode(self, code: bytes, at: int) -> tuple[int, Special | None]:
        return decode.x86(code, at, self.width == 8)

    def special(self, kind: Special, pc: int) -> bool:
        name, put = kind.kind, self.uc.reg_write
        low, high, number = self.names[0], self.names[2], self.names[1]
        if name in ("rdtsc", "rdtscp", "rdpmc"):
            ticks = self.run.clock()
            put(low, ticks & 0xFFFFFFFF)
            put(high, ticks >> 32)
            if name == "rdtscp":
                put(number, 0)
            return True
        if name == "cpuid":
            self.run.assume("cpuid describes the emulator's processor, which has no AVX")
            self.run.varies()
            return False
        if name == "rdrand":
            self.run.assume("rdrand gives random numbers")
            self.run.varies()
            return False
        if name == "xgetbv":
            self.run.assume("xgetbv tells of SSE, not of AVX")
            put(low, 3)
            put(high, 0)
            return True
        if name == "rdmsr":
            value = self.msr(self.get(number) & 0xFFFFFFFF)
            if value is None:
                return self._end(f"rdmsr {self.get(number) & 0xFFFFFFFF:#x}", pc)
            put(low, value & 0xFFFFFFFF)
            put(high, value >> 32)
            return True
        if name == "read cr" and kind.operand >> 8 == 8:
            put(self.names[kind.operand & 15], self.run.irql)
            return True
        if name == "write cr" and kind.operand >> 8 == 8:
            self.run.irql = self.get(self.names[kind.operand & 15]) & 15
            return True
        return self._end(self._words(kind), pc)

    def _end(self, text: str, pc: int) -> bool:
        self.run.end("instruction", pc=pc, text=text)
        return True

    def _words(self, kind: Special) -> str:
        if kind.kind in ("port input", "port output"):
            port = kind.operand
            if port < 0:
                port = self.get(x86.UC_X86_REG_DX)
            return f"{kind.kind}, port {port:#x}"
        if kind.kind == "interrupt" and kind.operand == 0x29:
            return f"fast fail (int 0x29), code {self.get(self.names[1]) & 0xFFFFFFFF:#x}"
        if kind.kind == "interrupt":
            return f"int {kind.operand:#x}"
        if kind.kind in ("read cr", "write cr", "read dr", "write dr"):
            return f"{kind.kind.replace('cr', 'of cr').replace('dr', 'of dr')}{kind.operand >> 8}"
        if kind.kind == "wrmsr":
            return f"wrmsr {self.get(self.names[1]) & 0xFFFFFFFF:#x}"
        words = {"breakpoint": "breakpoint (int 3)", "avx": "an AVX instruction"}
        return words.get(kind.kind, kind.kind)

    def msr(self, number: int) -> int | None:
        """A model-specific register; None: not known."""
        if number == _TSC:
            return self.run.clock()
        if number == _GS_BASE and self.width == 8 and self.run.kpcr:
            return self.run.kpcr
        return None


class X64(_Intel):
    """x64."""

    name, width = "x64", 8
    pc, sp, result = _x86("rip rsp rax")
    arguments = _x86("rcx rdx r8 r9")
    names = _x86("rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15")
    general = [*names, *_x86("eflags")]
    others = _x86(
        " ".join(f"xmm{n}" for n in range(16))
        + " mxcsr fpsw fptag "
        + " ".join(f"st{n}" for n in range(8))
    )

    def create(self) -> unicorn.Uc:
        return unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)

    def start(self, stack: int, back: int, arguments: list[int], kpcr: int) -> None:
        sp = (stack & -16) - 0x28  # home space of four arguments, then the return address
        self.run.poke(sp, struct.pack("<Q", back))
        self.uc.reg_write(self.sp, sp)
        self.uc.reg_write(x86.UC_X86_REG_GS_BASE, kpcr)
        for register, value in zip(self.arguments, arguments):
            self.uc.reg_write(register, value)

    def leave(self, value: int | None, count: int) -> int:
        sp = self.get(self.sp)
        back = self.run.peek(sp, 8)
        self.uc.reg_write(self.sp, sp + 8)
        if value is not None:
            self.uc.reg_write(self.result, value)
        return back

    def guarded(self) -> int:
        return self.get(self.result)


class X86(_Intel):
    """32-bit x86: arguments on the stack, the processor block in FS."""

    name, width = "x86", 4
    pc, sp, result = _x86("eip esp eax")
    names = _x86("eax ecx edx ebx esp ebp esi edi")
    general = [*names, *_x86("eflags")]
    others = _x86(
        " ".join(f"xmm{n}" for n in range(8))
        + " mxcsr fpsw fptag "
        + " ".join(f"st{n}" for n in range(8))
    )

    def create(self) -> unicorn.Uc:
        return unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)

    def start(self, stack: int, back: int, arguments: list[int], kpcr: int) -> None:
        sp = (stack & -16) - 4 - 4 * len(arguments)
        self.run.poke(sp, struct.pack(f"<I{len(arguments)}I", back, *arguments))
        self.uc.reg_write(self.sp, sp)
        # A base for FS can only come from a descriptor table.
        table = self.run.scratch()
        flat = 0x00CF_9300_0000_FFFF
        block = (kpcr & 0xFFFFFF) << 16 | kpcr >> 24 << 56 | 0x00C0_9300_0000_0001
        self.run.poke(table, struct.pack("<5Q", 0, 0x00CF_9B00_0000_FFFF, flat, 0, block))
        self.uc.reg_write(x86.UC_X86_REG_GDTR, (0, table, 0x27, 0))
        for segment, selector in zip(_x86("cs ds es ss fs"), (8, 16, 16, 16, 32)):
            self.uc.reg_write(segment, selector)

    def argument(self, place: int) -> int:
        return self.run.peek(self.get(self.sp) + 4 + 4 * place, 4)

    def leave(self, value: int | None, count: int) -> int:
        sp = self.get(self.sp)
        back = self.run.peek(sp, 4)
        self.uc.reg_write(self.sp, sp + 4 + 4 * count)
        if value is not None:
            self.uc.reg_write(self.result, value & 0xFFFFFFFF)
            self.uc.reg_write(x86.UC_X86_REG_EDX, value >> 32 & 0xFFFFFFFF)
        return back

    def guarded(self) -> int:
        return self.get(self.names[1])


class Arm64(Processor):
    """ARM64: the processor block in x18."""

    name = "arm64"
    granule = 0x400
    pc, sp, result = _arm("pc sp x0")
    arguments = _arm(" ".join(f"x{n}" for n in range(8)))
    names = _arm(" ".join(f"x{n}" for n in range(31)))
    general = [*names, *_arm("sp nzcv")]
    others = _arm(" ".join(f"q{n}" for n in range(32)) + " fpcr fpsr")

    def create(self) -> unicorn.Uc:
        engine = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        engine.ctl_set_cpu_model(arm.UC_CPU_ARM64_MAX)
        return engine

    def start(self, stack: int, back: int, arguments: list[int], kpcr: int) -> None:
        self.uc.reg_write(arm.UC_ARM64_REG_CPACR_EL1, 3 << 20)  # floating point is on
        self.uc.reg_write(self.sp, stack & -16)
        self.uc.reg_write(arm.UC_ARM64_REG_LR, back)
        self.uc.reg_write(arm.UC_ARM64_REG_X18, kpcr)
        for register, value in zip(self.arguments, arguments):
            self.uc.reg_write(register, value)

    def decode(self, code: bytes, at: int) -> tuple[int, Special | None]:
        return decode.arm64(code, at)

    def special(self, kind: Special, pc: int) -> bool:
        if kind.kind == "clock":
            if kind.operand < 31:
                self.uc.reg_write(self.names[kind.operand], self.run.clock())
            return True
        if kind.kind == "rdrand":
            self.run.assume("random numbers come from the emulator")
            self.run.varies()
            return False
        if kind.kind == "wfe":
            return True
        text = kind.kind
        if text == "fast fail":
            text = f"fast fail (brk 0xf003), code {self.get(self.result) & 0xFFFFFFFF:#x}"
        elif kind.operand:
            text = f"{text} {kind.operand:#x}"
        self.run.end("instruction", pc=pc, text=text)
        return True

    def leave(self, value: int | None, count: int) -> int:
        if value is not None:
            self.uc.reg_write(self.result, value)
        return self.get(arm.UC_ARM64_REG_LR)

    def guarded(self) -> int:
        return self.get(arm.UC_ARM64_REG_X9)


PROCESSORS: dict[str, type[Processor]] = {"x64": X64, "x86": X86, "arm64": Arm64}
