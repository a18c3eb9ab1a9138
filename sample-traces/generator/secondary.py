"""The tagged secondary data: crashdmp's empty block and storport's log of the last requests.

Invariant: as on real machines, requests run newest first by the later of start and end.
"""

from __future__ import annotations

import struct

from .layouts import guid_bytes
from .machine import SYSTEM_TIME, TICK, Machine

CRASHDMP_TAG = "65755a40-f146-43ea-8c91-36b85728fd35"
STORPORT_TAG = "da82441d-7142-4bc1-b844-0807c5a4b67f"
READ, WRITE, FLUSH_CACHE = 0x28, 0x2A, 0x35


def plan_requests(m: Machine) -> None:
    """20 requests: 17 done, two flushes without a start time, one still in flight."""
    rows, end = [], SYSTEM_TIME
    rows.append(request(WRITE, 0, SYSTEM_TIME - 2 * TICK, 0, 0x20, 0xE1, 0x7010))
    for number in range(17):
        opcode = (READ, WRITE, WRITE, READ, FLUSH_CACHE)[number % 5]
        start = end - (number % 3) * TICK
        rows.append(request(opcode, 0, start, end, 1, 0, 0x8010 + 0x210 * number))
        end -= (1 + number % 4) * TICK
    rows.append(request(0, 0x08, 0, end - TICK, 1, 0, 0x9010))
    rows.append(request(0, 0x07, 0, end - 2 * TICK, 1, 0, 0x9220))
    m.requests = rows


def request(
    opcode: int, function: int, start: int, end: int, status: int, error: int, tag: int
) -> dict:
    """One row of the log."""
    return {
        "opcode": opcode,
        "srb_function": function,
        "start": start,
        "end": end,
        "status": status,
        "error": error,
        "tag": tag,
        "in_flight": end == 0,
    }


def storport_block(m: Machine) -> bytes:
    """DEVICEDUMP_STORAGESTACK_PUBLIC_DUMP, packed; room for 66 records as on real machines."""
    rows = sorted(m.requests, key=lambda r: -max(r["start"], r["end"]))
    m.truth["requests"] = rows
    size = 0x24 + 66 * 0x3C
    data = bytearray(size)
    struct.pack_into("<4sIII16sI", data, 0, b"DSTP", 0x60, size, 0, b"storport.sys", len(rows))
    for number, row in enumerate(rows):
        at = 0x24 + number * 0x3C
        data[at], data[at + 0x10] = row["opcode"], row["srb_function"]
        struct.pack_into(
            "<QQIII",
            data,
            at + 0x20,
            row["start"],
            row["end"],
            row["status"],
            row["error"],
            row["tag"],
        )
    return bytes(data)


def blob(m: Machine) -> bytes:
    """The whole region, or nothing when this machine writes none."""
    m.truth["tags"] = []
    if not m.secondary:
        m.truth["requests"] = []
        return b""
    out = b"DumpBlob" + struct.pack("<II", 0x10, 0xF0000000 | m.build)
    for tag, data in ((CRASHDMP_TAG, b""), (STORPORT_TAG, storport_block(m))):
        pad = -len(data) % 8
        out += struct.pack("<I16sIII", 0x20, guid_bytes(tag), len(data), 0, pad) + data + bytes(pad)
        m.truth["tags"].append({"guid": tag, "size": len(data)})
    return out
