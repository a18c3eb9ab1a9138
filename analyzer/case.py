"""One case: everything that several files tell of a machine's crashes, as tables and report.

Invariant: each input is either read or named as unusable; none is dropped without a word.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Callable

from . import checks, sources
from .absence import Absent
from .checks import crashes
from .checks.rule import FAIL_ON, fails
from .errors import AnalyzerError, InputError, UnsupportedError, UsageError
from .files import Paths, listed, state
from .gather import Gathered, Input, Verdict, gather
from .records import Anomaly, Evidence, Origin, Records, Source
from .sources.options import FLAGS
from .sources.options import check as check_options

if TYPE_CHECKING:
    import pandas as pd

    from .answer import Answer
    from .dryrun.ask import Ask
    from .gate import Gate

#: called with what is being done, how much of it is done and how much there is
Progress = Callable[[str, int, int], None]
#: compares records with what is known from elsewhere
Judge = Callable[[Records], Iterable[Anomaly]]

#: so many unusable files are named in a sentence
_SHOWN = 5


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
    crashes = _table("crashes")
    modules = _table("modules")
    structures = _table("structures")
    filters = _table("filters")
    extensions = _table("extensions")
    callbacks = _table("callbacks")
    dry_runs = _table("dry_runs")
    stages = _table("stages")
    requests = _table("requests")
    events = _table("events")
    processors = _table("processors")
    frames = _table("frames")
    residue = _table("residue")
    tags = _table("tags")
    settings = _table("settings")
    findings = _table("findings")

    def __init__(self, records: Records, again: Callable[[Ask], Case] | None = None) -> None:
        self.records = records
        self._again = again

    def dry_run(self, *filters: str, callbacks: Sequence[str] = ()) -> pd.DataFrame:
        """Calls callbacks on a copy of the memory, all or those named; the table ``dry_runs``.

        The inputs are read again. UsageError where the emulator is not installed.
        """
        from .dryrun.ask import Ask, require

        require()
        if self._again is None:
            raise UsageError("this case was not read from files")
        self.records = self._again(Ask(True, tuple(filters), tuple(callbacks))).records
        for name in self.records.tables:
            self.__dict__.pop(name, None)  # a frame that was made of the records before
        return self.dry_runs

    @cached_property
    def answer(self) -> Answer:
        """The answer: headline, a verdict per filter, what is wrong, what to do next."""
        from .answer import answer_of

        return answer_of(self.records)

    def report(self, format: str = "text", **options: object) -> str:
        """The report as text, in one of :data:`analyzer.reports.FORMATS`."""
        from . import reports

        return "".join(reports.write(self.records, format, **options))

    def save(
        self, path: str | os.PathLike[str], format: str | None = None, **options: object
    ) -> None:
        """Writes the report to a file, whole or not at all, in the format its name ends with.

        UsageError when the file is one of the inputs or its name says no format.
        """
        from . import outputs, reports

        target = os.fspath(path)
        suffix = os.path.splitext(target)[1].lower()
        chosen = format or reports.SUFFIXES.get(suffix, "")
        if chosen not in reports.FORMATS:
            known = ", ".join(
                sorted(s for s, f in reports.SUFFIXES.items() if f in reports.FORMATS)
            )
            raise UsageError(f"'{target}' says no format of a report: end it in {', '.join(known)}")
        outputs.protect(target, [str(row.path) for row in self.records["sources"]])
        outputs.write(target, reports.write(self.records, chosen, **options))

    def exit_code(self, fail_on: str = "warning") -> int:
        """1 when a finding counts by ``fail_on`` (a severity, "expectation" or "never"), else 0."""
        if fail_on not in FAIL_ON:
            raise UsageError(f"fail_on is one of {', '.join(FAIL_ON)}, not '{fail_on}'")
        return int(any(fails(finding, fail_on) for finding in self.records["findings"]))

    def _repr_html_(self) -> str:
        """How a notebook shows the case."""
        from .reports.html import summary

        return summary(self.records)

    def __repr__(self) -> str:
        counts = (f"{name} {len(rows)}" for name, rows in self.records.tables.items() if len(rows))
        return f"<Case: {', '.join(counts) or 'no records'}>"


def open_case(
    paths: Paths,
    progress: Progress | None = None,
    judges: Sequence[Judge] = (),
    dry_run: Ask | None = None,
    gate: Gate | None = None,
    **options: Paths,
) -> Case:
    """Reads the files, merges what they tell and runs the checks.

    A path may be a folder or a zip archive; what is in it and no input is listed and passed over. A
    file that cannot be used raises when it is the only one; beside others that can be used it
    becomes the finding ``input-unusable``. ``judges`` say more about the records before the checks
    run, ``gate`` looks at what these find; ``options`` (those of
    :data:`analyzer.sources.options.FLAGS`) go to the sources that know them, and are refused when
    none does.
    """
    unknown = sorted(options.keys() - FLAGS.keys())
    if unknown:
        raise TypeError(f"open_case() got an unexpected keyword argument '{unknown[0]}'")
    paths, files = listed(paths), {name: listed(value) for name, value in options.items()}
    if not paths:
        raise UsageError("no file was given")
    if dry_run is not None and progress is not None:
        dry_run = dry_run._replace(progress=progress)
    gathered = gather(paths)
    try:
        gathered.finish()
        check_options(files, [item.path for item in gathered.inputs])
        before = [state(item.path) for item in gathered.inputs]
        records = _read(gathered, progress, {**files, "dry_run": dry_run})
        if progress is not None:
            progress("checking", len(gathered.inputs), len(gathered.inputs))
        for item, was in zip(gathered.inputs, before):
            if state(item.path) != was:
                records.add(_changed(item.name))
    finally:
        gathered.close()
    records.add(*crashes.group(records))
    for judge in judges:
        records.add(*judge(records))
    records.add(*checks.run(records))
    if gate is not None:
        gate.judge(records)

    def again(ask: Ask) -> Case:
        return open_case(paths, progress, judges, ask, gate, **files)

    return Case(records, again)


def _changed(name: str) -> Anomaly:
    text = f"{name} changed while it was read; what is said of it may not hold together."
    return Anomaly("input-changed", text, Origin(name, "whole file"), name)


def _read(gathered: Gathered, progress: Progress | None, options: dict[str, object]) -> Records:
    """What all inputs tell; raises when none of them can be used."""
    records = Records()
    failed: list[AnalyzerError] = []
    passed = list(gathered.passed)
    for place, item in enumerate(gathered.inputs):
        if progress is not None:
            progress(f"reading {os.path.basename(item.name)}", place, len(gathered.inputs))
        try:
            part = sources.collect(item.path, progress=progress, **options)
        except AnalyzerError as error:
            failed.append(error)
            why = str(error).replace(item.path, item.name)
            if not item.is_named and _is_of_no_kind(item, error):
                passed.append(Verdict(item.name, _problem(error)))
            else:
                records.add(*_unusable(item.name, why, error))
        else:
            records.extend(part if item.path == item.name else _renamed(part, item))
    if len(failed) == len(gathered.inputs):
        raise _nothing(failed, gathered)
    records.add(*(_verdict(name, why) for name, why, _ in passed))
    records.add(*gathered.anomalies)
    quiet = [verdict for verdict in passed if not verdict.is_said]
    if quiet:
        records.add(_passed_over(quiet))
    return records


def _is_of_no_kind(item: Input, error: AnalyzerError) -> bool:
    """True for a file that is no input at all, not for an input that is damaged."""
    return isinstance(error, UnsupportedError) and not sources.identify(item.path).module


def _nothing(failed: Sequence[AnalyzerError], gathered: Gathered) -> AnalyzerError:
    """The error when no input can be used: the one of the file, or all of them in one."""
    if len(failed) == 1 and gathered.inputs[0].is_named and not gathered.passed:
        return failed[0]
    if len(failed) > 1 and all(item.is_named for item in gathered.inputs):
        said = " ".join(map(str, failed))
        return AnalyzerError(f"none of the {len(failed)} files can be used: {said}")
    whys = [f"{item.name}: {_problem(error)}" for item, error in zip(gathered.inputs, failed)]
    whys += [f"{verdict.name}: {verdict.why}" for verdict in gathered.passed]
    if not whys:
        return AnalyzerError("there is no file in what was given.")
    more = f"; and {len(whys) - _SHOWN} more" if len(whys) > _SHOWN else ""
    count = f"none of the {len(whys)} files found" if len(whys) > 1 else "the one file found"
    cannot = "can be used" if len(whys) > 1 else "cannot be used"
    return AnalyzerError(f"{count} {cannot}: {'; '.join(whys[:_SHOWN])}{more}.")


def _problem(error: AnalyzerError) -> str:
    return error.problem if isinstance(error, InputError) else str(error)


def _verdict(name: str, why: str) -> Source:
    """The row of a file that was not read."""
    reason = Absent("not-applicable", why)
    origin = Origin(name, "opening the file")
    return Source(name, reason, reason, None, reason, reason, "everything", origin)


def _unusable(name: str, why: str, error: AnalyzerError) -> list[Source | Anomaly]:
    problem = (Evidence("problem", _problem(error)),)
    origin = Origin(name, "opening the file")
    return [_verdict(name, why), Anomaly("input-unusable", why, origin, name, problem)]


def _passed_over(quiet: Sequence[Verdict]) -> Anomaly:
    files = "file is" if len(quiet) == 1 else "files are"
    return Anomaly(
        "input-passed-over",
        f"{len(quiet)} {files} of no kind that this tool reads; the table sources lists each.",
        Origin(quiet[0].name, "recognition by content"),
        evidence=tuple(Evidence(name, why) for name, why, _ in quiet[:_SHOWN]),
    )


def _renamed(part: Records, item: Input) -> Records:
    """The records of a file out of an archive, under the name it has there."""
    for table, rows in part.tables.items():
        if isinstance(rows, list):
            part.tables[table] = [_under(row, item) for row in rows]
        # bulk tables make records later
        for holder in (rows, *getattr(rows, "traces", ())):
            for name in ("path", "_path"):
                if hasattr(holder, name):
                    setattr(holder, name, item.name)
    part.anomalies = [_under(anomaly, item) for anomaly in part.anomalies]
    part.clues = [_under(clue, item) for clue in part.clues]
    return part


def _under(row: Any, item: Input) -> Any:
    for field in ("path",) if isinstance(row, Source) else ("subject",):
        text = getattr(row, field, None)
        if isinstance(text, str):
            row = row._replace(**{field: _shown(text, item)})
    if isinstance(row, Anomaly) and item.path in row.text:
        row = row._replace(text=row.text.replace(item.path, item.name))
    return row._replace(origin=row.origin._replace(source=_shown(row.origin.source, item)))


def _shown(text: str, item: Input) -> str:
    """The name of the file for its path, also of a part of it (a session of a log)."""
    if text == item.path:
        return item.name
    if text.startswith(f"{item.path}!"):
        return item.name + text[len(item.path) :]
    return text
