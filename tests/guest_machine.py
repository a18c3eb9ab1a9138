"""A machine for QEMU whose crash dump filters hang or fail: its memory as files, and the truth.

The machine is the sample generator's. Added here: what a running machine has and a dump does not
need (export table of nt, IDT, GDT, processor blocks, low stub), and the routines of guest/*.S that
lead the processor into the filters. Needs clang and lld.
"""

from __future__ import annotations

import random
import struct
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import conftest  # noqa: F401  puts the generator on the path
from generator import Spec, build, layouts, secondary, stack
from generator.machine import BUGCHECK, BUILD_LAB, HEAD, NT_DATA, Machine, build_kernel
from generator.world import LARGE_RUN, PAGE

SOURCES = Path(__file__).parent / "guest"
TOOLS = ("clang", "ld.lld", "qemu-system-x86_64", "qemu-img")
FIRST_FRAME = 0x100  # the generator's memory begins at 1 MB
RAM_MEGABYTES = 64

CODE, UNWIND = (
    0x1A00,
    0x4000,
)  # RVAs in each image: behind the generator's code, and a page of its own
EXPORTS, PARAMETERS, VARIABLES = 0x3000, 0x110000, 0x110800  # RVAs in nt
STUB, BOOT_ROOT, NOTE_BLOCK, NOTE, LOW_END = 0x1000, 0x10000, 0x2000, 0x20000, 0x30000
SELF_MAP_SLOT = 0x1ED
NOISE = (0x1000, 0x1400)  # frames full of random bytes
#: scan codes that end the waiting of the second filter's Dump_Start and of the first's Dump_Write,
#: and one that makes a healthy machine crash
KEY_OF_START, KEY_OF_WRITE, KEY_OF_CRASH = "a", "b", "c"
_CODES = {"a": 0x1C, "b": 0x32, "c": 0x21}
#: bytes that the second filter of a healthy machine needs
BUFFER = 0x10000
#: what crashdmp notes when it begins to write
WRITING = 0x42
_DEBUGGER_DATA_KEY = 0x5AC3_96E1_7B20_4D99


class Guest(NamedTuple):
    """What QEMU is given, and what is true of it."""

    firmware: Path
    low: Path  #: at physical 0x1000
    memory: Path  #: at physical 1 MB
    frames: dict[int, bytes]  #: every frame of the machine as it was before it ran
    virtual: dict[int, int]  #: page numbers that the kernel's tables map -> frame numbers
    truth: dict[str, Any]
    waits: tuple[int, int]  #: where processor 0 comes to wait by itself


class Code(NamedTuple):
    """What one image executes: its code and unwind data placed, its labels as addresses."""

    text: bytes
    unwind: bytes
    functions: tuple[int, int]  #: RVA and size of the exception directory
    labels: dict[str, int]


def _tool(*arguments: object) -> None:
    subprocess.run([str(a) for a in arguments], check=True, timeout=60)


def _defines(values: dict[str, int]) -> list[str]:
    return [f"-D{name}={value:#x}" for name, value in values.items()]


def _flat(folder: Path, part: int, base: int, **values: int) -> bytes:
    """One piece of boot.S as it lies in memory."""
    made, flat = folder / f"boot{part}.o", folder / f"boot{part}.bin"
    _tool("clang", "--target=x86_64-elf", "-c", "-x", "assembler-with-cpp", f"-DPART={part}",
          *_defines(values), "-o", made, SOURCES / "boot.S")  # fmt: skip
    _tool("ld.lld", "--oformat", "binary", f"-Ttext={base:#x}", "-e", "0", "-o", flat, made)
    return flat.read_bytes()


def _image(folder: Path, number: int, base: int, **values: int) -> Code:
    """One image of images.S, placed at CODE and UNWIND of the image at ``base``."""
    made = folder / f"image{number}.obj"
    _tool("clang", "--target=x86_64-pc-windows-msvc", "-c", "-x", "assembler-with-cpp",
          f"-DIMAGE={number}", *_defines(values), "-o", made, SOURCES / "images.S")  # fmt: skip
    return _place(made.read_bytes(), base)


def _place(data: bytes, base: int) -> Code:
    """Links one COFF object by hand: ``.pdata`` and ``.xdata`` lie at UNWIND (PE/COFF 3 to 5)."""
    _, count, _, symbols_at, symbols, _, _ = struct.unpack_from("<HHIIIHH", data)
    sections, place = {}, {}
    for number in range(count):
        name, _, _, size, at, relocations, _, many, _, _ = struct.unpack_from(
            "<8sIIIIIIHHI", data, 20 + 40 * number
        )
        name = name.rstrip(b"\0").decode()
        sections[name] = (number + 1, bytearray(data[at : at + size]), relocations, many)
    pdata = sections.get(".pdata", (0, bytearray(), 0, 0))[1]
    xdata = sections.get(".xdata", (0, bytearray(), 0, 0))[1]
    for name, rva in ((".text", CODE), (".pdata", UNWIND), (".xdata", UNWIND + len(pdata))):
        if name in sections:
            place[sections[name][0]] = rva
    names = data[symbols_at + 18 * symbols :]
    values, labels, at = {}, {}, 0
    while at < symbols:
        name, value, section, _, _, extra = struct.unpack_from(
            "<8sIhHBB", data, symbols_at + 18 * at
        )
        if not name[:4].strip(b"\0"):
            start = struct.unpack_from("<4xI", name)[0]
            name = names[start : names.index(b"\0", start)]
        values[at] = place.get(section, 0) + value
        if section in place and not name.startswith(b"."):
            labels[name.rstrip(b"\0").decode()] = base + values[at]
        at += 1 + extra
    for name in (".text", ".pdata", ".xdata"):
        own, content, relocations, many = sections.get(name, (0, bytearray(), 0, 0))
        for number in range(many):
            where, symbol, kind = struct.unpack_from("<IIH", data, relocations + 10 * number)
            (addend,) = struct.unpack_from("<i", content, where)
            value = values[symbol] + addend
            if kind == 4:  # REL32
                value -= place[own] + where + 4
            else:
                assert kind == 3, kind  # ADDR32NB
            struct.pack_into("<i", content, where, value)
    text = bytes(sections[".text"][1])
    return Code(text, bytes(pdata + xdata), (UNWIND, len(pdata)), labels)


def _write(m: Machine, address: int, data: bytes) -> None:
    """Writes anywhere, also into nt's large page, whose frames are made on demand."""
    nt = m.at["nt"]
    if nt <= address < nt + 0x200000:
        for page in range(address >> 12, (address + len(data) + PAGE - 1) >> 12):
            m.world.pages[page] = m.world.frame_at(LARGE_RUN + page - (nt >> 12))
    m.world.write(address, data)


def _put_image(m: Machine, name: str, code: Code) -> None:
    """Code, unwind data, and the two places that name the latter."""
    module = m.module(name)
    base = module["base"]
    _write(m, base + CODE, code.text)
    _write(m, base + UNWIND, code.unwind)
    rva, size = code.functions
    _write(m, base + 0x98 + 112 + 3 * 8, struct.pack("<II", rva, size))
    m.world.write(module["entry"] + 0x10, struct.pack("<QI", base + rva, size))
    for page in (0x1000, UNWIND):  # the generator marks odd frames "no execute"
        if name != "ntoskrnl.exe":
            frame = m.world.pages[base + page >> 12]
            m.world.set_leaf(base + page, frame << 12 | 0x163)


def _exports(m: Machine, names: dict[str, int]) -> None:
    """The export directory of ntoskrnl.exe; ``names`` are RVAs."""
    ordered = sorted(names)
    functions = EXPORTS + 40
    pointers = functions + 4 * len(ordered)
    ordinals = pointers + 4 * len(ordered)
    texts = ordinals + 2 * len(ordered) + 2
    places, strings = {}, b""
    for name in ["ntoskrnl.exe", *ordered]:
        places[name] = texts + len(strings)
        strings += name.encode() + b"\0"
    table = struct.pack("<IIHHIIIIIII", 0, 0, 0, 0, places["ntoskrnl.exe"], 1, len(ordered),
                        len(ordered), functions, pointers, ordinals)  # fmt: skip
    table += struct.pack(f"<{len(ordered)}I", *(names[n] for n in ordered))
    table += struct.pack(f"<{len(ordered)}I", *(places[n] for n in ordered))
    table += struct.pack(f"<{len(ordered)}H2x", *range(len(ordered))) + strings
    _write(m, m.at["nt"] + EXPORTS, table)
    _write(m, m.at["nt"] + 0x98 + 112, struct.pack("<II", EXPORTS, len(table)))


def _processors(m: Machine, starts: list[int]) -> None:
    """Descriptor tables, KPCRs, and the block that each processor starts with."""
    nt, pool, world, root = m.at["nt"], m.at["pool"], m.world, m.world.root
    idt, gdt = pool + 0x38000, pool + 0x39000
    gates = b""
    for vector in range(256):
        to = nt + 0x1000 + 0x40 * (vector % 16)
        gates += struct.pack("<HHHHIxxxx", to & 0xFFFF, 0x10, 0x8E00, to >> 16 & 0xFFFF, to >> 32)
    world.write(idt, gates)
    world.write(gdt, struct.pack("<4Q", 0, 0, 0x00AF9A000000FFFF, 0x00CF92000000FFFF))
    for number, (cpu, start) in enumerate(zip(m.truth["processors"], starts)):
        prcb, high = cpu["prcb"], cpu["stack"][1]
        kpcr = prcb - 0x180
        world.pointer(kpcr + 0x18, kpcr, prcb)  # Self, CurrentPrcb
        world.pointer(kpcr + 0x38, idt)
        idle = cpu["thread"] if number else cpu["thread"] + 0x1000
        world.pointer(prcb + 0x18, idle)
        world.pointer(prcb + 0x28, high)  # RspBase
        world.pointer(prcb + 0x800, prcb + 0x1F0)  # -> CONTEXT, for QEMU's win-dmp
        rsp = m.sp if number == 0 else high - 0x40
        block = struct.pack("<QHQ6xHQ6xQQQQQ", root, 0x1F, gdt, 0xFFF, idt, kpcr, 0x7FF700000000,
                            nt + 0x1200, rsp, start)  # fmt: skip
        _write(m, nt + PARAMETERS + 0x100 * number, block)
        cpu["first_sp"] = rsp
    world.write(m.kdbg + 0x338, struct.pack("<H", 0x800))  # OffsetPrcbContext


def make(folder: Path, waits_in: str = "Dump_Start", *, buffer: int = BUFFER) -> Guest:
    """The guest's files in ``folder``.

    ``waits_in``: the machine crashes and hangs in "Dump_Start" of the second filter, or in
    "Dump_Write" of the first; "": it is healthy, and crashes when KEY_OF_CRASH is pressed. But in
    the first case Dump_Start of the second filter fails where its ``buffer`` is less than BUFFER.
    """
    is_crash = bool(waits_in)
    spec = Spec(arch="x64", dump_type=1, layout="win8")
    m = Machine(spec)
    if not is_crash:
        m.bugcheck = 0
    build_kernel(m)
    m.list_modules()
    m.list_unloaded()
    stack.build_stack(m)
    secondary.plan_requests(m)
    nt, world, root = m.at["nt"], m.world, m.world.root
    base = {x["name"]: x["base"] for x in m.truth["modules"] if x["loaded"]}
    first, second = m.truth["filters"]
    extension_at, link_at, state_at = layouts.NODE[8, spec.layout][:3]
    context = m.truth["context"]
    progress = context["progress_address"]
    world.pack(progress, "I", 0)
    if not is_crash:
        _heal(m)
    world.pack(second["extension"]["DumpData"], "I", buffer)

    data = {"BUG_CHECK_DATA": nt + NT_DATA + BUGCHECK, "DEBUGGER_DATA": m.kdbg}
    kernel = _image(folder, 0, nt, CRASHDMP_WRITE=base["crashdmp.sys"] + CODE,
                    DEBUGGER_DATA_KEY=0 if is_crash else _DEBUGGER_DATA_KEY,
                    DEBUGGER_DATA_WORDS=m.kdbg_size // 8, **data)  # fmt: skip
    parameters = {f"PARAMETER{n}": value for n, value in enumerate(m.parameters, 1)}
    driver = _image(folder, 1, base["badnic.sys"], KE_BUG_CHECK=kernel.labels["KeBugCheckEx"],
                    KEY=_CODES[KEY_OF_CRASH], **parameters)  # fmt: skip
    crashdmp = _image(folder, 2, base["crashdmp.sys"], FILTER_LIST=m.crash.head, PROGRESS=progress,
                      NODE_EXTENSION=extension_at, NODE_LINK=link_at, NODE_STATE=state_at,
                      FAILURE=context["failing_routine_address"],
                      DUMP_BLOCK=context["bugcheck_address"], WRITING=WRITING, **data)  # fmt: skip
    waits = _image(folder, 3, base[first["filter"]], KEY=_CODES[KEY_OF_WRITE])
    number = 4 if waits_in == "Dump_Start" else 5
    hangs = _image(folder, number, base[second["filter"]], KEY=_CODES[KEY_OF_START],
                   DUMP_DATA=layouts.EXTENSION[8]["DumpData"][0], BUFFER=BUFFER)  # fmt: skip
    images = {"ntoskrnl.exe": kernel, "badnic.sys": driver, "crashdmp.sys": crashdmp,
              first["filter"]: waits, second["filter"]: hangs}  # fmt: skip
    for name, code in images.items():
        _put_image(m, name, code)
    for row, code in ((first, waits), (second, hangs)):
        stack.set_init(m, row, "DumpStart", code.labels["DumpStart"])
        stack.set_init(m, row, "DumpWrite", code.labels["DumpWrite"])

    data_section = nt + 0x98 + 0xF0 + 2 * 40  # the third section header, .data
    _write(m, data_section + 8, struct.pack("<II", 0x20000, NT_DATA))
    _write(m, nt + VARIABLES, struct.pack("<I", m.build | 0xF0000000))
    _exports(m, {
        "KeBugCheckEx": kernel.labels["KeBugCheckEx"] - nt, "KiBugCheckData": NT_DATA + BUGCHECK,
        "NtBuildLab": NT_DATA + BUILD_LAB, "NtBuildNumber": VARIABLES,
        "PsLoadedModuleList": NT_DATA + HEAD,
    })  # fmt: skip
    idle = kernel.labels["KiIdleLoop"]
    _processors(m, [driver.labels["Interrupt" if is_crash else "Poll"], idle])
    world.frames[root >> 12][8 * SELF_MAP_SLOT : 8 * SELF_MAP_SLOT + 8] = struct.pack(
        "<Q", root | 0x8000_0000_0000_0063
    )
    noise = random.Random(7)
    for frame in range(*NOISE):
        world.frames[frame] = bytearray(noise.randbytes(PAGE))
    low = _low_memory(folder, m, build(spec).data[:0x2000], kernel.labels["boot"])
    memory = folder / "memory.bin"
    with open(memory, "wb") as file:
        for frame in sorted(world.frames):
            file.seek((frame - FIRST_FRAME) << 12)
            file.write(world.frames[frame])
    (folder / "low.bin").write_bytes(low)
    (folder / "firmware.bin").write_bytes(_flat(folder, 1, 0))
    frames = {frame: bytes(data) for frame, data in world.frames.items()}
    frames.update({(STUB + at) >> 12: low[at : at + PAGE] for at in range(0, len(low), PAGE)})
    truth = {
        **m.truth, "root": root, "nt": nt, "base": base, "build": m.build, "bugcheck": m.bugcheck,
        "head": nt + NT_DATA + HEAD, "kdbg": m.kdbg, "gdt": m.at["pool"] + 0x39000,
        "labels": {name: code.labels for name, code in images.items()},
    }  # fmt: skip
    waits_at = {"": driver.labels["Poll"], "Dump_Start": hangs.labels["DumpStart"],
                "Dump_Write": waits.labels["WaitForDevice"]}[waits_in]  # fmt: skip
    return Guest(
        folder / "firmware.bin", folder / "low.bin", memory, frames, dict(world.pages), truth,
        (waits_at, waits_at + 0x40),
    )  # fmt: skip


def _heal(m: Machine) -> None:
    """Takes out what is there in a crash alone: bugcheck, dump block, what ran on the stack.

    The debugger's data block is encoded, as it is while Windows runs.
    """
    context = m.truth["context"]
    size = context["crashdmp_context_size"]
    copy = m.world.read(context["crashdmp_context_copy"], size)
    m.world.write(context["crashdmp_context"], copy)
    m.world.write(m.at["nt"] + NT_DATA + BUGCHECK, bytes(40))
    m.world.write(m.stack_limit, bytes(m.stack_base - m.stack_limit))
    block = m.world.read(m.kdbg, m.kdbg_size)
    words = struct.unpack(f"<{len(block) // 8}Q", block)
    m.world.write(m.kdbg, struct.pack(f"<{len(words)}Q", *(w ^ _DEBUGGER_DATA_KEY for w in words)))


def _low_memory(folder: Path, m: Machine, header: bytes, boot: int) -> bytes:
    """Stub, the tables that lead to nt, and the note of a guest with the driver "fwcfg"."""
    low = bytearray(LOW_END - STUB)
    root = m.world.root

    def put(physical: int, data: bytes) -> None:
        low[physical - STUB : physical - STUB + len(data)] = data

    swapped = int.from_bytes(NOTE_BLOCK.to_bytes(4, "big"), "little")
    put(STUB, _flat(folder, 0, STUB, NT_BOOT=boot, ROOT=root, BOOT_ROOT=BOOT_ROOT,
                    PARAMETERS=m.at["nt"] + PARAMETERS, VMCOREINFO_SWAPPED=swapped))  # fmt: skip
    put(BOOT_ROOT, struct.pack("<Q", BOOT_ROOT + 0x1003))
    put(BOOT_ROOT + 0x800, bytes(m.world.frames[root >> 12][0x800:]))
    put(BOOT_ROOT + 0x1000, struct.pack("<Q", BOOT_ROOT + 0x2003))
    put(BOOT_ROOT + 0x2000, struct.pack("<Q", 0x83))
    head = bytearray(header)
    runs = ((1, 0x9E), (0x100, (RAM_MEGABYTES << 8) - 0x100))
    struct.pack_into("<IIQ", head, 0x88, len(runs), 0, sum(n for _, n in runs))
    for number, run in enumerate(runs):
        struct.pack_into("<QQ", head, 0x98 + 16 * number, *run)
    note = struct.pack("<III", 11, len(head), 0) + b"VMCOREINFO\0\0" + head
    put(NOTE, note)
    put(NOTE_BLOCK, struct.pack("<HHIQ", 0, 1, len(note), NOTE))
    return bytes(low)


def chain_of_start(truth: dict[str, Any]) -> list[int]:
    """Where the callers of the second filter's Dump_Start go on, the innermost first."""
    labels = truth["labels"]
    crashdmp, nt = labels["crashdmp.sys"], labels["ntoskrnl.exe"]
    return [
        crashdmp["at_StartFilterDrivers"],
        crashdmp["at_CrashdmpWrite_start"],
        *_outer(nt, labels),
    ]


def chain_of_write(truth: dict[str, Any]) -> list[int]:
    """The same of the function that the first filter's Dump_Write waits in."""
    labels = truth["labels"]
    crashdmp, nt = labels["crashdmp.sys"], labels["ntoskrnl.exe"]
    inner = labels[truth["filters"][0]["filter"]]["at_DumpWrite"]
    return [
        inner,
        crashdmp["at_WriteBlock"],
        crashdmp["at_CrashdmpWrite_write"],
        *_outer(nt, labels),
    ]


def _outer(nt: dict[str, int], labels: dict[str, Any]) -> list[int]:
    names = ("IoWriteCrashDump", "KeBugCheck2", "KeBugCheckEx")
    return [*(nt[f"at_{name}"] for name in names), labels["badnic.sys"]["at_Interrupt"]]
