"""The rules about logs of WinDbg, kd and dumpchk, in words.

Invariant: what a debugger did not print is never told as missing from the machine.
"""

from __future__ import annotations

from .rule import Rule, table

_WINDBG = (
    Rule(
        "dump-header-failure",
        "error",
        "The dump's header says that writing it failed",
        "Windows 11 writes into the header how far the dump came: an error code, a percentage, the "
        "last line of its log. WinDbg shows them as Dump.Attributes.",
        "What stands behind that point is not in the dump.",
        "Look at the step that the last line names: the disk, its miniport driver or a filter's "
        "Dump_Write failed there.",
    ),
    Rule(
        "log-modules-partial",
        "info",
        "The log does not list all modules",
        "The images that the debugger listed lack the kernel or are fewer than 30, as when "
        "a command asks for one driver.",
        "That a driver is not in the list says nothing.",
        "In the debugger, log the output of: lm t n.",
    ),
)

RULES = table(_WINDBG)
