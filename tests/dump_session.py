"""A dump file's own reader in the shape of a session, to compare with what engines tell.

Invariant: reads, modules and blocks are those of the reader; nothing is added.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from analyzer.absence import Absent
from analyzer.live.session import Session
from analyzer.records import Module


class DumpSession(Session):
    """Any target that does not run, such as a dump file, in the shape of a session."""

    backend = "dump"
    is_dump = True

    def __init__(self, target: Any) -> None:
        super().__init__()
        self._target = target
        self.path = target.path
        self.pointer_size = target.pointer_size
        self.architecture = target.architecture
        self.build = target.build

    def read(self, address: int, size: int) -> bytes | Absent:
        data: bytes | Absent = self._target.read(address, size)
        return data

    def modules(self) -> Sequence[Module]:
        modules: Sequence[Module] = self._target.modules()
        return modules

    def unloaded(self) -> Sequence[Module]:
        modules: Sequence[Module] = self._target.unloaded()
        return modules

    def regions(self) -> Iterator[tuple[int, int]]:
        yield from ((start, size) for start, _, size in getattr(self._target, "blocks", ()))
