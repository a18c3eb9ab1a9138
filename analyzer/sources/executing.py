"""Processors, call stacks and what is left on stacks, of any target with memory.

Invariant: a word that is part of a chain is not repeated as a hint.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..absence import Absent
from ..dumpfile import KernelDump
from ..dumpstack import residue
from ..records import Callback, Module, Origin, Processor, Records, Residue, Text
from ..stacks import executing
from ..symbols import Names
from ..symbols.images import Images

#: residue words of all stacks together; a real dump has a few dozen
MAX_RESIDUE = 4096


def add(
    out: Records, dump: KernelDump, modules: Sequence[Module], images: Images, names: Names
) -> None:
    """Adds the tables ``processors``, ``frames`` and ``residue``."""
    architecture = dump.architecture
    hints: list[Residue] = []
    regions = dump.stacks()
    for region in regions:
        if len(hints) >= MAX_RESIDUE:
            break
        hints += residue.find(dump, modules, region.start, region.end, region.owner)
    if isinstance(architecture, Absent):
        out.add(*hints)
        return
    caught = dump.caught()
    known = executing.Known.of(out["callbacks"], out["extensions"], images.modules)
    out.add(*executing.rows(caught, images, names, known, architecture))
    out.tables["callbacks"] = list(_called(out["callbacks"], out["processors"]))
    if hints:
        touched = {row.stack_of for row in hints}
        pieces = [region for region in regions if region.owner in touched]
        rows = out["frames"]
        out.add(*executing.stale_rows(pieces, images, names, architecture, rows, caught))
    in_chains = {frame.origin.address for frame in out["frames"]}
    out.add(*(row for row in hints if row.origin.address not in in_chains))


def _called(rows: Sequence[Callback], processors: Sequence[Processor]) -> Iterator[Callback]:
    """The callbacks, with those that a processor is inside of as called."""
    inside: dict[tuple[Text, Text], Origin] = {
        (row.filter, row.callback): row.origin
        for row in processors
        if isinstance(row.callback, str) and row.origin.confidence != "guess"
    }
    for row in rows:
        origin = inside.get((row.filter, row.callback))
        if origin is not None and row.was_called not in ("yes", "no"):
            how = f"{row.origin.how}; a processor is inside it ({origin.how})"
            sure = "yes" if origin.confidence == "certain" else "likely"
            row = row._replace(was_called=sure, origin=row.origin._replace(how=how))
        yield row


def refusals(dump: KernelDump, names: Names) -> None:
    """Says of each image file and PDB that was found by name why it did not do."""
    for text in names.refused:
        dump.file.note("symbols-refused", text)
