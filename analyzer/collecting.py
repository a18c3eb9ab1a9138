"""What a user takes along: a script for the machine that crashed, and Python for a table.

Invariant: the script only reads and copies; it changes no setting of the machine. It needs nothing
but cmd.exe, and every command in it is of Windows 7 and later.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

#: dumps above this are left where they are; their name and size stand in the list of files
MOST_MB = 4096


def options(parser: ArgumentParser) -> None:
    """The options of ``dumpstart collect``."""
    parser.add_argument("-o", "--output", metavar="FILE", default="-", help="default: stdout")


def script() -> str:
    """The script for the machine that crashed (no Python is needed there)."""
    import pkgutil

    data = pkgutil.get_data(__package__, "collect.cmd")
    assert data is not None  # the file is part of the package
    text = data.decode().replace("\r\n", "\n")
    return text.replace("@MOST@", str(MOST_MB))


def python_of(arguments: Namespace) -> str:
    """The Python that gives the table that ``dumpstart show`` would."""
    paths = ", ".join(map(repr, arguments.paths))
    options = "".join(
        f", {name}={list(values)!r}"
        for name in ("manifests", "tmf", "mapping", "baseline", "images", "symbols")
        for values in [getattr(arguments, name, ())]
        if values
    )
    lines = ["import analyzer", "", f"case = analyzer.open({paths}{options})"]
    lines.append(f"table = case.{arguments.table}")
    wanted = [
        (arguments.provider, "table = table[table.provider == {!r}]"),
        (arguments.id, "table = table[table.event_id.isin({!r})]"),
        (arguments.since, "table = table[table.time >= {!r}]"),
        (arguments.until, "table = table[table.time <= {!r}]"),
    ]
    lines += [text.format(value) for value, text in wanted if value is not None]
    return "\n".join([*lines, "print(table)"]) + "\n"
