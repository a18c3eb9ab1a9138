"""Checks of the crash itself, the state of the dump writer and the modules of the dump stack.

Invariant: a bit or status is judged only when the source gave it; "no dump stack" is said only of a
crash dump whose module list was read to its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..absence import first_present, known
from ..layouts.crashdmp import knows_state
from ..layouts.mindumpdef import LIVE_DUMP
from ..names import bugchecks, drivers, ntstatus
from ..records import Anomaly, Machine, Records
from .evidence import PARTIAL, SourceRecords, broken

WHOLE_DUMP = "dump"  #: subject of what is said once per dump

# DUMP_FILE_ATTRIBUTES of mindumpdef.h (Windows SDK)
_ATTRIBUTES = (
    (0x40, "dump-filter-dump-file", "says that pages were filtered out on purpose (bit 6)"),
    (0x100, "dump-encrypted", "says that the dump data is encrypted (bit 8)"),
)
_TOO_SMALL = 0x4  # InsufficientDumpfileSize
_SMALL_DUMP = 4
_CUT = {"dump-file-cut", "triage-marker-missing"}
#: kinds of sources that Windows or a host writes of a crash only, whatever its code
_OF_CRASHES = ("evtx", "event log", "dumpstack.log", "host log")
#: the memory of a dump denies the bugcheck of its header
DENIED = "dump-bugcheck-differs"
_FIRST_BUILD_WITH_CRASHDMP = 6000  # Vista; before it the kernel itself drove the dump stack


def check(seen: SourceRecords) -> Iterator[Anomaly]:
    """Everything this module checks, for one source."""
    is_report = any(str(row.kind).startswith(_OF_CRASHES) for row in seen["sources"])
    for machine in seen["machine"]:
        yield from _attributes(machine, seen.reported)
        yield from _statuses(machine)
        if is_live(machine) and not is_report and DENIED not in seen.reported:
            is_called = machine.dump_type_name == LIVE_DUMP
            yield broken(
                "not-a-crash",
                "This was taken of a running system, not made by a crash.",
                machine,
                WHOLE_DUMP,
                "bugcheck",
                "dump_type_name" if is_called else "attributes",
            )
    yield from _stack(seen)
    yield from _copies(seen)


def live_sources(records: Records) -> set[str]:
    """Dumps of a running system, without those whose memory holds a bugcheck."""
    denied = {f.origin.source for f in records["findings"] if f.rule == DENIED}
    return {m.origin.source for m in records["machine"] if is_live(m)} - denied


def is_live(machine: Machine) -> bool:
    """True for a dump of a running system."""
    is_live = bugchecks.is_of_running_system(machine.attributes, machine.bugcheck)
    return is_live or machine.dump_type_name == LIVE_DUMP


def knows_filter_state(machines: Iterable[Machine], source: str) -> bool:
    """True where it is proven which word of a node is the state of a filter."""
    of_source = (m for m in machines if m.origin.source == source)
    return any(knows_state(m.build, m.architecture) for m in of_source)


def is_crash(seen: SourceRecords) -> bool:
    """True when the source tells of a crash: a bugcheck code that is one, and no live dump."""
    code = first_present(row.bugcheck for row in seen["machine"])
    return code is not None and not any(map(is_live, seen["machine"]))


def _attributes(machine: Machine, told: set[str]) -> Iterator[Anomaly]:
    attributes = known(machine.attributes) or 0
    if attributes & _TOO_SMALL:
        text = (
            f"The header attribute word {attributes:#x} says that the dump file was too small for "
            "the dump that was asked for (bit 2)"
        )
        if machine.dump_type == _SMALL_DUMP:
            text += ", so a small dump was written in its place"
            text += "." if told & _CUT else "; that one is whole."
        else:
            text += "."
        yield broken(
            "dump-space-insufficient", text, machine, WHOLE_DUMP, "attributes", "dump_type_name"
        )
    for bit, rule, says in _ATTRIBUTES:
        if attributes & bit:
            text = f"The header attribute word {attributes:#x} {says}."
            yield broken(rule, text, machine, WHOLE_DUMP, "attributes", "dump_type_name")


def _statuses(machine: Machine) -> Iterator[Anomaly]:
    for rule, field, what in (
        ("writer-status-failed", "writer_status", "writing the dump"),
        ("secondary-data-failed", "secondary_data_state", "collecting the secondary data"),
    ):
        status = known(getattr(machine, field))
        if status is not None and ntstatus.is_failure(status):
            name = ntstatus.name(status)
            text = f"The header holds a failing status for {what}: {status & 0xFFFFFFFF:#010x}"
            text += "." if name.startswith("0x") else f" ({name})."
            yield broken(rule, text, machine, WHOLE_DUMP, field)


def _stack(seen: SourceRecords) -> Iterator[Anomaly]:
    modules = [module for module in seen["modules"] if module.loaded]
    if not modules or not is_crash(seen) or seen.reported & PARTIAL:
        return
    images = [module for module in modules if module.stack == "crash"]
    has_crashdmp = (seen.build or 0) < _FIRST_BUILD_WITH_CRASHDMP or any(
        module.role == drivers.CRASH_DUMP_DRIVER for module in modules
    )
    origin = seen["machine"][0]
    if not images:
        lacks = "any module named dump_*" if has_crashdmp else "crashdmp.sys or any named dump_*"
        text = f"The {len(modules)} loaded modules do not include {lacks}."
        yield broken("dump-stack-missing", text, origin, "dump stack", "bugcheck")
    elif not has_crashdmp:
        text = (
            f"The {len(modules)} loaded modules include {images[0].name} but not crashdmp.sys, "
            "which loads it: the list is not that of a whole Windows."
        )
        yield broken("crashdmp-not-listed", text, origin, "dump stack", "bugcheck")


def _copies(seen: SourceRecords) -> Iterator[Anomaly]:
    for module in seen["modules"]:
        if module.original_match != "different image":
            continue
        original = seen.module(module.original)
        text = f"{module.name} is not the same image as {module.original}"
        if original:
            text += f": {module.image_key} against {original.image_key} (time stamp and size)"
        yield broken(
            "module-copy-differs", text + ".", module, str(module.name), "image_key", "original"
        )
