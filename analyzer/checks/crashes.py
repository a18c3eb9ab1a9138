"""Which pieces of evidence are of the same crash, and how sure that is.

Invariant: two dumps or logs that contradict each other on code, parameters, crash time or boot are
never one crash. During a crash the wall clock stands still, so dump and log hold the same time; an
event is logged after the restart, so it only lies later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from ..absence import Absent, is_absent
from ..names import bugchecks, ntstatus
from ..records import Anomaly, Crash, Event, Machine, Origin, Records
from . import machine as machine_checks
from .evidence import known

EVENT_LOGS = ("evtx", "event log XML", "event log CSV")
WRITTEN, SMALLER, FAILED = "written", "smaller", "failed"

_SECOND = 10**9
#: dump header and log take the same frozen clock; the log has whole seconds
_SAME_CLOCK = 120 * _SECOND
#: an event may seem older than the crash when the clock was set after the restart
_BEFORE = 300 * _SECOND
#: a machine may stay off for days; the events of a crash come with the next start
_UNTIL_START = 7 * 86400 * _SECOND
#: without a bugcheck code only the time speaks
_UNTIL_START_UNNAMED = 86400 * _SECOND
#: 41 comes at the start, 1001 when a large dump has been copied
_ONE_REPORT = 3600 * _SECOND
#: a start logs one event 41; a copy of the log has the same time
_ONE_LOGGING = 10 * _SECOND
#: events of one start are logged together; writing out a large dump takes minutes
_SAME_START = 900 * _SECOND
#: a machine's log has dozens; comparing each with each must stay quick
MOST_EVENTS = 1_000
_M_VARIANT = 0x10000000  # the same bugcheck code with "_M" behind its name
_SURE = ("certain", "likely", "guess")
_CUT = ("dump-file-cut", "triage-marker-missing")

#: volmgr and WER events of a start after a crash -> what they say of the dump
_VOLMGR = {161: FAILED, 162: WRITTEN, 163: None}
_WER = {1000: FAILED, 1001: None, 1002: None, 1004: FAILED, 1005: None, 1006: FAILED}
_WER_NAMES = ("microsoft-windows-wer-systemerrorreporting", "bugcheck", "save dump")
#: these alone are no crash: power loss and reset log them too
#: a start after a crash, a hang, a reset or a loss of power: nothing tells them apart
RESTARTS = {("microsoft-windows-kernel-power", 41), ("eventlog", 6008)}


class _Piece(NamedTuple):
    """One piece of evidence before it is grouped."""

    tells: str
    outcome: str | None
    code: int | None
    parameters: tuple[int, ...] | None
    time: int | None
    at_crash: bool  #: the time is that of the crash
    boot_id: int | None
    system: tuple[Any, Any]  #: architecture and build
    origin: Origin


class _Group:
    """The pieces of one crash, each with its confidence and the reason."""

    def __init__(self, piece: _Piece, sure: int, why: str) -> None:
        self.members: list[tuple[_Piece, int, str]] = [(piece, sure, why)]

    def fit(self, piece: _Piece) -> tuple[int, int, str] | None:
        """How well a piece fits: (rank, distance in time, why); None when it contradicts."""
        best: tuple[int, int, str] | None = None
        for member, _, _ in self.members:
            if _contradicts(member, piece):
                return None
            found = _fit(member, piece)
            if found is not None and (best is None or found < best):
                best = found
        return best

    def time(self) -> int:
        """For the order: the crash time, else the first event; unknown ones last."""
        times = [(not p.at_crash, p.time) for p, _, _ in self.members if p.time is not None]
        return min(times)[1] if times else 1 << 63


@lru_cache(maxsize=4096)
def called(source: Any) -> str:
    """The short name of a source: the last part of its path, also of one in an archive."""
    return re.split(r"[/\\!]", str(source))[-1] or str(source)


def logged(records: Records) -> list[Event]:
    """The events of event logs (not those of traces)."""
    logs = {s.path for s in records["sources"] if s.kind in EVENT_LOGS}
    table: Any = records["events"]
    rows = table if isinstance(table, list) else table.single
    return [event for event in rows if event.origin.source in logs]


def group(records: Records) -> list[Crash]:
    """Every piece of evidence of a crash with the number of the crash, oldest crash first."""
    groups: list[_Group] = []
    pieces = list(_pieces(records))
    events = sorted((p for p in pieces if not p.at_crash), key=lambda piece: piece.time or 0)
    if len(events) > MOST_EVENTS:
        first = events[0].origin
        text = (
            f"only the newest {MOST_EVENTS:,} of {len(events):,} events of a restart were grouped"
        )
        what = f"{called(first.source)}: {text} by crash."
        records.add(Anomaly("input-limit-reached", what, first, called(first.source)))
        pieces = [p for p in pieces if p.at_crash] + events[-MOST_EVENTS:]
    stated = [p for p in pieces if p.at_crash and p.time is not None]
    for piece in sorted(pieces, key=lambda piece: _order(piece, stated)):
        fits = [(fit, g) for g in groups for fit in [g.fit(piece)] if fit is not None]
        if fits:
            (rank, _, why), best = min(fits, key=lambda pair: pair[0][:2])
            best.members.append((piece, rank, why))
        elif not piece.at_crash and piece.time is None and piece.code is None and groups:
            if len(groups) == 1:
                why = "it has neither time nor bugcheck; this is the only crash in the inputs"
                groups[0].members.append((piece, 2, why))
        elif piece.code is not None or piece.outcome is not None or piece.at_crash:
            if piece.at_crash:
                why = f"the {piece.tells} states the crash"
            elif piece.code is not None:
                why = "the event states the bugcheck"
            else:
                why = "no dump, log or bugcheck event lies near it"
            groups.append(_Group(piece, 0 if piece.code is not None else 2, why))
    groups.sort(key=_Group.time)
    return [
        _record(number, piece, _SURE[sure], why)
        for number, one in enumerate(groups, 1)
        for piece, sure, why in one.members
    ]


def _order(piece: _Piece, stated: Iterable[_Piece]) -> tuple[int, bool, int]:
    """What states the crash first, then what only came after it, then what has no code.

    An event behind a crash goes before one that would be of it only if a clock was set.
    """
    is_odd = not piece.at_crash and not any(
        0 <= (_apart(crash, piece) or -1) <= _UNTIL_START and _same_code(crash, piece)
        for crash in stated
    )
    if piece.at_crash:
        kind = 0 if piece.time is not None else 1
    elif piece.code is not None:
        kind = 2
    else:
        kind = 3 if piece.outcome is not None else 4
    return kind, is_odd, piece.time if piece.time is not None else 1 << 63


# -- pieces ------------------------------------------------------------------------------------


def _pieces(records: Records) -> Iterator[_Piece]:
    kinds = {source.path: source.kind for source in records["sources"]}
    told: dict[str, set[str]] = {}
    for anomaly in records.anomalies:
        told.setdefault(anomaly.origin.source, set()).add(anomaly.rule)
    ended = {s.origin.source for s in records["stages"] if s.stage == "dump-completed"}
    events = logged(records)
    codes: dict[Origin, Machine] = {}
    for row in records["machine"]:
        path = row.origin.source
        if kinds.get(path) == "kernel dump":
            if not machine_checks.is_live(row):
                yield _of_dump(row, told.get(path, set()))
        elif kinds.get(path) == "dumpstack.log":
            if not is_absent(row.bugcheck) or not is_absent(row.system_time):
                yield _of_log(row, told.get(path, set()), path in ended)
        elif kinds.get(path) in EVENT_LOGS:
            codes[row.origin] = row
        elif known(row.bugcheck) and not machine_checks.is_live(row):  # capture, debugger log
            yield _piece(str(kinds.get(path)), None, row, True)
    for event in events:
        piece = _of_event(event, codes.get(event.origin))
        if piece is not None:
            yield piece


def _of_dump(row: Machine, told: set[str]) -> _Piece:
    outcome: str | None = None if told.intersection(_CUT) else WRITTEN
    status = known(row.writer_status)
    if status is not None and ntstatus.is_failure(status):
        outcome = FAILED  # Windows itself says so in the header
    elif outcome and (known(row.attributes) or 0) & 0x4:  # InsufficientDumpfileSize
        outcome = SMALLER
    return _piece("kernel dump", outcome, row, True)


def _of_log(row: Machine, told: set[str], is_complete: bool) -> _Piece:
    outcome = None
    if is_complete:
        outcome = SMALLER if "log-dump-type-reduced" in told else WRITTEN
    elif told.intersection(("log-unfinished", "log-failure-line")):
        outcome = FAILED
    return _piece("dump log", outcome, row, True)


def _piece(tells: str, outcome: str | None, row: Machine, at_crash: bool) -> _Piece:
    values = tuple(getattr(row, f"parameter{n}") for n in range(1, 5))
    parameters = None if any(map(is_absent, values)) else values
    time, boot, code = known(row.system_time), known(row.boot_id), known(row.bugcheck)
    system = (known(row.architecture), known(row.build))
    return _Piece(tells, outcome, code, parameters, time, at_crash, boot, system, row.origin)


def _of_event(event: Event, row: Machine | None) -> _Piece | None:
    provider, number = str(event.provider).lower(), known(event.event_id)
    tells = f"event {number}"
    if row is not None:
        piece = _piece(tells, None, row, False)
    elif (
        (provider == "volmgr" and number in _VOLMGR)
        or (provider in _WER_NAMES and number in _WER)
        or (provider, number) in RESTARTS
    ):
        nothing = (None, None)
        piece = _Piece(tells, None, None, None, None, False, None, nothing, event.origin)
    else:
        return None
    outcome = _VOLMGR.get(number) if provider == "volmgr" else None
    if provider in _WER_NAMES:
        outcome = _WER.get(number)
        if number == 1001 and "; dump " in str(event.text):  # it names the file that was saved
            outcome = WRITTEN
    time = event.time if isinstance(event.time, int) else None
    return piece._replace(outcome=outcome, time=time, boot_id=None)


# -- fitting -----------------------------------------------------------------------------------


def _contradicts(one: _Piece, other: _Piece) -> bool:
    if _same_code(one, other) is False or _same_parameters(one, other) is False:
        return True
    if any(a is not None and b is not None and a != b for a, b in zip(one.system, other.system)):
        return True
    boots = {one.boot_id, other.boot_id} - {None}
    if len(boots) > 1:
        return True
    apart = _apart(one, other)
    if apart is None or one.at_crash != other.at_crash:
        return False
    if one.at_crash:
        return abs(apart) > _SAME_CLOCK
    # each start tells of one crash: the same bugcheck after another start is another crash
    if one.tells == other.tells == "event 41":
        return abs(apart) > _ONE_LOGGING
    return None not in (one.code, other.code) and abs(apart) > _ONE_REPORT


def _same_code(one: _Piece, other: _Piece) -> bool | None:
    if one.code is None or other.code is None:
        return None
    return one.code & ~_M_VARIANT == other.code & ~_M_VARIANT


def _same_parameters(one: _Piece, other: _Piece) -> bool | None:
    if one.parameters is None or other.parameters is None:
        return None
    return all(_equal(a, b) for a, b in zip(one.parameters, other.parameters))


def _equal(one: int, other: int) -> bool:
    """Equal, or the sign-extended form of the same 32-bit number."""
    high = {one >> 32, other >> 32}
    return one == other or (high == {0, 0xFFFFFFFF} and (one ^ other) & 0xFFFFFFFF == 0)


def _apart(one: _Piece, other: _Piece) -> int | None:
    """How much later the other is, in ns."""
    return None if one.time is None or other.time is None else other.time - one.time


def _fit(old: _Piece, new: _Piece) -> tuple[int, int, str] | None:
    apart = _apart(old, new)
    agree = bool(_same_code(old, new))
    named = agree and _same_parameters(old, new) is True
    words = "code and parameters" if named else "code" if agree else ""
    to = f"of {called(old.origin.source)}"
    if old.at_crash and new.at_crash:
        if apart is not None:
            why = f"{words} and crash time agree with those {to}" if words else f"crash time {to}"
            return (0 if named else 1, abs(apart), why)
        if named and old.boot_id is not None and old.boot_id == new.boot_id:
            return 0, 0, f"{words} and boot id agree with those {to}"
        return (1 if named else 2, 0, f"{words} agree with those {to}") if agree else None
    if apart is None:
        return (1 if named else 2, 0, f"{words} agree with those {to}") if agree else None
    if old.at_crash:
        limit = _UNTIL_START if named else _UNTIL_START_UNNAMED
        if not -_BEFORE <= apart <= limit:
            return None
        later = f"logged {_span(apart)} the crash time {to}"
        if agree:
            return (1 if named else 2, abs(apart), f"{words} agree; {later}")
        return 2, abs(apart), f"{later}; it names no bugcheck"
    if abs(apart) > (_ONE_REPORT if named else _SAME_START):
        return None
    words = f"{words} agree; " if words else ""
    return 1, abs(apart), f"{words}logged {_span(apart)} {old.tells} {to}"


def _span(ns: int) -> str:
    seconds = abs(ns) // _SECOND
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} {'after' if ns >= 0 else 'before'}"
    count = f"{seconds} second" if seconds == 1 else f"{seconds} seconds"
    return f"{count} {'after' if ns >= 0 else 'before'}"


# -- records -----------------------------------------------------------------------------------


def _record(number: int, piece: _Piece, confidence: str, why: str) -> Crash:
    untold = Absent("not-recorded", f"this {piece.tells} does not state it")
    one, two, three, four = piece.parameters or (untold,) * 4
    return Crash(
        number,
        piece.tells,
        piece.outcome,
        untold if piece.code is None else piece.code,
        untold if piece.code is None else bugchecks.name(piece.code),
        one,
        two,
        three,
        four,
        untold if piece.time is None else piece.time,
        untold if piece.boot_id is None else piece.boot_id,
        why,
        piece.origin._replace(confidence=confidence),
    )


class Index:
    """The rows of the table crashes, to ask which crash something is of."""

    def __init__(self, rows: Iterable[Crash]) -> None:
        self.by_number: dict[int, list[Crash]] = {}
        self._places: dict[tuple[Any, ...], set[int]] = {}
        self._sources: dict[str, set[int]] = {}
        self._many: set[str] = set()  #: event logs, which span many starts
        for row in rows:
            number, origin = known(row.crash), row.origin
            if number is None:
                continue
            self.by_number.setdefault(number, []).append(row)
            self._places.setdefault(_place(origin), set()).add(number)
            self._sources.setdefault(origin.source, set()).add(number)
            if str(row.tells).startswith("event "):
                self._many.add(origin.source)

    def numbers(self) -> list[int]:
        """The numbers of the crashes, oldest first."""
        return sorted(self.by_number)

    def of(self, origin: Origin) -> int | None:
        """The crash that a finding or event with this origin is of; None: of none, or not known."""
        found = self._places.get(_place(origin))
        if found is None and origin.source not in self._many:
            found = self._sources.get(origin.source)
        return next(iter(found)) if found is not None and len(found) == 1 else None


def _place(origin: Origin) -> tuple[Any, ...]:
    return origin.source, origin.how, origin.file_offset
