"""The rules that a dry run can break, in words for the author of a filter driver.

Invariant: a text speaks of a call on a copy of memory, never of a call that Windows made.
"""

from __future__ import annotations

from .rule import Rule, table

_COPY = (
    "The routine was executed by an emulator on a copy of the memory, with the FILTER_EXTENSION as "
    "it stands"
)

RULES = table(
    (
        Rule(
            "dry-run-fails",
            "error",
            "A callback of a dump filter fails when it is called on this memory",
            f"{_COPY}, and returned a failing NTSTATUS. On a machine that had not crashed that is "
            "what the callback would do in a crash now.",
            "crashdmp drops a filter whose callback fails and goes on without it (proven on "
            "Windows 7 x86): what the filter should encrypt may be written in plain text, or there "
            "is no dump.",
            "Look at what the call read ('dumpstart dryrun', columns members_read and "
            "variables_read): the deciding value is among it. Run the dry run again when the "
            "driver is in the state that you expect in a crash.",
        ),
        Rule(
            "dry-run-never-returns",
            "error",
            "A callback of a dump filter never returns when it is called on this memory",
            f"{_COPY}, and came back to exactly the same state: all registers and all memory that "
            "it wrote. It waits for something that another processor, a device or an interrupt "
            "would have to change.",
            "In a crash one processor runs and interrupts are off, so nobody changes it: the "
            "machine hangs and no dump is written. What a device changes by itself (DMA) is not "
            "emulated: a loop that waits for a device looks the same.",
            "Bound the loop by a count or by the time stamp counter, and return an error. Do not "
            "wait for threads, DPCs, other processors or the tick count.",
        ),
        Rule(
            "dry-run-bugchecks",
            "error",
            "A callback of a dump filter bugchecks or faults when it is called on this memory",
            f"{_COPY}, and ended in KeBugCheckEx, a fast fail, or touched an address where nothing "
            "is or can be mapped.",
            "A bugcheck or a fault while a dump is written ends the dump; often all that is left "
            "is event 41. Windows 11 25H2 hands Dump_Write mapped MDLs that are not from nonpaged "
            "pool and whose StartVa points elsewhere: a filter that insists on the old shape ends "
            "here.",
            "Use MappedSystemVa when MDL_MAPPED_TO_SYSTEM_VA is set, and do not bugcheck on an "
            "unexpected MDL: return an error.",
        ),
        Rule(
            "dry-run-touches-paged",
            "warning",
            "A callback of a dump filter uses pageable memory",
            f"{_COPY}, and it executed code or touched data in a pageable section of an image "
            "(PAGE...), or memory that was paged out.",
            "Callbacks run at HIGH_LEVEL, where a page fault is fatal. It works as long as the "
            "page happens to be in memory, and fails on a machine that is short of memory.",
            "Keep everything that callbacks use out of pageable sections, or lock the section for "
            "good with MmLockPagableCodeSection when the driver starts (a dry run cannot see that "
            "lock).",
        ),
        Rule(
            "dry-run-forbidden-call",
            "warning",
            "A callback of a dump filter calls a routine that HIGH_LEVEL forbids",
            f"{_COPY}, and it called a routine that allocates, waits, takes a lock or needs "
            "another driver.",
            "Such routines are documented for a lower IRQL. On a crashed machine they may take a "
            "lock that nobody gives back, or touch paged memory: the dump then hangs or ends.",
            "Allocate and prepare everything in DriverEntry; use MmIsAddressValid-style checks and "
            "own buffers in the callbacks.",
        ),
        Rule(
            "dry-run-contradicts",
            "info",
            "A dry run and other evidence do not agree",
            "Called on this memory the callback ends otherwise than crashdmp's words, a capture or "
            "a log say of the call that Windows made.",
            "Both can be true: the memory is that of the time after the call, and the callback may "
            "have changed what it depends on (a routine that runs once only). It can also mean "
            "that code or data were overwritten.",
            "Trust the other evidence for the call that was made. Compare the columns depends_on "
            "and is_repeatable: a repeatable result that contradicts needs an explanation.",
        ),
    )
)
