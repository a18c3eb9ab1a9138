"""Pieces of evidence -> crashes: which piece is of which crash, how sure that is and why.

Invariant: two dumps or logs that contradict each other on code, parameters, crash time or boot are
never one crash. An event is logged by a start, and a start tells of one crash: the last before it.
What decides is, in this order: identity (the dump file that an event names), bugcheck and
parameters, the boot in which it was logged, time. The cost grows with n log n.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from ..files import called
from .crash_pieces import (
    HOST_CLOCK,
    SAME_BOOT,
    SECOND,
    UNTOLD_TIME,
    Bugcheck,
    Group,
    Member,
    Piece,
    Start,
    agreement,
    bugcheck_of,
    code_of,
    distinct,
)

#: an event may seem older than the crash when the clock was set after the restart
_BEFORE = 300 * SECOND
#: a machine may stay off for days; the events of a crash come with the next start
_UNTIL_START = 7 * 86400 * SECOND
#: without a bugcheck code only the time speaks
_UNTIL_START_UNNAMED = 86400 * SECOND
CERTAIN, LIKELY, GUESS = range(3)


def joined(pieces: Iterable[Piece], boots: Sequence[int]) -> list[Group]:
    """The crashes, oldest first, those without a time before them; ``boots`` are known starts."""
    kept = list(pieces)
    groups = _of_crashes([p for p in kept if p.at_crash])
    booted = [p.time - p.uptime for p in kept if p.time is not None and p.uptime is not None]
    marks = distinct([*boots, *booted])
    starts = _starts([p for p in kept if not p.at_crash], sorted(boots))
    left = _by_identity(starts, groups)
    timed = [start for start in left if start.time is not None]
    _by_time(timed, groups, marks)
    _untimed([start for start in left if start.time is None], groups)
    return sorted(groups, key=_order)


def _order(group: Group) -> int:
    """When it was; a time in an unknown zone is off by hours only."""
    if group.time != UNTOLD_TIME:
        return group.time
    return max(member.piece.local_time or 0 for member in group.members)


# -- what states a crash ---------------------------------------------------------------------------


def _of_crashes(pieces: list[Piece]) -> list[Group]:
    groups: list[Group] = []
    by_bugcheck: dict[Bugcheck, list[Group]] = {}
    recent: list[Group] = []  #: whose time may still be that of the next piece
    for piece in sorted(pieces, key=_when):
        if piece.time is not None:
            recent = [g for g in recent if piece.time - g.time <= HOST_CLOCK][-64:]
        near = [*by_bugcheck.get(bugcheck_of(piece), [])[-8:], *recent]
        if piece.parameters is None or piece.time is None:  # the bugcheck alone has to do
            near += by_bugcheck.get((code_of(piece), None), [])[-8:]
        fits = [
            (fit, group)
            for group in dict.fromkeys(near)
            if not group.contradicts(piece)
            for fit in [_best(group, piece)]
            if fit is not None
        ]
        if fits:
            (sure, _, why), group = min(fits, key=lambda pair: pair[0][:2])
            group.add(piece, sure, why)
        else:
            sure = CERTAIN if piece.code is not None else GUESS
            group = Group(piece, sure, f"the {piece.tells} states the crash")
            groups.append(group)
            if piece.time is not None:
                recent.append(group)
        for key in {bugcheck_of(piece), (code_of(piece), None)}:
            known = by_bugcheck.setdefault(key, [])
            if group not in known[-8:]:
                known.append(group)
    return groups


def _when(piece: Piece) -> tuple[int, int]:
    return (piece.time is None, piece.time or 0)


def _best(group: Group, piece: Piece) -> tuple[int, int, str] | None:
    fits = [_crash_fit(member.piece, piece) for member in group.members[:32]]
    return min((fit for fit in fits if fit is not None), default=None)


def _crash_fit(old: Piece, new: Piece) -> tuple[int, int, str] | None:
    """How well two statements of a crash fit: (how sure, distance in time, why)."""
    agree, named = agreement(old, new)
    words = "code and parameters" if named else "code" if agree else ""
    to = f"of {called(old.origin.source)}"
    if old.time is not None and new.time is not None:
        why = f"{words} and crash time agree with those {to}" if words else f"crash time {to}"
        return (CERTAIN if named else LIKELY, abs(new.time - old.time), why)
    if named and old.boot_id is not None and old.boot_id == new.boot_id:
        return CERTAIN, 0, f"{words} and boot id agree with those {to}"
    return (LIKELY if named else GUESS, 0, f"{words} agree with those {to}") if agree else None


# -- what a start logged ---------------------------------------------------------------------------


def _starts(pieces: list[Piece], boots: Sequence[int]) -> list[Start]:
    """Events by the start that logged them; exports without a zone each on their own."""
    found: list[Start] = []
    streams: dict[str, list[tuple[int, Piece]]] = {}
    for piece in pieces:
        key = "" if piece.time is not None else piece.origin.source
        if piece.clock is None:
            found.append(Start(piece))
        else:
            streams.setdefault(key, []).append((piece.clock, piece))
    for key, stream in streams.items():
        current: Start | None = None
        first = 0
        for clock, piece in sorted(stream, key=lambda pair: pair[0]):
            is_new_boot = not key and bisect_right(boots, clock) != bisect_right(boots, first)
            is_new_boot = is_new_boot and clock - first > SAME_BOOT
            if current is not None and not is_new_boot and current.takes(piece, first):
                current.add(piece)
            else:
                current, first = Start(piece), clock
                found.append(current)
    return found


def _by_identity(starts: list[Start], groups: list[Group]) -> list[Start]:
    """Joins the starts whose events name a dump file that is there; gives back the others."""
    files = {name: g for g in groups for m in g.members for name in m.piece.names}
    left: list[Start] = []
    for start in starts:
        group = next((files[name] for name in sorted(start.names) if name in files), None)
        if group is None or any(group.contradicts(piece) for piece in start.pieces):
            left.append(start)
            continue
        known = group.names
        witness = next(p for p in start.pieces if p.names & known)
        for piece in start.pieces:
            if piece.names & known:
                group.add(piece, CERTAIN, f"it names the dump file {min(piece.names & known)}")
            else:
                group.add(piece, LIKELY, _beside(piece, witness))
    return left


def _by_time(starts: list[Start], groups: list[Group], boots: Sequence[int]) -> None:
    """Joins each start to the last crash before it, or makes a crash of it."""
    crashes = sorted((g for g in groups if g.time != UNTOLD_TIME), key=lambda g: g.time)
    times = [group.time for group in crashes]
    before: tuple[int, Group | None] | None = None  #: the start before, and whose it was
    left: list[Start] = []
    for start in sorted(starts, key=lambda s: s.time or 0):
        when = start.time or 0
        at = bisect_right(times, when) - 1
        group = None
        for candidate in crashes[max(0, at - 15) : at + 1][::-1]:
            fit = _start_fit(start, candidate, boots, before, candidate is crashes[at])
            if fit is not None:
                group = candidate
                _add(group, start, *fit)
                break
        else:
            left.append(start)
        before = (when, group)
    others = [g for g in groups if g.time == UNTOLD_TIME]
    for start in left:
        late = crashes[bisect_right(times, start.time or 0) :][:1] if start.named else []
        late = [g for g in late if g.time - (start.time or 0) <= _BEFORE and g.lead.uptime is None]
        alike = next((g for g in [*late, *others] if _is_named_alike(g, start)), None)
        if alike is not None:
            _add(alike, start, LIKELY, "")
        else:
            _new(start, groups)


def _start_fit(
    start: Start, group: Group, boots: Sequence[int], before: tuple[int, Group | None] | None,
    is_last: bool,
) -> tuple[int, str] | None:  # fmt: skip
    """(how sure, why) when the start may be the one after this crash."""
    when, crash = start.time or 0, group.time
    named = start.named
    agree, _ = agreement(group.lead, named) if named is not None else (False, False)
    if _refuses(group, start) or (not is_last and not agree):
        return None
    if when - crash > (_UNTIL_START if agree else _UNTIL_START_UNNAMED):
        return None
    between = bisect_right(boots, when + SAME_BOOT) - bisect_right(boots, crash)
    if between > 1 and not agree:  # the machine was started before: that start told of this crash
        return None
    if not agree and before is not None and crash <= before[0] and before[1] is not group:
        return None
    if not agree and between == 1:
        return LIKELY, "by the first start after it"
    return (LIKELY if agree else GUESS), ""


def _refuses(group: Group, start: Start) -> bool:
    """True when the crash has such events of another start, or contradicts."""
    return any(group.has_logged(p) or group.contradicts(p) for p in start.pieces)


def _is_named_alike(group: Group, start: Start) -> bool:
    named = start.named
    return named is not None and agreement(group.lead, named)[0] and not _refuses(group, start)


def _untimed(starts: list[Start], groups: list[Group]) -> None:
    """Joins what has no time by its bugcheck, where only one crash has it."""
    stated = list(groups)
    for start in starts:
        alike = [g for g in stated if _is_named_alike(g, start)]
        named = start.named
        if len(alike) == 1 and named is not None:
            _add(alike[0], start, LIKELY, "")
        elif not alike and named is not None:
            _new(start, groups)
        elif named is None and len(stated) == 1 and not _refuses(stated[0], start):
            for piece in start.pieces:
                why = "it has neither time nor bugcheck; this is the only crash in the inputs"
                stated[0].add(piece, GUESS, why)
        elif named is None and not stated:
            _new(start, groups)


def _new(start: Start, groups: list[Group]) -> Group | None:
    """A crash of which only events tell; None for restarts that need not be one."""
    if not start.is_crash:
        return None
    lead = start.named or next(p for p in start.pieces if p.is_crash)
    why = "the event states the bugcheck"
    if lead.code is None:
        why = "no dump, log or bugcheck event lies near it"
    group = Group(lead, CERTAIN if lead.code is not None else GUESS, why)
    for piece in start.pieces:
        if piece is not lead:
            group.add(piece, LIKELY, _beside(piece, lead))
    groups.append(group)
    return group


def _add(group: Group, start: Start, sure: int, note: str) -> None:
    lead, named = group.lead, start.named
    for piece in start.pieces:
        agree, alike = agreement(lead, piece)
        if agree:
            words = "code and parameters agree" if alike else "code agrees"
            later = _later(piece, lead)
            why = f"{words}; {later}" if later else f"{words} with those of {_file(lead)}"
            group.add(piece, LIKELY if alike else GUESS, why)
        elif named is not None and piece is not named:
            group.add(piece, LIKELY, _beside(piece, named))
        else:
            later = _later(piece, lead) or "its time is not known"
            tail = f", {note}" if note else ""
            group.add(piece, sure, f"{later}{tail}; it names no bugcheck")


def _file(piece: Piece) -> str:
    return called(piece.origin.source)


def _later(piece: Piece, lead: Piece) -> str:
    if piece.time is None or lead.time is None:
        return ""
    to = "the crash time of" if lead.at_crash else f"{lead.tells} of"
    return f"logged {_span(piece.time - lead.time)} {to} {_file(lead)}"


def _beside(piece: Piece, witness: Piece) -> str:
    one, other = piece.clock, witness.clock
    agree, alike = agreement(piece, witness)
    words = "code and parameters agree; " if alike else "code agrees; " if agree else ""
    if one is None or other is None:
        return f"{words}logged with {witness.tells} of {_file(witness)}"
    return f"{words}logged {_span(one - other)} {witness.tells} of {_file(witness)}"


def _span(ns: int) -> str:
    seconds = abs(ns) // SECOND
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} {'after' if ns >= 0 else 'before'}"
    count = f"{seconds} second" if seconds == 1 else f"{seconds} seconds"
    return f"{count} {'after' if ns >= 0 else 'before'}"


def members(groups: Iterable[Group]) -> Iterator[tuple[int, Member]]:
    """Each piece with the number of its crash."""
    for number, group in enumerate(groups, 1):
        for member in group.members:
            yield number, member
