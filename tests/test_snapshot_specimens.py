"""Snapshots that real QEMU wrote of a machine whose second filter hangs in Dump_Start.

Oracle: the machine's generator (its truth is beside the files), and QEMU's own registers.
"""

from __future__ import annotations

from typing import Any

import pytest

import analyzer
from analyzer.cli import main
from analyzer.snapshot import open_snapshot

WITH_REGISTERS = ("elf", "elf-paging", "kdump-zlib")
KINDS = (*WITH_REGISTERS, "raw")
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
