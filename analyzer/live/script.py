"""A WinDbg breakpoint script that records callbacks without Python in the debugger.

Invariant: a statement that fails must not keep ``gc`` from being reached, because the machine would
stand still in the middle of a dump: what can fail stands in ``.catch``, everything else is plain
``.echo``, ``.if`` and ``r`` of a register that the architecture has; a breakpoint stops for good
only where that was asked for. The log of a run is read by
:mod:`analyzer.sources.windbg_log`. Standard library only.

Sources: docs/live.md ("Breakpoint scripts") says which statements ran on a real engine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from .. import __version__
from ..errors import UsageError
from ..sources.capture_format import TAG
from .options import StopOn
from .routines import MANY, Routine, Writes


class _Words(NamedTuple):
    """How an architecture names what the script reads."""

    first: str  #: register with the first argument; "" when it is on the stack
    extension: str  #: expression of the first argument
    back: str  #: expression of the return address
    result: str  #: register with the status
    length: int  #: bytes of FILTER_EXTENSION
    clock: str  #: statement that prints the target's clock; "" when none is known


ARCHITECTURES = {
    # The return address is read from the stack: @$ra has the engine walk it, which needs more of
    # the module and takes longer.
    "x64": _Words("rcx", "@rcx", "poi(@rsp)", "eax", 0x58, ".catch { rdmsr 0x10 }"),
    "x86": _Words("", "poi(@esp+4)", "poi(@esp)", "eax", 0x50, ".catch { rdmsr 0x10 }"),
    "arm64": _Words("x0", "@x0", "@lr", "x0", 0x58, ""),
}
#: number of the first breakpoint: out of the way of the user's own
_FIRST_ID = 70
#: $t0 to $t19 count the calls of routines that are watched for a while
_COUNTERS = 20
#: a kernel debugger holds 32 breakpoints (WinDbg's documentation); two are left for returns
_MOST = 30


_MODULES = ("nt", "crashdmp", "dump_*", "hiber_*")


def write(
    routines: Sequence[Routine],
    architecture: str,
    log: str = "dumpstart.log",
    writes: Writes = Writes(0, 0),  # noqa: B008 - a NamedTuple cannot change
    tsc_hz: int | None = None,
    stamps: Mapping[str, int] = MappingProxyType({}),
    stop_on: StopOn = StopOn(),  # noqa: B008 - a NamedTuple cannot change
) -> Iterator[str]:
    """The lines of the script; ``stamps``: time stamps of the images that it was made for."""
    if stop_on.slow_ns is not None:
        raise UsageError("a script cannot know how long a call took: give failure or return")
    if architecture not in ARCHITECTURES:
        raise UsageError(f"architecture is one of {', '.join(ARCHITECTURES)}, not '{architecture}'")
    if not routines:
        raise UsageError("there is no callback to watch; name one with --callback")
    if any(mark in log for mark in '"\r\n;') or not log.strip():
        raise UsageError(f"'{log}' cannot be the name of a log")
    if writes.last:
        raise UsageError("a script cannot know which calls are the last: give first:N, all or off")
    # A second breakpoint at a place takes the place of the first.
    once = {r.expression.lower(): r for r in reversed(routines)}
    routines = list(reversed(once.values()))
    chosen = [r for r in routines if not (r.callback in MANY and writes.is_off)]
    counted = [r for r in chosen if r.callback in MANY and not writes.is_all]
    if len(chosen) > _MOST:
        raise UsageError(
            f"{len(chosen)} callbacks are too many: a kernel debugger holds 32 breakpoints; "
            "use --writes off, or name those that matter with --callback"
        )
    if len(counted) > _COUNTERS:
        raise UsageError(
            f"calls of {len(counted)} routines cannot be counted, only of {_COUNTERS}; "
            "use --writes off or --writes all"
        )
    kinds = ARCHITECTURES[architecture]
    yield f"$$ Made by dumpstart {__version__} for {architecture}. Run it with  $$<THIS_FILE"
    yield "$$ then continue the target with  g  and when it is done close the log with  .logclose"
    yield "$$ and give it to  dumpstart analyze"
    yield f'.logopen /t "{log}"' if " " in log else f".logopen /t {log}"
    yield ".expr /s masm"
    yield f".echo {TAG}script version={__version__} target={architecture} routines={len(chosen)}"
    width = 4 if architecture == "x86" else 8
    yield f".echo {TAG}machine architecture={architecture} pointer_size={width}"
    if tsc_hz:
        yield f".echo {TAG}clock hz={tsc_hz} how=given"
    if kinds.clock and not tsc_hz:  # the hypervisor tells the clock's frequency, where there is one
        yield ".catch { rdmsr 0x40000022 }"
    for command in (".logfile", "vertarget", *(f"lm m {name}" for name in _MODULES)):
        yield f".catch {{ {command} }}"
    for number, routine in enumerate(chosen, 1):
        yield from _armed(number, routine)
        counter = f"@$t{counted.index(routine)}" if routine in counted else ""
        yield from _breakpoint(number, routine, kinds, writes.first, counter, stop_on)
        yield from _checked(number, routine, stamps)
    yield "bl"


def _armed(number: int, routine: Routine) -> Iterator[str]:
    # A name comes from a dump; in a script it must be no format, no quote and no second command.
    named = [re.sub(r"[^\w.$-]", "_", text or "-") for text in (routine.filter, routine.stack)]
    words = f"armed id={number:x} filter={named[0]} stack={named[1]} callback={routine.callback}"
    expression = routine.expression
    yield f'.catch {{ .printf "{TAG}{words} routine=%I64x\\n", {expression} }}'


def _checked(number: int, routine: Routine, stamps: Mapping[str, int]) -> Iterator[str]:
    """Takes the breakpoint back where another image lies: its offset would be anywhere in that.

    A module that is not loaded yet cannot be looked at: its breakpoint waits, as told. The engine
    extends the sign of a 32-bit number, but not of one with a grave accent (DbgEng 10.0.15063).
    """
    module, plus, _ = routine.expression.partition("+")
    stamp = stamps.get(module.lower())
    if plus and stamp is not None:
        stale = f"{TAG}disarmed id={number:x} why=another_image_lies_there"
        yield (
            f".catch {{ .if (dwo({module}+dwo({module}+0x3c)+8) != 0`{stamp:08x}) "
            f"{{ bc {_FIRST_ID + number}; .echo {stale} }} }}"
        )


def _breakpoint(
    number: int, routine: Routine, kinds: _Words, most: int, counter: str, stop_on: StopOn
) -> Iterator[str]:
    """``counter``: what counts the calls of a routine that is given up after ``most`` of them."""
    place = _FIRST_ID + number
    clock = f"{kinds.clock}; " if kinds.clock else ""
    # The target's clock is the last thing read at an entry and the first at a return.
    back = f".echo {TAG}leave id={number:x}; {clock}.echotime; r {kinds.result}; "
    if stop_on.every:
        back += f".echo {TAG}stop kind=wanted; .catch {{ k }}"
    elif stop_on.failure:
        stands = f".echo {TAG}stop kind=wanted; .catch {{ k }}"
        back += f".if ((@{kinds.result} & 0x80000000) != 0) {{ {stands} }} .else {{ gc }}"
    else:
        back += "gc"
    first = f"r {kinds.first}; " if kinds.first else f".catch {{ ? {kinds.extension} }}; "
    # Each write is given the extension that Dump_Start was given: printing it takes its time.
    is_one = routine.callback not in MANY
    data = f".catch {{ db {kinds.extension} L{kinds.length:#x} }}; " if is_one else ""
    entry = (
        f".echo {TAG}enter id={number:x}; .echotime; {first}{data}"
        f'.catch {{ bp /1 {kinds.back} \\"{back}\\" }}; {clock}gc'
    )
    if counter:
        # After so many calls the breakpoint is switched off: each stop costs milliseconds.
        entry = (
            f"r {counter} = {counter} + 1; "
            f".if ({counter} <= 0n{most}) {{ {entry} }} "
            f".else {{ .echo {TAG}disarmed id={number:x} why=first_{most}_calls; "
            f".catch {{ bd {place} }}; gc }}"
        )
        yield f"r {counter} = 0"
    kind = "bu" if "!" in routine.expression else "bp"
    yield f'{kind}{place} {routine.expression} "{entry}"'
