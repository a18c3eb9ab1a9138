"""The physical memory of a snapshot, however its file stores it.

Invariant: ``read`` gives exactly the bytes asked for or an ``Absent``; its private memory does not
grow with the machine's.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..absence import Absent
from ..files import Bytes, FileBytes
from ..target import PAGE

Ints = npt.NDArray[np.int64]
#: pages of which one range may be handed out at once
PIECE = 1 << 22
#: no machine has memory above this; also keeps sums within 64 bits
HIGHEST = 1 << 52
_OVERLAPPING = 64  #: runs that are tried for one address


class Run(NamedTuple):
    """Neighbouring physical bytes that lie unchanged in the file."""

    start: int
    offset: int
    size: int


class Physical:
    """Physical memory by address. ``end``: behind the highest byte."""

    end = 0

    def read(self, address: int, size: int) -> bytes | Absent:
        """``size`` bytes at a physical address, or why they are not there."""
        raise NotImplementedError

    def offset(self, address: int) -> int | None:
        """Where in the file a byte lies; None where it does not lie there unchanged."""
        return None

    def mapped(self, address: int) -> int | None:
        """Physical address of a virtual one, where the file itself tells it."""
        return None

    def pieces(self, first: int, last: int) -> Iterator[tuple[int, Bytes]]:
        """What is there of a physical range, in address order: (address, bytes)."""
        for at in range(first & -PAGE, min(last, self.end), PAGE):
            data = self.read(at, PAGE)
            if not isinstance(data, Absent):
                yield at, data


class Paged(Physical):
    """Memory of which each page is got on its own: decompressed, or asked for."""

    def read(self, address: int, size: int) -> bytes | Absent:
        parts = []
        while size > 0:
            skip = address & (PAGE - 1)
            step = min(PAGE - skip, size)
            page = self._page(address >> 12)
            if isinstance(page, Absent):
                return page
            parts.append(page[skip : skip + step])
            address, size = address + step, size - step
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _page(self, frame: int) -> bytes | Absent:
        """One whole page, or why it is not there."""
        raise NotImplementedError


class Ranges(Physical):
    """Memory in runs of a file, as in ELF cores and raw images.

    ``runs`` has rows (physical start, file offset, size in the file); ``translated`` has rows
    (virtual start, physical start, size) where the file says how addresses are translated.
    """

    def __init__(self, data: FileBytes, runs: Ints, translated: Ints | None = None) -> None:
        self.data = data
        runs = runs[np.argsort(runs[:, 0], kind="stable")]
        self._start, self._offset, self._size = (array("q", c.tobytes()) for c in runs.T)
        # Runs may repeat (one for each address that a page is mapped at) or overlap: then the one
        # that starts last need not reach far enough, an earlier one may.
        self._reach = array("q", np.maximum.accumulate(runs[:, 0] + runs[:, 2]).tobytes())
        self.end = self._reach[-1] if len(runs) else 0
        if translated is None:
            translated = np.zeros((0, 3), np.int64)
        translated = translated[np.argsort(translated[:, 0].view(np.uint64), kind="stable")]
        self._virtual = array("Q", translated[:, 0].tobytes())
        self._physical, self._length = (array("q", c.tobytes()) for c in translated[:, 1:].T)

    def _run(self, address: int) -> Run | None:
        at = bisect_right(self._start, address) - 1
        for place in range(at, max(at - _OVERLAPPING, -1), -1):
            start, size = self._start[place], self._size[place]
            if address < start + size:
                return Run(start, self._offset[place], size)
            if self._reach[place] <= address:
                break
        return None

    def read(self, address: int, size: int) -> bytes | Absent:
        parts = []
        while size > 0:
            run = self._run(address)
            if run is None:
                return Absent("not-in-dump", f"physical address {address:#x} is not in the file")
            skip = address - run.start
            step = min(size, run.size - skip)
            piece = self.data[run.offset + skip : run.offset + skip + step]
            if len(piece) < step:
                return Absent("file-cut", f"the file ends before physical address {address:#x}")
            parts.append(piece)
            address, size = address + step, size - step
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def offset(self, address: int) -> int | None:
        run = self._run(address)
        if run is None:
            return None
        at = run.offset + address - run.start
        return at if at < len(self.data) else None

    def mapped(self, address: int) -> int | None:
        if not len(self._virtual):
            return None
        place = bisect_right(self._virtual, address) - 1
        if place < 0:
            return None
        skip = address - self._virtual[place]
        return self._physical[place] + skip if skip < self._length[place] else None

    def pieces(self, first: int, last: int) -> Iterator[tuple[int, Bytes]]:
        for start, offset, size in zip(self._start, self._offset, self._size):
            low, high = max(first, start), min(last, start + size, start + len(self.data) - offset)
            for at in range(low, high, PIECE):
                here = offset + at - start
                yield at, self.data.view(here, min(PIECE, high - at))


def ranges(data: FileBytes, runs: list[Run]) -> Ranges:
    """Memory in a few runs."""
    return Ranges(data, np.array(runs, np.int64).reshape(-1, 3))
