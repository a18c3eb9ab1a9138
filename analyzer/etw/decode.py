"""From a row of the index to a decoded event: header details, provider name, fields, words.

Invariant: who told the schema is part of the answer; an event no schema fits keeps its bytes and
says what would tell. The order of trust: what the event or its trace says of itself, then what the
user gave, then what is built in.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from ..absence import Absent
from . import providers, tracelogging
from .layouts import (
    COMPACT32,
    COMPACT64,
    ERROR,
    EVENT32,
    EVENT64,
    EVENT_HEADER_FLAG_EXTENDED_INFO,
    EVENT_HEADER_PROPERTY_LEGACY_EVENTLOG,
    EXT_EVENT_SCHEMA_TL,
    EXT_PROV_TRAITS,
    FULL32,
    FULL64,
    INSTANCE32,
    INSTANCE64,
    MANIFEST_EVENT,
    MESSAGE,
    PERFINFO32,
    PERFINFO64,
    SYSTEM32,
    SYSTEM64,
    TIMED,
    WNODE,
    message_layout,
)
from .payload import Decoded, Schema, decode
from .schema_fit import misfit

# What the saved events of a dump never need is loaded by the first event that does: a minidump is
# read in the time that these modules take.
if TYPE_CHECKING:
    from . import manifests, schemas, wpp

_NARROW = {SYSTEM32, COMPACT32, FULL32, INSTANCE32, PERFINFO32, EVENT32}
MOST_ITEMS = 64  #: extended items of an event
#: those that say what the event means
TELLING_ITEMS = (EXT_EVENT_SCHEMA_TL, EXT_PROV_TRAITS)


class Parts(NamedTuple):
    """An event taken apart, nothing decoded yet."""

    kind: int  #: layouts number
    channel: int
    task: int
    property: int
    items: tuple[tuple[int, bytes], ...]  #: extended items
    data: bytes  #: user data
    pointer: int  #: bytes of a pointer in it


def extended_items(data: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """(kind, bytes) of the extended items that stand at the start, and how long they are."""
    items: list[tuple[int, bytes]] = []
    at, more = 0, True
    while more and at + 8 <= len(data) and len(items) < MOST_ITEMS:
        total, ext, link, size = struct.unpack_from("<HHHH", data, at)
        if total < 8 or at + total > len(data):
            break
        items.append((ext, data[at + 8 : at + 8 + min(size, total - 8)]))
        at += total
        more = bool(link & 1)
    return items, at


def take_apart(event: bytes, kind: int) -> Parts:
    """Header details and user data of one event's bytes."""
    pointer = 4 if kind in _NARROW else 8
    if kind in (EVENT32, EVENT64):
        flags, prop = struct.unpack_from("<HH", event, 4)
        channel, task = event[0x2B], struct.unpack_from("<H", event, 0x2E)[0]
        items: list[tuple[int, bytes]] = []
        at = 0x50
        if flags & EVENT_HEADER_FLAG_EXTENDED_INFO:
            items, size = extended_items(event[at:])
            at += size
        return Parts(kind, channel, task, prop, tuple(items), event[at:], pointer)
    if kind == MESSAGE:
        options = struct.unpack_from("<H", event, 6)[0]
        pointer = 4 if options & 0x40 else 8
        at = message_layout(options)[4]
    elif kind in (PERFINFO32, PERFINFO64):
        word = struct.unpack_from("<H", event, 0)[0]
        at = 0x10 + (8 if word & 0x8000 else 0) + 8 * ((word >> 8) & 7)
    else:
        at = {
            SYSTEM32: 0x20, SYSTEM64: 0x20, COMPACT32: 0x18, COMPACT64: 0x18, FULL32: 0x30,
            FULL64: 0x30, INSTANCE32: 0x48, INSTANCE64: 0x48,
        }.get(kind, 8)  # fmt: skip
        if at == 0x48 and len(event) < 0x48:
            at = 0x38  # EVENT_INSTANCE_HEADER, before log version 1.1
    return Parts(kind, 0, 0, 0, (), event[at:], pointer)


class Described(NamedTuple):
    """A decoded event: names, fields, words, and who told its schema."""

    provider: str
    provider_id: str
    name: str
    fields: Decoded | None
    text: str | Absent
    told_by: str


class Decoder:
    """Everything known about the events of a trace."""

    def __init__(self, manifest_files: Sequence[str] = (), tmf_files: Sequence[str] = ()) -> None:
        self.messages: dict[tuple[str, int], wpp.Message] = {}
        for path in tmf_files:
            from . import wpp

            self.messages.update(wpp.load(path))
        self._given: dict[tuple[str, int, int], Schema] = {}
        self._names: dict[str, str] = {}
        for path in manifest_files:
            from . import manifests

            self._add(manifests.load(path), self._given)
        self._streamed: dict[tuple[str, int, int], Schema] = {}
        self._embedded: dict[tuple[str, int, int], Schema] = {}
        self._classic: dict[tuple[str, int, int], Schema] = {}
        self._maps: schemas.Maps = {}
        self._late: list[bytes] = []
        self._seen = 0

    @cached_property
    def _assembler(self) -> manifests.Assembler:
        from .manifests import Assembler

        return Assembler()

    def _add(
        self, found: Iterable[manifests.Provider], into: dict[tuple[str, int, int], Schema]
    ) -> None:
        for provider in found:
            self._names.setdefault(provider.guid, provider.name)
            for (number, version), schema in provider.events.items():
                into[provider.guid, number, version] = schema

    # -- what the trace says of itself --------------------------------------------------------

    def learn_schema(self, opcode: int, data: bytes) -> None:
        """One event of the embedded-schema provider; maps are needed before events."""
        from . import schemas

        if opcode == schemas.OPCODE_MAP:
            found = schemas.parse_map(data)
            if found is not None:
                self._maps[found[0], found[1]] = (found[2], found[3])
        elif opcode == schemas.OPCODE_EVENT:
            self._late.append(data)

    def learn_name(self, provider_id: str, parts: Parts) -> None:
        """The name a provider gives itself in one of its events."""
        traits = next((x for ext, x in parts.items if ext == EXT_PROV_TRAITS), b"")
        if len(traits) > 2:
            self._names.setdefault(provider_id, tracelogging.provider_name(traits))

    def learn_manifest(self, provider_id: str, process: int, data: bytes) -> None:
        """One chunk of an EventSource manifest."""
        self._assembler.add(provider_id, process, data)

    def settle(self) -> None:
        """Call after the last ``learn``: builds the schemas."""
        from . import schemas

        for blob in self._late:
            found = schemas.parse_event(blob, self._maps)
            if found is None:
                continue
            if found.schema.provider:
                self._names.setdefault(found.provider_id, found.schema.provider)
            if found.classic:
                self._classic[found.event_guid, found.opcode, found.version] = found.schema
            else:
                self._embedded[found.provider_id, found.id, found.version] = found.schema
        self._late = []
        self._add(self._assembler.providers, self._streamed)
        self._assembler.providers = []

    @property
    def counts(self) -> dict[str, int]:
        """How many schemas of each kind are known."""
        return {
            "embedded schemas": len(self._embedded) + len(self._classic),
            "maps": len(self._maps),
            "EventSource manifest events": len(self._streamed),
            "manifest events": len(self._given),
            "WPP messages": len(self.messages),
        }

    @property
    def broken(self) -> list[str]:
        """In-stream manifests that could not be used."""
        return self._assembler.broken + [
            f"{guid}: manifest incomplete" for guid in self._assembler.unfinished
        ]

    # -- events -------------------------------------------------------------------------------

    def provider_name(self, guid: str) -> str:
        """The name of a provider, as far as known."""
        known = self._names.get(guid) or providers.NAMES.get(guid, "")
        if known:
            return known
        from . import mof

        return "Windows Kernel" if mof.group_of(guid) is not None else ""

    def describe(
        self, parts: Parts, guid: str, number: int, version: int, opcode: int
    ) -> Described:
        """One event in words."""
        if parts.kind in (EVENT32, EVENT64):
            return self._modern(parts, guid, number, version)
        if parts.kind == MESSAGE:
            return self._message(parts, guid, number)
        if guid:
            return self._classic_event(parts, guid, version, opcode)
        if parts.kind in (TIMED, ERROR, WNODE):
            return self._unknown(parts, "", f"header type {parts.kind}", "its provider")
        return self._kernel(parts, number >> 8, opcode, version, "")

    def schema_of(
        self, parts: Parts, guid: str, number: int, version: int, opcode: int
    ) -> Schema | None:
        """The schema that alone tells an event; None where its bytes must be looked at."""
        if parts.kind in (EVENT32, EVENT64):
            name = self._named_by(parts, guid)
            item = next((x for ext, x in parts.items if ext == EXT_EVENT_SCHEMA_TL), None)
            schema = None if item is None else tracelogging.schema(item, name)
            known = (self._embedded, self._streamed, self._given)
            key = (guid, number, version)
            schema = schema or next((one[key] for one in known if key in one), None)
            return schema or providers.schema(*key)
        from . import mof, schemas

        if parts.kind == MESSAGE or guid == schemas.GUID:
            return None
        if guid and (guid, opcode, version) in self._classic:
            return self._classic[guid, opcode, version]
        group = mof.group_of(guid) if guid else number >> 8
        if group is None or group == 0x18 or (group == 0 and opcode == 0):
            return None
        return mof.schema(group, opcode, version)

    def _named_by(self, parts: Parts, guid: str) -> str:
        """The name that the event's provider gives itself; its other events have it, too."""
        traits = next((x for ext, x in parts.items if ext == EXT_PROV_TRAITS), b"")
        name = tracelogging.provider_name(traits) if len(traits) > 2 else ""
        if name:
            self._names.setdefault(guid, name)
        return name

    def _modern(self, parts: Parts, guid: str, number: int, version: int) -> Described:
        schema = self.schema_of(parts, guid, number, version, 0)
        if schema is not None:
            told = self._with(schema, parts, guid)
            why = does_not_fit(told.fields, parts.pointer)
            if not why:
                return told
            text = Absent(
                "unknown-layout",
                f"its {len(parts.data)} bytes do not fit the layout known for {schema.name}: {why}",
                "its manifest (--manifest)",
            )
            return Described(told.provider, guid, schema.name, None, text, "")
        if number == 0 and parts.property & EVENT_HEADER_PROPERTY_LEGACY_EVENTLOG:
            entry = providers.error_log_entry(parts.data)
            if entry is not None:
                label = self.provider_name(guid) or entry.schema.provider
                return Described(
                    label, guid, entry.schema.name, entry, providers.error_log_text(entry),
                    "built in",
                )  # fmt: skip
        if number == MANIFEST_EVENT and parts.data[:1] == b"\x01":
            size = len(parts.data)
            return Described(
                self.provider_name(guid), guid, "ManifestData", None,
                f"part of the provider's manifest, {size} bytes", "EventSource manifest",
            )  # fmt: skip
        return self._unknown(parts, guid, f"event {number}", "its manifest (--manifest)")

    def _classic_event(self, parts: Parts, guid: str, version: int, opcode: int) -> Described:
        from . import mof, schemas

        if guid == schemas.GUID:
            what = "map" if opcode == schemas.OPCODE_MAP else "schema"
            return Described(
                "KernelTraceControl", guid, f"Metadata/{what}", None,
                f"embedded {what}, {len(parts.data)} bytes", "embedded schema",
            )  # fmt: skip
        schema = self._classic.get((guid, opcode, version))
        if schema is not None:
            return self._with(schema, parts, guid)
        group = mof.group_of(guid)
        if group is not None:
            return self._kernel(parts, group, opcode, version, guid)
        return self._unknown(parts, guid, f"opcode {opcode}", "its MOF class")

    def _kernel(self, parts: Parts, group: int, opcode: int, version: int, guid: str) -> Described:
        from . import mof

        name = mof.event_name(group, opcode)
        guid = guid or (mof.GROUPS[group].guid if group in mof.GROUPS else "")
        if group == 0 and opcode == 0:
            from .session import describe_header

            text = describe_header(parts.data, parts.pointer)
            return Described("Windows Kernel", guid, name, None, text, "trace header")
        schema = mof.schema(group, opcode, version)
        if schema is None:
            return Described("Windows Kernel", guid, name, None, _no_layout(parts), "")
        described = self._with(schema, parts, guid)
        if group != 0x18 and described.fields is not None and _off(described.fields):
            # A header can tell the writer's width where the payload has the traced machine's.
            other = self._with(schema, parts._replace(pointer=12 - parts.pointer), guid)
            if other.fields is not None and not _off(other.fields):
                described = other
        if group == 0x18 and opcode == 0x20:
            frames = mof.stack_frames(parts.data, parts.pointer)
            shown = " ".join(f"{frame:#x}" for frame in frames[:32])
            return described._replace(text=f"{len(frames)} frames: {shown}")
        return described

    def _message(self, parts: Parts, guid: str, number: int) -> Described:
        message = self.messages.get((guid, number))
        if message is None:
            return self._unknown(parts, guid, f"message {number}", "its TMF file (--tmf)")
        fields, text = message.decode(parts.data, parts.pointer)
        return Described(message.provider, guid, message.name, fields, text, "TMF")

    def _with(self, schema: Schema, parts: Parts, guid: str) -> Described:
        fields = decode(schema, parts.data, parts.pointer)
        name = schema.provider or self.provider_name(guid)
        return Described(name, guid, schema.name, fields, fields.text(), schema.told_by)

    def _unknown(self, parts: Parts, guid: str, name: str, would_tell: str) -> Described:
        if not parts.data:
            return Described(self.provider_name(guid), guid, name, None, "", "")
        why = Absent("not-found", f"no schema for its {len(parts.data)} bytes", would_tell)
        return Described(self.provider_name(guid), guid, name, None, why, "")


def does_not_fit(fields: Decoded | None, pointer: int) -> str:
    """Why a built-in layout is not that of an event; what the trace tells of itself holds."""
    return misfit(fields, pointer) if fields and fields.schema.told_by == "built in" else ""


def _off(fields: Decoded) -> bool:
    """True when a schema does not fit its payload to the byte."""
    return bool(fields.missing or fields.left)


def _no_layout(parts: Parts) -> str | Absent:
    if not parts.data:
        return ""
    return Absent("unknown-layout", f"no layout for its {len(parts.data)} bytes")
