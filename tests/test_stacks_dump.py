"""Processors, call stacks and names of whole dumps, as the command and ``analyzer.open`` give them.

The dump holds the simulated machine as it stood inside a callback; the expected frames are its own
record of calls, the expected names those of the linker's map.
"""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any, Callable, NamedTuple

import machine_dump
import pytest
from conftest import make
from kd.machine import POOL
from kd.scenarios import SCENARIOS
from stack_truth import Life, Position, deep_guest

import analyzer
from analyzer.absence import Absent
from analyzer.cli import main
from analyzer.errors import UsageError
from analyzer.records import Callback, Filter, Origin, Processor, Records
from analyzer.sources import callbacks_seen

ARM64 = "dmp/rizinorg_rizin-testbins__triage_arm64.dmp"
#: places inside functions
LABELS = ("Interrupt", "Resumed", "Leave", "Second", "Back")
X64 = "dmp/rizinorg_rizin-testbins__triage_x64.dmp"


class Inside(NamedTuple):
    """A dump taken inside a callback, and what is true of it."""

    dump: Path
    folder: Path  #: images and PDBs, flat
    life: Life
    position: Position


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Inside:
    """The machine in the innermost function below Dump_Start of the first filter."""
    folder = tmp_path_factory.mktemp("inside")
    life = Life(SCENARIOS["failing"], deep_guest())
    leaf = life.machine.filters["dump_alpha.sys"].address("Leafy")
    for position in life.positions():
        if position.registers["rip"] == leaf and len(position.callers) > 18:
            break
    files = folder / "build"
    files.mkdir()
    for built in deep_guest().values():
        shutil.copy(built.image, files)
        shutil.copy(built.pdb, files)
    dump = machine_dump.write(life.machine, folder / "inside.dmp")
    return Inside(dump, files, life, position)


def named(life: Life, address: int) -> str:
    """An address by the linker's map."""
    (image,) = [one for one in life.machine.images if address in one]
    functions = {at: name for name, at in image.symbols.items() if name not in LABELS}
    before = {at: name for at, name in functions.items() if at <= address - image.base}
    start = max(before)
    distance = address - image.base - start
    stem = image.name.rpartition(".")[0]
    return f"{stem}!{before[start]}" + (f"+{distance:#x}" if distance else "")


def test_processor_and_frames(inside: Inside) -> None:
    """One processor, inside Dump_Start; its stack is the recorded one, to the end."""
    records = analyzer.open(inside.dump).records
    (row,) = records["processors"]
    assert (row.processor, row.is_idle) == (0, False)
    assert row.instruction_pointer == inside.position.registers["rip"]
    assert row.stack_pointer == inside.position.registers["rsp"]
    assert (row.filter, row.callback) == ("dump_alpha.sys", "Dump_Start")
    assert row.symbol == "dump_alpha+0x1080"
    assert f"rbx={inside.position.registers['rbx']:#x}" in row.registers
    frames = records["frames"]
    assert [(f.instruction_pointer, f.stack_pointer) for f in frames[1:]] == inside.position.callers
    assert [f.frame for f in frames] == list(range(len(frames)))
    assert frames[-1].return_address is None
    assert {f.stack_of for f in frames} == {"processor 0"}


def test_the_finding_and_the_answer(inside: Inside, capsys: pytest.CaptureFixture[str]) -> None:
    """Who is inside what, called by whom, and that one look proves no hang."""
    case = analyzer.open(inside.dump)
    (finding,) = [f for f in case.records["findings"] if f.rule == "callback-executing"]
    assert (finding.severity, finding.subject) == ("info", "dump_alpha.sys")
    assert finding.facts["callback"] == "Dump_Start"
    assert finding.facts["processor"] == 0
    crashdmp = inside.life.machine.crashdmp
    (back,) = [back for back, _ in inside.position.callers if back in crashdmp][:1]
    caller = f"crashdmp+{back - crashdmp.base:#x}"
    text = (
        f"Processor 0 is inside Dump_Start of dump_alpha.sys, at dump_alpha+0x1080, called by "
        f"{caller}. One look does not prove that it hangs there;"
    )
    assert text in finding.text
    main(["analyze", str(inside.dump)])
    answer = " ".join(capsys.readouterr().out.split())
    assert answer.startswith(text)
    assert "dump_alpha.sys likely on executing (processor 0)" in answer
    (call,) = [
        c for c in case.records["callbacks"]
        if (c.filter, c.callback) == ("dump_alpha.sys", "Dump_Start")
    ]  # fmt: skip
    assert call.was_called == "yes"
    assert isinstance(call.status, Absent)


@pytest.mark.parametrize("format", ["text", "html", "markdown"])
def test_reports_show_the_stack(format: str, inside: Inside) -> None:
    """Every report names the place; the long text and the page show the chain."""
    options = {"details": True} if format == "text" else {}
    text = analyzer.open(inside.dump).report(format, **options)
    assert "dump_alpha+0x1080" in text
    if format != "markdown":
        assert "Processors and call stacks" in text
        assert "machine frame" in text


def test_names_by_symbols(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """With PDBs every frame and callback has the name of the linker's map."""
    monkeypatch.setenv("_NT_SYMBOL_PATH", f"srv*{inside.folder}*https://example.invalid/symbols")
    by_path = analyzer.open(inside.dump).records
    monkeypatch.delenv("_NT_SYMBOL_PATH")
    records = analyzer.open(inside.dump, symbols=inside.folder).records
    addresses = [inside.position.registers["rip"], *(back for back, _ in inside.position.callers)]
    expected = [named(inside.life, address) for address in addresses]
    assert [f.symbol for f in records["frames"]] == expected
    assert [f.symbol for f in by_path["frames"]] == expected
    assert "ntoskrnl!KeBugCheckEx+" in " ".join(expected)
    symbols = {(c.filter, c.callback): c.symbol for c in records["callbacks"]}
    assert symbols["dump_beta.sys", "Dump_Finish"] == "dump_beta!DumpFinish"
    assert analyzer.open(inside.dump).records["frames"][0].symbol == "dump_alpha+0x1080"


def test_the_script_needs_no_symbols(inside: Inside) -> None:
    """A breakpoint script names routines by offset, though names are known here."""
    from analyzer.live.routines import of_callbacks

    records = analyzer.open(inside.dump, symbols=inside.folder).records
    made = of_callbacks(records["callbacks"], records["modules"])
    start = inside.life.machine.filters["dump_alpha.sys"].symbols["DumpStart"]
    assert f"dump_alpha+{start:#x}" in [routine.expression for routine in made]
    assert not [routine.expression for routine in made if "!" in routine.expression]


def live(records: Any) -> list[Any]:
    """The frames of the processor's own stack."""
    return [frame for frame in records["frames"] if frame.stack_of == "processor 0"]


def without_filters(inside: Inside) -> bytes:
    """The dump with the filters' images unmapped, but for their headers."""
    dump = bytearray(inside.dump.read_bytes())
    for image in inside.life.machine.filters.values():
        for offset in range(0x1000, image.size, 0x1000):
            address, table = image.base + offset, 1
            for shift in (39, 30, 21):
                at = 0x2000 + (table - 1) * 0x1000 + (address >> shift & 511) * 8
                table = struct.unpack_from("<Q", dump, at)[0] // 0x1000 & 0xF_FFFF_FFFF
            at = 0x2000 + (table - 1) * 0x1000 + (address >> 12 & 511) * 8
            struct.pack_into("<Q", dump, at, 0)
    return bytes(dump)


def test_images_stand_in_for_memory(inside: Inside, tmp_path: Path) -> None:
    """Images that the dump lost are read from files, flat or in a cache; wrong ones are not."""
    lost = tmp_path / "lost.dmp"
    lost.write_bytes(without_filters(inside))
    (alone,) = live(analyzer.open(lost).records)
    assert "the image file (--images)" in str(alone.return_address)
    flat, wrong = tmp_path / "flat", tmp_path / "wrong"
    image = inside.life.machine.filters["dump_alpha.sys"]
    key = f"{image.time_stamp:08X}{image.size:x}"
    store = tmp_path / "store" / "dump_alpha.sys" / key
    for folder, source, name in (
        (flat, "filter.sys", "ALPHA.SYS"),
        (store, "filter.sys", "dump_alpha.sys"),
        (wrong, "crashdmp.sys", "dump_alpha.sys"),
    ):
        folder.mkdir(parents=True)
        shutil.copy(inside.folder / source, folder / name)
    for folder in (flat, tmp_path / "store"):
        frames = live(analyzer.open(lost, images=folder).records)
        pairs = [(f.instruction_pointer, f.stack_pointer) for f in frames[1:]]
        assert pairs == inside.position.callers, folder
    records = analyzer.open(lost, images=wrong).records
    assert len(live(records)) == 1
    (refused,) = [f.text for f in records["findings"] if f.rule == "symbols-refused"]
    assert "not the image of dump_alpha.sys" in refused


def test_hostile_options(
    inside: Inside, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that is not there, a server alone, an option without a use: one sentence each."""
    assert main(["analyze", str(inside.dump), "--images", str(tmp_path / "none")]) == 2
    assert "this is not a folder" in capsys.readouterr().err
    server = "srv*https://msdl.microsoft.com/download/symbols"
    assert main(["analyze", str(inside.dump), "--symbols", server]) == 2
    assert "no local folder" in capsys.readouterr().err
    log = tmp_path / "System.reg"
    log.write_text("Windows Registry Editor Version 5.00\n\n[HKEY_LOCAL_MACHINE\\SYSTEM]\n")
    with pytest.raises(UsageError, match="--images is for files of kind"):
        analyzer.open(log, images=inside.folder)


def test_tables_of_the_command(inside: Inside, capsys: pytest.CaptureFixture[str]) -> None:
    """``show processors`` and ``show frames`` give the same rows."""
    assert main(["show", "processors", str(inside.dump), "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["callback"] == "Dump_Start"
    argv = ["show", "frames", str(inside.dump), "--symbols", str(inside.folder), "--format", "csv"]
    assert main(argv) == 0
    assert "crashdmp!StartFilterDrivers" in capsys.readouterr().out


def test_the_first_argument(tmp_path: Path) -> None:
    """At the entry of a callback its first argument is called by its name."""
    life = Life(SCENARIOS["failing"], deep_guest())
    start = life.machine.filters["dump_beta.sys"].address("DumpStart")
    for position in life.positions():
        if position.registers["rip"] == start:
            break
    records = analyzer.open(machine_dump.write(life.machine, tmp_path / "entry.dmp")).records
    (row,) = records["processors"]
    assert row.first_argument == POOL + 0x11A0 + 0x40
    assert row.first_argument_is == "FILTER_EXTENSION of dump_beta.sys"
    assert (row.filter, row.callback) == ("dump_beta.sys", "Dump_Start")


# ---- real minidumps ------------------------------------------------------------------------------


def test_arm64_frame_records(shared_sample: Callable[[str], Path]) -> None:
    """The chain of the dump writer: eight frame records up to those below the crash context."""
    records = analyzer.open(shared_sample(ARM64)).records
    stale = [f for f in records["frames"] if f.stack_of == "stale crash stack"]
    nt = 0xFFFFF803F2E00000
    assert [f.symbol for f in stale[:2]] == ["crashdmp+0x5200", "crashdmp+0x27ec"]
    assert [f.instruction_pointer - nt for f in stale[2:]] == [
        0x4CA610, 0x4DF1A8, 0x4DE87C, 0x5442A0, 0x29FF1C, 0x373340, 0x207DE4,
    ]  # fmt: skip
    assert {f.how for f in stale} == {"frame record"}
    assert {f.origin.confidence for f in stale} == {"likely"}
    mine = [f.instruction_pointer - nt for f in records["frames"] if f.processor == 0]
    assert mine == [0x4DE014, 0x5442A0, 0x29FF1C, 0x373340, 0x207DE4]
    left = {r.symbol for r in records["residue"]}
    assert not left & {"crashdmp+0x5200", "crashdmp+0x27ec"}
    assert left


def test_processors_of_a_real_minidump(shared_sample: Callable[[str], Path]) -> None:
    """All sixteen processors of a Ryzen; fourteen idle, in the same two places of nt."""
    records = analyzer.open(shared_sample(X64)).records
    rows = records["processors"]
    assert sorted(row.processor for row in rows) == list(range(16))
    idle = [row.symbol for row in rows if row.is_idle]
    assert len(idle) == 14
    assert set(idle) == {"ntoskrnl+0x38d14d", "ntoskrnl+0x3f187f"}
    assert not [f for f in records["findings"] if f.rule == "callback-executing"]
    crash = [f for f in records["frames"] if f.stack_of == "crash context"]
    assert [f.symbol for f in crash] == ["amdppm+0x334c"]


@pytest.mark.parametrize(
    ("inside", "confidence", "started"),
    [
        ("Dump_Start", "certain", ["likely", "yes", None]),  # in list order
        ("Dump_Write", "likely", ["likely", "likely", "likely"]),  # all of them before any write
        ("Dump_Start", "guess", [None, None, None]),
    ],
)
def test_what_a_running_callback_says_of_the_others(
    inside: str, confidence: str, started: list[str | None]
) -> None:
    """Of three filters in crashdmp's list the second is running; the hibernation stack is not."""
    names, unknown = ["a.sys", "b.sys", "c.sys"], Absent("not-recorded")
    held = Records()
    for stack, place, name in [*(("crash", n, f) for n, f in enumerate(names)), ("hiber", 0, "d")]:
        held.add(make(Filter, filter=name, stack=stack, ring_index=place))
        for callback in ("Dump_Start", "Dump_Write"):
            row = make(Callback, filter=name, stack=stack, callback=callback, routine=0x1000)
            held.add(row._replace(was_called=unknown))
    origin = Origin("a.dmp", "stack", confidence)
    held.add(make(Processor, processor=1, filter="b.sys", callback=inside)._replace(origin=origin))
    callbacks_seen.settle(held)
    told = {
        (c.filter, c.callback): None if isinstance(c.was_called, Absent) else c.was_called
        for c in held["callbacks"]
    }
    assert [told[name, "Dump_Start"] for name in names] == started
    running = "yes" if confidence != "guess" else None
    assert told["b.sys", inside] == running
    assert told["a.sys", "Dump_Write"] is None
    assert told["d", "Dump_Start"] is None
