"""Everything that an answer says, as one text, for tests that ask whether something is claimed."""

from __future__ import annotations

from analyzer.answer import answer_of
from analyzer.records import Records
from analyzer.reports import sections
from analyzer.reports.blocks import Block, Command, Entry, Heading, Pairs, Paragraph, Table


def sentences(records: Records) -> list[str]:
    """The headline, then each piece of each section."""
    answer = answer_of(records)
    pieces = list(answer.headline)
    for section in sections.of_answer(answer, len(answer.problems)):
        for block in section.blocks:
            pieces += _texts(block)
    return pieces


def said(records: Records) -> str:
    """The same as one text."""
    return " ".join(sentences(records))


def _texts(block: Block) -> list[str]:
    if isinstance(block, (Paragraph, Command, Heading)):
        return [block.text]
    if isinstance(block, Pairs):
        return [f"{name} {value}" for name, value in block.rows]
    if isinstance(block, Table):
        rows = [" ".join(block.head)]
        for number, row in enumerate(block.rows):
            rows.append(" ".join(row))
            if number < len(block.below):
                rows += [f"{line.name} {line.value}" for line in block.below[number]]
        return rows
    assert isinstance(block, Entry)
    about = f"{block.severity} {block.title}: {block.remark}"
    return [f"{about} {block.text} {block.also} Do: {block.advice}"]
