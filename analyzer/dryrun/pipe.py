"""Messages between the two processes: a length, JSON, and the bytes that it names.

Invariant: a message that is not one gives None or ValueError, never code or an object; its size is
bounded. Standard library only.
"""

from __future__ import annotations

import json
import struct
from typing import Any

#: longest text of a message and most bytes with it
_MOST_TEXT, _MOST_BYTES = 1 << 22, 1 << 24


def send(sink: Any, message: dict[str, Any]) -> None:
    """Writes one message; ``bytes`` values travel behind the text, in order."""
    blobs: list[bytes] = []

    def plain(value: Any) -> Any:
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


def receive(source: Any) -> dict[str, Any] | None:
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

    def whole(value: Any) -> Any:
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
