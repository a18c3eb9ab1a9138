"""A study as text, JSON or HTML.

Invariant: all three state the same; every sentence has the numbers it rests on, and small numbers
are called small.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from ..formatting import aligned, clean, counted, duration
from ..tables import iso_time
from . import statistics as st
from .measures import Measure
from .study import ALPHA, Difference, JsonRow, Study

SCHEMA_NUMBER = 1
FEW = 30


def amount(measure: Measure, value: float) -> str:
    """A value of a measure in words."""
    if measure.unit == "ns":
        return duration(round(value))
    return f"{value:.1%} of cases" if measure.unit == "yes" else f"{value:.4g} {measure.unit}"


def _about(measure: Measure) -> str:
    name = clean(measure.name, 80)
    return f"{name} in {clean(measure.subject, 60)}" if measure.subject else name


def sentence(found: Difference) -> str:
    """One difference as a sentence."""
    measure = found.measure
    about = _about(measure)
    if found.trait == "time":
        where, others = f"from {found.value} on", "before"
    else:
        where, others = f"with {clean(found.trait, 80)} {clean(found.value, 80)}", "in the others"
    text = f"{about[0].upper()}{about[1:]}: {amount(measure, found.inside)} {where} "
    text += f"({counted(found.cases, 'case')}), {amount(measure, found.outside)} {others} "
    text += f"({counted(found.others, 'case')})."
    if measure.unit != "yes" and found.outside > 0:
        text += f" {found.inside / found.outside:.2f} times as much."
    text += f" Cliff's delta {found.delta:+.2f}, p {_p(found.p)} corrected for "
    text += f"{counted(found.tests, 'test')}."
    if found.since is not None and found.trait != "time":
        text += f" First seen {iso_time(found.since)[:10]}."
    if min(found.cases, found.others) < FEW:
        text += " Few cases: take it as a hint."
    return text


def _p(p: float) -> str:
    return "below 1e-15" if p < 1e-15 else f"{p:.1g}"


def summary(study: Study) -> list[str]:
    """What was compared."""
    table = study.table
    told = ", ".join(f"{n} {outcome}" for outcome, n in sorted(table.outcomes.items()))
    lines = [f"{counted(table.cases, 'case')}: {told}." if told else "No cases."]
    lines.append(
        f"{counted(len(study.measures), 'measure')} compared by "
        f"{counted(len(study.traits), 'trait')} and time: {counted(study.tests, 'test')}, "
        "corrected by Holm's method within a measure and by Bonferroni's over the measures; a "
        f"difference is told when p is below {ALPHA} and the effect is not small."
    )
    if study.too_small:
        groups = counted(study.too_small, "group")
        lines.append(f"{groups} of fewer than {st.SMALLEST} cases (or others) not compared.")
    lines.append("A difference goes with a trait; that the trait is its cause is not shown.")
    return lines


def _nothing(study: Study) -> str:
    """Why no difference is told."""
    if not study.tests:
        return "Nothing could be compared: there are too few cases, or all are alike."
    return "No trait goes with a difference that the tests find."


def text(study: Study) -> Iterator[str]:
    """The report as text."""
    yield "\n".join(summary(study)) + "\n"
    for title, rows in (("Worse", True), ("Better", False)):
        found = [row for row in study.differences if row.is_worse is rows]
        if found:
            yield f"\n{title}\n"
            yield from (f"  {place}. {sentence(row)}\n" for place, row in enumerate(found, 1))
    if not study.differences:
        yield f"\n{_nothing(study)}\n"
    if study.outliers:
        yield "\nFar from the others\n"
        cells = [
            (
                _about(row.measure),
                amount(row.measure, row.value),
                f"usual {amount(row.measure, row.median)}",
                clean(study.table.locations.get(row.case, row.case), 60),
            )
            for row in study.outliers
        ]
        yield "\n".join(aligned(cells)) + "\n"
    if study.table.rules:
        yield "\nFindings of single cases\n"
        seen = [(f"{n} ({share:.1%})", level, rule) for n, share, level, rule in _rules(study)]
        yield "\n".join(aligned(seen)) + "\n"
    rows_all = [row for row in study.distributions() if row["trait"] == "all cases"]
    if rows_all:
        yield "\nMeasures over all cases (the other formats have them by trait)\n"
        yield "\n".join(aligned([_distribution(row) for row in rows_all])) + "\n"


def _rules(study: Study) -> list[tuple[int, float, str, str]]:
    """Findings by how common they are."""
    total = max(1, study.table.outcomes.get("analysed", 0))
    rows = sorted(study.table.rules.items(), key=lambda item: (-item[1], item[0]))
    return [(n, n / total, clean(severity), clean(rule)) for (rule, severity), n in rows]


def _distribution(row: JsonRow) -> list[str]:
    measure = Measure(row["measure"], row["subject"], row["unit"], "")
    cells = [
        clean(row["measure"], 80),
        clean(row["subject"], 40),
        clean(f"{row['trait']} {row['value']}", 70),
    ]
    cells.append(counted(row["cases"], "case"))
    if "share" in row:
        return [*cells, amount(measure, row["share"]), "", ""]
    return cells + [f"{name} {amount(measure, row[name])}" for name in ("p10", "median", "p90")]


def data(study: Study) -> dict[str, object]:
    """The report as JSON has it."""
    differences = []
    for row in study.differences:
        values = row._asdict()
        measure = values.pop("measure")
        since = None if row.since is None else iso_time(row.since)
        differences.append({**measure._asdict(), **values, "since": since, "text": sentence(row)})
    outliers = [
        {**row.measure._asdict(), **dict(zip(row._fields[1:], row[1:])),
         "location": study.table.locations.get(row.case)}
        for row in study.outliers
    ]  # fmt: skip
    rules = [dict(zip(("cases", "share", "severity", "rule"), row)) for row in _rules(study)]
    return {
        "population": SCHEMA_NUMBER,
        "summary": summary(study),
        "cases": study.table.cases,
        "outcomes": study.table.outcomes,
        "differences": differences,
        "outliers": outliers,
        "findings": rules,
        "distributions": study.distributions(),
    }


def as_json(study: Study) -> Iterator[str]:
    """The report as JSON text."""
    yield json.dumps(data(study), indent=1) + "\n"


def html(study: Study) -> Iterator[str]:
    """The report as one HTML page without script, in the style of a case's report."""
    from ..reports.html import _environment, _hash, _text

    style = _text("report.css")
    rows = [_distribution(row) for row in study.distributions()]
    template = _environment().from_string(_PAGE)
    from markupsafe import Markup

    yield template.render(
        policy=f"default-src 'none'; style-src '{_hash(style)}'; base-uri 'none'",
        style=Markup(style),  # noqa: S704  # our own file
        summary=summary(study),
        worse=[sentence(row) for row in study.differences if row.is_worse],
        nothing="No trait goes with worse values." if study.differences else _nothing(study),
        better=[sentence(row) for row in study.differences if not row.is_worse],
        outliers=[
            (clean(row.measure.name, 80), clean(row.measure.subject, 60),
             amount(row.measure, row.value), amount(row.measure, row.median),
             clean(study.table.locations.get(row.case, row.case)))
            for row in study.outliers
        ],
        rules=[(n, f"{share:.1%}", s, rule) for n, share, s, rule in _rules(study)],
        rows=rows,
    )  # fmt: skip


_PAGE = """\
{% macro table(heads, rows) %}<div class="scroll" tabindex="0"><table>
<thead><tr>{% for head in heads %}<th scope="col">{{ head }}</th>{% endfor %}</tr></thead><tbody>
{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>{% endmacro %}
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Population of crash dumps</title><style>{{ style }}</style></head><body>
<header><div class="head"><p class="kicker">Crash dump filters</p><h1>Population</h1></div></header>
<main>
<section><h2>Answer</h2><ul class="answer">{% for line in summary %}<li>{{ line }}</li>
{% endfor %}</ul></section>
<section><h2>Worse</h2><ol>{% for line in worse %}<li>{{ line }}</li>
{% else %}<li>{{ nothing }}</li>{% endfor %}</ol></section>
{% if better %}<section><h2>Better</h2><ol>{% for line in better %}<li>{{ line }}</li>
{% endfor %}</ol></section>{% endif %}
{% if outliers %}<section><h2>Far from the others</h2>
{{ table(["measure", "filter", "value", "usual", "case"], outliers) }}</section>{% endif %}
{% if rules %}<section><h2>Findings of single cases</h2>
{{ table(["cases", "share", "severity", "rule"], rules) }}</section>{% endif %}
<section><h2>Distributions</h2>
{{ table(["measure", "filter", "cases with", "cases", "p10 or share", "median", "p90"], rows) }}
</section></main></body></html>
"""
