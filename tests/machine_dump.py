"""The simulated machine written as a full kernel dump, so that the command can read it.

Header fields: mindumpdef.h, as in the package's generator; nothing here interprets memory.
"""

from __future__ import annotations

import struct
from pathlib import Path

from kd.kernel import PAGE
from kd.machine import Machine

BUGCHECK = 0xE2


def write(machine: Machine, path: Path) -> Path:
    """Writes all of the machine's memory, with the registers that it has now as crash context."""
    nt = machine.nt
    head = bytearray(b"PAGE" * 0x800)
    struct.pack_into("<4sII", head, 4, b"DU64", 15, 19041)
    struct.pack_into("<QQQQ", head, 0x10, PAGE, 0, nt.address("PsLoadedModuleList"), 0)
    struct.pack_into("<III", head, 0x30, 0x8664, machine.scenario.processors, BUGCHECK)
    struct.pack_into("<4Q", head, 0x40, 0, 0, 0, 0)
    struct.pack_into("<Q", head, 0x80, nt.address("KdDebuggerDataBlock"))
    struct.pack_into("<I4xQQQ", head, 0x88, 1, machine.last_page, 1, machine.last_page)
    record = machine.context()
    head[0x348 : 0x348 + len(record)] = record
    struct.pack_into("<I", head, 0xF98, 1)
    size = 0x2000 + machine.last_page * PAGE
    struct.pack_into("<QQ", head, 0xFA0, size, 0x01D6DF00_3A2F0000)
    struct.pack_into("<Q", head, 0x1030, 600_000_000)
    struct.pack_into("<IIIIII", head, 0x1038, 0, 0, 1, 0x110, 0, 0)
    with path.open("wb") as file:
        file.write(head)
        for page in range(1, machine.last_page + 1):
            data = machine.read_physical(page * PAGE, PAGE)
            file.write(data.ljust(PAGE, b"\0"))
    return path
