"""The machine and its dump in a line each: Windows, processors, what the dump's header says.

Invariant: of the newest crash only; a line holds what a source states, joined, not interpreted.
"""

from __future__ import annotations

from collections.abc import Iterator

from .. import formatting as fmt
from ..absence import is_absent
from ..checks.crashes import Index
from ..checks.ranges import MOST_PROCESSORS
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
        "" if is_absent(best.build) else f"Windows build {fmt.build(best)}",
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
    """Nothing for a number that cannot be: a finding says so."""
    if isinstance(count, int) and 1 <= count <= MOST_PROCESSORS:
        return fmt.counted(count, "processor")
    return ""


def _known(machine: Machine) -> int:
    return sum(not is_absent(value) for value in machine)
