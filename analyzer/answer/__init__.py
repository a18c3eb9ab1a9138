"""The answer to a case: one model, made once, shown by every report.

Invariant: :func:`answer_of` reads records and findings and changes none of them.
"""

from __future__ import annotations

from typing import Any

from .. import formatting as fmt
from ..checks import RULES, culprit
from ..checks.coverage import coverage
from ..checks.crashes import Index
from ..records import Records
from . import crash, filters, headline, machine, next_steps, problems, remarks
from .model import Answer, FilterVerdict, Problem, Remark, Step

__all__ = ["Answer", "FilterVerdict", "Problem", "Remark", "Step", "answer_of"]

_MOST_CRASHES = 12
_LONG = 1000


def answer_of(records: Records) -> Answer:
    """The answer to what was given."""
    names = fmt.file_names(s.path for s in records["sources"])
    for row in records["crashes"]:
        names.setdefault(row.origin.source, fmt.clean(row.origin.source, 60))
    index = Index(records["crashes"])
    numbers = index.numbers()
    is_only = len(numbers) == 1
    blamed = culprit.of_crashes(records, index)
    if not is_only:
        blamed.append(culprit.of_machine(records["findings"]))
    culprits = [one for one in blamed if one is not None]
    newest = [one for one in blamed[:1] if one is not None] if numbers else culprits
    verdicts = tuple(filters.verdicts(records, index))
    wrong = problems.problems(records, culprits, names)
    lines = [crash.line(index, number, names) for number in reversed(numbers)]
    made = Answer(
        headline=headline.headline(records, index, verdicts, newest, names),
        crashes=tuple(lines[:_MOST_CRASHES]) if len(numbers) > 1 else (),
        untimed=sum(not crash.when(index.by_number[number]) for number in numbers),
        machine=tuple(machine.lines(records, index)),
        filters=verdicts,
        remarks=tuple(remarks.remarks(records, index, names)),
        problems=wrong,
        notes=problems.notes(records, wrong),
        steps=tuple(next_steps.steps(records)),
        unknown=next_steps.unknown(records),
        checked=_checked(records),
    )
    return Answer(*map(_cleaned, made))


def _cleaned(value: Any) -> Any:
    """Every text without control characters, wherever it came from."""
    if isinstance(value, str):
        return (
            fmt.clean(value, _LONG)
            if "\n" not in value
            else "\n".join(fmt.clean(line, _LONG) for line in value.split("\n"))
        )
    if isinstance(value, tuple):
        cells = [_cleaned(cell) for cell in value]
        return type(value)(*cells) if hasattr(value, "_fields") else tuple(cells)
    return value


def _checked(records: Records) -> str:
    found = coverage(records, RULES)
    text = f"{fmt.counted(found.passed, 'check')} passed"
    if found.missing:
        most = sorted(found.missing.items(), key=lambda pair: -pair[1])
        text += f"; {sum(found.missing.values())} more need "
        text += "other evidence, such as " if len(most) > 3 else ""
        text += fmt.listed((what for what, _ in most[:3]), "or")
    return text + "."
