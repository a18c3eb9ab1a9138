"""The rules about DumpStack.log and the event log, in words.

Invariant: a text claims what is proven; rules that go by the words of a failure line say that.
"""

from __future__ import annotations

from .rule import Rule, table
from .rules_registry import REGISTRY

_LOG = (
    Rule(
        "log-driver-stuck",
        "error",
        "The crash path ended inside a driver's secondary data callback",
        "DumpStack.log says that a driver's callback was called; no line says that it returned, "
        "and no later step is logged.",
        "A driver that does not return there stops the dump, and nothing after it is written.",
        "Update or remove the named driver. The name is what the driver registered, not always its "
        "file name.",
    ),
    Rule(
        "log-driver-faulted",
        "error",
        "A driver's secondary data callback broke the dump",
        "DumpStack.log says that the callback was called and not that it returned; then Windows "
        "gave the dump up and began again with a minidump.",
        "The larger dump is lost although its pages may have been written. The size of the dump "
        "file has nothing to do with it.",
        "Update or remove the named driver. The name is what the driver registered, not always its "
        "file name.",
    ),
    Rule(
        "log-limit-reached",
        "warning",
        "Only a part of the log was read",
        "The file holds far more than such a log has.",
        "What stands behind the part that was read is not in the report.",
        "Cut the log into parts, or take the original file again.",
    ),
    Rule(
        "log-unfinished",
        "error",
        "DumpStack.log has no end",
        "The line that the dump was completed is missing, and the log still had room for it.",
        "Writing the dump was interrupted: by a hang, a reset, an error, or because the disk could "
        "not be written any more. The dump file is most likely missing or not usable.",
        "Look at the last line: it names the step. Look for volmgr event 161 in the System log, "
        "and whether somebody switched the machine off.",
    ),
    Rule(
        "log-write-stalled",
        "error",
        "Writing memory to the disk stalled",
        "The memory write never finished, or a part of it moved almost no data.",
        "The disk, its miniport driver or a filter's Dump_Write is too slow or hangs in the crash "
        "path. A dump can be lost through it.",
        "Check the disk and its firmware, update the storage driver, and try with the dump filters "
        "reduced to dumpfve.sys.",
    ),
    Rule(
        "log-failure-line",
        "error",
        "DumpStack.log speaks of a failure",
        "A line has words such as 'failed' or 'error'. The wording is not documented, so the line "
        "is quoted and not interpreted.",
        "It most likely names the step that broke the dump.",
        "Read the line, and the lines around it in the log.",
    ),
    Rule(
        "log-pages-missing",
        "warning",
        "Not all pages were written",
        "The log states fewer written pages than pages in total.",
        "Memory that was not written cannot be read from the dump.",
        "Treat the dump as incomplete. Check the free space of the dump volume and the disk.",
    ),
    Rule(
        "log-dump-type-reduced",
        "warning",
        "A smaller dump than configured was written",
        "Windows switched to a smaller dump type while writing.",
        "The dump lacks memory that the configured type would hold, such as pool with the filters' "
        "data.",
        "When the log says that the dump file was too small, make the page file or the dedicated "
        "dump file larger than the total dump size in the log. Else look at the step that broke "
        "off before.",
    ),
    Rule(
        "log-start-slow",
        "warning",
        "The dump started late",
        "The first time in the log is more than 10 seconds after the bugcheck. Of 20 public logs "
        "19 have 1.3 to 8.0 seconds, one has 171.7. Dump_Start of all filters lies in that time, "
        "but so do freezing the processors, the screen, triage data and the start of the dump port "
        "driver.",
        "A slow Dump_Start or a slow disk start can let a watchdog reset the machine before the "
        "dump is written.",
        "Time Dump_Start with a kernel debugger, or try with the dump filters reduced to "
        "dumpfve.sys and compare.",
    ),
    Rule(
        "log-write-slow",
        "warning",
        "Memory was written slowly",
        "The memory write ran below 20 MB/s. Public logs have 37 to 347 MB/s, and one 7.8 MB/s.",
        "A large dump takes minutes at that speed, and a watchdog or a person may reset the "
        "machine.",
        "Check the disk and the storage driver; some dedicated dump files are slower than the page "
        "file. A filter's Dump_Write is part of this time.",
    ),
    Rule(
        "log-full",
        "warning",
        "DumpStack.log is full",
        "The log has no room for another line, so its end was not written.",
        "The log does not tell whether the dump was completed.",
        "Look at the event log and the dump itself. Set DumpLogLevel to 0 for shorter logs.",
    ),
    Rule(
        "log-cut",
        "warning",
        "The copy of DumpStack.log is incomplete",
        "The header announces more text than the file has.",
        "What came after the last line is not known; it does not show that the dump stopped there.",
        "Copy the file again from the root of the page file's volume (it is hidden).",
    ),
    Rule(
        "log-excerpt",
        "info",
        "The log is part of another text",
        "A log that has lost its header stands among lines that Windows does not write.",
        "It may have been copied in part, so its last line does not show how the dump ended.",
        "Get the file itself: DumpStack.log in the root of the page file's volume (it is hidden).",
    ),
    Rule(
        "log-clock-backwards",
        "warning",
        "The elapsed time in the log goes back",
        "A later line states a smaller time since the bugcheck.",
        "Lines of two crashes are probably mixed.",
        "Take the file from the machine again, before another crash overwrites it.",
    ),
    Rule(
        "log-line-unrecognised",
        "info",
        "A line of the log is not understood",
        "The line is not among the kinds known from public logs; it is kept as it is.",
        "It may hold what this tool cannot tell you.",
        "Read the line. Report it to the makers of this tool if Windows wrote it.",
    ),
    Rule(
        "log-leftover",
        "info",
        "Old text lies behind the end of the log",
        "Behind the place where the log ends there is more text. It is left out.",
        "It is most likely the rest of an older, longer log. In an unfinished log it could also be "
        "the newest lines, written before the length in the header.",
        "Nothing, if the log is complete. Otherwise read the end of the file by eye.",
    ),
    Rule(
        "log-rewritten",
        "info",
        "The log was saved again by another program",
        "The encoding or the line ends are not those that Windows writes.",
        "File offsets are those of this copy, and the binary header may have been damaged.",
        "Nothing, if the lines look right.",
    ),
    Rule(
        "log-header-damaged",
        "info",
        "The header of the log is missing or does not match its text",
        "The header is missing, or the length that it states is not that of the text.",
        "The rest of an older log may be mistaken for lines of this one.",
        "Take the original file from the machine if something in the stages looks odd.",
    ),
    Rule(
        "log-empty",
        "info",
        "The log holds no lines",
        "The file has its header and nothing else.",
        "No crash was logged in it since it was made.",
        "Look for DumpStack.log beside DumpStack.log.tmp.",
    ),
)

_EVENT = (
    Rule(
        "event-dump-failed",
        "error",
        "Windows logged that creating the dump failed",
        "volmgr event 161. Its data hold the location code, the status and, on newer Windows, the "
        "stage (BugCheckProgress).",
        "There is no dump of this crash, or not a complete one. Event 162 in the same second has "
        "been seen too, so look at both.",
        "Look up the status and the stage in the finding. With location 0x5001 the port driver or "
        "the disk failed to write; look for a full or too small dump file too.",
    ),
    Rule(
        "event-dump-driver-load-failed",
        "error",
        "A driver of the crash dump stack could not be loaded",
        "volmgr event 45. Location 0x2005 means a dump filter, 0x2004 the dump port driver.",
        "Without its drivers Windows writes no dump, and hibernation falls back to a shutdown.",
        "For location 0x2005 compare CrashControl\\DumpFilters with the files in "
        "System32\\drivers, and remove entries whose file is gone.",
    ),
    Rule(
        "event-dump-init-failed",
        "error",
        "Crash dump initialization failed",
        "volmgr event 46.",
        "The crash dump stack was not ready; a crash before it is set up again leaves no dump.",
        "Check that a page file or a dedicated dump file exists on a local disk that supports "
        "dumps.",
    ),
    Rule(
        "event-dump-init-early",
        "info",
        "Crash dump initialization failed while Windows started",
        "volmgr event 46 within two minutes of a start.",
        "Healthy machines log it too, before their page file is set up. A crash before it is set "
        "up leaves no dump; a later one can.",
        "Nothing, if later starts come without it, or if a page file is set up later. Otherwise "
        "check that one exists on a local disk that supports dumps.",
    ),
    Rule(
        "event-power-button",
        "warning",
        "The power button was pressed before the machine went down",
        "Kernel-Power event 41 holds the time at which the power button was pressed.",
        "It is mostly held when a machine no longer answers, so this one probably hung. Holding it "
        "cuts the power, and no dump can be written after that.",
        "If it hung, find out why: force a crash from the keyboard or by an NMI (NMICrashDump) the "
        "next time, instead of holding the button. During a sleep transition look at the drivers "
        "of the hibernation stack too.",
    ),
    Rule(
        "event-resume-failed",
        "warning",
        "Resuming from hibernation or fast startup failed",
        "Kernel-Boot event 16 or 29, with the status in FailureStatus.",
        "Windows threw the saved state away and started anew. The hibernation file was written "
        "through the hibernation stack, that is through its own copies of the dump filters.",
        "Look up the status. Look at the hiber_* modules and at filters besides dumpfve.sys, and "
        "try with DumpFilters reduced to dumpfve.sys.",
    ),
    Rule(
        "event-dump-device-gone",
        "error",
        "The dump device is gone",
        "volmgr event 156.",
        "The disk that should take the dump was removed, or failed.",
        "Check the disk and its controller.",
    ),
    Rule(
        "event-dump-config-failed",
        "warning",
        "The dump file could not be configured",
        "volmgr event 47, 48, 49 or 164: page file or dedicated dump file cannot be used.",
        "The next crash may leave no dump.",
        "Make the page file larger than the installed memory, or set DedicatedDumpFile.",
    ),
    Rule(
        "event-dump-callback-exception",
        "warning",
        "A callback raised an exception while the dump was written",
        "volmgr event 163.",
        "The secondary data of that driver are missing; DumpStack.log names the driver.",
        "Read DumpStack.log of the same crash, and update the driver it names.",
    ),
    Rule(
        "event-dump-outcome-contradictory",
        "warning",
        "Dump failed and dump created were logged together",
        "volmgr events 161 and 162 lie within a minute of each other.",
        "Which one holds cannot be told from the event log.",
        "Check whether the dump file exists and opens.",
    ),
    Rule(
        "event-dump-not-saved",
        "warning",
        "Windows Error Reporting did not keep the dump",
        "WER-SystemErrorReporting event 1000, 1002, 1004, 1005 or 1006 after the restart.",
        "The dump may have been written into the page file and then lost.",
        "Check the free space of the system volume, and Overwrite, DumpFile and MinidumpDir in "
        "CrashControl.",
    ),
    Rule(
        "event-dump-stack-failed",
        "warning",
        "The kernel logged a failure of the dump stack",
        "Microsoft-Windows-Kernel-Dump event 4 to 9. Event 7 comes from starting the hibernation "
        "stack, which starts the filters.",
        "A filter's DriverEntry can be the cause for 5, 6 and 9, the start of the storage driver's "
        "copy for 7. On Windows 7 a failing Dump_Start alone does not make the stack fail; whether "
        "it does on later versions is not known. The event does not name the driver.",
        "Look for volmgr event 45 or 46 at the same time: its data name the step.",
    ),
    Rule(
        "event-boot-dump-failed",
        "warning",
        "Early or boot-time dump support failed",
        "Kernel-Boot 257 to 267, Crashdump 4 or 5, or Kernel-IO 1305 with a failure status.",
        "Loading the dump stack at boot includes DriverEntry of every dump filter.",
        "Look up the status in the finding, and look for volmgr event 45 or 46.",
    ),
    Rule(
        "event-dump-encryption-failed",
        "warning",
        "Dump encryption could not be set up",
        "Kernel-IO event 1207.",
        "Dumps are not written, or not encrypted as configured.",
        "Check the dump encryption settings under CrashControl\\EncryptionCertificates.",
    ),
    Rule(
        "event-storage-errors",
        "warning",
        "Storage errors were logged shortly before a crash",
        "Disk or storage port drivers logged errors or warnings within ten minutes before an "
        "unexpected restart.",
        "A disk that fails can cause the crash and keep the dump from being written.",
        "Check the health of the disk and the storage driver.",
    ),
    Rule(
        "event-storport-errors",
        "info",
        "StorPort logged errors shortly before a crash",
        "StorPort's own events of level error, within ten minutes before a crash or an unexpected "
        "restart, that speak of an error or of the boot disk.",
        "Many healthy machines log some of them at each start, for commands that a disk does not "
        "know. Others are the first sign of a disk or a driver that fails.",
        "Read the events (dumpstart show events FILE --provider Microsoft-Windows-StorPort).",
    ),
    Rule(
        "event-log-damaged",
        "warning",
        "Parts of the event log cannot be read",
        "Records or chunks of the file are damaged; the rest was read.",
        "Events of the crash may be among what is missing.",
        "Export the log again on the machine (wevtutil epl System system.evtx).",
    ),
    Rule(
        "event-log-incomplete",
        "warning",
        "Events are missing from the log",
        "The numbers of the records, the header of the file, or the missing end of an export show "
        "that there were more events than could be found.",
        "Events of the crash may be among what is missing, so nothing follows from their absence.",
        "Export the log again on the machine (wevtutil epl System system.evtx).",
    ),
    Rule(
        "event-log-cleared",
        "info",
        "An event log was cleared",
        "Windows logged (event 104) that somebody or a program emptied a log.",
        "What the log told of crashes before that time is gone.",
        "Look for an older copy of the log; a dump or DumpStack.log tells of its crash without it.",
    ),
    Rule(
        "event-log-empty",
        "info",
        "The event log holds no event",
        "The file is a log or an export without events.",
        "It does not tell whether there was a crash.",
        "Get the System log: wevtutil epl System system.evtx.",
    ),
    Rule(
        "event-log-other-channel",
        "info",
        "This is not the System log",
        "None of the events is of the System log.",
        "Crashes, restarts and failed dumps are logged there.",
        "Get the System log too: wevtutil epl System system.evtx.",
    ),
    Rule(
        "event-payload-short",
        "info",
        "An event lacks the binary data that would name the cause",
        "The IO_ERROR_LOG_PACKET of a volmgr event is missing or cut.",
        "Location code and status of the failure are not known.",
        "Save the log as .evtx or XML; a CSV export has no binary data.",
    ),
)

RULES = table((*_LOG, *_EVENT, *REGISTRY))
