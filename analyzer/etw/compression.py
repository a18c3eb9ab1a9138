"""The three formats of compressed trace buffers: XPRESS, XPRESS-Huffman, LZNT1 (MS-XCA).

Invariant: :func:`expand` never raises on damaged input and never returns more than asked; a result
shorter than asked means the input ended or broke there. The pure-Python forms are the reference;
ntdll (Windows) and libfwnt, where present, do the same work faster.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any, Callable

LZNT1, XPRESS, XPRESS_HUFF = 2, 3, 4
FORMATS = {LZNT1: "LZNT1", XPRESS: "XPRESS", XPRESS_HUFF: "XPRESS-Huffman"}

Expander = Callable[[bytes, int], bytes]
#: in an XPRESS stream, the escape to a 32-bit match length (or bytes that look like it)
_LONG_MATCH = b"\xff\0\0"
_MASK = [(1 << bits) - 1 for bits in range(33)]


def _u16(data: bytes, at: int) -> int:
    return data[at] | data[at + 1] << 8


def _long_length(data: bytes, at: int, step: int) -> tuple[int, int]:
    """The length escapes shared by both XPRESS forms: (length, next offset)."""
    length = data[at]
    at += 1
    if length == 255:
        length = _u16(data, at)
        at += 2
        if not length:
            length = int.from_bytes(data[at : at + 4], "little")
            at += 4
        length -= step
        if length < 0:
            raise IndexError
    return length, at


def _copy(out: bytearray, distance: int, length: int) -> None:
    start = len(out) - distance
    if start < 0:
        raise IndexError
    if distance >= length:
        out += out[start : start + length]
    else:
        out += (out[start:] * (length // distance + 1))[:length]


@cache
def _runs(flags: int) -> tuple[tuple[int, ...], int]:
    """Of 16 flag bits: literals before each match, and literals behind the last one."""
    text = f"{flags:016b}"
    runs = tuple(map(len, text.split("1")))
    return runs[:-1], runs[-1]


def xpress(data: bytes, size: int) -> bytes:
    """Plain LZ77: 32 flag bits, then literals and matches."""
    out = bytearray()
    at = nibble = done = 0
    end = len(data)
    runs_of = _runs
    try:
        while done < size and at + 4 <= end:
            halves = (data[at + 2] | data[at + 3] << 8, data[at] | data[at + 1] << 8)
            at += 4
            for half in halves:
                runs, left = runs_of(half)
                for run in runs:
                    if run:
                        out += data[at : at + run]
                        at += run
                        done += run
                    # A set flag without data is the end of the stream: an IndexError here.
                    word = data[at] | data[at + 1] << 8
                    at += 2
                    length = word & 7
                    if length == 7:
                        if nibble:
                            length = data[nibble] >> 4
                            nibble = 0
                        else:
                            nibble = at
                            length = data[at] & 15
                            at += 1
                        if length == 15:
                            length, at = _long_length(data, at, 22)
                            length += 15
                        length += 7
                    start = done - (word >> 3) - 1
                    stop = start + length + 3
                    if start < 0:
                        return bytes(out[:size])
                    if stop <= done:
                        out += out[start:stop]
                        done += length + 3
                    else:  # a run that repeats itself
                        length = min(length + 3, size - done)
                        if length <= 0:
                            return bytes(out[:size])
                        out += (out[start:] * (length // (done - start) + 1))[:length]
                        done += length
                if left:
                    out += data[at : at + left]
                    at += left
                    done += left
            if done != len(out):  # the input ended inside literals
                break
    except IndexError:
        pass
    return bytes(out[:size])


def _huffman_table(lengths: bytes) -> list[int] | None:
    """symbol << 4 | bits for every 15-bit prefix, None when the lengths are no code."""
    bits = []
    for byte in lengths:
        bits.append(byte & 15)
        bits.append(byte >> 4)
    table: list[int] = []
    for symbol in sorted((s for s in range(512) if bits[s]), key=lambda s: (bits[s], s)):
        table += [symbol << 4 | bits[symbol]] * (1 << (15 - bits[symbol]))
        if len(table) > 1 << 15:
            return None
    return table if len(table) == 1 << 15 else None


def xpress_huffman(data: bytes, size: int) -> bytes:
    """LZ77 with a Huffman code per 64 KiB of output."""
    out = bytearray()
    at = 0
    padded = data + b"\0" * 8  # the bit reader runs ahead by up to four bytes
    try:
        while len(out) < size and at + 260 <= len(data):
            table = _huffman_table(data[at : at + 256])
            at += 256
            if table is None:
                break
            word = _u16(padded, at) << 16 | _u16(padded, at + 2)
            at += 4
            spare = 16
            stop = min(len(out) + 65536, size)
            while len(out) < stop:
                if at > len(data) + 4:
                    return bytes(out[:size])
                entry = table[word >> 17]
                used = entry & 15
                word = word << used & 0xFFFFFFFF
                spare -= used
                if spare < 0:
                    word |= _u16(padded, at) << -spare if at < len(data) else 0
                    at += 2
                    spare += 16
                symbol = entry >> 4
                if symbol < 256:
                    out.append(symbol)
                    continue
                length, bits = symbol & 15, symbol >> 4 & 15
                if length == 15:
                    length, at = _long_length(data, at, 15)
                    length += 15
                distance = (word >> (32 - bits) if bits else 0) + (1 << bits)
                word = word << bits & 0xFFFFFFFF
                spare -= bits
                if spare < 0:
                    word |= _u16(padded, at) << -spare if at < len(data) else 0
                    at += 2
                    spare += 16
                _copy(out, distance, min(length + 3, size - len(out)))
    except IndexError:
        pass
    return bytes(out[:size])


def lznt1(data: bytes, size: int) -> bytes:
    """Chunks of 4 KiB, each with its own header and sliding split of length and distance."""
    out = bytearray()
    at = 0
    try:
        while at + 2 <= len(data) and len(out) < size:
            head = _u16(data, at)
            at += 2
            if not head:
                break
            end = min(at + (head & 0xFFF) + 1, len(data))
            base = len(out)
            if not head & 0x8000:
                out += data[at:end]
                at = end
                continue
            while at < end and len(out) < size:
                flags = data[at]
                at += 1
                for _ in range(8):
                    if at >= end or len(out) >= size:
                        break
                    if flags & 1:
                        word = _u16(data, at)
                        at += 2
                        shift = 12 - max(0, (len(out) - base - 1).bit_length() - 4)
                        distance = (word >> shift) + 1
                        if distance > len(out) - base:
                            return bytes(out[:size])
                        _copy(out, distance, min((word & _MASK[shift]) + 3, size - len(out)))
                    else:
                        out.append(data[at])
                        at += 1
                    flags >>= 1
    except IndexError:
        pass
    return bytes(out[:size])


PURE: dict[int, Expander] = {LZNT1: lznt1, XPRESS: xpress, XPRESS_HUFF: xpress_huffman}


def _libfwnt() -> dict[int, Expander]:
    try:
        import pyfwnt  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        return {}
    return {
        LZNT1: pyfwnt.lznt1_decompress,
        XPRESS: pyfwnt.lzxpress_decompress,
        XPRESS_HUFF: pyfwnt.lzxpress_huffman_decompress,
    }


def _ntdll() -> dict[int, Expander]:
    if os.name != "nt":
        return {}
    import ctypes

    ntdll: Any = ctypes.WinDLL("ntdll")  # type: ignore[attr-defined,unused-ignore]

    def make(fmt: int) -> Expander:
        one, two = ctypes.c_ulong(), ctypes.c_ulong()
        ntdll.RtlGetCompressionWorkSpaceSize(fmt, ctypes.byref(one), ctypes.byref(two))
        workspace = ctypes.create_string_buffer(max(one.value, two.value, 1))

        def call(data: bytes, size: int) -> bytes:
            out, final = ctypes.create_string_buffer(max(size, 1)), ctypes.c_ulong()
            status = ntdll.RtlDecompressBufferEx(
                fmt, out, size, data, len(data), ctypes.byref(final), workspace
            )
            if status:
                raise ValueError(f"RtlDecompressBufferEx: {status & 0xFFFFFFFF:#010x}")
            return out.raw[: final.value]

        return call

    return {fmt: make(fmt) for fmt in FORMATS}


@cache
def accelerator() -> tuple[str, dict[int, Expander]]:
    """Name and functions of the native expander of this machine; ("", {}) when there is none."""
    for name, find in (("ntdll", _ntdll), ("libfwnt", _libfwnt)):
        found = find()
        if found:
            return name, found
    return "", {}


def expand(fmt: int, data: bytes, size: int, native: bool = True) -> bytes:
    """At most ``size`` bytes of the buffer; shorter when the input is cut or damaged."""
    pure = PURE.get(fmt)
    if pure is None:
        return b""
    name, functions = accelerator() if native else ("", {})
    fast = functions.get(fmt)
    if name == "libfwnt" and size > 65536 and _LONG_MATCH in data:
        fast = None  # it reads a match longer than 65,535 bytes wrongly, without an error
    if fast is not None:
        try:
            out = bytes(fast(data, size))
            if len(out) == size:
                return out
        except Exception:  # noqa: BLE001, S110  whatever native code says, the reference decides
            pass
    return pure(data, size)
