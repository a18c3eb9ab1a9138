"""A virtual machine asked through its hypervisor into records: ``qmp:SOCKET``, ``virsh:DOMAIN``.

Invariant: the records are those of a snapshot of that moment; how long the guest was stopped and
how many pages were asked for is said with the source.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ..absence import Absent
from ..dumpfile.header import MachineFile
from ..errors import InputError, UnsupportedError, UsageError
from ..records import Records
from ..snapshot import Snapshot
from ..snapshot.monitor import stopped
from .dump import records_of

MOST_SECONDS = 2.0  #: a guest is stopped for, unless --max-stop says otherwise


def collect(
    path: str, max_stop: Sequence[str] = (), watch: Sequence[str] = (), **options: Any
) -> Records:
    """Records of one look, or of two that are ``watch`` seconds apart."""
    most = seconds(max_stop[-1]) if max_stop else MOST_SECONDS
    records = _look(path, path, most, options)
    if watch:
        pause = seconds(watch[-1])
        time.sleep(pause)
        records.extend(_look(path, f"{path} {pause:g} s later", most, options))
    return records


def seconds(text: str) -> float:
    """A number of seconds above zero, no more than a day."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 86400:
        raise UsageError(f"{text!r} is not a number of seconds.")
    return value


def _look(path: str, name: str, most: float, options: dict[str, Any]) -> Records:
    with stopped(path, most) as (memory, image):
        try:
            snapshot = Snapshot(MachineFile(name), image)
        except UnsupportedError:
            if not memory.ended:
                raise
            advice = "ask again" if memory.failure else "give --max-stop more seconds"
            problem = f"{memory.ended} before Windows was found in it"
            raise InputError(name, problem, advice=advice) from None
        records = records_of(snapshot, **options)
    time_ms = memory.stopped_seconds * 1000
    kind = f"asked of its hypervisor: {memory.asked:,} pages, stopped for {time_ms:.0f} ms"
    if memory.ended:
        snapshot.file.note("reading-stopped", f"{memory.ended}, so no more of the guest was read")
        records.add(snapshot.file.anomalies[-1])
    source = records["sources"][0]
    size = Absent("not-applicable", "it is no file")
    records["sources"][0] = source._replace(subtype=kind, size_bytes=size)
    return records
