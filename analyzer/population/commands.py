"""The commands ``scan``, ``population`` and ``baseline``: their options, and what they run.

Invariant: defining the options imports nothing of the rest of this package. Standard library only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Callable

from ..sources.options import add_redact

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from ..case import Judge
    from ..progress import Bar
    from .scan import Counts


def scan_options(parser: ArgumentParser) -> None:
    """Options of ``dumpstart scan``."""
    parser.add_argument(
        "sources", metavar="SOURCE", nargs="+",
        help="files, folders, zip archives, wildcards or URLs such as s3://bucket/dumps",
    )  # fmt: skip
    parser.add_argument("--output", metavar="DIR", required=True, help="the data set, new or begun")
    parser.add_argument(
        "--case-per", choices=("file", "folder"), default="file",
        help="a case is a file or archive, or all files of a folder in SOURCE (default: file)",
    )  # fmt: skip
    parser.add_argument("--jobs", metavar="N", type=int, default=0, help="default: all cores")
    parser.add_argument("--scheduler", metavar="URL", default="", help="Dask, tcp://host:8786")
    parser.add_argument(
        "--timeout", metavar="S", type=_seconds, default=600,
        help="seconds for one case, 0: any time (default: 600)",
    )  # fmt: skip
    add_redact(parser)
    parser.add_argument("--format", choices=("text", "json"), default="text")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 1e7:
        raise ValueError(text)
    return seconds


def study_options(parser: ArgumentParser) -> None:
    """Options of ``dumpstart population``."""
    parser.add_argument("folder", metavar="DIR", help="data set of 'dumpstart scan'")
    parser.add_argument(
        "--labels", metavar="CSV", help="more traits: columns case or location, ..."
    )
    parser.add_argument("--format", choices=("text", "json", "html", "ipynb"), default="text")
    parser.add_argument("--output", metavar="FILE", default="-", help="default: stdout")


def baseline_options(parser: ArgumentParser) -> None:
    """Options of ``dumpstart baseline``."""
    parser.add_argument("folder", metavar="DIR", help="data set of 'dumpstart scan'")
    parser.add_argument("--output", metavar="FILE", default="-", help="default: stdout")


def scan(arguments: Namespace, bar: Callable[[], Bar] | None) -> Iterator[str]:
    """Runs a scan; ``bar`` makes a progress bar."""
    # pyarrow's own allocator keeps several times of what the rows of a long trace need
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    from .scan import scan

    run = partial(
        scan, arguments.sources, arguments.output, jobs=max(0, arguments.jobs),
        scheduler=arguments.scheduler, per=arguments.case_per, redacted=arguments.redact,
        limit=arguments.timeout,
    )  # fmt: skip
    if bar is None:
        counts = run()
    else:
        with closing(bar()) as shown:
            counts = run(progress=shown)
    return _as_json(counts) if arguments.format == "json" else _as_text(counts)


def _as_json(counts: Counts) -> Iterator[str]:
    bad = [dict(zip(("location", "outcome", "reason"), row)) for row in counts.bad]
    yield json.dumps({**vars(counts), "bad": bad}, indent=1) + "\n"


def _as_text(counts: Counts) -> Iterator[str]:
    from ..formatting import clean, counted

    rate = counts.analysed / counts.seconds if counts.seconds else 0
    yield f"{counted(counts.places, 'place')}, {counts.analysed} analysed now ({rate:.0f}/s), "
    yield f"{counts.done_before} done before, {counts.copies} with content already known.\n"
    if counts.removed:
        yield f"{counted(counts.removed, 'case')} out of date, removed.\n"
    others = {k: n for k, n in sorted(counts.outcomes.items()) if k != "analysed"}
    if others:
        yield "Not analysed: " + ", ".join(f"{n} {k}" for k, n in others.items()) + ".\n"
    for location, outcome, reason in counts.bad[:20]:
        said = clean(reason).replace(f"{clean(location)}: ", "", 1)
        yield f"  {outcome}: {clean(location, 200)}: {said}\n"
    if sum(others.values()) > 20:
        yield "  The table cases lists all, with the reason.\n"


def study(arguments: Namespace) -> Iterator[str]:
    """The report of a population in the format that was asked for."""
    from . import notebook, report
    from .study import of_folder

    made = of_folder(arguments.folder, arguments.labels or "")
    if arguments.format == "ipynb":
        return notebook.notebook(arguments.folder, arguments.labels or "")
    writers = {"text": report.text, "json": report.as_json, "html": report.html}
    return writers[arguments.format](made)


def baseline(arguments: Namespace) -> Iterator[str]:
    """The baseline of a population as JSON."""
    from .baseline import of_study
    from .study import of_folder

    return iter([json.dumps(of_study(of_folder(arguments.folder))) + "\n"])


def judges(paths: list[str]) -> tuple[list[Judge], list[str]]:
    """Judges by the fleet's baselines among the files, and the files that are none."""
    from .baseline import is_baseline, judge, load

    fleet = [path for path in paths if is_baseline(path)]
    made: list[Judge] = [partial(judge, baseline=load(path), path=path) for path in fleet]
    return made, [path for path in paths if path not in fleet]
