"""Several crashes of one machine: in order of time, over what span, what they share.

Invariant: something is shared only when every crash states it, and states the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

from ..absence import is_absent, known
from ..files import called
from ..records import Anomaly, Cell, Crash, Machine
from ..tables import iso_time
from .case_seen import CaseSeen, in_words, joined, listed

T = TypeVar("T")


class _Stated(NamedTuple):
    """What all pieces of one crash state; None where none of them does."""

    number: int
    time: int | None
    bugcheck: int | None
    parameters: tuple[int, ...] | None
    module: str | None  #: that the code lies in of which the bugcheck speaks
    has_storage_errors: bool


def several(seen: CaseSeen) -> Iterator[Anomaly]:
    """That the inputs are of several crashes, and what they have in common."""
    numbers = seen.index.numbers()
    if len(numbers) < 2:
        return
    machines = {m.origin.source: m for m in seen.records["machine"]}
    storage = {seen.crash(a) for a in seen.anomalies_of("event-storage-errors")}
    stated = [
        _stated(number, seen.index.by_number[number], machines, storage) for number in numbers
    ]
    bugcheck = _shared([one.bugcheck for one in stated])
    parameters = _shared([one.parameters for one in stated])
    module = _shared([one.module for one in stated])
    times = [one.time for one in stated if one.time is not None]
    facts: dict[str, Cell] = {"crashes": len(stated)}
    facts.update({} if bugcheck is None else {"bugcheck": bugcheck})
    facts.update({} if module is None else {"module": module})
    facts.update({f"parameter{n}": p for n, p in enumerate(parameters or (), 1)})
    facts["storage_errors"] = sum(one.has_storage_errors for one in stated)
    if times:
        facts.update(first_time=min(times), last_time=max(times))
    sources = sorted({called(row.origin.source) for row in seen.crashes})
    lines = [in_words(seen.index.by_number[one.number][0].origin, _line(one)) for one in stated]
    span = _span(times) if len(times) == len(stated) else ""
    yield joined(
        "case-several-crashes",
        f"The inputs are of {len(stated)} different crashes ({listed(sources[:5])}){span}."
        f"{_in_words(bugcheck, parameters, module)}",
        seen.index.by_number[numbers[0]][0].origin,
        "",
        *lines,
        **facts,
    )


def _stated(
    number: int, rows: list[Crash], machines: dict[str, Machine], storage: set[int | None]
) -> _Stated:
    codes = [row.bugcheck for row in rows if not is_absent(row.bugcheck)]
    times = [row.time for row in rows if not is_absent(row.time)]
    whole = [
        tuple(getattr(row, f"parameter{n}") for n in range(1, 5))
        for row in rows
        if not is_absent(row.parameter1)
    ]
    modules = [
        known(machines[row.origin.source].faulting_module)
        for row in rows
        if row.origin.source in machines and not str(row.tells).startswith("event ")
    ]
    return _Stated(
        number,
        known(times[0]) if times else None,
        known(codes[0]) if codes else None,
        whole[0] if whole else None,
        next((str(module) for module in modules if module), None),
        number in storage,
    )


def _shared(values: Sequence[T | None]) -> T | None:
    return values[0] if None not in values and len(set(values)) == 1 else None


def _line(one: _Stated) -> str:
    code = "?" if one.bugcheck is None else f"{one.bugcheck:#x}"
    when = "time unknown" if one.time is None else iso_time(one.time)
    module = f", in {one.module}" if one.module else ""
    return f"crash {one.number}, bugcheck {code}{module}, {when}"


def _span(times: list[int]) -> str:
    """From the first to the last, where both are known."""
    if len(times) < 2:
        return ""
    first, last = (iso_time(time)[:19].replace("T", " ") for time in (min(times), max(times)))
    return f" from {first} to {last} UTC"


def _in_words(bugcheck: int | None, parameters: object, module: str | None) -> str:
    if bugcheck is None:
        return ""
    same = "" if parameters is None else " with the same parameters"
    where = "" if module is None else f"; the faulting code is in {module}"
    return f" All have bugcheck {bugcheck:#x}{same}{where}."
