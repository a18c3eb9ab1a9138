"""Snapshots that real QEMU takes, here and now, of a machine whose filters hang.

Oracles: the guest's generator (addresses, bytes), the assembler's labels (call chain), QEMU's own
registers, and volatility3's layers where they read the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import guest_machine
import guest_qemu
import pytest
from oracles import needs, volatility_layers

import analyzer
from analyzer.absence import Absent
from analyzer.cli import main
from analyzer.snapshot import open_snapshot

pytestmark = pytest.mark.live
PAGE = 0x1000
WITH_REGISTERS = ("elf", "elf-paging", "kdump-zlib")
KINDS = (*WITH_REGISTERS, "raw")


class Taken(NamedTuple):
    """Snapshots of one run of the guest."""

    guest: guest_machine.Guest
    in_start: dict[str, Path]  #: the second filter waits in Dump_Start; by kind
    later: Path  #: the same a second later
    in_write: Path  #: the first filter waits in Dump_Write, after its device answered
    after: Path  #: both returned
    registers: dict[str, list[int]]  #: as QEMU printed them while the guest stood in Dump_Start


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Taken]:
    """One guest, run once, from Dump_Start to the end of Dump_Write."""
    guest_qemu.need_tools()
    folder = tmp_path_factory.mktemp("guest")
    guest = guest_machine.make(folder)
    labels = guest.truth["labels"]
    with guest_qemu.running(guest, folder) as qemu:
        qemu.ask("stop")
        registers = {name: qemu.register(name) for name in ("RIP", "RSP", "RCX", "CR3")}
        in_start = {kind: qemu.take(kind, folder / kind) for kind in KINDS}
        qemu.ask("cont")
        later = qemu.take("elf", folder / "later")
        qemu.press(guest_machine.KEY_OF_START)
        waiting = labels[guest.truth["filters"][0]["filter"]]["WaitForDevice"]
        qemu.wait_at(waiting, waiting + 0x40)
        in_write = qemu.take("elf", folder / "in-write")
        qemu.press(guest_machine.KEY_OF_WRITE)
        end = labels["crashdmp.sys"]["at_CrashdmpWrite_write"]
        qemu.wait_at(end, end + 0x10)
        after = qemu.take("elf", folder / "after")
        yield Taken(guest, in_start, later, in_write, after, registers)


def image(taken: Taken, kind: str) -> Any:
    """A snapshot opened."""
    return open_snapshot(str(taken.in_start[kind]))


@pytest.mark.parametrize("kind", KINDS)
def test_filters_and_extensions_are_the_guests(kind: str, taken: Taken) -> None:
    """Every module, filter and FILTER_EXTENSION, without symbols."""
    truth = taken.guest.truth
    records = analyzer.open(str(taken.in_start[kind])).records
    assert {m.name: m.base for m in records["modules"] if m.loaded} == truth["base"]
    assert [f.filter for f in records["filters"]] == [f["filter"] for f in truth["filters"]]
    for row, extension, filter_ in zip(truth["filters"], records["extensions"], records["filters"]):
        assert extension.extension == row["extension"]["address"]
        assert extension.disk_size == row["extension"]["DiskSize"]
        assert extension.gpt_disk_id == row["extension"]["GptDiskId"].strip("{}")
        assert filter_.dump_start == row["init"]["DumpStart"]
        assert filter_.dump_write == row["init"]["DumpWrite"]
    (machine,) = records["machine"]
    assert (machine.build, machine.bugcheck) == (truth["build"], truth["bugcheck"])


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_the_generators(kind: str, taken: Taken) -> None:
    """Every page, but those that running changed: stacks, a GDT's accessed bits, the boot code."""
    guest, snapshot = taken.guest, image(taken, kind)
    truth = guest.truth
    changed = {guest.virtual[page] for page in _used(truth)} | set(range(0x30))
    mapped = set(guest.virtual.values())
    same = 0
    for frame, data in guest.frames.items():
        read = snapshot.read_physical(frame * PAGE, PAGE)
        if isinstance(read, Absent):  # QEMU's paging leaves out what is not mapped
            assert kind == "elf-paging", hex(frame)
            assert frame not in mapped, hex(frame)
        else:
            assert read == data or frame in changed, hex(frame)
            same += read == data
    assert same > (50 if kind == "elf-paging" else 1100)
    for page, frame in guest.virtual.items():
        if frame not in changed:
            assert snapshot.read(page << 12, PAGE) == guest.frames[frame], hex(page << 12)


def _used(truth: dict[str, Any]) -> set[int]:
    """Pages that the processors write to: what is below their first stack pointers, the GDT."""
    stacks = (cpu["first_sp"] - at for cpu in truth["processors"] for at in (8, 0x400))
    return {at >> 12 for at in (*stacks, truth["gdt"])}


@pytest.mark.parametrize("kind", ["elf", "raw"])
def test_volatility3_reads_the_same(kind: str, taken: Taken) -> None:
    """Physical pages and virtual addresses, readable or not."""
    needs("volatility3")
    from volatility3.framework import exceptions

    guest, snapshot = taken.guest, image(taken, kind)
    pages, virtual = volatility_layers(taken.in_start[kind], "x64", guest.truth["root"], kind)
    for frame in guest.frames:
        assert pages.read(frame * PAGE, PAGE) == snapshot.read_physical(frame * PAGE, PAGE)
    tried = [page << 12 for page in guest.virtual]
    tried += [at + 0x3000 for at in guest.truth["base"].values()]
    tried += [at for at, _, reason in guest.truth["translations"] if reason != "prototype"]
    read = 0
    for address in tried:
        ours = snapshot.read(address, 8)
        try:
            theirs = virtual.read(address & virtual.maximum_address, 8)
        except exceptions.InvalidAddressException:
            assert isinstance(ours, Absent), hex(address)
        else:
            assert ours == theirs, hex(address)
            read += 1
    assert 0 < read < len(tried)


@pytest.mark.parametrize("kind", WITH_REGISTERS)
def test_registers_are_those_that_qemu_prints(kind: str, taken: Taken) -> None:
    """Both processors; the first argument is the second filter's extension."""
    processors = image(taken, kind).image.processors
    for name, values in taken.registers.items():
        assert [p[name.lower()] for p in processors] == values, name
    assert processors[0]["rcx"] == taken.guest.truth["filters"][1]["extension"]["address"]


def test_the_report_claims_no_written_dump(
    taken: Taken, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the kind of the snapshot."""
    for path in (*taken.in_start.values(), taken.in_write, taken.after):
        main(["analyze", str(path)])
        assert "was written." not in " ".join(capsys.readouterr().out.split("\n\n")[0].split())
