"""The simulated machine: its memory, page tables, dump stack and processor.

Invariant: all that the guest's code reads lies in its own memory, so what a debugger reads there is
what runs. KDDEBUGGER_DATA64: wdbgexts.h; pool blocks: guest/guest.h.
"""

from __future__ import annotations

import struct

from unicorn import UC_ARCH_X86, UC_HOOK_INTR, UC_MODE_64, Uc, UcError
from unicorn import x86_const as x86

from . import kernel
from .image import Built, Image
from .kernel import (
    CR0,
    CR4,
    PAGE,
    PRCB,
    PROCESSOR_SIZE,
    PROCESSORS,
    STACK_SIZE,
    STACKS,
    STATED,
    USER_SHARED_DATA,
)
from .scenarios import CALLBACKS, CRASH, HIBERNATION, Scenario

NT = 0xFFFFF800_10000000
#: each at the next multiple of 64 KiB; in a module without symbols that lies 256 MiB from nt or
#: further, ntoseye searches memory at each stop for a kernel that rebooted
DRIVERS = 0xFFFFF800_18000000
TABLES = 0xFFFFF800_50000000
POOL = 0xFFFFC08B_E4000000
POOL_SIZE = 0x4000
LOADER_ENTRY = 0xA0
CONTEXT_SIZE = 0x4D0
#: where CONTEXT.Rax stands; the others follow in this order
CONTEXT_RAX = 0x78
GENERAL = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15 rip".split()
REGISTERS = {name: getattr(x86, f"UC_X86_REG_{name.upper()}") for name in GENERAL}
#: what crashdmp fills every FILTER_EXTENSION from; the tests demand it back
DISK = {
    "cylinders": 60801,
    "media_type": 12,
    "tracks_per_cylinder": 255,
    "sectors_per_track": 63,
    "bytes_per_sector": 512,
    "disk_size": 500_107_862_016,
    "size_of_partition_info": 24,
    "partition_style": 1,
    "gpt_disk_id": bytes.fromhex("521afe6b1d0c7e4b9a3c112233445566"),
    "device_object": POOL + 0x3000,
}
REQUESTS = {"load": 1, "dump": 2, "hibernate": 2, "unload": 3}


class Machine:
    """Memory and one processor at a time; the processor's number is the guest's own variable."""

    def __init__(self, built: dict[str, Built], scenario: Scenario) -> None:
        self.scenario, self.built = scenario, built
        self.nt = Image(built["ntoskrnl.exe"], "ntoskrnl.exe", NT)
        prefixes = ("dump_", "hiber_") if scenario.hibernation_stack else ("dump_",)
        ports = [prefix + name for prefix in prefixes for name in ("diskdump.sys", "stornvme.sys")]
        self.images = [self.nt]
        for number, name in enumerate(["crashdmp.sys", *ports, *scenario.filters]):
            source = "filter.sys" if name in scenario.filters else "diskdump.sys"
            base = DRIVERS + number * 0x10000
            self.images.append(Image(built.get(name, built[source]), name, base))
        self.named = {image.name: image for image in self.images}
        self.crashdmp = self.named["crashdmp.sys"]
        self.filters = {name: self.named[name] for name in scenario.filters}
        self.pages: dict[int, bytearray] = {1: bytearray(PAGE)}  # page 1: the top page table
        self.page_of: dict[int, int] = {}
        self.interrupt: int | None = None
        self.visible = [image for image in self.images if image.name not in scenario.late]
        self._write_shared()
        self._write_filters()
        self._map_everything()
        self._start()

    # ---- memory before the start -------------------------------------------------------------

    def _write_shared(self) -> None:
        nt = self.nt
        nt.put("Crashdmp", "Q", self.crashdmp.address("CrashdmpRequest"))
        nt.put("Shared", "Q", 1_000_000)
        for number in range(self.scenario.processors):
            block = PROCESSORS + number * PROCESSOR_SIZE + PRCB
            nt.put("KiProcessorBlock", "Q", block, offset=8 * number)
        processes = nt.address("PsActiveProcessHead")
        nt.put("PsActiveProcessHead", "QQ", processes, processes)

    def _write_filters(self) -> None:
        crashdmp, scenario = self.crashdmp, self.scenario
        crashdmp.put("Shared", "Q", self.nt.address("Shared"))
        crashdmp.put("Pool", "Q", POOL + 0x1000)
        crashdmp.put("Writes", "I", scenario.writes)
        crashdmp.put("Reads", "I", scenario.reads)
        crashdmp.put("Stacks", "Q", POOL + 0x20, offset=8 * CRASH)
        if scenario.hibernation_stack:
            crashdmp.put("Stacks", "Q", POOL + 0x820, offset=8 * HIBERNATION)
        for index, (name, image) in enumerate(self.filters.items()):
            stack = HIBERNATION if name.startswith("hiber_") else CRASH
            at_start = name not in scenario.late
            crashdmp.put("Filters", "QII", image.entry, stack, at_start, offset=24 * index)
            image.put("Shared", "Q", self.nt.address("Shared"))
            for which, callback in enumerate(CALLBACKS):
                mine = [c for c in scenario.calls if (c.filter, c.callback) == (name, callback)]
                for number, call in enumerate(mine):
                    step = (call.ticks, call.status, call.hangs, call.poke_at, call.poke)
                    image.put("Script", "QIIII", *step, offset=24 * (8 * which + number))

    def _pool(self) -> bytearray:
        """Nonpaged pool: the dump stack contexts, room for nodes, a device object."""
        pool = bytearray(POOL_SIZE)
        numbers = list(DISK.values())
        for at, stack, name in ((0x20, CRASH, "dump_"), (0x820, HIBERNATION, "hiber_")):
            port = self.named.get(name + "diskdump.sys")
            if port is None:
                continue
            struct.pack_into("<II", pool, at, 0x108, stack)
            routines = [port.address("DiskDumpWrite")] * 4
            struct.pack_into("<4Q", pool, at + 0x1D0, *routines)
            struct.pack_into("<QIIIIQII", pool, at + 0x228, *numbers[:8])
            pool[at + 0x250 : at + 0x260] = numbers[8]
            struct.pack_into("<Q", pool, at + 0x260, numbers[9])
        struct.pack_into("<HH", pool, 0x3000, 3, 0x150)
        return pool

    def _tables(self) -> bytearray:
        """Loader entries with their strings, and the list through which KDBG is found."""
        data = bytearray(0x3000)
        text = 0x1800
        self.entries = {}
        for number, image in enumerate(self.images):
            at = LOADER_ENTRY * number
            self.entries[image.name] = TABLES + at
            struct.pack_into("<QQI", data, at + 0x30, image.base, image.entry, image.size)
            folder = "\\SystemRoot\\system32\\" + ("" if image is self.nt else "drivers\\")
            for offset, string in ((0x48, folder + image.name), (0x58, image.name)):
                raw = string.encode("utf-16-le")
                data[text : text + len(raw)] = raw
                length = len(raw)
                struct.pack_into("<HH4xQ", data, at + offset, length, length + 2, TABLES + text)
                text += (length + 9) & ~7
            struct.pack_into("<IH", data, at + 0x68, 0x09004000, 1)
            struct.pack_into("<I", data, at + 0x78, image.checksum)
            struct.pack_into("<I", data, at + 0x9C, image.time_stamp)
        head = self.nt.address("PsLoadedModuleList")
        chain = [head, *(self.entries[image.name] for image in self.visible)]
        for number, entry in enumerate(chain):
            links = (chain[(number + 1) % len(chain)], chain[number - 1])
            if entry == head:
                self.nt.put("PsLoadedModuleList", "QQ", *links)
            else:
                struct.pack_into("<QQ", data, entry - TABLES, *links)
        block = self.nt.address("KdDebuggerDataBlock")
        self.debugger_list = TABLES + 0x1700
        struct.pack_into("<QQ", data, 0x1700, block, block)
        return data

    def _debugger_data(self) -> None:
        nt = self.nt
        block = nt.address("KdDebuggerDataBlock")
        nt.put("KdDebuggerDataBlock", "QQ4sI", block, block, b"KDBG", 0x380)
        for offset, value in (
            (0x18, NT),
            (0x20, nt.address("RtlpBreakWithStatusInstruction")),
            (0x48, nt.address("PsLoadedModuleList")),
            (0x50, nt.address("PsActiveProcessHead")),
            (0x88, nt.address("KiBugCheckData")),
            (0x138, PAGE),
            (0x208, nt.address("NtBuildLab")),
            (0x218, nt.address("KiProcessorBlock")),
            (0x268, nt.address("CmNtCSDVersion")),
            (0x270, nt.address("MmPhysicalMemoryBlock")),
        ):
            nt.put("KdDebuggerDataBlock", "Q", value, offset=offset)
        for offset, value in STATED.items():
            nt.put("KdDebuggerDataBlock", "H", value, offset=offset)

    def _map_everything(self) -> None:
        count = self.scenario.processors
        tables = self._tables()
        self._debugger_data()
        regions = [(STACKS, bytearray(2 * STACK_SIZE * count)), (TABLES, tables)]
        regions += [(USER_SHARED_DATA, kernel.user_shared_data()), (POOL, self._pool())]
        for number in range(count):
            regions.append((PROCESSORS + number * PROCESSOR_SIZE, kernel.processor(number)))
        sizes = [len(memory) for _, memory in regions] + [image.size for image in self.images]
        pages = sum(-(-size // PAGE) for size in sizes)
        last = pages + 40  # page tables, generously
        self.nt.put("PhysicalMemory", "QQQQ", 1, last, 1, last)
        for base, memory in [*regions, *((image.base, image.memory) for image in self.images)]:
            for offset in range(0, len(memory), PAGE):
                page = self._new_page()
                piece = memory[offset : offset + PAGE]
                self.pages[page][: len(piece)] = piece
                self._map(base + offset, page)
        assert max(self.pages) <= last
        self.last_page = last

    def _new_page(self) -> int:
        page = max(self.pages) + 1
        self.pages[page] = bytearray(PAGE)
        return page

    def _map(self, address: int, page: int) -> None:
        self.page_of[address // PAGE] = page
        table = 1
        for shift in (39, 30, 21):
            at = (address >> shift & 511) * 8
            (entry,) = struct.unpack_from("<Q", self.pages[table], at)
            if not entry & 1:
                entry = self._new_page() * PAGE | 0x63
                struct.pack_into("<Q", self.pages[table], at, entry)
            table = entry // PAGE & 0xF_FFFF_FFFF
        struct.pack_into("<Q", self.pages[table], (address >> 12 & 511) * 8, page * PAGE | 0x63)

    # ---- the processor -----------------------------------------------------------------------

    def _start(self) -> None:
        self.uc = Uc(UC_ARCH_X86, UC_MODE_64)
        self.uc.mem_map(0, (self.last_page + 1) * PAGE)
        for page, content in self.pages.items():
            self.uc.mem_write(page * PAGE, bytes(content))
        # real paging: Unicorn's flat memory cannot fetch at kernel addresses
        self.uc.reg_write(x86.UC_X86_REG_CR3, PAGE)
        self.uc.reg_write(x86.UC_X86_REG_CR4, CR4)
        self.uc.msr_write(0xC0000080, 0xD01)  # EFER: long mode
        self.uc.reg_write(x86.UC_X86_REG_CR0, CR0)
        self.uc.hook_add(UC_HOOK_INTR, self._interrupted)
        top = STACKS + STACK_SIZE - 0x108
        self.set("rsp", top)
        self.set("rip", self.crashdmp.address("DriverEntry"))
        self.run_start()  # returns to address 0
        assert self.get("rip") == 0
        self.set("rsp", top)
        self.set("rip", self.nt.address("KiSystemStartup"))
        self.parked = bytes(self.context())
        self.write(PROCESSORS + PRCB + 0x1C0, self.parked)

    def run_start(self) -> None:
        """Runs DriverEntry of crashdmp, before a debugger can attach."""
        self.uc.emu_start(self.get("rip"), 0, count=1_000_000)

    def _interrupted(self, uc: Uc, number: int, _data: object) -> None:
        self.interrupt = number
        uc.emu_stop()

    def get(self, name: str) -> int:
        """A register."""
        return self.uc.reg_read(REGISTERS[name])

    def set(self, name: str, value: int) -> None:
        """Writes a register."""
        self.uc.reg_write(REGISTERS[name], value)

    def run(self, instructions: int) -> str:
        """Runs the processor: "ran", "int3" (and stands on it) or "fault"."""
        self.interrupt = None
        try:
            self.uc.emu_start(self.get("rip"), 0, count=instructions)
        except UcError:
            return "fault"
        if self.interrupt == 3:
            self.set("rip", self.get("rip") - 1)
            return "int3"
        return "ran" if self.interrupt is None else "fault"

    def context(self) -> bytearray:
        """CONTEXT of the running processor (winnt.h, x64)."""
        record = bytearray(CONTEXT_SIZE)
        flags = self.uc.reg_read(x86.UC_X86_REG_EFLAGS) & ~0x100
        segments = (0x10, 0x2B, 0x2B, 0x53, 0x2B, 0x18)
        struct.pack_into("<II6HI", record, 0x30, 0x10005F, 0x1F80, *segments, flags)
        values = [self.get(name) for name in GENERAL]
        struct.pack_into("<17Q", record, CONTEXT_RAX, *values)
        struct.pack_into("<II", record, 0x100 + 0x18, 0x1F80, 0xFFFF)  # FltSave.MxCsr
        return record

    def set_context(self, record: bytes) -> None:
        """Loads a CONTEXT."""
        for name, value in zip(GENERAL, struct.unpack_from("<17Q", record, CONTEXT_RAX)):
            self.set(name, value)
        (flags,) = struct.unpack_from("<I", record, 0x44)
        self.uc.reg_write(x86.UC_X86_REG_EFLAGS, flags)

    # ---- memory while it runs ----------------------------------------------------------------

    def read(self, address: int, size: int) -> bytes:
        """Up to ``size`` bytes at a virtual address; shorter where memory ends."""
        held = b""
        while len(held) < size:
            at = address + len(held)
            page = self.page_of.get(at // PAGE)
            if page is None:
                break
            step = min(size - len(held), PAGE - at % PAGE)
            held += bytes(self.uc.mem_read(page * PAGE + at % PAGE, step))
        return held

    def read_physical(self, address: int, size: int) -> bytes:
        """Up to ``size`` bytes at a physical address."""
        size = max(0, min(size, (self.last_page + 1) * PAGE - address))
        return bytes(self.uc.mem_read(address, size)) if size else b""

    def write(self, address: int, data: bytes) -> bool:
        """Writes virtual memory (code too); False where there is none."""
        if len(self.read(address, len(data))) < len(data):
            return False
        for offset, byte in enumerate(data):
            at = address + offset
            self.uc.mem_write(self.page_of[at // PAGE] * PAGE + at % PAGE, bytes([byte]))
        self.uc.ctl_remove_cache(address, address + len(data) + 16)
        return True

    def shared(self, form: str, offset: int) -> int:
        """One member of the structure that guest and simulator share (guest.h)."""
        at = self.nt.address("Shared") + offset
        (value,) = struct.unpack("<" + form, self.read(at, struct.calcsize("<" + form)))
        return int(value)

    def put_shared(self, form: str, offset: int, value: int) -> None:
        """Writes one such member."""
        self.write(self.nt.address("Shared") + offset, struct.pack("<" + form, value))

    @property
    def clock(self) -> int:
        """The time stamp counter."""
        return self.shared("Q", 0)

    @property
    def processor(self) -> int:
        """The number of the processor that runs."""
        return self.shared("I", 8)

    @property
    def idle(self) -> int:
        """Counts while the machine idles."""
        return self.shared("Q", 24)

    @property
    def busy(self) -> bool:
        """True until the guest has done what was asked."""
        return self.shared("I", 12) != 0

    def pass_time(self, ticks: int) -> None:
        """The clock goes on while the machine stands in the debugger."""
        self.put_shared("Q", 0, self.clock + ticks)

    def ask(self, request: str) -> None:
        """Has the guest do one of the scenario's requests."""
        verb, _, name = request.partition(" ")
        index = list(self.filters).index(name) if name else 0
        self.put_shared("I", 8, self.scenario.dumping_processor if verb == "dump" else 0)
        self.put_shared("I", 16, HIBERNATION if verb == "hibernate" else CRASH)
        self.put_shared("I", 20, index)
        self.put_shared("I", 12, REQUESTS[verb])

    def show(self, image: Image, there: bool) -> None:
        """Puts a module at the end of the loader's list, or takes it out."""
        if there:
            self.visible.append(image)
        else:
            self.visible.remove(image)
        head = self.nt.address("PsLoadedModuleList")
        chain = [head, *(self.entries[shown.name] for shown in self.visible)]
        for number, entry in enumerate(chain):
            links = (chain[(number + 1) % len(chain)], chain[number - 1])
            self.write(entry, struct.pack("<QQ", *links))

    def drop(self, image: Image) -> None:
        """A module is unloaded: its pages are gone."""
        self.show(image, there=False)
        for page in range(image.base // PAGE, (image.base + image.size + PAGE - 1) // PAGE):
            self.page_of.pop(page, None)

    def made(self) -> list[tuple[str, str, int, int]]:
        """What the guest itself noted: (filter, callback, status, processor) of finished calls."""
        found = []
        for number in range(min(self.shared("I", 32), 64)):
            at = self.nt.address("Shared") + 40 + 24 * number
            routine, _, status, processor = struct.unpack("<QQII", self.read(at, 24))
            for image in self.filters.values():
                found += [
                    (image.name, callback, status, processor)
                    for callback in CALLBACKS
                    if routine == image.address(callback.replace("_", ""))
                ]
        return found
