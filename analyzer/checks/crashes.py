"""Which pieces of evidence are of the same crash, as the table ``crashes``.

Invariant: every piece says why it is taken for its crash, and how sure that is. During a crash the
wall clock stands still, so dump and log hold the same time; an event is logged after the restart,
so it only lies later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..absence import Absent, is_absent, known
from ..names import bugchecks, events, ntstatus
from ..records import Clue, Crash, Event, Machine, Number, Origin, Records
from . import crash_joining
from . import machine as machine_checks
from .crash_pieces import HOST_LOG, Piece, names_of, started

__all__ = [
    "EVENT_LOGS", "FAILED", "RESTARTS", "SMALLER", "WRITTEN", "Index", "group", "logged",
]  # fmt: skip

EVENT_LOGS = ("evtx", "event log XML", "event log CSV", "event log JSON", "event log text")
WRITTEN, SMALLER, FAILED = events.WRITTEN, "smaller", events.FAILED
#: a start after a crash, a hang, a reset or a loss of power: nothing tells them apart
RESTARTS = {key for key, event in events.EVENTS.items() if event.tells == events.RESTART}
_SURE = ("certain", "likely", "guess")
_CUT = ("dump-file-cut", "triage-marker-missing")


def logged(records: Records) -> list[Event]:
    """The events of event logs (not those of traces)."""
    logs = {s.path for s in records["sources"] if s.kind in EVENT_LOGS}
    table = records.tables["events"]
    rows = table if isinstance(table, list) else table.single
    return [event for event in rows if event.origin.source in logs]


def group(records: Records) -> list[Crash]:
    """Every piece of evidence of a crash with the number of the crash, oldest crash first."""
    groups = crash_joining.joined(_pieces(records), started(records.clues))
    return [
        _record(number, member.piece, _SURE[member.sure], member.why)
        for number, member in crash_joining.members(groups)
    ]


# -- pieces ------------------------------------------------------------------------------------


def _pieces(records: Records) -> Iterator[Piece]:
    kinds = {source.path: source.kind for source in records["sources"]}
    told: dict[str, set[str]] = {}
    for anomaly in records.anomalies:
        told.setdefault(anomaly.origin.source, set()).add(anomaly.rule)
    ended = {s.origin.source for s in records["stages"] if s.stage == "dump-completed"}
    steps = (s for s in records["stages"] if s.stage != "unrecognised-line")
    stepped = {s.origin.source for s in steps}
    ended_by_host = {
        origin_key(a.origin) for a in records.anomalies if a.rule == "host-ended-guest"
    }
    for row in records["machine"]:
        path = row.origin.source
        if kinds.get(path) == "kernel dump":
            if not machine_checks.is_live(row):
                yield _of_dump(row, told.get(path, set()))
        elif kinds.get(path) == "dumpstack.log":
            if path in stepped:
                yield _of_log(row, told.get(path, set()), path in ended)
        elif kinds.get(path) == HOST_LOG:
            yield _piece(HOST_LOG, FAILED if origin_key(row.origin) in ended_by_host else None, row)
        elif kinds.get(path) not in EVENT_LOGS and (  # capture, debugger log
            row.bugcheck and not machine_checks.is_live(row)
        ):
            yield _of_debugger(str(kinds.get(path)), row, told.get(path, set()))
    for clue in records.clues:
        if clue.tells in (events.RESTART, events.REPORT) or clue.bugcheck:
            yield _of_clue(clue)


def _of_dump(row: Machine, told: set[str]) -> Piece:
    is_unknown = told.intersection((*_CUT, "dump-not-by-windows", "dump-ended-early"))
    outcome: str | None = None if is_unknown else WRITTEN
    status = known(row.writer_status)
    if status is not None and ntstatus.is_failure(status):
        outcome = FAILED  # Windows itself says so in the header
    elif outcome and (known(row.attributes) or 0) & 0x4:  # InsufficientDumpfileSize
        outcome = SMALLER
    uptime = known(row.uptime_ns)
    return _piece("kernel dump", outcome, row)._replace(
        names=names_of(row.origin.source), uptime=uptime
    )


def _of_debugger(kind: str, row: Machine, told: set[str]) -> Piece:
    """A dump that a debugger opened is there; its header can say that it was not written whole.

    A snapshot with a dump's header was written by a hypervisor, which tells nothing.
    """
    is_open = known(row.dump_type_name) is not None and told.isdisjoint(_CUT)
    is_open = is_open and kind != "memory snapshot"
    outcome = FAILED if "dump-header-failure" in told else WRITTEN if is_open else None
    return _piece(kind, outcome, row)._replace(
        names=names_of(row.origin.source), uptime=known(row.uptime_ns)
    )


def _of_log(row: Machine, told: set[str], is_complete: bool) -> Piece:
    outcome = None
    if is_complete:
        outcome = SMALLER if "log-dump-type-reduced" in told else WRITTEN
    elif told.intersection(("log-unfinished", "log-failure-line")):
        outcome = FAILED
    return _piece("dump log", outcome, row)


def _piece(tells: str, outcome: str | None, row: Machine) -> Piece:
    values = tuple(getattr(row, f"parameter{n}") for n in range(1, 5))
    parameters = None if any(map(is_absent, values)) else values
    time, boot, code = known(row.system_time), known(row.boot_id), known(row.bugcheck)
    system = (known(row.architecture), known(row.build))
    return Piece(tells, outcome, code, parameters, time, True, boot, system, row.origin)


def _of_clue(clue: Clue) -> Piece:
    code, *numbers = clue.bugcheck or (None,)
    whole = len(numbers) == 4
    parameters = tuple(value & 0xFFFFFFFFFFFFFFFF for value in numbers) if whole else None
    if clue.tells == events.GUEST:  # told by the host's clock, when it was
        return Piece(
            HOST_LOG, None, code, parameters, clue.time, True, None, (None, None), clue.origin,
            local_time=clue.local_time, local="" if clue.time is not None else clue.local,
        )  # fmt: skip
    return Piece(
        f"event {clue.event_id}", clue.outcome or None, code, parameters, clue.time, False, None,
        (None, None), clue.origin, names=names_of(clue.dump_path, clue.report_id),
        event=(clue.provider, clue.event_id), local_time=clue.local_time,
        local="" if clue.time is not None else clue.local, dump_path=clue.dump_path,
    )  # fmt: skip


# -- records -----------------------------------------------------------------------------------


def _record(number: int, piece: Piece, confidence: str, why: str) -> Crash:
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
        piece.local or (untold if piece.time is None else None),
        untold if piece.boot_id is None else piece.boot_id,
        piece.dump_path or untold,
        why,
        piece.origin._replace(confidence=confidence),
    )


class Index:
    """The rows of the table crashes, to ask which crash something is of."""

    def __init__(self, rows: Iterable[Crash]) -> None:
        self.by_number: dict[int, list[Crash]] = {}
        self._places: dict[tuple[str, str, Number], set[int]] = {}
        self._sources: dict[str, set[int]] = {}
        self._many: set[str] = set()  #: event logs, which span many starts
        for row in rows:
            number, origin = known(row.crash), row.origin
            if number is None:
                continue
            self.by_number.setdefault(number, []).append(row)
            self._places.setdefault(origin_key(origin), set()).add(number)
            self._sources.setdefault(origin.source, set()).add(number)
            if str(row.tells).startswith("event ") or row.tells == HOST_LOG:
                self._many.add(origin.source)

    def numbers(self) -> list[int]:
        """The numbers of the crashes, oldest first."""
        return sorted(self.by_number)

    def of(self, origin: Origin) -> int | None:
        """The crash that a finding or event with this origin is of; None: of none, or not known."""
        found = self._places.get(origin_key(origin))
        if found is None and origin.source not in self._many:
            found = self._sources.get(origin.source)
        return next(iter(found)) if found is not None and len(found) == 1 else None


def origin_key(origin: Origin) -> tuple[str, str, Number]:
    return origin.source, origin.how, origin.file_offset
