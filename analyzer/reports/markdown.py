"""The report for a ticket: Markdown as GitHub, GitLab and Azure DevOps read it.

Invariant: nothing of an input can become markup, a link, an image, a mention or a table cell of its
own; what reads as text here reads as the same text once rendered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from .. import __version__
from .. import formatting as fmt
from ..answer import answer_of
from ..records import Records
from . import details, sections
from .blocks import Block, Command, Entry, Heading, Pairs, Paragraph, Section, Table

_MARKUP = re.compile(r"[\\`*\[\]<>|~&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|#(?=\w)")
_LINK = re.compile(r"(?i)(\w):(?=//|\w+@)|\b(www)\.")
_MOST = 100
#: sections of the details that a ticket needs
_DETAILS = ("findings", "machine", "processors", "filter-details", "sources")


def write(records: Records) -> Iterator[str]:
    """The answer, then the findings with their evidence and each filter."""
    answer = answer_of(records)
    names = list(fmt.file_names(s.path for s in records["sources"]).values())
    yield f"## Crash dump filters: {text(fmt.listed(names[:5]) or 'no file', 300)}\n\n"
    yield from (f"{text(sentence, 2000)}\n\n" for sentence in answer.headline)
    for section in sections.of_answer(answer, len(answer.problems)):
        yield from _section(section)
    for section in details.sections(records):
        if section.key in _DETAILS:
            yield from _section(section)
    yield f"Written by dumpstart {__version__}.\n"


def text(value: object, limit: int = fmt.LIMIT) -> str:
    """A string as Markdown that shows exactly that string."""
    plain = fmt.clean(value, limit)
    escaped = _MARKUP.sub(
        lambda m: "&amp;" if m[0] == "&" else "&lt;" if m[0] == "<" else "\\" + m[0], plain
    )
    escaped = _LINK.sub(lambda m: f"{m[1]}&#58;" if m[1] else f"{m[2]}&#46;", escaped)
    return escaped.replace("@", "&#64;")


def code(value: object, limit: int = fmt.LIMIT) -> str:
    """A string in a code span that it cannot leave."""
    plain = fmt.clean(value, limit).replace("|", "\\|")
    longest = max(map(len, re.findall("`+", plain)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest or plain.endswith("\\") else ""
    return f"{fence}{pad}{plain}{pad}{fence}" if plain.strip() else ""


def _section(section: Section) -> Iterator[str]:
    if section.title:
        yield f"### {text(section.title)}\n\n"
    for block in section.blocks:
        yield from _block(block)
    yield "\n"


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Paragraph):
        yield f"{text(block.text, 2000)}\n\n"
    elif isinstance(block, Command):
        yield f"    {fmt.clean(block.text, 1000)}\n\n"
    elif isinstance(block, Heading):
        remark = f" ({text(block.remark)})" if block.remark else ""
        yield f"#### {text(block.text)}{remark}\n\n"
    elif isinstance(block, Pairs):
        yield from _pairs(block.rows)
    elif isinstance(block, Table):
        yield from _table(block)
    else:
        yield from _entry(block)


def _pairs(rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    for name, value in rows:
        yield f"- {text(name)}: {text(value, 2000)}\n"
    yield "\n"


def _table(table: Table) -> Iterator[str]:
    yield "| " + " | ".join(text(cell) for cell in table.head) + " |\n"
    yield "|" + "---|" * len(table.head) + "\n"
    for number, row in enumerate(table.rows[:_MOST]):
        cells = (_bold(text(c.strip()), (number, k) in table.wrong) for k, c in enumerate(row))
        yield "| " + " | ".join(cells) + " |\n"
    yield "\n"
    for row, below in zip(table.rows, table.below):
        for line in below:
            value = _bold(text(line.value, 2000), bool(line.severity))
            yield f"- {text(row[1])}, {text(line.name)}: {value}\n"
    if any(table.below):
        yield "\n"
    if len(table.rows) > _MOST:
        yield f"{len(table.rows) - _MOST} more rows.\n\n"


def _bold(markup: str, is_wrong: bool) -> str:
    return f"**{markup}**" if is_wrong else markup


def _entry(entry: Entry) -> Iterator[str]:
    remark = f": {text(entry.remark)}" if entry.remark else ""
    rule = f" {code(entry.rule)}" if entry.rule else ""
    yield f"- **{text(entry.severity)}** {text(entry.title)}{remark}{rule}  \n"
    yield f"  {text(entry.text, 2000)}\n"
    if entry.also:
        yield f"  - {text(entry.also, 2000)}\n"
    for line in entry.evidence:
        yield f"  - {code(line)}\n"
    if entry.advice:
        yield f"  - Do: {text(entry.advice, 2000)}\n"
