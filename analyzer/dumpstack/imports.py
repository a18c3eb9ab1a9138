"""Which images an image imports, read from its import table in memory.

Invariant: bounded; an image whose headers or import table are not there gives the reason, never an
empty set. Standard library only. Source: the PE/COFF specification (import directory table).
"""

from __future__ import annotations

from ..absence import Absent
from ..names.drivers import stem
from ..records import Module
from ..target import Target

#: drivers import from a handful of images
MAX_IMPORTS = 64
_LONGEST_NAME = 64
#: offset of the import entry of the data directories in the optional header, by its magic
_IMPORT_ENTRY = {0x10B: 0x68, 0x20B: 0x78}
_DESCRIPTOR = 20


def imported(target: Target, module: Module) -> frozenset[str] | Absent:
    """Lower-case base names without extension of the images that ``module`` imports."""
    base = module.base
    if not isinstance(base, int):
        return Absent("not-found", "the base of the image is not known")
    new = target.u32(base + 0x3C)
    if isinstance(new, Absent):
        return new
    head = target.unpack("I20xH", base + new) if new < 0x1000 else Absent("out-of-range")
    if isinstance(head, Absent) or head[0] != 0x4550 or head[1] not in _IMPORT_ENTRY:
        return head if isinstance(head, Absent) else Absent("not-found", "no PE header")
    entry = target.unpack("II", base + new + 24 + _IMPORT_ENTRY[head[1]])
    if isinstance(entry, Absent):
        return entry
    table, size = entry
    if not table or not size:
        return Absent("not-found", "the image has no import table")
    names = set()
    for at in range(base + table, base + table + MAX_IMPORTS * _DESCRIPTOR, _DESCRIPTOR):
        row = target.unpack("12xII", at)
        if isinstance(row, Absent):
            return row
        if row == (0, 0):
            break
        text = _name(target, base + row[0])
        if isinstance(text, Absent):
            return text
        names.add(stem(text))
    return frozenset(names) or Absent("not-found", "the import table is empty or was discarded")


def _name(target: Target, address: int) -> str | Absent:
    """An ASCII string that ends within the length of a file name, also in the last bytes held."""
    raw = b""
    for _, piece in target.chunks(address, _LONGEST_NAME):
        raw = piece
        break
    text, end, _ = raw.partition(b"\0")
    # a driver's import table can lie in pages that were given back after it had started
    if not end or not text.isascii() or not text.lower().endswith((b".sys", b".exe", b".dll")):
        return Absent("not-found", f"no name of an image at {address:#x}")
    return text.decode("ascii")
