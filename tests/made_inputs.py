"""Inputs of bytes for tests/told: traces, hives and logs, made by writers that are not ours."""

from __future__ import annotations

import struct
from typing import Any, Callable

import etw_writer as w
import evtx_writer
import hive_writer

PROVIDER = "8e805eb3-6a8f-4a1e-8f6a-1e4ab35e808e"
CALLBACKS = "0f41c9b5-7d1e-5a1c-9d0e-6d5a8b1f7c42"
STORPORT = "c4636a1e-7986-4646-bf10-7bc3b4a76e8e"
KERNEL_IO = "abf1f586-2e50-4ba8-928d-49044e6f0db7"
CRASHDUMP = "ecdaacfa-6fe9-477c-b5f0-85b76f8f50aa"
POWER = "331c3b3a-2005-44c2-ac5e-77220c37d6b4"
ERRORS = "2d9f3a42-01d4-4733-97f7-041e8021dc84"
SCHEMAS = "bbccf6c1-6cd1-48c4-80ff-839482e37671"
SID = bytes([1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0])
SECOND = 10_000_000
BASE = 2_000_000


def trace(*buffers: list[bytes], flags: int = 0, **options: Any) -> bytes:
    """One buffer for each list of events, each of another processor; the flags are the last's."""
    writer = w.Writer(**options)
    for k, events in enumerate(buffers):
        writer.add(*events, cpu=k, flags=flags if k == len(buffers) - 1 else 0)
    return writer.build()


# -- kinds of headers, sessions, clocks ------------------------------------------------------------


def headers() -> bytes:
    """Every header kind, in two buffers whose times interleave."""
    t = BASE
    one = [
        w.system(0x0301, t + 10, b"s64", pid=1, tid=2),
        w.system(0x0301, t + 30, b"s32", narrow=True, version=7),
        w.system(0x0502, t + 50, b"c64", compact=True),
        w.system(0x0502, t + 70, b"c32", narrow=True, compact=True),
        w.perfinfo(0x0F2E, t + 90, b"p64", version=5),
        w.perfinfo(0x0F2E, t + 110, b"p32", narrow=True, pmc=2, pebs=True),
        w.perfinfo(0x0F2E, t + 111, b"p3", pmc=7),
        w.message(PROVIDER, 42, t + 120, b"m", options=0xAA),
        w.message(PROVIDER, 43, t + 130, b"mm", options=0xAB),
        w.message(PROVIDER, 44, t + 140, b"mmm", options=0x2C),
        w.message(PROVIDER, 45, t + 150, b"", options=0x02),
        w.message(PROVIDER, 46, t + 150, b"4", options=0x50),
    ]
    two = [
        w.classic(PROVIDER, 10, t + 20, b"f64", version=2, level=3),
        w.classic(PROVIDER, 10, t + 40, b"f32", narrow=True),
        w.instance(PROVIDER, 11, t + 60, b"i64"),
        w.event(PROVIDER, 17, t + 80, b"e64", version=1, opcode=2, level=3, task=9, channel=7,
                keyword=1 << 40, pid=0xFFFFFFFE, tid=77),
        w.event(PROVIDER, 18, t + 100, b"e32", narrow=True, items=((1, bytes(16)), (5, b"abc"))),
        w.event(PROVIDER, 18, t + 101, b""), w.event(PROVIDER, 17, t + 102, b"xy", version=1),
        w.event(PROVIDER, 19, t + 103, b"65", items=((1, b""),) * 65), going_on(t + 104),
    ]  # fmt: skip
    for kind, least in ((0x0B, 0x48), (0x0B, 0x38), (0x15, 0x38)):
        one_more = bytearray(w.instance(PROVIDER, 12, t + 105)[:least] + b"i!" * (least > 0x40))
        struct.pack_into("<HB", one_more, 0, len(one_more), kind)
        two.append(bytes(one_more))
    one += [struct.pack("<HBB", 8, kind, 0xC0) + b"1234" for kind in (12, 13, 14)]
    return trace(one, two)


def going_on(ts: int) -> bytes:
    """An event whose last extended item says that another follows, where seven bytes do."""
    event = bytearray(w.event(PROVIDER, 20, ts, b"1234567", items=((1, b"x"),)))
    struct.pack_into("<H", event, 0x50 + 4, 1)
    return bytes(event)


def narrow() -> bytes:
    """A trace of a 32-bit writer, losses stated, in the modes 1, 2, 0x100 and 0x10000000."""
    events = [w.event(PROVIDER, 1, BASE, narrow=True), w.system(0x030A, BASE + 1, narrow=True)]
    return trace(events, narrow=True, mode=0x10000103, events_lost=1, buffers_lost=2, name="n")


def cycles() -> bytes:
    """A session that counts processor cycles, at 3000 MHz, of which one buffer lost events."""
    events = [[w.event(PROVIDER, 1, 1_000_000 + 3 * k)] for k in (1, 100, 1_000_000)]
    return trace(*events, clock=3, flags=2)


def system_time() -> bytes:
    """A session of system time; times before 1970 and after 2262 are none."""
    times = (w.FILETIME_2024, w.EPOCH - 1, w.EPOCH, w.EPOCH + (2**63 - 1) // 100,
             w.EPOCH + (2**63 - 1) // 100 + 1)  # fmt: skip
    return trace([w.event(PROVIDER, 1, t) for t in times], clock=2, first_ts=w.FILETIME_2024)


def no_clock() -> bytes:
    """A performance counter without a frequency, and a session that was never closed."""
    return trace([w.event(PROVIDER, 1, BASE)], frequency=0, finalise=False)


# -- kernel events ---------------------------------------------------------------------------------

_P = struct.pack("<QIIIi", 0x1111, 2, 3, 4, -0x3FFFFFFB)
_NAMES = b"a.exe\0"
_COMMAND = w.utf16("a.exe -b")
_IMAGE = struct.pack("<QQI", 0x1111, 0x2222, 3)
_WRITE = struct.pack("<IIIIQQQQ", 0, 0x60043, 4096, 9, 0x1000, 1, 2, 50)
_THREAD = struct.pack("<II8Q", 1, 2, *range(3, 11))[: 8 + 56]
KERNEL = [
    (3, 1, 0, struct.pack("<QQ", 1, 2) + bytes(8) + _NAMES),
    (3, 2, 1, _P + bytes(16) + SID + _NAMES),
    (3, 3, 2, _P + bytes(16) + SID + _NAMES + _COMMAND),
    (3, 4, 3, _P + struct.pack("<Q", 5) + bytes(16) + SID + _NAMES + _COMMAND),
    (3, 39, 4, _P + struct.pack("<QI", 5, 6) + bytes(8) + _NAMES + _COMMAND + w.utf16("p")
     + w.utf16("q")),
    (3, 1, 5, b"?"), (3, 5, 3, b"?"),
    (3, 10, 0, struct.pack("<QI", 1, 2) + w.utf16("a")), (0x14, 10, 1, _IMAGE + w.utf16("a")),
    (0x14, 2, 2, _IMAGE + struct.pack("<IIIQIIII", 4, 5, 6, 7, 8, 9, 10, 11) + w.utf16("a")),
    (0x14, 3, 3, _IMAGE + struct.pack("<IIBBHQIIII", 4, 5, 6, 1, 2, 7, 8, 9, 10, 11)
     + w.utf16("a")),
    (0x14, 33, 2, struct.pack("<Q", 0x1234)), (0x14, 4, 4, b"?"), (0x14, 5, 2, b"?"),
    (5, 1, 2, _THREAD + struct.pack("<QI", 10, 11)),
    (5, 2, 3, _THREAD + struct.pack("<QIBBBB", 10, 11, 1, 2, 3, 4) + w.utf16("t")),
    (5, 3, 4, b"?"), (5, 36, 2, b"?"),
    (1, 10, 2, _WRITE), (1, 11, 3, _WRITE + b"\4\0\0\0"), (1, 10, 4, b"?"), (1, 16, 2, b"?"),
    (1, 14, 2, struct.pack("<IIQQ", 0, 1, 2, 3)), (1, 14, 3, struct.pack("<IIQQI", 0, 1, 2, 3, 4)),
    (1, 12, 2, bytes(8)), (1, 13, 3, bytes(12)), (1, 15, 2, bytes(8)), (1, 15, 3, bytes(12)),
    (0x18, 0x20, 0, struct.pack("<QII", 9, 4, 8) + struct.pack("<QQ", 0xFFFFF80000001234, 0x7FF0)),
    (0x18, 0x20, 0, struct.pack("<QII", 9, 4, 8) + bytes(7)),
    (0x18, 0x20, 0, struct.pack("<QII", 9, 4, 8) + struct.pack("<33Q", *range(33))),
    (0x18, 0x21, 0, b"?"),
    (0, 0x40, 0, bytes(range(16)) + struct.pack("<I", 7) + b"a.pdb\0"), (0, 0x42, 0, b"lab\0"),
    (0, 5, 0, b""), (0, 8, 0, b""), (0, 0x20, 0, b""), (0, 0x43, 0, b"?"), (0, 0x50, 0, b"??"),
    (0, 1, 0, b""), (2, 10, 0, b""), (4, 1, 0, b""), (6, 1, 0, b""), (8, 1, 0, b""),
    (9, 1, 0, b""), (0x0B, 1, 0, b""), (0x0F, 1, 0, b""), (0x11, 1, 0, b""), (0x12, 1, 0, b""),
    (0x1B, 1, 0, b""), (7, 1, 0, b""), (0x0A, 255, 0, b"x"), (0xFF, 1, 0, b""),
]  # fmt: skip
CLASSES = (
    "68fdd900-4a3e-11d1-84f4-0000f80464e3 3d6fa8d4-fe05-11d0-9dda-00c04fd7ba7c "
    "3d6fa8d3-fe05-11d0-9dda-00c04fd7ba7c 3d6fa8d0-fe05-11d0-9dda-00c04fd7ba7c "
    "90cbdc39-4a3e-11d1-84f4-0000f80464e3 3d6fa8d1-fe05-11d0-9dda-00c04fd7ba7c "
    "9a280ac0-c8e0-11d1-84e2-00c04fb998a2 bf3a50c5-a9c9-4988-a005-2df0b7c80f80 "
    "ae53722e-c863-11d2-8659-00c04fa321a1 01853a65-418f-4f36-aefc-dc0f1d2fd235 "
    "ce1dbfb4-137e-4da6-87b0-3f59aa102cbc 89497f50-effe-4440-8cf2-ce6b1cdcaca7 "
    "e43445e0-0903-48c3-b878-ff0fccebdd04 2cb15d1d-5fc1-11d2-abe1-00a0c911f518 "
    "def2fe46-7bd6-4b80-bd94-f57fe20d0ce3 d837ca92-12b9-44a5-ad6a-3a65b3578aa8"
).split()
IMAGE_ID = "b3e675d7-2554-4f18-830b-2762732560de"


def kernel() -> bytes:
    """Kernel events of every version that MSDN has, and some that it has not."""
    events = [
        w.system(group << 8 | opcode, BASE + k, data, version=version)
        for k, (group, opcode, version, data) in enumerate(KERNEL)
    ]
    return trace(events, buffer_size=65536)


def classes() -> bytes:
    """The same classes by their GUIDs, image ids, and payloads of the other pointer width."""
    events = [w.classic(guid, 2, BASE + k, b"?") for k, guid in enumerate(CLASSES)]
    ids = [
        (0, struct.pack("<QQII", 1, 2, 3, 4) + w.utf16("a")),
        (0x24, struct.pack("<QI", 1, 2) + bytes(range(16)) + struct.pack("<I", 3) + b"a.pdb\0"),
        (0x40, struct.pack("<II", 1, 2) + b"".join(w.utf16(c) for c in "abcdefghij")),
        (1, b"?"),
    ]
    events += [w.classic(IMAGE_ID, opcode, BASE + 50 + k, d) for k, (opcode, d) in enumerate(ids)]
    events += [
        w.system(0x0301, BASE + 60, struct.pack("<IIIIi", 9, 2, 3, 4, 5) + bytes(8) + SID + _NAMES
                 + _COMMAND),
        w.system(0x0301, BASE + 61, _P + bytes(16) + SID + _NAMES + _COMMAND, narrow=True),
        w.system(0x0302, BASE + 62, _P + bytes(16) + SID + _NAMES + _COMMAND + b"!"),
        w.classic(PROVIDER, 5, BASE + 63, b"xyz"), w.classic(SCHEMAS, 0x20, BASE + 64, b"x"),
        w.classic(SCHEMAS, 0x21, BASE + 65, b"x"),
    ]  # fmt: skip
    return trace(events, buffer_size=65536)


# -- schemas that the trace carries ----------------------------------------------------------------


class Blob:
    """A TRACE_EVENT_INFO or EVENT_MAP_INFO (tdh.h): a head, then the texts that it points at."""

    def __init__(self, head: int) -> None:
        self.head, self.tail = head, b""

    def text(self, words: str) -> int:
        """Where a text stands."""
        if not words:
            return 0
        at = self.head + len(self.tail)
        self.tail += w.utf16(words)
        return at


def info(
    number: int, fields: list[tuple[Any, ...]], *, source: int = 0, top: int = 0, version: int = 0,
    opcode: int = 0, event_guid: str = PROVIDER, message: str = "",
) -> bytes:  # fmt: skip
    """Fields: name, flags, in-type or first member, out-type or members, map, count, length."""
    blob = Blob(0x70 + 24 * len(fields))
    names = [blob.text(words) for words in ("Embedded", "", "", "", "Task", "Op ", message)]
    rows = b""
    for name, flags, one, two, label, count, length in fields:
        rows += struct.pack("<IIHHIHHI", flags, blob.text(name), one, two, blob.text(label), count,
                            length, 0)  # fmt: skip
    head = w.guid(PROVIDER) + w.guid(event_guid)
    head += struct.pack("<HBBBBHQ", number, version, 0, 4, opcode, 0, 0)
    head += struct.pack("<I", source) + struct.pack("<12I", *names, 0, 0, 0, 0, 0)
    head += struct.pack("<III", len(fields), top or len(fields), 0)
    assert len(head) == 0x70
    return head + rows + blob.tail


def mapping(name: str, flag: int, entries: dict[int, str]) -> bytes:
    """A map of values or of bits."""
    blob = Blob(16 + 8 * len(entries))
    at = blob.text(name)
    rows = b"".join(struct.pack("<II", blob.text(text), value) for value, text in entries.items())
    return w.guid(PROVIDER) + struct.pack("<4I", at, flag, len(entries), 0) + rows + blob.tail


FIELDS = [
    ("Count", 0, 6, 0, "", 1, 0), ("Kind", 0, 4, 0, "Kinds", 1, 0),
    ("Bits", 0, 8, 0, "Bits", 1, 0), ("Status", 0, 8, 31, "", 1, 0),
    ("Two", 0, 6, 0, "", 2, 0), ("One", 0x20, 6, 16, "", 1, 0), ("Many", 4, 6, 22, "", 0, 0),
    ("Text", 0, 1, 0, "", 1, 3), ("Blob", 2, 14, 0, "", 1, 0), ("", 0, 4, 0, "None", 1, 5),
    ("Pair", 1, 11, 2, "", 1, 0), ("A", 0, 4, 0, "", 1, 0), ("B", 0, 2, 35, "", 1, 0),
]  # fmt: skip
VALUES = (
    struct.pack("<HBIIHHHHH", 2, 1, 5, 0xC0000034, 7, 8, 9, 0x5000, 0x5100)
    + "abc".encode("utf-16-le") + b"\xca\xfe" + b"\6" + b"\x0c" + "é\0".encode()
)  # fmt: skip


def embedded() -> bytes:
    """Schemas and maps in the trace; events that they fit, are short, or are damaged."""
    maps = [mapping("Kinds", 1, {1: "crash", 2: "other"}), mapping("Bits", 2, {1: "r", 4: "w"})]
    schemas = [
        info(7, FIELDS, top=11), info(8, FIELDS[:1], message="counted %1", version=3),
        info(0, FIELDS[:1], source=1, opcode=9, event_guid=CLASSES[0].replace("68", "69")),
        info(9, FIELDS[:1], top=2), info(10, FIELDS[:1])[:0x6F], b"",
    ]  # fmt: skip
    cut = bytearray(info(11, FIELDS[:1]))
    struct.pack_into("<I", cut, 0x64, 99)
    told = [w.classic(SCHEMAS, 0x21, BASE + k, d) for k, d in enumerate(maps)]
    told += [
        w.classic(SCHEMAS, 0x20, BASE + 9 + k, d) for k, d in enumerate([*schemas, bytes(cut)])
    ]
    events = [
        w.event(PROVIDER, 7, BASE + 20, VALUES), w.event(PROVIDER, 7, BASE + 21, VALUES[:9]),
        w.event(PROVIDER, 8, BASE + 22, b"\5\0", version=3), w.event(PROVIDER, 8, BASE + 23, b"\5"),
        w.event(PROVIDER, 9, BASE + 24, b"\5\0"), w.event(PROVIDER, 11, BASE + 25, b"\5\0"),
        w.classic(CLASSES[0].replace("68", "69"), 9, BASE + 26, b"\3\0"),
        w.event(PROVIDER, 7, BASE + 27, VALUES + b"!"),
    ]  # fmt: skip
    return trace(told, events, buffer_size=16384)


def tracelogging() -> bytes:
    """Events that describe themselves, with each way to count and to show."""
    plain = w.tracelogging("Plain", [
        ("a", b"\x84\x04"), ("a", b"\x04"), ("s", b"\x88\x0e"), ("w", b"\x88\x0d"),
        ("p", b"\x86\x07"), ("u", b"\x82\x23"), ("t", b"\x8a\x10"), ("tag", b"\x88\x8e\x81\x01"),
        ("three", b"\x26\x03\x01"), ("n", b"\x48"), ("custom", b"\x63\x02\x00zz"),
        ("g", b"\x0f"), ("nest", b"\x98\x02"), ("x", b"\x04"), ("in", b"\x98\x01"), ("y", b"\x04"),
        ("last", b"\x04"),
    ])  # fmt: skip
    data = struct.pack("<BBIIH", 255, 1, 0xC0000034, 5, 0xBB01) + "é\0".encode()
    data += struct.pack("<QI", w.FILETIME_2024, 0) + struct.pack("<H", 7) * 0x103
    data += struct.pack("<HII", 2, 70, 80) + b"\2\0xy" + bytes(range(16)) + b"\1\2\3"
    small = w.tracelogging("Small", [("a", b"\x04")])
    return trace([
        w.event(PROVIDER, 0, BASE, data, items=(w.traits("My.Provider"), plain)),
        w.event(PROVIDER, 0, BASE + 1, data[:-1], items=(plain,)),
        w.event(PROVIDER, 0, BASE + 2, b"\5", items=(small, (1, bytes(16)))),
        w.event(PROVIDER, 0, BASE + 3, b"\6", items=((1, b"\7" * 16), small)),
        w.event(PROVIDER, 0, BASE + 4, b"\6\7", items=(small,)),
        w.event(PROVIDER, 0, BASE + 5, b"\6\7", items=((11, b"\x20\0\0Name\0field"),)),
        w.event(PROVIDER, 0, BASE + 6, b"\6", items=((11, small[1][:-1] + b"\x04\0\0"),)),
    ], buffer_size=16384)  # fmt: skip


# -- calls of callbacks ----------------------------------------------------------------------------


def entry(ts: int, *, callback: int = 1, call: int = 1, clock: int | None = None, tid: int = 8,
          name: str = "dump_acme.sys", frequency: int = SECOND) -> bytes:  # fmt: skip
    """The published entry event."""
    data = w.utf16(name) + struct.pack("<BIQQQ", callback, call, 0xFFFF800000001000,
                                       ts if clock is None else clock, frequency)  # fmt: skip
    return w.event(CALLBACKS, 1, ts, data, opcode=1, tid=tid)


def back(ts: int, status: int = 0, *, callback: int = 1, call: int = 1, clock: int | None = None,
         tid: int = 8, name: str = "dump_acme.sys", frequency: int = SECOND) -> bytes:  # fmt: skip
    """The published return event."""
    data = w.utf16(name) + struct.pack("<BIIQQ", callback, call, status,
                                       ts if clock is None else clock, frequency)  # fmt: skip
    return w.event(CALLBACKS, 2, ts, data, opcode=2, tid=tid)


def calls() -> bytes:
    """All six callbacks, of 1 s and more, one inside another, backwards, and halves."""
    t, events = BASE, []
    for number in range(1, 8):
        events += [
            entry(t, callback=number, call=number),
            back(t + 5, callback=number, call=number),
        ]
        t += 10
    events += [
        entry(t, call=20), back(t + SECOND, call=20), entry(t, call=21, tid=9),
        back(t + SECOND + 1, 0xC00000A3, call=21, tid=9), entry(t + 2, call=22, callback=2),
        entry(t + 3, call=23, callback=2), back(t + 4, call=23, callback=2),
        back(t + 5, call=22, callback=2), entry(t + 6, call=24, clock=9000),
        back(t + 7, call=24, clock=8999), entry(t + 8, call=25, clock=9000, frequency=0),
        back(t + 9, call=25, clock=9010, frequency=1000), back(t + 10, call=30, name="b.sys"),
        entry(t + 11, call=31, name=""), entry(t + 12, call=32, clock=5, frequency=0),
        back(t + 14, call=32, clock=9, frequency=0),
    ]  # fmt: skip
    return trace(sorted(events, key=w.ts_of), buffer_size=16384)


def calls_and_losses() -> bytes:
    """Events were lost while one call was under way, and around a half of one."""
    begun = [entry(BASE, call=1), entry(BASE + 5, call=2, callback=2)]
    ended = [back(BASE + 100, call=1), back(BASE + 90, call=9, callback=3)]
    return trace(begun, ended, flags=2)


# -- what providers say ----------------------------------------------------------------------------


def io_error(source: str, code: int, location: int, status: int, strings: list[str]) -> bytes:
    """Payload of a classic entry of the I/O error log."""
    packet = bytes(0x0C) + struct.pack("<III", code, location, status) + bytes(0x10)
    name = w.utf16(source)
    return (
        struct.pack("<QIH", w.FILETIME_2024, code, len(name) // 2) + name + struct.pack("<H", 0)
        + struct.pack("<H", len(strings)) + b"".join(map(w.utf16, strings))
        + struct.pack("<I", len(packet)) + packet
    )  # fmt: skip


def requests() -> bytes:
    """Disk and StorPort requests just below and at a second, good and bad ones."""

    def storport(ts: int, duration: int, status: int, **options: Any) -> bytes:
        data = struct.pack("<QQBBQ", duration, 1, 0x28, status, 2)
        data += struct.pack("<BBBBBIQQ", 0, 0, 0, 0, 0, 4096, 1, 1)
        return w.event(STORPORT, 200, ts, data, version=2, **options)

    def disk(ts: int, hook: int, took: int) -> bytes:
        flush = struct.pack("<IIQQ", 0, 0, took, 1)
        move = struct.pack("<IIIIQQQQ", 0, 0, 4096, 0, 0, 1, 2, took)
        return w.perfinfo(hook, ts, flush if hook == 0x010E else move, version=2)

    t = BASE + 10 * SECOND
    events = [
        storport(t + k, took, status)
        for k, (took, status) in enumerate(
            [(SECOND - 1, 1), (SECOND, 1), (5, 0), (5, 1), (5, 2), (5, 0x40), (5, 0x81), (5, 0x3F)]
        )
    ]
    events += [storport(t + 20, 5, 1, level=1), storport(t + 21, 5, 4, level=3)]
    events += [storport(t + 22, 5, 1, level=4), storport(t + 23, 5, 1, level=0)]
    events += [w.event(STORPORT, number, t + 24 + k, struct.pack("<QQB", took, 1, 0x28), version=2)
               for k, (number, took) in enumerate(((200, SECOND), (201, SECOND), (202, SECOND),
                                                   (200, SECOND - 1)))]  # fmt: skip
    events += [
        disk(t + 30 + 2 * k + late, hook, SECOND - 1 + late)
        for k, hook in enumerate((0x010A, 0x010B, 0x010E, 0x010C))
        for late in (0, 1)
    ]
    events += [
        w.perfinfo(0x010A, t + 50, struct.pack("<IIIIQIIQ", 0, 0, 4096, 0, 0, 1, 2, 3 * SECOND),
                   version=2, narrow=True, pmc=1),
        w.system(0x010B, t + 51, struct.pack("<IIIIQQQQ", 0, 0, 1, 0, 0, 1, 2, 2 * SECOND),
                 compact=True),
    ]  # fmt: skip
    return trace(events, buffer_size=16384)


def crashes() -> bytes:
    """Loading the dump stack, the dump file and earlier crashes, at their limits."""
    t = BASE
    five = 5 * SECOND

    def made(ms: int) -> bytes:
        return struct.pack("<IQQQ", 1, 1 << 34, 1 << 33, ms)

    def dirty(code: int) -> bytes:
        return struct.pack("<IQQQQIQI", code, 1, 2, 3, 4, 0, 0, 0)

    events = [
        w.event(KERNEL_IO, 1304, t, tid=1), w.event(KERNEL_IO, 1304, t + 1, tid=2),
        w.event(KERNEL_IO, 1304, t + 2, tid=3), w.event(KERNEL_IO, 1305, t + 3, bytes(4), tid=4),
        w.event(KERNEL_IO, 1305, t + five, bytes(4), tid=1),
        w.event(KERNEL_IO, 1305, t + 2 + five, struct.pack("<I", 0xC0000034), tid=2),
        w.event(CRASHDUMP, 3, t + 2 * five, made(10_000), version=1),
        w.event(CRASHDUMP, 3, t + 2 * five + 1, made(10_001), version=1),
        w.event(CRASHDUMP, 3, t + 2 * five + 2, made(0)[:9], version=1),
        w.event(CRASHDUMP, 3, t + 2 * five + 3, made(2_500_000), version=1),
        w.event(KERNEL_IO, 1304, t + 2 * five + 4, tid=9),
        w.event(KERNEL_IO, 1305, t + 2 * five + 2000 * SECOND, bytes(4), tid=9),
        w.event(POWER, 41, t + 3 * five, dirty(0x7E), version=2),
        w.event(POWER, 41, t + 3 * five + 1, dirty(0), version=2),
    ]  # fmt: skip
    return trace(events, buffer_size=16384)


def late() -> bytes:
    """Four megabytes of other events, of two kinds, before the first that is of the dump path."""
    buffers = [[w.event(PROVIDER, 1, BASE + k)] for k in range(70)]
    buffers[40].append(w.perfinfo(0x0F2E, BASE + 40))
    return trace(*buffers, [w.event(KERNEL_IO, 1304, BASE + 100)], buffer_size=65536)


def storage() -> bytes:
    """Errors of storage drivers before and after an unexpected restart."""
    minute = 60 * SECOND
    dirty = struct.pack("<IQQQQIQI", 0, 0, 0, 0, 0, 0, 0, 0)

    def disk(ts: int, code: int = 0xC0040007, source: str = "disk") -> bytes:
        data = io_error(source, code, 0, 0xC000009C, ["\\Device\\Harddisk0\\DR0"])
        return w.event(ERRORS, 0, ts, data, prop=4)

    t = BASE + 100 * minute
    return trace([
        disk(t - 10 * minute - 1), disk(t - 10 * minute), disk(t - 1, 0x80040033),
        w.event(POWER, 41, t, dirty, version=2), disk(t + 1), disk(t + 2),
        disk(t + 3, 0x4004000B), w.event(ERRORS, 0, t + 4, b"short", prop=4),
        disk(t + 5, 0xC004002D, "volmgr"), disk(t + 6, 0x80040081, "storahci"),
    ], buffer_size=16384)  # fmt: skip


# -- damage ----------------------------------------------------------------------------------------


def plain(buffers: int = 5, events: int = 3, **options: Any) -> bytearray:
    """A sound trace of some buffers."""
    rows = [
        [w.event(PROVIDER, i, BASE + 1000 * k + i, b"payload " * (i % 5)) for i in range(events)]
        for k in range(buffers)
    ]
    return bytearray(trace(*rows, **options))


def damaged(*changes: tuple[int, str, int], **options: Any) -> Callable[[], bytes]:
    """A trace of which words were changed: (offset, struct code, value)."""

    def make() -> bytes:
        raw = plain(**options)
        for at, code, value in changes:
            struct.pack_into("<" + code, raw, at, value)
        return bytes(raw)

    return make


def cut(at: int, skip: int = 0, **options: Any) -> Callable[[], bytes]:
    """The bytes of a trace from ``skip`` to ``at``."""
    return lambda: bytes(plain(**options)[skip:at])


def repeated() -> bytes:
    """A buffer that stands twice and a number that is missing, in a session that lost buffers."""
    raw = plain(buffers_lost=3)
    struct.pack_into("<q", raw, 4 * 8192 + 0x18, 40)
    return bytes(raw[: 3 * 8192] + raw[2 * 8192 :])


def appended() -> bytes:
    """Two sessions in one file, of which the second has a clock of its own."""
    later = w.Writer(start_time=w.FILETIME_2024 + 20_000_000, first_ts=1_000_000)
    much_later = w.Writer(start_time=w.FILETIME_2024 + 20_000_001, first_ts=1_000_000)
    return bytes(plain(buffers=1)) + later.build() + much_later.build()


# -- other kinds -----------------------------------------------------------------------------------


def evtx_event(number: int, minute: int) -> tuple[int, Any]:
    """One event of volmgr."""
    time = f"2026-03-01T10:{minute:02d}:00.000Z"
    system = [
        ("Provider", {"Name": "volmgr"}, ""), ("EventID", {}, str(number)), ("Level", {}, "2"),
        ("TimeCreated", {"SystemTime": time}, ""), ("EventRecordID", {}, str(minute + 1)),
        ("Channel", {}, "System"),
    ]  # fmt: skip
    return (1772359200 + 60 * minute) * 10**9, ("Event", {}, [("System", {}, system)])


def evtx(*changes: tuple[int, str, int], end: int | None = None) -> Callable[[], bytes]:
    """Two chunks of three events each, with some words changed, cut at an end."""

    def make() -> bytes:
        one = evtx_writer.build([evtx_event(162, k) for k in range(3)])
        two = evtx_writer.build([evtx_event(161 + k % 2, k) for k in range(3, 6)], first=4)
        raw = bytearray(one + two[0x1000:])
        raw[:0x1000] = two[:0x1000]
        struct.pack_into("<H", raw, 0x2A, 2)
        for at, code, value in changes:
            struct.pack_into("<" + code, raw, at, value)
        return bytes(raw[:end])

    return make


def evtx_gap() -> bytes:
    """Two chunks between which records are missing, the second of them twice."""
    one = evtx_writer.build([evtx_event(162, k) for k in range(2)])
    two = evtx_writer.build([evtx_event(162, k) for k in range(9, 11)], first=10)[0x1000:]
    return one + two + two


def hive(*, current: int = 2, begun: int = 1) -> Callable[[], bytes]:
    """A SYSTEM hive with two control sets, services and page files."""

    def make() -> bytes:
        control = {
            "CrashDumpEnabled": 7, "DumpFile": r"@%SystemRoot%\MEMORY.DMP", "EnableLogFile": 1,
            "DumpFilters": ["dumpfve.sys", "acme.sys", "kmdf.sys"], "Blob": bytes(range(9)),
            "Long": bytes(300), "Text": "plain",
        }  # fmt: skip
        services: dict[str, Any] = {
            "other": {"ImagePath": r"@\SystemRoot\System32\drivers\ACME.sys", "Start": 4,
                      "Type": 1, "Group": "x"},
            "kmdf": {"ImagePath": "kmdf.sys", "Start": 0, "Type": 1, "Parameters": {"Wdf": {}}},
        }  # fmt: skip
        memory = {"PagingFiles": [r"C:\pagefile.sys 16 32"], "Other": 1}
        used = {
            "Control": {"CrashControl": control, "Session Manager": {"Memory Management": memory}},
            "Services": services,
        }
        other = {"Control": {"CrashControl": {"CrashDumpEnabled": 3}}, "Services": {}}
        tree = {"ControlSet001": other, "ControlSet002": used, "Select": {"Current": current}}
        raw = bytearray(hive_writer.write(tree))
        struct.pack_into("<II", raw, 4, begun, 1)
        return bytes(raw)

    return make


BUFFER = 8192
MADE: dict[str, Callable[[], bytes]] = {
    "headers.etl": headers, "narrow.etl": narrow, "cycles.etl": cycles,
    "system-time.etl": system_time, "no-clock.etl": no_clock, "kernel.etl": kernel,
    "classes.etl": classes, "embedded.etl": embedded, "tracelogging.etl": tracelogging,
    "calls.etl": calls, "calls-and-losses.etl": calls_and_losses, "requests.etl": requests,
    "crashes.etl": crashes, "late.etl": late, "storage.etl": storage, "repeated.etl": repeated,
    "appended.etl": appended,
    "sound.etl": damaged(), "zeroed-header.etl": damaged((2 * BUFFER, "Q", 0)),
    "size.etl": damaged((2 * BUFFER, "I", 0x12345)),
    "size-and-offset.etl": damaged((2 * BUFFER, "I", 0x12345), (2 * BUFFER + 4, "I", 0x2001)),
    "event-size-0.etl": damaged((2 * BUFFER + 0x48, "H", 0)),
    "event-size-large.etl": damaged((2 * BUFFER + 0x48 + 0x50, "H", 0x4000)),
    "last-event.etl": damaged((2 * BUFFER + 0x48 + 0x50 + 0x58, "Q", 0xABCDEF)),
    "empty-that-is-not.etl": damaged((2 * BUFFER + 4, "I", 0x48), (2 * BUFFER + 0x30, "I", 0x48)),
    "saved-short.etl": damaged((2 * BUFFER + 4, "I", 0)),
    "logger.etl": damaged((2 * BUFFER + 0x2A, "H", 9)),
    "kind-15.etl": damaged((2 * BUFFER + 0x36, "H", 15)),
    "kind-16.etl": damaged((2 * BUFFER + 0x36, "H", 16)),
    "flags.etl": damaged((2 * BUFFER + 0x34, "H", 0x120)),
    "old-processors.etl": damaged(indexed_cpu=False), "vista.etl": damaged(vista=True),
    "cut-in-header.etl": cut(3 * BUFFER + 0x40), "cut-in-buffer.etl": cut(3 * BUFFER + 0xC0),
    "cut-whole.etl": cut(4 * BUFFER), "headless.etl": cut(6 * BUFFER, BUFFER),
    "xpress.etl": damaged(compression=3), "lznt1.etl": damaged(compression=2),
    "huffman.etl": damaged(compression=4),
    "xpress-cut.etl": damaged((BUFFER + 0x48 + 40, "Q", 0), compression=3),
    "huffman-headless.etl": cut(1 << 20, BUFFER, compression=4),
    "whole.evtx": evtx(), "cut.evtx": evtx(end=0x11600), "cut-record.evtx": evtx(end=0x11210),
    "one-chunk.evtx": evtx(end=0x11000), "no-chunk.evtx": evtx((0x1000, "Q", 1)),
    "record.evtx": evtx((0x1200, "I", 0)), "numbers.evtx": evtx((0x1010, "Q", 9)),
    "next.evtx": evtx((0x18, "Q", 20)), "gap.evtx": evtx_gap,
    "SYSTEM": hive(), "SYSTEM-behind": hive(begun=2), "SYSTEM-first": hive(current=1),
    "SYSTEM-none": hive(current=9),
}  # fmt: skip
