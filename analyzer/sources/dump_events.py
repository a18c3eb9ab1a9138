"""The ETW events inside a kernel dump, read only when somebody asks for them.

Invariant: a minidump is judged without numpy unless its trace buffers name a provider that speaks
of the dump stack; then its story is told like that of a trace file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ..dumpfile import KernelDump, secondary
from ..etw import providers
from ..records import Anomaly, Event, Records

if TYPE_CHECKING:
    from ..etw.dumpblock import DumpBlock
    from ..etw.events import EventTable

#: provider -> ids of its events that speak of the dump stack; empty: every event does
_TELLING: dict[str, range] = {
    providers.CRASHDUMP: range(0),
    providers.KERNEL_DUMP: range(0),
    providers.KERNEL_IO: range(1200, 1306),
    providers.KERNEL_BOOT: range(257, 268),
    providers.IO_ERROR_LOG: range(1),
}
#: EVENT_HEADER: the provider's GUID, then the event's id; a driver's error log entry names the
#: driver
_ID_BEHIND_GUID = 0x10
_ERROR_LOG_SOURCE = "volmgr".encode("utf-16-le")


def _tells(data: bytes) -> bool:
    for provider, ids in _TELLING.items():
        guid = UUID(provider).bytes_le
        at = data.find(guid)
        while at >= 0:
            number = int.from_bytes(data[at + _ID_BEHIND_GUID : at + _ID_BEHIND_GUID + 2], "little")
            names_volmgr = _ERROR_LOG_SOURCE in data[at : at + 0x80]
            if (not ids or number in ids) and (provider != providers.IO_ERROR_LOG or names_volmgr):
                return True
            at = data.find(guid, at + 1)
    return False


class DumpEvents:
    """The events table of a dump; stands where a list of Event records could."""

    def __init__(self, dump: KernelDump, before: Sequence[Event] = ()) -> None:
        self._blocks = dump.tag_data(secondary.ETW_BUFFERS)
        self._path = dump.path
        self._before = list(before)
        self._table: EventTable | None = None
        size = sum(block.size for block, _ in self._blocks)
        #: said in reports instead of a count, which would need the buffers read
        self.summary = f"{size:,} bytes of ETW trace buffers"

    def blocks(self) -> Iterator[DumpBlock]:
        """Each tagged block, taken apart into its sessions."""
        from ..etw.dumpblock import sessions

        for block, data in self._blocks:
            yield sessions(data, self._path, block.offset)

    @property
    def table(self) -> EventTable:
        """All sessions as one table."""
        if self._table is None:
            from ..etw.events import EventTable

            traces = [trace for block in self.blocks() for trace in block.traces]
            self._table = EventTable(traces, self._before)
        return self._table

    def tells(self) -> bool:
        """True when an event that speaks of the dump stack seems to be in the buffers."""
        return any(_tells(bytes(data)) for _, data in self._blocks)

    @property
    def single(self) -> list[Event]:
        """Events of other sources that were joined to those of the dump."""
        return list(self._before)

    def where(self, **wanted: Any) -> EventTable:
        """The same table with only these events."""
        return self.table.where(**wanted)

    def joined(self, rows: Any) -> Any:
        """The table with other events beside it; still unread when those are a plain list."""
        if isinstance(rows, list) and self._table is None:
            self._before = rows + self._before
            return self
        return self.table.joined(rows)

    def append(self, event: Event) -> None:
        """Adds one record of another source."""
        self._before.append(event)
        self._table = None

    def rows(self) -> Iterator[Event]:
        """The events, oldest first."""
        return self.table.rows()

    def frame(self) -> Any:
        """The events as a DataFrame."""
        return self.table.frame()

    def __iter__(self) -> Iterator[Event]:
        return iter(self.table)

    def __len__(self) -> int:
        return len(self.table)

    def __bool__(self) -> bool:
        return bool(self._blocks)


def add_events(out: Records, dump: KernelDump, crash_ns: Any) -> None:
    """Puts the events table in place and tells what its events say about the dump stack."""
    events = DumpEvents(dump)
    if not events:
        return
    out.tables["events"] = events  # type: ignore[assignment]
    if not events.tells():
        return
    from ..etw.story import tell

    for trace in events.table.traces:
        for record in tell(trace, crash_ns=crash_ns if isinstance(crash_ns, int) else None):
            # Lost events are normal in live buffers: old ones are overwritten on purpose.
            if not isinstance(record, Anomaly) or not record.rule.startswith("etw-"):
                out.add(record)
