"""The rules about the crash itself: where it lies, if it came twice, what went out in plain text.

Invariant: a text claims what is proven and says where it is not.
"""

from __future__ import annotations

from .rule import Rule

CRASH = (
    Rule(
        "dump-in-plain-text",
        "error",
        "What an encrypting filter should have encrypted went to the disk in plain text",
        "A filter that is known to encrypt failed or was disabled while the dump (or the "
        "hibernation file) was written. crashdmp goes on without such a filter; that is proven on "
        "Windows 7 x86, and the finding says how sure it is here.",
        "Secrets that were in memory, keys among them, may lie unencrypted on the disk, in the "
        "page file or the dump file.",
        "Treat the disk as holding plain text: delete the dump and the page file securely, change "
        "keys, and find out why the filter failed.",
    ),
    Rule(
        "crash-in-dump-filter",
        "error",
        "The crash lies in a crash dump filter",
        "The address that the bugcheck blames lies in the copy of a driver that the dump stack has "
        "loaded as a filter.",
        "The filter itself crashed, while a dump or a hibernation file was being set up or "
        "written; such a crash often leaves no dump.",
        "Give the dump to the maker of the filter. Without the filter in "
        "CrashControl\\DumpFilters crashes leave dumps again.",
    ),
    Rule(
        "crash-in-dump-stack",
        "error",
        "The crash lies in the dump stack",
        "The address that the bugcheck blames lies in crashdmp.sys, in the dump port driver or in "
        "the dump miniport.",
        "Writing the dump or the hibernation file crashed itself, in a driver of the disk or in "
        "what a filter gave it.",
        "Update the storage driver; try without the dump filters besides the in-box one.",
    ),
    Rule(
        "crash-in-filter-original",
        "warning",
        "The crash lies in the driver that a dump filter is a copy of",
        "The address that the bugcheck blames lies in the running driver, not in its copy in the "
        "dump stack.",
        "The same file is in the crash path, so the fault can be there, too.",
        "Update that driver, or ask its maker.",
    ),
    Rule(
        "crash-by-dump-filter",
        "error",
        "A crash dump filter stopped the machine itself",
        "The bugcheck code is one that the source code of a loaded filter makes.",
        "The filter refused to let a dump be written without it.",
        "Look up the status in the parameters with the maker of the filter.",
    ),
    Rule(
        "crash-second-bugcheck",
        "error",
        "The machine crashed again while it handled the crash",
        "BugCheckProgress has the flag of a second bugcheck on the same processor; its stage stays "
        "where the second crash came.",
        "Code of the crash path crashed: a filter's callback, the dump miniport, or a driver's "
        "bugcheck callback.",
        "Try without the dump filters besides the in-box one, and update the storage driver.",
    ),
    Rule(
        "crash-path-failed",
        "warning",
        "BugCheckProgress stopped at a stage",
        "A flag of BugCheckProgress is set after which no later stage is recorded. What sets it is "
        "not known for sure; two machines that left no dump had it.",
        "The dump may have ended at that stage.",
        "Compare with DumpStack.log and the volmgr events of the same crash.",
    ),
    Rule(
        "sleep-transition",
        "info",
        "The machine was on its way to or from sleep",
        "The images of the hibernation stack (hiber_*) are loaded, as they are while a hibernation "
        "file is about to be written or read.",
        "Filters are loaded into both stacks; it decides which file a failing filter concerns.",
        "Look for Kernel-Power events 42 and 107 and Kernel-Boot 16 and 29 around the crash.",
    ),
    Rule(
        "dump-ended-early",
        "warning",
        "The dump's header does not say that writing it was completed",
        "Windows 11 puts the last line of DumpStack.log into the header of the dump. It is not "
        "'Dump completed successfully.'.",
        "The line says how far writing the dump came.",
        "Read DumpStack.log of the same crash for the lines before it.",
    ),
)
