"""The machine and its dump in a line each: Windows, processors, what the dump's header says.

Invariant: of the newest crash only; a line holds what a source states, joined, not interpreted.
"""

from __future__ import annotations

from collections.abc import Iterator

from .. import formatting as fmt
from ..absence import is_absent
from ..checks.crashes import Index
from ..checks.ranges import MOST_BUILD, MOST_PROCESSORS
from ..records import Machine, Number, Records


def lines(records: Records, index: Index) -> Iterator[str]:
    """At most two lines."""
    rows = list(records["machine"])
    numbers = index.numbers()
    if numbers:
        sources = {row.origin.source for row in index.by_number[numbers[-1]]}
        rows = [m for m in rows if m.origin.source in sources]
    best = max(rows, key=_known, default=None)
    if best is None:
        return
    parts = [
        f"Windows build {fmt.build(best)}" if _can_be(best.build, MOST_BUILD - 1) else "",
        fmt.fields(best, "architecture"),
        _processors(best.processors),
        f"up {fmt.duration(best.uptime_ns)}" if best.uptime_ns else "",  # 0: it was not filled in
    ]
    if any(parts[:1]):
        yield ", ".join(filter(None, parts)) + "."
    line = next((m.last_dump_line for m in rows if not is_absent(m.last_dump_line)), None)
    if line:
        yield f"The dump header's last DumpStack line: {fmt.clean(line, 200)}"


def _processors(count: Number) -> str:
    if isinstance(count, int) and _can_be(count, MOST_PROCESSORS):
        return fmt.counted(count, "processor")
    return ""


def _can_be(value: Number, most: int) -> bool:
    """False for a number that cannot be, too: a finding says so."""
    return isinstance(value, int) and 1 <= value <= most


def _known(machine: Machine) -> int:
    return sum(not is_absent(value) for value in machine)
