"""The one or two sentences that lead every report: what this input can answer.

Invariant: the first sentence is about what was given (a crash, calls, a running machine, settings),
never about what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .. import formatting as fmt
from ..absence import is_absent
from ..checks import executing
from ..checks.crashes import EVENT_LOGS, FAILED, RESTARTS, SMALLER, WRITTEN, Index, logged
from ..checks.culprit import LEADING, Culprit
from ..checks.evidence import PARTIAL
from ..checks.machine import is_live, live_sources
from ..names import drivers
from ..names.crash_control import is_whole
from ..names.events import provider_key
from ..records import Machine, Records, Source
from . import crash, observed
from .filters import UNNAMED
from .model import FilterVerdict
from .next_steps import DUMP, LOG, REGISTRIES, SNAPSHOT, kinds_of

_MOST = 2  #: sentences; one more where there are several crashes
_GOOD = (WRITTEN, SMALLER)
#: where no crash is named, what the sources say instead: rule -> what it is called
_INSTEAD = {
    "event-power-button": "Probably why there is no dump",
    "event-resume-failed": "",
    "event-log-other-channel": "",
    "event-log-empty": "",
}
#: what a log lost, so that nothing follows from what it does not show
_LOSSES = ("event-log-incomplete", "event-log-damaged")
#: findings by which a list of modules is not known to be whole
_INCOMPLETE = {*PARTIAL, "dump-stack-missing"}
#: what a call that was seen is blamed for, the worst first
_OF_CALLS = ("callback-never-returned", "filter-callback-failed", "callback-slower-than-baseline")
#: the sentence on the crash has said it
_CONTRADICTORY = ("case-outcome-contradictory", "event-dump-outcome-contradictory")
_NOTHING = "This input shows no crash, no dump and no crash dump filter."


def headline(
    records: Records,
    index: Index,
    filters: Sequence[FilterVerdict],
    culprits: Sequence[Culprit],
    names: Mapping[str, str],
) -> tuple[str, ...]:
    """One or two sentences; of several crashes, also what explains the newest."""
    said = [*_standing(records), *_main(records, index, filters, culprits, names)]
    said = said or [*observed.besides(records, names)]
    most = _MOST + (len(index.numbers()) > 1)
    return tuple(fmt.clean(sentence, 700) for sentence in said[:most]) or (_NOTHING,)


def _main(
    records: Records,
    index: Index,
    filters: Sequence[FilterVerdict],
    culprits: Sequence[Culprit],
    names: Mapping[str, str],
) -> Iterator[str]:
    numbers = index.numbers()
    if not numbers:
        yield from _no_crash(records, culprits, names)
    else:
        yield from _crashes(records, index, numbers, culprits, names)
    if len(numbers) > 1:
        return  # what was seen of calls and filters stands below, crash by crash
    seen = observed.calls(records, index, names)
    yield from seen
    if seen and not numbers:
        yield from _worst(records)
    if not seen:
        newest = [f for f in filters if f.crash == (numbers[-1] if numbers else None)]
        if numbers or any(not f.position.startswith("registered") for f in newest):
            yield from _filters(records, newest)  # else the settings have named them
        elif not newest:
            yield from _none(records)


def _crashes(
    records: Records,
    index: Index,
    numbers: Sequence[int],
    culprits: Sequence[Culprit],
    names: Mapping[str, str],
) -> Iterator[str]:
    """How many there are, what became of the newest, and what explains that."""
    rows = index.by_number[numbers[-1]]
    if len(numbers) > 1:
        yield _several(index, numbers)
        told = [bool(crash.when(index.by_number[number])) for number in numbers]
        which = "The newest" if all(told) else "The newest with a known time"
        last = [crash.time_of(index.by_number[number]) for number in numbers[-2:]]
        which = which if told[-1] and last[0] != last[1] else "One of them"
        yield f"{which}: {_lower(crash.sentence(records, index, numbers[-1], names))}"
    elif all(row.tells == SNAPSHOT for row in rows):
        yield from _no_crash(records, culprits, names)
    else:
        yield crash.sentence(records, index, numbers[0], names)
    outcomes = {row.outcome for row in rows}
    if FAILED in outcomes and not outcomes.isdisjoint(_GOOD):
        culprits = [c for c in culprits if c.finding.rule not in _CONTRADICTORY]
    leads = bool(culprits) and culprits[0].finding.rule in LEADING
    if leads or (culprits and (FAILED in outcomes or outcomes.isdisjoint(_GOOD))):
        yield _blame(culprits[0], numbers[-1] if len(numbers) > 1 else None)


def _worst(records: Records) -> Iterator[str]:
    """What is most wrong with the calls that were seen, besides the status of Dump_Start."""
    for rule in _OF_CALLS:
        for finding in records["findings"]:
            is_start = finding.facts.get("callback") == "Dump_Start"
            if finding.rule == rule and not (is_start and rule == "filter-callback-failed"):
                text = fmt.sentence(finding.text, 500)
                calls = [
                    c
                    for c in records["callbacks"]
                    if c.callback == finding.facts.get("callback") and c.filter == finding.subject
                ]
                failed = sum(observed.is_failed(c) for c in calls)
                if 0 < failed < len(calls):
                    text = f"{text.rstrip('.')} in {failed:,} of {len(calls):,} calls."
                yield text
                return


def _blame(culprit: Culprit, number: int | None = None) -> str:
    """What explains most; ``number``: the crash, where there are several."""
    role = culprit.role
    if culprit.finding.origin.confidence != "certain":
        role = role.replace("One thing that went", "One thing that likely went")
    text = fmt.sentence(culprit.finding.text, 500)
    if culprit.finding.rule == "case-driver-stuck":  # what is wrong has the evidence
        text = text.partition(": ")[0].replace(" probably ", " ", 1) + "."
    return f"{role}{f' (crash {number})' if number else ''}: {_lower(text)}"


def _lower(text: str) -> str:
    """Lower case for the first letter of an ordinary word, not of a name."""
    first = text.split(" ", 1)[0]
    return text[:1].lower() + text[1:] if first in ("The", "A", "An", "This", "It", "At") else text


def _standing(records: Records) -> Iterator[str]:
    """A processor inside a callback leads everything; what a second look says of it, even more."""
    for finding in records["findings"]:
        if finding.rule in ("callback-still-executing", "callback-moved-on"):
            yield fmt.field(finding, "text")
            return
    for row, frames in executing.inside(records["processors"], records["frames"]):
        yield executing.sentence(row, frames)
        return


def _several(index: Index, numbers: Sequence[int]) -> str:
    moments = (crash.time_of(index.by_number[number]) for number in numbers)
    times = sorted(moment for moment in moments if moment is not None)
    span = ""
    if times:
        first, last = fmt.moment(times[0]), fmt.moment(times[-1])
        span = f" at {first}" if first == last else f" between {first} and {last}"
        if len(times) < len(numbers):
            span = f", {len(times)} of them{span}"
    codes = [crash.bugcheck(index.by_number[number]) for number in numbers]
    text = f"{len(numbers)} crashes{span}"
    failed = sum(
        any(row.outcome == FAILED for row in index.by_number[number]) for number in numbers
    )
    lost = f"; {failed} left no finished dump." if failed else "."
    if len(set(codes)) == 1 and crash.UNKNOWN not in codes:
        return f"{text}, all with {codes[0]}{lost}"
    known = len({*codes} - {crash.UNKNOWN})
    if known:
        text += f", with {known} different bugchecks" if known > 1 else ", with one bugcheck"
    unknown = codes.count(crash.UNKNOWN)
    if unknown:
        text += f", and {unknown} without a known one" if known else ", none with a known bugcheck"
    return text + lost


def _no_crash(
    records: Records, culprits: Sequence[Culprit], names: Mapping[str, str]
) -> Iterator[str]:
    kinds = kinds_of(records)
    for source in records["sources"]:
        machine = next((m for m in records["machine"] if m.origin.source == source.path), None)
        name = names.get(str(source.path), "")
        if source.kind == SNAPSHOT:
            yield _snapshot(source, machine, source.path in live_sources(records))
        elif source.kind == DUMP and machine is not None and is_live(machine):
            kind = crash.dump_kind(machine)
            what = "of a running system: the machine had not crashed."
            if source.path not in live_sources(records):
                what = "of a running system by its header, but its memory holds a bugcheck."
            yield f"{name} is a {kind} {what}"
        elif source.kind == DUMP:
            yield f"{name} is a kernel dump that names no bugcheck."
        elif machine is not None and source.kind == "WinDbg log":
            yield from _debugged(name, source, machine)
    panics = [f for f in records["findings"] if f.rule == "host-guest-panicked"]
    if panics:  # a crash without a bugcheck is in no table
        yield fmt.sentence(panics[-1].text, 500)
    restarts = _restarts(records, names)
    instead = list(_instead(records, names, bool(restarts)))
    if restarts or instead:
        yield from instead
        yield from filter(None, [restarts])
        return
    logs = [names[str(s.path)] for s in records["sources"] if s.kind in EVENT_LOGS]
    if logs:
        yield f"{fmt.listed(logs[:3])} {'shows' if len(logs) == 1 else 'show'} no crash."
    if LOG in kinds:
        yield "The dump log shows no crash."
    if culprits:
        yield _blame(culprits[0])
    if kinds & set(REGISTRIES):
        yield from _registered(records)
    if "etl" in kinds and not records["callbacks"]:
        yield from _traced(records)


def _instead(records: Records, names: Mapping[str, str], has_restarts: bool) -> Iterator[str]:
    """What explains that no crash is named; of each kind the newest."""
    newest = {str(f.rule): f for f in records["findings"]}
    for rule, role in _INSTEAD.items():
        if rule in newest:
            # of a log of another channel the second sentence says what that means
            whole = rule == "event-log-other-channel"
            text = fmt.clean(newest[rule].text) if whole else fmt.sentence(newest[rule].text, 500)
            yield f"{role}: {_lower(text)}" if role else text
    lost = next((newest[rule] for rule in _LOSSES if rule in newest), None)
    if lost is not None and "event-log-other-channel" not in newest:
        name = names.get(lost.origin.source, "The log")
        begun = (
            f"Events are missing from {name}:" if has_restarts else f"{name} shows no crash, but"
        )
        yield f"{begun} {_lower(fmt.sentence(lost.text, 500))}"


def _debugged(name: str, source: Source, machine: Machine) -> Iterator[str]:
    """A debugger's log of a dump that is not of a crash."""
    is_dump = not is_absent(machine.dump_type_name)
    if machine.bugcheck == 0 and not is_dump:
        yield f"{name} is a debugger's log of a running system: Windows had not crashed."
    elif not is_absent(machine.bugcheck) and is_live(machine):
        title = fmt.fields(machine, "bugcheck", "bugcheck_name")
        yield f"{name} is a debugger's log of a live dump ({title}): Windows had not crashed."
    elif is_dump:
        yield f"{name} is a debugger's log {fmt.field(source, 'subtype')}; it names no bugcheck."


def _snapshot(source: Source, machine: Machine | None, is_live_one: bool) -> str:
    taken = f"A snapshot of a machine's memory ({fmt.field(source, 'subtype')})"
    if machine is None or is_absent(machine.bugcheck):
        return f"{taken}; whether the machine had crashed is not determined."
    if is_live(machine) and not is_live_one:
        return f"{taken}, of a running system by its header, but its memory holds a bugcheck."
    if is_live(machine) or not machine.bugcheck:
        return f"{taken}; when it was taken, the machine had not crashed."
    title = fmt.field(machine, "bugcheck_name", "")
    named = f" ({title})" if title and not title.startswith("0x") else ""
    begun = f"taken after bugcheck 0x{machine.bugcheck:X}{named} had begun"
    return f"{taken}, {begun}; it does not show whether a dump was written later."


def _restarts(records: Records, names: Mapping[str, str]) -> str:
    """Restarts without a shutdown: all that a crash leaves whose dump was never begun."""
    events = logged(records)
    for kind in sorted(RESTARTS, reverse=True):  # Kernel-Power 41 first; 6008 is about the same
        found = [e for e in events if (provider_key(str(e.provider)), e.event_id) == kind]
        if found:
            times = [e.time for e in found if isinstance(e.time, int)]
            keys = {e.origin for e in found}
            clues = [c for c in records.clues if c.origin in keys]
            local = next((c.local for c in clues if c.local), "")
            last = f", the last before {fmt.moment(max(times))}" if times else ""
            if not times and len(found) == 1 and local:
                last = f", before {fmt.clean(local, 40)} (local time)"
            places = dict.fromkeys(names[e.origin.source] for e in found)
            where = fmt.listed(places)
            told = f"{where} {'reports' if len(places) == 1 else 'report'} "
            told += f"{fmt.counted(len(found), 'restart')} without a shutdown{last}"
            if clues and all(c.no_bugcheck for c in clues):
                why = "a crash that left no record, a hang, a reset or a power loss"
                return f"{told}, and no bugcheck code is recorded: it may have been {why}."
            events_do = "event does" if len(found) == 1 else "events do"
            return f"{told}; the {events_do} not show whether there was a bugcheck."
    return ""


def _registered(records: Records) -> Iterator[str]:
    named = [(str(s.name).lower(), s) for s in records["settings"]]
    entries = [fmt.clean(s.value, 60) for name, s in named if name.startswith("dumpfilters[")]
    kind = next((fmt.fields(s, "meaning") for name, s in named if name == "crashdumpenabled"), "")
    configured = f"; the dump that is configured: {kind}." if kind else "."
    least = "At least " if any(f.rule == "registry-damaged" for f in records["findings"]) else ""
    names = {name.partition("[")[0] for name, _ in named}
    if len(entries) == 1:
        yield f"{least}{entries[0]} is registered as a dump filter{configured}"
    elif entries:
        order = f"{fmt.some(entries, 6)} are registered as dump filters, in this call order"
        yield f"{least}{order}{configured}"
    elif "dumpfilters" in names or (is_whole(names) and not least):
        yield f"No dump filter is registered{configured}"
    elif names:
        yield f"The input does not show which dump filters are registered{configured}"


def _traced(records: Records) -> Iterator[str]:
    steps = [s for s in records["stages"] if not is_absent(s.time)]
    if steps:
        step = steps[-1]
        took = "" if is_absent(step.duration_ms) else f" took {step.duration_ms:,} ms"
        status = fmt.code(step, "status")
        ended = f" and ended with {status}" if status else ""
        if took or ended:
            yield f"The trace shows that {fmt.field(step, 'text').rstrip('.')}{took}{ended}."
            return
    events = records.tables["events"]
    summary = getattr(events, "summary", "") or fmt.counted(len(events), "event")
    span = events.span() if hasattr(events, "span") else None
    when = ""
    if span is not None:
        length = f"in {fmt.duration(span[1] - span[0])} from" if span[1] > span[0] else "of"
        when = f" {length} {fmt.moment(span[0])}" + (" on" if span[1] > span[0] else "")
    yield f"The trace holds {summary}{when}, and no call of a dump filter."


def _filters(records: Records, filters: Sequence[FilterVerdict]) -> Iterator[str]:
    """What the filters of the crash did, where no session watched them."""
    of_crash = [f for f in filters if f.stack == "crash"] or list(filters)
    if not of_crash:
        yield from _none(records)
        return
    off = [f for f in of_crash if f.is_off]
    if off:
        who = fmt.listed(f.filter for f in off[:3])
        rest = [f.filter for f in of_crash if f not in off]
        likely = " likely" if any(f.state.startswith("likely") for f in off) else ""
        text = f"{who} {'was' if len(off) == 1 else 'were'}{likely} switched off after a failure"
        yield text + (f"; {fmt.listed(rest[:4])} stayed on." if rest else ".")
        return
    if all(f.position.startswith("registered") for f in of_crash):
        who = fmt.listed(f.filter for f in of_crash[:5])
        what = "is registered as a dump filter"
        yield f"{who} {what if len(of_crash) == 1 else 'are registered as dump filters'}."
        return
    seen = [f for f in of_crash if not f.position.startswith("registered")]
    if all(f.filter == UNNAMED for f in seen):
        none = next(_none(records), "The input does not name the filters.").rstrip(".")
        yield f"{none}, but crashdmp's list of filters is not empty."
    else:
        yield _ran(seen, " of the crash stack" if len(of_crash) < len(filters) else "")


def _ran(of_crash: Sequence[FilterVerdict], where: str) -> str:
    of_crash = [f for f in of_crash if f.filter != UNNAMED] or of_crash
    count = len(of_crash)
    who = fmt.some([f.filter for f in of_crash], 5)
    noun = f"The {'' if count == 1 else f'{count} '}dump filter{'s' if count > 1 else ''}{where}"
    states = {f.state for f in of_crash}
    is_loaded = all(f.position == "loaded" for f in of_crash)
    if any(f.position.isdigit() for f in of_crash):
        return f"{fmt.counted(count, 'dump filter')} found: {who}; the list may hold more."
    verb = "was" if count == 1 else "were"
    subject = f"Both dump filters{where}, {who}," if count == 2 else f"{noun} {who}"
    state = states.pop() if len(states) == 1 else ""
    text = f"{subject} {verb} {state if state.endswith('on') else 'loaded'}"
    if is_loaded:
        guess = "" if all(f.product for f in of_crash) else ", apparently dump filters"
        guess = ", apparently a dump filter" if guess and count == 1 else guess
        text = f"According to the module list, the dump stack contained {who}{guess}"
    if all(f.is_inferred for f in of_crash):
        each = "its Dump_Start" if count == 1 else "Dump_Start of each"
        text += f", and {each} was likely called"
    return text + "."


def _none(records: Records) -> Iterator[str]:
    modules = [m for m in records["modules"] if m.stack != "hibernation" and m.loaded is not False]
    broken = {f.rule for f in records["findings"]} & _INCOMPLETE
    if modules and not broken:
        nt = any(m.role == drivers.KERNEL for m in modules)
        which = "loaded modules" if nt else "modules that are listed"
        yield f"None of the {len(modules)} {which} is a crash dump filter."
