"""The answer as sections: the same for text, Markdown, HTML, the notebook and the debugger.

Invariant: nothing is decided or worded here that the answer does not hold; this module only says
what stands under which title.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from .. import formatting as fmt
from ..answer import Answer, FilterVerdict, Problem
from .blocks import Below, Block, Command, Entry, Pairs, Paragraph, Section, Table

#: problems that are shown with their text; the rest are titles
MOST_PROBLEMS = 5
_NOTHING = "-"
#: columns of the verdicts: title, field, whether it is shown even when no filter fills it
_COLUMNS = (
    ("in stack", "position", True),
    ("filter", "filter", True),
    ("state", "state", False),
    ("Dump_Start", "dump_start", True),
    ("returned", "status", False),
    ("took", "duration", False),
)


def of_answer(answer: Answer, most: int = MOST_PROBLEMS) -> Iterator[Section]:
    """Crashes, filters, what is wrong, what to do next; an empty one is left out."""
    if answer.crashes:
        title = "Crashes, the newest first"
        title += " (those without a time are in no known order)" if answer.untimed else ""
        yield Section("crashes", title, list(map(Paragraph, answer.crashes)))
    more = [Paragraph(text) for text in (*answer.remarks, *answer.machine)]
    if answer.filters:
        yield Section("filters", "Crash dump filters", [*_filters(answer), *more])
    elif more:
        yield Section("remarks", "Remarks" if answer.remarks else "", more)
    if answer.problems:
        yield Section("problems", "What is wrong", list(_problems(answer, most)))
    if answer.steps:
        yield Section("next", "What to do next", list(_steps(answer)))
    yield Section("limits", "", [Paragraph(text) for text in closing(answer)])


def closing(answer: Answer) -> list[str]:
    """The last lines: notes, what cannot be known, what was checked."""
    noted = f"Also noted: {'. '.join(answer.notes)}." if answer.notes else ""
    verdict = "" if answer.problems else "No error and no warning. "
    return [text for text in (noted, answer.unknown, verdict + answer.checked) if text]


def _filters(answer: Answer) -> Iterator[Block]:
    groups: dict[tuple[int | None, str], list[FilterVerdict]] = {}
    for one in answer.filters:
        groups.setdefault((one.crash, one.stack), []).append(one)
    is_told = bool(answer.crashes) or len({crash for crash, _ in groups}) > 1
    for (crash, stack), rows in groups.items():
        if is_told or len(groups) > 1:
            of = "of no certain crash, " if crash is None else f"crash {crash}, "
            where = fmt.capital(f"{of if is_told else ''}{stack} stack:")
            if is_told and all(one.position.startswith("registered") for one in rows):
                where = "Registered (tied to none of the crashes):"
            yield Paragraph(where)
        yield verdict_table(rows)
    inferred: dict[str, dict[str, None]] = {}
    for one in answer.filters:
        if one.is_inferred:
            inferred.setdefault(one.evidence, {})[one.filter] = None
    for why, names in inferred.items():
        said = next(one.dump_start for one in answer.filters if one.evidence == why)
        of = f"Dump_Start of {fmt.some(list(names))} {said}" if len(inferred) > 1 else said
        yield Paragraph(f"{fmt.capital(of)}: {why}.")


def verdict_table(rows: list[FilterVerdict]) -> Table:
    """A row per filter; below it what is known of its FILTER_EXTENSION and what is wrong."""
    told = [c for c in _COLUMNS if c[2] or any(getattr(one, c[1]) for one in rows)]
    below = []
    last = ""
    for one in rows:
        is_same = bool(one.extension) and one.extension == last
        last = one.extension
        below.append(list(_below(one._replace(extension="as above") if is_same else one)))
    return Table(
        [title for title, _, _ in told],
        [[getattr(one, field) or _NOTHING for _, field, _ in told] for one in rows],
        below,
        {
            (row, column): one.wrong[field]
            for row, one in enumerate(rows)
            for column, (_, field, _) in enumerate(told)
            if field in one.wrong
        },
    )


def _below(one: FilterVerdict) -> Iterator[Below]:
    product = "" if one.stack == "hibernation" else one.product
    if one.encrypts and product:
        product += f"; {one.encrypts}" if product else one.encrypts
    for line in (
        Below("product", product),
        Below("known by", "" if one.is_inferred else one.evidence),
        Below("FILTER_EXTENSION", one.extension, one.wrong.get("extension", "")),
        *(Below("also", *remark) for remark in one.remarks),
        *(Below("WRONG", *fault) for fault in one.faults),
    ):
        if line.value:
            yield line


def _problems(answer: Answer, most: int) -> Iterator[Block]:
    for problem in answer.problems[:most]:
        about = [problem.subject] if problem.subject not in problem.title else []
        about += [problem.source] if problem.source else []
        count = f" ({problem.findings} times)" if problem.findings > 1 else ""
        yield Entry(
            problem.severity, problem.title + count, ", ".join(about), problem.text, problem.advice,
            problem.rule, also=f"Seen also as: {'. '.join(problem.also)}." if problem.also else "",
        )  # fmt: skip
    rest = answer.problems[most:]
    if rest:
        # nothing was shown that these would be more than, where the lines allow no entry
        begun = f"And {len(rest)} more" if most else _counted(rest)
        yield Paragraph(f"{begun}: {'. '.join(p.title for p in rest)}.")


def _counted(problems: Sequence[Problem]) -> str:
    kinds = Counter(p.severity for p in problems)
    return fmt.listed(fmt.counted(count, severity) for severity, count in sorted(kinds.items()))


def _steps(answer: Answer) -> Iterator[Block]:
    for step in answer.steps:
        yield Paragraph(f"{step.text}:" if step.command else f"{step.text}.")
        for command in step.command.split("\n"):
            if command:
                yield Command(command)


def pairs(*rows: tuple[str, str]) -> Pairs:
    """Pairs without those that have no value."""
    return Pairs([(name, value) for name, value in rows if value])
