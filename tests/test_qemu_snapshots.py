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


#: where each guest hangs by itself: callback, number of its filter, which call it waits in
HANGS = {
    "Dump_Start": (1, guest_machine.chain_of_start),
    "Dump_Write": (0, guest_machine.chain_of_write),
}


class Taken(NamedTuple):
    """Snapshots of one guest, booted to hang in one callback."""

    guest: guest_machine.Guest
    callback: str
    hung: dict[str, Any]  #: the filter whose callback it is
    chain: list[int]  #: where its callers go on
    first: dict[str, Path]  #: by kind, all of one moment
    later: Path  #: the same two seconds later
    next: dict[str, Path]  #: after each key press, by what waits then; "" where nothing does
    registers: dict[str, list[int]]  #: as QEMU printed them at that moment


@pytest.fixture(scope="module", params=HANGS)
def taken(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Taken]:
    """One boot of a guest, until no callback waits any more."""
    guest_qemu.need_tools()
    folder = tmp_path_factory.mktemp("guest")
    guest = guest_machine.make(folder, request.param)
    truth = guest.truth
    number, chain = HANGS[request.param]
    waiting = truth["labels"][truth["filters"][0]["filter"]]["WaitForDevice"]
    end = truth["labels"]["crashdmp.sys"]["at_CrashdmpWrite_write"]
    steps = [(guest_machine.KEY_OF_START, waiting, "Dump_Write"),
             (guest_machine.KEY_OF_WRITE, end, "")]  # fmt: skip
    with guest_qemu.running(guest, folder) as qemu:
        qemu.ask("stop")
        registers = {name: qemu.register(name) for name in ("RIP", "RSP", "RCX", "CR3")}
        first = {kind: qemu.take(kind, folder / kind) for kind in KINDS}
        qemu.ask("cont")
        time.sleep(2)
        qemu.ask("stop")
        while qemu.register("RIP") == registers["RIP"]:  # files alike would count as copies
            qemu.ask("cont")
            time.sleep(0.02)
            qemu.ask("stop")
        later = qemu.take("elf", folder / "later")
        qemu.ask("cont")
        after = {}
        for key, at, waits in steps[1 - number :]:
            qemu.press(key)
            qemu.wait_at(at, at + 0x40)
            after[waits] = qemu.take("elf", folder / f"after-{key}")
        hung = truth["filters"][number]
        yield Taken(guest, request.param, hung, chain(truth), first, later, after, registers)


def image(taken: Taken, kind: str) -> Any:
    """A snapshot opened."""
    path = str(taken.first[kind])
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
    records = analyzer.open(str(taken.first[kind])).records
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
    truth, frames = guest.truth, dict(taken.guest.frames)
    if taken.callback == "Dump_Write":  # by then crashdmp has noted how far it came
        page, at = divmod(truth["context"]["progress_address"], PAGE)
        whole = bytearray(frames[guest.virtual[page]])
        whole[at : at + 4] = guest_machine.WRITING.to_bytes(4, "little")
        frames[guest.virtual[page]] = bytes(whole)
    changed = {guest.virtual[page] for page in _used(truth)} | set(range(0x30))
    if kind == "win-dmp":  # QEMU writes each processor's CONTEXT where its block leads to
        changed |= {guest.virtual[cpu["prcb"] >> 12] for cpu in truth["processors"]}
    mapped = set(guest.virtual.values())
    same = 0
    for frame, data in frames.items():
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
            assert snapshot.read(page << 12, PAGE) == frames[frame], hex(page << 12)


def _used(truth: dict[str, Any]) -> set[int]:
    """Pages that the processors write to: what is below their first stack pointers, the GDT."""
    stacks = (cpu["first_sp"] - at for cpu in truth["processors"] for at in (8, 0x400))
    return {at >> 12 for at in (*stacks, truth["gdt"])}


#: as what volatility3 opens them; it has no reader of kdump
OPENED_AS = {"elf": "elf", "elf-paging": "elf", "win-dmp": "dump", "raw": "raw"}


@pytest.mark.parametrize("kind", OPENED_AS)
def test_volatility3_reads_the_same(kind: str, taken: Taken) -> None:
    """Physical pages and virtual addresses, readable or not.

    Of QEMU's paging it does not see pages that are mapped twice; ours does.
    """
    needs("volatility3")
    from volatility3.framework import exceptions

    guest, snapshot = taken.guest, image(taken, kind)
    path, root = taken.first[kind], guest.truth["root"]
    pages, virtual = volatility_layers(path, "x64", root, OPENED_AS[kind])
    for frame in guest.frames:
        page = physical_page(snapshot, frame)
        if kind != "elf-paging" or pages.is_valid(frame * PAGE, PAGE):
            assert pages.read(frame * PAGE, PAGE) == page
    tried = [page << 12 for page in guest.virtual]
    tried += [at + 0x3000 for at in guest.truth["base"].values()]
    tried += [at for at, _, reason in guest.truth["translations"] if reason != "prototype"]
    read = 0
    for address in tried:
        ours = snapshot.read(address, 8)
        try:
            theirs = virtual.read(address & virtual.maximum_address, 8)
        except exceptions.InvalidAddressException:
            assert isinstance(ours, Absent) or kind == "elf-paging", hex(address)
        else:
            assert ours == theirs, hex(address)
            read += 1
    assert 0 < read < len(tried)


@pytest.mark.parametrize("kind", WITH_REGISTERS)
def test_registers_are_those_that_qemu_prints(kind: str, taken: Taken) -> None:
    """Both processors; the first argument is the hung filter's extension."""
    processors = image(taken, kind).image.processors
    for name, values in taken.registers.items():
        assert [p[name.lower()] for p in processors] == values, name
    assert processors[0]["rcx"] == taken.hung["extension"]["address"]


def executing(path: Path) -> tuple[Any, list[int]]:
    """Processor 0 and where its callers go on."""
    records = analyzer.open(str(path)).records
    frames = [f for f in records["frames"] if f.stack_of == "processor 0"]
    return records["processors"][0], [f.instruction_pointer for f in frames][1:]


@pytest.mark.parametrize("kind", EXECUTING)
def test_a_processor_is_inside_the_callback(kind: str, taken: Taken) -> None:
    """Filter, callback, argument and the whole call chain are what the guest did.

    The function that Dump_Write waits in is not the callback itself: the chain tells.
    """
    row, chain = executing(taken.first[kind])
    name = taken.hung["filter"]
    assert (row.processor, row.filter, row.callback) == (0, name, taken.callback)
    assert row.instruction_pointer == taken.registers["RIP"][0]
    assert row.first_argument == taken.hung["extension"]["address"]
    assert row.first_argument_is == f"FILTER_EXTENSION of {name}"
    assert row.thread == taken.guest.truth["processors"][0]["thread"]
    assert row.is_idle is False
    assert chain == taken.chain


def test_raw_memory_tells_no_processor(taken: Taken) -> None:
    """It has no registers; the callers are words on the stack, each a hint."""
    records = analyzer.open(str(taken.first["raw"])).records
    assert not records["processors"]
    assert not [f for f in records["frames"] if not f.stack_of.startswith("stale")]


def called(path: Path) -> dict[tuple[str, str], Any]:
    """Whether each callback was called."""
    rows = analyzer.open(str(path)).records["callbacks"]
    return {(row.filter, row.callback): row.was_called for row in rows}


def test_what_was_called_is_what_the_guest_called(taken: Taken) -> None:
    """The running callback was called; those that the order puts before it likely were."""
    first, second = (f["filter"] for f in taken.guest.truth["filters"])
    now = called(taken.first["elf"])
    assert now[taken.hung["filter"], taken.callback] == "yes"
    assert now[first, "Dump_Start"] == "likely"
    if taken.callback == "Dump_Start":
        assert not now[first, "Dump_Write"]
        now = called(taken.next["Dump_Write"])
    assert now[first, "Dump_Write"] == "yes"
    assert now[first, "Dump_Start"] == now[second, "Dump_Start"] == "likely"
    assert not called(taken.next[""])[second, "Dump_Write"]


def test_two_snapshots_tell_what_moved(taken: Taken, capsys: Any) -> None:
    """Still there two seconds later, moved on, returned; the answer leads with it."""
    names = {"Dump_Write": "Dump_Write of dump_dumpfve.sys in", "": "in no filter in"}
    steps = [(taken.first["elf"], taken.later, "callback-still-executing", "still there in later")]
    earlier = taken.later
    for waits, path in taken.next.items():
        words = f"{names[waits]} {path.name}"
        steps.append((earlier, path, "callback-moved-on", words))
        earlier = path
    for one, other, rule, words in steps:
        paths = [str(one), str(other)]
        case = analyzer.open(paths)
        found = [f for f in case.records["findings"] if f.rule.startswith("callback-")]
        told = [f for f in found if f.rule in ("callback-still-executing", "callback-moved-on")]
        assert [f.rule for f in told] == [rule]
        assert words in told[0].text
        main(["analyze", *paths])
        assert capsys.readouterr().out.split()[:3] == ["Processor", "0", "was"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_leads_with_where_it_executes(kind: str, taken: Taken, capsys: Any) -> None:
    """Without registers it does not say anything of processors."""
    main(["analyze", str(taken.first[kind])])
    out = " ".join(capsys.readouterr().out.split())
    sure = "likely " if kind == "win-dmp" else ""  # QEMU put the registers where Windows does
    lead = f"Processor 0 is {sure}inside {taken.callback} of {taken.hung['filter']}"
    assert out.startswith(lead if kind != "raw" else "A snapshot of a machine's memory")


def test_the_report_claims_no_written_dump(
    taken: Taken, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the kind of the snapshot."""
    for path in (*taken.first.values(), taken.later, *taken.next.values()):
        main(["analyze", str(path)])
        assert "dump was written." not in " ".join(capsys.readouterr().out.split())
