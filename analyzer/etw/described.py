"""Events in words, many at once: events of one kind and one schema are taken together.

Invariant: an event is described as :meth:`.decode.Decoder.describe` describes it alone. Events of
TraceLogging share a schema when their schema items have the same bytes; their ids say nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..absence import Absent
from . import tracelogging
from .batch import Bytes, Many, Payloads
from .buffers import Array
from .decode import (
    MOST_ITEMS,
    TELLING_ITEMS,
    Described,
    Parts,
    does_not_fit,
    extended_items,
    take_apart,
)
from .layouts import (
    EVENT32,
    EVENT64,
    EVENT_HEADER_FLAG_EXTENDED_INFO,
    EVENT_HEADER_PROPERTY_LEGACY_EVENTLOG,
    EXT_EVENT_SCHEMA_TL,
    INSTANCE32,
    INSTANCE64,
    MANIFEST_EVENT,
    MESSAGE,
    PERFINFO32,
    PERFINFO64,
)
from .payload import Decoded
from .trace import Trace

NO_PROVIDER = Absent("not-found", "the provider's name is not known")
_MODERN_HEADER = 0x50


class DescribedEvents:
    """Columns of what was decoded of some events."""

    def __init__(self, count: int) -> None:
        self.provider, self.provider_id = np.empty(count, object), np.empty(count, object)
        self.name, self.text = np.empty(count, object), np.empty(count, object)
        self.channel = np.zeros(count, np.uint8)
        self.task = np.zeros(count, np.uint16)
        self._rows = np.empty(count, object)

    def put(self, rows: Array | list[int], one: Described) -> None:
        """Events that say the same."""
        for column, value in (
            (self.provider, one.provider or NO_PROVIDER),
            (self.provider_id, one.provider_id or NO_PROVIDER),
            (self.name, one.name),
            (self.text, one.text),
            (self._rows, one),
        ):
            column[rows] = _alone(value)

    def put_all(
        self, rows: Array, common: Described, texts: list[str], fields: Sequence[Decoded]
    ) -> None:
        """Events of one schema."""
        self.put(rows, common)
        self.text[rows] = np.array(texts, object)
        for row, text, values in zip(rows.tolist(), texts, fields):
            self._rows[row] = common._replace(fields=values, text=text)

    def rows(self) -> Iterator[Described]:
        """Event by event, with fields where they were asked for."""
        return iter(self._rows)


def _alone(value: object) -> Array:
    """A value as one cell: numpy would take an Absent, which is a tuple, apart."""
    cell = np.empty(1, object)
    cell[0] = value
    return cell


def _tells_all(items: tuple[tuple[int, bytes], ...]) -> bool:
    """True when there is a schema item that can be read."""
    item = next((data for kind, data in items if kind == EXT_EVENT_SCHEMA_TL), None)
    return item is not None and tracelogging.schema(item) is not None


def describe(trace: Trace, cols: dict[str, Array], with_fields: bool = False) -> DescribedEvents:
    """What the rows of some columns say."""
    out = DescribedEvents(len(cols["ts"]))
    if len(cols["ts"]):
        _Batch(trace, cols).fill(out, with_fields)
    return out


class _Batch:
    """Some events and their bytes."""

    def __init__(self, trace: Trace, cols: dict[str, Array]) -> None:
        self._trace, self._cols = trace, cols
        self._raw, self._starts = trace.gather(cols["buffer"], cols["offset"], cols["size"])
        self._bytes = Bytes(self._raw)
        self._data = self._bytes.data
        self._ends = self._starts + cols["size"]
        kinds = cols["type"]
        self._modern = np.flatnonzero((kinds == EVENT32) | (kinds == EVENT64))
        #: of modern events; of others the length of the header is that of their kind
        self._payloads = self._starts + _MODERN_HEADER

    def _u16(self, rows: Array, offset: int) -> Array:
        at = self._starts[rows] + offset
        found: Array = self._data[at].astype(np.uint16)
        found |= self._data[at + 1].astype(np.uint16) << 8
        return found

    def fill(self, out: DescribedEvents, with_fields: bool) -> None:
        """Describes all of them."""
        modern = self._modern
        out.channel[modern] = self._data[self._starts[modern] + 0x2B]
        out.task[modern] = self._u16(modern, 0x2E)
        for rows in self._groups():
            self._describe(rows, out, with_fields)

    # -- which belong together -----------------------------------------------------------------

    def _groups(self) -> list[Array]:
        """Rows that share all that decides what their payload means."""
        cols, kinds, modern = self._cols, self._cols["type"], self._modern
        key = np.zeros(len(kinds), np.int64)
        for name, bits in (("id", 16), ("version", 8), ("opcode", 8)):
            key = key << bits | cols[name]
        more = np.zeros(len(key), np.int64)
        legacy = self._u16(modern, 6) & EVENT_HEADER_PROPERTY_LEGACY_EVENTLOG
        items, tells_all = self._items()
        key[modern[tells_all]] = 0
        more[modern] = items << 1 | (legacy != 0)
        key |= cols["type"].astype(np.int64) << 56 | cols["provider"].astype(np.int64) << 40
        messages = np.flatnonzero(kinds == MESSAGE)
        more[messages] = self._u16(messages, 6)  # which parts the header has
        counted = np.flatnonzero((kinds == PERFINFO32) | (kinds == PERFINFO64))
        more[counted] = self._u16(counted, 0) >> 8 & 0x87
        instances = np.flatnonzero((kinds == INSTANCE32) | (kinds == INSTANCE64))
        more[instances] = cols["size"][instances] < 0x48
        which = np.unique(key, return_inverse=True)[1].reshape(-1).astype(np.int64)
        which = np.unique(which * (int(more.max()) + 1) + more, return_inverse=True)[1].reshape(-1)
        order = np.argsort(which, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(which[order])) + 1)

    def _items(self) -> tuple[Array, Array]:
        """Of each modern event a number for what its extended items mean; whether they tell all."""
        modern = self._modern
        numbers = np.zeros(len(modern), np.int64)
        flags = self._u16(modern, 4)
        extended = np.flatnonzero((flags & EVENT_HEADER_FLAG_EXTENDED_INFO) != 0)
        known: dict[tuple[tuple[int, bytes], ...], int] = {}
        heads: dict[bytes, int] = {}
        found, payloads = [], []
        raw = self._raw
        rows = modern[extended]
        for low, stop in zip(self._payloads[rows].tolist(), self._ends[rows].tolist()):
            at, left = low, MOST_ITEMS
            while left and at + 8 <= stop:
                size = raw[at] | raw[at + 1] << 8
                if size < 8 or at + size > stop:
                    break
                left = left - 1 if raw[at + 4] & 1 else 0
                at += size
            head = raw[low:at]
            number = heads.get(head)
            if number is None:
                telling = tuple(
                    item for item in extended_items(head)[0] if item[0] in TELLING_ITEMS
                )
                number = known.setdefault(telling, len(known) + 1)
                if len(heads) < 4096:  # stacks among the items make each head another one
                    heads[head] = number
            found.append(number)
            payloads.append(at)
        numbers[extended] = found
        self._payloads[rows] = payloads
        whole = np.array([False, *map(_tells_all, known)])
        return numbers, whole[numbers]

    # -- what they say -------------------------------------------------------------------------

    def _describe(self, rows: Array, out: DescribedEvents, with_fields: bool) -> None:
        first, decoder = int(rows[0]), self._trace.decoder
        about = self._about(first)
        parts = self._parts(first)
        schema = decoder.schema_of(parts, *about)
        if schema is None:
            self._one_by_one(rows, out, about)
            return
        common = decoder.describe(parts, *about)
        is_modern = parts.kind in (EVENT32, EVENT64)
        header = int(self._ends[first] - self._starts[first]) - len(parts.data)
        starts = self._payloads[rows] if is_modern else self._starts[rows] + header
        payloads = Payloads(self._bytes, starts, self._ends[rows], parts.pointer)
        many = Many(schema, payloads)
        texts = many.texts()
        out.put_all(rows, common, texts, many.decoded() if with_fields else ())
        if schema.told_by == "built in":
            for row, one in zip(rows.tolist(), many.decoded()):
                if does_not_fit(one, parts.pointer):
                    out.put([row], decoder.describe(self._parts(row), *about))
        if not is_modern:  # a kernel event may have the pointers of another machine
            for place in many.is_off():
                row = int(rows[place])
                out.put([row], decoder.describe(self._parts(row), *about))

    def _one_by_one(
        self, rows: Array, out: DescribedEvents, about: tuple[str, int, int, int]
    ) -> None:
        """Events whose bytes tell what they are, and those of which only the length is told."""
        decoder = self._trace.decoder
        opaque: dict[int, tuple[Described, list[int]]] = {}
        for row, size in zip(rows.tolist(), self._cols["size"][rows].tolist()):
            if size in opaque:
                opaque[size][1].append(row)
                continue
            parts = self._parts(row)
            one = decoder.describe(parts, *about)
            is_plain = not (one.told_by or one.fields is not None or parts.items)
            is_legacy = parts.property & EVENT_HEADER_PROPERTY_LEGACY_EVENTLOG
            if is_plain and not is_legacy and about[1] != MANIFEST_EVENT:
                opaque[size] = one, [row]
            else:
                out.put([row], one)
        for one, alike in opaque.values():
            out.put(alike, one)

    def _about(self, row: int) -> tuple[str, int, int, int]:
        """Provider, id, version and opcode."""
        cols = self._cols
        guid = self._trace.providers.guids[int(cols["provider"][row])]
        return guid, int(cols["id"][row]), int(cols["version"][row]), int(cols["opcode"][row])

    def _parts(self, row: int) -> Parts:
        event = self._raw[self._starts[row] : self._ends[row]]
        return take_apart(event, int(self._cols["type"][row]))
