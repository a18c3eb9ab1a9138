"""The command ``dryrun``: its options, and what they ask for.

Invariant: defining the options imports nothing of the emulator. Standard library only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .ask import Ask, Limits, Progress, require

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["ask", "options", "require"]

NAMES = ("Dump_Start", "Dump_Write", "Dump_Read", "Dump_Finish", "Dump_Unload")


def options(parser: ArgumentParser) -> None:
    """Options of ``dumpstart dryrun`` besides paths and output."""
    parser.epilog = (
        "Runs the code of the filters in the emulator Unicorn (extra 'dryrun'; GPLv2), in a "
        "process of its own, on a copy of the memory."
    )
    parser.add_argument(
        "--filter", metavar="NAME", action="append", default=[], dest="filters",
        help="only this filter; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--callback", choices=NAMES, action="append", default=[], dest="callbacks",
        help="only this callback; may be repeated",
    )  # fmt: skip
    least = Limits()
    parser.add_argument(
        "--instructions", metavar="N", type=int, default=least.instructions,
        help=f"most instructions of a call (default: {least.instructions})",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", metavar="S", type=float, default=least.seconds,
        help=f"most time for a call (default: {least.seconds:g})",
    )  # fmt: skip


def ask(arguments: Namespace, progress: Progress | None = None) -> Ask:
    """What the options ask for; UsageError where the emulator is not installed."""
    require()
    limits = Limits(max(1, arguments.instructions), min(max(0.1, arguments.seconds), 3600.0))
    return Ask(True, tuple(arguments.filters), tuple(arguments.callbacks), limits, progress)
