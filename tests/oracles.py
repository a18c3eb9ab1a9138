"""Other people's readers of kernel dumps, as the tests open them: kdmp-parser and volatility3."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from generator import Built, Spec, build


def needs(module: str) -> None:
    """Skips where an oracle is not installed; in CI it must be, where it can be."""
    if module == "kdmp_parser" and sys.version_info >= (3, 13):
        pytest.skip("kdmp-parser has no working wheel for this Python; older ones compare with it")
    if importlib.util.find_spec(module) is None:
        message = f"{module} is not installed (dependency group 'oracles')"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


def saved(spec: Spec, folder: Path) -> tuple[Path, Built]:
    """A dump on disk, because the oracles take paths."""
    built = build(spec)
    path = folder / "sample.dmp"
    path.write_bytes(built.data)
    return path, built


def frames_for_kdmp(dump_type: int, frames: list[int]) -> list[int]:
    """The pages kdmp-parser can find: it loses the last 1 to 7 bits of a bitmap."""
    return [pfn for pfn in frames if dump_type not in (5, 6) or pfn < (frames[-1] + 1) & ~7]


def volatility_layers(
    path: str | Path, arch: str, root: int, kind: str = "dump"
) -> tuple[Any, Any]:
    """The dump and the kernel's address space over it, as volatility3 opens them.

    ``kind``: dump, elf (a core of QEMU) or raw.
    """
    from volatility3.framework import contexts
    from volatility3.framework.layers import crash, elf, intel, physical

    context = contexts.Context()
    context.config["file.location"] = Path(path).as_uri()
    context.config["dump.base_layer"] = "file"
    context.config["virtual.memory_layer"] = "dump"
    context.config["virtual.page_map_offset"] = root
    context.config["virtual.kernel_virtual_offset"] = 0
    layer: Any = crash.WindowsCrashDump64Layer if arch == "x64" else crash.WindowsCrashDump32Layer
    if kind == "elf":
        layer = elf.Elf64Layer
    paging = {
        "x64": intel.WindowsIntel32e,
        "x86-pae": intel.WindowsIntelPAE,
        "x86": intel.WindowsIntel,
    }[arch]
    context.add_layer(physical.FileLayer(context, "file", "file"))
    if kind == "raw":
        context.config["virtual.memory_layer"] = "file"
        dump = context.layers["file"]
    else:
        dump = layer(context, "dump", "dump")
        context.add_layer(dump)
    virtual = paging(context, "virtual", "virtual")
    context.add_layer(virtual)
    return dump, virtual
