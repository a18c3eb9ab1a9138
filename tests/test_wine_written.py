"""Dumps that Microsoft's debugger engine writes of the simulated machine, read by the package.

Neither the machine's memory nor the files come from the package's own generator: kd/ builds the
memory, DbgEng 10.0.15063 under Wine writes the files.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from kd.machine import DISK, POOL, Machine
from kd.scenarios import SCENARIOS
from kd.simulator import guest, simulated
from wine import session
from wine.provision import windows_path

from analyzer.dumpfile import open_dump
from analyzer.records import Records
from analyzer.sources.dump import records_of

pytestmark = pytest.mark.live
NODES = {"dump_alpha.sys": POOL + 0x1000, "dump_beta.sys": POOL + 0x11A0}


@pytest.fixture(scope="module")
def machine() -> Machine:
    """The machine as it was before the debugger came: where everything lies."""
    return Machine(guest()[1], SCENARIOS["normal"])


@pytest.fixture(scope="module")
def written(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A full and a mini dump, taken in the last callback of a crash dump."""
    return session.twice(lambda: write_dumps(machine, tmp_path_factory.mktemp("written")))


def write_dumps(machine: Machine, folder: Path) -> dict[str, Path]:
    """One session of the engine."""
    wine = session.provided()
    files = {kind: folder / f"{kind}.dmp" for kind in ("f", "m")}
    last = machine.filters["dump_beta.sys"].address("DumpFinish")
    commands = [".reload", f"bp {last:#x}", "g", "r rip"]
    commands += [f".dump /{kind} {windows_path(path)}" for kind, path in files.items()]
    with simulated("normal", tty=wine.port) as target:
        output = session.debug(wine, [*commands, "bc *", "qd"])
        assert output[3].endswith(f"rip={last:016x}")
        report = target.end()
    assert len(report["made"]) == len(SCENARIOS["normal"].calls)
    assert report["ran_since_resume"] > 0
    return files


@pytest.fixture(scope="module")
def full(written: dict[str, Path]) -> Records:
    """What the package reads in the full dump."""
    return records_of(open_dump(str(written["f"])))


def row(records: Records, table: str, name: str) -> Any:
    """The one row of a filter."""
    (found,) = [r for r in records[table] if r.filter == name]
    return found


@pytest.mark.parametrize("name", NODES)
def test_filter_node(name: str, full: Records, machine: Machine) -> None:
    """Every field of FILTER_INITIALIZATION_DATA and of the node is what the guest wrote."""
    image, found = machine.filters[name], row(full, "filters", name)
    assert (found.stack, found.node, found.layout) == ("crash", NODES[name], "win8")
    assert (found.ring_index, found.ring_count) == (list(NODES).index(name), 2)
    assert (found.major_version, found.minor_version) == (2, 0)
    assert found.dump_start == image.address("DumpStart")
    assert found.dump_write == image.address("DumpWrite")
    assert found.dump_finish == image.address("DumpFinish")
    assert found.dump_unload == image.address("DumpUnload")
    assert found.dump_read == image.address("DumpRead")
    assert found.dump_data == image.address("DumpData")
    assert (found.max_pages_per_write, found.flags, found.is_disabled) == (16, 1, False)


@pytest.mark.parametrize("name", NODES)
def test_filter_extension(name: str, full: Records, machine: Machine) -> None:
    """Every field of FILTER_EXTENSION is what the guest's crashdmp filled in."""
    found = row(full, "extensions", name)
    for field in set(DISK) - {"gpt_disk_id"}:
        assert getattr(found, field) == DISK[field], field
    assert found.gpt_disk_id == str(uuid.UUID(bytes_le=DISK["gpt_disk_id"]))
    assert found.extension == NODES[name] + 0x40
    assert (found.dump_type, found.size, found.flags) == (1, 0x58, 0)
    assert found.dump_data == machine.filters[name].address("DumpData")


@pytest.mark.parametrize("kind", ["f", "m"])
def test_modules(kind: str, written: dict[str, Path], machine: Machine) -> None:
    """Name, base, size and time stamp of each of the machine's modules."""
    records = records_of(open_dump(str(written[kind])))
    found = [(m.name, m.base, m.size, m.time_date_stamp) for m in records["modules"]]
    names = {"ntkrnlmp.exe": "ntoskrnl.exe"}
    assert sorted((names.get(name, name), *rest) for name, *rest in found) == sorted(
        (image.name, image.base, image.size, image.time_stamp) for image in machine.images
    )


def test_memory(written: dict[str, Path], machine: Machine) -> None:
    """Code and pool of the full dump are, byte for byte, the machine's."""
    dump = open_dump(str(written["f"]))
    for image in machine.filters.values():
        text = image.base + 0x1000
        assert dump.read(text, 0x180) == machine.read(text, 0x180)
    assert dump.read(POOL, 0x900) == machine.read(POOL, 0x900)
    assert dump.read(POOL + 0x4000, 8).reason == "not-mapped"


def test_bugcheck(full: Records) -> None:
    """The bugcheck is the one that the machine was in."""
    (found,) = full["machine"]
    assert (found.bugcheck, found.build, found.processors) == (0xE2, 19041, 1)
