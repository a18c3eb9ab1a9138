"""What the Windows crash dump filter drivers did, from dumps, traces and logs.

``analyzer.open(*paths)`` gives a :class:`analyzer.case.Case` with the tables as DataFrames and
``report()``. Invariant: importing this package imports nothing heavy, not even pandas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .case import Case, Judge, Progress
    from .dryrun.ask import Ask
    from .files import Paths

__all__ = ["__version__", "open"]

#: equal to the distribution's; written here because asking importlib.metadata takes 35 ms
__version__ = "0.1.0"


def open(
    *paths: Paths,
    progress: Progress | None = None,
    baseline: Paths = (),
    manifests: Paths = (),
    tmf: Paths = (),
    mapping: Paths = (),
    images: Paths = (),
    symbols: Paths = (),
    dry_run: Ask | None = None,
    max_stop: float | Sequence[str] | None = None,
    watch: float | Sequence[str] | None = None,
    expect: str | Sequence[str] = (),
    known: Paths = (),
) -> Case:
    """Opens dumps, traces and logs of one crash, folders and zip archives of them.

    ``baseline`` names captures of a good run or files of ``dumpstart baseline``, ``manifests`` and
    ``tmf`` describe events of traces, ``mapping`` says which of them are callbacks of a filter;
    ``images`` are folders of image files, for the call stacks of dumps, ``symbols`` folders or
    symbol paths of PDBs, beside those of ``_NT_SYMBOL_PATH``; each is a path or a list of paths.
    ``dry_run`` asks for dry runs. ``qmp:SOCKET`` and ``virsh:DOMAIN`` ask a running machine,
    stopped for no more than ``max_stop`` seconds, and again after ``watch`` seconds. ``expect``
    says what the case must show, ``known`` names TOML files of known findings. ``progress`` is
    called with what is being done, how much of it is done and how much there is.
    """
    from .case import open_case
    from .files import listed

    normal = listed(baseline)
    judges: Sequence[Judge] = ()
    if normal:
        from .population.commands import judges as fleet

        judges, normal = fleet(normal)
    gate = None
    if expect or known:
        from . import gate as gates

        gate = gates.of(expect, listed(known))
    return open_case(
        paths, progress, judges, baseline=normal, manifests=manifests, tmf=tmf, mapping=mapping,
        images=images, symbols=symbols, dry_run=dry_run, gate=gate,
        max_stop=_seconds(max_stop), watch=_seconds(watch),
    )  # fmt: skip


def _seconds(value: float | Sequence[str] | None) -> list[str]:
    """As the command's option, where texts come in lists."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [str(value)]
