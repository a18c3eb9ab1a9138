"""Tables column by column, some thousand rows at a time: how millions of rows are written.

Invariant: a cell is what :mod:`analyzer.tables` makes of the value alone; memory is that of some
thousand rows. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice, repeat
from json.encoder import encode_basestring_ascii
from typing import Any, Callable, Protocol, runtime_checkable

from .absence import Absent
from .tables import INTEGERS, SCHEMA, checked, iso_time, plain, rows_of, values

#: rows of a table of records that are taken at once
SIZE = 4096

Cells = list[Any]


class Column(list[Any]):
    """The checked cells of a column, and the types of value that are among them."""

    __slots__ = ("types",)

    def __init__(self, cells: Iterable[Any]) -> None:
        super().__init__(cells)
        self.types = set(map(type, self))


@runtime_checkable
class InBatches(Protocol):
    """Rows of a table that are kept as columns, or made column by column."""

    def batches(self) -> Iterator[list[Cells]]:
        """The columns of some rows, in the order of the schema; then those of the next."""


def batches(table: str, rows: Any) -> Iterator[list[Column]]:
    """The values of a table, column by column: each is one its kind can hold, None or Absent."""
    found = rows.batches() if isinstance(rows, InBatches) else _turned(rows_of(rows))
    for columns in found:
        yield [_checked(kind, cells) for (_, kind), cells in zip(SCHEMA[table], columns)]


def grouped(tables: Iterable[Any], rows: int) -> Iterator[list[Any]]:
    """Neighbours that have at least so many rows together; of the last ones, what is left."""
    held: list[Any] = []
    for table in tables:
        held.append(table)
        if sum(map(len, held)) >= rows:
            yield held
            held = []
    if held:
        yield held


def _turned(rows: Iterable[Any]) -> Iterator[list[Cells]]:
    records = iter(rows)
    while True:
        part = list(islice(records, SIZE))
        if not part:
            return
        yield list(map(list, zip(*map(values, part))))


def _checked(kind: str, cells: Cells) -> Column:
    column = Column(cells)
    if column.types == {Absent}:
        return column
    if kind == "Text" and column.types == {str} and all(map(str.isascii, cells)):
        return column
    if kind in INTEGERS and column.types == {int}:
        low, high = INTEGERS[kind]
        if low <= min(cells) and max(cells) <= high:
            return column
    return Column(each(partial(checked, kind), cells))


def json_texts(table: str, rows: Any) -> Iterator[str]:
    """Each row as a JSON object; its ``absent`` holds the reason of each null that has one."""
    columns = SCHEMA[table]
    template = ", ".join([*(f'"{name}": %s' for name, _ in columns), '"absent": {%s}'])
    for cells in batches(table, rows):
        told = [
            written(kind, column, "null", encode_basestring_ascii, json.dumps)
            for (_, kind), column in zip(columns, cells)
        ]
        reasons = reasons_of(table, cells, _json_reason, ", ")
        yield from map(f"{{{template}}}".__mod__, zip(*told, reasons))


def written(
    kind: str,
    cells: Column,
    nothing: str,
    text: Callable[[str], str],
    other: Callable[[Any], str],
) -> list[str]:
    """The cells of a column as text: absent ones as ``nothing``, texts and the rest as told."""
    makers: dict[str, Callable[[Any], str]] = {
        "Text": text,
        "Number": int.__repr__,
        "Duration": int.__repr__,
        "Time": lambda ns: text(iso_time(ns)),
        "Big": lambda value: text(f"0x{value:016x}"),
    }
    make = makers.get(kind) or (lambda value: other(plain(kind, value)))
    if cells.types == {Absent}:
        return [nothing] * len(cells)
    if cells.types & {Absent, type(None)}:
        return each(lambda v: nothing if v is None or v.__class__ is Absent else make(v), cells)
    return each(make, cells)


def each(make: Callable[[Any], Any], cells: Cells) -> Cells:
    """What is made of each cell; of cells that are often the same, once for all of them."""
    try:
        few = set(islice(cells, 256))
        if len(few) <= 64 and not any(value.__class__ is float for value in few):
            made = {value: make(value) for value in set(cells)}
            return list(map(made.__getitem__, cells))
    except TypeError:  # pieces of evidence may hold what cannot be a key
        pass
    return list(map(make, cells))


def reasons_of(
    table: str, cells: Sequence[Column], word: Callable[[str, str], str], between: str
) -> Cells:
    """Of each row the reasons why cells are absent, as ``word`` words them; "" without any."""
    count = len(cells[0]) if cells else 0
    told: list[Any] = []  # a list of each row's, or one text for all
    for (name, _), column in zip(SCHEMA[table], cells):
        if column.types == {Absent} and column.count(column[0]) == count:
            told.append(_worded(word, name, column[0]))
        elif Absent in column.types:
            told.append(each(partial(_worded, word, name), column))
    if all(isinstance(words, str) for words in told):
        return [between.join(filter(None, told))] * count
    rows = zip(*(repeat(words) if isinstance(words, str) else words for words in told))
    return each(lambda words: between.join(filter(None, words)), list(rows))


def _worded(word: Callable[[str, str], str], name: str, value: Any) -> str:
    return word(name, _reason(value)) if value.__class__ is Absent else ""


def _reason(value: Absent) -> str:
    return str(checked("Text", str(value)))


def text_reason(name: str, reason: str) -> str:
    """A reason as the column of reasons has it."""
    return f"{name}: {reason}"


def _json_reason(name: str, reason: str) -> str:
    return f'"{name}": {json.dumps(reason)}'
