"""Readers that we did not write open the synthetic dumps as the truth says.

kdmp-parser and volatility3 for pages and translations of page dumps, the MMU of QEMU (unicorn) for
the page tables of every architecture, ntoseye for small dumps. All are test-only; what is not
installed is skipped.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from generator import Built, Spec, build
from oracles import frames_for_kdmp, needs, saved, volatility_layers


# ---- kdmp-parser -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("dump_type", "changes"),
    [
        *itertools.product((1, 5, 6, 8, 9, 10), ({}, {"unaligned": True})),
        (6, {"variant": "pcid"}),
        (1, {"layout": "vista", "variant": "mbr"}),
        (5, {"layout": "newest", "variant": "hibernation"}),
        (6, {"variant": "worst"}),
    ],
)
def test_kdmp_parser_agrees(dump_type: int, changes: dict[str, Any], tmp_path: Path) -> None:
    """kdmp-parser finds the type, the pages, and every translation but transition entries."""
    needs("kdmp_parser")
    import kdmp_parser

    path, built = saved(Spec(dump_type=dump_type, **changes), tmp_path)
    parser = kdmp_parser.KernelDumpParser(str(path))
    assert int(parser.type) == dump_type
    root = built.truth["header"]["directory_table_base"]
    assert parser.directory_table_base & ~0xFFF == root & ~0xFFF
    for va, pa, reason in built.truth["translations"]:
        # known gap of the oracle: it does not follow transition entries
        assert parser.translate_virtual(va) == (None if reason == "transition" else pa), hex(va)
    frames = frames_for_kdmp(dump_type, built.truth["frames"])
    assert len(frames) > 50
    for pfn in frames:
        assert bytes(parser.read_physical_page(pfn << 12)) == built.page(pfn), hex(pfn)


# ---- volatility3 -------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("layout", ["vista", "newest"])
@pytest.mark.parametrize("unaligned", [False, True])
@pytest.mark.parametrize("dump_type", [1, 5])
@pytest.mark.parametrize("arch", ["x64", "x86-pae", "x86"])
def test_volatility3_agrees(
    arch: str, dump_type: int, unaligned: bool, layout: str, tmp_path: Path
) -> None:
    """volatility3's layers give the same pages, and translate all but what is not in the file."""
    needs("volatility3")
    from volatility3.framework import exceptions

    path, built = saved(Spec(arch, dump_type, layout, unaligned=unaligned), tmp_path)
    root = built.truth["header"]["directory_table_base"]
    dump, virtual = volatility_layers(path, arch, root)
    for pfn in built.truth["frames"]:
        assert dump.read(pfn << 12, 4096) == built.page(pfn), hex(pfn)
    for va, pa, reason in built.truth["translations"]:
        if reason == "paged-out":
            with pytest.raises(exceptions.SwappedInvalidAddressException):
                virtual.translate(va)
        elif pa is None or reason == "not-in-dump":
            with pytest.raises(exceptions.InvalidAddressException):
                virtual.translate(va)
        else:
            assert virtual.translate(va)[0] == pa, hex(va)


# ---- the MMU of QEMU ---------------------------------------------------------------------------
MEMORY = 0x2000000  # physical memory of the emulated machine
CODE = 0x1800000  # a frame beyond the dump for the probe's own code and tables
MARK = b"\x5a\xc3\x99\x0f"


def start_x86(uc: Any, spec: Spec, root: int, va: int) -> None:
    """A `mov eax, [rcx]` in 64-bit mode; its code is reached through the huge page."""
    from unicorn import x86_const as x

    uc.mem_write(CODE, b"\x8b\x01\xf4")
    uc.reg_write(x.UC_X86_REG_CR3, root & ~0xFFF if spec.arch == "x64" else root)
    if spec.arch == "x64":
        uc.reg_write(x.UC_X86_REG_CR4, 0x6F8 | (1 << 12 if spec.la57 else 0))
        uc.msr_write(0xC0000080, 0xD01)
        base = 0xFFFFC08C00000000 + CODE
    else:
        uc.reg_write(x.UC_X86_REG_CR4, 0x6F8 if spec.arch == "x86-pae" else 0x6D8)
        base = 0x82800000 + 0x10000  # inside the kernel's large page
        uc.mem_write(0x410000, b"\x8b\x01\xf4")
    uc.reg_write(x.UC_X86_REG_CR0, 0x80050033)
    uc.reg_write(x.UC_X86_REG_RCX if spec.arch == "x64" else x.UC_X86_REG_ECX, va)
    uc.emu_start(base, base + 2, count=1)


def start_arm64(uc: Any, root: int, va: int) -> None:
    """A `ldr w0, [x1]` with the dump's root in TTBR1, as for kernel addresses."""
    from unicorn import arm64_const as a

    uc.mem_write(CODE, b"\x20\x00\x40\xb9")
    for register in (
        (
            1,
            1,
            3,
            6,
            0,
            0x401,
        ),  # SCR_EL3: the level below is 64-bit; without it EL1 counts as 32-bit
        (1, 1, 3, 4, 0, 1 << 31),  # HCR_EL2: the same for EL1
        (2, 0, 3, 0, 2, 16 | 16 << 16 | 2 << 30 | 5 << 32),  # TCR_EL1: 48-bit addresses, 4 KB pages
        (10, 2, 3, 0, 0, 0xFF),  # MAIR_EL1: normal memory
        (2, 0, 3, 0, 1, root),  # TTBR1_EL1
        (1, 0, 3, 0, 0, 0x30D00801),  # SCTLR_EL1: translation on
    ):
        uc.reg_write(a.UC_ARM64_REG_CP_REG, register)
    uc.reg_write(a.UC_ARM64_REG_X1, va)
    base = 0xFFFFC08C00000000 + CODE
    uc.emu_start(base, base + 4, count=1)


def machine_reads(spec: Spec, built: Built, va: int, pa: int | None) -> bool:
    """Whether the emulated machine, reading va, gets what was put at pa."""
    import unicorn
    from unicorn import arm64_const as a
    from unicorn import x86_const as x

    if spec.arch == "arm64":
        uc = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
    else:
        uc = unicorn.Uc(
            unicorn.UC_ARCH_X86,
            unicorn.UC_MODE_64 if spec.arch == "x64" else unicorn.UC_MODE_32,
        )
    uc.mem_map(0, MEMORY)
    for pfn in built.truth["frames"]:
        uc.mem_write(pfn << 12, built.page(pfn))
    if pa is not None:
        uc.mem_write(pa, MARK)
    try:
        if spec.arch == "arm64":
            start_arm64(uc, built.truth["header"]["directory_table_base"], va)
            value = uc.reg_read(a.UC_ARM64_REG_W0)
        else:
            start_x86(uc, spec, built.truth["header"]["directory_table_base"], va)
            value = uc.reg_read(x.UC_X86_REG_EAX)
    except unicorn.UcError:
        return False
    return int(value) == int.from_bytes(MARK, "little")


@pytest.mark.parametrize(
    "spec",
    [
        Spec("x64", 1),
        Spec("x64", 1, la57=True),
        Spec("arm64", 1),
        Spec("x86-pae", 1),
        Spec("x86", 1),
    ],
    ids=lambda spec: spec.arch + ("-la57" if spec.la57 else ""),
)
def test_the_mmu_of_qemu_agrees(spec: Spec) -> None:
    """A processor that uses these tables reads exactly the addresses that the truth calls valid."""
    pytest.importorskip("unicorn")
    built = build(spec)
    seen = 0
    for va, pa, reason in built.truth["translations"]:
        if pa is not None and pa >= MEMORY:
            continue  # beyond the memory of the emulated machine
        wanted = reason in ("valid", "large", "huge", "not-in-dump")
        assert machine_reads(spec, built, va, pa) == wanted, (hex(va), reason)
        seen += 1
    assert seen >= 5


# ---- ntoseye -----------------------------------------------------------------------------------
@pytest.mark.parametrize("variant", ["context-only", "node-in-blocks", "bare"])
@pytest.mark.parametrize("arch", ["x64", "arm64"])
def test_ntoseye_agrees(
    arch: str, variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ntoseye lists the same modules and tags of a small dump and reads the same blocks."""
    ntoseye = pytest.importorskip("ntoseye")
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # no symbols from the network
    path, built = saved(Spec(arch, 4, "win8", variant), tmp_path)
    debugger = ntoseye.attach("dmp", connect=str(path))
    try:
        told = [(m.name, m.base, m.size, m.checksum, m.timestamp) for m in debugger.modules]
        assert told == [
            (m["name"], m["base"], m["size"], m["checksum"], m["time_date_stamp"])
            for m in built.truth["modules"]
            if m["loaded"]
        ]
        for block in built.truth["blocks"]:
            start = block["offset"]
            content = built.data[start : start + block["size"]]
            assert bytes(debugger.memory.read(block["address"], block["size"])) == content
        tags = str(debugger.command(".enumtag")).lower()
        for tag in built.truth["tags"]:
            assert tag["guid"] in tags
    finally:
        debugger.close()
