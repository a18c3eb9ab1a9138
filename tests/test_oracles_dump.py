"""Our dump reader beside others on the same files: kdmp-parser and volatility3.

Both are test-only and were written by other people. Each file is opened by both sides; header,
page bytes, translations and the module list, walked through the other reader's memory, must be the
same. kdmp-parser runs in a process of its own: it prints on failures and can crash.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from generator import Spec
from oracles import frames_for_kdmp, needs, saved, volatility_layers

from analyzer.dumpfile import open_dump
from analyzer.dumpfile.pagedump import PageDump

PAGE = 4096
#: pages of the generator's pool and special mappings, and of the start of each image
REGIONS = {8: (0xFFFFC08BE4000000, 0xFFFFF80610000000), 4: (0x85600000, 0x82800000)}


def opened(spec: Spec, folder: Path) -> tuple[PageDump, dict[str, Any]]:
    """A synthetic dump, opened by our reader, and its truth."""
    path, built = saved(spec, folder)
    dump = open_dump(str(path))
    assert isinstance(dump, PageDump)
    return dump, built.truth


def addresses(dump: PageDump, truth: dict[str, Any]) -> list[int]:
    """What both sides translate: each kind of the truth, all pool and image pages, random ones."""
    found = [va for va, _, _ in truth["translations"]]
    for base in REGIONS[dump.pointer_size]:
        found += [base + 0x10 * page + page * PAGE for page in range(0x80)]
    found += [m.base + at for m in dump.modules() for at in (0, 0x1000, 0x2FFF, 0x10310)]
    top = (1 << (64 if dump.pointer_size == 8 else 32)) - 1
    source = np.random.default_rng(11)
    return found + [int(word) & top for word in source.integers(0, 1 << 63, 200)]


def page_digests(dump: PageDump, frames: list[int]) -> dict[int, str]:
    """SHA-256 of pages, as our reader gives them."""
    return {
        pfn: hashlib.sha256(dump.file.data[offset : offset + PAGE]).hexdigest()
        for pfn, offset in zip(frames, dump.pages.offsets(np.array(frames, np.int64)).tolist())
    }


def walk_modules(read: Callable[[int, int], bytes], head: int, width: int) -> list[list[Any]]:
    """nt's module list read through any memory: [name, base, size, check sum], written apart."""
    base_at, size_at, name_at, sum_at = (
        (0x30, 0x40, 0x58, 0x78) if width == 8 else (0x18, 0x20, 0x2C, 0x40)
    )
    form = "<Q" if width == 8 else "<I"
    rows: list[list[Any]] = []
    (at,) = struct.unpack(form, read(head, width))
    while at != head and len(rows) < 1000:
        (base,) = struct.unpack(form, read(at + base_at, width))
        (size,) = struct.unpack("<I", read(at + size_at, 4))
        (checksum,) = struct.unpack("<I", read(at + sum_at, 4))
        (length,) = struct.unpack("<H", read(at + name_at, 2))
        (text,) = struct.unpack(form, read(at + name_at + width, width))
        rows.append([read(text, length).decode("utf-16-le"), base, size, checksum])
        (at,) = struct.unpack(form, read(at, width))
    return rows


def our_modules(dump: PageDump) -> list[list[Any]]:
    """The same of our reader."""
    return [[m.name, m.base, m.size, m.checksum] for m in dump.modules()]


# ---- kdmp-parser ---------------------------------------------------------------------------------
KDMP = """
import hashlib, json, sys
import kdmp_parser
from test_oracles_dump import walk_modules

job = json.load(open(sys.argv[1]))
parser = kdmp_parser.KernelDumpParser(job["path"])
header = parser.header

def read(va, size):
    out = b""
    while len(out) < size:
        pa = parser.translate_virtual(va + len(out))
        page = bytes(parser.read_physical_page(pa & ~0xFFF))
        out += page[pa & 0xFFF:][:size - len(out)]
    return out

pages = {}
for pfn in job["frames"]:
    page = parser.read_physical_page(pfn << 12)
    pages[pfn] = None if page is None else hashlib.sha256(bytes(page)).hexdigest()
json.dump({
    "header": {
        "dump_type": int(parser.type),
        "bugcheck": header.BugCheckCode,
        "parameters": list(header.BugCheckCodeParameter),
        "build": header.MinorVersion,
        "root": header.DirectoryTableBase,
        "head": header.PsLoadedModuleList,
        "debugger": header.KdDebuggerDataBlock,
        "machine": header.MachineImageType,
        "processors": header.NumberProcessors,
        "system_time": header.SystemTime,
        "uptime": header.SystemUpTime,
        "writer_status": header.WriterStatus,
        "space": header.RequiredDumpSpace,
        "ip": parser.context.Rip,
        "sp": parser.context.Rsp,
    },
    "pages": pages,
    "translations": [parser.translate_virtual(va) for va in job["addresses"]],
    "modules": walk_modules(read, header.PsLoadedModuleList, 8),
}, open(job["result"], "w"))
"""


@pytest.mark.parametrize(
    ("dump_type", "unaligned"),
    [(1, False), *itertools.product((5, 6, 8, 9, 10), (False, True))],  # type 1 has no map to pack
)
def test_kdmp_parser_and_we_agree(dump_type: int, unaligned: bool, tmp_path: Path) -> None:
    """Header, registers, every page, translations and modules of x64 dumps of six types."""
    needs("kdmp_parser")
    dump, truth = opened(Spec("x64", dump_type, unaligned=unaligned), tmp_path)
    frames = frames_for_kdmp(dump_type, [int(pfn) for pfn in truth["frames"]])
    tried = addresses(dump, truth)
    job, result = tmp_path / "job.json", tmp_path / "result.json"
    work = {"path": dump.path, "frames": frames, "addresses": tried, "result": str(result)}
    job.write_text(json.dumps(work), "utf-8")
    search = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", KDMP, str(job)],
        capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": search},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    theirs = json.loads(result.read_text("utf-8"))

    number = dump.file.number
    names = {
        "dump_type": "DumpType",
        "bugcheck": "BugCheckCode",
        "build": "MinorVersion",
        "root": "DirectoryTableBase",
        "head": "PsLoadedModuleList",
        "debugger": "KdDebuggerDataBlock",
        "machine": "MachineImageType",
        "processors": "NumberProcessors",
        "system_time": "SystemTime",
        "uptime": "SystemUpTime",
        "writer_status": "WriterStatus",
        "space": "RequiredDumpSpace",
    }
    ours: dict[str, Any] = {name: number(field) for name, field in names.items()}
    ours["parameters"] = [number(f"BugCheckParameter{n}") for n in (1, 2, 3, 4)]
    ours["ip"], ours["sp"] = dump.file.register("ip"), dump.file.register("sp")
    assert theirs["header"] == ours

    assert {int(pfn): digest for pfn, digest in theirs["pages"].items()} == (
        page_digests(dump, frames)
    )
    # the oracle does not follow transition entries: those it must leave out
    resting = {va >> 12 for va, _, kind in truth["translations"] if kind == "transition"}
    walked = [(va, *dump.walker.walk(va)) for va in tried]
    mine = [None if code or va >> 12 in resting else pa for va, pa, code in walked]
    assert theirs["translations"] == mine
    assert sum(pa is not None for pa in mine) > 100
    assert theirs["modules"] == our_modules(dump)


# ---- volatility3 ---------------------------------------------------------------------------------
@pytest.mark.parametrize("dump_type", [1, 5])
@pytest.mark.parametrize("arch", ["x64", "x86-pae", "x86"])
def test_volatility3_and_we_agree(arch: str, dump_type: int, tmp_path: Path) -> None:
    """Pages, translations with their reasons, reads over page edges and the module list."""
    needs("volatility3")
    from volatility3.framework import exceptions

    dump, truth = opened(Spec(arch, dump_type, unaligned=dump_type == 5), tmp_path)
    pages, virtual = volatility_layers(dump.path, arch, dump.file.number("DirectoryTableBase"))

    frames = truth["frames"]
    theirs = {pfn: hashlib.sha256(pages.read(pfn << 12, PAGE)).hexdigest() for pfn in frames}
    assert theirs == page_digests(dump, frames)
    header = pages.get_header()
    assert header.BugCheckCode == dump.file.number("BugCheckCode")
    assert header.PsLoadedModuleList == dump.file.number("PsLoadedModuleList")
    assert header.MinorVersion == dump.build

    # volatility3 cuts addresses to 48 bits, so only those that mean the same to both are tried
    whole = dump.pointer_size == 4
    tried = [va for va in addresses(dump, truth) if whole or va >> 47 in (0, 0x1FFFF)]
    prototypes = {va >> 12 for va, _, kind in truth["translations"] if kind == "prototype"}
    agreed = set()
    for va in tried:
        data = dump.read(va, 8)
        reason = "" if isinstance(data, bytes) else data.reason
        agreed.add(reason)
        try:
            value = virtual.read(va & virtual.maximum_address, 8)
        except exceptions.SwappedInvalidAddressException:
            assert reason == "paged-out", hex(va)
        except exceptions.InvalidAddressException:
            # it calls a prototype entry invalid; the page is with the section's entries
            assert reason in ("not-mapped", "not-in-dump") or va >> 12 in prototypes, hex(va)
        else:
            assert value == data, hex(va)
    assert agreed == {"", "not-mapped", "paged-out", "not-in-dump"}

    edge = truth["stack"][0] + PAGE  # two neighbours in virtual memory
    assert virtual.read(edge - 100, 200) == dump.read(edge - 100, 200)

    def read(address: int, size: int) -> bytes:
        return bytes(virtual.read(address & virtual.maximum_address, size))

    head = dump.file.number("PsLoadedModuleList")
    assert walk_modules(read, head, dump.pointer_size) == our_modules(dump)  # type: ignore[arg-type]
