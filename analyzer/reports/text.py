"""The report for people: the answer, then one compact section per subject, at 80 columns.

Invariant: plain ASCII; colour and every other escape come from here alone, and only when asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Callable

from .. import formatting as fmt
from ..absence import Absent, is_absent
from ..files import called
from ..formatting import aligned, clean, field, fields, wrapped
from ..layouts.crashdmp import knows_state
from ..records import Callback, Extension, Filter, Records, Stage
from ..tables import evidence_lines, rows_of
from . import answer, dry_runs, history, stacks, story
from .calls import grouped
from .extension import Member, members
from .filters import by_filter

_COLOURS = {"error": "\x1b[31m", "warning": "\x1b[33m", "title": "\x1b[1m"}
_RESET = "\x1b[0m"
_LAST_REQUESTS = 5
_MOST_RESIDUE = 12
_MOST_OF_A_RULE = 5
_MOST_CALLS = 100  # lines of calls that are alike
_MOST_UNUSABLE = 20
_PARAGRAPH = 2000  # longest text of a finding


def write(records: Records, colour: bool = False) -> Iterator[str]:
    """The report, section by section; a section without rows is left out."""
    paint: Callable[[str, str], str] = lambda style, text: (  # noqa: E731
        f"{_COLOURS[style]}{text}{_RESET}" if colour and style in _COLOURS else text
    )
    sections: dict[str, Iterable[str]] = {
        "Answer": _paragraphs(answer.sentences(records)),
        "Findings": _findings(records, paint),
        "What tells of which crash": _case(records, history.crashes),
        "Timeline (UTC; steps of the dump in ms since the bugcheck)": _case(
            records, history.timeline
        ),
        "Crash and machine": _each(records, _machines),
        "Dump stack": _each(records, _stack),
        "Crash dump filters": _each(records, _filters),
        "Dry run": _each(records, dry_runs.lines),
        "Steps of writing the dump": _each(records, _stages),
        "Storage requests": _each(records, _requests),
        stacks.TITLE: _each(records, stacks.lines),
        "Residue of the dump path on captured stacks": _each(records, _residue),
        "Settings": _each(records, _settings),
        "Also recorded": _also(records),
        "What the sources cannot tell": _sources(records),
    }
    first = True
    for title, lines in sections.items():
        body = "\n".join(lines)
        if body:
            yield ("" if first else "\n") + paint("title", title) + "\n" + body + "\n"
            first = False


def _each(records: Records, section: Callable[[Records], Iterable[str]]) -> Iterator[str]:
    """A section per source, under the source's name when there are several."""
    names = [s.path for s in rows_of(records["sources"])]
    if len(names) < 2:
        yield from section(records)
        return
    parts = answer.by_source(records)
    for name in names:
        body = list(section(parts[name]))
        if body:
            yield from wrapped(f"from {clean(name)}:", "  ", " ")
            yield from body


def _case(records: Records, section: Callable[[Records], Iterable[str]]) -> Iterable[str]:
    """A section that only several sources together need."""
    return section(records) if story.is_case(records) else ()


def _paragraphs(sentences: Iterable[str]) -> Iterator[str]:
    for sentence in sentences:
        yield from wrapped(sentence, "    ", "  ")


def _pairs(*pairs: Sequence[str]) -> Iterator[str]:
    """Lines of name and value, the value wrapped below itself; empty ones are left out."""
    for name, value in pairs:
        if value:
            yield from wrapped(value, " " * 18, f"  {name:<14}  ")


def _missing(rows: Iterable[Any], names: Sequence[str], indent: str = "  ") -> Iterator[str]:
    """One sentence per reason: which fields of the rows are not determined, and why."""
    groups: dict[str, dict[str, None]] = {}
    for row in rows:
        for name in names:
            value = getattr(row, name)
            if isinstance(value, Absent) and value.reason != "not-applicable":
                groups.setdefault(clean(value), {})[name] = None
    for reason, missing in groups.items():
        text = f"not determined: {', '.join(missing)} ({reason})"
        yield from wrapped(text, indent + "  ", indent)


def _findings(records: Records, paint: Callable[[str, str], str]) -> Iterator[str]:
    several = len(records["sources"]) > 1
    seen: dict[Any, int] = {}
    for finding in answer.by_severity(records["findings"]):
        seen[finding.rule] = seen.get(finding.rule, 0) + 1
        if seen[finding.rule] > _MOST_OF_A_RULE:
            continue
        severity = field(finding, "severity")
        source = f"  {clean(called(finding.origin.source), 40)}" if several else ""
        yield f"  {paint(severity, severity)}  {field(finding, 'rule')}{source}"
        yield from wrapped(clean(finding.text, _PARAGRAPH), "    ")
        label = "evidence: "
        for line in evidence_lines(finding):
            yield from wrapped(clean(line), " " * 16, f"    {label:<10}")
            label = ""
        if not is_absent(finding.advice):
            yield from wrapped("advice: " + clean(finding.advice, _PARAGRAPH), "      ", "    ")
    for rule, count in seen.items():
        if count > _MOST_OF_A_RULE:
            text = f"{clean(rule)}: {count - _MOST_OF_A_RULE} more; 'dumpstart show findings'"
            yield from wrapped(f"{text} lists them.", "    ", "  ")


def _machines(records: Records) -> Iterator[str]:
    for m in records["machine"]:
        windows = [
            f"build {fmt.build(m)}" if not is_absent(m.build) else "",
            f"lab {field(m, 'build_lab')}" if not is_absent(m.build_lab) else "",
            fields(m, "architecture"),
            fmt.counted(m.processors, "processor") if isinstance(m.processors, int) else "",
        ]
        parameters = [f"parameter{n}" for n in (1, 2, 3, 4)]
        attributes = fields(m, "attributes", "attribute_names")
        uptime = "" if is_absent(m.uptime_ns) else f"up {fmt.duration(m.uptime_ns)}"
        when = ", ".join(filter(None, (fields(m, "system_time"), uptime)))
        yield from _pairs(
            ("bugcheck", fields(m, "bugcheck", "bugcheck_name")),
            ("parameters", fields(m, *parameters)),
            ("crash time", when),
            ("at", fields(m, "faulting_symbol")),
            ("windows", ", ".join(filter(None, windows))),
            ("dump type", fields(m, "dump_type", "dump_type_name")),
            ("attributes", attributes),
            ("writer", fields(m, "writer_status", "writer_status_name")),
            ("last line", fields(m, "last_dump_line")),
            ("secondary", fields(m, "secondary_data_state", "secondary_data_state_name")),
        )
        yield from _missing([m], ("bugcheck", *parameters, "system_time", "build"))


def _stack(records: Records) -> Iterator[str]:
    rows = [m for m in records["modules"] if not is_absent(m.stack)]
    for stack in dict.fromkeys(field(m, "stack") for m in rows):
        table = [(f"{stack} stack", "role", "base", "original")]
        for m in rows:
            if field(m, "stack") == stack:
                match = "unloaded" if m.loaded is False else field(m, "original_match")
                table.append((field(m, "name"), field(m, "role"), field(m, "base"), match))
        yield from aligned(table)
    if records["structures"]:
        places = [("structure", "stack", "at")]
        for s in records["structures"]:
            at = field(s, "location") if is_absent(s.symbol) else field(s, "symbol")
            places.append((field(s, "structure"), field(s, "stack"), at))
        yield from aligned(places)
    if records["modules"]:
        loaded = sum(m.loaded is not False for m in records["modules"])
        unloaded = len(records["modules"]) - loaded
        text = f"{fmt.counted(loaded, 'module')} loaded, {unloaded} unloaded"
        yield f"  {text}; 'dumpstart show modules' lists them."


def _filters(records: Records) -> Iterator[str]:
    """Each filter with its extension and callbacks; then those known by an extension alone."""
    is_proven = all(knows_state(m.build, m.architecture) for m in records["machine"])
    inferred = "" if is_proven else " (by a word whose place is inferred on this Windows)"
    size = _pointer_size(records)
    for place, group in enumerate(by_filter(records)):
        if place:
            yield ""
        if group.filters:
            yield from _filter(group.filters[0][1], inferred)
        else:
            yield f"  {clean(group.name)} ({clean(group.stack)} stack)"
        for _, extension in group.extensions:
            yield from _extension(extension, size)
        yield from _callbacks(group.callbacks)


def _filter(one: Filter, inferred: str) -> Iterator[str]:
    place = ""
    if isinstance(one.ring_index, int):
        count = "" if is_absent(one.ring_count) else f" of {field(one, 'ring_count')}"
        place = f", number {one.ring_index + 1}{count} in call order"
    yield f"  {field(one, 'filter', 'filter not determined')} ({field(one, 'stack')} stack{place})"
    state = "" if is_absent(one.is_disabled) else "DISABLED" if one.is_disabled else "enabled"
    version = f"{field(one, 'major_version')}.{field(one, 'minor_version')}"
    failing = fmt.code(one, "last_failing_status")
    yield from _pairs(
        ("  product", fields(one, "product")),
        ("  state", state and state + inferred),
        ("  last failure", f"{field(one, 'last_failing_routine')} {failing}" if failing else ""),
        ("  version", "" if is_absent(one.major_version) else version),
        ("  max pages", fields(one, "max_pages_per_write")),
        ("  flags", fields(one, "flags", "flags_meaning")),
        ("  node", fields(one, "node", "layout")),
        ("  found by", f"{clean(one.origin.how)} ({clean(one.origin.confidence)})"),
    )
    names = ("is_disabled", "last_failing_status", "major_version", "max_pages_per_write", "flags")
    yield from _missing([one], names, "    ")


def _extension(extension: Extension, pointer_size: int) -> Iterator[str]:
    at = "" if is_absent(extension.extension) else f" at {field(extension, 'extension')}"
    yield f"    FILTER_EXTENSION{at}"
    if extension.is_reconstructed:
        text = f"reconstructed, not read: {clean(extension.origin.how)}"
        yield from wrapped(text, "      ")
    found = list(members(extension, pointer_size))
    if all(m.value == "-" for m in found):
        reasons = {clean(v) for v in extension[:-1] if isinstance(v, Absent)}
        for reason in sorted(reasons):
            yield from wrapped(f"not determined ({reason})", "        ", "      ")
        return
    yield from aligned(_nested(found), "      ")
    yield from _missing([extension], extension._fields[:-1], "      ")


def _nested(found: Iterable[Member]) -> Iterator[Sequence[str]]:
    """Members below a line for the structure they lie in, as a debugger shows them."""
    opened = ""
    for m in found:
        outer, _, inner = m.name.partition(".")
        if inner and outer != opened:
            yield (f"+0x{m.offset:03x}", outer, "")
        opened = outer if inner else ""
        name = f"  {inner}" if inner else m.name
        yield (f"+0x{m.offset:03x}", name, f"{m.value}  {clean(m.meaning)}")


def _pointer_size(records: Records) -> int:
    """4 when the source is of a 32-bit machine; 8 is the rule."""
    machines = records["machine"]
    return 4 if machines and str(machines[0].architecture) in ("x86", "x86-pae", "arm") else 8


def _callbacks(calls: Sequence[tuple[int, Callback]]) -> Iterator[str]:
    if not calls:
        return
    yield "    callbacks"
    found = grouped(calls)
    table = [("callback", "routine", "called", "duration", "status")]
    for one in found[:_MOST_CALLS]:
        c = one.first
        status = fields(c, "status_name") or field(c, "status")
        table.append((field(c, "callback"), one.routine, one.called, one.took, status))
    yield from aligned(table, "      ")
    shown = sum(one.calls for one in found[:_MOST_CALLS])
    if shown < len(calls):
        yield f"      and {len(calls) - shown} more calls; 'dumpstart show callbacks' lists them."
    elif len(found) < len(calls):
        yield "      'dumpstart show callbacks' lists each call."
    for c in (one.first for one in found[:_MOST_CALLS]):
        if not is_absent(c.was_called) and c.was_called not in ("yes", "no"):
            text = f"{field(c, 'callback')} {field(c, 'was_called')} called: {clean(c.origin.how)}"
            yield from wrapped(text, "        ", "      ")
    rows = [call for _, call in calls]
    yield from _missing(rows, ("was_called", "status", "duration_ns"), "      ")


def _stages(records: Records) -> Iterator[str]:
    rows = records["stages"]
    if not any(isinstance(s.elapsed_ms, int) for s in rows):
        for s in rows:
            yield from wrapped(fields(s, "text") or field(s, "stage"), "    ", "  ")
        return
    yield "  elapsed ms  took ms  step"
    shown = [s for s, after in zip(rows, [*rows[1:], None]) if not _is_passed(s, after)]
    for s in shown:
        times = f"  {field(s, 'elapsed_ms'):>10}  {field(s, 'duration_ms'):>7}  "
        yield from wrapped(fields(s, "text") or field(s, "stage"), " " * 25, times)
    if len(shown) < len(rows):
        left = fmt.counted(len(rows) - len(shown), "lower percentage")
        yield f"  {left} without a time left out; 'dumpstart show stages' lists them."


def _is_passed(stage: Stage, after: Stage | None) -> bool:
    """True for "35%" without time and rate when "40%" follows."""
    told = (stage.elapsed_ms, stage.duration_ms, stage.rate_mb_per_s)
    percent = "memory-data-percent"
    return after is not None and stage.stage == after.stage == percent and all(map(is_absent, told))


def _requests(records: Records) -> Iterator[str]:
    rows = records["requests"]
    if not rows:
        return
    timed = [r for r in rows if not is_absent(r.duration_ns)]
    flying = sum(r.in_flight is True for r in rows)
    text = f"{fmt.counted(len(rows), 'request')}, {flying} in flight"
    if timed:
        slowest = max(timed, key=lambda r: r.duration_ns)
        text += f"; slowest {fmt.duration(slowest.duration_ns)} ({field(slowest, 'operation')})"
    yield from wrapped(text, "  ")
    dated = [r for r in rows if isinstance(r.before_crash_ns, int)]
    last = sorted(dated, key=lambda r: -r.before_crash_ns)[-_LAST_REQUESTS:]
    table = [("last requests", "before the crash", "duration", "status")]
    for r in last:
        took = "in flight" if r.in_flight is True else _ticks(r.duration_ns)
        status = fields(r, "status", "status_name") or "-"
        table.append((field(r, "operation"), _ticks(r.before_crash_ns), took, status))
    if last:
        yield from aligned(table)


def _ticks(ns: Any) -> str:
    """A duration between two times of a clock that moves in steps: 0 is less than one step."""
    return "under a tick" if ns == 0 and not is_absent(ns) else fmt.duration(ns)


def _residue(records: Records) -> Iterator[str]:
    rows = records["residue"]
    if rows:
        names = ("stack_of", "symbol", "follows_call")
        yield "  Addresses in the dump path left on stacks: hints of what ran, no call stack."
        head: list[Sequence[str]] = [("where", "points into", "after a call")]
        yield from aligned(head + [[field(r, n) for n in names] for r in rows[:_MOST_RESIDUE]])
        if len(rows) > _MOST_RESIDUE:
            yield f"  and {len(rows) - _MOST_RESIDUE} more; 'dumpstart show residue' lists them."


def _settings(records: Records) -> Iterator[str]:
    for key in dict.fromkeys(field(setting, "key") for setting in records["settings"]):
        yield from wrapped(key, "    ", "  ")
        for setting in records["settings"]:
            if field(setting, "key") == key:
                meaning = fields(setting, "meaning")
                text = f"{field(setting, 'name')} = {field(setting, 'value')}"
                yield from wrapped(text + (f" ({meaning})" if meaning else ""), " " * 8, "    ")


def _also(records: Records) -> Iterator[str]:
    tags = records["tags"]
    if tags:
        sizes = [t.size_bytes for t in tags if not is_absent(t.size_bytes)]
        yield f"  {fmt.counted(len(tags), 'block')} of secondary data, {fmt.size(sum(sizes))}."
    events = records["events"]
    if events:
        what = getattr(events, "summary", "") or fmt.counted(len(events), "event")
        yield f"  {what}; 'dumpstart show events' lists them."


def _sources(records: Records) -> Iterator[str]:
    unusable = 0
    for s in rows_of(records["sources"]):
        unusable += isinstance(s.kind, Absent)
        if isinstance(s.kind, Absent) and unusable > _MOST_UNUSABLE:
            continue
        name = clean(called(s.path), 60)
        kind = fields(s, "kind", "subtype")
        yield from wrapped(f"{name}: {kind}" if kind else f"{name}: not usable", "    ", "  ")
        if isinstance(s.kind, Absent):
            yield from wrapped(clean(s.kind), "    ")
        elif not is_absent(s.cannot_tell):
            yield from wrapped("cannot tell: " + field(s, "cannot_tell"), "      ", "    ")
    if unusable > _MOST_UNUSABLE:
        more = fmt.counted(unusable - _MOST_UNUSABLE, "more file")
        yield f"  {more} not usable; 'dumpstart info' lists them."
