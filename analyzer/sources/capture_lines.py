"""Entry and return lines of a capture, read many at once where they are spelled as our writer does.

Invariant: a line is taken only when every byte of it is what the writer would have written; then
its numbers are exactly those that JSON gives. Every other line is left to JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

Array = Any

_HEX, _DECIMAL, _BYTES = "hex", "decimal", "bytes"
#: how watch.py spells each member
_SPELLED = {
    "n": _DECIMAL, "id": _DECIMAL, "cpu": _DECIMAL, "extension": _HEX, "back": _HEX, "sp": _HEX,
    "offset": _HEX, "ext": _BYTES, "status": _HEX, "tsc": _HEX, "host": _DECIMAL,
}  # fmt: skip
_CALLS = tuple(
    tuple(name for name in
          ("n", "id", "cpu", "extension", "back", "sp", "offset", "ext", "tsc", "host")
          if name not in without)
    for without in ((), ("offset",), ("ext",), ("offset", "ext"))
)  # fmt: skip
_RETURNS = (("n", "cpu", "status", "ext", "tsc", "host"), ("n", "cpu", "status", "tsc", "host"))
#: beginning of a line -> is it an entry, orders of its members
_SHAPES = ((b'{"fact":"call"', True, _CALLS), (b'{"fact":"return"', False, _RETURNS))
#: members that are kept; the others are only checked
KEPT = ("n", "id", "cpu", "extension", "status", "tsc", "host")

_COMMA, _LINE_END, _QUOTE, _ZERO = b',\n"0'
#: words of 8 bytes are read at any place: the first lie before the first line, the last behind
_ROOM = 32


def _eight(byte: int) -> Any:
    return np.uint64(int.from_bytes(bytes([byte]) * 8, "little"))


#: how many of the last bytes of a word are digits -> those bytes, and "0" in the others
_DIGITS = np.array([(1 << 64) - (1 << 8 * (8 - n)) for n in range(9)], np.uint64)
_FILL = ~_DIGITS & _eight(0x30)
_ONES, _LOW, _HIGH = _eight(1), _eight(0x0F), _eight(0xF0)
_U = np.uint64


class Batch(NamedTuple):
    """The lines of a piece of the file."""

    starts: Array  #: of each line, from the beginning of the piece
    ends: Array  #: past its line end
    taken: Array  #: True where the line was read
    is_call: Array
    values: dict[str, Array]  #: name of KEPT -> number of each line, 0 where there is none
    known: dict[str, Array]  #: name of KEPT -> True where there is a number
    bytes: dict[int, str]  #: line -> its extension in hexadecimal


def read(piece: bytes) -> Batch:
    """The lines of some bytes that end with a line end."""
    data = b"\n" * _ROOM + piece + b"\n" * _ROOM
    text = np.frombuffer(data, np.uint8)
    words = np.ndarray((len(data) - 7,), "<u8", data, strides=(1,))
    ends = np.flatnonzero(text[_ROOM : len(data) - _ROOM] == _LINE_END) + (_ROOM + 1)
    starts = np.concatenate([[_ROOM], ends[:-1]])
    commas = np.flatnonzero(text == _COMMA)
    first = np.searchsorted(commas, starts)
    counts = np.searchsorted(commas, ends) - first
    commas = np.concatenate([commas, np.zeros(16, commas.dtype)])  # room to look beyond the last
    size = len(starts)
    taken, is_call = np.zeros(size, bool), np.zeros(size, bool)
    values = {name: np.zeros(size, np.uint64) for name in KEPT}
    known = {name: np.zeros(size, bool) for name in KEPT}
    found: dict[int, str] = {}
    for begin, is_entry, shapes in _SHAPES:
        for names in shapes:
            lines = np.flatnonzero((counts == len(names)) & ~taken)
            lines = lines[_stands(words, starts[lines], begin)]
            if not len(lines):
                continue
            # Where a member begins: at the comma before it; the last one ends before "}\n".
            good = commas[first[lines]] == starts[lines] + len(begin)
            good &= words[ends[lines] - 8] >> _U(48) == _U(0x0A7D)
            prefixes = [b',"%s":' % name.encode() for name in names]
            for place, prefix in enumerate(prefixes):
                lines = lines[good]
                good = _stands(words, commas[first[lines] + place], prefix)
            lines = lines[good]
            if not len(lines):
                continue
            places = [commas[first[lines] + place] for place in range(len(names))]
            places.append(ends[lines] - 2)
            good = np.ones(len(lines), bool)
            columns = {}
            for place, name in enumerate(names):
                begins, past = places[place] + len(prefixes[place]), places[place + 1]
                if _SPELLED[name] == _BYTES:
                    good &= _spells(data, lines, begins, past, found)
                    continue
                value, is_there, fits = _number(text, words, begins, past, _SPELLED[name])
                good &= fits
                if name in values:
                    columns[name] = value, is_there
            kept = lines[good]
            taken[kept], is_call[kept] = True, is_entry
            for name, (value, is_there) in columns.items():
                values[name][kept] = value[good]
                known[name][kept] = is_there[good]
    found = {line: digits for line, digits in sorted(found.items()) if taken[line]}
    return Batch(starts - _ROOM, ends - _ROOM, taken, is_call, values, known, found)


def runs(taken: Array) -> Iterator[tuple[int, int, bool]]:
    """Neighbouring lines of one kind: (first, past, taken)."""
    edges = np.flatnonzero(taken[1:] != taken[:-1]) + 1
    bounds = [0, *edges.tolist(), len(taken)]
    for first, past in zip(bounds, bounds[1:]):
        if past > first:
            yield first, past, bool(taken[first])


def _stands(words: Array, at: Array, wanted: bytes) -> Array:
    """True where these bytes stand."""
    same = np.ones(len(at), bool)
    while wanted:
        part, wanted = wanted[:8], wanted[8:]
        mask = _U((1 << 8 * len(part)) - 1)
        same &= words[at] & mask == _U(int.from_bytes(part, "little"))
        at = at + 8
    return same


def _number(
    text: Array, words: Array, begins: Array, past: Array, how: str
) -> tuple[Array, Array, Array]:
    """(number, is there one, is it spelled as the writer does) of a member."""
    head = words[begins]
    width = past - begins
    is_none = (head & _U(0xFFFFFFFF) == _U(0x6C6C756E)) & (width == 4)  # null
    if how == _HEX:
        fits = (head & _U(0xFFFFFF) == _U(0x783022)) & (text[past - 1] == _QUOTE)  # "0x
        past, width, most, convert = past - 1, width - 4, 16, _hexadecimal
    else:
        fits = (text[begins] != _ZERO) | (width == 1)
        most, convert = 19, _decimal  # 10**19 is below 2**64
    fits &= (width > 0) & (width <= most)
    width = np.clip(width, 0, most)
    value: Any = None
    scale = 1
    for end in range(0, max(int(width.max()), 1), 8):
        there = np.clip(width - end, 0, 8)
        word = words[past - (end + 8)] & _DIGITS[there] | _FILL[there]
        part, is_digits = convert(word)
        fits &= is_digits
        if value is None:
            value = part
        else:
            scale *= 1 << 32 if how == _HEX else 10**8
            value += part * _U(scale)
    value[~fits] = 0
    return value, fits, fits | is_none


def _hexadecimal(word: Array) -> tuple[Array, Array]:
    """The number of 8 hexadecimal digits, and whether they are such (small letters)."""
    digit = (word & _LOW) + (word >> _U(6) & _ONES) * _U(9)
    letter = digit + _ONES * _U(6) >> _U(4) & _ONES  # 1 for 10 and more
    good = (digit + _ONES * _U(0x30) + letter * _U(39) == word) & (digit & _HIGH == 0)
    digit = (digit << _U(4) | digit >> _U(8)) & _U(0x00FF00FF00FF00FF)
    digit = (digit << _U(8) | digit >> _U(16)) & _U(0x0000FFFF0000FFFF)
    return (digit << _U(16) | digit >> _U(32)) & _U(0xFFFFFFFF), good


def _decimal(word: Array) -> tuple[Array, Array]:
    """The number of 8 decimal digits, and whether they are such."""
    threes = _ONES * _U(0x30)
    good = (word & _HIGH == threes) & (word + _ONES * _U(6) & _HIGH == threes)
    digit = word & _LOW
    digit = digit * _U(10) + (digit >> _U(8)) & _U(0x00FF00FF00FF00FF)
    digit = digit * _U(100) + (digit >> _U(16)) & _U(0x0000FFFF0000FFFF)
    return digit * _U(10_000) + (digit >> _U(32)) & _U(0xFFFFFFFF), good


def _spells(data: bytes, lines: Array, begins: Array, past: Array, found: dict[int, str]) -> Array:
    """True where a member is bytes in hexadecimal; keeps those, which few lines have."""
    good = np.zeros(len(lines), bool)
    for place, (line, begin, end) in enumerate(zip(lines.tolist(), begins.tolist(), past.tolist())):
        digits = data[begin + 1 : end - 1]
        if data[begin : begin + 1] == b'"' == data[end - 1 : end] and not digits.strip(
            b"0123456789abcdef"
        ):
            found[line] = digits.decode("ascii")
            good[place] = True
    return good
