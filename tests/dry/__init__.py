"""Filter drivers in C for dry runs, on three architectures, and the machine they are loaded in.

Invariant: what a routine must do follows from its source; addresses come from the export tables
that the linker wrote. Compiled once a test run.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kd.image import MissingCompilerError, tool

from analyzer.absence import Absent
from analyzer.dumpstack.nodes import Node, at_address
from analyzer.dumpstack.walk import Ring
from analyzer.layouts.crashdmp import node_class, node_layouts
from analyzer.records import Module, Origin
from analyzer.target import PAGE, Target

HERE = Path(__file__).resolve().parent
ARCHITECTURES = ("x64", "x86", "arm64")
_TRIPLE = {
    "x64": "x86_64-pc-windows-msvc",
    "x86": "i686-pc-windows-msvc",
    "arm64": "aarch64-pc-windows-msvc",
}
_FLAGS = {"x64": ["-maes"], "x86": ["-maes"], "arm64": ["-march=armv8-a+crypto"]}
_COMPILE = (
    "-c -O1 -ffreestanding -fms-extensions -fno-builtin -fno-jump-tables -Wno-everything"
).split()
_PLAIN = {"x64": ["-mno-stack-arg-probe"], "x86": ["-mno-stack-arg-probe"], "arm64": []}
_LINK = "/nologo /driver /subsystem:native /nodefaultlib /opt:noref /opt:noicf /Brepro".split()


def _run(command: Sequence[Any]) -> None:
    done = subprocess.run([str(w) for w in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"


@functools.cache
def built(architecture: str) -> Path:
    """A folder with ntoskrnl.exe, filters.sys and guarded.sys; skips where no compiler is."""
    folder = Path(tempfile.mkdtemp(prefix=f"dumpstart-dry-{architecture}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        clang, link = tool("clang"), tool("lld-link")
    except MissingCompilerError as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing))
        pytest.skip(str(missing))
    compile_ = [clang, f"--target={_TRIPLE[architecture]}", *_COMPILE]
    machine = f"/machine:{architecture}"
    entry = "/entry:DriverEntry" + ("@8" if architecture == "x86" else "")
    plain = [*_FLAGS[architecture], "-fno-stack-protector", *_PLAIN[architecture]]
    _run([*compile_, *plain, HERE / "nt.c", "-o", folder / "nt.obj"])
    lib = folder / "nt.lib"
    exports = ["/export:GuardDispatch", "/export:GuardCheck", f"/implib:{lib}"]
    out = f"/out:{folder / 'ntoskrnl.exe'}"
    _run([link, *_LINK, machine, "/entry:Entry", out, *exports, folder / "nt.obj"])
    _run([*compile_, *plain, HERE / "filters.c", "-o", folder / "filters.obj"])
    _run([*compile_, "-fstack-protector-strong", HERE / "frames.c", "-o", folder / "frames.obj"])
    objects = [folder / "filters.obj", folder / "frames.obj", lib]
    _run([link, *_LINK, machine, entry, f"/out:{folder / 'filters.sys'}", *objects])
    guard = [*plain, "-Xclang", "-cfguard"]
    _run([*compile_, *guard, HERE / "guarded.c", "-o", folder / "guarded.obj"])
    _run([link, *_LINK, machine, entry, f"/out:{folder / 'guarded.sys'}", folder / "guarded.obj"])
    return folder


class Image:
    """A PE file at its place: sections mapped, relocated, imports bound."""

    def __init__(self, path: Path, name: str, base: int, imports: dict[str, int]) -> None:
        raw = path.read_bytes()
        self.name, self.base = name, base
        (pe,) = struct.unpack_from("<I", raw, 0x3C)
        (count,), (optional_size,) = (struct.unpack_from("<H", raw, pe + n) for n in (6, 20))
        optional = pe + 24
        self.wide = struct.unpack_from("<H", raw, optional)[0] == 0x20B
        self.width = 8 if self.wide else 4
        self.form = "<Q" if self.wide else "<I"
        self.directories = optional + (112 if self.wide else 96)
        preferred = struct.unpack_from(self.form, raw, optional + (24 if self.wide else 28))[0]
        self.size, headers = struct.unpack_from("<II", raw, optional + 56)
        self.memory = bytearray(self.size)
        self.memory[:headers] = raw[:headers]
        self.sections: dict[str, tuple[int, int]] = {}
        for at in range(optional + optional_size, optional + optional_size + 40 * count, 40):
            title = raw[at : at + 8].rstrip(b"\0").decode()
            virtual, rva, length, offset = struct.unpack_from("<IIII", raw, at + 8)
            self.memory[rva : rva + length] = raw[offset : offset + length]
            self.sections[title] = (rva, max(virtual, length))
        self._relocate(base - preferred)
        self.symbols = self._exports()
        if imports:
            self._bind(imports)

    def directory(self, number: int) -> tuple[int, int]:
        """RVA and size of a data directory."""
        rva, size = struct.unpack_from("<II", self.memory, self.directories + 8 * number)
        return int(rva), int(size)

    def _relocate(self, delta: int) -> None:
        block, length = self.directory(5)
        end = block + length
        while block < end:
            page, size = struct.unpack_from("<II", self.memory, block)
            for (item,) in struct.iter_unpack("<H", self.memory[block + 8 : block + size]):
                if item >> 12 in (3, 10):  # HIGHLOW, DIR64
                    at = page + (item & 0xFFF)
                    (value,) = struct.unpack_from(self.form, self.memory, at)
                    mask = (1 << 8 * self.width) - 1
                    struct.pack_into(self.form, self.memory, at, value + delta & mask)
            block += size

    def _text(self, rva: int) -> str:
        return self.memory[rva : self.memory.index(0, rva)].decode()

    def _exports(self) -> dict[str, int]:
        rva, _ = self.directory(0)
        if not rva:
            return {}
        names, functions, texts, ordinals = struct.unpack_from("<4I", self.memory, rva + 24)
        found = {}
        for number in range(names):
            (text,) = struct.unpack_from("<I", self.memory, texts + 4 * number)
            (order,) = struct.unpack_from("<H", self.memory, ordinals + 2 * number)
            (at,) = struct.unpack_from("<I", self.memory, functions + 4 * order)
            found[self._text(text).lstrip("_").split("@")[0]] = self.base + at
        return found

    def _bind(self, imports: dict[str, int]) -> None:
        at, _ = self.directory(1)
        while at and struct.unpack_from("<I", self.memory, at + 12)[0]:
            names, _, _, _, slots = struct.unpack_from("<5I", self.memory, at)
            while True:
                (hint,) = struct.unpack_from(self.form, self.memory, names)
                if not hint:
                    break
                name = self._text(hint + 2).lstrip("_").split("@")[0]
                struct.pack_into(self.form, self.memory, slots, imports[name])
                names, slots = names + self.width, slots + self.width
            at += 20

    def put(self, symbol: str, form: str, value: int) -> None:
        """Writes a variable before the machine starts."""
        struct.pack_into("<" + form, self.memory, self.symbols[symbol] - self.base, value)


class Machine(Target):
    """The images and some pool in memory; pages can be taken away."""

    path = "machine"

    def __init__(self, architecture: str) -> None:
        self.architecture, self.build = architecture, 19041
        wide = architecture != "x86"
        self.pointer_size = 8 if wide else 4
        self.pages: dict[int, bytearray] = {}
        self.gone: dict[int, Absent] = {}
        self.images: list[Image] = []
        self.reads = 0
        self.pool = 0xFFFFC08B_E4001000 if wide else 0x87001000
        self.kpcr = 0xFFFFF800_40000000 if wide else 0xFFDFF000

    def add(self, image: Image) -> Image:
        """Loads an image."""
        self.images.append(image)
        self.store(image.base, bytes(image.memory))
        return image

    def store(self, address: int, data: bytes) -> None:
        """Writes, with new pages where none are."""
        at = 0
        while at < len(data):
            place = address + at
            start = place & PAGE - 1
            piece = data[at : at + PAGE - start]
            page = self.pages.setdefault(place & -PAGE, bytearray(PAGE))
            page[start : start + len(piece)] = piece
            at += len(piece)

    def read(self, address: int, size: int) -> Any:
        self.reads += 1
        out = b""
        while len(out) < size:
            at = address + len(out)
            page = at & -PAGE
            if page in self.gone:
                return self.gone[page]
            if page not in self.pages:
                return Absent("not-mapped", f"nothing at {at:#x}")
            out += bytes(self.pages[page][at & PAGE - 1 :][: size - len(out)])
        return out

    def modules(self) -> list[Module]:
        none = Absent("not-recorded")
        return [
            Module(
                image.name, image.base, image.base + image.size, image.size,
                "kernel" if image.name.startswith("nt") else "dump filter",
                None if image.name.startswith("nt") else "crash", True, none, none, none, none,
                none, number, Origin(self.path, "loaded"),
            )
            for number, image in enumerate(self.images)
        ]  # fmt: skip

    def debugger_data(self) -> bytes:
        """As much of KDDEBUGGER_DATA64 as leads to the processor block."""
        block = bytearray(0x340)
        struct.pack_into("<Q", block, 0x218, self.pool - PAGE)
        struct.pack_into("<H", block, 0x2E6, 0x180 if self.pointer_size == 8 else 0x120)
        return bytes(block)

    def image(self, name: str) -> Image:
        """A loaded image."""
        return next(image for image in self.images if image.name == name)


class Filter(NamedTuple):
    """A node to make: routines by callback."""

    name: str
    routines: dict[str, int]


def machine(architecture: str) -> Machine:
    """nt, the filters and the guarded filter twice: with nt's routines and without their pages."""
    folder, made = built(architecture), Machine(architecture)
    wide = made.pointer_size == 8
    high = 0xFFFFF800_00000000 if wide else 0x80000000
    nt = made.add(Image(folder / "ntoskrnl.exe", "ntoskrnl.exe", high + 0x2000000, {}))
    filters = made.add(
        Image(folder / "filters.sys", "dump_sample.sys", high + 0x4030000, nt.symbols)
    )
    made.store(filters.base, bytes(filters.memory))
    for number, name in enumerate(("dump_guarded.sys", "dump_lonely.sys")):
        image = Image(folder / "guarded.sys", name, high + 0x5000000 + number * 0x100000, {})
        form = "Q" if wide else "I"
        for pointer, routine in (
            ("CheckPointer", "GuardCheck"),
            ("DispatchPointer", "GuardDispatch"),
        ):
            place = (
                nt.symbols[routine] if not number else high + 0x2F00000 + nt.symbols[routine] % 64
            )
            image.put(pointer, form, place)
        made.add(image)
    # what DriverEntry and the loader left: pointers in the filter's data
    data = filters.symbols["Data"]
    paged = filters.base + filters.sections["PAGEDATA"][0]
    device = high + 0x6000000
    table = data + 8 + 32
    made.store(table, paged.to_bytes(made.pointer_size, "little"))
    made.store(table + 2 * made.pointer_size, device.to_bytes(made.pointer_size, "little"))
    made.gone[device] = Absent("not-in-dump", "the frame is not stored", "a complete memory dump")
    _page_out(made, filters, "PAGEDATA")
    _page_out(made, nt, "PAGE")
    made.store(made.pool - PAGE, (made.kpcr + (0x180 if wide else 0x120)).to_bytes(8, "little"))
    made.store(made.kpcr, bytes(0x400))
    self_at = 0x1C if architecture == "x86" else 0x18
    made.store(made.kpcr + self_at, made.kpcr.to_bytes(made.pointer_size, "little"))
    made.store(made.kpcr + 0x100, (7).to_bytes(4, "little"))
    return made


def _page_out(made: Machine, image: Image, section: str) -> None:
    start, size = image.sections[section]
    for page in range(image.base + start & -PAGE, image.base + start + size, PAGE):
        made.gone[page] = Absent("paged-out", "the page was in the page file")


def ring(made: Machine, filters: Sequence[Filter], data: int = 0) -> Ring:
    """crashdmp's list: one node for each filter, written into the pool and read again."""
    layout = node_layouts(made.pointer_size)[0]
    kind = node_class(layout)
    nodes: list[Node] = []
    data = data or made.image("dump_sample.sys").symbols["Data"]
    for number, row in enumerate(filters):
        node = kind()
        init = node.FilterInitData
        init.MajorVersion, init.MaxPagesPerWrite, init.DumpData = 2, 16, data
        for member, routine in row.routines.items():
            setattr(init, member, routine)
        extension = node.FilterExtension
        extension.DumpType, extension.DeviceObject = 1, made.pool + 0x3080
        extension.Geometry.BytesPerSector, extension.Geometry.MediaType = 512, 12
        extension.DiskSize, extension.DumpData = 1000204886016, data
        extension.PartitionInfo.SizeOfPartitionInfo, extension.PartitionInfo.PartitionStyle = 24, 1
        extension.Size = {8: 0x58, 4: 0x50}[made.pointer_size]
        address = made.pool + 0x100 * number + 0x40
        made.store(address, bytes(node))
        found = at_address(made, made.modules(), address, layout)
        assert isinstance(found, Node)
        nodes.append(found)
    return Ring("crash", made.pool, None, tuple(nodes), (), "", len(nodes), len(nodes), "test")
