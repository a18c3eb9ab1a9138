"""The rules about memory that was taken from outside of Windows, in words.

Invariant: a snapshot shows one moment; what two of them show together is said of what lay between
them only as far as both prove it.
"""

from __future__ import annotations

from .rule import Rule, table

RULES = table(
    (
        Rule(
            "reading-stopped",
            "warning",
            "The machine ran on before all of it was read",
            "The time for which the machine may stand was over, or its hypervisor did not answer "
            "any more.",
            "What is shown was read before. Filters, calls and values that are missing may be "
            "there.",
            "Ask again; where the time was over, with more seconds for --max-stop. A machine that "
            "must not stand that long can be read from a snapshot of its host.",
        ),
        Rule(
            "callback-still-executing",
            "warning",
            "A callback of a filter was still running in a later snapshot",
            "Two snapshots of one machine show a processor in the same callback, called from the "
            "same place.",
            "A callback that does not return keeps Windows from writing the dump. Between two "
            "looks it may also have returned and been called again; Dump_Start is called once.",
            "Compare the instruction pointers and the call stacks of both snapshots: a loop that "
            "waits for a device shows the same few addresses. Look at what it waits for.",
        ),
        Rule(
            "callback-moved-on",
            "info",
            "A callback of a filter that was running had ended in a later snapshot",
            "Two snapshots of one machine show a processor inside a callback, and later elsewhere.",
            "The callback was slow at most: it did not hang.",
            "If it took too long, capture a run with a debugger, which times each call.",
        ),
    )
)
