"""Structures of a trace on disk, with the names of the WDK (ntwmi.h, evntrace.h, evntcons.h).

Invariant: offsets and sizes here are the file's, little endian, the same for 32- and 64-bit
writers unless a class says so. Standard library only.
"""

from __future__ import annotations

import struct
from ctypes import (
    LittleEndianStructure,
    c_int32,
    c_int64,
    c_ubyte,
    c_uint16,
    c_uint32,
    c_uint64,
)

from ..layouts import guids

#: the block of a dump that holds saved buffers: its head, and that of each session in it
DUMP_BLOCK = struct.Struct("<IIIIQQ")
DUMP_SESSION_SIGNATURE, DUMP_SESSION = 0x01EBAFE1, struct.Struct("<6I3Q")

BUFFER_HEADER_SIZE = 0x48
MANIFEST_EVENT = 0xFFFE  # id of an event that carries a part of an EventSource manifest
END_OF_BUFFER = 0xFFFFFFFF  # fills the unused tail of a buffer

# WMI_BUFFER_HEADER.BufferFlag
ETW_BUFFER_FLAG_EVENTS_LOST = 0x02
ETW_BUFFER_FLAG_BUFFER_LOST = 0x04
ETW_BUFFER_FLAG_PROCESSOR_INDEX = 0x20
ETW_BUFFER_FLAG_COMPRESSED = 0x40

# LogFileMode
EVENT_TRACE_FILE_MODE_CIRCULAR = 0x2
EVENT_TRACE_FILE_MODE_NEWFILE = 0x8
EVENT_TRACE_COMPRESSED_MODE = 0x04000000
EVENT_TRACE_NO_PER_PROCESSOR_BUFFERING = 0x10000000

# header type byte of an event (byte 2 when byte 3 is 0xC0); WPP messages get our own number
SYSTEM32, SYSTEM64, COMPACT32, COMPACT64 = 1, 2, 3, 4
FULL32, INSTANCE32, TIMED, ERROR, WNODE, MESSAGE = 10, 11, 12, 13, 14, 15
PERFINFO32, PERFINFO64, EVENT32, EVENT64, FULL64, INSTANCE64 = 16, 17, 18, 19, 20, 21
#: bytes a header of this type needs at least; a smaller Size is damage
HEADER_SIZE: dict[int, int] = {
    SYSTEM32: 0x20, SYSTEM64: 0x20, COMPACT32: 0x18, COMPACT64: 0x18,
    FULL32: 0x30, FULL64: 0x30, INSTANCE32: 0x38, INSTANCE64: 0x38,
    TIMED: 0x8, ERROR: 0x8, WNODE: 0x8, MESSAGE: 0x8,
    PERFINFO32: 0x10, PERFINFO64: 0x10, EVENT32: 0x50, EVENT64: 0x50,
}  # fmt: skip

MARKER_TRACE = 0xC0
MARKER_MESSAGE = 0x90

# MESSAGE_TRACE_HEADER.Packet.OptionFlags, in the order the optional parts follow
TRACE_MESSAGE_SEQUENCE = 0x01
TRACE_MESSAGE_GUID = 0x02
TRACE_MESSAGE_COMPONENTID = 0x04
TRACE_MESSAGE_TIMESTAMP = 0x08
TRACE_MESSAGE_PERFORMANCE_TIMESTAMP = 0x10
TRACE_MESSAGE_SYSTEMINFO = 0x20

# EVENT_HEADER_EXTENDED_DATA_ITEM.ExtType
EXT_EVENT_SCHEMA_TL = 11
EXT_PROV_TRAITS = 12
EVENT_HEADER_FLAG_EXTENDED_INFO = 0x1
EVENT_HEADER_PROPERTY_LEGACY_EVENTLOG = 0x4

CLOCK_QPC, CLOCK_SYSTEM_TIME, CLOCK_CPU_CYCLES = 1, 2, 3


class Structure(LittleEndianStructure):
    """Base of the layouts: unaligned, as the bytes lie."""

    _pack_ = 1

    @classmethod
    def size(cls) -> int:
        """Bytes of the structure."""
        import ctypes

        return ctypes.sizeof(cls)


class WMI_BUFFER_HEADER(Structure):
    """Head of every buffer; the layout of Windows 7 and later, and of Vista where it matters."""

    _fields_ = [
        ("BufferSize", c_uint32),
        ("SavedOffset", c_uint32),
        ("CurrentOffset", c_uint32),
        ("ReferenceCount", c_int32),
        ("TimeStamp", c_int64),
        ("SequenceNumber", c_int64),
        ("ClockFrequency", c_uint64),  # ClockType:3, Frequency:61
        ("ProcessorIndex", c_uint16),
        ("LoggerId", c_uint16),
        ("State", c_uint32),
        ("Offset", c_uint32),
        ("BufferFlag", c_uint16),
        ("BufferType", c_uint16),
        ("ReferenceTime", c_uint64 * 2),
    ]


class TRACE_LOGFILE_HEADER64(Structure):
    """Payload of the first event (hook 0) of a 64-bit writer, names follow it."""

    _fields_ = [
        ("BufferSize", c_uint32),
        ("MajorVersion", c_ubyte),
        ("MinorVersion", c_ubyte),
        ("SubVersion", c_ubyte),
        ("SubMinorVersion", c_ubyte),
        ("ProviderVersion", c_uint32),
        ("NumberOfProcessors", c_uint32),
        ("EndTime", c_int64),
        ("TimerResolution", c_uint32),
        ("MaximumFileSize", c_uint32),
        ("LogFileMode", c_uint32),
        ("BuffersWritten", c_uint32),
        ("StartBuffers", c_uint32),
        ("PointerSize", c_uint32),
        ("EventsLost", c_uint32),
        ("CpuSpeedInMHz", c_uint32),
        ("LoggerName", c_uint64),
        ("LogFileName", c_uint64),
        ("TimeZone", c_ubyte * 0xB0),
        ("BootTime", c_int64),
        ("PerfFreq", c_int64),
        ("StartTime", c_int64),
        ("ReservedFlags", c_uint32),
        ("BuffersLost", c_uint32),
    ]


class TRACE_LOGFILE_HEADER32(Structure):
    """The same of a 32-bit writer."""

    _fields_ = [
        *TRACE_LOGFILE_HEADER64._fields_[:16],
        ("LoggerName", c_uint32),
        ("LogFileName", c_uint32),
        ("TimeZone", c_ubyte * 0xB0),
        *TRACE_LOGFILE_HEADER64._fields_[19:],
    ]


def message_layout(options: int) -> tuple[int, int, int, int, int]:
    """Offsets (guid, component, time, thread, arguments) of a WPP message, -1 where absent."""
    at = 8 + (4 if options & TRACE_MESSAGE_SEQUENCE else 0)
    guid = component = time = thread = -1
    if options & TRACE_MESSAGE_COMPONENTID:
        component, at = at, at + 4
    elif options & TRACE_MESSAGE_GUID:
        guid, at = at, at + 16
    if options & (TRACE_MESSAGE_TIMESTAMP | TRACE_MESSAGE_PERFORMANCE_TIMESTAMP):
        if options & TRACE_MESSAGE_TIMESTAMP:
            time = at
        at += 8
    if options & TRACE_MESSAGE_SYSTEMINFO:
        thread, at = at, at + 8
    return guid, component, time, thread, at


def guid_text(low: int, high: int) -> str:
    """A GUID given as its two little-endian 64-bit halves, as Windows prints it."""
    return guids.text_of(low.to_bytes(8, "little") + high.to_bytes(8, "little"))
