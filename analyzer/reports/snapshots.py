"""What the answer says of memory that was taken from outside of Windows.

Invariant: a snapshot shows one moment: no sentence here says that a dump was or was not written.
"""

from __future__ import annotations

from .. import formatting as fmt
from ..absence import is_absent
from ..checks.machine import is_live
from ..records import Records, Source

KIND = "memory snapshot"  #: of a source


def sentence(source: Source, records: Records) -> str:
    """What is known of the crash of a machine whose memory was taken from outside."""
    taken = f"This is a snapshot of a machine's memory ({fmt.field(source, 'subtype')}),"
    machine = next((m for m in records["machine"] if m.origin.source == source.path), None)
    if machine is None or is_absent(machine.bugcheck):
        return f"{taken} not a crash dump; whether the machine had crashed is not determined."
    if is_live(machine):
        return f"{taken} not a crash dump; when it was taken, the machine had not crashed."
    name = fmt.field(machine, "bugcheck_name", "")
    known = f" ({name})" if name and not name.startswith("0x") else ""
    return (
        f"{taken} taken after bugcheck 0x{machine.bugcheck:X}{known} had begun; whether a dump was "
        "written after that is not determined."
    )
