"""A cursor over the bytes of a payload.

Invariant: what is not all there is a ShortError and never a part.
"""

from __future__ import annotations

import struct
from typing import Any


class ShortError(Exception):
    """The payload ends inside a field."""


class Reader:
    """A cursor over a payload."""

    def __init__(self, data: bytes, pointer: int) -> None:
        self.data, self.at, self.pointer = data, 0, pointer

    def take(self, count: int) -> bytes:
        """The next bytes, all or ShortError."""
        if count < 0 or self.at + count > len(self.data):
            raise ShortError
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, code: str) -> int:
        """The next whole number, by its struct code."""
        value: int = self.value(code)
        return value

    def value(self, code: str) -> Any:
        """The next value, by its struct code."""
        try:
            value = struct.unpack_from("<" + code, self.data, self.at)[0]
        except struct.error:
            raise ShortError from None
        self.at += struct.calcsize("<" + code)
        return value

    def text(self, wide: bool, units: int | None, encoding: str) -> str:
        """A NUL-terminated string, or one of a given number of characters."""
        if units is not None:
            raw = self.take(units * (2 if wide else 1))
            text = raw.decode("utf-16-le" if wide else encoding, "replace")
            return text.split("\0", 1)[0]
        if not wide:
            end = self.data.find(b"\0", self.at)
            raw = self.data[self.at : end if end >= 0 else len(self.data)]
            self.at = end + 1 if end >= 0 else len(self.data)
            return raw.decode(encoding, "replace")
        end = self.at
        while True:  # an aligned NUL pair
            end = self.data.find(b"\0\0", end)
            if end < 0 or (end - self.at) % 2 == 0:
                break
            end += 1
        if end < 0:
            end = len(self.data)
        raw = self.data[self.at : end]
        self.at = min(end + 2, len(self.data))
        return raw[: len(raw) & ~1].decode("utf-16-le", "replace")
