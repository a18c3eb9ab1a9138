"""Whether a file in the format of a full dump is memory that was taken from outside of Windows.

Invariant: that is said only on a mark of what took it, or where the contents cannot be those of a
dump that Windows wrote; the reason is given as a finding. That another program wrote a dump, which
may be a debugger, is told by :mod:`analyzer.dumpfile.writer`.

Sources: QEMU dump/win_dump.c (bugcheck 0x161 where none was recorded, each processor's registers
put where its block keeps them), its contrib/elf2dmp (its comment).
"""

from __future__ import annotations

from ..absence import Absent
from ..dumpfile.kernel import KernelDump
from ..dumpfile.slice_mark import SNAPSHOT
from ..dumpstack import roles
from ..records import Anomaly, Evidence, Processor, Records

_FULL = 1
_LIVE_SYSTEM_DUMP = 0x161
_RULE = "dump-not-by-windows"


def tell(out: Records, dump: KernelDump) -> str:
    """The kind of the file in words where it was taken from outside, else ""."""
    cut = getattr(dump, "slice_of", None)
    if cut is not None and cut.dump_type == SNAPSHOT:
        return "slice of a memory snapshot"
    if dump.kind != "kernel dump" or dump.file.number("DumpType") != _FULL:
        return ""
    comment = dump.file.fields.get("Comment")
    if isinstance(comment, bytes) and b"elf2dmp" in comment.split(b"\0")[0]:
        return "full dump made of a snapshot by elf2dmp"  # the finding names it already
    reason, evidence = _reason(out, dump)
    if not reason:
        return ""
    text = f"Windows did not write this dump itself, a hypervisor or a tool did: {reason}."
    origin = dump.file.origin(dump.machine_how, dump.machine_offset)
    facts = {"writer": "a hypervisor or a tool"}
    rest = [a for a in out.anomalies if a.rule != _RULE]
    out.anomalies[:] = [*rest, Anomaly(_RULE, text, origin, "dump", evidence, facts)]
    noted = [a for a in dump.file.anomalies if a.rule != "secondary-data-missing"]
    dump.file.anomalies[:] = noted  # only Windows writes them
    return "full dump, taken from outside of Windows"


def _reason(out: Records, dump: KernelDump) -> tuple[str, tuple[Evidence, ...]]:
    if dump.tags:  # crashdmp and live dumps of Windows leave them
        return "", ()
    code = dump.file.number("BugCheckCode")
    if code == _LIVE_SYSTEM_DUMP:
        words = (
            "its bugcheck is LIVE_SYSTEM_DUMP, which hypervisors put into full dumps; Windows "
            "writes its live dumps with a bitmap"
        )
        return words, (Evidence("BugCheckCode", code, "Code", "LIVE_SYSTEM_DUMP"),)
    caught = next((p for p in out["processors"] if _is_in_dump_stack(out, p)), None)
    if caught is None:
        return "", ()
    where = str(caught.symbol)
    words = (
        f"the registers of {_number(caught)} stand in the dump stack ({where}); Windows saves "
        "registers before it enters that, a hypervisor when it takes the memory"
    )
    at = caught.instruction_pointer
    return words, (Evidence("instruction_pointer", at, "Address", where, caught.origin),)


def _number(row: Processor) -> str:
    return "a processor" if isinstance(row.processor, Absent) else f"processor {row.processor}"


def _is_in_dump_stack(out: Records, row: Processor) -> bool:
    if isinstance(row.filter, str) and row.origin.confidence != "guess":
        return True
    return any(
        m.name == row.module and (m.stack == "crash" or m.role == roles.CRASH_DUMP_DRIVER)
        for m in out["modules"]
    )
