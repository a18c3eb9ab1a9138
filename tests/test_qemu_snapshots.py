"""Snapshots that real QEMU takes, here and now, of a machine whose filters hang.

Oracles: the guest's generator (addresses, bytes), the assembler's labels (call chain), QEMU's own
registers, and volatility3's layers where they read the file.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import guest_machine
import guest_qemu
import numpy as np
import pytest
from generator.machine import SYSTEM_TIME
from oracles import needs, volatility_layers

import analyzer
from analyzer.absence import Absent
from analyzer.cli import main
from analyzer.dumpfile import open_dump
from analyzer.records import filetime_to_ns
from analyzer.snapshot import open_snapshot

pytestmark = pytest.mark.live
PAGE = 0x1000
WITH_REGISTERS = ("elf", "elf-paging", "kdump-zlib")
EXECUTING = (*WITH_REGISTERS, "win-dmp")
KINDS = (*EXECUTING, "raw")


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
        while qemu.register("RIP") == registers["RIP"]:  # files alike would count as copies
            qemu.ask("cont")
            time.sleep(0.02)
            qemu.ask("stop")
        later = qemu.take("elf", folder / "later")
        qemu.ask("cont")
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
    path = str(taken.in_start[kind])
    return open_dump(path) if kind == "win-dmp" else open_snapshot(path)


def physical_page(snapshot: Any, frame: int) -> Any:
    """A page by its frame; a win-dmp is a page dump."""
    if hasattr(snapshot, "read_physical"):
        return snapshot.read_physical(frame * PAGE, PAGE)
    at = int(snapshot.pages.offsets(np.array([frame]))[0])
    return snapshot.file.data[at : at + PAGE]


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
    assert machine.kd_debugger_data_block == truth["kdbg"]
    assert machine.build_lab == truth["build_lab"]
    assert machine.system_time == filetime_to_ns(SYSTEM_TIME)
    assert records["sources"][0].kind == "memory snapshot"


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_the_generators(kind: str, taken: Taken) -> None:
    """Every page, but those that running changed: stacks, a GDT's accessed bits, the boot code."""
    guest, snapshot = taken.guest, image(taken, kind)
    truth = guest.truth
    changed = {guest.virtual[page] for page in _used(truth)} | set(range(0x30))
    if kind == "win-dmp":  # QEMU writes each processor's CONTEXT where its block leads to
        changed |= {guest.virtual[cpu["prcb"] >> 12] for cpu in truth["processors"]}
    mapped = set(guest.virtual.values())
    same = 0
    for frame, data in guest.frames.items():
        read = physical_page(snapshot, frame)
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


def executing(path: Path) -> tuple[Any, list[int]]:
    """Processor 0 and where its callers go on."""
    records = analyzer.open(str(path)).records
    frames = [f for f in records["frames"] if f.stack_of == "processor 0"]
    return records["processors"][0], [f.instruction_pointer for f in frames][1:]


@pytest.mark.parametrize("kind", EXECUTING)
def test_a_processor_is_inside_dump_start(kind: str, taken: Taken) -> None:
    """Filter, callback, argument and the whole call chain are what the guest did."""
    truth = taken.guest.truth
    row, chain = executing(taken.in_start[kind])
    hung = truth["filters"][1]
    assert (row.processor, row.filter, row.callback) == (0, hung["filter"], "Dump_Start")
    assert row.instruction_pointer == taken.registers["RIP"][0]
    assert row.first_argument == hung["extension"]["address"]
    assert row.first_argument_is == f"FILTER_EXTENSION of {hung['filter']}"
    assert row.thread == truth["processors"][0]["thread"]
    assert row.is_idle is False
    assert chain == guest_machine.chain_of_start(truth)


def test_a_processor_is_inside_dump_write(taken: Taken) -> None:
    """The function that Dump_Write waits in is not the callback itself: the chain tells."""
    truth = taken.guest.truth
    row, chain = executing(taken.in_write)
    assert (row.filter, row.callback) == (truth["filters"][0]["filter"], "Dump_Write")
    assert chain == guest_machine.chain_of_write(truth)


def called(path: Path) -> dict[tuple[str, str], Any]:
    """Whether each callback was called."""
    rows = analyzer.open(str(path)).records["callbacks"]
    return {(row.filter, row.callback): row.was_called for row in rows}


def test_what_was_called_is_what_the_guest_called(taken: Taken) -> None:
    """The running callback was called; those that the order puts before it likely were."""
    first, second = (f["filter"] for f in taken.guest.truth["filters"])
    start, write = called(taken.in_start["elf"]), called(taken.in_write)
    assert start[second, "Dump_Start"] == "yes"
    assert start[first, "Dump_Start"] == "likely"
    assert not start[first, "Dump_Write"]
    assert write[first, "Dump_Write"] == "yes"
    assert write[first, "Dump_Start"] == write[second, "Dump_Start"] == "likely"
    assert not called(taken.after)[second, "Dump_Write"]


@pytest.mark.parametrize(
    ("one", "other", "rule", "words"),
    [
        ("in_start", "later", "callback-still-executing", "still there in later"),
        ("later", "in_write", "callback-moved-on", "Dump_Write of dump_dumpfve.sys in in-write"),
        ("in_write", "after", "callback-moved-on", "in no filter in after"),
    ],
)
def test_two_snapshots_tell_what_moved(
    one: str, other: str, rule: str, words: str, taken: Taken, capsys: Any
) -> None:
    """Still there, moved on, returned; the answer leads with it."""
    paths = [taken.in_start["elf"] if n == "in_start" else getattr(taken, n) for n in (one, other)]
    case = analyzer.open([str(path) for path in paths])
    found = [f for f in case.records["findings"] if f.rule.startswith("callback-")]
    told = [f for f in found if f.rule in ("callback-still-executing", "callback-moved-on")]
    assert [f.rule for f in told] == [rule]
    assert words in told[0].text
    main(["analyze", *map(str, paths)])
    assert capsys.readouterr().out.split()[:3] == ["Processor", "0", "was"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_leads_with_where_it_executes(kind: str, taken: Taken, capsys: Any) -> None:
    """Without registers it does not say anything of processors."""
    main(["analyze", str(taken.in_start[kind])])
    out = " ".join(capsys.readouterr().out.split())
    sure = "likely " if kind == "win-dmp" else ""  # QEMU put the registers where Windows does
    lead = f"Processor 0 is {sure}inside Dump_Start of dump_acmeflt.sys"
    assert out.startswith(lead if kind != "raw" else "A snapshot of a machine's memory")


def test_the_report_claims_no_written_dump(
    taken: Taken, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the kind of the snapshot."""
    for path in (*taken.in_start.values(), taken.in_write, taken.after):
        main(["analyze", str(path)])
        assert "dump was written." not in " ".join(capsys.readouterr().out.split())
