"""Which callbacks to watch, named so that they can be found again on a running machine.

Invariant: a routine inside a module is named by module and offset, which outlive a restart; a bare
address is used only when no module holds it. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from ..errors import UsageError
from ..layouts.ntdddump import CALLBACKS
from ..records import Callback, Module
from ..target import symbol

#: what a debugger can evaluate here without being taken for another command
_EXPRESSION = re.compile(r"[\w$.]{1,64}(?:![\w$?@<>:~]{1,200})?(?:\+(?:0x)?[0-9A-Fa-f]{1,16})?")
NAMES = tuple(name for _, name in CALLBACKS)
#: callbacks that a dump calls once for each piece it writes or reads
MANY = ("Dump_Write", "Dump_Read", "Dump_PreReadWrite")


class Routine(NamedTuple):
    """One callback to watch."""

    callback: str  #: Dump_Start, ...; "callback" when nobody said which
    expression: str  #: module+0x1000, module!Symbol or 0xfffff80020001000
    filter: str | None = None
    stack: str | None = None


def parse(text: str) -> Routine:
    """``[NAME=]EXPRESSION`` as the user types it, such as ``Dump_Start=dump_x!DumpStart``."""
    name, equals, rest = text.partition("=")
    expression = rest if equals else text
    callback = name if equals else "callback"
    if equals and callback not in NAMES:
        raise UsageError(f"'{callback}' is no callback; they are {', '.join(NAMES)}")
    if not _EXPRESSION.fullmatch(expression):
        raise UsageError(f"'{expression}' is no module!symbol, module+0xOFFSET or 0xADDRESS")
    module = re.split(r"[!+]", expression)[0]
    is_address = re.fullmatch(r"0x[0-9A-Fa-f]+", expression) is not None
    if is_address and not int(expression, 16):
        raise UsageError("there is no routine at address 0")
    return Routine(callback, expression, None if is_address else module)


def of_callbacks(rows: Iterable[Callback], modules: Iterable[Module] = ()) -> list[Routine]:
    """The routines that the callbacks table of a dump or a capture names, each once.

    By module and offset: the debugger that is to find them may have no symbols.
    """
    listed = list(modules)
    found: dict[tuple[str, str], Routine] = {}
    for row in rows:
        if isinstance(row.symbol, str) and isinstance(row.callback, str) and row.routine:
            # What is no part of a name stands as "_" in the debugger's name of a module.
            text = row.symbol
            if "!" in text and isinstance(row.routine, int):
                mine = [m for m in listed if m.origin.source == row.origin.source]
                text = symbol(mine, row.routine)
            module, plus, offset = text.rpartition("+")
            made = Routine(
                row.callback,
                re.sub(r"[^\w$]", "_", module) + plus + offset,
                row.filter if isinstance(row.filter, str) else None,
                row.stack if isinstance(row.stack, str) else None,
            )
            if _EXPRESSION.fullmatch(made.expression):
                found.setdefault((made.callback, made.expression), made)
    return list(found.values())


_ALL = 1 << 62


class Writes(NamedTuple):
    """How many of the many calls are recorded: the first and the last of them."""

    first: int
    last: int

    @property
    def is_off(self) -> bool:
        """True when no such call is watched at all."""
        return not (self.first or self.last)

    @property
    def is_all(self) -> bool:
        """True when every such call is."""
        return self.first >= _ALL


def parse_writes(text: str) -> Writes:
    """``first:100,last:50``, one of them, ``all`` or ``off``."""
    if text == "off":
        return Writes(0, 0)
    if text == "all":
        return Writes(_ALL, 0)
    counts = {"first": 0, "last": 0}
    for part in text.split(","):
        match = re.fullmatch(r"(first|last):(\d{1,9})", part.strip())
        if match is None:
            raise UsageError(f"'{text}' is none of first:100,last:50, first:100, all, off")
        counts[match.group(1)] = int(match.group(2))
    return Writes(**counts)
