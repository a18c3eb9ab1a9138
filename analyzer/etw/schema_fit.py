"""Whether a payload can be of a schema that is only known from other events.

Invariant: what does not fit is said in words, so that the event keeps its bytes instead of wrong
values; a schema that came with the trace is not judged here.
"""

from __future__ import annotations

import re

from .payload import ANSI, COUNTED_ANSI, COUNTED_UNICODE, POINTER, UNICODE, Decoded

_TEXTS = (UNICODE, ANSI, COUNTED_UNICODE, COUNTED_ANSI)
#: no text of Windows has them: surrogates left alone, private use, replacement, noncharacters
_NO_TEXT = "[\ud800-\uf8ff\ufdd0-\ufdef\ufffd-\uffff]"
_LOWEST_KERNEL = 0xFF00_0000_0000_0000  # with five levels of page tables
_HIGHEST_USER = 1 << 56


def misfit(found: Decoded, pointer: int = 8) -> str:
    """Why a payload cannot be of this schema, in words; "" when nothing speaks against it.

    A guess at a layout must prove itself: every byte is used, texts are texts, pointers can be.
    """
    if found.missing:
        return f"the payload is too short for {found.missing}"
    if found.left:
        return f"{found.left} bytes would be left over"
    for field in found.schema.fields:
        value = found.values.get(field.name)
        if field.kind in _TEXTS and isinstance(value, str) and _is_no_text(value):
            return f"{field.name} would be no text"
        if field.kind != POINTER or pointer != 8 or not isinstance(value, int):
            continue
        if not (value < _HIGHEST_USER or value >= _LOWEST_KERNEL):
            return f"{field.name} would be {value:#x}, which is no address"
    return ""


def _is_no_text(value: str) -> bool:
    return not value.isascii() and bool(re.search(_NO_TEXT, value))
