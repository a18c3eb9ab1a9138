"""The bytes of a DumpStack.log -> its lines, whatever git, an editor or a mail client did to them.

Invariant: every printable byte of what is read is in exactly one of ``lines`` and ``leftover``; the
binary header is only believed where it agrees with the text. Standard library only.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from ..layouts import dumpstack_log as layout

#: the format holds 12 KiB; of a file that is larger than this, no more is read
READ_LIMIT = 1 << 16
#: no line of a real log is longer than this; less room than this is left = the log is full
LONGEST_LINE = 128
#: words of lines that no other known kind of file has: a copy can have lost its start
_FIRST_LINE = "Dump stack initialized"
_WORDS = re.compile(
    rf"{_FIRST_LINE} at UTC: *\d|^[\s>\d:]*Elapsed BugCheck duration \d+ms|"
    r"Writing \S+ secondary callback data done\.",
    re.M,
)
_LINE = re.compile(r"([^\r\n]*)(\r\n|\n|\r|$)")
#: characters that the header has and no text: it holds ten zeros
_BINARY = re.compile(r"[\0-\x08\x0e-\x1f]")


class Line(NamedTuple):
    """One line: where it starts in the file, its text, and whether a line end follows."""

    offset: int
    text: str
    is_ended: bool
    is_apart: bool = False  #: an empty line, or a mark of quoted text, stands before it


class LogText(NamedTuple):
    """The log as text, and what is known about its container."""

    encoding: str  #: 8-bit, UTF-8, UTF-16
    has_header: bool  #: bytes of the binary header stand before the text, whole or damaged
    version: str  #: "1.0", or "" when the header is gone
    line_ends: str  #: CRLF, LF, CR, mixed, or none
    stated_end: int | None  #: the length word of the header, None when it cannot be read
    is_end_confirmed: bool  #: the length word and the text agree
    is_cut: bool  #: the header announces more text than the file holds
    is_unclosed: bool  #: the header still has the size of the file in place of a length
    is_limited: bool  #: the file is longer than what was read of it
    original_end: int  #: where the text ends in the file as Windows wrote it
    room: int | None  #: bytes left for more text; None when the file's original size is not known
    lines: list[Line]
    leftover: list[Line]  #: text behind the end, of an older and longer log


def is_log(data: bytes) -> bool:
    """True when the start of a file looks like this log, in any of its encodings."""
    head = _units(data[:8192])[0][:4096]
    return layout.MAGIC in head or _WORDS.search(head) is not None


def decode(data: bytes, size: int) -> LogText | None:
    """Splits what was read of a file of ``size`` bytes into lines; None when it is no such log."""
    if not is_log(data):
        return None
    units, encoding, width, mark = _units(data[:READ_LIMIT])
    magic = units.find(layout.MAGIC, 0, 4096)
    header = units[magic:] if magic >= 0 else ""
    start = _text_start(units, magic)
    text, filler, _ = units[start:].partition("\0")
    ends = {match.group(2) for match in _LINE.finditer(text)} - {""}
    names = {"\r\n": "CRLF", "\n": "LF", "\r": "CR"}
    line_ends = "mixed" if len(ends) > 1 else names[ends.pop()] if ends else "none"

    # Where each line ended in the file as Windows wrote it: in 8-bit characters, with CR LF.
    at = layout.TEXT + (0 if text[:1] in ("\r", "\n") else 2)
    stated = _stated_end(header) if encoding == "8-bit" else None
    lines: list[Line] = []
    behind: list[Line] = []
    confirmed = stated == at
    original = at
    is_apart = False
    for match in _LINE.finditer(text):
        shown, is_old = _text(match.group(1), encoding), confirmed
        at += len(shown) + 2 * bool(match.group(2))
        if shown.strip():
            offset = mark + (start + match.start()) * width
            line = Line(offset, shown, bool(match.group(2)), is_apart or shown.startswith("```"))
            (behind if is_old else lines).append(line)
        is_apart = not shown.strip()
        if not is_old:
            original = at
        confirmed = confirmed or at == stated
    before = units[: max(magic, 0)].strip(" \r\n\t\0")
    if before:
        lines.insert(0, Line(mark, _text(before, encoding), True))
    behind += _behind(units, start + len(text), encoding, width, mark)
    is_rewritten = encoding != "8-bit" or line_ends in ("LF", "CR")
    return LogText(
        encoding=encoding,
        has_header=_has_header(units, magic),
        version=_version(header),
        line_ends=line_ends,
        stated_end=stated,
        is_end_confirmed=confirmed,
        is_cut=stated is not None and stated > at and not filler and size <= READ_LIMIT,
        # both logs of dumps that broke off: length = size of the file, zeros from the last line on
        is_unclosed=stated == size and bool(filler) and not confirmed and not behind,
        is_limited=size > READ_LIMIT and not filler,
        original_end=original,
        room=_room(size, original, bool(filler), is_rewritten),
        lines=lines,
        leftover=behind,
    )


def _behind(units: str, start: int, encoding: str, width: int, mark: int) -> list[Line]:
    """Lines behind the zeros that follow the text."""
    found = []
    for match in re.finditer(r"[^\r\n\0]+", units[start:]):
        if match.group().strip():
            offset = mark + (start + match.start()) * width
            found.append(Line(offset, _text(match.group(), encoding), True))
    return found


def _units(data: bytes) -> tuple[str, str, int, int]:
    """(text with one character per code unit, encoding, bytes per unit, bytes of the mark)."""
    for first, codec, mark in (
        (b"\xff\xfe", "<", 2), (b"\xfe\xff", ">", 2), (b"D\0", "<", 0), (b"\0D", ">", 0),
    ):  # fmt: skip
        if data.startswith(first):
            return _utf16(data[mark:], codec), "UTF-16", 2, mark
    mark = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    body = data[mark:]
    is_utf8 = bool(mark) or (not body.isascii() and _is_utf8(body))
    return body.decode("latin-1"), "UTF-8" if is_utf8 else "8-bit", 1, mark


def _utf16(data: bytes, order: str) -> str:
    units = struct.unpack(f"{order}{len(data) // 2}H", data[: len(data) & ~1])
    return "".join("\ufffd" if 0xD800 <= u < 0xE000 else chr(u) for u in units)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _text(units: str, encoding: str) -> str:
    if encoding == "UTF-8":
        return units.encode("latin-1").decode("utf-8", "replace")
    return units


def _has_header(units: str, magic: int) -> bool:
    """Whether bytes of a header stand before the text; its name may be damaged (``magic`` < 0)."""
    return magic >= 0 or _BINARY.search(units[: layout.TEXT]) is not None


def _text_start(units: str, magic: int) -> int:
    """Index of the first character after the header; the header may have grown or shrunk."""
    if not _has_header(units, magic):
        return 0
    at = max(magic, 0)
    fixed = at + layout.TEXT
    if units[fixed : fixed + 1] in ("\r", "\n"):
        return fixed
    first = units.find(_FIRST_LINE, at, at + 4096)
    return first if first >= 0 else min(fixed, len(units))


def _version(header: str) -> str:
    digits = header[layout.VERSION : layout.VERSION + layout.VERSION_LENGTH]
    if len(digits) == layout.VERSION_LENGTH and digits.isascii() and digits.isdigit():
        return f"{int(digits[:4])}.{int(digits[4:])}"
    return ""


def _stated_end(header: str) -> int | None:
    """The length word of a header that is as Windows wrote it."""
    raw = header[layout.TEXT_END : layout.TEXT_END + 4].encode("latin-1")
    value = int.from_bytes(raw, "little") if len(raw) == 4 else 0
    return value if layout.TEXT <= value <= 1 << 20 else None


def _room(size: int, original_end: int, has_filler: bool, is_rewritten: bool) -> int | None:
    """Bytes left in the log file as Windows made it."""
    if not is_rewritten and (has_filler or size % layout.CLUSTER == 0):
        return size - original_end
    fits = [capacity - original_end for capacity in layout.CAPACITIES if capacity >= original_end]
    # a rewritten copy has lost its zero filler: only a text just below a known size is suspicious
    return min(fits) if fits and min(fits) < LONGEST_LINE else None
