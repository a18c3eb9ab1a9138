"""What the answer to a case is made of.

Invariant: every text here is a finished piece of plain ASCII English; a report chooses where it
stands, never what it says. Texts of inputs in it have gone through :func:`formatting.clean`.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Remark(NamedTuple):
    """A line below a filter's row."""

    text: str
    severity: str  #: error or warning; "" where nothing is wrong


class FilterVerdict(NamedTuple):
    """One crash dump filter: a row of the table that leads every report."""

    filter: str  #: name of the module; "filter 2 of 3" where it has none
    product: str  #: product and vendor, "" where the name is not known
    stack: str  #: crash, hibernation or ""
    crash: "int | None"  #: the crash that this is of; None where there is none
    position: str  #: "1 of 2" in call order, "loaded", "registered", "not loaded", ...
    state: str  #: on, off, likely on, likely off, or "" where nothing tells
    is_off: bool  #: True when its state says that it was switched off
    dump_start: str  #: called, likely called, not called, executing, ...; "" where nothing tells
    is_inferred: bool  #: True when Dump_Start was likely called, and no source saw the call
    status: str  #: what it returned, in words; "" where nothing tells
    duration: str  #: how long it took, "" where nothing tells
    evidence: str  #: by what that is known; "" where the one input itself shows it
    encrypts: str  #: whether it encrypts what is written, "" where nothing tells
    extension: str  #: the FILTER_EXTENSION in one line
    wrong: Mapping[str, str]  #: field of this row -> severity of what is wrong with it
    faults: tuple[Remark, ...]  #: what is wrong with this filter, titles of findings
    remarks: tuple[Remark, ...]  #: more that is worth a line: other calls, last failure


class Problem(NamedTuple):
    """What is wrong: one finding, or several of one rule."""

    severity: str
    rule: str
    title: str
    subject: str
    text: str  #: one or two sentences with the numbers
    advice: str
    source: str  #: the file, where there are several
    findings: int  #: how many of this rule
    also: tuple[str, ...]  #: titles of rules that see the same fact with less
    is_culprit: bool


class Step(NamedTuple):
    """What to do next."""

    text: str
    command: str  #: to copy; "" where there is none


class Answer(NamedTuple):
    """The answer to a case, the same in every format."""

    headline: tuple[str, ...]  #: one or two sentences, the first leads every report
    crashes: tuple[str, ...]  #: a line each where there are several, the newest first
    untimed: int  #: how many crashes have no known time, and so no place in that order
    machine: tuple[str, ...]  #: Windows, processors, what the dump header says, a line each
    filters: tuple[FilterVerdict, ...]
    remarks: tuple[str, ...]  #: sentences that limit or complete what the filters' rows say
    problems: tuple[Problem, ...]  #: errors and warnings, what most probably is to blame first
    notes: tuple[str, ...]  #: titles of findings that are no fault
    steps: tuple[Step, ...]
    unknown: str  #: what cannot be known from this input, and where it says how to know it
    checked: str  #: how many checks passed, and how many could not run for want of what

    def as_json(self) -> dict[str, object]:
        """The answer as JSON has it."""
        return {name: _plain(value) for name, value in self._asdict().items()}


def _plain(value: object) -> object:
    """Objects for what has named fields, lists for what has not."""
    if isinstance(value, tuple):
        if hasattr(value, "_asdict"):
            return {name: _plain(one) for name, one in value._asdict().items()}
        return list(map(_plain, value))
    return value
