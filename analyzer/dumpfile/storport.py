"""The storage port driver's record of the last requests before the crash.

Invariant: a request without an end time is in flight and has no status: the words there are the
queue action and queue tag of the request, never a failure. A missing start time means "not
recorded". A FLUSH or SHUTDOWN stands twice, as a finished half and a successor that starts when the
half ended: the successor is no open request, and the SYNCHRONIZE CACHE that it becomes has no start
of its own. Source: DEVICEDUMP_STORAGESTACK_PUBLIC_DUMP (ntddstor.h), 3,338 records of 52 real
dumps; the halves held in 49 of 49 cases there.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from ..absence import Absent
from ..layouts import devicedump
from ..records import Origin, Request, filetime_to_ns

_HEAD = devicedump.DEVICEDUMP_STORAGESTACK_PUBLIC_DUMP
_RECORD = devicedump.DEVICEDUMP_STORAGESTACK_PUBLIC_STATE_RECORD
#: the block is 4,060 bytes in all real dumps and never has more records than this
FULL = 66
MAX_RECORDS = 4096


def _table(text: str) -> dict[int, str]:
    """Hexadecimal codes with their names."""
    rows = (row.split() for row in text.split(";"))
    return {int(code, 16): " ".join(words) for code, *words in rows}


#: SCSI operation codes (SPC/SBC, scsi.h)
OPERATIONS = _table("""
00 TEST UNIT READY; 03 REQUEST SENSE; 08 READ(6); 0A WRITE(6); 12 INQUIRY; 1A MODE SENSE;
1B START STOP UNIT; 25 READ CAPACITY(10); 28 READ(10); 2A WRITE(10); 2F VERIFY(10);
35 SYNCHRONIZE CACHE(10); 42 UNMAP; 4D LOG SENSE; 5A MODE SENSE(10); 85 ATA PASS-THROUGH(16);
88 READ(16); 8A WRITE(16); 91 SYNCHRONIZE CACHE(16); 9E SERVICE ACTION IN(16); A0 REPORT LUNS;
A1 ATA PASS-THROUGH(12); A2 SECURITY PROTOCOL IN; B5 SECURITY PROTOCOL OUT
""")
#: SRB_FUNCTION_* of srb.h
FUNCTIONS = _table("""
00 EXECUTE_SCSI; 01 CLAIM_DEVICE; 02 IO_CONTROL; 03 RECEIVE_EVENT; 04 RELEASE_QUEUE;
05 ATTACH_DEVICE; 06 RELEASE_DEVICE; 07 SHUTDOWN; 08 FLUSH; 10 ABORT_COMMAND;
11 RELEASE_RECOVERY; 12 RESET_BUS; 13 RESET_DEVICE; 14 TERMINATE_IO; 15 FLUSH_QUEUE;
16 REMOVE_DEVICE; 17 WMI; 18 LOCK_QUEUE; 19 UNLOCK_QUEUE; 20 RESET_LOGICAL_UNIT; 24 POWER;
25 PNP; 26 DUMP_POINTERS
""")
#: SRB_STATUS_* of srb.h; the top two bits are flags
STATUSES = _table("""
00 PENDING; 01 SUCCESS; 02 ABORTED; 03 ABORT_FAILED; 04 ERROR; 05 BUSY; 06 INVALID_REQUEST;
07 INVALID_PATH_ID; 08 NO_DEVICE; 09 TIMEOUT; 0A SELECTION_TIMEOUT; 0B COMMAND_TIMEOUT;
0D MESSAGE_REJECTED; 0E BUS_RESET; 0F PARITY_ERROR; 10 REQUEST_SENSE_FAILED; 11 NO_HBA;
12 DATA_OVERRUN; 13 UNEXPECTED_BUS_FREE; 14 PHASE_SEQUENCE_FAILURE; 15 BAD_SRB_BLOCK_LENGTH;
16 REQUEST_FLUSHED; 20 INVALID_LUN; 21 INVALID_TARGET_ID; 22 BAD_FUNCTION; 23 ERROR_RECOVERY;
24 NOT_POWERED; 25 LINK_DOWN; 30 INTERNAL_ERROR
""")
STATUS_MASK = 0x3F
_BOOKKEEPING = (0x07, 0x08)  # SHUTDOWN, FLUSH
_SYNCHRONIZE_CACHE = (0x35, 0x91)


def requests(
    block: bytes, source: str, file_offset: int, crash_time: int | Absent
) -> tuple[list[Request], str]:
    """Requests in the block's order (newest first in real dumps); what is wrong ("": nothing).

    ``file_offset`` is the block's place in the file, ``crash_time`` in ns since 1970.
    """
    size, step = ctypes.sizeof(_HEAD), ctypes.sizeof(_RECORD)
    if len(block) < size or block[:4] != devicedump.SIGNATURE:
        return [], f"the storage port block does not start with DSTP (found {block[:4]!r})"
    head = _HEAD.from_buffer_copy(block)
    driver = head.cDriverName.decode("ascii", "replace")
    room = (len(block) - size) // step
    count = min(head.uiNumRecords, room, MAX_RECORDS)
    problem = ""
    if head.uiNumRecords > room:
        problem = (
            f"the storage port block states {head.uiNumRecords} requests, it has room for {room}"
        )
    records = [_RECORD.from_buffer_copy(block, size + index * step) for index in range(count)]
    halves = _Halves(records, is_full=count >= FULL)
    found = []
    for index, record in enumerate(records):
        offset = file_offset + size + index * step
        request = _request(index, record, driver, source, offset, crash_time)
        found.append(halves.judge(record, request))
    return found, problem


def _function(record: _RECORD) -> int | None:
    """The SRB function of an entry that is not a SCSI command."""
    return None if record.Cdb[0] or not record.Command[0] else int(record.Command[0])


class _Halves:
    """The finished halves of FLUSH and SHUTDOWN requests: what follows one is not what it seems."""

    def __init__(self, records: Sequence[_RECORD], *, is_full: bool) -> None:
        self.ends = {
            (record.StackSpecific, record.EndTime)
            for record in records
            if _function(record) in _BOOKKEEPING and record.EndTime and not record.StartTime
        }
        times = [max(record.StartTime, record.EndTime) for record in records]
        #: what began before this may follow a half that the full list no longer has
        self.oldest = min(filter(None, times), default=0) if is_full else 0

    def judge(self, record: _RECORD, request: Request) -> Request:
        """The request without the times that are another one's."""
        start = record.StartTime
        follows = (record.StackSpecific, start) in self.ends  # whose times are never 0
        if _function(record) in _BOOKKEEPING and not record.EndTime:
            if record.OperationStatus or record.OperationError:
                return request  # with its queue tag: open indeed
            why = Absent("not-applicable", "the second entry of a request that is in the list")
            if not follows:
                why = Absent(
                    "not-recorded", "the entry that would tell an open request is not in the list"
                )
            return request._replace(
                in_flight=why, duration_ns=why, end=why, status=why, status_name=why, error=why
            )
        if record.Cdb[0] in _SYNCHRONIZE_CACHE and start and (follows or start < self.oldest):
            why = Absent("not-recorded", "the time is that of the FLUSH or SHUTDOWN before it")
            if not follows:
                why = Absent(
                    "not-recorded",
                    "the time may be that of a FLUSH or SHUTDOWN that left the full list",
                )
            return request._replace(start=why, duration_ns=why)
        return request


def _request(
    index: int, record: _RECORD, driver: str, source: str, offset: int, crash_time: int | Absent,
) -> Request:  # fmt: skip
    opcode, function = record.Cdb[0], record.Command[0]
    if opcode or not function:
        operation = OPERATIONS.get(opcode, f"SCSI operation {opcode:#04x}")
    else:
        operation = "SRB " + FUNCTIONS.get(function, f"function {function:#04x}")
    start = filetime_to_ns(record.StartTime)
    end = filetime_to_ns(record.EndTime)
    in_flight = not record.EndTime
    if not record.StartTime:
        start = Absent("not-recorded", "storport recorded no start time of this request")
    if in_flight:
        end = Absent("not-applicable", "still in flight at the crash")
    duration: int | Absent
    if isinstance(start, int) and isinstance(end, int):
        duration = end - start
        if duration < 0:
            duration = Absent("out-of-range", "the request ends before it starts")
    else:
        duration = start if isinstance(start, Absent) else end
    times = [time for time in (start, end) if isinstance(time, int)]
    before: int | Absent
    if isinstance(crash_time, Absent):
        before = crash_time
    elif times:
        before = crash_time - max(times)
    else:
        before = Absent("not-recorded", "the request has no time at all")
    none = Absent("not-applicable", "no status while in flight")
    code = record.OperationStatus & STATUS_MASK
    known = f"SRB_STATUS_{STATUSES[code]}" if code in STATUSES else ""
    name = known or f"SRB status {code:#04x}"
    return Request(
        request=index, operation=operation, opcode=opcode, srb_function=function, start=start,
        end=end, duration_ns=duration, before_crash_ns=before, in_flight=in_flight,
        status=none if in_flight else code, status_name=none if in_flight else name,
        error=none if in_flight else record.OperationError, tag=record.StackSpecific,
        driver=driver,
        origin=Origin(source, "storage port block of the secondary data", "certain", offset),
    )  # fmt: skip
