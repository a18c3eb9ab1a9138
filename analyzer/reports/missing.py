"""Why fields have no value, a sentence per reason.

Invariant: what does not apply is not missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from ..absence import Absent
from ..formatting import clean
from ..records import Origin
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


def missing(rows: Iterable[Row], names: Iterable[str], level: int = 0) -> Iterator[Paragraph]:
    """The same as paragraphs."""
    for reason, fields in reasons(rows, names).items():
        yield Paragraph(f"not determined: {', '.join(fields)} ({reason})", level)
