"""The bytes of a DumpStack.log -> its lines, whatever git, an editor or a mail client did to them.

Invariant: every printable byte of the file is in exactly one of ``lines`` and ``leftover``; the
binary header is only believed where it agrees with the text. Standard library only.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import NamedTuple

from ..layouts import dumpstack_log as layout

#: the format holds 12 KiB, UTF-16 doubles that; no more than this is read
READ_LIMIT = 64 * 1024
#: no line of a real log is longer than this; less room than this is left = the log is full
LONGEST_LINE = 128
_FIRST_LINE = "Dump stack initialized"
#: words of lines that no other known kind of file has: a copy can have lost its start
_WORDS = (
    "Dump stack initialized at UTC",
    "Elapsed BugCheck duration ",
    " secondary callback data done.",
)
_LINE = re.compile(r"([^\r\n]*)(\r\n|\n|\r|$)")


class Line(NamedTuple):
    """One line: where it starts in the file, its text, and whether a line end follows."""

    offset: int
    text: str
    is_ended: bool


class LogText(NamedTuple):
    """The log as text, and what is known about its container."""

    encoding: str  #: 8-bit, UTF-8, UTF-16
    version: str  #: "1.0", or "" when the header is gone
    line_ends: str  #: CRLF, LF, CR, mixed, or none
    stated_end: int | None  #: the length word of the header, None when it cannot be read
    is_end_confirmed: bool  #: the length word and the text agree
    is_cut: bool  #: the header announces more text than the file holds
    is_unclosed: bool  #: the header still has the size of the file in place of a length
    original_end: int  #: where the text ends in the file as Windows wrote it
    end: int  #: where the text ends in this file
    room: int | None  #: bytes left for more text; None when the file's original size is not known
    lines: list[Line]
    leftover: list[Line]  #: text behind the end, of an older and longer log


def is_log(data: bytes) -> bool:
    """True when the start of a file looks like this log, in any of its encodings."""
    head = _units(data[:READ_LIMIT])[0][:4096]
    return layout.MAGIC in head or any(words in head for words in _WORDS)


def decode(data: bytes) -> LogText | None:
    """Splits a file into lines; None when it is no such log."""
    if not is_log(data):
        return None
    units, encoding, size, bom = _units(data[:READ_LIMIT])
    magic = units.find(layout.MAGIC, 0, 4096)
    header = units[magic:] if magic >= 0 else ""
    start = _text_start(units, magic)
    body = units[start:]
    filler = body.find("\0")
    has_filler = filler >= 0
    text = body[:filler] if has_filler else body

    lone_lf = len(re.findall(r"(?<!\r)\n", text))
    crlf, lone_cr = text.count("\r\n"), len(re.findall(r"\r(?!\n)", text))
    kinds = [k for k, n in (("CRLF", crlf), ("LF", lone_lf), ("CR", lone_cr)) if n]
    line_ends = kinds[0] if len(kinds) == 1 else "mixed" if kinds else "none"

    # position of a text index in the file as Windows wrote it: each lone line end was two bytes
    base = layout.TEXT + (0 if text[:1] in ("\r", "\n") else 2)
    lone = {"LF": "\n", "CR": "\r"}.get(line_ends)
    grown = "[\x80-\xbf]" if encoding == "UTF-8" else ""  # bytes after the first of a character

    def original(index: int) -> int:
        added = len(re.findall(grown, text[:index])) if grown else 0
        return base + index - added + (text.count(lone, 0, index) if lone else 0)

    stated = _stated_end(header, encoding)
    cut_at = _index_of(stated, original, len(text)) if stated is not None else None
    confirmed = cut_at is not None and (cut_at in (0, len(text)) or text[cut_at - 1] in "\r\n")
    end = cut_at if cut_at is not None and confirmed else len(text)
    is_cut = stated is not None and stated > original(len(text)) and not has_filler

    def lines(begin: int, stop: int) -> list[Line]:
        found = []
        for match in _LINE.finditer(body, begin, stop):
            words = match.group(1).strip("\0")
            if words.strip():
                lead = len(match.group(1)) - len(match.group(1).lstrip("\0"))
                offset = bom + (start + match.start() + lead) * size
                found.append(Line(offset, _text(words, encoding), bool(match.group(2))))
        return found

    before = units[: max(magic, 0)].strip(" \r\n\t\0")
    inserted = [Line(bom, _text(before, encoding), True)] if before else []
    leftover = lines(end, len(body))
    # both logs of dumps that broke off: length = size of the file, zeros from the last line on
    is_unclosed = stated == len(data) and has_filler and not confirmed and not leftover
    return LogText(
        encoding=encoding,
        version=_version(header),
        line_ends=line_ends,
        stated_end=stated,
        is_end_confirmed=confirmed,
        is_cut=is_cut,
        is_unclosed=is_unclosed,
        original_end=original(end),
        end=bom + (start + end) * size,
        room=_room(len(data), original(end), has_filler, bool(lone) or encoding != "8-bit"),
        lines=inserted + lines(0, end),
        leftover=leftover,
    )


def _units(data: bytes) -> tuple[str, str, int, int]:
    """(text with one character per code unit, encoding, bytes per unit, bytes of the mark)."""
    for mark, codec in ((b"\xff\xfe", "<"), (b"\xfe\xff", ">")):
        if data.startswith(mark):
            return _utf16(data[2:], codec), "UTF-16", 2, 2
    for start, codec in ((b"D\0", "<"), (b"\0D", ">")):
        if data.startswith(start):
            return _utf16(data, codec), "UTF-16", 2, 0
    bom = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    body = data[bom:]
    is_utf8 = bool(bom) or (not body.isascii() and _is_utf8(body))
    return body.decode("latin-1"), "UTF-8" if is_utf8 else "8-bit", 1, bom


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


def _text_start(units: str, magic: int) -> int:
    """Index of the first character after the header; the header may have grown or shrunk."""
    if magic < 0:
        return 0
    fixed = magic + layout.TEXT
    if units[fixed : fixed + 1] in ("\r", "\n"):
        return fixed
    first = units.find(_FIRST_LINE, magic, magic + 4096)
    return first if first >= 0 else min(fixed, len(units))


def _version(header: str) -> str:
    digits = header[layout.VERSION : layout.VERSION + layout.VERSION_LENGTH]
    if len(digits) == layout.VERSION_LENGTH and digits.isascii() and digits.isdigit():
        return f"{int(digits[:4])}.{int(digits[4:])}"
    return ""


def _stated_end(header: str, encoding: str) -> int | None:
    """The length word, also from a header that was re-encoded as text."""
    word = header[layout.TEXT_END : layout.TEXT_END + 16]
    if encoding == "8-bit":
        raw = word.encode("latin-1")
    else:
        try:
            raw = _text(word, encoding).encode("cp1252")
        except UnicodeEncodeError:
            raw = _text(word, encoding).encode("latin-1", "replace")
    if len(raw) < 4:
        return None
    value: int = struct.unpack("<I", raw[:4])[0]
    return value if layout.TEXT <= value <= 1 << 20 else None


def _index_of(stated: int, original: Callable[[int], int], length: int) -> int | None:
    """The text index that lay at file offset ``stated`` originally, None when there is none."""
    low, high = 0, length
    while low < high:
        middle = (low + high) // 2
        if original(middle) < stated:
            low = middle + 1
        else:
            high = middle
    return low if original(low) == stated else None


def _room(size: int, original_end: int, has_filler: bool, is_rewritten: bool) -> int | None:
    """Bytes left in the log file as Windows made it."""
    if not is_rewritten and (has_filler or size % layout.CLUSTER == 0):
        return size - original_end
    fits = [capacity - original_end for capacity in layout.CAPACITIES if capacity >= original_end]
    # a rewritten copy has lost its zero filler: only a text just below a known size is suspicious
    return min(fits) if fits and min(fits) < LONGEST_LINE else None
