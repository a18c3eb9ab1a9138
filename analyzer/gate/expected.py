"""What is expected of a case: the words of ``--expect``, and whether the evidence shows it.

Invariant: an expectation is met only where a source shows it. Where nothing tells, the finding says
so and does not say that it is wrong. Of several crashes the newest counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from .. import formatting as fmt
from ..absence import Absent, is_absent
from ..checks.case_filters import complete_dumps
from ..checks.case_seen import CaseSeen
from ..checks.crashes import FAILED, SMALLER, WRITTEN, Index
from ..checks.dump_filters import CALLBACKS
from ..checks.evidence import evidence_of
from ..checks.machine import knows_filter_state
from ..checks.rules_gate import FAILED as NOT_MET
from ..checks.rules_gate import MET
from ..errors import UsageError
from ..files import called
from ..names import bugchecks, ntstatus
from ..names.drivers import plain_name
from ..records import Anomaly, Callback, Evidence, Filter, Module, Origin, Records, Text
from ..tables import shown

R = TypeVar("R", Module, Filter, Callback)
#: how an expectation can come out
YES, NO, UNKNOWN = "met", "refuted", "not shown"
_STATES = ("loaded", "enabled", "disabled")
_CALLED, _NOT_CALLED, _SUCCESS = "called", "not-called", "success"
_FORMS = (
    "dump-written, bugcheck=CODE, filter:NAME:loaded, filter:NAME:enabled, filter:NAME:disabled "
    "and filter:NAME:CALLBACK=RESULT; CALLBACK is dump_start, dump_write, ...; RESULT is success, "
    "called, not-called or an NTSTATUS"
)
_MOST_EVIDENCE = 12


class Expectation(NamedTuple):
    """One of them, taken apart."""

    text: str  #: as it was written
    what: str  #: "dump-written", "bugcheck", one of _STATES, or a field such as dump_start
    filter: str = ""
    result: str = ""  #: of a callback: a word; "" where a code is expected
    code: int = 0  #: NTSTATUS or bugcheck


class Outcome(NamedTuple):
    """What the evidence says of one."""

    outcome: str
    text: str
    evidence: tuple[Evidence, ...] = ()


# -- the words ---------------------------------------------------------------------------------


def parse(text: str) -> list[Expectation]:
    """Expectations with commas between them; UsageError where one is not understood."""
    found = [_one(part.strip()) for part in text.split(",") if part.strip()]
    if not found:
        raise UsageError(f"--expect names no expectation; there are {_FORMS}.")
    return found


def _one(text: str) -> Expectation:
    wrong = UsageError(f"'{text}' is not an expectation; there are {_FORMS}.")
    if text == "dump-written":
        return Expectation(text, text)
    name, _, value = text.partition("=")
    if name == "bugcheck":
        code = _number(value)
        codes = {word: number for number, word in bugchecks.NAMES.items()}
        code = codes.get(value.upper()) if code is None else code
        if code is None:
            raise wrong
        return Expectation(text, name, code=code)
    kind, _, rest = text.partition(":")
    name, _, what = rest.rpartition(":")
    if kind != "filter" or not name:
        raise wrong
    if what.lower() in _STATES:
        return Expectation(text, what.lower(), name)
    callback, _, result = what.partition("=")
    if callback.lower() not in CALLBACKS:
        raise wrong
    if result.lower() in (_CALLED, _NOT_CALLED, _SUCCESS):
        return Expectation(text, callback.lower(), name, result.lower())
    code = _number(result)
    code = ntstatus.value(result.upper()) if code is None else code
    if code is None:
        raise wrong
    return Expectation(text, callback.lower(), name, code=code)


def _number(text: str) -> int | None:
    try:
        number = int(text, 16) if text.lower().startswith("0x") else None
    except ValueError:
        return None
    return number if number is None or 0 <= number < 1 << 32 else None


# -- judging -----------------------------------------------------------------------------------


def check(records: Records, expected: Iterable[Expectation]) -> Iterator[Anomaly]:
    """A finding for each expectation, whether it is met or not."""
    seen = _Newest(records)
    for one in expected:
        judged = _judge(seen, one)
        first = next((e.origin for e in judged.evidence if e.origin is not None), None)
        rule = MET if judged.outcome == YES else NOT_MET
        name = fmt.clean(one.text, 100)
        facts = {"expectation": one.text, "outcome": judged.outcome}
        text = f"Expected {name}: {judged.outcome}. {judged.text}"
        evidence = judged.evidence[:_MOST_EVIDENCE]
        yield Anomaly(rule, text, first or seen.anywhere(), name, evidence, facts)


class _Newest:
    """What was told of the newest crash, and what is of no crash of its own."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self._index = Index(records["crashes"])
        numbers = self._index.numbers()
        self.crash = numbers[-1] if numbers else None
        self.crashes = self._index.by_number[numbers[-1]] if numbers else []

    def rows(self, rows: Sequence[R], name: str) -> list[R]:
        """Those of one filter in the crash stack."""
        return [
            row
            for row in rows
            if self._index.of(row.origin) in (None, self.crash)
            and (is_absent(row.stack) or row.stack == "crash")
            and _is(row.name if isinstance(row, Module) else row.filter, name)
        ]

    def dumps_without(self, name: str) -> list[Module]:
        """A module of each dump whose complete list of the stack does not have this filter."""
        seen = CaseSeen(self.records, self.records.anomalies)
        found = []
        for _, modules in complete_dumps(seen):
            first = modules[0]
            is_of_it = self._index.of(first.origin) in (None, self.crash)
            if is_of_it and all(plain_name(m.name) != plain_name(name) for m in modules):
                found.append(first)
        return found

    def anywhere(self) -> Origin:
        """Where a finding stands that rests on nothing."""
        path = next((s.path for s in self.records["sources"]), "")
        return Origin(str(path), "whole file")


def _is(value: Text, name: str) -> bool:
    return not is_absent(value) and plain_name(value) == plain_name(name)


def _judge(seen: _Newest, one: Expectation) -> Outcome:
    if one.what == "dump-written":
        return _dump_written(seen)
    if one.what == "bugcheck":
        return _bugcheck(seen, one.code)
    if one.what == "loaded":
        return _loaded(seen, one.filter)
    if one.what in _STATES:
        return _state(seen, one.filter, one.what == "disabled")
    return _call(seen, one)


def _dump_written(seen: _Newest) -> Outcome:
    good = [row for row in seen.crashes if row.outcome in (WRITTEN, SMALLER)]
    bad = [row for row in seen.crashes if row.outcome == FAILED]
    evidence = tuple(
        Evidence("outcome", row.outcome, words=str(row.tells), origin=row.origin)
        for row in [*bad, *good]
    )
    told = fmt.listed(f"{row.tells} in {called(row.origin.source)}" for row in (bad or good)[:3])
    if good and bad:
        return Outcome(UNKNOWN, "The sources contradict each other on it.", evidence)
    if bad:
        return Outcome(NO, f"It failed, by {told}.", evidence)
    if not good:
        what = "tells whether a dump was written" if seen.crashes else "tells of a crash"
        return Outcome(UNKNOWN, f"Nothing that was given {what}.")
    smaller = any(row.outcome == SMALLER for row in good)
    about = ", a smaller one than was asked for" if smaller else ""
    return Outcome(YES, f"A dump was written{about}, by {told}.", evidence)


def _bugcheck(seen: _Newest, code: int) -> Outcome:
    rows = [row for row in seen.crashes if not is_absent(row.bugcheck)]
    evidence = tuple(Evidence("bugcheck", r.bugcheck, "Code", origin=r.origin) for r in rows)
    codes = {row.bugcheck for row in rows if isinstance(row.bugcheck, int)}
    if not codes:
        return Outcome(UNKNOWN, "Nothing that was given tells the bugcheck of a crash.")
    names = fmt.listed(f"{one:#x} ({bugchecks.name(one)})" for one in sorted(codes))
    return Outcome(YES if codes == {code} else NO, f"The bugcheck was {names}.", evidence)


# -- filters -----------------------------------------------------------------------------------


def _unseen(seen: _Newest, name: str) -> Outcome:
    """What can be said of a filter of which there is no row."""
    without = seen.dumps_without(name)
    if without:
        where = called(without[0].origin.source)
        text = f"It was not loaded: the modules of the crash stack in {where} do not have it."
        return Outcome(NO, text, tuple(e for m in without for e in evidence_of(m, "name", "role")))
    return Outcome(UNKNOWN, "Nothing that was given shows this filter in the crash stack.")


def _loaded(seen: _Newest, name: str) -> Outcome:
    modules = seen.rows(seen.records["modules"], name)
    modules = [m for m in modules if m.loaded and m.stack == "crash"]
    nodes = [f for f in seen.rows(seen.records["filters"], name) if not is_absent(f.node)]
    rows: Sequence[Module | Filter] = modules or nodes
    if not rows:
        return _unseen(seen, name)
    field = "name" if modules else "filter"
    where = called(rows[0].origin.source)
    return Outcome(YES, f"It was loaded, by {where}.", evidence_of(rows[0], field))


def _state(seen: _Newest, name: str, disabled: bool) -> Outcome:
    rows = seen.rows(seen.records["filters"], name)
    told = [row for row in rows if not is_absent(row.is_disabled)]
    if not told:
        unseen = _unseen(seen, name)
        if rows and unseen.outcome == UNKNOWN:
            why = rows[0].is_disabled
            more = f": {why.detail}" if isinstance(why, Absent) and why.detail else ""
            return Outcome(UNKNOWN, f"Its state is not known{more}.")
        return unseen
    evidence = tuple(
        e for row in told for e in evidence_of(row, "is_disabled", "last_failing_status")
    )
    states = {bool(row.is_disabled) for row in told}
    if len(states) > 1:
        return Outcome(UNKNOWN, "The sources do not agree on its state.", evidence)
    row = told[0]
    word = "switched off" if row.is_disabled else "on"
    text = f"It was {word}, by {called(row.origin.source)}"
    if row.origin.confidence != "certain":
        text += f" ({row.origin.confidence})"
    if not knows_filter_state(seen.records["machine"], row.origin.source):
        text += "; the place of its state word is inferred on this Windows"
    return Outcome(YES if states == {disabled} else NO, f"{text}.", evidence)


# -- calls -------------------------------------------------------------------------------------


def _call(seen: _Newest, one: Expectation) -> Outcome:
    name = CALLBACKS[one.what]
    rows = [row for row in seen.rows(seen.records["callbacks"], one.filter) if row.callback == name]
    if not rows:
        unseen = _unseen(seen, one.filter)
        if unseen.outcome == UNKNOWN and seen.rows(seen.records["filters"], one.filter):
            return Outcome(UNKNOWN, f"Nothing that was given tells of {name} of this filter.")
        return unseen
    ran = [row for row in rows if row.was_called == "yes" or not is_absent(row.status)]
    not_called = [row for row in rows if row.was_called == "no" or row.routine == 0]
    evidence = tuple(
        e for row in [*ran, *not_called] for e in evidence_of(row, "was_called", "status")
    )
    if ran and one.result in (_CALLED, _NOT_CALLED):
        text = f"{name} was called, by {called(ran[0].origin.source)}."
        return Outcome(YES if one.result == _CALLED else NO, text, evidence)
    if ran:
        return _returned(one, name, ran, evidence)
    if len(not_called) == len(rows):
        why = f"The filter has no {name}" if rows[0].routine == 0 else f"{name} was not called"
        text = f"{why}, by {called(rows[0].origin.source)}."
        return Outcome(YES if one.result == _NOT_CALLED else NO, text, evidence)
    return Outcome(UNKNOWN, _not_told(name, rows), evidence)


def _not_told(name: str, rows: Sequence[Callback]) -> str:
    likely = any(row.was_called == "likely" for row in rows)
    text = f"{name} was likely called, but no" if likely else "No"
    text += " source that was given saw the call"
    tells = [row.status.would_tell for row in rows if isinstance(row.status, Absent)]
    return text + (f"; {tells[0]} would tell." if tells and tells[0] else ".")


def _returned(
    one: Expectation, name: str, ran: Sequence[Callback], evidence: tuple[Evidence, ...]
) -> Outcome:
    returned = [(row, row.status) for row in ran if isinstance(row.status, int)]
    wrong = [pair for pair in returned if not _is_expected(one, pair[1])]
    count = fmt.counted(len(ran), "call")
    if wrong:
        row, code = wrong[0]
        how_many = f"{len(wrong)} of {count}" if len(ran) > 1 else "It"
        status = f"{ntstatus.name(code)} ({shown('Code', code)})"
        text = f"{how_many} returned {status}, by {called(row.origin.source)}"
        if row.origin.confidence != "certain":
            text += f" ({row.origin.confidence})"
        return Outcome(NO, f"{text}.", evidence)
    if len(returned) < len(ran):
        text = f"Of {count} of {name}, {len(ran) - len(returned)} have no return that was seen."
        return Outcome(UNKNOWN, text, evidence)
    names = fmt.listed(dict.fromkeys(ntstatus.name(code) for _, code in returned))
    text = f"{count} of {name}: {names}, by {called(ran[0].origin.source)}."
    return Outcome(YES, text, evidence)


def _is_expected(one: Expectation, status: int) -> bool:
    if one.result == _SUCCESS:
        return not ntstatus.is_failure(status)
    return (status & 0xFFFFFFFF) == one.code
