"""CONTEXT of each architecture against the compilers' own Windows headers, and what it claims."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from analyzer.absence import Absent
from analyzer.layouts.context import CONTEXTS
from analyzer.stacks.caught import registers_of

_HEADERS = "/usr/share/mingw-w64/include"
COMPILERS = {
    "x64": ["x86_64-w64-mingw32-gcc"],
    "x86": ["i686-w64-mingw32-gcc"],
    "arm64": ["clang", "--target=aarch64-w64-windows-gnu", "-isystem", _HEADERS],
}


def member(architecture: str, register: str) -> str:
    """A register as winnt.h spells it."""
    if architecture != "arm64":
        return register.capitalize()
    if register == "x29":
        return "Fp"
    return f"X[{register[1:]}]" if register[1:].isdigit() else register.capitalize()


@pytest.mark.parametrize("architecture", CONTEXTS)
def test_offsets_are_the_compilers(architecture: str, tmp_path: Path) -> None:
    """Every register, ContextFlags, the size and the bits, as static assertions."""
    name, *options = COMPILERS[architecture]
    if shutil.which(name) is None or not Path(_HEADERS).is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    layout = CONTEXTS[architecture]
    rows = {member(architecture, key): value for key, value in layout.registers.items()}
    rows["ContextFlags"] = layout.flags
    lines = ["#include <windows.h>", "#include <stddef.h>"]
    lines += [
        f'_Static_assert(offsetof(CONTEXT, {key}) == {value}, "{key}");'
        for key, value in rows.items()
    ]
    lines.append(f'_Static_assert(sizeof(CONTEXT) == {layout.size}, "size");')
    bit = {"x64": "CONTEXT_AMD64", "x86": "CONTEXT_i386", "arm64": "CONTEXT_ARM64"}[architecture]
    lines += [f"#ifdef {bit}", f'_Static_assert({bit} == {layout.is_of}, "bit");', "#endif"]
    source = tmp_path / "context.c"
    source.write_text("\n".join(lines) + "\n")
    done = subprocess.run(
        [name, *options, "-fsyntax-only", str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("architecture", ["x64", "x64-la57", "x86-pae", "arm64"])
def test_registers_of_a_context(architecture: str) -> None:
    """Each register by its place; a CONTEXT that claims none gives none."""
    layout = CONTEXTS[architecture.partition("-")[0]]
    data = bytearray(layout.size)
    for number, offset in enumerate(layout.registers.values()):
        struct.pack_into("<" + layout.format, data, offset, 0x1000 + number)
    assert isinstance(registers_of(architecture, bytes(data)), Absent)
    struct.pack_into("<I", data, layout.flags, layout.is_of | 1)
    found = registers_of(architecture, bytes(data))
    assert found == {name: 0x1000 + n for n, name in enumerate(layout.registers)}
    assert isinstance(registers_of(architecture, bytes(data[:0x80])), Absent)
    assert isinstance(registers_of("ia64", bytes(data)), Absent)
