"""Each filter with its node, its FILTER_EXTENSION member by member and its callbacks.

Invariant: which rows belong together is decided in :mod:`analyzer.reports.filter_rows`, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from .. import formatting as fmt
from ..absence import Absent, is_absent
from ..answer.calls import grouped
from ..formatting import clean, field, fields
from ..layouts.crashdmp import knows_state
from ..records import Callback, Extension, Filter, Records
from .blocks import Block, Heading, Paragraph, Table
from .extension import Member, members
from .filter_rows import by_filter
from .missing import missing, of_callbacks, paragraphs
from .sections import pairs

_MOST_CALLS = 100  # lines of calls that are alike
MOST_FILTERS = 50
MOST_EXTENSIONS = 12  # of one filter
CALL_FIELDS = ("was_called", "status", "duration_ns")


def state_remark(records: Records) -> str:
    """How sure the place of a filter's state is; "" where it is proven."""
    machines = records["machine"]
    proven = {m.origin.source for m in machines if knows_state(m.build, m.architecture)}
    is_proven = all(f.origin.source in proven for f in records["filters"])
    return "" if is_proven else "by a word whose place is inferred on this Windows"


def pointer_size(records: Records) -> int:
    """4 when the source is of a 32-bit machine; 8 is the rule."""
    machines = records["machine"]
    return 4 if machines and str(machines[0].architecture) in ("x86", "x86-pae", "arm") else 8


def blocks(records: Records) -> Iterator[Block]:
    """Each filter; then those known by an extension or a call alone."""
    remark = state_remark(records)
    size = pointer_size(records)
    groups = by_filter(records)
    for group in groups[:MOST_FILTERS]:
        name, stack = group.name, group.stack
        one = group.filters[0][1] if group.filters else None
        place = [] if one is None else _position(one)
        about = [f"{stack} stack"] if stack else []
        yield Heading(name, ", ".join([*about, *place]))
        if one is not None:
            yield pairs(*facts(one, remark))
            names = ("is_disabled", "last_failing_status", "major_version", "max_pages_per_write",
                     "flags")  # fmt: skip
            yield from missing([one], names, 1)
        for _, extension in group.extensions[:MOST_EXTENSIONS]:
            yield from _extension(extension, size)
        if len(group.extensions) > MOST_EXTENSIONS:
            left = len(group.extensions) - MOST_EXTENSIONS
            yield Paragraph(f"{left:,} more; 'dumpstart show extensions' lists them.", 1)
        yield from _callbacks(group.callbacks)
    if len(groups) > MOST_FILTERS:
        text = f"{len(groups) - MOST_FILTERS} more filters; 'dumpstart show filters' lists them."
        yield Paragraph(text)


def facts(one: Filter, remark: str) -> list[tuple[str, str]]:
    """Name and value of what crashdmp's node holds."""
    told = state(one)
    version = f"{field(one, 'major_version')}.{field(one, 'minor_version')}"
    failing = fmt.code(one, "last_failing_status")
    return [
        ("product", fields(one, "product")),
        ("state", f"{told} ({remark})" if told and remark else told),
        ("last failure", f"{field(one, 'last_failing_routine')} {failing}" if failing else ""),
        ("version", "" if is_absent(one.major_version) else version),
        ("max pages", fields(one, "max_pages_per_write")),
        ("flags", fields(one, "flags", "flags_meaning")),
        ("node", fields(one, "node", "layout")),
        ("found by", f"{clean(one.origin.how)} ({clean(one.origin.confidence)})"),
    ]


def state(one: Filter) -> str:
    """The state of a filter in the words of the answer; "" where it is not known."""
    return "" if is_absent(one.is_disabled) else "off" if one.is_disabled else "on"


def _position(one: Filter) -> list[str]:
    if not isinstance(one.ring_index, int):
        return []
    count = "" if is_absent(one.ring_count) else f" of {field(one, 'ring_count')}"
    return [f"number {one.ring_index + 1}{count} in call order"]


def _extension(extension: Extension, size: int) -> Iterator[Block]:
    at = "" if is_absent(extension.extension) else f" at {field(extension, 'extension')}"
    yield Paragraph(f"FILTER_EXTENSION{at}", 1)
    if extension.is_reconstructed:
        yield Paragraph(f"reconstructed, not read: {clean(extension.origin.how)}", 2)
    found = list(members(extension, size))
    if all(m.value == "-" for m in found):
        for reason in sorted({clean(v) for v in extension[:-1] if isinstance(v, Absent)}):
            yield Paragraph(f"not determined ({reason})", 2)
        return
    yield Table(("", "", ""), list(_nested(found)))
    yield from missing([extension], extension._fields[:-1], 1)


def _nested(found: Iterable[Member]) -> Iterator[Sequence[str]]:
    """Members below a line for the structure they lie in, as a debugger shows them."""
    opened = ""
    for m in found:
        outer, _, inner = m.name.partition(".")
        if inner and outer != opened:
            yield (f"  +0x{m.offset:03x}", outer, "")
        opened = outer if inner else ""
        name = f"  {inner}" if inner else m.name
        yield (f"  +0x{m.offset:03x}", name, f"{m.value}  {clean(m.meaning)}".rstrip())


def _callbacks(calls: list[tuple[int, Callback]]) -> Iterator[Block]:
    if not calls:
        return
    found = grouped(calls)
    rows = []
    for one in found[:_MOST_CALLS]:
        c = one.first
        status = fields(c, "status_name") or field(c, "status")
        rows.append((field(c, "callback"), one.routine, one.called, one.took, status))
    yield Table(("callback", "routine", "called", "duration", "status"), rows)
    shown = sum(one.calls for one in found[:_MOST_CALLS])
    if shown < len(calls):
        left = len(calls) - shown
        yield Paragraph(f"and {left} more calls; 'dumpstart show callbacks' lists them.", 1)
    elif len(found) < len(calls):
        yield Paragraph("'dumpstart show callbacks' lists each call.", 1)
    for c in (one.first for one in found[:_MOST_CALLS]):
        if not is_absent(c.was_called) and c.was_called not in ("yes", "no"):
            how = clean(c.origin.how)
            yield Paragraph(f"{field(c, 'callback')} {field(c, 'was_called')} called: {how}", 1)
    firsts = [one.first for one in found]
    yield from paragraphs(of_callbacks(firsts, CALL_FIELDS), 1)
