"""The report for people: the answer on one screen; with ``details`` every field, at 80 columns.

Invariant: plain ASCII; colour and every other escape come from here alone, and only when asked for.
A command is never broken into lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from ..answer import Answer, answer_of
from ..formatting import WIDTH, wrapped
from ..records import Records
from . import sections
from .blocks import Block, Command, Entry, Heading, Pairs, Paragraph, Section, Table

_COLOURS = {"error": "\x1b[31m", "warning": "\x1b[33m", "title": "\x1b[1m"}
_RESET = "\x1b[0m"
_SCREEN = 59  # lines of the answer; one more says what else there is
_LINES = 54  # of these at most below the headline
_NAME = 18  # columns of a name beside its value

Paint = Callable[[str, str], str]


def write(records: Records, colour: bool = False, details: bool = False) -> Iterator[str]:
    """The report; ``details``: every field with where it was read, not the answer alone."""
    paint: Paint = lambda style, text: (  # noqa: E731
        f"{_COLOURS[style]}{text}{_RESET}" if colour and style in _COLOURS else text
    )
    answer = answer_of(records)
    yield from head(answer)
    if details:
        from . import details as detailed

        shown = [s for s in sections.of_answer(answer) if s.key != "problems"]
        shown = [*shown[:-1], *detailed.sections(records), shown[-1]]
        for section in shown:
            yield from render(section, paint)
    else:
        yield from _one_screen(answer, paint)
        yield "  -v shows every field and where it was read; --format html makes a page.\n"


def _one_screen(answer: Answer, paint: Paint) -> list[str]:
    """The sections of the answer, with as many problems in full as the lines allow."""
    room = min(_LINES, _SCREEN - "".join(head(answer)).count("\n"))
    short = answer._replace(problems=tuple(p._replace(also=()) for p in answer.problems))
    for most in range(sections.MOST_PROBLEMS, -1, -1):
        for shown in (answer, short):
            pieces = [p for s in sections.of_answer(shown, most) for p in render(s, paint)]
            if "".join(pieces).count("\n") <= room:
                return pieces
    return pieces


def part(records: Records, *keys: str) -> Iterator[str]:
    """Only the sections with these keys; ``answer`` is the headline with all of its sections."""
    answer = answer_of(records)
    from . import details as detailed

    for section in [*sections.of_answer(answer), *detailed.sections(records)]:
        if section.key in keys:
            yield from render(section)


def head(answer: Answer) -> Iterator[str]:
    """The headline, which leads every report."""
    for sentence in answer.headline:
        yield "\n".join(wrapped(sentence)) + "\n"


def render(section: Section, paint: Paint = lambda _style, text: text) -> Iterator[str]:
    """A section with its title; nothing when it is empty."""
    body = "\n".join(line for block in section.blocks for line in _lines(block, paint))
    if body:
        title = paint("title", section.title) + "\n" if section.title else ""
        yield f"\n{title}{body}\n"


def _lines(block: Block, paint: Paint) -> Iterable[str]:
    if isinstance(block, Paragraph):
        indent = "  " * (block.level + 1)
        return wrapped(block.text, indent + "  ", indent)
    if isinstance(block, Command):
        return [f"    {block.text}"]
    if isinstance(block, Heading):
        remark = f" ({block.remark})" if block.remark else ""
        return ["", *wrapped(block.text + remark, "    ", "  ")]
    if isinstance(block, Pairs):
        return _pairs(block.rows, "  ")
    if isinstance(block, Table):
        return _table(block, paint)
    return _entry(block, paint)


def _pairs(rows: Iterable[Sequence[str]], indent: str) -> Iterator[str]:
    for name, value in rows:
        begin = f"{indent}{name:<{_NAME - 2}}  "
        yield from wrapped(value, " " * len(begin), begin)


def _table(table: Table, paint: Paint) -> Iterator[str]:
    """Columns side by side; a last column that does not fit is wrapped below itself."""
    rows = [table.head, *table.rows] if any(table.head) else list(table.rows)
    widths = [max(map(len, column)) for column in zip(*rows)]
    if sum(widths) + 2 * len(widths) > WIDTH:
        widths = [min(WIDTH // 3, width) for width in widths]
    for number, row in enumerate(rows, len(table.rows) - len(rows)):
        severities = [table.wrong.get((number, column), "") for column in range(len(row))]
        yield from _row(row, widths, severities, paint)
        for name, value, severity in table.below[number] if 0 <= number < len(table.below) else ():
            yield from (paint(severity, line) for line in _pairs([(name, value)], "    "))


def _row(
    cells: Sequence[str], widths: Sequence[int], severities: Sequence[str], paint: Paint
) -> Iterator[str]:
    """A row as lines; every cell but the last is cut to its width."""
    begin = painted = "  "
    for cell, width, severity in zip(cells[:-1], widths, severities):
        shown = cell if len(cell) <= width else cell[: width - 3] + "..."
        begin += shown.ljust(width) + "  "
        painted += paint(severity, shown) + " " * (width - len(shown) + 2)
    indent = " " * min(len(begin), WIDTH // 2)
    if not cells[-1].strip():
        yield painted.rstrip()
        return
    first, *rest = wrapped(cells[-1], indent, begin)
    yield painted + paint(severities[-1], first[len(begin) :])
    yield from (indent + paint(severities[-1], line[len(indent) :]) for line in rest)


def _entry(entry: Entry, paint: Paint) -> Iterator[str]:
    about = f": {entry.remark}" if entry.remark else ""
    first, *rest = wrapped(f"{entry.title}{about}", "    ", f"  {entry.severity}  ")
    yield first.replace(entry.severity, paint(entry.severity, entry.severity), 1)
    yield from rest
    yield from wrapped(entry.text, "    ", "    ")
    yield from wrapped(entry.also, "    ", "    ")
    label = "evidence: "
    for line in entry.evidence:
        yield from wrapped(line, " " * 16, f"    {label:<10}")
        label = ""
    if entry.advice:
        yield from wrapped(f"Do: {entry.advice}", "        ", "    ")
    if entry.rule and entry.evidence:
        yield f"    rule: {entry.rule}"
