"""What the Windows crash dump filter drivers did, from dumps, traces and logs.

``analyzer.open(*paths)`` gives a :class:`analyzer.case.Case` with the tables as DataFrames and
``report()``. Invariant: importing this package imports nothing heavy, not even pandas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .case import Case, Progress

__all__ = ["__version__", "open"]

#: equal to the distribution's; written here because asking importlib.metadata takes 35 ms
__version__ = "0.1.0"


def open(*paths: Any, progress: Progress | None = None, **options: Any) -> Case:
    """Opens dumps, traces and logs of one crash; see :func:`analyzer.case.open_case`."""
    from .case import open_case

    return open_case(paths, progress, **options)
