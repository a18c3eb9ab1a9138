"""Memory snapshots of virtual machines and raw memory, taken from outside of Windows.

Invariant: Windows is found by content, without symbols and without a dump header; a snapshot is
never taken for a crash dump. Memory is read page by page as it is asked for.
"""

from __future__ import annotations

from ..dumpfile.header import MachineFile
from ..errors import UnsupportedError
from .machine import Snapshot

__all__ = ["Snapshot", "open_snapshot"]


def open_snapshot(path: str) -> Snapshot:
    """Opens a snapshot file; UnsupportedError or InputError when no Windows is found in it."""
    from . import elf, raw

    file = MachineFile(path)
    file.load(64, "a memory snapshot")
    head = file.data[:64]
    if elf.is_core(head):
        return Snapshot(file, elf.open_elf(file))
    if raw.is_memory(file.data):
        return Snapshot(file, raw.open_raw(file))
    raise UnsupportedError(
        path, "this is not a memory snapshot of a known kind", found=head[:8].hex(" ")
    )
