"""What became of one crash, in one sentence: which bugcheck, when, and was a dump written.

Invariant: an outcome is that of the table ``crashes``; where its rows contradict each other, both
are told and neither is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .. import formatting as fmt
from ..absence import is_absent
from ..checks.crash_loading import LOADING, near
from ..checks.crashes import FAILED, SMALLER, WRITTEN, Index
from ..records import Crash, Machine, Records

UNKNOWN = "unknown bugcheck"
#: findings that limit what "was written" means -> words that follow "but"
_BUT = {
    "dump-file-cut": "the file is cut short",
    "triage-marker-missing": "the end of the file is missing or damaged",
    "dump-encrypted": "its memory is encrypted",
    "dump-ended-early": "its header does not say that writing it was completed",
    "writer-status-failed": "its writer reports a failure",
}
_CUT = ("dump-file-cut", "triage-marker-missing")
#: what speaks most directly of the dump comes first
_ORDER = ("kernel dump", "dump log", "event 161", "event 162", "event 1001")
_EVENTS = {
    "event 161": "event 161 says that creating the dump failed",
    "event 162": "event 162 says that the dump was created",
    "event 163": "event 163 says that a dump callback raised an exception",
    "event 41": "event 41 reports a restart without a shutdown",
}


def sentence(records: Records, index: Index, number: int, names: Mapping[str, str]) -> str:
    """The crash and the outcome of its dump, with its full stop."""
    rows = index.by_number[number]
    return f"{_crash(records, rows)}{_outcome(records, index, number, names)}."


def line(index: Index, number: int, names: Mapping[str, str]) -> str:
    """The same in one line of a list of crashes."""
    rows = index.by_number[number]
    files = fmt.listed(list(dict.fromkeys(names[row.origin.source] for row in rows))[:4])
    words = {WRITTEN: "dump written", SMALLER: "smaller dump written", FAILED: "dump failed"}
    outcomes = dict.fromkeys(words[str(row.outcome)] for row in rows if row.outcome)
    outcome = " / ".join(outcomes) or "no word of its dump"
    return f"crash {number}: {when(rows) or 'time unknown'}, {bugcheck(rows)}: {outcome} ({files})"


def bugcheck(rows: Sequence[Crash]) -> str:
    """The bugcheck with its name."""
    coded = next((row for row in rows if not is_absent(row.bugcheck)), None)
    if coded is None:
        return UNKNOWN
    title = fmt.field(coded, "bugcheck_name", "")
    named = f" ({title})" if title and not title.startswith("0x") else ""
    return f"bugcheck 0x{coded.bugcheck:X}{named}"


def when(rows: Sequence[Crash]) -> str:
    """The time of the crash, or of the restart behind it."""
    time = time_of(rows)
    if time is None:
        local = next((row.local_time for row in rows if not is_absent(row.local_time)), "")
        return f"before {fmt.clean(local, 40)} (local time)" if local else ""
    is_exact = any(row.time == time and not _is_event(row) for row in rows)
    return fmt.moment(time) if is_exact else f"before {fmt.moment(time)}"


def time_of(rows: Sequence[Crash]) -> int | None:
    """The time that a source states for the crash, else the first that was logged after it."""
    timed = [(row.time, _is_event(row)) for row in rows if isinstance(row.time, int)]
    exact = [time for time, is_event in timed if not is_event]
    return exact[0] if exact else min((time for time, _ in timed), default=None)


def _is_event(row: Crash) -> bool:
    return str(row.tells).startswith("event ")


def dump_kind(machine: Machine) -> str:
    """The type of a dump in words, "kernel bitmap dump"."""
    kind = fmt.field(machine, "dump_type_name", "") or "kernel dump"
    kind, bracket, rest = kind.partition(" (")
    return (kind if "dump" in kind.lower() else f"{kind} dump") + bracket + rest


def _one(kind: str) -> str:
    return f"{'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}"


def _but(records: Records, row: Crash, machine: Machine | None) -> str:
    """What limits the dump of a row, in words that follow a sentence; "" for a whole one."""
    rules = _rules(records, row)
    said = {rule: text for rule, text in _BUT.items() if rule in rules}
    status = fmt.code(machine, "writer_status") if machine is not None else None
    if status and "writer-status-failed" in said:
        said["writer-status-failed"] = f"its writer reports {status}"
    return f", but {fmt.listed(said.values())}" if said else ""


def _crash(records: Records, rows: Sequence[Crash]) -> str:
    time = when(rows)
    named = bugcheck(rows)
    text, blamed = "The machine crashed", ""
    if named != UNKNOWN:
        text += f" with {named}"
        place, blamed = _module(records, rows)
        text += f" in {place}" if place else ""
    elif all(row.tells == "event 41" for row in rows):
        text = "The machine restarted without a shutdown"
    text += f" {time}" if time.startswith("before") else f" on {time}" if time else ""
    return f"{text}, which WinDbg puts down to {blamed}" if blamed else text


def _module(records: Records, rows: Sequence[Crash]) -> tuple[str, str]:
    """Where the crash lies by what a source resolves, else by what a debugger's analysis blames."""
    tells = {row.origin.source: row.tells for row in rows}
    place = blamed = ""
    for machine in records["machine"]:
        module, symbol = (
            "" if is_absent(name) else fmt.clean(name, 60)
            for name in (machine.faulting_module, machine.faulting_symbol)
        )
        kind = tells.get(machine.origin.source)
        if kind == "WinDbg log" and module:
            blamed = blamed or module + (f" ({symbol})" if symbol else "")
        elif kind is not None and kind != "WinDbg log":
            place = place or symbol
    return place, blamed


def _outcome(records: Records, index: Index, number: int, names: Mapping[str, str]) -> str:
    rows = sorted(index.by_number[number], key=_weight)
    good = [row for row in rows if row.outcome in (WRITTEN, SMALLER)]
    bad = [row for row in rows if row.outcome == FAILED]
    cut = [row for row in rows if row.tells == "kernel dump" and not row.outcome]
    if good and bad:
        pieces = [_piece(records, rows[0], names) for rows in (good, bad)]
        return f"; the evidence disagrees on whether a dump was written: {', but '.join(pieces)}"
    if good:
        return f", and {_written(records, good, names)}"
    if bad:
        pieces = list(dict.fromkeys(_piece(records, row, names) for row in bad + cut))[:3]
        return f" and left no finished dump: {fmt.listed(pieces)}"
    foreign = [row for row in cut if "dump-not-by-windows" in _rules(records, row)]
    if foreign:
        return f"; {_piece(records, foreign[0], names)} that Windows did not write itself"
    if cut:
        return f"; {_piece(records, cut[0], names)}, so whether it was written whole is not known"
    is_only = len(index.by_number) == 1
    findings = [f for f in records["findings"] if index.of(f.origin) == number or is_only]
    loads = [f for f in near(records, findings, rows) if f.rule in LOADING[:2]]
    if loads:
        where = names.get(loads[0].origin.source, "the event log")
        return (
            " and most probably left no dump: the crash dump stack could not be loaded "
            f"(event 45 in {where})"
        )
    pieces = list(dict.fromkeys(_piece(records, row, names) for row in rows[:2]))
    return f"; whether a dump was written is not known: {fmt.listed(pieces)}"


def _written(records: Records, good: Sequence[Crash], names: Mapping[str, str]) -> str:
    """Of the file itself where it was given, else of what speaks of it."""
    first = good[0]
    if first.tells == "kernel dump":
        machine = _machine_of(records, first)
        kind = dump_kind(machine) if machine is not None else "kernel dump"
        less = " (smaller than asked for)" if _is_smaller(good) else ""
        return f"{_one(kind)} was written{less}{_but(records, first, machine)}"
    pieces = list(dict.fromkeys(_piece(records, row, names) for row in good))[:2]
    less = "a smaller dump than asked for" if _is_smaller(good) else "a dump"
    return f"{less} was written: {fmt.listed(pieces)}"


def _is_smaller(good: Sequence[Crash]) -> bool:
    return any(row.outcome == SMALLER for row in good)


def _rules(records: Records, row: Crash) -> set[str]:
    source = row.origin.source
    return {str(f.rule) for f in records["findings"] if f.origin.source == source}


def _machine_of(records: Records, row: Crash) -> Machine | None:
    machines = (m for m in records["machine"] if m.origin.source == row.origin.source)
    return next(machines, None)


def _weight(row: Crash) -> int:
    return _ORDER.index(str(row.tells)) if row.tells in _ORDER else len(_ORDER)


def _piece(records: Records, row: Crash, names: Mapping[str, str]) -> str:
    """What one row says, in words."""
    source = names.get(row.origin.source, fmt.clean(row.origin.source, 60))
    if row.tells == "kernel dump":
        machine = _machine_of(records, row)
        kind = dump_kind(machine) if machine is not None else "kernel dump"
        return f"{source} is {_one(kind)}{_but(records, row, machine)}"
    if row.tells == "dump log":
        return _log_piece(records, row, source)
    if row.tells == "host log":
        ended = ", which ended the guest then, before a dump could be written"
        ended = ended if row.outcome == FAILED else ""
        return f"by {source} the guest told its host of the bugcheck{ended}"
    text = _EVENTS.get(str(row.tells))
    if row.tells == "event 1001":
        text = "event 1001 says that a dump was saved" if row.outcome else "event 1001 reports it"
        text += f" as {fmt.clean(row.dump_file, 80)}" if not is_absent(row.dump_file) else ""
    if text is None:
        if not str(row.tells).startswith("event"):
            return _debugger_piece(row, source, _machine_of(records, row))
        return f"{source}: {fmt.clean(row.tells, 60)} names it"
    return f"{text} ({source})"


def _debugger_piece(row: Crash, source: str, machine: Machine | None) -> str:
    if row.outcome == FAILED:
        return f"by {source}, the dump's own header says that writing it failed"
    if row.outcome in (WRITTEN, SMALLER):
        if machine is not None and not is_absent(machine.last_dump_line):
            return f"by {source}, the dump's own header says that it was completed"
        return f"a debugger has opened it ({source})"
    return f"{source} ({fmt.clean(row.tells, 40)}) does not say"


def _log_piece(records: Records, row: Crash, source: str) -> str:
    if row.outcome == WRITTEN:
        return f"{source} records a completed dump"
    if row.outcome == SMALLER:
        return f"{source} records a completed dump of a smaller kind"
    steps = [s for s in records["stages"] if s.origin.source == row.origin.source]
    step = fmt.field(steps[-1], "text", "").rstrip(".") if steps else ""
    if row.outcome != FAILED:
        so_far = f", only that it came to '{step}'" if step else ""
        return f"{source} does not show how the dump ended{so_far}"
    return f"{source} breaks off after '{step}'" if step else f"{source} breaks off"
