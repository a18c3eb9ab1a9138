"""Small inputs with all that is told of them: the files of tests/told, read and compared whole.

A file holds cases, one after the other: "##### NAME", the input, "=====", then one line a record.
What is no text stands in made_inputs.py under its name.
``python tests/told.py`` writes what is told anew; the difference is to be read line by line.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from made_inputs import MADE

from analyzer import sources
from analyzer.absence import Absent
from analyzer.errors import AnalyzerError
from analyzer.records import Evidence, Origin, Records

#: what is the same for every input of a kind
_SAME = {"Source": ("cannot_tell", "architecture"), "Event": ("channel", "processor"),
         "Stage": ("time",)}  # fmt: skip
FOLDER = Path(__file__).resolve().parent / "told"


class Told(NamedTuple):
    """One case."""

    name: str  #: of the input's file
    text: str
    lines: list[str]


def cases(path: Path) -> Iterator[Told]:
    """The cases of a file."""
    for part in path.read_text(encoding="utf-8").split("##### ")[1:]:
        head, _, expected = part.partition("=====\n")
        name, _, text = head.partition("\n")
        yield Told(name, text, expected.splitlines())


def told_of(name: str, text: str, folder: Path) -> list[str]:
    """All that is told of an input that lies in this folder under this name."""
    path = folder / name
    path.write_bytes(MADE[name]() if name in MADE else text.encode())
    try:
        records = sources.collect(str(path))
    except AnalyzerError as error:
        return [f"refused: {error}".replace(str(folder), ".")]
    return [line.replace(str(folder), ".") for line in lines_of(records)]


def lines_of(records: Records) -> list[str]:
    """Every record, anomaly and clue as a line; what is None is left out."""
    rows = [row for table in records.tables.values() for row in table]
    return [_line(row) for row in [*rows, *records.anomalies, *records.clues]]


def _line(record: Any) -> str:
    kind = type(record).__name__
    cells, why = [], dict[str, list[str]]()
    for name, value in zip(record._fields, record):
        if isinstance(value, Absent):
            if name not in _SAME.get(kind, ()):
                why.setdefault(_shown(value), []).append(name)
        elif value not in (None, (), {}, "") and name != "cannot_tell":
            cells.append(f"{name}={_shown(value)}")
    cells += [f"{_names(names)}={reason}" for reason, names in why.items()]
    return f"{kind} " + " | ".join(cells)


def _names(names: list[str]) -> str:
    return " ".join(names) if len(names) < 6 else f"{names[0]} to {names[-1]}, {len(names)} fields"


def _shown(value: Any) -> str:
    if isinstance(value, Absent):
        return f"?{value.reason}: {value.detail}"
    if isinstance(value, Origin):
        place = "" if value.file_offset is None else f" +{value.file_offset}"
        place += "" if value.address is None else f" @{value.address:#x}"
        return f"{value.confidence}, {value.how}{place}"
    if isinstance(value, tuple) and value and isinstance(value[0], Evidence):
        return "; ".join(
            " ".join(_shown(part) for part in one if part is not None and part != "")
            for one in value
        )
    return repr(value) if isinstance(value, (str, bytes)) else str(value)


def main() -> int:
    """Writes what is told of each input into its file."""
    for path in sorted(FOLDER.glob("*.txt")):
        out = []
        for case in cases(path):
            with tempfile.TemporaryDirectory() as folder:
                lines = told_of(case.name, case.text, Path(folder))
            out.append(f"##### {case.name}\n{case.text}=====\n" + "".join(f"{x}\n" for x in lines))
        path.write_text("".join(out), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
