"""Writes the small ETW trace and the captures that the notebooks read, always the same.

``traces/crash-callbacks.etl``: two filters that trace their callbacks, as in
docs/dumpstart-callbacks.man, while a dump is written; the second one fails a write.
``captures/run-NN.jsonl``: the same machine captured twelve times in a debugger; from run 9 on the
driver of the second filter is a new one, whose Dump_Start takes four times as long.

``python sample-traces/generator_traces.py`` writes them; ``--check`` only compares.
"""

from __future__ import annotations

import argparse
import json
import random
import struct
import sys
import uuid
from pathlib import Path

FOLDER = Path(__file__).parent
PROVIDER = uuid.UUID("0f41c9b5-7d1e-5a1c-9d0e-6d5a8b1f7c42").bytes_le  # dumpstart-callbacks.man
HZ = 10_000_000
FIRST = 1_000_000  # time stamp of the header event
START = 134_170_000_300_000_000  # FILETIME of it, in March 2026
BUFFER = 16384
STATUS_IO_DEVICE_ERROR = 0xC0000185
START_NS = (START - 116_444_736_000_000_000) * 100


def utf16(text: str) -> bytes:
    """A NUL-terminated UTF-16 string."""
    return text.encode("utf-16-le") + b"\0\0"


# ---------------------------------------------------------------- ETW


def event(ident: int, stamp: int, thread: int, data: bytes) -> bytes:
    """EVENT_HEADER of 64 bits (evntcons.h) and its payload."""
    size = 0x50 + len(data)
    head = struct.pack("<HBBHHIIq", size, 0x13, 0xC0, 0, 0, thread, 4, stamp) + PROVIDER
    head += struct.pack("<HBBBBHQ", ident, 0, 0, 4, ident, 0, 0) + bytes(24)
    return (head + data).ljust((size + 7) & ~7, b"\xff")


def buffer(events: list[bytes], cpu: int, number: int, kind: int, stamp: int) -> bytes:
    """WMI_BUFFER_HEADER (evntrace.h, ntwmi.h) with 64-bit processor index, and the events."""
    body = b"".join(events)
    end = 0x48 + len(body)
    head = struct.pack(
        "<IIIiqqQHHIIHH", BUFFER, end, 0, 0, stamp, number, 0, cpu, 7, 3, end, 0x20, kind
    )
    return (head + bytes(16) + body).ljust(BUFFER, b"\xff")


def header_event(buffers: int) -> bytes:
    """TRACE_LOGFILE_HEADER in a system event; the clock is the performance counter."""
    body = struct.pack(
        "<IBBBBIIqIIIIIIII", BUFFER, 10, 0, 1, 5, 19041, 2, START + 600_000_000, 156250, 0, 1,
        buffers, 1, 8, 0, 3000,
    )  # fmt: skip
    body += bytes(16) + bytes(0xB0)
    body += struct.pack("<qqqII", START - 10**9, HZ, START, 1, 0)
    body += utf16("dump filters") + utf16("C:\\dump.etl")
    head = struct.pack("<HBBHHIIq", 2, 2, 0xC0, 0x20 + len(body), 0, 8, 4, FIRST) + bytes(8)
    return (head + body).ljust((len(head + body) + 7) & ~7, b"\xff")


def trace() -> bytes:
    """The whole .etl."""
    rnd, now, number = random.Random(20), FIRST + HZ // 2, 0
    per_cpu: dict[int, list[bytes]] = {0: [], 1: []}

    def call(name: str, callback: int, ticks: int, status: int, cpu: int) -> None:
        nonlocal now, number
        number += 1
        common = utf16(name) + struct.pack("<BI", callback, number)
        entry = common + struct.pack("<QQQ", 0xFFFFC08BE4002150, now, HZ)
        back = common + struct.pack("<IQQ", status, now + ticks, HZ)
        per_cpu[cpu] += [event(1, now, 8 + cpu, entry), event(2, now + ticks, 8 + cpu, back)]
        now += ticks + 40

    filters = ("dumpfve.sys", "acmeflt.sys")
    for name, ticks in zip(filters, (9_000, 31_000)):
        call(name, 1, ticks, 0, 0)
    for write in range(40):
        now += 30_000 + int(rnd.random() * 4_000)
        for name, ticks in zip(filters, (300, 900)):
            slow = 90_000 if (name, write) == ("acmeflt.sys", 27) else 0
            status = STATUS_IO_DEVICE_ERROR if slow else 0
            call(name, 2, int(ticks * (0.8 + 0.4 * rnd.random())) + slow, status, write % 2)
    for name, ticks in zip(filters, (2_000, 5_000)):
        call(name, 3, ticks, 0, 0)
    parts = [(cpu, events) for cpu, events in per_cpu.items() if events]
    out = buffer([header_event(1 + len(parts))], 0, 0, 4, FIRST)
    for place, (cpu, events) in enumerate(parts):
        out += buffer(events, cpu, place + 1, 0, now)
    return out


# ---------------------------------------------------------------- captures


def capture(run: int) -> bytes:
    """One session of the debugger, a fact a line."""
    rnd = random.Random(run)
    filters = (
        (("dump_dumpfve.sys", 0xFFFFF80620140000, 0x5E2A0001), 1),
        (
            ("dump_acmeflt.sys", 0xFFFFF80620160000, 0x5E2A0002 + (run >= 9)),
            4 if run >= 9 else 1,
        ),
    )
    begin = START_NS + run * 86_400 * 10**9
    facts: list[dict[str, object]] = [
        {"dumpstart": "capture", "schema": 1, "version": "0.1.0", "backend": "kd",
         "target": "com:pipe,port=\\\\.\\pipe\\test", "started": begin},
        {"fact": "machine", "build": 19041, "architecture": "x64", "pointer_size": 8,
         "processors": 2},
    ]  # fmt: skip
    names = ("Dump_Start", "Dump_Write", "Dump_Finish")
    breakpoints: list[tuple[int, int, float]] = []
    for (name, base, stamp), factor in filters:
        facts.append(
            {"fact": "module", "name": name, "base": hex(base), "size": 0x9000, "stamp": stamp}
        )
        for place, callback in enumerate(names):
            ident = len(breakpoints) + 1
            usual = (2_500_000, 70_000, 900_000)[place] * (factor if place == 0 else 1)
            breakpoints.append((ident, place, usual))
            facts.append(
                {"fact": "armed", "id": ident, "filter": name, "stack": "crash",
                 "callback": callback, "routine": hex(base + 0x1000 + 0x40 * place)}
            )  # fmt: skip
    facts.append({"fact": "clock", "hz": 3_000_000_000, "how": "given"})
    facts += [
        {"fact": "calibration", "tsc": "0x1000", "tsc2": hex(0x1000 + cost)}
        for cost in (2_000, 2_600, 3_900)
    ]
    clock, number = 1 << 40, 0
    for place in (0, *[1] * 12, 2):
        for ident, own, usual in breakpoints:
            if own != place:
                continue
            ticks = int(usual * 3 * (0.85 + 0.3 * rnd.random())) + 3_000
            host = begin + (clock - (1 << 40)) // 3
            facts.append(
                {"fact": "call", "n": number, "id": ident, "cpu": 0, "tsc": hex(clock),
                 "host": host, "extension": hex(0xFFFFC08BE4002150)}
            )  # fmt: skip
            facts.append(
                {"fact": "return", "n": number, "cpu": 0, "tsc": hex(clock + ticks),
                 "host": host + ticks // 3, "status": "0x0"}
            )  # fmt: skip
            clock, number = clock + ticks + 60_000, number + 1
    facts.append({"fact": "end", "reason": "the time is up"})
    lines = (json.dumps(fact, separators=(",", ":")) for fact in facts)
    return "".join(line + "\n" for line in lines).encode()


def make() -> dict[str, bytes]:
    """Every file by its path in this folder."""
    made = {"traces/crash-callbacks.etl": trace()}
    made.update({f"captures/run-{run:02}.jsonl": capture(run) for run in range(1, 13)})
    return made


def main() -> int:
    """Writes or compares; 1 when a file differs."""
    parser = argparse.ArgumentParser(description="Makes the sample trace and captures.")
    parser.add_argument("--check", action="store_true", help="compare only")
    check, different = parser.parse_args().check, 0
    for name, content in make().items():
        path = FOLDER / name
        if not path.exists() or path.read_bytes() != content:
            different += 1
            print(("differs: " if check else "written: ") + name)
            if not check:
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
    return int(check and different > 0)


if __name__ == "__main__":
    sys.exit(main())
