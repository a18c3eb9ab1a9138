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

_OTHER, _SYSTEM, _PERF, _EVENT, _CLASSIC, _MESSAGE = range(6)
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
    out: dict[str, Array] = {name: np.empty(n, kind) for name, kind in COLUMNS.items()}
    lanes, slots = walked.lanes, walked.slots
    counts = np.bincount(lanes, minlength=len(block.numbers))  # events lie buffer by buffer
    out["buffer"] = np.repeat(block.numbers.astype(np.int32), counts)
    out["offset"] = ((slots - np.repeat((block.starts - 0x48) >> 3, counts)) << 3).astype(np.int32)
    out["cpu"] = np.repeat(cpu[block.numbers], counts)
    out["size"], out["type"] = walked.sizes, walked.types
    # One copy of the first 64 bytes of each event; then every column is a strided view of it.
    windows = np.ndarray((max(len(block.data) // 8 - 7, 0),), "V64", block.data, strides=(8,))
    heads = windows[slots].view(np.uint64).reshape(-1, 8)
    _fill(out, _CLASS[walked.types], heads, providers)
    return out


def _fill(out: dict[str, Array], classes: Array, q: Array, providers: Providers) -> None:
    """Every column for the most common layout, then the others' rows over it."""
    d, w, b = q.view(np.uint32), q.view(np.uint16), q.view(np.uint8)
    present = np.flatnonzero(np.bincount(classes, minlength=6)).tolist()
    masks = {kind: True if len(present) == 1 else classes == kind for kind in present}

    def put(name: str, kind: int, value: Any) -> None:
        if kind in masks:
            np.copyto(out[name], value, where=masks[kind])

    out["ts"][:] = q[:, 2].view(np.int64)
    put("ts", _PERF, q[:, 1].view(np.int64))
    out["tid"][:] = d[:, 2]
    out["pid"][:] = d[:, 3]
    for kind in (_PERF, _OTHER):
        put("tid", kind, NO_ID)
        put("pid", kind, NO_ID)
    out["id"][:] = w[:, 3]  # the hook id of system and perfinfo headers
    put("id", _EVENT, w[:, 0x28 // 2])
    put("id", _CLASSIC, 0)
    out["version"][:] = b[:, 0]
    put("version", _EVENT, b[:, 0x2A])
    put("version", _CLASSIC, b[:, 6])
    out["opcode"][:] = b[:, 6]
    put("opcode", _EVENT, b[:, 0x2D])
    put("opcode", _CLASSIC, b[:, 4])
    out["level"][:] = 0
    put("level", _EVENT, b[:, 0x2C])
    put("level", _CLASSIC, b[:, 5])
    out["keyword"][:] = 0
    put("keyword", _EVENT, q[:, 6])
    out["provider"][:] = 0
    if _EVENT in masks or _CLASSIC in masks:
        if set(present) <= {_EVENT, _CLASSIC}:
            out["provider"][:] = providers.numbers(q[:, 3].copy(), q[:, 4].copy())
        else:
            rows = np.flatnonzero((classes == _EVENT) | (classes == _CLASSIC))
            out["provider"][rows] = providers.numbers(q[rows, 3], q[rows, 4])
    if _OTHER in masks:
        put("ts", _OTHER, NO_TIME)
        for name in ("id", "version", "opcode"):
            put(name, _OTHER, 0)
    if _MESSAGE in masks:
        rows = np.flatnonzero(classes == _MESSAGE)
        _fill_messages(out, rows, d[rows], w[rows], providers)


def _fill_messages(
    out: dict[str, Array], rows: Array, d: Array, w: Array, providers: Providers
) -> None:
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
