"""The answer of a case: what several sources together tell of each crash, in plain sentences.

Invariant: every statement names the source it comes from; the culprit is the text of a finding,
never a guess of this module; what no source tells is listed as not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .. import formatting as fmt
from ..absence import is_absent
from ..checks.crash_loading import LOADING, near
from ..checks.crashes import (
    EVENT_LOGS,
    FAILED,
    RESTARTS,
    SMALLER,
    WRITTEN,
    Index,
    logged,
)
from ..files import called
from ..names.events import provider_key
from ..records import Crash, Finding, Records
from ..tables import rows_of
from . import answer, missing
from .missing import DUMP, LOG, MINIDUMP, REGISTRIES

_MOST = 3  #: crashes that are told, the newest
_LONG = 900  #: of a finding's text or advice

_CAUSE = "The most probable culprit: "
_WRONG = "What went wrong: "  #: where it did not cost the dump
#: rule -> how its text is introduced; the first rule that was broken is the culprit
_CULPRITS: dict[str, str] = {
    "registry-simulate-error": "A simulated failure is configured: ",
    "host-ended-guest": "Why there is no dump: ",
    "case-filter-file-missing": _CAUSE,
    "case-driver-stuck": _CAUSE,
    "case-write-stalled": _CAUSE,
    "case-dump-too-small": _CAUSE,
    "case-filter-disabled": _WRONG,
    "case-dump-disabled": "No dump was asked for: ",
    "log-driver-stuck": _CAUSE,
    "log-driver-faulted": _CAUSE,
    "log-write-stalled": _CAUSE,
    "filter-callback-failed": _WRONG,
    "filter-disabled": _WRONG,
    "event-dump-driver-load-failed": _CAUSE,
    "case-outcome-contradictory": "The sources contradict each other: ",
    "event-dump-outcome-contradictory": "The events contradict each other: ",
    "event-dump-callback-exception": _CAUSE,
    "event-dump-device-gone": _CAUSE,
    "writer-status-failed": _CAUSE,
    "dump-space-insufficient": _CAUSE,
    "log-failure-line": "A line to start with: ",
    "case-progress": "The culprit is not named by any source, only the step: ",
    "event-dump-failed": "The culprit is not named by any source, only the failure: ",
    "log-unfinished": "The culprit is not named by any source, only the last step: ",
    "event-dump-init-failed": _CAUSE,
    "case-hibernation-fallback": "Not a crash: ",
    "case-dump-type-smaller": "What is odd: ",
    "log-write-slow": "What is slow: ",
    "log-start-slow": "What is slow: ",
    "case-leftover-filter": "What should be cleared up: ",
    "case-filter-not-loaded": "What is odd: ",
    "case-filter-not-registered": "What is odd: ",
    "registry-dump-disabled": "What should be switched on: ",
    "registry-page-file-too-small": "What should be enlarged: ",
}
#: of these the finding may lie before the crash it explains: the stack is loaded at the start
_OF_THE_MACHINE = (
    "case-filter-file-missing", "event-dump-driver-load-failed", "event-dump-init-failed",
    "case-hibernation-fallback", "case-leftover-filter", "case-filter-not-loaded",
    "case-filter-not-registered", "registry-", "case-dump-disabled",
)  # fmt: skip


#: where no crash is named, what the sources say instead: rule -> how its text is introduced
_INSTEAD = {
    "event-log-other-channel": "",
    "event-log-incomplete": "Events are missing, so nothing follows from their absence: ",
    "event-log-damaged": "Events are missing, so nothing follows from their absence: ",
    "event-power-button": "Why there is no dump: ",
    "event-resume-failed": _WRONG,
}


def is_case(records: Records) -> bool:
    """True when a log or the registry is among the sources: no dump tells the whole story."""
    kinds = [s.kind for s in records["sources"] if not is_absent(s.kind)]
    if not any(k in (LOG, "host log") or k in EVENT_LOGS or k in REGISTRIES for k in kinds):
        return False
    return DUMP not in kinds or bool(records["crashes"])  # not for dumps of running systems


def sentences(records: Records) -> list[str]:
    """The whole answer."""
    index = Index(records["crashes"])
    found = index.numbers()
    said: list[str] = []
    if len(found) > 1:
        said.append(f"The inputs are of {len(found)} crashes.")
        said += _maybe_one(index)
    for number in found[-_MOST:]:
        said += _crash(records, index, number, len(found) == 1)
    if len(found) > _MOST:
        said.append("Older crashes are left out here; 'dumpstart show crashes' lists them.")
    if not found:
        instead = list(_instead(records))
        untold = [] if _is_elsewhere(records) else ["No source tells of a crash."]
        restarts = _restarts(records)
        said += [restarts] if restarts else untold
        said += instead
        said += _configured(records)
    if len(found) != 1:
        said += _of_no_crash(records)
        machine_wide = [f for f in _findings(records) if _is_of_machine(f)]
        said += _culprit(machine_wide, is_needed=False, is_whole=not found)
    said += _of_running_systems(records)
    said += missing.unknown(records)
    said += missing.next_steps(records)
    return [*said, _verdict(records)]


def _is_elsewhere(records: Records) -> bool:
    """True when every source is a log in which crashes are not logged."""
    paths = {s.path for s in records["sources"]}
    rule = "event-log-other-channel"
    return paths == {f.origin.source for f in records["findings"] if f.rule == rule}


def _instead(records: Records) -> Iterator[str]:
    """What explains that no crash is named; of each kind the newest."""
    newest: dict[str, Finding] = {}
    for finding in _findings(records):
        newest[str(finding.rule)] = finding
    for rule, words in _INSTEAD.items():
        if rule in newest:
            yield words + fmt.clean(newest[rule].text, _LONG)
            if rule in ("event-power-button", "event-resume-failed"):
                yield "What to do: " + fmt.clean(newest[rule].advice, _LONG)


def _restarts(records: Records) -> str:
    """Restarts without a shutdown: all that a crash leaves whose dump was never begun."""
    events = logged(records)
    for kind in sorted(RESTARTS, reverse=True):  # Kernel-Power 41 first; 6008 is about the same
        found = [e for e in events if (provider_key(str(e.provider)), e.event_id) == kind]
        if found:
            times = [e for e in found if not is_absent(e.time)]
            last = max(times, key=lambda e: e.time) if times else None  # type: ignore[arg-type, return-value]
            when = f", the last before {_time(last)} UTC" if last else ""
            where = fmt.listed(dict.fromkeys(_file(e.origin) for e in found))
            return (
                f"No source names a bugcheck, but {where} tells of "
                f"{fmt.counted(len(found), 'restart')} without a shutdown{when}: after a crash "
                "that left nothing, a hang, a reset or a loss of power."
            )
    return ""


def _maybe_one(index: Index) -> Iterator[str]:
    """Crashes that only the clock tells apart."""
    named: dict[tuple[Any, ...], list[int]] = {}
    for number, rows in index.by_number.items():
        for row in rows:
            key = (row.bugcheck, *(getattr(row, f"parameter{n}") for n in range(1, 5)))
            if not any(map(is_absent, key)) and any(key[1:]):
                numbers = named.setdefault(key, [])
                numbers += [] if numbers[-1:] == [number] else [number]
    for numbers in named.values():
        kinds = [row.tells for number in numbers for row in index.by_number[number]]
        if len(numbers) > 1 and len(set(kinds)) == len(kinds):  # one crash has one of each
            alike = fmt.listed(map(str, numbers[:6]))
            yield (
                f"Crashes {alike} have the same bugcheck code and parameters: if a clock was "
                "wrong, they may be one."
            )


def _of_running_systems(records: Records) -> Iterator[str]:
    """Dumps that are beside the point of this case."""
    for source in dict.fromkeys(
        f.origin.source for f in records["findings"] if f.rule == "not-a-crash"
    ):
        yield f"{_file(source)} was taken of a running system, so it tells of no crash."


def _of_no_crash(records: Records) -> Iterator[str]:
    """Calls that a trace or capture tells, of which no bugcheck says the crash."""
    bound = {row.origin.source for row in records["crashes"]}
    kinds = {s.path: s.kind for s in records["sources"]}
    unbound = [path for path, kind in kinds.items() if path not in bound and kind != DUMP]
    part = answer.of_sources(records, unbound)
    for source in dict.fromkeys(call.origin.source for call in part["callbacks"]):
        yield f"{_file(source)} names no bugcheck, so what it tells is of no certain crash."
        yield from answer.filter_sentences(answer.of_sources(part, [source]))


# -- one crash ---------------------------------------------------------------------------------


def _crash(records: Records, index: Index, number: int, is_only: bool) -> Iterator[str]:
    rows = index.by_number[number]
    findings = [
        f
        for f in _findings(records)
        if index.of(f.origin) == number or (is_only and _is_of_machine(f))
    ]
    loading = near(records, findings, rows)
    yield _outcome(records, rows, loading, "the crash" if is_only else f"crash {number}")
    for row in rows:
        if row.origin.confidence == "guess" and row.outcome is not None and len(rows) > 1:
            what = f"{row.tells} of {_file(row.origin)}"
            yield f"That {what} is of this crash is a guess: {fmt.clean(row.why)}."
    bound = {row.origin.source for row in records["crashes"]}
    own = {row.origin.source for row in rows}
    if is_only:  # a trace or capture is of no crash by itself, but of this case
        own |= {s.path for s in records["sources"] if s.path not in bound and s.kind != DUMP}
    part = answer.of_sources(records, own)
    yield from _filters(records, part)
    outcomes = {row.outcome for row in rows}
    is_well = FAILED not in outcomes and not outcomes.isdisjoint((WRITTEN, SMALLER))
    findings = [f for f in findings if f.rule not in LOADING] + ([] if is_well else loading)
    yield from _culprit(findings, not is_well, is_whole=is_well and SMALLER not in outcomes)


def _outcome(records: Records, rows: list[Crash], loading: list[Finding], crash: str) -> str:
    good = [row for row in rows if row.outcome in (WRITTEN, SMALLER)]
    bad = [row for row in rows if row.outcome == FAILED]
    crash = _name(crash, rows)
    cut = [row for row in rows if row.tells == "kernel dump" and not row.outcome]
    pieces = [_piece(records, row) for row in sorted(good + bad + cut, key=_weight)]
    if good and bad:
        pieces = [_piece(records, row) for row in (min(good, key=_weight), min(bad, key=_weight))]
        return f"Whether {crash} left a dump is contradictory: {' but '.join(pieces)}."
    if good:
        less = "a smaller dump than asked for"
        if all(r.outcome == WRITTEN or not _is_small(records, r) for r in good):
            less = "a dump"
        return f"{_capital(crash)} left {less}: {fmt.listed(pieces[:4])}."
    if bad:
        return f"{_capital(crash)} left no complete dump as far as told: {fmt.listed(pieces[:4])}."
    loads = [f for f in loading if f.rule in LOADING[:2]]
    if loads:
        where = _file(loads[0].origin)
        return (
            f"{_capital(crash)} most probably left no dump: by {where} (event 45) the crash dump "
            "stack could not be loaded, and no source tells of a dump."
        )
    told = fmt.listed(dict.fromkeys(_piece(records, row) for row in rows[:3]))
    return f"Whether {crash} left a dump is not determined; what there is does not say it: {told}."


def _file(source: Any) -> str:
    """The short name of a source, given as its path or as an Origin."""
    return fmt.clean(called(getattr(source, "source", source)), 60)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _time(row: Any) -> str:
    return fmt.field(row, "time")[:19].replace("T", " ")


def _name(name: str, rows: list[Crash]) -> str:
    coded = next((row for row in rows if not is_absent(row.bugcheck)), None)
    timed = next((row for row in rows if not is_absent(row.time)), None)
    if coded is None:
        name += " of an unknown bugcheck"
    else:
        title = fmt.field(coded, "bugcheck_name", "")
        is_named = title and not title.startswith("0x")
        name += f" with bugcheck 0x{coded.bugcheck:X}" + (f" ({title})" if is_named else "")
    if timed is not None:
        when = _time(timed)
        after = "" if not str(timed.tells).startswith("event") else "before "
        name += f" {after or 'at '}{when} UTC"
    return name


def _weight(row: Crash) -> int:
    """What speaks most directly of the dump comes first."""
    order = ("kernel dump", "dump log", "event 161", "event 162", "event 1001")
    return order.index(str(row.tells)) if row.tells in order else len(order)


def _is_small(records: Records, row: Crash) -> bool:
    """False for a dump that lacked space and is still none of the small kind."""
    machines = [m for m in records["machine"] if m.origin.source == row.origin.source]
    return row.tells != "kernel dump" or any(m.dump_type == MINIDUMP for m in machines)


def _piece(records: Records, row: Crash) -> str:
    """What one row says, in words."""
    source = _file(row.origin)
    if row.tells == "kernel dump":
        machines = [m for m in records["machine"] if m.origin.source == row.origin.source]
        kind = answer.dump_kind(machines[0]) if machines else "kernel dump"
        own = {f.rule for f in records["findings"] if f.origin.source == row.origin.source}
        but = answer.what_is_wrong(own)
        return f"{source} is a {kind}" + (f" (but {but})" if but else "")
    if row.tells == "dump log":
        last = [s for s in records["stages"] if s.origin.source == row.origin.source]
        step = fmt.field(last[-1], "text", "").rstrip(".") if last else "nothing"
        after = f"breaks off after '{step}'" if step else "breaks off"
        return {
            WRITTEN: f"{source} ends with a completed dump",
            SMALLER: f"{source} ends with a completed dump of a smaller kind",
            FAILED: f"{source} {after}",
        }.get(str(row.outcome), f"{source} does not show how the dump ended")
    if row.tells == "host log":
        ended = ", which ended the guest then, before a dump could be written"
        told = f"by {source} the guest told its host of the bugcheck"
        return told + (ended if row.outcome == FAILED else "")
    says = {
        "event 161": "event 161 (creating the dump failed)",
        "event 162": "event 162 (the dump was created)",
        "event 1001": "event 1001" + (" (a dump was saved)" if row.outcome else ""),
        "event 41": "event 41 (restart without shutting down)",
    }
    verb = "has" if str(row.tells).startswith("event ") else "is a"
    return f"{source} {verb} {says.get(str(row.tells), str(row.tells))}"


def _filters(records: Records, part: Records) -> Iterator[str]:
    dumps = [s for s in part["sources"] if s.kind == DUMP]
    if dumps or part["filters"] or part["callbacks"]:
        yield from answer.filter_sentences(part)
        return
    yield from _configured(records)
    began = [s for s in part["stages"] if s.stage == "dump-start-upper-bound"]
    if began:
        source = _file(began[0].origin)
        yield (
            f"{source} begins after the filters are started, as far as is known, so Dump_Start of "
            "every loaded filter that has one had likely been called and had returned; all calls "
            f"together then took at most {began[0].elapsed_ms} ms (with screen, triage data and "
            "the dump port driver); what they returned is not in the log."
        )
    else:
        yield "Whether Dump_Start was called, and what it returned, is not determined."


def _configured(records: Records) -> Iterator[str]:
    """Which filters are registered, where no dump shows which were loaded."""
    named: dict[str, list[str]] = {}
    for setting in records["settings"]:
        if str(setting.name).lower().startswith("dumpfilters["):
            named.setdefault(setting.origin.source, []).append(fmt.clean(setting.value, 60))
    for source, filters in named.items():
        yield (
            f"Registered as dump filters are {fmt.listed(filters[:6])} "
            f"({_file(source)}); which of them were loaded is not determined."
            if len(filters) > 1
            else f"The only registered dump filter is {filters[0]} "
            f"({_file(source)}); whether it was loaded is not determined."
        )
    if not named:
        yield "Which crash dump filters were registered and loaded is not determined."


def _findings(records: Records) -> list[Finding]:
    return answer.by_severity(list(rows_of(records["findings"])))


def _is_of_machine(finding: Finding) -> bool:
    return str(finding.rule).startswith(_OF_THE_MACHINE)


def _culprit(findings: Iterable[Finding], is_needed: bool, is_whole: bool = False) -> Iterator[str]:
    first: dict[str, Finding] = {}
    for finding in findings:
        first.setdefault(str(finding.rule), finding)
    rule = next((rule for rule in _CULPRITS if rule in first), None)
    if rule is None:
        if is_needed:
            yield "No source points at a culprit."
        return
    found = first[rule]
    how = _WRONG if is_whole and _CULPRITS[rule] == _CAUSE else _CULPRITS[rule]
    yield how + fmt.clean(found.text, _LONG)
    if not is_absent(found.advice):
        yield "What to do: " + fmt.clean(found.advice, _LONG)


def _verdict(records: Records) -> str:
    findings = _findings(records)
    counts = [(s, sum(f.severity == s for f in findings)) for s in ("error", "warning")]
    serious = [fmt.counted(n, s) for s, n in counts if n]
    if not serious:
        return "The checks found no error and no warning in what was given."
    return f"The checks found {fmt.listed(serious)}."
