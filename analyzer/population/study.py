"""Compares the cases of a data set: which trait goes with slow or failing dumps, and since when.

Invariant: a finding is a difference that a test corrected for all comparisons of its round finds,
and that is large enough to matter; what was too small to compare is counted and said. A trait that
only echoes one found before (the date of a new version, say) is not found again: the effect of
what was found is taken out before the next round.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import InputError
from . import statistics as st
from .dataset import DataSet
from .measures import NEEDED, Measure, measure, times, traits
from .statistics import Array

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

#: trait, its value, the cases with it and those of which it is known
Group = tuple[str, str, Array, Array]
JsonRow = dict[str, Any]  #: numbers of a measure, by name

#: a corrected probability above this is chance
ALPHA = 0.01
#: smaller effects are not told: Cliff's delta of durations and rates, difference of shares
LEAST_DELTA, LEAST_SHARE = 0.2, 0.02
_LEVELS = 30  # the most common values of a trait are compared
_ROUNDS = 5
_FAR = 6.0  # robust standard deviations of the logarithm
_OUTLIERS = 20


class Difference(NamedTuple):
    """One finding of a population."""

    measure: Measure
    trait: str  #: "version of x.sys", ..., or "time"
    value: str  #: the value that stands out; for time: the UTC time of the change
    cases: int
    others: int
    inside: float  #: median, or share of cases for something that happened
    outside: float
    delta: float
    p: float  #: corrected by Holm's method
    tests: int  #: how many were corrected for
    strength: float  #: of the evidence, in standard deviations
    is_worse: bool
    since: int | None  #: first crash of the cases that stand out, ns since 1970


class Outlier(NamedTuple):
    """A case far from the others."""

    measure: Measure
    case: str
    value: float
    median: float
    distance: float  #: robust standard deviations of the logarithm


class Table:
    """The values of a population: measures and traits by case."""

    def __init__(self) -> None:
        self.cases = 0
        self.outcomes: dict[str, int] = {}
        self.rules: dict[tuple[str, str], int] = {}
        self._measures: dict[Measure, list[pd.Series]] = {}
        self._traits: dict[str, list[pd.Series]] = {}
        self._times: list[pd.Series] = []
        self.locations: dict[str, str] = {}

    def add(self, frames: Mapping[str, pd.DataFrame]) -> None:
        """The cases of one batch."""
        given = dict(frames)
        for key, values in measure(given).items():
            self._measures.setdefault(key, []).append(values)
        for name, values in traits(given).items():
            self._traits.setdefault(name, []).append(values)
        self._times.append(times(given))
        findings = given["findings"].drop_duplicates(["case", "rule"])
        sizes = findings.groupby(["rule", "severity"]).size()
        for (rule, severity), count in zip(sizes.index.tolist(), sizes.tolist()):
            told = (str(rule), str(severity))
            self.rules[told] = self.rules.get(told, 0) + int(count)

    def label(self, name: str, values: pd.Series) -> None:
        """One more trait, from elsewhere."""
        self._traits.setdefault(name, []).append(values)

    def joined(self) -> tuple[dict[Measure, pd.Series], dict[str, pd.Series], pd.Series]:
        """Series over all cases."""
        import pandas as pd

        def one(parts: list[pd.Series]) -> pd.Series:
            joined: pd.Series = pd.concat(parts)
            return joined.loc[~joined.index.duplicated()]

        measures = {key: one(parts) for key, parts in sorted(self._measures.items())}
        found = {name: one(parts) for name, parts in sorted(self._traits.items())}
        return measures, found, one(self._times or [pd.Series(dtype="int64")])


def table_of(data: DataSet) -> Table:
    """The values of a data set, read a batch at a time."""
    table = Table()
    for batch in data.batches():
        cases = data.table("cases", batch, ["case", "outcome"]).to_pandas()
        table.cases += len(cases)
        for outcome, count in cases["outcome"].value_counts().items():
            table.outcomes[outcome] = table.outcomes.get(outcome, 0) + int(count)
        frames = {
            name: _nullable(data.table(name, batch, columns)) for name, columns in NEEDED.items()
        }
        table.add(frames)
    return table


def _nullable(rows: pa.Table) -> pd.DataFrame:
    """A frame in which a missing integer does not make floats of the others."""
    import pandas as pd

    kinds = {
        "int64": pd.Int64Dtype(), "uint64": pd.UInt64Dtype(), "uint32": pd.UInt32Dtype(),
        "bool": pd.BooleanDtype(), "double": pd.Float64Dtype(),
    }  # fmt: skip
    frame: pd.DataFrame = rows.to_pandas(types_mapper=lambda kind: kinds.get(str(kind)))
    return frame


def label(table: Table, data: DataSet, path: str) -> None:
    """Traits from a CSV file with a column ``case`` or ``location``, such as an inventory has."""
    import pandas as pd

    try:
        labels = pd.read_csv(path, dtype="string")
    except (OSError, ValueError) as error:
        raise InputError(path, f"the labels cannot be read: {error}") from None
    if "case" not in labels and "location" not in labels:
        raise InputError(path, "the labels need a column 'case' or 'location'")
    if "case" not in labels:
        cases = {
            place: case for _, place, case in data.column_rows("locations", "location", "case")
        }
        labels["case"] = labels["location"].map(cases)
    labels = labels[labels["case"].notna()].drop_duplicates("case").set_index("case")
    for name in labels.columns:
        if name != "location":
            table.label(name, labels[name].dropna())


def of_folder(folder: str, labels: str = "") -> Study:
    """The study of a data set, with the traits of a CSV file if one is named."""
    data = DataSet(folder).read()
    table = table_of(data)
    if labels:
        label(table, data, labels)
    made = Study(table)
    _locate(made, data)
    return made


def _locate(study: Study, data: DataSet) -> None:
    """Where the cases lie that the report names."""
    wanted = {row.case for row in study.outliers}
    if wanted:
        for _, case, place in data.column_rows("locations", "case", "location"):
            if case in wanted and place is not None:
                study.table.locations.setdefault(case, place)


class Study:
    """The comparison of all measures with all traits."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.measures, self.traits, self.times = table.joined()
        self.differences: list[Difference] = []
        self.outliers: list[Outlier] = []
        self.tests = self.too_small = 0
        for key, values in self.measures.items():
            self._study(key, values)
        self.differences.sort(key=lambda found: -abs(found.strength))
        self.outliers.sort(key=lambda found: -found.distance)
        del self.outliers[_OUTLIERS:]

    def _study(self, key: Measure, values: pd.Series) -> None:
        cases = values.index
        x = values.to_numpy(float)
        is_share = key.unit == "yes"
        if not is_share:  # durations and rates differ by factors
            keep = x > 0
            cases, x = cases[keep], x[keep]
        work = x if is_share else np.log(x)
        groups, small = self._groups(cases)
        self.too_small += small
        when = (
            self.times.reindex(cases).to_numpy(float)
            if len(self.times)
            else np.full(len(x), np.nan)
        )
        left = np.ones(len(x), bool)
        for turn in range(_ROUNDS):
            best = self._round(key, x, work, groups, when, left, turn == 0)
            if best is None:
                break
            found, levels = best
            self.differences.append(found)
            if is_share:
                left &= ~levels[0]
            else:
                work = work.copy()
                for level in levels:
                    work[level] -= np.median(work[level])
        if not is_share and len(work) >= 20:
            self._outliers(key, cases, x, work)

    def _groups(self, cases: pd.Index) -> tuple[list[Group], int]:
        """Groups of cases by trait and value, each with the cases whose value is known."""
        found, small = [], 0
        for name, values in self.traits.items():
            here = values.reindex(cases)
            known = here.notna().to_numpy()
            counts = here.value_counts()
            levels = [level for level in counts.index[:_LEVELS] if counts[level] >= st.SMALLEST]
            small += min(len(counts), _LEVELS) - len(levels)
            if len(counts) < 2:
                continue
            for level in levels:
                inside = (here == level).fillna(False).to_numpy(bool)
                if int(known.sum()) - int(inside.sum()) < st.SMALLEST:
                    small += 1
                elif len(counts) == 2 and level == levels[0] and len(levels) == 2:
                    continue  # the mirror of the other one
                else:
                    found.append((name, str(level), inside, known))
        return found, small

    def _round(
        self, key: Measure, x: Array, work: Array, groups: list[Group], when: Array, left: Array,
        is_first: bool,
    ) -> tuple[Difference, list[Array]] | None:  # fmt: skip
        """The strongest difference, and the groups whose medians it sets apart."""
        is_share = key.unit == "yes"
        tried: list[tuple[float, float, float, str, str, Array, Array]] = []
        for name, level, inside, known in groups:
            use = known & left
            ins = inside & use
            one, two = int(ins.sum()), int(use.sum()) - int(ins.sum())
            if one < st.SMALLEST or two < st.SMALLEST:
                continue
            ranked, ties = st.ranks(work[use])
            seen = st.rank_sum(ranked, ties, ins[use])
            p = seen.p
            if is_share:
                rest = use & ~ins
                p = st.fisher(int(work[ins].sum()), one, int(work[rest].sum()), two)
            tried.append((p, seen.z, seen.delta, name, level, ins, use & ~ins))
        dated = ~np.isnan(when) & left
        if int(dated.sum()) >= 4 * st.SMALLEST:
            order = np.flatnonzero(dated)[np.argsort(when[dated], kind="stable")]
            ranked, ties = st.ranks(work[order])
            p, z, place = st.change(ranked, ties)
            if place:
                after, before = np.zeros(len(x), bool), np.zeros(len(x), bool)
                after[order[place:]], before[order[:place]] = True, True
                both = after | before
                ranked, ties = st.ranks(work[both])
                delta = st.rank_sum(ranked, ties, after[both]).delta
                date = _date(when[order[place]])
                tried.append((p, z, delta, "time", date, after, before))
        if is_first:
            self.tests += len(tried)
        if not tried:
            return None
        # Holm within a measure, Bonferroni over the measures
        corrected = [min(1.0, p * len(self.measures)) for p in st.holm([row[0] for row in tried])]
        best = None
        for p, (_, z, delta, name, level, ins, rest) in zip(corrected, tried):
            here, there = _middle(key, x[ins]), _middle(key, x[rest])
            effect = abs(here - there) if is_share else abs(delta)
            if p > ALPHA or effect < (LEAST_SHARE if is_share else LEAST_DELTA):
                continue
            if best is None or abs(z) > abs(best[0].strength):
                is_worse = (delta > 0) == (key.worse == "more")
                found = Difference(
                    key, name, level, int(ins.sum()), int(rest.sum()), here, there, delta, p,
                    len(tried) * len(self.measures), z, is_worse, self._since(when, ins),
                )  # fmt: skip
                best = (found, self._levels(groups, name, ins, rest))
        return best

    @staticmethod
    def _levels(groups: list[Group], name: str, ins: Array, rest: Array) -> list[Array]:
        """Every value of the trait by itself, so that all its effect is taken out."""
        if name == "time":
            return [level for level in (ins, rest, ~(ins | rest)) if level.any()]
        same = [inside for other, _, inside, _ in groups if other == name]
        levels = [ins] + [inside for inside in same if not (inside & ins).any()]
        single = np.any(levels, axis=0)
        unknown = ~(ins | rest) & ~single
        return [level for level in [*levels, rest & ~single, unknown] if level.any()]

    @staticmethod
    def _since(when: Array, inside: Array) -> int | None:
        dated = when[inside & ~np.isnan(when)]
        return int(dated.min()) if len(dated) else None

    def _outliers(self, key: Measure, cases: pd.Index, x: Array, work: Array) -> None:
        middle, spread = st.spread(work)
        if spread <= 0:
            return
        distance = (work - middle) / spread
        for index in np.flatnonzero(np.abs(distance) > _FAR).tolist():
            median = float(x[index] / math.exp(work[index] - middle))
            row = Outlier(key, str(cases[index]), float(x[index]), median, abs(distance[index]))
            self.outliers.append(row)

    def sides(self, found: Difference) -> tuple[pd.Series, pd.Series]:
        """The values of a difference's measure: of the cases that stand out, and of the others."""
        values = self.measures[found.measure]
        if found.trait == "time":
            trait = self.times.reindex(values.index)
            inside = trait >= found.since
        else:
            trait = self.traits[found.trait].reindex(values.index)
            inside = trait.astype("string") == found.value
        known = trait.notna().to_numpy(bool)
        stands = inside.fillna(False).to_numpy(bool)
        return values[known & stands], values[known & ~stands]

    def frame(self) -> pd.DataFrame:
        """A row a case: its measures, its traits and the time of its crash."""
        import pandas as pd

        columns = {f"{m.name} {m.subject}".strip(): x for m, x in self.measures.items()}
        when = pd.to_datetime(self.times, unit="ns", utc=True)
        frame = pd.DataFrame({"time": when, **self.traits, **columns})
        return frame.rename_axis("case")

    def distributions(self) -> list[JsonRow]:
        """Each measure over all cases and over the values of each trait."""
        rows = []
        for key, values in self.measures.items():
            rows.append({"trait": "all cases", "value": "", **_row(key, values)})
            for name, trait in self.traits.items():
                here = trait.reindex(values.index)
                common = here.value_counts().index[:_LEVELS]
                if len(common) > 1:
                    for level in common:
                        part = values[(here == level).fillna(False)]
                        rows.append({"trait": name, "value": str(level), **_row(key, part)})
        return rows


def _row(key: Measure, values: pd.Series) -> JsonRow:
    x = values.to_numpy(float)
    row: JsonRow = {"measure": key.name, "subject": key.subject, "unit": key.unit}
    row["cases"] = len(x)
    if key.unit == "yes":
        row["share"] = float(x.mean()) if len(x) else None
    else:
        for name, share in (("low", 0), ("p10", 10), ("median", 50), ("p90", 90), ("high", 100)):
            row[name] = float(np.percentile(x, share)) if len(x) else None
    return row


def _middle(key: Measure, x: Array) -> float:
    return float(np.mean(x) if key.unit == "yes" else np.median(x))


def _date(ns: float) -> str:
    from ..tables import iso_time

    return iso_time(int(ns))[:10]
