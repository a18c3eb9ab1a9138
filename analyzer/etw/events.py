"""The events of one or several sessions as a table: rows, a stream, or a DataFrame, all lazily.

Invariant: an event is one row whatever way it is asked for; filters drop rows before their payload
is touched; what an event does not record is absent with the reason, never zero.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..absence import Absent
from ..records import Event
from . import mof
from .clock import NO_TIME
from .decode import Described, Parts, take_apart
from .index import NO_ID
from .layouts import EVENT32, EVENT64, MESSAGE
from .trace import Trace

Array = Any

_NO_THREAD = Absent("not-recorded", "this kind of event header carries no thread or process")
_NO_CPU = Absent("not-recorded", "this session keeps no processor numbers")
_NO_TIME_AT_ALL = Absent("not-recorded", "this event carries no time")
_BAD_TIME = Absent("out-of-range", "its time lies outside 1970 to 2262 or the clock is unknown")
_ONLY_MODERN = Absent("not-applicable", "only manifest-style events have it")
_NO_PROVIDER = Absent("not-found", "the provider's name is not known")
_NOT_ASKED = Absent("not-recorded", "payloads were not asked for")

#: as analyzer.tables calls the fields of an Origin, and its column of reasons
_PLACE = ("source", "found_by", "confidence", "file_offset", "at_address")


class Wanted(NamedTuple):
    """Which events: all conditions must hold; None means no condition."""

    provider: str | None = None  #: name or GUID, "Windows Kernel" for kernel events
    ids: tuple[int, ...] | None = None
    since: int | None = None  #: ns since 1970, inclusive
    until: int | None = None  #: ns since 1970, inclusive

    def rows(self, trace: Trace, cols: dict[str, Array]) -> Array | None:
        """Row numbers that hold, None for all."""
        keep = np.ones(len(cols["ts"]), bool)
        if self.provider is not None:
            keep &= np.isin(cols["provider"], trace.provider_numbers(self.provider))
        if self.ids is not None:
            keep &= np.isin(cols["id"], np.array(self.ids, np.int64))
        if self.since is not None or self.until is not None:
            time = trace.clock.ns_array(cols["ts"])
            keep &= time != NO_TIME
            if self.since is not None:
                keep &= time >= self.since
            if self.until is not None:
                keep &= time <= self.until
        return None if keep.all() else np.flatnonzero(keep)


EVERYTHING = Wanted()
TEXT_LIMIT = 500_000


class EventTable:
    """The events of traces, oldest first; stands where a list of Event records could."""

    def __init__(
        self, traces: Iterable[Trace], extra: Sequence[Event] = (), wanted: Wanted = EVERYTHING
    ) -> None:
        self.traces: list[Trace] = list(traces)
        self._extra: list[Event] = list(extra)
        self._wanted = wanted

    def where(
        self, provider: str | None = None, ids: Sequence[int] | None = None,
        since: int | None = None, until: int | None = None,
    ) -> EventTable:  # fmt: skip
        """The same table with only these events; times are ns since 1970."""
        wanted = Wanted(provider, tuple(ids) if ids is not None else None, since, until)
        return EventTable(self.traces, [e for e in self._extra if _holds(wanted, e)], wanted)

    @property
    def single(self) -> list[Event]:
        """The events that are records already and of no trace."""
        return self._extra

    # -- a list of records, as far as others need one -----------------------------------------

    def joined(self, rows: Any) -> Any:
        """A table of these and other events (a list of records or another table)."""
        if hasattr(rows, "table"):  # the unread events of a dump stay unread
            return rows.joined(self)
        if isinstance(rows, EventTable):
            return EventTable(rows.traces + self.traces, rows._extra + self._extra, self._wanted)
        return EventTable(self.traces, list(rows) + self._extra, self._wanted)

    def append(self, event: Event) -> None:
        """Adds one record."""
        self._extra.append(event)

    def extend(self, rows: Any) -> None:
        """Adds records, or the traces of another table without reading them."""
        if isinstance(rows, EventTable):
            self.traces += rows.traces
            self._extra += rows._extra
        else:
            self._extra += rows

    def __len__(self) -> int:
        if self._wanted == EVERYTHING:
            return sum(map(len, self.traces)) + len(self._extra)
        count = len(self._extra)
        for trace in self.traces:
            for cols in trace.chunks():
                rows = self._wanted.rows(trace, cols)
                count += len(cols["ts"]) if rows is None else len(rows)
        return count

    def __iter__(self) -> Iterator[Event]:
        return self.rows()

    def __bool__(self) -> bool:
        return bool(self._extra) or any(len(trace) for trace in self.traces)

    def rows(self) -> Iterator[Event]:
        """Event records in time order, in bounded memory; untimed ones keep their place."""
        streams: list[Iterator[Event]] = [self._stream(trace) for trace in self.traces]
        if self._extra:
            streams.append(iter(sorted(self._extra, key=_when)))
        if len(streams) == 1:
            return streams[0]
        return heapq.merge(*streams, key=_when)

    def _stream(self, trace: Trace) -> Iterator[Event]:
        for cols in trace.chunks():
            rows = self._wanted.rows(trace, cols)
            if rows is not None:
                cols = {name: column[rows] for name, column in cols.items()}
            yield from events(trace, cols)

    # -- DataFrame ----------------------------------------------------------------------------

    def frame(self, text: bool | None = None) -> Any:
        """A DataFrame with the columns of the events table.

        ``text=False`` leaves payloads alone; then ``not_determined`` says so. By default they are
        decoded unless there are more than TEXT_LIMIT events: minutes and gigabytes.
        """
        import pandas as pd

        if text is None:
            text = sum(map(len, self.traces)) <= TEXT_LIMIT or self._wanted != EVERYTHING
        frames = [_frame(trace, self._wanted, text) for trace in self.traces]
        if self._extra:
            frames.append(_frame_of_records(self._extra))
        if not frames:
            return _frame_of_records([])
        if len(frames) == 1:
            return frames[0]
        whole = pd.concat(frames, ignore_index=True)
        return whole.sort_values("time", kind="stable", ignore_index=True)


def _when(event: Event) -> int:
    return event.time if isinstance(event.time, int) else 0


def _holds(wanted: Wanted, event: Event) -> bool:
    if wanted.provider is not None and wanted.provider.lower() not in (
        str(event.provider).lower(), str(event.provider_id).lower(),
    ):  # fmt: skip
        return False
    if wanted.ids is not None and event.event_id not in wanted.ids:
        return False
    time = event.time
    if wanted.since is not None and not (isinstance(time, int) and time >= wanted.since):
        return False
    return not (wanted.until is not None and not (isinstance(time, int) and time <= wanted.until))


class Row(NamedTuple):
    """One event as the decoder sees it, beside its record."""

    ts: int
    event: Event
    described: Described
    parts: Parts


def details(trace: Trace, cols: dict[str, Array]) -> Iterator[Row]:
    """Every row of the columns with its decoded fields and its record."""
    times = trace.clock.ns_array(cols["ts"]).tolist()
    session, guids, decoder = trace.session.name, trace.providers.guids, trace.decoder
    no_cpu = trace.no_processor
    names = ("buffer", "offset", "size", "ts", "type", "cpu", "tid", "pid", "provider", "id",
             "version", "opcode", "level", "keyword")  # fmt: skip
    lists = [cols[name].tolist() for name in names]
    for time, (buffer, offset, size, ts, kind, cpu, tid, pid, number, ident, version, opcode,
               level, keyword) in zip(times, zip(*lists)):  # fmt: skip
        parts = take_apart(trace.event_bytes(buffer, offset, size), kind)
        guid = guids[number]
        told = decoder.describe(parts, guid, ident, version, opcode)
        modern = kind in (EVENT32, EVENT64)
        if time == NO_TIME:
            time = _NO_TIME_AT_ALL if ts == NO_TIME else _BAD_TIME
        event = Event(
            time,
            told.provider or _NO_PROVIDER,
            told.provider_id or _NO_PROVIDER,
            ident,
            version if kind != MESSAGE else _ONLY_MODERN,
            parts.channel if modern else _ONLY_MODERN,
            level if kind != MESSAGE else _ONLY_MODERN,
            opcode if kind != MESSAGE else _ONLY_MODERN,
            parts.task if modern else _ONLY_MODERN,
            keyword if modern else _ONLY_MODERN,
            told.name,
            _NO_CPU if no_cpu else cpu,
            _NO_THREAD if pid == NO_ID else pid,
            _NO_THREAD if tid == NO_ID else tid,
            session,
            told.text,
            trace.origin(buffer, offset),
        )
        yield Row(ts, event, told, parts)


def events(trace: Trace, cols: dict[str, Array]) -> Iterator[Event]:
    """The Event records of some columns."""
    for row in details(trace, cols):
        yield row.event


def _frame(trace: Trace, wanted: Wanted, text: bool) -> Any:
    index = trace.index()
    cols = {name: index.sorted(name) for name in index.columns}
    rows = wanted.rows(trace, cols)
    if rows is not None:
        cols = {name: column[rows] for name, column in cols.items()}
    return _frame_of_records(list(events(trace, cols))) if text else _headers(trace, cols)


def _headers(trace: Trace, cols: dict[str, Array]) -> Any:
    """The frame without payloads: columns of the index, no loop over events."""
    import pandas as pd

    n, kinds, numbers = len(cols["ts"]), cols["type"], cols["provider"]
    modern = (kinds == EVENT32) | (kinds == EVENT64)
    message, no_ids = kinds == MESSAGE, cols["pid"] == NO_ID
    # Names are few and events are many: number them, then take.
    guids: list[str | None] = [guid or None for guid in trace.providers.guids]
    names = [trace.decoder.provider_name(guid or "") or None for guid in guids]
    groups = [mof.GROUPS[group].guid if group in mof.GROUPS else None for group in range(256)]
    which = np.where(numbers > 0, numbers, len(guids) + (cols["id"] >> 8)).astype(np.intp)
    provider = np.array([*names, *["Windows Kernel"] * 256], object)[which]
    provider_id = np.array([*guids, *groups], object)[which]
    time = trace.clock.ns_array(cols["ts"])
    at, how = trace.places(cols["buffer"], cols["offset"])
    in_memory = trace.addresses is not None
    where = trace.addresses[cols["buffer"]] + cols["offset"].astype("u8") if in_memory else at
    lacks = {
        "time": time == NO_TIME, "provider": provider == None,  # noqa: E711  elementwise
        "provider_id": provider_id == None,  # noqa: E711
        "version": message, "channel": ~modern, "level": message, "opcode": message,
        "task": ~modern, "keyword": ~modern, "processor": np.full(n, trace.no_processor),
        "process_id": no_ids, "thread_id": no_ids,
    }  # fmt: skip
    why = {"time": _NO_TIME_AT_ALL, "provider": _NO_PROVIDER, "provider_id": _NO_PROVIDER,
           "processor": _NO_CPU, "process_id": _NO_THREAD, "thread_id": _NO_THREAD}  # fmt: skip
    told = len(lacks)
    lacks["file_offset"], lacks["at_address"] = np.full(n, in_memory), np.full(n, not in_memory)
    code = np.zeros(n, np.int64)
    for bit, missing in enumerate([*lacks.values()][:told]):
        code |= missing.astype(np.int64) << bit
    unique, inverse = np.unique(code, return_inverse=True)
    lines = []
    for value in unique.tolist():
        held = [f"{label}: {why.get(label, _ONLY_MODERN)}" for bit, label in enumerate(lacks)
                if bit < told and value >> bit & 1]  # fmt: skip
        lines.append("; ".join([*held, f"name: {_NOT_ASKED}", f"text: {_NOT_ASKED}"]))

    def words(values: Any) -> Any:
        return pd.array(values, dtype=pd.StringDtype("python"))

    def number(name: str, values: Any, dtype: str = "i8") -> Any:
        missing = lacks.get(name, np.zeros(n, bool))
        return pd.arrays.IntegerArray(np.where(missing, 0, values).astype(dtype), missing.copy())

    empty = np.full(n, None, object)
    nothing = pd.arrays.IntegerArray(np.zeros(n, "i8"), np.ones(n, bool))
    data = {
        "time": pd.DatetimeIndex(time.view("M8[ns]")).tz_localize("UTC"),
        "provider": words(provider),
        "provider_id": words(provider_id),
        "event_id": number("event_id", cols["id"]),
        "version": number("version", cols["version"]),
        "channel": nothing,
        "level": number("level", cols["level"]),
        "opcode": number("opcode", cols["opcode"]),
        "task": nothing.copy(),
        "keyword": number("keyword", cols["keyword"], "u8"),
        "name": words(empty),
        "processor": number("processor", cols["cpu"]),
        "process_id": number("process_id", cols["pid"]),
        "thread_id": number("thread_id", cols["tid"]),
        "session": words(np.full(n, trace.session.name, object)),
        "text": words(empty.copy()),
        "source": words(np.full(n, trace.path, object)),
        "found_by": words(np.array(how, object)),
        "confidence": words(np.full(n, "certain", object)),
        "file_offset": number("file_offset", at),
        "at_address": number("at_address", where, "u8"),
        "not_determined": words(np.array(lines, object)[inverse.reshape(-1)] if n else empty),
    }
    return pd.DataFrame(data)


def _frame_of_records(rows: Sequence[Event]) -> Any:
    import pandas as pd

    def cell(value: Any) -> Any:
        if isinstance(value, str):  # lone surrogates in a payload must not break an export
            return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
        return None if isinstance(value, Absent) else value

    out: dict[str, Any] = {}
    kinds = {"time": "time", "keyword": "u8", "at_address": "u8"}
    text = {"provider", "provider_id", "name", "session", "text"} | {*_PLACE[:3]}
    flat = [[*map(cell, e[:-1]), *map(cell, e.origin)] for e in rows]
    for k, label in enumerate((*Event._fields[:-1], *_PLACE)):
        values = [row[k] for row in flat]
        if label in text:
            out[label] = pd.array(np.array(values, object), dtype=pd.StringDtype("python"))
            continue
        missing = np.fromiter((v is None for v in values), bool, len(values))
        plain = [0 if v is None else v for v in values]
        if kinds.get(label) == "time":
            times = np.array(plain, "i8").view("M8[ns]")
            times[missing] = np.datetime64("NaT", "ns")
            out[label] = pd.DatetimeIndex(times).tz_localize("UTC")
        else:
            out[label] = pd.arrays.IntegerArray(np.array(plain, kinds.get(label, "i8")), missing)
    reasons = [
        "; ".join(f"{n}: {v}" for n, v in zip(e._fields, e) if isinstance(v, Absent)) or None
        for e in rows
    ]
    out["not_determined"] = pd.array(np.array(reasons, object), dtype=pd.StringDtype("python"))
    return pd.DataFrame(out)
