"""Pieces of evidence of crashes: what two of them say against each other, and sets of them.

Invariant: pieces contradict each other only by what both of them state.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple, Optional

from ..files import called
from ..names import bugchecks, events
from ..records import Clue, Origin, Records

SECOND = 10**9
#: dump header and log take the same frozen clock; the log has whole seconds
_SAME_CLOCK = 120 * SECOND
#: the clocks of host and guest are two
HOST_CLOCK = 900 * SECOND
#: 41 comes at the start, 1001 when a large dump has been copied
_ONE_REPORT = 3600 * SECOND
#: a start logs one event 41; a copy of the log has the same time
_ONE_LOGGING = 10 * SECOND
#: events of one start are logged together; writing out a large dump takes minutes
_SAME_START = 900 * SECOND
#: the marks of one start (12, 6005, crash time less uptime) lie up to this far apart
SAME_BOOT = 180 * SECOND
UNTOLD_TIME = 1 << 63
HOST_LOG = "host log"
#: Windows names small dumps like this, and the report id of older systems is the same
_SMALL_DUMP = re.compile(r"\d{6}-\d{1,9}-\d{2}")
_GENERIC = ("memory.dmp", "")
Bugcheck = tuple[Optional[int], Optional[tuple[int, ...]]]  #: code and parameters


class Piece(NamedTuple):
    """One piece of evidence before it is grouped."""

    tells: str
    outcome: str | None
    code: int | None
    parameters: tuple[int, ...] | None
    time: int | None
    at_crash: bool  #: the time is that of the crash
    boot_id: int | None
    system: tuple[str | None, int | None]  #: architecture and build
    origin: Origin
    uptime: int | None = None  #: ns, of a dump
    names: frozenset[str] = frozenset()  #: of the dump file that it is or names
    event: tuple[str, int] | None = None  #: provider and id
    local_time: int | None = None  #: of an export without a zone
    local: str = ""  #: the same as it stands there
    dump_path: str = ""  #: that the event names

    @property
    def is_crash(self) -> bool:
        """Whether it tells of a crash by itself, be its bugcheck known or not."""
        is_named = self.code is not None or self.outcome is not None
        return is_named or self.event == (events.WER, 1001)

    @property
    def clock(self) -> int | None:
        """The time to compare with others of its file."""
        return self.time if self.time is not None else self.local_time


class Member(NamedTuple):
    """A piece in its crash."""

    piece: Piece
    sure: int
    why: str


@lru_cache(maxsize=4096)
def names_of(*texts: str) -> frozenset[str]:
    """What identifies the dump file that these paths or report ids name."""
    found: set[str] = set()
    for text in texts:
        base = called(text).lower() if text else ""
        found |= {base} - set(_GENERIC)
        found.update(_SMALL_DUMP.findall(base))
    return frozenset(found)


def contradicts(one: Piece, other: Piece) -> bool:
    """True when the two cannot be of the same crash."""
    if disagree(one, other):
        return True
    if any(a is not None and b is not None and a != b for a, b in zip(one.system, other.system)):
        return True
    if len({one.boot_id, other.boot_id} - {None}) > 1:
        return True
    if one.at_crash and other.at_crash and one.time is not None and other.time is not None:
        is_host = HOST_LOG in (one.tells, other.tells)
        return abs(one.time - other.time) > (HOST_CLOCK if is_host else _SAME_CLOCK)
    return False


def disagree(one: Piece, other: Piece) -> bool:
    """True when both state a bugcheck, and not the same."""
    if one.code is None or other.code is None:
        return False
    if code_of(one) != code_of(other):
        return True
    known = one.parameters is not None and other.parameters is not None
    return known and bugcheck_of(one) != bugcheck_of(other)


def agreement(one: Piece, other: Piece) -> tuple[bool, bool]:
    """(codes agree, parameters too)."""
    if one.code is None or other.code is None or code_of(one) != code_of(other):
        return False, False
    known = one.parameters is not None and other.parameters is not None
    return True, known and bugcheck_of(one) == bugcheck_of(other)


def code_of(piece: Piece) -> int | None:
    """The code without its "_M" variant."""
    return None if piece.code is None else piece.code & ~bugchecks.MINIDUMP_VARIANT


def bugcheck_of(piece: Piece) -> Bugcheck:
    """Code and parameters; a sign-extended 32-bit number is the number."""
    parameters = piece.parameters
    if parameters is None:
        return code_of(piece), None
    return code_of(piece), tuple(p & 0xFFFFFFFF if p >> 32 == 0xFFFFFFFF else p for p in parameters)


class Group:
    """The pieces of one crash."""

    def __init__(self, piece: Piece, sure: int, why: str) -> None:
        self.members: list[Member] = []
        self.names: frozenset[str] = frozenset()  #: of its dump files
        self.logged: dict[tuple[str, int], int | None] = {}  #: events of its start, and when
        self.time = UNTOLD_TIME  #: of the crash, else of the first event
        self.lead = piece  #: what states the crash, else what was first
        self._stated: dict[tuple[object, ...], Piece] = {}  #: one piece of each kind of statement
        self.add(piece, sure, why)

    def contradicts(self, piece: Piece) -> bool:
        """True when some piece of the group cannot be of the same crash."""
        return any(contradicts(stated, piece) for stated in self._stated.values())

    def add(self, piece: Piece, sure: int, why: str) -> None:
        """Files a piece."""
        self.members.append(Member(piece, sure, why))
        self.names |= piece.names
        if piece.event is not None:
            self.logged[piece.event] = piece.time
        told = (bugcheck_of(piece), piece.system, piece.boot_id, piece.time is None)
        self._stated.setdefault(told, piece)
        lead = self.lead
        if piece.time is not None and (piece.at_crash or not lead.at_crash):
            if piece.at_crash > lead.at_crash or self.time == UNTOLD_TIME:
                self.time = piece.time
            self.time = min(self.time, piece.time)
        if (not piece.at_crash, piece.time is None) < (not lead.at_crash, lead.time is None):
            self.lead = piece

    def has_logged(self, piece: Piece) -> bool:
        """True when another start logged such an event of this crash; a copy is no other."""
        if piece.event not in self.logged:
            return False
        time = self.logged[piece.event]
        if time is None or piece.time is None:
            return True
        return abs(piece.time - time) > _ONE_LOGGING


class Start:
    """The events that one start of the machine logged about the crash before it."""

    def __init__(self, piece: Piece) -> None:
        self.pieces: list[Piece] = []
        self.names: frozenset[str] = frozenset()  #: of the dump files that its events name
        self.named: Piece | None = None  #: the event that states the bugcheck
        self._last: dict[tuple[str, int] | None, Piece] = {}
        self.add(piece)

    @property
    def time(self) -> int | None:
        """When it was logged."""
        return self.pieces[0].time

    @property
    def is_crash(self) -> bool:
        """False for a restart alone: power loss and reset log it too."""
        return any(piece.is_crash for piece in self.pieces)

    def add(self, piece: Piece) -> None:
        """The next event in time."""
        self.pieces.append(piece)
        self.names |= piece.names
        self._last[piece.event] = piece
        if self.named is None and piece.code is not None:
            self.named = piece

    def takes(self, piece: Piece, first: int) -> bool:
        """True when the next event in time is of this start too."""
        clock = piece.clock or 0
        last = self._last.get(piece.event)
        if last is not None:
            is_copy = abs(clock - (last.clock or 0)) <= _ONE_LOGGING and last.names == piece.names
            if not is_copy or disagree(last, piece):
                return False
        if self.named is not None and piece.code is not None:
            return not disagree(self.named, piece) and clock - first <= _ONE_REPORT
        return clock - first <= _SAME_START


def distinct(times: Iterable[int]) -> list[int]:
    """Starts, each once, although several marks tell of it."""
    found: list[int] = []
    for time in sorted(times):
        if not found or time - found[-1] > SAME_BOOT:
            found.append(time)
    return found


def same_boot(one: int, other: int, boots: Sequence[int]) -> bool | None:
    """Whether no start lies between two times; None where no start is known around them."""
    if not boots:
        return None
    low, high = sorted((one, other))
    if low < boots[0] - SAME_BOOT:
        return None
    return bisect_right(boots, high) - bisect_left(boots, low + SAME_BOOT) <= 0


def started(clues: Iterable[Clue]) -> list[int]:
    """When Windows started by its events: 12 is logged at once, 6005 minutes later on slow ones."""
    marks: dict[str, dict[int, list[int]]] = {}
    for clue in clues:
        if clue.tells == events.BOOT and clue.time is not None:
            of_log = marks.setdefault(clue.origin.source, {})
            of_log.setdefault(clue.event_id, []).append(clue.time)
    return sorted(t for log in marks.values() for t in log.get(12) or log.get(6005) or [])


def boots_of(records: Records) -> list[int]:
    """The starts of the machine that events and dumps tell of, oldest first."""
    marks = started(records.clues)
    marks += [
        row.system_time - row.uptime_ns
        for row in records["machine"]
        if isinstance(row.system_time, int) and isinstance(row.uptime_ns, int)
    ]
    return distinct(marks)
