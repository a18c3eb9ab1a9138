"""A WinDbg breakpoint script that records callbacks without Python in the debugger.

Invariant: a statement that fails must not keep ``gc`` from being reached, because the machine would
stand still in the middle of a dump: what can fail stands in ``.catch``, everything else is plain
``.echo`` and ``r`` of a register that the architecture has. The log of a run is read by
:mod:`analyzer.sources.windbg_log`. Standard library only.

Sources: docs/live.md ("Breakpoint scripts") says which statements ran on a real engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .. import __version__
from ..errors import UsageError
from ..sources.capture_format import TAG
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
    "x64": _Words("rcx", "@rcx", "@$ra", "eax", 0x58, ".catch { rdmsr 10 }"),
    "x86": _Words("", "poi(@esp+4)", "poi(@esp)", "eax", 0x50, ".catch { rdmsr 10 }"),
    "arm64": _Words("x0", "@x0", "@lr", "x0", 0x58, ""),
}
#: number of the first breakpoint: out of the way of the user's own
_FIRST_ID = 70


def write(
    routines: Sequence[Routine],
    architecture: str,
    log: str = "dumpstart.log",
    writes: Writes = Writes(0, 0),  # noqa: B008 - a NamedTuple cannot change
    tsc_hz: int | None = None,
) -> Iterator[str]:
    """The lines of the script."""
    if architecture not in ARCHITECTURES:
        raise UsageError(f"architecture is one of {', '.join(ARCHITECTURES)}, not '{architecture}'")
    if not routines:
        raise UsageError("there is no callback to watch; name one with --callback")
    if any(mark in log for mark in '"\r\n;'):
        raise UsageError(f"'{log}' cannot be the name of a log")
    kinds = ARCHITECTURES[architecture]
    yield f"$$ Made by dumpstart {__version__} for {architecture}. Run it with  $$<THIS_FILE"
    yield "$$ then continue the target with  g  and give the log to  dumpstart analyze"
    yield f".logopen /t {log}"
    yield f".echo {TAG}script version={__version__} target={architecture}"
    width = 4 if architecture == "x86" else 8
    yield f".echo {TAG}machine architecture={architecture} pointer_size={width}"
    if tsc_hz:
        yield f".echo {TAG}clock hz={tsc_hz} how=given"
    for command in ("vertarget", "lm m nt", "lm m crashdmp", "lm m dump_*", "lm m hiber_*"):
        yield f".catch {{ {command} }}"
    for number, routine in enumerate(routines, 1):
        if routine.callback in MANY and writes.is_off:
            continue
        yield from _armed(number, routine)
        yield from _breakpoint(number, routine, kinds, writes)
    yield "bl"


def _armed(number: int, routine: Routine) -> Iterator[str]:
    words = f"armed id={number:x} filter={routine.filter or '-'} stack={routine.stack or '-'} "
    words += f"callback={routine.callback}"
    expression = routine.expression
    yield f'.catch {{ .printf "{TAG}{words} routine=%I64x\\n", {expression} }}'


def _breakpoint(number: int, routine: Routine, kinds: _Words, writes: Writes) -> Iterator[str]:
    place = _FIRST_ID + number
    clock = f"{kinds.clock}; " if kinds.clock else ""
    # The target's clock is the last thing read at an entry and the first at a return.
    back = f".echo {TAG}leave id={number:x}; {clock}.echotime; r {kinds.result}; gc"
    first = f"r {kinds.first}; " if kinds.first else f".catch {{ ? {kinds.extension} }}; "
    entry = (
        f".echo {TAG}enter id={number:x}; .echotime; {first}"
        f".catch {{ db {kinds.extension} L{kinds.length:x} }}; "
        f'.catch {{ bp /1 {kinds.back} \\"{back}\\" }}; {clock}gc'
    )
    if routine.callback in MANY and writes.first < 1 << 62:
        # After so many calls the breakpoint is switched off: each stop costs milliseconds.
        entry = (
            f"r @$t{number % 20} = @$t{number % 20} + 1; "
            f".if (@$t{number % 20} <= 0n{writes.first}) {{ {entry} }} "
            f".else {{ .echo {TAG}disarmed id={number:x} why=first_{writes.first}_calls; "
            f".catch {{ bd {place} }}; gc }}"
        )
        yield f"r @$t{number % 20} = 0"
    kind = "bu" if "!" in routine.expression else "bp"
    yield f'{kind}{place} {routine.expression} "{entry}"'
