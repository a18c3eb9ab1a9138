"""From the clock of a session to UTC, exactly: integers, 100 ns, no floating point.

Invariant: FILETIME = reference + (ts - reference clock) scaled, multiplied before divided, rounded
towards minus infinity; what lies outside 1970 to 2262 becomes NO_TIME.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..absence import Absent
from ..records import filetime_to_ns
from .layouts import CLOCK_CPU_CYCLES, CLOCK_SYSTEM_TIME

if TYPE_CHECKING:
    from .buffers import Array

NO_TIME = -(1 << 63)  # also numpy's NaT
UNIX_EPOCH = 116444736000000000  # FILETIME of 1970-01-01
_LAST = UNIX_EPOCH + ((1 << 63) - 1) // 100


class Clock(NamedTuple):
    """What a session's timestamps count."""

    kind: int
    frequency: int  #: ticks per second; 10 MHz for system time
    reference_time: int  #: FILETIME
    reference_clock: int

    @classmethod
    def of(cls, kind: int, qpc: int, mhz: int, time: int, clock: int) -> Clock:
        """The clock of a session; system time is its own reference."""
        if kind == CLOCK_SYSTEM_TIME:
            return cls(kind, 10_000_000, 0, 0)
        frequency = mhz * 1_000_000 if kind == CLOCK_CPU_CYCLES else qpc
        if not 0 < frequency < 900_000_000_000:
            frequency = 0
        return cls(kind, frequency, time, clock)

    @property
    def known(self) -> bool:
        """False when the header gives no usable frequency or time: then there is no UTC."""
        return self.frequency > 0 and 0 <= self.reference_time < 1 << 62

    def filetime(self, ts: int) -> int:
        """FILETIME of one timestamp."""
        if self.kind == CLOCK_SYSTEM_TIME:
            return ts
        return self.reference_time + (ts - self.reference_clock) * 10_000_000 // self.frequency

    def ns(self, ts: int) -> int | Absent:
        """ns since 1970 of one timestamp."""
        if ts == NO_TIME:
            return Absent("not-recorded", "this event carries no time")
        if not self.known:
            return Absent("unset", "the trace header gives no clock frequency")
        filetime = self.filetime(ts)
        if not UNIX_EPOCH <= filetime <= _LAST:
            return Absent("out-of-range", f"timestamp {ts:#x} lies outside 1970 to 2262")
        return filetime_to_ns(filetime)

    def duration_ns(self, ticks: int) -> int | Absent:
        """Length of a span of this clock."""
        if not self.known:
            return Absent("unset", "the trace header gives no clock frequency")
        return ticks * 1_000_000_000 // self.frequency

    def ns_array(self, ts: Array) -> Array:
        """ns since 1970 of many timestamps, NO_TIME where there is none."""
        import numpy as np

        out = np.full(len(ts), NO_TIME, np.int64)
        if not self.known:
            return out
        if self.kind == CLOCK_SYSTEM_TIME:
            filetime = ts
            good = (ts >= UNIX_EPOCH) & (ts <= _LAST)
        else:
            # Keep differences and products inside 64 bits; 300 years are no time anyway.
            ref, room, top = self.reference_clock, self.frequency * 9_500_000_000, (1 << 63) - 1
            good = (ts >= max(-top, ref - room, ref - top)) & (
                ts <= min(top, ref + room, ref + top)
            )
            span = np.where(good, ts, 0) - np.int64(self.reference_clock)
            if self.frequency == 10_000_000:
                filetime = span + np.int64(self.reference_time)
            else:
                whole, rest = np.divmod(span, np.int64(self.frequency))
                filetime = whole * 10_000_000 + rest * 10_000_000 // self.frequency
                filetime += np.int64(self.reference_time)
            good &= (filetime >= UNIX_EPOCH) & (filetime <= _LAST)
        out[good] = (filetime[good] - UNIX_EPOCH) * 100
        return out
