"""The report for a ticket: Markdown as GitHub, GitLab and Azure DevOps read it.

Invariant: nothing of an input can become markup, a link, an image, a mention or a table cell of its
own; what reads as text here reads as the same text once rendered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .. import __version__
from .. import formatting as fmt
from ..absence import Absent, is_absent
from ..files import called
from ..formatting import field
from ..records import Records
from ..tables import evidence_lines, rows_of
from . import answer
from .calls import call_lines

_MARKUP = re.compile(r"[\\`*\[\]<>|~&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|#(?=\w)")
_LINK = re.compile(r"(?i)(\w):(?=//|\w+@)|\b(www)\.")
_MOST = 100


def write(records: Records) -> Iterator[str]:
    """The answer, the findings, the filters and their callbacks, and the sources."""
    names = [called(s.path) for s in rows_of(records["sources"])]
    yield f"## Crash dump filters: {text(fmt.listed(names) or 'no file', 300)}\n\n"
    yield from (f"{text(sentence, 2000)}\n\n" for sentence in answer.sentences(records))
    yield from _findings(records)
    yield from _filters(records)
    yield from _sources(records)
    yield f"Written by dumpstart {__version__}.\n"


def text(value: Any, limit: int = fmt.LIMIT) -> str:
    """A string as Markdown that shows exactly that string."""
    plain = fmt.clean(value, limit)
    escaped = _MARKUP.sub(
        lambda m: "&amp;" if m[0] == "&" else "&lt;" if m[0] == "<" else "\\" + m[0], plain
    )
    escaped = _LINK.sub(lambda m: f"{m[1]}&#58;" if m[1] else f"{m[2]}&#46;", escaped)
    return escaped.replace("@", "&#64;")


def code(value: Any, limit: int = fmt.LIMIT) -> str:
    """A string in a code span that it cannot leave."""
    plain = fmt.clean(value, limit).replace("|", "\\|")
    longest = max(map(len, re.findall("`+", plain)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest or plain.endswith("\\") else ""
    return f"{fence}{pad}{plain}{pad}{fence}" if plain.strip() else ""


def _findings(records: Records) -> Iterator[str]:
    findings = answer.by_severity(list(rows_of(records["findings"])))
    if not findings:
        return
    yield "### Findings\n\n"
    for finding in findings[:_MOST]:
        yield f"- **{text(finding.severity)}** {code(finding.rule)}: {text(finding.text, 2000)}\n"
        for line in evidence_lines(finding):
            yield f"  - {code(line)}\n"
        if not is_absent(finding.advice):
            yield f"  - What to do: {text(finding.advice, 2000)}\n"
    if len(findings) > _MOST:
        yield f"- {len(findings) - _MOST} more; `dumpstart show findings` lists them.\n"
    yield "\n"


def _filters(records: Records) -> Iterator[str]:
    calls = records["callbacks"]
    if not calls:
        return
    yield "### Callbacks of the filters\n\n"
    yield "| filter | callback | called | duration | status |\n|---|---|---|---|---|\n"
    found = call_lines(calls)
    for one in found[:_MOST]:
        call = one.first
        cells = [
            field(call, "filter"),
            field(call, "callback"),
            one.called,
            one.took,
            fmt.code(call, "status") or "-",
        ]
        yield "| " + " | ".join(map(text, cells)) + " |\n"
    shown = sum(one.calls for one in found[:_MOST])
    if shown < len(calls):
        yield f"\n{len(calls) - shown} more; `dumpstart show callbacks` lists them.\n"
    elif len(found) < len(calls):
        yield "\n`dumpstart show callbacks` lists each call.\n"
    yield "\n"


def _sources(records: Records) -> Iterator[str]:
    if not records["sources"]:
        return
    yield "### Sources\n\n"
    for source in rows_of(records["sources"]):
        name = code(called(source.path))
        kind = text(fmt.fields(source, "kind", "subtype") or "not usable")
        yield f"- {name}: {kind}\n"
        if isinstance(source.kind, Absent):
            yield f"  - {text(source.kind)}\n"
        elif not is_absent(source.cannot_tell):
            yield f"  - cannot tell: {text(source.cannot_tell)}\n"
    yield "\n"
