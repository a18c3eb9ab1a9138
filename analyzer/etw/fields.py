"""Payload fields of one kind of event as columns, and call stacks joined to their events.

Invariant: a column is filled by vector steps when its field lies at a fixed place in every payload,
else event by event; both ways give the same values. Only the events asked for are touched.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from . import mof
from .decode import take_apart
from .events import Wanted, details
from .index import NO_ID
from .layouts import EVENT32, EVENT64
from .payload import BOOLEAN, FILETIME, POINTER, SIZE_T, Schema
from .trace import Trace

Array = Any
_TYPES = {
    3: "i1", 4: "u1", 5: "<i2", 6: "<u2", 7: "<i4", 8: "<u4", 9: "<i8", 10: "<u8", 11: "<f4",
    12: "<f8", BOOLEAN: "<u4", FILETIME: "<u8", 20: "<u4", 21: "<u8",
}  # fmt: skip


def frame(trace: Trace, provider: str, event_id: int | None = None, name: str | None = None) -> Any:
    """A DataFrame of one kind of event: time, process, thread, then a column per payload field.

    ``event_id`` is as in the events table (the hook id for kernel events), ``name`` an event name
    (TraceLogging events have no numbers). Versions of one event share the columns they share.
    """
    import pandas as pd

    wanted = Wanted(provider, None if event_id is None else (event_id,))
    index = trace.index()
    cols = {label: index.sorted(label) for label in index.columns}
    rows = wanted.rows(trace, cols)
    if rows is not None:
        cols = {label: column[rows] for label, column in cols.items()}
    made = None if name is not None else _vector(trace, cols)
    if made is None:
        made, cols = _scalar(trace, cols, name)
    time = trace.clock.ns_array(cols["ts"])
    ids = {
        label: pd.arrays.IntegerArray(
            np.where(cols[key] == NO_ID, 0, cols[key]).astype("i8"), cols[key] == NO_ID
        )
        for label, key in (("process_id", "pid"), ("thread_id", "tid"))
    }
    head = {"time": pd.DatetimeIndex(time.view("M8[ns]")).tz_localize("UTC"), **ids}
    return pd.DataFrame({**head, **{k: v for k, v in made.items() if k not in head}})


def _scalar(
    trace: Trace, cols: dict[str, Array], name: str | None
) -> tuple[dict[str, list[Any]], dict[str, Array]]:
    kept: list[int] = []
    values: list[dict[str, Any]] = []
    for k, row in enumerate(details(trace, cols)):
        if name is None or row.event.name == name:
            kept.append(k)
            values.append(row.described.fields.values if row.described.fields else {})
    labels = list(dict.fromkeys(label for one in values for label in one))
    made = {label: [one.get(label) for one in values] for label in labels}
    return made, {key: column[kept] for key, column in cols.items()}


def _vector(trace: Trace, cols: dict[str, Array]) -> dict[str, Array] | None:
    """Columns without a loop: one header kind, one schema, plain numbers only."""
    n = len(cols["ts"])
    packed = (trace.buffers.table["flags"] & 0x40).any()
    same = n and all((cols[key] == cols[key][0]).all() for key in ("type", "version", "opcode"))
    data = trace.data.whole()
    if not same or packed or data is None:
        return None
    raw = np.frombuffer(data, np.uint8)
    kind = int(cols["type"][0])
    at = trace.buffers.table["offset"][cols["buffer"]] + cols["offset"]
    if kind in (EVENT32, EVENT64):
        extended = raw[at + 4] & 1
        if extended.any():
            return None
    first = take_apart(trace.event_bytes(*(int(cols[k][0]) for k in ("buffer", "offset", "size"))),
                       kind)  # fmt: skip
    told = trace.decoder.describe(
        first, trace.providers.guids[int(cols["provider"][0])], int(cols["id"][0]),
        int(cols["version"][0]), int(cols["opcode"][0]),
    )  # fmt: skip
    if told.fields is None or told.fields.missing:
        return None
    layout = _layout(told.fields.schema, first.pointer)
    start = int(cols["size"][0]) - len(first.data)
    if layout is None or int(cols["size"].min()) < start + layout.itemsize:
        return None
    window = raw[(at + start)[:, None] + np.arange(layout.itemsize)]
    records = np.ascontiguousarray(window).view(layout).reshape(-1)
    flags = {field.name for field in told.fields.schema.fields if field.kind == BOOLEAN}
    return {
        label: records[label] != 0 if label in flags else records[label].copy()
        for label in layout.names or ()
    }


def _layout(schema: Schema, pointer: int) -> Any:
    """The payload as a packed numpy record, None when a field has no fixed size."""
    parts = []
    for field in schema.fields:
        wide = field.kind in (POINTER, SIZE_T)
        code = ("<u4" if pointer == 4 else "<u8") if wide else _TYPES.get(field.kind)
        if code is None or field.count is not None:
            return None
        parts.append((field.name, code))
    return np.dtype(parts) if parts else None


class Stack(NamedTuple):
    """A call stack and the event it was taken at."""

    event: int | None  #: row of the time-ordered index; None when the event is not in the trace
    ts: int
    process_id: int
    thread_id: int
    frames: tuple[int, ...]  #: return addresses, innermost first


def stacks(trace: Trace) -> list[Stack]:
    """Stack walk events joined to their events: by time stamp, then thread where it is told."""
    index = trace.index()
    ident, number = index.sorted("id"), index.sorted("provider")
    walks = np.flatnonzero((number == 0) & (ident == mof.STACK_HOOK))
    ts, tid = index.sorted("ts"), index.sorted("tid")
    kinds, cpu = index.sorted("type"), index.sorted("cpu")
    place = [index.sorted(key) for key in ("buffer", "offset", "size")]
    out = []
    for row in walks.tolist():
        event = trace.event_bytes(*(int(column[row]) for column in place))
        parts = take_apart(event, int(kinds[row]))
        if len(parts.data) < 16:
            continue
        stamp = int.from_bytes(parts.data[:8], "little", signed=True)
        process = int.from_bytes(parts.data[8:12], "little")
        thread = int.from_bytes(parts.data[12:16], "little")
        low, high = np.searchsorted(ts, [stamp, stamp + 1])
        choices = [
            k for k in range(int(low), int(high))
            if k != row and not (number[k] == 0 and ident[k] == mof.STACK_HOOK)
            and int(tid[k]) in (thread, NO_ID)
        ]  # fmt: skip
        # Several events at one tick: the one of the same thread, else of the same processor.
        choices.sort(key=lambda k: (int(tid[k]) != thread, int(cpu[k]) != int(cpu[row])))
        frames = tuple(mof.stack_frames(parts.data, parts.pointer))
        out.append(Stack(choices[0] if choices else None, stamp, process, thread, frames))
    return out
