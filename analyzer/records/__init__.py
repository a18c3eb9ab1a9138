"""The record types every source yields: plain, immutable, each with its provenance.

Invariant: this package adds nothing to its modules. Standard library only.
"""

from .base import (
    Address,
    Anomaly,
    Big,
    Cell,
    Clue,
    Code,
    Duration,
    Evidence,
    Facts,
    Flag,
    Number,
    Origin,
    Proof,
    Real,
    Text,
    Time,
)
from .collection import Records, filetime_to_ns, untold
from .dryrun import DryRun
from .stacks import Frame, Processor, Residue
from .types import (
    SNAPSHOT,
    TABLES,
    Callback,
    Crash,
    Event,
    Extension,
    Filter,
    Finding,
    Machine,
    Module,
    OfFilter,
    Record,
    Request,
    Setting,
    Source,
    Stage,
    Structure,
    Tag,
)

__all__ = [
    "SNAPSHOT", "TABLES", "Address", "Anomaly", "Big", "Callback", "Cell", "Clue", "Code", "Crash",
    "DryRun", "Duration", "Event", "Evidence", "Extension", "Facts", "Filter", "Finding", "Flag",
    "Frame", "Machine", "Module", "Number", "OfFilter", "Origin", "Processor", "Proof", "Real",
    "Record", "Records", "Request", "Residue", "Setting", "Source", "Stage", "Structure", "Tag",
    "Text", "Time", "filetime_to_ns", "untold",
]  # fmt: skip
