"""The answer in a few plain sentences, the same in every format.

Invariant: a sentence says only what the records state; what they do not state is "not determined"
with the reason the source gave. The sentences are printable ASCII of bounded length; markup is for
the format to escape.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from .. import formatting as fmt
from ..absence import Absent, first_present, is_absent
from ..checks.crashes import WRITTEN
from ..checks.rule import SEVERITIES
from ..files import called
from ..layouts.crashdmp import knows_state
from ..names import drivers
from ..records import Callback, Finding, Machine, Records, Stage
from ..tables import rows_of
from . import snapshots, stacks
from .calls import call_lines

#: findings that change what "a dump was written" means -> words added to that sentence
_BUT = {
    "dump-file-cut": "the file is cut short",
    "triage-marker-missing": "the end of the file is missing or damaged",
    "dump-encrypted": "its memory is encrypted",
    "writer-status-failed": "its writer reports a failure",
    "dump-ended-early": "its header says that writing it had not ended",
    "dump-space-insufficient": "the dump file was too small for the one asked for",
}
_CUT = ("dump-file-cut", "triage-marker-missing")
_NOT_WHOLE = ("writer-status-failed", "dump-ended-early")  # by Windows' own word
_SURE = {"likely": "Likely, not proven: ", "guess": "A guess: "}
_MOST = 3  #: of one kind in a sentence
_MANY = 100  #: more calls of Dump_Start are not told one by one


def sentences(records: Records) -> list[str]:
    """Was a dump written, which filters, what Dump_Start did, what is wrong."""
    from . import story  # it uses this module

    if story.is_case(records):
        return [*stacks.sentences(records), *story.sentences(records)]
    return [*stacks.sentences(records), *_story(records), *_verdict(records)]


def filter_sentences(records: Records) -> list[str]:
    """Which filters there were and what Dump_Start did."""
    return [*_filters(records), *_start(records)]


def of_sources(records: Records, names: Iterable[Any]) -> Records:
    """The records of some sources; tables that are no lists are left out."""
    wanted, part = set(names), Records()
    for table, rows in records.tables.items():
        if isinstance(rows, list):
            part.tables[table] = [row for row in rows if row.origin.source in wanted]
    return part


def by_source(records: Records) -> dict[Any, Records]:
    """The same for every source, in one pass: a folder can hold thousands."""
    parts: dict[Any, Records] = defaultdict(Records)
    for table, rows in records.tables.items():
        if isinstance(rows, list):
            for row in rows:
                parts[row.origin.source].tables[table].append(row)
    return parts


def _story(records: Records) -> list[str]:
    """What happened; dumps are told one by one, because each is of a crash of its own."""
    dumps = [s.path for s in records["sources"] if s.kind in ("kernel dump", snapshots.KIND)]
    if len(dumps) > 1:
        rest = [s.path for s in records["sources"] if s.path not in dumps]
        said = []
        for names in [[dump] for dump in dumps[:_MOST]] + ([rest] if rest else []):
            label = _some([fmt.clean(called(name), 60) for name in names])
            first, *more = _story(of_sources(records, names))
            said += [f"{label}: {first}", *more]
        if len(dumps) > _MOST:
            said.append(f"{fmt.counted(len(dumps) - _MOST, 'more dump')} were given.")
        return said
    return [*_written(records), *_traced(records), *_filters(records), *_start(records)]


def by_severity(findings: Sequence[Finding]) -> list[Finding]:
    """Most severe first, else in the order given."""
    order = {severity: place for place, severity in enumerate(SEVERITIES)}
    return sorted(findings, key=lambda f: order.get(str(f.severity), len(order)))


def _written(records: Records) -> list[str]:
    dumps = [s.path for s in records["sources"] if s.kind == "kernel dump"]
    machines = [m for m in records["machine"] if m.origin.source in dumps]
    if machines:
        return [_dump(machines[0], records["findings"])]
    taken = [s for s in records["sources"] if s.kind == snapshots.KIND]
    if taken:
        return [snapshots.sentence(taken[0], records)]
    stages = [stage for stage in records["stages"] if not _is_outside(stage)]
    if stages and not is_absent(stages[-1].text):
        last = fmt.field(stages[-1], "text").rstrip(".")
        return [f"The last step that the dump log tells is: {last}."]
    shown = [row for row in records["crashes"] if row.tells == "WinDbg log" and row.outcome]
    if len(shown) == 1:  # the header of a dump, as a debugger showed it
        ended = "was written" if shown[0].outcome == WRITTEN else "was not written to its end"
        return [f"By {fmt.clean(called(shown[0].origin.source), 60)}, the dump {ended}."]
    why = "the dump does not tell" if dumps else "no kernel dump was given"
    return [f"Whether a dump was written is not determined: {why}."]


def _is_outside(stage: Stage) -> bool:
    """True for a step that a trace tells, before the dump or after: no clock of the dump runs."""
    return isinstance(stage.elapsed_ms, Absent) and stage.elapsed_ms.reason == "not-applicable"


def _traced(records: Records) -> list[str]:
    """The newest steps around the dump that ETW events tell."""
    said = []
    for stage in [stage for stage in records["stages"] if _is_outside(stage)][-_MOST:]:
        what = fmt.field(stage, "text").rstrip(".")
        known = []
        if not is_absent(stage.duration_ms):
            took = f"{stage.duration_ms:,} ms" if stage.duration_ms else "less than 1 ms"
            known.append(f"took {took}")
        if not is_absent(stage.status):
            known.append(f"ended with {fmt.code(stage, 'status')}")
        said.append(
            f"By the events of a trace, {what} {fmt.listed(known)}." if known else
            f"The events of a trace tell of {what}, but not how long it took or how it ended."
        )  # fmt: skip
    return said


def dump_kind(machine: Machine) -> str:
    """The type of a dump in words, "bitmap kernel dump"."""
    kind = fmt.field(machine, "dump_type_name", "")
    kind, bracket, rest = (kind or "kernel dump").partition(" (")
    return (kind if "dump" in kind.lower() else f"{kind} dump") + bracket + rest


def _dump(machine: Machine, findings: Sequence[Finding]) -> str:
    kind = dump_kind(machine)
    article = "an" if kind[:1].lower() in "aeiou" else "a"
    crash = ""
    if not is_absent(machine.bugcheck) and machine.bugcheck:
        name = fmt.field(machine, "bugcheck_name", "")
        known = name and not name.startswith("0x")
        crash = f" of bugcheck 0x{machine.bugcheck:X}" + (f" ({name})" if known else "")
    own = [f for f in findings if f.origin.source == machine.origin.source]
    rules = {f.rule for f in own}
    if "not-a-crash" in rules:
        return f"This is {article} {kind}{crash}, taken without a crash of the machine."
    but = what_is_wrong(rules)
    if "dump-not-by-windows" in rules:
        end = f", but {but}" if but else ""
        return f"This is {article} {kind}{crash} that Windows did not write itself{end}."
    if rules.intersection(_CUT):
        end = "whether it was ever written to its end is not determined"
        return f"This is {article} {kind}{crash}, but {but}; {end}."
    if rules.intersection(_NOT_WHOLE):
        return f"This is {article} {kind}{crash}, but {but}: by Windows itself it is not complete."
    return f"{article.capitalize()} {kind}{crash} was written" + (f", but {but}." if but else ".")


def what_is_wrong(rules: Iterable[Any]) -> str:
    """What limits a dump with these findings, in words that follow "but"; "" for a whole one."""
    return fmt.listed(text for rule, text in _BUT.items() if rule in rules)


def _filters(records: Records) -> list[str]:
    """The filters of the crash stack: those whose node was found, then those known as modules."""
    rows = [f for f in records["filters"] if f.stack != "hibernation"]
    modules = [m for m in records["modules"] if m.stack != "hibernation" and m.loaded is not False]
    found = [f for f in rows if not is_absent(f.node)]
    nodes = _unique(f.filter for f in found)
    others = _unique(f.filter for f in rows) or _unique(
        m.name for m in modules if m.role == drivers.FILTER
    )
    others = [name for name in others if name not in nodes]
    count = first_present(f.ring_count for f in rows)
    said = []
    if nodes:
        one = len(nodes) == 1
        what = "One crash dump filter was" if one else f"{len(nodes)} crash dump filters were"
        if count is None:  # a damaged list, or one whose head was not found
            what += " found"
        order = "" if one or count is None else ", in call order"
        said.append(f"{what} in the dump stack{order}: {_some(nodes)}")
        if count is None:
            said[-1] += "; how many crashdmp's list holds is not determined."
        else:
            said[-1] += "." if count == len(nodes) else f"; crashdmp's list holds {count}."
    is_read = count is not None and len(nodes) == len(found) == count
    if others and is_read:
        are = "is" if len(others) == 1 else "are"
        said.append(f"{_some(others)} {are} loaded too, but not in crashdmp's list of filters.")
    elif others:
        are = "is" if len(others) == 1 else "are"
        if not all(drivers.known(name) for name in others):
            are += " taken for"
        what = "a crash dump filter" if len(others) == 1 else "crash dump filters"
        said.append(f"By the loaded modules, {_some(others)} {are} {what}")
        if not nodes and count is None:
            said[-1] += "; crashdmp's list of filters itself is not determined"
        elif not nodes:
            said[-1] += f"; crashdmp's list holds {fmt.counted(count, 'filter')}"
        said[-1] += "."
    disabled = _unique(f.filter for f in rows if f.is_disabled is True)
    if disabled:
        said.append(f"Disabled: {_some(disabled)}.")
        if not all(knows_state(m.build, m.architecture) for m in records["machine"]):
            said.append("That is told by a state word whose place is inferred on this Windows.")
    if not said:
        broken = {f.rule for f in records["findings"]} & {
            "modules-incomplete",
            "log-modules-partial",
            "dump-stack-missing",
        }
        if modules and not broken:
            held = fmt.counted(count, "filter") if count else "at least one"
            listed = f", but crashdmp's list holds {held}" if rows else ""
            return [f"None of the {len(modules)} loaded modules is a crash dump filter{listed}."]
        return ["Which crash dump filters were loaded is not determined."]
    return said


def _start(records: Records) -> list[str]:
    calls = [
        call
        for call in records["callbacks"]
        if call.callback == "Dump_Start" and call.stack != "hibernation"
    ]
    if len(calls) > _MANY:
        return _starts(calls)
    live = {f.origin.source for f in records["findings"] if f.rule == "not-a-crash"}
    of_crash = _known_best(records, [c for c in calls if c.origin.source not in live])
    sources = list(dict.fromkeys(c.origin.source for c in of_crash))
    groups: dict[tuple[str, str, str], list[str]] = {}
    for call in of_crash:
        known, unknown = _call(call)
        sure = _SURE.get(call.origin.confidence, "") if known else ""
        if call.was_called == "likely" and is_absent(call.status):
            sure = ""  # the words say it
        if len(sources) > 1:
            sure = f"By {_file(call.origin.source)}: {sure[:1].lower()}{sure[1:]}"
        groups.setdefault((sure, known, unknown), []).append(fmt.field(call, "filter", "a filter"))
    said = []
    for (sure, known, unknown), filters in list(groups.items())[:_MOST]:
        subject = f"Dump_Start of {_some(_unique(filters))}"
        told = f" {known}" if known else ":"
        said.append(f"{sure}{subject}{told}" + (";" if known and unknown else ""))
        said[-1] += (f" {unknown}" if unknown else "") + "."
    bound = {row.origin.source for row in records["crashes"]}
    unbound = [s for s in sources if s not in bound][:_MOST] if bound else []
    said += [
        f"Whether {_file(source)} is of the same crash is not determined: it names no bugcheck."
        for source in unbound
    ]
    if len(of_crash) < len(calls) and not of_crash:
        said.append("No Dump_Start was called for this dump: the machine was running.")
    if len(groups) > _MOST:
        said.append(
            f"{len(groups) - _MOST} more outcomes of Dump_Start are in the callbacks table."
        )
    if not calls:
        said.append(
            "Whether Dump_Start was called, what it returned and how long it took is not "
            "determined: no source tells of a filter's callbacks."
        )
    bounds = [s for s in records["stages"] if s.stage == "dump-start-upper-bound"]
    for stage in bounds[:_MOST]:
        sure = _SURE.get(str(stage.origin.confidence), "")
        text = fmt.field(stage, "text", "").rstrip(".")
        if not text:  # left out of a redacted result
            text = f"All Dump_Start calls together took at most {stage.elapsed_ms} ms"
        said.append(f"{sure}{text}.")
    extensions = [e for e in records["extensions"] if not is_absent(e.dump_type)]
    read = {e.filter for e in extensions if e.is_reconstructed is not True}
    if any(e.is_reconstructed is True and e.filter not in read for e in extensions):
        said.append(
            "The FILTER_EXTENSION it would be given is reconstructed from the dump stack context."
        )
    return said


def _known_best(records: Records, calls: list[Callback]) -> list[Callback]:
    """Without the calls of which another source of the same crash tells more."""
    crash_of = {row.origin.source: row.crash for row in records["crashes"]}

    def place(call: Callback) -> tuple[Any, str]:
        source = call.origin.source
        return crash_of.get(source, source), drivers.plain_name(str(call.filter))

    told = {place(call) for call in calls if _tells(call)}
    return [call for call in calls if _tells(call) or place(call) not in told]


def _tells(call: Callback) -> bool:
    return not (is_absent(call.was_called) and is_absent(call.status))


def _file(source: Any) -> str:
    return fmt.clean(called(source), 60)


def _starts(calls: Any) -> list[str]:
    """Very many calls: what they have in common, those that failed first."""
    found = call_lines(calls)
    found.sort(key=lambda one: not (one.first.status or 0))
    said = []
    for one in found[: 2 * _MOST]:
        call = one.first
        name = fmt.field(call, "filter", "a filter")
        status = fmt.code(call, "status")
        returned = f"returned {status}" if status else "what it returned is not determined"
        took = f"took {one.took}" if one.took != "-" else "how long it took is not determined"
        if is_absent(call.was_called) or call.was_called == "no":
            returned, took = "", ""
        times = fmt.counted(one.calls, "call")
        facts = fmt.listed(filter(None, [returned, took]))
        said.append(f"Dump_Start of {name}, {times}: {facts or one.called}.")
    if len(found) > 2 * _MOST:
        rest = sum(one.calls for one in found[2 * _MOST :])
        said.append(f"{rest:,} more calls of Dump_Start are in the callbacks table.")
    return said


def _call(call: Callback) -> tuple[str, str]:
    """What is known of one call, and what is not with the reason; both without a full stop."""
    if call.routine == 0:
        return "does not exist (the filter has no such callback)", ""
    if call.was_called == "no":  # only who watched the whole time can say it, and only of that
        return "was not called while it was watched", ""
    known: list[str] = []
    unknown: list[str] = []
    reasons: list[Any] = []
    if not is_absent(call.was_called):
        sure = "" if call.was_called == "yes" else f" {fmt.field(call, 'was_called')}"
        known.append(f"was{sure} called")
    else:
        unknown.append("whether it was called")
        reasons.append(call.was_called)
    if not is_absent(call.status):
        known.append(f"returned {fmt.code(call, 'status')}")
    else:
        unknown.append("what it returned")
        reasons.append(call.status)
    if not is_absent(call.duration_ns):
        known.append(f"took {fmt.duration(call.duration_ns)}")
    elif not is_absent(call.duration_low_ns) and not is_absent(call.duration_high_ns):
        low, high = (
            fmt.duration(call.duration_low_ns),
            fmt.duration(call.duration_high_ns),
        )
        known.append(
            f"took between {low} and {high}" if call.duration_low_ns else f"took at most {high}"
        )
    else:
        unknown.append("how long it took")
        reasons.append(call.duration_ns)
    if not unknown:
        return fmt.listed(known), ""
    why = fmt.reasons(r for r in reasons if isinstance(r, Absent))
    verb = "is" if len(unknown) == 1 else "are"
    missing = f"{fmt.listed(unknown)} {verb} not determined"
    return fmt.listed(known), missing + (f" ({why})" if why else "")


def _verdict(records: Records) -> list[str]:
    findings = by_severity(list(rows_of(records["findings"])))
    counts = [(s, sum(f.severity == s for f in findings)) for s in SEVERITIES]
    serious = [fmt.counted(n, s) for s, n in counts[:2] if n]
    if not serious:
        return ["The checks found no error and no warning in what was given."]
    first = re.split(r"\.\s+(?=[A-Z])", fmt.field(findings[0], "text"))[0].rstrip(".")
    return [f"The checks found {fmt.listed(serious)}; the first: {first}."]


def _unique(names: Any) -> list[str]:
    return list(dict.fromkeys(fmt.clean(n, 100) for n in names if not is_absent(n)))


def _some(names: Sequence[str]) -> str:
    """All names, or the first ones and how many more."""
    if len(names) <= 5:
        return fmt.listed(names)
    return ", ".join(names[:5]) + f" and {len(names) - 5} more"
