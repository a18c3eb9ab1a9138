"""Headers of events as columns: one numpy array per field, whatever the kind of header.

Invariant: row k of every column is the same event; columns are in file order and ``order`` sorts
them by time, stably, so equal times keep the order of the buffers. Payloads stay where they are.
"""

from __future__ import annotations

import numpy as np

from .buffers import Array, Block
from .clock import NO_TIME
from .layouts import (
    BUFFER_HEADER_SIZE,
    EVENT32,
    EVENT64,
    FULL32,
    FULL64,
    INSTANCE32,
    INSTANCE64,
    MESSAGE,
    PERFINFO32,
    PERFINFO64,
    guid_text,
    message_layout,
)
from .walk import Walk

#: column -> dtype, 44 bytes an event
COLUMNS: dict[str, str] = {
    "buffer": "i4",  # number of the buffer
    "offset": "i4",  # of the event in its (expanded) buffer, header included
    "ts": "i8",  # session clock
    "size": "u2",
    "type": "u1",  # layouts numbers
    "cpu": "u2",
    "tid": "u4",
    "pid": "u4",
    "provider": "u2",  # index into Providers; 0 = none (kernel events)
    "id": "u2",  # event id; hook id of kernel events; message number of WPP
    "version": "u1",
    "opcode": "u1",
    "level": "u1",
    "keyword": "u8",
}
NO_ID = 0xFFFFFFFF  # thread or process not recorded

_OTHER, _SYSTEM, _PERF, _EVENT, _CLASSIC, _MESSAGE = (1 << k for k in range(6))
_LAYOUT = np.full(256, _OTHER, np.uint8)  # one bit per header layout
_LAYOUT[[1, 2, 3, 4]] = _SYSTEM
_LAYOUT[[PERFINFO32, PERFINFO64]] = _PERF
_LAYOUT[[EVENT32, EVENT64]] = _EVENT
_LAYOUT[[FULL32, FULL64, INSTANCE32, INSTANCE64]] = _CLASSIC
_LAYOUT[MESSAGE] = _MESSAGE
_BUCKETS = 1 << 12
_MIX = np.uint64(0x9E3779B97F4A7C15)


class Providers:
    """The provider GUIDs of a trace, numbered in order of appearance; number 0 is "none"."""

    def __init__(self) -> None:
        self.guids: list[str] = [""]
        self._number: dict[tuple[int, int], int] = {(0, 0): 0}
        # A direct-mapped cache of GUIDs: almost every event hits it with three vector steps.
        self._low = np.zeros(_BUCKETS, np.uint64)
        self._high = np.zeros(_BUCKETS, np.uint64)
        self._cached = np.zeros(_BUCKETS, np.uint16)

    def number(self, low: int, high: int) -> int:
        """The number of one GUID; a trace with more than 65,535 puts the rest under 0."""
        known = self._number.get((low, high))
        if known is None:
            known = len(self.guids) if len(self.guids) < 0xFFFF else 0
            self._number[low, high] = known
            if known:
                self.guids.append(guid_text(low, high))
        return known

    def numbers(self, low: Array, high: Array) -> Array:
        """The numbers of many GUIDs given by their halves."""
        bucket = high >> np.uint64(7)
        bucket ^= low
        bucket *= _MIX
        bucket >>= np.uint64(52)
        bucket = bucket.view(np.int64)
        # Few GUIDs make most events: a sample finds those, then the others are looked up.
        self._remember(bucket[::64], low[::64], high[::64])
        out = self._cached.take(bucket)
        missed = self._unlike(bucket, low, high)
        while len(missed):  # once more for each GUID that shares its place with another
            places, first, second = bucket[missed], low[missed], high[missed]
            self._remember(places, first, second)
            out[missed] = self._cached.take(places)
            missed = missed[self._unlike(places, first, second)]
        return out

    def _unlike(self, bucket: Array, low: Array, high: Array) -> Array:
        other: Array = self._low.take(bucket) != low
        other |= self._high.take(bucket) != high
        return other.nonzero()[0]

    def _remember(self, bucket: Array, low: Array, high: Array) -> None:
        """Puts into each place that would miss one of the GUIDs that belong there."""
        missed = self._unlike(bucket, low, high)
        if not len(missed):
            return
        chosen = np.empty(_BUCKETS, np.int64)
        chosen[bucket[missed]] = missed
        for k in missed[chosen[bucket[missed]] == missed].tolist():
            at, first, second = int(bucket[k]), int(low[k]), int(high[k])
            self._low[at], self._high[at] = first, second
            self._cached[at] = self.number(first, second)


def columns(block: Block, walked: Walk, cpu: Array, providers: Providers) -> dict[str, Array]:
    """The columns of one block; ``cpu`` gives the processor of each buffer of the trace."""
    if not len(walked.slots):
        return {name: np.zeros(0, kind) for name, kind in COLUMNS.items()}
    counts = walked.bounds[1:] - walked.bounds[:-1]  # events lie buffer by buffer
    offset = walked.slots.astype(np.int32)
    offset <<= 3
    offset -= np.repeat((block.starts - BUFFER_HEADER_SIZE).astype(np.int32), counts)
    out: dict[str, Array] = {
        "buffer": np.repeat(block.numbers.astype(np.int32), counts),
        "offset": offset,
        "size": walked.sizes,
        "type": walked.types,
        "cpu": np.repeat(cpu[block.numbers], counts),
    }
    _fill(out, block.data[: len(block.data) & ~7].view(np.uint64), walked.slots, providers)
    return {name: out[name] for name in COLUMNS}


def _headers(words: Array, slots: Array, width: int) -> Array:
    """The first ``width`` words of each event: one copy, of which every column is a view."""
    windows = np.ndarray(
        (max(len(words) - width + 1, 0),), f"V{8 * width}", words, strides=(8,)
    )  # fmt: skip
    inside = int(slots.searchsorted(len(windows)))
    if inside == len(slots):
        return windows[slots].view(np.uint64).reshape(-1, width)
    out = np.zeros((len(slots), width), np.uint64)
    out[:inside] = windows[slots[:inside]].view(np.uint64).reshape(-1, width)
    for row in range(inside, len(slots)):  # short events at the very end
        rest = words[slots[row] : slots[row] + width]
        out[row, : len(rest)] = rest
    return out


def _fill(out: dict[str, Array], words: Array, slots: Array, providers: Providers) -> None:
    """The columns whose place depends on the layout of the header."""
    layout: Array = _LAYOUT.take(out["type"])
    present = int(np.bitwise_or.reduce(layout))
    kernel, provided = _SYSTEM | _PERF, _EVENT | _CLASSIC
    q = _headers(words, slots, 8 if present & ~kernel else 3)
    d, w, b = q.view(np.uint32), q.view(np.uint16), q.view(np.uint8)
    out["ts"] = q[:, 2].view(np.int64).copy()
    out["tid"], out["pid"] = d[:, 2].copy(), d[:, 3].copy()
    if present & (_PERF | _OTHER):
        bare = (layout & (_PERF | _OTHER)) != 0
        out["ts"] = np.where(bare, q[:, 1].view(np.int64), out["ts"])
        out["tid"] = np.where(bare, NO_ID, out["tid"])
        out["pid"] = np.where(bare, NO_ID, out["pid"])
        if present & _OTHER:
            out["ts"][layout == _OTHER] = NO_TIME

    names = ("id", "version", "opcode", "level", "keyword")
    groups: list[tuple[int, tuple[Array | int, ...]]] = [
        (kernel, (w[:, 3], b[:, 0], b[:, 6], 0, 0)),
        (_OTHER | _MESSAGE, (0, 0, 0, 0, 0)),
    ]
    if present & provided:
        groups += [
            (_CLASSIC, (0, b[:, 6], b[:, 4], b[:, 5], 0)),
            (_EVENT, (w[:, 0x28 // 2], b[:, 0x2A], b[:, 0x2D], b[:, 0x2C], q[:, 6])),
        ]
    members = [np.count_nonzero(layout & kinds) for kinds, _ in groups]
    most = int(np.argmax(members))
    for name, value in zip(names, groups.pop(most)[1]):
        out[name] = np.empty(len(slots), COLUMNS[name])
        out[name][:] = value  # of all, then the others' over it
    for kinds, values in groups:
        if not present & kinds:
            continue
        mine = (layout & kinds) != 0
        few = mine.nonzero()[0]
        for name, value in zip(names, values):
            if len(few) * 16 > len(slots):
                out[name] = np.where(mine, value, out[name])
            else:
                out[name][few] = value if isinstance(value, int) else value[few]
    out["provider"] = np.zeros(len(slots), COLUMNS["provider"])
    if not present & ~provided:
        out["provider"] = providers.numbers(q[:, 3].copy(), q[:, 4].copy())
    elif present & provided:
        rows = (layout & provided).nonzero()[0]
        out["provider"][rows] = providers.numbers(q[rows, 3], q[rows, 4])
    if present & _MESSAGE:
        rows = (layout == _MESSAGE).nonzero()[0]
        _fill_messages(out, rows, d[rows], w[rows], providers)


def _fill_messages(
    out: dict[str, Array], rows: Array, d: Array, w: Array, providers: Providers
) -> None:
    out["id"][rows] = w[:, 2]
    options = w[:, 3]
    for value in np.unique(options).tolist():
        mine = np.flatnonzero(options == value)
        target, part = rows[mine], d[mine].astype(np.uint64)
        guid, _, time, thread, _ = message_layout(value)

        def long(at: int, part: Array = part) -> Array:
            found: Array = part[:, at // 4] | part[:, at // 4 + 1] << np.uint64(32)
            return found

        # A message shorter than its options say holds the next event there: then it has no time.
        whole = out["size"][target] >= message_layout(value)[4]
        out["ts"][target] = (
            np.where(whole, long(time).view(np.int64), NO_TIME) if time > 0 else (NO_TIME)
        )
        out["tid"][target] = part[:, thread // 4] if thread > 0 else NO_ID
        out["pid"][target] = part[:, thread // 4 + 1] if thread > 0 else NO_ID
        if guid > 0:
            numbers = providers.numbers(long(guid), long(guid + 8))
            out["provider"][target] = np.where(whole, numbers, 0)


def sort_key(ts: Array) -> Array:
    """The timestamps with gaps filled from the event before, so that untimed events keep place."""
    gaps = ts == NO_TIME
    if not gaps.any():
        return ts
    at = np.where(gaps, 0, np.arange(len(ts)))
    np.maximum.accumulate(at, out=at)
    return ts[at]


def time_order(ts: Array) -> Array | None:
    """Row numbers in time order, None when the rows are in order already."""
    key = sort_key(ts)
    if len(key) < 2 or bool((key[1:] >= key[:-1]).all()):
        return None
    return np.argsort(key, kind="stable")
