"""BugCheckProgress values in words: how far the crash path got.

Invariant: every meaning says how it is known; none of them is documented by Microsoft. The value is
in nt!CrashdmpDumpBlock, in volmgr events 161 and 162, in DumpStack.log and in the UEFI variable of
that name, and is taken apart here alone. Once a flag of ``FROZEN`` is set the stage stays where it
was. Flags: read off kernels 19041 to 26200.
"""

from __future__ import annotations

from typing import NamedTuple

#: the low 9 bits are the stage
STAGE_MASK = 0x1FF


class Progress(NamedTuple):
    """One stage and how its meaning is known."""

    meaning: str
    #: "code" = read off IoWriteCrashDump and its callers; "logs" = order of lines in real logs
    basis: str


PROGRESS: dict[int, Progress] = {
    0x01: Progress("started", "code"),
    0x02: Progress("triage data callbacks", "code"),
    0x04: Progress("bugcheck callbacks done", "code"),
    0x05: Progress("event trace buffers saved", "code"),
    0x20: Progress("crash dump writing entered", "code"),
    0x21: Progress("page callbacks before the ranges", "code"),
    0x22: Progress("remove-pages callbacks", "code"),
    0x23: Progress("dump failed, retry as a smaller dump", "code"),
    0x24: Progress("offline dump prepared", "code"),
    0x25: Progress("triage dump written to the firmware", "code"),
    0x26: Progress("dump failed, retry as a smaller dump", "code"),
    0x27: Progress("dump failed, retry as a smaller dump", "code"),
    0x2A: Progress("pages of a partial kernel dump added", "code"),
    0x2B: Progress("page callbacks after the ranges", "code"),
    # two real logs: first line after the bugcheck code, so the dump stack is up and filters started
    0x42: Progress("dump stack initialised, filters started, log begins", "logs"),
    # after "Finish write of bitmap dump data" (type 6) and after "Finish write of minidump data"
    0x43: Progress("memory pages written, secondary data comes next", "logs"),
    0x44: Progress("minidump written, secondary data comes next", "logs"),
    # between "Finish calling secondary multi-part..." and "Finish invoking secondary..."
    0x45: Progress("secondary data written", "logs"),
    # behind "Starting invoking dump complete callbacks", before "Dump ended": before "Finish
    # invoking..." in logs of 2022 to 2024, after it in later ones; also seen in volmgr 161
    0x46: Progress("dump complete callbacks called, dump is being closed", "logs"),
    # between "Starting get secondary..." and "Finish get secondary..."
    0x52: Progress("size of the secondary data asked for", "logs"),
    # after "Dump ended", just before or behind "Dump completed successfully"; also in volmgr 161
    0x53: Progress("dump ended", "logs"),
    0x60: Progress("before the other processors are stopped by NMI", "code"),
    0x63: Progress("root crash dump resumed", "code"),
}
#: a bugcheck on the same processor while the first one was worked on, as by a filter that crashes
SECOND_BUGCHECK = 0x2_0000
#: no function of nt was found that sets it; two machines that left no dump had it in event 161
FAILED = 0x4_0000
FROZEN = SECOND_BUGCHECK | FAILED
FLAGS = {
    0x0400: "retried as a minidump",
    0x0800: "triage dump written to the firmware",
    0x1000: "offline dump",
    SECOND_BUGCHECK: "a second bugcheck while this stage was reached",
    FAILED: "probably a failure that crashdmp noted",
    0x40_0000: "writing the dump was given up at once",
    0x200_0000: "the retry as a minidump failed",
    0x400_0000: "adding pages of a partial kernel dump failed",
    0x800_0000: "offline dump",  # in older kernels
    0x1000_0000: "dump by the firmware done",
}


class Decoded(NamedTuple):
    """A BugCheckProgress value taken apart."""

    value: int
    stage: int
    meaning: str  #: of the stage
    flags: tuple[str, ...]  #: in words, those without a known meaning as numbers

    @property
    def is_frozen(self) -> bool:
        """True when something went wrong at this stage, so that no later one was recorded."""
        return bool(self.value & FROZEN)

    @property
    def is_second_bugcheck(self) -> bool:
        """True when the machine crashed again while it handled the crash."""
        return bool(self.value & SECOND_BUGCHECK)


def decode(value: int) -> Decoded:
    """Stage and flags of a value."""
    stage = value & STAGE_MASK
    known = PROGRESS.get(stage)
    meaning = known.meaning if known else "a stage whose meaning is not known"
    if 0x80 <= stage <= 0x84:
        meaning = "blue screen shown"
    flags = [text for bit, text in FLAGS.items() if value & bit]
    rest = value & ~STAGE_MASK & ~sum(FLAGS)
    return Decoded(value, stage, meaning, (*flags, *([f"flags {rest:#x}"] if rest else [])))


def name(value: int) -> str:
    """The stage in words, then its flags."""
    told = decode(value)
    return "; ".join((told.meaning, *told.flags))
