"""The rules a capture of a live session or a debugger log can break, in words.

Invariant: a text claims what a debugger could see while it watched, and nothing about the time
before and after.
"""

from __future__ import annotations

from .rule import Rule, table

_CALLS = (
    Rule(
        "callback-never-returned",
        "error",
        "A callback of a dump filter was entered, and no return was seen",
        "The breakpoint at its entry was hit and the one at its return address was not, as long as "
        "the capture went on.",
        "If it hangs, the dump ends with it: nothing else runs on a crashed machine.",
        "Break in and look at the stack of that processor; compare with why the capture ended.",
    ),
    Rule(
        "callback-under-way",
        "warning",
        "A callback was under way where the capture ends",
        "The last thing that the capture holds of this call is its entry, and it ends soon after, "
        "or it does not say that the return was watched.",
        "The call may have returned a moment later, or it hangs: the capture cannot tell.",
        "Look at the target, if it still stands; else capture once more, for longer.",
    ),
    Rule(
        "callback-exception",
        "error",
        "The target stopped with an exception inside a callback",
        "The debugger saw an exception between the entry and the return of a call.",
        "An exception in the crash path ends the dump or makes it incomplete.",
        "Look at the events table for the exception, then at the driver's code.",
    ),
    Rule(
        "callback-nested",
        "warning",
        "A callback was entered before another had returned",
        "A second entry was seen on the same processor while a call was under way.",
        "crashdmp calls filters one after the other; a filter that is called out of turn may work "
        "on data of the call before.",
        "Look at the two calls in the callbacks table and at the driver's code.",
    ),
    Rule(
        "callback-no-entry",
        "info",
        "A callback returned and its entry was not seen",
        "There is a return without the entry it belongs to.",
        "The log or capture begins inside the call; how long it took is not known.",
        "Start earlier.",
    ),
    Rule(
        "callback-changed-processor",
        "warning",
        "A callback was entered on one processor and returned on another",
        "Entry and return were reported by different processors.",
        "In crash mode one processor runs. The clocks of two processors may differ, so the "
        "duration may be off.",
        "Treat the duration with care.",
    ),
    Rule(
        "extension-changed-by-callback",
        "warning",
        "A callback changed the FILTER_EXTENSION it was given",
        "The bytes of the structure differ between the entry and the return of a call.",
        "The structure describes the dump device to the filter; later callbacks are given what is "
        "left in it.",
        "Compare the two rows of the extensions table.",
    ),
    Rule(
        "callback-slow",
        "warning",
        "A callback of a dump filter took more than a second",
        "The lower bound of the duration, the debugger's own cost taken off, is above the limit.",
        "A dump makes thousands of calls. A watchdog or an impatient user may end a slow dump.",
        "Find out what the callback waits for; in crash mode nothing else runs on the machine.",
    ),
    Rule(
        "callback-slow-outlier",
        "info",
        "One call of a callback took much longer than the others",
        "Its lower bound is far above the median of the other calls, by eight times their spread.",
        "The filter or the device met something unusual at that point of the dump.",
        "Look at that call and at those around it.",
    ),
    Rule(
        "callback-slower-than-baseline",
        "warning",
        "A callback was slower than in the baseline",
        "The median of the lower bounds is above the median of the upper bounds of the baseline, "
        "by more than both leave open.",
        "The change between the two builds or machines made the dump slower.",
        "Capture both again to be sure, then compare the two drivers.",
    ),
    Rule(
        "baseline-without-match",
        "warning",
        "The baseline has none of these callbacks",
        "No filter and callback of this capture or log is in the baseline that was named.",
        "Nothing was compared, so that nothing is slower says nothing.",
        "Name a capture of a good run of the same filters.",
    ),
)
_DURATIONS = (
    Rule(
        "duration-below-noise",
        "info",
        "Calls were shorter than the debugger can measure",
        "The clocks differ no more than at two stops with nothing between them.",
        "Such a call took no time that matters, but its duration is not known.",
        "Use the filter's own trace events if the exact time matters.",
    ),
    Rule(
        "duration-paused",
        "info",
        "The target stood in the debugger during a call",
        "The target stopped while the call was under way: a breakpoint of the user's, an exception "
        "or a break-in; its clock goes on meanwhile.",
        "The time between entry and return is an upper bound; how long the call took is not known.",
        "Capture once more without stopping inside the callback.",
    ),
    Rule(
        "duration-uncalibrated",
        "info",
        "The debugger's own cost is not known",
        "The capture holds no pair of stops without anything between them.",
        "Durations hold the time of two stops, tens of milliseconds on a serial line.",
        "Use them as upper bounds only.",
    ),
    Rule(
        "duration-host-clock",
        "info",
        "Durations come from the debugger's clock",
        "The frequency of the target's time stamp counter could not be found out.",
        "The debugger's clock counts the time of its own messages too.",
        "Give the frequency with --tsc-hz if it is known.",
    ),
    Rule(
        "capture-clock-backwards",
        "warning",
        "The clock of the target ran backwards",
        "The time stamp counter at a return is below that at the entry.",
        "The counter was reset, or entry and return are of different processors.",
        "Do not rely on the durations of this capture.",
    ),
)
_CAPTURE = (
    Rule(
        "capture-cut",
        "warning",
        "The capture has no end",
        "Each capture ends with a line that says why; this one does not.",
        "The debugger was closed or failed, or the file was cut. All whole lines were read.",
        "Treat what came later as unknown.",
    ),
    Rule(
        "capture-damaged",
        "warning",
        "Lines of the capture are damaged",
        "Some lines are not facts, or contradict those before them. They were passed over.",
        "Calls may be missing.",
        "Copy the file again.",
    ),
    Rule(
        "capture-newer",
        "info",
        "The capture was written by a newer version",
        "Its schema number is above the one this version knows.",
        "What was added since is not shown.",
        "Update dumpstart.",
    ),
    Rule(
        "capture-error",
        "warning",
        "The capture met an error of its own",
        "Something failed in the debugger while a callback was being recorded. The target went on.",
        "The call it happened in may be incomplete.",
        "Look at the text; if it repeats, report it.",
    ),
    Rule(
        "capture-not-armed",
        "warning",
        "A callback could not be watched",
        "A filter was found, but its callbacks are not known or a breakpoint could not be set.",
        "Its calls are not in the capture.",
        "Name the routine with --callback.",
    ),
    Rule(
        "capture-bounded",
        "info",
        "Calls of a callback were captured in part",
        "The number of captured writes is limited, so that a dump is not slowed down for hours.",
        "Counts and statistics of this callback are those of the captured calls.",
        "Raise the limit with --writes if all calls matter.",
    ),
    Rule(
        "capture-calls-missing",
        "warning",
        "Calls are missing from the capture",
        "Each call has the next number, and the end line counts calls and returns; the capture "
        "holds others.",
        "The file lost lines when it was written or copied: its calls are some of those that were "
        "made, and a callback without a call may have been called.",
        "Look for another copy of the file, or capture again.",
    ),
    Rule(
        "capture-calls-left-out",
        "warning",
        "The capture has more calls than the tables hold",
        "A table of callbacks holds 131,072 calls of a capture: a dump of 8 GiB in writes of "
        "64 KiB.",
        "The calls behind that are counted; their durations and oddities are not looked at.",
        "Capture fewer writes (--writes).",
    ),
)
_LOG = (
    Rule(
        "log-no-session",
        "info",
        "The log holds no captured call",
        "It is a debugger log without lines of a capture or of a breakpoint script.",
        "What the callbacks returned and how long they took is not in it.",
        "Write a script with 'dumpstart script', or capture with 'dumpstart capture'.",
    ),
    Rule(
        "log-dt-inconsistent",
        "warning",
        "A structure in the log contradicts the known layout",
        "A member of a printed FILTER_EXTENSION stands at another offset than the WDK's.",
        "The symbols that the debugger used may not fit the driver.",
        "Check the symbols of the driver.",
    ),
)

RULES = table((*_CALLS, *_DURATIONS, *_CAPTURE, *_LOG))
