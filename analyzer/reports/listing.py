"""One table as text, CSV or JSON (``dumpstart show``), and what the sources are (``info``).

Invariant: CSV and JSON hold every column and row; text leaves out what no row has. On a
terminal too narrow for it, text names columns with one value once and folds each row. A cell of a
CSV never starts like a spreadsheet formula and never holds a control character.
"""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from ..batches import Column, batches, json_texts, reasons_of, text_reason, written
from ..errors import UsageError
from ..formatting import LIMIT, WIDTH, cell, clean, wrapped
from ..records import Records
from ..tables import ORIGIN_COLUMNS, REASONS_COLUMN, SCHEMA, json_rows, parsed_time
from ..tables import Column as NameAndKind

if TYPE_CHECKING:
    from argparse import Namespace

    from ..records.collection import Rows

JsonRow = dict[str, Any]  #: as json_rows gives it
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

_FORMULA = ("=", "+", "-", "@")  # what a spreadsheet would calculate
_HEAD = 1000  # rows that decide which columns are shown, and their widths
_CELL = 120  # characters of a value in a line


def screen() -> int:
    """The columns of the terminal."""
    return max(40, shutil.get_terminal_size().columns)


def table(name: str, records: Records, format: str, width: int | None = None) -> Iterator[str]:
    """The rows of one table in pieces; text keeps to a width if there is one."""
    rows = records[name]
    if format == "text":
        return _text(name, json_rows(name, rows), width)
    return {"csv": _csv, "json": _json, "jsonl": _jsonl}[format](name, rows)


def sources(records: Records, format: str) -> Iterator[str]:
    """What each input is, and what it can and cannot tell."""
    if format == "json":
        yield from table("sources", records, "json")
        return
    for row in json_rows("sources", records["sources"]):
        yield clean(row["path"]) + "\n"
        kind = " ".join(filter(None, (row["kind"], row["subtype"])))
        kind = kind or row["absent"].get("kind", "-")
        size = None if row["size_bytes"] is None else f"{row['size_bytes']:,} bytes"
        pairs = [("kind", kind), ("architecture", row["architecture"]), ("size", size)]
        pairs += [("can tell", row["can_tell"]), ("cannot tell", row["cannot_tell"])]
        for name, value in pairs:
            if value is None:
                continue
            for part in str(value).split("; ") if "tell" in name else [value]:
                lines = wrapped(clean(part), " " * 17, f"  {name:<13}  ")
                yield "\n".join(lines) + "\n"
                name = ""


def _json(name: str, rows: Rows) -> Iterator[str]:
    yield "["
    between = "\n"
    for row in json_texts(name, rows):
        yield between + row
        between = ",\n"
    yield "\n]\n"


def _jsonl(name: str, rows: Rows) -> Iterator[str]:
    for row in json_texts(name, rows):
        yield row + "\n"


def _csv(name: str, rows: Rows) -> Iterator[str]:
    yield ",".join([*(c.name for c in SCHEMA[name]), REASONS_COLUMN]) + "\n"
    for cells in batches(name, rows):
        shown = [
            written(kind, column, "", _csv_texts, _csv_other)
            for (_, kind), column in zip(SCHEMA[name], cells)
        ]
        reasons = reasons_of(name, cells, text_reason, "; ")
        shown.append(written("Text", Column(reasons), "", _csv_texts, _csv_other))
        lines = map(",".join, zip(*shown))
        yield "\n".join(lines) + "\n"


def _csv_other(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, dict)):
        return _csv_texts([json.dumps(value)])[0]
    return value if isinstance(value, str) else repr(value)


def _csv_texts(texts: list[str]) -> list[str]:
    # The module csv goes through a text letter by letter, which takes most of the time; of most
    # columns a look at all texts together says that nothing is to be done.
    whole = "".join(texts)
    if not whole.isprintable():  # control characters never are, and looking for them takes longer
        texts = [text if text.isprintable() else _CONTROL.sub(_escaped, text) for text in texts]
    texts = ["'" + text if text.startswith(_FORMULA) else text for text in texts]
    if '"' in whole:
        texts = [text.replace('"', '""') for text in texts]
    elif "," not in whole:
        return texts
    return [f'"{text}"' if "," in text or '"' in text else text for text in texts]


def _escaped(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape").decode("ascii")


def _text(name: str, rows: Iterable[JsonRow], width: int | None) -> Iterator[str]:
    """Columns side by side; a single row is shown upright with the reasons of its gaps."""
    rows = iter(rows)
    head = list(islice(rows, _HEAD))
    if not head:
        yield f"The table {name} has no rows.\n"
        return
    if len(head) == 1:
        yield from _upright(name, head[0])
        return
    places = set(ORIGIN_COLUMNS.values())
    if name == "crashes":  # its rows say which source is of which crash, and how sure that is
        places -= {"source", "confidence"}
    columns = [c for c in SCHEMA[name] if any(row[c.name] is not None for row in head)]
    columns = [c for c in columns if c.name not in places] or columns
    sizes, limit = _sizes(columns, head, _CELL), _CELL
    same = ""
    lines = [range(len(columns))]
    if width is not None and sum(sizes) + 2 * len(sizes) - 2 > width:
        limit = LIMIT  # folded, there is room
        if len(head) < _HEAD:  # these are all rows
            first = head[0]
            one = [c.name for c in columns if all(row[c.name] == first[c.name] for row in head)]
            columns = [c for c in columns if c.name not in one] or columns[:1]
            one = [name for name in one if name != columns[0].name]
            same = ", ".join(f"{name} {_shown(first[name], limit)}" for name in one)
        sizes = _sizes(columns, head, limit)
        lines = list(_folded(sizes, width))
    numeric = [c.kind in ("Number", "Duration", "Real") for c in columns]
    count = -1
    titles = {c.name: c.name for c in columns}
    for row in chain([titles], head, rows):
        for line in lines:
            cells = [_shown(row[columns[place].name], limit) for place in line]
            parts = (
                text.rjust(sizes[place]) if numeric[place] else text.ljust(sizes[place])
                for place, text in zip(line, cells)
            )
            indent = "  " if line[0] else ""
            text = indent + "  ".join(parts).rstrip()
            if width is not None and len(text) > width and len(line) == 1:
                text = textwrap.fill(
                    cells[0], width, initial_indent=indent, subsequent_indent=indent + "  "
                )
            yield text + "\n"
        count += 1
    if same:
        same = f"In all rows: {same}."
        yield textwrap.fill(same, width or WIDTH, break_long_words=False) + "\n"
    yield f"{count} rows; --format csv or json shows all columns and where each row comes from.\n"


def _sizes(columns: Sequence[NameAndKind], rows: Iterable[JsonRow], limit: int) -> list[int]:
    return [max(len(c.name), *(len(_shown(row[c.name], limit)) for row in rows)) for c in columns]


def _folded(sizes: Sequence[int], width: int) -> Iterator[range]:
    """The places of the columns of each line of a row; all lines but the first are indented."""
    start, used = 0, -2
    for place, size in enumerate(sizes):
        if used + 2 + size > width and place > start:
            yield range(start, place)
            start, used = place, 0
        used += 2 + size
    yield range(start, len(sizes))


def _upright(name: str, row: JsonRow) -> Iterator[str]:
    width = max(len(c.name) for c in SCHEMA[name])
    for column in SCHEMA[name]:
        value = row[column.name]
        reason = row["absent"].get(column.name)
        if value is None and reason is None:
            continue
        text = _shown(value, _CELL) if value is not None else f"not determined: {clean(reason)}"
        lines = wrapped(text, " " * (width + 2), f"{column.name:<{width}}  ")
        yield "\n".join(lines) + "\n"


def _shown(value: object, limit: int) -> str:
    """A JSON value as a cell of text."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return cell("Flag", value)
    return clean(f"{value:.6g}" if isinstance(value, float) else value, limit)


def wanted_events(arguments: Namespace) -> dict[str, Any]:
    """The conditions on events that were given."""
    wanted = {"provider": arguments.provider, "ids": arguments.id}
    for name in ("since", "until"):
        text = getattr(arguments, name)
        wanted[name] = None if text is None else parsed_time(text)
    wanted = {name: value for name, value in wanted.items() if value is not None}
    if wanted and arguments.table != "events":
        raise UsageError("--provider, --id, --from and --to are for the table events.")
    return wanted
