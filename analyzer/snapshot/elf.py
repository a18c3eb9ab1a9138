"""ELF cores of a whole machine, as QEMU, libvirt and VirtualBox write them.

Invariant: an ELF core of one process is refused by name; a program header that the file cannot hold
is left out. Whatever the number of segments, they are read as one array.

Sources: ELF-64 object file format; QEMU dump/dump.c; VirtualBox DBGFCoreWrite.cpp.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..dumpfile.header import MachineFile
from ..errors import InputError, UnsupportedError
from . import notes
from .image import MemoryImage
from .physical import HIGHEST, Ranges

MAGIC = b"\x7fELF"
_CORE, _X64, _NOTE, _LOAD = 4, 62, 4, 1
_SEGMENT = np.dtype(
    [
        ("kind", "<u4"),
        ("flags", "<u4"),
        ("offset", "<u8"),
        ("virtual", "<u8"),
        ("physical", "<u8"),
        ("file_size", "<u8"),
        ("memory_size", "<u8"),
        ("align", "<u8"),
    ]
)
_MANY = 0xFFFF  # the real number is then in section 0
#: notes of 2,048 processors are 2 MB
_MOST_NOTES = 1 << 24
_KERNEL_HALF = np.uint64(1 << 47)
_OTHER = "take the snapshot with dump-guest-memory, virsh dump --memory-only or debugvm dumpvmcore"
_KERNEL_DUMP = "open the kernel dump instead"
_MACHINES = {3: "x86", 40: "ARM", 183: "ARM64"}


def is_core(head: bytes) -> bool:
    """True for the first bytes of an ELF core."""
    return head[:4] == MAGIC and int.from_bytes(head[16:18], "little") == _CORE


def open_elf(file: MachineFile) -> MemoryImage:
    """The memory and the processors of an ELF core."""
    data = file.data
    if len(data) < 64:
        raise InputError(
            file.path, "the file ends inside its ELF header", found=f"{len(data)} bytes"
        )
    (machine,) = data.unpack("<H", 18)
    if data[4:6] != b"\2\1" or machine != _X64:
        name = _MACHINES.get(machine, f"ELF machine {machine}")
        problem = (
            f"this is an ELF core of a machine that is not read: {name}, {32 * data[4:5][0]} bits"
        )
        raise UnsupportedError(file.path, problem, expected="x64, 64 bits", advice=_KERNEL_DUMP)
    segments = _segments(file)
    found = notes.Notes([], "", b"")
    for row in segments[segments["kind"] == _NOTE]:
        offset, size = int(row["offset"]), min(int(row["file_size"]), _MOST_NOTES)
        found = notes.read(data[offset : offset + size])
    if not found.writer:
        problem = "this is an ELF core without the notes of a hypervisor (of one process?)"
        raise UnsupportedError(file.path, problem, advice=_OTHER)
    loads = segments[(segments["kind"] == _LOAD) & (segments["file_size"] > 0)]
    limit = np.uint64(HIGHEST)
    possible = (
        (loads["physical"] < limit) & (loads["file_size"] < limit) & (loads["offset"] < limit)
    )
    if not possible.all():
        file.note(
            "snapshot-damaged", f"{int((~possible).sum()):,} segments cannot be and are left out"
        )
        loads = loads[possible]
    runs = np.stack([loads[n].astype(np.int64) for n in ("physical", "offset", "file_size")], 1)
    end = int((runs[:, 1] + runs[:, 2]).max()) if len(runs) else 0
    if end > file.size:
        text = f"the file should reach to {end:,} bytes, but is {file.size:,} bytes long"
        file.note("snapshot-damaged", text, offset=file.size)
    paged = loads[loads["virtual"] >= _KERNEL_HALF]
    translated = np.stack(
        [
            paged["virtual"].view(np.int64),
            paged["physical"].astype(np.int64),
            paged["memory_size"].clip(max=limit).astype(np.int64),
        ],
        1,
    )
    kind = f"ELF core of {found.writer}" + (" with paging" if len(paged) else "")
    return MemoryImage(kind, Ranges(data, runs, translated), found.processors, found.header)


def _segments(file: MachineFile) -> npt.NDArray[np.void]:
    (table,) = file.data.unpack("<Q", 32)
    step, count = file.data.unpack("<HH", 54)
    if count == _MANY:
        (section,) = file.data.unpack("<Q", 40)
        if section + 0x30 <= file.size:
            (count,) = file.data.unpack("<I", section + 0x2C)
    if step != _SEGMENT.itemsize or table > file.size:
        raise InputError(file.path, "its program headers cannot be", offset=54)
    room = (file.size - table) // step
    if count > room:
        file.note("snapshot-damaged", f"of {count:,} program headers the file holds {room:,}")
    count = min(count, room)
    return np.frombuffer(file.data.view(table, count * step), _SEGMENT, count)
