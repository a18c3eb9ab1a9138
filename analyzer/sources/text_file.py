"""Text files as Windows tools write them: which encoding a file has.

Invariant: never fails on content; what is neither UTF-16 nor UTF-8 is taken for ANSI (cp1252).
Standard library only.
"""

from __future__ import annotations

import codecs

from ..errors import InputError
from ..files import reason


def encoding_of(path: str) -> str:
    """The codec to open the file with; InputError when it is empty or cannot be read."""
    try:
        with open(path, "rb") as file:
            head = file.read(1 << 16)
    except OSError as error:
        raise InputError(path, f"cannot be read: {reason(error)}") from error
    if not head:
        raise InputError(path, "is empty")
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    if head[1:2] == b"\0":
        return "utf-16-le"
    try:
        # not to the last byte: what was read may end inside a character
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"
