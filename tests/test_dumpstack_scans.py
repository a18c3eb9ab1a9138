"""Both scans of memory for filters, what is left on stacks, and that the work is bounded."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from dumpstack_memory import PAGE, POOL, WIN8, Memory, Stack, module, stack_of
from generator import ARCHS, LAYOUTS, Spec, build

from analyzer.absence import Absent
from analyzer.dumpfile import open_dump, page_search
from analyzer.dumpfile.page_search import scan_pages
from analyzer.dumpstack import residue, roles, walk
from analyzer.dumpstack.chunk_search import scan_chunks
from analyzer.records import Module


# ---- scans --------------------------------------------------------------------------------------
def opened(spec: Spec, path: Path) -> tuple[Any, list[Module], dict[str, Any]]:
    """A synthetic dump, the modules of its stacks, and the truth."""
    built = build(spec)
    path.write_bytes(built.data)
    dump = open_dump(str(path))
    return dump, [m for m in roles.classify(dump.modules()) if m.stack and m.loaded], built.truth


SCANS = [
    Spec(arch, kind, layout, variant, unaligned=kind == 6)
    for arch in ARCHS
    for layout in LAYOUTS
    for kind, variant in ((6, "nodes-only"), (1, "crashdmp-absent"))
]


def scan_id(spec: Spec) -> str:
    """Id of a parametrized scan."""
    return "-".join(str(part) for part in spec[:4])


@pytest.mark.parametrize("spec", SCANS, ids=scan_id)
def test_both_scans_find_every_node(spec: Spec, tmp_path: Path) -> None:
    """By numpy over the file and by the standard library over memory: the nodes written."""
    dump, modules, truth = opened(spec, tmp_path / "scan.dmp")
    wanted = {row["node"]: row["layout"] for row in truth["filters"]}
    by_file = scan_pages(dump, modules)
    pool = min(wanted) & ~0xFFFFF
    by_memory, rings = scan_chunks(dump, modules, dump.chunks(pool, 0x60000))
    for found in (by_file, by_memory):
        assert {node.address: node.layout.name for node in found} == wanted
        assert len(found) == len(wanted)
    heads = [truth["context"]["filter_list_head"]] if spec.variant == "crashdmp-absent" else []
    assert [ring.head for ring in rings] == heads


@pytest.mark.parametrize("words", [160, 1000, page_search.PIECE])
@pytest.mark.parametrize("arch", ARCHS)
def test_scans_find_nodes_by_their_callbacks(
    arch: str, words: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With SizeOfPartitionInfo wrong in every node the callbacks lead to them; in any pieces."""
    monkeypatch.setattr(page_search, "PIECE", words)
    path = tmp_path / "scan.dmp"
    dump, modules, truth = opened(Spec(arch, 6, "win8", "nodes-only"), path)
    before = page_search.by_partitions(dump, modules)  # type: ignore[arg-type]
    data = bytearray(path.read_bytes())
    partition = 0x30 if dump.pointer_size == 8 else 0x28  # in FILTER_EXTENSION
    for row in truth["filters"]:
        at = dump.file_offset(row["extension"]["address"] + partition)
        assert struct.unpack_from("<I", data, at) == (0x18,)
        struct.pack_into("<I", data, at, 0x30)
    path = tmp_path / "changed.dmp"
    path.write_bytes(data)
    dump = open_dump(str(path))
    wanted = sorted(row["node"] for row in truth["filters"])
    assert sorted(node.address for node in before) == wanted  # type: ignore[type-var]
    assert sorted(node.address for node in scan_pages(dump, modules)) == wanted  # type: ignore[arg-type]
    nodes, _ = scan_chunks(dump, modules, dump.chunks(wanted[0] & ~0xFFFFF, 0x60000))
    assert sorted(node.address for node in nodes) == wanted  # type: ignore[type-var]


def test_scan_without_filters_finds_nothing(tmp_path: Path) -> None:
    """A healthy machine's memory without a dump stack holds no node."""
    dump, modules, _ = opened(Spec("x64", 6, "win8", "no-dump-stack"), tmp_path / "scan.dmp")
    assert modules == []
    assert scan_pages(dump, stack_of(8)[1:]) == []


# ---- residue ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("code", "is_call"),
    [
        (b"\xe8\x00\xfd\xff\xff", True),  # call rel32
        (b"\xff\xd0", True),  # call rax
        (b"\x41\xff\xd2", True),  # call r10
        (b"\xff\x50\x08", True),  # call [rax+8]
        (b"\xff\x54\x24\x08", True),  # call [rsp+8]
        (b"\xff\x15\x00\x10\x00\x00", True),  # call [rip+0x1000]
        (b"\xff\x94\x24\x00\x01\x00\x00", True),  # call [rsp+0x100]
        (b"\xff\x25\x00\x10\x00\x00", False),  # jmp [rip+0x1000]
        (b"\x48\x83\xec\x28", False),  # sub rsp, 0x28
        (b"\xcc\xcc\xcc\xcc", False),
    ],
)
def test_call_instructions_of_x64(code: bytes, is_call: bool) -> None:
    """The bytes before a return address (Intel SDM: CALL)."""
    memory = Memory()
    memory.write(0x140001000 - 16, (b"\x90" * 16 + code)[-16:])
    assert residue.follows_call(memory, 0x140001000) is is_call


@pytest.mark.parametrize(
    ("word", "is_call"),
    [
        (0x94000010, True),  # bl
        (0x97FFFFF0, True),  # bl backwards
        (0xD63F0100, True),  # blr x8
        (0xD61F0100, False),  # br x8
        (0x14000010, False),  # b
        (0xD503201F, False),  # nop
    ],
)
def test_call_instructions_of_arm64(word: int, is_call: bool) -> None:
    """The word before a return address (Arm ARM: BL, BLR)."""
    memory = Memory()
    memory.architecture = "arm64"
    memory.write(0x140000FFC, struct.pack("<I", word))
    assert residue.follows_call(memory, 0x140001000) is is_call


def test_code_that_is_not_there_is_not_judged() -> None:
    """Without the image in the dump, whether a call precedes is absent."""
    assert residue.follows_call(Memory(), 0x140001000).reason == "not-mapped"  # type: ignore[union-attr]


def test_residue_on_a_stack() -> None:
    """Only aligned words into loaded images of the dump path count, in address order."""
    memory, modules = Memory(), stack_of(8)
    other = module("disk.sys", 0xFFFFF80600000000, role="driver")
    gone = modules[4]._replace(loaded=False)
    stack = POOL[8] + 0x10000
    memory.write(stack, bytes(PAGE))
    memory.put(stack + 0x20, modules[0].base + 0xB45B)  # type: ignore[operator]
    memory.put(stack + 0x40, other.base + 0x10)  # type: ignore[operator]
    memory.put(stack + 0x60, gone.base + 0x10)  # type: ignore[operator]
    memory.put(stack + 0x80, modules[3].base + 0x1000)  # type: ignore[operator]
    memory.put(stack + 0xA4, modules[1].base + 0x1000)  # type: ignore[operator]
    listed = [*modules[:4], gone, modules[5], other]
    found = residue.find(memory, listed, stack - PAGE, stack + PAGE, "crash stack")
    assert [(r.symbol, r.origin.address, r.stack_of) for r in found] == [
        ("crashdmp+0xb45b", stack + 0x20, "crash stack"),
        ("dump_a+0x1000", stack + 0x80, "crash stack"),
    ]


def test_residue_is_bounded() -> None:
    """A stack full of such words gives 512 rows, no more."""
    memory, modules = Memory(), stack_of(8)
    stack = POOL[8] + 0x10000
    memory.write(stack, struct.pack("<Q", modules[0].base + 0x1000) * 0x400)  # type: ignore[operator]
    assert len(residue.find(memory, modules, stack, stack + 2 * PAGE, "x")) == residue.MAX_WORDS


# ---- bounded work -------------------------------------------------------------------------------
def test_image_full_of_pointers_is_bounded() -> None:
    """crashdmp's image full of pointers to look-alikes ends after a bounded number of tries."""
    stack = Stack(WIN8)
    crashdmp = stack.modules[0]
    words = [POOL[8] + 0x100000 + 8 * i for i in range(0x2000)]
    stack.memory.write(crashdmp.base, struct.pack("<8192Q", *words))  # type: ignore[arg-type]
    found = walk.rings(stack.memory, stack.modules, Absent("not-found"))
    assert found == []
    assert stack.memory.reads < 20 * walk.MAX_POINTERS
