"""Small PE images as the loader leaves them in memory: headers, code with call sites, debug record.

Invariant: every address that the samples use as a return address follows a call instruction here.
"""

from __future__ import annotations

import struct
import zlib

TEXT, RDATA, DATA = 0x1000, 0x2000, 0x10000
CALL_SITES = tuple(0x1400 + 0x86 * i + (4 - (0x1400 + 0x86 * i) % 4) % 4 for i in range(12))


def stamp_of(name: str, build: int) -> int:
    """A time stamp per image: a hash (reproducible builds) on 8 and later, a date before."""
    value = zlib.crc32(name.lower().encode()) or 1
    return value if build > 7601 else 0x4CE70000 | value & 0xFFFF


def headers(arch: str, size: int, stamp: int, checksum: int) -> bytes:
    """The header page; the debug directory points into .rdata."""
    wide = arch in ("x64", "arm64")
    machine = {"x64": 0x8664, "arm64": 0xAA64}.get(arch, 0x14C)
    page = bytearray(0x1000)
    page[0:2] = b"MZ"
    struct.pack_into("<I", page, 0x3C, 0x80)
    optional = 0xF0 if wide else 0xE0
    struct.pack_into(
        "<4sHHIIIHH",
        page,
        0x80,
        b"PE\0\0",
        machine,
        3,
        stamp,
        0,
        0,
        optional,
        0x22 if wide else 0x102,
    )
    at = 0x98
    struct.pack_into("<H", page, at, 0x20B if wide else 0x10B)
    struct.pack_into("<II", page, at + 16, TEXT, TEXT)  # entry point, base of code
    struct.pack_into("<II", page, at + 32, 0x1000, 0x200)
    struct.pack_into("<III", page, at + 56, size, 0x400, checksum)
    struct.pack_into("<H", page, at + 68, 1)  # native
    directories = at + (108 if wide else 92)
    struct.pack_into("<I", page, directories, 16)
    struct.pack_into("<II", page, directories + 4 + 6 * 8, RDATA, 28)
    section = at + optional
    for title, rva, length, flags in (
        (b".text", TEXT, 0x1000, 0x60000020),
        (b".rdata", RDATA, 0x1000, 0x40000040),
        (b".data", min(DATA, size - 0x1000), 0x2000, 0xC0000040),
    ):
        struct.pack_into(
            "<8sIIIIIIHHI", page, section, title, length, rva, length, rva, 0, 0, 0, 0, flags
        )
        section += 40
    return bytes(page)


def rsds_of(name: str, stamp: int) -> tuple:
    """(GUID bytes, age, pdb name) of an image."""
    guid = struct.pack(
        "<IIII", stamp, zlib.crc32(name.encode()[::-1]), stamp ^ 0x5A5A5A5A, 0x0D0C0B0A
    )
    return guid, 1, name.rsplit(".", 1)[0] + ".pdb"


def rdata_page(name: str, stamp: int) -> bytes:
    """The debug directory (type 2, CodeView) and the record it points to."""
    guid, age, pdb = rsds_of(name, stamp)
    record = b"RSDS" + guid + struct.pack("<I", age) + pdb.encode("ascii", "replace") + b"\0"
    page = bytearray(0x1000)
    at = RDATA + 0x40
    struct.pack_into("<IIHHIIII", page, 0, 0, stamp, 0, 0, 2, len(record), at, at)
    page[0x40 : 0x40 + len(record)] = record
    return bytes(page)


def text_page(arch: str) -> bytes:
    """Functions every 0x40 bytes from the start, and a call before each address of CALL_SITES."""
    page = bytearray(b"\x1f\x20\x03\xd5" * 0x400 if arch == "arm64" else b"\xcc" * 0x1000)
    for start in range(0, 0x400, 0x40):
        code = {"x64": b"\x48\x83\xec\x28\x33\xc0\x48\x83\xc4\x28\xc3"}.get(
            arch, b"\x8b\xff\x55\x8b\xec\x33\xc0\x5d\xc2\x04\x00"
        )
        if arch == "arm64":
            code = b"\x00\x00\x80\x52\xc0\x03\x5f\xd6"  # mov w0, #0; ret
        page[start : start + len(code)] = code
    for number, site in enumerate(CALL_SITES):
        end = site - TEXT
        if arch == "arm64":  # bl, or blr x8
            code = struct.pack("<I", 0xD63F0100 if number % 3 == 1 else 0x94000010)
        elif number % 3 == 1:  # call [address]
            code = b"\xff\x15" + struct.pack("<I", 0x1000)
        elif number % 3 == 2:  # call register
            code = b"\xff\xd0"
        else:
            code = b"\xe8" + struct.pack("<i", -0x300)
        page[end - len(code) : end] = code
    return bytes(page)
