"""Whether Windows itself wrote a dump, or a debugger, a hypervisor or a tool did.

Invariant: "not Windows" is said only with a mark of another writer, or of a whole file that lacks
what crashdmp adds to every dump; of anything else nothing is said. Standard library only.
"""

from __future__ import annotations

from ..absence import Absent
from ..layouts import mindumpdef
from ..names import bugchecks
from .kernel import KernelDump
from .slice_mark import SNAPSHOT, mark_of

#: builds whose dumps all had crashdmp's block in the secondary data (52 real ones, 9600 to 26100)
_FIRST_BUILD = 9600
#: with these the secondary data may be lost
_DAMAGED = (
    "dump-file-cut",
    "triage-marker-missing",
    "dump-map-inconsistent",
    "dump-bitmap-count-mismatch",
    "secondary-data-damaged",
    "header-field-unset",
)
#: start of the header's comment -> what writes it
_COMMENTS = {b"Hello from elf2dmp!": "elf2dmp, of a memory snapshot of a virtual machine"}


def other_writer(dump: KernelDump) -> str:
    """Who wrote the dump when it was not Windows, in words; "" when nothing tells of another."""
    comment = dump.file.fields.get("Comment")
    if isinstance(comment, bytes):
        for mark, name in _COMMENTS.items():
            if comment.startswith(mark):
                return name
    cut = mark_of(comment)
    if cut is not None and cut.dump_type == SNAPSHOT:
        return "dumpstart, of a memory snapshot"
    if cut is not None and (cut.is_pages_only or cut.was_cut):
        return ""  # what would tell was left out
    if dump.file.number("BugCheckCode") == bugchecks.TOOL:
        return "a tool that takes memory of a running machine (bugcheck code 'MATT')"
    is_cut = any(note.rule in _DAMAGED for note in dump.file.anomalies)
    build, kind = dump.file.number("MinorVersion"), dump.file.number("DumpType")
    if isinstance(build, Absent) or build < _FIRST_BUILD or isinstance(kind, Absent) or is_cut:
        return ""
    live = bugchecks.is_of_running_system(
        dump.file.number("Attributes"), dump.file.number("BugCheckCode")
    )
    if dump.tags or live or kind not in mindumpdef.DUMP_TYPES:
        return ""
    return "a debugger, a hypervisor or a tool"
