"""A .evtx file, chunk by chunk, through the evtx library.

Invariant: every record of every chunk is decoded or counted as lost, and a damaged chunk costs only
itself. The chunks are walked here and handed to the library one at a time, ending at the last
intact record; so memory is constant and each record's file offset is known. Older versions of the
library (the only ones for Python 3.9) can hang or end the process on a damaged chunk, so they get
only chunks whose checksums hold. What the file header and the record numbers say there should be
is compared with what was read.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from importlib import metadata
from typing import Any, BinaryIO

from ..errors import UsageError
from ..extras import install

CHUNK = 0x10000
FILE_HEADER = 0x1000
CHUNK_HEADER = 0x200
_NOTHING = bytes(CHUNK)
#: file header: number of the next record, then how many chunks there are (libevtx notes)
_NEXT_RECORD, _CHUNKS = 0x18, 0x2A
#: chunk header: first and last record number of the file and of the log, offsets (libevtx notes)
_RECORD_IDS, _LAST_RECORD_ID = 0x18, 0x20
_FREE_SPACE = 0x30
_RECORD_MAGIC = 0x2A2A
_RECORD_HEADER = 0x18


#: the first version that survived 2,000 damaged copies of a real chunk; 0.8.9 ended the process
PROVEN = (0, 14)


def is_proven() -> bool:
    """True when the installed library may be given damaged chunks."""
    try:
        parts = metadata.version("evtx").split(".")
        return tuple(int(part) for part in parts[:2]) >= PROVEN
    except (metadata.PackageNotFoundError, ValueError):
        return False


class Reader:
    """Iterates over (file offset, XML text); the counts are complete when the iteration ends."""

    def __init__(self, path: str, file: BinaryIO) -> None:
        try:
            from evtx import PyEvtxParser
        except ImportError:
            raise UsageError(
                f"{path}: reading an .evtx file needs the evtx library; "
                f"install it with: {install('evtx')}"
            ) from None
        self._parser = PyEvtxParser
        self._may_be_damaged = is_proven()
        self._file = file
        self.decoded = 0  #: records given out
        self.lost = 0  #: records that a chunk announces and that cannot be decoded
        self.damaged_chunks = 0
        self.cut_chunk = False  #: the file ends inside a chunk
        self.from_cut_chunk = 0  #: records read from that chunk
        self.unplaced = 0  #: records of chunks whose header does not tell their numbers
        self.first_damage = ""
        self._ids: dict[tuple[int, int], int] = {}  #: numbers of each chunk's records -> checksum
        file.seek(0)
        header = file.read(0x80).ljust(0x80, b"\0")
        (self._next_record,) = struct.unpack_from("<Q", header, _NEXT_RECORD)
        (self._announced,) = struct.unpack_from("<H", header, _CHUNKS)
        self._chunks = 0

    @property
    def missing_chunks(self) -> int:
        """Chunks that the file header counts and that are not there or are empty."""
        return max(0, int(self._announced) - self._chunks)

    @property
    def missing(self) -> int:
        """Records that by the numbers of the others are not in the file at all."""
        gap, end = 0, -1
        for first, last in sorted(self._ids):
            gap += max(0, first - end - 1) if end >= 0 else 0
            end = max(last, end)
        # the header may be older than the chunks, so it can only tell of records behind them
        if end >= 0 and 0 < self._next_record - 1 - end < 1 << 32:
            gap += int(self._next_record) - 1 - end
        return max(0, gap - self.unplaced)

    def __iter__(self) -> Iterator[tuple[int, str]]:
        self._file.seek(FILE_HEADER)
        start = FILE_HEADER
        while True:
            chunk = self._file.read(CHUNK)
            if not chunk:
                return
            before = self.decoded
            yield from self._chunk(start, bytearray(chunk.ljust(CHUNK, b"\0")), len(chunk))
            if len(chunk) < CHUNK:
                self.cut_chunk, self.from_cut_chunk = True, self.decoded - before
            start += CHUNK

    def _chunk(self, start: int, chunk: bytearray, length: int) -> Iterator[tuple[int, str]]:
        if chunk[:8] != b"ElfChnk\0":
            if chunk != _NOTHING:
                self._damaged(start, "no chunk header")
                self._chunks += 1
                self.unplaced += chunk.count(b"**\0\0")
                self.lost += chunk.count(b"**\0\0")
            return
        self._chunks += 1
        ids = struct.unpack_from("<QQ", chunk, _RECORD_IDS)
        is_placed = _has_sound_header(chunk) and 0 <= ids[1] - ids[0] < CHUNK // _RECORD_HEADER
        if is_placed:
            checksum = zlib.crc32(chunk[CHUNK_HEADER:])
            if self._ids.get(ids) == checksum:
                return
            self._ids[ids] = checksum
        first, last = struct.unpack_from("<QQ", chunk, 8)
        announced = last - first + 1 if 0 <= last - first < CHUNK // _RECORD_HEADER else 0
        places, end, last_id = self._walk(chunk, length)
        self.unplaced += 0 if is_placed else len(places)
        given = 0
        if places and not self._may_be_damaged and not _is_sound(chunk):
            version = ".".join(map(str, PROVEN))
            self._note(
                start, f"wrong checksum, readable with evtx {version} (Python 3.10) or newer"
            )
        elif places:
            struct.pack_into("<Q", chunk, _LAST_RECORD_ID, last_id)
            struct.pack_into("<I", chunk, _FREE_SPACE, end)
            for record in self._records(start, bytes(chunk), len(places)):
                given += 1
                offset = places.get(record["event_record_id"], CHUNK_HEADER)
                yield start + offset, record["data"]
        self.decoded += given
        missing = max(announced, len(places)) - given
        if missing > 0:
            self.lost += missing
            self._damaged(start, f"{missing} records lost")

    @staticmethod
    def _walk(chunk: bytearray, length: int) -> tuple[dict[int, int], int, int]:
        """Record number -> offset of the intact records, where they end, the last number."""
        limit = min(struct.unpack_from("<I", chunk, _FREE_SPACE)[0], CHUNK)
        places: dict[int, int] = {}
        at, number = CHUNK_HEADER, 0
        while at + _RECORD_HEADER <= limit:
            magic, size, record = struct.unpack_from("<IIQ", chunk, at)
            if magic != _RECORD_MAGIC or size <= _RECORD_HEADER + 4 or at + size > length:
                break
            number = record
            places[number] = at
            at += size
        return places, at, number

    def _records(self, start: int, chunk: bytes, most: int) -> Iterator[dict[str, Any]]:
        """What the library makes of one chunk; its errors end the chunk."""
        try:
            # one thread: the chunk is small, and the order is kept
            records = self._parser(io.BytesIO(_file_header() + chunk), 1).records()
            for _ in range(most):
                try:
                    record = next(records)
                except StopIteration:
                    return
                except (RuntimeError, ValueError, OSError) as error:
                    self._note(start, error)
                    continue
                if isinstance(record, dict):
                    yield record
        except GeneratorExit:
            raise
        except BaseException as error:
            # a fault inside the library arrives as pyo3's PanicException, which is no Exception
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            self._note(start, error)

    def _note(self, start: int, error: object) -> None:
        if not self.first_damage:
            self.first_damage = f"chunk at {start:#x}: {str(error)[:160]}"

    def _damaged(self, start: int, words: str) -> None:
        self.damaged_chunks += 1
        if not self.first_damage:
            self.first_damage = f"chunk at {start:#x}: {words}"


def _has_sound_header(chunk: bytearray) -> bool:
    """True when the checksum of the chunk header holds (libevtx notes)."""
    (of_header,) = struct.unpack_from("<I", chunk, 0x7C)
    return bool(zlib.crc32(chunk[:0x78] + chunk[0x80:CHUNK_HEADER]) == of_header)


def _is_sound(chunk: bytearray) -> bool:
    """True when the checksums of the chunk header and of the records hold."""
    free, of_records = struct.unpack_from("<II", chunk, _FREE_SPACE)
    is_whole = free <= CHUNK and zlib.crc32(chunk[CHUNK_HEADER:free]) == of_records
    return is_whole and _has_sound_header(chunk)


def _file_header() -> bytes:
    """A file header for exactly one chunk."""
    head = b"ElfFile\0" + struct.pack("<QQQIHHHH", 0, 0, 1, 128, 1, 3, FILE_HEADER, 1)
    head = head.ljust(120, b"\0")
    return (head + struct.pack("<II", 0, zlib.crc32(head))).ljust(FILE_HEADER, b"\0")
