"""ETW sessions of dumps as a table and as exported files; read only when asked for."""

from __future__ import annotations

import hashlib
import random
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
from analyzer import cli
from analyzer.errors import AnalyzerError
from analyzer.etw import export, judge, memory
from analyzer.etw.dumpblock import sessions as saved_sessions
from analyzer.etw.layouts import DUMP_SESSION_SIGNATURE
from analyzer.etw.trace import Trace
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
        [sys.executable, "-c", script, "analyze", "-v", *paths],
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


# -- export -----------------------------------------------------------------------------------


def exported(path: Path, out: Path, *options: str) -> int:
    """The exit code of the command."""
    return cli.main(["export", "--etl", str(path), "--output", str(out), *options])


def peer_count(path: Path) -> int:
    """Events as dissect.etl counts them."""
    peer = pytest.importorskip("dissect.etl.etl")
    with path.open("rb") as file:
        return sum(1 for _ in peer.ETL(file))


def test_a_session_of_a_minidump_is_read_back_by_dissect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The x64 triage dump has 107 events (INDEX.md), all of one session; a header is added."""
    out = tmp_path / "out.etl"
    path = shared_sample(TRIAGE.format("x64"))
    assert exported(path, out, "--session", "eventlog-system") == 0
    assert peer_count(out) == 108
    said = capsys.readouterr()
    assert said.out == ""
    assert "108 events with the trace header" in said.err


def test_a_session_in_memory_is_exported(planted: Path, tmp_path: Path) -> None:
    """120 planted events, the same times for a reader of the .etl."""
    out = tmp_path / "out.etl"
    assert exported(planted, out) == 0
    assert peer_count(out) == 121
    assert analyzer.open(out).events["time"].iloc[1:].tolist() == (
        analyzer.open(planted).events["time"].tolist()
    )


def test_a_trace_is_exported(tmp_path: Path) -> None:
    """A trace file as it is, counted by dissect before and after."""
    path = SAMPLE_TRACES / "traces" / "crash-callbacks.etl"
    out = tmp_path / "out.etl"
    assert exported(path, out) == 0
    assert peer_count(out) == peer_count(path)


def test_one_of_several_sessions_is_chosen_by_name_or_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --session one sentence lists them all, and nothing is written."""
    path, out = shared_sample(TRIAGE.format("arm64")), tmp_path / "out.etl"
    traces = DumpEvents.sessions(collect(str(path))["events"])  # type: ignore[arg-type]
    assert len(traces) > 1
    assert exported(path, out) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert all(f"'{t.session.name}' ({len(t):,} events)" in said for t in traces)
    assert not out.exists()
    for trace in traces:
        for option in (trace.session.name.upper(), str(trace.session.logger_id)):
            assert exported(path, out, "--session", option) == 0
            assert len(Trace.open(str(out))) == len(trace) + 1
    assert exported(path, out, "--session", "no such") == 2
    assert "no session called 'no such'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"),
    [("healthy-x64-kernel.dmp", "there is no ETW session in it"),
     ("MANIFEST.toml", "ETW sessions are in traces"), ("no.dmp", "cannot be read")],
)  # fmt: skip
def test_files_without_a_session_are_refused(
    tmp_path: Path, name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence and exit code 2."""
    assert exported(SAMPLE_TRACES / name, tmp_path / "out.etl") == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1


def test_the_input_is_not_overwritten(planted: Path) -> None:
    """The output may not be the dump itself."""
    before = planted.read_bytes()
    assert exported(planted, planted) == 2
    assert planted.read_bytes() == before


def test_damaged_sessions_are_exported_or_refused_within_bounds(tmp_path: Path) -> None:
    """400 damaged blocks: a small file that we read back, or one of our errors."""
    session = struct.pack("<6I3Q", DUMP_SESSION_SIGNATURE, 5, 0x400, 1, 0x1000, 8, w.FILETIME_2024,
                          w.FILETIME_2024, 1000) + "Acme".encode("utf-16-le") * 2  # fmt: skip
    head = struct.pack("<IIIIQQ", 156250, 19042, 3000, 0, w.FILETIME_2024, 10_000_000)
    events = w.event("8e805eb3-6a8f-4a1e-8f6a-1e4ab35e808e", 7, 1000, bytes(16)) * 3
    end = 0x48 + len(events)
    buffer = struct.pack("<IIIiqqQHHIIHHQQ", 0x1000, end, end, 0, 0, 0, 0, 0, 5, 3, end, 0x20, 0,
                         0, 0) + events  # fmt: skip
    block = head + session + buffer * 3
    (whole,) = saved_sessions(block).traces
    assert len(whole) == 9
    rng, out, told = random.Random(3), tmp_path / "out.etl", hashlib.sha256()
    done = 0
    for _ in range(400):
        bad = bytearray(block)
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(bad) if rng.random() < 0.5 else len(head + session) + 0x48)
            bad[at] = rng.choice((0, 0xFF, rng.randrange(256)))
        for trace in saved_sessions(bytes(bad)).traces:
            told.update(f"{trace.session} {trace.account.notes}".encode())
            try:
                export.write(trace, str(out))
            except AnalyzerError as error:
                told.update(str(error).encode())
                continue
            assert out.stat().st_size < 64 << 20
            told.update(out.read_bytes())
            done += 1
    assert done > 300
    assert told.hexdigest()[:8] == "8b8b1519"  # nothing of it changes unnoticed


@pytest.mark.parametrize("length", [8, 10, 14])
@pytest.mark.parametrize("room", ["twice", "once", "to 8 bytes"])
@pytest.mark.parametrize("follows", ["a buffer", "a session", "nothing"])
def test_how_long_the_name_of_a_saved_session_is(length: int, room: str, follows: str) -> None:
    """Its field is twice the name, the name, or that rounded up: what follows it decides."""
    name = "Acme-Session"[: length // 2].encode("utf-16-le")
    field = {"twice": 2 * length, "once": length, "to 8 bytes": (length + 7) & ~7}[room]
    head = struct.pack("<IIIIQQ", 156250, 19042, 3000, 0, w.FILETIME_2024, 10_000_000)
    session = struct.pack("<6I3Q", DUMP_SESSION_SIGNATURE, 5, 0x400, 1, 0x1000, length,
                          w.FILETIME_2024, w.FILETIME_2024, 1000)  # fmt: skip
    session += name.ljust(field, b"\xcc")
    event = w.event("8e805eb3-6a8f-4a1e-8f6a-1e4ab35e808e", 7, 1000, bytes(16))
    end = 0x48 + len(event)
    buffer = struct.pack("<IIIiqqQHHIIHHQQ", 0x1000, end, end, 0, 0, 0, 0, 0, 5, 3, end, 0x20, 0,
                         0, 0) + event  # fmt: skip
    rest = {"a buffer": buffer, "a session": session + buffer, "nothing": b""}[follows]
    found = saved_sessions(head + session + rest)
    assert [trace.session.name for trace in found.traces] == [name.decode("utf-16-le")] * (
        2 if follows == "a session" else 1
    )
    assert sum(map(len, found.traces)) == (follows != "nothing")
    assert (found.bytes_skipped, found.notes) == (0, ())


def test_a_name_that_is_longer_than_the_block() -> None:
    """8 KB is the most; a block that ends in it holds no session."""
    head = struct.pack("<IIIIQQ", 156250, 19042, 3000, 0, w.FILETIME_2024, 10_000_000)
    for length, room, is_found in ((0x2000, 0x2000, True), (0x2000, 0x1FFF, False),
                                   (0x2002, 0x4000, False)):  # fmt: skip
        session = struct.pack("<6I3Q", DUMP_SESSION_SIGNATURE, 5, 0x400, 1, 0x1000, length,
                              w.FILETIME_2024, w.FILETIME_2024, 1000)  # fmt: skip
        found = saved_sessions(head + session + (b"A\0" * room)[:room])
        assert bool(found.traces) is is_found


def test_the_time_of_a_saved_event() -> None:
    """By the clock of the session that it stands behind."""
    head = struct.pack("<IIIIQQ", 156250, 19042, 3000, 0, w.FILETIME_2024, 10_000_000)
    session = struct.pack("<6I3Q", DUMP_SESSION_SIGNATURE, 5, 0x400, 2, 0x1000, 0,
                          w.FILETIME_2024, w.FILETIME_2024, 1000)  # fmt: skip
    power = "331c3b3a-2005-44c2-ac5e-77220c37d6b4"
    event = w.event(power, 41, w.FILETIME_2024 + 7, struct.pack("<IQQQQIQI", *[0] * 8), version=2)
    (saved,) = judge.saved_events(head + session + bytes(0x48) + event)
    assert saved.raw.time == (w.FILETIME_2024 + 7 - w.EPOCH) * 100
    assert saved.offset == len(head) + len(session) + 0x48
