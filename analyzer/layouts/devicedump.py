"""The storage port driver's block of the secondary dump data (ntddstor.h, DEVICEDUMP_*).

Invariant: packed to 1 byte, as the header says and as 52 real dumps show; the same on every
architecture. Bindings that align to 8 make 64-byte records, which is wrong.
"""

from __future__ import annotations

import ctypes

from .ntdddump import Structure

SIGNATURE = b"DSTP"  # the first four bytes


class DEVICEDUMP_STRUCTURE_VERSION(Structure):
    """The head of every DEVICEDUMP structure; Version is the size of the struct with one record."""

    __slots__ = ()
    _fields_ = [
        ("dwSignature", ctypes.c_uint32),
        ("dwVersion", ctypes.c_uint32),
        ("dwSize", ctypes.c_uint32),
    ]


class DEVICEDUMP_STORAGESTACK_PUBLIC_STATE_RECORD(Structure):
    """One storage request, 60 bytes."""

    __slots__ = ()
    _fields_ = [
        ("Cdb", ctypes.c_ubyte * 16),  # only byte 0, the opcode, is kept
        ("Command", ctypes.c_ubyte * 16),  # byte 0 = SRB function when the opcode is 0
        ("StartTime", ctypes.c_uint64),  # FILETIME; 0 = not recorded
        ("EndTime", ctypes.c_uint64),  # FILETIME; 0 = still in flight
        ("OperationStatus", ctypes.c_uint32),
        ("OperationError", ctypes.c_uint32),
        ("StackSpecific", ctypes.c_uint32),  # SrbTag: low bits of a request address, not unique
    ]


class DEVICEDUMP_STORAGESTACK_PUBLIC_DUMP(Structure):
    """The head; ``uiNumRecords`` records follow it."""

    __slots__ = ()
    _fields_ = [
        ("Descriptor", DEVICEDUMP_STRUCTURE_VERSION),
        ("dwReasonForCollection", ctypes.c_uint32),
        ("cDriverName", ctypes.c_char * 16),
        ("uiNumRecords", ctypes.c_uint32),
    ]
