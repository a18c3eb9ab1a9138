"""The guest's modules: compiled to PE files with clang and lld, mapped and relocated like a loader.

Invariant: addresses of symbols come from the linker's map, never from the code's shape.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
COMPILE = (
    "--target=x86_64-pc-windows-msvc -c -O1 -g -gcodeview -ffreestanding -fno-stack-protector "
    # unwind data for the stack walk; a section a variable, or all get one symbol in the PDB
    "-mno-stack-arg-probe -fasynchronous-unwind-tables -fdata-sections -Wall -Wextra -Werror"
).split()
LINK = (
    "/nologo /driver /subsystem:native /nodefaultlib /debug /opt:noref /opt:noicf /Brepro "
    "/pdbaltpath:%_PDB%"
).split()


class Built(NamedTuple):
    """A compiled module."""

    image: Path
    pdb: Path
    symbols: dict[str, int]  #: name -> address relative to the image's base


class MissingCompilerError(Exception):
    """clang or lld-link is not on this machine."""


def tool(name: str) -> str:
    """A compiler's program, by its plain name or that of a versioned package."""
    for candidate in (name, *(f"{name}-{version}" for version in range(21, 12, -1))):
        path = shutil.which(candidate)
        if path:
            return path
    raise MissingCompilerError(f"not installed: {name}")


def compile_guest(folder: Path, *options: str) -> dict[str, Built]:
    """Compiles every module of the guest into a folder, unless they are there."""
    clang, link = tool("clang"), tool("lld-link")
    built = {}
    for name, source, entry, exports in (
        ("ntoskrnl.exe", "nt", "KiSystemStartup", ("PsLoadedModuleList", "NtBuildLab")),
        ("crashdmp.sys", "crashdmp", "DriverEntry", ()),
        ("diskdump.sys", "port", "DriverEntry", ()),
        ("filter.sys", "filter", "DriverEntry", ()),
    ):
        stem = folder / name.partition(".")[0]
        pdb = folder / "ntkrnlmp.pdb" if source == "nt" else stem.with_suffix(".pdb")
        if not (folder / name).exists():
            run(
                [
                    clang,
                    *COMPILE,
                    *options,
                    str(HERE / "guest" / f"{source}.c"),
                    "-o",
                    f"{stem}.obj",
                ]
            )
            outputs = (f"/map:{stem}.map", f"/pdb:{pdb}", f"/out:{folder / name}")
            shown = [f"/export:{export}" for export in exports]
            run([link, *LINK, f"/entry:{entry}", *shown, *outputs, f"{stem}.obj"])
        built[name] = Built(folder / name, pdb, read_map(Path(f"{stem}.map").read_text()))
    return built


def run(command: list[str]) -> None:
    """Runs a compiler; its words are shown when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


def read_map(text: str) -> dict[str, int]:
    """Symbols of a linker map, relative to the preferred base."""
    base = int(re.findall(r"Preferred load address is ([0-9a-f]+)", text)[0], 16)
    rows = re.findall(r"^ [0-9a-f]{4}:[0-9a-f]{8}\s+(\S+)\s+([0-9a-f]{16}) ", text, re.M)
    return {name: int(address, 16) - base for name, address in rows}


class Image:
    """A module at its place in the guest: its memory, and what the loader knows of it."""

    def __init__(self, built: Built, name: str, base: int) -> None:
        raw = built.image.read_bytes()
        self.name, self.base, self.symbols = name, base, built.symbols
        (pe,) = struct.unpack_from("<I", raw, 0x3C)
        sections, self.time_stamp = struct.unpack_from("<HI", raw, pe + 6)
        (optional_size,) = struct.unpack_from("<H", raw, pe + 20)
        optional = pe + 24
        (entry,) = struct.unpack_from("<I", raw, optional + 16)
        (preferred,) = struct.unpack_from("<Q", raw, optional + 24)
        self.size, headers, self.checksum = struct.unpack_from("<III", raw, optional + 56)
        self.entry = base + entry
        self.memory = bytearray(self.size)
        self.memory[:headers] = raw[:headers]
        for at in range(optional + optional_size, optional + optional_size + 40 * sections, 40):
            _, address, length, offset = struct.unpack_from("<IIII", raw, at + 8)
            self.memory[address : address + length] = raw[offset : offset + length]
        block, length = struct.unpack_from("<II", raw, optional + 112 + 5 * 8)
        end = block + length
        while block < end:
            page, length = struct.unpack_from("<II", self.memory, block)
            for (item,) in struct.iter_unpack("<H", self.memory[block + 8 : block + length]):
                if item >> 12 == 10:  # IMAGE_REL_BASED_DIR64
                    self.add64(page + (item & 0xFFF), base - preferred)
            block += length

    def __contains__(self, address: int) -> bool:
        return self.base <= address < self.base + self.size

    def add64(self, offset: int, value: int) -> None:
        """Adds to a 64-bit word of the image."""
        (old,) = struct.unpack_from("<Q", self.memory, offset)
        struct.pack_into("<Q", self.memory, offset, (old + value) & 0xFFFF_FFFF_FFFF_FFFF)

    def address(self, symbol: str) -> int:
        """Address of a symbol in the guest."""
        return self.base + self.symbols[symbol]

    def put(self, symbol: str, form: str, *values: object, offset: int = 0) -> None:
        """Writes into the image before the machine starts."""
        struct.pack_into("<" + form, self.memory, self.symbols[symbol] + offset, *values)
