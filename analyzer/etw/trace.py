"""A trace: its session, its buffers, and its events as columns, rows or a DataFrame, lazily.

Invariant: nothing is read before it is asked for; ``rows()`` needs memory for a few groups of
buffers, however long the trace; every figure of :attr:`Trace.account` is of one full pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..absence import Absent
from ..errors import InputError, UnsupportedError
from ..files import Bytes, FileBytes
from ..records import Origin
from .buffers import Account, Array, Block, Buffers, blocks, expanded, read_buffers
from .clock import NO_TIME, Clock
from .decode import Decoder, take_apart
from .index import COLUMNS, Providers, columns, sort_key, time_order
from .layouts import (
    EVENT32,
    EVENT64,
    EVENT_TRACE_NO_PER_PROCESSOR_BUFFERING,
    MANIFEST_EVENT,
    SYSTEM64,
)
from .schemas import GUID as SCHEMA_GUID
from .session import Session, parse_log_header, read_session
from .stated_counts import sequence_gaps
from .walk import Walk, walk


class Index(NamedTuple):
    """Columns in file order and the row order by time (None: already in order)."""

    columns: dict[str, Array]
    order: Array | None

    def __len__(self) -> int:
        return len(self.columns["ts"])

    def sorted(self, name: str) -> Array:
        """One column in time order."""
        column = self.columns[name]
        return column if self.order is None else column.take(self.order)


class Trace:
    """The events of one session."""

    def __init__(
        self, data: FileBytes, session: Session, buffers: Buffers, account: Account, path: str = "",
        base: int = 0, how: str = "event header",
    ) -> None:  # fmt: skip
        self.path, self.session, self.buffers, self.account = path, session, buffers, account
        self.data, self.base, self.how = data, base, how
        self.providers = Providers()
        self.decoder = Decoder()
        self._cache: dict[int, bytes] = {}  # expanded buffers, most recent last
        self._named = 1  # providers whose names were looked for
        self._places: list[tuple[int, int]] | None = None
        self.hook_groups: set[int] = set()  #: groups of kernel events seen in the first pass
        self.addresses: Array | None = None  #: of each buffer, when they were read from memory
        self.other_headers: list[Session] = []  #: of appended sessions with another clock
        self._schemas = 0  # number of the embedded-schema provider
        self._index: Index | None = None
        self._summary: Array | None = None
        self._latest = NO_TIME  # timestamp of the last event

    @classmethod
    def open(cls, path: str) -> Trace:
        """Reads the buffer headers of the file."""
        data = FileBytes(path)
        if not data.size:
            raise InputError(path, "the file is empty", expected="an ETW trace")
        return cls._of(data, path)

    @classmethod
    def of_bytes(cls, data: Bytes, path: str = "trace") -> Trace:
        """A trace from all bytes of a file."""
        return cls._of(FileBytes.of(bytes(data), path), path)

    @classmethod
    def _of(cls, data: FileBytes, path: str) -> Trace:
        if len(data) < 0x48 + 8:
            raise InputError(
                path, "too short for a trace", expected="80 bytes", found=f"{len(data)} bytes"
            )
        session = read_session(data[: 0x48 + 0x10000])
        account = Account(len(data))
        buffers = read_buffers(data, session.buffer_size, session.compressed, account)
        if not session.has_header and not _has_events(buffers):
            raise UnsupportedError(path, "not an ETW trace", offset=0, expected="a buffer header")
        return cls(data, session, buffers, account, path)

    # -- one full pass ------------------------------------------------------------------------

    def _pass(self, account: Account) -> Iterator[tuple[Block, Walk]]:
        """(block, walk) of every group, in file order."""
        for block in blocks(self.buffers, account):
            walked = walk(block)
            self._account(account, block, walked)
            yield block, walked

    def _account(self, account: Account, block: Block, walked: Walk) -> None:
        table = self.buffers.table[block.numbers]
        raw = (table["flags"] & 0x40) == 0
        used = walked.used
        bad = np.zeros(len(used), np.int64)
        for hit in walked.damage:
            bad[hit.lane] += hit.end - hit.start
            row = table[hit.lane]
            at = self.base + int(row["offset"]) + 0x48 + hit.start - int(block.starts[hit.lane])
            text = (
                f"{hit.recovered} events found behind the damage" if hit.recovered
                else "the rest of this buffer is lost"
            )  # fmt: skip
            account.note("event", at, text)
            account.events_recovered += hit.recovered
        for event in walked.swallowed:
            at = event.start - int(block.starts[event.lane])
            at += self.base + int(table[event.lane]["offset"]) + 0x48
            account.note("size", at, f"{event.events}")
        stored = table["stride"] - 0x48
        account.bytes_events += int((used - bad)[raw].sum())
        account.bytes_skipped += int(bad[raw].sum())
        account.bytes_unused += int((stored - used)[raw].sum())

    @property
    def _buffer_summary(self) -> Array:
        """(events, first sort key) of each buffer; the first call makes the pass that accounts."""
        if self._summary is None:
            summary = np.zeros((len(self.buffers.table), 2), np.int64)
            summary[:, 1] = NO_TIME
            account = Account(len(self.data))
            cpu = self.buffers.table["cpu"]
            for block, walked in self._pass(account):
                self._summarise(summary, block, walked, cpu)
            self._finish(account, summary)
        assert self._summary is not None
        return self._summary

    def span(self) -> tuple[int, int] | None:
        """Time of the first and of the last event, ns since 1970; None where not both are known."""
        first = self._buffer_summary[:, 1]
        first = first[first != NO_TIME]
        if not len(first):
            return None
        low, high = self.clock.ns(int(first.min())), self.clock.ns(self._latest)
        return None if isinstance(low, Absent) or isinstance(high, Absent) else (low, high)

    def _summarise(
        self, summary: Array, block: Block, walked: Walk, cpu: Array
    ) -> dict[str, Array]:
        cols = columns(block, walked, cpu, self.providers)
        counts = walked.bounds[1:] - walked.bounds[:-1]
        summary[block.numbers, 0] = counts
        self._first_times(summary, block.numbers[counts > 0], walked.bounds[:-1][counts > 0], cols)
        if self._summary is None:
            self._latest = max(self._latest, int(cols["ts"].max(initial=NO_TIME)))
            self._learn(block, walked, cols)
        return cols

    def _first_times(
        self, summary: Array, numbers: Array, first: Array, cols: dict[str, Array]
    ) -> None:
        if not len(numbers):
            return
        low = np.minimum.reduceat(cols["ts"], first)
        if (low == NO_TIME).any():
            late = np.where(cols["ts"] == NO_TIME, (1 << 63) - 1, cols["ts"])
            low = np.minimum.reduceat(late, first)
            low[low == (1 << 63) - 1] = NO_TIME
        summary[numbers, 1] = low

    def _finish(self, account: Account, summary: Array) -> None:
        seen = self.account
        if self._summary is None:
            for name in ("bytes_events", "bytes_compressed", "bytes_unused", "events_recovered"):
                setattr(seen, name, getattr(account, name))
            seen.bytes_skipped += account.bytes_skipped
            for note in account.notes:
                seen.note(*note)
            self.decoder.settle()
        self._summary = summary

    def _learn(self, block: Block, walked: Walk, cols: dict[str, Array]) -> None:
        """Collects what the trace says of its own events: names, schemas, manifests."""

        def event(k: int) -> bytes:
            at = int(walked.slots[k]) * 8
            return bytes(block.data[at : at + int(walked.sizes[k])].tobytes())

        numbers, ids, types = cols["provider"], cols["id"], cols["type"]
        guids = self.providers.guids
        for number in range(self._named, len(guids)):
            k = int(np.argmax(numbers == number))
            if guids[number] == SCHEMA_GUID:
                self._schemas = number
            if types[k] in (EVENT32, EVENT64):
                self.decoder.learn_name(guids[number], take_apart(event(k), EVENT64))
        self._named = len(guids)
        groups = ids.view(np.uint8)[1::2]  # of kernel events; messages without a provider, too
        if numbers.any():
            groups = groups[numbers == 0]
        seen = np.zeros(256, bool)
        seen[groups] = True
        self.hook_groups.update(seen.nonzero()[0].tolist())
        if seen[0]:
            for k in ((ids == 0) & (types <= SYSTEM64)).nonzero()[0].tolist():
                if block.first or k:  # the very first is the session's own
                    self._another_header(event(k))
        if self._schemas:
            for k in (numbers == self._schemas).nonzero()[0].tolist():
                kind = int(cols["type"][k])
                parts = take_apart(event(k), kind)
                self.decoder.learn_schema(int(cols["opcode"][k]), parts.data)
        for k in (ids == MANIFEST_EVENT).nonzero()[0].tolist():
            if types[k] in (EVENT32, EVENT64):
                guid = self.providers.guids[int(numbers[k])]
                parts = take_apart(event(k), EVENT64)
                self.decoder.learn_manifest(guid, int(cols["pid"][k]), parts.data)

    def _another_header(self, event: bytes) -> None:
        """Keeps the header of an appended session unless its clock goes on like the first."""
        told = parse_log_header(event, self.session.logger_id)
        mine = self.session.clock
        if told is None or not mine.known or len(self.other_headers) >= 100:
            return
        clock = told.clock
        same = (clock.kind, clock.frequency) == (mine.kind, mine.frequency)
        ts = int.from_bytes(event[0x10:0x18], "little", signed=True)
        if not same or abs(mine.filetime(ts) - told.start_time) > 20_000_000:  # two seconds
            self.other_headers.append(told)

    def __len__(self) -> int:
        if self._index is not None:
            return len(self._index)
        return int(self._buffer_summary[:, 0].sum())

    # -- columns ------------------------------------------------------------------------------

    def index(self) -> Index:
        """All header columns and the time order; kept for later calls."""
        if self._index is None:
            parts: dict[str, list[Array]] = {name: [] for name in COLUMNS}
            summary = np.zeros((len(self.buffers.table), 2), np.int64)
            summary[:, 1] = NO_TIME
            account = Account(len(self.data))
            cpu = self.buffers.table["cpu"]
            for block, walked in self._pass(account):
                for name, column in self._summarise(summary, block, walked, cpu).items():
                    parts[name].append(column)
            whole: dict[str, Array] = {}
            for name, kind in COLUMNS.items():
                pieces = parts.pop(name)
                whole[name] = (
                    pieces[0] if len(pieces) == 1
                    else np.concatenate(pieces) if pieces else np.zeros(0, kind)
                )  # fmt: skip
                del pieces
            self._finish(account, summary)
            self._index = Index(whole, time_order(whole["ts"]))
        return self._index

    def chunks(self) -> Iterator[dict[str, Array]]:
        """Columns in time order, group by group, in bounded memory.

        Buffers are taken in order of their first event; what is older than the first event of all
        buffers not yet read is complete and leaves.
        """
        summary = self._buffer_summary
        order = np.argsort(summary[:, 1], kind="stable")
        first = summary[order, 1]
        cpu = self.buffers.table["cpu"]
        held: dict[str, Array] | None = None
        done = 0
        for block in blocks(self.buffers, None, order=order):
            walked = walk(block)
            cols = columns(block, walked, cpu, self.providers)
            done += len(block.numbers)
            if held is not None:
                cols = {k: np.concatenate((held[k], v)) for k, v in cols.items()}
            key = sort_key(cols["ts"])
            rows = np.argsort(key, kind="stable")
            if done < len(order):
                cut = int(np.searchsorted(key[rows], first[done], side="left"))
            else:
                cut = len(rows)
            held = {k: v[rows[cut:]] for k, v in cols.items()}
            if cut:
                yield {k: v[rows[:cut]] for k, v in cols.items()}

    # -- facts --------------------------------------------------------------------------------

    @property
    def clock(self) -> Clock:
        """The session's clock."""
        return self.session.clock

    def first_times(self) -> Array:
        """The earliest timestamp of each buffer, NO_TIME where it has none."""
        return self._buffer_summary[:, 1]

    def gaps(self) -> list[tuple[int, int, int]]:
        """Missing buffer sequence numbers."""
        return sequence_gaps(self.buffers.table)

    @property
    def no_processor(self) -> bool:
        """True when the session has one buffer stream, so its processor numbers mean nothing."""
        return bool(self.session.mode & EVENT_TRACE_NO_PER_PROCESSOR_BUFFERING)

    @property
    def may_have_lost_buffers(self) -> bool:
        """False when a closed session says that it lost nothing."""
        return not self.session.finalised or bool(
            self.session.buffers_lost or self.session.events_lost
        )

    def provider_numbers(self, wanted: str) -> list[int]:
        """Numbers of the providers with this name or GUID; kernel events are number 0."""
        len(self)  # names are learnt in the first pass
        key = wanted.strip("{} ").lower()
        found = [
            number for number, guid in enumerate(self.providers.guids)
            if number and key in (guid, self.decoder.provider_name(guid).lower())
        ]  # fmt: skip
        return found + ([0] if key in ("windows kernel", "kernel") else [])

    def event_bytes(self, buffer: int, offset: int, size: int) -> bytes:
        """The bytes of one event, header included."""
        row = self._rows[buffer]
        if not row[1] & 0x40:
            at = row[0] + offset
            return self.data[at : at + size]
        raw = self._cache.get(buffer)
        if raw is None:
            raw = expanded(self.buffers, buffer)
            while self._cache and sum(map(len, self._cache.values())) > 16 << 20:
                del self._cache[next(iter(self._cache))]
            self._cache[buffer] = raw
        return raw[offset - 0x48 : offset - 0x48 + size]

    def gather(self, buffer: Array, offset: Array, size: Array) -> tuple[bytes, Array]:
        """Bytes that hold some events, headers included, and where each begins in them."""
        order = np.argsort(buffer, kind="stable")
        numbers, first = np.unique(buffer[order], return_index=True)
        lows = np.minimum.reduceat(offset[order], first).astype(np.int64)
        highs = np.maximum.reduceat((offset.astype(np.int64) + size)[order], first)
        pieces, bases, at = [], np.zeros(len(numbers), np.int64), 0
        spans = zip(numbers.tolist(), lows.tolist(), highs.tolist())
        for k, (number, low, high) in enumerate(spans):
            bases[k] = at - low
            pieces.append(self.event_bytes(number, low, high - low).ljust(high - low, b"\0"))
            at += high - low
        return b"".join(pieces), bases[np.searchsorted(numbers, buffer)] + offset

    @property
    def _rows(self) -> list[tuple[int, int]]:
        """(offset, flags) of every buffer as plain numbers."""
        if self._places is None:
            table = self.buffers.table
            self._places = list(zip(table["offset"].tolist(), table["flags"].tolist()))
        return self._places

    def origin(self, buffer: int, offset: int) -> Origin:
        """Where one event was found: in the file, or at an address of the target's memory."""
        at, how = self.origin_of(buffer, offset)
        if self.addresses is not None:
            address = int(self.addresses[buffer]) + offset
            return Origin(self.path, how, "certain", None, address)
        return Origin(self.path, how, "certain", at)

    def origin_of(self, buffer: int, offset: int) -> tuple[int, str]:
        """File offset of an event and how it was found; of a compressed buffer, the buffer's."""
        at, flags = self._rows[buffer]
        if flags & 0x40:
            return self.base + at, f"{self.how}, +{offset:#x} in the expanded buffer"
        return self.base + at + offset, self.how

    def origins_of(self, buffers: Array, offsets: Array) -> tuple[Array, list[str]]:
        """The same for many events."""
        table = self.buffers.table
        packed = (table["flags"][buffers] & 0x40) != 0
        at = self.base + table["offset"][buffers] + np.where(packed, 0, offsets)
        if not packed.any():
            return at, [self.how] * len(at)
        return at, [
            f"{self.how}, +{o:#x} in the expanded buffer" if p else self.how
            for o, p in zip(offsets.tolist(), packed.tolist())
        ]


def _has_events(buffers: Buffers) -> bool:
    """True when at least one of the first buffers holds an event."""
    first = next(blocks(buffers, None, limit=1 << 20), None)
    return first is not None and len(walk(first).slots) > 0
