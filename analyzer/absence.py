"""Absence as a value: what the evidence does not give, why, and what would tell.

Invariant: an :class:`Absent` is false in a condition and never stands for zero. Standard library
only, because the in-debugger half uses it too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from typing_extensions import TypeIs

T = TypeVar("T")

#: reason code -> what it means to a reader
REASONS = {
    "not-mapped": "the target had no memory at this address",
    "paged-out": "the page was in the page file when the machine crashed",
    "not-in-dump": "the target had this memory, but the dump does not hold it",
    "file-cut": "the dump should hold it, but the file ends before it",
    "unset": "the field was never filled in",
    "not-recorded": "this kind of source does not record it",
    "not-found": "looked for by content and not found",
    "unknown-layout": "the layout of this structure is not known for this Windows version",
    "out-of-range": "the stored value cannot be what the field stands for",
    "not-applicable": "it does not apply here",
    "redacted": "left out, because a redacted result was asked for",
}


class Absent(NamedTuple):
    """A value that the evidence does not give.

    ``reason`` is a key of :data:`REASONS`; ``detail`` one clause on what was looked for;
    ``would_tell`` the source or dump type that would give the value.
    """

    reason: str
    detail: str = ""
    would_tell: str = ""

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        text = self.detail or REASONS.get(self.reason, self.reason)
        return f"{text}; {self.would_tell} would tell" if self.would_tell else text


def is_absent(value: object) -> TypeIs[Absent | None]:
    """True for an :class:`Absent` and for None."""
    return value is None or isinstance(value, Absent)


def known(value: T | Absent | None) -> T | None:
    """The value, or None when it is absent."""
    return None if is_absent(value) else value


def first_present(values: Iterable[T | Absent | None]) -> T | None:
    """The first value that is not absent, else None."""
    return next((value for value in values if not is_absent(value)), None)
