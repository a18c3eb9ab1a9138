"""What a capture is asked to do, in a form that crosses from one process to another.

Invariant: plain JSON values alone; what is out of range is a usage error before a target is
touched. Standard library only.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from ..errors import UsageError
from .connection import is_server, is_socket

#: what --stop-on takes, besides slow=MS
_STOPS = ("failure", "return", "never")


class Options(NamedTuple):
    """One run of ``dumpstart capture``."""

    connect: str
    backend: str  #: dbgeng, pykd or ntoseye
    output: str
    is_server: bool = False  #: True: a debugger that ran .server is joined
    engine: str | None = None
    symbols: str | None = None
    timeout: float = 3600.0
    calls: int | None = None
    callbacks: tuple[str, ...] = ()
    writes: str = "first:100"
    first_bytes: int = 0  #: of what Dump_Write is given
    tsc_hz: int | None = None
    stop_on: str = "never"


class StopOn(NamedTuple):
    """At which returns the target is left standing."""

    failure: bool = False
    every: bool = False
    slow_ns: int | None = None


def parse_stop_on(text: str) -> StopOn:
    """``failure``, ``slow=MS``, both joined by a comma, ``return`` or ``never``."""
    found = StopOn()
    for word in text.split(","):
        name, equals, value = word.strip().partition("=")
        if name == "slow" and equals:
            try:
                milliseconds = float(value)
            except ValueError:
                milliseconds = -1
            if not 0 < milliseconds < 1e9:
                raise UsageError(f"'{value}' is not a number of milliseconds: slow=500")
            found = found._replace(slow_ns=int(milliseconds * 1e6))
        elif name in _STOPS and not equals:
            found = found._replace(
                failure=found.failure or name == "failure", every=found.every or name == "return"
            )
        else:
            raise UsageError(f"'{text}' is none of failure, slow=MS, return, never")
    return found


def backend_of(connect: str, asked: str | None) -> tuple[str, bool]:
    """(backend, whether a debugger is joined) for a connection."""
    joins = is_server(connect)
    if asked:
        return asked, joins
    return ("ntoseye" if is_socket(connect) else "dbgeng"), joins


def free_name(stem: str = "") -> str:
    """A capture file in this folder that is not there yet."""
    stem = stem or time.strftime("dumpstart-%Y%m%d-%H%M%S")
    name, number = f"{stem}.jsonl", 2
    while os.path.exists(name):
        name, number = f"{stem}-{number}.jsonl", number + 1
    return name
