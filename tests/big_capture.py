"""A capture as large as wanted, by our own writer: the facts that ``live/watch.py`` tells.

Three filters on two processors: Dump_Start now and then, with the bytes of its FILTER_EXTENSION,
else Dump_Write; some calls fail, some never return. What a call
takes and returns is said by the functions at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from test_capture_file import START, extension_bytes, node_bytes

from analyzer.sources import capture_format

FILTERS = ("dump_dumpfve.sys", "dump_acmeflt.sys", "dump_x.sys")
BASES = (0xFFFFF80020000000, 0xFFFFF80020100000, 0xFFFFF80020200000)
NODES = (0xFFFFC08BE4002110, 0xFFFFC08BE4003110, 0xFFFFC08BE4004110)
HZ = 2_994_375_000
START_EVERY, FAIL_EVERY, LOSE_EVERY = 5_000, 1_009, 20_011
FAILURE = 0xC0000185  # STATUS_IO_DEVICE_ERROR


def facts(calls: int) -> Iterator[dict[str, Any]]:
    """The whole session, end included."""
    hexa = capture_format.hexadecimal
    yield capture_format.header("0.1.0", "pykd", "com:port=com1", START)
    yield {
        "fact": "machine", "build": 19041, "host": START, "architecture": "x64",
        "pointer_size": 8, "processors": 2,
    }  # fmt: skip
    for name, base in zip(FILTERS, BASES):
        yield {
            "fact": "module", "name": name, "base": hexa(base), "size": 0x10000,
            "stamp": "0x5f000000", "checksum": "0x0", "loaded": True,
        }  # fmt: skip
    for place, (base, node) in enumerate(zip(BASES, NODES)):
        yield {
            "fact": "node", "address": hexa(node), "layout": "win8",
            "bytes": node_bytes(base).hex(), "stack": "crash", "index": place,
            "head": "0xfffff80010002000", "count": len(FILTERS), "how": "list walk",
        }  # fmt: skip
    ident = 0
    for name, base in zip(FILTERS, BASES):
        for callback, offset in (("Dump_Start", 0x1000), ("Dump_Write", 0x1040)):
            ident += 1
            yield {
                "fact": "armed", "id": ident, "filter": name, "stack": "crash",
                "callback": callback, "routine": hexa(base + offset),
            }  # fmt: skip
    yield {"fact": "clock", "hz": HZ, "how": "given"}
    for sample in range(16):
        yield {
            "fact": "calibration", "at": "0xfffff80010001234", "cpu": 0, "tsc": "0x1000",
            "tsc2": hexa(0x1000 + 60_000 + sample * 1_000), "host": START,
            "host2": START + 25_000,
        }  # fmt: skip
    tsc, host, returned = 0x1B_0000_0000, START, 0
    for number in range(calls):
        place = number % len(FILTERS)
        is_start = number % START_EVERY < len(FILTERS)
        extension = extension_bytes(0, 0) if is_start else b""
        fact: dict[str, Any] = {
            "fact": "call", "n": number, "id": 2 * place + (1 if is_start else 2),
            "cpu": number // 7 % 2, "extension": hexa(NODES[place] + 0x40),
            "back": "0xfffff80010001234", "sp": hexa(0xFFFFF8001AC5B428 - 0x1000 * (number % 4)),
        }  # fmt: skip
        if is_start:
            fact["ext"] = extension.hex()
        else:
            fact["offset"] = hexa(number * 0x10000)
        fact["tsc"], fact["host"] = hexa(tsc), host
        yield fact
        tsc, host = tsc + ticks(number), host + ticks(number) // 3
        if is_lost(number):
            why = "a later call uses its place on the stack"
            yield {"fact": "lost", "n": number, "why": why}
            continue
        returned += 1
        yield {
            "fact": "return", "n": number, "cpu": number // 7 % 2, "status": hexa(status(number)),
            "tsc": hexa(tsc), "host": host,
        }  # fmt: skip
        tsc, host = tsc + 300_000, host + 100_000
    yield {"fact": "end", "reason": "the time limit was reached", "calls": calls,
           "returned": returned}  # fmt: skip


def ticks(number: int) -> int:
    """Ticks between the two stops of a call, the debugger's own included."""
    return 80_000 + number * 7_919 % 1_000_003


def status(number: int) -> int:
    """What a call returns."""
    return FAILURE if number % FAIL_EVERY == FAIL_EVERY - 1 else 0


def is_lost(number: int) -> bool:
    """True for a call that never returns."""
    return number % LOSE_EVERY == LOSE_EVERY - 1


def write(path: str, calls: int) -> str:
    """Writes the capture as the debugger does; a line a call of the writer."""
    return write_facts(path, facts(calls))


def write_facts(path: str, lines: Iterable[dict[str, Any]]) -> str:
    """Writes some facts."""
    writer = capture_format.Writer(path)
    for fact in lines:
        writer(fact)
    writer.close()
    assert writer.problem == ""
    return path
