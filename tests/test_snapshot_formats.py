"""Formats of snapshots that no hypervisor here writes: the specimens' machine laid out anew."""

from __future__ import annotations

import contextlib
import random
import struct
import zlib
from pathlib import Path
from typing import Any, Callable

import pytest
import snapshot_writer as writer

import analyzer
from analyzer import sources
from analyzer.absence import Absent
from analyzer.checks import RULES
from analyzer.cli import main
from analyzer.errors import AnalyzerError, UnsupportedError
from analyzer.snapshot import open_snapshot

PAGE = 0x1000
Specimen = Callable[[str], Path]


@pytest.fixture(scope="module")
def machine(specimen: Specimen) -> tuple[bytes, list[dict[str, int]]]:
    """The machine's memory and the registers of its processors."""
    processors = open_snapshot(str(specimen("elf"))).image.processors
    return specimen("raw").read_bytes(), processors


def same_answer(path: Path, truth: dict[str, Any], kind: str) -> Any:
    """The snapshot has the machine of the specimens; gives it opened."""
    assert sources.identify(str(path)).name == "memory snapshot"
    records = analyzer.open(str(path)).records
    assert records["sources"][0].subtype == kind
    assert [f.filter for f in records["filters"]] == truth["filters"]
    assert records["extensions"][-1].extension == truth["extension"]
    return open_snapshot(str(path))


def test_virtualbox_core(machine: Any, truth: dict[str, Any], tmp_path: Path) -> None:
    """Notes aligned to eight bytes, a range without bytes, the registers of both processors."""
    memory, processors = machine
    path = tmp_path / "vm.core"
    path.write_bytes(writer.virtualbox(memory, processors))
    snapshot = same_answer(path, truth, "ELF core of VirtualBox")
    for theirs, ours in zip(processors, snapshot.image.processors):
        assert {n: v for n, v in ours.items() if n in theirs and n != "cr2"} == {
            n: v for n, v in theirs.items() if n in ours and n != "cr2"
        }
    assert isinstance(snapshot.read_physical(0xB0000, 8), Absent)


@pytest.mark.parametrize("blocks", [False, True])
def test_vmware_memory_with_its_state(
    machine: Any, truth: dict[str, Any], tmp_path: Path, blocks: bool
) -> None:
    """Either file of the pair may be named; memory behind the hole lies earlier in the file."""
    memory, processors = machine
    half = len(memory) // PAGE // 2
    swapped = memory[half * PAGE :] + memory[: half * PAGE]  # so that the regions count
    regions = [(half, 0, half), (0, half, half)]
    (tmp_path / "win.vmem").write_bytes(swapped)
    state = tmp_path / "win.vmss"
    state.write_bytes(writer.vmware_state(processors, regions, blocks=blocks))
    for path, how in (
        (state, "registers from the state file"),
        (tmp_path / "win.vmem", "with win.vmss"),
    ):
        snapshot = same_answer(path, truth, f"VMware memory, {how}")
        for theirs, ours in zip(processors, snapshot.image.processors):
            assert {n: theirs[n] for n in ours if n != "cr1"} == {
                n: v for n, v in ours.items() if n != "cr1"
            }


def test_vmware_memory_inside_the_state(
    machine: Any, truth: dict[str, Any], tmp_path: Path
) -> None:
    """A state file may hold the memory; compressed it is refused with what to do."""
    memory, processors = machine
    path = tmp_path / "win.vmsn"
    path.write_bytes(writer.vmware_state(processors, [], blocks=True, memory=memory))
    same_answer(path, truth, "VMware memory, in the state file")
    path.write_bytes(
        writer.vmware_state(processors, [], blocks=True, memory=memory[:PAGE], compressed=True)
    )
    with pytest.raises(UnsupportedError, match=r"compressed memory; take a snapshot of it instead"):
        sources.collect(str(path))


def test_vmware_state_without_its_memory(machine: Any, tmp_path: Path) -> None:
    """Registers alone tell nothing: the memory is asked for by name."""
    path = tmp_path / "win.vmss"
    path.write_bytes(writer.vmware_state(machine[1], [], blocks=True))
    with pytest.raises(UnsupportedError, match=r"without its memory; put win\.vmem beside it"):
        sources.collect(str(path))


def test_vmem_alone_is_raw_memory(machine: Any, truth: dict[str, Any], tmp_path: Path) -> None:
    """Below the hole at 3 GB it is what it is called: memory from 0 on."""
    path = tmp_path / "win.vmem"
    path.write_bytes(machine[0])
    same_answer(path, truth, "raw physical memory")


# -- kdump -----------------------------------------------------------------------------------------


def pages_of(memory: bytes) -> dict[int, bytes]:
    """Frames that hold something, and one that does not shrink."""
    pages = {n: memory[n * PAGE : n * PAGE + PAGE] for n in range(len(memory) // PAGE)}
    filled = {n: page for n, page in pages.items() if page.strip(b"\0")}
    return {**filled, 0x3F00: random.Random(3).randbytes(PAGE), 0x3F01: bytes(PAGE)}


def notes_of(specimen: Specimen) -> bytes:
    """The notes of QEMU, out of its ELF core."""
    data = specimen("elf").read_bytes()
    (table,) = struct.unpack_from("<Q", data, 32)
    offset, _, _, size = struct.unpack_from("<QQQQ", data, table + 8)
    return data[offset : offset + size]


def _cramjam(kind: str) -> Callable[[bytes], bytes]:
    cramjam = pytest.importorskip("cramjam")
    if kind == "snappy":
        return lambda page: bytes(cramjam.snappy.compress_raw(page))
    return lambda page: bytes(cramjam.zstd.compress(page))


def _lzo() -> Callable[[bytes], bytes]:
    compressor = pytest.importorskip("lzallright").LZOCompressor()
    return lambda page: bytes(compressor.compress(page))


CODECS: dict[str, tuple[int, Callable[[], Callable[[bytes], bytes]]]] = {
    "zlib": (0x01, lambda: zlib.compress),
    "LZO": (0x02, _lzo),
    "Snappy": (0x04, lambda: _cramjam("snappy")),
    "Zstandard": (0x20, lambda: _cramjam("zstd")),
}


@pytest.mark.parametrize("name", CODECS)
def test_kdump_in_place(
    name: str, machine: Any, truth: dict[str, Any], specimen: Specimen, tmp_path: Path
) -> None:
    """Every page, whatever compresses it; frames that are not stored are said to be missing."""
    flag, make = CODECS[name]
    pages = pages_of(machine[0])
    path = tmp_path / "vmcore"
    path.write_bytes(writer.kdump(pages, notes_of(specimen), flag, make()))
    snapshot = same_answer(path, truth, f"kdump of QEMU, {name}")
    for frame, page in pages.items():
        assert snapshot.read_physical(frame * PAGE, PAGE) == page, hex(frame)
    assert isinstance(snapshot.read_physical(0x3F02 * PAGE, 8), Absent)
    assert isinstance(snapshot.read_physical(1 << 45, 8), Absent)


def test_flattened_kdump_is_what_it_is_in_place(specimen: Specimen, tmp_path: Path) -> None:
    """The specimen, and the same file put in place."""
    flat = open_snapshot(str(specimen("kdump-zlib")))
    path = tmp_path / "vmcore"
    path.write_bytes(writer.in_place(specimen("kdump-zlib").read_bytes()))
    placed = open_snapshot(str(path))
    assert (flat.image.kind, placed.image.kind) == (
        "kdump of QEMU, zlib, flattened",
        "kdump of QEMU, zlib",
    )
    assert flat.image.processors == placed.image.processors
    for frame in range(0x4000):
        at = frame * PAGE
        assert flat.read_physical(at, PAGE) == placed.read_physical(at, PAGE)


@pytest.mark.parametrize("name", ["LZO", "Snappy", "Zstandard"])
def test_a_missing_decompressor_is_named(
    name: str, specimen: Specimen, tmp_path: Path, monkeypatch: Any
) -> None:
    """The sentence says what to install."""
    path = tmp_path / "vmcore"
    pages = {1: bytes(PAGE)}
    path.write_bytes(writer.kdump(pages, notes_of(specimen), CODECS[name][0], lambda page: page))
    for library in ("cramjam", "lzallright"):
        monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(UnsupportedError, match=rf"{name}.*pip install cramjam lzallright"):
        sources.collect(str(path))


# -- what is not read, and what is hostile ---------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "named"),
    [("migrate", "dump-guest-memory"), ("savevm", "virtual disk")],
)
def test_other_files_of_qemu_are_refused(kind: str, named: str, specimen: Specimen) -> None:
    """A migration stream names the command that writes a readable file."""
    with pytest.raises(UnsupportedError, match=named):
        sources.collect(str(specimen(kind)))


def test_libvirts_saved_machine_is_refused(tmp_path: Path) -> None:
    """``virsh save`` writes it."""
    path = tmp_path / "win.save"
    path.write_bytes(b"LibvirtQemudSave" + bytes(0x100))
    with pytest.raises(UnsupportedError, match="virsh dump --memory-only"):
        sources.collect(str(path))


def test_a_core_of_a_program_is_refused(tmp_path: Path) -> None:
    """An ELF core without a hypervisor's notes is of one process."""
    path = tmp_path / "core"
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 4, 62, 1, 0, 64, 0, 0, 64, 56, 0, 0, 0, 0)
    path.write_bytes(header)
    with pytest.raises(UnsupportedError, match="without the notes of a hypervisor"):
        sources.collect(str(path))


def test_no_other_file_becomes_memory(specimen: Specimen, tmp_path: Path) -> None:
    """Without page tables that lead to KUSER_SHARED_DATA nothing is memory: one bit decides."""
    memory = bytearray(specimen("raw").read_bytes())
    path = tmp_path / "memory.raw"
    for name, change in (
        ("noise", random.Random(1).randbytes(1 << 20)),
        ("zeros", bytes(2 << 20)),
        ("not whole pages", bytes(memory) + b"\0"),
        ("no stub", bytes(memory[:0x1000]) + b"\0" + bytes(memory[0x1001:])),
    ):
        path.write_bytes(change)
        assert sources.identify(str(path)).name != "memory snapshot", name


def mutated(data: bytes, count: int, seed: int) -> Any:
    """Copies of a file with bytes changed near its structures, or cut."""
    source = random.Random(seed)
    for _ in range(count):
        out = bytearray(data)
        for _ in range(source.randrange(1, 8)):
            out[source.randrange(min(len(out), 0x3000))] = source.choice((0, 1, 0x7F, 0x80, 0xFF))
        yield bytes(out[: source.randrange(len(out))] if source.random() < 0.2 else out)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["elf", "kdump", "flattened", "virtualbox", "vmware"])
def test_any_bytes_give_records_or_an_error(
    kind: str, machine: Any, specimen: Specimen, tmp_path: Path
) -> None:
    """Hostile headers end in one of our errors."""
    memory, processors = machine
    pages = {n: p for n, p in pages_of(memory).items() if n < 0x600}
    small = memory[: 2 << 20]
    data = {
        "elf": lambda: specimen("elf").read_bytes()[: 3 << 20],
        "kdump": lambda: writer.kdump(pages, notes_of(specimen), 1, zlib.compress),
        "flattened": lambda: specimen("kdump-zlib").read_bytes(),
        "virtualbox": lambda: writer.virtualbox(small, processors),
        "vmware": lambda: writer.vmware_state(processors, [], blocks=True, memory=small),
    }[kind]()
    path = tmp_path / "hostile"
    for content in mutated(data, 8 if kind == "flattened" else 25, 5):
        path.write_bytes(content)
        with contextlib.suppress(AnalyzerError):
            sources.collect(str(path))


def test_a_cut_snapshot_says_so(
    specimen: Specimen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is missing may be what matters."""
    path = tmp_path / "cut.elf"
    data = specimen("elf").read_bytes()
    path.write_bytes(data[: len(data) - (1 << 20)])
    assert main(["analyze", str(path)]) == 1
    assert RULES["snapshot-damaged"].title in " ".join(capsys.readouterr().out.split())
