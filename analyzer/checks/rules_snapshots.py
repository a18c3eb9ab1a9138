"""The rules about what the host of a virtual machine tells, and memory taken from outside.

Invariant: a snapshot shows one moment; what two of them show together is said of what lay between
them only as far as both prove it.
"""

from __future__ import annotations

from .rule import Rule, table

RULES = table(
    (
        Rule(
            "host-ended-guest",
            "warning",
            "The host ended the virtual machine before it could write a dump",
            "The host's log has the guest's panic with its bugcheck, and says that the machine "
            "was ended or reset then.",
            "Windows tells the hypervisor of a bugcheck before it writes the dump. QEMU's default "
            "is to end the machine at that moment, so no dump, no event 1001 and no DumpStack.log "
            "can be there.",
            "Let the guest write its dump: libvirt <on_crash>preserve</on_crash> or no hyperv "
            "panic device; QEMU -action panic=none. The bugcheck and its parameters are in the "
            "host's log.",
        ),
        Rule(
            "host-guest-panicked",
            "info",
            "The virtual machine told its host of a crash",
            "The pvpanic device has two states: panicked, after which no dump follows, and "
            "crash-loaded, after which the guest writes one.",
            "It is a crash with its time, of a machine that may never have written a dump. Linux "
            "and others tell of theirs in the same way.",
            "Look for the dump in the guest. A hyperv panic device tells bugcheck and parameters "
            "too.",
        ),
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
