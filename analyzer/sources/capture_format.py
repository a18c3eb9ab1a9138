"""The capture format: one JSON object a line, written as things happen; a log has the same lines.

Invariant: a fact is complete in its own line, so a capture cut anywhere loads up to the cut; every
number that may need 64 bits is a hexadecimal string; the text is plain ASCII. A fact of a kind, or
with a member, that a reader does not know is passed over. Standard library only: the writer runs in
the debugger.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Callable, NamedTuple

from ..errors import InputError, UsageError
from ..files import reason
from ..names import ntstatus

#: raised only when an older reader would misunderstand a newer file
SCHEMA = 1
#: stands before each fact in a session log; the number is the schema
TAG = f"dumpstart:{SCHEMA} "
#: what a target's 64-bit words can hold
_MAX = (1 << 64) - 1
#: of a line, in bytes; real ones have a few hundred
LONGEST = 1 << 18

#: a filter's first routine, which is given its node
DRIVER_ENTRY = "DriverEntry"
#: ``how`` of a node that was read when that returned
AT_DRIVER_ENTRY = f"argument of {DRIVER_ENTRY}"

#: a line of a capture, as JSON has it: what is in it is told apart where it is read
Fact = dict[str, Any]


def header(version: str, backend: str, target: str, started_ns: int) -> Fact:
    """The first line of a capture; ``started_ns`` is the debugger's clock, ns since 1970."""
    return {
        "dumpstart": "capture",
        "schema": SCHEMA,
        "version": version,
        "backend": backend,
        "target": target,
        "started": started_ns,
    }


def encode(fact: Fact) -> str:
    """One fact as its line, without the line end."""
    return json.dumps(fact, separators=(",", ":"))


def decode(text: str | bytes) -> Fact | None:
    """The fact of a line, None when the line is no fact."""
    try:
        fact = json.loads(text)
    except (ValueError, RecursionError):  # no JSON, not UTF-8, endless digits or brackets
        return None
    return fact if isinstance(fact, dict) and ("fact" in fact or "dumpstart" in fact) else None


def hexadecimal(value: object) -> str | None:
    """A number as the format writes it; None for one that is absent."""
    return f"{value:#x}" if isinstance(value, int) else None


def number(fact: Fact, name: str) -> int | None:
    """A number of a fact, None when it is missing or is none."""
    value: object = fact.get(name)
    if type(value) is str:
        value = _whole(value, 16)
    return value if type(value) is int and 0 <= value <= _MAX else None


def has_bad_number(fact: Fact, names: Iterable[str]) -> bool:
    """True when one of these members is there and is not a number."""
    return any(fact.get(name) is not None and number(fact, name) is None for name in names)


def status_code(fact: Fact) -> int | None:
    """The NTSTATUS of a fact in any spelling that has one meaning; None when there is none."""
    value: object = fact.get("status")
    values = [value]
    if isinstance(value, str):
        spelled = value.strip().lower()
        if spelled.startswith("status_"):
            return ntstatus.value(spelled.upper())
        # digits alone may be decimal or hexadecimal
        bases = (16,) if spelled.startswith("0x") else (10,) if spelled[:1] == "-" else (10, 16)
        values = [_whole(spelled, base) for base in bases]
    found = {v & 0xFFFFFFFF for v in values if type(v) is int and _is_32_bits(v)}
    return found.pop() if len(found) == 1 else None


def _whole(text: str, base: int) -> int | None:
    try:
        return int(text, base)
    except ValueError:
        return None


def _is_32_bits(value: int) -> bool:
    """True for a number of 32 bits, signed or not, or a negative one in a 64-bit register."""
    return -(1 << 31) <= value < 1 << 32 or value >> 31 == 0x1FFFFFFFF


def text(fact: Fact, name: str) -> str | None:
    """A text of a fact, None when it is missing or is none."""
    value = fact.get(name)
    return value if isinstance(value, str) else None


def raw(fact: Fact, name: str) -> bytes | None:
    """The bytes that a fact holds in hexadecimal, None when they are missing or are none."""
    value = fact.get(name)
    if not isinstance(value, str) or len(value) > 1 << 16:
        return None
    try:
        return bytes.fromhex(value)
    except ValueError:
        return None


class Writer:
    """Writes facts to a file and, tagged, to a log; each is out before the call returns.

    It never raises once it is open, because it is called while the target stands still: what went
    wrong is in ``problem``.
    """

    def __init__(self, path: str | None, echo: Callable[[str], None] | None = None) -> None:
        self._file = open(path, "w", encoding="ascii", newline="\n") if path else None  # noqa: SIM115
        self._echo = echo
        self.problem = ""

    @classmethod
    def new(cls, path: str, echo: Callable[[str], None] | None = None) -> Writer:
        """A writer of a file that holds nothing yet: what a machine once did cannot be repeated."""
        try:
            if os.path.isfile(path) and os.path.getsize(path):
                raise UsageError(f"{path} is there already; a capture is not written over it")
            return cls(path, echo)
        except OSError as error:
            raise InputError(path, f"the capture cannot be written: {reason(error)}") from None

    def discard(self) -> None:
        """Closes the file and removes it when nothing was written."""
        self.close()
        with contextlib.suppress(OSError):
            if self._file is not None and not os.path.getsize(self._file.name):
                os.unlink(self._file.name)

    def __call__(self, fact: Fact) -> None:
        line = encode(fact)
        try:
            if self._file is not None:
                self._file.write(line + "\n")
                self._file.flush()
        except (OSError, ValueError) as error:  # disk full; closed
            self.problem = self.problem or f"the capture file cannot be written: {error}"
        try:
            if self._echo is not None:
                self._echo(TAG + line)
        except Exception as error:  # noqa: BLE001 - whatever the debugger's output raises
            self.problem = self.problem or f"the log cannot be written: {error}"

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                self.problem = self.problem or f"the capture file cannot be written: {error}"


class Line(NamedTuple):
    """One line of a capture file."""

    number: int  #: from 1
    offset: int  #: where it begins in the file
    fact: Fact | None  #: None: the line is not a fact
    is_whole: bool  #: False: the file ends inside it


def read(path: str) -> Iterator[Line]:
    """The lines of a capture file that are not blank, in order. Raises OSError."""
    offset = 0
    for number, (line, size) in enumerate(_lines(path), 1):
        if size >= LONGEST:
            raise InputError(path, f"a line has more than {LONGEST:,} bytes, as no capture has")
        if not line.isspace():
            yield Line(number, offset, decode(line), line.endswith(b"\n"))
        offset += size


def _lines(path: str) -> Iterator[tuple[bytes, int]]:
    """Each line, and how many bytes of the file it takes."""
    with open(path, "rb") as file:
        mark = file.read(3)
        if mark[:2] not in (b"\xff\xfe", b"\xfe\xff"):
            skipped = 3 if mark == b"\xef\xbb\xbf" else 0
            file.seek(skipped)
            for data in iter(partial(file.readline, LONGEST), b""):
                yield data, skipped + len(data)
                skipped = 0
            return
    skipped = 2
    with open(path, encoding="utf-16", errors="replace", newline="\n") as text:  # of PowerShell
        for line in iter(partial(text.readline, LONGEST), ""):
            yield line.encode(), skipped + len(line.encode("utf-16-le"))
            skipped = 0
