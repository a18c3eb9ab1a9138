"""The ETW events inside a kernel dump, read only when somebody asks for them.

Invariant: what the saved buffers say of the dump stack, crashes and storage is judged like a trace
file, without numpy, and nothing of the trace reader is loaded for buffers without such an event;
all events, and the sessions that are in memory only, are read when somebody asks for them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..dumpfile import KernelDump, secondary
from ..layouts import guids
from ..names import events
from ..records import Event, Origin, Records, Time

if TYPE_CHECKING:
    import pandas as pd

    from ..etw.dumpblock import DumpBlock
    from ..etw.trace import Trace
    from ..records.base import Cell
    from ..records.collection import Bulk, Rows


#: what events tell that a dump itself does not: it states its own start
_TELLING = (events.RESTART, events.REPORT, events.SLEEP, events.RESUME)
#: behind the GUID in EVENT_HEADER: id, version, channel, level
_BEHIND_GUID = struct.Struct("<HBBB")


def _tells(data: bytes) -> bool:
    """True when a finding, a crash or trouble with a disk seems to be among the events."""
    for guid in (*events.GUIDS.values(), events.IO_ERROR_LOG):
        wanted = guids.stored(guid)
        key = events.provider_key("", guid)
        at = data.find(wanted)
        while at >= 0:
            behind = data[at + 0x10 : at + 0x10 + _BEHIND_GUID.size]
            number, _, _, level = _BEHIND_GUID.unpack(behind.ljust(_BEHIND_GUID.size, b"\0"))
            known = events.EVENTS.get((key, number))
            if known is not None and (known.rule or known.tells in _TELLING):
                return True
            is_entry = guid == events.IO_ERROR_LOG and number == 0
            if is_entry or (key == events.STORPORT and level in events.STORAGE_LEVELS):
                return True
            at = data.find(wanted, at + 1)
    return False


class DumpEvents:
    """The events table of a dump; stands where a list of Event records could.

    Of a dump with pages, looking for sessions takes reading all of them, so even how many events
    there are is known only after somebody asked for events.
    """

    def __init__(self, dump: KernelDump, before: Sequence[Event] = ()) -> None:
        self._blocks = dump.tag_data(secondary.ETW_BUFFERS)
        has_pages = hasattr(dump, "page_data") and dump.pointer_size == 8
        self._memory = dump if has_pages else None
        self._path = dump.path
        self._before = list(before)
        self._others: list[Bulk] = []  # tables of other sources
        self._saved: list[Trace] | None = None
        self._table: Bulk | None = None
        #: False when there is no place in which this dump could have events
        self.can_hold = bool(self._blocks) or has_pages

    def blocks(self) -> Iterator[DumpBlock]:
        """Each tagged block, taken apart into its sessions."""
        from ..etw.dumpblock import sessions

        for block, data in self._blocks:
            yield sessions(data, self._path, block.offset)

    def sessions(self) -> list[Trace]:
        """Those of the tagged blocks, then those that are in memory only."""
        found = list(self.saved())
        if self._memory is not None:
            from ..etw import memory

            saved = {trace.session.logger_id for trace in found}
            pages = self._memory.page_data() if hasattr(self._memory, "page_data") else ()
            others = memory.sessions(self._memory, pages)
            found += [trace for trace in others if trace.session.logger_id not in saved]
        for trace in found:
            trace.path = self._path  # in an archive it is known only after the dump was read
        return found

    def saved(self) -> list[Trace]:
        """The sessions that Windows saved in tagged blocks at the crash."""
        if self._saved is None:
            self._saved = [trace for block in self.blocks() for trace in block.traces]
        return self._saved

    @property
    def table(self) -> Bulk:
        """All sessions as one table."""
        if self._table is None:
            from ..etw.events import EventTable

            table: Bulk = EventTable(self.sessions(), self._before)
            for other in self._others:
                table = table.joined(getattr(other, "table", other))
            self._table = table
        return self._table

    @property
    def summary(self) -> str:
        """Said in reports instead of a count, which would need everything read."""
        told = [getattr(other, "summary", "") for other in self._others]
        counts = [len(o) for o, text in zip(self._others, told) if not text]
        size, count = sum(block.size for block, _ in self._blocks), len(self._before) + sum(counts)
        own = f"{size:,} bytes of ETW trace buffers" if size else ""
        rest = f"{count:,} event{'' if count == 1 else 's'}" if count else ""
        return " and ".join(filter(None, [own, *told, rest]))

    @property
    def single(self) -> list[Event]:
        """Events of other sources that were joined to those of the dump."""
        return [*self._before, *(event for other in self._others for event in other.single)]

    def where(self, **wanted: Any) -> Bulk:
        """The same table with only these events."""
        return self.table.where(**wanted)

    def joined(self, rows: Rows) -> DumpEvents:
        """The table with other events beside it; nothing is read."""
        if isinstance(rows, list):
            self._before = rows + self._before
        else:
            self._others.append(rows)
        self._table = None
        return self

    def append(self, event: Event) -> None:
        """Adds one record of another source."""
        self.extend([event])

    def extend(self, events: Sequence[Event]) -> None:
        """Adds records of other sources."""
        self._before += events
        self._table = None

    def rows(self) -> Iterator[Event]:
        """The events, oldest first."""
        return self.table.rows()

    def batches(self) -> Iterator[list[list[Cell]]]:
        """The same as columns."""
        return self.table.batches()

    def frame(self) -> pd.DataFrame:
        """The events as a DataFrame."""
        made: pd.DataFrame = self.table.frame()
        return made

    def __iter__(self) -> Iterator[Event]:
        return iter(self.table)

    def __len__(self) -> int:
        return len(self.table)

    def __bool__(self) -> bool:
        """False where no events are known, which costs no reading."""
        if self._table is not None:
            return bool(self._table)
        return any((self._blocks, self._before, *self._others))


def add_events(out: Records, dump: KernelDump, crash_ns: Time, boot_ns: int | None) -> None:
    """Puts the events table in place and tells what its events say of the dump stack and disks."""
    table = DumpEvents(dump)
    if not table.can_hold:
        return
    out.tables["events"] = table
    blocks = [(block, bytes(data)) for block, data in dump.tag_data(secondary.ETW_BUFFERS)]
    if not any(_tells(data) for _, data in blocks):
        return
    from ..etw.judge import Judge, saved_events  # most minidumps need nothing of the trace reader

    judge = Judge(crash_ns if isinstance(crash_ns, int) else None, boot_ns)
    for block, data in blocks:
        for saved in saved_events(data):
            place = block.offset + saved.offset
            out.add(*judge.take(saved.raw, Origin(dump.path, "saved ETW buffer", "certain", place)))
    # storage errors of no crash are the trace's matter
    out.add(*(found for found in judge.end() if not found.rule.startswith("etw-")))
