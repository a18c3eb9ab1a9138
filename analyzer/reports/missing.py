"""Why fields have no value, a sentence per reason.

Invariant: what does not apply is not missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from ..absence import Absent
from ..formatting import clean, listed
from ..records import Callback, Origin
from .blocks import Paragraph


class Row(Protocol):
    """A record of any table."""

    @property
    def origin(self) -> Origin: ...
    @property
    def _fields(self) -> tuple[str, ...]: ...


def reasons(
    rows: Iterable[Row], names: Iterable[str] | None = None, leave: Iterable[str] = ()
) -> dict[str, list[str]]:
    """Reason -> the fields that have no value for it."""
    groups: dict[str, dict[str, None]] = {}
    leave = set(leave)
    for row in rows:
        for name in names or row._fields[:-1]:
            value = getattr(row, name)
            if isinstance(value, Absent) and value.reason != "not-applicable" and name not in leave:
                groups.setdefault(clean(value), {})[name] = None
    return {reason: list(fields) for reason, fields in groups.items()}


def of_callbacks(calls: Iterable[Callback], names: Iterable[str]) -> dict[str, list[str]]:
    """Reason -> the fields of calls, with the callbacks that lack one where others have it."""
    calls = list(calls)
    lack: dict[str, dict[str, list[str]]] = {}
    for call in calls:
        for reason, fields in reasons([call], names).items():
            for name in fields:
                lack.setdefault(reason, {}).setdefault(name, []).append(clean(call.callback))
    found = {}
    for reason, callbacks in lack.items():
        whose: dict[str, list[str]] = {}
        for name, of in callbacks.items():
            some = f" of {listed(dict.fromkeys(of))}" if len(of) < len(calls) else ""
            whose.setdefault(some, []).append(name)
        found[reason] = [", ".join(fields) + some for some, fields in whose.items()]
    return found


def missing(rows: Iterable[Row], names: Iterable[str], level: int = 0) -> Iterator[Paragraph]:
    """The same as paragraphs."""
    yield from paragraphs(reasons(rows, names), level)


def paragraphs(found: dict[str, list[str]], level: int = 0) -> Iterator[Paragraph]:
    """One for each reason."""
    for reason, fields in found.items():
        yield Paragraph(f"not determined: {', '.join(fields)} ({reason})", level)
