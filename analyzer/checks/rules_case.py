"""The rules about several inputs together, and about the inputs themselves, in words.

Invariant: a rule of this table is only broken by what two sources say; its finding names both.
"""

from __future__ import annotations

from .rule import Rule, table

CONTROL = r"HKLM\SYSTEM\CurrentControlSet\Control\CrashControl"
_REMOVE = (
    "Remove the entry from DumpFilters (the finding has the command for what is left) and restart; "
    "keep the filter of an encryption that is in use."
)
#: a dedicated file that is large enough, on a machine with up to 32 GB
DEDICATED = (
    rf"reg add {CONTROL} /v DedicatedDumpFile /t REG_SZ /d C:\dedicated.dmp /f, then reg add "
    f"{CONTROL} /v DumpFileSize /t REG_DWORD /d 33792 /f"
)

_FILTERS = (
    Rule(
        "case-filter-file-missing",
        "error",
        "The dump stack did not load because the file of a registered filter is missing",
        "volmgr event 45 has location 0x2005 (loading the dump filters) and a status that says "
        "that a file was not found; the registry names the filters.",
        "One missing file keeps the whole crash dump stack from loading: no crash leaves a dump, "
        "and hibernation falls back to a shutdown.",
        f"Check for the files in System32\\drivers. {_REMOVE}",
    ),
    Rule(
        "case-filter-disabled",
        "error",
        "A registered dump filter was switched off while the dump was written",
        "The dump holds the filter's state as disabled, and another source says that the filter "
        "is registered or that the dump was written all the same.",
        "crashdmp goes on without the filter and logs nothing. If the filter encrypts, this dump "
        "may hold memory in plain text on a disk that is meant to be encrypted.",
        "Treat the dump as readable for anybody who has the disk. Ask the filter's vendor why "
        "Dump_Start or another callback failed.",
    ),
    Rule(
        "case-filter-not-loaded",
        "warning",
        "A registered dump filter was not loaded",
        "DumpFilters names it, but the complete list of loaded modules in the dump has no dump_ "
        "copy of it.",
        "The filter took no part in the dump: it was registered after the start, or it could not "
        "be loaded.",
        "Restart and look for volmgr event 45 or 46 in the System log. Compare DumpFilters with "
        "the files in System32\\drivers.",
    ),
    Rule(
        "case-filter-not-registered",
        "warning",
        "A loaded dump filter is not registered",
        "The dump has a dump_ module that is taken for a filter, but DumpFilters does not name it.",
        "DumpFilters was changed since the start, or something else loads a driver into the dump "
        "stack.",
        "Find out which software the driver belongs to and whether its removal was finished.",
    ),
    Rule(
        "case-leftover-filter",
        "warning",
        "A registered dump filter is a leftover",
        "DumpFilters names it, it has no service key (or a disabled one), and the dump shows that "
        "it was not loaded.",
        "It is typical of software that was removed. When its file is gone too, the whole dump "
        "stack does not load.",
        _REMOVE,
    ),
    Rule(
        "case-hibernation-fallback",
        "warning",
        "The dump stack of the hibernation could not be started",
        "Kernel-Dump event 7 says that the stack for hibernation failed, and another event or "
        "source speaks of the dump filters.",
        "Windows loads the same filters for hibernation and fast startup; when that fails it "
        "shuts down or goes back to the lock screen. This is not a crash.",
        "Look up the status in the finding. Check the entries of DumpFilters besides dumpfve.sys, "
        "and try without them.",
    ),
)
_WRITING = (
    Rule(
        "case-driver-stuck",
        "error",
        "A driver's secondary data callback ended the dump, and another source confirms the end",
        "The last line of DumpStack.log is the call of a driver, and the event log or dump of the "
        "same crash shows that the dump was not finished.",
        "Nothing after that call is written; often there is no usable dump.",
        "Update or remove the named driver. The name is what the driver registered, not always its "
        "file name.",
    ),
    Rule(
        "case-write-stalled",
        "error",
        "Writing the dump stalled, and another source speaks of the same disk path",
        "DumpStack.log shows that the memory write stalled; events or the dump of the same crash "
        "tell of storage errors or of a failed write.",
        "The disk, its driver or a dump filter's Dump_Write does not keep up or hangs.",
        "Check the disk and its firmware, update the storage driver, and try with the dump filters "
        "reduced to dumpfve.sys.",
    ),
    Rule(
        "case-dump-too-small",
        "error",
        "The file that takes the dump is too small",
        "Two sources agree on it: DumpStack.log or the dump itself, and the registry or the event "
        "log.",
        "Windows writes a smaller dump or none.",
        "Make the page file larger than the memory, or set a dedicated file larger than the "
        f"memory (33792 MB suit a machine with up to 32 GB): {DEDICATED}",
    ),
    Rule(
        "case-dump-disabled",
        "error",
        "The machine crashed while dumps were switched off",
        "CrashDumpEnabled is 0, another source tells of a crash, and none of a dump of it.",
        "Unless the setting was made later, this crash left no dump on purpose, and the dump "
        "filters were not started.",
        f"Switch automatic dumps on: reg add {CONTROL} /v CrashDumpEnabled /t REG_DWORD /d 7 /f",
    ),
    Rule(
        "case-outcome-contradictory",
        "warning",
        "The sources contradict each other on whether the dump was written",
        "Of the same crash, one source says that the dump was written, another that it failed.",
        "Neither can be trusted alone. The log ends before the file is closed, and the events are "
        "logged by the next start.",
        "Look at the dump file: its size, its time, and whether it opens.",
    ),
    Rule(
        "case-dump-type-smaller",
        "warning",
        "A smaller dump than configured was written",
        "CrashControl asks for a larger kind of dump than the dump or its log shows.",
        "Windows switched to a smaller dump while writing, or the setting was changed after the "
        "crash.",
        "Make the page file or the dedicated dump file larger.",
    ),
    Rule(
        "case-progress",
        "info",
        "How far the dump got, by the event and by the log",
        "volmgr event 161 has a progress code, and DumpStack.log of the same crash has its own.",
        "Where both agree the step that failed is known better. The meaning of the codes is not "
        "documented; it is taken from the order of lines in real logs.",
        "Look at the last lines of the log and at the status of the event.",
    ),
    Rule(
        "case-log-switched-off",
        "info",
        "There is no dump log, because it is switched off",
        "The registry says that no DumpStack.log is written, and another source tells of a crash.",
        "How far the dump got and how long its steps took is not known.",
        f"Switch it on for the next crash: reg add {CONTROL} /v EnableLogFile /t REG_DWORD /d 1 /f",
    ),
    Rule(
        "case-several-crashes",
        "info",
        "The inputs are of several crashes",
        "Bugcheck codes, parameters or times of the sources do not agree, so they are told apart.",
        "Statements about one crash do not hold for the other.",
        "See the table crashes for which source is of which crash and why.",
    ),
)
_INPUTS = (
    Rule(
        "archive-member-refused",
        "warning",
        "A file of an archive is not opened",
        "It is encrypted, too large, packed in a way that is not read, damaged, in an archive too "
        "deep, or its name leads out of the archive.",
        "What it would tell is missing from the report.",
        "Unpack the archive with another program and name the folder.",
    ),
    Rule(
        "input-limit-reached",
        "warning",
        "Not all files were looked at",
        "The folder or archive holds more files or deeper folders than are looked at.",
        "A file that matters may be among the rest.",
        "Put the dumps, logs and exports of the crash into a folder of their own.",
    ),
    Rule(
        "input-changed",
        "warning",
        "A file changed while it was read",
        "Its size or its time of change is not what it was before the file was read.",
        "A part of the report may be of the file as it was, another part of what it is now.",
        "Copy the file when nothing writes to it any more, and open the copy.",
    ),
    Rule(
        "input-copy",
        "info",
        "A file was given twice",
        "Two files have the same content, byte for byte.",
        "What it tells counts once.",
        "Nothing.",
    ),
    Rule(
        "input-passed-over",
        "info",
        "Some files are of no kind that this tool reads",
        "They were found in a folder or archive and recognised by their content.",
        "Nothing of them is in the report.",
        "See the table sources for each of them.",
    ),
)

RULES = table((*_FILTERS, *_WRITING, *_INPUTS))
