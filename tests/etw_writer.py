"""Writes synthetic ETW traces for the tests: every header kind, clock, compression and damage.

Independent of the package under test: layouts are spelled out here a second time, from ntwmi.h and
evntrace.h, so that a mistake in one place shows.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass, field

from xca_writer import lznt1, xpress, xpress_huffman

FILETIME_2024 = 133_485_408_000_000_000  # 2024-01-01T00:00:00Z
EPOCH = 116_444_736_000_000_000
LZNT1, XPRESS, XPRESS_HUFF = 2, 3, 4


def guid(text: str) -> bytes:
    """A GUID as Windows stores it."""
    return uuid.UUID(text).bytes_le


def utf16(text: str) -> bytes:
    """A NUL-terminated UTF-16 string."""
    return text.encode("utf-16-le") + b"\0\0"


# -- events: each returns the bytes of one event --------------------------------------------------


def event(
    provider: str, ident: int, ts: int, data: bytes = b"", *, version: int = 0, channel: int = 0,
    level: int = 4, opcode: int = 0, task: int = 0, keyword: int = 0, pid: int = 4, tid: int = 8,
    items: tuple[tuple[int, bytes], ...] = (), narrow: bool = False, prop: int = 0,
) -> bytes:  # fmt: skip
    """EVENT_HEADER with extended items."""
    ext = b""
    for k, (kind, body) in enumerate(items):
        total = (8 + len(body) + 7) & ~7
        link = 1 if k + 1 < len(items) else 0
        ext += (struct.pack("<HHHH", total, kind, link, len(body)) + body).ljust(total, b"\0")
    size = 0x50 + len(ext) + len(data)
    head = struct.pack("<HBBHHIIq", size, 0x12 if narrow else 0x13, 0xC0, 1 if items else 0, prop,
                       tid, pid, ts)  # fmt: skip
    head += guid(provider)
    head += struct.pack("<HBBBBHQ", ident, version, channel, level, opcode, task, keyword)
    head += bytes(8) + bytes(16)
    assert len(head) == 0x50
    return head + ext + data


def system(hook: int, ts: int, data: bytes = b"", *, version: int = 2, pid: int = 4, tid: int = 8,
           narrow: bool = False, compact: bool = False) -> bytes:  # fmt: skip
    """SYSTEM_TRACE_HEADER, or its compact form."""
    kind = (3 if narrow else 4) if compact else (1 if narrow else 2)
    size = (0x18 if compact else 0x20) + len(data)
    head = struct.pack("<HBBHHIIq", version, kind, 0xC0, size, hook, tid, pid, ts)
    return head + (b"" if compact else bytes(8)) + data


def perfinfo(hook: int, ts: int, data: bytes = b"", *, version: int = 2, narrow: bool = False,
             pmc: int = 0, pebs: bool = False) -> bytes:  # fmt: skip
    """PERFINFO_TRACE_HEADER with optional counters."""
    extra = bytes(8 * pmc + (8 if pebs else 0))
    marker = version | pmc << 8 | (0x8000 if pebs else 0)
    size = 0x10 + len(extra) + len(data)
    return struct.pack("<HBBHHq", marker, 0x10 if narrow else 0x11, 0xC0, size, hook, ts) + (
        extra + data
    )


def classic(class_guid: str, opcode: int, ts: int, data: bytes = b"", *, version: int = 0,
            level: int = 0, pid: int = 4, tid: int = 8, narrow: bool = False) -> bytes:  # fmt: skip
    """EVENT_TRACE_HEADER."""
    head = struct.pack("<HBBBBHIIq", 0x30 + len(data), 0x0A if narrow else 0x14, 0xC0, opcode,
                       level, version, tid, pid, ts)  # fmt: skip
    return head + guid(class_guid) + bytes(8) + data


def instance(class_guid: str, opcode: int, ts: int, data: bytes = b"", *, pid: int = 4,
             tid: int = 8) -> bytes:  # fmt: skip
    """EVENT_INSTANCE_GUID_HEADER."""
    head = struct.pack("<HBBBBHIIq", 0x48 + len(data), 0x15, 0xC0, opcode, 0, 0, tid, pid, ts)
    return head + guid(class_guid) + bytes(8) + struct.pack("<II", 1, 0) + bytes(16) + data


def message(message_guid: str, number: int, ts: int, data: bytes = b"", *, options: int = 0xAA,
            pid: int = 4, tid: int = 8, sequence: int = 1) -> bytes:  # fmt: skip
    """MESSAGE_TRACE_HEADER (WPP) with the parts its options ask for."""
    body = b""
    if options & 0x01:
        body += struct.pack("<I", sequence)
    if options & 0x04:
        body += struct.pack("<I", 77)
    elif options & 0x02:
        body += guid(message_guid)
    if options & 0x18:
        body += struct.pack("<q", ts)
    if options & 0x20:
        body += struct.pack("<II", tid, pid)
    size = 8 + len(body) + len(data)
    return struct.pack("<HBBHH", size, 0, 0x90, number, options) + body + data


def tracelogging(name: str, fields: list[tuple[str, bytes]]) -> tuple[int, bytes]:
    """The schema item: fields are (name, type bytes as TraceLoggingProvider.h lays them out)."""
    body = b"\0" + name.encode() + b"\0"
    for label, kind in fields:
        body += label.encode() + b"\0" + kind
    return 11, struct.pack("<H", len(body) + 2) + body


def traits(name: str) -> tuple[int, bytes]:
    """The provider-traits item."""
    raw = name.encode() + b"\0"
    return 12, struct.pack("<H", len(raw) + 2) + raw


# -- buffers and the file -------------------------------------------------------------------------


@dataclass
class Writer:
    """Collects events per processor and lays them into buffers."""

    buffer_size: int = 8192
    clock: int = 1
    frequency: int = 10_000_000
    mhz: int = 3000
    narrow: bool = False
    name: str = "synthetic"
    mode: int = 1
    start_time: int = FILETIME_2024
    first_ts: int = 1_000_000
    compression: int = 0
    finalise: bool = True
    events_lost: int = 0
    buffers_lost: int = 0
    vista: bool = False  # SavedOffset 0 in the first buffer
    indexed_cpu: bool = True
    logger_id: int = 7
    pending: list[tuple[int, list[bytes], int]] = field(default_factory=list)

    def add(self, *events: bytes, cpu: int = 0, flags: int = 0) -> None:
        """One buffer (or several, if they do not fit) of events of one processor."""
        room = self.buffer_size - 0x48
        part: list[bytes] = []
        used = 0
        for one in events:
            need = (len(one) + 7) & ~7
            if used + need > room:
                self.pending.append((cpu, part, flags))
                part, used = [], 0
            part.append(one)
            used += need
        self.pending.append((cpu, part, flags))

    def header_event(self) -> bytes:
        """TRACE_LOGFILE_HEADER in its system event."""
        pointer = "<II" if self.narrow else "<QQ"
        mode = self.mode | (0x04000000 if self.compression else 0)
        body = struct.pack(
            "<IBBBBIIqIIIIIIII", self.buffer_size, 10, 0, 1, 5, 19041, 4,
            self.start_time + 600_000_000 if self.finalise else 0, 156250, 0, mode,
            1 + len(self.pending) if self.finalise else 0, 1, 4 if self.narrow else 8,
            self.events_lost, self.mhz,
        )  # fmt: skip
        body += struct.pack(pointer, 0, 0) + bytes(0xB0)
        body += struct.pack("<qqqII", self.start_time - 10**9, self.frequency, self.start_time,
                            self.clock, self.buffers_lost)  # fmt: skip
        assert len(body) == (0x110 if self.narrow else 0x118)
        return system(0, self.first_ts, body + utf16(self.name) + utf16("C:\\x.etl"),
                      narrow=self.narrow)  # fmt: skip

    def _buffer(self, events: list[bytes], cpu: int, seq: int, kind: int, flags: int) -> bytes:
        body = b"".join(e + b"\xff" * (-len(e) % 8) for e in events)
        end = 0x48 + len(body)
        packed = self.compression if kind != 4 else 0
        raw = body
        if packed:
            raw = {LZNT1: lznt1, XPRESS: xpress, XPRESS_HUFF: xpress_huffman}[packed](body)
            flags |= 0x40
        size = 0x48 + len(raw) if packed else self.buffer_size
        if self.indexed_cpu:
            flags |= 0x20
        processor = cpu if self.indexed_cpu else cpu | 8 << 8
        saved = 0 if self.vista and kind == 4 else end
        state = self.compression if kind == 4 and self.compression else 3
        stamp = max((ts_of(e) for e in events), default=self.first_ts)
        head = struct.pack("<IIIiqqQHHIIHH", size, saved, 0, 0, stamp, seq, 0, processor,
                           self.logger_id, state, end, flags, kind) + bytes(16)  # fmt: skip
        assert len(head) == 0x48
        return (head + raw).ljust(size, b"\xff") if not packed else head + raw

    def build(self) -> bytes:
        """The whole file."""
        out = self._buffer([self.header_event()], 0, 0, 4, 0)
        for k, (cpu, events, flags) in enumerate(self.pending):
            out += self._buffer(events, cpu, k + 1, 0, flags)
        return out


def ts_of(one: bytes) -> int:
    """The timestamp of an event made here."""
    if one[3] == 0x90 or len(one) < 24:
        return 0
    return int(struct.unpack_from("<q", one, 8 if one[2] in (0x10, 0x11) else 16)[0])


def payloads(trace) -> list[bytes]:
    """The payload of each event of a trace, in time order, each taken apart alone."""
    from analyzer.etw.decode import take_apart

    index = trace.index()
    columns = [index.sorted(name).tolist() for name in ("buffer", "offset", "size", "type")]
    return [
        take_apart(trace.event_bytes(buffer, offset, size), kind).data
        for buffer, offset, size, kind in zip(*columns)
    ]
