"""Headers of events as columns: one numpy array per field, whatever the kind of header.

Invariant: row k of every column is the same event; columns are in file order and ``order`` sorts
them by time, stably, so equal times keep the order of the buffers. Payloads stay where they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .buffers import Block
from .clock import NO_TIME
from .layouts import (
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

Array = Any

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

_SYSTEM, _PERF, _EVENT, _CLASSIC, _MESSAGE = 1, 2, 3, 4, 5
_CLASS = np.zeros(256, np.uint8)
_CLASS[[1, 2, 3, 4]] = _SYSTEM
_CLASS[[PERFINFO32, PERFINFO64]] = _PERF
_CLASS[[EVENT32, EVENT64]] = _EVENT
_CLASS[[FULL32, FULL64, INSTANCE32, INSTANCE64]] = _CLASSIC
_CLASS[MESSAGE] = _MESSAGE
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
        bucket = (((low ^ (high >> np.uint64(7))) * _MIX) >> np.uint64(52)).astype(np.intp)
        out = self._cached[bucket]
        missed = np.flatnonzero((self._low[bucket] != low) | (self._high[bucket] != high))
        if len(missed):
            pairs = np.stack((low[missed], high[missed]), axis=1)
            unique, inverse = np.unique(pairs, axis=0, return_inverse=True)
            found = np.array([self.number(a, b) for a, b in unique.tolist()], np.uint16)
            out[missed] = found[inverse.reshape(-1)]
            first = missed[np.unique(bucket[missed], return_index=True)[1]]
            self._low[bucket[first]], self._high[bucket[first]] = low[first], high[first]
            self._cached[bucket[first]] = out[first]
        return out


def columns(block: Block, walked: Walk, cpu: Array, providers: Providers) -> dict[str, Array]:
    """The columns of one block; ``cpu`` gives the processor of each buffer of the trace."""
    n = len(walked.slots)
    if not n:
        return {name: np.zeros(0, kind) for name, kind in COLUMNS.items()}
    out = {name: np.empty(n, kind) for name, kind in COLUMNS.items()}
    lanes, slots = walked.lanes, walked.slots
    out["buffer"] = block.numbers.astype(np.int32)[lanes]
    base = (block.starts - 0x48).astype(np.int64)
    out["offset"] = (slots * 8 - base[lanes]).astype(np.int32)
    out["cpu"] = cpu[block.numbers][lanes]
    out["size"], out["type"] = walked.sizes, walked.types
    classes = _CLASS[walked.types]
    present = np.flatnonzero(np.bincount(classes, minlength=6)).tolist()
    # One copy of the 64 bytes of each header, then every column is a strided view of it.
    windows = np.ndarray((max(len(block.data) // 8 - 7, 0),), "V64", block.data, strides=(8,))
    for kind in present:
        where = slice(None) if len(present) == 1 else np.flatnonzero(classes == kind)
        heads = windows[slots[where]].view(np.uint64).reshape(-1, 8)
        _fill(out, where, kind, heads, providers)
    return out


def _fill(out: dict[str, Array], where: Any, kind: int, q: Array, providers: Providers) -> None:
    d, w, b = q.view(np.uint32), q.view(np.uint16), q.view(np.uint8)
    constant: dict[str, int] = {}
    if kind == _EVENT:
        out["id"][where] = w[:, 0x28 // 2]
        out["version"][where] = b[:, 0x2A]
        out["level"][where] = b[:, 0x2C]
        out["opcode"][where] = b[:, 0x2D]
        out["keyword"][where] = q[:, 6]
    elif kind == _CLASSIC:
        out["opcode"][where] = b[:, 4]
        out["level"][where] = b[:, 5]
        out["version"][where] = b[:, 6]
        constant = {"id": 0, "keyword": 0}
    elif kind in (_SYSTEM, _PERF):
        out["id"][where] = w[:, 3]
        out["opcode"][where] = b[:, 6]
        out["version"][where] = b[:, 0]
        constant = {"provider": 0, "level": 0, "keyword": 0}
    elif kind == _MESSAGE:
        _fill_messages(out, where, d, w, providers)
        return
    else:
        constant = {"id": 0, "opcode": 0, "version": 0, "level": 0, "keyword": 0, "provider": 0}
        out["ts"][where] = NO_TIME
    if kind in (_EVENT, _CLASSIC):
        out["provider"][where] = providers.numbers(
            np.ascontiguousarray(q[:, 3]), np.ascontiguousarray(q[:, 4])
        )
    if kind in (_EVENT, _CLASSIC, _SYSTEM):
        out["tid"][where] = d[:, 2]
        out["pid"][where] = d[:, 3]
        out["ts"][where] = q[:, 2].view(np.int64)
    else:
        out["tid"][where] = NO_ID
        out["pid"][where] = NO_ID
        if kind == _PERF:
            out["ts"][where] = q[:, 1].view(np.int64)
    for name, value in constant.items():
        out[name][where] = value


def _fill_messages(
    out: dict[str, Array], where: Any, d: Array, w: Array, providers: Providers
) -> None:
    rows = np.arange(len(out["ts"]))[where]
    for name in ("version", "opcode", "level", "keyword", "provider"):
        out[name][rows] = 0
    out["id"][rows] = w[:, 2]
    options = w[:, 3]
    for value in np.unique(options).tolist():
        mine = np.flatnonzero(options == value)
        target, part = rows[mine], d[mine].astype(np.uint64)
        guid, _, time, thread, _ = message_layout(value)

        def long(at: int, part: Array = part) -> Array:
            return part[:, at // 4] | part[:, at // 4 + 1] << np.uint64(32)

        # A message shorter than its options say holds the next event there: then it has no time.
        whole = out["size"][target] >= message_layout(value)[4]
        out["ts"][target] = np.where(whole, long(time).view(np.int64), NO_TIME) if time > 0 else (
            NO_TIME
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
