"""How the header of a slice says that it is one: a mark in its comment.

Invariant: a mark only says what its writer says; what is read of memory does not depend on it.
Standard library only.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ..layouts import mindumpdef

_MARK = re.compile(
    rb" ?dumpstart slice type=(\d{1,2}) pages=(\d{1,12})/(\d{1,12})"
    rb"((?: redacted| cut| pages-only)*)"
)


#: the type in a mark of what is no dump
SNAPSHOT = 0


class Mark(NamedTuple):
    """What the comment of a slice says of the dump it was cut from."""

    dump_type: int
    pages: int  #: in the slice
    of_pages: int  #: in the dump
    is_redacted: bool
    was_cut: bool  #: the dump had lost its end
    is_pages_only: bool  #: its secondary data was left out


def mark_of(comment: object) -> Mark | None:
    """The mark in the comment of a header; None in a dump that is no slice."""
    found = _MARK.search(comment) if isinstance(comment, bytes) else None
    if found is None:
        return None
    kind, pages, of_pages = (int(text) for text in found.groups()[:3])
    words = found[4].split()
    return Mark(
        kind, pages, of_pages, b"redacted" in words, b"cut" in words, b"pages-only" in words
    )


def in_comment(before: bytes, mark: Mark) -> bytes:
    """The comment of a slice, as long as the one of its dump; of a slice of a slice, one mark."""
    size = len(before)
    before = before.split(b"\0")[0]
    earlier = mark_of(before)
    if earlier is not None:
        mark = earlier._replace(
            pages=mark.pages,
            is_redacted=mark.is_redacted or earlier.is_redacted,
            is_pages_only=mark.is_pages_only or earlier.is_pages_only,
        )
        before = _MARK.sub(b"", before)
    text = f"dumpstart slice type={mark.dump_type} pages={mark.pages}/{mark.of_pages}".encode()
    text += b" redacted" * mark.is_redacted + b" cut" * mark.was_cut
    text += b" pages-only" * mark.is_pages_only
    if before.startswith(mindumpdef.SIGNATURE):  # the filler of a header that was not filled in
        before = b""
    before = before[: size - len(text) - 2]
    return (before + b" " + text if before else text).ljust(size, b"\0")
