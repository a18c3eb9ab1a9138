"""A memory snapshot into records: the same as of a kernel dump, of a machine that still runs.

Invariant: nothing is said here that a kernel dump's source does not say as well; that no dump was
written follows from the kind of the source.
"""

from __future__ import annotations

from typing import Any

from ..records import Records
from ..snapshot import open_snapshot
from ..snapshot.raw import Progress
from .dump import records_of


def collect(path: str, progress: Progress | None = None, **options: Any) -> Records:
    """Records of one snapshot. Raises UnsupportedError or InputError."""
    return records_of(open_snapshot(path, progress), **options)
