"""Compressors for the three formats of MS-XCA, with the codes and matches that real data gives.

Independent of the package under test: written from the specification, to invert and to time the
expanders. Simple rather than strong: a match is looked for at the last place of the same 3 bytes.
"""

from __future__ import annotations

import heapq
import struct
from collections import Counter
from typing import Callable, Union

Token = Union[int, tuple[int, int]]  # a literal, or (distance, length)


def matches(data: bytes, window: int, longest: Callable[[int], int]) -> list[Token]:
    """Greedy LZ77; ``longest`` tells the longest match that may start at a place."""
    out: list[Token] = []
    seen: dict[bytes, int] = {}
    at = 0
    while at < len(data):
        key = data[at : at + 3]
        where = seen.get(key, -1) if len(key) == 3 else -1
        length = 0
        if where >= 0 and at - where <= window:
            most = min(longest(at), len(data) - at)
            step = 1 << 12
            while step:
                part = length + step
                if (
                    part <= most
                    and data[where + length : where + part] == data[at + length : at + part]
                ):
                    length = part
                else:
                    step >>= 1
        if length >= 3:
            out.append((at - where, length))
            for k in range(at, at + min(length, 64)):
                seen[data[k : k + 3]] = k
            at += length
        else:
            seen[key] = at
            out.append(data[at])
            at += 1
    return out


def xpress(data: bytes) -> bytes:
    """Plain LZ77: 32 flag bits, then literals and matches."""
    out = bytearray(4)
    flags, count, flag_at, nibble = 0, 0, 0, -1
    for token in matches(data, 8192, lambda _: 1 << 24):
        if isinstance(token, int):
            out.append(token)
            flags <<= 1
        else:
            distance, length = token
            length -= 3
            out += struct.pack("<H", (distance - 1) << 3 | min(length, 7))
            if length >= 7:
                rest = length - 7
                if nibble < 0:
                    nibble = len(out)
                    out.append(min(rest, 15))
                else:
                    out[nibble] |= min(rest, 15) << 4
                    nibble = -1
                if rest >= 15:
                    out += _long(rest - 15, length)
            flags = flags << 1 | 1
        count += 1
        if count == 32:
            struct.pack_into("<I", out, flag_at, flags)
            flags, count, flag_at = 0, 0, len(out)
            out += bytes(4)
    pad = 32 - count
    struct.pack_into("<I", out, flag_at, (flags << pad | (1 << pad) - 1) & 0xFFFFFFFF)
    return bytes(out)


def _long(rest: int, length: int) -> bytes:
    """The escapes of both XPRESS forms: one, three or seven bytes."""
    if rest < 255:
        return bytes([rest])
    if length < 65536:
        return struct.pack("<BH", 255, length)
    return struct.pack("<BHI", 255, 0, length)


def lznt1(data: bytes) -> bytes:
    """Chunks of 4096 bytes, in which length and distance share 16 bits by the place."""
    out = bytearray()
    for base in range(0, len(data), 4096):
        chunk = data[base : base + 4096]
        body = bytearray()
        at, flag_at, bit = 0, -1, 8
        for token in matches(chunk, 4096, lambda at: (1 << (16 - _split(at))) + 2):
            if bit == 8:
                flag_at, bit = len(body), 0
                body.append(0)
            if isinstance(token, int):
                body.append(token)
                at += 1
            else:
                distance, length = token
                body[flag_at] |= 1 << bit
                body += struct.pack("<H", (distance - 1) << (16 - _split(at)) | (length - 3))
                at += length
            bit += 1
        if len(body) < len(chunk):
            out += struct.pack("<H", 0xB000 | (len(body) - 1)) + body
        else:
            out += struct.pack("<H", 0x3000 | (len(chunk) - 1)) + chunk
    return bytes(out + b"\0\0")


def _split(at: int) -> int:
    return max(4, (at - 1).bit_length()) if at else 4


class _Bits:
    """The bit stream of MS-XCA: 16-bit words reserved two ahead, bytes in between."""

    def __init__(self, out: bytearray) -> None:
        self.out, self.one, self.two = out, len(out), len(out) + 2
        self.free, self.word = 16, 0
        out += bytes(4)

    def put(self, value: int, bits: int) -> None:
        if self.free >= bits:
            self.free -= bits
            self.word = self.word << bits | value
            return
        self.word = self.word << self.free | value >> (bits - self.free)
        bits -= self.free
        struct.pack_into("<H", self.out, self.one, self.word & 0xFFFF)
        self.one, self.two = self.two, len(self.out)
        self.out += b"\0\0"
        self.free, self.word = 16 - bits, value & ((1 << bits) - 1)

    def flush(self) -> None:
        struct.pack_into("<H", self.out, self.one, self.word << self.free & 0xFFFF)
        struct.pack_into("<H", self.out, self.two, 0)


def code_lengths(counts: Counter[int]) -> dict[int, int]:
    """Huffman code lengths of at most 15 bits; rare symbols are made less rare until they fit."""
    while True:
        heap = [(count, symbol, (symbol,)) for symbol, count in counts.items()]
        heapq.heapify(heap)
        lengths = dict.fromkeys(counts, 0)
        while len(heap) > 1:
            a, b = heapq.heappop(heap), heapq.heappop(heap)
            for symbol in a[2] + b[2]:
                lengths[symbol] += 1
            heapq.heappush(heap, (a[0] + b[0], min(a[1], b[1]), a[2] + b[2]))
        if max(lengths.values()) <= 15:
            return lengths
        counts = Counter({symbol: count // 2 + 1 for symbol, count in counts.items()})


def _symbol(token: Token) -> int:
    if isinstance(token, int):
        return token
    return 256 | (token[0].bit_length() - 1) << 4 | min(token[1] - 3, 15)


def xpress_huffman(data: bytes) -> bytes:
    """LZ77 and a Huffman code of its own for each 64 KiB of output."""
    out = bytearray()
    tokens = matches(data, 65535, lambda _: 1 << 24)
    done = k = 0
    while k < len(tokens):
        first, stop = k, done + 65536
        while k < len(tokens) and done < stop:
            token = tokens[k]
            done += 1 if isinstance(token, int) else token[1]
            k += 1
        block = tokens[first:k]
        lengths = code_lengths(Counter([*map(_symbol, block), 256, 0]))  # 256 ends the stream
        codes, code, last = {}, 0, 0
        for length, symbol in sorted((length, symbol) for symbol, length in lengths.items()):
            code <<= length - last
            codes[symbol], last = (code, length), length
            code += 1
        out += bytes(lengths.get(s, 0) | lengths.get(s + 1, 0) << 4 for s in range(0, 512, 2))
        bits = _Bits(out)
        for token in block:
            bits.put(*codes[_symbol(token)])
            if not isinstance(token, int):
                distance, rest = token[0], token[1] - 3
                if rest >= 15:
                    out += _long(rest - 15, rest)
                high = distance.bit_length() - 1
                bits.put(distance - (1 << high), high)
        if k == len(tokens):
            bits.put(*codes[256])
        bits.flush()
        done = max(done, stop)
    return bytes(out)
