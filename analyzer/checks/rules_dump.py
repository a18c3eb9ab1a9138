"""The rules a kernel dump can break, in words.

Invariant: a text claims what is proven and says where it is not. "crashdmp" is Windows' crash dump
driver; how it treats a failing filter is proven on Windows 7 x86 and inferred on later versions.
"""

from __future__ import annotations

from .rule import Rule, table
from .rules_crash import CRASH
from .rules_executing import EXECUTING
from .rules_files import FILE

_STACK = (
    Rule(
        "dump-stack-missing",
        "warning",
        "No crash dump stack is loaded",
        "The module list has no module whose name starts with dump_.",
        "Without the stack Windows cannot write a crash dump itself. A dump made by a "
        "debugger, a hypervisor or a tool does not need it.",
        "If Windows wrote this dump, check CrashControl\\CrashDumpEnabled and volmgr events 45"
        " and 46 in the System log.",
    ),
    Rule(
        "crashdmp-not-listed",
        "info",
        "The module list has images of a dump stack but not crashdmp.sys",
        "crashdmp.sys loads the images whose names start with dump_ and stays loaded.",
        "The list is not that of a whole Windows, so what it does not have proves nothing.",
        "Find out what wrote the dump.",
    ),
    Rule(
        "module-copy-differs",
        "warning",
        "A driver of the dump stack is not the image it should be a copy of",
        "The dump stack maps its own copy (dump_x.sys, hiber_x.sys) of a driver x.sys. Time "
        "stamp or size of the copy differ from the loaded original.",
        "The file was replaced after the original was loaded, or another file has the same "
        "name. The crash path then runs code other than the one in daily use.",
        "Restart after driver updates. If it stays, compare the file on disk with both images.",
    ),
    Rule(
        "context-copy-differs",
        "warning",
        "crashdmp's data and its safety copy differ",
        "crashdmp keeps a copy of its own data (Context, ContextCopy) to notice damage. "
        "Fields that should not change differ.",
        "Something may have overwritten crashdmp's memory. On Windows 7 crashdmp compares the"
        " two before it uses them.",
        "Look at the differing field and at what lies around it in memory, and check for "
        "drivers that write out of bounds (Driver Verifier).",
    ),
    Rule(
        "filter-ring-broken",
        "error",
        "The list of crash dump filters is damaged",
        "crashdmp keeps its filters in a ring of list entries. It does not close, its links "
        "contradict each other, or they lead to memory that the machine did not have.",
        "Windows may call only some of the filters, or crash again while writing the dump. "
        "The list shown may be incomplete.",
        "Look at the evidence for the place. An entry that is not in the dump needs a bigger "
        "dump; a wrong link means overwritten memory.",
    ),
    Rule(
        "filter-count-differs",
        "warning",
        "Loaded filter modules and listed filters differ in number",
        "The number of modules taken for crash dump filters is not the number of entries in "
        "crashdmp's filter list. A module counts as a filter when its name is that of no "
        "known port or miniport driver.",
        "A filter may have been loaded and then dropped, for example because its DriverEntry "
        "failed; or a miniport driver is not known by name.",
        "Compare the names with CrashControl\\DumpFilters in the registry, and look for volmgr"
        " event 45 with location 0x2005 or 0x2006.",
    ),
    Rule(
        "filter-node-not-in-dump",
        "warning",
        "The data of a listed filter is not in the dump",
        "crashdmp's filter list leads to memory that the machine had but this dump does not hold.",
        "What that filter was given and did cannot be shown, and neither can filters that follow "
        "it in the list.",
        "Use a kernel or complete dump that was not cut. Filters keep this data in memory that "
        "such dumps normally hold.",
    ),
    Rule(
        "filter-node-unrecognised",
        "warning",
        "An entry of the filter list has no known layout",
        "The filter list has an entry whose content does not fit any layout known for filters.",
        "What this filter was given and did cannot be shown.",
        "Keep the dump and tell the makers of this tool the Windows build. A debugger shows "
        "the bytes.",
    ),
)

_FILTER = (
    Rule(
        "filter-disabled",
        "error",
        "A crash dump filter was switched off after a failure",
        "Bit 0 of the filter's state is set. crashdmp sets it when the filter's DriverEntry, "
        "Dump_Start, Dump_Write or Dump_Finish returns a failing status. This is proven on "
        "Windows 7 x86; on later versions the place of the state is inferred.",
        "What the stack of this filter writes goes on without it: a dump, or a hibernation file. "
        "If the filter encrypts, that may have gone to the disk in plain text.",
        "Find the failing callback: the last failing routine if it is shown, the filter's own"
        " log, or a debugger with a breakpoint on its callbacks.",
    ),
    Rule(
        "filter-callback-failed",
        "error",
        "A callback of a crash dump filter failed",
        "A callback of the filter returned a failing NTSTATUS (top bit set), and the status "
        "is not known to be harmless for this filter.",
        "crashdmp then drops the filter and goes on without it (proven on Windows 7 x86). If "
        "the filter encrypts, later data may go to the disk in plain text.",
        "Ask the maker of the filter what this callback means by this status. Where memory is at "
        "hand (a dump with pages, a snapshot, a debugger), 'dumpstart dryrun' calls it on a copy "
        "and names the value that decides.",
    ),
    Rule(
        "filter-callback-failed-benign",
        "info",
        "A callback of a crash dump filter failed in a way known to be harmless",
        "The callback returned a failing NTSTATUS that this filter uses to say that it has "
        "nothing to do.",
        "The filter takes no part in the dump, as intended by its maker.",
        "Nothing, unless the filter should have been active on this machine.",
    ),
    Rule(
        "callback-outside-module",
        "error",
        "A callback of a filter does not lie in the filter's module",
        "The address of the callback is outside the image of the filter it belongs to.",
        "crashdmp calls this address while it writes the dump. If it holds no valid code, "
        "writing the dump fails; if another driver hooked it, foreign code runs in the crash "
        "path.",
        "Look at the module that holds the address, if any. Check for overwritten memory, an "
        "unloaded driver or a hook.",
    ),
    Rule(
        "filter-version-1",
        "info",
        "A filter uses the old interface version on Windows 8 or later",
        "MajorVersion is 1: the filter was built for Windows Vista or 7, or did not set the "
        "version.",
        "It is legal. Windows does not call such a filter for reads (Dump_Read).",
        "Nothing, unless the filter must see reads; then it has to set version 2.",
    ),
    Rule(
        "filter-read-without-support",
        "warning",
        "A filter has a Dump_Read routine that Windows will not call",
        "Dump_Read is set, but flag 0x1 is clear or MajorVersion is below 2. Read filtering "
        "needs all three.",
        "Data that Windows reads back in the crash path does not pass through the filter.",
        "The filter has to set MajorVersion 2 and DUMP_FILTER_FLAG_SYSTEM_SUPPORT_READ (0x1)."
        " Bit 0 had another meaning before (critical filter), so do not judge from the bit "
        "alone.",
    ),
    Rule(
        "filter-max-pages-zero",
        "error",
        "A filter allows zero pages per write",
        "MaxPagesPerWrite is 0. crashdmp presets 16 (proven on Windows 7 x86), so the filter "
        "wrote the 0, or the memory was overwritten.",
        "The field limits how many pages one write may have; with 0 no write fits.",
        "The filter's DriverEntry has to leave the field alone or set it to a number above 0.",
    ),
    Rule(
        "filter-without-callbacks",
        "warning",
        "A filter has no callback that takes part in a dump",
        "None of its callbacks but Dump_Unload is set. It is legal, because every callback is "
        "optional.",
        "The filter is loaded but is never called, so it cannot do its work.",
        "Check whether its DriverEntry ran to its end and filled in FILTER_INITIALIZATION_DATA.",
    ),
)

_EXTENSION = (
    Rule(
        "extension-dump-type-invalid",
        "error",
        "A filter is given an undefined dump type",
        "DumpType in FILTER_EXTENSION is neither 1 (crash dump) nor 2 (hibernation).",
        "A filter that tests the type may refuse to work. Windows sets only 1 or 2, so the "
        "memory may be overwritten.",
        "Compare the other fields of the extension; if they are wrong too, look for "
        "overwritten memory.",
    ),
    Rule(
        "extension-dump-type-hibernation",
        "warning",
        "A filter of the crash stack is told that this is a hibernation",
        "DumpType in FILTER_EXTENSION is 2 (hibernation) for a filter of the crash stack, in "
        "a dump of a crash.",
        "The filter may take another path than the one for crashes.",
        "Check whether the node really belongs to the crash stack (its module is named dump_,"
        " not hiber_).",
    ),
    Rule(
        "extension-device-null",
        "error",
        "A filter was given no device",
        "DeviceObject in FILTER_EXTENSION is NULL.",
        "A filter that uses the device of the dump volume fails or crashes in Dump_Start.",
        "Check how the dump volume was set up: DedicatedDumpFile, volmgr events 45 to 49.",
    ),
    Rule(
        "extension-geometry-invalid",
        "error",
        "The disk geometry given to a filter makes no sense",
        "The sector size is not a power of two from 512 to 65536, a count that must be above "
        "0 is not, or the cylinders together are larger than the disk.",
        "A filter that works with sectors computes wrong places or divides by zero.",
        "Compare with the geometry the disk reports on the running system. A wrong value "
        "comes from the storage driver, or the memory was overwritten.",
    ),
    Rule(
        "extension-disk-size-invalid",
        "error",
        "The disk size given to a filter makes no sense",
        "DiskSize is 0, is smaller than its own geometry, or is not a multiple of the sector size.",
        "A filter may reject writes as outside the disk, or compute wrong places.",
        "Compare with the size the disk reports on the running system. A wrong value comes "
        "from the storage driver, or the memory was overwritten.",
    ),
    Rule(
        "extension-partition-info-size",
        "error",
        "The partition information given to a filter has the wrong size",
        "SizeOfPartitionInfo is not 0x18, the size of DISK_PARTITION_INFO.",
        "A filter that checks it rejects the disk; the fields behind it may be wrong.",
        "Check whether the memory was overwritten or the layout of the extension is another one.",
    ),
    Rule(
        "extension-size-unexpected",
        "error",
        "FILTER_EXTENSION states an unknown size",
        "On Windows 8 and later the field Size should be 0x58 (0x50 on 32-bit), the size of "
        "the structure.",
        "Filters use it to see which fields exist. Another value means a newer layout than "
        "the one known, or overwritten memory.",
        "Compare the other fields: if they make sense, the structure is probably a newer one.",
    ),
    Rule(
        "extension-dump-data-differs",
        "warning",
        "A filter's own pointer differs in its two places",
        "DumpData of FILTER_EXTENSION is not DumpData of FILTER_INITIALIZATION_DATA. crashdmp"
        " copies it after DriverEntry succeeds (proven on Windows 7 x86).",
        "The callbacks work with the pointer in the extension, so they may use wrong data.",
        "Check whether the filter's DriverEntry failed, or whether the filter changes one of "
        "the two itself; otherwise look for overwritten memory.",
    ),
)

_RANGES = (
    Rule(
        "filter-value-impossible",
        "error",
        "A filter's FILTER_INITIALIZATION_DATA holds a value that cannot be",
        "A version other than 1.0 or 2.0, more pages per write than any filter takes, or flags "
        "that are not flags.",
        "crashdmp works with these values. The filter's DriverEntry wrote something else into the "
        "structure, or the memory was overwritten.",
        "Look at the whole structure in memory and at what lies around it.",
    ),
    Rule(
        "extension-value-impossible",
        "error",
        "A FILTER_EXTENSION holds a value that cannot be",
        "The device is not an address of the kernel, or media type, geometry, partition style or "
        "flags are outside what their types allow.",
        "The filter is given a wrong picture of the disk: it may refuse to work, or write to the "
        "wrong place.",
        "Compare with the extension of the other filters, which should be alike, and look for "
        "overwritten memory.",
    ),
    Rule(
        "header-value-impossible",
        "warning",
        "The dump header holds a value that cannot be",
        "A count, time, size or address of the header is outside anything real.",
        "The header was damaged or was not written by Windows; what else it says is in doubt, too.",
        "Copy the file again, and find out what wrote or converted it.",
    ),
)

_STORAGE = (
    Rule(
        "storage-request-slow",
        "warning",
        "The storage was slow before the crash",
        "A request to the disk took a second or more, or was still open after that time. Of 178 "
        "requests in four real dumps the slowest took 101 ms.",
        "A slow disk also slows the dump, and can be the cause of the crash.",
        "Look at the health of the disk and at storport and disk events in the System log.",
    ),
    Rule(
        "storage-request-failed",
        "warning",
        "A storage request failed before the crash",
        "A request completed with an SRB status other than success.",
        "A disk that fails requests can be the cause of the crash and can make the dump fail.",
        "Look up the SRB status, the health of the disk, and disk events in the System log.",
    ),
    Rule(
        "storage-requests-in-flight",
        "info",
        "Storage requests were not finished when the dump was made",
        "The list of recent requests has entries without an end time.",
        "It is normal for a busy disk. Their status fields mean nothing yet.",
        "Nothing, unless one of them was open for long.",
    ),
)

_OWN = (
    Rule(
        "input-unusable",
        "warning",
        "One of the files given cannot be used",
        "The file is not what its name or start says, is damaged at its start, or is of a kind "
        "that this tool does not open. The other files were analyzed without it.",
        "What only this file could tell is missing from the answer.",
        "Read the problem in the evidence; copy the file again, or leave it out.",
    ),
    Rule(
        "internal-unknown-rule",
        "warning",
        "This tool reported something it has no rule for",
        "A part of this tool used a rule id that is not in the list of rules. What it saw is "
        "shown.",
        "The fact may matter, but its severity is not known. It is a fault of this tool.",
        "Report it to the makers of this tool, with the text of the finding.",
    ),
)

RULES = table(
    (*FILE, *CRASH, *EXECUTING, *_STACK, *_FILTER, *_EXTENSION, *_RANGES, *_STORAGE, *_OWN)
)
