"""Every field of the records as sections, each with where it comes from: what ``-v`` adds.

Invariant: a section shows what the records hold and no more; a long table says how many rows it
leaves out and what shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from .. import formatting as fmt
from ..absence import Absent, is_absent, known
from ..answer.problems import by_severity
from ..checks import RULES
from ..checks.machine import is_live
from ..formatting import clean, field, fields
from ..records import Records, Request, Setting, Stage
from ..tables import evidence_lines
from . import dry_runs, filters, history, stacks
from .blocks import Block, Entry, Paragraph, Section, Table
from .missing import missing
from .sections import pairs

_LAST_REQUESTS = 5
_MOST_OF_A_RULE = 5
_MOST_UNUSABLE = 20
_MOST_RESIDUE = 12
_PARAGRAPH = 2000  # longest text of a finding


def sections(records: Records) -> Iterator[Section]:
    """All of them; one without rows is left out."""
    names = fmt.file_names(s.path for s in records["sources"])
    made: tuple[tuple[str, str, Iterable[Block]], ...] = (
        ("findings", "Findings", _findings(records, names)),
        ("which-crash", "What tells of which crash", history.crashes(records, names)),
        ("timeline", "Timeline (UTC; steps of the dump in ms since the bugcheck)",
         history.timeline(records, names)),
        ("machine", "Crash and machine", _each(records, names, _machines)),
        ("processors", "Processors and call stacks", _each(records, names, _processors)),
        ("stack", "Dump stack", _each(records, names, _stack)),
        ("filter-details", "Each filter", _each(records, names, filters.blocks)),
        ("dry-run", "Dry run", _each(records, names, dry_runs.blocks)),
        ("steps", "Steps of writing the dump", _each(records, names, _stages)),
        ("requests", "Storage requests", _each(records, names, _requests)),
        ("residue", "Residue of the dump path on captured stacks",
         _each(records, names, _residue)),
        ("settings", "Settings", _each(records, names, _settings)),
        ("also", "Also recorded", _also(records)),
        ("sources", "What the sources cannot tell", _sources(records, names)),
    )  # fmt: skip
    for key, title, blocks in made:
        found = list(blocks)
        if found:
            yield Section(key, title, found)


def by_source(records: Records) -> dict[str, Records]:
    """The records of every source, in one pass: a folder can hold thousands."""
    parts: dict[str, Records] = {}
    for table, rows in records.tables.items():
        if isinstance(rows, list):
            for row in rows:
                parts.setdefault(row.origin.source, Records()).tables[table].append(row)
    return parts


def _each(
    records: Records, names: dict[str, str], section: Callable[[Records], Iterable[Block]]
) -> Iterator[Block]:
    """A section per source, under the source's name when there are several."""
    if len(names) < 2:
        yield from section(records)
        return
    parts = by_source(records)
    for path, name in names.items():
        body = list(section(parts.get(path, Records())))
        if body:
            yield Paragraph(f"from {name}:")
            yield from body


def _findings(records: Records, names: dict[str, str]) -> Iterator[Block]:
    seen: dict[object, int] = {}
    for finding in by_severity(records["findings"]):
        seen[finding.rule] = seen.get(finding.rule, 0) + 1
        if seen[finding.rule] > _MOST_OF_A_RULE:
            continue
        source = names.get(finding.origin.source, "") if len(names) > 1 else ""
        about = ", ".join(filter(None, (fields(finding, "subject"), source)))
        rule = RULES.get(str(finding.rule))
        yield Entry(
            field(finding, "severity"),
            rule.title if rule is not None else field(finding, "rule"),
            about,
            clean(finding.text, _PARAGRAPH),
            "" if is_absent(finding.advice) else clean(finding.advice, _PARAGRAPH),
            field(finding, "rule"),
            [clean(line) for line in evidence_lines(finding)],
        )
    for name, count in seen.items():
        if count > _MOST_OF_A_RULE:
            text = f"{clean(name)}: {count - _MOST_OF_A_RULE} more; 'dumpstart show findings'"
            yield Paragraph(f"{text} lists them.")


def _machines(records: Records) -> Iterator[Block]:
    for m in records["machine"]:
        windows = [
            f"build {fmt.build(m)}" if not is_absent(m.build) else "",
            f"lab {field(m, 'build_lab')}" if not is_absent(m.build_lab) else "",
            fields(m, "architecture"),
            fmt.counted(m.processors, "processor") if isinstance(m.processors, int) else "",
        ]
        parameters = [f"parameter{n}" for n in (1, 2, 3, 4)]
        uptime = "" if is_absent(m.uptime_ns) else f"up {fmt.duration(m.uptime_ns)}"
        when = ", ".join(filter(None, (fields(m, "system_time"), uptime)))
        # of a system that ran, only how long it had
        is_crash = not is_live(m) and not (is_absent(m.bugcheck) and is_absent(m.system_time))
        yield pairs(
            ("bugcheck", fields(m, "bugcheck", "bugcheck_name")),
            ("parameters", fields(m, *parameters)),
            ("crash time" if is_crash else "time", when),
            ("at", fields(m, "faulting_symbol")),
            ("windows", ", ".join(filter(None, windows))),
            ("dump type", fields(m, "dump_type", "dump_type_name")),
            ("attributes", fields(m, "attributes", "attribute_names")),
            ("writer", fields(m, "writer_status", "writer_status_name")),
            ("last line", fields(m, "last_dump_line")),
            ("secondary", fields(m, "secondary_data_state", "secondary_data_state_name")),
        )
        yield from missing([m], ("bugcheck", *parameters, "system_time", "build"))


def _processors(records: Records) -> Iterator[Block]:
    for block in stacks.blocks(records):
        if block.title:
            yield Paragraph(f"{block.title}:")
        if block.rows:
            yield Table(block.rows[0], block.rows[1:])
        yield from (Paragraph(note, 1) for note in block.notes)


def _stack(records: Records) -> Iterator[Block]:
    rows = [m for m in records["modules"] if not is_absent(m.stack)]
    for stack in dict.fromkeys(field(m, "stack") for m in rows):
        cells = []
        for m in rows:
            if field(m, "stack") == stack:
                match = "unloaded" if m.loaded is False else field(m, "original_match")
                cells.append((field(m, "name"), field(m, "role"), field(m, "base"), match))
        yield Table((f"{stack} stack", "role", "base", "original"), cells)
    places = [
        (
            field(s, "structure"),
            field(s, "stack"),
            field(s, "location") if is_absent(s.symbol) else field(s, "symbol"),
        )
        for s in records["structures"]
    ]
    if places:
        yield Table(("structure", "stack", "at"), places)
    if records["modules"]:
        loaded = sum(m.loaded is not False for m in records["modules"])
        unloaded = len(records["modules"]) - loaded
        text = f"{fmt.counted(loaded, 'module')} loaded, {unloaded} unloaded"
        yield Paragraph(f"{text}; 'dumpstart show modules' lists them.")


def _stages(records: Records) -> Iterator[Block]:
    rows = records["stages"]
    if not any(isinstance(s.elapsed_ms, int) for s in rows):
        yield from (Paragraph(fields(s, "text") or field(s, "stage")) for s in rows)
        return
    shown = [s for s, after in zip(rows, [*rows[1:], None]) if not _is_passed(s, after)]
    yield Table(
        ("elapsed ms", "took ms", "step"),
        [
            (
                f"{field(s, 'elapsed_ms'):>10}",
                f"{field(s, 'duration_ms'):>7}",
                fields(s, "text") or field(s, "stage"),
            )
            for s in shown
        ],
    )
    if len(shown) < len(rows):
        left = fmt.counted(len(rows) - len(shown), "lower percentage")
        yield Paragraph(f"{left} without a time left out; 'dumpstart show stages' lists them.")


def _is_passed(stage: Stage, after: Stage | None) -> bool:
    """True for "35%" without time and rate when "40%" follows."""
    known = (stage.elapsed_ms, stage.duration_ms, stage.rate_mb_per_s)
    percent = "memory-data-percent"
    return (
        after is not None and stage.stage == after.stage == percent and all(map(is_absent, known))
    )


def _requests(records: Records) -> Iterator[Block]:
    rows = records["requests"]
    if not rows:
        return
    timed = [r for r in rows if not is_absent(r.duration_ns)]
    flying = sum(r.in_flight is True for r in rows)
    text = f"{fmt.counted(len(rows), 'request')}, {flying} in flight"
    if timed:
        slowest = max(timed, key=lambda r: known(r.duration_ns) or 0)
        text += f"; slowest {fmt.ticks(slowest.duration_ns)} ({field(slowest, 'operation')})"
    yield Paragraph(text)
    dated = [r for r in rows if isinstance(r.before_crash_ns, int)]
    cells: list[Sequence[str]] = []
    for r in sorted(dated, key=lambda r: -(known(r.before_crash_ns) or 0))[-_LAST_REQUESTS:]:
        took = "in flight" if r.in_flight is True else fmt.ticks(r.duration_ns)
        cells.append((field(r, "operation"), fmt.ticks(r.before_crash_ns), took, _status(r)))
    if cells:
        yield Table(("last requests", "before the crash", "duration", "status"), cells)


def _status(request: Request) -> str:
    """As findings write it: an SRB status has two digits, an NTSTATUS eight."""
    if is_absent(request.status):
        return field(request, "status_name")
    name = fields(request, "status_name")
    code = f"{request.status:#04x}" if name.startswith("SRB") else f"{request.status:#010x}"
    return name if name.endswith(code) else f"{code} {name}".rstrip()


def _settings(records: Records) -> Iterator[Block]:
    by_key: dict[str, list[Setting]] = {}
    for setting in records["settings"]:
        by_key.setdefault(field(setting, "key"), []).append(setting)
    for key, rows in by_key.items():
        yield Paragraph(key)
        for setting in rows:
            meaning = fields(setting, "meaning")
            text = f"{field(setting, 'name')} = {field(setting, 'value')}"
            yield Paragraph(text + (f" ({meaning})" if meaning else ""), 1)


def _also(records: Records) -> Iterator[Block]:
    tags = records["tags"]
    if tags:
        sizes = [t.size_bytes for t in tags if not is_absent(t.size_bytes)]
        size = fmt.size(sum(sizes))
        yield Paragraph(f"{fmt.counted(len(tags), 'block')} of secondary data, {size}.")
    events = records["events"]
    if events:
        what = getattr(events, "summary", "") or fmt.counted(len(events), "event")
        yield Paragraph(f"{what}; 'dumpstart show events' lists them.")


def _sources(records: Records, names: dict[str, str]) -> Iterator[Block]:
    unusable = 0
    for s in records["sources"]:
        unusable += isinstance(s.kind, Absent)
        if isinstance(s.kind, Absent) and unusable > _MOST_UNUSABLE:
            continue
        name = names.get(str(s.path), "")
        kind = ", ".join(filter(None, (fields(s, n) for n in ("kind", "subtype"))))
        yield Paragraph(f"{name}: {kind}" if kind else f"{name}: not usable")
        if isinstance(s.kind, Absent):
            yield Paragraph(clean(s.kind), 1)
        elif not is_absent(s.cannot_tell):
            yield Paragraph("cannot tell: " + field(s, "cannot_tell"), 1)
    if unusable > _MOST_UNUSABLE:
        more = fmt.counted(unusable - _MOST_UNUSABLE, "more file")
        yield Paragraph(f"{more} not usable; 'dumpstart info' lists them.")


def _residue(records: Records) -> Iterator[Block]:
    """Words left on stacks."""
    rows = records["residue"]
    if rows:
        names = ("stack_of", "symbol", "follows_call")
        yield Paragraph(
            "Addresses in the dump path left on stacks: hints of what ran, not a call stack."
        )
        cells = [[field(r, n) for n in names] for r in rows[:_MOST_RESIDUE]]
        yield Table(("where", "points into", "after a call"), cells)
        if len(rows) > _MOST_RESIDUE:
            text = f"and {len(rows) - _MOST_RESIDUE} more; 'dumpstart show residue' lists them."
            yield Paragraph(text)
