"""The crashed machine: kernel data, modules, processors, stacks; everything but the dump stack.

Invariant: whatever is placed in memory is also told in `truth`, with the address it was placed at.
"""

from __future__ import annotations

import struct

from . import images, layouts
from .world import DEVICE_FRAME, LARGE_RUN, PAGE, World

SYSTEM_TIME = 133541212291230000  # 2024-03-05 14:07:09.123 UTC, 100 ns
UPTIME = 7 * 36000000000 + 1234567890  # 100 ns
TICK = 156250
STACK_PAGES = 3

# name, size of image, role, copied from
CRASH_STACK = {
    "vista": (
        ("crashdmp.sys", 0x15000, "crash dump driver", None),
        ("dump_diskdump.sys", 0xC000, "dump port driver", "diskdump.sys"),
        ("dump_LSI_SAS.sys", 0x1E000, "dump miniport", "LSI_SAS.sys"),
        ("dump_dumpfve.sys", 0x16000, "dump filter", "dumpfve.sys"),
        ("dump_acmeflt.sys", 0x9000, "dump filter", "acmeflt.sys"),
    ),
    "win8": (
        ("crashdmp.sys", 0x1E000, "crash dump driver", None),
        ("dump_dumpstorport.sys", 0xE000, "dump port driver", "dumpstorport.sys"),
        ("dump_stornvme.sys", 0x2B000, "dump miniport", "stornvme.sys"),
        ("dump_dumpfve.sys", 0x1D000, "dump filter", "dumpfve.sys"),
        ("dump_acmeflt.sys", 0x9000, "dump filter", "acmeflt.sys"),
    ),
}
ADDRESSES = {
    8: {
        "nt": 0xFFFFF80610000000,
        "images": 0xFFFFF80620000000,
        "pool": 0xFFFFC08BE4000000,
        "kuser": 0xFFFFF78000000000,
        "huge": 0xFFFFC08C00000000,
        "bulk": 0xFFFF900000000000,
        "pfn": 0xFFFFFA8000000000,
        "mask": 0xFFFFFFFFFFFFFFFF,
    },
    4: {
        "nt": 0x82800000,
        "images": 0x8B000000,
        "pool": 0x85600000,
        "kuser": 0xFFDF0000,
        "huge": None,
        "bulk": 0xA0000000,
        "pfn": 0x84000000,
        "mask": 0xFFFFFFFF,
    },
}
NT_SIZE = 0x1F0000
NT_TEXT, NT_DATA = 0x1000, 0x100000
# inside the kernel's data page
HEAD, PROCESSES, KDBG, PROCESSOR_BLOCK, BUGCHECK, BUILD_LAB, UNLOADED, UNLOADED_COUNT = (
    0x100,
    0x120,
    0x200,
    0x600,
    0x640,
    0x6A0,
    0x740,
    0x748,
)
ARC_NAME, ARC_TEXT, MEMORY_BLOCK = 0x760, 0x780, 0x7F0


class Machine:
    """Builds everything that is not specific to the dump stack; `stack.build` adds that."""

    def __init__(self, spec) -> None:
        self.spec = spec
        self.arch, self.layout = spec.arch, spec.layout
        self.world = World(spec.arch, spec.la57, spec.seed)
        self.ptr = self.world.pointer_size
        self.wide = self.ptr == 8
        self.at = ADDRESSES[self.ptr]
        self.build = layouts.BUILD[spec.layout]
        self.bugcheck = 0xD1
        self.writer_status = 0
        self.secondary_state = 0
        self.attributes = 0
        self.secondary = True  # whether a DumpBlob is written
        self.mbr = False
        self.hibernation = False
        self.low_root_bits = 0
        self.requests = []
        self.unset_fields = []
        self.last_filter_name = "acmeflt.sys"
        self.extra_driver_name = "badnic.sys"
        self.blamed = None  # (module, offset) that the bugcheck names; None: the extra driver
        self.blocks = []  # (address, size) that a triage dump keeps as data blocks
        self.truth = {
            "modules": [],
            "filters": [],
            "translations": [],
            "residue": [],
            "context": {},
        }

    # ---- modules ---------------------------------------------------------------------
    def module_plan(self) -> list:
        """(name, size, role, stack, original) in load order."""
        kernel = "ntkrla57.exe" if self.spec.la57 else "ntoskrnl.exe"
        plan = [(kernel, NT_SIZE, "kernel", None, None)]
        stack = CRASH_STACK["vista" if self.layout == "vista" else "win8"]
        stack = [
            (n, s, r, o)
            if o != "acmeflt.sys"
            else ("dump_" + self.last_filter_name, s, r, self.last_filter_name)
            for n, s, r, o in stack
        ]
        plan.append(("hal.dll", 0x6000, "driver", None, None))
        plan.append(("disk.sys", 0x1C000, "driver", None, None))
        for _, size, _, original in stack:
            if original and original not in ("diskdump.sys", "dumpstorport.sys"):
                plan.append((original, size, "driver", None, None))
        plan.append(("storport.sys", 0x30000, "driver", None, None))
        plan.append((self.extra_driver_name, 0x12000, "driver", None, None))
        for name, size, role, original in stack:
            plan.append((name, size, role, None if name == "crashdmp.sys" else "crash", original))
        if self.hibernation:
            for name, size, role, original in stack[1:]:
                plan.append(
                    (name.replace("dump_", "hiber_", 1), size, role, "hibernation", original)
                )
        return plan

    def place_modules(self) -> None:
        """Bases, stamps and images of all modules."""
        base = self.at["images"]
        for order, (name, size, role, stack, original) in enumerate(self.module_plan()):
            source = original or name
            stamp = images.stamp_of(source, self.build)
            module = {
                "name": name,
                "base": self.at["nt"] if role == "kernel" else base,
                "size": size,
                "time_date_stamp": stamp,
                "checksum": 0x10000 | stamp & 0xFFFF,
                "loaded": True,
                "role": role,
                "stack": stack,
                "original": original,
                "load_order": order,
                "rsds": None,
            }
            if role != "kernel":
                base += (size + 0xFFFF) & ~0xFFFF
            self.truth["modules"].append(module)
        for module in self.truth["modules"]:
            self.place_image(module)

    def place_image(self, module: dict) -> None:
        """The present pages of one image."""
        name, base, stamp = module["name"], module["base"], module["time_date_stamp"]
        page = images.headers(self.arch, module["size"], stamp, module["checksum"])
        world = self.world
        if module["role"] == "kernel":
            # one large page; only the frames that are used exist
            world.map_large(base, LARGE_RUN)
            for rva in (0, NT_TEXT, images.RDATA, NT_DATA):
                world.pages[base + rva >> 12] = world.frame_at(LARGE_RUN + (rva >> 12))
        if module["role"] == "driver" and name not in ("hal.dll", self.extra_driver_name):
            return  # the header pages of most drivers are paged out
        world.write(base, page)
        if name == "hal.dll":
            return
        pdb_name = module["original"] or name
        pdb_name = "ntkrnlmp.exe" if module["role"] == "kernel" else pdb_name
        world.write(base + images.TEXT, images.text_page(self.arch))
        world.write(base + images.RDATA, images.rdata_page(pdb_name, stamp))
        guid, age, pdb = images.rsds_of(pdb_name, stamp)
        module["rsds"] = {"guid": guid.hex(), "age": age, "pdb": pdb}

    def module(self, name: str) -> dict:
        """The row of a module by its name."""
        return next(m for m in self.truth["modules"] if m["name"].lower() == name.lower())

    def list_modules(self) -> None:
        """PsLoadedModuleList and its entries."""
        base_at, entry_at, size_at, full_at, name_at, flags_at, sum_at, stamp_at, size = (
            layouts.LDR[self.ptr]
        )
        head = self.at["nt"] + NT_DATA + HEAD
        entry, text = self.at["pool"] + 0x4000, self.at["pool"] + 0x5000
        links = [head]
        for module in self.truth["modules"]:
            folder = "\\SystemRoot\\system32\\" + (
                "" if module["role"] == "kernel" else "drivers\\"
            )
            full = (folder + module["name"]).encode("utf-16-le")
            name = module["name"].encode("utf-16-le")
            record = bytearray(size)
            self.put(record, base_at, module["base"])
            self.put(record, entry_at, module["base"] + images.TEXT)
            struct.pack_into("<I", record, size_at, module["size"])
            self.put_string(record, full_at, text, len(full))
            self.put_string(record, name_at, text + len(full) - len(name), len(name))
            struct.pack_into("<IH", record, flags_at, 0x49104000, 1)
            struct.pack_into("<I", record, sum_at, module["checksum"])
            if self.layout != "vista":  # the entry has had the time stamp since Windows 8
                struct.pack_into("<I", record, stamp_at, module["time_date_stamp"])
            self.world.write(entry, bytes(record))
            self.world.write(text, full + b"\0\0")
            module["entry"] = entry
            links.append(entry)
            entry += size
            text += (len(full) + 2 + 7) & ~7
        self.link(links)

    def link(self, links: list) -> None:
        """Joins LIST_ENTRYs into a ring, in order."""
        for here, there in zip(links, links[1:] + links[:1]):
            self.world.pointer(here, there)
            self.world.pointer(there + self.ptr, here)

    def put(self, record: bytearray, offset: int, value: int) -> None:
        """A pointer."""
        struct.pack_into("<Q" if self.wide else "<I", record, offset, value)

    def put_string(self, record: bytearray, offset: int, address: int, length: int) -> None:
        """A UNICODE_STRING."""
        struct.pack_into("<HH", record, offset, length, length + 2)
        self.put(record, offset + self.ptr, address)

    def list_unloaded(self) -> None:
        """MmUnloadedDrivers: a pointer to an array of 50, and the number of the next place."""
        array = self.at["pool"] + 0x6000
        size = 0x28 if self.wide else 0x18
        text = array + 50 * size
        base = self.at["images"] + 0x900000
        stack = [m for m in self.truth["modules"] if m["stack"] == "crash"]
        rows = [("usbscan.sys", 0xB000, "driver", None)]
        rows += [(m["name"], m["size"], m["role"], "crash") for m in stack]
        for number, (name, length, role, of) in enumerate(rows):
            record = bytearray(size)
            encoded = name.encode("utf-16-le")
            self.put_string(record, 0, text, len(encoded))
            self.put(record, 2 * self.ptr, base)
            self.put(record, 3 * self.ptr, base + length)
            struct.pack_into(
                "<Q", record, 4 * self.ptr, SYSTEM_TIME - UPTIME + 10**8 * (number + 1)
            )
            self.world.write(array + number * size, bytes(record))
            self.world.write(text, encoded + b"\0\0")
            text += (len(encoded) + 2 + 7) & ~7
            row = dict.fromkeys(self.truth["modules"][0])
            row.update(name=name, base=base, size=length, loaded=False, role=role, stack=of)
            self.truth["modules"].append(row)
            base += (length + 0xFFFF) & ~0xFFFF
        data = self.at["nt"] + NT_DATA
        self.world.pointer(data + UNLOADED, array)
        self.world.pack(data + UNLOADED_COUNT, "I", len(rows))

    # ---- kernel data -----------------------------------------------------------------
    def place_kernel_data(self) -> None:
        """The kernel's data page: lists, strings, KDDEBUGGER_DATA64."""
        nt, world = self.at["nt"], self.world
        data = nt + NT_DATA
        self.kdbg, self.head, self.processes = data + KDBG, data + HEAD, data + PROCESSES
        world.pointer(self.processes, self.processes, self.processes)
        lab = f"{self.build}.1.{'amd64' if self.arch == 'x64' else self.arch}fre.sample.240305-1407"
        world.write(data + BUILD_LAB, lab.encode() + b"\0")
        self.truth["build_lab"] = lab
        arc = "\\ArcName\\multi(0)disk(0)rdisk(0)partition(3)".encode("utf-16-le")
        text = bytearray(2 * self.ptr)
        self.put_string(text, 0, data + ARC_TEXT, len(arc))
        world.write(data + ARC_NAME, bytes(text))
        world.write(data + ARC_TEXT, arc + b"\0\0")
        blamed, offset = self.blamed or (self.extra_driver_name, 0x1234)
        bad = self.module(blamed)["base"] + offset
        self.parameters = [self.at["pool"] + 0x31010, 2, 0, bad]
        if self.bugcheck == 0x161:
            self.parameters = [0x20, self.at["pool"], self.at["pool"] + 0x100, 0]
        world.pointer(data + BUGCHECK, self.bugcheck, *self.parameters)
        size = 0x340 if self.layout == "vista" else 0x380
        block = bytearray(size)
        struct.pack_into("<QQ4sI", block, 0, data + 0x5C0, data + 0x5C0, b"KDBG", size)
        for offset, value in (
            (0x18, nt), (0x48, self.head), (0x50, self.processes), (0x88, data + BUGCHECK),
            (0x208, data + BUILD_LAB), (0x218, data + PROCESSOR_BLOCK), (0x220, data + UNLOADED),
            (0x228, data + UNLOADED_COUNT), (0x270, data + MEMORY_BLOCK),
        ):  # fmt: skip
            struct.pack_into("<Q", block, offset, value)
        struct.pack_into("<I", block, 0x78, TICK)
        thread_at, context_at, special_at = layouts.PRCB[self.arch]
        initial_at, _, kernel_at = layouts.THREAD[self.ptr]
        for offset, value in (
            (0x298, 0xC8), (0x29A, 0xF0), (0x29C, kernel_at), (0x29E, initial_at),
            (0x2A0, 0x220 if self.wide else 0x150), (0x2A2, 0x184 if self.wide else 0x68),
            (0x2A8, 0xA40 if self.wide else 0x2C0), (0x2AA, 0x550 if self.wide else 0x1A8),
            (0x2AC, 0x540 if self.wide else 0x140), (0x2AE, 0x28 if self.wide else 0x18),
            (0x2B0, 0xAE00 if self.wide else 0x3628), (0x2B4, thread_at), (0x2BC, context_at),
            (0x2BE, 0x24 if self.wide else 0x3CC), (0x2C0, 0x898 if self.wide else 0x2B8),
            (0x2F2, special_at),
        ):  # fmt: skip
            struct.pack_into("<H", block, offset, value)
        if self.arch == "x64" and self.layout != "vista":
            block[0x2C2:0x2C4] = bytes((45, 4))  # where the L1TF mitigation puts its bit
        self.kdbg_size = size
        world.write(self.kdbg, bytes(block))
        world.pointer(data + 0x5C0, self.kdbg, self.kdbg)

    def place_shared_data(self) -> None:
        """KUSER_SHARED_DATA: three clocks, their divisors and the update lock."""
        page = bytearray(PAGE)
        for at, value in ((0x08, UPTIME), (0x14, SYSTEM_TIME), (0x20, -36000000000)):
            low, high = value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF
            struct.pack_into("<III", page, at, low, high, high)
        struct.pack_into("<I", page, 0x04, 0xFA00000)
        struct.pack_into("<I", page, 0x260, self.build | 0xF0000000)
        ticks = UPTIME // TICK
        struct.pack_into("<III", page, 0x320, ticks & 0xFFFFFFFF, ticks >> 32, ticks >> 32)
        if self.layout != "vista":
            struct.pack_into(
                "<QQQQ", page, 0x340, 0x1000, UPTIME - 5000, SYSTEM_TIME - 5000, UPTIME
            )
        struct.pack_into("<Q", page, 0x300, 10000000)
        self.world.write(self.at["kuser"], bytes(page))

    # ---- processors and stacks ---------------------------------------------------------
    def place_processors(self) -> None:
        """Two processors with their threads and stacks; the first one crashed."""
        pool, world = self.at["pool"], self.world
        thread_at, context_at, special_at = layouts.PRCB[self.arch]
        initial_at, limit_at, kernel_at = layouts.THREAD[self.ptr]
        limit = pool + 0x10000
        bad = self.module(self.extra_driver_name)["base"]
        self.stack_limit, self.stack_base = limit, limit + STACK_PAGES * PAGE
        self.ip, self.sp = bad + 0x1234, limit + 0x1E40
        idle = pool + 0x18000
        states = (
            (self.ip, self.sp, limit, self.stack_base),
            (self.at["nt"] + NT_TEXT + 0x80, idle + 0xF00, idle, idle + PAGE),
        )
        self.truth["processors"] = []
        for number, (ip, sp, low, high) in enumerate(states):
            prcb, thread = pool + 0x20000 + number * PAGE, pool + 0x22000 + number * 0x600
            context = layouts.make_context(self.arch, ip, sp, number)
            world.ensure(low, high - low)
            world.pointer(prcb + thread_at, thread)
            world.write(prcb + context_at, context)
            world.pack(prcb + (0x24 if self.wide else 0x3CC), "I", number)
            if self.arch != "arm64":
                cr4 = (
                    0x350EF8
                    | (1 << 12 if self.spec.la57 else 0)
                    | (0x20000 if self.low_root_bits else 0)
                )
                root = world.root | self.low_root_bits
                world.pointer(prcb + special_at, 0x80050033, self.parameters[0], root, cr4)
            world.write(thread, b"\x06")
            world.pointer(thread + initial_at, high)
            world.pointer(thread + limit_at, low)
            world.pointer(thread + kernel_at, sp - 0x100)
            world.pointer(self.at["nt"] + NT_DATA + PROCESSOR_BLOCK + number * self.ptr, prcb)
            self.truth["processors"].append(
                {"prcb": prcb, "thread": thread, "ip": ip, "sp": sp, "stack": (low, high)}
            )
        self.context = layouts.make_context(self.arch, self.ip, self.sp, 0)
        nt = self.at["nt"]
        for number, target in enumerate((bad + images.CALL_SITES[0], nt + images.CALL_SITES[1])):
            world.pointer(self.sp + 0x40 + 0x30 * number, target)
        world.pointer(idle + 0xF20, nt + images.CALL_SITES[2])

    # ---- one address per kind of translation -------------------------------------------
    def place_translations(self) -> None:
        """Maps one page of each kind and notes what a translation must give."""
        world, rows = self.world, self.truth["translations"]
        special = self.at["pool"] + 0x30000
        mapped = special + 0x123
        world.write(special, b"a page of four kilobytes")
        rows.append((mapped, (world.pages[special >> 12] << 12) + 0x123, "valid"))
        large = self.at["nt"] + NT_DATA + 0x240
        rows.append((large, (LARGE_RUN << 12) + NT_DATA + 0x240, "large"))
        rows.append((self.at["nt"] + 0x150000, (LARGE_RUN << 12) + 0x150000, "not-in-dump"))
        if self.at["huge"]:
            world.map_large(self.at["huge"], 0, -3)
            physical = world.pages[special >> 12] << 12
            rows.append((self.at["huge"] + physical + 0x45, physical + 0x45, "huge"))
            rows.append((self.at["huge"] + 0x3FFFF000, 0x3FFFF000, "not-in-dump"))
        rows.append((special + 0x2010, DEVICE_FRAME << 12 | 0x10, "not-in-dump"))
        world.set_leaf(special + 0x2000, world.page_entry(DEVICE_FRAME))
        if (
            self.arch != "arm64"
        ):  # the not-valid forms of an entry are documented for x86 and x64 only
            pfn = world.new_frame()
            world.frames[pfn][0:16] = b"in transition..."
            world.map_transition(special + 0x3000, pfn)
            rows.append((special + 0x3008, pfn << 12 | 8, "transition"))
            world.map_paged_out(special + 0x1000, 0x1234)
            rows.append((special + 0x1010, None, "paged-out"))
            world.map_prototype(special + 0x4000, self.at["pool"] + 0x8800)
            rows.append((special + 0x4010, None, "prototype"))
        rows.append((special + 0x5000, None, "not-mapped"))  # an empty entry of a present table
        rows.append((self.at["pool"] + 0x4000000, None, "not-mapped"))  # no table at all
        if self.spec.dump_type in (2, 6, 8, 9):  # kernel dumps leave RAM out
            hidden = world.new_frame()
            world.frames[hidden][:] = b"user " * 819 + b"\0"
            world.map_page(special + 0x6000, hidden)
            world.dropped.add(hidden)
            rows.append((special + 0x6020, hidden << 12 | 0x20, "not-in-dump"))


def build_kernel(machine: Machine) -> None:
    """Places all parts in the order in which they need one another."""
    machine.place_modules()
    machine.place_kernel_data()
    machine.place_shared_data()
    machine.place_processors()
    machine.place_translations()
