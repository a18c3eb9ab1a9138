"""One case: everything that several files tell of one crash, as tables, report and exit code.

Invariant: each input is either read or named as unusable; none is dropped without a word.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Callable

from . import checks, sources
from .absence import Absent
from .checks.rule import SEVERITIES
from .errors import AnalyzerError, InputError, UsageError
from .records import Anomaly, Origin, Records, Source

if TYPE_CHECKING:
    import pandas as pd

#: called with what is being done, how much of it is done and how much there is
Progress = Callable[[str, int, int], None]

FAIL_ON = ("error", "warning", "never")


def _table(name: str) -> cached_property[pd.DataFrame]:
    def build(case: Case) -> pd.DataFrame:
        from .tables import frame

        return frame(name, case.records[name])

    build.__doc__ = f"The table ``{name}`` as a DataFrame, made when first asked for."
    return cached_property(build)


class Case:
    """What one or several sources told, with the findings of the checks."""

    sources = _table("sources")
    machine = _table("machine")
    modules = _table("modules")
    structures = _table("structures")
    filters = _table("filters")
    extensions = _table("extensions")
    callbacks = _table("callbacks")
    stages = _table("stages")
    requests = _table("requests")
    events = _table("events")
    residue = _table("residue")
    tags = _table("tags")
    settings = _table("settings")
    findings = _table("findings")

    def __init__(self, records: Records) -> None:
        self.records = records

    def report(self, format: str = "text", **options: Any) -> str:
        """The report as text, in one of :data:`analyzer.reports.FORMATS`."""
        from . import reports

        return "".join(reports.write(self.records, format, **options))

    def exit_code(self, fail_on: str = "warning") -> int:
        """1 when a finding is at least as severe as ``fail_on``, else 0."""
        if fail_on not in FAIL_ON:
            raise UsageError(f"fail_on is one of {', '.join(FAIL_ON)}, not '{fail_on}'")
        if fail_on == "never":
            return 0
        failing = SEVERITIES[: SEVERITIES.index(fail_on) + 1]
        return int(any(finding.severity in failing for finding in self.records["findings"]))

    def __repr__(self) -> str:
        counts = (f"{name} {len(rows)}" for name, rows in self.records.tables.items() if len(rows))
        return f"<Case: {', '.join(counts) or 'no records'}>"


def open_case(paths: Sequence[Any], progress: Progress | None = None, **options: Any) -> Case:
    """Reads the files, merges what they tell and runs the checks.

    A file that cannot be used raises when it is the only one; beside others that can be used it
    becomes the finding ``input-unusable``. ``options`` go to the sources that know them.
    """
    if not paths:
        raise UsageError("no file was given")
    if progress is not None:
        options["progress"] = progress
    records, failed, names = Records(), [], _distinct(paths)
    for place, path in enumerate(names):
        if progress is not None:
            progress(f"reading {os.path.basename(path)}", place, len(names))
        try:
            records.extend(sources.collect(path, **options))
        except AnalyzerError as error:
            failed.append(error)
            records.add(*_unusable(path, error))
    if len(failed) == len(names):
        if len(failed) == 1:
            raise failed[0]
        raise AnalyzerError(
            f"none of the {len(names)} files can be used: " + " ".join(map(str, failed))
        )
    if progress is not None:
        progress("checking", len(names), len(names))
    records.add(*checks.run(records))
    return Case(records)


def _distinct(paths: Sequence[Any]) -> list[str]:
    """The paths without repetition, so that a file named twice is not counted twice."""
    names = [os.fspath(path) for path in paths]
    return list({os.path.normcase(os.path.realpath(name)): name for name in names}.values())


def _unusable(path: str, error: AnalyzerError) -> list[Any]:
    origin = Origin(path, "opening the file")
    why = Absent("not-found", str(error))
    problem = error.problem if isinstance(error, InputError) else str(error)
    nothing = Source(path, why, why, None, why, why, "everything", origin)
    return [nothing, Anomaly("input-unusable", f"{error}", origin, path, (f"problem = {problem}",))]
