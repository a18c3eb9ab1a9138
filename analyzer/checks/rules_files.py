"""The rules about a dump file itself: cut, short, encrypted, damaged, or no crash at all.

Invariant: a text claims what is proven and says where it is not.
"""

from __future__ import annotations

from .rule import Rule

FILE = (
    Rule(
        "search-stopped",
        "warning",
        "A search ended at its limit",
        "The memory holds far more places that look like a filter, a dump stack context, a return "
        "address or a trace session than that of any real machine, so a search was ended.",
        "More filters may be there than are shown. Memory full of look-alikes is itself a sign of "
        "damage or of a file made to mislead.",
        "Of a dump: look at it in a debugger, starting from the structures that were found. Of a "
        "snapshot: take another one, and see whether it is told again.",
    ),
    Rule(
        "dump-file-cut",
        "error",
        "The dump file ends before its own header says it should",
        "The header or the page map of the dump describes more bytes than the file has.",
        "Memory that was in the missing part cannot be read. What the dump does not show may "
        "simply lie in that part.",
        "Compare the size with the file on the crashed machine and copy it again. If it is "
        "short there too, writing the dump was interrupted: look at DumpStack.log and at the "
        "free space of the dump volume.",
    ),
    Rule(
        "dump-is-slice",
        "info",
        "This is a part of a dump, cut by dumpstart",
        "Its header says that 'dumpstart export --slice' kept the pages that an analysis reads, "
        "and how many pages the dump had.",
        "Memory that is missing here says nothing about the dump or the machine.",
        "Where something else has to be read, ask for the whole dump.",
    ),
    Rule(
        "dump-encrypted",
        "error",
        "The memory in the dump is encrypted",
        "The header says that the dump data is encrypted.",
        "Only the header can be read; modules, filters and their data cannot.",
        "Decrypt the dump with Microsoft's KernelDumpDecrypt.exe and the private key, then "
        "analyze the result.",
    ),
    Rule(
        "dump-bitmap-count-mismatch",
        "warning",
        "The page bitmap and the page count disagree",
        "The number of pages marked in the bitmap is not the number of pages the header states.",
        "One of the two is wrong. If pages are missing in the file, all later pages are "
        "shifted and memory contents would be wrong.",
        "Treat contents with care. Copy the file again, and check it with a second tool.",
    ),
    Rule(
        "dump-map-inconsistent",
        "warning",
        "The page map of the dump contradicts itself",
        "Runs, ranges or the place of the first page do not fit each other or the file.",
        "Pages can be read from the wrong place.",
        "Treat contents with care. Copy the file again, and check how it was written or converted.",
    ),
    Rule(
        "snapshot-damaged",
        "error",
        "A memory snapshot contradicts itself or is cut short",
        "The tables of a snapshot's file describe memory that the file does not have or that no "
        "machine has.",
        "Memory in the part that is missing cannot be read. What the snapshot does not show may "
        "simply lie in that part.",
        "Copy the file again and compare the sizes. If it is the same, take the snapshot again "
        "with enough free space.",
    ),
    Rule(
        "dump-not-by-windows",
        "info",
        "Another program than Windows wrote the dump",
        "The header has the mark of another writer, or the file is whole and lacks the data that "
        "crashdmp adds to every dump it writes.",
        "Such a dump shows the machine's memory, but not that the crash path worked: the filters "
        "may never have been started.",
        "Nothing. To learn what the filters did, look at their state and at BugCheckProgress in "
        "the dump.",
    ),
    Rule(
        "dump-map-contradicts-memory",
        "warning",
        "The page map leaves out memory that the dump must hold",
        "The page tables in the dump lead to memory that is never paged out and that Windows needs "
        "for the dump, but the map of pages says that those frames are not stored.",
        "If a bit of the map moved, all pages behind it are taken for others, and what is shown of "
        "them is wrong.",
        "Treat contents with care. Copy the file again, and check it with a second tool.",
    ),
    Rule(
        "dump-bugcheck-differs",
        "warning",
        "Header and memory name different bugchecks",
        "BugCheckCode of the header is not the code that nt!KiBugCheckData holds in the dump.",
        "One of the two is wrong; a tool that made a dump of a running or a crashed machine may "
        "have put its own code into the header.",
        "Find out what wrote the dump. In a debugger, compare .bugcheck with the header "
        "(.dumpdebug).",
    ),
    Rule(
        "triage-marker-missing",
        "error",
        "The minidump lacks its end mark",
        "The word TRGD that Windows puts at the end of a small dump is not where the header says.",
        "The file is cut or overwritten, so parts of it may be missing or wrong.",
        "Copy the file from the crashed machine again and compare the sizes.",
    ),
    Rule(
        "header-field-unset",
        "warning",
        "A header field that must be set was never filled in",
        "The field still holds the filler word PAGE that Windows puts into an empty header.",
        "The writer of the dump stopped early, or a tool other than Windows wrote the file.",
        "Find out who wrote the dump. If it was Windows, look at DumpStack.log for the last stage.",
    ),
    Rule(
        "secondary-data-missing",
        "info",
        "The dump has no secondary data",
        "The block list DumpBlob, which drivers add at the end of a dump, is not there.",
        "Storage requests and trace buffers of the last seconds cannot be shown. Dumps "
        "written by a debugger do not have it.",
        "Nothing, if a debugger wrote the dump. Otherwise check whether the file was cut, and"
        " look at the secondary data state in the header.",
    ),
    Rule(
        "secondary-data-damaged",
        "warning",
        "The secondary data of the dump is damaged",
        "The list of data blocks that drivers add at the end of a dump cannot be followed to "
        "its end.",
        "Storage requests and trace buffers may be incomplete.",
        "Check whether the file was cut. DumpStack.log names the driver whose data was "
        "written last.",
    ),
    Rule(
        "dump-space-insufficient",
        "warning",
        "The space for the dump was too small",
        "Windows marked in the header that the dump file or page file could not hold the dump "
        "that was asked for.",
        "A smaller dump stands in its place, which is itself whole unless another finding says "
        "otherwise.",
        "Enlarge the page file, or set a DedicatedDumpFile with enough space, for the next crash.",
    ),
    Rule(
        "dump-filter-dump-file",
        "info",
        "The dump was written with filtered pages",
        "The header attribute FilterDumpFile is set.",
        "Some pages were left out on purpose (active dump); their absence is not damage. The "
        "attribute does not speak of crash dump filter drivers.",
        "Nothing. Set a complete dump if the missing pages are needed.",
    ),
    Rule(
        "writer-status-failed",
        "error",
        "The dump writer reported a failure",
        "The field WriterStatus of the header is a failing NTSTATUS.",
        "Windows itself says that writing the dump failed, so the dump can be incomplete.",
        "Look up the status. Read DumpStack.log and the volmgr events 46, 49 and 161 for the "
        "stage.",
    ),
    Rule(
        "secondary-data-failed",
        "warning",
        "Collecting the secondary data failed",
        "The field SecondaryDataState of the header is a failing NTSTATUS.",
        "What drivers wanted to add to the dump (storage requests, traces) can be incomplete.",
        "Look up the status. DumpStack.log names the driver callbacks and the last one called.",
    ),
    Rule(
        "not-a-crash",
        "info",
        "This was not made by a crash",
        "It is a live dump or a snapshot, and its bugcheck code says that the system was running.",
        "No crash dump was written, so the crash dump filters were not called for this file. "
        "What is shown is how they stood at that moment.",
        "Use a dump of a real crash to judge what the filters did in a crash.",
    ),
    Rule(
        "modules-incomplete",
        "warning",
        "The list of loaded modules could not be read to its end",
        "The kernel's list of modules breaks off: an entry is damaged or its memory is missing.",
        "Drivers of the dump stack may be loaded without being listed.",
        "Use a dump that holds more memory, and check the file for damage.",
    ),
    Rule(
        "clock-torn",
        "warning",
        "The clock was caught in the middle of an update",
        "The time fields of the page shared with user mode disagree with each other.",
        "Times taken from it can be off by one update; the times of the header are not affected.",
        "Use the header times.",
    ),
)
