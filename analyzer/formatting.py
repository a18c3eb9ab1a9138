"""Values and hostile strings as plain words for a reader.

Invariant: what leaves here is printable ASCII without control characters, so a name from a dump
can neither move the cursor nor fake a line.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from functools import lru_cache

from .absence import Absent, is_absent
from .files import called
from .names import units
from .records import Machine, OfFilter, Record, Text
from .tables import FIELD_KINDS, checked, iso_time, plain

WIDTH = 80
#: longest text shown in one piece
LIMIT = 400
_CELL = 72  # in a table
#: between a number and its unit, and between "2 h" and "5 min"
_UNIT = re.compile(r"(?<=\d) (?=(?:[num]?s|min|h|bytes|[kMGTPE]B|%)(?:\W|$))|(?<=\d h) (?=\d+ min)")
_GLUE = "\xa0"  # never in a text that was cleaned
_NOT_PLAIN = re.compile(r"[^ -~]")


def clean(text: object, limit: int = LIMIT) -> str:
    """The text with control and non-ASCII characters shown escaped, and not too long."""
    text = str(text)
    short = text if len(text) <= limit else text[: limit - 3] + "..."
    return _NOT_PLAIN.sub(lambda m: m.group().encode("unicode_escape").decode("ascii"), short)


def cell(kind: str, value: object, missing: str = "-") -> str:
    """A value of a column kind as text."""
    shown = plain(kind, checked(kind, value))
    if shown is None:
        return missing
    if isinstance(shown, bool):
        return "yes" if shown else "no"
    return f"{shown:.6g}" if isinstance(shown, float) else clean(shown)


def field(record: Record, name: str, missing: str = "-") -> str:
    """One field of a record as text."""
    return cell(FIELD_KINDS[type(record)][name], getattr(record, name), missing)


def owner(record: OfFilter) -> tuple[str, str]:
    """Filter and stack ("" where it is not known), which join it with its extension and calls."""
    return _owner(record.filter, record.stack)


@lru_cache(maxsize=1024)
def _owner(name: Text, stack: Text) -> tuple[str, str]:
    """Kept, because millions of calls have the same few."""
    return cell("Text", name, "filter not determined"), cell("Text", stack, "")


def fields(record: Record, *names: str) -> str:
    """The present ones of some fields, a space between them; a name that is the number goes."""
    shown = {n: field(record, n) for n in names if not is_absent(getattr(record, n))}
    return " ".join(
        text
        for n, text in shown.items()
        if not (n.endswith("_name") and text == shown.get(n[: -len("_name")]))
    )


def code(record: Record, name: str) -> str | None:
    """A code with the name beside it, "STATUS_SUCCESS (0x00000000)"; None when absent."""
    if is_absent(getattr(record, name)):
        return None
    title = field(record, f"{name}_name", "")
    return f"{title} ({field(record, name)})" if title else field(record, name)


def build(machine: Machine) -> str:
    """The Windows build, with its revision where that is known: "26100.4946"."""
    told = [field(machine, "build")]
    if not is_absent(machine.revision):
        told.append(field(machine, "revision"))
    return ".".join(told)


duration = units.duration


def ticks(ns: float | Absent | None) -> str:
    """A duration between two times of a clock that moves in steps: 0 is less than one step."""
    return "less than one clock tick" if ns == 0 and not is_absent(ns) else duration(ns)


def span(low: float | Absent | None, high: float | Absent | None) -> str:
    """Two durations as one: "24 to 36 us", "900 us to 3.1 ms"; one of them when they look alike."""
    first, last = duration(low), duration(high)
    if first == last:
        return last
    least, _, unit = first.partition(" ")
    return f"{least} to {last}" if last.endswith(f" {unit}") else f"{first} to {last}"


def size(number: int) -> str:
    """A number of bytes with a decimal unit that fits: "500.1 GB"."""
    return units.scaled(number, ("bytes", "kB", "MB", "GB", "TB", "PB", "EB"))


def listed(names: Iterable[str], word: str = "and") -> str:
    """Names as "a", "a and b", "a, b and c"."""
    names = list(names)
    return ", ".join(names[:-1]) + f" {word} {names[-1]}" if len(names) > 1 else "".join(names)


def some(names: Sequence[str], most: int = 3) -> str:
    """The first ones of many names: "a, b, c and 9 more"."""
    left = len(names) - most
    return listed([*names[:most], f"{left:,} more"] if left > 0 else names)


def reasons(given: Iterable[Absent]) -> str:
    """Why several things are not determined, and at the end what would tell."""
    given = list(given)
    why = dict.fromkeys(clean(reason._replace(would_tell="")) for reason in given)
    would = dict.fromkeys(clean(reason.would_tell) for reason in given if reason.would_tell)
    return ", ".join(why) + (f"; {listed(would, 'or')} would tell" if would else "")


def counted(number: int, noun: str) -> str:
    """A number and its noun: "1 filter", "17,078 events"."""
    return f"{number} {noun}" if number == 1 else f"{number:,} {noun}s"


def wrapped(text: str, indent: str = "", first: str | None = None) -> list[str]:
    """Lines of at most 80 columns; longer words stay whole, as do a number and its unit."""
    lines = textwrap.wrap(
        _UNIT.sub(_GLUE, text),
        WIDTH,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_GLUE, " ") for line in lines]


def aligned(rows: Iterable[Sequence[str]], indent: str = "  ") -> list[str]:
    """Rows of cells in columns, two spaces between them; one long name must not widen them all."""
    cut = [[c if len(c) <= _CELL else c[: _CELL - 3] + "..." for c in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cut)]
    return [(indent + "  ".join(c.ljust(w) for c, w in zip(row, widths))).rstrip() for row in cut]


def file_names(sources: Iterable[Text]) -> dict[str, str]:
    """Each source's short name, which tells apart those whose paths end alike."""
    return {s: clean(called(s), 60) for s in sources if isinstance(s, str)}


def capital(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def moment(ns: int) -> str:
    """A time to the second, as a sentence has it: "2024-03-05 14:07:09 UTC"."""
    return iso_time(ns)[:19].replace("T", " ") + " UTC"


def instant(ns: int) -> str:
    """A time as exact as it is known: "2024-03-05 14:07:09.123 UTC"."""
    whole, _, part = iso_time(ns).rstrip("Z").partition(".")
    part = part.rstrip("0")
    return whole.replace("T", " ") + (f".{part}" if part else "") + " UTC"


def sentence(text: object, limit: int = LIMIT) -> str:
    """The first sentence of a text, with its full stop."""
    whole = clean(text, 4000)
    ends = (match.start() for match in re.finditer(r"(?<=[.!?])\s+(?=[A-Z0-9'\"])", whole))
    # what is quoted in brackets may be of several sentences
    first = next((whole[:at] for at in ends if whole.count("(", 0, at) == whole.count(")", 0, at)),
                 whole)  # fmt: skip
    first = first if len(first) <= limit else first[: limit - 3] + "..."
    return first if first.endswith((".", "!", "?")) else first + "."
