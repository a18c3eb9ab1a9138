"""What all records share: the kinds of their columns, where they come from, what they rest on.

Invariant: a value is what the source holds, or an ``Absent`` with its reason; words for a reader
are made from it later. Standard library only.
"""

from collections.abc import Mapping
from typing import Annotated, NamedTuple, Union

from ..absence import Absent

_Int = Union[int, Absent, None]
Cell = Union[str, int, float, Absent, None]  #: a value of a column of any kind but the last two

# Column kinds. At run time all are plain values or Absent; the name says how to store and show
# them. The modules of records do without ``from __future__ import annotations``: NamedTuple
# compiles each annotation that is text, which would take a tenth of the start.
Text = Annotated[Union[str, Absent, None], "Text"]
Address = Annotated[_Int, "Address"]  #: 64-bit address, shown as 0x + 16 digits
Code = Annotated[_Int, "Code"]  #: 32-bit (NTSTATUS, time stamp, flags), shown as 0x + 8 digits
Number = Annotated[_Int, "Number"]  #: signed 64-bit count, index, offset or size in bytes
Big = Annotated[_Int, "Big"]  #: unsigned 64-bit number that is not an address, shown in hex
Real = Annotated[Union[float, Absent, None], "Real"]
Flag = Annotated[Union[bool, Absent, None], "Flag"]
Time = Annotated[_Int, "Time"]  #: ns since 1970-01-01 UTC
Duration = Annotated[_Int, "Duration"]  #: ns
Proof = Annotated[tuple["Evidence", ...], "Proof"]  #: pieces of evidence, most telling first
Facts = Annotated[Mapping[str, Cell], "Facts"]  #: name -> number, text or flag


class Origin(NamedTuple):
    """Where a record comes from.

    ``source``: path as the user gave it; ``how``: words ("header field", "list walk", "content
    match", "reconstructed ..."); ``confidence``: ``certain`` | ``likely`` | ``guess``;
    ``file_offset`` / ``address``: where the bytes lie, None when there is no single place.
    """

    source: str
    how: str
    confidence: str = "certain"
    file_offset: Number = None
    address: Address = None


class Evidence(NamedTuple):
    """One value that a finding rests on.

    ``label`` is for readers alone: nothing is decided by it, by ``words`` or by how a report
    spells the value.
    """

    label: str  #: the field's name; empty where the words are the evidence
    value: Cell
    kind: str = "Text"  #: column kind that says how the value is shown
    words: str = ""  #: what the value means, e.g. the name of an NTSTATUS
    origin: "Origin | None" = None  #: where it was read; None: where the finding was


class Anomaly(NamedTuple):
    """Something a source or a check saw that a rule speaks about; becomes a finding.

    ``rule`` is a rule id; ``text`` one sentence with the numbers; ``facts`` are what later checks
    decide by.
    """

    rule: str
    text: str
    origin: Origin
    subject: str = ""  #: the filter, module or field it is about
    evidence: tuple[Evidence, ...] = ()
    facts: Mapping[str, Cell] = {}


class Clue(NamedTuple):
    """What one Windows event says of a crash or of a start, typed; crashes are joined by it."""

    tells: str  #: "restart", "report", "boot", ... of :mod:`analyzer.names.events`
    provider: str  #: as that table spells it
    event_id: int
    outcome: str  #: of the dump: "written", "failed", or "" where it says nothing
    bugcheck: tuple[int, ...]  #: code and four parameters, or ()
    time: "int | None"  #: ns since 1970, when it was logged
    local_time: "int | None"  #: the same in an unknown zone, to be compared within its file
    happened: "int | None"  #: ns since 1970: the power button, or the last moment alive
    dump_path: str
    report_id: str
    is_power_button: bool
    in_sleep: bool  #: a sleep transition was under way
    no_bugcheck: bool  #: it states that there was none
    local: str  #: the time as it stands in an export that gives no zone
    origin: Origin
