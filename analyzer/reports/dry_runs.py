"""Dry runs as text: what each callback does, and a matrix of MDL shapes.

Invariant: begins with what the calls were made on; nothing reads as a call that Windows made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..absence import is_absent
from ..checks import rules_dryrun
from ..formatting import clean, duration, field, owner, wrapped
from ..records import DryRun, Finding, Records
from . import listing
from .blocks import Block, Heading, Paragraph, Section, Table

_WINDOWS = {"does": "yes", "may": "may", "never": "no"}
_DETAILS = (
    ("where", "ends at"),
    ("members_read", "reads of FILTER_EXTENSION"),
    ("members_written", "writes of FILTER_EXTENSION"),
    ("variables_read", "reads"),
    ("changes", "changes"),
    ("calls", "calls"),
    ("forbidden", "forbidden at HIGH_LEVEL"),
    ("pageable", "pageable"),
    ("assumed", "assumed"),
)
_PARAGRAPH = 1200
_CUT = ("search-stopped", "reading-stopped")  #: filters may be missing, or what they need


def blocks(records: Records) -> Iterator[Block]:
    """The section; nothing without dry runs."""
    rows: list[DryRun] = records["dry_runs"]
    if not rows:
        return
    yield Paragraph(_head(rows))
    for key in dict.fromkeys(owner(row) for row in rows):
        yield Heading(key[0], f"{key[1]} stack" if key[1] else "")
        own = [row for row in rows if owner(row) == key]
        plain = [row for row in own if is_absent(row.shape)]
        for row in plain:
            if row.windows != "never":
                yield Paragraph(clean(row.text, _PARAGRAPH))
                yield from (Paragraph(text, 1) for text in _details(row))
        yield from _matrix([row for row in own if not is_absent(row.shape)])
        for row in plain:
            if row.windows == "never":
                yield Paragraph(clean(row.text, _PARAGRAPH))


def _head(rows: Sequence[DryRun]) -> str:
    if rows[0].had_crashed is False:
        return (
            "The machine had not crashed. Each callback was called on a copy of its memory: this "
            "is what it would do in a crash now."
        )
    return (
        "Each callback was called on a copy of this memory. That is not the call that Windows "
        "made: memory is as that call and all that came later left it."
    )


def _details(row: DryRun) -> Iterator[str]:
    if row.is_repeatable and row.had_crashed is not False:
        yield "any call on this memory ends like this: it reads nothing that a call changes"
    elif not is_absent(row.depends_on):
        text = f"depends on {clean(row.depends_on, _PARAGRAPH)}"
        yield text + (
            "; an earlier call may have ended otherwise" if row.had_crashed is not False else ""
        )
    for name, title in _DETAILS:
        value = getattr(row, name)
        if not is_absent(value):
            yield f"{title}: {clean(value, _PARAGRAPH)}"
    if not is_absent(row.instructions):
        stall = f", {duration(row.stall_ns)} of stalls" if row.stall_ns else ""
        yield f"{row.instructions:,} instructions, {row.stack_bytes:,} bytes of stack{stall}"


def _matrix(rows: Sequence[DryRun]) -> Iterator[Block]:
    """MDL shapes by outcome, a column for each DumpType; then each other way to end in words."""
    names = {1: "crash", 2: "hibernation"}
    for callback in dict.fromkeys(row.callback for row in rows):
        own, name = [row for row in rows if row.callback == callback], clean(callback)
        types = list(dict.fromkeys(row.dump_type for row in own))
        if len({_short(row) for row in own}) == 1 and len(own) > 1:
            count = f"each of {len(own)} MDLs and types of dump"
            yield Paragraph(f"{name} with {count}: {_short(own[0])}")
        else:
            titles = [names.get(kind, "?") if isinstance(kind, int) else "?" for kind in types]
            table = []
            for shape in dict.fromkeys(row.shape for row in own):
                cells = {row.dump_type: row for row in own if row.shape == shape}
                windows = next(row.windows for row in own if row.shape == shape)
                shown = [_short(cells[kind]) if kind in cells else "-" for kind in types]
                table.append([clean(shape), _WINDOWS.get(str(windows), "-"), *shown])
            yield Table([f"{name} with an MDL", "Windows", *titles], table)
        said = set()
        for row in own:
            if row.outcome != "returns" and (row.outcome, row.where) not in said:
                said.add((row.outcome, row.where))
                yield Paragraph(clean(row.text, _PARAGRAPH), 1)


def _short(row: DryRun) -> str:
    if row.outcome != "returns":
        return field(row, "outcome")
    name = field(row, "status_name")
    return "success" if name == "STATUS_SUCCESS" else field(row, "status")


def exit_code(records: Records) -> int:
    """1 where a dry run found an error or a warning, or the memory was not read to its end."""
    return int(any(f.severity in ("error", "warning") for f in _findings(records)))


def _findings(records: Records) -> list[Finding]:
    rules = (*rules_dryrun.RULES, *_CUT)
    return [f for f in records["findings"] if f.rule in rules]


def report(records: Records, format: str = "text") -> Iterator[str]:
    """The section on its own, with the findings that belong to it; or the table."""
    if format != "text":
        yield from listing.table("dry_runs", records, format)
        return
    from .text import render  # which shows this section, too

    body = list(blocks(records))
    if body:
        yield from render(Section("dry-run", "Dry run", body))
    else:
        yield "No filter was found of which a callback could be called.\n"
    found = _findings(records)
    if found:
        yield "\nFindings\n"
    for finding in found:
        yield f"  {field(finding, 'severity')}  {field(finding, 'rule')}\n"
        yield "\n".join(wrapped(clean(finding.text, _PARAGRAPH), "    ")) + "\n"
