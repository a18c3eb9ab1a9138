"""The pieces that a report is made of, whatever its format.

Invariant: a block holds finished texts; how wide, how coloured and in which markup they stand is
for the format alone.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Union


class Paragraph(NamedTuple):
    """A piece of running text; ``level`` 1 and more belong to the block above."""

    text: str
    level: int = 0


class Command(NamedTuple):
    """A command to copy; never broken into lines."""

    text: str


class Heading(NamedTuple):
    """What the next blocks are about."""

    text: str
    remark: str = ""


class Pairs(NamedTuple):
    """Names with their values; pairs without a value are left out by who makes them."""

    rows: Sequence[tuple[str, str]]


class Below(NamedTuple):
    """A line that belongs under a row of a table."""

    name: str
    value: str
    severity: str = ""  #: error or warning where the value is wrong


class Table(NamedTuple):
    """Columns with a head; ``below``: row number -> lines under that row."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    below: Sequence[Sequence[Below]] = ()
    wrong: Mapping[tuple[int, int], str] = {}  #: row and column of a wrong value -> its severity


class Entry(NamedTuple):
    """One thing that is wrong, with what to do."""

    severity: str
    title: str
    remark: str  #: what it is about, and in which file
    text: str
    advice: str
    rule: str = ""
    evidence: Sequence[str] = ()
    also: str = ""  #: what else tells of the same


Block = Union[Paragraph, Command, Heading, Pairs, Table, Entry]


class Section(NamedTuple):
    """Blocks under one title; ``key`` names it for links and tests."""

    key: str
    title: str
    blocks: Sequence[Block]
