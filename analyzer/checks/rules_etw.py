"""The rules an ETW trace can break, in words.

Invariant: a text claims what a trace can show; events that a session lost are never taken for
events that did not happen.
"""

from __future__ import annotations

from .rule import Rule, table

_TRACE = (
    Rule(
        "etw-events-lost",
        "warning",
        "The trace lost events",
        "The session could not write all events; its header counts the lost events and buffers.",
        "Calls, errors or requests may be missing, and entry and return of a call may not belong "
        "together.",
        "Record again with larger or more buffers (-bs, -nb) or fewer providers.",
    ),
    Rule(
        "etw-buffers-missing",
        "info",
        "Buffer numbers are missing in the trace",
        "Buffers are numbered in the order they were written; some numbers are not in the file.",
        "Empty buffers may be numbered and not written, so nothing need be lost; a circular trace "
        "also overwrites its oldest buffers.",
        "Look at the counts of lost events and buffers, which are what the session itself says.",
    ),
    Rule(
        "etw-buffers-lacking",
        "warning",
        "Buffers that the trace header counts are not in the file",
        "A closed session states how many buffers it wrote; the file has fewer.",
        "The file was cut or lost parts when it was copied: its events are some of those that were "
        "written.",
        "Look for another copy of the file.",
    ),
    Rule(
        "etw-buffers-repeated",
        "warning",
        "Buffers stand in the trace twice",
        "Two buffers of the file are equal byte by byte, number and time included.",
        "The file was put together wrongly; what is missing in place of them is not known.",
        "Look for another copy of the file.",
    ),
    Rule(
        "etw-buffer-not-empty",
        "warning",
        "A buffer says that it is empty and holds events",
        "The header of the buffer states no bytes; behind it stands what looks like an event.",
        "The header is damaged, so events of this buffer are missing here.",
        "Look for another copy of the file.",
    ),
    Rule(
        "etw-event-too-long",
        "warning",
        "An event is so large that it includes other events",
        "Inside of an event, up to its very end, lies an unbroken chain of other events, with "
        "times in order. Either its size is damaged, or its payload is a copy of events.",
        "The included events are not in the results, and the outer one may be decoded wrongly.",
        "Look for another copy of the file.",
    ),
    Rule(
        "etw-damaged",
        "warning",
        "Parts of the trace are damaged",
        "Bytes were found that are no buffer, no event or no valid compressed data. Reading went "
        "on behind them.",
        "Events of the crash may be among what is missing.",
        "Copy the file again. If it is damaged at its source, treat what is not in it as unknown.",
    ),
    Rule(
        "etw-cut",
        "warning",
        "The trace file is cut",
        "The file ends inside a buffer.",
        "The newest events of a sequential trace are in the part that is missing.",
        "Compare the size with the file at its source and copy it again.",
    ),
    Rule(
        "etw-unfinalised",
        "info",
        "The trace was never closed",
        "The count of buffers in the trace header is zero: the machine or the writer stopped "
        "before it could be filled in. All buffers found were read.",
        "Normal after a crash. What was still in memory is not in the file; the dump may hold it.",
        "Open the dump of the same crash too.",
    ),
    Rule(
        "etw-header-missing",
        "warning",
        "The trace has no readable header",
        "The first buffer does not hold the trace header event.",
        "The clock is not known, so events have no time and no durations.",
        "Copy the file again. If several files belong together, open the first one.",
    ),
    Rule(
        "etw-clock-unknown",
        "warning",
        "The clock of the trace is not known",
        "The trace header gives no usable clock type, frequency or start time.",
        "Events have an order but no time and no durations.",
        "Record again, or read the trace header with another tool.",
    ),
    Rule(
        "etw-several-sessions",
        "warning",
        "The trace file holds several sessions",
        "Trace headers behind the first tell another clock or another start time: a session was "
        "appended, or files were put together.",
        "Times are computed with the first header; behind the others they may be wrong.",
        "Split the file, or record without the append mode.",
    ),
    Rule(
        "etw-manifest-broken",
        "info",
        "A manifest inside the trace cannot be used",
        "A provider sent its manifest in the trace, but it is incomplete or not readable.",
        "Payloads of this provider stay undecoded.",
        "Give the provider's .man file.",
    ),
)
_CALLBACKS = (
    Rule(
        "etw-callback-slow",
        "warning",
        "A callback of a dump filter was slow",
        "More than a second lies between entry and return of one call.",
        "A dump makes thousands of calls. A watchdog or an impatient user may end a slow dump.",
        "Find out what the callback waits for; in crash mode nothing else runs on the machine.",
    ),
    Rule(
        "etw-callback-no-return",
        "warning",
        "A callback was entered and no return is in the trace",
        "There is an entry event without its return event.",
        "The callback may not have returned; or the trace ended or lost the event.",
        "See whether later events exist and whether the trace lost events; look at the dump.",
    ),
    Rule(
        "etw-callback-no-entry",
        "info",
        "A callback returned and no entry is in the trace",
        "There is a return event without its entry event.",
        "The trace began inside the call or lost the event. The duration is not known.",
        "Start the session earlier or with larger buffers.",
    ),
    Rule(
        "etw-callback-nested",
        "warning",
        "A callback began inside another on the same thread",
        "A second entry event came before the return of the first.",
        "crashdmp calls filters one after the other, so the filter called itself, or a return "
        "event is missing.",
        "Look at the two calls and at the driver's code.",
    ),
    Rule(
        "etw-callback-events-lost",
        "warning",
        "The trace lost events during a callback",
        "A buffer between entry and return of the call says that events were lost.",
        "Calls may be missing; a pair may be made of two calls.",
        "Treat the duration as an upper bound. Record again with larger buffers.",
    ),
    Rule(
        "etw-clock-backwards",
        "warning",
        "A call ends before it begins",
        "The return of a callback has an earlier clock value than its entry.",
        "The clocks of two processors differ, or the halves are of two calls. The duration is "
        "unknown.",
        "Use the performance counter as the clock of the session.",
    ),
)
_STORY = (
    Rule(
        "etw-dump-stack-slow",
        "warning",
        "Loading the crash dump stack was slow",
        "More than five seconds lie between Kernel-IO 1304 and 1305.",
        "This includes DriverEntry of every dump filter, and it delays the start of Windows.",
        "Take filters out of DumpFilters one at a time on a test machine.",
    ),
    Rule(
        "etw-dump-stack-unfinished",
        "warning",
        "Loading the crash dump stack has no end",
        "Kernel-IO 1304 (start) is in the trace, 1305 (stop) is not.",
        "Loading hung or the trace ended first. A filter's DriverEntry runs in between.",
        "See whether the trace goes on for long after the start event.",
    ),
    Rule(
        "etw-dump-file-slow",
        "warning",
        "Creating the dump file was slow",
        "Microsoft-Windows-Crashdump event 3 tells more than ten seconds.",
        "A fragmented or slow disk will also make the dump itself slow.",
        "Look at free space and health of the dump volume.",
    ),
    Rule(
        "etw-previous-crash",
        "info",
        "The start before this trace ended with a crash",
        "Kernel-Power event 41 carries a bugcheck code.",
        "The trace was recorded after that crash; a dump of it may exist.",
        "Open that dump.",
    ),
    Rule(
        "etw-storage-errors",
        "warning",
        "The trace holds storage errors",
        "StorPort or a storage driver logged errors.",
        "A dump goes through the same disk and, as a copy, the same miniport driver.",
        "Check the disk and its driver; compare the times with the crash.",
    ),
    Rule(
        "etw-storage-slow",
        "warning",
        "Storage requests were slow or failed",
        "A request took a second or more, or completed with an error.",
        "A slow disk also slows the dump, and can be the cause of the crash.",
        "Look at the health of the disk and at storport events in the System log.",
    ),
)

RULES = table((*_TRACE, *_CALLBACKS, *_STORY))
