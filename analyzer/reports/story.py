"""The answer of a case: what several sources together tell of each crash, in plain sentences.

Invariant: every statement names the source it comes from; the culprit is the text of a finding,
never a guess of this module; what no source tells is listed as not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..absence import is_absent
from ..checks.crashes import (
    EVENT_LOGS,
    FAILED,
    SMALLER,
    WRITTEN,
    Index,
    called,
    logged,
)
from ..checks.rules_case import CONTROL
from ..checks.rules_logs import ENABLE_LOG
from ..records import Crash, Finding, Records
from ..tables import rows_of
from . import answer, words

_LOG, _DUMP = "dumpstack.log", "kernel dump"
_REGISTRIES = ("registry hive", "registry export")
_MOST = 3  #: crashes that are told, the newest
_LONG = 900  #: of a finding's text or advice

_CAUSE = "The most probable culprit: "
#: rule -> how its text is introduced; the first rule that was broken is the culprit
_CULPRITS: dict[str, str] = {
    "registry-simulate-error": "A failure is simulated on purpose: ",
    "case-filter-file-missing": _CAUSE,
    "case-driver-stuck": _CAUSE,
    "case-write-stalled": _CAUSE,
    "case-dump-too-small": _CAUSE,
    "case-filter-disabled": _CAUSE,
    "case-dump-disabled": "No dump was asked for: ",
    "log-driver-stuck": _CAUSE,
    "log-write-stalled": _CAUSE,
    "filter-callback-failed": _CAUSE,
    "filter-disabled": _CAUSE,
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


#: the stack did not load at some start: it explains a crash only when it is not long ago
_LOADING = (
    "case-filter-file-missing", "event-dump-driver-load-failed", "event-dump-init-failed",
)  # fmt: skip
_LONG_AGO_NS = 30 * 86400 * 10**9


def is_case(records: Records) -> bool:
    """True when a log or the registry is among the sources: no dump tells the whole story."""
    kinds = [s.kind for s in records["sources"] if not is_absent(s.kind)]
    if not any(k == _LOG or k in EVENT_LOGS or k in _REGISTRIES for k in kinds):
        return False
    return _DUMP not in kinds or bool(records["crashes"])  # not for dumps of running systems


def sentences(records: Records) -> list[str]:
    """The whole answer."""
    index = Index(records["crashes"])
    found = index.numbers()
    said: list[str] = []
    if len(found) > 1:
        said.append(f"The inputs are of {len(found)} crashes.")
    for number in found[-_MOST:]:
        said += _crash(records, index, number, len(found) == 1)
    if len(found) > _MOST:
        said.append("Older crashes are left out here; 'dumpstart show crashes' lists them.")
    if not found:
        said.append("No source tells of a crash.")
        said += _configured(records)
    if len(found) != 1:
        machine_wide = [f for f in _findings(records) if _is_of_machine(f)]
        said += _culprit(machine_wide, is_needed=False)
    said += _unknown(records)
    said += _next_steps(records)
    return [*said, _verdict(records)]


# -- one crash ---------------------------------------------------------------------------------


def _crash(records: Records, index: Index, number: int, is_only: bool) -> Iterator[str]:
    rows = index.by_number[number]
    findings = [
        f
        for f in _findings(records)
        if index.of(f.origin) == number or (is_only and _is_of_machine(f))
    ]
    near = _near(records, findings, rows)
    yield _outcome(records, rows, near, "the crash" if is_only else f"crash {number}")
    for row in rows:
        if row.origin.confidence == "guess" and row.outcome is not None and len(rows) > 1:
            what = f"{row.tells} of {_file(row.origin)}"
            yield f"That {what} is of this crash is a guess: {words.clean(row.why)}."
    bound = {row.origin.source for row in records["crashes"]}
    own = {row.origin.source for row in rows}
    if is_only:  # a trace or capture is of no crash by itself, but of this case
        own |= {s.path for s in records["sources"] if s.path not in bound}
    part = answer.of_sources(records, own)
    yield from _filters(records, part)
    outcomes = {row.outcome for row in rows}
    is_well = FAILED not in outcomes and not outcomes.isdisjoint((WRITTEN, SMALLER))
    findings = [f for f in findings if f.rule not in _LOADING] + ([] if is_well else near)
    yield from _culprit(findings, is_needed=not is_well)


def _outcome(records: Records, rows: list[Crash], loading: list[Finding], crash: str) -> str:
    good = [row for row in rows if row.outcome in (WRITTEN, SMALLER)]
    bad = [row for row in rows if row.outcome == FAILED]
    crash = _name(crash, rows)
    pieces = [_piece(records, row) for row in sorted(good + bad, key=_weight)]
    if good and bad:
        pieces = [_piece(records, row) for row in (min(good, key=_weight), min(bad, key=_weight))]
        return f"Whether {crash} left a dump is contradictory: {' but '.join(pieces)}."
    if good:
        less = (
            "a smaller dump than asked for" if any(r.outcome == SMALLER for r in good) else "a dump"
        )
        return f"{_capital(crash)} left {less}: {words.listed(pieces[:4])}."
    if bad:
        return (
            f"{_capital(crash)} left no complete dump as far as told: {words.listed(pieces[:4])}."
        )
    loads = [f for f in loading if f.rule in _LOADING[:2]]
    if loads:
        where = _file(loads[0].origin)
        return (
            f"{_capital(crash)} most probably left no dump: by {where} (event 45) the crash dump "
            "stack could not be loaded, and no source tells of a dump."
        )
    told = words.listed(dict.fromkeys(_piece(records, row) for row in rows[:3]))
    return f"Whether {crash} left a dump is not determined; what there is does not say it: {told}."


def _near(records: Records, findings: list[Finding], rows: list[Crash]) -> list[Finding]:
    """The findings of :data:`_LOADING` whose event lies not long before the crash, or untimed."""
    loading = [f for f in findings if f.rule in _LOADING]
    crash = [row.time for row in rows if isinstance(row.time, int)]
    if not loading or not crash:
        return loading
    times = {_place(event.origin): event.time for event in logged(records)}
    ages = ((f, times.get(_place(f.origin))) for f in loading)
    return [f for f, t in ages if not isinstance(t, int) or min(crash) - t <= _LONG_AGO_NS]


def _place(origin: Any) -> tuple[Any, ...]:
    return origin.source, origin.how, origin.file_offset


def _file(source: Any) -> str:
    """The short name of a source, given as its path or as an Origin."""
    return words.clean(called(getattr(source, "source", source)), 60)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _name(name: str, rows: list[Crash]) -> str:
    coded = next((row for row in rows if not is_absent(row.bugcheck)), None)
    timed = next((row for row in rows if not is_absent(row.time)), None)
    if coded is None:
        name += " of an unknown bugcheck"
    else:
        title = words.field(coded, "bugcheck_name", "")
        is_named = title and not title.startswith("0x")
        name += f" with bugcheck 0x{coded.bugcheck:X}" + (f" ({title})" if is_named else "")
    if timed is not None:
        when = words.field(timed, "time")[:19].replace("T", " ")
        after = "" if not str(timed.tells).startswith("event") else "before "
        name += f" {after or 'at '}{when} UTC"
    return name


def _weight(row: Crash) -> int:
    """What speaks most directly of the dump comes first."""
    order = ("kernel dump", "dump log", "event 161", "event 162", "event 1001")
    return order.index(str(row.tells)) if row.tells in order else len(order)


def _piece(records: Records, row: Crash) -> str:
    """What one row says, in words."""
    source = _file(row.origin)
    if row.tells == "kernel dump":
        machines = [m for m in records["machine"] if m.origin.source == row.origin.source]
        kind = answer.dump_kind(machines[0]) if machines else "kernel dump"
        return f"{source} is a {kind}" + ("" if row.outcome else " that is cut short")
    if row.tells == "dump log":
        last = [s for s in records["stages"] if s.origin.source == row.origin.source]
        step = words.field(last[-1], "text").rstrip(".") if last else "nothing"
        return {
            WRITTEN: f"{source} ends with a completed dump",
            SMALLER: f"{source} ends with a completed dump of a smaller kind",
            FAILED: f"{source} breaks off after '{step}'",
        }.get(str(row.outcome), f"{source} does not show how the dump ended")
    says = {
        "event 161": "event 161 (creating the dump failed)",
        "event 162": "event 162 (the dump was created)",
        "event 1001": "event 1001" + (" (a dump was saved)" if row.outcome else ""),
        "event 41": "event 41 (restart without shutting down)",
    }
    verb = "has" if str(row.tells).startswith("event ") else "is a"
    return f"{source} {verb} {says.get(str(row.tells), str(row.tells))}"


def _filters(records: Records, part: Records) -> Iterator[str]:
    dumps = [s for s in part["sources"] if s.kind == _DUMP]
    if dumps or part["filters"] or part["callbacks"]:
        yield from answer.filter_sentences(part)
        return
    yield from _configured(records)
    began = [s for s in part["stages"] if s.stage == "dump-start-upper-bound"]
    if began:
        source = _file(began[0].origin)
        yield (
            f"{source} begins after the filters are started, so Dump_Start of every loaded filter "
            f"had likely been called and had returned; all calls together took at most "
            f"{began[0].elapsed_ms} ms (with screen, triage data and the dump port driver); what "
            "they returned is not in the log."
        )
    else:
        yield "Whether Dump_Start was called, and what it returned, is not determined."


def _configured(records: Records) -> Iterator[str]:
    """Which filters are registered, where no dump shows which were loaded."""
    named: dict[str, list[str]] = {}
    for setting in records["settings"]:
        if str(setting.name).lower().startswith("dumpfilters["):
            named.setdefault(setting.origin.source, []).append(words.clean(setting.value, 60))
    for source, filters in named.items():
        yield (
            f"Registered as dump filters are {words.listed(filters[:6])} "
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


def _culprit(findings: Iterable[Finding], is_needed: bool) -> Iterator[str]:
    first: dict[str, Finding] = {}
    for finding in findings:
        first.setdefault(str(finding.rule), finding)
    rule = next((rule for rule in _CULPRITS if rule in first), None)
    if rule is None:
        if is_needed:
            yield "No source points at a culprit."
        return
    found = first[rule]
    yield _CULPRITS[rule] + words.clean(found.text, _LONG)
    if not is_absent(found.advice):
        yield "What to do: " + words.clean(found.advice, _LONG)


# -- what is missing ---------------------------------------------------------------------------


def _kinds(records: Records) -> set[Any]:
    return {s.kind for s in records["sources"] if not is_absent(s.kind)}


def _unknown(records: Records) -> Iterator[str]:
    """What the sources that were not given would tell."""
    kinds = _kinds(records)
    open_points = []
    if not any(not is_absent(f.node) for f in records["filters"]):
        open_points.append("the filters' own state and FILTER_EXTENSION (no memory dump)")
    if not any(not is_absent(c.duration_ns) for c in records["callbacks"]):
        open_points.append("how long a single Dump_Start took (only a debugger or trace tells)")
    if _LOG not in kinds:
        open_points.append("how far and how fast the dump was written (no DumpStack.log)")
    if not kinds.intersection(EVENT_LOGS):
        open_points.append("what Windows logged after the restart (no event log)")
    if not kinds.intersection(_REGISTRIES):
        open_points.append("how dumps are configured (no registry)")
    if open_points:
        yield f"Not known: {words.listed(open_points)}."


def _next_steps(records: Records) -> Iterator[str]:
    """What to collect or to switch on before the next crash, each with its command."""
    kinds = _kinds(records)
    rules = {f.rule for f in records["findings"]}
    switch, collect = [], []
    if "registry-dump-disabled" in rules or _asks_for_small(records):
        switch.append(f"larger dumps: reg add {CONTROL} /v CrashDumpEnabled /t REG_DWORD /d 7 /f")
    if "registry-log-disabled" in rules or (_LOG not in kinds and not kinds & set(_REGISTRIES)):
        switch.append(f"the dump log: {ENABLE_LOG}")
    if _DUMP not in kinds and records["crashes"]:
        collect.append(r"the dump, if there is one: C:\Windows\MEMORY.DMP, C:\Windows\Minidump")
    if _LOG not in kinds and records["crashes"] and "registry-log-disabled" not in rules:
        collect.append(
            "the hidden DumpStack.log in the root of the page file's drive: "
            r"xcopy /h C:\DumpStack.log %USERPROFILE%\Desktop"
        )
    if not kinds.intersection(EVENT_LOGS):
        collect.append("the event log: wevtutil epl System System.evtx")
    if not kinds.intersection(_REGISTRIES):
        collect.append(f"the settings: reg export {CONTROL} CrashControl.reg")
    if switch:
        # no full stop: it would be copied with the command
        yield f"Before the next crash switch on {'; and '.join(switch)}"
    if collect:
        yield f"To collect: {'; '.join(collect)}"
    if not switch and not collect:
        yield "Nothing that files can tell is missing; only a live session would tell more."


def _asks_for_small(records: Records) -> bool:
    return any(
        str(s.name).lower() == "crashdumpenabled" and str(s.value) == "3"
        for s in records["settings"]
    )


def _verdict(records: Records) -> str:
    findings = _findings(records)
    counts = [(s, sum(f.severity == s for f in findings)) for s in ("error", "warning")]
    serious = [words.counted(n, s) for s, n in counts if n]
    if not serious:
        return "The checks found no error and no warning in what was given."
    return f"The checks found {words.listed(serious)}."
