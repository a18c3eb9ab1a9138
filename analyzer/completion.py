"""Scripts that complete commands, options and names in a shell, made by shtab from the parser.

Invariant: what is completed is what the parser knows; nothing of this is loaded by another command.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from . import extras
from .errors import UsageError

SHELLS = ("bash", "zsh", "fish", "powershell", "tcsh")
_FILES, _FOLDERS = ("PATH", "FILE", "CSV", "OUT"), ("DIR",)  # by how an argument is called


def options(parser: argparse.ArgumentParser) -> None:
    """The options of ``dumpstart completion``."""
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))
    parser.add_argument("-o", "--output", metavar="FILE", default="-", help="default: stdout")


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script for a shell; ``parser`` has all commands, whose options are added here.

    UsageError where shtab is not installed.
    """
    try:
        import shtab
    except ImportError:
        raise UsageError(
            f"completion needs a library that is not installed: {extras.install('completion')}"
        ) from None
    for one in _commands(parser):
        one.fill()
        for action in one._actions:
            if action.metavar in (*_FILES, *_FOLDERS):
                kind = shtab.FILE if action.metavar in _FILES else shtab.DIRECTORY
                action.complete = kind
            action.choices = _names(action) or action.choices
    return str(shtab.complete(parser, shell)) + "\n"


def _commands(parser: argparse.ArgumentParser) -> Iterable[Any]:
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return list(commands.choices.values())


def _names(action: argparse.Action) -> list[str]:
    """What can stand for an argument whose names the parser leaves to the command."""
    if action.dest == "table":
        from .records import TABLES

        return list(TABLES)
    if action.dest == "rule":
        from .checks import RULES

        return sorted(RULES)
    return []
