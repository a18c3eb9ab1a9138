"""Dry runs as text: what each callback does, and a matrix of MDL shapes.

Invariant: begins with what the calls were made on; nothing reads as a call that Windows made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..absence import is_absent
from ..checks import rules_dryrun
from ..formatting import aligned, clean, duration, field, owner, wrapped
from ..records import DryRun, Finding, Records
from . import listing

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


def lines(records: Records) -> Iterator[str]:
    """The section; nothing without dry runs."""
    rows: list[DryRun] = records["dry_runs"]
    if not rows:
        return
    yield from wrapped(_head(rows), "  ")
    for key in dict.fromkeys(owner(row) for row in rows):
        yield f"  {key[0]} ({key[1]} stack)"
        own = [row for row in rows if owner(row) == key]
        for row in own:
            if is_absent(row.shape) and row.windows != "never":
                yield from _call(row)
        yield from _matrix([row for row in own if not is_absent(row.shape)])
        other = [row for row in own if is_absent(row.shape) and row.windows == "never"]
        for row in other:
            yield from wrapped(clean(row.text, _PARAGRAPH), "      ", "    ")


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


def _call(row: DryRun) -> Iterator[str]:
    yield from wrapped(clean(row.text, _PARAGRAPH), "      ", "    ")
    if row.is_repeatable and row.had_crashed is not False:
        text = "any call on this memory ends like this: it reads nothing that a call changes"
        yield from wrapped(text, " " * 8, " " * 6)
    elif not is_absent(row.depends_on):
        text = f"depends on {clean(row.depends_on, _PARAGRAPH)}"
        if row.had_crashed is not False:
            text += "; an earlier call may have ended otherwise"
        yield from wrapped(text, " " * 8, " " * 6)
    for name, title in _DETAILS:
        value = getattr(row, name)
        if not is_absent(value):
            yield from wrapped(f"{title}: {clean(value, _PARAGRAPH)}", " " * 8, " " * 6)
    if not is_absent(row.instructions):
        stall = f", {duration(row.stall_ns)} of stalls" if row.stall_ns else ""
        count = f"{row.instructions:,} instructions, {row.stack_bytes:,} bytes of stack{stall}"
        yield f"      {count}"


def _matrix(rows: Sequence[DryRun]) -> Iterator[str]:
    """MDL shapes by outcome, a column for each DumpType."""
    names = {1: "crash", 2: "hibernation"}
    for callback in dict.fromkeys(row.callback for row in rows):
        own, name = [row for row in rows if row.callback == callback], clean(callback)
        types = list(dict.fromkeys(row.dump_type for row in own))
        if len({_short(row) for row in own}) == 1 and len(own) > 1:
            text = f"{name} with each of {len(own)} MDLs and types of dump: {_short(own[0])}"
            yield from wrapped(text, " " * 6, " " * 4)
        else:
            titles = [names.get(kind, "?") if isinstance(kind, int) else "?" for kind in types]
            table = [[f"{name} with an MDL", "Windows", *titles]]
            for shape in dict.fromkeys(row.shape for row in own):
                cells = {row.dump_type: row for row in own if row.shape == shape}
                windows = next(row.windows for row in own if row.shape == shape)
                shown = [_short(cells[kind]) if kind in cells else "-" for kind in types]
                table.append([clean(shape), _WINDOWS.get(str(windows), "-"), *shown])
            yield from aligned(table, "    ")
        yield from _reasons(own)


def _short(row: DryRun) -> str:
    if row.outcome != "returns":
        return field(row, "outcome")
    name = field(row, "status_name")
    return "success" if name == "STATUS_SUCCESS" else field(row, "status")


def _reasons(rows: Sequence[DryRun]) -> Iterator[str]:
    """Each way to end that is not a return, once in words."""
    said = set()
    for row in rows:
        key = (row.outcome, row.where)
        if row.outcome != "returns" and key not in said:
            said.add(key)
            yield from wrapped(clean(row.text, _PARAGRAPH), "        ", "      ")


def exit_code(records: Records) -> int:
    """1 where a dry run found an error or a warning."""
    return int(any(f.severity in ("error", "warning") for f in _findings(records)))


def _findings(records: Records) -> list[Finding]:
    return [f for f in records["findings"] if f.rule in rules_dryrun.RULES]


def report(records: Records, format: str = "text") -> Iterator[str]:
    """The section on its own, with the findings that belong to it; or the table."""
    if format != "text":
        yield from listing.table("dry_runs", records, format)
        return
    body = list(lines(records))
    if not body:
        yield "No filter was found of which a callback could be called.\n"
        return
    yield "Dry run\n" + "\n".join(body) + "\n"
    found = _findings(records)
    if found:
        yield "\nFindings\n"
    for finding in found:
        yield f"  {field(finding, 'severity')}  {field(finding, 'rule')}\n"
        yield "\n".join(wrapped(clean(finding.text, _PARAGRAPH), "    ")) + "\n"
