"""Snapshots that real QEMU wrote of a machine whose second filter hangs in Dump_Start.

Oracle: the machine's generator (its truth is beside the files), and QEMU's own registers.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from oracles import needs, volatility_layers

import analyzer
from analyzer.absence import Absent
from analyzer.cli import main
from analyzer.dumpfile import open_dump
from analyzer.snapshot import open_snapshot

WITH_REGISTERS = ("elf", "elf-paging", "kdump-zlib")
KINDS = (*WITH_REGISTERS, "raw")
PAGE = 0x1000
#: bytes that each function of the path has below its return address, from Dump_Start outwards
#: (boot.S of the specimens)
FRAME_SIZES = (0x28, 0x38, 0x48, 0x58, 0xA8, 0x28)
CALLERS = ("crashdmp.sys", "crashdmp.sys", *["ntoskrnl.exe"] * 3, "badnic.sys")
NAMES = {
    "elf": "ELF core of QEMU",
    "elf-paging": "ELF core of QEMU with paging",
    "kdump-zlib": "kdump of QEMU, zlib, flattened",
    "raw": "raw physical memory",
}


@pytest.mark.parametrize("kind", KINDS)
def test_windows_and_its_filters_are_found(kind: str, specimen: Any, truth: dict[str, Any]) -> None:
    """Modules, filters and extension lie where the generator put them; no symbols, no header."""
    case = analyzer.open(str(specimen(kind)))
    (source,) = case.records["sources"]
    assert (source.kind, source.subtype) == ("memory snapshot", NAMES[kind])
    (machine,) = case.records["machine"]
    assert (machine.build, machine.bugcheck) == (truth["build"], truth["bugcheck"])
    modules = {m.name: m.base for m in case.records["modules"] if m.loaded}
    assert modules == truth["modules"]
    assert [f.filter for f in case.records["filters"]] == truth["filters"]
    hung = case.records["extensions"][-1]
    assert hung.extension == truth["extension"]
    assert case.records["filters"][-1].dump_start == truth["dump_start"]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_says_that_a_dump_was_written(
    kind: str, specimen: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The machine hung while it crashed: whether a dump follows is open."""
    assert main(["analyze", str(specimen(kind))]) == 0
    answer = " ".join(capsys.readouterr().out.split("\n\n")[0].split())
    assert f"snapshot of a machine's memory ({NAMES[kind]})" in answer
    assert "it does not show whether a dump was written later" in answer
    assert "was written." not in answer


@pytest.mark.parametrize("kind", WITH_REGISTERS)
def test_registers_are_those_that_qemu_printed(
    kind: str, specimen: Any, truth: dict[str, Any]
) -> None:
    """RIP lies in Dump_Start of the hung filter; CR3 is the generator's root."""
    snapshot = open_snapshot(str(specimen(kind)))
    first, second = snapshot.image.processors
    assert 0 <= first["rip"] - truth["dump_start"] < 0x20
    assert first["rbx"] == first["rcx"] == truth["extension"]
    assert first["cr3"] == second["cr3"] == truth["root"]
    for number, expected in enumerate(truth["processors"]):
        assert snapshot.processor_block(number) == expected["prcb"]
        assert snapshot.current_thread(number)[0] == expected["thread"]


@pytest.mark.parametrize("kind", [*WITH_REGISTERS, "win-dmp"])
def test_processor_callback_and_argument_are_the_guests(
    kind: str, specimen: Any, truth: dict[str, Any]
) -> None:
    """The specimens have no unwind data: the callback is likely; a win-dmp is no written dump."""
    records = analyzer.open(str(specimen(kind))).records
    assert records["sources"][0].kind == "memory snapshot"
    row = records["processors"][0]
    assert (row.processor, row.filter, row.callback) == (0, truth["filters"][-1], "Dump_Start")
    assert 0 <= row.instruction_pointer - truth["dump_start"] < 0x20
    assert row.first_argument == truth["extension"]
    assert row.origin.confidence == "likely"
    called = {(c.filter, c.callback): c.was_called for c in records["callbacks"]}
    assert called[truth["filters"][-1], "Dump_Start"] == "yes"


@pytest.mark.parametrize("kind", [*WITH_REGISTERS, "win-dmp"])
def test_without_unwind_data_callers_stay_hints(
    kind: str, specimen: Any, truth: dict[str, Any]
) -> None:
    """These images say that none of their functions has a frame, which is not true: no chain.

    The word at the stack pointer, which would then be the return address, is zero. The true callers
    are read, and those on the dump path are hints. The debugger engine ends there, too
    (test_wine_stacks.py).
    """
    records = analyzer.open(str(specimen(kind))).records
    frames = [f for f in records["frames"] if f.stack_of == "processor 0"]
    assert [f.instruction_pointer for f in frames] == [records["processors"][0].instruction_pointer]
    assert "no unwind data of dump_acmeflt.sys" in str(frames[0].return_address)
    memory = image(kind, specimen)
    at = frames[0].stack_pointer
    assert memory.read(at, 8) == bytes(8)
    hints = {r.origin.address: r for r in records["residue"]}
    for size, caller in zip(FRAME_SIZES, CALLERS):
        at += size
        (back,) = struct.unpack("<Q", memory.read(at, 8))
        assert 0 <= back - truth["modules"][caller] < 0x4000
        if caller == "crashdmp.sys":
            assert (hints[at].target, hints[at].follows_call) == (back, True)
        at += 8


def image(kind: str, specimen: Any) -> Any:
    """A specimen opened; a win-dmp is a page dump."""
    return (
        open_dump(str(specimen(kind))) if kind == "win-dmp" else open_snapshot(str(specimen(kind)))
    )


def physical_page(memory: Any, frame: int) -> Any:
    """A page by its frame."""
    if hasattr(memory, "read_physical"):
        return memory.read_physical(frame * PAGE, PAGE)
    (at,) = memory.pages.offsets(np.array([frame], np.int64)).tolist()
    return memory.file.data[at : at + PAGE] if at >= 0 else Absent("not-in-dump")


@pytest.mark.parametrize("kind", [*WITH_REGISTERS, "win-dmp"])
def test_memory_is_that_of_the_flat_file(kind: str, specimen: Any, truth: dict[str, Any]) -> None:
    """Each page that holds anything, as QEMU wrote it at its own place into the raw file."""
    memory, flat = image(kind, specimen), specimen("raw").read_bytes()
    written = {cpu["prcb"] for cpu in truth["processors"]} if kind == "win-dmp" else set()
    own = {bytes(memory.read(at & -PAGE, PAGE)) for at in written}  # QEMU puts the registers there
    same = 0
    for frame in range(len(flat) // PAGE):
        data = flat[frame * PAGE : (frame + 1) * PAGE]
        if data.strip(b"\0"):
            page = physical_page(memory, frame)
            if isinstance(page, Absent):  # what no table maps
                assert kind == "elf-paging" or frame < 0x100, hex(frame)
            else:
                assert page == data or page in own, hex(frame)
                same += page == data
    assert same > 50


@pytest.mark.parametrize(
    ("kind", "opened_as"), [("elf", "elf"), ("win-dmp", "dump"), ("raw", "raw")]
)
def test_volatility3_reads_the_same(
    kind: str, opened_as: str, specimen: Any, truth: dict[str, Any]
) -> None:
    """Physical pages, and the code and data of each module."""
    needs("volatility3")
    from volatility3.framework import exceptions

    memory, flat = image(kind, specimen), specimen("raw").read_bytes()
    pages, virtual = volatility_layers(specimen(kind), "x64", truth["root"], opened_as)
    for frame in range(0x100, len(flat) // PAGE):
        if flat[frame * PAGE : (frame + 1) * PAGE].strip(b"\0"):
            assert pages.read(frame * PAGE, PAGE) == physical_page(memory, frame)
    read = 0
    for base in truth["modules"].values():
        for address in range(base, base + 0x8000, PAGE):
            ours = memory.read(address, PAGE)
            try:
                theirs = virtual.read(address & virtual.maximum_address, PAGE)
            except exceptions.InvalidAddressException:
                assert isinstance(ours, Absent), hex(address)
            else:
                assert ours == theirs, hex(address)
                read += 1
    assert read > 20


@pytest.mark.parametrize("kind", [*KINDS, "win-dmp"])
def test_whether_a_dump_was_written_stays_open(kind: str, specimen: Any) -> None:
    """Also where the hypervisor wrote the header of a full dump."""
    (crash,) = analyzer.open(str(specimen(kind))).records["crashes"]
    assert (crash.tells, crash.outcome) == ("memory snapshot", None)
