"""What events say of crashes, the dump stack and storage, one after the other; no numpy.

Invariant: a trace and the buffers that Windows saved in a dump are judged by the same code. The
buffers of a dump are searched for the GUIDs of the providers that matter, and what is found must
have the header of an event; nothing else of them is read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from .. import event_findings, windows_events
from ..absence import Absent
from ..layouts import guids
from ..names import events
from ..records import Anomaly, Clue, Evidence, Origin, Time
from ..windows_events import RawEvent
from . import providers
from .clock import Clock
from .decode import Decoder, take_apart
from .layouts import DUMP_BLOCK, DUMP_SESSION, DUMP_SESSION_SIGNATURE, EVENT32, EVENT64
from .payload import Value, whole

#: severity in the top two bits of an entry of the I/O error log -> level of an event
_ENTRY_LEVELS = {3: 2, 2: 3, 1: 4, 0: 4}
_GUID_AT, _HEADER_BYTES = 0x18, 0x50
#: size, kind of header, its mark; then the time stamp, and id, version, channel, level, opcode
_HEAD, _STAMP, _ID = struct.Struct("<HBB"), struct.Struct("<q"), struct.Struct("<HBBBB")
_SESSION_MARK = struct.pack("<I", DUMP_SESSION_SIGNATURE)


class Saved(NamedTuple):
    """One event of a dump's saved buffers."""

    raw: RawEvent
    offset: int  #: in the block


class Judge:
    """Takes events in their order; the times are those of a dump, if they are of one."""

    def __init__(self, crash_ns: int | None = None, boot_ns: int | None = None) -> None:
        self._crash = crash_ns
        self._boots = [boot_ns] if boot_ns is not None else []
        self._clues: list[Clue] = []
        self._storage: list[tuple[RawEvent, Origin]] = []

    def take(self, raw: RawEvent, origin: Origin) -> Iterator[Anomaly | Clue]:
        """What one event says by itself."""
        if raw.is_storage_trouble:
            self._storage.append((raw, origin))
        if raw.known is None:
            return
        decoded = windows_events.decode(raw)
        clue = event_findings.clue(raw, decoded, origin)
        if clue is not None:
            self._clues.append(clue)
            yield clue
            if clue.tells in (events.BOOT, events.RESTART) and clue.time is not None:
                self._boots.append(clue.time)
        when = raw.time if isinstance(raw.time, int) else -1
        early = event_findings.is_early(when, sorted(self._boots[-8:]))
        excuse = event_findings.WITH_A_START if early else ""
        yield from event_findings.findings(raw, decoded, origin, excuse)

    def end(self) -> Iterator[Anomaly]:
        """What only all of them say."""
        yield from event_findings.contradictions(self._clues)
        before = self._before_an_end()
        if before:
            ends = sum(c.tells == events.RESTART for c in self._clues)
            what = "the crash" if self._crash is not None else "an unexpected restart"
            yield from event_findings.storage_findings(before, ends, what)
        told = set(map(id, before))
        by_event: dict[tuple[str, int], list[tuple[RawEvent, Origin]]] = {}
        for pair in self._storage:
            if id(pair) not in told:
                by_event.setdefault((pair[0].provider, pair[0].event_id), []).append(pair)
        for (provider, number), pairs in by_event.items():
            raw, origin = pairs[0]
            yield Anomaly(
                "etw-storage-errors",
                f"{len(pairs)} storage error{'s' if len(pairs) > 1 else ''} ({provider} {number}); "
                f"the first says: {windows_events.decode(raw).text[:200]}",
                origin, f"{provider} {number}", (Evidence("count", len(pairs), "Number"),),
            )  # fmt: skip

    def _before_an_end(self) -> list[tuple[RawEvent, Origin]]:
        """Storage errors shortly before the crash, or before a restart."""
        ends = [c.time for c in self._clues if c.tells == events.RESTART and c.time is not None]
        ends += [self._crash] if self._crash is not None else []
        limit = event_findings.STORAGE_MINUTES * 60 * 10**9
        return [
            pair
            for pair in self._storage
            if isinstance(pair[0].time, int)
            and any(0 <= end - pair[0].time <= limit for end in ends[-64:])
        ]


def entry(values: dict[str, Value], time: Time) -> RawEvent:
    """A classic entry of the I/O error log as the event that the System log makes of it."""
    code = whole(values, "ErrorCode") or 0
    strings, data = values.get("Strings"), values.get("Data")
    return RawEvent(
        str(values.get("Source", "")), event_id=code & 0xFFFF, level=_ENTRY_LEVELS[code >> 30 & 3],
        time=time,
        data=[("", str(text)) for text in strings] if isinstance(strings, list) else [],
        binary=data if isinstance(data, bytes) else None,
    )  # fmt: skip


def modern(
    provider: str, guid: str, number: int, level: int | None, time: Time, values: dict[str, Value]
) -> RawEvent:
    """An event of a manifest's provider as an event log would hold it."""
    data = [(name, _spelled(value)) for name, value in values.items()]
    return RawEvent(provider, guid, number, level=level, time=time, data=data)


def _spelled(value: Value) -> str:
    """A value as event data spell it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def saved_events(block: bytes) -> list[Saved]:
    """The events of a dump's block that may matter, in the order of their time."""
    decoder = Decoder()
    sessions = list(_sessions(block))
    found: list[tuple[int, Saved]] = []
    for guid in (*events.GUIDS.values(), providers.IO_ERROR_LOG):
        at = block.find(guids.stored(guid))
        while at >= 0:
            one = _event(block, at - _GUID_AT, guid, decoder, sessions)
            if one is not None:
                found.append((one.raw.time if isinstance(one.raw.time, int) else 0, one))
            at = block.find(guids.stored(guid), at + 1)
    return [one for _, one in sorted(found, key=lambda pair: (pair[0], pair[1].offset))]


def _event(
    block: bytes, at: int, guid: str, decoder: Decoder, sessions: list[tuple[int, Clock]]
) -> Saved | None:
    if at < 0 or at + _HEADER_BYTES > len(block):
        return None
    size, kind, mark = _HEAD.unpack_from(block, at)
    if mark != 0xC0 or kind not in (EVENT32, EVENT64) or not size >= _HEADER_BYTES:
        return None
    number, version, _, level, opcode = _ID.unpack_from(block, at + 0x28)
    provider = providers.NAMES.get(guid, guid)
    is_entry = guid == providers.IO_ERROR_LOG
    if not is_entry and not _matters(guid, number, level):
        return None
    parts = take_apart(bytes(block[at : at + size]), kind)
    described = decoder.describe(parts, guid, number, version, opcode)
    values = described.fields.values if described.fields is not None else {}
    clock = next((clock for start, clock in reversed(sessions) if start < at), None)
    time: int | Absent = Absent("unset", "its clock is not known")
    if clock is not None:
        time = clock.ns(_STAMP.unpack_from(block, at + 0x10)[0])
    if is_entry:
        return Saved(entry(values, time), at) if described.name == "ErrorLogEntry" else None
    return Saved(modern(provider, guid, number, level, time, values), at)


def _matters(guid: str, number: int, level: int) -> bool:
    key = events.provider_key("", guid)
    return (key, number) in events.EVENTS or (
        key == events.STORPORT and level in events.STORAGE_LEVELS
    )


def _sessions(block: bytes) -> Iterator[tuple[int, Clock]]:
    """Where each session begins, and its clock; the block begins with what they share."""
    if len(block) < DUMP_BLOCK.size:
        return
    _, _, mhz, _, _, frequency = DUMP_BLOCK.unpack_from(block)
    at = block.find(_SESSION_MARK)
    while at >= 0 and at + DUMP_SESSION.size <= len(block):
        _, _, _, kind, _, length, _, time, ticks = DUMP_SESSION.unpack_from(block, at)
        if length <= 0x2000:
            yield at, Clock.of(kind, frequency, mhz, time, ticks)
        at = block.find(_SESSION_MARK, at + 1)
