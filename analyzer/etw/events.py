"""The events of one or several sessions as a table: rows, a stream, or a DataFrame, all lazily.

Invariant: an event is one row whatever way it is asked for; filters drop rows before their payload
is touched; what an event does not record is absent with the reason, never zero.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..absence import Absent
from ..records import Event, Origin, Time
from . import mof
from .buffers import Array
from .clock import NO_TIME
from .decode import Described
from .described import NO_PROVIDER as _NO_PROVIDER
from .described import DescribedEvents, describe
from .index import NO_ID
from .layouts import EVENT32, EVENT64, MESSAGE
from .trace import Trace
from .wanted import EVERYTHING, Wanted, holds

if TYPE_CHECKING:
    import pandas as pd

    from ..records.base import Cell
    from ..records.collection import Bulk, Rows

_NO_THREAD = Absent("not-recorded", "this kind of event header carries no thread or process")
_NO_CPU = Absent("not-recorded", "this session keeps no processor numbers")
_NO_TIME_AT_ALL = Absent("not-recorded", "this event carries no time")
_BAD_TIME = Absent("out-of-range", "its time lies outside 1970 to 2262 or the clock is unknown")
_ONLY_MODERN = Absent("not-applicable", "only manifest-style events have it")
_NOT_ASKED = Absent("not-recorded", "payloads were not asked for")

#: as analyzer.tables calls the fields of an Origin, and its column of reasons
_PLACE = ("source", "found_by", "confidence", "file_offset", "at_address")


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
        return EventTable(self.traces, [e for e in self._extra if holds(wanted, e)], wanted)

    @property
    def single(self) -> list[Event]:
        """The events that are records already and of no trace."""
        return self._extra

    # -- a list of records, as far as others need one -----------------------------------------

    def joined(self, rows: Rows) -> Bulk:
        """A table of these and other events (a list of records or another table)."""
        if isinstance(rows, EventTable):
            return EventTable(rows.traces + self.traces, rows._extra + self._extra, self._wanted)
        if isinstance(rows, list):
            return EventTable(self.traces, rows + self._extra, self._wanted)
        return rows.joined(self)  # the unread events of a dump stay unread

    def append(self, event: Event) -> None:
        """Adds one record."""
        self._extra.append(event)

    def extend(self, rows: EventTable | Sequence[Event]) -> None:
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

    def span(self) -> tuple[int, int] | None:
        """Time of the first and of the last event, ns since 1970; None where they are not known."""
        ends: list[Time] = [event.time for event in self._extra]
        for trace in self.traces:
            if len(trace):
                ends += trace.span() or (None,)
        known = [end for end in ends if isinstance(end, int)]
        return (min(known), max(known)) if known and len(known) == len(ends) else None

    def rows(self) -> Iterator[Event]:
        """Event records in time order, in bounded memory; untimed ones keep their place."""
        streams: list[Iterator[Event]] = [self._stream(trace) for trace in self.traces]
        if self._extra:
            streams.append(iter(sorted(self._extra, key=_when)))
        if len(streams) == 1:
            return streams[0]
        return heapq.merge(*streams, key=_when)

    def batches(self) -> Iterator[list[list[Cell]]]:
        """The same as columns of some thousand rows."""
        if self._extra or len(self.traces) != 1:
            rows = self.rows()
            while True:
                some = list(islice(rows, BATCH))
                if not some:
                    return
                yield list(map(list, zip(*((*event[:-1], *event.origin) for event in some))))
        trace = self.traces[0]
        for cols in self._wanted_of(trace):
            for part in _slices(cols):
                yield event_columns(trace, part, describe(trace, part))

    def _wanted_of(self, trace: Trace) -> Iterator[dict[str, Array]]:
        for cols in trace.chunks():
            rows = self._wanted.rows(trace, cols)
            yield cols if rows is None else {name: col[rows] for name, col in cols.items()}

    def _stream(self, trace: Trace) -> Iterator[Event]:
        for cols in self._wanted_of(trace):
            yield from events(trace, cols)

    # -- DataFrame ----------------------------------------------------------------------------

    def frame(self, text: bool | None = None) -> pd.DataFrame:
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


class Row(NamedTuple):
    """One event as the decoder sees it, beside its record."""

    ts: int
    event: Event
    described: Described


def details(trace: Trace, cols: dict[str, Array]) -> Iterator[Row]:
    """Every row of the columns with its decoded fields and its record."""
    for part in _slices(cols):
        described = describe(trace, part, with_fields=True)
        columns = event_columns(trace, part, described)
        for ts, one, *cells in zip(part["ts"].tolist(), described.rows(), *columns):
            yield Row(ts, _record(cells), one)


def events(trace: Trace, cols: dict[str, Array]) -> Iterator[Event]:
    """The Event records of some columns."""
    for part in _slices(cols):
        yield from map(_record, zip(*event_columns(trace, part, describe(trace, part))))


def _record(cells: Sequence[Cell]) -> Event:
    place = len(cells) - len(_PLACE)
    return Event._make((*cells[:place], Origin._make(cells[place:])))


#: events decoded at once: enough of each kind, and what is held of them stays small
BATCH = 8192


def _slices(cols: dict[str, Array]) -> Iterator[dict[str, Array]]:
    for low in range(0, len(cols["ts"]), BATCH):
        yield {name: column[low : low + BATCH] for name, column in cols.items()}


def event_columns(trace: Trace, cols: dict[str, Array], told: DescribedEvents) -> list[list[Cell]]:
    """The columns of the table events, as analyzer.tables has them."""
    kinds, count = cols["type"], len(cols["ts"])
    modern, message = (kinds == EVENT32) | (kinds == EVENT64), kinds == MESSAGE
    time: list[Cell] = trace.clock.ns_array(cols["ts"]).tolist()
    for row in np.flatnonzero(np.array(time, np.int64) == NO_TIME).tolist():
        time[row] = _NO_TIME_AT_ALL if cols["ts"][row] == NO_TIME else _BAD_TIME

    def number(values: Array, missing: Array, why: Absent) -> list[Cell]:
        if missing.all():
            return [why] * count
        out: list[Cell] = values.tolist()
        for row in np.flatnonzero(missing).tolist():
            out[row] = why
        return out

    return [
        time,
        told.provider.tolist(),
        told.provider_id.tolist(),
        cols["id"].tolist(),
        number(cols["version"], message, _ONLY_MODERN),
        number(told.channel, ~modern, _ONLY_MODERN),
        number(cols["level"], message, _ONLY_MODERN),
        number(cols["opcode"], message, _ONLY_MODERN),
        number(told.task, ~modern, _ONLY_MODERN),
        number(cols["keyword"], ~modern, _ONLY_MODERN),
        told.name.tolist(),
        [_NO_CPU] * count if trace.no_processor else cols["cpu"].tolist(),
        number(cols["pid"], cols["pid"] == NO_ID, _NO_THREAD),
        number(cols["tid"], cols["tid"] == NO_ID, _NO_THREAD),
        [trace.session.name] * count,
        told.text.tolist(),
        *_origins(trace, cols),
    ]


def _origins(trace: Trace, cols: dict[str, Array]) -> list[list[Cell]]:
    """The columns of where each event was found."""
    count = len(cols["ts"])
    at, how = trace.origins_of(cols["buffer"], cols["offset"])
    file_offset: list[Cell] = at.tolist()
    address: list[Cell] = [None] * count
    if trace.addresses is not None:
        where = trace.addresses[cols["buffer"]].astype("u8") + cols["offset"].astype("u8")
        file_offset, address = address, where.tolist()
    return [[trace.path] * count, list(how), ["certain"] * count, file_offset, address]


def _frame(trace: Trace, wanted: Wanted, text: bool) -> pd.DataFrame:
    index = trace.index()
    cols = {name: index.sorted(name) for name in index.columns}
    rows = wanted.rows(trace, cols)
    if rows is not None:
        cols = {name: column[rows] for name, column in cols.items()}
    return _frame_of_records(list(events(trace, cols))) if text else _headers(trace, cols)


def _headers(trace: Trace, cols: dict[str, Array]) -> pd.DataFrame:
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
    at, how = trace.origins_of(cols["buffer"], cols["offset"])
    in_memory, where = trace.addresses is not None, at
    if trace.addresses is not None:
        where = trace.addresses[cols["buffer"]] + cols["offset"].astype("u8")
    lacks = {
        "provider": provider == None, "provider_id": provider_id == None,  # noqa: E711  elementwise
        "version": message, "channel": ~modern, "level": message, "opcode": message,
        "task": ~modern, "keyword": ~modern, "processor": np.full(n, trace.no_processor),
        "process_id": no_ids, "thread_id": no_ids,
    }  # fmt: skip
    reasons = {"provider": _NO_PROVIDER, "provider_id": _NO_PROVIDER, "processor": _NO_CPU,
               "process_id": _NO_THREAD, "thread_id": _NO_THREAD}  # fmt: skip
    is_untimed = cols["ts"] == NO_TIME
    told = [
        ("time", is_untimed, _NO_TIME_AT_ALL),
        ("time", (time == NO_TIME) & ~is_untimed, _BAD_TIME),
        *((label, missing, reasons.get(label, _ONLY_MODERN)) for label, missing in lacks.items()),
    ]
    lacks["file_offset"], lacks["at_address"] = np.full(n, in_memory), np.full(n, not in_memory)
    code = np.zeros(n, np.int64)
    for bit, (_, missing, _) in enumerate(told):
        code |= missing.astype(np.int64) << bit
    unique, inverse = np.unique(code, return_inverse=True)
    lines = []
    for value in unique.tolist():
        held = [f"{label}: {why}" for bit, (label, _, why) in enumerate(told) if value >> bit & 1]
        lines.append("; ".join([*held, f"name: {_NOT_ASKED}", f"text: {_NOT_ASKED}"]))

    def words(values: Array) -> pd.api.extensions.ExtensionArray:
        return pd.array(values, dtype=pd.StringDtype("python"))

    def number(name: str, values: Array, dtype: str = "i8") -> pd.arrays.IntegerArray:
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


def _frame_of_records(rows: Sequence[Event]) -> pd.DataFrame:
    import pandas as pd

    def cell(value: Cell) -> int | float | str | None:
        if isinstance(value, str):  # lone surrogates in a payload must not break an export
            return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
        return None if isinstance(value, Absent) else value

    out: dict[str, pd.api.extensions.ExtensionArray | pd.DatetimeIndex] = {}
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
