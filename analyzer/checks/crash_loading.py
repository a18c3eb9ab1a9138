"""Whether a failure of loading the dump stack, logged at some start, is of a crash.

Invariant: it is of the crash only when it was logged by the system that crashed or by the next
start; the clock alone decides only where no start of the machine is known.
"""

from __future__ import annotations

from ..records import Crash, Finding, Records, Time
from .crash_pieces import boots_of, same_boot
from .crashes import logged, origin_key

#: the stack did not load at some start: it explains a crash only when it is not long ago
LOADING = (
    "case-filter-file-missing", "event-dump-driver-load-failed", "event-dump-init-failed",
)  # fmt: skip
_LONG_AGO_NS = 30 * 86400 * 10**9
#: an event of the start after the crash shows the same state; a later one is another matter
_SOON_AFTER_NS = 86400 * 10**9


def near(records: Records, findings: list[Finding], rows: list[Crash]) -> list[Finding]:
    """The findings of :data:`LOADING` whose event lies not long before the crash, or untimed."""
    loading = [f for f in findings if f.rule in LOADING]
    crash = [row.time for row in rows if isinstance(row.time, int)]
    if not loading or not crash:
        return loading
    times = {origin_key(event.origin): event.time for event in logged(records)}
    boots = boots_of(records)
    return [f for f in loading if _is_of(times.get(origin_key(f.origin)), min(crash), boots)]


def _is_of(time: Time, crash: int, boots: list[int]) -> bool:
    """True for an event of the system that crashed, or of the start after the crash."""
    if not isinstance(time, int):
        return True
    age = crash - time
    known = same_boot(time, crash, boots) if age >= 0 else None
    return -_SOON_AFTER_NS <= age <= _LONG_AGO_NS if known is None else known
