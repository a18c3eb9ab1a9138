"""Our call stacks against ``k`` of Microsoft's debugger engine, in dumps that it wrote itself.

The machine stands in functions of every kind (kd/guest/frames.inc); the oracle of every frame is
DbgEng 10.0.15063.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kd.machine import Machine
from kd.scenarios import SCENARIOS
from kd.simulator import simulated
from stack_truth import deep_folder, deep_guest
from wine import session
from wine.provision import windows_path

import analyzer

pytestmark = pytest.mark.live
#: function -> bytes behind its begin at which the dump is taken
POINTS = {
    "TailCalls": 0,
    "ThroughChained": 0,
    "AfterMachineFrame": 0,
    "Saves": 0,
    "Dynamic": 0,
    "HugeFrame": 0,
    "LargeFrame": 0,
    "Leafy": 0,
}


class Written(NamedTuple):
    """A dump and the return addresses that ``k`` shows for it."""

    path: Path
    engine: list[int]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Written]:
    """A full dump at each point, and a minidump at the last."""
    return session.twice(lambda: write_dumps(tmp_path_factory.mktemp("stacks")))


def write_dumps(folder: Path) -> dict[str, Written]:
    """One session of the engine."""
    wine, machine = session.provided(), Machine(deep_guest(), SCENARIOS["failing"])
    alpha = machine.filters["dump_alpha.sys"]
    commands, paths = [".reload"], {}
    for name, offset in POINTS.items():
        paths[name] = folder / f"{name}.dmp"
        at = alpha.address(name) + offset
        commands += [f"bp {at:#x}", "g", "bc *", "k 40", f".dump /f {windows_path(paths[name])}"]
    paths["mini"] = folder / "mini.dmp"
    commands += [f".dump /m {windows_path(paths['mini'])}", "qd"]
    with simulated("failing", tty=wine.port, built=deep_folder()) as target:
        output = session.debug(wine, commands, limit=180)
        target.end()
    stacks = {name: returns(output[1 + 5 * number + 3]) for number, name in enumerate(POINTS)}
    stacks["mini"] = stacks["Leafy"]
    return {name: Written(path, stacks[name]) for name, path in paths.items()}


def returns(text: str) -> list[int]:
    """The return addresses of ``k``."""
    words = re.findall(
        r"^(?:[0-9a-f]+ )?[0-9a-f]{8}`[0-9a-f]{8} ([0-9a-f]{8}`[0-9a-f]{8}) ", text, re.M
    )
    numbers = [int(word.replace("`", ""), 16) for word in words]
    return [number for number in numbers if number]


def ours(path: Path, **options: Path) -> list[int]:
    """The return addresses of the processor's own stack."""
    frames = analyzer.open(path, **options).records["frames"]
    return [f.instruction_pointer for f in frames if f.processor == 0][1:]


@pytest.mark.parametrize("name", POINTS)
def test_every_frame_is_the_engines(name: str, written: dict[str, Written]) -> None:
    """All frames of a full dump, to the end."""
    dump = written[name]
    assert ours(dump.path) == dump.engine
    assert len(dump.engine) >= 7


def test_a_minidump_with_image_files(written: dict[str, Written], tmp_path: Path) -> None:
    """Without files nothing is proven; with them all frames are the engine's."""
    dump = written["mini"]
    assert len(ours(dump.path)) <= 1
    sources = {"dump_alpha.sys": "filter.sys", "crashdmp.sys": "crashdmp.sys"}
    for name, source in {**sources, "ntoskrnl.exe": "ntoskrnl.exe"}.items():
        shutil.copy(deep_folder() / source, tmp_path / name)
    assert ours(dump.path, images=tmp_path) == dump.engine


def test_images_without_unwind_data(specimen: Any, truth: dict[str, Any]) -> None:
    """A snapshot of a hung filter that has none: one frame, and no caller, as the engine says."""
    path = specimen("win-dmp")
    (row, _) = analyzer.open(path).records["processors"]
    context = truth["processors"][0]["prcb"] + 0x1F0  # where QEMU put the registers
    ip = row.instruction_pointer
    commands = [f".cxr {context:#x}", "k 20", f".fnent {ip:#x}"]
    registers, stack, entry = session.debug(session.provided(), commands, path)
    assert f"rip={ip:016x} rsp={row.stack_pointer:016x}" in registers
    assert "No function entry" in entry
    assert f"dump_acmeflt+{ip - truth['modules']['dump_acmeflt.sys']:#x}" in stack
    assert returns(stack) == ours(path) == []
