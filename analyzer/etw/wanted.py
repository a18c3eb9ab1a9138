"""Which events somebody asks for.

Invariant: rows of a trace and single records are chosen by the same conditions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..records import Event
from .buffers import Array
from .clock import NO_TIME
from .trace import Trace


class Wanted(NamedTuple):
    """Which events: all conditions must hold; None means no condition."""

    provider: str | None = None  #: name or GUID, "Windows Kernel" for kernel events
    ids: tuple[int, ...] | None = None
    since: int | None = None  #: ns since 1970, inclusive
    until: int | None = None  #: ns since 1970, inclusive

    def rows(self, trace: Trace, cols: dict[str, Array]) -> Array | None:
        """Row numbers that hold, None for all."""
        keep = np.ones(len(cols["ts"]), bool)
        if self.provider is not None:
            keep &= np.isin(cols["provider"], trace.provider_numbers(self.provider))
        if self.ids is not None:
            keep &= np.isin(cols["id"], np.array(self.ids, np.int64))
        if self.since is not None or self.until is not None:
            time = trace.clock.ns_array(cols["ts"])
            keep &= time != NO_TIME
            if self.since is not None:
                keep &= time >= self.since
            if self.until is not None:
                keep &= time <= self.until
        return None if keep.all() else np.flatnonzero(keep)


EVERYTHING = Wanted()


def holds(wanted: Wanted, event: Event) -> bool:
    """True for a record that is wanted."""
    if wanted.provider is not None and wanted.provider.lower() not in (
        str(event.provider).lower(), str(event.provider_id).lower(),
    ):  # fmt: skip
        return False
    if wanted.ids is not None and event.event_id not in wanted.ids:
        return False
    time = event.time
    if not isinstance(time, int):
        return wanted.since is None and wanted.until is None
    is_late = wanted.since is None or time >= wanted.since
    return is_late and (wanted.until is None or time <= wanted.until)
