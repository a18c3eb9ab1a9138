"""Which code a bugcheck blames: the address that its parameters, exception or context name.

Invariant: an address counts only where the bugcheck's own description says that this parameter is
the address of code; nt's own addresses are given as they are, because nothing better is known then.
Standard library only. Source: the parameters in Microsoft's Bug Check Code Reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..absence import Absent
from ..names import bugchecks
from ..names.drivers import CRASH_DUMP_DRIVER, KERNEL
from ..records import Module
from ..target import module_at, symbol

_BREAKPOINT = 0x8000_0003  # what KeBugCheckEx's own context carries


class Fault(NamedTuple):
    """The blamed code, and where its address was read."""

    address: int | Absent
    symbol: str | Absent
    module: str | Absent
    read_from: str = ""  #: "parameter 4", "exception record", "context record"


def find(
    modules: Sequence[Module],
    bugcheck: int | Absent | None,
    parameters: Sequence[int | Absent | None],
    exception: tuple[int, int] | None = None,
    instruction: int | Absent | None = None,
) -> Fault:
    """The blamed code of a crash.

    ``exception``: code and address of the exception record; ``instruction``: the pointer of the
    context record.
    """
    loaded = [m for m in modules if m.loaded is not False]
    for address, read_from in _candidates(bugcheck, parameters, exception, instruction, loaded):
        module = module_at(loaded, address)
        if module is not None:
            name = "" if module.name is None else module.name
            at = name if isinstance(name, Absent) else symbol(loaded, address)
            return Fault(address, at, name, read_from)
        if read_from != "context record":
            gone = module_at(modules, address)
            text = f"{address:#x} lies in no loaded module"
            if gone is not None:
                text = f"{address:#x} lies where {gone.name} had been, which is unloaded"
            why = Absent("not-found", text)
            return Fault(address, symbol(modules, address) if gone else why, why, read_from)
    code = f"bugcheck {bugcheck:#x}" if isinstance(bugcheck, int) else "the crash"
    why = Absent("not-recorded", f"{code} names no address of code", "the stack of the crash")
    return Fault(why, why, why)


def _candidates(
    bugcheck: int | Absent | None,
    parameters: Sequence[int | Absent | None],
    exception: tuple[int, int] | None,
    instruction: int | Absent | None,
    modules: Sequence[Module],
) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    number = bugchecks.code_parameter(bugcheck) if isinstance(bugcheck, int) else None
    if number is not None and len(parameters) >= number:
        value = parameters[number - 1]
        if isinstance(value, int) and value:
            found.append((value, f"parameter {number}"))
    if exception is not None and exception[0] not in (0, _BREAKPOINT) and exception[1]:
        found.append((exception[1], "exception record"))
    if isinstance(bugcheck, int):  # a filter's own bugcheck can name its code in any parameter
        for place, value in enumerate(parameters, 1):
            if isinstance(value, int):
                module = module_at(modules, value)
                if module is not None and (module.stack or module.role == CRASH_DUMP_DRIVER):
                    found.append((value, f"parameter {place}"))
    if isinstance(instruction, int) and instruction:
        module = module_at(modules, instruction)
        if module is not None and module.role != KERNEL:  # in nt it is KeBugCheckEx
            found.append((instruction, "context record"))
    return found
