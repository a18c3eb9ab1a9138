"""``dumpstart capture`` in this process, for engines that a test puts into it.

The command itself runs them in a process of their own; ``test_live_process.py`` tests that.
"""

from __future__ import annotations

from typing import Callable

from analyzer import arguments, cli
from analyzer.live import commands
from analyzer.live.run import Run, open_session
from analyzer.live.session import Session


def capture_here(
    *argv: str, say: Callable[[str], None] = print, session: Session | None = None
) -> Run:
    """Runs a capture with these arguments of the command; ``session`` in place of an engine's."""
    parser = arguments.build(cli._RUNS, print)
    given = parser.parse_args(["capture", *argv])
    run = Run(commands.options_of(given), say)
    run.work(session or open_session(run.options, lambda: None))
    return run
