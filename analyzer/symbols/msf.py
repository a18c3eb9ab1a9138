"""The container of a PDB: numbered streams made of blocks (MSF 7.00).

Invariant: any bytes give streams or ValueError; no stream is longer than the file. Source: LLVM's
"The PDB File Format".
"""

from __future__ import annotations

import struct

from ..files import FileBytes

MAGIC = b"Microsoft C/C++ MSF 7.00\r\n\x1aDS\0\0\0"
_OLD = b"Microsoft C/C++ program database 2.00"
_COMPRESSED = b"Microsoft MSFZ"
MAX_STREAMS = 1 << 20
NO_STREAM = 0xFFFF
_BLOCK_SIZES = (512, 1024, 2048, 4096, 8192, 16384, 32768)


class Streams:
    """The streams of a file; each is joined when it is asked for."""

    def __init__(self, data: FileBytes | bytes) -> None:
        """``data``: the file's bytes. Raises ValueError for anything but MSF 7.00."""
        start = data[:56]
        if start.startswith(_COMPRESSED):
            raise ValueError("it is a compressed PDB (MSFZ), which is not read")
        if start.startswith(_OLD):
            raise ValueError("it is a PDB of the old format 2.00, which is not read")
        if len(start) < 56 or not start.startswith(MAGIC):
            raise ValueError("it is not a PDB")
        self._data, self._limit = data, len(data)
        block, _, _, size, _, place = struct.unpack_from("<6I", start, 32)
        self._block: int = block
        if block not in _BLOCK_SIZES:
            raise ValueError(f"its block size of {block} bytes is impossible")
        if size > self._limit:
            raise ValueError("its directory is longer than the file")
        blocks = self._numbers(data, place * block, self._blocks(size))
        self._directory = self._join(blocks, size)
        if size < 4:
            raise ValueError("its directory is empty")
        (count,) = struct.unpack_from("<I", self._directory)
        if count > MAX_STREAMS or 4 + 4 * count > size:
            raise ValueError("its directory is damaged")
        sizes = struct.unpack_from(f"<{count}I", self._directory, 4)
        self.sizes = [0 if n == 0xFFFFFFFF else n for n in sizes]
        self._starts, at = [], 4 + 4 * count
        for length in self.sizes:
            self._starts.append(at)
            at += 4 * self._blocks(length)

    def __getitem__(self, number: int) -> bytes:
        """The bytes of a stream; empty when there is none of that number."""
        if number == NO_STREAM or not 0 <= number < len(self.sizes):
            return b""
        size = self.sizes[number]
        if size > self._limit:
            raise ValueError(f"stream {number} states more bytes than the file has")
        count = self._blocks(size)
        return self._join(self._numbers(self._directory, self._starts[number], count), size)

    def _blocks(self, size: int) -> int:
        return -(-size // self._block)

    @staticmethod
    def _numbers(data: FileBytes | bytes, at: int, count: int) -> tuple[int, ...]:
        if at + 4 * count > len(data):
            raise ValueError("a list of its blocks lies behind the end of the file")
        return struct.unpack(f"<{count}I", data[at : at + 4 * count])

    def _join(self, blocks: tuple[int, ...], size: int) -> bytes:
        step, parts, index = self._block, [], 0
        while index < len(blocks):  # runs of neighbours are one copy
            last = index
            while last + 1 < len(blocks) and blocks[last + 1] == blocks[last] + 1:
                last += 1
            parts.append(self._data[blocks[index] * step : (blocks[last] + 1) * step])
            index = last + 1
        joined = b"".join(parts)[:size]
        if len(joined) != size:
            raise ValueError("a stream lies behind the end of the file")
        return joined
