"""The dump reader against Microsoft's debugger engine, which runs here under Wine.

The oracle of every value is DbgEng 10.0.15063 itself, opening the same file.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Callable, NamedTuple

import pytest
from wine import engine_text, session

from analyzer.absence import Absent
from analyzer.dumpfile import KernelDump, open_dump
from analyzer.records import Module, Records
from analyzer.sources.dump import records_of

pytestmark = pytest.mark.live
Find = Callable[[str], Path]
TRIAGE = {
    "x64": "dmp/rizinorg_rizin-testbins__triage_x64.dmp",
    "arm64": "dmp/rizinorg_rizin-testbins__triage_arm64.dmp",
}
#: dumps of the generator and how many filters each holds (its scenario)
FILTERS = {
    "healthy-x64-kernel.dmp": 2,
    "healthy-arm64-full.dmp": 2,
    "hibernation-x64-active.dmp": 4,
}
SYNTHETIC = tuple(FILTERS)
COMMANDS = {
    "lm": "lm t n",
    "tags": ".enumtag",
    "registers": "r",
    # the context that the kernel saved at the exception (parameter 4 of bugcheck 0x7E)
    "exception": ".cxr 0xffff850429891720; r",
    "version": "vertarget",
    "bugcheck": ".bugcheck",
}


class Opened(NamedTuple):
    """One dump, as the engine and as the package read it."""

    engine: dict[str, str]
    dump: KernelDump
    records: Records


_OPENED: dict[str, Opened] = {}


def opened(find: Find, architecture: str) -> Opened:
    """Opens each real dump once in the engine."""
    if architecture not in _OPENED:
        path = find(TRIAGE[architecture])
        output = session.debug(session.provided(), list(COMMANDS.values()), path)
        dump = open_dump(str(path))
        _OPENED[architecture] = Opened(dict(zip(COMMANDS, output)), dump, records_of(dump))
    return _OPENED[architecture]


def plain(module: Module) -> tuple[object, object, object]:
    """What the engine tells of a module too."""
    return module.base, module.end, module.name


@pytest.mark.parametrize("architecture", TRIAGE)
def test_loaded_modules(architecture: str, shared_sample: Find) -> None:
    """Base, end, image name and time stamp of every loaded module are those of ``lm``."""
    case = opened(shared_sample, architecture)
    loaded, _ = engine_text.modules(case.engine["lm"])
    ours = {(*plain(m), m.time_date_stamp) for m in case.records["modules"] if m.loaded}
    # the engine calls the kernel by the name of its symbols
    kernel = {"ntkrnlmp.exe": "ntoskrnl.exe"}
    theirs = {(m.base, m.end, kernel.get(m.image, m.image), m.stamp) for m in loaded}
    assert theirs == ours
    assert len(loaded) == sum(bool(m.loaded) for m in case.records["modules"])


@pytest.mark.parametrize("architecture", TRIAGE)
def test_unloaded_modules(architecture: str, shared_sample: Find) -> None:
    """The unloaded modules are the engine's, in its order."""
    case = opened(shared_sample, architecture)
    _, unloaded = engine_text.modules(case.engine["lm"])
    ours = [plain(m) for m in case.records["modules"] if not m.loaded]
    assert [(m.base, m.end, m.image) for m in unloaded] == ours


@pytest.mark.parametrize("architecture", TRIAGE)
def test_tagged_data(architecture: str, shared_sample: Find) -> None:
    """Every tagged block has the engine's GUID, place in the list, length and bytes.

    Where a GUID stands several times the engine shows the first block's bytes each time.
    """
    case = opened(shared_sample, architecture)
    engine = engine_text.tags(case.engine["tags"])
    assert [(tag.guid, tag.size_bytes) for tag in case.records["tags"]] == [
        (guid, len(content)) for guid, content in engine
    ]
    for guid, content in engine:
        assert bytes(case.dump.tag_data(guid)[0][1]) == content


@pytest.mark.parametrize("architecture", TRIAGE)
def test_bugcheck_and_build(architecture: str, shared_sample: Find) -> None:
    """Bugcheck code, parameters, build and lab string are the engine's."""
    case = opened(shared_sample, architecture)
    (row,) = case.records["machine"]
    code, arguments = case.engine["bugcheck"].splitlines()
    assert row.bugcheck == int(code.split()[-1], 16)
    parameters = [row.parameter1, row.parameter2, row.parameter3, row.parameter4]
    assert [engine_text.number(word) for word in arguments.split()[1:]] == parameters
    assert f"Version {row.build} MP ({row.processors} procs)" in case.engine["version"]
    if not isinstance(row.build_lab, Absent):
        assert f"Built by: {row.build_lab}" in case.engine["version"]


def test_registers_of_the_exception(shared_sample: Find) -> None:
    """x64: the header's context is the one the engine reads at bugcheck parameter 4."""
    case = opened(shared_sample, "x64")
    (row,) = case.records["machine"]
    engine = engine_text.registers(case.engine["exception"].split("cs=")[0])
    assert (row.instruction_pointer, row.stack_pointer) == (engine["rip"], engine["rsp"])


def test_registers_of_the_stack(shared_sample: Find) -> None:
    """x64: the engine stands on the saved stack's first word, which the minidump names."""
    case = opened(shared_sample, "x64")
    triage = case.dump.triage  # type: ignore[attr-defined]
    assert engine_text.registers(case.engine["registers"])["rsp"] == triage["TopOfStack"]


def test_registers_of_arm64(shared_sample: Find) -> None:
    """ARM64: program counter and stack pointer are those of the engine's ``r``."""
    case = opened(shared_sample, "arm64")
    (row,) = case.records["machine"]
    engine = engine_text.registers(case.engine["registers"])
    assert (row.instruction_pointer, row.stack_pointer) == (engine["pc"], engine["sp"])


@pytest.mark.parametrize("name", SYNTHETIC)
def test_synthetic_dumps(name: str, sample: Find) -> None:
    """Dumps that our generator wrote: modules, filter nodes and registers are the engine's.

    Names and time stamps are not compared: the engine reads them from image headers, which these
    dumps leave out.
    """
    path = sample(name)
    dump = open_dump(str(path))
    records = records_of(dump)
    nodes = [row.node for row in records["filters"] if isinstance(row.node, int)]
    commands = ["lm t n", "r", *(f"dq {node:#x} L18" for node in nodes)]
    lm, registers, *memory = session.debug(session.provided(), commands, path)
    loaded, _ = engine_text.modules(lm)
    assert {(m.base, m.end) for m in loaded} == {
        (m.base, m.end) for m in records["modules"] if m.loaded
    }
    assert len(nodes) == FILTERS[name]
    for node, text in zip(nodes, memory):
        assert struct.pack("<24Q", *engine_text.words(text)) == dump.read(node, 0xC0)
    (row,) = records["machine"]
    found = engine_text.registers(registers)
    assert row.instruction_pointer == found.get("rip", found.get("pc"))
    assert row.stack_pointer == found.get("rsp", found.get("sp"))
