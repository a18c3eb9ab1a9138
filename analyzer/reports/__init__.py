"""The formats of a report: name -> the module here that writes it.

Invariant: a writer takes :class:`~analyzer.records.Records` (with their findings) and yields pieces
of text; it reads no file and decides nothing about the facts. Modules are imported when asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from ..errors import UsageError
from ..records import Records

#: format -> module with ``write(records, **options) -> Iterator[str]``
FORMATS: dict[str, str] = {
    "text": "text",
    "json": "data",
    "html": "html",
    "markdown": "markdown",
    "junit": "junit",
    "perfetto": "perfetto",
}

#: what the end of a file's name says of its format
SUFFIXES = {
    ".html": "html", ".htm": "html", ".json": "json", ".md": "markdown", ".xml": "junit",
    ".txt": "text", ".csv": "csv", ".jsonl": "jsonl", ".parquet": "parquet", ".ipynb": "ipynb",
}  # fmt: skip


def write(records: Records, format: str = "text", **options: object) -> Iterator[str]:
    """The report in pieces; ``options``: ``colour`` for text, ``fail_on`` for junit."""
    if format not in FORMATS:
        known = ", ".join(FORMATS)
        raise UsageError(f"there is no report format '{format}'; the formats are {known}")
    module = import_module(f"{__name__}.{FORMATS[format]}")
    pieces: Iterator[str] = module.write(records, **options)
    return pieces
