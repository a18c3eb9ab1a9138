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
from itertools import accumulate, islice
from typing import Any, Callable, NamedTuple

from ..errors import InputError, UsageError

#: raised only when an older reader would misunderstand a newer file
SCHEMA = 1
#: stands before each fact in a session log; the number is the schema
TAG = f"dumpstart:{SCHEMA} "
#: what a target's 64-bit words can hold
_MAX = (1 << 64) - 1
#: lines decoded at once
BATCH = 500
#: of a line, in bytes; real ones have a few hundred
LONGEST = 1 << 18

#: a filter's first routine, which is given its node
DRIVER_ENTRY = "DriverEntry"
#: ``how`` of a node that was read when that returned
AT_DRIVER_ENTRY = f"argument of {DRIVER_ENTRY}"

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


def hexadecimal(value: Any) -> str | None:
    """A number as the format writes it; None for one that is absent."""
    return f"{value:#x}" if isinstance(value, int) else None


def numbers(fact: Fact, names: Iterable[str]) -> list[int | None]:
    """Numbers of a fact, None for each that is missing or is none."""
    found: list[int | None] = []
    for name in names:  # one loop, because millions of facts have several each
        value: Any = fact.get(name)
        if value.__class__ is str:
            try:
                value = int(value, 16)
            except ValueError:
                value = None
        found.append(value if value.__class__ is int and 0 <= value <= _MAX else None)
    return found


def number(fact: Fact, name: str) -> int | None:
    """A number of a fact, None when it is missing or is none."""
    return numbers(fact, (name,))[0]


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
            reason = (error.strerror or type(error).__name__).lower()
            raise InputError(path, f"the capture cannot be written: {reason}") from None

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


class Lines(NamedTuple):
    """Some lines of a capture file, in order."""

    facts: list[Fact | None]  #: None: the line is no fact
    offsets: list[int]
    is_whole: bool  #: False: the file ends inside the last one


def read(path: str) -> Iterator[Lines]:
    """The lines of a capture file that are not blank, in order. Raises OSError."""
    with open(path, "rb") as file:
        mark = file.read(3)
        coded = mark[:2] in (b"\xff\xfe", b"\xfe\xff")
        file.seek(3 if mark == b"\xef\xbb\xbf" else 0)
        offset = 0 if coded else file.tell()
        if coded:  # a redirected PowerShell output; offsets are those of the decoded text
            source: Any = file.read().decode("utf-16", "replace").encode().splitlines(keepends=True)
        else:
            source = iter(partial(file.readline, LONGEST), b"")
        lines = iter(source)
        while True:
            batch = list(islice(lines, BATCH))
            if not batch:
                return
            if max(map(len, batch)) >= LONGEST:
                raise endless_line(path)
            yield lines_of(batch, offset)
            offset += sum(map(len, batch))


def endless_line(path: str) -> InputError:
    """Why a file is no capture after all; held in memory, such a line would take any amount."""
    return InputError(path, f"a line has more than {LONGEST:,} bytes, as no capture has")


def lines_of(batch: list[bytes], offset: int) -> Lines:
    """Neighbouring lines, the first of them at this offset."""
    facts = _decoded(batch)
    offsets = list(accumulate(map(len, batch[:-1]), initial=offset))
    is_whole = not batch or batch[-1].endswith(b"\n")
    if None in facts:
        kept = [n for n, fact in enumerate(facts) if fact or not batch[n].isspace()]
        facts, offsets = [facts[n] for n in kept], [offsets[n] for n in kept]
        is_whole = not kept or batch[kept[-1]].endswith(b"\n")
    return Lines(facts, offsets, is_whole)


def _decoded(batch: list[bytes]) -> list[Fact | None]:
    """The fact of each line: all at once when each is one, which is much faster."""
    try:
        # A raw line end cannot stand inside a JSON string, so no two lines can run together.
        facts = json.loads(b"[" + b",\n".join(batch) + b"]")
    except (ValueError, RecursionError):
        return [decode(line) for line in batch]
    if len(facts) != len(batch) or not all(type(fact) is dict for fact in facts):
        return [decode(line) for line in batch]
    return [fact if "fact" in fact or "dumpstart" in fact else None for fact in facts]
