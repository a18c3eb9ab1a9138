"""Messages between the two processes: a length, JSON, and the bytes that it names.

Invariant: a message that is not one gives None or ValueError, never code or an object; its size is
bounded. Standard library only.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import IO, Any, TypedDict

#: longest text of a message and most bytes with it
_MOST_TEXT, _MOST_BYTES = 1 << 22, 1 << 24


Message = dict[str, Any]  #: JSON with bytes in it


class Setup(TypedDict):
    """What the child is told before the first call."""

    architecture: str
    kpcr: int
    stack: int
    stack_bytes: int
    back: int  #: where the routine returns to
    heap: int
    known: list[tuple[int, str]]  #: addresses of routines that are answered
    modules: list[tuple[int, int]]
    made: list[tuple[int, bytes]]  #: pages of our own
    read_only: list[tuple[int, int]]


class Call(TypedDict):
    """One call."""

    routine: int
    arguments: list[int]
    extension: tuple[int, int]  #: address and size
    patches: list[tuple[int, bytes]]
    made: list[tuple[int, bytes]]
    source: str  #: name of the state to begin with
    keep: str  #: name under which to keep the state behind it
    limits: dict[str, float]


#: what came of a call; which of it there is depends on the outcome
Result = TypedDict(  # noqa: UP013 - too long as a class
    "Result",
    {
        "outcome": str, "why": str, "name": str, "text": str, "what": str, "access": str,
        "pc": int, "status": int, "size": int, "lap": int, "address": int, "raised": int,
        "instructions": int, "stack_bytes": int, "stall_us": int, "pages": int, "seconds": float,
        "varies": bool, "is_cut": bool, "arguments": list[int], "waits": list[tuple[int, int]],
        "members_read": list[int], "members_written": list[int], "reads": list[tuple[int, int]],
        "changes": list[tuple[int, str, str]], "calls": list[int], "forbidden": list[str],
        "assumed": list[str], "code": list[int],
    },
    total=False,
)  # fmt: skip


def send(sink: IO[bytes], message: Mapping[str, object]) -> None:
    """Writes one message; ``bytes`` values travel behind the text, in order."""
    blobs: list[bytes] = []

    def plain(value: object) -> object:
        if isinstance(value, (bytes, bytearray)):
            blobs.append(bytes(value))
            return {"bytes": len(value)}
        if isinstance(value, dict):
            return {str(key): plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return value

    text = json.dumps(plain(message), separators=(",", ":")).encode("ascii")
    data = b"".join(blobs)
    sink.write(struct.pack("<II", len(text), len(data)) + text + data)
    sink.flush()


def receive(source: IO[bytes]) -> Message | None:
    """Reads one message; None at the end of the pipe."""
    head = source.read(8)
    if len(head) < 8:
        return None
    length, size = struct.unpack("<II", head)
    if length > _MOST_TEXT or size > _MOST_BYTES:
        raise ValueError("a message is too long")
    text, data = source.read(length), source.read(size)
    if len(text) < length or len(data) < size:
        return None
    at = 0

    def whole(value: object) -> object:
        nonlocal at
        if isinstance(value, dict):
            if list(value) == ["bytes"]:
                at += int(value["bytes"])
                return data[at - int(value["bytes"]) : at]
            return {key: whole(item) for key, item in value.items()}
        if isinstance(value, list):
            return [whole(item) for item in value]
        return value

    message = whole(json.loads(text))
    if not isinstance(message, dict):
        raise ValueError("a message is not an object")
    return message
