"""What a reader of some file format gives: physical memory, and what stands beside it."""

from __future__ import annotations

from typing import NamedTuple

from .physical import Physical


class MemoryImage(NamedTuple):
    """A machine's memory as a hypervisor or a tool wrote it."""

    kind: str  #: in words: "ELF core of QEMU", "raw physical memory", ...
    physical: Physical
    #: registers of each processor, in the hypervisor's order; empty where the file has none
    processors: list[dict[str, int]]
    header: bytes = b""  #: dump header that a driver in the guest left
