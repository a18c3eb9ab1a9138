"""Call stacks that a debugger printed: ``k`` in its forms, and STACK_TEXT of ``!analyze``.

Invariant: a line is a frame only behind the heading of a stack and without a gap, and only when its
columns are those of the heading; a line that is not ends the stack. Standard library only.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ..absence import Absent
from ..names import bugchecks
from ..records import Address, Frame, Origin

#: so many frames of one log are kept; a stack has at most some hundred
MOST_FRAMES = 50_000
#: a frame with its arguments and the line of its source is shorter
_LONGEST = 700
#: the stack on which the machine crashed
CRASH_STACK = "crash stack"
_ADDRESS = r"(?:[0-9a-f]{8}`[0-9a-f]{8}|[0-9a-f]{16}|[0-9a-f]{8})"
_NONE = r"(?:--------`--------|-{8,16}|\(Inline(?: Function)?\))"
_HEADING = re.compile(
    r"^\s*(?P<number>#)?\s*(?P<memory>Memory)?\s*(?P<sp>Child-SP|ChildEBP)?\s*(?P<ret>RetAddr)\b"
    r"\s*:?\s*(?P<args>Args to Child)?\s*:?\s*(?:Call Site)?\s*$"
)
#: behind this heading: stack pointer, return address, four arguments between colons, call site
_TEXT = re.compile(r"^STACK_TEXT:\s*$")
_SYMBOL = re.compile(
    r"^(?P<symbol>(?P<module><Unloaded_[^>\s]{1,64}>|[A-Za-z_$][\w.$-]{0,63})"
    r"(?:!\S(?:.{0,500}?\S)?)?(?:\+0x[0-9a-f]{1,16})?)(?: \[.*\])?(?: \(.*\))?\s*$",
    re.I,
)
_PLAIN = re.compile(rf"^0x({_ADDRESS})\s*$", re.I)


class Shown(NamedTuple):
    """One line of a stack."""

    stack_pointer: int | None
    return_address: int | None  #: None: an inlined function, which has none
    symbol: str
    module: str
    is_inline: bool
    argument: int | None = None  #: the first one


class Columns(NamedTuple):
    """What stands before the call site."""

    has_number: bool
    has_memory: bool
    has_sp: bool
    has_args: bool
    is_analysis: bool  #: of STACK_TEXT: the stack of the crash


def heading(line: str) -> Columns | None:
    """The columns of a stack that begins behind this line, None when none does."""
    if _TEXT.match(line):
        return Columns(False, False, True, True, True)
    if "RetAddr" not in line:
        return None
    match = _HEADING.match(line)
    if match is None:
        return None
    number, memory, sp, args = (match[n] is not None for n in ("number", "memory", "sp", "args"))
    return Columns(number, memory, sp, args, False)


def shown(line: str, columns: Columns) -> Shown | None:
    """One frame, None when the line is none."""
    if len(line) > _LONGEST:
        return None
    rest = line.strip()
    if columns.has_number:
        match = re.match(r"(?:[0-9a-f]{2,4})\s+(?=\S)", rest, re.I)
        if match is None:
            return None
        rest = rest[match.end() :]
    addresses: list[int | None] = []
    is_inline = False
    if columns.has_memory:
        match = re.match(r"[0-9a-f]{1,8}\s+(?=[0-9a-f]{8}[0-9a-f`]|[0-9a-f]{8}\s)", rest, re.I)
        rest = rest[match.end() :] if match else rest
    wanted = 2 if columns.has_sp else 1
    while len(addresses) < wanted:
        match = re.match(rf"({_ADDRESS}|{_NONE})(?:\s+|$)", rest, re.I)
        if match is None:
            return None
        word = match.group(1)
        rest = rest[match.end() :]
        if word.startswith(("(", "-")):
            is_inline = True
            addresses.append(None)
        else:
            addresses.append(int(word.replace("`", ""), 16))
    argument = None
    if columns.has_args:
        match = re.match(rf":?\s*({_ADDRESS})\s", rest, re.I)
        argument = int(match.group(1).replace("`", ""), 16) if match else None
        rest = _behind_arguments(rest)
    elif rest.startswith(": "):
        rest = rest.rpartition(" : ")[2].lstrip(": ")
    plain = _PLAIN.match(rest)
    match = _SYMBOL.match(rest)
    if plain is None and match is None:
        return None
    pointer = addresses[0] if columns.has_sp else None
    symbol = match["symbol"] if match else plain.group(0).strip() if plain else ""
    module = match["module"].removeprefix("<Unloaded_").rstrip(">") if match else ""
    return Shown(pointer, addresses[-1], symbol, module, is_inline, argument)


def _behind_arguments(rest: str) -> str:
    """The call site: behind the last colon of its own, or behind three or four words."""
    if rest.startswith(":"):
        return rest[1:].partition(" : ")[2].strip() or rest[1:].strip()
    match = re.match(rf"(?:{_ADDRESS}\s+){{3,4}}", rest, re.I)
    return rest[match.end() :] if match else rest


class Stacks:
    """Collects the frames of one session."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self._crash = ""  #: the name of the stack of the crash
        self.in_bugcheck = ""  #: the first frame of KeBugCheck in it
        self.code: int | None = None  #: the bugcheck that was given to it
        self.is_cut = False  #: frames beyond the bound are left out
        self._columns: Columns | None = None
        self._name = ""
        self._count = self._frame = 0
        self._above: int | None = None

    def line(self, source: str, line: str, offset: int) -> bool:
        """True when the line is a part of a stack."""
        columns = heading(line)
        if columns is not None:
            self._columns, self._frame, self._above = columns, 0, None
            return True
        if self._columns is None:
            return False
        found = shown(line, self._columns)
        if found is None:
            self._columns = None
            return False
        if not self._frame:
            self._begin(self._columns)
        self._take(source, found, offset)
        return True

    def blank(self) -> None:
        """A blank line: it may stand below the heading, below a frame it ends the stack."""
        if self._frame:
            self._columns = None

    def end(self) -> None:
        """What follows is of another command."""
        self._columns = None

    def _begin(self, columns: Columns) -> None:
        self._count += 1
        self._name = f"stack {self._count} of the log"
        if columns.is_analysis:
            self._crash = self._name

    def _take(self, source: str, found: Shown, offset: int) -> None:
        at, self._above = self._above, found.return_address or self._above
        number, self._frame = self._frame, self._frame + 1
        if found.symbol.lower().startswith("nt!kebugcheck") and self._crash in ("", self._name):
            self._crash = self._name
            self.in_bugcheck = self.in_bugcheck or found.symbol
            if found.argument in bugchecks.NAMES:
                self.code = self.code or found.argument
        if len(self.frames) >= MOST_FRAMES:
            self.is_cut = True
            return
        not_shown = Absent("not-recorded", "the debugger's list of frames does not show it")
        inlined = Absent("not-applicable", "an inlined function")
        back: Address = found.return_address
        if back is None:
            back = inlined if found.is_inline else not_shown
        self.frames.append(
            Frame(
                stack_of=self._name,
                processor=None,
                frame=number,
                instruction_pointer=not_shown if at is None else at,
                return_address=back,
                stack_pointer=not_shown if found.stack_pointer is None else found.stack_pointer,
                symbol=found.symbol,
                module=found.module or not_shown,
                how="shown by the debugger",
                origin=Origin(source, "stack in the log", "certain", offset),
            )
        )

    def all_frames(self, is_crash: bool) -> list[Frame]:
        """All frames; those of !analyze, else of the first stack in KeBugCheck, are the crash's."""
        return [
            frame._replace(stack_of=CRASH_STACK)
            if is_crash and frame.stack_of == self._crash else frame
            for frame in self.frames
        ]  # fmt: skip
