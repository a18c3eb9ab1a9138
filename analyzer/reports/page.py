"""The plain data of the HTML report: what stands where, as text.

Invariant: every string that comes from an input has gone through :func:`formatting.clean`; nothing
here is markup. A row of a table has the id ``r-TABLE-NUMBER``, and a link leads only to a row that
is on the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypedDict

from .. import formatting as fmt
from ..absence import Absent, first_present, is_absent
from ..answer import answer_of
from ..answer.calls import Line, grouped
from ..answer.problems import by_severity
from ..checks.crashes import Index
from ..checks.rule import SEVERITIES
from ..files import called
from ..formatting import clean, field
from ..layouts.ntdddump import FILTER_EXTENSION_SIZE_V2
from ..names import ntstatus
from ..records import Extension, Records
from ..tables import FIELD_KINDS, ORIGIN_COLUMNS, SCHEMA, checked, plain, rows_of
from . import filters, sections, stacks, timeline
from .blocks import Section
from .evidence_links import ELSEWHERE, MOST_ROWS, Cell, Marks, marks
from .extension import members
from .filter_rows import by_filter
from .missing import Row, of_callbacks, reasons
from .page_findings import cell_id, finding_of, row_id
from .timeline_clock import leading

MOST_EVENTS = 300  # a trace must not crowd the page
MOST_FINDINGS = 500
MOST_CHARTS = 12
MOST_CALLS = 100  # lines of a filter's calls that are alike
_NUMERIC = ("Number", "Duration", "Real")


def build(records: Records) -> dict[str, object]:
    """All that the template shows."""
    answer = answer_of(records)
    marked = marks(records)
    leads = {cell for cells in marked.evidence.values() for cell in cells if cell is not None}
    ids: set[str] = set()  # of the rows and cells that are on the page
    tables = [_table(records, n, marked, leads, ids) for n in SCHEMA if n not in ELSEWHERE]
    numbers = {id(f): number for number, f in enumerate(records["findings"])}
    findings = by_severity(records["findings"])
    count = {s: sum(f.severity == s for f in findings) for s in SEVERITIES}
    names = [clean(called(s.path), 60) for s in records["sources"]]
    shown = [
        finding_of(f, numbers[id(f)], marked, len(names) > 1, ids) for f in findings[:MOST_FINDINGS]
    ]
    return {
        "title": fmt.some(names),
        "facts": list(_facts(records)),
        "headline": list(answer.headline),
        "sections": [_section(section) for section in sections.of_answer(answer)],
        "counts": [(s, n) for s, n in count.items() if n],
        "findings": shown,
        "first_of": {one["rule"]: one["id"] for one in reversed(shown)},
        "findings_told": fmt.counted(len(findings), "finding"),
        "findings_left": max(0, len(findings) - MOST_FINDINGS),
        "timeline": _timeline(records, marked),
        "throughput": list(_throughput(records)),
        "filters": list(_filters(records, marked)),
        "filters_left": max(0, len(by_filter(records)) - filters.MOST_FILTERS),
        "stacks": [block._asdict() for block in stacks.blocks(records)],
        "tables": [table for table in tables if table["rows"]],
        "sources": list(_sources(records)),
    }


def _section(section: Section) -> dict[str, object]:
    """A section of the answer as the template takes it."""
    blocks = [{"kind": type(block).__name__, **block._asdict()} for block in section.blocks]
    return {"key": section.key, "title": section.title, "blocks": blocks}


def _facts(records: Records) -> Iterator[tuple[str, str]]:
    """Name and value of what is known of the crash, from the first source that tells it.

    Of several crashes, the one whose dump failed leads; what is of another is not mixed in.
    """
    index = Index(records["crashes"])
    numbers = leading(index)[:1]
    rows = [row for number in numbers for row in index.by_number[number]]
    if len(index.by_number) > 1:
        yield "crash", f"{numbers[0]} of {len(index.by_number)}"
        machines = [m for m in records["machine"] if index.of(m.origin) in numbers]
    else:
        machines = list(records["machine"])
    coded = next((row for row in rows if not is_absent(row.bugcheck)), None)

    def known(name: str) -> Any:
        return first_present(getattr(m, name) for m in machines)

    code, title = known("bugcheck"), known("bugcheck_name") or ""
    if code is None and coded is not None:  # an event alone tells it
        code = coded.bugcheck
        title = "" if is_absent(coded.bugcheck_name) else coded.bugcheck_name
    if code is not None:  # a code without a name has itself there
        yield "bugcheck", f"0x{code:X}" + ("" if title[:2] in ("", "0x") else f" {clean(title)}")
    shown = {"system_time": "crash time", "build": "Windows build", "architecture": "architecture"}
    shown.update(processors="processors", dump_type_name="dump type")
    for name, label in shown.items():
        value = known(name)
        if value is not None:
            kind = dict(SCHEMA["machine"])[name]
            yield label, fmt.instant(value) if kind == "Time" else fmt.cell(kind, value)
    uptime = known("uptime_ns")
    if uptime is not None:
        yield "uptime", fmt.duration(uptime)


# -- figures -----------------------------------------------------------------------------------


class Lane(TypedDict):
    """A lane as the script takes it."""

    name: str
    tracks: int
    items: list[list[int | str]]  #: start, end, track, kind, table, row, name, detail
    all: int  #: with those that are not shown


class Chart(TypedDict):
    """What has one time axis."""

    title: str
    zero: str
    lanes: list[Lane]


def _timeline(records: Records, marked: Marks) -> dict[str, object]:
    """Charts of lanes of items for the script."""
    told = timeline.build(records, MOST_ROWS, marked)
    every = told.charts()
    charts: list[Chart] = [
        {"title": one.title, "zero": one.zero, "lanes": _lanes(one.lanes, one.title)}
        for one in every[:MOST_CHARTS]
    ]
    lanes = [lane for chart in charts for lane in chart["lanes"]]
    kinds = {item[3] for lane in lanes for item in lane["items"]}
    missing = [fmt.counted(n, table[:-1]) for table, n in told.untimed.items()]
    notes = [f"Without a time and so not shown: {fmt.listed(missing)}."] if missing else []
    cut = sum(lane["all"] - len(lane["items"]) for lane in lanes) + told.left_out
    notes += [f"{cut:,} more are not shown."] if cut else []
    left = len(every) - len(charts)
    notes += [f"{left:,} more on time axes of their own are not shown."] if left else []
    return {
        "charts": charts,
        "notes": notes,
        "kinds": [(kind, text) for kind, text in timeline.KINDS.items() if kind in kinds],
    }


def _lanes(slices_of: dict[str, list[timeline.Slice]], title: str) -> list[Lane]:
    lanes: list[Lane] = []
    for name, slices in slices_of.items():
        tracks = timeline.stacked(slices[:MOST_ROWS])
        items: list[list[int | str]] = [
            [s.start_ns, s.end_ns, track, s.kind, s.table, s.row, s.name, clean(s.detail, 200)]
            for s, track in zip(slices, tracks)
        ]
        # The title of the chart names the crash, or the one file.
        short = name.removeprefix(f"crash {slices[0].crash}: ").removeprefix(f"{title}: ")
        lanes.append({"name": short, "tracks": max(tracks) + 1, "items": items, "all": len(slices)})
    return lanes


def _throughput(records: Records) -> Iterator[dict[str, object]]:
    """Per source: the chunks of the memory write as bars in a box of 1000 by 100."""
    for s in records["sources"]:
        rates = [
            float(stage.rate_mb_per_s)
            for stage in records["stages"]
            if stage.origin.source == s.path
            and stage.stage == "memory-data-chunk"
            and isinstance(stage.rate_mb_per_s, (int, float))
        ][:MOST_ROWS]
        if not rates:
            continue
        top = max(*rates, 1.0)
        width = 1000 / len(rates)
        bars = []
        for place, rate in enumerate(rates):
            height = max(rate / top * 100, 0.5)
            text = f"chunk {place + 1}: {rate:g} MB/s"
            bars.append(
                {
                    "x": f"{place * width:.2f}",
                    "width": f"{width * 0.92:.2f}",
                    "y": f"{100 - height:.2f}",
                    "height": f"{height:.2f}",
                    "text": text,
                    "slow": rate < top / 10,
                }
            )
        yield {
            "name": clean(called(s.path), 60),
            "bars": bars,
            "top": f"{top:g} MB/s",
            "text": f"{len(rates)} chunks, slowest {min(rates):g} MB/s, fastest {top:g} MB/s",
            "slow": any(bar["slow"] for bar in bars),
        }


# -- filters -----------------------------------------------------------------------------------


def _filters(records: Records, marked: Marks) -> Iterator[dict[str, object]]:
    """Each filter, or extension without a filter, with its extension and callbacks."""
    remark = filters.state_remark(records)
    for group in by_filter(records)[: filters.MOST_FILTERS]:
        alike = grouped(group.callbacks)
        row = group.filters[0][1] if group.filters else None
        # a debugger's log may show one thousands of times; those that findings are about come first
        shown = sorted(group.extensions, key=lambda e: ("extensions", e[0]) not in marked.noted)
        shown = shown[: filters.MOST_EXTENSIONS]
        about = [f"{group.stack} stack"] if group.stack else []
        about += [clean(called(group.source), 60)] if len(records["sources"]) > 1 else []
        yield {
            "name": group.name,
            "about": ", ".join(about),
            "state": "" if row is None else filters.state(row),
            "is_off": row is not None and row.is_disabled is True,
            "facts": []
            if row is None
            else [pair for pair in filters.facts(row, remark) if pair[1]],
            "missing": [] if row is None else _missing([row]),
            "row": row_id("filters", group.filters[0][0]) if group.filters else "",
            "extensions": [_extension(records, n, e, marked) for n, e in shown],
            "extensions_left": len(group.extensions) - len(shown),
            "callbacks": [_call(one, marked) for one in alike[:MOST_CALLS]],
            "calls_left": sum(one.calls for one in alike[MOST_CALLS:]),
            "calls_missing": _sentences(
                of_callbacks((one.first for one in alike[:MOST_CALLS]), filters.CALL_FIELDS)
            ),
        }


def _call(one: Line, marked: Marks) -> dict[str, object]:
    bad = {name: marked.why("callbacks", one.row, name) for name in ("routine", "status")}
    times = ("duration_ns", "duration_high_ns", "duration_low_ns")
    bad["took"] = next(filter(None, (marked.why("callbacks", one.row, n) for n in times)), "")
    if ("callbacks", one.row) in marked.hung:
        bad["took"] = "entered and never left"
    elif not is_absent(one.first.status) and ntstatus.is_failure(int(one.first.status)):
        bad["status"] = bad["status"] or "the callback failed"
    return {
        "bad": bad,
        "row": row_id("callbacks", one.row) if one.row < MOST_ROWS else "",
        "callback": field(one.first, "callback"),
        "routine": one.routine,
        "called": one.called,
        "took": one.took,
        "status": fmt.code(one.first, "status") or "-",
    }


def _extension(
    records: Records, number: int, extension: Extension, marked: Marks
) -> dict[str, object]:
    machines = [m for m in records["machine"] if m.origin.source == extension.origin.source]
    narrow = machines and str(machines[0].architecture) in ("x86", "x86-pae", "arm")
    pointer = 4 if narrow else 8
    found = list(members(extension, pointer))
    bad = [marked.why("extensions", number, member.field) for member in found]
    hexed = "" if is_absent(extension.raw_bytes) else str(extension.raw_bytes)
    if re.fullmatch("(?:[0-9a-f]{2})*", hexed) is None:
        hexed = ""
    size = len(hexed) // 2 or FILTER_EXTENSION_SIZE_V2[pointer]
    owner: list[int | None] = [None] * size
    for place, member in enumerate(found):
        for offset in range(member.offset, min(member.offset + member.size, size)):
            owner[offset] = place
    cells = [
        {
            "member": owner[offset],
            "bad": bad[owner[offset] or 0] if owner[offset] is not None else "",
            "text": hexed[2 * offset : 2 * offset + 2] or "\u00b7\u00b7",
            "offset": offset,
        }
        for offset in range(size)
    ]
    why = ""
    if not hexed:
        why = "The bytes were not read"
        if isinstance(extension.raw_bytes, Absent):
            why += f": {clean(extension.raw_bytes)}"
        if extension.is_reconstructed:
            why += f". The values are {clean(extension.origin.how)}"
        why += "."
    return {
        "id": f"x{number}",
        "row": row_id("extensions", number),
        "at": "" if is_absent(extension.extension) else field(extension, "extension"),
        "why": why,
        "lines": [cells[start : start + 8] for start in range(0, size, 8)],
        "members": found if hexed or any(m.value != "-" for m in found) else [],
        "bad": bad,
        "missing": _missing([extension], leave=("raw_bytes",)),
    }


def _missing(
    rows: Iterable[Row], names: Iterable[str] | None = None, leave: Iterable[str] = ()
) -> list[str]:
    """One sentence per reason: which fields are not determined, and why."""
    return _sentences(reasons(rows, names, leave))


def _sentences(found: dict[str, list[str]]) -> list[str]:
    return [f"{', '.join(fields)}: {reason}" for reason, fields in found.items()]


# -- tables ------------------------------------------------------------------------------------


def _table(
    records: Records, name: str, marked: Marks, leads: set[Cell], ids: set[str]
) -> dict[str, object]:
    """The first rows of a table; columns that no row fills are left out."""
    total = len(records[name])
    most = MOST_EVENTS if name == "events" else MOST_ROWS
    rows = list(islice(iter(rows_of(records[name])), most))
    columns = [c for c in SCHEMA[name] if c.name not in ORIGIN_COLUMNS.values()]
    if rows:
        kinds = FIELD_KINDS[type(rows[0])]
        columns = [c for c in columns if any(not is_absent(getattr(r, c.name)) for r in rows)]
        assert all(c.name in kinds for c in columns)
    several = len(records["sources"]) > 1

    def cells(number: int, row: Row) -> Iterator[dict[str, object]]:
        ids.add(row_id(name, number))
        for column in columns:
            place = Cell(name, number, column.name)
            own = cell_id(place) if place in leads else ""
            ids.add(own)
            yield {**_cell(column.kind, getattr(row, column.name), marked.why(*place)), "id": own}
        yield {**_where(row, several), "bad": False, "id": ""}

    return {
        "name": name,
        "columns": [(c.name, c.kind in _NUMERIC) for c in columns] + [("read from", False)],
        "rows": [
            {
                "id": row_id(name, number),
                "cells": list(cells(number, r)),
            }
            for number, r in enumerate(rows)
        ],
        "total": total,
        "told": fmt.counted(total, "row"),
        "missing": _missing(rows),
    }


def _cell(kind: str, value: object, why: str) -> dict[str, object]:
    """Text, what to sort by when that is not the text, and a remark; ``why`` it is bad."""
    if is_absent(value):  # the reasons stand below the table
        return {"text": "\u2013", "sort": "", "bad": bool(why), "note": why}
    shown = checked(kind, value)
    text, sort, note = fmt.cell(kind, value), plain(kind, shown) if kind in _NUMERIC else None, ""
    if kind == "Duration" and isinstance(shown, int):
        text, sort, note = fmt.duration(shown), shown, f"{shown} ns"
    note = "; ".join(filter(None, (why, note)))
    return {"text": text, "sort": sort, "bad": bool(why), "note": note}


def _where(record: Row, several: bool) -> dict[str, object]:
    origin = record.origin
    parts = [clean(called(origin.source), 40)] if several else []
    if not is_absent(origin.address):
        parts.append(fmt.cell("Address", origin.address))
    if not is_absent(origin.file_offset):
        parts.append(f"file {origin.file_offset:#x}")
    note = f"{clean(origin.how)} ({clean(origin.confidence)})"
    return {"text": " ".join(parts) or clean(origin.how, 60), "sort": None, "note": note}


def _sources(records: Records) -> Iterator[dict[str, object]]:
    for s in records["sources"]:
        kind = ", ".join(filter(None, (fmt.fields(s, n) for n in ("kind", "subtype"))))
        yield {
            "name": clean(s.path),
            "kind": kind or "not usable",
            "why": clean(s.kind) if isinstance(s.kind, Absent) else "",
            "size": "" if is_absent(s.size_bytes) else fmt.size(s.size_bytes),
            "can": [clean(part) for part in str(s.can_tell or "").split("; ") if part],
            "cannot": [clean(part) for part in str(s.cannot_tell or "").split("; ") if part],
        }
