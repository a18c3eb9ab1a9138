"""The three formats of compressed trace buffers: XPRESS, XPRESS-Huffman, LZNT1 (MS-XCA).

Invariant: :func:`expand` never raises on damaged input and never returns more than asked; a result
shorter than asked means the input ended or broke there. The pure-Python forms are the reference;
on Windows ntdll gives the same bytes faster.
"""

from __future__ import annotations

import sys
from array import array
from functools import cache
from typing import Callable

LZNT1, XPRESS, XPRESS_HUFF = 2, 3, 4
FORMATS = {LZNT1: "LZNT1", XPRESS: "XPRESS", XPRESS_HUFF: "XPRESS-Huffman"}

#: (input, bytes wanted) -> output
Expander = Callable[[bytes, int], bytes]


def _runs(flags: str) -> tuple[tuple[int, ...], int]:
    """Literals before each match, and literals behind the last one."""
    runs = tuple(map(len, flags.split("1")))
    return runs[:-1], runs[-1]


# By flag byte: XPRESS takes its highest bit first, LZNT1 its lowest.
_RUNS_DOWN = [_runs(f"{flags:08b}") for flags in range(256)]
_RUNS_UP = [_runs(f"{flags:08b}"[::-1]) for flags in range(256)]
_MASK = [(1 << bits) - 1 for bits in range(97)]
# LZNT1 divides the 16 bits of a match between distance and length by the place in the chunk.
_SPLIT = [16 - max(4, (place - 1).bit_length()) for place in range(4096)]


def _word(b: bytes | list[int], at: int) -> int:
    return b[at] | b[at + 1] << 8


def _long_length(b: bytes | list[int], at: int, least: int) -> tuple[int, int]:
    """The escapes of both XPRESS forms: (length - 3, next offset)."""
    if b[at] < 255:
        return b[at] + least, at + 1
    length = _word(b, at + 1)
    at += 3
    if not length:
        length = _word(b, at) | _word(b, at + 2) << 16
        at += 4
    if length < least:
        raise IndexError
    return length, at


def xpress(data: bytes, size: int) -> bytes:
    """Plain LZ77: 32 flag bits, then literals and matches."""
    out = bytearray()
    append = out.append
    b = list(data)  # gives its numbers faster than bytes do
    at, nibble = 0, -1
    try:
        while len(out) < size:
            floor = -len(out)
            flags = b[at + 3], b[at + 2], b[at + 1], b[at]
            at += 4
            for byte in flags:
                runs, left = _RUNS_DOWN[byte]
                for run in runs:
                    if run == 1:
                        append(b[at])
                        at += 1
                    elif run:
                        out += data[at : at + run]
                        at += run
                    # A set flag without data is the end of the stream: an IndexError here.
                    low = b[at]
                    back = -1 - (low >> 3) - (b[at + 1] << 5)
                    at += 2
                    length = (low & 7) + 3
                    if length == 10:
                        if nibble < 0:
                            nibble = b[at] >> 4
                            more = b[at] & 15
                            at += 1
                        else:
                            more, nibble = nibble, -1
                        if more < 15:
                            length += more
                        elif b[at] < 255:
                            length = b[at] + 25
                            at += 1
                        else:
                            length, at = _long_length(b, at, 22)
                            length = min(length, max(size - len(out), 0)) + 3
                    if back < floor and -back > len(out):
                        return bytes(out[:size])
                    stop = back + length
                    if stop < 0:
                        out += out[back:stop]
                    else:  # up to the end, or a run that repeats itself
                        out += (out[back:] * (length // -back + 1))[:length]
                if left:
                    out += data[at : at + left]
                    at += left
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
    """LZ77 with a Huffman code per 64 KiB of output.

    The stream is read in 16-bit words, always one or two ahead of the bits in use, and the bytes
    of long lengths stand behind the words read so far. Here four words are taken at once
    (``held`` bits in ``word``), and those too many are given back where that place matters.
    """
    out = bytearray()
    append = out.append
    end, at, done = len(data), 0, 0
    # words with the high byte first, from even and from odd offsets; zeros behind the end
    padded = data + bytes(34 + end % 2)
    even, odd = array("H", padded), array("H", padded[1:-1])
    even.byteswap()
    odd.byteswap()
    swapped = even.tobytes(), odd.tobytes()
    number = int.from_bytes
    try:
        while done < size and at + 260 <= end:
            table = _huffman_table(data[at : at + 256])
            at += 256
            if table is None:
                break
            word = held = 0
            stop = min(done + 65536, size)
            while done < stop:
                if held < 32:
                    low = at & ~1
                    word = (word & _MASK[held]) << 64 | number(
                        swapped[at & 1][low : low + 8], "big"
                    )
                    at += 8
                    held += 64
                if at > end and at - (held >> 3 & ~1) + 2 > end + 4:
                    return bytes(out[:size])
                entry = table[word >> held - 15 & 0x7FFF]
                held -= entry & 15
                if entry < 4096:
                    append(entry >> 4)
                    done += 1
                    continue
                length, bits = entry >> 4 & 15, entry >> 8 & 15
                if length == 15:
                    spare = (held >> 4) - 1
                    at -= 2 * spare
                    held -= 16 * spare
                    word >>= 16 * spare
                    length, at = _long_length(data, at, 15)
                held -= bits
                back = -(word >> held & _MASK[bits]) - (1 << bits)
                if -back > done:
                    return bytes(out)
                length = min(length + 3, size - done)
                done += length
                if back + length < 0:
                    out += out[back : back + length]
                else:
                    out += (out[back:] * (length // -back + 1))[:length]
            at -= 2 * ((held >> 4) - 1)
    except IndexError:
        pass
    return bytes(out)


def lznt1(data: bytes, size: int) -> bytes:
    """Chunks of 4 KiB, each with its own header and sliding split of length and distance."""
    out = bytearray()
    append = out.append
    at, end = 0, len(data)
    while at + 2 <= end and len(out) < size:
        head = _word(data, at)
        at += 2
        if not head:
            break
        chunk = data[at : at + (head & 0xFFF) + 1]
        at += len(chunk)
        if not head & 0x8000:
            out += chunk
            continue
        b, k, place = list(chunk), 0, 0
        try:
            while True:
                runs, left = _RUNS_UP[b[k]]
                k += 1
                for run in runs:
                    if run == 1:
                        append(b[k])
                        k += 1
                    elif run:
                        out += chunk[k : k + run]
                        k += run
                    place += run
                    match = b[k] | b[k + 1] << 8
                    k += 2
                    shift = _SPLIT[place]
                    back = -1 - (match >> shift)
                    if -back > place:
                        return bytes(out[:size])
                    length = (match & _MASK[shift]) + 3
                    place += length
                    if back + length < 0:
                        out += out[back : back + length]
                    else:
                        out += (out[back:] * (length // -back + 1))[:length]
                if left:
                    out += chunk[k : k + left]
                    k += left
                    place += left
        except IndexError:  # the chunk ends, mostly before its last flags are used up
            pass
    return bytes(out[:size])


PURE: dict[int, Expander] = {LZNT1: lznt1, XPRESS: xpress, XPRESS_HUFF: xpress_huffman}


@cache
def _ntdll() -> dict[int, Expander]:
    """The expanders of Windows itself; none elsewhere."""
    if sys.platform == "win32":
        import ctypes

        ntdll = ctypes.WinDLL("ntdll")

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
    return {}


def expand(fmt: int, data: bytes, size: int) -> bytes:
    """At most ``size`` bytes of the buffer; shorter when the input is cut or damaged."""
    pure = PURE.get(fmt)
    if pure is None:
        return b""
    fast = _ntdll().get(fmt)
    if fast is not None:
        try:
            out = fast(data, size)
            if len(out) == size:
                return out
        except Exception:  # noqa: BLE001, S110  whatever native code says, the reference decides
            pass
    return pure(data, size)
