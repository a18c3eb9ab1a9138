"""Payloads of one schema, decoded together: fixed parts by numpy, the rest row by row.

Invariant: a payload gives the same values and words here as alone (:func:`.payload.decode`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar, Union

import numpy as np

from .buffers import Array
from .payload import (
    ANSI,
    Decoded,
    Field,
    Schema,
    Value,
    decode,
    encoding_of,
    fill,
    in_hex,
    is_string,
    plan_of,
    take,
)
from .reader import Reader

#: the values of one field; None where the payload is too short
Column = Sequence[Union[Value, None]]
_T = TypeVar("_T")


class Bytes:
    """What some payloads lie in."""

    def __init__(self, whole: bytes) -> None:
        self.whole = whole
        self.data = np.frombuffer(whole, np.uint8)
        self._nuls: dict[tuple[int, int], Array] = {}

    def nuls(self, size: int, phase: int) -> Array:
        """Where characters of ``size`` bytes are NUL, if one begins at ``phase``; then the end."""
        found = self._nuls.get((size, phase))
        if found is None:
            count = max(len(self.whole) - phase, 0) // size
            units = np.frombuffer(self.whole, f"<u{size}", count, phase if count else 0)
            places = np.flatnonzero(units == 0) * size + phase
            found = self._nuls[size, phase] = np.append(places, len(self.whole))
        return found


class Payloads(NamedTuple):
    """The payloads of some events of one schema."""

    held: Bytes  #: holds them all
    starts: Array
    ends: Array
    pointer: int  #: bytes of a pointer in them

    def raw(self, row: int) -> bytes:
        """The bytes of one."""
        return self.held.whole[self.starts[row] : self.ends[row]]


class Many:
    """What the payloads of one schema say."""

    def __init__(self, schema: Schema, payloads: Payloads) -> None:
        self._schema, self._payloads = schema, payloads
        plan = self._plan = plan_of(schema, payloads.pointer)
        count, starts = len(payloads.starts), payloads.starts
        #: those that the payload is too short for are decoded alone
        self._alone: dict[int, Decoded] = {}
        short = payloads.ends - starts < plan.size
        if short.any():
            for row in np.flatnonzero(short).tolist():
                self._alone[row] = decode(schema, payloads.raw(row), payloads.pointer)
            starts = np.where(short, 0, starts)
        self._columns: list[Column] = []
        if plan.fixed and short.all():
            self._columns = [[None] * count for _ in plan.fixed]
        elif plan.fixed:
            kinds = [(f"f{n}", _dtype(code)) for n, (_, code, _) in enumerate(plan.fixed)]
            window = np.lib.stride_tricks.sliding_window_view(payloads.held.data, plan.size)
            records = window[starts].view(np.dtype(kinds)).reshape(-1)
            for n, (_, _, convert) in enumerate(plan.fixed):
                column = records[f"f{n}"].tolist()
                self._columns.append(column if convert is None else list(map(convert, column)))
        self._left = (payloads.ends - payloads.starts - plan.size).tolist()
        if plan.rest:
            self._rest(count)

    def _rest(self, count: int) -> None:
        plan, payloads = self._plan, self._payloads
        rest, at = list(plan.rest), payloads.starts + plan.size
        while rest and is_string(rest[0]):
            strings, at = _strings(rest.pop(0), payloads, at)
            self._columns.append(strings)
        places, ends = at.tolist(), payloads.ends.tolist()
        names = [name for name, _ in plan.show]
        columns: list[list[Value | None]] = [[] for _ in rest]
        known = zip(*self._columns) if rest and self._columns else iter([()] * count)
        for row, values_before in enumerate(known if rest else ()):
            if row in self._alone:
                for column in columns:
                    column.append(None)
                continue
            low, high = int(payloads.starts[row]), ends[row]
            reader = Reader(payloads.held.whole[low:high], payloads.pointer)
            reader.at = places[row] - low
            values = dict(zip(names, values_before))
            if take(reader, rest, values):
                self._alone[row] = decode(self._schema, reader.data, payloads.pointer)
            places[row] = low + reader.at
            for column, field in zip(columns, rest):
                column.append(values.get(field.name))
        self._columns += columns
        self._left = [end - place for end, place in zip(ends, places)]

    def is_off(self) -> list[int]:
        """Rows that the schema does not fit to the byte."""
        return [row for row, left in enumerate(self._left) if left or row in self._alone]

    def decoded(self) -> list[Decoded]:
        """The fields of each."""
        names = [name for name, _ in self._plan.show]
        rows = zip(*self._columns) if self._columns else iter([()] * len(self._left))
        return [
            self._alone.get(row) or Decoded(self._schema, dict(zip(names, values)), "", left)
            for row, (values, left) in enumerate(zip(rows, self._left))
        ]

    def texts(self) -> list[str]:
        """The words of each, as :meth:`Decoded.text` gives them."""
        if self._alone:
            return [one.text() for one in self.decoded()]
        columns = self._columns
        if self._schema.message:
            shown = [map(how, column) for (_, how), column in zip(self._plan.show, columns)]
            return [fill(self._schema.message, list(values)) for values in self._rows(shown)]
        words: list[str] = []
        cells: list[Iterable[Value | None]] = []
        for (name, how), column in zip(self._plan.show, columns):
            label = name.replace("%", "%%") + "="
            if column.count(column[0]) == len(column):  # reserved fields, flags
                words.append(label + how(column[0]).replace("%", "%%"))
                continue
            spec = "%s" if how is str else "%#x" if how is in_hex else ""
            words.append(label + (spec or "%s"))
            cells.append(column if spec else map(how, column))
        texts = list(map(", ".join(words).__mod__, self._rows(cells)))
        for row in [row for row, left in enumerate(self._left) if left]:
            texts[row] += f"{', ' if texts[row] else ''}(+{self._left[row]} bytes)"
        return texts

    def _rows(self, columns: Sequence[Iterable[_T]]) -> Iterator[tuple[_T, ...]]:
        return zip(*columns) if columns else iter([()] * len(self._left))


def _strings(field: Field, payloads: Payloads, places: Array) -> tuple[list[str], Array]:
    """A string of each payload that ends at its NUL, and where the next field begins."""
    whole, ends, wide = payloads.held.whole, payloads.ends, field.kind != ANSI
    size = 2 if wide else 1
    stops = np.empty(len(places), np.int64)
    for phase in range(size):  # a NUL of two bytes lies at an even distance from the beginning
        rows = np.flatnonzero(places % size == phase)
        if len(rows):
            nuls = payloads.held.nuls(size, phase)
            stops[rows] = nuls.take(nuls.searchsorted(places[rows]), mode="clip")
    is_open = stops + size > ends
    stops = np.where(is_open, np.maximum(places, ends), stops)
    following = np.where(is_open, stops, stops + size)
    stops -= (stops - places) % size
    pieces = [whole[at:stop] for at, stop in zip(places.tolist(), stops.tolist())]
    # none has a NUL inside, so all are decoded at once
    text = bytes(size).join(pieces).decode("utf-16-le" if wide else encoding_of(field), "replace")
    return text.split("\0") if pieces else [], following


def _dtype(code: str) -> str:
    return {"f": "<f4", "d": "<f8", "16s": "V16", "b": "i1", "B": "u1", "h": "<i2", "H": "<u2",
            "i": "<i4", "I": "<u4", "q": "<i8", "Q": "<u8"}[code]  # fmt: skip
