"""What one emulated call did, as plain values for the pipe.

Invariant: bounded; what was left out is said by ``is_cut``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .memory import FILL, PAGE

if TYPE_CHECKING:
    from .emulator import Run

_MOST_CHANGES, _MOST_CODE, _MOST_READS = 1024, 4096, 4096


def of(run: Run) -> dict[str, object]:
    """The result of a run that has ended."""
    start, end = run.extension
    reads: list[list[int]] = []
    members: set[int] = set()
    for key in run.reads:
        address, size = run.address(key >> 4), key & 15
        if address < end and address + size > start:
            members.update(range(max(address, start) - start, min(address + size, end) - start))
        else:
            reads.append([address, size])
    stack = range(run.world.stack, run.world.stack + run.world.stack_bytes, PAGE)
    changes: list[tuple[int, bytes, bytes]] = []
    for page in sorted(run.dirty):
        new = run.read(page, PAGE)
        if page in stack:
            used = len(new) - len(new.lstrip(FILL))
            if used < PAGE:
                run.lowest = min(run.lowest, page + used)
            continue
        if page - (run.world.back & -PAGE) in (0, PAGE):
            continue
        old = run.world.page(page)
        run.written[page] = new
        if old is not None and old != new:
            changes += [(page + at, old[at:to], new[at:to]) for at, to in _differences(old, new)]
    return {
        **run.outcome,
        "instructions": run.instructions,
        "stack_bytes": max(0, run.top - run.lowest),
        "stall_us": run.stalled,
        "members_read": sorted(members),
        "members_written": sorted(run.member_writes),
        "reads": sorted(reads)[:_MOST_READS],
        "changes": [[a, o.hex(), n.hex()] for a, o, n in changes[:_MOST_CHANGES]],
        "calls": run.calls,
        "forbidden": run.forbidden,
        "assumed": run.assumed,
        "code": sorted(run.blocks)[:_MOST_CODE],
        "varies": run.has_ever_varied,
        "is_cut": run.is_cut or len(reads) > _MOST_READS or len(changes) > _MOST_CHANGES,
        "pages": len(run.frames),
    }


def _differences(old: bytes, new: bytes) -> list[tuple[int, int]]:
    """Where two pages differ, as aligned words of 4 bytes, neighbours joined."""
    found: list[tuple[int, int]] = []
    for at in range(0, PAGE, 4):
        if old[at : at + 4] != new[at : at + 4]:
            if found and found[-1][1] == at and at - found[-1][0] < 64:
                found[-1] = (found[-1][0], at + 4)
            else:
                found.append((at, at + 4))
    return found
