"""BugCheckProgress values in words: how far the crash path got.

Invariant: every meaning says how it is known; none of them is documented by Microsoft. The value is
also in nt!CrashdmpDumpBlock, in volmgr event 161 and in the UEFI variable of that name.
"""

from __future__ import annotations

from typing import NamedTuple

#: the low 9 bits are the stage
STAGE_MASK = 0x1FF


class Progress(NamedTuple):
    """One stage and how its meaning is known."""

    meaning: str
    basis: str  #: "code" = read off IoWriteCrashDump; "logs" = order of lines in real logs


PROGRESS: dict[int, Progress] = {
    0x02: Progress("triage data callbacks", "code"),
    0x05: Progress("event trace buffers saved", "code"),
    0x20: Progress("crash dump writing entered", "code"),
    0x21: Progress("page callbacks before the ranges", "code"),
    0x22: Progress("remove-pages callbacks", "code"),
    0x23: Progress("dump failed, retry as a smaller dump", "code"),
    0x26: Progress("dump failed, retry as a smaller dump", "code"),
    0x27: Progress("dump failed, retry as a smaller dump", "code"),
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
}


def name(value: int) -> str:
    """The stage in words; for a value not in the table says that its meaning is not known."""
    known = PROGRESS.get(value & STAGE_MASK)
    if known:
        return known.meaning
    if 0x80 <= value & STAGE_MASK <= 0x84:
        return "blue screen shown"
    return "a stage whose meaning is not known"
