"""What is normal for a fleet, saved, and one case judged against it.

Invariant: a measure of fewer than 20 cases (100 for failures) judges nothing, and that is said. The
limits are robust: six scaled median absolute deviations of the logarithm around the median.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypedDict

from ..errors import InputError
from ..formatting import counted
from ..records import Anomaly, Evidence, Origin, Records
from .measures import Measure, measure, of_records, traits
from .report import amount

if TYPE_CHECKING:
    from .study import Study

KEY = "dumpstart_baseline"
SCHEMA_NUMBER = 1
ENOUGH = 20
#: that something happens in at most one of a hundred cases cannot be seen in fewer
ENOUGH_FOR_RARE = 100
_FAR = 6.0
#: a spread below this is taken for it: no fleet is as even as a few equal values look
_LEAST_SPREAD = 0.02


class Normal(TypedDict, total=False):
    """A measure of a fleet: the share where it happens, else median and spread of logarithms."""

    name: str
    subject: str
    cases: int
    share: float
    median: float
    spread: float


class Baseline(TypedDict):
    """What is read of a baseline."""

    measures: list[Normal]
    versions: dict[str, dict[str, int]]  #: driver -> version -> cases


def of_study(study: Study) -> dict[str, object]:
    """The baseline of a population."""
    import numpy as np

    from .statistics import spread

    rows = []
    for key, values in study.measures.items():
        x = values.to_numpy(float)
        row: dict[str, object] = {**key._asdict(), "cases": len(x)}
        if key.unit == "yes":
            row["share"] = float(x.mean())
        else:
            x = x[x > 0]
            if not len(x):
                continue
            middle, wide = spread(np.log(x))
            row.update(median=math.exp(middle), spread=max(wide, _LEAST_SPREAD), cases=len(x))
        rows.append(row)
    versions = {
        name[len("version of ") :]: {str(k): int(n) for k, n in values.value_counts().items()}
        for name, values in study.traits.items()
        if name.startswith("version of ")
    }
    return {
        KEY: SCHEMA_NUMBER,
        "cases": study.table.outcomes.get("analysed", 0),
        "measures": rows,
        "versions": versions,
    }


def is_baseline(path: str) -> bool:
    """True for a file that :func:`of_study` made, by its first bytes."""
    if not os.path.isfile(path):
        return False  # to open a pipe would wait for a writer
    try:
        with open(path, "rb") as file:
            return file.read(64).lstrip().startswith(b'{"' + KEY.encode() + b'"')
    except OSError:
        return False  # the source says what is wrong with it


def load(path: str) -> Baseline:
    """A baseline from its file."""
    try:
        with open(path, encoding="utf-8") as file:
            said = json.load(file)
        if said[KEY] != SCHEMA_NUMBER:
            problem = f"the baseline has schema {said[KEY]}, this version reads {SCHEMA_NUMBER}"
            raise InputError(path, problem, advice="save it again")
        for row in said["measures"]:
            Measure(row["name"], row["subject"], row["unit"], row["worse"])
            float(row["share"] if row["unit"] == "yes" else row["median"] * row["spread"])
            int(row["cases"])
        for known in said["versions"].values():
            sum(known.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(path, f"the baseline cannot be read: {error}") from None
    result: Baseline = said
    return result


def judge(records: Records, baseline: Baseline, path: str) -> Iterator[Anomaly]:
    """What of one case is not as in the fleet."""
    frames = of_records(records)
    known = {(r["name"], r["subject"]): r for r in baseline["measures"]}
    small = []
    for key, values in measure(frames).items():
        row = known.get((key.name, key.subject))
        subject = f" in {key.subject}" if key.subject else ""
        enough = ENOUGH_FOR_RARE if key.unit == "yes" else ENOUGH
        if row is None or row["cases"] < enough:
            small.append(f"{key.name}{subject} = {0 if row is None else row['cases']} cases")
            continue
        value = float(values.iloc[0])
        if key.unit == "yes":
            if value and row["share"] <= 0.01:
                text = f"{key.name}{subject}: this happened here, and in {row['share']:.2%} of "
                yield _anomaly("fleet-rare-failure", text, row, key, path)
            continue
        if value <= 0:
            continue
        distance = math.log(value / row["median"]) / row["spread"]
        if (distance if key.worse == "more" else -distance) > _FAR:
            text = f"{key.name}{subject} is {amount(key, value)}; the median is "
            text += f"{amount(key, row['median'])} in "
            yield _anomaly("fleet-slower", text, row, key, path)
    for name, values in traits(frames).items():
        driver = name.partition("version of ")[2]
        seen = baseline["versions"].get(driver) if driver else None
        if seen and sum(seen.values()) >= ENOUGH and values.iloc[0] not in seen:
            yield Anomaly(
                "fleet-unknown-version",
                f"{driver} has version {values.iloc[0]}, which none of the {sum(seen.values())} "
                f"cases with this driver in the baseline has ({len(seen)} versions).",
                Origin(path, "compared with a fleet"),
                driver,
            )
    if small:
        yield Anomaly(
            "fleet-too-few",
            f"{counted(len(small), 'measure')} {'was' if len(small) == 1 else 'were'} not judged: "
            f"the baseline has fewer than {ENOUGH} cases of each, or fewer than {ENOUGH_FOR_RARE} "
            "of something that happens or does not.",
            Origin(path, "compared with a fleet"),
            evidence=tuple(Evidence("", measure) for measure in small),
        )


def _anomaly(rule: str, text: str, row: Normal, key: Measure, path: str) -> Anomaly:
    text = f"{text[0].upper()}{text[1:]}{row['cases']:,} cases of the baseline."
    cases = Evidence("cases", row["cases"], "Number")
    return Anomaly(rule, text, Origin(path, "compared with a fleet"), key.subject, (cases,))
