"""The tagged secondary data ("DumpBlob") behind the pages or the triage data.

Invariant: the walk moves forward and stays inside the file; leftover bytes after the last block are
normal (a dump converted from a bigger one keeps stale bytes), a block that overruns the file is
not. Source: public reverse engineering, checked on 52 real minidumps (no count field; a header
size that is none ends the walk; pre-pad and post-pad surround the data).
"""

from __future__ import annotations

from typing import NamedTuple

from ..files import FileBytes
from ..layouts import guids

MAGIC = b"DumpBlob"
#: far above any real dump (20 to 42 blocks seen); bounds a hostile chain of empty blocks
MAX_BLOCKS = 4096
#: block headers are 0x20 bytes long in all real dumps; a much longer one is a stale byte pattern
MAX_HEADER = 0x100

#: GUID -> owner, from public symbols and the block contents (docs/facts.md)
OWNERS = {
    "65755a40-f146-43ea-8c91-36b85728fd35": "crashdmp (CRASHDUMP_GUID_ID)",
    "da82441d-7142-4bc1-b844-0807c5a4b67f": "storport (GUID_DEVICEDUMP_DRIVER_STORAGE_PORT)",
    "d8e2592f-1aab-4d56-a746-1f7585df40f4": "storage device (GUID_DEVICEDUMP_STORAGE_DEVICE)",
    "c939c73b-17dc-4a44-904c-e2d987f52649": "storport (GUID_STORPORT_PAGING_DEVICE_DUMP)",
    "2b88b710-1c93-4f7c-b06c-655ecc50decc": "nt (EtwSecondaryDumpDataGuid)",
    "54c84888-01d1-4c1e-bed6-282c98241303": "Wdf01000 (recorder of the involved driver)",
    "f87e4a4c-c5a1-4d2f-bff0-d5de63a5e4c3": "Wdf01000 (list of KMDF drivers)",
    "270a33fd-3da6-460d-ba89-3c1bae21e39b": "display (TDR state)",
    "2b4ae195-a64d-4f04-8ede-7e4f981bd42a": "nt (triage data array)",
    "f57308df-cc45-4e01-ad76-29a4ebb010ec": "nt (boot status black box)",
    "d6d379dc-c699-43e9-8c5e-f5fd8dd65780": "nt (memory store page)",
}
STORAGE_PORT = "da82441d-7142-4bc1-b844-0807c5a4b67f"
ETW_BUFFERS = "2b88b710-1c93-4f7c-b06c-655ecc50decc"


class Block(NamedTuple):
    """One tagged block: where its header and its data lie."""

    guid: str
    header_offset: int
    offset: int
    size: int


def blocks(data: FileBytes, start: int) -> tuple[list[Block], str, int | None]:
    """Blocks of the region at ``start``; a sentence on what is wrong ("": nothing) and where."""
    found: list[Block] = []
    size = len(data)
    if start + 16 > size or data[start : start + 8] != MAGIC:
        return found, "the secondary data does not start with DumpBlob", start
    (header,) = data.unpack("<I", start + 8)
    if not 16 <= header <= 0x1000:
        return (
            found,
            f"the secondary data states a header of {header} bytes (16 expected)",
            start + 8,
        )
    at = start + header
    while at + 0x20 <= size:
        head, raw, length, pre, post = data.unpack("<I16sIII", at)
        if not 0x20 <= head <= MAX_HEADER:
            break
        begin = at + head + pre
        if begin + length > size:
            guid = guids.text_of(raw)
            return (
                found,
                (
                    f"block {guid} states {length:,} bytes but the file ends {size - at:,} bytes "
                    "after the block's start"
                ),
                at,
            )
        found.append(Block(guids.text_of(raw), at, begin, length))
        if len(found) >= MAX_BLOCKS:
            return found, f"more than {MAX_BLOCKS} blocks; the rest is not read", at
        at = begin + length + post
    return found, "", None
