"""Reader of Windows kernel crash dumps of every kind, on any OS, without symbols.

Invariant: ``open_dump`` gives a target or one of our errors; what is odd about the file is in
``dump.file.anomalies``.
"""

from __future__ import annotations

from collections.abc import Callable

from ..absence import Absent
from ..layouts import mindumpdef
from .header import DumpFile
from .kernel import KernelDump

__all__ = ["DumpFile", "KernelDump", "open_dump"]


def open_dump(path: str, touched: Callable[[int, int], None] | None = None) -> KernelDump:
    """Opens a kernel dump file; ``touched`` is told each place of it that is read.

    Returns a ``TriageDump`` (type 4), a ``PageDump`` (1, 2, 5, 6, 8, 9, 10) or, when the header
    alone is usable, a ``KernelDump`` without memory. Raises UnsupportedError for other files,
    InputError for files that cannot be read.
    """
    file = DumpFile(path)
    file.data.touched = touched
    kind = file.number("DumpType")
    if kind == 4:
        from .triage import TriageDump

        return TriageDump(file)
    if kind in (1, 2, 5, 6, 8, 9, 10):
        from .pagedump import PageDump  # numpy: not needed for minidumps

        return PageDump(file)
    if kind != 3 and not isinstance(kind, Absent):
        name = mindumpdef.DUMP_TYPES.get(kind)
        named = f" ({name}, a setting that no file should state)" if name else ", which is unknown"
        file.note(
            "dump-map-inconsistent",
            f"the header states dump type {kind}{named}; no memory is read",
            offset=file.layout.DumpType.offset,
        )
    return KernelDump(file)
