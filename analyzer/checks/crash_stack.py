"""Where the crash lies by its call stack, as a debugger showed it.

Invariant: rests on the frames of the crash's own stack; a call is named only when the frame of the
routine that made it is there.
"""

from __future__ import annotations

from collections.abc import Iterator

from .. import formatting as fmt
from ..absence import known
from ..names import drivers
from ..records import Anomaly, Evidence, Frame
from .evidence import SourceRecords

CRASH_STACK = "crash stack"
#: routines of crashdmp that call into filters -> the call of the filter; names are those of public
#: symbols of Windows 7, seen up to build 18362
_CALLERS = {
    "InitializeFilterDrivers": "DriverEntry",
    "StartFilterDrivers": "Dump_Start",
    "CrashdmpWriteRoutine": "Dump_Write",
    "FinishFilterDrivers": "Dump_Finish",
}
_ANY_CALL = "FilterCallback"
_PREFIXES = tuple(prefix for prefix, _ in drivers.PREFIXES)


def check(seen: SourceRecords) -> Iterator[Anomaly]:
    """The image of the dump stack in which the crash lies."""
    frames = [frame for frame in seen["frames"] if frame.stack_of == CRASH_STACK]
    place = next((n for n, frame in enumerate(frames) if not _is_kernel(frame)), None)
    if place is None:
        return
    first = frames[place]
    module = str(known(first.module) or "").lower()
    outer = frames[place + 1 :]
    callers = [frame for frame in outer if str(known(frame.module)).lower() == "crashdmp"]
    if not (module == "crashdmp" or module.startswith(_PREFIXES)):
        return
    names = [_function(frame) for frame in callers]
    about_it = drivers.known(module)
    is_filter = about_it is not None and about_it.role == drivers.FILTER
    call = next((_CALLERS[name] for name in names if name in _CALLERS), "")
    is_filter |= module != "crashdmp" and bool(call or _ANY_CALL in names)
    entry = "DriverEntry" in _function(first)
    call = "DriverEntry" if entry else call
    where = f", in its {call}" if call and is_filter else ""
    called = f", called by {fmt.listed([str(f.symbol) for f in callers[:2]])}" if callers else ""
    text = f"The crash lies in {_what(module, is_filter)}{where}: at {first.symbol}{called}."
    if entry and _function(first).startswith("FxDriverEntry"):
        text += (
            " FxDriverEntry is the entry of a KMDF driver, which takes what crashdmp gives a "
            "filter (FILTER_EXTENSION and FILTER_INITIALIZATION_DATA) for a DRIVER_OBJECT."
        )
    yield Anomaly(
        "crash-in-dump-filter" if is_filter else "crash-in-dump-stack",
        text,
        first.origin,
        module,
        tuple(Evidence(f"frame {f.frame}", f.symbol) for f in [first, *callers][:6]),
        {"module": module, "function": _function(first), "callback": call},
    )


def _what(module: str, is_filter: bool) -> str:
    if is_filter:
        return f"the dump filter {module}"
    return "crashdmp itself" if module == "crashdmp" else f"{module}, an image of the dump stack"


def _is_kernel(frame: Frame) -> bool:
    return drivers.is_kernel(known(frame.module)) or str(known(frame.module)).lower() == "hal"


def _function(frame: Frame) -> str:
    return str(frame.symbol).partition("!")[2].partition("+")[0]
