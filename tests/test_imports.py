"""Import tables in memory against objdump's reading of the same images, made by mingw's linker."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import make, missing

from analyzer.absence import Absent
from analyzer.dumpstack.imports import imported
from analyzer.records import Module
from analyzer.target import Target

BASE = {8: 0xFFFF_F806_2000_0000, 4: 0x8B00_0000}
PREFIX = {8: "x86_64-w64-mingw32", 4: "i686-w64-mingw32"}
SOURCE = "#include <windows.h>\nint entry(void) { return (int)GetTickCount() + MessageBeep(0); }\n"


class Memory(Target):
    """Bytes at addresses."""

    def __init__(self, pointer_size: int, pieces: dict[int, bytes]) -> None:
        self.pointer_size, self.pieces = pointer_size, pieces

    def read(self, address: int, size: int) -> bytes | Absent:
        for start, data in self.pieces.items():
            if start <= address and address + size <= start + len(data):
                return data[address - start : address - start + size]
        return Absent("not-in-dump", f"nothing at {address:#x}")


def image(pointer_size: int, folder: Path) -> tuple[bytes, set[str]]:
    """A linked image as the loader lays it out, and what objdump says it imports."""
    gcc, objdump = (shutil.which(f"{PREFIX[pointer_size]}-{tool}") for tool in ("gcc", "objdump"))
    if gcc is None or objdump is None:
        missing("needs gcc and binutils of mingw-w64; .ci/run installs them")
    (folder / "x.c").write_text(SOURCE)
    entry = "entry" if pointer_size == 8 else "_entry"
    command = [gcc, "x.c", "-o", "x.sys", "-nostartfiles", f"-Wl,-e,{entry}"]
    subprocess.run(command, cwd=folder, check=True)
    shown = subprocess.run(
        [objdump, "-p", "x.sys"], cwd=folder, check=True, capture_output=True, text=True
    ).stdout
    data = (folder / "x.sys").read_bytes()
    new = struct.unpack_from("<I", data, 0x3C)[0]
    count, optional = struct.unpack_from("<6xH12xH", data, new)
    memory = bytearray(struct.unpack_from("<I", data, new + 24 + 56)[0])
    memory[:0x400] = data[:0x400]
    for number in range(count):
        at = new + 24 + optional + 40 * number
        _, rva, size, offset = struct.unpack_from("<4I", data, at + 8)
        memory[rva : rva + size] = data[offset : offset + size]
    return bytes(memory), {name.lower() for name in re.findall(r"DLL Name: (\S+)\.dll", shown)}


def module(pointer_size: int) -> Any:
    """The image's row."""
    return make(Module, name="dump_x.sys", base=BASE[pointer_size], size=0x10000)


@pytest.mark.parametrize("pointer_size", [8, 4])
def test_import_table_as_objdump_reads_it(pointer_size: int, tmp_path: Path) -> None:
    """Each name, and a reason instead of a part of them when the table is not whole."""
    data, names = image(pointer_size, tmp_path)
    assert len(names) >= 2
    base = BASE[pointer_size]
    assert imported(Memory(pointer_size, {base: data}), module(pointer_size)) == names
    for end in range(0, len(data), 0x200):
        found = imported(Memory(pointer_size, {base: data[:end]}), module(pointer_size))
        assert found == names or isinstance(found, Absent)


def test_what_is_no_import_table_gives_a_reason(tmp_path: Path) -> None:
    """Pages given back after the start hold anything; every byte of the headers may be another."""
    data, names = image(8, tmp_path)
    for at in range(0x180):
        broken = bytearray(data)
        broken[at] ^= 0xFF
        found = imported(Memory(8, {BASE[8]: bytes(broken)}), module(8))
        assert found == names or isinstance(found, Absent)
    assert isinstance(imported(Memory(8, {}), module(8)), Absent)
