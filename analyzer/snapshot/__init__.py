"""Memory snapshots of virtual machines and raw memory, taken from outside of Windows.

Invariant: Windows is found by content, without symbols and without a dump header; a snapshot is
never taken for a crash dump. Memory is read page by page as it is asked for.
"""

from __future__ import annotations

from ..dumpfile.header import MachineFile
from ..errors import UnsupportedError
from .image import MemoryImage
from .machine import Snapshot
from .raw import Progress

__all__ = ["Snapshot", "is_memory_without_header", "open_snapshot"]


def open_snapshot(path: str, progress: Progress | None = None) -> Snapshot:
    """Opens a snapshot file; UnsupportedError or InputError when no Windows is found in it."""
    file = MachineFile(path)
    file.load(64, "a memory snapshot")
    return Snapshot(file, _image(file), progress)


def is_memory_without_header(path: str) -> bool:
    """True for raw memory that proves to be Windows', or that VMware's state file lies beside."""
    from . import raw, vmware

    file = MachineFile(path)
    file.load(raw.LEAST, "memory")
    return vmware.state_beside(path) is not None or raw.is_memory(file.data)


def _image(file: MachineFile) -> MemoryImage:
    from . import elf, kdump, raw, vmware

    head = file.data[:64]
    if elf.is_core(head):
        return elf.open_elf(file)
    if kdump.is_kdump(head):
        return kdump.open_kdump(file)
    if vmware.is_state(head):
        return vmware.open_state(file)
    state = vmware.state_beside(file.path)
    if state is not None:
        return vmware.open_memory(file, state)
    if raw.is_memory(file.data):
        return raw.open_raw(file)
    problem = "this is not a memory snapshot of a known kind"
    raise UnsupportedError(file.path, problem, found=head[:8].hex(" "))
