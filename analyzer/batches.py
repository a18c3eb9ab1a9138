"""Tables column by column, some thousand rows at a time: how millions of rows are written.

Invariant: a cell is what :mod:`analyzer.tables` makes of the value alone; memory is that of some
thousand rows. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence, Sized
from functools import partial
from itertools import islice
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from .absence import Absent
from .tables import INTEGERS, SCHEMA, checked, iso_times, one_cell, plain, values

if TYPE_CHECKING:
    from .records import Record
    from .records.collection import Rows

#: rows of a table of records that are taken at once
SIZE = 4096

#: a column has few values when the first rows have at most so many
_LOOKED_AT, _FEW = 256, 128
_NOTHING = {Absent, type(None)}

S = TypeVar("S", bound=Sized)
Cells = list[Any]
#: makes of some values as many others
Maker = Callable[[Cells], Cells]


class Column(Cells):
    """The cells of a column, the types of value among them, and the values where they are few."""

    __slots__ = ("few", "types")

    def __init__(self, cells: Cells) -> None:
        super().__init__(cells)
        self.types = set(map(type, self))
        self.few = None if float in self.types else _few(self)  # 0.0 is -0.0

    @property
    def is_one(self) -> bool:
        """True when all cells are alike."""
        return self.few is not None and len(self.few) == 1

    def there(self) -> Cells:
        """The values that are not absent, each at least once."""
        some = self if self.few is None else self.few
        if not self.types & _NOTHING:
            return list(some)
        return [value for value in some if value.__class__ not in _NOTHING]


def _few(cells: Cells) -> set[object] | None:
    try:
        if cells and cells.count(cells[0]) == len(cells):
            return {cells[0]}
        some = set(islice(cells, _LOOKED_AT))
        return set(cells) if len(some) <= _FEW else None
    except TypeError:  # pieces of evidence may hold what cannot be a key
        return None


def batches(table: str, rows: Rows) -> Iterator[list[Column]]:
    """The values of a table, column by column: each is one its kind can hold, None or Absent."""
    found = _turned(rows) if isinstance(rows, list) else rows.batches()
    for columns in found:
        yield [_checked(kind, cells) for (_, kind), cells in zip(SCHEMA[table], columns)]


def grouped(tables: Iterable[S], rows: int) -> Iterator[list[S]]:
    """Neighbours that have at least so many rows together; of the last ones, what is left."""
    held: list[S] = []
    for table in tables:
        held.append(table)
        if sum(map(len, held)) >= rows:
            yield held
            held = []
    if held:
        yield held


def _turned(rows: Iterable[Record]) -> Iterator[list[Cells]]:
    records = iter(rows)
    while True:
        part = list(islice(records, SIZE))
        if not part:
            return
        yield list(map(list, zip(*map(values, part))))


def _checked(kind: str, cells: Cells) -> Column:
    column = Column(cells)
    types = column.types - _NOTHING
    if not types:
        return column
    if kind == "Text" and types == {str}:
        try:
            "".join(column.there()).encode()
            return column
        except UnicodeEncodeError:
            pass
    elif kind in INTEGERS and types == {int}:
        some, (low, high) = column.there(), INTEGERS[kind]
        if low <= min(some) and max(some) <= high:
            return column
    return Column(each(partial(checked, kind), column))


def json_texts(table: str, rows: Rows) -> Iterator[str]:
    """Each row as a JSON object; its ``absent`` holds the reason of each null that has one."""
    columns = SCHEMA[table]
    template = ", ".join([*(f'"{name}": %s' for name, _ in columns), '"absent": {%s}'])
    for cells in batches(table, rows):
        told = [
            written(kind, column, "null", _json_strings, json.dumps)
            for (_, kind), column in zip(columns, cells)
        ]
        reasons = reasons_of(table, cells, _json_reason, ", ")
        yield from map(f"{{{template}}}".__mod__, zip(*told, reasons))


def _json_strings(texts: Cells) -> list[str]:
    return list(map(encode_basestring_ascii, texts))


def written(
    kind: str, cells: Column, nothing: str, texts: Maker, other: Callable[[object], str]
) -> list[str]:
    """The cells of a column as text: absent ones as ``nothing``, texts and the rest as told."""
    makers: dict[str, Maker] = {
        "Text": texts,
        "Number": lambda some: list(map(int.__repr__, some)),
        "Duration": lambda some: list(map(int.__repr__, some)),
        "Time": lambda some: texts(iso_times(some)),
        "Big": lambda some: texts([f"0x{value:016x}" for value in some]),
    }
    make = makers.get(kind) or (lambda some: [other(plain(kind, value)) for value in some])
    return _made(make, cells, nothing)


def _made(make: Maker, cells: Column, nothing: object = None) -> Cells:
    """What is made of each cell, of equal ones once; ``nothing`` where a value is absent."""
    there = cells.there()
    made = make(there)
    if cells.few is not None:
        known = dict.fromkeys(cells.few, nothing)
        known.update(zip(there, made))
        if cells.is_one:
            return [known[cells[0]]] * len(cells)
        return list(map(known.__getitem__, cells))
    if not cells.types & _NOTHING:
        return made
    following = iter(made)
    return [nothing if value.__class__ in _NOTHING else next(following) for value in cells]


def each(make: Callable[[object], object], cells: Column) -> Cells:
    """What is made of each cell that is not absent, of equal ones once; the others stay."""
    made = _made(lambda some: list(map(make, some)), cells)
    if Absent in cells.types:
        return [old if old.__class__ is Absent else new for old, new in zip(cells, made)]
    return made


def told(kind: str, cells: Column) -> Cells:
    """The cells as Arrow takes them: None for absent ones, lists and objects as JSON."""
    if kind in ("Proof", "Facts"):
        return _made(lambda some: [one_cell(kind, plain(kind, value)) for value in some], cells)
    if Absent in cells.types:
        return [None] * len(cells) if cells.is_one else _made(list, cells)
    return cells


def reasons_of(
    table: str, cells: Sequence[Column], word: Callable[[str, str], str], between: str
) -> list[str]:
    """Of each row the reasons why cells are absent, as ``word`` words them; "" without any."""
    columns = [
        _reasons(partial(word, name), column)
        for (name, _), column in zip(SCHEMA[table], cells)
        if Absent in column.types
    ]
    if not columns:
        return [""] * (len(cells[0]) if cells else 0)
    known = {words: between.join(filter(None, words)) for words in set(zip(*columns))}
    return list(map(known.__getitem__, zip(*columns)))  # zip anew: no tuple is kept


def _reasons(word: Callable[[str], str], cells: Column) -> list[str]:
    some = cells if cells.few is None else cells.few
    known = {value: word(_reason(value)) for value in some if value.__class__ is Absent}
    if cells.is_one:
        return [known[cells[0]]] * len(cells)
    if len(known) == 1:
        (words,) = known.values()
        return [words if value.__class__ is Absent else "" for value in cells]
    return [known[value] if value.__class__ is Absent else "" for value in cells]


def _reason(value: Absent) -> str:
    return str(checked("Text", str(value)))


def text_reason(name: str, reason: str) -> str:
    """A reason as the column of reasons has it."""
    return f"{name}: {reason}"


def _json_reason(name: str, reason: str) -> str:
    return f'"{name}": {json.dumps(reason)}'
