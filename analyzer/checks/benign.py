"""Failing statuses that a filter is known to return on purpose; the table is ``benign.json``.

Invariant: a status is harmless only for the filter and the callback it is listed for, because the
same NTSTATUS is a fault elsewhere. Only statuses found in a filter's public source are listed.
"""

from __future__ import annotations

import os
from functools import cache
from typing import NamedTuple

from ..names.drivers import plain_name
from ..records import Text


class Benign(NamedTuple):
    """One failing status that is no fault."""

    filter: str  #: file name without ".sys" and without the dump_/hiber_ prefix, lower case
    callback: str  #: Dump_Start, ...
    status: int
    why: str


def parse(text: str) -> tuple[Benign, ...]:
    """The entries of a table in the format of ``benign.json``."""
    import json  # takes longer than most dumps need it

    return tuple(
        Benign(
            plain_name(entry["filter"]), entry["callback"], int(entry["status"], 16), entry["why"]
        )
        for entry in json.loads(text)["statuses"]
    )


@cache
def known() -> tuple[Benign, ...]:
    """The shipped table."""
    with open(os.path.join(os.path.dirname(__file__), "benign.json"), encoding="utf-8") as file:
        return parse(file.read())


def why(module: Text, callback: Text, status: int) -> str:
    """Why this status of this callback is harmless; empty when it is not known to be."""
    key = (plain_name(module), callback, status & 0xFFFFFFFF)
    return next((entry.why for entry in known() if entry[:3] == key), "")
