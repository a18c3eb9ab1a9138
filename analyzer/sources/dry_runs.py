"""Dry runs of the filters of a dump or a snapshot, where they are asked for or are a pre-flight.

Invariant: without being asked, only memory of a machine that had not crashed is run, and only where
the emulator is installed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import partial

from ..absence import Absent
from ..dryrun.ask import Ask, is_installed
from ..dumpstack.walk import Ring
from ..names import bugchecks
from ..records import Module, Records
from ..symbols.images import Images
from ..target import PAGE, Target

_EXECUTE, _WRITE = 0x2000_0000, 0x8000_0000


def had_crashed(attributes: object, bugcheck: object) -> bool | None:
    """Whether the memory is of a machine that had crashed; None where nothing tells."""
    if bugchecks.is_of_running_system(attributes, bugcheck):
        return False
    return None if isinstance(bugcheck, Absent) else True


def add(
    out: Records,
    target: Target,
    modules: Sequence[Module],
    rings: Sequence[Ring],
    crashed: bool | None,
    ask: Ask | None,
    held: Images | None = None,
) -> None:
    """Adds the records of the dry runs that ``ask`` wants; None wants none.

    ``held``: where image files may be, for code that the target does not hold.
    """
    if ask is None or not any(ring.nodes for ring in rings):
        return
    if not ask.always and (crashed is not False or not is_installed()):
        return
    from ..dryrun.runner import run  # not needed where nothing is run

    out.add(
        *run(
            target,
            modules,
            rings,
            had_crashed=crashed,
            filters=ask.filters,
            callbacks=ask.callbacks,
            limits=ask.limits,
            progress=ask.progress,
            code=None if held is None else partial(_code, held),
        )
    )


def _code(held: Images, page: int) -> bytes | None:
    """A page of code out of the file of its image.

    64-bit code alone: it needs no relocation. Data of a file is not what a driver made of it.
    """
    image = held.at(page)
    if held.target.pointer_size != 8 or image is None or image.file is None:
        return None
    file, offset = image.file, page - image.base
    for number in range(min(file.header.sections, 96)):
        entry = file.read(file.header.sections_at + 40 * number, 40)
        if isinstance(entry, Absent):
            return None
        size, start = struct.unpack_from("<II", entry, 8)
        (flags,) = struct.unpack_from("<I", entry, 36)
        if start <= offset < start + size and flags & _EXECUTE and not flags & _WRITE:
            data = file.read(offset, PAGE)
            return None if isinstance(data, Absent) else data
    return None
