"""ETW sessions of dumps as a table and as exported files; read only when asked for."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import etw_writer as w
import generator
import pytest
from conftest import SAMPLE_TRACES, shared_sample
from generator.variants import VARIANTS
from test_etw_memory import CONTEXT, POOL, machine

import analyzer
from analyzer.etw import memory
from analyzer.records import Records
from analyzer.sources import collect
from analyzer.sources.dump_events import DumpEvents
from analyzer.target import PAGE

#: sessions and events as an independent walk of the block counts them (INDEX.md)
TRIAGE = "dmp/rizinorg_rizin-testbins__triage_{}.dmp"


def dump_with_session(path: Path, buffers: int = 4, **spec: Any) -> Path:
    """A generated page dump in whose memory lies the session of test_etw_memory."""

    def plant(m: Any) -> None:
        for number, data in machine(buffers).pages.items():
            if number * PAGE < 0xFFFFF78000000000:  # the generator has this page of its own
                m.world.write(number * PAGE, bytes(data))

    healthy = VARIANTS["healthy"]
    VARIANTS["healthy"] = healthy._replace(memory=plant)
    try:
        path.write_bytes(generator.build(generator.Spec(**spec)).data)
    finally:
        VARIANTS["healthy"] = healthy
    return path


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kernel dump with one session of 120 events."""
    return dump_with_session(tmp_path_factory.mktemp("etw") / "planted.dmp")


@pytest.mark.parametrize("dump_type", [1, 5, 6])
def test_sessions_in_the_memory_of_a_page_dump_are_events(tmp_path: Path, dump_type: int) -> None:
    """All 120 planted events are rows, with time, session and address."""
    path = dump_with_session(tmp_path / "x.dmp", dump_type=dump_type)
    events = analyzer.open(path).events
    assert len(events) == 120  # oracle: 4 buffers of 30 events each
    assert set(events["session"]) == {"Acme-Session"}
    assert events["time"].is_monotonic_increasing
    assert events["time"].iloc[0].value == (w.FILETIME_2024 - w.EPOCH) * 100
    buffers = {POOL + k * 0x10000 for k in range(4)}
    assert {int(a) & ~0xFFFF for a in events["at_address"]} == buffers


def test_a_dump_without_sessions_has_no_events() -> None:
    """The table of a dump in whose memory no session lies is empty."""
    assert len(analyzer.open(SAMPLE_TRACES / "healthy-x64-kernel.dmp").events) == 0


def test_a_32_bit_dump_is_not_searched() -> None:
    """The layout of 32-bit buffers is not known: the table is the empty list of any source."""
    assert collect(str(SAMPLE_TRACES / "healthy-x86-windows7-full.dmp"))["events"] == []


def test_the_text_report_does_not_search_memory(
    planted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only who asks for events pays for reading all pages."""
    asked: list[Any] = []
    search = memory.sessions
    monkeypatch.setattr(memory, "sessions", lambda *a: asked.append(a) or search(*a))
    case = analyzer.open(planted)
    case.report()
    assert asked == []
    assert len(case.records["events"]) == 120
    assert len(asked) == 1


@pytest.mark.parametrize("times", [1, 2])
def test_the_text_report_of_minidumps_loads_no_numpy(times: int) -> None:
    """The trace buffers of minidumps stay unread, also when several are joined to one case."""
    names = ["x64", "arm64"][:times]
    script = (
        "import sys; from analyzer import cli; cli.main(sys.argv[1:]);"
        "print('numpy' in sys.modules, file=sys.stderr)"
    )
    paths = [str(shared_sample(TRIAGE.format(name))) for name in names]
    done = subprocess.run(
        [sys.executable, "-c", script, "analyze", *paths],
        capture_output=True, text=True, check=False, encoding="utf-8",
    )  # fmt: skip
    assert done.stderr.splitlines()[-1] == "False"
    assert done.stdout.count("bytes of ETW trace buffers") == times


def test_events_of_all_sources_are_one_table_in_any_order(planted: Path) -> None:
    """A dump, a minidump with saved buffers and a trace, joined first to last and back."""
    paths = [str(planted), str(shared_sample(TRIAGE.format("x64"))),
             str(SAMPLE_TRACES / "traces" / "crash-callbacks.etl")]  # fmt: skip
    parts = [len(collect(path)["events"]) for path in paths]
    assert parts[:2] == [120, 107]
    for order in (paths, paths[::-1], [paths[1], paths[0], paths[2]]):
        merged = Records()
        for path in order:
            merged.extend(collect(path))
        merged.extend(Records())
        assert len(merged["events"]) == sum(parts)
        assert {event.origin.source for event in merged["events"]} == set(paths)


def test_a_session_that_windows_saved_is_not_told_twice(planted: Path) -> None:
    """Of a session with a tagged block the copy in memory is left out."""
    events = collect(str(planted))["events"]
    assert isinstance(events, DumpEvents)
    (trace,) = events.sessions()
    events._saved = [trace]
    assert events.sessions() == [trace]


def test_memory_that_lies_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound buffers are left out, and the target says so."""
    monkeypatch.setattr(memory, "MAX_BYTES", 0x10000)
    target = machine()
    (trace,) = memory.sessions(target, target.runs())
    assert 0 < len(trace) < 120
    assert len(trace.data) <= 0x10000
    assert any("left out" in note.text for note in trace.account.notes)
    assert target.limits


def test_each_buffer_of_lists_that_do_not_close_is_walked_once() -> None:
    """Buffers that all lead into one torn list cost a few reads each, not a walk each."""
    target = machine(buffers=1)
    count, reads = 3000, 0
    header = struct.Struct("<IIIiqqQHHIIHHQQ")
    place = [POOL + 0x1000000 + k * PAGE for k in range(count)]
    for k, address in enumerate(place):
        # Every neighbour backwards is sound, the end of the list leads nowhere.
        onward = place[k + 1] + 0x38 if k + 1 < count else 0xFFFFDEAD00000000
        back = place[k - 1] + 0x38 if k else CONTEXT + 0x100
        target.put(address, header.pack(PAGE, 0x48, 0x48, 0, 0, 0, 0, 0, 9, 0, 0x48, 0x20, 0,
                                        onward, back))  # fmt: skip
    read = target.read

    def counted(address: int, size: int) -> Any:
        nonlocal reads
        reads += 1
        return read(address, size)

    target.read = counted  # type: ignore[method-assign]
    runs = target.runs()
    # The last buffers come first, so that every later one leads into a list already walked.
    assert len(list(memory.sessions(target, runs[::-1]))) == 1
    assert reads < 10 * count
