"""The expanders of :mod:`.compression` once more, as loops for numba to compile.

Invariant: for any input, damaged or not, the output is that of the pure-Python form, byte for byte.
No loop reads or writes without a test against the length of its array: compiled code has no other.
"""

from __future__ import annotations

from typing import Any, Callable

import numba
import numpy as np

from .compression import LZNT1, XPRESS, XPRESS_HUFF, Expander

Array = Any
_int: Any = np.int64  # a byte would wrap around
_compile: Callable[..., Any] = numba.njit(cache=True, nogil=True)


@_compile
def _word(b: Array, at: int) -> Any:
    return _int(b[at]) | _int(b[at + 1]) << 8


@_compile
def _copy(out: Array, done: int, distance: int, length: int) -> int:
    """A match whose distance is known to be good; its new end, at most that of ``out``."""
    stop = min(done + length, len(out))
    if distance >= 32 and stop - done > 64:
        while done < stop:  # pieces that do not overlap
            part = min(distance, stop - done)
            out[done : done + part] = out[done - distance : done - distance + part]
            done += part
    for k in range(done, stop):
        out[k] = out[k - distance]
    return stop


@_compile
def _long_length(b: Array, at: int, least: int) -> tuple[int, int]:
    """(length - 3, next offset), length -1 when it is cut or wrong."""
    end = len(b)
    if at >= end:
        return -1, at
    if b[at] < 255:
        return _int(b[at]) + least, at + 1
    if at + 3 > end:
        return -1, at
    length = _word(b, at + 1)
    at += 3
    if not length:
        if at + 4 > end:
            return -1, at
        length = _word(b, at) | _word(b, at + 2) << 16
        at += 4
    return (length if length >= least else -1), at


@_compile
def _xpress(b: Array, out: Array) -> int:
    end, size = len(b), len(out)
    at, done, nibble = 0, 0, -1
    while done < size and at + 4 <= end:
        flags = _word(b, at) | _word(b, at + 2) << 16
        at += 4
        for bit in range(31, -1, -1):
            if done >= size or at >= end:
                return done
            if not flags >> bit & 1:
                out[done] = b[at]
                done += 1
                at += 1
                continue
            if at + 2 > end:
                return done
            match = _word(b, at)
            at += 2
            length = match & 7
            if length == 7:
                if nibble < 0:
                    if at >= end:
                        return done
                    more = _int(b[at]) & 15
                    nibble = _int(b[at]) >> 4
                    at += 1
                else:
                    more = nibble
                    nibble = -1
                length += more
                if more == 15:
                    length, at = _long_length(b, at, 22)
                    if length < 0:
                        return done
            distance = (match >> 3) + 1
            if distance > done:
                return done
            done = _copy(out, done, distance, length + 3)
    return done


@_compile
def _table(b: Array, at: int, table: Array) -> bool:
    """Fills symbol << 4 | bits for every 15-bit prefix; False when the lengths are no code."""
    filled = 0
    for bits in range(1, 16):
        step = 1 << (15 - bits)
        for symbol in range(512):
            if _int(b[at + (symbol >> 1)]) >> (symbol & 1) * 4 & 15 == bits:
                if filled + step > 32768:
                    return False
                table[filled : filled + step] = symbol << 4 | bits
                filled += step
    return filled == 32768


@_compile
def _xpress_huffman(b: Array, out: Array) -> int:
    end, size = len(b), len(out)
    at, done = 0, 0
    table = np.empty(32768, np.int32)
    while done < size and at + 260 <= end:
        if not _table(b, at, table):
            return done
        word = _word(b, at + 256) << 16 | _word(b, at + 258)
        at += 260
        spare = 16
        stop = min(done + 65536, size)
        while done < stop:
            if at > end + 4:
                return done
            entry = _int(table[word >> 17])
            word = word << (entry & 15) & 0xFFFFFFFF
            spare -= entry & 15
            if spare < 0:
                if at + 2 <= end:
                    word |= _word(b, at) << -spare
                elif at < end:
                    word |= _int(b[at]) << -spare
                at += 2
                spare += 16
            if entry < 4096:
                out[done] = entry >> 4
                done += 1
                continue
            length, bits = entry >> 4 & 15, entry >> 8 & 15
            if length == 15:
                length, at = _long_length(b, at, 15)
                if length < 0:
                    return done
            distance = (1 << bits) + (word >> (32 - bits))
            word = word << bits & 0xFFFFFFFF
            spare -= bits
            if spare < 0:
                if at + 2 <= end:
                    word |= _word(b, at) << -spare
                elif at < end:
                    word |= _int(b[at]) << -spare
                at += 2
                spare += 16
            if distance > done:
                return done
            done = _copy(out, done, distance, length + 3)
    return done


@_compile
def _lznt1(b: Array, out: Array) -> int:
    end, size = len(b), len(out)
    at, done = 0, 0
    while at + 2 <= end and done < size:
        head = _word(b, at)
        at += 2
        if not head:
            break
        last = min(at + (head & 0xFFF) + 1, end)
        base = done
        if not head & 0x8000:
            part = min(last - at, size - done)
            out[done : done + part] = b[at : at + part]
            done += part
            at = last
            continue
        bit, flags, shift = 8, 0, 12
        while at < last and done < size:
            if bit == 8:
                bit, flags = 0, _int(b[at])
                at += 1
                continue
            if not flags >> bit & 1:
                out[done] = b[at]
                done += 1
                at += 1
                bit += 1
                continue
            bit += 1
            place = done - base
            if at + 2 > last or place >= 4096:
                break
            match = _word(b, at)
            at += 2
            while place > 1 << (16 - shift):
                shift -= 1
            distance = (match >> shift) + 1
            if distance > place:
                return done
            done = _copy(out, done, distance, (match & (1 << shift) - 1) + 3)
        at = last
    return done


def _expander(kernel: Callable[[Array, Array], int]) -> Expander:
    def expand(data: bytes, size: int) -> bytes:
        out = np.empty(size, np.uint8)
        done = kernel(np.frombuffer(data, np.uint8), out)
        return out[:done].tobytes()

    return expand


EXPANDERS: dict[int, Expander] = {
    LZNT1: _expander(_lznt1),
    XPRESS: _expander(_xpress),
    XPRESS_HUFF: _expander(_xpress_huffman),
}
