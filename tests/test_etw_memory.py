"""ETW sessions in kernel memory: found by content, ring walked, times and names where known."""

from __future__ import annotations

import hashlib
import random
import struct
from typing import Any

import etw_writer as w
import pytest

from analyzer.absence import Absent
from analyzer.etw.events import EventTable
from analyzer.etw.memory import sessions
from analyzer.target import PAGE, Target

PROVIDER = "8e805eb3-6a8f-4a1e-8f6a-1e4ab35e808e"
POOL = 0xFFFFA10000000000
CONTEXT = 0xFFFFA20000000000


class Memory(Target):
    """A machine whose memory is a dictionary of pages."""

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = {}
        self.path = "memory"
        self.build = 19042

    def put(self, address: int, data: bytes) -> None:
        """Writes across pages."""
        for k, byte in enumerate(data):
            page, at = divmod(address + k, PAGE)
            self.pages.setdefault(page, bytearray(PAGE))[at] = byte

    def read(self, address: int, size: int) -> bytes | Absent:
        """All or nothing."""
        out = bytearray()
        while size:
            page, at = divmod(address, PAGE)
            if page not in self.pages:
                return Absent("not-in-dump")
            part = self.pages[page][at : at + size]
            out += part
            address, size = address + len(part), size - len(part)
        return bytes(out)

    def runs(self) -> list[tuple[int, bytes]]:
        """All pages, each a run of its own."""
        return [(page * PAGE, bytes(data)) for page, data in sorted(self.pages.items())]


def machine(buffers: int = 4, distance: int = 0x60, logger: int = 5) -> Memory:
    """A session of ``buffers`` buffers, whose GlobalList is ``distance`` into its context."""
    memory = Memory()
    head = CONTEXT + distance
    where = [POOL + k * 0x10000 for k in range(buffers)]
    links = [head, *(address + 0x38 for address in where)]
    for k, address in enumerate(where):
        events = [w.event(PROVIDER, 10 * k + i, w.FILETIME_2024 + 100 * i + k, bytes(i * 90))
                  for i in range(30)]  # fmt: skip
        body = b"".join(e + bytes(-len(e) % 8) for e in events)
        end = 0x48 + len(body)
        assert 4 * PAGE < end < 0x10000
        state = k % 2  # free buffers hold delivered events and count too
        following, before = links[(k + 2) % len(links)], links[k]
        memory.put(
            address,
            struct.pack(
                "<IIIiqqQHHIIHHQQ",
                0x10000,
                end,
                end,
                0,
                0,
                k,
                0,
                k,
                logger,
                state,
                end,
                0x20,
                0,
                following,
                before,
            )
            + body,
        )
    memory.put(CONTEXT, struct.pack("<IIII", logger, 0x10000, 0, 0x80000000) + bytes(0x3F0))
    memory.put(head, struct.pack("<QQ", links[1], links[-1]))
    name = "Acme-Session".encode("utf-16-le")
    memory.put(
        CONTEXT + distance + 0x38,
        struct.pack("<HHIQ", len(name), len(name) + 2, 0, CONTEXT + 0x800),
    )
    memory.put(CONTEXT + 0x800, name)
    if distance == 0x60:
        memory.put(CONTEXT + 0xD8, struct.pack("<I", 2))
        memory.put(CONTEXT + 0x140, struct.pack("<QQ", w.FILETIME_2024, 0))
        memory.put(CONTEXT + 0x328, struct.pack("<Q", w.FILETIME_2024))
    memory.put(0xFFFFF78000000300, struct.pack("<Q", 10_000_000))
    return memory


def test_a_session_is_found_by_content_with_name_clock_and_all_buffers() -> None:
    """All buffers of the ring, free ones too, in time order, each row with its address."""
    memory = machine()
    (trace,) = sessions(memory, memory.runs())
    assert trace.session.name == "Acme-Session"
    assert trace.session.mode == 0x80000000
    assert len(trace) == 120
    rows = list(EventTable([trace]).rows())
    assert [row.time for row in rows[:5]] == [
        (w.FILETIME_2024 + t - w.EPOCH) * 100 for t in (0, 1, 2, 3, 100)
    ]
    assert {row.processor for row in rows} == {0, 1, 2, 3}
    first = memory.read(rows[7].origin.address, 4)  # type: ignore[arg-type]
    assert isinstance(first, bytes)
    assert first[2:] == b"\x13\xc0"
    assert rows[7].origin.file_offset is None
    frame = EventTable([trace]).frame(text=False)
    assert frame["at_address"].tolist() == [row.origin.address for row in rows]
    assert frame["file_offset"].isna().all()


def test_an_unknown_context_layout_gives_events_without_times() -> None:
    """Another distance of the list: name and mode are found by content, times are not guessed."""
    memory = machine(distance=0x88)
    (trace,) = sessions(memory, memory.runs())
    assert trace.session.name == "Acme-Session"
    assert len(trace) == 120
    assert isinstance(next(iter(EventTable([trace]))).time, Absent)


def test_a_missing_page_costs_the_rest_of_that_buffer() -> None:
    """A buffer whose third page is not in the dump keeps its first two, and it is noted."""
    memory = machine()
    runs = memory.runs()
    del memory.pages[(POOL + 2 * PAGE) // PAGE]
    (trace,) = sessions(memory, runs)
    assert 90 < len(trace) < 120
    assert any("missing" in note.text for note in trace.account.notes)


def test_a_ring_that_does_not_close_is_no_session() -> None:
    """A torn list gives nothing rather than half a session."""
    memory = machine()
    memory.put(POOL + 0x10000 + 0x38, struct.pack("<Q", 0xFFFFDEAD00000000))
    assert list(sessions(memory, memory.runs())) == []


def test_random_memory_has_no_sessions_and_ends() -> None:
    """Pages of noise and of lying headers end quickly without an exception."""
    rng = random.Random(5)
    memory = machine()
    for page in list(memory.pages):
        for _ in range(12):
            memory.pages[page][rng.randrange(0x60)] = rng.randrange(256)
    memory.pages.update({(POOL >> 12) + 9999 + k: bytearray(rng.randbytes(PAGE))
                         for k in range(50)})  # fmt: skip
    for trace in sessions(memory, memory.runs()):
        sum(1 for _ in EventTable([trace]).rows())


def test_damage_to_a_session_is_told_as_before() -> None:
    """Words of headers, links and context changed in 120 ways; a digest of what is found then."""
    rng, whole = random.Random(9), hashlib.sha256()
    words = [page * PAGE + at for page in machine().pages for at in range(0, 0x48, 4)]
    words += [CONTEXT + at for at in (0xD8, 0x98, 0x9C, 0xA0, 0x140, 0x328, 0x800)]
    for distance in (0x60, 0x88):
        pages = machine(distance=distance).pages
        for _ in range(60):
            memory = Memory()
            memory.pages = {page: bytearray(data) for page, data in pages.items()}
            for _ in range(rng.randrange(1, 3)):
                at = words[rng.randrange(len(words))]
                (old,) = struct.unpack("<I", memory.read(at, 4))  # type: ignore[arg-type]
                values = (0, 1, 0xFFFFFFFF, old + 1, old - 1, old + 8, old ^ 1 << rng.randrange(32))
                memory.put(at, struct.pack("<I", values[rng.randrange(7)] & 0xFFFFFFFF))
            for trace in sessions(memory, memory.runs()):
                rows = [(row.time, row.processor, row.origin) for row in EventTable([trace]).rows()]
                told = f"{trace.session} {len(trace)} {trace.account.notes} {rows}"
                whole.update(told.encode())
            whole.update(b".")
    assert whole.hexdigest()[:8] == "76cb3ab2"


@pytest.mark.parametrize(
    ("at", "code", "value", "is_found"),
    [
        (0x04, "I", 0x10000, True), (0x04, "I", 0x10001, False),  # saved, of a size of 0x10000
        (0x08, "I", 0x48, True), (0x08, "I", 0x47, False),  # behind the header
        (0x2C, "I", 4, True), (0x2C, "I", 5, False),  # states
        (0x30, "I", 0x10000, True), (0x30, "I", 0x10001, False),
        (0x34, "H", 0xA0, True), (0x34, "H", 0x120, False),  # flags
        (0x36, "H", 8, True), (0x36, "H", 9, False),  # kinds
        (0x00, "I", 0x10400, True), (0x00, "I", 0x10200, False),  # sizes are whole kilobytes
        (0x00, "I", 0x800, False),
    ],
)  # fmt: skip
def test_what_a_buffer_must_hold(at: int, code: str, value: int, is_found: bool) -> None:
    """Each field of the headers at its limit and one beyond."""
    memory = machine(buffers=2)
    for k in range(2):
        memory.put(POOL + k * 0x10000 + at, struct.pack(f"<{code}", value))
    assert bool(list(sessions(memory, memory.runs()))) is is_found


HERE, START = CONTEXT + 0x800, w.FILETIME_2024


@pytest.mark.parametrize(
    ("patches", "frequency", "name", "clock"),
    [
        ({}, None, "Acme-Session", (2, 10_000_000)),
        ({0xD8: ("I", 1)}, None, "Acme-Session", (1, 10_000_000)),
        ({0xD8: ("I", 1)}, 3_000_000, "Acme-Session", (1, 3_000_000)),
        ({0xD8: ("I", 0)}, None, "Acme-Session", (0, 0)),
        ({0xD8: ("I", 4)}, None, "Acme-Session", (0, 0)),
        # from 2000 to 2234
        ({0x328: ("Q", 125_911_584_000_000_000)}, None, "Acme-Session", (0, 0)),
        ({0x328: ("Q", 125_911_584_000_000_001)}, None, "Acme-Session", (2, 10_000_000)),
        ({0x328: ("Q", 199_999_999_999_999_999)}, None, "Acme-Session", (2, 10_000_000)),
        ({0x328: ("Q", 200_000_000_000_000_000)}, None, "Acme-Session", (0, 0)),
        # a UNICODE_STRING: length, room, address
        ({0x98: ("HHIQ", 2, 2, 0, HERE)}, None, "A", (2, 10_000_000)),
        ({0x98: ("HHIQ", 1, 2, 0, HERE)}, None, "logger 5", (2, 10_000_000)),
        ({0x98: ("HHIQ", 0, 2, 0, HERE)}, None, "logger 5", (2, 10_000_000)),
        ({0x98: ("HHIQ", 3, 4, 0, HERE)}, None, "logger 5", (2, 10_000_000)),
        ({0x98: ("HHIQ", 4, 2, 0, HERE)}, None, "logger 5", (2, 10_000_000)),
        ({0x98: ("HHIQ", 4, 0x800, 0, HERE)}, None, "Ac", (2, 10_000_000)),
        ({0x98: ("HHIQ", 4, 0x801, 0, HERE)}, None, "logger 5", (2, 10_000_000)),
        ({0x98: ("HHIQ", 4, 4, 1, HERE)}, None, "logger 5", (2, 10_000_000)),
        ({0x98: ("HHIQ", 4, 4, 0, 0xFFFF7FFFFFFFF000)}, None, "logger 5", (2, 10_000_000)),
        ({0x98: ("HHIQ", 26, 26, 0, HERE)}, None, "logger 5", (2, 10_000_000)),  # a NUL in it
    ],
)
def test_what_the_context_tells(patches: Any, frequency: Any, name: str, clock: Any) -> None:
    """Name and clock of the session, and when neither is believed."""
    memory = machine(buffers=2)
    for at, (code, *values) in patches.items():
        memory.put(CONTEXT + at, struct.pack(f"<{code}", *values))
    (trace,) = sessions(memory, memory.runs(), frequency)
    assert trace.session.name == name
    assert (trace.clock.kind, trace.clock.frequency) == clock
    start = patches.get(0x328, ("Q", START))[1]
    is_sane = 125_911_584_000_000_000 < start < 200_000_000_000_000_000
    assert trace.session.start_time == (start if is_sane else 0)
    assert trace.session.mode == 0x80000000


def test_without_the_frequency_of_the_counter() -> None:
    """Then times by the counter are not known; a machine of 32 bits is not searched."""
    memory = machine(buffers=2)
    memory.put(CONTEXT + 0xD8, struct.pack("<I", 1))
    del memory.pages[0xFFFFF78000000300 // PAGE]
    (trace,) = sessions(memory, memory.runs())
    assert (trace.clock.kind, trace.clock.known) == (1, False)
    memory.pointer_size = 4
    assert list(sessions(memory, memory.runs())) == []
